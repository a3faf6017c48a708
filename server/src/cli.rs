//! The command line: arguments in, one verb done, an exit code out.
//!
//! | code | means |
//! |---|---|
//! | 0 | done |
//! | 1 | it failed |
//! | 2 | the arguments are wrong |
//! | 3 | what was named does not exist |
//! | 4 | not allowed |
//! | 5 | no server answers, or not in time |
//! | 6 | there is a difference, or something is not healthy |
//! | 130 | Ctrl-C |
//! | 129, 143 | `produce`, `bench`: SIGHUP, SIGTERM |
//!
//! Results go to standard output, words to standard error. A verb gets a `Session`: the server, the output, the runtime.

mod bench;
mod cluster;
mod completion;
mod config;
mod consume;
mod context;
mod doctor;
mod failure;
mod find;
mod log;
mod manual;
mod options;
mod output;
mod produce;
mod record;
mod serve;
mod session;
mod signals;
mod tail;
#[cfg(test)]
mod tests;
mod time;
mod topic;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::ArgValueCompleter;

use failure::Failure;
use output::{Format, Output};
use session::{Named, Session, Target};

/// What stands at the end of the first page of help, and of the manual.
const AFTER_HELP: &str = "\
Examples:
  tidegate serve --data-dir /var/lib/tidegate
  tidegate topic create orders -p 12
  echo hello | tidegate produce orders
  tidegate consume orders
  tidegate help topic create

Exit codes:
  0    done
  1    it failed
  2    the arguments are wrong
  3    what was named does not exist
  4    not allowed
  5    no server answers, or not in time
  6    there is a difference, or something is not healthy
  130  Ctrl-C";

/// A durable event log that anybody can use over HTTP: server and command line in one.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = AFTER_HELP)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Common {
    /// The node to talk to; else the context's, else http://127.0.0.1:8080
    #[arg(long, env = "TIDEGATE_SERVER", hide_env_values = true, global = true, value_name = "URL")]
    server: Option<String>,
    /// The context that names the node (see `tidegate context`)
    #[arg(long, env = "TIDEGATE_CONTEXT", hide_env_values = true, global = true, value_name = "NAME",
        add = ArgValueCompleter::new(completion::contexts))]
    context: Option<String>,
    /// Results as table, wide, json, yaml, ndjson or name
    #[arg(short, long, env = "TIDEGATE_OUTPUT", hide_env_values = true, global = true, value_enum, default_value_t = Format::Table,
        hide_default_value = true, hide_possible_values = true, value_name = "FORMAT")]
    output: Format,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// How long one call may take: 500ms, 30s, 2m [default: 130s; 10s for what only looks]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// No colours on a terminal; NO_COLOR in the environment does the same
    #[arg(long, global = true)]
    no_color: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a node
    #[command(
        after_help = "Examples:\n  tidegate serve\n  tidegate serve --data-dir /var/lib/tidegate --listen 127.0.0.1:9000\n  tidegate serve --config /etc/tidegate.toml --set num.partitions=4"
    )]
    Serve(config::NodeArguments),
    /// Work with topics
    #[command(subcommand)]
    #[command(after_help = "Examples:\n  tidegate topic list\n  tidegate topic create orders -p 12\n  tidegate topic describe orders")]
    Topic(topic::Verb),
    /// Put records into a topic: lines, JSON, CSV, a whole file
    Produce(produce::Arguments),
    /// Show a topic's records, from here to there
    Consume(consume::Arguments),
    /// Show the last records of a topic, then what comes
    Tail(tail::Arguments),
    /// Find the records of a key
    Find(find::Arguments),
    /// Look at the cluster and its health
    #[command(subcommand)]
    #[command(after_help = "Examples:\n  tidegate cluster status\n  tidegate cluster health")]
    Cluster(cluster::Verb),
    /// Check or show what a node would be told; list every key there is
    #[command(subcommand)]
    #[command(after_help = "Examples:\n  tidegate config options\n  tidegate config check --config /etc/tidegate.toml")]
    Config(config::Verb),
    /// Give names to servers
    #[command(subcommand)]
    #[command(
        after_help = "Examples:\n  tidegate context add staging http://10.0.0.7:8080\n  tidegate context use staging\n  tidegate topic list --context staging"
    )]
    Context(context::Verb),
    /// Say what is not as it should be with a node, and what to do about it
    Doctor(doctor::DoctorArguments),
    /// Look into a node's files
    #[command(subcommand)]
    #[command(
        after_help = "Examples:\n  tidegate log verify tidegate-data\n  tidegate log dump tidegate-data/orders-0 --records\n  tidegate log repair tidegate-data            # says what it would do"
    )]
    Log(log::Verb),
    /// Print what a shell needs to complete verbs, flags and names of topics
    Completion(completion::CompletionArguments),
    /// Print the manual
    Man(manual::ManArguments),
    /// Measure a node
    #[command(subcommand)]
    #[command(after_help = "Examples:\n  tidegate bench produce\n  tidegate bench e2e --help")]
    Bench(bench::Verb),
    /// Print the version
    #[command(after_help = "Examples:\n  tidegate version\n  tidegate version -o json")]
    Version,
    /// Say what a verb does, as its --help
    #[command(after_help = "Examples:\n  tidegate help\n  tidegate help topic create")]
    Help(HelpArguments),
}

#[derive(Debug, clap::Args)]
struct HelpArguments {
    /// Which; all if none is named
    #[arg(value_name = "VERB")]
    verbs: Vec<OsString>,
}

/// A length of time, more than none.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "it must be a duration such as 500ms, 30s or 2m".to_owned();
    let signed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(signed).ok().filter(|duration| !duration.is_zero()).ok_or_else(wrong)
}

/// Every verb by its words (`topic config set`), with what clap knows of it; the program itself is the one without words.
pub fn verbs() -> Vec<(String, clap::Command)> {
    fn walk(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        found.push((path.to_owned(), command.clone()));
        for verb in command.get_subcommands() {
            walk(verb, format!("{path} {}", verb.get_name()).trim_start(), found);
        }
    }
    let mut command = Arguments::command();
    command.build();
    let mut found = Vec::new();
    walk(&command, "", &mut found);
    found
}

/// Does what the arguments (the program's name first) say.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if completion::answer(&arguments) {
        return ExitCode::SUCCESS;
    }
    match parse(&arguments) {
        Ok((_, Verb::Help(help))) => explain(&arguments, help.verbs),
        Ok((common, verb)) => {
            let output = Output::new(common.output, common.quiet, wants_colour(common.no_color)).chosen(common.output_is_chosen);
            let session = Session::new(output, common.target, common.timeout);
            finish(do_verb(&verb, &session), &session.output)
        }
        Err(error) => refuse(&arguments, &with_tip(&arguments, error)),
    }
}

/// Does what the verb's `--help` does.
fn explain(arguments: &[OsString], verbs: Vec<OsString>) -> ExitCode {
    let asked: Vec<OsString> = arguments.iter().take(1).cloned().chain(verbs).chain(["--help".into()]).collect();
    match parse(&asked) {
        Err(error) => refuse(&asked, &error),
        // With `--help` nothing is ever only parsed.
        Ok(_) => ExitCode::SUCCESS,
    }
}

/// The global options, after it is settled which of them win.
struct Settled {
    target: Target,
    output: Format,
    output_is_chosen: bool,
    quiet: bool,
    timeout: Option<Duration>,
    no_color: bool,
}

fn parse(arguments: &[OsString]) -> Result<(Settled, Verb), clap::Error> {
    let mut command = without_empty_variables(Arguments::command());
    if !wants_colour(arguments.iter().any(|a| a == "--no-color")) {
        command = command.color(clap::ColorChoice::Never);
    }
    let matches = command.clone().try_get_matches_from(arguments)?;
    let Arguments { common, verb } = Arguments::from_arg_matches(&matches)?;
    let target = target(&common, &matches).map_err(|reason| command.error(clap::error::ErrorKind::ArgumentConflict, reason))?;
    let output_is_chosen = matches.value_source("output") != Some(ValueSource::DefaultValue);
    Ok((
        Settled {
            target,
            output: common.output,
            output_is_chosen,
            quiet: common.quiet,
            timeout: common.timeout,
            no_color: common.no_color,
        },
        verb,
    ))
}

/// An empty variable is none, as with every shell's `X= command`.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// Flags win over the environment; within each, a server over a context. Two flags are a contradiction.
fn target(common: &Common, matches: &ArgMatches) -> Result<Target, &'static str> {
    let by_flag = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    match (common.server.clone(), common.context.clone()) {
        (Some(_), Some(_)) if by_flag("server") && by_flag("context") => Err("--server and --context both name a node: give one of them"),
        (_, Some(context)) if by_flag("context") => Ok(Target::Context(Named::by("--context", context))),
        (Some(url), _) => Ok(Target::Server(Named::by(if by_flag("server") { "--server" } else { "TIDEGATE_SERVER" }, url))),
        (None, Some(context)) => Ok(Target::Context(Named::by("TIDEGATE_CONTEXT", context))),
        (None, None) => Ok(Target::Unsaid),
    }
}

/// Whether colours are wanted at all; each stream still asks whether it is a terminal.
fn wants_colour(no_color: bool) -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !no_color && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn do_verb(verb: &Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Serve(node) => serve::run(node, &session.output),
        Verb::Config(verb) => config::run(verb, &session.output),
        Verb::Log(verb) => log::run(verb, &session.output),
        Verb::Topic(verb) => topic::run(verb, session),
        Verb::Produce(arguments) => produce::run(arguments, session),
        Verb::Consume(arguments) => consume::run(arguments, session),
        Verb::Tail(arguments) => tail::run(arguments, session),
        Verb::Find(arguments) => find::run(arguments, session),
        Verb::Cluster(verb) => cluster::run(verb, session),
        Verb::Context(verb) => context::run(verb, session),
        Verb::Doctor(arguments) => doctor::run(arguments, session),
        Verb::Completion(arguments) => completion::script(arguments, &session.output),
        Verb::Man(arguments) => manual::run(arguments, &session.output),
        Verb::Bench(verb) => bench::run(verb, session),
        Verb::Version => version(&session.output),
        // It has been answered where arguments are parsed.
        Verb::Help(_) => Ok(()),
    }
}

fn version(output: &Output) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    output.named(version, &serde_json::json!({"version": version}), |_| format!("tidegate {version}"))
}

fn finish(outcome: Result<(), Failure>, output: &Output) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The same error, with what may have been meant.
fn with_tip(arguments: &[OsString], mut error: clap::Error) -> clap::Error {
    let words: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
    if let Some(tip) = consume::tip(&words, error.kind()) {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.to_owned().into()]));
    }
    error
}

/// Help and version are errors to clap, too, but of code 0. Whoever closed the output does not want to read them.
fn refuse(arguments: &[OsString], error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // What is only in a buffer is not said yet.
        let said = error.print().and_then(|()| std::io::stdout().flush()).map_err(Failure::from);
        return finish(said, &Output::new(asked_format(arguments).unwrap_or(Format::Table), false, false));
    }
    match asked_format(arguments) {
        Some(format) if format.is_for_programs() => {
            let failure = Failure::Usage(error.render().to_string().trim().trim_start_matches("error: ").to_owned());
            Output::new(format, false, false).failure(&failure);
        }
        _ => drop(error.print()),
    }
    ExitCode::from(2)
}

/// The format that wrong arguments ask for, as far as it can be seen: a program that asked for JSON gets its error so.
fn asked_format(arguments: &[OsString]) -> Option<Format> {
    let words: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).take_while(|a| *a != "--").collect();
    let attached =
        |word: &&str| word.strip_prefix("--output=").or_else(|| word.strip_prefix("-o")).map(|v| v.trim_start_matches('=').to_owned());
    let after = words.windows(2).filter(|pair| matches!(pair[0], "-o" | "--output")).map(|pair| pair[1].to_owned());
    let environment = std::env::var_os("TIDEGATE_OUTPUT").as_deref().and_then(OsStr::to_str).map(str::to_owned);
    let mut texts = after.chain(words.iter().filter_map(attached)).chain(environment);
    texts.find_map(|text| clap::ValueEnum::from_str(&text, false).ok())
}
