//! Trims in JSON.

use serde::{Deserialize, Serialize};
use tidegate_types::Offset;
use utoipa::ToSchema;

/// Which records to give up.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"before_offset": 1042}))]
pub(crate) struct TrimPartition {
    /// All before this offset, which is at most the high watermark.
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    pub(crate) before_offset: u64,
}

/// Where a partition begins after a trim.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"earliest_offset": 1042}))]
pub(crate) struct PartitionTrimmed {
    /// The first offset kept: `before_offset`, or a later one if it was later already.
    #[schema(maximum = 9_007_199_254_740_991_i64)]
    earliest_offset: u64,
}

impl From<Offset> for PartitionTrimmed {
    fn from(earliest: Offset) -> Self {
        Self { earliest_offset: earliest.get() }
    }
}
