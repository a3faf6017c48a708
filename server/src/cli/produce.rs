//! `produce`: records out of lines, JSON, CSV or a whole file into a topic; and an exact account of what is in, whatever happens half-way.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_client::{Client, Error, NewRecord, ProduceOptions, TopicDescription};
use tidegate_types::SideEffects;
use tidegate_types::time::{Clock, SystemClock};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use super::output::Format;
use super::record::feed::{self, Chunk, Chunks, Source};
use super::record::input::Bound;
use super::record::ledger::{Ledger, Position};
use super::record::progress::Progress;
use super::record::read::require_partitions;
use super::record::split::InputError;
use super::session::Session;

mod arguments;
mod round;

pub(super) use arguments::Arguments;
use arguments::Plan;
use round::{NotIn, Outcome, Round, Sending};

/// How long what was sent may take to be acknowledged after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does it.
pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let plan = arguments.plan()?;
    session.block_on_to_end(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let client = session.client()?;
        let topic = tokio::select! {
            topic = session.watched(client.describe_topic(&arguments.topic)) => topic?,
            _ = interrupt.recv() => return Err(Failure::Interrupted),
        };
        require_partitions(&topic, plan.additions.partition.as_slice())?;
        Box::pin(produce(arguments, plan, session, &client, &topic, &mut interrupt)).await
    })
}

async fn produce(
    arguments: &Arguments,
    plan: Plan,
    session: &Session,
    client: &Client,
    topic: &TopicDescription,
    interrupt: &mut Signal,
) -> Result<(), Failure> {
    let clock = SystemClock::new();
    let (input, length) = input(plan, arguments.from_line, session, topic)?;
    let is_interactive = length.is_none() && std::io::stdin().is_terminal();
    let show = match session.output.format() {
        Format::Ndjson => Positions::Json,
        Format::Table | Format::Wide | Format::Name if is_interactive => Positions::Text,
        Format::Table | Format::Wide | Format::Name | Format::Json | Format::Yaml => Positions::None,
    };
    let partition_count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX).max(1);
    // Records without a key begin anywhere, or short inputs would all meet in one partition.
    let sticky = u32::try_from(clock.wall().millis() % 1_000_003).unwrap_or_default();
    let options = ProduceOptions { acks: arguments.acks(), timeout: None };
    let mut work = Work {
        session,
        sending: Sending { client, topic: &topic.name, codec: arguments.codec(), options },
        clock,
        linger: arguments.linger,
        progress: Progress::new(length, session.output.notes_are_wanted() && !is_interactive),
        show,
        ledger: Ledger::default(),
        round: Round::new(partition_count, arguments.batch_bytes, sticky),
        failed: None,
    };
    let started = Instant::now();
    let end = work.send_all(input, interrupt).await;
    work.report(end, started.elapsed())
}

fn input(mut plan: Plan, from_line: u64, session: &Session, topic: &TopicDescription) -> Result<(Input, Option<u64>), Failure> {
    if let Some(record) = plan.only.take() {
        return Ok((Input::Only(Some(Box::new(record))), Some(0)));
    }
    let source = plan.source()?;
    let length = source.length();
    if matches!(source, Source::Stdin) && std::io::stdin().is_terminal() {
        session.output.note("one record a line; Ctrl-D ends");
    }
    let chunks = feed::start(source, plan.form, plan.additions, bound(topic), from_line)?;
    Ok((Input::Chunks(chunks), length))
}

/// What a record of the topic may be at most.
fn bound(topic: &TopicDescription) -> Bound {
    let bytes = topic.config.get("max.message.bytes").and_then(|entry| entry.value.parse().ok());
    Bound::of_batches(bytes.unwrap_or(tidegate_types::limits::BATCH_BYTES_DEFAULT))
}

/// Where records come from.
enum Input {
    Chunks(Chunks),
    /// One record that the flags make.
    Only(Option<Box<NewRecord>>),
}

impl Input {
    /// Some more of them; `None` at the end.
    async fn next(&mut self) -> Option<Result<Chunk, InputError>> {
        match self {
            Self::Chunks(chunks) => chunks.recv().await,
            Self::Only(record) => record.take().map(|record| Ok(Chunk { records: vec![(1, *record)], bytes: 0 })),
        }
    }
}

/// Whether each record's position is shown as it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Positions {
    None,
    Text,
    Json,
}

/// Why no more is sent.
#[derive(Debug)]
enum End {
    /// The input has ended.
    Whole,
    /// The input is no good from there on.
    BadInput(InputError),
    /// A record is not in.
    Failed,
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads the positions any more.
    OutputClosed,
}

struct Work<'w> {
    session: &'w Session,
    sending: Sending<'w>,
    clock: SystemClock,
    linger: Duration,
    progress: Progress,
    show: Positions,
    ledger: Ledger,
    round: Round,
    /// The first failure, in the order of the lines.
    failed: Option<Arc<Error>>,
}

impl Work<'_> {
    /// Gathers records into rounds and sends them one after the other. What was gathered is sent, whatever ends the input.
    async fn send_all(&mut self, mut input: Input, interrupt: &mut Signal) -> End {
        let mut rest = Vec::new().into_iter();
        let mut deadline = tokio::time::Instant::now();
        loop {
            while !self.round.is_full() {
                let Some((line, record)) = rest.next() else { break };
                if let Err(reason) = self.round.push(line, record, self.clock.wall().millis()) {
                    return self.send_last(End::BadInput(InputError::new(line, reason)), interrupt).await;
                }
            }
            if self.round.is_full() {
                if let Err(end) = self.send(interrupt).await {
                    return end;
                }
                deadline = tokio::time::Instant::now() + self.linger;
                continue;
            }
            let is_first = self.round.is_empty();
            tokio::select! {
                biased;
                _ = interrupt.recv() => return self.send_last(End::Interrupted, interrupt).await,
                chunk = input.next() => match chunk {
                    None => return self.send_last(End::Whole, interrupt).await,
                    Some(Err(error)) => return self.send_last(End::BadInput(error), interrupt).await,
                    Some(Ok(Chunk { records, bytes })) => {
                        self.progress.read(bytes, self.ledger.records());
                        rest = records.into_iter();
                        if is_first {
                            deadline = tokio::time::Instant::now() + self.linger;
                        }
                    }
                },
                () = tokio::time::sleep_until(deadline), if !is_first => {
                    if let Err(end) = self.send(interrupt).await {
                        return end;
                    }
                }
            }
        }
    }

    async fn send_last(&mut self, end: End, interrupt: &mut Signal) -> End {
        if self.round.is_empty() {
            return end;
        }
        if !matches!(end, End::Interrupted) {
            return self.send(interrupt).await.err().unwrap_or(end);
        }
        let round = self.round.take();
        self.send_within_patience(round, interrupt).await.err().unwrap_or(end)
    }

    /// Sends the round; Ctrl-C ends it soon.
    async fn send(&mut self, interrupt: &mut Signal) -> Result<(), End> {
        let round = self.round.take();
        let lines = round.lines();
        let sending = self.sending;
        let mut sent = std::pin::pin!(sending.send(round));
        let outcomes = tokio::select! {
            biased;
            outcomes = &mut sent => outcomes,
            _ = interrupt.recv() => {
                let outcomes = patiently(sent, interrupt).await;
                self.note_or_doubt(outcomes, &lines)?;
                return Err(End::Interrupted);
            }
        };
        self.note(outcomes)
    }

    async fn send_within_patience(&mut self, round: Round, interrupt: &mut Signal) -> Result<(), End> {
        let lines = round.lines();
        let sending = self.sending;
        let outcomes = patiently(sending.send(round), interrupt).await;
        self.note_or_doubt(outcomes, &lines)
    }

    fn note_or_doubt(&mut self, outcomes: Option<Vec<Outcome>>, lines: &[u64]) -> Result<(), End> {
        match outcomes {
            Some(outcomes) => self.note(outcomes),
            None => {
                lines.iter().for_each(|line| self.ledger.failed(*line, SideEffects::Possible));
                Ok(())
            }
        }
    }

    fn note(&mut self, outcomes: Vec<Outcome>) -> Result<(), End> {
        let mut positions = String::new();
        let mut is_failed = false;
        for (line, outcome) in outcomes {
            match outcome {
                Ok(position) => {
                    self.ledger.acknowledged(line, &position);
                    self.put_position(&mut positions, &position);
                }
                Err(not_in) => {
                    is_failed = true;
                    self.ledger.failed(line, not_in.side_effects());
                    if let NotIn::Failed(error) = not_in {
                        self.failed.get_or_insert(error);
                    }
                }
            }
        }
        self.session.output.text(&positions).map_err(|_| End::OutputClosed)?;
        if is_failed { Err(End::Failed) } else { Ok(()) }
    }

    fn put_position(&self, text: &mut String, position: &Position) {
        match (self.show, position.offset) {
            (Positions::None, _) => {}
            (Positions::Json, _) => text.push_str(&(serde_json::to_string(position).unwrap_or_default() + "\n")),
            (Positions::Text, Some(offset)) => text.push_str(&format!("partition {}, offset {offset}\n", position.partition)),
            (Positions::Text, None) => text.push_str(&format!("partition {}, not acknowledged\n", position.partition)),
        }
    }

    fn report(&self, end: End, elapsed: Duration) -> Result<(), Failure> {
        self.progress.end();
        let output = &self.session.output;
        let summary = self.ledger.summary(self.sending.topic, elapsed);
        let shown =
            if matches!(output.format(), Format::Json | Format::Yaml) { output.result(&summary, |_| String::new()) } else { Ok(()) };
        match end {
            End::Whole => {
                output.note(&self.ledger.sentence(elapsed));
                shown
            }
            End::Failed => Err(self.failure()),
            End::BadInput(error) => Err(Failure::Local(format!("line {}: {}\n  {}", error.line, error.reason, self.ledger.account()))),
            End::Interrupted => {
                output.note(&format!("interrupted: {}", self.ledger.account()));
                Err(Failure::Interrupted)
            }
            End::OutputClosed => {
                output.note(&self.ledger.account());
                Err(Failure::OutputClosed)
            }
        }
    }

    /// The failure of a record, of the kind that its cause has, with the account of all.
    fn failure(&self) -> Failure {
        let line = self.ledger.first_failed_line().unwrap_or_default();
        let account = format!("{}; line {line} begins the first that is not", self.ledger.account());
        match self.failed.as_deref() {
            Some(Error::Input(reason)) => Failure::Local(format!("line {line}: {reason}\n  {}", self.ledger.account())),
            Some(error) => Failure::Advised(copy(error), account),
            None => Failure::Local(account),
        }
    }
}

/// What `work` comes to, if that does not take long and nobody presses Ctrl-C again.
async fn patiently<T>(work: impl Future<Output = T>, interrupt: &mut Signal) -> Option<T> {
    tokio::select! {
        outcome = work => Some(outcome),
        () = tokio::time::sleep(PATIENCE) => None,
        _ = interrupt.recv() => None,
    }
}

/// The same error again: records of one batch share theirs.
fn copy(error: &Error) -> Error {
    match error {
        Error::Address { address, reason } => Error::Address { address: address.clone(), reason: reason.clone() },
        Error::Input(reason) => Error::Input(reason.clone()),
        Error::Connect { addresses, reason } => Error::Connect { addresses: addresses.clone(), reason: reason.clone() },
        Error::Timeout(after) => Error::Timeout(*after),
        Error::Broken(reason) => Error::Broken(reason.clone()),
        Error::Problem(problem) => Error::Problem(problem.clone()),
        Error::Answer { call, reason } => Error::Answer { call: call.clone(), reason: reason.clone() },
    }
}
