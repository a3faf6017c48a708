//! A reader of Kafka's partition files that was written from their description alone (`tests/oracle`) reads what a node has written and finds nothing
//! wrong with it: logs, indexes, producers, leaders' epochs, checkpoints.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tidegate_tests::http::Request;
use tidegate_tests::oracle::{self, problems};
use tidegate_tests::process::Process;

/// Forty requests of ten records of 8 KB, whose timestamps go back and forth.
fn produce(address: SocketAddr, from: u64) {
    for request in from..from + 40 {
        let records: Vec<Value> = (0..10)
            .map(|n| {
                let timestamp = 1_700_000_000_000 + request * 1_000 + (n * 7_919) % 5_000;
                json!({"key": format!("k{n}"), "text": format!("{request} {n} ").repeat(1_000), "timestamp": timestamp})
            })
            .collect();
        let plain = Request::json("/v1/topics/t/partitions/0/records", json!({"records": records}).to_string());
        let request = match request % 3 {
            0 => plain.header("idempotency-key", format!("request-{request}")),
            1 => plain.header("producer-id", "w").header("producer-epoch", "0").header("producer-seq", (request / 3 * 10).to_string()),
            _ => plain,
        };
        let answer = request.send(address).unwrap();
        assert_eq!((answer.status, answer.header("producer-duplicate")), (200, None), "{}", answer.text());
    }
}

fn verify(data: &Path, options: &[&str]) -> Value {
    oracle::verify(data, options).unwrap()
}

/// A promise: over segments that rolled, a kill, a recovery, a trim and a clean stop, the second reader agrees with every file; and it does not
/// agree with an index or a log that somebody has touched.
#[test]
fn it_agrees_with_every_file() {
    let data = tempfile::tempdir().unwrap();
    let mut node = Process::start(data.path()).unwrap();
    let topic = json!({"name": "t", "config": {"segment.bytes": "1048576", "message.timestamp.before.max.ms": "9000000000000"}});
    assert_eq!(Request::json("/v1/topics", topic.to_string()).send(node.address()).unwrap().status, 201);
    produce(node.address(), 0);
    node.kill().unwrap();
    let killed = verify(data.path(), &["--contiguous"]);
    assert_eq!(problems(&killed), [] as [&Value; 0], "after a kill");
    node = Process::start(data.path()).unwrap();
    produce(node.address(), 40);
    let trim = Request::json("/v1/topics/t/partitions/0/trim", r#"{"before_offset":250}"#).send(node.address()).unwrap();
    assert_eq!(trim.status, 200, "{}", trim.text());
    produce(node.address(), 80);
    node.terminate().unwrap();
    assert!(node.wait().unwrap().0.success());

    let stopped = verify(data.path(), &["--contiguous", "--index-interval", "4096"]);
    assert_eq!(problems(&stopped), [] as [&Value; 0], "after a stop");
    assert!(stopped["ok"] == true && stopped["counts"].to_string().len() > 20, "{stopped}");
    let log = data.path().join("t-0");
    kafkas_own_tool_agrees(&log);
    let names: Vec<String> = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for suffix in [".timeindex", ".index", ".log", ".snapshot"] {
        let mut files: Vec<_> = names.iter().filter(|name| name.ends_with(suffix)).collect();
        assert!(files.len() >= 3, "{names:?}");
        files.sort();
        let path = log.join(files[1]);
        let whole = std::fs::read(&path).unwrap();
        let mut touched = whole.clone();
        touched[5] ^= 1;
        std::fs::write(&path, touched).unwrap();
        assert!(!problems(&verify(data.path(), &["--contiguous"])).is_empty(), "{suffix}");
        std::fs::write(&path, whole).unwrap();
    }
}

/// What it knows.
const SUFFIXES: [&str; 4] = ["log", "index", "timeindex", "snapshot"];

/// Kafka's `DumpLogSegments` over a partition's files, if `KAFKA_HOME` names a folder with Kafka's jars in `libs` (and there is a `java`).
fn kafkas_own_tool_agrees(log: &Path) {
    let Some(home) = std::env::var_os("KAFKA_HOME") else {
        eprintln!("SKIPPED: KAFKA_HOME is not set, so Kafka's own tool has not looked at the files");
        return;
    };
    let entries = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    let is_known = |path: &Path| path.extension().and_then(|suffix| suffix.to_str()).is_some_and(|suffix| SUFFIXES.contains(&suffix));

    let mut files: Vec<_> = entries.filter(|path| is_known(path)).map(|path| path.display().to_string()).collect();
    files.sort();
    let jars = Path::new(&home).join("libs/*");
    let output = Command::new("java")
        .arg("-cp")
        .arg(jars)
        .args(["kafka.tools.DumpLogSegments", "--deep-iteration", "--files", &files.join(",")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let batches = said.lines().filter(|line| line.starts_with("baseOffset: ")).count();
    let complaints: Vec<_> = ["Found ", "ismatch", "isvalid: false", "non-consecutive", "Exception"]
        .into_iter()
        .flat_map(|word| said.lines().filter(move |line| line.contains(word)))
        .collect();
    assert!(output.status.success() && batches > 50 && complaints.is_empty(), "{batches} batches, {complaints:?}");
    println!("DumpLogSegments: {batches} batches in {} files, no complaint", files.len());
}

/// A promise: the second reader passes its own tests.
#[test]
fn it_passes_its_own_tests() {
    let folder = oracle::root().join("tests/oracle");
    let output = Command::new(oracle::program("python").unwrap())
        .args(["-m", "unittest", "discover", "-s"])
        .arg(&folder)
        .args(["-p", "test_*.py"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
