//! `topic list|create|describe|delete`, over HTTP like anybody.

use std::collections::BTreeMap;

use serde_json::json;
use tidegate_client::{Client, NewTopic, PartitionDescription, TopicDescription};

use super::Failure;
use super::output::{Output, table};
use super::session::Session;

/// What to do with topics.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// List topics, by name
    List {
        /// Only those whose names begin so
        prefix: Option<String>,
    },
    /// Make a topic
    Create(CreateArguments),
    /// Show a topic, its partitions and its configs
    Describe {
        /// Its name
        name: String,
        /// Show the configs that have their default, too
        #[arg(long)]
        config: bool,
    },
    /// Delete topics and their records; without --yes only says what would be deleted
    Delete {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateArguments {
    /// Its name
    name: String,
    /// How many partitions; the node's num.partitions if not given
    #[arg(short, long)]
    partitions: Option<u32>,
    /// Replicas of each partition
    #[arg(short, long)]
    replication_factor: Option<u16>,
    /// A config of the topic; may be given several times
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = super::config::key_value)]
    config: Vec<(String, String)>,
    /// No error if it exists as asked for
    #[arg(long)]
    if_not_exists: bool,
}

/// Does it.
pub(super) fn run(verb: &Verb, session: &Session) -> Result<(), Failure> {
    let output = &session.output;
    session.block_on(async {
        let client = session.client()?;
        match verb {
            Verb::List { prefix } => list(&client, prefix.as_deref().unwrap_or_default(), output).await,
            Verb::Create(arguments) => create(&client, arguments, output).await,
            Verb::Describe { name, config } => describe(&client, name, *config, output).await,
            Verb::Delete { names, yes } => delete(&client, names, *yes, output).await,
        }
    })
}

async fn list(client: &Client, prefix: &str, output: &Output) -> Result<(), Failure> {
    let topics = client.list_topics(prefix).await?;
    output.result(&topics, |_| {
        let row = |t: &tidegate_client::TopicSummary| vec![t.name.clone(), t.partition_count.to_string(), t.replication_factor.to_string()];
        table(&["NAME", "PARTITIONS", "REPLICAS"], topics.iter().map(row))
    })
}

async fn create(client: &Client, arguments: &CreateArguments, output: &Output) -> Result<(), Failure> {
    let config: BTreeMap<_, _> = arguments.config.iter().cloned().collect();
    let new = NewTopic { partitions: arguments.partitions, replication_factor: arguments.replication_factor, config };
    let name = &arguments.name;
    let (topic, is_new) =
        if arguments.if_not_exists { client.ensure_topic(name, &new).await? } else { (client.create_topic(name, &new).await?, true) };
    output.result(&topic, |_| {
        let partitions = topic.partitions.len();
        let word = if is_new { "created" } else { "exists already" };
        format!("topic {name} {word}: {partitions} partition{}", if partitions == 1 { "" } else { "s" })
    })
}

async fn describe(client: &Client, name: &str, all_configs: bool, output: &Output) -> Result<(), Failure> {
    let topic = client.describe_topic(name).await?;
    output.result(&topic, |_| describe_text(&topic, all_configs))
}

fn describe_text(topic: &TopicDescription, all_configs: bool) -> String {
    let mut text = format!("{}   id {}   {} replicas\n\n", topic.name, topic.topic_id, topic.replication_factor);
    let head = ["PARTITION", "LEADER", "REPLICAS", "IN SYNC", "EARLIEST", "LATEST", "BYTES"];
    text.push_str(&table(&head, topic.partitions.iter().map(partition_row)));
    let shown: Vec<_> = topic.config.iter().filter(|(_, entry)| all_configs || entry.source != "default").collect();
    let hidden = topic.config.len() - shown.len();
    if !shown.is_empty() {
        text.push_str("\n\n");
        text.push_str(&table(
            &["CONFIG", "VALUE", "SOURCE"],
            shown.iter().map(|(k, e)| vec![(*k).clone(), e.value.clone(), e.source.clone()]),
        ));
    }
    if hidden > 0 {
        text.push_str(&format!("\n\n{hidden} configs have their default; --config shows them"));
    }
    text
}

fn partition_row(partition: &PartitionDescription) -> Vec<String> {
    let ids = |nodes: &[u64]| nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    vec![
        partition.partition.to_string(),
        number(partition.leader),
        ids(&partition.replicas),
        ids(&partition.in_sync_replicas),
        number(partition.earliest_offset),
        number(partition.latest_offset),
        number(partition.size_bytes),
    ]
}

/// What a topic holds, as far as its leaders know.
fn records(topic: &TopicDescription) -> u64 {
    topic.partitions.iter().filter_map(|p| Some(p.latest_offset?.saturating_sub(p.earliest_offset?))).sum()
}

async fn delete(client: &Client, names: &[String], yes: bool, output: &Output) -> Result<(), Failure> {
    // All are looked up first: a misspelt name is found before anything is gone.
    let mut topics = Vec::new();
    for name in names {
        topics.push(client.describe_topic(name).await?);
    }
    if yes {
        for topic in &topics {
            client.delete_topic(&topic.name).await?;
        }
    }
    let plan: Vec<_> =
        topics.iter().map(|t| json!({"name": t.name, "partitions": t.partitions.len(), "records": records(t), "deleted": yes})).collect();
    output.result(&plan, |_| {
        let verb = if yes { "deleted" } else { "would delete" };
        let line =
            |t: &TopicDescription| format!("{verb} topic {}: {} partitions, up to {} records", t.name, t.partitions.len(), records(t));
        topics.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    if yes { Ok(()) } else { Err(Failure::Unconfirmed("nothing was deleted: say --yes to do it".to_owned())) }
}
