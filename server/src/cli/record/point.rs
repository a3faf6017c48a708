//! A place in a partition: the grammar of `--from` and `--until`, and of the places and times of `topic offsets` and `topic trim`.
//!
//! | written | means |
//! |---|---|
//! | `start`, `end` | the first record kept; the end as it is now |
//! | `12345` | that offset |
//! | `-100` | so many records before the end, in each partition |
//! | `@2026-11-21T07:00`, `@2026-11-21`, `@1700000000000` | the first record of that time or later, as [`time`](crate::cli::time) has it |
//! | `1h`, `30m`, `2d`, `1h30m` | so long ago |

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use tidegate_types::Offset;

use crate::cli::time::{parse_time, shown};

/// What is written instead, by people who come from other tools.
const OTHER_WORDS: [(&str, &str); 9] = [
    ("beginning", "start"),
    ("begin", "start"),
    ("earliest", "start"),
    ("first", "start"),
    ("latest", "end"),
    ("last", "end"),
    ("tail", "end"),
    ("now", "end"),
    ("stop", "end"),
];
/// A place in a partition, not yet looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Point {
    /// The first record kept.
    Start,
    /// The end as it is now.
    End,
    /// An offset.
    Offset(u64),
    /// So many records before the end.
    BeforeEnd(u64),
    /// The first record of that time (milliseconds since 1970) or later.
    Time(i64),
    /// So many milliseconds before now.
    Ago(i64),
}

impl Point {
    /// The time in milliseconds since 1970, if it is a time, seen from `now`.
    pub(in crate::cli) fn time(self, now: i64) -> Option<i64> {
        match self {
            Self::Time(millis) => Some(millis),
            Self::Ago(millis) => Some(now.saturating_sub(millis).max(0)),
            Self::Start | Self::End | Self::Offset(_) | Self::BeforeEnd(_) => None,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::End => f.write_str("end"),
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::BeforeEnd(records) => write!(f, "-{records}"),
            Self::Time(millis) => write!(f, "@{}", shown(*millis)),
            Self::Ago(millis) => write!(f, "{:#}", SignedDuration::from_millis(*millis)),
        }
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => return Ok(Self::Start),
            "end" => return Ok(Self::End),
            "" => return Err(format!("it is empty; {WANTED}")),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            // `@1h` says the same as `1h`; of what is neither, the time is the likelier.
            return parse_time(time).map(Self::Time).or_else(|reason| parse_ago(time).map(Self::Ago).map_err(|_| reason));
        }
        if let Some(records) = text.strip_prefix('-') {
            let is_number = !records.is_empty() && records.bytes().all(|b| b.is_ascii_digit());
            return if is_number {
                parse_number(records).map(Self::BeforeEnd)
            } else {
                Err(format!("after '-' a number of records is expected; {WANTED}"))
            };
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return parse_number(text).map(Self::Offset);
        }
        let lower = text.to_lowercase();
        if let Some((_, ours)) = OTHER_WORDS.iter().find(|(theirs, _)| *theirs == lower) {
            return Err(format!("did you mean '{ours}'?"));
        }
        if lower == "start" || lower == "end" {
            return Err(format!("did you mean '{lower}'?"));
        }
        if looks_like_a_time(text) {
            return Err(format!("a time begins with '@': did you mean '@{text}'?"));
        }
        parse_ago(text).map(Self::Ago)
    }
}

const WANTED: &str =
    "wanted: start, end, an offset (12345), records before the end (-100), a time (@2026-11-21T07:00) or how long ago (1h)";

fn parse_number(digits: &str) -> Result<u64, String> {
    let largest = Offset::MAX.get();
    digits.parse().ok().filter(|n| *n <= largest).ok_or_else(|| format!("{digits} is beyond the largest offset, {largest}"))
}

fn looks_like_a_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-'
}

fn parse_ago(text: &str) -> Result<i64, String> {
    let refuse = || format!("'{text}' is no place in a partition; {WANTED}");
    let span: Span = text.parse().map_err(|_| refuse())?;
    let duration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| format!("'{text}': how long ago is said in weeks or less, as in 52w, 1d, 1h30m"))?;
    if duration.is_negative() {
        return Err(refuse());
    }
    i64::try_from(duration.as_millis()).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::cli::time::MILLIS_PLAUSIBLE;

    /// A promise: every form that is documented means what the documentation says.
    #[test]
    fn the_forms() {
        for (text, point) in [
            ("start", Point::Start),
            ("end", Point::End),
            ("0", Point::Offset(0)),
            ("12345", Point::Offset(12_345)),
            ("-100", Point::BeforeEnd(100)),
            ("@0", Point::Time(0)),
            ("@1700000000000", Point::Time(1_700_000_000_000)),
            ("@2026-11-21", Point::Time(1_795_219_200_000)),
            ("@2026-11-21T07:00", Point::Time(1_795_244_400_000)),
            ("@2026-11-21 07:00:00", Point::Time(1_795_244_400_000)),
            ("@2026-11-21T07:00:00.123Z", Point::Time(1_795_244_400_123)),
            ("@2026-11-21T08:00:00+01:00", Point::Time(1_795_244_400_000)),
            ("1h", Point::Ago(3_600_000)),
            ("1h30m", Point::Ago(5_400_000)),
            ("2d", Point::Ago(172_800_000)),
            ("1w", Point::Ago(604_800_000)),
            ("500ms", Point::Ago(500)),
            ("@1h", Point::Ago(3_600_000)),
            ("@2026-11-21T08:00[Europe/Berlin]", Point::Time(1_795_244_400_000)),
        ] {
            assert_eq!(text.parse(), Ok(point), "{text}");
        }
    }

    /// A promise: what cannot be understood is refused with what to write instead.
    #[test]
    fn refusals_help() {
        for (text, help) in [
            ("", "wanted"),
            ("earliest", "'start'"),
            ("LATEST", "'end'"),
            ("Start", "'start'"),
            ("-", "number of records"),
            ("-1h", "number of records"),
            ("2026-11-21T07:00", "'@2026-11-21T07:00'"),
            ("@yesterday", "2026-11-21T07:00"),
            ("@2026-13-01", "no time"),
            ("@1969-12-31", "before 1970"),
            ("@1700000000", "1700000000000"),
            ("@-5", "out of range"),
            ("@-1h", "no time"),
            ("@2026-11-21T07:00[Nowhere/Land]", "no such time zone"),
            ("99999999999999999999", "largest offset"),
            ("9007199254740993", "largest offset"),
            ("3 months", "weeks or less"),
            ("half an hour", "how long ago"),
            ("1x", "how long ago"),
            ("1h ago", "how long ago"),
        ] {
            let error = text.parse::<Point>().unwrap_err();
            assert!(error.contains(help), "{text}: {error}");
        }
    }

    /// A promise: a time is looked up as itself, however it was said, and never lies before 1970.
    #[test]
    fn ago_is_seen_from_now() {
        assert_eq!(Point::Ago(1_000).time(5_000), Some(4_000));
        assert_eq!(Point::Ago(i64::MAX).time(5_000), Some(0));
        assert_eq!(Point::Offset(7).time(5_000), None);
    }

    fn point() -> impl Strategy<Value = Point> {
        prop_oneof![
            Just(Point::Start),
            Just(Point::End),
            (0..=Offset::MAX.get()).prop_map(Point::Offset),
            (0..=Offset::MAX.get()).prop_map(Point::BeforeEnd),
            (MILLIS_PLAUSIBLE..=Offset::MAX.to_i64()).prop_map(Point::Time),
            (0..=1_000_000_000_000_i64).prop_map(Point::Ago),
        ]
    }

    proptest! {
        /// A promise: whatever a point is, it can be written, and is read back as the same.
        #[test]
        fn points_are_read_back(point in point()) {
            prop_assert_eq!(point.to_string().parse(), Ok(point));
        }

        /// A promise: a time is the same time in every way it can be written.
        #[test]
        fn times_agree(millis in 0_i64..4_000_000_000_000) {
            let time = Timestamp::from_millisecond(millis).unwrap();
            prop_assert_eq!(format!("@{time}").parse(), Ok(Point::Time(millis)));
            let civil = TimeZone::UTC.to_datetime(time);
            prop_assert_eq!(format!("@{civil}").parse(), Ok(Point::Time(millis)));
        }

        /// A promise: no text makes the parser fall over, and each refusal says something.
        #[test]
        fn any_text_is_answered(text in "\\PC{0,24}|[-@0-9a-z:.T+]{0,24}") {
            if let Err(reason) = text.parse::<Point>() {
                prop_assert!(!reason.is_empty());
            }
        }
    }
}
