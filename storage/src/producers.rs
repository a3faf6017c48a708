//! What a partition knows of those who write to it, so that a repeated request is recognised: producers that number their records, and keys that stand for
//! one request. All of it follows from the headers of the log's batches, and is kept beside the log to spare reading them.
//!
//! ```text
//!              check ──> Verdict                    note(header), after the write
//!   stamp ──>  ┌────────────┬───────────────┐ <──────────────────────────────────
//!              │ sequences  │ keys          │
//!              └────────────┴───────────────┘ ──> %020d.idempotency: all of it, at the offset in its name
//!                     └────────────────────── ──> %020d.snapshot: Kafka's, of each producer the last batch
//! ```
//!
//! At the moment a batch is noted it is written. A crash right there leaves a log whose headers say the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_types::{BatchHeader, Offset, ProducerStamp};

pub(crate) mod file;
mod keys;
mod sequences;
pub(crate) mod snapshot;

pub use keys::{Key, KeyRules, KeyWindow};

pub(crate) use sequences::Known;
use sequences::{Planned, Sequences};

/// What a partition says to the stamp of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It comes next, or begins.
    New,
    /// The producer is not known, and this is not its beginning: what comes before may be on its way, or forgotten long ago.
    Unknown,
    /// It was written before, its first record at `offset`.
    Written {
        /// There.
        offset: Offset,
    },
    /// It was written before, longer ago than is remembered; all of it lies below that offset.
    Forgotten {
        /// The offset.
        below: Offset,
    },
    /// Another sequence comes next.
    Gap {
        /// That one.
        expected: i32,
    },
    /// The producer has a later epoch.
    Fenced {
        /// That one.
        current: i16,
    },
    /// The key stands for other records.
    Reused,
}

/// The keys of a partition, for those who look from outside.
#[derive(Debug, Clone)]
pub struct Keys(Arc<Mutex<KeyWindow>>);

impl Keys {
    fn lock(&self) -> MutexGuard<'_, KeyWindow> {
        // Nothing in here can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the key is known to stand for other records at `now`, in ms.
    pub fn is_other(&self, stamp: ProducerStamp, now: i64) -> bool {
        let keys = self.lock();
        keys.find(stamp.id).is_some_and(|key| key.sequence != stamp.sequence && !keys.is_over(&key, now))
    }

    /// What is remembered under a key's id.
    pub fn find(&self, id: i64) -> Option<Key> {
        self.lock().find(id)
    }

    /// How long keys are remembered just now, in ms.
    pub fn held_ms(&self) -> i64 {
        self.lock().held_ms()
    }
}

/// How much of a producer's past is in the headers that are noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    /// All that the producer ever wrote here, unless it is known already.
    Whole,
    /// Something may have been given up before them.
    Unknown,
}

/// All that a partition knows of its producers.
#[derive(Debug)]
pub struct Producers {
    sequences: Sequences,
    keys: Keys,
    /// No time was known yet: headers do not say when they came, so for those that a start reads it is the first time that is.
    is_timeless: bool,
}

impl Producers {
    /// Nobody yet.
    pub fn new(rules: KeyRules) -> Self {
        let keys = Keys(Arc::new(Mutex::new(KeyWindow::new(rules))));
        Self { sequences: Sequences::default(), keys, is_timeless: true }
    }

    /// The keys, for as many threads as want them.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// How many producers are known, and how many keys.
    pub fn counts(&self) -> (usize, usize) {
        (self.sequences.len(), self.keys.lock().len())
    }

    pub(crate) fn set_rules(&self, rules: KeyRules) {
        self.keys.lock().set_rules(rules);
    }

    /// The time is `now`, in ms: what comes from here on has arrived now, and what is too old is forgotten; of producers that is who was silent for
    /// `expiration_ms`.
    pub fn advance(&mut self, now: i64, expiration_ms: i64) {
        if std::mem::take(&mut self.is_timeless) {
            self.sequences.advance(now, i64::MAX);
            self.sequences.arrive_now();
            let mut keys = self.keys.lock();
            keys.advance_clock(now);
            keys.arrive_now();
        }
        self.sequences.advance(now, expiration_ms);
        self.keys.lock().advance(now);
    }

    /// Takes note of a batch that is written.
    pub(crate) fn note(&mut self, header: &BatchHeader, past: Past) {
        let Some(stamp) = ProducerStamp::of(header) else { return };
        if stamp.is_keyed() {
            self.keys.lock().note(stamp.id, stamp.sequence, header.first_offset());
        } else {
            self.sequences.note(header, past == Past::Whole);
        }
    }

    /// Who is not known yet is what Kafka's snapshot says.
    pub(crate) fn fill_up(&mut self, entries: Vec<(i64, Known)>) {
        for (id, known) in entries {
            if self.sequences.find(id).is_none() {
                self.sequences.insert(id, known);
            }
        }
    }

    /// Those that number their records, by id.
    pub(crate) fn producers(&self) -> impl Iterator<Item = (i64, &Known)> {
        self.sequences.sorted().into_iter()
    }

    /// All keys, oldest first.
    pub(crate) fn all_keys(&self) -> Vec<Key> {
        self.keys.lock().packed().filter_map(|packed| Key::unpack(*packed)).collect()
    }

    /// To look at batches that are to be written together, one after the other.
    pub fn plan(&self) -> Plan<'_> {
        Plan { producers: self, sequences: Planned::default(), keys: HashMap::new() }
    }
}

/// What would be known after some batches were written.
#[derive(Debug)]
pub struct Plan<'p> {
    producers: &'p Producers,
    sequences: Planned,
    keys: HashMap<i64, (i32, Offset)>,
}

impl Plan<'_> {
    /// What is to be done with a batch of so many records.
    pub fn judge(&self, stamp: ProducerStamp, records: u32) -> Verdict {
        if !stamp.is_keyed() {
            return self.sequences.judge(&self.producers.sequences, stamp, records);
        }
        let planned = self.keys.get(&stamp.id).copied();
        let known = || self.producers.keys.find(stamp.id).map(|key| (key.sequence, key.offset));
        match planned.or_else(known) {
            None => Verdict::New,
            Some((sequence, offset)) if sequence == stamp.sequence => Verdict::Written { offset },
            Some(_) => Verdict::Reused,
        }
    }

    /// Goes on as if the batch had been written at `offset`.
    pub fn write(&mut self, stamp: ProducerStamp, records: u32, offset: Offset) {
        if stamp.is_keyed() {
            self.keys.insert(stamp.id, (stamp.sequence, offset));
        } else {
            self.sequences.plan(&self.producers.sequences, stamp, records, offset);
        }
    }
}

#[cfg(test)]
mod tests;
