//! The producer's id: asked for when the first batch is to go out, and again when a lane cannot use the one there is.

use std::sync::Arc;
use std::time::Duration;

use tidegate_types::SideEffects;

use super::{Accumulator, LaneId};
use crate::backoff::backoff;
use crate::error::Error;
use crate::identity::ProducerIdentity;
use crate::producer::error::ProducerError;

/// The id that lanes without one begin with, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Identity {
    current: Option<ProducerIdentity>,
    waiting: Vec<LaneId>,
    is_asked_for: bool,
    /// Not asked for before.
    retry_at: Option<Duration>,
    failures: u32,
    /// Why there is none yet.
    last: Option<Arc<Error>>,
}

impl Identity {
    /// An id for a lane that cannot use `spent` any more.
    pub(super) fn for_lane(&mut self, spent: Option<i64>) -> Option<ProducerIdentity> {
        self.current = self.current.filter(|identity| Some(identity.producer_id) != spent);
        self.current
    }

    pub(super) fn await_by(&mut self, id: LaneId) {
        self.waiting.push(id);
    }

    /// What the last request for one came to.
    pub(super) fn last(&self) -> Option<&Arc<Error>> {
        self.last.as_ref()
    }

    /// When it may be asked for again, if anybody waits.
    pub(super) fn wake(&self) -> Option<Duration> {
        self.retry_at.filter(|_| !self.is_asked_for && !self.waiting.is_empty())
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

impl Accumulator {
    /// Whether an id is to be asked for now; who is told so does it, and says what came of it with [`Accumulator::identified`].
    pub(in crate::producer) fn wants_identity(&mut self, now: Duration) -> bool {
        let identity = &mut self.identity;
        if identity.is_asked_for || identity.waiting.is_empty() || identity.retry_at.is_some_and(|at| at > now) {
            return false;
        }
        identity.is_asked_for = identity.waiting.iter().any(|id| !self.lanes[id.0].is_empty());
        if !self.identity.is_asked_for {
            // What they waited with has expired meanwhile.
            self.release();
        }
        self.identity.is_asked_for
    }

    /// There is an id, or not: then it is asked for again after a while, or, if that does not help, all that waits for it fails.
    pub(in crate::producer) fn identified(&mut self, now: Duration, answer: Result<ProducerIdentity, Error>, jitter: f64) {
        self.identity.is_asked_for = false;
        match answer {
            Ok(granted) => {
                self.identity.current = Some(granted);
                self.release();
            }
            Err(error) if error.may_pass() => {
                let wait = backoff(self.config.retry_backoff, self.config.retry_backoff_max, self.identity.failures, jitter);
                self.identity.failures = self.identity.failures.saturating_add(1);
                self.identity.retry_at = Some(now.saturating_add(wait));
                self.identity.last = Some(Arc::new(error));
            }
            Err(error) => {
                let error = Arc::new(error);
                for id in std::mem::take(&mut self.identity.waiting) {
                    self.lanes[id.0].is_nameless = false;
                    self.fail_all(id, &error);
                    self.rearm(id);
                }
                self.release();
            }
        }
    }

    /// Nobody waits any longer.
    fn release(&mut self) {
        (self.identity.retry_at, self.identity.failures, self.identity.last) = (None, 0, None);
        for id in std::mem::take(&mut self.identity.waiting) {
            self.lanes[id.0].is_nameless = false;
            self.rearm(id);
        }
    }

    fn fail_all(&mut self, id: LaneId, error: &Arc<Error>) {
        self.seal(id);
        while let Some(batch) = self.lanes[id.0].queue.pop_front() {
            self.settle_failed(id, batch, ProducerError::Failed { error: Arc::clone(error), side_effects: SideEffects::None });
        }
    }
}
