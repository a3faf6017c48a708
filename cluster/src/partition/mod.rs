//! One partition: a handle that anybody may clone, and behind it one task that owns the log.
//!
//! ```text
//!   append() ──admitted──> mailbox ──> task ── group ──> disk thread: write, sync
//!                                       ^                      │
//!      Ticket <── Appended ── waiters ──┴──── ends ────────────┘
//!   trim(), expire() ─── one at a time on the node ──> mailbox ──> task ──> disk thread: note the start ──> files removed on another thread
//!   compact() ─ one at a time on the node ─> its round on a thread of its own, what it has written installed by the task
//!   fetch ───── watches the high watermark, reads the log beside the writer
//!
//!   log_start ≤ high_watermark ≤ synced_end ≤ log_end          (durability=fsync; with replicated: high_watermark ≤ log_end)
//! ```
//!
//! While one group is being written and synced the next one gathers: no timer, one sync for all that waited.

mod coalesce;
pub(crate) mod compact;
mod fate;
mod parked;
mod progress;
mod removal;
mod replays;
mod task;
mod trim;
mod waiters;

use std::sync::Arc;
use std::time::Duration;

use tidegate_storage::producers::Keys;
use tidegate_storage::{Compactor, DiskPool, LogReader, PartitionLog};
use tidegate_types::{Clock, LeaderEpoch, Limits, Offset, TopicConfig, TopicPartition};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

pub(crate) use self::fate::stamps;
use crate::admission::{Admission, Permit};
use crate::broker::{Acks, Appended, Payload, Ticket};
use crate::error::Error;
use crate::metadata::image::Published;

/// What a partition's readers and waiters watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Everything below is readable.
    pub(crate) high_watermark: Offset,
    /// The next offset to be assigned.
    pub(crate) log_end: Offset,
    /// Everything below is on the disk.
    pub(crate) synced_end: Offset,
}

/// What was taken for an append; given back when it is answered.
#[derive(Debug)]
struct Admitted {
    /// Of the node: a client that goes away, or never waited, leaves its records here.
    _node: Permit,
    _bytes: Permit,
    _request: Permit,
}

/// Whom an append belongs to.
#[derive(Debug)]
struct Owner {
    acks: Acks,
    reply: oneshot::Sender<Result<Appended, Error>>,
    _admitted: Admitted,
}

impl Owner {
    fn answer(self, answer: Result<Appended, Error>) {
        // Whoever asked may have gone; the records are where they are all the same.
        let _ = self.reply.send(answer);
    }
}

#[derive(Debug)]
enum Message {
    Append { payload: Payload, bytes: usize, owner: Owner },
    Trim(trim::Request),
    Compact(compact::Request),
    Install(compact::Install),
    Configure(TopicConfig),
    Close(oneshot::Sender<Result<Offset, Error>>),
}

/// A place in a partition's mailbox, taken before anything of a call is sent.
#[derive(Debug)]
pub(crate) struct Slot {
    admitted: Admitted,
    place: mpsc::OwnedPermit<Message>,
}

/// The handle of an open partition.
#[derive(Debug)]
pub(crate) struct Partition {
    id: TopicPartition,
    epoch: LeaderEpoch,
    mailbox: mpsc::Sender<Message>,
    bytes: Admission,
    requests: Admission,
    marks: watch::Receiver<Marks>,
    reader: LogReader,
    compactor: Compactor,
    keys: Keys,
}

/// What the task needs from its node.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) disk: Arc<DiskPool>,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long a producer that is silent is remembered.
    pub(crate) producer_expiration: Duration,
    /// What names are bound to.
    pub(crate) metadata: watch::Receiver<Published>,
}

/// Messages that are no appends: trims, retention and rounds of compaction (one at a time on the whole node), configs and the end.
const MAILBOX_RESERVE: usize = 8;

impl Partition {
    /// Starts the task over a log that has been recovered.
    pub(crate) fn start(
        id: TopicPartition,
        epoch: LeaderEpoch,
        log: PartitionLog,
        config: TopicConfig,
        limits: &Limits,
        around: Surroundings,
    ) -> Arc<Self> {
        let (mailbox, inbox) = mpsc::channel(limits.partition_in_flight_requests + MAILBOX_RESERVE);
        let (reader, compactor, keys) = (log.reader(), log.compactor(), log.producers().keys().clone());
        let (marks, task) = task::Task::new(id.clone(), epoch, log, config, around);
        tokio::spawn(task.run(inbox));
        Arc::new(Self {
            id,
            epoch,
            mailbox,
            bytes: Admission::new("bytes waiting for the partition", limits.partition_in_flight_bytes),
            requests: Admission::new("requests waiting for the partition", limits.partition_in_flight_requests),
            marks,
            reader,
            compactor,
            keys,
        })
    }

    pub(crate) fn id(&self) -> &TopicPartition {
        &self.id
    }

    pub(crate) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub(crate) fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// Who looks whether the log is worth compacting.
    pub(crate) fn compactor(&self) -> &Compactor {
        &self.compactor
    }

    /// The keys that it remembers.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The marks as they are now.
    pub(crate) fn marks(&self) -> Marks {
        *self.marks.borrow()
    }

    /// The marks as they move.
    pub(crate) fn watch(&self) -> watch::Receiver<Marks> {
        self.marks.clone()
    }

    /// Takes room for an append of `bytes`, here and in the node's own bound, at once or not at all.
    pub(crate) fn reserve(&self, bytes: usize, node: &Admission) -> Result<Slot, Error> {
        let admitted = Admitted { _node: node.admit(bytes)?, _bytes: self.bytes.admit(bytes)?, _request: self.requests.admit(1)? };
        let place = self.mailbox.clone().try_reserve_owned().map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded { what: "the partition's mailbox" },
            mpsc::error::TrySendError::Closed(_) => Error::LeaderUnavailable,
        })?;
        Ok(Slot { admitted, place })
    }

    /// Gives up what lies before the offset `before`; gives the log's start, which may be later. `turn` is given back when all is done, the
    /// files removed too. Once this is polled, the trim runs to its end, whatever becomes of the caller.
    pub(crate) async fn trim(&self, before: u64, turn: OwnedSemaphorePermit) -> Result<Offset, Error> {
        let (reply, trimmed) = oneshot::channel();
        let request = trim::Request::Before { before, reply, turn };
        self.mailbox.send(Message::Trim(request)).await.map_err(|_| Error::LeaderUnavailable)?;
        // The task has ended without an answer: nothing is known of the trim.
        trimmed.await.map_err(|_| Error::WriteTimeout)?
    }

    /// Gives up what the topic's rules no longer keep; returns when that is noted, or cannot be. `turn` is given back then, or when the files
    /// are removed. Once this is polled, it runs to its end.
    pub(crate) async fn expire(&self, turn: OwnedSemaphorePermit) {
        let (reply, noted) = oneshot::channel();
        // A task that has ended keeps no log. Whatever else went wrong, the task has said.
        if self.mailbox.send(Message::Trim(trim::Request::Expired { reply, turn })).await.is_ok() {
            let _ = noted.await;
        }
    }

    /// Compacts the log; runs to its end, whatever becomes of the caller, or until the log is closed.
    pub(crate) async fn compact(&self, order: compact::Order) -> Result<compact::Ended, Error> {
        let (reply, ended) = oneshot::channel();
        let request = compact::Request { order, reply, mailbox: self.mailbox.clone() };
        self.mailbox.send(Message::Compact(request)).await.map_err(|_| Error::LeaderUnavailable)?;
        ended.await.map_err(|_| Error::LeaderUnavailable)
    }

    /// Closes the log after all that is admitted has been written; gives its synced end. New appends are refused.
    pub(crate) async fn close(&self) -> Result<Offset, Error> {
        let (reply, closed) = oneshot::channel();
        self.mailbox.send(Message::Close(reply)).await.map_err(|_| Error::LeaderUnavailable)?;
        closed.await.map_err(|_| Error::LeaderUnavailable)?
    }

    /// Gives the task a topic's new configs.
    pub(crate) async fn configure(&self, config: TopicConfig) {
        // A task that has ended needs no configs.
        let _ = self.mailbox.send(Message::Configure(config)).await;
    }
}

impl Slot {
    /// Sends the append. From here on it runs to its end, whatever becomes of the caller.
    pub(crate) fn send(self, payload: Payload, bytes: usize, acks: Acks) -> Ticket {
        let (reply, answer) = oneshot::channel();
        let owner = Owner { acks, reply, _admitted: self.admitted };
        self.place.send(Message::Append { payload, bytes, owner });
        Ticket::new(answer)
    }
}
