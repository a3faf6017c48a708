use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use tidegate_types::batch::StoredBatches;
use tidegate_types::topic_config::Durability;
use tidegate_types::{
    BatchBuilder, Encoding, LeaderEpoch, Limits, NodeId, PartitionIndex, RecordSetBuilder, Timestamp, TopicId, TopicName, TopicPartition,
};
use uuid::Uuid;

use super::*;
use crate::io::{Crash, Failure, FaultPlan, Faulty, Io, Operation, RealIo};
use crate::reader::{ReadMode, ReadOutcome};
use crate::{RecoveryReport, Store};

mod located;
mod retention;
mod starts;
mod times;
mod trim;

static LIMITS: LazyLock<Limits> = LazyLock::new(Limits::default);
const ROOT: &str = "/data";

/// A batch whose records' values say their offsets, padded to `padding` bytes.
fn batch(base: Offset, records: u64, padding: usize) -> SequencedBatch {
    batch_by(LeaderEpoch::ZERO, base, records, padding)
}

fn batch_by(epoch: LeaderEpoch, base: Offset, records: u64, padding: usize) -> SequencedBatch {
    let mut set = RecordSetBuilder::with_capacity(&LIMITS, 0, 0);
    for i in 0..records {
        let value = format!("{:0padding$}", base.get() + i);
        let timestamp = Timestamp::from_millis(i64::try_from(base.get() + i).unwrap());
        set.push(timestamp, Encoding::Text, None, Some(value.as_bytes()), [].into_iter()).unwrap();
    }
    let mut builder = BatchBuilder::with_capacity(0);
    builder.push(&set.finish());
    builder.finish().sequence(base, epoch).unwrap()
}

fn tp() -> TopicPartition {
    TopicPartition { topic: TopicName::new("t").unwrap(), partition: PartitionIndex::new(0) }
}

fn store(io: &Arc<dyn Io>) -> Result<Store, Error> {
    Store::open(Arc::clone(io), Path::new(ROOT), NodeId::new(1), Uuid::nil())
}

/// Small segments and a dense index, so that short histories meet every edge.
///
/// `replicated`: these histories write several times between two syncs, which a topic with `fsync` never does.
fn config() -> TopicConfig {
    TopicConfig { durability: Durability::Replicated, segment_bytes: 600, index_interval_bytes: 100, ..TopicConfig::default() }
}

/// The same for a topic that syncs each write before the next, whose files are prepared.
fn synced() -> TopicConfig {
    TopicConfig { durability: Durability::Fsync, ..config() }
}

fn open(io: &Arc<dyn Io>) -> Result<(PartitionLog, RecoveryReport), Error> {
    open_as(io, &config())
}

fn open_as(io: &Arc<dyn Io>, config: &TopicConfig) -> Result<(PartitionLog, RecoveryReport), Error> {
    store(io)?.open_log(&tp(), TopicId::new(Uuid::nil()), config)
}

fn values(bytes: Bytes) -> Vec<(u64, u64)> {
    let mut values = Vec::new();
    for batch in StoredBatches::new(bytes) {
        let batch = batch.unwrap();
        batch.verify().unwrap();
        for record in &batch.records().unwrap() {
            let record = record.unwrap();
            values.push((record.offset.get(), std::str::from_utf8(record.value.unwrap()).unwrap().parse().unwrap()));
        }
    }
    values
}

/// Reads everything below `upper`, in steps of `max_bytes`.
fn read_all(log: &PartitionLog, upper: Offset, max_bytes: usize) -> Vec<(u64, u64)> {
    let (reader, mut next, mut all) = (log.reader(), log.log_start(), Vec::new());
    while next < upper {
        match reader.read(next, upper, max_bytes, ReadMode::Blocking).unwrap() {
            ReadOutcome::Batches { bytes, next_offset } => {
                assert!(next_offset > next, "a read below the end gives something");
                all.extend(values(bytes));
                next = next_offset;
            }
            other => unreachable!("a blocking read waits, and nothing is trimmed: {other:?}"),
        }
    }
    all
}

/// One step of a history.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// One write of so many batches of so many records.
    Append {
        batches: u64,
        records: u64,
        padding: usize,
    },
    Sync,
}

fn any_history() -> impl Strategy<Value = Vec<Step>> {
    let append = (1_u64..4, 1_u64..5, 1_usize..120).prop_map(|(batches, records, padding)| Step::Append { batches, records, padding });
    proptest::collection::vec(prop_oneof![append, Just(Step::Sync)], 1..25)
}

/// Plays the history; gives the offsets below which everything was acknowledged, and the end of what was ever handed to the disk.
fn play(io: &Arc<dyn Io>, history: &[Step], config: &TopicConfig) -> (Offset, Offset) {
    let Ok((mut log, _)) = open_as(io, config) else { return (Offset::ZERO, Offset::ZERO) };
    let syncs_each = config.durability == Durability::Fsync;
    let mut tried = log.log_end();
    for step in history {
        let done = match *step {
            Step::Append { batches, records, padding } => {
                let base = log.log_end();
                let group: Vec<_> = (0..batches).map(|i| batch(base.checked_add(i * records).unwrap(), records, padding)).collect();
                tried = base.checked_add(batches * records).unwrap();
                log.append(&group).and_then(|()| if syncs_each { log.sync() } else { Ok(()) })
            }
            Step::Sync => log.sync(),
        };
        if done.is_err() {
            break;
        }
    }
    (log.synced_end(), tried)
}

/// A prefix: offsets from 0 on without a gap, every value its own, at least everything acknowledged, nothing never written.
fn assert_prefix(log: &PartitionLog, acknowledged: Offset, tried: Offset) {
    assert!(log.log_end() >= acknowledged, "acknowledged up to {acknowledged}, found up to {}", log.log_end());
    assert!(log.log_end() <= tried, "nothing was written beyond {tried}, found up to {}", log.log_end());
    let expected: Vec<_> = (0..log.log_end().get()).map(|n| (n, n)).collect();
    assert_eq!(read_all(log, log.log_end(), 300), expected);
}

/// Plays a history on a disk that is cut at `cut`, then starts again from what `crash` leaves, twice, and goes on writing.
fn crash_at(history: &[Step], cut: u64, crash: Crash, config: &TopicConfig) {
    let disk = Faulty::new();
    disk.set_plan(FaultPlan { cut_at: Some(cut), ..FaultPlan::default() });
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let (acknowledged, tried) = play(&io, history, config);
    let disk = disk.after_crash(crash);
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let (mut log, report) = open_as(&io, config).unwrap();
    assert_prefix(&log, acknowledged, tried);
    assert_eq!(report.log_end, log.log_end());
    let next = log.log_end();
    log.append(&[batch(next, 2, 10)]).unwrap();
    log.sync().unwrap();
    drop(log);
    let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::LoseAll));
    let (log, report) = open_as(&io, config).unwrap();
    assert_eq!(
        (report.cut_bytes, log.log_end()),
        (0, next.checked_add(2).unwrap()),
        "cut at {cut}, {crash:?}: what was recovered and synced is there for good"
    );
}

/// The history of the exhaustive test: groups, syncs and rolls in every neighbourhood.
fn scripted() -> Vec<Step> {
    let append = |batches, records, padding| Step::Append { batches, records, padding };
    vec![
        append(1, 1, 10),
        Step::Sync,
        append(1, 3, 50),
        append(2, 1, 20),
        Step::Sync,
        append(3, 2, 100),
        Step::Sync,
        append(1, 1, 1),
        append(1, 4, 90),
        Step::Sync,
        append(2, 2, 119),
    ]
}

/// A promise: wherever the plug is pulled, at every write and every sync, the next start finds a prefix that holds every acknowledged batch.
#[test]
fn a_crash_at_every_step_leaves_a_prefix_with_every_acknowledged_batch() {
    for config in [config(), synced()] {
        let whole = Faulty::new();
        let io: Arc<dyn Io> = Arc::new(whole.clone());
        let (acknowledged, _) = play(&io, &scripted(), &config);
        assert!(acknowledged > Offset::ZERO);
        let crashes = [Crash::LoseAll, Crash::KeepAll, Crash::Kill].into_iter().chain((0..40).map(Crash::Random));
        for crash in crashes {
            for cut in 0..=whole.steps() {
                crash_at(&scripted(), cut, crash, &config);
            }
        }
    }
}

/// A promise: what a start has found and shown is there for good, also if it was only in the page cache when the process was killed.
#[test]
fn what_a_start_has_shown_outlives_the_next_power_cut() {
    let whole = Faulty::new();
    let io: Arc<dyn Io> = Arc::new(whole.clone());
    play(&io, &scripted(), &config());
    for cut in 0..=whole.steps() {
        let disk = Faulty::new();
        disk.set_plan(FaultPlan { cut_at: Some(cut), ..FaultPlan::default() });
        let io: Arc<dyn Io> = Arc::new(disk.clone());
        play(&io, &scripted(), &config());
        let disk = disk.after_crash(Crash::Kill);
        let io: Arc<dyn Io> = Arc::new(disk.clone());
        let shown = open(&io).unwrap().0.log_end();
        let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::LoseAll));
        assert_eq!(open(&io).unwrap().0.log_end(), shown, "cut at step {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A promise: any range reads as the same range of a plain list would, however the read is cut into steps.
    #[test]
    fn reads_are_ranges(history in any_history(), start: prop::sample::Index, max_bytes in 1_usize..2000) {
        let io: Arc<dyn Io> = Arc::new(Faulty::new());
        let (mut log, _) = open(&io).unwrap();
        for step in history {
            if let Step::Append { batches, records, padding } = step {
                let base = log.log_end();
                let group: Vec<_> = (0..batches).map(|i| batch(base.checked_add(i * records).unwrap(), records, padding)).collect();
                log.append(&group).unwrap();
            }
        }
        let end = log.log_end();
        prop_assume!(end > Offset::ZERO);
        prop_assert_eq!(read_all(&log, end, max_bytes), (0..end.get()).map(|n| (n, n)).collect::<Vec<_>>());
        let start = start.index(usize::try_from(end.get()).unwrap()) as u64;
        let ReadOutcome::Batches { bytes, .. } = log.reader().read(Offset::new(start).unwrap(), end, max_bytes, ReadMode::Cached).unwrap() else {
            panic!("everything is cached");
        };
        prop_assert!(values(bytes).iter().any(|(offset, _)| *offset == start), "the batch that holds the offset comes first");
        let found = log.reader().find_timestamp(Timestamp::from_millis(i64::try_from(start).unwrap()), end).unwrap();
        prop_assert_eq!(found.map(|(offset, _)| offset.get()), Some(start));
    }
}

fn filled(disk: &Faulty, syncs: u64) -> PartitionLog {
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let (mut log, _) = open(&io).unwrap();
    for _ in 0..syncs {
        let base = log.log_end();
        log.append(&[batch(base, 2, 50)]).unwrap();
        log.sync().unwrap();
    }
    log
}

fn segment_path(base: u64) -> PathBuf {
    Path::new(ROOT).join("t-0").join(crate::segment::file_name(Offset::new(base).unwrap(), "log"))
}

/// A promise: damage in the middle of a log is refused with path and position; nothing is cut.
#[test]
fn a_corrupt_middle_is_refused() {
    let disk = Faulty::new();
    let log = filled(&disk, 10);
    let segments = log.shared.segments.load().len();
    assert!(segments > 2, "{segments} segments");
    drop(log);
    let disk = disk.after_crash(Crash::KeepAll);
    disk.flip_bit(&segment_path(0), 300, 3).unwrap();
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    assert_eq!(open(&io).unwrap().1.scanned_bytes, 175, "the last segment: the others are vouched for");
    let findings = crate::inspect::verify(io.as_ref(), &Path::new(ROOT).join("t-0")).unwrap().findings;
    assert!(findings.iter().any(|finding| finding.path == segment_path(0) && finding.reason.contains("CRC")), "{findings:?}");
    disk.remove_file(&Path::new(ROOT).join("t-0").join(crate::vouched::FILE)).unwrap();
    let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::KeepAll));
    match open(&io) {
        Err(Error::Corrupt { path, position, reason }) => {
            assert_eq!(path, segment_path(0));
            assert!(position > 0 && position <= 300 && reason.contains("CRC"), "{position}: {reason}");
        }
        other => panic!("{other:?}"),
    }
}

/// A promise: below the recovery point nothing counts as a torn tail, not even in the last segment.
#[test]
fn damage_below_the_recovery_point_is_refused() {
    let disk = Faulty::new();
    let log = filled(&disk, 1);
    let end = log.close().unwrap();
    let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::KeepAll));
    store(&io).unwrap().write_recovery_points(&BTreeMap::from([(tp(), end)])).unwrap();
    open(&io).unwrap();
    let disk = disk.after_crash(Crash::KeepAll);
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    store(&io).unwrap().write_recovery_points(&BTreeMap::from([(tp(), end)])).unwrap();
    disk.remove_file(&Path::new(ROOT).join("t-0").join(crate::vouched::FILE)).unwrap();
    disk.flip_bit(&segment_path(0), 70, 0).unwrap();
    assert!(matches!(open(&io), Err(Error::Corrupt { position: 0, .. })));
}

/// Opens as a topic does whose every write is synced before the next.
fn open_fsync(disk: &Faulty) -> Result<(PartitionLog, RecoveryReport), Error> {
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    store(&io)?.open_log(&tp(), TopicId::new(Uuid::nil()), &TopicConfig::default())
}

/// A log with ten writes, each synced, that has no recovery point yet.
fn ten_synced_writes() -> Faulty {
    let disk = Faulty::new();
    let (mut log, _) = open_fsync(&disk).unwrap();
    for _ in 0..10 {
        log.append(&[batch(log.log_end(), 2, 500)]).unwrap();
        log.sync().unwrap();
    }
    disk.after_crash(Crash::Kill)
}

/// A promise: a flipped bit in acknowledged batches of the last segment is refused, wherever it is, also without any recovery point; in the
/// very last batch it may pass for a torn write.
#[test]
fn rot_in_the_last_segment_is_refused() {
    let whole = ten_synced_writes();
    let bytes = open_fsync(&whole).unwrap().0.reader().size_bytes();
    for byte in (0..bytes * 9 / 10).step_by(7) {
        let disk = whole.after_crash(Crash::KeepAll);
        disk.flip_bit(&segment_path(0), byte, 5).unwrap();
        // Bytes 12 to 15 of a batch are the leader's epoch, which no CRC covers.
        let in_epoch = (12..16).contains(&(byte % (bytes / 10)));
        let opened = open_fsync(&disk);
        assert!(in_epoch || matches!(opened, Err(Error::Corrupt { .. })), "byte {byte} of {bytes}: {opened:?}");
    }
}

/// A promise: a torn write of several batches is cut, whatever part of it arrived, although good batches may follow the hole.
#[test]
fn a_torn_write_of_several_batches_is_cut() {
    for seed in 0..300 {
        let disk = Faulty::new();
        let (mut log, _) = open_fsync(&disk).unwrap();
        log.append(&[batch(Offset::ZERO, 2, 50)]).unwrap();
        log.sync().unwrap();
        let group: Vec<_> = (0..4).map(|i| batch(Offset::new(2 + i).unwrap(), 1, 3_000)).collect();
        log.append(&group).unwrap();
        let (log, _) = open_fsync(&disk.after_crash(Crash::Random(seed))).unwrap();
        assert_prefix(&log, Offset::new(2).unwrap(), Offset::new(6).unwrap());
    }
}

/// A promise: so it is wherever in a disk's block the write begins, also if what is missing of it ends within zeros that belong there.
#[test]
fn a_torn_write_is_cut_wherever_it_begins() {
    let begun_anywhere = (350..512).map(|padding| (padding, 200));
    let ended_anywhere = (10..60).map(|first| (350, first));
    for (padding, first) in begun_anywhere.chain(ended_anywhere) {
        let disk = Faulty::new();
        let (mut log, _) = open_fsync(&disk).unwrap();
        log.append(&[batch(Offset::ZERO, 1, padding)]).unwrap();
        log.sync().unwrap();
        let begin = log.reader().size_bytes();
        let disk = disk.after_crash(Crash::Kill);
        let (mut log, _) = open_fsync(&disk).unwrap();
        let group: Vec<_> = (1..5).map(|i| batch(Offset::new(i).unwrap(), 1, if i == 1 { first } else { 200 })).collect();
        log.append(&group).unwrap();
        // Of the block in which it begins, nothing of it has arrived.
        let lost = vec![0; usize::try_from(512 - begin % 512).unwrap()];
        disk.open(&segment_path(0)).unwrap().write_all_at(&[&lost], begin).unwrap();
        drop(log);
        let (log, report) = open_fsync(&disk).unwrap_or_else(|error| panic!("begun at {begin}: {error}"));
        assert_prefix(&log, Offset::new(1).unwrap(), Offset::new(5).unwrap());
        assert!(report.cut_bytes > 0 || lost.len() <= 7, "begun at {begin}");
    }
}

/// A promise: what a full disk refused is not there after any crash, also if it cannot be taken back: then it is not called refused.
#[test]
fn what_is_refused_is_never_found() {
    let mut poisoned = 0;
    for (seed, fails) in (0..200).flat_map(|seed| [(seed, false), (seed, true)]) {
        let disk = Faulty::new();
        let mut log = filled(&disk, 1);
        let failures = if fails {
            let on = [Operation::SetLength, Operation::Sync][usize::try_from(seed % 2).unwrap()];
            vec![Failure { on: Some(on), skip: 0, times: u64::MAX, kind: std::io::ErrorKind::Other }]
        } else {
            Vec::new()
        };
        disk.set_plan(FaultPlan { capacity: Some(disk.used() + 250), failures, ..FaultPlan::default() });
        let end = log.log_end();
        let group: Vec<_> = (0..3).map(|i| batch(end.checked_add(i).unwrap(), 1, 50)).collect();
        let refused = log.append(&group).unwrap_err().code() == ErrorCode::StorageFull;
        assert_eq!(refused, !fails);
        poisoned += u64::from(!refused);
        drop(log);
        let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::Random(seed)));
        let (log, _) = open(&io).unwrap();
        assert!(!refused || log.log_end() == end, "seed {seed}");
    }
    assert_eq!(poisoned, 200);
}

/// A promise: a log that ends before its recovery point has lost what was acknowledged, and is refused: cut short, emptied or gone.
#[test]
fn a_log_that_lost_its_end_is_refused() {
    let whole = ten_synced_writes();
    let points = |disk: &Faulty| {
        let io: Arc<dyn Io> = Arc::new(disk.clone());
        store(&io).unwrap().write_recovery_points(&BTreeMap::from([(tp(), Offset::new(20).unwrap())])).unwrap();
    };
    points(&whole);
    open_fsync(&whole).unwrap();
    let directory = Path::new(ROOT).join("t-0");
    let cut = whole.after_crash(Crash::KeepAll);
    let file = cut.open(&segment_path(0)).unwrap();
    file.set_len(file.len().unwrap() / 2).unwrap();
    let emptied = whole.after_crash(Crash::KeepAll);
    emptied.remove_file(&segment_path(0)).unwrap();
    let gone = whole.after_crash(Crash::KeepAll);
    gone.remove_dir_all(&directory).unwrap();
    let unnamed = whole.after_crash(Crash::KeepAll);
    unnamed.remove_file(&directory.join("partition.metadata")).unwrap();
    for (what, disk) in [("cut", cut), ("emptied", emptied), ("gone", gone), ("unnamed", unnamed)] {
        assert!(matches!(open_fsync(&disk), Err(Error::Corrupt { .. })), "{what}");
    }
    let io: Arc<dyn Io> = Arc::new(whole.after_crash(Crash::KeepAll));
    let store = store(&io).unwrap();
    store.forget(&[tp()]).unwrap();
    store.remove_log(&tp()).unwrap();
    store.open_log(&tp(), TopicId::new(Uuid::max()), &config()).unwrap();
}

/// A promise: a disk that is full when a segment rolls, at whichever step, refuses the append, and the log goes on when there is room.
#[test]
fn a_full_disk_at_a_roll_refuses_and_goes_on() {
    let mut refused = 0;
    for step in 0..30 {
        let disk = Faulty::new();
        let mut log = filled(&disk, 2);
        let segments = log.shared.segments.load().len();
        disk.set_plan(FaultPlan { fail_at: Some((disk.steps() + step, std::io::ErrorKind::StorageFull)), ..FaultPlan::default() });
        refused += usize::from(log.append(&[batch(log.log_end(), 1, 550)]).is_err());
        disk.set_plan(FaultPlan::default());
        log.append(&[batch(log.log_end(), 1, 550)]).unwrap();
        log.sync().unwrap();
        assert!(log.shared.segments.load().len() > segments, "it rolled");
        assert_prefix(&log, log.log_end(), log.log_end());
        drop(log);
        let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::LoseAll));
        assert_eq!(open(&io).unwrap().1.cut_bytes, 0);
    }
    assert!(refused >= 2, "the new segment and the write itself were refused: {refused}");
}

/// A promise: after a failed sync the log takes no more writes, and says why; a second sync that would succeed is not believed.
#[test]
fn a_failed_sync_poisons_the_log() {
    let disk = Faulty::new();
    let mut log = filled(&disk, 1);
    let base = log.log_end();
    disk.set_plan(FaultPlan { fail_at: Some((disk.steps() + 1, std::io::ErrorKind::Other)), ..FaultPlan::default() });
    log.append(&[batch(base, 1, 1)]).unwrap();
    assert!(matches!(log.sync(), Err(Error::Io { action: "sync", .. })));
    assert_eq!(log.synced_end(), base);
    assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
    assert!(matches!(log.append(&[batch(log.log_end(), 1, 1)]), Err(Error::Poisoned { .. })));
}

/// A promise: a file is prepared ahead of small writes that are synced one by one, by no more than it holds already and never beyond a segment;
/// what is rolled, closed or opened again ends with its last batch.
#[test]
fn prepared_room_is_taken_back() {
    for (begin, end, prepared, segment_bytes, to) in [
        (0, 100, 0, 1 << 30, 100),
        (100, 200, 0, 1 << 30, 300),
        (200, 250, 300, 1 << 30, 250),
        (200, 301, 300, 1 << 30, 501),
        (1 << 20, (1 << 20) + 9, 0, 1 << 30, (1 << 20) + 9 + (256 << 10)),
        (1 << 20, (1 << 20) + (128 << 10) + 1, 0, 1 << 30, (1 << 20) + (128 << 10) + 1),
        (500, 550, 0, 600, 600),
        (500, 700, 0, 600, 700),
    ] {
        assert_eq!(crate::segment::prepare_to(begin, end, prepared, segment_bytes), to, "{begin} to {end}");
    }
    let disk = Faulty::new();
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let (mut log, _) = open_as(&io, &synced()).unwrap();
    let length = |base| disk.open(&segment_path(base)).unwrap().len().unwrap();
    let mut ahead = 0;
    while log.shared.segments.load().len() < 3 {
        log.append(&[batch(log.log_end(), 1, 30)]).unwrap();
        log.sync().unwrap();
        let segments = log.shared.segments.load();
        let (active, sealed) = segments.split_last().unwrap();
        ahead += u64::from(length(active.base.get()) > active.bytes());
        assert!(length(active.base.get()) <= 600);
        assert!(sealed.iter().all(|segment| length(segment.base.get()) == segment.bytes()), "what is rolled is cut");
    }
    assert!(ahead > 2, "{ahead}");
    let (base, bytes, end) = (log.shared.segments.load()[2].base.get(), log.reader().size_bytes(), log.log_end());
    log.append(&[batch(end, 1, 30)]).unwrap();
    log.sync().unwrap();
    drop(log);
    let disk = disk.after_crash(Crash::Kill);
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let length = || disk.open(&segment_path(base)).unwrap().len().unwrap();
    assert!(length() > 196, "two batches of 98 bytes, and room");
    assert_eq!(crate::inspect::verify(io.as_ref(), &Path::new(ROOT).join("t-0")).unwrap().findings, []);
    let (mut log, report) = open_as(&io, &synced()).unwrap();
    assert_eq!((report.cut_bytes, log.log_end(), log.reader().size_bytes(), length()), (0, end.next(), bytes + 98, 196));
    log.append(&[batch(log.log_end(), 1, 30)]).unwrap();
    assert!(length() > 294);
    log.close().unwrap();
    assert_eq!(length(), 294);
}

/// A promise: where the disk has room for the batches, but not for more, they are written.
#[test]
fn a_nearly_full_disk_is_not_prepared() {
    let disk = Faulty::new();
    let (mut log, _) = open_fsync(&disk).unwrap();
    log.append(&[batch(Offset::ZERO, 1, 3_000)]).unwrap();
    log.sync().unwrap();
    let next = batch(log.log_end(), 1, 1_000);
    disk.set_plan(FaultPlan { capacity: Some(disk.used() + next.len() as u64 + 10), ..FaultPlan::default() });
    log.append(&[next]).unwrap();
    log.sync().unwrap();
    assert!(log.append(&[batch(log.log_end(), 1, 1_000)]).is_err());
    disk.set_plan(FaultPlan::default());
    log.append(&[batch(log.log_end(), 1, 1_000)]).unwrap();
    log.sync().unwrap();
    assert_prefix(&log, log.log_end(), log.log_end());
}

/// A promise: a full disk refuses the append whole, and takes the next one when there is room again.
#[test]
fn a_full_disk_refuses_and_goes_on() {
    let disk = Faulty::new();
    let mut log = filled(&disk, 1);
    let base = log.log_end();
    let used: u64 = log.reader().size_bytes();
    disk.set_plan(FaultPlan { capacity: Some(used + 200), ..FaultPlan::default() });
    let error = log.append(&[batch(base, 1, 300)]).unwrap_err();
    assert_eq!(error.code(), tidegate_types::ErrorCode::StorageFull, "{error}");
    assert_eq!(log.log_end(), base);
    disk.set_plan(FaultPlan::default());
    log.append(&[batch(base, 1, 300)]).unwrap();
    log.sync().unwrap();
    assert_prefix(&log, log.log_end(), log.log_end());
    drop(log);
    let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::LoseAll));
    assert_eq!(open(&io).unwrap().1.cut_bytes, 0);
}

/// A promise: segments roll before they pass their size, their indexes hold what Kafka's hold, and the names are Kafka's.
#[test]
fn segments_roll_by_size_with_their_indexes() {
    let directory = tempfile::tempdir().unwrap();
    let io: Arc<dyn Io> = Arc::new(RealIo);
    let store = Store::open(io, directory.path(), NodeId::new(1), Uuid::nil()).unwrap();
    let (mut log, _) = store.open_log(&tp(), TopicId::new(Uuid::nil()), &config()).unwrap();
    for _ in 0..20 {
        log.append(&[batch(log.log_end(), 1, 60)]).unwrap();
    }
    log.sync().unwrap();
    let mut names: Vec<_> = std::fs::read_dir(log.directory()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    // 132 bytes a batch: four fit in 600.
    assert_eq!(
        &names[..4],
        ["00000000000000000000.index", "00000000000000000000.log", "00000000000000000000.timeindex", "00000000000000000004.index"]
    );
    let first = std::fs::read(log.directory().join("00000000000000000000.log")).unwrap();
    let index = std::fs::read(log.directory().join("00000000000000000000.index")).unwrap();
    assert!(first.len() <= 600 && first.len().is_multiple_of(4), "{}", first.len());
    let size = u32::try_from(first.len() / 4).unwrap();
    // The interval of 100 bytes has gone by before the second batch and each one after it.
    let entries = [[1, size], [2, 2 * size], [3, 3 * size]].as_flattened().iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<_>>();
    assert_eq!(index, entries);
    assert_prefix(&log, log.log_end(), log.log_end());
    drop(log);
    let (log, report) = store.open_log(&tp(), TopicId::new(Uuid::nil()), &config()).unwrap();
    assert_eq!((report.segments, report.cut_bytes), (5, 0));
    assert_prefix(&log, Offset::new(20).unwrap(), Offset::new(20).unwrap());
}
