//! Writing neighbouring segments anew, as one, with the records that stay.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_types::batch::Retained;
use tidegate_types::{BatchError, StoredBatch, Timestamp};

use super::CLEANED;
use super::pace::Pace;
use super::retain::Rule;
use crate::Error;
use crate::disk::{Disk, Room};
use crate::io::File;
use crate::log::remove_if_there;
use crate::recovery::scan;
use crate::segment::{ActiveSegment, IndexFiles, Segment, file_name};
use crate::shelf::Opened;
use crate::vouched::Vouched;

/// What is gathered before it is written.
const WRITE_BYTES: usize = 1 << 20;
/// What is written before it is synced: a gigabyte at once would make the writers' own syncs wait.
const SYNC_BYTES: u64 = 32 << 20;

/// Segments of a log, rewritten as one: a file of its own, synced, not yet a part of the log.
#[derive(Debug)]
pub struct Compacted {
    pub(crate) replaces: Vec<Arc<Segment>>,
    pub(crate) segment: Arc<Segment>,
    pub(crate) vouched: Vouched,
    pub(crate) indexes: IndexFiles,
    /// Where it stands until it is installed.
    pub(crate) path: PathBuf,
}

impl Compacted {
    /// Bytes of the segments that it replaces.
    pub fn bytes_in(&self) -> u64 {
        self.replaces.iter().map(|segment| segment.bytes()).sum()
    }

    /// Its own bytes.
    pub fn bytes_out(&self) -> u64 {
        self.segment.bytes()
    }
}

/// Where a log is.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) disk: Disk,
    pub(crate) directory: PathBuf,
}

/// What rewriting came to.
pub(crate) enum Written {
    Compacted(Compacted),
    /// It would be what is there already.
    Same,
    /// Whoever wanted it wants it no longer.
    Stopped,
}

/// Rewrites `group`. What an earlier attempt has left at the same place goes; what this one leaves when it fails goes at the next start.
pub(crate) fn rewrite(
    Home { disk, directory }: &Home,
    group: &[Arc<Segment>],
    rule: &Rule,
    horizon: Timestamp,
    index_interval_bytes: u64,
    pace: &Pace,
) -> Result<Written, Error> {
    let base = group[0].base;
    let path = directory.join(file_name(base, CLEANED));
    remove_if_there(disk.io.as_ref(), &path)?;
    let file = disk.io.create(&path).map_err(Error::io("create", &path))?;
    let place = directory.join(file_name(base, "log"));
    let segment = ActiveSegment::over(base, place.clone(), Arc::clone(&file), index_interval_bytes);
    let mut writer = Writer { path, file, room: &disk.room, pace, segment, buffer: Vec::new(), written: 0, synced: 0 };
    let mut is_changed = group.len() > 1;
    // The last batch that was dropped, if none was kept after it.
    let mut dropped: Option<StoredBatch> = None;
    let mut pins = Vec::with_capacity(group.len());
    for segment in group {
        let opened = segment.open()?;
        pins.push(Arc::clone(&opened));
        let went_through = each_batch(segment, &opened, pace, &mut |batch| {
            let header = &batch.header;
            let left = if header.first_offset() >= rule.end || header.is_control() {
                Retained::Whole
            } else {
                batch.retain(horizon, |record| rule.keeps(record, header.delete_horizon())).map_err(Stop::Batch)?
            };
            // What was dropped before, if only an empty batch, is missing now, unless it was the last one.
            is_changed |= dropped.is_some();
            match left {
                Retained::Whole => {
                    dropped = None;
                    writer.put(batch)?;
                }
                Retained::Rewritten(batch) => {
                    (dropped, is_changed) = (None, true);
                    writer.put(&batch)?;
                }
                Retained::Nothing => {
                    is_changed |= header.record_count > 0;
                    dropped = Some(batch.clone());
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if went_through == Walk::Stopped {
            return Ok(Written::Stopped);
        }
    }
    if !is_changed {
        return Ok(Written::Same);
    }
    if let Some(last) = dropped {
        writer.put(&last.emptied()).map_err(|stop| stop.into_error(&place, 0))?;
    }
    let Writer { path, segment, .. } = writer.finish()?;
    let end = group.last().and_then(|last| last.end()).unwrap_or(base);
    let (vouched, indexes) = segment.indexes(end);
    let sealed = segment.seal(disk, end, Some(&vouched), true);
    // From here on their names may come to stand for other files, at any time.
    sealed.pin(segment.opened());
    for (old, opened) in group.iter().zip(pins) {
        old.pin(opened);
    }
    Ok(Written::Compacted(Compacted { replaces: group.to_vec(), segment: sealed, vouched, indexes, path }))
}

struct Writer<'a> {
    path: PathBuf,
    file: Arc<dyn File>,
    room: &'a Room,
    pace: &'a Pace,
    /// Notes what is put, before it is written.
    segment: ActiveSegment,
    buffer: Vec<u8>,
    written: u64,
    synced: u64,
}

impl Writer<'_> {
    fn put(&mut self, batch: &StoredBatch) -> Result<(), Stop> {
        self.segment.note(&batch.header);
        self.buffer.extend_from_slice(batch.bytes());
        if self.buffer.len() >= WRITE_BYTES { self.write().map_err(Stop::Error) } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), Error> {
        let bytes = self.buffer.len() as u64;
        self.room.take(bytes)?;
        self.pace.spend(bytes);
        self.file.write_all_at(&[&self.buffer], self.written).map_err(Error::io("write", &self.path))?;
        self.written += bytes;
        self.buffer.clear();
        if self.written - self.synced >= SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))?;
        self.synced = self.written;
        Ok(())
    }

    fn finish(mut self) -> Result<Self, Error> {
        self.write()?;
        self.sync()?;
        Ok(self)
    }
}

/// Whether a walk came to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    Ended,
    /// The visitor has seen enough.
    Broken,
    /// It was told to stop.
    Stopped,
}

/// Why a visitor goes no further.
pub(crate) enum Stop {
    Batch(BatchError),
    Error(Error),
}

impl Stop {
    pub(crate) fn into_error(self, path: &Path, position: u64) -> Error {
        match self {
            Self::Batch(error) => Error::Corrupt { path: path.to_owned(), position, reason: error.to_string() },
            Self::Error(error) => error,
        }
    }
}

/// Shows every batch of a sealed segment, CRC checked.
pub(crate) fn each_batch(
    segment: &Segment,
    opened: &Opened,
    pace: &Pace,
    visit: &mut dyn FnMut(&StoredBatch) -> Result<ControlFlow<()>, Stop>,
) -> Result<Walk, Error> {
    let (mut walk, mut failed, mut end) = (Walk::Ended, None, 0);
    let damage = scan(opened.file.as_ref(), 0, &mut |position, batch| {
        end = position + batch.bytes().len() as u64;
        pace.spend(batch.bytes().len() as u64);
        if pace.is_stopped() {
            walk = Walk::Stopped;
            return Err(String::new());
        }
        match visit(batch) {
            Ok(ControlFlow::Continue(())) => Ok(()),
            Ok(ControlFlow::Break(())) => {
                walk = Walk::Broken;
                Err(String::new())
            }
            Err(stop) => {
                failed = Some(stop.into_error(&segment.path, position));
                Err(String::new())
            }
        }
    });
    let damage = damage.map_err(Error::io("read", &segment.path))?;
    match (failed, damage) {
        (Some(error), _) => Err(error),
        (None, Some(reason)) if walk == Walk::Ended => Err(Error::Corrupt { path: segment.path.clone(), position: end, reason }),
        _ => Ok(walk),
    }
}
