//! `config check` and `config show`, and the arguments that say what a node is told.

use std::path::PathBuf;

use clap_complete::ArgValueCompleter;
use serde_json::json;

use super::output::{Output, table};
use super::{Failure, completion};
use crate::config::{ConfigError, Inputs, Loaded, load};

/// What a node is told on the command line; it wins over the environment, which wins over the file.
#[derive(Debug, clap::Args)]
pub(super) struct NodeArguments {
    /// Configuration file: TOML with dotted keys, or Kafka's format if its name ends in .properties
    #[arg(long, env = "TIDEGATE_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory (log.dirs)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where to take clients' connections, host:port; port 0 is any that is free (listeners)
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Allow a listener that other machines can reach, although there are no accounts (insecure.listen)
    #[arg(long)]
    insecure_listen: bool,
    /// What to log (log.level)
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How to write log lines: pretty or json (log.format)
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Set any key; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value, add = ArgValueCompleter::new(completion::node_settings))]
    set: Vec<(String, String)>,
}

/// Splits at the first `=`.
pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it must be KEY=VALUE".to_owned()),
    }
}

impl NodeArguments {
    /// The configuration that these arguments, the environment and the file make together.
    pub(super) fn load(&self) -> Result<Loaded, ConfigError> {
        let named = [
            ("--data-dir", "log.dirs", self.data_dir.clone()),
            ("--listen", "listeners", self.listen.clone()),
            ("--insecure-listen", "insecure.listen", self.insecure_listen.then(|| "true".to_owned())),
            ("--log-level", "log.level", self.log_level.clone()),
            ("--log-format", "log.format", self.log_format.clone()),
        ];
        let set = self.set.iter().map(|(key, value)| ("--set", key.clone(), value.clone()));
        let named = named.into_iter().filter_map(|(flag, key, value)| Some((flag, key.to_owned(), value?)));
        load(&Inputs {
            file: self.config.clone(),
            // A variable that is not UTF-8 cannot be one of ours: their values are texts.
            environment: std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect(),
            flags: set.chain(named).collect(),
        })
    }
}

/// The configuration that a file and the environment make together.
pub(super) fn load_file(file: &std::path::Path) -> Result<Loaded, ConfigError> {
    let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    load(&Inputs { file: Some(file.to_owned()), environment, flags: Vec::new() })
}

/// What to do with a configuration.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Say whether a node would start with it
    #[command(
        after_help = "Examples:\n  tidegate config check --config /etc/tidegate.toml\n  tidegate config check --set num.partitions=4"
    )]
    Check(NodeArguments),
    /// Show every key with its value and where that comes from
    #[command(after_help = "Examples:\n  tidegate config show\n  tidegate config show --config /etc/tidegate.toml -o json")]
    Show(NodeArguments),
    /// List every key there is, of topics and of nodes: what it takes, its default, its meaning
    Options(super::options::OptionsArguments),
}

/// Does it.
pub(super) fn run(verb: &Verb, output: &Output) -> Result<(), Failure> {
    match verb {
        Verb::Check(arguments) => check(&load_or_fail(arguments)?, output),
        Verb::Options(arguments) => super::options::run(arguments, output),
        Verb::Show(arguments) => show(&load_or_fail(arguments)?, output),
    }
}

/// All that is wrong, as one failure.
pub(super) fn load_or_fail(arguments: &NodeArguments) -> Result<Loaded, Failure> {
    arguments.load().map_err(|error| Failure::Local(format!("the configuration is wrong:\n  {}", error.problems.join("\n  "))))
}

fn check(loaded: &Loaded, output: &Output) -> Result<(), Failure> {
    output.result(&json!({"valid": true, "warnings": loaded.warnings}), |_| {
        let warnings = loaded.warnings.iter().map(|warning| format!("warning: {warning}"));
        warnings.chain(["the configuration is valid".to_owned()]).collect::<Vec<_>>().join("\n")
    })
}

fn show(loaded: &Loaded, output: &Output) -> Result<(), Failure> {
    let settings = &loaded.config.settings;
    let entry = |s: &crate::config::Setting| {
        json!({
            "key": s.definition.name,
            "value": s.shown(),
            "source": s.source.to_string(),
            "default": s.definition.default,
            "takes": s.definition.kind.to_string(),
            "description": s.definition.description,
        })
    };
    let entries: Vec<_> = settings.iter().map(entry).collect();
    output.list(
        &entries,
        |entry| entry["key"].as_str().unwrap_or_default().to_owned(),
        |_| {
            table(
                &["KEY", "VALUE", "SOURCE"],
                settings.iter().map(|s| vec![s.definition.name.to_owned(), s.shown().to_owned(), s.source.to_string()]),
            )
        },
    )
}
