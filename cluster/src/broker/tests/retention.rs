//! Retention through the broker: what is promised to who reads, who appends, who looks into the directory and who starts the node again.
//! Who looks when is the interval's business; here the tests look.

use super::*;
use crate::error::RangeReason;

const FIRST: PartitionIndex = PartitionIndex::new(0);
const HOUR_MS: i64 = 3_600_000;

/// A record of about 300 KiB, so that three fill a segment of 1 MiB, which is so old.
async fn produce_aged(node: &Node, topic: &Topic, age_ms: i64) -> u64 {
    let timestamp = Timestamp::from_millis(node.broker.now().millis() - age_ms);
    let payload = Payload::Records { set: set(timestamp, &[&"v".repeat(300 << 10)]), producer: None };
    let mut tickets = node.broker.produce(topic, vec![(FIRST, payload)], Acks::All).unwrap();
    tickets.remove(0).wait(LONG).await.unwrap().base_offset.get()
}

async fn topic(node: &Node, config: &[(&str, &str)]) -> Arc<Topic> {
    node.topic("t", &[&[("segment.bytes", "1048576"), ("file.delete.delay.ms", "0")][..], config].concat()).await
}

async fn earliest(node: &Node, topic: &Topic) -> u64 {
    node.broker.offsets(topic, FIRST, None).await.unwrap().earliest.get()
}

fn logs(disk: &Faulty) -> Vec<String> {
    let entries = disk.list(Path::new("/data/t-0")).unwrap();
    let mut logs: Vec<_> = entries.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(".log")).collect();
    logs.sort();
    logs
}

fn log_names(bases: &[u64]) -> Vec<String> {
    bases.iter().map(|base| format!("{base:020}.log")).collect()
}

/// A promise: what is too old is gone for who reads, who waits, and who starts the node again; younger records, and what is appended, stay.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_goes() {
    let node = Node::start(Faulty::new()).await;
    let topic = topic(&node, &[("retention.ms", "7200000")]).await;
    for age in [5, 4, 3, 3, 3, 1, 9, 9] {
        produce_aged(&node, &topic, age * HOUR_MS).await;
    }
    node.broker.look_for_expired().await;
    // The second segment's newest record is an hour old; the third, as old as it is, lies behind it.
    assert_eq!(earliest(&node, &topic).await, 3);
    match node.fetch(&topic, Position::Offset(2), LONG).await {
        Err(Error::OffsetOutOfRange { requested: 2, earliest, reason: RangeReason::Trimmed, .. }) => assert_eq!(earliest.get(), 3),
        other => panic!("{other:?}"),
    }
    let node = node.crash(Crash::LoseAll).await;
    assert_eq!((earliest(&node, &topic).await, node.read_all(&topic).await.len()), (3, 5));
    let disk = node.disk.clone();
    node.stop().await;
    assert_eq!(logs(&disk), log_names(&[3, 6]));
}

/// A promise: a topic that nobody writes to any more ends up empty, and is written to at the offset where it was; who waits there waits on.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_too_old_ends_up_empty() {
    let node = Node::start(Faulty::new()).await;
    let topic = topic(&node, &[("retention.ms", "3600000")]).await;
    for _ in 0..4 {
        produce_aged(&node, &topic, 2 * HOUR_MS).await;
    }
    let request = FetchRequest {
        topic: Arc::clone(&topic),
        partition: FIRST,
        position: Position::Latest,
        reset: OffsetReset::Error,
        max_bytes: 1 << 20,
        min_bytes: 1,
        max_wait: LONG,
    };
    let waiting = tokio::spawn({
        let broker = node.broker.clone();
        async move { broker.fetch(request).await }
    });
    node.broker.look_for_expired().await;
    let described = node.broker.describe_topic("t").unwrap().partitions[0];
    assert_eq!((described.earliest.unwrap().get(), described.latest.unwrap().get(), described.size_bytes), (4, 4, Some(0)));
    assert_eq!(produce_aged(&node, &topic, 0).await, 4);
    assert_eq!(waiting.await.unwrap().unwrap().next_offset.get(), 5);
    node.broker.look_for_expired().await;
    assert_eq!(earliest(&node, &topic).await, 4, "it is young");
    // Turns were given back.
    assert_eq!(node.broker.trim(&topic, FIRST, 5).await.unwrap().get(), 5);
    node.stop().await;
}

/// A promise: as much is kept as `retention.bytes` says at least, and less than a segment more; the rules are those of now, also when they
/// were changed a moment ago, and without `delete` there are none.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_goes() {
    let node = Node::start(Faulty::new()).await;
    let topic = topic(&node, &[("retention.bytes", "-1")]).await;
    for _ in 0..10 {
        produce_aged(&node, &topic, 0).await;
    }
    let size = || node.broker.describe_topic("t").unwrap().partitions[0].size_bytes.unwrap();
    let set = |pairs: &[(&str, &str)]| {
        let config = pairs.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned()))).collect();
        TopicChange { partitions: None, config }
    };
    node.broker.look_for_expired().await;
    assert_eq!(earliest(&node, &topic).await, 0);
    node.broker.alter_topic("t", set(&[("retention.bytes", "1500000"), ("cleanup.policy", "compact")])).await.unwrap();
    node.broker.look_for_expired().await;
    assert_eq!(earliest(&node, &topic).await, 0);
    node.broker.alter_topic("t", set(&[("cleanup.policy", "compact,delete")])).await.unwrap();
    node.broker.look_for_expired().await;
    // 3, 3, 3 and 1 records of 300 KiB: without the second there would be less.
    assert_eq!(earliest(&node, &topic).await, 3);
    assert!(size() >= 1_500_000 && size() < 1_500_000 + (1 << 20), "{}", size());
    node.broker.alter_topic("t", set(&[("retention.bytes", "0")])).await.unwrap();
    node.broker.look_for_expired().await;
    assert_eq!(earliest(&node, &topic).await, 9, "the active segment stays");
    node.stop().await;
}

/// A promise: files of deleted segments stay for `file.delete.delay.ms`; nobody waits for that, neither a stop nor the topic's deletion, and the
/// next start removes them at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_no_delay() {
    let node = Node::start(Faulty::new()).await;
    let delayed = [("file.delete.delay.ms", "9223372036854775807"), ("retention.ms", "3600000")];
    let topic = topic(&node, &delayed[..]).await;
    for _ in 0..4 {
        produce_aged(&node, &topic, 2 * HOUR_MS).await;
    }
    node.broker.look_for_expired().await;
    produce_aged(&node, &topic, 0).await;
    assert_eq!(earliest(&node, &topic).await, 4);
    let (disk, metadata) = (node.disk.clone(), node.metadata);
    tokio::time::timeout(LONG, node.broker.stop()).await.unwrap();
    node.quorum.shutdown().await;
    assert_eq!(logs(&disk), log_names(&[0, 3, 4]));
    let node = Node::start_on(disk.after_crash(Crash::LoseAll), metadata, Limits::default()).await;
    assert_eq!(logs(&node.disk), log_names(&[4]));
    assert_eq!(node.read_all(&topic).await.len(), 1);

    produce_aged(&node, &topic, 2 * HOUR_MS).await;
    node.broker.delete_topic("t").await.unwrap();
    let topic = node.topic("t", &[]).await;
    assert_eq!(node.produce(&topic, &["first"]).await.unwrap().base_offset, Offset::ZERO);
    node.stop().await;
}

/// A promise: files that wait for their delay go when it is over; a trim's do not wait, and neither do those for which there is no room to wait.
#[tokio::test(flavor = "multi_thread")]
async fn delays_end_and_have_a_bound() {
    let node = Node::start(Faulty::new()).await;
    let topic = topic(&node, &[("file.delete.delay.ms", "20"), ("retention.ms", "3600000")]).await;
    produce_aged(&node, &topic, 2 * HOUR_MS).await;
    node.broker.look_for_expired().await;
    let gone = async {
        while logs(&node.disk) != log_names(&[1]) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, gone).await.unwrap();

    let config = BTreeMap::from([("file.delete.delay.ms".to_owned(), Some("3600000".to_owned()))]);
    node.broker.alter_topic("t", TopicChange { partitions: None, config }).await.unwrap();
    for _ in 0..100 {
        produce_aged(&node, &topic, 2 * HOUR_MS).await;
        node.broker.look_for_expired().await;
    }
    for _ in 0..3 {
        produce_aged(&node, &topic, 0).await;
    }
    produce_aged(&node, &topic, 0).await;
    node.broker.trim(&topic, FIRST, 104).await.unwrap();
    let disk = node.disk.clone();
    node.stop().await;
    let left = logs(&disk);
    // One that waits, 64 behind it, and the log's own. What was trimmed (101 to 103) is gone.
    assert_eq!((left.len(), left[64].as_str(), left[65].as_str()), (66, "00000000000000000065.log", "00000000000000000104.log"));
}

/// A promise: a partition that cannot give anything up holds up neither the look nor the others, and a look beside deletions and a stop is
/// no danger.
#[tokio::test(flavor = "multi_thread")]
async fn one_failed_partition_holds_nobody_up() {
    let node = Node::start(Faulty::new()).await;
    let topic = topic(&node, &[("retention.ms", "3600000")]).await;
    let other = node.topic("other", &[("retention.ms", "3600000")]).await;
    for topic in [&topic, &other] {
        produce_aged(&node, topic, 2 * HOUR_MS).await;
    }
    // The sync of the note.
    node.disk.set_plan(FaultPlan { fail_at: Some((node.disk.steps() + 2, std::io::ErrorKind::Other)), ..FaultPlan::default() });
    assert_eq!(node.broker.trim(&topic, FIRST, 1).await.unwrap_err().code(), ErrorCode::StorageFailed);
    for _ in 0..2 {
        tokio::time::timeout(LONG, node.broker.look_for_expired()).await.unwrap();
        assert_eq!((earliest(&node, &topic).await, earliest(&node, &other).await), (0, 1));
    }
    let ((), deleted) = tokio::join!(node.broker.look_for_expired(), node.broker.delete_topic("t"));
    deleted.unwrap();
    node.broker.stop().await;
    node.broker.look_for_expired().await;
    node.quorum.shutdown().await;
}
