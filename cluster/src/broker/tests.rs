use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use tidegate_storage::io::{Crash, Failure, FaultPlan, Faulty, Io, Operation};
use tidegate_storage::kv::KvStore;
use tidegate_types::batch::StoredBatches;
use tidegate_types::time::SystemClock;
use tidegate_types::{ClusterId, Encoding, ErrorCode, Offset, PartitionIndex, RecordSet, RecordSetBuilder, TopicName};
use uuid::Uuid;

use super::*;
use crate::metadata::image::ClusterSecret;
use crate::metadata::quorum::{Compaction, FirstStart, RaftConfig, RaftQuorum, Timings};
use crate::peer::NoPeers;

mod compact;
mod ranges;
mod retention;
mod trim;

static LIMITS: LazyLock<Limits> = LazyLock::new(Limits::default);
const LONG: Duration = Duration::from_secs(60);

/// A node without its roof: metadata on a real directory, logs on a disk that a test can spoil.
struct Node {
    broker: Broker,
    quorum: Arc<RaftQuorum>,
    disk: Faulty,
    metadata: tempfile::TempDir,
}

impl Node {
    async fn start(disk: Faulty) -> Self {
        Self::start_on(disk, tempfile::tempdir().unwrap(), Limits::default()).await
    }

    async fn start_on(disk: Faulty, metadata: tempfile::TempDir, limits: Limits) -> Self {
        Self::start_as(disk, metadata, |config| config.limits = limits).await
    }

    /// With another configuration.
    async fn start_as(disk: Faulty, metadata: tempfile::TempDir, change: impl FnOnce(&mut BrokerConfig)) -> Self {
        let io: Arc<dyn Io> = Arc::new(disk.clone());
        let node_id = NodeId::new(1);
        let store = Store::open(io, Path::new("/data"), node_id, Uuid::from_u128(1)).unwrap();
        let kv = KvStore::open(metadata.path(), node_id, Uuid::from_u128(2)).unwrap();
        let first_start = FirstStart::Found { cluster_id: ClusterId::new(Uuid::from_u128(3)), secret: ClusterSecret::new([1; 32]) };
        let config = RaftConfig { peer_address: None, first_start, timings: Timings::default(), compaction: Compaction::default() };
        let quorum = Arc::new(RaftQuorum::start(config, Arc::new(kv), Arc::new(NoPeers)).await.unwrap());
        let mut config = BrokerConfig {
            node_id,
            limits: Limits::default(),
            default_partitions: 1,
            client_address: "127.0.0.1:1".to_owned(),
            rack: None,
            disk_threads: 2,
            // Never: these tests count what happens on the disk.
            checkpoint_interval: Duration::from_secs(3_600),
            recovery_threads: 2,
            // Never: tests look themselves.
            retention_check_interval: Duration::from_secs(3_600),
            compaction_backoff: Duration::from_secs(3_600),
            compaction_memory: 1 << 20,
            compaction_bytes_per_second: u64::MAX,
            producer_expiration: PRODUCER_EXPIRATION,
        };
        change(&mut config);
        let parts = BrokerParts {
            config,
            store: Arc::new(store),
            quorum: Arc::clone(&quorum) as Arc<dyn MetadataQuorum>,
            clock: Arc::new(SystemClock::new()),
        };
        let broker = Broker::start(parts).await.unwrap();
        Self { broker, quorum, disk, metadata }
    }

    /// Pulls the plug (of the logs' disk) and starts again.
    async fn crash(self, crash: Crash) -> Self {
        let disk = self.disk.after_crash(crash);
        self.disk.set_plan(FaultPlan { cut_at: Some(0), ..FaultPlan::default() });
        self.broker.stop().await;
        self.quorum.shutdown().await;
        Self::start_on(disk, self.metadata, Limits::default()).await
    }

    async fn topic(&self, name: &str, config: &[(&str, &str)]) -> Arc<Topic> {
        let config: BTreeMap<_, _> = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let new = NewTopic { name: TopicName::new(name).unwrap(), partitions: None, replication_factor: None, config };
        self.broker.create_topic(new).await.unwrap()
    }

    /// Starts an append of records with these values.
    fn send(&self, topic: &Topic, values: &[&str], acks: Acks) -> Result<Ticket, Error> {
        let set = set(self.broker.now(), values);
        let mut tickets = self.broker.produce(topic, vec![(PartitionIndex::new(0), Payload::Records { set, producer: None })], acks)?;
        Ok(tickets.remove(0))
    }

    async fn produce(&self, topic: &Topic, values: &[&str]) -> Result<Appended, Error> {
        self.send(topic, values, Acks::All)?.wait(LONG).await
    }

    async fn fetch(&self, topic: &Arc<Topic>, position: Position, max_wait: Duration) -> Result<(Vec<String>, Fetched), Error> {
        let request = FetchRequest {
            topic: Arc::clone(topic),
            partition: PartitionIndex::new(0),
            position,
            reset: OffsetReset::Error,
            max_bytes: 1 << 20,
            min_bytes: 1,
            max_wait,
        };
        let fetched = self.broker.fetch(request).await?;
        Ok((values(&fetched), fetched))
    }

    async fn read_all(&self, topic: &Arc<Topic>) -> Vec<String> {
        let (mut all, mut position) = (Vec::new(), Position::Earliest);
        loop {
            let (values, fetched) = self.fetch(topic, position, Duration::ZERO).await.unwrap();
            if fetched.batches.is_empty() {
                return all;
            }
            all.extend(values);
            position = Position::Offset(fetched.next_offset.get());
        }
    }

    async fn stop(self) {
        self.broker.stop().await;
        self.quorum.shutdown().await;
    }
}

fn set(now: Timestamp, values: &[&str]) -> RecordSet {
    let mut set = RecordSetBuilder::with_capacity(&LIMITS, values.len(), 0);
    for value in values {
        set.push(now, Encoding::Text, None, Some(value.as_bytes()), [].into_iter()).unwrap();
    }
    set.finish()
}

fn values(fetched: &Fetched) -> Vec<String> {
    let mut values = Vec::new();
    for batch in StoredBatches::new(fetched.batches.clone()) {
        for record in &batch.unwrap().records().unwrap() {
            let record = record.unwrap();
            if record.offset >= fetched.start {
                values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            }
        }
    }
    values
}

/// A promise: what is acknowledged is there after the plug was pulled, at its offset; the topic and the cluster too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_survives_the_loss_of_all_that_was_not_synced() {
    let node = Node::start(Faulty::new()).await;
    let topic = node.topic("t", &[]).await;
    let mut expected = Vec::new();
    for n in 0..20 {
        let value = n.to_string();
        let appended = node.produce(&topic, &[&value, "x"]).await.unwrap();
        assert_eq!((appended.base_offset.get(), appended.last_offset.get()), (2 * n, 2 * n + 1));
        expected.extend([value, "x".to_owned()]);
    }
    let before = node.broker.metadata().image;
    let node = node.crash(Crash::LoseAll).await;
    assert_eq!(node.read_all(&topic).await, expected);
    let after = node.broker.metadata().image;
    assert_eq!((after.cluster_id, after.topic("t").map(|t| t.id)), (before.cluster_id, Some(topic.id)));
    assert_eq!(node.produce(&topic, &["next"]).await.unwrap().base_offset.get(), 40);
    node.stop().await;
}

/// A promise: appends that wait share a batch and a sync.
#[tokio::test(flavor = "multi_thread")]
async fn appends_that_wait_share_a_sync() {
    let node = Node::start(Faulty::new()).await;
    let topic = node.topic("t", &[]).await;
    node.disk.set_plan(FaultPlan { sync_delay: Duration::from_millis(2), ..FaultPlan::default() });
    let before = node.disk.syncs();
    let node = Arc::new(node);
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let (node, topic) = (Arc::clone(&node), Arc::clone(&topic));
            tokio::spawn(async move {
                for _ in 0..20 {
                    node.produce(&topic, &["v"]).await.unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let syncs = node.disk.syncs() - before;
    assert!(syncs * 4 <= 64 * 20, "{syncs} syncs for {} appends", 64 * 20);
    let (_, fetched) = node.fetch(&topic, Position::Earliest, Duration::ZERO).await.unwrap();
    let mut sizes: Vec<_> = StoredBatches::new(fetched.batches).map(|batch| batch.unwrap().header.record_count).collect();
    sizes.sort_unstable();
    assert!(sizes[sizes.len() / 2] >= 8, "records a batch: {sizes:?}");
}

/// A promise: when the disk does not keep up, what does not fit is refused at once and certainly not written, and what was taken is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_refuses_the_excess_and_keeps_the_rest() {
    let limits = Limits { partition_in_flight_requests: 100, ..Limits::default() };
    let node = Node::start_on(Faulty::new(), tempfile::tempdir().unwrap(), limits).await;
    let topic = node.topic("t", &[]).await;
    node.disk.set_plan(FaultPlan { sync_delay: Duration::from_millis(100), ..FaultPlan::default() });
    let tickets: Vec<_> = (0..1_000).map(|n| node.send(&topic, &[&n.to_string()], Acks::All)).collect();
    let refused = tickets.iter().filter(|ticket| ticket.as_ref().is_err_and(|error| error.code() == ErrorCode::Overloaded)).count();
    assert_eq!(refused, 900);
    let mut kept = Vec::new();
    for (n, ticket) in tickets.into_iter().enumerate() {
        if let Ok(ticket) = ticket {
            kept.push((ticket.wait(LONG).await.unwrap().base_offset.get(), n.to_string()));
        }
    }
    let node = node.crash(Crash::LoseAll).await;
    let read = node.read_all(&topic).await.into_iter().enumerate().map(|(offset, value)| (offset as u64, value)).collect::<Vec<_>>();
    assert_eq!(read, kept);
    node.produce(&topic, &["and on"]).await.unwrap();
    node.stop().await;
}

/// A promise: whoever waits for records gets them when they are readable, and nothing before.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_is_answered_by_the_append() {
    let node = Arc::new(Node::start(Faulty::new()).await);
    let topic = node.topic("t", &[]).await;
    let waiting = {
        let (node, topic) = (Arc::clone(&node), Arc::clone(&topic));
        tokio::spawn(async move { node.fetch(&topic, Position::Offset(0), LONG).await })
    };
    node.produce(&topic, &["a"]).await.unwrap();
    let (values, fetched) = waiting.await.unwrap().unwrap();
    assert_eq!(
        (values, fetched.next_offset, fetched.high_watermark),
        (vec!["a".to_owned()], Offset::new(1).unwrap(), Offset::new(1).unwrap())
    );
    let (values, _) = node.fetch(&topic, Position::Offset(1), Duration::from_millis(1)).await.unwrap();
    assert!(values.is_empty(), "at the high watermark an empty answer, no error");
    let beyond = node.fetch(&topic, Position::Offset(2), LONG).await.unwrap_err();
    assert_eq!(beyond.code(), ErrorCode::OffsetOutOfRange);
}

/// A promise: positions mean what they say.
#[tokio::test(flavor = "multi_thread")]
async fn positions_find_their_records() {
    let node = Node::start(Faulty::new()).await;
    let topic = node.topic("t", &[]).await;
    for value in ["a", "b", "c"] {
        node.produce(&topic, &[value]).await.unwrap();
    }
    for (position, expected) in [
        (Position::Earliest, "abc"),
        (Position::Offset(1), "bc"),
        (Position::Tail(1), "c"),
        (Position::Tail(99), "abc"),
        (Position::Timestamp(0), "abc"),
        (Position::Timestamp(i64::MAX), ""),
        (Position::Latest, ""),
    ] {
        let (values, _) = node.fetch(&topic, position, Duration::ZERO).await.unwrap();
        assert_eq!(values.concat(), expected, "{position:?}");
    }
    let offsets = node.broker.offsets(&topic, PartitionIndex::new(0), Some(OffsetQuestion::MaxTimestamp)).await.unwrap();
    assert_eq!((offsets.earliest.get(), offsets.latest.get()), (0, 3));
    assert!(offsets.answer.unwrap().1.is_some());
    let missing = node.broker.offsets(&topic, PartitionIndex::new(1), None).await.unwrap_err();
    assert_eq!(missing.code(), ErrorCode::PartitionNotFound);
    node.stop().await;
}

/// A promise: a node that stops answers everybody: who waits for records at once, who was admitted with the outcome, who comes later with a refusal.
#[tokio::test(flavor = "multi_thread")]
async fn stopping_answers_everybody() {
    let node = Arc::new(Node::start(Faulty::new()).await);
    let topic = node.topic("t", &[]).await;
    node.disk.set_plan(FaultPlan { sync_delay: Duration::from_millis(50), ..FaultPlan::default() });
    let fetching = {
        let (node, topic) = (Arc::clone(&node), Arc::clone(&topic));
        tokio::spawn(async move { node.fetch(&topic, Position::Latest, LONG).await })
    };
    let tickets: Vec<_> = (0..10).map(|_| node.send(&topic, &["v"], Acks::All).unwrap()).collect();
    node.broker.stop().await;
    for ticket in tickets {
        ticket.wait(Duration::ZERO).await.unwrap();
    }
    fetching.await.unwrap().unwrap();
    assert_eq!(node.send(&topic, &["late"], Acks::All).unwrap_err().code(), ErrorCode::Draining);
}

/// A promise: after a failed sync nothing is acknowledged and nothing unsynced is readable; what was acknowledged before is.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_stops_the_partition_and_not_its_readers() {
    let node = Node::start(Faulty::new()).await;
    let topic = node.topic("t", &[]).await;
    node.produce(&topic, &["kept"]).await.unwrap();
    node.disk.set_plan(FaultPlan { fail_at: Some((node.disk.steps() + 1, std::io::ErrorKind::Other)), ..FaultPlan::default() });
    for value in ["lost", "later"] {
        assert_eq!(node.produce(&topic, &[value]).await.unwrap_err().code(), ErrorCode::StorageFailed);
    }
    assert_eq!(node.read_all(&topic).await, ["kept"]);
    node.stop().await;
}

/// A promise: a full disk is an answer, not an end.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_refused_until_there_is_room() {
    let node = Node::start(Faulty::new()).await;
    let topic = node.topic("t", &[]).await;
    node.disk.set_plan(FaultPlan { capacity: Some(0), ..FaultPlan::default() });
    assert_eq!(node.produce(&topic, &["no"]).await.unwrap_err().code(), ErrorCode::StorageFull);
    node.disk.set_plan(FaultPlan::default());
    assert_eq!(node.produce(&topic, &["yes"]).await.unwrap().base_offset, Offset::ZERO);
    assert_eq!(node.read_all(&topic).await, ["yes"]);
    node.stop().await;
}

/// A promise: a topic that was deleted while the disk was sick can be made again under its name, and starts from nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_fails_half_way_is_no_obstacle() {
    let node = Node::start(Faulty::new()).await;
    let topic = node.topic("t", &[]).await;
    for value in ["a", "b", "c"] {
        node.produce(&topic, &[value]).await.unwrap();
    }
    node.broker.trim(&topic, PartitionIndex::new(0), 2).await.unwrap();
    let failure = Failure { on: Some(Operation::Create), skip: 0, times: u64::MAX, kind: std::io::ErrorKind::Other };
    node.disk.set_plan(FaultPlan { failures: vec![failure], ..FaultPlan::default() });
    node.broker.delete_topic("t").await.unwrap();
    node.disk.set_plan(FaultPlan::default());
    let topic = node.topic("t", &[]).await;
    assert_eq!(node.produce(&topic, &["new"]).await.unwrap().base_offset, Offset::ZERO);
    assert_eq!(node.read_all(&topic).await, ["new"]);
    node.stop().await;
}

/// A promise: `acks=leader` does not wait for the disk, and what it acknowledged becomes readable only when it is synced.
#[tokio::test(flavor = "multi_thread")]
async fn acks_leader_answers_before_the_sync() {
    let node = Node::start(Faulty::new()).await;
    let topic = node.topic("t", &[]).await;
    node.disk.set_plan(FaultPlan { sync_delay: Duration::from_millis(300), ..FaultPlan::default() });
    let (syncs, ticket) = (node.disk.syncs(), node.send(&topic, &["v"], Acks::Leader).unwrap());
    ticket.wait(LONG).await.unwrap();
    assert_eq!(node.broker.offsets(&topic, PartitionIndex::new(0), None).await.unwrap().latest, Offset::ZERO);
    let (values, _) = node.fetch(&topic, Position::Earliest, LONG).await.unwrap();
    assert!(values == ["v"] && node.disk.syncs() > syncs);
    node.stop().await;
}

/// A promise: with `durability=replicated` nothing waits for a sync; a clean stop syncs all the same.
#[tokio::test(flavor = "multi_thread")]
async fn replicated_durability_does_not_sync() {
    let node = Node::start(Faulty::new()).await;
    let topic = node.topic("t", &[("durability", "replicated")]).await;
    node.produce(&topic, &["lost"]).await.unwrap();
    let node = node.crash(Crash::LoseAll).await;
    assert!(node.read_all(&topic).await.is_empty(), "what lies in the page cache alone goes with the power");
    node.produce(&topic, &["v"]).await.unwrap();
    node.broker.stop().await;
    let node = node.crash(Crash::LoseAll).await;
    assert_eq!(node.read_all(&topic).await, ["v"]);
    node.stop().await;
}

/// A promise: a topic that turns from `replicated` to `fsync` and back, as often as it likes, answers every append, and nothing unsynced
/// is noted as synced.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_change_what_counts_at_any_time() {
    let node = Arc::new(Node::start(Faulty::new()).await);
    let topic = node.topic("t", &[("durability", "replicated")]).await;
    node.disk.set_plan(FaultPlan { write_delay: Duration::from_millis(1), sync_delay: Duration::from_millis(1), ..FaultPlan::default() });
    let toggling = {
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            for durability in ["fsync", "replicated"].into_iter().cycle().take(21) {
                let config = BTreeMap::from([("durability".to_owned(), Some(durability.to_owned()))]);
                node.broker.alter_topic("t", TopicChange { partitions: None, config }).await.unwrap();
            }
        })
    };
    let mut written = 0;
    while !toggling.is_finished() {
        let appended = node.produce(&topic, &["v"]).await.unwrap();
        written += 1;
        assert_eq!(appended.last_offset.next().get(), written);
    }
    toggling.await.unwrap();
    // The last change was to `fsync`: everything written counts only once it is synced.
    let last = node.produce(&topic, &["v"]).await.unwrap();
    assert_eq!(last.durability, tidegate_types::topic_config::Durability::Fsync);
    let synced = node.broker.inner.partitions.checkpoint().synced;
    assert!(synced.values().all(|offset| *offset == last.last_offset.next()), "{synced:?}");
    let node = Arc::into_inner(node).unwrap().crash(Crash::LoseAll).await;
    assert_eq!(node.read_all(&topic).await.len() as u64, written + 1);
    node.stop().await;
}

/// A promise: records written while nothing had to be synced become durable when the topic turns to `fsync`, without another append.
#[tokio::test(flavor = "multi_thread")]
async fn turning_to_fsync_syncs_what_is_written() {
    let node = Node::start(Faulty::new()).await;
    let topic = node.topic("t", &[("durability", "replicated")]).await;
    let written = node.produce(&topic, &["v"]).await.unwrap();
    assert_eq!(written.durability, tidegate_types::topic_config::Durability::Replicated);
    assert!(node.broker.inner.partitions.checkpoint().synced.values().all(|offset| *offset == Offset::ZERO), "nothing is synced yet");
    let config = BTreeMap::from([("durability".to_owned(), Some("fsync".to_owned()))]);
    node.broker.alter_topic("t", TopicChange { partitions: None, config }).await.unwrap();
    let partition = node.broker.partition(&node.broker.topic("t").unwrap(), PartitionIndex::new(0)).unwrap();
    partition.watch().wait_for(|marks| marks.synced_end == Offset::new(1).unwrap()).await.unwrap();
    let node = node.crash(Crash::LoseAll).await;
    assert_eq!(node.read_all(&topic).await, ["v"]);
    node.stop().await;
}

/// A promise: with `flush.ms` what was acknowledged without a sync is synced soon after, by itself, and only then; without it, it is not.
#[tokio::test]
async fn what_is_written_is_synced_in_time() {
    let node = Node::start(Faulty::new()).await;
    let timed = node.topic("timed", &[("durability", "replicated"), ("flush.ms", "40")]).await;
    let never = node.topic("never", &[("durability", "replicated")]).await;
    let synced = |topic: &Topic| node.broker.partition(topic, PartitionIndex::new(0)).unwrap().marks().synced_end.get();
    node.produce(&never, &["a"]).await.unwrap();
    for round in 1..=3 {
        node.produce(&timed, &["a"]).await.unwrap();
        let partition = node.broker.partition(&timed, PartitionIndex::new(0)).unwrap();
        let mut marks = partition.watch();
        tokio::time::timeout(LONG, marks.wait_for(|marks| marks.synced_end.get() == round)).await.unwrap().unwrap();
    }
    // What is refused puts off nothing.
    node.produce(&timed, &["a"]).await.unwrap();
    node.disk.set_plan(FaultPlan { capacity: Some(node.disk.used() + 10), ..FaultPlan::default() });
    assert!(node.produce(&timed, &[&"b".repeat(5_000)]).await.is_err());
    node.disk.set_plan(FaultPlan::default());
    let partition = node.broker.partition(&timed, PartitionIndex::new(0)).unwrap();
    tokio::time::timeout(LONG, partition.watch().wait_for(|marks| marks.synced_end.get() == 4)).await.unwrap().unwrap();
    let syncs = node.disk.syncs();
    assert_eq!((synced(&timed), synced(&never)), (4, 0));
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert_eq!(node.disk.syncs(), syncs, "there is nothing left to sync");
    node.stop().await;
}

/// A promise: a batch of a few kilobytes that unpacks to more than a batch may have harms nobody, whatever codec the topic wants.
#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_stays_packed() {
    let node = Node::start(Faulty::new()).await;
    let topic = node.topic("t", &[("compression.type", "uncompressed")]).await;
    let mut set = RecordSetBuilder::with_capacity(&LIMITS, 1, 0);
    set.push(Timestamp::from_millis(1), Encoding::Bytes, None, Some(&vec![0; 30 << 20]), [].into_iter()).unwrap();
    let mut builder = tidegate_types::BatchBuilder::with_capacity(0);
    builder.push(&set.finish());
    let bomb = builder.finish().recompress(tidegate_types::Codec::Gzip, usize::MAX).unwrap();
    assert!(bomb.len() < 100_000);
    let payload = || (PartitionIndex::new(0), Payload::Batches(vec![bomb.clone(); 20]));
    let ticket = node.broker.produce(&topic, vec![payload()], Acks::All).unwrap().remove(0);
    assert_eq!(ticket.wait(LONG).await.unwrap().last_offset.get(), 19);
    let fetched = node.fetch(&topic, Position::Offset(19), Duration::ZERO).await.unwrap().1;
    assert!(fetched.batches.len() < 100_000);
    node.stop().await;
}

/// A promise: a topic whose partitions could not be opened is no topic: the call says why, and nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_without_room_is_not_made() {
    let node = Node::start(Faulty::new()).await;
    node.disk.set_plan(FaultPlan { capacity: Some(0), ..FaultPlan::default() });
    let new = NewTopic { name: TopicName::new("t").unwrap(), partitions: Some(3), replication_factor: None, config: BTreeMap::new() };
    assert_eq!(node.broker.create_topic(new.clone()).await.unwrap_err().code(), ErrorCode::StorageFull);
    assert_eq!(node.broker.topic("t").unwrap_err().code(), ErrorCode::TopicNotFound);
    node.disk.set_plan(FaultPlan::default());
    node.broker.create_topic(new).await.unwrap();
    node.stop().await;
}

/// A promise: a deleted topic is gone with its records, and one of the same name made again starts empty; both as often as one likes.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_leaves_nothing_behind() {
    let node = Node::start(Faulty::new()).await;
    for _ in 0..5 {
        let topic = node.topic("t", &[]).await;
        assert_eq!(node.produce(&topic, &["v"]).await.unwrap().base_offset, Offset::ZERO);
        node.broker.delete_topic("t").await.unwrap();
        assert_eq!(node.broker.topic("t").unwrap_err().code(), ErrorCode::TopicNotFound);
        assert!(node.send(&topic, &["late"], Acks::All).is_err());
    }
    assert_eq!(node.broker.delete_topic("t").await.unwrap_err().code(), ErrorCode::TopicNotFound);
    let node = node.crash(Crash::KeepAll).await;
    assert!(node.broker.metadata().image.topics.is_empty());
    node.stop().await;
}

/// A promise: a topic's rules are checked before anything is written, and the answer says which record broke which.
#[tokio::test(flavor = "multi_thread")]
async fn a_topics_rules_are_checked_first() {
    let node = Node::start(Faulty::new()).await;
    let compacted = node.topic("compacted", &[("cleanup.policy", "compact")]).await;
    assert!(matches!(node.produce(&compacted, &["no key"]).await, Err(Error::RecordRejected { part: 0, index: 0, .. })));
    let small = node.topic("small", &[("max.message.bytes", "1024")]).await;
    assert!(matches!(node.produce(&small, &[&"x".repeat(2000)]).await, Err(Error::RecordTooLarge { part: 0, limit: 1024, .. })));
    let aged = node.topic("aged", &[("message.timestamp.before.max.ms", "1000")]).await;
    let old = vec![(PartitionIndex::new(0), Payload::Records { set: set(Timestamp::from_millis(1_000), &["old"]), producer: None })];
    assert!(matches!(node.broker.produce(&aged, old, Acks::All), Err(Error::RecordRejected { .. })));
    for topic in [&compacted, &small, &aged] {
        assert!(node.read_all(topic).await.is_empty());
    }
    node.stop().await;
}

/// A promise: topics are what was asked for, or the refusal says what is wrong with the request.
#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_changed_and_compared() {
    let node = Node::start(Faulty::new()).await;
    let new = |name: &str, partitions, config: &[(&str, &str)]| NewTopic {
        name: TopicName::new(name).unwrap(),
        partitions,
        replication_factor: None,
        config: config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    };
    let broker = &node.broker;
    let code = |result: Result<Arc<Topic>, Error>| result.map(|topic| topic.partition_count()).map_err(|error| error.code());
    assert_eq!(code(broker.create_topic(new("a", Some(3), &[])).await), Ok(3));
    assert_eq!(code(broker.create_topic(new("a", None, &[])).await), Err(ErrorCode::TopicAlreadyExists));
    assert_eq!(code(broker.create_topic(new("b", Some(0), &[])).await), Err(ErrorCode::ValidationFailed));
    assert_eq!(code(broker.create_topic(new("b", Some(10_001), &[])).await), Err(ErrorCode::ValidationFailed));
    assert_eq!(code(broker.create_topic(new("__b", None, &[])).await), Err(ErrorCode::ValidationFailed));
    assert_eq!(code(broker.create_topic(new("b", None, &[("retention.hours", "1")])).await), Err(ErrorCode::UnknownConfig));
    assert_eq!(
        code(broker.create_topic(NewTopic { replication_factor: Some(2), ..new("b", None, &[]) }).await),
        Err(ErrorCode::ValidationFailed)
    );
    assert!(matches!(broker.ensure_topic(new("a", Some(3), &[("durability", "fsync")])).await, Ok(EnsureOutcome::Unchanged(_))));
    assert!(matches!(broker.ensure_topic(new("b", None, &[])).await, Ok(EnsureOutcome::Created(_))));
    match broker.ensure_topic(new("a", Some(4), &[("retention.ms", "1")])).await {
        Err(Error::TopicDiffers { differences, .. }) => {
            let pointers: Vec<_> = differences.iter().map(|difference| difference.pointer.as_str()).collect();
            assert_eq!(pointers, ["/partitions", "/config/retention.ms"]);
        }
        other => panic!("{other:?}"),
    }
    let change = |partitions, config: &[(&str, Option<&str>)]| TopicChange {
        partitions,
        config: config.iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect(),
    };
    assert_eq!(code(broker.alter_topic("a", change(Some(2), &[])).await), Err(ErrorCode::ValidationFailed));
    let grown = broker.alter_topic("a", change(Some(5), &[("segment.bytes", Some("1048576"))])).await.unwrap();
    assert_eq!((grown.partition_count(), grown.config.segment_bytes), (5, 1 << 20));
    assert!(broker.describe_topic("a").unwrap().partitions.iter().all(|partition| partition.latest == Some(Offset::ZERO)));
    let reset = broker.alter_topic("a", change(None, &[("segment.bytes", None)])).await.unwrap();
    assert_eq!(reset.config.segment_bytes, 1 << 30);
    let cluster = broker.describe_cluster();
    assert_eq!((cluster.controller, cluster.nodes.len(), cluster.offline_partitions), (Some(NodeId::new(1)), 1, 0));
    node.stop().await;
}
