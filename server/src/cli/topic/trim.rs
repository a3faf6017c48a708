//! `topic trim`: deletes records before an offset or a time, partition by partition; a plan until `--yes` is said.

use std::str::FromStr;

use serde::Serialize;
use tidegate_client::{At, Client, TopicDescription};
use tidegate_types::Clock;
use tidegate_types::time::SystemClock;

use super::super::Failure;
use super::super::output::{Field, Output, Tone, styled_table};
use super::super::record::point::Point;
use super::TopicName;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate topic trim orders --before @2026-11-01\n  tidegate topic trim orders --partition 3 --before 84194 --yes"
)]
pub(in super::super) struct TrimArguments {
    #[command(flatten)]
    name: TopicName,
    /// The first record to keep: an offset, or the first of a time (@2026-11-21T07:00, @MILLISECONDS, @1h for an hour ago)
    #[arg(long, value_name = "OFFSET|@TIME")]
    before: Before,
    /// Only this partition; may be given several times
    #[arg(short, long, value_name = "N")]
    partition: Vec<u32>,
    /// Do it
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Offset(u64),
    Time(i64),
}

impl FromStr for Before {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "an offset such as 84194, or @ and a time such as @2026-11-21T07:00 is wanted".to_owned();
        match text.parse::<Point>() {
            Ok(Point::Offset(offset)) => Ok(Self::Offset(offset)),
            Ok(point) => point.time(SystemClock::new().wall().millis()).map(Self::Time).ok_or_else(wanted),
            Err(reason) => Err(if text.starts_with(|c: char| c == '@' || c.is_ascii_digit()) { reason } else { wanted() }),
        }
    }
}

/// What happens to one partition.
#[derive(Debug, Serialize)]
struct Trimmed {
    partition: u32,
    /// The earliest offset before.
    earliest_offset: u64,
    /// The earliest offset then.
    before_offset: u64,
    /// Records that go, at most.
    records: u64,
    applied: bool,
}

pub(super) async fn trim(client: &Client, arguments: &TrimArguments, output: &Output) -> Result<(), Failure> {
    let topic = client.describe_topic(&arguments.name.topic).await?;
    let mut plan = plan(client, &topic, arguments).await?;
    let goes = plan.iter().any(|one| one.records > 0);
    if !arguments.yes || !goes {
        show(&topic.name, &plan, output)?;
        return if goes { Err(Failure::Unconfirmed("nothing was deleted: say --yes to do it".to_owned())) } else { Ok(()) };
    }
    for place in 0..plan.len() {
        if plan[place].records == 0 {
            continue;
        }
        match client.trim(&topic.name, plan[place].partition, plan[place].before_offset).await {
            Ok(earliest) => (plan[place].before_offset, plan[place].applied) = (earliest, true),
            Err(error) => {
                // What has been done is done, and has to be said.
                if plan.iter().any(|one| one.applied) {
                    show(&topic.name, &plan, output)?;
                }
                return Err(error.into());
            }
        }
    }
    show(&topic.name, &plan, output)
}

async fn plan(client: &Client, topic: &TopicDescription, arguments: &TrimArguments) -> Result<Vec<Trimmed>, Failure> {
    let partitions: Vec<u32> = match arguments.partition.as_slice() {
        [] => topic.partitions.iter().map(|p| p.partition).collect(),
        some => some.to_vec(),
    };
    if matches!(arguments.before, Before::Offset(_)) && partitions.len() > 1 {
        return Err(Failure::Usage(format!(
            "topic {} has {} partitions, and an offset means something else in each: name one with --partition, or give a time",
            topic.name,
            topic.partitions.len()
        )));
    }
    let mut plan = Vec::new();
    for partition in partitions {
        let question = match arguments.before {
            Before::Offset(_) => None,
            Before::Time(millis) => Some(At::Timestamp(millis)),
        };
        let offsets = client.offsets(&topic.name, partition, question).await?;
        let before = match arguments.before {
            Before::Offset(offset) if offset > offsets.latest_offset => {
                let latest = offsets.latest_offset;
                return Err(Failure::Local(format!("partition {partition} ends at offset {latest}: nothing can be kept from {offset} on")));
            }
            Before::Offset(offset) => offset,
            // No record is of that time or later: all go.
            Before::Time(_) => offsets.offset.unwrap_or(offsets.latest_offset),
        };
        let before_offset = before.max(offsets.earliest_offset);
        plan.push(Trimmed {
            partition,
            earliest_offset: offsets.earliest_offset,
            before_offset,
            records: before_offset - offsets.earliest_offset,
            applied: false,
        });
    }
    Ok(plan)
}

fn show(topic: &str, plan: &[Trimmed], output: &Output) -> Result<(), Failure> {
    output.list(
        plan,
        |one| one.partition.to_string(),
        |look| {
            if plan.iter().all(|one| one.records == 0) {
                return format!("topic {topic}: no record lies before that");
            }
            let row = |one: &Trimmed| {
                let tone = if one.records > 0 && !one.applied { Tone::Bad } else { Tone::Plain };
                let what = match (one.records, one.applied) {
                    (0, _) => "nothing",
                    (_, true) => "deleted",
                    (_, false) => "would be deleted",
                };
                vec![
                    Field::number(one.partition),
                    Field::number(one.earliest_offset),
                    "→".into(),
                    Field::number(one.before_offset),
                    Field::count(one.records).toned(tone),
                    what.into(),
                ]
            };
            let table = styled_table(look, &["PARTITION", "EARLIEST", "", "THEN", "RECORDS", ""], plan.iter().map(row));
            format!("topic {topic}:\n{table}")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a bare number is an offset, a time has its sign, and nothing else is taken for either.
    #[test]
    fn offsets_and_times() {
        assert_eq!("17".parse(), Ok(Before::Offset(17)));
        assert_eq!("@17".parse(), Ok(Before::Time(17)));
        assert!(matches!("@1h".parse(), Ok(Before::Time(_))));
        assert!(matches!("1h".parse(), Ok(Before::Time(_))));
        assert_eq!("@2026-11-21T08:00[Europe/Berlin]".parse(), "@2026-11-21T07:00".parse::<Before>());
        for wrong in ["", "-1", "2026-11-21", "9007199254740993", "@", "end", "start", "@1700000000", "@2026-11-21[Nowhere/Land]"] {
            assert!(wrong.parse::<Before>().is_err(), "{wrong}");
        }
    }
}
