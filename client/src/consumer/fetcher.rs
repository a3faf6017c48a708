//! One partition's task: finds where to begin, fetches ahead while there is room, tries again what may pass.
//!
//! ```text
//!   place known? ──no──> ask for offsets ──> Started
//!      │                                        │
//!      v                                        v
//!   end reached? ──yes──> Finished      room? ──> fetch from the place ──> Chunk ──> the place is the answer's next offset
//! ```
//!
//! With more partitions than requests, nobody waits for records in the server: a fetcher that has read all waits for [`super::lookout`] to see more.
//!
//! The place is in the request (the server keeps none), and moves only when an answer is whole: a lost answer loses and repeats nothing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_types::{ErrorCode, StoredBatches};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::config::{ConsumerConfig, Until};
use super::lookout::Mark;
use crate::backoff::backoff;
use crate::call::Call;
use crate::client::Client;
use crate::error::Error;
use crate::fetch::{At, Fetch, FetchedBatches, From, OffsetReset, Offsets, batches_call, offsets_call};

/// Answers that a partition has at a time: one is read while the next one comes.
pub(super) const ANSWERS: usize = 2;
/// The most that is asked for at once.
const FETCH_BYTES_MAX: usize = 8 << 20;
/// Requests of all partitions together; with more partitions than this nobody waits for records in the server.
pub(super) const REQUESTS: usize = 256;
/// Partitions that a snapshot fetches at a time: the one that is handed out, and the next ones.
pub(super) const SNAPSHOT_WINDOW: usize = 4;
/// How long a server holds back an answer at most.
const MAX_WAIT: Duration = Duration::from_secs(55);
/// How long to wait before asking again for what could not be waited for in the server.
const TURN: Duration = Duration::from_millis(100);

/// What all fetchers of a consumer share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) client: Client,
    pub(super) config: ConsumerConfig,
    /// How many partitions share the prefetch.
    pub(super) partitions: AtomicUsize,
    requests: Semaphore,
    pub(super) counts: Counts,
    /// Why something was tried again last.
    pub(super) retried: Mutex<Option<String>>,
}

/// What is counted as it happens.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) resets: AtomicU64,
    pub(super) buffered_bytes: AtomicUsize,
}

impl Common {
    pub(super) fn new(client: Client, config: ConsumerConfig) -> Self {
        let (partitions, requests) = (AtomicUsize::new(0), Semaphore::new(REQUESTS));
        Self { client, config, partitions, requests, counts: Counts::default(), retried: Mutex::default() }
    }

    /// What one request may bring, so that all answers together stay within the prefetch.
    fn fetch_bytes(&self) -> usize {
        let partitions = self.partitions.load(Ordering::Relaxed);
        let at_once = if self.config.snapshot { partitions.min(SNAPSHOT_WINDOW) } else { partitions };
        let answers = at_once.max(1) * ANSWERS;
        (self.config.prefetch_bytes / answers).clamp(1, FETCH_BYTES_MAX)
    }

    /// How long a server may wait for records.
    fn max_wait(&self) -> Duration {
        if self.config.snapshot || self.is_crowded() { Duration::ZERO } else { self.config.max_wait.min(MAX_WAIT) }
    }

    /// Whether there are more partitions than requests.
    fn is_crowded(&self) -> bool {
        !self.config.snapshot && self.partitions.load(Ordering::Relaxed) > REQUESTS
    }

    /// Notes that something is tried again.
    pub(super) fn note_retry(&self, error: &Error) {
        *self.retried.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        self.counts.retries.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a fetcher is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    /// Grows with each seek.
    pub(super) generation: u64,
    /// Where this generation begins.
    pub(super) from: From,
    pub(super) is_paused: bool,
    /// What it brought last could not be read: nothing more is wanted until the next seek.
    pub(super) is_stopped: bool,
}

/// What a fetcher has to tell. The queue has no bound of its own: a fetcher has at most [`ANSWERS`] chunks in it, and one other word each time it
/// is told something.
#[derive(Debug)]
pub(super) struct News {
    pub(super) reader: usize,
    pub(super) generation: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// It begins here and ends before `end`.
    Started {
        position: u64,
        end: u64,
    },
    Fetched(Chunk),
    /// It has come to its end.
    Finished {
        position: u64,
    },
    /// It cannot go on.
    Failed(Error),
}

/// One answer, its bytes counted until it is dropped.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) batches: StoredBatches,
    /// What has not been handed out of it begins here.
    pub(super) position: u64,
    /// Where the next one begins.
    pub(super) next_offset: u64,
    pub(super) high_watermark: u64,
    _room: Room,
}

/// Room for one answer.
#[derive(Debug)]
struct Room {
    common: Arc<Common>,
    bytes: usize,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.common.counts.buffered_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a fetcher is for.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) reader: usize,
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    pub(super) until: Until,
    pub(super) mark: watch::Receiver<Mark>,
}

/// One partition's fetching.
#[derive(Debug)]
pub(super) struct Fetcher {
    pub(super) common: Arc<Common>,
    pub(super) reader: usize,
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    pub(super) news: mpsc::UnboundedSender<News>,
    room: Arc<Semaphore>,
    generation: u64,
    place: Place,
    until: Until,
    /// Where it ends, once that has been looked up.
    end: Option<u64>,
    failures: u32,
    failing_since: Option<Instant>,
    /// What the lookout has seen.
    mark: watch::Receiver<Mark>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Unknown(From),
    At(u64),
    /// Told; nothing more to do.
    Over,
}

impl Fetcher {
    /// Reads what `assignment` says, and tells `news` of it.
    pub(super) fn new(common: Arc<Common>, assignment: Assignment, news: mpsc::UnboundedSender<News>) -> Self {
        let Assignment { reader, topic, partition, until, mark } = assignment;
        let (room, place) = (Arc::new(Semaphore::new(ANSWERS)), Place::Over);
        let (generation, end, failures, failing_since) = (0, None, 0, None);
        Self { common, reader, topic, partition, news, room, generation, place, until, end, failures, failing_since, mark }
    }

    /// Runs until the consumer is gone.
    pub(super) async fn run(mut self, mut orders: watch::Receiver<Order>) {
        let mut order = *orders.borrow_and_update();
        self.begin(order);
        loop {
            tokio::select! {
                changed = orders.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // What was under way is given up; the place has not moved.
                    order = *orders.borrow_and_update();
                    if order.generation != self.generation {
                        self.begin(order);
                    }
                }
                () = self.step(), if !order.is_paused && !order.is_stopped && self.place != Place::Over => {}
            }
        }
    }

    fn begin(&mut self, order: Order) {
        self.generation = order.generation;
        self.place = Place::Unknown(order.from);
        (self.failures, self.failing_since) = (0, None);
    }

    fn tell(&self, what: What) {
        // If nobody listens, the consumer is gone and this task about to end.
        let _ = self.news.send(News { reader: self.reader, generation: self.generation, what });
    }

    /// One request, or the wait before the next one. May be cut off at any `await`.
    async fn step(&mut self) {
        let outcome = match self.place {
            Place::Unknown(from) => self.find(from).await,
            Place::At(position) if self.end.is_some_and(|end| position >= end) => {
                self.place = Place::Over;
                self.tell(What::Finished { position });
                return;
            }
            Place::At(position) => self.fetch(position).await,
            Place::Over => return,
        };
        match outcome {
            Ok(()) => (self.failures, self.failing_since) = (0, None),
            Err(error) => self.failed(error).await,
        }
    }

    async fn failed(&mut self, error: Error) {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if error.may_pass() && self.common.config.retry_timeout.is_none_or(|limit| since.elapsed() < limit) {
            let config = &self.common.config;
            let wait = backoff(config.retry_backoff, config.retry_backoff_max, self.failures, fastrand::f64());
            self.failures = self.failures.saturating_add(1);
            self.common.note_retry(&error);
            tokio::time::sleep(wait).await;
            return;
        }
        let is_out_of_range = error.problem().and_then(|problem| problem.known_code()) == Some(ErrorCode::OffsetOutOfRange);
        let reset = match self.common.config.reset {
            OffsetReset::Earliest if is_out_of_range => From::Earliest,
            OffsetReset::Latest if is_out_of_range => From::Latest,
            OffsetReset::Error | OffsetReset::Earliest | OffsetReset::Latest => {
                self.place = Place::Over;
                self.tell(What::Failed(error));
                return;
            }
        };
        self.common.counts.resets.fetch_add(1, Ordering::Relaxed);
        self.place = Place::Unknown(reset);
    }

    async fn ask<T>(&self, call: Call, wait: Duration, read: impl FnOnce(crate::call::Answer) -> Result<T, Error>) -> Result<T, Error> {
        self.common.counts.requests.fetch_add(1, Ordering::Relaxed);
        let call = call.within(self.common.config.request_timeout.saturating_add(wait));
        read(self.common.client.send_to_leader(&self.topic, self.partition, &call).await?)
    }

    async fn offsets(&self, question: Option<At>) -> Result<Offsets, Error> {
        let call = offsets_call(&self.topic, self.partition, question);
        self.ask(call, Duration::ZERO, |answer| Offsets::read(&answer)).await
    }

    /// Looks up where to begin and, the first time, where to end.
    async fn find(&mut self, from: From) -> Result<(), Error> {
        let common = Arc::clone(&self.common);
        let _turn = common.requests.acquire().await;
        let end = match (self.end, self.until) {
            (Some(end), _) => end,
            (None, Until::Never) if self.common.config.snapshot => self.offsets(None).await?.latest_offset,
            (None, Until::Never) => u64::MAX,
            (None, Until::Offset(end)) => end,
            (None, Until::Latest) => self.offsets(None).await?.latest_offset,
            (None, Until::Timestamp(millis)) => {
                let offsets = self.offsets(Some(At::Timestamp(millis))).await?;
                offsets.offset.unwrap_or(offsets.latest_offset)
            }
        };
        self.end = Some(end);
        let position = match from {
            From::Offset(offset) => offset,
            From::Earliest => self.offsets(None).await?.earliest_offset,
            From::Latest => self.offsets(None).await?.latest_offset,
            From::Timestamp(millis) => {
                let offsets = self.offsets(Some(At::Timestamp(millis))).await?;
                offsets.offset.unwrap_or(offsets.latest_offset)
            }
            From::Tail(records) => {
                let offsets = self.offsets(None).await?;
                offsets.latest_offset.saturating_sub(records).max(offsets.earliest_offset)
            }
        };
        self.place = Place::At(position);
        self.tell(What::Started { position, end });
        Ok(())
    }

    async fn fetch(&mut self, position: u64) -> Result<(), Error> {
        let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return Ok(()) };
        let common = Arc::clone(&self.common);
        if common.is_crowded() && self.mark.wait_for(|mark| mark.is_worth_asking(position)).await.is_err() {
            return Ok(()); // The consumer is gone.
        }
        let turn = common.requests.acquire().await;
        let max_wait = common.max_wait();
        let fetch = Fetch {
            max_bytes: Some(common.fetch_bytes() as u64),
            max_wait: Some(max_wait).filter(|wait| !wait.is_zero()),
            ..Fetch::from_offset(position)
        };
        let start = Instant::now();
        let read = |answer| FetchedBatches::read(&answer, Some(position));
        let fetched = self.ask(batches_call(&self.topic, self.partition, &fetch), max_wait, read).await?;
        drop(turn);
        // An answer may go on beyond the end; the reader does not.
        self.place = Place::At(fetched.next_offset.min(self.end.unwrap_or(u64::MAX)));
        let bytes = fetched.bytes.len();
        if bytes == 0 {
            if common.config.snapshot {
                return self.nothing_more(position, fetched.high_watermark);
            }
            // A server that cannot wait for records (it is stopping, say) is not asked again at once.
            if start.elapsed() < TURN {
                tokio::time::sleep(TURN).await;
            }
            return Ok(());
        }
        common.counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        common.counts.buffered_bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { common, bytes, _permit: permit };
        let (next_offset, high_watermark) = (fetched.next_offset, fetched.high_watermark);
        self.tell(What::Fetched(Chunk { batches: fetched.batches(), position, next_offset, high_watermark, _room: room }));
        Ok(())
    }

    /// A snapshot has had an empty answer: it ends, unless there should have been something.
    fn nothing_more(&mut self, position: u64, high_watermark: u64) -> Result<(), Error> {
        if high_watermark > position {
            let reason = format!("it has nothing from offset {position} on, although the partition goes up to {high_watermark}");
            return Err(Error::Answer { call: "a fetch of batches".to_owned(), reason });
        }
        self.place = Place::Over;
        self.tell(What::Finished { position });
        Ok(())
    }
}
