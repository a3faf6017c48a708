//! A batch as the consumer hands it out: unpacked and walked once, so that reading its records cannot fail.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use tidegate_types::batch::Records;
use tidegate_types::{BatchError, Encoding, StoredBatch};

use crate::record::{Header, Record, Value};

/// Records of one partition, in order: those of one stored batch that were asked for.
#[derive(Debug, Clone)]
pub struct ConsumedBatch {
    /// The topic …
    pub topic: Arc<str>,
    /// … and the partition that they stand in.
    pub partition: u32,
    /// The partition's high watermark when they were fetched.
    pub high_watermark: u64,
    records: Records,
    offsets: Range<u64>,
    count: usize,
}

impl ConsumedBatch {
    /// Unpacks and walks a stored batch; of its records those within `offsets` are handed out. `None` if there are none.
    pub(super) fn unpack(
        topic: &Arc<str>,
        partition: u32,
        high_watermark: u64,
        stored: &StoredBatch,
        offsets: Range<u64>,
    ) -> Result<Option<Self>, BatchError> {
        stored.verify()?;
        if stored.header.is_control() || stored.header.last_offset().get() < offsets.start {
            return Ok(None);
        }
        let records = stored.records()?;
        let (mut count, mut before) = (0, None);
        for record in &records {
            let offset = record?.offset.get();
            if before.is_some_and(|before| before >= offset) {
                return Err(BatchError::Header("offsets that do not rise"));
            }
            before = Some(offset);
            count += usize::from(offsets.contains(&offset));
        }
        let (topic, is_empty) = (Arc::clone(topic), count == 0);
        Ok((!is_empty).then_some(Self { topic, partition, high_watermark, records, offsets, count }))
    }

    /// How many records; at least one.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Never: a batch without records is not handed out.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The records, borrowed: nothing is copied.
    pub fn iter(&self) -> impl Iterator<Item = tidegate_types::Record<'_>> {
        // An error cannot come: all of them have been walked.
        self.records.iter().map_while(Result::ok).filter(|record| self.offsets.contains(&record.offset.get()))
    }

    /// The records, each on its own.
    pub fn records(&self) -> Vec<Record> {
        self.iter().map(|record| owned(self.partition, &record)).collect()
    }
}

/// A record with its own copy of everything. What is marked as JSON or text and is not comes out as what it is.
fn owned(partition: u32, record: &tidegate_types::Record<'_>) -> Record {
    Record {
        partition,
        offset: record.offset.get(),
        timestamp: record.timestamp.millis(),
        key: record.key.map(Bytes::copy_from_slice),
        value: record.value.map_or(Value::Tombstone, |value| owned_value(record.encoding, value)),
        headers: record
            .headers
            .iter()
            .map(|header| Header { name: header.name.to_owned(), value: header.value.map(Bytes::copy_from_slice) })
            .collect(),
    }
}

fn owned_value(encoding: Encoding, value: &[u8]) -> Value {
    let text = || std::str::from_utf8(value).ok().map(str::to_owned);
    let shaped = match encoding {
        Encoding::Json => match text().map(RawValue::from_string) {
            Some(Ok(json)) => Some(Value::Json(json)),
            Some(Err(_)) | None => text().map(Value::Text),
        },
        Encoding::Text | Encoding::Unknown => text().map(Value::Text),
        Encoding::Bytes => None,
    };
    shaped.unwrap_or_else(|| Value::Bytes(Bytes::copy_from_slice(value)))
}

#[cfg(test)]
mod tests {
    use tidegate_types::Codec;

    use super::*;
    use crate::record::NewRecord;

    fn stored(codec: Codec) -> StoredBatch {
        let records = [
            NewRecord::text("a").key("k").timestamp(5).header("h", "v"),
            NewRecord::new(Value::Tombstone).key("").timestamp(3),
            NewRecord::json(&serde_json::json!({"x": 1})).unwrap().timestamp(9),
            NewRecord::bytes(vec![0xff]).timestamp(9),
        ];
        StoredBatch::parse(&crate::batch::encode(&records, codec).unwrap()).unwrap()
    }

    /// A promise: what was packed comes out as it was given, in order, and of it only what was asked for.
    #[test]
    fn records_come_out_as_they_went_in() {
        for codec in Codec::ALL {
            let unpack = |offsets| ConsumedBatch::unpack(&"t".into(), 2, 9, &stored(codec), offsets).unwrap();
            let all = unpack(0..u64::MAX).unwrap().records();
            let shapes: Vec<_> =
                all.iter().map(|r| (r.offset, r.timestamp, r.key.clone(), r.value.as_bytes().map(<[u8]>::to_vec))).collect();
            let want = [
                (0, 5, Some("k".into()), Some(b"a".to_vec())),
                (1, 3, Some("".into()), None),
                (2, 9, None, Some(br#"{"x":1}"#.to_vec())),
                (3, 9, None, Some(vec![0xff])),
            ];
            assert_eq!(shapes, want, "{codec:?}");
            assert!(matches!((&all[1].value, &all[2].value, &all[3].value), (Value::Tombstone, Value::Json(_), Value::Bytes(_))));
            let some = unpack(1..3).unwrap();
            assert_eq!((some.len(), some.iter().map(|r| r.offset.get()).collect::<Vec<_>>()), (2, vec![1, 2]));
            assert!(unpack(4..9).is_none());
        }
    }

    /// A promise: bytes that are not what was written are an error, not records.
    #[test]
    fn damage_is_seen() {
        let mut bytes = stored(Codec::None).bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let damaged = StoredBatch::parse(&bytes.into()).unwrap();
        assert!(matches!(ConsumedBatch::unpack(&"t".into(), 0, 9, &damaged, 0..9), Err(BatchError::Crc { .. })));
    }

    /// A promise: a value that is not what it is marked as comes out as what it is.
    #[test]
    fn marks_are_not_believed() {
        assert!(matches!(owned_value(Encoding::Json, b"{"), Value::Text(_)));
        assert!(matches!(owned_value(Encoding::Json, b"\xff"), Value::Bytes(_)));
        assert!(matches!(owned_value(Encoding::Text, b"\xff"), Value::Bytes(_)));
    }
}
