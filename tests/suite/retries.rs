//! Requests that are sent again: written once, answered as the first time, whatever has become of the node in between.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::http::{self, Answer, Request};
use tidegate_tests::process::Process;
use tidegate_types::{BatchBuilder, Encoding, Limits, ProducerStamp, RecordSetBuilder, Timestamp};

const PATIENCE: Duration = Duration::from_secs(60);
/// Records' own time, long before any window.
const OF_2013: i64 = 1_380_000_000_000;

/// What comes between a request and its repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    Stop,
    Kill,
    /// A stop, and then what was kept of producers is deleted: only the log is left.
    LostFiles,
    /// A kill after so much was written that what is known lies in files and in the log.
    KillInTheMiddle,
    /// The records themselves are gone.
    Compaction,
}

fn start(data: &Path) -> Process {
    Process::start_with(data, &["--set", "log.cleaner.backoff.ms=10"]).unwrap()
}

fn send(request: &Request, address: SocketAddr) -> Answer {
    request.send(address).unwrap()
}

fn put(path: &str, body: String) -> Request {
    Request::new("PUT", path).header("content-type", "application/json").body(body)
}

fn make(node: &Process, between: Between) {
    let policy = if between == Between::Compaction { "compact" } else { "delete" };
    let config = json!({"segment.bytes": "1048576", "cleanup.policy": policy, "min.cleanable.dirty.ratio": "0.01"});
    let body = json!({"partitions": 1, "config": config}).to_string();
    let answer = send(&put("/v1/topics/t", body), node.address());
    assert_eq!(answer.status, 201, "{}", answer.text());
}

fn keyed(path: &str, key: &str, body: &str) -> Request {
    Request::json(path, body).header("idempotency-key", key)
}

fn numbered(epoch: i32, sequence: i64, records: usize) -> Request {
    let one = json!({"key": "k", "value": sequence, "timestamp": OF_2013 + sequence});
    let body = json!({"records": vec![one; records]}).to_string();
    Request::json("/v1/topics/t/partitions/0/records", body)
        .header("producer-id", "meter-7")
        .header("producer-epoch", epoch.to_string())
        .header("producer-seq", sequence.to_string())
}

fn batch(stamp: ProducerStamp, text: &str) -> Vec<u8> {
    let limits = Limits::default();
    let mut set = RecordSetBuilder::with_capacity(&limits, 1, 8);
    set.push(Timestamp::from_millis(OF_2013), Encoding::Text, Some(b"k"), Some(text.as_bytes()), [].into_iter()).unwrap();
    let mut builder = BatchBuilder::with_capacity(8);
    builder.push(&set.finish());
    if stamp.id < 0 { builder.finish().into_bytes().to_vec() } else { builder.finish_for(stamp).into_bytes().to_vec() }
}

fn batches(body: Vec<u8>) -> Request {
    Request::new("POST", "/v1/topics/t/partitions/0/batches").header("content-type", "application/vnd.tidegate.batches").body(body)
}

const NOBODY: ProducerStamp = ProducerStamp { id: -1, epoch: -1, sequence: -1 };

/// One request of each kind, each with another body that must be refused under the same key.
fn kinds(producer_id: i64) -> Vec<(&'static str, Request, Option<Request>)> {
    let envelope = |n: i64| json!({"records": [{"key": "k", "value": n, "timestamp": OF_2013}, {"key": "k", "text": "now"}]}).to_string();
    let records = |n| keyed("/v1/topics/t/records", "key-1", &envelope(n));
    let raw = |value: &str, key: &str| {
        Request::new("POST", "/v1/topics/t/raw")
            .header("idempotency-key", "key-2")
            .header("record-key", key)
            .body(value.as_bytes().to_vec())
    };
    let lines = |first: &str| {
        let body: String =
            (0..1_500).map(|n| format!("{{\"key\":\"k\",\"text\":\"{}\"}}\n", if n == 0 { first } else { "line" })).collect();
        let request = Request::new("POST", "/v1/topics/t/records/stream").header("content-type", "application/x-ndjson");
        request.header("idempotency-key", "key-3").body(body)
    };
    let stored = |text: &str| batches([batch(NOBODY, text), batch(NOBODY, "second")].concat()).header("idempotency-key", "key-4");
    let own = |sequence| batches(batch(ProducerStamp { id: producer_id, epoch: 0, sequence }, "own"));
    vec![
        ("records", records(1), Some(records(2))),
        ("raw", raw("value", "k"), Some(raw("value", "another key"))),
        ("lines", lines("a"), Some(lines("b"))),
        ("batches", stored("a"), Some(stored("b"))),
        ("numbered batch", own(0), None),
    ]
}

fn log_end(node: &Process) -> u64 {
    let answer = http::get(node.address(), "/v1/topics/t/partitions/0/offsets").unwrap();
    answer.json()["latest_offset"].as_u64().unwrap()
}

fn is_repeated(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true") || answer.header("producer-duplicate") == Some("true")
}

/// Goes on with the node as it is afterwards.
fn pass(node: Process, data: &Path, between: Between) -> Process {
    match between {
        Between::Nothing => node,
        Between::Stop | Between::LostFiles => {
            node.terminate().unwrap();
            node.wait().unwrap();
            if between == Between::LostFiles {
                let of_producers = |name: &str| name.ends_with(".snapshot") || name.ends_with(".idempotency");
                let entries = std::fs::read_dir(data.join("t-0")).unwrap().map(|entry| entry.unwrap().path());
                let lost: Vec<_> = entries.filter(|path| of_producers(path.file_name().unwrap().to_str().unwrap())).collect();
                assert!(lost.len() >= 2, "{lost:?}");
                lost.iter().for_each(|path| std::fs::remove_file(path).unwrap());
            }
            start(data)
        }
        Between::Kill => {
            node.kill().unwrap();
            start(data)
        }
        Between::KillInTheMiddle => {
            fill(&node, 3);
            node.kill().unwrap();
            start(data)
        }
        Between::Compaction => {
            fill(&node, 4);
            let begun = Instant::now();
            while http::get(node.address(), "/v1/topics/t/partitions/0/records/0").unwrap().status != 404 {
                assert!(begun.elapsed() < PATIENCE, "it is not compacted");
                std::thread::sleep(Duration::from_millis(5));
            }
            node
        }
    }
}

/// Writes so many segments full.
fn fill(node: &Process, segments: usize) {
    let record = json!({"key": "k", "text": "x".repeat(100_000)});
    let body = json!({"records": vec![record; 9]}).to_string();
    for _ in 0..2 * segments {
        assert_eq!(send(&Request::json("/v1/topics/t/records", body.clone()), node.address()).status, 200);
    }
}

fn repetitions(between: Between) {
    let data = tempfile::tempdir().unwrap();
    let mut node = start(data.path());
    make(&node, between);
    let producer_id = send(&Request::new("POST", "/v1/producers"), node.address()).json()["producer_id"].as_i64().unwrap();
    let kinds = kinds(producer_id);
    let first: Vec<_> = kinds.iter().map(|(_, request, _)| send(request, node.address())).collect();
    // Seven requests of two records each.
    let counted: Vec<_> = (0..7).map(|n| send(&numbered(0, 2 * n, 2), node.address())).collect();
    for answer in first.iter().chain(&counted) {
        assert_eq!((answer.status, is_repeated(answer)), (200, false), "{between:?}: {}", answer.text());
    }
    node = pass(node, data.path(), between);
    let end = log_end(&node);
    for ((name, request, other), first) in kinds.iter().zip(&first) {
        let again = send(request, node.address());
        assert_eq!((again.status, is_repeated(&again)), (200, true), "{between:?}, {name}: {}", again.text());
        assert_eq!(places(&again, between), places(first, between), "{between:?}, {name}");
        if let Some(other) = other {
            let refused = send(other, node.address());
            assert_eq!((refused.status, refused.code().as_str()), (422, "idempotency-key-reused"), "{between:?}, {name}");
        }
    }
    for (n, first) in (0..7).zip(&counted) {
        let again = send(&numbered(0, 2 * n, 2), node.address());
        assert_eq!((again.status, is_repeated(&again)), (200, true), "{between:?}, {n}: {}", again.text());
        assert_eq!(again.header("producer-next-seq"), Some((2 * n + 2).to_string().as_str()));
        if n >= 2 {
            assert_eq!(places(&again, between), places(first, between), "{between:?}, {n}");
        } else {
            assert_eq!(again.json()["results"], json!([{"partition": 0}, {"partition": 0}]), "{between:?}, {n}");
        }
    }
    let gap = send(&numbered(0, 20, 1), node.address());
    assert_eq!((gap.status, gap.code().as_str()), (409, "sequence-gap"));
    assert_eq!((gap.header("producer-expected-seq"), gap.header("producer-received-seq")), (Some("14"), Some("20")));
    assert_eq!(log_end(&node), end, "{between:?}: nothing was written again");
    assert_eq!(send(&numbered(0, 14, 1), node.address()).status, 200);
    assert_eq!(send(&numbered(3, 0, 1), node.address()).status, 200);
    let fenced = send(&numbered(0, 15, 1), node.address());
    assert_eq!((fenced.status, fenced.code().as_str(), fenced.header("producer-epoch")), (409, "producer-fenced", Some("3")));
    assert_eq!(log_end(&node), end + 2);
    node.kill().unwrap();
}

/// What an answer says of where records are. Timestamps of records that are gone are not known.
fn places(answer: &Answer, between: Between) -> Value {
    let mut body = answer.json();
    if between == Between::Compaction {
        for result in body["results"].as_array_mut().into_iter().flatten() {
            result.as_object_mut().unwrap().remove("timestamp");
        }
    }
    body
}

/// A promise: a request that is sent again is not written again, and is answered with the offsets and timestamps of the first time.
#[test]
fn at_once() {
    repetitions(Between::Nothing);
}

/// A promise: also after the node was stopped.
#[test]
fn after_a_stop() {
    repetitions(Between::Stop);
}

/// A promise: also after the node was killed.
#[test]
fn after_a_kill() {
    repetitions(Between::Kill);
    repetitions(Between::KillInTheMiddle);
}

/// A promise: also when all that is left is the log.
#[test]
fn after_what_was_kept_is_lost() {
    repetitions(Between::LostFiles);
}

/// A promise: also when the records have been compacted away.
#[test]
fn after_compaction() {
    repetitions(Between::Compaction);
}

/// A promise: a partition that is asked to remember more keys than it may says how far back it really reaches, and those that it has forgotten are written.
#[test]
fn a_full_window_is_told() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let config = json!({"partitions": 1, "config": {"idempotency.window.entries": "3"}}).to_string();
    assert_eq!(send(&put("/v1/topics/t", config), node.address()).status, 201);
    let write = |n: u32| send(&keyed("/v1/topics/t/records", &format!("key-{n}"), r#"{"records":[{"value":1}]}"#), node.address());
    let windows: Vec<_> = (0..5).map(|n| write(n).header("idempotency-window").unwrap().parse::<u64>().unwrap()).collect();
    assert_eq!(windows[..3], [600, 600, 600]);
    assert!(windows[3] < 60 && windows[4] < 60, "the first key went with the fourth request: {windows:?}");
    let (kept, gone) = (write(4), write(0));
    assert_eq!((is_repeated(&kept), is_repeated(&gone)), (true, false));
    assert_eq!((kept.json()["results"][0]["offset"].as_u64(), gone.json()["results"][0]["offset"].as_u64()), (Some(4), Some(5)));
    node.kill().unwrap();
}

/// A promise: requests of a producer that overtake one another are written in its order, and one whose predecessor does not come is told so.
#[test]
fn early_requests_wait_for_those_before_them() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    make(&node, Between::Nothing);
    let address = node.address();
    for round in 0..20 {
        let first = 5 * round;
        let answers: Vec<_> = std::thread::scope(|scope| {
            let sending: Vec<_> = (0..5).rev().map(|n| scope.spawn(move || send(&numbered(0, first + n, 1), address))).collect();
            sending.into_iter().map(|answer| answer.join().unwrap()).collect()
        });
        for (n, answer) in (0..5).rev().zip(&answers) {
            let offset = answer.json()["results"][0]["offset"].as_i64();
            assert_eq!((answer.status, offset), (200, Some(first + n)), "{}", answer.text());
        }
    }
    let begun = Instant::now();
    assert_eq!(send(&numbered(0, 101, 1), address).code(), "sequence-gap");
    assert!(begun.elapsed() >= Duration::from_millis(900), "it has waited for its predecessor");
    assert_eq!(log_end(&node), 100);
    node.kill().unwrap();
}

/// A promise: a name that was bound fences all who write under it with an earlier epoch, those too who never bound it, and in partitions that have not
/// seen the later one; no epoch is given out twice, also if the name was forgotten in between.
#[test]
fn bound_names_fence() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    make(&node, Between::Nothing);
    let bind = |address| send(&Request::new("PUT", "/v1/producers/meter-7"), address).json();
    assert_eq!(send(&numbered(0, 0, 1), node.address()).status, 200, "an unbound name needs nobody");
    let bound = bind(node.address());
    assert_eq!((bound["name"].as_str(), bound["epoch"].as_i64()), (Some("meter-7"), Some(1)));
    assert_eq!(send(&numbered(0, 1, 1), node.address()).code(), "producer-fenced", "whoever was there before");
    assert_eq!(send(&numbered(1, 0, 1), node.address()).json()["results"][0]["offset"], json!(1));
    assert_eq!(bind(node.address())["epoch"].as_i64(), Some(2));
    let fenced = send(&numbered(1, 1, 1), node.address());
    assert_eq!((fenced.code().as_str(), fenced.header("producer-epoch")), ("producer-fenced", Some("2")));
    assert_eq!(send(&numbered(3, 0, 1), node.address()).code(), "validation-failed");
    node.kill().unwrap();
    let node = Process::start(data.path()).unwrap();
    assert_eq!(bind(node.address())["epoch"].as_i64(), Some(3), "bindings outlive a kill");
    assert_eq!(bind(node.address())["producer_id"], bound["producer_id"]);
    for _ in 0..2 {
        assert_eq!(send(&Request::new("DELETE", "/v1/producers/meter-7"), node.address()).status, 204);
    }
    let again = bind(node.address());
    assert!(again["epoch"].as_i64() == Some(5) && again["producer_id"] != bound["producer_id"], "{again}");
    assert_eq!(send(&numbered(4, 0, 1), node.address()).code(), "producer-fenced");
    node.kill().unwrap();
}

/// A promise: a request that waits under an epoch that a name has left behind meanwhile is not written any more.
#[test]
fn who_waits_is_fenced_too() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    make(&node, Between::Nothing);
    let address = node.address();
    let bind = || assert_eq!(send(&Request::new("PUT", "/v1/producers/meter-7"), address).status, 200);
    bind();
    let zombie = std::thread::spawn(move || send(&numbered(1, 7, 1), address));
    // It waits for a second; if it comes only after the binding, it is refused at the door.
    bind();
    assert_eq!(log_end(&node), 0);
    let answer = zombie.join().unwrap();
    assert_ne!(answer.status, 200, "{}", answer.text());
    assert_eq!(log_end(&node), 0);
    node.kill().unwrap();
}

/// A promise: a batch under an id that nobody was given, or that belongs to a name, is refused: it would be taken for somebody else's.
#[test]
fn ids_are_given_out() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    make(&node, Between::Nothing);
    let write = |id: i64| send(&batches(batch(ProducerStamp { id, epoch: 0, sequence: 0 }, "x")), node.address()).status;
    assert_eq!([0, 1, 1 << 20, 1 << 60].map(write), [422; 4]);
    let given = send(&Request::new("POST", "/v1/producers"), node.address()).json()["producer_id"].as_i64().unwrap();
    let bound = send(&Request::new("PUT", "/v1/producers/meter-7"), node.address()).json()["producer_id"].as_i64().unwrap();
    assert_eq!([given, bound].map(write), [200, 422]);
    let copied =
        Request::new("POST", "/v1/topics/t/partitions/0/batches?producers=drop").header("content-type", "application/vnd.tidegate.batches");
    assert_eq!(send(&copied.body(batch(ProducerStamp { id: 0, epoch: 0, sequence: 0 }, "x")), node.address()).status, 200);
    assert_eq!(log_end(&node), 2);
    node.kill().unwrap();
}

/// A promise: a key whose window is over is free, also if nothing else was written meanwhile.
#[test]
fn a_window_ends_by_itself() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let config = json!({"partitions": 1, "config": {"idempotency.window.ms": "1000"}}).to_string();
    assert_eq!(send(&put("/v1/topics/t", config), node.address()).status, 201);
    let write =
        |value: u32| send(&keyed("/v1/topics/t/records", "key", &json!({"records": [{"value": value}]}).to_string()), node.address());
    let begun = Instant::now();
    assert_eq!(write(1).status, 200);
    while write(2).status == 422 {
        assert!(begun.elapsed() < PATIENCE, "it is never free");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(begun.elapsed() >= Duration::from_millis(900) && log_end(&node) == 2);
    node.kill().unwrap();
}
