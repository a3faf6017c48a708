//! What became of the records that were sent: how many are in, up to which line without a gap, and what is to be said of the others.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tidegate_types::SideEffects;

use super::{count, records};
use crate::cli::time::took;

/// Partitions that a summary for people lists.
const PARTITIONS_LISTED: usize = 8;

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Position {
    pub(in crate::cli) partition: u32,
    /// `None` if no acknowledgement was waited for, or nobody knows where it was already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) offset: Option<u64>,
    /// Milliseconds since 1970.
    pub(in crate::cli) timestamp: i64,
}

/// What is in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct PartitionSummary {
    partition: u32,
    records: u64,
    /// Smallest and largest of the offsets; absent if no acknowledgement was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_offset: Option<u64>,
}

/// What a produce has come to, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Summary<'t> {
    topic: &'t str,
    /// Records that are in.
    records: u64,
    /// Records that may be in.
    uncertain_records: u64,
    /// Records that were sent and are not in.
    failed_records: u64,
    /// Every record that begins at this line or before it is in; absent if not even the first one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    unbroken_to_line: Option<u64>,
    elapsed_ms: u64,
    partitions: Vec<PartitionSummary>,
}

/// Keeps count. Records are noted in the order of their lines.
#[derive(Debug, Default)]
pub(in crate::cli) struct Ledger {
    partitions: BTreeMap<u32, PartitionSummary>,
    acknowledged: u64,
    uncertain: u64,
    failed: u64,
    unbroken_to_line: Option<u64>,
    /// Records acknowledged after the first that was not.
    beyond_the_gap: u64,
    first_failed_line: Option<u64>,
}

impl Ledger {
    /// The record that begins at `line` is there.
    pub(in crate::cli) fn acknowledged(&mut self, line: u64, position: &Position) {
        self.acknowledged += 1;
        if self.first_failed_line.is_none() {
            self.unbroken_to_line = Some(line);
        } else {
            self.beyond_the_gap += 1;
        }
        let Position { partition, offset, .. } = *position;
        let known = self.partitions.entry(partition).or_insert(PartitionSummary {
            partition,
            records: 0,
            first_offset: offset,
            last_offset: offset,
        });
        known.records += 1;
        // One that was there already may be nobody knows where.
        known.first_offset = known.first_offset.into_iter().chain(offset).min();
        known.last_offset = known.last_offset.max(offset);
    }

    /// The record that begins at `line` is not there, or not known to be.
    pub(in crate::cli) fn failed(&mut self, line: u64, side_effects: SideEffects) {
        self.first_failed_line.get_or_insert(line);
        match side_effects {
            SideEffects::None => self.failed += 1,
            SideEffects::Possible => self.uncertain += 1,
        }
    }

    /// Records that are in.
    pub(in crate::cli) const fn records(&self) -> u64 {
        self.acknowledged
    }

    /// Whether a record is in, or may be.
    pub(in crate::cli) const fn is_anything_in(&self) -> bool {
        self.acknowledged > 0 || self.uncertain > 0
    }

    /// The line of the first record that is not in.
    pub(in crate::cli) const fn first_failed_line(&self) -> Option<u64> {
        self.first_failed_line
    }

    /// For programs.
    pub(in crate::cli) fn summary<'t>(&self, topic: &'t str, elapsed: Duration) -> Summary<'t> {
        Summary {
            topic,
            records: self.acknowledged,
            uncertain_records: self.uncertain,
            failed_records: self.failed,
            unbroken_to_line: self.unbroken_to_line,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            partitions: self.partitions.values().copied().collect(),
        }
    }

    /// For people: `12,345 records in 0.8 s; partition 0: 3,080, 1: 9,265`.
    pub(in crate::cli) fn sentence(&self, elapsed: Duration) -> String {
        let mut text = format!("{} in {}", records(self.acknowledged), took(elapsed));
        let parts: Vec<_> =
            self.partitions.values().take(PARTITIONS_LISTED).map(|p| format!("{}: {}", p.partition, count(p.records))).collect();
        if !parts.is_empty() {
            text.push_str(if self.partitions.len() == 1 { "; partition " } else { "; partitions " });
            text.push_str(&parts.join(", "));
        }
        if self.partitions.len() > PARTITIONS_LISTED {
            text.push_str(&format!(" and {} more", self.partitions.len() - PARTITIONS_LISTED));
        }
        text
    }

    /// For people, when not all went well: exactly what is in, what may be, and from where to go on.
    pub(in crate::cli) fn account(&self) -> String {
        let mut text = match (self.acknowledged, self.unbroken_to_line) {
            (0, _) => "no record is in".to_owned(),
            (all, Some(line)) if self.beyond_the_gap == 0 => format!("{} in: all up to line {}", are(all), count(line)),
            (all, Some(line)) => {
                format!("{} in: all up to line {}, and {} of those after it", are(all), count(line), count(self.beyond_the_gap))
            }
            (all, None) => format!("{} in, but not the first one", are(all)),
        };
        if self.uncertain > 0 {
            text.push_str(&format!("; {} more may be in, because no answer came", count(self.uncertain)));
        }
        if self.failed > 0 {
            text.push_str(&format!("; {} not in", are(self.failed)));
        }
        text
    }

    /// For people: the flag that goes on behind what is in, and what that would write twice. Nothing, if it would begin where it began.
    pub(in crate::cli) fn resume(&self) -> Option<String> {
        let flag = format!("--from-line {}", self.unbroken_to_line?.saturating_add(1));
        Some(match (self.beyond_the_gap > 0, self.uncertain > 0) {
            (false, false) => format!("go on with {flag}"),
            (false, true) => format!("{flag} goes on, and sends again what may be in"),
            (true, false) => format!("{flag} goes on, and sends again what is in after that line"),
            (true, true) => format!("{flag} goes on, and sends again what is in after that line, and what may be"),
        })
    }
}

fn are(number: u64) -> String {
    format!("{} {}", records(number), if number == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: u32, offset: u64) -> Position {
        Position { partition, offset: Some(offset), timestamp: 0 }
    }

    /// A promise: a summary says what is in, where, and nothing of offsets that nobody knows.
    #[test]
    fn all_went_well() {
        let mut ledger = Ledger::default();
        for line in 1..=1_500 {
            ledger.acknowledged(line, &at(u32::from(line % 3 == 0), line + 10));
        }
        assert_eq!(ledger.sentence(Duration::from_millis(840)), "1,500 records in 840 ms; partitions 0: 1,000, 1: 500");
        let json = serde_json::to_value(ledger.summary("t", Duration::from_millis(840))).unwrap();
        assert_eq!(json["partitions"][1], serde_json::json!({"partition": 1, "records": 500, "first_offset": 13, "last_offset": 1510}));
        assert_eq!((&json["records"], &json["unbroken_to_line"], &json["elapsed_ms"]), (&1_500.into(), &1_500.into(), &840.into()));

        let mut unacknowledged = Ledger::default();
        unacknowledged.acknowledged(1, &Position { offset: None, ..at(4, 0) });
        assert_eq!(unacknowledged.sentence(Duration::ZERO), "1 record in 0 ms; partition 4: 1");
        assert!(serde_json::to_value(unacknowledged.summary("t", Duration::ZERO)).unwrap()["partitions"][0].get("first_offset").is_none());
    }

    /// A promise: a failure half-way is accounted for exactly: what is in without a gap, what is in beyond it, what may be, what is not.
    #[test]
    fn half_way() {
        let mut ledger = Ledger::default();
        assert_eq!((ledger.account().as_str(), ledger.resume()), ("no record is in", None));
        for line in [1, 2, 5] {
            ledger.acknowledged(line, &at(0, line));
        }
        assert_eq!(ledger.account(), "3 records are in: all up to line 5");
        assert_eq!(ledger.resume().as_deref(), Some("go on with --from-line 6"));
        ledger.failed(6, SideEffects::Possible);
        assert_eq!(ledger.resume().as_deref(), Some("--from-line 6 goes on, and sends again what may be in"));
        ledger.acknowledged(7, &at(1, 7));
        ledger.failed(8, SideEffects::None);
        assert_eq!(
            ledger.account(),
            "4 records are in: all up to line 5, and 1 of those after it; 1 more may be in, because no answer came; 1 record is not in"
        );
        assert_eq!(ledger.first_failed_line(), Some(6));
        let json = serde_json::to_value(ledger.summary("t", Duration::ZERO)).unwrap();
        assert_eq!((&json["uncertain_records"], &json["failed_records"], &json["unbroken_to_line"]), (&1.into(), &1.into(), &5.into()));
    }
}
