use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, Membership, Vote};
use tempfile::TempDir;
use tidegate_types::{Timestamp, TopicId, TopicName};
use uuid::Uuid;

use super::*;
use crate::metadata::command::Refusal;
use crate::metadata::image::MetadataImage;
use crate::peer::{Destination, NoPeers, Unreachable};

fn cluster_id(n: u128) -> ClusterId {
    ClusterId::new(Uuid::from_u128(n))
}

fn founding(n: u128) -> RaftConfig {
    RaftConfig {
        peer_address: None,
        first_start: FirstStart::Found { cluster_id: cluster_id(n), secret: ClusterSecret::new([9; 32]) },
        timings: Timings::default(),
        compaction: Compaction::default(),
    }
}

fn open(directory: &TempDir, node: u64) -> Arc<KvStore> {
    Arc::new(KvStore::open(&directory.path().join("metadata"), NodeId::new(node), Uuid::from_u128(u128::from(node))).unwrap())
}

async fn start_alone(directory: &TempDir, config: RaftConfig) -> RaftQuorum {
    RaftQuorum::start(config, open(directory, 1), Arc::new(NoPeers)).await.unwrap()
}

fn register(node: u64) -> Command {
    Command::RegisterNode {
        node_id: NodeId::new(node),
        client_address: "127.0.0.1:8080".to_owned(),
        peer_address: None,
        rack: None,
        directory_id: Uuid::from_u128(1),
    }
}

fn create(n: u128, name: &str) -> Command {
    Command::CreateTopic {
        id: TopicId::new(Uuid::from_u128(n)),
        name: TopicName::new(name).unwrap(),
        created_at: Timestamp::from_millis(0),
        assignments: vec![vec![NodeId::new(1)]; 4],
        replication_factor: 1,
        overrides: BTreeMap::new(),
    }
}

fn delete(n: u128) -> Command {
    Command::DeleteTopic { id: TopicId::new(Uuid::from_u128(n)) }
}

fn image(quorum: &RaftQuorum) -> Arc<MetadataImage> {
    Arc::clone(&quorum.watch().borrow().image)
}

async fn done(quorum: &RaftQuorum, command: Command) -> u64 {
    match quorum.propose(command).await.unwrap() {
        Outcome::Done { version } => version,
        Outcome::Refused(refusal) => panic!("refused: {refusal}"),
    }
}

/// A promise: whoever has got an answer finds it in the image at once; a refusal comes back as one.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_in_the_image() {
    let directory = tempfile::tempdir().unwrap();
    let quorum = start_alone(&directory, founding(1)).await;
    assert_eq!(image(&quorum).cluster_id, Some(cluster_id(1)));
    let version = done(&quorum, register(1)).await;
    assert_eq!(image(&quorum).nodes[&NodeId::new(1)].broker_epoch, version);
    for n in 0..50 {
        let version = done(&quorum, create(n, &format!("topic{n}"))).await;
        assert!(image(&quorum).topic(&format!("topic{n}")).is_some());
        assert!(quorum.watch().borrow().version >= version);
    }
    assert_eq!(quorum.propose(create(99, "topic7")).await.unwrap(), Outcome::Refused(Refusal::TopicExists));
    assert_eq!(quorum.barrier().await.unwrap(), quorum.metrics().last_log_index.unwrap());
    assert_eq!(quorum.membership(), QuorumMembership { voters: vec![NodeId::new(1)], learners: vec![] });
    assert_eq!((quorum.metrics().role, quorum.metrics().leader), (QuorumRole::Leader, Some(NodeId::new(1))));
    quorum.shutdown().await;
    assert!(matches!(quorum.propose(register(1)).await, Err(QuorumError::Stopped(_))));
}

/// A promise: a restart keeps cluster id, secret, nodes and topics, whatever ids are offered to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything() {
    let directory = tempfile::tempdir().unwrap();
    let quorum = start_alone(&directory, founding(1)).await;
    done(&quorum, register(1)).await;
    done(&quorum, create(5, "flights")).await;
    let before = quorum.watch().borrow().clone();
    quorum.shutdown().await;
    for round in 2..5 {
        let quorum = start_alone(&directory, founding(round)).await;
        let after = quorum.watch().borrow().clone();
        assert_eq!(after.image, before.image);
        assert!(after.version >= before.version);
        quorum.shutdown().await;
    }
}

/// A promise: a node that takes another address is a member with that address.
#[tokio::test(flavor = "multi_thread")]
async fn the_membership_learns_a_new_address() {
    let directory = tempfile::tempdir().unwrap();
    start_alone(&directory, founding(1)).await.shutdown().await;
    let config = RaftConfig { peer_address: Some("h:1".to_owned()), ..founding(1) };
    let quorum = start_alone(&directory, config.clone()).await;
    assert_eq!(quorum.standing().await.unwrap().2, Some(Member { peer_address: Some("h:1".to_owned()), store_id: quorum.me.store_id }));
    quorum.shutdown().await;
    let quorum = start_alone(&directory, config).await;
    let last = quorum.metrics().last_log_index;
    quorum.shutdown().await;
    let quorum = start_alone(&directory, RaftConfig { peer_address: Some("h:1".to_owned()), ..founding(1) }).await;
    assert_eq!(quorum.metrics().last_log_index, last, "an address that stays is not written again");
    quorum.shutdown().await;
}

/// A promise: the log is compacted, and neither the purge nor a restart after it changes the state.
#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_log_gives_the_same_state() {
    let directory = tempfile::tempdir().unwrap();
    let config = RaftConfig { compaction: Compaction { snapshot_after: 500, keep: 100 }, ..founding(1) };
    let quorum = start_alone(&directory, config.clone()).await;
    done(&quorum, register(1)).await;
    for n in 0..1_000 {
        done(&quorum, create(n, &format!("topic{}", n % 40))).await;
        if n >= 20 {
            done(&quorum, delete(n - 20)).await;
        }
    }
    quorum.raft.wait(Some(Duration::from_secs(20))).metrics(|m| m.purged.is_some_and(|id| id.index > 1_000), "purged").await.unwrap();
    let before = quorum.watch().borrow().clone();
    assert_eq!(before.image.topics.len(), 20);
    assert!(quorum.metrics().snapshot_index.unwrap() > 1_000);
    quorum.shutdown().await;

    let kv = open(&directory, 1);
    let first = kv.read_entries(0..u64::MAX, 1).unwrap().first().unwrap().index;
    assert!(first > 1_000, "the log begins at {first}");
    kv.close();
    let quorum = start_alone(&directory, config).await;
    assert_eq!(quorum.watch().borrow().image, before.image);
    done(&quorum, create(5_000, "after")).await;
    quorum.shutdown().await;
}

/// A promise: entries that were synced, but not applied when the machine went down, are applied before the start is over.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_is_applied_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(&directory, 1);
    let mut log = LogStore::new(Arc::clone(&kv));
    let member = Member { peer_address: None, store_id: kv.store_id() };
    let membership = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, member)]));
    let payloads = [EntryPayload::Membership(membership), EntryPayload::Normal(register(1)), EntryPayload::Normal(create(5, "flights"))];
    let entries = (0..).zip(payloads).map(|(index, payload)| Entry { log_id: LogId::new(CommittedLeaderId::new(1, 1), index), payload });
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    log.blocking_append(entries.collect::<Vec<_>>()).await.unwrap();
    let quorum = RaftQuorum::start(founding(1), kv, Arc::new(NoPeers)).await.unwrap();
    assert!(image(&quorum).topic("flights").is_some());
    assert_eq!(image(&quorum).cluster_id, Some(cluster_id(1)), "the first start was cut short before it had founded the cluster");
    quorum.shutdown().await;
}

/// A promise: an uncommitted vote from before does not keep a node that is alone from leading.
#[tokio::test(flavor = "multi_thread")]
async fn a_sole_voter_elects_itself() {
    let directory = tempfile::tempdir().unwrap();
    start_alone(&directory, founding(1)).await.shutdown().await;
    let kv = open(&directory, 1);
    LogStore::new(Arc::clone(&kv)).save_vote(&Vote::new(7, 1)).await.unwrap();
    let quorum = RaftQuorum::start(founding(1), kv, Arc::new(NoPeers)).await.unwrap();
    assert!(quorum.metrics().term > 7);
    done(&quorum, register(1)).await;
    quorum.shutdown().await;
}

/// A promise: a store that cannot be read stops the start with a sentence, not with a panic or an empty cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    start_alone(&directory, founding(1)).await.shutdown().await;
    for damage in [b"\x02{}".as_slice(), b"", b"\x01nonsense"] {
        let kv = open(&directory, 1);
        let good = kv.vote().unwrap().unwrap();
        kv.save_vote(damage).unwrap();
        let error = RaftQuorum::start(founding(1), Arc::clone(&kv), Arc::new(NoPeers)).await.unwrap_err();
        assert!(matches!(&error, QuorumError::Start(reason) if reason.contains("the vote")), "{error}");
        // A start that failed has closed the store, although we hold it still.
        let kv = open(&directory, 1);
        kv.save_vote(&good).unwrap();
        kv.close();
    }
    start_alone(&directory, founding(1)).await.shutdown().await;
}

/// A promise: timings that let no leader be elected are refused.
#[test]
fn impossible_timings_are_refused() {
    let base = Timings::default();
    assert_eq!(base.validate(), Ok(()));
    for timings in [
        Timings { vote_call: base.election_min, ..base.clone() },
        Timings { election_max: base.election_min, ..base.clone() },
        Timings { heartbeat: base.election_min, ..base.clone() },
    ] {
        assert!(timings.validate().is_err(), "{timings:?}");
    }
}

/// Nodes in one process, by address.
#[derive(Debug, Default)]
struct InMemory {
    nodes: Mutex<BTreeMap<String, Arc<RaftQuorum>>>,
}

impl InMemory {
    fn put(&self, address: &str, quorum: Arc<RaftQuorum>) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).insert(address.to_owned(), quorum);
    }

    fn get(&self, address: &str) -> Option<Arc<RaftQuorum>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned()
    }
}

impl Transport for InMemory {
    fn call<'a>(&'a self, to: &'a Destination, request: Bytes) -> BoxFuture<'a, Result<Bytes, Unreachable>> {
        Box::pin(async move {
            let unreachable = |reason: String| Unreachable { node_id: to.node_id, reason };
            let node = self.get(&to.address).ok_or_else(|| unreachable("nobody there".to_owned()))?;
            node.answer(&request).await.map_err(|error| unreachable(error.to_string()))
        })
    }
}

async fn join(network: &Arc<InMemory>, directory: &TempDir, node: u64, config: RaftConfig) -> Arc<RaftQuorum> {
    let address = format!("node{node}");
    let config = RaftConfig { peer_address: Some(address.clone()), ..config };
    let transport = Arc::clone(network) as Arc<dyn Transport>;
    let quorum = Arc::new(RaftQuorum::start(config, open(directory, node), transport).await.unwrap());
    network.put(&address, Arc::clone(&quorum));
    quorum
}

fn member(quorum: &RaftQuorum) -> Member {
    Member { peer_address: Some(format!("node{}", quorum.me.node_id)), store_id: quorum.me.store_id }
}

async fn shows(quorum: &RaftQuorum, what: impl FnMut(&Published) -> bool) {
    let mut watch = quorum.watch();
    tokio::time::timeout(Duration::from_secs(20), watch.wait_for(what)).await.expect("it should come").unwrap();
}

/// A promise: a node that is taken in is sent what it lacks, snapshot and log, votes with the others, and they survive the loss of the leader.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_agree_over_the_transport() {
    let network = Arc::new(InMemory::default());
    let directories: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let config = RaftConfig { compaction: Compaction { snapshot_after: 50, keep: 5 }, ..founding(1) };
    let one = join(&network, &directories[0], 1, config.clone()).await;
    done(&one, register(1)).await;
    for n in 0..120 {
        done(&one, create(n, &format!("topic{n}"))).await;
    }
    one.raft.wait(Some(Duration::from_secs(20))).metrics(|m| m.purged.is_some_and(|id| id.index > 40), "purged").await.unwrap();

    let waiting = RaftConfig { first_start: FirstStart::WaitToBeAdded, ..config };
    let two = join(&network, &directories[1], 2, waiting.clone()).await;
    let three = join(&network, &directories[2], 3, waiting).await;
    assert!(matches!(two.propose(register(2)).await, Err(QuorumError::NotLeader { .. })));
    for other in [&two, &three] {
        Box::pin(one.raft.add_learner(other.me.node_id.get(), member(other), true)).await.unwrap();
    }
    assert_eq!(one.membership().learners, [NodeId::new(2), NodeId::new(3)]);
    Box::pin(one.raft.change_membership(BTreeSet::from([1, 2, 3]), true)).await.unwrap();
    let version = done(&one, create(500, "last")).await;
    for other in [&two, &three] {
        shows(other, |published| published.version >= version).await;
        assert_eq!(image(other), image(&one));
        assert!(other.metrics().snapshot_index.is_some(), "the log no longer reached back to its beginning");
        assert_eq!(other.propose(register(2)).await, Err(QuorumError::NotLeader { leader: Some(NodeId::new(1)) }));
    }

    one.shutdown().await;
    two.raft.wait(Some(Duration::from_secs(20))).metrics(|m| m.current_leader.is_some_and(|id| id != 1), "a new leader").await.unwrap();
    let leader = if two.metrics().leader == Some(NodeId::new(2)) { &two } else { &three };
    done(leader, create(501, "after")).await;
    two.shutdown().await;
    three.shutdown().await;
}

/// A promise: a node whose store is not the one that the membership names gets no entries and gives no votes, and is told why.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_store_does_not_vote() {
    use crate::peer::message::{Answer, Kind, Refused};

    let network = Arc::new(InMemory::default());
    let directories: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let one = join(&network, &directories[0], 1, founding(1)).await;
    let two = join(&network, &directories[1], 2, RaftConfig { first_start: FirstStart::WaitToBeAdded, ..founding(1) }).await;
    Box::pin(one.raft.add_learner(2, member(&two), true)).await.unwrap();
    shows(&two, |published| published.image.cluster_id.is_some()).await;
    let other_store = |of: &RaftQuorum| Speaker { store_id: Uuid::from_u128(77), ..of.me };
    let body = Bytes::from_static(br#"{"vote":{"term":99,"node":1,"committed":false}}"#);
    for (from, to, expected) in [
        (one.me, other_store(&two), Refused::NotMe),
        (one.me, Speaker { node_id: NodeId::new(3), ..two.me }, Refused::NotMe),
        (other_store(&one), two.me, Refused::UnknownStore),
    ] {
        let request = Request { kind: Kind::RaftVote, from, to, body: body.clone() };
        let answer = Answer::decode(&two.answer(&request.encode()).await.unwrap()).unwrap();
        assert_eq!((answer.from, answer.result), (two.me, Err(expected)));
    }
    for (kind, body, expected) in [
        (Kind::Unknown, body.clone(), Refused::UnknownKind),
        (Kind::RaftVote, Bytes::from_static(b"{"), Refused::Malformed(String::new())),
        (Kind::RaftAppend, Bytes::from_static(b"[]"), Refused::Malformed(String::new())),
        (Kind::RaftSnapshot, Bytes::from_static(b"\x01"), Refused::Malformed(String::new())),
    ] {
        let request = Request { kind, from: one.me, to: two.me, body };
        let refused = Answer::decode(&two.answer(&request.encode()).await.unwrap()).unwrap().result.unwrap_err();
        assert_eq!(std::mem::discriminant(&refused), std::mem::discriminant(&expected), "{refused}");
    }
    assert!(two.metrics().term < 99, "none of these was heard");
    two.shutdown().await;
    one.shutdown().await;
}
