//! The summary: what went in and out and how fast, who flew most, and whether the promises held.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Deserialize;
use tidegate_client::Record;
use tidegate_tests::flights::Flight;

use crate::check::Check;
use crate::replay::{Read, Sent};

/// Rows of each list.
const TOP: usize = 3;

/// Carriers' names, from the same data.
const AIRLINES: &[(&str, &str)] = &[
    ("9E", "Endeavor Air"),
    ("AA", "American Airlines"),
    ("AS", "Alaska Airlines"),
    ("B6", "JetBlue Airways"),
    ("DL", "Delta Air Lines"),
    ("EV", "ExpressJet Airlines"),
    ("F9", "Frontier Airlines"),
    ("FL", "AirTran Airways"),
    ("HA", "Hawaiian Airlines"),
    ("MQ", "Envoy Air"),
    ("OO", "SkyWest Airlines"),
    ("UA", "United Air Lines"),
    ("US", "US Airways"),
    ("VX", "Virgin America"),
    ("WN", "Southwest Airlines"),
    ("YV", "Mesa Airlines"),
];

/// What the lists look at in a value.
#[derive(Deserialize)]
struct Row<'a> {
    carrier: &'a str,
    tailnum: &'a str,
    origin: &'a str,
    dest: &'a str,
}

/// How often each thing was seen.
#[derive(Default)]
struct Counts(HashMap<String, usize>);

impl Counts {
    fn add(&mut self, what: String) {
        *self.0.entry(what).or_default() += 1;
    }

    /// The most frequent, as one line.
    fn top(self) -> String {
        let mut counts: Vec<_> = self.0.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts.iter().take(TOP).map(|(what, count)| format!("{what} ({})", grouped(*count))).collect::<Vec<_>>().join(", ")
    }
}

/// A number with commas.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Records and megabytes, in all and per second.
fn rate(records: usize, bytes: usize, took: Duration) -> String {
    let per_second = |amount: usize| u128::try_from(amount).unwrap_or(0) * 1_000_000 / took.as_micros().max(1);
    let megabytes = |bytes: u128| format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10);
    format!(
        "{} records, {} MB in {}.{:02} s: {} records/s, {} MB/s",
        grouped(records),
        megabytes(bytes as u128),
        took.as_secs(),
        took.subsec_millis() / 10,
        grouped(usize::try_from(per_second(records)).unwrap_or(usize::MAX)),
        megabytes(per_second(bytes))
    )
}

fn value_bytes(records: &[Record]) -> usize {
    records.iter().filter_map(|r| r.value.as_bytes()).map(<[u8]>::len).sum()
}

/// The whole summary.
pub(crate) fn summary(flights: &[Flight], sent: &Sent, read: &Read, checks: &[Check]) -> String {
    let mut text = String::new();
    let sent_bytes = flights.iter().map(|f| f.json.len()).sum();
    let read_bytes = read.partitions.iter().map(|p| value_bytes(p)).sum();
    let read_records = read.partitions.iter().map(Vec::len).sum();
    // Writing to a String cannot fail.
    let mut line = |name: &str, what: &str| {
        let _ = writeln!(text, "  {name:<12} {what}");
    };
    line("in", &format!("{} (each acknowledged: {})", rate(flights.len(), sent_bytes, sent.took), sent.durability));
    line("out", &rate(read_records, read_bytes, read.took));
    for (partition, records) in read.partitions.iter().enumerate() {
        let name = if partition == 0 { "partitions" } else { "" };
        line(name, &format!("{partition}: {:>7} records, {:>5} kB", grouped(records.len()), grouped(value_bytes(records) / 1000)));
    }
    let (aircraft, airlines, routes) = busiest(read);
    line("aircraft", &aircraft.top());
    line("airlines", &airlines.top());
    line("routes", &routes.top());
    text.push('\n');
    for check in checks {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {} {}: {}", if check.holds { "✓" } else { "✗ FAILED:" }, check.promise, check.seen);
    }
    text
}

/// Who flew most, from the values that came back.
fn busiest(read: &Read) -> (Counts, Counts, Counts) {
    let (mut aircraft, mut airlines, mut routes) = (Counts::default(), Counts::default(), Counts::default());
    let values = read.partitions.iter().flatten().filter_map(|r| r.value.as_bytes());
    for row in values.filter_map(|value| serde_json::from_slice::<Row<'_>>(value).ok()) {
        // `NA` is a key like any other, but no aircraft.
        if !matches!(row.tailnum, "" | "NA") {
            aircraft.add(row.tailnum.to_owned());
        }
        let name = AIRLINES.iter().find(|(code, _)| *code == row.carrier).map_or(row.carrier, |(_, name)| name);
        airlines.add(name.to_owned());
        routes.add(format!("{} → {}", row.origin, row.dest));
    }
    (aircraft, airlines, routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: numbers are easy to read, whatever their length.
    #[test]
    fn numbers_are_grouped() {
        let shown = [0, 12, 123, 1_234, 336_776, 1_000_000].map(grouped);
        assert_eq!(shown, ["0", "12", "123", "1,234", "336,776", "1,000,000"]);
    }

    /// A promise: a rate is what went through, divided by the time it took.
    #[test]
    fn rates_are_true() {
        assert_eq!(rate(3_000, 2_500_000, Duration::from_millis(1_500)), "3,000 records, 2.5 MB in 1.50 s: 2,000 records/s, 1.6 MB/s");
    }
}
