//! One partition's log on one disk: append, sync, roll, trim. One writer by `&mut self`; readers go through [`LogReader`].
//!
//! At the moment an append returns, its batches are written (a killed process loses nothing, a lost machine may). At the moment
//! [`PartitionLog::sync`] returns, everything below [`PartitionLog::synced_end`] is on the disk, its files' directory entries included.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tidegate_types::topic_config::Durability;
use tidegate_types::{ErrorCode, LeaderEpoch, Offset, SequencedBatch, TopicConfig};

use crate::Error;
use crate::compact::CleanNote;
use crate::disk::Disk;
use crate::epochs::Epochs;
use crate::error::is_full;
use crate::producers::{KeyRules, Producers};
use crate::reader::LogReader;
use crate::segment::{ActiveSegment, Segment};
use crate::vouched::{self, Vouched};

mod install;
mod producers;
mod retention;
mod trim;

pub use install::Replaced;
pub(crate) use producers::ProducerFiles;
pub use retention::{Expired, RetentionPolicy};
pub use trim::Trimmed;
pub(crate) use trim::{StartNote, remove_if_there, remove_leftovers, without_given_up};

/// The configs of a log that this floor acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// A new segment is begun before an append would pass it.
    pub segment_bytes: u64,
    /// A new segment is begun before a record that is so much later, in ms, than the segment's first.
    pub segment_ms: u64,
    /// A new segment is begun when one of its indexes has so many bytes.
    pub index_bytes: u64,
    /// Bytes between two index entries.
    pub index_interval_bytes: u64,
    /// Whether each append is synced before the next.
    pub syncs_each_append: bool,
    /// How long keys are remembered.
    pub keys: KeyRules,
}

impl From<&TopicConfig> for LogConfig {
    fn from(config: &TopicConfig) -> Self {
        // What is being written is never compacted, so it ends when its oldest record is to be.
        let compaction_ms = if config.cleanup_policy.compact { config.compaction_lag_ms_max.unsigned_abs() } else { u64::MAX };
        Self {
            segment_bytes: config.segment_bytes,
            segment_ms: config.segment_ms.min(compaction_ms),
            index_bytes: config.segment_index_bytes,
            index_interval_bytes: config.index_interval_bytes,
            syncs_each_append: config.durability == Durability::Fsync,
            keys: KeyRules { window_ms: config.key_window_ms, entries_max: config.key_window_entries },
        }
    }
}

/// What the writer and the readers share: replaced or raised by the writer, never locked.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) segments: ArcSwap<Vec<Arc<Segment>>>,
    /// May lie inside the first segment. Raised before the segments below it are taken out of the list, so that whoever sees the shorter
    /// list sees the start that made it so.
    log_start: AtomicU64,
}

impl Shared {
    pub(crate) fn log_start(&self) -> Offset {
        Offset::new(self.log_start.load(Ordering::Acquire)).unwrap_or(Offset::MAX)
    }
}

/// What recovery has found: all of it is synced.
pub(crate) struct Recovered {
    pub(crate) sealed: Vec<Arc<Segment>>,
    pub(crate) active: ActiveSegment,
    /// What is vouched for on the disk, and of the active segment up to how many bytes.
    pub(crate) vouched: Vec<Vouched>,
    pub(crate) active_vouched: Option<Vouched>,
    pub(crate) epochs: Epochs,
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
}

/// A log's entries in the data directory's checkpoints.
#[derive(Debug)]
pub(crate) struct Notes {
    pub(crate) start: StartNote,
    pub(crate) clean: CleanNote,
}

/// The log. Made by [`crate::Store::open_log`].
#[derive(Debug)]
pub struct PartitionLog {
    disk: Disk,
    directory: PathBuf,
    config: LogConfig,
    active: Option<ActiveSegment>,
    shared: Arc<Shared>,
    log_end: Offset,
    synced_end: Offset,
    start_note: StartNote,
    clean_note: CleanNote,
    /// Sealed segments that are vouched for.
    vouched: Vec<Vouched>,
    /// How far the active segment is, on the disk.
    active_vouched: Option<Vouched>,
    /// Bytes of the active segment that are, or that it was tried for.
    vouched_bytes: u64,
    epochs: Epochs,
    producers: Producers,
    producer_files: ProducerFiles,
    poisoned: Option<String>,
}

/// Bytes after which what is synced of the active segment is vouched for: the most that a start after a kill reads of a log, and a little.
const VOUCH_BYTES: u64 = 64 << 20;

impl PartitionLog {
    pub(crate) fn new(disk: Disk, directory: PathBuf, config: LogConfig, recovered: Recovered, notes: Notes) -> Self {
        let Recovered { sealed: mut segments, active, vouched, active_vouched, epochs, log_start, log_end } = recovered;
        let Notes { start: start_note, clean: clean_note } = notes;
        segments.push(Arc::clone(active.shared()));
        let (segments, log_start) = (ArcSwap::from_pointee(segments), AtomicU64::new(log_start.get()));
        let shared = Arc::new(Shared { segments, log_start });
        Self {
            disk,
            directory,
            config,
            active: Some(active),
            shared,
            log_end,
            synced_end: log_end,
            start_note,
            clean_note,
            vouched,
            vouched_bytes: active_vouched.map_or(0, |known| known.bytes),
            active_vouched,
            epochs,
            producers: Producers::new(config.keys),
            producer_files: ProducerFiles::default(),
            poisoned: None,
        }
    }

    /// The directory that holds it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The first offset kept.
    pub fn log_start(&self) -> Offset {
        self.shared.log_start()
    }

    /// The next offset to be assigned.
    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// Everything below is on the disk.
    pub fn synced_end(&self) -> Offset {
        self.synced_end
    }

    /// A reader, for as many threads as want one.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// Takes new configs; they hold from the next append on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
        self.producers.set_rules(config.keys);
        if let Some(active) = &mut self.active {
            active.set_index_interval(config.index_interval_bytes);
        }
    }

    /// Notes durably that the leader of `epoch` begins at the log's end, unless that is known. To be called before it writes anything.
    ///
    /// # Errors
    /// [`Error::Io`]; nothing is noted then.
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch) -> Result<(), Error> {
        let mut epochs = self.epochs.clone();
        if epochs.begin(epoch, self.log_end) {
            epochs.write(self.disk.io.as_ref(), &self.directory)?;
            self.epochs = epochs;
        }
        Ok(())
    }

    /// Writes batches at the end, all or none: they follow one another and [`PartitionLog::log_end`] without a gap.
    ///
    /// # Errors
    /// [`Error::Io`] with [`std::io::ErrorKind::StorageFull`] if the disk is full: nothing was written and the log goes on.
    /// After any other error the log is poisoned: [`Error::Poisoned`] is all it says from then on.
    pub fn append(&mut self, batches: &[SequencedBatch]) -> Result<(), Error> {
        self.check_poison()?;
        let end = end_of(batches, self.log_end);
        let bytes: u64 = batches.iter().map(|batch| batch.len() as u64).sum();
        self.disk.room.take(bytes)?;
        let latest = batches.iter().map(|batch| batch.header.max_timestamp).max().unwrap_or(i64::MIN);
        self.roll_if_needed(bytes, end, latest)?;
        let active = self.active.as_mut().ok_or_else(gone)?;
        let segment_bytes = Some(self.config.segment_bytes).filter(|_| self.config.syncs_each_append);
        // Room for writes to come is no reason to refuse this one.
        let prepares = segment_bytes.is_some_and(|most| self.disk.room.has(active.prepared_by(bytes, most)).unwrap_or(false));
        if let Err(source) = active.write(batches, segment_bytes.filter(|_| prepares)) {
            let full = is_full(&source);
            if full {
                self.disk.room.was_full();
            }
            let path = active.shared().path.clone();
            // Whoever is told that nothing was written must not find it after a power cut.
            let taken_back = active.cut_to_end().and_then(|()| if full { active.sync() } else { Ok(()) });
            let error = Error::Io { action: "append to", path: path.clone(), source };
            return Err(match taken_back {
                Ok(()) if full => error,
                Err(source) if full => self.poison(Error::Io { action: "take an append back from", path, source }),
                _ => self.poison(error),
            });
        }
        self.disk.room.was_written();
        self.log_end = end;
        self.note_producers(batches);
        Ok(())
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// A failed sync poisons the log: the system may have dropped what it could not write, so a second sync that succeeds proves nothing.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.check_poison()?;
        if self.synced_end == self.log_end {
            return Ok(());
        }
        self.sync_active()?;
        if self.active.as_ref().is_some_and(|active| active.bytes() >= self.vouched_bytes + VOUCH_BYTES) {
            self.vouch_for_active();
        }
        Ok(())
    }

    fn sync_active(&mut self) -> Result<(), Error> {
        let active = self.active.as_mut().ok_or_else(gone)?;
        if let Err(source) = active.sync() {
            let path = active.shared().path.clone();
            return Err(self.poison(Error::Io { action: "sync", path, source }));
        }
        self.synced_end = self.log_end;
        Ok(())
    }

    /// Notes how far the active segment is synced, which is all of it. The next start reads less for it; if it fails, it reads more.
    fn vouch_for_active(&mut self) {
        let Some(active) = &self.active else { return };
        // Not again at once, also if it fails.
        self.vouched_bytes = active.bytes();
        let vouched = active.vouch(self.disk.io.as_ref(), self.log_end);
        // Before it is vouched for: the next start reads only what comes behind both.
        self.write_producers();
        if let Err(error) = vouched.and_then(|vouched| self.write_vouched(Some(vouched))) {
            tracing::warn!(%error, "how far the log is synced was not noted; the next start reads more than it need");
        }
    }

    /// Writes what is vouched for, when a start has found other segments than were noted.
    pub(crate) fn vouch_again(&mut self) {
        if let Err(error) = self.write_vouched(self.active_vouched) {
            tracing::warn!(%error, "that segments are whole was not noted; the next start reads them again");
        }
    }

    /// Replaces what is vouched for: the sealed segments that are still there, and `active`.
    fn write_vouched(&mut self, active: Option<Vouched>) -> Result<(), Error> {
        self.active_vouched = active;
        let first = self.shared.segments.load().first().map_or(Offset::ZERO, |first| first.base);
        self.vouched.retain(|sealed| sealed.base >= first);
        let all: Vec<_> = self.vouched.iter().copied().chain(active).collect();
        vouched::write(self.disk.io.as_ref(), &self.directory, &all)
    }

    /// Syncs the active segment, cut to its batches: files that are not written any more end with their last batch.
    fn seal(&mut self) -> Result<(), Error> {
        self.check_poison()?;
        let active = self.active.as_mut().ok_or_else(gone)?;
        if !active.is_prepared() && !active.has_unsynced_cut() {
            return self.sync();
        }
        if let Err(source) = active.cut_to_end() {
            let path = active.shared().path.clone();
            return Err(self.poison(Error::Io { action: "truncate", path, source }));
        }
        self.sync_active()
    }

    /// Syncs, writes the active segment's index, and ends.
    ///
    /// # Errors
    /// As [`PartitionLog::sync`].
    pub fn close(mut self) -> Result<Offset, Error> {
        self.seal()?;
        self.write_producers();
        self.write_snapshot();
        let unchanged = self.active.as_ref().is_some_and(|active| active.bytes() == self.vouched_bytes);
        if let Some(active) = self.active.as_ref().filter(|_| !unchanged) {
            let vouched = active.vouch(self.disk.io.as_ref(), self.log_end)?;
            self.write_vouched(Some(vouched))?;
        }
        Ok(self.synced_end)
    }

    fn roll_if_needed(&mut self, incoming_bytes: u64, end: Offset, latest: i64) -> Result<(), Error> {
        let Some(active) = &self.active else { return Err(gone()) };
        let (size, base) = (active.bytes(), active.shared().base);
        let too_large = size + incoming_bytes > self.config.segment_bytes;
        // Positions and relative offsets in Kafka's indexes have 31 bits.
        let too_far = end.since(base) > u64::from(i32::MAX.unsigned_abs());
        let too_old = active.age_at(latest) > self.config.segment_ms;
        if size > 0 && (too_large || too_far || too_old || active.has_full_index(self.config.index_bytes)) {
            self.roll()?;
        }
        Ok(())
    }

    /// Begins a new segment at the log's end. The old one is synced before the new one exists, so that only the last segment can ever be torn.
    ///
    /// If the disk is full the old one stays the active one, and nothing is lost but the append that wanted to roll.
    fn roll(&mut self) -> Result<(), Error> {
        self.seal()?;
        let Some(active) = &self.active else { return Err(gone()) };
        let vouched = match active.vouch(self.disk.io.as_ref(), self.log_end) {
            Ok(vouched) => Some(vouched),
            Err(error) => {
                // They are rebuilt from the log whenever they are missing.
                tracing::warn!(%error, "the indexes of a segment were not written");
                None
            }
        };
        let sealed = active.seal(&self.disk, self.log_end, vouched.as_ref(), false);
        self.write_producers();
        self.write_snapshot();
        let next = match ActiveSegment::create(self.disk.io.as_ref(), &self.directory, self.log_end, self.config.index_interval_bytes) {
            Ok(next) => next,
            Err(error) if error.code() == ErrorCode::StorageFull => return Err(error),
            Err(error) => return Err(self.poison(error)),
        };
        let mut segments = Vec::clone(&self.shared.segments.load());
        segments.pop();
        segments.extend([sealed, Arc::clone(next.shared())]);
        self.shared.segments.store(Arc::new(segments));
        self.active = Some(next);
        self.vouched.extend(vouched);
        self.vouched_bytes = 0;
        if let Err(error) = self.write_vouched(None) {
            tracing::warn!(%error, "that a segment is whole was not noted; the next start reads it");
        }
        Ok(())
    }

    fn check_poison(&self) -> Result<(), Error> {
        match &self.poisoned {
            None => Ok(()),
            Some(reason) => Err(Error::Poisoned { reason: reason.clone() }),
        }
    }

    fn poison(&mut self, error: Error) -> Error {
        tracing::error!(directory = %self.directory.display(), %error, "the log takes no more writes until the node is restarted");
        self.poisoned = Some(error.to_string());
        error
    }
}

/// The offset after the last batch. The partition task has put them one after the other; anything else is our own mistake.
fn end_of(batches: &[SequencedBatch], log_end: Offset) -> Offset {
    batches.iter().fold(log_end, |expected, batch| {
        assert!(batch.header.first_offset() == expected, "batches follow the log's end without a gap");
        batch.header.last_offset().next()
    })
}

fn gone() -> Error {
    Error::Poisoned { reason: "the log has no active segment".to_owned() }
}

#[cfg(test)]
mod tests;
