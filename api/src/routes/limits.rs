//! What a client may run into.

use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::JsonBody;
use crate::dto::NoParameters;
use crate::dto::limits::LimitsResponse;
use crate::dto::problems::MetadataReadProblems;
use crate::error::ApiError;
use crate::extract::Query;
use crate::state::ApiState;

pub(crate) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get_limits))
}

/// Show the limits
///
/// Every bound that a client may run into, as this node is configured.
#[utoipa::path(
    get, path = "/v1/limits", operation_id = "getLimits", tag = "cluster",
    responses((status = 200, description = "The limits", body = LimitsResponse), MetadataReadProblems)
)]
async fn get_limits(State(state): State<ApiState>, _: Query<NoParameters>) -> Result<JsonBody<LimitsResponse>, ApiError> {
    state.broker()?; // While the node starts, this answers like everything else.
    Ok(JsonBody(LimitsResponse::from(state.limits())))
}
