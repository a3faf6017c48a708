//! Damage of every kind: it is told, and mended without losing what is good.

use super::*;
use crate::checkpoint::{FIRST_DIRTY, HIGH_WATERMARK, RECOVERY_POINT};

/// What a start makes of a data directory, and what is read then; `None` where it refuses.
fn start(disk: &Faulty) -> Option<(Offset, Offset, Vec<u64>)> {
    let (log, _) = open(disk).ok()?;
    let all = read_all(&log);
    Some((log.log_start(), log.log_end(), all))
}

fn whole() -> Vec<u64> {
    (3..34).collect()
}

/// A promise: with a bit turned anywhere in any file, something is said of it, or a start comes to the same as without. A repair then has a log that opens and gives
/// a prefix of the records, all of them if no log file was hit; and none of it is deleted.
#[test]
fn each_turned_bit_is_told_or_harmless_and_can_be_mended() {
    let disk = stopped();
    let normal = start(&disk.after_crash(Crash::KeepAll)).unwrap();
    let (mut damaged, mut noted, mut harmless) = (0, 0, 0);
    for path in files(&disk, Path::new(ROOT)) {
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let name = path.file_name().unwrap().to_str().unwrap();
        if [".lock", ".kafka_cleanshutdown", "boot-id"].contains(&name) {
            continue;
        }
        for byte in 0..disk.length(&path).unwrap() {
            for bit in 0..8 {
                // All bits where a batch's place is stamped, which no CRC covers.
                if is_log && bit != byte % 8 && byte % batch(at(0), 0).len() as u64 > 20 {
                    continue;
                }
                let hurt = disk.after_crash(Crash::KeepAll);
                hurt.flip_bit(&path, byte, u8::try_from(bit).unwrap()).unwrap();
                let (findings, notes) = said(&hurt);
                let what = format!("{}, byte {byte}, bit {bit}: {findings:?} {notes:?}", path.display());
                match (findings.is_empty(), notes.is_empty()) {
                    (false, _) => damaged += 1,
                    (true, false) => noted += 1,
                    (true, true) => harmless += 1,
                }
                if findings.is_empty() {
                    let started = start(&hurt.after_crash(Crash::KeepAll));
                    // Whose it is, nothing else in the directory says: a wrong node id is refused by the node that knows its own. And a log start that is too late
                    // looks like a trim that was cut off, of which a note is made.
                    let is_told = name == LOG_START && !notes.is_empty();
                    assert!(
                        started.as_ref() == Some(&normal) || is_told || started.is_none() && name == "meta.properties",
                        "{what}: {started:?}"
                    );
                }
                for cut_all in [false, true] {
                    let hurt = hurt.after_crash(Crash::KeepAll);
                    let Ok(plans) = repair(&hurt, cut_all) else {
                        assert_eq!(name, "meta.properties", "{what}");
                        continue;
                    };
                    let lost_nothing = plans.iter().all(|plan| plan.lost.is_none());
                    let Some((_, end, read)) = start(&hurt) else {
                        assert!(["partition.metadata", "meta.properties"].contains(&name), "{what}: {plans:?}");
                        continue;
                    };
                    if name == "partition.metadata" || name == LOG_START {
                        // What they said is gone; that it was wrong has been told.
                        continue;
                    }
                    assert!(whole().starts_with(&read), "{what}: {read:?}");
                    // A recovery point that is too late says that records were lost.
                    assert!(
                        is_log || read == whole() && (lost_nothing || [RECOVERY_POINT, HIGH_WATERMARK].contains(&name)),
                        "{what}: {plans:?}"
                    );
                    if is_log && cut_all && !findings.iter().all(|finding| finding.kind == Kind::LeaderEpoch) {
                        assert!(end < at(34) && !lost_nothing && read.len() as u64 == end.get() - 3, "{what}: {plans:?}");
                        assert_eq!(said(&hurt), (vec![], vec![]), "{what}");
                        // The good part is there twice, and nothing is gone.
                        let copied = if end == at(3) { 0 } else { end.get() % 10 / 2 * batch(at(0), 0).len() as u64 };
                        assert_eq!(bytes_of_logs(&hurt), bytes_of_logs(&disk) + copied, "{what}");
                    }
                }
            }
        }
    }
    println!("damage {damaged}, notes {noted}, harmless {harmless}");
    assert!(damaged > 1000 && noted > 1000 && harmless > 10);
}

/// Bytes of all files of batches, set aside or not.
fn bytes_of_logs(disk: &Faulty) -> u64 {
    let logs = files(disk, Path::new(ROOT)).into_iter().filter(|path| path.extension().is_some_and(|e| e == "log"));
    logs.map(|path| disk.length(&path).unwrap()).sum()
}

/// What makes a node refuse the partition: the damage, which offsets stay, and what is said to be lost.
type Case = (&'static str, fn(&Faulty), std::ops::Range<u64>, Option<(u64, u64)>);

fn flip(disk: &Faulty, base: u64, nth: u64) {
    disk.flip_bit(&log_file(base), nth * batch(at(0), 0).len() as u64 + 70, 3).unwrap();
}

fn forget_segments(disk: &Faulty) {
    disk.remove_file(&directory().join("segment-checkpoint")).unwrap();
}

const CASES: [Case; 11] = [
    ("rot in the middle, and nothing to believe", |disk| (flip(disk, 10, 2), forget_segments(disk)).1, 3..14, Some((14, 33))),
    ("rot at the front of a segment", |disk| (flip(disk, 20, 0), forget_segments(disk)).1, 3..20, Some((20, 33))),
    ("rot in the first batch of all", |disk| (flip(disk, 0, 0), forget_segments(disk)).1, 3..3, Some((3, 33))),
    ("rot in the last segment", |disk| (flip(disk, 30, 1), forget_segments(disk)).1, 3..32, Some((32, 33))),
    ("a segment is gone", |disk| disk.remove_file(&log_file(10)).unwrap(), 3..10, Some((10, 33))),
    ("the first one is gone", |disk| disk.remove_file(&log_file(0)).unwrap(), 10..34, Some((3, 9))),
    ("the last one is gone", |disk| disk.remove_file(&log_file(30)).unwrap(), 3..30, Some((30, 33))),
    ("all are gone", |disk| [0, 10, 20, 30].iter().for_each(|base| disk.remove_file(&log_file(*base)).unwrap()), 3..3, Some((3, 33))),
    ("one is there twice", |disk| copy(disk, &log_file(20), &directory().join(file_name(at(15), "log"))), 3..34, None),
    ("one is cut short", |disk| disk.open(&log_file(20)).unwrap().set_len(200).unwrap(), 3..22, Some((22, 33))),
    ("the end is cut off", |disk| disk.open(&log_file(30)).unwrap().set_len(0).unwrap(), 3..30, Some((30, 33))),
];

fn copy(disk: &Faulty, from: &Path, to: &Path) {
    let bytes = crate::io::read_small(disk, from).unwrap().unwrap();
    let file = disk.create(to).unwrap();
    file.write_all_at(&[&bytes], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(to.parent().unwrap()).unwrap();
}

/// A promise: what a node refuses is told; a repair says what is lost, has the node open the log with what is good, keeps every byte, and leaves nothing to say.
#[test]
fn what_a_node_refuses_can_be_mended() {
    for (what, hurt, stays, lost) in CASES {
        let disk = stopped();
        hurt(&disk);
        assert!(open(&disk.after_crash(Crash::KeepAll)).is_err(), "{what}: it has to be refused");
        assert!(!said(&disk).0.is_empty(), "{what}");
        let before: Vec<_> =
            files(&disk, Path::new(ROOT)).into_iter().map(|path| crate::io::read_small(&disk, &path).unwrap().unwrap()).collect();
        let plans = repair(&disk, false).unwrap();
        let plan = plans.iter().find(|plan| plan.directory == directory()).unwrap();
        assert_eq!(plan.lost.map(|lost| (lost.first.get(), lost.last.unwrap().get())), lost, "{what}: {plan:?}");
        assert_eq!(said(&disk), (vec![], vec![]), "{what}: {plan:?}");
        let (log, _) = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}, {plan:?}"));
        assert_eq!(read_all(&log), stays.collect::<Vec<_>>(), "{what}");
        let after: Vec<_> =
            files(&disk, Path::new(ROOT)).into_iter().map(|path| crate::io::read_small(&disk, &path).unwrap().unwrap()).collect();
        // Of texts there are new ones; what holds batches is there as it was.
        assert!(before.iter().filter(|bytes| bytes.get(16) == Some(&2)).all(|bytes| after.contains(bytes)), "{what}");
        drop(log);
        assert!(repair(&disk, true).unwrap().iter().all(|plan| plan.actions.is_empty()), "{what}: once is enough");
    }
}

/// A promise: a repair that is cut off at any step, and the plug pulled, can be done again: then the log opens with what is good, and nothing has been lost on the way.
#[test]
fn a_repair_that_was_cut_off_is_done_again() {
    let mut cuts = 0;
    for (what, hurt, stays, _) in CASES {
        let stays: Vec<_> = stays.collect();
        for crash in [Crash::LoseAll, Crash::KeepAll, Crash::Random(7), Crash::Random(8)] {
            for step in 0.. {
                let disk = stopped();
                hurt(&disk);
                let disk = disk.after_crash(Crash::KeepAll);
                let originals: Vec<_> = originals(&disk);
                disk.set_plan(crate::io::FaultPlan { cut_at: Some(disk.steps() + step), ..Default::default() });
                if repair(&disk, false).is_ok() {
                    break;
                }
                cuts += 1;
                let disk = disk.after_crash(crash);
                // A node that is started now opens the log as far as it is good, or refuses it; it takes nothing away from what is set aside.
                if let Some((_, _, read)) = start(&disk.after_crash(Crash::KeepAll)) {
                    assert_eq!(read, stays, "{what}, step {step}, {crash:?}");
                }
                repair(&disk, false).unwrap_or_else(|error| panic!("{what}, step {step}, {crash:?}: {error}"));
                assert_eq!(said(&disk).0, [], "{what}, step {step}, {crash:?}");
                let kept = self::originals(&disk);
                assert!(originals.iter().all(|bytes| kept.contains(bytes)), "{what}, step {step}, {crash:?}");
                let (log, _) = open(&disk).unwrap_or_else(|error| panic!("{what}, step {step}, {crash:?}: {error}"));
                assert_eq!(read_all(&log), stays, "{what}, step {step}, {crash:?}");
            }
        }
    }
    println!("{cuts} cuts");
    assert!(cuts > 500);
}

/// A promise: a compacted log is cut like any other, wherever the repair is cut off: what stays of it, with offsets missing, is never taken for what is being written.
#[test]
fn a_compacted_log_is_cut_as_any_other() {
    let stays: Vec<_> = (3..12).chain([14, 15]).collect();
    for crash in [Crash::LoseAll, Crash::KeepAll] {
        for step in 0.. {
            let disk = stopped();
            let mut bytes: Vec<u8> =
                [10, 14, 18].iter().flat_map(|base| batch(at(*base), if *base < 14 { 0 } else { 2 }).parts().concat()).collect();
            let rotten = bytes.len() - 9;
            let file = disk.open(&log_file(10)).unwrap();
            file.set_len(0).unwrap();
            file.write_all_at(&[&bytes], 0).unwrap();
            let noted = [(tp(0), at(20))].into();
            crate::checkpoint::write_offsets(&disk, &Path::new(ROOT).join(FIRST_DIRTY), &noted).unwrap();
            forget_segments(&disk);
            let disk = disk.after_crash(Crash::KeepAll);
            assert!(said(&disk).0.is_empty() && open(&disk.after_crash(Crash::KeepAll)).is_ok(), "it is whole so far");
            disk.flip_bit(&log_file(10), rotten as u64, 2).unwrap();
            bytes[rotten] ^= 1 << 2;
            disk.set_plan(crate::io::FaultPlan { cut_at: Some(disk.steps() + step), ..Default::default() });
            let is_done = repair(&disk, false).is_ok();
            let disk = disk.after_crash(crash);
            repair(&disk, false).unwrap();
            assert_eq!(said(&disk), (vec![], vec![]), "step {step}, {crash:?}");
            assert_eq!(start(&disk), Some((at(3), at(16), stays.clone())), "step {step}, {crash:?}");
            assert!(originals(&disk).contains(&bytes), "step {step}, {crash:?}");
            if is_done {
                break;
            }
        }
    }
}

/// The contents of every file of batches, set aside or not.
fn originals(disk: &Faulty) -> Vec<Vec<u8>> {
    let logs = files(disk, Path::new(ROOT)).into_iter().filter(|path| path.extension().is_some_and(|e| e == "log"));
    logs.map(|path| crate::io::read_small(disk, &path).unwrap().unwrap()).collect()
}

/// A promise: where the node opens a log in spite of rot, nothing is cut unless that is asked for, and it is said that it stays.
#[test]
fn what_the_node_opens_is_not_cut_unasked() {
    for (base, first) in [(10, 14), (30, 30)] {
        let disk = stopped();
        flip(&disk, base, (first - base) / 2);
        assert!(open(&disk.after_crash(Crash::KeepAll)).is_ok());
        let plans = repair(&disk, false).unwrap();
        let plan = plans.iter().find(|plan| plan.directory == directory()).unwrap();
        assert_eq!((&plan.actions[..], plan.lost, plan.left.len()), (&[][..], None, 1), "{plan:?}");
        assert_eq!(said(&disk).0.len(), 1);
        repair(&disk, true).unwrap();
        assert_eq!(said(&disk), (vec![], vec![]));
        assert_eq!(start(&disk).unwrap().2, (3..first).collect::<Vec<_>>());
    }
}

/// A promise: what a start cuts or removes by itself is a note, by the rules of the start, and a repair leaves it to it.
#[test]
fn what_a_start_sees_to_is_a_note() {
    // A torn write behind what is vouched for.
    let disk = stopped();
    let file = disk.open(&log_file(30)).unwrap();
    let (end, torn) = (file.len().unwrap(), batch(at(34), 2));
    let bytes: Vec<u8> = torn.parts().concat();
    file.write_all_at(&[&bytes[..bytes.len() - 9]], end).unwrap();
    let (findings, notes) = said(&disk);
    assert_eq!((findings.len(), notes.len(), notes[0].kind, notes[0].position), (0, 1, Kind::TornTail, end), "{notes:?}");
    assert!(notes[0].reason.contains(&format!("cuts {} bytes", bytes.len() - 9)), "{}", notes[0].reason);
    assert!(repair(&disk, true).unwrap().iter().all(|plan| plan.actions.is_empty()));
    let (_, report) = open(&disk).unwrap();
    assert_eq!(report.cut_bytes, bytes.len() as u64 - 9);
    // The same behind a good batch that follows: that was once whole.
    let disk = stopped();
    let file = disk.open(&log_file(30)).unwrap();
    let mut bytes: Vec<u8> = torn.parts().concat();
    bytes[70] ^= 1;
    bytes.extend(batch(at(36), 2).parts().concat());
    file.write_all_at(&[&bytes], end).unwrap();
    let (findings, _) = said(&disk);
    assert!(findings[0].reason.contains("good batches follow") && findings[0].reason.contains("durability=replicated"), "{findings:?}");
    assert!(open(&disk.after_crash(Crash::KeepAll)).is_err());
}

/// A promise: lost indexes and checkpoints are notes, and a repair writes them again so that a start reads nothing.
#[test]
fn lost_indexes_are_notes_and_are_made_again() {
    for lost in ["00000000000000000010.index", "00000000000000000030.timeindex", "segment-checkpoint", "leader-epoch-checkpoint"] {
        let disk = stopped();
        disk.remove_file(&directory().join(lost)).unwrap();
        let (findings, notes) = said(&disk);
        assert_eq!((findings, notes.is_empty()), (vec![], false), "{lost}");
        let plans = repair(&disk, false).unwrap();
        assert!(plans.iter().all(|plan| plan.lost.is_none()), "{plans:?}");
        assert_eq!(said(&disk), (vec![], vec![]), "{lost}");
        let (log, report) = open(&disk).unwrap();
        assert_eq!((report.scanned_bytes, read_all(&log)), (0, whole()), "{lost}");
    }
}

/// A promise: a data directory whose own checkpoints are damaged starts again after a repair, with the records that were there.
#[test]
fn checkpoints_of_the_directory_are_written_again() {
    for name in [RECOVERY_POINT, HIGH_WATERMARK, LOG_START, FIRST_DIRTY] {
        let disk = stopped();
        let path = Path::new(ROOT).join(name);
        let file = disk.open(&path).or_else(|_| disk.create(&path)).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(&[b"nonsense"], 0).unwrap();
        // Nothing but a word about what was lost depends on the high watermarks.
        let stops = name != HIGH_WATERMARK;
        assert_eq!(store(&disk.after_crash(Crash::KeepAll)).is_err(), stops, "{name}");
        let (damage, notes) = said(&disk);
        assert!(if stops { damage } else { notes }.iter().any(|finding| finding.path == path), "{name}");
        repair(&disk, false).unwrap();
        assert_eq!(said(&disk), (vec![], vec![]), "{name}");
        assert_eq!(start(&disk), Some((at(3), at(34), whole())), "{name}");
    }
    let disk = stopped();
    for name in [RECOVERY_POINT, HIGH_WATERMARK, FIRST_DIRTY] {
        crate::checkpoint::write_offsets(&disk, &Path::new(ROOT).join(name), &[(tp(0), at(50))].into()).unwrap();
    }
    let (damage, notes) = said(&disk);
    assert_eq!((damage.len(), notes.len()), (2, 1), "they lie behind the log's end");
    repair(&disk, false).unwrap();
    assert_eq!(start(&disk), Some((at(3), at(34), whole())));
}

/// A promise: nobody repairs what a node holds, or what no node has made; and while a repair is at work no node starts.
#[test]
fn a_repair_is_alone() {
    let disk = stopped();
    let node = store(&disk).unwrap();
    let refused = Repair::plan(Arc::new(disk.clone()), &directory(), false).unwrap_err();
    assert!(refused.to_string().contains("stop the node first"), "{refused}");
    drop(node);
    let repair = Repair::plan(Arc::new(disk.clone()), &directory(), false).unwrap();
    assert!(store(&disk).is_err());
    drop(repair);
    store(&disk).unwrap();
    let copied = Faulty::new();
    copied.create_dir_all(Path::new("/elsewhere/t-0")).unwrap();
    let file = copied.create(Path::new("/elsewhere/t-0/00000000000000000000.log")).unwrap();
    file.write_all_at(&[b"nonsense"], 0).unwrap();
    assert!(Repair::plan(Arc::new(copied.clone()), Path::new("/elsewhere/t-0"), false).is_err());
    assert!(copied.length(Path::new("/elsewhere/.lock")).is_err());
}
