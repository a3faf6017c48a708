//! What a producer counts.

/// Counts since the start, and how things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProducerMetrics {
    /// Records taken by [`super::Producer::send`].
    pub records: u64,
    /// Records acknowledged.
    pub acknowledged_records: u64,
    /// Records that failed after they were taken, expired ones included.
    pub failed_records: u64,
    /// Requests sent, retries included: one batch each.
    pub requests: u64,
    /// Batches acknowledged.
    pub batches: u64,
    /// Bytes of the batches acknowledged, as sent.
    pub bytes: u64,
    /// Requests after which the batch was tried again.
    pub retries: u64,
    /// Batches that were cut because they were too large or had a record that was refused.
    pub splits: u64,
    /// Times that [`super::Producer::send`] had to wait for room.
    pub waits_for_room: u64,
    /// Bytes of the records not yet settled, and 1 KiB for each batch of them.
    pub buffered_bytes: usize,
    /// Requests under way.
    pub requests_in_flight: usize,
}
