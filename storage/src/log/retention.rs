//! Retention: which of a log's oldest segments are given up, by a topic's rules. Decided here, in a pure function; given up as a trim does it.
//!
//! ```text
//!   oldest ──────────────────────────────────────> active
//!   a segment goes    if it lies wholly before the log's start, which a trim has moved,
//!                  or if its newest record is older than retention.ms,
//!                  or if what is left without it has retention.bytes at least
//!   and never if the one before it stays, or if it reaches beyond the high watermark
//! ```
//!
//! The active segment goes only when all segments are too old, itself included: the log rolls first, and goes on in an empty one. So a log
//! keeps what it has appended last whatever `retention.bytes` says, but nothing for ever that is too old. A segment without a record's
//! timestamp (none, or all before 1970) is never too old: the file's own time is not asked for.

use std::sync::Arc;

use tidegate_types::{Offset, Timestamp, TopicConfig};

use super::{PartitionLog, Shared, Trimmed};
use crate::Error;
use crate::reader::LogReader;

/// A topic's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionPolicy {
    /// The oldest that is kept (`retention.ms`); none is no bound.
    pub ms: Option<i64>,
    /// What may go only if so many bytes are left (`retention.bytes`); none is no bound.
    pub bytes: Option<u64>,
}

/// Without `delete` in its policy, a topic has no bounds.
impl From<&TopicConfig> for RetentionPolicy {
    fn from(config: &TopicConfig) -> Self {
        if !config.cleanup_policy.delete {
            return Self::default();
        }
        Self { ms: config.retention_ms, bytes: config.retention_bytes }
    }
}

impl RetentionPolicy {
    fn is_too_old(&self, segment: &Facts, now: Timestamp) -> bool {
        segment.max_timestamp >= 0 && self.ms.is_some_and(|ms| now.millis().saturating_sub(segment.max_timestamp) > ms)
    }

    fn is_too_much(&self, left: u64) -> bool {
        self.bytes.is_some_and(|bytes| left >= bytes)
    }
}

/// What is to be known of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    base: Offset,
    bytes: u64,
    /// Negative if no record has one.
    max_timestamp: i64,
}

/// A log as it is looked at.
#[derive(Debug, Clone)]
struct Look {
    /// In order; the last one is active.
    segments: Vec<Facts>,
    log_start: Offset,
    log_end: Offset,
    /// Nothing beyond goes.
    high_watermark: Offset,
}

/// What goes of a log, and why: segments, counted by the first reason that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Where the log begins without them.
    pub start: Offset,
    /// Bytes of their batches.
    pub bytes: u64,
    /// Those before the log's start.
    pub trimmed: usize,
    /// Those too old.
    pub by_age: usize,
    /// Those beyond the size.
    pub by_size: usize,
    /// Whether the active one is among them, so that the log rolls first.
    rolls: bool,
}

impl Expired {
    /// How many go.
    pub fn segments(&self) -> usize {
        self.trimmed + self.by_age + self.by_size
    }
}

/// Decides; nothing if nothing goes.
fn decide(look: &Look, policy: &RetentionPolicy, now: Timestamp) -> Option<Expired> {
    let (active, sealed) = look.segments.split_last()?;
    let ends = look.segments.iter().skip(1).map(|next| next.base);
    let mut left: u64 = look.segments.iter().map(|segment| segment.bytes).sum();
    let mut expired = Expired { start: look.log_start, bytes: 0, trimmed: 0, by_age: 0, by_size: 0, rolls: false };
    for (segment, end) in sealed.iter().zip(ends) {
        let why = if end > look.high_watermark {
            break;
        } else if end <= look.log_start {
            &mut expired.trimmed
        } else if policy.is_too_old(segment, now) {
            &mut expired.by_age
        } else if policy.is_too_much(left - segment.bytes) {
            &mut expired.by_size
        } else {
            break;
        };
        *why += 1;
        left -= segment.bytes;
        expired.bytes += segment.bytes;
        expired.start = expired.start.max(end);
    }
    let all_too_old = look.segments.iter().all(|segment| policy.is_too_old(segment, now));
    if expired.segments() == sealed.len() && all_too_old && active.bytes > 0 && look.log_end <= look.high_watermark {
        expired.rolls = true;
        expired.by_age += 1;
        expired.bytes += active.bytes;
        expired.start = look.log_end;
    }
    (expired.segments() > 0).then_some(expired)
}

impl Shared {
    pub(super) fn expired(&self, log_end: Offset, high_watermark: Offset, policy: &RetentionPolicy, now: Timestamp) -> Option<Expired> {
        let segments = self.segments.load();
        let facts = |segment: &Arc<crate::segment::Segment>| Facts {
            base: segment.base,
            bytes: segment.bytes(),
            max_timestamp: segment.max_timestamp(),
        };
        let look = Look { segments: segments.iter().map(facts).collect(), log_start: self.log_start(), log_end, high_watermark };
        decide(&look, policy, now)
    }
}

impl LogReader {
    /// Whether retention would give something up. The writer may be about to change that: it decides for itself.
    pub fn has_expired(&self, log_end: Offset, high_watermark: Offset, policy: &RetentionPolicy, now: Timestamp) -> bool {
        self.shared.expired(log_end, high_watermark, policy, now).is_some()
    }
}

impl PartitionLog {
    /// Gives up what the policy no longer keeps, of what lies below the high watermark, which is at most the log's end. When this returns,
    /// it is as after [`PartitionLog::trim_to`]. Nothing if nothing goes.
    ///
    /// # Errors
    /// As [`PartitionLog::trim_to`].
    pub fn expire(
        &mut self,
        high_watermark: Offset,
        policy: &RetentionPolicy,
        now: Timestamp,
    ) -> Result<Option<(Expired, Trimmed)>, Error> {
        self.check_poison()?;
        let Some(expired) = self.shared.expired(self.log_end, high_watermark, policy, now) else { return Ok(None) };
        if expired.rolls {
            self.roll()?;
        }
        Ok(Some((expired, self.trim_to(expired.start)?)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_000;

    fn offset(n: u64) -> Offset {
        Offset::new(n).unwrap()
    }

    /// Segments of ten offsets each, as (bytes, largest timestamp); all of it readable.
    fn look(segments: &[(u64, i64)]) -> Look {
        let facts = |(i, (bytes, max_timestamp)): (usize, &(u64, i64))| Facts {
            base: offset(10 * i as u64),
            bytes: *bytes,
            max_timestamp: *max_timestamp,
        };
        let end = offset(10 * segments.len() as u64);
        Look { segments: segments.iter().enumerate().map(facts).collect(), log_start: Offset::ZERO, log_end: end, high_watermark: end }
    }

    /// Start, bytes, (trimmed, by age, by size), rolls.
    #[expect(clippy::type_complexity, reason = "a row of a table")]
    fn plain(expired: Option<Expired>) -> Option<(u64, u64, (usize, usize, usize), bool)> {
        expired.map(|e| (e.start.get(), e.bytes, (e.trimmed, e.by_age, e.by_size), e.rolls))
    }

    /// A promise: what goes is what the rules say, to the byte and to the millisecond.
    #[test]
    fn the_rules_are_exact() {
        let ms = |ms| RetentionPolicy { ms: Some(ms), bytes: None };
        let bytes = |bytes| RetentionPolicy { ms: None, bytes: Some(bytes) };
        let three = [(100, 100), (100, 200), (100, 300)];
        for (segments, policy, gone) in [
            (&three[..], RetentionPolicy::default(), None),
            (&three, ms(900), None),
            (&three, ms(899), Some((10, 100, (0, 1, 0), false))),
            (&three, ms(700), Some((20, 200, (0, 2, 0), false))),
            (&three, ms(699), Some((30, 300, (0, 3, 0), true))),
            (&three, ms(0), Some((30, 300, (0, 3, 0), true))),
            (&three, bytes(201), None),
            (&three, bytes(200), Some((10, 100, (0, 0, 1), false))),
            (&three, bytes(101), Some((10, 100, (0, 0, 1), false))),
            // The active segment never goes by size.
            (&three, bytes(0), Some((20, 200, (0, 0, 2), false))),
            (&three, RetentionPolicy { ms: Some(899), bytes: Some(100) }, Some((20, 200, (0, 1, 1), false))),
            // All go by one rule or the other, but not all are too old: the active one stays for now.
            (&[(100, 900), (100, 100)], RetentionPolicy { ms: Some(500), bytes: Some(0) }, Some((10, 100, (0, 0, 1), false))),
            // What lies behind a segment that stays, stays.
            (&[(100, 900), (100, 100), (100, 100)], ms(500), None),
            // From the future, and without any time: never too old.
            (&[(100, i64::MAX), (100, 0)], ms(0), None),
            (&[(100, -1), (100, 0)], ms(0), None),
            (&[(100, i64::MIN), (100, 0)], ms(0), None),
            (&[(100, 0), (100, 900)], ms(i64::MAX), None),
            // An empty active segment is all that is left already.
            (&[(0, i64::MIN)], ms(0), None),
            (&[(100, 0), (0, i64::MIN)], ms(0), Some((10, 100, (0, 1, 0), false))),
            (&[(100, 0)], ms(0), Some((10, 100, (0, 1, 0), true))),
            (&[], ms(0), None),
        ] {
            assert_eq!(plain(decide(&look(segments), &policy, Timestamp::from_millis(NOW))), gone, "{segments:?} {policy:?}");
        }
    }

    /// A promise: nothing goes that was not readable yet; what a trim has given up goes without any rule.
    #[test]
    fn the_marks_are_kept() {
        let all = RetentionPolicy { ms: Some(0), bytes: Some(0) };
        for (start, high_watermark, policy, gone) in [
            (0, 30, all, Some((30, 300, (0, 3, 0), true))),
            (0, 29, all, Some((20, 200, (0, 2, 0), false))),
            (0, 20, all, Some((20, 200, (0, 2, 0), false))),
            (0, 19, all, Some((10, 100, (0, 1, 0), false))),
            (0, 9, all, None),
            (9, 30, RetentionPolicy::default(), None),
            (10, 30, RetentionPolicy::default(), Some((10, 100, (1, 0, 0), false))),
            (25, 30, RetentionPolicy::default(), Some((25, 200, (2, 0, 0), false))),
            (25, 29, all, Some((25, 200, (2, 0, 0), false))),
            (30, 30, all, Some((30, 300, (2, 1, 0), true))),
        ] {
            let mut look = look(&[(100, 0), (100, 0), (100, 0)]);
            (look.log_start, look.high_watermark) = (offset(start), offset(high_watermark));
            assert_eq!(plain(decide(&look, &policy, Timestamp::from_millis(NOW))), gone, "{start} {high_watermark} {policy:?}");
        }
    }

    /// A promise: only `delete` deletes.
    #[test]
    fn compacted_topics_have_no_bounds() {
        let policy = |cleanup: &str| {
            let overrides = [("cleanup.policy", cleanup), ("retention.bytes", "5"), ("retention.ms", "7")];
            let overrides = overrides.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            RetentionPolicy::from(&TopicConfig::from_overrides(&overrides).unwrap())
        };
        assert_eq!(policy("compact"), RetentionPolicy::default());
        for cleanup in ["delete", "compact,delete"] {
            assert_eq!(policy(cleanup), RetentionPolicy { ms: Some(7), bytes: Some(5) });
        }
    }

    /// How many of the first segments go, by the words of the rules: as many as possible such that each has a reason. Tried from the most down.
    fn by_hand(look: &Look, policy: &RetentionPolicy, now: i64) -> usize {
        let count = look.segments.len();
        let end = |i: usize| look.segments.get(i + 1).map_or(look.log_end, |next| next.base);
        let sum = |from: usize| look.segments[from..].iter().map(|s| i128::from(s.bytes)).sum::<i128>();
        let old = |i: usize| {
            let newest = look.segments[i].max_timestamp;
            policy.ms.is_some_and(|ms| newest >= 0 && i128::from(now) - i128::from(newest) > i128::from(ms))
        };
        let has_reason = |i: usize| {
            let beyond = policy.bytes.is_some_and(|bytes| sum(i + 1) >= i128::from(bytes));
            if i + 1 == count { (0..count).all(old) && look.segments[i].bytes > 0 } else { old(i) || beyond || end(i) <= look.log_start }
        };
        (0..=count).rev().find(|gone| (0..*gone).all(|i| end(i) <= look.high_watermark && has_reason(i))).unwrap_or(0)
    }

    fn any_look() -> impl Strategy<Value = Look> {
        let segment =
            (1_u64..5, prop_oneof![9 => 1_u64..50, 1 => Just(0)], prop_oneof![9 => 0_i64..1_100, 1 => Just(-1), 1 => any::<i64>()]);
        (proptest::collection::vec(segment, 1..8), any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()).prop_map(
            |(segments, start, high_watermark, all_readable)| {
                let mut base = 7;
                let mut facts = Vec::new();
                for (offsets, bytes, max_timestamp) in segments {
                    facts.push(Facts { base: offset(base), bytes, max_timestamp });
                    base += offsets;
                }
                let log_start = 7 + start.index(usize::try_from(base - 7).unwrap() + 1) as u64 / 3;
                let mark = log_start + high_watermark.index(usize::try_from(base - log_start).unwrap() + 1) as u64;
                let high_watermark = offset(if all_readable { base } else { mark });
                Look { segments: facts, log_start: offset(log_start), log_end: offset(base), high_watermark }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        /// A promise: for any log and any rules, what stays is the log's end, as much goes as the rules name and no segment more, and the
        /// counts are true. A second look finds nothing more.
        #[test]
        fn what_stays_is_an_end_of_the_log(
            look in any_look(),
            ms in proptest::option::of(0_i64..1_100),
            bytes in proptest::option::of(0_u64..200),
            now in 0_i64..1_200,
        ) {
            let policy = RetentionPolicy { ms, bytes };
            let expired = decide(&look, &policy, Timestamp::from_millis(now));
            let gone = by_hand(&look, &policy, now);
            prop_assert_eq!(expired.map_or(0, |e| e.segments()), gone);
            let Some(expired) = expired else { return Ok(()) };
            let mut rest = look.clone();
            let removed: Vec<_> = rest.segments.drain(..gone).collect();
            prop_assert_eq!(expired.bytes, removed.iter().map(|s| s.bytes).sum::<u64>());
            prop_assert_eq!(expired.rolls, rest.segments.is_empty());
            if rest.segments.is_empty() {
                rest.segments.push(Facts { base: look.log_end, bytes: 0, max_timestamp: i64::MIN });
            }
            prop_assert_eq!(expired.start, look.log_start.max(rest.segments[0].base));
            prop_assert!(expired.start <= look.high_watermark);
            rest.log_start = expired.start;
            let again = decide(&rest, &policy, Timestamp::from_millis(now));
            // But for the active segment, which may find itself alone, and too old.
            prop_assert!(again.is_none_or(|again| again.rolls && !expired.rolls), "{again:?}");
        }
    }
}
