//! The Rust client and a node in this process: every call there is, and back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::value::RawValue;
use tidegate_client::{
    Acks, At, Client, Error, Fetch, From, Lines, NewRecord, NewTopic, OffsetReset, ProduceOptions, TopicChange, Value, batch,
};
use tidegate_server::config::{self, Config, Inputs};
use tidegate_server::node::Node;
use tidegate_types::{Codec, ErrorCode, SideEffects};

fn config(data: &Path) -> Config {
    let flag = |key: &str, value: &str| ("--set", key.to_owned(), value.to_owned());
    let flags = vec![flag("listeners", "127.0.0.1:0"), flag("log.dirs", data.to_str().unwrap())];
    config::load(&Inputs { flags, ..Inputs::default() }).unwrap().config
}

fn json(text: &str) -> Value {
    Value::Json(RawValue::from_string(text.to_owned()).unwrap())
}

fn code(error: &Error) -> Option<ErrorCode> {
    error.problem().and_then(|problem| problem.known_code())
}

fn partitions(count: u32) -> NewTopic {
    NewTopic { partitions: Some(count), ..NewTopic::default() }
}

const DEFAULT: ProduceOptions = ProduceOptions { acks: Acks::All, timeout: None };

/// A promise: while a node starts it says so, as a failure without effects that is worth a retry; afterwards the same client gets through.
#[tokio::test(flavor = "multi_thread")]
async fn a_starting_node_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let listening = Node::listen(&config(dir.path())).await.unwrap();
    let client = Client::new(&format!("http://{}", listening.address())).unwrap();
    let error = client.list_topics("").await.unwrap_err();
    assert_eq!((code(&error), error.is_retryable(), error.side_effects()), (Some(ErrorCode::Starting), true, SideEffects::None));
    let node = Box::pin(listening.recover()).await.unwrap();
    assert_eq!(client.list_topics("").await.unwrap(), []);
    node.stop().await;
}

/// A promise: topics can be made, ensured, found, changed and deleted, and a restart on the same directory keeps them and the cluster's identity.
#[tokio::test(flavor = "multi_thread")]
async fn topics() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&config(dir.path())).await.unwrap();
    let client = Client::new(&node.base_url()).unwrap();
    assert_eq!(client.create_topic("a", &partitions(2)).await.unwrap().partitions.len(), 2);
    assert_eq!(code(&client.create_topic("a", &partitions(2)).await.unwrap_err()), Some(ErrorCode::TopicAlreadyExists));
    assert!(!client.ensure_topic("a", &partitions(2)).await.unwrap().1);
    assert_eq!(code(&client.ensure_topic("a", &partitions(3)).await.unwrap_err()), Some(ErrorCode::TopicDiffers));
    assert!(client.ensure_topic("b", &NewTopic::default()).await.unwrap().1);
    let names = |topics: Vec<tidegate_client::TopicSummary>| topics.into_iter().map(|t| t.name).collect::<Vec<_>>();
    assert_eq!(names(client.list_topics("").await.unwrap()), ["a", "b"]);
    assert_eq!(names(client.list_topics("b").await.unwrap()), ["b"]);

    let config_of = |value: Option<&str>| BTreeMap::from([("retention.ms".to_owned(), value.map(str::to_owned))]);
    let changed = client.alter_topic("b", &TopicChange { partitions: Some(3), config: config_of(Some("1000")) }).await.unwrap();
    assert_eq!((changed.partitions.len(), changed.config["retention.ms"].source.as_str()), (3, "topic"));
    let changed = client.alter_topic("b", &TopicChange { partitions: None, config: config_of(None) }).await.unwrap();
    assert_eq!(changed.config["retention.ms"].source, "default");
    client.delete_topic("b").await.unwrap();
    assert_eq!(code(&client.describe_topic("b").await.unwrap_err()), Some(ErrorCode::TopicNotFound));

    let before = client.describe_cluster().await.unwrap();
    node.stop().await;
    let node = Node::start(&config(dir.path())).await.unwrap();
    let client = Client::new(&node.base_url()).unwrap();
    let after = client.describe_cluster().await.unwrap();
    assert_eq!((after.cluster_id, after.controller, after.nodes.len()), (before.cluster_id, Some(1), 1));
    assert_eq!(names(client.list_topics("").await.unwrap()), ["a"]);
    node.stop().await;
}

/// A promise: records come back as they went in, by whichever call they went in and come out.
#[tokio::test(flavor = "multi_thread")]
async fn records() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&config(dir.path())).await.unwrap();
    let client = Client::new(&node.base_url()).unwrap();
    client.create_topic("t", &NewTopic::default()).await.unwrap();

    let sent = [
        NewRecord::new(json("{ \"n\": 1e400, \"n\":-0 }")).key("k").header("h", "1").header("h", vec![0xff]).timestamp(5),
        NewRecord::new(json("null")).key("").timestamp(7),
        NewRecord::text("plain").timestamp(6),
        NewRecord::bytes(vec![0, 0xff]).key(vec![0xfe]).timestamp(8),
        NewRecord::new(Value::Tombstone).key("k").timestamp(9),
    ];
    let produced = client.produce("t", &sent[..2], &DEFAULT).await.unwrap();
    assert_eq!((produced.results[1].offset, produced.durability.as_str()), (1, "fsync"));
    client.produce_to("t", 0, &sent[2..3], &ProduceOptions { acks: Acks::Leader, timeout: Some(Duration::from_secs(5)) }).await.unwrap();
    let mut lines = Lines::new();
    lines.push(&sent[3]).unwrap();
    assert_eq!(client.produce_lines("t", lines, &DEFAULT).await.unwrap().committed_records, 1);
    let packed = batch::encode(&sent[4..], Codec::Zstd).unwrap();
    let appended = client.produce_batches("t", 0, packed, &DEFAULT).await.unwrap();
    assert_eq!((appended.base_offset, appended.last_offset), (Some(4), Some(4)));

    let fetched = client.fetch("t", 0, &Fetch::default()).await.unwrap();
    assert!(fetched.caught_up && fetched.next_offset == 5 && fetched.log_start_offset == 0);
    for (new, record) in sent.iter().zip(&fetched.records) {
        let seen = (&record.key, &record.value, &record.headers, Some(record.timestamp));
        assert_eq!(seen, (&new.key, &new.value, &new.headers, new.timestamp));
    }
    let batches = client.fetch_batches("t", 0, &Fetch::from_offset(3)).await.unwrap();
    let mut offsets = Vec::new();
    for stored in batches.batches() {
        batch::read(&stored.unwrap(), 3, |record| offsets.push(record.offset.get())).unwrap();
    }
    assert_eq!((offsets, batches.next_offset, batches.high_watermark), (vec![3, 4], 5, 5));
    let value = client.fetch_value("t", 0, 0).await.unwrap();
    assert_eq!(value.bytes.as_deref(), Some(&b"{ \"n\": 1e400, \"n\":-0 }"[..]));
    assert_eq!(client.fetch_value("t", 0, 4).await.unwrap().bytes, None);
    node.stop().await;
}

/// A promise: positions mean what they say, and one that is gone is a problem with the bounds in it.
#[tokio::test(flavor = "multi_thread")]
async fn positions() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&config(dir.path())).await.unwrap();
    let client = Client::new(&node.base_url()).unwrap();
    client.create_topic("t", &NewTopic::default()).await.unwrap();
    let records: Vec<_> = [10, 30, 20].map(|time| NewRecord::text(time.to_string()).timestamp(time)).into();
    client.produce("t", &records, &DEFAULT).await.unwrap();

    let first = async |from: From| {
        let fetched = client.fetch("t", 0, &Fetch { from, max_records: Some(1), ..Fetch::default() }).await.unwrap();
        fetched.records.first().map(|record| record.offset)
    };
    assert_eq!(first(From::Earliest).await, Some(0));
    assert_eq!(first(From::Latest).await, None);
    assert_eq!(first(From::Timestamp(15)).await, Some(1));
    assert_eq!(first(From::Tail(1)).await, Some(2));
    let offsets = client.offsets("t", 0, None).await.unwrap();
    assert_eq!((offsets.earliest_offset, offsets.latest_offset, offsets.offset), (0, 3, None));
    for (question, answer) in
        [(At::Earliest, (0, None)), (At::Latest, (3, None)), (At::MaxTimestamp, (1, Some(30))), (At::Timestamp(15), (1, Some(30)))]
    {
        let offsets = client.offsets("t", 0, Some(question)).await.unwrap();
        assert_eq!(offsets.offset, Some(answer.0), "{question:?}");
        assert!(answer.1.is_none() || offsets.timestamp == answer.1, "{question:?}: {offsets:?}");
    }
    let gone = client.fetch("t", 0, &Fetch::from_offset(99)).await.unwrap_err();
    assert_eq!(code(&gone), Some(ErrorCode::OffsetOutOfRange));
    assert_eq!(gone.problem().unwrap().extras["latest_offset"], 3);
    let reset = client.fetch("t", 0, &Fetch { reset: OffsetReset::Earliest, ..Fetch::from_offset(99) }).await.unwrap();
    assert_eq!(reset.records[0].offset, 0);
    node.stop().await;
}
