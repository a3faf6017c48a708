"""Producer state: the `.snapshot` file and the state that replaying batch headers gives (Kafka's file format, 2.5)."""

import struct
from dataclasses import dataclass
from typing import NamedTuple

from . import FormatError
from .batch import ABORT, LARGEST_SEQUENCE
from .crc32c import crc32c
from .indexes import AbortedTransaction

# From here on an id stands for one request and not for a producer that counts its records: Tidegate's, and in no snapshot.
KEYED_IDS = 1 << 62

SNAPSHOT_HEADER = struct.Struct(">hIi")
SNAPSHOT_ENTRY = struct.Struct(">qhiqiqiq")


class ProducerEntry(NamedTuple):
    """One producer in a snapshot: its last batch only."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int
    coordinator_epoch: int
    current_txn_first_offset: int


def read_snapshot(data):
    """Version 1, CRC-32C of bytes 6 to the end, count, entries of 46 bytes."""
    data = bytes(data)
    if len(data) < SNAPSHOT_HEADER.size:
        raise FormatError("the snapshot is shorter than its header")
    version, crc, count = SNAPSHOT_HEADER.unpack_from(data)
    if version != 1:
        raise FormatError(f"snapshot version {version}")
    if crc32c(data[6:]) != crc:
        raise FormatError(f"the snapshot's CRC is {crc32c(data[6:]):08x}, not {crc:08x}")
    if len(data) != SNAPSHOT_HEADER.size + count * SNAPSHOT_ENTRY.size:
        raise FormatError(f"{count} producers in {len(data)} bytes")
    entries = [ProducerEntry._make(fields) for fields in SNAPSHOT_ENTRY.iter_unpack(data[SNAPSHOT_HEADER.size :])]
    if len({entry.producer_id for entry in entries}) != len(entries):
        raise FormatError("a producer is there twice")
    return entries


@dataclass
class Producer:
    """What is known of one producer after some part of the log."""

    epoch: int = -1
    last_sequence: int = -1
    last_offset: int = -1
    offset_delta: int = 0
    batch_timestamp: int = -1
    last_timestamp: int = -1  # that of the last batch or marker
    coordinator_epoch: int = -1
    txn_first_offset: int = -1


class ProducerReplay:
    """Replays batches in offset order. `add` yields (code, words) for what a leader would not have appended."""

    def __init__(self, expiration_ms):
        self.producers = {}
        self.expiration_ms = expiration_ms
        self.last_gap = -1  # where the latest hole in the offsets ends; compaction takes batches away

    def seed(self, entries):
        """Starts from a snapshot."""
        for e in entries:
            self.producers[e.producer_id] = Producer(
                e.producer_epoch, e.last_sequence, e.last_offset, e.offset_delta, e.timestamp, e.timestamp,
                e.coordinator_epoch, e.current_txn_first_offset,
            )

    def add(self, header, marker=None):
        """One batch of a producer. For a control batch `marker` is its record; without one it changes nothing."""
        known = self.producers.get(header.producer_id)
        if header.is_control and (marker is None or marker.coordinator_epoch is None):
            return
        state = known or self.producers.setdefault(header.producer_id, Producer())
        if header.producer_epoch < state.epoch:
            yield "producer.epoch", f"producer {header.producer_id}: epoch {header.producer_epoch} after {state.epoch}"
        if marker is not None:
            if marker.coordinator_epoch < state.coordinator_epoch:
                yield "producer.coordinator-epoch", (
                    f"producer {header.producer_id}: a marker of coordinator epoch {marker.coordinator_epoch}"
                    f" after {state.coordinator_epoch}"
                )
            if header.producer_epoch != state.epoch:
                state.last_sequence, state.last_offset, state.offset_delta, state.batch_timestamp = -1, -1, 0, -1
            state.coordinator_epoch = marker.coordinator_epoch
            state.txn_first_offset = -1
        else:
            if known is not None:
                yield from self._sequence_faults(header, state)
            state.last_sequence = header.last_sequence
            state.last_offset, state.offset_delta = header.last_offset, header.last_offset_delta
            state.batch_timestamp = header.max_timestamp
            if header.is_transactional and state.txn_first_offset < 0:
                state.txn_first_offset = header.base_offset
            elif not header.is_transactional and state.txn_first_offset >= 0:
                yield "producer.transaction", f"producer {header.producer_id}: a plain batch within a transaction"
        state.epoch, state.last_timestamp = header.producer_epoch, header.max_timestamp

    def _sequence_faults(self, header, state):
        expected = 0
        if header.producer_epoch == state.epoch:
            expected = (state.last_sequence + 1) & LARGEST_SEQUENCE
        if header.base_sequence == expected or header.max_timestamp - state.last_timestamp >= self.expiration_ms:
            return
        if self.last_gap > state.last_offset and (header.base_sequence - expected) & LARGEST_SEQUENCE < 1 << 30:
            return  # what came between was compacted away
        yield "producer.sequence", (
            f"producer {header.producer_id}/{header.producer_epoch}:"
            f" sequence {header.base_sequence}, expected {expected}"
        )

    def finish_transaction(self, header, marker):
        """Before `add`: the `.txnindex` row that this marker must leave, or None."""
        state = self.producers.get(header.producer_id)
        if marker.type != ABORT or state is None or state.txn_first_offset < 0:
            return None
        ongoing = [
            other.txn_first_offset
            for producer_id, other in self.producers.items()
            if other.txn_first_offset >= 0 and producer_id != header.producer_id
        ]
        stable = min(ongoing, default=header.last_offset + 1)
        return AbortedTransaction(header.producer_id, state.txn_first_offset, header.last_offset, stable)
