//! Whether what was acknowledged is what can be read: a sum of hashes over (partition, offset, value), kept by who writes and by who reads.
//!
//! The sum does not depend on the order of the answers, and changes if a record is altered, moved or missing. Records whose fate was left open (a
//! broken connection) may lie between the acknowledged ones; so the acknowledged ranges of offsets are kept, and only these are compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// How the hash is made: in results, so that a later version does not compare what cannot be.
pub(crate) const ALGORITHM: &str = "sum-xxh3-64";
/// Ranges kept for a partition. More than a few come only of failures.
const RANGES_MAX: usize = 100_000;

/// What was acknowledged, or read, of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    records: u64,
    sum: u64,
    /// `[start, end)`, in order, with a gap between any two.
    ranges: Vec<(u64, u64)>,
}

/// As it stands in a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartitionDigest {
    pub(crate) partition: u32,
    pub(crate) records: u64,
    /// 16 hex digits.
    pub(crate) hash: String,
    /// Offsets, `[start, end)`.
    pub(crate) ranges: Vec<(u64, u64)>,
}

/// All partitions of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Digests {
    partitions: BTreeMap<u32, Digest>,
    /// More gaps than can be kept.
    overflowed: bool,
}

fn mix(partition: u32, offset: u64, value_hash: u64) -> u64 {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&partition.to_le_bytes());
    bytes[4..12].copy_from_slice(&offset.to_le_bytes());
    bytes[12..].copy_from_slice(&value_hash.to_le_bytes());
    XxHash3_64::oneshot(&bytes)
}

impl Digest {
    fn add(&mut self, partition: u32, offset: u64, value_hash: u64) {
        self.sum = self.sum.wrapping_add(mix(partition, offset, value_hash));
        self.records += 1;
    }

    /// Notes `[start, end)`; `false` if there are too many gaps already.
    fn cover(&mut self, start: u64, end: u64) -> bool {
        // Nearly always at the end.
        let at = self.ranges.partition_point(|(_, e)| *e < start);
        let upto = at + self.ranges[at..].partition_point(|(s, _)| *s <= end);
        if at == upto {
            self.ranges.insert(at, (start, end));
        } else {
            let joined = (start.min(self.ranges[at].0), end.max(self.ranges[upto - 1].1));
            self.ranges.splice(at..upto, [joined]);
        }
        self.ranges.len() <= RANGES_MAX
    }

    fn holds(&self, offset: u64) -> bool {
        let at = self.ranges.partition_point(|(_, end)| *end <= offset);
        self.ranges.get(at).is_some_and(|(start, _)| *start <= offset)
    }
}

impl Digests {
    /// Notes that records with these value hashes stand from `base` on.
    pub(crate) fn acknowledge(&mut self, partition: u32, base: u64, value_hashes: &[u64]) {
        let digest = self.partitions.entry(partition).or_default();
        for (offset, hash) in (base..).zip(value_hashes) {
            digest.add(partition, offset, *hash);
        }
        self.overflowed |= !digest.cover(base, base + value_hashes.len() as u64);
    }

    /// Whether it can be compared at all.
    pub(crate) fn is_complete(&self) -> bool {
        !self.overflowed
    }

    pub(crate) fn records(&self) -> u64 {
        self.partitions.values().map(|digest| digest.records).sum()
    }

    /// The partitions, with the first acknowledged offset and the end of the last range.
    pub(crate) fn spans(&self) -> Vec<(u32, u64, u64)> {
        let span = |(partition, digest): (&u32, &Digest)| Some((*partition, digest.ranges.first()?.0, digest.ranges.last()?.1));
        self.partitions.iter().filter_map(span).collect()
    }

    /// What is read back, with the same ranges and nothing read yet.
    pub(crate) fn to_read(&self) -> Self {
        let empty = |(partition, digest): (&u32, &Digest)| (*partition, Digest { ranges: digest.ranges.clone(), ..Digest::default() });
        Self { partitions: self.partitions.iter().map(empty).collect(), overflowed: self.overflowed }
    }

    /// Counts a record that was read, if it is one of those acknowledged.
    pub(crate) fn read(&mut self, partition: u32, offset: u64, value_hash: u64) {
        if let Some(digest) = self.partitions.get_mut(&partition)
            && digest.holds(offset)
        {
            digest.add(partition, offset, value_hash);
        }
    }

    /// As they stand in a result.
    pub(crate) fn list(&self) -> Vec<PartitionDigest> {
        let show = |(partition, digest): (&u32, &Digest)| PartitionDigest {
            partition: *partition,
            records: digest.records,
            hash: format!("{:016x}", digest.sum),
            ranges: digest.ranges.clone(),
        };
        self.partitions.iter().map(show).collect()
    }

    /// From a result.
    ///
    /// # Errors
    /// A sentence, if it is none that this could have written.
    pub(crate) fn from_list(list: Vec<PartitionDigest>) -> Result<Self, String> {
        let mut digests = Self::default();
        for PartitionDigest { partition, records, hash, ranges } in list {
            let sum = u64::from_str_radix(&hash, 16).map_err(|_| format!("partition {partition}: '{hash}' is no hash"))?;
            let in_order = ranges.iter().all(|(start, end)| start < end) && ranges.windows(2).all(|two| two[0].1 < two[1].0);
            let covered = ranges.iter().try_fold(0_u64, |sum, (start, end)| sum.checked_add(end.saturating_sub(*start)));
            if !in_order || covered != Some(records) {
                return Err(format!("partition {partition}: its ranges are not those of {records} records"));
            }
            digests.partitions.insert(partition, Digest { records, sum, ranges });
        }
        Ok(digests)
    }

    /// Where `read` is not what was acknowledged here, in words; empty if it is.
    pub(crate) fn differences(&self, read: &Self) -> Vec<String> {
        let nothing = Digest::default();
        let differ = |(partition, digest): (&u32, &Digest)| {
            let other = read.partitions.get(partition).unwrap_or(&nothing);
            if other.records != digest.records {
                Some(format!("partition {partition}: {} records were acknowledged, {} of them can be read", digest.records, other.records))
            } else if other.sum != digest.sum {
                Some(format!("partition {partition}: the records that can be read are not those that were acknowledged"))
            } else {
                None
            }
        };
        self.partitions.iter().filter_map(differ).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged() -> Digests {
        let mut digests = Digests::default();
        digests.acknowledge(0, 4, &[14, 15]);
        digests.acknowledge(0, 0, &[10, 11]);
        digests.acknowledge(1, 0, &[20]);
        digests.acknowledge(0, 2, &[12, 13]);
        digests
    }

    fn read_back(records: &[(u32, u64, u64)]) -> Digests {
        let mut read = acknowledged().to_read();
        records.iter().for_each(|(partition, offset, hash)| read.read(*partition, *offset, *hash));
        read
    }

    const GOOD: [(u32, u64, u64); 7] = [(0, 0, 10), (0, 1, 11), (0, 2, 12), (0, 3, 13), (0, 4, 14), (0, 5, 15), (1, 0, 20)];

    /// A promise: ranges that touch are one, and answers may come in any order.
    #[test]
    fn ranges_join() {
        let list = acknowledged().list();
        assert_eq!((list[0].ranges.as_slice(), list[0].records, list[1].ranges.as_slice()), (&[(0, 6)][..], 6, &[(0, 1)][..]));
        assert!(acknowledged().differences(&read_back(&GOOD)).is_empty());
        let mut digest = Digest::default();
        for (start, end) in [(0, 2), (4, 6), (8, 9)] {
            assert!(digest.cover(start, end));
        }
        assert!(digest.cover(2, 8));
        assert_eq!(digest.ranges, [(0, 9)]);
    }

    /// A promise: a record that is altered, missing, moved or exchanged with another is noticed; one that nobody was promised is not minded.
    #[test]
    fn what_is_wrong_is_noticed() {
        let altered = GOOD.map(|(p, o, h)| if (p, o) == (0, 3) { (p, o, 99) } else { (p, o, h) });
        let exchanged = GOOD.map(|(p, o, h)| {
            if h == 10 {
                (p, o, 11)
            } else if h == 11 {
                (p, o, 10)
            } else {
                (p, o, h)
            }
        });
        for (what, records) in [("altered", &altered[..]), ("exchanged", &exchanged[..]), ("missing", &GOOD[1..]), ("all missing", &[][..])]
        {
            assert!(!acknowledged().differences(&read_back(records)).is_empty(), "{what}");
        }
        let more = [&GOOD[..], &[(0, 6, 1), (7, 0, 1)]].concat();
        assert!(acknowledged().differences(&read_back(&more)).is_empty());
    }

    /// A promise: what a result says is read back the same, and what no result says is refused.
    #[test]
    fn results_are_read_back() {
        assert_eq!(Digests::from_list(acknowledged().list()).unwrap(), acknowledged());
        let one = |records, hash: &str, ranges: &[(u64, u64)]| {
            Digests::from_list(vec![PartitionDigest { partition: 0, records, hash: hash.to_owned(), ranges: ranges.to_vec() }])
        };
        assert!(one(1, "0", &[(0, 1)]).is_ok());
        for wrong in [one(1, "x", &[(0, 1)]), one(2, "0", &[(0, 1)]), one(2, "0", &[(1, 2), (0, 1)]), one(0, "0", &[(3, 1)])] {
            assert!(wrong.is_err());
        }
        assert!(one(u64::MAX, "0", &[(0, u64::MAX), (1, u64::MAX)]).is_err());
    }
}
