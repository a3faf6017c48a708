use proptest::prelude::*;
use tidegate_types::producer::DRAWN_BITS;
use tidegate_types::{ClusterId, Timestamp};
use uuid::Uuid;

use super::super::command::tests::one_of_each;
use super::super::image::ClusterSecret;
use super::*;

fn node(id: u64) -> NodeId {
    NodeId::new(id)
}

fn topic_id(id: u8) -> TopicId {
    TopicId::new(Uuid::from_u128(u128::from(id)))
}

fn init() -> Command {
    Command::InitCluster { cluster_id: ClusterId::new(Uuid::from_u128(1)), secret: ClusterSecret::new([1; 32]) }
}

fn register(id: u64) -> Command {
    Command::RegisterNode {
        node_id: node(id),
        client_address: format!("host{id}:8080"),
        peer_address: None,
        rack: None,
        directory_id: Uuid::from_u128(u128::from(id)),
    }
}

fn create(id: u8, name: &str, assignments: &[&[u64]]) -> Command {
    Command::CreateTopic {
        id: topic_id(id),
        name: TopicName::new(name).unwrap(),
        created_at: Timestamp::from_millis(5),
        assignments: assignments.iter().map(|replicas| replicas.iter().copied().map(node).collect()).collect(),
        replication_factor: 1,
        overrides: BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]),
    }
}

fn alter(id: u8, partition_count: u32, added: &[&[u64]], set: &[(&str, &str)], unset: &[&str]) -> Command {
    Command::AlterTopic {
        id: topic_id(id),
        partition_count,
        added: added.iter().map(|replicas| replicas.iter().copied().map(node).collect()).collect(),
        set: set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        unset: unset.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn delete(id: u8) -> Command {
    Command::DeleteTopic { id: topic_id(id) }
}

/// A state after these commands, entries 1, 2, 3 …; all of them must be carried out.
fn after(commands: &[Command]) -> MetadataState {
    let mut state = MetadataState::default();
    for (index, command) in (1..).zip(commands) {
        assert_eq!(state.apply(index, command).outcome, Outcome::Done { version: index }, "{command:?}");
    }
    state
}

fn refusal_of(commands: &[Command], last: &Command) -> Refusal {
    let mut state = after(commands);
    let before = state.clone();
    let applied = state.apply(99, last);
    assert_eq!((&state, &applied.changed), (&before, &vec![]), "a refused command changes nothing: {last:?}");
    match applied.outcome {
        Outcome::Refused(refusal) => refusal,
        Outcome::Done { .. } => panic!("should be refused: {last:?}"),
    }
}

/// A promise: a topic is what its command says: the preferred replica leads, all are in sync, configs are typed.
#[test]
fn a_topic_is_made_as_told() {
    let state = after(&[init(), register(1), register(2), create(1, "a", &[&[2, 1], &[1]])]);
    let topic = state.image().topic("a").unwrap();
    assert_eq!((topic.id, topic.partition_count(), topic.config.retention_ms), (topic_id(1), 2, None));
    let expected = PartitionState {
        replicas: vec![node(2), node(1)],
        in_sync: vec![node(2), node(1)],
        leader: Some(node(2)),
        leader_epoch: LeaderEpoch::ZERO,
    };
    assert_eq!(topic.partitions[0], expected);
    assert_eq!(state.image().nodes[&node(2)].broker_epoch, 3);
}

/// A promise: what the state does not allow is refused by name, and changes nothing.
#[test]
fn what_cannot_be_is_refused() {
    let base = [init(), register(1), create(1, "a", &[&[1]])];
    for (command, expected) in [
        (init(), Refusal::ClusterExists),
        (create(2, "a", &[&[1]]), Refusal::TopicExists),
        (create(1, "b", &[&[1]]), Refusal::TopicExists),
        (create(2, "b", &[&[7]]), Refusal::UnknownNode { node_id: node(7) }),
        (create(2, "b", &[]), Refusal::BadAssignment),
        (create(2, "b", &[&[1], &[]]), Refusal::BadAssignment),
        (create(2, "b", &[&[1, 1]]), Refusal::BadAssignment),
        (alter(2, 1, &[], &[], &[]), Refusal::TopicNotFound),
        (alter(1, 2, &[&[1]], &[("retention.ms", "1")], &[]), Refusal::PartitionsChanged { actual: 1 }),
        (alter(1, 1, &[&[7]], &[("retention.ms", "1")], &[]), Refusal::UnknownNode { node_id: node(7) }),
        (delete(2), Refusal::TopicNotFound),
    ] {
        assert_eq!(refusal_of(&base, &command), expected, "{command:?}");
    }
    assert_eq!(refusal_of(&[register(1), create(1, "a", &[&[1]]), delete(1)], &delete(1)), Refusal::TopicNotFound);
}

/// A promise: partitions are added behind those there are, which stay as they were; configs are set and put back.
#[test]
fn a_topic_is_altered_as_told() {
    let base = [register(1), create(1, "a", &[&[1]])];
    let state = after(&[&base[..], &[alter(1, 1, &[&[1], &[1]], &[("segment.bytes", "1048576")], &["retention.ms"])]].concat());
    let topic = state.image().topic("a").unwrap();
    assert_eq!((topic.partition_count(), topic.config.segment_bytes, topic.config.retention_ms), (3, 1_048_576, Some(604_800_000)));
    assert_eq!(topic.overrides, BTreeMap::from([("segment.bytes".to_owned(), "1048576".to_owned())]));
    assert_eq!(topic.partitions[0], after(&base).image().topic("a").unwrap().partitions[0]);
    // Only configs: how many partitions the proposer has seen does not matter.
    let state = after(&[&base[..], &[alter(1, 77, &[], &[("retention.ms", "9")], &[])]].concat());
    assert_eq!(state.image().topic("a").unwrap().config.retention_ms, Some(9));
}

/// A promise: a deleted name can be taken again, by another topic.
#[test]
fn a_deleted_name_is_free() {
    let state = after(&[register(1), create(1, "a", &[&[1]]), delete(1), create(2, "a", &[&[1]])]);
    assert_eq!(state.image().topic("a").unwrap().id, topic_id(2));
    assert_eq!((state.record(&MetadataKey::Topic(topic_id(1))), state.keys().len()), (None, 2));
}

/// A promise: a config that a newer version has set is kept, not dropped and not an error; here it has its default.
#[test]
fn configs_of_newer_versions_are_kept() {
    let newer = alter(1, 1, &[], &[("retention.moons", "3"), ("retention.ms", "soon"), ("flush.messages", "5")], &[]);
    let state = after(&[register(1), create(1, "a", &[&[1]]), newer]);
    let topic = state.image().topic("a").unwrap();
    assert_eq!(topic.overrides["retention.moons"], "3");
    assert_eq!((topic.config.flush_records, topic.config.retention_ms), (5, Some(604_800_000)));
    let again = MetadataState::from_snapshot(&MetadataState::snapshot_of(state.image())).unwrap();
    assert_eq!(again, state);
}

/// A promise: a reader's image stays as it was while the state goes on, and topics that do not change are shared, not copied.
#[test]
fn images_are_immutable_and_share_topics() {
    let mut state = after(&[register(1), create(1, "a", &[&[1]]), create(2, "b", &[&[1]])]);
    let seen = Arc::clone(state.image());
    let applied = state.apply(4, &delete(2));
    assert_eq!(applied.changed, [MetadataKey::Topic(topic_id(2))]);
    assert!(seen.topic("b").is_some() && state.image().topic("b").is_none());
    assert!(Arc::ptr_eq(seen.topic("a").unwrap(), state.image().topic("a").unwrap()));
}

/// A promise: the state keeps the bytes that are on disks already, as records and as a snapshot.
#[test]
fn the_state_keeps_its_bytes() {
    let commands: Vec<_> = one_of_each().into_iter().map(|(command, _)| command).collect();
    let state = after(&commands[..4]);
    let cluster = r#"{"cluster_id":"00000000-0000-0000-0000-000000000001","secret":[7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7]}"#;
    let node_record = r#"{"node_id":1,"client_address":"127.0.0.1:8080","peer_address":"127.0.0.1:8081","rack":"a","directory_id":"00000000-0000-0000-0000-000000000003","broker_epoch":2}"#;
    let partition = r#"{"replicas":[1],"in_sync":[1],"leader":1,"leader_epoch":0}"#;
    let topic = format!(
        r#"{{"id":"00000000-0000-0000-0000-000000000002","name":"flights","created_at":1700000000000,"replication_factor":1,"partitions":[{partition},{partition},{partition}],"overrides":{{"segment.bytes":"1048576"}}}}"#
    );
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(state.keys(), [MetadataKey::Cluster, MetadataKey::Node(node(1)), MetadataKey::Topic(topic_id(2))]);
    assert_eq!(text(state.record(&MetadataKey::Cluster).unwrap()), format!("\x01{cluster}"));
    assert_eq!(text(state.record(&MetadataKey::Node(node(1))).unwrap()), format!("\x01{node_record}"));
    assert_eq!(text(state.record(&MetadataKey::Topic(topic_id(2))).unwrap()), format!("\x01{topic}"));
    let snapshot = format!("\x01{{\"cluster\":{cluster},\"nodes\":[{node_record}],\"topics\":[{topic}]}}");
    assert_eq!(text(MetadataState::snapshot_of(state.image())), snapshot);
    assert_eq!(MetadataState::from_snapshot(snapshot.as_bytes()), Ok(state));
}

/// A promise: no number is claimed twice; each binding of a name is a later epoch than all before it, those of forgotten names too; nobody skips or goes
/// back, and two names never have one id.
#[test]
fn producers_get_ids_and_epochs_once() {
    let mut state = after(&[init()]);
    let mut index = 10;
    let mut apply = |command: Command| {
        index += 1;
        state.apply(index, &command).outcome
    };
    let id = |number: i64| number << DRAWN_BITS | 77;
    let claim = |first, count| Command::ClaimProducerIds { first, count };
    let bind = |name: &str, number, epoch| Command::BindProducer { name: name.to_owned(), producer_id: id(number), epoch };
    let unbind = |name: &str, retired_epoch| Command::UnbindProducer { name: name.to_owned(), retired_epoch };
    let is_done = |outcome| matches!(outcome, Outcome::Done { .. });
    assert_eq!(apply(bind("a", 1, 1)), Outcome::Refused(Refusal::ProducerChanged), "nobody has claimed it");
    assert!(is_done(apply(claim(0, 1_000))));
    assert_eq!(apply(claim(0, 1_000)), Outcome::Refused(Refusal::ProducerIdsClaimed { next: 1_000 }));
    assert!(is_done(apply(claim(1_000, 1_000))));
    for (number, epoch, done) in
        [(5, 0, false), (5, 2, false), (0, 1, false), (5, 1, true), (5, 1, false), (5, 3, false), (6, 2, false), (5, 2, true)]
    {
        assert_eq!(is_done(apply(bind("a", number, epoch))), done, "{number} {epoch}");
    }
    assert!(!is_done(apply(bind("b", 5, 1))), "it is another's id");
    assert!(!is_done(apply(unbind("a", 1))), "it has had epoch 2");
    assert!(is_done(apply(unbind("a", 2))) && !is_done(apply(unbind("a", 2))));
    assert!(!is_done(apply(bind("a", 7, 1))) && !is_done(apply(bind("b", 7, 1))), "who wrote with it may still be there");
    assert!(is_done(apply(bind("a", 7, 3))));
    for epoch in 4..=i16::MAX {
        assert!(is_done(apply(bind("a", 7, epoch))));
    }
    assert_eq!(apply(bind("a", 7, i16::MIN)), Outcome::Refused(Refusal::ProducerChanged));
    assert_eq!(apply(bind("a", 8, 3)), Outcome::Refused(Refusal::ProducerChanged), "its epochs are used up");
}

fn any_command() -> impl Strategy<Value = Command> {
    let replicas = || prop::collection::vec(prop::collection::vec(0u64..4, 0..3), 0..4);
    let nodes = |ids: Vec<Vec<u64>>| ids.into_iter().map(|ids| ids.into_iter().map(node).collect()).collect::<Vec<Vec<_>>>();
    let name = prop::sample::select(vec!["retention.ms", "segment.bytes", "retention.moons"]);
    prop_oneof![
        Just(init()),
        (0u64..4).prop_map(register),
        (0u8..6, prop::sample::select(vec!["a", "b", "c"]), replicas()).prop_map(move |(id, name, ids)| match create(id, name, &[]) {
            Command::CreateTopic { id, name, created_at, replication_factor, overrides, .. } =>
                Command::CreateTopic { id, name, created_at, assignments: nodes(ids), replication_factor, overrides },
            other => other,
        }),
        (0u8..6, 0u32..6, replicas(), name.clone(), -2i64..3, name).prop_map(move |(id, partition_count, ids, set, value, unset)| {
            Command::AlterTopic {
                id: topic_id(id),
                partition_count,
                added: nodes(ids),
                set: BTreeMap::from([(set.to_owned(), value.to_string())]),
                unset: BTreeSet::from([unset.to_owned()]),
            }
        }),
        (0u8..6).prop_map(delete),
        (0i64..40, 0u32..20).prop_map(|(first, count)| Command::ClaimProducerIds { first, count }),
        (0u8..3, 0i64..30, prop::sample::select(vec![0, 1, 1, 2, i16::MAX])).prop_map(|(name, producer_id, epoch)| Command::BindProducer {
            name: format!("p{name}"),
            producer_id: producer_id << DRAWN_BITS,
            epoch
        }),
        (0u8..3, 0i16..3).prop_map(|(name, retired_epoch)| Command::UnbindProducer { name: format!("p{name}"), retired_epoch }),
    ]
}

proptest! {
    /// A promise: however the state is reached, it is the same: by the whole log, by a snapshot and the rest of the log, or by records written as
    /// the changes say; and every command gets the same outcome.
    #[test]
    fn every_way_leads_to_the_same_state(commands in prop::collection::vec(any_command(), 0..60), cut: prop::sample::Index) {
        let cut = cut.index(commands.len() + 1);
        let mut straight = MetadataState::default();
        let mut resumed = MetadataState::default();
        let mut stored = BTreeMap::new();
        for (index, command) in commands.iter().enumerate() {
            if index == cut {
                resumed = MetadataState::from_snapshot(&MetadataState::snapshot_of(resumed.image())).unwrap();
            }
            let index = u64::try_from(index).unwrap();
            let applied = straight.apply(index, command);
            prop_assert_eq!(&resumed.apply(index, command), &applied);
            for key in applied.changed {
                match straight.record(&key) {
                    Some(record) => stored.insert(key, record),
                    None => stored.remove(&key),
                };
            }
        }
        let stored: Vec<_> = stored.into_iter().collect();
        prop_assert_eq!(&resumed, &straight);
        prop_assert_eq!(&MetadataState::from_records(&stored).unwrap(), &straight);
        prop_assert_eq!(stored.iter().map(|(key, _)| key.clone()).collect::<BTreeSet<_>>(), straight.keys().into_iter().collect::<BTreeSet<_>>());
    }
}
