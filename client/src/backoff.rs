//! How long to wait before trying again, and until when.

use std::time::Duration;

use tokio::time::Instant;

/// What is as good as for ever; clocks go no further for certain.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// The moment so long after now; of a time that no clock can tell, one that nobody lives to see.
pub(crate) fn deadline(after: Duration) -> Instant {
    Instant::now() + after.min(FOREVER)
}

/// The wait after so many earlier failures in a row: `first` doubled each time, at most `longest`, more or less by a fifth as `jitter`, a random
/// number in `[0, 1)`, says.
pub(crate) fn backoff(first: Duration, longest: Duration, failures: u32, jitter: f64) -> Duration {
    let doubled = first.saturating_mul(1_u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX));
    doubled.min(longest).min(FOREVER).mul_f64(jitter.clamp(0.0, 1.0).mul_add(0.4, 0.8))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: waits double up to their bound, and differ by a fifth at most, however many failures there are.
    #[test]
    fn waits_are_bounded() {
        let millis = |failures, jitter| backoff(Duration::from_millis(100), Duration::from_secs(1), failures, jitter).as_millis();
        assert_eq!([0, 1, 2, 3, 4, 40, u32::MAX].map(|n| millis(n, 0.5)), [100, 200, 400, 800, 1_000, 1_000, 1_000]);
        assert_eq!((millis(0, 0.0), millis(9, 1.0)), (80, 1_200));
        let endless = backoff(Duration::MAX, Duration::MAX, u32::MAX, 1.0);
        assert!(endless > FOREVER && deadline(endless) > Instant::now() && deadline(Duration::MAX) > Instant::now());
    }
}
