//! Retention: now and then, a look at every open partition, one after the other, for what its topic's rules no longer keep.

use std::sync::Arc;

use tidegate_storage::RetentionPolicy;

use super::Broker;

impl Broker {
    /// Looks every `log.retention.check.interval.ms`, the first time when it has passed once.
    pub(super) async fn apply_retention(self) {
        let interval = self.inner.config.retention_check_interval;
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.look_for_expired().await;
        }
    }

    /// One look. A partition that has nothing to give up is only read; the others' tasks are asked one at a time, as trims are, and each is
    /// done before the next is looked at.
    pub(super) async fn look_for_expired(&self) {
        for (topic, partition) in self.inner.partitions.all_open() {
            let (marks, policy) = (partition.marks(), RetentionPolicy::from(&topic.config));
            if partition.reader().has_expired(marks.log_end, marks.high_watermark, &policy, self.now()) {
                let Ok(turn) = Arc::clone(&self.inner.trims).acquire_owned().await else { return };
                partition.expire(turn).await;
            }
            // Thousands that have nothing are no reason to hold up whoever shares the thread.
            tokio::task::yield_now().await;
        }
    }
}
