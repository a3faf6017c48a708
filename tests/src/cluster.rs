//! Nodes in this process, over real HTTP on port 0: all floors but the roof, on a disk that a test can spoil.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tempfile::TempDir;
use tidegate_api::{ApiConfig, ApiState, listen};
use tidegate_client::Client;
use tidegate_cluster::broker::BrokerParts;
use tidegate_cluster::metadata::image::ClusterSecret;
use tidegate_cluster::metadata::quorum::{Compaction, FirstStart, MetadataQuorum, RaftConfig, RaftQuorum, Timings};
use tidegate_cluster::peer::NoPeers;
use tidegate_cluster::{
    Broker, BrokerConfig, CHECKPOINT_INTERVAL, COMPACTION_BACKOFF, COMPACTION_MEMORY, PRODUCER_EXPIRATION, RETENTION_CHECK_INTERVAL,
};
use tidegate_storage::Store;
use tidegate_storage::io::{Faulty, Io};
use tidegate_storage::kv::KvStore;
use tidegate_types::time::SystemClock;
use tidegate_types::{ClusterId, Limits, NodeId};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// A node whose logs lie on a [`Faulty`] disk and whose metadata lies in a temporary directory.
#[derive(Debug)]
pub struct TestNode {
    address: SocketAddr,
    broker: Broker,
    quorum: Arc<RaftQuorum>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    _metadata: TempDir,
}

impl TestNode {
    /// Starts a node on `disk`.
    ///
    /// # Errors
    /// What any of its parts says.
    pub async fn start(disk: Faulty, limits: Limits) -> anyhow::Result<Self> {
        let metadata = tempfile::tempdir()?;
        let node_id = NodeId::new(1);
        let io: Arc<dyn Io> = Arc::new(disk);
        let store = Store::open(io, Path::new("/data"), node_id, Uuid::new_v4())?;
        let kv = KvStore::open(&metadata.path().join("kv"), node_id, Uuid::new_v4())?;
        let first_start = FirstStart::Found { cluster_id: ClusterId::new(Uuid::new_v4()), secret: ClusterSecret::new([7; 32]) };
        let raft = RaftConfig { peer_address: None, first_start, timings: Timings::default(), compaction: Compaction::default() };
        let quorum = Arc::new(Box::pin(RaftQuorum::start(raft, Arc::new(kv), Arc::new(NoPeers))).await?);

        let listener = listen("127.0.0.1", 0).await?;
        let address = listener.local_addr()?;
        let config = BrokerConfig {
            node_id,
            limits: limits.clone(),
            default_partitions: 1,
            client_address: address.to_string(),
            rack: None,
            disk_threads: 4,
            checkpoint_interval: CHECKPOINT_INTERVAL,
            recovery_threads: 2,
            retention_check_interval: RETENTION_CHECK_INTERVAL,
            compaction_backoff: COMPACTION_BACKOFF,
            compaction_memory: COMPACTION_MEMORY,
            compaction_bytes_per_second: u64::MAX,
            producer_expiration: PRODUCER_EXPIRATION,
        };
        let clock = Arc::new(SystemClock::new());
        let quorum_door: Arc<dyn MetadataQuorum> = Arc::clone(&quorum) as _;
        let broker = Broker::start(BrokerParts { config, store: Arc::new(store), quorum: quorum_door, clock }).await?;

        let state = ApiState::new(ApiConfig { limits, ..ApiConfig::default() });
        state.set_broker(broker.clone());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let until = async {
                // Dropping the sender means the same as sending.
                let _ = stopped.await;
            };
            tidegate_api::serve(listener, state, until).await;
        });
        Ok(Self { address, broker, quorum, stop, serving, _metadata: metadata })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The broker inside.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// A client of it.
    ///
    /// # Errors
    /// None that this address has.
    pub fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&format!("http://{}", self.address))?)
    }

    /// Stops it as a polite signal does, in the reverse order.
    ///
    /// # Errors
    /// If the listener's task has panicked.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.broker.drain();
        // An error means that the listener has stopped already.
        let _ = self.stop.send(());
        self.serving.await.context("the listener")?;
        self.broker.stop().await;
        self.quorum.shutdown().await;
        Ok(())
    }
}
