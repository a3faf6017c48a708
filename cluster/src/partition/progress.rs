//! How far a partition has come, and what may therefore be read and acknowledged.
//!
//! Pure: no clock, no tasks, no disk. The partition task feeds it what the disk has done.
//!
//! ```text
//!   log_start ≤ high_watermark ≤ counted ≤ log_end
//! ```

use tidegate_types::Offset;
use tidegate_types::topic_config::Durability;

/// Progress of one partition, as its leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    durability: Durability,
    log_end: Offset,
    synced_end: Offset,
    high_watermark: Offset,
}

impl Progress {
    /// A log just recovered: everything in it is synced, so everything in it counts.
    pub(crate) fn recovered(durability: Durability, log_end: Offset) -> Self {
        Self { durability, log_end, synced_end: log_end, high_watermark: log_end }
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    pub(crate) fn log_end(&self) -> Offset {
        self.log_end
    }

    pub(crate) fn synced_end(&self) -> Offset {
        self.synced_end
    }

    /// Whether something is written that counts only once it is synced: after a topic turned to `fsync`.
    pub(crate) fn needs_sync(&self) -> bool {
        self.durability == Durability::Fsync && self.synced_end < self.log_end
    }

    /// The disk reports its two ends. Gives the new high watermark if it moved.
    pub(crate) fn disk(&mut self, log_end: Offset, synced_end: Offset) -> Option<Offset> {
        assert!(
            self.log_end <= log_end && self.synced_end <= synced_end && synced_end <= log_end,
            "a log only grows, and syncs what it has"
        );
        self.log_end = log_end;
        self.synced_end = synced_end;
        self.advance()
    }

    /// The topic changes what counts. What is acknowledged stays acknowledged.
    pub(crate) fn set_durability(&mut self, durability: Durability) -> Option<Offset> {
        self.durability = durability;
        self.advance()
    }

    /// Our own position: with `fsync` the leader counts like anybody, what is on no disk is not there.
    fn counted(&self) -> Offset {
        match self.durability {
            Durability::Fsync => self.synced_end,
            Durability::Replicated => self.log_end,
        }
    }

    fn advance(&mut self) -> Option<Offset> {
        let counted = self.counted();
        if counted <= self.high_watermark {
            return None;
        }
        self.high_watermark = counted;
        Some(counted)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offset(n: u64) -> Offset {
        Offset::new(n).unwrap()
    }

    /// A promise: with `fsync` nothing unsynced is readable; with `replicated` what is written is.
    #[test]
    fn only_what_counts_is_readable() {
        let mut fsync = Progress::recovered(Durability::Fsync, offset(5));
        assert_eq!(fsync.disk(offset(9), offset(5)), None);
        assert_eq!(fsync.disk(offset(9), offset(9)), Some(offset(9)));
        let mut replicated = Progress::recovered(Durability::Replicated, offset(5));
        assert_eq!(replicated.disk(offset(9), offset(5)), Some(offset(9)));
    }

    proptest! {
        /// A promise: what was readable stays readable, whatever the disk reports and the operator changes, and it never passes what is written.
        #[test]
        fn high_watermark_never_retreats(steps in proptest::collection::vec((0_u64..5, 0_u64..5, any::<bool>()), 0..50)) {
            let mut progress = Progress::recovered(Durability::Fsync, Offset::ZERO);
            let (mut end, mut synced) = (0, 0);
            for (written, sync, fsync) in steps {
                end += written;
                synced = (synced + sync).min(end);
                let before = progress.high_watermark();
                progress.disk(offset(end), offset(synced));
                progress.set_durability(if fsync { Durability::Fsync } else { Durability::Replicated });
                prop_assert!(before <= progress.high_watermark() && progress.high_watermark() <= progress.log_end());
            }
        }
    }
}
