//! Clients behind a bad network, in front of a node that dies again and again: does each record come out once, where its answer said?
//!
//! ```text
//!   client ──> proxy with every fate ──> node, killed and started again on other ports
//!      │                                   │
//!      └──── what it was told ──> ledger <─┴── what is there, read from the node itself, and from its files
//! ```
//!
//! One [`run`] is one client's work on a fresh node; what it says comes from the seed as far as time allows. Contradictions end a run in words;
//! everything else that goes wrong is an error of the harness.
//!
//! | module | subject |
//! |---|---|
//! | `deaths` | the node's lives |
//! | `work` | the clients |

mod deaths;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::http::Request;
use crate::ledger::{self, Contradiction, Summary};
use crate::oracle;
use crate::proxy::{Counts, Faults};
use deaths::Scene;
pub use deaths::{Blows, Deaths};
pub use work::{Form, Mode, Work};

/// The topic of every run.
const TOPIC: &str = "chaos";
const PARTITIONS: u32 = 4;

/// How bad it is.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// What the network does.
    pub faults: Faults,
    /// When the node dies.
    pub blows: Blows,
    /// All that is left to chance comes from here.
    pub seed: u64,
    /// A client that is not done by then gives up, which is an error.
    pub patience: Duration,
    /// Whether the node's files stay after a contradiction.
    pub is_keeping: bool,
}

impl Weather {
    /// So late come the late ones: later than any client here waits.
    pub const LATE: Duration = Duration::from_millis(700);
    /// So long do clients wait for an answer.
    pub const TIMEOUT: Duration = Duration::from_millis(500);
}

/// What became of a run: one line.
#[derive(Debug)]
pub struct Account {
    work: Work,
    seed: u64,
    /// What the client counted.
    pub client: BTreeMap<String, u64>,
    /// What the network did.
    pub network: Counts,
    /// How often the node died, and stopped.
    pub deaths: Deaths,
    /// How long the client took.
    pub took: Duration,
    /// What came out.
    pub verdict: Result<Summary, Contradiction>,
    /// Where the node's files are, if they were kept.
    pub kept: Option<PathBuf>,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} seed={} seconds={:.1}", self.work, self.seed, self.took.as_secs_f64())?;
        write!(f, " | {} | kills={} stops={} | client:", self.network, self.deaths.kills, self.deaths.stops)?;
        for (name, count) in &self.client {
            write!(f, " {name}={count}")?;
        }
        match &self.verdict {
            Ok(summary) => write!(
                f,
                " | EXACTLY ONCE: records={} acknowledged={} without_place={}",
                summary.found, summary.acknowledged, summary.untold
            ),
            Err(contradiction) => write!(f, " | CONTRADICTION: {contradiction}"),
        }?;
        self.kept.iter().try_for_each(|path| write!(f, " | files: {}", path.display()))
    }
}

/// One client's work on a fresh node, and what came out.
///
/// # Errors
/// What prevents an opinion: a node that does not start, a client that is not done in time or breaks.
pub async fn run(work: Work, weather: Weather) -> anyhow::Result<Account> {
    let mut scene = Scene::start(weather.seed).await?;
    make_topic(&scene)?;
    scene.proxy().set_faults(weather.faults);
    let begun = Instant::now();
    let client = work.begin(&scene, weather)?;
    let told = scene.endure(client, weather.blows).await?.context("the client")?;
    let took = begun.elapsed();
    let network = scene.proxy().counts();
    let deaths = scene.deaths();
    // What counts is what a node reads that has just recovered from a kill.
    scene.begin_last_life().await?;
    let verdict = match told.ledger {
        Ok(ledger) => match ledger::read(&scene.node()?.url(), TOPIC).await {
            Ok(log) => ledger.check(&log),
            Err(error) => Err(Contradiction(format!("the topic cannot be read: {error:#}"))),
        },
        Err(contradiction) => Err(contradiction),
    };
    let data = scene.finish().await?;
    let verdict = match verdict {
        Ok(summary) => second_opinion(data.path()).await?.map(|()| summary),
        contradiction => contradiction,
    };
    let kept = (verdict.is_err() && weather.is_keeping).then(|| data.keep());
    Ok(Account { work, seed: weather.seed, client: told.counts, network, deaths, took, verdict, kept })
}

fn make_topic(scene: &Scene) -> anyhow::Result<()> {
    // Small segments, so that producers' states are read from snapshots too.
    let config = serde_json::json!({"retention.ms": "-1", "segment.bytes": "1048576"});
    let topic = serde_json::json!({"name": TOPIC, "partitions": PARTITIONS, "config": config});
    let answer = Request::json("/v1/topics", topic.to_string()).send(scene.node()?.address())?;
    anyhow::ensure!(answer.status == 201, "{}", answer.text());
    Ok(())
}

/// The second reader knows what sequences a leader would have taken.
async fn second_opinion(data: &Path) -> anyhow::Result<Result<(), Contradiction>> {
    let data = data.to_owned();
    let report = tokio::task::spawn_blocking(move || oracle::verify(&data, &["--contiguous", "--lookups", "0"])).await??;
    Ok(match oracle::problems(&report).first() {
        Some(problem) => Err(Contradiction(format!("the second reader: {problem}"))),
        None => Ok(()),
    })
}
