//! For whoever runs the node: is it alive, does it take calls, how is it doing. Answered before the node has started, too.

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use serde::Serialize;
use tidegate_types::ErrorCode;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::JsonBody;
use crate::error::ApiError;
use crate::state::ApiState;

const NO_STORE: &str = "no-store";

pub(crate) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get_liveness)).routes(routes!(get_readiness)).routes(routes!(get_metrics))
}

/// How the node is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"status": "ready"}))]
struct HealthReport {
    /// `alive` or `ready`.
    status: &'static str,
}

/// Whether the process answers
///
/// It does as long as this is 200; a process that does not is to be restarted.
#[utoipa::path(
    get, path = "/livez", operation_id = "getLiveness", tag = "health",
    responses((status = 200, description = "It answers", body = HealthReport, example = json!({"status": "alive"})))
)]
async fn get_liveness() -> impl IntoResponse {
    ([(CACHE_CONTROL, NO_STORE)], JsonBody(HealthReport { status: "alive" }))
}

/// Whether the node takes calls
///
/// 503 while it starts, while it stops, and without a leader of the metadata; `checks` names what fails.
#[utoipa::path(
    get, path = "/readyz", operation_id = "getReadiness", tag = "health",
    responses(
        (status = 200, description = "It takes calls", body = HealthReport, example = json!({"status": "ready"})),
        (status = 503, description = "It does not just now", body = crate::openapi::Problem, content_type = "application/problem+json"),
    )
)]
async fn get_readiness(State(state): State<ApiState>) -> Result<impl IntoResponse, ApiError> {
    let broker = state.broker().map_err(|error| {
        let check = if error.code() == ErrorCode::Starting { "started" } else { "not-draining" };
        error.with("checks", vec![check])
    })?;
    if broker.describe_cluster().controller.is_none() {
        return Err(
            ApiError::new(ErrorCode::LeaderUnavailable, "the metadata has no leader just now").with("checks", vec!["metadata-leader"])
        );
    }
    Ok(([(CACHE_CONTROL, NO_STORE)], JsonBody(HealthReport { status: "ready" })))
}

/// Metrics in Prometheus' text format.
#[derive(Debug, ToSchema)]
#[schema(value_type = String)]
pub(crate) struct MetricsText(());

/// The node's metrics
///
/// In Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", operation_id = "getMetrics", tag = "health",
    responses((status = 200, description = "The metrics", body = MetricsText, content_type = "text/plain"))
)]
async fn get_metrics(State(state): State<ApiState>) -> impl IntoResponse {
    let text = state.config().metrics.as_ref().map(|render| render()).unwrap_or_default();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (CACHE_CONTROL, NO_STORE)], text)
}
