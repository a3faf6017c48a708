//! Every bound, with its arithmetic. What a client may run into is in [`Limits`], configurable and shown by `GET /v1/limits`.

/// A topic's name, so that `name-partition` and Kafka's `.<32 hex>-delete` suffix rule stay within a file name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Producers whose names are bound to ids: each is an entry of the metadata.
pub const BOUND_PRODUCERS_MAX: usize = 10_000;
/// Bytes of a producer's name, and of an `Idempotency-Key`.
pub const PRODUCER_NAME_BYTES_MAX: usize = 128;
/// Partitions of one topic.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 10_000;
/// Offset, length, epoch, magic, CRC … count: what precedes a batch's records (61 bytes).
pub const BATCH_HEADER_BYTES: usize = 61;
/// What batches, and so topics' `max.message.bytes`, may grow to: a body.
pub const BATCH_BYTES_MAX: usize = BODY_BYTES_DEFAULT;
/// Kafka's default of `max.message.bytes`: 1 MiB and the 12 bytes that precede a batch's length.
pub const BATCH_BYTES_DEFAULT: usize = (1 << 20) + 12;
/// What coalescing fills a batch up to (D13).
pub const COALESCE_BYTES_MAX: usize = 1 << 20;
/// The smallest `segment.bytes` (Kafka 4.0).
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// The largest `segment.bytes`: positions in indexes are 31 bits.
pub const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;
/// A request body, before and after it is decompressed.
pub const BODY_BYTES_DEFAULT: usize = 32 << 20;
/// What one compressed batch may unpack to.
pub const BATCH_DECOMPRESSED_BYTES_MAX: usize = BODY_BYTES_DEFAULT;

const _: () = assert!(COALESCE_BYTES_MAX <= BATCH_BYTES_DEFAULT);
const _: () = assert!(BATCH_BYTES_DEFAULT <= BATCH_BYTES_MAX);
const _: () = assert!((BATCH_BYTES_MAX as u64) < SEGMENT_BYTES_MAX);
const _: () = assert!(TOPIC_NAME_BYTES_MAX + 1 + 5 <= 255, "the directory of the last partition is a valid file name");

/// What a client may run into, with its defaults (D27).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request body, as received and as decompressed.
    pub body_bytes: usize,
    /// Records in one request.
    pub records_per_request: usize,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Headers of a record.
    pub headers_per_record: usize,
    /// Bytes of a record's headers, names and values together.
    pub header_bytes_per_record: usize,
    /// Levels of nesting in a JSON value.
    pub json_depth: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Milliseconds in which a request's head must arrive.
    pub head_timeout_ms: u64,
    /// Milliseconds that a body may stand still.
    pub body_idle_timeout_ms: u64,
    /// Bytes of requests under way on the node; beyond it the answer is 503 `overloaded`.
    pub in_flight_bytes: usize,
    /// Bytes that wait for one partition.
    pub partition_in_flight_bytes: usize,
    /// Requests that wait for one partition.
    pub partition_in_flight_requests: usize,
    /// The longest long poll, in milliseconds.
    pub max_wait_ms: u64,
    /// The most bytes that one fetch returns.
    pub max_bytes: usize,
    /// The longest `timeout_ms` of a produce.
    pub produce_timeout_ms: u64,
    /// Connections open at a time on the client listener.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: BODY_BYTES_DEFAULT,
            records_per_request: 10_000,
            key_bytes: 64 << 10,
            headers_per_record: 128,
            header_bytes_per_record: 64 << 10,
            json_depth: 128,
            head_bytes: 32 << 10,
            head_timeout_ms: 10_000,
            body_idle_timeout_ms: 30_000,
            in_flight_bytes: 256 << 20,
            partition_in_flight_bytes: 64 << 20,
            partition_in_flight_requests: 1_000,
            max_wait_ms: 55_000,
            max_bytes: 64 << 20,
            produce_timeout_ms: 120_000,
            connections: 20_000,
        }
    }
}
