//! Records out of partitions: the client's consumer reads ahead, what it hands out is unpacked here, and what is not wanted is left out.
//!
//! Without following, the partitions come one after the other, so that the same question has the same answer. Following, records come as they
//! come; a server that goes away for a while is waited for.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use tidegate_client::{
    At, Client, ConsumedBatch, Consumer, Error, From, Header, PartitionDescription, Record, TopicDescription, Until, Value,
};
use tidegate_types::Encoding;

use super::object;
use super::span::{Known, Range, Span};
use crate::cli::Failure;

/// Bytes that are fetched ahead …
const PREFETCH_BYTES: usize = 16 << 20;
/// … and if only a few records are wanted.
const PREFETCH_BYTES_FEW: usize = 1 << 20;
/// So few.
const FEW: u64 = 1_000;
/// How long a fetch waits for records.
const WAIT: Duration = Duration::from_secs(25);
/// How long a call may take if nothing else was said.
const CALL: Duration = Duration::from_secs(30);
/// How long a failed fetch is tried again without following.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether anything is tried again.
const GLANCE: Duration = Duration::from_millis(500);
/// Questions for offsets that are under way at the same time.
const QUESTIONS: usize = 32;

/// Some records of one partition.
#[derive(Debug)]
pub(in crate::cli) struct Page {
    /// Where they stand.
    pub(in crate::cli) partition: u32,
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
    /// A fetch has failed and is tried again; a sentence.
    Retry(String),
}

/// How to read.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Manner {
    /// Go on beyond what is there.
    pub(in crate::cli) follow: bool,
    /// Only records with this key.
    pub(in crate::cli) key: Option<Bytes>,
    /// No more records than this are wanted.
    pub(in crate::cli) limit: Option<u64>,
    /// How long one call may take, if that was said.
    pub(in crate::cli) timeout: Option<Duration>,
}

/// Reads spans of a topic's partitions.
#[derive(Debug)]
pub(in crate::cli) struct Reader {
    /// None if there was nothing to read.
    consumer: Option<Consumer>,
    topic: String,
    key: Option<Bytes>,
    /// A record of this time or later ends its partition; in milliseconds since 1970.
    end_times: HashMap<u32, i64>,
    retries: u64,
}

impl Reader {
    /// Reads `spans` in the given manner. Those that are empty cost nothing.
    ///
    /// # Errors
    /// What the first questions come to.
    pub(in crate::cli) async fn open(client: &Client, topic: &str, spans: &[Span], manner: Manner) -> Result<Self, Error> {
        let is_few = manner.limit.is_some_and(|limit| limit <= FEW);
        let mut builder = client
            .consumer()
            .snapshot(!manner.follow)
            .prefetch_bytes(if is_few { PREFETCH_BYTES_FEW } else { PREFETCH_BYTES })
            .max_wait(WAIT)
            .request_timeout(manner.timeout.unwrap_or(CALL))
            .retry_timeout(if manner.follow { None } else { Some(PATIENCE) });
        let mut wanted = spans.iter().filter(|span| !span.is_done()).peekable();
        let is_empty = wanted.peek().is_none();
        for span in wanted {
            let until = span.end.map_or(Until::Never, Until::Offset);
            builder = builder.partition_between(topic, span.partition, From::Offset(span.next), until);
        }
        let consumer = if is_empty { None } else { Some(builder.build().await?) };
        let end_times = spans.iter().filter_map(|span| Some((span.partition, span.end_time?))).collect();
        Ok(Self { consumer, topic: topic.to_owned(), key: manner.key, end_times, retries: 0 })
    }

    /// What comes next; `None` when all has been read. A call that was given up loses nothing.
    ///
    /// # Errors
    /// What a fetch has come to.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<Event>, Error> {
        let Some(consumer) = &mut self.consumer else { return Ok(None) };
        loop {
            tokio::select! {
                biased;
                batch = consumer.next() => {
                    let Some(batch) = batch.map_err(|stopped| stopped.error)? else { return Ok(None) };
                    let end_time = self.end_times.get(&batch.partition).copied();
                    let (page, is_end) = unpack(&batch, end_time, self.key.as_deref());
                    if is_end {
                        consumer.finish(&self.topic, page.partition)?;
                    }
                    if page.scanned > 0 {
                        return Ok(Some(Event::Page(page)));
                    }
                }
                () = tokio::time::sleep(GLANCE) => {
                    let retries = consumer.metrics().retries;
                    if let Some(reason) = consumer.last_retry().filter(|_| retries > self.retries) {
                        self.retries = retries;
                        return Ok(Some(Event::Retry(reason)));
                    }
                }
            }
        }
    }
}

/// The records of a batch that are wanted, and whether one of them was too late, so that its partition is over.
fn unpack(batch: &ConsumedBatch, end_time: Option<i64>, key: Option<&[u8]>) -> (Page, bool) {
    let mut page = Page { partition: batch.partition, records: Vec::new(), scanned: 0 };
    for record in batch.iter() {
        if end_time.is_some_and(|time| record.timestamp.millis() >= time) {
            return (page, true);
        }
        page.scanned += 1;
        if key.is_none_or(|key| record.key == Some(key)) {
            page.records.push(owned(batch.partition, &record));
        }
    }
    (page, false)
}

/// The record with its own copy of everything; what is not what it is marked as comes out as what it is.
pub(in crate::cli) fn owned(partition: u32, record: &tidegate_types::Record<'_>) -> Record {
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
/// [`Failure::Usage`] if it ends before it begins, [`Failure::Local`] if it begins where no partition has anything; else what a look-up came to.
pub(in crate::cli) async fn spans(client: &Client, topic: &str, known: &[Known], range: &Range, now: i64) -> Result<Vec<Span>, Failure> {
    range.check(now).map_err(Failure::Usage)?;
    let one = |known: Known| async move {
        let mut found = HashMap::new();
        for time in range.times(now) {
            let offsets = client.offsets(topic, known.partition, Some(At::Timestamp(time))).await?;
            // Where nothing is as late, the answer is the end and has no timestamp.
            found.insert(time, offsets.offset.filter(|_| offsets.timestamp.is_some()));
        }
        range.span(known, now, |time| found.get(&time).copied().flatten()).map_err(Failure::Local)
    };
    let spans: Vec<Span> = iter(known.iter().copied()).map(one).buffered(QUESTIONS).try_collect().await?;
    if !range.follow && !spans.is_empty() && spans.iter().zip(known).all(|(span, known)| span.next > known.latest) {
        let ends: Vec<_> = known.iter().take(8).map(|k| format!("partition {} ends at {}", k.partition, k.latest)).collect();
        return Err(Failure::Local(format!("--from {} is beyond the end: {}", range.from, ends.join(", "))));
    }
    if let Some((span, end)) =
        spans.iter().find_map(|span| Some((span, span.end.filter(|end| *end < span.next)?))).filter(|_| range.is_backwards(&spans))
    {
        let (until, from) = (range.until.unwrap_or(range.from), range.from);
        return Err(Failure::Usage(format!(
            "--until {until} is before --from {from}: in partition {} that is offset {end} before offset {}",
            span.partition, span.next
        )));
    }
    Ok(spans)
}
