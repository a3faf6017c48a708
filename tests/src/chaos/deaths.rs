//! The node's lives: it is killed and started again on the same directory and another port, while a client works on.

use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::process::Process;
use crate::proxy::{Proxy, Random};

/// When a blow falls; each waits between half and one and a half times as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blows {
    /// After so many more answers have been heard.
    EveryAnswers(u64),
    /// After so long.
    Every(Duration),
}

/// How the node's lives have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deaths {
    /// By `kill -9`.
    pub kills: u64,
    /// By SIGTERM, with all its goodbyes.
    pub stops: u64,
}

/// Nothing tells of a count that has been reached.
const POLL: Duration = Duration::from_millis(2);

/// A node, its directory, and the bad network in front of it.
#[derive(Debug)]
pub(super) struct Scene {
    data: TempDir,
    /// There is one but for the time between two lives.
    node: Option<Process>,
    proxy: Proxy,
    random: Random,
    deaths: Deaths,
}

impl Scene {
    pub(super) async fn start(seed: u64) -> anyhow::Result<Self> {
        let data = tempfile::Builder::new().prefix("chaos-").tempdir()?;
        let node = start(&data).await?;
        let proxy = Proxy::start(node.address(), seed).await?;
        Ok(Self { data, node: Some(node), proxy, random: Random::new(seed), deaths: Deaths::default() })
    }

    pub(super) const fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The node itself, beside the network.
    pub(super) fn node(&self) -> anyhow::Result<&Process> {
        self.node.as_ref().context("the node is between two lives")
    }

    pub(super) const fn deaths(&self) -> Deaths {
        self.deaths
    }

    /// Lets blows fall until the work is done.
    pub(super) async fn endure<T>(&mut self, mut work: JoinHandle<T>, blows: Blows) -> anyhow::Result<T> {
        loop {
            let blow = next_blow(&self.proxy, blows, &mut self.random);
            tokio::select! {
                outcome = &mut work => return Ok(outcome?),
                () = blow => {}
            }
            match self.random.below(4) {
                0 => self.stop_and_start().await?,
                // Now and then nobody is even at the port, so that connections are refused.
                1 => self.kill_and_start(true).await?,
                _ => self.kill_and_start(false).await?,
            }
        }
    }

    /// Kills it once more and starts it anew, with nobody else around.
    pub(super) async fn begin_last_life(&mut self) -> anyhow::Result<()> {
        self.proxy.set_gone(true).await?;
        self.kill()?;
        self.node = Some(start(&self.data).await?);
        Ok(())
    }

    /// Stops it well; what it leaves.
    pub(super) async fn finish(mut self) -> anyhow::Result<TempDir> {
        self.stop().await?;
        Ok(self.data)
    }

    async fn kill_and_start(&mut self, is_refusing: bool) -> anyhow::Result<()> {
        self.proxy.unset_node();
        self.kill()?;
        self.deaths.kills += 1;
        if is_refusing {
            self.proxy.set_gone(true).await?;
        }
        self.come_back().await?;
        if is_refusing {
            self.proxy.set_gone(false).await?;
        }
        Ok(())
    }

    async fn stop_and_start(&mut self) -> anyhow::Result<()> {
        self.proxy.unset_node();
        self.stop().await?;
        self.deaths.stops += 1;
        self.come_back().await
    }

    async fn come_back(&mut self) -> anyhow::Result<()> {
        let node = start(&self.data).await?;
        self.proxy.set_node(node.address());
        self.node = Some(node);
        Ok(())
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        self.node.take().context("the node is between two lives")?.kill()
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        let node = self.node.take().context("the node is between two lives")?;
        node.terminate()?;
        let (status, said) = spawn_blocking(move || node.wait()).await??;
        ensure!(status.success(), "the node did not stop well ({status}); it said:\n{said}");
        Ok(())
    }
}

async fn start(data: &TempDir) -> anyhow::Result<Process> {
    let path = data.path().to_owned();
    spawn_blocking(move || Process::start(&path)).await?.context("the node does not start")
}

async fn next_blow(proxy: &Proxy, blows: Blows, random: &mut Random) {
    match blows {
        Blows::Every(time) => tokio::time::sleep(random.duration(time / 2, time * 3 / 2)).await,
        Blows::EveryAnswers(count) => {
            let enough = proxy.counts().answers + count / 2 + random.below(count + 1);
            while proxy.counts().answers < enough {
                tokio::time::sleep(POLL).await;
            }
        }
    }
}
