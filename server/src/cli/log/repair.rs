//! `log repair`: a plan for what is damaged, told; and done with `--yes`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_storage::inspect::{Action, Plan, Repair};
use tidegate_storage::io::RealIo;
use tidegate_types::Clock;
use tidegate_types::time::SystemClock;

use super::{damage, failure, name};
use crate::cli::output::Output;
use crate::cli::record::{count, records};
use crate::cli::{Failure, time};

/// What became of a plan.
struct Told<'a> {
    plan: &'a Plan,
    aside: Option<PathBuf>,
    is_done: bool,
}

/// Plans the repair of a data directory, or of one partition in it, and does it if `yes`.
pub(super) fn run(path: &Path, cut: bool, yes: bool, output: &Output) -> Result<(), Failure> {
    // The name says which partition it is, and what lies around it.
    let path = &if path.file_name().is_none() { path.canonicalize().unwrap_or_else(|_| path.to_owned()) } else { path.to_owned() };
    let repair = Repair::plan(Arc::new(RealIo), path, cut).map_err(failure)?;
    let plans = repair.plans().iter().filter(|plan| !plan.actions.is_empty() || !plan.left.is_empty());
    let mut told: Vec<Told<'_>> = plans.map(|plan| Told { plan, aside: None, is_done: false }).collect();
    let is_needed = told.iter().any(|told| !told.plan.actions.is_empty());
    if !yes || !is_needed {
        show(&told, output)?;
        if is_needed {
            return Err(Failure::Unconfirmed("nothing was changed: say --yes to do it".to_owned()));
        }
        return if told.is_empty() { Ok(()) } else { Err(Failure::Local("what there is cannot be repaired here".to_owned())) };
    }
    let now = time::file_name(SystemClock::new().wall().millis());
    for one in told.iter_mut().filter(|one| !one.plan.actions.is_empty()) {
        let applied = repair.apply(one.plan, &now);
        match applied {
            Ok(aside) => (one.aside, one.is_done) = (aside, true),
            Err(error) => {
                // What has been done is done, and has to be said.
                show(&told, output)?;
                return Err(Failure::Local(format!("{error}\n  nothing is lost; the same command goes on from here")));
            }
        }
    }
    show(&told, output)?;
    let report = repair.check().map_err(failure)?;
    let summaries = report.partitions.into_iter().map(|checked| checked.summary).chain([report.root]);
    damage(&summaries.flat_map(|summary| summary.findings).collect::<Vec<_>>())
}

fn show(told: &[Told<'_>], output: &Output) -> Result<(), Failure> {
    let entries: Vec<_> = told.iter().map(entry).collect();
    output.list(
        &entries,
        |entry| entry["name"].as_str().unwrap_or_default().to_owned(),
        |_| {
            if told.is_empty() { "there is nothing to repair".to_owned() } else { told.iter().map(text).collect() }
        },
    )
}

fn entry(Told { plan, aside, is_done }: &Told<'_>) -> Value {
    let action = |action: &Action| json!({"action": action.name(), "file": action.file().map(|file| file.display().to_string()), "detail": action.sentence()});
    let lost = plan.lost.map(|lost| json!({"first_offset": lost.first, "last_offset": lost.last, "records": lost.records()}));
    json!({
        "name": name(&plan.directory), "actions": plan.actions.iter().map(action).collect::<Vec<_>>(), "lost": lost, "bytes_aside": plan.aside_bytes,
        "aside": aside.as_ref().map(|aside| aside.display().to_string()), "left": plan.left, "applied": is_done,
    })
}

fn text(Told { plan, aside, is_done }: &Told<'_>) -> String {
    let mut text = format!("{}:\n", name(&plan.directory));
    let would = if *is_done { "done: " } else { "would " };
    plan.actions.iter().for_each(|action| text.push_str(&format!("  {would}{}\n", action.sentence())));
    if let Some(lost) = plan.lost {
        let last = lost.last.map_or_else(|| "on".to_owned(), |last| format!("to {last}"));
        let known = lost.records().map_or_else(String::new, |number| format!(", at most {}", records(number)));
        let gone = match (plan.aside_bytes, is_done) {
            (0, _) => format!("are not there any more{known}"),
            (bytes, true) => format!("are lost{known}; {} bytes have left the log", count(bytes)),
            (bytes, false) => format!("would be lost{known}; {} bytes leave the log", count(bytes)),
        };
        text.push_str(&format!("  offsets from {} {last} {gone}\n", lost.first));
    }
    if let Some(aside) = aside {
        text.push_str(&format!("  what was set aside is in {}\n", aside.display()));
    }
    plan.left.iter().for_each(|left| text.push_str(&format!("  stays as it is: {left}\n")));
    text
}
