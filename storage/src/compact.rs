//! Compaction: of each key only the latest record stays, at its offset.
//!
//! ```text
//!   first dirty          round's end   active segment        before the first dirty offset every key's older records are gone already
//!  ───┼──────────────────────┼──────────────┼─────────>
//!     └─ 1 key map: latest ──┘                               in bounded memory: when it is full, the round ends there
//!  └──── 2 segments, in ─────┘                               oldest first, so that no older record outlives a younger one
//!          groups, rewritten
//!
//!   rewrite          1 write <base>.log.cleaned, sync it         until here a crash changes nothing: it is removed
//!   install          2 rename it to <base>.log.swap, sync dir    from here on it stands for the segments that it covers
//!                    3 replace them in the list of segments      who still reads the old ones reads on
//!   Replaced::finish 4 remove the old files, sync dir
//!                    5 rename it to <base>.log, sync dir
//! ```
//!
//! The last batch of what is rewritten stays, empty if need be: so a segment still ends where the next one begins, the log's end never moves,
//! and whoever reads at any offset finds a batch that ends behind it. Within a segment offsets may be missing from then on; that this is so
//! is noted (in `cleaner-offset-checkpoint`) before the first such segment is installed, and a log without that note is still refused if
//! something is missing.

mod key_map;
mod pace;
mod plan;
mod retain;
mod rewrite;
mod round;
mod settle;

pub use plan::{CompactionPolicy, Dirt};
pub use rewrite::Compacted;
pub(crate) use rewrite::Home;
pub(crate) use round::CleanNote;
pub use round::{CompactionReport, Compactor, Outcome, Round};
pub(crate) use settle::{settle, with_good_swaps, with_swaps};

/// What is being written.
pub(crate) const CLEANED: &str = "log.cleaned";
/// What is whole, and on its way to replace what it covers.
pub(crate) const SWAP: &str = "log.swap";

#[cfg(test)]
mod tests;
