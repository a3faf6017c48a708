//! Positions in a partition, and the versions of its leadership.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A record's position in its partition: 0, 1, 2 …, never given twice.
///
/// Below 2⁵³, so that every JSON reader can hold it; appending beyond is refused, which at a million records a second is 285 years away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(u64);

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Self = Self(0);
    /// The largest offset there is: 2⁵³ − 1.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// `None` if `offset` is not below 2⁵³.
    pub const fn new(offset: u64) -> Option<Self> {
        if offset <= Self::MAX.0 { Some(Self(offset)) } else { None }
    }

    /// From the signed field of a file or a batch; `None` if it is negative or too large.
    pub const fn from_i64(offset: i64) -> Option<Self> {
        if offset < 0 { None } else { Self::new(offset.unsigned_abs()) }
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number as files hold it.
    pub const fn to_i64(self) -> i64 {
        self.0.cast_signed()
    }

    /// The offset `count` records further on; `None` beyond [`Offset::MAX`].
    pub const fn checked_add(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(sum) => Self::new(sum),
            None => None,
        }
    }

    /// The offset after this one; [`Offset::MAX`] stays.
    pub const fn next(self) -> Self {
        match self.checked_add(1) {
            Some(next) => next,
            None => Self::MAX,
        }
    }

    /// `count` records back, but not before 0.
    pub const fn saturating_sub(self, count: u64) -> Self {
        Self(self.0.saturating_sub(count))
    }

    /// How many offsets lie in `[earlier, self)`; 0 if `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Version of a partition's leadership; grows by one with each change of leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaderEpoch(i32);

impl LeaderEpoch {
    /// The epoch of a partition's first leader.
    pub const ZERO: Self = Self(0);

    /// Wraps the number.
    pub const fn new(epoch: i32) -> Self {
        Self(epoch)
    }

    /// The bare number.
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
