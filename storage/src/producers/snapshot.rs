//! `%020d.snapshot`, Kafka's file: of each producer its last batch before the offset in the name. Tools read it; a start does only where the log no longer
//! has what it says.
//!
//! ```text
//! i16 version = 1 │ u32 CRC-32C of all from byte 6 on │ i32 entries │ entries of 46 bytes
//! entry: i64 producer id │ i16 epoch │ i32 last sequence │ i64 last offset │ i32 last offset − first │ i64 timestamp │
//!        i32 coordinator epoch, −1 │ i64 first offset of the open transaction, −1
//! ```
//!
//! Source: `ProducerStateManager.java` of Apache Kafka. Keys are not in it: their ids are ours.

use tidegate_types::Offset;
use tidegate_types::producer::{KEYED_IDS, sequence_after};

use super::Producers;
use super::sequences::{Batch, Known};

/// The suffix of its name.
pub(crate) const SUFFIX: &str = "snapshot";

const HEADER_BYTES: usize = 10;
const ENTRY_BYTES: usize = 46;
const CRC_START: usize = 6;

pub(crate) fn encode(producers: &Producers) -> Vec<u8> {
    let entries = producers.sequences.sorted();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + entries.len() * ENTRY_BYTES);
    bytes.extend_from_slice(&1_i16.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let entries: Vec<_> = entries.into_iter().filter_map(|(id, known)| Some((id, known, known.last()?))).collect();
    bytes.extend_from_slice(&i32::try_from(entries.len()).unwrap_or(i32::MAX).to_be_bytes());
    for (id, known, last) in entries {
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&known.epoch.to_be_bytes());
        bytes.extend_from_slice(&last.last_sequence.to_be_bytes());
        bytes.extend_from_slice(&last.last_offset().to_i64().to_be_bytes());
        bytes.extend_from_slice(&last.offset_delta().to_be_bytes());
        bytes.extend_from_slice(&last.timestamp.to_be_bytes());
        bytes.extend_from_slice(&(-1_i32).to_be_bytes());
        bytes.extend_from_slice(&(-1_i64).to_be_bytes());
    }
    let sum = crc32c::crc32c(&bytes[CRC_START..]);
    bytes[2..CRC_START].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The producers in a snapshot; `None` if it is damaged.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<(i64, Known)>> {
    let (head, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let sum = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
    let count = usize::try_from(i32::from_be_bytes([head[6], head[7], head[8], head[9]])).ok()?;
    let (entries, tail) = rest.as_chunks::<ENTRY_BYTES>();
    let is_whole = head[..2] == [0, 1] && sum == crc32c::crc32c(&bytes[CRC_START..]) && entries.len() == count && tail.is_empty();
    if !is_whole {
        return None;
    }
    entries.iter().map(entry).collect()
}

fn entry(bytes: &[u8; ENTRY_BYTES]) -> Option<(i64, Known)> {
    fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        let (head, tail) = rest.split_first_chunk::<N>()?;
        *rest = tail;
        Some(*head)
    }
    let rest = &mut bytes.as_slice();
    let id = i64::from_be_bytes(take(rest)?);
    let epoch = i16::from_be_bytes(take(rest)?);
    let last_sequence = i32::from_be_bytes(take(rest)?);
    let last_offset = Offset::from_i64(i64::from_be_bytes(take(rest)?))?;
    let delta = u32::try_from(i32::from_be_bytes(take(rest)?)).ok()?;
    let timestamp = i64::from_be_bytes(take(rest)?);
    if !(0..KEYED_IDS).contains(&id) || epoch < 0 || last_sequence < 0 {
        return None;
    }
    // As far back as it is forward: sequences go round.
    let first_sequence = sequence_after(last_sequence, (1 << 31) - delta);
    let offset = Offset::new(last_offset.get().checked_sub(u64::from(delta))?)?;
    let mut known = Known::new(epoch, None, 0);
    known.push(Batch { first_sequence, last_sequence, offset, timestamp });
    Some((id, known))
}
