//! Trims: what is given up stays given up, what is not stays, wherever the plug is pulled.

use std::collections::BTreeSet;

use super::*;
use crate::inspect;

mod crash;

fn offset(n: u64) -> Offset {
    Offset::new(n).unwrap()
}

/// A batch whose records have these timestamps; values say their offsets.
fn batch_at(base: Offset, timestamps: &[i64]) -> SequencedBatch {
    let mut set = RecordSetBuilder::with_capacity(&LIMITS, 0, 0);
    for (i, millis) in timestamps.iter().enumerate() {
        let value = format!("{:040}", base.get() + i as u64);
        set.push(Timestamp::from_millis(*millis), Encoding::Text, None, Some(value.as_bytes()), [].into_iter()).unwrap();
    }
    let mut builder = BatchBuilder::with_capacity(0);
    builder.push(&set.finish());
    builder.finish().sequence(base, LeaderEpoch::ZERO).unwrap()
}

/// What a reader gets that begins at the log's start and goes by it: offsets with their values.
fn kept(log: &PartitionLog) -> Vec<(u64, u64)> {
    let mut all = read_all(log, log.log_end(), 300);
    all.retain(|(offset, _)| *offset >= log.log_start().get());
    all
}

fn assert_kept(log: &PartitionLog) {
    let expected: Vec<_> = (log.log_start().get()..log.log_end().get()).map(|n| (n, n)).collect();
    assert_eq!(kept(log), expected);
}

/// The base offsets of all files in the log's directory that have one.
fn bases_on_disk(io: &dyn Io) -> BTreeSet<u64> {
    let entries = io.list(&Path::new(ROOT).join("t-0")).unwrap();
    let of_segments = entries.iter().filter(|entry| !entry.name.ends_with(".idempotency"));
    of_segments.filter_map(|entry| entry.name.split_once('.')?.0.parse().ok()).collect()
}

fn first_segment(log: &PartitionLog) -> u64 {
    log.shared.segments.load()[0].base.get()
}

/// A promise: what lies before the start is gone for every kind of reader at once, also within a batch; what lies after it is not.
#[test]
fn what_is_given_up_is_gone_for_every_reader() {
    let disk = Faulty::new();
    let mut log = filled(&disk, 10);
    let (reader, bytes) = (log.reader(), log.reader().size_bytes());
    // Two records a batch, three batches a segment: 13 is the second record of the third segment.
    log.trim_to(offset(13)).unwrap().remove().unwrap();
    assert_eq!((log.log_start(), reader.log_start(), first_segment(&log)), (offset(13), offset(13), 12));
    for mode in [ReadMode::Cached, ReadMode::Blocking] {
        for gone in 0..13 {
            assert!(matches!(reader.read(offset(gone), log.log_end(), 1000, mode).unwrap(), ReadOutcome::Trimmed), "{gone}");
        }
        let ReadOutcome::Batches { bytes, .. } = reader.read(offset(13), log.log_end(), 1, mode).unwrap() else { panic!("it is there") };
        assert_eq!(values(bytes), [(12, 12), (13, 13)]);
    }
    assert_kept(&log);
    assert!(reader.size_bytes() < bytes);
    assert_eq!(reader.find_timestamp(Timestamp::from_millis(0), log.log_end()).unwrap().unwrap().0, offset(13));
    assert_eq!(bases_on_disk(&disk).first(), Some(&first_segment(&log)));

    // All of it: the active segment stays, and takes records at the same offsets as before.
    let end = log.log_end();
    log.trim_to(end).unwrap().remove().unwrap();
    assert_eq!((log.log_start(), log.shared.segments.load().len()), (end, 1));
    assert!(reader.find_timestamp(Timestamp::from_millis(0), end).unwrap().is_none());
    assert!(reader.find_max_timestamp(end).unwrap().is_none());
    log.append(&[batch(end, 3, 50)]).unwrap();
    log.sync().unwrap();
    assert_kept(&log);
    assert_eq!(kept(&log).len(), 3);
}

/// A promise: a start never goes back, and a trim that changes nothing does nothing to the disk.
#[test]
fn a_start_never_goes_back() {
    let disk = Faulty::new();
    let mut log = filled(&disk, 10);
    log.trim_to(offset(11)).unwrap().remove().unwrap();
    let steps = disk.steps();
    for before in [0, 3, 10, 11] {
        assert!(log.trim_to(offset(before)).unwrap().is_empty());
        assert_eq!(log.log_start(), offset(11));
    }
    assert_eq!(disk.steps(), steps);
}

/// A step of a log beside its model: records by their timestamps, or a trim, or another start.
#[derive(Debug, Clone)]
enum Turn {
    Append(Vec<i64>),
    Trim(prop::sample::Index),
    Reopen,
}

fn any_turns() -> impl Strategy<Value = Vec<Turn>> {
    let append = proptest::collection::vec(0_i64..50, 1..6).prop_map(Turn::Append);
    let trim = any::<prop::sample::Index>().prop_map(Turn::Trim);
    proptest::collection::vec(prop_oneof![5 => append, 2 => trim, 1 => Just(Turn::Reopen)], 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A promise: a log that is trimmed is a list whose first elements are gone: for reads, for times, for whoever looks into the files.
    #[test]
    fn a_trimmed_log_is_a_shorter_list(turns in any_turns(), asked in 0_i64..60) {
        let disk = Faulty::new();
        let io: Arc<dyn Io> = Arc::new(disk.clone());
        let (mut log, _) = open(&io).unwrap();
        let (mut model, mut start) = (Vec::<i64>::new(), 0_usize);
        for turn in turns {
            match turn {
                Turn::Append(timestamps) => {
                    log.append(&[batch_at(log.log_end(), &timestamps)]).unwrap();
                    model.extend(timestamps);
                }
                Turn::Trim(at) => {
                    let to = at.index(model.len() + 1);
                    start = start.max(to);
                    log.trim_to(offset(to as u64)).unwrap().remove().unwrap();
                }
                Turn::Reopen => {
                    log.sync().unwrap();
                    log = open(&io).unwrap().0;
                }
            }
            let (reader, end) = (log.reader(), log.log_end());
            prop_assert_eq!((log.log_start().get(), end.get()), (start as u64, model.len() as u64));
            assert_kept(&log);
            let kept: Vec<_> = (start..model.len()).map(|n| (n as u64, model[n])).collect();
            let plain = |found: Option<(Offset, Timestamp)>| found.map(|(offset, timestamp)| (offset.get(), timestamp.millis()));
            let found = plain(reader.find_timestamp(Timestamp::from_millis(asked), end).unwrap());
            prop_assert_eq!(found, kept.iter().copied().find(|(_, timestamp)| *timestamp >= asked));
            let largest = kept.iter().map(|(_, timestamp)| *timestamp).max();
            prop_assert_eq!(plain(reader.find_max_timestamp(end).unwrap()), kept.iter().copied().find(|(_, timestamp)| Some(*timestamp) == largest));
            let summary = inspect::verify(io.as_ref(), &Path::new(ROOT).join("t-0")).unwrap();
            prop_assert_eq!((summary.findings, summary.records), (vec![], kept.len() as u64));
        }
    }
}

/// A promise: who looks into the files of a node that had no time to remove some sees the log, not what is left of it.
#[test]
fn leftovers_are_no_damage() {
    let disk = Faulty::new();
    let mut log = filled(&disk, 10);
    let files = bases_on_disk(&disk);
    // Never removed, all but the second: what is left has a gap.
    drop(log.trim_to(offset(13)).unwrap());
    assert_eq!(bases_on_disk(&disk), files);
    let second = files.iter().nth(1).unwrap();
    disk.remove_file(&segment_path(*second)).unwrap();
    let directory = Path::new(ROOT).join("t-0");
    let first_kept = inspect::segments(&disk, &directory).unwrap()[0].0;
    assert_eq!(first_kept.get(), first_segment(&log));
    let summary = inspect::verify(&disk, &directory).unwrap();
    assert_eq!((summary.findings, summary.records), (vec![], 7));
    drop(log);
    let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::KeepAll));
    let (log, _) = open(&io).unwrap();
    assert_eq!(log.log_start(), offset(13));
    assert_kept(&log);
    assert_eq!(bases_on_disk(io.as_ref()).first(), Some(&first_kept.get()), "the start has removed them");
}

/// A promise: a full disk refuses a trim and changes nothing; the log goes on, and so does the trim when there is room.
#[test]
fn a_full_disk_refuses_a_trim() {
    let mut refused = 0;
    for step in 0..6 {
        let disk = Faulty::new();
        let mut log = filled(&disk, 5);
        disk.set_plan(FaultPlan { fail_at: Some((disk.steps() + step, std::io::ErrorKind::StorageFull)), ..FaultPlan::default() });
        match log.trim_to(offset(6)) {
            Ok(trimmed) => drop(trimmed),
            Err(error) => {
                assert_eq!((error.code(), log.log_start()), (ErrorCode::StorageFull, Offset::ZERO));
                refused += 1;
            }
        }
        disk.set_plan(FaultPlan::default());
        assert_kept(&log);
        log.append(&[batch(log.log_end(), 1, 10)]).unwrap();
        log.sync().unwrap();
        log.trim_to(offset(7)).unwrap().remove().unwrap();
        let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::LoseAll));
        assert_eq!(open(&io).unwrap().0.log_start(), offset(7));
    }
    assert!(refused >= 4, "the file, its bytes, its sync, its name: {refused}");
}

/// A promise: a note that could not be written poisons the log: no reader sees a start that may be forgotten, and nothing more is promised.
#[test]
fn a_failed_note_poisons_the_log() {
    let disk = Faulty::new();
    let mut log = filled(&disk, 5);
    disk.set_plan(FaultPlan { fail_at: Some((disk.steps() + 2, std::io::ErrorKind::Other)), ..FaultPlan::default() });
    assert!(matches!(log.trim_to(offset(6)), Err(Error::Io { .. })));
    assert_eq!(log.reader().log_start(), Offset::ZERO);
    assert!(matches!(log.trim_to(offset(6)), Err(Error::Poisoned { .. })));
    assert!(matches!(log.append(&[batch(log.log_end(), 1, 1)]), Err(Error::Poisoned { .. })));
    assert_kept(&log);
}

/// A promise: files that end before what was trimmed have lost something, and are refused; so is a file of log starts that is none.
#[test]
fn a_log_that_ends_before_its_start_is_refused() {
    let disk = Faulty::new();
    let mut log = filled(&disk, 5);
    log.trim_to(log.log_end()).unwrap().remove().unwrap();
    let last = log.shared.segments.load()[0].path.clone();
    drop(log);
    let cut = disk.after_crash(Crash::KeepAll);
    cut.open(&last).unwrap().set_len(0).unwrap();
    let gone = disk.after_crash(Crash::KeepAll);
    gone.remove_file(&last).unwrap();
    for (what, disk) in [("cut", cut), ("gone", gone)] {
        let io: Arc<dyn Io> = Arc::new(disk);
        assert!(matches!(open(&io), Err(Error::Corrupt { .. })), "{what}");
    }
    let note = Path::new(ROOT).join("log-start-offset-checkpoint");
    let garbage = disk.after_crash(Crash::KeepAll);
    crate::io::write_atomically(&garbage, &note, b"0\n1\nt 0 ten\n").unwrap();
    let io: Arc<dyn Io> = Arc::new(garbage);
    match store(&io) {
        Err(Error::Corrupt { path, .. }) => assert_eq!(path, note),
        other => panic!("{other:?}"),
    }
    // Without the file nothing is known of trims: the log begins where its first segment does.
    let without = disk.after_crash(Crash::KeepAll);
    without.remove_file(&note).unwrap();
    let io: Arc<dyn Io> = Arc::new(without);
    let (log, _) = open(&io).unwrap();
    assert_eq!(log.log_start().get(), first_segment(&log));
}

/// A promise: a topic that is deleted and made again under the same name begins at 0, whatever was trimmed of the one before.
#[test]
fn a_topic_of_the_same_name_begins_at_its_beginning() {
    for forgotten_first in [true, false] {
        let disk = Faulty::new();
        let mut log = filled(&disk, 5);
        log.trim_to(offset(7)).unwrap().remove().unwrap();
        drop(log);
        let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::KeepAll));
        let store = store(&io).unwrap();
        if forgotten_first {
            store.forget(&[tp()]).unwrap();
            store.remove_log(&tp()).unwrap();
        }
        let (log, _) = store.open_log(&tp(), TopicId::new(Uuid::max()), &config()).unwrap();
        assert_eq!((log.log_start(), log.log_end()), (Offset::ZERO, Offset::ZERO));
    }
}

/// A promise: who reads while segments are trimmed and removed under it gets what it asked for, or is told that it is gone; never an error,
/// and never something else in silence.
#[test]
fn readers_finish_or_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(Arc::new(RealIo), directory.path(), NodeId::new(1), Uuid::nil()).unwrap();
    let (mut log, _) = store.open_log(&tp(), TopicId::new(Uuid::nil()), &config()).unwrap();
    log.append(&[batch(log.log_end(), 2, 50)]).unwrap();
    let (reader, done) = (log.reader(), std::sync::atomic::AtomicBool::new(false));
    let (mut told, mut finished) = (0, 0);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                // Far enough back to be overtaken.
                let start = reader.log_start();
                match reader.read(start, Offset::MAX, 500, ReadMode::Blocking).unwrap() {
                    ReadOutcome::Batches { bytes, .. } => {
                        let values = values(bytes);
                        assert!(values.iter().all(|(offset, value)| offset == value));
                        assert!(
                            values.is_empty() || values.iter().any(|(offset, _)| *offset == start.get()),
                            "begins at {start}: {values:?}"
                        );
                        finished += 1;
                    }
                    ReadOutcome::Trimmed => told += 1,
                    ReadOutcome::WouldBlock => unreachable!("a blocking read waits"),
                }
                reader.find_max_timestamp(Offset::MAX).unwrap();
            }
        });
        for _ in 0..150 {
            log.append(&[batch(log.log_end(), 2, 50)]).unwrap();
            log.trim_to(log.log_end().saturating_sub(3)).unwrap().remove().unwrap();
        }
        done.store(true, Ordering::Release);
        reading.join().unwrap();
    });
    assert!(finished > 0, "{finished} reads finished, {told} were told");
    assert_kept(&log);
}
