//! Raft's calls to other nodes, on [`crate::peer`]: both ends.
//!
//! Whoever is called and whoever calls must have the store that the membership names (D5): a node that has lost its store has forgotten its votes, so
//! nobody counts what it says, and it hears nothing, until it is replaced.

use std::fmt;
use std::future::Future;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, SnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{Entry, LogId, OptionalSend, Raft, Snapshot, Vote};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidegate_types::NodeId;

use super::raft::{EntryRecord, LogIdRecord, Member, SnapshotRecord, TypeConfig, VoteRecord};
use crate::peer::message::{self, Answer, Kind, MessageError, Refused, Request, Speaker};
use crate::peer::{self, Destination, Transport};

/// How long to leave a node alone that could not be reached.
const BACKOFF: Duration = Duration::from_millis(200);

#[derive(Serialize, Deserialize)]
struct VoteCall {
    vote: VoteRecord,
    #[serde(default)]
    last: Option<LogIdRecord>,
}

#[derive(Serialize, Deserialize)]
struct VoteReply {
    vote: VoteRecord,
    granted: bool,
    #[serde(default)]
    last: Option<LogIdRecord>,
}

#[derive(Serialize, Deserialize)]
struct AppendCall {
    vote: VoteRecord,
    #[serde(default)]
    previous: Option<LogIdRecord>,
    #[serde(default)]
    commit: Option<LogIdRecord>,
    #[serde(default)]
    entries: Vec<EntryRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AppendReply {
    Success,
    PartialSuccess { matching: Option<LogIdRecord> },
    Conflict,
    HigherVote { vote: VoteRecord },
}

/// The head of a snapshot's body; the data follows it.
#[derive(Serialize, Deserialize)]
struct SnapshotCall {
    vote: VoteRecord,
    snapshot: SnapshotRecord,
}

#[derive(Serialize, Deserialize)]
struct SnapshotReply {
    vote: VoteRecord,
}

/// Why a call to a peer came to nothing.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("it takes no peers")]
    NoAddress,
    #[error(transparent)]
    Unreachable(#[from] peer::Unreachable),
    #[error("node {node_id} did not answer within {} ms", .after.as_millis())]
    Timeout { node_id: NodeId, after: Duration },
    #[error("node {node_id}: {refused}")]
    Refused { node_id: NodeId, refused: Refused },
    #[error("somebody else than node {node_id}, or another store of it, answered")]
    Stranger { node_id: NodeId },
    #[error("its answer: {0}")]
    Message(#[from] MessageError),
    #[error("its answer's body cannot be read: {0}")]
    Body(String),
    #[error("snapshots are sent in one piece")]
    Chunk,
}

/// Makes a client for each member.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) me: Speaker,
    pub(super) transport: Arc<dyn Transport>,
    /// How long a vote is waited for, connecting included.
    pub(super) vote_timeout: Duration,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, node: &Member) -> PeerClient {
        let node_id = NodeId::new(target);
        PeerClient {
            network: self.clone(),
            to: Speaker { node_id, store_id: node.store_id },
            destination: node.peer_address.clone().map(|address| Destination { node_id, address }),
        }
    }
}

/// Calls one member.
#[derive(Debug)]
pub(super) struct PeerClient {
    network: Network,
    to: Speaker,
    destination: Option<Destination>,
}

impl PeerClient {
    async fn call<T: DeserializeOwned>(&self, kind: Kind, body: Bytes, timeout: Duration) -> Result<T, CallError> {
        let node_id = self.to.node_id;
        let destination = self.destination.as_ref().ok_or(CallError::NoAddress)?;
        let request = Request { kind, from: self.network.me, to: self.to, body }.encode();
        let answer = tokio::time::timeout(timeout, self.network.transport.call(destination, request)).await;
        let answer = Answer::decode(&answer.map_err(|_| CallError::Timeout { node_id, after: timeout })??)?;
        if answer.from != self.to {
            return Err(CallError::Stranger { node_id });
        }
        let body = answer.result.map_err(|refused| CallError::Refused { node_id, refused })?;
        serde_json::from_slice(&body).map_err(|error| CallError::Body(error.to_string()))
    }
}

type RpcError<E> = RPCError<u64, Member, E>;

/// A node that is slow may be asked again at once; one that cannot or will not answer is left alone for a while.
fn rpc_error<E: std::error::Error>(error: &CallError) -> RpcError<E> {
    match error {
        CallError::Timeout { .. } => NetworkError::new(error).into(),
        CallError::NoAddress
        | CallError::Unreachable(_)
        | CallError::Refused { .. }
        | CallError::Stranger { .. }
        | CallError::Message(_)
        | CallError::Body(_)
        | CallError::Chunk => Unreachable::new(error).into(),
    }
}

fn json<T: Serialize>(value: &T) -> Bytes {
    match serde_json::to_vec(value) {
        Ok(bytes) => bytes.into(),
        Err(error) => unreachable!("memory takes every byte, and keys are numbers or strings: {error}"),
    }
}

impl RaftNetwork<TypeConfig> for PeerClient {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError<RaftError<u64>>> {
        let body = json(&AppendCall {
            vote: rpc.vote.into(),
            previous: rpc.prev_log_id.map(LogIdRecord::from),
            commit: rpc.leader_commit.map(LogIdRecord::from),
            entries: rpc.entries.into_iter().map(EntryRecord::from).collect(),
        });
        let reply = self.call(Kind::RaftAppend, body, option.hard_ttl()).await.map_err(|error| rpc_error(&error))?;
        Ok(match reply {
            AppendReply::Success => AppendEntriesResponse::Success,
            AppendReply::PartialSuccess { matching } => AppendEntriesResponse::PartialSuccess(matching.map(LogId::from)),
            AppendReply::Conflict => AppendEntriesResponse::Conflict,
            AppendReply::HigherVote { vote } => AppendEntriesResponse::HigherVote(vote.into()),
        })
    }

    async fn install_snapshot(
        &mut self,
        _: InstallSnapshotRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RpcError<RaftError<u64, InstallSnapshotError>>> {
        // openraft calls it only from its own `full_snapshot`, which is replaced below.
        Err(rpc_error(&CallError::Chunk))
    }

    async fn vote(&mut self, rpc: VoteRequest<u64>, _: RPCOption) -> Result<VoteResponse<u64>, RpcError<RaftError<u64>>> {
        let body = json(&VoteCall { vote: rpc.vote.into(), last: rpc.last_log_id.map(LogIdRecord::from) });
        let reply: VoteReply = self.call(Kind::RaftVote, body, self.network.vote_timeout).await.map_err(|error| rpc_error(&error))?;
        Ok(VoteResponse { vote: reply.vote.into(), vote_granted: reply.granted, last_log_id: reply.last.map(LogId::from) })
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, openraft::error::Fatal<u64>>> {
        let head = SnapshotCall { vote: vote.into(), snapshot: (&snapshot.meta).into() };
        let body = message::frame(&head, snapshot.snapshot.get_ref());
        let sent = self.call::<SnapshotReply>(Kind::RaftSnapshot, body, option.hard_ttl());
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sent => match sent {
                Ok(reply) => Ok(SnapshotResponse { vote: reply.vote.into() }),
                Err(error) => Err(Unreachable::new(&error).into()),
            },
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}

/// Answers what another node's [`PeerClient`] has sent.
pub(super) async fn answer(raft: &Raft<TypeConfig>, me: Speaker, request: Request) -> Answer {
    Answer { from: me, result: carry_out(raft, me, request).await }
}

async fn carry_out(raft: &Raft<TypeConfig>, me: Speaker, request: Request) -> Result<Bytes, Refused> {
    if request.to != me {
        return Err(Refused::NotMe);
    }
    check_caller(raft, request.from)?;
    match request.kind {
        Kind::RaftVote => {
            let call: VoteCall = body(&request.body)?;
            let rpc = VoteRequest { vote: call.vote.into(), last_log_id: call.last.map(LogId::from) };
            let response = raft.vote(rpc).await.map_err(stopped)?;
            let last = response.last_log_id.map(LogIdRecord::from);
            Ok(json(&VoteReply { vote: response.vote.into(), granted: response.vote_granted, last }))
        }
        Kind::RaftAppend => {
            let call: AppendCall = body(&request.body)?;
            let response = raft.append_entries(append_request(call)).await.map_err(stopped)?;
            Ok(json(&append_reply(&response)))
        }
        Kind::RaftSnapshot => {
            let (call, data): (SnapshotCall, _) = message::unframe(&request.body).map_err(|error| Refused::Malformed(error.to_string()))?;
            let snapshot = Snapshot { meta: call.snapshot.into(), snapshot: Box::new(Cursor::new(data.into())) };
            let response = raft.install_full_snapshot(call.vote.into(), snapshot).await.map_err(stopped)?;
            Ok(json(&SnapshotReply { vote: response.vote.into() }))
        }
        Kind::Unknown => Err(Refused::UnknownKind),
    }
}

/// A caller that is not a member yet is heard: a new learner knows nobody.
fn check_caller(raft: &Raft<TypeConfig>, from: Speaker) -> Result<(), Refused> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow();
    match metrics.membership_config.membership().get_node(&from.node_id.get()) {
        Some(member) if member.store_id != from.store_id => Err(Refused::UnknownStore),
        _ => Ok(()),
    }
}

fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(bytes).map_err(|error| Refused::Malformed(error.to_string()))
}

fn stopped(error: impl fmt::Display) -> Refused {
    Refused::Stopped(error.to_string())
}

fn append_request(call: AppendCall) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: call.vote.into(),
        prev_log_id: call.previous.map(LogId::from),
        leader_commit: call.commit.map(LogId::from),
        entries: call.entries.into_iter().map(Entry::from).collect(),
    }
}

fn append_reply(response: &AppendEntriesResponse<u64>) -> AppendReply {
    match response {
        AppendEntriesResponse::Success => AppendReply::Success,
        AppendEntriesResponse::PartialSuccess(matching) => AppendReply::PartialSuccess { matching: matching.map(LogIdRecord::from) },
        AppendEntriesResponse::Conflict => AppendReply::Conflict,
        AppendEntriesResponse::HigherVote(vote) => AppendReply::HigherVote { vote: (*vote).into() },
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use uuid::Uuid;

    use super::*;

    /// Grants every vote, in the name of one node.
    #[derive(Debug)]
    struct Granting(Speaker);

    impl Transport for Granting {
        fn call<'a>(&'a self, _: &'a Destination, _: Bytes) -> BoxFuture<'a, Result<Bytes, peer::Unreachable>> {
            let reply = json(&VoteReply { vote: Vote::new(3, 1).into(), granted: true, last: None });
            Box::pin(std::future::ready(Ok(Answer { from: self.0, result: Ok(reply) }.encode())))
        }
    }

    /// Never answers.
    #[derive(Debug)]
    struct Silent;

    impl Transport for Silent {
        fn call<'a>(&'a self, _: &'a Destination, _: Bytes) -> BoxFuture<'a, Result<Bytes, peer::Unreachable>> {
            Box::pin(std::future::pending())
        }
    }

    async fn ask(transport: Arc<dyn Transport>, peer_address: Option<&str>) -> Result<VoteResponse<u64>, RpcError<RaftError<u64>>> {
        let me = Speaker { node_id: NodeId::new(1), store_id: Uuid::from_u128(1) };
        let member = Member { peer_address: peer_address.map(str::to_owned), store_id: Uuid::from_u128(2) };
        let mut network = Network { me, transport, vote_timeout: Duration::from_millis(20) };
        let request = VoteRequest { vote: Vote::new(3, 1), last_log_id: None };
        network.new_client(2, &member).await.vote(request, RPCOption::new(Duration::from_secs(1))).await
    }

    fn speaker(node: u64, store: u128) -> Speaker {
        Speaker { node_id: NodeId::new(node), store_id: Uuid::from_u128(store) }
    }

    /// A promise: a vote counts only from the node and the store that were asked; whoever is slow or has no address gives none.
    #[tokio::test]
    async fn strangers_votes_do_not_count() {
        let granted = ask(Arc::new(Granting(speaker(2, 2))), Some("h:1")).await.unwrap();
        assert!(granted.vote_granted && granted.vote == Vote::new(3, 1));
        for stranger in [speaker(2, 77), speaker(3, 2)] {
            assert!(matches!(ask(Arc::new(Granting(stranger)), Some("h:1")).await, Err(RPCError::Unreachable(_))));
        }
        assert!(matches!(ask(Arc::new(Granting(speaker(2, 2))), None).await, Err(RPCError::Unreachable(_))));
        assert!(matches!(ask(Arc::new(Silent), Some("h:1")).await, Err(RPCError::Network(_))));
    }
}
