//! What became of each record, told once a batch: its records share one [`Completion`] and know their place in it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tidegate_types::SideEffects;

use super::error::ProducerError;
use crate::produce::RecordPosition;

/// The answer that will come for one record. Dropping it changes nothing for the record.
///
/// The deliveries of one partition are settled in the order in which the answers come: with `max_in_flight = 1` that of [`super::Producer::send`].
#[derive(Debug)]
#[must_use = "a record may fail after it was taken: await its delivery, or count failures in `Producer::metrics`"]
pub struct Delivery {
    pub(super) completion: Arc<Completion>,
    /// Its place among the records of the batch.
    pub(super) index: u32,
    /// Its timestamp: as sent.
    pub(super) timestamp: i64,
    /// Where its waker is kept, once it has one.
    pub(super) slot: Option<Slot>,
}

impl Future for Delivery {
    /// Where the record stands. The offset is [`RecordPosition::NO_OFFSET`] with [`crate::Acks::None`], and of a record that was there already when it was sent
    /// again, if its partition does not know where any more.
    type Output = Result<RecordPosition, ProducerError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let delivery = self.get_mut();
        let mut state = delivery.completion.lock();
        if let Some(outcome) = state.outcome(delivery.index) {
            let (partition, timestamp) = (delivery.completion.partition, delivery.timestamp);
            return Poll::Ready(outcome.map(|offset| RecordPosition { partition, offset, timestamp }));
        }
        state.register(&mut delivery.slot, context.waker());
        Poll::Pending
    }
}

/// What became of a batch's records, in ranges: one, unless the batch had to be split.
#[derive(Debug)]
pub(super) struct Completion {
    partition: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    settled: Vec<Settled>,
    /// Records not yet settled.
    open: u32,
    wakers: Vec<Waker>,
    /// How often the wakers have been woken and forgotten.
    round: u32,
}

/// Where a waker is kept: the round in which it came, and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32, usize);

/// The records `[start, end)`, and the offset of the first.
#[derive(Debug, Clone)]
struct Settled {
    start: u32,
    end: u32,
    outcome: Result<Option<u64>, ProducerError>,
}

impl State {
    fn outcome(&self, index: u32) -> Option<Result<u64, ProducerError>> {
        let settled = self.settled.iter().find(|settled| (settled.start..settled.end).contains(&index))?;
        let at = |base: &Option<u64>| base.map_or(RecordPosition::NO_OFFSET, |base| base + u64::from(index - settled.start));
        Some(settled.outcome.as_ref().map(at).map_err(Clone::clone))
    }

    fn register(&mut self, slot: &mut Option<Slot>, waker: &Waker) {
        let known = slot.filter(|slot| slot.0 == self.round);
        match known.and_then(|slot| self.wakers.get_mut(slot.1)) {
            Some(known) => known.clone_from(waker),
            None => {
                *slot = Some(Slot(self.round, self.wakers.len()));
                self.wakers.push(waker.clone());
            }
        }
    }
}

impl Completion {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once every record is settled; gives the first failure.
    pub(super) fn settled(self: &Arc<Self>) -> AllSettled {
        AllSettled { completion: Arc::clone(self), slot: None }
    }
}

/// Waits for all records of a batch.
#[derive(Debug)]
pub(super) struct AllSettled {
    completion: Arc<Completion>,
    slot: Option<Slot>,
}

impl Future for AllSettled {
    type Output = Result<(), ProducerError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut state = this.completion.lock();
        if state.open == 0 {
            let failure = state.settled.iter().find_map(|settled| settled.outcome.as_ref().err());
            return Poll::Ready(failure.map_or(Ok(()), |error| Err(error.clone())));
        }
        state.register(&mut this.slot, context.waker());
        Poll::Pending
    }
}

/// Records that somebody has to settle. Whoever drops it unsettled settles it as closed, so that nobody waits for ever.
#[derive(Debug)]
pub(super) struct Claim {
    completion: Arc<Completion>,
    start: u32,
    end: u32,
    /// Whether a request has gone out that may have written them.
    side_effects: SideEffects,
}

impl Claim {
    /// A claim on the records of a new batch; none yet.
    pub(super) fn new(partition: u32) -> Self {
        let completion = Arc::new(Completion { partition, state: Mutex::default() });
        Self { completion, start: 0, end: 0, side_effects: SideEffects::None }
    }

    pub(super) fn completion(&self) -> &Arc<Completion> {
        &self.completion
    }

    /// Where its first record stands among those of the batch that it was first part of.
    pub(super) fn start(&self) -> u32 {
        self.start
    }

    /// How many records it is for.
    pub(super) fn len(&self) -> u32 {
        self.end - self.start
    }

    pub(super) fn side_effects(&self) -> SideEffects {
        self.side_effects
    }

    /// A request goes out, or has ended without certainty.
    pub(super) fn touch(&mut self, side_effects: SideEffects) {
        self.side_effects = side_effects;
    }

    /// One more record; its place.
    pub(super) fn add(&mut self) -> u32 {
        self.end += 1;
        self.end - 1
    }

    /// No more records: from here on those who wait for all of them know how many there are.
    pub(super) fn seal(&self) {
        self.completion.lock().open = self.end;
    }

    /// Leaves the first `count` records and gives the others away.
    pub(super) fn split_off(&mut self, count: u32) -> Self {
        let middle = self.start + count.min(self.len());
        let rest = Self { completion: Arc::clone(&self.completion), start: middle, end: self.end, side_effects: self.side_effects };
        self.end = middle;
        rest
    }

    /// Tells all who wait what became of the records: the offset of the first of them, or why not.
    pub(super) fn settle(mut self, outcome: Result<Option<u64>, ProducerError>) {
        self.settle_once(outcome);
    }

    fn settle_once(&mut self, outcome: Result<Option<u64>, ProducerError>) {
        let wakers = {
            let mut state = self.completion.lock();
            state.settled.push(Settled { start: self.start, end: self.end, outcome });
            state.open = state.open.saturating_sub(self.end - self.start);
            self.start = self.end;
            // A waker of a record that is still open is registered anew when it is polled.
            state.round = state.round.wrapping_add(1);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.start < self.end {
            self.settle_once(Err(ProducerError::Closed { side_effects: self.side_effects }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(claim_completion: &Arc<Completion>, index: u32) -> Poll<Result<RecordPosition, ProducerError>> {
        let mut delivery = Delivery { completion: Arc::clone(claim_completion), index, timestamp: 7, slot: None };
        Pin::new(&mut delivery).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// A promise: each record of a batch, split or not, gets its own offset or its own part's error, and nobody waits for ever.
    #[test]
    fn parts_are_told_apart() {
        let mut whole = Claim::new(3);
        let places: Vec<u32> = (0..5).map(|_| whole.add()).collect();
        assert_eq!(places, [0, 1, 2, 3, 4]);
        whole.seal();
        let completion = Arc::clone(whole.completion());
        let mut middle = whole.split_off(2);
        let last = middle.split_off(1);
        assert!(ask(&completion, 0).is_pending());
        last.settle(Ok(Some(100)));
        assert!(matches!(ask(&completion, 4), Poll::Ready(Ok(RecordPosition { partition: 3, offset: 101, timestamp: 7 }))));
        middle.settle(Err(ProducerError::TooLarge { actual: 2, limit: 1 }));
        assert!(matches!(ask(&completion, 2), Poll::Ready(Err(ProducerError::TooLarge { .. }))));
        assert!(ask(&completion, 1).is_pending());
        drop(whole);
        assert!(matches!(ask(&completion, 1), Poll::Ready(Err(ProducerError::Closed { .. }))));
        assert_eq!(completion.lock().open, 0);
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Wakes(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }

    /// A promise: whoever waits is woken when its record is settled, also if other records of the batch were settled before, and whoever polls again does
    /// not take another's place.
    #[test]
    fn whoever_waits_is_woken() {
        let mut first = Claim::new(0);
        for _ in 0..3 {
            first.add();
        }
        first.seal();
        let wait = |index| Delivery { completion: Arc::clone(first.completion()), index, timestamp: 0, slot: None };
        let mut deliveries = [wait(0), wait(1), wait(2)];
        let mut all = first.completion().settled();
        let wakes: [Arc<Wakes>; 4] = Default::default();
        let count = |n: usize| wakes[n].0.load(std::sync::atomic::Ordering::SeqCst);
        let mut last = first.split_off(2);
        let middle = first.split_off(1);
        let mut poll = |n: usize| Pin::new(&mut deliveries[n]).poll(&mut Context::from_waker(&Arc::clone(&wakes[n]).into())).is_ready();
        assert!(!poll(0) && !poll(1) && !poll(2));
        assert!(Pin::new(&mut all).poll(&mut Context::from_waker(&Arc::clone(&wakes[3]).into())).is_pending());
        first.settle(Ok(Some(0)));
        assert_eq!([0, 1, 2, 3].map(count), [1; 4]);
        assert!(poll(0) && !poll(2) && !poll(1) && !poll(1));
        assert!(Pin::new(&mut all).poll(&mut Context::from_waker(&Arc::clone(&wakes[3]).into())).is_pending());
        middle.settle(Ok(Some(1)));
        assert_eq!([1, 2, 3].map(count), [2; 3]);
        assert!(poll(1) && !poll(2));
        last.touch(SideEffects::Possible);
        drop(last);
        assert_eq!(count(2), 3);
        assert!(poll(2));
    }
}
