//! A round of compaction beside a partition: it reads and writes on a thread of its own, and has what it has written installed by the task,
//! which alone changes the list of segments.
//!
//! ```text
//!   compact() ──> mailbox ──> task ── starts ──> round (blocking thread): map, rewrite
//!                              ^                   │ with a turn of the node, as trims have
//!   disk thread: install <── task <── mailbox ─────┤
//!                              └─── Replaced ────> its old files removed, on the round's thread
//! ```

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tidegate_storage::{Compacted, CompactionPolicy, Compactor, Outcome, PartitionLog, Replaced, Round};
use tidegate_types::{ErrorCode, Offset, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::Message;

/// What a round needs to know from its node.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) policy: CompactionPolicy,
    pub(crate) now: Timestamp,
    /// Memory for keys, in bytes.
    pub(crate) map_bytes: usize,
    /// Bytes that a round may read and write in a second, together.
    pub(crate) io_bytes_per_second: u64,
    /// A number that nobody can guess.
    pub(crate) seed: [u8; 16],
    /// Who removes files has one of these, so that nobody removes what another is putting in place.
    pub(crate) turns: Arc<Semaphore>,
}

/// Why a round failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: tidegate_storage::Error,
    /// Whether another one may go better.
    pub(crate) is_passing: bool,
}

pub(crate) type Ended = Result<Outcome, Failure>;

/// Somebody wants a round.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) order: Order,
    pub(super) reply: oneshot::Sender<Ended>,
    pub(super) mailbox: mpsc::Sender<Message>,
}

/// A round wants something installed.
#[derive(Debug)]
pub(super) struct Install {
    compacted: Compacted,
    reply: oneshot::Sender<Result<Option<Replaced>, tidegate_storage::Error>>,
}

impl Request {
    /// Starts the round as one of `tasks`. It ends soon after `stop` is set.
    pub(super) fn start(self, compactor: Compactor, high_watermark: Offset, stop: Arc<AtomicBool>, tasks: &TaskTracker) {
        let Self { order, reply, mailbox } = self;
        let Order { policy, now, map_bytes, io_bytes_per_second, seed, turns } = order;
        let round = Round { policy, high_watermark, now, map_bytes, seed, io_bytes_per_second, stop };
        let runtime = Handle::current();
        tasks.spawn_blocking(move || {
            let mut has_installed = true;
            let outcome = compactor.round(&round, &mut |compacted| {
                has_installed = false;
                let installed = install(compacted, &mailbox, &turns, &runtime)?;
                has_installed = true;
                Ok(installed)
            });
            let ended = outcome.map_err(|error| {
                // What was installed in part is settled by the next start alone.
                let is_passing = has_installed && matches!(error.code(), ErrorCode::StorageFull | ErrorCode::TooManyOpenFiles);
                Failure { error, is_passing }
            });
            // Whoever asked may have gone.
            let _ = reply.send(ended);
        });
    }
}

/// Has it installed by the task and removes what it replaces; `false` if the log has changed or is being closed.
fn install(
    compacted: Compacted,
    mailbox: &mpsc::Sender<Message>,
    turns: &Arc<Semaphore>,
    runtime: &Handle,
) -> Result<bool, tidegate_storage::Error> {
    let Ok(_turn) = runtime.block_on(turns.acquire()) else { return Ok(false) };
    let (reply, installed) = oneshot::channel();
    if mailbox.blocking_send(Message::Install(Install { compacted, reply })).is_err() {
        return Ok(false);
    }
    match installed.blocking_recv() {
        Ok(Ok(Some(replaced))) => replaced.finish().map(|()| true),
        Ok(Ok(None)) | Err(_) => Ok(false),
        Ok(Err(error)) => Err(error),
    }
}

/// What comes back from a disk thread.
#[derive(Debug)]
pub(super) struct Done {
    log: PartitionLog,
    install: oneshot::Sender<Result<Option<Replaced>, tidegate_storage::Error>>,
    result: Result<Option<Replaced>, tidegate_storage::Error>,
}

impl Done {
    /// Installs it. Blocks for as long as the disk takes to sync a directory.
    pub(super) fn run(mut log: PartitionLog, request: Install) -> Self {
        let result = log.install(request.compacted);
        Self { log, install: request.reply, result }
    }

    /// Tells the round. Gives the log back.
    pub(super) fn settle(self) -> PartitionLog {
        // A round that has gone leaves the old files to the next start.
        let _ = self.install.send(self.result);
        self.log
    }
}
