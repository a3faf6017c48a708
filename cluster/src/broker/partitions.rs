//! The partitions that this node has open, kept as the metadata says.
//!
//! Readers look them up in a map that is replaced as a whole. One follower at a time changes it; opening (which reads the log) and
//! removing happen on threads that may block.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::stream;
use tidegate_storage::{DiskPool, Store};
use tidegate_types::{Clock, Limits, NodeId, Offset, PartitionIndex, TopicId, TopicPartition};
use tokio::sync::{Mutex, watch};

use super::BrokerConfig;
use crate::error::Error;
use crate::metadata::image::{MetadataImage, Published, Topic};
use crate::partition::{Partition, Surroundings};

/// A partition of this node.
#[derive(Debug, Clone)]
enum Slot {
    Open(Arc<Partition>),
    /// It could not be opened; the reason is every call's answer until the node is restarted.
    Failed(Error),
}

#[derive(Debug)]
struct OpenTopic {
    topic: Arc<Topic>,
    slots: HashMap<PartitionIndex, Slot>,
    /// Counts records without a key.
    keyless: AtomicU32,
}

type Open = HashMap<TopicId, Arc<OpenTopic>>;

/// Records without a key that go to one partition before the next one is chosen: enough for a batch, few enough to spread.
const STICKY_RECORDS: u32 = 256;

#[derive(Debug)]
pub(super) struct Partitions {
    node_id: NodeId,
    store: Arc<Store>,
    surroundings: Surroundings,
    limits: Limits,
    recovery_threads: usize,
    open: ArcSwap<Open>,
    /// One follower at a time.
    following: Mutex<()>,
    followed: watch::Sender<u64>,
    /// Partitions that are still to be opened by a start.
    expected: AtomicUsize,
}

/// How far the open logs are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) synced: BTreeMap<TopicPartition, Offset>,
    pub(super) readable: BTreeMap<TopicPartition, Offset>,
}

impl Partitions {
    pub(super) fn new(
        store: Arc<Store>,
        disk: Arc<DiskPool>,
        clock: Arc<dyn Clock>,
        metadata: watch::Receiver<Published>,
        config: &BrokerConfig,
    ) -> Self {
        Self {
            node_id: config.node_id,
            store,
            surroundings: Surroundings { disk, clock, producer_expiration: config.producer_expiration, metadata },
            limits: config.limits.clone(),
            recovery_threads: config.recovery_threads.max(1),
            open: ArcSwap::default(),
            following: Mutex::new(()),
            followed: watch::channel(0).0,
            expected: AtomicUsize::new(0),
        }
    }

    /// The open partition.
    pub(super) fn get(&self, topic: &Topic, partition: PartitionIndex) -> Result<Arc<Partition>, Error> {
        match self.open.load().get(&topic.id).and_then(|open| open.slots.get(&partition)) {
            Some(Slot::Open(partition)) => Ok(Arc::clone(partition)),
            Some(Slot::Failed(error)) => Err(error.clone()),
            None => Err(Error::LeaderUnavailable),
        }
    }

    /// A partition for a record without a key.
    pub(super) fn sticky(&self, topic: &Topic) -> PartitionIndex {
        let open = self.open.load();
        let count = open.get(&topic.id).map_or(0, |open| open.keyless.fetch_add(1, Ordering::Relaxed));
        PartitionIndex::new((count / STICKY_RECORDS) % topic.partition_count().max(1))
    }

    /// Waits until the map is what the metadata of `version` says.
    pub(super) async fn opened(&self, version: u64) {
        let mut followed = self.followed.subscribe();
        // The sender lives as long as `self`.
        let _ = followed.wait_for(|followed| *followed >= version).await;
    }

    /// Every open partition with its topic, as they are now.
    pub(super) fn all_open(&self) -> Vec<(Arc<Topic>, Arc<Partition>)> {
        let open = self.open.load();
        let slots = open.values().flat_map(|open| open.slots.values().map(|slot| (&open.topic, slot)));
        let open = slots.filter_map(|(topic, slot)| match slot {
            Slot::Open(partition) => Some((Arc::clone(topic), Arc::clone(partition))),
            Slot::Failed(_) => None,
        });
        open.collect()
    }

    /// Counts the partitions that are to be opened, before they are.
    pub(super) fn expect(&self, published: &Published) -> usize {
        let topics = published.image.topics.values();
        let led = |topic: &Arc<Topic>| (0..topic.partition_count()).filter(|n| self.leads(topic, PartitionIndex::new(*n))).count();
        let expected = topics.map(led).sum();
        self.expected.store(expected, Ordering::Relaxed);
        expected
    }

    /// How many of those are left.
    pub(super) fn expected(&self) -> usize {
        self.expected.load(Ordering::Relaxed)
    }

    fn leads(&self, topic: &Topic, index: PartitionIndex) -> bool {
        topic.partition(index).and_then(|state| state.leader) == Some(self.node_id)
    }

    /// How far each open log is.
    pub(super) fn checkpoint(&self) -> Checkpoint {
        let open = self.open.load();
        let mut checkpoint = Checkpoint::default();
        for slot in open.values().flat_map(|open| open.slots.values()) {
            if let Slot::Open(partition) = slot {
                let marks = partition.marks();
                checkpoint.synced.insert(partition.id().clone(), marks.synced_end);
                checkpoint.readable.insert(partition.id().clone(), marks.high_watermark);
            }
        }
        checkpoint
    }

    /// Notes up to where each log is synced and readable, unless that is what `written` says already. Gives what is noted now; nothing, if that
    /// is not known.
    ///
    /// Not while topics come and go: a note of a topic that was just removed would be held against the next one of its name.
    pub(super) async fn write_checkpoint(&self, written: Checkpoint) -> Checkpoint {
        let _one = self.following.lock().await;
        let (now, store) = (self.checkpoint(), Arc::clone(&self.store));
        let write = move || {
            if now.synced != written.synced {
                store.write_recovery_points(&now.synced)?;
            }
            if now.readable != written.readable {
                store.write_high_watermarks(&now.readable)?;
            }
            Ok::<_, tidegate_storage::Error>(now)
        };
        let written = tokio::task::spawn_blocking(write).await;
        written.unwrap_or_else(|_| Ok(Checkpoint::default())).unwrap_or_else(|error| {
            tracing::warn!(%error, "how far the logs are was not noted");
            Checkpoint::default()
        })
    }

    /// The open partitions of topics that are compacted.
    pub(super) fn compacted(&self) -> Vec<(Arc<Topic>, Arc<Partition>)> {
        let open = self.open.load();
        let topics = open.values().filter(|open| open.topic.config.cleanup_policy.compact);
        let partitions = topics.flat_map(|open| open.slots.values().map(|slot| (&open.topic, slot)));
        let partitions = partitions.filter_map(|(topic, slot)| match slot {
            Slot::Open(partition) => Some((Arc::clone(topic), Arc::clone(partition))),
            Slot::Failed(_) => None,
        });
        partitions.collect()
    }

    /// Why a partition of the topic could not be opened, if one could not.
    pub(super) fn first_failure(&self, topic: &Topic) -> Option<Error> {
        let open = self.open.load();
        open.get(&topic.id)?.slots.values().find_map(|slot| match slot {
            Slot::Failed(error) => Some(error.clone()),
            Slot::Open(_) => None,
        })
    }

    /// The partitions that could not be opened, with the reason.
    pub(super) fn failed(&self) -> Vec<(String, String)> {
        let open = self.open.load();
        let slots = open.values().flat_map(|open| open.slots.iter().map(|(index, slot)| (&open.topic.name, index, slot)));
        let failed = slots.filter_map(|(name, index, slot)| match slot {
            Slot::Failed(error) => Some((format!("{name}-{index}"), error.to_string())),
            Slot::Open(_) => None,
        });
        failed.collect()
    }

    /// Warns of directories that the metadata does not know. They are left alone: whoever runs the node decides.
    pub(super) fn warn_of_strays(&self, image: &MetadataImage) -> Result<(), Error> {
        let is_known = |name: &str| {
            let (topic, partition) = name.rsplit_once('-')?;
            let partition = PartitionIndex::new(partition.parse().ok()?);
            image.topic(topic)?.partition(partition)
        };
        self.store.retain_notes(|tp| image.topic(tp.topic.as_str()).is_some_and(|topic| topic.partition(tp.partition).is_some()))?;
        for name in self.store.partition_directories()? {
            if is_known(&name).is_none() {
                tracing::warn!(directory = %name, "the metadata knows no such partition; the directory is left alone");
            }
        }
        Ok(())
    }

    /// Makes the map what the metadata says: closes and removes what is gone, opens what is new, passes configs on.
    pub(super) async fn follow(&self, published: &Published) {
        let _one = self.following.lock().await;
        let before = self.open.load_full();
        let image = &published.image;
        let exists = |open: &OpenTopic| image.topics.get(&open.topic.name).is_some_and(|topic| topic.id == open.topic.id);
        let (kept, gone): (Open, Open) = before.iter().map(|(id, open)| (*id, Arc::clone(open))).partition(|(_, open)| exists(open));
        if !gone.is_empty() {
            // Out of the map first, so that nobody is sent to a log that is being removed; removed before anything is opened,
            // because a new topic of the same name takes over the directory's name.
            self.open.store(Arc::new(kept));
            for open in gone.values() {
                self.remove_topic(open).await;
            }
        }
        let mut after = Open::new();
        for topic in image.topics.values() {
            let open = match before.get(&topic.id) {
                Some(open) if Arc::ptr_eq(&open.topic, topic) => Arc::clone(open),
                known => Arc::new(self.open_topic(topic, known.map(Arc::as_ref)).await),
            };
            after.insert(topic.id, open);
        }
        self.open.store(Arc::new(after));
        self.followed.send_replace(published.version);
    }

    async fn open_topic(&self, topic: &Arc<Topic>, known: Option<&OpenTopic>) -> OpenTopic {
        let mut slots = known.map(|open| open.slots.clone()).unwrap_or_default();
        if known.is_some_and(|open| open.topic.config != topic.config) {
            for slot in slots.values() {
                if let Slot::Open(partition) = slot {
                    partition.configure(topic.config.clone()).await;
                }
            }
        }
        let indexes = (0..topic.partition_count()).map(PartitionIndex::new);
        let is_new = |index: &PartitionIndex| !slots.contains_key(index) && self.leads(topic, *index);
        let new: Vec<_> = indexes.filter(is_new).collect();
        let mut opening = stream::iter(new)
            .map(|index| async move { (index, self.open_partition(topic, index).await) })
            .buffer_unordered(self.recovery_threads);
        while let Some((index, slot)) = opening.next().await {
            let _ = self.expected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |expected| expected.checked_sub(1));
            slots.insert(index, slot);
        }
        let keyless = known.map_or(0, |open| open.keyless.load(Ordering::Relaxed));
        OpenTopic { topic: Arc::clone(topic), slots, keyless: AtomicU32::new(keyless) }
    }

    async fn open_partition(&self, topic: &Arc<Topic>, index: PartitionIndex) -> Slot {
        let id = TopicPartition { topic: topic.name.clone(), partition: index };
        let (store, opened, path) = (Arc::clone(&self.store), Arc::clone(topic), id.clone());
        let epoch = topic.partition(index).map_or(tidegate_types::LeaderEpoch::ZERO, |state| state.leader_epoch);
        let open = move || {
            let (mut log, report) = store.open_log(&path, opened.id, &opened.config)?;
            log.begin_epoch(epoch)?;
            Ok((log, report))
        };
        let result: Result<Result<_, tidegate_storage::Error>, _> = tokio::task::spawn_blocking(open).await;
        match result {
            Ok(Ok((log, report))) => {
                metrics::counter!("tidegate_recovery_cut_bytes_total").increment(report.cut_bytes);
                metrics::counter!("tidegate_recovery_lost_records_total").increment(report.lost_records);
                tracing::debug!(partition = %id, ?report, "opened");
                Slot::Open(Partition::start(id, epoch, log, topic.config.clone(), &self.limits, self.surroundings.clone()))
            }
            Ok(Err(error)) => {
                tracing::error!(partition = %id, %error, "the partition stays closed");
                Slot::Failed(error.into())
            }
            Err(error) => Slot::Failed(Error::Internal(format!("opening {id} was cut off: {error}"))),
        }
    }

    async fn remove_topic(&self, open: &OpenTopic) {
        let ids = || open.slots.keys().map(|index| TopicPartition { topic: open.topic.name.clone(), partition: *index });
        for slot in open.slots.values() {
            if let Slot::Open(partition) = slot {
                // The log is going away; what its last sync says no longer matters.
                let _ = partition.close().await;
            }
        }
        // A topic of the same name may come: it must not be held to what this one had synced or trimmed. Once a log is closed, nothing more
        // is noted of it.
        let (store, gone) = (Arc::clone(&self.store), ids().collect::<Vec<_>>());
        let forgotten = match tokio::task::spawn_blocking(move || store.forget(&gone)).await {
            Ok(forgotten) => forgotten.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = forgotten {
            // By what is left the next topic of the name knows that the notes are not its own.
            tracing::warn!(topic = %open.topic.name, %error, "its notes were not removed, so its directories stay, without their logs");
            let (store, gone) = (Arc::clone(&self.store), ids().collect::<Vec<_>>());
            let emptied = tokio::task::spawn_blocking(move || {
                gone.iter().try_for_each(|tp| store.empty_log(tp))?;
                // There may be room now.
                store.forget(&gone)
            });
            if !matches!(emptied.await, Ok(Ok(()))) {
                return;
            }
        }
        for id in ids() {
            let (store, path) = (Arc::clone(&self.store), id.clone());
            match tokio::task::spawn_blocking(move || store.remove_log(&path)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(partition = %id, %error, "its files were not removed; the next start removes or reports them")
                }
                Err(error) => tracing::warn!(partition = %id, %error, "removing its files was cut off"),
            }
        }
    }

    /// Closes every log, all at once; gives up to where each is synced, and whether that is all that this node has.
    pub(super) async fn close_all(&self) -> (BTreeMap<TopicPartition, Offset>, bool) {
        let _one = self.following.lock().await;
        let open = self.open.load_full();
        let partitions: Vec<_> = open
            .values()
            .flat_map(|open| open.slots.values())
            .filter_map(|slot| match slot {
                Slot::Open(partition) => Some(Arc::clone(partition)),
                Slot::Failed(_) => None,
            })
            .collect();
        let close = |partition: Arc<Partition>| async move {
            match partition.close().await {
                Ok(synced) => Some((partition.id().clone(), synced)),
                Err(error) => {
                    tracing::error!(partition = %partition.id(), %error, "not closed cleanly");
                    None
                }
            }
        };
        let count = partitions.len();
        let synced: BTreeMap<_, _> =
            stream::iter(partitions).map(close).buffer_unordered(64).filter_map(std::future::ready).collect().await;
        let is_clean = synced.len() == count && self.failed().is_empty();
        (synced, is_clean)
    }
}
