//! The cluster and its nodes.

use axum::extract::State;
use tidegate_types::ErrorCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::JsonBody;
use crate::dto::NoParameters;
use crate::dto::cluster::{ClusterDetail, NodeDetail, NodeList};
use crate::dto::problems::MetadataReadProblems;
use crate::error::ApiError;
use crate::extract::{NodePath, Query};
use crate::state::ApiState;

pub(crate) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get_cluster)).routes(routes!(list_nodes)).routes(routes!(get_node))
}

/// Describe the cluster
///
/// Who decides, who is there, and what is not as it should be.
#[utoipa::path(
    get, path = "/v1/cluster", operation_id = "getCluster", tag = "cluster",
    responses((status = 200, description = "The cluster at a glance", body = ClusterDetail), MetadataReadProblems)
)]
async fn get_cluster(State(state): State<ApiState>, _: Query<NoParameters>) -> Result<JsonBody<ClusterDetail>, ApiError> {
    Ok(JsonBody(ClusterDetail::from(&state.broker()?.describe_cluster())))
}

/// List nodes
#[utoipa::path(
    get, path = "/v1/nodes", operation_id = "listNodes", tag = "cluster",
    responses((status = 200, description = "All nodes", body = NodeList), MetadataReadProblems)
)]
async fn list_nodes(State(state): State<ApiState>, _: Query<NoParameters>) -> Result<JsonBody<NodeList>, ApiError> {
    let cluster = state.broker()?.describe_cluster();
    Ok(JsonBody(NodeList { items: cluster.nodes.iter().map(NodeDetail::from).collect() }))
}

/// Describe a node
#[utoipa::path(
    get, path = "/v1/nodes/{node_id}", operation_id = "getNode", tag = "cluster", params(NodePath),
    responses((status = 200, description = "The node", body = NodeDetail), MetadataReadProblems)
)]
async fn get_node(State(state): State<ApiState>, path: NodePath, _: Query<NoParameters>) -> Result<JsonBody<NodeDetail>, ApiError> {
    let cluster = state.broker()?.describe_cluster();
    let node = cluster.nodes.iter().find(|description| description.node.node_id == path.node_id);
    let not_found = || ApiError::new(ErrorCode::NodeNotFound, "there is no such node").with("node_id", path.node_id.get());
    node.map(|node| JsonBody(NodeDetail::from(node))).ok_or_else(not_found)
}
