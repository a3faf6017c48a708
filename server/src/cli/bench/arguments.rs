//! What can be asked for, and what of it makes sense together.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tidegate_client::Acks;
use tidegate_types::{Codec, Limits};

use super::super::Failure;
use super::payload::VALUE_BYTES_MIN;

/// How long a run goes on if neither a time nor a number of records is said.
const DURATION_DEFAULT: Duration = Duration::from_secs(5);
/// Requests under way, over all connections.
const IN_FLIGHT_MAX: usize = 4096;

/// What every bench takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// Use this topic and keep it; if not given, a topic bench-… is made and deleted at the end
    #[arg(long, value_name = "NAME", conflicts_with_all = ["partitions", "durability"])]
    pub(crate) topic: Option<String>,
    /// Keep the topic that was made
    #[arg(long)]
    pub(crate) keep: bool,
    /// Partitions of the topic that is made
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) partitions: u32,
    /// Durability of the topic that is made
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) durability: Option<DurabilityName>,
    /// Connections, each with one request under way
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) connections: u16,
    /// Requests under way on each connection; with more than one it speaks HTTP/2
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
    pub(crate) in_flight: u16,
    /// Records a second, whatever the answers do; latencies then count from when a request was due
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,
    /// How long to measure (default 5s)
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    pub(crate) duration: Option<Duration>,
    /// What goes before it and does not count
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = super::duration_or_none)]
    pub(crate) warmup: Duration,
    /// End after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: Option<u64>,
    /// Bytes of a record's value
    #[arg(long, default_value_t = 1024, value_name = "N")]
    pub(crate) record_bytes: usize,
    /// Records in a request, or in a page (default 100; with raw 1)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) records_per_request: Option<u32>,
    /// What records are sent or fetched as
    #[arg(long, value_enum, default_value_t = Form::Json, value_name = "FORM")]
    pub(crate) form: Form,
    /// Codec of stored batches: none, gzip, snappy, lz4, zstd
    #[arg(long, value_name = "CODEC", default_value = "none", value_parser = codec)]
    pub(crate) codec: Codec,
    /// What to wait for: all, leader, none
    #[arg(long, value_enum, default_value_t = AcksName::All, value_name = "WHAT")]
    pub(crate) acks: AcksName,
    /// Values that a codec makes much smaller
    #[arg(long)]
    pub(crate) compressible: bool,
    /// Do not read back at the end what was acknowledged
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Write the result there too, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) result: Option<PathBuf>,
}

/// What records are sent or fetched as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// A JSON envelope
    Json,
    /// A stream of lines
    Ndjson,
    /// One value as the body
    Raw,
    /// Stored batches
    Batches,
}

/// When a produce is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AcksName {
    /// When the promised durability holds
    All,
    /// After the leader's write
    Leader,
    /// On admission: no offsets, so nothing can be checked
    None,
}

impl From<AcksName> for Acks {
    fn from(name: AcksName) -> Self {
        match name {
            AcksName::All => Self::All,
            AcksName::Leader => Self::Leader,
            AcksName::None => Self::None,
        }
    }
}

impl AcksName {
    /// As a query.
    pub(crate) const fn query(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Leader => "?acks=leader",
            Self::None => "?acks=none",
        }
    }
}

/// What an acknowledgement covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DurabilityName {
    /// A finished sync
    Fsync,
    /// A write on every in-sync replica
    Replicated,
}

impl DurabilityName {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Replicated => "replicated",
        }
    }
}

/// A codec's name on the command line and in results.
pub(crate) const fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::None => "none",
        packed => packed.name(),
    }
}

fn codec(name: &str) -> Result<Codec, String> {
    let known = || Codec::ALL.map(codec_name).join(", ");
    Codec::ALL.into_iter().find(|codec| codec_name(*codec) == name).ok_or_else(|| format!("it is one of {}", known()))
}

impl Load {
    /// In one request, or page.
    pub(crate) fn records_per_request(&self) -> u32 {
        self.records_per_request.unwrap_or(if self.form == Form::Raw { 1 } else { 100 })
    }

    /// How long to measure, unless records end it first.
    pub(crate) fn duration(&self) -> Option<Duration> {
        self.duration.or(if self.records.is_none() { Some(DURATION_DEFAULT) } else { None })
    }

    /// Refuses what contradicts itself, before anything is made.
    ///
    /// # Errors
    /// A sentence on what to change.
    pub(crate) fn check(&self, fetches: bool) -> Result<(), Failure> {
        let refuse = |reason: String| Err(Failure::Usage(reason));
        let limits = Limits::default();
        if self.form == Form::Raw && self.records_per_request() != 1 {
            return refuse("--form raw has one record in a request: --records-per-request 1".to_owned());
        }
        if fetches && !matches!(self.form, Form::Json | Form::Batches) {
            return refuse("records are fetched with --form json or --form batches".to_owned());
        }
        if self.codec != Codec::None && self.form != Form::Batches {
            return refuse("--codec packs stored batches: it goes with --form batches".to_owned());
        }
        if usize::from(self.connections) * usize::from(self.in_flight) > IN_FLIGHT_MAX {
            return refuse(format!("--connections times --in-flight is at most {IN_FLIGHT_MAX}"));
        }
        if self.record_bytes < VALUE_BYTES_MIN {
            return refuse(format!("--record-bytes is at least {VALUE_BYTES_MIN}: a value carries a stamp"));
        }
        let body = self.record_bytes.saturating_mul(self.records_per_request() as usize);
        if body > limits.body_bytes / 2 {
            return refuse(format!("a request would have {body} bytes of values: at most {} are possible here", limits.body_bytes / 2));
        }
        Ok(())
    }
}
