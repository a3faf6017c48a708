//! Pages of other sites (CORS): off unless origins are configured. Preflights are answered here, for every path alike.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const ALLOWED_HEADERS: &str = "authorization, content-type, content-encoding, idempotency-key, if-match, if-none-match, last-event-id, prefer, \
    producer-epoch, producer-id, producer-seq, record-key, record-key-base64, record-partition, record-timestamp, request-id, route, traceparent";
/// Headers that cannot be listed: their names are the client's (`Record-Header-Unit`).
const ALLOWED_PREFIX: &str = "record-header-";
const EXPOSED_HEADERS: &str = "next-offset, high-watermark, log-start-offset, caught-up, leader-epoch, etag, location, retry-after, ratelimit, \
    ratelimit-policy, producer-duplicate, producer-epoch, producer-expected-seq, producer-next-seq, producer-received-seq, \
    idempotency-replayed, idempotency-window, record-key, record-key-base64, record-timestamp, record-tombstone, preference-applied, \
    metadata-version, request-id";
const MAX_AGE_SECONDS: &str = "7200";

/// Which origins may call.
#[derive(Debug)]
pub(super) struct Cors {
    origins: Vec<String>,
    any: bool,
}

impl Cors {
    pub(super) fn new(origins: &[String]) -> Self {
        let origins: Vec<String> = origins.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect();
        Self { any: origins.iter().any(|origin| origin == "*"), origins }
    }

    pub(super) fn is_on(&self) -> bool {
        !self.origins.is_empty()
    }

    /// The request's origin, if it is configured.
    pub(super) fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if !self.is_on() {
            return None;
        }
        let origin = headers.get(ORIGIN)?;
        let text = origin.to_str().ok()?;
        let allowed = self.any || self.origins.iter().any(|known| known.eq_ignore_ascii_case(text));
        allowed.then(|| origin.clone())
    }

    /// The answer to a preflight of an origin that may call; `None` to everything else.
    pub(super) fn preflight(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        if request.method() != Method::OPTIONS || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        self.allowed_origin(headers)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(headers));
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECONDS));
        answer.insert(VARY, HeaderValue::from_static("access-control-request-method, access-control-request-headers"));
        if headers.contains_key(REQUEST_PRIVATE_NETWORK) {
            answer.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
        Some(response)
    }
}

/// The headers that may be sent: the listed ones, and the record headers that this request asks for.
fn allowed_headers(headers: &HeaderMap) -> HeaderValue {
    let fixed = HeaderValue::from_static(ALLOWED_HEADERS);
    let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok()) else {
        return fixed;
    };
    let mut all = ALLOWED_HEADERS.to_owned();
    for name in asked.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| name.starts_with(ALLOWED_PREFIX)) {
        all.push_str(", ");
        all.push_str(&name);
    }
    HeaderValue::try_from(all).unwrap_or(fixed)
}

/// Lets a page of `origin` read the answer.
pub(super) fn let_read(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
}
