//! What this process uses while it measures: on a shared machine it takes from the node.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Begins to count.
#[derive(Debug)]
pub(crate) struct Meter {
    start: Instant,
    cpu: Duration,
}

/// Time that has gone by, and CPU time of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu_time() }
    }

    pub(crate) fn used(&self) -> Used {
        Used { elapsed: self.start.elapsed(), cpu: cpu_time().saturating_sub(self.cpu) }
    }
}

impl Used {
    /// Of one core.
    pub(crate) fn share(self) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { self.cpu.as_secs_f64() / self.elapsed.as_secs_f64() }
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
