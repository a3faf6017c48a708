//! `log dump` and `log verify`: what stands in a node's files, read without a node. They change nothing.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::ValueHint;
use serde_json::{Value, json};
use tidegate_storage::inspect::{self, Finding, Summary};
use tidegate_storage::io::{Io, RealIo};
use tidegate_types::{Record, StoredBatch};

use super::output::{Output, table};
use super::record::read::owned;
use super::record::screen::visible;
use super::record::show::{Show, form};
use super::record::{count, object, records};
use super::{Failure, time};

/// What a running node holds in its data directory.
const LOCK: &str = ".lock";

/// What to do with a node's files. The node should not be running: it may be in the middle of a write.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Show the batches of a segment file or of a partition's directory, and with --records what is in them
    #[command(
        after_help = "Examples:\n  tidegate log dump tidegate-data/orders-0\n  tidegate log dump tidegate-data/orders-0/00000000000000000000.log --records -o ndjson"
    )]
    Dump {
        /// A .log file, or a partition's directory
        #[arg(value_hint = ValueHint::AnyPath)]
        path: PathBuf,
        /// Show every record
        #[arg(long)]
        records: bool,
    },
    /// Check every batch and record; the exit code is 1 if anything is damaged
    #[command(after_help = "Examples:\n  tidegate log verify tidegate-data\n  tidegate log verify tidegate-data/orders-0 -o json")]
    Verify {
        /// A data directory, or a partition's directory
        #[arg(value_hint = ValueHint::DirPath)]
        path: PathBuf,
    },
}

/// Does it.
pub(super) fn run(verb: &Verb, output: &Output) -> Result<(), Failure> {
    let (Verb::Dump { path, .. } | Verb::Verify { path }) = verb;
    if is_held(path) {
        output.note("a node holds this directory: what it is about to write may look cut short or missing; stop it for a sound answer");
    }
    match verb {
        Verb::Dump { path, records } => dump(path, *records, output),
        Verb::Verify { path } => verify(path, output),
    }
}

/// Whether a node runs on the data directory that this is, or is in. A lock that is not there is not made.
fn is_held(path: &Path) -> bool {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().take(3).any(|directory| {
        let has_lock = RealIo.list(directory).is_ok_and(|entries| entries.iter().any(|entry| entry.name == LOCK && !entry.is_dir));
        has_lock && RealIo.lock(&directory.join(LOCK)).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    })
}

/// The segments of a directory.
fn segments(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    Ok(inspect::segments(&RealIo, path).map_err(failure)?.into_iter().map(|(_, file)| file).collect())
}

fn failure(error: tidegate_storage::Error) -> Failure {
    match &error {
        tidegate_storage::Error::Io { path, source, .. } => match source.kind() {
            ErrorKind::NotFound => Failure::NotFound(format!("{}: there is no such file or directory", path.display())),
            ErrorKind::NotADirectory => Failure::Local(format!("{}: that is neither a .log file nor a directory", path.display())),
            _ => error.into(),
        },
        _ => error.into(),
    }
}

fn dump(path: &Path, with_records: bool, output: &Output) -> Result<(), Failure> {
    let is_file = path.extension().is_some_and(|e| e == "log");
    let files = if is_file { vec![path.to_owned()] } else { segments(path)? };
    if files.is_empty() {
        let one = partition_directories(path).ok().and_then(|found| found.into_iter().next());
        let advice = one.map_or_else(String::new, |one| format!(": name one of the partitions in it, such as {}", one.display()));
        return Err(Failure::Local(format!("{} has no .log files of its own{advice}", path.display())));
    }
    let mut dump = Dump { output, show: Show::new(form(output, None)?, ""), with_records, damage: Vec::new() };
    let outcome = files.iter().try_for_each(|file| dump.file(file));
    if output.format().is_for_programs() {
        dump.show.end()?;
    }
    outcome.and_then(|()| damage(&dump.damage))
}

/// Shows files batch by batch: they may be larger than the memory.
struct Dump<'o> {
    output: &'o Output,
    /// For programs.
    show: Show<'static>,
    with_records: bool,
    damage: Vec<Finding>,
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

impl Dump<'_> {
    fn file(&mut self, file: &Path) -> Result<(), Failure> {
        if !self.output.format().is_for_programs() {
            self.show.text(&format!("{}\n", file.display()))?;
        }
        let mut stopped = None;
        let finding = inspect::dump(&RealIo, file, &mut |position, batch| {
            self.batch(file, position, batch).map_err(|stop| match stop {
                Stop::Damaged(reason) => reason,
                Stop::Output(failure) => {
                    stopped = Some(failure);
                    String::new()
                }
            })
        });
        self.show.flush()?;
        match stopped {
            Some(failure) => Err(failure),
            None => {
                self.damage.extend(finding.map_err(failure)?);
                Ok(())
            }
        }
    }

    fn batch(&mut self, file: &Path, position: u64, batch: &StoredBatch) -> Result<(), Stop> {
        let is_for_programs = self.output.format().is_for_programs();
        if is_for_programs {
            self.show.object(&batch_json(file, position, batch).to_string())?;
        } else {
            self.show.text(&batch_line(position, batch))?;
        }
        if !self.with_records {
            return Ok(());
        }
        for record in &batch.records()? {
            let record = record?;
            if is_for_programs {
                self.show.object(&record_json(partition_of(file), &record).map_err(Failure::Local)?)?;
            } else {
                self.show.text(&record_line(&record))?;
            }
        }
        Ok(())
    }
}

/// The partition's number, as the directory of its files says.
fn partition_of(file: &Path) -> Option<u32> {
    let absolute = file.canonicalize().ok()?;
    absolute.parent()?.file_name()?.to_str()?.rsplit_once('-')?.1.parse().ok()
}

fn batch_line(position: u64, batch: &StoredBatch) -> String {
    let h = &batch.header;
    let kind = if h.is_control() { " control" } else { "" };
    format!(
        "  at {position}: offsets {}..{}, {}, {} bytes, {}, epoch {}, newest {}, crc {:#010x}{kind}\n",
        h.first_offset(),
        h.last_offset(),
        records(u64::try_from(h.record_count).unwrap_or_default()),
        count(batch.bytes().len() as u64),
        h.codec().name(),
        h.leader_epoch,
        time::shown(h.max_timestamp),
        h.crc
    )
}

fn batch_json(file: &Path, position: u64, batch: &StoredBatch) -> Value {
    let h = &batch.header;
    json!({
        "kind": "batch", "file": file.display().to_string(), "position": position, "base_offset": h.first_offset().get(),
        "last_offset": h.last_offset().get(), "record_count": h.record_count, "bytes": batch.bytes().len(), "codec": h.codec().name(),
        "leader_epoch": h.leader_epoch, "max_timestamp": h.max_timestamp, "crc": h.crc, "control": h.is_control(), "producer_id": h.producer_id,
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
    let headers = record.headers.iter().map(|h| format!(" {}={}", visible(h.name.as_bytes()), shown(h.value))).collect::<String>();
    let time = time::shown(record.timestamp.millis());
    format!("    {}: time {time}, key {}, value {}{headers}\n", record.offset, shown(record.key), shown(record.value))
}

/// The record as `consume` writes it, with its kind before all; without a partition if none is known.
fn record_json(partition: Option<u32>, record: &Record<'_>) -> Result<String, String> {
    let line = object::to_line(&owned(partition.unwrap_or_default(), record))?;
    let fields = match partition {
        Some(_) => line.strip_prefix('{'),
        None => line.strip_prefix("{\"partition\":0,"),
    };
    Ok(format!("{{\"kind\":\"record\",{}", fields.unwrap_or_default()))
}

fn verify(path: &Path, output: &Output) -> Result<(), Failure> {
    let mut partitions = Vec::new();
    for directory in partition_directories(path)? {
        let summary = inspect::verify(&RealIo, &directory).map_err(failure)?;
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
                vec![name(directory), count(s.segments as u64), count(s.batches), count(s.records), count(s.bytes), state]
            };
            table(&["PARTITION", "SEGMENTS", "BATCHES", "RECORDS", "BYTES", "STATE"], partitions.iter().map(row))
        },
    )?;
    let findings: Vec<_> = partitions.into_iter().flat_map(|(_, summary)| summary.findings).collect();
    damage(&findings)
}

/// The path itself if it holds segments, else the directories in it that do.
fn partition_directories(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !segments(path)?.is_empty() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = RealIo.list(path).map_err(|error| Failure::Local(format!("{}: {error}", path.display())))?;
    let mut found = Vec::new();
    for entry in entries.into_iter().filter(|entry| entry.is_dir) {
        let directory = path.join(entry.name);
        if !segments(&directory)?.is_empty() {
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
