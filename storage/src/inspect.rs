//! Looking into log files for people: what stands in them, and whether it is whole. Reads only; needs no lock and no node.

use std::path::{Path, PathBuf};

use tidegate_types::{Offset, StoredBatch};

use crate::Error;
use crate::io::Io;
use crate::recovery::scan;
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
    /// Records that they say they hold.
    pub records: u64,
    /// Bytes of good batches.
    pub bytes: u64,
    /// What is wrong; empty if all is well.
    pub findings: Vec<Finding>,
}

/// The segment files of a partition's directory, by base offset.
///
/// # Errors
/// [`Error::Io`] if it can't be listed.
pub fn segments(io: &dyn Io, directory: &Path) -> Result<Vec<(Offset, PathBuf)>, Error> {
    let entries = io.list(directory).map_err(Error::io("list", directory))?;
    let mut bases: Vec<_> = entries.iter().filter_map(|entry| parse_file_name(&entry.name)).collect();
    bases.sort_unstable();
    Ok(bases.into_iter().map(|base| (base, directory.join(file_name(base, "log")))).collect())
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
    let damage = scan(file.as_ref(), &mut counted).map_err(Error::io("read", path))?;
    Ok(damage.map(|reason| Finding { path: path.to_owned(), position: end, reason }))
}

/// Checks a partition's directory: every CRC, every record, offsets without a gap over all segments.
///
/// # Errors
/// [`Error::Io`]; what is wrong with the data is in the summary.
pub fn verify(io: &dyn Io, directory: &Path) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    let mut expected: Option<Offset> = None;
    for (base, path) in segments(io, directory)? {
        summary.segments += 1;
        if let Some(end) = expected.filter(|end| *end != base) {
            let reason = format!("the segment begins at offset {base}, but the one before ends at {end}");
            summary.findings.push(Finding { path: path.clone(), position: 0, reason });
        }
        let mut next = base;
        let finding = dump(io, &path, &mut |_, batch| {
            if batch.header.first_offset() != next {
                return Err(format!("the batch begins at offset {}, but {next} comes next", batch.header.base_offset));
            }
            let records = batch.records().map_err(|error| error.to_string())?;
            let walked = records.iter().collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
            next = batch.header.last_offset().next();
            summary.batches += 1;
            summary.records += walked.len() as u64;
            summary.bytes += batch.bytes().len() as u64;
            Ok(())
        })?;
        expected = finding.is_none().then_some(next);
        summary.findings.extend(finding);
    }
    Ok(summary)
}
