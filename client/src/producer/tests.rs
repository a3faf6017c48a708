use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tidegate_types::{Codec, SideEffects, StoredBatches};

use super::accumulator::{Accumulator, Outcome, Sending};
use super::batch::{Body, record_bytes};
use super::intake::Tried;
use super::*;
use crate::produce::RecordPosition;

/// A made-up world around the accumulator of a producer that is not idempotent: its clock, its requests under way, and the log that its batches end up in.
struct World {
    accumulator: Accumulator,
    now: Duration,
    topic: Arc<str>,
    under_way: Vec<Sending>,
    /// Values in the order in which they were written, by partition.
    logs: [Vec<u64>; PARTITIONS as usize],
    /// The batch that each value went out in first.
    batches: std::collections::HashMap<u64, u64>,
    /// Deliveries with the value and the partition that they are for.
    deliveries: Vec<(u64, u32, Option<Delivery>)>,
    taken: u64,
    buffer_bytes: usize,
    max_in_flight: usize,
    /// Values that the server refuses, and what it calls too large, in records.
    refused: Vec<u64>,
    records_max: u32,
}

const PARTITIONS: u32 = 3;

fn error() -> Arc<Error> {
    Arc::new(Error::Broken("made up".to_owned()))
}

fn values(batch: &super::batch::Batch) -> Vec<u64> {
    let bytes = batch.body.clone().pack(Codec::None, None).unwrap().into_bytes();
    let stored = StoredBatches::new(bytes).next().unwrap().unwrap();
    stored.records().unwrap().iter().map(|record| String::from_utf8_lossy(record.unwrap().value.unwrap()).parse().unwrap()).collect()
}

/// What happens to the request under way that `which` chooses.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Written,
    /// Written, but nobody hears of it.
    Lost,
    Dropped,
    Failed,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Append(u32),
    Wait(u64),
    Flush,
    End(usize, Fate),
}

impl World {
    fn new(max_in_flight: usize, buffer_bytes: usize, refused: Vec<u64>, records_max: u32) -> Self {
        let config = ProducerConfig { max_in_flight, buffer_bytes, ..ProducerConfig::default() };
        Self::with(config, refused, records_max)
    }

    /// A world whose producer never writes twice and, if `stops`, never behind a failure.
    fn careful(max_in_flight: usize, stops: bool, refused: Vec<u64>, records_max: u32) -> Self {
        let config =
            ProducerConfig { max_in_flight, buffer_bytes: 20_000, resend_in_doubt: false, stop_at_failure: stops, ..Default::default() };
        Self::with(config, refused, records_max)
    }

    fn with(config: ProducerConfig, refused: Vec<u64>, records_max: u32) -> Self {
        let (max_in_flight, buffer_bytes) = (config.max_in_flight, config.buffer_bytes);
        let config = ProducerConfig {
            batch_bytes: 200,
            linger: Duration::from_millis(5),
            delivery_timeout: Duration::from_millis(5_000),
            request_timeout: Duration::from_millis(1_000),
            idempotent: false,
            ..config
        };
        Self {
            accumulator: Accumulator::new(config),
            now: Duration::ZERO,
            topic: "t".into(),
            under_way: Vec::new(),
            logs: Default::default(),
            batches: std::collections::HashMap::new(),
            deliveries: Vec::new(),
            taken: 0,
            buffer_bytes,
            max_in_flight,
            refused,
            records_max,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(partition) => {
                let record = NewRecord::text(self.taken.to_string());
                let bytes = record_bytes(&record);
                if self.accumulator.has_room(bytes) {
                    let lane = self.accumulator.lane(&self.topic, partition);
                    let now = self.now;
                    match self.accumulator.append(|| now, lane, &record, 1, bytes, 1 << 20) {
                        Ok(appended) => {
                            self.deliveries.push((self.taken, partition, Some(appended.delivery)));
                            self.taken += 1;
                        }
                        Err(error) => assert!(matches!(error, ProducerError::Stopped { .. }), "{error}"),
                    }
                }
            }
            Step::Wait(millis) => self.now += Duration::from_millis(millis),
            Step::Flush => drop(self.accumulator.flush()),
            Step::End(which, fate) => self.end(which, fate),
        }
        self.poll();
    }

    fn poll(&mut self) {
        let sendings = self.accumulator.poll(self.now);
        self.under_way.extend(sendings);
        let wake = self.accumulator.next_wake();
        assert!(wake.is_none_or(|at| at > self.now), "nothing is left to do now: {wake:?} at {:?}", self.now);
        for partition in 0..PARTITIONS {
            let here = self.under_way.iter().filter(|sending| sending.partition == partition).count();
            assert!(here <= self.max_in_flight, "{here} requests for a partition");
        }
        assert!(self.accumulator.metrics().buffered_bytes <= self.buffer_bytes);
    }

    fn end(&mut self, which: usize, fate: Fate) {
        if self.under_way.is_empty() {
            return;
        }
        let sending = self.under_way.remove(which % self.under_way.len());
        let written = values(&sending.batch);
        for value in &written {
            self.batches.insert(*value, sending.batch.id);
        }
        let mut batch = sending.batch;
        let packed = batch.body.clone().pack(Codec::None, None).unwrap();
        let bytes = packed.clone().into_bytes();
        if let Body::Packed(before) = std::mem::replace(&mut batch.body, Body::Packed(packed)) {
            assert_eq!(before.into_bytes(), bytes, "a batch is the same at every try");
        }
        let log = &mut self.logs[sending.partition as usize];
        let refused = written.iter().position(|value| self.refused.contains(value));
        let outcome = match (fate, refused) {
            (Fate::Dropped, _) => Outcome::Retry(error(), SideEffects::None),
            (Fate::Failed, _) => Outcome::Failed(error(), SideEffects::None),
            _ if written.len() > self.records_max as usize => Outcome::TooLarge(error()),
            (_, Some(index)) => Outcome::Rejected(u32::try_from(index).unwrap(), error()),
            (Fate::Written, None) => {
                log.extend(&written);
                Outcome::Written(Some((log.len() - written.len()) as u64))
            }
            (Fate::Lost, None) => {
                log.extend(&written);
                Outcome::Retry(error(), SideEffects::Possible)
            }
        };
        self.accumulator.finished(self.now, sending.lane, batch, outcome, bytes.len(), 0.5);
    }

    /// Lets everything end well.
    fn settle(&mut self) {
        self.accumulator.flush();
        for _ in 0..10_000 {
            self.poll();
            if self.accumulator.is_idle() {
                return;
            }
            if self.under_way.is_empty() {
                self.now = self.accumulator.next_wake().expect("somebody has something to do");
            } else {
                self.end(0, Fate::Written);
            }
        }
        panic!("it does not come to an end");
    }

    fn outcome(delivery: &mut Delivery) -> Result<RecordPosition, ProducerError> {
        match Pin::new(delivery).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("a record was not settled"),
        }
    }

    /// Whoever was told an offset finds the record there; whoever was told that nothing happened finds nothing.
    fn check(&mut self) {
        for (value, partition, delivery) in &mut self.deliveries {
            let log = &self.logs[*partition as usize];
            match Self::outcome(delivery.as_mut().unwrap()) {
                Ok(position) => {
                    assert_eq!(position.partition, *partition);
                    assert_eq!(log[usize::try_from(position.offset).unwrap()], *value);
                }
                Err(error) if error.side_effects() == SideEffects::None => assert!(!log.contains(value), "{value}: {error}"),
                Err(_) => {}
            }
        }
        let metrics = self.accumulator.metrics();
        assert_eq!(metrics.records, self.taken);
        assert_eq!(metrics.acknowledged_records + metrics.failed_records, self.taken);
        assert_eq!((metrics.buffered_bytes, metrics.requests_in_flight), (0, 0));
    }
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![8 => Just(Fate::Written), 3 => Just(Fate::Lost), 3 => Just(Fate::Dropped), 1 => Just(Fate::Failed)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..PARTITIONS).prop_map(Step::Append),
        2 => prop_oneof![0..20_u64, 100..1_500_u64].prop_map(Step::Wait),
        1 => Just(Step::Flush),
        4 => (any::<usize>(), fates()).prop_map(|(which, fate)| Step::End(which, fate)),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    /// A promise: whatever happens to requests, every record is settled once and truly, the buffer keeps its bound, partitions keep theirs, and a
    /// batch is the same bytes at every try.
    #[test]
    fn every_record_is_settled_truly(
        steps in steps(),
        max_in_flight in 1_usize..4,
        buffer_bytes in 1_500_usize..20_000,
        refused in prop::collection::vec(0_u64..100, 0..3),
        records_max in 1_u32..12,
    ) {
        let mut world = World::new(max_in_flight, buffer_bytes, refused, records_max);
        steps.into_iter().for_each(|step| world.step(step));
        world.settle();
        world.check();
    }

    /// A promise: with one request under way a partition's records stand in the order in which they were taken, whatever fails: that is, the first copies
    /// of what is there.
    #[test]
    fn one_request_keeps_the_order(steps in steps(), refused in prop::collection::vec(0_u64..100, 0..3), records_max in 1_u32..12) {
        let mut world = World::new(1, 20_000, refused, records_max);
        steps.into_iter().for_each(|step| world.step(step));
        world.settle();
        for log in &world.logs {
            let mut seen = std::collections::BTreeSet::new();
            let first: Vec<u64> = log.iter().copied().filter(|value| seen.insert(*value)).collect();
            prop_assert!(first.is_sorted(), "{log:?}");
        }
    }

    /// A promise: however often requests fail, hang or lose their answers, a batch is overtaken by fewer batches than may be under way.
    #[test]
    fn few_overtake(
        steps in steps(),
        max_in_flight in 1_usize..5,
        refused in prop::collection::vec(0_u64..100, 0..3),
        records_max in 1_u32..12,
    ) {
        let mut world = World::new(max_in_flight, 100_000, refused, records_max);
        steps.into_iter().for_each(|step| world.step(step));
        world.settle();
        for log in &world.logs {
            let mut before = std::collections::BTreeSet::new();
            let mut seen = std::collections::BTreeSet::new();
            for value in log {
                let batch = world.batches[value];
                if seen.insert(*value) {
                    let overtaking = before.range(batch + 1..).count();
                    prop_assert!(overtaking < max_in_flight, "{} overtake {} in {:?}", overtaking, value, log);
                }
                before.insert(batch);
            }
        }
    }

    /// A promise: a producer that is told so never writes a record twice, whatever becomes of its requests, and keeps the order with one of them under way.
    #[test]
    fn nothing_is_there_twice(
        steps in steps(),
        max_in_flight in 1_usize..4,
        stops in any::<bool>(),
        refused in prop::collection::vec(0_u64..100, 0..3),
        records_max in 1_u32..12,
    ) {
        let mut world = World::careful(max_in_flight, stops, refused, records_max);
        steps.into_iter().for_each(|step| world.step(step));
        world.settle();
        for log in &world.logs {
            let distinct: std::collections::BTreeSet<_> = log.iter().collect();
            prop_assert_eq!(distinct.len(), log.len(), "{:?}", log);
            prop_assert!(max_in_flight > 1 || log.is_sorted(), "{:?}", log);
        }
        world.check();
    }

    /// A promise: where a partition stops at its first failure, it holds every record before that one, none behind it, and of the failed batch all or none;
    /// each delivery says which: first all that are there, then those in doubt, then those that are not, also if one of these has run out of time before.
    #[test]
    fn a_stop_leaves_a_prefix(steps in steps(), refused in prop::collection::vec(0_u64..100, 0..3), records_max in 1_u32..12) {
        let mut world = World::careful(1, true, refused, records_max);
        steps.into_iter().for_each(|step| world.step(step));
        world.settle();
        world.check();
        for partition in 0..PARTITIONS {
            let log = &world.logs[partition as usize];
            let here: Vec<u64> = world.deliveries.iter().filter(|(_, at, _)| *at == partition).map(|(value, ..)| *value).collect();
            prop_assert_eq!(&log[..], &here[..log.len()]);
            let mut kinds = Vec::new();
            for (_, _, delivery) in world.deliveries.iter_mut().filter(|(_, at, _)| *at == partition) {
                kinds.push(match World::outcome(delivery.as_mut().unwrap()) {
                    Ok(_) => 0,
                    Err(error) if error.side_effects() == SideEffects::Possible => 1,
                    Err(_) => 2,
                });
            }
            prop_assert!(kinds.is_sorted(), "{:?}", kinds);
        }
    }
}

/// A promise: a partition that has stopped takes nothing, while others do, until it is told to go on; then it does.
#[test]
fn a_stopped_partition_goes_on_when_told() {
    let mut world = World::careful(1, true, Vec::new(), 100);
    let taken = |world: &World, partition| world.deliveries.iter().filter(|(_, at, _)| *at == partition).count();
    for partition in [0, 1] {
        world.step(Step::Append(partition));
    }
    world.step(Step::Wait(5));
    world.step(Step::Append(0));
    world.step(Step::End(0, Fate::Lost));
    world.step(Step::Append(0));
    world.step(Step::Append(1));
    assert_eq!((taken(&world, 0), taken(&world, 1)), (2, 2));
    world.accumulator.resume("t", 0);
    world.accumulator.resume("t", 9);
    world.accumulator.resume("other", 0);
    world.step(Step::Append(0));
    world.settle();
    assert_eq!(taken(&world, 0), 3);
    assert_eq!((&world.logs[0], &world.logs[1]), (&vec![0, 4], &vec![1, 3]));
    world.check();
}

fn world() -> World {
    World::new(5, 100_000, Vec::new(), 100)
}

/// A promise: a record is given up `delivery_timeout` after it was taken, tried or not, and says whether it may have been written.
#[test]
fn records_expire() {
    for (fate, doubt) in [(Fate::Lost, SideEffects::Possible), (Fate::Dropped, SideEffects::None)] {
        let mut world = world();
        world.step(Step::Append(0));
        while !world.accumulator.is_idle() {
            if world.under_way.is_empty() {
                world.now = world.accumulator.next_wake().expect("it has a time to be given up");
                world.poll();
            } else {
                world.step(Step::End(0, fate));
            }
        }
        assert_eq!(world.now, Duration::from_millis(5_000));
        let outcome = World::outcome(world.deliveries[0].2.as_mut().unwrap());
        assert!(
            matches!(&outcome, Err(ProducerError::Expired { side_effects, last: Some(_), .. }) if *side_effects == doubt),
            "{outcome:?}"
        );
    }
    // One whose turn never comes, because the one before it hangs.
    let mut world = World::new(1, 100_000, Vec::new(), 100);
    world.step(Step::Append(0));
    world.step(Step::Wait(5));
    world.step(Step::Append(0));
    world.step(Step::Wait(5_000));
    assert_eq!(world.under_way.len(), 1);
    let outcome = World::outcome(world.deliveries[1].2.as_mut().unwrap());
    assert!(matches!(outcome, Err(ProducerError::Expired { side_effects: SideEffects::None, last: None, .. })), "{outcome:?}");
}

/// A promise: a batch goes out when it is full, or when it has lingered, and not before; no request takes longer than its records have.
#[test]
fn batches_wait_for_company() {
    let mut world = world();
    world.step(Step::Append(0));
    world.step(Step::Wait(4));
    assert!(world.under_way.is_empty());
    world.step(Step::Wait(1));
    assert_eq!(world.under_way.len(), 1);
    assert_eq!(world.under_way[0].timeout, Duration::from_millis(1_000));
    (0..8).for_each(|_| world.step(Step::Append(0)));
    assert_eq!(world.under_way.len(), 2, "a full batch does not wait");
    assert_eq!(values(&world.under_way[1].batch), [1, 2, 3, 4, 5]);
}

/// A promise: only what is refused fails: a record that alone is too large, or that breaks a rule, takes nobody with it.
#[test]
fn records_fail_alone() {
    let mut world = World::new(1, 100_000, vec![3], 2);
    (0..6).for_each(|_| world.step(Step::Append(0)));
    world.settle();
    let failed: Vec<u64> = world
        .deliveries
        .iter_mut()
        .filter_map(|(value, _, delivery)| World::outcome(delivery.as_mut().unwrap()).is_err().then_some(*value))
        .collect();
    assert_eq!((failed, &world.logs[0]), (vec![3], &vec![0, 1, 2, 4, 5]));
    world.check();
}

/// A promise: what a record counts is at least what it takes, and exactly what its batch counts for it.
#[test]
fn sizes_are_true() {
    for length in [0, 1, 63, 64, 65, 127, 128, 8_191, 8_192, 70_000] {
        let record = NewRecord::text("v".repeat(length)).key("k".repeat(length % 60_000)).header("h", vec![0; length % 100]);
        let mut open = super::batch::OpenBatch::new(0, Duration::ZERO);
        open.push(&record, 1 << 50, record_bytes(&record)).unwrap();
        let batch = open.seal(1);
        let Body::Records(set) = &batch.body else { panic!("packed early") };
        assert_eq!(set.bytes(), record_bytes(&record), "{length}");
    }
}

/// A promise: of many records for several partitions each is packed and sent once, whatever the codec, and settled then.
#[test]
fn all_that_is_taken_is_sent() {
    const COUNT: u32 = 20_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    for codec in Codec::ALL {
        let client = Client::new("http://127.0.0.1:1").unwrap();
        let producer = client.producer().idempotent(false).buffer_bytes(1 << 30).linger(Duration::from_secs(60)).build().unwrap();
        producer.shared.lock().know(Arc::new(crate::routing::TopicRoute::made_up("t", 4)));
        let value = bytes::Bytes::from(vec![b'x'; 100]);
        for _ in 0..COUNT {
            let record = NewRecord::bytes(value.clone());
            let bytes = record_bytes(&record);
            let Ok(Tried::Taken(delivery)) = producer.shared.try_take("t", None, &record, bytes, false) else { panic!("not taken") };
            drop(delivery);
        }
        let mut state = producer.shared.lock();
        state.accumulator.flush();
        let mut sent = 0;
        loop {
            let sendings = state.accumulator.poll(Duration::from_secs(1));
            if sendings.is_empty() {
                break;
            }
            for Sending { lane, mut batch, .. } in sendings {
                let body = std::mem::replace(&mut batch.body, Body::nothing()).pack(codec, None).unwrap();
                sent += batch.claim.len();
                state.accumulator.finished(Duration::from_secs(1), lane, batch, Outcome::Written(Some(0)), body.len(), 0.5);
            }
        }
        assert_eq!(sent, COUNT);
        assert!(state.accumulator.is_idle(), "all is settled");
    }
}
