//! Producers: ids and epochs, so that what they send can be sent again.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidegate_cluster::ProducerIdentity;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::JsonBody;
use crate::dto::problems::ProducerProblems;
use crate::error::ApiError;
use crate::extract::ProducerPath;
use crate::state::ApiState;

pub(crate) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(init_producer)).routes(routes!(bind_producer, unbind_producer))
}

/// A producer as it may begin.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"producer_id": 4711, "epoch": 0}))]
struct Producer {
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    name: Option<String>,
    /// Its id, as stored batches carry it.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    producer_id: i64,
    /// The epoch to write with.
    #[schema(minimum = 0, maximum = 32_767)]
    epoch: i16,
}

impl Producer {
    fn of(name: Option<String>, ProducerIdentity { producer_id, epoch }: ProducerIdentity) -> Self {
        Self { name, producer_id, epoch }
    }
}

/// Get a producer id
///
/// An id that nobody else has, for the headers of stored batches (`produceBatches`). Whoever writes JSON needs none: a name of his own in
/// `Producer-Id`, or an `Idempotency-Key`, does the same.
#[utoipa::path(
    post, path = "/v1/producers", operation_id = "initProducer", tag = "producers",
    responses((status = 201, description = "The id is yours", body = Producer), ProducerProblems)
)]
async fn init_producer(State(state): State<ApiState>) -> Result<Response, ApiError> {
    let identity = state.broker()?.init_producer().await?;
    Ok((StatusCode::CREATED, JsonBody(Producer::of(None, identity))).into_response())
}

/// Begin a producer's next epoch
///
/// Binds the name to an id, if it has none, and begins an epoch: whoever writes under the name with an earlier one is refused
/// (`producer-fenced`), also without any binding: the first epoch is 1. Sequences begin at 0 again. Repeated, it begins another epoch; a name has 32,767.
#[utoipa::path(
    put, path = "/v1/producers/{name}", operation_id = "bindProducer", tag = "producers", params(ProducerPath),
    responses((status = 200, description = "The epoch has begun", body = Producer), ProducerProblems)
)]
async fn bind_producer(State(state): State<ApiState>, path: ProducerPath) -> Result<Response, ApiError> {
    let identity = state.broker()?.bind_producer(&path.name).await?;
    Ok(JsonBody(Producer::of(Some(path.name), identity)).into_response())
}

/// Forget a producer's name
///
/// The name may be written under without a binding again, as the producer that it was before it had one. Bound again, it has another id and a later epoch. A
/// name that has had more than 16,383 epochs is kept (422).
#[utoipa::path(
    delete, path = "/v1/producers/{name}", operation_id = "unbindProducer", tag = "producers", params(ProducerPath),
    responses((status = 204, description = "It is bound to no id, or was to none"), ProducerProblems)
)]
async fn unbind_producer(State(state): State<ApiState>, path: ProducerPath) -> Result<StatusCode, ApiError> {
    state.broker()?.unbind_producer(&path.name).await?;
    Ok(StatusCode::NO_CONTENT)
}
