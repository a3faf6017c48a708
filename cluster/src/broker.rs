//! The one door of this floor: whoever wants a topic, a record or an offset asks the [`Broker`].

mod compact;
mod fetch;
mod partitions;
mod produce;
mod producers;
mod recovery;
mod request;
mod retention;
mod topics;
mod trim;

use std::sync::Arc;
use std::time::Duration;

use tidegate_storage::{DiskPool, Store};
use tidegate_types::{Clock, Limits, NodeId, Timestamp};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::partitions::{Checkpoint, Partitions};
use self::producers::ProducerIds;
use crate::Admission;
use crate::error::Error;
use crate::metadata::command::{Command, Outcome, Refusal};
use crate::metadata::image::{Node, Published, Topic};
use crate::metadata::quorum::{MetadataQuorum, QuorumError};

pub use self::producers::{Fingerprint, ProducerIdentity};
pub use self::request::{
    Acks, Appended, ClusterDescription, EnsureOutcome, FetchRequest, Fetched, FetchedRanges, NewTopic, NodeDescription, OffsetQuestion,
    OffsetReset, Offsets, Origin, PartitionDescription, Payload, Position, Ticket, TopicChange, TopicDescription,
};

/// What the broker needs to know of its node.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Its own id.
    pub node_id: NodeId,
    /// Bounds.
    pub limits: Limits,
    /// Partitions of a topic that does not say (`num.partitions`).
    pub default_partitions: u32,
    /// Where clients reach it, `host:port`.
    pub client_address: String,
    /// Its rack, if it has one.
    pub rack: Option<String>,
    /// Threads that write and sync.
    pub disk_threads: usize,
    /// Logs that are opened (read and checked) at a time (`num.recovery.threads.per.data.dir`).
    pub recovery_threads: usize,
    /// How often the recovery points are written down.
    pub checkpoint_interval: Duration,
    /// How often it is looked for segments that retention no longer keeps (`log.retention.check.interval.ms`).
    pub retention_check_interval: Duration,
    /// How long compaction rests between two looks at all logs (`log.cleaner.backoff.ms`).
    pub compaction_backoff: Duration,
    /// Memory for the keys of the log that is being compacted, in bytes (`log.cleaner.dedupe.buffer.size`).
    pub compaction_memory: usize,
    /// How long a producer that is silent is remembered (`producer.id.expiration.ms`).
    pub producer_expiration: Duration,
    /// Bytes that compaction may read and write in a second, together (`log.cleaner.io.max.bytes.per.second`).
    pub compaction_bytes_per_second: u64,
}

/// How often recovery points are written down where nothing else is said.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// How often retention looks where nothing else is said.
pub const RETENTION_CHECK_INTERVAL: Duration = Duration::from_secs(300);

/// How long compaction rests where nothing else is said.
pub const COMPACTION_BACKOFF: Duration = Duration::from_secs(15);

/// How long a producer is remembered where nothing else is said.
pub const PRODUCER_EXPIRATION: Duration = Duration::from_secs(86_400);

/// What compaction has for keys where nothing else is said, in bytes.
pub const COMPACTION_MEMORY: usize = 128 << 20;

/// What the broker is put together from. It owns none of it alone, but nobody else writes to the store while it runs.
#[derive(Debug)]
pub struct BrokerParts {
    /// What it needs to know.
    pub config: BrokerConfig,
    /// The data directory.
    pub store: Arc<Store>,
    /// The metadata.
    pub quorum: Arc<dyn MetadataQuorum>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
}

/// The door. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: BrokerConfig,
    store: Arc<Store>,
    quorum: Arc<dyn MetadataQuorum>,
    clock: Arc<dyn Clock>,
    metadata: watch::Receiver<Published>,
    partitions: Partitions,
    in_flight: Admission,
    /// Producer ids that this node may give out.
    producer_ids: ProducerIds,
    /// One trim at a time, retention's and what is put in place by compaction too: the notes of all partitions are in one file, and removing files
    /// loads the disk.
    trims: Arc<Semaphore>,
    /// Cancelled when the node begins to stop: whoever waits for records gets what there is.
    draining: CancellationToken,
    /// Ends the background tasks, after the last write.
    stopped: CancellationToken,
    background: TaskTracker,
}

impl Broker {
    /// Registers the node, opens every partition that it has (each is read and checked), and takes calls from then on.
    ///
    /// # Errors
    /// The quorum's, or the data directory's. A damaged log stops only its own partition.
    pub async fn start(parts: BrokerParts) -> Result<Self, Error> {
        let BrokerParts { config, store, quorum, clock } = parts;
        let disk = DiskPool::new(config.disk_threads).map_err(|source| tidegate_storage::Error::Io {
            action: "start disk threads for",
            path: store.root().to_owned(),
            source,
        })?;
        let metadata = quorum.watch();
        let partitions = Partitions::new(Arc::clone(&store), Arc::new(disk), Arc::clone(&clock), metadata.clone(), &config);
        let in_flight = Admission::new("bytes of requests under way on the node", config.limits.in_flight_bytes);
        let (draining, stopped, background) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let trims = Arc::new(Semaphore::new(1));
        let producer_ids = ProducerIds::default();
        let inner =
            Inner { config, store, quorum, clock, metadata, partitions, in_flight, producer_ids, trims, draining, stopped, background };
        let broker = Self { inner: Arc::new(inner) };
        broker.register().await?;
        let published = broker.metadata();
        if let Some(cluster_id) = published.image.cluster_id {
            broker.inner.store.join_cluster(cluster_id)?;
        }
        broker.inner.partitions.warn_of_strays(&published.image)?;
        broker.recover(&published).await;
        broker.spawn(Self::follow_metadata);
        broker.spawn(Self::write_checkpoints);
        broker.spawn(Self::apply_retention);
        broker.spawn(Self::compact_logs);
        Ok(broker)
    }

    /// Refuses new appends, answers who waits, finishes what is admitted, syncs and closes every log.
    pub async fn stop(&self) {
        self.drain();
        let inner = &self.inner;
        inner.stopped.cancel();
        inner.background.close();
        inner.background.wait().await;
        let (synced, is_clean) = inner.partitions.close_all().await;
        let noted = inner.store.write_recovery_points(&synced).and_then(|()| inner.store.write_high_watermarks(&synced));
        let noted = noted.and_then(|()| match (is_clean, self.metadata().image.nodes.get(&inner.config.node_id)) {
            (true, Some(node)) => inner.store.note_clean_stop(node.broker_epoch),
            _ => Ok(()),
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "the stop was not noted; the next start takes it for a kill");
        }
    }

    /// Begins to stop: new calls are refused, whoever waits for records gets what there is. What is admitted goes on.
    pub fn drain(&self) {
        self.inner.draining.cancel();
    }

    /// Whether it has begun to stop.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.is_cancelled()
    }

    /// Its configuration.
    pub fn config(&self) -> &BrokerConfig {
        &self.inner.config
    }

    /// The bound on bytes of requests under way on this node: taken before a body is read.
    pub fn in_flight(&self) -> &Admission {
        &self.inner.in_flight
    }

    /// The wall clock, for records that bring no timestamp.
    pub fn now(&self) -> Timestamp {
        self.inner.clock.wall()
    }

    /// The metadata as it is now.
    pub fn metadata(&self) -> Published {
        self.inner.metadata.borrow().clone()
    }

    /// Partitions of this node that could not be opened, each with the reason: for the node's health.
    pub fn failed_partitions(&self) -> Vec<(String, String)> {
        self.inner.partitions.failed()
    }

    /// Looks a topic up.
    ///
    /// # Errors
    /// [`Error::TopicNotFound`].
    pub fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        self.inner.metadata.borrow().image.topic(name).cloned().ok_or_else(|| Error::TopicNotFound(name.to_owned()))
    }

    /// The cluster at a glance.
    pub fn describe_cluster(&self) -> ClusterDescription {
        let (published, membership) = (self.metadata(), self.inner.quorum.membership());
        let partitions = || published.image.topics.values().flat_map(|topic| &topic.partitions);
        let describe = |node: &Node| NodeDescription { is_voter: membership.voters.contains(&node.node_id), node: node.clone() };
        let nodes = published.image.nodes.values().map(describe).collect();
        ClusterDescription {
            controller: self.inner.quorum.metrics().leader,
            nodes,
            voters: membership.voters,
            offline_partitions: partitions().filter(|partition| partition.leader.is_none()).count(),
            under_replicated_partitions: partitions().filter(|partition| partition.in_sync.len() < partition.replicas.len()).count(),
            published,
        }
    }

    async fn register(&self) -> Result<(), Error> {
        let config = &self.inner.config;
        let command = Command::RegisterNode {
            node_id: config.node_id,
            client_address: config.client_address.clone(),
            peer_address: None,
            rack: config.rack.clone(),
            directory_id: self.inner.store.identity().directory_id,
        };
        match self.propose(command).await? {
            Ok(_) => Ok(()),
            Err(refusal) => Err(Error::Internal(format!("the node was not registered: {refusal}"))),
        }
    }

    /// Proposes a command; gives the version from which it holds, or the state's refusal.
    async fn propose(&self, command: Command) -> Result<Result<u64, Refusal>, Error> {
        match self.inner.quorum.propose(command).await {
            Ok(Outcome::Done { version }) => Ok(Ok(version)),
            Ok(Outcome::Refused(refusal)) => Ok(Err(refusal)),
            Err(error) => Err(quorum_error(&error)),
        }
    }

    /// Waits until the metadata here is that of `version` at least.
    async fn seen(&self, version: u64) {
        let mut metadata = self.inner.metadata.clone();
        // Its sender goes only with the node.
        let _ = metadata.wait_for(|published| published.version >= version).await;
    }

    /// Waits until the metadata here is as new as it was anywhere when this was called.
    async fn barrier(&self) -> Result<(), Error> {
        let version = self.inner.quorum.barrier().await.map_err(|error| quorum_error(&error))?;
        self.seen(version).await;
        Ok(())
    }

    fn spawn<F>(&self, task: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stopped = self.inner.stopped.clone();
        let run = task(self.clone());
        self.inner.background.spawn(async move { stopped.run_until_cancelled(run).await });
    }

    /// Opens and closes partitions as the metadata says.
    async fn follow_metadata(self) {
        let mut metadata = self.inner.metadata.clone();
        while metadata.changed().await.is_ok() {
            let published = metadata.borrow_and_update().clone();
            self.inner.partitions.follow(&published).await;
        }
    }

    /// Notes now and then up to where logs are synced.
    async fn write_checkpoints(self) {
        let interval = self.inner.config.checkpoint_interval;
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut written = Checkpoint::default();
        loop {
            tick.tick().await;
            written = self.inner.partitions.write_checkpoint(written).await;
        }
    }
}

fn quorum_error(error: &QuorumError) -> Error {
    Error::Quorum(error.to_string())
}

#[cfg(test)]
mod tests;
