//! The seam to the file system: everything that touches a disk (but RocksDB's own files) goes through [`Io`] and [`File`],
//! so that tests can hand in [`Faulty`], a disk that lies, forgets and stalls.

use std::fmt::Debug;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

mod faulty;

#[cfg(test)]
pub(crate) use faulty::SplitMix;
pub use faulty::{Crash, Failure, FaultPlan, Faulty, Operation};

/// A file system.
pub trait Io: Send + Sync + Debug {
    /// Makes a directory and its parents; an existing one is fine. Its entry is durable once its parent is synced.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// What a directory holds, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes a directory's entries durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a file that must not exist, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// A file's length; [`io::ErrorKind::NotFound`] without it.
    fn length(&self, path: &Path) -> io::Result<u64>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Renames within a file system, replacing what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all it holds.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// How much room the disk has that `path` is on.
    fn room(&self, path: &Path) -> io::Result<DiskRoom>;
    /// What names this boot of the machine; `None` if nothing does.
    fn boot_id(&self) -> Option<String>;
    /// Takes the exclusive lock on a file, making the file if need be; fails with [`io::ErrorKind::WouldBlock`] if somebody has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name; names that are not UTF-8 are not ours and are left out.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// The room of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskRoom {
    /// What this process may still take.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// Holds a lock until dropped.
pub trait Lock: Send + Sync + Debug {}

/// An open file. Reads and writes name their position, so that readers and the writer share one handle.
pub trait File: Send + Sync + Debug {
    /// Reads up to `buf.len()` bytes; 0 only at the end.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;
    /// As [`File::read_at`], but `None` where it would have to wait for the disk.
    fn try_read_at(&self, buf: &mut [u8], position: u64) -> io::Result<Option<usize>>;
    /// Writes all parts, one after the other.
    fn write_all_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()>;
    /// Makes the contents, and the length, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Its length.
    fn len(&self) -> io::Result<u64>;
    /// The system's handle, for calls that move bytes within the kernel; `None` if the system knows no such file.
    fn handle(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// Says that a stretch will be read soon. A hint: it fails in silence.
    fn will_need(&self, _position: u64, _bytes: u64) {}
    /// Whether it holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// The most that [`read_small`] reads: checkpoints are small, a file that claims otherwise is not one.
const SMALL_FILE_BYTES_MAX: u64 = 64 << 20;

/// Reads a small file whole; `None` if there is none.
///
/// # Errors
/// The system's, and [`io::ErrorKind::InvalidData`] for a file beyond 64 MiB.
pub fn read_small(io: &dyn Io, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match io.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = file.len()?;
    if bytes > SMALL_FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{bytes} bytes are too many for a small file")));
    }
    let mut buf = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    read_exact_at(file.as_ref(), &mut buf, 0)?;
    Ok(Some(buf))
}

/// Fills `buf`.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the file ends first.
pub fn read_exact_at(file: &dyn File, mut buf: &mut [u8], mut position: u64) -> io::Result<()> {
    while !buf.is_empty() {
        let n = file.read_at(buf, position)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf = &mut buf[n..];
        position += n as u64;
    }
    Ok(())
}

/// Replaces a file so that after a crash there is the old or the new one, whole: temporary file, sync, rename, sync of the directory.
///
/// # Errors
/// The system's; the old file is then still there.
pub fn write_atomically(io: &dyn Io, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = Path::new(&name);
    match io.remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = io.create(temporary)?;
    file.write_all_at(&[bytes], 0)?;
    file.sync_data()?;
    io.rename(temporary, path)?;
    io.sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// The machine's own file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealIo;

#[derive(Debug)]
struct RealFile(fs::File);

#[derive(Debug)]
struct RealLock(#[expect(dead_code, reason = "the lock lives as long as the open file")] fs::File);

impl Lock for RealLock {}

impl Io for RealIo {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry { name, is_dir: entry.file_type()?.is_dir() });
            }
        }
        Ok(entries)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn room(&self, path: &Path) -> io::Result<DiskRoom> {
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(DiskRoom { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    }

    fn boot_id(&self) -> Option<String> {
        // Linux: drawn at each boot.
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock(file))),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buf, position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn try_read_at(&self, buf: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        // Linux: reads only what is in the page cache. Where a file system can't, the caller reads from another thread.
        let flags = rustix::io::ReadWriteFlags::NOWAIT;
        match rustix::io::preadv2(&self.0, &mut [IoSliceMut::new(buf)], position, flags) {
            Ok(n) => Ok(Some(n)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn write_all_at(&self, parts: &[&[u8]], mut position: u64) -> io::Result<()> {
        let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            // Linux takes at most 1,024 slices in one call.
            let now = &rest[..rest.len().min(1024)];
            let n = match rustix::io::pwritev(&self.0, now, position) {
                Ok(0) if now.iter().any(|slice| !slice.is_empty()) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => n,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            position += n as u64;
            IoSlice::advance_slices(&mut rest, n);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn handle(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn will_need(&self, position: u64, bytes: u64) {
        let _ = rustix::fs::fadvise(&self.0, position, NonZeroU64::new(bytes), rustix::fs::Advice::WillNeed);
    }
}
