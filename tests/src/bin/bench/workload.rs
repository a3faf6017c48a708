//! The workloads: what is sent, by how many, to whom, and the goal. Each has its own node on its own directory.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use tempfile::TempDir;
use tidegate_client::{NewRecord, batch};
use tidegate_tests::http;
use tidegate_tests::process::Process;
use tidegate_types::Codec;

use super::bare::Bare;
use super::contender::{Contender, Work};
use super::disk;
use super::load::{Load, Protocol, get, post};
use super::peers::Peer;
use super::row::{Goal, Row};

const JSON: &str = "application/json";
const KIB: usize = 1024;
/// Bodies are about this large where nothing else is said.
const BATCH_BYTES: usize = 100_000;

/// Every workload, by the name that `--only` takes.
pub(crate) const ALL: [&str; 8] =
    ["json-1", "json-1-2p", "json-1-4p", "json-1-alone", "json-100", "batches-100k", "batches-small", "fetch-json"];

/// A row, with the processes and the directory that it needs for as long as it is measured.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) row: Row,
    pub(crate) absent: Vec<String>,
    _processes: Processes,
}

#[derive(Debug)]
struct Processes {
    node: Process,
    bare: Bare,
    peers: Vec<Peer>,
    // Last: its processes end before it goes.
    data: TempDir,
}

impl Processes {
    fn start() -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        Ok(Self { node: Process::start(&data.path().join("node"))?, bare: Bare::start()?, peers: Vec::new(), data })
    }

    fn load(address: SocketAddr, requests: Vec<Vec<u8>>, connections: usize) -> Load {
        Load { address, protocol: Protocol::Http, requests: requests.into(), connections }
    }

    /// The node and the bare handler, asked for the same.
    fn node_and_bare(&self, requests: &[Vec<u8>], connections: usize, records: usize, record_bytes: usize) -> Vec<Contender> {
        let node = Work::Requests { load: Self::load(self.node.address(), requests.to_vec(), connections), process: self.node.id() };
        let bare = Work::Requests { load: Self::load(self.bare.address(), requests.to_vec(), connections), process: self.bare.id() };
        vec![
            Contender { name: "tidegate", work: node, records, record_bytes },
            Contender { name: "bare axum handler", work: bare, records, record_bytes },
        ]
    }

    /// The node, and the plain loop that appends the same bytes.
    fn node_and_loop(
        &self,
        requests: Vec<Vec<u8>>,
        body_bytes: usize,
        connections: usize,
        records: usize,
        record_bytes: usize,
    ) -> Vec<Contender> {
        let node = Work::Requests { load: Self::load(self.node.address(), requests, connections), process: self.node.id() };
        let plain = Work::Appends { folder: self.data.path().to_owned(), bytes: body_bytes, in_flight: connections };
        vec![
            Contender { name: "tidegate", work: node, records, record_bytes },
            Contender { name: "plain append and `fdatasync`", work: plain, records, record_bytes },
        ]
    }
}

/// Gets everything for the workload `id` ready.
pub(crate) async fn prepare(id: &'static str) -> anyhow::Result<Prepared> {
    let mut processes = Processes::start()?;
    let mut absent = Vec::new();
    let row = match id {
        "json-1" => single(id, &mut processes, &mut absent, 1, 64).await?,
        "json-1-2p" => single(id, &mut processes, &mut absent, 2, 64).await?,
        "json-1-4p" => single(id, &mut processes, &mut absent, 4, 64).await?,
        "json-1-alone" => single(id, &mut processes, &mut absent, 1, 1).await?,
        "json-100" => {
            create_topic(processes.node.address(), "bench", 1)?;
            let contenders = processes.node_and_bare(&[post(&path(0, "records"), JSON, &envelope(100, KIB))], 16, 100, KIB);
            let title = "1 KiB JSON, 100 records a request, 16 connections, synced".to_owned();
            Row { id, title, goal: Goal::RateOrRatio { rate: 800e3, ratio: 0.3 }, contenders }
        }
        "batches-100k" => {
            let title = "stored batches of 100 KB (98 records of 1 KiB), 16 connections, synced".to_owned();
            batches(id, title, &processes, KIB, 16, Goal::Ratio { least: 0.9 })?
        }
        "batches-small" => {
            let title = "stored batches of 100 KB of 100-byte records, 8 connections, synced".to_owned();
            batches(id, title, &processes, 100, 8, Goal::Rate { least: 1e6 })?
        }
        "fetch-json" => fetch(id, &mut processes, &mut absent).await?,
        other => anyhow::bail!("there is no workload {other}; there are {}", ALL.join(", ")),
    };
    Ok(Prepared { row, absent, _processes: processes })
}

async fn single(
    id: &'static str,
    processes: &mut Processes,
    absent: &mut Vec<String>,
    partitions: usize,
    connections: usize,
) -> anyhow::Result<Row> {
    create_topic(processes.node.address(), "bench", partitions)?;
    let body = envelope(1, KIB);
    let requests: Vec<_> = (0..partitions).map(|partition| post(&path(partition, "records"), JSON, &body)).collect();
    let mut contenders = processes.node_and_bare(&requests, connections, 1, KIB);
    let goal = if connections == 1 {
        let sync = disk::append(processes.data.path(), KIB, 1, Duration::from_millis(500))?;
        Goal::Latency { times: 3.0, fdatasync_us: sync.percentile(50.0).as_secs_f64() * 1e6 }
    } else {
        Goal::Ratio { least: 0.6 }
    };
    if partitions == 1 {
        match Peer::nats().await? {
            None => absent.push(format!("{id}: nats-server is not installed")),
            Some(peer) => {
                let payload = [&vec![b'x'; KIB][..], b"\r\n"].concat();
                let load = Load { address: peer.address(), protocol: Protocol::Nats, requests: Arc::new([payload]), connections };
                let work = Work::Requests { load, process: peer.id() };
                contenders.push(Contender { name: "NATS JetStream (on file, not synced)", work, records: 1, record_bytes: KIB });
                processes.peers.push(peer);
            }
        }
    }
    let some = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let title = format!("1 KiB JSON, one record a request, {}, {}, synced", some(connections, "connection"), some(partitions, "partition"));
    Ok(Row { id, title, goal, contenders })
}

fn batches(
    id: &'static str,
    title: String,
    processes: &Processes,
    record_bytes: usize,
    connections: usize,
    goal: Goal,
) -> anyhow::Result<Row> {
    create_topic(processes.node.address(), "bench", 1)?;
    let records = BATCH_BYTES / (record_bytes + 8);
    let body = packed(records, record_bytes)?;
    let requests = vec![post(&path(0, "batches"), batch::MEDIA_TYPE, &body)];
    let contenders = processes.node_and_loop(requests, body.len(), connections, records, record_bytes);
    Ok(Row { id, title, goal, contenders })
}

/// 900 records of 1 KiB a page, from everywhere in a log of 200 pages, which the page cache holds.
async fn fetch(id: &'static str, processes: &mut Processes, absent: &mut Vec<String>) -> anyhow::Result<Row> {
    const PAGE: usize = 900;
    const PAGES: usize = 200;
    let address = processes.node.address();
    create_topic(address, "bench", 1)?;
    for _ in 0..PAGES * PAGE / 100 + 1 {
        let answer = http::Request::json(&path(0, "records"), envelope(100, KIB)).send(address)?;
        ensure!(answer.status == 200, "filling: {}", answer.text());
    }
    let target = |page: usize| format!("{}?offset={}&max_records={PAGE}&max_bytes=1100000", path(0, "records"), page * PAGE);
    let page = http::get(address, &target(0))?;
    ensure!(page.json()["records"].as_array().map(Vec::len) == Some(PAGE), "a page has not {PAGE} records");
    let kept = http::Request::new("PUT", "/page").body(page.body.clone()).send(processes.bare.address())?;
    ensure!(kept.status == 201, "the bare handler did not take the page");
    let requests: Vec<_> = (0..PAGES).map(|page| get(&target(page))).collect();
    let mut contenders = processes.node_and_bare(&requests, 8, PAGE, KIB);
    contenders[1].name = "bare axum handler, the page in memory";
    match Peer::nginx(&page.body).await? {
        None => absent.push(format!("{id}: nginx is not installed")),
        Some(peer) => {
            let work = Work::Requests { load: Processes::load(peer.address(), vec![get("/page")], 8), process: peer.id() };
            contenders.push(Contender { name: "nginx, the page as a file", work, records: PAGE, record_bytes: KIB });
            processes.peers.push(peer);
        }
    }
    let title = format!("JSON fetch of {PAGE} × 1 KiB, 8 connections, from the page cache");
    Ok(Row { id, title, goal: Goal::Rate { least: 1.3e6 }, contenders })
}

fn path(partition: usize, what: &str) -> String {
    format!("/v1/topics/bench/partitions/{partition}/{what}")
}

/// Text that no codec makes much smaller.
fn filler(bytes: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(LETTERS[usize::try_from(state >> 58).unwrap_or_default()])
    };
    (0..bytes).map(|_| next()).collect()
}

/// `records` records whose JSON value has `bytes` bytes.
fn envelope(records: usize, bytes: usize) -> Vec<u8> {
    let record = format!(r#"{{"key":"k","value":{{"payload":"{}"}}}}"#, filler(bytes - r#"{"payload":""}"#.len()));
    format!(r#"{{"records":[{}]}}"#, vec![record; records].join(",")).into_bytes()
}

/// One stored batch.
fn packed(records: usize, bytes: usize) -> anyhow::Result<Bytes> {
    let record = NewRecord::text(filler(bytes)).timestamp(1_763_709_600_000);
    Ok(batch::encode(&vec![record; records], Codec::None)?)
}

/// Makes a topic.
pub(crate) fn create_topic(address: SocketAddr, name: &str, partitions: usize) -> anyhow::Result<()> {
    let answer = http::Request::json("/v1/topics", format!(r#"{{"name":"{name}","partitions":{partitions}}}"#)).send(address)?;
    ensure!(answer.status == 201, "creating {name}: {}", answer.text());
    Ok(())
}

/// Whether `folder` has room for what a run leaves behind at its largest.
pub(crate) fn require_room(folder: &Path) -> anyhow::Result<()> {
    const ROOM: u64 = 20 << 30;
    let free = rustix::fs::statvfs(folder)?;
    let bytes = free.f_bavail * free.f_frsize;
    ensure!(bytes > ROOM, "{} has {} GiB free, a run needs up to {}", folder.display(), bytes >> 30, ROOM >> 30);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a record is as large as its row says.
    #[test]
    fn sizes_are_as_said() {
        let envelope: serde_json::Value = serde_json::from_slice(&envelope(3, KIB)).unwrap();
        assert_eq!((envelope["records"].as_array().unwrap().len(), envelope["records"][0]["value"].to_string().len()), (3, KIB));
        assert!(packed(BATCH_BYTES / (KIB + 8), KIB).unwrap().len().abs_diff(BATCH_BYTES) < 2 * KIB);
    }
}
