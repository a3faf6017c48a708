//! What may become of a request, how often, and the numbers that decide it.

use std::time::Duration;

/// How often what happens, in thousandths of all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// The connection is closed before the request reaches the node.
    pub dropped: u64,
    /// The connection breaks in the middle of the request's body.
    pub cut_requests: u64,
    /// The node answers, and nobody hears it.
    pub lost_answers: u64,
    /// The connection breaks in the middle of the answer.
    pub cut_answers: u64,
    /// The whole request is sent twice at the same time, over two connections; one of the two answers is heard.
    pub duplicated: u64,
    /// The request goes its way, and within `late` it comes to the node once more, from nobody.
    pub late_copies: u64,
    /// The client's connection breaks at once, and within `late`, when the client has tried again long since, the request comes to the node all the same.
    pub late_requests: u64,
    /// The node's answer waits for all of `late` before it goes on: longer than the client waits.
    pub late_answers: u64,
    /// The request waits until up to [`OVERTAKERS`] later ones of other connections have passed, or `hold` is over.
    pub held_back: u64,
    /// The request waits before it goes on; this may happen beside one of those above.
    pub delayed: u64,
    /// So long at most does a delayed one wait.
    pub delay: Duration,
    /// So late are the late ones at most, and late answers always.
    pub late: Duration,
    /// So long at most is one held back.
    pub hold: Duration,
}

/// So many later requests overtake one that is held back, at most.
pub const OVERTAKERS: u64 = 8;

impl Faults {
    /// Of all that happens to a request on its own connection a little: `rate` thousandths each.
    pub const fn each(rate: u64) -> Self {
        let (zero, delay) = (Duration::ZERO, Duration::from_millis(20));
        Self {
            dropped: rate,
            cut_requests: rate,
            lost_answers: rate,
            cut_answers: rate,
            duplicated: 0,
            late_copies: 0,
            late_requests: 0,
            late_answers: 0,
            held_back: 0,
            delayed: rate,
            delay,
            late: zero,
            hold: zero,
        }
    }

    /// Of everything a little: the above, and copies, what is late, by `late`, and what comes in another order.
    pub const fn every(rate: u64, late: Duration) -> Self {
        Self {
            duplicated: rate,
            late_copies: rate,
            late_requests: rate,
            late_answers: rate,
            held_back: rate,
            late,
            hold: Duration::from_millis(50),
            ..Self::each(rate)
        }
    }
}

/// What becomes of one request; each is one of [`Faults`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Pass,
    Drop,
    CutRequest,
    LoseAnswer,
    CutAnswer,
    Duplicate,
    LateCopy,
    LateRequest,
    LateAnswer,
    HoldBack,
}

pub(super) fn fate(faults: &Faults, random: &mut Random) -> Fate {
    let mut number = random.below(1_000);
    for (rate, fate) in [
        (faults.dropped, Fate::Drop),
        (faults.cut_requests, Fate::CutRequest),
        (faults.lost_answers, Fate::LoseAnswer),
        (faults.cut_answers, Fate::CutAnswer),
        (faults.duplicated, Fate::Duplicate),
        (faults.late_copies, Fate::LateCopy),
        (faults.late_requests, Fate::LateRequest),
        (faults.late_answers, Fate::LateAnswer),
        (faults.held_back, Fate::HoldBack),
    ] {
        if number < rate {
            return fate;
        }
        number -= rate;
    }
    Fate::Pass
}

/// Numbers from a seed (splitmix64).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of many from the same seed, which have nothing to do with each other.
    pub fn stream(seed: u64, number: u64) -> Self {
        // The state only ever grows by one constant: streams must not begin at multiples of it, or they would be the same one from different places on.
        Self(Self(seed.wrapping_add(Self(number).draw())).draw())
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// As a coin falls.
    pub fn is_heads(&mut self) -> bool {
        self.below(2) == 0
    }

    /// In `range`; its start if it is empty.
    pub fn within(&mut self, range: std::ops::Range<usize>) -> usize {
        range.start + usize::try_from(self.below(range.len() as u64)).unwrap_or(0)
    }

    /// From `least` up to `most`, to the microsecond.
    pub fn duration(&mut self, least: Duration, most: Duration) -> Duration {
        let more = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX - 1);
        least + Duration::from_micros(self.below(more + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: two streams of a seed have no number in common, and the same stream has the same ones each time.
    #[test]
    fn streams_are_apart() {
        let draw = |number| (0..1_000).scan(Random::stream(7, number), |random, _| Some(random.draw())).collect::<Vec<_>>();
        assert_eq!(draw(3), draw(3));
        let all: std::collections::HashSet<u64> = (0..100).flat_map(draw).collect();
        assert_eq!(all.len(), 100_000);
    }

    /// A promise: fates come as often as they are asked for, the same for the same seed; without faults everything passes.
    #[test]
    fn fates_follow_their_rates() {
        let draw = |faults: Faults, seed| {
            let mut random = Random(seed);
            (0..10_000).map(|_| fate(&faults, &mut random)).collect::<Vec<_>>()
        };
        assert!(draw(Faults::default(), 1).iter().all(|fate| *fate == Fate::Pass));
        let alone = [Fate::Drop, Fate::CutRequest, Fate::LoseAnswer, Fate::CutAnswer];
        let more = [Fate::Duplicate, Fate::LateCopy, Fate::LateRequest, Fate::LateAnswer, Fate::HoldBack];
        let every = Faults::every(50, Duration::from_secs(1));
        for (faults, expected) in [(Faults::each(50), alone.to_vec()), (every, [&alone[..], &more[..]].concat())] {
            let fates = draw(faults, 1);
            assert_eq!(fates, draw(faults, 1));
            for wanted in alone.iter().chain(&more) {
                let count = fates.iter().filter(|fate| *fate == wanted).count();
                let range = if expected.contains(wanted) { 350..650 } else { 0..1 };
                assert!(range.contains(&count), "{wanted:?}: {count}");
            }
        }
    }
}
