//! Every key there is: its kind, its default, and a sentence for people; and Kafka's keys that mean nothing here.

use std::fmt;

use tidegate_types::limits;

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number within bounds, both included.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// `true` or `false`.
    Boolean,
    /// One of some words.
    OneOf(&'static [&'static str]),
    /// Any text; empty is none.
    Text,
    /// Texts separated by commas; empty is none.
    List,
    /// What `tracing` takes as a filter.
    LogFilter,
    /// Web origins separated by commas: `https://host[:port]`.
    Origins,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Boolean => f.write_str("true or false"),
            Self::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Self::Text => f.write_str("a text"),
            Self::List => f.write_str("a list separated by commas"),
            Self::LogFilter => f.write_str("a level (error, warn, info, debug, trace) or a list such as 'tidegate=debug,info'"),
            Self::Origins => f.write_str("a list of origins such as https://example.org, or *"),
        }
    }
}

impl Kind {
    /// Whether `value` is of this kind and within its bounds.
    pub fn accepts(self, value: &str) -> bool {
        match self {
            Self::Integer { min, max } => value.parse().is_ok_and(|n: i64| (min..=max).contains(&n)),
            Self::Boolean => matches!(value, "true" | "false"),
            Self::OneOf(words) => words.contains(&value),
            Self::Text | Self::List => !value.contains(['\n', '\0']),
            Self::LogFilter => is_log_filter(value),
            Self::Origins => words(value).all(is_origin),
        }
    }
}

/// A bare word must be a level: `tracing` itself would take a mistyped one for the name of a module.
fn is_log_filter(value: &str) -> bool {
    const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
    let plausible = words(value).all(|part| part.contains('=') || LEVELS.contains(&part.to_ascii_lowercase().as_str()));
    plausible && words(value).next().is_some() && tracing_subscriber::EnvFilter::builder().parse(value).is_ok()
}

fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ' ']))
}

/// The parts of a list, without the space around them.
pub(super) fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Kafka's name, or ours in the same style.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its default, as written.
    pub default: &'static str,
    /// A sentence for people.
    pub description: &'static str,
    /// Whether its value is nobody's business: it is never shown.
    pub secret: bool,
}

const fn define(name: &'static str, kind: Kind, default: &'static str, description: &'static str) -> Definition {
    Definition { name, kind, default, description, secret: false }
}

const fn int(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max }
}

/// A gibibyte: what bounds on bytes may be raised to.
const GIB: i64 = 1 << 30;
/// A day.
const DAY_MS: i64 = 86_400_000;

// A body holds a batch and a batch holds a body's records, so that neither bound may pass the other.
const _: () = assert!(limits::BODY_BYTES_DEFAULT == limits::BATCH_BYTES_MAX && limits::BATCH_BYTES_MAX == 33_554_432);

/// Every key, by name.
#[rustfmt::skip]
pub const DEFINITIONS: &[Definition] = &[
    define("advertised.listeners", Kind::List, "", "What clients are told to call the node by (CLIENT://host:port); empty is where it listens."),
    define("broker.rack", Kind::Text, "", "The rack the node stands in; replicas are spread over racks."),
    define("cors.origins", Kind::Origins, "", "Origins of web pages, other than its own, that may call the node; empty is none, * is any."),
    define("disk.threads", int(1, 256), "8", "Threads that write and sync logs."),
    define("insecure.listen", Kind::Boolean, "false", "Allows a client listener that other machines can reach, although there are no accounts."),
    define("limit.body.bytes", int(1024, 33_554_432), "33554432", "Bytes of a request body, as received and as decompressed."),
    define("limit.body.idle.timeout.ms", int(10, DAY_MS), "30000", "How long a request body may stand still."),
    define("limit.connections", int(1, 1_000_000), "20000", "Connections open at a time on the client listener."),
    define("limit.head.bytes", int(8192, 1 << 20), "32768", "Bytes of a request's head."),
    define("limit.head.timeout.ms", int(10, DAY_MS), "10000", "In which time a request's head must arrive."),
    define("limit.header.bytes.per.record", int(0, 1 << 20), "65536", "Bytes of a record's headers, names and values together."),
    define("limit.headers.per.record", int(0, 10_000), "128", "Headers of a record."),
    define("limit.in.flight.bytes", int(1 << 20, 1024 * GIB), "268435456", "Bytes of requests under way on the node; beyond it the answer is 503 overloaded."),
    define("limit.json.depth", int(8, 1000), "128", "Levels of nesting in a JSON value."),
    define("limit.key.bytes", int(1, 1 << 20), "65536", "Bytes of a record's key."),
    define("limit.max.bytes", int(1024, GIB), "67108864", "The most bytes that one fetch returns."),
    define("limit.max.wait.ms", int(0, DAY_MS), "55000", "The longest long poll."),
    define("limit.partition.in.flight.bytes", int(1 << 20, 1024 * GIB), "67108864", "Bytes that wait for one partition."),
    define("limit.partition.in.flight.requests", int(1, 1_000_000), "1000", "Requests that wait for one partition."),
    define("limit.produce.timeout.ms", int(1, DAY_MS), "120000", "The longest timeout_ms of a produce."),
    define("limit.records.per.request", int(1, 1_000_000), "10000", "Records in one request."),
    define("listeners", Kind::List, "CLIENT://127.0.0.1:8080", "Where connections are taken: CLIENT://host:port; port 0 is any that is free."),
    define("log.cleaner.backoff.ms", int(1, DAY_MS), "15000", "How long compaction rests between two looks at all logs."),
    define("log.cleaner.dedupe.buffer.size", int(1 << 20, 1024 * GIB), "134217728", "Memory for the keys of the log that is being compacted, in bytes; 24 bytes hold a key, and a fifth stays free."),
    define("log.cleaner.io.max.bytes.per.second", int(1024, i64::MAX), "9223372036854775807", "Bytes that compaction reads and writes in a second, together; the default is no bound."),
    define("log.dirs", Kind::List, "./tidegate-data", "The data directory; made if it is not there."),
    define("log.format", Kind::OneOf(&["pretty", "json"]), "pretty", "How log lines are written to standard error."),
    define("log.level", Kind::LogFilter, "info", "What is logged."),
    define("log.min.free.bytes", int(0, 1024 * GIB), "67108864", "Room on the disk that records may not take (507 storage-full), but never more than a sixteenth of it: trimming, retention and topic deletion need a little to give room back."),
    define("log.retention.check.interval.ms", int(1, DAY_MS), "300000", "How often every partition is looked at for segments that retention no longer keeps."),
    define("node.id", int(0, i32::MAX as i64), "1", "The node's id, unique in its cluster."),
    define("num.partitions", int(1, limits::PARTITIONS_PER_TOPIC_MAX as i64), "1", "Partitions of a topic that does not say."),
    define("num.recovery.threads.per.data.dir", int(1, 256), "2", "Logs that are read and checked at a time when the node starts."),
    define("producer.id.expiration.ms", int(1, i32::MAX as i64 * 1000), "86400000", "How long a partition remembers a producer that sends nothing."),
];

/// Kafka's older names for keys that are here.
const ALIASES: &[(&str, &str)] = &[("broker.id", "node.id"), ("log.dir", "log.dirs")];

/// Kafka's keys for parts that do not exist here; one ending in `.` stands for all that begin with it.
const WITHOUT_MEANING: &[&str] = &[
    "background.threads",
    "connections.max.idle.ms",
    "control.plane.listener.name",
    "controller.listener.names",
    "controller.quorum.",
    "group.initial.rebalance.delay.ms",
    "inter.broker.listener.name",
    "inter.broker.protocol.version",
    "listener.security.protocol.map",
    "log.message.format.version",
    "metadata.log.",
    "num.io.threads",
    "num.network.threads",
    "num.replica.",
    "process.roles",
    "queued.max.",
    "socket.",
    "zookeeper.",
];

/// Beginnings of Kafka's names for defaults of topics (`log.retention.ms`, …).
const TOPIC_DEFAULTS: &[&str] =
    &["log.retention.", "log.segment.", "log.roll.", "log.cleanup.", "log.cleaner.", "log.flush.", "log.message."];

/// What a name means.
pub(super) enum Meaning {
    /// A key, under its own name.
    Key(&'static Definition),
    /// One of Kafka's that has no meaning here.
    Nothing,
    /// None at all, with what to say about it.
    Unknown(String),
}

/// Looks a name up.
pub(super) fn meaning(name: &str) -> Meaning {
    let own = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, own)| own);
    if let Some(definition) = DEFINITIONS.iter().find(|d| d.name == own) {
        return Meaning::Key(definition);
    }
    if WITHOUT_MEANING.iter().any(|key| *key == name || (key.ends_with('.') && name.starts_with(key))) {
        return Meaning::Nothing;
    }
    if TOPIC_DEFAULTS.iter().any(|beginning| name.starts_with(beginning)) || tidegate_types::topic_config::definition(name).is_some() {
        return Meaning::Unknown(format!("'{name}' is about topics, not nodes: set it on each topic (topic create --config)"));
    }
    let hint = super::source::nearest(name, DEFINITIONS.iter().map(|d| d.name)).map(|near| format!("; did you mean '{near}'?"));
    Meaning::Unknown(format!("there is no key '{name}'{}", hint.unwrap_or_default()))
}
