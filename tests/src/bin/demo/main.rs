//! `make demo`: real flights go into a node over HTTP and come out again; everything is checked, and what was seen is told.
//!
//! It starts the real binary on a temporary directory, makes the topic `flights` (4 partitions, kept for ever), sends every flight with its
//! tail number as the key, reads all of it back and compares. A flight whose tail number is empty goes without a key; `NA`, which the data
//! says where the number is not known, is a key like any other. Exit code 0 only if every check holds.
//!
//! `demo` alone takes the sample in the clone; `demo path/to/flights.csv.zip` takes all 336,776.

mod check;
mod replay;
mod report;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use tidegate_client::{Client, NewTopic};
use tidegate_tests::flights::{self, Flight};
use tidegate_tests::process::Process;

/// The topic.
const TOPIC: &str = "flights";
/// Its partitions; as many requests are under way at a time.
const PARTITIONS: u32 = 4;

fn main() -> ExitCode {
    let archive = std::env::args_os().nth(1);
    match run(archive.as_ref().map(Path::new)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "the demo failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(archive: Option<&Path>) -> anyhow::Result<bool> {
    let flights = load(archive)?;
    let directory = tempfile::tempdir()?;
    say(&format!("\n  Starting a node on an empty directory, and sending it {} flights …", report::grouped(flights.len())))?;
    let node = Process::start(directory.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (sent, read) = runtime.block_on(there_and_back(&node.url(), &flights))?;
    let checks = check::all(&flights, &sent, &read);
    say(&report::summary(&flights, &sent, &read, &checks))?;
    stop(node)?;
    Ok(checks.iter().all(|check| check.holds))
}

fn load(archive: Option<&Path>) -> anyhow::Result<Vec<Flight>> {
    let flights = match archive {
        Some(archive) => flights::all(archive).with_context(|| format!("cannot read {}", archive.display()))?,
        None => flights::sample()?,
    };
    ensure!(!flights.is_empty(), "there are no flights in it");
    Ok(flights)
}

async fn there_and_back(url: &str, flights: &[Flight]) -> anyhow::Result<(replay::Sent, replay::Read)> {
    let client = Client::new(url)?;
    let config = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    client.create_topic(TOPIC, &NewTopic { partitions: Some(PARTITIONS), replication_factor: None, config }).await?;
    let sent = replay::send(&client, flights).await?;
    let read = replay::read(&client).await?;
    Ok((sent, read))
}

/// Stops the node as an operator would; that, too, has to go well.
fn stop(node: Process) -> anyhow::Result<()> {
    node.terminate()?;
    let (status, said) = node.wait()?;
    ensure!(status.success(), "the node did not stop well ({status}); it said:\n{said}");
    Ok(())
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}
