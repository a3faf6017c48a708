//! First floor: what lies on a disk. Knows segments, offsets and syncs; knows nothing of leaders, networks or who may read what.
//!
//! Its promise: **what [`PartitionLog::sync`] has covered is there after any crash**, in order, at its offsets; what it has not covered is
//! there or is not, from some batch on. What is there and damaged is refused with its path and position, never skipped.
//!
//! ```text
//!   log start          recovery point        synced end       log end
//!      │  sealed segments  │       active segment  │  written    │
//!   ───┼───────────────────┼───────────────────────┼─────────────┼──>  offsets
//!      └── any damage here is refused ─────────────┘             │
//!                                   └ at start: a torn tail is cut┘
//!
//!   what lies before the log start is given up: unreadable at once, its files removed later
//!
//!   log_start ≤ recovery_point ≤ synced_end ≤ log_end
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`store`] | the data directory: lock, format version, identities, opening and dropping logs |
//! | [`log`] | one partition's log: append, sync, roll, trim, retention; one writer |
//! | [`compact`] | of each key only the latest record stays |
//! | [`reader`] | reading beside the writer, without a lock |
//! | [`range`] | stored batches as stretches of files, to be sent unread |
//! | [`segment`] | one file of batches: active, then sealed |
//! | `disk` | what all logs share: the file system, open segments, the room that is left |
//! | `shelf` | the sealed segments that are open |
//! | `vouched` | what a start may believe without reading |
//! | [`index`] | sparse index from offset to position |
//! | [`time_index`] | sparse index from timestamp to offset |
//! | `last_stop` | whether the node before was stopped, killed, or lost its machine |
//! | [`recovery`] | opening a log: scan, cut a torn tail, refuse damage |
//! | `epochs` | which leader wrote what |
//! | [`producers`] | who wrote what, so that a repeated request is recognised |
//! | [`checkpoint`] | small text files, written atomically |
//! | [`sync`] | the threads that write and sync, away from the runtime |
//! | [`inspect`] | dump, verify and repair, for people |
//! | [`kv`] | RocksDB: the Raft log and small keyed state |
//! | [`io`] | the seam to the file system, where tests make disks lie |

pub mod checkpoint;
pub mod compact;
mod disk;
mod epochs;
pub mod error;
#[cfg(test)]
mod history;
pub mod index;
pub mod inspect;
pub mod io;
pub mod kv;
mod last_stop;
pub mod log;
pub mod producers;
pub mod range;
pub mod reader;
pub mod recovery;
pub mod segment;
mod shelf;
pub mod store;
pub mod sync;
pub mod time_index;
mod vouched;

pub use compact::{Compacted, CompactionPolicy, CompactionReport, Compactor, Dirt, Outcome, Round};
pub use error::Error;
pub use last_stop::LastStop;
pub use log::{Expired, LogConfig, PartitionLog, Replaced, RetentionPolicy, Trimmed};
pub use producers::{KeyRules, Producers, Verdict};
pub use range::{FileRange, Located};
pub use reader::{LogReader, ReadMode, ReadOutcome};
pub use recovery::RecoveryReport;
pub use store::{Identity, Store};
pub use sync::DiskPool;
