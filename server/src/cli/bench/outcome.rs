//! What a bench says at its end: one object with stable names, and a text for people.

use std::time::Duration;

use serde::Serialize;

use super::arguments::{AcksName, DurabilityName, Form, Load, codec_name};
use super::integrity::{ALGORITHM, Digests, PartitionDigest};
use super::tally::Counts;

/// A result.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) bench: &'static str,
    pub(crate) tidegate_version: &'static str,
    pub(crate) server: String,
    pub(crate) topic: String,
    /// Whether the topic is still there.
    pub(crate) topic_kept: bool,
    pub(crate) settings: Settings,
    /// Acknowledgements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) produce: Option<Counts>,
    /// Fetches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) consume: Option<Counts>,
    /// Records, from when they were due until a consumer had them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end_to_end: Option<Counts>,
    /// Requests that were due and never sent, since every connection was waiting: the rate was too high.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unsent_requests: Option<u64>,
    /// Acknowledged records that no consumer had in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unseen_records: Option<u64>,
    /// Of this process, while it measured.
    pub(crate) client_cpu_seconds: f64,
    /// The same as a share of one core; near 1 it is the client that was measured.
    pub(crate) client_cpu_share: f64,
    /// Why it did not go on to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended_early: Option<String>,
    pub(crate) integrity: Integrity,
}

/// What was asked for.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    connections: u16,
    in_flight: u16,
    /// Absent in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u64>,
    /// Whether latencies count from when a request was due, and not from when it was sent.
    corrected_for_coordinated_omission: bool,
    form: Form,
    codec: &'static str,
    acks: AcksName,
    partitions: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<DurabilityName>,
    record_bytes: usize,
    records_per_request: u32,
    compressible: bool,
    warmup_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
}

/// Whether what was acknowledged is what can be read.
#[derive(Debug, Serialize)]
pub(crate) struct Integrity {
    pub(crate) verdict: Verdict,
    /// Why it was not checked, or what differs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reasons: Vec<String>,
    algorithm: &'static str,
    records: u64,
    /// As acknowledged.
    partitions: Vec<PartitionDigest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Equal,
    Different,
    NotChecked,
}

impl Settings {
    pub(crate) fn new(load: &Load, partitions: u32) -> Self {
        let Load { connections, in_flight, rate, form, codec, acks, durability, record_bytes, compressible, .. } = *load;
        Self {
            connections,
            in_flight,
            rate,
            corrected_for_coordinated_omission: rate.is_some(),
            form,
            codec: codec_name(codec),
            acks,
            partitions,
            durability,
            record_bytes,
            records_per_request: load.records_per_request(),
            compressible,
            warmup_ms: millis(load.warmup),
            duration_ms: load.duration().map(millis),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Integrity {
    /// Nothing was read back.
    pub(crate) fn not_checked(acknowledged: &Digests, reason: &str) -> Self {
        Self::new(acknowledged, Verdict::NotChecked, vec![reason.to_owned()])
    }

    pub(crate) fn compare(acknowledged: &Digests, read: &Digests) -> Self {
        let reasons = acknowledged.differences(read);
        let verdict = if reasons.is_empty() { Verdict::Equal } else { Verdict::Different };
        Self::new(acknowledged, verdict, reasons)
    }

    fn new(acknowledged: &Digests, verdict: Verdict, reasons: Vec<String>) -> Self {
        let (records, partitions) = (acknowledged.records(), acknowledged.list());
        Self { verdict, reasons, algorithm: ALGORITHM, records, partitions }
    }
}

impl Outcome {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let parts =
            [("produce", "requests", &self.produce), ("consume", "fetches", &self.consume), ("end to end", "records", &self.end_to_end)];
        for (name, of_what, counts) in parts {
            if let Some(counts) = counts {
                text.push_str(&part(name, of_what, counts));
            }
        }
        if let Some(unsent) = self.unsent_requests.filter(|unsent| *unsent > 0) {
            text.push_str(&format!("{:<12}{unsent} requests were due and never sent, since every connection was waiting; their latencies count up to the end\n", "behind"));
        }
        if let Some(unseen) = self.unseen_records.filter(|unseen| *unseen > 0) {
            text.push_str(&format!("{:<12}{unseen} acknowledged records were not seen in time\n", "unseen"));
        }
        let busy = if self.client_cpu_share > 0.9 { ": more than the node, this client was measured" } else { "" };
        let share = self.client_cpu_share * 100.0;
        text.push_str(&format!("{:<12}{:.2} s, {share:.0} % of a core{busy}\n", "client CPU", self.client_cpu_seconds));
        if let Some(reason) = &self.ended_early {
            text.push_str(&format!("{:<12}{reason}\n", "ended early"));
        }
        let Integrity { verdict, reasons, records, .. } = &self.integrity;
        let words = match verdict {
            Verdict::Equal => format!("{records} acknowledged records are there, byte for byte"),
            Verdict::Different => format!("WRONG: {}", reasons.join("; ")),
            Verdict::NotChecked => format!("not checked: {}", reasons.join("; ")),
        };
        text.push_str(&format!("{:<12}{words}\n", "integrity"));
        if self.topic_kept {
            text.push_str(&format!("{:<12}{}\n", "topic", self.topic));
        }
        text
    }
}

fn part(name: &str, of_what: &str, counts: &Counts) -> String {
    let Counts { records_per_second, megabytes_per_second, seconds, records, .. } = counts;
    let mut text = format!(
        "{name:<12}{records_per_second:.0} records/s, {megabytes_per_second:.1} MB/s ({records} records, {} {of_what}, {seconds:.2} s)\n",
        if of_what == "records" { counts.records } else { counts.requests }
    );
    if of_what == "records" {
        text = format!("{name:<12}{records_per_second:.0} records/s ({records} records in {seconds:.2} s)\n");
    }
    if let Some(latency) = counts.latency_us {
        let times = [("p50", latency.p50), ("p95", latency.p95), ("p99", latency.p99), ("p99.9", latency.p99_9), ("max", latency.max)];
        let times: Vec<_> = times.iter().map(|(name, us)| format!("{name} {}", time(*us))).collect();
        text.push_str(&format!("{:<12}{}\n", "", times.join("   ")));
    }
    for (code, count) in &counts.errors {
        text.push_str(&format!("{:<12}{count} × {code}\n", "  errors"));
    }
    text
}

fn time(microseconds: f64) -> String {
    match microseconds {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e3 => format!("{:.2} ms", us / 1e3),
        us => format!("{us:.0} µs"),
    }
}
