//! A bad network in front of a node: connections that break before, within and after a request, answers that get lost or come late, requests that come
//! twice, late or in another order, a node that is gone or somewhere else.
//!
//! ```text
//!   client ──> [ request ── which fate? ── node ── answer ] ──> client
//!                │   │        │      │               │
//!          dropped   │   half of it  held back    lost, half of it,
//!                    │                            or late
//!                    └── once more, at once or late ──> node
//! ```
//!
//! It reads requests and answers as HTTP/1.1 as far as it takes to know where each ends, so that a fate strikes exactly where it is meant to. What it
//! did, it counts. The fates come from a seed: connection by connection they are the same in every run.
//!
//! | module | subject |
//! |---|---|
//! | `faults` | what may happen, how often, and the dice |
//! | `counts` | what has happened |
//! | `connection` | one client's requests, each with its fate |
//! | `wire` | where messages end |

mod connection;
mod counts;
mod faults;
#[cfg(test)]
mod tests;
mod wire;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use connection::{Connection, Shared};
pub use counts::Counts;
use counts::{Counters, count};
pub use faults::{Faults, OVERTAKERS, Random};

/// How things stand; changed by the test.
#[derive(Debug, Clone, Copy)]
struct Settings {
    node: Option<SocketAddr>,
    faults: Faults,
    is_gone: bool,
}

/// A proxy in front of one node. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    settings: watch::Sender<Settings>,
    shared: Arc<Shared>,
    /// Whether the port is taken, as the accepting task says.
    listening: watch::Receiver<bool>,
    failure: Arc<Mutex<Option<String>>>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// Listens on a port of the system's choice and passes on to `node`, with no faults yet.
    ///
    /// # Errors
    /// The system's.
    pub async fn start(node: SocketAddr, seed: u64) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (settings, receiver) = watch::channel(Settings { node: Some(node), faults: Faults::default(), is_gone: false });
        let (listening_sender, listening) = watch::channel(true);
        let shared = Arc::new(Shared { settings: receiver.clone(), counters: Counters::default(), passed: watch::Sender::new(0) });
        let failure = Arc::new(Mutex::new(None));
        let accepting = {
            let (shared, failure) = (Arc::clone(&shared), Arc::clone(&failure));
            tokio::spawn(async move {
                if let Err(error) = accept(listener, address, receiver, listening_sender, shared, seed).await {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error:#}"));
                }
            })
        };
        Ok(Self { address, settings, shared, listening, failure, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on these happen.
    pub fn set_faults(&self, faults: Faults) {
        self.settings.send_modify(|settings| settings.faults = faults);
    }

    /// From now on new connections go there: a node that was started again has another port.
    pub fn set_node(&self, node: SocketAddr) {
        self.settings.send_modify(|settings| settings.node = Some(node));
    }

    /// From now on no new connection goes anywhere: each breaks at its first request, as in front of a node that has died. Those there are stay. To be said
    /// before a node is killed: its port may soon be somebody else's.
    pub fn unset_node(&self) {
        self.settings.send_modify(|settings| settings.node = None);
    }

    /// The node is gone: connections are refused and those there are break; or it is back. Returns when that is so.
    ///
    /// # Errors
    /// If the port cannot be had again.
    pub async fn set_gone(&self, is_gone: bool) -> anyhow::Result<()> {
        self.settings.send_modify(|settings| settings.is_gone = is_gone);
        let mut listening = self.listening.clone();
        let is_done = listening.wait_for(|is_listening| *is_listening != is_gone).await.is_ok();
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ensure!(is_done, "the proxy has ended: {}", failure.unwrap_or_default());
        Ok(())
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.shared.counters.read()
    }
}

async fn accept(
    listener: TcpListener,
    address: SocketAddr,
    mut settings: watch::Receiver<Settings>,
    listening: watch::Sender<bool>,
    shared: Arc<Shared>,
    seed: u64,
) -> anyhow::Result<()> {
    let mut port = Port::Listening(listener);
    let mut connections = JoinSet::new();
    loop {
        let is_gone = settings.borrow_and_update().is_gone;
        port = match port {
            Port::Listening(listener) if is_gone => {
                connections.shutdown().await;
                drop(listener);
                let held = Port::Held(hold(address).context("the port is somebody else's now")?);
                listening.send_replace(false);
                held
            }
            Port::Held(socket) if !is_gone => {
                let listener = socket.listen(BACKLOG)?;
                listening.send_replace(true);
                Port::Listening(listener)
            }
            as_it_was => as_it_was,
        };
        tokio::select! {
            changed = settings.changed() => changed.context("the proxy is gone")?,
            Some(_) = connections.join_next() => {}
            accepted = next_connection(&port) => {
                // A client that is gone before it is taken is no failure of the proxy's.
                if let Ok(client) = accepted {
                    let number = shared.counters.read().connections;
                    count(&shared.counters.connections);
                    let connection = Connection::new(client, Arc::clone(&shared), Random::stream(seed, number));
                    connections.spawn(connection.serve());
                }
            }
        }
    }
}

/// The proxy's port: taken, or held without an ear at it, so that connections are refused and nobody else gets it.
#[derive(Debug)]
enum Port {
    Listening(TcpListener),
    Held(TcpSocket),
}

const BACKLOG: u32 = 1_024;

fn hold(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn next_connection(port: &Port) -> std::io::Result<TcpStream> {
    match port {
        Port::Listening(listener) => listener.accept().await.map(|(stream, _)| stream),
        Port::Held(_) => std::future::pending().await,
    }
}
