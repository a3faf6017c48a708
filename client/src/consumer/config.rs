//! What a consumer may be told, with its defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::Client;
use crate::consumer::Consumer;
use crate::error::Error;
use crate::fetch::{From, OffsetReset};

/// Where a partition's reading ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Until {
    /// It does not: what comes later is waited for.
    #[default]
    Never,
    /// At what was the end when the reading began.
    Latest,
    /// Before this offset.
    Offset(u64),
    /// Before the first record with a timestamp of at least this, in milliseconds since 1970; if there was none when the reading
    /// began, at what was the end then.
    Timestamp(i64),
}

/// How a [`Consumer`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// Where each partition begins ([`From::Earliest`]).
    pub from: From,
    /// Where each partition ends ([`Until::Never`]).
    pub until: Until,
    /// What if an offset is gone, or not there yet ([`OffsetReset::Error`]).
    pub reset: OffsetReset,
    /// Bytes that may be fetched ahead for all partitions together (16 MiB), packed as they come; a batch that is larger than its partition's
    /// share of it is still fetched, alone. When a topic gets partitions, what was fetched before by the larger shares still stands beside it for a while.
    pub prefetch_bytes: usize,
    /// How long a server may hold back an answer while there is nothing to read (10 s).
    pub max_wait: Duration,
    /// How long a request may take beside that (30 s).
    pub request_timeout: Duration,
    /// How long to wait before the first retry (100 ms); each further one waits twice as long …
    pub retry_backoff: Duration,
    /// … up to this (1 s). All waits are jittered by a fifth.
    pub retry_backoff_max: Duration,
    /// How often to look for new partitions of topics that are read whole (30 s).
    pub metadata_max_age: Duration,
    /// How long what may pass is tried again before it counts as a failure (for ever).
    pub retry_timeout: Option<Duration>,
    /// Reads what is there, waits for nothing, and hands out one partition after the other: the same question has the same answer. A partition without an
    /// end ends at what was the end when its reading began. Only the next few partitions are fetched ahead (false).
    pub snapshot: bool,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            from: From::Earliest,
            until: Until::Never,
            reset: OffsetReset::Error,
            prefetch_bytes: 16 << 20,
            max_wait: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(30),
            retry_timeout: None,
            snapshot: false,
        }
    }
}

/// What of a topic is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    /// All partitions, new ones too.
    pub(super) is_whole: bool,
    /// Partitions that were named, each with its own places if it has them.
    pub(super) named: BTreeMap<u32, Span>,
}

/// From where to where a partition is read; what is `None` is as for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    pub(super) from: Option<From>,
    pub(super) until: Option<Until>,
}

/// Makes a [`Consumer`]: [`Client::consumer`].
#[derive(Debug, Clone)]
pub struct ConsumerBuilder {
    client: Client,
    wanted: BTreeMap<String, Wanted>,
    config: ConsumerConfig,
}

macro_rules! setters {
    ($($name:ident: $type:ty,)*) => {
        impl ConsumerBuilder {
            $(
                #[doc = concat!("Sets [`ConsumerConfig::", stringify!($name), "`].")]
                #[must_use]
                pub const fn $name(mut self, $name: $type) -> Self {
                    self.config.$name = $name;
                    self
                }
            )*
        }
    };
}

setters! {
    from: From,
    until: Until,
    reset: OffsetReset,
    prefetch_bytes: usize,
    max_wait: Duration,
    request_timeout: Duration,
    retry_backoff: Duration,
    retry_backoff_max: Duration,
    metadata_max_age: Duration,
    retry_timeout: Option<Duration>,
    snapshot: bool,
}

impl ConsumerBuilder {
    /// Reads all partitions of the topic, and those that it gets later: they are read from their beginning.
    #[must_use]
    pub fn topic(mut self, topic: &str) -> Self {
        self.wanted.entry(topic.to_owned()).or_default().is_whole = true;
        self
    }

    /// Reads that partition of the topic.
    #[must_use]
    pub fn partition(self, topic: &str, partition: u32) -> Self {
        self.add(topic, partition, Span::default())
    }

    /// Reads that partition of the topic from a place of its own.
    #[must_use]
    pub fn partition_from(self, topic: &str, partition: u32, from: From) -> Self {
        self.add(topic, partition, Span { from: Some(from), until: None })
    }

    /// Reads that partition of the topic from a place of its own to an end of its own.
    #[must_use]
    pub fn partition_between(self, topic: &str, partition: u32, from: From, until: Until) -> Self {
        self.add(topic, partition, Span { from: Some(from), until: Some(until) })
    }

    fn add(mut self, topic: &str, partition: u32, span: Span) -> Self {
        self.wanted.entry(topic.to_owned()).or_default().named.insert(partition, span);
        self
    }

    /// All of it at once.
    #[must_use]
    pub const fn config(mut self, config: ConsumerConfig) -> Self {
        self.config = config;
        self
    }

    /// Learns the partitions and begins to fetch; its tasks run on the runtime that this is called in and end with the consumer.
    ///
    /// # Errors
    /// [`Error::Input`] if there is nothing to read, or no such partition; a problem `topic-not-found`; else as any call that was tried for
    /// `request_timeout`.
    pub async fn build(self) -> Result<Consumer, Error> {
        if self.wanted.is_empty() {
            return Err(Error::Input("a consumer needs a topic".to_owned()));
        }
        if self.config.prefetch_bytes == 0 || self.config.request_timeout.is_zero() || self.config.metadata_max_age.is_zero() {
            return Err(Error::Input("a consumer needs prefetch_bytes, request_timeout and metadata_max_age above 0".to_owned()));
        }
        Consumer::start(self.client, self.wanted, self.config).await
    }
}

impl Client {
    /// To make a consumer.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder { client: self.clone(), wanted: BTreeMap::new(), config: ConsumerConfig::default() }
    }
}
