//! What the metadata log says: one command an entry, and what became of it.
//!
//! Ids, times and random values are in the command, decided by whoever proposes it, so that every node that applies it comes to the same state.
//! Commands are stored and sent as a version byte and JSON: variants and fields are never renamed and never mean something else later.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tidegate_types::{ClusterId, NodeId, Timestamp, TopicId, TopicName};
use uuid::Uuid;

use super::image::ClusterSecret;

/// A change of the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The very first: gives the cluster its identity.
    InitCluster {
        /// Its identity.
        cluster_id: ClusterId,
        /// Its secret.
        secret: ClusterSecret,
    },
    /// A node says that it is there, at each start. The index of this entry is its broker epoch.
    RegisterNode {
        /// Its id.
        node_id: NodeId,
        /// Where clients reach it, `host:port`.
        client_address: String,
        /// Where peers reach it, if it takes peers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer_address: Option<String>,
        /// Its rack, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rack: Option<String>,
        /// Identity of its data directory.
        directory_id: Uuid,
    },
    /// Makes a topic.
    CreateTopic {
        /// Its identity, freshly drawn.
        id: TopicId,
        /// Its name.
        name: TopicName,
        /// When.
        created_at: Timestamp,
        /// Replicas of each partition, in order of preference: the first leads.
        assignments: Vec<Vec<NodeId>>,
        /// Replicas that each partition should have.
        replication_factor: u16,
        /// Configs set on it. The proposer has checked them: what a value may be differs between versions, and all must come to the same state.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        overrides: BTreeMap<String, String>,
    },
    /// Changes a topic.
    AlterTopic {
        /// The topic.
        id: TopicId,
        /// How many partitions it has, as the proposer sees it; it matters only if some are added.
        partition_count: u32,
        /// Replicas of each partition that is added.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        added: Vec<Vec<NodeId>>,
        /// Configs to set.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        set: BTreeMap<String, String>,
        /// Configs to put back to their default.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        unset: BTreeSet<String>,
    },
    /// Deletes a topic.
    DeleteTopic {
        /// The topic.
        id: TopicId,
    },
    /// Takes a block of numbers of producer ids, to be given out by one node.
    ClaimProducerIds {
        /// How many were ever claimed before, as the proposer sees it.
        first: i64,
        /// How many.
        count: u32,
    },
    /// Begins a producer's next epoch under a name.
    BindProducer {
        /// The name.
        name: String,
        /// Its id: the one it has, or a claimed one if it has none.
        producer_id: i64,
        /// The epoch, as the proposer sees it: the one after the name's, or after all that forgotten names had.
        epoch: i16,
    },
    /// Forgets a name.
    UnbindProducer {
        /// The name.
        name: String,
        /// No name is bound to an epoch up to this one any more: the name's, or a larger one.
        retired_epoch: i16,
    },
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[must_use = "a command may be refused"]
pub enum Outcome {
    /// It is done.
    Done {
        /// The index of its entry: the metadata version from which it holds.
        version: u64,
    },
    /// The state did not allow it; nothing was changed.
    Refused(Refusal),
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The cluster has an identity already.
    #[error("the cluster exists already")]
    ClusterExists,
    /// The topic's name, or its id, is taken.
    #[error("the topic exists already")]
    TopicExists,
    /// There is no such topic.
    #[error("there is no such topic")]
    TopicNotFound,
    /// Somebody else has added partitions in the meantime.
    #[error("the topic has {actual} partitions by now")]
    PartitionsChanged {
        /// How many there are.
        actual: u32,
    },
    /// Somebody else has claimed ids in the meantime.
    #[error("the next producer id is {next} by now")]
    ProducerIdsClaimed {
        /// The next one.
        next: i64,
    },
    /// The name has another id or epoch than the proposer knew, or none.
    #[error("the producer has changed")]
    ProducerChanged,
    /// As many names are bound as may be.
    #[error("no more producers can be bound")]
    TooManyProducers,
    /// A replica is put on a node that is not registered.
    #[error("node {node_id} is not registered")]
    UnknownNode {
        /// The node.
        node_id: NodeId,
    },
    /// A partition has no replica, or two on one node; or there is no partition.
    #[error("the assignment of replicas is not possible")]
    BadAssignment,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::codec::{decode, encode};
    use super::*;

    /// One of each, with all its fields.
    pub(crate) fn one_of_each() -> Vec<(Command, &'static str)> {
        let node = NodeId::new;
        let id = TopicId::new(Uuid::from_u128(2));
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        vec![
            (
                Command::InitCluster { cluster_id: ClusterId::new(Uuid::from_u128(1)), secret: ClusterSecret::new([7; 32]) },
                r#"{"init_cluster":{"cluster_id":"00000000-0000-0000-0000-000000000001","secret":[7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7]}}"#,
            ),
            (
                Command::RegisterNode {
                    node_id: node(1),
                    client_address: "127.0.0.1:8080".to_owned(),
                    peer_address: Some("127.0.0.1:8081".to_owned()),
                    rack: Some("a".to_owned()),
                    directory_id: Uuid::from_u128(3),
                },
                r#"{"register_node":{"node_id":1,"client_address":"127.0.0.1:8080","peer_address":"127.0.0.1:8081","rack":"a","directory_id":"00000000-0000-0000-0000-000000000003"}}"#,
            ),
            (
                Command::CreateTopic {
                    id,
                    name: TopicName::new("flights").unwrap(),
                    created_at: Timestamp::from_millis(1_700_000_000_000),
                    assignments: vec![vec![node(1)], vec![node(1)]],
                    replication_factor: 1,
                    overrides: BTreeMap::from([text("retention.ms", "-1")]),
                },
                r#"{"create_topic":{"id":"00000000-0000-0000-0000-000000000002","name":"flights","created_at":1700000000000,"assignments":[[1],[1]],"replication_factor":1,"overrides":{"retention.ms":"-1"}}}"#,
            ),
            (
                Command::AlterTopic {
                    id,
                    partition_count: 2,
                    added: vec![vec![node(1)]],
                    set: BTreeMap::from([text("segment.bytes", "1048576")]),
                    unset: BTreeSet::from(["retention.ms".to_owned()]),
                },
                r#"{"alter_topic":{"id":"00000000-0000-0000-0000-000000000002","partition_count":2,"added":[[1]],"set":{"segment.bytes":"1048576"},"unset":["retention.ms"]}}"#,
            ),
            (Command::DeleteTopic { id }, r#"{"delete_topic":{"id":"00000000-0000-0000-0000-000000000002"}}"#),
            (Command::ClaimProducerIds { first: 1000, count: 500 }, r#"{"claim_producer_ids":{"first":1000,"count":500}}"#),
            (
                Command::BindProducer { name: "meter-7".to_owned(), producer_id: 1001, epoch: 3 },
                r#"{"bind_producer":{"name":"meter-7","producer_id":1001,"epoch":3}}"#,
            ),
            (
                Command::UnbindProducer { name: "meter-7".to_owned(), retired_epoch: 3 },
                r#"{"unbind_producer":{"name":"meter-7","retired_epoch":3}}"#,
            ),
        ]
    }

    /// A promise: commands keep the bytes that are in logs already.
    #[test]
    fn commands_keep_their_bytes() {
        for (command, json) in one_of_each() {
            let expected = [b"\x01", json.as_bytes()].concat();
            assert_eq!(String::from_utf8_lossy(&encode(&command)), String::from_utf8_lossy(&expected));
            assert_eq!(decode::<Command>("a command", &expected), Ok(command));
        }
    }

    /// A promise: a field that a newer version adds is ignored; a command that it adds is not skipped, because the state would differ.
    #[test]
    fn newer_fields_are_ignored_and_newer_commands_are_not() {
        let newer = b"\x01{\"delete_topic\":{\"id\":\"00000000-0000-0000-0000-000000000002\",\"reason\":\"old\"}}";
        let expected = Command::DeleteTopic { id: TopicId::new(Uuid::from_u128(2)) };
        assert_eq!(decode::<Command>("a command", newer), Ok(expected));
        assert!(decode::<Command>("a command", b"\x01{\"fence_node\":{\"node_id\":1}}").is_err());
    }

    /// A promise: outcomes cross from node to node unchanged, and the names of refusals stay.
    #[test]
    fn outcomes_keep_their_bytes() {
        for (outcome, json) in [
            (Outcome::Done { version: 5 }, r#"{"done":{"version":5}}"#),
            (Outcome::Refused(Refusal::ClusterExists), r#"{"refused":"cluster_exists"}"#),
            (Outcome::Refused(Refusal::TopicExists), r#"{"refused":"topic_exists"}"#),
            (Outcome::Refused(Refusal::TopicNotFound), r#"{"refused":"topic_not_found"}"#),
            (Outcome::Refused(Refusal::PartitionsChanged { actual: 3 }), r#"{"refused":{"partitions_changed":{"actual":3}}}"#),
            (Outcome::Refused(Refusal::UnknownNode { node_id: NodeId::new(4) }), r#"{"refused":{"unknown_node":{"node_id":4}}}"#),
            (Outcome::Refused(Refusal::ProducerIdsClaimed { next: 7 }), r#"{"refused":{"producer_ids_claimed":{"next":7}}}"#),
            (Outcome::Refused(Refusal::ProducerChanged), r#"{"refused":"producer_changed"}"#),
            (Outcome::Refused(Refusal::TooManyProducers), r#"{"refused":"too_many_producers"}"#),
            (Outcome::Refused(Refusal::BadAssignment), r#"{"refused":"bad_assignment"}"#),
        ] {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), json);
            assert_eq!(serde_json::from_str::<Outcome>(json).unwrap(), outcome);
        }
    }
}
