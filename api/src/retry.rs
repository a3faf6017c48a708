//! What makes a produce safe to repeat: the headers by which it is recognised, and what the answer says of that.
//!
//! | header | on | answers say |
//! |---|---|---|
//! | `Idempotency-Key` | every produce | `Idempotency-Window`, `Idempotency-Replayed` |
//! | `Producer-Id`, `Producer-Epoch`, `Producer-Seq` | records of one partition | `Producer-Next-Seq`, `Producer-Duplicate` |
//! | the same three in a stored batch | batches of one partition | the same |

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_cluster::{Acks, Appended, Broker, Origin, Topic};
use tidegate_types::limits::PRODUCER_NAME_BYTES_MAX;
use tidegate_types::{ErrorCode, ProducerStamp, SideEffects};
use utoipa::IntoParams;

use crate::error::ApiError;

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_WINDOW: HeaderName = HeaderName::from_static("idempotency-window");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
pub(crate) const PRODUCER_ID: HeaderName = HeaderName::from_static("producer-id");
pub(crate) const PRODUCER_EPOCH: HeaderName = HeaderName::from_static("producer-epoch");
pub(crate) const PRODUCER_SEQ: HeaderName = HeaderName::from_static("producer-seq");
pub(crate) const PRODUCER_EXPECTED_SEQ: HeaderName = HeaderName::from_static("producer-expected-seq");
pub(crate) const PRODUCER_RECEIVED_SEQ: HeaderName = HeaderName::from_static("producer-received-seq");
const PRODUCER_NEXT_SEQ: HeaderName = HeaderName::from_static("producer-next-seq");
const PRODUCER_DUPLICATE: HeaderName = HeaderName::from_static("producer-duplicate");
/// It promises what this version does not keep. Ignoring it would let a client believe in a transaction.
const TRANSACTION_ID: HeaderName = HeaderName::from_static("transaction-id");

/// What makes a request safe to repeat.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is a schema")]
pub(crate) struct KeyHeader {
    /// A value that no other request has (a UUID, say). The same request with the same key is written once: sent again within the window that
    /// `Idempotency-Window` tells in seconds, it is answered with where its records are, and `Idempotency-Replayed: true`.
    #[param(rename = "Idempotency-Key", required = false, nullable = false, min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    key: Option<String>,
}

/// What makes records of one partition safe to repeat, and keeps their order: all three, or none.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is a schema")]
pub(crate) struct ProducerHeaders {
    /// Who sends them: a name of his own.
    #[param(rename = "Producer-Id", required = false, nullable = false, min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    id: Option<String>,
    /// His epoch: a later one shuts out whoever writes under an earlier one, and begins at sequence 0.
    #[param(rename = "Producer-Epoch", required = false, nullable = false, minimum = 0, maximum = 32_767)]
    epoch: Option<i32>,
    /// How many records he has sent to the partition in this epoch before these; after 2147483647 comes 0. The answer says in
    /// `Producer-Next-Seq` what comes next, and `Producer-Duplicate: true` if these were written before.
    #[param(rename = "Producer-Seq", required = false, nullable = false, minimum = 0, maximum = 2_147_483_647)]
    sequence: Option<i32>,
}

/// What a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A topic.
    Topic,
    /// A partition.
    Partition,
    /// A partition, and its batches may say themselves who sends them.
    Batches,
}

/// How a request is recognised when it comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recognised {
    /// Not at all: it would be written again.
    No,
    /// By its key.
    ByKey(String),
    /// By who sends it and how many records he has sent before.
    BySequence {
        /// His name.
        name: String,
        epoch: i16,
        sequence: i32,
    },
}

impl Recognised {
    /// By the headers of a request.
    ///
    /// # Errors
    /// 400 `malformed-header`, `producer-headers-need-partition`.
    pub(crate) fn read(headers: &HeaderMap, place: Place, acks: Acks) -> Result<Self, ApiError> {
        if headers.contains_key(TRANSACTION_ID) {
            return Err(ApiError::malformed_header(TRANSACTION_ID.as_str(), "this version does not keep what it asks for"));
        }
        let key = only(headers, &IDEMPOTENCY_KEY)?;
        let numbered = [PRODUCER_ID, PRODUCER_EPOCH, PRODUCER_SEQ].into_iter().find(|name| headers.contains_key(name));
        if let (Some(name), Some(_)) = (&numbered, key) {
            return Err(ApiError::malformed_header(name.as_str(), "a request has this or an idempotency-key, not both"));
        }
        let found = match (key, numbered) {
            (None, None) => return Ok(Self::No),
            (Some(key), _) => Self::ByKey(visible(&IDEMPOTENCY_KEY, key)?),
            (None, Some(name)) => Self::numbered(headers, place, &name)?,
        };
        if acks == Acks::None {
            let name = if matches!(found, Self::ByKey(_)) { IDEMPOTENCY_KEY } else { PRODUCER_ID };
            return Err(ApiError::malformed_header(name.as_str(), "with acks=none nobody learns whether it is to be sent again"));
        }
        Ok(found)
    }

    fn numbered(headers: &HeaderMap, place: Place, name: &HeaderName) -> Result<Self, ApiError> {
        match place {
            Place::Topic => {
                let detail = "records are numbered in each partition by itself, so the path has to name one";
                return Err(ApiError::new(ErrorCode::ProducerHeadersNeedPartition, detail).with("header", name.as_str()));
            }
            Place::Batches => return Err(ApiError::malformed_header(name.as_str(), "a stored batch says itself who sends it")),
            Place::Partition => {}
        }
        let required = |name: &HeaderName| {
            let missing = || ApiError::malformed_header(name.as_str(), "producer-id, producer-epoch and producer-seq come together");
            only(headers, name)?.ok_or_else(missing)
        };
        Ok(Self::BySequence {
            name: visible(&PRODUCER_ID, required(&PRODUCER_ID)?)?,
            epoch: number(&PRODUCER_EPOCH, required(&PRODUCER_EPOCH)?, i32::from(i16::MAX))?.try_into().unwrap_or(i16::MAX),
            sequence: number(&PRODUCER_SEQ, required(&PRODUCER_SEQ)?, i32::MAX)?,
        })
    }

    /// The stamp of chunk `chunk` of what is sent to a topic. `fields` are what must be the same when it comes again.
    ///
    /// # Errors
    /// 409 `producer-fenced`, 422 `validation-failed` if the epoch is not the producer's, 503 `leader-unavailable`.
    pub(crate) fn stamp(&self, broker: &Broker, topic: &Topic, chunk: u64, fields: &[&[u8]]) -> Result<Option<ProducerStamp>, ApiError> {
        match self {
            Self::No => Ok(None),
            Self::ByKey(key) => {
                let mut fingerprint = broker.fingerprint()?;
                fields.iter().for_each(|field| fingerprint.field(field));
                Ok(Some(broker.stamp_of_key(topic, key, chunk, fingerprint.finish())?))
            }
            Self::BySequence { name, epoch, sequence } => Ok(Some(broker.stamp_of_name(name, *epoch, *sequence)?)),
        }
    }

    /// The stamp of another chunk of the same request.
    ///
    /// # Errors
    /// As [`Recognised::stamp`].
    pub(crate) fn chunk(&self, broker: &Broker, topic: &Topic, chunk: u64, first: ProducerStamp) -> Result<ProducerStamp, ApiError> {
        match self {
            Self::ByKey(key) => Ok(broker.stamp_of_key(topic, key, chunk, first.sequence)?),
            Self::No | Self::BySequence { .. } => Ok(first),
        }
    }

    /// The problem, with what to do if something may have been written.
    pub(crate) fn advise(&self, error: ApiError) -> ApiError {
        if error.side_effects() == SideEffects::None {
            return error;
        }
        match self {
            Self::No => error,
            Self::ByKey(_) => {
                error.adding("; send the same request with the same Idempotency-Key again: what is written is not written again")
            }
            Self::BySequence { .. } => error.advised_by_number(),
        }
    }
}

impl ApiError {
    /// What to do after a problem with numbered records.
    pub(crate) fn advised_by_number(self) -> Self {
        if self.side_effects() == SideEffects::None {
            return self;
        }
        self.adding("; send the same records with the same epoch and sequence again: what is written is not written again")
    }
}

/// What the answer to a recognisable request says beside its body.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    key_window_ms: Option<i64>,
    /// Whether anything was written, or all of it had been before.
    parts: usize,
    replayed: usize,
    next_sequence: Option<i32>,
}

impl Told {
    /// Of a request to one partition, of so many records: what comes next.
    pub(crate) fn numbered(stamp: Option<ProducerStamp>, records: usize) -> Self {
        let stamp = stamp.filter(|stamp| !stamp.is_keyed());
        let after = |stamp: ProducerStamp| stamp.advanced_by(u32::try_from(records).unwrap_or(u32::MAX)).sequence;
        Self { next_sequence: stamp.map(after), ..Self::default() }
    }

    /// Takes note of a part.
    pub(crate) fn note(&mut self, appended: &Appended) {
        self.parts += 1;
        self.replayed += usize::from(appended.origin != Origin::Written);
        self.key_window_ms = match (self.key_window_ms, appended.key_window_ms) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    pub(crate) fn into_headers(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let is_replay = self.parts > 0 && self.replayed == self.parts;
        if let Some(window_ms) = self.key_window_ms {
            headers.insert(IDEMPOTENCY_WINDOW, HeaderValue::from(window_ms / 1_000));
            if is_replay {
                headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
            }
        }
        if let Some(next) = self.next_sequence {
            headers.insert(PRODUCER_NEXT_SEQ, HeaderValue::from(next));
            if is_replay {
                headers.insert(PRODUCER_DUPLICATE, HeaderValue::from_static("true"));
            }
        }
        headers
    }
}

/// A header that stands once at most.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(ApiError::malformed_header(name.as_str(), "it stands more than once"));
    }
    Ok(first)
}

/// Whether a producer may be called so.
pub(crate) fn is_producer_name(name: &[u8]) -> bool {
    (1..=PRODUCER_NAME_BYTES_MAX).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic)
}

/// 1 to 128 visible ASCII characters.
fn visible(name: &HeaderName, value: &HeaderValue) -> Result<String, ApiError> {
    let bytes = value.as_bytes();
    let text = std::str::from_utf8(bytes).ok().filter(|_| is_producer_name(bytes));
    text.map(str::to_owned).ok_or_else(|| {
        ApiError::malformed_header(name.as_str(), format_args!("1 to {PRODUCER_NAME_BYTES_MAX} visible ASCII characters are expected"))
    })
}

fn number(name: &HeaderName, value: &HeaderValue, max: i32) -> Result<i32, ApiError> {
    let text = value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = text.and_then(|text| text.parse().ok()).filter(|number| *number <= max);
    number.ok_or_else(|| ApiError::malformed_header(name.as_str(), format_args!("a whole number from 0 to {max} is expected")))
}

#[cfg(test)]
mod tests {
    use tidegate_types::topic_config::Durability;
    use tidegate_types::{Offset, Timestamp};

    use super::*;

    fn headers(fields: &[(&HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| ((*name).clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn read(fields: &[(&HeaderName, &str)], place: Place) -> Result<Recognised, ErrorCode> {
        Recognised::read(&headers(fields), place, Acks::All).map_err(|error| error.code())
    }

    /// A promise: a request is recognised by a whole set of headers in the right place; half a set, two sets, or a set in the wrong place is refused and
    /// never ignored.
    #[test]
    fn headers_are_read_or_refused() {
        let (id, epoch, seq, key) = (&PRODUCER_ID, &PRODUCER_EPOCH, &PRODUCER_SEQ, &IDEMPOTENCY_KEY);
        let by_sequence = Recognised::BySequence { name: "meter-7".to_owned(), epoch: 3, sequence: 2_147_483_647 };
        let whole = [(id, "meter-7"), (epoch, "3"), (seq, "2147483647")];
        assert_eq!(read(&[], Place::Topic), Ok(Recognised::No));
        assert_eq!(read(&whole, Place::Partition), Ok(by_sequence));
        assert_eq!(read(&whole, Place::Topic), Err(ErrorCode::ProducerHeadersNeedPartition));
        assert_eq!(read(&whole[..1], Place::Topic), Err(ErrorCode::ProducerHeadersNeedPartition));
        assert_eq!(read(&whole, Place::Batches), Err(ErrorCode::MalformedHeader));
        for place in [Place::Topic, Place::Partition, Place::Batches] {
            assert_eq!(read(&[(key, "8e03978e-40d5")], place), Ok(Recognised::ByKey("8e03978e-40d5".to_owned())));
        }
        let long = "x".repeat(129);
        for wrong in [
            &whole[..2],
            &whole[1..],
            &[(id, ""), whole[1], whole[2]],
            &[(id, "two words"), whole[1], whole[2]],
            &[(id, &long), whole[1], whole[2]],
            &[whole[0], (epoch, "32768"), whole[2]],
            &[whole[0], (epoch, "-1"), whole[2]],
            &[whole[0], whole[1], (seq, "2147483648")],
            &[whole[0], whole[1], (seq, "+1")],
            &[whole[0], whole[1], whole[2], (key, "k")],
            &[(key, "")],
            &[(key, &long)],
            &[(key, "a"), (key, "b")],
            &[(&TRANSACTION_ID, "t")],
        ] {
            assert_eq!(read(wrong, Place::Partition), Err(ErrorCode::MalformedHeader), "{wrong:?}");
        }
        for fields in [&whole[..], &[(key, "k")]] {
            let error = Recognised::read(&headers(fields), Place::Partition, Acks::None).unwrap_err();
            assert_eq!(error.code(), ErrorCode::MalformedHeader);
        }
    }

    /// A promise: an answer says that it is a repetition only if nothing was written, and the shortest window of its partitions.
    #[test]
    fn answers_tell_what_happened() {
        let appended = |origin, key_window_ms| Appended {
            base_offset: Offset::ZERO,
            last_offset: Offset::ZERO,
            append_time: Some(Timestamp::from_millis(0)),
            durability: Durability::Fsync,
            origin,
            key_window_ms,
        };
        let told = |parts: &[Appended], stamp| {
            let mut told = Told::numbered(stamp, 3);
            parts.iter().for_each(|part| told.note(part));
            let headers = told.into_headers();
            let mut said: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
            said.sort();
            said
        };
        let stamp = Some(ProducerStamp { id: 5, epoch: 0, sequence: i32::MAX });
        let (written, replayed) = (appended(Origin::Written, Some(600_000)), appended(Origin::Replayed, Some(9_999)));
        assert_eq!(told(&[written, written], None), ["idempotency-window: 600"]);
        assert_eq!(told(&[written, replayed], None), ["idempotency-window: 9"]);
        assert_eq!(told(&[replayed], None), ["idempotency-replayed: true", "idempotency-window: 9"]);
        assert_eq!(told(&[appended(Origin::Written, None)], stamp), ["producer-next-seq: 2"]);
        for origin in [Origin::Replayed, Origin::Forgotten] {
            assert_eq!(told(&[appended(origin, None)], stamp), ["producer-duplicate: true", "producer-next-seq: 2"]);
        }
        assert!(told(&[appended(Origin::Written, None)], None).is_empty());
    }
}
