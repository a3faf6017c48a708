//! `doctor`: what is not as it should be with a node, and what to do about it. Each line is a check, a verdict, and the fix.

mod disk;
mod node;

use std::path::PathBuf;

use serde::Serialize;

use super::Failure;
use super::config::load_file;
use super::output::{Field, Look, Output, Tone, styled_table};
use super::session::Session;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate doctor\n  tidegate doctor --data-dir /var/lib/tidegate --config /etc/tidegate.toml")]
pub(super) struct DoctorArguments {
    /// Look at the disk below this directory, too: room, and what a sync costs (writes and removes a small file)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Check this configuration file, too, together with the environment
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// It has to be mended.
    Fail,
    /// Could not be looked at.
    Skipped,
}

/// One check and how it came out.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    verdict: Verdict,
    /// What was found.
    detail: String,
    /// What to do; empty where there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    fix: String,
}

impl Check {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, detail: detail.into(), fix: String::new() }
    }

    fn skipped(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Skipped, detail: detail.into(), fix: String::new() }
    }

    fn not_ok(verdict: Verdict, check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, verdict, detail: detail.into(), fix: fix.into() }
    }
}

/// Does it.
pub(super) fn run(arguments: &DoctorArguments, session: &Session) -> Result<(), Failure> {
    let server = session.server()?;
    let client = session.looking_client()?;
    let mut checks = session.block_on(session.watched(async { Ok(node::checks(&client, &server).await) }))?;
    if let Some(dir) = &arguments.data_dir {
        checks.extend(disk::checks(dir));
    }
    checks.push(file_handles());
    if let Some(file) = &arguments.config {
        checks.push(configuration(file));
    }
    show(&checks, &session.output)
}

fn show(checks: &[Check], output: &Output) -> Result<(), Failure> {
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Fail).count();
    output.list(checks, |check| check.check.to_owned(), |look| text(look, checks))?;
    if failed == 0 {
        output.note(&verdict(checks));
        return Ok(());
    }
    output.note(&format!("{failed} of {} checks failed", checks.len()));
    Err(Failure::SaysNo)
}

/// In one line, where nothing has failed.
fn verdict(checks: &[Check]) -> String {
    let with = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let some = |count: usize, word: &str| if count == 0 { String::new() } else { format!(", {count} {word}") };
    let (warnings, skipped) = (with(Verdict::Warning), with(Verdict::Skipped));
    let head = if warnings + skipped == 0 { "all is well" } else { "nothing has failed" };
    format!("{head}: {} ok{}{}", with(Verdict::Ok), some(warnings, "to look at (warning)"), some(skipped, "skipped"))
}

fn text(look: Look, checks: &[Check]) -> String {
    let row = |check: &Check| {
        let verdict = match check.verdict {
            Verdict::Ok => Field::new(Tone::Good, "ok"),
            Verdict::Warning => Field::new(Tone::Doubtful, "warning"),
            Verdict::Fail => Field::new(Tone::Bad, "FAIL"),
            Verdict::Skipped => Field::from("skipped"),
        };
        let fix = if check.fix.is_empty() { String::new() } else { format!("; {}", check.fix) };
        vec![check.check.into(), verdict, format!("{}{fix}", check.detail).into()]
    };
    styled_table(look, &["CHECK", "VERDICT", "FOUND; WHAT TO DO"], checks.iter().map(row))
}

/// A node holds a file handle for each open segment and each connection.
fn file_handles() -> Check {
    const WANTED: u64 = 10_000;
    const CHECK: &str = "file handles";
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match limit.current {
        Some(current) if current < WANTED => Check::not_ok(
            Verdict::Warning,
            CHECK,
            format!("a node started from here may have {current} open files"),
            format!("ulimit -n {} before it starts, or LimitNOFILE= in its unit", limit.maximum.unwrap_or(65_536).max(WANTED)),
        ),
        Some(current) => Check::ok(CHECK, format!("a node started from here may have {current} open files")),
        None => Check::ok(CHECK, "no limit"),
    }
}

fn configuration(file: &std::path::Path) -> Check {
    const CHECK: &str = "configuration";
    match load_file(file) {
        Ok(loaded) if loaded.warnings.is_empty() => Check::ok(CHECK, format!("{} is valid", file.display())),
        Ok(loaded) => Check::not_ok(Verdict::Warning, CHECK, loaded.warnings.join("; "), "remove those lines"),
        Err(error) => Check::not_ok(Verdict::Fail, CHECK, error.problems.join("; "), "a node would not start with it"),
    }
}
