//! Putting a compacted segment in the place of those that it was made from: see [`crate::compact`].

use std::path::PathBuf;
use std::sync::Arc;

use super::{PartitionLog, remove_if_there};
use crate::Error;
use crate::compact::{Compacted, Compactor, Home, SWAP};
use crate::io::Io;
use crate::producers::snapshot;
use crate::segment::{IndexFiles, Segment, file_name};

/// Segments that a compacted one has replaced. Their files stay until [`Replaced::finish`], or until the next start.
#[derive(Debug)]
#[must_use = "the files of replaced segments are to be removed, by a thread that may take its time"]
pub struct Replaced {
    io: Arc<dyn Io>,
    directory: PathBuf,
    old: Vec<Arc<Segment>>,
    new: Arc<Segment>,
    indexes: IndexFiles,
}

impl Replaced {
    /// Removes the files and gives the new one its name. Blocks for as long as the file system takes; before it returns, nothing else may be
    /// removed from the directory, and no log may take it over.
    ///
    /// # Errors
    /// [`Error::Io`]; what is left then is done by the next start. Until then the log must not be compacted.
    pub fn finish(self) -> Result<(), Error> {
        let sync_dir = || self.io.sync_dir(&self.directory).map_err(Error::io("sync directory", &self.directory));
        for segment in &self.old {
            for suffix in ["index", "timeindex", "txnindex"] {
                remove_if_there(self.io.as_ref(), &segment.path.with_extension(suffix))?;
            }
            if segment.base != self.new.base {
                remove_if_there(self.io.as_ref(), &segment.path.with_extension(snapshot::SUFFIX))?;
                remove_if_there(self.io.as_ref(), &segment.path)?;
            }
        }
        // Gone for good before the new one has its name: it says alone which segments it stands for.
        sync_dir()?;
        let swap = self.directory.join(file_name(self.new.base, SWAP));
        self.io.rename(&swap, &self.new.path).map_err(Error::io("rename", &swap))?;
        sync_dir()?;
        if let Err(error) = self.indexes.write(self.io.as_ref(), &self.new.path) {
            // They are rebuilt from the log whenever they are missing.
            tracing::warn!(%error, "the indexes of a segment were not written");
        }
        self.new.unpin();
        Ok(())
    }
}

impl PartitionLog {
    /// Who compacts this log, on another thread.
    pub fn compactor(&self) -> Compactor {
        let home = Home { disk: self.disk.clone(), directory: self.directory.clone() };
        Compactor::new(home, Arc::clone(&self.shared), self.clean_note.clone())
    }

    /// Puts a compacted segment in the place of those it was made from: when this returns, readers that begin see it, and the next start will.
    /// `None` if the log no longer has all of them: nothing was done.
    ///
    /// # Errors
    /// [`Error::Poisoned`]; [`Error::Io`]: the log goes on as it was, but must not be compacted; the next start finds it as it was, or compacted.
    pub fn install(&mut self, compacted: Compacted) -> Result<Option<Replaced>, Error> {
        self.check_poison()?;
        let mut segments = Vec::clone(&self.shared.segments.load());
        let Compacted { replaces, segment, vouched, indexes, path } = compacted;
        let Some(at) = segments.iter().position(|old| Arc::ptr_eq(old, &replaces[0])) else { return Ok(None) };
        let is_there = segments.len() > at + replaces.len() && segments[at..].iter().zip(&replaces).all(|(a, b)| Arc::ptr_eq(a, b));
        if !is_there {
            return Ok(None);
        }
        let swap = self.directory.join(file_name(segment.base, SWAP));
        self.disk.io.rename(&path, &swap).map_err(Error::io("rename", &path))?;
        // From here on old files may go: whatever a crash leaves of them, the new one covers them.
        self.disk.io.sync_dir(&self.directory).map_err(Error::io("sync directory", &self.directory))?;
        // Before the new one has its name: what was vouched for of the old ones does not hold for it.
        self.vouched.retain(|known| !(vouched.base..vouched.end).contains(&known.base));
        self.vouched.insert(self.vouched.partition_point(|known| known.base < vouched.base), vouched);
        self.write_vouched(self.active_vouched)?;
        segments.splice(at..at + replaces.len(), [Arc::clone(&segment)]);
        self.shared.segments.store(Arc::new(segments));
        Ok(Some(Replaced { io: Arc::clone(&self.disk.io), directory: self.directory.clone(), old: replaces, new: segment, indexes }))
    }
}
