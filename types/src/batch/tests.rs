use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::record::Header;
use crate::record_set::RecordSetBuilder;

static LIMITS: LazyLock<Limits> = LazyLock::new(Limits::default);

fn rules() -> BatchRules<'static> {
    BatchRules {
        limits: &LIMITS,
        max_batch_bytes: limits::BATCH_BYTES_DEFAULT,
        key_required: false,
        timestamps: (0, i64::MAX),
        drops_producer: false,
    }
}

pub(super) fn unhex(hex: &str) -> Vec<u8> {
    hex.as_bytes().as_chunks::<2>().0.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

pub(super) fn stored(bytes: Vec<u8>) -> StoredBatch {
    StoredBatch::parse(&bytes.into()).unwrap()
}

/// Recomputes the CRC, so that a test reaches what lies behind it.
fn resealed(mut bytes: Vec<u8>) -> StoredBatch {
    let crc = computed_crc(&bytes);
    bytes[CRC_AT..CRC_START].copy_from_slice(&crc.to_be_bytes());
    stored(bytes)
}

pub(super) fn written(batch: &SequencedBatch) -> Vec<u8> {
    batch.parts().concat()
}

const V1: &str = "00000000000000000000003a0000000002e99b8dd80000000000000000018bcfe568000000018bcfe56800ffffffffffffffffffffffffffff0000000110000000026b027600";
pub(super) const V2: &str = "000000000000006400000052000000030298bbee8f0000000000020000018bcfe568000000018bcfe568070000000000000fa000010000000a0000000314000000046b310476310018000a0201047632020268027810000e04046b330100";
const COMMIT: &str = "0000000000000067000000420000000302a51ed46c0030000000000000018bcfe5680a0000018bcfe5680a0000000000000fa00001ffffffff000000012000000008000000010c00000000000700";
const ABORT: &str = "0000000000000067000000420000000302512002240030000000000000018bcfe5680a0000018bcfe5680a0000000000000fa00001ffffffff000000012000000008000000000c00000000000700";
pub(super) const EMPTY: &str =
    "0000000000000064000000310000000302f7392749000000000002ffffffffffffffff0000018bcfe568070000000000000fa000010000000a00000000";
pub(super) const T0: i64 = 1_700_000_000_000;

/// A promise: the bytes we write are Kafka's, to the last bit (a vector that another decoder has read).
#[test]
fn one_record_gives_the_golden_bytes() {
    let mut set = RecordSetBuilder::with_capacity(&LIMITS, 1, 8);
    set.push(Timestamp::from_millis(T0), Encoding::Unknown, Some(b"k"), Some(b"v"), [].into_iter()).unwrap();
    let mut builder = BatchBuilder::with_capacity(16);
    builder.push(&set.finish());
    let batch = builder.finish().sequence(Offset::ZERO, LeaderEpoch::ZERO).unwrap();
    assert_eq!(written(&batch), unhex(V1));
}

/// A promise: every golden batch reads back with its fields, and its CRC holds.
#[test]
fn golden_batches_read_back() {
    for (hex, base, last, count, control) in [
        (V1, 0, 0, 1, false),
        (V2, 100, 102, 3, false),
        (COMMIT, 103, 103, 1, true),
        (ABORT, 103, 103, 1, true),
        (EMPTY, 100, 102, 0, false),
    ] {
        let batch = stored(unhex(hex));
        batch.verify().unwrap();
        let header = batch.header;
        assert_eq!((header.base_offset, header.last_offset().get(), header.record_count), (base, last, count));
        assert_eq!(header.is_control(), control);
        assert_eq!(batch.records().unwrap().iter().filter(Result::is_ok).count(), usize::try_from(count).unwrap());
    }
    let batch = stored(unhex(V2));
    let header = batch.header;
    assert_eq!((header.leader_epoch, header.producer_id, header.producer_epoch, header.base_sequence), (3, 4000, 1, 10));
    let records = batch.records().unwrap();
    let records: Vec<_> = records.iter().map(Result::unwrap).collect();
    let brief: Vec<_> = records.iter().map(|r| (r.offset.get(), r.timestamp.millis() - T0, r.key, r.value)).collect();
    let (k1, v1, v2, k3) = (b"k1".as_slice(), b"v1".as_slice(), b"v2".as_slice(), b"k3".as_slice());
    assert_eq!(brief, [(100, 0, Some(k1), Some(v1)), (101, 5, None, Some(v2)), (102, 7, Some(k3), None)]);
    let headers: Vec<_> = records[1].headers.iter().collect();
    assert_eq!(headers, [Header { name: "h", value: Some(b"x".as_slice()) }]);
}

/// A promise: CRC-32C is the one that Kafka means.
#[test]
fn crc_is_castagnoli() {
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
}

pub(super) type OwnedRecord = (i64, u8, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

pub(super) fn any_record() -> impl Strategy<Value = OwnedRecord> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    (0..i64::MAX, 0..4_u8, bytes(), bytes(), proptest::collection::vec((any::<String>(), bytes()), 0..4))
}

pub(super) fn set_of(records: &[OwnedRecord]) -> RecordSet {
    let mut builder = RecordSetBuilder::with_capacity(&LIMITS, records.len(), 0);
    for (timestamp, encoding, key, value, headers) in records {
        let headers = headers.iter().map(|(name, value)| Header { name, value: value.as_deref() });
        let encoding = Encoding::from_attributes(*encoding);
        builder.push(Timestamp::from_millis(*timestamp), encoding, key.as_deref(), value.as_deref(), headers).unwrap();
    }
    builder.finish()
}

pub(super) fn owned(record: &Record<'_>) -> OwnedRecord {
    let headers = record.headers.iter().map(|h| (h.name.to_owned(), h.value.map(<[u8]>::to_vec))).collect();
    let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
    (record.timestamp.millis(), record.encoding.attributes(), key, value, headers)
}

proptest! {
    /// A promise: what goes in comes out the same, in order, at consecutive offsets, whichever codec packs it and however sets are joined.
    #[test]
    fn in_equals_out(sets in proptest::collection::vec(proptest::collection::vec(any_record(), 1..6), 1..4), base in 0_u64..1 << 52, codec in 0_usize..5) {
        let mut builder = BatchBuilder::with_capacity(0);
        for set in &sets {
            builder.push(&set_of(set));
        }
        let batch = builder.finish().recompress(Codec::ALL[codec], usize::MAX).unwrap();
        let batch = batch.sequence(Offset::new(base).unwrap(), LeaderEpoch::new(7)).unwrap();
        let stored = stored(written(&batch));
        RecordBatch::validate(&stored, &rules(), |_| Ok(())).unwrap();
        let records = stored.records().unwrap();
        let records: Vec<_> = records.iter().map(Result::unwrap).collect();
        let offsets: Vec<_> = records.iter().map(|r| r.offset.get()).collect();
        prop_assert_eq!(offsets, (base..).take(records.len()).collect::<Vec<_>>());
        prop_assert_eq!(records.iter().map(owned).collect::<Vec<_>>(), sets.concat());
    }

    /// A promise: a flipped bit anywhere that the CRC covers is noticed.
    #[test]
    fn a_flipped_bit_is_noticed(records in proptest::collection::vec(any_record(), 1..4), bit: prop::sample::Index) {
        let mut builder = BatchBuilder::with_capacity(0);
        builder.push(&set_of(&records));
        let mut bytes = builder.finish().bytes.to_vec();
        let bit = bit.index((bytes.len() - CRC_START) * 8) + CRC_START * 8;
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(StoredBatch::parse(&bytes.into()).and_then(|b| b.verify()).is_err());
    }

    /// A promise: any bytes at all, with or without a CRC that fits, give an error or records, never a panic.
    #[test]
    fn garbage_never_panics(mut bytes: Vec<u8>, codec in 0_u8..5, count in 0_i32..5) {
        let mut batch = unhex(V1)[..BATCH_HEADER_BYTES].to_vec();
        batch.append(&mut bytes);
        let length = i32::try_from(batch.len() - LENGTH_OVERHEAD).unwrap();
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[22] = codec;
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        let batch = resealed(batch);
        let _ = RecordBatch::validate(&batch, &rules(), |_| Ok(()));
        if let Ok(records) = batch.records() {
            records.iter().for_each(drop);
        }
    }
}

/// A promise: a batch that lies about itself is refused, and the refusal says about what.
#[test]
fn lies_are_refused() {
    let honest = || {
        let record = |ts| (ts, 0, Some(b"k".to_vec()), Some(b"v".to_vec()), Vec::new());
        let mut builder = BatchBuilder::with_capacity(0);
        builder.push(&set_of(&[record(T0), record(T0 + 5)]));
        builder.finish().bytes.to_vec()
    };
    let set = |at: usize, new: &[u8]| {
        let mut bytes = honest();
        bytes[at..at + new.len()].copy_from_slice(new);
        resealed(bytes)
    };
    let codes = |batch: &StoredBatch| RecordBatch::validate(batch, &rules(), |_| Ok(())).unwrap_err();
    RecordBatch::validate(&resealed(honest()), &rules(), |_| Ok(())).unwrap();
    let numbered = set(43, &[&7_i64.to_be_bytes()[..], &1_i16.to_be_bytes(), &9_i32.to_be_bytes()].concat());
    let numbered = RecordBatch::validate(&numbered, &rules(), |_| Ok(())).unwrap();
    assert_eq!(numbered.producer(), Some(ProducerStamp { id: 7, epoch: 1, sequence: 9 }));
    for (what, batch, code) in [
        ("count one too few", set(57, &1_i32.to_be_bytes()), ErrorCode::CorruptBatch),
        ("last offset delta too large", set(23, &9_i32.to_be_bytes()), ErrorCode::CorruptBatch),
        ("max timestamp too late", set(35, &(T0 + 6).to_be_bytes()), ErrorCode::CorruptBatch),
        ("max timestamp too early", set(35, &T0.to_be_bytes()), ErrorCode::CorruptBatch),
        // The first record is 9 bytes long with its length; the second's offset delta is its fourth byte.
        ("overlapping offset deltas", set(61 + 9 + 3, &[0]), ErrorCode::CorruptBatch),
        ("codec that is not the records'", set(22, &[4]), ErrorCode::CorruptBatch),
        ("unknown attribute bits", set(21, &[0x80]), ErrorCode::CorruptBatch),
        ("control bit", set(22, &[1 << 5]), ErrorCode::RecordRejected),
        ("transactional bit", set(22, &[1 << 4]), ErrorCode::RecordRejected),
        ("delete horizon", set(22, &[1 << 6]), ErrorCode::RecordRejected),
        ("producer id alone", set(43, &7_i64.to_be_bytes()), ErrorCode::CorruptBatch),
        ("producer id without a sequence", set(43, &[&7_i64.to_be_bytes()[..], &[0, 0]].concat()), ErrorCode::CorruptBatch),
        ("negative producer id", set(43, &[&[0xff; 7][..], &[0xfe], &[0; 6]].concat()), ErrorCode::CorruptBatch),
        ("producer id of a name", set(43, &[&(1_i64 << 61).to_be_bytes()[..], &[0; 6]].concat()), ErrorCode::RecordRejected),
        ("producer id of a key", set(43, &[&(1_i64 << 62 | 5).to_be_bytes()[..], &[0; 6]].concat()), ErrorCode::RecordRejected),
        ("record attributes", set(62, &[4]), ErrorCode::RecordRejected),
    ] {
        assert_eq!(codes(&batch).code(), code, "{what}: {}", codes(&batch));
    }
    let key_required = BatchRules { key_required: true, ..rules() };
    let keyless = {
        let mut builder = BatchBuilder::with_capacity(0);
        builder.push(&set_of(&[(T0, 0, None, None, Vec::new())]));
        stored(builder.finish().bytes.to_vec())
    };
    assert_eq!(RecordBatch::validate(&keyless, &key_required, |_| Ok(())).unwrap_err().code(), ErrorCode::RecordRejected);
    let tight = BatchRules { max_batch_bytes: 60, ..rules() };
    assert_eq!(RecordBatch::validate(&keyless, &tight, |_| Ok(())).unwrap_err().code(), ErrorCode::RecordTooLarge);
}

/// A promise: a log's zero tail ends the walk, a torn batch is an error.
#[test]
fn batches_end_at_a_zero_tail() {
    let mut bytes = [unhex(V1), unhex(V2)].concat();
    bytes.resize(bytes.len() + 500, 0);
    assert_eq!(StoredBatches::new(bytes.clone().into()).map(Result::unwrap).count(), 2);
    bytes.truncate(100);
    assert_eq!(StoredBatches::new(bytes.into()).filter(Result::is_err).count(), 1);
}

/// A promise: with append time every record has the time of writing, and the CRC is right again.
#[test]
fn append_time_stamps_every_record() {
    let mut builder = BatchBuilder::with_capacity(0);
    builder.push(&set_of(&[(1, 0, None, None, Vec::new()), (2, 0, None, None, Vec::new())]));
    let batch = builder.finish().with_append_time(Timestamp::from_millis(T0));
    let stored = stored(batch.bytes.to_vec());
    stored.verify().unwrap();
    let records = stored.records().unwrap();
    assert!(records.iter().all(|r| r.unwrap().timestamp.millis() == T0));
}

/// A promise: a small batch that unpacks to more than a batch may have stays packed, whatever the topic wants.
#[test]
fn a_batch_that_would_be_too_large_stays_packed() {
    let record = (T0, 3, None, Some(vec![0; 2 << 20]), Vec::new());
    let mut builder = BatchBuilder::with_capacity(0);
    builder.push(&set_of(&[record]));
    let packed = builder.finish().recompress(Codec::Gzip, usize::MAX).unwrap();
    let length = packed.len();
    let kept = packed.recompress(Codec::None, 1 << 20).unwrap();
    assert_eq!((kept.codec(), kept.len()), (Codec::Gzip, length));
    assert_eq!(kept.recompress(Codec::None, 4 << 20).unwrap().codec(), Codec::None);
}
