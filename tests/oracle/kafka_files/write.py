"""The other way round: bytes of Kafka's files from values, for the tests and for making fixtures."""

import base64
import os
import struct
import zlib

from . import batch, indexes, producers
from .crc32c import crc32c
from .varint import write_varint, write_varlong


def record(offset_delta, timestamp_delta, key, value, headers=(), attributes=0):
    """One record."""
    nullable = lambda data: write_varint(-1) if data is None else write_varint(len(data)) + data
    body = bytes([attributes]) + write_varlong(timestamp_delta) + write_varint(offset_delta) + nullable(key)
    body += nullable(value) + write_varint(len(headers))
    for header_key, header_value in headers:
        body += nullable(header_key.encode()) + nullable(header_value)
    return write_varint(len(body)) + body


def record_batch(base_offset, records, base_timestamp=0, *, epoch=0, attributes=0, producer=(-1, -1, -1),
                 last_offset_delta=None, max_timestamp=None, compress=None):
    """A batch. `records`: tuples for `record`; `compress` turns the block into what the codec in `attributes` makes."""
    block = b"".join(record(*each) for each in records)
    if last_offset_delta is None:
        last_offset_delta = records[-1][0]
    if max_timestamp is None:
        max_timestamp = max(base_timestamp + each[1] for each in records)
    block = compress(block) if compress else block
    body = batch.HEADER.pack(base_offset, batch.HEADER_SIZE + len(block) - batch.LOG_OVERHEAD, epoch, 2, 0, attributes,
                             last_offset_delta, base_timestamp, max_timestamp, *producer, len(records)) + block
    return reseal(body)


def reseal(data):
    """The batch with the CRC it should have."""
    data = bytes(data)
    return data[:17] + struct.pack(">I", crc32c(data[batch.CRC_START :])) + data[batch.CRC_START :]


def marker(offset, kind, timestamp, producer_id, producer_epoch, coordinator_epoch, epoch=0):
    """A transaction's COMMIT or ABORT."""
    only = (0, 0, struct.pack(">hh", 0, kind), struct.pack(">hi", 0, coordinator_epoch))
    return record_batch(offset, [only], timestamp, epoch=epoch, attributes=batch.TRANSACTIONAL | batch.CONTROL,
                        producer=(producer_id, producer_epoch, -1))


def gzip(block):
    """A gzip stream."""
    stream = zlib.compressobj(wbits=31)
    return stream.compress(block) + stream.flush()


def offset_index(entries):
    return b"".join(indexes.OFFSET_ENTRY.pack(*entry) for entry in entries)


def time_index(entries):
    return b"".join(indexes.TIME_ENTRY.pack(*entry) for entry in entries)


def aborted_transactions(rows):
    return b"".join(indexes.ABORTED_TRANSACTION.pack(0, *row) for row in rows)


def snapshot(entries):
    tail = struct.pack(">i", len(entries)) + b"".join(producers.SNAPSHOT_ENTRY.pack(*entry) for entry in entries)
    return struct.pack(">hI", 1, crc32c(tail)) + tail


def checkpoint(rows):
    """Leader epochs, or topic, partition, offset."""
    return "".join(line + "\n" for line in ("0", str(len(rows)), *(" ".join(map(str, row)) for row in rows))).encode()


def partition_metadata(topic_id):
    return f"version: 0\ntopic_id: {base64.urlsafe_b64encode(topic_id).rstrip(b'=').decode()}\n".encode()


def partition(directory, segments, *, interval=4096, epochs=(), aborted=None, snapshots=None):
    """A partition's directory. `segments`: {base offset: [batch bytes]}; the last one is active."""
    os.makedirs(directory, exist_ok=True)

    def put(name, data):
        with open(os.path.join(directory, name), "wb") as file:
            file.write(data)

    for base, batches in segments.items():
        position, rows = 0, []
        for data in batches:
            header = batch.parse_header(data)
            rows.append((position, len(data), header.last_offset - base, header.max_timestamp))
            position += len(data)
        offsets, times = indexes.rebuild(rows, interval, sealed=base != max(segments))
        put(f"{base:020}.log", b"".join(batches))
        put(f"{base:020}.index", offset_index(offsets))
        put(f"{base:020}.timeindex", time_index(times))
    for base, rows in (aborted or {}).items():
        put(f"{base:020}.txnindex", aborted_transactions(rows))
    for offset, entries in (snapshots or {}).items():
        put(f"{offset:020}.snapshot", snapshot(entries))
    put("leader-epoch-checkpoint", checkpoint(epochs))
    put("partition.metadata", partition_metadata(bytes(range(16))))
