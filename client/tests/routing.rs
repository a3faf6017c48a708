//! Where calls go, against made-up servers: to the leader, to the next one when that has moved or died, and each batch as the same bytes at every try.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_client::{Client, NewRecord, ProducerError};
use tidegate_types::SideEffects;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What a made-up server says to a request (its first line and its body): a status and JSON; `None` hangs up, after the last word never comes one.
type Script = Arc<dyn Fn(&str, &[u8]) -> Option<(u16, Value)> + Send + Sync>;

struct Fake {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    async fn start(script: Script) -> Self {
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
}

async fn serve(mut stream: TcpStream, script: Script) {
    while let Some((line, body)) = read_request(&mut stream).await {
        let Some((status, answer)) = script(&line, &body) else { return };
        let kind = if status < 300 { "application/json" } else { "application/problem+json" };
        let answer = answer.to_string();
        let head = format!("HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", answer.len());
        if stream.write_all(format!("{head}{answer}").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
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

fn topic(leader: u64) -> Value {
    let partition = json!({"partition": 0, "leader": leader, "leader_epoch": 0, "replicas": [1, 2], "in_sync_replicas": [1, 2]});
    json!({"name": "t", "topic_id": "x", "partitions": [partition], "replication_factor": 2, "config": {}, "internal": false})
}

fn cluster(nodes: &[(u64, String)]) -> Value {
    let nodes: Vec<_> = nodes.iter().map(|(id, address)| json!({"node_id": id, "client_address": address})).collect();
    json!({"cluster_id": "c", "metadata_version": 1, "nodes": nodes, "voters": [1], "offline_partitions": 0, "under_replicated_partitions": 0})
}

fn written() -> Option<(u16, Value)> {
    Some((200, json!({"base_offset": 7, "last_offset": 7, "durability": "fsync"})))
}

fn is_write(line: &str) -> bool {
    line.starts_with("post /v1/topics/t/partitions/0/batches")
}

/// What the fakes of one test have in common.
#[derive(Default)]
struct World {
    leader: u64,
    nodes: Vec<(u64, String)>,
    writes: Vec<(u64, Vec<u8>)>,
    descriptions: usize,
}

/// A node that takes writes only while it leads, and tells of the cluster.
async fn node(id: u64, world: &Arc<Mutex<World>>) -> Fake {
    let shared = Arc::clone(world);
    let fake = Fake::start(Arc::new(move |line: &str, body: &[u8]| {
        let mut world = shared.lock().unwrap();
        if line.starts_with("get /v1/topics/t ") {
            world.descriptions += 1;
            return Some((200, topic(world.leader)));
        }
        if line.starts_with("get /v1/cluster ") {
            return Some((200, cluster(&world.nodes)));
        }
        assert!(is_write(line), "{line}");
        world.writes.push((id, body.to_vec()));
        if world.leader == id {
            return written();
        }
        let problem = json!({"code": "not-leader", "status": 421, "retryable": true, "side_effects": "none", "leader": world.leader});
        Some((421, problem))
    }))
    .await;
    world.lock().unwrap().nodes.push((id, fake.address.to_string()));
    fake
}

fn client_of(fake: &Fake) -> Client {
    Client::new(&format!("http://{}", fake.address)).unwrap()
}

fn writers(world: &Mutex<World>) -> Vec<u64> {
    world.lock().unwrap().writes.drain(..).map(|(id, _)| id).collect()
}

/// A promise: records go straight to the leader; when it has moved, to the new one; when it is dead, to whoever leads then; and with no leader at hand, to the
/// servers that the caller named. What is known is not asked for again.
#[tokio::test]
async fn calls_go_to_the_leader() {
    let world = Arc::new(Mutex::new(World { leader: 2, ..World::default() }));
    let one = node(1, &world).await;
    let two = node(2, &world).await;
    let client = client_of(&one);
    let producer = client.producer().retry_backoff(Duration::from_millis(1)).build().unwrap();
    let send = async || producer.send("t", NewRecord::text("x")).await.unwrap().await.unwrap().offset;
    for _ in 0..3 {
        assert_eq!(send().await, 7);
    }
    assert_eq!((writers(&world), world.lock().unwrap().descriptions), (vec![2, 2, 2], 1));

    world.lock().unwrap().leader = 1;
    send().await;
    send().await;
    // Within the pause between two looks it may be asked once more, but it is not asked every time.
    let after = writers(&world);
    assert!(after.ends_with(&[1]) && after.iter().filter(|id| **id == 2).count() <= 20, "{after:?}");

    world.lock().unwrap().leader = 2;
    send().await;
    world.lock().unwrap().leader = 1;
    drop(two);
    writers(&world);
    send().await;
    assert_eq!(writers(&world), [1]);
}

/// A promise: a cluster of one node is reached by the address that the caller gave, whatever it calls itself.
#[tokio::test]
async fn one_node_is_reached_by_its_given_address() {
    let world = Arc::new(Mutex::new(World { leader: 1, ..World::default() }));
    let one = node(1, &world).await;
    world.lock().unwrap().nodes[0].1 = "127.0.0.1:1".to_owned();
    let producer = client_of(&one).producer().build().unwrap();
    assert_eq!(producer.send("t", NewRecord::text("x")).await.unwrap().await.unwrap().offset, 7);
}

/// A promise: the first server of the list may be dead.
#[tokio::test]
async fn the_first_server_may_be_dead() {
    let world = Arc::new(Mutex::new(World { leader: 1, ..World::default() }));
    let one = node(1, &world).await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::builder(&format!("http://{dead}")).server(&format!("http://{}", one.address)).build().unwrap();
    let producer = client.producer().build().unwrap();
    assert_eq!(producer.send("t", NewRecord::text("x")).await.unwrap().await.unwrap().offset, 7);
}

/// A promise: a batch is sent again until it is answered, as the same bytes, while a later one waits; what the server says of its fate reaches the caller.
#[tokio::test]
async fn retries_repeat_the_same_bytes() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&bodies);
    let one = Fake::start(Arc::new(move |line: &str, body: &[u8]| {
        if !is_write(line) {
            return Some((200, if line.contains("cluster") { cluster(&[]) } else { topic(1) }));
        }
        let mut seen = seen.lock().unwrap();
        seen.push(body.to_vec());
        match seen.len() {
            1 => None,
            2 => Some((503, json!({"code": "overloaded", "retryable": true, "side_effects": "none"}))),
            3 => Some((502, json!("a gateway's"))),
            _ => written(),
        }
    }))
    .await;
    let producer = client_of(&one).producer().retry_backoff(Duration::from_millis(1)).max_in_flight(1).build().unwrap();
    let first = producer.send("t", NewRecord::text("first")).await.unwrap();
    let first = first.await.unwrap();
    let second = producer.send("t", NewRecord::text("second")).await.unwrap().await.unwrap();
    assert_eq!((first.offset, second.offset, producer.metrics().retries), (7, 7, 3));
    let bodies = bodies.lock().unwrap();
    assert!(bodies.len() == 5 && bodies[..4].iter().all(|body| *body == bodies[0]) && bodies[4] != bodies[0]);
}

/// A promise: dropping a consumer ends its requests at once, however long the server would have made them wait.
#[tokio::test]
async fn dropping_a_consumer_ends_its_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (asking, ending) = (Arc::clone(&asked), Arc::clone(&ended));
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (asking, ending) = (Arc::clone(&asking), Arc::clone(&ending));
            tokio::spawn(async move {
                while let Some((line, _)) = read_request(&mut stream).await {
                    let answer = match &line {
                        line if line.contains("/offsets") => {
                            json!({"partition": 0, "earliest_offset": 0, "latest_offset": 0, "last_stable_offset": 0, "leader_epoch": 0})
                        }
                        line if line.contains("/batches") => {
                            asking.notify_one();
                            assert_eq!(stream.read_u8().await.ok(), None, "the connection is closed");
                            ending.notify_one();
                            return;
                        }
                        line if line.contains("/cluster") => cluster(&[]),
                        _ => topic(1),
                    }
                    .to_string();
                    let head = format!("HTTP/1.1 200 x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
                    stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
                }
            });
        }
    });
    let client = Client::new(&format!("http://{address}")).unwrap();
    let consumer = client.consumer().topic("t").build().await.unwrap();
    asked.notified().await;
    drop(consumer);
    tokio::time::timeout(Duration::from_secs(20), ended.notified()).await.expect("the request was ended");
    serving.abort();
}

/// A node whose answers to writes come from `answer`, one after the other; its topic is there.
async fn writer(answer: impl Fn(usize) -> Option<(u16, Value)> + Send + Sync + 'static) -> (Fake, Arc<Mutex<usize>>) {
    let writes = Arc::new(Mutex::new(0));
    let count = Arc::clone(&writes);
    let fake = Fake::start(Arc::new(move |line: &str, _: &[u8]| {
        if !is_write(line) {
            return Some((200, if line.contains("cluster") { cluster(&[]) } else { topic(1) }));
        }
        let mut count = count.lock().unwrap();
        *count += 1;
        answer(*count)
    }))
    .await;
    (fake, writes)
}

/// A promise: a producer that must not write twice sends again what was certainly not written, and never what may have been.
#[tokio::test]
async fn what_is_in_doubt_is_not_sent_again() {
    let busy = || Some((503, json!({"code": "overloaded", "status": 503, "retryable": true, "side_effects": "none"})));
    let slow = || Some((503, json!({"code": "write-timeout", "status": 503, "retryable": true, "side_effects": "possible"})));
    let many = || Some((429, json!({"code": "overloaded", "status": 429, "retryable": true, "side_effects": "none"})));
    let script = move |write| match write {
        1 | 2 => busy(),
        3 => many(),
        4 => written(),
        5 => slow(),
        6 => None,
        7 => Some((502, json!("a gateway's"))),
        _ => written(),
    };
    let (fake, writes) = writer(script).await;
    let producer = client_of(&fake)
        .producer()
        .retry_backoff(Duration::from_millis(1))
        .max_in_flight(1)
        .resend_in_doubt(false)
        .stop_at_failure(true)
        .build()
        .unwrap();
    let send = async || producer.send("t", NewRecord::text("x")).await.unwrap().await;
    assert_eq!(send().await.unwrap().offset, 7);
    assert_eq!(*writes.lock().unwrap(), 4);
    for write in 5..8 {
        let error = send().await.unwrap_err();
        assert_eq!(error.side_effects(), SideEffects::Possible, "{error}");
        assert_eq!(*writes.lock().unwrap(), write, "sent once");
        let refused = producer.send("t", NewRecord::text("x")).await.unwrap_err();
        assert!(matches!(refused, ProducerError::Stopped { side_effects: SideEffects::None, .. }), "{refused}");
        producer.resume("t", 0);
    }
    assert_eq!(send().await.unwrap().offset, 7);
}

/// A promise: an acknowledgement that makes no sense is an error that leaves the outcome open, and never a crash or a success.
#[tokio::test]
async fn senseless_acknowledgements_are_errors() {
    let answers = [
        json!({"base_offset": u64::MAX, "durability": "fsync"}),
        json!({"base_offset": u64::MAX, "last_offset": u64::MAX, "durability": "fsync"}),
        json!({"durability": "fsync"}),
        json!({"base_offset": 3, "last_offset": 4, "durability": "fsync"}),
        json!({"base_offset": 4, "last_offset": 3, "durability": "fsync"}),
        json!({"base_offset": -1, "last_offset": -1, "durability": "fsync"}),
        json!([]),
    ];
    let count = answers.len();
    let (fake, _) = writer(move |write| Some((200, answers[(write - 1) % count].clone()))).await;
    let client = client_of(&fake);
    let producer = client.producer().build().unwrap();
    let batch = tidegate_client::batch::encode(&[NewRecord::text("x").timestamp(1)], tidegate_types::Codec::None).unwrap();
    for _ in 0..count {
        let error = producer.send("t", NewRecord::text("x")).await.unwrap().await.unwrap_err();
        assert!(matches!(error.cause(), Some(tidegate_client::Error::Answer { .. })), "{error}");
        assert_eq!(error.side_effects(), SideEffects::Possible);
    }
    for _ in 0..count {
        let error = client.produce_batches("t", 0, batch.clone(), &tidegate_client::ProduceOptions::default()).await.unwrap_err();
        assert!(matches!(error, tidegate_client::Error::Answer { .. }), "{error}");
    }
}
