//! Raft's log, on `storage::kv`.
//!
//! Every write that Raft relies on has reached the disk when its call returns; the waiting is done on the blocking pool.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    AnyError, Entry, ErrorSubject, ErrorVerb, LogId, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote,
};
use tidegate_storage::kv::{KvStore, LogRecord};

use super::codec::{self, CodecError};
use super::raft::{EntryRecord, LogIdRecord, TypeConfig, VoteRecord};

/// What one read of a replication stream brings: 300 entries that each make a large topic would be too much at once.
const READ_BYTES_MAX: usize = 1 << 20;

/// What can go wrong below Raft. Any of it stops Raft for good; the node starts anew from what is on disk.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Storage(#[from] tidegate_storage::Error),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the work was not finished: {0}")]
    Blocking(String),
}

impl Failure {
    pub(super) fn on(self, subject: ErrorSubject<u64>, verb: ErrorVerb) -> StorageError<u64> {
        StorageIOError::new(subject, verb, AnyError::new(&self)).into()
    }
}

/// Runs work that waits for the disk where it holds nobody up.
pub(super) async fn blocking<T, E>(kv: &Arc<KvStore>, work: impl FnOnce(&KvStore) -> Result<T, E> + Send + 'static) -> Result<T, Failure>
where
    T: Send + 'static,
    E: Send + 'static,
    Failure: From<E>,
{
    let kv = Arc::clone(kv);
    match tokio::task::spawn_blocking(move || work(&kv)).await {
        Ok(result) => result.map_err(Failure::from),
        Err(error) => Err(Failure::Blocking(error.to_string())),
    }
}

/// The log. Clones are readers of the same one.
#[derive(Clone)]
pub(super) struct LogStore {
    kv: Arc<KvStore>,
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogStore")
    }
}

impl LogStore {
    pub(super) fn new(kv: Arc<KvStore>) -> Self {
        Self { kv }
    }

    async fn read(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        let read = blocking(&self.kv, move |kv| -> Result<_, Failure> {
            let records = kv.read_entries(start..end, bytes_max)?;
            records.iter().map(decode_entry).collect()
        });
        read.await.map_err(|failure| failure.on(ErrorSubject::Logs, ErrorVerb::Read))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        self.read(start, end, READ_BYTES_MAX).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError<u64>> {
        let state = blocking(&self.kv, |kv| -> Result<_, Failure> {
            let last_purged_log_id = decode_log_id(kv.last_purged()?)?;
            let last_log_id = match kv.last_entry()? {
                Some(record) => Some(decode_entry(&record)?.log_id),
                None => last_purged_log_id,
            };
            Ok(LogState { last_purged_log_id, last_log_id })
        });
        state.await.map_err(|failure| failure.on(ErrorSubject::Logs, ErrorVerb::Read))
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        let vote = codec::encode(&VoteRecord::from(*vote));
        let saved = blocking(&self.kv, move |kv| kv.save_vote(&vote)).await;
        saved.map_err(|failure| failure.on(ErrorSubject::Vote, ErrorVerb::Write))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        let vote = blocking(&self.kv, |kv| -> Result<_, Failure> {
            let Some(vote) = kv.vote()? else {
                return Ok(None);
            };
            let vote: VoteRecord = codec::decode("the vote", &vote)?;
            Ok(Some(vote.into()))
        });
        vote.await.map_err(|failure| failure.on(ErrorSubject::Vote, ErrorVerb::Read))
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), StorageError<u64>> {
        let committed = committed.map(|id| codec::encode(&LogIdRecord::from(id)));
        let saved = blocking(&self.kv, move |kv| kv.save_committed(committed.as_deref())).await;
        saved.map_err(|failure| failure.on(ErrorSubject::Logs, ErrorVerb::Write))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, StorageError<u64>> {
        let committed = blocking(&self.kv, |kv| -> Result<_, Failure> { Ok(decode_log_id(kv.committed()?)?) });
        committed.await.map_err(|failure| failure.on(ErrorSubject::Logs, ErrorVerb::Read))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records: Vec<_> = entries.into_iter().map(encode_entry).collect();
        match blocking(&self.kv, move |kv| kv.append_entries(&records)).await {
            Ok(()) => {
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(failure) => {
                callback.log_io_completed(Err(std::io::Error::other(failure.to_string())));
                Err(failure.on(ErrorSubject::Logs, ErrorVerb::Write))
            }
        }
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let truncated = blocking(&self.kv, move |kv| kv.truncate_entries(log_id.index)).await;
        truncated.map_err(|failure| failure.on(ErrorSubject::Log(log_id), ErrorVerb::Delete))
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let last_purged = codec::encode(&LogIdRecord::from(log_id));
        let purged = blocking(&self.kv, move |kv| kv.purge_entries(log_id.index, &last_purged)).await;
        purged.map_err(|failure| failure.on(ErrorSubject::Log(log_id), ErrorVerb::Delete))
    }
}

fn encode_entry(entry: Entry<TypeConfig>) -> LogRecord {
    LogRecord { index: entry.log_id.index, value: codec::encode(&EntryRecord::from(entry)) }
}

fn decode_entry(record: &LogRecord) -> Result<Entry<TypeConfig>, Failure> {
    let entry = Entry::from(codec::decode::<EntryRecord>("a log entry", &record.value)?);
    if entry.log_id.index != record.index {
        let reason = format!("it says it is entry {} and stands at {}", entry.log_id.index, record.index);
        return Err(CodecError::Malformed { what: "a log entry", reason }.into());
    }
    Ok(entry)
}

fn decode_log_id(stored: Option<Vec<u8>>) -> Result<Option<LogId<u64>>, CodecError> {
    let Some(stored) = stored else {
        return Ok(None);
    };
    Ok(Some(codec::decode::<LogIdRecord>("a log id", &stored)?.into()))
}
