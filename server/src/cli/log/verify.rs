//! `log verify`: what is damaged, and what only looks so until the next start.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_storage::inspect::{Checked, Finding, Summary, verify_all};
use tidegate_storage::io::RealIo;

use super::{damage, failure, finding_json, name, sentence};
use crate::cli::Failure;
use crate::cli::output::{Output, table};
use crate::cli::record::count;

/// Checks a data directory, or one partition's. Beside a running node what is found is looked at up to three times: a write is over by then.
pub(super) fn run(path: &Path, is_held: bool, output: &Output) -> Result<(), Failure> {
    let mut again = |looks: u32| {
        let goes_on = is_held && looks < 3;
        if goes_on {
            std::thread::sleep(Duration::from_millis(100) * looks * looks);
        }
        goes_on
    };
    let report = verify_all(&RealIo, path, &mut again).map_err(failure)?;
    let all = |summary: &Summary| summary.findings.iter().chain(&summary.notes).map(finding_json).collect::<Vec<_>>();
    let entry = |Checked { directory, summary: s }: &Checked| {
        json!({"partition": name(directory), "segments": s.segments, "batches": s.batches, "records": s.records, "bytes": s.bytes,
            "findings": all(s)})
    };
    let mut entries: Vec<Value> = report.partitions.iter().map(entry).collect();
    let root = all(&report.root);
    if !root.is_empty() {
        entries.push(json!({"directory": path.display().to_string(), "findings": root}));
    }
    output.list(
        &entries,
        |entry| entry["partition"].as_str().or(entry["directory"].as_str()).unwrap_or_default().to_owned(),
        |_| {
            let row = |Checked { directory, summary: s }: &Checked| {
                let state = if s.findings.is_empty() { "whole".to_owned() } else { "damaged".to_owned() };
                vec![name(directory), count(s.segments as u64), count(s.batches), count(s.records), count(s.bytes), state]
            };
            table(&["PARTITION", "SEGMENTS", "BATCHES", "RECORDS", "BYTES", "STATE"], report.partitions.iter().map(row))
        },
    )?;
    let summaries = || report.partitions.iter().map(|checked| &checked.summary).chain([&report.root]);
    if !output.format().is_for_programs() {
        summaries().flat_map(|summary| &summary.notes).for_each(|note| output.note(&format!("note: {}", sentence(note))));
    }
    let findings: Vec<Finding> = summaries().flat_map(|summary| &summary.findings).cloned().collect();
    damage(&findings)
}
