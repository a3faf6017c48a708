//! Waiting for those who work at the same time.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::Failure;
use super::super::signals::Signals;
use super::schedule::Schedule;

/// How long answers are still waited for after Ctrl-C, or whatever ends it.
const AFTER_INTERRUPT: Duration = Duration::from_secs(1);

/// Waits until all have ended. A signal ends the schedule; who then still waits for an answer is left behind soon.
///
/// # Errors
/// If one of them broke off, which is our own mistake; the system's, if it has no room for listeners.
pub(crate) async fn join(mut tasks: JoinSet<()>, schedule: &Schedule) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let mut patience = None;
    loop {
        let until = patience.unwrap_or_else(Instant::now);
        tokio::select! {
            done = tasks.join_next() => match done {
                Some(done) => done.map_err(|error| Failure::Local(format!("a worker broke off: {error}")))?,
                None => return Ok(()),
            },
            stop = signals.next(), if patience.is_none() => {
                schedule.stop(stop);
                patience = Some(Instant::now() + AFTER_INTERRUPT);
            }
            () = tokio::time::sleep_until(until), if patience.is_some() => {
                tasks.shutdown().await;
                return Ok(());
            }
        }
    }
}
