//! What a node is told before it starts: file < environment < flags, every key typed, bounded and with its source kept.
//!
//! Its promise: **nothing is silently ignored.** An unknown key is an error with the nearest known one; a value out of bounds is an error
//! with the bounds; keys that mean something to Kafka and nothing here are named in one warning. All that is wrong is said at once.
//!
//! | where | shape |
//! |---|---|
//! | file | TOML with dotted keys, or, if its name ends in `.properties`, lines as in Kafka's `server.properties` |
//! | environment | `TIDEGATE_` and the key in capitals, `.` → `_`: `TIDEGATE_LOG_DIRS` |
//! | flags | `--data-dir`, `--listen`, `--set KEY=VALUE`, … |
//!
//! Listeners keep Kafka's key and shape, `listeners=CLIENT://127.0.0.1:8080`, because people search for that name; a bare `host:port`
//! means the client listener. `advertised.listeners` is what the node tells others to call it by.

mod address;
mod definition;
mod properties;
mod source;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_types::{Limits, NodeId};

pub use address::Address;
pub use definition::{DEFINITIONS, Definition, Kind};
pub use source::{Setting, Source};

use source::Given;
pub(crate) use source::nearest;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; in colour on a terminal.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// A node's configuration: whole and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's id, unique in its cluster.
    pub node_id: NodeId,
    /// Where clients' connections are taken; port 0 is any that is free.
    pub listener: Address,
    /// What clients are told to call the node by; `None` is where it listens.
    pub advertised: Option<Address>,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Partitions of a topic that does not say.
    pub default_partitions: u32,
    /// Threads that write and sync logs.
    pub disk_threads: usize,
    /// Logs that are read and checked at a time when the node starts.
    pub recovery_threads: usize,
    /// How often retention looks for segments to delete.
    pub retention_check_interval: Duration,
    /// How long compaction rests between two looks at all logs.
    pub compaction_backoff: Duration,
    /// Memory for the keys of the log that is being compacted, in bytes.
    pub compaction_memory: usize,
    /// Bytes that it may read and write in a second, together.
    pub compaction_bytes_per_second: u64,
    /// How long a producer that is silent is remembered.
    pub producer_expiration: Duration,
    /// Room on the disk that records may not take, in bytes.
    pub min_free_bytes: u64,
    /// Its rack, if it has one.
    pub rack: Option<String>,
    /// Origins of web pages that may call it; none is same-origin only.
    pub cors_origins: Vec<String>,
    /// What may be logged, as a filter (`info`, `tidegate=debug,info`).
    pub log_level: String,
    /// How.
    pub log_format: LogFormat,
    /// What a client may run into.
    pub limits: Limits,
    /// Every key with its value as written and where that comes from, by name.
    pub settings: Vec<Setting>,
}

/// A configuration and what is worth a warning about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Sentences, each to be logged once.
    pub warnings: Vec<String>,
}

/// All that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct ConfigError {
    /// A sentence each.
    pub problems: Vec<String>,
}

impl ConfigError {
    fn one(problem: String) -> Self {
        Self { problems: vec![problem] }
    }
}

/// What a configuration is made from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// Environment variables; those that are none of ours are passed over.
    pub environment: Vec<(String, String)>,
    /// Keys set by flags, each with the flag it came by.
    pub flags: Vec<(&'static str, String, String)>,
}

/// Puts a configuration together.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong, each with where it stands.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigError> {
    let mut given = Given::default();
    if let Some(path) = &inputs.file {
        given.file(path, &read_file(path)?)?;
    }
    given.environment(&inputs.environment);
    given.flags(&inputs.flags);
    given.finish()
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    /// More than any configuration has: a mistaken path should not fill the memory.
    const FILE_BYTES_MAX: u64 = 1 << 20;
    let refuse = |reason: String| ConfigError::one(format!("{}: {reason}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(refuse(format!("{} bytes are too many for a configuration", metadata.len())));
    }
    std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))
}

/// Reads a key's value, whose kind has been checked.
struct Values<'a> {
    by_name: BTreeMap<&'static str, &'a str>,
}

impl Values<'_> {
    fn text(&self, name: &'static str) -> &str {
        // A name that is not in the table is a mistake of this file, and its own test would meet it first.
        self.by_name.get(name).copied().unwrap_or_else(|| unreachable!("no key '{name}'"))
    }

    fn optional(&self, name: &'static str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    fn number<N: TryFrom<i64>>(&self, name: &'static str) -> N {
        let number = self.text(name).parse::<i64>().ok().and_then(|n| N::try_from(n).ok());
        number.unwrap_or_else(|| unreachable!("the bounds of '{name}' are wider than its type"))
    }

    fn list(&self, name: &'static str) -> Vec<String> {
        definition::words(self.text(name)).map(str::to_owned).collect()
    }

    fn limits(&self) -> Limits {
        Limits {
            body_bytes: self.number("limit.body.bytes"),
            records_per_request: self.number("limit.records.per.request"),
            key_bytes: self.number("limit.key.bytes"),
            headers_per_record: self.number("limit.headers.per.record"),
            header_bytes_per_record: self.number("limit.header.bytes.per.record"),
            json_depth: self.number("limit.json.depth"),
            head_bytes: self.number("limit.head.bytes"),
            head_timeout_ms: self.number("limit.head.timeout.ms"),
            body_idle_timeout_ms: self.number("limit.body.idle.timeout.ms"),
            in_flight_bytes: self.number("limit.in.flight.bytes"),
            partition_in_flight_bytes: self.number("limit.partition.in.flight.bytes"),
            partition_in_flight_requests: self.number("limit.partition.in.flight.requests"),
            max_wait_ms: self.number("limit.max.wait.ms"),
            max_bytes: self.number("limit.max.bytes"),
            produce_timeout_ms: self.number("limit.produce.timeout.ms"),
            connections: self.number("limit.connections"),
        }
    }
}

impl Config {
    /// Makes the typed configuration from settings that are each valid by themselves, and checks what they say together.
    fn from_settings(settings: &[Setting]) -> Result<Self, ConfigError> {
        let values = Values { by_name: settings.iter().map(|s| (s.definition.name, s.value.as_str())).collect() };
        let (listener, advertised, data_dir) = (client_listener(&values), advertised(&values), data_dir(&values));
        let limits = values.limits();
        let mut problems = Vec::new();
        let insecure = values.text("insecure.listen") == "true";
        for outcome in [check_exposure(&listener, insecure), check_limits(&limits)] {
            problems.extend(outcome.err());
        }
        let (Ok(listener), Ok(advertised), Ok(data_dir), true) = (&listener, &advertised, &data_dir, problems.is_empty()) else {
            problems.extend([listener.err(), advertised.err(), data_dir.err()].into_iter().flatten());
            return Err(ConfigError { problems });
        };
        Ok(Self {
            node_id: NodeId::new(values.number("node.id")),
            listener: listener.clone(),
            advertised: advertised.clone(),
            data_dir: data_dir.clone(),
            default_partitions: values.number("num.partitions"),
            disk_threads: values.number("disk.threads"),
            compaction_backoff: Duration::from_millis(values.number("log.cleaner.backoff.ms")),
            compaction_memory: values.number("log.cleaner.dedupe.buffer.size"),
            compaction_bytes_per_second: values.number("log.cleaner.io.max.bytes.per.second"),
            producer_expiration: Duration::from_millis(values.number("producer.id.expiration.ms")),
            min_free_bytes: values.number("log.min.free.bytes"),
            recovery_threads: values.number("num.recovery.threads.per.data.dir"),
            retention_check_interval: Duration::from_millis(values.number("log.retention.check.interval.ms")),
            rack: values.optional("broker.rack").map(str::to_owned),
            cors_origins: values.list("cors.origins"),
            log_level: values.text("log.level").to_owned(),
            log_format: if values.text("log.format") == "json" { LogFormat::Json } else { LogFormat::Pretty },
            limits,
            settings: settings.to_vec(),
        })
    }
}

fn client_listener(values: &Values<'_>) -> Result<Address, String> {
    address::one_client(values.text("listeners")).map_err(|reason| format!("listeners: {reason}"))
}

fn advertised(values: &Values<'_>) -> Result<Option<Address>, String> {
    let Some(text) = values.optional("advertised.listeners") else { return Ok(None) };
    let address = address::one_client(text).map_err(|reason| format!("advertised.listeners: {reason}"))?;
    if address.is_unspecified() || address.port == 0 {
        return Err(format!("advertised.listeners: nobody can call '{address}'; it needs a host and a port"));
    }
    Ok(Some(address))
}

fn data_dir(values: &Values<'_>) -> Result<PathBuf, String> {
    match definition::words(values.text("log.dirs")).collect::<Vec<_>>().as_slice() {
        [one] => Ok(PathBuf::from(one)),
        [] => Err("log.dirs: a node needs a data directory".to_owned()),
        [_, _, ..] => Err("log.dirs: a node has one data directory in this version; give one path".to_owned()),
    }
}

/// Without accounts, whoever reaches the listener may read and write everything.
fn check_exposure(listener: &Result<Address, String>, insecure: bool) -> Result<(), String> {
    match listener {
        Ok(address) if !address.is_loopback() && !insecure => Err(format!(
            "listeners: {address} is open to other machines, and there are no accounts yet: whoever reaches it may read, write and delete \
             everything. If that is meant, say --insecure-listen (insecure.listen=true)"
        )),
        _ => Ok(()),
    }
}

/// A bound that another bound makes unreachable is a mistake.
fn check_limits(limits: &Limits) -> Result<(), String> {
    if limits.body_bytes > limits.in_flight_bytes {
        return Err("limit.body.bytes: one body may be larger than all together (limit.in.flight.bytes)".to_owned());
    }
    if limits.body_bytes > limits.partition_in_flight_bytes {
        return Err(
            "limit.body.bytes: one body may be larger than what may wait for one partition (limit.partition.in.flight.bytes)".to_owned()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
