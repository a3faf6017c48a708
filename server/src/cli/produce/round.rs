//! A round: records gathered into batches by partition, sent side by side, and told apart again by their lines.
//!
//! Its promise: **nothing is there twice, and the account is exact.** A batch is tried again only if it is certain that nothing of it was
//! written. Where the server refuses a batch, it is halved until the bad record stands alone: those before it are in, those after it in the
//! same partition are not sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tidegate_client::{AppendedBatches, Client, Error, NewRecord, ProduceOptions, batch};
use tidegate_types::partitioner::partition_for_key;
use tidegate_types::{Codec, SideEffects};

use crate::cli::record::input::Numbered;
use crate::cli::record::ledger::Position;

/// Records of one batch at most: what one request may have.
const BATCH_RECORDS_MAX: usize = 10_000;
/// Bytes that a record takes beside its key, value and headers, about.
const RECORD_OVERHEAD: usize = 24;
/// Batches of one round, so that it takes a bounded time and memory.
const BATCHES_MAX: usize = 16;
/// Partitions that are sent to at the same time.
const AT_ONCE: usize = 16;
/// For how long a batch is tried again of which nothing was written …
const TRY_FOR: Duration = Duration::from_secs(30);
/// … after a wait that is twice as long each time.
const BACKOFF: Duration = Duration::from_millis(100);

/// Records by partition, in the order of their lines.
#[derive(Debug)]
pub(super) struct Round {
    partition_count: u32,
    batch_bytes: usize,
    /// Where records without a key go; another partition each round.
    sticky: u32,
    batches: BTreeMap<u32, Vec<Vec<Numbered>>>,
    /// Bytes of each partition's last batch.
    filled: BTreeMap<u32, usize>,
    count: usize,
}

impl Round {
    /// An empty one.
    pub(super) fn new(partition_count: u32, batch_bytes: usize, sticky: u32) -> Self {
        let sticky = sticky % partition_count.max(1);
        Self { partition_count, batch_bytes, sticky, batches: BTreeMap::new(), filled: BTreeMap::new(), count: 0 }
    }

    /// The next round; this one is given away.
    pub(super) fn take(&mut self) -> Self {
        let next = Self::new(self.partition_count, self.batch_bytes, self.sticky.wrapping_add(1));
        std::mem::replace(self, next)
    }

    /// Whether there are no records.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it is to be sent now.
    pub(super) fn is_full(&self) -> bool {
        self.count >= BATCHES_MAX || self.filled.values().any(|bytes| *bytes >= self.batch_bytes)
    }

    /// Takes a record; `now` is its time if it has none.
    ///
    /// # Errors
    /// A sentence, if it names a partition that there is not.
    pub(super) fn push(&mut self, line: u64, mut record: NewRecord, now: i64) -> Result<(), String> {
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) if partition >= self.partition_count => {
                return Err(format!(
                    "the record names partition {partition}, and the topic has 0 to {}; --repartition forgets it",
                    self.partition_count - 1
                ));
            }
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, self.partition_count).get(),
            (None, None) => self.sticky,
        };
        record.timestamp.get_or_insert(now);
        let bytes = size(&record);
        let filled = self.filled.entry(partition).or_default();
        let batches = self.batches.entry(partition).or_default();
        match batches.last_mut() {
            Some(last) if *filled + bytes <= self.batch_bytes && last.len() < BATCH_RECORDS_MAX => {
                last.push((line, record));
                *filled += bytes;
            }
            _ => {
                batches.push(vec![(line, record)]);
                *filled = bytes;
                self.count += 1;
            }
        }
        Ok(())
    }

    /// Every line in it.
    pub(super) fn lines(&self) -> Vec<u64> {
        let mut lines: Vec<u64> = self.batches.values().flatten().flatten().map(|(line, _)| *line).collect();
        lines.sort_unstable();
        lines
    }
}

fn size(record: &NewRecord) -> usize {
    let headers: usize = record.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, bytes::Bytes::len) + 4).sum();
    RECORD_OVERHEAD + record.key.as_ref().map_or(0, bytes::Bytes::len) + record.value.as_bytes().map_or(0, <[u8]>::len) + headers
}

/// Why a record is not in.
#[derive(Debug, Clone)]
pub(super) enum NotIn {
    /// Its batch came to this.
    Failed(Arc<Error>),
    /// One before it in its partition failed, so that it was not sent.
    NotSent,
}

impl NotIn {
    /// Whether it may be in all the same.
    pub(super) fn side_effects(&self) -> SideEffects {
        match self {
            Self::Failed(error) => error.side_effects(),
            Self::NotSent => SideEffects::None,
        }
    }
}

/// A record's line, and what became of it.
pub(super) type Outcome = (u64, Result<Position, NotIn>);

/// How batches are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sending<'c> {
    pub(super) client: &'c Client,
    pub(super) topic: &'c str,
    pub(super) codec: Codec,
    pub(super) options: ProduceOptions,
}

impl Sending<'_> {
    /// Sends a round and waits for all of it: what became of each record, in the order of the lines.
    pub(super) async fn send(&self, round: Round) -> Vec<Outcome> {
        let partitions = stream::iter(round.batches).map(|(partition, batches)| self.partition(partition, batches));
        let mut outcomes: Vec<Outcome> = partitions.buffer_unordered(AT_ONCE).concat().await;
        outcomes.sort_unstable_by_key(|(line, _)| *line);
        outcomes
    }

    async fn partition(&self, partition: u32, mut batches: Vec<Vec<Numbered>>) -> Vec<Outcome> {
        batches.reverse();
        let mut outcomes = Vec::new();
        while let Some(batch) = batches.pop() {
            let (lines, records): (Vec<u64>, Vec<NewRecord>) = batch.into_iter().unzip();
            match self.batch(partition, &records).await {
                Ok(appended) => {
                    let offset = |index: u64| appended.base_offset.map(|base| base + index);
                    let position = |(index, record): (u64, &NewRecord)| Position {
                        partition,
                        offset: offset(index),
                        timestamp: record.timestamp.unwrap_or_default(),
                    };
                    outcomes.extend(lines.into_iter().zip((0..).zip(&records).map(|numbered| Ok(position(numbered)))));
                }
                Err(error) if records.len() > 1 && is_refusal(&error) => {
                    let mut whole: Vec<Numbered> = lines.into_iter().zip(records).collect();
                    let second = whole.split_off(whole.len() / 2);
                    batches.extend([second, whole]);
                }
                Err(error) => {
                    let error = Arc::new(error);
                    outcomes.extend(lines.into_iter().map(|line| (line, Err(NotIn::Failed(Arc::clone(&error))))));
                    outcomes.extend(batches.drain(..).rev().flatten().map(|(line, _)| (line, Err(NotIn::NotSent))));
                }
            }
        }
        outcomes
    }

    /// Sends a batch until it is there, or may be, or time is up.
    async fn batch(&self, partition: u32, records: &[NewRecord]) -> Result<AppendedBatches, Error> {
        let packed = batch::encode(records, self.codec)?;
        let (started, mut wait) = (Instant::now(), BACKOFF);
        loop {
            match self.client.produce_batches(self.topic, partition, packed.clone(), &self.options).await {
                Err(error) if error.is_retryable() && error.side_effects() == SideEffects::None && started.elapsed() + wait < TRY_FOR => {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                other => return other,
            }
        }
    }
}

/// Whether it is the records that are no good, and none of them was written.
fn is_refusal(error: &Error) -> bool {
    match error {
        Error::Input(_) => true,
        Error::Problem(problem) => matches!(problem.status, Some(400 | 413 | 422)) && error.side_effects() == SideEffects::None,
        Error::Address { .. } | Error::Connect { .. } | Error::Timeout(_) | Error::Broken(_) | Error::Answer { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(round: &Round) -> Vec<(u32, Vec<Vec<u64>>)> {
        let lines = |batch: &Vec<Numbered>| batch.iter().map(|(line, _)| *line).collect();
        round.batches.iter().map(|(partition, batches)| (*partition, batches.iter().map(lines).collect())).collect()
    }

    /// A promise: records go where they say, where their key leads, or together; a batch has no more bytes than it may, unless one record alone has.
    #[test]
    fn records_find_their_batch() {
        let mut round = Round::new(3, 2 * (RECORD_OVERHEAD + 10), 7);
        let keyed = partition_for_key(b"key", 3).get();
        let explicit = (keyed + 1) % 3;
        for (line, size) in [(1, 10), (2, 10), (3, 10), (4, 1_000), (5, 1)] {
            round.push(line, NewRecord { partition: Some(explicit), ..NewRecord::bytes(vec![0; size]) }, 0).unwrap();
        }
        round.push(6, NewRecord::text("").key("key").timestamp(5), 0).unwrap();
        let wanted = [(explicit, vec![vec![1, 2], vec![3], vec![4], vec![5]]), (keyed, vec![vec![6]])];
        assert_eq!(shape(&round), BTreeMap::from(wanted).into_iter().collect::<Vec<_>>());
        assert_eq!(round.lines(), [1, 2, 3, 4, 5, 6]);
        let error = round.push(7, NewRecord { partition: Some(3), ..NewRecord::text("") }, 0).unwrap_err();
        assert!(error.contains("0 to 2"), "{error}");
    }

    /// A promise: records without a key go to another partition each round, and a round is full when a batch or its number of batches is.
    #[test]
    fn rounds_follow_each_other() {
        let mut round = Round::new(2, 100, 1);
        round.push(1, NewRecord::text("a"), 9).unwrap();
        let first = round.take();
        assert!(round.is_empty() && !first.is_empty() && !first.is_full());
        round.push(2, NewRecord::text("b"), 9).unwrap();
        assert_eq!((shape(&first), shape(&round)), (vec![(1, vec![vec![1]])], vec![(0, vec![vec![2]])]));
        assert_eq!(first.batches[&1][0][0].1.timestamp, Some(9), "it has the time of now");
        round.push(3, NewRecord::bytes(vec![0; 100]), 9).unwrap();
        assert!(round.is_full());
    }
}
