//! The contract for programs (`/openapi.json`) and for people (`/docs`), both out of the binary: no internet is needed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use tidegate_types::ErrorCode;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::Config;

use crate::error::ApiError;
use crate::extract::etag_matches;
use crate::state::ApiState;

/// The page's own scripts and pictures and nothing else; it sets styles from scripts and draws with `data:` pictures.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

pub(crate) fn documented() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get_open_api))
}

/// The page for people: not part of the contract.
pub(crate) fn router() -> Router<ApiState> {
    Router::new()
        .route("/", get(async || Redirect::temporary("/docs/")))
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(async || page("index.html")))
        .route("/docs/{*file}", get(async |Path(file): Path<String>| page(&file)))
}

struct Served {
    json: Bytes,
    etag: HeaderValue,
}

/// Made at the first call; the same for the life of the process.
fn served() -> &'static Served {
    static SERVED: OnceLock<Served> = OnceLock::new();
    SERVED.get_or_init(|| {
        let json = Bytes::from(crate::openapi::document_json());
        let mut hasher = DefaultHasher::new();
        json.hash(&mut hasher);
        let etag = format!("\"{:016x}\"", hasher.finish());
        Served { json, etag: HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("\"0\"")) }
    })
}

/// An OpenAPI document.
#[derive(Debug, ToSchema)]
#[schema(value_type = Value)]
pub(crate) struct OpenApiDocument(());

/// This document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "getOpenApi", tag = "health",
    responses(
        (status = 200, description = "The OpenAPI document", body = OpenApiDocument, content_type = "application/json"),
        (status = 304, description = "The one that `If-None-Match` names"),
    )
)]
async fn get_open_api(headers: HeaderMap) -> Response {
    let served = served();
    let cache = [(ETAG, served.etag.clone()), (CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if etag_matches(&headers, &served.etag) {
        return (StatusCode::NOT_MODIFIED, cache).into_response();
    }
    (cache, [(CONTENT_TYPE, "application/json")], served.json.clone()).into_response()
}

fn page(file: &str) -> Result<Response, ApiError> {
    static CONFIG: OnceLock<Arc<Config<'static>>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| Arc::new(Config::from("/openapi.json").validator_url("none")));
    let found =
        utoipa_swagger_ui::serve(file, Arc::clone(config)).map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    let found = found.ok_or_else(|| ApiError::new(ErrorCode::RouteNotFound, "there is no such page"))?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::try_from(&found.content_type).unwrap_or(HeaderValue::from_static("application/octet-stream"))),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)),
        (CACHE_CONTROL, HeaderValue::from_static("max-age=3600")),
    ];
    Ok((headers, found.bytes.into_owned()).into_response())
}
