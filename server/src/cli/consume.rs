//! `consume`: a topic's records, from here to there, in the form that is wanted.

use std::io::IsTerminal;

use bytes::Bytes;
use clap_complete::ArgValueCompleter;
use futures_util::FutureExt;
use tidegate_types::time::{Clock, SystemClock};

use super::record::point::Point;
use super::record::read::{Event, Manner, Reader, known, spans};
use super::record::show::{Show, form};
use super::record::span::Range;
use super::record::template::Template;
use super::record::{parse_partition, parse_records};
use super::session::Session;
use super::{Failure, completion};

const EXAMPLES: &str = "\
Examples:
  tidegate consume flights                              all there is now, then ends
  tidegate consume flights --from -10 --follow          the last 10 of each partition, then what comes
  tidegate consume flights --from @2026-11-21T07:00 --until 1h -o ndjson
  tidegate consume flights -p 0 --from 1000 -n 5 -f '%o %k %v\\n'

Without -f and -o: on a terminal a table, in a pipe or a file the values, one a line.

Places: start, end, 12345 (offset), -100 (before the end), 1h (ago), @2026-11-21T07:00 (UTC), @1700000000000,
        @2026-11-21T07:00+01:00, @2026-11-21T08:00[Europe/Berlin]
Format: %t topic  %p partition  %o offset  %k key  %v value  %h headers  %T timestamp  %K %V lengths
        %k{hex} %v{base64} %v{json} %h{json} %T{rfc3339}   \\n \\t \\0 \\xNN %%";

/// What to consume.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The topic
    #[arg(add = ArgValueCompleter::new(completion::topics))]
    topic: String,
    /// Only this partition; may be given several times
    #[arg(short, long = "partition", value_name = "N", value_parser = parse_partition)]
    partitions: Vec<u32>,
    /// Where to begin
    #[arg(long, value_name = "PLACE", default_value = "start", allow_hyphen_values = true)]
    from: Point,
    /// Where to end; if not given, at the end as it is now
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    until: Option<Point>,
    /// Go on with what comes
    #[arg(long)]
    follow: bool,
    /// So many records at most
    #[arg(short = 'n', long, value_name = "RECORDS", value_parser = parse_records)]
    limit: Option<u64>,
    /// Only records with this key
    #[arg(short, long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,
    /// How each record is written; see below
    #[arg(short, visible_short_alias = 'F', long, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<Template>,
}

/// Does it.
pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let mut show = Show::new(form(&session.output, arguments.format.as_ref())?, &arguments.topic);
    session.block_on_to_end(async {
        let outcome = tokio::select! {
            outcome = consume(arguments, session, &mut show) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        };
        finish(outcome, &mut show)
    })
}

/// Ends what has been begun, so that even half of it can be read; what went wrong first is what is told.
pub(super) fn finish(outcome: Result<(), Failure>, show: &mut Show<'_>) -> Result<(), Failure> {
    match outcome {
        // Nothing was begun: an error needs no empty array before it.
        Err(failure) if show.written() == 0 && !matches!(failure, Failure::Interrupted) => Err(failure),
        outcome => {
            let ended = show.end();
            outcome.and(ended)
        }
    }
}

async fn consume(arguments: &Arguments, session: &Session, show: &mut Show<'_>) -> Result<(), Failure> {
    let client = session.client()?;
    let topic = session.watched(client.describe_topic(&arguments.topic)).await?;
    let known = known(&topic, &arguments.partitions)?;
    let range = Range { from: arguments.from, until: arguments.until, follow: arguments.follow };
    let now = SystemClock::new().wall().millis();
    let spans = spans(&client, &topic.name, &known, &range, now).await?;
    let key = arguments.key.as_ref().map(|key| Bytes::copy_from_slice(key.as_bytes()));
    // With a key, nobody knows how much has to be read for so many records.
    let limit = arguments.limit.filter(|_| key.is_none());
    let manner = Manner { follow: arguments.follow, key, limit, timeout: session.timeout() };
    let mut reader = Reader::open(&client, &topic.name, &spans, manner).await?;
    copy(&mut reader, session, show, arguments.limit).await?;
    // A program sees that nothing came; a person wonders.
    if show.written() == 0 && arguments.limit != Some(0) && std::io::stderr().is_terminal() {
        let is_empty = known.iter().all(|partition| partition.earliest == partition.latest);
        session.output.note(if is_empty { "no records: there are none in the topic" } else { "no records there" });
    }
    Ok(())
}

/// What may be meant by arguments that clap refuses: `-f` is the format for whoever comes from kcat, and --follow for whoever comes from tail.
pub(super) fn tip(words: &[&str], kind: clap::error::ErrorKind) -> Option<&'static str> {
    use clap::error::ErrorKind::{InvalidValue, MissingRequiredArgument, UnknownArgument};
    let has = |word: &str| words.contains(&word);
    match kind {
        InvalidValue | MissingRequiredArgument | UnknownArgument
            if has("-f") && has("consume") && !words.iter().any(|word| word.contains('%')) =>
        {
            Some("-f is the format of each record (-f '%k %v\\n'); to go on with what comes, say --follow")
        }
        UnknownArgument if has("-f") && has("tail") && words.iter().any(|word| word.contains('%')) => {
            Some("-f is --follow here, as with every tail; the format of each record is -F")
        }
        _ => None,
    }
}

/// Shows what `reader` reads, up to so many records; flushes when it has to wait.
pub(super) async fn copy(reader: &mut Reader, session: &Session, show: &mut Show<'_>, limit: Option<u64>) -> Result<(), Failure> {
    let is_enough = |show: &Show<'_>| limit.is_some_and(|limit| show.written() >= limit);
    let mut is_retrying = false;
    while !is_enough(show) {
        let event = match reader.next().now_or_never() {
            Some(event) => event?,
            None => {
                show.flush()?;
                reader.next().await?
            }
        };
        match event {
            None => break,
            Some(Event::Page(page)) => {
                is_retrying = false;
                for record in &page.records {
                    if is_enough(show) {
                        break;
                    }
                    show.record(record)?;
                }
            }
            Some(Event::Retry(reason)) => {
                if !is_retrying {
                    session.output.note(&format!("{reason}; trying again"));
                }
                is_retrying = true;
            }
        }
    }
    Ok(())
}
