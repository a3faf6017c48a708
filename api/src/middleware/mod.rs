//! What holds for every request and every answer, in one piece: a request passes one door, not ten layers.
//!
//! ```text
//!   request ─ id ─ head too large? ─ host ─ origin ─ preflight? ─ handler
//!   answer  ─ problem written ─ ignored fields ─ compressed ─ headers ─ counted, logged
//! ```

mod access;
mod compress;
mod cors;
mod observe;
mod request_id;
mod unread;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tidegate_types::ErrorCode;
use tower::{Layer, Service};
use tracing::Instrument;

use self::access::Access;
use self::cors::Cors;
use self::observe::{Observed, Observer};
use self::request_id::RequestIds;
use self::unread::Unread;
use crate::error::ApiError;
use crate::extract::{Coding, IgnoredFields, accepted_coding};
use crate::openapi::PROBLEM_JSON;
use crate::state::ApiState;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// The longest URI that is taken; what clients and proxies agree on.
const URI_BYTES_MAX: usize = 8 << 10;

/// Makes [`Door`]s.
#[derive(Debug, Clone)]
pub(crate) struct DoorLayer {
    rules: Arc<Rules>,
}

impl DoorLayer {
    pub(crate) fn new(state: &ApiState, document: &utoipa::openapi::OpenApi) -> Self {
        let config = state.config();
        let rules = Rules {
            access: Access::new(config),
            cors: Cors::new(&config.cors_origins),
            ids: RequestIds::new(Arc::clone(&config.clock)),
            observer: Observer::new(document),
            head_bytes_max: config.limits.head_bytes,
            state: state.clone(),
        };
        Self { rules: Arc::new(rules) }
    }
}

impl<S> Layer<S> for DoorLayer {
    type Service = Door<S>;

    fn layer(&self, inner: S) -> Door<S> {
        Door { inner, rules: Arc::clone(&self.rules) }
    }
}

/// A service with the rules around it.
#[derive(Debug, Clone)]
pub(crate) struct Door<S> {
    inner: S,
    rules: Arc<Rules>,
}

#[derive(Debug)]
struct Rules {
    access: Access,
    cors: Cors,
    ids: RequestIds,
    observer: Observer,
    head_bytes_max: usize,
    state: ApiState,
}

impl<S> Service<Request> for Door<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let rules = Arc::clone(&self.rules);
        let mut visit = rules.enter(&request);
        let request = unread::watched(request, &mut visit.unread);
        // For who looks closely: making a span costs as much as reading a small request. What an operator has to know is logged with the id.
        let span = tracing::debug_span!("request", id = visit.id.to_str().unwrap_or_default(), api = visit.observed.api());
        let answer = match rules.refuse(&request) {
            Some(refusal) => Err(refusal),
            None => Ok(self.inner.call(request)),
        };
        let answered = async move {
            let response = match answer {
                Ok(handled) => handled.await?,
                Err(refusal) => refusal,
            };
            Ok(rules.leave(visit, response).await)
        };
        Box::pin(answered.instrument(span))
    }
}

/// What is remembered of a request until its answer.
struct Visit {
    id: HeaderValue,
    begun: Instant,
    uri: Uri,
    version: Version,
    head: bool,
    /// Whether there is something left of the body.
    unread: Unread,
    coding: Option<Coding>,
    /// The `Origin`, if it is another site's that may read the answer.
    origin: Option<HeaderValue>,
    observed: Observed,
}

impl Rules {
    fn enter(&self, request: &Request) -> Visit {
        let headers = request.headers();
        let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        Visit {
            id: self.ids.of(headers),
            begun: Instant::now(),
            uri: request.uri().clone(),
            version: request.version(),
            head: request.method() == Method::HEAD,
            unread: Unread::default(),
            coding: accepted_coding(headers),
            origin: self.cors.allowed_origin(headers),
            observed: self.observer.operation(request.method(), path),
        }
    }

    /// The answer to what goes no further.
    fn refuse(&self, request: &Request) -> Option<Response> {
        let refusal = self.check_head(request).and_then(|()| self.access.check(request, &self.cors));
        match refusal {
            Err(error) => Some(error.into_response()),
            Ok(()) => self.cors.preflight(request),
        }
    }

    fn check_head(&self, request: &Request) -> Result<(), ApiError> {
        let uri = request.uri();
        let uri_bytes = uri.path().len() + uri.query().map_or(0, str::len);
        if uri_bytes > URI_BYTES_MAX {
            return Err(ApiError::new(ErrorCode::UriTooLong, "a URI has at most 8192 bytes").with("limit", URI_BYTES_MAX).closing());
        }
        const BETWEEN: usize = 4; // Colon, space, carriage return and line feed.
        let head_bytes: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + BETWEEN).sum();
        if head_bytes + uri_bytes > self.head_bytes_max {
            let limit = self.head_bytes_max;
            let detail = format!("the head of a request has at most {limit} bytes");
            return Err(ApiError::new(ErrorCode::HeadTooLarge, detail).with("limit", limit).closing());
        }
        Ok(())
    }

    async fn leave(&self, visit: Visit, response: Response) -> Response {
        let mut response = as_problem(response);
        if let Some(error) = response.extensions_mut().remove::<ApiError>() {
            write_problem(&mut response, &error, &visit);
        } else {
            response = with_ignored_fields(response).await;
        }
        if !visit.head {
            response = compress::response(response, visit.coding).await;
        }
        self.set_headers(response.headers_mut(), &visit);
        visit.observed.count(response.status(), visit.begun.elapsed());
        tracing::debug!(status = response.status().as_u16(), elapsed_us = visit.begun.elapsed().as_micros(), uri = %visit.uri, "answered");
        response
    }

    fn set_headers(&self, headers: &mut HeaderMap, visit: &Visit) {
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(REQUEST_ID, visit.id.clone());
        if self.cors.is_on() {
            headers.append(VARY, HeaderValue::from_static("origin"));
            if let Some(origin) = &visit.origin {
                cors::let_read(headers, origin);
            }
        }
        // HTTP/2 has no such header; it says goodbye by itself.
        if visit.version == Version::HTTP_2 {
            headers.remove(CONNECTION);
        } else if self.state.is_closing() || visit.unread.is_some_left() {
            // What is left of a body would be taken for the next request, so the connection ends here: the client is told.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Turns what is neither 2xx nor 3xx nor a problem into one: the answers of the framework itself.
fn as_problem(response: Response) -> Response {
    let status = response.status();
    if status.is_success() || status.is_redirection() || status.is_informational() || response.extensions().get::<ApiError>().is_some() {
        return response;
    }
    let (code, detail) = match status {
        StatusCode::BAD_REQUEST => (ErrorCode::MalformedBody, "the request could not be read"),
        StatusCode::NOT_FOUND => (ErrorCode::RouteNotFound, "there is no such path"),
        StatusCode::METHOD_NOT_ALLOWED => (ErrorCode::MethodNotAllowed, "the path takes other methods: see Allow"),
        StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::BodyTooLarge, "the body is larger than the node accepts"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (ErrorCode::UnsupportedMediaType, "the content type is not one that this path takes"),
        _ => (ErrorCode::Internal, "the node failed in a way it did not foresee"),
    };
    let problem = ApiError::new(code, detail);
    match code {
        ErrorCode::Internal => problem.logging(format_args!("an answer {status} that is no problem")).into_response(),
        _ => problem.into_response(),
    }
}

fn write_problem(response: &mut Response, error: &ApiError, visit: &Visit) {
    let id = visit.id.to_str().unwrap_or_default();
    if let Some(inner) = error.inner() {
        let (api, code) = (visit.observed.api(), error.code());
        if code == ErrorCode::StorageFull {
            // The log has said so once; here it would be said for each of many thousand retries, on the same full disk perhaps.
            tracing::debug!(request_id = id, api, %code, "{inner}");
        } else {
            tracing::error!(request_id = id, api, %code, "{inner}");
        }
    }
    let mut json = error.to_json(id, visit.uri.path());
    json.push(b'\n');
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    replace_body(response, Body::from(json));
}

/// Adds `ignored_fields` to an answer whose request had some.
async fn with_ignored_fields(mut response: Response) -> Response {
    let Some(IgnoredFields(fields)) = response.extensions_mut().remove::<IgnoredFields>() else {
        return response;
    };
    let (parts, body) = response.into_parts();
    let Ok(collected) = body.collect().await else {
        return ApiError::new(ErrorCode::Internal, "the answer could not be made").into_response();
    };
    let mut json = collected.to_bytes().to_vec();
    let list = serde_json::to_string(&fields).unwrap_or_default(); // Strings are always JSON.
    if let Some(end) = json.iter().rposition(|byte| *byte == b'}') {
        let comma = if json[..end].trim_ascii_end().ends_with(b"{") { "" } else { "," };
        json.splice(end..end, format!("{comma}\"ignored_fields\":{list}").into_bytes());
    }
    let mut response = Response::from_parts(parts, Body::empty());
    replace_body(&mut response, Body::from(json));
    response
}

/// The length is the new body's; hyper writes it.
fn replace_body(response: &mut Response, body: Body) {
    response.headers_mut().remove(CONTENT_LENGTH);
    *response.body_mut() = body;
}
