use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use tidegate_types::batch::StoredBatches;
use tidegate_types::topic_config::Durability;
use tidegate_types::{
    BatchBuilder, Codec, Encoding, LeaderEpoch, Limits, NodeId, Offset, PartitionIndex, RecordSetBuilder, SequencedBatch, Timestamp,
    TopicConfig, TopicId, TopicName, TopicPartition,
};
use uuid::Uuid;

use super::*;
use crate::io::{Crash, FaultPlan, Faulty, Io};
use crate::{Error, Located, LogReader, PartitionLog, ReadMode, ReadOutcome, Store, inspect};

mod crash;

static LIMITS: LazyLock<Limits> = LazyLock::new(Limits::default);
const ROOT: &str = "/data";
/// Nobody waits so long.
const LONG: i64 = 1 << 40;

/// A record as written and as read: offset, timestamp, key, value.
type Entry = (u64, i64, u8, Option<String>);

fn offset(n: u64) -> Offset {
    Offset::new(n).unwrap()
}

fn tp() -> TopicPartition {
    TopicPartition { topic: TopicName::new("t").unwrap(), partition: PartitionIndex::new(0) }
}

fn directory() -> std::path::PathBuf {
    Path::new(ROOT).join("t-0")
}

fn config() -> TopicConfig {
    TopicConfig { durability: Durability::Replicated, segment_bytes: 600, index_interval_bytes: 100, ..TopicConfig::default() }
}

fn open(io: &Arc<dyn Io>) -> Result<PartitionLog, Error> {
    let store = Store::open(Arc::clone(io), Path::new(ROOT), NodeId::new(1), Uuid::nil())?;
    Ok(store.open_log(&tp(), TopicId::new(Uuid::nil()), &config())?.0)
}

/// What a log should be: all that was ever written, and how much of it compaction has seen.
#[derive(Debug, Default, Clone)]
struct Model {
    written: Vec<Entry>,
    /// When the rounds ended that went to their end, and where: times and first dirty offsets.
    rounds: Vec<(i64, u64)>,
    retention_ms: i64,
}

/// Back and forth within a hundred ms.
fn timestamp_of(offset: u64) -> i64 {
    1_000 + i64::try_from(offset * 37 % 101).unwrap()
}

impl Model {
    /// One batch of records: keys, and whether each has a value.
    fn batch(&mut self, records: &[(u8, bool)], codec: Codec) -> SequencedBatch {
        let base = self.written.len() as u64;
        let mut set = RecordSetBuilder::with_capacity(&LIMITS, 0, 0);
        for (n, (key, has_value)) in (base..).zip(records) {
            let (timestamp, value) = (timestamp_of(n), has_value.then(|| format!("{n:030}")));
            let bytes = value.as_ref().map(String::as_bytes);
            set.push(Timestamp::from_millis(timestamp), Encoding::Text, Some(&[*key]), bytes, [].into_iter()).unwrap();
            self.written.push((n, timestamp, *key, value));
        }
        let mut builder = BatchBuilder::with_capacity(0);
        builder.push(&set.finish());
        builder.finish().recompress(codec, usize::MAX).unwrap().sequence(offset(base), LeaderEpoch::ZERO).unwrap()
    }

    /// What the first `end` records come to: the latest value of each key.
    fn table(entries: &[Entry]) -> BTreeMap<u8, String> {
        let mut table = BTreeMap::new();
        for (_, _, key, value) in entries {
            match value {
                Some(value) => table.insert(*key, value.clone()),
                None => table.remove(key),
            };
        }
        table
    }

    /// Whether the tombstone at `offset` may be gone by `now`.
    fn may_be_gone(&self, offset: u64, now: i64) -> bool {
        self.rounds.iter().find(|(_, first_dirty)| *first_dirty > offset).is_some_and(|(at, _)| at + self.retention_ms < now)
    }
}

/// All that a reader gets from `start` on, which is checked to come in order and to say truly where to read on.
fn read_from(reader: &LogReader, start: Offset, end: Offset, max_bytes: usize) -> Vec<Entry> {
    let (mut next, mut all) = (start, Vec::new());
    while next < end {
        let ReadOutcome::Batches { bytes, next_offset } = reader.read(next, end, max_bytes, ReadMode::Blocking).unwrap() else {
            panic!("nothing is trimmed");
        };
        let entries = entries(bytes, next, Some(next_offset));
        all.extend(entries);
        next = next_offset;
    }
    assert_eq!(next, end, "the log's end is where it was");
    all
}

fn entries(bytes: bytes::Bytes, start: Offset, next_offset: Option<Offset>) -> Vec<Entry> {
    let (mut all, mut end) = (Vec::new(), None);
    for batch in StoredBatches::new(bytes) {
        let batch = batch.unwrap();
        batch.verify().unwrap();
        assert!(end.is_none_or(|end| batch.header.first_offset() >= end) && batch.header.last_offset() >= start);
        end = Some(batch.header.last_offset().next());
        for record in &batch.records().unwrap() {
            let record = record.unwrap();
            if record.offset >= start {
                let value = record.value.map(|value| String::from_utf8(value.to_vec()).unwrap());
                all.push((record.offset.get(), record.timestamp.millis(), record.key.unwrap()[0], value));
            }
        }
    }
    assert!(all.is_sorted_by(|a, b| a.0 < b.0));
    assert!(next_offset.is_none_or(|next| end == Some(next)), "what is read ends where to read on");
    all
}

fn round(high_watermark: Offset, now: i64, retention_ms: i64, map_bytes: usize) -> Round {
    let policy = CompactionPolicy { delete_retention_ms: retention_ms, ..CompactionPolicy::from(&config()) };
    let now = Timestamp::from_millis(now);
    Round { policy, high_watermark, now, map_bytes, seed: [9; 16], io_bytes_per_second: u64::MAX, stop: Arc::new(AtomicBool::new(false)) }
}

/// Runs a round as a node does, but on one thread.
fn compact(log: &mut PartitionLog, round: &Round) -> Result<Outcome, Error> {
    log.compactor().round(round, &mut |compacted| match log.install(compacted)? {
        Some(replaced) => replaced.finish().map(|()| true),
        None => Ok(false),
    })
}

fn run(log: &mut PartitionLog, now: i64, retention_ms: i64, map_bytes: usize) -> Result<Outcome, Error> {
    let round = round(log.log_end(), now, retention_ms, map_bytes);
    compact(log, &round)
}

/// Everything that must hold at any time of a log that holds the first records of `model` up to its end.
fn assert_whole(log: &PartitionLog, model: &Model, now: i64) {
    let (start, end, reader) = (log.log_start(), log.log_end(), log.reader());
    let written = &model.written[..usize::try_from(end.get()).unwrap()];
    let found = read_from(&reader, start, end, 300);
    for entry in &found {
        assert_eq!(Some(entry), written.get(usize::try_from(entry.0).unwrap()), "what is read is what was written there");
    }
    let latest: BTreeMap<u8, &Entry> = written.iter().map(|entry| (entry.2, entry)).collect();
    for entry in latest.into_values().filter(|entry| entry.0 >= start.get()) {
        let is_there = found.binary_search_by_key(&entry.0, |found| found.0).is_ok();
        assert!(is_there || entry.3.is_none() && model.may_be_gone(entry.0, now), "the last of its key is missing: {entry:?} at {now}");
        assert!(is_there || found.iter().all(|older| older.2 != entry.2), "an older one came back: {entry:?}");
    }
    for from in start.get()..end.get() {
        let ReadOutcome::Batches { bytes, next_offset } = reader.read(offset(from), end, 1, ReadMode::Cached).unwrap() else { panic!() };
        assert!(next_offset > offset(from), "a read below the end goes on");
        entries(bytes, offset(from), Some(next_offset));
        let (max_bytes, upper) = (from * 37 % 500, offset(end.get().min(from + 1 + from * 13 % 40)));
        let found = reader.locate(offset(from), upper, usize::try_from(max_bytes).unwrap(), ReadMode::Cached).unwrap();
        // Nobody has it open.
        let found = match found {
            Located::WouldBlock => reader.locate(offset(from), upper, usize::try_from(max_bytes).unwrap(), ReadMode::Blocking).unwrap(),
            found => found,
        };
        let Located::Ranges { ranges, next_offset } = found else { panic!() };
        let bytes: Vec<u8> = ranges.iter().flat_map(|range| range.read().unwrap()).collect();
        if bytes.is_empty() {
            assert_eq!(next_offset, offset(from), "there is nothing below {upper}");
        } else {
            entries(bytes.into(), offset(from), Some(next_offset));
        }
    }
    let plain = |found: Option<(Offset, Timestamp)>| found.map(|(offset, timestamp)| (offset.get(), timestamp.millis()));
    let first = |asked: i64| found.iter().find(|entry| entry.1 >= asked).map(|entry| (entry.0, entry.1));
    let largest = found.iter().map(|entry| entry.1).max();
    assert_eq!(plain(reader.find_max_timestamp(end).unwrap()), largest.and_then(first));
    for asked in (999..1_105).step_by(7) {
        assert_eq!(plain(reader.find_timestamp(Timestamp::from_millis(asked), end).unwrap()), first(asked), "at {asked}");
    }
}

/// What a round that went to its end has done: of each key at most one record is left below the first dirty offset.
fn assert_clean(log: &PartitionLog, first_dirty: Offset) {
    let found = read_from(&log.reader(), log.log_start(), log.log_end(), 1 << 20);
    let clean: Vec<_> = found.iter().filter(|entry| entry.0 < first_dirty.get()).map(|entry| entry.2).collect();
    let keys: std::collections::BTreeSet<_> = clean.iter().collect();
    assert_eq!(keys.len(), clean.len(), "below {first_dirty}: {clean:?}");
}

fn assert_verified(io: &dyn Io) {
    assert_eq!(inspect::verify(io, &directory()).unwrap().findings, []);
}

#[derive(Debug, Clone)]
enum Turn {
    Append(Vec<(u8, bool)>, usize),
    /// After so many ms, with so much memory.
    Compact(i64, usize),
    Trim(prop::sample::Index),
    Reopen,
    /// Somebody reads on, so many bytes.
    Read(usize),
}

fn any_turns() -> impl Strategy<Value = Vec<Turn>> {
    let record = (0_u8..7, prop::bool::weighted(0.8));
    let append = (proptest::collection::vec(record, 1..8), 0_usize..5).prop_map(|(records, codec)| Turn::Append(records, codec));
    let compact = (0_i64..100, prop_oneof![Just(1 << 20), 300_usize..600]).prop_map(|(after, bytes)| Turn::Compact(after, bytes));
    let trim = any::<prop::sample::Index>().prop_map(Turn::Trim);
    let turn = prop_oneof![14 => append, 3 => compact, 1 => trim, 2 => Just(Turn::Reopen), 3 => (1_usize..600).prop_map(Turn::Read)];
    proptest::collection::vec(turn, 1..60)
}

/// A reader that began at the head: what it has seen by now.
#[derive(Debug, Default)]
struct Beside {
    next: u64,
    seen: Vec<Entry>,
}

impl Beside {
    fn read(&mut self, log: &PartitionLog, max_bytes: usize) {
        self.next = self.next.max(log.log_start().get());
        match log.reader().read(offset(self.next), log.log_end(), max_bytes, ReadMode::Blocking).unwrap() {
            ReadOutcome::Batches { bytes, next_offset } => {
                self.seen.extend(entries(bytes, offset(self.next), None));
                assert!(next_offset.get() >= self.next);
                self.next = next_offset.get();
            }
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// A promise: however a log is written, compacted, trimmed, opened and read, what is in it was written there, the last value of every key is
    /// there, tombstones stay their time, and nobody who reads along misses what a key came to.
    #[test]
    fn compaction_keeps_what_counts(turns in any_turns(), retention_ms in prop_oneof![Just(0), 0_i64..100, Just(LONG)]) {
        let disk = Faulty::new();
        let io: Arc<dyn Io> = Arc::new(disk.clone());
        let mut log = open(&io).unwrap();
        let (mut model, mut now, mut beside, mut trimmed) = (Model { retention_ms, ..Model::default() }, 100_000, Beside::default(), false);
        for turn in turns {
            match turn {
                Turn::Append(records, codec) => log.append(&[model.batch(&records, Codec::ALL[codec])]).unwrap(),
                Turn::Compact(after, map_bytes) => {
                    now += after;
                    let before = (log.log_start(), log.log_end());
                    match run(&mut log, now, retention_ms, map_bytes).unwrap() {
                        Outcome::Done(report) => {
                            assert_clean(&log, report.first_dirty);
                            model.rounds.push((now, report.first_dirty.get()));
                        }
                        Outcome::GivenUp => panic!("nobody is in its way"),
                    }
                    prop_assert_eq!((log.log_start(), log.log_end()), before);
                }
                Turn::Trim(at) => {
                    let to = at.index(model.written.len() + 1) as u64 / 3;
                    trimmed |= to > 0;
                    log.trim_to(offset(to)).unwrap().remove().unwrap();
                }
                Turn::Reopen => {
                    log.sync().unwrap();
                    drop(log);
                    log = open(&io).unwrap();
                }
                Turn::Read(bytes) => beside.read(&log, bytes),
            }
            assert_whole(&log, &model, now);
        }
        assert_verified(io.as_ref());
        while beside.next < log.log_end().get() {
            beside.read(&log, 500);
        }
        prop_assert!(beside.seen.is_sorted_by(|a, b| a.0 < b.0));
        if retention_ms == LONG && !trimmed {
            prop_assert_eq!(Model::table(&beside.seen), Model::table(&model.written));
        }
    }
}

/// A log of batches with two records each; the keys go round.
fn filled(io: &Arc<dyn Io>, model: &mut Model, batches: u64, keys: u8) -> PartitionLog {
    let mut log = open(io).unwrap();
    for n in 0..batches {
        let key = |n: u64| u8::try_from(n % u64::from(keys)).unwrap();
        log.append(&[model.batch(&[(key(2 * n), true), (key(2 * n + 1), true)], Codec::None)]).unwrap();
    }
    log.sync().unwrap();
    log
}

/// A promise: a log shrinks to what counts, in few segments; who holds an old segment reads it to its end; a second round finds nothing to do.
#[test]
fn a_log_shrinks_to_what_counts() {
    let disk = Faulty::new();
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let mut model = Model { retention_ms: LONG, ..Model::default() };
    let mut log = filled(&io, &mut model, 100, 4);
    let (bytes, segments) = (log.reader().size_bytes(), log.compactor().segments());
    let looked = log.compactor().look(&round(log.log_end(), 0, 0, 0).policy, log.log_end(), Timestamp::from_millis(10_000)).unwrap();
    assert_eq!(looked, Some(Dirt { ratio: 1.0, is_overdue: false }));
    let Outcome::Done(report) = run(&mut log, 10_000, LONG, 1 << 20).unwrap() else { panic!() };
    assert!(segments > 20 && report.segments_in == segments - 1, "{report:?}");
    assert_eq!(report.bytes_in - report.bytes_out, bytes - log.reader().size_bytes());
    assert_clean(&log, report.first_dirty);
    assert_whole(&log, &model, 10_000);
    // Each segment was rewritten alone: their bytes were those of full ones. The next round puts them together.
    for _ in 0..2 {
        log.append(&[model.batch(&[(9, true); 20], Codec::None)]).unwrap();
    }
    let Outcome::Done(report) = run(&mut log, 10_000, LONG, 1 << 20).unwrap() else { panic!() };
    assert!(report.segments_out < 6 && log.compactor().segments() < 8, "{report:?}");
    assert_eq!(log.compactor().look(&round(log.log_end(), 0, 0, 0).policy, log.log_end(), Timestamp::from_millis(10_000)).unwrap(), None);
    let steps = disk.steps();
    let Outcome::Done(again) = run(&mut log, 10_000, LONG, 1 << 20).unwrap() else { panic!() };
    assert_eq!((again.segments_in, again.first_dirty, disk.steps()), (0, report.first_dirty, steps));
    assert_whole(&log, &model, 10_000);
    let names: Vec<_> = io.list(&directory()).unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(names.iter().all(|name| !name.ends_with("cleaned") && !name.ends_with("swap")), "{names:?}");
    assert_eq!(names.iter().filter(|name| name.ends_with(".log")).count(), log.compactor().segments());
}

/// A promise: tombstones are there for the whole of their time after they were first compacted, and gone at the first round after it, and
/// nothing older comes back.
#[test]
fn tombstones_stay_their_time() {
    let io: Arc<dyn Io> = Arc::new(Faulty::new());
    let mut model = Model { retention_ms: 500, ..Model::default() };
    let mut log = filled(&io, &mut model, 10, 4);
    log.append(&[model.batch(&[(1, false), (2, false)], Codec::Zstd)]).unwrap();
    let gone = offset(model.written.len() as u64 - 2);
    let mut at = |now: i64| {
        // Something dirty, and a segment of its own for it.
        for _ in 0..2 {
            log.append(&[model.batch(&[(0, true); 20], Codec::None)]).unwrap();
        }
        let Outcome::Done(report) = run(&mut log, now, 500, 1 << 20).unwrap() else { panic!() };
        model.rounds.push((now, report.first_dirty.get()));
        assert_whole(&log, &model, now);
        let found = read_from(&log.reader(), Offset::ZERO, log.log_end(), 1 << 20);
        let left: Vec<_> = found.iter().filter(|entry| entry.2 == 1 || entry.2 == 2).map(|entry| entry.0).collect();
        assert!(left.iter().all(|left| *left >= gone.get()));
        left.len()
    };
    assert_eq!([at(10_000), at(10_499), at(10_500), at(10_501), at(10_502)], [2, 2, 2, 0, 0]);
}

/// A promise: a map that is full ends the round where it is full, and the next one goes on there; a batch that no map holds is an error.
#[test]
fn small_memory_takes_several_rounds() {
    let io: Arc<dyn Io> = Arc::new(Faulty::new());
    let mut model = Model { retention_ms: LONG, ..Model::default() };
    let mut log = filled(&io, &mut model, 60, 40);
    let (mut ends, active) = (vec![0], log.compactor().active_base());
    while *ends.last().unwrap() < active.get() {
        // Room for 16 keys.
        let Outcome::Done(report) = run(&mut log, 10_000, LONG, 480).unwrap() else { panic!() };
        assert!(report.first_dirty.get() > *ends.last().unwrap());
        assert_clean(&log, report.first_dirty);
        assert_whole(&log, &model, 10_000);
        ends.push(report.first_dirty.get());
    }
    assert!(ends.len() > 6, "{ends:?}");
    log.append(&[model.batch(&(0..30).map(|key| (key, true)).collect::<Vec<_>>(), Codec::None)]).unwrap();
    log.append(&[model.batch(&[(0, true); 20], Codec::None)]).unwrap();
    // Up to the batch, and no further.
    run(&mut log, 10_000, LONG, 480).unwrap();
    let error = run(&mut log, 10_000, LONG, 480).unwrap_err();
    assert!(matches!(error, Error::Compaction { .. }), "{error}");
    assert_whole(&log, &model, 10_000);
}

/// A promise: whoever reads a segment reads that segment, at any moment of a round, also if nobody has it open: those who came before it the old
/// ones to their end, those who come after it the new one.
#[test]
fn a_name_never_stands_for_another_file() {
    let io: Arc<dyn Io> = Arc::new(Faulty::new());
    let mut model = Model { retention_ms: LONG, ..Model::default() };
    let mut log = filled(&io, &mut model, 60, 4);
    run(&mut log, 10_000, LONG, 1 << 20).unwrap();
    for _ in 0..3 {
        log.append(&[model.batch(&[(9, true), (2, true)].repeat(10), Codec::None)]).unwrap();
    }
    let closed = |log: &PartitionLog| log.compactor().list().iter().for_each(|segment| segment.close());
    let old = log.compactor().list();
    let before: Vec<_> = old.iter().map(|segment| (segment.bytes(), segment.open().unwrap().file.len().unwrap())).collect();
    let (compactor, whole) = (log.compactor(), round(log.log_end(), 10_000, LONG, 1 << 20));
    closed(&log);
    let mut installed = 0;
    let outcome = compactor.round(&whole, &mut |compacted| {
        closed(&log);
        assert_whole(&log, &model, 10_000);
        closed(&log);
        let Some(replaced) = log.install(compacted)? else { panic!("nobody is in its way") };
        closed(&log);
        assert_whole(&log, &model, 10_000);
        closed(&log);
        replaced.finish()?;
        closed(&log);
        assert_whole(&log, &model, 10_000);
        installed += 1;
        Ok(true)
    });
    assert!(matches!(outcome, Ok(Outcome::Done(_))) && installed > 0, "{outcome:?}");
    old.iter().for_each(|segment| segment.close());
    let after: Vec<_> = old.iter().map(|segment| (segment.bytes(), segment.open().unwrap().file.len().unwrap())).collect();
    assert_eq!(after, before);
}

/// A promise: a trim within a batch is no obstacle: what is left of the batch is compacted with all that follows.
#[test]
fn a_trim_within_a_batch_is_no_obstacle() {
    let io: Arc<dyn Io> = Arc::new(Faulty::new());
    let mut model = Model { retention_ms: LONG, ..Model::default() };
    let mut log = open(&io).unwrap();
    for records in [9, 2, 20] {
        log.append(&[model.batch(&vec![(1, true); records], Codec::None)]).unwrap();
    }
    log.trim_to(offset(8)).unwrap().remove().unwrap();
    let Outcome::Done(report) = run(&mut log, 10_000, LONG, 1 << 20).unwrap() else { panic!() };
    assert_eq!(report.first_dirty, log.compactor().active_base());
    assert_whole(&log, &model, 10_000);
}

/// A promise: what is damaged is not compacted away: the round ends with its path, and the log stays as it is.
#[test]
fn damage_ends_a_round() {
    let disk = Faulty::new();
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let mut model = Model { retention_ms: LONG, ..Model::default() };
    let mut log = filled(&io, &mut model, 30, 4);
    let segments = log.compactor().segments();
    disk.flip_bit(&directory().join("00000000000000000000.log"), 300, 1).unwrap();
    let error = run(&mut log, 10_000, LONG, 1 << 20).unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt { path, position, .. } if path.ends_with("00000000000000000000.log") && *position > 0),
        "{error}"
    );
    assert_eq!(log.compactor().segments(), segments);
}

/// A promise: what a trim takes from under a round ends it, and both are whole; a round that is told to stop leaves nothing behind.
#[test]
fn a_round_gives_way() {
    let disk = Faulty::new();
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let mut model = Model { retention_ms: LONG, ..Model::default() };
    let mut log = filled(&io, &mut model, 60, 4);
    let mut installed = 0;
    let whole = round(log.log_end(), 10_000, LONG, 1 << 20);
    let outcome = log.compactor().round(&whole, &mut |compacted| {
        if installed == 2 {
            log.trim_to(offset(30)).unwrap().remove().unwrap();
        }
        installed += 1;
        let Some(replaced) = log.install(compacted)? else { return Ok(false) };
        replaced.finish().map(|()| true)
    });
    assert_eq!((outcome.unwrap(), installed), (Outcome::GivenUp, 3));
    assert_whole(&log, &model, 10_000);
    let stopped = round(log.log_end(), 10_000, LONG, 1 << 20);
    stopped.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(compact(&mut log, &stopped).unwrap(), Outcome::GivenUp);
    assert_verified(io.as_ref());
    let names: Vec<_> = io.list(&directory()).unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(names.iter().all(|name| !name.ends_with("cleaned") && !name.ends_with("swap")), "{names:?}");
    let Outcome::Done(report) = run(&mut log, 10_000, LONG, 1 << 20).unwrap() else { panic!() };
    assert_clean(&log, report.first_dirty);
}

/// A promise: a log that was never compacted is refused if offsets are missing, and one that was is if they are missing where no compaction
/// can have been: between segments, or in the active one.
#[test]
fn missing_offsets_are_compaction_or_damage() {
    let disk = Faulty::new();
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let mut model = Model { retention_ms: LONG, ..Model::default() };
    let mut log = filled(&io, &mut model, 30, 4);
    run(&mut log, 10_000, LONG, 1 << 20).unwrap();
    let (active, bases) = (log.compactor().active_base(), log.compactor().bases());
    drop(log);
    let whole = disk.after_crash(Crash::KeepAll);
    open(&(Arc::new(whole.clone()) as Arc<dyn Io>)).unwrap();
    assert_verified(&whole);

    let unnoted = whole.after_crash(Crash::KeepAll);
    unnoted.remove_file(&Path::new(ROOT).join("cleaner-offset-checkpoint")).unwrap();
    // Else nothing would be read.
    unnoted.remove_file(&directory().join("segment-checkpoint")).unwrap();
    let lacking = whole.after_crash(Crash::KeepAll);
    lacking.remove_file(&directory().join(crate::segment::file_name(bases[1], "log"))).unwrap();
    let cut = whole.after_crash(Crash::KeepAll);
    let path = directory().join(crate::segment::file_name(active, "log"));
    let file = cut.open(&path).unwrap();
    let bytes = file.len().unwrap();
    let mut all = vec![0; usize::try_from(bytes).unwrap()];
    crate::io::read_exact_at(file.as_ref(), &mut all, 0).unwrap();
    let first = StoredBatches::new(all.clone().into()).next().unwrap().unwrap().bytes().len();
    assert!(bytes > first as u64, "two batches");
    file.write_all_at(&[&all[first..]], 0).unwrap();
    file.set_len(bytes - first as u64).unwrap();
    for (what, disk) in [("the note", unnoted), ("a segment", lacking), ("a batch of the active segment", cut)] {
        let verified = inspect::verify(&disk, &directory()).unwrap();
        // What a start cuts is told as a note.
        let is_cut = verified.notes.iter().any(|note| note.kind == inspect::Kind::TornTail);
        assert!(!verified.findings.is_empty() || is_cut && what == "a batch of the active segment", "{what}: {verified:?}");
        let io: Arc<dyn Io> = Arc::new(disk.clone());
        let opened = open(&io);
        match what {
            // Nothing of it is below a recovery point: it may be a torn write, which is cut.
            "a batch of the active segment" => assert!(opened.is_err() || opened.unwrap().log_end() == active, "{what}"),
            _ => assert!(matches!(opened, Err(Error::Corrupt { .. })), "{what}"),
        }
    }
}
