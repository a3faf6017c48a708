"""Record batch v2: header, records, control records (Kafka's file format, 2.1)."""

import struct
from typing import NamedTuple

from . import FormatError, codecs
from .varint import read_varint, read_varlong

# Kafka leaves a record's own attributes free; Tidegate keeps in two of them how a value was given.
ENCODING_BITS = 0b11
HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_SIZE = 61  # also the smallest batch
LOG_OVERHEAD = 12  # base offset and length: what `batch_length` does not count
CRC_START = 21  # the checksum covers bytes 21 to the end
LARGEST_SEQUENCE = 2**31 - 1

CODEC_MASK, LOG_APPEND_TIME, TRANSACTIONAL, CONTROL, DELETE_HORIZON = 0x07, 0x08, 0x10, 0x20, 0x40
ABORT, COMMIT = 0, 1
CONTROL_TYPES = {
    ABORT: "ABORT", COMMIT: "COMMIT", 2: "LEADER_CHANGE", 3: "SNAPSHOT_HEADER", 4: "SNAPSHOT_FOOTER",
    5: "KRAFT_VERSION", 6: "KRAFT_VOTERS",
}


class BatchHeader(NamedTuple):
    """The 61 bytes before the records."""

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self):
        return self.batch_length + LOG_OVERHEAD

    @property
    def last_offset(self):
        return self.base_offset + self.last_offset_delta

    @property
    def last_sequence(self):
        if self.base_sequence < 0:
            return -1
        return (self.base_sequence + self.last_offset_delta) & LARGEST_SEQUENCE  # 2**31 - 1 is followed by 0

    @property
    def codec(self):
        return self.attributes & CODEC_MASK

    @property
    def is_transactional(self):
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def is_control(self):
        return bool(self.attributes & CONTROL)

    @property
    def log_append_time(self):
        return bool(self.attributes & LOG_APPEND_TIME)

    @property
    def has_delete_horizon(self):
        return bool(self.attributes & DELETE_HORIZON)


class Record(NamedTuple):
    """One record; offset and timestamp are relative to the batch."""

    offset_delta: int
    timestamp_delta: int
    key: bytes | None
    value: bytes | None
    headers: tuple = ()
    attributes: int = 0


def parse_header(data, position=0):
    """The header at `position`."""
    if len(data) - position < HEADER_SIZE:
        raise FormatError("fewer bytes than a batch header")
    return BatchHeader._make(HEADER.unpack_from(data, position))


def _nullable_bytes(block, position, what):
    length, position = read_varint(block, position)
    if length == -1:
        return None, position
    end = position + length
    if length < 0 or end > len(block):
        raise FormatError(f"a {what} of {length} bytes")
    return block[position:end], end


def parse_records(block, count):
    """Yields `count` records from the plain bytes after the header; not one byte may be left over."""
    position = 0
    try:
        for index in range(count):
            length, position = read_varint(block, position)
            end = position + length
            if length < 0 or end > len(block):
                raise FormatError(f"record {index} has length {length}")
            attributes = block[position]
            timestamp_delta, position = read_varlong(block, position + 1)
            offset_delta, position = read_varint(block, position)
            key, position = _nullable_bytes(block, position, "key")
            value, position = _nullable_bytes(block, position, "value")
            header_count, position = read_varint(block, position)
            if header_count < 0:
                raise FormatError(f"record {index} has {header_count} headers")
            headers = []
            for _ in range(header_count):
                header_key, position = _nullable_bytes(block, position, "header key")
                if header_key is None:
                    raise FormatError("a header key may not be null")
                header_value, position = _nullable_bytes(block, position, "header value")
                headers.append((header_key.decode(), header_value))
            if position != end:
                raise FormatError(f"record {index} says {length} bytes and has {length + position - end}")
            yield Record(offset_delta, timestamp_delta, key, value, tuple(headers), attributes)
    except IndexError:
        raise FormatError(f"the records end within record {index}") from None
    except UnicodeDecodeError:
        raise FormatError(f"a header key of record {index} is not UTF-8") from None
    if position != len(block):
        raise FormatError(f"{len(block) - position} bytes behind the last record")


def records_of(data, position, header):
    """The records of the batch at `position`. codecs.UnreadCodec if its codec cannot be read here."""
    block = bytes(data[position + HEADER_SIZE : position + header.size])
    return parse_records(codecs.decompress(header.codec, block), header.record_count)


class ControlRecord(NamedTuple):
    """What a control batch says. `coordinator_epoch` only for ABORT and COMMIT."""

    type: int
    coordinator_epoch: int | None


def parse_control(record):
    """The control record, from its key (version, type) and, for a transaction's end, its value (version, epoch)."""
    if record.key is None or len(record.key) != 4:
        raise FormatError("a control key is int16 version, int16 type")
    version, kind = struct.unpack(">hh", record.key)
    if version != 0 or kind not in CONTROL_TYPES:
        raise FormatError(f"control key version {version}, type {kind}")
    if kind not in (ABORT, COMMIT):
        return ControlRecord(kind, None)
    if record.value is None or len(record.value) != 6:
        raise FormatError("a transaction marker's value is int16 version, int32 coordinator epoch")
    version, coordinator_epoch = struct.unpack(">hi", record.value)
    if version != 0:
        raise FormatError(f"transaction marker version {version}")
    return ControlRecord(kind, coordinator_epoch)


def header_faults(header):
    """What is wrong with a header by itself: (code, words), without the checksum."""
    h = header
    if h.attributes & ~0x7F or h.codec > 4:
        yield "batch.attributes", f"attributes {h.attributes & 0xFFFF:#06x}"
    if h.base_offset < 0 or h.last_offset_delta < 0:
        yield "batch.offsets", f"base offset {h.base_offset}, last offset delta {h.last_offset_delta}"
    if not 0 <= h.record_count <= h.last_offset_delta + 1:
        yield "batch.record-count", f"{h.record_count} records, last offset delta {h.last_offset_delta}"
    if h.record_count == 0 and (h.size != HEADER_SIZE or h.base_timestamp != -1):
        yield "batch.empty", f"an empty batch of {h.size} bytes, base timestamp {h.base_timestamp}"
    if h.producer_id < 0:
        if (h.producer_id, h.producer_epoch, h.base_sequence) != (-1, -1, -1):
            yield "batch.producer", f"producer {h.producer_id}/{h.producer_epoch}, sequence {h.base_sequence}"
        if h.is_transactional:
            yield "batch.producer", "transactional, without a producer id"
    elif h.producer_epoch < 0 or (h.base_sequence != -1 if h.is_control else h.base_sequence < 0):
        yield "batch.producer", f"producer {h.producer_id}/{h.producer_epoch}, sequence {h.base_sequence}"
    if h.is_control and (h.codec or h.record_count > 1):
        yield "batch.control", f"a control batch with codec {h.codec} and {h.record_count} records"


def record_faults(header, records):
    """What is wrong with the records of a batch, given all of them: (code, words)."""
    h, complete = header, header.record_count == header.last_offset_delta + 1
    previous, largest = -1, None
    for record in records:
        if record.attributes & ~ENCODING_BITS:
            yield "record.attributes", f"record attributes {record.attributes}"
        if not previous < record.offset_delta <= h.last_offset_delta:
            yield "record.offset-delta", f"delta {record.offset_delta} after {previous}, last {h.last_offset_delta}"
        previous = record.offset_delta
        if largest is None or record.timestamp_delta > largest:
            largest = record.timestamp_delta
    if complete and records and not h.has_delete_horizon and records[0].timestamp_delta:
        yield "note:batch.base-timestamp", f"the first record's timestamp delta is {records[0].timestamp_delta}"
    if largest is not None and not h.log_append_time and h.base_timestamp + largest != h.max_timestamp:
        yield "batch.max-timestamp", f"max timestamp {h.max_timestamp}, the records' is {h.base_timestamp + largest}"


def record_timestamp(header, record):
    """A record's time: its own, or the batch's append time."""
    return header.max_timestamp if header.log_append_time else header.base_timestamp + record.timestamp_delta
