use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use tidegate_types::producer::KEYED_IDS;
use tidegate_types::topic_config::Durability;
use tidegate_types::{
    BatchBuilder, Encoding, LeaderEpoch, Limits, NodeId, ProducerStamp, RecordSetBuilder, SequencedBatch, Timestamp, TopicConfig, TopicId,
};
use uuid::Uuid;

use super::*;
use crate::io::{Crash, Faulty};
use crate::reader::{ReadMode, ReadOutcome};
use crate::{PartitionLog, RecoveryReport, Store};

mod beside;
mod damage;
mod planned;

static LIMITS: LazyLock<Limits> = LazyLock::new(Limits::default);
const ROOT: &str = "/data";

fn at(n: u64) -> Offset {
    Offset::new(n).unwrap()
}

fn tp(partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicName::new("t").unwrap(), partition: PartitionIndex::new(partition) }
}

fn directory() -> PathBuf {
    Path::new(ROOT).join("t-0")
}

fn log_file(base: u64) -> PathBuf {
    directory().join(file_name(at(base), "log"))
}

/// Two records whose values say their offsets, which are their timestamps, too.
fn batch(base: Offset, epoch: i32) -> SequencedBatch {
    let mut set = RecordSetBuilder::with_capacity(&LIMITS, 0, 0);
    for offset in base.get()..base.get() + 2 {
        let timestamp = Timestamp::from_millis(i64::try_from(offset).unwrap());
        set.push(timestamp, Encoding::Text, None, Some(format!("{offset:040}").as_bytes()), [].into_iter()).unwrap();
    }
    let mut builder = BatchBuilder::with_capacity(0);
    builder.push(&set.finish());
    let stamp = match base.get() % 6 {
        0 => Some(ProducerStamp { id: KEYED_IDS | base.to_i64(), epoch: 0, sequence: 7 }),
        2 => Some(ProducerStamp { id: 5, epoch: 0, sequence: i32::try_from(base.get() / 3).unwrap() }),
        _ => None,
    };
    let batch = match stamp {
        Some(stamp) => builder.finish_for(stamp),
        None => builder.finish(),
    };
    batch.sequence(base, LeaderEpoch::new(epoch)).unwrap()
}

fn config() -> TopicConfig {
    // Five batches a segment.
    let segment_bytes = 5 * batch(Offset::ZERO, 0).len() as u64 + 20;
    TopicConfig { durability: Durability::Fsync, segment_bytes, index_interval_bytes: 100, ..TopicConfig::default() }
}

fn store(disk: &Faulty) -> Result<Store, Error> {
    Store::open(Arc::new(disk.clone()), Path::new(ROOT), NodeId::new(1), Uuid::nil())
}

fn open(disk: &Faulty) -> Result<(PartitionLog, RecoveryReport), Error> {
    store(disk)?.open_log(&tp(0), TopicId::new(Uuid::nil()), &config())
}

fn append(log: &mut PartitionLog, batches: usize, epoch: i32) {
    log.begin_epoch(LeaderEpoch::new(epoch)).unwrap();
    for _ in 0..batches {
        log.append(&[batch(log.log_end(), epoch)]).unwrap();
        log.sync().unwrap();
    }
}

/// A data directory with two partitions, one of segments at 0, 10, 20 and 30 (the last one of two batches), of two leaders, trimmed to 3, stopped cleanly.
fn stopped() -> Faulty {
    let disk = Faulty::new();
    {
        let store = store(&disk).unwrap();
        let (other, _) = store.open_log(&tp(1), TopicId::new(Uuid::nil()), &config()).unwrap();
        let (mut log, _) = store.open_log(&tp(0), TopicId::new(Uuid::nil()), &config()).unwrap();
        append(&mut log, 7, 0);
        append(&mut log, 10, 2);
        log.trim_to(at(3)).unwrap().remove().unwrap();
        let (end, _) = (log.close().unwrap(), other.close().unwrap());
        store.write_recovery_points(&[(tp(0), end)].into()).unwrap();
        store.write_high_watermarks(&[(tp(0), end)].into()).unwrap();
        store.note_clean_stop(1).unwrap();
    }
    let disk = disk.after_crash(Crash::LoseAll);
    let bases: Vec<_> = segments(&disk, &directory()).unwrap().iter().map(|(base, _)| base.get()).collect();
    assert_eq!(bases, [0, 10, 20, 30], "the tests below name them");
    disk
}

/// Everything that can be read, until something is wrong.
fn read_all(log: &PartitionLog) -> Vec<u64> {
    let (reader, end, mut next, mut all) = (log.reader(), log.log_end(), log.log_start(), Vec::new());
    while next < end {
        let Ok(ReadOutcome::Batches { bytes, next_offset }) = reader.read(next, end, 300, ReadMode::Blocking) else { return all };
        for batch in tidegate_types::batch::StoredBatches::new(bytes) {
            let Some(batch) = batch.ok().filter(|batch| batch.verify().is_ok()) else { return all };
            for record in &batch.records().unwrap() {
                let record = record.unwrap();
                assert_eq!(std::str::from_utf8(record.value.unwrap()).unwrap().parse::<u64>().unwrap(), record.offset.get());
                all.extend(Some(record.offset.get()).filter(|offset| *offset >= log.log_start().get()));
            }
        }
        next = next_offset;
    }
    all
}

/// Every file of a data directory.
fn files(disk: &Faulty, directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in disk.list(directory).unwrap() {
        let path = directory.join(&entry.name);
        if entry.is_dir { found.extend(files(disk, &path)) } else { found.push(path) }
    }
    found
}

fn check(disk: &Faulty) -> Report {
    verify_all(disk, Path::new(ROOT), &mut |_| false).unwrap()
}

/// All that is said of a data directory: damage, then notes.
fn said(disk: &Faulty) -> (Vec<Finding>, Vec<Finding>) {
    let report = check(disk);
    let all: Vec<Finding> = report
        .partitions
        .into_iter()
        .map(|checked| checked.summary)
        .chain([report.root])
        .flat_map(|s| s.findings.into_iter().chain(s.notes))
        .collect();
    all.into_iter().partition(|finding| finding.severity == Severity::Damage)
}

/// Repairs all of it; gives the plans.
fn repair(disk: &Faulty, cut_all: bool) -> Result<Vec<Plan>, Error> {
    let repair = Repair::plan(Arc::new(disk.clone()), Path::new(ROOT), cut_all)?;
    let plans = repair.plans().to_vec();
    for plan in &plans {
        repair.apply(plan, "20261121T070000Z")?;
    }
    Ok(plans)
}

/// A promise: a whole data directory, and one whose node was killed, is called whole, without a note.
#[test]
fn what_is_whole_is_called_whole() {
    let disk = stopped();
    assert_eq!(said(&disk), (vec![], vec![]));
    assert_eq!(verify(&disk, &directory()).unwrap().records, 31, "3 to 33");
    let (mut log, _) = open(&disk).unwrap();
    append(&mut log, 3, 2);
    drop(log);
    for crash in [Crash::Kill, Crash::LoseAll, Crash::KeepAll] {
        let killed = disk.after_crash(crash);
        assert_eq!(said(&killed), (vec![], vec![]), "{crash:?}");
        assert!(repair(&killed, true).unwrap().iter().all(|plan| plan.actions.is_empty() && plan.left.is_empty()));
    }
}

/// A promise: what is set aside, or on its way out, is no partition; nor is a name that no node gives.
#[test]
fn what_lies_beside_is_no_partition() {
    let disk = stopped();
    for name in
        ["t-0.repair-20261121T070000Z", "t-0.repair-20261121T070000Z.2", "t-0.0123456789abcdef0123456789abcdef-delete", "t-00", "notes"]
    {
        let path = Path::new(ROOT).join(name);
        disk.create_dir_all(&path).unwrap();
        let file = disk.create(&path.join(file_name(at(0), "log"))).unwrap();
        file.write_all_at(&[b"nonsense"], 0).unwrap();
    }
    assert_eq!(check(&disk).partitions.len(), 2);
    assert_eq!(said(&disk), (vec![], vec![]));
    let store = store(&disk).unwrap();
    let mut known = store.partition_directories().unwrap();
    known.sort();
    assert_eq!(known, ["t-0", "t-00", "t-1"]);
    let aside = disk.list(&Path::new(ROOT).join("t-0.repair-20261121T070000Z")).unwrap();
    assert_eq!(aside.len(), 1, "a start keeps it");
}

/// A promise: every file of a data directory can be shown, entry by entry, and a damaged one says so.
#[test]
fn small_files_are_shown() {
    let disk = stopped();
    let show_all = |path: &Path| {
        let mut seen = Vec::new();
        let finding = show::<()>(&disk, path, &mut |shown| {
            seen.push(shown.clone());
            Ok(())
        });
        (seen, finding.unwrap().unwrap())
    };
    let (seen, finding) = show_all(&directory().join(file_name(at(10), "index")));
    assert_eq!(finding, None);
    assert_eq!(seen.first(), Some(&Shown::Index { offset: 13, position: u32::try_from(batch(at(10), 0).len()).unwrap() }));
    let (seen, _) = show_all(&directory().join(file_name(at(10), "timeindex")));
    assert_eq!(seen.last(), Some(&Shown::TimeIndex { timestamp: 19, offset: 19 }));
    let (seen, _) = show_all(&directory().join("leader-epoch-checkpoint"));
    assert_eq!(seen, [Shown::Epoch { epoch: 0, start: at(3) }, Shown::Epoch { epoch: 2, start: at(14) }]);
    let (seen, _) = show_all(&directory().join("segment-checkpoint"));
    assert!(matches!(seen[3], Shown::Segment { base, end, max_timestamp: Some(33), .. } if (base, end) == (at(30), at(34))), "{seen:?}");
    let (seen, _) = show_all(&Path::new(ROOT).join("recovery-point-offset-checkpoint"));
    assert_eq!(seen, [Shown::Offset { tp: tp(0), offset: at(34) }]);
    let (seen, _) = show_all(&directory().join(file_name(at(34), "snapshot")));
    let producer = Shown::Producer { producer_id: 5, epoch: 0, last_sequence: 11, last_offset: at(33) };
    assert_eq!(seen.as_slice(), std::slice::from_ref(&producer));
    let (seen, _) = show_all(&directory().join(file_name(at(34), "idempotency")));
    let keys = seen.iter().filter(|shown| matches!(shown, Shown::Key(key) if key.offset.get() % 6 == 0)).count();
    assert!(seen[0] == producer && keys == 6 && seen.len() == 7, "{seen:?}");
    let small: Vec<_> = files(&disk, Path::new(ROOT)).into_iter().filter(|path| is_small_file(path)).collect();
    assert!(small.len() > 10);
    for path in small {
        assert_eq!(show_all(&path).1, None, "{path:?}");
        let file = disk.open(&path).unwrap();
        file.set_len(3).unwrap();
        assert!(show_all(&path).1.is_some(), "{path:?}");
    }
    assert!(show::<()>(&disk, Path::new("/data/nothing.index"), &mut |_| Ok(())).is_err());
}
