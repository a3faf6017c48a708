//! The shapes in which the state is stored: declared here, so that a change of the image's types does not change what is on disk.
//!
//! One record for each key of `storage::kv`; a snapshot is all of them in one piece. Fields are added with a default, never renamed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_types::{ClusterId, LeaderEpoch, NodeId, Timestamp, TopicConfig, TopicId, TopicName, topic_config};
use uuid::Uuid;

use super::image::{ClusterSecret, MetadataImage, Node, PartitionState, Producer, Topic};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClusterRecord {
    pub(super) cluster_id: ClusterId,
    pub(super) secret: ClusterSecret,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) claimed_producers: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) retired_epoch: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProducerRecord {
    pub(super) name: String,
    producer_id: i64,
    epoch: i16,
}

impl ProducerRecord {
    pub(super) fn of(name: &str, Producer { producer_id, epoch }: Producer) -> Self {
        Self { name: name.to_owned(), producer_id, epoch }
    }

    pub(super) fn producer(&self) -> Producer {
        Producer { producer_id: self.producer_id, epoch: self.epoch }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NodeRecord {
    node_id: NodeId,
    client_address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer_address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rack: Option<String>,
    directory_id: Uuid,
    broker_epoch: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TopicRecord {
    id: TopicId,
    name: TopicName,
    created_at: Timestamp,
    replication_factor: u16,
    partitions: Vec<PartitionRecord>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    overrides: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PartitionRecord {
    replicas: Vec<NodeId>,
    in_sync: Vec<NodeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader: Option<NodeId>,
    leader_epoch: LeaderEpoch,
}

/// All of it: what a snapshot holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StateRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cluster: Option<ClusterRecord>,
    #[serde(default)]
    pub(super) nodes: Vec<NodeRecord>,
    #[serde(default)]
    pub(super) topics: Vec<TopicRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) producers: Vec<ProducerRecord>,
}

impl StateRecord {
    pub(super) fn of(image: &MetadataImage) -> Self {
        Self {
            cluster: cluster_record(image),
            nodes: image.nodes.values().map(NodeRecord::from).collect(),
            topics: image.topics.values().map(|topic| TopicRecord::from(topic.as_ref())).collect(),
            producers: image.producers.iter().map(|(name, producer)| ProducerRecord::of(name, *producer)).collect(),
        }
    }
}

pub(super) fn cluster_record(image: &MetadataImage) -> Option<ClusterRecord> {
    Some(ClusterRecord {
        cluster_id: image.cluster_id?,
        secret: image.secret?,
        claimed_producers: image.claimed_producers,
        retired_epoch: i64::from(image.retired_epoch),
    })
}

impl From<&Node> for NodeRecord {
    fn from(node: &Node) -> Self {
        let Node { node_id, client_address, peer_address, rack, directory_id, broker_epoch } = node.clone();
        Self { node_id, client_address, peer_address, rack, directory_id, broker_epoch }
    }
}

impl From<NodeRecord> for Node {
    fn from(record: NodeRecord) -> Self {
        let NodeRecord { node_id, client_address, peer_address, rack, directory_id, broker_epoch } = record;
        Self { node_id, client_address, peer_address, rack, directory_id, broker_epoch }
    }
}

impl From<&Topic> for TopicRecord {
    fn from(topic: &Topic) -> Self {
        Self {
            id: topic.id,
            name: topic.name.clone(),
            created_at: topic.created_at,
            replication_factor: topic.replication_factor,
            partitions: topic.partitions.iter().map(PartitionRecord::from).collect(),
            overrides: topic.overrides.clone(),
        }
    }
}

impl From<TopicRecord> for Arc<Topic> {
    fn from(record: TopicRecord) -> Self {
        Self::new(Topic {
            id: record.id,
            name: record.name,
            partitions: record.partitions.into_iter().map(PartitionState::from).collect(),
            replication_factor: record.replication_factor,
            config: typed(&record.overrides),
            overrides: record.overrides,
            created_at: record.created_at,
        })
    }
}

impl From<&PartitionState> for PartitionRecord {
    fn from(partition: &PartitionState) -> Self {
        let PartitionState { replicas, in_sync, leader, leader_epoch } = partition.clone();
        Self { replicas, in_sync, leader, leader_epoch }
    }
}

impl From<PartitionRecord> for PartitionState {
    fn from(record: PartitionRecord) -> Self {
        let PartitionRecord { replicas, in_sync, leader, leader_epoch } = record;
        Self { replicas, in_sync, leader, leader_epoch }
    }
}

/// The configs as this version understands them. One that it does not (a newer version has set it) is kept as written and has its default here:
/// to refuse it would make this node's state another than its neighbours'.
pub(super) fn typed(overrides: &BTreeMap<String, String>) -> TopicConfig {
    let understood = overrides.iter().filter(|(name, value)| topic_config::check(name, value).is_ok());
    let understood: BTreeMap<_, _> = understood.map(|(name, value)| (name.clone(), value.clone())).collect();
    TopicConfig::from_overrides(&understood).unwrap_or_default()
}
