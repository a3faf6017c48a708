//! Records in and out, in the JSON shapes of the API. A value is bytes, and stays the bytes it was.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A value and how it is written in JSON; so it was given, and so it comes back.
#[derive(Debug, Clone)]
pub enum Value {
    /// One JSON text: the exact bytes, not what they mean.
    Json(Box<RawValue>),
    /// UTF-8.
    Text(String),
    /// Anything.
    Bytes(Bytes),
    /// No value: the key is deleted.
    Tombstone,
}

impl Value {
    /// Its bytes; `None` is a tombstone.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Json(json) => Some(json.get().as_bytes()),
            Self::Text(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
            Self::Tombstone => None,
        }
    }

    fn serialize_into<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self {
            Self::Json(json) => map.serialize_entry("value", json),
            Self::Text(text) => map.serialize_entry("text", text),
            Self::Bytes(bytes) => map.serialize_entry("base64", &BASE64.encode(bytes)),
            Self::Tombstone => map.serialize_entry("tombstone", &true),
        }
    }
}

impl PartialEq for Value {
    /// The same bytes given in the same way.
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.as_bytes() == other.as_bytes()
    }
}

/// One header. Names need not be unique; their order is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value; `None` is none at all.
    pub value: Option<Bytes>,
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        if let Some(value) = &self.value {
            serialize_bytes(&mut map, value, "value", "base64")?;
        }
        map.end()
    }
}

/// Bytes as text under one name if they are UTF-8, else as base64 under the other.
fn serialize_bytes<M: SerializeMap>(map: &mut M, bytes: &[u8], text: &'static str, base64: &'static str) -> Result<(), M::Error> {
    match std::str::from_utf8(bytes) {
        Ok(utf8) => map.serialize_entry(text, utf8),
        Err(_) => map.serialize_entry(base64, &BASE64.encode(bytes)),
    }
}

/// A record to be produced.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRecord {
    /// `None` is no key; the empty key is another thing.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Value,
    /// Its headers, in order.
    pub headers: Vec<Header>,
    /// Milliseconds since 1970; `None` is the server's time.
    pub timestamp: Option<i64>,
    /// Where it goes; `None` is by its key.
    pub partition: Option<u32>,
}

impl NewRecord {
    /// A record with that value and nothing else.
    pub const fn new(value: Value) -> Self {
        Self { key: None, value, headers: Vec::new(), timestamp: None, partition: None }
    }

    /// A record whose value is a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Value::Text(text.into()))
    }

    /// A record whose value is bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::new(Value::Bytes(bytes.into()))
    }

    /// A record whose value is `value` as JSON.
    ///
    /// # Errors
    /// [`crate::Error::Input`] if it cannot be written as JSON.
    pub fn json(value: &impl Serialize) -> Result<Self, crate::Error> {
        let json = serde_json::value::to_raw_value(value).map_err(|error| crate::Error::Input(error.to_string()))?;
        Ok(Self::new(Value::Json(json)))
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the timestamp, in milliseconds since 1970.
    #[must_use]
    pub const fn timestamp(mut self, millis: i64) -> Self {
        self.timestamp = Some(millis);
        self
    }

    /// Appends a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header { name: name.into(), value: Some(value.into()) });
        self
    }
}

impl Serialize for NewRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(key) = &self.key {
            serialize_bytes(&mut map, key, "key", "key_base64")?;
        }
        self.value.serialize_into(&mut map)?;
        if !self.headers.is_empty() {
            map.serialize_entry("headers", &self.headers)?;
        }
        if let Some(timestamp) = self.timestamp {
            map.serialize_entry("timestamp", &timestamp)?;
        }
        if let Some(partition) = self.partition {
            map.serialize_entry("partition", &partition)?;
        }
        map.end()
    }
}

/// A record as fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Where it stands: the partition …
    pub partition: u32,
    /// … and the offset in it.
    pub offset: u64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// `None` is no key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Value,
    /// Its headers, in order.
    pub headers: Vec<Header>,
}

/// A record as it is written; fields that a newer server adds are ignored.
#[derive(Deserialize)]
struct WireRecord {
    partition: u32,
    offset: u64,
    timestamp: i64,
    key: Option<String>,
    key_base64: Option<String>,
    /// `null` is a value like any other, so that it must not be read as "absent".
    #[serde(default, deserialize_with = "present")]
    value: Option<Box<RawValue>>,
    text: Option<String>,
    base64: Option<String>,
    #[serde(default)]
    tombstone: bool,
    #[serde(default)]
    headers: Vec<WireHeader>,
}

#[derive(Deserialize)]
struct WireHeader {
    name: String,
    value: Option<String>,
    base64: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

fn from_either<E: serde::de::Error>(text: Option<String>, base64: Option<String>) -> Result<Option<Bytes>, E> {
    match (text, base64) {
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(base64)) => Ok(Some(BASE64.decode(base64).map_err(E::custom)?.into())),
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(E::custom("both text and base64 are given")),
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireRecord::deserialize(deserializer)?;
        let value = match (wire.value, wire.text, wire.base64, wire.tombstone) {
            (Some(json), None, None, false) => Value::Json(json),
            (None, Some(text), None, false) => Value::Text(text),
            (None, None, Some(base64), false) => Value::Bytes(BASE64.decode(base64).map_err(D::Error::custom)?.into()),
            (None, None, None, true) => Value::Tombstone,
            _ => return Err(D::Error::custom("a record has exactly one of value, text, base64 and tombstone")),
        };
        let header = |h: WireHeader| Ok(Header { name: h.name, value: from_either(h.value, h.base64)? });
        Ok(Self {
            partition: wire.partition,
            offset: wire.offset,
            timestamp: wire.timestamp,
            key: from_either(wire.key, wire.key_base64)?,
            value,
            headers: wire.headers.into_iter().map(header).collect::<Result<_, D::Error>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Value {
        Value::Json(RawValue::from_string(json.to_owned()).unwrap())
    }

    /// A promise: a JSON value goes out and comes back as its exact bytes: numbers beyond doubles, `null`, spaces, surrogates, depth.
    #[test]
    fn json_values_keep_their_bytes() {
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        for json in ["null", "1e400", "-0", "1234567890123456789012345", "{ \"a\" : 1 , \"a\":2}", "\"\\ud800\\u0000\"", &deep] {
            let sent = serde_json::to_string(&NewRecord::new(raw(json)).key("k")).unwrap();
            assert_eq!(sent, format!(r#"{{"key":"k","value":{json}}}"#));
            let stored = format!(r#"{{"partition":0,"offset":7,"timestamp":1,"key":"k","value":{json}}}"#);
            let record: Record = serde_json::from_str(&stored).unwrap();
            assert_eq!(record.value, raw(json));
        }
    }

    /// A promise: no key, an empty key, a binary key and headers with and without a value are four different things.
    #[test]
    fn keys_and_headers_keep_their_shape() {
        let mut record = NewRecord::bytes(vec![0xff]).key(vec![0xfe]).header("a", "1").header("a", vec![0x80]);
        record.headers.push(Header { name: "none".to_owned(), value: None });
        let sent = serde_json::to_string(&record).unwrap();
        assert_eq!(
            sent,
            r#"{"key_base64":"/g==","base64":"/w==","headers":[{"name":"a","value":"1"},{"name":"a","base64":"gA=="},{"name":"none"}]}"#
        );
        let stored = sent.replacen('{', r#"{"partition":0,"offset":0,"timestamp":0,"#, 1);
        let back: Record = serde_json::from_str(&stored).unwrap();
        assert_eq!((back.key, back.value, back.headers), (record.key, record.value, record.headers));
        let empty = serde_json::to_string(&NewRecord::new(Value::Tombstone).key("")).unwrap();
        assert_eq!(empty, r#"{"key":"","tombstone":true}"#);
    }

    /// A promise: a record that says two things at once, or nothing, is refused and not guessed at.
    #[test]
    fn contradictions_are_refused() {
        for fields in [
            "",
            r#","text":"a","value":1"#,
            r#","tombstone":true,"value":null"#,
            r#","base64":"?""#,
            r#","text":"a","key":"a","key_base64":"YQ==""#,
        ] {
            let stored = format!(r#"{{"partition":0,"offset":0,"timestamp":0{fields}}}"#);
            assert!(serde_json::from_str::<Record>(&stored).is_err(), "{stored}");
        }
    }
}
