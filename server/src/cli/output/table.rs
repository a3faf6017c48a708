//! Tables without a frame, that can be read and also cut by a program; numbers and colours for people.

use clap::builder::styling::{AnsiColor, Effects, Style};
use comfy_table::{Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};
use indicatif::HumanCount;

use super::Look;
use crate::cli::record::screen::visible;

/// How a field is meant, shown by a colour where there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Tone {
    Plain,
    Good,
    Doubtful,
    Bad,
}

/// A text in a table, with its tone; nothing in it acts on a terminal.
#[derive(Debug, Clone)]
pub(in super::super) struct Field {
    text: String,
    tone: Tone,
    is_number: bool,
}

impl Field {
    pub(in super::super) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: visible(text.into().as_bytes()), tone, is_number: false }
    }

    /// A number that may be typed in again: an offset, an index. Its column is aligned to the right.
    #[expect(clippy::needless_pass_by_value, reason = "numbers are small")]
    pub(in super::super) fn number(number: impl ToString) -> Self {
        Self { is_number: true, ..Self::new(Tone::Plain, number.to_string()) }
    }

    /// How many there are of something: a number that is only read.
    pub(in super::super) fn count(count: u64) -> Self {
        Self::number(HumanCount(count))
    }

    /// The same in that tone.
    pub(in super::super) fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    fn cell(&self) -> Cell {
        let cell = Cell::new(&self.text);
        match self.tone {
            Tone::Plain => cell,
            Tone::Good => cell.fg(comfy_table::Color::Green),
            Tone::Doubtful => cell.fg(comfy_table::Color::Yellow),
            Tone::Bad => cell.fg(comfy_table::Color::Red).add_attribute(Attribute::Bold),
        }
    }
}

impl<T: Into<String>> From<T> for Field {
    fn from(text: T) -> Self {
        Self::new(Tone::Plain, text)
    }
}

/// `text` in its tone, if there are colours.
pub(in super::super) fn paint(colour: bool, tone: Tone, text: &str) -> String {
    let style = match tone {
        _ if !colour => return text.to_owned(),
        Tone::Plain => return text.to_owned(),
        Tone::Good => AnsiColor::Green.on_default(),
        Tone::Doubtful => AnsiColor::Yellow.on_default(),
        Tone::Bad => Style::new().fg_color(Some(AnsiColor::Red.into())).effects(Effects::BOLD),
    };
    format!("{style}{text}{style:#}")
}

/// A table with a head and no frame, whatever the width.
pub(in super::super) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let look = Look { wide: false, colour: false, width: None };
    styled_table(look, head, rows.into_iter().map(|row| row.into_iter().map(Field::from).collect()))
}

/// The same in colour; where the terminal is too narrow, the last column is broken into lines.
pub(in super::super) fn styled_table(look: Look, head: &[&str], rows: impl IntoIterator<Item = Vec<Field>>) -> String {
    /// A last column narrower than this is worse than a line that the terminal breaks.
    const LAST_COLUMN_MIN: u16 = 20;
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(head.iter().map(Cell::new));
    let mut has_numbers = vec![false; head.len()];
    for row in rows {
        for (column, field) in has_numbers.iter_mut().zip(&row) {
            *column |= field.is_number;
        }
        table.add_row(row.iter().map(Field::cell).collect::<Vec<_>>());
    }
    let last = head.len().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 3 }));
        if has_numbers.get(index) == Some(&true) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let others: u16 = table.column_max_content_widths().iter().take(last).map(|width| width.saturating_add(3)).sum();
    match look.width {
        Some(width) if width >= others.saturating_add(LAST_COLUMN_MIN) => {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            let widths = table.column_max_content_widths();
            for (index, column) in table.column_iter_mut().enumerate().take(last) {
                column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(widths[index].saturating_add(3))));
            }
        }
        _ => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    if look.colour {
        table.enforce_styling();
        table.style_text_only();
    } else {
        table.force_no_tty();
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

    /// A promise: numbers stand under each other digit by digit, and a text that would act on a terminal only shows that it would.
    #[test]
    fn numbers_are_aligned() {
        let look = Look { wide: false, colour: false, width: None };
        let rows = [vec![Field::from("a\x1b]0;owned\x07"), Field::count(1_234)], vec!["b".into(), Field::number(7)]];
        let text = styled_table(look, &["NAME", "N"], rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(!text.contains(['\x1b', '\x07']), "{text:?}");
        assert!(lines[1].ends_with("   1,234") && lines[2].ends_with("       7"), "{text}");
        assert_eq!(lines[0].len(), lines[1].len(), "{text}");
    }

    /// A promise: on a narrow terminal only the last column is broken, and no line is longer than the terminal is wide.
    #[test]
    fn the_last_column_is_broken() {
        let look = Look { wide: false, colour: false, width: Some(40) };
        let row = ["segment.bytes", "Size at which a new segment is begun."].map(Field::from).to_vec();
        let text = styled_table(look, &["KEY", "MEANING"], [row]);
        assert_eq!(text, "KEY             MEANING\nsegment.bytes   Size at which a new\n                segment is begun.");
    }

    /// A promise: colours are there only where they are wanted.
    #[test]
    fn colours_are_asked_for() {
        let row = vec![Field::new(Tone::Good, "ok"), Field::from("x")];
        for colour in [false, true] {
            let look = Look { wide: false, colour, width: None };
            let text = styled_table(look, &["A", "B"], [row.clone()]);
            assert_eq!(text.contains('\x1b'), colour, "{text:?}");
            assert_eq!(paint(colour, Tone::Bad, "x").contains('\x1b'), colour);
        }
    }
}
