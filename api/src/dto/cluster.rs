//! The cluster and its nodes in JSON.

use serde::Serialize;
use tidegate_cluster::{ClusterDescription, NodeDescription};
use utoipa::ToSchema;

/// The cluster at a glance.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "cluster_id": "0199f0a8-5b1e-7c3d-8f2a-1b2c3d4e5f60", "metadata_version": 17, "controller": 1,
    "nodes": [{"node_id": 1, "state": "online", "roles": ["broker", "voter"], "client_address": "127.0.0.1:8080"}],
    "voters": [1], "offline_partitions": 0, "under_replicated_partitions": 0
}))]
pub(crate) struct ClusterDetail {
    /// Its identity, drawn when its first node started for the first time.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<uuid::Uuid>,
    /// Index in the metadata log that this is the outcome of.
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    metadata_version: u64,
    /// The node that decides on metadata; absent while there is none.
    #[schema(nullable = false, value_type = Option<u32>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<u64>,
    /// Its nodes, by id.
    nodes: Vec<NodeDetail>,
    /// The nodes that vote on metadata.
    #[schema(value_type = Vec<u32>)]
    voters: Vec<u64>,
    /// Partitions without a leader.
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    offline_partitions: u64,
    /// Partitions with fewer in-sync replicas than replicas.
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    under_replicated_partitions: u64,
}

/// A node of the cluster.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"node_id": 1, "state": "online", "roles": ["broker", "voter"], "client_address": "127.0.0.1:8080"}))]
pub(crate) struct NodeDetail {
    /// Its id.
    #[schema(value_type = u32)]
    pub(crate) node_id: u64,
    /// `online`; more will come.
    #[schema(value_type = String)]
    state: &'static str,
    /// `broker` keeps partitions, `voter` votes on metadata; more may come.
    #[schema(value_type = Vec<String>)]
    roles: Vec<&'static str>,
    /// Where clients reach it.
    client_address: String,
    /// Its rack, if it has one.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    rack: Option<String>,
}

/// All nodes of the cluster.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"items": [{"node_id": 1, "state": "online", "roles": ["broker", "voter"], "client_address": "127.0.0.1:8080"}]}))]
pub(crate) struct NodeList {
    /// The nodes, by id.
    pub(crate) items: Vec<NodeDetail>,
}

impl From<&NodeDescription> for NodeDetail {
    fn from(description: &NodeDescription) -> Self {
        let node = &description.node;
        Self {
            node_id: node.node_id.get(),
            // A node that is registered is in the only state there is as long as one node is the cluster.
            state: "online",
            roles: if description.is_voter { vec!["broker", "voter"] } else { vec!["broker"] },
            client_address: node.client_address.clone(),
            rack: node.rack.clone(),
        }
    }
}

impl From<&ClusterDescription> for ClusterDetail {
    fn from(cluster: &ClusterDescription) -> Self {
        Self {
            cluster_id: cluster.published.image.cluster_id.map(|id| id.get()),
            metadata_version: cluster.published.version,
            controller: cluster.controller.map(|node| node.get()),
            nodes: cluster.nodes.iter().map(NodeDetail::from).collect(),
            voters: cluster.voters.iter().map(|node| node.get()).collect(),
            offline_partitions: cluster.offline_partitions as u64,
            under_replicated_partitions: cluster.under_replicated_partitions as u64,
        }
    }
}
