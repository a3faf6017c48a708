//! Appends that came before their turn: requests of one producer go over several connections, so a later one may overtake an earlier one. They wait for it,
//! a short while. Pure: the time is an argument.

use std::time::Duration;

use tidegate_types::ProducerStamp;
use tidegate_types::producer::sequences_behind;
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

/// What has come before its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Early {
    pub(super) stamp: ProducerStamp,
    /// Its producer is not known: if nothing comes before it, it is the first.
    pub(super) is_beginning: bool,
}

#[derive(Debug)]
struct One<T> {
    stamp: ProducerStamp,
    is_beginning: bool,
    until: Instant,
    waiting: Waiting<T>,
}

impl<T> Default for Parked<T> {
    fn default() -> Self {
        Self { all: Vec::new() }
    }
}

impl<T> Parked<T> {
    /// Has it wait; gives its owner back, with `refusal`, if as many of its producer wait as may, or with another if there is no room.
    pub(super) fn park(&mut self, waiting: Waiting<T>, early: Early, now: Instant, refusal: Error) -> Result<(), (T, Error)> {
        let Early { stamp, is_beginning } = early;
        if self.all.iter().filter(|one| one.stamp.id == stamp.id).count() >= PER_PRODUCER_MAX {
            return Err((waiting.owner, refusal));
        }
        if self.all.len() >= ALL_MAX {
            return Err((waiting.owner, Error::Overloaded { what: "requests that wait for those before them" }));
        }
        self.all.push(One { stamp, is_beginning, until: now + WAIT, waiting });
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

    /// Those that have waited long enough: they are judged once more, as what they are. Of a producer that nobody knows the earliest goes first,
    /// however long it has waited, and those behind it after it.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Waiting<T>> {
        let mut due = Vec::new();
        while self.all.first().is_some_and(|one| one.until <= now) {
            let first = self.all.remove(0);
            if !first.is_beginning {
                due.push(Waiting { is_late: true, ..first.waiting });
                continue;
            }
            let stamp = first.stamp;
            let mut all: Vec<_> = std::iter::once(first)
                .chain(self.all.extract_if(.., |one| (one.stamp.id, one.stamp.epoch) == (stamp.id, stamp.epoch)))
                .collect();
            all.sort_by_key(|one| distance(stamp.sequence, one.stamp.sequence));
            due.extend(all.into_iter().enumerate().map(|(place, one)| Waiting { is_late: place == 0 || one.until <= now, ..one.waiting }));
        }
        due
    }

    /// All of them, when nothing will come any more.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        self.all.drain(..).map(|one| one.waiting.owner).collect()
    }
}

/// How far `sequence` comes after `from`; negative if it comes before it.
fn distance(from: i32, sequence: i32) -> i64 {
    match sequences_behind(sequence, from) {
        Some(behind) => -i64::from(behind),
        None => sequences_behind(from, sequence).map_or(i64::MAX, i64::from),
    }
}
