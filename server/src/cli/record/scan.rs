//! Records read by a [`Template`]: `%k\t%v\n` is a key, a tab, a value, a line feed.
//!
//! What stands between two fields ends the first of them, where it comes first; what stands at the end ends the record. A record that ends
//! before all its fields have come is an error, never a field that runs on into the next record.

use std::io::BufRead;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use tidegate_client::{Header, NewRecord, Value};

use super::split::{Ended, InputError, Splitter};
use super::template::{Field, Piece, Shape, Template};
use super::{object, text_or_bytes};
use crate::cli::time::parse_time;

/// A field and what comes after it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    field: Field,
    shape: Shape,
    after: Vec<u8>,
}

/// A template that records can be read by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Scan {
    /// What each record begins with.
    before: Vec<u8>,
    parts: Vec<Part>,
}

impl Scan {
    /// A key, a separator and a value on each line.
    pub(in crate::cli) fn separated_by(separator: &str) -> Result<Self, String> {
        if separator.is_empty() || separator.contains('\n') {
            return Err("a separator is not empty and has no line feed".to_owned());
        }
        let part = |field, after: &str| Part { field, shape: Shape::Plain, after: after.as_bytes().to_vec() };
        Ok(Self { before: Vec::new(), parts: vec![part(Field::Key, separator), part(Field::Value, "\n")] })
    }

    /// Whether records can be read by `template`.
    pub(in crate::cli) fn new(template: &Template) -> Result<Self, String> {
        let (mut before, mut parts) = (Vec::new(), Vec::<Part>::new());
        for piece in template.pieces() {
            match (piece, parts.last_mut()) {
                (Piece::Literal(bytes), None) => before.clone_from(bytes),
                (Piece::Literal(bytes), Some(part)) => part.after.clone_from(bytes),
                (Piece::Field { at, .. }, Some(part)) if part.after.is_empty() => {
                    return Err(format!(
                        "in the format, character {at}: something has to stand between two fields, or nobody knows where the first one ends"
                    ));
                }
                (Piece::Field { field, shape, at }, _) => {
                    if !matches!(field, Field::Key | Field::Value | Field::Headers | Field::Timestamp | Field::Partition) {
                        return Err(format!(
                            "in the format, character {at}: input has %k key, %v value, %h headers, %T timestamp and %p partition only"
                        ));
                    }
                    if parts.iter().any(|part| part.field == *field) {
                        return Err(format!("in the format, character {at}: this field is there already"));
                    }
                    parts.push(Part { field: *field, shape: *shape, after: Vec::new() });
                }
            }
        }
        match parts.last() {
            None => Err("the format has no field; input has at least %k or %v".to_owned()),
            Some(last) if last.after.is_empty() => Err("the format has to end with what ends a record: add \\n".to_owned()),
            Some(_) if !parts.iter().any(|part| matches!(part.field, Field::Key | Field::Value)) => {
                Err("the format has neither %k nor %v".to_owned())
            }
            Some(_) => Ok(Self { before, parts }),
        }
    }

    /// Whether each record ends with a line, so that the next one begins with one.
    pub(in crate::cli) fn ends_lines(&self) -> bool {
        self.parts.last().is_some_and(|part| part.after.ends_with(b"\n"))
    }

    /// The next record; `None` at the end of the input. `piece` is room to work in.
    pub(in crate::cli) fn next(&self, input: &mut Splitter<impl BufRead>, piece: &mut Vec<u8>) -> Result<Option<NewRecord>, InputError> {
        let line = input.line();
        let refuse = |reason: String| InputError::new(line, reason);
        if !self.before.is_empty() {
            let ended = input.piece(&self.before, None, piece)?;
            return match (ended, piece.is_empty()) {
                (Ended::Delimiter, true) => self.fields(input, piece, line, true),
                (Ended::InputEnd, true) => Ok(None),
                _ => Err(refuse(format!("'{}' is expected here", shown(&self.before)))),
            };
        }
        self.fields(input, piece, line, false)
    }

    fn fields(
        &self,
        input: &mut Splitter<impl BufRead>,
        piece: &mut Vec<u8>,
        line: u64,
        has_begun: bool,
    ) -> Result<Option<NewRecord>, InputError> {
        let refuse = |reason: String| InputError::new(line, reason);
        let terminator = self.parts.last().map_or(&b""[..], |part| part.after.as_slice());
        let mut record = NewRecord::new(Value::Tombstone);
        for (index, part) in self.parts.iter().enumerate() {
            let is_last = index + 1 == self.parts.len();
            let ended = input.piece(&part.after, (!is_last).then_some(terminator), piece)?;
            match ended {
                Ended::InputEnd if index == 0 && piece.is_empty() && !has_begun => return Ok(None),
                // The last record of a file often lacks its line feed.
                Ended::Delimiter | Ended::InputEnd if is_last || ended == Ended::Delimiter => {}
                Ended::Delimiter | Ended::Other | Ended::InputEnd => {
                    return Err(refuse(format!("'{}' is missing after the {}", shown(&part.after), name(part.field))));
                }
            }
            set(&mut record, part, piece).map_err(|reason| refuse(format!("the {}: {reason}", name(part.field))))?;
        }
        Ok(Some(record))
    }
}

fn shown(bytes: &[u8]) -> String {
    super::screen::visible(bytes)
}

const fn name(field: Field) -> &'static str {
    match field {
        Field::Key => "key",
        Field::Headers => "headers",
        Field::Timestamp => "timestamp",
        Field::Partition => "partition",
        Field::Value | Field::Topic | Field::Offset | Field::KeyLength | Field::ValueLength => "value",
    }
}

fn set(record: &mut NewRecord, part: &Part, piece: &[u8]) -> Result<(), String> {
    let text = || std::str::from_utf8(piece).map_err(|_| "it is no UTF-8".to_owned());
    match (part.field, part.shape) {
        (Field::Key, Shape::Json) => {
            let key: Option<String> = serde_json::from_slice(piece).map_err(|error| object::reason(&error))?;
            record.key = key.map(Bytes::from);
        }
        (Field::Key, shape) => record.key = Some(decode(piece, shape)?.into()),
        (Field::Value, Shape::Json) => record.value = Value::Json(object::json_of(piece)?),
        (Field::Value, Shape::Base64 | Shape::Hex) => record.value = Value::Bytes(decode(piece, part.shape)?.into()),
        (Field::Value, _) => record.value = text_or_bytes(piece),
        (Field::Headers, Shape::Json) => record.headers = object::headers_from_json(text()?)?,
        (Field::Headers, _) => record.headers = plain_headers(text()?),
        (Field::Timestamp, Shape::Rfc3339) => record.timestamp = Some(parse_time(text()?)?),
        (Field::Timestamp, _) => {
            let millis = text()?.parse().map_err(|_| format!("'{}' is no number of milliseconds since 1970", shown(piece)))?;
            record.timestamp = Some(object::checked_timestamp(millis)?);
        }
        (Field::Partition, _) => record.partition = Some(text()?.parse().map_err(|_| format!("'{}' is no partition", shown(piece)))?),
        (Field::Topic | Field::Offset | Field::KeyLength | Field::ValueLength, _) => {}
    }
    Ok(())
}

fn decode(piece: &[u8], shape: Shape) -> Result<Vec<u8>, String> {
    match shape {
        Shape::Base64 => BASE64.decode(piece).map_err(|error| format!("it is no base64: {error}")),
        Shape::Hex => {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let (pairs, rest) = piece.as_chunks::<2>();
            let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
            bytes.filter(|_| rest.is_empty()).ok_or_else(|| "it is no pairs of hexadecimal digits".to_owned())
        }
        Shape::Plain | Shape::Json | Shape::Rfc3339 => Ok(piece.to_vec()),
    }
}

/// `name=value,name=value`, as `%h` writes them; a name without `=` has no value.
fn plain_headers(text: &str) -> Vec<Header> {
    if text.is_empty() {
        return Vec::new();
    }
    let header = |text: &str| match text.split_once('=') {
        Some((name, value)) => Header { name: name.to_owned(), value: Some(value.to_owned().into()) },
        None => Header { name: text.to_owned(), value: None },
    };
    text.split(',').map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, input: &str) -> Result<Vec<NewRecord>, InputError> {
        let scan = Scan::new(&format.parse().unwrap()).unwrap();
        let mut splitter = Splitter::new(input.as_bytes(), 1000);
        let (mut records, mut piece) = (Vec::new(), Vec::new());
        while let Some(record) = scan.next(&mut splitter, &mut piece)? {
            records.push(record);
        }
        Ok(records)
    }

    /// A promise: fields are read as the format says, in any order, over several lines, with and without a last line feed.
    #[test]
    fn fields_are_read() {
        let plain = NewRecord::text("v:1").key("k").timestamp(7);
        assert_eq!(read(r"%T %k:%v\n", "7 k:v:1\n7 k:v:1").unwrap(), [plain.clone(), plain]);
        assert_eq!(read(r"%k\n%v\n", "a\nb\nc\nd\n").unwrap(), [NewRecord::text("b").key("a"), NewRecord::text("d").key("c")]);
        assert_eq!(read(r"<%v>", "<a\nb><c>").unwrap(), [NewRecord::text("a\nb"), NewRecord::text("c")]);
        assert_eq!(read(r"%v\0", "a\n\0\0").unwrap(), [NewRecord::text("a\n"), NewRecord::text("")]);
        let mut wanted = NewRecord::bytes(vec![0xff, 0]).key(vec![0xfe]).header("a", "1");
        wanted.headers.push(Header { name: "b".to_owned(), value: None });
        wanted.partition = Some(2);
        assert_eq!(read(r"%p %k{hex} %h %v{base64}\n", "2 fe a=1,b /wA=\n").unwrap(), [wanted]);
        let json = read(r"%k{json} %h{json} %T{rfc3339} %v{json}\n", "null [] 1970-01-01T00:00:01Z { \"a\":1e400 }\n").unwrap();
        assert_eq!((json[0].key.clone(), json[0].timestamp, json[0].value.as_bytes()), (None, Some(1000), Some(&b"{ \"a\":1e400 }"[..])));
    }

    /// A promise: a record that lacks something is refused with its line; it never eats the next one.
    #[test]
    fn what_lacks_is_refused() {
        for (format, input, line, help) in [
            (r"%k\t%v\n", "a\tb\nc d\ne\tf\n", 2, r"'\t' is missing after the key"),
            (r"%k\t%v\n", "a\tb\nc", 2, r"'\t' is missing"),
            (r"key=%k %v\n", "key=a b\nkye=a b\n", 2, "'key=' is expected"),
            (r"%T %v\n", "soon b\n", 1, "milliseconds"),
            (r"%T %v\n", "-1 b\n", 1, "out of range"),
            (r"%p %v\n", "-1 b\n", 1, "no partition"),
            (r"%v{hex}\n", "abc\n", 1, "hexadecimal"),
            (r"%v{base64}\n", "ab\nc?\n", 1, "base64"),
            (r"%v{json}\n", "1\n{\"a\":}\n", 2, "column 6"),
        ] {
            let error = read(format, input).unwrap_err();
            assert!(error.line == line && error.reason.contains(help), "{format}: {error:?}");
        }
    }

    /// A promise: a format that nothing can be read by is refused before anything is read.
    #[test]
    fn formats_that_cannot_be_read() {
        for (format, help) in [
            ("%k%v\\n", "character 3"),
            ("%v", "add \\n"),
            ("%o %v\n", "character 1"),
            ("%v %v\n", "character 4"),
            ("%T\n", "neither %k nor %v"),
            ("hello\n", "no field"),
        ] {
            let error = Scan::new(&format.parse().unwrap()).unwrap_err();
            assert!(error.contains(help), "{format}: {error}");
        }
        assert!(Scan::separated_by("").is_err() && Scan::separated_by("a\nb").is_err());
    }
}
