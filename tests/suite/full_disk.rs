//! A disk that is really full: a file system of 48 MiB in memory, mounted for the test alone. Nothing acknowledged is lost, reads go on, and what gives
//! room back works on the full disk itself.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_tests::http::{self, Request};
use tidegate_tests::process::Process;

const PATIENCE: Duration = Duration::from_secs(60);

/// A small file system, seen through the process that holds it. It is gone with that.
struct SmallDisk {
    holder: Child,
    path: PathBuf,
}

impl SmallDisk {
    /// `None` if this machine lets nobody mount anything, also not in a namespace of their own.
    fn mount(at: &Path) -> Option<Self> {
        let script = "mount -t tmpfs -o size=48m tmpfs \"$0\" && echo mounted && exec cat";
        [&["--mount"][..], &["--user", "--map-root-user", "--mount"]].iter().find_map(|namespaces| {
            let mut command = Command::new("unshare");
            command.args(*namespaces).args(["sh", "-c", script]).arg(at);
            let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
            let mut line = String::new();
            BufReader::new(holder.stdout.take()?).read_line(&mut line).ok()?;
            let path = PathBuf::from(format!("/proc/{}/root{}", holder.id(), at.display()));
            let disk = Self { holder, path };
            (line == "mounted\n" && fs::read_dir(&disk.path).is_ok()).then_some(disk)
        })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its input ends, and so does it.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn create(node: &Process, topic: &str) {
    let config = json!({"segment.bytes": "1048576", "file.delete.delay.ms": "0"});
    let body = json!({"name": topic, "partitions": 1, "config": config}).to_string();
    let created = Request::json("/v1/topics", body).send(node.address()).unwrap();
    assert_eq!(created.status, 201, "{}", created.text());
}

/// One record of 50 KB that says `n`; the code of the refusal, if it is refused.
fn produce(node: &Process, topic: &str, n: u64) -> Result<u64, (u16, String)> {
    let value = format!("{}{n}", "x".repeat(50_000));
    let request = Request::json(&format!("/v1/topics/{topic}/partitions/0/records"), json!({"records": [{"text": value}]}).to_string());
    let answer = request.send(node.address()).unwrap();
    match answer.status {
        200 => Ok(answer.json()["results"][0]["offset"].as_u64().unwrap()),
        status => Err((status, answer.json()["code"].as_str().unwrap_or_default().to_owned())),
    }
}

/// Produces until it is refused; gives the next number.
fn fill(node: &Process, topic: &str, first: u64) -> u64 {
    for n in first..first + 2_000 {
        match produce(node, topic, n) {
            Ok(offset) => assert_eq!(offset, n),
            Err(refusal) => {
                assert_eq!(refusal, (507, "storage-full".to_owned()), "{}", node.said());
                return n;
            }
        }
    }
    panic!("100 MB fit into 48 MiB");
}

/// What the topic holds from `start` on: each record says its offset.
fn assert_holds(node: &Process, topic: &str, start: u64, end: u64) {
    let mut next = start;
    while next < end {
        let path = format!("/v1/topics/{topic}/partitions/0/records?offset={next}&max_records=100");
        let page = http::get(node.address(), &path).unwrap().json();
        let records = page["records"].as_array().unwrap().clone();
        assert!(!records.is_empty(), "nothing at {next} of {end}: {page}");
        for record in records {
            assert_eq!(record["offset"], json!(next));
            assert_eq!(record["text"].as_str().unwrap().trim_start_matches('x'), next.to_string());
            next += 1;
        }
    }
    assert_eq!(next, end, "nothing that was refused is there");
}

fn trim(node: &Process, topic: &str, before: u64) -> u16 {
    let body = json!({"before_offset": before}).to_string();
    Request::json(&format!("/v1/topics/{topic}/partitions/0/trim"), body).send(node.address()).unwrap().status
}

/// Produces again as soon as there is room: files are removed after the answer that gives them up.
fn goes_on(node: &Process, topic: &str, n: u64) {
    let begun = Instant::now();
    while let Err(refusal) = produce(node, topic, n) {
        assert_eq!(refusal.0, 507);
        assert!(begun.elapsed() < PATIENCE, "{}", node.said());
        std::thread::yield_now();
    }
}

/// A promise: a node on a full disk says so (507), loses nothing that it has acknowledged, goes on answering reads, also after kill -9, and takes
/// records again as soon as a trim, retention, a deleted topic or somebody else has given room back.
#[test]
fn a_full_disk_loses_nothing_and_can_be_freed() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(scratch.path()) else {
        eprintln!("SKIPPED: nobody may mount anything here, so no disk was really filled");
        return;
    };
    let data = disk.path.join("data");
    let start = || Process::start_with(&data, &["--set", "log.retention.check.interval.ms=50"]).unwrap();
    let node = start();
    create(&node, "kept");
    create(&node, "other");
    let other = 100;
    (0..other).for_each(|n| assert_eq!(produce(&node, "other", n), Ok(n)));
    let mut end = fill(&node, "kept", 0);
    assert!(end > 300, "only {end} records of 50 KB fit into 48 MiB");
    assert_holds(&node, "kept", 0, end);
    assert_eq!(produce(&node, "other", other), Err((507, "storage-full".to_owned())));

    node.kill().unwrap();
    let node = start();
    assert_holds(&node, "kept", 0, end);
    assert_holds(&node, "other", 0, other);
    end = fill(&node, "kept", end);

    // A trim.
    assert_eq!(trim(&node, "kept", end / 2), 200, "{}", node.said());
    goes_on(&node, "kept", end);
    end = fill(&node, "kept", end + 1);
    assert_holds(&node, "kept", end / 2, end);

    // A deleted topic.
    let deleted = Request::new("DELETE", "/v1/topics/other").send(node.address()).unwrap();
    assert_eq!(deleted.status, 204, "{}", deleted.text());
    goes_on(&node, "kept", end);
    end = fill(&node, "kept", end + 1);

    // Somebody else fills what is kept for the node itself, to the last block.
    let mut foreign = fs::File::create(disk.path.join("foreign")).unwrap();
    while foreign.write_all(&[7; 4096]).is_ok() {}
    drop(foreign);
    assert_eq!(produce(&node, "kept", end), Err((507, "storage-full".to_owned())));
    assert_eq!(trim(&node, "kept", end - 10), 507, "what cannot be noted is not given up");
    assert_holds(&node, "kept", end - 50, end);
    fs::remove_file(disk.path.join("foreign")).unwrap();

    // Retention.
    let body = json!({"config": {"retention.bytes": "2000000"}}).to_string();
    let changed =
        Request::new("PATCH", "/v1/topics/kept").header("content-type", "application/json").body(body).send(node.address()).unwrap();
    assert_eq!(changed.status, 200, "{}", changed.text());
    goes_on(&node, "kept", end);
    let stopped = node.terminate().and_then(|()| node.wait()).unwrap();
    assert!(stopped.0.success(), "{}", stopped.1);
    let node = start();
    assert_holds(&node, "kept", end - 5, end + 1);
    assert!(node.said().contains("the node was stopped cleanly"), "{}", node.said());
}
