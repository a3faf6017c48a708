//! What goes wrong, and when.

use std::io;
use std::time::Duration;

/// What goes wrong, and when. Steps count every write, sync, truncation and change of a directory, from 0.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    /// From this step on nothing works any more, as if the plug were pulled. The step itself may have happened in part.
    pub cut_at: Option<u64>,
    /// This step fails with this error; later ones work.
    pub fail_at: Option<(u64, io::ErrorKind)>,
    /// Operations of some kinds that fail, once, for a while or for good.
    pub failures: Vec<Failure>,
    /// Writes beyond so many bytes in all fail with [`io::ErrorKind::StorageFull`].
    pub capacity: Option<u64>,
    /// What each name in a directory takes of the capacity: making one needs room as well.
    pub entry_bytes: u64,
    /// How long each sync takes.
    pub sync_delay: Duration,
    /// How long each write takes.
    pub write_delay: Duration,
    /// Decides how much of a failed write was written, what a failed sync has left, and in which order a directory is listed. With 0 nothing and
    /// by name.
    pub seed: u64,
}

/// What a disk is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operation {
    Open,
    Read,
    List,
    Write,
    Sync,
    SyncDirectory,
    SetLength,
    Create,
    Rename,
    Remove,
}

/// Operations of one kind that fail.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Of which kind; `None` is any.
    pub on: Option<Operation>,
    /// So many go well before.
    pub skip: u64,
    /// So many fail, [`u64::MAX`] is all.
    pub times: u64,
    /// How.
    pub kind: io::ErrorKind,
}

impl FaultPlan {
    /// Whether this operation fails; it counts.
    pub(super) fn failure_of(&mut self, operation: Operation) -> Option<io::ErrorKind> {
        for failure in self.failures.iter_mut().filter(|failure| failure.on.is_none_or(|on| on == operation)) {
            if failure.skip > 0 {
                failure.skip -= 1;
            } else if failure.times > 0 {
                failure.times -= u64::from(failure.times < u64::MAX);
                return Some(failure.kind);
            }
        }
        None
    }
}

/// What becomes of writes that no sync has covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// They are all gone.
    LoseAll,
    /// They are all there, and on the platter.
    KeepAll,
    /// They are all there, but still only in the page cache: a killed process on a machine that runs on.
    Kill,
    /// By the seed: of each sector of a file any state that it has had since the last sync, and of each directory any too. The seed also says
    /// whether the file system keeps a journal: with one, changes of a directory are there up to some point, and what follows a truncation is not
    /// there without it; without one any of them may be.
    Random(u64),
}
