//! A file in the page cache and on the platter.
//!
//! The page cache writes whole sectors (or pages), as they are at the moment, whenever it likes. So after a power cut each sector is as it was
//! at some moment since the last sync, whatever the others are; what the file grew by and did not arrive reads as zeros.

use std::collections::BTreeSet;
use std::ops::Range;

use super::random::SplitMix;

/// What a file system hands out: behind a truncation within one, a new one is begun.
const BLOCK: usize = 4096;

/// How a power cut treats what was not synced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// What is written whole or not at all: a sector of 512 bytes, or a page of 4,096.
    pub(super) sector: usize,
    /// Changes of lengths and of directories come in order.
    pub(super) has_journal: bool,
}

impl Weather {
    pub(super) fn draw(random: &mut SplitMix) -> Self {
        let sector = if random.one_in(4) { BLOCK } else { 512 };
        Self { sector, has_journal: random.one_in(2) }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    pub(super) now: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// What happened since the last sync.
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

fn apply(to: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { position, bytes } => write(to, *position, bytes),
        Change::SetLen(bytes) => to.resize(*bytes, 0),
    }
}

fn write(to: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    let end = position + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[position..end].copy_from_slice(bytes);
}

impl Contents {
    pub(super) fn all_durable(bytes: Vec<u8>) -> Self {
        Self { now: bytes.clone(), durable: bytes, pending: Vec::new() }
    }

    pub(super) fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.pending.push(change);
    }

    /// It may have happened: the plug was pulled in the middle of it.
    pub(super) fn may_change(&mut self, change: Change) {
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    /// A sync that failed: what could not be written is dropped from the page cache, and no later sync will find anything to do.
    pub(super) fn fail_sync(&mut self, random: &mut SplitMix) {
        self.durable = self.after(Weather::draw(random), random);
        self.now.clone_from(&self.durable);
        self.pending.clear();
    }

    /// As it is in the page cache, with what was under way.
    pub(super) fn killed(self) -> Self {
        let mut now = self.durable.clone();
        self.pending.iter().for_each(|change| apply(&mut now, change));
        Self { now, ..self }
    }

    /// What the platter holds after a power cut.
    pub(super) fn after(&self, weather: Weather, random: &mut SplitMix) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        // Sectors that were written for the last time.
        let mut settled: BTreeSet<usize> = BTreeSet::new();
        // Where a truncation that did not arrive was: what was written behind it is in blocks that nobody finds.
        let mut found_below = usize::MAX;
        for change in &self.pending {
            match change {
                Change::SetLen(length) => {
                    if found_below < usize::MAX || random.one_in(2) {
                        if weather.has_journal && *length < self.now.len().max(bytes.len()) {
                            found_below = found_below.min(length.next_multiple_of(BLOCK));
                        }
                    } else {
                        settled.retain(|sector| sector * weather.sector < *length);
                        bytes.resize(*length, 0);
                    }
                }
                Change::Write { position, bytes: written } => {
                    // All of it, nothing, or each sector by its own luck.
                    let luck = random.below(3);
                    for (sector, part) in sectors(*position, written.len(), weather.sector) {
                        let arrives = luck == 2 || luck == 1 && random.one_in(2);
                        if !arrives || position + part.start >= found_below {
                            settled.insert(sector);
                        } else if !settled.contains(&sector) {
                            write(&mut bytes, position + part.start, &written[part]);
                        }
                    }
                    // The length may have arrived without the data.
                    let end = position + written.len();
                    if end > bytes.len() && end <= found_below && random.one_in(8) {
                        bytes.resize(end, 0);
                    }
                }
            }
        }
        bytes
    }
}

/// The sectors that a write touches, and which part of it falls on each.
fn sectors(position: usize, length: usize, sector: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let end = position + length;
    (position / sector..end.div_ceil(sector)).filter(move |_| length > 0).map(move |n| {
        let (from, to) = ((n * sector).max(position), ((n + 1) * sector).min(end));
        (n, from - position..to - position)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: writes tear at the file's sectors, not at their own beginning, and what is in a sector is what was there at some moment.
    #[test]
    fn writes_tear_at_sectors() {
        let parts: Vec<_> = sectors(500, 600, 512).collect();
        assert_eq!(parts, [(0, 0..12), (1, 12..524), (2, 524..600)]);
        assert_eq!(sectors(512, 0, 512).count(), 0);
        let mut file = Contents::default();
        file.change(Change::Write { position: 0, bytes: vec![1; 700] });
        file.change(Change::Write { position: 700, bytes: vec![2; 500] });
        let (mut seen, mut random) = (BTreeSet::new(), SplitMix(1));
        for _ in 0..2_000 {
            let weather = Weather { sector: 512, has_journal: true };
            let after = file.after(weather, &mut random);
            let at = |n: usize| after.get(n).copied().unwrap_or(0);
            assert_eq!((at(0), at(512)), (at(511), at(699)), "whole sectors");
            assert_eq!(at(700), at(1023));
            assert!(at(512) != 0 || at(700) == 0, "what came later into a sector is not there without what was there");
            seen.insert((at(0), at(512), at(700), at(1100)));
        }
        assert_eq!(seen.len(), 2 * 3 * 2, "everything else is: {seen:?}");
    }

    /// A promise: a journal keeps a truncation and what follows it in order; a failed sync drops what it could not write, for good.
    #[test]
    fn truncations_are_kept_in_order_by_a_journal() {
        let mut file = Contents::all_durable(vec![1; 10_000]);
        file.change(Change::SetLen(100));
        file.change(Change::Write { position: 100, bytes: vec![2; 9_000] });
        let mut unordered = 0;
        for seed in 0..500 {
            for has_journal in [true, false] {
                let after = file.after(Weather { sector: 4096, has_journal }, &mut SplitMix(seed));
                let mixed = after.len() == 10_000 && after[5_000] == 2;
                assert!(!(has_journal && mixed), "written into blocks of a truncation that did not happen");
                unordered += usize::from(mixed);
            }
        }
        assert!(unordered > 0);
        file.fail_sync(&mut SplitMix(3));
        assert_eq!(file.now, file.durable);
        let left = file.durable.clone();
        file.sync();
        assert_eq!(file.durable, left);
    }
}
