//! Beside the floors: the Rust client. It speaks HTTP like anybody and knows nothing of the server but its API.
//!
//! Its promises: a value comes back as the **exact bytes** that went in; an error says whether the call **may have done something**; and
//! no call of [`Client`] is sent twice behind the caller's back: it moves to the next server only if no connection could be made at all. (A
//! [`Producer`] repeats, and each record is there once all the same.)
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
//! Many records, in and out, with batches, retries and prefetch:
//!
//! ```no_run
//! # use tidegate_client::{Client, NewRecord, Until};
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let producer = client.producer().build()?;
//! for n in 0..1_000_000 {
//!     let _delivery = producer.send("numbers", NewRecord::text(n.to_string())).await?; // await it to know where the record is
//! }
//! producer.close().await?;
//! let mut consumer = client.consumer().topic("numbers").until(Until::Latest).build().await?;
//! while let Some(batch) = consumer.next().await? {
//!     println!("{} records of partition {}", batch.len(), batch.partition);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`client`] | servers and connections: where a call goes, how its answer is read |
//! | `call`, `address` | one request and its answer; its URL |
//! | `routing` | who leads which partition |
//! | [`error`] | problems: what a server says when it says no |
//! | [`record`] | records in and out |
//! | [`topics`] | topics: create, ensure, list, describe, alter, delete, trim; the cluster |
//! | [`cluster`] | how the node is: alive, ready, its version, its clock |
//! | [`produce`] | records in: envelope, lines, stored batches |
//! | [`fetch`] | records out: JSON, stored batches, one value, offsets |
//! | [`batch`] | records packed into stored batches on this side |
//! | [`producer`] | batching, retries, acknowledgements |
//! | [`identity`] | who a producer is: its id |
//! | [`partitioner`] | where records go that name no partition |
//! | [`consumer`] | reading ahead from any place, in order |
//! | [`serializer`] | typed keys and values |

mod address;
mod backoff;
pub mod batch;
mod call;
pub mod client;
pub mod cluster;
pub mod consumer;
pub mod error;
pub mod fetch;
pub mod identity;
pub mod partitioner;
pub mod produce;
pub mod producer;
pub mod record;
mod routing;
pub mod serializer;
pub mod topics;

pub use client::{Client, ClientBuilder};
pub use cluster::Liveness;
pub use consumer::{ConsumedBatch, Consumer, ConsumerBuilder, ConsumerConfig, ConsumerError, ConsumerMetrics, Until};
pub use error::{Error, Problem};
pub use fetch::{At, Fetch, FetchedBatches, FetchedRecords, From, OffsetReset, Offsets, StoredValue};
pub use identity::{BoundProducer, ProducerIdentity};
pub use partitioner::Partitioner;
pub use produce::{Acks, AppendedBatches, Lines, ProduceOptions, Produced, ProducedLines, RecordPosition};
pub use producer::{Delivery, Producer, ProducerBuilder, ProducerConfig, ProducerError, ProducerMetrics};
pub use record::{Header, NewRecord, Record, Value};
pub use topics::{
    ClusterDescription, ConfigEntry, NewTopic, NodeDescription, PartitionDescription, TopicChange, TopicDescription, TopicSummary,
};
