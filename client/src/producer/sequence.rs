//! A lane's numbers, by which its partition recognises what it is sent again: producer id, epoch, and the sequence of the next record.
//!
//! ```text
//!   epoch 0:  [0..4][5..9][10..14]  [15..19] …      each batch keeps its stamp over all tries
//!                     └ fails for good: a hole. What is behind it cannot be written any more, or not for certain
//!   epoch 1:              [0..4]    [5..9]   …      so it gets new stamps, once nothing of the old epoch can come any more
//! ```
//!
//! Its promise: **no record has two stamps of which both may be written.** A batch gets a new stamp only if the old one is certainly not written and never
//! will be:
//!
//! - no request of the lane is under way;
//! - every try of it was answered, and none wrote it; or it stands behind such a batch, or behind a hole that is such a batch: a partition takes sequences
//!   without gap, so that a copy of it that some wire still holds finds the gap before it, and the new epoch later.
//!
//! What may have been written keeps its stamp and is tried with it until it is acknowledged or its time is over.
//!
//! A partition that does not know a producer begins at any sequence. So the first batch of an epoch goes alone until it is acknowledged: else the second
//! could be written, and the first be taken for a repetition. Partitions forget producers that are silent for long; a lane that was begins a new epoch.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_types::{ProducerStamp, SideEffects};

use super::batch::{Batch, Place};
use super::lane::UnderWay;
use crate::identity::ProducerIdentity;

/// How long a lane may be silent before it begins a new epoch; partitions remember for a day, unless they are told otherwise.
const SILENCE_MAX: Duration = Duration::from_secs(5 * 60);

/// A lane's id, epoch and next sequence, and what stands in their way.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// What the next new batch gets; `None` before there is an id.
    next: Option<ProducerStamp>,
    /// The id that it had before and cannot use any more.
    spent: Option<i64>,
    /// When a batch of this epoch was acknowledged last: until then the partition may not know it.
    acknowledged_at: Option<Duration>,
    /// The place of the first batch of this epoch that failed: from there on sequences may be missing.
    hole: Option<Place>,
    /// The place of the first one that was certainly not written and never will be: nothing behind it can be.
    end: Option<Place>,
    /// Somebody else has begun a later epoch of the id.
    is_fenced: bool,
}

impl Sequence {
    /// Whether that batch keeps the stamp that it has.
    fn keeps(&self, batch: &Batch) -> bool {
        let place = batch.place();
        let is_before = self.hole.is_none_or(|hole| place < hole);
        let is_in_doubt = batch.claim.side_effects() == SideEffects::Possible && self.end.is_none_or(|end| place <= end);
        batch.stamp.is_some() && (is_before || is_in_doubt)
    }

    /// Whether the batch that is next in line (`None` is one that still takes records) may go out beside those under way.
    pub(super) fn may_go(&self, next: Option<&Batch>, under_way: &[UnderWay]) -> bool {
        if under_way.is_empty() {
            return true;
        }
        let is_in_order = match next {
            Some(batch) if self.keeps(batch) => !batch.awaits_turn || under_way.iter().all(|other| other.place > batch.place()),
            _ => self.hole.is_none(),
        };
        self.acknowledged_at.is_some() && is_in_order
    }

    /// Makes room for the batch that is next in line and may go: raises the epoch if that is needed, and takes their stamps from all that wait. Gives
    /// whether an id is missing.
    pub(super) fn prepare(&mut self, now: Duration, queue: &mut VecDeque<Batch>) -> bool {
        if queue.front().is_some_and(|batch| self.keeps(batch)) {
            return false;
        }
        // Of those silent nothing is under way.
        let is_silent = self.acknowledged_at.is_some_and(|at| at.saturating_add(SILENCE_MAX) <= now);
        if self.hole.is_some() || is_silent {
            self.raise();
            for batch in queue.iter_mut().filter(|batch| batch.stamp.is_some()) {
                batch.stamp = None;
                batch.awaits_turn = false;
                batch.claim.touch(SideEffects::None);
            }
        }
        self.next.is_none()
    }

    fn raise(&mut self) {
        (self.hole, self.end, self.acknowledged_at) = (None, None, None);
        let is_fenced = std::mem::take(&mut self.is_fenced);
        let Some(last) = self.next else { return };
        match last.epoch.checked_add(1).filter(|_| !is_fenced) {
            Some(epoch) => self.next = Some(ProducerStamp { epoch, sequence: 0, ..last }),
            None => (self.next, self.spent) = (None, Some(last.id)),
        }
    }

    /// The id that is of no more use to the lane.
    pub(super) fn spent(&self) -> Option<i64> {
        self.spent
    }

    /// Begins with a fresh id.
    pub(super) fn begin(&mut self, identity: ProducerIdentity) {
        self.next = Some(ProducerStamp { id: identity.producer_id, epoch: identity.epoch, sequence: 0 });
    }

    /// The stamp of a batch of so many records that is sent for the first time.
    pub(super) fn take(&mut self, records: u32) -> Option<ProducerStamp> {
        let stamp = self.next?;
        self.next = Some(stamp.advanced_by(records));
        Some(stamp)
    }

    /// A batch was acknowledged.
    pub(super) fn acknowledged(&mut self, now: Duration) {
        self.acknowledged_at = Some(now);
    }

    /// The batch at that place will not be tried with its stamp any more; `side_effects` says whether it may have been written.
    pub(super) fn failed(&mut self, place: Place, side_effects: SideEffects) {
        let first = |before: Option<Place>| Some(before.map_or(place, |before| before.min(place)));
        self.hole = first(self.hole);
        if side_effects == SideEffects::None {
            self.end = first(self.end);
        }
    }

    /// Somebody else uses the id.
    pub(super) fn fenced(&mut self) {
        self.is_fenced = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::OpenBatch;
    use super::*;
    use crate::record::NewRecord;

    fn begun(epoch: i16) -> Sequence {
        let mut sequence = Sequence::default();
        sequence.begin(ProducerIdentity { producer_id: 9, epoch });
        sequence
    }

    /// A batch of one record that has been sent.
    fn batch(id: u64, side_effects: SideEffects) -> Batch {
        let mut open = OpenBatch::new(0, Duration::ZERO);
        open.push(&NewRecord::text("x"), 1, 1).unwrap();
        let mut batch = open.seal(id);
        batch.stamp = Some(ProducerStamp { id: 9, epoch: 0, sequence: i32::try_from(id).unwrap() });
        batch.claim.touch(side_effects);
        batch
    }

    /// A promise: behind a batch that may be there, what may be there too keeps its number, and what is certainly not gets a new one, with all that stands behind it,
    /// when nothing is under way any more; behind one that is certainly not there all get new ones. Of what got one, it is certain that it was not there.
    #[test]
    fn what_may_be_there_keeps_its_number() {
        use SideEffects::{None as Certain, Possible};
        let stamps = |queue: &VecDeque<Batch>| queue.iter().map(|batch| batch.stamp.map(|stamp| stamp.sequence)).collect::<Vec<_>>();
        let waiting = || VecDeque::from([batch(2, Possible), batch(3, Certain), batch(4, Possible)]);
        let under_way = [UnderWay { turn: 0, place: (2, 0) }];
        for hole in [Possible, Certain] {
            let (mut sequence, mut queue) = (begun(0), waiting());
            sequence.acknowledged(Duration::ZERO);
            assert!(sequence.may_go(queue.front(), &under_way));
            sequence.failed((1, 0), hole);
            if hole == Possible {
                assert!(sequence.may_go(queue.front(), &[UnderWay { turn: 9, place: (9, 0) }]));
                assert!(!sequence.prepare(Duration::ZERO, &mut queue));
                assert_eq!(stamps(&queue), [Some(2), Some(3), Some(4)]);
                queue.pop_front();
            }
            assert!(!sequence.may_go(queue.front(), &under_way) && !sequence.may_go(None, &under_way));
            assert!(sequence.may_go(queue.front(), &[]) && !sequence.prepare(Duration::ZERO, &mut queue));
            assert!(queue.iter().all(|batch| batch.stamp.is_none() && batch.claim.side_effects() == Certain), "{hole:?}");
            assert_eq!(sequence.take(1), Some(ProducerStamp { id: 9, epoch: 1, sequence: 0 }));
            assert!(!sequence.may_go(None, &under_way), "the first goes alone");
        }
    }

    /// A promise: sequences count records, and go round after 2^31 - 1.
    #[test]
    fn sequences_go_round() {
        let mut sequence = begun(0);
        let mut take = |records| sequence.take(records).unwrap().sequence;
        let most = i32::MAX.unsigned_abs();
        assert_eq!([take(3), take(most - 5), take(4), take(10), take(1)], [0, 3, i32::MAX - 2, 1, 11]);
    }

    /// A promise: a hole costs an epoch; the last epoch, and one that somebody else has ended, costs the id.
    #[test]
    fn epochs_rise_until_the_id_is_used_up() {
        let mut sequence = begun(i16::MAX - 1);
        let mut fail = |is_fenced| {
            sequence.acknowledged(Duration::ZERO);
            sequence.failed((1, 0), SideEffects::Possible);
            if is_fenced {
                sequence.fenced();
            }
            let lacks_id = sequence.prepare(Duration::ZERO, &mut VecDeque::new());
            assert!(sequence.may_go(None, &[]));
            (lacks_id, sequence.spent())
        };
        assert_eq!([fail(false), fail(false)], [(false, None), (true, Some(9))]);
        let mut fenced = begun(0);
        fenced.failed((1, 0), SideEffects::None);
        fenced.fenced();
        assert!(fenced.prepare(Duration::ZERO, &mut VecDeque::new()));
        fenced.begin(ProducerIdentity { producer_id: 10, epoch: 0 });
        assert_eq!(fenced.take(1), Some(ProducerStamp { id: 10, epoch: 0, sequence: 0 }));
    }

    /// A promise: who was silent for long begins a new epoch, and goes alone again.
    #[test]
    fn silence_ends_an_epoch() {
        let mut sequence = begun(0);
        sequence.take(5);
        sequence.acknowledged(Duration::from_secs(7));
        let mut next = |at| {
            assert!(!sequence.prepare(at, &mut VecDeque::new()));
            sequence.take(1).map(|stamp| (stamp.epoch, stamp.sequence))
        };
        assert_eq!(next(Duration::from_secs(306)), Some((0, 5)));
        assert_eq!(next(Duration::from_secs(307)), Some((1, 0)));
    }
}
