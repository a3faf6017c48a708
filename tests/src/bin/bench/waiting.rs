//! What is no rate: waiting fetches and memory.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use tidegate_tests::process::Process;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::load::{Connection, Measured, Protocol, get, histogram, post, record};
use super::machine::{cpu_seconds, resident_mib};
use super::workload::create_topic;

/// A figure in words.
#[derive(Debug, Serialize)]
pub(crate) struct Other {
    pub(crate) what: String,
    pub(crate) figure: String,
    pub(crate) goal: &'static str,
}

/// Measures all of them.
pub(crate) async fn measure(duration: Duration) -> anyhow::Result<Vec<Other>> {
    let mut figures = long_polls(duration).await?;
    let data = tempfile::tempdir()?;
    let node = Process::start(data.path())?;
    create_topic(node.address(), "many", 100)?;
    let figure = format!("{} MiB resident", resident_mib(node.id())?);
    figures.push(Other { what: "idle node with 100 partitions".to_owned(), figure, goal: "below 60 MiB" });
    Ok(figures)
}

async fn long_polls(duration: Duration) -> anyhow::Result<Vec<Other>> {
    const WAITING: u32 = 10_000;
    let data = tempfile::tempdir()?;
    let node = Process::start(data.path())?;
    create_topic(node.address(), "idle", 1)?;
    create_topic(node.address(), "live", 1)?;
    let late = wake_ups(node.address()).await?;
    let what = format!("a waiting fetch is answered after the append's own answer by (p50, p99 of {})", late.latencies.len());
    let figure = format!("{:?}, {:?}", late.percentile(50.0), late.percentile(99.0));
    let wake_up = Other { what, figure, goal: "5 ms" };
    let mut streams = Vec::with_capacity(WAITING as usize);
    for i in 0..WAITING {
        // Loopback has addresses enough that ports do not run out.
        let mut stream = TcpStream::connect(node.address()).await.with_context(|| format!("connection {i}; raise `ulimit -n`"))?;
        stream.write_all(&get("/v1/topics/idle/partitions/0/records?at=latest&max_wait_ms=55000")).await?;
        streams.push(stream);
    }
    // Connections that are still being taken, and heads that are still being read, are no waiting.
    tidegate_tests::http::await_metric(node.address(), "tidegate_waiting_requests{api=\"fetch\"}", WAITING)?;
    let (before, start) = (cpu_seconds(node.id())?, Instant::now());
    tokio::time::sleep(duration).await;
    let share = (cpu_seconds(node.id())? - before) / start.elapsed().as_secs_f64();
    let figure = format!("{:.2} % of a core, {} MiB resident", share * 100.0, resident_mib(node.id())?);
    Ok(vec![wake_up, Other { what: format!("{WAITING} waiting fetches"), figure, goal: "below 1 % of a core" }])
}

/// How long after an append's answer the fetch that waited for it has its own. Negative differences (the fetch was first) count as 0.
async fn wake_ups(address: SocketAddr) -> anyhow::Result<Measured> {
    const TIMES: usize = 2_000;
    let (mut waiter, mut producer) = (Connection::open(address, Protocol::Http).await?, Connection::open(address, Protocol::Http).await?);
    let append = post("/v1/topics/live/partitions/0/records", "application/json", br#"{"records":[{"text":"x"}]}"#);
    let (mut latencies, begin) = (histogram()?, Instant::now());
    for offset in 0..TIMES {
        let poll = get(&format!("/v1/topics/live/partitions/0/records?offset={offset}&max_wait_ms=10000"));
        let waiting = async {
            waiter.exchange(&poll).await?;
            Ok::<_, anyhow::Error>(Instant::now())
        };
        let appending = async {
            // Let the fetch arrive and wait; nothing tells when it does.
            tokio::time::sleep(Duration::from_millis(1)).await;
            producer.exchange(&append).await?;
            Ok(Instant::now())
        };
        let (seen, answered) = tokio::try_join!(waiting, appending)?;
        record(&mut latencies, seen.saturating_duration_since(answered));
    }
    Ok(Measured::new(begin.elapsed(), latencies))
}
