//! Records as a JSON producer gives them: `{"records":[{"key":…,"value":…}, …]}`, and one of them a line in a stream.
//!
//! Read by hand, in one walk: every field is borrowed from the body, `value` as the exact bytes received (D12).

use std::borrow::Cow;

use utoipa::ToSchema;

use crate::extract::{Handling, IgnoredFields};
use crate::json::{ScanError, Scanner};

/// Records to be written, all or none.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"records": [
    {"key": "u1", "value": {"total": 10}, "headers": [{"name": "trace", "value": "abc"}], "timestamp": 1_763_709_600_000_i64},
    {"key": "u2", "text": "plain utf-8"},
    {"base64": "AAEC"},
    {"key": "u1", "tombstone": true}
]}))]
pub(crate) struct ProduceRequest {
    /// The records, at least one.
    #[schema(min_items = 1, max_items = 10_000)]
    #[expect(dead_code, reason = "read by hand; the struct is its schema")]
    records: Vec<ProduceRecord>,
}

/// A record to be written. Exactly one of `value`, `text`, `base64` and `tombstone` is given.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"key": "u1", "value": {"total": 10}}))]
#[expect(dead_code, reason = "read by hand; the struct is its schema")]
pub(crate) struct ProduceRecord {
    /// The key, as text. Left out: no key. The empty key is a key.
    #[schema(nullable = false)]
    key: Option<String>,
    /// The key, as base64, if it is no UTF-8.
    #[schema(nullable = false, format = Byte)]
    key_base64: Option<String>,
    /// The value: any JSON, `null` included; kept as the exact bytes received.
    #[schema(value_type = Value, required = false)]
    value: Option<serde_json::Value>,
    /// The value, as text.
    #[schema(nullable = false)]
    text: Option<String>,
    /// The value, as base64.
    #[schema(nullable = false, format = Byte)]
    base64: Option<String>,
    /// `true`: no value at all; compaction will remove the key.
    #[schema(nullable = false)]
    tombstone: Option<bool>,
    /// Headers, in order; names need not be unique.
    #[schema(nullable = false, max_items = 128)]
    headers: Option<Vec<RecordHeader>>,
    /// Milliseconds since 1970-01-01 UTC; left out: now.
    #[schema(nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    timestamp: Option<i64>,
    /// The partition; left out: by the key.
    #[schema(nullable = false)]
    partition: Option<u32>,
}

/// A header of a record. With neither `value` nor `base64` it has no value.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"name": "trace", "value": "abc"}))]
#[expect(dead_code, reason = "read and written by hand; the struct is its schema")]
pub(crate) struct RecordHeader {
    /// Its name.
    name: String,
    /// Its value, as text.
    #[schema(nullable = false)]
    value: Option<String>,
    /// Its value, as base64, if it is no UTF-8.
    #[schema(nullable = false, format = Byte)]
    base64: Option<String>,
}

/// The fields of a record, as [`Draft::read`] knows them.
const RECORD_FIELDS: &[&str] = &["key", "key_base64", "value", "text", "base64", "tombstone", "headers", "timestamp", "partition"];
const HEADER_FIELDS: &[&str] = &["name", "value", "base64"];
const ENVELOPE_FIELDS: &[&str] = &["records"];

/// Headers of one record that are read before the limit on them is looked at: what is read takes more room than the body that says it.
const HEADERS_READ_MAX: usize = 10_000;
const A_STRING: &str = "a string is expected here";

/// Fields named in `ignored_fields` at most.
const IGNORED_MAX: usize = 100;

/// Why JSON could not be read as records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// It is no JSON, or a field is not what it should be.
    Malformed {
        /// Byte position in the text.
        at: usize,
        /// JSON pointer to the field, relative to what was read.
        pointer: String,
        /// What is wrong.
        reason: Cow<'static, str>,
    },
    /// A value is nested too deeply.
    TooDeep {
        /// JSON pointer to the field.
        pointer: String,
    },
    /// A field that has to be there is not.
    Missing {
        /// JSON pointer to where it should be.
        pointer: String,
    },
    /// A field that there is not.
    UnknownField {
        /// Byte position in the text.
        at: usize,
        /// JSON pointer to the field.
        pointer: String,
        /// Those that there are.
        known: &'static [&'static str],
    },
}

impl ReadError {
    fn new(error: ScanError, pointer: &str) -> Self {
        match error {
            ScanError::TooDeep { .. } => Self::TooDeep { pointer: pointer.to_owned() },
            ScanError::Malformed { at, reason } => Self::Malformed { at, pointer: pointer.to_owned(), reason: reason.into() },
        }
    }

    /// The same error, seen from above.
    pub(crate) fn within(mut self, parent: std::fmt::Arguments<'_>) -> Self {
        let (Self::Malformed { pointer, .. } | Self::TooDeep { pointer } | Self::Missing { pointer } | Self::UnknownField { pointer, .. }) =
            &mut self;
        *pointer = format!("{parent}{pointer}");
        self
    }
}

/// What becomes of fields that there are not (D18).
#[derive(Debug, Default)]
pub(crate) struct Strictness {
    /// JSON pointers of the fields that were passed over; `None` is strict: the first one is an error.
    ignored: Option<Vec<String>>,
}

impl Strictness {
    /// As the client asks.
    pub(crate) fn new(handling: Handling) -> Self {
        Self { ignored: (handling == Handling::Lenient).then(Vec::new) }
    }

    /// What was passed over.
    pub(crate) fn into_ignored(self) -> IgnoredFields {
        IgnoredFields(self.ignored.unwrap_or_default())
    }

    fn count(&self) -> usize {
        self.ignored.as_ref().map_or(0, Vec::len)
    }

    /// Says where the fields passed over since there were `from` of them stand, seen from above.
    fn within(&mut self, from: usize, parent: std::fmt::Arguments<'_>) {
        for pointer in self.ignored.iter_mut().flatten().skip(from) {
            *pointer = format!("{parent}{pointer}");
        }
    }

    /// Passes over the value of the field `name`, or says that there is no such field.
    fn unknown(&mut self, scanner: &mut Scanner<'_>, name: &str, known: &'static [&'static str]) -> Result<(), ReadError> {
        let Some(ignored) = &mut self.ignored else {
            return Err(ReadError::UnknownField { at: scanner.at(), pointer: format!("/{name}"), known });
        };
        if ignored.len() < IGNORED_MAX {
            ignored.push(format!("/{name}"));
        }
        scanner.value().map(|_| ()).map_err(|error| ReadError::new(error, &format!("/{name}")))
    }
}

/// A header as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DraftHeader<'a> {
    pub(crate) name: Option<Cow<'a, str>>,
    pub(crate) value: Option<Cow<'a, str>>,
    pub(crate) base64: Option<Vec<u8>>,
}

/// A record as it was given: each field is there or not, no rule is checked yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Draft<'a> {
    pub(crate) key: Option<Cow<'a, str>>,
    pub(crate) key_base64: Option<Vec<u8>>,
    /// The exact bytes of a JSON value.
    pub(crate) value: Option<&'a str>,
    pub(crate) text: Option<Cow<'a, str>>,
    pub(crate) base64: Option<Vec<u8>>,
    pub(crate) tombstone: Option<bool>,
    pub(crate) headers: Option<Vec<DraftHeader<'a>>>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) partition: Option<u32>,
}

/// Reads into `slot`, which must be empty: a field that stands twice is an error, as no reader could tell which one counts.
fn once<T>(slot: &mut Option<T>, at: usize, read: impl FnOnce() -> Result<T, ScanError>) -> Result<(), ScanError> {
    if slot.is_some() {
        return Err(ScanError::Malformed { at, reason: "the field stands twice" });
    }
    *slot = Some(read()?);
    Ok(())
}

impl<'a> Draft<'a> {
    /// Reads a text that is nothing but one record's object.
    pub(crate) fn read_whole(scanner: &mut Scanner<'a>, strictness: &mut Strictness) -> Result<Self, ReadError> {
        let draft = Self::read(scanner, strictness)?;
        scanner.end().map_err(|error| ReadError::new(error, ""))?;
        Ok(draft)
    }

    /// Reads one record's object.
    pub(crate) fn read(scanner: &mut Scanner<'a>, strictness: &mut Strictness) -> Result<Self, ReadError> {
        let mut draft = Self::default();
        scanner.open_object().map_err(|error| ReadError::new(error, ""))?;
        let mut first = true;
        while let Some(name) = scanner.next_field(first).map_err(|error| ReadError::new(error, ""))? {
            first = false;
            draft.read_field(&name, scanner, strictness)?;
        }
        Ok(draft)
    }

    fn read_field(&mut self, name: &str, scanner: &mut Scanner<'a>, strictness: &mut Strictness) -> Result<(), ReadError> {
        let at = scanner.at();
        let read = match name {
            "key" => once(&mut self.key, at, || scanner.string("a string is expected here; a record without a key has no such field")),
            "key_base64" => once(&mut self.key_base64, at, || scanner.base64()),
            "value" => once(&mut self.value, at, || scanner.value()),
            "text" => once(&mut self.text, at, || scanner.string(A_STRING)),
            "base64" => once(&mut self.base64, at, || scanner.base64()),
            "tombstone" => once(&mut self.tombstone, at, || scanner.boolean("true or false is expected here")),
            "timestamp" => once(&mut self.timestamp, at, || scanner.integer("a whole number of milliseconds is expected here")),
            "partition" => once(&mut self.partition, at, || scanner.unsigned("a partition's number is expected here")),
            "headers" if self.headers.is_some() => Err(ScanError::Malformed { at, reason: "the field stands twice" }),
            "headers" => {
                let before = strictness.count();
                self.headers = Some(read_headers(scanner, strictness).map_err(|error| error.within(format_args!("/headers")))?);
                strictness.within(before, format_args!("/headers"));
                Ok(())
            }
            unknown => return strictness.unknown(scanner, unknown, RECORD_FIELDS),
        };
        read.map_err(|error| ReadError::new(error, &format!("/{name}")))
    }
}

fn read_headers<'a>(scanner: &mut Scanner<'a>, strictness: &mut Strictness) -> Result<Vec<DraftHeader<'a>>, ReadError> {
    let mut headers = Vec::new();
    scanner.open_array().map_err(|error| ReadError::new(error, ""))?;
    while scanner.next_element(headers.is_empty()).map_err(|error| ReadError::new(error, ""))? {
        let index = headers.len();
        if index >= HEADERS_READ_MAX {
            return Err(ReadError::new(ScanError::Malformed { at: scanner.at(), reason: "far too many headers" }, ""));
        }
        let before = strictness.count();
        headers.push(read_header(scanner, strictness).map_err(|error| error.within(format_args!("/{index}")))?);
        strictness.within(before, format_args!("/{index}"));
    }
    Ok(headers)
}

fn read_header<'a>(scanner: &mut Scanner<'a>, strictness: &mut Strictness) -> Result<DraftHeader<'a>, ReadError> {
    let mut header = DraftHeader::default();
    scanner.open_object().map_err(|error| ReadError::new(error, ""))?;
    let mut first = true;
    while let Some(name) = scanner.next_field(first).map_err(|error| ReadError::new(error, ""))? {
        first = false;
        let at = scanner.at();
        let read = match name.as_ref() {
            "name" => once(&mut header.name, at, || scanner.string(A_STRING)),
            "value" => once(&mut header.value, at, || scanner.string(A_STRING)),
            "base64" => once(&mut header.base64, at, || scanner.base64()),
            unknown => {
                strictness.unknown(scanner, unknown, HEADER_FIELDS)?;
                continue;
            }
        };
        read.map_err(|error| ReadError::new(error, &format!("/{name}")))?;
    }
    if header.name.is_none() {
        return Err(ReadError::Missing { pointer: "/name".to_owned() });
    }
    Ok(header)
}

/// Reads `{"records":[…]}` to its end and hands each record to `take`, with its place.
///
/// # Errors
/// What `take` says, or a [`ReadError`] with its pointer from the top.
pub(crate) fn read_envelope<'a, E: From<ReadError>>(
    text: &'a str,
    depth_max: usize,
    strictness: &mut Strictness,
    mut take: impl FnMut(usize, &Draft<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut scanner = Scanner::new(text, depth_max);
    let top = |error| E::from(ReadError::new(error, ""));
    scanner.open_object().map_err(top)?;
    let mut has_records = false;
    let mut first = true;
    while let Some(name) = scanner.next_field(first).map_err(top)? {
        first = false;
        if name != "records" {
            strictness.unknown(&mut scanner, &name, ENVELOPE_FIELDS)?;
            continue;
        }
        if has_records {
            let reason = "the field stands twice".into();
            return Err(ReadError::Malformed { at: scanner.at(), pointer: "/records".to_owned(), reason }.into());
        }
        has_records = true;
        read_records(&mut scanner, strictness, &mut take)?;
    }
    if !has_records {
        return Err(ReadError::Missing { pointer: "/records".to_owned() }.into());
    }
    scanner.end().map_err(top)
}

fn read_records<'a, E: From<ReadError>>(
    scanner: &mut Scanner<'a>,
    strictness: &mut Strictness,
    take: &mut impl FnMut(usize, &Draft<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let records = |error| E::from(ReadError::new(error, "/records"));
    scanner.open_array().map_err(records)?;
    let mut index = 0;
    while scanner.next_element(index == 0).map_err(records)? {
        let before = strictness.count();
        let draft = Draft::read(scanner, strictness).map_err(|error| error.within(format_args!("/records/{index}")))?;
        strictness.within(before, format_args!("/records/{index}"));
        take(index, &draft)?;
        index += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, strictness: &mut Strictness) -> Result<usize, ReadError> {
        let mut count = 0;
        read_envelope(text, 128, strictness, |index, _| {
            assert_eq!(index, count);
            count += 1;
            Ok::<(), ReadError>(())
        })?;
        Ok(count)
    }

    /// A promise: every field arrives, the value as the very bytes, and null is a value while an absent one is none.
    #[test]
    fn fields_arrive() {
        let text = r#"{"partition":3,"value": {"a":1e400, "a":-0} ,"key":"k\n","headers":[{"name":"n","value":""},{"base64":"AA==","name":""},{"name":"x"}],"timestamp":0}"#;
        let draft = Draft::read(&mut Scanner::new(text, 128), &mut Strictness::default()).unwrap();
        assert_eq!(draft.value, Some(r#"{"a":1e400, "a":-0}"#));
        assert_eq!((draft.key.as_deref(), draft.partition, draft.timestamp), (Some("k\n"), Some(3), Some(0)));
        let headers = draft.headers.unwrap();
        assert_eq!(headers[0].value.as_deref(), Some(""));
        assert_eq!((headers[1].name.as_deref(), headers[1].base64.as_deref()), (Some(""), Some(&[0][..])));
        assert_eq!((headers[2].value.as_deref(), headers[2].base64.as_deref()), (None, None));
        let null = Draft::read(&mut Scanner::new(r#"{"value":null}"#, 1), &mut Strictness::default()).unwrap();
        assert_eq!(null, Draft { value: Some("null"), ..Draft::default() });
        let empty = Draft::read(&mut Scanner::new("{}", 1), &mut Strictness::default()).unwrap();
        assert_eq!(empty, Draft::default());
    }

    /// A promise: what cannot be read is named by its pointer, wherever it stands.
    #[test]
    fn errors_name_their_place() {
        for (text, pointer) in [
            ("", ""),
            ("[]", ""),
            ("{", ""),
            (r#"{"records":[]} x"#, ""),
            (r#"{"records":[],"records":[]}"#, "/records"),
            (r#"{"records":{}}"#, "/records"),
            (r#"{"records":[{}"#, "/records"),
            (r#"{"records":[{},1]}"#, "/records/1"),
            (r#"{"records":[{"key":1}]}"#, "/records/0/key"),
            (r#"{"records":[{"key":null}]}"#, "/records/0/key"),
            (r#"{"records":[{"key":"a","key":"b"}]}"#, "/records/0/key"),
            (r#"{"records":[{"value":1,"value":1}]}"#, "/records/0/value"),
            (r#"{"records":[{"value":}]}"#, "/records/0/value"),
            (r#"{"records":[{"base64":"AAE"}]}"#, "/records/0/base64"),
            (r#"{"records":[{"key_base64":"A-_="}]}"#, "/records/0/key_base64"),
            (r#"{"records":[{"tombstone":1}]}"#, "/records/0/tombstone"),
            (r#"{"records":[{"timestamp":1.5}]}"#, "/records/0/timestamp"),
            (r#"{"records":[{"partition":"0"}]}"#, "/records/0/partition"),
            (r#"{"records":[{"partition":-1}]}"#, "/records/0/partition"),
            (r#"{"records":[{"headers":{}}]}"#, "/records/0/headers"),
            (r#"{"records":[{"headers":[],"headers":[]}]}"#, "/records/0/headers"),
            (r#"{"records":[{},{"headers":[{"name":"x"},{"name":7}]}]}"#, "/records/1/headers/1/name"),
        ] {
            let error = read(text, &mut Strictness::default()).unwrap_err();
            assert!(matches!(&error, ReadError::Malformed { pointer: p, .. } if p == pointer), "{text}: {error:?}");
        }
        for (text, pointer) in [("{}", "/records"), (r#"{"records":[{"headers":[{"value":"x"}]}]}"#, "/records/0/headers/0/name")] {
            let error = read(text, &mut Strictness::default()).unwrap_err();
            assert_eq!(error, ReadError::Missing { pointer: pointer.to_owned() });
        }
        let deep = format!(r#"{{"records":[{{"value":{}1{}}}]}}"#, "[".repeat(129), "]".repeat(129));
        let error = read(&deep, &mut Strictness::default()).unwrap_err();
        assert_eq!(error, ReadError::TooDeep { pointer: "/records/0/value".into() });
    }

    /// A promise: an unknown field is an error that knows its neighbours, or is named when the client prefers to go on.
    #[test]
    fn unknown_fields_are_errors_or_named() {
        let text = r#"{"record":[1],"records":[{"vaule":{"a":[]}},{"headers":[{"name":"a","vaule":1}]}]}"#;
        let error = read(text, &mut Strictness::default()).unwrap_err();
        assert!(matches!(error, ReadError::UnknownField { pointer, known: ENVELOPE_FIELDS, .. } if pointer == "/record"));
        let mut lenient = Strictness::new(Handling::Lenient);
        assert_eq!(read(text, &mut lenient), Ok(2));
        assert_eq!(lenient.into_ignored().0, ["/record", "/records/0/vaule", "/records/1/headers/0/vaule"]);
    }
}
