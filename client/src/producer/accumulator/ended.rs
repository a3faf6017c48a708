//! What becomes of a batch when its request has ended: it is settled, waits for another try, or is cut.

use std::sync::Arc;
use std::time::Duration;

use tidegate_types::SideEffects;

use super::{Accumulator, LaneId, REQUESTS_MAX, take_id};
use crate::error::Error;
use crate::producer::batch::Batch;
use crate::producer::error::ProducerError;

/// Records of one batch that servers may refuse one by one; then what is left of it fails as a whole.
const REJECTIONS_MAX: u8 = 16;

/// What a request has come to.
#[derive(Debug)]
pub(in crate::producer) enum Outcome {
    /// Written, from this offset on (if that was waited for, and the partition still knows).
    Written(Option<u64>),
    /// Not this time.
    Retry(Arc<Error>, SideEffects),
    /// Too large for the topic or the server: in halves it may go.
    TooLarge(Arc<Error>),
    /// One record was refused; nothing was written.
    Rejected(u32, Arc<Error>),
    /// The partition misses what comes before it; nothing was written.
    Gap(Arc<Error>),
    /// Somebody else has begun a later epoch of the producer's id; nothing was written.
    Fenced(Arc<Error>),
    /// Never.
    Failed(Arc<Error>, SideEffects),
}

impl Accumulator {
    /// A request has ended. `sent_bytes` are the batch's, as sent; `jitter` is a random number in `[0, 1)`.
    pub(in crate::producer) fn finished(
        &mut self,
        now: Duration,
        id: LaneId,
        batch: Batch,
        outcome: Outcome,
        sent_bytes: usize,
        jitter: f64,
    ) {
        self.metrics.requests_in_flight -= 1;
        let lane = &mut self.lanes[id.0];
        lane.ended(&batch);
        if !matches!(outcome, Outcome::Retry(..) | Outcome::Gap(_)) {
            lane.answered();
        }
        match outcome {
            Outcome::Written(base) => {
                lane.sequence.acknowledged(now);
                self.metrics.batches += 1;
                self.metrics.bytes += sent_bytes as u64;
                self.settle(id, batch, Ok(base));
            }
            Outcome::Retry(error, side_effects) => self.retry(now, id, batch, error, side_effects, jitter),
            Outcome::TooLarge(error) => {
                let half = Some(batch.claim.len() / 2).filter(|half| *half > 0);
                self.cut(id, batch, half.as_slice(), None, error);
            }
            Outcome::Rejected(index, error) => self.reject(id, batch, index, error),
            Outcome::Gap(error) => self.gap(now, id, batch, error, jitter),
            Outcome::Fenced(error) => {
                lane.sequence.fenced();
                self.fail(id, batch, error, SideEffects::None);
            }
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
        self.again(now, id, batch, error);
    }

    /// The partition misses a batch before this one, of which nothing was written. It waits for those before it; if there are none, the partition has
    /// not kept what it had, and new numbers are needed.
    fn gap(&mut self, now: Duration, id: LaneId, mut batch: Batch, error: Arc<Error>, jitter: f64) {
        let lane = &mut self.lanes[id.0];
        if batch.is_oldest {
            lane.back_off(now, &self.config, jitter);
            if batch.claim.side_effects() == SideEffects::None {
                lane.sequence.failed(batch.place(), SideEffects::None);
            }
        }
        batch.awaits_turn = true;
        self.again(now, id, batch, error);
    }

    /// Lets the batch be sent again, if it has time left.
    fn again(&mut self, now: Duration, id: LaneId, mut batch: Batch, error: Arc<Error>) {
        self.lanes[id.0].trouble = Some(Arc::clone(&error));
        batch.last = Some(error);
        if batch.created.saturating_add(self.config.delivery_timeout) <= now {
            self.give_up(id, batch);
            return;
        }
        self.metrics.retries += 1;
        self.put_back(id, batch);
    }

    pub(super) fn give_up(&mut self, id: LaneId, batch: Batch) {
        // If it never had its turn, the reason is that of those before it.
        let lane = &self.lanes[id.0];
        let others = if lane.is_nameless { self.identity.last() } else { lane.trouble.as_ref() };
        let (side_effects, last) = (batch.claim.side_effects(), batch.last.clone().or_else(|| others.cloned()));
        self.settle_failed(id, batch, ProducerError::Expired { after: self.config.delivery_timeout, side_effects, last });
    }

    /// Puts a batch that is not yet settled back to where it stands among those that wait; behind a failure where its partition stops it is not
    /// sent again.
    fn put_back(&mut self, id: LaneId, batch: Batch) {
        let lane = &mut self.lanes[id.0];
        if lane.is_behind_the_stop(&batch) {
            let refusal = lane.refusal(batch.claim.side_effects());
            self.settle(id, batch, Err(refusal));
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
    pub(super) fn settle_failed(&mut self, id: LaneId, batch: Batch, error: ProducerError) {
        let place = batch.place();
        self.settle(id, batch, Err(error));
        if !self.config.stop_at_failure {
            return;
        }
        for behind in self.lanes[id.0].stop(place, || take_id(&mut self.next_id)) {
            let refusal = self.lanes[id.0].refusal(behind.claim.side_effects());
            self.settle(id, behind, Err(refusal));
        }
    }

    fn settle(&mut self, id: LaneId, batch: Batch, outcome: Result<Option<u64>, ProducerError>) {
        self.unsettled.remove(&batch.place());
        self.metrics.buffered_bytes -= batch.bytes + batch.overhead;
        let count = u64::from(batch.claim.len());
        match &outcome {
            Ok(_) => self.metrics.acknowledged_records += count,
            Err(error) => {
                self.metrics.failed_records += count;
                if batch.stamp.is_some() {
                    self.lanes[id.0].sequence.failed(batch.place(), error.side_effects());
                }
            }
        }
        batch.claim.settle(outcome);
    }
}
