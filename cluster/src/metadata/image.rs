//! The metadata as everybody reads it: an immutable picture, replaced as a whole.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_types::{ClusterId, LeaderEpoch, NodeId, PartitionIndex, Timestamp, TopicConfig, TopicId, TopicName};

/// An image and the metadata log index that it is the outcome of (`Metadata-Version`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Published {
    /// Index of the last entry applied.
    pub version: u64,
    /// The picture.
    pub image: Arc<MetadataImage>,
}

/// Everything the cluster has agreed on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetadataImage {
    /// `None` only before the very first start has finished.
    pub cluster_id: Option<ClusterId>,
    /// Drawn with it; `None` as long.
    pub secret: Option<ClusterSecret>,
    /// Nodes by id.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Topics by name.
    pub topics: BTreeMap<TopicName, Arc<Topic>>,
    /// How many numbers of producer ids have been claimed.
    pub claimed_producers: i64,
    /// No name is bound to an epoch that is not above this one: names that were forgotten had it.
    pub retired_epoch: i16,
    /// The producers that have a name bound to their id, by name.
    pub producers: BTreeMap<String, Producer>,
    /// Their epochs, by id.
    pub bound_epochs: BTreeMap<i64, i16>,
}

/// A producer whose name is bound to an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Its id.
    pub producer_id: i64,
    /// Its current epoch.
    pub epoch: i16,
}

impl MetadataImage {
    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }
}

/// Random bytes that every node of the cluster knows and nobody else: what hashes are keyed with.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterSecret([u8; 32]);

impl ClusterSecret {
    /// Wraps bytes that were drawn elsewhere.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bare bytes.
    pub const fn get(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ClusterSecret {
    /// Keeps it out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(…)")
    }
}

/// A registered node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub node_id: NodeId,
    /// Where clients reach it, `host:port`.
    pub client_address: String,
    /// Where peers reach it, if it takes peers.
    pub peer_address: Option<String>,
    /// Its rack, if it has one.
    pub rack: Option<String>,
    /// Identity of its data directory.
    pub directory_id: uuid::Uuid,
    /// Index of its registration in the metadata log.
    pub broker_epoch: u64,
}

/// A topic as agreed.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionState>,
    /// Replicas of each partition.
    pub replication_factor: u16,
    /// Configs set on the topic itself, as written.
    pub overrides: BTreeMap<String, String>,
    /// All configs, typed.
    pub config: TopicConfig,
    /// When it was created.
    pub created_at: Timestamp,
}

impl Topic {
    /// How many partitions it has.
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }

    /// The state of one partition.
    pub fn partition(&self, partition: PartitionIndex) -> Option<&PartitionState> {
        self.partitions.get(usize::try_from(partition.get()).ok()?)
    }
}

/// Who has a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// The nodes that keep it, in order of preference.
    pub replicas: Vec<NodeId>,
    /// Those of them that have everything that counts.
    pub in_sync: Vec<NodeId>,
    /// Who takes writes; `None` is offline.
    pub leader: Option<NodeId>,
    /// Version of the leadership.
    pub leader_epoch: LeaderEpoch,
}
