//! Timestamps: looking for them, and rolling by them.

use super::*;

/// A batch whose records have these timestamps.
fn batch_at(base: Offset, timestamps: &[i64]) -> SequencedBatch {
    let mut set = RecordSetBuilder::with_capacity(&LIMITS, 0, 0);
    for timestamp in timestamps {
        set.push(Timestamp::from_millis(*timestamp), Encoding::Text, None, Some(b"a value of some bytes"), [].into_iter()).unwrap();
    }
    let mut builder = BatchBuilder::with_capacity(0);
    builder.push(&set.finish());
    builder.finish().sequence(base, LeaderEpoch::ZERO).unwrap()
}

fn written(batches: &[Vec<i64>], config: &TopicConfig) -> (Faulty, PartitionLog) {
    let disk = Faulty::new();
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let (mut log, _) = open_as(&io, config).unwrap();
    for batch in batches {
        log.append(&[batch_at(log.log_end(), batch)]).unwrap();
    }
    log.sync().unwrap();
    (disk, log)
}

fn assert_lookups(log: &PartitionLog, all: &[i64], upper: usize) {
    let reader = log.reader();
    let upper_offset = Offset::new(upper as u64).unwrap();
    let readable = &all[..upper];
    let plain =
        |found: Option<(Offset, Timestamp)>| found.map(|(offset, timestamp)| (usize::try_from(offset.get()).unwrap(), timestamp.millis()));
    let first = |from: i64| readable.iter().position(|timestamp| *timestamp >= from).map(|at| (at, readable[at]));
    for wanted in 0..45 {
        let found = reader.find_timestamp(Timestamp::from_millis(wanted), upper_offset).unwrap();
        assert_eq!(plain(found), first(wanted), "from {wanted} on, below {upper} of {all:?}");
    }
    let largest = readable.iter().max().and_then(|largest| first(*largest));
    assert_eq!(plain(reader.find_max_timestamp(upper_offset).unwrap()), largest, "the largest below {upper} of {all:?}");
}

proptest! {
    /// A promise: the first record at or after a time, and the one with the largest, are found whatever the order of timestamps, over segments, below
    /// any bound, also after a start.
    #[test]
    fn times_are_found(
        batches in proptest::collection::vec(proptest::collection::vec(0_i64..40, 1..4), 1..40),
        bound: prop::sample::Index,
        interval in prop_oneof![Just("0"), Just("100"), Just("400")],
    ) {
        let config = TopicConfig { index_interval_bytes: interval.parse().unwrap(), ..config() };
        let (disk, log) = written(&batches, &config);
        // Where readers may stop is the end of a batch.
        let ends: Vec<usize> = batches.iter().scan(0, |end, batch| { *end += batch.len(); Some(*end) }).collect();
        let all = batches.concat();
        let upper = ends[bound.index(ends.len())];
        assert_lookups(&log, &all, upper);
        assert_lookups(&log, &all, all.len());
        drop(log);
        let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::LoseAll));
        assert_lookups(&open_as(&io, &config).unwrap().0, &all, upper);
    }
}

/// A promise: a segment ends before a record that is more than `segment.ms` later than its first, by their own time; earlier ones do not end it.
#[test]
fn segments_roll_by_time() {
    let config = TopicConfig { segment_bytes: 1 << 30, segment_ms: 1_000, ..config() };
    let (_disk, log) = written(&[vec![5_000], vec![6_000], vec![100], vec![5_500, 6_001], vec![6_500], vec![7_002]], &config);
    let bases: Vec<u64> = log.shared.segments.load().iter().map(|segment| segment.base.get()).collect();
    assert_eq!(bases, [0, 3, 6]);
}

/// A promise: a segment ends when one of its indexes is full, which never has more than `segment.index.bytes`.
#[test]
fn segments_roll_when_an_index_is_full() {
    let config = TopicConfig { segment_bytes: 1 << 30, segment_index_bytes: 48, index_interval_bytes: 0, ..config() };
    let rising: Vec<_> = (0..40).map(|n| vec![n]).collect();
    let falling: Vec<_> = (0..40).map(|n| vec![40 - n]).collect();
    // 48 bytes are 6 entries of offsets, and 4 of times, of which the last closes the index. The first batch has no entry.
    for (batches, segment_batches) in [(rising, 4), (falling, 7)] {
        let (disk, log) = written(&batches, &config);
        let bases: Vec<u64> = log.shared.segments.load().iter().map(|segment| segment.base.get()).collect();
        assert!(bases.len() > 4 && bases.windows(2).all(|pair| pair[1] - pair[0] == segment_batches), "{bases:?}");
        log.close().unwrap();
        for base in bases {
            for suffix in ["index", "timeindex"] {
                let file = disk.open(&segment_path(base).with_extension(suffix)).unwrap();
                assert!(file.len().unwrap() <= 48);
            }
        }
    }
}

/// A promise: a sealed segment's time index holds what Kafka's holds: rising maxima at the batches that brought them, and at last the largest.
#[test]
fn time_indexes_are_kafkas() {
    let config = TopicConfig { segment_bytes: 1 << 30, index_interval_bytes: 100, ..config() };
    // Each batch has 90 to 100 bytes: from the third on every second one has an entry.
    let (disk, log) = written(&[vec![10], vec![30], vec![20], vec![25], vec![40], vec![35], vec![50]], &config);
    log.close().unwrap();
    let bytes = crate::io::read_small(&disk, &segment_path(0).with_extension("timeindex")).unwrap().unwrap();
    let entries: Vec<(i64, u32)> = bytes
        .chunks(12)
        .map(|entry| (i64::from_be_bytes(entry[..8].try_into().unwrap()), u32::from_be_bytes(entry[8..].try_into().unwrap())))
        .collect();
    assert_eq!(entries, [(30, 1), (40, 4), (50, 6)]);
}
