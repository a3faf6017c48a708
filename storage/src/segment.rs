//! One file of batches. An [`ActiveSegment`] is written at its end; when the log rolls, it is
//! dropped, and with it the only hand that could write the file. Readers hold the
//! [`Segment`] behind either and see only what has been written whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tidegate_types::{BatchHeader, Offset, SequencedBatch};

use crate::Error;
use crate::index::{IndexRule, OffsetIndex};
use crate::io::{File, Io};

/// The part of a segment that readers share.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) index: OffsetIndex,
    /// Bytes written whole; published after the write.
    bytes: AtomicU64,
    /// The largest timestamp of its batches, `i64::MIN` without any.
    max_timestamp: AtomicI64,
}

impl Segment {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(crate) fn max_timestamp(&self) -> i64 {
        self.max_timestamp.load(Ordering::Acquire)
    }
}

/// `%020d.log`, as Kafka names it.
pub(crate) fn file_name(base: Offset, suffix: &str) -> String {
    format!("{:020}.{suffix}", base.get())
}

/// The base offset in a name like `00000000000000000042.log`; `None` for other names.
pub(crate) fn parse_file_name(name: &str) -> Option<Offset> {
    base_of(name, &["log"])
}

/// The base offset in the name of any of a segment's files.
pub(crate) fn parse_any_file_name(name: &str) -> Option<Offset> {
    base_of(name, &["log", "index", "index.tmp", "timeindex", "txnindex"])
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
    rule: IndexRule,
    /// The file may reach to here, with zeros behind the batches.
    prepared: u64,
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
    /// Makes the file and its directory entry durable: what is synced into it later can be found again.
    pub(crate) fn create(io: &dyn Io, directory: &Path, base: Offset, index_interval_bytes: u64) -> Result<Self, Error> {
        let path = directory.join(file_name(base, "log"));
        // Left by an attempt that met a full disk: nothing was ever written to it.
        match io.remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &path)(error)),
            _ => {}
        }
        let file = io.create(&path).map_err(Error::io("create", &path))?;
        io.sync_dir(directory).map_err(Error::io("sync directory", directory))?;
        Ok(Self::over(base, path, file, index_interval_bytes))
    }

    /// A segment over an open file of which nothing is known yet; recovery notes its batches.
    pub(crate) fn over(base: Offset, path: PathBuf, file: Arc<dyn File>, index_interval_bytes: u64) -> Self {
        let (bytes, max_timestamp) = (AtomicU64::new(0), AtomicI64::new(i64::MIN));
        let shared = Arc::new(Segment { base, path, file, index: OffsetIndex::default(), bytes, max_timestamp });
        Self { shared, rule: IndexRule::new(index_interval_bytes), prepared: 0 }
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
        if let Some(entry) = self.rule.batch(self.shared.base, header, position) {
            self.shared.index.push(entry);
        }
        self.shared.max_timestamp.fetch_max(header.max_timestamp, Ordering::AcqRel);
        self.shared.bytes.store(position + header.total_bytes() as u64, Ordering::Release);
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
        let mut written = self.shared.file.write_all_at(&parts, begin);
        self.prepared = self.prepared.max(prepared);
        if !zeros.is_empty() && written.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull) {
            // The batches themselves may fit.
            parts.pop();
            written = self.shared.file.write_all_at(&parts, begin);
        }
        written?;
        for batch in batches {
            self.note(&batch.header);
        }
        Ok(())
    }

    /// Whether there may be something behind the batches.
    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared > self.bytes()
    }

    /// Takes back what stands behind the batches: room that was prepared, or what a failed write has left.
    pub(crate) fn cut_to_end(&mut self) -> std::io::Result<()> {
        self.shared.file.set_len(self.bytes())?;
        self.prepared = 0;
        Ok(())
    }
}

/// So many zeros, at most [`PREPARE_BYTES`].
fn zeros(count: u64) -> &'static [u8] {
    static ZEROS: [u8; PREPARE_BYTES as usize] = [0; PREPARE_BYTES as usize];
    &ZEROS[..usize::try_from(count).unwrap_or(0).min(ZEROS.len())]
}

/// Writes `.index`. It is rebuilt from the log whenever there is doubt, so it needs no sync; but a half-written one must not look whole.
pub(crate) fn write_index(io: &dyn Io, segment: &Segment) -> Result<(), Error> {
    let path = segment.path.with_extension("index");
    crate::io::write_atomically(io, &path, &segment.index.to_bytes()).map_err(Error::io("write", &path))
}
