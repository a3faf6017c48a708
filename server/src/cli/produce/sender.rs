//! The client's producer, set so that an account of it can be exact: nothing is written twice, and nothing of a partition behind what failed.
//!
//! With `--acks all` batches are numbered, so that what is in doubt can be sent again; else it is not. One request at a time for a partition: behind what is in
//! doubt in the end, nothing is there.

use std::time::Duration;

use tidegate_client::{Acks, Client, Producer, TopicDescription};
use tokio::runtime::{Builder, Runtime};

use super::Arguments;
use crate::cli::Failure;

/// Bytes of records that are sent or about to be: a few batches for each of many partitions, and no more than is soon told of after Ctrl-C.
const BUFFER_BYTES: usize = 8 << 20;
/// How long one request may take, if `--timeout` does not say.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A producer on a runtime of its own, so that its work can end before it is done: then it is known of each record whether it was sent.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) producer: Producer,
    pub(super) topic: String,
    pub(super) partition_count: u32,
    pub(super) try_for: Duration,
    runtime: Option<Runtime>,
}

impl Sender {
    /// A producer as the flags want it.
    pub(super) fn start(
        arguments: &Arguments,
        client: &Client,
        topic: &TopicDescription,
        timeout: Option<Duration>,
    ) -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("producer").enable_all().build()?;
        let delivery_timeout = arguments.linger.saturating_add(arguments.try_for);
        let builder = client
            .producer()
            .resend_in_doubt(arguments.acks() == Acks::All)
            .stop_at_failure(true)
            .max_in_flight(1)
            .acks(arguments.acks())
            .codec(arguments.codec())
            .batch_bytes(arguments.batch_bytes)
            .linger(arguments.linger)
            .buffer_bytes(BUFFER_BYTES)
            .request_timeout(timeout.unwrap_or(REQUEST_TIMEOUT))
            .delivery_timeout(delivery_timeout)
            // There is room at the latest when what is buffered has failed.
            .max_block(delivery_timeout.saturating_add(REQUEST_TIMEOUT));
        let producer = {
            let _inside = runtime.enter();
            builder.build()?
        };
        let partition_count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX).max(1);
        Ok(Self { producer, topic: topic.name.clone(), partition_count, try_for: arguments.try_for, runtime: Some(runtime) })
    }

    /// Ends its work where it stands; every delivery is settled then.
    pub(super) fn cut_off(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // A runtime must not be waited for inside another one.
        self.cut_off();
    }
}
