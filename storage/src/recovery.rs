//! Opening a log: what its writer vouches for is believed, the rest is read batch by batch and its CRCs checked; a torn tail is cut, damage anywhere else
//! is refused.
//!
//! What can be torn: only what was written after the last sync, so only the end of the last segment (a segment is synced before its
//! successor exists), and never below the recovery point. On a topic that syncs each write before the next one, also never more than one
//! write, and never something whole that good batches follow. Zeros to the end of a file are no damage: they are room that was prepared.
//!
//! A segment that is vouched for (see `vouched`) and has the length it should is not read at all; one that is longer is read from where the vouching
//! ends; a shorter one has lost what was synced, and is refused.
//!
//! What a trim has given up is not read: the files that it had no time to remove are removed first. What a compaction was cut off in is
//! completed or undone before that.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tidegate_types::{BatchError, BatchHeader, Offset, StoredBatch, limits};

use crate::Error;
use crate::compact::settle;
use crate::disk::Disk;
use crate::epochs::Epochs;
use crate::index::{INDEX_INTERVAL_BYTES, IndexRule, OffsetIndex};
use crate::io::{File, Io};
use crate::log::{LogConfig, Notes, PartitionLog, Recovered, remove_leftovers};
use crate::segment::{ActiveSegment, PREPARE_BYTES, Segment, file_name, parse_file_name, read_indexes};
use crate::time_index::{TimeEntry, TimeIndex};
use crate::vouched::{self, Vouched};

/// What opening a log has found and done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments of the log.
    pub segments: usize,
    /// Bytes read and checked.
    pub scanned_bytes: u64,
    /// Bytes of a torn tail that were cut, never acknowledged.
    pub cut_bytes: u64,
    /// What was wrong with the first of them.
    pub cut_reason: Option<String>,
    /// Offsets behind the log's end that were readable before: on a topic that does not sync each write, a machine that went down may have lost them.
    pub lost_records: u64,
    /// The first offset kept.
    pub log_start: Offset,
    /// The next offset to be assigned.
    pub log_end: Offset,
}

impl RecoveryReport {
    /// Nothing read yet of a log that begins at `start`.
    fn empty(start: Offset) -> Self {
        Self { segments: 0, scanned_bytes: 0, cut_bytes: 0, cut_reason: None, lost_records: 0, log_start: start, log_end: start }
    }
}

/// What recovery may believe about a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trust {
    /// Everything below was synced: damage there is no torn write.
    pub(crate) recovery_point: Offset,
    /// The most that can have been written since the last sync; `None` if there is no such bound.
    pub(crate) unsynced_bytes_max: Option<u64>,
}

/// Opens the log in `directory`, which exists. It begins where the note of its start says, or where its first segment does if that is later.
pub(crate) fn open(
    disk: &Disk,
    directory: &Path,
    config: LogConfig,
    trust: Trust,
    notes: Notes,
) -> Result<(PartitionLog, RecoveryReport), Error> {
    let io = disk.io.as_ref();
    // Nothing is given up that was not synced, so a log that ends before its start has lost something.
    let note = &notes.start;
    let trust = Trust { recovery_point: trust.recovery_point.max(note.get()), ..trust };
    settle(io, directory)?;
    let known = vouched::read(io, directory)?;
    let vouched_end = known.iter().map(|known| known.end).max().unwrap_or(Offset::ZERO);
    let trust = Trust { recovery_point: trust.recovery_point.max(vouched_end), ..trust };
    let (mut bases, indexed) = segment_bases(io, directory)?;
    if bases.is_empty() {
        if trust.recovery_point > Offset::ZERO {
            let reason = format!("there is no segment, but everything below offset {} was synced", trust.recovery_point);
            return Err(Error::Corrupt { path: directory.to_owned(), position: 0, reason });
        }
        let active = ActiveSegment::create(io, directory, Offset::ZERO, config.index_interval_bytes)?;
        let (log_start, log_end) = (Offset::ZERO, Offset::ZERO);
        let epochs = Epochs::default();
        let recovered = Recovered { sealed: Vec::new(), active, vouched: Vec::new(), active_vouched: None, epochs, log_start, log_end };
        let log = PartitionLog::new(disk.clone(), directory.to_owned(), config, recovered, notes);
        return Ok((log, RecoveryReport { segments: 1, ..RecoveryReport::empty(Offset::ZERO) }));
    }
    remove_leftovers(io, directory, &mut bases, note.get())?;
    let log_start = bases[0].max(note.get());
    if let Some(lost) = known.iter().find(|known| known.base < bases[0] && known.end > note.get()) {
        let reason = format!("the segment that begins at offset {} is gone, but its records were not given up", lost.base);
        return Err(Error::Corrupt { path: directory.to_owned(), position: 0, reason });
    }
    let was_compacted = notes.clean.get().is_some();
    let mut opening = Opening {
        disk,
        directory,
        config,
        trust,
        was_compacted,
        indexed,
        epochs: Epochs::default(),
        report: RecoveryReport::empty(bases[0]),
        is_resumed: false,
    };
    opening.report.segments = bases.len();
    opening.report.log_start = log_start;
    let (mut sealed, mut vouched) = (Vec::with_capacity(bases.len()), Vec::with_capacity(bases.len()));
    let Some((last, others)) = bases.split_last() else { unreachable!("there is a segment") };
    let noted_epochs = Epochs::read(io, directory)?;
    // Who has led the log stands in its batches as well: then all of them are read.
    let about = |base: Offset| known.iter().find(|known| known.base == base && noted_epochs.is_some());
    for (base, next) in others.iter().zip(&bases[1..]) {
        let (segment, known) = opening.sealed(*base, *next, about(*base))?;
        sealed.push(segment);
        vouched.extend(known);
    }
    let mut active = opening.active(*last, about(*last))?;
    let (report, is_resumed, read_epochs) = (opening.report, opening.is_resumed, opening.epochs);
    if report.log_end < trust.recovery_point {
        let reason = format!("the log ends at offset {}, but everything below {} was synced", report.log_end, trust.recovery_point);
        return Err(Error::Corrupt { path: active.shared().path.clone(), position: active.bytes(), reason });
    }
    // Prepared room, if there is any left.
    if io.length(&active.shared().path).map_err(Error::io("read the length of", &active.shared().path))? > active.bytes() {
        active.cut_to_end().map_err(Error::io("truncate", &active.shared().path))?;
    }
    // After a kill the page cache may hold what the disk does not; from here on it counts as synced, so it must be.
    active.sync().map_err(Error::io("sync", &active.shared().path))?;
    io.sync_dir(directory).map_err(Error::io("sync directory", directory))?;
    // If its indexes were lost, they are to be written again.
    let active_vouched = about(*last).filter(|known| known.bytes <= active.bytes() && is_resumed).copied();
    let is_lost = noted_epochs.is_none();
    let mut epochs = noted_epochs.unwrap_or(read_epochs);
    if epochs.cut_end(report.log_end) | epochs.cut_start(log_start) | is_lost {
        epochs.write(io, directory)?;
    }
    let has_news = vouched.iter().any(|segment| !known.contains(segment));
    let recovered = Recovered { sealed, active, vouched, active_vouched, epochs, log_start, log_end: report.log_end };
    let mut log = PartitionLog::new(disk.clone(), directory.to_owned(), config, recovered, notes);
    if has_news {
        log.vouch_again();
    }
    log.restore_producers(was_compacted)?;
    Ok((log, report))
}

/// A log that is being opened, segment by segment.
struct Opening<'a> {
    disk: &'a Disk,
    directory: &'a Path,
    config: LogConfig,
    trust: Trust,
    /// Offsets may be missing within its sealed segments: only those were ever compacted.
    was_compacted: bool,
    /// Segments that have both indexes.
    indexed: HashSet<Offset>,
    /// Who has written what was read.
    epochs: Epochs,
    report: RecoveryReport,
    /// Whether the last segment that was read was read from where the vouching ends.
    is_resumed: bool,
}

impl Opening<'_> {
    /// A segment with another one after it, which begins at `next`.
    fn sealed(&mut self, base: Offset, next: Offset, known: Option<&Vouched>) -> Result<(Arc<Segment>, Option<Vouched>), Error> {
        let path = self.directory.join(file_name(base, "log"));
        self.check_base(&path, base)?;
        if let Some(known) = known.filter(|known| known.end == next) {
            let length = self.disk.io.length(&path).map_err(Error::io("read the length of", &path))?;
            if length == known.bytes && self.indexed.contains(&base) {
                self.report.log_end = known.end;
                let segment = Segment::sealed(self.disk.clone(), path, known, Some(known.sums), self.was_compacted);
                return Ok((Arc::new(segment), Some(*known)));
            }
        }
        let segment = self.read(base, &path, known, false)?;
        let end = self.report.log_end;
        let vouched = segment.vouch(self.disk.io.as_ref(), end);
        if let Err(error) = &vouched {
            tracing::warn!(%error, "the indexes of a segment were not written");
        }
        let vouched = vouched.ok();
        Ok((segment.seal(self.disk, end, vouched.as_ref(), self.was_compacted), vouched))
    }

    fn active(&mut self, base: Offset, known: Option<&Vouched>) -> Result<ActiveSegment, Error> {
        let path = self.directory.join(file_name(base, "log"));
        self.check_base(&path, base)?;
        self.read(base, &path, known, true)
    }

    fn check_base(&self, path: &Path, base: Offset) -> Result<(), Error> {
        let expected = self.report.log_end;
        if base == expected {
            return Ok(());
        }
        let reason = format!("the segment begins at offset {base}, but the one before ends at {expected}");
        Err(Error::Corrupt { path: path.to_owned(), position: 0, reason })
    }

    /// Reads what nobody vouches for.
    fn read(&mut self, base: Offset, path: &Path, known: Option<&Vouched>, is_last: bool) -> Result<ActiveSegment, Error> {
        let mut scanned = self.scan_segment(base, path, known, self.was_compacted && !is_last)?;
        self.report.log_end = scanned.next_offset;
        if let Some(damage) = scanned.damage {
            // What is vouched for is no torn write, whatever the checkpoint of recovery points says.
            let recovery_point = known.map_or(Offset::ZERO, |known| known.end).max(self.trust.recovery_point);
            let trust = Trust { recovery_point, ..self.trust };
            cut_or_refuse(&mut scanned.segment, damage, is_last, scanned.next_offset, trust, &mut self.report)?;
        }
        if let Some(known) = known.filter(|known| self.report.log_end < known.end) {
            let reason = format!("the segment ends at offset {}, but everything below {} was synced", self.report.log_end, known.end);
            return Err(Error::Corrupt { path: scanned.segment.shared().path.clone(), position: scanned.segment.bytes(), reason });
        }
        Ok(scanned.segment)
    }

    fn scan_segment(&mut self, base: Offset, path: &Path, known: Option<&Vouched>, may_have_gaps: bool) -> Result<Scanned, Error> {
        let file = self.disk.io.open(path).map_err(Error::io("open", path))?;
        let (mut segment, mut next_offset) = match self.resumed(path, &file, known)? {
            Some((segment, end)) => (segment, end),
            None => (ActiveSegment::over(base, path.to_owned(), Arc::clone(&file), self.config.index_interval_bytes), base),
        };
        let begun_at = segment.bytes();
        self.is_resumed = begun_at > 0;
        let damage = scan(file.as_ref(), begun_at, &mut |_, batch| {
            check_next(&batch.header, next_offset, may_have_gaps)?;
            next_offset = batch.header.last_offset().next();
            segment.note(&batch.header);
            self.disk.recovered.fetch_add(batch.bytes().len() as u64, Ordering::Relaxed);
            self.epochs.note(&batch.header);
            Ok(())
        })
        .map_err(Error::io("read", path))?;
        self.report.scanned_bytes += segment.bytes() - begun_at;
        let damage = damage.map(|reason| -> Result<Damage, Error> {
            let bytes = written_behind(file.as_ref(), segment.bytes()).map_err(Error::io("read", path))?;
            Ok(Damage { bytes, reason })
        });
        Ok(Scanned { segment, next_offset, damage: damage.transpose()? })
    }

    /// The segment as far as it is vouched for, if its indexes are there; and where that ends.
    fn resumed(&self, path: &Path, file: &Arc<dyn File>, known: Option<&Vouched>) -> Result<Option<(ActiveSegment, Offset)>, Error> {
        let Some(known) = known.filter(|known| known.bytes > 0) else { return Ok(None) };
        let length = file.len().map_err(Error::io("read the length of", path))?;
        if length < known.bytes {
            let reason = format!("the file has {length} bytes, but {} were synced", known.bytes);
            return Err(Error::Corrupt { path: path.to_owned(), position: length, reason });
        }
        let Some(indexes) = read_indexes(self.disk.io.as_ref(), path, known.sums)? else { return Ok(None) };
        let mut head = [0; limits::BATCH_HEADER_BYTES];
        crate::io::read_exact_at(file.as_ref(), &mut head, 0).map_err(Error::io("read", path))?;
        let first = match BatchHeader::parse(&head) {
            Ok(first) => first,
            Err(error) => return Err(Error::Corrupt { path: path.to_owned(), position: 0, reason: error.to_string() }),
        };
        let interval = self.config.index_interval_bytes;
        let segment = ActiveSegment::resumed(known, path.to_owned(), Arc::clone(file), indexes, Some(&first), interval);
        Ok(Some((segment, known.end)))
    }
}

/// Makes a sealed segment's indexes again, by reading all of it.
///
/// # Errors
/// [`Error::Corrupt`] if it does not hold whole batches up to `end`; [`Error::Io`].
pub(crate) fn rebuild_indexes(segment: &Segment, end: Offset, file: &dyn File) -> Result<(OffsetIndex, TimeIndex), Error> {
    let (index, times) = (OffsetIndex::default(), TimeIndex::default());
    let mut rule = IndexRule::new(INDEX_INTERVAL_BYTES);
    let (mut next_offset, mut good_bytes, mut latest) = (segment.base, 0, i64::MIN);
    let damage = scan(file, 0, &mut |position, batch| {
        let header = &batch.header;
        if position >= segment.bytes() {
            return Err("the segment ends before it".to_owned());
        }
        check_next(header, next_offset, segment.may_have_gaps())?;
        next_offset = header.last_offset().next();
        good_bytes = position + header.total_bytes() as u64;
        if let Some(entry) = rule.batch(segment.base, header, position) {
            index.push(entry);
        }
        if header.record_count > 0 && header.max_timestamp > latest {
            latest = header.max_timestamp;
            let relative = u32::try_from(header.last_offset().since(segment.base)).unwrap_or(u32::MAX);
            times.push(TimeEntry { timestamp: latest, relative });
        }
        Ok(())
    })
    .map_err(Error::io("read", &segment.path))?;
    if next_offset == end && good_bytes == segment.bytes() {
        return Ok((index, times));
    }
    let reason = damage.unwrap_or_else(|| format!("the segment ends at offset {next_offset}, but the next one begins at {end}"));
    Err(Error::Corrupt { path: segment.path.clone(), position: good_bytes, reason })
}

/// The segments in a log's directory, in order, and of which of them the indexes are there.
fn segment_bases(io: &dyn Io, directory: &Path) -> Result<(Vec<Offset>, HashSet<Offset>), Error> {
    let entries = io.list(directory).map_err(Error::io("list", directory))?;
    let names: HashSet<_> = entries.into_iter().filter(|entry| !entry.is_dir).map(|entry| entry.name).collect();
    let mut bases: Vec<_> = names.iter().filter_map(|name| parse_file_name(name)).collect();
    bases.sort_unstable();
    let indexed =
        bases.iter().copied().filter(|base| ["index", "timeindex"].iter().all(|suffix| names.contains(&file_name(*base, suffix))));
    let indexed = indexed.collect();
    Ok((bases, indexed))
}

struct Scanned {
    segment: ActiveSegment,
    next_offset: Offset,
    damage: Option<Damage>,
}

/// What stands behind the last good batch of a segment.
#[derive(Debug, Clone)]
pub(crate) struct Damage {
    /// Up to the last that is not zero.
    pub(crate) bytes: u64,
    pub(crate) reason: String,
}

/// Says what is wrong with the place of a batch where `next` is the next offset: offsets rise, and none is missing but where compaction has been.
pub(crate) fn check_next(header: &BatchHeader, next: Offset, may_have_gaps: bool) -> Result<(), String> {
    let first = header.first_offset();
    if first == next || may_have_gaps && first > next {
        return Ok(());
    }
    Err(format!("the batch begins at offset {first}, but {next} comes next"))
}

/// Bytes from `position` to the last one that is not zero.
pub(crate) fn written_behind(file: &dyn File, position: u64) -> std::io::Result<u64> {
    let mut end = file.len()?;
    let mut buf = vec![0; ZEROS_CHUNK_BYTES];
    while end > position {
        let length = (end - position).min(ZEROS_CHUNK_BYTES as u64);
        let chunk = &mut buf[..usize::try_from(length).map_err(std::io::Error::other)?];
        crate::io::read_exact_at(file, chunk, end - length)?;
        if let Some(last) = chunk.iter().rposition(|byte| *byte != 0) {
            return Ok(end - length + last as u64 + 1 - position);
        }
        end -= length;
    }
    Ok(0)
}

const ZEROS_CHUNK_BYTES: usize = 64 << 10;

fn cut_or_refuse(
    segment: &mut ActiveSegment,
    damage: Damage,
    is_last: bool,
    next_offset: Offset,
    trust: Trust,
    report: &mut RecoveryReport,
) -> Result<(), Error> {
    let (path, position) = (segment.shared().path.clone(), segment.bytes());
    let why = why_refused(segment.file(), position, &damage, is_last, next_offset, trust).map_err(Error::io("read", &path))?;
    if let Some(why) = why {
        return Err(Error::Corrupt { path, position, reason: format!("{}; {why}", damage.reason) });
    }
    segment.cut_to_end().map_err(Error::io("truncate", &path))?;
    tracing::warn!(path = %path.display(), position, cut_bytes = damage.bytes, reason = %damage.reason, "cut a torn tail");
    report.cut_bytes = damage.bytes;
    report.cut_reason = Some(damage.reason);
    Ok(())
}

/// Why damage behind the last good batch, which ends at `position` and before `next_offset`, is no torn write; `None` if it is one, and is cut.
///
/// # Errors
/// Only the system's.
pub(crate) fn why_refused(
    file: &dyn File,
    position: u64,
    damage: &Damage,
    is_last: bool,
    next_offset: Offset,
    trust: Trust,
) -> std::io::Result<Option<String>> {
    if !is_last {
        return Ok(Some("a later segment exists, so this one was synced and is no torn write".to_owned()));
    }
    if next_offset < trust.recovery_point {
        return Ok(Some(format!("offsets below {} were synced, so this is no torn write", trust.recovery_point)));
    }
    if trust.unsynced_bytes_max.is_some_and(|most| damage.bytes > most) {
        return Ok(Some(format!("{} bytes follow, more than one unsynced write has", damage.bytes)));
    }
    if trust.unsynced_bytes_max.is_some() && is_rot(file, position, damage, next_offset)? {
        return Ok(Some("good batches follow and nothing is missing before them, so this was synced and is no torn write".to_owned()));
    }
    Ok(None)
}

/// Whether damage before good batches is rot rather than a write that a power cut tore.
///
/// Each write is synced before the next one, so what follows a torn batch belongs to the same write; and what a power cut keeps from a
/// file's end reads as zeros, block by block. So a stretch without such a hole that ends in a good batch was once whole.
fn is_rot(file: &dyn File, position: u64, damage: &Damage, next_offset: Offset) -> std::io::Result<bool> {
    /// What a disk writes whole or not at all, at least; it begins at a multiple of that in the file.
    const BLOCK: usize = 512;
    // With the zeros behind: the last batch may end in some.
    let length = (file.len()? - position).min(damage.bytes + PREPARE_BYTES);
    let mut bytes = BytesMut::zeroed(usize::try_from(length).map_err(std::io::Error::other)?);
    crate::io::read_exact_at(file, &mut bytes, position)?;
    let bytes = bytes.freeze();
    let is_good_batch = |at: &usize| {
        let rest = bytes.slice(*at..);
        // Magic first: it is wrong nearly everywhere.
        rest.get(16) == Some(&2)
            && StoredBatch::parse(&rest).is_ok_and(|batch| batch.header.first_offset() > next_offset && batch.verify().is_ok())
    };
    let Some(good) = (1..bytes.len()).find(is_good_batch) else { return Ok(false) };
    let in_block = usize::try_from(position % BLOCK as u64).map_err(std::io::Error::other)?;
    let block_rest = BLOCK - in_block;
    let whole_blocks = bytes.get(block_rest % BLOCK..good).unwrap_or_default().chunks_exact(BLOCK);
    let has_hole = whole_blocks.into_iter().any(|block| block.iter().all(|byte| *byte == 0));
    // The first block that was lost may have held good batches before the write, and end soon after it began. What belongs there begins with its
    // offset, so with fewer zeros; what follows may begin with some.
    let zeros_of_offset = next_offset.get().to_be_bytes().iter().take_while(|byte| **byte == 0).count();
    let has_short_hole = block_rest > zeros_of_offset && bytes.iter().take_while(|byte| **byte == 0).count() >= block_rest;
    Ok(!has_hole && !has_short_hole)
}

/// Reads batch by batch from the position `from` on, CRC checked, and shows each with its position to `visit`. `None` if the file ends with a whole batch, or with
/// zeros behind it; else what is wrong behind the last good one (`visit`'s own objections included).
///
/// # Errors
/// Only the system's.
pub(crate) fn scan(
    file: &dyn File,
    from: u64,
    visit: &mut dyn FnMut(u64, &StoredBatch) -> Result<(), String>,
) -> std::io::Result<Option<String>> {
    const CHUNK_BYTES: u64 = 4 << 20;
    let end = file.len()?;
    let mut position = from;
    let mut window = Bytes::new();
    while position < end {
        let needed = match BatchHeader::parse(&window) {
            Ok(header) => header.total_bytes(),
            Err(BatchError::Truncated { needed, .. }) => needed,
            Err(error) => return no_batch(file, position, error.to_string()),
        };
        if window.len() < needed.max(limits::BATCH_HEADER_BYTES) {
            if end - position < needed as u64 {
                return no_batch(file, position, format!("the batch is cut short: {} of {needed} bytes", end - position));
            }
            let length = CHUNK_BYTES.max(needed as u64).min(end - position);
            let mut buf = BytesMut::zeroed(usize::try_from(length).map_err(std::io::Error::other)?);
            crate::io::read_exact_at(file, &mut buf, position)?;
            window = buf.freeze();
            continue;
        }
        let checked = StoredBatch::parse(&window).and_then(|batch| batch.verify().map(|()| batch));
        let batch = match checked {
            Ok(batch) => batch,
            Err(error) => return Ok(Some(error.to_string())),
        };
        if let Err(objection) = visit(position, &batch) {
            return Ok(Some(objection));
        }
        position += batch.bytes().len() as u64;
        window = window.slice(batch.bytes().len()..);
    }
    Ok(None)
}

/// What is wrong at `position`, unless there is nothing but zeros from there on.
fn no_batch(file: &dyn File, position: u64, reason: String) -> std::io::Result<Option<String>> {
    let mut at = position;
    let mut buf = vec![0; ZEROS_CHUNK_BYTES];
    loop {
        let read = file.read_at(&mut buf, at)?;
        if read == 0 {
            return Ok(None);
        }
        if buf[..read].iter().any(|byte| *byte != 0) {
            return Ok(Some(reason));
        }
        at += read as u64;
    }
}
