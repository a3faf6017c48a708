//! What can be told of a file behind damage in it.

use tidegate_types::{BatchHeader, Offset, StoredBatch, limits};

use crate::io::{File, read_exact_at};

/// Whether the header of a batch stands at a place.
pub(super) fn has_header(file: &dyn File, at: u64) -> bool {
    header_at(file, at).is_some()
}

fn header_at(file: &dyn File, at: u64) -> Option<BatchHeader> {
    let mut head = [0; limits::BATCH_HEADER_BYTES];
    read_exact_at(file, &mut head, at).ok()?;
    BatchHeader::parse(&head).ok()
}

/// Steps over one damaged batch by the length that it states, and reads on while batches are good: where they end.
pub(super) fn known_behind(file: &dyn File, position: u64, length: u64, end: Offset) -> Option<Offset> {
    let (mut at, mut known, mut is_first) = (position, None, true);
    while at < length {
        let Some(header) = header_at(file, at).filter(|header| at + header.total_bytes() as u64 <= length) else { break };
        let mut bytes = vec![0; header.total_bytes()];
        if read_exact_at(file, &mut bytes, at).is_err() {
            break;
        }
        let is_good = StoredBatch::parse(&bytes.into()).is_ok_and(|batch| batch.verify().is_ok());
        if is_good && header.first_offset() >= end {
            known = Some(header.last_offset().next());
        } else if !is_first {
            break;
        }
        at += header.total_bytes() as u64;
        is_first = false;
    }
    known
}
