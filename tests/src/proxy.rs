//! A bad network in front of a node: connections that break before, within and after a request, answers that get lost, delays, a node that is gone.
//!
//! ```text
//!   client ──> [ request ── which fate? ── node ── answer ] ──> client
//!                │            │                      │
//!            dropped      half of it             lost, or half of it
//! ```
//!
//! It reads requests and answers as HTTP/1.1 as far as it takes to know where each ends, so that a fate strikes exactly where it is meant to. What it
//! did, it counts. The fates come from a seed: connection by connection they are the same in every run.

mod wire;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use wire::{Message, Side};

/// How often what happens, in thousandths of all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// The connection is closed before the request reaches the node.
    pub dropped: u64,
    /// The connection breaks in the middle of the request's body.
    pub cut_requests: u64,
    /// The node answers, and nobody hears it.
    pub lost_answers: u64,
    /// The connection breaks in the middle of the answer.
    pub cut_answers: u64,
    /// The request waits before it goes on.
    pub delayed: u64,
    /// So long at most.
    pub delay: Duration,
}

impl Faults {
    /// Of everything a little: `rate` thousandths each.
    pub const fn each(rate: u64) -> Self {
        Self { dropped: rate, cut_requests: rate, lost_answers: rate, cut_answers: rate, delayed: rate, delay: Duration::from_millis(20) }
    }
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections taken.
    pub connections: u64,
    /// Requests whose head was read.
    pub requests: u64,
    /// Answers that were passed on whole.
    pub answers: u64,
    /// See [`Faults::dropped`].
    pub dropped: u64,
    /// See [`Faults::cut_requests`].
    pub cut_requests: u64,
    /// See [`Faults::lost_answers`].
    pub lost_answers: u64,
    /// See [`Faults::cut_answers`].
    pub cut_answers: u64,
    /// See [`Faults::delayed`].
    pub delayed: u64,
}

impl Counts {
    /// Connections that were broken on purpose.
    pub const fn broken(&self) -> u64 {
        self.dropped + self.cut_requests + self.lost_answers + self.cut_answers
    }
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    requests: AtomicU64,
    answers: AtomicU64,
    dropped: AtomicU64,
    cut_requests: AtomicU64,
    lost_answers: AtomicU64,
    cut_answers: AtomicU64,
    delayed: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How things stand; changed by the test.
#[derive(Debug, Clone, Copy)]
struct Settings {
    node: SocketAddr,
    faults: Faults,
    is_gone: bool,
}

/// A proxy in front of one node. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    settings: watch::Sender<Settings>,
    counters: Arc<Counters>,
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
        let (settings, receiver) = watch::channel(Settings { node, faults: Faults::default(), is_gone: false });
        let (listening_sender, listening) = watch::channel(true);
        let counters = Arc::new(Counters::default());
        let failure = Arc::new(Mutex::new(None));
        let accepting = {
            let (counters, failure) = (Arc::clone(&counters), Arc::clone(&failure));
            tokio::spawn(async move {
                if let Err(error) = accept(listener, address, receiver, listening_sender, counters, seed).await {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error:#}"));
                }
            })
        };
        Ok(Self { address, settings, counters, listening, failure, accepting })
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
        self.settings.send_modify(|settings| settings.node = node);
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
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Counts {
            connections: read(&counters.connections),
            requests: read(&counters.requests),
            answers: read(&counters.answers),
            dropped: read(&counters.dropped),
            cut_requests: read(&counters.cut_requests),
            lost_answers: read(&counters.lost_answers),
            cut_answers: read(&counters.cut_answers),
            delayed: read(&counters.delayed),
        }
    }
}

async fn accept(
    listener: TcpListener,
    address: SocketAddr,
    mut settings: watch::Receiver<Settings>,
    listening: watch::Sender<bool>,
    counters: Arc<Counters>,
    seed: u64,
) -> anyhow::Result<()> {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let is_gone = settings.borrow_and_update().is_gone;
        if is_gone && listener.take().is_some() {
            connections.shutdown().await;
            listening.send_replace(false);
        }
        if !is_gone && listener.is_none() {
            listener = Some(TcpListener::bind(address).await.context("the port is somebody else's now")?);
            listening.send_replace(true);
        }
        tokio::select! {
            changed = settings.changed() => changed.context("the proxy is gone")?,
            Some(_) = connections.join_next() => {}
            accepted = next_connection(listener.as_ref()) => {
                // A client that is gone before it is taken is no failure of the proxy's.
                if let Ok(client) = accepted {
                    let number = counters.connections.fetch_add(1, Ordering::Relaxed);
                    let connection = Connection {
                        client: Side::new(client),
                        node: None,
                        settings: settings.clone(),
                        counters: Arc::clone(&counters),
                        random: Random(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
                    };
                    connections.spawn(connection.serve());
                }
            }
        }
    }
}

async fn next_connection(listener: Option<&TcpListener>) -> std::io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Numbers from a seed (splitmix64).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn within(&mut self, range: std::ops::Range<usize>) -> usize {
        range.start + usize::try_from(self.below(range.len() as u64)).unwrap_or(0)
    }
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    Drop,
    CutRequest,
    LoseAnswer,
    CutAnswer,
}

fn fate(faults: &Faults, random: &mut Random) -> Fate {
    let mut number = random.below(1_000);
    for (rate, fate) in [
        (faults.dropped, Fate::Drop),
        (faults.cut_requests, Fate::CutRequest),
        (faults.lost_answers, Fate::LoseAnswer),
        (faults.cut_answers, Fate::CutAnswer),
    ] {
        if number < rate {
            return fate;
        }
        number -= rate;
    }
    Fate::Pass
}

/// A client's connection, and the one to the node that belongs to it.
#[derive(Debug)]
struct Connection {
    client: Side,
    node: Option<Side>,
    settings: watch::Receiver<Settings>,
    counters: Arc<Counters>,
    random: Random,
}

impl Connection {
    /// Passes requests and answers until one side is done or a fate strikes.
    async fn serve(mut self) {
        // Whatever goes wrong here is what this connection is for; the client sees it break.
        let outcome = self.exchange_all().await;
        // Half of the broken ones break hard, as when a machine has no memory of them.
        if outcome.is_err() && self.random.below(2) == 0 {
            let _ = self.client.stream.set_zero_linger();
        }
    }

    async fn exchange_all(&mut self) -> anyhow::Result<()> {
        self.client.stream.set_nodelay(true)?;
        while let Some(request) = self.client.message().await? {
            count(&self.counters.requests);
            let settings = *self.settings.borrow();
            if self.random.below(1_000) < settings.faults.delayed {
                count(&self.counters.delayed);
                let most = u64::try_from(settings.faults.delay.as_micros())?;
                tokio::time::sleep(Duration::from_micros(self.random.below(most + 1))).await;
            }
            let fate = fate(&settings.faults, &mut self.random);
            self.exchange(&request, fate, settings.node).await?;
        }
        Ok(())
    }

    async fn exchange(&mut self, request: &Message, fate: Fate, address: SocketAddr) -> anyhow::Result<()> {
        if fate == Fate::Drop {
            count(&self.counters.dropped);
            anyhow::bail!("dropped");
        }
        let node = match &mut self.node {
            Some(node) => node,
            none => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                none.insert(Side::new(stream))
            }
        };
        if fate == Fate::CutRequest {
            count(&self.counters.cut_requests);
            let part = self.random.within(request.cut_range());
            node.stream.write_all(&request.bytes[..part]).await?;
            anyhow::bail!("cut in the request");
        }
        node.stream.write_all(&request.bytes).await?;
        let answer = node.message().await?.context("no answer")?;
        match fate {
            Fate::LoseAnswer => {
                count(&self.counters.lost_answers);
                anyhow::bail!("the answer is lost");
            }
            Fate::CutAnswer => {
                count(&self.counters.cut_answers);
                let part = self.random.within(answer.cut_range());
                self.client.stream.write_all(&answer.bytes[..part]).await?;
                anyhow::bail!("cut in the answer");
            }
            Fate::Pass | Fate::Drop | Fate::CutRequest => {
                self.client.stream.write_all(&answer.bytes).await?;
                count(&self.counters.answers);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: fates come as often as they are asked for, the same for the same seed; without faults everything passes.
    #[test]
    fn fates_follow_their_rates() {
        let draw = |faults: Faults, seed| {
            let mut random = Random(seed);
            (0..10_000).map(|_| fate(&faults, &mut random)).collect::<Vec<_>>()
        };
        assert!(draw(Faults::default(), 1).iter().all(|fate| *fate == Fate::Pass));
        let fates = draw(Faults::each(50), 1);
        assert_eq!(fates, draw(Faults::each(50), 1));
        for wanted in [Fate::Drop, Fate::CutRequest, Fate::LoseAnswer, Fate::CutAnswer] {
            let count = fates.iter().filter(|fate| **fate == wanted).count();
            assert!((350..650).contains(&count), "{wanted:?}: {count}");
        }
    }
}
