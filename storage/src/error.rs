//! What can go wrong on a disk.

use std::path::PathBuf;

use tidegate_types::ErrorCode;

/// What can go wrong on this floor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system said no.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// A file holds what nobody wrote. Nothing is cut or skipped; whoever runs the node decides.
    #[error("{}: corrupt at byte {position}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where it begins.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// The data directory is in use, or of another version.
    #[error("data directory {}: {reason}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why it can't be used.
        reason: String,
    },
    /// A write or sync failed before; after that nothing on this log is certain but what was synced.
    #[error("the log stopped taking writes: {reason}")]
    Poisoned {
        /// What failed first.
        reason: String,
    },
    /// A log cannot be compacted; nothing else is wrong with it.
    #[error("the log cannot be compacted: {reason}")]
    Compaction {
        /// Why.
        reason: String,
    },
    /// RocksDB said no.
    #[error("key-value store: {0}")]
    Kv(String),
}

/// Whether there is no room, on the disk or in a quota: nothing is wrong with either.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Whether a file is lost to the disk, or is not what it should be. Any other failure says nothing of the file.
pub(crate) fn is_unreadable(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Whether the process has no file handle left: that says nothing of the file.
pub(crate) fn is_short_of_handles(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error())
}

impl Error {
    /// The code that a client sees.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Io { source, .. } if is_full(source) => ErrorCode::StorageFull,
            Self::Io { source, .. } if is_short_of_handles(source) => ErrorCode::TooManyOpenFiles,
            Self::Io { .. } | Self::Directory { .. } | Self::Poisoned { .. } | Self::Compaction { .. } | Self::Kv(_) => {
                ErrorCode::StorageFailed
            }
            Self::Corrupt { .. } => ErrorCode::CorruptLog,
        }
    }

    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
