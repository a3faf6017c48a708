//! The producer against a node: batching, partitioners, codecs, what is refused, closing.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_client::partitioner::{Choice, RoundRobin};
use tidegate_client::{Acks, Client, Fetch, NewRecord, NewTopic, ProducerError, RecordPosition, Until};
use tidegate_storage::io::Faulty;
use tidegate_tests::cluster::TestNode;
use tidegate_types::{Codec, ErrorCode, Limits, partitioner};

async fn node_with(partitions: u32, config: &[(&str, &str)]) -> (TestNode, Client) {
    let node = TestNode::start(Faulty::new(), Limits::default()).await.unwrap();
    let client = node.client().unwrap();
    let config = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    client.create_topic("t", &NewTopic { partitions: Some(partitions), config, ..NewTopic::default() }).await.unwrap();
    (node, client)
}

/// The texts of each partition, in order.
async fn texts(client: &Client) -> BTreeMap<u32, Vec<String>> {
    let mut consumer = client.consumer().topic("t").until(Until::Latest).build().await.unwrap();
    let mut found = BTreeMap::<u32, Vec<String>>::new();
    while let Some(batch) = consumer.next().await.unwrap() {
        let texts = batch.iter().map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap());
        found.entry(batch.partition).or_default().extend(texts);
    }
    found
}

/// A promise: each record goes where its partition, its key or the partitioner says, and its delivery says where that was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_go_where_they_belong() {
    let (node, client) = node_with(4, &[]).await;
    let producer = client.producer().build().unwrap();
    let mut deliveries = Vec::new();
    for n in 0..200 {
        let key = format!("key {n}");
        let delivery = producer.send("t", NewRecord::text(n.to_string()).key(key.clone()).timestamp(n)).await.unwrap();
        deliveries.push((partitioner::partition_for_key(key.as_bytes(), 4).get(), n, delivery));
    }
    producer.flush().await.unwrap();
    for (partition, n, delivery) in deliveries {
        let position = delivery.await.unwrap();
        assert_eq!((position.partition, position.timestamp), (partition, n));
        let value = client.fetch_value("t", partition, position.offset).await.unwrap();
        assert_eq!(value.bytes.as_deref(), Some(n.to_string().as_bytes()));
    }
    assert_eq!(producer.send_to("t", 3, NewRecord::text("x").key("any")).await.unwrap().await.unwrap().partition, 3);
    let named = NewRecord { partition: Some(2), ..NewRecord::text("x").key("any") };
    assert_eq!(producer.send("t", named).await.unwrap().await.unwrap().partition, 2);
    assert!(matches!(producer.send_to("t", 4, NewRecord::text("x")).await, Err(ProducerError::Input(_))));

    let round = client.producer().partitioner(RoundRobin).build().unwrap();
    let last = client.producer().partitioner(|_: &NewRecord, choice: &Choice<'_>| choice.partitions - 1).build().unwrap();
    let wrong = client.producer().partitioner(|_: &NewRecord, choice: &Choice<'_>| choice.partitions).build().unwrap();
    for n in 0..8 {
        assert_eq!(round.send("t", NewRecord::text("r")).await.unwrap().await.unwrap().partition, n % 4);
    }
    assert_eq!(last.send("t", NewRecord::text("l").key("k")).await.unwrap().await.unwrap().partition, 3);
    assert!(matches!(wrong.send("t", NewRecord::text("w")).await, Err(ProducerError::Input(_))));
    node.stop().await.unwrap();
}

/// A promise: records gather into batches, keyless ones in one partition at a time and in all of them in the end; whatever the codec, they come out as
/// they went in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_travel_together() {
    const COUNT: usize = 20_000;
    let (node, client) = node_with(3, &[]).await;
    for codec in Codec::ALL {
        let producer = client.producer().codec(codec).batch_bytes(8 << 10).build().unwrap();
        for n in 0..COUNT {
            drop(producer.send("t", NewRecord::text(format!("{} {n}", codec.name()))).await.unwrap());
        }
        producer.close().await.unwrap();
        let metrics = producer.metrics();
        assert_eq!((metrics.acknowledged_records, metrics.failed_records, metrics.buffered_bytes), (COUNT as u64, 0, 0));
        assert!(metrics.batches < COUNT as u64 / 50, "{codec:?}: {metrics:?}");
        let refused = producer.send("t", NewRecord::text("late")).await;
        assert!(matches!(refused, Err(ProducerError::Closed { .. })));
    }
    let found = texts(&client).await;
    assert!(found.len() == 3 && found.values().all(|texts| texts.len() > COUNT / 3), "all partitions take part");
    let mut all: Vec<_> = found.into_values().flatten().collect();
    all.sort_unstable();
    let mut wanted: Vec<_> = Codec::ALL.iter().flat_map(|codec| (0..COUNT).map(move |n| format!("{} {n}", codec.name()))).collect();
    wanted.sort_unstable();
    assert!(all == wanted);
    node.stop().await.unwrap();
}

/// A promise: a record that is too large is refused before it is queued; a batch that has become too large is cut; a record that breaks a rule fails alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_fail_alone() {
    let (node, client) = node_with(1, &[("max.message.bytes", "20000")]).await;
    let producer = client.producer().linger(Duration::from_millis(100)).max_in_flight(1).build().unwrap();
    drop(producer.send("t", NewRecord::text("first")).await.unwrap());
    let error = producer.send("t", NewRecord::text("x".repeat(20_000))).await.unwrap_err();
    assert!(matches!(error, ProducerError::TooLarge { limit: 20_000, .. }), "{error}");
    // The topic's bound shrinks behind the producer's back.
    let smaller = [("max.message.bytes".to_owned(), Some("5000".to_owned()))].into();
    client.alter_topic("t", &tidegate_client::TopicChange { config: smaller, ..Default::default() }).await.unwrap();
    let mut deliveries = Vec::new();
    for n in 0..30 {
        let length = if n == 17 { 6_000 } else { 600 };
        deliveries.push(producer.send("t", NewRecord::text(format!("{n:0length$}"))).await.unwrap());
    }
    for (n, delivery) in deliveries.into_iter().enumerate() {
        match delivery.await {
            Ok(RecordPosition { offset, .. }) => assert_eq!(offset, if n < 17 { n + 1 } else { n } as u64),
            Err(error) => {
                let code = error.cause().and_then(|error| error.problem()).and_then(|problem| problem.known_code());
                assert_eq!((n, code), (17, Some(ErrorCode::RecordTooLarge)), "{error}");
            }
        }
    }
    assert!(producer.metrics().splits > 0);
    let future = NewRecord::text("future").timestamp(i64::MAX / 2);
    let three = [NewRecord::text("a"), future, NewRecord::text("b")];
    let mut outcomes = Vec::new();
    for record in three {
        outcomes.push(producer.send("t", record).await.unwrap());
    }
    let [a, future, b] = outcomes.try_into().unwrap();
    assert_eq!((a.await.unwrap().offset, b.await.unwrap().offset), (30, 31));
    let error = future.await.unwrap_err();
    let code = error.cause().and_then(|error| error.problem()).and_then(|problem| problem.known_code());
    assert_eq!(code, Some(ErrorCode::RecordRejected), "{error}");
    node.stop().await.unwrap();
}

/// A promise: `acks` is what was asked for; a topic that is not there, or no more, is said to be so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_and_missing_topics() {
    let (node, client) = node_with(1, &[]).await;
    let none = client.producer().acks(Acks::None).build().unwrap();
    assert_eq!(none.send("t", NewRecord::text("0")).await.unwrap().await.unwrap().offset, RecordPosition::NO_OFFSET);
    let leader = client.producer().acks(Acks::Leader).build().unwrap();
    assert_eq!(leader.send("t", NewRecord::text("1")).await.unwrap().await.unwrap().offset, 1);
    let missing = leader.send("none", NewRecord::text("x")).await.unwrap_err();
    assert!(matches!(&missing, ProducerError::Unroutable { reason, .. } if !reason.is_retryable()), "{missing}");
    client.delete_topic("t").await.unwrap();
    let error = leader.send("t", NewRecord::text("x")).await.unwrap().await.unwrap_err();
    let code = error.cause().and_then(|error| error.problem()).and_then(|problem| problem.known_code());
    assert_eq!(code, Some(ErrorCode::TopicNotFound), "{error}");
    assert!(matches!(leader.send("t", NewRecord::text("x")).await, Err(ProducerError::Unroutable { .. })), "and is known from then on");
    node.stop().await.unwrap();
}

/// A promise: dropping a producer hangs nobody, and what it took is still sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_sends_what_was_taken() {
    let (node, client) = node_with(1, &[]).await;
    let producer = client.producer().linger(Duration::from_secs(60)).build().unwrap();
    let delivery = producer.send("t", NewRecord::text("a")).await.unwrap();
    drop(producer);
    assert_eq!(delivery.await.unwrap().offset, 0);
    assert_eq!(client.fetch("t", 0, &Fetch::from_offset(0)).await.unwrap().records.len(), 1);
    node.stop().await.unwrap();
}

/// A promise: a runtime that ends under a producer leaves nobody waiting.
#[test]
fn a_runtime_that_ends() {
    let other = tokio::runtime::Runtime::new().unwrap();
    let (node, client) = other.block_on(node_with(1, &[]));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (producer, delivery) = runtime.block_on(async {
        let producer = client.producer().linger(Duration::from_secs(60)).build().unwrap();
        let delivery = producer.send("t", NewRecord::text("a")).await.unwrap();
        (producer, delivery)
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    assert!(matches!(other.block_on(delivery), Err(ProducerError::Closed { .. })));
    assert!(matches!(other.block_on(producer.send("t", NewRecord::text("b"))), Err(ProducerError::Closed { .. })));
    other.block_on(node.stop()).unwrap();
}

/// A promise: times without end are as good as any, and nothing comes to an end of its own because of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_times() {
    let (node, _) = node_with(1, &[]).await;
    let url = format!("http://{}", node.address());
    let client = Client::builder(&url).timeout(Duration::MAX).build().unwrap();
    let producer = client
        .producer()
        .linger(Duration::from_millis(1))
        .max_block(Duration::MAX)
        .delivery_timeout(Duration::MAX)
        .request_timeout(Duration::MAX)
        .retry_backoff_max(Duration::MAX)
        .retry_backoff(Duration::MAX)
        .metadata_max_age(Duration::MAX)
        .build()
        .unwrap();
    assert_eq!(producer.send("t", NewRecord::text("a")).await.unwrap().await.unwrap().offset, 0);
    let lingering = client.producer().linger(Duration::MAX).delivery_timeout(Duration::MAX).build().unwrap();
    let delivery = lingering.send("t", NewRecord::text("b")).await.unwrap();
    lingering.close().await.unwrap();
    assert_eq!(delivery.await.unwrap().offset, 1);
    // One that has to wait for room, and one whose topic is not known.
    let narrow = client.producer().buffer_bytes(1).max_block(Duration::MAX).build().unwrap();
    for _ in 0..4 {
        drop(narrow.send("t", NewRecord::text("c")).await.unwrap());
    }
    narrow.close().await.unwrap();
    assert!(narrow.metrics().waits_for_room > 0);
    let mut consumer = client
        .consumer()
        .topic("t")
        .max_wait(Duration::MAX)
        .request_timeout(Duration::MAX)
        .retry_backoff_max(Duration::MAX)
        .retry_backoff(Duration::MAX)
        .metadata_max_age(Duration::MAX)
        .build()
        .await
        .unwrap();
    assert_eq!(consumer.next().await.unwrap().unwrap().iter().next().unwrap().offset.get(), 0);
    assert_eq!(texts(&client).await[&0].len(), 6);
    node.stop().await.unwrap();
}
