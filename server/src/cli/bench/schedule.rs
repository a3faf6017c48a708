//! When the next request is due, and when it is over.
//!
//! Closed loop: at once, when the last answer is in. Open loop: at fixed times, whatever the answers do. A latency counts from when its request was
//! *due*: if the server stands still for a second, all that should have been sent meanwhile has waited, and says so (coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};

/// Times that are known ahead of the requests. If they are used up the clock stands, and its times are in the past when they are taken.
const AHEAD: usize = 1024;

/// Hands out the times of requests to all connections.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    /// Before it nothing counts.
    pub(crate) counts_from: Instant,
    ends: Option<Instant>,
    /// Requests that may still be sent.
    left: AtomicU64,
    is_over: Arc<AtomicBool>,
    is_interrupted: AtomicBool,
    due: Option<Mutex<mpsc::Receiver<Instant>>>,
    interval: Option<Duration>,
    taken: AtomicU64,
}

impl Schedule {
    /// Begins now. `requests_per_second` makes it an open loop.
    pub(crate) fn start(
        warmup: Duration,
        duration: Option<Duration>,
        requests: Option<u64>,
        requests_per_second: Option<f64>,
    ) -> std::io::Result<Self> {
        let start = Instant::now();
        let counts_from = start + warmup;
        let is_over = Arc::new(AtomicBool::new(false));
        let interval = requests_per_second.map(|rate| Duration::from_secs_f64(1.0 / rate));
        let due = match interval {
            None => None,
            Some(interval) => {
                let (sender, receiver) = mpsc::channel(AHEAD);
                let is_over = Arc::clone(&is_over);
                thread::Builder::new().name("pace".to_owned()).spawn(move || pace(start, interval, &sender, &is_over))?;
                Some(Mutex::new(receiver))
            }
        };
        let ends = duration.map(|duration| counts_from + duration);
        Ok(Self {
            start,
            counts_from,
            ends,
            left: AtomicU64::new(requests.unwrap_or(u64::MAX)),
            is_over,
            is_interrupted: AtomicBool::new(false),
            due,
            interval,
            taken: AtomicU64::new(0),
        })
    }

    /// When the next request is (or was) due; `None` if there is to be no other.
    pub(crate) async fn next(&self) -> Option<Instant> {
        // Who has found the last one taken ends nothing: others still wait for the times of theirs.
        if self.is_over() || self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
            return None;
        }
        let due = match &self.due {
            None => Instant::now(),
            Some(due) => due.lock().await.recv().await?,
        };
        // It may have ended while the time was waited for.
        if self.is_over() {
            return None;
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(due)
    }

    /// No more requests.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// No more requests, since nobody wants to wait for them.
    pub(crate) fn interrupt(&self) {
        self.is_interrupted.store(true, Ordering::Relaxed);
        self.end();
    }

    /// Whether times are given, and not taken.
    pub(crate) const fn is_open_loop(&self) -> bool {
        self.interval.is_some()
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        if self.ends.is_some_and(|ends| Instant::now() >= ends) {
            self.end();
        }
        self.is_over.load(Ordering::Relaxed)
    }

    /// Requests that were due until `now` and have not been sent: nobody was free.
    pub(crate) fn unsent(&self, now: Instant) -> u64 {
        let Some(interval) = self.interval else { return 0 };
        if self.left.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let until = self.ends.map_or(now, |ends| ends.min(now)).saturating_duration_since(self.start);
        let due = u64::try_from(until.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX);
        due.saturating_sub(self.taken.load(Ordering::Relaxed))
    }
}

/// Says each time when it comes. The runtime's own timers have steps of a millisecond, which would be in every latency.
fn pace(start: Instant, interval: Duration, due: &mpsc::Sender<Instant>, is_over: &AtomicBool) {
    for n in 0_u32.. {
        let next = start + interval.saturating_mul(n);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        if is_over.load(Ordering::Relaxed) || due.blocking_send(next).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn times(schedule: &Schedule) -> Vec<Instant> {
        let mut times = Vec::new();
        while let Some(due) = schedule.next().await {
            times.push(due);
        }
        times
    }

    /// A promise: so many requests are handed out and no more, whoever asks.
    #[tokio::test]
    async fn requests_are_counted() {
        let schedule = Schedule::start(Duration::ZERO, None, Some(5), None).unwrap();
        assert_eq!(times(&schedule).await.len(), 5);
        assert!(schedule.next().await.is_none() && schedule.unsent(Instant::now()) == 0);
    }

    /// A promise: at a rate too, all requests are handed out, however many wait for the last ones at the same time.
    #[tokio::test]
    async fn nobody_takes_the_last_times_away() {
        let schedule = Arc::new(Schedule::start(Duration::ZERO, None, Some(20), Some(2_000.0)).unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let schedule = Arc::clone(&schedule);
            tasks.spawn(async move { times(&schedule).await.len() });
        }
        assert_eq!(tasks.join_all().await.iter().sum::<usize>(), 20);
    }

    /// A promise: at a rate, times are evenly apart however late they are asked for, and what nobody took in time is counted.
    #[tokio::test]
    async fn a_late_client_gets_the_times_that_were_due() {
        let schedule = Schedule::start(Duration::ZERO, None, Some(50), Some(10_000.0)).unwrap();
        let first = schedule.next().await.unwrap();
        thread::sleep(Duration::from_millis(10));
        let rest = times(&schedule).await;
        let steps: Vec<_> = [&[first], &rest[..]].concat().windows(2).map(|two| two[1] - two[0]).collect();
        assert!(steps.iter().all(|step| *step == Duration::from_micros(100)), "{steps:?}");
        let stopped = Schedule::start(Duration::ZERO, None, None, Some(1_000.0)).unwrap();
        stopped.end();
        assert!(stopped.next().await.is_none());
        assert_eq!(stopped.unsent(stopped.start + Duration::from_millis(5)), 5);
    }

    /// A promise: time ends it, too.
    #[tokio::test]
    async fn time_is_up() {
        let schedule = Schedule::start(Duration::ZERO, Some(Duration::from_millis(1)), None, None).unwrap();
        let taken = times(&schedule).await;
        assert!(taken.iter().all(|due| *due < schedule.ends.unwrap()));
    }
}
