//! What waits becomes one write: appends that arrived while the last sync ran are put together into as few batches as may be.
//!
//! Pure. One append's records for the partition are never split over batches, and appends keep their order.

use std::collections::VecDeque;

use tidegate_types::topic_config::TimestampType;
use tidegate_types::{BatchBuilder, LeaderEpoch, Offset, RecordBatch, SequencedBatch, Timestamp, TopicConfig, limits};

use crate::broker::{Appended, Payload};

/// Bytes of one write, unless a single append is larger: long enough for the disk's rate, short enough for those who wait behind it.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// An append that waits, with whatever its owner wants back.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    pub(crate) payload: Payload,
    pub(crate) bytes: usize,
    pub(crate) owner: T,
}

/// Batches to be written together, and where each append's records are in them.
#[derive(Debug)]
pub(crate) struct Group<T> {
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) placed: Vec<(T, Appended)>,
    pub(crate) log_end: Offset,
}

/// Takes as many appends from the front of `waiting` as make one write, at offsets from `log_end` on. `None` if nothing waits.
///
/// Owners whose records would pass the last offset there is come back in `refused`.
pub(crate) fn take_group<T>(
    waiting: &mut VecDeque<Waiting<T>>,
    log_end: Offset,
    config: &TopicConfig,
    now: Timestamp,
    refused: &mut Vec<T>,
) -> Option<Group<T>> {
    let append_time = (config.timestamp_type == TimestampType::LogAppendTime).then_some(now);
    let mut group = Group { batches: Vec::new(), placed: Vec::new(), log_end };
    let mut builder: Option<BatchBuilder> = None;
    let mut total_bytes = 0;
    while let Some(next) = waiting.front() {
        if !group.placed.is_empty() && total_bytes + next.bytes > GROUP_BYTES_MAX {
            break;
        }
        let Some(Waiting { payload, bytes, owner }) = waiting.pop_front() else { break };
        let records = record_count(&payload);
        let Some(end) = group.log_end.checked_add(records) else {
            refused.push(owner);
            continue;
        };
        total_bytes += bytes;
        match payload {
            Payload::Records(set) => {
                let batch_bytes_max = limits::COALESCE_BYTES_MAX.min(config.batch_bytes_max);
                let full = builder.as_ref().is_some_and(|builder| builder.len() + set.bytes() > batch_bytes_max);
                if full {
                    group.batches.extend(builder.take().map(BatchBuilder::finish));
                }
                let room = || set.bytes() + bytes_of_records(waiting, batch_bytes_max.saturating_sub(set.bytes()));
                builder.get_or_insert_with(|| BatchBuilder::with_capacity(room())).push(&set);
            }
            Payload::Batches(batches) => {
                group.batches.extend(builder.take().map(BatchBuilder::finish));
                group.batches.extend(batches);
            }
        }
        let appended =
            Appended { base_offset: group.log_end, last_offset: end.saturating_sub(1), append_time, durability: config.durability };
        group.placed.push((owner, appended));
        group.log_end = end;
    }
    group.batches.extend(builder.take().map(BatchBuilder::finish));
    (!group.placed.is_empty()).then_some(group)
}

/// How much of what waits will share a batch, up to `max`: a batch's room is taken once, not grown into.
fn bytes_of_records<T>(waiting: &VecDeque<Waiting<T>>, max: usize) -> usize {
    let mut total = 0;
    for next in waiting {
        match &next.payload {
            Payload::Records(set) if total + set.bytes() <= max => total += set.bytes(),
            _ => break,
        }
    }
    total
}

fn record_count(payload: &Payload) -> u64 {
    match payload {
        Payload::Records(set) => set.len() as u64,
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
    use tidegate_types::{Codec, Encoding, Limits, RecordSet, RecordSetBuilder};

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
        sets.into_iter().enumerate().map(|(owner, set)| Waiting { bytes: set.bytes(), payload: Payload::Records(set), owner }).collect()
    }

    proptest! {
        /// A promise: however appends are grouped, each gets its own offsets, in order and without a gap, and no batch passes its bound.
        #[test]
        fn offsets_follow_one_another(sizes in proptest::collection::vec((1_usize..20, 0_usize..60_000), 1..60)) {
            let mut queue = waiting(sizes.iter().map(|(records, bytes)| set(*records, *bytes)));
            let (config, mut refused) = (TopicConfig::default(), Vec::new());
            let (mut end, mut owners) = (Offset::new(100).unwrap(), 0);
            while let Some(group) = take_group(&mut queue, end, &config, Timestamp::from_millis(0), &mut refused) {
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
            prop_assert!(refused.is_empty());
        }
    }

    /// A promise: many small appends become one batch.
    #[test]
    fn small_appends_share_a_batch() {
        let mut queue = waiting((0..64).map(|_| set(1, 100)));
        let group = take_group(&mut queue, Offset::ZERO, &TopicConfig::default(), Timestamp::from_millis(0), &mut Vec::new()).unwrap();
        assert_eq!((group.batches.len(), group.placed.len(), queue.len()), (1, 64, 0));
    }

    /// A promise: records that would pass the last offset there is are refused, not wrapped around.
    #[test]
    fn the_last_offset_is_the_end() {
        let mut queue = waiting([set(3, 1), set(1, 1)]);
        let (mut refused, end) = (Vec::new(), Offset::MAX.saturating_sub(1));
        let group = take_group(&mut queue, end, &TopicConfig::default(), Timestamp::from_millis(0), &mut refused).unwrap();
        assert_eq!((refused, group.log_end), (vec![0], Offset::MAX));
    }

    /// A promise: a topic's codec and clock are applied, and offsets stay as they were given.
    #[test]
    fn codec_and_append_time_are_applied() {
        let config = TopicConfig { compression: Some(Codec::Zstd), timestamp_type: TimestampType::LogAppendTime, ..TopicConfig::default() };
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut queue = waiting([set(2, 1000), set(2, 1000)]);
        let group = take_group(&mut queue, Offset::ZERO, &config, now, &mut Vec::new()).unwrap();
        assert_eq!(group.placed[1].1.append_time, Some(now));
        let batches = sequence(group.batches, Offset::ZERO, LeaderEpoch::new(3), &config, Some(now)).unwrap();
        let header = batches[0].header;
        assert_eq!(
            (header.codec(), header.is_append_time(), header.max_timestamp, header.leader_epoch),
            (Codec::Zstd, true, now.millis(), 3)
        );
        assert!(batches[0].len() < 500);
    }
}
