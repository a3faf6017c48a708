//! One partition: its segments, what its small files say of them, and what a start would make of it.

use std::path::{Path, PathBuf};

use tidegate_types::{LeaderEpoch, Offset, TopicId, TopicPartition};

use super::files::decode_kept;
use super::root::Notes;
use super::walk::{Claims, Indexes, Seen, walk};
use super::{Finding, Kind, Summary, log_files, partition_of};
use crate::Error;
use crate::compact::{CLEANED, SWAP, with_good_swaps};
use crate::epochs::{self, Epochs};
use crate::error::is_short_of_handles;
use crate::io::{DirEntry, Io, read_small};
use crate::log::without_given_up;
use crate::producers::{file, snapshot};
use crate::recovery::{Trust, why_refused};
use crate::segment::parse_file_name_of;
use crate::store::{UNSYNCED_BYTES_MAX, parse_topic_id};
use crate::vouched::{self, Vouched};

/// A small file: what it says, if it says anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Small<T> {
    Absent,
    Damaged,
    Says(T),
}

impl<T> Small<T> {
    /// What it says.
    pub(super) fn says(&self) -> Option<&T> {
        match self {
            Self::Says(said) => Some(said),
            Self::Absent | Self::Damaged => None,
        }
    }
}

/// Reads a small file. One that cannot be read, or is far too large for that, is damaged.
pub(super) fn read<T>(io: &dyn Io, path: &Path, parse: impl Fn(&[u8]) -> Option<T>) -> Result<Small<T>, Error> {
    match read_small(io, path) {
        Ok(None) => Ok(Small::Absent),
        Ok(Some(bytes)) => Ok(parse(&bytes).map_or(Small::Damaged, Small::Says)),
        Err(error) if is_short_of_handles(&error) => Err(Error::io("read", path)(error)),
        Err(_) => Ok(Small::Damaged),
    }
}

/// A partition as it stands.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    pub(super) directory: PathBuf,
    pub(super) tp: Option<TopicPartition>,
    /// Where the log begins, by its note; or, if that cannot be read, by what else there is.
    pub(super) start: Offset,
    pub(super) recovery_point: Offset,
    pub(super) first_dirty: Option<Offset>,
    /// Everything below was readable.
    pub(super) readable: Option<Offset>,
    pub(super) vouched: Small<Vec<Vouched>>,
    pub(super) epochs: Small<Epochs>,
    pub(super) topic: Small<TopicId>,
    /// Kept by the next start, in order, as it would find them once it has completed a compaction.
    pub(super) segments: Vec<Seen>,
    /// The last one ends in what the next start cuts.
    pub(super) is_torn: bool,
    /// A compaction was cut off.
    pub(super) is_unsettled: bool,
    /// Written by a compaction, and damaged since.
    pub(super) bad_swaps: Vec<PathBuf>,
    /// What was kept of producers, and cannot be read.
    pub(super) damaged_producers: Vec<PathBuf>,
    pub(super) summary: Summary,
}

/// Reads all of a partition.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn survey(io: &dyn Io, directory: &Path, notes: &Notes) -> Result<Survey, Error> {
    let tp = partition_of(directory);
    // First what speaks of the others: beside a running node it may be older than they are, but not newer.
    let vouched = read(io, &directory.join(vouched::FILE), vouched::parse)?;
    let epochs = read(io, &directory.join(epochs::FILE), Epochs::parse)?;
    let topic = read(io, &directory.join("partition.metadata"), parse_topic_id)?;
    let noted = tp.as_ref().map(|tp| notes.of(tp)).unwrap_or_default();
    let bases = log_files(io, directory)?;
    let is_in_first = |start: &Offset| bases.get(1).is_some_and(|(second, _)| start < second) || bases.len() == 1;
    // Who has led the log tells where it began, if nothing else does; but not that segments which are there were given up.
    let guessed = epochs.says().and_then(|epochs| epochs.entries().first().map(|(_, start)| *start));
    let guessed = guessed.filter(|_| notes.starts_are_lost()).filter(is_in_first);
    let entries = io.list(directory).map_err(Error::io("list", directory))?;
    let mut survey = Survey {
        directory: directory.to_owned(),
        tp,
        start: noted.start.or(guessed).unwrap_or(Offset::ZERO),
        recovery_point: noted.recovery_point.unwrap_or(Offset::ZERO),
        first_dirty: noted.first_dirty,
        readable: noted.readable,
        vouched,
        epochs,
        topic,
        segments: Vec::new(),
        is_torn: false,
        is_unsettled: entries.iter().any(|entry| !entry.is_dir && (entry.name.ends_with(SWAP) || entry.name.ends_with(CLEANED))),
        bad_swaps: Vec::new(),
        damaged_producers: damaged_producers(io, directory, &entries)?,
        summary: Summary::default(),
    };
    let files = survey.list(io)?;
    let may_have_gaps = noted.first_dirty.is_some() || notes.first_dirty_is_lost();
    survey.walk(io, &files, may_have_gaps)?;
    survey.check_order(io)?;
    survey.check_vouched();
    survey.check_small_files();
    Ok(survey)
}

fn damaged_producers(io: &dyn Io, directory: &Path, entries: &[DirEntry]) -> Result<Vec<PathBuf>, Error> {
    let mut damaged = Vec::new();
    for entry in entries {
        let path = directory.join(&entry.name);
        let is_damaged = if parse_file_name_of(&entry.name, snapshot::SUFFIX).is_some() {
            matches!(read(io, &path, snapshot::decode)?, Small::Damaged)
        } else if parse_file_name_of(&entry.name, file::SUFFIX).is_some() {
            matches!(read(io, &path, decode_kept)?, Small::Damaged)
        } else {
            false
        };
        damaged.extend(is_damaged.then_some(path));
    }
    Ok(damaged)
}

impl Survey {
    /// What is vouched for.
    pub(super) fn known(&self) -> &[Vouched] {
        self.vouched.says().map_or(&[], Vec::as_slice)
    }

    /// Everything below was synced: a log that ends before it has lost something.
    pub(super) fn synced(&self) -> Offset {
        self.known().iter().map(|known| known.end).max().unwrap_or(Offset::ZERO).max(self.recovery_point).max(self.start)
    }

    /// The epochs as the batches have them, if they rise.
    pub(super) fn epochs_of_batches(&self) -> Option<Epochs> {
        let mut all: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for segment in &self.segments {
            for (epoch, start) in segment.epochs.as_ref()? {
                if *start < segment.good.end && all.last().is_none_or(|(last, _)| last != epoch) {
                    all.push((*epoch, *start));
                }
            }
        }
        Epochs::of(all)
    }

    /// The files that the next start goes by.
    fn list(&mut self, io: &dyn Io) -> Result<Vec<(Offset, PathBuf)>, Error> {
        let (files, refused) = with_good_swaps(io, &self.directory, log_files(io, &self.directory)?)?;
        for error in refused {
            if let Error::Corrupt { path, position, reason } = error {
                self.bad_swaps.push(path.clone());
                self.summary.find(Finding::damage(Kind::Batch, path, position, reason));
            }
        }
        Ok(if files.is_empty() { files } else { without_given_up(files, self.start) })
    }

    fn walk(&mut self, io: &dyn Io, files: &[(Offset, PathBuf)], may_have_gaps: bool) -> Result<(), Error> {
        let synced = self.synced();
        for (place, (base, path)) in files.iter().enumerate() {
            let has_indexes = path.extension().is_some_and(|extension| extension == "log");
            let known = self.known().iter().find(|known| known.base == *base && has_indexes);
            let seen = walk(
                io,
                Claims {
                    base: *base,
                    path,
                    next: files.get(place + 1).map(|(next, _)| *next),
                    known,
                    may_have_gaps,
                    synced,
                    has_indexes,
                    start: self.start,
                    epochs: self.epochs.says(),
                    // Who has led the log is read from it then.
                    is_read: self.epochs == Small::Damaged,
                },
            )?;
            let summary = &mut self.summary;
            summary.segments += 1;
            summary.batches += seen.good.batches;
            summary.records += seen.good.records;
            summary.bytes += seen.good.bytes;
            seen.findings.iter().for_each(|finding| summary.find(finding.clone()));
            if let Some((position, reason)) = &seen.gap {
                summary.find(Finding::damage(Kind::Gap, path, *position, reason.clone()));
            }
            self.segments.push(seen);
        }
        Ok(())
    }

    /// Whether segments follow one another, and what stands behind the last good batches.
    fn check_order(&mut self, io: &dyn Io) -> Result<(), Error> {
        let mut found = Vec::new();
        let synced = self.synced();
        let first = self.segments.first().map_or(Offset::MAX, |first| first.base);
        if let Some(lost) = self.known().iter().find(|known| known.base < first && known.end > self.start && !self.segments.is_empty()) {
            let reason = format!("the segment that begins at offset {} is gone, but its records were not given up", lost.base);
            found.push(Finding::damage(Kind::Segment, &self.directory, 0, reason));
        }
        let mut expected: Option<Offset> = None;
        let last = self.segments.len().saturating_sub(1);
        for (place, seen) in self.segments.iter().enumerate() {
            if let Some(end) = expected.filter(|end| *end != seen.base) {
                let reason = format!("the segment begins at offset {}, but the one before ends at {end}", seen.base);
                found.push(Finding::damage(Kind::Segment, &seen.path, 0, reason));
            }
            expected = seen.stop.is_none().then_some(seen.good.end);
            let Some(damage) = &seen.stop else { continue };
            let mut reason = damage.reason.clone();
            if place == last && seen.stop_is_read() {
                let file = io.open(&seen.path).map_err(Error::io("open", &seen.path))?;
                let why = |unsynced_bytes_max| {
                    let trust = Trust { recovery_point: synced, unsynced_bytes_max };
                    why_refused(file.as_ref(), seen.good.bytes, damage, true, seen.good.end, trust).map_err(Error::io("read", &seen.path))
                };
                let Some(refused) = why(Some(UNSYNCED_BYTES_MAX))? else {
                    let reason = format!("{reason}: the end of a write that was cut off; the next start cuts {} bytes", damage.bytes);
                    found.push(Finding::note(Kind::TornTail, &seen.path, seen.good.bytes, reason));
                    self.is_torn = true;
                    expected = Some(seen.good.end);
                    continue;
                };
                reason = format!("{reason}; {refused}");
                if why(None)?.is_none() {
                    reason.push_str(" (of a topic with durability=replicated the next start cuts it)");
                }
            }
            found.push(Finding::damage(Kind::Batch, &seen.path, seen.good.bytes, reason));
        }
        if let Some(seen) = self.segments.last().filter(|last| last.has_gaps) {
            let reason = "offsets are missing in the last segment, which is not compacted before others follow it";
            found.push(Finding::damage(Kind::Gap, &seen.path, 0, reason));
        }
        if self.segments.is_empty() && synced > Offset::ZERO {
            let reason = format!("there is no segment, but everything below offset {synced} was synced");
            found.push(Finding::damage(Kind::Segment, &self.directory, 0, reason));
        }
        if let Some(end) = expected.filter(|end| *end < synced) {
            let when = if synced == self.start { " before it was trimmed" } else { "" };
            let reason = format!("the log ends at offset {end}, but everything below {synced} was synced{when}");
            found.push(Finding::damage(Kind::Segment, &self.directory, 0, reason));
        }
        if let (Some(end), Some(dirty)) = (expected, self.first_dirty)
            && dirty > end
        {
            let reason = format!("cleaner-offset-checkpoint says that it is compacted up to offset {dirty}, but it ends at {end}");
            found.push(Finding::damage(Kind::OffsetCheckpoint, &self.directory, 0, reason));
        }
        if let (Some(end), Some(readable)) = (expected, self.readable)
            && readable > end
        {
            // Where writes are not synced one by one, a machine that goes down may take along what was readable.
            let reason = format!("replication-offset-checkpoint says that it was readable up to offset {readable}, but it ends at {end}");
            found.push(Finding::note(Kind::OffsetCheckpoint, &self.directory, 0, reason));
        }
        found.into_iter().for_each(|finding| self.summary.find(finding));
        Ok(())
    }

    /// Whether `segment-checkpoint` claims no more than there is.
    fn check_vouched(&mut self) {
        let path = self.directory.join(vouched::FILE);
        let mut found = Vec::new();
        match &self.vouched {
            Small::Absent if self.segments.len() < 2 => {}
            Small::Absent => {
                found.push(Finding::note(
                    Kind::SegmentCheckpoint,
                    &path,
                    0,
                    "it is lost; the next start reads the log instead, and writes it again",
                ));
            }
            Small::Damaged => {
                found.push(Finding::note(
                    Kind::SegmentCheckpoint,
                    &path,
                    0,
                    "it is damaged; the next start reads the log instead, and writes it again",
                ));
            }
            Small::Says(known) => {
                for known in known {
                    let Some(seen) = self.segments.iter().find(|seen| seen.base == known.base) else { continue };
                    let is_reached = seen.stop.is_none() || seen.good.bytes >= known.bytes;
                    if seen.length < known.bytes {
                        let reason = format!("the file has {} bytes, but {} were synced", seen.length, known.bytes);
                        found.push(Finding::damage(Kind::Segment, &seen.path, seen.length, reason));
                    } else if is_reached && seen.good.end < known.end {
                        let reason = format!("the segment ends at offset {}, but everything below {} was synced", seen.good.end, known.end);
                        found.push(Finding::damage(Kind::Segment, &seen.path, seen.good.bytes, reason));
                    } else if is_reached && seen.is_as_vouched == Some(false) {
                        let reason = format!(
                            "it vouches for {} bytes of the segment that begins at offset {}, up to offset {}, and that is not what stands there",
                            known.bytes, known.base, known.end
                        );
                        found.push(Finding::damage(Kind::SegmentCheckpoint, &path, 0, reason));
                    }
                }
            }
        }
        found.into_iter().for_each(|finding| self.summary.find(finding));
    }

    fn check_small_files(&mut self) {
        let path = self.directory.join(epochs::FILE);
        let has_batches = self.summary.batches > 0;
        match &self.epochs {
            Small::Absent if has_batches => {
                self.summary.find(Finding::note(Kind::LeaderEpoch, path, 0, "it is lost; who has led the log is forgotten"));
            }
            Small::Absent => {}
            Small::Damaged => self.summary.find(Finding::note(
                Kind::LeaderEpoch,
                path,
                0,
                "it is damaged; the next start reads the log to write it again",
            )),
            Small::Says(epochs) => {
                let end = self.segments.last().filter(|last| last.stop.is_none() || self.is_torn).map(|last| last.good.end);
                let beyond = epochs.entries().iter().find(|(_, begun)| end.is_some_and(|end| *begun > end)).copied();
                let first = epochs.entries().first().copied();
                if let (Some((epoch, begun)), Some(end)) = (beyond, end) {
                    let reason = format!(
                        "it says that leader epoch {epoch} begins at offset {begun}, but the log ends at {end}; the next start forgets it"
                    );
                    self.summary.find(Finding::note(Kind::LeaderEpoch, path.clone(), 0, reason));
                }
                let begins = self.segments.first().map_or(self.start, |first| first.base.max(self.start));
                if let Some((_, begun)) = first.filter(|(_, begun)| *begun < begins && !self.segments.is_empty()) {
                    let reason =
                        format!("it begins at offset {begun}, but the log at {begins}: a trim was cut off, or one of both is wrong");
                    self.summary.find(Finding::note(Kind::LeaderEpoch, path, 0, reason));
                }
            }
        }
        if self.epochs.says().is_none() && self.epochs_of_batches().is_none() {
            let reason = "leader epochs of its batches fall: one of them is wrong";
            self.summary.find(Finding::damage(Kind::LeaderEpoch, &self.directory, 0, reason));
        }
        for path in &self.damaged_producers {
            let reason = "it is damaged; the next start reads the log to know who has written to it";
            self.summary.find(Finding::note(Kind::Producers, path.clone(), 0, reason));
        }
        let path = self.directory.join("partition.metadata");
        match &self.topic {
            Small::Absent if self.tp.is_some() && !self.segments.is_empty() => {
                let reason = "it is lost, and the node does not open the partition without it";
                self.summary.find(Finding::damage(Kind::PartitionMetadata, path, 0, reason));
            }
            Small::Damaged => self.summary.find(Finding::damage(Kind::PartitionMetadata, path, 0, "not a partition's metadata")),
            Small::Absent | Small::Says(_) => {}
        }
    }
}

impl Seen {
    /// Whether what a start may believe of it is there: its indexes, and that somebody vouches for both.
    pub(super) fn is_vouched_for(&self) -> bool {
        self.is_as_vouched == Some(true) && self.sums_match && self.indexes == Indexes::Good
    }
}
