//! `cluster status` and `cluster health`: who is there, who decides, and what is not as it should be.

use std::time::Duration;

use clap::ArgAction;
use serde::Serialize;
use tidegate_client::{Client, ClusterDescription, Error, NodeDescription};
use tidegate_types::Clock;
use tidegate_types::time::SystemClock;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::output::{Field, Look, Output, Tone, paint, styled_table};
use super::session::Session;
use super::{Failure, time};

/// What to do with the cluster.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Show the nodes, who decides, and what is not as it should be
    #[command(after_help = "Examples:\n  tidegate cluster status\n  tidegate cluster status -o json")]
    Status,
    /// Say whether all is as it should be; exit code 6 if not
    Health(HealthArguments),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate cluster health -w\n  tidegate cluster health --exit-when-healthy --timeout 2m    # in a script, after a restart"
)]
pub(super) struct HealthArguments {
    /// Go on looking; on a terminal the screen is drawn anew, elsewhere a line is added
    #[arg(short, long)]
    watch: bool,
    /// Look until all is well, then end with 0; --timeout bounds the whole wait
    #[arg(long)]
    exit_when_healthy: bool,
    /// How often to look
    #[arg(long, value_name = "DURATION", value_parser = super::duration, default_value = "1s", action = ArgAction::Set)]
    interval: Duration,
}

/// Does it.
pub(super) fn run(verb: &Verb, session: &Session) -> Result<(), Failure> {
    session.block_on(async {
        let client = &session.looking_client()?;
        match verb {
            Verb::Status => session.watched(status(client, &session.output)).await,
            Verb::Health(arguments) if arguments.watch || arguments.exit_when_healthy => {
                watch(client, arguments, session.timeout(), &session.output).await
            }
            Verb::Health(_) => {
                let health = Health::of(&session.watched(client.describe_cluster()).await?);
                session.output.result(&health, |look| health.text(look))?;
                if health.healthy { Ok(()) } else { Err(Failure::SaysNo) }
            }
        }
    })
}

/// What is not as it should be, a sentence each.
pub(super) fn troubles(cluster: &ClusterDescription) -> Vec<String> {
    Health::of(cluster).problems.into_iter().map(|trouble| trouble.detail).collect()
}

async fn status(client: &Client, output: &Output) -> Result<(), Failure> {
    let cluster = client.describe_cluster().await?;
    output.named(&cluster.cluster_id, &cluster, |look| status_text(look, &cluster))
}

fn status_text(look: Look, cluster: &ClusterDescription) -> String {
    let health = Health::of(cluster);
    let controller = cluster.controller.map_or_else(|| "none".to_owned(), |node| format!("node {node}"));
    let voters = cluster.voters.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let head = format!(
        "cluster {}\ncontroller {controller}, voters {voters}, metadata version {}\n{}",
        cluster.cluster_id,
        cluster.metadata_version,
        health.line(look)
    );
    let row = |node: &NodeDescription| {
        let state = Field::new(if node.state == "online" { Tone::Good } else { Tone::Bad }, node.state.as_str());
        let mut row = vec![Field::number(node.node_id), state, node.client_address.as_str().into()];
        if look.wide {
            row.push(node.rack.as_deref().unwrap_or("-").into());
        }
        row.push(node.roles.join(", ").into());
        row
    };
    let titles = if look.wide { &["NODE", "STATE", "ADDRESS", "RACK", "ROLES"][..] } else { &["NODE", "STATE", "ADDRESS", "ROLES"] };
    format!("{head}\n\n{}", styled_table(look, titles, cluster.nodes.iter().map(row)))
}

/// Whether all is well, and if not, why.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Health {
    healthy: bool,
    /// What is not as it should be, the worst first.
    problems: Vec<Trouble>,
}

/// One thing that is not as it should be.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Trouble {
    /// Kebab-case.
    code: &'static str,
    detail: String,
}

impl Health {
    /// Reads it from what the node says.
    fn of(cluster: &ClusterDescription) -> Self {
        let partitions = |n: u64| if n == 1 { "1 partition".to_owned() } else { format!("{n} partitions") };
        let mut problems = Vec::new();
        let mut trouble = |code, detail| problems.push(Trouble { code, detail });
        if cluster.controller.is_none() {
            trouble("no-controller", "no node decides: topics cannot be made or changed".to_owned());
        }
        if cluster.offline_partitions > 0 {
            trouble("offline-partitions", format!("{} without a leader", partitions(cluster.offline_partitions)));
        }
        for node in cluster.nodes.iter().filter(|node| node.state != "online") {
            trouble("node-not-online", format!("node {} is {}", node.node_id, node.state));
        }
        if cluster.under_replicated_partitions > 0 {
            trouble(
                "under-replicated-partitions",
                format!("{} with fewer in-sync replicas than replicas", partitions(cluster.under_replicated_partitions)),
            );
        }
        Self { healthy: problems.is_empty(), problems }
    }

    /// What there is to say when nobody could be asked.
    fn unknown(error: &Error) -> Self {
        Self { healthy: false, problems: vec![Trouble { code: "no-answer", detail: error.to_string() }] }
    }

    /// In one line.
    fn line(&self, look: Look) -> String {
        if self.healthy {
            return paint(look.colour, Tone::Good, "healthy");
        }
        let details = self.problems.iter().map(|trouble| trouble.detail.as_str()).collect::<Vec<_>>().join("; ");
        format!("{}: {details}", paint(look.colour, Tone::Bad, "not healthy"))
    }

    /// One thing a line.
    fn text(&self, look: Look) -> String {
        match self.problems.as_slice() {
            [] | [_] => self.line(look),
            several => {
                let lines = several.iter().map(|trouble| format!("\n  {}", trouble.detail)).collect::<String>();
                format!("{}:{lines}", paint(look.colour, Tone::Bad, "not healthy"))
            }
        }
    }
}

/// Looks again and again. A node that does not answer is news, not the end: it may come back.
async fn watch(client: &Client, arguments: &HealthArguments, timeout: Option<Duration>, output: &Output) -> Result<(), Failure> {
    let deadline = timeout.filter(|_| arguments.exit_when_healthy).map(|timeout| Instant::now() + timeout);
    let mut ticks = interval(arguments.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut drawn = 0;
    let look = async {
        loop {
            ticks.tick().await;
            let health = match client.describe_cluster().await {
                Ok(cluster) => Health::of(&cluster),
                Err(error) if is_passing(&error) => Health::unknown(&error),
                Err(error) => return Err(Failure::from(error)),
            };
            let line = |look: Look| format!("{}  {}", time::shown(SystemClock::new().wall().millis()), health.line(look));
            if output.is_screen() {
                drawn = output.redraw(drawn, &line(output.look()))?;
            } else {
                output.item(&health, || line(output.look()))?;
            }
            if health.healthy && arguments.exit_when_healthy {
                return Ok(());
            }
        }
    };
    match deadline {
        None => look.await,
        Some(deadline) => timeout_at(deadline, look)
            .await
            .unwrap_or_else(|_| Err(Failure::TooLate(format!("not healthy within {} s", timeout.unwrap_or_default().as_secs_f64())))),
    }
}

/// Whether it may be otherwise at the next look.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::Connect { .. } | Error::Timeout(_) | Error::Broken(_)) || error.is_retryable()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(json: &str) -> ClusterDescription {
        serde_json::from_str(json).unwrap()
    }

    /// A promise: whatever is not as it should be is named, and only then is the cluster not healthy.
    #[test]
    fn health_names_what_is_wrong() {
        let well = r#"{"cluster_id":"c","metadata_version":7,"controller":1,"nodes":[{"node_id":1,"state":"online","roles":[],"client_address":"a"}],
            "voters":[1],"offline_partitions":0,"under_replicated_partitions":0}"#;
        assert!(Health::of(&cluster(well)).healthy);
        for (from, to, code) in [
            (r#""controller":1,"#, "", "no-controller"),
            (r#""offline_partitions":0"#, r#""offline_partitions":1"#, "offline-partitions"),
            (r#""under_replicated_partitions":0"#, r#""under_replicated_partitions":2"#, "under-replicated-partitions"),
            (r#""online""#, r#""fenced""#, "node-not-online"),
        ] {
            let health = Health::of(&cluster(&well.replace(from, to)));
            assert_eq!((health.healthy, health.problems[0].code, health.problems.len()), (false, code, 1));
        }
    }
}
