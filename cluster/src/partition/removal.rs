//! Files on their way out of a partition's directory: at once, or after `file.delete.delay.ms`. Never on the writer's thread, and one removal
//! at a time on the node.
//!
//! Whatever is not removed when the partition closes is left to the next start, which removes it at once: nobody waits for a delay to end.

use std::sync::Arc;
use std::time::Duration;

use tidegate_storage::Trimmed;
use tidegate_types::TopicPartition;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Removals of one partition that wait for their time. What comes when so many wait goes at once: the delay is for people who look on, nothing
/// that is read needs it.
const LATER_MAX: usize = 64;

/// One that waits.
#[derive(Debug)]
struct Later {
    /// Never, if there is no such time.
    due: Option<Instant>,
    trimmed: Trimmed,
    turns: Arc<Semaphore>,
}

/// The removals of one partition.
#[derive(Debug)]
pub(super) struct Removals {
    partition: Arc<str>,
    under_way: TaskTracker,
    closing: CancellationToken,
    later: Option<mpsc::Sender<Later>>,
}

impl Removals {
    pub(super) fn new(partition: &TopicPartition) -> Self {
        Self { partition: Arc::from(partition.to_string()), under_way: TaskTracker::new(), closing: CancellationToken::new(), later: None }
    }

    /// What else works in the partition's directory is to be one of these.
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.under_way
    }

    /// Removes files now; `turn` is given back when they are gone.
    pub(super) fn now(&self, trimmed: Trimmed, turn: OwnedSemaphorePermit) {
        if !trimmed.is_empty() {
            drop(remove(&self.under_way, Arc::clone(&self.partition), trimmed, turn));
        }
    }

    /// Removes files when `delay` is over, in the order in which they were given up. Their removal takes a turn of its own.
    pub(super) fn later(&mut self, trimmed: Trimmed, delay: Duration, turn: OwnedSemaphorePermit) {
        if delay.is_zero() || trimmed.is_empty() {
            return self.now(trimmed, turn);
        }
        let later = Later { due: Instant::now().checked_add(delay), trimmed, turns: Arc::clone(turn.semaphore()) };
        let queue = self.later.get_or_insert_with(|| {
            let (send, queue) = mpsc::channel(LATER_MAX);
            let (partition, under_way, closing) = (Arc::clone(&self.partition), self.under_way.clone(), self.closing.clone());
            self.under_way.spawn(async move { closing.run_until_cancelled(work_off(partition, under_way, queue)).await });
            send
        });
        if let Err(mpsc::error::TrySendError::Full(later) | mpsc::error::TrySendError::Closed(later)) = queue.try_send(later) {
            self.now(later.trimmed, turn);
        }
    }

    /// Gives up those that wait, and sees those that are under way to their end: afterwards nothing touches the directory any more.
    pub(super) async fn end(&mut self) {
        self.closing.cancel();
        self.under_way.close();
        self.under_way.wait().await;
    }
}

async fn work_off(partition: Arc<str>, under_way: TaskTracker, mut queue: mpsc::Receiver<Later>) {
    while let Some(Later { due, trimmed, turns }) = queue.recv().await {
        match due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
        let Ok(turn) = turns.acquire_owned().await else { return };
        // A panic has ended the process.
        let _ = remove(&under_way, Arc::clone(&partition), trimmed, turn).await;
    }
}

/// Goes on if nobody waits for it.
fn remove(under_way: &TaskTracker, partition: Arc<str>, trimmed: Trimmed, turn: OwnedSemaphorePermit) -> tokio::task::JoinHandle<()> {
    under_way.spawn_blocking(move || {
        if let Err(error) = trimmed.remove() {
            tracing::warn!(%partition, %error, "files of deleted segments were not removed; the next start removes them");
        }
        drop(turn);
    })
}
