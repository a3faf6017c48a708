//! Who a producer is: the ids by which partitions recognise what they are sent again.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use tidegate_types::producer::NAMED_IDS;

use crate::call::{Answer, Call};
use crate::client::Client;
use crate::error::{Error, Problem};

/// The longest name of a producer, in bytes.
const NAME_BYTES: usize = 128;

/// An id, and the epoch to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdentity {
    /// The cluster's, 0 … 2⁶¹−1: given to nobody else.
    pub producer_id: i64,
    /// 0 … 32767.
    pub epoch: i16,
}

/// A name, the id that it stands for, and its epoch of now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundProducer {
    /// As given.
    pub name: String,
    /// The id that the cluster has bound it to.
    pub producer_id: i64,
    /// The epoch that has begun: what is sent with an earlier one is refused as `producer-fenced`.
    pub epoch: i16,
}

impl Client {
    /// A fresh producer id, for batches that say who wrote them ([`tidegate_types::ProducerStamp`]). A [`crate::Producer`] gets its own.
    ///
    /// # Errors
    /// A problem with status 404 or 405 if the server is older than idempotent producers; else as any call. Repeating is safe: an id that nobody heard of is
    /// never used.
    pub async fn init_producer(&self) -> Result<ProducerIdentity, Error> {
        self.init_producer_by(Call::new(Method::POST, ["producers"])).await
    }

    pub(crate) async fn init_producer_within(&self, timeout: std::time::Duration) -> Result<ProducerIdentity, Error> {
        self.init_producer_by(Call::new(Method::POST, ["producers"]).within(timeout)).await
    }

    async fn init_producer_by(&self, call: Call) -> Result<ProducerIdentity, Error> {
        let answer = self.send(&call).await.map_err(|error| said_by_an_older_server(error, "; `idempotent(false)` produces without"))?;
        let identity: ProducerIdentity = answer.json()?;
        check(&answer, identity.producer_id, identity.epoch)?;
        Ok(identity)
    }

    /// Binds a name (1–128 visible ASCII characters) to an id of the cluster, and begins a new epoch of it: whoever still writes under the name with an earlier
    /// epoch is refused from now on. For the headers `Producer-Id`, `Producer-Epoch` and `Producer-Seq`.
    ///
    /// # Errors
    /// [`Error::Input`] for a name that none can be; a problem with status 404 or 405 if the server is older than this; else as any call. Repeating begins
    /// another epoch.
    pub async fn bind_producer(&self, name: &str) -> Result<BoundProducer, Error> {
        if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Input(format!("a producer's name has 1 to {NAME_BYTES} visible ASCII characters")));
        }
        let call = Call::new(Method::PUT, ["producers", name]);
        let answer = self.send(&call).await.map_err(|error| said_by_an_older_server(error, ""))?;
        let bound: BoundProducer = answer.json()?;
        check(&answer, bound.producer_id, bound.epoch)?;
        if bound.name != name {
            return Err(answer.unexpected("it is about another name"));
        }
        Ok(bound)
    }
}

fn check(answer: &Answer, producer_id: i64, epoch: i16) -> Result<(), Error> {
    let is_possible = (0..NAMED_IDS).contains(&producer_id) && epoch >= 0;
    if is_possible { Ok(()) } else { Err(answer.unexpected(&format!("no producer has id {producer_id} and epoch {epoch}"))) }
}

/// A server that has no such path has no idempotent producers: that is said, in its own problem.
fn said_by_an_older_server(error: Error, instead: &str) -> Error {
    match error {
        Error::Problem(problem) if matches!(problem.status, Some(404 | 405)) => Error::Problem(Box::new(Problem {
            detail: format!(
                "the server knows no producer ids (status {}): it is older than idempotent producers{instead}",
                problem.status.unwrap_or_default()
            ),
            retryable: false,
            side_effects: tidegate_types::SideEffects::None.as_str().to_owned(),
            ..*problem
        })),
        other => other,
    }
}
