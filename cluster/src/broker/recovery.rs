//! Opening every log when the node starts, and saying how far it is.

use std::pin::pin;
use std::time::Duration;

use tidegate_storage::LastStop;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Broker;
use crate::metadata::image::Published;

/// How often the metrics are set.
const TICK: Duration = Duration::from_millis(500);
/// How many ticks lie between two log lines.
const TICKS_A_LINE: u32 = 10;

impl Broker {
    /// Opens what the metadata says this node has. A damaged log stops only its own partition.
    pub(super) async fn recover(&self, published: &Published) {
        let (partitions, begun) = (&self.inner.partitions, Instant::now());
        match self.inner.store.last_stop() {
            LastStop::Never => {}
            LastStop::Clean => tracing::info!("the node was stopped cleanly"),
            LastStop::Killed => tracing::info!("the node was not stopped but killed: what was written is there"),
            LastStop::MachineDown => {
                tracing::warn!("the machine went down under the node: what no sync had covered (durability=replicated) may be gone");
            }
        }
        let total = partitions.expect(published);
        let mut follow = pin!(partitions.follow(published));
        let mut tick = interval_at(begun + TICK, TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0;
        loop {
            tokio::select! {
                () = &mut follow => break,
                _ = tick.tick() => {
                    ticks += 1;
                    let read_bytes = self.set_recovery_metrics();
                    if ticks % TICKS_A_LINE == 0 {
                        let open = total - partitions.expected();
                        tracing::info!(open, total, read_bytes, seconds = begun.elapsed().as_secs(), "opening the logs");
                    }
                }
            }
        }
        let read_bytes = self.set_recovery_metrics();
        let closed = partitions.failed().len();
        if total > 0 {
            tracing::info!(partitions = total - closed, closed, read_bytes, duration = ?begun.elapsed(), "every log was opened that could be");
        }
    }

    /// Gives the bytes that were read so far.
    fn set_recovery_metrics(&self) -> u64 {
        let (read_bytes, left) = (self.inner.store.recovered_bytes(), self.inner.partitions.expected());
        metrics::counter!("tidegate_recovery_read_bytes_total").absolute(read_bytes);
        metrics::gauge!("tidegate_recovery_partitions_remaining").set(f64::from(u32::try_from(left).unwrap_or(u32::MAX)));
        read_bytes
    }
}
