//! What one log should be: all that was ever handed to it, what of it was promised, and what was given up.

use std::collections::BTreeMap;

use super::{Check, ensure};

/// A record as it was handed over. `id` is another one for each record that was ever tried, so that none passes for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handed {
    pub(super) timestamp: i64,
    pub(super) key: Option<u8>,
    pub(super) value: Option<String>,
    pub(super) epoch: i32,
    /// The last offset of its batch.
    pub(super) batch_end: u64,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) timestamp: i64,
    pub(super) key: Option<u8>,
    pub(super) value: Option<String>,
    pub(super) epoch: i32,
}

/// A round of compaction, as far as it can have gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// Nothing from here on was compacted.
    pub(super) end: u64,
    pub(super) at: i64,
    /// Tombstones that it was the first to see stay until then.
    pub(super) horizon: i64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    /// By offset. Beyond `end` lies what was tried and may be there or not.
    pub(super) handed: Vec<Handed>,
    /// Below it all appends have returned well: a killed process loses nothing.
    pub(super) end: u64,
    /// Below it everything was synced: nothing loses it.
    pub(super) acked: u64,
    pub(super) start: u64,
    /// Starts that were tried and not acknowledged.
    pub(super) tried_starts: Vec<u64>,
    pub(super) rounds: Vec<Round>,
    /// A sync has failed: what it did not cover may be gone even from the page cache.
    pub(super) lost_pages: bool,
}

impl Model {
    /// After a power cut only what was synced is promised; after a kill all that was written.
    pub(super) fn crash(&mut self, is_kill: bool) {
        if !is_kill || self.lost_pages {
            self.end = self.acked;
        }
        self.lost_pages = false;
    }

    /// A start has shown the log from `start` to `end`: it must be one that there may be, and is there for good from now on.
    pub(super) fn settle(&mut self, start: u64, end: u64) -> Check {
        ensure!(end >= self.end, "everything below {} was promised, but the log ends at {end}", self.end);
        ensure!(end <= self.handed.len() as u64, "nothing was ever written beyond {}, but the log ends at {end}", self.handed.len());
        let batch_end = end.checked_sub(1).map(|last| self.handed[usize::try_from(last).unwrap()].batch_end + 1);
        ensure!(batch_end.is_none_or(|batch_end| batch_end == end), "the log ends at {end}, within a batch");
        ensure!(
            start == self.start || self.tried_starts.contains(&start),
            "the log starts at {start}, not at {} nor at any of {:?}",
            self.start,
            self.tried_starts
        );
        self.handed.truncate(usize::try_from(end).unwrap());
        (self.end, self.acked, self.start) = (end, end, start);
        self.tried_starts.clear();
        Ok(())
    }

    /// What is handed over next, `None` of it written yet.
    pub(super) fn try_append(&mut self, records: Vec<Handed>) {
        assert_eq!(self.handed.len() as u64, self.end, "a log that was poisoned takes no more");
        self.handed.extend(records);
    }

    /// The log refused the last append whole.
    pub(super) fn refused(&mut self) {
        self.handed.truncate(usize::try_from(self.end).unwrap());
    }

    pub(super) fn appended(&mut self) {
        self.end = self.handed.len() as u64;
    }

    /// Everything in the log.
    fn there(&self) -> &[Handed] {
        &self.handed[..usize::try_from(self.end).unwrap()]
    }

    /// Whether what was read at an offset is what was handed over there.
    pub(super) fn check_one(&self, found: &Found) -> Check {
        let handed = usize::try_from(found.offset).ok().and_then(|at| self.there().get(at));
        let same = handed.is_some_and(|handed| {
            (handed.timestamp, handed.key, &handed.value, handed.epoch) == (found.timestamp, found.key, &found.value, found.epoch)
        });
        ensure!(same, "read {found:?}, but {handed:?} was written there");
        Ok(())
    }

    /// Who wrote the record at an offset.
    pub(super) fn epoch_at(&self, offset: u64) -> Option<i32> {
        self.there().get(usize::try_from(offset).ok()?).map(|handed| handed.epoch)
    }

    /// Up to where compaction can have been.
    fn compacted_below(&self) -> u64 {
        self.rounds.iter().map(|round| round.end).max().unwrap_or(0)
    }

    /// Whether some round can have dropped the tombstone at `offset`: one that came after the horizon that an earlier one gave it.
    fn horizon_has_passed(&self, offset: u64) -> bool {
        let mut horizon = i64::MAX;
        self.rounds.iter().filter(|round| round.end > offset).any(|round| {
            let has_passed = round.at > horizon;
            horizon = horizon.min(round.horizon);
            has_passed
        })
    }

    /// Everything that must hold of all that is read from the start to the end.
    pub(super) fn check_all(&self, found: &[Found]) -> Check {
        for one in found {
            self.check_one(one)?;
        }
        ensure!(found.is_sorted_by(|a, b| a.offset < b.offset), "offsets do not rise");
        ensure!(found.first().is_none_or(|first| first.offset >= self.start), "what was given up is there");
        let compacted_below = self.compacted_below();
        // The last of each key that a round can have seen, and where it lies.
        let mut last: BTreeMap<u8, u64> = BTreeMap::new();
        for (offset, handed) in (0..compacted_below).zip(self.there()) {
            last.extend(handed.key.map(|key| (key, offset)));
        }
        let is_there = |offset: u64| found.binary_search_by_key(&offset, |found| found.offset).is_ok();
        for (offset, handed) in (0..).zip(self.there()).skip(usize::try_from(self.start).unwrap()) {
            let latest = handed.key.and_then(|key| last.get(&key).copied()).filter(|_| offset < compacted_below);
            if is_there(offset) {
                let came_back = latest.is_some_and(|latest| latest > offset && !is_there(latest));
                ensure!(!came_back, "{handed:?} at {offset} came back: the tombstone at {latest:?} is gone");
                continue;
            }
            ensure!(offset < compacted_below, "{handed:?} at {offset} is missing");
            if latest == Some(offset) {
                ensure!(
                    handed.value.is_none() && self.horizon_has_passed(offset),
                    "the last of its key is missing: {handed:?} at {offset}"
                );
            }
        }
        Ok(())
    }
}
