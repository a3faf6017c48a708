//! `topic plan …`: the arguments of a change, and what it would do to the topic as it is now.

use std::collections::BTreeMap;

use tidegate_client::{Client, Error, TopicDescription};
use tidegate_types::topic_config;

use super::super::output::Output;
use super::super::{Failure, options};
use super::change::{ConfigSetArguments, ConfigUnsetArguments, CreateArguments, DeleteArguments, PartitionsAddArguments, show};
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
    Create(CreateArguments),
    /// What `topic config` would do
    #[command(subcommand)]
    Config(ConfigVerb),
    /// What `topic partitions` would do
    #[command(subcommand)]
    Partitions(PartitionsVerb),
    /// What `topic delete` would do
    Delete(DeleteArguments),
}

#[derive(Debug, clap::Subcommand)]
enum ConfigVerb {
    /// What setting configs would do
    Set(ConfigSetArguments),
    /// What putting configs back to their default would do
    Unset(ConfigUnsetArguments),
}

#[derive(Debug, clap::Subcommand)]
enum PartitionsVerb {
    /// What adding partitions would do
    Add(PartitionsAddArguments),
}

pub(super) async fn run(client: &Client, arguments: &PlanArguments, output: &Output) -> Result<(), Failure> {
    let plans = match &arguments.verb {
        Verb::Create(create) => {
            let wanted = create.wanted();
            check(None, &wanted.config.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect())?;
            vec![plan::create(create.topic(), &wanted, find(client, create.topic()).await?.as_ref())]
        }
        Verb::Config(ConfigVerb::Set(set)) => vec![config(client, set.topic(), &set.wanted()).await?],
        Verb::Config(ConfigVerb::Unset(unset)) => vec![config(client, unset.topic(), &unset.wanted()).await?],
        Verb::Partitions(PartitionsVerb::Add(add)) => {
            let live = client.describe_topic(add.topic()).await?;
            vec![plan::partitions(&live, add.total(&live)?)]
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
            topic_config::check(key, value).map_err(|error| Failure::Local(error.to_string()))?;
        }
    }
    Ok(())
}
