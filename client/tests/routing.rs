//! Where calls go, against made-up servers: to the leader, to the next one when that has moved or died, and each batch as the same bytes at every try.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fake;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::{Fake, Says, asks_for_identity, cluster, identity, is_write, problem, read_request, topic_of, written};
use serde_json::json;
use tidegate_client::{Client, Error, NewRecord, ProducerError};
use tidegate_types::SideEffects;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// What the fakes of one test have in common.
#[derive(Default)]
struct World {
    leader: u64,
    nodes: Vec<(u64, String)>,
    writes: Vec<(u64, Vec<u8>)>,
    descriptions: usize,
    /// The node that takes requests and answers none.
    frozen: Option<u64>,
}

/// A node that takes writes only while it leads, and tells of the cluster.
async fn node(id: u64, world: &Arc<Mutex<World>>) -> Fake {
    let shared = Arc::clone(world);
    let fake = Fake::start(move |line: &str, body: &[u8]| {
        let mut world = shared.lock().unwrap();
        if world.frozen == Some(id) {
            return Says::Silence;
        }
        if line.starts_with("get /v1/topics/t ") {
            world.descriptions += 1;
            return Says::Json(200, topic_of(1, world.leader));
        }
        if line.starts_with("get /v1/cluster ") {
            return Says::Json(200, cluster(&world.nodes));
        }
        if asks_for_identity(line) {
            return identity(1);
        }
        assert!(is_write(line), "{line}");
        world.writes.push((id, body.to_vec()));
        if world.leader == id {
            return written();
        }
        problem(421, "not-leader", true, "none")
    })
    .await;
    world.lock().unwrap().nodes.push((id, fake.address.to_string()));
    fake
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
    let client = one.client();
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
    let producer = one.client().producer().build().unwrap();
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
    let one = Fake::start(move |line: &str, body: &[u8]| {
        if asks_for_identity(line) {
            return identity(1);
        }
        if !is_write(line) {
            return Says::Json(200, if line.contains("cluster") { cluster(&[]) } else { topic_of(1, 1) });
        }
        let mut seen = seen.lock().unwrap();
        seen.push(body.to_vec());
        match seen.len() {
            1 => Says::End,
            2 => problem(503, "overloaded", true, "none"),
            3 => Says::Json(502, json!("a gateway's")),
            _ => written(),
        }
    })
    .await;
    let producer = one.client().producer().retry_backoff(Duration::from_millis(1)).max_in_flight(1).build().unwrap();
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
                        _ => topic_of(1, 1),
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
async fn writer(answer: impl Fn(usize) -> Says + Send + Sync + 'static) -> (Fake, Arc<Mutex<usize>>) {
    let writes = Arc::new(Mutex::new(0));
    let count = Arc::clone(&writes);
    let fake = Fake::start(move |line: &str, _: &[u8]| {
        if asks_for_identity(line) {
            return identity(1);
        }
        if !is_write(line) {
            return Says::Json(200, if line.contains("cluster") { cluster(&[]) } else { topic_of(1, 1) });
        }
        let mut count = count.lock().unwrap();
        *count += 1;
        answer(*count)
    })
    .await;
    (fake, writes)
}

/// A promise: a producer that must not write twice sends again what was certainly not written, and never what may have been.
#[tokio::test]
async fn what_is_in_doubt_is_not_sent_again() {
    let script = move |write| match write {
        1 | 2 => problem(503, "overloaded", true, "none"),
        3 => problem(429, "overloaded", true, "none"),
        4 => written(),
        5 => problem(503, "write-timeout", true, "possible"),
        6 => Says::End,
        7 => Says::Json(502, json!("a gateway's")),
        _ => written(),
    };
    let (fake, writes) = writer(script).await;
    let producer = fake
        .client()
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
    let (fake, _) = writer(move |write| Says::Json(200, answers[(write - 1) % count].clone())).await;
    let client = fake.client();
    let producer = client.producer().build().unwrap();
    let batch = tidegate_client::batch::encode(&[NewRecord::text("x").timestamp(1)], tidegate_types::Codec::None).unwrap();
    for _ in 0..count {
        let error = producer.send("t", NewRecord::text("x")).await.unwrap().await.unwrap_err();
        assert!(matches!(error.cause(), Some(Error::Answer { .. })), "{error}");
        assert_eq!(error.side_effects(), SideEffects::Possible);
    }
    for _ in 0..count {
        let error = client.produce_batches("t", 0, batch.clone(), &tidegate_client::ProduceOptions::default()).await.unwrap_err();
        assert!(matches!(error, Error::Answer { .. }), "{error}");
    }
}

/// A promise: a server that takes calls and does not answer, breaks off, or says that it is away, costs one call: the next one goes to the next server.
#[tokio::test]
async fn a_server_in_trouble_is_left() {
    type Trouble = fn() -> Says;
    let troubles: [Trouble; 5] = [
        || Says::Silence,
        || Says::End,
        || problem(503, "draining", true, "none"),
        || Says::Json(502, json!("a gateway's")),
        || Says::Json(504, json!("a gateway's")),
    ];
    let world = Arc::new(Mutex::new(World { leader: 1, ..World::default() }));
    let good = node(1, &world).await;
    for (number, trouble) in troubles.into_iter().enumerate() {
        let bad = Fake::start(move |_: &str, _: &[u8]| trouble()).await;
        let client = || Client::builder(&bad.url()).server(&good.url()).timeout(Duration::from_millis(300)).build().unwrap();
        let plain = client();
        plain.describe_topic("t").await.unwrap_err();
        plain.describe_topic("t").await.unwrap_or_else(|error| panic!("trouble {number}: {error}"));
        plain.describe_topic("t").await.unwrap();
        // What is asked for before records go out is only read: there even the first call finds the good one.
        let producer = client().producer().max_block(Duration::from_secs(5)).build().unwrap();
        assert_eq!(producer.send("t", NewRecord::text("x")).await.unwrap().await.unwrap().offset, 7, "trouble {number}");
        assert_eq!(writers(&world), [1]);
    }
}

/// A promise: a leader that falls silent is not believed to lead: who leads is looked up before the next try, also if the silent one is the first server of the
/// list; and a batch that may have been written is not sent to the new leader unless that is wanted.
#[tokio::test]
async fn a_frozen_leader_is_left() {
    for is_first in [false, true] {
        let world = Arc::new(Mutex::new(World { leader: 2, ..World::default() }));
        let one = node(1, &world).await;
        let two = node(2, &world).await;
        let (first, second) = if is_first { (&two, &one) } else { (&one, &two) };
        let client = Client::builder(&first.url()).server(&second.url()).build().unwrap();
        let builder = || client.producer().request_timeout(Duration::from_millis(500)).retry_backoff(Duration::from_millis(1));
        let producer = builder().delivery_timeout(Duration::from_secs(8)).build().unwrap();
        let careful = builder().resend_in_doubt(false).build().unwrap();
        for producer in [&producer, &careful] {
            producer.send("t", NewRecord::text("x")).await.unwrap().await.unwrap();
        }
        assert_eq!(writers(&world), [2, 2]);
        {
            let mut world = world.lock().unwrap();
            (world.leader, world.frozen) = (1, Some(2));
        }
        let error = careful.send("t", NewRecord::text("x")).await.unwrap().await.unwrap_err();
        assert_eq!((error.side_effects(), writers(&world)), (SideEffects::Possible, Vec::new()), "{error}");
        producer.send("t", NewRecord::text("x")).await.unwrap().await.unwrap();
        assert_eq!(writers(&world), [1]);
    }
}

/// A promise: a name that no path can carry is refused before anything is sent, with a word on it; it never becomes a call to something else.
#[tokio::test]
async fn misleading_names_are_refused() {
    let fake = Fake::start(|line: &str, _: &[u8]| panic!("nothing is sent: {line}")).await;
    let client = fake.client();
    let producer = client.producer().build().unwrap();
    for name in ["", ".", ".."] {
        let errors = [
            client.delete_topic(name).await.unwrap_err(),
            client.describe_topic(name).await.unwrap_err(),
            client.produce(name, &[NewRecord::text("x")], &Default::default()).await.unwrap_err(),
            client.fetch(name, 0, &Default::default()).await.unwrap_err(),
            client.consumer().topic(name).build().await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(&error, Error::Input(sentence) if sentence.contains(&format!("'{name}'"))), "{error}");
        }
        let error = producer.send(name, NewRecord::text("x")).await.unwrap_err();
        assert!(matches!(error, ProducerError::Unroutable { .. }) && !error.is_retryable(), "{error}");
    }
}

/// A promise: who waits because a topic has to be looked up anew keeps nobody waiting who writes to another.
#[tokio::test]
async fn a_lost_topic_holds_up_no_other() {
    let gate = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&gate);
    let fake = Fake::start(move |line: &str, _: &[u8]| {
        let mut looks = seen.lock().unwrap();
        match line {
            line if line.contains("/cluster") => Says::Json(200, cluster(&[])),
            line if asks_for_identity(line) => identity(1),
            line if line.starts_with("post /v1/topics/lost/") => problem(404, "topic-not-found", false, "none"),
            line if line.starts_with("post ") => written(),
            line if line.starts_with("get /v1/topics/lost ") => {
                *looks += 1;
                if *looks > 1 { Says::Silence } else { Says::Json(200, topic_of(1, 1)) }
            }
            _ => Says::Json(200, topic_of(1, 1)),
        }
    })
    .await;
    let producer = fake.client().producer().buffer_bytes(1).linger(Duration::from_millis(300)).build().unwrap();
    producer.send("t", NewRecord::text("x")).await.unwrap().await.unwrap();
    // The buffer takes one record at a time: the first in line waits for the one that will say that the topic is gone.
    let first = producer.send("lost", NewRecord::text("1")).await.unwrap();
    let waits = producer.metrics().waits_for_room;
    let second = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send("lost", NewRecord::text("2")).await.map(drop) }
    });
    while producer.metrics().waits_for_room == waits {
        tokio::task::yield_now().await;
    }
    let third = producer.send("t", NewRecord::text("3"));
    let third = tokio::time::timeout(Duration::from_secs(10), third).await.expect("it need not wait for the second").unwrap();
    third.await.unwrap();
    assert!(first.await.is_err() && *gate.lock().unwrap() == 2 && !second.is_finished());
    second.abort();
}
