//! Rows as records: a line of CSV becomes a JSON object by its head line; of any JSON object, fields can be made key, headers and timestamp.

use std::collections::HashMap;
use std::io::{self, BufRead, Read};

use bytes::Bytes;
use serde_json::value::RawValue;
use tidegate_client::{Header, NewRecord, Value};

use super::object::{self, Fields};
use super::screen::visible;
use super::split::{InputError, too_long};
use crate::cli::time::parse_time;

/// Columns that a message lists.
const COLUMNS_LISTED: usize = 50;

/// Which fields of a row are more than a part of its value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Roles {
    /// Its content is the key.
    pub(in crate::cli) key: Option<String>,
    /// Each becomes a header of the same name.
    pub(in crate::cli) headers: Vec<String>,
    /// Its content is the timestamp.
    pub(in crate::cli) timestamp: Option<String>,
}

impl Roles {
    /// Whether no field has a role.
    pub(in crate::cli) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The record of a row, whose fields `find` gives: `None` is none of that name, `Some(None)` one without content.
    fn record(&self, value: Value, find: impl Fn(&str) -> Result<Option<Option<String>>, String>) -> Result<NewRecord, String> {
        let find = |name: &str| find(name)?.ok_or_else(|| format!("there is no field '{}'", visible(name.as_bytes())));
        let mut record = NewRecord::new(value);
        if let Some(name) = &self.key {
            record.key = find(name)?.map(Bytes::from);
        }
        for name in &self.headers {
            record.headers.push(Header { name: name.clone(), value: find(name)?.map(Bytes::from) });
        }
        if let Some(name) = &self.timestamp {
            let text = find(name)?.ok_or_else(|| format!("the field '{}' has no timestamp", visible(name.as_bytes())))?;
            record.timestamp = Some(parse_time(&text).map_err(|reason| format!("the field '{}': {reason}", visible(name.as_bytes())))?);
        }
        Ok(record)
    }
}

/// The record of a JSON value, its exact bytes; if fields have roles, it has to be an object.
pub(in crate::cli) fn from_json(json: &[u8], roles: &Roles) -> Result<NewRecord, String> {
    let json = object::json_of(json)?;
    if roles.is_empty() {
        return Ok(NewRecord::new(Value::Json(json)));
    }
    let text = json.get().to_owned();
    let fields: Fields<'_> =
        serde_json::from_str(&text).map_err(|_| "a JSON object is expected, since some of its fields are named".to_owned())?;
    roles.record(Value::Json(json), |name| {
        let field = fields.0.iter().rev().find(|(known, _)| known == name);
        field.map(|(_, content)| plain(name, content)).transpose()
    })
}

/// The text of a string, the digits of a number, nothing of null.
fn plain(name: &str, content: &RawValue) -> Result<Option<String>, String> {
    let text = content.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map(Some).map_err(|error| object::reason(&error)),
        Some(b'-' | b'0'..=b'9') => Ok(Some(text.to_owned())),
        _ if text == "null" => Ok(None),
        _ => Err(format!("the field '{}' is neither text nor number", visible(name.as_bytes()))),
    }
}

/// Reads CSV with a head line.
pub(in crate::cli) struct Rows<R> {
    reader: csv::Reader<Budget<R>>,
    /// Each column's name as JSON, with its colon.
    columns: Vec<String>,
    /// Where the column of a name stands.
    places: HashMap<String, usize>,
    row: csv::StringRecord,
    infer: bool,
}

impl<R: BufRead> Rows<R> {
    /// Reads the head line of `input`, whose fields are separated by `delimiter`. With `infer`, what is written as a JSON number, `true` or `false`
    /// becomes that; otherwise every field is a text.
    pub(in crate::cli) fn new(input: R, delimiter: u8, infer: bool, roles: &Roles, row_bytes_max: usize) -> Result<Self, InputError> {
        let budget = Budget { input, left: row_bytes_max, row_bytes_max, has_crlf: None, quotes: Quotes::new(delimiter) };
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(budget);
        let head = match reader.headers() {
            Ok(head) => head.clone(),
            Err(error) => return Err(reader.get_ref().unclosed().unwrap_or_else(|| refuse(&error, 1))),
        };
        let at_head = |reason: String| InputError::new(1, reason);
        let (mut columns, mut places) = (Vec::with_capacity(head.len()), HashMap::with_capacity(head.len()));
        for (place, name) in head.iter().enumerate() {
            if places.insert(name.to_owned(), place).is_some() {
                return Err(at_head(format!("the column '{}' is there twice", visible(name.as_bytes()))));
            }
            let json = serde_json::to_string(name).map_err(|error| at_head(error.to_string()))?;
            columns.push(json + ":");
        }
        if columns.is_empty() {
            return Err(at_head("it is empty; a head line with the columns' names is expected".to_owned()));
        }
        for wanted in roles.key.iter().chain(&roles.headers).chain(&roles.timestamp) {
            if !places.contains_key(wanted) {
                let mut known: Vec<_> = head.iter().take(COLUMNS_LISTED).map(|known| visible(known.as_bytes())).collect();
                if head.len() > COLUMNS_LISTED {
                    known.push(format!("{} more", head.len() - COLUMNS_LISTED));
                }
                let wanted = visible(wanted.as_bytes());
                return Err(at_head(format!("there is no column '{wanted}'; there are {}", known.join(", "))));
            }
        }
        reader.get_mut().refill();
        Ok(Self { reader, columns, places, row: csv::StringRecord::new(), infer })
    }

    /// The next row that begins at `from_line` or later as a record, and its line; `None` after the last.
    pub(in crate::cli) fn next(&mut self, roles: &Roles, from_line: u64) -> Result<Option<(u64, NewRecord)>, InputError> {
        let line = loop {
            self.reader.get_mut().refill();
            let before = self.reader.position().line();
            // After CR LF a row begins with the LF of the one before it, as the reader counts; people count otherwise.
            let shift = u64::from(self.reader.get_ref().has_crlf == Some(true));
            let at_line = |error: InputError| InputError::new(error.line + shift, error.reason);
            match self.reader.read_record(&mut self.row) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => {
                    let refused = self.reader.get_ref().unclosed().unwrap_or_else(|| at_line(refuse(&error, before)));
                    let is_read = matches!(error.kind(), csv::ErrorKind::UnequalLengths { .. } | csv::ErrorKind::Utf8 { .. });
                    if is_read && refused.line < from_line {
                        continue;
                    }
                    return Err(refused);
                }
            }
            let line = self.row.position().map_or(before, csv::Position::line) + shift;
            if line >= from_line {
                break line;
            }
        };
        let json = RawValue::from_string(self.object()).map_err(|error| InputError::new(line, object::reason(&error)))?;
        let field = |name: &str| {
            // An empty field is none: CSV has no other way to say so.
            Ok(self
                .places
                .get(name)
                .and_then(|place| self.row.get(*place))
                .map(|text| Some(text.to_owned()).filter(|text| !text.is_empty())))
        };
        let record = roles.record(Value::Json(json), field).map_err(|reason| InputError::new(line, reason))?;
        Ok(Some((line, record)))
    }

    fn object(&self) -> String {
        let mut json = String::with_capacity(self.row.as_slice().len() + 64);
        for (index, (name, field)) in self.columns.iter().zip(&self.row).enumerate() {
            json.push(if index == 0 { '{' } else { ',' });
            json.push_str(name);
            if self.infer && is_json_scalar(field) {
                json.push_str(field);
            } else {
                // A string can always be written.
                json.push_str(&serde_json::to_string(field).unwrap_or_default());
            }
        }
        json.push('}');
        json
    }
}

fn is_json_scalar(field: &str) -> bool {
    let is_number = || {
        matches!(field.as_bytes().first(), Some(b'-' | b'0'..=b'9'))
            && serde_json::from_str::<&RawValue>(field).is_ok_and(|json| json.get() == field)
    };
    matches!(field, "true" | "false") || is_number()
}

fn refuse(error: &csv::Error, line: u64) -> InputError {
    let line = error.position().map_or(line, csv::Position::line).max(1);
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("this row has {len} field{}, and the head line has {expected_len}", if *len == 1 { "" } else { "s" })
        }
        csv::ErrorKind::Utf8 { err, .. } => format!("the field {} is no UTF-8", err.field() + 1),
        csv::ErrorKind::Io(error) => error.to_string(),
        _ => error.to_string(),
    };
    InputError::new(line, reason)
}

/// Lets one row take so many bytes: a quote that is never closed makes a row of everything after it.
#[derive(Debug)]
struct Budget<R> {
    input: R,
    left: usize,
    row_bytes_max: usize,
    /// Whether lines end in CR LF, as the first one tells.
    has_crlf: Option<bool>,
    quotes: Quotes,
}

impl<R> Budget<R> {
    fn refill(&mut self) {
        self.left = self.row_bytes_max;
    }

    /// Why the input cannot end here, if it has.
    fn unclosed(&self) -> Option<InputError> {
        let Quotes { is_cut, opened, .. } = self.quotes;
        is_cut.then(|| InputError::new(opened, "a quote is opened here, and the input ends before it is closed"))
    }
}

impl<R: BufRead> Read for Budget<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other(format!("{}; is a quote not closed?", too_long(self.row_bytes_max))));
        }
        let room = out.len().min(self.left);
        let taken = self.input.read(&mut out[..room])?;
        self.left -= taken;
        self.quotes.see(&out[..taken]);
        // The reader would take the end of the input for the end of the field.
        if taken == 0 && room > 0 {
            self.quotes.end();
            if self.quotes.is_cut {
                return Err(io::Error::other("a quote is not closed"));
            }
        }
        if self.has_crlf.is_none() {
            self.has_crlf = memchr::memchr(b'\n', &out[..taken]).map(|at| at > 0 && out[at - 1] == b'\r');
        }
        Ok(taken)
    }
}

/// Follows the bytes as the reader of CSV does, to know whether they end within quotes, which it does not tell.
#[derive(Debug)]
struct Quotes {
    delimiter: u8,
    within: Within,
    /// The line that the next byte is on.
    line: u64,
    /// The line of the last quote that began a field.
    opened: u64,
    /// Whether the input has ended within quotes.
    is_cut: bool,
}

/// Where in a row a byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Where a field begins.
    Begin,
    Plain,
    Quoted,
    /// After a quote within quotes: another one doubles it, anything else was the end of them.
    Quote,
}

impl Quotes {
    const fn new(delimiter: u8) -> Self {
        Self { delimiter, within: Within::Begin, line: 1, opened: 1, is_cut: false }
    }

    fn see(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            let ends_field = *byte == self.delimiter || matches!(byte, b'\r' | b'\n');
            self.within = match (self.within, *byte) {
                (Within::Quoted, b'"') => Within::Quote,
                (Within::Quoted, _) => Within::Quoted,
                (Within::Quote, b'"') => Within::Quoted,
                (Within::Begin, b'"') => {
                    self.opened = self.line;
                    Within::Quoted
                }
                (Within::Begin | Within::Plain | Within::Quote, _) if ends_field => Within::Begin,
                (Within::Begin | Within::Plain | Within::Quote, _) => Within::Plain,
            };
            self.line += u64::from(*byte == b'\n');
            bytes = rest;
        }
    }

    /// The input ends here.
    fn end(&mut self) {
        self.is_cut = self.within == Within::Quoted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(key: &str, header: &str, timestamp: &str) -> Roles {
        let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        Roles { key: some(key), headers: some(header).into_iter().collect(), timestamp: some(timestamp) }
    }

    fn rows(input: &str, infer: bool, roles: &Roles) -> Result<Vec<(u64, NewRecord)>, InputError> {
        let mut rows = Rows::new(input.as_bytes(), b',', infer, roles, 200)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next(roles, 1)? {
            all.push(row);
        }
        Ok(all)
    }

    fn value(record: &NewRecord) -> &str {
        std::str::from_utf8(record.value.as_bytes().unwrap()).unwrap()
    }

    /// A promise: a row becomes an object with the columns' names, in their order; every field is a text unless types are asked for, and then
    /// keeps its digits.
    #[test]
    fn rows_become_objects() {
        let input = "\u{feff}a,\"b\"\"\",c,d\r\n-5,0517,1.50,\"x\ny\"\r\ntrue,,1e400,-\r\n";
        let plain = rows(input, false, &Roles::default()).unwrap();
        assert_eq!(value(&plain[0].1), r#"{"a":"-5","b\"":"0517","c":"1.50","d":"x\ny"}"#);
        assert!(matches!(plain[0].1.value, Value::Json(_)));
        let typed = rows(input, true, &Roles::default()).unwrap();
        assert_eq!(value(&typed[0].1), r#"{"a":-5,"b\"":"0517","c":1.50,"d":"x\ny"}"#);
        assert_eq!((typed[1].0, value(&typed[1].1)), (4, r#"{"a":true,"b\"":"","c":1e400,"d":"-"}"#));
    }

    /// A promise: named columns become key, header and timestamp; an empty one is none.
    #[test]
    fn columns_have_roles() {
        let rows = rows("id,unit,at\n7,C,2026-11-21T07:00Z\n,,5000\n", false, &roles("id", "unit", "at")).unwrap();
        let first = &rows[0].1;
        assert_eq!((first.key.as_deref(), first.timestamp), (Some(&b"7"[..]), Some(1_795_244_400_000)));
        assert_eq!(first.headers, [Header { name: "unit".to_owned(), value: Some("C".into()) }]);
        let second = &rows[1].1;
        assert_eq!((&second.key, second.timestamp, &second.headers[0].value), (&None, Some(5000), &None));
    }

    /// A promise: fields of JSON objects have the same roles; numbers keep their digits as keys.
    #[test]
    fn fields_have_roles() {
        let json = br#"{"id":1234567890123456789012345,"unit":"\u0043","at":"1970-01-01T00:00:05Z"}"#;
        let record = from_json(json, &roles("id", "unit", "at")).unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"1234567890123456789012345"[..]));
        assert_eq!((record.timestamp, record.value.as_bytes()), (Some(5000), Some(&json[..])));
        assert_eq!(from_json(br#"{"id":null}"#, &roles("id", "", "")).unwrap().key, None);
        for (json, help) in
            [("{}", "no field 'id'"), (r#"{"id":[]}"#, "neither text nor number"), ("[1]", "JSON object is expected"), ("{", "EOF")]
        {
            let error = from_json(json.as_bytes(), &roles("id", "", "")).unwrap_err();
            assert!(error.contains(help), "{json}: {error}");
        }
        assert_eq!(from_json(b" [1] ", &Roles::default()).unwrap().value.as_bytes(), Some(&b"[1]"[..]));
    }

    /// A promise: a quote that is closed at the very end of the input, doubled, or in the middle of a field is no reason to refuse.
    #[test]
    fn quotes_that_are_fine() {
        for (input, wanted) in
            [("a\n\"x\"", "x"), ("a\n\"x\"\"\"", "x\""), ("a\nx\"y\n", "x\"y"), ("a\n\"x\"y\n", "xy"), ("a\n\"x\n\"\n", "x\n")]
        {
            let found = rows(input, false, &Roles::default()).unwrap();
            assert_eq!(value(&found[0].1), serde_json::json!({ "a": wanted }).to_string(), "{input}");
        }
    }

    /// A promise: a head line of very many columns takes no longer than its bytes.
    #[test]
    fn many_columns() {
        let head: String = (0..100_000).map(|n| format!("c{n},")).collect();
        let row = ",".repeat(100_000);
        let input = format!("{head}last\n{row}x\n");
        let started = std::time::Instant::now();
        let roles = roles("last", "", "");
        let mut rows = Rows::new(input.as_bytes(), b',', false, &roles, 1 << 20).unwrap();
        assert_eq!(rows.next(&roles, 1).unwrap().unwrap().1.key.as_deref(), Some(&b"x"[..]));
        assert!(started.elapsed() < std::time::Duration::from_secs(2), "{:?}", started.elapsed());
    }

    /// A promise: what is no such table is refused with the line and the reason; a quote that is never closed takes no memory.
    #[test]
    fn what_is_no_table() {
        let endless = format!("a\n1\n\"{}", "x\n".repeat(5_000));
        for (input, roles, line, help) in [
            ("", Roles::default(), 1, "empty"),
            ("a,a\n", Roles::default(), 1, "twice"),
            ("a,b\n1\n", Roles::default(), 2, "1 field, and"),
            ("id,name\n1,\"oops\n2,b\n3,c\n", Roles::default(), 2, "a quote is opened here"),
            ("a\r\n\"1\r\n\"\r\n\"x\"\"\r\n", Roles::default(), 4, "a quote is opened here"),
            ("a,\"b\n1,2\n", Roles::default(), 1, "a quote is opened here"),
            ("a,b\n1,2\n1,2,3\n", Roles::default(), 3, "3 fields"),
            ("a,b\n1,2\n", roles("c", "", ""), 1, "there are a, b"),
            ("a,b\n1,soon\n", roles("", "", "b"), 2, "the field 'b': 'soon' is no time"),
            (&endless, Roles::default(), 3, "quote"),
        ] {
            let error = rows(input, false, &roles).unwrap_err();
            assert!(error.line == line && error.reason.contains(help), "{input:.20}: {error:?}");
        }
        let mut not_utf8 = Rows::new(&b"a,b\nx,\xff\n"[..], b',', false, &Roles::default(), 100).unwrap();
        assert_eq!(not_utf8.next(&Roles::default(), 1).unwrap_err(), InputError::new(2, "the field 2 is no UTF-8"));
    }
}
