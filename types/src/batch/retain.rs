//! What compaction leaves of a batch: fewer records, at the offsets and the times that they had.
//!
//! Kept as they were: first and last offset, epoch, producer, codec, timestamp type. New: count, base and max timestamp, CRC. A batch that keeps
//! a tombstone gets a *delete horizon*, the time from which its tombstones may go: bit 6 of its attributes says that its base timestamp is
//! that horizon, and its records' deltas count from there. Set once; it goes with the batch's last tombstone.

use super::{BatchError, BatchHeader, CONTROL_BIT, DELETE_HORIZON_BIT, RawRecord, RecordBatch, StoredBatch};
use crate::compression::Codec;
use crate::limits::{self, BATCH_HEADER_BYTES};
use crate::record::Record;
use crate::time::Timestamp;
use crate::varint;

/// What is left of a batch.
#[derive(Debug, Clone)]
pub enum Retained {
    /// All of it, to the last byte.
    Whole,
    /// Another batch in its place.
    Rewritten(StoredBatch),
    /// Nothing.
    Nothing,
}

impl BatchHeader {
    /// From when on its tombstones may go, if that has been said.
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(Timestamp::from_millis(self.base_timestamp))
    }
}

/// The records that stay, and what is known of them.
struct Kept {
    /// By their place in the batch.
    stays: Vec<bool>,
    count: i32,
    has_tombstone: bool,
    first_timestamp: i64,
    max_timestamp: i64,
}

impl StoredBatch {
    /// What is left when only the records stay that `keep` says yes to. If a tombstone is among them, and the batch has no delete horizon yet,
    /// it gets `horizon`.
    ///
    /// A batch that would grow beyond what batches and their contents may have stays without a horizon; its tombstones then stay for good.
    ///
    /// # Errors
    /// [`BatchError::Compression`], [`BatchError::Record`] and [`BatchError::Header`] if it is malformed. The CRC is not checked.
    pub fn retain(&self, horizon: Timestamp, keep: impl FnMut(&Record<'_>) -> bool) -> Result<Retained, BatchError> {
        let records = self.records()?;
        let kept = self.choose(&records.data, keep)?;
        let known = self.header.delete_horizon();
        if kept.count == 0 {
            return Ok(Retained::Nothing);
        }
        let is_whole = kept.count == self.header.record_count;
        let wanted = kept.has_tombstone.then(|| known.unwrap_or(horizon));
        if is_whole && (wanted.is_none() || known.is_some()) {
            return Ok(Retained::Whole);
        }
        if let Some(batch) = self.rewrite(&records.data, &kept, wanted)? {
            return Ok(Retained::Rewritten(batch));
        }
        let without = if is_whole { None } else { self.rewrite(&records.data, &kept, known.filter(|_| kept.has_tombstone))? };
        Ok(without.map_or(Retained::Whole, Retained::Rewritten))
    }

    /// The batch without its records: what keeps its last offset in the log.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let attributes = self.header.attributes & !(0b111 | DELETE_HORIZON_BIT);
        let header = BatchHeader { attributes, base_timestamp: -1, record_count: 0, ..self.header };
        sealed(header, vec![0; BATCH_HEADER_BYTES])
    }

    fn choose(&self, data: &[u8], mut keep: impl FnMut(&Record<'_>) -> bool) -> Result<Kept, BatchError> {
        let header = &self.header;
        let mut kept = Kept { stays: Vec::new(), count: 0, has_tombstone: false, first_timestamp: -1, max_timestamp: i64::MIN };
        let mut before = None;
        each_record(header, data, |index, raw, _| {
            let malformed = |reason| BatchError::Record { index, reason };
            let delta = raw.offset_delta;
            if before.is_some_and(|before| before >= delta) {
                return Err(malformed("its offset is not behind the one before"));
            }
            before = Some(delta);
            let record = raw.located(header).map_err(malformed)?;
            let stays = keep(&record);
            if stays {
                if kept.count == 0 {
                    kept.first_timestamp = record.timestamp.millis();
                }
                kept.count += 1;
                kept.has_tombstone |= record.value.is_none() && header.attributes & CONTROL_BIT == 0;
                kept.max_timestamp = kept.max_timestamp.max(record.timestamp.millis());
            }
            kept.stays.push(stays);
            Ok(())
        })?;
        Ok(kept)
    }

    /// The batch with the kept records; `None` if it would be larger than batches are.
    fn rewrite(&self, data: &[u8], kept: &Kept, horizon: Option<Timestamp>) -> Result<Option<Self>, BatchError> {
        let header = &self.header;
        let base_timestamp = match horizon {
            Some(horizon) => horizon.millis(),
            // With LogAppendTime the deltas mean nothing; they stay what they are.
            None if header.is_append_time() => header.base_timestamp,
            None => kept.first_timestamp,
        };
        let mut records = Vec::with_capacity(data.len());
        each_record(header, data, |index, raw, tail| {
            if kept.stays.get(index) != Some(&true) {
                return Ok(());
            }
            let out_of_range = || BatchError::Record { index, reason: "its timestamp is out of range" };
            let timestamp = header.base_timestamp.checked_add(raw.timestamp_delta).ok_or_else(out_of_range)?;
            let timestamp_delta = timestamp.checked_sub(base_timestamp).ok_or_else(out_of_range)?;
            let offset_delta = i64::from(raw.offset_delta);
            let length = 1 + varint::len(timestamp_delta) + varint::len(offset_delta) + tail.len();
            varint::put(&mut records, length.cast_signed() as i64);
            records.push(raw.attributes);
            varint::put(&mut records, timestamp_delta);
            varint::put(&mut records, offset_delta);
            records.extend_from_slice(tail);
            Ok(())
        })?;
        if records.len() > limits::BATCH_DECOMPRESSED_BYTES_MAX {
            return Ok(None);
        }
        let packed = match header.codec() {
            Codec::None => records,
            codec => codec
                .compress(&records)
                .map_err(|error| crate::compression::CompressionError::Malformed { codec, detail: error.to_string() })?,
        };
        if BATCH_HEADER_BYTES + packed.len() > limits::BATCH_BYTES_MAX {
            return Ok(None);
        }
        let mut bytes = vec![0; BATCH_HEADER_BYTES];
        bytes.extend_from_slice(&packed);
        let attributes = header.attributes & !DELETE_HORIZON_BIT | if horizon.is_some() { DELETE_HORIZON_BIT } else { 0 };
        let max_timestamp = kept.max_timestamp;
        Ok(Some(sealed(BatchHeader { attributes, base_timestamp, max_timestamp, record_count: kept.count, ..*header }, bytes)))
    }
}

fn sealed(header: BatchHeader, bytes: Vec<u8>) -> StoredBatch {
    let RecordBatch { header, bytes } = RecordBatch::seal(header, bytes);
    StoredBatch { header, bytes }
}

/// Walks the records with their place and their tails: key, value and headers as they stand.
fn each_record<'a>(
    header: &BatchHeader,
    data: &'a [u8],
    mut visit: impl FnMut(usize, RawRecord<'a>, &'a [u8]) -> Result<(), BatchError>,
) -> Result<(), BatchError> {
    let mut rest = data;
    for index in 0..usize::try_from(header.record_count).unwrap_or(0) {
        let from = rest;
        let raw = RawRecord::take(&mut rest).map_err(|reason| BatchError::Record { index, reason })?;
        let whole = &from[..from.len() - rest.len()];
        visit(index, raw, tail_of(whole).unwrap_or_default())?;
    }
    if !rest.is_empty() {
        return Err(BatchError::Header("bytes are left after its records"));
    }
    Ok(())
}

/// What follows length, attributes and the two deltas of a record that has been read already.
fn tail_of(mut record: &[u8]) -> Option<&[u8]> {
    varint::take_i32(&mut record)?;
    record = record.get(1..)?;
    varint::take_i64(&mut record)?;
    varint::take_i32(&mut record)?;
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{EMPTY, T0, V2, any_record, owned, set_of, stored, unhex, written};
    use super::*;
    use crate::offset::{LeaderEpoch, Offset};
    use crate::{BatchBuilder, Codec};
    use proptest::prelude::*;

    const HORIZON: Timestamp = Timestamp::from_millis(T0 + 86_400_000);

    fn batch_of(records: &[super::super::tests::OwnedRecord], codec: Codec, append_time: Option<i64>) -> StoredBatch {
        let mut builder = BatchBuilder::with_capacity(0);
        builder.push(&set_of(records));
        let mut batch = builder.finish().recompress(codec, usize::MAX).unwrap();
        if let Some(now) = append_time {
            batch = batch.with_append_time(Timestamp::from_millis(now));
        }
        stored(written(&batch.sequence(Offset::new(1000).unwrap(), LeaderEpoch::new(3)).unwrap()))
    }

    /// A promise: a batch that has lost all its records is Kafka's, to the last bit.
    #[test]
    fn an_emptied_batch_has_the_golden_bytes() {
        let batch = stored(unhex(V2)).emptied();
        assert_eq!(batch.bytes().to_vec(), unhex(EMPTY));
        batch.verify().unwrap();
        let packed = batch_of(&[(5, 0, None, None, vec![])], Codec::Gzip, None).emptied();
        assert_eq!((packed.header.codec(), packed.records().unwrap().iter().count()), (Codec::None, 0));
    }

    proptest! {
        /// A promise: what is kept keeps offset, time, encoding, key, value and headers; the batch keeps its offsets and codec, says its true
        /// timestamps, and has a delete horizon exactly if it has a tombstone, the first one that was set.
        #[test]
        fn what_is_kept_is_what_it_was(
            records in proptest::collection::vec(any_record(), 1..12), stay: u16, again: u16, codec in 0_usize..5, append_time in proptest::option::of(0_i64..1 << 50),
        ) {
            let records: Vec<_> = records.into_iter().map(|mut r| { r.0 %= 1 << 50; r }).collect();
            let before = batch_of(&records, Codec::ALL[codec], append_time);
            let expected = |mask: u16| (0..records.len()).filter(|n| mask & 1 << n != 0).map(|n| {
                let (time, encoding, key, value, headers) = records[n].clone();
                (1000 + n as u64, (append_time.unwrap_or(time), encoding, key, value, headers))
            }).collect::<Vec<_>>();
            let (mut batch, mut mask) = (before.clone(), u16::MAX);
            for (round, (stay, horizon)) in [(stay, HORIZON), (again, Timestamp::from_millis(1))].into_iter().enumerate() {
                mask &= stay;
                let left = batch.retain(horizon, |record| stay & 1 << (record.offset.get() - 1000) != 0).unwrap();
                let expected = expected(mask);
                batch = match left {
                    Retained::Nothing => { prop_assert!(expected.is_empty()); return Ok(()); }
                    Retained::Whole => batch,
                    Retained::Rewritten(batch) => batch,
                };
                batch.verify().unwrap();
                let found = batch.records().unwrap().iter().map(|r| { let r = r.unwrap(); (r.offset.get(), owned(&r)) }).collect::<Vec<_>>();
                prop_assert_eq!(&found, &expected, "round {}", round);
                let header = batch.header;
                let stood = before.header;
                prop_assert_eq!((header.base_offset, header.last_offset_delta, header.leader_epoch, header.codec()), (stood.base_offset, stood.last_offset_delta, stood.leader_epoch, stood.codec()));
                prop_assert_eq!(header.max_timestamp, append_time.unwrap_or(expected.iter().map(|(_, r)| r.0).max().unwrap()));
                let has_tombstone = expected.iter().any(|(_, record)| record.3.is_none());
                prop_assert_eq!(header.delete_horizon(), has_tombstone.then_some(HORIZON), "round {}", round);
                if !has_tombstone && append_time.is_none() {
                    prop_assert_eq!(header.base_timestamp, expected[0].1.0);
                }
            }
        }

        /// A promise: hostile records give an error or some batch, never a panic.
        #[test]
        fn garbage_is_an_error(records in proptest::collection::vec(any_record(), 1..4), at: prop::sample::Index, byte: u8) {
            let mut bytes = batch_of(&records, Codec::None, None).bytes().to_vec();
            let at = at.index(bytes.len() - 21) + 21;
            bytes[at] = byte;
            if let Ok(batch) = StoredBatch::parse(&bytes.into()) {
                let _ = batch.retain(HORIZON, |record| record.offset.get() % 2 == 0);
                let _ = batch.retain(HORIZON, |_| true);
            }
        }
    }

    /// A promise: a horizon that would make a batch larger than batches are is not set, and nothing is lost.
    #[test]
    fn a_full_batch_gets_no_horizon() {
        let value = vec![0; limits::BATCH_BYTES_MAX - 200];
        let records = [(T0, 0, Some(b"k".to_vec()), Some(value), vec![]), (T0, 0, Some(b"gone".to_vec()), None, vec![])];
        let batch = batch_of(&records, Codec::None, None);
        assert!(matches!(batch.retain(HORIZON, |_| true).unwrap(), Retained::Rewritten(_)));
        let room = limits::BATCH_BYTES_MAX - batch.bytes().len();
        let value = vec![0; limits::BATCH_BYTES_MAX - 200 + room - 1];
        let records = [(T0, 0, Some(b"k".to_vec()), Some(value), vec![]), (T0, 0, Some(b"gone".to_vec()), None, vec![])];
        let batch = batch_of(&records, Codec::None, None);
        assert!(matches!(batch.retain(HORIZON, |_| true).unwrap(), Retained::Whole));
        let Retained::Rewritten(left) = batch.retain(HORIZON, |record| record.value.is_none()).unwrap() else {
            panic!("a record has gone")
        };
        assert_eq!(left.header.delete_horizon(), Some(HORIZON));
    }
}
