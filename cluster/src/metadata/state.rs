//! What a command does to the metadata. Pure: no clock, no randomness, no I/O, so that every node that applies the same log comes to the same state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_storage::kv::MetadataKey;
use tidegate_types::producer::{EPOCH_MAX, NUMBERS_MAX, number_of};
use tidegate_types::{LeaderEpoch, NodeId, TopicId, TopicName, limits};

use super::codec::{self, CodecError};
use super::command::{Command, Outcome, Refusal};
use super::image::{MetadataImage, Node, PartitionState, Producer, Topic};
use super::records::{self, ClusterRecord, NodeRecord, ProducerRecord, StateRecord, TopicRecord};

/// The metadata as the log has made it so far.
///
/// The image in it is shared with readers: it is copied (topics by reference) when it is changed under them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetadataState {
    image: Arc<MetadataImage>,
    names: BTreeMap<TopicId, TopicName>,
}

/// What applying a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "what has changed must be stored"]
pub struct Applied {
    /// For whoever has proposed it.
    pub outcome: Outcome,
    /// What [`MetadataState::record`] now says something else about.
    pub changed: Vec<MetadataKey>,
}

impl MetadataState {
    /// The image as it is now.
    pub fn image(&self) -> &Arc<MetadataImage> {
        &self.image
    }

    /// Carries out the command of entry `index`, or refuses it and changes nothing.
    pub fn apply(&mut self, index: u64, command: &Command) -> Applied {
        match self.carry_out(index, command) {
            Ok(changed) => Applied { outcome: Outcome::Done { version: index }, changed },
            Err(refusal) => Applied { outcome: Outcome::Refused(refusal), changed: Vec::new() },
        }
    }

    fn carry_out(&mut self, index: u64, command: &Command) -> Result<Vec<MetadataKey>, Refusal> {
        let changed = match command {
            Command::InitCluster { cluster_id, secret } => {
                self.init_cluster(&ClusterRecord { cluster_id: *cluster_id, secret: *secret, claimed_producers: 0, retired_epoch: 0 })
            }
            Command::RegisterNode { node_id, client_address, peer_address, rack, directory_id } => Ok(self.register_node(Node {
                node_id: *node_id,
                client_address: client_address.clone(),
                peer_address: peer_address.clone(),
                rack: rack.clone(),
                directory_id: *directory_id,
                broker_epoch: index,
            })),
            Command::CreateTopic { id, name, created_at, assignments, replication_factor, overrides } => {
                let partitions = self.place(assignments)?;
                self.create_topic(Topic {
                    id: *id,
                    name: name.clone(),
                    partitions,
                    replication_factor: *replication_factor,
                    overrides: overrides.clone(),
                    config: records::typed(overrides),
                    created_at: *created_at,
                })
            }
            Command::AlterTopic { id, partition_count, added, set, unset } => self.alter_topic(*id, |state, topic| {
                if !added.is_empty() && topic.partition_count() != *partition_count {
                    return Err(Refusal::PartitionsChanged { actual: topic.partition_count() });
                }
                if !added.is_empty() {
                    topic.partitions.extend(state.place(added)?);
                }
                change_overrides(topic, set, unset);
                Ok(())
            }),
            Command::DeleteTopic { id } => self.delete_topic(*id),
            Command::ClaimProducerIds { first, count } => self.claim_producer_ids(*first, *count),
            Command::BindProducer { name, producer_id, epoch } => {
                self.bind_producer(name, Producer { producer_id: *producer_id, epoch: *epoch })
            }
            Command::UnbindProducer { name, retired_epoch } => return self.unbind_producer(name, *retired_epoch),
        };
        changed.map(|changed| vec![changed])
    }

    fn init_cluster(&mut self, cluster: &ClusterRecord) -> Result<MetadataKey, Refusal> {
        if self.image.cluster_id.is_some() {
            return Err(Refusal::ClusterExists);
        }
        self.restore_cluster(cluster);
        Ok(MetadataKey::Cluster)
    }

    fn register_node(&mut self, node: Node) -> MetadataKey {
        let key = MetadataKey::Node(node.node_id);
        self.image_mut().nodes.insert(node.node_id, node);
        key
    }

    fn create_topic(&mut self, topic: Topic) -> Result<MetadataKey, Refusal> {
        // The name first, as people ask by it; the id, because a command that was sent twice must not make two.
        if self.image.topics.contains_key(&topic.name) || self.names.contains_key(&topic.id) {
            return Err(Refusal::TopicExists);
        }
        let key = MetadataKey::Topic(topic.id);
        self.put_topic(Arc::new(topic));
        Ok(key)
    }

    fn alter_topic(&mut self, id: TopicId, change: impl FnOnce(&Self, &mut Topic) -> Result<(), Refusal>) -> Result<MetadataKey, Refusal> {
        let mut topic = Topic::clone(self.topic(id).ok_or(Refusal::TopicNotFound)?);
        change(self, &mut topic)?;
        self.put_topic(Arc::new(topic));
        Ok(MetadataKey::Topic(id))
    }

    fn delete_topic(&mut self, id: TopicId) -> Result<MetadataKey, Refusal> {
        let name = self.names.remove(&id).ok_or(Refusal::TopicNotFound)?;
        self.image_mut().topics.remove(&name);
        Ok(MetadataKey::Topic(id))
    }

    fn claim_producer_ids(&mut self, first: i64, count: u32) -> Result<MetadataKey, Refusal> {
        let next = self.image.claimed_producers;
        let after = next.checked_add(i64::from(count)).filter(|after| *after <= NUMBERS_MAX);
        match after {
            Some(after) if first == next && self.image.cluster_id.is_some() => {
                self.image_mut().claimed_producers = after;
                Ok(MetadataKey::Cluster)
            }
            _ => Err(Refusal::ProducerIdsClaimed { next }),
        }
    }

    /// Each binding is a later epoch than any that was ever written with under the name, so that whoever writes with it is fenced.
    fn bind_producer(&mut self, name: &str, producer: Producer) -> Result<MetadataKey, Refusal> {
        let known = self.image.producers.get(name).copied();
        let before = known.map_or(self.image.retired_epoch, |known| known.epoch);
        let is_same = known.is_none_or(|known| known.producer_id == producer.producer_id);
        let is_claimed = (1..=self.image.claimed_producers).contains(&number_of(producer.producer_id));
        if before.checked_add(1) != Some(producer.epoch) || !is_same || !is_claimed {
            return Err(Refusal::ProducerChanged);
        }
        if known.is_none() && self.image.bound_epochs.contains_key(&producer.producer_id) {
            return Err(Refusal::ProducerChanged);
        }
        if self.image.producers.len() >= limits::BOUND_PRODUCERS_MAX && known.is_none() {
            return Err(Refusal::TooManyProducers);
        }
        self.put_producer(name, producer);
        Ok(MetadataKey::Producer(name.to_owned()))
    }

    fn put_producer(&mut self, name: &str, producer: Producer) {
        let image = self.image_mut();
        image.producers.insert(name.to_owned(), producer);
        image.bound_epochs.insert(producer.producer_id, producer.epoch);
    }

    fn unbind_producer(&mut self, name: &str, retired_epoch: i16) -> Result<Vec<MetadataKey>, Refusal> {
        let known = self.image.producers.get(name).copied().ok_or(Refusal::ProducerChanged)?;
        if retired_epoch < known.epoch.max(self.image.retired_epoch) {
            return Err(Refusal::ProducerChanged);
        }
        let image = self.image_mut();
        image.producers.remove(name);
        image.bound_epochs.remove(&known.producer_id);
        image.retired_epoch = retired_epoch;
        Ok(vec![MetadataKey::Producer(name.to_owned()), MetadataKey::Cluster])
    }

    /// New partitions on these replicas: nothing is written yet, so all are in sync and the preferred one leads.
    fn place(&self, assignments: &[Vec<NodeId>]) -> Result<Vec<PartitionState>, Refusal> {
        if assignments.is_empty() {
            return Err(Refusal::BadAssignment);
        }
        assignments.iter().map(|replicas| self.place_one(replicas)).collect()
    }

    fn place_one(&self, replicas: &[NodeId]) -> Result<PartitionState, Refusal> {
        if let Some(stranger) = replicas.iter().find(|node_id| !self.image.nodes.contains_key(node_id)) {
            return Err(Refusal::UnknownNode { node_id: *stranger });
        }
        let distinct: BTreeSet<_> = replicas.iter().collect();
        if replicas.is_empty() || distinct.len() != replicas.len() {
            return Err(Refusal::BadAssignment);
        }
        Ok(PartitionState {
            replicas: replicas.to_vec(),
            in_sync: replicas.to_vec(),
            leader: replicas.first().copied(),
            leader_epoch: LeaderEpoch::ZERO,
        })
    }

    fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.image.topics.get(self.names.get(&id)?)
    }

    fn put_topic(&mut self, topic: Arc<Topic>) {
        self.names.insert(topic.id, topic.name.clone());
        self.image_mut().topics.insert(topic.name.clone(), topic);
    }

    fn restore_cluster(&mut self, cluster: &ClusterRecord) {
        let image = self.image_mut();
        image.cluster_id = Some(cluster.cluster_id);
        image.secret = Some(cluster.secret);
        image.claimed_producers = cluster.claimed_producers;
        image.retired_epoch = i16::try_from(cluster.retired_epoch).unwrap_or(EPOCH_MAX);
    }

    fn image_mut(&mut self) -> &mut MetadataImage {
        Arc::make_mut(&mut self.image)
    }
}

/// The state as it is stored.
impl MetadataState {
    /// What is stored under `key`; `None` if there is nothing (any more).
    pub fn record(&self, key: &MetadataKey) -> Option<Vec<u8>> {
        match key {
            MetadataKey::Cluster => records::cluster_record(&self.image).map(|record| codec::encode(&record)),
            MetadataKey::Node(id) => self.image.nodes.get(id).map(|node| codec::encode(&NodeRecord::from(node))),
            MetadataKey::Topic(id) => self.topic(*id).map(|topic| codec::encode(&TopicRecord::from(topic.as_ref()))),
            MetadataKey::Producer(name) => {
                self.image.producers.get(name).map(|producer| codec::encode(&ProducerRecord::of(name, *producer)))
            }
        }
    }

    /// Every key that has something stored under it.
    pub fn keys(&self) -> Vec<MetadataKey> {
        let cluster = self.image.cluster_id.map(|_| MetadataKey::Cluster);
        let nodes = self.image.nodes.keys().copied().map(MetadataKey::Node);
        let producers = self.image.producers.keys().cloned().map(MetadataKey::Producer);
        cluster.into_iter().chain(nodes).chain(self.names.keys().copied().map(MetadataKey::Topic)).chain(producers).collect()
    }

    /// The state from all that is stored.
    ///
    /// # Errors
    /// [`CodecError`] if a record is not what its key says.
    pub fn from_records(stored: &[(MetadataKey, Vec<u8>)]) -> Result<Self, CodecError> {
        let mut state = Self::default();
        for (key, record) in stored {
            match key {
                MetadataKey::Cluster => state.restore_cluster(&codec::decode("the cluster's record", record)?),
                MetadataKey::Node(_) => {
                    let record: NodeRecord = codec::decode("a node's record", record)?;
                    state.register_node(record.into());
                }
                MetadataKey::Topic(_) => {
                    let record: TopicRecord = codec::decode("a topic's record", record)?;
                    state.put_topic(record.into());
                }
                MetadataKey::Producer(_) => {
                    let record: ProducerRecord = codec::decode("a producer's record", record)?;
                    state.put_producer(&record.name, record.producer());
                }
            }
        }
        Ok(state)
    }

    /// All of an image in one piece.
    pub fn snapshot_of(image: &MetadataImage) -> Vec<u8> {
        codec::encode(&StateRecord::of(image))
    }

    /// The state from what [`MetadataState::snapshot_of`] has made.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn from_snapshot(snapshot: &[u8]) -> Result<Self, CodecError> {
        let record: StateRecord = codec::decode("a metadata snapshot", snapshot)?;
        let mut state = Self::default();
        if let Some(cluster) = &record.cluster {
            state.restore_cluster(cluster);
        }
        for node in record.nodes {
            state.register_node(node.into());
        }
        for topic in record.topics {
            state.put_topic(topic.into());
        }
        for producer in &record.producers {
            state.put_producer(&producer.name, producer.producer());
        }
        Ok(state)
    }
}

fn change_overrides(topic: &mut Topic, set: &BTreeMap<String, String>, unset: &BTreeSet<String>) {
    topic.overrides.retain(|name, _| !unset.contains(name));
    topic.overrides.extend(set.clone());
    topic.config = records::typed(&topic.overrides);
}

#[cfg(test)]
mod tests;
