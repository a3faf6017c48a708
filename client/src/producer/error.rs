//! Why a record was not taken, or not delivered; and whether it may have been written all the same.

use std::sync::Arc;
use std::time::Duration;

use tidegate_types::SideEffects;

use crate::error::Error;

/// What became of a record that is not there, or not known to be. Cheap to clone: the records of a batch share it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProducerError {
    /// There was no room in the buffer for `max_block`: records come faster than the servers take them, or no server takes any.
    #[error("no room in the producer's buffer for {} ms", .0.as_millis())]
    BufferFull(Duration),
    /// The record is larger than the topic takes, so that it was not queued.
    #[error("the record has up to {actual} bytes in a batch, more than the {limit} that the topic takes")]
    TooLarge {
        /// What it takes in a batch of its own, at most.
        actual: usize,
        /// The topic's `max.message.bytes`.
        limit: usize,
    },
    /// The record cannot be sent as it is; it was not queued.
    #[error("{0}")]
    Input(String),
    /// The topic's partitions could not be learned.
    #[error("the partitions of topic '{topic}' could not be learned: {reason}")]
    Unroutable {
        /// The topic.
        topic: Arc<str>,
        /// Why.
        reason: Arc<Error>,
    },
    /// Not acknowledged within `delivery_timeout`, with the last of the errors on the way; of a record whose turn never came, with that of those before it.
    #[error("not acknowledged within {} ms{}", .after.as_millis(), .last.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    Expired {
        /// The time it had.
        after: Duration,
        /// Whether one of the requests may have written it.
        side_effects: SideEffects,
        /// What the last request came to, if one has come to anything.
        last: Option<Arc<Error>>,
    },
    /// The request failed in a way that repeating does not help.
    #[error("{error}")]
    Failed {
        /// What it came to.
        error: Arc<Error>,
        /// Whether this request or one before may have written the record.
        side_effects: SideEffects,
    },
    /// A record before it in its partition has failed, and the partition stops there ([`super::ProducerConfig::stop_at_failure`]) until
    /// [`super::Producer::resume`].
    #[error("partition {partition} of topic '{topic}' has stopped at a record that failed; this one comes after it")]
    Stopped {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// Whether the record may have been written all the same: only if it was under way beside the one that failed.
        side_effects: SideEffects,
    },
    /// The producer was closed, or its runtime ended, before the record was settled.
    #[error("the producer is closed")]
    Closed {
        /// Whether the record may have been written.
        side_effects: SideEffects,
    },
}

impl ProducerError {
    /// Whether the record may be in the log.
    pub fn side_effects(&self) -> SideEffects {
        match self {
            Self::Expired { side_effects, .. }
            | Self::Failed { side_effects, .. }
            | Self::Stopped { side_effects, .. }
            | Self::Closed { side_effects } => *side_effects,
            Self::BufferFull(_) | Self::TooLarge { .. } | Self::Input(_) | Self::Unroutable { .. } => SideEffects::None,
        }
    }

    /// Whether sending the same record again may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::BufferFull(_) | Self::Expired { .. } => true,
            Self::Unroutable { reason, .. } => reason.is_retryable(),
            Self::TooLarge { .. } | Self::Input(_) | Self::Failed { .. } | Self::Stopped { .. } | Self::Closed { .. } => false,
        }
    }

    /// What a server, or the way to it, said, if that is the reason.
    pub fn cause(&self) -> Option<&Error> {
        match self {
            Self::Unroutable { reason: error, .. } | Self::Failed { error, .. } => Some(error),
            Self::Expired { last, .. } => last.as_deref(),
            Self::BufferFull(_) | Self::TooLarge { .. } | Self::Input(_) | Self::Stopped { .. } | Self::Closed { .. } => None,
        }
    }
}
