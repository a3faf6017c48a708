//! Beside the floors: the Rust client. It speaks HTTP like anybody and knows nothing of the server but its API.
//!
//! Its promises: a value comes back as the **exact bytes** that went in; an error says whether the call **may have done something**; and
//! nothing is sent twice behind the caller's back. A call moves to the next server only if no connection could be made at all.
//!
//! ```no_run
//! use tidegate_client::{Client, Fetch, NewRecord, NewTopic, ProduceOptions};
//!
//! # async fn example() -> Result<(), tidegate_client::Error> {
//! let client = Client::new("http://127.0.0.1:8080")?;
//! client.ensure_topic("hello", &NewTopic::default()).await?;
//! let record = NewRecord::text("world").key("greeting");
//! let produced = client.produce("hello", &[record], &ProduceOptions::default()).await?;
//! let at = &produced.results[0];
//! let fetched = client.fetch("hello", at.partition, &Fetch::from_offset(at.offset)).await?;
//! assert_eq!(fetched.records[0].value.as_bytes(), Some(&b"world"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`client`] | servers, connections, one request and its answer |
//! | [`error`] | problems: what a server says when it says no |
//! | [`record`] | records in and out |
//! | [`topics`] | topics: create, ensure, list, describe, alter, delete, trim; the cluster |
//! | [`cluster`] | how the node is: alive, ready, its version, its clock |
//! | [`produce`] | records in: envelope, lines, stored batches |
//! | [`fetch`] | records out: JSON, stored batches, one value, offsets |
//! | [`batch`] | records packed into stored batches on this side |

pub mod batch;
pub mod client;
pub mod cluster;
pub mod error;
pub mod fetch;
pub mod produce;
pub mod record;
pub mod topics;

pub use client::{Client, ClientBuilder};
pub use cluster::Liveness;
pub use error::{Error, Problem};
pub use fetch::{At, Fetch, FetchedBatches, FetchedRecords, From, OffsetReset, Offsets, StoredValue};
pub use produce::{Acks, AppendedBatches, Lines, ProduceOptions, Produced, ProducedLines, RecordPosition};
pub use record::{Header, NewRecord, Record, Value};
pub use topics::{
    ClusterDescription, ConfigEntry, NewTopic, NodeDescription, PartitionDescription, TopicChange, TopicDescription, TopicSummary,
};
