//! Produce: records as JSON, one record as a body, stored batches.
//!
//! ```text
//!   body ─ read, bounded ─ checked, all of it ─ Broker::produce ─ tickets ─ answer
//!                          (422, nothing written)  (all parts or none)  (503/504 partial-write at worst)
//! ```

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use tidegate_cluster::{Acks, Appended, Broker, Error, Origin, Payload, Topic};
use tidegate_types::batch::{BatchRules, StoredBatch};
use tidegate_types::limits::BATCH_HEADER_BYTES;
use tidegate_types::record::Record;
use tidegate_types::{BatchError, Encoding, ErrorCode, Limits, PartitionIndex, ProducerStamp, RecordBatch};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{on_own_thread, partition_of, replayed, require_partition, unpacking};
use crate::answer::JsonBody;
use crate::dto::collect::{Collected, Collector, Placement, Rules, accepted_timestamps, problem, too_large};
use crate::dto::envelope::{ProduceRequest, Strictness, read_envelope};
use crate::dto::offsets::within;
use crate::dto::problems::ProduceProblems;
use crate::dto::produced::{self, BatchesResponse, ProduceResponse, durability};
use crate::dto::raw::{self, RawRecord};
use crate::error::ApiError;
use crate::extract::{Handling, IgnoredFields, PartitionPath, Query, TopicPath, content_type, read_body, require_json};
use crate::retry::{IDEMPOTENCY_KEY, KeyHeader, Place, ProducerHeaders, Recognised, Told};
use crate::state::ApiState;

/// The media type of stored batches.
pub(crate) const BATCHES: &str = "application/vnd.tidegate.batches";
/// What is read on the spot; a larger body has a thread of its own, since reading it takes longer than others should wait.
const INLINE_BYTES: usize = 256 << 10;
/// How long a produce waits for its acknowledgement, unless it says.
const TIMEOUT_MS_DEFAULT: u64 = 30_000;

pub(crate) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(produce_records))
        .routes(routes!(produce_to_partition))
        .routes(routes!(produce_raw))
        .routes(routes!(produce_batches))
}

/// When a produce is answered, and how long that may take.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct ProduceQuery {
    /// What to wait for: `all` (if left out) for the durability that the topic promises, `leader` for its leader's write, `none` for nothing.
    #[param(inline, nullable = false)]
    pub(crate) acks: Option<AcksName>,
    /// How long to wait for it, in ms.
    #[param(nullable = false, minimum = 1, maximum = 120_000, default = 30_000)]
    pub(crate) timeout_ms: Option<u64>,
}

/// When and where a single record is written.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct ProduceRawQuery {
    /// The partition; left out: by the key.
    #[param(nullable = false)]
    partition: Option<u32>,
    /// What to wait for: `all` (if left out) for the durability that the topic promises, `leader` for its leader's write, `none` for nothing.
    #[param(inline, nullable = false)]
    acks: Option<AcksName>,
    /// How long to wait for it, in ms.
    #[param(nullable = false, minimum = 1, maximum = 120_000, default = 30_000)]
    timeout_ms: Option<u64>,
}

/// When and as whose stored batches are written.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(crate) struct ProduceBatchesQuery {
    /// What to wait for: `all` (if left out) for the durability that the topic promises, `leader` for its leader's write, `none` for nothing.
    #[param(inline, nullable = false)]
    acks: Option<AcksName>,
    /// How long to wait for it, in ms.
    #[param(nullable = false, minimum = 1, maximum = 120_000, default = 30_000)]
    timeout_ms: Option<u64>,
    /// What becomes of the producer ids in the batches: `keep` (if left out), for a producer that numbers its batches; `drop`, for copies of what
    /// was written elsewhere.
    #[param(inline, nullable = false)]
    producers: Option<Producers>,
}

/// What becomes of producer ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Producers {
    /// They say who sends the batch.
    #[default]
    Keep,
    /// They say who has once sent it: it is written without.
    Drop,
}

/// What a produce waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AcksName {
    /// The durability that the topic promises.
    #[default]
    All,
    /// The leader's write.
    Leader,
    /// Nothing.
    None,
}

/// Any bytes.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(crate) struct RawBytes(#[expect(dead_code, reason = "it is a schema")] Vec<u8>);

/// What is waited for, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) acks: Acks,
    pub(crate) timeout: Duration,
}

impl Waiting {
    /// From the query.
    ///
    /// # Errors
    /// 422 `validation-failed` if the timeout is out of range.
    pub(crate) fn new(acks: Option<AcksName>, timeout_ms: Option<u64>, limits: &Limits) -> Result<Self, ApiError> {
        let timeout_ms = timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT.min(limits.produce_timeout_ms));
        within("?timeout_ms", timeout_ms, 1, limits.produce_timeout_ms)?;
        let acks = match acks.unwrap_or_default() {
            AcksName::All => Acks::All,
            AcksName::Leader => Acks::Leader,
            AcksName::None => Acks::None,
        };
        Ok(Self { acks, timeout: Duration::from_millis(timeout_ms) })
    }

    /// 200, or 202 if nothing was waited for.
    pub(crate) fn status(self) -> StatusCode {
        if self.acks == Acks::None { StatusCode::ACCEPTED } else { StatusCode::OK }
    }
}

/// Produce records
///
/// Writes all records or none. Where the records of one request go is decided by each record's `partition`, else by its key; records
/// without either stay together. A call with an `Idempotency-Key` may be repeated and is written once; one without is written again.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/records", operation_id = "produceRecords", tag = "records",
    params(TopicPath, ProduceQuery, KeyHeader),
    request_body(content = ProduceRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "All records are written, as safely as `durability` says", body = ProduceResponse),
        (status = 202, description = "With `acks=none`: all records will be written, unless something fails", body = ProduceResponse),
        ProduceProblems
    )
)]
async fn produce_records(
    State(state): State<ApiState>,
    path: TopicPath,
    Query(query): Query<ProduceQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let topic = state.broker()?.topic(path.topic.as_str())?;
    produce_json(&state, topic, None, &query, request).await
}

/// Produce records to a partition
///
/// As `produceRecords`, with the partition in the path. A producer that numbers its records (`Producer-Id`, `Producer-Epoch`, `Producer-Seq`)
/// may repeat a call too, and keeps their order with several calls under way: up to four that come too early wait a second for those before them.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/partitions/{partition}/records", operation_id = "produceToPartition", tag = "records",
    params(PartitionPath, ProduceQuery, KeyHeader, ProducerHeaders),
    request_body(content = ProduceRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "All records are written, as safely as `durability` says", body = ProduceResponse),
        (status = 202, description = "With `acks=none`: all records will be written, unless something fails", body = ProduceResponse),
        ProduceProblems
    )
)]
async fn produce_to_partition(
    State(state): State<ApiState>,
    path: PartitionPath,
    Query(query): Query<ProduceQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let topic = partition_of(state.broker()?, path.topic.as_str(), path.partition)?;
    produce_json(&state, topic, Some(path.partition), &query, request).await
}

async fn produce_json(
    state: &ApiState,
    topic: Arc<Topic>,
    partition: Option<PartitionIndex>,
    query: &ProduceQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let waiting = Waiting::new(query.acks, query.timeout_ms, state.limits())?;
    let (parts, body) = request.into_parts();
    let place = if partition.is_some() { Place::Partition } else { Place::Topic };
    let recognised = Recognised::read(&parts.headers, place, waiting.acks)?;
    require_json(&parts.headers)?;
    let handling = Handling::of(&parts.headers);
    let (body, _permit) = read_body(state, &parts.headers, body).await?;
    let (collected, stamp, ignored) = if body.len() <= INLINE_BYTES {
        collect(state, &topic, partition, &body, handling, &recognised)?
    } else {
        let (state, topic, recognised) = (state.clone(), Arc::clone(&topic), recognised.clone());
        on_own_thread(move || collect(&state, &topic, partition, &body, handling, &recognised)).await?
    };
    let answer = write_records(state, &topic, collected, stamp, waiting).await.map_err(|error| recognised.advise(error))?;
    Ok((ignored, answer).into_response())
}

/// Reads and checks an envelope.
fn collect(
    state: &ApiState,
    topic: &Topic,
    partition: Option<PartitionIndex>,
    body: &[u8],
    handling: Handling,
    recognised: &Recognised,
) -> Result<(Collected, Option<ProducerStamp>, IgnoredFields), ApiError> {
    let broker = state.broker()?;
    let text = utf8(body)?;
    let stamp = recognised.stamp(broker, topic, 0, &[body])?;
    let limits = state.limits();
    let rules = Rules { topic, partition, limits, now: broker.now(), body_bytes: body.len(), is_alone: false };
    let mut collector = Collector::new(rules, |key: Option<&[u8]>| route(broker, topic, stamp, key));
    let mut strictness = Strictness::new(handling);
    read_envelope(text, limits.json_depth, &mut strictness, |index, draft| collector.push(index, draft))
        .map_err(|error| problem(error, text, &rules))?;
    Ok((collector.finish()?, stamp, strictness.into_ignored()))
}

/// JSON is UTF-8.
pub(crate) fn utf8(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body).map_err(|error| ApiError::malformed_body(format!("it is no UTF-8 from byte {} on", error.valid_up_to())))
}

/// The partition of a record with this key. What comes again goes where it went the first time.
pub(crate) fn route(broker: &Broker, topic: &Topic, stamp: Option<ProducerStamp>, key: Option<&[u8]>) -> PartitionIndex {
    match (key, stamp) {
        (None, Some(stamp)) => broker.partition_of_stamp(topic, stamp),
        _ => broker.partition_for(topic, key),
    }
}

/// Writes what was collected and says where it went.
async fn write_records(
    state: &ApiState,
    topic: &Arc<Topic>,
    collected: Collected,
    stamp: Option<ProducerStamp>,
    waiting: Waiting,
) -> Result<Response, ApiError> {
    let Collected { parts, placements } = collected;
    let payload = |set| Payload::Records { set, producer: stamp };
    let parts = parts.into_iter().map(|(partition, set)| (partition, payload(set))).collect();
    let written = write(state.broker()?, topic, parts, waiting).await.map_err(|error| refused(error, &placements))?;
    let mut told = Told::numbered(stamp, placements.len());
    let body = match written {
        None => produced::body(&[], &[], durability(waiting.acks, [])),
        Some(outcomes) => {
            let parts = replayed::parts(state, topic, all_appended(&placements, outcomes)?).await;
            parts.iter().for_each(|part| told.note(&part.appended));
            let durability = durability(waiting.acks, parts.iter().map(|part| &part.appended));
            produced::body(&placements, &parts, durability)
        }
    };
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((waiting.status(), told.into_headers(), json, body).into_response())
}

/// What became of each part.
pub(crate) type Outcomes = Vec<(PartitionIndex, Result<Appended, Error>)>;

/// Where each part went, if all of them were written.
pub(crate) fn all_appended(placements: &[Placement], outcomes: Outcomes) -> Result<Vec<(PartitionIndex, Appended)>, ApiError> {
    if outcomes.iter().any(|(_, outcome)| outcome.is_err()) {
        return Err(produced::failure(placements, &outcomes));
    }
    Ok(outcomes.into_iter().filter_map(|(partition, outcome)| Some((partition, outcome.ok()?))).collect())
}

/// Hands all parts to the broker and waits for what they asked for; `None` if that is nothing.
///
/// # Errors
/// Nothing was written: the broker admits all parts or none. What goes wrong later is in the outcomes.
pub(crate) async fn write(
    broker: &Broker,
    topic: &Topic,
    parts: Vec<(PartitionIndex, Payload)>,
    waiting: Waiting,
) -> Result<Option<Outcomes>, Error> {
    let deadline = Instant::now() + waiting.timeout;
    let partitions: Vec<PartitionIndex> = parts.iter().map(|(partition, _)| *partition).collect();
    let tickets = broker.produce(topic, parts, waiting.acks)?;
    if waiting.acks == Acks::None {
        tickets.into_iter().for_each(tidegate_cluster::Ticket::detach);
        return Ok(None);
    }
    // They run side by side whatever the order they are waited for in, and share the deadline.
    let mut outcomes = Vec::with_capacity(partitions.len());
    for (partition, ticket) in partitions.into_iter().zip(tickets) {
        outcomes.push((partition, ticket.wait(deadline.saturating_duration_since(Instant::now())).await));
    }
    Ok(Some(outcomes))
}

/// What the broker refused, told in the places of the request.
pub(crate) fn refused(error: Error, placements: &[Placement]) -> ApiError {
    match error {
        Error::RecordRejected { part, index, reason } => {
            let index = Collected::request_index(placements, part, index);
            Error::RecordRejected { part, index, reason }.into()
        }
        Error::RecordTooLarge { part, actual, limit } => {
            let records = placements.iter().filter(|placement| placement.part == part).count();
            // One record is to blame by itself; of many none is, and they may be sent in several requests.
            let index = (records == 1).then(|| Collected::request_index(placements, part, 0));
            too_large(index, actual, limit)
        }
        other => other.into(),
    }
}

/// Produce one record as it is
///
/// The body is the record's value, whatever it is. Its key, timestamp and headers come in the headers `Record-Key` or
/// `Record-Key-Base64`, `Record-Timestamp`, and `Record-Header-<name>`; its content type is kept.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/raw", operation_id = "produceRaw", tag = "records",
    params(
        TopicPath, ProduceRawQuery, KeyHeader,
        ("Record-Key" = Option<String>, Header, description = "The key, in visible ASCII", nullable = false),
        ("Record-Key-Base64" = Option<String>, Header, description = "The key, as base64", nullable = false),
        ("Record-Timestamp" = Option<i64>, Header, description = "Milliseconds since 1970-01-01 UTC", nullable = false, minimum = 0,
            maximum = 9_007_199_254_740_991_i64),
        ("Record-Partition" = Option<u32>, Header, description = "The partition", nullable = false),
    ),
    request_body(content = RawBytes, content_type = "application/octet-stream", description = "The value"),
    responses(
        (status = 200, description = "The record is written, as safely as `durability` says", body = ProduceResponse),
        (status = 202, description = "With `acks=none`: the record will be written, unless something fails", body = ProduceResponse),
        ProduceProblems
    )
)]
async fn produce_raw(
    State(state): State<ApiState>,
    path: TopicPath,
    Query(query): Query<ProduceRawQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let limits = state.limits();
    let waiting = Waiting::new(query.acks, query.timeout_ms, limits)?;
    let (parts, body) = request.into_parts();
    let recognised = Recognised::read(&parts.headers, Place::Topic, waiting.acks)?;
    let record = RawRecord::read(&parts.headers, query.partition)?;
    let broker = state.broker()?;
    let topic = broker.topic(path.topic.as_str())?;
    if let Some(partition) = record.partition {
        require_partition(&topic, PartitionIndex::new(partition))?;
    }
    let (value, _permit) = read_body(&state, &parts.headers, body).await?;
    let least = BATCH_HEADER_BYTES + value.len();
    if least > topic.config.batch_bytes_max {
        return Err(too_large(None, least, topic.config.batch_bytes_max)); // Before it is looked at: that takes its time.
    }
    let encoding = if value.len() <= INLINE_BYTES {
        raw::encoding(&parts.headers, &value, limits.json_depth)?
    } else {
        let (headers, value, json_depth) = (parts.headers.clone(), value.clone(), limits.json_depth);
        on_own_thread(move || raw::encoding(&headers, &value, json_depth)).await?
    };
    let rules = Rules { topic: &topic, partition: None, limits, now: broker.now(), body_bytes: value.len(), is_alone: true };
    let stamp = recognised.stamp(broker, &topic, 0, &record.fields(&value).iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
    let mut collector = Collector::new(rules, |key: Option<&[u8]>| route(broker, &topic, stamp, key));
    collector.push_only(record.plain(encoding, &value)).map_err(|error| problem(error, "", &rules))?;
    write_records(&state, &topic, collector.finish()?, stamp, waiting).await.map_err(|error| recognised.advise(error))
}

/// Produce stored batches
///
/// Record batches of version 2, back to back, as `fetchBatches` gives them. Each is walked to its last byte before anything is written;
/// then all are, or none, with new offsets. A batch with a producer id (`initProducer`), an epoch and a base sequence in its header comes alone, and
/// may be sent again: the partition writes it once. Batches that were fetched are copied with `producers=drop`.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/partitions/{partition}/batches", operation_id = "produceBatches", tag = "records",
    params(PartitionPath, ProduceBatchesQuery, KeyHeader),
    request_body(content = RawBytes, content_type = "application/vnd.tidegate.batches", description = "The batches"),
    responses(
        (status = 200, description = "All batches are written, as safely as `durability` says", body = BatchesResponse),
        (status = 202, description = "With `acks=none`: all batches will be written, unless something fails", body = BatchesResponse),
        ProduceProblems
    )
)]
async fn produce_batches(
    State(state): State<ApiState>,
    path: PartitionPath,
    Query(query): Query<ProduceBatchesQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let waiting = Waiting::new(query.acks, query.timeout_ms, state.limits())?;
    let topic = partition_of(state.broker()?, path.topic.as_str(), path.partition)?;
    let (parts, body) = request.into_parts();
    let recognised = Recognised::read(&parts.headers, Place::Batches, waiting.acks)?;
    if content_type(&parts.headers)?.as_deref() != Some(BATCHES) {
        return Err(ApiError::new(ErrorCode::UnsupportedMediaType, format!("this path takes {BATCHES}")).with("supported", vec![BATCHES]));
    }
    let (body, _permit) = read_body(&state, &parts.headers, body).await?;
    let walked = {
        let (walking, topic, recognised) = (state.clone(), Arc::clone(&topic), recognised.clone());
        let producers = query.producers.unwrap_or_default();
        let walk = move |body: &Bytes| stamped(&walking, &topic, walk_batches(&walking, &topic, body, producers)?, &recognised, body);
        if is_packed(&body) {
            unpacking(&state, move || walk(&body)).await?
        } else if body.len() <= INLINE_BYTES {
            walk(&body)?
        } else {
            on_own_thread(move || walk(&body)).await?
        }
    };
    let stamp = walked.first().and_then(RecordBatch::producer);
    if stamp.is_some() && waiting.acks == Acks::None {
        return Err(ApiError::malformed_parameter("acks", "with 'none' nobody learns whether a numbered batch is to be sent again"));
    }
    let mut told = Told::numbered(stamp, walked.iter().map(RecordBatch::record_count).sum::<u64>().try_into().unwrap_or(usize::MAX));
    let advise = |error: Error| match stamp {
        Some(stamp) if !stamp.is_keyed() => ApiError::from(error).advised_by_number(),
        _ => recognised.advise(error.into()),
    };
    let outcomes = write(state.broker()?, &topic, vec![(path.partition, Payload::Batches(walked))], waiting).await.map_err(advise)?;
    let appended = match outcomes.and_then(|mut outcomes| outcomes.pop()) {
        Some((_, outcome)) => Some(outcome.map_err(advise)?),
        None => None,
    };
    appended.iter().for_each(|appended| told.note(appended));
    let known = appended.filter(|appended| appended.origin != Origin::Forgotten);
    let answer = BatchesResponse {
        base_offset: known.map(|appended| appended.base_offset.get()),
        last_offset: known.map(|appended| appended.last_offset.get()),
        durability: durability(waiting.acks, &appended),
    };
    Ok((waiting.status(), told.into_headers(), JsonBody(answer)).into_response())
}

/// Batches that come under a key carry it; numbered ones have their own.
fn stamped(
    state: &ApiState,
    topic: &Topic,
    batches: Vec<RecordBatch>,
    recognised: &Recognised,
    body: &Bytes,
) -> Result<Vec<RecordBatch>, ApiError> {
    let Some(stamp) = recognised.stamp(state.broker()?, topic, 0, &[body])? else { return Ok(batches) };
    let mut stamped = Vec::with_capacity(batches.len());
    for (chunk, batch) in (0_u64..).zip(batches) {
        if batch.producer().is_some() {
            return Err(ApiError::malformed_header(
                IDEMPOTENCY_KEY.as_str(),
                "the batch has a producer id, which says the same: drop it, or the key",
            ));
        }
        stamped.push(batch.with_producer(recognised.chunk(state.broker()?, topic, chunk, stamp)?));
    }
    Ok(stamped)
}

/// Whether a batch in `body` has to be unpacked, which can take long however small it is.
pub(crate) fn is_packed(body: &Bytes) -> bool {
    tidegate_types::StoredBatches::new(body.clone()).flatten().any(|batch| batch.header.codec() != tidegate_types::Codec::None)
}

/// Walks all batches of a body (D16).
fn walk_batches(state: &ApiState, topic: &Topic, body: &Bytes, producers: Producers) -> Result<Vec<RecordBatch>, ApiError> {
    let limits = state.limits();
    let rules = BatchRules {
        limits,
        max_batch_bytes: topic.config.batch_bytes_max,
        key_required: topic.config.cleanup_policy.compact,
        timestamps: accepted_timestamps(&topic.config, state.broker()?.now()),
        drops_producer: producers == Producers::Drop,
    };
    let mut rest = body.clone();
    let (mut batches, mut unpacked) = (Vec::new(), 0_usize);
    while !rest.is_empty() {
        if batches.len() >= limits.records_per_request {
            let detail = format!("a request has at most {} batches", limits.records_per_request);
            return Err(ApiError::invalid("", "too-many", detail).with("limit", limits.records_per_request));
        }
        let stored = StoredBatch::parse(&rest).map_err(|error| refused_batch(error, batches.len()))?;
        rest = rest.slice(stored.bytes().len()..);
        let check = |record: &Record<'_>| {
            unpacked += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + record.headers.encoded_len();
            check_encoding(record, limits.json_depth)
        };
        let batch = RecordBatch::validate(&stored, &rules, check).map_err(|error| refused_batch(error, batches.len()))?;
        batches.push(batch);
        if unpacked > limits.body_bytes {
            // As any other body, however it was packed.
            let detail = format!("the batches unpack to more than {} bytes", limits.body_bytes);
            return Err(ApiError::new(ErrorCode::BodyTooLarge, detail).with("limit", limits.body_bytes));
        }
    }
    if batches.is_empty() {
        return Err(ApiError::new(ErrorCode::CorruptBatch, "at least one batch is needed"));
    }
    Ok(batches)
}

/// What is marked as JSON must be JSON.
fn check_encoding(record: &Record<'_>, json_depth: usize) -> Result<(), &'static str> {
    match (record.encoding, record.value) {
        (Encoding::Json, Some(value)) => raw::check_json(value, json_depth),
        _ => Ok(()),
    }
}

fn refused_batch(error: BatchError, batch: usize) -> ApiError {
    ApiError::from(Error::Batch(error)).with("batch", batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a produce waits for what it asked for, within the bounds, and says by its status if that was nothing.
    #[test]
    fn waiting_is_bounded() {
        let limits = Limits::default();
        let waiting = Waiting::new(None, None, &limits).unwrap();
        assert_eq!((waiting.acks, waiting.timeout, waiting.status()), (Acks::All, Duration::from_secs(30), StatusCode::OK));
        let none = Waiting::new(Some(AcksName::None), Some(1), &limits).unwrap();
        assert_eq!((none.acks, none.status()), (Acks::None, StatusCode::ACCEPTED));
        for out_of_range in [0, limits.produce_timeout_ms + 1] {
            let error = Waiting::new(None, Some(out_of_range), &limits).unwrap_err();
            assert_eq!(error.code(), ErrorCode::ValidationFailed);
        }
        let short = Limits { produce_timeout_ms: 5, ..limits };
        assert_eq!(Waiting::new(None, None, &short).unwrap().timeout, Duration::from_millis(5));
    }

    /// A promise: what the broker refuses is told in the places of the request.
    #[test]
    fn refusals_are_told_in_the_requests_places() {
        let placements = [0, 1, 0, 1, 1].map(|part| Placement { part, timestamp: 0 });
        let error = refused(Error::RecordRejected { part: 1, index: 2, reason: "x" }, &placements);
        assert_eq!(error.extras()["errors"][0]["index"], 4);
        let many = refused(Error::RecordTooLarge { part: 0, actual: 9, limit: 8 }, &placements);
        assert_eq!((many.extras().get("index"), &many.extras()["limit"]), (None, &8.into()));
        let one = refused(Error::RecordTooLarge { part: 0, actual: 9, limit: 8 }, &placements[..2]);
        assert_eq!(one.extras()["index"], 0);
    }
}
