//! Compaction: now and then, one log after the other, the dirtiest first.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_storage::{CompactionPolicy, Dirt, Outcome};
use tidegate_types::{PartitionIndex, TopicId};
use uuid::Uuid;

use super::Broker;
use crate::metadata::image::Topic;
use crate::partition::Partition;
use crate::partition::compact::{Failure, Order};

/// A log that may be compacted.
struct Candidate {
    topic: Arc<Topic>,
    partition: Arc<Partition>,
}

impl Candidate {
    fn id(&self) -> (TopicId, PartitionIndex) {
        (self.topic.id, self.partition.id().partition)
    }
}

/// Logs that cannot be compacted until the node is restarted, with the reason.
pub(super) type Uncleanable = BTreeMap<(TopicId, PartitionIndex), String>;

impl Broker {
    /// Looks at every log now and then, and compacts those that are worth it.
    pub(super) async fn compact_logs(self) {
        let mut uncleanable = Uncleanable::new();
        loop {
            tokio::time::sleep(self.inner.config.compaction_backoff).await;
            self.compact_all(&mut uncleanable).await;
        }
    }

    /// One look at every log, and a round over each that is worth it, one after the other.
    pub(super) async fn compact_all(&self, uncleanable: &mut Uncleanable) {
        for candidate in self.worth_compacting(uncleanable).await {
            self.compact_one(&candidate, uncleanable).await;
        }
    }

    /// The logs that are worth a round, overdue ones first, then by the share that is dirty.
    async fn worth_compacting(&self, uncleanable: &mut Uncleanable) -> Vec<Candidate> {
        let candidates: Vec<_> =
            self.inner.partitions.compacted().into_iter().map(|(topic, partition)| Candidate { topic, partition }).collect();
        uncleanable.retain(|id, _| candidates.iter().any(|candidate| candidate.id() == *id));
        set_uncleanable(uncleanable);
        let known: Vec<_> = candidates.into_iter().filter(|candidate| !uncleanable.contains_key(&candidate.id())).collect();
        let now = self.now();
        // It may read a few bytes of every dirty segment.
        let looked = tokio::task::spawn_blocking(move || {
            let look = |candidate: Candidate| {
                let policy = CompactionPolicy::from(&candidate.topic.config);
                let dirt = candidate.partition.compactor().look(&policy, candidate.partition.marks().high_watermark, now);
                (candidate, dirt)
            };
            known.into_iter().map(look).collect::<Vec<_>>()
        });
        let Ok(looked) = looked.await else { return Vec::new() };
        let mut worth: Vec<(Dirt, Candidate)> = Vec::new();
        for (candidate, dirt) in looked {
            match dirt {
                Ok(dirt) => worth.extend(dirt.map(|dirt| (dirt, candidate))),
                Err(error) => give_up(&candidate, error.to_string(), uncleanable),
            }
        }
        worth.sort_by(|(a, _), (b, _)| b.is_overdue.cmp(&a.is_overdue).then(b.ratio.total_cmp(&a.ratio)));
        worth.into_iter().map(|(_, candidate)| candidate).collect()
    }

    async fn compact_one(&self, candidate: &Candidate, uncleanable: &mut Uncleanable) {
        // Others may have taken long: what holds now counts.
        let Ok(topic) = self.topic(candidate.topic.name.as_str()) else { return };
        if topic.id != candidate.topic.id || !topic.config.cleanup_policy.compact {
            return;
        }
        let order = Order {
            policy: CompactionPolicy::from(&topic.config),
            now: self.now(),
            map_bytes: self.inner.config.compaction_memory,
            io_bytes_per_second: self.inner.config.compaction_bytes_per_second,
            seed: Uuid::new_v4().into_bytes(),
            turns: Arc::clone(&self.inner.trims),
        };
        let (partition, start) = (candidate.partition.id(), std::time::Instant::now());
        match candidate.partition.compact(order).await {
            Ok(Ok(Outcome::Done(report))) => {
                let seconds = start.elapsed();
                metrics::counter!("tidegate_compaction_rounds_total").increment(1);
                metrics::counter!("tidegate_compaction_read_bytes_total").increment(report.bytes_in);
                metrics::counter!("tidegate_compaction_written_bytes_total").increment(report.bytes_out);
                metrics::histogram!("tidegate_compaction_seconds").record(seconds);
                if report.segments_in > 0 {
                    let (bytes_in, bytes_out, first_dirty) = (report.bytes_in, report.bytes_out, report.first_dirty.get());
                    let (segments_in, segments_out) = (report.segments_in, report.segments_out);
                    tracing::info!(%partition, bytes_in, bytes_out, segments_in, segments_out, first_dirty, ?seconds, "compacted");
                }
            }
            Ok(Ok(Outcome::GivenUp)) => tracing::debug!(%partition, "a compaction gave way"),
            Ok(Err(Failure { error, is_passing: true })) => tracing::warn!(%partition, %error, "not compacted; it is tried again"),
            Ok(Err(Failure { error, is_passing: false })) => give_up(candidate, error.to_string(), uncleanable),
            // It was closed.
            Err(_) => {}
        }
    }
}

/// Takes note that a log cannot be compacted. All others can.
fn give_up(candidate: &Candidate, reason: String, uncleanable: &mut Uncleanable) {
    tracing::error!(partition = %candidate.partition.id(), %reason, "not compacted any more until the node is restarted");
    uncleanable.insert(candidate.id(), reason);
    set_uncleanable(uncleanable);
}

fn set_uncleanable(uncleanable: &Uncleanable) {
    // At most 10,000 for each topic.
    metrics::gauge!("tidegate_compaction_uncleanable_partitions").set(f64::from(u32::try_from(uncleanable.len()).unwrap_or(u32::MAX)));
}
