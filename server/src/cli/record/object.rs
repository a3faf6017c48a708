//! A record as a JSON object on one line, in the API's shape: what `consume -o ndjson` writes and `produce --input ndjson` reads.
//!
//! Its promise: **what is written and read again is the same record**: key, headers with their order and duplicates, timestamp, the exact
//! bytes of the value and how it was given. A JSON value that is spread over lines cannot stand on one line as it is: it is written with
//! spaces for its line breaks, and its exact bytes beside it as `value_base64`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use tidegate_client::{Header, NewRecord, Record, Value};
use tidegate_types::Offset;

/// `record` as a JSON object on one line.
pub(in crate::cli) fn to_line(record: &Record) -> Result<String, String> {
    serde_json::to_string(&Object(record)).map_err(|error| error.to_string())
}

/// `headers` as a JSON array on one line.
pub(in crate::cli) fn headers_to_json(headers: &[Header]) -> Result<String, String> {
    serde_json::to_string(&Headers(headers)).map_err(|error| error.to_string())
}

/// A JSON text on one line: line breaks stand only between its words.
pub(in crate::cli) fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

struct Object<'r>(&'r Record);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("partition", &record.partition)?;
        map.serialize_entry("offset", &record.offset)?;
        map.serialize_entry("timestamp", &record.timestamp)?;
        if let Some(key) = &record.key {
            serialize_bytes(&mut map, key, "key", "key_base64")?;
        }
        match &record.value {
            Value::Json(json) if json.get().contains(['\n', '\r']) => {
                let line = RawValue::from_string(one_line(json.get())).map_err(<S::Error as serde::ser::Error>::custom)?;
                map.serialize_entry("value", &line)?;
                map.serialize_entry("value_base64", &BASE64.encode(json.get()))?;
            }
            Value::Json(json) => map.serialize_entry("value", json)?,
            Value::Text(text) => map.serialize_entry("text", text)?,
            Value::Bytes(bytes) => map.serialize_entry("base64", &BASE64.encode(bytes))?,
            Value::Tombstone => map.serialize_entry("tombstone", &true)?,
        }
        if !record.headers.is_empty() {
            map.serialize_entry("headers", &Headers(&record.headers))?;
        }
        map.end()
    }
}

struct Headers<'r>(&'r [Header]);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for header in self.0 {
            list.serialize_element(header)?;
        }
        list.end()
    }
}

/// Bytes as text under one name if they are UTF-8, else as base64 under the other.
fn serialize_bytes<M: SerializeMap>(map: &mut M, bytes: &[u8], text: &'static str, base64: &'static str) -> Result<(), M::Error> {
    match std::str::from_utf8(bytes) {
        Ok(utf8) => map.serialize_entry(text, utf8),
        Err(_) => map.serialize_entry(base64, &BASE64.encode(bytes)),
    }
}

/// A record object as people and programs write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    partition: Option<u32>,
    /// What a fetch said of the original; a copy gets its own.
    #[serde(rename = "offset")]
    _offset: Option<u64>,
    timestamp: Option<i64>,
    key: Option<String>,
    key_base64: Option<String>,
    /// `null` is a value like any other, so that it must not be read as "absent".
    #[serde(default, deserialize_with = "present")]
    value: Option<Box<RawValue>>,
    value_base64: Option<String>,
    text: Option<String>,
    base64: Option<String>,
    tombstone: Option<bool>,
    #[serde(default)]
    headers: Vec<WireHeader>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireHeader {
    name: String,
    value: Option<String>,
    base64: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// The record that a JSON object says; its offset is of no use and ignored.
pub(in crate::cli) fn from_json(json: &str) -> Result<NewRecord, String> {
    // Numbers and strings give serde_json reasons of their own, which say less than this.
    if !json.trim_start().starts_with('{') {
        return Err(format!(
            "a record object is expected, such as {{\"key\":\"k\",\"value\":1}}, not '{}'",
            super::screen::cut(&super::screen::visible(json.as_bytes()), 40)
        ));
    }
    let wire: Wire = serde_json::from_str(json).map_err(|error| reason(&error))?;
    let value = match (wire.value, wire.value_base64, wire.text, wire.base64, wire.tombstone.unwrap_or(false)) {
        (Some(json), None, None, None, false) => Value::Json(json),
        (_, Some(exact), None, None, false) => Value::Json(json_of(decode("value_base64", &exact)?)?),
        (None, None, Some(text), None, false) => Value::Text(text),
        (None, None, None, Some(base64), false) => Value::Bytes(decode("base64", &base64)?),
        (None, None, None, None, true) => Value::Tombstone,
        _ => return Err("a record has exactly one of value, text, base64 and tombstone".to_owned()),
    };
    let timestamp = wire.timestamp.map(checked_timestamp).transpose()?;
    let key = either(wire.key, wire.key_base64, "key")?;
    let headers = wire.headers.into_iter().map(header).collect::<Result<_, _>>()?;
    Ok(NewRecord { key, value, headers, timestamp, partition: wire.partition })
}

/// The headers that a JSON array says.
pub(in crate::cli) fn headers_from_json(json: &str) -> Result<Vec<Header>, String> {
    let wire: Vec<WireHeader> = serde_json::from_str(json).map_err(|error| reason(&error))?;
    wire.into_iter().map(header).collect()
}

/// `bytes` as a JSON value, if they are one JSON text. White space around it is no part of it.
pub(in crate::cli) fn json_of(bytes: impl Into<Vec<u8>>) -> Result<Box<RawValue>, String> {
    let text = String::from_utf8(bytes.into()).map_err(|_| "a JSON value is UTF-8, and this is not".to_owned())?;
    RawValue::from_string(text).map_err(|error| reason(&error))
}

/// A timestamp that the API can hold.
pub(in crate::cli) fn checked_timestamp(millis: i64) -> Result<i64, String> {
    let range = 0..=Offset::MAX.to_i64();
    if range.contains(&millis) {
        Ok(millis)
    } else {
        Err(format!("the timestamp {millis} is out of range: it is milliseconds since 1970, up to 2^53 - 1"))
    }
}

/// What is wrong and at which column; the line is the caller's to say, since it knows the file's.
pub(in crate::cli) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((reason, _)) if error.line() > 1 => format!("{reason} (line {} of it, column {})", error.line(), error.column()),
        Some((reason, _)) => format!("{reason} (column {})", error.column()),
        None => text,
    }
}

fn decode(name: &str, base64: &str) -> Result<Bytes, String> {
    BASE64.decode(base64).map(Bytes::from).map_err(|error| format!("{name} is no base64: {error}"))
}

fn either(text: Option<String>, base64: Option<String>, name: &str) -> Result<Option<Bytes>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("the {name} is given twice, as text and as base64")),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(base64)) => decode(name, &base64).map(Some),
        (None, None) => Ok(None),
    }
}

fn header(wire: WireHeader) -> Result<Header, String> {
    let value = either(wire.value, wire.base64, "header's value")?;
    Ok(Header { name: wire.name, value })
}

/// An object's fields in their order, values as they are.
#[derive(Debug)]
pub(in crate::cli) struct Fields<'j>(pub(in crate::cli) Vec<(String, &'j RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        Value::Json(RawValue::from_string(text.to_owned()).unwrap())
    }

    fn header(name: &str, value: Option<&'static [u8]>) -> Header {
        Header { name: name.to_owned(), value: value.map(Bytes::from_static) }
    }

    fn odd_records() -> Vec<Record> {
        let headers = [header("a", Some(b"1")), header("a", Some(b"\xff")), header("", None), header("a", Some(b""))];
        let values = [
            json("null"),
            json("1234567890123456789012345"),
            json("{\r\n \"a\" :\t[1.10,\n2], \"b\":\"\\u0000 \\ud800\" }"),
            Value::Text(String::new()),
            Value::Text("a\nb\0\u{2028}{}".to_owned()),
            Value::Bytes(Bytes::from_static(b"\xff\0")),
            Value::Bytes(Bytes::from_static(b"utf-8 all the same")),
            Value::Tombstone,
        ];
        let keys = [None, Some(&b""[..]), Some(b"k\0\n"), Some(b"\xfe")];
        let number = |index: usize| u64::try_from(index).unwrap();
        let record = |(index, value): (usize, Value)| Record {
            partition: 3,
            offset: number(index),
            timestamp: 1_763_709_600_000,
            key: keys[index % keys.len()].map(Bytes::from_static),
            value,
            headers: headers[..index % (headers.len() + 1)].to_vec(),
        };
        values.into_iter().enumerate().map(record).collect()
    }

    /// A promise: a record that is written and read again is the same record, whatever is in it, and stands on one line.
    #[test]
    fn records_are_read_back() {
        for record in odd_records() {
            let line = to_line(&record).unwrap();
            assert!(!line.contains(['\n', '\r']), "{line}");
            let back = from_json(&line).unwrap();
            let Record { partition, timestamp, key, value, headers, .. } = record;
            let wanted = NewRecord { key, value, headers, timestamp: Some(timestamp), partition: Some(partition) };
            assert_eq!(back, wanted, "{line}");
            // What the API's own shape can say, a client of it reads as it is.
            if !line.contains("value_base64") {
                assert_eq!(serde_json::from_str::<Record>(&line).unwrap().value, wanted.value);
            }
        }
    }

    /// A promise: the shape is the API's, field for field.
    #[test]
    fn the_shape() {
        let mut record = odd_records().remove(2);
        assert_eq!(
            to_line(&record).unwrap(),
            concat!(
                r#"{"partition":3,"offset":2,"timestamp":1763709600000,"key":"k\u0000\n","value":{   "a" :"#,
                "\t",
                r#"[1.10, 2], "b":"\u0000 \ud800" },"value_base64":"ew0KICJhIiA6CVsxLjEwLAoyXSwgImIiOiJcdTAwMDAgXHVkODAwIiB9","headers":[{"name":"a","value":"1"},{"name":"a","base64":"/w=="}]}"#
            )
        );
        record.value = json("{}");
        record.headers.clear();
        assert_eq!(to_line(&record).unwrap(), r#"{"partition":3,"offset":2,"timestamp":1763709600000,"key":"k\u0000\n","value":{}}"#);
    }

    /// A promise: a record that says two things at once, nothing, or something unknown is refused with the reason.
    #[test]
    fn contradictions_are_refused() {
        for (text, help) in [
            ("{}", "exactly one of"),
            (r#"{"value":1,"text":"a"}"#, "exactly one of"),
            (r#"{"value":null,"tombstone":true}"#, "exactly one of"),
            (r#"{"value_base64":"ew=="}"#, "EOF"),
            (r#"{"base64":"?"}"#, "base64 is no base64"),
            (r#"{"text":"a","key":"a","key_base64":"YQ=="}"#, "key is given twice"),
            (r#"{"text":"a","kye":"a"}"#, "unknown field `kye`"),
            (r#"{"text":"a","timestamp":-1}"#, "timestamp -1"),
            (r#"{"text":"a","timestamp":9007199254740992}"#, "2^53"),
            (r#"{"text":"a","headers":[{"name":"n","value":"a","base64":""}]}"#, "header's value is given twice"),
            (r#"{"text":"a"} x"#, "column 14"),
            (r#"{"text":"a""#, "column 11"),
            ("17", "record object"),
        ] {
            let error = from_json(text).unwrap_err();
            assert!(error.contains(help), "{text}: {error}");
        }
    }
}
