//! How far a long job has come: a bar on standard error, if that is a terminal, and nothing anywhere else.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::records;

/// A bar, or nothing.
#[derive(Debug)]
pub(in crate::cli) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar for `length` bytes, or one that only counts.
    pub(in crate::cli) fn new(length: Option<u64>, is_wanted: bool) -> Self {
        if !is_wanted || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let (bar, template) = match length {
            Some(length) => (ProgressBar::new(length), "{wide_bar} {percent:>3} %  {binary_bytes_per_sec}  {msg}"),
            None => (ProgressBar::new_spinner(), "{spinner} {binary_bytes}  {binary_bytes_per_sec}  {msg}"),
        };
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

    /// Takes the bar away.
    pub(in crate::cli) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
