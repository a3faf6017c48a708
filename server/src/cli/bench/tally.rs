//! What came of requests: how many, how late, and what went wrong by its code.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use tidegate_client::Error;

use super::schedule::Unsent;

/// Latencies are told apart up to here; longer ones count as this long.
const LATENCY_MAX: Duration = Duration::from_secs(600);

/// Requests that were never sent are told apart in so many groups: enough for three digits.
const UNSENT_GROUPS: u64 = 100_000;

/// Counts of one kind of request.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Before it nothing counts but errors.
    counts_from: Instant,
    /// The last answer that counts.
    last: Instant,
    /// In nanoseconds.
    latencies: Histogram<u64>,
    requests: u64,
    records: u64,
    bytes: u64,
    errors: BTreeMap<String, u64>,
}

/// Latencies in words of microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Latencies {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

/// What was counted, as it stands in a result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) records: u64,
    /// Of the bodies that carry the records.
    pub(crate) body_bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) records_per_second: f64,
    /// 10⁶ bytes of bodies.
    pub(crate) megabytes_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_us: Option<Latencies>,
    /// By code, warm-up included.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Tally {
    /// # Errors
    /// None in practice: the bounds of the histogram are constants.
    pub(crate) fn new(counts_from: Instant) -> Result<Self, hdrhistogram::CreationError> {
        let latencies = Histogram::new_with_bounds(1, u64::try_from(LATENCY_MAX.as_nanos()).unwrap_or(u64::MAX), 3)?;
        Ok(Self { counts_from, last: counts_from, latencies, requests: 0, records: 0, bytes: 0, errors: BTreeMap::new() })
    }

    /// An answer that is in `now` to a request that was due at `due`.
    pub(crate) fn answer(&mut self, due: Instant, now: Instant, records: u64, bytes: u64) {
        if due < self.counts_from {
            return;
        }
        self.latency(now.saturating_duration_since(due));
        self.last = self.last.max(now);
        self.requests += 1;
        self.records += records;
        self.bytes += bytes;
    }

    /// Requests that were due at `due` and had no answer when it was `now`: their latencies are at least that.
    pub(crate) fn waited(&mut self, due: Instant, now: Instant, requests: u64) {
        if due >= self.counts_from {
            let latency = u64::try_from(now.saturating_duration_since(due).as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record_n(latency, requests);
        }
    }

    /// All that was due and never sent; each stands for so many latencies.
    pub(crate) fn unsent(&mut self, unsent: Unsent, now: Instant, latencies: u64) {
        for (due, requests) in unsent.groups(UNSENT_GROUPS) {
            self.waited(due, now, requests.saturating_mul(latencies));
        }
    }

    /// A latency alone.
    pub(crate) fn latency(&mut self, latency: Duration) {
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// A record that was seen so long after it was due.
    pub(crate) fn seen(&mut self, due: Instant, now: Instant, bytes: u64) {
        if due >= self.counts_from {
            self.latency(now.saturating_duration_since(due));
            self.last = self.last.max(now);
            self.records += 1;
            self.bytes += bytes;
        }
    }

    pub(crate) fn error(&mut self, error: &Error) {
        *self.errors.entry(error.to_problem().code).or_default() += 1;
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn counts(&self) -> Counts {
        let seconds = self.last.saturating_duration_since(self.counts_from).as_secs_f64();
        let per_second = |count: u64| if seconds > 0.0 { round(count as f64 / seconds) } else { 0.0 };
        let microseconds = |nanoseconds: u64| round(nanoseconds as f64 / 1e3);
        let at = |percent: f64| microseconds(self.latencies.value_at_percentile(percent));
        let latency_us = (!self.latencies.is_empty()).then(|| Latencies {
            p50: at(50.0),
            p95: at(95.0),
            p99: at(99.0),
            p99_9: at(99.9),
            max: microseconds(self.latencies.max()),
        });
        Counts {
            requests: self.requests,
            records: self.records,
            body_bytes: self.bytes,
            seconds,
            requests_per_second: per_second(self.requests),
            records_per_second: per_second(self.records),
            megabytes_per_second: per_second(self.bytes) / 1e6,
            latency_us,
            errors: self.errors.clone(),
        }
    }
}

/// To a tenth: more is noise.
fn round(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: what was due in the warm-up does not count; a latency is from when it was due, however late it was sent.
    #[test]
    fn warm_up_and_lateness() {
        let start = Instant::now();
        let mut tally = Tally::new(start + Duration::from_secs(1)).unwrap();
        tally.answer(start, start + Duration::from_secs(9), 1, 10);
        tally.answer(start + Duration::from_secs(1), start + Duration::from_secs(3), 5, 50);
        tally.error(&Error::Timeout(Duration::ZERO));
        let counts = tally.counts();
        assert_eq!((counts.requests, counts.records, counts.body_bytes, counts.records_per_second), (1, 5, 50, 2.5));
        let p50 = counts.latency_us.unwrap().p50;
        assert!((p50 - 2e6).abs() < 2e6 / 500.0, "{p50}");
        assert_eq!(counts.errors, BTreeMap::from([("no-answer".to_owned(), 1)]));
    }
}
