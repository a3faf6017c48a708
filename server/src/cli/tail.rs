//! `tail`: the last records of a whole topic, in the order of their times, then what comes.

use std::collections::VecDeque;

use clap_complete::ArgValueCompleter;
use tidegate_client::{Client, Record};

use super::consume::{copy, finish};
use super::record::read::{Event, Manner, Reader, known};
use super::record::show::{Show, form};
use super::record::span::{Known, Span};
use super::record::template::Template;
use super::record::{count, parse_partition, parse_records};
use super::session::Session;
use super::{Failure, completion};

/// More than anybody looks at; what is more is `consume --from -N`.
const RECORDS_MAX: u64 = 100_000;

const EXAMPLES: &str = "\
Examples:
  tidegate tail flights               the last 10
  tidegate tail flights -n 100 -f     the last 100, then what comes, until Ctrl-C
  tidegate tail flights -n 0 -f -F '%T{rfc3339} %k\\n'

Without -F and -o: on a terminal a table, in a pipe or a file the values, one a line.
For the letters of a format: tidegate consume --help";

/// What to tail.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The topic
    #[arg(add = ArgValueCompleter::new(completion::topics))]
    topic: String,
    /// Only this partition; may be given several times
    #[arg(short, long = "partition", value_name = "N", value_parser = parse_partition)]
    partitions: Vec<u32>,
    /// The last so many records of the topic
    #[arg(short = 'n', long, value_name = "RECORDS", default_value_t = 10, value_parser = parse_lines)]
    lines: u64,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// How each record is written
    #[arg(short = 'F', long, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<Template>,
}

fn parse_lines(text: &str) -> Result<u64, String> {
    let lines = parse_records(text)?;
    let too_many = || format!("it shows {} at most: for more, consume --from -{text}", count(RECORDS_MAX));
    Some(lines).filter(|lines| *lines <= RECORDS_MAX).ok_or_else(too_many)
}

/// Does it.
pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<(), Failure> {
    let mut show = Show::new(form(&session.output, arguments.format.as_ref())?, &arguments.topic);
    session.block_on_to_end(async {
        let outcome = tokio::select! {
            outcome = tail(arguments, session, &mut show) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        };
        finish(outcome, &mut show)
    })
}

async fn tail(arguments: &Arguments, session: &Session, show: &mut Show<'_>) -> Result<(), Failure> {
    let client = session.client()?;
    let topic = session.watched(client.describe_topic(&arguments.topic)).await?;
    let known = known(&topic, &arguments.partitions)?;
    let manner = Manner { limit: Some(arguments.lines), timeout: session.timeout(), ..Manner::default() };
    for record in &last(arguments.lines, &client, &topic.name, &known, manner.clone()).await? {
        show.record(record)?;
    }
    if arguments.follow {
        let spans: Vec<_> = known.iter().map(|k| Span { partition: k.partition, next: k.latest, end: None, end_time: None }).collect();
        let manner = Manner { follow: true, limit: None, ..manner };
        copy(&mut Reader::open(&client, &topic.name, &spans, manner).await?, session, show, None).await?;
    }
    Ok(())
}

/// The last so many of all partitions. One partition's are held beside the last ones of those before it.
async fn last(lines: u64, client: &Client, topic: &str, known: &[Known], manner: Manner) -> Result<VecDeque<Record>, Failure> {
    let spans: Vec<_> = known.iter().filter(|_| lines > 0).map(|known| last_of(*known, lines)).collect();
    let count = usize::try_from(lines).unwrap_or(usize::MAX);
    let mut reader = Reader::open(client, topic, &spans, manner).await?;
    let (mut last, mut records, mut partition) = (VecDeque::new(), VecDeque::new(), None);
    while let Some(event) = reader.next().await? {
        let Event::Page(page) = event else { continue };
        if partition.replace(page.partition).is_some_and(|before| before != page.partition) {
            last = merge(last, std::mem::take(&mut records), count);
        }
        records.extend(page.records);
    }
    Ok(merge(last, records, count))
}

fn last_of(known: Known, records: u64) -> Span {
    let next = known.latest.saturating_sub(records).max(known.earliest);
    Span { partition: known.partition, next, end: Some(known.latest), end_time: None }
}

/// The last `count` of both, by time, each in its own order. It goes from the end, so that what is old is never held.
fn merge(mut left: VecDeque<Record>, mut right: VecDeque<Record>, count: usize) -> VecDeque<Record> {
    let mut merged = VecDeque::new();
    while merged.len() < count {
        let takes_right = match (left.back(), right.back()) {
            (Some(left), Some(right)) => right.timestamp >= left.timestamp,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (None, None) => break,
        };
        let newest = if takes_right { right.pop_back() } else { left.pop_back() };
        newest.into_iter().for_each(|record| merged.push_front(record));
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_client::Value;

    use super::*;

    fn partition(partition: u32, timestamps: &[i64]) -> VecDeque<Record> {
        let record = |(offset, timestamp): (u64, &i64)| Record {
            partition,
            offset,
            timestamp: *timestamp,
            key: None,
            value: Value::Tombstone,
            headers: Vec::new(),
        };
        (0..).zip(timestamps).map(record).collect()
    }

    fn places(records: &VecDeque<Record>) -> Vec<(u32, u64)> {
        records.iter().map(|r| (r.partition, r.offset)).collect()
    }

    /// A promise: the last ones of all partitions come in the order of their times.
    #[test]
    fn by_time() {
        let merged = merge(partition(0, &[1, 4, 5]), partition(1, &[2, 3, 6]), 4);
        assert_eq!(places(&merged), [(1, 1), (0, 1), (0, 2), (1, 2)]);
        assert_eq!(places(&merge(VecDeque::new(), partition(1, &[2, 3]), 1)), [(1, 1)]);
        assert!(merge(partition(0, &[1]), partition(1, &[2]), 0).is_empty());
    }

    proptest! {
        /// A promise: each partition's records keep their order, whatever their times, and none is missing in the middle.
        #[test]
        fn offsets_stay_in_order(left in prop::collection::vec(0_i64..9, 0..9), right in prop::collection::vec(0_i64..9, 0..9), count in 0_usize..20) {
            let merged = merge(partition(0, &left), partition(1, &right), count);
            prop_assert_eq!(merged.len(), count.min(left.len() + right.len()));
            for (partition, timestamps) in [(0, &left), (1, &right)] {
                let offsets: Vec<usize> = merged.iter().filter(|r| r.partition == partition).map(|r| usize::try_from(r.offset).unwrap()).collect();
                prop_assert_eq!(&offsets, &(timestamps.len() - offsets.len()..timestamps.len()).collect::<Vec<_>>());
            }
        }
    }
}
