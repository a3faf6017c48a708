//! Where a record goes that names no partition. A partition that a record names wins over all of these.

use std::fmt::Debug;

use crate::record::NewRecord;

/// What a [`Partitioner`] may know of the topic.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'t> {
    /// The topic.
    pub topic: &'t str,
    /// Its partitions: at least 1.
    pub partitions: u32,
    /// The partition whose batch is being filled by records that could go anywhere; another one after each batch.
    pub sticky: u32,
    /// How many records this producer has placed in the topic before.
    pub count: u64,
    /// A random number, another one each time.
    pub random: u64,
}

impl Choice<'_> {
    /// `number` brought into the partitions that there are.
    pub fn within(&self, number: u64) -> u32 {
        u32::try_from(number % u64::from(self.partitions)).unwrap_or(0)
    }
}

/// Says where records go. Any `Fn(&NewRecord, &Choice) -> u32` is one.
///
/// It is asked once a record, while other senders wait: it should be quick, and must not call the producer. A partition that the topic has not
/// fails the send.
pub trait Partitioner: Send + Sync {
    /// The partition of `record`.
    fn partition(&self, record: &NewRecord, choice: &Choice<'_>) -> u32;

    /// A word for messages.
    fn name(&self) -> &'static str {
        "custom"
    }
}

impl Debug for dyn Partitioner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl<F: Fn(&NewRecord, &Choice<'_>) -> u32 + Send + Sync> Partitioner for F {
    fn partition(&self, record: &NewRecord, choice: &Choice<'_>) -> u32 {
        self(record, choice)
    }
}

/// By the key's murmur2 hash, as every Kafka client does it and as the server does; records without a key stay together for a batch ([`Sticky`]).
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyHash;

impl Partitioner for KeyHash {
    fn partition(&self, record: &NewRecord, choice: &Choice<'_>) -> u32 {
        record.key.as_ref().map_or(choice.sticky, |key| tidegate_types::partitioner::partition_for_key(key, choice.partitions).get())
    }

    fn name(&self) -> &'static str {
        "key-hash"
    }
}

/// All records to one partition until its batch is full, then to another one at random: the fewest requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sticky;

impl Partitioner for Sticky {
    fn partition(&self, _: &NewRecord, choice: &Choice<'_>) -> u32 {
        choice.sticky
    }

    fn name(&self) -> &'static str {
        "sticky"
    }
}

/// One record to each partition in turn.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoundRobin;

impl Partitioner for RoundRobin {
    fn partition(&self, _: &NewRecord, choice: &Choice<'_>) -> u32 {
        choice.within(choice.count)
    }

    fn name(&self) -> &'static str {
        "round-robin"
    }
}

/// Anywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Random;

impl Partitioner for Random {
    fn partition(&self, _: &NewRecord, choice: &Choice<'_>) -> u32 {
        choice.within(choice.random)
    }

    fn name(&self) -> &'static str {
        "random"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partitioner: &dyn Partitioner, record: &NewRecord, count: u64) -> u32 {
        let choice = Choice { topic: "t", partitions: 4, sticky: 2, count, random: 0x9e37_79b9 * (count + 1) };
        partitioner.partition(record, &choice)
    }

    /// A promise: a key goes where Kafka's clients and the server send it; without one, records stay together for a batch.
    #[test]
    fn keys_go_where_kafka_sends_them() {
        let keyed = NewRecord::text("x").key("abc");
        assert_eq!(place(&KeyHash, &keyed, 0), 479_470_107 % 4);
        assert_eq!(place(&KeyHash, &NewRecord::text("x").key(""), 0), tidegate_types::partitioner::partition_for_key(b"", 4).get());
        assert_eq!(place(&KeyHash, &NewRecord::text("x"), 0), 2);
        assert_eq!(place(&Sticky, &keyed, 0), 2);
    }

    /// A promise: round robin visits every partition equally often, random every one about so, and a closure is a partitioner.
    #[test]
    fn records_are_spread() {
        let record = NewRecord::text("x");
        let counts = |partitioner: &dyn Partitioner| {
            let mut counts = [0; 4];
            (0..4_000).for_each(|count| counts[place(partitioner, &record, count) as usize] += 1);
            counts
        };
        assert_eq!(counts(&RoundRobin), [1_000; 4]);
        assert!(counts(&Random).iter().all(|count| (700..1_300).contains(count)), "{:?}", counts(&Random));
        assert_eq!(place(&|_: &NewRecord, choice: &Choice<'_>| choice.partitions - 1, &record, 0), 3);
    }
}
