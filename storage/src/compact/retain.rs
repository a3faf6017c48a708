//! Which records stay. Pure.

use tidegate_types::{Offset, Record, Timestamp};

use super::key_map::KeyMap;

/// The rule of one round.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The latest offset of each key that was written between the first dirty offset and `end`.
    pub(crate) latest: KeyMap,
    /// Everything from here on stays.
    pub(crate) end: Offset,
    pub(crate) now: Timestamp,
}

impl Rule {
    /// Whether a record stays whose batch has this delete horizon.
    pub(crate) fn keeps(&self, record: &Record<'_>, horizon: Option<Timestamp>) -> bool {
        if record.offset >= self.end {
            return true;
        }
        // Without a key nothing says what it would be the latest of. Such a record is from before the topic was compacted.
        let Some(key) = record.key else { return false };
        let is_latest = self.latest.latest(key).is_none_or(|latest| latest <= record.offset);
        // A tombstone has had its first round when there is a horizon: all older records of its key are gone.
        is_latest && (record.value.is_some() || horizon.is_none_or(|horizon| self.now <= horizon))
    }
}

#[cfg(test)]
mod tests {
    use tidegate_types::{Encoding, record::Headers};

    use super::*;

    /// A promise: the latest of each key stays, tombstones until their horizon has passed, and all that no round has seen yet.
    #[test]
    fn who_stays() {
        let offset = |n| Offset::new(n).unwrap();
        let mut latest = KeyMap::new(1 << 10, 10, &[7; 16]);
        latest.note(b"a", offset(5));
        latest.note(b"b", offset(7));
        let rule = Rule { latest, end: offset(10), now: Timestamp::from_millis(1000) };
        for (at, key, has_value, horizon, stays) in [
            (5, Some("a"), true, None, true),
            (4, Some("a"), true, None, false),
            (4, Some("a"), false, None, false),
            (4, Some("other"), true, None, true),
            (4, None, true, None, false),
            (12, None, true, None, true),
            (12, Some("a"), true, None, true),
            (10, Some("a"), false, Some(1), true),
            (7, Some("b"), false, None, true),
            (7, Some("b"), false, Some(1000), true),
            (7, Some("b"), false, Some(999), false),
            (7, Some("b"), true, Some(999), true),
            (3, Some("other"), false, Some(999), false),
            (3, Some("other"), false, Some(1001), true),
        ] {
            let record = Record {
                offset: offset(at),
                timestamp: Timestamp::from_millis(0),
                encoding: Encoding::Text,
                key: key.map(str::as_bytes),
                value: has_value.then_some(b"v"),
                headers: Headers::default(),
            };
            assert_eq!(rule.keeps(&record, horizon.map(Timestamp::from_millis)), stays, "{at} {key:?} {has_value} {horizon:?}");
        }
    }
}
