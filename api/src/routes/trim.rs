//! Trim: giving up a partition's oldest records.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::partition_of;
use crate::answer::JsonBody;
use crate::dto::NoParameters;
use crate::dto::problems::TrimProblems;
use crate::dto::trim::{PartitionTrimmed, TrimPartition};
use crate::error::ApiError;
use crate::extract::{Json, PartitionPath, Query};
use crate::state::ApiState;

pub(crate) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(trim_partition))
}

/// Trim a partition
///
/// Deletes every record before an offset, for ever: when it answers, nobody can read them any more, and no restart brings them back. Their
/// disk space is freed soon after, a whole segment at a time. An offset that is no later than the earliest changes nothing. Safe to repeat.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/partitions/{partition}/trim", operation_id = "trimPartition", tag = "records",
    params(PartitionPath),
    request_body(content = TrimPartition, content_type = "application/json"),
    responses((status = 200, description = "Where the partition begins now", body = PartitionTrimmed), TrimProblems)
)]
async fn trim_partition(
    State(state): State<ApiState>,
    path: PartitionPath,
    _: Query<NoParameters>,
    body: Json<TrimPartition>,
) -> Result<Response, ApiError> {
    let broker = state.broker()?;
    let topic = partition_of(broker, path.topic.as_str(), path.partition)?;
    let earliest = broker.trim(&topic, path.partition, body.value.before_offset).await?;
    Ok((body.ignored, JsonBody(PartitionTrimmed::from(earliest))).into_response())
}
