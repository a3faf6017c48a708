//! Answers in a coding that the client accepts: zstd, br, gzip or deflate, where it is worth it.
//!
//! Only whole answers of text are coded. Stored batches are compressed by their topic if at all, and a stream would wait for its own end.

use std::io::Write;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::counted;
use crate::extract::Coding;

/// Below it a packet is a packet.
const BYTES_MIN: u64 = 1 << 10;
/// Above it a runtime thread would be held for more than about a millisecond.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// The answer, coded if the client accepts it and it is worth it.
pub(super) async fn response(mut response: Response, coding: Option<Coding>) -> Response {
    let long = response.body().size_hint().exact().is_some_and(|length| length > BYTES_MIN);
    if !long || !is_codable(response.status(), response.headers()) {
        return response;
    }
    response.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
    let Some(coding) = coding else {
        return response;
    };
    let (mut parts, body) = response.into_parts();
    let plain = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        // A body in memory does not fail; if one ever does, the client sees a broken answer, as it would have without us.
        Err(error) => return Response::from_parts(parts, Body::new(http_body_util::StreamBody::new(failing(error)))),
    };
    match encoded(coding, plain.clone()).await {
        Some(coded) if coded.len() < plain.len() => {
            parts.headers.remove(CONTENT_LENGTH);
            parts.headers.insert(CONTENT_ENCODING, coding.header_value());
            weaken_etag(&mut parts.headers);
            drop(plain);
            let body = counted::in_its_place(&mut parts.extensions, coded);
            Response::from_parts(parts, body)
        }
        Some(_) | None => Response::from_parts(parts, Body::from(plain)),
    }
}

fn failing(error: axum::Error) -> impl futures_util::Stream<Item = Result<http_body::Frame<Bytes>, axum::Error>> + Send {
    futures_util::stream::iter([Err(error)])
}

fn is_codable(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|content_type| {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        essence.starts_with("text/")
            || essence == "application/json"
            || essence.ends_with("+json")
            || essence == "application/javascript"
            || essence == "image/svg+xml"
    });
    let fixed = headers.get(CACHE_CONTROL).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains("no-transform"));
    is_text && !fixed && status != StatusCode::PARTIAL_CONTENT && !headers.contains_key(CONTENT_ENCODING)
}

/// Other bytes under the same tag: the tag now means the content, not its bytes.
fn weaken_etag(headers: &mut HeaderMap) {
    let Some(strong) = headers.get(ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| !tag.starts_with("W/")) else {
        return;
    };
    if let Ok(weak) = HeaderValue::try_from(format!("W/{strong}")) {
        headers.insert(ETAG, weak);
    }
}

async fn encoded(coding: Coding, plain: Bytes) -> Option<Vec<u8>> {
    if plain.len() <= INLINE_BYTES_MAX {
        return encode(coding, &plain);
    }
    tokio::task::spawn_blocking(move || encode(coding, &plain)).await.ok().flatten()
}

/// Each at its fast end: an answer is coded once and read once.
fn encode(coding: Coding, plain: &[u8]) -> Option<Vec<u8>> {
    const BROTLI_QUALITY: u32 = 3;
    const BROTLI_WINDOW_LOG: u32 = 20;
    const BUFFER_BYTES: usize = 16 << 10;
    const ZSTD_LEVEL: i32 = 1;
    let mut coded = Vec::with_capacity(plain.len() / 4);
    match coding {
        Coding::Zstd => return zstd::bulk::compress(plain, ZSTD_LEVEL).ok(),
        Coding::Brotli => {
            let mut encoder = brotli::CompressorWriter::new(&mut coded, BUFFER_BYTES, BROTLI_QUALITY, BROTLI_WINDOW_LOG);
            encoder.write_all(plain).ok()?;
            drop(encoder); // Writes the end.
        }
        Coding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(&mut coded, flate2::Compression::fast());
            encoder.write_all(plain).ok()?;
            encoder.finish().ok()?;
        }
        Coding::Deflate => {
            let mut encoder = flate2::write::ZlibEncoder::new(&mut coded, flate2::Compression::fast());
            encoder.write_all(plain).ok()?;
            encoder.finish().ok()?;
        }
    }
    Some(coded)
}
