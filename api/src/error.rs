//! Problems (RFC 9457): what every answer is that is neither 2xx nor 3xx. The one table from [`ErrorCode`] to status is here.
//!
//! A handler returns an [`ApiError`]; its body is written by the middleware, which alone knows the request's id and path.

use std::fmt::Display;

use axum::http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tidegate_cluster::error::{Difference, RangeReason, Violation};
use tidegate_types::{BatchError, ErrorCode, SideEffects, topic_config};

use crate::retry::{PRODUCER_EPOCH, PRODUCER_EXPECTED_SEQ, PRODUCER_RECEIVED_SEQ};

/// What `type` begins with; the code follows.
const TYPE_PREFIX: &str = "https://tidegate.dev/problems/";

/// A call that was not answered as asked.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Problem>);

#[derive(Debug, Clone)]
struct Problem {
    code: ErrorCode,
    detail: String,
    extras: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What the request may have done beyond what the code says.
    side_effects: SideEffects,
    /// What is for the log, not for the client: paths, and the system's own words.
    inner: Option<String>,
}

impl ApiError {
    /// A problem; `detail` is a sentence about this occurrence, which never repeats what the client sent at length.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let (extras, headers, side_effects) = (Map::new(), Vec::new(), code.side_effects());
        Self(Box::new(Problem { code, detail: detail.into(), extras, headers, side_effects, inner: None }))
    }

    /// A fault of the node's own. The client learns what kind it is; `inner` says the rest in the log, beside the request's id.
    pub(crate) fn fault(code: ErrorCode, inner: impl Display) -> Self {
        Self::new(code, code.description()).logging(inner)
    }

    /// 400 `malformed-body`.
    pub fn malformed_body(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::MalformedBody, detail)
    }

    /// 400 `malformed-header`, naming it.
    pub fn malformed_header(name: &str, detail: impl Display) -> Self {
        Self::new(ErrorCode::MalformedHeader, format!("header '{name}': {detail}")).with("header", name)
    }

    /// 400 `malformed-parameter`, naming it.
    pub fn malformed_parameter(name: &str, detail: impl Display) -> Self {
        Self::new(ErrorCode::MalformedParameter, format!("query parameter '{name}': {detail}")).with("parameter", name)
    }

    /// 422 `validation-failed` with one broken rule.
    pub fn invalid(pointer: impl Into<String>, rule: &'static str, detail: impl Into<String>) -> Self {
        Self::violations(&[Violation { pointer: pointer.into(), code: rule, detail: detail.into() }])
    }

    /// 422 `validation-failed` with all broken rules.
    pub fn violations(violations: &[Violation]) -> Self {
        let detail = violations.first().map_or("the request breaks a rule", |v| v.detail.as_str());
        let errors: Vec<Value> = violations.iter().map(|v| json!({"pointer": v.pointer, "code": v.code, "detail": v.detail})).collect();
        Self::new(ErrorCode::ValidationFailed, detail).with("errors", errors)
    }

    /// 404 `topic-not-found`.
    pub fn topic_not_found(name: &str) -> Self {
        Self::new(ErrorCode::TopicNotFound, "there is no such topic").with("topic", name)
    }

    /// Adds a field to the problem object. The fields that every problem has cannot be replaced.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.extras.insert(field.to_owned(), value.into());
        self
    }

    /// Adds a field if there is a value for it.
    #[must_use]
    pub fn with_some(self, field: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(field, value),
            None => self,
        }
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Closes the connection after the answer: what is left of the request will not be read.
    #[must_use]
    pub fn closing(self) -> Self {
        self.header(CONNECTION, HeaderValue::from_static("close"))
    }

    /// Says that the request has done something, or may have, although its code alone would not.
    #[must_use]
    pub fn after_effects(mut self) -> Self {
        self.0.side_effects = SideEffects::Possible;
        self
    }

    /// Adds to the sentence about this occurrence.
    #[must_use]
    pub(crate) fn adding(mut self, words: &str) -> Self {
        self.0.detail.push_str(words);
        self
    }

    /// What the request may have done.
    pub(crate) fn side_effects(&self) -> SideEffects {
        self.0.side_effects
    }

    /// Says `inner` in the log when this is answered.
    pub(crate) fn logging(mut self, inner: impl Display) -> Self {
        self.0.inner = Some(inner.to_string());
        self
    }

    /// What the log shall say of it, if anything.
    pub(crate) fn inner(&self) -> Option<&str> {
        self.0.inner.as_deref()
    }

    /// What went wrong.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// The sentence about this occurrence.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The extra fields.
    pub fn extras(&self) -> &Map<String, Value> {
        &self.0.extras
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        status_of(self.code())
    }

    /// The problem object as bytes of JSON.
    pub fn to_json(&self, request_id: &str, instance: &str) -> Vec<u8> {
        let code = self.0.code;
        let object = Object {
            kind: format!("{TYPE_PREFIX}{code}"),
            title: code.title(),
            status: self.status().as_u16(),
            detail: &self.0.detail,
            instance,
            code: code.as_str(),
            request_id,
            retryable: code.is_retryable(),
            side_effects: self.0.side_effects.as_str(),
            extras: self.0.extras.iter().filter(|(name, _)| !COMMON_FIELDS.contains(&name.as_str())).collect(),
        };
        serde_json::to_vec(&object).unwrap_or_default() // It holds nothing that can fail: strings, numbers and JSON values.
    }
}

const COMMON_FIELDS: &[&str] = &["type", "title", "status", "detail", "instance", "code", "request_id", "retryable", "side_effects"];

#[derive(Serialize)]
struct Object<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    code: &'static str,
    request_id: &'a str,
    retryable: bool,
    side_effects: &'static str,
    #[serde(flatten)]
    extras: std::collections::BTreeMap<&'a String, &'a Value>,
}

/// Which status a code is answered with (D28).
///
/// 503 says that nothing was done, but for `partial-write` and `storage-failed`; 504 says that nobody knows, which is why a metadata
/// quorum that did not answer is one: its change may still come about.
pub const fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::MalformedBody
        | ErrorCode::MalformedHeader
        | ErrorCode::MalformedParameter
        | ErrorCode::ProducerHeadersNeedPartition
        | ErrorCode::UnknownField
        | ErrorCode::UnknownParameter => StatusCode::BAD_REQUEST,
        ErrorCode::OriginNotAllowed | ErrorCode::HostNotAllowed => StatusCode::FORBIDDEN,
        ErrorCode::RouteNotFound
        | ErrorCode::TopicNotFound
        | ErrorCode::PartitionNotFound
        | ErrorCode::RecordNotFound
        | ErrorCode::NodeNotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        ErrorCode::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::TopicAlreadyExists | ErrorCode::TopicDiffers | ErrorCode::SequenceGap | ErrorCode::ProducerFenced => {
            StatusCode::CONFLICT
        }
        ErrorCode::BodyTooLarge | ErrorCode::RecordTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UriTooLong => StatusCode::URI_TOO_LONG,
        ErrorCode::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ErrorCode::UnsupportedMediaType | ErrorCode::UnsupportedContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::OffsetOutOfRange => StatusCode::RANGE_NOT_SATISFIABLE,
        ErrorCode::NotLeader => StatusCode::MISDIRECTED_REQUEST,
        ErrorCode::RecordRejected
        | ErrorCode::ValidationFailed
        | ErrorCode::CorruptBatch
        | ErrorCode::UnknownConfig
        | ErrorCode::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::Internal | ErrorCode::CorruptLog => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Starting
        | ErrorCode::Draining
        | ErrorCode::Overloaded
        | ErrorCode::LeaderUnavailable
        | ErrorCode::StorageFailed
        | ErrorCode::TooManyOpenFiles
        | ErrorCode::PartialWrite => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::MetadataUnavailable | ErrorCode::WriteTimeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
    }
}

impl From<tidegate_cluster::Error> for ApiError {
    fn from(error: tidegate_cluster::Error) -> Self {
        use tidegate_cluster::Error;
        let problem = Self::new(error.code(), error.to_string());
        match error {
            Error::TopicNotFound(topic) => Self::topic_not_found(&topic),
            Error::TopicExists(topic) => problem.with("topic", topic.as_str()),
            Error::PartitionNotFound { topic, partition, partitions } => {
                problem.with("topic", topic.as_str()).with("partition", partition.get()).with("partition_count", partitions)
            }
            Error::TopicDiffers { topic, differences } => {
                problem.with("topic", topic.as_str()).with("differences", differences_json(&differences))
            }
            Error::Invalid(violations) => Self::violations(&violations),
            Error::UnknownConfig(name) => {
                let known = topic_config::DEFINITIONS.iter().map(|d| d.name);
                problem.with_some("did_you_mean", nearest(&name, known)).with("config", name)
            }
            Error::OffsetOutOfRange { requested, earliest, latest, reason } => problem
                .with("requested_offset", requested)
                .with("earliest_offset", earliest.get())
                .with("latest_offset", latest.get())
                .with("reason", reason_name(reason)),
            Error::RecordRejected { index, reason, .. } => problem.with("errors", vec![record_error(index, reason)]),
            Error::RecordTooLarge { actual, limit, .. } => problem.with("actual", actual).with("limit", limit),
            Error::Batch(error) => batch_extras(problem, &error),
            Error::Overloaded { .. } | Error::LeaderUnavailable | Error::Draining | Error::WriteTimeout | Error::Quorum(_) => problem,
            Error::KeyReused => problem,
            Error::SequenceGap { expected, received } => problem
                .with("expected_seq", expected)
                .with("received_seq", received)
                .header(PRODUCER_EXPECTED_SEQ, HeaderValue::from(expected))
                .header(PRODUCER_RECEIVED_SEQ, HeaderValue::from(received)),
            Error::ProducerFenced { current } => problem.with("current_epoch", current).header(PRODUCER_EPOCH, HeaderValue::from(current)),
            Error::NotLeader { leader } => problem.with("leader", leader.get()),
            // Paths and the system's own words are for whoever runs the node; the request id leads from the answer to the log.
            Error::Storage(_) | Error::Internal(_) => Self::fault(problem.code(), problem.detail()),
        }
    }
}

fn differences_json(differences: &[Difference]) -> Vec<Value> {
    differences.iter().map(|d| json!({"pointer": d.pointer, "wanted": d.wanted, "actual": d.actual})).collect()
}

fn reason_name(reason: RangeReason) -> &'static str {
    match reason {
        RangeReason::Trimmed => "trimmed",
        RangeReason::Future => "future",
    }
}

fn record_error(index: usize, detail: &str) -> Value {
    json!({"index": index, "pointer": format!("/records/{index}"), "code": "rule-broken", "detail": detail})
}

fn batch_extras(problem: ApiError, error: &BatchError) -> ApiError {
    match error {
        BatchError::TooLarge { actual, limit } => problem.with("actual", *actual).with("limit", *limit),
        BatchError::Record { index, reason } | BatchError::Rule { index: Some(index), reason } => {
            problem.with("errors", vec![json!({"index": index, "code": "rule-broken", "detail": reason})])
        }
        BatchError::Rule { index: None, reason } => problem.with("errors", vec![json!({"code": "rule-broken", "detail": reason})]),
        BatchError::Truncated { .. }
        | BatchError::Magic(_)
        | BatchError::Length(_)
        | BatchError::Crc { .. }
        | BatchError::Header(_)
        | BatchError::Compression(_) => problem,
    }
}

/// The name among `known` that `wrong` was most likely meant to be, if any comes near.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names are short. Comparing costs the product of both lengths, so what cannot be near is not compared.
    const COMPARED_BYTES_MAX: usize = 64;
    if wrong.len() > COMPARED_BYTES_MAX {
        return None;
    }
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.code() == ErrorCode::UnsupportedContentEncoding {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd, br, deflate"));
        }
        for (name, value) in &self.0.headers {
            headers.append(name, value.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use tidegate_cluster::Error;
    use tidegate_types::{Offset, SideEffects};

    use super::*;

    /// A promise: 4xx means that nothing was done and the caller must change something first; what may have been done is 5xx.
    #[test]
    fn statuses_agree_with_what_codes_say() {
        for code in ErrorCode::ALL {
            let status = status_of(*code);
            assert!(status.is_client_error() || status.is_server_error(), "{code}");
            if status.is_client_error() {
                assert_eq!(code.side_effects(), SideEffects::None, "{code}");
                let later = matches!(code, ErrorCode::RequestTimeout | ErrorCode::NotLeader);
                assert_eq!(code.is_retryable(), later, "{code}");
            }
            if status == StatusCode::GATEWAY_TIMEOUT {
                assert_eq!(code.side_effects(), SideEffects::Possible, "{code}");
            }
        }
    }

    /// A promise: the statuses that clients were promised.
    #[test]
    fn the_table_is_the_published_one() {
        let numbers: Vec<(u16, &str)> = ErrorCode::ALL.iter().map(|code| (status_of(*code).as_u16(), code.as_str())).collect();
        for expected in [
            (400, "malformed-body"),
            (400, "unknown-parameter"),
            (403, "origin-not-allowed"),
            (404, "topic-not-found"),
            (409, "topic-differs"),
            (413, "record-too-large"),
            (415, "unsupported-content-encoding"),
            (416, "offset-out-of-range"),
            (421, "not-leader"),
            (422, "corrupt-batch"),
            (422, "validation-failed"),
            (503, "partial-write"),
            (504, "write-timeout"),
            (507, "storage-full"),
        ] {
            assert!(numbers.contains(&expected), "{expected:?}");
        }
    }

    /// A promise: a problem carries all that clients decide by, and extras never replace it.
    #[test]
    fn problems_are_complete() {
        let out_of_range = Error::OffsetOutOfRange {
            requested: 5,
            earliest: Offset::new(12).unwrap(),
            latest: Offset::new(60).unwrap(),
            reason: RangeReason::Trimmed,
        };
        let problem = ApiError::from(out_of_range).with("code", "other").with("status", 200);
        let json: Value = serde_json::from_slice(&problem.to_json("id-1", "/v1/x")).unwrap();
        let expected = json!({
            "type": "https://tidegate.dev/problems/offset-out-of-range", "title": "Offset out of range", "status": 416,
            "detail": "offset 5 is outside the log: it holds 12 up to 60", "instance": "/v1/x", "code": "offset-out-of-range",
            "request_id": "id-1", "retryable": false, "side_effects": "none",
            "requested_offset": 5, "earliest_offset": 12, "latest_offset": 60, "reason": "trimmed",
        });
        assert_eq!(json, expected);
    }

    /// A promise: what the system says of its files stays in the log.
    #[test]
    fn inner_words_stay_inside() {
        let problem = ApiError::from(Error::Internal("/secret/path".into()));
        assert!(!String::from_utf8(problem.to_json("", "")).unwrap().contains("secret"));
    }

    /// A promise: names that are near are suggested, others are not, and long ones cost nothing.
    #[test]
    fn near_names_are_suggested() {
        let known = ["retention.ms", "retention.bytes", "cleanup.policy"];
        assert_eq!(nearest("retention.mss", known), Some("retention.ms"));
        assert_eq!(nearest("cleanup-policy", known), Some("cleanup.policy"));
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest(&"retention.ms".repeat(1000), known), None);
    }
}
