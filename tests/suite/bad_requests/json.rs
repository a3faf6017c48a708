//! Rows whose fault is in the JSON, in a value, in a name, or in a parameter.

use tidegate_tests::http::Request;

use super::{FETCH, RECORDS, Row, row};

pub(super) fn rows() -> Vec<Row> {
    [envelope(), records(), too_much(), topics(), parameters(), raw_and_lines(), trims()].into_iter().flatten().collect()
}

/// One record in an envelope.
fn one(record: &str) -> Request {
    Request::json(RECORDS, format!(r#"{{"records":[{record}]}}"#))
}

fn envelope() -> Vec<Row> {
    let json = |body: &str| Request::json(RECORDS, body);
    vec![
        row("an empty body", json(""), 400, "malformed-body"),
        row("half an object", json("{"), 400, "malformed-body"),
        row("an array for an object", json("[]"), 400, "malformed-body"),
        row("null for an object", json("null"), 400, "malformed-body"),
        row("no records at all", json("{}"), 422, "validation-failed"),
        row("records that are no list", json(r#"{"records":{}}"#), 400, "malformed-body"),
        row("a record that is no object", json(r#"{"records":[1]}"#), 400, "malformed-body"),
        row("a list cut short", json(r#"{"records":[{"value":1},"#), 400, "malformed-body"),
        row("an empty list", json(r#"{"records":[]}"#), 422, "validation-failed"),
        row("something after the end", json(r#"{"records":[{"value":1}]} x"#), 400, "malformed-body"),
        row("a field twice", json(r#"{"records":[{"value":1}],"records":[{"value":2}]}"#), 400, "malformed-body"),
        row("an unknown field", json(r#"{"recrods":[{"value":1}]}"#), 400, "unknown-field"),
        row("an unknown field beside the known", json(r#"{"records":[{"value":1}],"more":1}"#), 400, "unknown-field"),
        row("bytes that are no UTF-8", Request::json(RECORDS, b"{\"records\":[{\"text\":\"\xff\"}]}".to_vec()), 400, "malformed-body"),
        row("not a number", json(r#"{"records":[{"value":NaN}]}"#), 400, "malformed-body"),
        row(
            "JSON that claims to be something else",
            Request::new("POST", RECORDS).header("content-type", "text/plain").body("{}"),
            415,
            "unsupported-media-type",
        ),
    ]
}

fn records() -> Vec<Row> {
    vec![
        row("an unknown field in a record", one(r#"{"valeu":1}"#), 400, "unknown-field"),
        row("value and text", one(r#"{"value":1,"text":"a"}"#), 422, "record-rejected"),
        row("value and tombstone", one(r#"{"value":null,"tombstone":true}"#), 422, "record-rejected"),
        row("no value of any kind", one(r#"{"key":"k"}"#), 422, "record-rejected"),
        row("a tombstone that is none", one(r#"{"tombstone":false}"#), 422, "record-rejected"),
        row("a tombstone in words", one(r#"{"tombstone":"yes"}"#), 400, "malformed-body"),
        row("text that is a number", one(r#"{"text":1}"#), 400, "malformed-body"),
        row("bad base64", one(r#"{"base64":"?"}"#), 400, "malformed-body"),
        row("base64 with a space", one(r#"{"base64":"AA E="}"#), 400, "malformed-body"),
        row("two keys", one(r#"{"key":"a","key_base64":"YQ==","value":1}"#), 422, "record-rejected"),
        row("a bad key", one(r#"{"key_base64":"*","value":1}"#), 400, "malformed-body"),
        row("a key that is a number", one(r#"{"key":1,"value":1}"#), 400, "malformed-body"),
        row("a key that is no text", one(r#"{"key":"\ud800","value":1}"#), 400, "malformed-body"),
        row("headers that are no list", one(r#"{"value":1,"headers":{"a":"b"}}"#), 400, "malformed-body"),
        row("a header without a name", one(r#"{"value":1,"headers":[{"value":"b"}]}"#), 400, "malformed-body"),
        row("a header with two values", one(r#"{"value":1,"headers":[{"name":"a","value":"b","base64":"YQ=="}]}"#), 422, "record-rejected"),
        row("a header whose value is a number", one(r#"{"value":1,"headers":[{"name":"a","value":1}]}"#), 400, "malformed-body"),
        row("a header with an unknown field", one(r#"{"value":1,"headers":[{"name":"a","valeu":"b"}]}"#), 400, "unknown-field"),
        row("a timestamp before time", one(r#"{"value":1,"timestamp":-1}"#), 422, "record-rejected"),
        row("a timestamp in words", one(r#"{"value":1,"timestamp":"now"}"#), 400, "malformed-body"),
        row("a timestamp that does not fit", one(r#"{"value":1,"timestamp":99999999999999999999}"#), 400, "malformed-body"),
        row("a fraction of a timestamp", one(r#"{"value":1,"timestamp":1.5}"#), 400, "malformed-body"),
        row("a negative partition", one(r#"{"value":1,"partition":-1}"#), 400, "malformed-body"),
        row("a partition that is not there", one(r#"{"value":1,"partition":99}"#), 404, "partition-not-found"),
        row("a good record and a bad one", one(r#"{"value":1},{"value":1,"text":"a"}"#), 422, "record-rejected"),
        row(
            "another partition than the path's",
            Request::json(FETCH, r#"{"records":[{"value":1,"partition":1}]}"#),
            422,
            "record-rejected",
        ),
        row(
            "no key in a compacted topic",
            Request::json("/v1/topics/compacted/records", r#"{"records":[{"value":1}]}"#),
            422,
            "record-rejected",
        ),
    ]
}

fn too_much() -> Vec<Row> {
    let headers = |count: usize, size: usize| {
        let header = format!(r#"{{"name":"n","value":"{}"}}"#, "v".repeat(size));
        one(&format!(r#"{{"value":1,"headers":[{}]}}"#, vec![header; count].join(",")))
    };
    let nested = |depth: usize| one(&format!(r#"{{"value":{}{}}}"#, "[".repeat(depth), "]".repeat(depth)));
    let key = "k".repeat((64 << 10) + 1);
    let many = vec![r#"{"value":1}"#; 10_001].join(",");
    vec![
        row("a key over 64 KiB", one(&format!(r#"{{"value":1,"key":"{key}"}}"#)), 422, "record-rejected"),
        row("129 headers", headers(129, 1), 422, "record-rejected"),
        row("headers over 64 KiB", headers(2, 40 << 10), 422, "record-rejected"),
        row("a record over 1 MiB", one(&format!(r#"{{"text":"{}"}}"#, "v".repeat(1 << 20))), 413, "record-too-large"),
        row("10,001 records", one(&many), 422, "validation-failed"),
        row("nested 129 deep", nested(129), 422, "record-rejected"),
        row("nested 100,000 deep", nested(100_000), 422, "record-rejected"),
    ]
}

fn topics() -> Vec<Row> {
    let create = |body: &str| Request::json("/v1/topics", body);
    let named = |name: &str| create(&format!(r#"{{"name":"{name}"}}"#));
    let patch = |body: &str| Request::new("PATCH", "/v1/topics/t").header("content-type", "application/json").body(body);
    let ensure = |body: &str| Request::new("PUT", "/v1/topics/t").header("content-type", "application/json").body(body);
    let long = "x".repeat(250);
    vec![
        row("a topic without a name", create("{}"), 422, "validation-failed"),
        row("the empty name", named(""), 422, "validation-failed"),
        row("a name of 250 characters", named(&long), 422, "validation-failed"),
        row("a name that is another directory", named(".."), 422, "validation-failed"),
        row("a name with a slash", named("a/b"), 422, "validation-failed"),
        row("a name beyond ASCII", named("订单"), 422, "validation-failed"),
        row("no partitions", create(r#"{"name":"x","partitions":0}"#), 422, "validation-failed"),
        row("too many partitions", create(r#"{"name":"x","partitions":10001}"#), 422, "validation-failed"),
        row("partitions in words", create(r#"{"name":"x","partitions":"two"}"#), 400, "malformed-body"),
        row("null for partitions", create(r#"{"name":"x","partitions":null}"#), 400, "malformed-body"),
        row("null for replicas", ensure(r#"{"replication_factor":null}"#), 400, "malformed-body"),
        row("null for a change of partitions", patch(r#"{"partitions":null}"#), 400, "malformed-body"),
        row("more replicas than nodes", create(r#"{"name":"x","replication_factor":2}"#), 422, "validation-failed"),
        row("an unknown config", create(r#"{"name":"x","config":{"retention.hours":"1"}}"#), 422, "unknown-config"),
        row("a config out of bounds", create(r#"{"name":"x","config":{"retention.ms":"-2"}}"#), 422, "validation-failed"),
        row("a config that is a number", create(r#"{"name":"x","config":{"retention.ms":1}}"#), 400, "malformed-body"),
        row("a topic that exists", named("t"), 409, "topic-already-exists"),
        row("ensuring another topic", ensure(r#"{"partitions":3}"#), 409, "topic-differs"),
        row("fewer partitions", patch(r#"{"partitions":1}"#), 422, "validation-failed"),
        row("an unknown field in a change", patch(r#"{"partitons":4}"#), 400, "unknown-field"),
        row("a change of an unknown config", patch(r#"{"config":{"no.such":"1"}}"#), 422, "unknown-config"),
        row("produce to no topic", Request::json("/v1/topics/none/records", r#"{"records":[{"value":1}]}"#), 404, "topic-not-found"),
        row("fetch of no topic", Request::get("/v1/topics/none/partitions/0/records"), 404, "topic-not-found"),
        row("deletion of no topic", Request::new("DELETE", "/v1/topics/none"), 404, "topic-not-found"),
        row("a path's name of 250 characters", Request::get(&format!("/v1/topics/{long}")), 404, "topic-not-found"),
        row("a path's name that is another directory", Request::get("/v1/topics/%2e%2e"), 404, "topic-not-found"),
        row("no such partition", Request::get("/v1/topics/t/partitions/2/records"), 404, "partition-not-found"),
        row("a partition in words", Request::get("/v1/topics/t/partitions/x/records"), 404, "partition-not-found"),
        row("a partition that does not fit", Request::get("/v1/topics/t/partitions/4294967296/records"), 404, "partition-not-found"),
        row("a negative partition in a path", Request::get("/v1/topics/t/partitions/-1/offsets"), 404, "partition-not-found"),
        row("no such node", Request::get("/v1/nodes/99"), 404, "node-not-found"),
    ]
}

fn parameters() -> Vec<Row> {
    let fetch = |query: &str| Request::get(&format!("{FETCH}?{query}"));
    let produce = |query: &str| Request::json(&format!("{RECORDS}?{query}"), r#"{"records":[{"value":1}]}"#);
    let offsets = |query: &str| Request::get(&format!("/v1/topics/t/partitions/0/offsets?{query}"));
    vec![
        row("an unknown parameter", fetch("ofset=0"), 400, "unknown-parameter"),
        row("a parameter twice", fetch("offset=0&offset=1"), 400, "malformed-parameter"),
        row("an offset in words", fetch("offset=first"), 400, "malformed-parameter"),
        row("a negative offset", fetch("offset=-1"), 400, "malformed-parameter"),
        row("an offset that does not fit", fetch("offset=99999999999999999999999"), 400, "malformed-parameter"),
        row("an offset beyond the end", fetch("offset=1000"), 416, "offset-out-of-range"),
        row("the largest offset there can be", fetch("offset=9007199254740991"), 416, "offset-out-of-range"),
        row("a tail longer than a log can be", fetch("tail=9007199254740992"), 422, "validation-failed"),
        row("two positions", fetch("offset=0&tail=1"), 422, "validation-failed"),
        row("a position that is not there yet", fetch("cursor=c1.x"), 400, "unknown-parameter"),
        row("a place that does not exist", fetch("at=middle"), 400, "malformed-parameter"),
        row("a wait over its bound", fetch("max_wait_ms=55001"), 422, "validation-failed"),
        row("more bytes than allowed", fetch("max_bytes=67108865"), 422, "validation-failed"),
        row("no records at most", fetch("max_records=0"), 422, "validation-failed"),
        row("a reset that does not exist", fetch("offset=0&offset_reset=none"), 400, "malformed-parameter"),
        row("acks in numbers", produce("acks=1"), 400, "malformed-parameter"),
        row("a timeout in words", produce("timeout_ms=soon"), 400, "malformed-parameter"),
        row("two questions", offsets("at=latest&timestamp=0"), 422, "validation-failed"),
        row("a question nobody knows", offsets("at=now"), 400, "malformed-parameter"),
        row("a page of nothing", Request::get("/v1/topics?limit=0"), 422, "validation-failed"),
        row("a page too long", Request::get("/v1/topics?limit=1001"), 422, "validation-failed"),
        row("a page token of somebody else", Request::get("/v1/topics?page_token=%21"), 400, "malformed-parameter"),
        row("a value beyond the end", Request::get(&format!("{FETCH}/1000")), 416, "offset-out-of-range"),
        row("a parameter where none is", Request::get("/v1/cluster?verbose=1"), 400, "unknown-parameter"),
    ]
}

fn raw_and_lines() -> Vec<Row> {
    let raw = |body: &str| Request::new("POST", "/v1/topics/t/raw").body(body);
    let lines = |body: &str| Request::new("POST", "/v1/topics/t/records/stream").header("content-type", "application/x-ndjson").body(body);
    vec![
        row("raw JSON that is none", raw("{").header("content-type", "application/json"), 422, "record-rejected"),
        row("raw +json that is none", raw("{").header("content-type", "application/cloudevents+json"), 422, "record-rejected"),
        row("a raw key in bad base64", raw("x").header("record-key-base64", "?"), 400, "malformed-header"),
        row("a raw timestamp in words", raw("x").header("record-timestamp", "now"), 400, "malformed-header"),
        row("a raw key beyond ASCII", raw("x").header("record-key", b"\xff\xfe"), 400, "malformed-header"),
        row("a raw partition that is not there", raw("x").header("record-partition", "99"), 404, "partition-not-found"),
        row("lines that are none", lines("{\n{\"value\":1}\n"), 400, "malformed-body"),
        row("a line with two values", lines("{\"value\":1,\"text\":\"a\"}\n{\"value\":1}\n"), 422, "record-rejected"),
        row("an unknown field in a line", lines("{\"valeu\":1}\n"), 400, "unknown-field"),
        row("lines of another type", Request::json("/v1/topics/t/records/stream", "{}"), 415, "unsupported-media-type"),
    ]
}

fn trims() -> Vec<Row> {
    const TRIM: &str = "/v1/topics/t/partitions/0/trim";
    let trim = |body: &str| Request::json(TRIM, body);
    let elsewhere = |target: &str| Request::json(target, r#"{"before_offset":0}"#);
    vec![
        row("a trim of nothing said", trim(""), 400, "malformed-body"),
        row("a trim without an offset", trim("{}"), 422, "validation-failed"),
        row("a trim before null", trim(r#"{"before_offset":null}"#), 400, "malformed-body"),
        row("a trim before a word", trim(r#"{"before_offset":"1"}"#), 400, "malformed-body"),
        row("a trim before a negative offset", trim(r#"{"before_offset":-1}"#), 400, "malformed-body"),
        row("a trim before a fraction", trim(r#"{"before_offset":0.5}"#), 400, "malformed-body"),
        row("a trim before what does not fit", trim(r#"{"before_offset":18446744073709551616}"#), 400, "malformed-body"),
        row("a trim beyond what is there", trim(r#"{"before_offset":2}"#), 416, "offset-out-of-range"),
        row("a trim beyond all offsets", trim(r#"{"before_offset":18446744073709551615}"#), 416, "offset-out-of-range"),
        row("a trim with an unknown field", trim(r#"{"before_offset":1,"after_offset":0}"#), 400, "unknown-field"),
        row("a trim that is mistyped", trim(r#"{"before_ofset":1}"#), 400, "unknown-field"),
        row("a trim with a parameter", elsewhere(&format!("{TRIM}?before_offset=1")), 400, "unknown-parameter"),
        row(
            "a trim of another type",
            Request::new("POST", TRIM).header("content-type", "text/plain").body("{}"),
            415,
            "unsupported-media-type",
        ),
        row("a trim by another method", Request::new("DELETE", TRIM), 405, "method-not-allowed"),
        row("a trim of no topic", elsewhere("/v1/topics/none/partitions/0/trim"), 404, "topic-not-found"),
        row("a trim of no partition", elsewhere("/v1/topics/t/partitions/2/trim"), 404, "partition-not-found"),
        row("a trim of a compacted topic", elsewhere("/v1/topics/compacted/partitions/0/trim"), 422, "validation-failed"),
    ]
}
