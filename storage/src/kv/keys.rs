//! What a key of the store looks like: one leading byte that says its kind, then what tells it from others of its kind.
//!
//! Ordinals are on disk: they are never renumbered and never given to something else. Numbers in keys are big-endian, so that the order of
//! keys is the order of numbers.
//!
//! | kind | rest of the key | value |
//! |---|---|---|
//! | 1 identity | – | format version (1 byte), store id (16), node id (8, big-endian) |
//! | 2 vote | – | opaque |
//! | 3 committed | – | opaque |
//! | 4 last purged | – | opaque |
//! | 5 log entry | index (8) | opaque |
//! | 6 applied | – | opaque |
//! | 7 metadata: cluster | – | opaque |
//! | 8 metadata: node | node id (8) | opaque |
//! | 9 metadata: topic | topic id (16) | opaque |
//! | 10 snapshot header | – | last index + 1 (8, big-endian), then opaque |
//! | 11 snapshot data | – | opaque |
//! | 12 metadata: producer | name (UTF-8, 1 to 128 bytes) | opaque |

use tidegate_types::{NodeId, TopicId};
use uuid::Uuid;

/// What a key is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum KeyKind {
    Identity = 1,
    Vote = 2,
    Committed = 3,
    LastPurged = 4,
    LogEntry = 5,
    Applied = 6,
    MetadataCluster = 7,
    MetadataNode = 8,
    MetadataTopic = 9,
    SnapshotHeader = 10,
    SnapshotData = 11,
    MetadataProducer = 12,
}

impl KeyKind {
    /// The leading byte.
    pub(super) const fn ordinal(self) -> u8 {
        self as u8
    }

    /// The whole key of a kind of which there is one.
    pub(super) const fn only(self) -> [u8; 1] {
        [self.ordinal()]
    }
}

/// The key of a log entry.
pub(super) fn log_entry(index: u64) -> [u8; 9] {
    numbered(KeyKind::LogEntry, index)
}

/// The index in a log entry's key; `None` if it is not one.
pub(super) fn log_index(key: &[u8]) -> Option<u64> {
    match key.split_first() {
        Some((kind, index)) if *kind == KeyKind::LogEntry.ordinal() => Some(u64::from_be_bytes(index.try_into().ok()?)),
        _ => None,
    }
}

/// The first key after all log entries.
pub(super) const LOG_END: [u8; 1] = [KeyKind::LogEntry.ordinal() + 1];
/// The first key of the metadata and the first after it, twice: some of its kinds are neighbours.
pub(super) const METADATA: [([u8; 1], [u8; 1]); 2] = [
    ([KeyKind::MetadataCluster.ordinal()], [KeyKind::MetadataTopic.ordinal() + 1]),
    ([KeyKind::MetadataProducer.ordinal()], [KeyKind::MetadataProducer.ordinal() + 1]),
];

const _: () = assert!(KeyKind::MetadataCluster.ordinal() < KeyKind::MetadataNode.ordinal());
const _: () = assert!(KeyKind::MetadataNode.ordinal() < KeyKind::MetadataTopic.ordinal());

/// One thing of the metadata that has a value of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetadataKey {
    /// What there is one of.
    Cluster,
    /// A node's registration.
    Node(NodeId),
    /// A topic with its partitions.
    Topic(TopicId),
    /// A producer that has a name.
    Producer(String),
}

impl MetadataKey {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Cluster => KeyKind::MetadataCluster.only().to_vec(),
            Self::Node(id) => numbered(KeyKind::MetadataNode, id.get()).to_vec(),
            Self::Topic(id) => [KeyKind::MetadataTopic.only().as_slice(), id.get().as_bytes()].concat(),
            Self::Producer(name) => [KeyKind::MetadataProducer.only().as_slice(), name.as_bytes()].concat(),
        }
    }

    /// `None` if `key` is none of the metadata.
    pub(super) fn decode(key: &[u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        if *kind == KeyKind::MetadataCluster.ordinal() && rest.is_empty() {
            Some(Self::Cluster)
        } else if *kind == KeyKind::MetadataNode.ordinal() {
            Some(Self::Node(NodeId::new(u64::from_be_bytes(rest.try_into().ok()?))))
        } else if *kind == KeyKind::MetadataTopic.ordinal() {
            Some(Self::Topic(TopicId::new(Uuid::from_slice(rest).ok()?)))
        } else if *kind == KeyKind::MetadataProducer.ordinal() {
            Some(Self::Producer(std::str::from_utf8(rest).ok().filter(|name| !name.is_empty())?.to_owned()))
        } else {
            None
        }
    }
}

fn numbered(kind: KeyKind, number: u64) -> [u8; 9] {
    let mut key = [kind.ordinal(); 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A promise: the bytes of keys are those that are on disks already.
    #[test]
    fn keys_keep_their_bytes() {
        assert_eq!(KeyKind::Identity.only(), [1]);
        assert_eq!(KeyKind::Vote.only(), [2]);
        assert_eq!(KeyKind::Committed.only(), [3]);
        assert_eq!(KeyKind::LastPurged.only(), [4]);
        assert_eq!(log_entry(258), [5, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(LOG_END, [6]);
        assert_eq!(KeyKind::Applied.only(), [6]);
        assert_eq!(MetadataKey::Cluster.encode(), [7]);
        assert_eq!(MetadataKey::Node(NodeId::new(3)).encode(), [8, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(MetadataKey::Topic(TopicId::new(Uuid::from_u128(5))).encode(), [9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(MetadataKey::Producer("ab".to_owned()).encode(), [12, b'a', b'b']);
        assert_eq!(METADATA, [([7], [10]), ([12], [13])]);
        assert_eq!(KeyKind::SnapshotHeader.only(), [10]);
        assert_eq!(KeyKind::SnapshotData.only(), [11]);
    }

    /// A promise: a key that no one wrote is not taken for one that somebody did.
    #[test]
    fn foreign_keys_are_nothing() {
        for key in [&[][..], &[7, 0], &[8, 0, 0], &[9; 16], &[10], &[9; 18], &[12], &[12, 0xff]] {
            assert_eq!(MetadataKey::decode(key), None, "{key:?}");
        }
        for key in [&[][..], &[5], &[5; 8], &[5; 10], &[4; 9]] {
            assert_eq!(log_index(key), None, "{key:?}");
        }
    }

    proptest! {
        /// A promise: keys are read back as written, and stand in the order of their numbers.
        #[test]
        fn the_order_of_keys_is_the_order_of_numbers(a: u64, b: u64, topic: u128) {
            prop_assert_eq!(log_index(&log_entry(a)), Some(a));
            prop_assert_eq!(log_entry(a).cmp(&log_entry(b)), a.cmp(&b));
            prop_assert!(log_entry(a).as_slice() < LOG_END.as_slice());
            let named = MetadataKey::Producer(format!("p{a}"));
            for key in [MetadataKey::Cluster, MetadataKey::Node(NodeId::new(a)), MetadataKey::Topic(TopicId::new(Uuid::from_u128(topic))), named] {
                let encoded = key.encode();
                let is_in = |(from, to): &([u8; 1], [u8; 1])| encoded.as_slice() >= from.as_slice() && encoded.as_slice() < to.as_slice();
                prop_assert!(METADATA.iter().any(is_in));
                prop_assert_eq!(MetadataKey::decode(&encoded), Some(key));
            }
        }
    }
}
