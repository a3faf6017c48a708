//! `serve`: runs a node until it is told to stop.

use std::io::ErrorKind;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use super::config::{NodeArguments, load_or_fail};
use super::output::Output;
use crate::config::Config;
use crate::node::{Node, StartError};
use crate::{banner, telemetry};

/// What a shell shows for a program that SIGINT has ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Runs a node. Returns when it has stopped.
pub(super) fn run(arguments: &NodeArguments, output: &Output) -> Result<(), Failure> {
    let loaded = load_or_fail(arguments)?;
    telemetry::log_to_stderr(&loaded.config);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("tidegate").build()?;
    let outcome = runtime.block_on(serve(&loaded.config, output));
    // After an interrupted start a thread may still be reading the disk; nobody needs what it finds.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: &Config, output: &Output) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let node = tokio::select! {
        node = Node::start(config) => node.map_err(|error| Failure::Local(advised(&error, config)))?,
        // Nothing has been acknowledged yet, so that there is nothing to finish.
        name = signals.next() => {
            tracing::info!("{name} before the node was ready: it stops");
            return Ok(());
        }
    };
    if !output.is_quiet() {
        greet(config, &node, output)?;
    }
    let name = signals.next().await;
    tracing::info!("{name}: the node stops taking calls and finishes those under way; another signal stops it at once");
    tokio::select! {
        () = node.stop() => Ok(()),
        name = signals.next() => exit_at_once(name),
    }
}

/// Why a node did not start, and what to do where there is something to do.
fn advised(error: &StartError, config: &Config) -> String {
    match error {
        StartError::Listen { source, .. } => {
            let advice = match source.kind() {
                ErrorKind::AddrInUse => "\n  another program listens there, a node perhaps: stop it, or choose another port with --listen",
                ErrorKind::PermissionDenied => "\n  ports below 1024 are the system's: choose another with --listen",
                ErrorKind::AddrNotAvailable => "\n  this machine does not have that address: choose another with --listen",
                _ => "",
            };
            format!("{error}{advice}")
        }
        // The others name the directory themselves.
        StartError::Storage(error @ tidegate_storage::Error::Io { .. }) => {
            format!("the data directory {} (--data-dir) cannot be used: {error}", config.data_dir.display())
        }
        other => other.to_string(),
    }
}

/// Says that the node is ready. Whoever closed standard output still wants the node.
fn greet(config: &Config, node: &Node, output: &Output) -> Result<(), Failure> {
    match output.text(&banner::text(env!("CARGO_PKG_VERSION"), &config.data_dir, &node.base_url())) {
        Err(Failure::OutputClosed) => Ok(()),
        other => other,
    }
}

/// Leaves without finishing anything: as safe as a crash, which every promise survives.
#[expect(clippy::exit, reason = "the second signal asks for exactly that")]
fn exit_at_once(name: &str) -> ! {
    tracing::warn!("a second signal ({name}): the node exits at once");
    std::process::exit(EXIT_INTERRUPTED)
}

/// What tells the node to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
