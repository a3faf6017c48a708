//! Moments as people write them: `@2026-11-21T07:00`, `@1700000000000`, `1h` (so long ago).

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Milliseconds since 1970 of what `text` says, seen from `now`. A time without a zone is UTC; the `@` may be left out.
///
/// # Errors
/// A sentence on what it takes.
pub(super) fn moment(text: &str, now: i64) -> Result<i64, String> {
    let bare = text.strip_prefix('@').unwrap_or(text);
    let is_number = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit());
    let millis = if is_number { bare.parse().ok() } else { written(bare).or_else(|| ago(bare, now)) };
    millis.filter(|millis| *millis >= 0).ok_or_else(|| {
        format!(
            "'{text}' is no time: give @2026-11-21T07:00 (UTC unless it names a zone), @ and milliseconds since 1970, or how long ago (1h)"
        )
    })
}

fn written(text: &str) -> Option<i64> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.as_millisecond());
    }
    let civil: DateTime = text.parse().ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

fn ago(text: &str, now: i64) -> Option<i64> {
    let duration: SignedDuration = text.parse().ok()?;
    let millis = i64::try_from(duration.as_millis()).ok().filter(|millis| *millis >= 0)?;
    now.checked_sub(millis)
}

/// A moment for people: UTC, to the millisecond.
pub(super) fn shown(millis: i64) -> String {
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |timestamp| format!("{timestamp:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: every way to write a moment means the same moment, and what is none is refused.
    #[test]
    fn moments() {
        let now = 1_700_003_600_000;
        for text in
            ["@1700000000000", "1700000000000", "@2023-11-14T22:13:20Z", "2023-11-14T22:13:20", "2023-11-15T00:13:20+02:00", "1h", "@60m"]
        {
            assert_eq!(moment(text, now), Ok(1_700_000_000_000), "{text}");
        }
        assert_eq!(moment("@2023-11-14", now), Ok(1_699_920_000_000));
        assert_eq!(shown(1_700_000_000_000), "2023-11-14T22:13:20.000Z");
        for wrong in ["", "@", "soon", "-1h", "@-5", "99999999999999999999", "2023-13-01", "1h later"] {
            assert!(moment(wrong, now).is_err(), "{wrong}");
        }
    }
}
