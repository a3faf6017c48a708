//! What was measured, as a Markdown table for people, put between two markers of a document, and as JSON for programs.

use std::fmt::Write;

use anyhow::Context;
use serde::Serialize;

use super::contender::Cell;
use super::machine::Machine;
use super::row::{Goal, Outcome, cpu_per_gigabyte};
use super::waiting::Other;

const BEGIN: &str = "<!-- make bench: begin -->";
const END: &str = "<!-- make bench: end -->";

/// One run of the bench.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) command: String,
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Outcome>,
    pub(crate) other: Vec<Other>,
    /// Who was not measured, and why.
    pub(crate) absent: Vec<String>,
}

impl Report {
    /// For people.
    pub(crate) fn markdown(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        writeln!(text, "`{}`: {} rounds of {} s each, in turn; medians, ratios round by round.", self.command, self.rounds, self.seconds)?;
        writeln!(text, "Machine: {}.\nNode, limits, peers and load share its cores.\n", self.machine.sentence())?;
        writeln!(
            text,
            "| what | who | records/s (least to most) | MB/s | p50 | p99 | server CPU | ratio | goal |\n|---|---|---|---|---|---|---|---|---|"
        )?;
        for row in &self.rows {
            for (n, result) in row.results.iter().enumerate() {
                let (title, ratio, goal) = match n {
                    0 => (row.title.as_str(), format!("**{:.2}**", row.ratio), self.verdict(row)),
                    _ => ("", String::new(), String::new()),
                };
                let Cell { records_per_second, megabytes_per_second, p50_us, p99_us, server_cpu, .. } = result.median;
                let rates = result.rounds.iter().map(|cell| cell.records_per_second);
                let (least, most) = rates.fold((f64::MAX, 0.0_f64), |(least, most), rate| (least.min(rate), most.max(rate)));
                let mut cpu = server_cpu.map(|share| format!("{:.0} %", share * 100.0)).unwrap_or_default();
                if matches!(row.goal, Goal::RangeRead { .. }) {
                    write!(cpu, ", {:.3} s a GB", cpu_per_gigabyte(&result.median))?;
                }
                let (rate, least, most) = (thousands(records_per_second), thousands(least), thousands(most));
                writeln!(
                    text,
                    "| {title} | {} | {rate} ({least} to {most}) | {megabytes_per_second:.0} | {} | {} | {cpu} | {ratio} | {goal} |",
                    result.name,
                    time(p50_us),
                    time(p99_us),
                )?;
            }
        }
        if !self.other.is_empty() {
            writeln!(text, "\n| what | figure | goal |\n|---|---|---|")?;
            for Other { what, figure, goal } in &self.other {
                writeln!(text, "| {what} | {figure} | {goal} |")?;
            }
        }
        for absent in &self.absent {
            writeln!(text, "\nNot measured: {absent}.")?;
        }
        Ok(text)
    }

    fn verdict(&self, row: &Outcome) -> String {
        let words = row.results.get(1).map(|limit| row.goal.words(&limit.median)).unwrap_or_default();
        format!("{words}: {}", if row.is_met { "met" } else { "**missed**" })
    }
}

fn thousands(rate: f64) -> String {
    match rate {
        r if r >= 1e6 => format!("{:.2} M", r / 1e6),
        r if r >= 1e4 => format!("{:.0} k", r / 1e3),
        r => format!("{:.1} k", r / 1e3),
    }
}

fn time(microseconds: f64) -> String {
    match microseconds {
        us if us >= 1e4 => format!("{:.0} ms", us / 1e3),
        us if us >= 1e3 => format!("{:.1} ms", us / 1e3),
        us => format!("{us:.0} µs"),
    }
}

/// `document` with `table` between its markers; all else stays.
///
/// # Errors
/// If the markers are not there, in order.
pub(crate) fn splice(document: &str, table: &str) -> anyhow::Result<String> {
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("the document has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("the document has no line {END} after it"))?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: what a person has written around the markers stays to the byte, and writing twice is writing once.
    #[test]
    fn only_what_is_between_the_markers_changes() {
        let document = format!("# A\n\n{BEGIN}\nold\n{END}\n\nB\n");
        let once = splice(&document, "new\n").unwrap();
        assert_eq!(once, format!("# A\n\n{BEGIN}\nnew\n{END}\n\nB\n"));
        assert_eq!(splice(&once, "new").unwrap(), once);
        assert!(splice("no markers", "x").is_err());
        assert!(splice(&format!("{END}{BEGIN}"), "x").is_err());
    }
}
