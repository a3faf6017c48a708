//! One request, before it is known which server gets it, and its answer.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_types::BatchHeader;
use tidegate_types::limits::BATCH_HEADER_BYTES;

use crate::error::Error;

/// More than any answer has that is not made of records: a topic of 10,000 partitions is described in 3 MiB.
pub(crate) const ANSWER_BYTES: usize = 16 << 20;

/// How long an answer may be. It follows from what was asked for, so that a server that gives more is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// So many bytes.
    Bytes(usize),
    /// Stored batches of so many bytes together, or one batch that is larger.
    Batches(usize),
}

impl Bound {
    /// The most bytes that an answer beginning with `start` may have; more of it may be needed to know.
    pub(crate) fn bytes(self, start: &[u8]) -> usize {
        match self {
            Self::Bytes(bytes) => bytes,
            // Until its header is there, and if it is none, there is no reason to take more than that.
            Self::Batches(bytes) if start.len() < BATCH_HEADER_BYTES => bytes.max(BATCH_HEADER_BYTES),
            Self::Batches(bytes) => BatchHeader::parse(start).map_or(bytes, |header| header.total_bytes().max(bytes)),
        }
    }
}

/// One request, before it is known which server gets it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// `v1`, or nothing for what is outside the versioned API.
    pub(crate) version: Option<&'static str>,
    pub(crate) path: Vec<String>,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<(HeaderValue, Bytes)>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) bound: Bound,
}

impl Call {
    /// A call without a body to `/v1/` and `path`.
    pub(crate) fn new<S: AsRef<str>>(method: Method, path: impl IntoIterator<Item = S>) -> Self {
        Self {
            method,
            version: Some("v1"),
            path: path.into_iter().map(|s| s.as_ref().to_owned()).collect(),
            query: Vec::new(),
            body: None,
            timeout: None,
            bound: Bound::Bytes(ANSWER_BYTES),
        }
    }

    /// A call without a body to `/` and `name`, outside the versioned API.
    pub(crate) fn unversioned(method: Method, name: &str) -> Self {
        Self { version: None, ..Self::new(method, [name]) }
    }

    pub(crate) fn query(mut self, name: &'static str, value: &(impl ToString + ?Sized)) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    pub(crate) fn query_if<T: ToString>(self, name: &'static str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.query(name, &value),
            None => self,
        }
    }

    pub(crate) fn body(mut self, content_type: &'static str, body: Bytes) -> Self {
        self.body = Some((HeaderValue::from_static(content_type), body));
        self
    }

    pub(crate) fn json(self, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(body).map_err(|error| Error::Input(error.to_string()))?;
        Ok(self.body("application/json", body.into()))
    }

    /// How long it may take, instead of what the client was made with.
    pub(crate) fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long its answer may be, if it is made of records.
    pub(crate) fn bounded(mut self, bound: Bound) -> Self {
        self.bound = bound;
        self
    }

    pub(crate) fn describe(&self) -> String {
        let path = self.version.into_iter().chain(self.path.iter().map(String::as_str)).collect::<Vec<_>>().join("/");
        format!("{} /{path}", self.method)
    }
}

/// A 2xx answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) call: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| self.unexpected(&self.foreign().unwrap_or_else(|| error.to_string())))
    }

    /// What to say of a body that was never meant to be JSON, as another kind of server gives.
    fn foreign(&self) -> Option<String> {
        let kind = self.headers.get(CONTENT_TYPE).map_or("without a content type", |value| value.to_str().unwrap_or_default());
        (!kind.contains("json")).then(|| format!("it is {kind}, not JSON; is it a Tidegate node that listens there?"))
    }

    /// A header that must be there and be readable as `T`.
    pub(crate) fn header<T: std::str::FromStr>(&self, name: &str) -> Result<T, Error> {
        let text = self.headers.get(name).and_then(|value| value.to_str().ok());
        text.and_then(|text| text.parse().ok()).ok_or_else(|| self.unexpected(&format!("its header '{name}' is missing or unreadable")))
    }

    pub(crate) fn unexpected(&self, reason: &str) -> Error {
        Error::Answer { call: self.call.clone(), reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_types::Codec;

    use super::*;
    use crate::record::NewRecord;

    /// A promise: more than was asked for is taken only of an answer that is one whole batch, and of that no more than it says it has.
    #[test]
    fn bounds_follow_what_was_asked() {
        let batch = crate::batch::encode(&[NewRecord::bytes(vec![1; 5_000]).timestamp(1)], Codec::None).unwrap();
        assert_eq!(Bound::Bytes(7).bytes(&batch), 7);
        assert_eq!(Bound::Batches(1_000).bytes(&batch), batch.len());
        assert_eq!(Bound::Batches(1_000).bytes(&batch[..60]), 1_000);
        assert_eq!(Bound::Batches(1).bytes(&[]), BATCH_HEADER_BYTES);
        assert_eq!(Bound::Batches(9_000).bytes(&batch), 9_000);
        assert_eq!(Bound::Batches(1_000).bytes(&[0; 100]), 1_000);
    }
}
