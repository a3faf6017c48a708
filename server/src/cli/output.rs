//! What verbs write: tables for people, JSON with the API's own names for programs. Nothing else of this binary touches standard output.

use std::io::Write;

use comfy_table::{Cell, Table};
use serde::Serialize;

use super::Failure;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For programs: the field names are the API's.
    Json,
}

/// Where results and failures go.
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
}

impl Output {
    pub(super) const fn new(format: Format) -> Self {
        Self { format }
    }

    /// How results are written.
    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// Writes a result: `value` as JSON, or what `table` makes of it.
    pub(super) fn result(&self, value: &impl Serialize, table: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => table(),
            Format::Json => serde_json::to_string_pretty(value).map_err(|error| Failure::Local(error.to_string()))?,
        };
        self.text(&text)
    }

    /// Writes a text and ends it with a line break.
    pub(super) fn text(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.trim_end().as_bytes())?;
        stdout.write_all(b"\n")?;
        stdout.flush()?;
        Ok(())
    }

    /// Says on standard error why a verb failed.
    pub(super) fn failure(&self, failure: &Failure) {
        let text = match self.format {
            Format::Table => sentence(failure),
            Format::Json => problem(failure).to_string(),
        };
        // Nobody is left to tell if standard error is gone too.
        drop(writeln!(std::io::stderr(), "{text}"));
    }
}

fn sentence(failure: &Failure) -> String {
    match failure {
        Failure::Client(error) => {
            let id =
                error.problem().and_then(|p| p.request_id.as_ref()).map(|id| format!("\n  the node's log has it under request id {id}"));
            format!("error: {error}{}{}", details(error), id.unwrap_or_default())
        }
        Failure::Local(reason) => format!("error: {reason}"),
        Failure::Unconfirmed(reason) => reason.clone(),
        Failure::OutputClosed => String::new(),
    }
}

/// The broken rules and differences that a problem lists, one a line.
fn details(error: &tidegate_client::Error) -> String {
    let Some(problem) = error.problem() else { return String::new() };
    let mut text = String::new();
    for item in problem.extras.get("errors").and_then(|v| v.as_array()).into_iter().flatten() {
        let field = |name: &str| item.get(name).and_then(|v| v.as_str()).unwrap_or_default();
        text.push_str(&format!("\n  {}: {}", field("pointer"), field("detail")));
    }
    for item in problem.extras.get("differences").and_then(|v| v.as_array()).into_iter().flatten() {
        let field = |name: &str| item.get(name).map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("\n  {}: wanted {}, is {}", field("pointer"), field("wanted"), field("actual")));
    }
    if let Some(near) = problem.extras.get("did_you_mean").and_then(|v| v.as_str()) {
        text.push_str(&format!("\n  did you mean '{near}'?"));
    }
    text
}

fn problem(failure: &Failure) -> serde_json::Value {
    match failure {
        Failure::Client(error) => serde_json::to_value(error.to_problem()).unwrap_or_default(),
        Failure::Local(reason) => local("failed", "Failed", reason),
        Failure::Unconfirmed(reason) => local("not-confirmed", "Not confirmed", reason),
        Failure::OutputClosed => serde_json::Value::Null,
    }
}

fn local(code: &str, title: &str, detail: &str) -> serde_json::Value {
    serde_json::json!({"code": code, "title": title, "detail": detail, "retryable": false, "side_effects": "none"})
}

/// A table with a head and no frame: it can be read, and cut by a program.
pub(super) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(head.iter().map(Cell::new));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a table's lines have their columns under the head and no trailing space.
    #[test]
    fn tables_are_plain() {
        let text = table(&["NAME", "N"], [vec!["a-long-name".to_owned(), "1".to_owned()], vec!["b".to_owned(), String::new()]]);
        assert_eq!(text, "NAME          N\na-long-name   1\nb");
    }

    /// A promise: what breaks which rule is told to a person, not only to programs.
    #[test]
    fn rules_are_told() {
        let json = r#"{"status":422,"code":"validation-failed","detail":"bad","request_id":"r7",
            "errors":[{"pointer":"/partitions","code":"range","detail":"at least 1"}],"did_you_mean":"x"}"#;
        let failure = Failure::Client(tidegate_client::Error::Problem(Box::new(serde_json::from_str(json).unwrap())));
        let text = sentence(&failure);
        assert!(text.contains("/partitions: at least 1") && text.contains("did you mean 'x'?") && text.contains("request id r7"), "{text}");
        assert_eq!(problem(&failure)["errors"][0]["code"], "range");
    }
}
