//! How far a long job has come: a bar on standard error, if that is a terminal, and nothing anywhere else.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::records;

/// Redraws in a second, at most.
const REDRAWS: u8 = 20;
/// Columns that the bar leaves free.
const MARGIN: u16 = 4;

/// A bar, or nothing.
#[derive(Debug)]
pub(in crate::cli) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar for `length` bytes, or one that only counts.
    pub(in crate::cli) fn new(length: Option<u64>, is_wanted: bool) -> Self {
        if !is_wanted || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let (length, template) = match length {
            Some(length) => (Some(length), "{wide_bar} {percent:>3} %  {binary_bytes_per_sec}  {msg}"),
            None => (None, "{spinner} {binary_bytes}  {binary_bytes_per_sec}  {msg}"),
        };
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::term_like_with_hz(Box::new(Narrow), REDRAWS));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(Some(bar))
    }

    /// So many bytes more were read, and so many records are in.
    pub(in crate::cli) fn read(&self, bytes: u64, done: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
            bar.set_message(records(done));
        }
    }

    /// Lets something else be written where the bar is.
    pub(in crate::cli) fn aside(&self, write: impl FnOnce()) {
        match &self.0 {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar away.
    pub(in crate::cli) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Standard error as a terminal that ends before the real one does: so there is room behind the bar for the `^C` that a terminal writes. Otherwise that
/// would go to the next line, and the bar, which is taken away from the line that the cursor is on, would stay.
#[derive(Debug)]
struct Narrow;

impl Narrow {
    fn put(text: &str) -> io::Result<()> {
        io::stderr().write_all(text.as_bytes())
    }

    fn go(columns: usize, letter: char) -> io::Result<()> {
        // None would be taken for one.
        if columns == 0 { Ok(()) } else { Self::put(&format!("\x1b[{columns}{letter}")) }
    }
}

impl TermLike for Narrow {
    fn width(&self) -> u16 {
        let size = rustix::termios::tcgetwinsize(io::stderr());
        size.ok().map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(80).saturating_sub(MARGIN).max(1)
    }

    fn move_cursor_up(&self, rows: usize) -> io::Result<()> {
        Self::go(rows, 'A')
    }

    fn move_cursor_down(&self, rows: usize) -> io::Result<()> {
        Self::go(rows, 'B')
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        Self::go(columns, 'C')
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        Self::go(columns, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        Self::put(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        Self::put(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        Self::put("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}
