//! Compaction over HTTP: what counts stays readable while it runs, when the node is killed in the middle of it, and for whoever looks into the files.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate_client::record::Value;
use tidegate_client::{Client, NewRecord, NewTopic, ProduceOptions};
use tidegate_tests::http;
use tidegate_tests::process::{self, Process};
use tidegate_types::batch::StoredBatches;

const KEYS: u64 = 20;
/// How long a test waits for a thing to happen before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(data: &Path) -> Process {
    Process::start_with(data, &["--set", "log.cleaner.backoff.ms=10"]).unwrap()
}

async fn make(client: &Client) {
    let config = [("segment.bytes", "1048576"), ("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01")];
    let config = config.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    client.create_topic("t", &NewTopic { partitions: Some(1), config, ..NewTopic::default() }).await.unwrap();
}

/// Record `n`: every tenth of a key's is a tombstone.
fn record(n: u64) -> NewRecord {
    let value = if n / KEYS % 10 == 7 { Value::Tombstone } else { Value::Text(format!("{n:010000}")) };
    NewRecord::new(value).key((n % KEYS).to_string())
}

/// Produces records, ten a request; gives how many were acknowledged.
async fn produce(client: &Client, range: std::ops::Range<u64>) -> u64 {
    for first in range.clone().step_by(10) {
        let records: Vec<_> = (first..range.end.min(first + 10)).map(record).collect();
        if client.produce_to("t", 0, &records, &ProduceOptions { timeout: None, ..ProduceOptions::default() }).await.is_err() {
            return first;
        }
    }
    range.end
}

fn page(node: &Process, what: &str) -> serde_json::Value {
    let answer = http::get(node.address(), &format!("/v1/topics/t/partitions/0/records?{what}")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// What the keys come to for who reads from the head up to `end`, and how many records that were.
fn table(node: &Process, end: u64) -> (BTreeMap<u64, u64>, u64) {
    let (mut next, mut table, mut count) = (0, BTreeMap::new(), 0);
    while next < end {
        let page = page(node, &format!("offset={next}&max_bytes=300000&max_wait_ms=20000"));
        for record in page["records"].as_array().unwrap() {
            let (offset, key) = (record["offset"].as_u64().unwrap(), record["key"].as_str().unwrap().parse().unwrap());
            assert!(offset >= next && offset % KEYS == key, "{offset} has key {key}, after {next}");
            next = offset + 1;
            count += 1;
            match record["text"].as_str() {
                Some(text) => assert_eq!(table.insert(key, text.parse().unwrap()).max(Some(offset)), Some(offset)),
                None => drop(table.remove(&key)),
            }
        }
        let after = page["next_offset"].as_u64().unwrap();
        assert!(after >= next);
        next = after;
    }
    (table, count)
}

/// What they should come to.
fn expected(end: u64) -> BTreeMap<u64, u64> {
    (end.saturating_sub(KEYS)..end).filter(|n| n / KEYS % 10 != 7).map(|n| (n % KEYS, n)).collect()
}

fn metric(node: &Process, name: &str) -> f64 {
    let text = http::get(node.address(), "/metrics").unwrap().text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or(0.0)
}

async fn wait_for_size(client: &Client, bytes_max: u64) {
    let start = Instant::now();
    loop {
        let bytes = client.describe_topic("t").await.unwrap().partitions[0].size_bytes.unwrap();
        if bytes <= bytes_max {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{bytes} bytes are left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn verify(data: &Path) -> serde_json::Value {
    let mut verify = Command::new(process::binary().unwrap());
    let report = verify.args(["log", "verify", "--output", "json"]).arg(data).output().unwrap();
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
    serde_json::from_slice::<serde_json::Value>(&report.stdout).unwrap()[0].clone()
}

/// A promise: a compacted log shrinks while it is written and read; readers from the head see offsets rise, no error, and what every key came
/// to; what is gone is said to be gone; a killed node has the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_shrinks_to_what_counts() {
    const RECORDS: u64 = 2_000;
    let data = tempfile::tempdir().unwrap();
    let node = Arc::new(start(data.path()));
    let client = Client::new(&node.url()).unwrap();
    make(&client).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (node, is_over) = (Arc::clone(&node), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let mut rounds = 0;
                loop {
                    let is_last = is_over.load(Ordering::Acquire);
                    assert_eq!(table(&node, RECORDS).0, expected(RECORDS));
                    rounds += 1;
                    if is_last {
                        return rounds;
                    }
                }
            })
        })
        .collect();
    assert_eq!(produce(&client, 0..RECORDS).await, RECORDS);
    wait_for_size(&client, 3 << 20).await;
    is_over.store(true, Ordering::Release);
    for reader in readers {
        assert!(reader.join().unwrap() >= 2);
    }
    let (found, count) = table(&node, RECORDS);
    assert_eq!(found, expected(RECORDS));
    assert!(count < RECORDS / 4, "{count} records are left");
    for (what, status) in [("records/0", 404), ("records/1999", 200), ("records?at=earliest", 200)] {
        let answer = http::get(node.address(), &format!("/v1/topics/t/partitions/0/{what}")).unwrap();
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
    }
    let stored = http::get(node.address(), "/v1/topics/t/partitions/0/batches?offset=0").unwrap();
    let last = StoredBatches::new(stored.body.clone().into()).last().unwrap().unwrap();
    assert_eq!(stored.header("next-offset").unwrap(), last.header.last_offset().next().to_string());
    assert_eq!(client.describe_topic("t").await.unwrap().partitions[0].earliest_offset, Some(0));
    assert!(metric(&node, "tidegate_compaction_rounds_total") >= 1.0);
    let (read, written) = (metric(&node, "tidegate_compaction_read_bytes_total"), metric(&node, "tidegate_compaction_written_bytes_total"));
    assert!(read > 10e6 && written < read / 2.0, "{read} bytes in, {written} out");

    let Ok(node) = Arc::try_unwrap(node) else { panic!("the readers have gone") };
    node.kill().unwrap();
    assert!(verify(data.path())["records"].as_u64().unwrap() <= count);
    let node = start(data.path());
    assert_eq!(table(&node, RECORDS).0, expected(RECORDS));
}

/// A promise: a node that is killed again and again while it compacts has the last acknowledged value of every key each time.
#[tokio::test(flavor = "multi_thread")]
async fn kills_in_the_middle_lose_nothing() {
    let data = tempfile::tempdir().unwrap();
    let node = start(data.path());
    make(&Client::new(&node.url()).unwrap()).await;
    drop(node);
    let mut end = 0;
    for life in 0..8_u64 {
        let node = Arc::new(start(data.path()));
        let client = Client::new(&node.url()).unwrap();
        let found = client.describe_topic("t").await.unwrap().partitions[0].latest_offset.unwrap();
        assert!(found >= end, "life {life}: {found} of {end}");
        assert_eq!(table(&node, found).0, expected(found), "life {life}");
        // The kill comes with a round, early or late in it.
        let writer = tokio::spawn(async move { produce(&client, found..found + 3_000).await });
        let (rounds, begin) = (1.0 + f64::from(u32::try_from(life % 4).unwrap()), Instant::now());
        while metric(&node, "tidegate_compaction_rounds_total") < rounds {
            assert!(begin.elapsed() < PATIENCE, "no round");
        }
        let Ok(node) = Arc::try_unwrap(node) else { panic!("nobody else has it") };
        node.kill().unwrap();
        end = writer.await.unwrap();
        verify(data.path());
    }
}
