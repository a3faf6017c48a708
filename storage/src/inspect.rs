//! Looking into a data directory for people: what stands in its files, whether it is whole, and what to do where it is not. Looking needs no lock and no
//! node, and changes nothing; only a [`Repair`] that is applied does.
//!
//! ```text
//!   walk      one segment against all that is said of it; its index entries are in `entries`
//!   survey    one partition: its segments and its own files           ─┐
//!   root      the data directory's own files; who looks again, and when ┴─> findings ─> verify
//!   repair    surveys ─> actions, a pure function                         ─> a plan
//!   mend      does them
//!   files     single files, to be shown
//! ```
//!
//! *Damage* is data that is lost or wrong. A *note* is about what the next start makes again or takes away by itself: an index, a checkpoint that saves time,
//! a torn tail that was never acknowledged.

use std::path::{Path, PathBuf};

use tidegate_types::{Offset, PartitionIndex, StoredBatch, TopicName, TopicPartition};

use crate::Error;
use crate::checkpoint::{LOG_START, read_offsets};
use crate::compact::with_swaps;
use crate::io::Io;
use crate::log::without_given_up;
use crate::recovery::scan;
use crate::segment::{file_name, parse_file_name};

mod behind;
mod entries;
mod files;
mod mend;
mod repair;
mod root;
mod survey;
mod walk;

pub use files::{Shown, is_small_file, show};
pub use mend::Repair;
pub use repair::{Action, Lost, Plan};
pub use root::{Checked, Report, verify_all};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Data is lost or wrong.
    Damage,
    /// The next start sees to it, and nothing is lost.
    Note,
}

impl Severity {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::Note => "note",
        }
    }
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// No whole, good batch stands where one should.
    Batch,
    /// A batch is what was written, but not its records.
    Record,
    /// Segments are missing, or do not follow one another.
    Segment,
    /// Offsets are missing in a segment that was not compacted.
    Gap,
    /// What a write that was cut off has left.
    TornTail,
    /// `.index`.
    Index,
    /// `.timeindex`.
    TimeIndex,
    /// `segment-checkpoint`.
    SegmentCheckpoint,
    /// `leader-epoch-checkpoint`, or a batch that contradicts it.
    LeaderEpoch,
    /// `.snapshot` or `.idempotency`: what is kept of producers.
    Producers,
    /// `partition.metadata`.
    PartitionMetadata,
    /// A checkpoint of offsets in the data directory.
    OffsetCheckpoint,
    /// `meta.properties`.
    MetaProperties,
}

impl Kind {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Record => "record",
            Self::Segment => "segment",
            Self::Gap => "gap",
            Self::TornTail => "torn-tail",
            Self::Index => "index",
            Self::TimeIndex => "time-index",
            Self::SegmentCheckpoint => "segment-checkpoint",
            Self::LeaderEpoch => "leader-epoch",
            Self::Producers => "producers",
            Self::PartitionMetadata => "partition-metadata",
            Self::OffsetCheckpoint => "offset-checkpoint",
            Self::MetaProperties => "meta-properties",
        }
    }
}

/// A finding of [`verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub kind: Kind,
    /// The file.
    pub path: PathBuf,
    /// Where it begins.
    pub position: u64,
    /// What it is.
    pub reason: String,
}

impl Finding {
    fn damage(kind: Kind, path: impl Into<PathBuf>, position: u64, reason: impl Into<String>) -> Self {
        Self { severity: Severity::Damage, kind, path: path.into(), position, reason: reason.into() }
    }

    fn note(kind: Kind, path: impl Into<PathBuf>, position: u64, reason: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::damage(kind, path, position, reason) }
    }
}

/// What [`verify`] has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Segments read.
    pub segments: usize,
    /// Good batches.
    pub batches: u64,
    /// Records that they hold, without those of the first batches that a trim has given up.
    pub records: u64,
    /// Bytes of good batches.
    pub bytes: u64,
    /// What is lost or wrong; empty if all is well.
    pub findings: Vec<Finding>,
    /// What the next start sees to.
    pub notes: Vec<Finding>,
}

impl Summary {
    fn find(&mut self, finding: Finding) {
        match finding.severity {
            Severity::Damage => self.findings.push(finding),
            Severity::Note => self.notes.push(finding),
        }
    }
}

/// The segment files of a partition's log, by base offset: as the next start would find them, which removes what a trim has given up, and
/// installs what a compaction has written.
///
/// # Errors
/// [`Error::Io`] if it can't be listed; [`Error::Corrupt`] if the data directory's file of log starts is none.
pub fn segments(io: &dyn Io, directory: &Path) -> Result<Vec<(Offset, PathBuf)>, Error> {
    let all = with_swaps(io, directory, log_files(io, directory)?)?;
    if all.is_empty() {
        return Ok(all);
    }
    Ok(without_given_up(all, log_start(io, directory)?))
}

/// What stands in a directory under the name of a segment, in order.
fn log_files(io: &dyn Io, directory: &Path) -> Result<Vec<(Offset, PathBuf)>, Error> {
    let entries = io.list(directory).map_err(Error::io("list", directory))?;
    let mut bases: Vec<_> = entries.iter().filter(|entry| !entry.is_dir).filter_map(|entry| parse_file_name(&entry.name)).collect();
    bases.sort_unstable();
    Ok(bases.into_iter().map(|base| (base, directory.join(file_name(base, "log")))).collect())
}

/// Where the log in a directory begins, as the data directory around it notes; 0 where none does (a copy of one partition).
fn log_start(io: &dyn Io, directory: &Path) -> Result<Offset, Error> {
    let (Some(tp), Some(root)) = (partition_of(directory), directory.parent()) else { return Ok(Offset::ZERO) };
    Ok(read_offsets(io, &root.join(LOG_START))?.get(&tp).copied().unwrap_or(Offset::ZERO))
}

/// Whose directory that is, by its name.
fn partition_of(directory: &Path) -> Option<TopicPartition> {
    let name = directory.file_name()?.to_str()?;
    let (topic, partition) = name.rsplit_once('-')?;
    let tp = TopicPartition { topic: TopicName::new(topic).ok()?, partition: PartitionIndex::new(partition.parse().ok()?) };
    // Not `orders-007`.
    (tp.to_string() == name).then_some(tp)
}

/// Shows every batch of a `.log` file with its position. Gives what is wrong behind the last good one, if anything is.
///
/// # Errors
/// [`Error::Io`].
pub fn dump(io: &dyn Io, path: &Path, show: &mut dyn FnMut(u64, &StoredBatch) -> Result<(), String>) -> Result<Option<Finding>, Error> {
    let file = io.open(path).map_err(Error::io("open", path))?;
    let mut end = 0;
    let mut counted = |position, batch: &StoredBatch| {
        show(position, batch)?;
        end = position + batch.bytes().len() as u64;
        Ok(())
    };
    let damage = scan(file.as_ref(), 0, &mut counted).map_err(Error::io("read", path))?;
    Ok(damage.map(|reason| Finding::damage(Kind::Batch, path, end, reason)))
}

/// Checks a partition's directory, once: every CRC, every record, offsets without a gap over all segments but where it was compacted; and what its other files,
/// and those of the data directory around it, say of that.
///
/// # Errors
/// [`Error::Io`]; what is wrong with the data is in the summary.
pub fn verify(io: &dyn Io, directory: &Path) -> Result<Summary, Error> {
    let notes = root::Notes::around(io, directory)?;
    let mut summary = survey::survey(io, directory, &notes)?.summary;
    notes.findings.into_iter().for_each(|finding| summary.find(finding));
    Ok(summary)
}

#[cfg(test)]
mod tests;
