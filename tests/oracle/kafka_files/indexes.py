"""`.index`, `.timeindex` and `.txnindex` (Kafka's file format, 2.2)."""

import struct
from typing import NamedTuple

from . import FormatError
from .segment import all_zero

OFFSET_ENTRY = struct.Struct(">ii")
TIME_ENTRY = struct.Struct(">qi")
ABORTED_TRANSACTION = struct.Struct(">hqqqq")


class OffsetEntry(NamedTuple):
    """The last offset of a batch, less the segment's base, and where that batch starts."""

    relative_offset: int
    position: int


class TimeEntry(NamedTuple):
    """The largest timestamp so far, and the last offset, less the base, of the batch that holds it."""

    timestamp: int
    relative_offset: int


class AbortedTransaction(NamedTuple):
    """An aborted transaction; `last_offset` is its abort marker's."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class IndexFile(NamedTuple):
    """The entries before the zero tail, the tail's length in bytes, and whether anything else follows a zero entry."""

    entries: list
    zero_tail: int
    tail_is_dirty: bool


def _read(data, layout, entry, first_may_be_zero=False):
    if len(data) % layout.size:
        raise FormatError(f"{len(data)} bytes are no multiple of {layout.size}")
    entries = []
    for fields in layout.iter_unpack(data):
        if not any(fields) and (entries or not first_may_be_zero):
            start = len(entries) * layout.size
            return IndexFile(entries, len(data) - start, not all_zero(data, start))
        entries.append(entry._make(fields))
    return IndexFile(entries, 0, False)


def read_offset_index(data):
    """A segment's first batch has no entry, so an entry of zeros is always the start of the preallocated tail."""
    return _read(data, OFFSET_ENTRY, OffsetEntry)


def read_time_index(data, first_may_be_zero=False):
    """`first_may_be_zero`: the segment's first batch is one record of timestamp 0, whose entry is all zeros."""
    return _read(data, TIME_ENTRY, TimeEntry, first_may_be_zero)


def read_aborted_transactions(data):
    """Every row of a `.txnindex`."""
    if len(data) % ABORTED_TRANSACTION.size:
        raise FormatError(f"{len(data)} bytes are no multiple of {ABORTED_TRANSACTION.size}")
    rows = []
    for version, *fields in ABORTED_TRANSACTION.iter_unpack(data):
        if version != 0:
            raise FormatError(f"row {len(rows)} has version {version}")
        rows.append(AbortedTransaction._make(fields))
    return rows


def rebuild(batches, interval, sealed):
    """The offset and time entries that appending `batches` in one go leaves behind.

    `batches`: (position, size, last offset less the base, max timestamp). Before a batch is added, if more than
    `interval` bytes were added since the last entry, an offset entry for this batch and a time entry with the largest
    timestamp so far, this batch's included; on roll a last time entry.
    """
    offsets, times, since, largest, holder = [], [], 0, -1, 0

    def add_time():
        if largest > (times[-1].timestamp if times else -1):
            times.append(TimeEntry(largest, holder))

    for position, size, last, max_timestamp in batches:
        if max_timestamp > largest:
            largest, holder = max_timestamp, last
        if since > interval:
            offsets.append(OffsetEntry(last, position))
            add_time()
            since = 0
        since += size
    if sealed:
        add_time()
    return offsets, times
