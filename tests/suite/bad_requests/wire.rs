//! Rows whose fault is in the HTTP around the body: methods, lengths, encodings, origins, hosts, sizes.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tidegate_tests::http::Request;

use super::{FETCH, RECORDS, Row, row};

const GOOD: &str = r#"{"records":[{"value":1}]}"#;

pub(super) fn rows() -> Vec<Row> {
    [encodings(), lengths(), routes(), browsers()].into_iter().flatten().collect()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn encodings() -> Vec<Row> {
    let encoded = |encoding: &str, body: Vec<u8>| Request::json(RECORDS, body).header("content-encoding", encoding);
    let mut cut = gzip(GOOD.as_bytes());
    cut.truncate(cut.len() / 2);
    let bomb = [br#"{"records":[{"text":""#.to_vec(), vec![b'a'; 40 << 20], br#""}]}"#.to_vec()].concat();
    vec![
        row("gzip that is none", encoded("gzip", GOOD.into()), 400, "malformed-body"),
        row("gzip cut short", encoded("gzip", cut), 400, "malformed-body"),
        row("zstd that is none", encoded("zstd", GOOD.into()), 400, "malformed-body"),
        row("br that is none", encoded("br", b"\xff\xff\xff\xff".to_vec()), 400, "malformed-body"),
        row("deflate that is none", encoded("deflate", GOOD.into()), 400, "malformed-body"),
        row("a bomb", encoded("gzip", gzip(&bomb)), 413, "body-too-large"),
        row("an unknown encoding", encoded("lzma", GOOD.into()), 415, "unsupported-content-encoding"),
        row("two encodings", encoded("gzip, gzip", gzip(&gzip(GOOD.as_bytes()))), 415, "unsupported-content-encoding"),
    ]
}

fn lengths() -> Vec<Row> {
    let stated = |length: &str| Request::json(RECORDS, GOOD).length(length);
    let chunked = |body: &str| Request::json(RECORDS, body).length("").header("transfer-encoding", "chunked");
    let long_header = Request::get("/v1/topics").header("x-long", "x".repeat(40 << 10));
    let long_target = Request::get(&format!("/v1/topics?prefix={}", "x".repeat(40 << 10)));
    vec![
        row("a body over the limit, announced", Request::json(RECORDS, "").length("33554433"), 413, "body-too-large"),
        row("an absurd length", Request::json(RECORDS, "").length("9223372036854775807"), 413, "body-too-large"),
        row("a negative length", stated("-1"), 400, "-"),
        row("a length in words", stated("ten"), 400, "-"),
        row("a length that does not fit", stated("99999999999999999999"), 400, "-"),
        row("two lengths", stated("25").header("content-length", "24"), 400, "-"),
        row("a length too short", stated("10"), 400, "malformed-body"),
        row("chunks that are none", chunked("zz\r\n"), 400, "malformed-body"),
        row("a head over 32 KiB", long_header, 431, "head-too-large"),
        row("a target over 32 KiB", long_target, 414, "uri-too-long"),
    ]
}

fn routes() -> Vec<Row> {
    vec![
        row("no such path", Request::get("/v1/nope"), 404, "route-not-found"),
        row("another version", Request::get("/v2/topics"), 404, "route-not-found"),
        row("a verb that is not there", Request::json("/v1/topics/t:delete", "{}"), 405, "method-not-allowed"),
        row("a wrong method", Request::new("DELETE", RECORDS), 405, "method-not-allowed"),
        row("a wrong method on health", Request::json("/livez", "{}"), 405, "method-not-allowed"),
        row("a method nobody knows", Request::new("BREW", "/v1/topics"), 405, "method-not-allowed"),
        row("a path that is no text", Request::get("/v1/topics/%ff"), 404, "topic-not-found"),
        row("a slash too many", Request::get("/v1/topics/"), 404, "route-not-found"),
    ]
}

fn browsers() -> Vec<Row> {
    let post = || Request::json(RECORDS, GOOD);
    vec![
        row("a foreign page", post().header("origin", "https://evil.example"), 403, "origin-not-allowed"),
        row("a page without an origin of its own", post().header("origin", "null"), 403, "origin-not-allowed"),
        row(
            "a foreign page that deletes",
            Request::new("DELETE", "/v1/topics/t").header("origin", "http://localhost.evil.example"),
            403,
            "origin-not-allowed",
        ),
        row("a rebound name", post().host("evil.example"), 403, "host-not-allowed"),
        row("a rebound name that reads", Request::get(FETCH).host("evil.example:8080"), 403, "host-not-allowed"),
        row("a media type nobody has", Request::get(FETCH).header("accept", "application/xml"), 406, "not-acceptable"),
    ]
}
