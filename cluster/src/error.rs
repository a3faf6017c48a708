//! What can go wrong on this floor: one enum, each variant an outcome that a caller may want to tell apart.

use std::sync::Arc;

use tidegate_types::{BatchError, ErrorCode, NodeId, Offset, PartitionIndex, TopicName};

/// One broken rule of a request: which field, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer into the request (`/config/retention.ms`).
    pub pointer: String,
    /// Kebab-case name of the rule.
    pub code: &'static str,
    /// A sentence.
    pub detail: String,
}

/// One thing in which an existing topic is not what `ensure` asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// JSON pointer into the request.
    pub pointer: String,
    /// What was asked for.
    pub wanted: String,
    /// What there is.
    pub actual: String,
}

/// Why an offset has no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeReason {
    /// Before the earliest offset.
    Trimmed,
    /// After the end of the log.
    Future,
}

/// A call that the broker could not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No such topic.
    #[error("there is no topic '{0}'")]
    TopicNotFound(String),
    /// No such partition.
    #[error("topic '{topic}' has no partition {partition}: it has {partitions}, from 0")]
    PartitionNotFound {
        /// The topic.
        topic: TopicName,
        /// What was asked for.
        partition: PartitionIndex,
        /// How many there are.
        partitions: u32,
    },
    /// The name is taken.
    #[error("topic '{0}' already exists")]
    TopicExists(TopicName),
    /// `ensure` found another topic than it asked for.
    #[error("topic '{topic}' exists and differs in {} of the fields asked for", .differences.len())]
    TopicDiffers {
        /// The topic.
        topic: TopicName,
        /// In what.
        differences: Vec<Difference>,
    },
    /// Values break rules.
    #[error("{}", .0.first().map_or("the request breaks a rule", |v| v.detail.as_str()))]
    Invalid(Vec<Violation>),
    /// A config that does not exist.
    #[error("there is no topic config '{0}'")]
    UnknownConfig(String),
    /// The position is outside the log.
    #[error("offset {requested} is outside the log: it holds {earliest} up to {latest}")]
    OffsetOutOfRange {
        /// What was asked for.
        requested: u64,
        /// The first offset there is.
        earliest: Offset,
        /// The high watermark.
        latest: Offset,
        /// Which side it is on.
        reason: RangeReason,
    },
    /// A record breaks a rule of the topic; nothing of the call was written.
    #[error("{reason}")]
    RecordRejected {
        /// Which part of the call (its place in the list given to `produce`).
        part: usize,
        /// Which record of the part.
        index: usize,
        /// The rule.
        reason: &'static str,
    },
    /// A batch that records would make is larger than the topic takes; nothing was written.
    #[error("the records make a batch of up to {actual} bytes, more than max.message.bytes = {limit}")]
    RecordTooLarge {
        /// Which part of the call.
        part: usize,
        /// Bytes it would have.
        actual: usize,
        /// The topic's bound.
        limit: usize,
    },
    /// A client's batch was refused; nothing was written.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The key was used for other records; nothing was written.
    #[error("the Idempotency-Key was used for another request")]
    KeyReused,
    /// What comes before in the producer's sequence is missing; nothing was written.
    #[error("sequence {received} does not come next: {expected} does")]
    SequenceGap {
        /// What comes next.
        expected: i32,
        /// What came.
        received: i32,
    },
    /// The producer has a later epoch; nothing was written.
    #[error("the producer is at epoch {current} by now")]
    ProducerFenced {
        /// That epoch.
        current: i16,
    },
    /// No room for more; nothing was written.
    #[error("{what}: more is under way than there is room for")]
    Overloaded {
        /// Which bound was met.
        what: &'static str,
    },
    /// Another node leads the partition.
    #[error("node {leader} leads the partition")]
    NotLeader {
        /// That node.
        leader: NodeId,
    },
    /// Nobody leads the partition, or its leader is not ready; nothing was written.
    #[error("the partition has no leader ready")]
    LeaderUnavailable,
    /// The node is stopping; nothing was written.
    #[error("the node is stopping")]
    Draining,
    /// The append was admitted and has not finished in time; it may still happen.
    #[error("the write did not finish in time; it may still happen")]
    WriteTimeout,
    /// The disk said no.
    #[error(transparent)]
    Storage(Arc<tidegate_storage::Error>),
    /// The metadata quorum did not decide in time; it may still do so.
    #[error("the metadata quorum did not answer: {0}")]
    Quorum(String),
    /// A promise of our own was broken.
    #[error("internal: {0}")]
    Internal(String),
}

impl From<tidegate_storage::Error> for Error {
    fn from(error: tidegate_storage::Error) -> Self {
        Self::Storage(Arc::new(error))
    }
}

impl Error {
    /// The code that a client sees.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TopicNotFound(_) => ErrorCode::TopicNotFound,
            Self::PartitionNotFound { .. } => ErrorCode::PartitionNotFound,
            Self::TopicExists(_) => ErrorCode::TopicAlreadyExists,
            Self::TopicDiffers { .. } => ErrorCode::TopicDiffers,
            Self::Invalid(_) => ErrorCode::ValidationFailed,
            Self::UnknownConfig(_) => ErrorCode::UnknownConfig,
            Self::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::RecordRejected { .. } => ErrorCode::RecordRejected,
            Self::RecordTooLarge { .. } => ErrorCode::RecordTooLarge,
            Self::Batch(error) => error.code(),
            Self::KeyReused => ErrorCode::IdempotencyKeyReused,
            Self::SequenceGap { .. } => ErrorCode::SequenceGap,
            Self::ProducerFenced { .. } => ErrorCode::ProducerFenced,
            Self::Overloaded { .. } => ErrorCode::Overloaded,
            Self::NotLeader { .. } => ErrorCode::NotLeader,
            Self::LeaderUnavailable => ErrorCode::LeaderUnavailable,
            Self::Draining => ErrorCode::Draining,
            Self::WriteTimeout => ErrorCode::WriteTimeout,
            Self::Storage(error) => error.code(),
            Self::Quorum(_) => ErrorCode::MetadataUnavailable,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }
}
