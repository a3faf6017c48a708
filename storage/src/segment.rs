//! One file of batches. An [`ActiveSegment`] is written at its end; when the log rolls it is sealed, and with it goes the only hand that could write
//! the file. Readers hold the [`Segment`] of either and see only what has been written whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use tidegate_types::{BatchHeader, Offset, SequencedBatch};

use crate::Error;
use crate::disk::Disk;
use crate::error::{is_full, is_unreadable};
use crate::index::{IndexEntry, IndexRule, OffsetIndex};
use crate::io::{File, Io, read_small, write_atomically};
use crate::shelf::{Opened, Place};
use crate::time_index::{TimeEntry, TimeIndex};
use crate::vouched::{IndexSums, Vouched};

/// The part of a segment that readers share.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    pub(crate) path: PathBuf,
    /// Bytes written whole; published after the write.
    bytes: AtomicU64,
    /// The largest timestamp of its batches, `i64::MIN` without any.
    max_timestamp: AtomicI64,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Active(Arc<Opened>),
    Sealed(Sealed),
}

/// What is not written any more: opened when somebody reads it.
#[derive(Debug)]
struct Sealed {
    disk: Disk,
    end: Offset,
    sums: Option<IndexSums>,
    may_have_gaps: bool,
    place: Place,
    /// Kept open while its name is not, or no longer, that of its file.
    pinned: ArcSwapOption<Opened>,
}

impl Segment {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(crate) fn max_timestamp(&self) -> i64 {
        self.max_timestamp.load(Ordering::Acquire)
    }

    /// The offset after its last batch, once it is sealed.
    pub(crate) fn end(&self) -> Option<Offset> {
        match &self.body {
            Body::Active(_) => None,
            Body::Sealed(sealed) => Some(sealed.end),
        }
    }

    /// Whether offsets may be missing in it: it may have been compacted.
    pub(crate) fn may_have_gaps(&self) -> bool {
        matches!(&self.body, Body::Sealed(sealed) if sealed.may_have_gaps)
    }

    /// Keeps it open as it is, whatever becomes of its file's name.
    pub(crate) fn pin(&self, opened: Arc<Opened>) {
        if let Body::Sealed(sealed) = &self.body {
            sealed.pinned.store(Some(opened));
        }
    }

    /// Its file has its name: it may be closed and opened again.
    pub(crate) fn unpin(&self) {
        if let Body::Sealed(sealed) = &self.body
            && let Some(opened) = sealed.pinned.load_full()
        {
            sealed.disk.shelf.put(sealed.place, opened);
            sealed.pinned.store(None);
        }
    }

    /// Closes it, as the shelf does when it needs the place.
    #[cfg(test)]
    pub(crate) fn close(&self) {
        if let Body::Sealed(sealed) = &self.body {
            sealed.disk.shelf.clear(sealed.place);
        }
    }

    /// A segment that a log's writer vouches for.
    pub(crate) fn sealed(disk: Disk, path: PathBuf, known: &Vouched, sums: Option<IndexSums>, may_have_gaps: bool) -> Self {
        let place = disk.shelf.place();
        Self {
            base: known.base,
            path,
            bytes: AtomicU64::new(known.bytes),
            max_timestamp: AtomicI64::new(known.max_timestamp),
            body: Body::Sealed(Sealed { disk, end: known.end, sums, may_have_gaps, place, pinned: ArcSwapOption::empty() }),
        }
    }

    /// What to read it with, if that is at hand; else [`Segment::open`] has to wait for the disk.
    pub(crate) fn at_hand(&self) -> Option<Arc<Opened>> {
        match &self.body {
            Body::Active(opened) => Some(Arc::clone(opened)),
            Body::Sealed(sealed) => sealed.pinned.load_full().or_else(|| sealed.disk.shelf.get(sealed.place)),
        }
    }

    /// What to read it with. May wait for the disk.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corrupt`] if the indexes are lost and the log does not hold what it should.
    pub(crate) fn open(&self) -> Result<Arc<Opened>, Error> {
        if let Some(opened) = self.at_hand() {
            return Ok(opened);
        }
        let Body::Sealed(sealed) = &self.body else { unreachable!("an active segment is at hand") };
        let opened = self.open_by_name(sealed);
        if let Some(pinned) = sealed.pinned.load_full() {
            // Perhaps the name was another segment's already.
            return Ok(pinned);
        }
        let opened = opened?;
        sealed.disk.shelf.put(sealed.place, Arc::clone(&opened));
        Ok(opened)
    }

    fn open_by_name(&self, sealed: &Sealed) -> Result<Arc<Opened>, Error> {
        let file = sealed.disk.io.open(&self.path).map_err(Error::io("open", &self.path))?;
        let indexes = match sealed.sums {
            Some(sums) => read_indexes(sealed.disk.io.as_ref(), &self.path, sums)?,
            None => None,
        };
        let (index, times) = match indexes {
            Some(indexes) => indexes,
            None => crate::recovery::rebuild_indexes(self, sealed.end, file.as_ref())?,
        };
        Ok(Arc::new(Opened { file, index, times }))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Body::Sealed(sealed) = &self.body {
            sealed.disk.shelf.clear(sealed.place);
        }
    }
}

/// The indexes beside a segment, if they are what `sums` say; a lost or damaged one is no error, since they can be made again.
pub(crate) fn read_indexes(io: &dyn Io, log: &Path, sums: IndexSums) -> Result<Option<(OffsetIndex, TimeIndex)>, Error> {
    let read = |suffix: &str, sum: u32| -> Result<Option<Vec<u8>>, Error> {
        let path = log.with_extension(suffix);
        let bytes = match read_small(io, &path) {
            Err(error) if !is_unreadable(&error) => return Err(Error::io("read", &path)(error)),
            bytes => bytes.ok().flatten().filter(|bytes| crc32c::crc32c(bytes) == sum),
        };
        if bytes.is_none() {
            tracing::warn!(path = %path.display(), "the index is lost or damaged; it is made again from the log");
        }
        Ok(bytes)
    };
    let (Some(index), Some(times)) = (read("index", sums.index)?, read("timeindex", sums.times)?) else { return Ok(None) };
    Ok(OffsetIndex::from_bytes(&index).zip(TimeIndex::from_bytes(&times)))
}

/// `%020d.log`, as Kafka names it.
pub(crate) fn file_name(base: Offset, suffix: &str) -> String {
    format!("{:020}.{suffix}", base.get())
}

/// The base offset in a name like `00000000000000000042.log`; `None` for other names.
pub(crate) fn parse_file_name(name: &str) -> Option<Offset> {
    base_of(name, &["log"])
}

/// The offset in a name with that suffix.
pub(crate) fn parse_file_name_of(name: &str, suffix: &str) -> Option<Offset> {
    base_of(name, &[suffix])
}

/// The base offset in the name of any of a segment's files.
pub(crate) fn parse_any_file_name(name: &str) -> Option<Offset> {
    base_of(name, &["log", "index", "index.tmp", "timeindex", "timeindex.tmp", "txnindex", "snapshot", "log.cleaned", "log.swap"])
}

fn base_of(name: &str, suffixes: &[&str]) -> Option<Offset> {
    let (digits, suffix) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) || !suffixes.contains(&suffix) {
        return None;
    }
    digits.parse().ok().and_then(Offset::new)
}

/// The segment at the log's end: the only one that is written.
#[derive(Debug)]
pub(crate) struct ActiveSegment {
    shared: Arc<Segment>,
    opened: Arc<Opened>,
    rule: IndexRule,
    /// The largest timestamp of its batches, at the first batch that has it.
    latest: Option<TimeEntry>,
    /// The largest timestamp of its first batch.
    first_timestamp: Option<i64>,
    /// The file may reach to here, with zeros behind the batches.
    prepared: u64,
    /// Something behind the batches was cut off, and no sync has covered that.
    cut_unsynced: bool,
}

/// How far ahead of its batches a file is prepared with zeros.
///
/// A write into blocks that the file has already leaves nothing to sync but itself; one that makes the file longer has its length and its
/// blocks synced as well, which on ext4 takes a disk nearly twice as long. So a small write takes along the room for those after it.
pub(crate) const PREPARE_BYTES: u64 = 256 << 10;
/// A larger write pays for its own room: preparing it would be writing everything twice.
const PREPARED_WRITE_BYTES_MAX: u64 = 128 << 10;

/// Where a file that is prepared up to `prepared` is to end after a write of `[begin, end)`, at `end` at least.
pub(crate) fn prepare_to(begin: u64, end: u64, prepared: u64, segment_bytes: u64) -> u64 {
    if end <= prepared || end - begin > PREPARED_WRITE_BYTES_MAX {
        return end;
    }
    // As much again as there is at most: many small partitions shall not take far more room than their records.
    (end + begin.min(PREPARE_BYTES)).min(segment_bytes).max(end)
}

impl ActiveSegment {
    /// Makes the file and its directory entry durable: what is synced into it later can be found again. A full disk leaves none of it.
    pub(crate) fn create(io: &dyn Io, directory: &Path, base: Offset, index_interval_bytes: u64) -> Result<Self, Error> {
        let path = directory.join(file_name(base, "log"));
        // Left by an attempt that met a full disk: nothing was ever written to it.
        match io.remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &path)(error)),
            _ => {}
        }
        let file = io.create(&path).map_err(Error::io("create", &path))?;
        if let Err(source) = io.sync_dir(directory) {
            // The log may go on without it, past its name: so it has to be gone for good.
            let undone = io.remove_file(&path).and_then(|()| io.sync_dir(directory));
            let source = match undone {
                Ok(()) => source,
                Err(undo) => std::io::Error::other(format!("{source}; then {undo}")),
            };
            return Err(Error::Io { action: "sync directory", path: directory.to_owned(), source });
        }
        Ok(Self::over(base, path, file, index_interval_bytes))
    }

    /// A segment over an open file of which nothing is known yet; recovery notes its batches.
    pub(crate) fn over(base: Offset, path: PathBuf, file: Arc<dyn File>, index_interval_bytes: u64) -> Self {
        Self::with_indexes(base, path, file, OffsetIndex::default(), TimeIndex::default(), index_interval_bytes)
    }

    fn with_indexes(
        base: Offset,
        path: PathBuf,
        file: Arc<dyn File>,
        index: OffsetIndex,
        times: TimeIndex,
        index_interval_bytes: u64,
    ) -> Self {
        let opened = Arc::new(Opened { file, index, times });
        let (bytes, max_timestamp, body) = (AtomicU64::new(0), AtomicI64::new(i64::MIN), Body::Active(Arc::clone(&opened)));
        let shared = Arc::new(Segment { base, path, bytes, max_timestamp, body });
        let rule = IndexRule::new(index_interval_bytes);
        Self { shared, opened, rule, latest: None, first_timestamp: None, prepared: 0, cut_unsynced: false }
    }

    /// A segment over an open file of which `known` is known, and its indexes; its first batch begins with `first`. Recovery notes what follows.
    pub(crate) fn resumed(
        known: &Vouched,
        path: PathBuf,
        file: Arc<dyn File>,
        (index, times): (OffsetIndex, TimeIndex),
        first: Option<&BatchHeader>,
        index_interval_bytes: u64,
    ) -> Self {
        let (last_indexed, latest) = (index.last(), times.last());
        let mut segment = Self::with_indexes(known.base, path, file, index, times, index_interval_bytes);
        segment.rule.resume(known.bytes - last_indexed.map_or(0, |entry| u64::from(entry.position)).min(known.bytes));
        segment.latest = latest;
        segment.first_timestamp = first.map(|header| header.max_timestamp);
        segment.shared.max_timestamp.store(known.max_timestamp, Ordering::Release);
        segment.shared.bytes.store(known.bytes, Ordering::Release);
        segment
    }

    pub(crate) fn shared(&self) -> &Arc<Segment> {
        &self.shared
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes()
    }

    pub(crate) fn set_index_interval(&mut self, bytes: u64) {
        self.rule.set_interval(bytes);
    }

    /// Takes note of a batch that stands at the end of what is known.
    pub(crate) fn note(&mut self, header: &BatchHeader) {
        let position = self.bytes();
        let relative = u32::try_from(header.last_offset().since(self.shared.base)).unwrap_or(u32::MAX); // The log has rolled before that.
        self.shared.max_timestamp.fetch_max(header.max_timestamp, Ordering::AcqRel);
        // A batch that compaction has emptied keeps its age, but nothing to be found by it.
        if header.record_count > 0 && self.latest.is_none_or(|latest| latest.timestamp < header.max_timestamp) {
            self.latest = Some(TimeEntry { timestamp: header.max_timestamp, relative });
        }
        self.first_timestamp.get_or_insert(header.max_timestamp);
        if let Some(entry) = self.rule.batch(self.shared.base, header, position) {
            self.opened.index.push(entry);
            self.note_latest();
        }
        self.shared.bytes.store(position + header.total_bytes() as u64, Ordering::Release);
    }

    /// Has the time index say what the largest timestamp is now.
    fn note_latest(&self) {
        if let Some(latest) = self.latest {
            self.opened.times.push(latest);
        }
    }

    /// How long, in ms of the records' own time, it has been written to when a record of `timestamp` comes.
    pub(crate) fn age_at(&self, timestamp: i64) -> u64 {
        self.first_timestamp.map_or(0, |first| u64::try_from(timestamp.saturating_sub(first)).unwrap_or(0))
    }

    /// Whether an index has as many entries as fit `bytes`. The time index keeps a place for the entry that closes it.
    pub(crate) fn has_full_index(&self, bytes: u64) -> bool {
        let (offsets, times) = (self.opened.index.len() as u64, self.opened.times.len() as u64);
        offsets >= bytes / IndexEntry::BYTES as u64 || times + 1 >= bytes / TimeEntry::BYTES as u64
    }

    /// How many zeros a write of so many bytes would prepare behind itself.
    pub(crate) fn prepared_by(&self, bytes: u64, segment_bytes: u64) -> u64 {
        let (begin, end) = (self.bytes(), self.bytes() + bytes);
        prepare_to(begin, end, self.prepared, segment_bytes) - end
    }

    /// Writes the batches at the end, in one call, and lets readers see them. `segment_bytes` is how long the file may become if it is to be
    /// prepared for writes that are synced one by one.
    pub(crate) fn write(&mut self, batches: &[SequencedBatch], segment_bytes: Option<u64>) -> std::io::Result<()> {
        let mut parts: Vec<_> = batches.iter().flat_map(SequencedBatch::parts).collect();
        let begin = self.bytes();
        let end = begin + parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let prepared = segment_bytes.map_or(end, |most| prepare_to(begin, end, self.prepared, most));
        let zeros = zeros(prepared - end);
        parts.push(zeros);
        let mut written = self.opened.file.write_all_at(&parts, begin);
        self.prepared = self.prepared.max(prepared);
        if !zeros.is_empty() && written.as_ref().is_err_and(is_full) {
            // The batches themselves may fit.
            parts.pop();
            written = self.opened.file.write_all_at(&parts, begin);
        }
        written?;
        for batch in batches {
            self.note(&batch.header);
        }
        Ok(())
    }

    /// Its file.
    pub(crate) fn file(&self) -> &dyn File {
        self.opened.file.as_ref()
    }

    /// Writes `.index` and `.timeindex` as they are now, the latter closed with the largest timestamp, and vouches for all up to `end`, which has
    /// been synced.
    pub(crate) fn vouch(&self, io: &dyn Io, end: Offset) -> Result<Vouched, Error> {
        let (vouched, indexes) = self.indexes(end);
        indexes.write(io, &self.shared.path)?;
        Ok(vouched)
    }

    /// What [`ActiveSegment::vouch`] vouches for, and the indexes that are to be written for it.
    pub(crate) fn indexes(&self, end: Offset) -> (Vouched, IndexFiles) {
        let files = IndexFiles { index: self.opened.index.to_bytes(), times: self.opened.times.to_bytes_closed_by(self.latest) };
        let sums = IndexSums { index: crc32c::crc32c(&files.index), times: crc32c::crc32c(&files.times) };
        (Vouched { sums, ..self.facts(end) }, files)
    }

    /// What to read it with.
    pub(crate) fn opened(&self) -> Arc<Opened> {
        Arc::clone(&self.opened)
    }

    /// What there is to say of it but for its indexes.
    fn facts(&self, end: Offset) -> Vouched {
        Vouched { base: self.shared.base, end, bytes: self.bytes(), max_timestamp: self.shared.max_timestamp(), sums: NO_INDEXES }
    }

    /// The segment as it is from now on, ending at `end`; `vouched` if its indexes are written.
    pub(crate) fn seal(&self, disk: &Disk, end: Offset, vouched: Option<&Vouched>, may_have_gaps: bool) -> Arc<Segment> {
        self.note_latest();
        let (path, sums) = (self.shared.path.clone(), vouched.map(|vouched| vouched.sums));
        let sealed = Segment::sealed(disk.clone(), path, &self.facts(end), sums, may_have_gaps);
        if let Body::Sealed(Sealed { place, .. }) = &sealed.body {
            // Those who read at the log's end are still at it.
            disk.shelf.put(*place, Arc::clone(&self.opened));
        }
        Arc::new(sealed)
    }

    /// Makes all of it durable, also what was cut off.
    pub(crate) fn sync(&mut self) -> std::io::Result<()> {
        self.opened.file.sync_data()?;
        self.cut_unsynced = false;
        Ok(())
    }

    /// Whether something was cut off behind the batches that a power cut may bring back.
    pub(crate) fn has_unsynced_cut(&self) -> bool {
        self.cut_unsynced
    }

    /// Whether there may be something behind the batches.
    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared > self.bytes()
    }

    /// Takes back what stands behind the batches: room that was prepared, or what a failed write has left.
    pub(crate) fn cut_to_end(&mut self) -> std::io::Result<()> {
        self.opened.file.set_len(self.bytes())?;
        self.prepared = 0;
        self.cut_unsynced = true;
        Ok(())
    }
}

/// A segment's `.index` and `.timeindex`, as they are to be written.
#[derive(Debug)]
pub(crate) struct IndexFiles {
    index: Vec<u8>,
    times: Vec<u8>,
}

impl IndexFiles {
    /// Writes them beside `log`.
    pub(crate) fn write(&self, io: &dyn Io, log: &Path) -> Result<(), Error> {
        for (suffix, bytes) in [("index", &self.index), ("timeindex", &self.times)] {
            let path = log.with_extension(suffix);
            write_atomically(io, &path, bytes).map_err(Error::io("write", &path))?;
        }
        Ok(())
    }
}

/// So many zeros, at most [`PREPARE_BYTES`].
fn zeros(count: u64) -> &'static [u8] {
    static ZEROS: [u8; 256 << 10] = [0; 256 << 10];
    const _: () = assert!(ZEROS.len() as u64 == PREPARE_BYTES, "there are as many as may be asked for");
    &ZEROS[..usize::try_from(count).unwrap_or(0).min(ZEROS.len())]
}

/// So many CRCs as there are index files, of files that hold nothing.
const NO_INDEXES: IndexSums = IndexSums { index: 0, times: 0 };
