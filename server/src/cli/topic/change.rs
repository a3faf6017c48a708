//! Verbs that change topics. Each makes its plan first; what would lose records stops there without `--yes`.

use std::collections::{BTreeMap, BTreeSet};

use clap_complete::ArgValueCompleter;
use tidegate_client::{Client, Error, NewTopic, TopicChange, TopicDescription};
use tidegate_types::topic_config;

use super::super::output::Output;
use super::super::{Failure, completion, config::key_value, options};
use super::plan::{self, Plan};
use super::{TopicName, topic_name};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate topic create orders -p 12\n  tidegate topic create orders -p 12 -c retention.ms=86400000 --if-not-exists"
)]
pub(in super::super) struct CreateArguments {
    /// Its name: letters, digits, '.', '_' and '-'
    #[arg(value_name = "TOPIC", value_parser = topic_name, add = ArgValueCompleter::new(completion::topics))]
    topic: String,
    /// How many partitions; the node's num.partitions if not given
    #[arg(short, long, value_name = "N")]
    partitions: Option<u32>,
    /// Replicas of each partition
    #[arg(short, long, value_name = "N")]
    replication_factor: Option<u16>,
    /// A config of the topic; may be given several times
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value, add = ArgValueCompleter::new(completion::topic_settings))]
    config: Vec<(String, String)>,
    /// No error if it exists as asked for
    #[arg(long)]
    if_not_exists: bool,
}

impl CreateArguments {
    /// Its name.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// What it is to be.
    pub(super) fn wanted(&self) -> NewTopic {
        NewTopic { partitions: self.partitions, replication_factor: self.replication_factor, config: self.config.iter().cloned().collect() }
    }
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate topic delete orders          # says what would be lost\n  tidegate topic delete orders --yes"
)]
pub(in super::super) struct DeleteArguments {
    /// Their names
    #[arg(value_name = "TOPIC", required = true, value_parser = topic_name, add = ArgValueCompleter::new(completion::topics))]
    pub(super) topics: Vec<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
}

/// What a refusal of several is to be told with: some of them are there.
const NOTHING_DELETED: &str = "nothing was deleted";

/// Configs of one topic, to be set.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate topic config set orders retention.ms=86400000 --yes\n  tidegate topic config set orders compression.type=zstd segment.ms=3600000"
)]
pub(in super::super) struct ConfigSetArguments {
    #[command(flatten)]
    name: TopicName,
    /// What to set (see `tidegate config options`)
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = key_value, add = ArgValueCompleter::new(completion::topic_settings))]
    configs: Vec<(String, String)>,
    /// Do it, even if records can be lost
    #[arg(long)]
    yes: bool,
}

/// Configs of one topic, to be put back.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate topic config unset orders compression.type\n  tidegate topic config unset orders retention.ms --yes"
)]
pub(in super::super) struct ConfigUnsetArguments {
    #[command(flatten)]
    name: TopicName,
    /// What to put back to its default
    #[arg(value_name = "KEY", required = true, add = ArgValueCompleter::new(completion::topic_configs))]
    keys: Vec<String>,
    /// Do it, even if records can be lost
    #[arg(long)]
    yes: bool,
}

impl ConfigSetArguments {
    pub(super) fn topic(&self) -> &str {
        &self.name.topic
    }

    pub(super) fn wanted(&self) -> BTreeMap<String, Option<String>> {
        self.configs.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect()
    }
}

impl ConfigUnsetArguments {
    pub(super) fn topic(&self) -> &str {
        &self.name.topic
    }

    pub(super) fn wanted(&self) -> BTreeMap<String, Option<String>> {
        self.keys.iter().map(|key| (key.clone(), None)).collect()
    }
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate topic partitions add orders 4\n  tidegate topic partitions add orders --to 16     # safe to repeat"
)]
pub(in super::super) struct PartitionsAddArguments {
    #[command(flatten)]
    name: TopicName,
    /// How many to add
    #[arg(value_name = "COUNT", required_unless_present = "to", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// How many there are to be
    #[arg(long, value_name = "TOTAL", conflicts_with = "count", value_parser = clap::value_parser!(u32).range(1..))]
    to: Option<u32>,
}

impl PartitionsAddArguments {
    pub(super) fn topic(&self) -> &str {
        &self.name.topic
    }

    /// How many there are to be.
    pub(super) fn total(&self, live: &TopicDescription) -> Result<u32, Failure> {
        let now = u32::try_from(live.partitions.len()).unwrap_or(u32::MAX);
        let total = self.to.unwrap_or_else(|| now.saturating_add(self.count.unwrap_or_default()));
        if total < now {
            return Err(Failure::Usage(format!("topic {} has {now} partitions; their number can only grow", live.name)));
        }
        Ok(total)
    }
}

pub(super) async fn create(client: &Client, arguments: &CreateArguments, output: &Output) -> Result<(), Failure> {
    let (name, new) = (&arguments.topic, arguments.wanted());
    let made = if arguments.if_not_exists {
        client.ensure_topic(name, &new).await
    } else {
        client.create_topic(name, &new).await.map(|t| (t, true))
    };
    let (topic, is_new) = made.map_err(|error| with_nearest(error, &new.config))?;
    output.named(name, &topic, |_| {
        let partitions = topic.partitions.len();
        let word = if is_new { "created" } else { "exists already" };
        format!("topic {name} {word}: {partitions} partition{}", if partitions == 1 { "" } else { "s" })
    })?;
    caution(new.config.keys().map(String::as_str), output);
    Ok(())
}

/// A refused value, with the word that was probably meant.
fn with_nearest(error: Error, set: &BTreeMap<String, String>) -> Failure {
    let near = set.iter().find_map(|(key, value)| options::nearest_value(key, value));
    match near.filter(|_| error.problem().is_some_and(|problem| problem.code == "validation-failed")) {
        Some(near) => Failure::Advised(error, format!("did you mean '{near}'?")),
        None => error.into(),
    }
}

/// Says of each key that somebody sets if it does nothing in this version, or not all.
pub(super) fn caution<'k>(keys: impl Iterator<Item = &'k str>, output: &Output) {
    let cautions: BTreeSet<String> = keys.filter_map(topic_config::caution).collect();
    for caution in cautions {
        output.note(&format!("note: {caution}"));
    }
}

/// Shows plans, of one topic or of several.
pub(super) fn show(plans: &[Plan], output: &Output) -> Result<(), Failure> {
    match plans {
        [plan] => output.named(&plan.topic, plan, |look| plan.text(look)),
        _ => output.list(plans, |p| p.topic.clone(), |look| plans.iter().map(|p| p.text(look)).collect::<Vec<_>>().join("\n\n")),
    }
}

pub(super) async fn delete(client: &Client, arguments: &DeleteArguments, output: &Output) -> Result<(), Failure> {
    // All are looked up first: a misspelt name is found before anything is gone.
    let mut plans = Vec::new();
    for name in &arguments.topics {
        let several = arguments.topics.len() > 1;
        let topic = client.describe_topic(name).await;
        plans.push(plan::delete(
            &topic.map_err(|error| if several { Failure::Advised(error, NOTHING_DELETED.to_owned()) } else { error.into() })?,
        ));
    }
    if !arguments.yes {
        show(&plans, output)?;
        return Err(Failure::Unconfirmed("nothing was deleted: say --yes to do it".to_owned()));
    }
    let mut done = Vec::new();
    for plan in plans {
        if let Err(error) = client.delete_topic(&plan.topic).await {
            if !done.is_empty() {
                show(&done, output)?;
            }
            return Err(error.into());
        }
        done.push(plan.done());
    }
    show(&done, output)
}

/// Shows a change and makes it, unless it wants a `--yes` that is not there.
async fn apply(client: &Client, plan: Plan, change: &TopicChange, yes: bool, output: &Output) -> Result<(), Failure> {
    if plan.destroys() && !yes {
        show(&[plan], output)?;
        return Err(Failure::Unconfirmed("nothing was changed, because records can be lost: say --yes to do it".to_owned()));
    }
    // The server is asked even if there is nothing to do: it knows the keys and values that it takes.
    let set = change.config.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect();
    client.alter_topic(&plan.topic, change).await.map_err(|error| with_nearest(error, &set))?;
    let plan = if plan.is_empty() { plan } else { plan.done() };
    show(&[plan], output)
}

async fn configure(
    client: &Client,
    topic: &str,
    config: BTreeMap<String, Option<String>>,
    yes: bool,
    output: &Output,
) -> Result<(), Failure> {
    let plan = plan::config(&client.describe_topic(topic).await?, &config);
    let set: Vec<String> = config.iter().filter(|(_, value)| value.is_some()).map(|(key, _)| key.clone()).collect();
    apply(client, plan, &TopicChange { partitions: None, config }, yes, output).await?;
    caution(set.iter().map(String::as_str), output);
    Ok(())
}

pub(super) async fn config_set(client: &Client, arguments: &ConfigSetArguments, output: &Output) -> Result<(), Failure> {
    configure(client, arguments.topic(), arguments.wanted(), arguments.yes, output).await
}

pub(super) async fn config_unset(client: &Client, arguments: &ConfigUnsetArguments, output: &Output) -> Result<(), Failure> {
    configure(client, arguments.topic(), arguments.wanted(), arguments.yes, output).await
}

pub(super) async fn partitions_add(client: &Client, arguments: &PartitionsAddArguments, output: &Output) -> Result<(), Failure> {
    let live = client.describe_topic(arguments.topic()).await?;
    let total = arguments.total(&live)?;
    let plan = plan::partitions(&live, total);
    let grows = !plan.is_empty();
    apply(client, plan, &TopicChange { partitions: Some(total), config: BTreeMap::new() }, true, output).await?;
    if grows && plan::records(&live) > 0 {
        output.note("note: a key may now belong to another partition than its older records");
    }
    Ok(())
}
