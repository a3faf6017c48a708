//! A bit turned in every region of every kind of file: detected, or harmless, and never a wrong record.
//!
//! Kafka's text files (`log-start-offset-checkpoint`, `cleaner-offset-checkpoint`, `recovery-point-offset-checkpoint`, `leader-epoch-checkpoint`)
//! have no checksum, nor has a batch's leader epoch. A turned digit in them is what this test allows: a log may begin elsewhere or forget who wrote it,
//! but what it then gives is right, at its offset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_types::topic_config::{CleanupPolicy, Durability};
use tidegate_types::{LeaderEpoch, NodeId, PartitionIndex, Timestamp, TopicConfig, TopicName, TopicPartition};
use uuid::Uuid;

use super::model::Found;
use super::part::{Part, entries, offset};
use super::{Check, ROOT, check, ensure};
use crate::io::{Crash, FaultPlan, Faulty, Io, SplitMix};
use crate::{CompactionPolicy, Error, ReadMode, ReadOutcome, Round, Store, inspect};

fn store(disk: &Faulty) -> Result<Store, Error> {
    Store::open(Arc::new(disk.clone()), Path::new(ROOT), NodeId::new(1), Uuid::from_u128(7))
}

fn open(part: &mut Part, disk: &Faulty) -> Result<Store, String> {
    let store = store(disk).map_err(|error| error.to_string())?;
    let (log, _) = store.open_log(&part.tp, part.topic, &part.config).map_err(|error| error.to_string())?;
    part.opened(log)?;
    Ok(store)
}

fn round(part: &mut Part, now: i64) -> Result<(), Error> {
    let log = part.log.as_mut().unwrap();
    let (compactor, policy) = (log.compactor(), CompactionPolicy::from(&part.config));
    let (high_watermark, stop) = (log.log_end(), Arc::default());
    part.model.rounds.push(super::model::Round { end: compactor.active_base().get(), at: now, horizon: i64::MAX });
    // Late enough for records that were ahead of their time.
    let now = Timestamp::from_millis(now + 1_000_000);
    let round = Round { policy, high_watermark, now, map_bytes: 1 << 20, seed: [9; 16], io_bytes_per_second: u64::MAX, stop };
    let mut install = |compacted| match log.install(compacted)? {
        Some(replaced) => replaced.finish().map(|()| true),
        None => Ok(false),
    };
    compactor.round(&round, &mut install).map(|_| ())
}

/// Where a directory is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Closed well.
    Closed,
    /// Killed, with room prepared behind the last batch.
    Killed,
    /// In the middle of a round: with a file that is being written, or one that is whole and on its way.
    MidRound(&'static str),
}

/// A log that was rolled, compacted, trimmed, has had three leaders, and was left like this.
fn directory(left: Left) -> (Faulty, Part) {
    let disk = Faulty::new();
    let tp = TopicPartition { topic: TopicName::new("t").unwrap(), partition: PartitionIndex::new(0) };
    let config = TopicConfig {
        durability: Durability::Fsync,
        cleanup_policy: CleanupPolicy { delete: true, compact: true },
        segment_bytes: 900,
        index_interval_bytes: 100,
        delete_retention_ms: i64::MAX,
        compaction_lag_ms_min: 0,
        ..TopicConfig::default()
    };
    let mut part = Part::new(tp.clone(), 5, config);
    let (mut random, mut now) = (SplitMix(11), 1_000_000);
    let store = open(&mut part, &disk).unwrap();
    for epoch in 0..3 {
        part.epoch = epoch;
        part.log.as_mut().unwrap().begin_epoch(LeaderEpoch::new(epoch)).unwrap();
        for n in 0..12 {
            now += 10;
            part.append(&mut random, now, &format!("{epoch}.{n}"));
        }
        if epoch < 2 {
            round(&mut part, now).unwrap();
        }
        if epoch == 1 {
            part.trim(300).unwrap();
            part.trimmed.drain(..).for_each(|trimmed| trimmed.remove().unwrap());
        }
    }
    let synced = BTreeMap::from([(tp, offset(part.model.acked))]);
    store.write_recovery_points(&synced).and_then(|()| store.write_high_watermarks(&synced)).unwrap();
    match left {
        Left::Closed => {
            part.log.take().unwrap().close().unwrap();
            store.note_clean_stop(1).unwrap();
        }
        Left::Killed => {}
        Left::MidRound(suffix) => {
            // Every step of a round, until one leaves such a file.
            let (before, rounds) = (disk.after_crash(Crash::Kill), part.model.rounds.clone());
            for step in 0..1_000 {
                let disk = before.after_crash(Crash::Kill);
                disk.set_plan(FaultPlan { cut_at: Some(step), ..FaultPlan::default() });
                part.end();
                part.model.rounds.clone_from(&rounds);
                // What a start does comes first.
                if open(&mut part, &disk).is_ok() {
                    let _ = round(&mut part, now);
                }
                let cut = disk.after_crash(Crash::KeepAll);
                let names = cut.list(&part.directory()).unwrap();
                let is_whole = |name: &str| cut.length(&part.directory().join(name)).unwrap() > 0;
                if names.iter().any(|entry| entry.name.ends_with(suffix) && is_whole(&entry.name)) {
                    part.end();
                    return (cut, part);
                }
            }
            panic!("no round leaves a {suffix}");
        }
    }
    part.end();
    (disk.after_crash(Crash::KeepAll), part)
}

fn files(disk: &Faulty, directory: &Path) -> Vec<PathBuf> {
    let entries = disk.list(directory).unwrap().into_iter().filter(|entry| !entry.is_dir && entry.name != ".lock");
    entries.map(|entry| directory.join(entry.name)).collect()
}

/// What a turned bit has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    Harmless,
    Refused,
    NoticedByReaders,
    /// What no checksum covers says something else, but no record is wrong.
    ElsewhereBegun,
    OtherLeader,
    /// In a file that was on its way to replace others a batch says another offset, between those of its neighbours: no CRC covers it, and no
    /// index is there yet.
    Shifted,
    /// It passes for another topic's, and was moved out of the way, whole.
    MovedAside,
}

/// Reads as clients do, up to an error.
fn read(part: &Part) -> (Vec<Found>, Option<String>) {
    let log = part.log.as_ref().unwrap();
    let (reader, mut next, mut all) = (log.reader(), log.log_start(), Vec::new());
    while next < log.log_end() {
        let (bytes, next_offset) = match reader.read(next, log.log_end(), 300, ReadMode::Blocking) {
            Ok(ReadOutcome::Batches { bytes, next_offset }) if next_offset > next => (bytes, next_offset),
            other => return (all, Some(format!("{other:?}"))),
        };
        match entries(bytes) {
            Ok(found) => all.extend(found.into_iter().filter(|found| found.offset >= next.get())),
            Err(error) => return (all, Some(error)),
        }
        next = next_offset;
    }
    (all, None)
}

/// Whether a byte is one of a batch's offset, in a file that was to replace others.
fn is_offset(disk: &Faulty, path: &Path, byte: u64) -> bool {
    let mut offsets = Vec::new();
    let swap = path.to_str().is_some_and(|path| path.ends_with(".swap"));
    let dumped = inspect::dump(disk, path, &mut |position, _| {
        offsets.push(position..position + 8);
        Ok(())
    });
    swap && dumped.is_ok() && offsets.iter().any(|offset| offset.contains(&byte))
}

/// Turns a bit, starts, and reads.
fn turn(whole: &Faulty, left: &Part, path: &Path, byte: u64, bit: u8) -> Result<Came, String> {
    let disk = whole.after_crash(Crash::KeepAll);
    disk.flip_bit(path, byte, bit).unwrap();
    let mut part = Part::new(left.tp.clone(), 5, left.config.clone());
    let opened = store(&disk).and_then(|store| store.open_log(&part.tp, part.topic, &part.config));
    let log = match opened {
        Ok((log, _)) => log,
        Err(error) => {
            // Whoever turns it back has lost nothing.
            if disk.length(path).is_ok() {
                disk.flip_bit(path, byte, bit).unwrap();
            } else {
                // It has got its name already.
                ensure!(path.extension().is_some_and(|suffix| suffix == "swap"), "{error}, and the file is gone");
                disk.flip_bit(&path.with_extension(""), byte, bit).map_err(|_| format!("{error}, and the file is gone"))?;
            }
            part.model = left.model.clone();
            open(&mut part, &disk).map_err(|again| format!("{error}; and with the bit turned back: {again}"))?;
            check::whole(&disk, &part, &mut SplitMix(byte)).map_err(|again| format!("{error}; and with the bit turned back: {again}"))?;
            return Ok(Came::Refused);
        }
    };
    let (start, end) = (log.log_start().get(), log.log_end().get());
    (part.model, part.log) = (left.model.clone(), Some(log));
    ensure!(end <= part.model.end, "it ends at {end}");
    if path.ends_with("partition.metadata") && end == 0 {
        let names = disk.list(Path::new(ROOT)).map_err(|error| error.to_string())?;
        let aside = names.iter().find(|entry| entry.name.ends_with("-stray")).ok_or("its files are gone")?;
        let kept = disk.list(&Path::new(ROOT).join(&aside.name)).map_err(|error| error.to_string())?;
        ensure!(kept.len() == whole.list(&part.directory()).unwrap().len(), "some of its files are gone");
        return Ok(Came::MovedAside);
    }
    let (found, error) = read(&part);
    for mut found in found.iter().cloned() {
        // No CRC covers who wrote a batch.
        found.epoch = part.model.epoch_at(found.offset).unwrap_or(found.epoch);
        match part.model.check_one(&found) {
            Err(_) if is_offset(whole, path, byte) => return Ok(Came::Shifted),
            checked => checked?,
        }
    }
    if let Some(error) = error {
        let findings = inspect::verify(&disk, &part.directory()).map_err(|error| error.to_string())?.findings;
        ensure!(!findings.is_empty(), "readers met {error}, but verify finds nothing");
        return Ok(Came::NoticedByReaders);
    }
    if start != part.model.start {
        let is_noted = path.ends_with("log-start-offset-checkpoint");
        ensure!(is_noted && found.iter().all(|found| found.offset >= start), "it begins at {start}, without a word");
        part.model.start = start;
        part.model.check_all(&found)?;
        return Ok(Came::ElsewhereBegun);
    }
    ensure!(end == part.model.end, "it ends at {end}, without a word");
    match check::whole(&disk, &part, &mut SplitMix(byte)) {
        Ok(()) => Ok(Came::Harmless),
        Err(why) if why.contains("epoch") => {
            let may = path.ends_with("leader-epoch-checkpoint") || path.extension().is_some_and(|extension| extension == "log");
            ensure!(may, "{why}");
            Ok(Came::OtherLeader)
        }
        Err(why) => Err(why),
    }
}

/// Some bits of every file: all bytes of small ones, many of large ones.
fn turn_all(left: Left, seen: &mut BTreeMap<(String, Came), u64>) -> Check {
    let (whole, part) = directory(left);
    let files: Vec<_> = files(&whole, Path::new(ROOT)).into_iter().chain(files(&whole, &part.directory())).collect();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        // A name, or what follows a segment's number; the last segment is another kind of file than those before.
        let kind = name.split_once('.').filter(|(base, _)| base.len() == 20).map_or(name, |(_, suffix)| suffix);
        let length = whole.length(&path).unwrap();
        for byte in (0..length).step_by(usize::try_from(length / 80 + 1).unwrap()) {
            let bit = u8::try_from((byte * 5 + 1) % 8).unwrap();
            let came = turn(&whole, &part, &path, byte, bit).map_err(|why| format!("{left:?}, {name}, byte {byte}, bit {bit}: {why}"))?;
            *seen.entry((kind.to_owned(), came)).or_default() += 1;
        }
    }
    Ok(())
}

/// A promise: with a bit turned anywhere in any file, a start says so and has harmed nothing, or whoever reads gets right records up to an error, or
/// nothing has changed; and what readers would notice, `log verify` finds.
#[test]
fn a_turned_bit_gives_no_wrong_record() {
    let mut seen = BTreeMap::new();
    for left in [Left::Closed, Left::Killed, Left::MidRound("log.cleaned"), Left::MidRound("log.swap")] {
        turn_all(left, &mut seen).unwrap_or_else(|why| panic!("{why}"));
    }
    println!("{seen:#?}");
    let has = |kind: &str, came| assert!(seen.contains_key(&(kind.to_owned(), came)), "{kind} {came:?}: {seen:?}");
    for kind in ["index", "timeindex", "segment-checkpoint", "log.cleaned"] {
        has(kind, Came::Harmless);
    }
    for kind in ["log", "log.swap", "meta.properties", "partition.metadata", "recovery-point-offset-checkpoint"] {
        has(kind, Came::Refused);
    }
    has("log", Came::NoticedByReaders);
    let kinds: std::collections::BTreeSet<_> = seen.keys().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds.len(), 17, "{kinds:?}");
}
