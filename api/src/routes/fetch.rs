//! Fetch: records as JSON, one value as it is, stored batches.
//!
//! Positions are in the request (D10): a lost answer loses nothing, and asking again gives the same.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tidegate_cluster::error::RangeReason;
use tidegate_cluster::{Broker, Error, FetchRequest, Fetched, FetchedRanges, Permit, Position, Topic};
use tidegate_types::{ErrorCode, LeaderEpoch, Offset, PartitionIndex};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::produce::{BATCHES, RawBytes, is_packed};
use super::{on_own_thread, partition_of, require_accepted, unpacking};
use crate::counted;
use crate::dto::NoParameters;
use crate::dto::offsets::{FetchBatchesQuery, FetchPlan, FetchQuery};
use crate::dto::page::{self, FetchResponse, Found, PageRules};
use crate::dto::problems::FetchProblems;
use crate::dto::value;
use crate::error::ApiError;
use crate::extract::{PartitionPath, Query, RecordPath, etag_matches};
use crate::state::ApiState;
use crate::stored;

/// What is decoded on the spot; more has a thread of its own, since it takes longer than others should wait.
const INLINE_BYTES: usize = 256 << 10;
const NEXT_OFFSET: HeaderName = HeaderName::from_static("next-offset");
const HIGH_WATERMARK: HeaderName = HeaderName::from_static("high-watermark");
const LOG_START_OFFSET: HeaderName = HeaderName::from_static("log-start-offset");
const CAUGHT_UP: HeaderName = HeaderName::from_static("caught-up");
const LEADER_EPOCH: HeaderName = HeaderName::from_static("leader-epoch");
/// What lies below the high watermark stays as it is, but a topic of the same name may come after this one: so ask, the tag tells.
const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

pub(crate) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(fetch_records)).routes(routes!(fetch_value)).routes(routes!(fetch_batches))
}

/// A record's value, of whatever type it is.
#[derive(Debug, ToSchema)]
#[schema(value_type = Value)]
pub(crate) struct RecordValue(#[expect(dead_code, reason = "it is a schema")] Vec<u8>);

/// Fetch records
///
/// From one partition, in order. With `max_wait_ms` it waits for records that are not there yet; if none come, the answer has none and
/// the same `next_offset`. Values come in the shape that they were produced in.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/partitions/{partition}/records", operation_id = "fetchRecords", tag = "records",
    params(PartitionPath, FetchQuery),
    responses(
        (status = 200, description = "Records, perhaps none", body = FetchResponse, headers(
            ("Next-Offset" = u64, description = "Where to go on"),
            ("High-Watermark" = u64, description = "Everything below is readable"),
            ("Log-Start-Offset" = u64, description = "The earliest offset there is"),
            ("Caught-Up" = bool, description = "Whether there is nothing more for now"),
            ("Leader-Epoch" = i32, description = "Version of the leadership"),
            ("ETag" = String, description = "Names this page, if it will stay as it is"),
        )),
        (status = 304, description = "The page that `If-None-Match` names"),
        FetchProblems
    )
)]
async fn fetch_records(
    State(state): State<ApiState>,
    path: PartitionPath,
    Query(query): Query<FetchQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let plan = query.plan(state.limits())?;
    require_accepted(request.headers(), "application/json")?;
    let broker = state.broker()?;
    let topic = partition_of(broker, path.topic.as_str(), path.partition)?;
    let fetched = fetch(broker, &topic, path.partition, &plan).await?;
    let rules = PageRules {
        partition: path.partition,
        max_records: plan.max_records,
        max_bytes: plan.max_bytes,
        shape: plan.shape,
        json_depth: state.limits().json_depth,
        poll_after_ms: poll_after_ms(broker),
    };
    let is_short = fetched.batches.len() <= INLINE_BYTES;
    let is_packed = is_packed(&fetched.batches);
    let admission = broker.in_flight().clone();
    let write = move || page::write(&fetched, &rules, &admission).map(|page| (page, fetched));
    let (page, fetched) = match (is_packed, is_short) {
        (true, _) => unpacking(&state, write).await?,
        (false, true) => write()?,
        (false, false) => on_own_thread(write).await?,
    };
    let mut headers = position_headers(&topic, path.partition, &Standing::from(&fetched), page.next_offset);
    if is_known(request.headers(), &headers) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    drop(fetched); // What was read is no longer needed; what was made of it counts by itself.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(counted::answer(headers, page.body, Arc::new(page.permit)))
}

/// Fetch one value
///
/// The value of the record at an offset, as the bytes that were produced, with its own content type.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/partitions/{partition}/records/{offset}", operation_id = "fetchValue", tag = "records",
    params(RecordPath),
    responses(
        (status = 200, description = "The value", body = RecordValue, content_type = "*/*", headers(
            ("ETag" = String, description = "Names this record"),
            ("Record-Key" = String, description = "Its key, if it is visible ASCII"),
            ("Record-Key-Base64" = String, description = "Its key, if it is not"),
            ("Record-Timestamp" = i64, description = "Milliseconds since 1970-01-01 UTC"),
        )),
        (status = 204, description = "The record is a tombstone: it has no value", headers(
            ("Record-Tombstone" = bool, description = "`true`"),
        )),
        (status = 304, description = "The record that `If-None-Match` names"),
        FetchProblems
    )
)]
async fn fetch_value(
    State(state): State<ApiState>,
    path: RecordPath,
    _: Query<NoParameters>,
    request: Request,
) -> Result<Response, ApiError> {
    let broker = state.broker()?;
    let topic = partition_of(broker, path.topic.as_str(), path.partition)?;
    let plan = FetchPlan::one(Position::Offset(path.offset));
    let fetched = fetch(broker, &topic, path.partition, &plan).await?;
    let (found, permit) = find(&state, fetched, path.partition, path.offset).await?;
    let mut headers = value::headers(&found);
    headers.insert(CACHE_CONTROL, REVALIDATE);
    headers.insert(ETAG, tag(&topic, &format!("{}-{}", path.partition, path.offset)));
    if is_known(request.headers(), &headers) {
        headers.remove(CONTENT_TYPE);
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    match found.value {
        None => Ok((StatusCode::NO_CONTENT, headers).into_response()),
        Some(bytes) => Ok(counted::answer(headers, bytes, Arc::new(permit))),
    }
}

/// Fetch stored batches
///
/// Whole record batches of version 2, back to back, as they are on disk; the first may begin before the offset asked for.
#[utoipa::path(
    get, path = "/v1/topics/{topic}/partitions/{partition}/batches", operation_id = "fetchBatches", tag = "records",
    params(PartitionPath, FetchBatchesQuery),
    responses(
        (status = 200, description = "Batches, perhaps none", body = RawBytes, content_type = "application/vnd.tidegate.batches", headers(
            ("Next-Offset" = u64, description = "Where to go on"),
            ("High-Watermark" = u64, description = "Everything below is readable"),
            ("Log-Start-Offset" = u64, description = "The earliest offset there is"),
            ("Caught-Up" = bool, description = "Whether there is nothing more for now"),
            ("Leader-Epoch" = i32, description = "Version of the leadership"),
            ("ETag" = String, description = "Names these batches, if they will stay as they are"),
        )),
        (status = 304, description = "The batches that `If-None-Match` names"),
        FetchProblems
    )
)]
async fn fetch_batches(
    State(state): State<ApiState>,
    path: PartitionPath,
    Query(query): Query<FetchBatchesQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let plan = query.plan(state.limits())?;
    require_accepted(request.headers(), BATCHES)?;
    let broker = state.broker()?;
    let topic = partition_of(broker, path.topic.as_str(), path.partition)?;
    let found = broker.fetch_ranges(request_of(&topic, path.partition, &plan)).await?;
    let standing = Standing::from(&found);
    let mut headers = position_headers(&topic, path.partition, &standing, found.next_offset);
    if is_known(request.headers(), &headers) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(BATCHES));
    Ok(stored::answer(headers, found.ranges, broker.in_flight())?)
}

async fn fetch(broker: &Broker, topic: &Arc<Topic>, partition: PartitionIndex, plan: &FetchPlan) -> Result<Fetched, ApiError> {
    Ok(broker.fetch(request_of(topic, partition, plan)).await?)
}

fn request_of(topic: &Arc<Topic>, partition: PartitionIndex, plan: &FetchPlan) -> FetchRequest {
    FetchRequest {
        topic: Arc::clone(topic),
        partition,
        position: plan.position,
        reset: plan.reset,
        max_bytes: plan.max_bytes,
        min_bytes: plan.min_bytes,
        max_wait: plan.max_wait,
    }
}

/// How things stand around an answer.
struct Standing {
    start: Offset,
    high_watermark: Offset,
    log_start: Offset,
    leader_epoch: LeaderEpoch,
}

impl From<&Fetched> for Standing {
    fn from(fetched: &Fetched) -> Self {
        let Fetched { start, high_watermark, log_start, leader_epoch, .. } = *fetched;
        Self { start, high_watermark, log_start, leader_epoch }
    }
}

impl From<&FetchedRanges> for Standing {
    fn from(found: &FetchedRanges) -> Self {
        let FetchedRanges { start, high_watermark, log_start, leader_epoch, .. } = *found;
        Self { start, high_watermark, log_start, leader_epoch }
    }
}

/// The record at `offset`, and what it counts for.
async fn find(state: &ApiState, fetched: Fetched, partition: PartitionIndex, offset: u64) -> Result<(Found, Permit), ApiError> {
    let (earliest, latest) = (fetched.log_start, fetched.high_watermark);
    let future = || ApiError::from(Error::OffsetOutOfRange { requested: offset, earliest, latest, reason: RangeReason::Future });
    let offset = Offset::new(offset).filter(|offset| *offset < latest).ok_or_else(future)?;
    let is_short = fetched.batches.len() <= INLINE_BYTES;
    let is_packed = is_packed(&fetched.batches);
    let admission = state.broker()?.in_flight().clone();
    let find = move || {
        let found = page::find(&fetched.batches, partition, offset, &admission);
        drop(fetched); // Whole, with its permit: what was read counts until here.
        found
    };
    let found = match (is_packed, is_short) {
        (true, _) => unpacking(state, find).await?,
        (false, true) => find()?,
        (false, false) => on_own_thread(find).await?,
    };
    found.ok_or_else(|| ApiError::new(ErrorCode::RecordNotFound, "no record stands at that offset").with("offset", offset.get()))
}

/// Where a page stands. A page wholly below the high watermark gets a tag: it will be the same as long as nothing is compacted.
fn position_headers(topic: &Topic, partition: PartitionIndex, standing: &Standing, next_offset: Offset) -> HeaderMap {
    let is_caught_up = next_offset >= standing.high_watermark;
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(NEXT_OFFSET, next_offset.get().into());
    headers.insert(HIGH_WATERMARK, standing.high_watermark.get().into());
    headers.insert(LOG_START_OFFSET, standing.log_start.get().into());
    headers.insert(CAUGHT_UP, HeaderValue::from_static(if is_caught_up { "true" } else { "false" }));
    headers.insert(LEADER_EPOCH, standing.leader_epoch.get().into());
    if is_caught_up || topic.config.cleanup_policy.compact {
        headers.insert(CACHE_CONTROL, NO_STORE);
        return headers;
    }
    headers.insert(CACHE_CONTROL, REVALIDATE);
    headers.insert(ETAG, tag(topic, &format!("{partition}-{}-{next_offset}", standing.start)));
    headers
}

/// A tag that is weak, since the answer also says how things stand around the page, which changes.
fn tag(topic: &Topic, place: &str) -> HeaderValue {
    let tag = format!("W/\"{}-{place}\"", topic.id.get().simple());
    HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\"")) // Digits, letters and hyphens.
}

/// Whether the client has what the tag in `answer` names.
fn is_known(request: &HeaderMap, answer: &HeaderMap) -> bool {
    answer.get(ETAG).is_some_and(|tag| etag_matches(request, tag))
}

/// When the node stops, all who wait are answered at once; they should not all be back at once.
fn poll_after_ms(broker: &Broker) -> u32 {
    if !broker.is_draining() {
        return 0;
    }
    u32::try_from(broker.now().millis().rem_euclid(1_000)).unwrap_or(0) + 1
}
