//! Where each key was written last, in a bounded piece of memory.
//!
//! A slot holds 128 bits of a hash of the key and the offset. The hash has a key of its own (SipHash-1-3, another key each round), so nobody
//! can choose record keys that meet. Two of the about 5,000,000 keys of a full default map meet by chance once in 10^25 rounds; then one
//! key's record is taken for an older one of the other, and goes.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};
use tidegate_types::Offset;

/// Bytes of a slot.
const SLOT_BYTES: usize = 24;

/// Of ten slots, so many are filled at most: beyond, looking for a free one takes long.
const FILLED_OF_TEN: usize = 8;

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    hash: [u64; 2],
    /// The offset + 1; 0 is a free slot.
    offset: u64,
}

const _: () = assert!(size_of::<Slot>() == SLOT_BYTES);

/// Keys and the latest offset of each.
pub(crate) struct KeyMap {
    hasher: SipHasher13,
    slots: Vec<Slot>,
    keys: usize,
    keys_max: usize,
}

impl std::fmt::Debug for KeyMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyMap").field("keys", &self.keys).field("keys_max", &self.keys_max).finish_non_exhaustive()
    }
}

impl KeyMap {
    /// A map of at most `bytes` bytes, and no larger than `records` records with a key each need. `seed` should be one that nobody can guess.
    pub(crate) fn new(bytes: usize, records: u64, seed: &[u8; 16]) -> Self {
        let needed = usize::try_from(records).unwrap_or(usize::MAX).saturating_mul(10).div_ceil(FILLED_OF_TEN).saturating_add(1);
        let slots = (bytes / SLOT_BYTES).min(needed);
        let keys_max = slots.saturating_mul(FILLED_OF_TEN) / 10;
        Self { hasher: SipHasher13::new_with_key(seed), slots: vec![Slot::default(); slots], keys: 0, keys_max }
    }

    /// How many more keys it can take.
    pub(crate) fn room(&self) -> usize {
        self.keys_max - self.keys
    }

    /// Notes that `key` was written at `offset`, after all that was noted before. There must be room, or the key be in it.
    pub(crate) fn note(&mut self, key: &[u8], offset: Offset) {
        let hash = self.hash(key);
        let at = self.find(hash);
        let slot = &mut self.slots[at];
        if slot.offset == 0 {
            assert!(self.keys < self.keys_max, "whoever fills the map asks for room first");
            self.keys += 1;
        }
        *slot = Slot { hash, offset: offset.get() + 1 };
    }

    /// The latest offset of `key`.
    pub(crate) fn latest(&self, key: &[u8]) -> Option<Offset> {
        if self.keys == 0 {
            return None;
        }
        self.slots[self.find(self.hash(key))].offset.checked_sub(1).and_then(Offset::new)
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let mut hasher = self.hasher;
        hasher.write(key);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }

    /// The slot of a hash, or the free one where it belongs. There is always a free one.
    fn find(&self, hash: [u64; 2]) -> usize {
        let slots = self.slots.len() as u64;
        // The remainder is below a length.
        let mut at = usize::try_from(hash[0] % slots).unwrap_or(0);
        while self.slots[at].offset != 0 && self.slots[at].hash != hash {
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A promise: the map says what a sorted map says, up to its last free place, and takes no more memory than it was given.
        #[test]
        fn it_says_what_a_sorted_map_says(keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3), 0..400), bytes in 0_usize..8_000, seed: [u8; 16]) {
            let mut map = KeyMap::new(bytes, keys.len() as u64, &seed);
            let mut model = BTreeMap::new();
            prop_assert!(map.slots.len() * SLOT_BYTES <= bytes);
            for (n, key) in keys.iter().enumerate() {
                if map.room() == 0 {
                    prop_assert!(model.len() * SLOT_BYTES * 10 / FILLED_OF_TEN + 2 * SLOT_BYTES > bytes, "it fills what it was given");
                    break;
                }
                map.note(key, Offset::new(n as u64).unwrap());
                model.insert(key, n as u64);
            }
            prop_assert_eq!(map.keys, model.len());
            for key in &keys {
                prop_assert_eq!(map.latest(key).map(Offset::get), model.get(key).copied());
            }
            prop_assert_eq!(map.latest(b"none of them"), None);
        }
    }
}
