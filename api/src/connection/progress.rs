//! How far a connection is: what its socket and its calls know of each other.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What the socket and the calls of one connection know of each other.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Counts reads and writes.
    moved: AtomicU64,
    phase: AtomicU8,
}

/// Between requests, or before the first.
pub(super) const IDLE: u8 = 0;
/// A part of a head is there.
pub(super) const IN_HEAD: u8 = 1;
/// A request is being answered.
pub(super) const BUSY: u8 = 2;

impl Progress {
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
    }
}
