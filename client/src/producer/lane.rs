//! One partition's batches: one open, some sealed and waiting in order, some under way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidegate_types::SideEffects;

use super::batch::{Batch, OpenBatch, Place};
use super::config::ProducerConfig;
use super::error::ProducerError;
use super::sequence::Sequence;
use crate::backoff::backoff;
use crate::error::Error;

/// A batch under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnderWay {
    pub(super) turn: u64,
    pub(super) place: Place,
}

/// A partition's place among all that the producer has records for.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    pub(super) open: Option<OpenBatch>,
    /// In order: a batch that is tried again stands before those that came after it.
    pub(super) queue: VecDeque<Batch>,
    under_way: Vec<UnderWay>,
    /// Of the batch that is sent next for the first time.
    next_turn: u64,
    /// What its batches are recognised by, if the producer is idempotent.
    pub(super) sequence: Sequence,
    /// Failures since the last success.
    failures: u32,
    /// What the last of them was.
    pub(super) trouble: Option<Arc<Error>>,
    /// Nothing is sent before.
    retry_at: Option<Duration>,
    /// The place of the first batch that failed, if the lane stops there: nothing behind it is sent.
    stopped_at: Option<Place>,
    /// Whether it waits until all lanes together have fewer requests under way.
    pub(super) is_starved: bool,
    /// Whether it waits for a producer id.
    pub(super) is_nameless: bool,
    /// When it is to be looked at, as the accumulator's timers have it.
    pub(super) next_at: Option<Duration>,
}

impl Lane {
    pub(super) fn new(topic: Arc<str>, partition: u32) -> Self {
        Self {
            topic,
            partition,
            open: None,
            queue: VecDeque::new(),
            under_way: Vec::new(),
            next_turn: 0,
            sequence: Sequence::default(),
            failures: 0,
            trouble: None,
            retry_at: None,
            stopped_at: None,
            is_starved: false,
            is_nameless: false,
            next_at: None,
        }
    }

    /// Whether nothing waits here.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_none() && self.queue.is_empty()
    }

    /// When it has to be looked at again, by what it holds now.
    pub(super) fn attention(&self, config: &ProducerConfig) -> Option<Duration> {
        let oldest = self.queue.front().map(|batch| batch.created).or_else(|| self.open.as_ref().map(|open| open.created))?;
        let expiry = oldest.saturating_add(config.delivery_timeout);
        if !self.may_send(config) || self.is_starved || self.is_nameless {
            return Some(expiry);
        }
        let due = match &self.open {
            _ if !self.queue.is_empty() => oldest,
            Some(open) => open.created.saturating_add(config.linger),
            None => oldest,
        };
        Some(due.max(self.retry_at.unwrap_or_default()).min(expiry))
    }

    /// Whether a batch can be sent now.
    pub(super) fn is_ready(&self, now: Duration, config: &ProducerConfig) -> bool {
        let is_due = self.open.as_ref().is_some_and(|open| open.created.saturating_add(config.linger) <= now);
        self.may_send(config) && self.retry_at.is_none_or(|at| at <= now) && (is_due || !self.queue.is_empty())
    }

    /// Whether the lane needs a producer id before it can send what is ready.
    pub(super) fn needs_identity(&mut self, now: Duration) -> bool {
        self.sequence.prepare(now, &mut self.queue)
    }

    /// The next batch to be sent, of a lane that is ready; an open one is sealed for it with the id that `next_id` gives.
    pub(super) fn take_ready(&mut self, config: &ProducerConfig, next_id: impl FnOnce() -> u64) -> Option<Batch> {
        self.retry_at = None;
        let mut batch = self.queue.pop_front().or_else(|| self.seal(next_id))?;
        let turn = *batch.turn.get_or_insert_with(|| {
            self.next_turn += 1;
            self.next_turn - 1
        });
        if config.idempotent && batch.stamp.is_none() {
            batch.stamp = self.sequence.take(batch.claim.len());
        }
        let place = batch.place();
        (batch.is_oldest, batch.awaits_turn) = (self.under_way.iter().all(|other| other.place > place), false);
        self.under_way.push(UnderWay { turn, place });
        Some(batch)
    }

    /// Whether the next batch may be sent, as far as those before it go: so that none is overtaken by as many as may be under way, one that has not
    /// been sent yet stays within that distance of the oldest that is not settled.
    fn may_send(&self, config: &ProducerConfig) -> bool {
        let next = self.queue.front();
        let is_repeated = next.is_some_and(|batch| batch.turn.is_some());
        let distance = self.under_way.iter().map(|batch| batch.turn).min().map_or(0, |oldest| self.next_turn - oldest);
        self.under_way.len() < config.max_in_flight
            && (is_repeated || distance < config.max_in_flight as u64)
            && (!config.idempotent || self.sequence.may_go(next, &self.under_way))
    }

    /// The request of that batch has ended.
    pub(super) fn ended(&mut self, batch: &Batch) {
        self.under_way.retain(|other| other.place != batch.place());
    }

    /// Takes the open batch away, sealed.
    pub(super) fn seal(&mut self, next_id: impl FnOnce() -> u64) -> Option<Batch> {
        self.open.take().map(|open| open.seal(next_id()))
    }

    /// The first waiting batch that has waited too long.
    pub(super) fn take_expired(&mut self, now: Duration, config: &ProducerConfig, next_id: impl FnOnce() -> u64) -> Option<Batch> {
        let is_late = |created: Duration| created.saturating_add(config.delivery_timeout) <= now;
        if self.queue.front().is_some_and(|batch| is_late(batch.created)) {
            return self.queue.pop_front();
        }
        let is_open_late = self.queue.is_empty() && self.open.as_ref().is_some_and(|open| is_late(open.created));
        if is_open_late { self.seal(next_id) } else { None }
    }

    /// Puts a batch back to where it stood.
    pub(super) fn put_back(&mut self, batch: Batch) {
        let at = self.queue.partition_point(|other| other.place() < batch.place());
        self.queue.insert(at, batch);
    }

    /// Stops behind the batch at `place`, which has failed; gives all that waits behind it.
    pub(super) fn stop(&mut self, place: Place, next_id: impl FnOnce() -> u64) -> Vec<Batch> {
        self.stopped_at = Some(self.stopped_at.map_or(place, |before| before.min(place)));
        if let Some(open) = self.seal(next_id) {
            self.queue.push_back(open);
        }
        let first = self.queue.partition_point(|batch| batch.place() < place);
        self.queue.split_off(first).into()
    }

    pub(super) fn resume(&mut self) {
        self.stopped_at = None;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped_at.is_some()
    }

    pub(super) fn is_behind_the_stop(&self, batch: &Batch) -> bool {
        self.stopped_at.is_some_and(|place| place < batch.place())
    }

    /// What is said of a record that is not sent because the lane stopped.
    pub(super) fn refusal(&self, side_effects: SideEffects) -> ProducerError {
        ProducerError::Stopped { topic: Arc::clone(&self.topic), partition: self.partition, side_effects }
    }

    /// A request has failed for now. `jitter` is a random number in `[0, 1)`.
    pub(super) fn back_off(&mut self, now: Duration, config: &ProducerConfig, jitter: f64) {
        // Requests that fail side by side are one failure.
        if self.retry_at.is_none_or(|at| at <= now) {
            let wait = backoff(config.retry_backoff, config.retry_backoff_max, self.failures, jitter);
            self.failures = self.failures.saturating_add(1);
            self.retry_at = Some(now.saturating_add(wait));
        }
    }

    /// A request has been answered for good.
    pub(super) fn answered(&mut self) {
        self.failures = 0;
        self.trouble = None;
    }
}
