//! Connections: taken, bounded, served over HTTP/1.1 or HTTP/2 without TLS, and brought to an end.
//!
//! ```text
//!   accept ─ first bytes ─┬─ "PRI" ─ HTTP/2 (prior knowledge)
//!      │                  └─ else ── HTTP/1.1 (upgradable)
//!      └─ too many: 503, closed
//!
//!   stop: answers close their connections ─ linger ─ idle ones closed ─ deadline ─ the rest cut off
//! ```
//!
//! What is slow is cut off: a head by [`Limits::head_timeout_ms`], a body by `extract`, a connection on which nothing moves by
//! [`STILL_MAX`]. A connection may be idle between requests until then.
//!
//! Heads that are no HTTP, and heads far beyond the limit, are answered by hyper itself, with a bare 400, 414 or 431: no request has come of
//! them that a problem could be the answer to. Heads a little beyond the limit do reach the middleware and get their problem.

mod calls;
mod outgoing;
mod progress;
mod send;
mod socket;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tidegate_types::Limits;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;

use self::calls::Calls;
use self::outgoing::Outgoing;
use self::progress::Progress;
use self::socket::Socket;
use crate::router;
use crate::state::ApiState;

/// A connection on which nothing moves for this long is closed: an idle one, or one whose client stopped reading. It is longer than any
/// call may wait without a byte.
pub const STILL_MAX: Duration = Duration::from_secs(300);
/// What every HTTP/2 connection begins with; three bytes tell it from any method of HTTP/1.
const H2_PREFACE_START: &[u8] = b"PRI";
/// How long the accept loop waits when the system has no handle for another connection and none of ours ends.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Requests at a time on one HTTP/2 connection.
const H2_STREAMS_MAX: u32 = 256;
const H2_STREAM_WINDOW_BYTES: u32 = 1 << 20;
const H2_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const H2_SEND_BUFFER_BYTES: usize = 512 << 10;
const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What hyper reads ahead of a request, and gathers of an answer, for one connection over HTTP/1.1, is the longest head and so much more. It
/// counts in no bound but that of connections, and hyper's own default of 400 KiB for each of ten thousand would be more than all else together.
const BUFFER_BYTES_MORE: usize = 8 << 10;

/// Header lines of a request over HTTP/1.1: a record's own (D27) and plenty around them. Hyper clears room for so many at each request.
const HEADERS_MAX: usize = 256;

/// The answer to a connection too many. It belongs to no request, so it has no id.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-type: application/problem+json\r\n\
content-length: 213\r\n\r\n{\"type\":\"https://tidegate.dev/problems/overloaded\",\"title\":\"Overloaded\",\"status\":503,\
\"detail\":\"the node has no room for another connection\",\"code\":\"overloaded\",\"retryable\":true,\"side_effects\":\"none\",\"instance\":\"\"}";

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Idle connections close, the others when their answer is out.
    Finishing,
    /// All close.
    Aborting,
}

/// Connections that may wait to be taken: with fewer, a burst of a thousand would lose some to resets, and a client cannot know then what became
/// of its request. The system may allow less (`net.core.somaxconn`).
const BACKLOG: u32 = 4_096;

/// Listens at an address, with room for a burst of connections.
///
/// # Errors
/// The system's: the name is unknown, the port is taken, …
pub async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        match listen_at(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // After a restart the port is free at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `listener` until `shutdown` is done and every request under way has its answer, or [`crate::ApiConfig::drain_timeout`] is over.
pub async fn serve(listener: TcpListener, state: ApiState, shutdown: impl Future<Output = ()>) {
    let (stage, stages) = watch::channel(Stage::Serving);
    let limits = state.limits();
    let acceptor = Acceptor {
        settings: Settings::new(limits),
        slots: Arc::new(Semaphore::new(limits.connections)),
        ended: Arc::new(Notify::new()),
        tracker: TaskTracker::new(),
        app: router(state.clone()),
        stages,
    };
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => acceptor.take(accepted).await,
        }
    }
    stop(listener, &state, &acceptor, &stage).await;
}

async fn stop(listener: TcpListener, state: &ApiState, acceptor: &Acceptor, stage: &watch::Sender<Stage>) {
    state.close_connections();
    // Whoever the system has let in already is waiting for an answer.
    while let Poll::Ready(Ok(accepted)) = poll_fn(|context| Poll::Ready(listener.poll_accept(context))).await {
        acceptor.take(Ok(accepted)).await;
    }
    drop(listener);
    acceptor.tracker.close();
    let ended_within = |limit| tokio::time::timeout(limit, acceptor.tracker.wait());
    if ended_within(state.config().drain_linger).await.is_ok() {
        return;
    }
    stage.send_replace(Stage::Finishing);
    if ended_within(state.config().drain_timeout).await.is_ok() {
        return;
    }
    tracing::warn!(connections = acceptor.tracker.len(), "cut off: their requests did not end in time");
    stage.send_replace(Stage::Aborting);
    acceptor.tracker.wait().await;
}

/// What connections are made with.
struct Acceptor {
    settings: Arc<Settings>,
    slots: Arc<Semaphore>,
    /// Told whenever a connection ends: then there is a handle for another one.
    ended: Arc<Notify>,
    tracker: TaskTracker,
    app: Router,
    stages: watch::Receiver<Stage>,
}

impl Acceptor {
    async fn take(&self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, _)) => self.begin(stream),
            Err(error) if is_of_one_connection(&error) => tracing::debug!(%error, "a connection was gone before it was taken"),
            Err(error) => {
                // No handles or no memory: trying again at once would fail at once.
                tracing::warn!(%error, "cannot take connections");
                let _ = tokio::time::timeout(EXHAUSTED_PAUSE, self.ended.notified()).await;
            }
        }
    }

    fn begin(&self, stream: TcpStream) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            metrics::counter!("tidegate_connections_refused_total").increment(1);
            refuse(stream);
            return;
        };
        // Answers are small and waited for. A socket that refuses the option is dead and will say so.
        let _ = stream.set_nodelay(true);
        let held = Held { _slot: slot, ended: Arc::clone(&self.ended) };
        let (settings, app, stages) = (Arc::clone(&self.settings), self.app.clone(), self.stages.clone());
        self.tracker.spawn(async move {
            // The connection's errors are its client's: gone, too slow, no HTTP.
            if let Err(error) = settings.serve(stream, app, stages).await {
                tracing::debug!(%error, "connection ended");
            }
            drop(held);
        });
    }
}

/// A connection's place, given back when it ends.
struct Held {
    _slot: OwnedSemaphorePermit,
    ended: Arc<Notify>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ended.notify_one();
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

/// Says why, if the socket takes it without waiting.
fn refuse(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = io::Write::write(&mut stream, TOO_MANY);
    }
}

/// How connections are served; one for all.
struct Settings {
    head_timeout: Duration,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Settings {
    fn new(limits: &Limits) -> Arc<Self> {
        // Heads up to twice the limit reach the middleware, which answers them with a problem.
        let head_bytes_max = limits.head_bytes.saturating_mul(2);
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).header_read_timeout(None).max_header_size(head_bytes_max).max_headers(HEADERS_MAX);
        // Slices reach the socket as they are: it knows placeholders by their address.
        http1.writev(true);
        http1.max_buf_size(head_bytes_max.saturating_add(BUFFER_BYTES_MORE));
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(H2_STREAMS_MAX)
            .max_header_list_size(u32::try_from(head_bytes_max).unwrap_or(u32::MAX))
            .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(H2_SEND_BUFFER_BYTES)
            .keep_alive_interval(H2_PING_INTERVAL)
            .keep_alive_timeout(H2_PING_TIMEOUT);
        Arc::new(Self { head_timeout: Duration::from_millis(limits.head_timeout_ms), http1, http2 })
    }

    async fn serve(&self, mut stream: TcpStream, app: Router, mut stages: watch::Receiver<Stage>) -> Result<(), BoxError> {
        let prefix = tokio::select! {
            prefix = tokio::time::timeout(self.head_timeout, first_bytes(&mut stream)) => prefix??,
            () = reached(&mut stages, Stage::Finishing) => return Ok(()), // It has not asked anything.
        };
        if prefix.is_empty() {
            return Ok(());
        }
        let progress = Arc::new(Progress::default());
        let is_http2 = prefix.starts_with(H2_PREFACE_START);
        let head_timeout = (!is_http2).then_some(self.head_timeout);
        let socket = Socket::new(stream, prefix, Arc::clone(&progress), head_timeout);
        let calls = Calls { app, progress: Arc::clone(&progress), outgoing: None };
        if is_http2 {
            drive(self.http2.serve_connection(socket, calls), &progress, stages).await
        } else {
            let outgoing = Arc::new(Outgoing::default());
            let socket = socket.sending(Arc::clone(&outgoing));
            let calls = Calls { outgoing: Some(outgoing), ..calls };
            drive(self.http1.serve_connection(socket, calls).with_upgrades(), &progress, stages).await
        }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The first bytes, enough to tell the protocol; empty if the client went away.
async fn first_bytes(stream: &mut TcpStream) -> io::Result<Bytes> {
    let mut first = [0; 24];
    let mut length = 0;
    loop {
        let read = stream.read(&mut first[length..]).await?;
        length += read;
        let known = length >= H2_PREFACE_START.len() || !H2_PREFACE_START.starts_with(&first[..length]);
        if known || read == 0 {
            return Ok(Bytes::copy_from_slice(&first[..length]));
        }
    }
}

/// Waits until a stop has come to `stage` or further.
async fn reached(stages: &mut watch::Receiver<Stage>, stage: Stage) {
    let _ = stages.wait_for(|now| *now as u8 >= stage as u8).await;
}

/// A connection that can be asked to finish.
trait Connection: Future<Output = Result<(), hyper::Error>> {
    fn finish(self: Pin<&mut Self>);
}

impl Connection for http1::UpgradeableConnection<Socket, Calls> {
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl Connection for http2::Connection<Socket, Calls, TokioExecutor> {
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Serves a connection to its end, whoever brings it about.
async fn drive(connection: impl Connection, progress: &Progress, mut stages: watch::Receiver<Stage>) -> Result<(), BoxError> {
    let mut connection = pin!(connection);
    let mut finishing = false;
    let mut moved = progress.moved();
    let mut still = pin!(tokio::time::sleep(STILL_MAX));
    loop {
        let next = if finishing { Stage::Aborting } else { Stage::Finishing };
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = reached(&mut stages, next) => {
                if finishing {
                    return Err("cut off by the stop".into());
                }
                connection.as_mut().finish();
                finishing = true;
            }
            () = still.as_mut() => {
                let now = progress.moved();
                if now == moved {
                    return Err("nothing moved".into());
                }
                moved = now;
                still.as_mut().reset(tokio::time::Instant::now() + STILL_MAX);
            }
        }
    }
}
