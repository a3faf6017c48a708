//! The signals that end what must be brought to an end, `produce` and `bench`: Ctrl-C, and what a system that shuts down and a terminal that goes away
//! send. All are answered the same way.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// What somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Ctrl-C.
    Interrupt,
    Terminate,
    HangUp,
}

impl Stop {
    /// What the process ends with: as a shell says it of a process that the signal has ended.
    pub(crate) const fn failure(self) -> Failure {
        match self {
            Self::Interrupt => Failure::Interrupted,
            Self::Terminate => Failure::Signalled(15),
            Self::HangUp => Failure::Signalled(1),
        }
    }

    /// How the account begins.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupted",
            Self::Terminate => "ended by SIGTERM",
            Self::HangUp => "ended by SIGHUP",
        }
    }
}

/// Listens to them.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` if it is to be ignored, as `nohup` asks.
    hang_up: Option<Signal>,
}

impl Signals {
    /// From now on they end nothing by themselves.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let hang_up = if is_ignored(1) { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hang_up })
    }

    /// The next one. May be dropped and asked for again.
    pub(crate) async fn next(&mut self) -> Stop {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Stop::Interrupt,
            _ = self.terminate.recv() => Stop::Terminate,
            _ = hang_up => Stop::HangUp,
        }
    }
}

/// Whether whoever started this process has it ignore that signal, where the system tells.
fn is_ignored(number: u32) -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, number))
}

fn ignores(status: &str, number: u32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a signal that is to be ignored is known as such, and no other.
    #[test]
    fn ignored_signals() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, 1) && ignores(status, 13) && !ignores(status, 15));
        assert!(!ignores("Name:\tx\n", 1) && !ignores("SigIgn:\tx\n", 1));
    }
}
