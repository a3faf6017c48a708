//! A record as bytes for whoever reads them: by a [`Template`], as JSON, as YAML, as a row.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tidegate_client::{Header, Record, Value};

use super::object;
use super::screen::{cut, visible, visible_json};
use super::template::{Field, Piece, Shape, Template};
use crate::cli::time::shown;

/// Characters of a key in a row.
const KEY_WIDTH: usize = 20;

/// The form that records are written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Form {
    /// As a template says.
    Template(Template),
    /// One JSON object a line.
    Lines,
    /// A JSON array, one object a line.
    Array,
    /// A YAML sequence.
    Yaml,
    /// One row a record under a head, as wide as the terminal or, with `None`, as wide as it gets.
    Rows {
        /// Characters in a line.
        width: Option<usize>,
    },
}

/// Writes records in one form. What is not flushed is the caller's.
#[derive(Debug)]
pub(in crate::cli) struct Printer<'t> {
    form: Form,
    topic: &'t str,
    /// Whether somebody's terminal reads it.
    is_terminal: bool,
    written: u64,
    line: Vec<u8>,
}

impl<'t> Printer<'t> {
    /// Records of `topic`; for a terminal, what it could act on is escaped.
    pub(in crate::cli) const fn new(form: Form, topic: &'t str, is_terminal: bool) -> Self {
        Self { form, topic, is_terminal, written: 0, line: Vec::new() }
    }

    /// Records written so far.
    pub(in crate::cli) const fn written(&self) -> u64 {
        self.written
    }

    /// Writes one record.
    pub(in crate::cli) fn record(&mut self, out: &mut impl Write, record: &Record) -> std::io::Result<()> {
        self.line.clear();
        let line = &mut self.line;
        match &self.form {
            Form::Template(template) => {
                for piece in template.pieces() {
                    match piece {
                        Piece::Literal(bytes) => line.extend_from_slice(bytes),
                        Piece::Field { field, shape, .. } => put(line, self.topic, record, *field, *shape, self.is_terminal)?,
                    }
                }
            }
            Form::Lines | Form::Array | Form::Yaml => {
                let json = object::to_line(record).map_err(std::io::Error::other)?;
                return self.object(out, &json);
            }
            Form::Rows { width } => {
                if self.written == 0 {
                    writeln!(line, "{:<24}  {:>9}  {:>12}  {:<KEY_WIDTH$}  VALUE", "TIME", "PARTITION", "OFFSET", "KEY")?;
                }
                put_row(line, record, *width)?;
            }
        }
        out.write_all(line)?;
        self.written += 1;
        Ok(())
    }

    /// Writes one object that is on one line as JSON, in a form for programs.
    pub(in crate::cli) fn object(&mut self, out: &mut impl Write, json: &str) -> std::io::Result<()> {
        self.line.clear();
        let line = &mut self.line;
        match &self.form {
            Form::Yaml => put_yaml(line, json)?,
            Form::Array => {
                line.extend_from_slice(if self.written == 0 { b"[\n" } else { b",\n" });
                put_json(line, json, self.is_terminal);
            }
            Form::Lines | Form::Template(_) | Form::Rows { .. } => {
                put_json(line, json, self.is_terminal);
                line.push(b'\n');
            }
        }
        out.write_all(line)?;
        self.written += 1;
        Ok(())
    }

    /// Writes what comes after the last record.
    pub(in crate::cli) fn end(&self, out: &mut impl Write) -> std::io::Result<()> {
        match (&self.form, self.written) {
            (Form::Array, 0) => out.write_all(b"[]\n"),
            (Form::Array, _) => out.write_all(b"\n]\n"),
            (Form::Yaml, 0) => out.write_all(b"[]\n"),
            (Form::Template(_) | Form::Lines | Form::Yaml | Form::Rows { .. }, _) => Ok(()),
        }
    }
}

fn put(line: &mut Vec<u8>, topic: &str, record: &Record, field: Field, shape: Shape, is_terminal: bool) -> std::io::Result<()> {
    let length = |bytes: Option<&[u8]>| bytes.map_or_else(|| "-1".to_owned(), |b| b.len().to_string());
    match field {
        Field::Topic => line.extend_from_slice(topic.as_bytes()),
        Field::Partition => write!(line, "{}", record.partition)?,
        Field::Offset => write!(line, "{}", record.offset)?,
        Field::KeyLength => line.extend_from_slice(length(record.key.as_deref()).as_bytes()),
        Field::ValueLength => line.extend_from_slice(length(record.value.as_bytes()).as_bytes()),
        Field::Timestamp if shape == Shape::Rfc3339 => line.extend_from_slice(shown(record.timestamp).as_bytes()),
        Field::Timestamp => write!(line, "{}", record.timestamp)?,
        Field::Key if shape == Shape::Json => put_json(line, &json_of_bytes(record.key.as_deref())?, is_terminal),
        Field::Key => put_bytes(line, record.key.as_deref().unwrap_or_default(), shape, is_terminal),
        Field::Value if shape == Shape::Json => {
            let json = match &record.value {
                Value::Json(json) => object::one_line(json.get()),
                Value::Text(_) | Value::Bytes(_) | Value::Tombstone => json_of_bytes(record.value.as_bytes())?,
            };
            put_json(line, &json, is_terminal);
        }
        Field::Value => put_bytes(line, record.value.as_bytes().unwrap_or_default(), shape, is_terminal),
        Field::Headers if shape == Shape::Json => {
            put_json(line, &object::headers_to_json(&record.headers).map_err(std::io::Error::other)?, is_terminal);
        }
        Field::Headers => put_bytes(line, &plain_headers(&record.headers), Shape::Plain, is_terminal),
    }
    Ok(())
}

fn put_bytes(line: &mut Vec<u8>, bytes: &[u8], shape: Shape, is_terminal: bool) {
    match shape {
        Shape::Base64 => line.extend_from_slice(BASE64.encode(bytes).as_bytes()),
        Shape::Hex => line.extend(bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|digit| b"0123456789abcdef"[usize::from(digit)])),
        Shape::Plain | Shape::Json | Shape::Rfc3339 if is_terminal => line.extend_from_slice(visible(bytes).as_bytes()),
        Shape::Plain | Shape::Json | Shape::Rfc3339 => line.extend_from_slice(bytes),
    }
}

fn put_json(line: &mut Vec<u8>, json: &str, is_terminal: bool) {
    if is_terminal {
        line.extend_from_slice(visible_json(json).as_bytes());
    } else {
        line.extend_from_slice(json.as_bytes());
    }
}

/// A JSON string: the text, or base64 of what is no UTF-8; `null` is nothing at all.
fn json_of_bytes(bytes: Option<&[u8]>) -> std::io::Result<String> {
    let Some(bytes) = bytes else { return Ok("null".to_owned()) };
    let json = match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::to_string(text),
        Err(_) => serde_json::to_string(&BASE64.encode(bytes)),
    };
    json.map_err(std::io::Error::other)
}

fn plain_headers(headers: &[Header]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, header) in headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(header.name.as_bytes());
        if let Some(value) = &header.value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    out
}

/// Fields as lines, each value as JSON, which YAML can read without changing a digit of it.
fn put_yaml(line: &mut Vec<u8>, json: &str) -> std::io::Result<()> {
    let json = visible_json(json);
    let fields: object::Fields<'_> = serde_json::from_str(&json).map_err(std::io::Error::other)?;
    for (index, (name, value)) in fields.0.iter().enumerate() {
        let mark = if index == 0 { '-' } else { ' ' };
        // A tab may not stand between YAML's words.
        writeln!(line, "{mark} {name}: {}", value.get().replace('\t', " "))?;
    }
    Ok(())
}

fn put_row(line: &mut Vec<u8>, record: &Record, width: Option<usize>) -> std::io::Result<()> {
    let key = record.key.as_deref().map_or_else(|| "-".to_owned(), visible);
    let key = if width.is_some() { cut(&key, KEY_WIDTH) } else { key };
    let value = match &record.value {
        Value::Tombstone => "(tombstone)".to_owned(),
        Value::Json(json) => visible_json(&object::one_line(json.get())).replace('\t', " "),
        Value::Bytes(bytes) if std::str::from_utf8(bytes).is_err() => format!("base64 {}", BASE64.encode(&bytes[..bytes.len().min(4096)])),
        Value::Text(_) | Value::Bytes(_) => visible(record.value.as_bytes().unwrap_or_default()),
    };
    let time = shown(record.timestamp);
    let mut row = format!("{time:<24}  {:>9}  {:>12}  {key:<KEY_WIDTH$}  {value}", record.partition, record.offset);
    if width.is_none() && !record.headers.is_empty() {
        row.push_str("   ");
        row.push_str(&visible(&plain_headers(&record.headers)));
    }
    let row = width.map_or_else(|| row.clone(), |width| cut(&row, width));
    writeln!(line, "{}", row.trim_end())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::value::RawValue;

    use super::*;

    fn record(value: Value) -> Record {
        let header = |name: &str, value: Option<&'static str>| Header { name: name.to_owned(), value: value.map(Into::into) };
        Record {
            partition: 1,
            offset: 42,
            timestamp: 1_763_709_600_123,
            key: Some(Bytes::from_static(b"k\x1b\xff")),
            value,
            headers: vec![header("a", Some("1")), header("b", None)],
        }
    }

    fn printed(form: Form, is_terminal: bool, records: &[Record]) -> Vec<u8> {
        let mut printer = Printer::new(form, "flights", is_terminal);
        let mut out = Vec::new();
        for record in records {
            printer.record(&mut out, record).unwrap();
        }
        printer.end(&mut out).unwrap();
        out
    }

    fn by(template: &str, is_terminal: bool, record: Record) -> Vec<u8> {
        printed(Form::Template(template.parse().unwrap()), is_terminal, &[record])
    }

    fn json(text: &str) -> Value {
        Value::Json(RawValue::from_string(text.to_owned()).unwrap())
    }

    /// A promise: every letter shows what it stands for; a pipe gets the bytes as they are, a terminal nothing that it would act on.
    #[test]
    fn letters() {
        let text = || record(Value::Text("v\u{9b}".to_owned()));
        assert_eq!(by("%t/%p@%o %k=%v\n", false, text()), b"flights/1@42 k\x1b\xff=v\xc2\x9b\n");
        assert_eq!(by("%k=%v %v{json}\n", true, text()), b"k\\x1b\\xff=v\\u{9b} \"v\\u009b\"\n");
        assert_eq!(
            by("%T %T{rfc3339} %K %V %h %h{json}", false, text()),
            br#"1763709600123 2025-11-21T07:20:00.123Z 3 3 a=1,b [{"name":"a","value":"1"},{"name":"b"}]"#
        );
        assert_eq!(by("%k{hex} %k{base64} %k{json} %v{hex}", false, text()), br#"6b1bff axv/ "axv/" 76c29b"#);
        assert_eq!(by("%v{json} %V", false, record(json("{\n1e400}".replace("{\n", "[\n").replace('}', "]").as_str()))), b"[ 1e400] 8");
        let mut nothing = record(Value::Tombstone);
        nothing.key = None;
        assert_eq!(by("[%k][%v] %K %V %k{json} %v{json}", false, nothing), b"[][] -1 -1 null null");
    }

    /// A promise: JSON output is one object a line, alone or in an array that is an array even when it is empty.
    #[test]
    fn json_forms() {
        let records = [record(Value::Tombstone), record(json("1234567890123456789012345"))];
        let lines = String::from_utf8(printed(Form::Lines, false, &records)).unwrap();
        assert_eq!(lines.lines().count(), 2);
        let array = String::from_utf8(printed(Form::Array, false, &records)).unwrap();
        let parsed: Vec<Record> = serde_json::from_str(&array).unwrap();
        assert_eq!(parsed, records);
        assert_eq!(
            array.lines().map(|l| l.trim_end_matches(',')).filter(|l| l.len() > 1).collect::<Vec<_>>(),
            lines.lines().collect::<Vec<_>>()
        );
        assert_eq!((printed(Form::Array, false, &[]), printed(Form::Yaml, false, &[])), (b"[]\n".to_vec(), b"[]\n".to_vec()));
    }

    /// A promise: YAML keeps every digit.
    #[test]
    fn yaml() {
        let text = String::from_utf8(printed(Form::Yaml, false, &[record(json("{\t\"n\":1234567890123456789012345}"))])).unwrap();
        assert!(text.starts_with("- partition: 1\n  offset: 42\n  timestamp: 1763709600123\n  key_base64: \"axv/\"\n  value: { \"n\":1234567890123456789012345}\n  headers: ["), "{text}");
    }

    /// A promise: a row is one line, as wide as it may be, and safe.
    #[test]
    fn rows() {
        let rows = |width| String::from_utf8(printed(Form::Rows { width }, true, &[record(Value::Text("a\nb\x1b".repeat(50)))])).unwrap();
        let narrow = rows(Some(90));
        assert_eq!(narrow.lines().map(|l| l.chars().count()).collect::<Vec<_>>(), [78, 90], "{narrow}");
        assert!(narrow.ends_with("…\n") && !narrow.contains('\x1b'), "{narrow}");
        assert!(rows(None).ends_with("   a=1,b\n"));
    }
}
