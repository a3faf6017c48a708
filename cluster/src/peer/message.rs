//! What nodes say to each other: a small JSON head that both versions of a rolling upgrade can read, and a body that only its kind understands.
//!
//! ```text
//!   version (1 byte, = 1) │ length of the head (4, big-endian) │ head (JSON) │ body
//! ```
//!
//! Fields that are not known are ignored; a kind that is not known is answered with [`Refused::UnknownKind`]. Each head says who speaks and who is
//! meant, down to the store: a node whose store was emptied or replaced is another node, whatever its number (D5).

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidegate_types::NodeId;
use uuid::Uuid;

const VERSION: u8 = 1;
/// A head is a handful of ids.
const HEAD_BYTES_MAX: usize = 64 << 10;
const PREFIX_BYTES: usize = 1 + 4;

/// A message that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It ends before it should.
    #[error("the message is cut short")]
    Truncated,
    /// Of a version that is not known here.
    #[error("the message is of version {0}; this node speaks version {VERSION}")]
    Version(u8),
    /// The stated length of its head is not plausible.
    #[error("a head of {0} bytes is too long")]
    HeadTooLong(usize),
    /// The head is not what it should be.
    #[error("the head cannot be read: {0}")]
    Head(String),
}

/// A node, down to its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaker {
    /// Its id.
    pub node_id: NodeId,
    /// Its Raft store.
    pub store_id: Uuid,
}

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A candidate asks for a vote.
    RaftVote,
    /// A leader of the metadata quorum sends entries, or shows that it is there.
    RaftAppend,
    /// It sends the whole metadata.
    RaftSnapshot,
    /// What a newer node may say.
    #[serde(other)]
    Unknown,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it is about.
    pub kind: Kind,
    /// Who calls.
    pub from: Speaker,
    /// Who is meant.
    pub to: Speaker,
    /// The rest, as its kind has it.
    pub body: Bytes,
}

/// Why a node did not do what it was asked; it has done nothing then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The message was meant for another node, or for a store that this node no longer has.
    #[error("another node or store was meant")]
    NotMe,
    /// The caller's store is not the one that the cluster knows it by.
    #[error("the caller's store is not the one that the cluster knows: it was emptied or replaced, and the node must be replaced too")]
    UnknownStore,
    /// The call is of a kind that this node does not know.
    #[error("the kind of call is not known")]
    UnknownKind,
    /// The body cannot be read.
    #[error("the body cannot be read: {0}")]
    Malformed(String),
    /// The node is stopping, or its store has failed.
    #[error("the node does not work: {0}")]
    Stopped(String),
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who answers.
    pub from: Speaker,
    /// The body as the call's kind has it, or why there is none.
    pub result: Result<Bytes, Refused>,
}

#[derive(Serialize, Deserialize)]
struct RequestHead {
    kind: Kind,
    from: Speaker,
    to: Speaker,
}

#[derive(Serialize, Deserialize)]
struct AnswerHead {
    from: Speaker,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<Refused>,
}

impl Request {
    /// As it is carried.
    pub fn encode(&self) -> Bytes {
        frame(&RequestHead { kind: self.kind, from: self.from, to: self.to }, &self.body)
    }

    /// Reads what was carried.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(message: &Bytes) -> Result<Self, MessageError> {
        let (head, body): (RequestHead, _) = unframe(message)?;
        Ok(Self { kind: head.kind, from: head.from, to: head.to, body })
    }
}

impl Answer {
    /// As it is carried.
    pub fn encode(&self) -> Bytes {
        match &self.result {
            Ok(body) => frame(&AnswerHead { from: self.from, refused: None }, body),
            Err(refused) => frame(&AnswerHead { from: self.from, refused: Some(refused.clone()) }, &[]),
        }
    }

    /// Reads what was carried.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(message: &Bytes) -> Result<Self, MessageError> {
        let (head, body): (AnswerHead, _) = unframe(message)?;
        Ok(Self { from: head.from, result: head.refused.map_or(Ok(body), Err) })
    }
}

/// A head and a body in one piece; bodies of large calls are made so again.
pub(crate) fn frame<T: Serialize>(head: &T, body: &[u8]) -> Bytes {
    let head = match serde_json::to_vec(head) {
        Ok(head) => head,
        Err(error) => unreachable!("heads have no maps with odd keys: {error}"),
    };
    let mut message = BytesMut::with_capacity(PREFIX_BYTES + head.len() + body.len());
    message.put_u8(VERSION);
    message.put_u32(u32::try_from(head.len()).unwrap_or(u32::MAX));
    message.extend_from_slice(&head);
    message.extend_from_slice(body);
    message.freeze()
}

/// Takes apart what [`frame`] has made.
pub(crate) fn unframe<T: DeserializeOwned>(message: &Bytes) -> Result<(T, Bytes), MessageError> {
    let version = *message.first().ok_or(MessageError::Truncated)?;
    if version != VERSION {
        return Err(MessageError::Version(version));
    }
    let length = message[1..].first_chunk::<4>().ok_or(MessageError::Truncated)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > HEAD_BYTES_MAX {
        return Err(MessageError::HeadTooLong(length));
    }
    let end = PREFIX_BYTES + length;
    let head = message.get(PREFIX_BYTES..end).ok_or(MessageError::Truncated)?;
    let head = serde_json::from_slice(head).map_err(|error| MessageError::Head(error.to_string()))?;
    Ok((head, message.slice(end..)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn speaker(n: u8) -> Speaker {
        Speaker { node_id: NodeId::new(u64::from(n)), store_id: Uuid::from_u128(u128::from(n)) }
    }

    fn request() -> Request {
        Request { kind: Kind::RaftVote, from: speaker(1), to: speaker(2), body: Bytes::from_static(b"body") }
    }

    /// A promise: a call and its answer arrive as they were sent.
    #[test]
    fn messages_arrive_as_sent() {
        let request = request();
        assert_eq!(Request::decode(&request.encode()), Ok(request));
        for result in [Ok(Bytes::from_static(b"body")), Ok(Bytes::new()), Err(Refused::NotMe), Err(Refused::Malformed("so".to_owned()))] {
            let answer = Answer { from: speaker(2), result };
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
    }

    /// A promise: the bytes of a call are those that nodes of earlier versions send.
    #[test]
    fn a_request_keeps_its_bytes() {
        let head = br#"{"kind":"raft_vote","from":{"node_id":1,"store_id":"00000000-0000-0000-0000-000000000001"},"to":{"node_id":2,"store_id":"00000000-0000-0000-0000-000000000002"}}"#;
        let expected = [&[1, 0, 0, 0, u8::try_from(head.len()).unwrap()], head.as_slice(), b"body"].concat();
        assert_eq!(request().encode(), expected);
    }

    /// A promise: what a newer node adds is ignored, and a kind of call that it adds is recognised as unknown.
    #[test]
    fn newer_nodes_are_understood() {
        let newer = br#"{"kind":"raft_transfer_leader","hops":3,"from":{"node_id":1,"store_id":"00000000-0000-0000-0000-000000000001","zone":"b"},"to":{"node_id":2,"store_id":"00000000-0000-0000-0000-000000000002"}}"#;
        let message = Bytes::from([&[1, 0, 0, 0, u8::try_from(newer.len()).unwrap()], newer.as_slice()].concat());
        let decoded = Request::decode(&message).unwrap();
        assert_eq!((decoded.kind, decoded.from, decoded.to), (Kind::Unknown, speaker(1), speaker(2)));
    }

    /// A promise: a message that lies about its head is refused, and costs no memory.
    #[test]
    fn lying_messages_are_refused() {
        let message = request().encode();
        for end in 0..message.len() - 4 {
            assert!(Request::decode(&message.slice(..end)).is_err(), "cut at {end}");
        }
        let lie = |prefix: [u8; 5]| Request::decode(&Bytes::from([&prefix, &message[5..]].concat()));
        assert_eq!(lie([2, 0, 0, 0, 1]), Err(MessageError::Version(2)));
        assert_eq!(lie([1, 255, 255, 255, 255]), Err(MessageError::HeadTooLong(0xffff_ffff)));
        assert!(matches!(lie([1, 0, 0, 0, 3]), Err(MessageError::Head(_))));
    }

    proptest! {
        /// A promise: no bytes from the network make the decoder panic.
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            let _ = Request::decode(&bytes);
            let _ = Answer::decode(&bytes);
        }
    }
}
