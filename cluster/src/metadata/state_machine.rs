//! Raft's state machine, on `storage::kv`: applies what is committed, stores what has changed, and publishes the image before anybody gets an answer.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Cursor;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{
    Entry, EntryPayload, ErrorSubject, ErrorVerb, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError,
    StoredMembership,
};
use tidegate_storage::kv::{KvStore, MetadataBatch, MetadataKey, StoredSnapshot};
use tokio::sync::watch;

use super::codec;
use super::command::Outcome;
use super::image::{MetadataImage, Published};
use super::log_store::{Failure, blocking};
use super::raft::{AppliedRecord, Member, Progress, SnapshotRecord, TypeConfig};
use super::state::MetadataState;

pub(super) struct StateMachine {
    kv: Arc<KvStore>,
    state: MetadataState,
    progress: Progress,
    published: watch::Sender<Published>,
}

impl fmt::Debug for StateMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateMachine").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl StateMachine {
    /// The state as it is stored.
    pub(super) async fn load(kv: Arc<KvStore>) -> Result<Self, Failure> {
        let (state, progress) = blocking(&kv, |kv| -> Result<_, Failure> {
            let progress = match kv.applied()? {
                Some(applied) => codec::decode::<AppliedRecord>("the applied position", &applied)?.into(),
                None => Progress::default(),
            };
            Ok((MetadataState::from_records(&kv.metadata()?)?, progress))
        })
        .await?;
        let (published, _) = watch::channel(published(&state, &progress));
        Ok(Self { kv, state, progress, published })
    }

    /// What everybody watches.
    pub(super) fn watch(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    fn publish(&self) {
        self.published.send_replace(published(&self.state, &self.progress));
    }

    fn apply_one(&mut self, entry: Entry<TypeConfig>, changed: &mut BTreeSet<MetadataKey>) -> Outcome {
        let index = entry.log_id.index;
        self.progress.last_applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Outcome::Done { version: index },
            EntryPayload::Normal(command) => {
                let applied = self.state.apply(index, &command);
                changed.extend(applied.changed);
                applied.outcome
            }
            EntryPayload::Membership(membership) => {
                self.progress.membership = StoredMembership::new(Some(entry.log_id), membership);
                Outcome::Done { version: index }
            }
        }
    }
}

fn published(state: &MetadataState, progress: &Progress) -> Published {
    Published { version: progress.last_applied.map_or(0, |id| id.index), image: Arc::clone(state.image()) }
}

/// What is written for these keys: their records, or that they have none any more.
fn batch(state: &MetadataState, progress: &Progress, keys: impl IntoIterator<Item = MetadataKey>) -> MetadataBatch {
    let mut batch = MetadataBatch { applied: codec::encode(&AppliedRecord::from(progress)), ..MetadataBatch::default() };
    for key in keys {
        match state.record(&key) {
            Some(record) => batch.puts.push((key, record)),
            None => batch.deletes.push(key),
        }
    }
    batch
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId<u64>>, StoredMembership<u64, Member>), StorageError<u64>> {
        Ok((self.progress.last_applied, self.progress.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut changed = BTreeSet::new();
        let outcomes = entries.into_iter().map(|entry| self.apply_one(entry, &mut changed)).collect();
        let batch = batch(&self.state, &self.progress, changed);
        let written = blocking(&self.kv, move |kv| kv.write_metadata(batch)).await;
        written.map_err(|failure| failure.on(ErrorSubject::StateMachine, ErrorVerb::Write))?;
        // Before the outcomes are out: who has got one must find it in the image.
        self.publish();
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { kv: Arc::clone(&self.kv), image: Arc::clone(self.state.image()), progress: self.progress.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, Member>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        let failed = |failure: Failure| failure.on(ErrorSubject::Snapshot(Some(meta.signature())), ErrorVerb::Write);
        let data = snapshot.into_inner();
        let state = MetadataState::from_snapshot(&data).map_err(|error| failed(error.into()))?;
        let progress = Progress { last_applied: meta.last_log_id, membership: meta.last_membership.clone() };
        let batch = batch(&state, &progress, state.keys());
        let stored = stored_snapshot(meta, data);
        blocking(&self.kv, move |kv| kv.replace_metadata(batch, &stored)).await.map_err(failed)?;
        self.state = state;
        self.progress = progress;
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError<u64>> {
        let read = blocking(&self.kv, |kv| -> Result<_, Failure> {
            let Some(stored) = kv.snapshot()? else {
                return Ok(None);
            };
            let record: SnapshotRecord = codec::decode("a snapshot's header", &stored.header)?;
            Ok(Some(Snapshot { meta: record.into(), snapshot: Box::new(Cursor::new(stored.data)) }))
        });
        read.await.map_err(|failure| failure.on(ErrorSubject::Snapshot(None), ErrorVerb::Read))
    }
}

/// A view of the state at one moment: it does not change while the state goes on.
pub(super) struct SnapshotBuilder {
    kv: Arc<KvStore>,
    image: Arc<MetadataImage>,
    progress: Progress,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError<u64>> {
        let meta = SnapshotMeta {
            last_log_id: self.progress.last_applied,
            last_membership: self.progress.membership.clone(),
            snapshot_id: snapshot_id(self.progress.last_applied),
        };
        let image = Arc::clone(&self.image);
        let to_store = meta.clone();
        let built = blocking(&self.kv, move |kv| -> Result<_, Failure> {
            let stored = stored_snapshot(&to_store, MetadataState::snapshot_of(&image));
            kv.save_snapshot(&stored)?;
            Ok(stored.data)
        });
        let data = built.await.map_err(|failure| failure.on(ErrorSubject::Snapshot(Some(meta.signature())), ErrorVerb::Write))?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(data)) })
    }
}

/// The same state gives the same bytes, so that its position is name enough.
fn snapshot_id(last: Option<LogId<u64>>) -> String {
    last.map_or_else(|| "empty".to_owned(), |id| format!("{}-{}-{}", id.leader_id.term, id.leader_id.node_id, id.index))
}

fn stored_snapshot(meta: &SnapshotMeta<u64, Member>, data: Vec<u8>) -> StoredSnapshot {
    let end_index = meta.last_log_id.map_or(0, |id| id.index.saturating_add(1));
    StoredSnapshot { end_index, header: codec::encode(&SnapshotRecord::from(meta)), data }
}

#[cfg(test)]
mod tests {
    use openraft::testing::{StoreBuilder, Suite};
    use tidegate_types::NodeId;
    use uuid::Uuid;

    use super::super::log_store::LogStore;
    use super::*;

    struct InTemporaryDirectories;

    impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for InTemporaryDirectories {
        async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<u64>> {
            let directory = tempfile::tempdir().unwrap();
            let kv = Arc::new(KvStore::open(&directory.path().join("metadata"), NodeId::new(0), Uuid::from_u128(7)).unwrap());
            let state_machine = StateMachine::load(Arc::clone(&kv)).await.unwrap();
            Ok((directory, LogStore::new(kv), state_machine))
        }
    }

    /// A promise: the store is what openraft takes it for, by openraft's own suite.
    #[test]
    fn openrafts_suite_passes() {
        Suite::test_all(InTemporaryDirectories).unwrap();
    }

    /// A promise: a snapshot that is installed is shown at once, replaces all that was there, and is there after a restart.
    #[tokio::test]
    async fn an_installed_snapshot_is_the_state() {
        let (_giver_directory, _, mut giver) = InTemporaryDirectories.build().await.unwrap();
        let (_directory, _, mut taker) = InTemporaryDirectories.build().await.unwrap();
        let register = |node_id: u64, index: u64| Entry::<TypeConfig> {
            log_id: LogId::new(openraft::CommittedLeaderId::new(1, 1), index),
            payload: EntryPayload::Normal(super::super::command::Command::RegisterNode {
                node_id: NodeId::new(node_id),
                client_address: "h:1".to_owned(),
                peer_address: None,
                rack: None,
                directory_id: Uuid::from_u128(1),
            }),
        };
        giver.apply([register(1, 1), register(2, 2)]).await.unwrap();
        taker.apply([register(3, 1)]).await.unwrap();
        let watch = taker.watch();
        let snapshot = giver.get_snapshot_builder().await.build_snapshot().await.unwrap();
        taker.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
        assert_eq!(*watch.borrow(), *giver.watch().borrow());
        let restarted = StateMachine::load(Arc::clone(&taker.kv)).await.unwrap();
        assert_eq!(*restarted.watch().borrow(), *giver.watch().borrow());
    }
}
