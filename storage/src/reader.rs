//! Reading a log beside its writer: a snapshot of the segments, no lock, whole batches as they stand.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_types::batch::StoredBatches;
use tidegate_types::{BatchError, BatchHeader, Offset, StoredBatch, Timestamp, limits};

use crate::Error;
use crate::io::File;
use crate::log::Shared;
use crate::segment::Segment;
use crate::time_index::TimeEntry;

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
    pub(crate) shared: Arc<Shared>,
}

/// How far before the wanted batch an index entry may point, roughly: read along with the wanted bytes.
pub(crate) const SCAN_BYTES: u64 = 8 << 10;

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.shared.segments.load_full()
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
            let opened = if i == 0 { segment.at_hand() } else { None };
            let skipped = opened.map_or(0, |opened| opened.index.lookup(start.since(segment.base)));
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
            match read_segment(segment, start, upper, max_bytes, mode) {
                // Its file went while it was looked for.
                Err(error) if is_missing(&error) && start < self.log_start() => return Ok(ReadOutcome::Trimmed),
                Err(error) => return Err(error),
                Ok(ReadOutcome::Batches { bytes, .. }) if bytes.is_empty() => {}
                Ok(found) => return Ok(found),
            }
        }
        Ok(ReadOutcome::Batches { bytes: Bytes::new(), next_offset: start })
    }

    /// The first record below `upper` whose timestamp is at least `timestamp`, whatever the order of timestamps. Waits for the disk.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn find_timestamp(&self, timestamp: Timestamp, upper: Offset) -> Result<Option<(Offset, Timestamp)>, Error> {
        let (segments, log_start) = (self.shared.segments.load_full(), self.log_start());
        for segment in segments.iter().filter(|segment| segment.max_timestamp() >= timestamp.millis() && segment.base < upper) {
            if let Some(found) = self.unless_trimmed(segment, first_in(segment, timestamp, log_start, upper))?.flatten() {
                return Ok(Some(found));
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
        let mut best: Option<i64> = None;
        for (i, segment) in segments.iter().enumerate().take_while(|(_, segment)| segment.base < upper) {
            // One that was compacted may have its age from what is gone.
            let is_whole =
                !segment.may_have_gaps() && segment.base >= log_start && segments.get(i + 1).is_some_and(|next| next.base <= upper);
            let largest = if is_whole {
                Some(segment.max_timestamp())
            } else {
                self.unless_trimmed(segment, largest_in(segment, log_start, upper))?.flatten()
            };
            best = best.max(largest);
        }
        match best {
            Some(millis) => self.find_timestamp(Timestamp::from_millis(millis), upper),
            None => Ok(None),
        }
    }

    /// What was found in a segment; `None` if it was trimmed meanwhile and its file has gone.
    fn unless_trimmed<T>(&self, segment: &Segment, found: Result<T, Error>) -> Result<Option<T>, Error> {
        match found {
            Err(error) if is_missing(&error) && segment.base < self.log_start() => Ok(None),
            found => found.map(Some),
        }
    }
}

pub(crate) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// The first record of a segment in `[log_start, upper)` at or after a time.
fn first_in(segment: &Segment, timestamp: Timestamp, log_start: Offset, upper: Offset) -> Result<Option<(Offset, Timestamp)>, Error> {
    let indexed = segment.open()?.times.lookup(timestamp.millis()).map_or(segment.base, |entry| offset_of(segment, entry));
    let mut next = indexed.max(log_start);
    while let Some((bytes, after)) = read_more(segment, next, upper)? {
        if let Some(found) = first_at_or_after(segment, bytes, timestamp, log_start)? {
            return Ok(Some(found));
        }
        next = after;
    }
    Ok(None)
}

/// The largest timestamp of a segment's records in `[log_start, upper)`: its own maximum may come from one that is not readable yet, or not any more.
fn largest_in(segment: &Segment, log_start: Offset, upper: Offset) -> Result<Option<i64>, Error> {
    let (mut next, mut best) = (segment.base.max(log_start), None);
    let entry = segment.open()?.times.last_before(upper.since(segment.base));
    if let Some(entry) = entry.filter(|_| segment.base >= log_start) {
        best = Some(entry.timestamp);
        next = offset_of(segment, entry);
    }
    while let Some((bytes, after)) = read_more(segment, next, upper)? {
        for batch in StoredBatches::new(bytes).filter_map(Result::ok) {
            best = best.max(max_timestamp(segment, &batch, log_start)?);
        }
        next = after;
    }
    Ok(best)
}

fn offset_of(segment: &Segment, entry: TimeEntry) -> Offset {
    segment.base.checked_add(u64::from(entry.relative)).unwrap_or(Offset::MAX)
}

/// The largest timestamp of a batch's records from `log_start` on. Only a batch that a trim has cut through has to be looked into.
fn max_timestamp(segment: &Segment, batch: &StoredBatch, log_start: Offset) -> Result<Option<i64>, Error> {
    if batch.header.record_count == 0 {
        // It has the one that it had before compaction.
        return Ok(None);
    }
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
pub(crate) fn holding(segments: &[Arc<Segment>], start: Offset) -> usize {
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

pub(crate) fn corrupt(segment: &Segment, position: u64, reason: String) -> Error {
    Error::Corrupt { path: segment.path.clone(), position, reason }
}

/// Fills as much of `buf` as the file has; `None` if it would have to wait and must not.
pub(crate) fn fill(segment: &Segment, file: &dyn File, buf: &mut [u8], position: u64, mode: ReadMode) -> Result<Option<()>, Error> {
    let io = Error::io("read", &segment.path);
    let result = match mode {
        ReadMode::Blocking => crate::io::read_exact_at(file, buf, position).map(Some),
        ReadMode::Cached => match file.try_read_at(buf, position) {
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
    /// What is known of the batch that it begins with.
    expected: Expected,
    bytes: Vec<u8>,
}

/// What an index, a segment's name, or the batch before says of a batch. No CRC covers offsets, so they are held to it: a turned bit must not have
/// readers pass over records.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// It begins with this offset; where offsets may be missing, not before it.
    First(Offset),
    /// It ends with this offset.
    Last(Offset),
}

impl Expected {
    pub(crate) fn check(self, segment: &Segment, header: &BatchHeader) -> Result<(), String> {
        let (first, last) = (header.first_offset(), header.last_offset());
        let holds = match self {
            Self::First(offset) if segment.may_have_gaps() => first >= offset,
            Self::First(offset) => first == offset,
            Self::Last(offset) => last == offset,
        };
        if holds && segment.end().is_none_or(|end| last < end) {
            return Ok(());
        }
        Err(format!("the batch says that it holds offsets {first} to {last}, which cannot be: {self:?}"))
    }
}

fn read_segment(segment: &Segment, start: Offset, upper: Offset, max_bytes: usize, mode: ReadMode) -> Result<ReadOutcome, Error> {
    let opened = match mode {
        ReadMode::Cached => segment.at_hand(),
        ReadMode::Blocking => Some(segment.open()?),
    };
    let Some(opened) = opened else { return Ok(ReadOutcome::WouldBlock) };
    let end = segment.bytes();
    let (mut position, mut expected) = match opened.index.floor(start.since(segment.base)) {
        Some(entry) => {
            let last = segment.base.checked_add(u64::from(entry.relative)).unwrap_or(Offset::MAX);
            (u64::from(entry.position), Expected::Last(last))
        }
        None => (0, Expected::First(segment.base)),
    };
    let mut want = SCAN_BYTES + max_bytes as u64;
    loop {
        let length = usize::try_from(want.min(end.saturating_sub(position))).unwrap_or(usize::MAX);
        let mut window = Window { position, expected, bytes: vec![0; length] };
        if fill(segment, opened.file.as_ref(), &mut window.bytes, position, mode)?.is_none() {
            return Ok(ReadOutcome::WouldBlock);
        }
        match select(segment, window, start, upper, max_bytes)? {
            Selected::Batches(bytes, next_offset) => return Ok(ReadOutcome::Batches { bytes, next_offset }),
            Selected::ReadOn { from, bytes, expected: next } if from + bytes as u64 <= end => {
                (position, expected) = (from, next);
                want = (bytes as u64).max(SCAN_BYTES + max_bytes as u64);
            }
            Selected::ReadOn { from, expected: Expected::First(next), .. } if from == end => {
                if segment.end().is_some_and(|end| end != next) {
                    return Err(corrupt(segment, from, format!("the segment ends at offset {next}, which is too early")));
                }
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
        expected: Expected,
    },
}

/// Walks the headers of a window and cuts out the batches that are wanted.
fn select(segment: &Segment, window: Window, start: Offset, upper: Offset, max_bytes: usize) -> Result<Selected, Error> {
    let (mut at, mut expected) = (0, window.expected);
    let mut chosen: Option<(usize, Offset)> = None;
    while at < window.bytes.len() {
        let here = &window.bytes[at..];
        let from = window.position + at as u64;
        let header = match BatchHeader::parse(here) {
            Ok(header) => header,
            Err(BatchError::Truncated { needed, .. }) if chosen.is_none() => return Ok(Selected::ReadOn { from, bytes: needed, expected }),
            Err(BatchError::Truncated { .. }) => break,
            Err(error) => return Err(corrupt(segment, from, error.to_string())),
        };
        expected.check(segment, &header).map_err(|reason| corrupt(segment, from, reason))?;
        let total = header.total_bytes();
        let after = Expected::First(header.last_offset().next());
        if header.last_offset() < start {
            (at, expected) = (at + total, after);
            continue;
        }
        if header.first_offset() >= upper {
            break;
        }
        let begin = chosen.map_or(at, |(begin, _)| begin);
        if here.len() < total {
            if chosen.is_none() {
                return Ok(Selected::ReadOn { from, bytes: total, expected });
            }
            break;
        }
        if chosen.is_some() && at + total - begin > max_bytes {
            break;
        }
        chosen = Some((begin, header.last_offset().next()));
        (at, expected) = (at + total, after);
    }
    match chosen {
        Some((begin, next_offset)) => Ok(Selected::Batches(Bytes::from(window.bytes).slice(begin..at), next_offset)),
        // Skipped up to the window's end, or past it.
        None if at >= window.bytes.len() => {
            let from = window.position + at as u64;
            Ok(Selected::ReadOn { from, bytes: limits::BATCH_HEADER_BYTES, expected })
        }
        None => Ok(Selected::Batches(Bytes::new(), start)),
    }
}
