//! What a producer decides: which batch a record joins, what is sent when, what is tried again, what is given up. No tasks, no clocks, no requests.
//!
//! ```text
//!   append ──> open ──(full, lingered, flushed)──> queue ──poll──> under way ──finished──┬─> settled
//!                                                    ^                                   │
//!                                                    └────── after a wait, in order ─────┘
//! ```
//!
//! Its promise: **every record that was taken is settled once**: written, failed, or expired `delivery_timeout` after it was taken. Records
//! count in the buffer from `append` until then.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidegate_types::SideEffects;

use super::batch::{BATCH_OVERHEAD, Batch, OpenBatch, batch_bytes};
use super::config::ProducerConfig;
use super::delivery::{Completion, Delivery};
use super::error::ProducerError;
use super::lane::Lane;
use super::metrics::ProducerMetrics;
use crate::error::Error;
use crate::record::NewRecord;

/// Requests under way for all partitions together.
const REQUESTS_MAX: usize = 256;
/// Records of one batch that servers may refuse one by one; then what is left of it fails as a whole.
const REJECTIONS_MAX: u8 = 16;

/// A lane, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneId(usize);

/// A batch to be sent now.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) lane: LaneId,
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
    pub(super) batch: Batch,
    /// How long it may take.
    pub(super) timeout: Duration,
}

/// What a request has come to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Written, from this offset on (if that was waited for).
    Written(Option<u64>),
    /// Not this time.
    Retry(Arc<Error>, SideEffects),
    /// Too large for the topic or the server: in halves it may go.
    TooLarge(Arc<Error>),
    /// One record was refused; nothing was written.
    Rejected(u32, Arc<Error>),
    /// Never.
    Failed(Arc<Error>, SideEffects),
}

/// What was done with a record.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) delivery: Delivery,
    /// Whether the driver has something new to look at.
    pub(super) is_news: bool,
    /// Whether a batch has just been closed, so that records without a key may go elsewhere now.
    pub(super) is_batch_closed: bool,
}

/// All lanes, their timers and the buffer's count.
#[derive(Debug)]
pub(super) struct Accumulator {
    config: ProducerConfig,
    lanes: Vec<Lane>,
    by_place: HashMap<Arc<str>, Vec<Option<LaneId>>>,
    timers: BTreeSet<(Duration, LaneId)>,
    starved: VecDeque<LaneId>,
    /// Of the batches not yet settled, by id and the place of their first record.
    unsettled: BTreeMap<(u64, u32), Arc<Completion>>,
    next_id: u64,
    metrics: ProducerMetrics,
}

impl Accumulator {
    pub(super) fn new(config: ProducerConfig) -> Self {
        Self {
            config,
            lanes: Vec::new(),
            by_place: HashMap::new(),
            timers: BTreeSet::new(),
            starved: VecDeque::new(),
            unsettled: BTreeMap::new(),
            next_id: 0,
            metrics: ProducerMetrics::default(),
        }
    }

    /// Whether a record of so many bytes can be taken now, with a batch of its own. One that is larger than the whole buffer is taken alone.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let after = self.metrics.buffered_bytes.saturating_add(bytes).saturating_add(BATCH_OVERHEAD);
        self.metrics.buffered_bytes == 0 || after <= self.config.buffer_bytes
    }

    pub(super) fn metrics(&self) -> ProducerMetrics {
        self.metrics
    }

    pub(super) fn waited_for_room(&mut self) {
        self.metrics.waits_for_room += 1;
    }

    /// Whether everything that was taken is settled.
    pub(super) fn is_idle(&self) -> bool {
        self.metrics.buffered_bytes == 0 && self.metrics.requests_in_flight == 0
    }

    /// The lane of a partition.
    pub(super) fn lane(&mut self, topic: &Arc<str>, partition: u32) -> LaneId {
        let known = self.by_place.get(topic).and_then(|lanes| lanes.get(partition as usize).copied().flatten());
        known.unwrap_or_else(|| {
            let id = LaneId(self.lanes.len());
            self.lanes.push(Lane::new(Arc::clone(topic), partition));
            let lanes = self.by_place.entry(Arc::clone(topic)).or_default();
            lanes.resize(lanes.len().max(partition as usize + 1), None);
            lanes[partition as usize] = Some(id);
            id
        })
    }

    /// Takes a record, for which there is room. `bytes` is what it counts; a batch has at most `max_batch_bytes`.
    pub(super) fn append(
        &mut self,
        now: impl FnOnce() -> Duration,
        id: LaneId,
        record: &NewRecord,
        timestamp: i64,
        bytes: usize,
        max_batch_bytes: usize,
    ) -> Result<Appended, ProducerError> {
        let limit = self.config.batch_bytes.min(max_batch_bytes);
        let lane = &mut self.lanes[id.0];
        if lane.is_stopped() {
            return Err(lane.refusal(SideEffects::None));
        }
        let is_full = lane.open.as_ref().is_some_and(|open| batch_bytes(open.bytes + bytes) > limit);
        if is_full && let Some(batch) = lane.seal(|| take_id(&mut self.next_id)) {
            self.unsettled.insert(batch.place(), Arc::clone(batch.claim.completion()));
            lane.queue.push_back(batch);
        }
        let is_new = lane.open.is_none();
        let open = lane.open.get_or_insert_with(|| OpenBatch::new(lane.partition, now()));
        let index = match open.push(record, timestamp, bytes) {
            Ok(index) => index,
            Err(error) => {
                if is_new {
                    lane.open = None;
                }
                self.rearm(id);
                return Err(error);
            }
        };
        let delivery = Delivery { completion: Arc::clone(open.claim.completion()), index, timestamp, slot: None };
        self.metrics.records += 1;
        self.metrics.buffered_bytes += bytes + if is_new { BATCH_OVERHEAD } else { 0 };
        if is_new {
            self.rearm(id);
        }
        Ok(Appended { delivery, is_news: is_new, is_batch_closed: is_full })
    }

    /// Sets the lane's timer by what it holds now.
    fn rearm(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0];
        let next_at = lane.attention(&self.config);
        if next_at == lane.next_at {
            return;
        }
        if let Some(old) = lane.next_at {
            self.timers.remove(&(old, id));
        }
        lane.next_at = next_at;
        if let Some(new) = next_at {
            self.timers.insert((new, id));
        }
    }

    /// What is to be sent now; what has waited too long is failed. Gives nothing twice.
    pub(super) fn poll(&mut self, now: Duration) -> Vec<Sending> {
        let mut sendings = Vec::new();
        while let Some((_, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.expire(id, now);
            self.send_from(id, now, &mut sendings);
            let before = self.lanes[id.0].next_at;
            self.rearm(id);
            assert!(self.lanes[id.0].next_at != before || before.is_none_or(|at| at > now), "a lane that was looked at rests");
        }
        sendings
    }

    fn expire(&mut self, id: LaneId, now: Duration) {
        while let Some(batch) = self.lanes[id.0].take_expired(now, &self.config, || take_id(&mut self.next_id)) {
            self.give_up(id, batch);
        }
    }

    fn give_up(&mut self, id: LaneId, batch: Batch) {
        let (side_effects, last) = (batch.claim.side_effects(), batch.last.clone());
        self.settle_failed(id, batch, ProducerError::Expired { after: self.config.delivery_timeout, side_effects, last });
    }

    fn send_from(&mut self, id: LaneId, now: Duration, sendings: &mut Vec<Sending>) {
        loop {
            let lane = &mut self.lanes[id.0];
            if self.metrics.requests_in_flight >= REQUESTS_MAX {
                let has_more = lane.open.is_some() || !lane.queue.is_empty();
                if has_more && !lane.is_starved {
                    lane.is_starved = true;
                    self.starved.push_back(id);
                }
                return;
            }
            let Some(batch) = lane.take_ready(now, &self.config, || take_id(&mut self.next_id)) else { return };
            self.metrics.requests += 1;
            self.metrics.requests_in_flight += 1;
            self.unsettled.insert(batch.place(), Arc::clone(batch.claim.completion()));
            let left = batch.created.saturating_add(self.config.delivery_timeout).saturating_sub(now);
            let (topic, partition) = (Arc::clone(&lane.topic), lane.partition);
            sendings.push(Sending { lane: id, topic, partition, batch, timeout: left.min(self.config.request_timeout) });
        }
    }

    /// When [`Accumulator::poll`] has something to do again, if nothing else happens.
    pub(super) fn next_wake(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// A request has ended. `sent_bytes` are the batch's, as sent; `jitter` is a random number in `[0, 1)`.
    pub(super) fn finished(&mut self, now: Duration, id: LaneId, batch: Batch, outcome: Outcome, sent_bytes: usize, jitter: f64) {
        self.metrics.requests_in_flight -= 1;
        let lane = &mut self.lanes[id.0];
        lane.ended(&batch);
        if !matches!(outcome, Outcome::Retry(..)) {
            lane.answered();
        }
        match outcome {
            Outcome::Written(base) => {
                self.metrics.batches += 1;
                self.metrics.bytes += sent_bytes as u64;
                self.settle(batch, Ok(base));
            }
            Outcome::Retry(error, side_effects) => self.retry(now, id, batch, error, side_effects, jitter),
            Outcome::TooLarge(error) => {
                let half = Some(batch.claim.len() / 2).filter(|half| *half > 0);
                self.cut(id, batch, half.as_slice(), None, error);
            }
            Outcome::Rejected(index, error) => self.reject(id, batch, index, error),
            Outcome::Failed(error, side_effects) => self.fail(id, batch, error, side_effects),
        }
        self.rearm(id);
        while self.metrics.requests_in_flight < REQUESTS_MAX
            && let Some(next) = self.starved.pop_front()
        {
            self.lanes[next.0].is_starved = false;
            self.rearm(next);
        }
    }

    fn retry(&mut self, now: Duration, id: LaneId, mut batch: Batch, error: Arc<Error>, side_effects: SideEffects, jitter: f64) {
        let lane = &mut self.lanes[id.0];
        lane.back_off(now, &self.config, jitter);
        if side_effects == SideEffects::Possible {
            batch.claim.touch(SideEffects::Possible);
            if !self.config.resend_in_doubt {
                self.fail(id, batch, error, SideEffects::Possible);
                return;
            }
        }
        batch.last = Some(error);
        if batch.created.saturating_add(self.config.delivery_timeout) <= now {
            self.give_up(id, batch);
            return;
        }
        self.metrics.retries += 1;
        self.put_back(id, batch);
    }

    /// Puts a batch that is not yet settled back to where it stands among those that wait; behind a failure where its partition stops it is not
    /// sent again.
    fn put_back(&mut self, id: LaneId, batch: Batch) {
        let lane = &mut self.lanes[id.0];
        if lane.is_behind_the_stop(&batch) {
            let refusal = lane.refusal(batch.claim.side_effects());
            self.settle(batch, Err(refusal));
            return;
        }
        self.unsettled.insert(batch.place(), Arc::clone(batch.claim.completion()));
        lane.put_back(batch);
    }

    /// Fails the one record that was refused; its neighbours, of which nothing was written either, go again without it.
    fn reject(&mut self, id: LaneId, mut batch: Batch, index: u32, error: Arc<Error>) {
        batch.rejections = batch.rejections.saturating_add(1);
        let count = batch.claim.len();
        if index >= count || batch.rejections > REJECTIONS_MAX {
            self.fail(id, batch, error, SideEffects::None);
            return;
        }
        let places: Vec<u32> = [index, index + 1].into_iter().filter(|at| (1..count).contains(at)).collect();
        let refused = batch.claim.start() + index;
        self.cut(id, batch, &places, Some(refused), error);
    }

    /// Puts the pieces of a batch back where it stood. The piece that begins at `refused` fails, and so does a batch that cannot be cut.
    fn cut(&mut self, id: LaneId, batch: Batch, places: &[u32], refused: Option<u32>, error: Arc<Error>) {
        self.unsettled.remove(&batch.place());
        if places.is_empty() {
            self.fail(id, batch, error, SideEffects::None);
            return;
        }
        match batch.cut(places) {
            Ok(pieces) => {
                self.metrics.splits += 1;
                for piece in pieces {
                    if refused == Some(piece.claim.start()) {
                        self.fail(id, piece, Arc::clone(&error), SideEffects::None);
                    } else {
                        self.put_back(id, piece);
                    }
                }
            }
            Err((whole, reason)) => self.fail(id, *whole, Arc::new(Error::Input(reason)), SideEffects::None),
        }
    }

    fn fail(&mut self, id: LaneId, batch: Batch, error: Arc<Error>, side_effects: SideEffects) {
        let side_effects = if batch.claim.side_effects() == SideEffects::Possible { SideEffects::Possible } else { side_effects };
        self.settle_failed(id, batch, ProducerError::Failed { error, side_effects });
    }

    /// Settles a batch as failed and, if that is asked for, all that comes behind it in its partition as not sent.
    fn settle_failed(&mut self, id: LaneId, batch: Batch, error: ProducerError) {
        let place = batch.place();
        self.settle(batch, Err(error));
        if !self.config.stop_at_failure {
            return;
        }
        for behind in self.lanes[id.0].stop(place, || take_id(&mut self.next_id)) {
            let refusal = self.lanes[id.0].refusal(behind.claim.side_effects());
            self.settle(behind, Err(refusal));
        }
    }

    /// A partition that stopped at a failure takes records again.
    pub(super) fn resume(&mut self, topic: &str, partition: u32) {
        if let Some(id) = self.by_place.get(topic).and_then(|lanes| lanes.get(partition as usize).copied().flatten()) {
            self.lanes[id.0].resume();
        }
    }

    fn settle(&mut self, batch: Batch, outcome: Result<Option<u64>, ProducerError>) {
        self.unsettled.remove(&batch.place());
        self.metrics.buffered_bytes -= batch.bytes + batch.overhead;
        let count = u64::from(batch.claim.len());
        match outcome {
            Ok(_) => self.metrics.acknowledged_records += count,
            Err(_) => self.metrics.failed_records += count,
        }
        batch.claim.settle(outcome);
    }

    /// Seals what is open, so that it goes out at once; gives what has to be waited for until all that was taken so far is settled.
    pub(super) fn flush(&mut self) -> Vec<Arc<Completion>> {
        for id in (0..self.lanes.len()).map(LaneId) {
            let lane = &mut self.lanes[id.0];
            if let Some(batch) = lane.seal(|| take_id(&mut self.next_id)) {
                self.unsettled.insert(batch.place(), Arc::clone(batch.claim.completion()));
                lane.queue.push_back(batch);
                self.rearm(id);
            }
        }
        self.unsettled.values().cloned().collect()
    }

    /// Drops everything that is not under way: its records are settled as closed.
    pub(super) fn clear(&mut self) {
        self.timers.clear();
        self.unsettled.clear();
        self.lanes.clear();
        self.by_place.clear();
        self.starved.clear();
    }
}

fn take_id(next: &mut u64) -> u64 {
    *next += 1;
    *next
}
