//! Produce: check all, take room for all, then send all. Up to the sending nothing has happened; after it everything will.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_types::topic_config::TimestampType;
use tidegate_types::{BatchError, PartitionIndex, RecordBatch, RecordSet, Timestamp, TopicConfig, limits};

use super::{Acks, Broker, Payload, Ticket};
use crate::error::Error;
use crate::metadata::image::Topic;
use crate::partition::{Partition, Slot, stamps};

impl Broker {
    /// The partition that a record belongs to: by its key's hash, or one that stays the same for a while for records without a key.
    pub fn partition_for(&self, topic: &Topic, key: Option<&[u8]>) -> PartitionIndex {
        match key {
            Some(key) => tidegate_types::partitioner::partition_for_key(key, topic.partition_count()),
            None => self.inner.partitions.sticky(topic),
        }
    }

    /// Checks and admits all parts, or none: after an `Err` nothing was or will be written. Tickets come in the order of the parts.
    ///
    /// At most one part a partition.
    ///
    /// # Errors
    /// [`Error::PartitionNotFound`], [`Error::KeyReused`], [`Error::RecordRejected`], [`Error::RecordTooLarge`], [`Error::Overloaded`], [`Error::NotLeader`],
    /// [`Error::LeaderUnavailable`], [`Error::Draining`], or what has stopped the partition's writer.
    pub fn produce(&self, topic: &Topic, parts: Vec<(PartitionIndex, Payload)>, acks: Acks) -> Result<Vec<Ticket>, Error> {
        if self.is_draining() {
            return Err(Error::Draining);
        }
        // The request may have taken long to arrive: the topic's rules are those of now.
        let topic = &self.topic(topic.name.as_str())?;
        let now = self.now();
        let mut seen = BTreeSet::new();
        let mut admitted: Vec<(Slot, Payload, usize)> = Vec::with_capacity(parts.len());
        for (part, (partition, payload)) in parts.into_iter().enumerate() {
            assert!(seen.insert(partition), "at most one part a partition");
            let open = self.partition(topic, partition)?;
            check(part, &payload, &topic.config, now)?;
            if let Payload::Batches(batches) = &payload {
                let numbered = batches.iter().filter_map(RecordBatch::producer).filter(|stamp| !stamp.is_keyed());
                numbered.into_iter().try_for_each(|stamp| self.check_given(stamp))?;
            }
            if stamps(&payload).any(|(stamp, _)| stamp.is_keyed() && open.keys().is_other(stamp, now.millis())) {
                return Err(Error::KeyReused);
            }
            let bytes = payload_bytes(&payload);
            admitted.push((open.reserve(bytes, self.in_flight())?, payload, bytes));
        }
        Ok(admitted.into_iter().map(|(slot, payload, bytes)| slot.send(payload, bytes, acks)).collect())
    }

    /// The open partition, if this node has it.
    pub(super) fn partition(&self, topic: &Topic, partition: PartitionIndex) -> Result<Arc<Partition>, Error> {
        let Some(state) = topic.partition(partition) else {
            return Err(Error::PartitionNotFound { topic: topic.name.clone(), partition, partitions: topic.partition_count() });
        };
        match state.leader {
            Some(leader) if leader == self.inner.config.node_id => self.inner.partitions.get(topic, partition),
            Some(leader) => Err(Error::NotLeader { leader }),
            None => Err(Error::LeaderUnavailable),
        }
    }
}

fn payload_bytes(payload: &Payload) -> usize {
    match payload {
        Payload::Records { set, .. } => set.bytes() + limits::BATCH_HEADER_BYTES,
        Payload::Batches(batches) => batches.iter().map(RecordBatch::len).sum(),
    }
}

/// The rules that only the topic knows. Batches have been walked by these rules where they came in.
fn check(part: usize, payload: &Payload, config: &TopicConfig, now: Timestamp) -> Result<(), Error> {
    let set = match payload {
        Payload::Records { set, .. } => set,
        Payload::Batches(batches) => return check_producers(batches),
    };
    let actual = set.bytes() + limits::BATCH_HEADER_BYTES;
    if actual > config.batch_bytes_max {
        return Err(Error::RecordTooLarge { part, actual, limit: config.batch_bytes_max });
    }
    match broken_rule(set, config, now) {
        Some((index, reason)) => Err(Error::RecordRejected { part, index, reason }),
        None => Ok(()),
    }
}

/// Batches that are numbered come one at a time: if the second of two were refused, the first would be written.
fn check_producers(batches: &[RecordBatch]) -> Result<(), Error> {
    let is_numbered = |batch: &RecordBatch| batch.producer().is_some_and(|stamp| !stamp.is_keyed());
    if batches.len() > 1 && batches.iter().any(is_numbered) {
        let reason = "a request with a producer id has one batch";
        return Err(BatchError::Rule { index: None, reason }.into());
    }
    Ok(())
}

fn broken_rule(set: &RecordSet, config: &TopicConfig, now: Timestamp) -> Option<(usize, &'static str)> {
    if config.cleanup_policy.compact
        && let Some(index) = set.first_without_key()
    {
        return Some((index, "the topic is compacted, so every record needs a key"));
    }
    if config.timestamp_type == TimestampType::LogAppendTime {
        return None; // What the producer says is replaced.
    }
    let (earliest, latest) = config.timestamp_range(now);
    let outside = |timestamp: Timestamp| timestamp.millis() < earliest || timestamp.millis() > latest;
    let index = set.timestamps().position(outside)?;
    Some((index, "its timestamp is outside what the topic accepts"))
}
