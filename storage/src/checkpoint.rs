//! Small text files in Kafka's shape: version, number of entries, one entry a line. Replaced atomically.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_types::{Offset, PartitionIndex, TopicName, TopicPartition};

use crate::Error;
use crate::io::{Io, read_small, write_atomically};

/// The file of recovery points: everything below an entry's offset was synced.
pub const RECOVERY_POINT: &str = "recovery-point-offset-checkpoint";

/// The file of high watermarks: everything below an entry's offset was readable.
pub const HIGH_WATERMARK: &str = "replication-offset-checkpoint";

/// The file of log starts: everything below an entry's offset was deleted on purpose.
pub const LOG_START: &str = "log-start-offset-checkpoint";

/// The file of first dirty offsets: everything below an entry's offset was compacted.
pub const FIRST_DIRTY: &str = "cleaner-offset-checkpoint";

/// One such file and what it says: what a call has changed is durable when the call returns.
#[derive(Debug)]
pub(crate) struct OffsetCheckpoint {
    io: Arc<dyn Io>,
    path: PathBuf,
    offsets: Mutex<BTreeMap<TopicPartition, Offset>>,
    /// A write has failed: the file may say what it was to say then.
    is_in_doubt: AtomicBool,
}

impl OffsetCheckpoint {
    /// Reads the file; none is no entries.
    pub(crate) fn open(io: Arc<dyn Io>, path: PathBuf) -> Result<Self, Error> {
        let offsets = read_offsets(io.as_ref(), &path)?;
        Ok(Self { io, path, offsets: Mutex::new(offsets), is_in_doubt: AtomicBool::new(false) })
    }

    /// The same of a file that nothing depends on: a damaged one has no entries.
    pub(crate) fn open_or_begin(io: Arc<dyn Io>, path: PathBuf) -> Result<Self, Error> {
        match Self::open(Arc::clone(&io), path) {
            Err(Error::Corrupt { path, .. }) => {
                tracing::warn!(path = %path.display(), "it is damaged; it is begun anew");
                Ok(Self { io, path, offsets: Mutex::default(), is_in_doubt: AtomicBool::new(false) })
            }
            opened => opened,
        }
    }

    /// A partition's entry, [`Offset::ZERO`] without one.
    pub(crate) fn get(&self, tp: &TopicPartition) -> Offset {
        self.find(tp).unwrap_or(Offset::ZERO)
    }

    /// A partition's entry, if it has one.
    pub(crate) fn find(&self, tp: &TopicPartition) -> Option<Offset> {
        self.lock().get(tp).copied()
    }

    /// Sets entries; all others stay. After an error the file holds the old or the new ones, and the next call begins with the old.
    pub(crate) fn set(&self, entries: impl IntoIterator<Item = (TopicPartition, Offset)>) -> Result<(), Error> {
        let mut offsets = self.lock();
        let mut changed = offsets.clone();
        changed.extend(entries);
        self.replace(&mut offsets, changed)
    }

    /// Keeps only the entries of these partitions. Writes nothing if that is all of them.
    pub(crate) fn retain(&self, is_kept: impl Fn(&TopicPartition) -> bool) -> Result<(), Error> {
        let mut offsets = self.lock();
        let kept: BTreeMap<_, _> = offsets.iter().filter(|(tp, _)| is_kept(tp)).map(|(tp, offset)| (tp.clone(), *offset)).collect();
        // What is to go may stand in the file although nobody here knows of it.
        if kept.len() < offsets.len() || self.is_in_doubt.load(Ordering::Relaxed) {
            self.replace(&mut offsets, kept)?;
        }
        Ok(())
    }

    fn replace(&self, offsets: &mut BTreeMap<TopicPartition, Offset>, by: BTreeMap<TopicPartition, Offset>) -> Result<(), Error> {
        self.is_in_doubt.store(true, Ordering::Relaxed);
        write_offsets(self.io.as_ref(), &self.path, &by)?;
        self.is_in_doubt.store(false, Ordering::Relaxed);
        *offsets = by;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Offset>> {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes one offset for each partition (`<topic> <partition> <offset>`).
///
/// # Errors
/// [`Error::Io`]; the old file is then still there.
pub fn write_offsets(io: &dyn Io, path: &Path, offsets: &BTreeMap<TopicPartition, Offset>) -> Result<(), Error> {
    let lines: String = offsets.iter().map(|(tp, offset)| format!("{} {} {offset}\n", tp.topic, tp.partition)).collect();
    let text = format!("0\n{}\n{lines}", offsets.len());
    write_atomically(io, path, text.as_bytes()).map_err(Error::io("write", path))
}

/// Reads what [`write_offsets`] wrote; no file is no entries.
///
/// # Errors
/// [`Error::Corrupt`] if it is not such a file.
pub fn read_offsets(io: &dyn Io, path: &Path) -> Result<BTreeMap<TopicPartition, Offset>, Error> {
    let Some(bytes) = read_small(io, path).map_err(Error::io("read", path))? else {
        return Ok(BTreeMap::new());
    };
    parse(&bytes).ok_or_else(|| Error::Corrupt { path: path.to_owned(), position: 0, reason: "not a checkpoint of offsets".to_owned() })
}

pub(crate) fn parse(bytes: &[u8]) -> Option<BTreeMap<TopicPartition, Offset>> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let offsets = lines.map(parse_line).collect::<Option<BTreeMap<_, _>>>()?;
    (offsets.len() == count).then_some(offsets)
}

fn parse_line(line: &str) -> Option<(TopicPartition, Offset)> {
    let mut words = line.split(' ');
    let topic = TopicName::new(words.next()?).ok()?;
    let partition = PartitionIndex::new(words.next()?.parse().ok()?);
    let offset = Offset::new(words.next()?.parse().ok()?)?;
    words.next().is_none().then_some((TopicPartition { topic, partition }, offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Failure, FaultPlan, Faulty, Operation};

    /// A promise: offsets come back, in Kafka's text, and half a file is refused.
    #[test]
    fn offsets_come_back() {
        let disk = Faulty::new();
        let path = Path::new("/data/recovery-point-offset-checkpoint");
        disk.create_dir_all(Path::new("/data")).unwrap();
        assert_eq!(read_offsets(&disk, path).unwrap(), BTreeMap::new());
        let tp = |n| TopicPartition { topic: TopicName::new("a").unwrap(), partition: PartitionIndex::new(n) };
        let offsets = BTreeMap::from([(tp(0), Offset::ZERO), (tp(1), Offset::MAX)]);
        write_offsets(&disk, path, &offsets).unwrap();
        assert_eq!(read_small(&disk, path).unwrap().unwrap(), b"0\n2\na 0 0\na 1 9007199254740991\n");
        assert_eq!(read_offsets(&disk, path).unwrap(), offsets);
        for bad in ["", "1\n0\n", "0\n2\na 0 0\n", "0\n1\na 0 -1\n", "0\n1\na 0 1 2\n", "0\n1\n../a 0 1\n"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    /// A promise: an entry whose write has failed half way is not left behind when its partition goes.
    #[test]
    fn what_may_have_been_written_is_removed() {
        let disk = Faulty::new();
        let path = Path::new("/data/log-start-offset-checkpoint");
        disk.create_dir_all(Path::new("/data")).unwrap();
        let checkpoint = OffsetCheckpoint::open(Arc::new(disk.clone()), path.to_owned()).unwrap();
        let tp = TopicPartition { topic: TopicName::new("a").unwrap(), partition: PartitionIndex::new(0) };
        let failure = Failure { on: Some(Operation::SyncDirectory), skip: 0, times: 1, kind: std::io::ErrorKind::Other };
        disk.set_plan(FaultPlan { failures: vec![failure], ..FaultPlan::default() });
        checkpoint.set([(tp.clone(), Offset::MAX)]).unwrap_err();
        assert_eq!((checkpoint.find(&tp), read_offsets(&disk, path).unwrap().len()), (None, 1));
        checkpoint.retain(|_| false).unwrap();
        assert_eq!(read_offsets(&disk, path).unwrap(), BTreeMap::new());
        let steps = disk.steps();
        checkpoint.retain(|_| false).unwrap();
        assert_eq!(disk.steps(), steps, "nothing is in doubt any more");
    }
}
