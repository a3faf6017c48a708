//! The closed set of error codes. Each says whether repeating the call can help, whether the failed call may have done something, and what
//! to do about it.

use std::fmt;

/// Whether a failed call may have changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideEffects {
    /// It certainly did nothing.
    None,
    /// It may have done its work, or a part of it; only its answer is certain to be lost.
    Possible,
}

impl SideEffects {
    /// As it stands in a problem.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Possible => "possible",
        }
    }
}

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $title:literal, retryable: $retryable:literal, side_effects: $effects:ident,
        advice: $advice:literal;)*) => {
        /// What went wrong, as clients see it. Codes are never renamed and never mean something else later.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl ErrorCode {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name, kebab-case.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// A few words for people, the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What it means, for the documentation.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+).trim_ascii(),)* }
            }

            /// What to do about it, for the documentation.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }

            /// Whether the same call may succeed later without being changed.
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }

            /// Whether the failed call may have done something.
            pub const fn side_effects(self) -> SideEffects {
                match self { $(Self::$variant => SideEffects::$effects,)* }
            }
        }
    };
}

error_codes! {
    /// The body is not what its content type says: not JSON, a field of the wrong type, bad base64, an encoding that does not decode, an impossible length.
    MalformedBody = "malformed-body", "Malformed body", retryable: false, side_effects: None,
        advice: "Correct the body; `detail` says what is wrong and at which byte or field.";
    /// A request header has a value that cannot be read.
    MalformedHeader = "malformed-header", "Malformed header", retryable: false, side_effects: None,
        advice: "Correct the header that `header` names, or leave it out.";
    /// A query parameter has a value that cannot be read.
    MalformedParameter = "malformed-parameter", "Malformed query parameter", retryable: false, side_effects: None,
        advice: "Correct the parameter that `parameter` names.";
    /// A JSON field that does not exist; `did_you_mean` names the nearest. `Prefer: handling=lenient` ignores such fields instead.
    UnknownField = "unknown-field", "Unknown field", retryable: false, side_effects: None,
        advice: "Correct the field's name, or send `Prefer: handling=lenient` to have unknown fields ignored.";
    /// A query parameter that does not exist; `did_you_mean` names the nearest.
    UnknownParameter = "unknown-parameter", "Unknown query parameter", retryable: false, side_effects: None,
        advice: "Correct the parameter's name, or leave it out.";
    /// The page's origin is neither the node's own nor configured; only GET, HEAD and OPTIONS are open to it.
    OriginNotAllowed = "origin-not-allowed", "Origin not allowed", retryable: false, side_effects: None,
        advice: "Add the page's origin to the node's `cors.origins`.";
    /// The node listens on loopback and the request names another host, as a rebound DNS name would.
    HostNotAllowed = "host-not-allowed", "Host not allowed", retryable: false, side_effects: None,
        advice: "Call the node by `127.0.0.1` or `localhost`.";
    /// No such path.
    RouteNotFound = "route-not-found", "No such path", retryable: false, side_effects: None,
        advice: "Compare the path with `/docs`.";
    /// No such topic, or a name that no topic can have.
    TopicNotFound = "topic-not-found", "No such topic", retryable: false, side_effects: None,
        advice: "Check the name, or make the topic first: topics are never made by writing to them.";
    /// The topic has no such partition.
    PartitionNotFound = "partition-not-found", "No such partition", retryable: false, side_effects: None,
        advice: "Use a partition below the `partition_count` of the problem: partitions are counted from 0.";
    /// No record stands at that offset, although its neighbours may.
    RecordNotFound = "record-not-found", "No such record", retryable: false, side_effects: None,
        advice: "Ask for another offset, or fetch a page of records from there.";
    /// No such node.
    NodeNotFound = "node-not-found", "No such node", retryable: false, side_effects: None,
        advice: "Ask `/v1/nodes` which nodes there are.";
    /// The path exists, the method does not; `Allow` lists those that do.
    MethodNotAllowed = "method-not-allowed", "Method not allowed", retryable: false, side_effects: None,
        advice: "Use a method that `Allow` lists.";
    /// None of the media types in `Accept` can be given.
    NotAcceptable = "not-acceptable", "Not acceptable", retryable: false, side_effects: None,
        advice: "Leave `Accept` out, or name a type of those in `available`.";
    /// The request came too slowly.
    RequestTimeout = "request-timeout", "Request timeout", retryable: true, side_effects: None,
        advice: "Send it again on a better connection, or in smaller pieces; of a stream, go on at `line`.";
    /// A topic of that name exists.
    TopicAlreadyExists = "topic-already-exists", "Topic already exists", retryable: false, side_effects: None,
        advice: "Take it as it is, or use `PUT` to make sure that it is as you want it.";
    /// The topic exists and is not what was asked for; `differences` says in what.
    TopicDiffers = "topic-differs", "Topic differs", retryable: false, side_effects: None,
        advice: "Ask for what there is, or change the topic with `PATCH`.";
    /// The body is larger than the node accepts, as received or as decompressed.
    BodyTooLarge = "body-too-large", "Body too large", retryable: false, side_effects: None,
        advice: "Send several smaller requests, or use the NDJSON stream.";
    /// A record or batch is larger than the topic's `max.message.bytes`.
    RecordTooLarge = "record-too-large", "Record too large", retryable: false, side_effects: None,
        advice: "Send fewer records in one request, make the record smaller, or raise the topic's `max.message.bytes`.";
    /// The URI is longer than the node accepts.
    UriTooLong = "uri-too-long", "URI too long", retryable: false, side_effects: None,
        advice: "Shorten the query.";
    /// The head of the request is larger than the node accepts.
    HeadTooLarge = "head-too-large", "Request head too large", retryable: false, side_effects: None,
        advice: "Send fewer or shorter headers.";
    /// The content type is not one that this path takes.
    UnsupportedMediaType = "unsupported-media-type", "Unsupported media type", retryable: false, side_effects: None,
        advice: "Send a type that `supported` lists, in `Content-Type`.";
    /// The content encoding is none of gzip, zstd, br and deflate.
    UnsupportedContentEncoding = "unsupported-content-encoding", "Unsupported content encoding", retryable: false, side_effects: None,
        advice: "Use one of these four, or send the body unpacked.";
    /// The offset is before the earliest (`reason: trimmed`) or after the log's end (`reason: future`).
    OffsetOutOfRange = "offset-out-of-range", "Offset out of range", retryable: false, side_effects: None,
        advice: "Go on from `earliest_offset` (`trimmed`) or `latest_offset` (`future`), or say with `offset_reset` what to do then.";
    /// Another node leads the partition.
    NotLeader = "not-leader", "Not the leader", retryable: true, side_effects: None,
        advice: "Send it to the node that `leader` names.";
    /// The `Idempotency-Key` was used before, for a request with another body. Nothing was written.
    IdempotencyKeyReused = "idempotency-key-reused", "Idempotency key reused", retryable: false, side_effects: None,
        advice: "Use a new key for each new request; only a repetition of the same body has the same key.";
    /// The request's `Producer-Seq` does not follow what the partition has of the producer. Nothing was written.
    SequenceGap = "sequence-gap", "Sequence gap", retryable: false, side_effects: None,
        advice: "Send the records from `expected_seq` on first; if they are lost, go on with a new epoch at sequence 0.";
    /// The producer has gone on with a later epoch. Nothing was written.
    ProducerFenced = "producer-fenced", "Producer fenced", retryable: false, side_effects: None,
        advice: "Stop, if another instance writes under this name; else go on with an epoch above `current_epoch`, at sequence 0.";
    /// `Producer-Id`, `Producer-Epoch` and `Producer-Seq` number the records of one partition, so the path has to name it.
    ProducerHeadersNeedPartition = "producer-headers-need-partition", "Producer headers need a partition", retryable: false, side_effects: None,
        advice: "Send the records to `/v1/topics/{topic}/partitions/{partition}/records`, or use an `Idempotency-Key`.";
    /// A record breaks a rule of the topic; `errors` says which. Nothing was written.
    RecordRejected = "record-rejected", "Record rejected", retryable: false, side_effects: None,
        advice: "Correct the record at the `index` that `errors` names, and send all of them again.";
    /// The request was read, but a value breaks a rule; `errors` says which.
    ValidationFailed = "validation-failed", "Validation failed", retryable: false, side_effects: None,
        advice: "Correct each value whose `pointer` is in `errors`.";
    /// A stored batch is malformed, its CRC is wrong, or it contradicts itself. Nothing was written.
    CorruptBatch = "corrupt-batch", "Corrupt batch", retryable: false, side_effects: None,
        advice: "Build the batch again; the fault is in what made it or in what carried it.";
    /// No config of that name; `did_you_mean` names the nearest.
    UnknownConfig = "unknown-config", "Unknown config", retryable: false, side_effects: None,
        advice: "Correct the name; the guide's page on configs lists all of them.";
    /// The node failed in a way it did not foresee; its log says more under the request id.
    Internal = "internal", "Internal error", retryable: true, side_effects: Possible,
        advice: "Look up the `request_id` in the node's log. Before you write again, read whether the records are there.";
    /// The node has not finished starting.
    Starting = "starting", "Starting", retryable: true, side_effects: None,
        advice: "Wait until `/readyz` answers 200, then repeat the call.";
    /// The node is stopping.
    Draining = "draining", "Draining", retryable: true, side_effects: None,
        advice: "Repeat the call after `Retry-After` seconds, when the node is back.";
    /// More is under way than the node has room for.
    Overloaded = "overloaded", "Overloaded", retryable: true, side_effects: None,
        advice: "Wait for `Retry-After` seconds and repeat the call; send less at a time if it stays so.";
    /// The partition has no leader just now.
    LeaderUnavailable = "leader-unavailable", "Leader unavailable", retryable: true, side_effects: None,
        advice: "Repeat the call after `Retry-After` seconds.";
    /// The metadata quorum did not answer in time.
    MetadataUnavailable = "metadata-unavailable", "Metadata unavailable", retryable: true, side_effects: Possible,
        advice: "Look whether the change came about, then repeat it if not; `PUT` on a topic may be repeated as it is.";
    /// The partition's disk failed, so that it takes no more writes until the node is restarted. Nothing of this call counts as written.
    StorageFailed = "storage-failed", "Storage failed", retryable: true, side_effects: Possible,
        advice: "Look into the node's log, mend the disk, restart the node; then read what is there before you write again.";
    /// A file of the partition is damaged. Reads and writes that do not meet the damage go on.
    CorruptLog = "corrupt-log", "Corrupt log", retryable: false, side_effects: None,
        advice: "Run `tidegate log verify` on the stopped node's data directory; it names file and byte.";
    /// The disk is full.
    StorageFull = "storage-full", "Storage full", retryable: true, side_effects: None,
        advice: "Make room on the disk; then repeat the call.";
    /// The node has no file handles left for another partition.
    TooManyOpenFiles = "too-many-open-files", "Too many open files", retryable: false, side_effects: None,
        advice: "Raise the limit on open files (`ulimit -n`) of the node and restart it, or use fewer partitions.";
    /// Some partitions of the request were written and others not; `results` says which.
    PartialWrite = "partial-write", "Partial write", retryable: true, side_effects: Possible,
        advice: "With an `Idempotency-Key`, send the same request again: it is completed. Without, send the records that are `not_written` in `results`, and read whether the `unknown` are there.";
    /// The write was accepted but did not finish in time: it may still happen.
    WriteTimeout = "write-timeout", "Write timeout", retryable: true, side_effects: Possible,
        advice: "With an `Idempotency-Key` or a sequence, send the same request again: it is written once. Without, read whether the records are there first.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A promise: a code names one thing, in kebab-case.
    #[test]
    fn codes_are_distinct_and_kebab_case() {
        let names: BTreeSet<_> = ErrorCode::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert!(code.as_str().chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{code}");
            assert!(!code.description().is_empty() && !code.title().is_empty());
            assert!(code.advice().ends_with('.') && code.advice() != code.description(), "{code} says what to do");
        }
    }
}
