//! The producers that number their records: of each its epoch and its last five batches in this partition. Pure.
//!
//! ```text
//!   first known        remembered: five batches          next
//!       │   forgotten   │  b1 │ b2 │ b3 │ b4 │ b5 │        │
//!   ────┼───────────────┼─────┴────┴────┴────┴────┼────────┼───────> sequence
//!   gap │  written      │  written, offset known  │ taken  │ gap
//! ```

use std::collections::HashMap;

use tidegate_types::producer::{sequence_after, sequences_behind};
use tidegate_types::{BatchHeader, Offset, ProducerStamp};

use super::Verdict;

/// Batches of a producer that are remembered, as in Kafka.
pub(super) const BATCHES: usize = 5;
/// Producers of a partition that are remembered. Beyond it those that were silent for the longest go.
pub(super) const PRODUCERS_MAX: usize = 1 << 17;

/// A batch that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) first_sequence: i32,
    pub(super) last_sequence: i32,
    /// Of the first record; the others follow.
    pub(super) offset: Offset,
    /// The largest of its records, in ms.
    pub(super) timestamp: i64,
}

impl Batch {
    /// In a place that nobody looks at.
    const NONE: Self = Self { first_sequence: 0, last_sequence: 0, offset: Offset::ZERO, timestamp: 0 };

    /// The batch with this header, as it was before compaction thinned it.
    fn of(header: &BatchHeader) -> Self {
        let last_sequence = sequence_after(header.base_sequence, header.last_offset_delta.unsigned_abs());
        Self { first_sequence: header.base_sequence, last_sequence, offset: header.first_offset(), timestamp: header.max_timestamp }
    }

    /// Last offset − first.
    pub(super) fn offset_delta(&self) -> u32 {
        sequences_behind(self.first_sequence, self.last_sequence).unwrap_or(0)
    }

    pub(super) fn last_offset(&self) -> Offset {
        self.offset.checked_add(u64::from(self.offset_delta())).unwrap_or(Offset::MAX)
    }

    /// Where the record of `sequence` stands, if it and the `records - 1` after it are all in here.
    fn offset_of(&self, sequence: i32, records: u32) -> Option<Offset> {
        let begins = sequences_behind(self.first_sequence, sequence)?;
        let last = sequence_after(sequence, records.saturating_sub(1));
        (sequences_behind(last, self.last_sequence)? + records.saturating_sub(1) + begins == self.offset_delta())
            .then(|| self.offset.checked_add(u64::from(begins)))
            .flatten()
    }
}

/// What is known of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) epoch: i16,
    /// The sequence that came first in this epoch; `None` if that is not known.
    pub(super) begins: Option<i32>,
    /// When its last batch came, in ms.
    pub(super) arrival: i64,
    count: u8,
    batches: [Batch; BATCHES],
}

impl Known {
    pub(super) fn new(epoch: i16, begins: Option<i32>, arrival: i64) -> Self {
        Self { epoch, begins, arrival, count: 0, batches: [Batch::NONE; BATCHES] }
    }

    /// Oldest first.
    pub(super) fn batches(&self) -> &[Batch] {
        &self.batches[..usize::from(self.count)]
    }

    pub(super) fn last(&self) -> Option<&Batch> {
        self.batches().last()
    }

    /// Sequence and offset of the last record.
    pub(crate) fn last_record(&self) -> Option<(i32, Offset)> {
        self.last().map(|last| (last.last_sequence, last.last_offset()))
    }

    pub(super) fn push(&mut self, batch: Batch) {
        if usize::from(self.count) == BATCHES {
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        self.batches[usize::from(self.count)] = batch;
        self.count += 1;
        // Beyond half of all sequences nobody can say any more what came before what.
        if self.begins.is_some_and(|begins| sequences_behind(begins, batch.last_sequence).is_none_or(|since| since > 1 << 29)) {
            self.begins = None;
        }
    }

    /// The producer after a batch with this header.
    fn after(known: Option<Self>, header: &BatchHeader, is_whole: bool, arrival: i64) -> Self {
        let mut after = match known.filter(|known| known.epoch == header.producer_epoch) {
            Some(known) => known,
            None => Self::new(header.producer_epoch, is_whole.then_some(header.base_sequence), arrival),
        };
        after.arrival = arrival;
        after.push(Batch::of(header));
        after
    }

    fn judge(&self, stamp: ProducerStamp, records: u32) -> Verdict {
        if stamp.epoch < self.epoch {
            return Verdict::Fenced { current: self.epoch };
        }
        let Some(last) = self.last().filter(|_| stamp.epoch == self.epoch) else {
            return if stamp.sequence == 0 { Verdict::New } else { Verdict::Gap { expected: 0 } };
        };
        let expected = sequence_after(last.last_sequence, 1);
        if stamp.sequence == expected {
            return Verdict::New;
        }
        let is_all_behind = sequences_behind(stamp.sequence, last.last_sequence).is_some_and(|behind| behind >= records.saturating_sub(1));
        if !is_all_behind {
            return Verdict::Gap { expected };
        }
        if let Some(offset) = self.batches().iter().rev().find_map(|batch| batch.offset_of(stamp.sequence, records)) {
            return Verdict::Written { offset };
        }
        // What came before the first that was ever seen here is not here.
        let is_before = self.begins.is_some_and(|begins| sequences_behind(begins, stamp.sequence).is_none());
        if is_before { Verdict::Gap { expected } } else { Verdict::Forgotten { below: last.last_offset().next() } }
    }
}

/// All producers of a partition.
#[derive(Debug)]
pub(super) struct Sequences {
    known: HashMap<i64, Known>,
    now: i64,
    expiration_ms: i64,
    swept_at: i64,
}

impl Default for Sequences {
    /// Nobody, and nobody expires before the time is known.
    fn default() -> Self {
        Self { known: HashMap::new(), now: 0, expiration_ms: i64::MAX, swept_at: 0 }
    }
}

impl Sequences {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn find(&self, id: i64) -> Option<&Known> {
        self.known.get(&id).filter(|known| !self.is_expired(known))
    }

    fn is_expired(&self, known: &Known) -> bool {
        known.arrival <= self.now.saturating_sub(self.expiration_ms)
    }

    /// The time is `now`, in ms; who was silent for `expiration_ms` is forgotten.
    pub(super) fn advance(&mut self, now: i64, expiration_ms: i64) {
        self.now = self.now.max(now);
        self.expiration_ms = expiration_ms;
        // Who is expired is not found; room is made now and then.
        if self.now.saturating_sub(self.swept_at) > (expiration_ms / 8).max(1) {
            self.swept_at = self.now;
            let oldest = self.now.saturating_sub(expiration_ms);
            self.known.retain(|_, known| known.arrival > oldest);
        }
    }

    /// Takes note of a batch. `is_whole` says whether all that its producer ever wrote here was seen.
    pub(super) fn note(&mut self, header: &BatchHeader, is_whole: bool) {
        let after = Known::after(self.find(header.producer_id).copied(), header, is_whole, self.now);
        self.insert(header.producer_id, after);
    }

    pub(super) fn insert(&mut self, id: i64, known: Known) {
        if self.known.len() >= PRODUCERS_MAX && !self.known.contains_key(&id) {
            self.make_room();
        }
        self.known.insert(id, known);
    }

    /// Lets the eighth go that was silent for the longest.
    fn make_room(&mut self) {
        let mut arrivals: Vec<_> = self.known.iter().map(|(id, known)| (known.arrival, *id)).collect();
        let (gone, ..) = arrivals.select_nth_unstable(PRODUCERS_MAX / 8);
        for (_, id) in gone {
            self.known.remove(id);
        }
        tracing::warn!(producers = PRODUCERS_MAX, "more producers than are remembered: those silent for the longest are forgotten");
    }

    /// All of them, by id.
    pub(super) fn sorted(&self) -> Vec<(i64, &Known)> {
        let mut all: Vec<_> = self.known.iter().map(|(id, known)| (*id, known)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Who was heard before the time was known is heard now.
    pub(super) fn arrive_now(&mut self) {
        for known in self.known.values_mut().filter(|known| known.arrival == 0) {
            known.arrival = self.now;
        }
    }
}

/// Producers as they would be after some batches.
#[derive(Debug, Default)]
pub(super) struct Planned(HashMap<i64, Known>);

impl Planned {
    pub(super) fn judge(&self, base: &Sequences, stamp: ProducerStamp, records: u32) -> Verdict {
        match self.0.get(&stamp.id).or_else(|| base.find(stamp.id)) {
            Some(known) => known.judge(stamp, records),
            None if stamp.sequence == 0 => Verdict::New,
            None => Verdict::Unknown,
        }
    }

    /// As if the records had been written at `offset`.
    pub(super) fn plan(&mut self, base: &Sequences, stamp: ProducerStamp, records: u32, offset: Offset) {
        let known = self.0.get(&stamp.id).or_else(|| base.find(stamp.id)).filter(|known| known.epoch == stamp.epoch);
        let mut known = known.copied().unwrap_or_else(|| Known::new(stamp.epoch, Some(stamp.sequence), 0));
        let last_sequence = sequence_after(stamp.sequence, records.saturating_sub(1));
        known.push(Batch { first_sequence: stamp.sequence, last_sequence, offset, timestamp: 0 });
        self.0.insert(stamp.id, known);
    }
}
