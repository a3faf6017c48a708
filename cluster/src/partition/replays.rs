//! Requests that were written before, and wait until what they ask for counts: in no order of offsets.

use tidegate_types::Offset;

use super::Owner;
use crate::broker::{Acks, Appended};
use crate::error::Error;

#[derive(Debug, Default)]
pub(super) struct Replays {
    waiting: Vec<(Owner, Appended)>,
}

impl Replays {
    /// Answers what counts already, and has the rest wait; if `failure` has struck the write that they would wait for, they get that instead.
    pub(super) fn settle(&mut self, replayed: Vec<(Owner, Appended)>, high_watermark: Offset, failure: Option<&Error>) {
        metrics::counter!("tidegate_produce_replays_total").increment(replayed.len() as u64);
        for (owner, appended) in replayed {
            match failure {
                _ if appended.last_offset < high_watermark => owner.answer(Ok(appended)),
                Some(error) => owner.answer(Err(error.clone())),
                None if owner.acks == Acks::All => self.waiting.push((owner, appended)),
                None => owner.answer(Ok(appended)),
            }
        }
    }

    /// Answers those that count now.
    pub(super) fn release(&mut self, high_watermark: Offset) {
        for (owner, appended) in self.waiting.extract_if(.., |(_, appended)| appended.last_offset < high_watermark) {
            owner.answer(Ok(appended));
        }
    }

    /// Nothing will come any more.
    pub(super) fn refuse_all(&mut self) {
        for (owner, _) in self.waiting.drain(..) {
            owner.answer(Err(Error::WriteTimeout));
        }
    }
}
