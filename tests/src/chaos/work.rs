//! The clients: a program in plain Python that keeps to the contract, and our own producer. Neither knows more than what it is told by answers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use tidegate_client::{Client, Delivery, NewRecord, Producer};
use tokio::task::JoinHandle;

use super::deaths::Scene;
use super::{PARTITIONS, TOPIC, Weather};
use crate::ledger::{Contradiction, Ledger, Number, Place, Report};
use crate::oracle;

/// What makes a call safe to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `Idempotency-Key`.
    Key(Form),
    /// `Producer-Id`, `-Epoch` and `-Seq`.
    Sequence,
}

/// How records stand in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One to five in an envelope.
    Json,
    /// A line each; now and then thousands.
    Ndjson,
    /// One, as it is.
    Raw,
    /// Kafka's own batches, one or two.
    Batches,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// So many requests by `tests/clients/exactly_once.py`.
    Requests {
        /// What protects them.
        mode: Mode,
        /// How many.
        count: u64,
        /// Whether they are protected at all; if not, something must be there twice.
        is_protected: bool,
    },
    /// So many records by our producer.
    Records {
        /// How many.
        count: u64,
        /// Whether it is idempotent, as it is by itself.
        is_protected: bool,
    },
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests { mode, count, is_protected } => {
                let (mode, form) = names(*mode);
                write!(f, "mode={mode} form={form} requests={count}{}", if *is_protected { "" } else { " UNPROTECTED" })
            }
            Self::Records { count, is_protected } => {
                write!(f, "mode=producer records={count}{}", if *is_protected { "" } else { " UNPROTECTED" })
            }
        }
    }
}

const fn names(mode: Mode) -> (&'static str, &'static str) {
    match mode {
        Mode::Key(Form::Json) => ("key", "json"),
        Mode::Key(Form::Ndjson) => ("key", "ndjson"),
        Mode::Key(Form::Raw) => ("key", "raw"),
        Mode::Key(Form::Batches) => ("key", "batches"),
        Mode::Sequence => ("sequence", "json"),
    }
}

/// What a client was told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) ledger: Result<Ledger, Contradiction>,
    pub(super) counts: BTreeMap<String, u64>,
}

/// Python's writers, each with connections of its own.
const WRITERS: u32 = 24;

impl Work {
    pub(super) fn begin(self, scene: &Scene, weather: Weather) -> anyhow::Result<JoinHandle<anyhow::Result<Told>>> {
        let url = scene.proxy().url();
        Ok(match self {
            Self::Requests { mode, count, is_protected } => {
                let folder = tempfile::tempdir()?;
                let report = folder.path().join("report.json");
                let (mode, form) = names(mode);
                let mut command = Command::new(oracle::program("python")?);
                command.arg(oracle::root().join("tests/clients/exactly_once.py")).args([&url, TOPIC, "--mode", mode, "--form", form]);
                let seconds = [("--timeout", Weather::TIMEOUT), ("--seconds", weather.patience)]
                    .map(|(name, time)| [name.to_owned(), time.as_secs_f64().to_string()]);
                let numbers =
                    [("--requests", count), ("--writers", WRITERS.into()), ("--partitions", PARTITIONS.into()), ("--seed", weather.seed)];
                let numbers = numbers.map(|(name, number)| [name.to_owned(), number.to_string()]);
                command.args(seconds.as_flattened()).args(numbers.as_flattened());
                command.arg("--bind").arg(scene.node()?.url()).arg("--report").arg(&report);
                if !is_protected {
                    command.arg("--no-protection");
                }
                tokio::task::spawn_blocking(move || {
                    let output = command.output()?;
                    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                    ensure!(matches!(output.status.code(), Some(0 | 1)), "{}: {said}\n{complaint}", output.status);
                    let report: Report = serde_json::from_slice(&std::fs::read(&report).with_context(|| complaint.into_owned())?)?;
                    drop(folder);
                    let ledger = match &report.contradiction {
                        Some(contradiction) => Err(Contradiction(contradiction.clone())),
                        None => Ledger::from_report(&report),
                    };
                    Ok(Told { ledger, counts: report.counts })
                })
            }
            Self::Records { count, is_protected } => tokio::spawn(async move { send(&url, count, is_protected, weather.patience).await }),
        })
    }
}

/// So many records are on their way at the same time, at most.
const OPEN: usize = 20_000;
/// Keys; a key's records go to one partition.
const KEYS: u64 = 1_000;

/// One writer's records by our producer, five requests under way for a partition.
async fn send(url: &str, count: u64, is_protected: bool, patience: Duration) -> anyhow::Result<Told> {
    let producer = Client::new(url)?.producer();
    // Without being told to.
    let producer = if is_protected { producer } else { producer.idempotent(false) };
    let producer = producer
        .max_in_flight(5)
        .batch_bytes(4 << 10)
        .request_timeout(Weather::TIMEOUT)
        .delivery_timeout(patience)
        .max_block(patience)
        .retry_backoff(Duration::from_millis(2))
        .retry_backoff_max(Duration::from_millis(100))
        .build()?;
    let ledger = send_all(&producer, count).await;
    let closed = producer.close().await;
    let metrics = producer.metrics();
    let counts = [
        ("requests", metrics.requests),
        ("retries", metrics.retries),
        ("batches", metrics.batches),
        ("acknowledged", metrics.acknowledged_records),
    ];
    let counts = counts.map(|(name, count)| (name.to_owned(), count)).into();
    let ledger = ledger.and_then(|ledger| closed.map(|()| ledger).map_err(|error| Contradiction(format!("closing: {error}"))));
    Ok(Told { ledger, counts })
}

async fn send_all(producer: &Producer, count: u64) -> Result<Ledger, Contradiction> {
    let mut ledger = Ledger::new(&[count]);
    let mut open = VecDeque::new();
    for number in 0..count {
        if open.len() == OPEN
            && let Some((number, delivery)) = open.pop_front()
        {
            hear(&mut ledger, number, delivery).await?;
        }
        let record = NewRecord::bytes(format!(r#"{{"w":0,"n":{number}}}"#)).key(format!("k{}", number % KEYS));
        let delivery =
            producer.send(TOPIC, record).await.map_err(|error| Contradiction(format!("record {number} is not taken: {error}")))?;
        open.push_back((number, delivery));
    }
    for (number, delivery) in open {
        hear(&mut ledger, number, delivery).await?;
    }
    Ok(ledger)
}

async fn hear(ledger: &mut Ledger, number: u64, delivery: Delivery) -> Result<(), Contradiction> {
    match delivery.await {
        Ok(position) => {
            let place = Place { partition: position.partition, offset: position.offset };
            ledger.acknowledge(Number { writer: 0, number }, Some(place))
        }
        Err(error) => Err(Contradiction(format!("record {number} is not delivered: {error}"))),
    }
}
