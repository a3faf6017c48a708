//! `make chaos`: each kind of client in turn behind a bad network, in front of a node that is killed every few seconds; a line for each, and an end at
//! the first contradiction, with the node's files kept.
//!
//! From the environment: `REQUESTS` of a mode, `RECORDS` of the producer's, `KILL_EVERY` seconds, `SEED`, `RATE` of each fate in thousandths, `PATIENCE`
//! in seconds for each run, and `ONLY`, a part of a run's name. With `UNPROTECTED=1` keys and sequences are left out, so that it must end badly.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use tidegate_tests::chaos::{self, Blows, Form, Mode, Weather, Work};
use tidegate_tests::proxy::Faults;

fn setting<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(name: &str, otherwise: T) -> anyhow::Result<T> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().with_context(|| format!("{name}={text}")),
        _ => Ok(otherwise),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run_all().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("FAILED: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing was contradicted.
async fn run_all() -> anyhow::Result<bool> {
    let (requests, records) = (setting("REQUESTS", 100_000)?, setting("RECORDS", 1_000_000)?);
    let weather = Weather {
        faults: Faults::every(setting("RATE", 15)?, Weather::LATE),
        blows: Blows::Every(Duration::try_from_secs_f64(setting("KILL_EVERY", 3.0)?)?),
        seed: setting("SEED", 1)?,
        patience: Duration::from_secs(setting("PATIENCE", 1_200)?),
        is_keeping: true,
    };
    let only: String = setting("ONLY", String::new())?;
    let is_protected = setting("UNPROTECTED", 0_u8)? == 0;
    let of_mode = |mode, count| Work::Requests { mode, count, is_protected };
    let works = [
        of_mode(Mode::Key(Form::Json), requests),
        of_mode(Mode::Sequence, requests),
        of_mode(Mode::Key(Form::Ndjson), requests / 10),
        of_mode(Mode::Key(Form::Raw), requests / 10),
        of_mode(Mode::Key(Form::Batches), requests / 10),
        Work::Records { count: records, is_protected },
    ];
    for work in works {
        if !work.to_string().contains(&only) {
            continue;
        }
        let account = chaos::run(work, weather).await.with_context(|| format!("{work} seed={}", weather.seed))?;
        say(&account.to_string());
        if account.verdict.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[expect(clippy::print_stdout, reason = "this is what whoever runs it reads")]
fn say(line: &str) {
    println!("{line}");
}
