//! The producer: records are gathered into batches, packed here, sent to their partition's leader, and tried again until they are there.
//!
//! ```no_run
//! # use tidegate_client::{Client, NewRecord, ProducerError};
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let producer = client.producer().build()?;
//! let delivery = producer.send("hello", NewRecord::text("world").key("greeting")).await?; // waits for room only
//! let position = delivery.await?;                                                         // waits for the acknowledgement
//! println!("at {} of partition {}", position.offset, position.partition);
//! producer.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - **Exactly once, within `delivery_timeout`.** A batch is sent until it is acknowledged, fails for good, or `delivery_timeout` is over. It keeps its records,
//!   its very bytes, and the producer id, epoch and sequence in its header over all tries, so that a partition recognises what it has already: an answer that
//!   was lost writes nothing twice. What fails with side effects `Possible` is there once, or not. Sent again by whoever calls [`Producer::send`], it
//!   is another record.
//! - **In order**, with five requests under way: the records of a partition stand in the order in which `send` took them, whatever fails, since it takes a producer's
//!   batches by their sequence. A batch that comes before its turn waits at the partition for a second, and then here for those before it. Behind a batch that
//!   fails for good a new epoch begins, once it is known of each one under way whether it is there: so much can a failure hold up its partition. Different
//!   partitions know nothing of each other. Deliveries are settled as the answers come: a later one may be settled first.
//! - Both need servers that know idempotent producers; with an older one everything fails, and says so. **`idempotent(false)`** does without: *at least once*
//!   (a batch whose answer was lost may be there twice), in order with `max_in_flight = 1`; with more a batch that fails is overtaken by those sent beside it,
//!   however often it fails by at most `max_in_flight - 1` batches: no batch is sent that is further behind the oldest one that is not settled, and while a
//!   partition waits for a retry nothing is sent to it.
//! - **Or at most once**, with `resend_in_doubt(false)`: a batch whose outcome is not known fails instead, and says so. That needs no idempotence, and is not
//!   idempotent.
//! - With **`stop_at_failure(true)`** nothing behind a failed record of its partition is sent, so that the account is exact: what is in, what is not, what is
//!   in doubt.
//! - **Bounded memory.** Records count from `send` until they are settled, and each batch 1 KiB; `send` waits when `buffer_bytes` is reached. A batch
//!   that grows has up to twice its room, and one that is being packed is there twice for a moment: three times the buffer is the most.
//! - **A record that cannot be written fails alone**: a batch that is too large is halved, a record that the server refuses is cut out.
//!
//! | module | subject |
//! |---|---|
//! | `config` | what it may be told |
//! | `accumulator`, `lane`, `sequence`, `batch` | every decision: pure, time is an argument |
//! | `intake` | how a record gets in: the topic's partitions, room, the line of those who wait |
//! | `driver` | the task that carries them out |
//! | `delivery`, `error`, `metrics` | what callers are told |

mod accumulator;
mod batch;
mod config;
mod delivery;
mod driver;
mod error;
mod intake;
mod lane;
mod metrics;
#[cfg(test)]
mod model;
mod sequence;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_types::Clock;
use tidegate_types::time::SystemClock;
use tokio::runtime::Handle as Runtime;
use tokio::sync::Notify;

pub use config::{ProducerBuilder, ProducerConfig};
pub use delivery::Delivery;
pub use error::ProducerError;
pub use metrics::ProducerMetrics;

use intake::State;

use crate::client::Client;
use crate::error::Error;
use crate::record::NewRecord;

/// Sends records. Cheap to clone; clones share buffer and task.
///
/// When the last clone is dropped without [`Producer::close`], what was taken is still sent as long as the runtime lives.
#[derive(Debug, Clone)]
pub struct Producer {
    shared: Arc<Shared>,
    _handle: Arc<Handle>,
}

/// What all clones have in common: the last one closes the door.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.shut();
    }
}

#[derive(Debug)]
struct Shared {
    client: Client,
    config: ProducerConfig,
    clock: SystemClock,
    runtime: Runtime,
    /// What the server is told of its time.
    server_timeout: Option<Duration>,
    state: Mutex<State>,
    /// To the driver: there is something new.
    news: Notify,
    /// To senders: there may be room, or the producer is closed.
    room: Notify,
    /// Senders that wait stand in line here, so that the first to come is the first served.
    line: tokio::sync::Mutex<()>,
}

impl Producer {
    fn start(client: Client, config: ProducerConfig) -> Result<Self, Error> {
        config.check()?;
        let runtime = Runtime::try_current().map_err(|_| Error::Input("a producer needs a tokio runtime around it".to_owned()))?;
        let shared = Arc::new(Shared {
            client,
            server_timeout: driver::server_timeout(config.request_timeout),
            state: Mutex::new(State::new(&config)),
            config,
            clock: SystemClock::new(),
            runtime: runtime.clone(),
            news: Notify::new(),
            room: Notify::new(),
            line: tokio::sync::Mutex::new(()),
        });
        runtime.spawn(driver::drive(Arc::clone(&shared)));
        Ok(Self { _handle: Arc::new(Handle(Arc::clone(&shared))), shared })
    }

    /// Takes a record for a topic, to the partition that it names or the partitioner chooses. Waits while there is no room, `max_block`
    /// at most; the delivery then says what becomes of it. A record without a timestamp gets the time of now.
    ///
    /// # Errors
    /// [`ProducerError::BufferFull`], [`ProducerError::TooLarge`], [`ProducerError::Input`], [`ProducerError::Unroutable`],
    /// [`ProducerError::Stopped`] or [`ProducerError::Closed`]; the record was not taken.
    pub async fn send(&self, topic: &str, record: NewRecord) -> Result<Delivery, ProducerError> {
        let partition = record.partition;
        self.shared.take(topic, partition, record).await
    }

    /// The same, to that partition.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send_to(&self, topic: &str, partition: u32, record: NewRecord) -> Result<Delivery, ProducerError> {
        self.shared.take(topic, Some(partition), record).await
    }

    /// Sends what has gathered, without waiting for batches to fill, and waits until everything taken so far is settled: `delivery_timeout` at most
    /// after the last of it was taken.
    ///
    /// # Errors
    /// The first failure among the records that were not yet settled; deliveries tell of each.
    pub async fn flush(&self) -> Result<(), ProducerError> {
        let open = self.shared.lock().accumulator.flush();
        self.shared.news.notify_one();
        let mut first = Ok(());
        for completion in open {
            let outcome = completion.settled().await;
            first = first.and(outcome);
        }
        first
    }

    /// Takes no more records, on any clone, and flushes.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(&self) -> Result<(), ProducerError> {
        self.shared.shut();
        self.flush().await
    }

    /// A partition that has stopped at a record that failed ([`ProducerConfig::stop_at_failure`]) takes records again. Without a [`Producer::flush`] before,
    /// records that were under way beside the failed one may still be sent again. Does nothing to a partition that has not stopped.
    pub fn resume(&self, topic: &str, partition: u32) {
        self.shared.lock().accumulator.resume(topic, partition);
    }

    /// What it was told, or goes by.
    pub fn config(&self) -> &ProducerConfig {
        &self.shared.config
    }

    /// Counts, and how things stand.
    pub fn metrics(&self) -> ProducerMetrics {
        self.shared.lock().accumulator.metrics()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A partitioner may panic, before anything has changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    fn shut(&self) {
        {
            let mut state = self.lock();
            state.is_closed = true;
            state.accumulator.flush();
        }
        self.news.notify_one();
        self.room.notify_waiters();
    }
}
