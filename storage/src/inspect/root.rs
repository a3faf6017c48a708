//! The data directory: its own files, the partitions in it, and looking again where a node may have been writing.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tidegate_types::{Offset, TopicId, TopicName, TopicPartition};

use super::survey::{Small, read, survey};
use super::{Finding, Kind, Summary, log_files, partition_of};
use crate::Error;
use crate::checkpoint::{self, FIRST_DIRTY, HIGH_WATERMARK, LOG_START, RECOVERY_POINT};
use crate::compact::SWAP;
use crate::io::Io;
use crate::store::{parse_topic_id, read_identity};

/// What [`verify_all`] has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The partitions, by name.
    pub partitions: Vec<Checked>,
    /// What there is to say of the data directory's own files, and of what they say.
    pub root: Summary,
}

/// A partition that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its directory.
    pub directory: PathBuf,
    /// What it holds.
    pub summary: Summary,
}

/// Checks a data directory, or one partition's directory, as [`super::verify`] does.
///
/// Beside a running node a batch may be read while it is being written, or a file vanish. So where there is something to say, `again` is asked, with how many
/// looks there were, whether to look again; then only what each look has seen is believed.
///
/// # Errors
/// [`Error::Io`]; [`Error::Directory`] if there is nothing to check.
pub fn verify_all(io: &dyn Io, path: &Path, again: &mut dyn FnMut(u32) -> bool) -> Result<Report, Error> {
    let (directories, is_root) = partitions(io, path)?;
    let mut report = Report::default();
    for directory in directories {
        let look = || {
            let notes = Notes::around(io, &directory)?;
            let mut summary = survey(io, &directory, &notes)?.summary;
            if !is_root {
                notes.findings.into_iter().for_each(|finding| summary.find(finding));
            }
            Ok(summary)
        };
        match settled(again, look) {
            // Its topic was deleted meanwhile.
            Err(error) if is_root && is_gone(&error) && io.list(&directory).is_err_and(|e| e.kind() == ErrorKind::NotFound) => {}
            summary => report.partitions.push(Checked { summary: summary?, directory }),
        }
    }
    if is_root {
        report.root = settled(again, || check_root(io, path))?;
    }
    Ok(report)
}

/// Looks until nothing is found, or nobody wants another look: what is found is what all looks have found.
fn settled(again: &mut dyn FnMut(u32) -> bool, mut look: impl FnMut() -> Result<Summary, Error>) -> Result<Summary, Error> {
    let mut seen = look();
    for looks in 1.. {
        let is_settled = match &seen {
            Ok(summary) => summary.findings.is_empty() && summary.notes.is_empty(),
            Err(error) => !is_gone(error),
        };
        if is_settled || !again(looks) {
            break;
        }
        let mut now = look();
        if let (Ok(seen), Ok(now)) = (&seen, &mut now) {
            let same = |a: &Finding, b: &Finding| (a.kind, &a.path, a.position) == (b.kind, &b.path, b.position);
            let seen: Vec<_> = seen.findings.iter().chain(&seen.notes).collect();
            now.findings.retain(|finding| seen.iter().any(|seen| same(seen, finding)));
            now.notes.retain(|finding| seen.iter().any(|seen| same(seen, finding)));
        }
        seen = now;
    }
    seen
}

/// Whether a file that was listed was not there any more.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

/// The directories of partitions that a path names, in order, and whether it is the data directory around them.
///
/// # Errors
/// [`Error::Io`]; [`Error::Directory`] if there are none, and the path is no data directory either.
pub(super) fn partitions(io: &dyn Io, path: &Path) -> Result<(Vec<PathBuf>, bool), Error> {
    let entries = io.list(path).map_err(Error::io("list", path))?;
    let is_partition = entries.iter().any(|entry| entry.name == "partition.metadata" && !entry.is_dir);
    if is_partition || holds_segments(io, path)? {
        return Ok((vec![path.to_owned()], false));
    }
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_dir) {
        let directory = path.join(&entry.name);
        // What lies beside them, such as what a repair has set aside, is no partition.
        if partition_of(&directory).is_some()
            && (holds_segments(io, &directory)? || io.length(&directory.join("partition.metadata")).is_ok())
        {
            found.push(directory);
        }
    }
    if found.is_empty() && !is_data_directory(io, path)? {
        return Err(Error::Directory { path: path.to_owned(), reason: "no partition's directory is here".to_owned() });
    }
    found.sort_unstable();
    Ok((found, true))
}

fn holds_segments(io: &dyn Io, directory: &Path) -> Result<bool, Error> {
    if !log_files(io, directory)?.is_empty() {
        return Ok(true);
    }
    let entries = io.list(directory).map_err(Error::io("list", directory))?;
    Ok(entries.iter().any(|entry| !entry.is_dir && entry.name.ends_with(SWAP)))
}

/// Whether a node has made that directory its own.
pub(super) fn is_data_directory(io: &dyn Io, path: &Path) -> Result<bool, Error> {
    let entries = io.list(path).map_err(Error::io("list", path))?;
    Ok(entries.iter().any(|entry| !entry.is_dir && [".lock", "meta.properties"].contains(&entry.name.as_str())))
}

/// What a data directory's checkpoints say of each partition.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    starts: BTreeMap<TopicPartition, Offset>,
    recovery_points: BTreeMap<TopicPartition, Offset>,
    first_dirty: BTreeMap<TopicPartition, Offset>,
    readable: BTreeMap<TopicPartition, Offset>,
    /// The names of those that are damaged.
    pub(super) damaged: Vec<&'static str>,
    /// What is wrong with the files themselves.
    pub(super) findings: Vec<Finding>,
}

/// What they say of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) start: Option<Offset>,
    pub(super) recovery_point: Option<Offset>,
    pub(super) first_dirty: Option<Offset>,
    pub(super) readable: Option<Offset>,
}

impl Notes {
    /// Those of the data directory around a partition's.
    pub(super) fn around(io: &dyn Io, directory: &Path) -> Result<Self, Error> {
        match (partition_of(directory), directory.parent()) {
            (Some(_), Some(root)) => Self::read(io, root),
            _ => Ok(Self::default()),
        }
    }

    /// Reads them all.
    pub(super) fn read(io: &dyn Io, root: &Path) -> Result<Self, Error> {
        let mut notes = Self::default();
        // The recovery points first: beside a running node, logs only grow after that.
        let Self { recovery_points, starts, first_dirty, readable, .. } = &mut notes;
        let mut damaged = Vec::new();
        for (name, into) in [(RECOVERY_POINT, recovery_points), (HIGH_WATERMARK, readable), (LOG_START, starts), (FIRST_DIRTY, first_dirty)]
        {
            match read(io, &root.join(name), checkpoint::parse)? {
                Small::Says(offsets) => *into = offsets,
                Small::Absent => {}
                Small::Damaged => damaged.push(name),
            }
        }
        let finding = |name: &&'static str| {
            if *name == HIGH_WATERMARK {
                return Finding::note(Kind::OffsetCheckpoint, root.join(name), 0, "not a checkpoint of offsets; the node begins it anew");
            }
            Finding::damage(Kind::OffsetCheckpoint, root.join(name), 0, "not a checkpoint of offsets; the node does not start with it")
        };
        notes.findings = damaged.iter().map(finding).collect();
        notes.damaged = damaged;
        Ok(notes)
    }

    pub(super) fn of(&self, tp: &TopicPartition) -> Noted {
        let get = |offsets: &BTreeMap<TopicPartition, Offset>| offsets.get(tp).copied();
        Noted {
            start: get(&self.starts),
            recovery_point: get(&self.recovery_points),
            first_dirty: get(&self.first_dirty),
            readable: get(&self.readable),
        }
    }

    pub(super) fn starts_are_lost(&self) -> bool {
        self.damaged.contains(&LOG_START)
    }

    pub(super) fn first_dirty_is_lost(&self) -> bool {
        self.damaged.contains(&FIRST_DIRTY)
    }
}

/// Checks the data directory's own files.
pub(super) fn check_root(io: &dyn Io, root: &Path) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    let notes = Notes::read(io, root)?;
    let (directories, _) = partitions(io, root)?;
    let there: Vec<_> = directories.iter().filter_map(|directory| partition_of(directory)).collect();
    let Notes { recovery_points, starts, first_dirty, readable, .. } = &notes;
    for (name, offsets) in [(RECOVERY_POINT, recovery_points), (HIGH_WATERMARK, readable), (LOG_START, starts), (FIRST_DIRTY, first_dirty)]
    {
        for (tp, offset) in offsets.iter().filter(|(tp, _)| !there.contains(tp)) {
            let path = root.join(name);
            summary.find(if *offset > Offset::ZERO && name != FIRST_DIRTY {
                let reason = format!("it says {offset} of {tp}, which has no directory here, or none with a log in it");
                Finding::damage(Kind::OffsetCheckpoint, path, 0, reason)
            } else {
                Finding::note(Kind::OffsetCheckpoint, path, 0, format!("it names {tp}, which has no directory here"))
            });
        }
    }
    notes.findings.into_iter().for_each(|finding| summary.find(finding));
    let path = root.join("meta.properties");
    match read_identity(io, root) {
        Ok(Some(_)) => {}
        Ok(None) if is_data_directory(io, root)? => {
            summary.find(Finding::note(
                Kind::MetaProperties,
                path,
                0,
                "it is lost; the next start makes another, with another directory id",
            ));
        }
        Ok(None) => {}
        Err(Error::Corrupt { reason, .. } | Error::Directory { reason, .. }) => {
            summary.find(Finding::damage(Kind::MetaProperties, path, 0, reason))
        }
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::InvalidData => {
            summary.find(Finding::damage(Kind::MetaProperties, path, 0, source.to_string()));
        }
        Err(error) => return Err(error),
    }
    check_topics(io, &directories, &mut summary)?;
    Ok(summary)
}

/// All partitions of a topic have its id.
fn check_topics(io: &dyn Io, directories: &[PathBuf], summary: &mut Summary) -> Result<(), Error> {
    let mut first: BTreeMap<TopicName, (TopicId, &PathBuf)> = BTreeMap::new();
    for directory in directories {
        let path = directory.join("partition.metadata");
        let (Some(tp), Small::Says(topic)) = (partition_of(directory), read(io, &path, parse_topic_id)?) else { continue };
        let (known, of) = *first.entry(tp.topic).or_insert((topic, directory));
        if known != topic {
            let reason =
                format!("it names topic id {topic}, but {} names {known}: a node does not open what is of another topic", of.display());
            summary.find(Finding::damage(Kind::PartitionMetadata, path, 0, reason));
        }
    }
    Ok(())
}
