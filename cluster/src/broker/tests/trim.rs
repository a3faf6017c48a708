//! Trims through the broker: what is promised to who asks, who reads, who appends and who starts the node again.

use futures_util::FutureExt as _;

use super::*;
use crate::error::RangeReason;

const FIRST: PartitionIndex = PartitionIndex::new(0);

/// A topic with small segments and the records 0 to `count` - 1, two a batch.
async fn filled(node: &Node, count: u64) -> Arc<Topic> {
    let topic = node.topic("t", &[("segment.bytes", "1048576")]).await;
    for n in (0..count).step_by(2) {
        node.produce(&topic, &[&n.to_string(), &(n + 1).to_string()]).await.unwrap();
    }
    topic
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

async fn trim(node: &Node, topic: &Topic, before: u64) -> Result<u64, Error> {
    node.broker.trim(topic, FIRST, before).await.map(Offset::get)
}

/// A promise: a trim is for ever and for everybody: who fetches, who asks for offsets, who describes, who starts the node again.
#[tokio::test(flavor = "multi_thread")]
async fn a_trim_is_for_ever() {
    let node = Node::start(Faulty::new()).await;
    let topic = filled(&node, 20).await;
    assert_eq!(trim(&node, &topic, 7).await.unwrap(), 7);
    for before in [0, 6, 7] {
        assert_eq!(trim(&node, &topic, before).await.unwrap(), 7, "nothing goes back");
    }
    assert_eq!(node.read_all(&topic).await, numbers(7..20));
    let node = node.crash(Crash::LoseAll).await;
    assert_eq!(node.read_all(&topic).await, numbers(7..20));
    match node.fetch(&topic, Position::Offset(6), LONG).await {
        Err(Error::OffsetOutOfRange { requested: 6, earliest, reason: RangeReason::Trimmed, .. }) => assert_eq!(earliest.get(), 7),
        other => panic!("{other:?}"),
    }
    for (position, first) in
        [(Position::Earliest, "7"), (Position::Tail(99), "7"), (Position::Timestamp(0), "7"), (Position::Tail(1), "19")]
    {
        let (values, fetched) = node.fetch(&topic, position, Duration::ZERO).await.unwrap();
        assert_eq!((values[0].as_str(), fetched.log_start.get()), (first, 7), "{position:?}");
    }
    let offsets = node.broker.offsets(&topic, FIRST, Some(OffsetQuestion::Timestamp(0))).await.unwrap();
    assert_eq!((offsets.earliest.get(), offsets.answer.unwrap().0.get()), (7, 7));
    let described = node.broker.describe_topic("t").unwrap().partitions[0];
    assert_eq!((described.earliest.unwrap().get(), described.latest.unwrap().get()), (7, 20));
    assert_eq!(trim(&node, &topic, 20).await.unwrap(), 20);
    assert!(node.read_all(&topic).await.is_empty());
    assert_eq!(node.produce(&topic, &["next"]).await.unwrap().base_offset.get(), 20, "offsets are never given twice");
    assert_eq!(node.read_all(&topic).await, ["next"]);
    node.stop().await;
}

/// A promise: what nobody could have read yet is not given up, and a wrong trim changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_trim_changes_nothing() {
    let node = Node::start(Faulty::new()).await;
    let topic = filled(&node, 4).await;
    for before in [5, Offset::MAX.get() + 1, u64::MAX] {
        match trim(&node, &topic, before).await {
            Err(Error::OffsetOutOfRange { requested, latest, reason: RangeReason::Future, .. }) => {
                assert_eq!((requested, latest.get()), (before, 4));
            }
            other => panic!("{other:?}"),
        }
    }
    let missing = node.broker.trim(&topic, PartitionIndex::new(9), 1).await.unwrap_err();
    assert_eq!(missing.code(), ErrorCode::PartitionNotFound);
    let compacted = node.topic("compacted", &[("cleanup.policy", "compact")]).await;
    assert_eq!(trim(&node, &compacted, 0).await.unwrap_err().code(), ErrorCode::ValidationFailed);
    let both = node.topic("both", &[("cleanup.policy", "compact,delete")]).await;
    assert_eq!(trim(&node, &both, 0).await.unwrap(), 0);
    assert_eq!(node.read_all(&topic).await, numbers(0..4));
    node.broker.drain();
    assert_eq!(trim(&node, &topic, 1).await.unwrap_err().code(), ErrorCode::Draining);
    node.stop().await;
}

/// A promise: who waits for more bytes at an offset that is trimmed meanwhile is told at once, or goes on where the position means then.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_what_is_trimmed_is_told() {
    let node = Node::start(Faulty::new()).await;
    let topic = filled(&node, 10).await;
    let waiting = |position, reset| {
        let topic = Arc::clone(&topic);
        let request = FetchRequest { topic, partition: FIRST, position, reset, max_bytes: 1 << 20, min_bytes: 100 << 20, max_wait: LONG };
        let mut fetch = Box::pin(node.broker.fetch(request));
        assert!((&mut fetch).now_or_never().is_none(), "it waits");
        fetch
    };
    let told = waiting(Position::Offset(3), OffsetReset::Error);
    assert_eq!(trim(&node, &topic, 5).await.unwrap(), 5);
    match told.await {
        Err(Error::OffsetOutOfRange { requested: 3, earliest, reason: RangeReason::Trimmed, .. }) => assert_eq!(earliest.get(), 5),
        other => panic!("{other:?}"),
    }
    let moved = [waiting(Position::Earliest, OffsetReset::Error), waiting(Position::Offset(6), OffsetReset::Earliest)];
    assert_eq!(trim(&node, &topic, 8).await.unwrap(), 8);
    let moved = moved.map(|mut fetch| {
        assert!((&mut fetch).now_or_never().is_none(), "it waits on, at the new start");
        fetch
    });
    node.broker.drain();
    for fetch in moved {
        let fetched = fetch.await.unwrap();
        assert_eq!((fetched.start.get(), fetched.log_start.get(), values(&fetched)), (8, 8, numbers(8..10)));
    }
    node.stop().await;
}

/// A promise: with `durability=replicated` too, what is trimmed stays trimmed, although nothing had to be synced; the log never ends before
/// it begins.
#[tokio::test(flavor = "multi_thread")]
async fn unsynced_records_can_be_trimmed() {
    let node = Node::start(Faulty::new()).await;
    let topic = node.topic("t", &[("durability", "replicated")]).await;
    node.produce(&topic, &["0", "1", "2"]).await.unwrap();
    assert_eq!(trim(&node, &topic, 2).await.unwrap(), 2);
    let node = node.crash(Crash::LoseAll).await;
    assert_eq!(node.read_all(&topic).await, ["2"]);
    node.stop().await;
}

/// A promise: a partition whose disk has failed gives nothing up, and a trim whose note fails is no success.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_disk_gives_nothing_up() {
    let node = Node::start(Faulty::new()).await;
    let topic = filled(&node, 4).await;
    node.disk.set_plan(FaultPlan { fail_at: Some((node.disk.steps() + 2, std::io::ErrorKind::Other)), ..FaultPlan::default() });
    assert_eq!(trim(&node, &topic, 2).await.unwrap_err().code(), ErrorCode::StorageFailed);
    assert_eq!(trim(&node, &topic, 2).await.unwrap_err().code(), ErrorCode::StorageFailed);
    assert_eq!(node.produce(&topic, &["no"]).await.unwrap_err().code(), ErrorCode::StorageFailed);
    assert_eq!(node.read_all(&topic).await, numbers(0..4));
    let node = node.crash(Crash::LoseAll).await;
    assert_eq!(node.read_all(&topic).await, numbers(0..4));
    assert_eq!(trim(&node, &topic, 2).await.unwrap(), 2);
    node.stop().await;
}

/// A promise: appends and trims of many partitions beside one another all come to their end, and a clean stop leaves no file of what was
/// given up.
#[tokio::test(flavor = "multi_thread")]
async fn trims_and_appends_go_side_by_side() {
    let node = Arc::new(Node::start(Faulty::new()).await);
    let config = BTreeMap::from([("segment.bytes".to_owned(), "1048576".to_owned())]);
    let new = NewTopic { name: TopicName::new("t").unwrap(), partitions: Some(4), replication_factor: None, config };
    let topic = node.broker.create_topic(new).await.unwrap();
    let value = "v".repeat(300 << 10);
    let workers: Vec<_> = (0..4)
        .map(PartitionIndex::new)
        .map(|partition| {
            let (node, topic, value) = (Arc::clone(&node), Arc::clone(&topic), value.clone());
            tokio::spawn(async move {
                for n in 0..12 {
                    let part = vec![(partition, Payload::Records { set: set(node.broker.now(), &[&value]), producer: None })];
                    let appended = node.broker.produce(&topic, part, Acks::All).unwrap().remove(0).wait(LONG).await.unwrap();
                    assert_eq!(appended.base_offset.get(), n);
                    assert_eq!(node.broker.trim(&topic, partition, n).await.unwrap().get(), n);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let described = node.broker.describe_topic("t").unwrap().partitions;
    assert!(described.iter().all(|p| p.earliest.unwrap().get() == 11 && p.size_bytes.unwrap() <= 3 << 20), "{described:?}");
    let node = Arc::into_inner(node).unwrap();
    let disk = node.disk.clone();
    node.stop().await;
    for partition in 0..4 {
        let entries = disk.list(Path::new(&format!("/data/t-{partition}"))).unwrap();
        let logs: Vec<_> = entries.iter().filter(|entry| entry.name.ends_with(".log")).collect();
        assert!(logs.len() <= 2, "{logs:?}");
    }
}

/// A promise: a topic made under the name of one that was trimmed and deleted a moment ago begins at 0 and keeps its records.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_never_touches_the_next_topic() {
    let mut node = Node::start(Faulty::new()).await;
    let value = "v".repeat(400 << 10);
    for _ in 0..5 {
        let topic = node.topic("t", &[("segment.bytes", "1048576")]).await;
        for n in 0..8 {
            assert_eq!(node.produce(&topic, &[&value]).await.unwrap().base_offset.get(), n);
        }
        assert_eq!(trim(&node, &topic, 8).await.unwrap(), 8);
        node.broker.delete_topic("t").await.unwrap();
        let topic = node.topic("t", &[]).await;
        assert_eq!(node.produce(&topic, &["first"]).await.unwrap().base_offset, Offset::ZERO);
        node = node.crash(Crash::LoseAll).await;
        assert_eq!(node.read_all(&topic).await, ["first"]);
        node.broker.delete_topic("t").await.unwrap();
    }
    node.stop().await;
}

/// A promise: a trim that is still under way when its topic is deleted is not held against the next topic of that name.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_trim_is_not_held_against_the_next_topic() {
    let node = Node::start(Faulty::new()).await;
    let topic = filled(&node, 4).await;
    // Long enough for the deletion to overtake the append, and the trim that waits behind it.
    node.disk.set_plan(FaultPlan { sync_delay: Duration::from_millis(200), ..FaultPlan::default() });
    let appending = node.send(&topic, &["late"], Acks::All).unwrap();
    let (trimmed, deleted) = tokio::join!(biased; trim(&node, &topic, 3), node.broker.delete_topic("t"));
    assert!(trimmed.is_ok() && deleted.is_ok() && appending.wait(LONG).await.is_ok(), "{trimmed:?} {deleted:?}");
    node.disk.set_plan(FaultPlan::default());
    let topic = node.topic("t", &[]).await;
    assert_eq!(node.produce(&topic, &["first"]).await.unwrap().base_offset, Offset::ZERO);
    assert_eq!(node.read_all(&topic).await, ["first"]);
    node.stop().await;
}
