//! Records out of partitions: fetched as stored batches, checked and unpacked here.
//!
//! Without following, the partitions are read one after the other, so that the same question has the same answer. Following, all are asked at
//! once and records come as they come; a server that goes away for a while is waited for.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidegate_client::{At, Client, Error, Fetch, FetchedBatches, Header, PartitionDescription, Record, TopicDescription, Value, batch};
use tidegate_types::Encoding;

use super::object;
use super::span::{Known, Range, Span};
use crate::cli::Failure;

/// Bytes that one fetch asks for.
const FETCH_BYTES: u64 = 1 << 20;
/// Partitions that are asked at the same time.
const ASKED_AT_ONCE: usize = 32;
/// How long a fetch waits for records if each partition has one under way …
const WAIT: Duration = Duration::from_secs(25);
/// … and if they take turns.
const WAIT_IN_TURN: Duration = Duration::from_millis(500);
/// How long to wait before a failed fetch is tried again; each further one waits twice as long …
const BACKOFF: Duration = Duration::from_millis(200);
/// … up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How often a fetch is tried without following.
const TRIES: u32 = 4;

/// Some records of one partition.
#[derive(Debug)]
pub(in crate::cli) struct Page {
    /// In order of their offsets; may be none.
    pub(in crate::cli) records: Vec<Record>,
    /// Records that were looked at for it.
    pub(in crate::cli) scanned: u64,
}

/// What a reader tells.
#[derive(Debug)]
pub(in crate::cli) enum Event {
    /// Records.
    Page(Page),
    /// A fetch has failed and will be tried again.
    Retry(Error),
}

type Answer = (Span, u32, Result<FetchedBatches, Error>);
type Asked<'c> = Pin<Box<dyn Future<Output = Answer> + 'c>>;

/// Reads spans of a topic's partitions.
pub(in crate::cli) struct Reader<'c> {
    client: &'c Client,
    topic: &'c str,
    follow: bool,
    /// Only records with this key.
    key: Option<Bytes>,
    waiting: VecDeque<Span>,
    asked: FuturesUnordered<Asked<'c>>,
    partitions: usize,
}

impl<'c> Reader<'c> {
    /// Reads `spans`, beyond them if it is to `follow`; with a `key`, only its records.
    pub(in crate::cli) fn new(client: &'c Client, topic: &'c str, spans: Vec<Span>, follow: bool, key: Option<Bytes>) -> Self {
        let partitions = spans.len();
        Self { client, topic, follow, key, waiting: spans.into(), asked: FuturesUnordered::new(), partitions }
    }

    /// What comes next; `None` when all has been read. A call that was given up loses nothing.
    ///
    /// # Errors
    /// What a fetch has come to.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            self.ask();
            let Some((mut span, tries, answer)) = self.asked.next().await else { return Ok(None) };
            let fetched = match answer {
                Ok(fetched) => fetched,
                Err(error) if error.is_retryable() && (self.follow || tries + 1 < TRIES) => {
                    self.asked.push(self.fetch(span, tries + 1));
                    return Ok(Some(Event::Retry(error)));
                }
                Err(error) => return Err(error),
            };
            let is_empty = fetched.bytes.is_empty();
            let page = unpack(&fetched, &mut span, self.key.as_deref())?;
            // Without following, an empty answer is the end, whatever was expected: nothing is to be waited for.
            if !(span.is_done() || is_empty && !self.follow) {
                if self.follow { self.waiting.push_back(span) } else { self.waiting.push_front(span) }
            }
            if page.scanned > 0 {
                return Ok(Some(Event::Page(page)));
            }
        }
    }

    fn ask(&mut self) {
        let at_once = if self.follow { ASKED_AT_ONCE } else { 1 };
        while self.asked.len() < at_once {
            let Some(span) = self.waiting.pop_front() else { return };
            if !span.is_done() {
                self.asked.push(self.fetch(span, 0));
            }
        }
    }

    fn fetch(&self, span: Span, tries: u32) -> Asked<'c> {
        let (client, topic) = (self.client, self.topic);
        let wait = if self.partitions > ASKED_AT_ONCE { WAIT_IN_TURN } else { WAIT };
        let fetch = Fetch { max_bytes: Some(FETCH_BYTES), max_wait: self.follow.then_some(wait), ..Fetch::from_offset(span.next) };
        Box::pin(async move {
            if let Some(before) = tries.checked_sub(1) {
                tokio::time::sleep(BACKOFF.saturating_mul(1 << before.min(10)).min(BACKOFF_MAX)).await;
            }
            (span, tries, client.fetch_batches(topic, span.partition, &fetch).await)
        })
    }
}

/// Takes the records of `span` out of `fetched`, and moves the span on.
fn unpack(fetched: &FetchedBatches, span: &mut Span, key: Option<&[u8]>) -> Result<Page, Error> {
    let (mut records, mut scanned) = (Vec::new(), 0);
    let (partition, start) = (span.partition, span.next);
    for stored in fetched.batches() {
        let damaged =
            |error: tidegate_types::BatchError| Error::Answer { call: "a fetch of batches".to_owned(), reason: error.to_string() };
        let stored = stored.map_err(damaged)?;
        batch::read(&stored, start, |record| {
            let is_late = span.end_time.is_some_and(|time| record.timestamp.millis() >= time);
            if is_late && span.end.is_none_or(|end| record.offset.get() < end) {
                span.end = Some(record.offset.get());
            }
            if span.end.is_some_and(|end| record.offset.get() >= end) {
                return;
            }
            scanned += 1;
            if key.is_none_or(|key| record.key == Some(key)) {
                records.push(owned(partition, record));
            }
        })?;
    }
    span.next = fetched.next_offset.max(start);
    Ok(Page { records, scanned })
}

fn owned(partition: u32, record: &tidegate_types::Record<'_>) -> Record {
    let value = match (record.value, record.encoding) {
        (None, _) => Value::Tombstone,
        (Some(bytes), Encoding::Bytes) => Value::Bytes(Bytes::copy_from_slice(bytes)),
        // A batch that a client made may say JSON of something that is none.
        (Some(bytes), Encoding::Json) => object::json_of(bytes).map_or_else(|_| super::text_or_bytes(bytes), Value::Json),
        (Some(bytes), Encoding::Text | Encoding::Unknown) => super::text_or_bytes(bytes),
    };
    let header = |h: tidegate_types::record::Header<'_>| Header { name: h.name.to_owned(), value: h.value.map(Bytes::copy_from_slice) };
    Record {
        partition,
        offset: record.offset.get(),
        timestamp: record.timestamp.millis(),
        key: record.key.map(Bytes::copy_from_slice),
        value,
        headers: record.headers.iter().map(header).collect(),
    }
}

/// Whether the topic has these partitions.
///
/// # Errors
/// [`Failure::NotFound`] that names the first it has not.
pub(in crate::cli) fn require_partitions(topic: &TopicDescription, partitions: &[u32]) -> Result<(), Failure> {
    match partitions.iter().find(|p| !topic.partitions.iter().any(|known| known.partition == **p)) {
        None => Ok(()),
        Some(missing) => {
            let last = topic.partitions.len().saturating_sub(1);
            Err(Failure::NotFound(format!("topic '{}' has no partition {missing}: they are 0 to {last}", topic.name)))
        }
    }
}

/// The offsets of the partitions that are wanted; all if none are named.
///
/// # Errors
/// [`Failure::NotFound`] if one does not exist, [`Failure::TooLate`] if one has no leader to ask.
pub(in crate::cli) fn known(topic: &TopicDescription, partitions: &[u32]) -> Result<Vec<Known>, Failure> {
    require_partitions(topic, partitions)?;
    let wanted = topic.partitions.iter().filter(|p| partitions.is_empty() || partitions.contains(&p.partition));
    wanted.map(offsets_of).collect()
}

fn offsets_of(partition: &PartitionDescription) -> Result<Known, Failure> {
    match (partition.earliest_offset, partition.latest_offset) {
        (Some(earliest), Some(latest)) => Ok(Known { partition: partition.partition, earliest, latest }),
        _ => Err(Failure::TooLate(format!("partition {} has no leader that could be asked for its offsets now", partition.partition))),
    }
}

/// What `range` means for each partition; looks up the times in it.
///
/// # Errors
/// [`Failure::Local`] if it begins where no partition has anything; else what a look-up came to.
pub(in crate::cli) async fn spans(client: &Client, topic: &str, known: &[Known], range: &Range, now: i64) -> Result<Vec<Span>, Failure> {
    let mut spans = Vec::new();
    for known in known {
        let mut found = BTreeMap::new();
        for time in range.times(now) {
            let offsets = client.offsets(topic, known.partition, Some(At::Timestamp(time))).await?;
            // Where nothing is as late, the answer is the end and has no timestamp.
            found.insert(time, offsets.offset.filter(|_| offsets.timestamp.is_some()));
        }
        let span = range.span(*known, now, |time| found.get(&time).copied().flatten()).map_err(Failure::Local)?;
        spans.push(span);
    }
    if !range.follow && !spans.is_empty() && spans.iter().zip(known).all(|(span, known)| span.next > known.latest) {
        let ends: Vec<_> = known.iter().take(8).map(|k| format!("partition {} ends at {}", k.partition, k.latest)).collect();
        return Err(Failure::Local(format!("--from {} is beyond the end: {}", range.from, ends.join(", "))));
    }
    Ok(spans)
}
