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

mod config;
mod log;
mod output;
mod serve;
mod topic;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::{Format, Output};

/// A durable event log that anybody can use over HTTP: server and command line in one.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, propagate_version = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// The node to talk to
    #[arg(long, env = "TIDEGATE_SERVER", default_value = "http://127.0.0.1:8080", global = true, value_name = "URL")]
    server: String,
    /// How results are written; with json, errors are problem objects too
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a node
    Serve(config::NodeArguments),
    /// Check or show what a node would be told
    #[command(subcommand)]
    Config(config::Verb),
    /// Work with topics
    #[command(subcommand)]
    Topic(topic::Verb),
    /// Look into a node's files
    #[command(subcommand)]
    Log(log::Verb),
}

/// How a verb ended when it did not end well.
#[derive(Debug)]
enum Failure {
    /// The server, or the way to it, said no.
    Client(tidegate_client::Error),
    /// Something here said no; a sentence.
    Local(String),
    /// Nothing was done, because it has to be confirmed; a sentence.
    Unconfirmed(String),
    /// Whoever reads the output has gone.
    OutputClosed,
}

impl From<tidegate_client::Error> for Failure {
    fn from(error: tidegate_client::Error) -> Self {
        Self::Client(error)
    }
}

impl From<tidegate_storage::Error> for Failure {
    fn from(error: tidegate_storage::Error) -> Self {
        Self::Local(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe { Self::OutputClosed } else { Self::Local(format!("cannot write: {error}")) }
    }
}

/// Does what the arguments (the program's name first) say.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap, too, but of code 0. Whoever closed the output does not want to read them.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let output = Output::new(arguments.common.output);
    let outcome = match &arguments.verb {
        Verb::Serve(node) => serve::run(node, &output),
        Verb::Config(verb) => config::run(verb, &output),
        Verb::Log(verb) => log::run(verb, &output),
        Verb::Topic(verb) => topic::run(verb, &arguments.common.server, &output),
    };
    match outcome {
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(exit_code(&failure))
        }
    }
}

fn exit_code(failure: &Failure) -> u8 {
    use tidegate_client::Error;
    match failure {
        Failure::Local(_) | Failure::OutputClosed | Failure::Unconfirmed(_) => 1,
        Failure::Client(Error::Address { .. } | Error::Input(_)) => 2,
        Failure::Client(Error::Connect { .. } | Error::Timeout(_) | Error::Broken(_)) => 5,
        Failure::Client(Error::Answer { .. }) => 1,
        Failure::Client(Error::Problem(problem)) => match problem.status {
            Some(404) => 3,
            Some(401 | 403) => 4,
            Some(408 | 429 | 503 | 504) => 5,
            _ => 1,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16) -> Failure {
        let text = format!(r#"{{"status":{status},"code":"x"}}"#);
        Failure::Client(tidegate_client::Error::Problem(Box::new(serde_json::from_str(&text).unwrap())))
    }

    /// A promise: the command line is put together without contradictions.
    #[test]
    fn arguments_are_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    /// A promise: a script can tell from the exit code alone what went wrong.
    #[test]
    fn exit_codes() {
        for (failure, code) in [
            (problem(404), 3),
            (problem(403), 4),
            (problem(503), 5),
            (problem(504), 5),
            (problem(409), 1),
            (problem(500), 1),
            (Failure::Local(String::new()), 1),
            (Failure::Client(tidegate_client::Error::Timeout(std::time::Duration::ZERO)), 5),
            (Failure::Client(tidegate_client::Error::Input(String::new())), 2),
        ] {
            assert_eq!(exit_code(&failure), code, "{failure:?}");
        }
    }
}
