//! What a client may run into, as `GET /v1/limits` shows it.

use serde::Serialize;
use tidegate_types::{Limits, limits};
use utoipa::ToSchema;

macro_rules! limits_response {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:expr, $example:literal;)*) => {
        /// Bounds of this node. More may come.
        #[derive(Debug, Serialize, ToSchema)]
        pub(crate) struct LimitsResponse {
            $($(#[doc = $doc])+ #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64, example = $example)] $name: u64,)*
        }

        impl From<&Limits> for LimitsResponse {
            fn from(limits: &Limits) -> Self {
                $(let $name = number($value(limits));)*
                Self { $($name,)* }
            }
        }
    };
}

/// No limit is anywhere near 2⁶⁴.
fn number<N: TryInto<u64>>(limit: N) -> u64 {
    limit.try_into().unwrap_or(u64::MAX)
}

limits_response! {
    /// Bytes of a request body, as received and as decompressed.
    body_bytes = |limits: &Limits| limits.body_bytes, 33_554_432;
    /// Records in one request.
    records_per_request = |limits: &Limits| limits.records_per_request, 10_000;
    /// Bytes of a batch, unless the topic's `max.message.bytes` says otherwise.
    batch_bytes_default = |_: &Limits| limits::BATCH_BYTES_DEFAULT, 1_048_588;
    /// Bytes of a key.
    key_bytes = |limits: &Limits| limits.key_bytes, 65_536;
    /// Headers of a record.
    headers_per_record = |limits: &Limits| limits.headers_per_record, 128;
    /// Bytes of a record's headers, names and values together.
    header_bytes_per_record = |limits: &Limits| limits.header_bytes_per_record, 65_536;
    /// Levels of nesting in a JSON value.
    json_depth = |limits: &Limits| limits.json_depth, 128;
    /// Bytes of a request's head.
    head_bytes = |limits: &Limits| limits.head_bytes, 32_768;
    /// Milliseconds in which a request's head must arrive.
    head_timeout_ms = |limits: &Limits| limits.head_timeout_ms, 10_000;
    /// Milliseconds that a body may stand still.
    body_idle_timeout_ms = |limits: &Limits| limits.body_idle_timeout_ms, 30_000;
    /// Bytes of requests under way on the node.
    in_flight_bytes = |limits: &Limits| limits.in_flight_bytes, 268_435_456;
    /// Bytes that wait for one partition.
    partition_in_flight_bytes = |limits: &Limits| limits.partition_in_flight_bytes, 67_108_864;
    /// Requests that wait for one partition.
    partition_in_flight_requests = |limits: &Limits| limits.partition_in_flight_requests, 1_000;
    /// The longest long poll, in milliseconds.
    max_wait_ms = |limits: &Limits| limits.max_wait_ms, 55_000;
    /// The most bytes that one fetch returns.
    max_bytes = |limits: &Limits| limits.max_bytes, 67_108_864;
    /// The longest `timeout_ms` of a produce.
    produce_timeout_ms = |limits: &Limits| limits.produce_timeout_ms, 120_000;
    /// Connections open at a time.
    connections = |limits: &Limits| limits.connections, 20_000;
    /// Partitions of one topic.
    partitions_per_topic = |_: &Limits| limits::PARTITIONS_PER_TOPIC_MAX, 10_000;
    /// Characters of a topic's name.
    topic_name_bytes = |_: &Limits| limits::TOPIC_NAME_BYTES_MAX, 249;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: every limit is shown under the name that it has in the code.
    #[test]
    fn every_limit_is_shown() {
        let limits = Limits { json_depth: 77, ..Limits::default() };
        let shown = serde_json::to_value(LimitsResponse::from(&limits)).unwrap();
        assert_eq!((&shown["json_depth"], &shown["topic_name_bytes"]), (&77.into(), &249.into()));
        // The names of the fields of `Limits`, from its own description of itself.
        let described = format!("{limits:?}");
        let names = described.trim_start_matches("Limits {").split(',').filter_map(|field| field.split(':').next());
        for name in names {
            assert!(shown.get(name.trim()).is_some(), "{name}");
        }
    }
}
