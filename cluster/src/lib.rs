//! Second floor: who owns what, and the partitions themselves.
//!
//! [`Broker`] is the one door: the floor above sees nothing else. Its promise: **an acknowledgement means what it says** (see [`broker::Acks`]).
//!
//! | module | subject |
//! |---|---|
//! | [`broker`] | the door: topics, produce, fetch, offsets |
//! | [`admission`] | how many bytes may be under way |
//! | [`metadata`] | topics, nodes and configs, replicated by Raft |
//! | [`partition`] | one partition: its task, its waiters, its progress |
//! | [`peer`] | node-to-node calls, behind a trait |
//! | [`stored`] | stored batches that stay in their files until they are sent |
//! | [`error`] | what can go wrong |

pub mod admission;
pub mod broker;
pub mod error;
pub mod metadata;
pub mod partition;
pub mod peer;
pub mod stored;

pub use admission::{Admission, Permit};
pub use broker::{
    Acks, Appended, Broker, BrokerConfig, BrokerParts, CHECKPOINT_INTERVAL, COMPACTION_BACKOFF, COMPACTION_MEMORY, ClusterDescription,
    EnsureOutcome, FetchRequest, Fetched, FetchedRanges, Fingerprint, NewTopic, NodeDescription, OffsetQuestion, OffsetReset, Offsets,
    Origin, PRODUCER_EXPIRATION, PartitionDescription, Payload, Position, ProducerIdentity, RETENTION_CHECK_INTERVAL, Ticket, TopicChange,
    TopicDescription,
};
pub use error::Error;
pub use metadata::image::{MetadataImage, Node, PartitionState, Published, Topic};
pub use stored::{StoredPiece, StoredRanges};
