//! The data directory: one process at a time, one format version, one identity; the partitions' directories in it.
//!
//! ```text
//! <data>/.lock                              held while a node runs
//!        meta.properties                    format version, node, directory and cluster ids
//!        .kafka_cleanshutdown               left by a node that closed every log; boot-id: when the one ran that did not
//!        recovery-point-offset-checkpoint   up to where each log is synced
//!        replication-offset-checkpoint      up to where each log was readable
//!        log-start-offset-checkpoint        up to where each log is trimmed
//!        cleaner-offset-checkpoint          up to where each log is compacted
//!        metadata/                          RocksDB
//!        <topic>-<partition>/               as in Kafka: .log, .index, .timeindex, partition.metadata; and segment-checkpoint
//!        <topic>-<partition>.<hex>-delete/  no longer used, on its way out
//!        <topic>-<partition>.repair-<time>/ set aside by a repair, nobody's
//!        <topic>-<partition>.<hex>-stray/   another topic's of the same name, left to whoever runs the node
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidegate_types::topic_config::Durability;
use tidegate_types::{ClusterId, NodeId, Offset, TopicConfig, TopicId, TopicPartition, limits};
use uuid::Uuid;

use crate::Error;
use crate::checkpoint::{FIRST_DIRTY, HIGH_WATERMARK, LOG_START, OffsetCheckpoint, RECOVERY_POINT};
use crate::compact::{CleanNote, SWAP};
use crate::disk::{Disk, Room};
use crate::io::{Io, Lock, read_small, write_atomically};
use crate::last_stop::{self, LastStop};
use crate::log::{LogConfig, Notes, PartitionLog, StartNote};
use crate::recovery::{self, RecoveryReport, Trust};
use crate::shelf::Shelf;

/// The version of everything in a data directory. Another version is refused.
pub const FORMAT_VERSION: u32 = 1;

/// Whose log a directory holds.
const METADATA: &str = "partition.metadata";

/// Whose directory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The node that made it.
    pub node_id: NodeId,
    /// Drawn when it was made: an emptied or replaced disk has another one.
    pub directory_id: Uuid,
    /// The cluster, once the node has joined one.
    pub cluster_id: Option<ClusterId>,
}

/// An open data directory.
#[derive(Debug)]
pub struct Store {
    io: Arc<dyn Io>,
    root: PathBuf,
    identity: Mutex<Identity>,
    last_stop: LastStop,
    recovery_points: OffsetCheckpoint,
    high_watermarks: OffsetCheckpoint,
    log_starts: Arc<OffsetCheckpoint>,
    first_dirty: Arc<OffsetCheckpoint>,
    disk: Disk,
    _lock: Box<dyn Lock>,
}

impl Store {
    /// Takes the directory for this process, making it if need be. `new_directory_id` becomes its identity if it is new.
    ///
    /// # Errors
    /// [`Error::Directory`] if another process has it, or its format version or node is another; [`Error::Io`], [`Error::Corrupt`].
    pub fn open(io: Arc<dyn Io>, root: &Path, node_id: NodeId, new_directory_id: Uuid) -> Result<Self, Error> {
        io.create_dir_all(root).map_err(Error::io("create", root))?;
        let lock_path = root.join(".lock");
        let lock = io.lock(&lock_path).map_err(|source| match source.kind() {
            std::io::ErrorKind::WouldBlock => refuse(root, "another process has it open"),
            _ => Error::Io { action: "lock", path: lock_path, source },
        })?;
        let found = read_identity(io.as_ref(), root)?;
        let is_new = found.is_none();
        let identity = match found {
            Some(found) if found.node_id != node_id => {
                return Err(refuse(root, &format!("it belongs to node {}, not to node {node_id}", found.node_id)));
            }
            Some(found) => found,
            None => {
                let identity = Identity { node_id, directory_id: new_directory_id, cluster_id: None };
                write_identity(io.as_ref(), root, &identity)?;
                identity
            }
        };
        // Its entries and its own entry must outlive a crash, also if the process that made them was killed before it could see to that.
        io.sync_dir(root).map_err(Error::io("sync directory", root))?;
        if let Some(parent) = root.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            io.sync_dir(parent).map_err(Error::io("sync directory", parent))?;
        }
        remove_leftovers(io.as_ref(), root)?;
        let last_stop = last_stop::begin(io.as_ref(), root, is_new)?;
        let recovery_points = OffsetCheckpoint::open(Arc::clone(&io), root.join(RECOVERY_POINT))?;
        let high_watermarks = OffsetCheckpoint::open_or_begin(Arc::clone(&io), root.join(HIGH_WATERMARK))?;
        let log_starts = Arc::new(OffsetCheckpoint::open(Arc::clone(&io), root.join(LOG_START))?);
        let first_dirty = Arc::new(OffsetCheckpoint::open(Arc::clone(&io), root.join(FIRST_DIRTY))?);
        let room = Arc::new(Room::new(Arc::clone(&io), root, 0));
        let disk = Disk { io: Arc::clone(&io), shelf: Arc::new(Shelf::default()), room, recovered: Arc::default() };
        let identity = Mutex::new(identity);
        Ok(Self {
            io,
            root: root.to_owned(),
            identity,
            last_stop,
            recovery_points,
            high_watermarks,
            log_starts,
            first_dirty,
            disk,
            _lock: lock,
        })
    }

    /// Keeps so many bytes of the disk from records, or a sixteenth of it if that is less: what gives room back has to write a little first.
    #[must_use]
    pub fn keeping_free(mut self, bytes: u64) -> Self {
        self.disk.room = Arc::new(Room::new(Arc::clone(&self.io), &self.root, bytes));
        self
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the metadata's RocksDB lives.
    pub fn metadata_path(&self) -> PathBuf {
        self.root.join("metadata")
    }

    /// Whose directory it is.
    pub fn identity(&self) -> Identity {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the cluster when it is first known, and refuses another one later.
    ///
    /// # Errors
    /// [`Error::Directory`] if the directory belongs to another cluster; [`Error::Io`].
    pub fn join_cluster(&self, cluster_id: ClusterId) -> Result<(), Error> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        match identity.cluster_id {
            Some(known) if known == cluster_id => Ok(()),
            Some(known) => Err(refuse(&self.root, &format!("it belongs to cluster {known}, not to {cluster_id}"))),
            None => {
                let joined = Identity { cluster_id: Some(cluster_id), ..*identity };
                write_identity(self.io.as_ref(), &self.root, &joined)?;
                *identity = joined;
                Ok(())
            }
        }
    }

    /// Opens a partition's log, making it if need be: reads and checks what nobody vouches for, cuts a torn tail. Blocks for as long as that takes.
    ///
    /// A directory of the same name that belongs to another (deleted) topic is moved out of the way, and kept.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with path and position where the log is damaged; [`Error::Io`].
    pub fn open_log(&self, tp: &TopicPartition, topic: TopicId, config: &TopicConfig) -> Result<(PartitionLog, RecoveryReport), Error> {
        let directory = self.root.join(tp.to_string());
        let identity_path = directory.join(METADATA);
        let known = read_small(self.io.as_ref(), &identity_path).map_err(Error::io("read", &identity_path))?;
        let mut readable_there = Offset::ZERO;
        match known.map(|bytes| parse_topic_id(&bytes)) {
            Some(Some(found)) if found == topic => {}
            Some(Some(found)) => {
                // What that topic had synced is not asked of this one. If it was not deleted, this is rot, and records are out of sight.
                readable_there = self.high_watermarks.get(tp);
                self.forget(std::slice::from_ref(tp))?;
                // Left to whoever runs the node: rot in this small file must not cost a log.
                let aside = self.set_aside(&directory, "stray")?;
                tracing::error!(directory = %aside.display(), topic_id = %found, "it says that it is another topic's; it was moved out of the way");
                self.make_log_directory(&directory, topic)?;
            }
            Some(None) => {
                return Err(Error::Corrupt { path: identity_path, position: 0, reason: "not a partition's metadata".to_owned() });
            }
            None if self.holds_segments(&directory)? => {
                let reason = "the partition's metadata is missing beside its segments".to_owned();
                return Err(Error::Corrupt { path: identity_path, position: 0, reason });
            }
            None => self.make_log_directory(&directory, topic)?,
        }
        let unsynced_bytes_max = match config.durability {
            Durability::Fsync => Some(UNSYNCED_BYTES_MAX),
            Durability::Replicated => None,
        };
        let start = StartNote::new(Arc::clone(&self.log_starts), tp.clone());
        let clean = CleanNote::new(Arc::clone(&self.first_dirty), tp.clone());
        let trust = Trust { recovery_point: self.recovery_points.get(tp), unsynced_bytes_max };
        let (log, mut report) = recovery::open(&self.disk, &directory, LogConfig::from(config), trust, Notes { start, clean })?;
        report.lost_records = self.high_watermarks.get(tp).max(readable_there).since(report.log_end);
        if report.lost_records > 0 {
            tracing::error!(partition = %tp, log_end = %report.log_end, records = report.lost_records, "records that were readable are gone");
        }
        Ok((log, report))
    }

    /// Takes a partition's directory out of use at once and removes it. Blocks for as long as removing takes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove_log(&self, tp: &TopicPartition) -> Result<(), Error> {
        let directory = self.root.join(tp.to_string());
        match self.retire(&directory) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Removes a partition's files but the one that says whose they are. Blocks for as long as removing takes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn empty_log(&self, tp: &TopicPartition) -> Result<(), Error> {
        let directory = self.root.join(tp.to_string());
        for entry in self.io.list(&directory).map_err(Error::io("list", &directory))? {
            if !entry.is_dir && entry.name != METADATA {
                let path = directory.join(entry.name);
                self.io.remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        self.io.sync_dir(&directory).map_err(Error::io("sync directory", &directory))
    }

    /// The partitions that have a directory, whether or not the metadata knows them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn partition_directories(&self) -> Result<Vec<String>, Error> {
        let entries = self.io.list(&self.root).map_err(Error::io("list", &self.root))?;
        let is_partition = |name: &str| name.rsplit_once('-').is_some_and(|(topic, n)| !topic.is_empty() && n.parse::<u32>().is_ok());
        Ok(entries.into_iter().filter(|entry| entry.is_dir && is_partition(&entry.name)).map(|entry| entry.name).collect())
    }

    /// Notes up to where logs are synced: at the next start, damage below is refused, and so is a log that ends before.
    ///
    /// Partitions that are not named keep the note they have: one that could not be opened is still held to it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_recovery_points(&self, synced: &BTreeMap<TopicPartition, Offset>) -> Result<(), Error> {
        self.recovery_points.set(synced.iter().map(|(tp, offset)| (tp.clone(), *offset)))
    }

    /// Bytes that were read so far to open logs, of which nobody vouched.
    pub fn recovered_bytes(&self) -> u64 {
        self.disk.recovered.load(Ordering::Relaxed)
    }

    /// How the node before stopped.
    pub fn last_stop(&self) -> LastStop {
        self.last_stop
    }

    /// Notes that every log is closed. The last that is done with a directory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn note_clean_stop(&self, broker_epoch: u64) -> Result<(), Error> {
        last_stop::end(self.io.as_ref(), &self.root, broker_epoch)
    }

    /// Notes up to where logs are readable: a start that finds less knows what was lost.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_high_watermarks(&self, readable: &BTreeMap<TopicPartition, Offset>) -> Result<(), Error> {
        self.high_watermarks.set(readable.iter().map(|(tp, offset)| (tp.clone(), *offset)))
    }

    /// Drops the notes of partitions that are going away, before their files do: a topic of the same name starts from nothing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn forget(&self, gone: &[TopicPartition]) -> Result<(), Error> {
        self.retain_notes(|tp| !gone.contains(tp))
    }

    /// Drops the notes of partitions that are no longer known.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn retain_notes(&self, is_known: impl Fn(&TopicPartition) -> bool) -> Result<(), Error> {
        self.recovery_points.retain(&is_known)?;
        self.high_watermarks.retain(&is_known)?;
        self.log_starts.retain(&is_known)?;
        self.first_dirty.retain(is_known)
    }

    fn holds_segments(&self, directory: &Path) -> Result<bool, Error> {
        match self.io.list(directory) {
            Ok(entries) => Ok(entries.iter().any(|entry| entry.name.ends_with(".log") || entry.name.ends_with(SWAP))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("list", directory)(error)),
        }
    }

    fn make_log_directory(&self, directory: &Path, topic: TopicId) -> Result<(), Error> {
        self.io.create_dir_all(directory).map_err(Error::io("create", directory))?;
        self.io.sync_dir(&self.root).map_err(Error::io("sync directory", &self.root))?;
        let path = directory.join(METADATA);
        let text = format!("version: 0\ntopic_id: {}\n", URL_SAFE_NO_PAD.encode(topic.get().as_bytes()));
        write_atomically(self.io.as_ref(), &path, text.as_bytes()).map_err(Error::io("write", &path))
    }

    fn retire(&self, directory: &Path) -> Result<(), Error> {
        let retired = self.set_aside(directory, "delete")?;
        self.io.remove_dir_all(&retired).map_err(Error::io("remove", &retired))
    }

    /// Takes a directory out of use; gives where it is now. The suffixes are Kafka's.
    fn set_aside(&self, directory: &Path, suffix: &str) -> Result<PathBuf, Error> {
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // A long topic name gives way so that the whole fits a file name.
        let suffix = format!(".{}-{suffix}", Uuid::new_v4().simple());
        let aside = self.root.join(format!("{}{suffix}", &name[..name.len().min(255 - suffix.len())]));
        self.io.rename(directory, &aside).map_err(Error::io("rename", directory))?;
        self.io.sync_dir(&self.root).map_err(Error::io("sync directory", &self.root))?;
        Ok(aside)
    }
}

/// The most that a topic which syncs each write before the next one can have on its way: a body's worth of bytes.
pub(crate) const UNSYNCED_BYTES_MAX: u64 = limits::BODY_BYTES_DEFAULT as u64 + limits::COALESCE_BYTES_MAX as u64;

fn refuse(root: &Path, reason: &str) -> Error {
    Error::Directory { path: root.to_owned(), reason: reason.to_owned() }
}

/// Removes what a removal that was cut off has left.
fn remove_leftovers(io: &dyn Io, root: &Path) -> Result<(), Error> {
    for entry in io.list(root).map_err(Error::io("list", root))? {
        if entry.is_dir && entry.name.ends_with("-delete") {
            let path = root.join(entry.name);
            io.remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

pub(crate) fn parse_topic_id(bytes: &[u8]) -> Option<TopicId> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    if lines.next()? != "version: 0" {
        return None;
    }
    let id = URL_SAFE_NO_PAD.decode(lines.next()?.strip_prefix("topic_id: ")?).ok()?;
    Uuid::from_slice(&id).ok().map(TopicId::new)
}

fn write_identity(io: &dyn Io, root: &Path, identity: &Identity) -> Result<(), Error> {
    let path = root.join("meta.properties");
    let cluster = identity.cluster_id.map_or_else(String::new, |id| format!("cluster.id={id}\n"));
    let text = format!(
        "version=1\ntidegate.format={FORMAT_VERSION}\nnode.id={}\ndirectory.id={}\n{cluster}",
        identity.node_id, identity.directory_id
    );
    write_atomically(io, &path, text.as_bytes()).map_err(Error::io("write", &path))
}

pub(crate) fn read_identity(io: &dyn Io, root: &Path) -> Result<Option<Identity>, Error> {
    let path = root.join("meta.properties");
    let Some(bytes) = read_small(io, &path).map_err(Error::io("read", &path))? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let properties: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
    match properties.get("tidegate.format").and_then(|version| version.parse::<u32>().ok()) {
        Some(FORMAT_VERSION) => {}
        Some(other) => return Err(refuse(root, &format!("its format version is {other}; this program reads version {FORMAT_VERSION}"))),
        None => return Err(refuse(root, "meta.properties names no format version: this is no directory of ours")),
    }
    let parsed = || {
        Some(Identity {
            node_id: NodeId::new(properties.get("node.id")?.parse().ok()?),
            directory_id: properties.get("directory.id")?.parse().ok()?,
            cluster_id: match properties.get("cluster.id") {
                Some(id) => Some(ClusterId::new(id.parse().ok()?)),
                None => None,
            },
        })
    };
    parsed().map(Some).ok_or_else(|| Error::Corrupt { path, position: 0, reason: "an id is missing or malformed".to_owned() })
}

#[cfg(test)]
mod tests;
