//! First figures, as ratios taken in one run: a node as a child process, beside it a bare axum handler that only parses the same JSON.
//!
//! `bench [SECONDS]` prints a Markdown table. Both servers and the load share this machine's cores, so only the ratios mean something elsewhere.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::routing::post;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_tests::http;
use tidegate_tests::process::Process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 3;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("bare") {
        return serve_bare();
    }
    let seconds = first.map_or(Ok(4), |text| text.parse()).context("bench [SECONDS]")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(Duration::from_secs(seconds)))
}

async fn run(duration: Duration) -> anyhow::Result<()> {
    say("| what | figure |\n|---|---|");
    produce(duration).await?;
    waiting_fetches(duration).await?;
    memory()?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a command's output")]
fn say(line: &str) {
    println!("{line}");
}

// ---- one record a request ----

async fn produce(duration: Duration) -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let node = Process::start(data.path())?;
    create_topic(node.address(), "bench", 1)?;
    let bare = Bare::start()?;
    let body = format!(r#"{{"records":[{{"key":"k","value":{{"payload":"{}"}}}}]}}"#, "x".repeat(960));
    let request = post_request("/v1/topics/bench/partitions/0/records", &body);
    // First touch of memory and of code paths counts for nobody.
    load(node.address(), &request, CONNECTIONS, duration / 4).await?;
    load(bare.address, &request, CONNECTIONS, duration / 4).await?;
    let before = Coalescing::read(node.address())?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(load(node.address(), &request, CONNECTIONS, duration).await?);
        theirs.push(load(bare.address, &request, CONNECTIONS, duration).await?);
    }
    let coalescing = Coalescing::read(node.address())?.since(before);
    let ratios: Vec<_> = ours.iter().zip(&theirs).map(|(a, b)| a.per_second() / b.per_second()).collect();
    say(&format!("| 1 KiB JSON, one record a request, {CONNECTIONS} connections, synced | {} |", middle(&mut ours)));
    say(&format!("| bare axum handler that parses the same JSON | {} |", middle(&mut theirs)));
    say(&format!("| ratio (median of {ROUNDS}) | **{:.2}** |", median(ratios)));
    say(&format!(
        "| records a batch (mean), syncs per append | {:.1}, {:.3} |",
        coalescing.records_per_batch(),
        coalescing.syncs_per_record()
    ));
    let mut one = vec![load(node.address(), &request, 1, duration).await?];
    let mut bare_one = vec![load(bare.address, &request, 1, duration).await?];
    say(&format!("| the same, one connection | {} |", middle(&mut one)));
    say(&format!("| bare handler, one connection | {} |", middle(&mut bare_one)));
    Ok(())
}

/// What a closed loop of requests has measured.
#[derive(Debug)]
struct Measured {
    elapsed: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Measured {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn percentile(&self, percent: usize) -> Duration {
        self.latencies.get((self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// The round with the median rate, in words.
fn middle(rounds: &mut [Measured]) -> String {
    rounds.sort_by(|a, b| a.per_second().total_cmp(&b.per_second()));
    let round = &rounds[rounds.len() / 2];
    format!("{:.0} requests/s, p50 {:?}, p99 {:?}", round.per_second(), round.percentile(50), round.percentile(99))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Sends `request` over and over on each connection, the next one when the answer is in.
async fn load(address: SocketAddr, request: &[u8], connections: usize, duration: Duration) -> anyhow::Result<Measured> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let request = request.to_vec();
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (mut latencies, mut buffer) = (Vec::new(), Vec::with_capacity(4096));
            while start.elapsed() < duration {
                let sent = Instant::now();
                stream.write_all(&request).await?;
                let status = read_answer(&mut stream, &mut buffer).await?;
                anyhow::ensure!(status == 200, "answered {status}: {}", String::from_utf8_lossy(&buffer));
                latencies.push(sent.elapsed());
            }
            Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    let elapsed = start.elapsed();
    latencies.sort_unstable();
    Ok(Measured { elapsed, latencies })
}

/// Reads one answer with a `Content-Length`; gives its status. `buffer` then holds it.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<u16> {
    buffer.clear();
    loop {
        anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed");
        let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head])?;
        let status = text.get(9..12).context("no status")?.parse()?;
        let length =
            text.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(|n| n.trim().parse::<usize>()));
        let end = head + 4 + length.context("no content-length")??;
        while buffer.len() < end {
            anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed");
        }
        return Ok(status);
    }
}

fn post_request(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn create_topic(address: SocketAddr, name: &str, partitions: u32) -> anyhow::Result<()> {
    let body = format!(r#"{{"name":"{name}","partitions":{partitions}}}"#);
    let answer = http::Request::json("/v1/topics", body).send(address)?;
    anyhow::ensure!(answer.status == 201, "creating {name}: {answer:?}");
    Ok(())
}

/// What the node's own counters say of its batches and syncs.
#[derive(Debug, Clone, Copy)]
struct Coalescing {
    batches: f64,
    records: f64,
    syncs: f64,
}

impl Coalescing {
    fn read(address: SocketAddr) -> anyhow::Result<Self> {
        let text = http::get(address, "/metrics")?.text();
        let value = |name: &str| {
            let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
            line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok()).with_context(|| format!("no metric {name}"))
        };
        Ok(Self {
            batches: value("tidegate_batch_records_count")?,
            records: value("tidegate_batch_records_sum")?,
            syncs: value("tidegate_log_fsync_seconds_count")?,
        })
    }

    fn since(self, before: Self) -> Self {
        Self { batches: self.batches - before.batches, records: self.records - before.records, syncs: self.syncs - before.syncs }
    }

    fn records_per_batch(self) -> f64 {
        self.records / self.batches
    }

    /// One record is one append here.
    fn syncs_per_record(self) -> f64 {
        self.syncs / self.records
    }
}

// ---- long polls ----

async fn waiting_fetches(duration: Duration) -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let node = Process::start(data.path())?;
    create_topic(node.address(), "idle", 1)?;
    create_topic(node.address(), "live", 1)?;
    let latencies = wake_ups(node.address()).await?;
    say(&format!(
        "| a waiting fetch is answered after the append's own answer by (p50, p99 of {}) | {:?}, {:?} |",
        latencies.latencies.len(),
        latencies.percentile(50),
        latencies.percentile(99)
    ));
    const WAITING: usize = 10_000;
    let mut streams = Vec::with_capacity(WAITING);
    for i in 0..WAITING {
        // Loopback has addresses enough that ports do not run out.
        let mut stream = TcpStream::connect(node.address()).await.with_context(|| format!("connection {i}; raise `ulimit -n`"))?;
        stream
            .write_all(b"GET /v1/topics/idle/partitions/0/records?at=latest&max_wait_ms=55000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await?;
        streams.push(stream);
    }
    let (before, start) = (cpu_seconds(node.id())?, Instant::now());
    tokio::time::sleep(duration).await;
    let share = (cpu_seconds(node.id())? - before) / start.elapsed().as_secs_f64();
    say(&format!("| {WAITING} waiting fetches | {:.2} % of a core, {} MiB resident |", share * 100.0, resident_kib(node.id())? / 1024));
    Ok(())
}

/// How long after an append's answer the fetch that waited for it has its own. Negative differences (the fetch was first) count as 0.
async fn wake_ups(address: SocketAddr) -> anyhow::Result<Measured> {
    const TIMES: usize = 2_000;
    let (mut waiter, mut producer) = (TcpStream::connect(address).await?, TcpStream::connect(address).await?);
    waiter.set_nodelay(true)?;
    producer.set_nodelay(true)?;
    let append = post_request("/v1/topics/live/partitions/0/records", r#"{"records":[{"text":"x"}]}"#);
    let (mut latencies, mut buffers) = (Vec::with_capacity(TIMES), (Vec::new(), Vec::new()));
    let begin = Instant::now();
    for offset in 0..TIMES {
        let poll =
            format!("GET /v1/topics/live/partitions/0/records?offset={offset}&max_wait_ms=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        waiter.write_all(poll.as_bytes()).await?;
        // Let it arrive and wait; nothing tells when it does.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let waiting = async {
            let status = read_answer(&mut waiter, &mut buffers.0).await;
            status.map(|status| (status, Instant::now()))
        };
        let appending = async {
            producer.write_all(&append).await?;
            let status = read_answer(&mut producer, &mut buffers.1).await;
            status.map(|status| (status, Instant::now()))
        };
        let ((fetched, seen), (appended, answered)) = tokio::try_join!(waiting, appending)?;
        anyhow::ensure!(fetched == 200 && appended == 200, "{fetched}, {appended}");
        latencies.push(seen.saturating_duration_since(answered));
    }
    latencies.sort_unstable();
    Ok(Measured { elapsed: begin.elapsed(), latencies })
}

// ---- memory ----

fn memory() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let node = Process::start(data.path())?;
    create_topic(node.address(), "many", 100)?;
    say(&format!("| idle node with 100 partitions | {} MiB resident |", resident_kib(node.id())? / 1024));
    Ok(())
}

fn resident_kib(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// User and system time so far.
fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().context("no fields")?.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok()).context("no times");
    // Linux counts 100 ticks a second for every program.
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

// ---- the bare handler ----

#[derive(Debug, Deserialize)]
struct Envelope {
    records: Vec<EnvelopeRecord>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "parsing it is all that is measured")]
struct EnvelopeRecord {
    key: Option<String>,
    value: Box<RawValue>,
}

fn serve_bare() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let parse = async |envelope: axum::Json<Envelope>| axum::Json(serde_json::json!({"results": envelope.0.records.len()}));
        let router = axum::Router::new().route("/v1/topics/bench/partitions/0/records", post(parse));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        say(&listener.local_addr()?.to_string());
        Ok(axum::serve(listener, router).await?)
    })
}

struct Bare {
    child: Child,
    address: SocketAddr,
}

impl Bare {
    fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?).arg("bare").stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        Ok(Self { child, address: line.trim().parse()? })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // An error here means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
