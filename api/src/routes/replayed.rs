//! Where a request that was written before stands: the timestamps that its records have there, which need not be those of the repetition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_cluster::{Appended, FetchRequest, OffsetReset, Origin, Position, Topic};
use tidegate_types::{ErrorCode, PartitionIndex, StoredBatches};

use super::produce::is_packed;
use super::unpacking;
use crate::dto::produced::Part;
use crate::error::ApiError;
use crate::state::ApiState;

/// Bytes of batches that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// The parts of an answer. Records that are gone meanwhile, or cannot be read just now, have no timestamp in them: that they are written is known.
pub(crate) async fn parts(state: &ApiState, topic: &Arc<Topic>, appended: Vec<(PartitionIndex, Appended)>) -> Vec<Part> {
    let mut parts = Vec::with_capacity(appended.len());
    for (partition, appended) in appended {
        let timestamps = match appended.origin {
            Origin::Replayed => timestamps(state, topic, partition, &appended).await.unwrap_or_else(|error| {
                tracing::warn!(topic = %topic.name, %partition, code = %error.code(), "the timestamps of a repeated request were not read");
                BTreeMap::new()
            }),
            Origin::Written | Origin::Forgotten => BTreeMap::new(),
        };
        parts.push(Part { partition, appended, timestamps });
    }
    parts
}

async fn timestamps(
    state: &ApiState,
    topic: &Arc<Topic>,
    partition: PartitionIndex,
    appended: &Appended,
) -> Result<BTreeMap<u64, i64>, ApiError> {
    let (first, last) = (appended.base_offset.get(), appended.last_offset.get());
    let (mut next, mut found) = (first, BTreeMap::new());
    while next <= last {
        let request = FetchRequest {
            topic: Arc::clone(topic),
            partition,
            position: Position::Offset(next),
            // The first of them may have been given up.
            reset: OffsetReset::Earliest,
            max_bytes: READ_BYTES,
            min_bytes: 0,
            max_wait: Duration::ZERO,
        };
        let fetched = state.broker()?.fetch(request).await?;
        let (batches, is_last) = (fetched.batches.clone(), fetched.next_offset.get() <= next);
        next = fetched.next_offset.get();
        let of_batches = move || stamped(&batches, first, last);
        let some = if is_packed(&fetched.batches) { unpacking(state, of_batches).await? } else { of_batches()? };
        found.extend(some);
        if is_last {
            break;
        }
    }
    Ok(found)
}

fn stamped(batches: &Bytes, first: u64, last: u64) -> Result<Vec<(u64, i64)>, ApiError> {
    let fault = |error: tidegate_types::BatchError| ApiError::fault(ErrorCode::CorruptLog, error);
    let mut found = Vec::new();
    for batch in StoredBatches::new(batches.clone()) {
        let batch = batch.map_err(fault)?;
        if batch.header.last_offset().get() < first || batch.header.first_offset().get() > last {
            continue;
        }
        for record in &batch.records().map_err(fault)? {
            let record = record.map_err(fault)?;
            if (first..=last).contains(&record.offset.get()) {
                found.push((record.offset.get(), record.timestamp.millis()));
            }
        }
    }
    Ok(found)
}
