//! Who a request is from: ids for keys and names, which follow from the cluster's secret, and ids from the controller's blocks.

use std::hash::Hasher as _;
use std::ops::Range;

use siphasher::sip::SipHasher24;
use tidegate_types::producer::{DRAWN_BITS, EPOCH_MAX, KEYED_IDS, NAMED_IDS, number_of};
use tidegate_types::{BatchError, PartitionIndex, ProducerStamp, limits};
use tokio::sync::Mutex;

use super::Broker;
use crate::error::{Error, Violation};
use crate::metadata::command::{Command, Refusal};
use crate::metadata::image::{ClusterSecret, Topic};

/// A name whose epoch is beyond this is kept: epochs are not to be used up by forgetting names.
const EPOCH_FORGOTTEN_MAX: i16 = i16::MAX / 2;
/// Ids that a node takes at a time.
const BLOCK: u32 = 1_000;
/// How often a command is proposed anew when another node was faster.
const ATTEMPTS_MAX: usize = 10;
/// Who calls as long as nobody has to say who he is; Kafka's name for it.
const ANONYMOUS: &str = "User:ANONYMOUS";

/// A producer as it was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// Its id.
    pub producer_id: i64,
    /// The epoch to begin with.
    pub epoch: i16,
}

/// The numbers that this node has claimed and not yet given out.
#[derive(Debug, Default)]
pub(super) struct ProducerIds(Mutex<Range<i64>>);

/// A hash of what comes under a key. Keyed with the cluster's secret and the same on every node and in every version: it is in logs.
#[derive(Debug, Clone)]
pub struct Fingerprint(SipHasher24);

impl Fingerprint {
    /// Adds a field; where it ends counts.
    pub fn field(&mut self, bytes: &[u8]) {
        self.0.write_u64(bytes.len() as u64);
        self.0.write(bytes);
    }

    /// 31 bits: a sequence.
    pub fn finish(self) -> i32 {
        i32::try_from(self.0.finish() >> 33).unwrap_or(i32::MAX)
    }
}

/// The first half of the secret is for ids, the second for fingerprints.
fn hasher(secret: &ClusterSecret, half: usize) -> SipHasher24 {
    let (halves, _) = secret.get().as_chunks::<16>();
    SipHasher24::new_with_key(&halves[half])
}

fn id_of(secret: &ClusterSecret, kind: i64, fields: &[&[u8]]) -> i64 {
    let mut hasher = hasher(secret, 0);
    hasher.write_u64(kind.cast_unsigned());
    for field in fields {
        hasher.write_u64(field.len() as u64);
        hasher.write(field);
    }
    kind | (hasher.finish().cast_signed() & (kind - 1))
}

impl Broker {
    /// To hash what comes under a key.
    ///
    /// # Errors
    /// [`Error::LeaderUnavailable`] before the cluster has its secret.
    pub fn fingerprint(&self) -> Result<Fingerprint, Error> {
        Ok(Fingerprint(hasher(&self.secret()?, 1)))
    }

    /// The stamp of chunk `chunk` of what is written to a topic under a key.
    ///
    /// # Errors
    /// [`Error::LeaderUnavailable`] before the cluster has its secret.
    pub fn stamp_of_key(&self, topic: &Topic, key: &str, chunk: u64, fingerprint: i32) -> Result<ProducerStamp, Error> {
        let (topic, chunk) = (topic.id.get(), chunk.to_be_bytes());
        let fields = [ANONYMOUS.as_bytes(), topic.as_bytes(), key.as_bytes(), &chunk];
        Ok(ProducerStamp { id: id_of(&self.secret()?, KEYED_IDS, &fields), epoch: 0, sequence: fingerprint })
    }

    /// Where records without a key of their own go that come under this stamp: each time to the same partition.
    pub fn partition_of_stamp(&self, topic: &Topic, stamp: ProducerStamp) -> PartitionIndex {
        let partitions = u64::from(topic.partition_count().max(1));
        let hash = (stamp.id & (KEYED_IDS - 1)).cast_unsigned();
        PartitionIndex::new(u32::try_from(hash % partitions).unwrap_or(0))
    }

    /// The stamp of what a producer sends under its name.
    ///
    /// # Errors
    /// [`Error::ProducerFenced`] if the name was bound to a later epoch; [`Error::Invalid`] if it was never bound to that one;
    /// [`Error::LeaderUnavailable`] before the cluster has its secret.
    pub fn stamp_of_name(&self, name: &str, epoch: i16, sequence: i32) -> Result<ProducerStamp, Error> {
        let bound = self.inner.metadata.borrow().image.producers.get(name).copied();
        let id = match bound {
            None => id_of(&self.secret()?, NAMED_IDS, &[ANONYMOUS.as_bytes(), name.as_bytes()]),
            Some(bound) if epoch < bound.epoch => return Err(Error::ProducerFenced { current: bound.epoch }),
            Some(bound) if epoch > bound.epoch => {
                let detail = format!("the producer was bound to epoch {}, not to {epoch}", bound.epoch);
                return Err(invalid("Producer-Epoch", "epoch-not-bound", detail));
            }
            Some(bound) => bound.producer_id,
        };
        Ok(ProducerStamp { id, epoch, sequence })
    }

    /// A new producer, that nobody else is.
    ///
    /// # Errors
    /// The quorum's.
    pub async fn init_producer(&self) -> Result<ProducerIdentity, Error> {
        Ok(ProducerIdentity { producer_id: self.next_producer_id().await?, epoch: 0 })
    }

    /// Begins a name's next epoch: whoever writes under an earlier one is fenced.
    ///
    /// # Errors
    /// [`Error::Invalid`] if as many names are bound as may be, or the name has used up its epochs; the quorum's.
    pub async fn bind_producer(&self, name: &str) -> Result<ProducerIdentity, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let image = self.metadata().image;
            let known = image.producers.get(name).copied();
            let before = known.map_or(image.retired_epoch, |known| known.epoch);
            let Some(epoch) = before.checked_add(1) else {
                let detail = format!("the name has had all {EPOCH_MAX} epochs; take another one");
                return Err(invalid("/name", "epochs-used-up", detail));
            };
            let producer_id = match known {
                Some(known) => known.producer_id,
                None => self.next_producer_id().await?,
            };
            match self.propose(Command::BindProducer { name: name.to_owned(), producer_id, epoch }).await? {
                Ok(version) => {
                    self.seen(version).await;
                    return Ok(ProducerIdentity { producer_id, epoch });
                }
                // Somebody else was faster.
                Err(Refusal::ProducerChanged) => self.barrier().await?,
                Err(Refusal::TooManyProducers) => {
                    let detail = format!("{} producers are bound, which is the most", limits::BOUND_PRODUCERS_MAX);
                    return Err(invalid("/name", "too-many", detail));
                }
                Err(refusal) => return Err(Error::Internal(format!("the producer was not bound: {refusal}"))),
            }
        }
        Err(Error::Overloaded { what: "bindings of the producer" })
    }

    /// Forgets a name; gives whether it was bound.
    ///
    /// # Errors
    /// The quorum's.
    pub async fn unbind_producer(&self, name: &str) -> Result<bool, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let image = self.metadata().image;
            let Some(known) = image.producers.get(name).copied() else { return Ok(false) };
            if known.epoch > EPOCH_FORGOTTEN_MAX {
                let detail = format!("the name has had {} epochs, and no other name would be given one of them: keep it", known.epoch);
                return Err(invalid("/name", "epochs-used-up", detail));
            }
            let retired_epoch = known.epoch.max(image.retired_epoch);
            match self.propose(Command::UnbindProducer { name: name.to_owned(), retired_epoch }).await? {
                Ok(version) => {
                    self.seen(version).await;
                    return Ok(true);
                }
                Err(Refusal::ProducerChanged) => self.barrier().await?,
                Err(refusal) => return Err(Error::Internal(format!("the producer was not unbound: {refusal}"))),
            }
        }
        Err(Error::Overloaded { what: "bindings of the producer" })
    }

    /// Refuses ids that nobody was given, and those that are given out under a name.
    pub(super) fn check_given(&self, stamp: ProducerStamp) -> Result<(), Error> {
        let image = &self.inner.metadata.borrow().image;
        let is_given = (1..=image.claimed_producers).contains(&number_of(stamp.id)) && !image.bound_epochs.contains_key(&stamp.id);
        let reason = "the producer id was not given out here: POST /v1/producers gives one, and producers=drop copies batches without";
        if is_given { Ok(()) } else { Err(BatchError::Rule { index: None, reason }.into()) }
    }

    async fn next_producer_id(&self) -> Result<i64, Error> {
        Ok(self.next_producer_number().await? << DRAWN_BITS | drawn()?)
    }

    async fn next_producer_number(&self) -> Result<i64, Error> {
        let mut ids = self.inner.producer_ids.0.lock().await;
        if let Some(number) = ids.next() {
            return Ok(number);
        }
        let mut first = self.inner.metadata.borrow().image.claimed_producers;
        for _ in 0..ATTEMPTS_MAX {
            // If nobody says what became of it, the block is nobody's.
            match self.propose(Command::ClaimProducerIds { first, count: BLOCK }).await? {
                Ok(_) => {
                    *ids = first + 1..first + 1 + i64::from(BLOCK);
                    return ids.next().ok_or_else(|| Error::Internal("an empty block of producer ids".to_owned()));
                }
                Err(Refusal::ProducerIdsClaimed { next }) if next != first => first = next,
                Err(refusal) => return Err(Error::Internal(format!("no producer ids are left: {refusal}"))),
            }
        }
        Err(Error::Quorum("others claim producer ids all the time".to_owned()))
    }

    fn secret(&self) -> Result<ClusterSecret, Error> {
        self.inner.metadata.borrow().image.secret.ok_or(Error::LeaderUnavailable)
    }
}

fn drawn() -> Result<i64, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| Error::Internal(format!("no random numbers: {error}")))?;
    Ok(i64::from_be_bytes(bytes) & ((1 << DRAWN_BITS) - 1))
}

fn invalid(pointer: &str, code: &'static str, detail: String) -> Error {
    Error::Invalid(vec![Violation { pointer: pointer.to_owned(), code, detail }])
}
