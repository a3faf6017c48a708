//! What is to be compacted, and in which pieces. Pure: segments by their numbers, the time as an argument.

use std::ops::Range;

use tidegate_types::{Offset, Timestamp, TopicConfig};

/// The configs of a topic that compaction acts on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionPolicy {
    /// The share of a log that must be dirty before it is compacted.
    pub dirty_ratio_min: f64,
    /// A segment stays as it is while its newest record is younger.
    pub lag_ms_min: i64,
    /// A log is compacted, however clean it is, once its oldest dirty segment is older.
    pub lag_ms_max: i64,
    /// How long tombstones stay after they were first compacted.
    pub delete_retention_ms: i64,
    /// Segments are put together up to so many bytes.
    pub segment_bytes: u64,
    /// Bytes between two index entries.
    pub index_interval_bytes: u64,
}

impl From<&TopicConfig> for CompactionPolicy {
    fn from(config: &TopicConfig) -> Self {
        Self {
            dirty_ratio_min: config.dirty_ratio_min,
            lag_ms_min: config.compaction_lag_ms_min,
            lag_ms_max: config.compaction_lag_ms_max,
            delete_retention_ms: config.delete_retention_ms,
            segment_bytes: config.segment_bytes,
            index_interval_bytes: config.index_interval_bytes,
        }
    }
}

/// A segment in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) base: Offset,
    pub(crate) bytes: u64,
    /// In ms; `i64::MIN` without any.
    pub(crate) max_timestamp: i64,
}

/// How many of a log's segments may be compacted: the sealed ones below the high watermark, up to the first that is too young. The last one
/// is the active one.
pub(crate) fn compactable(segments: &[Facts], high_watermark: Offset, now: Timestamp, policy: &CompactionPolicy) -> usize {
    let youngest = now.millis().saturating_sub(policy.lag_ms_min);
    let may = |pair: &&[Facts]| pair[1].base <= high_watermark && pair[0].max_timestamp <= youngest;
    segments.windows(2).take_while(may).count()
}

/// What a look at a log has found to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dirt {
    /// The share of the bytes that may be compacted that never were.
    pub ratio: f64,
    /// Whether it is time, whatever the ratio.
    pub is_overdue: bool,
}

/// What there is to do for the first `end` segments, of which those that hold offsets from `first_dirty` on are dirty: `None` is nothing that
/// would be worth it. `first_timestamp` tells a segment's first timestamp, in ms.
pub(crate) fn dirt<E>(
    segments: &[Facts],
    end: usize,
    first_dirty: Offset,
    now: Timestamp,
    policy: &CompactionPolicy,
    first_timestamp: impl Fn(usize) -> Result<Option<i64>, E>,
) -> Result<Option<Dirt>, E> {
    let dirty = dirty(segments, end, first_dirty);
    let bytes = |range: Range<usize>| segments[range].iter().map(|segment| segment.bytes).sum::<u64>();
    let (dirty_bytes, all_bytes) = (bytes(dirty.clone()), bytes(0..end));
    if dirty_bytes == 0 {
        return Ok(None);
    }
    // Whole numbers below 2^53 are exact.
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more digits")]
    let ratio = dirty_bytes as f64 / all_bytes as f64;
    let oldest = dirty.map(first_timestamp).collect::<Result<Vec<_>, E>>()?.into_iter().flatten().min();
    let is_overdue = oldest.is_some_and(|oldest| now.millis().saturating_sub(oldest) > policy.lag_ms_max);
    Ok((ratio > policy.dirty_ratio_min || is_overdue).then_some(Dirt { ratio, is_overdue }))
}

/// Those of the first `end` segments that hold offsets from `first_dirty` on.
pub(crate) fn dirty(segments: &[Facts], end: usize, first_dirty: Offset) -> Range<usize> {
    let clean = segments[..=end.min(segments.len() - 1)].partition_point(|segment| segment.base <= first_dirty).saturating_sub(1);
    clean.min(end)..end
}

/// Neighbours that fit into one segment: by bytes, and by offsets that an index can say.
pub(crate) fn groups(segments: &[Facts], end: usize, policy: &CompactionPolicy) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0_u64;
    for (i, segment) in segments[..end].iter().enumerate() {
        let next_base = segments.get(i + 1).map_or(segment.base, |next| next.base);
        bytes += segment.bytes;
        match groups.last_mut() {
            Some(group)
                if bytes <= policy.segment_bytes && next_base.since(segments[group.start].base) <= u64::from(i32::MAX.unsigned_abs()) =>
            {
                group.end = i + 1;
            }
            _ => {
                groups.push(i..i + 1);
                bytes = segment.bytes;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> CompactionPolicy {
        CompactionPolicy { segment_bytes: 100, ..CompactionPolicy::from(&TopicConfig::default()) }
    }

    fn offset(n: u64) -> Offset {
        Offset::new(n).unwrap()
    }

    /// Segments of 40 bytes at 0, 10, 20, 30 and the active one at 40; the newest records of each are from 100, 200, 300, 400, 500.
    fn five() -> Vec<Facts> {
        (0..5).map(|n| Facts { base: offset(n * 10), bytes: 40, max_timestamp: i64::try_from(n + 1).unwrap() * 100 }).collect()
    }

    fn millis(n: i64) -> Timestamp {
        Timestamp::from_millis(n)
    }

    /// A promise: the active segment is never compacted, nothing above the high watermark is, and nothing that is too young, nor what follows it.
    #[test]
    fn what_may_be_compacted() {
        for (high_watermark, now, lag, may) in [
            (45, 1000, 0, 4),
            (40, 1000, 0, 4),
            (39, 1000, 0, 3),
            (9, 1000, 0, 0),
            (45, 400, 0, 4),
            (45, 399, 0, 3),
            (45, 1000, 600, 4),
            (45, 1000, 701, 2),
            (45, 1000, i64::MAX, 0),
            (45, i64::MIN, 1, 0),
        ] {
            let policy = CompactionPolicy { lag_ms_min: lag, ..policy() };
            assert_eq!(compactable(&five(), offset(high_watermark), millis(now), &policy), may, "{high_watermark} {now} {lag}");
        }
        assert_eq!(compactable(&five()[..1], offset(40), millis(1000), &policy()), 0);
    }

    /// A promise: a log is compacted when more than the ratio of it is dirty, or when the oldest of it is overdue, and never when nothing is.
    #[test]
    fn what_is_worth_it() {
        let first_timestamp = |i: usize| Ok::<_, ()>((i != 1).then_some(i64::try_from(i).unwrap() * 100 + 50));
        for (first_dirty, end, ratio, max_lag, found) in [
            (0, 4, 0.5, i64::MAX, Some((1.0, false))),
            (10, 4, 0.5, i64::MAX, Some((0.75, false))),
            (15, 4, 0.5, i64::MAX, Some((0.75, false))),
            (20, 4, 0.5, i64::MAX, None),
            (20, 4, 0.5, 750, None),
            (20, 4, 0.5, 749, Some((0.5, true))),
            (10, 4, 0.8, 749, Some((0.75, true))),
            (40, 4, 0.0, 0, None),
            (45, 4, 0.0, 0, None),
            (20, 2, 0.0, 0, None),
            (0, 0, 0.0, 0, None),
            (30, 4, 0.0, i64::MAX, Some((0.25, false))),
        ] {
            let policy = CompactionPolicy { dirty_ratio_min: ratio, lag_ms_max: max_lag, ..policy() };
            let dirt = dirt(&five(), end, offset(first_dirty), millis(1000), &policy, first_timestamp).unwrap();
            assert_eq!(dirt.map(|dirt| (dirt.ratio, dirt.is_overdue)), found, "{first_dirty} {end} {ratio} {max_lag}");
        }
    }

    proptest! {
        /// A promise: groups follow one another without a gap, and each fits a segment unless it is a single one.
        #[test]
        fn groups_fit(sizes in proptest::collection::vec((1_u64..3_000_000_000, 0_u64..150), 1..30)) {
            let mut base = 0;
            let segments: Vec<_> = sizes.iter().map(|(offsets, bytes)| {
                base += offsets;
                Facts { base: offset(base - offsets), bytes: *bytes, max_timestamp: 0 }
            }).collect();
            let end = segments.len() - 1;
            let groups = groups(&segments, end, &policy());
            prop_assert_eq!(groups.iter().cloned().flatten().collect::<Vec<_>>(), (0..end).collect::<Vec<_>>());
            let fits = |group: &Range<usize>| {
                let bytes: u64 = segments[group.clone()].iter().map(|segment| segment.bytes).sum();
                bytes <= 100 && segments[group.end].base.since(segments[group.start].base) <= u64::from(i32::MAX.unsigned_abs())
            };
            for (i, group) in groups.iter().enumerate() {
                prop_assert!(group.len() == 1 || fits(group));
                if let Some(next) = groups.get(i + 1) {
                    prop_assert!(!fits(&(group.start..next.start + 1)), "no group ends early");
                }
            }
        }
    }
}
