//! `serve`: runs a node until it is told to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use super::config::{NodeArguments, load_or_fail};
use super::output::Output;
use crate::config::Config;
use crate::node::Node;
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
        node = Node::start(config) => node.map_err(|error| Failure::Local(error.to_string()))?,
        // Nothing has been acknowledged yet, so that there is nothing to finish.
        name = signals.next() => {
            tracing::info!("{name} before the node was ready: it stops");
            return Ok(());
        }
    };
    greet(config, &node, output)?;
    let name = signals.next().await;
    tracing::info!("{name}: the node stops taking calls and finishes those under way; another signal stops it at once");
    tokio::select! {
        () = node.stop() => Ok(()),
        name = signals.next() => exit_at_once(name),
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
