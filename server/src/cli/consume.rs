//! `consume`: a topic's records, from here to there, in the form that is wanted.

use bytes::Bytes;
use futures_util::FutureExt;
use tidegate_types::time::{Clock, SystemClock};

use super::Failure;
use super::record::point::Point;
use super::record::read::{Event, Reader, known, spans};
use super::record::show::{Show, form};
use super::record::span::Range;
use super::record::template::Template;
use super::session::Session;

const EXAMPLES: &str = "\
Examples:
  tidegate consume flights                              all there is now, then ends
  tidegate consume flights --from -10 --follow          the last 10 of each partition, then what comes
  tidegate consume flights --from @2026-11-21T07:00 --until 1h -o ndjson
  tidegate consume flights -p 0 --from 1000 -n 5 -f '%o %k %v\\n'

Places: start, end, 12345 (offset), -100 (before the end), @2026-11-21T07:00 (UTC), @1700000000000, 1h (ago)
Format: %t topic  %p partition  %o offset  %k key  %v value  %h headers  %T timestamp  %K %V lengths
        %k{hex} %v{base64} %v{json} %h{json} %T{rfc3339}   \\n \\t \\0 \\xNN %%";

/// What to consume.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The topic
    #[arg(add = clap_complete::ArgValueCompleter::new(super::completion::topics))]
    topic: String,
    /// Only this partition; may be given several times
    #[arg(short, long = "partition", value_name = "N")]
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
    #[arg(short = 'n', long, value_name = "RECORDS")]
    limit: Option<u64>,
    /// Only records with this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// How each record is written; see below
    #[arg(short, long, value_name = "FORMAT", allow_hyphen_values = true)]
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
    let mut reader = Reader::new(&client, &topic.name, spans, arguments.follow, key);
    copy(&mut reader, session, show, arguments.limit).await
}

/// Shows what `reader` reads, up to so many records; flushes when it has to wait.
pub(super) async fn copy(reader: &mut Reader<'_>, session: &Session, show: &mut Show<'_>, limit: Option<u64>) -> Result<(), Failure> {
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
            Some(Event::Retry(error)) => {
                if !is_retrying {
                    session.output.note(&format!("{error}; trying again"));
                }
                is_retrying = true;
            }
        }
    }
    Ok(())
}
