//! `log dump` and `log verify`: what stands in a node's files, read without a node. They change nothing.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate_storage::inspect::{self, Finding, Summary};
use tidegate_storage::io::{Io, RealIo};
use tidegate_types::{Record, StoredBatch};

use super::Failure;
use super::output::{Output, table};

/// What to do with a node's files. The node should not be running: it may be in the middle of a write.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Show the batches of a segment file or of a partition's directory, and with --records what is in them
    #[command(
        after_help = "Examples:\n  tidegate log dump tidegate-data/orders-0\n  tidegate log dump tidegate-data/orders-0/00000000000000000000.log --records -o ndjson"
    )]
    Dump {
        /// A .log file, or a partition's directory
        path: PathBuf,
        /// Show every record
        #[arg(long)]
        records: bool,
    },
    /// Check every batch and record; the exit code is 1 if anything is damaged
    #[command(after_help = "Examples:\n  tidegate log verify tidegate-data\n  tidegate log verify tidegate-data/orders-0 -o json")]
    Verify {
        /// A data directory, or a partition's directory
        path: PathBuf,
    },
}

/// Does it.
pub(super) fn run(verb: &Verb, output: &Output) -> Result<(), Failure> {
    match verb {
        Verb::Dump { path, records } => dump(path, *records, output),
        Verb::Verify { path } => verify(path, output),
    }
}

fn dump(path: &Path, with_records: bool, output: &Output) -> Result<(), Failure> {
    let files = if path.extension().is_some_and(|e| e == "log") {
        vec![path.to_owned()]
    } else {
        inspect::segments(&RealIo, path)?.into_iter().map(|(_, file)| file).collect()
    };
    if files.is_empty() {
        return Err(Failure::Local(format!("{}: there are no .log files", path.display())));
    }
    let mut findings = Vec::new();
    for file in files {
        findings.extend(dump_file(&file, with_records, output)?);
    }
    damage(&findings)
}

/// Shows one file line by line: it may be larger than the memory.
fn dump_file(file: &Path, with_records: bool, output: &Output) -> Result<Option<Finding>, Failure> {
    if !output.format().is_for_programs() {
        output.text(&file.display().to_string())?;
    }
    let mut stopped = None;
    let finding = inspect::dump(&RealIo, file, &mut |position, batch| {
        show_batch(file, position, batch, with_records, output).map_err(|stop| match stop {
            Stop::Damaged(reason) => reason,
            Stop::Output(failure) => {
                stopped = Some(failure);
                String::new()
            }
        })
    });
    match stopped {
        Some(failure) => Err(failure),
        None => finding.map_err(Failure::from),
    }
}

/// Why a dump goes no further.
enum Stop {
    Damaged(String),
    Output(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Output(failure)
    }
}

impl From<tidegate_types::BatchError> for Stop {
    fn from(error: tidegate_types::BatchError) -> Self {
        Self::Damaged(error.to_string())
    }
}

fn show_batch(file: &Path, position: u64, batch: &StoredBatch, with_records: bool, output: &Output) -> Result<(), Stop> {
    output.item(&batch_json(file, position, batch), || batch_line(position, batch))?;
    if !with_records {
        return Ok(());
    }
    for record in &batch.records()? {
        let record = record?;
        output.item(&record_json(&record), || record_line(&record))?;
    }
    Ok(())
}

fn batch_line(position: u64, batch: &StoredBatch) -> String {
    let h = &batch.header;
    let kind = if h.is_control() { " control" } else { "" };
    format!(
        "  at {position}: offsets {}..{}, {} records, {} bytes, {}, epoch {}, newest {}, crc {:#010x}{kind}",
        h.first_offset(),
        h.last_offset(),
        h.record_count,
        batch.bytes().len(),
        h.codec().name(),
        h.leader_epoch,
        h.max_timestamp,
        h.crc
    )
}

fn batch_json(file: &Path, position: u64, batch: &StoredBatch) -> Value {
    let h = &batch.header;
    json!({
        "file": file.display().to_string(), "position": position, "base_offset": h.first_offset().get(), "last_offset": h.last_offset().get(),
        "record_count": h.record_count, "bytes": batch.bytes().len(), "codec": h.codec().name(), "leader_epoch": h.leader_epoch,
        "max_timestamp": h.max_timestamp, "crc": h.crc, "control": h.is_control(), "producer_id": h.producer_id,
    })
}

/// Bytes as people read them: text if they are, else their number; long ones are cut.
fn shown(bytes: Option<&[u8]>) -> String {
    const CHARACTERS: usize = 120;
    match bytes.map(|b| (b, std::str::from_utf8(b))) {
        None => "none".to_owned(),
        Some((bytes, Err(_))) => format!("{} bytes", bytes.len()),
        Some((_, Ok(text))) if text.chars().count() > CHARACTERS => format!("{:?}…", text.chars().take(CHARACTERS).collect::<String>()),
        Some((_, Ok(text))) => format!("{text:?}"),
    }
}

fn record_line(record: &Record<'_>) -> String {
    let headers = record.headers.iter().map(|h| format!(" {}={}", h.name, shown(h.value))).collect::<String>();
    format!("    {}: time {}, key {}, value {}{headers}", record.offset, record.timestamp, shown(record.key), shown(record.value))
}

/// All of a record, in hexadecimal where it is not text.
fn record_json(record: &Record<'_>) -> Value {
    let bytes = |bytes: Option<&[u8]>| match bytes.map(|b| (b, std::str::from_utf8(b))) {
        None => Value::Null,
        Some((_, Ok(text))) => json!({"text": text}),
        Some((bytes, Err(_))) => json!({"hex": bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()}),
    };
    let headers = record.headers.iter().map(|h| json!({"name": h.name, "value": bytes(h.value)})).collect::<Vec<_>>();
    json!({
        "offset": record.offset.get(), "timestamp": record.timestamp.millis(), "key": bytes(record.key), "value": bytes(record.value), "headers": headers,
    })
}

fn verify(path: &Path, output: &Output) -> Result<(), Failure> {
    let mut partitions = Vec::new();
    for directory in partition_directories(path)? {
        let summary = inspect::verify(&RealIo, &directory)?;
        partitions.push((directory, summary));
    }
    let name =
        |directory: &Path| directory.file_name().map_or_else(|| directory.display().to_string(), |n| n.to_string_lossy().into_owned());
    let entry = |(directory, s): &(PathBuf, Summary)| {
        json!({"partition": name(directory), "segments": s.segments, "batches": s.batches, "records": s.records, "bytes": s.bytes,
            "findings": s.findings.iter().map(finding_json).collect::<Vec<_>>()})
    };
    let entries: Vec<_> = partitions.iter().map(entry).collect();
    output.list(
        &entries,
        |entry| entry["partition"].as_str().unwrap_or_default().to_owned(),
        |_| {
            let row = |(directory, s): &(PathBuf, Summary)| {
                let state = if s.findings.is_empty() { "whole".to_owned() } else { "damaged".to_owned() };
                vec![name(directory), s.segments.to_string(), s.batches.to_string(), s.records.to_string(), s.bytes.to_string(), state]
            };
            table(&["PARTITION", "SEGMENTS", "BATCHES", "RECORDS", "BYTES", "STATE"], partitions.iter().map(row))
        },
    )?;
    let findings: Vec<_> = partitions.into_iter().flat_map(|(_, summary)| summary.findings).collect();
    damage(&findings)
}

/// The path itself if it holds segments, else the directories in it that do.
fn partition_directories(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !inspect::segments(&RealIo, path)?.is_empty() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = RealIo.list(path).map_err(|error| Failure::Local(format!("{}: {error}", path.display())))?;
    let mut found = Vec::new();
    for entry in entries.into_iter().filter(|entry| entry.is_dir) {
        let directory = path.join(entry.name);
        if !inspect::segments(&RealIo, &directory)?.is_empty() {
            found.push(directory);
        }
    }
    if found.is_empty() {
        return Err(Failure::Local(format!("{}: no partition's directory is here", path.display())));
    }
    found.sort_unstable();
    Ok(found)
}

fn finding_json(finding: &Finding) -> Value {
    json!({"file": finding.path.display().to_string(), "position": finding.position, "reason": finding.reason})
}

fn damage(findings: &[Finding]) -> Result<(), Failure> {
    if findings.is_empty() {
        return Ok(());
    }
    let line = |f: &Finding| format!("\n  {} at byte {}: {}", f.path.display(), f.position, f.reason);
    Err(Failure::Local(format!("there is damage:{}", findings.iter().map(line).collect::<String>())))
}
