//! Ground floor: the words that every other floor speaks.
//!
//! Ids, offsets, names, records, the record-batch codec, compression, error codes, topic configs and limits. No I/O, no async, no HTTP.
//! Its one promise: **what is constructed is valid.** A [`TopicName`] cannot be invalid, a [`RecordBatch`] has been walked to its last
//! byte, a [`SequencedBatch`] has its place in the log; the compiler remembers it for the floors above.
//!
//! ```text
//!   RecordSet ──┐ (records, encoded but for their two deltas)
//!               ├─ BatchBuilder ──> RecordBatch ── sequence() ──> SequencedBatch ──> bytes on disk
//!   client's ───┘      validate()   (walked, CRC)                 (offset, epoch)
//!   batch bytes
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`id`], [`name`], [`offset`], [`time`] | newtypes |
//! | [`record`] | one record, borrowed from a batch; how its value is encoded |
//! | [`record_set`] | records on their way in |
//! | [`batch`] | the bytes of a record batch: the only file that knows them |
//! | [`compression`] | the five codecs, bounded |
//! | [`partitioner`] | which partition a key belongs to |
//! | [`producer`] | who wrote a batch, so that a repeated request is recognised |
//! | [`topic_config`], [`amount`] | typed topic configs; their values as people read them |
//! | [`error_code`] | the closed set of error codes |
//! | [`limits`] | every bound, with its arithmetic |

pub mod amount;
pub mod batch;
pub mod compression;
pub mod error_code;
pub mod id;
pub mod limits;
pub mod name;
pub mod offset;
pub mod partitioner;
pub mod producer;
pub mod record;
pub mod record_set;
pub mod time;
pub mod topic_config;
mod varint;

pub use batch::{BatchBuilder, BatchError, BatchHeader, RecordBatch, SequencedBatch, StoredBatch, StoredBatches};
pub use compression::Codec;
pub use error_code::{ErrorCode, SideEffects};
pub use id::{ClusterId, NodeId, PartitionIndex, TopicId, TopicPartition};
pub use limits::Limits;
pub use name::TopicName;
pub use offset::{LeaderEpoch, Offset};
pub use producer::ProducerStamp;
pub use record::{Encoding, Record};
pub use record_set::{RecordSet, RecordSetBuilder};
pub use time::{Clock, Timestamp};
pub use topic_config::TopicConfig;
