"""The rules of one partition's directory (Kafka's file format, 2.1 to 2.9)."""

import os
import re
from bisect import bisect_right
from typing import NamedTuple

from . import FormatError, check_segment, checkpoints, codecs, indexes, producers
from .batch import CRC_START, header_faults, parse_control, record_faults, records_of
from .crc32c import crc32c
from .segment import LogFile, map_file

FILE_NAME = re.compile(r"(\d{20})\.(log|index|timeindex|txnindex|snapshot)(\.deleted|\.cleaned|\.swap)?")
DIRECTORY_NAME = re.compile(r"(?P<topic>.+)-(?P<partition>\d+)(\.[0-9a-f]{32}-(?P<state>delete|future|stray))?")
_LARGEST_RELATIVE_OFFSET = 2**31 - 1


class PartitionFacts(NamedTuple):
    """What the log directory's checkpoints are compared with."""

    first_base: int
    log_end: int


class EpochCache:
    """`leader-epoch-checkpoint` as a function of the offset."""

    def __init__(self, entries):
        self.entries, self._starts = entries, [start for _, start in entries]

    def fault(self, first, last, epoch):
        """Why a batch from `first` to `last` cannot be of `epoch`; None if it can."""
        slot = bisect_right(self._starts, first) - 1
        if slot < 0:
            return f"no epoch covers offset {first}"
        if self.entries[slot][0] != epoch:
            return f"offset {first} has epoch {epoch}, the checkpoint says {self.entries[slot][0]}"
        if slot + 1 < len(self._starts) and self._starts[slot + 1] <= last:
            return f"epoch {self.entries[slot + 1][0]} begins within the batch {first} to {last}"
        return None


class PartitionCheck:
    """Checks one directory. `log_start`: from the log directory's checkpoint; `clean`: it was shut down cleanly."""

    def __init__(self, directory, options, report, log_start=0, clean=False):
        self.directory, self.options, self.report = directory, options, report
        self.log_start, self.clean = log_start, clean
        self.files = {kind: {} for kind in ("log", "index", "timeindex", "txnindex", "snapshot")}
        self.replay = producers.ProducerReplay(options.producer_expiration_ms)
        self.replay_is_whole = True
        self.epochs = None
        self.gaps = []  # (first, last) offsets that no batch has
        self.next_offset = None
        self.last_epoch = -1

    def path(self, name):
        return os.path.join(self.directory, name)

    def read(self, name, reader, code, *arguments):
        """The file by `reader`; None, and a problem, if it is not what it should be."""
        try:
            return reader(map_file(self.path(name)), *arguments)
        except (FormatError, OSError) as error:
            self.report.problem(code, self.path(name), str(error))
            return None

    def run(self):
        self.list_files()
        bases = sorted(self.files["log"])
        if not bases:
            self.report.note("partition.empty", self.directory, "no segment")
            return None
        self.next_offset = bases[0]
        self.snapshots = {base: self.read(name, producers.read_snapshot, "snapshot.file")
                          for base, name in sorted(self.files["snapshot"].items())}
        self.begin_replay(bases)
        for number, base in enumerate(bases):
            if number and base < self.next_offset:
                self.report.problem("segment.overlap", self.path(self.files["log"][base]),
                                    f"begins at {base}, the one before ends at {self.next_offset - 1}")
            elif base > self.next_offset and number:
                self.gap(base, "segment.gap")
            self.next_offset = max(self.next_offset, base)
            self.check_segment(base, sealed=number + 1 < len(bases))
        self.check_snapshots_up_to(self.next_offset)
        for offset in self.pending:
            self.report.problem("snapshot.beyond", self.path(self.files["snapshot"][offset]),
                                f"the log ends at {self.next_offset}")
        if self.epochs and self.epochs.entries and self.epochs.entries[-1][1] > self.next_offset:
            self.report.problem("epochs.beyond", self.path("leader-epoch-checkpoint"),
                                f"epoch {self.epochs.entries[-1]} begins behind the log's end {self.next_offset}")
        self.report.counts["partitions"] += 1
        return PartitionFacts(bases[0], self.next_offset)

    def list_files(self):
        for name in sorted(os.listdir(self.directory)):
            match = FILE_NAME.fullmatch(name)
            if match and match[3]:
                self.report.note("file.leftover", self.path(name), f"a {match[3]} file, not checked")
            elif match:
                self.files[match[2]][int(match[1])] = name
            elif name == "leader-epoch-checkpoint":
                entries = self.read(name, checkpoints.read_leader_epochs, "epochs.file")
                self.epochs = None if entries is None else EpochCache(entries)
            elif name == "partition.metadata":
                self.read(name, checkpoints.read_partition_metadata, "metadata.file")
            elif name == "quorum-state":
                self.read(name, checkpoints.read_quorum_state, "quorum-state.file")
            else:
                self.report.note("file.unknown", self.path(name), "not a file of the format")
        for name in ("leader-epoch-checkpoint", "partition.metadata"):
            if not os.path.exists(self.path(name)):
                self.report.note("file.missing", self.path(name), "missing: what depends on it was not checked")
        for kind in ("index", "timeindex", "txnindex"):
            for base in self.files[kind].keys() - self.files["log"].keys():
                self.report.note("file.orphan", self.path(self.files[kind][base]), "no .log beside it")

    def begin_replay(self, bases):
        """Replay begins at the first segment, from its snapshot if what came before is gone."""
        self.pending = []
        for offset in sorted(self.snapshots):
            name = self.path(self.files["snapshot"][offset])
            if offset == bases[0] and self.snapshots[offset] is not None:
                self.replay.seed(self.snapshots[offset])
                for entry in self.snapshots[offset]:
                    if max(entry.last_offset, entry.current_txn_first_offset) >= offset:
                        self.report.problem("snapshot.entry", name, f"{entry}: not before {offset}")
            if offset > bases[0]:
                self.pending.append(offset)
            if offset not in bases and offset != max(self.snapshots):
                self.report.note("snapshot.stray", name, "no segment begins there")
        self.replay_is_whole = bases[0] == 0 or self.snapshots.get(bases[0]) is not None

    def gap(self, until, code):
        """The offsets from the log's end so far up to `until` are missing: compaction may do that."""
        self.gaps.append((self.next_offset, until - 1))
        self.replay.last_gap = until - 1
        if self.options.contiguous:
            self.report.problem(code, self.directory, f"offsets {self.next_offset} to {until - 1} are missing")

    def covered(self, offset):
        """Whether a batch of the log so far has this offset."""
        slot = bisect_right(self.gaps, (offset, _LARGEST_RELATIVE_OFFSET << 32)) - 1
        in_gap = slot >= 0 and self.gaps[slot][0] <= offset <= self.gaps[slot][1]
        return min(self.files["log"]) <= offset < self.next_offset and not in_gap

    def check_segment(self, base, sealed):
        name, report = self.files["log"][base], self.report
        path = self.path(name)
        log = LogFile(map_file(path))
        facts = check_segment.SegmentFacts(base, log)
        for position, header in log.batches():
            self.check_batch(facts, path, position, header)
            facts.add(position, header)
        report.counts["segments"] += 1
        report.counts["bytes"] += log.size
        if log.tail == log.ZERO and not sealed:
            report.note("log.zero-tail", path, f"{log.size - log.end} zero bytes from {log.end} on")
        elif log.tail != log.CLEAN:
            report.problem(f"log.{log.tail}-tail", path, f"{log.size - log.end} bytes from {log.end} on are no batch")
        if facts.lasts and facts.lasts[-1] - base > _LARGEST_RELATIVE_OFFSET:
            report.problem("segment.range", path, f"offset {facts.lasts[-1]} is too far from the base for an index")
        self.check_indexes(facts, sealed)

    def check_batch(self, facts, path, position, header):
        report, options = self.report, self.options
        where = f"batch at {position}, offset {header.base_offset}"
        fault = lambda code, words: report.problem(code, path, f"{where}: {words}")
        report.counts["batches"] += 1
        report.counts["records"] += header.record_count
        for code, words in header_faults(header):
            fault(code, words)
        self.check_chain(path, where, header, fault)
        if header.partition_leader_epoch < self.last_epoch:
            fault("batch.epoch", f"leader epoch {header.partition_leader_epoch} after {self.last_epoch}")
        self.last_epoch = max(self.last_epoch, header.partition_leader_epoch)
        if self.epochs and header.partition_leader_epoch >= 0 and header.last_offset >= self.log_start:
            first = max(header.base_offset, self.log_start)
            if words := self.epochs.fault(first, header.last_offset, header.partition_leader_epoch):
                fault("epochs.batch", words)
        if options.contiguous and header.record_count != header.last_offset_delta + 1:
            fault("batch.record-count", f"{header.record_count} records for {header.last_offset_delta + 1} offsets")
        marker, damaged = None, False
        if options.crc:
            data = facts.log.data[position + CRC_START : position + header.size]
            damaged = crc32c(data) != header.crc
            if damaged:
                fault("batch.crc", f"CRC {crc32c(data):08x}, the header says {header.crc:08x}")
        if not damaged and (options.records or header.is_control):
            marker = self.check_records(facts, path, where, position, header, fault)
        if 0 <= header.producer_id < producers.KEYED_IDS and not damaged:
            if marker is not None and marker.coordinator_epoch is not None:
                if row := self.replay.finish_transaction(header, marker):
                    facts.expected_aborts.append(row)
                if marker.type == 0:
                    facts.abort_markers[header.last_offset] = header.producer_id
            for code, words in self.replay.add(header, marker):
                fault(code, words)

    def check_chain(self, path, where, header, fault):
        """Offsets rise strictly, within a segment and from one to the next."""
        self.check_snapshots_up_to(header.base_offset)
        while self.pending and self.pending[0] <= header.last_offset:
            self.report.problem("snapshot.within", self.path(self.files["snapshot"][self.pending.pop(0)]),
                                f"it is within a batch: {path}: {where}")
        if header.base_offset < self.next_offset:
            fault("batch.order", f"the offset before it is {self.next_offset - 1}")
        elif header.base_offset > self.next_offset:
            self.gap(header.base_offset, "batch.gap")
        self.next_offset = max(self.next_offset, header.last_offset + 1)

    def check_records(self, facts, path, where, position, header, fault):
        """Reads the records. Gives back the control record if there is one."""
        try:
            records = list(records_of(facts.log.data, position, header))
            for code, words in record_faults(header, records):
                if code.startswith("note:"):
                    self.report.note(code[5:], path, f"{where}: {words}")
                else:
                    fault(code, words)
        except codecs.UnreadCodec as codec:
            self.report.counts["batches of an unread codec"] += 1
            self.report.note("batch.unread-codec", path, f"{where}: no decoder for {codec}: records not read")
        except FormatError as error:
            fault("batch.records", str(error))
        else:
            if header.is_control and records:
                return self.check_control(header, records[0], fault)
        return None

    def check_control(self, header, record, fault):
        """Reads the record of a control batch."""
        try:
            marker = parse_control(record)
        except FormatError as error:
            return fault("batch.control", str(error))
        if marker.coordinator_epoch is not None and not (header.is_transactional and header.producer_id >= 0):
            fault("batch.control", "a transaction marker without a transactional producer")
        return marker

    def check_indexes(self, facts, sealed):
        base, options, report, readable = facts.base, self.options, self.report, {}
        closed = sealed or self.clean
        first = facts.first_header
        time_zero = first is not None and first.max_timestamp == 0 and first.last_offset == base
        for kind, reader, *arguments in (("index", indexes.read_offset_index),
                                         ("timeindex", indexes.read_time_index, time_zero)):
            if base not in self.files[kind]:
                report.note("file.missing", self.path(f"{base:020}.{kind}"), "missing: it would be rebuilt")
                continue
            index = self.read(self.files[kind][base], reader, f"{kind}.file", *arguments)
            if index is not None:
                readable[kind] = index
                check_segment.check_tail(index, self.path(self.files[kind][base]), sealed, self.clean, report)
                report.counts[f"{kind} entries"] += len(index.entries)
        path = {kind: self.path(self.files[kind][base]) for kind in readable}
        if "index" in readable:
            check_segment.check_offset_index(facts, readable["index"], path["index"], options, report)
        if "timeindex" in readable:
            check_segment.check_time_index(facts, readable["timeindex"], path["timeindex"], closed, report)
        if len(readable) == 2:
            check_segment.check_lookups(facts, readable["index"], readable["timeindex"], path["index"], options, report)
            if options.exact_index:
                check_segment.check_exact(facts, readable["index"], readable["timeindex"], path["index"], options,
                                          closed, report)
        rows = []
        if base in self.files["txnindex"]:
            name = self.files["txnindex"][base]
            rows = self.read(name, indexes.read_aborted_transactions, "txnindex.file")
        if rows is not None:
            whole = self.replay_is_whole and not self.gaps
            check_segment.check_aborted_transactions(facts, rows, self.path(f"{base:020}.txnindex"), whole,
                                                     self.covered, report)

    def check_snapshots_up_to(self, limit):
        """The snapshots up to which replay has come."""
        while self.pending and self.pending[0] <= limit:
            offset = self.pending.pop(0)
            if self.snapshots[offset] is not None:
                path = self.path(self.files["snapshot"][offset])
                self.compare_snapshot(path, offset, {entry.producer_id: entry for entry in self.snapshots[offset]})

    def compare_snapshot(self, path, offset, entries):
        written_ms = os.stat(path).st_mtime_ns // 1_000_000
        doubtful = self.gaps or not self.replay_is_whole
        problem = lambda words: self.report.problem("snapshot.entry", path, words)
        for producer_id, entry in entries.items():
            state = self.replay.producers.get(producer_id)
            if entry.last_offset >= offset or entry.current_txn_first_offset >= offset:
                problem(f"{entry}: not before {offset}")
            elif state is None or state.last_offset != entry.last_offset:
                newer = state is None or state.last_offset < entry.last_offset
                if newer and doubtful and not self.covered(entry.last_offset):
                    self.report.note("snapshot.unknown", path, f"{entry}: its batch is no longer in the log")
                else:
                    problem(f"{entry}: replay gives {state}")
            else:
                want = (state.epoch, state.last_sequence, state.offset_delta)
                if (entry.producer_epoch, entry.last_sequence, entry.offset_delta) != want:
                    problem(f"{entry}: replay gives {state}")
                elif (
                    entry.timestamp not in (state.batch_timestamp, state.last_timestamp)
                    or entry.coordinator_epoch != state.coordinator_epoch
                    or entry.current_txn_first_offset != state.txn_first_offset
                ):
                    report = self.report.note if doubtful else self.report.problem
                    report("snapshot.entry", path, f"{entry}: replay gives {state}")
        for producer_id in self.replay.producers.keys() - entries.keys():
            state = self.replay.producers[producer_id]
            if state.txn_first_offset >= 0 or written_ms - state.last_timestamp < self.options.producer_expiration_ms:
                problem(f"producer {producer_id} is missing; replay gives {state}")
            else:
                del self.replay.producers[producer_id]  # expired
        self.report.counts["snapshots"] += 1
