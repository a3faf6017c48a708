//! Rows whose fault is in a stored batch, mostly behind a CRC that is right.

use tidegate_tests::http::Request;
use tidegate_types::{BatchBuilder, Codec, Encoding, LeaderEpoch, Limits, Offset, RecordSetBuilder, Timestamp};

use super::{BATCHES, Row, row};

pub(super) fn rows() -> Vec<Row> {
    [broken(), contradictory(), forbidden()].into_iter().flatten().collect()
}

/// A good batch of records with these values.
fn batch(values: &[&[u8]], encoding: Encoding, codec: Codec) -> Vec<u8> {
    let limits = Limits::default();
    let mut set = RecordSetBuilder::with_capacity(&limits, values.len(), 64);
    for (millis, value) in (1_700_000_000_000..).zip(values) {
        set.push(Timestamp::from_millis(millis), encoding, Some(b"k"), Some(value), [].into_iter()).unwrap();
    }
    let mut builder = BatchBuilder::with_capacity(256);
    builder.push(&set.finish());
    let packed = builder.finish().recompress(codec, usize::MAX).unwrap();
    packed.sequence(Offset::ZERO, LeaderEpoch::ZERO).unwrap().parts().concat()
}

fn good() -> Vec<u8> {
    batch(&[b"one", b"two", b"three"], Encoding::Text, Codec::None)
}

/// The good batch with `bytes` written over it at `at`, and its CRC put right.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = good();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    resealed(batch)
}

fn resealed(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn post(body: Vec<u8>) -> Request {
    Request::new("POST", BATCHES).header("content-type", "application/vnd.tidegate.batches").body(body)
}

fn broken() -> Vec<Row> {
    let mut bad_crc = good();
    bad_crc[30] ^= 1;
    let mut magic = good();
    magic[16] = 1;
    let mut long = good();
    long[8..12].copy_from_slice(&1_000_000_i32.to_be_bytes());
    let mut negative = good();
    negative[8..12].copy_from_slice(&(-1_i32).to_be_bytes());
    let mut truncated = good();
    truncated.pop();
    let trailing = [good(), b"trailing".to_vec()].concat();
    let second = [good(), bad_crc.clone()].concat();
    vec![
        row("no batch at all", post(Vec::new()), 422, "corrupt-batch"),
        row("a few bytes", post(b"batch".to_vec()), 422, "corrupt-batch"),
        row("zeros", post(vec![0; 100]), 422, "corrupt-batch"),
        row("a wrong CRC", post(bad_crc), 422, "corrupt-batch"),
        row("another magic", post(magic), 422, "corrupt-batch"),
        row("a length beyond the body", post(long), 422, "corrupt-batch"),
        row("a negative length", post(negative), 422, "corrupt-batch"),
        row("a batch cut short", post(truncated), 422, "corrupt-batch"),
        row("bytes after the batch", post(trailing), 422, "corrupt-batch"),
        row("a good batch and a bad one", post(second), 422, "corrupt-batch"),
        row(
            "a batch of another type",
            Request::new("POST", BATCHES).header("content-type", "application/octet-stream").body(good()),
            415,
            "unsupported-media-type",
        ),
    ]
}

fn contradictory() -> Vec<Row> {
    // The records begin at 61: length, attributes, timestamp delta, offset delta, …; "one" makes a record of 10 bytes and its length.
    let second_delta = 61 + 11 + 3;
    assert_eq!(good()[second_delta], 2, "the second record's offset delta, as a varint");
    vec![
        row("a count too high", post(with(57, &4_i32.to_be_bytes())), 422, "corrupt-batch"),
        row("a count and a last delta too high", post(with_both(4)), 422, "corrupt-batch"),
        row("a count and a last delta too low", post(with_both(2)), 422, "corrupt-batch"),
        row("an absurd count", post(with_both(i32::MAX)), 422, "corrupt-batch"),
        row("a negative count", post(with(57, &(-1_i32).to_be_bytes())), 422, "corrupt-batch"),
        row("overlapping deltas", post(with(second_delta, &[0])), 422, "corrupt-batch"),
        row("deltas with a gap", post(with(second_delta, &[4])), 422, "corrupt-batch"),
        row("a lying max timestamp", post(with(35, &1_800_000_000_000_i64.to_be_bytes())), 422, "corrupt-batch"),
        row("a lying base timestamp", post(with(27, &1_600_000_000_000_i64.to_be_bytes())), 422, "corrupt-batch"),
        row("a codec that does not exist", post(with(21, &7_i16.to_be_bytes())), 422, "corrupt-batch"),
        row("a codec that it is not packed with", post(with(21, &4_i16.to_be_bytes())), 422, "corrupt-batch"),
        row("a record longer than the batch", post(with(61, &[0x7e])), 422, "corrupt-batch"),
    ]
}

/// Id, epoch 0 and sequence 0, as a batch has them from byte 43 on.
fn producer(id: i64) -> Vec<u8> {
    [&id.to_be_bytes()[..], &[0; 6]].concat()
}

fn with_both(count: i32) -> Vec<u8> {
    let mut batch = with(57, &count.to_be_bytes());
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    resealed(batch)
}

fn forbidden() -> Vec<Row> {
    // Of one byte again and again, so that it is small packed and larger than any batch may be unpacked.
    let bomb = {
        let mut batch = good();
        batch.truncate(61);
        batch[22] = 4;
        batch.extend(Codec::Zstd.compress(&vec![0; 64 << 20]).unwrap());
        let length = i32::try_from(batch.len() - 12).unwrap();
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        resealed(batch)
    };
    let large = batch(&[&vec![b'v'; 1 << 20]], Encoding::Bytes, Codec::None);
    let not_json = batch(&[b"1", b"{"], Encoding::Json, Codec::Zstd);
    let keyless =
        Request::new("POST", "/v1/topics/compacted/partitions/0/batches").header("content-type", "application/vnd.tidegate.batches");
    let attributes_of_first = 62;
    let numbered = |path: &str| Request::new("POST", path).header("content-type", "application/vnd.tidegate.batches");
    let numbered_and_unwatched = numbered(&format!("{BATCHES}?acks=none")).body(with(43, &producer(7)));
    let numbered_with_key = numbered(BATCHES).header("idempotency-key", "k").body(with(43, &producer(7)));
    vec![
        row("a bomb inside a zstd batch", post(bomb), 422, "corrupt-batch"),
        row("a batch over max.message.bytes", post(large), 413, "record-too-large"),
        row("JSON-marked values that are none", post(not_json), 422, "record-rejected"),
        row("a control batch", post(with(21, &0x20_i16.to_be_bytes())), 422, "record-rejected"),
        row("a transaction without one", post(with(21, &0x10_i16.to_be_bytes())), 422, "record-rejected"),
        row("a delete horizon", post(with(21, &0x40_i16.to_be_bytes())), 422, "record-rejected"),
        row("a producer id without epoch and sequence", post(with(43, &7_i64.to_be_bytes())), 422, "corrupt-batch"),
        row("a producer id of the node's own", post(with(43, &producer(1 << 61))), 422, "record-rejected"),
        row("a producer id of a key", post(with(43, &producer(1 << 62))), 422, "record-rejected"),
        row("two numbered batches", post([with(43, &producer(7)), with(43, &producer(7))].concat()), 422, "record-rejected"),
        row("a numbered batch that nobody waits for", numbered_and_unwatched, 400, "malformed-parameter"),
        row("a numbered batch with a key", numbered_with_key, 400, "malformed-header"),
        row("unknown bits of a record", post(with(attributes_of_first, &[0x80])), 422, "record-rejected"),
        row("batches without keys in a compacted topic", keyless.body(without_key()), 422, "record-rejected"),
    ]
}

fn without_key() -> Vec<u8> {
    let limits = Limits::default();
    let mut set = RecordSetBuilder::with_capacity(&limits, 1, 64);
    set.push(Timestamp::from_millis(1_700_000_000_000), Encoding::Text, None, Some(b"v"), [].into_iter()).unwrap();
    let mut builder = BatchBuilder::with_capacity(256);
    builder.push(&set.finish());
    builder.finish().sequence(Offset::ZERO, LeaderEpoch::ZERO).unwrap().parts().concat()
}

/// A promise: the batch that the rows are made of is accepted as it is, so that each row fails for its own reason.
#[test]
fn the_good_batch_is_good() {
    let data = tempfile::tempdir().unwrap();
    let node = tidegate_tests::process::Process::start(data.path()).unwrap();
    super::prepare(node.address());
    let answer = post(resealed(good())).send(node.address()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}
