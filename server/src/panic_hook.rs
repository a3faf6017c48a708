//! A panic anywhere ends the process.
//!
//! A task that has died leaves its callers waiting and its invariants broken; recovery is the ordinary start, so the node goes there.

use std::backtrace::Backtrace;
use std::io::Write;
use std::panic::PanicHookInfo;

/// Makes every panic from now on write what it knows and abort the process.
pub fn install() {
    std::panic::set_hook(Box::new(|info| {
        report(info);
        std::process::abort();
    }));
}

fn report(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed").to_owned();
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let message = info.payload_as_str().unwrap_or("no message");
    let backtrace = Backtrace::capture();
    if tracing::dispatcher::has_been_set() {
        tracing::error!(thread = name, place, %backtrace, "panic: {message}; the process aborts");
    } else {
        // Nobody is left to tell if standard error is gone too.
        drop(writeln!(std::io::stderr(), "panic in thread '{name}' at {place}: {message}; the process aborts\n{backtrace}"));
    }
}
