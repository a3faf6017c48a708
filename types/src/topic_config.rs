//! Topic configs: Kafka's names where Kafka has one, typed, with bounds. One table is the source of parsing, defaults and documentation.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::compression::Codec;
use crate::limits;
use crate::time::Timestamp;

/// Whether an acknowledged record must be on disk (D8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Only what a finished `fdatasync` covers counts.
    Fsync,
    /// What is written counts, as in Kafka: replicas are the durability.
    Replicated,
}

/// Which timestamp a record keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The time of writing.
    LogAppendTime,
}

/// What becomes of old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted.
    pub delete: bool,
    /// The latest record of each key is kept.
    pub compact: bool,
}

/// The value of a config: what a definition's bounds are checked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number within bounds, both included.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// A ratio within 0 and 1.
    Ratio,
    /// One of some words.
    OneOf(&'static [&'static str]),
    /// Some of some words, separated by commas, at least one.
    ListOf(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer { min, max: i64::MAX } => write!(f, "a whole number from {min}"),
            Self::Integer { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Ratio => f.write_str("a number from 0 to 1"),
            Self::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Self::ListOf(words) => write!(f, "some of {}, separated by commas", words.join(", ")),
            Self::Boolean => f.write_str("true or false"),
        }
    }
}

impl Kind {
    fn accepts(self, value: &str) -> bool {
        match self {
            Self::Integer { min, max } => value.parse().is_ok_and(|n: i64| (min..=max).contains(&n)),
            Self::Ratio => value.parse().is_ok_and(|n: f64| (0.0..=1.0).contains(&n)),
            Self::OneOf(words) => words.contains(&value),
            Self::ListOf(words) => value.split(',').all(|word| words.contains(&word.trim())),
            Self::Boolean => matches!(value, "true" | "false"),
        }
    }
}

/// How much of a config this version acts on. All are checked and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// All of it.
    Full,
    /// A part; a sentence says which.
    Part(&'static str),
    /// Nothing yet.
    None,
}

impl Effect {
    /// One word for programs: `yes`, `part` or `no`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Full => "yes",
            Self::Part(_) => "part",
            Self::None => "no",
        }
    }
}

/// As the guide says it.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "yes",
            Self::Part(part) => part,
            Self::None => "not yet",
        })
    }
}

/// One config: its name, what it takes, its default, what it means.
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
    /// How much of it this version acts on.
    pub effect: Effect,
}

impl Definition {
    /// One that does nothing yet.
    const fn inert(self) -> Self {
        Self { effect: Effect::None, ..self }
    }
}

const fn at_least(min: i64) -> Kind {
    Kind::Integer { min, max: i64::MAX }
}

const fn define(name: &'static str, kind: Kind, default: &'static str, description: &'static str) -> Definition {
    Definition { name, kind, default, description, effect: Effect::Full }
}

/// `long` maximum, as Kafka writes "never".
const NEVER: &str = "9223372036854775807";

/// Every topic config there is, by name.
#[rustfmt::skip]
pub const DEFINITIONS: &[Definition] = &[
    define("cleanup.policy", Kind::ListOf(&["delete", "compact"]), "delete", "What becomes of old records: segments are deleted, or the latest record of each key is kept, so that records must have keys."),
    define("compression.type", Kind::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]), "producer", "How batches are packed on disk; 'producer' leaves them as they come."),
    define("delete.retention.ms", at_least(0), "86400000", "How long a compacted topic keeps tombstones, from the first time that they are compacted."),
    define("durability", Kind::OneOf(&["fsync", "replicated"]), "fsync", "What counts as written: what is synced to disk, or what the operating system has taken on every in-sync replica."),
    define("file.delete.delay.ms", at_least(0), "60000", "How long the files of a segment that retention has deleted stay on disk; those of a trim go at once."),
    define("flush.messages", at_least(1), NEVER, "With durability=replicated: sync after so many records."),
    define("flush.ms", at_least(0), NEVER, "With durability=replicated: sync after so long."),
    define("idempotency.window.entries", Kind::Integer { min: 1, max: 2_000_000 }, "1000000", "How many values of Idempotency-Key a partition remembers at most; then the oldest go."),
    define("idempotency.window.ms", Kind::Integer { min: 1_000, max: 604_800_000 }, "600000", "How long a partition remembers an Idempotency-Key after its records have come."),
    define("index.interval.bytes", Kind::Integer { min: 0, max: i32::MAX as i64 }, "4096", "Bytes of log between two entries of the offset index."),
    define("max.compaction.lag.ms", at_least(1), NEVER, "After how long a record is compacted at the latest, once its segment is no longer written."),
    define("max.message.bytes", Kind::Integer { min: 1024, max: limits::BATCH_BYTES_MAX as i64 }, "1048588", "The largest batch, as stored."),
    define("message.timestamp.after.max.ms", at_least(0), "3600000", "How far a record's timestamp may lie in the future."),
    define("message.timestamp.before.max.ms", at_least(0), NEVER, "How far a record's timestamp may lie in the past."),
    define("message.timestamp.type", Kind::OneOf(&["CreateTime", "LogAppendTime"]), "CreateTime", "Whose clock stamps records: the producer's, or the leader's when it writes."),
    define("min.cleanable.dirty.ratio", Kind::Ratio, "0.5", "The share of a log that must be uncompacted before it is compacted."),
    define("min.compaction.lag.ms", at_least(0), "0", "How long a record stays uncompacted at least."),
    define("min.insync.replicas", Kind::Integer { min: 1, max: i32::MAX as i64 }, "1", "In-sync replicas that acks=all needs; not set, it is the majority of the replication factor.").inert(),
    define("retention.bytes", at_least(-1), "-1", "Bytes of a partition beyond which old segments are deleted; -1 is no bound."),
    define("retention.ms", at_least(-1), "604800000", "Age of its newest record beyond which a segment is deleted; -1 is no bound."),
    define("segment.bytes", Kind::Integer { min: limits::SEGMENT_BYTES_MIN as i64, max: limits::SEGMENT_BYTES_MAX as i64 }, "1073741824", "Size at which a new segment is begun."),
    define("segment.index.bytes", Kind::Integer { min: 1024, max: i32::MAX as i64 }, "10485760", "Size of an index at which a new segment is begun."),
    define("segment.ms", at_least(1), "604800000", "Age at which a new segment is begun, by the timestamps of its first batch and of what comes."),
    define("unclean.leader.election.enable", Kind::Boolean, "false", "Whether a replica that may lack records may become leader when no other can.").inert(),
];

/// Why a config was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no such config.
    #[error("there is no topic config '{0}'")]
    Unknown(String),
    /// The value is not one it takes.
    #[error("{name} must be {kind}, not '{value}'")]
    Value {
        /// The config.
        name: &'static str,
        /// What it takes.
        kind: Kind,
        /// What was given.
        value: String,
    },
}

/// The definition of `name`, if there is one.
pub fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|d| d.name == name)
}

/// Whether setting `name` does anything in this version; what is not known here may well.
pub fn acts(name: &str) -> bool {
    definition(name).is_none_or(|definition| definition.effect != Effect::None)
}

/// What somebody who sets `name` has to know: that it does nothing yet, or only a part.
pub fn caution(name: &str) -> Option<String> {
    match definition(name)?.effect {
        Effect::Full => None,
        Effect::Part(part) => Some(format!("{name} acts only in part in this version: {part}")),
        Effect::None => Some(format!("{name} is kept but does not act in this version")),
    }
}

/// Checks one name and value.
///
/// # Errors
/// [`ConfigError`] if there is no such config or it does not take the value.
pub fn check(name: &str, value: &str) -> Result<(), ConfigError> {
    let definition = definition(name).ok_or_else(|| ConfigError::Unknown(name.to_owned()))?;
    if definition.kind.accepts(value) {
        return Ok(());
    }
    Err(ConfigError::Value { name: definition.name, kind: definition.kind, value: value.to_owned() })
}

/// The configs that the floors below and above act on, typed. Made from overrides that [`check`] has accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type`; `None` is `producer`.
    pub compression: Option<Codec>,
    /// `max.compaction.lag.ms`
    pub compaction_lag_ms_max: i64,
    /// `min.compaction.lag.ms`
    pub compaction_lag_ms_min: i64,
    /// `delete.retention.ms`
    pub delete_retention_ms: i64,
    /// `min.cleanable.dirty.ratio`
    pub dirty_ratio_min: f64,
    /// `durability`
    pub durability: Durability,
    /// `flush.messages`
    pub flush_records: u64,
    /// `flush.ms`; `None` is never.
    pub flush_interval: Option<Duration>,
    /// `idempotency.window.entries`
    pub key_window_entries: usize,
    /// `idempotency.window.ms`
    pub key_window_ms: i64,
    /// `index.interval.bytes`
    pub index_interval_bytes: u64,
    /// `max.message.bytes`
    pub batch_bytes_max: usize,
    /// `message.timestamp.type`
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// `retention.ms`; `None` is no bound.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`; `None` is no bound.
    pub retention_bytes: Option<u64>,
    /// `file.delete.delay.ms`
    pub file_delete_delay_ms: u64,
    /// `segment.bytes`
    pub segment_bytes: u64,
    /// `segment.index.bytes`
    pub segment_index_bytes: u64,
    /// `segment.ms`
    pub segment_ms: u64,
}

impl TopicConfig {
    /// The defaults with `overrides` laid over them.
    ///
    /// # Errors
    /// As [`check`].
    pub fn from_overrides(overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        for (name, value) in overrides {
            check(name, value)?;
        }
        let get = |name: &str| match overrides.get(name) {
            Some(value) => value.as_str(),
            None => definition(name).map_or("", |d| d.default),
        };
        // Every value has passed its kind's check, so these parse; a default that did not would fail the test below.
        let integer = |name: &str| get(name).parse::<i64>().unwrap_or_default();
        let unsigned = |name: &str| u64::try_from(integer(name)).unwrap_or_default();
        let bounded = |name: &str| (integer(name) >= 0).then(|| integer(name));
        let policies: Vec<_> = get("cleanup.policy").split(',').map(str::trim).collect();
        Ok(Self {
            cleanup_policy: CleanupPolicy { delete: policies.contains(&"delete"), compact: policies.contains(&"compact") },
            compression: Codec::ALL.into_iter().find(|codec| codec.name() == get("compression.type")),
            compaction_lag_ms_max: integer("max.compaction.lag.ms"),
            compaction_lag_ms_min: integer("min.compaction.lag.ms"),
            delete_retention_ms: integer("delete.retention.ms"),
            dirty_ratio_min: get("min.cleanable.dirty.ratio").parse().unwrap_or_default(),
            durability: if get("durability") == "fsync" { Durability::Fsync } else { Durability::Replicated },
            flush_records: unsigned("flush.messages"),
            flush_interval: Some(unsigned("flush.ms")).filter(|_| get("flush.ms") != NEVER).map(Duration::from_millis),
            key_window_entries: usize::try_from(integer("idempotency.window.entries")).unwrap_or_default(),
            key_window_ms: integer("idempotency.window.ms"),
            index_interval_bytes: unsigned("index.interval.bytes"),
            batch_bytes_max: usize::try_from(integer("max.message.bytes")).unwrap_or_default(),
            timestamp_type: match get("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: integer("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: integer("message.timestamp.after.max.ms"),
            retention_ms: bounded("retention.ms"),
            retention_bytes: bounded("retention.bytes").map(i64::unsigned_abs),
            file_delete_delay_ms: unsigned("file.delete.delay.ms"),
            segment_bytes: unsigned("segment.bytes"),
            segment_index_bytes: unsigned("segment.index.bytes"),
            segment_ms: unsigned("segment.ms"),
        })
    }
}

impl TopicConfig {
    /// The earliest and the latest timestamp, in ms, that a record may bring at `now`; never a negative one.
    pub fn timestamp_range(&self, now: Timestamp) -> (i64, i64) {
        let now = now.millis();
        (now.saturating_sub(self.timestamp_before_max_ms).max(0), now.saturating_add(self.timestamp_after_max_ms))
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        match Self::from_overrides(&BTreeMap::new()) {
            Ok(config) => config,
            Err(error) => unreachable!("no overrides, no error: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: every default is a value that its own config takes, and names are sorted and distinct.
    #[test]
    fn defaults_are_valid() {
        for d in DEFINITIONS {
            assert_eq!(check(d.name, d.default), Ok(()), "{}", d.name);
        }
        assert!(DEFINITIONS.is_sorted_by(|a, b| a.name < b.name));
        let config = TopicConfig::default();
        assert_eq!((config.segment_bytes, config.batch_bytes_max), (1 << 30, limits::BATCH_BYTES_DEFAULT));
        assert_eq!((config.durability, config.compression), (Durability::Fsync, None));
        assert_eq!((config.retention_ms, config.retention_bytes), (Some(604_800_000), None));
        assert!(config.cleanup_policy.delete && !config.cleanup_policy.compact);
    }

    /// A promise: whoever sets what does nothing, or not all, is told so; of the others nothing is said.
    #[test]
    fn what_does_not_act_is_said() {
        for definition in DEFINITIONS {
            let said = caution(definition.name);
            match definition.effect {
                Effect::Full => assert_eq!(said, None),
                Effect::Part(part) => assert!(acts(definition.name) && said.is_some_and(|said| said.contains(part))),
                Effect::None => assert!(!acts(definition.name) && said.is_some_and(|said| said.contains("does not act"))),
            }
        }
        assert!(acts("a.newer.key") && caution("a.newer.key").is_none());
    }

    /// A promise: a value outside a config's bounds is refused, and the refusal names the bounds.
    #[test]
    fn values_out_of_bounds_are_refused() {
        for (name, bad) in [
            ("segment.bytes", "1"),
            ("segment.bytes", "1GiB"),
            ("retention.ms", "-2"),
            ("retention.ms", "9223372036854775808"),
            ("cleanup.policy", ""),
            ("cleanup.policy", "compact,purge"),
            ("durability", "none"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("unclean.leader.election.enable", "yes"),
        ] {
            assert!(matches!(check(name, bad), Err(ConfigError::Value { .. })), "{name}={bad}");
        }
        assert_eq!(check("retention.hours", "1"), Err(ConfigError::Unknown("retention.hours".into())));
        let policy = BTreeMap::from([("cleanup.policy".to_owned(), "compact, delete".to_owned())]);
        let parsed = TopicConfig::from_overrides(&policy).unwrap();
        assert!(parsed.cleanup_policy.delete && parsed.cleanup_policy.compact);
    }
}
