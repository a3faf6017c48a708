//! Records packed into stored batches on this side, and read out of them: the server then takes and gives bytes as they stand.

use bytes::Bytes;
use tidegate_types::record::Header as BorrowedHeader;
use tidegate_types::{BatchBuilder, Codec, Encoding, Limits, RecordSetBuilder, StoredBatch, Timestamp};

use crate::error::Error;
use crate::record::{NewRecord, Value};

/// Record batches (version 2) back to back.
pub const MEDIA_TYPE: &str = "application/vnd.tidegate.batches";

/// One batch of all `records`, which need a timestamp each and go to one partition, packed with `codec`.
///
/// # Errors
/// [`Error::Input`] if there are none, if one has no timestamp, or if one is over a limit.
pub fn encode(records: &[NewRecord], codec: Codec) -> Result<Bytes, Error> {
    let limits = Limits::default();
    let mut set = RecordSetBuilder::with_capacity(&limits, records.len(), 0);
    for (index, record) in records.iter().enumerate() {
        let refuse = |reason: &str| Error::Input(format!("record {index}: {reason}"));
        let timestamp = record.timestamp.filter(|millis| *millis >= 0).ok_or_else(|| refuse("a record in a batch needs a timestamp"))?;
        let headers = record.headers.iter().map(|h| BorrowedHeader { name: &h.name, value: h.value.as_deref() });
        set.push(Timestamp::from_millis(timestamp), encoding(&record.value), record.key.as_deref(), record.value.as_bytes(), headers)
            .map_err(|error| refuse(&error.to_string()))?;
    }
    let set = set.finish();
    if set.is_empty() {
        return Err(Error::Input("a batch has at least one record".to_owned()));
    }
    if set.bytes() > limits.body_bytes {
        return Err(Error::Input(format!("the records have up to {} bytes, more than a body may have", set.bytes())));
    }
    let mut batch = BatchBuilder::with_capacity(set.bytes());
    batch.push(&set);
    let packed = batch.finish().recompress(codec, usize::MAX).map_err(|error| Error::Input(error.to_string()))?;
    Ok(packed.into_bytes())
}

pub(crate) fn encoding(value: &Value) -> Encoding {
    match value {
        Value::Json(_) => Encoding::Json,
        Value::Text(_) => Encoding::Text,
        Value::Bytes(_) => Encoding::Bytes,
        Value::Tombstone => Encoding::Unknown,
    }
}

/// Checks a fetched batch and hands each of its records to `each`, from `start` on (the first batch of a fetch may begin before it).
///
/// # Errors
/// [`Error::Answer`] if its bytes are not what was written.
pub fn read(batch: &StoredBatch, start: u64, mut each: impl FnMut(&tidegate_types::Record<'_>)) -> Result<(), Error> {
    let damaged = |error: tidegate_types::BatchError| Error::Answer { call: "a fetch of batches".to_owned(), reason: error.to_string() };
    batch.verify().map_err(damaged)?;
    if batch.header.is_control() {
        return Ok(());
    }
    for record in &batch.records().map_err(damaged)? {
        let record = record.map_err(damaged)?;
        if record.offset.get() >= start {
            each(&record);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_types::StoredBatches;

    /// A promise: what is packed here is read back the same, whatever the codec.
    #[test]
    fn packed_and_read_back() {
        let records = [
            NewRecord::text("a").key("k").timestamp(5).header("h", "v"),
            NewRecord::new(Value::Tombstone).key("").timestamp(3),
            NewRecord::json(&serde_json::json!({"x": 1})).unwrap().timestamp(9),
        ];
        for codec in Codec::ALL {
            let bytes = encode(&records, codec).unwrap();
            let mut seen = Vec::new();
            for batch in StoredBatches::new(bytes) {
                read(&batch.unwrap(), 1, |r| seen.push((r.timestamp.millis(), r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec))))
                    .unwrap();
            }
            let want = [(3, Some(b"".to_vec()), None), (9, None, Some(br#"{"x":1}"#.to_vec()))];
            assert_eq!(seen, want, "{codec:?}");
        }
    }

    /// A promise: what no batch can hold is refused here, with the record's place.
    #[test]
    fn misfits_are_named() {
        assert!(encode(&[], Codec::None).is_err());
        let no_time = encode(&[NewRecord::text("a").timestamp(1), NewRecord::text("b")], Codec::None).unwrap_err();
        assert!(no_time.to_string().starts_with("record 1:"), "{no_time}");
    }
}
