//! `produce`: records out of lines, JSON, CSV or a whole file into a topic; and an exact account of what is in, whatever happens half-way.
//!
//! ```text
//!   input ──(a thread, at most four chunks ahead)──> work ──> the client's producer ──> each partition's leader
//!                                                      └── deliveries, in the order of the lines ──> ledger, positions
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`arguments`] | what flags mean together |
//! | [`sender`] | the client's producer, told to write nothing twice, on a runtime that can be cut off |
//! | [`work`] | records in, deliveries out, until something ends it |
//! | [`quiet`] | when to say that the node does not answer |
//! | [`report`] | the account, and the exit code that goes with it |

use std::io::IsTerminal;
use std::time::Instant;

use tidegate_client::{Client, NewRecord, TopicDescription};

use super::Failure;
use super::output::Format;
use super::record::feed::{self, Chunk, Chunks};
use super::record::input::Bound;
use super::record::progress::Progress;
use super::record::read::require_partitions;
use super::record::split::InputError;
use super::session::Session;

mod arguments;
mod quiet;
mod report;
mod sender;
mod work;

use super::signals::Signals;
pub(super) use arguments::Arguments;
use arguments::Plan;
use report::Report;
use sender::Sender;
use work::Work;

/// Does it.
pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let plan = arguments.plan()?;
    session.block_on_to_end(async {
        let mut signals = Signals::listen()?;
        let client = session.client()?;
        let topic = tokio::select! {
            topic = session.watched(client.describe_topic(&arguments.topic)) => topic?,
            stop = signals.next() => return Err(stop.failure()),
        };
        require_partitions(&topic, plan.additions.partition.as_slice())?;
        Box::pin(produce(arguments, plan, session, &client, &topic, &mut signals)).await
    })
}

async fn produce(
    arguments: &Arguments,
    plan: Plan,
    session: &Session,
    client: &Client,
    topic: &TopicDescription,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let sender = Sender::start(arguments, client, topic, session.timeout())?;
    let is_typed = plan.only.is_none() && plan.is_stdin() && std::io::stdin().is_terminal();
    // What somebody types cannot be given again from a line on.
    let can_resume = plan.only.is_none() && plan.form.is_by_lines() && !is_typed;
    let (input, length) = input(plan, arguments.from_line, is_typed, session, topic)?;
    let show = match session.output.format() {
        Format::Ndjson => Positions::Json,
        Format::Table | Format::Wide | Format::Name if is_typed => Positions::Text,
        Format::Table | Format::Wide | Format::Name | Format::Json | Format::Yaml => Positions::None,
    };
    let progress = Progress::new(length, session.output.notes_are_wanted() && !is_typed);
    let started = Instant::now();
    let mut work = Work::new(session, sender, progress, show);
    let end = work.run(input, signals).await;
    let (ledger, failed) = work.end();
    Report { session, topic: &topic.name, from_line: arguments.from_line, can_resume, ledger, failed, elapsed: started.elapsed() }.of(end)
}

fn input(
    mut plan: Plan,
    from_line: u64,
    is_typed: bool,
    session: &Session,
    topic: &TopicDescription,
) -> Result<(Input, Option<u64>), Failure> {
    if let Some(record) = plan.only.take() {
        return Ok((Input::Only(Some(Box::new(record))), Some(0)));
    }
    let source = plan.source()?;
    let length = source.length();
    if is_typed {
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
