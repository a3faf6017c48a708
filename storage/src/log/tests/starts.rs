//! Starting again: what is believed, what is read, and what becomes of damage in each kind of file.

use super::*;
use crate::vouched;

fn directory() -> PathBuf {
    Path::new(ROOT).join("t-0")
}

/// A log of some segments, closed, with a little more written behind if `more`, and the plug pulled.
fn stopped(more: bool) -> Faulty {
    let disk = Faulty::new();
    let log = filled(&disk, 12);
    assert!(log.shared.segments.load().len() > 3);
    let end = log.close().unwrap();
    let disk = disk.after_crash(Crash::LoseAll);
    if more {
        let io: Arc<dyn Io> = Arc::new(disk.clone());
        let (mut log, _) = open(&io).unwrap();
        log.append(&[batch(end, 2, 50)]).unwrap();
        log.sync().unwrap();
    }
    disk.after_crash(Crash::LoseAll)
}

/// A promise: after a clean stop nothing of a log's data is read, after a kill only what came since; and all of it is there.
#[test]
fn a_start_reads_only_what_is_new() {
    for (more, scanned) in [(false, 0), (true, batch(Offset::ZERO, 2, 50).len() as u64)] {
        let disk = stopped(more);
        let io: Arc<dyn Io> = Arc::new(disk);
        let (log, report) = open(&io).unwrap();
        let end = Offset::new(if more { 26 } else { 24 }).unwrap();
        assert_eq!((report.scanned_bytes, report.cut_bytes, report.log_end), (scanned, 0, end));
        assert_prefix(&log, end, end);
        let found = log.reader().find_timestamp(Timestamp::from_millis(9), end).unwrap();
        assert_eq!(found.map(|(offset, _)| offset.get()), Some(9));
    }
}

/// A promise: a file that is shorter than what was synced is refused, whichever segment it is.
#[test]
fn a_shorter_file_is_refused() {
    let whole = stopped(false);
    let names: Vec<_> = whole.list(&directory()).unwrap().into_iter().filter(|entry| entry.name.ends_with(".log")).collect();
    assert!(names.len() > 3);
    for name in names {
        let disk = whole.after_crash(Crash::KeepAll);
        let file = disk.open(&directory().join(&name.name)).unwrap();
        file.set_len(file.len().unwrap() - 1).unwrap();
        let io: Arc<dyn Io> = Arc::new(disk);
        let opened = open(&io);
        assert!(matches!(opened, Err(Error::Corrupt { .. })), "{}: {opened:?}", name.name);
    }
}

/// A promise: lost indexes, and a lost or damaged checkpoint of segments, cost time once and nothing else.
#[test]
fn lost_indexes_are_made_again() {
    let whole = stopped(true);
    let end = Offset::new(26).unwrap();
    let all: Vec<String> = whole.list(&directory()).unwrap().into_iter().map(|entry| entry.name).collect();
    let indexes: Vec<&String> = all.iter().filter(|name| name.ends_with("index")).collect();
    assert!(indexes.len() > 6);
    for lost in [indexes.clone(), vec![indexes[0]], vec![indexes[1]], vec![&vouched::FILE.to_owned()]] {
        let mut disk = whole.after_crash(Crash::KeepAll);
        lost.iter().for_each(|name| disk.remove_file(&directory().join(name)).unwrap());
        for is_first in [true, false] {
            disk = disk.after_crash(Crash::KeepAll);
            let io: Arc<dyn Io> = Arc::new(disk.clone());
            let (log, report) = open(&io).unwrap();
            let active = log.shared.segments.load().last().unwrap().bytes();
            assert!(is_first || report.scanned_bytes <= active, "without {lost:?}: {report:?}");
            assert_prefix(&log, end, end);
            for wanted in 0..26 {
                let found = log.reader().find_timestamp(Timestamp::from_millis(wanted), end).unwrap();
                assert_eq!(found.map(|(offset, _)| offset.get() as i64), Some(wanted), "without {lost:?}");
            }
        }
    }
}

/// A promise: who led a log is known from its batches if the note of it is damaged.
#[test]
fn leaders_are_read_from_the_log() {
    let disk = Faulty::new();
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let (mut log, _) = open(&io).unwrap();
    for epoch in [2, 2, 5, 5, 5, 9, 9, 9, 9] {
        log.begin_epoch(LeaderEpoch::new(epoch)).unwrap();
        let group = batch_by(LeaderEpoch::new(epoch), log.log_end(), 2, 100);
        log.append(&[group]).unwrap();
    }
    log.close().unwrap();
    let disk = disk.after_crash(Crash::KeepAll);
    let file = directory().join("leader-epoch-checkpoint");
    let text = |disk: &Faulty| crate::io::read_small(disk, &file).unwrap().map(|bytes| String::from_utf8(bytes).unwrap());
    let noted = text(&disk);
    assert_eq!(noted.as_deref(), Some("0\n3\n2 0\n5 4\n9 10\n"));
    disk.flip_bit(&file, 0, 3).unwrap();
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    open(&io).unwrap();
    assert_eq!(text(&disk), noted);
}

/// A promise: a leader is noted before it writes, once, and is known after a crash; a trim keeps who wrote the first record.
#[test]
fn leaders_are_noted() {
    let disk = Faulty::new();
    let mut log = filled(&disk, 4);
    let file = directory().join("leader-epoch-checkpoint");
    let text = |disk: &Faulty| crate::io::read_small(disk, &file).unwrap().map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(text(&disk), None);
    log.begin_epoch(LeaderEpoch::new(3)).unwrap();
    let steps = disk.steps();
    log.begin_epoch(LeaderEpoch::new(3)).unwrap();
    assert_eq!(disk.steps(), steps, "it is known");
    log.append(&[batch(log.log_end(), 2, 50)]).unwrap();
    log.sync().unwrap();
    let disk = disk.after_crash(Crash::LoseAll);
    assert_eq!(text(&disk).unwrap(), "0\n1\n3 8\n");
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let (mut log, _) = open(&io).unwrap();
    log.begin_epoch(LeaderEpoch::new(5)).unwrap();
    drop(log.trim_to(Offset::new(9).unwrap()).unwrap());
    assert_eq!(text(&disk).unwrap(), "0\n2\n3 9\n5 10\n");
}

/// A promise: a roll that a full disk stopped after it had made its file harms nothing, also if the log goes on past that file's name and is trimmed
/// beyond it.
#[test]
fn a_false_start_harms_nothing() {
    for (step, trim) in (0..25).flat_map(|step| [(step, None), (step, Some(5))]) {
        for crash in [Crash::KeepAll, Crash::Kill] {
            let disk = Faulty::new();
            let mut log = filled(&disk, 2);
            disk.set_plan(FaultPlan { fail_at: Some((disk.steps() + step, std::io::ErrorKind::StorageFull)), ..FaultPlan::default() });
            let refused = log.append(&[batch(log.log_end(), 1, 550)]).is_err();
            disk.set_plan(FaultPlan::default());
            log.append(&[batch(log.log_end(), 2, 5)]).unwrap();
            log.sync().unwrap();
            if let Some(start) = trim {
                log.trim_to(Offset::new(start).unwrap()).unwrap().remove().unwrap();
            }
            let (end, start) = (log.log_end(), log.log_start());
            assert!(refused || end.get() == 7);
            drop(log);
            let io: Arc<dyn Io> = Arc::new(disk.after_crash(crash));
            let (log, _) = open(&io).unwrap();
            assert_eq!((log.log_start(), log.log_end()), (start, end), "step {step}, {crash:?}, trimmed {trim:?}");
            let ReadOutcome::Batches { bytes, .. } = log.reader().read(start, end, 1, ReadMode::Blocking).unwrap() else { panic!() };
            assert!(values(bytes).iter().any(|(offset, _)| *offset == start.get()));
        }
    }
}

/// A promise: segments that are vouched for and gone are missed, at either end, unless they were given up.
#[test]
fn lost_segments_are_missed() {
    let whole = stopped(false);
    let bases: Vec<_> = whole.list(&directory()).unwrap().iter().filter_map(|entry| crate::segment::parse_file_name(&entry.name)).collect();
    let last = *bases.iter().max().unwrap();
    for lost in [vec![last], vec![Offset::ZERO], bases.clone()] {
        let disk = whole.after_crash(Crash::KeepAll);
        lost.iter().for_each(|base| disk.remove_file(&segment_path(base.get())).unwrap());
        let io: Arc<dyn Io> = Arc::new(disk);
        let opened = open(&io);
        assert!(matches!(opened, Err(Error::Corrupt { .. })), "{lost:?}: {opened:?}");
    }
}

/// A promise: what a full disk refused, and was cut off, does not come back behind a segment that has been rolled since.
#[test]
fn what_was_refused_stays_away() {
    for (seed, config) in (0..100).flat_map(|seed| [(seed, config()), (seed, synced())]) {
        let disk = Faulty::new();
        let io: Arc<dyn Io> = Arc::new(disk.clone());
        let (mut log, _) = open_as(&io, &config).unwrap();
        log.append(&[batch(Offset::ZERO, 2, 60)]).unwrap();
        log.sync().unwrap();
        disk.set_plan(FaultPlan { capacity: Some(disk.used() + 150), ..FaultPlan::default() });
        assert!(log.append(&[batch(log.log_end(), 1, 200)]).is_err());
        disk.set_plan(FaultPlan::default());
        log.append(&[batch(log.log_end(), 1, 550)]).unwrap();
        log.sync().unwrap();
        let end = log.log_end();
        drop(log);
        let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::Random(seed)));
        let (log, report) = open_as(&io, &config).unwrap();
        assert_eq!((log.log_end(), report.cut_bytes), (end, 0), "seed {seed}");
    }
}
