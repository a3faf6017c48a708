//! What is sent, made before the clock runs: a pool of bodies with distinct values, and the hash of each value.
//!
//! A value is `{"t":"<16 hex digits>","d":"<filler>"}` in every form. `t` is a stamp: which value it is or, end to end, when it was due.

use bytes::Bytes;
use serde_json::value::RawValue;
use tidegate_client::{NewRecord, Value, batch};
use tidegate_types::Codec;
use twox_hash::XxHash3_64;

use super::super::Failure;
use super::arguments::{Form, Load};

/// A value with no filler.
pub(crate) const VALUE_BYTES_MIN: usize = 31;
/// What the pool of bodies may hold; a single body may be larger.
const POOL_BYTES: usize = 16 << 20;
const POOL_BODIES: usize = 64;
/// How a value begins, up to its stamp.
const HEAD: &str = r#"{"t":""#;
const STAMP_DIGITS: usize = 16;

/// A body, and what its records' values hash to.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    /// In order.
    pub(crate) hashes: Vec<u64>,
}

/// How bodies look.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    form: Form,
    codec: Codec,
    records: usize,
    /// Long enough that every value finds another piece of it.
    filler: String,
    filler_bytes: usize,
    /// Of records in stored batches, in milliseconds since 1970.
    timestamp: i64,
}

/// The hash of a value's bytes.
pub(crate) fn hash(value: &[u8]) -> u64 {
    XxHash3_64::oneshot(value)
}

/// The stamp in a value, if it has one.
pub(crate) fn stamp_of(value: &[u8]) -> Option<u64> {
    let digits = value.strip_prefix(HEAD.as_bytes())?.get(..STAMP_DIGITS)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

impl Shape {
    /// As `load` says; `timestamp` is now.
    pub(crate) fn new(load: &Load, timestamp: i64) -> Self {
        let filler_bytes = load.record_bytes.saturating_sub(VALUE_BYTES_MIN);
        Self {
            form: load.form,
            codec: load.codec,
            records: load.records_per_request() as usize,
            filler: filler(filler_bytes + (64 << 10), load.compressible),
            filler_bytes,
            timestamp,
        }
    }

    /// Stored batches, whatever is asked for: the fastest way to fill a topic.
    pub(crate) fn with_batches(mut self) -> Self {
        self.form = Form::Batches;
        self
    }

    /// The same with so many records in a body.
    pub(crate) fn with_records(mut self, records: usize) -> Self {
        self.records = records;
        self
    }

    pub(crate) const fn form(&self) -> Form {
        self.form
    }

    /// In one body.
    pub(crate) const fn records(&self) -> usize {
        self.records
    }

    /// One value; `place` chooses its filler.
    fn value(&self, stamp: u64, place: usize) -> String {
        let room = self.filler.len() - self.filler_bytes;
        // A step that has no factor in common with the room: neighbours differ.
        let start = place.wrapping_mul(7919) % (room + 1);
        format!("{HEAD}{stamp:016x}\",\"d\":\"{}\"}}", &self.filler[start..start + self.filler_bytes])
    }

    /// A body of values; `stamp` gives each its stamp by its place in the body.
    ///
    /// # Errors
    /// If a batch cannot hold them.
    pub(crate) fn body(&self, first_place: usize, stamp: impl Fn(usize) -> u64) -> Result<Body, Failure> {
        let values: Vec<String> = (0..self.records).map(|n| self.value(stamp(n), first_place + n)).collect();
        let hashes = values.iter().map(|value| hash(value.as_bytes())).collect();
        let bytes = match self.form {
            Form::Json => {
                let records: Vec<_> = values.iter().map(|value| format!(r#"{{"value":{value}}}"#)).collect();
                format!(r#"{{"records":[{}]}}"#, records.join(",")).into()
            }
            Form::Ndjson => values.iter().map(|value| format!("{{\"value\":{value}}}\n")).collect::<String>().into(),
            Form::Raw => values.concat().into(),
            Form::Batches => self.pack(values)?,
        };
        Ok(Body { bytes, hashes })
    }

    fn pack(&self, values: Vec<String>) -> Result<Bytes, Failure> {
        let record = |value| {
            let value = RawValue::from_string(value).map_err(|error| Failure::Local(error.to_string()))?;
            Ok(NewRecord::new(Value::Json(value)).timestamp(self.timestamp))
        };
        let records = values.into_iter().map(record).collect::<Result<Vec<_>, Failure>>()?;
        Ok(batch::encode(&records, self.codec)?)
    }

    /// Bodies to be sent in turn, so many that values differ and so few that memory is bounded.
    ///
    /// # Errors
    /// As [`Shape::body`].
    pub(crate) fn pool(&self) -> Result<Vec<Body>, Failure> {
        let body_bytes = (self.filler_bytes + VALUE_BYTES_MIN) * self.records;
        let count = (POOL_BYTES / body_bytes.max(1)).clamp(1, POOL_BODIES);
        (0..count).map(|n| self.body(n * self.records, |place| (n * self.records + place) as u64)).collect()
    }
}

/// Text without anything that JSON escapes; by letters of 6 bits each, so that a codec saves a quarter at most.
fn filler(bytes: usize, compressible: bool) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    if compressible {
        return "tidegate ".chars().cycle().take(bytes).collect();
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(LETTERS[usize::try_from(state >> 58).unwrap_or_default()])
    };
    (0..bytes).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(form: Form, records: usize, record_bytes: usize) -> Shape {
        let filler_bytes = record_bytes - VALUE_BYTES_MIN;
        Shape { form, codec: Codec::None, records, filler: filler(filler_bytes + 100, false), filler_bytes, timestamp: 1 }
    }

    /// A promise: a value has exactly the bytes asked for, is JSON, differs from its neighbours and gives its stamp back.
    #[test]
    fn values_are_as_said() {
        for bytes in [VALUE_BYTES_MIN, 100, 1024] {
            let shape = shape(Form::Json, 2, bytes);
            let value = shape.value(0xbeef, 3);
            assert_eq!((value.len(), stamp_of(value.as_bytes())), (bytes, Some(0xbeef)));
            serde_json::from_str::<serde_json::Value>(&value).unwrap();
        }
        let shape = shape(Form::Json, 2, 100);
        assert_ne!(shape.value(0, 1), shape.value(0, 2));
        assert_eq!((stamp_of(b"{}"), stamp_of(br#"{"t":"xyz"#)), (None, None));
    }

    /// A promise: the hashes beside a body are those of the values in it.
    #[test]
    fn hashes_belong_to_their_body() {
        let body = shape(Form::Json, 3, 64).body(0, |n| n as u64).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap();
        let hashes: Vec<_> = json["records"].as_array().unwrap().iter().map(|r| hash(r["value"].to_string().as_bytes())).collect();
        // serde_json sorts the members, which changes bytes but not how many there are.
        assert_eq!(hashes.len(), body.hashes.len());
        let text = String::from_utf8(body.bytes.to_vec()).unwrap();
        let values = text.split(r#"{"value":"#).skip(1).map(|rest| rest.split_once('}').unwrap().0.to_owned() + "}");
        assert_eq!(values.map(|value| hash(value.as_bytes())).collect::<Vec<_>>(), body.hashes);
    }

    /// A promise: the pool's memory is bounded, and its bodies differ.
    #[test]
    fn the_pool_is_bounded() {
        let pool = shape(Form::Raw, 1, 1024).pool().unwrap();
        assert_eq!(pool.len(), POOL_BODIES);
        assert!(pool.iter().skip(1).all(|body| body.hashes != pool[0].hashes));
        assert_eq!(shape(Form::Json, 20, 1 << 20).pool().unwrap().len(), 1);
    }
}
