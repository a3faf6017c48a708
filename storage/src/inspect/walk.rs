//! One segment, read from its first byte to its last and held against all that is said of it: where it begins and the next one does, its indexes,
//! what `segment-checkpoint` vouches for, the leaders' epochs.

use std::path::{Path, PathBuf};

use tidegate_types::{BatchHeader, LeaderEpoch, Offset, StoredBatch};

use super::behind::{has_header, known_behind};
use super::entries::{Entries, Wrong, read_index};
use super::{Finding, Kind};
use crate::Error;
use crate::epochs::Epochs;
use crate::index::{IndexEntry, OffsetIndex};
use crate::io::Io;
use crate::recovery::{Damage, check_next, scan, written_behind};
use crate::time_index::{TimeEntry, TimeIndex};
use crate::vouched::Vouched;

/// What a segment is held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claims<'a> {
    pub(super) base: Offset,
    pub(super) path: &'a Path,
    /// Where the next segment begins; `None` for the last one.
    pub(super) next: Option<Offset>,
    pub(super) known: Option<&'a Vouched>,
    /// Offsets may be missing in it, for it may have been compacted.
    pub(super) may_have_gaps: bool,
    /// Everything below was synced. Compaction has been nowhere else.
    pub(super) synced: Offset,
    /// Its file has the name of a segment, so that indexes beside it are its own.
    pub(super) has_indexes: bool,
    /// Where the log begins.
    pub(super) start: Offset,
    pub(super) epochs: Option<&'a Epochs>,
    /// A start reads all of it, whoever vouches for it.
    pub(super) is_read: bool,
}

/// What a segment is.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) base: Offset,
    pub(super) path: PathBuf,
    pub(super) length: u64,
    /// Up to the end of its last good batch.
    pub(super) good: Good,
    /// What stands behind that.
    pub(super) stop: Option<Damage>,
    /// Good batches behind the damage end here.
    pub(super) behind: Option<Offset>,
    /// Offsets are missing within it and nothing says that it was compacted; else it is whole.
    pub(super) gap: Option<(u64, String)>,
    /// Offsets are missing within it, whatever the reason.
    pub(super) has_gaps: bool,
    pub(super) indexes: Indexes,
    /// Whether what is vouched for is as it is said to be; `None` without a word.
    pub(super) is_as_vouched: Option<bool>,
    /// Whether the indexes are those that are vouched for.
    pub(super) sums_match: bool,
    /// Up to where what is vouched for is not read by a start.
    pub(super) believed: u64,
    /// Leaders' epochs as its batches have them, each with its first offset; `None` if they fall, or are too many.
    pub(super) epochs: Option<Vec<(LeaderEpoch, Offset)>>,
    pub(super) findings: Vec<Finding>,
}

/// A segment up to the end of a good batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Good {
    pub(super) bytes: u64,
    /// The offset after it.
    pub(super) end: Offset,
    pub(super) batches: u64,
    /// Without those below the log's start.
    pub(super) records: u64,
    pub(super) max_timestamp: i64,
    /// The largest timestamp that the time index may name, at the first batch that has it.
    pub(super) latest: Option<TimeEntry>,
}

/// The state of `.index` and `.timeindex`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indexes {
    /// None of both is there.
    Absent,
    Good,
    /// One is lost, or says what is not so.
    Bad,
}

impl Seen {
    /// Whether a start reads the place where it is damaged.
    pub(super) fn stop_is_read(&self) -> bool {
        self.stop.is_some() && self.good.bytes >= self.believed
    }
}

/// More findings of a kind in one segment are not listed.
const FINDINGS_MAX: usize = 20;
/// A log of more leaders than that is none.
const EPOCHS_MAX: usize = 65_536;

/// Reads a segment and says what it is.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn walk(io: &dyn Io, claims: Claims<'_>) -> Result<Seen, Error> {
    let path = claims.path;
    let file = io.open(path).map_err(Error::io("open", path))?;
    let length = file.len().map_err(Error::io("read the length of", path))?;
    let mut walk = Walk::new(io, claims)?;
    let damage = match scan(file.as_ref(), 0, &mut |position, batch| walk.batch(position, batch)) {
        // A disk that has rotted says so.
        Err(error) => Some(format!("it cannot be read: {error}")),
        Ok(damage) => damage,
    };
    let stop = walk.stop(damage);
    let stop = stop.map(|reason| {
        let rest = length.saturating_sub(walk.good.bytes);
        Damage { bytes: written_behind(file.as_ref(), walk.good.bytes).unwrap_or(rest), reason }
    });
    let behind = stop.as_ref().and_then(|_| known_behind(file.as_ref(), walk.good.bytes, length, walk.good.end));
    Ok(walk.finish(length, stop, behind, has_header(file.as_ref(), 0)))
}

struct Walk<'a> {
    claims: Claims<'a>,
    good: Good,
    /// Before the first batch that begins later than it should; why; and before the last batch, if that one does.
    first_jump: Option<(Good, String)>,
    last_jump: Option<(Good, String)>,
    index: Entries<IndexEntry>,
    times: Entries<TimeEntry>,
    sums_match: bool,
    vouched_seen: bool,
    epochs: Option<Vec<(LeaderEpoch, Offset)>>,
    /// A batch has not the epoch that the checkpoint says.
    epoch_told: bool,
    findings: Vec<Finding>,
}

impl<'a> Walk<'a> {
    fn new(io: &dyn Io, claims: Claims<'a>) -> Result<Self, Error> {
        let (mut index, mut times) = (Entries::default(), Entries::default());
        let mut sums_match = false;
        if claims.has_indexes {
            let (bytes, time_bytes) = (read_index(io, claims.path, "index")?, read_index(io, claims.path, "timeindex")?);
            sums_match = claims.known.is_some_and(|known| {
                bytes.as_deref().map(crc32c::crc32c) == Some(known.sums.index)
                    && time_bytes.as_deref().map(crc32c::crc32c) == Some(known.sums.times)
            });
            index =
                Entries::new(bytes.as_deref(), IndexEntry::BYTES, |bytes| OffsetIndex::from_bytes(bytes).map(OffsetIndex::into_entries));
            times =
                Entries::new(time_bytes.as_deref(), TimeEntry::BYTES, |bytes| TimeIndex::from_bytes(bytes).map(TimeIndex::into_entries));
        }
        let good = Good { bytes: 0, end: claims.base, batches: 0, records: 0, max_timestamp: i64::MIN, latest: None };
        let mut walk = Self {
            claims,
            good,
            first_jump: None,
            last_jump: None,
            index,
            times,
            sums_match,
            vouched_seen: false,
            epochs: Some(Vec::new()),
            epoch_told: false,
            findings: Vec::new(),
        };
        walk.pass_vouched();
        Ok(walk)
    }

    /// Looks at the next batch; an error is what ends the good part.
    fn batch(&mut self, position: u64, batch: &StoredBatch) -> Result<(), String> {
        let header = &batch.header;
        let (first, last) = (header.first_offset(), header.last_offset());
        let (before, jump) = (self.good, self.last_jump.take());
        if let Err(reason) = check_next(header, before.end, false) {
            // Only what is not written any more was ever compacted; the last segment only if later ones are gone.
            let may_jump = match self.claims.next {
                Some(next) => last < next,
                None => self.claims.may_have_gaps && last < self.claims.synced,
            };
            if first <= before.end {
                // Nothing covers a batch's offset: if the one before came too late, it is the wrong one.
                let Some((earlier, why)) = jump else { return Err(reason) };
                self.good = earlier;
                return Err(why);
            }
            if !may_jump {
                return Err(reason);
            }
            self.first_jump.get_or_insert_with(|| (before, reason.clone()));
            self.last_jump = Some((before, reason));
        }
        self.records(position, batch);
        self.epoch(position, header);
        let relative = u32::try_from(last.since(self.claims.base)).unwrap_or(u32::MAX);
        self.good.bytes = position + header.total_bytes() as u64;
        self.good.end = last.next();
        self.good.batches += 1;
        self.good.max_timestamp = self.good.max_timestamp.max(header.max_timestamp);
        if header.record_count > 0 && self.good.latest.is_none_or(|latest| latest.timestamp < header.max_timestamp) {
            self.good.latest = Some(TimeEntry { timestamp: header.max_timestamp, relative });
        }
        self.index_entries(position, relative);
        self.pass_vouched();
        Ok(())
    }

    fn records(&mut self, position: u64, batch: &StoredBatch) {
        let start = self.claims.start;
        let walked =
            batch.records().and_then(|records| records.iter().map(|record| record.map(|r| r.offset)).collect::<Result<Vec<_>, _>>());
        match walked {
            Ok(offsets) => self.good.records += offsets.iter().filter(|offset| **offset >= start).count() as u64,
            Err(error) => self.find(Kind::Record, self.claims.path.to_owned(), position, error.to_string()),
        }
    }

    /// Holds a batch's epoch against the ones before and against the checkpoint's.
    fn epoch(&mut self, position: u64, header: &BatchHeader) {
        let (epoch, path) = (header.leader_epoch, self.claims.path.to_owned());
        if let Some(seen) = &mut self.epochs {
            let last = seen.last().map_or(-1, |(last, _)| last.get());
            if epoch < last || epoch < 0 || seen.len() >= EPOCHS_MAX {
                self.epochs = None;
            } else if epoch > last {
                seen.push((LeaderEpoch::new(epoch), header.first_offset()));
            }
        }
        let (Some(epochs), false) = (self.claims.epochs, self.epoch_told || header.last_offset() < self.claims.start) else { return };
        for offset in [header.first_offset().max(self.claims.start), header.last_offset()] {
            let noted = epochs.at(offset);
            if noted.map(LeaderEpoch::get) != Some(epoch) {
                let noted = noted.map_or_else(|| "nothing".to_owned(), |noted| noted.to_string());
                let reason = format!("the batch is of leader epoch {epoch}, but leader-epoch-checkpoint says {noted} of offset {offset}");
                self.find(Kind::LeaderEpoch, path, position, reason);
                self.epoch_told = true;
                return;
            }
        }
    }

    /// Holds index entries up to here against the batch at `position` that ends with `relative`.
    fn index_entries(&mut self, position: u64, relative: u32) {
        while let Some(entry) = self.index.next().filter(|entry| u64::from(entry.position) <= position) {
            if u64::from(entry.position) < position || entry.relative != relative {
                let what = if u64::from(entry.position) < position { "no batch begins" } else { "the batch ends with another offset" };
                self.index.deny(format!(
                    "it says of offset {} that its batch begins at byte {}, where {what}",
                    self.absolute(entry.relative),
                    entry.position
                ));
                break;
            }
            self.index.pass();
        }
        while let Some(entry) = self.times.next().filter(|entry| entry.relative <= relative) {
            if Some(entry) != self.good.latest {
                let (time, offset) = (entry.timestamp, self.absolute(entry.relative));
                self.times
                    .deny(format!("it says that {time} is the largest timestamp up to offset {offset} and first there, which is not so"));
                break;
            }
            self.times.pass();
        }
    }

    fn absolute(&self, relative: u32) -> u64 {
        self.claims.base.get() + u64::from(relative)
    }

    /// Takes note of passing the place up to which the segment is vouched for.
    fn pass_vouched(&mut self) {
        let at = |known: &Vouched| {
            known.bytes == self.good.bytes && known.end == self.good.end && known.max_timestamp == self.good.max_timestamp
        };
        self.vouched_seen |= self.claims.known.is_some_and(at);
    }

    fn find(&mut self, kind: Kind, path: PathBuf, position: u64, reason: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding::damage(kind, path, position, reason));
        }
    }

    /// What ends the good part: `damage` behind the last batch, or an offset that has been passed over.
    fn stop(&mut self, damage: Option<String>) -> Option<String> {
        let fits = self.claims.next.is_none_or(|next| self.good.end == next);
        if let Some((before, why)) = self.first_jump.take() {
            if !self.claims.may_have_gaps && (damage.is_some() || !fits) {
                self.good = before;
                return Some(why);
            }
            self.first_jump = Some((before, why));
        }
        damage
    }

    fn finish(mut self, length: u64, stop: Option<Damage>, behind: Option<Offset>, has_head: bool) -> Seen {
        let Claims { base, path, next, known, may_have_gaps, has_indexes, is_read, .. } = self.claims;
        let is_whole = stop.is_none();
        let indexes = self.index_findings(is_whole);
        let is_as_vouched = known.map(|_| self.vouched_seen);
        let believed = known.map_or(0, |known| match next {
            _ if is_read => 0,
            Some(next) if known.end == next && known.bytes == length && self.index.is_there() && self.times.is_there() => u64::MAX,
            // Without its indexes the last one is read whole, and its first header always is.
            None if self.sums_match && known.bytes <= length && has_head => known.bytes,
            _ => 0,
        });
        let has_gaps = self.first_jump.is_some();
        let gap = self.first_jump.take().filter(|_| is_whole && !may_have_gaps).map(|(before, why)| (before.bytes, why));
        Seen {
            base,
            path: path.to_owned(),
            length,
            good: self.good,
            stop,
            behind,
            gap,
            has_gaps,
            indexes: if has_indexes { indexes } else { Indexes::Good },
            is_as_vouched,
            sums_match: self.sums_match || !has_indexes,
            believed,
            epochs: self.epochs,
            findings: self.findings,
        }
    }

    /// What is wrong with the indexes. Behind the last good batch nobody knows.
    fn index_findings(&mut self, is_whole: bool) -> Indexes {
        if !self.claims.has_indexes {
            return Indexes::Good;
        }
        let (end, bytes) = (self.good.end, self.good.bytes);
        if is_whole && self.index.next().is_some() {
            self.index.deny(format!("it names a place behind the segment's {bytes} bytes"));
        }
        if is_whole && self.times.next().is_some() {
            self.times.deny(format!("it names an offset behind the segment's end at {end}"));
        }
        // The last segment has indexes once something is vouched for.
        let is_wanted = self.claims.next.is_some() || self.claims.known.is_some();
        let sums = self.claims.known.filter(|_| !self.sums_match);
        let mut state = Indexes::Good;
        let states = [("index", Kind::Index, self.index.state()), ("timeindex", Kind::TimeIndex, self.times.state())];
        if states.iter().all(|(_, _, state)| *state == Some(Wrong::Missing)) && !is_wanted {
            return Indexes::Absent;
        }
        let mut told = false;
        for (suffix, kind, state_of) in states {
            let Some(wrong) = state_of else { continue };
            (state, told) = (Indexes::Bad, true);
            self.findings.push(Finding::note(kind, self.claims.path.with_extension(suffix), wrong.position(), again(&wrong.reason())));
        }
        if !told && sums.is_some() {
            state = Indexes::Bad;
            let reason = "they are not what segment-checkpoint vouches for";
            self.findings.push(Finding::note(Kind::Index, self.claims.path.with_extension("index"), 0, again(reason)));
        }
        state
    }
}

fn again(reason: &str) -> String {
    format!("{reason}; it is made again from the log")
}
