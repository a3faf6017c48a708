//! The consumer against a node: every way to begin and to end, seeking, pausing, new partitions, typed values, and its bound on memory.

use std::time::Duration;

use tidegate_client::serializer::{Json, Text, TypedConsumer, TypedProducer};
use tidegate_client::{Client, Consumer, From, NewRecord, NewTopic, OffsetReset, ProduceOptions, TopicChange, Until};
use tidegate_storage::io::Faulty;
use tidegate_tests::cluster::TestNode;
use tidegate_types::{ErrorCode, Limits};

async fn node_with(topic: &str, partitions: u32) -> (TestNode, Client) {
    let node = TestNode::start(Faulty::new(), Limits::default()).await.unwrap();
    let client = node.client().unwrap();
    client.create_topic(topic, &NewTopic { partitions: Some(partitions), ..NewTopic::default() }).await.unwrap();
    (node, client)
}

/// Records `[from, to)`, the text of each its number and its timestamp 1000 × that, in requests of three.
async fn produce(client: &Client, partition: u32, from: i64, to: i64) {
    let records: Vec<_> = (from..to).map(|n| NewRecord::text(n.to_string()).timestamp(n * 1_000)).collect();
    for three in records.chunks(3) {
        client.produce_to("t", partition, three, &ProduceOptions::default()).await.unwrap();
    }
}

/// What is left to read: partition, offset, text.
async fn rest(consumer: &mut Consumer) -> Vec<(u32, u64, String)> {
    let mut found = Vec::new();
    while let Some(batch) = consumer.next().await.unwrap() {
        found.extend(batch.records().into_iter().map(|r| {
            let text = String::from_utf8(r.value.as_bytes().unwrap().to_vec()).unwrap();
            (r.partition, r.offset, text)
        }));
    }
    found
}

/// A promise: reading begins and ends exactly where it is told to, also within a batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places() {
    let (node, client) = node_with("t", 1).await;
    produce(&client, 0, 0, 20).await;
    for (from, until, wanted) in [
        (From::Earliest, Until::Latest, 0..20),
        (From::Offset(7), Until::Latest, 7..20),
        (From::Tail(4), Until::Latest, 16..20),
        (From::Tail(400), Until::Offset(2), 0..2),
        (From::Timestamp(9_500), Until::Timestamp(12_000), 10..12),
        (From::Timestamp(99_000), Until::Latest, 20..20),
        (From::Earliest, Until::Timestamp(99_000), 0..20),
        (From::Offset(20), Until::Latest, 20..20),
        (From::Latest, Until::Offset(20), 20..20),
        (From::Offset(4), Until::Offset(4), 4..4),
        (From::Offset(9), Until::Offset(4), 9..9),
    ] {
        let mut consumer = client.consumer().topic("t").from(from).until(until).build().await.unwrap();
        let offsets: Vec<u64> = rest(&mut consumer).await.into_iter().map(|(_, offset, _)| offset).collect();
        assert_eq!(offsets, wanted.clone().collect::<Vec<_>>(), "{from:?} {until:?}");
        assert_eq!(consumer.position("t", 0), Some(wanted.end), "{from:?} {until:?}");
    }
    node.stop().await.unwrap();
}

/// A promise: what is written after the consumer was made is read, as it comes, whether it began at the end or not; partitions that the topic gets later are
/// read from their beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_later_is_read() {
    let (node, client) = node_with("t", 2).await;
    produce(&client, 0, 0, 5).await;
    let mut consumer = client.consumer().topic("t").from(From::Latest).metadata_max_age(Duration::from_millis(20)).build().await.unwrap();
    produce(&client, 0, 5, 7).await;
    let batch = consumer.next().await.unwrap().unwrap();
    assert_eq!((batch.partition, batch.iter().map(|r| r.offset.get()).collect::<Vec<_>>()), (0, vec![5, 6]));
    client.alter_topic("t", &TopicChange { partitions: Some(3), ..TopicChange::default() }).await.unwrap();
    produce(&client, 2, 0, 1).await;
    let batch = consumer.next().await.unwrap().unwrap();
    assert_eq!((batch.partition, batch.len()), (2, 1));
    assert_eq!(consumer.partitions().count(), 3);
    node.stop().await.unwrap();
}

/// A promise: a seek leads exactly there, also back, also out of what was fetched ahead; a paused partition hands out nothing and loses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seek_and_pause() {
    let (node, client) = node_with("t", 2).await;
    produce(&client, 0, 0, 30).await;
    produce(&client, 1, 0, 6).await;
    let mut consumer = client.consumer().topic("t").until(Until::Latest).build().await.unwrap();
    consumer.pause("t", 1).unwrap();
    for to in [25_u64, 3, 28, 0, 14] {
        consumer.seek("t", 0, From::Offset(to)).unwrap();
        let batch = consumer.next().await.unwrap().unwrap();
        assert_eq!((batch.partition, batch.iter().next().unwrap().offset.get()), (0, to));
        assert_eq!(consumer.position("t", 0), Some(to + batch.len() as u64));
    }
    consumer.seek("t", 0, From::Tail(1)).unwrap();
    let last = consumer.next().await.unwrap().unwrap();
    assert_eq!((last.partition, last.iter().map(|r| r.offset.get()).collect::<Vec<_>>()), (0, vec![29]));
    consumer.pause("t", 0).unwrap();
    consumer.resume("t", 1).unwrap();
    consumer.resume("t", 0).unwrap();
    let rest: Vec<_> = rest(&mut consumer).await.into_iter().map(|(partition, offset, _)| (partition, offset)).collect();
    assert_eq!(rest, (0..6).map(|offset| (1, offset)).collect::<Vec<_>>());
    assert!(consumer.seek("t", 2, From::Earliest).is_err() && consumer.pause("x", 0).is_err());
    consumer.seek("t", 1, From::Offset(5)).unwrap();
    assert_eq!(
        consumer.next().await.unwrap().unwrap().iter().next().unwrap().offset.get(),
        5,
        "a partition at its end goes on after a seek"
    );
    node.stop().await.unwrap();
}

/// A promise: an offset that is not there is an error once, or a reset, as told; a partition or topic that is not there is an error at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_out_of_range() {
    let (node, client) = node_with("t", 1).await;
    produce(&client, 0, 0, 6).await;
    let mut strict = client.consumer().partition_from("t", 0, From::Offset(100)).until(Until::Latest).build().await.unwrap();
    assert!(strict.next().await.unwrap().is_none(), "its end lies before its beginning");
    let mut strict = client.consumer().partition_from("t", 0, From::Offset(100)).build().await.unwrap();
    let error = strict.next().await.unwrap_err();
    assert_eq!(error.error.problem().and_then(|p| p.known_code()), Some(ErrorCode::OffsetOutOfRange), "{error}");
    assert!(strict.next().await.unwrap().is_none(), "told once");
    strict.seek("t", 0, From::Offset(5)).unwrap();
    assert_eq!(strict.next().await.unwrap().unwrap().len(), 1);
    for (reset, first) in [(OffsetReset::Earliest, 0), (OffsetReset::Latest, 6)] {
        let mut consumer = client.consumer().partition_from("t", 0, From::Offset(100)).reset(reset).build().await.unwrap();
        let wait = async {
            while consumer.metrics().resets == 0 || consumer.position("t", 0) == Some(100) {
                tokio::select! {
                    _ = consumer.next() => break,
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
        };
        wait.await;
        produce(&client, 0, 6, 7).await;
        assert!(consumer.position("t", 0) >= Some(first), "{reset:?}");
        assert_eq!(consumer.metrics().resets, 1);
    }
    assert!(client.consumer().partition("t", 1).build().await.is_err());
    assert!(client.consumer().build().await.is_err());
    let error = client.consumer().topic("none").build().await.unwrap_err();
    assert_eq!(error.problem().and_then(|p| p.known_code()), Some(ErrorCode::TopicNotFound));
    node.stop().await.unwrap();
}

/// A promise: a consumer that nobody asks fetches no more than it was allowed to, and a batch that is larger than that still comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefetch_is_bounded() {
    const PREFETCH: usize = 200_000;
    let (node, client) = node_with("t", 2).await;
    for n in 0..200 {
        let records = [NewRecord::bytes(vec![1; 10_000])];
        client.produce_to("t", n % 2, &records, &ProduceOptions::default()).await.unwrap();
    }
    let mut consumer = client.consumer().topic("t").until(Until::Latest).prefetch_bytes(PREFETCH).build().await.unwrap();
    // It fetches ahead until it holds what it may, and then rests.
    while consumer.metrics().buffered_bytes <= PREFETCH / 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut most = consumer.metrics().buffered_bytes;
    let mut count = 0;
    while let Some(batch) = consumer.next().await.unwrap() {
        count += batch.len();
        most = most.max(consumer.metrics().buffered_bytes);
    }
    assert_eq!(count, 200);
    assert!(most <= PREFETCH, "{most}");
    assert_eq!(consumer.metrics().buffered_bytes, 0);
    client.produce_to("t", 0, &[NewRecord::bytes(vec![2; 500_000])], &ProduceOptions::default()).await.unwrap();
    let mut consumer =
        client.consumer().partition_from("t", 0, From::Tail(1)).until(Until::Latest).prefetch_bytes(PREFETCH).build().await.unwrap();
    assert_eq!(consumer.next().await.unwrap().unwrap().iter().next().unwrap().value.unwrap().len(), 500_000);
    node.stop().await.unwrap();
}

/// A promise: typed values come back as they went in, keys too; one that cannot be read is an error that names its offset, and a seek leads past it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_values() {
    let (node, client) = node_with("t", 1).await;
    let producer = TypedProducer::new(client.producer().build().unwrap(), Text, Json);
    for n in 0..3_u64 {
        producer.send("t", Some(&format!("k{n}")), &(n, "x")).await.unwrap().await.unwrap();
    }
    producer.send("t", None::<&str>, "no pair").await.unwrap().await.unwrap();
    producer.send("t", Some("last"), &(9, "y")).await.unwrap().await.unwrap();
    let consumer = client.consumer().topic("t").until(Until::Latest).build().await.unwrap();
    let mut consumer = TypedConsumer::new(consumer, Text, Json);
    let mut found = Vec::new();
    loop {
        match consumer.next::<String, (u64, String)>().await {
            Ok(Some(records)) => found.extend(records.into_iter().map(|r| (r.offset, r.key.unwrap(), r.value.unwrap().0))),
            Ok(None) => break,
            Err(error) => {
                assert!(error.to_string().contains("offset 3"), "{error}");
                consumer.consumer().seek("t", 0, From::Offset(4)).unwrap();
            }
        }
    }
    let key = |n: u64| (n, format!("k{n}"), n);
    assert_eq!(found, [key(0), key(1), key(2), (4, "last".to_owned(), 9)]);
    node.stop().await.unwrap();
}

/// A promise: a snapshot brings what is there, one partition after the other, each between places of its own, and ends without waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_come_in_order() {
    let (node, client) = node_with("t", 9).await;
    for partition in [0, 1, 3, 5, 6, 7, 8] {
        produce(&client, partition, 0, 20).await;
    }
    let snapshot = || client.consumer().snapshot(true);
    let mut all = snapshot().topic("t").build().await.unwrap();
    let wanted: Vec<_> = [0, 1, 3, 5, 6, 7, 8].into_iter().flat_map(|p| (0..20).map(move |n| (p, n, n.to_string()))).collect();
    assert_eq!(rest(&mut all).await, wanted);

    let builder =
        snapshot().partition_between("t", 8, From::Offset(4), Until::Offset(6)).partition_between("t", 1, From::Tail(1), Until::Never);
    // The end lies where nothing is yet: what is there is all.
    let mut some = builder.partition_between("t", 7, From::Offset(19), Until::Offset(100)).build().await.unwrap();
    let found: Vec<_> = rest(&mut some).await.into_iter().map(|(partition, offset, _)| (partition, offset)).collect();
    assert_eq!(found, [(1, 19), (7, 19), (8, 4), (8, 5)]);

    // What cannot be read is told in its turn, behind what comes before it.
    let builder = snapshot().partition_from("t", 0, From::Offset(19)).partition_from("t", 2, From::Offset(1));
    let mut gone = builder.partition_from("t", 3, From::Offset(19)).until(Until::Offset(100)).build().await.unwrap();
    assert_eq!(gone.next().await.unwrap().map(|batch| batch.partition), Some(0));
    assert_eq!(gone.next().await.unwrap_err().partition, 2);
    assert_eq!(gone.next().await.unwrap().map(|batch| batch.partition), Some(3));
    assert!(gone.next().await.unwrap().is_none());
    node.stop().await.unwrap();
}

/// A promise: a partition that was finished hands out nothing more, and what is left comes to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_partition_ends() {
    let (node, client) = node_with("t", 2).await;
    produce(&client, 0, 0, 9).await;
    let mut consumer = client.consumer().topic("t").build().await.unwrap();
    assert_eq!(consumer.next().await.unwrap().unwrap().partition, 0);
    consumer.finish("t", 0).unwrap();
    consumer.finish("t", 1).unwrap();
    assert!(consumer.next().await.unwrap().is_none());
    node.stop().await.unwrap();
}

/// A promise: of hundreds of partitions that wait for records none is asked again and again, and a record of any of them comes at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_partitions_wait_quietly() {
    const PARTITIONS: u32 = 300;
    let (node, client) = node_with("t", PARTITIONS).await;
    let mut consumer = client.consumer().topic("t").from(From::Latest).build().await.unwrap();
    let before = consumer.metrics().requests;
    for partition in (0..PARTITIONS).step_by(60) {
        produce(&client, partition, 0, 1).await;
        assert_eq!(consumer.next().await.unwrap().map(|batch| (batch.partition, batch.len())), Some((partition, 1)));
    }
    // One fetch brings a record, and one more may see that nothing follows.
    let asked = consumer.metrics().requests - before;
    assert!(asked <= 2 * 5, "{asked} requests for 5 records");
    node.stop().await.unwrap();
}
