//! Trims over HTTP: what is given up is gone for every reader, its disk space too, and stays gone when the node is killed and started again.

use std::path::Path;
use std::process::Command;

use tidegate_client::{Client, NewRecord, NewTopic, ProduceOptions};
use tidegate_tests::http::{self, Answer, Request};
use tidegate_tests::process::{self, Process};
use tidegate_types::ErrorCode;
use tidegate_types::batch::StoredBatches;

const RECORDS: u64 = 60;

/// A topic of one partition with segments of 1 MiB, and 60 records of about 100 KB, three a request.
async fn fill(client: &Client) {
    let config = [("segment.bytes".to_owned(), "1048576".to_owned())].into();
    client.create_topic("t", &NewTopic { partitions: Some(1), config, ..NewTopic::default() }).await.unwrap();
    for first in (0..RECORDS).step_by(3) {
        let record = |n| NewRecord::text(format!("{}{n}", "0".repeat(100_000))).timestamp(1_000 + i64::try_from(n).unwrap());
        let records: Vec<_> = (first..first + 3).map(record).collect();
        client.produce_to("t", 0, &records, &ProduceOptions::default()).await.unwrap();
    }
}

fn get(node: &Process, what: &str) -> Answer {
    http::get(node.address(), &format!("/v1/topics/t/partitions/0/{what}")).unwrap()
}

fn trim(node: &Process, before: u64) -> Answer {
    let body = format!(r#"{{"before_offset":{before}}}"#);
    Request::json("/v1/topics/t/partitions/0/trim", body).send(node.address()).unwrap()
}

/// All that can be read, from the earliest on: offsets, each record being the one that was produced there.
fn readable(node: &Process) -> Vec<u64> {
    let (mut offsets, mut position) = (Vec::new(), "at=earliest".to_owned());
    loop {
        let answer = get(node, &format!("records?{position}&max_bytes=67108864"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        for record in page["records"].as_array().unwrap() {
            let offset = record["offset"].as_u64().unwrap();
            assert_eq!(record["text"].as_str().unwrap().parse::<u64>().unwrap(), offset);
            offsets.push(offset);
        }
        if page["caught_up"] == true {
            return offsets;
        }
        position = format!("offset={}", page["next_offset"]);
    }
}

fn log_files(data: &Path) -> Vec<String> {
    let names = std::fs::read_dir(data.join("t-0")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut logs: Vec<_> = names.filter(|name| name.ends_with(".log")).collect();
    logs.sort();
    logs
}

/// What every reader must see of a partition that begins at `start`.
fn assert_begins_at(node: &Process, start: u64) {
    assert_eq!(readable(node), (start..RECORDS).collect::<Vec<_>>());
    let offsets = get(node, "offsets").json();
    assert_eq!((&offsets["earliest_offset"], &offsets["latest_offset"]), (&start.into(), &RECORDS.into()));
    let described = http::get(node.address(), "/v1/topics/t").unwrap().json()["partitions"][0].clone();
    assert_eq!(described["earliest_offset"], start);
    assert_eq!(get(node, "offsets?timestamp=0").json()["offset"], start);
    assert_eq!(get(node, "records?tail=1000&max_records=1").json()["records"][0]["offset"], start);
    for gone in [format!("records?offset={}", start - 1), format!("batches?offset={}", start - 1), format!("records/{}", start - 1)] {
        let answer = get(node, &gone);
        let problem = answer.json();
        assert_eq!((answer.status, answer.code().as_str()), (416, "offset-out-of-range"), "{gone}: {}", answer.text());
        assert_eq!((&problem["reason"], &problem["earliest_offset"]), (&"trimmed".into(), &start.into()), "{gone}");
    }
    assert_eq!(
        get(node, &format!("records?offset={}&offset_reset=earliest&max_records=1", start - 1)).json()["records"][0]["offset"],
        start
    );
    assert_eq!(get(node, &format!("records/{start}")).status, 200);
}

/// A promise: what was trimmed is gone for every reader, within a batch too, and its disk space soon after; a killed node begins there as well.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_trimmed_stays_trimmed() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let client = Client::new(&node.url()).unwrap();
    fill(&client).await;
    let (files, bytes) = (log_files(data.path()), client.describe_topic("t").await.unwrap().partitions[0].size_bytes.unwrap());
    assert!(files.len() > 4, "{files:?}");

    // Three records a batch: 31 is the second of its batch.
    let trimmed = trim(&node, 31);
    assert_eq!((trimmed.status, trimmed.json()), (200, serde_json::json!({"earliest_offset": 31})), "{}", trimmed.text());
    assert_begins_at(&node, 31);
    let stored = get(&node, "batches?offset=31&max_bytes=1");
    assert_eq!(stored.status, 200);
    let first = StoredBatches::new(stored.body.into()).next().unwrap().unwrap();
    assert_eq!(first.header.first_offset().get(), 30, "stored batches come whole");
    assert!(client.describe_topic("t").await.unwrap().partitions[0].size_bytes.unwrap() < bytes * 6 / 10);

    // Back is not possible, beyond the end is not either, and both say so.
    assert_eq!(client.trim("t", 0, 5).await.unwrap(), 31);
    let beyond = client.trim("t", 0, RECORDS + 1).await.unwrap_err();
    assert_eq!(beyond.problem().and_then(|problem| problem.known_code()), Some(ErrorCode::OffsetOutOfRange));
    let problem = trim(&node, RECORDS + 1).json();
    assert_eq!((&problem["reason"], &problem["latest_offset"]), (&"future".into(), &RECORDS.into()));

    // The files go after the answer; the next trim has its turn only when they are gone.
    assert_eq!(client.trim("t", 0, 31).await.unwrap(), 31);
    let left = log_files(data.path());
    assert!(left.len() < files.len() && left[0].as_str() <= "00000000000000000031.log", "{left:?}");

    node.kill().unwrap();
    let mut verify = Command::new(process::binary().unwrap());
    let report = verify.args(["log", "verify", "--output", "json"]).arg(data.path()).output().unwrap();
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report[0]["records"], RECORDS - 31, "{report}");

    let node = Process::start(data.path()).unwrap();
    assert_begins_at(&node, 31);
    let client = Client::new(&node.url()).unwrap();
    assert_eq!(client.trim("t", 0, 59).await.unwrap(), 59);
    node.kill().unwrap();
    let node = Process::start(data.path()).unwrap();
    assert_begins_at(&node, 59);
    assert_eq!(log_files(data.path()).len(), 1, "a start removes what is left, but never the active segment");
}
