//! Wrong requests: each gets exactly the status and code that the contract gives it, writes nothing, and does the node no harm.

mod batches;
mod json;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tidegate_tests::http::{self, Request};
use tidegate_tests::process::Process;

/// A wrong request, and what must come of it. A `code` of `-` is an answer from below the router: a bare status.
struct Row {
    name: &'static str,
    request: Request,
    status: u16,
    code: &'static str,
}

fn row(name: &'static str, request: Request, status: u16, code: &'static str) -> Row {
    Row { name, request, status, code }
}

const RECORDS: &str = "/v1/topics/t/records";
const FETCH: &str = "/v1/topics/t/partitions/0/records";
const BATCHES: &str = "/v1/topics/t/partitions/0/batches";
/// The partitions that the table aims at.
const PARTITIONS: [(&str, u32); 3] = [("t", 0), ("t", 1), ("compacted", 0)];

fn post_ok(address: SocketAddr, target: &str, body: &str) {
    let answer = Request::json(target, body).send(address).unwrap();
    assert!(answer.status < 300, "{target}: {}", answer.text());
}

/// Two topics with a record each, so that reading them says something.
fn prepare(address: SocketAddr) {
    post_ok(address, "/v1/topics", r#"{"name":"t","partitions":2}"#);
    post_ok(address, "/v1/topics", r#"{"name":"compacted","partitions":1,"config":{"cleanup.policy":"compact"}}"#);
    post_ok(address, RECORDS, r#"{"records":[{"partition":0,"key":"k","value":1},{"partition":1,"key":"k","value":1}]}"#);
    post_ok(address, "/v1/topics/compacted/records", r#"{"records":[{"key":"k","value":1}]}"#);
}

/// What a reader sees: every partition's records, and the list of topics.
fn seen(address: SocketAddr) -> BTreeMap<String, String> {
    let fetches = PARTITIONS.map(|(topic, partition)| format!("/v1/topics/{topic}/partitions/{partition}/records?offset=0"));
    let targets = fetches.into_iter().chain(["/v1/topics".to_owned(), "/v1/topics/t".to_owned()]);
    targets
        .map(|target| {
            let answer = http::get(address, &target).unwrap();
            assert_eq!(answer.status, 200, "{target}: {}", answer.text());
            (target, answer.text())
        })
        .collect()
}

/// What is wrong with the answer to a row, if anything.
fn complaint(address: SocketAddr, row: &Row) -> Option<String> {
    let answer = match row.request.send(address) {
        Ok(answer) => answer,
        Err(error) => return Some(format!("{}: no answer: {error}", row.name)),
    };
    let problem = answer.json();
    let is_bare = row.code == "-" && answer.code().is_empty();
    let is_whole = problem["status"] == row.status
        && problem["request_id"] == answer.header("request-id").unwrap_or_default()
        && ["type", "title", "detail", "side_effects"].iter().all(|field| problem[field].is_string())
        && problem["retryable"].is_boolean();
    let as_told = answer.status == row.status && (is_bare || (answer.code() == row.code && is_whole));
    (!as_told).then(|| format!("{}: wanted {} {}, got {} {}", row.name, row.status, row.code, answer.status, answer.text()))
}

/// A promise: a wrong request gets its status and code, writes nothing, and everything can still be read.
#[test]
fn each_gets_its_status_and_writes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let address = node.address();
    prepare(address);
    let mut before = seen(address);

    let rows: Vec<Row> = [json::rows(), batches::rows(), wire::rows()].into_iter().flatten().collect();
    assert!(rows.len() >= 60, "only {} rows", rows.len());
    let mut complaints = Vec::new();
    for row in &rows {
        complaints.extend(complaint(address, row));
        let after = seen(address);
        if after != before {
            complaints.push(format!("{}: something was written:\n{after:#?}\nwas\n{before:#?}", row.name));
            before = after;
        }
    }
    assert!(complaints.is_empty(), "{} of {} rows:\n{}", complaints.len(), rows.len(), complaints.join("\n"));
}

/// A promise: whoever mistypes is told what was probably meant.
#[test]
fn problems_say_what_was_meant() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    prepare(node.address());
    let asked = [
        (Request::json(RECORDS, r#"{"records":[{"valeu":1}]}"#), "value"),
        (Request::get("/v1/topics/t/partitions/0/records?ofset=0"), "offset"),
        (Request::json("/v1/topics", r#"{"name":"x","config":{"retention.mss":"1"}}"#), "retention.ms"),
    ];
    for (request, meant) in asked {
        let answer = request.send(node.address()).unwrap();
        assert_eq!(answer.json()["did_you_mean"], meant, "{}", answer.text());
    }
    let lenient = Request::json(RECORDS, r#"{"records":[{"value":1,"valeu":1}],"x":1}"#).header("prefer", "handling=lenient");
    let answer = lenient.send(node.address()).unwrap();
    assert_eq!((answer.status, answer.json()["ignored_fields"].as_array().map(Vec::len)), (200, Some(2)), "{}", answer.text());
}

/// A promise: a stream of lines that fails says how many records are written, and sending it again from that line on completes it.
#[test]
fn a_stream_can_be_taken_up_where_it_failed() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    post_ok(node.address(), "/v1/topics", r#"{"name":"lines"}"#);
    let mut lines: Vec<String> = (0..2_500).map(|n| format!(r#"{{"text":"{n}"}}"#)).collect();
    let send = |lines: &[String]| {
        let stream = Request::new("POST", "/v1/topics/lines/records/stream").header("content-type", "application/x-ndjson");
        stream.body(lines.join("\n")).send(node.address()).unwrap()
    };
    lines[1_700] = "{".to_owned();
    let failed = send(&lines);
    let problem = failed.json();
    assert_eq!((failed.status, failed.code().as_str(), &problem["line"]), (400, "malformed-body", &1_701.into()), "{}", failed.text());
    let committed = usize::try_from(problem["committed_records"].as_u64().unwrap()).unwrap();
    assert_eq!((&problem["side_effects"], &problem["in_doubt"]), (&"possible".into(), &false.into()), "{}", failed.text());
    assert!(committed >= 1_000, "the whole part before the failing one is written, {committed}");
    lines[1_700] = r#"{"text":"1700"}"#.to_owned();
    let rest = send(&lines[committed..]);
    assert_eq!((rest.status, rest.json()["committed_records"].as_u64()), (200, Some(2_500 - committed as u64)), "{}", rest.text());
    let fetched = http::get(node.address(), "/v1/topics/lines/partitions/0/records?offset=0&max_records=10000").unwrap().json();
    let texts: Vec<_> = fetched["records"].as_array().unwrap().iter().map(|record| record["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts, (0..2_500).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// A promise: whoever is refused before the body is read can read why, although it is still sending.
#[test]
fn refusals_reach_whoever_is_still_sending() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    assert_eq!(Request::json("/v1/topics", r#"{"name":"t"}"#).send(node.address()).unwrap().status, 201);
    for (target, status, code) in [(RECORDS, 413, "body-too-large"), ("/v1/nope", 404, "route-not-found")] {
        let request = Request::json(target, vec![b' '; 8 << 20]).length("67108864");
        match request.send(node.address()) {
            Ok(answer) => assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text()),
            Err(error) => panic!("{target}: the answer was lost: {error}"),
        }
    }
}
