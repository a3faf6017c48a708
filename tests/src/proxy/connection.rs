//! One client's connection: its requests, one after the other, and what becomes of each.
//!
//! A request that goes a way of its own, as a duplicate or late, is a *stray*: a task of the connection's that outlives the client's side of it. It goes
//! to where the node is when it sets out, so that it may come to a node that was started again since.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::Settings;
use super::counts::{Counters, count};
use super::faults::{Fate, OVERTAKERS, Random, fate};
use super::wire::{Message, Side};

/// So long at most does a stray wait for its answer.
const STRAY_TIMEOUT: Duration = Duration::from_secs(30);
/// So many strays of one connection are on their way at the same time, at most.
const STRAYS_MAX: usize = 16;

/// What all connections of a proxy share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: watch::Receiver<Settings>,
    pub(super) counters: Counters,
    /// How many requests have gone on to the node, strays apart.
    pub(super) passed: watch::Sender<u64>,
}

impl Shared {
    async fn dial(&self) -> anyhow::Result<Side> {
        let address: SocketAddr = self.settings.borrow().node.context("there is no node")?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Side::new(stream))
    }

    /// A stray's way, on a connection of its own.
    async fn stray(self: Arc<Self>, request: Arc<Message>, after: Duration) -> anyhow::Result<Message> {
        tokio::time::sleep(after).await;
        let mut node = self.dial().await?;
        node.stream.write_all(&request.bytes).await?;
        let answer = tokio::time::timeout(STRAY_TIMEOUT, node.message()).await??.context("no answer")?;
        count(&self.counters.strays);
        Ok(answer)
    }
}

/// A client's connection, and the one to the node that belongs to it.
#[derive(Debug)]
pub(super) struct Connection {
    client: Side,
    node: Option<Side>,
    shared: Arc<Shared>,
    random: Random,
    strays: JoinSet<()>,
}

impl Connection {
    pub(super) fn new(client: TcpStream, shared: Arc<Shared>, random: Random) -> Self {
        Self { client: Side::new(client), node: None, shared, random, strays: JoinSet::new() }
    }

    /// Passes requests and answers until one side is done or a fate strikes.
    pub(super) async fn serve(mut self) {
        // Whatever goes wrong here is what this connection is for; both sides see it break.
        let outcome = self.exchange_all().await;
        // Half of the broken ones break hard, as when a machine has no memory of them.
        for side in [Some(&self.client), self.node.as_ref()].into_iter().flatten() {
            if outcome.is_err() && self.random.is_heads() {
                let _ = side.stream.set_zero_linger();
            }
        }
        let Self { client, node, mut strays, .. } = self;
        drop((client, node));
        while strays.join_next().await.is_some() {}
    }

    async fn exchange_all(&mut self) -> anyhow::Result<()> {
        self.client.stream.set_nodelay(true)?;
        while let Some(request) = self.client.message().await? {
            count(&self.shared.counters.requests);
            let faults = self.shared.settings.borrow().faults;
            if self.random.below(1_000) < faults.delayed {
                count(&self.shared.counters.delayed);
                tokio::time::sleep(self.random.duration(Duration::ZERO, faults.delay)).await;
            }
            let fate = fate(&faults, &mut self.random);
            self.exchange(Arc::new(request), fate, faults.late, faults.hold).await?;
        }
        Ok(())
    }

    async fn exchange(&mut self, request: Arc<Message>, fate: Fate, late: Duration, hold: Duration) -> anyhow::Result<()> {
        let counters = Arc::clone(&self.shared);
        let counters = &counters.counters;
        let mut copy = None;
        match fate {
            Fate::Drop => {
                count(&counters.dropped);
                anyhow::bail!("dropped");
            }
            Fate::LateRequest => {
                count(&counters.late_requests);
                self.send_stray(request, late).await;
                anyhow::bail!("on its way, alone");
            }
            Fate::CutRequest => {
                count(&counters.cut_requests);
                let part = self.random.within(request.cut_range());
                self.node().await?.stream.write_all(&request.bytes[..part]).await?;
                anyhow::bail!("cut in the request");
            }
            Fate::HoldBack => self.hold_back(hold).await,
            Fate::Duplicate => {
                count(&counters.duplicated);
                copy = Some(self.send_stray(Arc::clone(&request), Duration::ZERO).await);
            }
            Fate::Pass | Fate::LateCopy | Fate::LoseAnswer | Fate::CutAnswer | Fate::LateAnswer => {}
        }
        let node = self.node().await?;
        node.stream.write_all(&request.bytes).await?;
        self.shared.passed.send_modify(|passed| *passed += 1);
        let mut answer = self.node().await?.message().await?.context("no answer")?;
        match (fate, copy) {
            (Fate::LoseAnswer, _) => {
                count(&counters.lost_answers);
                anyhow::bail!("the answer is lost");
            }
            (Fate::CutAnswer, _) => {
                count(&counters.cut_answers);
                let part = self.random.within(answer.cut_range());
                self.client.stream.write_all(&answer.bytes[..part]).await?;
                anyhow::bail!("cut in the answer");
            }
            (Fate::LateAnswer, _) => {
                count(&counters.late_answers);
                tokio::time::sleep(late).await;
            }
            (Fate::LateCopy, _) => {
                count(&counters.late_copies);
                self.send_stray(request, late).await;
            }
            (_, Some(copy)) if self.random.is_heads() => answer = copy.await.context("the copy got no answer")?,
            _ => {}
        }
        self.client.stream.write_all(&answer.bytes).await?;
        count(&counters.answers);
        Ok(())
    }

    /// The connection to the node; made if there is none yet.
    async fn node(&mut self) -> anyhow::Result<&mut Side> {
        let dialled = match self.node.take() {
            Some(node) => node,
            None => self.shared.dial().await?,
        };
        Ok(self.node.insert(dialled))
    }

    /// Sends the request once more, at some time between a quarter of `late` and all of it.
    async fn send_stray(&mut self, request: Arc<Message>, late: Duration) -> oneshot::Receiver<Message> {
        while self.strays.len() >= STRAYS_MAX {
            self.strays.join_next().await;
        }
        let after = self.random.duration(late / 4, late);
        let shared = Arc::clone(&self.shared);
        let (sender, receiver) = oneshot::channel();
        self.strays.spawn(async move {
            // A node that is away gets no strays; most answers to them are heard by nobody.
            if let Ok(answer) = shared.stray(request, after).await {
                let _ = sender.send(answer);
            }
        });
        receiver
    }

    /// Waits until some later requests have passed.
    async fn hold_back(&mut self, hold: Duration) {
        count(&self.shared.counters.held_back);
        let mut passed = self.shared.passed.subscribe();
        let now = *passed.borrow_and_update();
        let enough = now + 1 + self.random.below(OVERTAKERS);
        let _ = tokio::time::timeout(hold, passed.wait_for(|passed| *passed >= enough)).await;
        if *passed.borrow() > now {
            count(&self.shared.counters.overtaken);
        }
    }
}
