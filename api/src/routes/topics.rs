//! Topics: make, ensure, list, describe, change, delete.

use std::ops::Bound;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tidegate_cluster::{Broker, EnsureOutcome, MetadataImage, NewTopic};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::JsonBody;
use crate::dto::NoParameters;
use crate::dto::offsets::within;
use crate::dto::problems::{ListProblems, MetadataReadProblems, TopicChangeProblems, TopicDeletionProblems};
use crate::dto::topics::{
    AlterTopic, CreateTopic, EnsureTopic, ListTopicsQuery, TopicDetail, TopicPage, TopicSummary, page_token, read_page_token,
};
use crate::error::ApiError;
use crate::extract::{Json, Query, TopicPath};
use crate::state::ApiState;

pub(crate) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(create_topic, list_topics)).routes(routes!(get_topic, ensure_topic, alter_topic, delete_topic))
}

/// Make a topic
///
/// When it answers, the topic takes records.
#[utoipa::path(
    post, path = "/v1/topics", operation_id = "createTopic", tag = "topics",
    request_body(content = CreateTopic, content_type = "application/json"),
    responses(
        (status = 201, description = "It was made", body = TopicDetail, headers(("Location" = String, description = "Its path"))),
        TopicChangeProblems
    )
)]
async fn create_topic(State(state): State<ApiState>, _: Query<NoParameters>, body: Json<CreateTopic>) -> Result<Response, ApiError> {
    let broker = state.broker()?;
    let topic = broker.create_topic(NewTopic::try_from(body.value)?).await?;
    Ok((body.ignored, created(broker, topic.name.as_str())?).into_response())
}

/// List topics
///
/// By name, a page at a time.
#[utoipa::path(
    get, path = "/v1/topics", operation_id = "listTopics", tag = "topics", params(ListTopicsQuery),
    responses((status = 200, description = "A page of topics", body = TopicPage), ListProblems)
)]
async fn list_topics(State(state): State<ApiState>, Query(query): Query<ListTopicsQuery>) -> Result<Response, ApiError> {
    within("?limit", query.limit, 1, 1000)?;
    let after = query.page_token.as_deref().map(read_page_token).transpose()?;
    let published = state.broker()?.metadata();
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    Ok(JsonBody(page(&published.image, &query.prefix, after.as_deref(), limit)).into_response())
}

/// Describe a topic
///
/// Its partitions with their offsets and sizes, and all its configs with where they come from.
#[utoipa::path(
    get, path = "/v1/topics/{topic}", operation_id = "getTopic", tag = "topics", params(TopicPath),
    responses((status = 200, description = "The topic", body = TopicDetail), MetadataReadProblems)
)]
async fn get_topic(State(state): State<ApiState>, path: TopicPath, _: Query<NoParameters>) -> Result<Response, ApiError> {
    Ok(JsonBody(described(state.broker()?, path.topic.as_str())?).into_response())
}

/// Ensure a topic
///
/// Makes it unless it is there as asked for. If it is there and differs, nothing is changed and `differences` says in what. Safe to repeat.
#[utoipa::path(
    put, path = "/v1/topics/{topic}", operation_id = "ensureTopic", tag = "topics", params(TopicPath),
    request_body(content = EnsureTopic, content_type = "application/json"),
    responses(
        (status = 200, description = "It was there as asked for", body = TopicDetail),
        (status = 201, description = "It was made", body = TopicDetail, headers(("Location" = String, description = "Its path"))),
        TopicChangeProblems
    )
)]
async fn ensure_topic(
    State(state): State<ApiState>,
    path: TopicPath,
    _: Query<NoParameters>,
    body: Json<EnsureTopic>,
) -> Result<Response, ApiError> {
    let broker = state.broker()?;
    let answer = match broker.ensure_topic(body.value.named(path.topic)).await? {
        EnsureOutcome::Created(topic) => created(broker, topic.name.as_str())?,
        EnsureOutcome::Unchanged(topic) => JsonBody(described(broker, topic.name.as_str())?).into_response(),
    };
    Ok((body.ignored, answer).into_response())
}

/// Change a topic
///
/// More partitions, other configs; `null` puts a config back to its default.
#[utoipa::path(
    patch, path = "/v1/topics/{topic}", operation_id = "alterTopic", tag = "topics", params(TopicPath),
    request_body(content = AlterTopic, content_type = "application/json"),
    responses((status = 200, description = "It is changed", body = TopicDetail), TopicChangeProblems)
)]
async fn alter_topic(
    State(state): State<ApiState>,
    path: TopicPath,
    _: Query<NoParameters>,
    body: Json<AlterTopic>,
) -> Result<Response, ApiError> {
    let broker = state.broker()?;
    let topic = broker.alter_topic(path.topic.as_str(), body.value.into()).await?;
    Ok((body.ignored, JsonBody(described(broker, topic.name.as_str())?)).into_response())
}

/// Delete a topic
///
/// And all its records.
#[utoipa::path(
    delete, path = "/v1/topics/{topic}", operation_id = "deleteTopic", tag = "topics", params(TopicPath),
    responses((status = 204, description = "It is deleted"), TopicDeletionProblems)
)]
async fn delete_topic(State(state): State<ApiState>, path: TopicPath, _: Query<NoParameters>) -> Result<StatusCode, ApiError> {
    state.broker()?.delete_topic(path.topic.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn described(broker: &Broker, topic: &str) -> Result<TopicDetail, ApiError> {
    Ok(TopicDetail::from(&broker.describe_topic(topic)?))
}

fn created(broker: &Broker, topic: &str) -> Result<Response, ApiError> {
    let mut response = (StatusCode::CREATED, JsonBody(described(broker, topic)?)).into_response();
    // Topic names have no character that a path or a header would mind.
    if let Ok(location) = HeaderValue::try_from(format!("/v1/topics/{topic}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// `limit` topics with `prefix` that come after `after`.
fn page(image: &MetadataImage, prefix: &str, after: Option<&str>, limit: usize) -> TopicPage {
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let mut matching = image
        .topics
        .range::<str, _>((start, Bound::Unbounded))
        .take_while(|(name, _)| name.as_str().starts_with(prefix))
        .map(|(_, topic)| topic);
    let items: Vec<TopicSummary> = matching.by_ref().take(limit).map(|topic| TopicSummary::from(topic.as_ref())).collect();
    let has_more = matching.next().is_some();
    let next_page_token = items.last().filter(|_| has_more).map(|last| page_token(&last.name));
    TopicPage { items, next_page_token }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_cluster::Topic;
    use tidegate_types::{Timestamp, TopicConfig, TopicId, TopicName};

    use super::*;

    fn image(names: &[&str]) -> MetadataImage {
        let topic = |name: &&str| {
            let name = TopicName::new(name).unwrap();
            let topic = Topic {
                id: TopicId::new(uuid::Uuid::nil()),
                name: name.clone(),
                partitions: vec![],
                replication_factor: 1,
                overrides: std::collections::BTreeMap::new(),
                config: TopicConfig::default(),
                created_at: Timestamp::from_millis(0),
            };
            (name, Arc::new(topic))
        };
        MetadataImage { topics: names.iter().map(topic).collect(), ..MetadataImage::default() }
    }

    /// A promise: pages read one after the other list every topic with the prefix once, and the last has no token.
    #[test]
    fn pages_list_each_topic_once() {
        let image = image(&["a", "b", "ba", "bb", "bbb", "c", "z"]);
        for (prefix, expected) in
            [("b", &["b", "ba", "bb", "bbb"][..]), ("", &["a", "b", "ba", "bb", "bbb", "c", "z"]), ("bb", &["bb", "bbb"]), ("x", &[])]
        {
            for limit in 1..9 {
                let (mut after, mut listed, mut pages) = (None, Vec::new(), 0);
                loop {
                    let page = page(&image, prefix, after.as_deref(), limit);
                    listed.extend(page.items.into_iter().map(|item| item.name));
                    pages += 1;
                    assert!(pages < 10, "the pages end");
                    let Some(token) = page.next_page_token else { break };
                    after = Some(read_page_token(&token).unwrap());
                }
                assert_eq!(listed, expected, "{prefix} {limit}");
                assert_eq!(pages, expected.len().div_ceil(limit).max(1), "no page is empty but the only one");
            }
        }
    }
}
