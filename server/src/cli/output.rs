//! What verbs write: tables for people, JSON or YAML with the API's own names for programs. Nothing else of this binary touches standard output.
//!
//! | format | one result | a list |
//! |---|---|---|
//! | `table`, `wide` | what the verb makes of it | a table; `wide` has more columns |
//! | `json` | one object, over several lines | one array |
//! | `ndjson` | one object on one line | one object a line |
//! | `yaml` | one document | one document, a sequence |
//! | `name` | its name | names, one a line |

use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::Failure;

mod table;

pub(super) use table::{Field, Tone, paint, styled_table, table};

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people (default)
    Table,
    /// The same with more columns
    Wide,
    /// For programs: the field names are the API's
    Json,
    /// As json, in YAML
    Yaml,
    /// One JSON object a line
    Ndjson,
    /// Names only, one a line
    Name,
}

impl Format {
    /// Whether a program is to read it: then errors are objects, too.
    pub(super) const fn is_for_programs(self) -> bool {
        matches!(self, Self::Json | Self::Yaml | Self::Ndjson)
    }
}

/// What a verb may use when it writes for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// More columns.
    pub(super) wide: bool,
    /// Colours.
    pub(super) colour: bool,
    /// Characters in a line, if it is a terminal.
    pub(super) width: Option<u16>,
}

/// Where results, words and failures go.
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
    /// Somebody asked for that format.
    is_chosen: bool,
    quiet: bool,
    /// Colours are wanted where there is a terminal.
    colour: bool,
}

impl Output {
    pub(super) const fn new(format: Format, quiet: bool, colour: bool) -> Self {
        Self { format, is_chosen: true, quiet, colour }
    }

    /// Whether somebody asked for that format; if nobody did, a verb may know better what suits a pipe.
    #[must_use]
    pub(super) const fn chosen(mut self, is_chosen: bool) -> Self {
        self.is_chosen = is_chosen;
        self
    }

    /// As [`Output::chosen`] was told; if it was not, the format was chosen.
    pub(super) const fn is_chosen(&self) -> bool {
        self.is_chosen
    }

    /// How results are written.
    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// Whether nothing but results and errors is wanted.
    pub(super) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// What a text for people may use.
    pub(super) fn look(&self) -> Look {
        let stdout = std::io::stdout();
        let is_terminal = stdout.is_terminal();
        let width = if is_terminal { rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col).filter(|w| *w > 0) } else { None };
        Look { wide: self.format == Format::Wide, colour: self.colour && is_terminal, width }
    }

    /// Whether standard output is a terminal and a text is written to it: then a watched state is drawn over itself.
    pub(super) fn is_screen(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide) && std::io::stdout().is_terminal()
    }

    /// Writes a result that has no name: `value` for programs, or what `text` makes of it.
    pub(super) fn result(&self, value: &impl Serialize, text: impl FnOnce(Look) -> String) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Wide | Format::Name => self.text(&text(self.look())),
            Format::Json | Format::Yaml | Format::Ndjson => self.value(value),
        }
    }

    /// Writes one result that has a name.
    pub(super) fn named(&self, name: &str, value: &impl Serialize, text: impl FnOnce(Look) -> String) -> Result<(), Failure> {
        if self.format == Format::Name { self.text(name) } else { self.result(value, text) }
    }

    /// Writes a list of things that have names.
    pub(super) fn list<T: Serialize>(
        &self,
        items: &[T],
        name: impl Fn(&T) -> String,
        text: impl FnOnce(Look) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Name => self.lines(items.iter().map(name)),
            Format::Ndjson => {
                let lines = items.iter().map(|item| serde_json::to_string(item).map_err(|error| Failure::Local(error.to_string())));
                self.lines(lines.collect::<Result<Vec<_>, _>>()?)
            }
            Format::Table | Format::Wide => self.text(&text(self.look())),
            Format::Json | Format::Yaml => self.value(&items),
        }
    }

    /// Writes one of many objects, of which nobody knows how many will come: JSON, one a line (YAML: a document each), or a text.
    pub(super) fn item(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Wide | Format::Name => self.text(&text()),
            Format::Json | Format::Ndjson => self.text(&compact(value)?),
            Format::Yaml => self.text(&format!("---\n{}", yaml(value)?)),
        }
    }

    fn value(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = match self.format {
            Format::Yaml => yaml(value)?,
            Format::Ndjson => compact(value)?,
            Format::Table | Format::Wide | Format::Name | Format::Json => {
                serde_json::to_string_pretty(value).map_err(|error| Failure::Local(error.to_string()))?
            }
        };
        self.text(&text)
    }

    /// Writes a text and ends it with a line break; nothing if it is empty.
    pub(super) fn text(&self, text: &str) -> Result<(), Failure> {
        let text = text.trim_end();
        if text.is_empty() {
            return Ok(());
        }
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.write_all(b"\n")?;
        stdout.flush()?;
        Ok(())
    }

    fn lines(&self, lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
        self.text(&lines.into_iter().collect::<Vec<_>>().join("\n"))
    }

    /// Draws over what the last call has drawn, which took `rows` of the screen; returns how many this takes. Only for a screen.
    pub(super) fn redraw(&self, rows: usize, text: &str) -> Result<usize, Failure> {
        let back = if rows == 0 { String::new() } else { format!("\x1b[{rows}A\r\x1b[J") };
        self.text(&format!("{back}{text}"))?;
        Ok(rows_of(text.trim_end(), self.look().width))
    }

    /// Whether anything is said that is no result.
    pub(super) const fn notes_are_wanted(&self) -> bool {
        !self.quiet
    }

    /// Says something on standard error that is no result, unless `--quiet`.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// Says on standard error why a verb failed.
    pub(super) fn failure(&self, failure: &Failure) {
        let colour = self.colour && std::io::stderr().is_terminal();
        let text = match self.format {
            Format::Table | Format::Wide | Format::Name => failure.sentence(&paint(colour, Tone::Bad, "error:")),
            Format::Json | Format::Ndjson => failure.problem().map(|problem| problem.to_string()),
            Format::Yaml => failure.problem().and_then(|problem| yaml(&problem).ok()),
        };
        if let Some(text) = text {
            self.say(&text);
        }
    }

    fn say(&self, text: &str) {
        // Nobody is left to tell if standard error is gone too.
        drop(writeln!(std::io::stderr(), "{}", text.trim_end()));
    }
}

/// Rows that a text takes on a screen, which breaks what is longer than it is wide.
fn rows_of(text: &str, width: Option<u16>) -> usize {
    // What stands between ESC and `m` is a colour and takes no room.
    let visible = |line: &str| {
        let mut parts = line.split('\x1b');
        let first = parts.next().map_or(0, |part| part.chars().count());
        first + parts.map(|part| part.split_once('m').map_or(0, |(_, rest)| rest.chars().count())).sum::<usize>()
    };
    let width = width.map_or(usize::MAX, usize::from).max(1);
    text.lines().map(|line| visible(line).div_ceil(width).max(1)).sum()
}

fn compact(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Local(error.to_string()))
}

fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    serde_yaml_ng::to_string(value).map_err(|error| Failure::Local(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: what is drawn over itself knows how many rows it took, lines that the screen broke and colours included.
    #[test]
    fn rows_are_counted() {
        assert_eq!(rows_of("", Some(10)), 0);
        assert_eq!(rows_of("abc\n\ndef", Some(10)), 3);
        assert_eq!(rows_of("0123456789", Some(10)), 1);
        assert_eq!(rows_of("0123456789a", Some(10)), 2);
        assert_eq!(rows_of(&format!("{}789", paint(true, Tone::Bad, "0123456")), Some(10)), 1);
        assert_eq!(rows_of(&"x".repeat(1000), None), 1);
    }
}
