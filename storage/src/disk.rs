//! What the logs of a data directory share: the file system, the segments that are open, and the room that is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::Error;
use crate::io::Io;
use crate::shelf::Shelf;

/// What the logs of a data directory share.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) io: Arc<dyn Io>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) room: Arc<Room>,
    /// Bytes that were read to open logs.
    pub(crate) recovered: Arc<AtomicU64>,
}

/// Keeps the last of a disk's room from records. A trim, retention, a deleted topic: what makes room has to write a little first, and so
/// have the metadata. On a disk that records may fill to the last block, nothing could ever be given up.
#[derive(Debug)]
pub(crate) struct Room {
    io: Arc<dyn Io>,
    root: PathBuf,
    kept: u64,
    /// Bytes that may be written before it is looked again.
    unlooked: AtomicU64,
    /// Whether records were refused last, so that it is said once.
    is_full: AtomicBool,
}

/// No more of a disk is kept than one part in so many.
const KEPT_PART: u64 = 16;
/// Bytes that are written between two looks: others may write to the disk too.
const LOOK_BYTES: u64 = 1 << 20;

impl Room {
    /// Keeps `kept` bytes of the disk that `root` is on, or a sixteenth of it if that is less.
    pub(crate) fn new(io: Arc<dyn Io>, root: &Path, kept: u64) -> Self {
        Self { io, root: root.to_owned(), kept, unlooked: AtomicU64::new(0), is_full: AtomicBool::new(false) }
    }

    /// To be asked before so many bytes of records are written.
    ///
    /// # Errors
    /// [`Error::Io`] with [`std::io::ErrorKind::StorageFull`] if only what is kept would be left.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), Error> {
        if self.has(bytes)? {
            return Ok(());
        }
        self.note_full(true);
        let text = format!("records may not take the last {} bytes of the disk, at most a sixteenth of it (log.min.free.bytes)", self.kept);
        let source = std::io::Error::new(std::io::ErrorKind::StorageFull, text);
        Err(Error::Io { action: "write to", path: self.root.clone(), source })
    }

    /// Whether there is room for so many bytes more; they count as taken then.
    ///
    /// # Errors
    /// [`Error::Io`] if the system does not say.
    pub(crate) fn has(&self, bytes: u64) -> Result<bool, Error> {
        if self.kept == 0 || bytes == 0 {
            return Ok(true);
        }
        let spend = |left: u64| left.checked_sub(bytes);
        if self.unlooked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok() {
            return Ok(true);
        }
        self.look(bytes)
    }

    /// The disk was full all the same.
    pub(crate) fn was_full(&self) {
        self.unlooked.store(0, Ordering::Relaxed);
        self.note_full(true);
    }

    /// Something was written.
    pub(crate) fn was_written(&self) {
        // Else it is said when it is looked, and there is more than a little room.
        if self.kept == 0 {
            self.note_full(false);
        }
    }

    /// Says, once, that records are refused, and once that they are taken again.
    fn note_full(&self, is_full: bool) {
        if self.is_full.load(Ordering::Relaxed) == is_full || self.is_full.swap(is_full, Ordering::Relaxed) == is_full {
            return;
        }
        let (data_dir, kept) = (self.root.display(), self.kept);
        if is_full {
            tracing::error!(%data_dir, kept, "the disk is full: records are refused until there is room again (retention, trim, or delete topics)");
        } else {
            tracing::info!(%data_dir, "the disk has room again: records are taken");
        }
    }

    #[cold]
    fn look(&self, bytes: u64) -> Result<bool, Error> {
        let found = self.io.room(&self.root).map_err(Error::io("read the free room of", &self.root))?;
        if found.total == 0 {
            // A file system that does not know its size.
            return Ok(true);
        }
        let left = found.free.saturating_sub(self.kept.min(found.total / KEPT_PART));
        if left < bytes {
            self.unlooked.store(0, Ordering::Relaxed);
            return Ok(false);
        }
        if left - bytes >= LOOK_BYTES {
            self.note_full(false);
        }
        // Half of what is left, so that writers on other threads who look at the same moment do not take it together.
        self.unlooked.store(((left - bytes) / 2).min(LOOK_BYTES), Ordering::Relaxed);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{FaultPlan, Faulty};

    /// A promise: records are refused when only what is kept would be left, to the byte, and are taken again as soon as there is room.
    #[test]
    fn the_last_room_is_kept() {
        let disk = Faulty::new();
        let (io, root): (Arc<dyn Io>, _) = (Arc::new(disk.clone()), Path::new("/data"));
        let capacity = |capacity| disk.set_plan(FaultPlan { capacity: Some(capacity), ..FaultPlan::default() });
        let refuses = |room: &Room, bytes| matches!(room.take(bytes), Err(error) if error.code() == tidegate_types::ErrorCode::StorageFull);
        capacity(1_000_000);
        let room = Room::new(Arc::clone(&io), root, 10_000);
        assert!(refuses(&room, 990_001));
        room.take(990_000).unwrap();
        assert!(room.take(400_000).is_ok() && room.take(90_000).is_ok(), "half of what is left goes without a look");
        let room = Room::new(Arc::clone(&io), root, 10_000);
        capacity(9_999);
        assert!(refuses(&room, 9_999), "a sixteenth is kept of a small disk");
        assert!(!refuses(&room, 9_999 - 9_999 / 16));
        capacity(100);
        let room = Room::new(Arc::clone(&io), root, 0);
        assert!(room.take(u64::MAX).is_ok(), "nothing is kept, nothing is asked");
    }

    /// A promise: what others write to the disk is seen, a little late.
    #[test]
    fn what_others_write_is_seen() {
        let disk = Faulty::new();
        let capacity = |capacity| disk.set_plan(FaultPlan { capacity: Some(capacity), ..FaultPlan::default() });
        capacity(1 << 40);
        let room = Room::new(Arc::new(disk.clone()), Path::new("/data"), 1 << 20);
        room.take(1).unwrap();
        capacity(1);
        let taken = std::iter::repeat_with(|| room.take(1 << 10)).take_while(Result::is_ok).count() as u64;
        assert_eq!(taken << 10, LOOK_BYTES);
    }
}
