//! A trim on its way through a partition: decided by the task, noted on a disk thread, its files removed on a third one.
//!
//! The answer is given when the new start is durable. The files go afterwards, since freeing gigabytes takes a file system its time, and
//! nobody should wait for it: neither who asked nor who appends.

use tidegate_storage::{PartitionLog, Trimmed};
use tidegate_types::Offset;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::task::TaskTracker;

use crate::error::{Error, RangeReason};

/// Somebody wants everything below `before` gone.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) before: u64,
    pub(super) reply: oneshot::Sender<Result<Offset, Error>>,
    /// Held until the files are gone, so that there are never more trims and removals under way than the node has turns.
    pub(super) turn: OwnedSemaphorePermit,
}

impl Request {
    fn answer(self, answer: Result<Offset, Error>) -> OwnedSemaphorePermit {
        // Whoever asked may have gone; the start is where it is all the same.
        let _ = self.reply.send(answer);
        self.turn
    }

    /// Ends it without a trim.
    pub(super) fn refuse(self, error: Error) {
        drop(self.answer(Err(error)));
    }
}

/// The offset that a log may be trimmed to: nothing is given up that nobody could have read.
pub(super) fn target(before: u64, log_start: Offset, high_watermark: Offset) -> Result<Offset, Error> {
    let beyond = || Error::OffsetOutOfRange { requested: before, earliest: log_start, latest: high_watermark, reason: RangeReason::Future };
    Offset::new(before).filter(|to| *to <= high_watermark).ok_or_else(beyond)
}

/// What comes back from a disk thread.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) log: PartitionLog,
    request: Request,
    result: Result<Trimmed, Error>,
}

impl Done {
    /// Notes the new start. Blocks for as long as the disk takes to sync it.
    pub(super) fn run(mut log: PartitionLog, to: Offset, request: Request) -> Self {
        let result = log.trim_to(to).map_err(Error::from);
        Self { log, request, result }
    }

    /// Answers whoever asked, and has the files removed as one of `removals`. Gives the log back.
    pub(super) fn settle(self, removals: &TaskTracker) -> PartitionLog {
        let start = self.log.log_start();
        let (answer, trimmed) = match self.result {
            Ok(trimmed) => (Ok(start), Some(trimmed)),
            Err(error) => (Err(error), None),
        };
        let turn = self.request.answer(answer);
        if let Some(trimmed) = trimmed.filter(|trimmed| !trimmed.is_empty()) {
            let directory = self.log.directory().to_owned();
            removals.spawn_blocking(move || {
                if let Err(error) = trimmed.remove() {
                    tracing::warn!(directory = %directory.display(), %error, "trimmed files were not removed; the next start removes them");
                }
                drop(turn);
            });
        }
        self.log
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a log is trimmed to any offset that is readable or the next to be, and to none beyond.
    #[test]
    fn nothing_unread_is_given_up() {
        let offset = |n| Offset::new(n).unwrap();
        for before in [0, 5, 9, 10] {
            assert_eq!(target(before, offset(5), offset(10)).unwrap(), offset(before));
        }
        for before in [11, Offset::MAX.get(), Offset::MAX.get() + 1, u64::MAX] {
            match target(before, offset(5), offset(10)) {
                Err(Error::OffsetOutOfRange { requested, earliest, latest, reason: RangeReason::Future }) => {
                    assert_eq!((requested, earliest, latest), (before, offset(5), offset(10)));
                }
                other => panic!("{before}: {other:?}"),
            }
        }
    }
}
