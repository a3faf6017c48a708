//! What a request brings, read once and bounded: path, query, body.
//!
//! | from | by | wrong is |
//! |---|---|---|
//! | path | [`TopicPath`], [`PartitionPath`], [`RecordPath`], [`NodePath`], [`ProducerPath`] | 404 of its kind: a name that cannot be valid names nothing |
//! | query | [`Query`] | 400 `unknown-parameter`, `malformed-parameter` |
//! | body of JSON | [`Json`], or [`read_body`] and [`parse_json`] | 400 `malformed-body`, `unknown-field` |
//! | body of bytes | [`read_body`], [`BodyLines`] | 413, 408, 415 |

mod body;
mod decode;
mod json;
mod query;
mod strict;

use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_TYPE, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use tidegate_types::{ErrorCode, NodeId, PartitionIndex, TopicName};
use utoipa::IntoParams;

pub use body::{BodyLines, Lines, read_body};
pub(crate) use decode::Coding;
pub use json::{Handling, IgnoredFields, Json, parse_json, parse_json_as};
pub use query::Query;

use crate::error::ApiError;
use crate::retry::is_producer_name;

/// `{topic}` of the path.
#[derive(Debug, Clone, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct TopicPath {
    /// The topic's name.
    #[param(value_type = String, example = "flights")]
    pub topic: TopicName,
}

/// `{topic}` and `{partition}` of the path.
#[derive(Debug, Clone, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct PartitionPath {
    /// The topic's name.
    #[param(value_type = String, example = "flights")]
    pub topic: TopicName,
    /// The partition, counted from 0.
    #[param(value_type = u32, example = 0)]
    pub partition: PartitionIndex,
}

/// `{topic}`, `{partition}` and `{offset}` of the path.
#[derive(Debug, Clone, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct RecordPath {
    /// The topic's name.
    #[param(value_type = String, example = "flights")]
    pub topic: TopicName,
    /// The partition, counted from 0.
    #[param(value_type = u32, example = 0)]
    pub partition: PartitionIndex,
    /// The record's offset.
    #[param(maximum = 9007199254740991_i64, example = 17)]
    pub offset: u64,
}

/// `{node_id}` of the path.
#[derive(Debug, Clone, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct NodePath {
    /// The node's id.
    #[param(value_type = u32, example = 1)]
    pub node_id: NodeId,
}

/// `{name}` of a producer in the path.
#[derive(Debug, Clone, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct ProducerPath {
    /// The producer's name: 1 to 128 visible ASCII characters.
    #[param(min_length = 1, max_length = 128, pattern = "^[!-~]+$", example = "meter-7")]
    pub name: String,
}

impl<S: Send + Sync> FromRequestParts<S> for ProducerPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = path_params(parts, state).await?;
        let name = param(&params, "name");
        if !is_producer_name(name.as_bytes()) {
            return Err(ApiError::invalid("/name", "producer-name", "a producer's name is 1 to 128 visible ASCII characters"));
        }
        Ok(Self { name: name.to_owned() })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TopicPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = path_params(parts, state).await?;
        Ok(Self { topic: topic(&params)? })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PartitionPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = path_params(parts, state).await?;
        Ok(Self { topic: topic(&params)?, partition: partition(&params)? })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RecordPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = path_params(parts, state).await?;
        let (topic, partition) = (topic(&params)?, partition(&params)?);
        let offset =
            number(param(&params, "offset")).ok_or_else(|| ApiError::new(ErrorCode::RecordNotFound, "an offset is a number from 0"))?;
        Ok(Self { topic, partition, offset })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NodePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = path_params(parts, state).await?;
        let id = number(param(&params, "node_id")).ok_or_else(|| ApiError::new(ErrorCode::NodeNotFound, "a node's id is a number"))?;
        Ok(Self { node_id: NodeId::new(id) })
    }
}

/// The parameters of the path, decoded. What is no UTF-8 when decoded names nothing.
async fn path_params<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<RawPathParams, ApiError> {
    RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|rejection| ApiError::new(not_found(&rejection.body_text()), "the path does not decode to UTF-8"))
}

/// The code of what a path names with bytes that are no UTF-8. Which parameter it was is only in the words of the rejection.
fn not_found(rejection: &str) -> ErrorCode {
    match rejection.split('`').nth(1) {
        Some("topic") => ErrorCode::TopicNotFound,
        Some("partition") => ErrorCode::PartitionNotFound,
        Some("offset") => ErrorCode::RecordNotFound,
        Some("node_id") => ErrorCode::NodeNotFound,
        _ => ErrorCode::RouteNotFound,
    }
}

fn param<'a>(params: &'a RawPathParams, name: &str) -> &'a str {
    params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
}

fn topic(params: &RawPathParams) -> Result<TopicName, ApiError> {
    let name = param(params, "topic");
    TopicName::new(name).map_err(|why| ApiError::new(ErrorCode::TopicNotFound, format!("no topic can have that name: {why}")))
}

fn partition(params: &RawPathParams) -> Result<PartitionIndex, ApiError> {
    number(param(params, "partition"))
        .map(PartitionIndex::new)
        .ok_or_else(|| ApiError::new(ErrorCode::PartitionNotFound, "a partition is a number from 0").with("topic", param(params, "topic")))
}

/// A number as it is written in paths and queries: digits only, no sign, so that each number has one address.
fn number<N: FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// The media type of the body, lower-case and without parameters; `None` if there is none, or only the one that curl sends by itself.
pub fn content_type(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| ApiError::malformed_header("content-type", "only visible ASCII"))?;
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Ok(Some(essence).filter(|essence| !essence.is_empty() && essence != "application/x-www-form-urlencoded"))
}

/// Whether a media type is JSON: `application/json` or `*+json`.
pub fn is_json(essence: &str) -> bool {
    essence == "application/json" || (essence.contains('/') && essence.ends_with("+json"))
}

/// Requires the body to be JSON. No content type is taken as JSON, and so is the one that `curl -d` sends by itself.
///
/// # Errors
/// 415 `unsupported-media-type`.
pub fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    // The common case costs one comparison.
    if headers.get(CONTENT_TYPE).is_none_or(|value| value.as_bytes() == b"application/json") {
        return Ok(());
    }
    match content_type(headers)? {
        Some(essence) if !is_json(&essence) => {
            Err(ApiError::new(ErrorCode::UnsupportedMediaType, "this path takes application/json")
                .with("supported", vec!["application/json"]))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether `If-None-Match` names this tag. Tags are compared weakly: a compressed answer's tag is weak and names the same content.
pub fn etag_matches(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let Ok(own) = etag.to_str().map(strong) else {
        return false;
    };
    let named = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).any(|tag| tag.trim() == "*" || strong(tag) == own)
}

/// The coding that an answer is best given in, by `Accept-Encoding`: the client's order first, then zstd, br, gzip, deflate.
pub(crate) fn accepted_coding(headers: &HeaderMap) -> Option<Coding> {
    let mut best: Option<(u16, Coding)> = None;
    let items = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    for item in items {
        let mut parts = item.split(';').map(str::trim);
        let (Some(coding), quality) = (parts.next().and_then(Coding::from_name), parts.next().map_or(Some(1000), quality)) else {
            continue;
        };
        let candidate = (quality.unwrap_or(0), coding);
        if candidate.0 > 0 && best.is_none_or(|best| candidate > best) {
            best = Some(candidate);
        }
    }
    best.map(|(_, coding)| coding)
}

/// `q=0.5` in thousandths.
fn quality(text: &str) -> Option<u16> {
    let value = text.strip_prefix("q=").or_else(|| text.strip_prefix("Q="))?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let plain = fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok().filter(|_| plain)?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: axum::http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    /// A promise: an answer is coded only as the client can read it, and in what it likes best.
    #[test]
    fn the_best_accepted_coding_is_chosen() {
        for (header, expected) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("deflate, gzip", Some(Coding::Gzip)),
            ("gzip;q=1.0, zstd;q=0.5", Some(Coding::Gzip)),
            ("gzip;q=0", None),
            ("identity", None),
            ("gzip;q=2", None),
            ("*", None),
        ] {
            assert_eq!(accepted_coding(&with(ACCEPT_ENCODING, header)), expected, "{header}");
        }
    }

    /// A promise: a number in a path has one spelling.
    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!((number::<u32>("0"), number::<u32>("4294967295")), (Some(0), Some(u32::MAX)));
        for wrong in ["", "+1", "-1", "01", "1.0", "4294967296", "x", " 1"] {
            assert_eq!(number::<u32>(wrong), None, "{wrong}");
        }
    }

    /// A promise: curl's own content type is none, and JSON is asked for by name.
    #[test]
    fn json_is_required_unless_nothing_is_said() {
        for good in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON",
            "application/x-www-form-urlencoded",
            "application/problem+json",
        ] {
            assert!(require_json(&with(CONTENT_TYPE, good)).is_ok(), "{good}");
        }
        assert!(require_json(&HeaderMap::new()).is_ok());
        for bad in ["text/plain", "application/octet-stream", "json"] {
            assert_eq!(require_json(&with(CONTENT_TYPE, bad)).unwrap_err().code(), ErrorCode::UnsupportedMediaType, "{bad}");
        }
    }
}
