//! The whole applied state in one piece, as it is sent to a node that has fallen behind the log. One is kept, the newest.

use std::sync::PoisonError;

use rocksdb::WriteBatch;

use super::keys::KeyKind;
use super::{KvStore, Sync};
use crate::Error;

/// A snapshot as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// The index after the last entry that it contains; 0 if it contains none.
    pub end_index: u64,
    /// What says which snapshot it is.
    pub header: Vec<u8>,
    /// The state.
    pub data: Vec<u8>,
}

pub(super) fn put(batch: &mut WriteBatch, snapshot: &StoredSnapshot) {
    let header = [&snapshot.end_index.to_be_bytes(), snapshot.header.as_slice()].concat();
    batch.put(KeyKind::SnapshotHeader.only(), header);
    batch.put(KeyKind::SnapshotData.only(), &snapshot.data);
}

impl KvStore {
    /// Keeps a snapshot instead of the one before it, unless that one is newer (`false`): building one may take longer than receiving a newer one.
    ///
    /// It waits for no disk: the log that it stands for is purged only by a later write.
    ///
    /// # Errors
    /// [`Error::Kv`] or [`Error::Corrupt`].
    pub fn save_snapshot(&self, snapshot: &StoredSnapshot) -> Result<bool, Error> {
        let _one_at_a_time = self.snapshot_lock.lock().unwrap_or_else(PoisonError::into_inner);
        if self.snapshot_header()?.is_some_and(|(end_index, _)| end_index > snapshot.end_index) {
            return Ok(false);
        }
        let mut batch = WriteBatch::default();
        put(&mut batch, snapshot);
        self.write(batch, Sync::Later)?;
        Ok(true)
    }

    /// The kept snapshot.
    ///
    /// # Errors
    /// [`Error::Kv`] or [`Error::Corrupt`].
    pub fn snapshot(&self) -> Result<Option<StoredSnapshot>, Error> {
        let Some((end_index, header)) = self.snapshot_header()? else {
            return Ok(None);
        };
        match self.get(&KeyKind::SnapshotData.only())? {
            Some(data) => Ok(Some(StoredSnapshot { end_index, header, data })),
            None => Err(self.corrupt("the snapshot has a header and no data".to_owned())),
        }
    }

    fn snapshot_header(&self) -> Result<Option<(u64, Vec<u8>)>, Error> {
        let Some(stored) = self.get(&KeyKind::SnapshotHeader.only())? else {
            return Ok(None);
        };
        match stored.split_first_chunk::<8>() {
            Some((end_index, header)) => Ok(Some((u64::from_be_bytes(*end_index), header.to_vec()))),
            None => Err(self.corrupt("the snapshot's header is too short".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_types::NodeId;
    use uuid::Uuid;

    use super::*;

    /// A promise: the newest snapshot is kept, and it alone, however late an older one is finished.
    #[test]
    fn the_newest_snapshot_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = KvStore::open(&directory.path().join("metadata"), NodeId::new(1), Uuid::from_u128(7)).unwrap();
        let snapshot =
            |end_index: u64| StoredSnapshot { end_index, header: vec![1, 2], data: vec![u8::try_from(end_index).unwrap(); 3 << 20] };
        assert_eq!(store.snapshot().unwrap(), None);
        assert!(store.save_snapshot(&snapshot(0)).unwrap());
        assert!(store.save_snapshot(&snapshot(5)).unwrap());
        assert!(!store.save_snapshot(&snapshot(4)).unwrap());
        assert_eq!(store.snapshot().unwrap(), Some(snapshot(5)));
        assert!(store.save_snapshot(&snapshot(5)).unwrap());
    }
}
