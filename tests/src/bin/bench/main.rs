//! `make bench`: a node beside its limits, measured in the same run, since the figures of a shared machine mean little by themselves.
//!
//! | module | subject |
//! |---|---|
//! | [`workload`] | what is sent, by how many, to whom, and the goal |
//! | [`row`] | measuring in turn, judging by medians |
//! | [`contender`] | a round: the node, a limit, a peer |
//! | [`load`] | prebuilt requests over plain sockets |
//! | [`bare`], [`disk`], [`peers`] | the limits: HTTP alone, the disk alone; and others |
//! | [`waiting`] | waiting fetches, memory |
//! | [`writing`] | syncs a request, deletion under load |
//! | [`machine`], [`report`] | what the figures stand beside, and how they are told |

mod bare;
mod contender;
mod disk;
mod load;
mod machine;
mod peers;
mod report;
mod row;
mod waiting;
mod workload;
mod writing;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use machine::Machine;
use report::Report;

// The node has it too: the limits shall not be slower for want of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "bench [--seconds N] [--rounds N] [--only WORKLOAD]… [--json FILE] [--write DOCUMENT]";

/// What to do.
#[derive(Debug)]
struct Arguments {
    seconds: f64,
    rounds: usize,
    /// Empty is all of them, and what is no rate.
    only: Vec<&'static str>,
    json: Option<PathBuf>,
    document: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut parsed = Self { seconds: 3.0, rounds: 3, only: Vec::new(), json: None, document: None };
        while let Some(flag) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{flag} needs a value: {USAGE}"))?;
            match flag.as_str() {
                "--seconds" => parsed.seconds = value.parse().context("--seconds")?,
                "--rounds" => parsed.rounds = value.parse().context("--rounds")?,
                "--only" => {
                    let known = workload::ALL.iter().find(|id| **id == value);
                    parsed.only.push(known.with_context(|| format!("no workload {value}; there are {}", workload::ALL.join(", ")))?);
                }
                "--json" => parsed.json = Some(value.into()),
                "--write" => parsed.document = Some(value.into()),
                other => bail!("{other} means nothing: {USAGE}"),
            }
        }
        if parsed.rounds == 0 || !(0.1..=600.0).contains(&parsed.seconds) {
            bail!("at least one round, of 0.1 to 600 seconds: {USAGE}");
        }
        Ok(parsed)
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let outcome =
        if arguments.peek().map(String::as_str) == Some("bare") { bare::serve() } else { Arguments::parse(arguments).and_then(run) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let duration = Duration::from_secs_f64(arguments.seconds);
    let folder = std::env::temp_dir();
    workload::require_room(&folder)?;
    let chosen: Vec<_> = workload::ALL.into_iter().filter(|id| arguments.only.is_empty() || arguments.only.contains(id)).collect();
    let command = std::env::args().skip(1).fold("bench".to_owned(), |text, argument| text + " " + &argument);
    let machine = Machine::look(&folder)?;
    let mut report = Report {
        command,
        seconds: arguments.seconds,
        rounds: arguments.rounds,
        machine,
        rows: Vec::new(),
        other: Vec::new(),
        absent: Vec::new(),
    };
    for id in chosen {
        drop(writeln!(std::io::stderr(), "measuring {id}"));
        let prepared = workload::prepare(id).await.context(id)?;
        report.absent.extend(prepared.absent);
        if let Some(row) = prepared.row {
            report.rows.push(row.measure(arguments.rounds, duration).await.context(id)?);
        }
    }
    if arguments.only.is_empty() {
        report.other = waiting::measure(duration).await?;
        report.other.extend(writing::measure(duration).await?);
    }
    let table = report.markdown()?;
    say(&table);
    if let Some(path) = arguments.json {
        fs::write(&path, serde_json::to_string_pretty(&report)?).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = arguments.document {
        let document = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        fs::write(&path, report::splice(&document, &table)?)?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a command's output")]
fn say(line: &str) {
    println!("{line}");
}
