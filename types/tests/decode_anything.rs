//! What the fuzzer does for hours, done for a moment in every test run.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

#[path = "../fuzz/decode.rs"]
mod decode;

use bytes::Bytes;
use proptest::prelude::*;
use tidegate_types::{BatchBuilder, Codec, Encoding, LeaderEpoch, Limits, Offset, RecordSetBuilder, Timestamp};

/// An honest batch of three records.
fn honest(codec: Codec) -> Vec<u8> {
    let limits = Limits::default();
    let mut set = RecordSetBuilder::with_capacity(&limits, 3, 64);
    for (millis, key) in [(7, Some(&b"k"[..])), (3, None), (9, Some(b""))] {
        set.push(Timestamp::from_millis(millis), Encoding::Text, key, Some(b"value value value"), [].into_iter()).unwrap();
    }
    let mut builder = BatchBuilder::with_capacity(256);
    builder.push(&set.finish());
    let batch = builder.finish().recompress(codec, usize::MAX).unwrap().sequence(Offset::ZERO, LeaderEpoch::ZERO).unwrap();
    batch.parts().concat()
}

/// A promise: what the product itself writes is accepted, so the properties below reach beyond the first check.
#[test]
fn honest_batches_are_accepted() {
    for codec in Codec::ALL {
        let two = honest(codec).repeat(2);
        assert_eq!(decode::everything(&two), 4, "{codec:?}: two as they are, two with their CRCs put right");
        assert_eq!(decode::everything(&Bytes::from(two).slice(1..)), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A promise: any bytes at all give an error or records, never a panic, and what is accepted is written again the same.
    #[test]
    fn garbage_never_panics(data: Vec<u8>) {
        decode::everything(&data);
    }

    /// A promise: nor does an honest batch with any bytes of it changed, even when its CRC is made to fit.
    #[test]
    fn damage_never_panics(
        codec in prop::sample::select(Codec::ALL.to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut data = honest(codec);
        for (place, byte) in changes {
            let place = place.index(data.len());
            data[place] = byte;
        }
        decode::everything(&data);
    }
}
