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
        Self { shared, rule: IndexRule::new(index_interval_bytes) }
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

    /// Writes the batches at the end, in one call, and lets readers see them.
    pub(crate) fn write(&mut self, batches: &[SequencedBatch]) -> std::io::Result<()> {
        let parts: Vec<_> = batches.iter().flat_map(SequencedBatch::parts).collect();
        self.shared.file.write_all_at(&parts, self.bytes())?;
        for batch in batches {
            self.note(&batch.header);
        }
        Ok(())
    }

    /// Takes back what a failed write may have left behind the end.
    pub(crate) fn cut_to_end(&self) -> std::io::Result<()> {
        self.shared.file.set_len(self.bytes())
    }
}

/// Writes `.index`. It is rebuilt from the log whenever there is doubt, so it needs no sync; but a half-written one must not look whole.
pub(crate) fn write_index(io: &dyn Io, segment: &Segment) -> Result<(), Error> {
    let path = segment.path.with_extension("index");
    crate::io::write_atomically(io, &path, &segment.index.to_bytes()).map_err(Error::io("write", &path))
}
