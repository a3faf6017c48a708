//! `topic …`: everything about topics but their records, over HTTP like anybody.
//!
//! What would lose records is only planned until `--yes` is said; `topic plan` shows what any change would do.

mod change;
mod look;
mod plan;
mod planned;
mod trim;

use clap_complete::ArgValueCompleter;
use tidegate_types::name::NameError;

pub(super) use plan::differences;

use super::Failure;
use super::completion;
use super::session::Session;

/// What to do with topics.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// List topics, by name
    List(look::ListArguments),
    /// Make a topic
    Create(change::CreateArguments),
    /// Show topics: partitions, and configs
    Describe(look::DescribeArguments),
    /// Delete topics and their records; without --yes only says what would be deleted
    Delete(change::DeleteArguments),
    /// Say which partitions are not as they should be; exit code 6 if there are any
    Health(look::HealthArguments),
    /// Show and change a topic's configs
    #[command(subcommand)]
    #[command(after_help = "Examples:\n  tidegate topic config get orders\n  tidegate topic config set orders compression.type=zstd")]
    Config(ConfigVerb),
    /// Change how many partitions a topic has
    #[command(subcommand)]
    #[command(after_help = "Examples:\n  tidegate topic partitions add orders 4")]
    Partitions(PartitionsVerb),
    /// Show the offsets of a topic's partitions
    Offsets(look::OffsetsArguments),
    /// Delete records before an offset or a time; without --yes only says what would be deleted
    Trim(trim::TrimArguments),
    /// Say what a change would do, and do nothing
    Plan(planned::PlanArguments),
}

/// What to do with a topic's configs.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigVerb {
    /// Show configs with where their values come from
    Get(look::ConfigGetArguments),
    /// Set configs; one that can cost records wants --yes
    Set(change::ConfigSetArguments),
    /// Put configs back to their default; one that can cost records wants --yes
    Unset(change::ConfigUnsetArguments),
}

/// What to do with a topic's partitions.
#[derive(Debug, clap::Subcommand)]
pub(super) enum PartitionsVerb {
    /// Add partitions; they cannot be taken away again
    Add(change::PartitionsAddArguments),
}

/// The name of a topic that exists.
#[derive(Debug, clap::Args)]
pub(super) struct TopicName {
    /// The topic's name
    #[arg(value_name = "TOPIC", value_parser = topic_name, add = ArgValueCompleter::new(completion::topics))]
    topic: String,
}

/// A name that a topic can have: another would become another path.
fn topic_name(text: &str) -> Result<String, NameError> {
    tidegate_types::TopicName::new(text).map(String::from)
}

/// Does it.
pub(super) fn run(verb: &Verb, session: &Session) -> Result<(), Failure> {
    let output = &session.output;
    session.block_on(session.watched(async {
        let client = &if only_looks(verb) { session.looking_client()? } else { session.client()? };
        match verb {
            Verb::List(arguments) => look::list(client, arguments, output).await,
            Verb::Create(arguments) => change::create(client, arguments, output).await,
            Verb::Describe(arguments) => look::describe(client, arguments, output).await,
            Verb::Delete(arguments) => change::delete(client, arguments, output).await,
            Verb::Health(arguments) => look::health(client, arguments, output).await,
            Verb::Config(ConfigVerb::Get(arguments)) => look::config_get(client, arguments, output).await,
            Verb::Config(ConfigVerb::Set(arguments)) => change::config_set(client, arguments, output).await,
            Verb::Config(ConfigVerb::Unset(arguments)) => change::config_unset(client, arguments, output).await,
            Verb::Partitions(PartitionsVerb::Add(arguments)) => change::partitions_add(client, arguments, output).await,
            Verb::Offsets(arguments) => look::offsets(client, arguments, output).await,
            Verb::Trim(arguments) => trim::trim(client, arguments, output).await,
            Verb::Plan(arguments) => planned::run(client, arguments, output).await,
        }
    }))
}

/// Whether nothing is changed, so that a node that does not answer soon need not be waited for.
const fn only_looks(verb: &Verb) -> bool {
    match verb {
        Verb::List(_) | Verb::Describe(_) | Verb::Health(_) | Verb::Offsets(_) | Verb::Plan(_) | Verb::Config(ConfigVerb::Get(_)) => true,
        Verb::Create(_) | Verb::Delete(_) | Verb::Trim(_) | Verb::Partitions(_) | Verb::Config(_) => false,
    }
}
