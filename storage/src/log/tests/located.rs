//! Ranges of files: what they hold is what a read gives, over as many segments as it takes.

use tidegate_types::BatchHeader;

use super::*;
use crate::range::{FileRange, Located};

fn located(log: &PartitionLog, start: Offset, upper: Offset, max_bytes: usize) -> (Vec<FileRange>, Offset) {
    match log.reader().locate(start, upper, max_bytes, ReadMode::Cached).unwrap() {
        Located::Ranges { ranges, next_offset } => (ranges, next_offset),
        other => unreachable!("everything is cached, and nothing is trimmed: {other:?}"),
    }
}

fn bytes_of(ranges: &[FileRange]) -> Bytes {
    ranges.iter().flat_map(|range| range.read().unwrap()).collect::<Vec<_>>().into()
}

/// What should be found: whole batches while they fit, at least one, none that begins at `upper` or later.
fn expected(log: &PartitionLog, start: Offset, upper: Offset, max_bytes: usize) -> Vec<u8> {
    let mut found = Vec::new();
    for segment in log.shared.segments.load().iter() {
        let mut bytes = vec![0; usize::try_from(segment.bytes()).unwrap()];
        crate::io::read_exact_at(segment.open().unwrap().file.as_ref(), &mut bytes, 0).unwrap();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let header = BatchHeader::parse(rest).unwrap();
            let (batch, after) = rest.split_at(header.total_bytes());
            rest = after;
            if header.last_offset() < start {
                continue;
            }
            if header.first_offset() >= upper || !found.is_empty() && found.len() + batch.len() > max_bytes {
                return found;
            }
            found.extend_from_slice(batch);
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// A promise: the ranges of any part of any log hold exactly the batches of that part, however many segments it spans, and going on
    /// where they end gives all of it, also where files are prepared with zeros behind their batches.
    #[test]
    fn ranges_hold_what_was_asked_for(
        history in any_history(), start: prop::sample::Index, cap: prop::sample::Index, max_bytes in 1_usize..4000, is_prepared: bool,
    ) {
        let io: Arc<dyn Io> = Arc::new(Faulty::new());
        let (mut log, _) = open_as(&io, &if is_prepared { synced() } else { config() }).unwrap();
        let mut ends = Vec::new();
        for step in history {
            if let Step::Append { batches, records, padding } = step {
                for _ in 0..batches {
                    let base = log.log_end();
                    log.append(&[batch(base, records, padding)]).unwrap();
                    ends.push(log.log_end());
                }
            }
        }
        prop_assume!(!ends.is_empty());
        // High watermarks stand where batches end.
        let upper = *cap.get(&ends);
        let start = Offset::new(start.index(usize::try_from(upper.get()).unwrap()) as u64).unwrap();
        let (ranges, next_offset) = located(&log, start, upper, max_bytes);
        let found = bytes_of(&ranges);
        prop_assert_eq!(&found[..], &expected(&log, start, upper, max_bytes)[..]);
        prop_assert_eq!(values(found).last().map(|(offset, _)| offset + 1), Some(next_offset.get()));
        let (mut next, mut all) = (start, Vec::new());
        while next < upper {
            let (ranges, after) = located(&log, next, upper, max_bytes);
            prop_assert!(after > next);
            all.extend(values(bytes_of(&ranges)));
            next = after;
        }
        all.retain(|(offset, _)| *offset >= start.get());
        prop_assert_eq!(all, (start.get()..upper.get()).map(|n| (n, n)).collect::<Vec<_>>());
    }
}

/// A promise: a range outlives its segment: what a trim deletes can be read to its end by whoever has begun.
#[test]
fn a_range_outlives_a_trim() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(Arc::new(RealIo), scratch.path(), NodeId::new(1), Uuid::nil()).unwrap();
    let (mut log, _) = store.open_log(&tp(), TopicId::new(Uuid::nil()), &config()).unwrap();
    for _ in 0..20 {
        let base = log.log_end();
        log.append(&[batch(base, 2, 50)]).unwrap();
    }
    let (ranges, next_offset) = located(&log, Offset::ZERO, log.log_end(), usize::MAX);
    assert!(ranges.len() >= 5 && next_offset == log.log_end(), "{ranges:?}");
    let before = bytes_of(&ranges);
    log.trim_to(log.log_end()).unwrap().remove().unwrap();
    assert!(matches!(log.reader().locate(Offset::ZERO, log.log_end(), 1, ReadMode::Cached).unwrap(), Located::Trimmed));
    assert_eq!(bytes_of(&ranges), before);
    assert!(ranges.iter().all(|range| range.handle().is_some()));
    ranges.iter().for_each(|range| range.load().unwrap());
    assert!(ranges[0].is_cached().unwrap(), "what was loaded is cached");
}

/// A promise: a file that was cut below a range says so, and gives nothing in place of what is gone.
#[test]
fn a_cut_file_is_an_error() {
    let log = filled(&Faulty::new(), 2);
    let (ranges, _) = located(&log, Offset::ZERO, log.log_end(), usize::MAX);
    log.shared.segments.load()[0].open().unwrap().file.set_len(10).unwrap();
    assert_eq!(ranges[0].read().unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(ranges[0].load().unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}
