//! Histories: an idempotent producer, a network that does what it likes, and partitions that keep the wire's rules. Whatever happens, every acknowledged
//! record is in its log once, in the order of sending; what is said not to be there is not; nothing is there twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use tidegate_types::{Codec, ProducerStamp, SideEffects, StoredBatches};

use super::accumulator::{Accumulator, Outcome, Sending};
use super::batch::{Body, record_bytes};
use super::*;
use crate::error::Problem;
use crate::identity::ProducerIdentity;
use crate::produce::RecordPosition;
use partition::{FORGOTTEN_AFTER, Known, Message, Partition, Said};

mod partition;

const PARTITIONS: u32 = 2;
/// Requests of a producer that wait for an earlier one, and how long.
const PARKED_MAX: usize = 4;
const PARKED_FOR: Duration = Duration::from_secs(1);

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[derive(Debug)]
enum Event {
    Arrives(Message),
    /// The producer hears of its request.
    Heard(u64, Outcome),
    /// Whoever was parked there for long enough is answered.
    Unparks(usize),
    Identified(Result<ProducerIdentity, Error>),
}

/// What happened in all histories together, so that it is known that it happened.
#[derive(Debug, Default)]
struct Counts {
    acknowledged: u64,
    certainly_failed: u64,
    doubtful: u64,
    doubtful_but_there: u64,
    gaps: u64,
    duplicates: u64,
    old_duplicates: u64,
    fenced: u64,
    refused: u64,
    too_large: u64,
    raised: u64,
    ids: i64,
    ghosts: u64,
}

struct World<'c> {
    rng: Rng,
    counts: &'c mut Counts,
    now: Duration,
    accumulator: Accumulator,
    topic: Arc<str>,
    partitions: Vec<Partition>,
    events: BTreeMap<(Duration, u64), Event>,
    next_event: u64,
    /// What the producer waits for.
    under_way: HashMap<u64, Sending>,
    next_request: u64,
    /// Requests that were answered with a no. No copy of them is left on the way, or no such answer could be believed.
    refused: HashSet<u64>,
    /// Batches that came too early.
    too_early: HashSet<(usize, ProducerStamp)>,
    /// By value: the partition, and what will be told.
    deliveries: Vec<(usize, Delivery)>,
    /// Which value went out under which number.
    stamped: HashMap<(usize, ProducerStamp), u64>,
    /// The bytes of each stamp's batch of so many records.
    bytes: HashMap<(usize, ProducerStamp, usize), Vec<u8>>,
    max_in_flight: usize,
    /// In a hundred, how often something happens on the way.
    badness: u32,
    next_id: i64,
    is_an_id_used_up: bool,
}

fn broken() -> Error {
    Error::Broken("made up".to_owned())
}

fn problem(code: &str, status: u16) -> Error {
    Error::Problem(Box::new(serde_json::from_value::<Problem>(json!({"code": code, "status": status, "side_effects": "none"})).unwrap()))
}

impl<'c> World<'c> {
    fn new(seed: u64, counts: &'c mut Counts) -> Self {
        let mut rng = Rng::with_seed(seed);
        let config = ProducerConfig {
            batch_bytes: rng.usize(100..260),
            linger: millis(5),
            delivery_timeout: millis(rng.u64(1_500..6_000)),
            request_timeout: millis(rng.u64(300..2_500)),
            retry_backoff: millis(10),
            retry_backoff_max: millis(rng.u64(10..400)),
            max_in_flight: rng.usize(1..=5),
            stop_at_failure: rng.u8(..4) == 0,
            ..ProducerConfig::default()
        };
        let partition = |rng: &mut Rng| Partition {
            refused: (0..rng.usize(..3)).map(|_| rng.u64(..60)).collect(),
            records_max: if rng.bool() { 100 } else { rng.usize(1..6) },
            ..Partition::default()
        };
        Self {
            partitions: (0..PARTITIONS).map(|_| partition(&mut rng)).collect(),
            badness: [0, 10, 30, 60][rng.usize(..4)],
            max_in_flight: config.max_in_flight,
            accumulator: Accumulator::new(config),
            rng,
            counts,
            now: Duration::ZERO,
            topic: "t".into(),
            events: BTreeMap::new(),
            next_event: 0,
            under_way: HashMap::new(),
            next_request: 0,
            refused: HashSet::new(),
            too_early: HashSet::new(),
            deliveries: Vec::new(),
            stamped: HashMap::new(),
            bytes: HashMap::new(),
            next_id: 0,
            is_an_id_used_up: false,
        }
    }

    fn is_bad(&mut self) -> bool {
        self.rng.u32(..100) < self.badness
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.events.insert((self.now + after, self.next_event), event);
        self.next_event += 1;
    }

    fn append(&mut self, partition: u32) {
        let value = self.deliveries.len();
        let record = NewRecord::text(value.to_string());
        let (bytes, now) = (record_bytes(&record), self.now);
        let lane = self.accumulator.lane(&self.topic, partition);
        match self.accumulator.append(|| now, lane, &record, 1, bytes, 1 << 20) {
            Ok(appended) => self.deliveries.push((partition as usize, appended.delivery)),
            Err(error) => assert!(matches!(error, ProducerError::Stopped { .. }), "{error}"),
        }
    }

    /// Lets so much time pass, with all that happens in it.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.poll();
        loop {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = event.into_iter().chain(self.accumulator.next_wake()).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let event = entry.remove();
                self.happen(event);
            }
            self.poll();
        }
        self.now = end;
    }

    fn poll(&mut self) {
        for sending in self.accumulator.poll(self.now) {
            self.send(sending);
        }
        if self.accumulator.wants_identity(self.now) {
            let answer = match self.rng.u8(..10) {
                0 if self.is_bad() => Err(problem("not-found", 404)),
                1..4 if self.is_bad() => Err(broken()),
                _ => {
                    self.next_id += 1;
                    // Near the end of its epochs, or at their beginning.
                    let epoch = if self.rng.u8(..4) == 0 { i16::MAX - self.rng.i16(0..3) } else { self.rng.i16(0..2) };
                    Ok(ProducerIdentity { producer_id: self.next_id, epoch })
                }
            };
            let after = millis(self.rng.u64(..50));
            self.later(after, Event::Identified(answer));
        }
        let wake = self.accumulator.next_wake();
        assert!(wake.is_none_or(|at| at > self.now), "nothing is left to do now: {wake:?} at {:?}", self.now);
    }

    fn send(&mut self, sending: Sending) {
        let Sending { partition, timeout, mut batch, lane, topic } = sending;
        let body = std::mem::replace(&mut batch.body, Body::nothing()).pack(Codec::None, batch.stamp).unwrap();
        batch.body = Body::Packed(body.clone());
        let bytes = body.into_bytes();
        let stored = StoredBatches::new(bytes.clone()).next().unwrap().unwrap();
        stored.verify().unwrap();
        let stamp = ProducerStamp::of(&stored.header).expect("every batch says who wrote it");
        let value = |text: &[u8]| String::from_utf8_lossy(text).parse::<u64>().unwrap();
        let values: Vec<u64> = stored.records().unwrap().iter().map(|record| value(record.unwrap().value.unwrap())).collect();
        let partition = partition as usize;
        for (place, value) in (0..).zip(&values) {
            let number = (partition, stamp.advanced_by(place));
            assert_eq!(*self.stamped.entry(number).or_insert(*value), *value, "one number, two records: {number:?}");
        }
        let before = self.bytes.entry((partition, stamp, values.len())).or_insert_with(|| bytes.to_vec());
        assert_eq!(before, &bytes, "a batch is the same at every try");
        self.is_an_id_used_up |= stamp.epoch == i16::MAX;
        self.counts.raised += u64::from(stamp.epoch > 1 && stamp.sequence == 0);

        let others = || self.under_way.values().filter(|other| other.partition as usize == partition).map(|other| other.batch.place());
        let is_oldest = others().all(|place| place > batch.place());
        assert!(is_oldest || !self.too_early.contains(&(partition, stamp)), "who came too early waits for those before it");
        assert!(others().count() < self.max_in_flight, "too many requests for a partition");
        let request = self.next_request;
        self.next_request += 1;
        self.under_way.insert(request, Sending { partition: u32::try_from(partition).unwrap(), timeout, batch, lane, topic });
        let heard = |outcome| Event::Heard(request, outcome);
        self.later(timeout, heard(Outcome::Retry(Arc::new(Error::Timeout(timeout)), SideEffects::Possible)));
        let (out, back) = (millis(self.rng.u64(..40)), millis(self.rng.u64(..40)));
        let message = Message { request, partition, stamp, values, way_back: Some(back), garbles: false };
        if !self.is_bad() {
            return self.later(out, Event::Arrives(message));
        }
        let (soon, late) = (millis(self.rng.u64(..300)), millis(self.rng.u64(..4_000)));
        let ghost = Message { way_back: None, ..message.clone() };
        let lost = || Outcome::Retry(Arc::new(broken()), SideEffects::Possible);
        match self.rng.u8(..16) {
            // Nothing was sent.
            0 => self.later(soon, heard(Outcome::Retry(Arc::new(problem("overloaded", 503)), SideEffects::None))),
            1 => self.later(soon, heard(Outcome::Retry(Arc::new(problem("draining", 503)), SideEffects::None))),
            2 => self.later(soon, heard(lost())),
            // Never to arrive; the producer waits.
            3 => {}
            // The answer is lost, before or after the request arrives.
            4..7 => {
                self.later(out, Event::Arrives(ghost));
                self.later(soon, heard(lost()));
            }
            7 => self.later(out, Event::Arrives(Message { way_back: None, ..message })),
            8 | 9 => self.later(late, Event::Arrives(message)),
            10 => {
                self.later(late, Event::Arrives(ghost));
                self.later(soon, heard(lost()));
            }
            // The copy comes later: whose answer counts has come first.
            11 | 12 => {
                self.later(out, Event::Arrives(message));
                self.later(out + late, Event::Arrives(ghost));
            }
            13 => self.later(out, Event::Arrives(Message { way_back: Some(late), ..message })),
            14 => self.later(out, Event::Arrives(Message { garbles: true, ..message })),
            _ => self.later(soon, heard(Outcome::Failed(Arc::new(problem("storage-full", 507)), SideEffects::None))),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Identified(answer) => self.accumulator.identified(self.now, answer, 0.5),
            Event::Heard(request, outcome) => {
                if let Some(Sending { batch, lane, partition, .. }) = self.under_way.remove(&request) {
                    let bytes = batch.body.len();
                    if matches!(outcome, Outcome::Gap(_)) {
                        self.too_early.extend(batch.stamp.map(|stamp| (partition as usize, stamp)));
                    }
                    self.accumulator.finished(self.now, lane, batch, outcome, bytes, 0.5);
                }
            }
            Event::Unparks(place) => {
                let parked = std::mem::take(&mut self.partitions[place].parked);
                let (over, waiting): (Vec<_>, Vec<_>) = parked.into_iter().partition(|(until, _)| *until <= self.now);
                self.partitions[place].parked = waiting;
                for (_, message) in over {
                    if self.refused.contains(&message.request) {
                        continue;
                    }
                    let said = self.partitions[place].receive(self.now, &message, true).unwrap();
                    self.answer(&message, said);
                }
                self.look_again(place);
            }
            Event::Arrives(message) => {
                let (now, place) = (self.now, message.partition);
                if self.refused.contains(&message.request) {
                    return;
                }
                let is_ghost = !self.under_way.contains_key(&message.request);
                let partition = &mut self.partitions[place];
                let is_full = partition.parked.iter().filter(|(_, other)| other.stamp.id == message.stamp.id).count() >= PARKED_MAX;
                match partition.receive(now, &message, is_full) {
                    Some(said) => {
                        self.counts.ghosts += u64::from(is_ghost && matches!(said, Said::Written(_)));
                        self.answer(&message, said);
                        self.look_again(place);
                    }
                    None => {
                        partition.parked.push((now + PARKED_FOR, message));
                        self.later(PARKED_FOR, Event::Unparks(place));
                    }
                }
            }
        }
    }

    /// Answers whoever is parked and need not wait any longer.
    fn look_again(&mut self, place: usize) {
        loop {
            let parked = std::mem::take(&mut self.partitions[place].parked);
            let before = parked.len();
            for (until, message) in parked {
                if self.refused.contains(&message.request) {
                    continue;
                }
                match self.partitions[place].receive(self.now, &message, false) {
                    Some(said) => self.answer(&message, said),
                    None => self.partitions[place].parked.push((until, message)),
                }
            }
            if self.partitions[place].parked.len() == before {
                return;
            }
        }
    }

    fn answer(&mut self, message: &Message, said: Said) {
        let counts = &mut self.counts;
        let count = match said {
            Said::Written(_) => &mut 0,
            Said::Duplicate(Some(_)) => &mut counts.duplicates,
            Said::Duplicate(None) => &mut counts.old_duplicates,
            Said::Gap => &mut counts.gaps,
            Said::Fenced => &mut counts.fenced,
            Said::TooLarge => &mut counts.too_large,
            Said::Rejected(_) => &mut counts.refused,
        };
        *count += 1;
        let outcome = match said {
            _ if message.garbles => Outcome::Failed(Arc::new(broken()), SideEffects::Possible),
            Said::Written(offset) => Outcome::Written(Some(offset)),
            Said::Duplicate(offset) => Outcome::Written(offset),
            Said::Gap => Outcome::Gap(Arc::new(problem("sequence-gap", 409))),
            Said::Fenced => Outcome::Fenced(Arc::new(problem("producer-fenced", 409))),
            Said::TooLarge => Outcome::TooLarge(Arc::new(problem("record-too-large", 413))),
            Said::Rejected(index) => Outcome::Rejected(index, Arc::new(problem("record-rejected", 422))),
        };
        if let Some(way) = message.way_back {
            if !matches!(said, Said::Written(_) | Said::Duplicate(_)) {
                self.refused.insert(message.request);
            }
            self.later(way, Event::Heard(message.request, outcome));
        }
    }

    /// Somebody else begins a new epoch of one of the ids.
    fn usurp(&mut self) {
        let place = self.rng.usize(..self.partitions.len());
        let mut ids: Vec<i64> = self.partitions[place].producers.keys().copied().collect();
        ids.sort_unstable();
        let Some(id) = self.rng.choice(&ids) else { return };
        if let Some(known) = self.partitions[place].producers.get_mut(id).filter(|known| known.epoch < i16::MAX) {
            *known = Known { epoch: known.epoch + 1, active: self.now, ..Known::default() };
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..40) {
            0..22 => {
                let partition = self.rng.u32(..PARTITIONS);
                (0..self.rng.u8(1..8)).for_each(|_| self.append(partition));
            }
            22..30 => self.pass(millis(20)),
            30..35 => {
                let time = millis(self.rng.u64(50..1_500));
                self.pass(time);
            }
            35..37 => drop(self.accumulator.flush()),
            37 => self.accumulator.resume("t", self.rng.u32(..PARTITIONS)),
            38 if self.is_bad() => self.usurp(),
            39 if self.rng.u8(..4) == 0 => self.pass(FORGOTTEN_AFTER + millis(1)),
            _ => {}
        }
        self.poll();
    }

    /// Lets everything end, and sees that the lanes go on then.
    fn end(&mut self) {
        self.badness = 0;
        self.accumulator.flush();
        self.pass(Duration::from_secs(20));
        assert!(self.accumulator.is_idle(), "all is settled");
        // The first ones may be told that somebody else has their id.
        for _ in 0..2 {
            for partition in 0..PARTITIONS {
                self.accumulator.resume("t", partition);
                self.partitions[partition as usize].refused.clear();
                self.append(partition);
            }
            self.pass(Duration::from_secs(20));
        }
        for (_, delivery) in self.deliveries.iter_mut().rev().take(PARTITIONS as usize) {
            outcome(delivery).expect("on a good network records go in");
        }
    }

    fn check(&mut self) {
        let mut acknowledged: Vec<Vec<u64>> = vec![Vec::new(); self.partitions.len()];
        for (value, (place, delivery)) in (0..).zip(&mut self.deliveries) {
            let found: Vec<_> =
                self.partitions[*place].log.iter().enumerate().filter(|(_, other)| **other == value).map(|(at, _)| at).collect();
            assert!(found.len() <= 1, "{value} is there {} times", found.len());
            match outcome(delivery) {
                Ok(position) => {
                    self.counts.acknowledged += 1;
                    let at = *found.first().unwrap_or_else(|| panic!("{value} was acknowledged and is not there"));
                    assert!(
                        [at as u64, RecordPosition::NO_OFFSET].contains(&position.offset),
                        "{value} is at {at}, not at {}",
                        position.offset
                    );
                    acknowledged[*place].push(at as u64);
                }
                Err(error) if error.side_effects() == SideEffects::None => {
                    self.counts.certainly_failed += 1;
                    assert!(found.is_empty(), "{value} is there, and was said not to be: {error}");
                }
                Err(_) => {
                    self.counts.doubtful += 1;
                    self.counts.doubtful_but_there += found.len() as u64;
                }
            }
        }
        for (place, offsets) in acknowledged.iter().enumerate() {
            assert!(offsets.is_sorted(), "what was acknowledged stands in another order than it was sent in");
            let log = &self.partitions[place].log;
            // A late copy under an id that is used up stands behind its successor's.
            assert!(self.is_an_id_used_up || log.is_sorted(), "{log:?}");
        }
        let metrics = self.accumulator.metrics();
        assert_eq!(metrics.acknowledged_records + metrics.failed_records, metrics.records);
        assert_eq!((metrics.buffered_bytes, metrics.requests_in_flight), (0, 0));
        self.counts.ids += self.next_id - 1;
    }
}

fn outcome(delivery: &mut Delivery) -> Result<RecordPosition, ProducerError> {
    match Pin::new(delivery).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("a record was not settled"),
    }
}

/// A promise: whatever network, servers and time do to an idempotent producer, an acknowledged record is in its log once, and in order; a failed one that is
/// said not to be there is not; nothing is there twice; and once all is well again records go in.
#[test]
fn once_and_in_order() {
    const HISTORIES: u64 = 15_000;
    let mut counts = Counts::default();
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..1 << 60));
    println!("SEED={first}");
    for seed in first..first + HISTORIES {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed, &mut counts);
            let steps = world.rng.u32(5..60);
            (0..steps).for_each(|_| world.step());
            world.end();
            world.check();
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("in the history of SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
    println!("{counts:?}");
    let Counts { acknowledged, certainly_failed, doubtful, doubtful_but_there, gaps, duplicates, old_duplicates, .. } = counts;
    let Counts { fenced, refused, too_large, raised, ids, ghosts, .. } = counts;
    let happened = [acknowledged, certainly_failed, doubtful, doubtful_but_there, gaps, duplicates, old_duplicates];
    let happened = [&happened[..], &[fenced, refused, too_large, raised, ids.unsigned_abs(), ghosts]].concat();
    assert!(happened.iter().all(|count| *count > 100), "something hardly ever happened: {happened:?}");
}
