//! The consumer: reads partitions from any place on, in order, ahead of whoever asks, without a word to the server of where it stands.
//!
//! ```no_run
//! # use tidegate_client::{Client, Until};
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let mut consumer = client.consumer().topic("hello").until(Until::Latest).build().await?;
//! while let Some(batch) = consumer.next().await? {
//!     for record in batch.iter() {
//!         println!("{}/{}: {:?}", batch.partition, record.offset, record.value);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - **Each record once, in order, within a partition.** Positions are in the requests, so a lost answer is asked for again and nothing is
//!   skipped or handed out twice. Partitions know nothing of each other.
//! - **Bounded memory.** All partitions together have at most `prefetch_bytes` fetched or on their way, packed as they came (a batch that is larger than
//!   its partition's share comes alone); one batch at a time is unpacked, to 32 MiB at most.
//! - What may pass is tried again, for ever if nothing else is said, and shows in [`ConsumerMetrics::retries`]; what may not is told once by
//!   [`Consumer::next`], behind all that came before it, and stops its partition until a [`Consumer::seek`].
//! - **Nothing is passed over.** An answer that is longer than what was asked for, has bytes that are no batch, or does not reach where it says is
//!   [`Error::Answer`], and none of it is handed out.
//! - Dropping the consumer ends its requests.
//!
//! A program that must not lose its place keeps [`Consumer::position`] where it keeps its results, and begins there the next time.
//!
//! | module | subject |
//! |---|---|
//! | `config` | what it may be told |
//! | `fetcher` | one partition's task |
//! | `lookout` | what is seen of whole topics: new partitions, ends that moved |
//! | `reader` | what a consumer knows of one partition |
//! | `batch` | what is handed out |

mod batch;
mod config;
mod fetcher;
mod lookout;
mod reader;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use batch::ConsumedBatch;
pub use config::{ConsumerBuilder, ConsumerConfig, Until};

use config::{Span, Wanted};
use fetcher::{Assignment, Common, Fetcher, News, Order, REQUESTS, SNAPSHOT_WINDOW, What};
use lookout::{Marks, look_for_partitions, look_for_records};
use reader::Reader;

use crate::backoff::deadline;
use crate::client::Client;
use crate::error::Error;
use crate::fetch::From;
use crate::routing::TopicRoute;

/// Why a partition stopped.
#[derive(Debug, thiserror::Error)]
#[error("partition {partition} of topic '{topic}': {error}")]
pub struct ConsumerError {
    /// The topic …
    pub topic: Arc<str>,
    /// … and the partition.
    pub partition: u32,
    /// What went wrong.
    pub error: Error,
}

/// Counts since the start, and how things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConsumerMetrics {
    /// Partitions that are read.
    pub partitions: usize,
    /// Records handed out.
    pub records: u64,
    /// Batches handed out.
    pub batches: u64,
    /// Bytes fetched, packed as they came.
    pub bytes: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests that failed and were tried again.
    pub retries: u64,
    /// Times that an offset was gone and [`ConsumerConfig::reset`] said where to go on.
    pub resets: u64,
    /// Bytes fetched and not yet handed out.
    pub buffered_bytes: usize,
}

/// Reads records. Made by [`Client::consumer`].
#[derive(Debug)]
pub struct Consumer {
    common: Arc<Common>,
    readers: Vec<Reader>,
    by_place: HashMap<Arc<str>, BTreeMap<u32, usize>>,
    news: mpsc::UnboundedReceiver<News>,
    news_sender: mpsc::UnboundedSender<News>,
    /// Topics that may have new partitions.
    routes: mpsc::Receiver<Arc<TopicRoute>>,
    /// Readers that have something to hand out, in the order in which it came.
    ready: VecDeque<usize>,
    /// Of a snapshot: the reader whose turn it is.
    turn: usize,
    marks: Arc<Marks>,
    /// Fetchers and whoever looks at whole topics; they end with the consumer.
    tasks: JoinSet<()>,
    records: u64,
    batches: u64,
}

impl Consumer {
    async fn start(client: Client, wanted: BTreeMap<String, Wanted>, config: ConsumerConfig) -> Result<Self, Error> {
        let deadline = deadline(config.request_timeout);
        let (news_sender, news) = mpsc::unbounded_channel();
        let (route_sender, routes) = mpsc::channel(1);
        let mut consumer = Self {
            common: Arc::new(Common::new(client, config)),
            readers: Vec::new(),
            by_place: HashMap::new(),
            news,
            news_sender,
            routes,
            ready: VecDeque::new(),
            turn: 0,
            marks: Arc::default(),
            tasks: JoinSet::new(),
            records: 0,
            batches: 0,
        };
        let mut whole = Vec::new();
        let mut places = Vec::new();
        for (topic, wanted) in wanted {
            let route = consumer.learn(&topic, deadline).await?;
            let partitions = route.partitions();
            if let Some(missing) = wanted.named.keys().find(|partition| **partition >= partitions) {
                return Err(Error::Input(format!("topic '{topic}' has {partitions} partitions, and no partition {missing}")));
            }
            let all = (0..partitions).filter(|partition| wanted.is_whole || wanted.named.contains_key(partition));
            places.extend(
                all.map(|partition| (Arc::clone(&route.name), partition, wanted.named.get(&partition).copied().unwrap_or_default())),
            );
            if wanted.is_whole && !consumer.common.config.snapshot {
                whole.push(route);
            }
        }
        // All share the prefetch, from the first request on.
        consumer.common.partitions.store(places.len(), Ordering::Relaxed);
        for (topic, partition, span) in places {
            consumer.add(&topic, partition, span);
        }
        // An end is an end of the partitions of now.
        if consumer.common.config.until == Until::Never && !whole.is_empty() {
            consumer.tasks.spawn(look_for_partitions(Arc::clone(&consumer.common), whole, route_sender));
        }
        consumer.all_started(deadline).await?;
        Ok(consumer)
    }

    /// A topic's partitions; tried again until the deadline.
    async fn learn(&self, topic: &str, deadline: Instant) -> Result<Arc<TopicRoute>, Error> {
        loop {
            // What is known may be old: the topic may have more partitions by now.
            let known = self.common.client.routing().known(topic);
            let learned = tokio::time::timeout_at(deadline, self.common.client.learn(topic, known.as_ref())).await;
            match learned.unwrap_or(Err(Error::Timeout(self.common.config.request_timeout))) {
                Err(error) if error.may_pass() && crate::backoff::deadline(self.common.config.retry_backoff) < deadline => {
                    tokio::time::sleep(self.common.config.retry_backoff).await;
                }
                other => return other,
            }
        }
    }

    fn add(&mut self, topic: &Arc<str>, partition: u32, span: Span) {
        let (id, config) = (self.readers.len(), &self.common.config);
        let (from, until) = (span.from.unwrap_or(config.from), span.until.unwrap_or(config.until));
        let is_paused = config.snapshot && id >= SNAPSHOT_WINDOW;
        let order = Order { generation: 0, from, is_paused, is_stopped: false };
        let (orders, receiver) = watch::channel(order);
        self.readers.push(Reader::new(Arc::clone(topic), partition, orders));
        self.by_place.entry(Arc::clone(topic)).or_default().insert(partition, id);
        self.common.partitions.fetch_max(self.readers.len(), Ordering::Relaxed);
        let assignment = Assignment { reader: id, topic: Arc::clone(topic), partition, until, mark: self.marks.watch(topic, partition) };
        let fetcher = Fetcher::new(Arc::clone(&self.common), assignment, self.news_sender.clone());
        self.tasks.spawn(fetcher.run(receiver));
        if !self.common.config.snapshot && self.readers.len() == REQUESTS + 1 {
            self.tasks.spawn(look_for_records(Arc::clone(&self.common), Arc::clone(&self.marks)));
        }
    }

    /// Waits until every partition has found its place, so that what is written from now on is read.
    async fn all_started(&mut self, deadline: Instant) -> Result<(), Error> {
        let begun = if self.common.config.snapshot { SNAPSHOT_WINDOW } else { self.readers.len() };
        while self.readers.iter().take(begun).any(|reader| !reader.is_started()) {
            let timeout = |_| Error::Timeout(self.common.config.request_timeout);
            let news = tokio::time::timeout_at(deadline, self.news.recv()).await.map_err(timeout)?;
            let Some(news) = news else { continue };
            let id = news.reader;
            self.hear(news);
            let reader = &mut self.readers[id];
            if !self.common.config.snapshot
                && reader.position().is_none()
                && let Some(error) = reader.take_failure()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The next records of whichever partition has some; waits for them. `None` once every partition has come to its end ([`ConsumerConfig::until`])
    /// or stopped. May be cut off while it waits.
    ///
    /// # Errors
    /// [`ConsumerError`], once for each partition that cannot go on: its offset is gone ([`ConsumerConfig::reset`]), its topic is, what was fetched is
    /// damaged, or the server refuses. The others go on with the next call.
    pub async fn next(&mut self) -> Result<Option<ConsumedBatch>, ConsumerError> {
        loop {
            while let Some(id) = self.first_ready() {
                match self.readers[id].next_batch() {
                    Ok(Some(batch)) => {
                        self.records += batch.len() as u64;
                        self.batches += 1;
                        return Ok(Some(batch));
                    }
                    Ok(None) => drop(self.ready.pop_front()),
                    Err(error) => {
                        self.ready.pop_front();
                        return Err(self.stopped(id, error));
                    }
                }
            }
            if self.pass_turn() {
                continue;
            }
            if self.readers.iter().all(Reader::is_over) {
                return Ok(None);
            }
            tokio::select! {
                Some(news) = self.news.recv() => self.hear(news),
                Some(route) = self.routes.recv() => self.add_new(&route),
                else => return Ok(None),
            }
        }
    }

    /// A snapshot goes on with the next partition once one has come to its end, and begins to fetch another. Whether it did.
    fn pass_turn(&mut self) -> bool {
        let before = self.turn;
        while self.common.config.snapshot && self.readers.get(self.turn).is_some_and(Reader::is_over) {
            self.turn += 1;
            if let Some(next) = self.readers.get(self.turn + SNAPSHOT_WINDOW - 1) {
                next.pause(false);
            }
        }
        self.turn != before
    }

    /// Whose records are handed out next.
    fn first_ready(&self) -> Option<usize> {
        if self.common.config.snapshot {
            Some(self.turn).filter(|id| self.readers.get(*id).is_some_and(|r| r.held() > 0))
        } else {
            self.ready.front().copied()
        }
    }

    fn stopped(&self, id: usize, error: Error) -> ConsumerError {
        let reader = &self.readers[id];
        ConsumerError { topic: Arc::clone(&reader.topic), partition: reader.partition, error }
    }

    fn hear(&mut self, news: News) {
        let reader = &mut self.readers[news.reader];
        if news.generation != reader.generation() {
            return; // From before a seek.
        }
        let is_ready = match news.what {
            What::Started { position, end } => {
                reader.started(position, end);
                false
            }
            What::Finished { position } => {
                reader.finished(position);
                false
            }
            What::Fetched(chunk) => reader.hold(chunk),
            What::Failed(error) => reader.fail(error),
        };
        if is_ready && !self.common.config.snapshot {
            self.ready.push_back(news.reader);
        }
    }

    /// Partitions that the topic has got since; they are read from their beginning, so that nothing written to them is missed.
    fn add_new(&mut self, route: &TopicRoute) {
        for partition in 0..route.partitions() {
            let is_known = self.by_place.get(&route.name).is_some_and(|partitions| partitions.contains_key(&partition));
            if !is_known {
                self.add(&route.name, partition, Span { from: Some(From::Earliest), until: None });
            }
        }
    }

    fn reader(&self, topic: &str, partition: u32) -> Result<usize, Error> {
        let id = self.by_place.get(topic).and_then(|partitions| partitions.get(&partition)).copied();
        id.ok_or_else(|| Error::Input(format!("partition {partition} of topic '{topic}' is not read by this consumer")))
    }

    /// The partitions that are read, by topic and number.
    pub fn partitions(&self) -> impl Iterator<Item = (&str, u32)> {
        self.readers.iter().map(|reader| (reader.topic.as_ref(), reader.partition))
    }

    /// The offset after the last record that was handed out: where to begin if this consumer ended now. `None` if the partition is not read, or
    /// has not found its place yet (for a moment after a [`Consumer::seek`], or when it is new).
    pub fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        self.reader(topic, partition).ok().and_then(|id| self.readers[id].position())
    }

    /// Goes on at another place: the next batch of that partition begins there. Starts a partition that has stopped.
    ///
    /// # Errors
    /// [`Error::Input`] if the partition is not read.
    pub fn seek(&mut self, topic: &str, partition: u32, to: From) -> Result<(), Error> {
        let id = self.reader(topic, partition)?;
        self.readers[id].seek(to);
        self.ready.retain(|ready| *ready != id);
        Ok(())
    }

    /// Ends the partition where it stands: nothing more of it is handed out or fetched, until a [`Consumer::seek`].
    ///
    /// # Errors
    /// [`Error::Input`] if the partition is not read.
    pub fn finish(&mut self, topic: &str, partition: u32) -> Result<(), Error> {
        let id = self.reader(topic, partition)?;
        self.readers[id].stop_fetching();
        self.ready.retain(|ready| *ready != id);
        Ok(())
    }

    /// Hands out nothing more of the partition, and fetches no further than it has, until [`Consumer::resume`].
    ///
    /// # Errors
    /// [`Error::Input`] if the partition is not read.
    pub fn pause(&mut self, topic: &str, partition: u32) -> Result<(), Error> {
        let id = self.reader(topic, partition)?;
        self.readers[id].pause(true);
        self.ready.retain(|ready| *ready != id);
        Ok(())
    }

    /// Goes on where [`Consumer::pause`] stopped.
    ///
    /// # Errors
    /// [`Error::Input`] if the partition is not read.
    pub fn resume(&mut self, topic: &str, partition: u32) -> Result<(), Error> {
        let id = self.reader(topic, partition)?;
        self.readers[id].pause(false);
        self.ready.retain(|ready| *ready != id);
        self.ready.extend(std::iter::repeat_n(id, self.readers[id].held()));
        Ok(())
    }

    /// Why something was tried again last; `None` if nothing ever was. [`ConsumerMetrics::retries`] tells whether that is news.
    pub fn last_retry(&self) -> Option<String> {
        self.common.retried.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts, and how things stand.
    pub fn metrics(&self) -> ConsumerMetrics {
        let counts = &self.common.counts;
        ConsumerMetrics {
            partitions: self.readers.len(),
            records: self.records,
            batches: self.batches,
            bytes: counts.bytes.load(Ordering::Relaxed),
            requests: counts.requests.load(Ordering::Relaxed),
            retries: counts.retries.load(Ordering::Relaxed),
            resets: counts.resets.load(Ordering::Relaxed),
            buffered_bytes: counts.buffered_bytes.load(Ordering::Relaxed),
        }
    }
}
