//! The idempotent producer against a made-up node: where its id comes from, what it does with the node's answers, and that each record is there once.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fake;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::partitions::Partitions;
use fake::{Fake, Says, asks_for_identity, problem};
use serde_json::json;
use tidegate_client::{Acks, Error, NewRecord, Producer, ProducerError, ProducerIdentity, RecordPosition};
use tidegate_types::SideEffects;

type World = Arc<Mutex<Partitions>>;

/// A node with a topic `t`; `meddle` may answer in its place, or spoil its answers.
async fn node(partitions: usize, meddle: impl Fn(&mut Partitions, &str, &[u8]) -> Option<Says> + Send + Sync + 'static) -> (Fake, World) {
    let world = Arc::new(Mutex::new(Partitions::new(partitions)));
    let shared = Arc::clone(&world);
    let fake = Fake::start(move |line: &str, body: &[u8]| {
        let mut world = shared.lock().unwrap();
        meddle(&mut world, line, body).unwrap_or_else(|| world.answer(line, body))
    })
    .await;
    (fake, world)
}

async fn send(producer: &Producer, value: &str) -> Result<RecordPosition, ProducerError> {
    producer.send("t", NewRecord::text(value)).await.unwrap().await
}

/// A promise: over connections that break before the request or before the answer, and servers that have no time, with five requests under way, each record is there
/// once and in order, and each delivery says where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_record_is_there_once() {
    const COUNT: usize = 6_000;
    const PARTITIONS: usize = 3;
    let meddle = |world: &mut Partitions, line: &str, body: &[u8]| match fastrand::u8(..10) {
        0 => Some(Says::End),
        1 => {
            world.answer(line, body);
            Some(Says::End)
        }
        2 => Some(problem(503, "overloaded", true, "none")),
        _ => None,
    };
    let meddle = move |world: &mut Partitions, line: &str, body: &[u8]| Partitions::place(line).and_then(|_| meddle(world, line, body));
    let (fake, world) = node(PARTITIONS, meddle).await;
    let builder = fake.client().producer().batch_bytes(400).buffer_bytes(256 << 10);
    let producer = builder.retry_backoff(Duration::from_millis(1)).retry_backoff_max(Duration::from_millis(5)).build().unwrap();
    let mut deliveries = Vec::new();
    for n in 0..COUNT {
        let partition = u32::try_from(n % PARTITIONS).unwrap();
        deliveries.push(producer.send_to("t", partition, NewRecord::text(n.to_string())).await.unwrap());
    }
    producer.close().await.unwrap();
    for (n, delivery) in deliveries.into_iter().enumerate() {
        let position = delivery.await.unwrap();
        assert_eq!(position.offset, (n / PARTITIONS) as u64);
    }
    let world = world.lock().unwrap();
    for (place, part) in world.parts.iter().enumerate() {
        let wanted: Vec<String> = (0..COUNT).filter(|n| n % PARTITIONS == place).map(|n| n.to_string()).collect();
        assert_eq!(part.log, wanted);
        assert!(
            part.requests > part.stamps.len() + 10,
            "{} requests for {} batches: hardly anything failed",
            part.requests,
            part.stamps.len()
        );
    }
    assert_eq!(world.ids, 1, "one id does for all partitions");
}

/// A promise: a server that knows no producer ids is told of in plain words, and nothing goes out without one behind the caller's back; one that is told not to be
/// idempotent asks for none.
#[tokio::test]
async fn an_older_server_is_told_of() {
    for (status, code) in [(404, "not-found"), (405, "method-not-allowed")] {
        let says = move |_: &mut Partitions, line: &str, _: &[u8]| asks_for_identity(line).then(|| problem(status, code, false, "none"));
        let (fake, world) = node(1, says).await;
        let producer = fake.client().producer().build().unwrap();
        for _ in 0..2 {
            let error = send(&producer, "x").await.unwrap_err();
            assert!(error.to_string().contains("older than idempotent producers; `idempotent(false)` produces without"), "{error}");
            assert_eq!((error.side_effects(), error.is_retryable()), (SideEffects::None, false));
            assert_eq!(error.cause().unwrap().problem().unwrap().status, Some(status));
        }
        let error = fake.client().init_producer().await.unwrap_err();
        assert!(error.to_string().contains("older"), "{error}");
        assert_eq!(world.lock().unwrap().parts[0].requests, 0);
    }
    let plain = |_: &mut Partitions, line: &str, body: &[u8]| {
        assert!(!asks_for_identity(line));
        Partitions::place(line)?;
        assert_eq!(&body[43..57], [0xff; 14], "no producer, epoch or sequence");
        Some(fake::written())
    };
    let (fake, _) = node(1, plain).await;
    let client = fake.client();
    for builder in [client.producer().idempotent(false), client.producer().acks(Acks::Leader), client.producer().resend_in_doubt(false)] {
        assert_eq!(send(&builder.build().unwrap(), "x").await.unwrap().offset, 7);
    }
}

/// A promise: an id is asked for until it comes, by all partitions together, and not before there is something to send; who never gets one says why.
#[tokio::test]
async fn an_id_is_waited_for() {
    let asked = Mutex::new(0);
    let says = move |_: &mut Partitions, line: &str, _: &[u8]| {
        let mut asked = asked.lock().unwrap();
        *asked += u32::from(asks_for_identity(line));
        match *asked {
            1 if asks_for_identity(line) => Some(Says::End),
            2 if asks_for_identity(line) => Some(problem(503, "leader-unavailable", true, "none")),
            _ => None,
        }
    };
    let (fake, world) = node(4, says).await;
    let producer = fake.client().producer().retry_backoff(Duration::from_millis(1)).build().unwrap();
    let mut deliveries = Vec::new();
    for partition in 0..4 {
        deliveries.push(producer.send_to("t", partition, NewRecord::text("x")).await.unwrap());
    }
    for delivery in deliveries {
        assert_eq!(delivery.await.unwrap().offset, 0);
    }
    assert_eq!(world.lock().unwrap().ids, 1);

    let never =
        |_: &mut Partitions, line: &str, _: &[u8]| asks_for_identity(line).then(|| problem(503, "leader-unavailable", true, "none"));
    let (fake, world) = node(1, never).await;
    let builder = fake.client().producer().retry_backoff(Duration::from_millis(1)).delivery_timeout(Duration::from_millis(100));
    let error = send(&builder.build().unwrap(), "x").await.unwrap_err();
    assert!(matches!(&error, ProducerError::Expired { side_effects: SideEffects::None, last: Some(_), .. }), "{error:?}");
    assert!(error.to_string().contains("leader-unavailable"), "{error}");
    assert_eq!(world.lock().unwrap().parts[0].requests, 0);
}

/// A promise: a record that is refused takes none of its numbers' places with it: what is behind it begins a new epoch, in order.
#[tokio::test]
async fn a_refused_record_is_cut_out() {
    let (fake, world) = node(1, |_: &mut Partitions, _: &str, _: &[u8]| None).await;
    world.lock().unwrap().refused.insert("3".to_owned());
    let producer = fake.client().producer().linger(Duration::from_secs(60)).build().unwrap();
    let mut deliveries = Vec::new();
    for n in 0..6 {
        deliveries.push(producer.send("t", NewRecord::text(n.to_string())).await.unwrap());
    }
    producer.flush().await.unwrap_err();
    let mut failed = Vec::new();
    for (n, delivery) in deliveries.into_iter().enumerate() {
        match delivery.await {
            Ok(position) => assert_eq!(position.offset, if n < 3 { n } else { n - 1 } as u64),
            Err(error) => failed.push((n, error.side_effects())),
        }
    }
    assert_eq!(failed, [(3, SideEffects::None)]);
    let world = world.lock().unwrap();
    assert_eq!(world.parts[0].log, ["0", "1", "2", "4", "5"]);
    let numbers: Vec<_> = world.parts[0].stamps.iter().map(|stamp| (stamp.id, stamp.epoch, stamp.sequence)).collect();
    assert_eq!(numbers, [(1, 0, 0), (1, 1, 0)]);
}

/// A promise: whose id somebody else has taken over is told so, once, and goes on with a fresh one.
#[tokio::test]
async fn who_is_fenced_goes_on() {
    let (fake, world) = node(1, |_: &mut Partitions, _: &str, _: &[u8]| None).await;
    let producer = fake.client().producer().build().unwrap();
    send(&producer, "a").await.unwrap();
    world.lock().unwrap().parts[0].producers.get_mut(&1).unwrap().epoch = 5;
    let error = send(&producer, "b").await.unwrap_err();
    assert_eq!(error.cause().unwrap().problem().unwrap().code, "producer-fenced");
    assert_eq!(error.side_effects(), SideEffects::None);
    assert_eq!(send(&producer, "c").await.unwrap().offset, 1);
    let world = world.lock().unwrap();
    assert_eq!((world.ids, &world.parts[0].log[..]), (2, &["a".to_owned(), "c".to_owned()][..]));
}

/// A promise: a partition that has lost what it had of the producer (its records were not synced when its machine went down) is written to in a new epoch.
#[tokio::test]
async fn a_partition_that_has_lost_its_end_is_begun_anew() {
    let (fake, world) = node(1, |_: &mut Partitions, _: &str, _: &[u8]| None).await;
    let producer = fake.client().producer().retry_backoff(Duration::from_millis(1)).build().unwrap();
    for value in ["a", "b"] {
        send(&producer, value).await.unwrap();
    }
    world.lock().unwrap().parts[0].producers.get_mut(&1).unwrap().next = 1;
    for value in ["c", "d"] {
        send(&producer, value).await.unwrap();
    }
    let numbers: Vec<_> = world.lock().unwrap().parts[0].stamps.iter().map(|stamp| (stamp.id, stamp.epoch, stamp.sequence)).collect();
    assert_eq!(numbers, [(1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]);
}

/// A promise: what was sent beside a request that was lost, and came too early for it, goes out again behind it, under the numbers that it had.
#[tokio::test]
async fn who_came_too_early_keeps_its_numbers() {
    // The first goes alone. The second is lost after the others have come.
    let lost = Mutex::new(false);
    let spoil = move |world: &mut Partitions, line: &str, body: &[u8]| {
        Partitions::place(line)?;
        let is_second = body.windows(5).any(|bytes| bytes == b"rec-1");
        (is_second && !world.parts[0].log.is_empty() && !std::mem::replace(&mut *lost.lock().unwrap(), true)).then_some(Says::Silence)
    };
    let (fake, world) = node(1, spoil).await;
    let builder = fake.client().producer().batch_bytes(1).linger(Duration::ZERO).request_timeout(Duration::from_millis(300));
    let producer = builder.retry_backoff(Duration::from_millis(1)).build().unwrap();
    let mut deliveries = Vec::new();
    for n in 0..5 {
        deliveries.push(producer.send("t", NewRecord::text(format!("rec-{n}"))).await.unwrap());
    }
    for (n, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, n as u64);
    }
    let world = world.lock().unwrap();
    let numbers: Vec<_> = world.parts[0].stamps.iter().map(|stamp| (stamp.epoch, stamp.sequence)).collect();
    assert_eq!(numbers, [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]);
    assert!(producer.metrics().retries > 1, "others came too early");
}

/// A promise: a record that was there already, nobody knows where, is a success without an offset; an answer without offsets that does not say so is none.
#[tokio::test]
async fn an_old_duplicate_has_no_offset() {
    let spoil = |world: &mut Partitions, line: &str, body: &[u8]| {
        let place = Partitions::place(line)?;
        let first = world.parts[place].requests == 0;
        first.then(|| {
            world.answer(line, body);
            world.parts[place].producers.values_mut().for_each(|known| known.last.clear());
            Says::End
        })
    };
    let (fake, world) = node(1, spoil).await;
    let producer = fake.client().producer().retry_backoff(Duration::from_millis(1)).build().unwrap();
    assert_eq!(send(&producer, "a").await.unwrap().offset, RecordPosition::NO_OFFSET);
    assert_eq!(send(&producer, "b").await.unwrap().offset, 1);
    assert_eq!(world.lock().unwrap().parts[0].log, ["a", "b"]);

    let nowhere = |_: &mut Partitions, line: &str, _: &[u8]| {
        Partitions::place(line).map(|_| Says::With(("producer-duplicate", "perhaps".to_owned()), 200, json!({"durability": "fsync"})))
    };
    let (fake, _) = node(1, nowhere).await;
    let error = send(&fake.client().producer().build().unwrap(), "a").await.unwrap_err();
    assert!(matches!(error.cause(), Some(Error::Answer { .. })), "{error}");
    assert_eq!(error.side_effects(), SideEffects::Possible);
}

/// A promise: ids and names are asked for by calls of their own; an id that no producer can have is not believed.
#[tokio::test]
async fn ids_and_names() {
    let says = |_: &mut Partitions, line: &str, _: &[u8]| {
        line.starts_with("put /v1/producers/billing ").then(|| Says::Json(200, json!({"name": "billing", "producer_id": 12, "epoch": 3})))
    };
    let (fake, _) = node(1, says).await;
    let client = fake.client();
    assert_eq!(client.init_producer().await.unwrap(), ProducerIdentity { producer_id: 1, epoch: 0 });
    assert_eq!(client.init_producer().await.unwrap(), ProducerIdentity { producer_id: 2, epoch: 0 });
    let bound = client.bind_producer("billing").await.unwrap();
    assert_eq!((bound.name.as_str(), bound.producer_id, bound.epoch), ("billing", 12, 3));
    for name in ["", "two words", "é", &"x".repeat(129)] {
        assert!(matches!(client.bind_producer(name).await, Err(Error::Input(_))), "{name}");
    }
    for (id, epoch) in [(-1, 0), (1_i64 << 61, 0), (5, -1)] {
        let says = move |_: &mut Partitions, _: &str, _: &[u8]| Some(Says::Json(201, json!({"producer_id": id, "epoch": epoch})));
        let (fake, _) = node(1, says).await;
        assert!(matches!(fake.client().init_producer().await, Err(Error::Answer { .. })), "{id} {epoch}");
    }
}
