//! A partition's offsets.

use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::partition_of;
use crate::answer::JsonBody;
use crate::dto::offsets::{OffsetsQuery, PartitionOffsets};
use crate::dto::problems::FetchProblems;
use crate::error::ApiError;
use crate::extract::{PartitionPath, Query};
use crate::state::ApiState;

pub(crate) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get_offsets))
}

/// Ask for offsets
///
/// The ends of a partition; with `at` or `timestamp` also the offset that stands there.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/partitions/{partition}/offsets", operation_id = "getOffsets", tag = "records",
    params(PartitionPath, OffsetsQuery),
    responses((status = 200, description = "The offsets", body = PartitionOffsets), FetchProblems)
)]
async fn get_offsets(
    State(state): State<ApiState>,
    path: PartitionPath,
    Query(query): Query<OffsetsQuery>,
) -> Result<JsonBody<PartitionOffsets>, ApiError> {
    let question = query.question()?;
    let broker = state.broker()?;
    let topic = partition_of(broker, path.topic.as_str(), path.partition)?;
    let offsets = broker.offsets(&topic, path.partition, question).await?;
    Ok(JsonBody(PartitionOffsets::new(path.partition, &offsets)))
}
