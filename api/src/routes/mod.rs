//! Handlers, each with its entry in the OpenAPI document, so that neither can be without the other.
//!
//! A handler reads what was sent, asks the broker, and writes what it says; it decides nothing.

pub(crate) mod cluster;
pub(crate) mod docs;
pub(crate) mod fetch;
pub(crate) mod health;
pub(crate) mod limits;
pub(crate) mod offsets;
pub(crate) mod produce;
pub(crate) mod producers;
pub(crate) mod replayed;
pub(crate) mod stream;
pub(crate) mod topics;
pub(crate) mod trim;

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use tidegate_cluster::{Broker, Error, Topic};
use tidegate_types::{ErrorCode, PartitionIndex};
use utoipa_axum::router::OpenApiRouter;

use crate::error::ApiError;
use crate::state::ApiState;

/// All routes of the API proper.
pub(crate) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .merge(topics::router())
        .merge(produce::router())
        .merge(producers::router())
        .merge(stream::router())
        .merge(fetch::router())
        .merge(offsets::router())
        .merge(trim::router())
        .merge(cluster::router())
        .merge(limits::router())
}

/// The topic of a path, with the partition that the path names.
fn partition_of(broker: &Broker, topic: &str, partition: PartitionIndex) -> Result<Arc<Topic>, ApiError> {
    let topic = broker.topic(topic)?;
    require_partition(&topic, partition)?;
    Ok(topic)
}

/// 404 `partition-not-found` unless the topic has the partition.
fn require_partition(topic: &Topic, partition: PartitionIndex) -> Result<(), ApiError> {
    if topic.partition(partition).is_none() {
        let partitions = topic.partition_count();
        return Err(Error::PartitionNotFound { topic: topic.name.clone(), partition, partitions }.into());
    }
    Ok(())
}

/// 406 `not-acceptable` if the client says what it takes, and `media_type` is not among it.
fn require_accepted(headers: &HeaderMap, media_type: &'static str) -> Result<(), ApiError> {
    let mut ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).peekable();
    if ranges.peek().is_none() || ranges.any(|range| takes(range, media_type)) {
        return Ok(());
    }
    let problem = ApiError::new(ErrorCode::NotAcceptable, format!("the answer is {media_type}"));
    Err(problem.with("available", vec![media_type]))
}

/// Whether a range of `Accept` (`application/*;q=0.8`) takes `media_type`.
fn takes(range: &str, media_type: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let is_refused = parts.any(|parameter| parameter.strip_prefix("q=").is_some_and(|q| q.trim_matches(['0', '.']).is_empty()));
    let (kind, _) = media_type.split_once('/').unwrap_or((media_type, ""));
    let is_named =
        name == "*/*" || name.eq_ignore_ascii_case(media_type) || name.strip_suffix("/*").is_some_and(|of| of.eq_ignore_ascii_case(kind));
    is_named && !is_refused
}

/// Heavy work, on a thread that may be busy for long.
async fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, ApiError> + Send + 'static) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ApiError::fault(ErrorCode::Internal, format_args!("work on a thread of its own was cut off: {error}"))),
    }
}

/// Heavy work that unpacks records, on its own thread when its turn comes. How much a batch unpacks to is known only afterwards, so that
/// it is counted only then; until then there are at most so many as the machine can work on at a time.
async fn unpacking<T: Send + 'static>(
    state: &ApiState,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let turn = Arc::clone(state.unpackers()).acquire_owned().await;
    on_own_thread(move || {
        let _turn = turn;
        work()
    })
    .await
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// A promise: a client that takes something else is told so; one that says nothing, or anything, is answered.
    #[test]
    fn accept_is_heeded() {
        assert!(require_accepted(&HeaderMap::new(), "application/json").is_ok());
        for (accept, is_ok) in [
            ("*/*", true),
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", true),
            ("application/*", true),
            ("application/xml", false),
            ("text/*, image/png", false),
            ("application/json;q=0", false),
            ("application/json; q=0.0", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(require_accepted(&headers, "application/json").is_ok(), is_ok, "{accept}");
        }
    }
}
