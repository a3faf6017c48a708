//! Moments and durations as people write and read them: the one grammar of times, whichever verb and whichever flag takes one.
//!
//! | written | means |
//! |---|---|
//! | `2026-11-21`, `2026-11-21T07:00` | UTC |
//! | `2026-11-21T07:00+01:00`, `2026-11-21T07:00Z` | so far from UTC |
//! | `2026-11-21T07:00[Europe/Berlin]` | what clocks show there; a time that they show twice needs its offset too, one that they skip is refused |
//! | `1700000000000` | milliseconds since 1970 |

use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::{DateTimeParser, Pieces};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use tidegate_types::Offset;

/// Fewer milliseconds than this are most likely seconds: as milliseconds they are in early 1970 (26 April).
pub(super) const MILLIS_PLAUSIBLE: i64 = 10_000_000_000;

const WANTED: &str = "wanted: 2026-11-21, 2026-11-21T07:00, 2026-11-21T07:00:00.123+01:00, 2026-11-21T07:00[Europe/Berlin] \
    (UTC if no zone is given), or milliseconds since 1970";

/// A moment as file names have it: UTC, to the second, such as `20261121T070000Z`.
pub(super) fn file_name(millis: i64) -> String {
    Timestamp::from_millisecond(millis).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Milliseconds since 1970 of what a person writes for a time.
///
/// # Errors
/// A sentence on what is wrong with it, and what is taken.
pub(super) fn parse_time(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return parse_millis(text);
    }
    let millis = parse_written(text)?.as_millisecond();
    if millis < 0 { Err(format!("'{text}' is before 1970")) } else { Ok(millis) }
}

/// Nothing of the text is passed over: where a zone stands, it counts, or the time is refused.
fn parse_written(text: &str) -> Result<Timestamp, String> {
    let no_time = || format!("'{text}' is no time; {WANTED}");
    let pieces = Pieces::parse(text).map_err(|_| no_time())?;
    let civil = DateTime::from_parts(pieces.date(), pieces.time().unwrap_or(Time::midnight()));
    match (pieces.time_zone_annotation().is_some(), pieces.offset().is_some()) {
        (false, _) if text.contains('[') => Err(format!("'{text}': only a time zone may stand in brackets, such as [Europe/Berlin]")),
        (false, false) => civil.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()).map_err(|_| no_time()),
        (false, true) => text.parse().map_err(|_| no_time()),
        (true, _) => {
            let unknown = |_| format!("'{text}': this machine knows no such time zone; give it as +01:00, or the time in UTC");
            let zone = pieces.to_time_zone().map_err(unknown)?.ok_or_else(no_time)?;
            if pieces.offset().is_some() {
                let disagrees = |_| format!("'{text}': what stands before the brackets is not that zone's offset at that time");
                return DateTimeParser::new().parse_zoned(text).map(|zoned| zoned.timestamp()).map_err(disagrees);
            }
            in_zone(text, civil, &zone)
        }
    }
}

fn in_zone(text: &str, civil: DateTime, zone: &TimeZone) -> Result<Timestamp, String> {
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => ambiguous.unambiguous().map_err(|_| format!("'{text}' is no time; {WANTED}")),
        AmbiguousOffset::Gap { .. } => Err(format!("'{text}' never was: the clocks there go forward then, and pass over it")),
        AmbiguousOffset::Fold { before, after } => Err(format!(
            "'{text}' comes twice: the clocks there go back then; say which is meant, with {before} or {after} before the brackets"
        )),
    }
}

fn parse_millis(text: &str) -> Result<i64, String> {
    let millis: i64 =
        text.parse().ok().filter(|n| (0..=Offset::MAX.to_i64()).contains(n)).ok_or_else(|| format!("{text} is out of range; {WANTED}"))?;
    if text.len() == 10 && millis < MILLIS_PLAUSIBLE {
        return Err(format!("{text} looks like seconds, and milliseconds are wanted: did you mean {text}000?"));
    }
    Ok(millis)
}

/// A flag's duration, such as `5ms` or `1m30s`.
///
/// # Errors
/// A sentence on what is taken.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text.parse().map_err(|_| format!("'{text}' is no duration; wanted: 5ms, 2s, 1m30s"))?;
    duration.try_into().map_err(|_| format!("'{text}' is less than nothing"))
}

/// A moment for people: UTC, to the millisecond.
pub(super) fn shown(millis: i64) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |time| format!("{time:.3}"))
}

/// How long something took, for people: `3 ms`, `1.4 s`, `75 s`.
pub(super) fn took(duration: Duration) -> String {
    match duration.as_millis() {
        0..1_000 => format!("{} ms", duration.as_millis()),
        1_000..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => format!("{} s", super::record::count(duration.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T07:00Z.
    const SEVEN: i64 = 1_795_244_400_000;

    /// A promise: every way to write a moment means the same moment.
    #[test]
    fn moments() {
        for text in [
            "1795244400000",
            "2026-11-21T07:00",
            "2026-11-21 07:00:00.000",
            "2026-11-21T07:00Z",
            "2026-11-21T08:00+01:00",
            "2026-11-21T08:00[Europe/Berlin]",
            "2026-11-21T08:00+01:00[Europe/Berlin]",
            "2026-11-21T07:00Z[Europe/Berlin]",
            "2026-11-21T02:00[America/New_York]",
            "2026-11-21T08:00[+01:00]",
        ] {
            assert_eq!(parse_time(text), Ok(SEVEN), "{text}");
        }
        assert_eq!(parse_time("2026-11-21[Europe/Berlin]"), Ok(SEVEN - 8 * 3_600_000));
        assert_eq!(shown(SEVEN), "2026-11-21T07:00:00.000Z");
    }

    /// A promise: no part of a time is passed over; what cannot be kept is refused, with the reason.
    #[test]
    fn zones_are_not_passed_over() {
        for (text, help) in [
            ("2026-11-21T07:00[Nowhere/Land]", "knows no such time zone"),
            ("2026-11-21T07:00[]", "no time"),
            ("2026-11-21T07:00[u-ca=hebrew]", "only a time zone"),
            ("2026-11-21T07:00Z[u-ca=hebrew]", "only a time zone"),
            ("2026-11-21T07:00+02:00[Europe/Berlin]", "not that zone's offset"),
            ("2026-03-29T02:30[Europe/Berlin]", "never was"),
            ("2026-10-25T02:30[Europe/Berlin]", "with +02 or +01"),
            ("2026-11-21T07:00+99:00", "no time"),
            ("9999-12-31T23:59-25:00", "no time"),
            ("2026-11-21T07:00 Europe/Berlin", "no time"),
            ("2026-13-01", "no time"),
            ("soon", "no time"),
            ("", "no time"),
            ("1969-12-31", "before 1970"),
            ("1700000000", "did you mean 1700000000000"),
            ("99999999999999999999", "out of range"),
            ("-5", "out of range"),
        ] {
            let error = parse_time(text).unwrap_err();
            assert!(error.contains(help), "{text}: {error}");
        }
        assert_eq!(parse_time("2026-10-25T02:30+02:00[Europe/Berlin]"), parse_time("2026-10-25T00:30"));
        assert_eq!(parse_time("2026-10-25T02:30+01:00[Europe/Berlin]"), parse_time("2026-10-25T01:30"));
    }

    /// A promise: what was quick is not said to have taken no time.
    #[test]
    fn times_taken() {
        let of = |millis| took(Duration::from_millis(millis));
        assert_eq!((of(0), of(47), of(1_449), of(3_600_000)), ("0 ms".into(), "47 ms".into(), "1.4 s".into(), "3,600 s".into()));
    }
}
