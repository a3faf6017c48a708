//! When to say that the node does not answer, and that it does again: each once, so that a wait is no riddle.

use std::time::Duration;

use tidegate_client::ProducerMetrics;

/// How long no answer is nothing to talk about.
const NORMAL: Duration = Duration::from_secs(2);

/// What is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Away,
    Back,
}

/// Looks at a producer's counts from time to time.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// Batches acknowledged and requests sent when nothing was waited for.
    batches: u64,
    requests: u64,
    since: Duration,
    is_said: bool,
}

impl Quiet {
    /// What is to be said at `now`, if anything.
    pub(super) fn look(&mut self, now: Duration, metrics: &ProducerMetrics) -> Option<Word> {
        let is_answered = metrics.batches != self.batches;
        if is_answered || metrics.requests == self.requests {
            (self.batches, self.requests, self.since) = (metrics.batches, metrics.requests, now);
            // What is still under way is not yet answered.
            self.requests -= u64::try_from(metrics.requests_in_flight).unwrap_or(u64::MAX).min(self.requests);
            return (is_answered && std::mem::take(&mut self.is_said)).then_some(Word::Back);
        }
        if self.is_said || now.saturating_sub(self.since) < NORMAL {
            return None;
        }
        self.is_said = true;
        Some(Word::Away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a node that is away is told of once, and once when it is back; one that answers, or is asked nothing, never is.
    #[test]
    fn a_silence_is_told_once() {
        let mut quiet = Quiet::default();
        let mut look = |second, requests, batches, requests_in_flight| {
            let metrics = ProducerMetrics { requests, batches, requests_in_flight, ..ProducerMetrics::default() };
            quiet.look(Duration::from_secs(second), &metrics)
        };
        assert_eq!(look(100, 0, 0, 0), None, "nothing was asked");
        assert_eq!(look(101, 1, 0, 1), None);
        assert_eq!(look(102, 4, 3, 1), None, "it answers");
        assert_eq!(look(103, 4, 3, 1), None);
        assert_eq!(look(104, 6, 3, 0), Some(Word::Away), "it was tried again and again");
        assert_eq!(look(110, 20, 3, 0), None);
        assert_eq!(look(111, 21, 4, 0), Some(Word::Back));
        assert_eq!(look(200, 21, 4, 0), None);
        assert_eq!(look(201, 22, 5, 0), None);
    }
}
