//! Made-up servers: each answers as its script says.

#![allow(dead_code, reason = "each test file uses what it needs")]

pub(crate) mod partitions;

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_client::{Client, NewRecord};
use tidegate_types::Codec;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a made-up server says to a request (its first line in small letters, and its body).
pub(crate) type Script = Arc<dyn Fn(&str, &[u8]) -> Says + Send + Sync>;

/// What it says.
pub(crate) enum Says {
    /// A status and JSON.
    Json(u16, Value),
    /// The same with a header.
    With((&'static str, String), u16, Value),
    /// Stored batches, and the next offset.
    Batches(Vec<u8>, u64),
    /// As many zeros as the other side takes, with a length announced if there is one.
    Flood(Option<usize>),
    /// Nothing, for ever.
    Silence,
    /// It hangs up.
    End,
}

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(crate) async fn start(script: impl Fn(&str, &[u8]) -> Says + Send + Sync + 'static) -> Self {
        let script: Script = Arc::new(script);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&script)));
            }
        });
        Self { address, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url()).unwrap()
    }
}

async fn serve(mut stream: TcpStream, script: Script) {
    while let Some((line, body)) = read_request(&mut stream).await {
        let answer = match script(&line, &body) {
            Says::End => return,
            Says::Silence => std::future::pending().await,
            Says::Flood(announced) => return flood(&mut stream, announced).await,
            Says::Json(status, answer) => json_answer("x-nothing: more", status, &answer),
            Says::With((name, value), status, answer) => json_answer(&format!("{name}: {value}"), status, &answer),
            Says::Batches(batches, next) => {
                let places = format!("next-offset: {next}\r\nhigh-watermark: 1000\r\nlog-start-offset: 0");
                let head = format!("HTTP/1.1 200 x\r\n{places}\r\ncontent-length: {}\r\n\r\n", batches.len());
                [head.into_bytes(), batches].concat()
            }
        };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn json_answer(header: &str, status: u16, answer: &Value) -> Vec<u8> {
    let kind = if status < 300 { "json" } else { "problem+json" };
    let answer = answer.to_string();
    let length = answer.len();
    format!("HTTP/1.1 {status} x\r\n{header}\r\ncontent-type: application/{kind}\r\ncontent-length: {length}\r\n\r\n{answer}").into_bytes()
}

async fn flood(stream: &mut TcpStream, announced: Option<usize>) {
    let length = announced.map_or_else(|| "connection: close".to_owned(), |length| format!("content-length: {length}"));
    let places = "next-offset: 9\r\nhigh-watermark: 1000\r\nlog-start-offset: 0";
    let head = format!("HTTP/1.1 200 x\r\ncontent-type: application/json\r\n{places}\r\n{length}\r\n\r\n");
    let mut is_heard = stream.write_all(head.as_bytes()).await.is_ok();
    let zeros = vec![0; 1 << 20];
    while is_heard {
        is_heard = stream.write_all(&zeros).await.is_ok();
    }
}

pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap().to_ascii_lowercase();
    let length = text.split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().trim().parse().unwrap());
    while bytes.len() < head + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    Some((text.lines().next().unwrap().to_owned(), bytes.split_off(head)))
}

/// A topic `t` whose partitions are all led by `leader`.
pub(crate) fn topic_of(partitions: u32, leader: u64) -> Value {
    let partition =
        |index| json!({"partition": index, "leader": leader, "leader_epoch": 0, "replicas": [1, 2], "in_sync_replicas": [1, 2]});
    let partitions: Vec<_> = (0..partitions).map(partition).collect();
    json!({"name": "t", "topic_id": "x", "partitions": partitions, "replication_factor": 2, "config": {}, "internal": false})
}

pub(crate) fn cluster(nodes: &[(u64, String)]) -> Value {
    let nodes: Vec<_> = nodes.iter().map(|(id, address)| json!({"node_id": id, "client_address": address})).collect();
    json!({"cluster_id": "c", "metadata_version": 1, "nodes": nodes, "voters": [1], "offline_partitions": 0, "under_replicated_partitions": 0})
}

pub(crate) fn offsets(latest: u64) -> Says {
    Says::Json(200, json!({"partition": 0, "earliest_offset": 0, "latest_offset": latest, "last_stable_offset": latest, "leader_epoch": 0}))
}

pub(crate) fn problem(status: u16, code: &str, is_retryable: bool, side_effects: &str) -> Says {
    Says::Json(status, json!({"code": code, "status": status, "retryable": is_retryable, "side_effects": side_effects}))
}

/// What a node says to a write of one record.
pub(crate) fn written() -> Says {
    Says::Json(200, json!({"base_offset": 7, "last_offset": 7, "durability": "fsync"}))
}

/// What a node says to a producer that asks for an id.
pub(crate) fn identity(producer_id: i64) -> Says {
    Says::Json(201, json!({"producer_id": producer_id, "epoch": 0}))
}

pub(crate) fn asks_for_identity(line: &str) -> bool {
    line.starts_with("post /v1/producers ")
}

pub(crate) fn is_write(line: &str) -> bool {
    line.starts_with("post /v1/topics/t/partitions/0/batches")
}

/// A stored batch of so many records from `base` on.
pub(crate) fn batch(base: u64, records: usize) -> Vec<u8> {
    let records: Vec<_> = (0..records).map(|n| NewRecord::text(n.to_string()).timestamp(1)).collect();
    let mut bytes = tidegate_client::batch::encode(&records, Codec::None).unwrap().to_vec();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes
}
