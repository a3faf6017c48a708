//! Node-to-node calls: what is said ([`message`]) and the door through which it is carried ([`Transport`]).
//!
//! HTTP in life, memory in tests and in simulation; this floor never learns which.

pub mod message;

use std::fmt;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tidegate_types::NodeId;

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The node that is meant; the message says so too.
    pub node_id: NodeId,
    /// Its peer address, `host:port`.
    pub address: String,
}

/// A call that brought no answer. It may have arrived all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node {node_id} was not reached: {reason}")]
pub struct Unreachable {
    /// The node that was meant.
    pub node_id: NodeId,
    /// Why.
    pub reason: String,
}

/// Carries an encoded [`message::Request`] to a node and brings its encoded [`message::Answer`] back.
///
/// Calls to one node may overtake each other. The caller bounds the time; dropping the future gives the call up.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Makes one call.
    fn call<'a>(&'a self, to: &'a Destination, request: Bytes) -> BoxFuture<'a, Result<Bytes, Unreachable>>;
}

/// The transport of a node that has no peers: nobody is ever reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPeers;

impl Transport for NoPeers {
    fn call<'a>(&'a self, to: &'a Destination, _: Bytes) -> BoxFuture<'a, Result<Bytes, Unreachable>> {
        let error = Unreachable { node_id: to.node_id, reason: "this node takes no peers".to_owned() };
        Box::pin(std::future::ready(Err(error)))
    }
}
