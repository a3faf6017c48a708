use std::collections::BTreeMap;

use tidegate_types::producer::{KEYED_IDS, sequence_after};
use tidegate_types::{BatchBuilder, Encoding, LeaderEpoch, Limits, RecordSetBuilder, Timestamp};

use super::sequences::PRODUCERS_MAX;
use super::*;
use crate::io::SplitMix;

const RULES: KeyRules = KeyRules { window_ms: 600_000, entries_max: 1_000 };
const DAY: i64 = 86_400_000;
/// The headers' own time: long before now.
const THEN: i64 = 1_380_000_000_000;
const NOW: i64 = 1_763_709_600_000;

fn offset(n: u64) -> Offset {
    Offset::new(n).unwrap()
}

fn stamp(id: i64, epoch: i16, sequence: i32) -> ProducerStamp {
    ProducerStamp { id, epoch, sequence }
}

/// The header of a batch of that producer.
pub(crate) fn header(stamp: ProducerStamp, records: u32, at: u64) -> BatchHeader {
    let limits = Limits::default();
    let mut set = RecordSetBuilder::with_capacity(&limits, 1, 8);
    set.push(Timestamp::from_millis(THEN), Encoding::Text, None, Some(b"v"), [].into_iter()).unwrap();
    let mut builder = BatchBuilder::with_capacity(8);
    builder.push(&set.finish());
    let header = builder.finish_for(stamp).sequence(offset(at), LeaderEpoch::ZERO).unwrap().header;
    BatchHeader { last_offset_delta: records.cast_signed() - 1, record_count: records.cast_signed(), ..header }
}

fn producers() -> Producers {
    let mut producers = Producers::new(RULES);
    producers.advance(NOW, DAY);
    producers
}

fn judge(producers: &Producers, id: i64, epoch: i16, sequence: i32, records: u32) -> Verdict {
    producers.plan().judge(stamp(id, epoch, sequence), records)
}

/// Producer 7 with the batches 0–1, 2–3, … up to `batches`, from offset 100 on.
fn after(batches: u32) -> Producers {
    let mut producers = producers();
    for n in 0..batches {
        producers.note(&header(stamp(7, 3, (2 * n).cast_signed()), 2, 100 + 2 * u64::from(n)), Past::Whole);
    }
    producers
}

/// A promise: what a producer sends is taken if it comes next, found if it is one of the last five batches or a part of one, known as written if it is older,
/// and refused if something is missing before it, if it is half old and half new, or if a later epoch has begun.
#[test]
fn sequences_are_judged() {
    let known = after(8);
    for (epoch, sequence, records, verdict) in [
        (3, 16, 1, Verdict::New),
        (3, 14, 2, Verdict::Written { offset: offset(114) }),
        (3, 6, 2, Verdict::Written { offset: offset(106) }),
        (3, 15, 1, Verdict::Written { offset: offset(115) }),
        (3, 6, 4, Verdict::Forgotten { below: offset(116) }),
        (3, 4, 2, Verdict::Forgotten { below: offset(116) }),
        (3, 0, 16, Verdict::Forgotten { below: offset(116) }),
        (3, 17, 1, Verdict::Gap { expected: 16 }),
        (3, 15, 2, Verdict::Gap { expected: 16 }),
        (3, 0, 17, Verdict::Gap { expected: 16 }),
        (2, 16, 1, Verdict::Fenced { current: 3 }),
        (4, 0, 1, Verdict::New),
        (4, 16, 1, Verdict::Gap { expected: 0 }),
        (i16::MAX, 0, 1, Verdict::New),
    ] {
        assert_eq!(judge(&known, 7, epoch, sequence, records), verdict, "epoch {epoch}, {records} from {sequence}");
    }
    assert_eq!((judge(&known, 8, 0, 0, 1), judge(&known, 8, 0, 5, 1)), (Verdict::New, Verdict::Unknown));
}

/// A promise: what came before the first that a partition has seen of a producer is not taken for written.
#[test]
fn what_was_never_seen_is_not_written() {
    let mut known = producers();
    known.note(&header(stamp(7, 0, 10), 2, 0), Past::Whole);
    assert_eq!(judge(&known, 7, 0, 8, 2), Verdict::Gap { expected: 12 });
    let mut known = producers();
    known.note(&header(stamp(7, 0, 10), 2, 0), Past::Unknown);
    assert_eq!(judge(&known, 7, 0, 8, 2), Verdict::Forgotten { below: offset(2) });
}

/// A promise: after sequence 2^31-1 comes 0, in the middle of a batch too, and what is behind stays behind.
#[test]
fn sequences_wrap() {
    let mut known = producers();
    let first = i32::MAX - 4;
    known.note(&header(stamp(7, 0, first), 3, 0), Past::Whole);
    known.note(&header(stamp(7, 0, i32::MAX - 1), 4, 3), Past::Whole);
    for (sequence, records, verdict) in [
        (2, 1, Verdict::New),
        (first, 3, Verdict::Written { offset: offset(0) }),
        (i32::MAX - 1, 4, Verdict::Written { offset: offset(3) }),
        (0, 2, Verdict::Written { offset: offset(5) }),
        (i32::MAX, 3, Verdict::Written { offset: offset(4) }),
        (i32::MAX, 4, Verdict::Gap { expected: 2 }),
        (first - 2, 2, Verdict::Gap { expected: 2 }),
        (5, 1, Verdict::Gap { expected: 2 }),
    ] {
        assert_eq!(judge(&known, 7, 0, sequence, records), verdict, "{records} from {sequence}");
    }
}

/// A promise: batches that are to be written together are judged one after the other, as if those before were written.
#[test]
fn a_plan_looks_ahead() {
    let known = after(1);
    let mut plan = known.plan();
    assert_eq!(plan.judge(stamp(7, 3, 4), 1), Verdict::Gap { expected: 2 });
    plan.write(stamp(7, 3, 2), 2, offset(200));
    assert_eq!(plan.judge(stamp(7, 3, 4), 1), Verdict::New);
    assert_eq!(plan.judge(stamp(7, 3, 2), 2), Verdict::Written { offset: offset(200) });
    plan.write(stamp(7, 4, 0), 1, offset(202));
    assert_eq!(plan.judge(stamp(7, 3, 4), 1), Verdict::Fenced { current: 4 });
    let key = stamp(KEYED_IDS | 9, 0, 77);
    assert_eq!(plan.judge(key, 3), Verdict::New);
    plan.write(key, 3, offset(300));
    assert_eq!(plan.judge(key, 3), Verdict::Written { offset: offset(300) });
    assert_eq!(plan.judge(ProducerStamp { sequence: 78, ..key }, 3), Verdict::Reused);
    assert_eq!(judge(&known, 7, 3, 2, 2), Verdict::New, "nothing of it was noted");
}

/// A promise: who is silent is forgotten by the time of arrival, whatever the records' own time; a producer that goes on is not.
#[test]
fn the_silent_are_forgotten() {
    let mut known = after(1);
    known.note(&header(stamp(KEYED_IDS | 1, 0, 5), 1, 200), Past::Whole);
    known.advance(NOW + RULES.window_ms - 1, DAY);
    assert_eq!(judge(&known, KEYED_IDS | 1, 0, 5, 1), Verdict::Written { offset: offset(200) });
    known.advance(NOW + RULES.window_ms, DAY);
    assert_eq!(judge(&known, KEYED_IDS | 1, 0, 5, 1), Verdict::New);
    known.note(&header(stamp(7, 3, 2), 2, 300), Past::Whole);
    known.advance(NOW + DAY + 1, DAY);
    assert_eq!(judge(&known, 7, 3, 4, 1), Verdict::New);
    assert_eq!(judge(&known, 7, 3, 6, 1), Verdict::Gap { expected: 4 });
    known.advance(NOW + RULES.window_ms + DAY, DAY);
    assert_eq!(judge(&known, 7, 3, 6, 1), Verdict::Unknown);
    known.advance(NOW + 2 * DAY, DAY);
    assert_eq!(known.counts(), (0, 0));
}

/// A promise: more producers than there is room for cost the silent ones, not the node.
#[test]
fn producers_are_bounded() {
    let mut known = producers();
    let template = header(stamp(0, 0, 0), 1, 0);
    for id in 0..i64::try_from(PRODUCERS_MAX).unwrap() + 10 {
        known.advance(NOW + id, DAY);
        known.note(&BatchHeader { producer_id: id, ..template }, Past::Whole);
    }
    assert!(known.counts().0 <= PRODUCERS_MAX);
    assert_eq!(judge(&known, 5, 0, 7, 1), Verdict::Unknown);
    assert_eq!(judge(&known, i64::try_from(PRODUCERS_MAX).unwrap(), 0, 7, 1), Verdict::Gap { expected: 1 });
}

/// A promise: whatever producers do, through files and reads of headers too, a batch is written exactly if it comes next, and one that was written is
/// never taken for another or at another place.
#[test]
fn any_history_is_judged_rightly() {
    for seed in 0..300 {
        let mut random = SplitMix(seed);
        let mut known = producers();
        // By producer: epoch, first sequence, and each record's offset.
        let mut model: BTreeMap<i64, (i16, i32, Vec<u64>)> = BTreeMap::new();
        let mut headers = Vec::new();
        let mut end = 0_u64;
        for _ in 0..120 {
            let id = i64::try_from(random.below(4)).unwrap();
            let (epoch, first, offsets) = model.get(&id).cloned().unwrap_or((0, [0, i32::MAX - 20][usize::from(id == 2)], Vec::new()));
            let records = u32::try_from(1 + random.below(4)).unwrap();
            // Where it begins, counted from the first record of the epoch.
            let at = (offsets.len() as u64 + random.below(4)).saturating_sub(random.below(9));
            let sequence = sequence_after(first, u32::try_from(at).unwrap());
            let epoch = if random.one_in(20) { epoch + 1 } else { epoch };
            let is_new_epoch = model.get(&id).is_some_and(|(known, ..)| *known != epoch);
            let verdict = judge(&known, id, epoch, sequence, records);
            let length = offsets.len() as u64;
            let next = sequence_after(first, u32::try_from(length).unwrap());
            match verdict {
                Verdict::New if is_new_epoch => assert_eq!(sequence, 0),
                Verdict::New => assert!(at == length || (offsets.is_empty() && sequence == 0), "seed {seed}"),
                Verdict::Unknown => assert!(offsets.is_empty() && sequence != 0, "seed {seed}"),
                Verdict::Gap { expected } if is_new_epoch => assert_eq!((expected, sequence == 0), (0, false)),
                Verdict::Gap { expected } => assert!(expected == next && (at > length || at + u64::from(records) > length), "seed {seed}"),
                Verdict::Written { offset } => {
                    let range = usize::try_from(at).unwrap()..usize::try_from(at).unwrap() + records as usize;
                    let stand: Vec<_> = (offset.get()..).take(records as usize).collect();
                    assert_eq!(offsets[range], stand, "seed {seed}");
                }
                Verdict::Forgotten { below } => {
                    assert!(at + u64::from(records) <= length && offsets.last().is_some_and(|last| *last < below.get()), "seed {seed}");
                }
                Verdict::Fenced { .. } | Verdict::Reused => panic!("seed {seed}: {verdict:?}"),
            }
            let takes = verdict == Verdict::New || (verdict == Verdict::Unknown && random.one_in(2));
            if takes {
                let header = header(stamp(id, epoch, sequence), records, end);
                known.note(&header, Past::Whole);
                headers.push(header);
                let entry = if is_new_epoch || offsets.is_empty() { (epoch, sequence, Vec::new()) } else { (epoch, first, offsets) };
                let (epoch, first, mut offsets) = entry;
                offsets.extend(end..end + u64::from(records));
                model.insert(id, (epoch, first, offsets));
                end += u64::from(records) + random.below(3);
            }
            if random.one_in(10) {
                let decoded = file::decode(&file::encode(&known), RULES).unwrap();
                assert_eq!(file::encode(&decoded), file::encode(&known));
                known = decoded;
                known.advance(NOW, DAY);
            }
            if random.one_in(10) {
                known = Producers::new(RULES);
                headers.iter().for_each(|header| known.note(header, Past::Whole));
                known.advance(NOW, DAY);
            }
        }
    }
}

/// A promise: the snapshot is Kafka's to the last byte, and tells of each producer its last batch.
#[test]
fn the_snapshot_is_kafkas() {
    let mut known = after(2);
    known.note(&header(stamp(KEYED_IDS | 5, 0, 5), 1, 200), Past::Whole);
    let bytes = snapshot::encode(&known);
    let entry: Vec<u8> = [
        &7_i64.to_be_bytes()[..],
        &3_i16.to_be_bytes(),
        &3_i32.to_be_bytes(),
        &103_i64.to_be_bytes(),
        &1_i32.to_be_bytes(),
        &THEN.to_be_bytes(),
        &(-1_i32).to_be_bytes(),
        &(-1_i64).to_be_bytes(),
    ]
    .concat();
    let body = [&1_i32.to_be_bytes()[..], &entry].concat();
    assert_eq!(bytes, [&1_i16.to_be_bytes()[..], &crc32c::crc32c(&body).to_be_bytes(), &body].concat());
    let mut again = Producers::new(RULES);
    again.fill_up(snapshot::decode(&bytes).unwrap());
    again.advance(NOW, DAY);
    assert_eq!(judge(&again, 7, 3, 4, 1), Verdict::New);
    assert_eq!(judge(&again, 7, 3, 2, 2), Verdict::Written { offset: offset(102) });
    assert_eq!(judge(&again, 7, 3, 0, 2), Verdict::Forgotten { below: offset(104) });
}

/// A promise: a kept file or a snapshot with one bit turned, or cut anywhere, says nothing.
#[test]
fn damage_says_nothing() {
    let mut known = after(7);
    known.note(&header(stamp(KEYED_IDS | 5, 0, 5), 1, 200), Past::Whole);
    let (kept, snapshot) = (file::encode(&known), snapshot::encode(&known));
    let says = |is_kept: bool, bytes: &[u8]| if is_kept { file::decode(bytes, RULES).is_some() } else { snapshot::decode(bytes).is_some() };
    for (is_kept, whole) in [(true, kept), (false, snapshot)] {
        assert!(says(is_kept, &whole));
        for at in 0..whole.len() {
            assert!(!says(is_kept, &whole[..at]), "cut at {at}");
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert!(!says(is_kept, &bytes), "byte {at} bit {bit}");
            }
        }
    }
}
