//! Retention over HTTP, by a node that looks every 50 ms: old segments go by age and by size, their files too, and stay gone; who reads is told.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::http::{self, Answer, Request};
use tidegate_tests::process::Process;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(data: &Path) -> Process {
    Process::start_with(data, &["--set", "log.retention.check.interval.ms=50"]).unwrap()
}

fn create(node: &Process, config: &Value) {
    let config =
        [("segment.bytes", "1048576"), ("file.delete.delay.ms", "0")].into_iter().fold(config.clone(), |mut config, (key, value)| {
            config.as_object_mut().unwrap().entry(key).or_insert_with(|| json!(value));
            config
        });
    let body = json!({"name": "t", "partitions": 1, "config": config}).to_string();
    let created = Request::json("/v1/topics", body).send(node.address()).unwrap();
    assert_eq!(created.status, 201, "{}", created.text());
}

/// Three records of about 100 KB in a request, each with the offset it will have as its value.
fn produce(node: &Process, first: u64, timestamp: Option<i64>) {
    let record = |n: u64| match timestamp {
        Some(timestamp) => json!({"text": format!("{}{n}", "0".repeat(100_000)), "timestamp": timestamp}),
        None => json!({"text": format!("{}{n}", "0".repeat(100_000))}),
    };
    let records: Vec<_> = (first..first + 3).map(record).collect();
    let request = Request::json("/v1/topics/t/partitions/0/records", json!({"records": records}).to_string());
    let answer = request.send(node.address()).unwrap();
    assert_eq!((answer.status, &answer.json()["results"][0]["offset"]), (200, &json!(first)), "{}", answer.text());
}

fn get(node: &Process, what: &str) -> Answer {
    http::get(node.address(), &format!("/v1/topics/t/partitions/0/{what}")).unwrap()
}

fn earliest(address: SocketAddr) -> u64 {
    http::get(address, "/v1/topics/t/partitions/0/offsets").unwrap().json()["earliest_offset"].as_u64().unwrap()
}

/// The base offsets of the log's files, and their bytes together.
fn files(data: &Path) -> (Vec<u64>, u64) {
    let mut bases = Vec::new();
    let mut bytes = 0;
    for entry in std::fs::read_dir(data.join("t-0")).unwrap() {
        let entry = entry.unwrap();
        if let Some(base) = entry.file_name().to_str().unwrap().strip_suffix(".log") {
            bases.push(base.parse().unwrap());
            // It may be removed this very moment.
            bytes += entry.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    bases.sort_unstable();
    (bases, bytes)
}

/// Asks until it is so; for what nothing tells of.
fn until(node: &Process, what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}; it said:\n{}", node.said());
        std::thread::yield_now();
    }
}

/// What every reader must see below `start`.
fn assert_gone(node: &Process, start: u64) {
    for gone in [format!("records?offset={}", start - 1), format!("batches?offset={}", start - 1), format!("records/{}", start - 1)] {
        let answer = get(node, &gone);
        let problem = answer.json();
        assert_eq!((answer.status, answer.code().as_str()), (416, "offset-out-of-range"), "{gone}: {}", answer.text());
        assert_eq!((&problem["reason"], &problem["earliest_offset"]), (&"trimmed".into(), &start.into()), "{gone}");
    }
}

/// A promise: records that are too old go by themselves, whole segments at a time, from readers at once and from the disk soon after; the node
/// says so in its log and its metrics, and a killed node begins there as well.
#[test]
fn what_is_too_old_goes_by_itself() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path());
    create(&node, &json!({"retention.ms": "-1"}));
    for first in (0..30).step_by(3) {
        // The fourth request and all after it are of now. Nine records fill a segment.
        produce(&node, first, (first < 9).then_some(1_000));
    }
    let (before, bytes) = files(data.path());
    assert_eq!((before.as_slice(), earliest(node.address())), (&[0, 9, 18, 27][..], 0));
    let change = Request::new("PATCH", "/v1/topics/t").header("content-type", "application/json");
    let change = |value: &str| change.clone().body(json!({"config": {"retention.ms": value}}).to_string()).send(node.address()).unwrap();
    let answer = change("86400000");
    assert_eq!(answer.status, 200, "{}", answer.text());
    until(&node, "the first segment goes", || earliest(node.address()) == 9 && files(data.path()).0 == [9, 18, 27]);
    assert_gone(&node, 9);
    assert_eq!(get(&node, "records/9").status, 200);
    assert!(files(data.path()).1 < bytes * 4 / 5);
    http::await_metric(node.address(), "tidegate_retention_deleted_segments_total", 1).unwrap();
    let deleted = http::metric(node.address(), "tidegate_retention_deleted_bytes_total").unwrap();
    assert!((900_000.0..1_048_577.0).contains(&deleted), "{deleted}");
    assert!(node.said().contains("retention deleted old segments"), "{}", node.said());

    // All of it, the active segment too: by now every record is older than a millisecond.
    assert_eq!(change("1").status, 200);
    until(&node, "all goes", || earliest(node.address()) == 30 && files(data.path()) == (vec![30], 0));
    assert_gone(&node, 30);
    assert_eq!(change("-1").status, 200);
    produce(&node, 30, None);
    node.kill().unwrap();
    let node = start(data.path());
    let offsets = get(&node, "offsets").json();
    assert_eq!((&offsets["earliest_offset"], &offsets["latest_offset"]), (&json!(30), &json!(33)));
    assert_gone(&node, 30);
    assert_eq!(get(&node, "records/32").status, 200);
}

/// Reads from the earliest on until `is_last` and the end, and again from the earliest whenever it is told that its place is gone. Each page goes on where the
/// one before ended, and each record is the one of its offset. One that `lags` waits after its first page until its place is gone. Gives what it read, and how often it was told.
fn consume(address: SocketAddr, lags: bool, is_last: &AtomicBool) -> (u64, u64) {
    let (mut read, mut told) = (0, 0);
    let mut next = 0;
    loop {
        let last = is_last.load(Ordering::Acquire);
        let answer = http::get(address, &format!("/v1/topics/t/partitions/0/records?offset={next}&max_bytes=1000000")).unwrap();
        if answer.status == 416 {
            let problem = answer.json();
            assert_eq!((answer.code().as_str(), &problem["reason"]), ("offset-out-of-range", &json!("trimmed")));
            let earliest = problem["earliest_offset"].as_u64().unwrap();
            assert!(earliest > next, "{problem}");
            (next, told) = (earliest, told + 1);
            continue;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        for record in page["records"].as_array().unwrap() {
            assert_eq!(record["offset"], next, "no gap");
            assert_eq!(record["text"].as_str().unwrap().parse::<u64>().unwrap(), next);
            (next, read) = (next + 1, read + 1);
        }
        while lags && told == 0 && earliest(address) <= next {
            std::thread::yield_now();
        }
        if last && page["caught_up"] == true {
            return (read, told);
        }
    }
}

/// A promise: under load, a partition stays as large as `retention.bytes` and little more, on the disk too; who reads from the head meanwhile gets every
/// record in order, or is told where to go on, and nothing else; no acknowledged record within the bound is lost.
#[test]
fn a_reader_from_the_head_is_told_or_gets_all() {
    const RECORDS: u64 = 300;
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path());
    create(&node, &json!({"retention.bytes": "3000000", "file.delete.delay.ms": "100"}));
    let (address, is_last) = (node.address(), Arc::new(AtomicBool::new(false)));
    let readers = [false, true].map(|lags| {
        let is_last = Arc::clone(&is_last);
        std::thread::spawn(move || consume(address, lags, &is_last))
    });
    for first in (0..RECORDS).step_by(3) {
        produce(&node, first, None);
    }
    is_last.store(true, Ordering::Release);
    let [(ahead, _), (lagging, told)] = readers.map(|reader| reader.join().unwrap());
    assert!(ahead > 0 && lagging > 0 && told > 0, "{ahead} and {lagging} records read, told {told} times");
    // Four segments of 900 KB hold three million bytes; a fifth is begun before the oldest may go.
    until(&node, "the disk has shrunk", || files(data.path()).1 < 5 * 1_000_000 && files(data.path()).0[0] == earliest(node.address()));
    let start = earliest(node.address());
    let kept = get(&node, &format!("records?offset={start}&max_bytes=67108864")).json();
    assert_eq!(kept["records"][0]["offset"], start);
    let size = http::get(address, "/v1/topics/t").unwrap().json()["partitions"][0]["size_bytes"].as_u64().unwrap();
    assert!((3_000_000..4_100_000).contains(&size), "{size}");
    assert!(start > RECORDS / 2);
    assert_gone(&node, start);
    let is_kept = |offset: u64| get(&node, &format!("records/{offset}")).status == 200;
    assert!((start..RECORDS).all(is_kept));
}
