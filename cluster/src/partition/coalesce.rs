//! What waits becomes one write: appends that arrived while the last sync ran are put together into as few batches as may be.
//!
//! Pure. One append's records for the partition are never split over batches, and appends keep their order.

use std::collections::{BTreeMap, VecDeque};

use tidegate_storage::Producers;
use tidegate_storage::producers::Plan;
use tidegate_types::topic_config::TimestampType;
use tidegate_types::{BatchBuilder, LeaderEpoch, Offset, RecordBatch, SequencedBatch, Timestamp, TopicConfig, limits};
use tokio::time::Instant;

use super::fate::{Fate, judge, last_of, stamps};
use super::parked::{Early, Parked};
use crate::broker::{Appended, Origin, Payload};
use crate::error::Error;

/// Bytes of one write, unless a single append is larger: long enough for the disk's rate, short enough for those who wait behind it.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// An append that waits, with whatever its owner wants back.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    pub(crate) payload: Payload,
    pub(crate) bytes: usize,
    /// It has waited for what comes before it, and waits no longer.
    pub(crate) is_late: bool,
    pub(crate) owner: T,
}

/// What waits, and what it is judged by.
#[derive(Debug)]
pub(crate) struct Queue<'q, T> {
    pub(crate) waiting: &'q mut VecDeque<Waiting<T>>,
    pub(crate) parked: &'q mut Parked<T>,
    pub(crate) producers: &'q Producers,
    pub(crate) config: &'q TopicConfig,
    /// The epochs that names were bound to, by producer id.
    pub(crate) bound_epochs: &'q BTreeMap<i64, i16>,
    /// The wall clock.
    pub(crate) now: Timestamp,
    /// The same moment, for those who wait.
    pub(crate) instant: Instant,
}

/// Batches to be written together, and where each append's records are in them.
#[derive(Debug)]
pub(crate) struct Group<T> {
    pub(crate) batches: Vec<RecordBatch>,
    /// In the order of their offsets.
    pub(crate) placed: Vec<(T, Appended)>,
    /// Appends that were written before, wholly or in part, in this group too: anywhere below its end.
    pub(crate) replayed: Vec<Replay<T>>,
    pub(crate) refused: Vec<(T, Error)>,
    pub(crate) log_end: Offset,
    /// The time that the batches are stamped with, if the topic asks for it.
    pub(crate) append_time: Option<Timestamp>,
}

/// An append that was written before.
#[derive(Debug)]
pub(crate) struct Replay<T> {
    pub(crate) owner: T,
    pub(crate) appended: Appended,
    /// It counts when the high watermark has passed this one.
    pub(crate) last: Offset,
    /// A part of it is written in this group: it shares its fate.
    pub(crate) is_written: bool,
}

impl<T> Group<T> {
    /// Nothing but what may have to be synced.
    pub(crate) fn empty(log_end: Offset) -> Self {
        Self { batches: Vec::new(), placed: Vec::new(), replayed: Vec::new(), refused: Vec::new(), log_end, append_time: None }
    }
}

/// Takes as many appends from the front of what waits as make one write, at offsets from `log_end` on; more of those that need no write.
pub(crate) fn take_group<T>(queue: Queue<'_, T>, log_end: Offset) -> Group<T> {
    let Queue { waiting, parked, producers, config, bound_epochs, now, instant } = queue;
    let append_time = (config.timestamp_type == TimestampType::LogAppendTime).then_some(now);
    let group = Group { append_time, ..Group::empty(log_end) };
    let mut building = Building { group, builder: None, config, append_time, bytes: 0 };
    let mut plan = producers.plan();
    while let Some(next) = waiting.front() {
        if !building.group.placed.is_empty() && building.bytes + next.bytes > GROUP_BYTES_MAX {
            break;
        }
        let Some(next) = waiting.pop_front() else { break };
        let last = stamps(&next.payload).last();
        // Nobody else's window is looked at for it.
        let key_window_ms = last.filter(|(stamp, _)| stamp.is_keyed()).map(|_| producers.keys().held_ms());
        // A binding fences whoever waits here under an earlier epoch, too.
        let bound = last.and_then(|(stamp, _)| bound_epochs.get(&stamp.id).copied().filter(|bound| stamp.epoch < *bound));
        let judged = bound.map_or_else(|| judge(&next.payload, &plan), |current| Fate::Refuse(Error::ProducerFenced { current }));
        let fate = match judged {
            Fate::Early(_, error) if next.is_late => Fate::Refuse(error),
            Fate::Beginning(_) if next.is_late => Fate::Write,
            fate => fate,
        };
        let known = |group: &Group<T>, base_offset, last_offset, origin| {
            let durability = config.durability;
            let last_offset = std::cmp::min(last_offset, group.log_end.saturating_sub(1));
            Appended { base_offset, last_offset, append_time: None, durability, origin, key_window_ms }
        };
        match fate {
            Fate::Refuse(error) => building.group.refused.push((next.owner, error)),
            Fate::Early(stamp, error) => {
                building.group.refused.extend(parked.park(next, Early { stamp, is_beginning: false }, instant, error).err())
            }
            Fate::Beginning(stamp) => {
                let error = Error::SequenceGap { expected: 0, received: stamp.sequence };
                building.group.refused.extend(parked.park(next, Early { stamp, is_beginning: true }, instant, error).err());
            }
            Fate::Written(base, last) => {
                let appended = known(&building.group, base, last, Origin::Replayed);
                building.group.replayed.push(Replay { owner: next.owner, last: appended.last_offset, appended, is_written: false });
            }
            Fate::Forgotten(below) => {
                let below = below.saturating_sub(1);
                let appended = known(&building.group, below, below, Origin::Forgotten);
                building.group.replayed.push(Replay { owner: next.owner, last: appended.last_offset, appended, is_written: false });
            }
            Fate::Write => {
                building.write(next, key_window_ms, waiting, &mut plan);
                // What has waited for this one goes right behind it.
                let following = last.and_then(|(stamp, records)| parked.take_next(stamp.advanced_by(records)));
                if let Some(following) = following {
                    waiting.push_front(following);
                }
            }
            Fate::WriteRest(stand) => building.write_rest(next, &stand, key_window_ms, &mut plan),
        }
    }
    building.finish()
}

/// A group in the making.
struct Building<'c, T> {
    group: Group<T>,
    builder: Option<BatchBuilder>,
    config: &'c TopicConfig,
    append_time: Option<Timestamp>,
    bytes: usize,
}

impl<T> Building<'_, T> {
    fn write(&mut self, next: Waiting<T>, key_window_ms: Option<i64>, behind: &VecDeque<Waiting<T>>, plan: &mut Plan<'_>) {
        let Waiting { payload, bytes, owner, .. } = next;
        let base_offset = self.group.log_end;
        let Some(end) = base_offset.checked_add(record_count(&payload)) else {
            self.group.refused.push((owner, beyond()));
            return;
        };
        self.bytes += bytes;
        let mut at = base_offset;
        for (stamp, records) in stamps(&payload) {
            plan.write(stamp, records, at);
            at = at.checked_add(u64::from(records)).unwrap_or(Offset::MAX);
        }
        match payload {
            Payload::Records { set, producer: Some(stamp) } => {
                self.end_batch();
                let mut builder = BatchBuilder::with_capacity(set.bytes());
                builder.push(&set);
                self.group.batches.push(builder.finish_for(stamp));
            }
            Payload::Records { set, producer: None } => {
                let batch_bytes_max = limits::COALESCE_BYTES_MAX.min(self.config.batch_bytes_max);
                if self.builder.as_ref().is_some_and(|builder| builder.len() + set.bytes() > batch_bytes_max) {
                    self.end_batch();
                }
                let room = || set.bytes() + bytes_of_records(behind, batch_bytes_max.saturating_sub(set.bytes()));
                self.builder.get_or_insert_with(|| BatchBuilder::with_capacity(room())).push(&set);
            }
            Payload::Batches(batches) => {
                self.end_batch();
                self.group.batches.extend(batches);
            }
        }
        let appended = self.appended(base_offset, end.saturating_sub(1), Origin::Written, key_window_ms);
        self.group.placed.push((owner, appended));
        self.group.log_end = end;
    }

    /// Writes those batches of a request of which `stand` says no place.
    fn write_rest(&mut self, next: Waiting<T>, stand: &[Option<Offset>], key_window_ms: Option<i64>, plan: &mut Plan<'_>) {
        let Waiting { payload: Payload::Batches(batches), bytes, owner, .. } = next else { return };
        let missing = || batches.iter().zip(stand).filter(|(_, stand)| stand.is_none()).map(|(batch, _)| batch);
        if self.group.log_end.checked_add(missing().map(RecordBatch::record_count).sum()).is_none() {
            self.group.refused.push((owner, beyond()));
            return;
        }
        self.end_batch();
        self.bytes += bytes;
        let (mut first, mut last) = (None, self.group.log_end);
        for (batch, stands) in batches.into_iter().zip(stand) {
            let (at, records) = (stands.unwrap_or(self.group.log_end), batch.record_count());
            (first, last) = (first.or(Some(at)), last_of(at, records));
            if stands.is_none() {
                if let Some(stamp) = batch.producer() {
                    plan.write(stamp, u32::try_from(records).unwrap_or(u32::MAX), at);
                }
                self.group.log_end = last.next();
                self.group.batches.push(batch);
            }
        }
        let appended = self.appended(first.unwrap_or(last), last, Origin::Written, key_window_ms);
        self.group.replayed.push(Replay { owner, appended, last: self.group.log_end.saturating_sub(1), is_written: true });
    }

    fn appended(&self, base_offset: Offset, last_offset: Offset, origin: Origin, key_window_ms: Option<i64>) -> Appended {
        Appended { base_offset, last_offset, append_time: self.append_time, durability: self.config.durability, origin, key_window_ms }
    }

    fn end_batch(&mut self) {
        self.group.batches.extend(self.builder.take().map(BatchBuilder::finish));
    }

    fn finish(mut self) -> Group<T> {
        self.end_batch();
        self.group
    }
}

fn beyond() -> Error {
    Error::Internal("the partition has no offsets left".to_owned())
}

/// How much of what waits will share a batch, up to `max`: a batch's room is taken once, not grown into.
fn bytes_of_records<T>(waiting: &VecDeque<Waiting<T>>, max: usize) -> usize {
    let mut total = 0;
    for next in waiting {
        match &next.payload {
            Payload::Records { set, producer: None } if total + set.bytes() <= max => total += set.bytes(),
            _ => break,
        }
    }
    total
}

fn record_count(payload: &Payload) -> u64 {
    match payload {
        Payload::Records { set, .. } => set.len() as u64,
        Payload::Batches(batches) => batches.iter().map(RecordBatch::record_count).sum(),
    }
}

/// Gives the batches of a group their codec, time and place. Heavy: for a thread that may be busy for a while.
///
/// # Errors
/// What a codec's library says.
pub(crate) fn sequence(
    batches: Vec<RecordBatch>,
    base: Offset,
    epoch: LeaderEpoch,
    config: &TopicConfig,
    append_time: Option<Timestamp>,
) -> std::io::Result<Vec<SequencedBatch>> {
    let mut next = base;
    let mut sequenced = Vec::with_capacity(batches.len());
    // What a client sent packed may be far larger unpacked: then it stays as it came.
    let mut room = limits::BODY_BYTES_DEFAULT;
    for batch in batches {
        let batch = match config.compression {
            Some(codec) => batch.recompress(codec, config.batch_bytes_max.min(room))?,
            None => batch,
        };
        room = room.saturating_sub(batch.len());
        let batch = match append_time {
            Some(now) => batch.with_append_time(now),
            None => batch,
        };
        let count = batch.record_count();
        let beyond = || std::io::Error::other("the partition has no offsets left");
        sequenced.push(batch.sequence(next, epoch).ok_or_else(beyond)?);
        next = next.checked_add(count).ok_or_else(beyond)?;
    }
    Ok(sequenced)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use tidegate_storage::LogConfig;
    use tidegate_types::{Codec, Encoding, Limits, ProducerStamp, RecordSet, RecordSetBuilder};

    use super::*;

    static LIMITS: LazyLock<Limits> = LazyLock::new(Limits::default);

    fn set(records: usize, value_bytes: usize) -> RecordSet {
        let mut builder = RecordSetBuilder::with_capacity(&LIMITS, records, 0);
        for _ in 0..records {
            builder.push(Timestamp::from_millis(1), Encoding::Bytes, None, Some(&vec![7; value_bytes]), [].into_iter()).unwrap();
        }
        builder.finish()
    }

    fn waiting(sets: impl IntoIterator<Item = RecordSet>) -> VecDeque<Waiting<usize>> {
        sets.into_iter().enumerate().map(|(owner, set)| of(set, None, owner)).collect()
    }

    fn of(set: RecordSet, producer: Option<ProducerStamp>, owner: usize) -> Waiting<usize> {
        Waiting { bytes: set.bytes(), payload: Payload::Records { set, producer }, is_late: false, owner }
    }

    fn take(waiting: &mut VecDeque<Waiting<usize>>, end: Offset, config: &TopicConfig, now: Timestamp) -> Group<usize> {
        let producers = Producers::new(LogConfig::from(config).keys);
        let (mut parked, instant) = (Parked::default(), Instant::now());
        take_group(Queue { waiting, parked: &mut parked, producers: &producers, config, bound_epochs: &BTreeMap::new(), now, instant }, end)
    }

    proptest! {
        /// A promise: however appends are grouped, each gets its own offsets, in order and without a gap, and no batch passes its bound.
        #[test]
        fn offsets_follow_one_another(sizes in proptest::collection::vec((1_usize..20, 0_usize..60_000), 1..60)) {
            let mut queue = waiting(sizes.iter().map(|(records, bytes)| set(*records, *bytes)));
            let config = TopicConfig::default();
            let (mut end, mut owners) = (Offset::new(100).unwrap(), 0);
            while !queue.is_empty() {
                let group = take(&mut queue, end, &config, Timestamp::from_millis(0));
                prop_assert!(group.refused.is_empty() && group.replayed.is_empty());
                for (owner, appended) in &group.placed {
                    prop_assert_eq!((*owner, appended.base_offset), (owners, end));
                    end = end.checked_add(sizes[owners].0 as u64).unwrap();
                    prop_assert_eq!(appended.last_offset.next(), end);
                    owners += 1;
                }
                prop_assert_eq!(group.log_end, end);
                prop_assert_eq!(group.batches.iter().map(RecordBatch::record_count).sum::<u64>(), end.since(group.placed[0].1.base_offset));
                let alone = group.placed.len() == 1;
                prop_assert!(group.batches.iter().all(|batch| batch.len() <= limits::COALESCE_BYTES_MAX || alone || batch.record_count() <= 20));
            }
            prop_assert_eq!(owners, sizes.len());
        }
    }

    /// A promise: many small appends become one batch.
    #[test]
    fn small_appends_share_a_batch() {
        let mut queue = waiting((0..64).map(|_| set(1, 100)));
        let group = take(&mut queue, Offset::ZERO, &TopicConfig::default(), Timestamp::from_millis(0));
        assert_eq!((group.batches.len(), group.placed.len(), queue.len()), (1, 64, 0));
    }

    /// A promise: records that would pass the last offset there is are refused, not wrapped around.
    #[test]
    fn the_last_offset_is_the_end() {
        let mut queue = waiting([set(3, 1), set(1, 1)]);
        let group = take(&mut queue, Offset::MAX.saturating_sub(1), &TopicConfig::default(), Timestamp::from_millis(0));
        let refused: Vec<_> = group.refused.iter().map(|(owner, _)| *owner).collect();
        assert_eq!((refused, group.log_end), (vec![0], Offset::MAX));
    }

    /// A promise: a topic's codec and clock are applied, and offsets stay as they were given.
    #[test]
    fn codec_and_append_time_are_applied() {
        let config = TopicConfig { compression: Some(Codec::Zstd), timestamp_type: TimestampType::LogAppendTime, ..TopicConfig::default() };
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut queue = waiting([set(2, 1000), set(2, 1000)]);
        let group = take(&mut queue, Offset::ZERO, &config, now);
        assert_eq!(group.placed[1].1.append_time, Some(now));
        let batches = sequence(group.batches, Offset::ZERO, LeaderEpoch::new(3), &config, Some(now)).unwrap();
        let header = batches[0].header;
        assert_eq!(
            (header.codec(), header.is_append_time(), header.max_timestamp, header.leader_epoch),
            (Codec::Zstd, true, now.millis(), 3)
        );
        assert!(batches[0].len() < 500);
    }

    /// Appends of producers, taken one group after the other at a time that stands still.
    struct Producing {
        producers: Producers,
        parked: Parked<usize>,
        bound_epochs: BTreeMap<i64, i16>,
        end: Offset,
        instant: Instant,
    }

    /// Who was written and where, who was replayed and where, who was refused.
    type Taken = (Vec<(usize, u64)>, Vec<(usize, u64)>, Vec<usize>);

    impl Producing {
        fn new() -> Self {
            let producers = Producers::new(LogConfig::from(&TopicConfig::default()).keys);
            Self { producers, parked: Parked::default(), bound_epochs: BTreeMap::new(), end: Offset::ZERO, instant: Instant::now() }
        }

        fn take(&mut self, appends: impl IntoIterator<Item = Waiting<usize>>) -> Taken {
            let mut waiting: VecDeque<_> = appends.into_iter().collect();
            let (config, now) = (&TopicConfig::default(), Timestamp::from_millis(0));
            let (waiting_now, parked, bound_epochs) = (&mut waiting, &mut self.parked, &self.bound_epochs);
            let producers = &self.producers;
            let queue = Queue { waiting: waiting_now, parked, producers, config, bound_epochs, now, instant: self.instant };
            let group = take_group(queue, self.end);
            assert!(waiting.is_empty());
            assert_eq!(group.batches.iter().map(RecordBatch::record_count).sum::<u64>(), group.log_end.since(self.end));
            let written = group.placed.iter().map(|(owner, appended)| (*owner, appended.base_offset.get())).collect();
            let replayed = group.replayed.iter().map(|replay| (replay.owner, replay.appended.base_offset.get())).collect();
            let waits_right = |replay: &Replay<usize>| replay.last < group.log_end && (!replay.is_written || replay.last >= self.end);
            assert!(group.replayed.iter().all(waits_right));
            (written, replayed, group.refused.iter().map(|(owner, _)| *owner).collect())
        }

        /// Those whose time is up, judged once more.
        fn wait(&mut self) -> Taken {
            self.instant = self.parked.next_due().unwrap();
            let due = self.parked.take_due(self.instant);
            self.take(due)
        }
    }

    fn numbered(id: i64, sequence: i32, owner: usize) -> Waiting<usize> {
        of(set(1, 10), Some(ProducerStamp { id, epoch: 0, sequence }), owner)
    }

    /// A promise: what comes early is written right behind what it has waited for; who is sent twice at once is written once.
    #[test]
    fn early_appends_get_their_turn() {
        let mut producing = Producing::new();
        assert_eq!(producing.take([numbered(1, 3, 3), numbered(1, 1, 1), numbered(2, 0, 9)]), (vec![(9, 0)], vec![], vec![]));
        let (written, replayed, refused) = producing.take([numbered(1, 2, 2), numbered(1, 0, 0), numbered(1, 0, 7)]);
        assert_eq!((written, replayed, refused), (vec![(0, 0), (1, 1), (2, 2), (3, 3)], vec![(7, 0)], vec![]));
    }

    /// A promise: four of a producer wait, the fifth is refused; who has waited in vain is refused, but taken if the producer was never known.
    #[test]
    fn nobody_waits_for_ever() {
        let mut producing = Producing::new();
        let early = (2..7).map(|sequence| numbered(1, sequence, usize::try_from(sequence).unwrap()));
        let (written, replayed, refused) = producing.take(std::iter::once(numbered(1, 0, 0)).chain(early));
        assert_eq!((written, replayed, refused), (vec![(0, 0)], vec![], vec![6]));
        // What was planned was not written, so that the producer is still unknown: the first is taken, and those that follow it with it.
        assert_eq!(producing.wait(), (vec![(2, 0), (3, 1), (4, 2), (5, 3)], vec![], vec![]));
        let mut producing = Producing::new();
        for (sequence, owner) in [(8, 8), (6, 6), (5, 5)] {
            producing.take([numbered(1, sequence, owner)]);
            producing.instant += std::time::Duration::from_millis(250);
        }
        assert_eq!(producing.wait(), (vec![(5, 0), (6, 1)], vec![], vec![8]), "the earliest of them goes first, whoever came first");
        producing.take([numbered(1, 9, 9)]);
        producing.bound_epochs.insert(1, 2);
        assert_eq!(producing.wait(), (vec![], vec![], vec![9]), "the name was bound to a later epoch meanwhile");
    }

    /// A promise: of a request whose first batches a crash has left, the others are written, and the answer says where all of it stands.
    #[test]
    fn a_torn_request_is_completed() {
        use tidegate_types::producer::KEYED_IDS;
        let batch = |id: i64| {
            let mut builder = BatchBuilder::with_capacity(0);
            builder.push(&set(2, 10));
            builder.finish_for(ProducerStamp { id: KEYED_IDS | id, epoch: 0, sequence: 7 })
        };
        let request = |ids: &[i64], owner| {
            let batches: Vec<_> = ids.iter().map(|id| batch(*id)).collect();
            Waiting { bytes: 100, payload: Payload::Batches(batches), is_late: false, owner }
        };
        let mut producing = Producing::new();
        let (written, replayed, refused) = producing.take([request(&[1, 2], 0), request(&[1, 2, 3], 1), request(&[1, 2, 3], 2)]);
        assert_eq!((written, replayed, refused), (vec![(0, 0)], vec![(1, 0), (2, 0)], vec![]));
        // What is known of its end only was whole once: nothing of it is written again.
        let mut producing = Producing::new();
        let (written, replayed, refused) = producing.take([request(&[2, 3], 0), request(&[1, 2, 3], 1)]);
        assert_eq!((written, replayed, refused), (vec![(0, 0)], vec![(1, 3)], vec![]));
    }
}
