//! Small keyed state in RocksDB: the Raft log, the vote, the metadata and its snapshot. Records never go here.
//!
//! Its promise: **what a synced write has returned from is there after a crash, and writes are kept in their order**: if one is there, so are all
//! before it, synced or not, because they share one write-ahead log. Bytes only: what they say is the business of the floor above.
//!
//! | file | subject | synced |
//! |---|---|---|
//! | `keys.rs` | what a key looks like | |
//! | `raft_log.rs` | entries, vote, committed, last purged | all but committed |
//! | `metadata.rs` | the applied state, a key for each thing | no: the log has it |
//! | `snapshot.rs` | the whole applied state in one piece | installing one |

mod keys;
mod metadata;
mod raft_log;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, ErrorKind, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions};
use tidegate_types::NodeId;
use uuid::Uuid;

use crate::Error;
use keys::KeyKind;

pub use keys::MetadataKey;
pub use metadata::MetadataBatch;
pub use raft_log::LogRecord;
pub use snapshot::StoredSnapshot;

const FORMAT_VERSION: u8 = 1;
/// Memory for what is not yet in a table file; two of them at most.
const WRITE_BUFFER_BYTES: usize = 2 << 20;
/// Memory for what is read; the state itself is held by the floor above.
const BLOCK_CACHE_BYTES: usize = 1 << 20;

/// A store, open. Calls block, those that sync for as long as the disk takes.
#[derive(Debug)]
pub struct KvStore {
    path: PathBuf,
    store_id: Uuid,
    node_id: NodeId,
    /// Empty once it is closed. The lock is held for writing only to close it.
    db: RwLock<Option<DB>>,
    /// Held from looking at the kept snapshot until it is replaced.
    snapshot_lock: Mutex<()>,
}

impl KvStore {
    /// Opens the store at `path`, or makes it there (its parent exists) with `new_store_id` as its identity.
    ///
    /// # Errors
    /// [`Error::Directory`] if it belongs to another node, is of another version or in use; [`Error::Corrupt`] or [`Error::Kv`] if it can't be read.
    pub fn open(path: &Path, node_id: NodeId, new_store_id: Uuid) -> Result<Self, Error> {
        let db = DB::open(&options(), path).map_err(|error| open_error(path, &error))?;
        let store_id = match get(&db, path, &KeyKind::Identity.only())? {
            Some(identity) => check_identity(path, &identity, node_id)?,
            None => {
                create_identity(&db, path, node_id, new_store_id)?;
                new_store_id
            }
        };
        let store = Self { path: path.to_owned(), store_id, node_id, db: RwLock::new(Some(db)), snapshot_lock: Mutex::new(()) };
        store.check_log_is_contiguous()?;
        Ok(store)
    }

    /// Drawn when the store was made: a store that was emptied or replaced has another.
    pub fn store_id(&self) -> Uuid {
        self.store_id
    }

    /// The node that the store was made for.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Closes the files; when it returns, the store may be opened again. Every later call is an error.
    pub fn close(&self) {
        let db = self.db.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(db);
    }

    fn with_db<T>(&self, work: impl FnOnce(&DB) -> Result<T, Error>) -> Result<T, Error> {
        let guard = self.db.read().unwrap_or_else(PoisonError::into_inner);
        match guard.as_ref() {
            Some(db) => work(db),
            None => Err(Error::Kv("it is closed".to_owned())),
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.with_db(|db| get(db, &self.path, key))
    }

    fn write(&self, batch: WriteBatch, sync: Sync) -> Result<(), Error> {
        self.with_db(|db| write(db, &self.path, batch, sync))
    }

    /// What lies in `[from, to)`, in order of keys, for as long as `take` says so.
    fn scan(&self, from: &[u8], to: &[u8], mut take: impl FnMut(&[u8], &[u8]) -> Result<bool, Error>) -> Result<(), Error> {
        self.with_db(|db| {
            let mut options = ReadOptions::default();
            options.set_iterate_range(from.to_vec()..to.to_vec());
            let mut iterator = db.raw_iterator_opt(options);
            iterator.seek_to_first();
            while let (Some(key), Some(value)) = (iterator.key(), iterator.value()) {
                if !take(key, value)? {
                    return Ok(());
                }
                iterator.next();
            }
            iterator.status().map_err(|error| kv_error(&self.path, &error))
        })
    }

    fn corrupt(&self, reason: String) -> Error {
        corrupt(&self.path, reason)
    }
}

/// Whether a write waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// It does: when it returns, this and all before it survives a crash.
    Wait,
    /// It does not: it may be lost in a crash of the machine, with all after it.
    Later,
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    // A node at rest shall be small: a few MiB here instead of RocksDB's hundreds.
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(2);
    options.set_max_open_files(64);
    options.set_max_background_jobs(2);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
    options.set_block_based_table_factory(&table);
    // Its own diary is of no use to anybody here; errors come back as values.
    options.set_log_level(LogLevel::Error);
    options.set_keep_log_file_num(1);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_max_manifest_file_size(1 << 20);
    options
}

fn check_identity(path: &Path, identity: &[u8], node_id: NodeId) -> Result<Uuid, Error> {
    let Some((version, rest)) = identity.split_first() else {
        return Err(corrupt(path, "its identity is empty".to_owned()));
    };
    if *version != FORMAT_VERSION {
        let reason = format!("its metadata is of version {version}; this program reads version {FORMAT_VERSION}");
        return Err(Error::Directory { path: path.to_owned(), reason });
    }
    let (Some(store_id), Some(owner)) = (rest.first_chunk::<16>(), rest.last_chunk::<8>()) else {
        return Err(corrupt(path, "its identity is too short".to_owned()));
    };
    let owner = NodeId::new(u64::from_be_bytes(*owner));
    if rest.len() != 16 + 8 {
        return Err(corrupt(path, format!("its identity has {} bytes, not 25", identity.len())));
    }
    if owner != node_id {
        let reason = format!(
            "it belongs to node {owner}, not to node {node_id}; start with node id {owner}, or give node {node_id} a directory of its own"
        );
        return Err(Error::Directory { path: path.to_owned(), reason });
    }
    Ok(Uuid::from_bytes(*store_id))
}

fn create_identity(db: &DB, path: &Path, node_id: NodeId, store_id: Uuid) -> Result<(), Error> {
    // Only an empty store is a new one: one that holds a vote but not its identity has lost something.
    let mut iterator = db.raw_iterator();
    iterator.seek_to_first();
    if iterator.valid() {
        return Err(corrupt(path, "its identity is missing".to_owned()));
    }
    iterator.status().map_err(|error| kv_error(path, &error))?;
    drop(iterator);
    let mut batch = WriteBatch::default();
    let identity = [&[FORMAT_VERSION][..], store_id.as_bytes(), &node_id.get().to_be_bytes()].concat();
    batch.put(KeyKind::Identity.only(), identity);
    write(db, path, batch, Sync::Wait)?;
    sync_parent(path)
}

/// RocksDB syncs what is in its directory, not that the directory is there.
fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let synced = rustix::fs::open(parent, flags, rustix::fs::Mode::empty()).and_then(rustix::fs::fsync);
    synced.map_err(|error| Error::Io { action: "sync directory", path: parent.to_owned(), source: error.into() })
}

fn get(db: &DB, path: &Path, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    db.get(key).map_err(|error| kv_error(path, &error))
}

fn write(db: &DB, path: &Path, batch: WriteBatch, sync: Sync) -> Result<(), Error> {
    let mut options = WriteOptions::default();
    options.set_sync(sync == Sync::Wait);
    db.write_opt(batch, &options).map_err(|error| kv_error(path, &error))
}

fn corrupt(path: &Path, reason: String) -> Error {
    Error::Corrupt { path: path.to_owned(), position: 0, reason }
}

fn kv_error(path: &Path, error: &rocksdb::Error) -> Error {
    match error.kind() {
        ErrorKind::Corruption => corrupt(path, error.to_string()),
        _ => Error::Kv(format!("{}: {error}", path.display())),
    }
}

fn open_error(path: &Path, error: &rocksdb::Error) -> Error {
    let message = error.to_string();
    // RocksDB has no kind of its own for this.
    if error.kind() == ErrorKind::IOError && message.contains("LOCK") {
        return Error::Directory { path: path.to_owned(), reason: format!("another process has it open ({message})") };
    }
    kv_error(path, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::new(1);
    const ID: Uuid = Uuid::from_u128(7);

    /// A promise: a store keeps the identity that it was made with, whatever is offered later.
    #[test]
    fn the_store_id_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metadata");
        assert_eq!(KvStore::open(&path, NODE, ID).unwrap().store_id(), ID);
        assert_eq!(KvStore::open(&path, NODE, Uuid::from_u128(8)).unwrap().store_id(), ID);
    }

    /// A promise: a node does not vote with another node's memory.
    #[test]
    fn another_nodes_store_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metadata");
        drop(KvStore::open(&path, NODE, ID).unwrap());
        let error = KvStore::open(&path, NodeId::new(2), ID).unwrap_err();
        assert!(matches!(&error, Error::Directory { reason, .. } if reason.contains("belongs to node 1, not to node 2")), "{error}");
    }

    /// A promise: a store is open once at a time, and can be opened again as soon as `close` has returned.
    #[test]
    fn a_store_is_open_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metadata");
        let store = KvStore::open(&path, NODE, ID).unwrap();
        let error = KvStore::open(&path, NODE, ID).unwrap_err();
        assert!(matches!(&error, Error::Directory { reason, .. } if reason.contains("another process")), "{error}");
        store.close();
        assert!(matches!(store.vote(), Err(Error::Kv(_))));
        assert!(KvStore::open(&path, NODE, ID).is_ok());
    }

    /// A promise: a store of a version that is not known yet is left alone, and one that lost its identity is no new one.
    #[test]
    fn what_cannot_be_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metadata");
        let tamper = |identity: Option<&[u8]>| {
            let store = KvStore::open(&path, NODE, ID).unwrap();
            let mut batch = WriteBatch::default();
            batch.put(KeyKind::Vote.only(), b"vote");
            match identity {
                Some(identity) => batch.put(KeyKind::Identity.only(), identity),
                None => batch.delete(KeyKind::Identity.only()),
            }
            store.write(batch, Sync::Wait).unwrap();
        };
        let valid = [&[FORMAT_VERSION][..], ID.as_bytes(), &1u64.to_be_bytes()].concat();
        let restore = || {
            let db = DB::open(&options(), &path).unwrap();
            db.put(KeyKind::Identity.only(), &valid).unwrap();
        };
        let newer = [&[FORMAT_VERSION + 1][..], &valid[1..]].concat();
        tamper(Some(&newer));
        assert!(matches!(KvStore::open(&path, NODE, ID), Err(Error::Directory { .. })));
        for broken in [None, Some(&[][..]), Some(&valid[..24]), Some(&[FORMAT_VERSION])] {
            restore();
            tamper(broken);
            assert!(matches!(KvStore::open(&path, NODE, ID), Err(Error::Corrupt { .. })), "{broken:?}");
        }
        restore();
        assert!(KvStore::open(&path, NODE, ID).is_ok());
    }
}
