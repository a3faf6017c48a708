//! Identities. Each is its own type, so that a node is never taken for a partition.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::TopicName;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the number.
            pub const fn new(id: $inner) -> Self {
                Self(id)
            }

            /// The bare number, for the wire and for files.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that was drawn elsewhere.
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// The bare UUID.
            pub const fn get(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// A node of the cluster; also its id in the metadata quorum. Chosen by whoever runs it, 1 by default.
    NodeId,
    u64
);
number_id!(
    /// A partition of one topic, from 0.
    PartitionIndex,
    u32
);
uuid_id!(
    /// A topic's identity: a name that is deleted and created again is another topic.
    TopicId
);
uuid_id!(
    /// The cluster, drawn once when its first node starts for the first time.
    ClusterId
);

/// A topic's name and one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition of that topic.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    /// `topic-3`: also the name of the partition's directory.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
