//! How fast a round may go, and whether it is to go on.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The longest that a round sleeps before it looks whether it is wanted any more.
const NAP: Duration = Duration::from_millis(50);
/// What has not been spent for so long is lost: a round that was held up does not make up for it in one go.
const SAVED: Duration = Duration::from_secs(1);

/// A round's pace: bytes read and written together.
#[derive(Debug)]
pub(crate) struct Pace {
    stop: Arc<AtomicBool>,
    bytes_per_second: u64,
    /// When all that was spent will have been paid for.
    paid_at: Cell<Instant>,
}

impl Pace {
    pub(crate) fn new(stop: Arc<AtomicBool>, bytes_per_second: u64) -> Self {
        Self { stop, bytes_per_second: bytes_per_second.max(1), paid_at: Cell::new(Instant::now()) }
    }

    /// Whether nobody wants the round any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits as long as so many bytes more are too many, or until the round is stopped.
    pub(crate) fn spend(&self, bytes: u64) {
        // No bound is Kafka's largest number.
        if self.bytes_per_second >= i64::MAX.unsigned_abs() {
            return;
        }
        let price = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.bytes_per_second);
        let begun = Instant::now();
        let paid_at = self.paid_at.get().max(begun.checked_sub(SAVED).unwrap_or(begun)) + price;
        self.paid_at.set(paid_at);
        while !self.is_stopped() {
            let left = paid_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(NAP));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a round takes at least the time that its bytes are allowed, however they are cut, and none without a bound.
    #[test]
    fn bytes_take_their_time() {
        let pace = Pace::new(Arc::default(), 1_000_000);
        pace.paid_at.set(Instant::now());
        let begun = Instant::now();
        (0..20).for_each(|_| pace.spend(10_000));
        assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
        let free = Pace::new(Arc::default(), u64::MAX);
        free.spend(u64::MAX);
        assert!(free.paid_at.get() <= Instant::now() + Duration::from_secs(1));
    }

    /// A promise: a round that is stopped does not wait until it has paid.
    #[test]
    fn a_stop_ends_the_wait() {
        let stop = Arc::new(AtomicBool::new(false));
        let pace = Pace::new(Arc::clone(&stop), 1);
        let waiting = std::thread::spawn(move || pace.spend(1_000_000));
        stop.store(true, Ordering::Relaxed);
        waiting.join().unwrap();
    }
}
