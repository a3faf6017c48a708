//! What must hold of a log at any time, as its readers and those who look into its files see it.

use std::collections::BTreeMap;

use tidegate_types::batch::StoredBatches;
use tidegate_types::{ProducerStamp, Timestamp};

use super::model::Found;
use super::part::{Part, entries, offset};
use super::{Check, ensure};
use crate::io::{Faulty, Io, SplitMix, read_small};
use crate::producers::Verdict;
use crate::{LogReader, PartitionLog, ReadMode, ReadOutcome, inspect};

/// All that a reader gets who goes from the start to the end by what it is told.
fn scan(reader: &LogReader, start: u64, end: u64, max_bytes: usize) -> Result<Vec<Found>, String> {
    let (mut next, mut all) = (start, Vec::new());
    while next < end {
        let outcome = reader.read(offset(next), offset(end), max_bytes, ReadMode::Blocking).map_err(|error| error.to_string())?;
        let ReadOutcome::Batches { bytes, next_offset } = outcome else { return Err(format!("sent away at {next}: {outcome:?}")) };
        ensure!(next_offset.get() > next, "a read at {next} below {end} goes no further");
        all.extend(entries(bytes)?.into_iter().filter(|found| found.offset >= next));
        next = next_offset.get();
    }
    ensure!(next == end.max(start), "reading from {start} ends at {next}, not at {end}");
    Ok(all)
}

/// Everything but what is on the disk besides the data.
pub(super) fn whole(disk: &Faulty, part: &Part, random: &mut SplitMix) -> Check {
    let Some(log) = &part.log else { return Ok(()) };
    let (model, reader) = (&part.model, log.reader());
    ensure!(
        (log.log_start().get(), log.log_end().get()) == (model.start, model.end),
        "the log is from {} to {}, not from {} to {}",
        log.log_start(),
        log.log_end(),
        model.start,
        model.end
    );
    // While a round is half installed, names are not what they will be.
    let segments = reader.segments();
    for segment in segments.iter().take(segments.len() - 1).filter(|_| !part.is_uncleanable) {
        let length = disk.length(&segment.path).map_err(|error| error.to_string())?;
        ensure!(length == segment.bytes(), "{} has {length} bytes, not {}", segment.path.display(), segment.bytes());
    }
    let max_bytes = random.pick(&[1, 300, 1 << 20]);
    let found = scan(&reader, model.start, model.end, max_bytes)?;
    model.check_all(&found)?;
    times(&reader, &found, model.end, random)?;
    epochs(disk, part, &found)?;
    producers(log, model.start, model.end)?;
    if model.end > model.start {
        let from = model.start + random.below(model.end - model.start);
        let outcome = reader.read(offset(from), offset(model.end), 1, ReadMode::Blocking).map_err(|error| error.to_string())?;
        let ReadOutcome::Batches { bytes, next_offset } = outcome else { return Err(format!("sent away at {from}")) };
        let first = entries(bytes)?.into_iter().find(|entry| entry.offset >= from).map(|entry| entry.offset);
        let expected = found.iter().find(|entry| entry.offset >= from).map(|entry| entry.offset);
        ensure!(first.is_none() || first == expected, "a read at {from} begins with {first:?}, not with {expected:?}");
        ensure!(expected.is_none_or(|expected| first.is_some() || expected >= next_offset.get()), "{expected:?} was passed over");
    }
    Ok(())
}

/// Lookups by time agree with a scan.
fn times(reader: &LogReader, found: &[Found], end: u64, random: &mut SplitMix) -> Check {
    let first = |asked: i64| found.iter().find(|entry| entry.timestamp >= asked).map(|entry| (entry.offset, entry.timestamp));
    let plain = |found: Option<(tidegate_types::Offset, Timestamp)>| found.map(|(offset, timestamp)| (offset.get(), timestamp.millis()));
    let largest = found.iter().map(|entry| entry.timestamp).max();
    let max = plain(reader.find_max_timestamp(offset(end)).map_err(|error| error.to_string())?);
    ensure!(max == largest.and_then(first), "the largest timestamp is said to be {max:?}, but is {:?}", largest.and_then(first));
    for _ in 0..2 {
        let near = found.get(usize::try_from(random.below(found.len().max(1) as u64)).unwrap()).map_or(0, |entry| entry.timestamp);
        let asked = near + i64::try_from(random.below(5)).unwrap() - 2;
        let at = plain(reader.find_timestamp(Timestamp::from_millis(asked), offset(end)).map_err(|error| error.to_string())?);
        ensure!(at == first(asked), "the first record from {asked} on is said to be {at:?}, but is {:?}", first(asked));
    }
    Ok(())
}

/// Each request that is in the log is known: sent again, it is answered with where it stands.
fn producers(log: &PartitionLog, start: u64, end: u64) -> Check {
    let (mut next, mut last) = (start, BTreeMap::new());
    while next < end {
        let outcome = log.reader().read(offset(next), offset(end), 1 << 20, ReadMode::Blocking).map_err(|error| error.to_string())?;
        let ReadOutcome::Batches { bytes, next_offset } = outcome else { return Err(format!("sent away at {next}")) };
        for batch in StoredBatches::new(bytes).flatten() {
            if let Some(stamp) = ProducerStamp::of(&batch.header) {
                last.insert(stamp.id, (stamp, batch.header));
            }
        }
        next = next_offset.get();
    }
    for (stamp, header) in last.into_values() {
        let verdict = log.producers().plan().judge(stamp, header.last_offset_delta.unsigned_abs() + 1);
        // Later ones of a producer may have been compacted.
        let is_known = verdict == (Verdict::Written { offset: header.first_offset() })
            || matches!(verdict, Verdict::Forgotten { .. }) && !stamp.is_keyed();
        ensure!(is_known, "{stamp:?} stands at {}, but is judged {verdict:?}", header.base_offset);
    }
    Ok(())
}

/// Who wrote what is known: of every record, and of the last leader that has begun.
fn epochs(disk: &Faulty, part: &Part, found: &[Found]) -> Check {
    let bytes = read_small(disk, &part.directory().join("leader-epoch-checkpoint")).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes.unwrap_or_default()).map_err(|error| error.to_string())?;
    let entries: Vec<(i32, u64)> = text
        .lines()
        .skip(2)
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(epoch, start)| Some((epoch.parse().ok()?, start.parse().ok()?)))
        .collect();
    for entry in found {
        let noted = entries.iter().rev().find(|(_, start)| *start <= entry.offset).map(|(epoch, _)| *epoch);
        ensure!(noted == Some(entry.epoch), "{} was written by epoch {}, but {noted:?} is noted", entry.offset, entry.epoch);
    }
    Ok(())
}

/// What a start leaves behind: no half-done compaction, nothing before the first segment, and nothing that `verify` would complain of.
pub(super) fn tidy(disk: &Faulty, part: &Part) -> Check {
    let Some(log) = &part.log else { return Ok(()) };
    let first = log.reader().segments().first().map_or(0, |segment| segment.base.get());
    for entry in disk.list(&part.directory()).map_err(|error| error.to_string())? {
        ensure!(!entry.name.ends_with(".cleaned") && !entry.name.ends_with(".swap"), "{} is left", entry.name);
        let base = entry.name.split_once('.').and_then(|(base, _)| base.parse::<u64>().ok());
        // What is known of producers is of use also when what they wrote is gone.
        let is_kept = entry.name.ends_with(".idempotency");
        ensure!(is_kept || base.is_none_or(|base| base >= first), "{} lies before the first segment, {first}", entry.name);
    }
    let mut findings = inspect::verify(disk, &part.directory()).map_err(|error| error.to_string())?.findings;
    // A power cut takes along what was readable and not synced, with `durability=replicated`; and who looks is told so.
    findings.retain(|finding| !finding.reason.starts_with("replication-offset-checkpoint"));
    ensure!(findings.is_empty(), "verify complains of {findings:?}");
    Ok(())
}

/// What a round that went to its end has done: of each key one record is left below the first dirty offset.
pub(super) fn clean(part: &Part, first_dirty: u64) -> Check {
    let Some(log) = &part.log else { return Ok(()) };
    let found = scan(&log.reader(), part.model.start, first_dirty.max(part.model.start), 1 << 20)?;
    let keys: std::collections::BTreeSet<_> = found.iter().map(|entry| entry.key).collect();
    ensure!(keys.len() == found.len() && !keys.contains(&None), "a round up to {first_dirty} left {found:?}");
    Ok(())
}
