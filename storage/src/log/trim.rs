//! Trimming: giving up a log's oldest records, for ever.
//!
//! ```text
//!   trim_to(N)  1 sync, if N lies beyond the synced end     so that no log ends before it begins
//!               2 note N, durably                           from here on no start will come back lower
//!               3 raise the start, drop segments below it   from here on no reader begins before it
//!   Trimmed::remove   unlink their files, sync the directory
//! ```
//!
//! A crash before the end of 2 leaves the old start or the new one; after it the new one, and files that the next start removes. Files
//! are unlinked where they stand, without a name of their own for what is on its way out: the note alone says what is to go. Who still
//! reads a segment holds its open file and reads on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate_types::{ErrorCode, Offset, TopicPartition};

use super::PartitionLog;
use crate::Error;
use crate::checkpoint::OffsetCheckpoint;
use crate::io::Io;
use crate::producers::snapshot;
use crate::segment::parse_any_file_name;

/// A log's own entry in the checkpoint of log starts.
#[derive(Debug)]
pub(crate) struct StartNote {
    starts: Arc<OffsetCheckpoint>,
    tp: TopicPartition,
}

impl StartNote {
    pub(crate) fn new(starts: Arc<OffsetCheckpoint>, tp: TopicPartition) -> Self {
        Self { starts, tp }
    }

    /// What is noted; 0 if nothing is.
    pub(crate) fn get(&self) -> Offset {
        self.starts.get(&self.tp)
    }

    fn set(&self, start: Offset) -> Result<(), Error> {
        self.starts.set([(self.tp.clone(), start)])
    }
}

/// Segments that a trim has taken out of a log. Their files stay until [`Trimmed::remove`], or until the next start.
#[derive(Debug)]
#[must_use = "the files of trimmed segments are to be removed, by a thread that may take its time"]
pub struct Trimmed {
    io: Arc<dyn Io>,
    directory: PathBuf,
    /// Names, not open files: the room is free as soon as the names and the last reader are gone.
    paths: Vec<PathBuf>,
}

impl Trimmed {
    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Removes the files. Blocks for as long as the file system takes to free them; before it returns, no log may take over the directory.
    ///
    /// # Errors
    /// [`Error::Io`]; what is left then is removed by the next start.
    pub fn remove(self) -> Result<(), Error> {
        if self.paths.is_empty() {
            return Ok(());
        }
        for path in &self.paths {
            // The log first: it is what takes the room, and indexes without it mislead nobody.
            for suffix in ["log", "index", "timeindex", snapshot::SUFFIX] {
                remove_if_there(self.io.as_ref(), &path.with_extension(suffix))?;
            }
        }
        self.io.sync_dir(&self.directory).map_err(Error::io("sync directory", &self.directory))
    }
}

impl PartitionLog {
    /// Gives up everything below `to`, which is at most the log's end: when this returns, no reader begins before it, and none will after
    /// any crash. A start that is there already stays. The active segment is kept, also if all of it is given up.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk is full or the process has no file handle left: the start is as it was, and the log goes on. After any
    /// other error the log is poisoned. In both cases the next start may find the new start.
    pub fn trim_to(&mut self, to: Offset) -> Result<Trimmed, Error> {
        assert!(to <= self.log_end, "what is not there yet is not given up");
        self.check_poison()?;
        if to > self.log_start() {
            self.raise_start(to)?;
        }
        Ok(self.drop_given_up())
    }

    fn raise_start(&mut self, to: Offset) -> Result<(), Error> {
        if to > self.synced_end {
            self.sync()?;
        }
        if let Err(error) = self.start_note.set(to) {
            return Err(if error.code() == ErrorCode::StorageFailed { self.poison(error) } else { error });
        }
        self.shared.log_start.store(to.get(), Ordering::Release);
        if self.epochs.cut_start(to)
            && let Err(error) = self.epochs.write(self.disk.io.as_ref(), &self.directory)
        {
            // The start itself is noted; the next start cuts them again.
            tracing::warn!(%error, "the leaders' epochs were not cut");
        }
        Ok(())
    }

    /// Takes out of the list what lies wholly before the start.
    fn drop_given_up(&mut self) -> Trimmed {
        let mut trimmed = Trimmed { io: Arc::clone(&self.disk.io), directory: self.directory.clone(), paths: Vec::new() };
        let mut segments = Vec::clone(&self.shared.segments.load());
        let given_up = given_up(segments.len(), |i| segments[i].base, self.log_start());
        if given_up > 0 {
            trimmed.paths = segments.drain(..given_up).map(|segment| segment.path.clone()).collect();
            self.shared.segments.store(Arc::new(segments));
            // Before their files go: what is vouched for and not there has been lost.
            if let Err(error) = self.write_vouched(self.active_vouched) {
                tracing::warn!(%error, "that segments are given up was noted in one place only");
            }
        }
        trimmed
    }
}

/// How many of a log's first segments hold nothing from `start` on: those that end where the next one begins, at or before it.
fn given_up(segments: usize, base: impl Fn(usize) -> Offset, start: Offset) -> usize {
    (1..segments).take_while(|next| base(*next) <= start).count()
}

/// Drops the segments below `start` from `bases` (in order, at least one), and removes what an earlier trim has left of their files.
pub(crate) fn remove_leftovers(io: &dyn Io, directory: &Path, bases: &mut Vec<Offset>, start: Offset) -> Result<(), Error> {
    if start == Offset::ZERO {
        return Ok(());
    }
    bases.drain(..given_up(bases.len(), |i| bases[i], start));
    let kept_from = bases[0];
    for entry in io.list(directory).map_err(Error::io("list", directory))? {
        if !entry.is_dir && parse_any_file_name(&entry.name).is_some_and(|base| base < kept_from && base < start) {
            tracing::debug!(directory = %directory.display(), file = entry.name, "removed what a trim had left");
            remove_if_there(io, &directory.join(entry.name))?;
        }
    }
    Ok(())
}

/// The segments of a log that begins at `start`, of those that stand in its directory (in order).
pub(crate) fn without_given_up<T>(mut segments: Vec<(Offset, T)>, start: Offset) -> Vec<(Offset, T)> {
    segments.drain(..given_up(segments.len(), |i| segments[i].0, start));
    segments
}

pub(crate) fn remove_if_there(io: &dyn Io, path: &Path) -> Result<(), Error> {
    match io.remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
