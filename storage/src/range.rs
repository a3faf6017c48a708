//! Stored batches as stretches of files, for those who send them without looking at them.
//!
//! [`LogReader::locate`] finds where the batches of a range of offsets stand, over as many segments as it takes, and reads only the headers at
//! either end. A [`FileRange`] holds its file open: a segment that is deleted stays readable for whoever has one.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use tidegate_types::{BatchError, BatchHeader, Offset};

use crate::Error;
use crate::index::IndexEntry;
use crate::io::File;
use crate::reader::{Expected, LogReader, ReadMode, SCAN_BYTES, corrupt, fill, holding, is_missing};
use crate::segment::Segment;
use crate::shelf::Opened;

/// A stretch of an open file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FileRange {
    file: Arc<dyn File>,
    position: u64,
    bytes: u64,
}

/// Every so many bytes a page is asked whether it is cached. Pages come and go in runs, in the order in which they were written, or read ahead
/// by as much as this; and each question is a call: at every 16 KiB they took a sixth of the time that sending takes.
const SAMPLE_BYTES: usize = 128 << 10;
/// The disk is told of so many bytes behind those that are waited for.
const AHEAD_BYTES: u64 = 4 << 20;
/// What is read to be cached goes through a buffer of this size.
const SCRATCH_BYTES: usize = 128 << 10;

impl FileRange {
    /// Where it begins in its file.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How long it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The system's handle; `None` for a file that is none of the system's.
    pub fn handle(&self) -> Option<BorrowedFd<'_>> {
        self.file.handle()
    }

    /// Takes the first bytes off it, at most `bytes`.
    pub fn split_front(&mut self, bytes: u64) -> Self {
        let front = Self { file: Arc::clone(&self.file), position: self.position, bytes: bytes.min(self.bytes) };
        self.position += front.bytes;
        self.bytes -= front.bytes;
        front
    }

    /// Reads all of it. Waits for the disk.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::UnexpectedEof`] if the file has become shorter.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.bytes).map_err(io::Error::other)?];
        crate::io::read_exact_at(self.file.as_ref(), &mut bytes, self.position)?;
        Ok(bytes)
    }

    /// Whether it seems to be in the page cache, from samples. Does not wait for the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn is_cached(&self) -> io::Result<bool> {
        let end = self.position + self.bytes;
        let samples = (self.position..end).step_by(SAMPLE_BYTES).chain(end.checked_sub(1));
        for position in samples {
            if self.file.try_read_at(&mut [0], position)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Brings it into the page cache, and has the disk begin with what follows in the file. Waits for the disk.
    ///
    /// # Errors
    /// As [`FileRange::read`].
    pub fn load(&self) -> io::Result<()> {
        let end = self.position + self.bytes;
        self.file.will_need(self.position, self.bytes + AHEAD_BYTES);
        let mut scratch = [0; SCRATCH_BYTES];
        let mut position = self.position;
        while position < end {
            let length = usize::try_from(end - position).map_or(SCRATCH_BYTES, |left| left.min(SCRATCH_BYTES));
            crate::io::read_exact_at(self.file.as_ref(), &mut scratch[..length], position)?;
            position += length as u64;
        }
        Ok(())
    }
}

/// What [`LogReader::locate`] found.
#[derive(Debug, Clone)]
pub enum Located {
    /// Whole batches, back to back over all ranges; none if there are none. `next_offset` follows the last of them.
    Ranges {
        /// One for each segment. The first batch may begin before the offset asked for.
        ranges: Vec<FileRange>,
        /// Where to read on.
        next_offset: Offset,
    },
    /// The disk would have to be waited for.
    WouldBlock,
    /// What was asked for lies before the log's start: it was trimmed, perhaps a moment ago.
    Trimmed,
}

/// Segments in one answer at most: each is a file held open for as long as a client takes to read.
const RANGES_MAX: usize = 64;
/// Windows of headers that are walked where nobody may wait: with usual indexes it is one or two at each end.
const CACHED_WINDOWS_MAX: usize = 64;

/// The wanted part of one segment: whole batches from `begin` to `end`.
struct Part {
    begin: u64,
    end: u64,
    /// Whether nothing of the segment is left behind it.
    is_to_end: bool,
    next_offset: Offset,
}

impl LogReader {
    /// Finds whole batches that hold offsets in `[start, upper)`: up to `max_bytes`, but at least one batch if there is one. Only the
    /// headers around the range's ends are read; what lies between was checked when it was written or recovered.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Corrupt`] where the file does not hold a batch that it should.
    pub fn locate(&self, start: Offset, upper: Offset, max_bytes: usize, mode: ReadMode) -> Result<Located, Error> {
        // In this order: if a trim has shortened the list, its start is seen as well, and nothing is passed over in silence.
        let segments = self.segments();
        if start < self.log_start() {
            return Ok(Located::Trimmed);
        }
        let (mut ranges, mut next_offset) = (Vec::new(), start);
        let mut room = max_bytes as u64;
        for at in holding(&segments, start)..segments.len() {
            let segment = &segments[at];
            if segment.base >= upper || ranges.len() == RANGES_MAX {
                break;
            }
            let wanted = Wanted { start: next_offset, upper, room, at_least_one: ranges.is_empty() };
            let successor = segments.get(at + 1).map(|next| next.base);
            let opened = match (mode, segment.at_hand()) {
                (_, Some(opened)) => opened,
                (ReadMode::Cached, None) => return Ok(Located::WouldBlock),
                (ReadMode::Blocking, None) => match segment.open() {
                    // Its file went while it was looked for.
                    Err(error) if is_missing(&error) && start < self.log_start() => return Ok(Located::Trimmed),
                    opened => opened?,
                },
            };
            let mut headers = Headers::new(segment, &opened, mode);
            let Some(part) = part_of(&mut headers, successor, &wanted)? else {
                return Ok(Located::WouldBlock);
            };
            let bytes = part.end - part.begin;
            if bytes > 0 {
                ranges.push(FileRange { file: Arc::clone(&opened.file), position: part.begin, bytes });
                next_offset = part.next_offset;
                room = room.saturating_sub(bytes);
            }
            if !part.is_to_end || room == 0 {
                break;
            }
        }
        Ok(Located::Ranges { ranges, next_offset })
    }
}

struct Wanted {
    start: Offset,
    upper: Offset,
    room: u64,
    at_least_one: bool,
}

/// The part of a segment that is wanted, perhaps an empty one; `None` if the disk would have to be waited for.
fn part_of(headers: &mut Headers<'_>, successor: Option<Offset>, wanted: &Wanted) -> Result<Option<Part>, Error> {
    let Some(begin) = headers.find_start(wanted.start)? else { return Ok(None) };
    if begin == headers.end {
        return Ok(Some(Part { begin, end: begin, is_to_end: true, next_offset: wanted.start }));
    }
    if let Some(next_offset) = successor.filter(|base| *base <= wanted.upper && headers.end - begin <= wanted.room) {
        return Ok(Some(Part { begin, end: headers.end, is_to_end: true, next_offset }));
    }
    let last = wanted.upper.saturating_sub(1).since(headers.segment.base);
    let index = &headers.opened.index;
    let mut fits = index.floor_position(begin.saturating_add(wanted.room));
    let may_have_gaps = headers.segment.may_have_gaps();
    if may_have_gaps {
        // What is taken ends where its last batch says, not where the next one begins: so one that is certainly taken is looked at.
        fits = fits.and_then(|entry| index.floor_position(u64::from(entry.position).saturating_sub(1)));
    }
    let floors = index.floor(last).zip(fits);
    let floor = floors.map(|(a, b)| if a.position < b.position { a } else { b });
    // An entry may be there before its batch is.
    let floor = floor.filter(|entry| (begin + 1..headers.end).contains(&u64::from(entry.position)));
    let mut part = Part { begin, end: floor.map_or(begin, |entry| headers.jump(entry)), is_to_end: false, next_offset: wanted.start };
    while part.end < headers.end {
        let Some(header) = headers.at(part.end)? else { return Ok(None) };
        let is_first = part.end == begin;
        let after = part.end + header.total_bytes() as u64;
        let fits = after - begin <= wanted.room || is_first && wanted.at_least_one;
        if header.first_offset() >= wanted.upper || !fits {
            if !is_first && !may_have_gaps {
                part.next_offset = header.first_offset();
            }
            break;
        }
        part.end = after;
        part.next_offset = header.last_offset().next();
    }
    part.is_to_end = part.end == headers.end;
    Ok(Some(part))
}

/// Headers of one segment, read through a window.
struct Headers<'a> {
    segment: &'a Segment,
    opened: &'a Opened,
    /// What is known of the batch at a position.
    expected: (u64, Expected),
    /// Where the segment's batches end.
    end: u64,
    mode: ReadMode,
    position: u64,
    window: Vec<u8>,
    windows: usize,
}

impl<'a> Headers<'a> {
    fn new(segment: &'a Segment, opened: &'a Opened, mode: ReadMode) -> Self {
        let (end, expected) = (segment.bytes(), (0, Expected::First(segment.base)));
        Self { segment, opened, expected, end, mode, position: 0, window: Vec::new(), windows: 0 }
    }

    /// Goes on at an entry of the index; gives its position.
    fn jump(&mut self, entry: IndexEntry) -> u64 {
        let last = self.segment.base.checked_add(u64::from(entry.relative)).unwrap_or(Offset::MAX);
        self.expected = (u64::from(entry.position), Expected::Last(last));
        self.expected.0
    }

    /// Where the batch begins that holds `start`, or the first one after it; the segment's end if there is none.
    fn find_start(&mut self, start: Offset) -> Result<Option<u64>, Error> {
        if start <= self.segment.base {
            return Ok(Some(0));
        }
        let floor = self.opened.index.floor(start.since(self.segment.base));
        let mut at = floor.map_or(0, |entry| self.jump(entry));
        while at < self.end {
            match self.at(at)? {
                None => return Ok(None),
                Some(header) if header.last_offset() >= start => break,
                Some(header) => at += header.total_bytes() as u64,
            }
        }
        Ok(Some(at))
    }

    /// The header of the batch that begins at `position`, all of which lies in the segment; `None` if it would have to be waited for.
    fn at(&mut self, position: u64) -> Result<Option<BatchHeader>, Error> {
        let segment = self.segment;
        let damaged = |error: BatchError| corrupt(segment, position, error.to_string());
        if let Some(header) = self.in_window(position) {
            return self.whole(header.map_err(damaged)?, position).map(Some);
        }
        if self.mode == ReadMode::Cached && self.windows == CACHED_WINDOWS_MAX {
            return Ok(None);
        }
        self.windows += 1;
        self.window.resize(usize::try_from(SCAN_BYTES.min(self.end - position)).unwrap_or(0), 0);
        self.position = position;
        if fill(self.segment, self.opened.file.as_ref(), &mut self.window, position, self.mode)?.is_none() {
            self.window.clear();
            return Ok(None);
        }
        let header = BatchHeader::parse(&self.window).map_err(damaged)?;
        self.whole(header, position).map(Some)
    }

    /// `None` if the window does not hold all of the header.
    fn in_window(&self, position: u64) -> Option<Result<BatchHeader, BatchError>> {
        let from = usize::try_from(position.checked_sub(self.position)?).ok()?;
        match BatchHeader::parse(self.window.get(from..)?) {
            Err(BatchError::Truncated { .. }) => None,
            parsed => Some(parsed),
        }
    }

    fn whole(&mut self, header: BatchHeader, position: u64) -> Result<BatchHeader, Error> {
        let after = position + header.total_bytes() as u64;
        if after > self.end {
            return Err(corrupt(self.segment, position, "the last batch is cut short".to_owned()));
        }
        if self.expected.0 == position {
            let checked = self.expected.1.check(self.segment, &header);
            checked.map_err(|reason| corrupt(self.segment, position, reason))?;
        }
        self.expected = (after, Expected::First(header.last_offset().next()));
        Ok(header)
    }
}
