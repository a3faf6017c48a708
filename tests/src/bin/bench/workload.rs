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
use super::load::{FRESH, Load, Protocol, get, post};
use super::peers::Peer;
use super::row::{Goal, Row};

const JSON: &str = "application/json";
pub(crate) const KIB: usize = 1024;
/// Bodies are about this large where nothing else is said.
const BATCH_BYTES: usize = 100_000;

/// Every workload, by the name that `--only` takes.
pub(crate) const ALL: [&str; 15] = [
    "json-1",
    "json-1-2p",
    "json-1-4p",
    "json-1-alone",
    "json-100",
    "batches-100k",
    "batches-100k-4p",
    "batches-100k-16p",
    "batches-small",
    "batches-replicated",
    "keyed-json-1",
    "keyed-json-100",
    "keyed-batches-100k",
    "fetch-json",
    "fetch-batches",
];

/// A row, with the processes and the directory that it needs for as long as it is measured.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Nothing if who it is to be compared with is not here.
    pub(crate) row: Option<Row>,
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

    /// The node, and the plain loop that appends the same bytes, to as many files as there are partitions.
    fn node_and_loop(&self, batch: &Batch, partitions: usize, connections: usize, is_synced: bool) -> Vec<Contender> {
        let Batch { ref body, records, record_bytes } = *batch;
        let requests = (0..partitions).map(|partition| post(&path(partition, "batches"), batch::MEDIA_TYPE, body)).collect();
        let node = Work::Requests { load: Self::load(self.node.address(), requests, connections), process: self.node.id() };
        let (folder, bytes) = (self.data.path().to_owned(), body.len());
        let plain = Work::Appends { folder, files: partitions, bytes, in_flight: connections, is_synced };
        let name = if is_synced { "plain append and `fdatasync`" } else { "plain append" };
        vec![Contender { name: "tidegate", work: node, records, record_bytes }, Contender { name, work: plain, records, record_bytes }]
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
        "batches-100k" => appends(id, &processes, 1)?,
        "batches-100k-4p" => appends(id, &processes, 4)?,
        "batches-100k-16p" => appends(id, &processes, 16)?,
        "batches-small" => {
            create_topic(processes.node.address(), "bench", 1)?;
            let title = "stored batches of 100 KB of 100-byte records, 8 connections, synced".to_owned();
            Row { id, title, goal: Goal::Rate { least: 1e6 }, contenders: processes.node_and_loop(&Batch::of(100)?, 1, 8, true) }
        }
        "batches-replicated" => {
            create(processes.node.address(), r#"{"name":"bench","partitions":1,"config":{"durability":"replicated"}}"#)?;
            let title = "stored batches of 100 KB (96 records of 1 KiB), 16 connections, `durability=replicated`: not synced".to_owned();
            Row { id, title, goal: Goal::Bandwidth { least: 1500.0 }, contenders: processes.node_and_loop(&Batch::of(KIB)?, 1, 16, false) }
        }
        "keyed-json-1" => keyed(id, &processes, &envelope(1, KIB), 1, 64)?,
        "keyed-json-100" => keyed(id, &processes, &envelope(100, KIB), 100, 16)?,
        "keyed-batches-100k" => keyed_batches(id, &processes)?,
        "fetch-json" => fetch(id, &mut processes, &mut absent).await?,
        "fetch-batches" => match fetch_batches(id, &mut processes).await? {
            Some(row) => row,
            None => {
                let absent = vec![format!("{id}: nginx is not installed")];
                return Ok(Prepared { row: None, absent, _processes: processes });
            }
        },
        other => anyhow::bail!("there is no workload {other}; there are {}", ALL.join(", ")),
    };
    Ok(Prepared { row: Some(row), absent, _processes: processes })
}

/// 100 KB a request, synced, against as many files.
fn appends(id: &'static str, processes: &Processes, partitions: usize) -> anyhow::Result<Row> {
    const CONNECTIONS: usize = 16;
    create_topic(processes.node.address(), "bench", partitions)?;
    let over = if partitions == 1 { String::new() } else { format!(", {partitions} partitions") };
    let title = format!("stored batches of 100 KB (96 records of 1 KiB), {CONNECTIONS} connections{over}, synced");
    let contenders = processes.node_and_loop(&Batch::of(KIB)?, partitions, CONNECTIONS, true);
    Ok(Row { id, title, goal: Goal::Ratio { least: 0.9 }, contenders })
}

/// The same requests with an `Idempotency-Key` of their own, and without.
fn keyed(id: &'static str, processes: &Processes, body: &[u8], records: usize, connections: usize) -> anyhow::Result<Row> {
    create_topic(processes.node.address(), "bench", 1)?;
    let plain = post(&path(0, "records"), JSON, body);
    let some = if records == 1 { "one record".to_owned() } else { format!("{records} records") };
    let title = format!("1 KiB JSON, {some} a request, {connections} connections, synced: with a key and without");
    Ok(with_and_without(id, title, processes, &plain, connections, records))
}

fn keyed_batches(id: &'static str, processes: &Processes) -> anyhow::Result<Row> {
    create_topic(processes.node.address(), "bench", 1)?;
    let Batch { body, records, .. } = Batch::of(KIB)?;
    let plain = post(&path(0, "batches"), batch::MEDIA_TYPE, &body);
    let title = "stored batches of 100 KB (96 records of 1 KiB), 16 connections, synced: with a key and without".to_owned();
    Ok(with_and_without(id, title, processes, &plain, 16, records))
}

fn with_and_without(id: &'static str, title: String, processes: &Processes, plain: &[u8], connections: usize, records: usize) -> Row {
    let work = |request: Vec<u8>| Work::Requests {
        load: Processes::load(processes.node.address(), vec![request], connections),
        process: processes.node.id(),
    };
    let contenders = vec![
        Contender { name: "with an `Idempotency-Key`", work: work(with_key(plain)), records, record_bytes: KIB },
        Contender { name: "without", work: work(plain.to_vec()), records, record_bytes: KIB },
    ];
    Row { id, title, goal: Goal::Ratio { least: 0.95 }, contenders }
}

/// The request with a header in which each has a key of its own.
fn with_key(request: &[u8]) -> Vec<u8> {
    let head = request.windows(2).position(|window| window == b"\r\n").map_or(0, |at| at + 2);
    [&request[..head], format!("Idempotency-Key: {FRESH}\r\n").as_bytes(), &request[head..]].concat()
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
        let sync = disk::append(processes.data.path(), 0, KIB, 1, true, Duration::from_millis(500))?;
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

/// A body of one stored batch.
pub(crate) struct Batch {
    pub(crate) body: Bytes,
    pub(crate) records: usize,
    record_bytes: usize,
}

impl Batch {
    /// As many records of `record_bytes` as make about [`BATCH_BYTES`].
    pub(crate) fn of(record_bytes: usize) -> anyhow::Result<Self> {
        let records = BATCH_BYTES / (record_bytes + 8);
        Ok(Self { body: packed(records, record_bytes)?, records, record_bytes })
    }
}

/// Ranges of 64 MiB of stored batches, from the page cache; nginx gives out the same bytes as a file.
async fn fetch_batches(id: &'static str, processes: &mut Processes) -> anyhow::Result<Option<Row>> {
    const RANGE_BYTES: usize = 64 << 20;
    let address = processes.node.address();
    create_topic(address, "bench", 1)?;
    let batch = Batch::of(KIB)?;
    for _ in 0..=RANGE_BYTES / batch.body.len() {
        let answer = http::Request::new("POST", &path(0, "batches")).body(batch.body.to_vec());
        let answer = answer.header("Content-Type", batch::MEDIA_TYPE).send(address)?;
        ensure!(answer.status == 200, "filling: {}", answer.text());
    }
    let target = format!("{}?offset=0&max_bytes={RANGE_BYTES}", path(0, "batches"));
    let range = http::get(address, &target)?.body;
    let batches = range.len() / batch.body.len();
    ensure!(batches > 0 && range.len() == batches * batch.body.len(), "a range of {} bytes is no whole batches", range.len());
    let Some(peer) = Peer::nginx(&range).await? else { return Ok(None) };
    let (records, record_bytes) = (batches * batch.records, batch.record_bytes);
    let node = Work::Requests { load: Processes::load(address, vec![get(&target)], 1), process: processes.node.id() };
    let nginx = Work::Requests { load: Processes::load(peer.address(), vec![get("/page")], 1), process: peer.id() };
    processes.peers.push(peer);
    let contenders = vec![
        Contender { name: "tidegate", work: node, records, record_bytes },
        Contender { name: "nginx with `sendfile`, the range as a file", work: nginx, records, record_bytes },
    ];
    let title = "range reads of 64 MiB of stored batches, 1 connection, from the page cache".to_owned();
    Ok(Some(Row { id, title, goal: Goal::RangeRead { least: 0.95, cpu_times: 1.2 }, contenders }))
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
pub(crate) fn envelope(records: usize, bytes: usize) -> Vec<u8> {
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
    create(address, &format!(r#"{{"name":"{name}","partitions":{partitions}}}"#))
}

/// Makes a topic as the JSON says.
pub(crate) fn create(address: SocketAddr, topic: &str) -> anyhow::Result<()> {
    let answer = http::Request::json("/v1/topics", topic.to_owned()).send(address)?;
    ensure!(answer.status == 201, "creating {topic}: {}", answer.text());
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
