//! `topic plan …`: the arguments of a change, and what it would do to the topic as it is now.

use std::collections::BTreeMap;

use tidegate_client::{Client, Error, NewTopic, TopicDescription};
use tidegate_types::{limits, topic_config};

use super::super::output::Output;
use super::super::{Failure, options};
use super::change::{ConfigSetArguments, ConfigUnsetArguments, CreateArguments, DeleteArguments, PartitionsAddArguments, caution, show};
use super::plan;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate topic plan config set orders retention.ms=86400000\n  tidegate topic plan --exit-code create orders -p 12"
)]
pub(in super::super) struct PlanArguments {
    /// Exit code 6 if anything would be different
    #[arg(long, global = true)]
    exit_code: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// What `topic create` would do; a topic that exists is compared
    #[command(after_help = "Examples:\n  tidegate topic plan create orders -p 12")]
    Create(CreateArguments),
    /// What `topic config` would do
    #[command(subcommand)]
    #[command(after_help = "Examples:\n  tidegate topic plan config set orders retention.ms=86400000")]
    Config(ConfigVerb),
    /// What `topic partitions` would do
    #[command(subcommand)]
    #[command(after_help = "Examples:\n  tidegate topic plan partitions add orders 4")]
    Partitions(PartitionsVerb),
    /// What `topic delete` would do
    #[command(after_help = "Examples:\n  tidegate topic plan delete orders")]
    Delete(DeleteArguments),
}

#[derive(Debug, clap::Subcommand)]
enum ConfigVerb {
    /// What setting configs would do
    #[command(after_help = "Examples:\n  tidegate topic plan config set orders retention.ms=86400000")]
    Set(ConfigSetArguments),
    /// What putting configs back to their default would do
    #[command(after_help = "Examples:\n  tidegate topic plan config unset orders retention.ms")]
    Unset(ConfigUnsetArguments),
}

#[derive(Debug, clap::Subcommand)]
enum PartitionsVerb {
    /// What adding partitions would do
    #[command(after_help = "Examples:\n  tidegate topic plan partitions add orders --to 16")]
    Add(PartitionsAddArguments),
}

pub(super) async fn run(client: &Client, arguments: &PlanArguments, output: &Output) -> Result<(), Failure> {
    let plans = match &arguments.verb {
        Verb::Create(create) => {
            let wanted = create.wanted();
            check(None, &wanted.config.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect())?;
            let live = find(client, create.topic()).await?;
            let nodes = if live.is_none() { Some(client.describe_cluster().await?.nodes.len()) } else { None };
            possible(&wanted, live.as_ref(), nodes)?;
            vec![plan::create(create.topic(), &wanted, live.as_ref())]
        }
        Verb::Config(ConfigVerb::Set(set)) => vec![config(client, set.topic(), &set.wanted()).await?],
        Verb::Config(ConfigVerb::Unset(unset)) => vec![config(client, unset.topic(), &unset.wanted()).await?],
        Verb::Partitions(PartitionsVerb::Add(add)) => {
            let live = client.describe_topic(add.topic()).await?;
            let total = add.total(&live)?;
            possible_partitions(total)?;
            vec![plan::partitions(&live, total)]
        }
        Verb::Delete(delete) => {
            let mut plans = Vec::new();
            for name in &delete.topics {
                plans.push(plan::delete(&client.describe_topic(name).await?));
            }
            plans
        }
    };
    show(&plans, output)?;
    caution(plans.iter().flat_map(plan::Plan::set_keys), output);
    if arguments.exit_code && plans.iter().any(|plan| !plan.is_empty()) { Err(Failure::SaysNo) } else { Ok(()) }
}

async fn find(client: &Client, topic: &str) -> Result<Option<TopicDescription>, Failure> {
    match client.describe_topic(topic).await {
        Ok(topic) => Ok(Some(topic)),
        Err(Error::Problem(problem)) if problem.code == "topic-not-found" => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn config(client: &Client, topic: &str, wanted: &BTreeMap<String, Option<String>>) -> Result<plan::Plan, Failure> {
    let live = client.describe_topic(topic).await?;
    check(Some(&live), wanted)?;
    Ok(plan::config(&live, wanted))
}

/// What no server makes is no plan. `nodes` is how many there are, of a topic that is not there yet.
fn possible(wanted: &NewTopic, live: Option<&TopicDescription>, nodes: Option<usize>) -> Result<(), Failure> {
    if let Some(partitions) = wanted.partitions {
        possible_partitions(partitions)?;
    }
    if let (Some(live), Some(partitions)) = (live, wanted.partitions) {
        let now = live.partitions.len();
        if usize::try_from(partitions).is_ok_and(|wanted| wanted < now) {
            return Err(Failure::Local(format!("topic {} has {now} partitions; their number can only grow", live.name)));
        }
    }
    match (wanted.replication_factor, live, nodes) {
        (Some(0), _, _) => Err(Failure::Local("a partition has at least 1 replica, not 0".to_owned())),
        (Some(replicas), Some(live), _) if replicas != live.replication_factor => {
            let now = live.replication_factor;
            Err(Failure::Local(format!("topic {} has {now} of each partition's replicas; their number cannot be changed", live.name)))
        }
        (Some(replicas), None, Some(nodes)) if usize::from(replicas) > nodes => {
            Err(Failure::Local(format!("{replicas} replicas need as many nodes, and there {}", are(nodes))))
        }
        _ => Ok(()),
    }
}

fn are(nodes: usize) -> String {
    if nodes == 1 { "is 1".to_owned() } else { format!("are {nodes}") }
}

fn possible_partitions(count: u32) -> Result<(), Failure> {
    let most = limits::PARTITIONS_PER_TOPIC_MAX;
    if (1..=most).contains(&count) {
        return Ok(());
    }
    Err(Failure::Local(format!("a topic has 1 to {most} partitions, not {count}")))
}

/// Nothing is sent that the server could check, so it is checked here: keys by what the server has shown, values by what is known of them.
fn check(live: Option<&TopicDescription>, wanted: &BTreeMap<String, Option<String>>) -> Result<(), Failure> {
    for (key, value) in wanted {
        let known: Vec<&str> = match live {
            Some(live) => live.config.keys().map(String::as_str).collect(),
            None => topic_config::DEFINITIONS.iter().map(|d| d.name).collect(),
        };
        if !known.contains(&key.as_str()) {
            return Err(options::unknown(key, known.into_iter()));
        }
        if let (Some(value), Some(_)) = (value, topic_config::definition(key)) {
            let hint = options::nearest_value(key, value).map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
            topic_config::check(key, value).map_err(|error| Failure::Local(format!("{error}{hint}")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(partitions: u32) -> TopicDescription {
        let partitions: Vec<_> = (0..partitions)
            .map(|partition| serde_json::json!({"partition": partition, "leader_epoch": 0, "replicas": [1], "in_sync_replicas": [1]}))
            .collect();
        serde_json::from_value(serde_json::json!({
            "name": "t", "topic_id": "", "partitions": partitions, "replication_factor": 1, "config": {}, "internal": false,
        }))
        .unwrap()
    }

    fn wanted(partitions: Option<u32>, replication_factor: Option<u16>) -> NewTopic {
        NewTopic { partitions, replication_factor, ..NewTopic::default() }
    }

    /// A promise: what the verb would be refused for is no plan: no partitions, too many, fewer than now, replicas without nodes.
    #[test]
    fn plans_are_possible() {
        for (wanted, live, is_possible) in [
            (wanted(None, None), None, true),
            (wanted(Some(1), Some(1)), None, true),
            (wanted(Some(limits::PARTITIONS_PER_TOPIC_MAX), None), None, true),
            (wanted(Some(0), None), None, false),
            (wanted(Some(limits::PARTITIONS_PER_TOPIC_MAX + 1), None), None, false),
            (wanted(None, Some(0)), None, false),
            (wanted(None, Some(2)), None, false),
            (wanted(Some(3), Some(1)), Some(live(3)), true),
            (wanted(Some(4), None), Some(live(3)), true),
            (wanted(Some(1), None), Some(live(3)), false),
            (wanted(None, Some(2)), Some(live(3)), false),
        ] {
            assert_eq!(possible(&wanted, live.as_ref(), Some(1)).is_ok(), is_possible, "{wanted:?} {}", live.is_some());
        }
        assert!(possible_partitions(u32::MAX).is_err());
    }
}
