//! Requests that were written before, and wait until what they ask for counts: in no order of offsets.

use tidegate_types::Offset;

use super::Owner;
use super::coalesce::Replay;
use crate::broker::Acks;
use crate::error::Error;

#[derive(Debug, Default)]
pub(super) struct Replays {
    waiting: Vec<Replay<Owner>>,
}

impl Replays {
    /// Answers what counts already, and has the rest wait; if `failure` has struck the write that they would wait for, they get that instead.
    pub(super) fn settle(&mut self, replayed: Vec<Replay<Owner>>, high_watermark: Offset, failure: Option<&Error>) {
        metrics::counter!("tidegate_produce_replays_total").increment(replayed.len() as u64);
        for replay in replayed {
            match failure {
                // Also if all that was there before counts: a part of it was to be written just now.
                Some(error) if replay.is_written || replay.last >= high_watermark => replay.owner.answer(Err(error.clone())),
                _ if replay.last < high_watermark || replay.owner.acks != Acks::All => replay.owner.answer(Ok(replay.appended)),
                _ => self.waiting.push(replay),
            }
        }
    }

    /// Answers those that count now.
    pub(super) fn release(&mut self, high_watermark: Offset) {
        for replay in self.waiting.extract_if(.., |replay| replay.last < high_watermark) {
            replay.owner.answer(Ok(replay.appended));
        }
    }

    /// Nothing will come any more.
    pub(super) fn refuse_all(&mut self) {
        for replay in self.waiting.drain(..) {
            replay.owner.answer(Err(Error::WriteTimeout));
        }
    }
}
