//! What is asked of the [`Broker`](super::Broker), and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_types::topic_config::Durability;
use tidegate_types::{LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerStamp, RecordBatch, RecordSet, Timestamp, TopicName};
use tokio::sync::oneshot;

use crate::admission::Permit;
use crate::error::Error;
use crate::metadata::image::{Node, Published, Topic};
use crate::stored::StoredRanges;

/// When a produce is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// On admission: nothing is known of its fate.
    None,
    /// After the leader's write, before any sync.
    Leader,
    /// When the high watermark has passed it: with `durability=fsync`, on disk on every in-sync replica.
    #[default]
    All,
}

/// What is produced to one partition: one request's records for it stay together.
#[derive(Debug)]
pub enum Payload {
    /// Records, to be put into a batch with others', or into one of their own if they have a producer.
    Records {
        /// The records.
        set: RecordSet,
        /// Who sends them.
        producer: Option<ProducerStamp>,
    },
    /// Whole batches, walked: written as they are, one after the other, all or none.
    Batches(Vec<RecordBatch>),
}

/// Where an append ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record; the others follow without a gap.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// The time it was stamped with, if the topic is `LogAppendTime`.
    pub append_time: Option<Timestamp>,
    /// What the topic promised when it was written: its config may have changed since the request came.
    pub durability: Durability,
    /// Whether this request has written it.
    pub origin: Origin,
    /// Of a request with a key: how long it is remembered, in ms.
    pub key_window_ms: Option<i64>,
}

/// Which request has written what is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This one.
    Written,
    /// One before with the same stamp: the offsets are those of then.
    Replayed,
    /// One long before with the same stamp: where is not known any more, so the offsets mean nothing.
    Forgotten,
}

/// A claim on the answer to one append. The append itself runs to its end whether or not anybody waits.
#[derive(Debug)]
#[must_use = "an append that nobody waits for is `detach`ed"]
pub struct Ticket {
    answer: oneshot::Receiver<Result<Appended, Error>>,
}

impl Ticket {
    pub(crate) fn new(answer: oneshot::Receiver<Result<Appended, Error>>) -> Self {
        Self { answer }
    }

    /// Waits for the answer, but no longer than `timeout`.
    ///
    /// # Errors
    /// [`Error::WriteTimeout`] if it has not come by then (the append may still happen); else why it failed.
    pub async fn wait(self, timeout: Duration) -> Result<Appended, Error> {
        match tokio::time::timeout(timeout, self.answer).await {
            Ok(Ok(answer)) => answer,
            // The partition's task has ended without an answer: nothing is known of the append.
            Ok(Err(_)) | Err(_) => Err(Error::WriteTimeout),
        }
    }

    /// Lets the append go on unwatched (`acks=none`).
    pub fn detach(self) {}
}

/// Where a fetch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// At this offset.
    Offset(u64),
    /// At the first record with a timestamp of at least this, in ms.
    Timestamp(i64),
    /// So many records before the end.
    Tail(u64),
    /// At the earliest record.
    Earliest,
    /// At the high watermark: only what comes.
    Latest,
}

/// What to do when an offset is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// Say so.
    #[default]
    Error,
    /// Begin at the earliest.
    Earliest,
    /// Begin at the high watermark.
    Latest,
    /// Begin with the first record that is no older.
    Duration(Duration),
}

/// A read of one partition.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// The topic.
    pub topic: Arc<Topic>,
    /// The partition.
    pub partition: PartitionIndex,
    /// Where to begin.
    pub position: Position,
    /// What if that is gone.
    pub reset: OffsetReset,
    /// Bytes of stored batches to return at most; one batch is returned even if it is larger.
    pub max_bytes: usize,
    /// Bytes of stored batches to wait for.
    pub min_bytes: usize,
    /// How long to wait for them.
    pub max_wait: Duration,
}

/// Stored batches and where they stand.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The offset that the position came to. The first batch may begin before it.
    pub start: Offset,
    /// Whole batches, back to back, all below the high watermark; may be empty.
    pub batches: Bytes,
    /// Where the next fetch begins if all of `batches` is used.
    pub next_offset: Offset,
    /// Everything below is readable.
    pub high_watermark: Offset,
    /// The earliest offset.
    pub log_start: Offset,
    /// Version of the leadership.
    pub leader_epoch: LeaderEpoch,
    /// What the batches count for in the bytes under way, until the last clone is dropped.
    pub permit: Arc<Permit>,
}

/// Where stored batches are, and where they stand.
#[derive(Debug, Clone)]
pub struct FetchedRanges {
    /// The offset that the position came to. The first batch may begin before it.
    pub start: Offset,
    /// Whole batches, all below the high watermark; may be empty.
    pub ranges: StoredRanges,
    /// Where the next fetch begins if all of `ranges` is used.
    pub next_offset: Offset,
    /// Everything below is readable.
    pub high_watermark: Offset,
    /// The earliest offset.
    pub log_start: Offset,
    /// Version of the leadership.
    pub leader_epoch: LeaderEpoch,
}

/// A question about a partition's offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetQuestion {
    /// The earliest offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record with a timestamp of at least this, in ms.
    Timestamp(i64),
}

/// A partition's offsets, and the answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// The first offset kept.
    pub earliest: Offset,
    /// The high watermark: the next offset to be readable.
    pub latest: Offset,
    /// Below it no transaction is open.
    pub last_stable: Offset,
    /// Version of the leadership.
    pub leader_epoch: LeaderEpoch,
    /// The answer: offset and, where a record stands there, its timestamp. `None` if no record fits the question (or none was asked).
    pub answer: Option<(Offset, Option<Timestamp>)>,
}

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// How many partitions; `None` is the cluster's default.
    pub partitions: Option<u32>,
    /// Replicas of each; `None` is min(3, registered nodes).
    pub replication_factor: Option<u16>,
    /// Configs set on it.
    pub config: BTreeMap<String, String>,
}

/// What `ensure` did.
#[derive(Debug, Clone)]
pub enum EnsureOutcome {
    /// It made the topic.
    Created(Arc<Topic>),
    /// The topic was there, as asked for.
    Unchanged(Arc<Topic>),
}

/// A change of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicChange {
    /// The new number of partitions; it can only grow.
    pub partitions: Option<u32>,
    /// Configs to set, or with `None` to put back to their default.
    pub config: BTreeMap<String, Option<String>>,
}

/// A topic and the state of its partitions.
#[derive(Debug, Clone)]
pub struct TopicDescription {
    /// As agreed.
    pub topic: Arc<Topic>,
    /// By index.
    pub partitions: Vec<PartitionDescription>,
}

/// One partition's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionDescription {
    /// The first offset kept; `None` if its leader has not opened it.
    pub earliest: Option<Offset>,
    /// The high watermark; `None` if its leader has not opened it.
    pub latest: Option<Offset>,
    /// Bytes of its segments.
    pub size_bytes: Option<u64>,
}

/// A node as the cluster sees it.
#[derive(Debug, Clone)]
pub struct NodeDescription {
    /// As registered.
    pub node: Node,
    /// Whether it votes on metadata.
    pub is_voter: bool,
}

/// The cluster at a glance.
#[derive(Debug, Clone)]
pub struct ClusterDescription {
    /// The metadata it was made from.
    pub published: Published,
    /// Leader of the metadata quorum.
    pub controller: Option<NodeId>,
    /// Nodes, by id.
    pub nodes: Vec<NodeDescription>,
    /// Voters of the metadata quorum.
    pub voters: Vec<NodeId>,
    /// Partitions without a leader.
    pub offline_partitions: usize,
    /// Partitions with fewer in-sync replicas than replicas.
    pub under_replicated_partitions: usize,
}
