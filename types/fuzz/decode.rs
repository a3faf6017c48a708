//! What both the fuzzer and an ordinary test do with hostile bytes: everything that the product does with a body or a segment.

use bytes::Bytes;
use tidegate_types::batch::BatchRules;
use tidegate_types::{LeaderEpoch, Limits, Offset, RecordBatch, StoredBatch, StoredBatches};

/// Where a batch's CRC stands, and where it begins to cover.
const CRC_AT: usize = 17;
const CRC_START: usize = 21;

/// Decodes `data` as batches back to back, as they are and with their CRCs put right, so that nothing hides behind a wrong one. Whatever the
/// decoder accepts must be written again as the same records. Returns how many batches were accepted.
///
/// # Panics
/// If the decoder breaks a promise; that it gives an error is none.
pub(crate) fn everything(data: &[u8]) -> usize {
    accepted(Bytes::copy_from_slice(data)) + accepted(resealed(data).into())
}

fn accepted(data: Bytes) -> usize {
    let batches = StoredBatches::new(data).map_while(Result::ok);
    batches.filter(|batch| reads(batch) && validates(batch)).count()
}

/// Walks the records as a fetch does; says whether all could be read.
fn reads(batch: &StoredBatch) -> bool {
    let Ok(records) = batch.records() else {
        return false;
    };
    let mut sound = batch.verify().is_ok();
    for record in &records {
        let Ok(record) = record else {
            sound = false;
            continue;
        };
        assert!(record.offset >= batch.header.first_offset() && record.offset <= batch.header.last_offset());
        assert_eq!(record.headers.iter().count(), record.headers.len(), "headers that were counted can be read");
    }
    sound
}

/// Accepts it as a produce does; what was accepted, stamped and written must be accepted again, at its new place.
fn validates(batch: &StoredBatch) -> bool {
    let limits = Limits::default();
    let rules =
        BatchRules { limits: &limits, max_batch_bytes: 1 << 20, key_required: false, timestamps: (0, i64::MAX), drops_producer: false };
    let Ok(walked) = RecordBatch::validate(batch, &rules, |_| Ok(())) else {
        return false;
    };
    let base = Offset::new(1_000).unwrap_or(Offset::ZERO);
    let Some(stamped) = walked.sequence(base, LeaderEpoch::ZERO) else {
        return true;
    };
    let written = StoredBatch::parse(&Bytes::from(stamped.parts().concat()));
    let again = written.map(|written| {
        assert_eq!(written.header.first_offset(), base);
        RecordBatch::validate(&written, &rules, |_| Ok(())).is_ok()
    });
    assert_eq!(again, Ok(true), "what was accepted is accepted again");
    true
}

/// The same bytes, with the CRC of each batch made to fit as long as the lengths lead from one to the next.
fn resealed(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let mut start = 0;
    while let Ok(batch) = StoredBatch::parse(&Bytes::copy_from_slice(&data[start..])) {
        let end = start + batch.bytes().len();
        let crc = crc32c::crc32c(&data[start + CRC_START..end]);
        data[start + CRC_AT..start + CRC_START].copy_from_slice(&crc.to_be_bytes());
        start = end;
    }
    data
}
