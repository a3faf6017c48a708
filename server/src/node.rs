//! One node: its parts started in order, and stopped in the reverse one.
//!
//! ```text
//!   start   directory (locked) ─> bind ─> answer 503 starting ─> metadata ─> broker: recover ─> answer
//!   stop    broker drains (503 draining, long polls answered) ─> connections finish ─> broker ─> metadata ─> directory
//! ```
//!
//! Its promise: while it starts and while it stops, every request that reaches it gets an answer.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tidegate_api::{ApiConfig, ApiState, listen};
use tidegate_cluster::broker::BrokerParts;
use tidegate_cluster::metadata::image::ClusterSecret;
use tidegate_cluster::metadata::quorum::{Compaction, FirstStart, MetadataQuorum, QuorumError, RaftConfig, RaftQuorum, Timings};
use tidegate_cluster::peer::NoPeers;
use tidegate_cluster::{Broker, BrokerConfig, CHECKPOINT_INTERVAL};
use tidegate_storage::Store;
use tidegate_storage::io::RealIo;
use tidegate_storage::kv::KvStore;
use tidegate_types::time::SystemClock;
use tidegate_types::{Clock, ClusterId, NodeId};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::config::{Address, Config};
use crate::telemetry;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It could not take connections.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: Address,
        /// What the system says.
        source: io::Error,
    },
    /// The metrics recorder could not be installed.
    #[error("cannot record metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// The system gave no random bytes, which identities are drawn from.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    /// The data directory, or something in it, could not be opened.
    #[error(transparent)]
    Storage(#[from] tidegate_storage::Error),
    /// The metadata did not come up.
    #[error(transparent)]
    Metadata(#[from] QuorumError),
    /// The broker did not come up.
    #[error(transparent)]
    Broker(#[from] tidegate_cluster::Error),
}

/// A node that has its address and answers, but only with 503 `starting`.
#[derive(Debug)]
pub struct Listening {
    settled: Settled,
    store: Store,
    state: ApiState,
    serving: Serving,
}

/// What is settled once a node has its address.
#[derive(Debug)]
struct Settled {
    config: Config,
    clock: Arc<dyn Clock>,
    address: SocketAddr,
}

/// The tasks that run beside the broker.
#[derive(Debug)]
struct Serving {
    stop: oneshot::Sender<()>,
    connections: JoinHandle<()>,
    upkeep: JoinHandle<()>,
}

impl Serving {
    /// Takes no more connections and waits until those there are have their answers.
    async fn finish(self) {
        // The task may have ended already; then there is nobody to tell.
        let _ = self.stop.send(());
        // A panic in it would have ended the process, and nobody cancels it.
        let _ = self.connections.await;
        self.upkeep.abort();
    }
}

/// A node that takes calls.
#[derive(Debug)]
pub struct Node {
    address: SocketAddr,
    broker: Broker,
    quorum: Arc<RaftQuorum>,
    serving: Serving,
}

impl Node {
    /// Starts a node and waits until it takes calls.
    ///
    /// # Errors
    /// [`StartError`]; nothing of the node is left running then.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        Box::pin(Self::listen(config).await?.recover()).await
    }

    /// Takes the data directory, then the address, and answers 503 `starting` from then on.
    ///
    /// # Errors
    /// [`StartError::Storage`], [`StartError::Listen`], [`StartError::Random`] or [`StartError::Metrics`].
    pub async fn listen(config: &Config) -> Result<Listening, StartError> {
        // The directory first: its lock keeps a second node out, which then has nothing to answer.
        let store = open_directory(config.data_dir.clone(), config.node_id, config.min_free_bytes).await?;
        let recorder = telemetry::recorder()?;
        let refuse = |source| StartError::Listen { address: config.listener.clone(), source };
        let listener = listen(&config.listener.host, config.listener.port).await.map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let state = ApiState::new(ApiConfig {
            limits: config.limits.clone(),
            cors_origins: config.cors_origins.clone(),
            own_hosts: own_hosts(config, address),
            loopback: address.ip().is_loopback(),
            metrics: Some(telemetry::render(recorder.clone())),
            clock: Arc::clone(&clock),
            ..ApiConfig::default()
        });
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            // A sender that is gone means the same as a word from it.
            let _ = stopped.await;
        };
        let connections = tokio::spawn(tidegate_api::serve(listener, state.clone(), shutdown));
        let upkeep = tokio::spawn(telemetry::upkeep(recorder));
        tracing::info!(%address, data_dir = %config.data_dir.display(), "listening; the node is starting");
        let settled = Settled { config: config.clone(), clock, address };
        Ok(Listening { settled, store, state, serving: Serving { stop, connections, upkeep } })
    }

    /// Where it takes calls: the port is the real one if 0 was asked for.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where a person on this machine reaches it.
    pub fn base_url(&self) -> String {
        base_url(self.address)
    }

    /// Stops it: refuses new calls, answers all that are under way, syncs and closes everything.
    pub async fn stop(self) {
        self.broker.drain();
        self.serving.finish().await;
        self.broker.stop().await;
        self.quorum.shutdown().await;
        tracing::info!("stopped");
    }
}

impl Listening {
    /// Where it answers.
    pub const fn address(&self) -> SocketAddr {
        self.settled.address
    }

    /// Recovers what is in the data directory, and takes calls from then on.
    ///
    /// # Errors
    /// [`StartError`]; nothing of the node is left running then.
    pub async fn recover(self) -> Result<Node, StartError> {
        let Self { settled, store, state, serving } = self;
        match Box::pin(settled.open(store)).await {
            Ok((broker, quorum)) => {
                state.set_broker(broker.clone());
                Ok(Node { address: settled.address, broker, quorum, serving })
            }
            Err(error) => {
                serving.finish().await;
                Err(error)
            }
        }
    }
}

impl Settled {
    async fn open(&self, store: Store) -> Result<(Broker, Arc<RaftQuorum>), StartError> {
        let kv = open_metadata(store.metadata_path(), self.config.node_id).await?;
        let raft = RaftConfig {
            peer_address: None,
            first_start: FirstStart::Found { cluster_id: ClusterId::new(random_uuid()?), secret: ClusterSecret::new(random()?) },
            timings: Timings::default(),
            compaction: Compaction::default(),
        };
        let quorum = Arc::new(RaftQuorum::start(raft, Arc::new(kv), Arc::new(NoPeers)).await?);
        let parts = BrokerParts {
            config: self.broker_config(),
            store: Arc::new(store),
            quorum: Arc::clone(&quorum) as Arc<dyn MetadataQuorum>,
            clock: Arc::clone(&self.clock),
        };
        match Broker::start(parts).await {
            Ok(broker) => Ok((broker, quorum)),
            Err(error) => {
                quorum.shutdown().await;
                Err(error.into())
            }
        }
    }

    fn broker_config(&self) -> BrokerConfig {
        BrokerConfig {
            node_id: self.config.node_id,
            limits: self.config.limits.clone(),
            default_partitions: self.config.default_partitions,
            client_address: client_address(&self.config, self.address),
            rack: self.config.rack.clone(),
            disk_threads: self.config.disk_threads,
            checkpoint_interval: CHECKPOINT_INTERVAL,
            recovery_threads: self.config.recovery_threads,
            retention_check_interval: self.config.retention_check_interval,
            compaction_backoff: self.config.compaction_backoff,
            compaction_memory: self.config.compaction_memory,
            compaction_bytes_per_second: self.config.compaction_bytes_per_second,
            producer_expiration: self.config.producer_expiration,
        }
    }
}

/// Takes the data directory, off the runtime: it reads, syncs, and may wait for a slow disk.
async fn open_directory(data_dir: PathBuf, node_id: NodeId, kept: u64) -> Result<Store, StartError> {
    let directory_id = random_uuid()?;
    Ok(off_runtime(move || Store::open(Arc::new(RealIo), &data_dir, node_id, directory_id)).await?.keeping_free(kept))
}

/// Opens the small keyed state, off the runtime too.
async fn open_metadata(path: PathBuf, node_id: NodeId) -> Result<KvStore, StartError> {
    let store_id = random_uuid()?;
    Ok(off_runtime(move || KvStore::open(&path, node_id, store_id)).await?)
}

async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    // It cannot be cancelled, and a panic in it would have ended the process.
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| unreachable!("opening what lies on disk did not end: {error}"))
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StartError::Random)?;
    Ok(bytes)
}

fn random_uuid() -> Result<Uuid, StartError> {
    Ok(uuid::Builder::from_random_bytes(random()?).into_uuid())
}

/// The authorities that requests may name the node by.
fn own_hosts(config: &Config, bound: SocketAddr) -> Vec<String> {
    let named = Address { host: config.listener.host.clone(), port: bound.port() };
    let hosts = [Some(bound.to_string()), Some(named.to_string()), config.advertised.as_ref().map(ToString::to_string)];
    hosts.into_iter().flatten().collect()
}

/// What others are told to call the node by. A node that listens everywhere can only guess: the machine's own name.
fn client_address(config: &Config, bound: SocketAddr) -> String {
    match &config.advertised {
        Some(advertised) => advertised.to_string(),
        None if bound.ip().is_unspecified() => {
            let name = rustix::system::uname();
            format!("{}:{}", name.nodename().to_string_lossy(), bound.port())
        }
        None => Address { host: config.listener.host.clone(), port: bound.port() }.to_string(),
    }
}

fn base_url(bound: SocketAddr) -> String {
    let ip = bound.ip();
    let reachable = match ip {
        std::net::IpAddr::V4(_) if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], bound.port())),
        std::net::IpAddr::V6(_) if ip.is_unspecified() => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, bound.port())),
        _ => bound,
    };
    format!("http://{reachable}")
}
