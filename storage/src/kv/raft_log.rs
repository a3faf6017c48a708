//! The Raft log and what belongs to it: entries, the vote, how far it is committed, how far it is purged.
//!
//! ```text
//!   last purged │ first entry … last entry │      no gaps, ever
//! ```

use std::ops::Range;

use rocksdb::{IteratorMode, ReadOptions, WriteBatch};

use super::keys::{self, KeyKind};
use super::{KvStore, Sync, kv_error};
use crate::Error;

/// One entry as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Its index.
    pub index: u64,
    /// What the floor above made of it.
    pub value: Vec<u8>,
}

impl KvStore {
    /// Writes entries and waits for the disk.
    ///
    /// # Errors
    /// [`Error::Kv`]; what is on disk then is unknown until the store is opened again.
    pub fn append_entries(&self, entries: &[LogRecord]) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        for entry in entries {
            batch.put(keys::log_entry(entry.index), &entry.value);
        }
        self.write(batch, Sync::Wait)
    }

    /// The entries with an index in `range`, as many as fit `bytes_max`, but at least one if there is any.
    ///
    /// # Errors
    /// [`Error::Kv`] or [`Error::Corrupt`].
    pub fn read_entries(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<LogRecord>, Error> {
        let mut entries = Vec::new();
        let mut room = bytes_max;
        self.scan(&keys::log_entry(range.start), &keys::log_entry(range.end.max(range.start)), |key, value| {
            if !entries.is_empty() && value.len() > room {
                return Ok(false);
            }
            room = room.saturating_sub(value.len());
            entries.push(LogRecord { index: self.index_of(key)?, value: value.to_vec() });
            Ok(true)
        })?;
        Ok(entries)
    }

    /// The entry with the greatest index.
    ///
    /// # Errors
    /// [`Error::Kv`] or [`Error::Corrupt`].
    pub fn last_entry(&self) -> Result<Option<LogRecord>, Error> {
        self.with_db(|db| {
            let mut options = ReadOptions::default();
            options.set_iterate_range(KeyKind::LogEntry.only()..keys::LOG_END);
            match db.iterator_opt(IteratorMode::End, options).next() {
                None => Ok(None),
                Some(Err(error)) => Err(kv_error(&self.path, &error)),
                Some(Ok((key, value))) => Ok(Some(LogRecord { index: self.index_of(&key)?, value: value.into_vec() })),
            }
        })
    }

    /// Drops the entries from `first` on, and waits for the disk: an entry that came back after a crash would contradict what was written later.
    ///
    /// # Errors
    /// [`Error::Kv`].
    pub fn truncate_entries(&self, first: u64) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        batch.delete_range(keys::log_entry(first).as_slice(), keys::LOG_END.as_slice());
        self.write(batch, Sync::Wait)
    }

    /// Drops the entries up to `last`, that one too, and remembers `last_purged` in the same write.
    ///
    /// # Errors
    /// [`Error::Kv`].
    pub fn purge_entries(&self, last: u64, last_purged: &[u8]) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        let end = match last.checked_add(1) {
            Some(next) => keys::log_entry(next).to_vec(),
            None => keys::LOG_END.to_vec(),
        };
        batch.delete_range(keys::log_entry(0).to_vec(), end);
        batch.put(KeyKind::LastPurged.only(), last_purged);
        self.write(batch, Sync::Wait)
    }

    /// What [`KvStore::purge_entries`] has remembered.
    ///
    /// # Errors
    /// [`Error::Kv`] or [`Error::Corrupt`].
    pub fn last_purged(&self) -> Result<Option<Vec<u8>>, Error> {
        self.get(&KeyKind::LastPurged.only())
    }

    /// Remembers the vote and waits for the disk: a vote that is forgotten is given twice.
    ///
    /// # Errors
    /// [`Error::Kv`].
    pub fn save_vote(&self, vote: &[u8]) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        batch.put(KeyKind::Vote.only(), vote);
        self.write(batch, Sync::Wait)
    }

    /// The vote.
    ///
    /// # Errors
    /// [`Error::Kv`] or [`Error::Corrupt`].
    pub fn vote(&self) -> Result<Option<Vec<u8>>, Error> {
        self.get(&KeyKind::Vote.only())
    }

    /// Remembers how far the log is committed; `None` forgets it. It only makes the next start faster, so it waits for no disk.
    ///
    /// # Errors
    /// [`Error::Kv`].
    pub fn save_committed(&self, committed: Option<&[u8]>) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        match committed {
            Some(committed) => batch.put(KeyKind::Committed.only(), committed),
            None => batch.delete(KeyKind::Committed.only()),
        }
        self.write(batch, Sync::Later)
    }

    /// What [`KvStore::save_committed`] has remembered.
    ///
    /// # Errors
    /// [`Error::Kv`] or [`Error::Corrupt`].
    pub fn committed(&self) -> Result<Option<Vec<u8>>, Error> {
        self.get(&KeyKind::Committed.only())
    }

    /// A log with a gap was not written by us; Raft would take its last entry's word for all before it.
    pub(super) fn check_log_is_contiguous(&self) -> Result<(), Error> {
        let mut previous: Option<u64> = None;
        self.scan(&KeyKind::LogEntry.only(), &keys::LOG_END, |key, _| {
            let index = self.index_of(key)?;
            match previous {
                Some(before) if before.checked_add(1) != Some(index) => {
                    Err(self.corrupt(format!("the Raft log goes from entry {before} to entry {index}")))
                }
                _ => {
                    previous = Some(index);
                    Ok(true)
                }
            }
        })
    }

    fn index_of(&self, key: &[u8]) -> Result<u64, Error> {
        keys::log_index(key).ok_or_else(|| self.corrupt(format!("{key:?} is no key of a log entry")))
    }
}

#[cfg(test)]
mod tests {
    use tidegate_types::NodeId;
    use uuid::Uuid;

    use super::*;

    fn open(directory: &tempfile::TempDir) -> Result<KvStore, Error> {
        KvStore::open(&directory.path().join("metadata"), NodeId::new(1), Uuid::from_u128(7))
    }

    fn entries(indexes: Range<u64>) -> Vec<LogRecord> {
        indexes.map(|index| LogRecord { index, value: format!("entry {index}").into_bytes() }).collect()
    }

    fn indexes(entries: &[LogRecord]) -> Vec<u64> {
        entries.iter().map(|entry| entry.index).collect()
    }

    /// A promise: truncating and purging cut exactly where they are told, and it stays so after the store is opened again.
    #[test]
    fn the_log_is_cut_where_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory).unwrap();
        assert_eq!(store.last_entry().unwrap(), None);
        store.append_entries(&entries(0..300)).unwrap();
        store.truncate_entries(280).unwrap();
        store.purge_entries(255, b"255").unwrap();
        let check = |store: &KvStore| {
            assert_eq!(indexes(&store.read_entries(0..u64::MAX, usize::MAX).unwrap()), (256..280).collect::<Vec<_>>());
            assert_eq!(indexes(&store.read_entries(250..258, usize::MAX).unwrap()), [256, 257]);
            assert_eq!(store.read_entries(Range { start: 9, end: 3 }, usize::MAX).unwrap(), []);
            assert_eq!(store.last_entry().unwrap(), entries(279..280).pop());
            assert_eq!(store.last_purged().unwrap().as_deref(), Some(&b"255"[..]));
        };
        check(&store);
        drop(store);
        check(&open(&directory).unwrap());
    }

    /// A promise: a reader gets as many entries as it has room for, and never none where there are some.
    #[test]
    fn reads_are_bounded_in_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory).unwrap();
        store.append_entries(&entries(0..9)).unwrap();
        assert_eq!(indexes(&store.read_entries(0..9, 0).unwrap()), [0]);
        assert_eq!(indexes(&store.read_entries(2..9, 3 * "entry 2".len()).unwrap()), [2, 3, 4]);
    }

    /// A promise: vote and committed are read back as written, also by the next process.
    #[test]
    fn what_raft_must_remember_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory).unwrap();
        assert_eq!((store.vote().unwrap(), store.committed().unwrap()), (None, None));
        store.save_vote(b"first").unwrap();
        store.save_vote(b"second").unwrap();
        store.save_committed(Some(b"third")).unwrap();
        drop(store);
        let store = open(&directory).unwrap();
        assert_eq!(store.vote().unwrap().as_deref(), Some(&b"second"[..]));
        assert_eq!(store.committed().unwrap().as_deref(), Some(&b"third"[..]));
        store.save_committed(None).unwrap();
        assert_eq!(store.committed().unwrap(), None);
    }

    /// A promise: a log with a hole is refused when it is opened, not believed.
    #[test]
    fn a_hole_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory).unwrap();
        store.append_entries(&entries(0..3)).unwrap();
        store.append_entries(&entries(4..5)).unwrap();
        drop(store);
        let error = open(&directory).unwrap_err();
        assert!(matches!(&error, Error::Corrupt { reason, .. } if reason.contains("from entry 2 to entry 4")), "{error}");
    }
}
