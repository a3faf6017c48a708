"""The rules between one segment's `.log` and its indexes (Kafka's file format, 2.2)."""

from array import array
from bisect import bisect_left, bisect_right

from . import FormatError, codecs, indexes
from .batch import parse_header, record_timestamp, records_of


class SegmentFacts:
    """What the scan of a `.log` leaves for the checks of its indexes."""

    def __init__(self, base, log):
        self.base, self.log = base, log
        self.positions, self.lasts, self.max_timestamps = array("q"), array("q"), array("q")
        self.first_header = None
        self.abort_markers = {}  # offset -> producer id
        self.expected_aborts = []  # the .txnindex rows that the markers must have left

    def add(self, position, header):
        if self.first_header is None:
            self.first_header = header
        self.positions.append(position)
        self.lasts.append(min(header.last_offset, 2**63 - 1))  # a damaged header may say more
        self.max_timestamps.append(header.max_timestamp)

    def batch_at(self, position):
        """The number of the batch that starts at `position`, or None."""
        number = bisect_left(self.positions, position)
        return number if number < len(self.positions) and self.positions[number] == position else None

    def size_of(self, number):
        end = self.positions[number + 1] if number + 1 < len(self.positions) else self.log.end
        return end - self.positions[number]


def check_tail(index, path, sealed, clean, report):
    """Only an index that was being written may have its preallocated tail of zeros."""
    if index.tail_is_dirty:
        report.problem("index.dirty-tail", path, "bytes that are not zero behind the first zero entry")
    elif index.zero_tail and (sealed or clean):
        report.problem("index.not-trimmed", path, f"{index.zero_tail} zero bytes, though it was closed")


def check_offset_index(facts, index, path, options, report):
    """Both fields rise; each entry is the last offset of the batch that starts at its position."""
    previous = indexes.OffsetEntry(-1, 0)
    for number, entry in enumerate(index.entries):
        where = f"entry {number} (offset {facts.base + entry.relative_offset}, position {entry.position})"
        if entry.relative_offset <= previous.relative_offset or entry.position <= previous.position:
            report.problem("index.order", path, f"{where} does not rise")
        batch = facts.batch_at(entry.position)
        if batch is None:
            report.problem("index.position", path, f"{where}: no batch starts there")
        elif facts.lasts[batch] != facts.base + entry.relative_offset:
            report.problem("index.offset", path, f"{where}: that batch's last offset is {facts.lasts[batch]}")
        if options.index_interval is not None and entry.position - previous.position <= options.index_interval:
            report.problem("index.sparse", path, f"{where}: {entry.position - previous.position} bytes since the last")
        previous = entry


def check_time_index(facts, index, path, closed, report):
    """Both fields rise; each entry is the largest timestamp so far and the batch that first had it; the last is the
    segment's largest once the segment is closed."""
    running, largest = array("q"), -1
    for timestamp in facts.max_timestamps:
        largest = max(largest, timestamp)
        running.append(largest)
    previous = indexes.TimeEntry(-1, -1)
    for number, entry in enumerate(index.entries):
        offset = facts.base + entry.relative_offset
        where = f"entry {number} (timestamp {entry.timestamp}, offset {offset})"
        if entry.timestamp <= previous.timestamp or entry.relative_offset <= previous.relative_offset:
            report.problem("timeindex.order", path, f"{where} does not rise")
        batch = bisect_left(facts.lasts, offset)
        if batch == len(facts.lasts) or facts.lasts[batch] != offset:
            report.problem("timeindex.offset", path, f"{where}: no batch ends there")
        elif facts.max_timestamps[batch] != entry.timestamp:
            report.problem("timeindex.timestamp", path, f"{where}: its batch has {facts.max_timestamps[batch]}")
        elif running[batch] != entry.timestamp or (batch and running[batch - 1] >= entry.timestamp):
            earlier = running[batch - 1] if batch else -1
            report.problem("timeindex.maximum", path, f"{where}: {earlier} was reached before")
        previous = entry
    if closed and largest != previous.timestamp:
        report.problem("timeindex.last", path, f"ends with {previous.timestamp}, the segment's largest is {largest}")


def check_exact(facts, offsets, times, path, options, sealed, report):
    """The entries that appending, or rebuilding, in one go writes; a restart in between allows fewer."""
    batches = (
        (position, facts.size_of(number), facts.lasts[number] - facts.base, facts.max_timestamps[number])
        for number, position in enumerate(facts.positions)
    )
    for name, want, have in zip(("index", "timeindex"), indexes.rebuild(batches, options.index_interval, sealed),
                                (offsets.entries, times.entries)):
        if want != have:
            at = next((n for n, (a, b) in enumerate(zip(want, have)) if a != b), min(len(want), len(have)))
            report.problem(f"{name}.exact", path, f"{len(have)} entries, not {len(want)}; they part at entry {at}")


def _sample(values, limit):
    values = sorted(set(values))
    return values if len(values) <= limit else [values[i * len(values) // limit] for i in range(limit)]


def _first_at_or_after(facts, batch, timestamp):
    """(offset, timestamp) of the first record with that time, from that batch on. None if there is none."""
    while batch < len(facts.positions):
        if facts.max_timestamps[batch] >= timestamp:
            position = facts.positions[batch]
            header = parse_header(facts.log.data, position)
            for record in records_of(facts.log.data, position, header):
                if record_timestamp(header, record) >= timestamp:
                    return header.base_offset + record.offset_delta, record_timestamp(header, record)
        batch += 1
    return None


def check_lookups(facts, offsets, times, path, options, report):
    """Through the indexes one must find what reading everything finds, by offset and by timestamp."""
    if not facts.positions or not options.lookups:
        return
    lasts, maxima = facts.lasts, facts.max_timestamps
    index_offsets = [facts.base + entry.relative_offset for entry in offsets.entries]
    index_times = [entry.timestamp for entry in times.entries]

    def from_index(offset):
        """The number of the batch that the offset index says to begin with."""
        slot = bisect_right(index_offsets, offset) - 1
        return facts.batch_at(offsets.entries[slot].position) if slot >= 0 else 0

    near = [offset + step for offset in index_offsets for step in (-1, 0, 1)]
    spread = list(lasts) if len(lasts) <= options.lookups else lasts[:: len(lasts) // options.lookups]
    wanted = _sample([facts.base, *near, *(last + step for last in spread for step in (0, 1))], options.lookups)
    brute = 0
    for offset in wanted:
        while brute < len(lasts) and lasts[brute] < offset:
            brute += 1
        batch = from_index(offset)
        while batch is not None and batch < len(lasts) and lasts[batch] < offset:
            batch += 1
        if batch != brute:
            report.problem("lookup.offset", path, f"{offset}: batch {batch} by the index, {brute} by reading all")
    spread = list(maxima) if len(maxima) <= options.lookups else maxima[:: len(maxima) // options.lookups]
    near = [timestamp + step for timestamp in index_times for step in (-1, 0, 1)]
    wanted = _sample([*near, *(timestamp + step for timestamp in spread for step in (0, 1))], options.lookups)
    brute = 0
    for timestamp in wanted:
        while brute < len(maxima) and maxima[brute] < timestamp:
            brute += 1
        slot = bisect_right(index_times, timestamp) - 1
        batch = from_index(facts.base + times.entries[slot].relative_offset) if slot >= 0 else 0
        try:
            found = _first_at_or_after(facts, batch, timestamp) if batch is not None else "a bad position"
            expected = _first_at_or_after(facts, brute, timestamp)
        except (codecs.UnreadCodec, FormatError):
            continue  # that batch was reported when it was read
        if found != expected:
            report.problem("lookup.timestamp", path, f"{timestamp}: {found} by the index, {expected} by reading all")


def check_aborted_transactions(facts, rows, path, replay_is_whole, covered, report):
    """Each abort marker that ended a transaction has its row; each row has its marker.

    `covered(offset)`: whether some batch of the log has this offset (trimming and compaction take batches away).
    """
    expected = {row.last_offset: row for row in facts.expected_aborts}
    previous = -1
    for number, row in enumerate(rows):
        where = f"row {number} ({', '.join(f'{name} {value}' for name, value in row._asdict().items())})"
        if row.last_offset <= previous or not 0 <= row.first_offset <= row.last_offset or row.producer_id < 0:
            report.problem("txnindex.order", path, f"{where}: out of order")
        previous = row.last_offset
        marker, want = facts.abort_markers.get(row.last_offset), expected.pop(row.last_offset, None)
        if marker is None and covered(row.last_offset):
            report.problem("txnindex.marker", path, f"{where}: no abort marker there")
        elif marker not in (None, row.producer_id):
            report.problem("txnindex.marker", path, f"{where}: the marker there is of producer {marker}")
        elif want is not None and want != row:
            same = want._replace(last_stable_offset=row.last_stable_offset) == row
            if same and not replay_is_whole:
                report.note("txnindex.stable-offset", path, f"{where}: replay gives {want.last_stable_offset}")
            else:
                report.problem("txnindex.row", path, f"{where}: replay gives {tuple(want)}")
        elif want is None and (replay_is_whole or covered(row.first_offset)):
            report.problem("txnindex.row", path, f"{where}: no transaction was open")
    for row in expected.values():
        report.problem("txnindex.missing", path, f"no row for the abort marker at {row.last_offset}: {tuple(row)}")
