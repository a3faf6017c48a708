//! What writing costs besides its rate: syncs for each request, and what the deletion of a large segment does to those who write meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use tidegate_client::batch;
use tidegate_tests::http;
use tidegate_tests::process::Process;

use super::load::{Load, Protocol, post};
use super::waiting::Other;
use super::workload::{Batch, KIB, create, create_topic, envelope};

const JSON: &str = "application/json";

/// Measures both.
pub(crate) async fn measure(duration: Duration) -> anyhow::Result<Vec<Other>> {
    let mut figures = syncs(duration).await?;
    figures.push(deletion(duration).await?);
    Ok(figures)
}

async fn syncs(duration: Duration) -> anyhow::Result<Vec<Other>> {
    let data = tempfile::tempdir()?;
    let node = Process::start(data.path())?;
    create_topic(node.address(), "bench", 1)?;
    let mut figures = Vec::new();
    for connections in [1, 16, 256] {
        let load = single(node.address(), "bench", connections);
        load.run(duration / 4).await?;
        let before = synced(node.address())?;
        let measured = load.run(duration).await?;
        let syncs = synced(node.address())? - before;
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let figure = format!("{:.3}; p99 {:?}", syncs / measured.latencies.len() as f64, measured.percentile(99.0));
        let what = format!("syncs a request, one record of 1 KiB each, {connections} in flight, 1 partition");
        figures.push(Other { what, figure, goal: "" });
    }
    Ok(figures)
}

/// One record of 1 KiB a request.
fn single(address: SocketAddr, topic: &str, connections: usize) -> Load {
    let request = post(&format!("/v1/topics/{topic}/partitions/0/records"), JSON, &envelope(1, KIB));
    Load { address, protocol: Protocol::Http, requests: [request].into(), connections }
}

fn synced(address: SocketAddr) -> anyhow::Result<f64> {
    Ok(http::metric(address, "tidegate_log_fsync_seconds_count")?)
}

/// Three times: a round in which nothing is deleted, one in which a segment of 1 GiB is.
async fn deletion(duration: Duration) -> anyhow::Result<Other> {
    const ROUNDS: usize = 3;
    const SEGMENT_BYTES: usize = 1 << 30;
    let data = tempfile::tempdir()?;
    let node = Process::start(data.path())?;
    let config = format!(r#"{{"durability":"replicated","segment.bytes":"{SEGMENT_BYTES}"}}"#);
    create(node.address(), &format!(r#"{{"name":"old","partitions":1,"config":{config}}}"#))?;
    create_topic(node.address(), "live", 1)?;
    let ends = fill(node.address(), ROUNDS, SEGMENT_BYTES)?;
    // What is still on its way to the disk is nobody's latency.
    rustix::fs::sync();
    let load = single(node.address(), "live", 16);
    load.run(duration / 4).await?;
    let (mut quiet, mut deleting) = (Vec::new(), Vec::new());
    for end in ends {
        quiet.push(load.run(duration).await?.percentile(99.0));
        let address = node.address();
        let trim = async {
            tokio::time::sleep(duration / 4).await;
            let request = http::Request::json("/v1/topics/old/partitions/0/trim", format!(r#"{{"before_offset":{end}}}"#));
            let answer = tokio::task::spawn_blocking(move || request.send(address)).await??;
            ensure!(answer.status == 200, "trimming: {}", answer.text());
            Ok(())
        };
        let (measured, ()) = tokio::try_join!(load.run(duration), trim)?;
        deleting.push(measured.percentile(99.0));
    }
    let what = "p99 of one record a request, 16 connections, synced: alone, and while a segment of 1 GiB is deleted".to_owned();
    Ok(Other { what, figure: format!("{quiet:?}, {deleting:?}"), goal: "below 10 ms more" })
}

/// Writes `segments` whole segments and the beginning of another one; gives where each ends.
fn fill(address: SocketAddr, segments: usize, segment_bytes: usize) -> anyhow::Result<Vec<u64>> {
    const BATCHES: usize = 30;
    let batch = Batch::of(KIB)?;
    let body = batch.body.repeat(BATCHES);
    let (records, requests) = ((batch.records * BATCHES) as u64, segment_bytes / body.len());
    let mut ends = Vec::new();
    for n in 0..=segments * requests {
        let request = http::Request::new("POST", "/v1/topics/old/partitions/0/batches").header("Content-Type", batch::MEDIA_TYPE);
        let answer = request.body(body.clone()).send(address)?;
        ensure!(answer.status == 200, "filling: {}", answer.text());
        if n > 0 && n % requests == 0 {
            ends.push(n as u64 * records);
        }
    }
    Ok(ends)
}
