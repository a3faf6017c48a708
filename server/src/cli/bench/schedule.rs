//! When the next request is due, and when it is over.
//!
//! Closed loop: at once, when the last answer is in. Open loop: at fixed times, whatever the answers do. A latency counts from when its request was
//! *due*: if the server stands still for a second, all that should have been sent meanwhile has waited, and says so (coordinated omission). What was
//! due and never sent, because every connection waited until the end, has waited too: [`Schedule::unsent`] gives those times.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, watch};

use super::super::signals::Stop;

/// Times that are known ahead of the requests. If they are used up the clock stands, and its times are in the past when they are taken.
const AHEAD: usize = 1024;

/// Hands out the times of requests to all connections.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    /// Before it nothing counts.
    pub(crate) counts_from: Instant,
    ends: Option<Instant>,
    /// Requests in all.
    requests: u64,
    /// Those that may still be begun.
    left: AtomicU64,
    is_over: watch::Sender<bool>,
    stopped_by: OnceLock<Stop>,
    due: Option<Mutex<mpsc::Receiver<Instant>>>,
    interval: Option<Duration>,
    taken: AtomicU64,
}

/// Requests that were due one after the other, and never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsent {
    first: Instant,
    interval: Duration,
    pub(crate) requests: u64,
}

impl Unsent {
    /// When they were due, in at most so many groups: the first of a group stands for all of it.
    pub(crate) fn groups(self, groups_max: u64) -> impl Iterator<Item = (Instant, u64)> {
        let size = self.requests.div_ceil(groups_max).max(1);
        (0..self.requests.div_ceil(size)).map(move |group| {
            let n = group * size;
            (self.first + times(self.interval, n), size.min(self.requests - n))
        })
    }
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
        let interval = requests_per_second.map(|rate| Duration::from_secs_f64(1.0 / rate));
        let due = match interval {
            None => None,
            Some(interval) => {
                let (sender, receiver) = mpsc::channel(AHEAD);
                thread::Builder::new().name("pace".to_owned()).spawn(move || pace(start, interval, &sender))?;
                Some(Mutex::new(receiver))
            }
        };
        let ends = duration.map(|duration| counts_from + duration);
        Ok(Self {
            start,
            counts_from,
            ends,
            requests: requests.unwrap_or(u64::MAX),
            left: AtomicU64::new(requests.unwrap_or(u64::MAX)),
            is_over: watch::Sender::new(false),
            stopped_by: OnceLock::new(),
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
            None => Some(Instant::now()).filter(|now| self.ends.is_none_or(|ends| *now < ends))?,
            Some(due) => {
                let mut over = self.is_over.subscribe();
                // The next time may be long after the end.
                tokio::select! {
                    biased;
                    _ = over.wait_for(|is_over| *is_over) => return None,
                    () = until(self.ends) => return None,
                    due = async { due.lock().await.recv().await } => due?,
                }
            }
        };
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(due)
    }

    /// No more requests.
    pub(crate) fn end(&self) {
        self.is_over.send_replace(true);
    }

    /// No more requests, since nobody wants to wait for them.
    pub(crate) fn stop(&self, by: Stop) {
        // The first one counts.
        let _ = self.stopped_by.set(by);
        self.end();
    }

    /// Whether times are given, and not taken.
    pub(crate) const fn is_open_loop(&self) -> bool {
        self.interval.is_some()
    }

    /// The signal that has ended it, if one has.
    pub(crate) fn stopped_by(&self) -> Option<Stop> {
        self.stopped_by.get().copied()
    }

    pub(crate) fn is_over(&self) -> bool {
        *self.is_over.borrow() || self.ends.is_some_and(|ends| Instant::now() >= ends)
    }

    /// Requests that were due until `now`, or until the end if that was earlier, and have not been sent: nobody was free. Times are handed out in
    /// their order, so they are the last ones.
    pub(crate) fn unsent(&self, now: Instant) -> Option<Unsent> {
        let interval = self.interval?;
        let taken = self.taken.load(Ordering::Relaxed);
        let until = self.ends.map_or(now, |ends| ends.min(now)).saturating_duration_since(self.start);
        let due = u64::try_from(until.as_nanos().div_ceil(interval.as_nanos().max(1))).unwrap_or(u64::MAX);
        let requests = due.min(self.requests).saturating_sub(taken);
        Some(Unsent { first: self.start + times(interval, taken), interval, requests })
    }
}

/// `interval` so many times; what is longer than a century is cut to that.
fn times(interval: Duration, n: u64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);
    u64::try_from(interval.as_nanos().saturating_mul(n.into())).map_or(LONGEST, Duration::from_nanos).min(LONGEST)
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}

/// Says each time when it comes, until nobody listens. The runtime's own timers have steps of a millisecond, which would be in every latency.
fn pace(start: Instant, interval: Duration, due: &mpsc::Sender<Instant>) {
    for n in 0_u64.. {
        let next = start + times(interval, n);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        if due.blocking_send(next).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn all(schedule: &Schedule) -> Vec<Instant> {
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
        assert_eq!(all(&schedule).await.len(), 5);
        assert!(schedule.next().await.is_none() && schedule.unsent(Instant::now()).is_none());
    }

    /// A promise: at a rate too, all requests are handed out, however many wait for the last ones at the same time.
    #[tokio::test]
    async fn nobody_takes_the_last_times_away() {
        let schedule = Arc::new(Schedule::start(Duration::ZERO, None, Some(20), Some(2_000.0)).unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let schedule = Arc::clone(&schedule);
            tasks.spawn(async move { all(&schedule).await.len() });
        }
        assert_eq!(tasks.join_all().await.iter().sum::<usize>(), 20);
    }

    /// A promise: at a rate, times are evenly apart however late they are asked for, and what nobody took in time is counted.
    #[tokio::test]
    async fn a_late_client_gets_the_times_that_were_due() {
        let schedule = Schedule::start(Duration::ZERO, None, Some(50), Some(10_000.0)).unwrap();
        let first = schedule.next().await.unwrap();
        thread::sleep(Duration::from_millis(10));
        let rest = all(&schedule).await;
        let steps: Vec<_> = [&[first], &rest[..]].concat().windows(2).map(|two| two[1] - two[0]).collect();
        assert!(steps.iter().all(|step| *step == Duration::from_micros(100)), "{steps:?}");
        let stopped = Schedule::start(Duration::ZERO, None, None, Some(1_000.0)).unwrap();
        stopped.end();
        assert!(stopped.next().await.is_none());
        let unsent = stopped.unsent(stopped.start + Duration::from_millis(5)).unwrap();
        assert_eq!((unsent.first, unsent.requests), (stopped.start, 5));
        let due: Vec<_> = unsent.groups(2).map(|(due, requests)| ((due - stopped.start).as_millis(), requests)).collect();
        assert_eq!(due, [(0, 3), (3, 2)]);
    }

    /// A promise: a run ends when its time is up, however far away the next request is; and so does one that is told to end.
    #[tokio::test]
    async fn a_low_rate_does_not_prolong_a_run() {
        let start = Instant::now();
        let schedule = Schedule::start(Duration::ZERO, Some(Duration::from_millis(20)), None, Some(0.001)).unwrap();
        assert_eq!(all(&schedule).await.len(), 1);
        let told = Schedule::start(Duration::ZERO, None, None, Some(0.001)).unwrap();
        told.next().await.unwrap();
        let (next, ()) = tokio::join!(told.next(), async { told.end() });
        assert!(next.is_none() && start.elapsed() < Duration::from_secs(900));
        assert_eq!(schedule.unsent(Instant::now()).unwrap().requests, 0);
    }

    /// A promise: time ends it, too.
    #[tokio::test]
    async fn time_is_up() {
        let schedule = Schedule::start(Duration::ZERO, Some(Duration::from_millis(1)), None, None).unwrap();
        let taken = all(&schedule).await;
        assert!(taken.iter().all(|due| *due < schedule.ends.unwrap()));
    }
}
