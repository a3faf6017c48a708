"""Prints what one file holds."""

import os

from . import batch, checkpoints, codecs, indexes, producers
from .check_partition import FILE_NAME
from .crc32c import crc32c
from .segment import LogFile, map_file


def _text(data):
    return None if data is None else data.decode(errors="backslashreplace")


def _log(data, base, options):
    log = LogFile(data)
    for position, h in log.batches():
        line = {
            "position": position, "size": h.size, "base_offset": h.base_offset, "last_offset": h.last_offset,
            "count": h.record_count, "base_sequence": h.base_sequence, "last_sequence": h.last_sequence,
            "producer_id": h.producer_id, "producer_epoch": h.producer_epoch,
            "partition_leader_epoch": h.partition_leader_epoch, "is_transactional": h.is_transactional,
            "is_control": h.is_control, "timestamp_type": "LogAppendTime" if h.log_append_time else "CreateTime",
            "delete_horizon": h.base_timestamp if h.has_delete_horizon else None, "base_timestamp": h.base_timestamp,
            "max_timestamp": h.max_timestamp, "codec": codecs.NAMES.get(h.codec, h.codec), "crc": f"{h.crc:08x}",
        }
        if options.crc:
            line["crc_is_valid"] = crc32c(data[position + batch.CRC_START : position + h.size]) == h.crc
        yield line
        if options.records or h.is_control:
            yield from _records(data, position, h)
    if log.tail != LogFile.CLEAN:
        yield {"position": log.end, "tail": log.tail, "bytes": log.size - log.end}


def _records(data, position, header):
    try:
        for record in batch.records_of(data, position, header):
            line = {"offset": header.base_offset + record.offset_delta,
                    "timestamp": batch.record_timestamp(header, record)}
            if header.is_control:
                control = batch.parse_control(record)
                kind = batch.CONTROL_TYPES[control.type]
                yield line | {"control": kind, "coordinator_epoch": control.coordinator_epoch}
            else:
                headers = [[key, _text(value)] for key, value in record.headers]
                yield line | {"key": _text(record.key), "value": _text(record.value), "headers": headers}
    except codecs.UnreadCodec as codec:
        yield {"position": position, "unread_codec": str(codec)}
    except ValueError as error:
        yield {"position": position, "error": str(error)}


def _index(read):
    def lines(data, base, options):
        index = read(data)
        for entry in index.entries:
            yield {"offset": base + entry.relative_offset, **entry._asdict()}
        if index.zero_tail:
            yield {"zero_tail": index.zero_tail}

    return lines


_BINARY = {
    "log": _log,
    "index": _index(indexes.read_offset_index),
    "timeindex": _index(indexes.read_time_index),
    "txnindex": lambda data, base, options: (row._asdict() for row in indexes.read_aborted_transactions(data)),
    "snapshot": lambda data, base, options: (entry._asdict() for entry in producers.read_snapshot(data)),
}


def _offsets(data):
    return [{"topic": t, "partition": p, "offset": o} for (t, p), o in checkpoints.read_offset_checkpoint(data).items()]


_TEXT = {
    "leader-epoch-checkpoint": lambda data: [
        {"epoch": epoch, "start_offset": start} for epoch, start in checkpoints.read_leader_epochs(data)
    ],
    "partition.metadata": lambda data: [{"topic_id": checkpoints.read_partition_metadata(data).hex()}],
    "meta.properties": lambda data: [checkpoints.read_meta_properties(data)],
    ".kafka_cleanshutdown": lambda data: [checkpoints.read_clean_shutdown(data)],
    "quorum-state": lambda data: [checkpoints.read_quorum_state(data)],
    **dict.fromkeys(checkpoints.OFFSET_CHECKPOINTS, _offsets),
}


def dump(path, options):
    """Yields a dict for each line. ValueError for a file of no known name."""
    name = os.path.basename(path)
    if match := FILE_NAME.fullmatch(name):
        return _BINARY[match[2]](map_file(path), int(match[1]), options)
    if name in _TEXT:
        return iter(_TEXT[name](map_file(path)))
    raise ValueError(f"{path}: no file of the format has this name")
