//! What every handler is given: the broker, once there is one, and the listener's configuration.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidegate_cluster::Broker;
use tidegate_types::time::SystemClock;
use tidegate_types::{Clock, ErrorCode, Limits};
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// Renders the metrics page, in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// How the client listener behaves.
#[derive(Clone)]
pub struct ApiConfig {
    /// Bounds on what clients send and hold.
    pub limits: Limits,
    /// Origins of other sites' pages that may call (`https://app.example.com`); `*` is any. Empty is CORS off.
    pub cors_origins: Vec<String>,
    /// Authorities (`host` or `host:port`) that the node is reached under, beside loopback names and addresses: the advertised one, for example.
    pub own_hosts: Vec<String>,
    /// Whether the listener is on loopback: then a `Host` that is no loopback name is refused (D26).
    pub loopback: bool,
    /// The text of `GET /metrics`; without it the page is empty.
    pub metrics: Option<RenderMetrics>,
    /// How long a stop waits for requests under way.
    pub drain_timeout: Duration,
    /// How long a stop lets idle connections ask once more: whoever was just about to send gets an answer that closes the connection.
    pub drain_linger: Duration,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            cors_origins: Vec::new(),
            own_hosts: Vec::new(),
            loopback: true,
            metrics: None,
            drain_timeout: Duration::from_secs(30),
            drain_linger: Duration::from_millis(250),
            clock: Arc::new(SystemClock::new()),
        }
    }
}

impl fmt::Debug for ApiConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiConfig")
            .field("limits", &self.limits)
            .field("cors_origins", &self.cors_origins)
            .field("own_hosts", &self.own_hosts)
            .field("loopback", &self.loopback)
            .finish_non_exhaustive()
    }
}

/// The state of all handlers. Cheap to clone; clones are the same state.
#[derive(Debug, Clone)]
pub struct ApiState {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ApiConfig,
    broker: OnceLock<Broker>,
    closing: AtomicBool,
    unpackers: Arc<Semaphore>,
}

impl ApiState {
    /// A node that is starting: everything but health, metrics and documentation answers 503 `starting`.
    pub fn new(config: ApiConfig) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let unpackers = Arc::new(Semaphore::new(cores));
        Self { inner: Arc::new(Inner { config, broker: OnceLock::new(), closing: AtomicBool::new(false), unpackers }) }
    }

    /// Ends the start: from now on calls are answered.
    ///
    /// # Panics
    /// If it was called before: a node has one broker for its life.
    pub fn set_broker(&self, broker: Broker) {
        assert!(self.inner.broker.set(broker).is_ok(), "the broker is set once");
    }

    /// The door to everything.
    ///
    /// # Errors
    /// 503 `starting` before [`ApiState::set_broker`], 503 `draining` once the broker stops.
    pub fn broker(&self) -> Result<&Broker, ApiError> {
        let Some(broker) = self.inner.broker.get() else {
            return Err(ApiError::new(ErrorCode::Starting, "the node has not finished starting"));
        };
        if broker.is_draining() {
            return Err(ApiError::new(ErrorCode::Draining, "the node is stopping"));
        }
        Ok(broker)
    }

    /// Bounds on what clients send and hold.
    pub fn limits(&self) -> &Limits {
        &self.inner.config.limits
    }

    /// The listener's configuration.
    pub fn config(&self) -> &ApiConfig {
        &self.inner.config
    }

    /// Turns to unpack records: one for each core.
    pub(crate) fn unpackers(&self) -> &Arc<Semaphore> {
        &self.inner.unpackers
    }

    /// From now on each answer closes its connection.
    pub(crate) fn close_connections(&self) {
        self.inner.closing.store(true, Ordering::Relaxed);
    }

    /// Whether answers close their connections.
    pub(crate) fn is_closing(&self) -> bool {
        self.inner.closing.load(Ordering::Relaxed)
    }
}
