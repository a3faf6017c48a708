//! `log dump`, `log verify` and `log repair`: what stands in a node's files, read without a node; and what may be mended there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::ValueHint;
use serde_json::{Value, json};
use tidegate_storage::inspect::{self, Finding};
use tidegate_storage::io::{Io, RealIo};

use super::Failure;
use super::output::Output;

mod dump;
mod repair;
mod verify;

/// What a running node holds in its data directory.
const LOCK: &str = ".lock";

/// What to do with a node's files. The node should not be running: it may be in the middle of a write.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Show the batches of a segment file or of a partition's directory, with --records what is in them; or what an index or a checkpoint says
    #[command(
        after_help = "Examples:\n  tidegate log dump tidegate-data/orders-0\n  tidegate log dump tidegate-data/orders-0/00000000000000000000.log --records -o ndjson\n  tidegate log dump tidegate-data/recovery-point-offset-checkpoint"
    )]
    Dump {
        /// A .log file, a partition's directory, an .index or .timeindex, or one of the small files beside them
        #[arg(value_hint = ValueHint::AnyPath)]
        path: PathBuf,
        /// Show every record
        #[arg(long)]
        records: bool,
        /// Show the entries of each segment's indexes
        #[arg(long)]
        indexes: bool,
    },
    /// Check every batch and record, index and checkpoint; the exit code is 1 if anything is damaged
    #[command(
        after_help = "What is damaged is lost or wrong. What the next start makes again or takes away by itself, such\nas a lost index or the end of a write that was cut off, is told as a note and leaves the exit\ncode 0.\n\nExamples:\n  tidegate log verify tidegate-data\n  tidegate log verify tidegate-data/orders-0 -o json"
    )]
    Verify {
        /// A data directory, or a partition's directory
        #[arg(value_hint = ValueHint::DirPath)]
        path: PathBuf,
    },
    /// Mend what may be mended of a stopped node's files; says what it would do until --yes
    #[command(
        after_help = "Nothing is deleted: what leaves a log is set aside beside it, as TOPIC-PARTITION.repair-TIME. A log\nthat the node refuses is cut at the first damage. One that it opens all the same stays as it is,\nfor readers can go on behind the damage.\n\nExamples:\n  tidegate log repair tidegate-data            # says what it would do\n  tidegate log repair tidegate-data --yes\n  tidegate log repair tidegate-data/orders-0 --cut --yes"
    )]
    Repair {
        /// A data directory, or a partition's directory in it
        #[arg(value_hint = ValueHint::DirPath)]
        path: PathBuf,
        /// Cut also logs that the node opens, at their first damage
        #[arg(long)]
        cut: bool,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

/// Does it.
pub(super) fn run(verb: &Verb, output: &Output) -> Result<(), Failure> {
    match verb {
        Verb::Dump { path, records, indexes } => {
            tell_held(path, output);
            dump::run(path, *records, *indexes, output)
        }
        Verb::Verify { path } => verify::run(path, tell_held(path, output), output),
        Verb::Repair { path, cut, yes } => repair::run(path, *cut, *yes, output),
    }
}

/// Says so if a node runs on the data directory that this is, or is in.
fn tell_held(path: &Path, output: &Output) -> bool {
    let is_held = is_held(path);
    if is_held {
        output.note("a node holds this directory: what it is about to write may look cut short or missing; stop it for a sound answer");
    }
    is_held
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

/// The name of a directory, as it is listed.
fn name(directory: &Path) -> String {
    directory.file_name().map_or_else(|| directory.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "severity": finding.severity.name(), "kind": finding.kind.name(),
        "file": finding.path.display().to_string(), "position": finding.position, "reason": finding.reason,
    })
}

/// The failure that damage is.
fn damage(findings: &[Finding]) -> Result<(), Failure> {
    if findings.is_empty() {
        return Ok(());
    }
    Err(Failure::Local(format!("there is damage:{}", findings.iter().map(|f| format!("\n  {}", sentence(f))).collect::<String>())))
}

fn sentence(finding: &Finding) -> String {
    format!("{} at byte {}: {}", finding.path.display(), finding.position, finding.reason)
}
