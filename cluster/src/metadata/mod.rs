//! Topics, nodes and configs, agreed on by Raft.
//!
//! The broker sees a [`MetadataQuorum`](quorum::MetadataQuorum) and the images that it publishes; that Raft is behind it, and whose, stays in here.
//!
//! ```text
//!   broker ── propose(Command) ──> quorum ──> Raft log (synced) ──> state.apply ──> image ── watch ──> everybody
//!                                               storage::kv          (pure)          (immutable)
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`quorum`] | the trait, and its assembly on Raft |
//! | [`command`] | what the log says |
//! | [`state`] | what a command does: pure |
//! | [`image`] | what everybody reads |
//! | `records`, `codec` | the state as it is stored |
//! | `raft` | the types that Raft works on, and how they are stored |
//! | `log_store`, `state_machine` | Raft's storage, on `storage::kv` |
//! | `network` | Raft's calls to other nodes, on [`crate::peer`] |

mod codec;
pub mod command;
pub mod image;
mod log_store;
mod network;
pub mod quorum;
mod raft;
mod records;
pub mod state;
mod state_machine;

pub use codec::CodecError;
