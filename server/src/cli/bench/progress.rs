//! A line on the terminal that says how far it is; nowhere else, and never with `--quiet`.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// A line that goes away when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// indicatif draws on a terminal only.
    pub(crate) fn new(is_quiet: bool) -> Arc<Self> {
        let target = if is_quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {human_pos} records, {rate}/s, {elapsed}") {
            bar.set_style(style.with_key("rate", rate));
        }
        Arc::new(Self { bar })
    }

    /// What is being done from now on.
    pub(crate) fn phase(&self, what: &'static str) {
        self.bar.reset();
        self.bar.set_message(what);
        self.bar.enable_steady_tick(Duration::from_millis(250));
    }

    /// So many records more.
    pub(crate) fn add(&self, records: u64) {
        self.bar.inc(records);
    }
}

/// In whole records.
fn rate(state: &ProgressState, out: &mut dyn std::fmt::Write) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a figure for people, not negative")]
    let rate = state.per_sec() as u64;
    // Nobody can help it if the line cannot be written.
    let _ = write!(out, "{}", HumanCount(rate));
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
