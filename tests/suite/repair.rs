//! A disk that has rotted: the node says which partition it does not open, `log verify` says where, `log repair` sets aside what is bad, and the node serves what is good.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tidegate_client::{Client, NewRecord, NewTopic, ProduceOptions};
use tidegate_tests::http;
use tidegate_tests::process::{self, Process};

const RECORDS: u64 = 40;

/// A topic of one partition, with one batch a record.
async fn fill(node: &Process, topic: &str) {
    let client = Client::new(&node.url()).unwrap();
    client.create_topic(topic, &NewTopic { partitions: Some(1), ..NewTopic::default() }).await.unwrap();
    for n in 0..RECORDS {
        client.produce_to(topic, 0, &[NewRecord::text(format!("record {n:04}"))], &ProduceOptions::default()).await.unwrap();
    }
}

/// What a reader sees of a topic: values, or the code of the refusal.
fn read(node: &Process, topic: &str) -> Result<Vec<String>, String> {
    let answer = http::get(node.address(), &format!("/v1/topics/{topic}/partitions/0/records?at=earliest&max_records=1000")).unwrap();
    if answer.status != 200 {
        return Err(answer.code());
    }
    Ok(answer.json()["records"].as_array().unwrap().iter().map(|record| record["text"].as_str().unwrap().to_owned()).collect())
}

fn values(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!("record {n:04}")).collect()
}

fn first_log(data: &Path, topic: &str) -> PathBuf {
    data.join(format!("{topic}-0/00000000000000000000.log"))
}

/// Runs `log`; the exit code and what stands on standard output.
fn log(arguments: &[&str]) -> (Option<i32>, String, String) {
    process::run(&[&["log"], arguments].concat()).unwrap()
}

/// A promise: rot under a killed node is said by the node, found by `log verify` to the byte, and mended by `log repair --yes`: good records are there, bad ones
/// set aside, and the node takes new ones. Until `--yes`, and while a node runs, nothing is touched.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotten_disk_is_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let (data, root) = (folder.path(), folder.path().to_str().unwrap());
    let node = Process::start(data).unwrap();
    fill(&node, "rotten").await;
    fill(&node, "fresh").await;
    node.kill().unwrap();

    // In the middle of the value of record 25.
    let path = first_log(data, "rotten");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(11).position(|bytes| bytes == b"record 0025").unwrap();
    bytes[at + 4] ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();

    let node = Process::start(data).unwrap();
    assert_eq!(read(&node, "rotten"), Err("corrupt-log".to_owned()));
    assert!(node.said().contains("no torn write") && node.said().contains("rotten-0"), "{}", node.said());
    assert_eq!(read(&node, "fresh"), Ok(values(0..RECORDS)), "the others serve");
    let (code, out, err) = log(&["repair", root, "--yes"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("stop the node first"), "{err}");
    node.terminate().unwrap();
    node.wait().unwrap();

    let (code, out, err) = log(&["verify", root, "-o", "json"]);
    assert_eq!(code, Some(1), "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let damaged: Vec<&Value> = report.as_array().unwrap().iter().flat_map(|p| p["findings"].as_array().unwrap()).collect();
    assert_eq!(damaged.len(), 1, "{out}");
    let position = damaged[0]["position"].as_u64().unwrap();
    assert_eq!((&damaged[0]["severity"], &damaged[0]["file"]), (&"damage".into(), &path.to_str().unwrap().into()));
    assert!(position < at as u64 && at as u64 - position < 80, "{position}, and the bit at {at}");

    let (code, out, _) = log(&["repair", root, "-o", "json"]);
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(1), "nothing is done before --yes");
    assert_eq!((&plan[0]["name"], &plan[0]["applied"]), (&"rotten-0".into(), &false.into()), "{plan}");
    assert_eq!(plan[0]["lost"], serde_json::json!({"first_offset": 25, "last_offset": 39, "records": 15}));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let (code, out, err) = log(&["repair", root]);
    assert_eq!((code, err.trim()), (Some(1), "nothing was changed: say --yes to do it"));
    assert!(
        out.contains(&format!("would cut {} at byte {position}", path.display())) && out.contains("offsets from 25 to 39 would be lost"),
        "{out}"
    );

    let (code, out, err) = log(&["repair", root, "--yes"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("offsets from 25 to 39 are lost, at most 15 records"), "{out}");
    let aside: Vec<_> = std::fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".repair-"))
        .collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(std::fs::read(aside[0].join("00000000000000000000.log")).unwrap(), bytes, "the original, to the byte");
    assert_eq!(log(&["verify", root, "-q"]).0, Some(0));
    let (code, out, _) = log(&["repair", root, "--yes"]);
    assert_eq!((code, out.trim()), (Some(0), "there is nothing to repair"));

    let node = Process::start(data).unwrap();
    assert_eq!(read(&node, "rotten"), Ok(values(0..25)));
    assert_eq!(read(&node, "fresh"), Ok(values(0..RECORDS)));
    let client = Client::new(&node.url()).unwrap();
    client.produce_to("rotten", 0, &[NewRecord::text("record 0025")], &ProduceOptions::default()).await.unwrap();
    assert_eq!(read(&node, "rotten"), Ok(values(0..26)), "what comes next follows the last good one");
    assert!(aside[0].is_dir(), "a start leaves what was set aside alone");
}
