//! `find`: the records of one key. Its hash says in which partition they are, so that only this one is read.

use std::collections::BTreeMap;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use clap_complete::ArgValueCompleter;
use tidegate_types::partitioner::partition_for_key;
use tidegate_types::time::{Clock, SystemClock};

use super::consume::finish;
use super::record::point::Point;
use super::record::read::{Event, Manner, Reader, known, spans};
use super::record::show::{Show, form};
use super::record::span::Range;
use super::record::template::Template;
use super::record::{count, parse_some_records, records};
use super::session::Session;
use super::time::took;
use super::{Failure, completion};

const EXAMPLES: &str = "\
Examples:
  tidegate find flights --key N14228              all records of that key
  tidegate find flights --key N14228 --latest     the newest one
  tidegate find flights --key N14228 --all-partitions --from 1d

Without -f and -o: on a terminal a table, in a pipe or a file the values, one a line.
Exit code 3: there is none. For the letters of a format: tidegate consume --help";

/// What to find.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["key", "key_base64"])))]
pub(super) struct Arguments {
    /// The topic
    #[arg(add = ArgValueCompleter::new(completion::topics))]
    topic: String,
    /// The key, as text
    #[arg(short, long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,
    /// The key, in base64
    #[arg(long, value_name = "BASE64")]
    key_base64: Option<String>,
    /// Read all partitions, not only the one that the key's hash leads to
    #[arg(long)]
    all_partitions: bool,
    /// Only the newest one
    #[arg(long, conflicts_with = "limit")]
    latest: bool,
    /// So many records at most, the oldest first
    #[arg(short = 'n', long, value_name = "RECORDS", value_parser = parse_some_records)]
    limit: Option<u64>,
    /// Where to begin
    #[arg(long, value_name = "PLACE", default_value = "start", allow_hyphen_values = true)]
    from: Point,
    /// Where to end; if not given, at the end as it is now
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    until: Option<Point>,
    /// How each record is written
    #[arg(short, visible_short_alias = 'F', long, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<Template>,
}

/// Does it.
pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let key = match (&arguments.key, &arguments.key_base64) {
        (_, Some(base64)) => BASE64.decode(base64).map_err(|_| Failure::Usage(no_base64(base64)))?,
        (text, None) => text.clone().unwrap_or_default().into_bytes(),
    };
    let mut show = Show::new(form(&session.output, arguments.format.as_ref())?, &arguments.topic);
    session.block_on_to_end(async {
        let outcome = tokio::select! {
            outcome = find(arguments, key.into(), session, &mut show) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        };
        finish(outcome, &mut show)
    })
}

fn no_base64(text: &str) -> String {
    format!("--key-base64 '{text}' is no base64: it is made of A-Z, a-z, 0-9, + and /, filled up with = to a multiple of 4")
}

async fn find(arguments: &Arguments, key: Bytes, session: &Session, show: &mut Show<'_>) -> Result<(), Failure> {
    let started = Instant::now();
    let client = session.client()?;
    let topic = session.watched(client.describe_topic(&arguments.topic)).await?;
    let partition_count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX).max(1);
    let home = partition_for_key(&key, partition_count).get();
    let wanted = if arguments.all_partitions { Vec::new() } else { vec![home] };
    let range = Range { from: arguments.from, until: arguments.until, follow: false };
    let now = SystemClock::new().wall().millis();
    let spans = spans(&client, &topic.name, &known(&topic, &wanted)?, &range, now).await?;

    let manner = Manner { key: Some(key), timeout: session.timeout(), ..Manner::default() };
    let mut reader = Reader::open(&client, &topic.name, &spans, manner).await?;
    let (mut scanned, mut latest, mut elsewhere) = (0_u64, BTreeMap::new(), 0_u64);
    let limit = arguments.limit.unwrap_or(u64::MAX);
    'scan: while let Some(event) = reader.next().await? {
        let Event::Page(page) = event else { continue };
        scanned += page.scanned;
        for record in page.records {
            elsewhere += u64::from(record.partition != home);
            if arguments.latest {
                latest.insert(record.partition, record);
            } else {
                show.record(&record)?;
            }
            if show.written() >= limit {
                break 'scan;
            }
        }
    }
    // Within a partition the offset says which is newer; between partitions only the time can.
    if let Some(record) = latest.values().max_by_key(|record| record.timestamp) {
        show.record(record)?;
    }
    show.flush()?;
    let place =
        if arguments.all_partitions { format!("all {} partitions", count(partition_count.into())) } else { format!("partition {home}") };
    let looked = format!("{} of {place} read in {}", records(scanned), took(started.elapsed()));
    if show.written() == 0 {
        let advice = if arguments.all_partitions || partition_count == 1 {
            String::new()
        } else {
            "; it may have been produced by another partitioner, or when the topic had fewer partitions: --all-partitions looks everywhere"
                .to_owned()
        };
        return Err(Failure::NotFound(format!("no record has this key: {looked}{advice}")));
    }
    let other =
        if elsewhere > 0 { format!("; {} outside partition {home}, where its hash leads", records(elsewhere)) } else { String::new() };
    session.output.note(&format!("{} found: {looked}{other}", records(show.written())));
    Ok(())
}
