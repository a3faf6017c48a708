//! Giving up a log's oldest records, on its way through a partition: asked for, or by retention. Decided by the task, noted on a disk thread,
//! its files removed on a third one.
//!
//! The answer is given when the new start is durable. The files go afterwards, since freeing gigabytes takes a file system its time, and
//! nobody should wait for it: neither who asked nor who appends.

use std::time::Duration;

use tidegate_storage::{Expired, PartitionLog, RetentionPolicy, Trimmed};
use tidegate_types::{Offset, Timestamp, TopicConfig, TopicPartition};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::removal::Removals;
use crate::error::{Error, RangeReason};

/// What is wanted gone.
#[derive(Debug)]
pub(super) enum Request {
    /// Everything below `before`: somebody asks, and wants the room.
    Before {
        before: u64,
        reply: oneshot::Sender<Result<Offset, Error>>,
        /// Held until the files are gone, so that there are never more trims and removals under way than the node has turns.
        turn: OwnedSemaphorePermit,
    },
    /// What the topic's rules no longer keep. The sender is dropped when it is noted.
    Expired { reply: oneshot::Sender<()>, turn: OwnedSemaphorePermit },
}

impl Request {
    /// Ends it without a trim.
    pub(super) fn refuse(self, error: Error) {
        if let Self::Before { reply, .. } = self {
            // Whoever asked may have gone; the start is where it is all the same.
            let _ = reply.send(Err(error));
        }
    }

    /// What is to be done on a log that begins at `log_start`; done for those who ask for what may not be given up.
    pub(super) fn plan(self, log_start: Offset, high_watermark: Offset, config: &TopicConfig, now: Timestamp) -> Option<Plan> {
        let what = match &self {
            Self::Before { before, .. } => match target(*before, log_start, high_watermark) {
                Ok(to) => What::To(to),
                Err(error) => {
                    self.refuse(error);
                    return None;
                }
            },
            Self::Expired { .. } => What::Expired { high_watermark, policy: RetentionPolicy::from(config), now },
        };
        Some(Plan { what, request: self })
    }
}

/// The offset that a log may be trimmed to: nothing is given up that nobody could have read.
fn target(before: u64, log_start: Offset, high_watermark: Offset) -> Result<Offset, Error> {
    let beyond = || Error::OffsetOutOfRange { requested: before, earliest: log_start, latest: high_watermark, reason: RangeReason::Future };
    Offset::new(before).filter(|to| *to <= high_watermark).ok_or_else(beyond)
}

#[derive(Debug)]
enum What {
    To(Offset),
    Expired { high_watermark: Offset, policy: RetentionPolicy, now: Timestamp },
}

/// For a disk thread.
#[derive(Debug)]
pub(super) struct Plan {
    what: What,
    request: Request,
}

impl Plan {
    /// Notes the new start. Blocks for as long as the disk takes to sync it.
    pub(super) fn run(self, mut log: PartitionLog) -> Done {
        let before = log.log_start();
        let result = match self.what {
            What::To(to) => log.trim_to(to).map(|trimmed| (None, Some(trimmed))),
            What::Expired { high_watermark, policy, now } => log.expire(high_watermark, &policy, now).map(Option::unzip),
        };
        Done { before, request: self.request, result: result.map_err(Error::from), log }
    }
}

/// What comes back from a disk thread.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) log: PartitionLog,
    before: Offset,
    request: Request,
    result: Result<(Option<Expired>, Option<Trimmed>), Error>,
}

impl Done {
    /// Whether the log begins later than before.
    pub(super) fn has_moved(&self) -> bool {
        self.log.log_start() > self.before
    }

    /// Answers whoever asked, and has the files removed. Gives the log back.
    pub(super) fn settle(self, id: &TopicPartition, delay: Duration, removals: &mut Removals) -> PartitionLog {
        let start = self.log.log_start();
        let (error, expired, trimmed) = match self.result {
            Ok((expired, trimmed)) => (None, expired, trimmed),
            Err(error) => (Some(error), None, None),
        };
        if let Some(expired) = &expired {
            tell(id, expired);
        }
        match self.request {
            Request::Before { reply, turn, .. } => {
                // Whoever asked may have gone; the start is where it is all the same.
                let _ = reply.send(error.map_or(Ok(start), Err));
                if let Some(trimmed) = trimmed {
                    removals.now(trimmed, turn);
                }
            }
            Request::Expired { reply, turn } => {
                if let Some(error) = error {
                    tracing::warn!(partition = %id, %error, "retention deletes nothing this time");
                }
                if let Some(trimmed) = trimmed {
                    removals.later(trimmed, delay, turn);
                }
                drop(reply);
            }
        }
        self.log
    }
}

/// Says what a partition has lost.
fn tell(id: &TopicPartition, expired: &Expired) {
    let Expired { start, bytes, trimmed, by_age, by_size, .. } = *expired;
    metrics::counter!("tidegate_retention_deleted_segments_total").increment(expired.segments() as u64);
    metrics::counter!("tidegate_retention_deleted_bytes_total").increment(bytes);
    let segments = expired.segments();
    tracing::info!(partition = %id, segments, bytes, log_start = %start, by_age, by_size, trimmed, "retention deleted old segments");
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
