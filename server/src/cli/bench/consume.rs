//! The consuming side: pages one after the other, again from the start or waiting for more; and reading back to compare.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_client::Error;
use tidegate_types::ErrorCode;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::Failure;
use super::connection::{Connection, Node};
use super::integrity::Digests;
use super::page::Pages;
use super::payload::{hash, stamp_of};
use super::produce::may_pass;
use super::progress::Progress;
use super::schedule::Schedule;
use super::tally::Tally;
use super::workers;

/// How long a page is waited for: also how late a consumer notices that it is over.
const WAIT_MS: u64 = 500;
/// How long what was acknowledged may take to be readable.
const READABLE_MS: u64 = 5_000;
/// Before a connection goes on after a failure that may pass.
const BACKOFF: Duration = Duration::from_millis(10);
/// How long records that were acknowledged may take to be seen.
const LATEST: Duration = Duration::from_secs(10);

/// What consumers do.
#[derive(Debug)]
pub(crate) enum Way {
    /// Read from the start to the end, and again.
    Around,
    /// Read to the end and wait for more. A latency is a fetch's.
    Follow,
    /// As `Follow`, until the offsets that `ends` says; a latency is a record's, from its stamp after that instant.
    Stamps { epoch: Instant, ends: watch::Receiver<Option<Vec<u64>>> },
}

/// What all consumers of a run share.
#[derive(Debug)]
pub(crate) struct Consuming {
    pages: Pages,
    /// Where each partition is read from.
    starts: Vec<u64>,
    way: Way,
    schedule: Arc<Schedule>,
    progress: Arc<Progress>,
    /// Never held while anything is waited for.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tally: Tally,
    ended_early: Option<Error>,
    unseen: u64,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Consumed {
    pub(crate) tally: Tally,
    /// Why it did not go on to its end.
    pub(crate) ended_early: Option<Error>,
    /// Records that were there and have not been seen in time.
    pub(crate) unseen: u64,
    /// At a rate: requests that were due and never sent.
    pub(crate) unsent: Option<u64>,
}

impl Consuming {
    /// Everything but the connections.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn new(pages: Pages, starts: Vec<u64>, way: Way, schedule: Arc<Schedule>, progress: Arc<Progress>) -> Result<Self, Failure> {
        let tally = Tally::new(schedule.counts_from).map_err(|error| Failure::Local(error.to_string()))?;
        Ok(Self { pages, starts, way, schedule, progress, state: Mutex::new(State { tally, ended_early: None, unseen: 0 }) })
    }

    /// Fetches until it is over, each of `connections` from a partition of its own, as far as there are enough.
    ///
    /// # Errors
    /// Only what is our own mistake; what the server refuses is in what comes back.
    pub(crate) async fn run(self, connections: Vec<Connection>) -> Result<Consumed, Failure> {
        let this = Arc::new(self);
        let mut tasks = JoinSet::new();
        for (n, connection) in connections.into_iter().enumerate() {
            let this = Arc::clone(&this);
            let partition = n % this.starts.len().max(1);
            tasks.spawn(async move {
                if let Way::Stamps { epoch, ends } = &this.way {
                    this.watch(connection, partition, *epoch, ends.clone()).await;
                } else {
                    this.read(connection, partition).await;
                }
            });
        }
        workers::join(tasks, &this.schedule).await?;
        let this = Arc::into_inner(this).ok_or_else(|| Failure::Local("a reader did not end".to_owned()))?;
        let State { mut tally, ended_early, unseen } = this.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // Who watches stamped records sends at no times of their own.
        let unsent = if matches!(this.way, Way::Around) { this.schedule.unsent(now) } else { None };
        if let Some(unsent) = unsent {
            tally.unsent(unsent, now, 1);
        }
        Ok(Consumed { tally, ended_early, unseen, unsent: unsent.map(|unsent| unsent.requests) })
    }

    async fn read(&self, mut connection: Connection, partition: usize) {
        let start = self.starts.get(partition).copied().unwrap_or_default();
        let (index, mut offset) = (number(partition), start);
        let wait_ms = if matches!(self.way, Way::Around) { 0 } else { WAIT_MS };
        while let Some(due) = self.schedule.next().await {
            match self.pages.fetch(&mut connection, index, offset, wait_ms).await {
                Ok(page) => {
                    offset = page.next_offset;
                    self.progress.add(page.records());
                    // An empty page says how long nothing came, not how long anything took.
                    if page.records() > 0 {
                        self.lock().tally.answer(due, Instant::now(), page.records(), page.body.len() as u64);
                    }
                    if matches!(self.way, Way::Around) && offset >= page.high_watermark {
                        if page.records() == 0 && offset == start {
                            self.give_up(Error::Input(format!("partition {partition} has no records to read")));
                            return;
                        }
                        offset = start;
                    }
                }
                Err(error) if !self.goes_on_after(&error).await => {
                    self.give_up(error);
                    return;
                }
                Err(_) => {}
            }
        }
    }

    /// Follows a partition until all that was acknowledged has been seen.
    async fn watch(&self, mut connection: Connection, partition: usize, epoch: Instant, ends: watch::Receiver<Option<Vec<u64>>>) {
        let mut offset = self.starts.get(partition).copied().unwrap_or_default();
        let mut give_up_at = None;
        loop {
            let end = ends.borrow().as_ref().map(|ends| ends.get(partition).copied().unwrap_or_default());
            if let Some(end) = end {
                let deadline = *give_up_at.get_or_insert_with(|| Instant::now() + LATEST);
                if offset >= end {
                    return;
                }
                if Instant::now() >= deadline || self.schedule.stopped_by().is_some() {
                    self.lock().unseen += end - offset;
                    return;
                }
            } else if ends.has_changed().is_err() {
                return;
            }
            match self.pages.fetch(&mut connection, number(partition), offset, WAIT_MS).await {
                Ok(page) => {
                    let now = Instant::now();
                    let mut state = self.lock();
                    let outcome = page.read(|_, value| {
                        if let Some(stamp) = stamp_of(value) {
                            state.tally.seen(epoch + Duration::from_nanos(stamp), now, value.len() as u64);
                        }
                    });
                    drop(state);
                    if let Err(error) = outcome {
                        return self.give_up(error);
                    }
                    offset = page.next_offset;
                }
                Err(error) if !self.goes_on_after(&error).await => return self.give_up(error),
                Err(_) => {}
            }
        }
    }

    async fn goes_on_after(&self, error: &Error) -> bool {
        if !may_pass(error) {
            return false;
        }
        self.lock().tally.error(error);
        tokio::time::sleep(BACKOFF).await;
        true
    }

    fn give_up(&self, error: Error) {
        let mut state = self.lock();
        state.tally.error(&error);
        state.ended_early.get_or_insert(error);
        self.schedule.end();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(partition: usize) -> u32 {
    u32::try_from(partition).unwrap_or(u32::MAX)
}

/// Reads what `expected` was acknowledged, and gives back what is there of it. What is gone is no error here, but a difference.
///
/// # Errors
/// As any call.
pub(crate) async fn read_back(node: &Node, pages: &Pages, expected: &Digests) -> Result<Digests, Failure> {
    let mut read = expected.to_read();
    let mut connection = node.senders(1).pop().ok_or_else(|| Failure::Local("no connection".to_owned()))?;
    for (partition, start, end) in expected.spans() {
        let mut offset = start;
        while offset < end {
            // With acks=leader a record is acknowledged before it can be read.
            let page = match pages.fetch(&mut connection, partition, offset, READABLE_MS).await {
                Err(Error::Problem(problem)) if is_gone(problem.known_code()) => break,
                page => page?,
            };
            page.read(|offset, value| read.read(partition, offset, hash(value)))?;
            if page.next_offset == offset {
                break;
            }
            offset = page.next_offset;
        }
    }
    Ok(read)
}

fn is_gone(code: Option<ErrorCode>) -> bool {
    matches!(code, Some(ErrorCode::OffsetOutOfRange | ErrorCode::PartitionNotFound | ErrorCode::TopicNotFound))
}
