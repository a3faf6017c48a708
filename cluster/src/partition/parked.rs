//! Appends that came before their turn: requests of one producer go over several connections, so a later one may overtake an earlier one. They wait for it,
//! a short while. Pure: the time is an argument.

use std::time::Duration;

use tidegate_types::ProducerStamp;
use tokio::time::Instant;

use super::coalesce::Waiting;
use crate::error::Error;

/// How long they wait at most.
const WAIT: Duration = Duration::from_secs(1);
/// How many of one producer wait at most; the next is refused at once.
const PER_PRODUCER_MAX: usize = 4;
/// How many of all producers: they take the places of appends that could be written.
const ALL_MAX: usize = 256;

/// Those of one partition. Each still counts in what the partition has admitted.
#[derive(Debug)]
pub(super) struct Parked<T> {
    /// In the order in which they came, so that the first is due first.
    all: Vec<One<T>>,
}

#[derive(Debug)]
struct One<T> {
    stamp: ProducerStamp,
    until: Instant,
    waiting: Waiting<T>,
}

impl<T> Default for Parked<T> {
    fn default() -> Self {
        Self { all: Vec::new() }
    }
}

impl<T> Parked<T> {
    /// Has it wait; gives its owner back, with `refusal`, if as many wait as may.
    pub(super) fn park(&mut self, waiting: Waiting<T>, stamp: ProducerStamp, now: Instant, refusal: Error) -> Result<(), (T, Error)> {
        let of_producer = self.all.iter().filter(|one| one.stamp.id == stamp.id).count();
        if of_producer >= PER_PRODUCER_MAX || self.all.len() >= ALL_MAX {
            return Err((waiting.owner, refusal));
        }
        self.all.push(One { stamp, until: now + WAIT, waiting });
        Ok(())
    }

    /// The one whose turn it is when `stamp` comes next.
    pub(super) fn take_next(&mut self, stamp: ProducerStamp) -> Option<Waiting<T>> {
        let at = self.all.iter().position(|one| one.stamp == stamp)?;
        Some(self.all.remove(at).waiting)
    }

    /// When the first has waited long enough.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.all.first().map(|one| one.until)
    }

    /// Those that have waited long enough: they are judged once more, as what they are.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Waiting<T>> {
        let due = self.all.partition_point(|one| one.until <= now);
        self.all.drain(..due).map(|one| Waiting { is_late: true, ..one.waiting }).collect()
    }

    /// All of them, when nothing will come any more.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        self.all.drain(..).map(|one| one.waiting.owner).collect()
    }
}
