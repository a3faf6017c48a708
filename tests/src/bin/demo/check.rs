//! What must hold of the records that came back. Each check compares with the file itself, not with what the node said of itself.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use tidegate_client::Record;
use tidegate_tests::flights::Flight;
use tidegate_types::partitioner::partition_for_key;

use crate::PARTITIONS;
use crate::replay::{Read, Sent};

/// One promise, and whether it held.
#[derive(Debug)]
pub(crate) struct Check {
    /// The promise.
    pub(crate) promise: &'static str,
    /// Whether it held.
    pub(crate) holds: bool,
    /// What was seen.
    pub(crate) seen: String,
}

/// All checks.
pub(crate) fn all(flights: &[Flight], sent: &Sent, read: &Read) -> Vec<Check> {
    let rows = Multiset::of(flights.iter().map(|f| f.json.as_bytes()));
    let values = Multiset::of(records(read).map(|r| r.value.as_bytes().unwrap_or_default()));
    let misplaced = misplaced(flights, sent, read);
    let (keys, disorder) = disorder(flights, sent, read);
    let astray = records(read).filter(|r| r.key.as_ref().is_some_and(|k| partition_for_key(k, PARTITIONS).get() != r.partition)).count();
    vec![
        Check { promise: "the values are the file's rows, each once", holds: rows == values, seen: format!("{rows} in, {values} out") },
        Check {
            promise: "each stands at its acknowledged offset, byte for byte",
            holds: misplaced == 0,
            seen: format!("{misplaced} of {} misplaced", flights.len()),
        },
        Check {
            promise: "each tail number's flights are in the file's order",
            holds: disorder == 0,
            seen: format!("{keys} tail numbers, {disorder} out of order"),
        },
        Check {
            promise: "each tail number is in the one partition that Kafka would choose",
            holds: astray == 0,
            seen: format!("{astray} records astray"),
        },
    ]
}

fn records(read: &Read) -> impl Iterator<Item = &Record> {
    read.partitions.iter().flatten()
}

/// How many of what values, whatever their order: equal multisets are equal here, and others but for a chance of 2⁻¹²⁸.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Multiset {
    count: usize,
    sum: u128,
}

impl Multiset {
    fn of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        values.fold(Self::default(), |set, value| Self { count: set.count + 1, sum: set.sum.wrapping_add(hash(value)) })
    }
}

impl std::fmt::Display for Multiset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}…×{}", self.sum >> 64, self.count)
    }
}

fn hash(value: &[u8]) -> u128 {
    let half = |seed: u64| {
        let mut hasher = DefaultHasher::new();
        (seed, value).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

/// Records that are missing from where the node said they stand, or have another key or value there, or that nobody sent.
fn misplaced(flights: &[Flight], sent: &Sent, read: &Read) -> usize {
    let mut found: HashMap<(u32, u64), &Record> = records(read).map(|r| ((r.partition, r.offset), r)).collect();
    let mut misplaced = 0;
    for (flight, position) in flights.iter().zip(&sent.positions) {
        let is_there = found.remove(&(position.partition, position.offset)).is_some_and(|record| {
            record.value.as_bytes() == Some(flight.json.as_bytes())
                && record.key.as_deref() == flight.tail_number.as_deref().map(str::as_bytes)
        });
        misplaced += usize::from(!is_there);
    }
    misplaced + found.len()
}

/// How many tail numbers there are, and of how many the flights do not come in the file's order.
fn disorder(flights: &[Flight], sent: &Sent, read: &Read) -> (usize, usize) {
    let rows: HashMap<(u32, u64), usize> = sent.positions.iter().map(|p| (p.partition, p.offset)).zip(0..).collect();
    let mut last_row: HashMap<&[u8], usize> = HashMap::new();
    let mut disordered: HashMap<&[u8], ()> = HashMap::new();
    for record in records(read) {
        let (Some(key), Some(row)) = (record.key.as_deref(), rows.get(&(record.partition, record.offset))) else { continue };
        if last_row.insert(key, *row).is_some_and(|before| before >= *row) {
            disordered.insert(key, ());
        }
    }
    let expected = flights.iter().filter_map(|f| f.tail_number.as_deref()).collect::<std::collections::HashSet<_>>().len();
    // A tail number that did not come back at all is not in order either.
    (expected, disordered.len() + expected.abs_diff(last_row.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tidegate_client::{RecordPosition, Value};

    fn flight(tail: &str, json: &str) -> Flight {
        Flight { tail_number: Some(tail.to_owned()), json: json.to_owned() }
    }

    fn record(offset: u64, tail: &str, text: &str) -> Record {
        let partition = partition_for_key(tail.as_bytes(), PARTITIONS).get();
        Record {
            partition,
            offset,
            timestamp: 0,
            key: Some(tail.to_owned().into()),
            value: Value::Text(text.to_owned()),
            headers: Vec::new(),
        }
    }

    fn verdict(flights: &[Flight], acknowledged: &[u64], records: Vec<Record>) -> Vec<bool> {
        let place = |(f, offset): (&Flight, &u64)| {
            let partition = partition_for_key(f.tail_number.as_deref().unwrap().as_bytes(), PARTITIONS).get();
            RecordPosition { partition, offset: *offset, timestamp: 0 }
        };
        let positions = flights.iter().zip(acknowledged).map(place).collect();
        let sent = Sent { positions, durability: String::new(), took: Duration::ZERO };
        all(flights, &sent, &Read { partitions: vec![records], took: Duration::ZERO }).iter().map(|c| c.holds).collect()
    }

    /// A promise: the demo is happy only if nothing is lost, doubled, changed, moved or out of order.
    #[test]
    fn each_check_can_fail() {
        let flights = [flight("A", "1"), flight("A", "2")];
        let good = || vec![record(0, "A", "1"), record(1, "A", "2")];
        assert_eq!(verdict(&flights, &[0, 1], good()), [true; 4]);
        // Lost.
        assert_eq!(verdict(&flights, &[0, 1], good()[..1].to_vec()), [false, false, true, true]);
        // Doubled.
        let doubled = [good(), vec![record(2, "A", "2")]].concat();
        assert_eq!(verdict(&flights, &[0, 1], doubled), [false, false, true, true]);
        // Out of order: acknowledged offsets that go back.
        let swapped = vec![record(0, "A", "2"), record(1, "A", "1")];
        assert_eq!(verdict(&flights, &[1, 0], swapped), [true, true, false, true]);
        // Changed: another key, so another place.
        let changed = vec![record(0, "A", "1"), Record { key: Some("B".into()), partition: 9, ..record(1, "A", "2") }];
        assert_eq!(verdict(&flights, &[0, 1], changed)[1..], [false, true, false]);
    }
}
