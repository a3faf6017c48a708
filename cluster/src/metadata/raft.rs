//! The types that Raft works on, and the shapes in which they are stored and sent.
//!
//! The shapes are declared here and not derived from openraft's types, so that another version of it, or another Raft, can read them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use openraft::{CommittedLeaderId, Entry, EntryPayload, LeaderId, LogId, Membership, SnapshotMeta, StoredMembership, Vote};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::command::{Command, Outcome};

openraft::declare_raft_types!(
    /// What openraft is made for here.
    pub(super) TypeConfig:
        D = Command,
        R = Outcome,
        NodeId = u64,
        Node = Member,
        Entry = Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

/// A member of the quorum: how it is reached, and the store that its votes are remembered in (D5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its peer address, `host:port`, if it takes peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,
    /// Its store.
    pub store_id: Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogIdRecord {
    term: u64,
    leader: u64,
    index: u64,
}

impl From<LogId<u64>> for LogIdRecord {
    fn from(id: LogId<u64>) -> Self {
        Self { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
    }
}

impl From<LogIdRecord> for LogId<u64> {
    fn from(record: LogIdRecord) -> Self {
        Self::new(CommittedLeaderId::new(record.term, record.leader), record.index)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VoteRecord {
    term: u64,
    node: u64,
    committed: bool,
}

impl From<Vote<u64>> for VoteRecord {
    fn from(vote: Vote<u64>) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<VoteRecord> for Vote<u64> {
    fn from(record: VoteRecord) -> Self {
        Self { leader_id: LeaderId::new(record.term, record.node), committed: record.committed }
    }
}

/// Voters, twice while they change; whoever is a node and no voter learns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MembershipRecord {
    voters: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, Member>,
}

impl From<&Membership<u64, Member>> for MembershipRecord {
    fn from(membership: &Membership<u64, Member>) -> Self {
        let nodes = membership.nodes().map(|(id, member)| (*id, member.clone())).collect();
        Self { voters: membership.get_joint_config().clone(), nodes }
    }
}

impl From<MembershipRecord> for Membership<u64, Member> {
    fn from(record: MembershipRecord) -> Self {
        Self::new(record.voters, record.nodes)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EntryRecord {
    id: LogIdRecord,
    payload: PayloadRecord,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PayloadRecord {
    /// A leader's first word.
    Blank,
    Command(Command),
    Membership(MembershipRecord),
}

impl From<Entry<TypeConfig>> for EntryRecord {
    fn from(entry: Entry<TypeConfig>) -> Self {
        let payload = match entry.payload {
            EntryPayload::Blank => PayloadRecord::Blank,
            EntryPayload::Normal(command) => PayloadRecord::Command(command),
            EntryPayload::Membership(membership) => PayloadRecord::Membership((&membership).into()),
        };
        Self { id: entry.log_id.into(), payload }
    }
}

impl From<EntryRecord> for Entry<TypeConfig> {
    fn from(record: EntryRecord) -> Self {
        let payload = match record.payload {
            PayloadRecord::Blank => EntryPayload::Blank,
            PayloadRecord::Command(command) => EntryPayload::Normal(command),
            PayloadRecord::Membership(membership) => EntryPayload::Membership(membership.into()),
        };
        Self { log_id: record.id.into(), payload }
    }
}

/// How far the state is applied, and the membership that the applied entries have made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AppliedRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_applied: Option<LogIdRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    membership_id: Option<LogIdRecord>,
    membership: MembershipRecord,
}

/// What belongs to the state although it is none of the broker's business.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) last_applied: Option<LogId<u64>>,
    pub(super) membership: StoredMembership<u64, Member>,
}

impl From<&Progress> for AppliedRecord {
    fn from(progress: &Progress) -> Self {
        Self {
            last_applied: progress.last_applied.map(LogIdRecord::from),
            membership_id: progress.membership.log_id().map(LogIdRecord::from),
            membership: progress.membership.membership().into(),
        }
    }
}

impl From<AppliedRecord> for Progress {
    fn from(record: AppliedRecord) -> Self {
        Self {
            last_applied: record.last_applied.map(LogId::from),
            membership: StoredMembership::new(record.membership_id.map(LogId::from), record.membership.into()),
        }
    }
}

/// Which snapshot it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotRecord {
    id: String,
    applied: AppliedRecord,
}

impl From<&SnapshotMeta<u64, Member>> for SnapshotRecord {
    fn from(meta: &SnapshotMeta<u64, Member>) -> Self {
        let progress = Progress { last_applied: meta.last_log_id, membership: meta.last_membership.clone() };
        Self { id: meta.snapshot_id.clone(), applied: (&progress).into() }
    }
}

impl From<SnapshotRecord> for SnapshotMeta<u64, Member> {
    fn from(record: SnapshotRecord) -> Self {
        let progress = Progress::from(record.applied);
        Self { last_log_id: progress.last_applied, last_membership: progress.membership, snapshot_id: record.id }
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::{decode, encode};
    use super::super::command::tests::one_of_each;
    use super::*;

    fn log_id(index: u64) -> LogId<u64> {
        LogId::new(CommittedLeaderId::new(2, 1), index)
    }

    fn membership() -> Membership<u64, Member> {
        let member =
            |n: u64, address: Option<&str>| (n, Member { peer_address: address.map(str::to_owned), store_id: Uuid::from_u128(n.into()) });
        Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([member(1, None), member(2, Some("h:1"))]))
    }

    const MEMBERSHIP: &str = r#"{"voters":[[1]],"nodes":{"1":{"store_id":"00000000-0000-0000-0000-000000000001"},"2":{"peer_address":"h:1","store_id":"00000000-0000-0000-0000-000000000002"}}}"#;

    fn check<T, R>(value: &T, record: impl Fn(&T) -> R, json: &str)
    where
        T: PartialEq + std::fmt::Debug + From<R>,
        R: Serialize + serde::de::DeserializeOwned,
    {
        let bytes = [b"\x01", json.as_bytes()].concat();
        assert_eq!(String::from_utf8(encode(&record(value))).unwrap(), String::from_utf8(bytes.clone()).unwrap());
        assert_eq!(&T::from(decode::<R>("a test", &bytes).unwrap()), value);
    }

    /// A promise: what Raft has stored keeps its bytes, and is read back as it was.
    #[test]
    fn stored_shapes_keep_their_bytes() {
        check(&Vote::new_committed(3, 1), |vote| VoteRecord::from(*vote), r#"{"term":3,"node":1,"committed":true}"#);
        check(&log_id(9), |id| LogIdRecord::from(*id), r#"{"term":2,"leader":1,"index":9}"#);
        let entry = |payload| Entry::<TypeConfig> { log_id: log_id(9), payload };
        let id = r#""id":{"term":2,"leader":1,"index":9}"#;
        check(&entry(EntryPayload::Blank), |e| EntryRecord::from(e.clone()), &format!(r#"{{{id},"payload":"blank"}}"#));
        check(
            &entry(EntryPayload::Membership(membership())),
            |e| EntryRecord::from(e.clone()),
            &format!(r#"{{{id},"payload":{{"membership":{MEMBERSHIP}}}}}"#),
        );
        for (command, json) in one_of_each() {
            check(
                &entry(EntryPayload::Normal(command)),
                |e| EntryRecord::from(e.clone()),
                &format!(r#"{{{id},"payload":{{"command":{json}}}}}"#),
            );
        }
        let progress = Progress { last_applied: Some(log_id(9)), membership: StoredMembership::new(Some(log_id(4)), membership()) };
        let applied = format!(
            r#"{{"last_applied":{{"term":2,"leader":1,"index":9}},"membership_id":{{"term":2,"leader":1,"index":4}},"membership":{MEMBERSHIP}}}"#
        );
        check(&progress, |progress| AppliedRecord::from(progress), &applied);
        check(&Progress::default(), |progress| AppliedRecord::from(progress), r#"{"membership":{"voters":[],"nodes":{}}}"#);
        let meta =
            SnapshotMeta { last_log_id: progress.last_applied, last_membership: progress.membership, snapshot_id: "2-1-9".to_owned() };
        check(&meta, |meta| SnapshotRecord::from(meta), &format!(r#"{{"id":"2-1-9","applied":{applied}}}"#));
    }
}
