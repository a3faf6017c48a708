//! Compaction through the broker: beside those who append, read, trim, delete and stop.

use super::*;
use crate::broker::compact::Uncleanable;

const FIRST: PartitionIndex = PartitionIndex::new(0);
const KEYS: u64 = 7;

/// A topic with small segments that is compacted whenever something is dirty.
async fn compacted(node: &Node, name: &str) -> Arc<Topic> {
    let config = [("cleanup.policy", "compact,delete"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0")];
    node.topic(name, &config).await
}

/// Appends record `n`: its key goes round, its value says `n` and has 20,000 bytes.
async fn put(node: &Node, topic: &Topic, n: u64) -> Result<u64, Error> {
    let mut set = RecordSetBuilder::with_capacity(&LIMITS, 1, 0);
    let (key, value) = ((n % KEYS).to_string(), format!("{n:020000}"));
    set.push(node.broker.now(), Encoding::Text, Some(key.as_bytes()), Some(value.as_bytes()), [].into_iter()).unwrap();
    let mut tickets = node.broker.produce(topic, vec![(FIRST, Payload::Records { set: set.finish(), producer: None })], Acks::All)?;
    Ok(tickets.remove(0).wait(LONG).await?.base_offset.get())
}

async fn fill(node: &Node, topic: &Topic, records: std::ops::Range<u64>) {
    for n in records {
        assert_eq!(put(node, topic, n).await.unwrap(), n);
    }
}

/// The numbers of the records that can be read from the head on, each at its offset.
async fn numbers(node: &Node, topic: &Arc<Topic>) -> Vec<u64> {
    let (mut all, mut position) = (Vec::new(), Position::Earliest);
    loop {
        let (_, fetched) = node.fetch(topic, position, Duration::ZERO).await.unwrap();
        all.extend(checked(&fetched));
        if fetched.next_offset == fetched.high_watermark {
            return all;
        }
        position = Position::Offset(fetched.next_offset.get());
    }
}

fn checked(fetched: &Fetched) -> Vec<u64> {
    let (mut found, mut end) = (Vec::new(), fetched.start);
    for batch in StoredBatches::new(fetched.batches.clone()) {
        let batch = batch.unwrap();
        end = batch.header.last_offset().next();
        for record in &batch.records().unwrap() {
            let record = record.unwrap();
            let value: u64 = std::str::from_utf8(record.value.unwrap()).unwrap().parse().unwrap();
            assert_eq!(
                (value, std::str::from_utf8(record.key.unwrap()).unwrap()),
                (record.offset.get(), (value % KEYS).to_string().as_str())
            );
            found.push(value);
        }
    }
    assert_eq!(end, fetched.next_offset);
    found.retain(|n| *n >= fetched.start.get());
    assert!(found.is_sorted_by(|a, b| a < b));
    found
}

async fn size(node: &Node, name: &str) -> u64 {
    node.broker.describe_topic(name).unwrap().partitions[0].size_bytes.unwrap()
}

/// A promise: a log shrinks to the latest of each key while others append to it and read it; who reads from the head sees offsets rise, no error,
/// and the last value of every key; after the plug was pulled it is the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_compacted_beside_those_who_use_it() {
    const RECORDS: u64 = 1_500;
    let node = Arc::new(Node::start(Faulty::new()).await);
    let topic = compacted(&node, "t").await;
    let writer = {
        let (node, topic) = (Arc::clone(&node), Arc::clone(&topic));
        tokio::spawn(async move { fill(&node, &topic, 0..RECORDS).await })
    };
    let readers: Vec<_> = [30_000, 200_000, 1 << 20]
        .into_iter()
        .map(|max_bytes| {
            let (node, topic) = (Arc::clone(&node), Arc::clone(&topic));
            tokio::spawn(async move {
                let (mut next, mut seen) = (0, BTreeMap::new());
                while next < RECORDS {
                    let request = FetchRequest {
                        topic: Arc::clone(&topic),
                        partition: FIRST,
                        position: Position::Offset(next),
                        reset: OffsetReset::Error,
                        max_bytes,
                        min_bytes: 1,
                        max_wait: LONG,
                    };
                    let fetched = node.broker.fetch(request).await.unwrap();
                    assert!(fetched.next_offset.get() > next, "there is always something to read on from");
                    for n in checked(&fetched) {
                        assert!(seen.insert(n % KEYS, n).is_none_or(|before| before < n), "nobody goes back");
                    }
                    next = fetched.next_offset.get();
                }
                seen
            })
        })
        .collect();
    let mut uncleanable = Uncleanable::new();
    while !writer.is_finished() {
        node.broker.compact_all(&mut uncleanable).await;
    }
    writer.await.unwrap();
    node.broker.compact_all(&mut uncleanable).await;
    assert!(uncleanable.is_empty(), "{uncleanable:?}");
    let last: BTreeMap<u64, u64> = (RECORDS - KEYS..RECORDS).map(|n| (n % KEYS, n)).collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), last);
    }
    let left = numbers(&node, &topic).await;
    assert_eq!(left[left.len() - 7..], (RECORDS - KEYS..RECORDS).collect::<Vec<_>>());
    // What is left is the active segment and the one before it, more or less, and at most one record of each key.
    assert!(size(&node, "t").await < 3 << 20 && left.len() < 120, "{} records are left", left.len());
    let Ok(node) = Arc::try_unwrap(node) else { panic!("everybody has gone") };
    let node = node.crash(Crash::LoseAll).await;
    assert_eq!(numbers(&node, &topic).await, left);
    assert_eq!(put(&node, &topic, RECORDS).await.unwrap(), RECORDS);
    node.broker.trim(&topic, FIRST, 1_000).await.unwrap();
    assert_eq!(numbers(&node, &topic).await.last(), Some(&RECORDS));
    node.stop().await;
}

/// A promise: a log that is damaged is not compacted any more, which is known; it is read and written as before, and all others are compacted.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_left_alone() {
    let node = Node::start(Faulty::new()).await;
    let (bad, good) = (compacted(&node, "bad").await, compacted(&node, "good").await);
    let _kept = node.topic("kept", &[("segment.bytes", "1048576")]).await;
    for topic in [&bad, &good] {
        fill(&node, topic, 0..120).await;
    }
    node.disk.flip_bit(Path::new("/data/bad-0/00000000000000000000.log"), 500_000, 3).unwrap();
    let (before, mut uncleanable) = (size(&node, "bad").await, Uncleanable::new());
    for _ in 0..2 {
        node.broker.compact_all(&mut uncleanable).await;
        let names: Vec<_> = uncleanable.keys().collect();
        assert_eq!(names, [&(bad.id, FIRST)]);
    }
    assert!(uncleanable.values().all(|reason| reason.contains("corrupt at byte")), "{uncleanable:?}");
    assert_eq!(size(&node, "bad").await, before);
    assert!(size(&node, "good").await < before / 2);
    assert_eq!(put(&node, &bad, 120).await.unwrap(), 120);
    node.broker.delete_topic("bad").await.unwrap();
    node.broker.compact_all(&mut uncleanable).await;
    assert!(uncleanable.is_empty());
    node.stop().await;
}

/// Waits until the disk has taken so many steps of a round.
async fn until(node: &Node, steps: u64, round: &tokio::task::JoinHandle<()>) {
    let to = node.disk.steps() + steps;
    while node.disk.steps() < to && !round.is_finished() {
        tokio::task::yield_now().await;
    }
}

/// A promise: a round never holds up the end: a topic that is deleted and made anew, and a node that stops, in the middle of one, leave no file
/// of it to the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_gives_way_to_the_end() {
    let node = Arc::new(Node::start(Faulty::new()).await);
    let start = |node: &Arc<Node>| {
        let broker = node.broker.clone();
        tokio::spawn(async move { broker.compact_all(&mut Uncleanable::new()).await })
    };
    for steps in [0, 3, 10, 12, 14, 16, 18, 25] {
        let topic = compacted(&node, "t").await;
        fill(&node, &topic, 0..250).await;
        node.disk.set_plan(FaultPlan {
            sync_delay: Duration::from_millis(5),
            write_delay: Duration::from_millis(5),
            ..FaultPlan::default()
        });
        let round = start(&node);
        until(&node, steps, &round).await;
        node.broker.delete_topic("t").await.unwrap();
        let again = compacted(&node, "t").await;
        fill(&node, &again, 0..3).await;
        round.await.unwrap();
        assert_eq!(numbers(&node, &again).await, [0, 1, 2]);
        let names: Vec<_> = node.disk.list(Path::new("/data/t-0")).unwrap().into_iter().map(|entry| entry.name).collect();
        assert!(names.iter().all(|name| !name.contains(".log.")), "{names:?}");
        node.broker.delete_topic("t").await.unwrap();
        node.disk.set_plan(FaultPlan::default());
    }
    let topic = compacted(&node, "t").await;
    fill(&node, &topic, 0..250).await;
    node.disk.set_plan(FaultPlan { sync_delay: Duration::from_millis(5), write_delay: Duration::from_millis(5), ..FaultPlan::default() });
    let round = start(&node);
    until(&node, 12, &round).await;
    node.broker.stop().await;
    round.await.unwrap();
    let Ok(node) = Arc::try_unwrap(node) else { panic!("everybody has gone") };
    let node = node.crash(Crash::Kill).await;
    let left = numbers(&node, &topic).await;
    assert_eq!(left[left.len() - 7..], (243..250).collect::<Vec<_>>());
    node.stop().await;
}

/// A promise: a round that would take an hour, since compaction may read and write only so much, ends as soon as its topic is deleted or the node
/// stops.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_round_gives_way_at_once() {
    let slow = |config: &mut BrokerConfig| config.compaction_bytes_per_second = 1_000;
    let node = Node::start_as(Faulty::new(), tempfile::tempdir().unwrap(), slow).await;
    for stops in [false, true] {
        let topic = compacted(&node, "t").await;
        fill(&node, &topic, 0..250).await;
        let broker = node.broker.clone();
        let round = tokio::spawn(async move { broker.compact_all(&mut Uncleanable::new()).await });
        let end = async {
            // It has begun by then; nothing tells when.
            for _ in 0..10_000 {
                tokio::task::yield_now().await;
            }
            assert!(!round.is_finished());
            if stops {
                node.broker.stop().await
            } else {
                node.broker.delete_topic("t").await.unwrap()
            }
            round.await.unwrap();
        };
        tokio::time::timeout(LONG, end).await.unwrap();
    }
}
