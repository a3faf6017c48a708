//! What a producer may be told, with its defaults.

use std::sync::Arc;
use std::time::Duration;

use tidegate_types::Codec;

use crate::client::Client;
use crate::error::Error;
use crate::partitioner::{KeyHash, Partitioner};
use crate::produce::Acks;
use crate::producer::Producer;

/// How a [`Producer`] batches, waits and repeats.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// A batch is sent when it has so many bytes (256 KiB), before it is packed; never more than the topic's `max.message.bytes`.
    pub batch_bytes: usize,
    /// … or when its first record has waited so long (5 ms).
    pub linger: Duration,
    /// Bytes of records that are not yet settled, with 1 KiB for each batch that they are in, at most (32 MiB); beyond it [`Producer::send`] waits.
    pub buffer_bytes: usize,
    /// How long [`Producer::send`] may wait for room, or for the topic's partitions to be known (60 s).
    pub max_block: Duration,
    /// How long after [`Producer::send`] a record may be tried (120 s); then its delivery fails.
    pub delivery_timeout: Duration,
    /// How long one request may take (30 s).
    pub request_timeout: Duration,
    /// How long to wait before the first retry (100 ms); each further one waits twice as long …
    pub retry_backoff: Duration,
    /// … up to this (1 s). All waits are jittered by a fifth.
    pub retry_backoff_max: Duration,
    /// Requests under way for one partition (5, and no more than that while the producer is idempotent). The order of a partition's records is that of
    /// [`Producer::send`], whatever fails, if the producer is idempotent, or if this is 1; else a batch may be overtaken by those sent beside it, which are
    /// fewer than this.
    pub max_in_flight: usize,
    /// Whether partitions recognise what they are sent again (`true`), so that each record is there once, and in order. The producer gets an id of the cluster
    /// before its first batch, and each batch says who wrote it and which of its records these are. Needs `acks` of [`Acks::All`] and `resend_in_doubt`: if
    /// one of them is told otherwise this is off, unless it is set with [`ProducerBuilder::idempotent`]; then the two contradict each other. A
    /// server that is older than this knows no ids: everything fails, with a word on it, until this is set to `false`.
    ///
    /// Partitions remember a producer for a day after its last batch (`producer.id.expiration.ms`); a `delivery_timeout` should be shorter than that.
    pub idempotent: bool,
    /// Whether a batch whose outcome is not known is sent again (`true`). It is unknown after an answer that was lost: a timeout, a connection
    /// that broke, a gateway's error. Sent again by a producer that is not `idempotent`, its records may be there twice. With `false` they never are, on
    /// servers of any age: the batch fails at once with side effects [`tidegate_types::SideEffects::Possible`], and its records are there once, or not. What was certainly not written (a refused
    /// connection, `overloaded`, `not-leader` and whatever else the server says had no side effects) is still tried again until
    /// `delivery_timeout`. Batches behind it go on, unless `stop_at_failure`.
    pub resend_in_doubt: bool,
    /// Whether a partition stops at its first record that fails, for whatever reason (`false`). What comes behind that record is then not sent:
    /// it fails with [`super::ProducerError::Stopped`], and so does every later `send` to the partition, until [`Producer::resume`]; records before it
    /// are still tried. Other partitions go on. With `max_in_flight` 1 the partition then holds exactly the records before the failed one, and it itself
    /// if its side effects are possible: it can be sent again and the order holds. With more in flight those sent beside it may be there too (if the producer
    /// is idempotent, only behind one that is there as well); their deliveries say so.
    pub stop_at_failure: bool,
    /// How batches are packed (not at all).
    pub codec: Codec,
    /// When the server answers ([`Acks::All`]).
    pub acks: Acks,
    /// Where records go that name no partition ([`KeyHash`]).
    pub partitioner: Arc<dyn Partitioner>,
    /// How old the knowledge of a topic's partitions may become (5 minutes): so long can new ones go unnoticed.
    pub metadata_max_age: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            batch_bytes: 256 << 10,
            linger: Duration::from_millis(5),
            buffer_bytes: 32 << 20,
            max_block: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            max_in_flight: 5,
            idempotent: true,
            resend_in_doubt: true,
            stop_at_failure: false,
            codec: Codec::None,
            acks: Acks::All,
            partitioner: Arc::new(KeyHash),
            metadata_max_age: Duration::from_secs(300),
        }
    }
}

/// Batches of one producer that a partition remembers, and one more than it keeps waiting for an earlier one.
const IN_FLIGHT_MAX: usize = 5;

impl ProducerConfig {
    /// Whether what it says of acknowledgements and of doubt goes together with being idempotent.
    fn may_be_idempotent(&self) -> bool {
        self.acks == Acks::All && self.resend_in_doubt
    }

    /// What no producer can work with.
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::Input(format!("a producer needs {what}")));
        if self.batch_bytes == 0 || self.buffer_bytes == 0 {
            return refuse("batch_bytes and buffer_bytes of at least 1");
        }
        if self.max_in_flight == 0 {
            return refuse("max_in_flight of at least 1");
        }
        if self.idempotent && !self.may_be_idempotent() {
            return refuse("acks of all, and resend_in_doubt, to be idempotent");
        }
        if self.idempotent && self.max_in_flight > IN_FLIGHT_MAX {
            return refuse("max_in_flight of at most 5 to be idempotent");
        }
        if self.delivery_timeout < self.linger || self.delivery_timeout.is_zero() || self.request_timeout.is_zero() {
            return refuse("a request_timeout, and a delivery_timeout that is no shorter than linger");
        }
        if self.retry_backoff > self.retry_backoff_max {
            return refuse("a retry_backoff that is no longer than retry_backoff_max");
        }
        Ok(())
    }
}

/// Makes a [`Producer`]: [`Client::producer`].
#[derive(Debug, Clone)]
pub struct ProducerBuilder {
    client: Client,
    config: ProducerConfig,
    /// Whether it was said by name that it is idempotent, or not.
    is_explicit: bool,
}

macro_rules! setters {
    ($($name:ident: $type:ty,)*) => {
        impl ProducerBuilder {
            $(
                #[doc = concat!("Sets [`ProducerConfig::", stringify!($name), "`].")]
                #[must_use]
                pub fn $name(mut self, $name: $type) -> Self {
                    self.config.$name = $name;
                    self
                }
            )*
        }
    };
}

setters! {
    batch_bytes: usize,
    linger: Duration,
    buffer_bytes: usize,
    max_block: Duration,
    delivery_timeout: Duration,
    request_timeout: Duration,
    retry_backoff: Duration,
    retry_backoff_max: Duration,
    max_in_flight: usize,
    resend_in_doubt: bool,
    stop_at_failure: bool,
    codec: Codec,
    acks: Acks,
    metadata_max_age: Duration,
}

impl ProducerBuilder {
    /// Where records go that name no partition.
    #[must_use]
    pub fn partitioner(mut self, partitioner: impl Partitioner + 'static) -> Self {
        self.config.partitioner = Arc::new(partitioner);
        self
    }

    /// Sets [`ProducerConfig::idempotent`], whatever else is set.
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        (self.config.idempotent, self.is_explicit) = (idempotent, true);
        self
    }

    /// All of it at once; whether it is idempotent is not taken as set by name.
    #[must_use]
    pub fn config(mut self, config: ProducerConfig) -> Self {
        self.config = config;
        self
    }

    /// The producer; its task runs on the runtime that this is called in.
    ///
    /// # Errors
    /// [`Error::Input`] if the config cannot work, or outside a tokio runtime.
    pub fn build(mut self) -> Result<Producer, Error> {
        self.config.idempotent &= self.is_explicit || self.config.may_be_idempotent();
        Producer::start(self.client, self.config)
    }
}

impl Client {
    /// To make a producer.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder { client: self.clone(), config: ProducerConfig::default(), is_explicit: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a producer is idempotent unless something that it is told says otherwise; what is said both ways by name is refused.
    #[tokio::test]
    async fn idempotent_where_it_can_be() {
        let client = Client::new("http://127.0.0.1:1").unwrap();
        let is_idempotent = |builder: ProducerBuilder| builder.build().map(|producer| producer.config().idempotent).ok();
        let new = || client.producer();
        assert_eq!(is_idempotent(new()), Some(true));
        assert_eq!(is_idempotent(new().config(ProducerConfig { acks: Acks::None, ..ProducerConfig::default() })), Some(false));
        for builder in [new().acks(Acks::Leader), new().acks(Acks::None), new().resend_in_doubt(false)] {
            assert_eq!(is_idempotent(builder.clone()), Some(false));
            assert_eq!(is_idempotent(builder.clone().idempotent(false)), Some(false));
            assert_eq!(is_idempotent(builder.idempotent(true)), None);
        }
        assert_eq!((is_idempotent(new().max_in_flight(6)), is_idempotent(new().max_in_flight(6).idempotent(false))), (None, Some(false)));
    }
}
