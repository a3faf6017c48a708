//! What was sent and what was acknowledged, held against what is in the log: **each acknowledged record is there once, where its answer said, in its
//! writer's order; what was never acknowledged is there once or not at all; nothing else is there.**
//!
//! A record is `{"w": writer, "n": number}`; a writer numbers its records from 0 in the order of sending.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde::Deserialize;
use tidegate_client::{Client, Fetch};

/// A record, by its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct Number {
    /// Whose.
    #[serde(rename = "w")]
    pub writer: u32,
    /// The how manieth of his.
    #[serde(rename = "n")]
    pub number: u64,
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
}

/// What a partition holds, in the order of offsets, from 0 and without a gap.
pub type Log = Vec<Vec<Number>>;

/// A client's last word on one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// It may be there, or not.
    Sent,
    /// It is there, and the answer did not say where.
    Acknowledged,
    /// It is there.
    AcknowledgedAt(Place),
}

/// "Of the writer's records from `first`, `count` of them, the last one in that partition is there."
#[derive(Debug, Clone, Copy, Deserialize)]
struct Last {
    writer: u32,
    first: u64,
    count: u64,
    partition: u32,
    offset: u64,
}

/// What clients were told.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// By writer and number.
    words: Vec<Vec<Word>>,
    lasts: Vec<Last>,
}

/// What a client writes down at its end (`tests/clients/exactly_once.py`).
#[derive(Debug, Deserialize)]
pub struct Report {
    /// What it counted.
    pub counts: BTreeMap<String, u64>,
    /// How long it took.
    pub millis: u64,
    /// How many numbers each writer has sent.
    sent: Vec<u64>,
    /// Writer, number, and the place if it was told.
    acknowledged: Vec<(u32, u64, Option<u32>, Option<u64>)>,
    last: Vec<Last>,
    /// An answer that must not be.
    pub contradiction: Option<String>,
}

/// What a check found to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Records in the log.
    pub found: u64,
    /// Of these, acknowledged ones.
    pub acknowledged: u64,
    /// Of these, ones whose answer did not say where they are.
    pub untold: u64,
}

/// The first thing that is not as it was promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction(pub String);

impl std::fmt::Display for Contradiction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Contradiction {}

macro_rules! contradict {
    ($($argument:tt)*) => { return Err(Contradiction(format!($($argument)*))) };
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "record {} of writer {}", self.number, self.writer)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "offset {} of partition {}", self.offset, self.partition)
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Ledger {
    /// Of writers that sent so many numbers each, and heard nothing yet.
    pub fn new(sent: &[u64]) -> Self {
        let words = sent.iter().map(|count| vec![Word::Sent; index(*count)]).collect();
        Self { words, lasts: Vec::new() }
    }

    /// What a client's report says.
    ///
    /// # Errors
    /// It acknowledges what it did not send, or the same twice.
    pub fn from_report(report: &Report) -> Result<Self, Contradiction> {
        let mut ledger = Self::new(&report.sent);
        for (writer, number, partition, offset) in &report.acknowledged {
            let place = partition.zip(*offset).map(|(partition, offset)| Place { partition, offset });
            ledger.acknowledge(Number { writer: *writer, number: *number }, place)?;
        }
        ledger.lasts.clone_from(&report.last);
        Ok(ledger)
    }

    /// An answer said that the record is there.
    ///
    /// # Errors
    /// It was not sent, or has been acknowledged before.
    pub fn acknowledge(&mut self, record: Number, place: Option<Place>) -> Result<(), Contradiction> {
        match self.words.get_mut(record.writer as usize).and_then(|words| words.get_mut(index(record.number))) {
            Some(word @ Word::Sent) => *word = place.map_or(Word::Acknowledged, Word::AcknowledgedAt),
            Some(_) => contradict!("{record} is acknowledged twice"),
            None => contradict!("{record} is acknowledged and was never sent"),
        }
        Ok(())
    }

    /// Holds the log against it.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self, log: &Log) -> Result<Summary, Contradiction> {
        let places = self.places(log)?;
        let mut summary = Summary::default();
        for ((writer, words), places) in (0..).zip(&self.words).zip(&places) {
            for ((number, word), place) in (0..).zip(words).zip(places) {
                let record = Number { writer, number };
                match (word, place) {
                    (Word::Sent, _) => {}
                    (Word::Acknowledged, Some(_)) => summary.untold += 1,
                    (Word::AcknowledgedAt(told), Some(found)) if told == found => {}
                    (Word::AcknowledgedAt(told), Some(found)) => contradict!("{record} was acknowledged at {told} and is at {found}"),
                    (Word::AcknowledgedAt(told), None) => contradict!("{record} was acknowledged at {told} and is not there"),
                    (Word::Acknowledged, None) => contradict!("{record} was acknowledged and is not there"),
                }
                summary.found += u64::from(place.is_some());
                summary.acknowledged += u64::from(*word != Word::Sent);
            }
        }
        self.check_lasts(&places)?;
        Ok(summary)
    }

    /// Where each record stands; nothing twice, nothing unknown, in each partition each writer's in his order.
    fn places(&self, log: &Log) -> Result<Vec<Vec<Option<Place>>>, Contradiction> {
        let mut places: Vec<Vec<Option<Place>>> = self.words.iter().map(|words| vec![None; words.len()]).collect();
        for (partition, records) in (0..).zip(log) {
            let mut before: Vec<Option<Place>> = vec![None; self.words.len()];
            let mut highest: Vec<Option<u64>> = vec![None; self.words.len()];
            for (offset, record) in (0..).zip(records) {
                let (place, writer) = (Place { partition, offset }, record.writer as usize);
                match places.get_mut(writer).and_then(|places| places.get_mut(index(record.number))) {
                    Some(Some(first)) => contradict!("{record} is there twice: at {first} and at {place}"),
                    Some(none) => *none = Some(place),
                    None => contradict!("{record} at {place} was never sent"),
                }
                if let (Some(number), Some(before)) = (highest[writer].filter(|number| *number > record.number), before[writer]) {
                    contradict!("{record} at {place} stands behind record {number} of the same writer at {before}");
                }
                (highest[writer], before[writer]) = (Some(record.number), Some(place));
            }
        }
        Ok(places)
    }

    fn check_lasts(&self, places: &[Vec<Option<Place>>]) -> Result<(), Contradiction> {
        for last in &self.lasts {
            let range = index(last.first)..index(last.first + last.count);
            let of_request = places.get(last.writer as usize).and_then(|places| places.get(range)).unwrap_or_default();
            let found = of_request.iter().flatten().filter(|place| place.partition == last.partition).map(|place| place.offset).max();
            if found != Some(last.offset) {
                contradict!("the last of {last:?} is at {found:?}");
            }
        }
        Ok(())
    }
}

/// Everything that a topic holds, straight from its node.
///
/// # Errors
/// The client's; offsets have a gap, or a value is no number.
pub async fn read(node: &str, topic: &str) -> anyhow::Result<Log> {
    let client = Client::new(node)?;
    let mut log = Log::new();
    for partition in client.describe_topic(topic).await?.partitions {
        let (mut records, mut next) = (Vec::new(), 0);
        loop {
            let fetch = Fetch { max_records: Some(10_000), max_bytes: Some(8 << 20), ..Fetch::from_offset(next) };
            let fetched = client.fetch(topic, partition.partition, &fetch).await?;
            for record in &fetched.records {
                ensure!(record.offset == next, "offset {} of partition {} comes where {next} is due", record.offset, record.partition);
                let number = record.value.as_bytes().map(serde_json::from_slice);
                records.push(number.context("a record without a value")?.with_context(|| format!("{record:?}"))?);
                next += 1;
            }
            if fetched.records.is_empty() {
                ensure!(fetched.high_watermark == next, "it ends at {next}, and the high watermark is {}", fetched.high_watermark);
                break;
            }
        }
        ensure!(partition.partition as usize == log.len(), "partitions come in order");
        log.push(records);
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(partition: u32, offset: u64) -> Option<Place> {
        Some(Place { partition, offset })
    }

    const fn record(writer: u32, number: u64) -> Number {
        Number { writer, number }
    }

    /// Two writers in two partitions: everything that may be so.
    fn good() -> (Ledger, Log) {
        let mut ledger = Ledger::new(&[4, 2]);
        ledger.acknowledge(record(0, 0), at(0, 0)).unwrap();
        ledger.acknowledge(record(0, 1), at(1, 0)).unwrap();
        ledger.acknowledge(record(0, 2), None).unwrap();
        ledger.acknowledge(record(1, 0), at(0, 1)).unwrap();
        ledger.lasts.push(Last { writer: 0, first: 0, count: 3, partition: 0, offset: 2 });
        // Record 3 of the first writer is not there, record 1 of the second is; neither was acknowledged.
        (ledger, vec![vec![record(0, 0), record(1, 0), record(0, 2)], vec![record(0, 1), record(1, 1)]])
    }

    /// A promise: what may be so is found good, and each kind of contradiction is seen and named.
    #[test]
    fn each_contradiction_is_seen() {
        let (ledger, log) = good();
        assert_eq!(ledger.check(&log), Ok(Summary { found: 5, acknowledged: 4, untold: 1 }));
        type Change = fn(&mut Log);
        let changes: [(Change, &str); 7] = [
            (
                |log| log[1].push(record(0, 2)),
                "record 2 of writer 0 is there twice: at offset 2 of partition 0 and at offset 2 of partition 1",
            ),
            (|log| log[1].push(record(0, 4)), "record 4 of writer 0 at offset 2 of partition 1 was never sent"),
            (|log| log[1].push(record(2, 0)), "record 0 of writer 2 at offset 2 of partition 1 was never sent"),
            (|log| log[0].truncate(2), "record 2 of writer 0 was acknowledged and is not there"),
            (|log| log[1].clear(), "record 1 of writer 0 was acknowledged at offset 0 of partition 1 and is not there"),
            (|log| log[1].swap(0, 1), "record 1 of writer 0 was acknowledged at offset 0 of partition 1 and is at offset 1 of partition 1"),
            (|log| log[0].swap(0, 2), "record 0 of writer 0 at offset 2 of partition 0 stands behind record 2"),
        ];
        for (change, said) in changes {
            let mut log = log.clone();
            change(&mut log);
            let error = ledger.check(&log).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
        let mut ledger = ledger;
        ledger.lasts[0].offset = 0;
        assert!(ledger.check(&log).unwrap_err().to_string().contains("is at Some(2)"));
    }

    /// A promise: a report says of each record what became of it; one that acknowledges something twice, or what was not sent, is refused.
    #[test]
    fn reports_are_read() {
        let report = |acknowledged: &str| {
            let json = format!(
                r#"{{"counts":{{}},"millis":5,"sent":[2],"acknowledged":[{acknowledged}],"last":[[0,0,2,0,1]],"contradiction":null}}"#
            );
            Ledger::from_report(&serde_json::from_str(&json).unwrap())
        };
        let ledger = report("[0,0,0,0],[0,1,null,null]").unwrap();
        assert_eq!(ledger.check(&vec![vec![record(0, 0), record(0, 1)]]), Ok(Summary { found: 2, acknowledged: 2, untold: 1 }));
        assert!(report("[0,0,0,0],[0,0,0,0]").unwrap_err().to_string().contains("acknowledged twice"));
        assert!(report("[0,2,0,0]").unwrap_err().to_string().contains("never sent"));
        assert!(report("[1,0,0,0]").unwrap_err().to_string().contains("never sent"));
    }
}
