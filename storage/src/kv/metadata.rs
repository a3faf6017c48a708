//! The applied state: a key for each thing, so that a change writes what it changes and no more.

use std::sync::PoisonError;

use rocksdb::WriteBatch;

use super::keys::{self, KeyKind, MetadataKey};
use super::{KvStore, StoredSnapshot, Sync, snapshot};
use crate::Error;

/// What one or more applied entries have changed, and how far they go: written together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataBatch {
    /// What has a new value.
    pub puts: Vec<(MetadataKey, Vec<u8>)>,
    /// What is gone.
    pub deletes: Vec<MetadataKey>,
    /// How far the state is applied, with what belongs to that.
    pub applied: Vec<u8>,
}

impl MetadataBatch {
    fn add_to(self, batch: &mut WriteBatch) {
        for key in self.deletes {
            batch.delete(key.encode());
        }
        for (key, value) in self.puts {
            batch.put(key.encode(), value);
        }
        batch.put(KeyKind::Applied.only(), self.applied);
    }
}

impl KvStore {
    /// Writes changes: the deletes first, then the puts.
    ///
    /// It waits for no disk. The entries that made these changes are in the log, synced, and the log is purged only by a later write, which
    /// cannot survive a crash without this one: at worst they are applied again.
    ///
    /// # Errors
    /// [`Error::Kv`].
    pub fn write_metadata(&self, changes: MetadataBatch) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        changes.add_to(&mut batch);
        self.write(batch, Sync::Later)
    }

    /// Replaces the whole state by `state`, and the kept snapshot by the one it came from, in one synced write: the entries in between are nowhere else.
    ///
    /// # Errors
    /// [`Error::Kv`].
    pub fn replace_metadata(&self, state: MetadataBatch, from: &StoredSnapshot) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        for (first, end) in keys::METADATA {
            batch.delete_range(first, end);
        }
        state.add_to(&mut batch);
        snapshot::put(&mut batch, from);
        let _one_at_a_time = self.snapshot_lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(batch, Sync::Wait)
    }

    /// How far the state is applied; `None` if nothing ever was.
    ///
    /// # Errors
    /// [`Error::Kv`] or [`Error::Corrupt`].
    pub fn applied(&self) -> Result<Option<Vec<u8>>, Error> {
        self.get(&KeyKind::Applied.only())
    }

    /// The whole state, in order of keys.
    ///
    /// # Errors
    /// [`Error::Kv`] or [`Error::Corrupt`].
    pub fn metadata(&self) -> Result<Vec<(MetadataKey, Vec<u8>)>, Error> {
        let mut records = Vec::new();
        for (first, end) in keys::METADATA {
            self.scan(&first, &end, |key, value| {
                let key = MetadataKey::decode(key).ok_or_else(|| self.corrupt(format!("{key:?} is no key of the metadata")))?;
                records.push((key, value.to_vec()));
                Ok(true)
            })?;
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_types::{NodeId, TopicId};
    use uuid::Uuid;

    use super::*;

    fn open(directory: &tempfile::TempDir) -> KvStore {
        KvStore::open(&directory.path().join("metadata"), NodeId::new(1), Uuid::from_u128(7)).unwrap()
    }

    fn put(key: MetadataKey, value: &str) -> (MetadataKey, Vec<u8>) {
        (key, value.as_bytes().to_vec())
    }

    /// A promise: each change finds exactly its own key, and replacing the state leaves nothing of the old one.
    #[test]
    fn the_state_is_what_was_written_last() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        let node = MetadataKey::Node(NodeId::new(1));
        let topic = |n| MetadataKey::Topic(TopicId::new(Uuid::from_u128(n)));
        let named = || put(MetadataKey::Producer("meter-7".to_owned()), "p");
        let first = vec![put(MetadataKey::Cluster, "c"), put(node.clone(), "n"), put(topic(1), "t1"), put(topic(2), "t2"), named()];
        store.write_metadata(MetadataBatch { puts: first, deletes: vec![], applied: b"4".to_vec() }).unwrap();
        store.write_metadata(MetadataBatch { puts: vec![put(topic(2), "t2'")], deletes: vec![topic(1)], applied: b"5".to_vec() }).unwrap();
        drop(store);
        let store = open(&directory);
        assert_eq!(store.metadata().unwrap(), [put(MetadataKey::Cluster, "c"), put(node, "n"), put(topic(2), "t2'"), named()]);
        assert_eq!(store.applied().unwrap().as_deref(), Some(&b"5"[..]));

        store.save_vote(b"vote").unwrap();
        let snapshot = StoredSnapshot { end_index: 10, header: b"h".to_vec(), data: b"d".to_vec() };
        let state = MetadataBatch { puts: vec![put(topic(3), "t3")], deletes: vec![], applied: b"9".to_vec() };
        store.replace_metadata(state, &snapshot).unwrap();
        assert_eq!(store.metadata().unwrap(), [put(topic(3), "t3")]);
        assert_eq!(store.applied().unwrap().as_deref(), Some(&b"9"[..]));
        assert_eq!(store.snapshot().unwrap(), Some(snapshot));
        assert_eq!(store.vote().unwrap().as_deref(), Some(&b"vote"[..]));
    }
}
