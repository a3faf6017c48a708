//! Looking into log files for people: what stands in them, and whether it is whole. Reads only; needs no lock and no node.

use std::path::{Path, PathBuf};

use tidegate_types::{Offset, PartitionIndex, StoredBatch, TopicName, TopicPartition};

use crate::Error;
use crate::checkpoint::{FIRST_DIRTY, LOG_START, read_offsets};
use crate::compact::with_swaps;
use crate::io::Io;
use crate::log::without_given_up;
use crate::recovery::{check_next, scan};
use crate::segment::{file_name, parse_file_name};

/// A finding of [`verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Where the damage begins.
    pub position: u64,
    /// What it is.
    pub reason: String,
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
    /// What is wrong; empty if all is well.
    pub findings: Vec<Finding>,
}

/// The segment files of a partition's log, by base offset: as the next start would find them, which removes what a trim has given up, and
/// installs what a compaction has written.
///
/// # Errors
/// [`Error::Io`] if it can't be listed; [`Error::Corrupt`] if the data directory's file of log starts is none.
pub fn segments(io: &dyn Io, directory: &Path) -> Result<Vec<(Offset, PathBuf)>, Error> {
    let all = all_segments(io, directory)?;
    if all.is_empty() {
        return Ok(all);
    }
    Ok(without_given_up(all, log_start(io, directory)?))
}

fn all_segments(io: &dyn Io, directory: &Path) -> Result<Vec<(Offset, PathBuf)>, Error> {
    let entries = io.list(directory).map_err(Error::io("list", directory))?;
    let mut bases: Vec<_> = entries.iter().filter_map(|entry| parse_file_name(&entry.name)).collect();
    bases.sort_unstable();
    with_swaps(io, directory, bases.into_iter().map(|base| (base, directory.join(file_name(base, "log")))).collect())
}

/// Where the log in a directory begins, as the data directory around it notes; 0 where none does (a copy of one partition).
fn log_start(io: &dyn Io, directory: &Path) -> Result<Offset, Error> {
    Ok(noted(io, directory, LOG_START)?.unwrap_or(Offset::ZERO))
}

/// What the data directory around a log says of it in one of its checkpoints.
fn noted(io: &dyn Io, directory: &Path, checkpoint: &str) -> Result<Option<Offset>, Error> {
    let name = directory.file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit_once('-'));
    let named = name.and_then(|(topic, partition)| {
        Some(TopicPartition { topic: TopicName::new(topic).ok()?, partition: PartitionIndex::new(partition.parse().ok()?) })
    });
    let (Some(tp), Some(root)) = (named, directory.parent()) else { return Ok(None) };
    Ok(read_offsets(io, &root.join(checkpoint))?.get(&tp).copied())
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
    Ok(damage.map(|reason| Finding { path: path.to_owned(), position: end, reason }))
}

/// Checks a partition's directory: every CRC, every record, offsets without a gap over all segments but where it was compacted.
///
/// # Errors
/// As [`segments`]; what is wrong with the data is in the summary.
pub fn verify(io: &dyn Io, directory: &Path) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    let mut expected: Option<Offset> = None;
    let log_start = log_start(io, directory)?;
    let (was_compacted, segments) =
        (noted(io, directory, FIRST_DIRTY)?.is_some(), without_given_up(all_segments(io, directory)?, log_start));
    let active = segments.last().map(|(base, _)| *base);
    for (base, path) in segments {
        summary.segments += 1;
        if let Some(end) = expected.filter(|end| *end != base) {
            let reason = format!("the segment begins at offset {base}, but the one before ends at {end}");
            summary.findings.push(Finding { path: path.clone(), position: 0, reason });
        }
        let mut next = base;
        let finding = dump(io, &path, &mut |_, batch| {
            check_next(&batch.header, next, was_compacted && Some(base) != active)?;
            let records = batch.records().map_err(|error| error.to_string())?;
            let walked = records.iter().collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
            next = batch.header.last_offset().next();
            summary.batches += 1;
            summary.records += walked.iter().filter(|record| record.offset >= log_start).count() as u64;
            summary.bytes += batch.bytes().len() as u64;
            Ok(())
        })?;
        expected = finding.is_none().then_some(next);
        summary.findings.extend(finding);
    }
    if let Some(end) = expected.filter(|end| *end < log_start) {
        let reason = format!("the log ends at offset {end}, but everything below {log_start} was synced before it was trimmed");
        summary.findings.push(Finding { path: directory.to_owned(), position: 0, reason });
    }
    Ok(summary)
}
