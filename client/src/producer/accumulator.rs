//! What a producer decides: which batch a record joins, what is sent when, what is tried again, what is given up. No tasks, no clocks, no requests.
//!
//! ```text
//!   append ──> open ──(full, lingered, flushed)──> queue ──poll──> under way ──finished──┬─> settled
//!                                                    ^                                   │
//!                                                    └────── after a wait, in order ─────┘
//! ```
//!
//! Its promise: **every record that was taken is settled once**: written, failed, or expired `delivery_timeout` after it was taken. Records
//! count in the buffer from `append` until then. Who is idempotent has a producer id before the first batch goes out ([`identity`]); which batch has which
//! numbers, and when it may go, its lane knows ([`super::sequence`]).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidegate_types::SideEffects;

use super::batch::{BATCH_OVERHEAD, Batch, OpenBatch, Place, batch_bytes};
use super::config::ProducerConfig;
use super::delivery::{Completion, Delivery};
use super::error::ProducerError;
use super::lane::Lane;
use super::metrics::ProducerMetrics;
use crate::record::NewRecord;
use identity::Identity;

pub(super) use ended::Outcome;

mod ended;
mod identity;

/// Requests under way for all partitions together.
const REQUESTS_MAX: usize = 256;

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
    unsettled: BTreeMap<Place, Arc<Completion>>,
    identity: Identity,
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
            identity: Identity::default(),
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
        let lane = &self.lanes[id.0];
        if lane.is_stopped() {
            return Err(lane.refusal(SideEffects::None));
        }
        let is_full = lane.open.as_ref().is_some_and(|open| batch_bytes(open.bytes + bytes) > limit);
        if is_full {
            self.seal(id);
        }
        let lane = &mut self.lanes[id.0];
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

    fn send_from(&mut self, id: LaneId, now: Duration, sendings: &mut Vec<Sending>) {
        loop {
            let lane = &mut self.lanes[id.0];
            if self.metrics.requests_in_flight >= REQUESTS_MAX {
                if !lane.is_empty() && !lane.is_starved {
                    lane.is_starved = true;
                    self.starved.push_back(id);
                }
                return;
            }
            if !lane.is_ready(now, &self.config) {
                return;
            }
            if self.config.idempotent && lane.needs_identity(now) {
                let Some(identity) = self.identity.for_lane(lane.sequence.spent()) else {
                    if !std::mem::replace(&mut lane.is_nameless, true) {
                        self.identity.await_by(id);
                    }
                    return;
                };
                lane.sequence.begin(identity);
            }
            let Some(batch) = lane.take_ready(&self.config, || take_id(&mut self.next_id)) else { return };
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
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.identity.wake()).min()
    }

    /// A partition that stopped at a failure takes records again.
    pub(super) fn resume(&mut self, topic: &str, partition: u32) {
        if let Some(id) = self.by_place.get(topic).and_then(|lanes| lanes.get(partition as usize).copied().flatten()) {
            self.lanes[id.0].resume();
        }
    }

    /// Seals what is open, so that it goes out at once; gives what has to be waited for until all that was taken so far is settled.
    pub(super) fn flush(&mut self) -> Vec<Arc<Completion>> {
        for id in (0..self.lanes.len()).map(LaneId) {
            if self.seal(id) {
                self.rearm(id);
            }
        }
        self.unsettled.values().cloned().collect()
    }

    /// Closes the lane's open batch, if it has one.
    fn seal(&mut self, id: LaneId) -> bool {
        let Some(batch) = self.lanes[id.0].seal(|| take_id(&mut self.next_id)) else { return false };
        self.unsettled.insert(batch.place(), Arc::clone(batch.claim.completion()));
        self.lanes[id.0].queue.push_back(batch);
        true
    }

    /// Drops everything that is not under way: its records are settled as closed.
    pub(super) fn clear(&mut self) {
        self.timers.clear();
        self.unsettled.clear();
        self.lanes.clear();
        self.by_place.clear();
        self.starved.clear();
        self.identity.clear();
    }
}

fn take_id(next: &mut u64) -> u64 {
    *next += 1;
    *next
}
