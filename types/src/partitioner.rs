//! Which partition a key belongs to: Kafka's own function, so that a Kafka client and curl agree.

use crate::PartitionIndex;

/// Murmur2 with Kafka's seed, over the serialized key.
///
/// Constants: seed `0x9747b28c`, `m` `0x5bd1e995`, `r` 24, little-endian blocks (`org.apache.kafka.common.utils.Utils.murmur2`).
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX); // Kafka's length is an i32; keys are bounded far below.
    let mut hash = 0x9747_b28c ^ length;
    let (blocks, tail) = data.as_chunks::<4>();
    for block in blocks {
        let mut k = u32::from_le_bytes(*block).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of `key` among `partitions` (at least 1): `(murmur2 & 0x7fffffff) % partitions`.
pub fn partition_for_key(key: &[u8], partitions: u32) -> PartitionIndex {
    assert!(partitions > 0, "a topic has at least one partition");
    PartitionIndex::new((murmur2(key) & 0x7fff_ffff) % partitions)
}

/// Where a group's or a transactional id's state lives: Java's `String.hashCode` made positive, modulo `partitions` (at least 1).
pub fn partition_for_id(id: &str, partitions: u32) -> PartitionIndex {
    assert!(partitions > 0, "a topic has at least one partition");
    let hash = id.encode_utf16().fold(0_i32, |h, unit| h.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let positive = if hash == i32::MIN { 0 } else { hash.unsigned_abs() };
    PartitionIndex::new(positive % partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: our placement is Kafka's (its own `UtilsTest` values).
    #[test]
    fn murmur2_is_kafkas() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert_eq!(partition_for_key(b"abc", 4).get(), 479_470_107 % 4);
    }

    /// A promise: a group's coordinator is found where Kafka would find it, also for names beyond ASCII.
    #[test]
    fn ids_are_placed_as_in_kafka() {
        for (id, partition) in
            [("test-group", 12), ("my-group", 12), ("console-consumer-1", 24), ("订单组", 31), ("my-transactional-id", 46)]
        {
            assert_eq!(partition_for_id(id, 50).get(), partition, "{id}");
        }
    }
}
