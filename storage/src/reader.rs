//! Reading a log beside its writer: a snapshot of the segments, no lock, whole batches as they stand.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_types::batch::StoredBatches;
use tidegate_types::{BatchError, BatchHeader, Offset, StoredBatch, Timestamp, limits};

use crate::Error;
use crate::log::Shared;
use crate::segment::Segment;

/// Whether a read may wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// Only what the page cache holds: for a thread that must not stall.
    Cached,
    /// Whatever it takes.
    Blocking,
}

/// What a read gave.
#[derive(Debug, Clone)]
pub enum ReadOutcome {
    /// Whole batches, back to back; none if there are none in the range. `next_offset` follows the last of them.
    Batches {
        /// The batches. The first may begin before the offset asked for.
        bytes: Bytes,
        /// Where to read on.
        next_offset: Offset,
    },
    /// The disk would have to be waited for.
    WouldBlock,
    /// What was asked for lies before the log's start: it was trimmed, perhaps a moment ago.
    Trimmed,
}

/// Reads one log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

/// How far before the wanted batch an index entry may point, roughly: read along with the wanted bytes.
const SCAN_BYTES: u64 = 8 << 10;

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The first offset kept.
    pub fn log_start(&self) -> Offset {
        self.shared.log_start()
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.shared.segments.load().iter().map(|segment| segment.bytes()).sum()
    }

    /// At most how many bytes a read from `start` could give.
    pub fn bytes_from(&self, start: Offset) -> u64 {
        let segments = self.shared.segments.load();
        let first = holding(&segments, start);
        segments.iter().skip(first).enumerate().fold(0, |sum, (i, segment)| {
            let skipped = if i == 0 { segment.index.lookup(start.since(segment.base)) } else { 0 };
            sum + segment.bytes().saturating_sub(skipped)
        })
    }

    /// Reads whole batches that hold offsets in `[start, upper)`: up to `max_bytes`, but at least one batch if there is one.
    ///
    /// One read stays within one segment, so it may give less than there is.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Corrupt`] where the file does not hold a batch that it should.
    pub fn read(&self, start: Offset, upper: Offset, max_bytes: usize, mode: ReadMode) -> Result<ReadOutcome, Error> {
        // In this order: if a trim has shortened the list, its start is seen as well, and nothing is passed over in silence.
        let segments = self.shared.segments.load_full();
        if start < self.log_start() {
            return Ok(ReadOutcome::Trimmed);
        }
        for segment in segments.iter().skip(holding(&segments, start)) {
            if segment.base >= upper {
                break;
            }
            match read_segment(segment, start, upper, max_bytes, mode)? {
                ReadOutcome::Batches { bytes, .. } if bytes.is_empty() => {}
                found => return Ok(found),
            }
        }
        Ok(ReadOutcome::Batches { bytes: Bytes::new(), next_offset: start })
    }

    /// The first record below `upper` whose timestamp is at least `timestamp`. Waits for the disk.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn find_timestamp(&self, timestamp: Timestamp, upper: Offset) -> Result<Option<(Offset, Timestamp)>, Error> {
        let (segments, log_start) = (self.shared.segments.load_full(), self.log_start());
        for segment in segments.iter().filter(|segment| segment.max_timestamp() >= timestamp.millis() && segment.base < upper) {
            let mut next = segment.base.max(log_start);
            while let Some((bytes, after)) = read_more(segment, next, upper)? {
                if let Some(found) = first_at_or_after(segment, bytes, timestamp, log_start)? {
                    return Ok(Some(found));
                }
                next = after;
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp below `upper`, the first of several. Waits for the disk.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn find_max_timestamp(&self, upper: Offset) -> Result<Option<(Offset, Timestamp)>, Error> {
        let (segments, log_start) = (self.shared.segments.load_full(), self.log_start());
        // The active segment's maximum may come from a batch that is not readable yet; then an earlier one decides.
        let mut best: Option<i64> = None;
        for segment in segments.iter().filter(|segment| segment.base < upper) {
            let mut next = segment.base.max(log_start);
            while let Some((bytes, after)) = read_more(segment, next, upper)? {
                for batch in StoredBatches::new(bytes).filter_map(Result::ok) {
                    best = best.max(max_timestamp(segment, &batch, log_start)?);
                }
                next = after;
            }
        }
        match best {
            Some(millis) => self.find_timestamp(Timestamp::from_millis(millis), upper),
            None => Ok(None),
        }
    }
}

/// The largest timestamp of a batch's records from `log_start` on. Only a batch that a trim has cut through has to be looked into.
fn max_timestamp(segment: &Segment, batch: &StoredBatch, log_start: Offset) -> Result<Option<i64>, Error> {
    if batch.header.first_offset() >= log_start {
        return Ok(Some(batch.header.max_timestamp));
    }
    let corrupt = |error: BatchError| corrupt(segment, 0, error.to_string());
    let mut largest = None;
    for record in &batch.records().map_err(corrupt)? {
        let record = record.map_err(corrupt)?;
        if record.offset >= log_start {
            largest = largest.max(Some(record.timestamp.millis()));
        }
    }
    Ok(largest)
}

/// The place of the segment that holds `start`, or of the first one if it lies before all.
fn holding(segments: &[Arc<Segment>], start: Offset) -> usize {
    segments.partition_point(|segment| segment.base <= start).saturating_sub(1)
}

fn read_more(segment: &Segment, start: Offset, upper: Offset) -> Result<Option<(Bytes, Offset)>, Error> {
    const CHUNK_BYTES: usize = 1 << 20;
    match read_segment(segment, start, upper, CHUNK_BYTES, ReadMode::Blocking)? {
        ReadOutcome::Batches { bytes, next_offset } if !bytes.is_empty() => Ok(Some((bytes, next_offset))),
        _ => Ok(None),
    }
}

fn first_at_or_after(
    segment: &Segment,
    bytes: Bytes,
    timestamp: Timestamp,
    log_start: Offset,
) -> Result<Option<(Offset, Timestamp)>, Error> {
    let corrupt = |error: BatchError| corrupt(segment, 0, error.to_string());
    for batch in StoredBatches::new(bytes) {
        let batch = batch.map_err(corrupt)?;
        if batch.header.max_timestamp < timestamp.millis() || batch.header.is_control() {
            continue;
        }
        for record in &batch.records().map_err(corrupt)? {
            let record = record.map_err(corrupt)?;
            if record.timestamp >= timestamp && record.offset >= log_start {
                return Ok(Some((record.offset, record.timestamp)));
            }
        }
    }
    Ok(None)
}

fn corrupt(segment: &Segment, position: u64, reason: String) -> Error {
    Error::Corrupt { path: segment.path.clone(), position, reason }
}

/// Fills as much of `buf` as the file has; `None` if it would have to wait and must not.
fn fill(segment: &Segment, buf: &mut [u8], position: u64, mode: ReadMode) -> Result<Option<()>, Error> {
    let io = Error::io("read", &segment.path);
    let result = match mode {
        ReadMode::Blocking => crate::io::read_exact_at(segment.file.as_ref(), buf, position).map(Some),
        ReadMode::Cached => match segment.file.try_read_at(buf, position) {
            // Short: a page in the middle is not cached. Everything asked for lies within the written part of the file.
            Ok(Some(n)) if n == buf.len() => Ok(Some(())),
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        },
    };
    result.map_err(io)
}

/// A stretch of a segment in memory.
struct Window {
    position: u64,
    bytes: Vec<u8>,
}

fn read_segment(segment: &Segment, start: Offset, upper: Offset, max_bytes: usize, mode: ReadMode) -> Result<ReadOutcome, Error> {
    let end = segment.bytes();
    let mut position = segment.index.lookup(start.since(segment.base));
    let mut want = SCAN_BYTES + max_bytes as u64;
    loop {
        let length = usize::try_from(want.min(end - position)).unwrap_or(usize::MAX);
        let mut window = Window { position, bytes: vec![0; length] };
        if fill(segment, &mut window.bytes, position, mode)?.is_none() {
            return Ok(ReadOutcome::WouldBlock);
        }
        match select(segment, window, start, upper, max_bytes)? {
            Selected::Batches(bytes, next_offset) => return Ok(ReadOutcome::Batches { bytes, next_offset }),
            Selected::ReadOn { from, bytes } if from + bytes as u64 <= end => {
                position = from;
                want = (bytes as u64).max(SCAN_BYTES + max_bytes as u64);
            }
            Selected::ReadOn { from, .. } if from == end => {
                return Ok(ReadOutcome::Batches { bytes: Bytes::new(), next_offset: start });
            }
            Selected::ReadOn { from, .. } => return Err(corrupt(segment, from, "the last batch is cut short".to_owned())),
        }
    }
}

enum Selected {
    Batches(Bytes, Offset),
    /// The window ends before the first wanted batch does: go on at `from`, with at least so many bytes.
    ReadOn {
        from: u64,
        bytes: usize,
    },
}

/// Walks the headers of a window and cuts out the batches that are wanted.
fn select(segment: &Segment, window: Window, start: Offset, upper: Offset, max_bytes: usize) -> Result<Selected, Error> {
    let mut at = 0;
    let mut chosen: Option<(usize, Offset)> = None;
    while at < window.bytes.len() {
        let here = &window.bytes[at..];
        let from = window.position + at as u64;
        let header = match BatchHeader::parse(here) {
            Ok(header) => header,
            Err(BatchError::Truncated { needed, .. }) if chosen.is_none() => return Ok(Selected::ReadOn { from, bytes: needed }),
            Err(BatchError::Truncated { .. }) => break,
            Err(error) => return Err(corrupt(segment, from, error.to_string())),
        };
        let total = header.total_bytes();
        if header.last_offset() < start {
            at += total;
            continue;
        }
        if header.first_offset() >= upper {
            break;
        }
        let begin = chosen.map_or(at, |(begin, _)| begin);
        if here.len() < total {
            if chosen.is_none() {
                return Ok(Selected::ReadOn { from, bytes: total });
            }
            break;
        }
        if chosen.is_some() && at + total - begin > max_bytes {
            break;
        }
        chosen = Some((begin, header.last_offset().next()));
        at += total;
    }
    match chosen {
        Some((begin, next_offset)) => Ok(Selected::Batches(Bytes::from(window.bytes).slice(begin..at), next_offset)),
        // Skipped up to the window's end, or past it.
        None if at >= window.bytes.len() => {
            let from = window.position + at as u64;
            Ok(Selected::ReadOn { from, bytes: limits::BATCH_HEADER_BYTES })
        }
        None => Ok(Selected::Batches(Bytes::new(), start)),
    }
}
