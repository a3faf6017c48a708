//! What a start makes of a round that was cut off: what was being written goes, what was whole takes its place.

use std::path::{Path, PathBuf};

use tidegate_types::Offset;

use super::{CLEANED, SWAP};
use crate::Error;
use crate::error::is_unreadable;
use crate::io::Io;
use crate::log::remove_if_there;
use crate::recovery::scan;
use crate::segment::{file_name, parse_any_file_name};
use crate::vouched;

/// Completes or undoes what is half done in a log's directory. May itself be cut off anywhere.
pub(crate) fn settle(io: &dyn Io, directory: &Path) -> Result<(), Error> {
    let names: Vec<_> = io.list(directory).map_err(Error::io("list", directory))?.into_iter().filter(|entry| !entry.is_dir).collect();
    let files = || names.iter().filter_map(|entry| Some((parse_any_file_name(&entry.name)?, entry.name.as_str())));
    for (_, name) in files().filter(|(_, name)| name.ends_with(CLEANED)) {
        remove_if_there(io, &directory.join(name))?;
    }
    for (base, name) in files().filter(|(_, name)| name.ends_with(SWAP)) {
        let path = directory.join(name);
        let end = end_of_whole(io, &path, base)?;
        let logs: Vec<_> = files().filter(|(_, name)| name.ends_with(".log")).map(|(of, _)| of).collect();
        check_covered(io, directory, &path, &logs, base, end)?;
        // What is vouched for of them does not hold for it.
        forget(io, directory, base, end)?;
        for (_, covered) in files().filter(|(of, covered)| (base..end).contains(of) && !covered.ends_with(SWAP)) {
            remove_if_there(io, &directory.join(covered))?;
        }
        io.sync_dir(directory).map_err(Error::io("sync directory", directory))?;
        io.rename(&path, &directory.join(file_name(base, "log"))).map_err(Error::io("rename", &path))?;
        io.sync_dir(directory).map_err(Error::io("sync directory", directory))?;
        tracing::info!(directory = %directory.display(), %base, %end, "installed what a compaction had written");
    }
    Ok(())
}

/// Refuses to remove what the file at `path`, which reaches from `base` to `end`, cannot have been made from. No CRC covers offsets: one turned bit
/// in its last batch, and it would cover all that follows.
fn check_covered(io: &dyn Io, directory: &Path, path: &Path, logs: &[Offset], base: Offset, end: Offset) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::Corrupt { path: path.to_owned(), position: 0, reason });
    if !logs.iter().any(|of| *of >= end) {
        return refuse(format!("it ends at offset {end}, and would cover the last segment, which is never compacted"));
    }
    let Some(last) = logs.iter().filter(|of| (base..end).contains(*of)).max() else { return Ok(()) };
    match end_of_whole(io, &directory.join(file_name(*last, "log")), *last) {
        Ok(reaches) if reaches > end => refuse(format!("it ends at offset {end}, within the segment that begins at {last}")),
        // Of what is damaged nothing is known, and it is not needed any more.
        Ok(_) | Err(Error::Corrupt { .. }) => Ok(()),
        Err(Error::Io { source, .. }) if is_unreadable(&source) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Vouches no longer for what was in place of a segment.
fn forget(io: &dyn Io, directory: &Path, base: Offset, end: Offset) -> Result<(), Error> {
    let known = vouched::read(io, directory)?;
    let left: Vec<_> = known.iter().copied().filter(|known| !(base..end).contains(&known.base)).collect();
    // What cannot be read is not to be read another time either.
    if left.len() == known.len() && !known.is_empty() { Ok(()) } else { vouched::write(io, directory, &left) }
}

/// Segment files with their base offsets, in order.
type Files = Vec<(Offset, PathBuf)>;

/// The segment files of a log as [`settle`] would leave them, of those that stand in its directory.
pub(crate) fn with_swaps(io: &dyn Io, directory: &Path, segments: Files) -> Result<Files, Error> {
    let (segments, refused) = with_good_swaps(io, directory, segments)?;
    refused.into_iter().next().map_or(Ok(segments), Err)
}

/// The same, without the ones that [`settle`] would refuse; and why it would.
pub(crate) fn with_good_swaps(io: &dyn Io, directory: &Path, mut segments: Files) -> Result<(Files, Vec<Error>), Error> {
    let mut refused = Vec::new();
    let logs: Vec<_> = segments.iter().map(|(base, _)| *base).collect();
    for entry in io.list(directory).map_err(Error::io("list", directory))? {
        let Some(base) = parse_any_file_name(&entry.name).filter(|_| !entry.is_dir && entry.name.ends_with(SWAP)) else { continue };
        let path = directory.join(entry.name);
        let end = end_of_whole(io, &path, base).and_then(|end| check_covered(io, directory, &path, &logs, base, end).map(|()| end));
        match end {
            Ok(end) => {
                segments.retain(|(of, _)| !(base..end).contains(of));
                segments.push((base, path));
            }
            Err(error @ Error::Corrupt { .. }) => refused.push(error),
            Err(error) => return Err(error),
        }
    }
    segments.sort();
    Ok((segments, refused))
}

/// The offset after the last batch of a file that got its name when it was whole and synced.
fn end_of_whole(io: &dyn Io, path: &Path, base: Offset) -> Result<Offset, Error> {
    let file = io.open(path).map_err(Error::io("open", path))?;
    let corrupt = |position, reason| Error::Corrupt { path: path.to_owned(), position, reason };
    let (mut end, mut position) = (base, 0);
    let damage = scan(file.as_ref(), 0, &mut |at, batch| {
        if batch.header.first_offset() < end {
            return Err(format!("the batch begins at offset {}, before {end}", batch.header.base_offset));
        }
        end = batch.header.last_offset().next();
        position = at + batch.bytes().len() as u64;
        Ok(())
    })
    .map_err(Error::io("read", path))?;
    match damage {
        Some(reason) => Err(corrupt(position, reason)),
        None if end == base => Err(corrupt(0, "it holds no batch".to_owned())),
        None => Ok(end),
    }
}
