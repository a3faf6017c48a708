//! The door to the metadata: [`MetadataQuorum`], and [`RaftQuorum`], which keeps it with openraft.
//!
//! Its promise: **what [`propose`](MetadataQuorum::propose) has answered is on disk on a majority of the voters, applied here, and in the image that
//! [`watch`](MetadataQuorum::watch) shows.** A node alone is a cluster of one voter.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::error::{CheckIsLeaderError, ClientWriteError, Fatal, RaftError};
use openraft::{ChangeMembers, Config, Raft, ServerState, SnapshotPolicy};
use tidegate_storage::kv::KvStore;
use tidegate_types::{ClusterId, NodeId};
use tokio::sync::watch;

use super::command::{Command, Outcome};
use super::image::{ClusterSecret, Published};
use super::log_store::{Failure, LogStore, blocking};
use super::network::{self, Network};
use super::raft::{Member, TypeConfig};
use super::state_machine::StateMachine;
use crate::Error;
use crate::peer::Transport;
use crate::peer::message::{MessageError, Request, Speaker};

/// Why the quorum did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// Another node leads, or nobody does just now; nothing was done.
    #[error("{}", .leader.map_or_else(|| "no node leads the metadata quorum".to_owned(), |leader| format!("node {leader} leads the metadata quorum")))]
    NotLeader {
        /// The leader, if it is known.
        leader: Option<NodeId>,
    },
    /// It took too long. What was proposed may still happen.
    #[error("no majority of the voters answered in time")]
    Timeout,
    /// The node is stopping, or its store has failed. What was proposed may have happened.
    #[error("the metadata store has stopped: {0}")]
    Stopped(String),
    /// It could not be started.
    #[error("the metadata cannot be opened: {0}")]
    Start(String),
}

impl From<QuorumError> for Error {
    fn from(error: QuorumError) -> Self {
        Self::Quorum(error.to_string())
    }
}

/// Who agrees on the metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuorumMembership {
    /// Nodes that vote, by id.
    pub voters: Vec<NodeId>,
    /// Nodes that only listen, by id.
    pub learners: Vec<NodeId>,
}

/// What a node is to the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuorumRole {
    /// It listens.
    Learner,
    /// It votes.
    Follower,
    /// It wants to lead.
    Candidate,
    /// It leads: it is the controller.
    Leader,
    /// It has stopped.
    Stopped,
}

/// How the quorum is doing, as this node sees it. Indexes are those of the metadata log; `None` is before the first entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumMetrics {
    /// What this node is.
    pub role: QuorumRole,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// Raft's term.
    pub term: u64,
    /// The last entry in the log.
    pub last_log_index: Option<u64>,
    /// The last entry applied.
    pub applied_index: Option<u64>,
    /// The last entry in the newest snapshot.
    pub snapshot_index: Option<u64>,
    /// The last entry purged.
    pub purged_index: Option<u64>,
    /// Why it has stopped, if it has by itself. Only a restart helps then.
    pub failure: Option<String>,
}

/// Whoever keeps the metadata.
pub trait MetadataQuorum: Send + Sync + fmt::Debug {
    /// Has a command carried out, and answers once every later look at [`MetadataQuorum::watch`] shows it.
    ///
    /// Once it has begun, it goes on whether or not anybody waits.
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, QuorumError>>;

    /// Waits until this node, which must lead, shows everything that was answered before the call; returns the index up to which that is.
    fn barrier(&self) -> BoxFuture<'_, Result<u64, QuorumError>>;

    /// The metadata as this node has it, now and from now on.
    fn watch(&self) -> watch::Receiver<Published>;

    /// Who agrees on it.
    fn membership(&self) -> QuorumMembership;

    /// How it is doing.
    fn metrics(&self) -> QuorumMetrics;
}

/// How long things may take. All on the monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    /// Between two signs of life of the leader.
    pub heartbeat: Duration,
    /// Silence after which a node stands for election: the least,
    pub election_min: Duration,
    /// and the most.
    pub election_max: Duration,
    /// For an answer to a call for votes, connecting included.
    pub vote_call: Duration,
    /// For a snapshot to arrive and to be installed.
    pub snapshot_call: Duration,
    /// For a command, until [`QuorumError::Timeout`].
    pub propose: Duration,
    /// For a node alone to lead itself, at its start.
    pub start: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1_000),
            vote_call: Duration::from_millis(200),
            snapshot_call: Duration::from_secs(30),
            propose: Duration::from_secs(10),
            start: Duration::from_secs(30),
        }
    }
}

impl Timings {
    fn validate(&self) -> Result<(), QuorumError> {
        // A candidate that gives up its term before the call for votes to a dead voter has failed keeps the others from winning, for ever.
        if self.election_min < 2 * self.vote_call {
            return Err(QuorumError::Start("the least election timeout must be twice a vote's at least".to_owned()));
        }
        if self.election_max <= self.election_min || self.election_min <= self.heartbeat {
            return Err(QuorumError::Start("it must be heartbeat < least < greatest election timeout".to_owned()));
        }
        Ok(())
    }
}

/// When the log is compacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compaction {
    /// Entries after which a snapshot is made and what it contains is purged.
    pub snapshot_after: u64,
    /// Entries that are kept all the same, for nodes that are a little behind.
    pub keep: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { snapshot_after: 5_000, keep: 1_000 }
    }
}

/// What a node does whose store is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstStart {
    /// It founds a cluster of one voter. Both values are drawn at random by the caller; later starts ignore them.
    Found {
        /// The cluster's identity.
        cluster_id: ClusterId,
        /// Its secret.
        secret: ClusterSecret,
    },
    /// It waits until a cluster takes it in.
    WaitToBeAdded,
}

/// What a [`RaftQuorum`] needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftConfig {
    /// Where peers reach this node, if it takes peers.
    pub peer_address: Option<String>,
    /// What to do with an empty store.
    pub first_start: FirstStart,
    /// How long things may take.
    pub timings: Timings,
    /// When the log is compacted.
    pub compaction: Compaction,
}

/// The quorum by Raft. The node's id and store id are the store's.
pub struct RaftQuorum {
    me: Speaker,
    raft: Raft<TypeConfig>,
    kv: Arc<KvStore>,
    published: watch::Receiver<Published>,
    timings: Timings,
}

impl fmt::Debug for RaftQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftQuorum").field("me", &self.me).finish_non_exhaustive()
    }
}

impl RaftQuorum {
    /// Starts the quorum on `kv`. A sole voter leads itself, with all that its log holds applied, when this returns; others may still be looking for
    /// a leader. If it fails, the store is closed.
    ///
    /// # Errors
    /// [`QuorumError::Start`] or [`QuorumError::Stopped`] if the store can't be read or written, [`QuorumError::Timeout`] if a sole voter does not
    /// come to lead itself.
    pub async fn start(config: RaftConfig, kv: Arc<KvStore>, transport: Arc<dyn Transport>) -> Result<Self, QuorumError> {
        let started = Box::pin(Self::assemble(&config, &kv, transport)).await;
        if started.is_err() {
            close(&kv).await;
        }
        started
    }

    async fn assemble(config: &RaftConfig, kv: &Arc<KvStore>, transport: Arc<dyn Transport>) -> Result<Self, QuorumError> {
        config.timings.validate()?;
        let me = Speaker { node_id: kv.node_id(), store_id: kv.store_id() };
        let state_machine = StateMachine::load(Arc::clone(kv)).await.map_err(|failure| QuorumError::Start(failure.to_string()))?;
        let published = state_machine.watch();
        let network = Network { me, transport, vote_timeout: config.timings.vote_call };
        let raft_config = Arc::new(raft_config(config)?);
        let raft = Box::pin(Raft::new(me.node_id.get(), raft_config, network, LogStore::new(Arc::clone(kv)), state_machine));
        let raft = raft.await.map_err(|error| QuorumError::Start(error.to_string()))?;
        let quorum = Self { me, raft, kv: Arc::clone(kv), published, timings: config.timings.clone() };
        match quorum.take_part(config).await {
            Ok(()) => Ok(quorum),
            Err(error) => {
                quorum.shutdown().await;
                Err(error)
            }
        }
    }

    /// Stops it and closes the store; when it returns, the store may be opened again.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the metadata quorum did not stop cleanly");
        }
        close(&self.kv).await;
    }

    /// Answers another node's call. It speaks in bytes, so that the transport need not know what is said.
    ///
    /// # Errors
    /// [`MessageError`] if it is none.
    pub async fn answer(&self, request: &Bytes) -> Result<Bytes, MessageError> {
        let request = Request::decode(request)?;
        Ok(Box::pin(network::answer(&self.raft, self.me, request)).await.encode())
    }

    async fn take_part(&self, config: &RaftConfig) -> Result<(), QuorumError> {
        let id = self.me.node_id.get();
        let member = Member { peer_address: config.peer_address.clone(), store_id: self.me.store_id };
        let is_known = self.raft.is_initialized().await.map_err(stopped)?;
        if !is_known {
            if config.first_start == FirstStart::WaitToBeAdded {
                return Ok(());
            }
            let founded = self.raft.initialize(BTreeMap::from([(id, member.clone())])).await;
            founded.map_err(|error| QuorumError::Start(error.to_string()))?;
        }
        let (role, voters, known) = self.standing().await?;
        if let Some(known) = &known
            && known.store_id != member.store_id
        {
            let reason = format!("the cluster knows node {id} by store {}, but this is store {}", known.store_id, member.store_id);
            return Err(QuorumError::Start(reason));
        }
        if voters != [id] {
            return Ok(());
        }
        if role != ServerState::Leader && is_known {
            // Nobody else could: there is no reason to wait for silence first. (A cluster just founded has called its election itself.)
            self.raft.trigger().elect().await.map_err(stopped)?;
        }
        self.lead_alone().await?;
        self.tell_my_address(member, known.as_ref()).await?;
        self.found_cluster(&config.first_start).await
    }

    /// What this node is, who votes, and what the membership says of this node. From Raft itself: its metrics lag behind at the start.
    async fn standing(&self) -> Result<(ServerState, Vec<u64>, Option<Member>), QuorumError> {
        let id = self.me.node_id.get();
        let standing = self.raft.with_raft_state(move |state| {
            let effective = state.membership_state.effective();
            let membership = effective.membership();
            (state.server_state, membership.voter_ids().collect::<Vec<_>>(), membership.get_node(&id).cloned())
        });
        standing.await.map_err(stopped)
    }

    async fn lead_alone(&self) -> Result<(), QuorumError> {
        let id = self.me.node_id.get();
        let wait = self.raft.wait(Some(self.timings.start));
        let leads = wait.metrics(|metrics| metrics.current_leader == Some(id), "a sole voter leads itself").await;
        leads.map_err(|_| self.why_not_leading())?;
        tokio::time::timeout(self.timings.start, self.barrier()).await.map_err(|_| QuorumError::Timeout)??;
        Ok(())
    }

    fn why_not_leading(&self) -> QuorumError {
        self.metrics().failure.map_or(QuorumError::Timeout, QuorumError::Stopped)
    }

    /// The address in the configuration may have changed since the membership was written.
    async fn tell_my_address(&self, member: Member, known: Option<&Member>) -> Result<(), QuorumError> {
        if known == Some(&member) {
            return Ok(());
        }
        let nodes = BTreeMap::from([(self.me.node_id.get(), member)]);
        Box::pin(self.raft.change_membership(ChangeMembers::SetNodes(nodes), true)).await.map_err(write_error)?;
        Ok(())
    }

    /// At the first start; and at the second, if the first was cut short right before.
    async fn found_cluster(&self, first_start: &FirstStart) -> Result<(), QuorumError> {
        let FirstStart::Found { cluster_id, secret } = first_start else {
            return Ok(());
        };
        if self.published.borrow().image.cluster_id.is_some() {
            return Ok(());
        }
        match self.propose(Command::InitCluster { cluster_id: *cluster_id, secret: *secret }).await? {
            Outcome::Done { .. } => Ok(()),
            Outcome::Refused(refusal) => Err(QuorumError::Start(refusal.to_string())),
        }
    }

    async fn write(&self, command: Command) -> Result<Outcome, QuorumError> {
        let written = tokio::time::timeout(self.timings.propose, self.raft.client_write(command)).await;
        let response = written.map_err(|_| QuorumError::Timeout)?.map_err(write_error)?;
        Ok(response.data)
    }

    async fn read_barrier(&self) -> Result<u64, QuorumError> {
        let confirmed = self.raft.ensure_linearizable().await.map_err(|error| match error {
            RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward)) => not_leader(forward.leader_id),
            RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)) => QuorumError::Timeout,
            RaftError::Fatal(fatal) => stopped(fatal),
        })?;
        Ok(confirmed.map_or(0, |id| id.index))
    }
}

impl MetadataQuorum for RaftQuorum {
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, QuorumError>> {
        Box::pin(self.write(command))
    }

    fn barrier(&self) -> BoxFuture<'_, Result<u64, QuorumError>> {
        Box::pin(self.read_barrier())
    }

    fn watch(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }

    fn membership(&self) -> QuorumMembership {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        QuorumMembership {
            voters: membership.voter_ids().map(NodeId::new).collect(),
            learners: membership.learner_ids().map(NodeId::new).collect(),
        }
    }

    fn metrics(&self) -> QuorumMetrics {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        QuorumMetrics {
            role: role(metrics.state),
            leader: metrics.current_leader.map(NodeId::new),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index,
            applied_index: metrics.last_applied.map(|id| id.index),
            snapshot_index: metrics.snapshot.map(|id| id.index),
            purged_index: metrics.purged.map(|id| id.index),
            failure: match &metrics.running_state {
                Ok(()) | Err(Fatal::Stopped) => None,
                Err(fatal) => Some(fatal.to_string()),
            },
        }
    }
}

async fn close(kv: &Arc<KvStore>) {
    let closed = blocking(kv, |kv| -> Result<(), Failure> {
        kv.close();
        Ok(())
    });
    if let Err(error) = closed.await {
        tracing::error!(%error, "the metadata store was not closed");
    }
}

fn role(state: ServerState) -> QuorumRole {
    match state {
        ServerState::Learner => QuorumRole::Learner,
        ServerState::Follower => QuorumRole::Follower,
        ServerState::Candidate => QuorumRole::Candidate,
        ServerState::Leader => QuorumRole::Leader,
        ServerState::Shutdown => QuorumRole::Stopped,
    }
}

fn raft_config(config: &RaftConfig) -> Result<Config, QuorumError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let Timings { heartbeat, election_min, election_max, snapshot_call, .. } = config.timings;
    let raft_config = Config {
        cluster_name: "tidegate".to_owned(),
        heartbeat_interval: millis(heartbeat),
        election_timeout_min: millis(election_min),
        election_timeout_max: millis(election_max),
        install_snapshot_timeout: millis(snapshot_call),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.compaction.snapshot_after),
        max_in_snapshot_log_to_keep: config.compaction.keep,
        // A node further behind than that is sent the snapshot: the log may not reach back to it.
        replication_lag_threshold: config.compaction.snapshot_after.saturating_add(config.compaction.keep),
        ..Config::default()
    };
    raft_config.validate().map_err(|error| QuorumError::Start(error.to_string()))
}

fn stopped(fatal: impl fmt::Display) -> QuorumError {
    QuorumError::Stopped(fatal.to_string())
}

fn not_leader(leader: Option<u64>) -> QuorumError {
    QuorumError::NotLeader { leader: leader.map(NodeId::new) }
}

fn write_error(error: RaftError<u64, ClientWriteError<u64, Member>>) -> QuorumError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => not_leader(forward.leader_id),
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => QuorumError::Stopped(error.to_string()),
        RaftError::Fatal(fatal) => stopped(fatal),
    }
}

#[cfg(test)]
mod tests;
