//! Who wrote a batch, and as what: the three fields of its header that make a repeated request recognisable.
//!
//! ```text
//!   producer id   below 2^53 given out: its number, from the controller's blocks, and 20 drawn bits
//!                 2^61 | …   a name that no id was bound to: 61 bits of a keyed hash of it
//!                 2^62 | …   an Idempotency-Key: 62 bits of a keyed hash of it
//!   sequence      counts records, 0 … 2^31-1, then 0 again; of a key: 31 bits of a hash of the body
//! ```

use crate::batch::BatchHeader;

/// Of ids that are made of names.
pub const NAMED_IDS: i64 = 1 << 61;
/// Of ids that are made of keys: each is one request's, or one chunk's of it.
pub const KEYED_IDS: i64 = 1 << 62;
/// The lower bits of an id that is given out are drawn: nobody comes upon somebody else's by counting.
pub const DRAWN_BITS: u32 = 20;
/// How many ids can be given out: all below 2^53, since they go through JSON.
pub const NUMBERS_MAX: i64 = (1 << (53 - DRAWN_BITS)) - 1;

/// The number of an id that may have been given out, counted from 1; 0 and below is none.
pub const fn number_of(id: i64) -> i64 {
    id >> DRAWN_BITS
}

/// The largest epoch. A producer that has used it up needs another id.
pub const EPOCH_MAX: i16 = i16::MAX;

/// A producer, its epoch, and the sequence of the first record of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProducerStamp {
    /// The producer: not negative.
    pub id: i64,
    /// Its epoch: not negative.
    pub epoch: i16,
    /// The first record's sequence: not negative.
    pub sequence: i32,
}

impl ProducerStamp {
    /// What a batch says of its producer; `None` if it names none.
    pub fn of(header: &BatchHeader) -> Option<Self> {
        let stamp = Self { id: header.producer_id, epoch: header.producer_epoch, sequence: header.base_sequence };
        (stamp.id >= 0 && stamp.epoch >= 0 && stamp.sequence >= 0).then_some(stamp)
    }

    /// Whether the id stands for an `Idempotency-Key` and not for a producer that counts its records.
    pub fn is_keyed(self) -> bool {
        self.id & KEYED_IDS != 0
    }

    /// The same producer, so many records later.
    #[must_use]
    pub fn advanced_by(self, records: u32) -> Self {
        Self { sequence: sequence_after(self.sequence, records), ..self }
    }
}

/// The sequence that comes `records` after `sequence`: after 2³¹−1 comes 0.
pub fn sequence_after(sequence: i32, records: u32) -> i32 {
    let sum = sequence.unsigned_abs().wrapping_add(records) & i32::MAX.unsigned_abs();
    sum.cast_signed()
}

/// How many records `sequence` is behind `last`; `None` if it comes after it. Nothing is further behind than half of all sequences.
pub fn sequences_behind(sequence: i32, last: i32) -> Option<u32> {
    let behind = last.wrapping_sub(sequence).cast_unsigned() & i32::MAX.unsigned_abs();
    (behind < 1 << 30).then_some(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: sequences go round after 2^31 - 1, and what is behind stays behind there.
    #[test]
    fn sequences_go_round() {
        for (sequence, records, after) in [(0, 0, 0), (0, 5, 5), (i32::MAX, 1, 0), (i32::MAX - 1, 3, 1), (7, i32::MAX.unsigned_abs(), 6)] {
            assert_eq!(sequence_after(sequence, records), after, "{sequence} + {records}");
        }
        for (sequence, last, behind) in [
            (5, 5, Some(0)),
            (4, 5, Some(1)),
            (6, 5, None),
            (i32::MAX, 0, Some(1)),
            (i32::MAX - 2, 1, Some(4)),
            (0, i32::MAX, None),
            (1, i32::MAX, None),
        ] {
            assert_eq!(sequences_behind(sequence, last), behind, "{sequence} and {last}");
        }
        let stamp = ProducerStamp { id: 3, epoch: 1, sequence: i32::MAX };
        assert_eq!(stamp.advanced_by(2), ProducerStamp { sequence: 1, ..stamp });
        assert!(!stamp.is_keyed() && ProducerStamp { id: KEYED_IDS | 5, ..stamp }.is_keyed());
    }
}
