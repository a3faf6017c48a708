//! Verbs that only look: list, describe, health, offsets, `config get`.

use clap_complete::ArgValueCompleter;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use tidegate_client::{At, Client, ConfigEntry, Error, Offsets, PartitionDescription, TopicDescription, TopicSummary};
use tidegate_types::time::SystemClock;
use tidegate_types::{Clock, amount};

use super::super::output::{Field, Look, Output, Tone, styled_table};
use super::super::record::point::Point;
use super::super::{Failure, completion, time};
use super::{TopicName, plan, topic_name};

/// Calls under way at a time where a verb needs one for each topic or partition.
const CALLS_AT_A_TIME: usize = 16;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate topic list\n  tidegate topic list 'orders-*' -o wide")]
pub(in super::super) struct ListArguments {
    /// Only those that match: `*` is anything, `?` one character
    #[arg(add = ArgValueCompleter::new(completion::topics))]
    pattern: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate topic describe orders\n  tidegate topic describe orders --config -o json")]
pub(in super::super) struct DescribeArguments {
    /// Their names
    #[arg(value_name = "TOPIC", required = true, value_parser = topic_name, add = ArgValueCompleter::new(completion::topics))]
    topics: Vec<String>,
    /// Only the partitions
    #[arg(long)]
    partitions: bool,
    /// Only the configs, those that have their default too
    #[arg(long)]
    config: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate topic health\n  tidegate topic health orders payments && deploy")]
pub(in super::super) struct HealthArguments {
    /// Only these; all if none is named
    #[arg(value_name = "TOPIC", value_parser = topic_name, add = ArgValueCompleter::new(completion::topics))]
    topics: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate topic offsets orders\n  tidegate topic offsets orders --at 1h\n  tidegate topic offsets orders --at @2026-11-21T07:00 -p 3"
)]
pub(in super::super) struct OffsetsArguments {
    #[command(flatten)]
    name: TopicName,
    /// Only this partition; may be given several times
    #[arg(short, long, value_name = "N")]
    partition: Vec<u32>,
    /// Ask for one offset more: earliest, latest, max_timestamp, or the first record of a TIME (@2026-11-21T07:00, @MILLISECONDS, 1h)
    #[arg(long, value_name = "PLACE", value_parser = at)]
    at: Option<At>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate topic config get orders\n  tidegate topic config get orders retention.ms -o json")]
pub(in super::super) struct ConfigGetArguments {
    #[command(flatten)]
    name: TopicName,
    /// Only these; all if none is named
    #[arg(value_name = "KEY", add = ArgValueCompleter::new(completion::topic_configs))]
    keys: Vec<String>,
}

fn at(text: &str) -> Result<At, String> {
    match text {
        "earliest" | "start" => Ok(At::Earliest),
        "latest" | "end" => Ok(At::Latest),
        "max_timestamp" | "max-timestamp" => Ok(At::MaxTimestamp),
        text => {
            let wanted = || "earliest, latest, max_timestamp, a time (@2026-11-21T07:00) or how long ago (1h) is wanted".to_owned();
            match text.parse::<Point>() {
                Ok(point) => point.time(SystemClock::new().wall().millis()).map(At::Timestamp).ok_or_else(wanted),
                Err(reason) => Err(if text.starts_with(|c: char| c == '@' || c.is_ascii_digit()) { reason } else { wanted() }),
            }
        }
    }
}

/// The topics whose names match, by name.
async fn matching(client: &Client, pattern: Option<&str>) -> Result<Vec<TopicSummary>, Failure> {
    let Some(text) = pattern else { return Ok(client.list_topics("").await?) };
    let pattern = glob::Pattern::new(text).map_err(|error| Failure::Usage(format!("'{text}' is no pattern: {error}")))?;
    let beginning = text.split(['*', '?', '[']).next().unwrap_or_default();
    let mut topics = client.list_topics(beginning).await?;
    topics.retain(|topic| pattern.matches(&topic.name));
    Ok(topics)
}

pub(super) async fn list(client: &Client, arguments: &ListArguments, output: &Output) -> Result<(), Failure> {
    let topics = matching(client, arguments.pattern.as_deref()).await?;
    if topics.is_empty() {
        let which = arguments.pattern.as_ref().map_or_else(|| "there are no topics".to_owned(), |p| format!("no topic matches '{p}'"));
        output.note(&which);
    }
    let descriptions =
        if output.look().wide { described(client, topics.iter().map(|t| t.name.clone()).collect()).await? } else { Vec::new() };
    output.list(&topics, |topic| topic.name.clone(), |look| list_text(look, &topics, &descriptions))
}

/// All of them, in their order; one that has gone in the meantime is left out.
async fn described(client: &Client, names: Vec<String>) -> Result<Vec<TopicDescription>, Failure> {
    let calls = iter(names).map(|name| async move {
        match client.describe_topic(&name).await {
            Ok(topic) => Ok(Some(topic)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(Failure::from(error)),
        }
    });
    calls.buffered(CALLS_AT_A_TIME).try_filter_map(async |topic| Ok(topic)).try_collect().await
}

fn list_text(look: Look, topics: &[TopicSummary], descriptions: &[TopicDescription]) -> String {
    if topics.is_empty() {
        return String::new();
    }
    let head = ["NAME", "PARTITIONS", "REPLICAS", "RECORDS", "SIZE", "INTERNAL", "ID"];
    let row = |topic: &TopicSummary| {
        let mut row: Vec<Field> =
            vec![topic.name.as_str().into(), Field::count(topic.partition_count.into()), Field::count(topic.replication_factor.into())];
        if look.wide {
            let description = descriptions.iter().find(|d| d.name == topic.name);
            let or_gone = |text: Option<String>| Field::from(text.unwrap_or_else(|| "-".to_owned()));
            row.push(description.map_or_else(|| Field::number("-"), |d| Field::count(plan::records(d))));
            let bytes = description.map(|d| size(d.partitions.iter().filter_map(|p| p.size_bytes).sum()));
            row.push(Field::number(bytes.unwrap_or_else(|| "-".to_owned())));
            row.push(topic.internal.to_string().into());
            row.push(or_gone(description.map(|d| d.topic_id.clone())));
        }
        row
    };
    styled_table(look, if look.wide { &head } else { &head[..3] }, topics.iter().map(row))
}

/// So many of something.
fn count(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

pub(super) async fn describe(client: &Client, arguments: &DescribeArguments, output: &Output) -> Result<(), Failure> {
    let mut topics = Vec::new();
    let mut missing: Option<Error> = None;
    for name in &arguments.topics {
        match client.describe_topic(name).await {
            Ok(topic) => topics.push(topic),
            // One that is not there is no reason not to show the others.
            Err(error) if is_missing(&error) => {
                if let Some(earlier) = missing.replace(error) {
                    output.failure(&earlier.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    let text = |look: Look| topics.iter().map(|topic| describe_text(look, topic, arguments)).collect::<Vec<_>>().join("\n\n");
    match topics.as_slice() {
        [] => {}
        [topic] if arguments.topics.len() == 1 => output.named(&topic.name, topic, text)?,
        _ => output.list(&topics, |topic| topic.name.clone(), text)?,
    }
    missing.map_or(Ok(()), |error| Err(error.into()))
}

fn is_missing(error: &Error) -> bool {
    error.problem().is_some_and(|problem| problem.code == "topic-not-found")
}

fn describe_text(look: Look, topic: &TopicDescription, arguments: &DescribeArguments) -> String {
    let everything = !arguments.partitions && !arguments.config;
    let mut parts = vec![format!(
        "topic {}, {}, {} each\nid {}",
        topic.name,
        count(topic.partitions.len(), "partition"),
        count(topic.replication_factor.into(), "replica"),
        topic.topic_id
    )];
    if everything || arguments.partitions {
        parts.push(partitions_text(look, &topic.partitions));
    }
    let shown: Vec<_> = topic.config.iter().filter(|(_, entry)| arguments.config || entry.source != "default").collect();
    if (everything || arguments.config) && !shown.is_empty() {
        parts.push(configs_text(look, shown.iter().map(|(key, entry)| (key.as_str(), *entry))));
    }
    let hidden = topic.config.len() - shown.len();
    if everything && hidden > 0 {
        parts.push(format!(
            "{} their default: --config shows them",
            if hidden == 1 { "1 config has".into() } else { format!("{hidden} configs have") }
        ));
    }
    parts.join("\n\n")
}

fn configs_text<'a>(look: Look, configs: impl Iterator<Item = (&'a str, &'a ConfigEntry)>) -> String {
    let row = |(key, entry): (&str, &ConfigEntry)| {
        let description = tidegate_types::topic_config::definition(key).map_or("", |definition| definition.description);
        let means = amount::readable(key, &entry.value).map_or_else(String::new, |means| format!(" ({means})"));
        let mut row = vec![Field::from(key), format!("{}{means}", entry.value).into(), entry.source.as_str().into()];
        if look.wide {
            row.push(description.into());
        }
        row
    };
    styled_table(look, if look.wide { &["CONFIG", "VALUE", "SOURCE", "MEANING"] } else { &["CONFIG", "VALUE", "SOURCE"] }, configs.map(row))
}

fn number<N: ToString>(n: Option<N>) -> Field {
    n.map_or_else(|| Field::number("-"), Field::number)
}

fn ids(nodes: &[u64]) -> String {
    nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

fn partitions_text(look: Look, partitions: &[PartitionDescription]) -> String {
    let head = ["PARTITION", "LEADER", "REPLICAS", "IN SYNC", "EARLIEST", "LATEST", "SIZE", "RECORDS", "EPOCH"];
    let row = |p: &PartitionDescription| {
        let leader = number(p.leader).toned(if p.leader.is_none() { Tone::Bad } else { Tone::Plain });
        let lacks = p.in_sync_replicas.len() < p.replicas.len();
        let in_sync = Field::new(if lacks { Tone::Doubtful } else { Tone::Plain }, ids(&p.in_sync_replicas));
        let mut row = vec![Field::number(p.partition), leader, ids(&p.replicas).into(), in_sync];
        row.extend([number(p.earliest_offset), number(p.latest_offset), number(p.size_bytes.map(size))]);
        if look.wide {
            row.push(number(p.latest_offset.zip(p.earliest_offset).map(|(latest, earliest)| HumanCount(latest.saturating_sub(earliest)))));
            row.push(Field::number(p.leader_epoch));
        }
        row
    };
    styled_table(look, if look.wide { &head } else { &head[..7] }, partitions.iter().map(row))
}

/// A partition that is not as it should be.
#[derive(Debug, Serialize)]
struct Ailing {
    topic: String,
    #[serde(flatten)]
    partition: PartitionDescription,
    /// What is wrong, kebab-case.
    problem: &'static str,
    #[serde(skip)]
    detail: String,
}

/// What is wrong with a partition, the worst first.
fn ailment(topic: &TopicDescription, partition: &PartitionDescription) -> Option<(&'static str, String)> {
    let in_sync = partition.in_sync_replicas.len();
    let wanted = topic.config.get("min.insync.replicas").and_then(|entry| entry.value.parse().ok()).unwrap_or(1);
    if partition.leader.is_none() {
        Some(("offline", "no leader: it can be neither read nor written".to_owned()))
    } else if partition.latest_offset.is_none() {
        Some(("not-open", "its leader has not opened it: the node's log says why".to_owned()))
    } else if in_sync < wanted {
        Some(("below-minimum", format!("{in_sync} of {wanted} in-sync replicas that acks=all needs: it takes no such writes")))
    } else if in_sync < partition.replicas.len() {
        Some(("under-replicated", format!("{in_sync} of {} replicas are in sync", partition.replicas.len())))
    } else {
        None
    }
}

pub(super) async fn health(client: &Client, arguments: &HealthArguments, output: &Output) -> Result<(), Failure> {
    let topics = if arguments.topics.is_empty() {
        described(client, client.list_topics("").await?.into_iter().map(|topic| topic.name).collect()).await?
    } else {
        let mut topics = Vec::new();
        for name in &arguments.topics {
            topics.push(client.describe_topic(name).await?);
        }
        topics
    };
    let ailing_in = |topic: &TopicDescription| {
        let one = |partition: &PartitionDescription| {
            let (problem, detail) = ailment(topic, partition)?;
            Some(Ailing { topic: topic.name.clone(), partition: partition.clone(), problem, detail })
        };
        topic.partitions.iter().filter_map(one).collect::<Vec<_>>()
    };
    let ailing: Vec<Ailing> = topics.iter().flat_map(ailing_in).collect();
    let checked: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
    output.list(&ailing, |a| format!("{}-{}", a.topic, a.partition.partition), |look| health_text(look, &ailing, checked, topics.len()))?;
    if ailing.is_empty() { Ok(()) } else { Err(Failure::SaysNo) }
}

fn health_text(look: Look, ailing: &[Ailing], checked: usize, topics: usize) -> String {
    if ailing.is_empty() {
        return format!("{} in {}: all as they should be", count(checked, "partition"), count(topics, "topic"));
    }
    let row = |a: &Ailing| {
        let tone = if a.problem == "under-replicated" { Tone::Doubtful } else { Tone::Bad };
        vec![a.topic.as_str().into(), Field::number(a.partition.partition), Field::new(tone, a.problem), a.detail.as_str().into()]
    };
    let table = styled_table(look, &["TOPIC", "PARTITION", "PROBLEM", "MEANING"], ailing.iter().map(row));
    format!("{table}\n\nnot as they should be: {} of {}", ailing.len(), count(checked, "partition"))
}

pub(super) async fn offsets(client: &Client, arguments: &OffsetsArguments, output: &Output) -> Result<(), Failure> {
    let topic = &arguments.name.topic;
    let partitions = if arguments.partition.is_empty() {
        client.describe_topic(topic).await?.partitions.iter().map(|p| p.partition).collect()
    } else {
        arguments.partition.clone()
    };
    let calls = iter(partitions).map(|partition| client.offsets(topic, partition, arguments.at));
    let offsets: Vec<Offsets> = calls.buffered(CALLS_AT_A_TIME).try_collect().await?;
    output.list(
        &offsets,
        |o| o.partition.to_string(),
        |look| {
            let head = ["PARTITION", "EARLIEST", "LATEST", "RECORDS", "LAST STABLE", "OFFSET", "TIMESTAMP"];
            let row = |o: &Offsets| {
                let mut row = vec![
                    Field::number(o.partition),
                    Field::number(o.earliest_offset),
                    Field::number(o.latest_offset),
                    Field::count(o.latest_offset.saturating_sub(o.earliest_offset)),
                    Field::number(o.last_stable_offset),
                ];
                if arguments.at.is_some() {
                    row.push(Field::number(o.offset.map_or_else(|| "none".to_owned(), |offset| offset.to_string())));
                    row.push(o.timestamp.map_or_else(|| "-".to_owned(), time::shown).into());
                }
                row
            };
            styled_table(look, if arguments.at.is_some() { &head } else { &head[..5] }, offsets.iter().map(row))
        },
    )
}

pub(super) async fn config_get(client: &Client, arguments: &ConfigGetArguments, output: &Output) -> Result<(), Failure> {
    let mut topic = client.describe_topic(&arguments.name.topic).await?;
    for key in &arguments.keys {
        if !topic.config.contains_key(key) {
            return Err(super::super::options::unknown(key, topic.config.keys().map(String::as_str)));
        }
    }
    if !arguments.keys.is_empty() {
        topic.config.retain(|key, _| arguments.keys.contains(key));
    }
    if output.format() == super::super::output::Format::Name {
        return output.text(&topic.config.keys().cloned().collect::<Vec<_>>().join("\n"));
    }
    output.result(&topic.config, |look| configs_text(look, topic.config.iter().map(|(key, entry)| (key.as_str(), entry))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: the worst that is wrong with a partition is what is said of it.
    #[test]
    fn ailments() {
        let topic = |minimum: &str| {
            let text = format!(
                r#"{{"name":"t","topic_id":"","partitions":[],"replication_factor":3,"internal":false,
                   "config":{{"min.insync.replicas":{{"value":"{minimum}","source":"topic"}}}}}}"#
            );
            serde_json::from_str::<TopicDescription>(&text).unwrap()
        };
        let partition = |leader: Option<u64>, in_sync: &[u64], latest: Option<u64>| PartitionDescription {
            partition: 0,
            leader,
            leader_epoch: 0,
            replicas: vec![1, 2, 3],
            in_sync_replicas: in_sync.to_vec(),
            earliest_offset: latest,
            latest_offset: latest,
            size_bytes: None,
        };
        let found = |minimum: &str, p: PartitionDescription| ailment(&topic(minimum), &p).map(|(problem, _)| problem);
        assert_eq!(found("2", partition(Some(1), &[1, 2, 3], Some(0))), None);
        assert_eq!(found("2", partition(Some(1), &[1, 2], Some(0))), Some("under-replicated"));
        assert_eq!(found("2", partition(Some(1), &[1], Some(0))), Some("below-minimum"));
        assert_eq!(found("2", partition(Some(1), &[1, 2, 3], None)), Some("not-open"));
        assert_eq!(found("2", partition(None, &[], None)), Some("offline"));
    }

    /// A promise: places are words or times, and nothing else.
    #[test]
    fn places() {
        assert_eq!(at("earliest"), Ok(At::Earliest));
        assert_eq!(at("max_timestamp"), Ok(At::MaxTimestamp));
        assert_eq!(at("@1700000000000"), Ok(At::Timestamp(1_700_000_000_000)));
        assert!(at("newest").unwrap_err().contains("max_timestamp"));
    }
}
