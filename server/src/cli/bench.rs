//! `bench produce|consume|e2e|mixed`: what a node does under load, over HTTP like anybody, and whether it keeps what it says it has.
//!
//! ```text
//!   schedule ──due──> produce ──POST──> node ──> acknowledged: a latency, and a sum of hashes (integrity)
//!   (closed or       consume ──GET───> node ──> pages: a latency; read back: the same sum?
//!    open loop)
//! ```
//!
//! Everything runs on one thread, which shares the machine with the node if that is a local one: the result says what this process used.
//!
//! | module | subject |
//! |---|---|
//! | [`arguments`] | what can be asked for |
//! | [`payload`] | what is sent, made before the clock runs |
//! | [`connection`], [`page`] | one request and its answer |
//! | [`schedule`] | when a request is due |
//! | [`produce`], [`consume`], [`workers`] | those who send, fetch and read back |
//! | [`run`](mod@run) | a topic, a run on it, and the end of both |
//! | [`integrity`] | whether what was acknowledged can be read |
//! | [`tally`], [`meter`], [`outcome`], [`file`](mod@file) | what is counted, and how it is told |

mod arguments;
mod connection;
mod consume;
mod file;
mod integrity;
mod meter;
mod outcome;
mod page;
mod payload;
mod produce;
mod progress;
mod run;
mod schedule;
mod tally;
mod workers;

use std::path::PathBuf;
use std::time::Duration;

use super::Failure;
use super::session::Session;
use arguments::Load;

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Append records: rate, and how long an acknowledgement takes
    #[command(after_help = PRODUCE_EXAMPLES)]
    Produce(Box<Load>),
    /// Fetch records that are there: rate, and how long a page takes
    #[command(after_help = CONSUME_EXAMPLES)]
    Consume(Box<ConsumeArguments>),
    /// How long a record takes from its producer to a consumer that waits for it
    #[command(after_help = E2E_EXAMPLES)]
    E2e(Box<Load>),
    /// Append and follow at the same time
    #[command(after_help = "Examples:\n  tidegate bench mixed --rate 5000 --duration 30s")]
    Mixed(Box<Load>),
}

const PRODUCE_EXAMPLES: &str = "Examples:
  tidegate bench produce --connections 16
  tidegate bench produce --rate 10000 --records-per-request 1 --duration 30s
  tidegate bench produce --form batches --codec lz4 --keep --result r.json";
const CONSUME_EXAMPLES: &str = "Examples:
  tidegate bench consume --records 500000
  tidegate bench consume --topic bench-1234abcd --verify r.json";
const E2E_EXAMPLES: &str = "Examples:
  tidegate bench e2e --rate 1000 --records-per-request 1 --connections 4";

#[derive(Debug, clap::Args)]
pub(super) struct ConsumeArguments {
    #[command(flatten)]
    load: Load,
    /// Compare with what this result of `bench produce` says was acknowledged; goes with --topic
    #[arg(long, value_name = "FILE", requires = "topic")]
    verify: Option<PathBuf>,
}

/// Does it.
pub(super) fn run(verb: &Verb, session: &Session) -> Result<(), Failure> {
    let (load, what) = match verb {
        Verb::Produce(load) => (load.as_ref(), run::What::Produce),
        Verb::Consume(arguments) => (&arguments.load, run::What::Consume { verify: arguments.verify.clone() }),
        Verb::E2e(load) => (load.as_ref(), run::What::EndToEnd),
        Verb::Mixed(load) => (load.as_ref(), run::What::Mixed),
    };
    load.check(!matches!(what, run::What::Produce))?;
    session.block_on_to_end(Box::pin(run::run(load, &what, session)))
}

/// A length of time.
fn duration_or_none(text: &str) -> Result<Duration, String> {
    if matches!(text, "0" | "0s") { Ok(Duration::ZERO) } else { duration(text) }
}

/// A length of time, more than none, and less than a day.
fn duration(text: &str) -> Result<Duration, String> {
    super::duration(text).and_then(|duration| {
        let day = Duration::from_secs(24 * 60 * 60);
        if duration <= day { Ok(duration) } else { Err("it is a day at most".to_owned()) }
    })
}
