//! `%020d.idempotency`, ours: all that is known of producers and keys before the offset in the name. The next start reads only the headers behind it;
//! without it, or if it is damaged, the headers of the whole log.
//!
//! ```text
//! i16 version = 1 │ u32 CRC-32C of all from byte 6 on │ i64 keys that had come up to then were let go early, −1 │ u32 producers │ u32 keys
//! producer: i64 id │ i16 epoch │ i64 arrival in ms │ i32 first sequence known, −1 │ u8 batches (0 … 5), each:
//!           i32 first sequence │ i32 last sequence │ i64 first offset │ i64 timestamp
//! key:      i64 id │ 53 bits offset, 44 bits arrival in ms, 31 bits sequence, oldest first
//! ```

use tidegate_types::Offset;
use tidegate_types::producer::{KEYED_IDS, sequences_behind};

use super::Producers;
use super::keys::{Key, KeyRules, Packed};
use super::sequences::{BATCHES, Batch, Known};

/// The suffix of its name.
pub(crate) const SUFFIX: &str = "idempotency";

const HEADER_BYTES: usize = 22;
const CRC_START: usize = 6;
const PRODUCER_BYTES: usize = 23;
const BATCH_BYTES: usize = 24;
const KEY_BYTES: usize = size_of::<Packed>();

pub(crate) fn encode(producers: &Producers) -> Vec<u8> {
    let known = producers.sequences.sorted();
    let keys = producers.keys.lock();
    let per_producer = PRODUCER_BYTES + BATCHES * BATCH_BYTES;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + known.len() * per_producer + keys.len() * KEY_BYTES);
    bytes.extend_from_slice(&1_i16.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&keys.let_go().unwrap_or(-1).to_be_bytes());
    for count in [known.len(), keys.len()] {
        bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
    }
    for (id, known) in known {
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&known.epoch.to_be_bytes());
        bytes.extend_from_slice(&known.arrival.to_be_bytes());
        bytes.extend_from_slice(&known.begins.unwrap_or(-1).to_be_bytes());
        bytes.push(u8::try_from(known.batches().len()).unwrap_or_default());
        for batch in known.batches() {
            bytes.extend_from_slice(&batch.first_sequence.to_be_bytes());
            bytes.extend_from_slice(&batch.last_sequence.to_be_bytes());
            bytes.extend_from_slice(&batch.offset.to_i64().to_be_bytes());
            bytes.extend_from_slice(&batch.timestamp.to_be_bytes());
        }
    }
    for key in keys.packed() {
        bytes.extend(key.iter().flat_map(|word| word.to_be_bytes()));
    }
    let sum = crc32c::crc32c(&bytes[CRC_START..]);
    bytes[2..CRC_START].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// What such a file says; `None` if it is damaged.
pub(crate) fn decode(bytes: &[u8], rules: KeyRules) -> Option<Producers> {
    let rest = &mut bytes.get(..)?;
    let version = i16::from_be_bytes(take(rest)?);
    let sum = u32::from_be_bytes(take(rest)?);
    if version != 1 || sum != crc32c::crc32c(rest) {
        return None;
    }
    let let_go = i64::from_be_bytes(take(rest)?);
    let (known, keys) = (u32::from_be_bytes(take(rest)?), u32::from_be_bytes(take(rest)?));
    let mut producers = Producers::new(rules);
    for _ in 0..known {
        let (id, known) = producer(rest)?;
        producers.sequences.insert(id, known);
    }
    let (packed, tail) = rest.as_chunks::<KEY_BYTES>();
    if packed.len() != usize::try_from(keys).ok()? || !tail.is_empty() {
        return None;
    }
    {
        let mut window = producers.keys.lock();
        for key in packed {
            let words = &mut key.as_slice();
            let packed = [u64::from_be_bytes(take(words)?), u64::from_be_bytes(take(words)?), u64::from_be_bytes(take(words)?)];
            window.push(Key::unpack(packed)?);
        }
        window.set_let_go((let_go >= 0).then_some(let_go));
    }
    Some(producers)
}

fn producer(rest: &mut &[u8]) -> Option<(i64, Known)> {
    let id = i64::from_be_bytes(take(rest)?);
    let epoch = i16::from_be_bytes(take(rest)?);
    let arrival = i64::from_be_bytes(take(rest)?);
    let begins = i32::from_be_bytes(take(rest)?);
    let [count] = take(rest)?;
    if !(0..KEYED_IDS).contains(&id) || epoch < 0 || usize::from(count) > BATCHES {
        return None;
    }
    let mut known = Known::new(epoch, (begins >= 0).then_some(begins), arrival);
    for _ in 0..count {
        let (first_sequence, last_sequence) = (i32::from_be_bytes(take(rest)?), i32::from_be_bytes(take(rest)?));
        let offset = Offset::from_i64(i64::from_be_bytes(take(rest)?))?;
        let timestamp = i64::from_be_bytes(take(rest)?);
        if first_sequence < 0 || last_sequence < 0 || sequences_behind(first_sequence, last_sequence).is_none() {
            return None;
        }
        known.push(Batch { first_sequence, last_sequence, offset, timestamp });
    }
    Some((id, known))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
