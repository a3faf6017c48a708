//! Reading JSON without building it, and writing it without formatting it.
//!
//! [`Scanner`] walks a text once, borrows what it can and checks every byte it passes; a value that is kept as it came (D12) costs no more
//! than the walk. Its promise: **what it passes is JSON**, nested no deeper than it was told, so that it may be put into an answer verbatim.
//! The `put_*` functions are the other direction.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Why a text is not the JSON that was expected, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScanError {
    /// It is no JSON, or not of the type expected.
    Malformed {
        /// Byte position in the text.
        at: usize,
        /// What is wrong; never a piece of the text.
        reason: &'static str,
    },
    /// A value is nested deeper than allowed.
    TooDeep {
        /// Byte position in the text.
        at: usize,
    },
}

impl ScanError {
    /// What is wrong, in words.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { reason, .. } => reason,
            Self::TooDeep { .. } => "the value is nested too deeply",
        }
    }
}

/// Line and column of a byte position, both from 1; the column counts bytes.
pub(crate) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = 1 + memchr::memchr_iter(b'\n', before).count();
    let column = 1 + before.len() - memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    (line, column)
}

/// Whether `text` is one JSON value, nested no deeper than `depth_max`.
pub(crate) fn check(text: &str, depth_max: usize) -> Result<(), ScanError> {
    let mut scanner = Scanner::new(text, depth_max);
    scanner.value()?;
    scanner.end()
}

/// Walks one JSON text.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth_max: usize,
    /// The containers that are open in the value being skipped: never more than `depth_max`.
    open: Vec<u8>,
}

impl<'a> Scanner<'a> {
    /// At the start of `text`. Values that are skipped may nest `depth_max` deep.
    pub(crate) fn new(text: &'a str, depth_max: usize) -> Self {
        Self { text, at: 0, depth_max, open: Vec::new() }
    }

    /// Where it stands.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The next byte after white space, which is passed.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// The error of this place.
    pub(crate) fn wrong<T>(&self, reason: &'static str) -> Result<T, ScanError> {
        Err(ScanError::Malformed { at: self.at, reason })
    }

    /// Passes `byte`, which must be next.
    fn expect(&mut self, byte: u8, reason: &'static str) -> Result<(), ScanError> {
        if self.peek() != Some(byte) {
            return self.wrong(reason);
        }
        self.at += 1;
        Ok(())
    }

    /// Only white space may be left.
    pub(crate) fn end(&mut self) -> Result<(), ScanError> {
        if self.peek().is_some() { self.wrong("something follows after the end of the JSON value") } else { Ok(()) }
    }

    /// Passes the `{` of an object; its fields come by [`Scanner::next_field`].
    pub(crate) fn open_object(&mut self) -> Result<(), ScanError> {
        self.expect(b'{', "an object is expected here")
    }

    /// The name of the object's next field, with its colon passed; `None` after the last. `first` is true for the first call only.
    pub(crate) fn next_field(&mut self, first: bool) -> Result<Option<Cow<'a, str>>, ScanError> {
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !first => self.at += 1,
            Some(b'"') if first => {}
            _ => return self.wrong("a field or the end of the object is expected here"),
        }
        let name = self.string("a field's name is expected here")?;
        self.expect(b':', "a colon is expected here")?;
        Ok(Some(name))
    }

    /// Passes the `[` of an array; its elements follow each [`Scanner::next_element`].
    pub(crate) fn open_array(&mut self) -> Result<(), ScanError> {
        self.expect(b'[', "an array is expected here")
    }

    /// Whether another element comes; passes the comma before it, or the `]`. `first` is true for the first call only.
    pub(crate) fn next_element(&mut self, first: bool) -> Result<bool, ScanError> {
        match self.peek() {
            Some(b']') if first => {
                self.at += 1;
                Ok(false)
            }
            Some(_) if first => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(b']') => {
                self.at += 1;
                Ok(false)
            }
            _ => self.wrong("an element or the end of the array is expected here"),
        }
    }

    /// A string, borrowed unless it has escapes. `reason` is said if something else is there.
    pub(crate) fn string(&mut self, reason: &'static str) -> Result<Cow<'a, str>, ScanError> {
        self.expect(b'"', reason)?;
        let start = self.at;
        let end = plain_end(self.text.as_bytes(), start);
        self.at = end;
        match self.text.as_bytes().get(end) {
            Some(b'"') => {
                self.at = end + 1;
                Ok(Cow::Borrowed(&self.text[start..end]))
            }
            Some(b'\\') => self.escaped_string(start).map(Cow::Owned),
            Some(_) => self.wrong("a control character stands in a string"),
            None => self.wrong("a string does not end"),
        }
    }

    /// The rest of a string whose first escape is next; it began at `start`.
    fn escaped_string(&mut self, start: usize) -> Result<String, ScanError> {
        let mut out = self.text[start..self.at].to_owned();
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => return self.wrong("a control character stands in a string"),
                None => return self.wrong("a string does not end"),
            }
            let run = self.at;
            self.at = plain_end(self.text.as_bytes(), run);
            out.push_str(&self.text[run..self.at]);
        }
    }

    /// The character of the escape that is next.
    fn escape(&mut self) -> Result<char, ScanError> {
        let kind = self.text.as_bytes().get(self.at + 1).copied();
        let plain = match kind {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return self.wrong("an unknown escape stands in a string"),
        };
        self.at += 2;
        Ok(plain)
    }

    /// The character of the `\uXXXX` that is next, or of the two that make a surrogate pair.
    fn unicode_escape(&mut self) -> Result<char, ScanError> {
        let unit = self.hex_escape()?;
        if let Some(c) = char::from_u32(unit) {
            return Ok(c);
        }
        // A JSON value may have lone surrogates, which are kept as they stand; a key or a text is UTF-8, which has none.
        let lone = "a lone surrogate stands in a string that is kept as UTF-8";
        if !(0xd800..0xdc00).contains(&unit) || !self.text[self.at..].starts_with("\\u") {
            return self.wrong(lone);
        }
        let low = self.hex_escape()?;
        if !(0xdc00..0xe000).contains(&low) {
            return self.wrong(lone);
        }
        char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)).map_or_else(|| self.wrong(lone), Ok)
    }

    /// The number of the `\uXXXX` that is next.
    fn hex_escape(&mut self) -> Result<u32, ScanError> {
        let digits = self.text.as_bytes().get(self.at + 2..self.at + 6).unwrap_or_default();
        if digits.len() != 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return self.wrong("four hexadecimal digits are expected in an escape");
        }
        self.at += 6;
        Ok(digits.iter().fold(0, |n, digit| n << 4 | char::from(*digit).to_digit(16).unwrap_or(0)))
    }

    /// The bytes of a string of base64.
    pub(crate) fn base64(&mut self) -> Result<Vec<u8>, ScanError> {
        let text = self.string("a string of base64 is expected here")?;
        STANDARD.decode(text.as_bytes()).or_else(|_| self.wrong("the string is not base64"))
    }

    /// A whole number that fits 64 bits. `reason` is said if something else is there.
    pub(crate) fn integer(&mut self, reason: &'static str) -> Result<i64, ScanError> {
        if !matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            return self.wrong(reason);
        }
        let start = self.at;
        self.skip_number()?;
        let number = &self.text[start..self.at];
        if let Ok(number) = number.parse() {
            return Ok(number);
        }
        self.at = start;
        let is_whole = number.bytes().all(|b| b == b'-' || b.is_ascii_digit());
        self.wrong(if is_whole { "the number does not fit 64 bits" } else { reason })
    }

    /// A whole number that fits 32 bits and is not negative. `reason` is said if something else is there.
    pub(crate) fn unsigned(&mut self, reason: &'static str) -> Result<u32, ScanError> {
        self.peek();
        let start = self.at;
        let number = self.integer(reason)?;
        u32::try_from(number).or_else(|_| {
            self.at = start;
            self.wrong("the number does not fit 32 bits, or is negative")
        })
    }

    /// `true` or `false`. `reason` is said if something else is there.
    pub(crate) fn boolean(&mut self, reason: &'static str) -> Result<bool, ScanError> {
        match self.peek() {
            Some(b't') => self.skip_literal("true").map(|()| true),
            Some(b'f') => self.skip_literal("false").map(|()| false),
            _ => self.wrong(reason),
        }
    }

    /// Any value, exactly as it stands, without the white space around it.
    pub(crate) fn value(&mut self) -> Result<&'a str, ScanError> {
        self.peek();
        let start = self.at;
        self.open.clear();
        loop {
            let is_whole = self.begin_value()?;
            if is_whole && !self.after_value()? {
                return Ok(&self.text[start..self.at]);
            }
        }
    }

    /// Passes a value, or the opening of a container that has something in it: then it is `false`, and a value follows.
    fn begin_value(&mut self) -> Result<bool, ScanError> {
        match self.peek() {
            Some(b'"') => self.skip_string().map(|()| true),
            Some(b'{') => {
                self.push(b'{')?;
                if self.peek() == Some(b'}') {
                    return Ok(self.pop());
                }
                self.skip_name().map(|()| false)
            }
            Some(b'[') => {
                self.push(b'[')?;
                if self.peek() == Some(b']') {
                    return Ok(self.pop());
                }
                Ok(false)
            }
            Some(b'-' | b'0'..=b'9') => self.skip_number().map(|()| true),
            Some(b't') => self.skip_literal("true").map(|()| true),
            Some(b'f') => self.skip_literal("false").map(|()| true),
            Some(b'n') => self.skip_literal("null").map(|()| true),
            Some(_) => self.wrong("a JSON value is expected here"),
            None => self.wrong("the JSON ends too early"),
        }
    }

    /// After a value: passes what closes, up to the next comma. `false` if everything is closed.
    fn after_value(&mut self) -> Result<bool, ScanError> {
        while let Some(container) = self.open.last().copied() {
            match (self.peek(), container) {
                (Some(b','), b'{') => {
                    self.at += 1;
                    self.skip_name()?;
                    return Ok(true);
                }
                (Some(b','), _) => {
                    self.at += 1;
                    return Ok(true);
                }
                (Some(b'}'), b'{') | (Some(b']'), b'[') => {
                    self.pop();
                }
                (Some(_), _) => return self.wrong("a comma or the end of the container is expected here"),
                (None, _) => return self.wrong("the JSON ends too early"),
            }
        }
        Ok(false)
    }

    fn push(&mut self, container: u8) -> Result<(), ScanError> {
        if self.open.len() >= self.depth_max {
            return Err(ScanError::TooDeep { at: self.at });
        }
        self.open.push(container);
        self.at += 1;
        Ok(())
    }

    /// Passes a closing bracket; a container is a whole value.
    fn pop(&mut self) -> bool {
        self.open.pop();
        self.at += 1;
        true
    }

    fn skip_name(&mut self) -> Result<(), ScanError> {
        if self.peek() != Some(b'"') {
            return self.wrong("a field's name is expected here");
        }
        self.skip_string()?;
        self.expect(b':', "a colon is expected here")
    }

    /// Passes a string; its escapes are well-formed, surrogates may be alone.
    fn skip_string(&mut self) -> Result<(), ScanError> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            self.at = plain_end(bytes, self.at);
            match (bytes.get(self.at), bytes.get(self.at + 1)) {
                (Some(b'"'), _) => {
                    self.at += 1;
                    return Ok(());
                }
                (Some(b'\\'), Some(b'u')) => {
                    self.hex_escape()?;
                }
                (Some(b'\\'), Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => self.at += 2,
                (Some(b'\\'), _) => return self.wrong("an unknown escape stands in a string"),
                (Some(_), _) => return self.wrong("a control character stands in a string"),
                (None, _) => return self.wrong("a string does not end"),
            }
        }
    }

    /// Passes a number, however large.
    fn skip_number(&mut self) -> Result<(), ScanError> {
        let bytes = self.text.as_bytes();
        if bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
            if matches!(bytes.get(self.at), Some(b'0'..=b'9')) {
                return self.wrong("a number has a leading zero");
            }
        } else {
            self.skip_digits()?;
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if matches!(bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        Ok(())
    }

    /// Passes digits, at least one.
    fn skip_digits(&mut self) -> Result<(), ScanError> {
        let digits = self.text.as_bytes()[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += digits;
        if digits == 0 { self.wrong("a digit is expected in a number") } else { Ok(()) }
    }

    fn skip_literal(&mut self, literal: &'static str) -> Result<(), ScanError> {
        if !self.text.as_bytes()[self.at..].starts_with(literal.as_bytes()) {
            return self.wrong("a JSON value is expected here");
        }
        self.at += literal.len();
        Ok(())
    }
}

/// Whether a byte ends a run of a string that stands for itself.
const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// How many bytes of whole blocks hold nothing special, from the start on.
fn plain_blocks<const N: usize>(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<N>();
    let is_plain = |block: &&[u8; N]| !block.iter().fold(false, |any, byte| any | is_special(*byte));
    blocks.iter().take_while(is_plain).count() * N
}

/// Where the run of plain bytes that begins at `start` ends: at a quote, a backslash, a control character, or the end of `bytes`.
///
/// Blocks of 16 are judged as a whole, without a branch in between, which compiles to vector instructions.
fn plain_end(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    // Long runs first: four vectors a step, then one.
    let mut at = plain_blocks::<64>(rest);
    at += plain_blocks::<16>(&rest[at..]);
    let more = rest[at..].iter().position(|byte| is_special(*byte));
    start + more.map_or(rest.len(), |more| at + more)
}

/// Appends a string with its quotes, escaping what must be escaped.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut start = 0;
    loop {
        let end = plain_end(bytes, start);
        out.extend_from_slice(&bytes[start..end]);
        let Some(special) = bytes.get(end) else { break };
        put_escape(out, *special);
        start = end + 1;
    }
    out.push(b'"');
}

fn put_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends a whole number.
pub(crate) fn put_integer(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends bytes as a string of base64, with its quotes.
pub(crate) fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The room is exact, so that nothing can be missing or left over.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// A promise: every JSON value passes and comes out exactly as it stood, whatever a parser would make of it.
    #[test]
    fn values_are_kept_as_they_stand() {
        for value in [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "-0.0",
            "1e400",
            "1E-400",
            "1234567890123456789012345",
            "0.1000",
            r#""""#,
            r#""\u0000""#,
            r#""\ud800""#,
            r#""\udc00\ud800""#,
            r#""\/\b\f\n\r\t\\\"""#,
            "\"订单 \u{7f} \u{2028}\"",
            "[]",
            "{}",
            "[ ]",
            "{ }",
            "[1 , 2,[3], {}]",
            r#"{"a":1,"a":2, "":[{"b":null}]}"#,
            "[[[[]],[]]]",
        ] {
            let padded = format!(" \n{value}\t ");
            let mut scanner = Scanner::new(&padded, 128);
            assert_eq!(scanner.value(), Ok(value));
            assert_eq!(scanner.end(), Ok(()), "{value}");
        }
    }

    /// A promise: what is no JSON is refused.
    #[test]
    fn other_texts_are_refused() {
        #[rustfmt::skip]
        let texts = [
            "", " ", "nul", "True", "01", "-", "+1", ".5", "1.", "1e", "1e+", "0x1", "NaN", "'a'", "\"", "\"a", "\"\n\"", "\"\\x\"",
            "\"\\u12\"", "\"\\u12g4\"", "\"\\\"", "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1}", "{", "}", "{1:2}", "{\"a\"}",
            "{\"a\":}", "{\"a\":1,}", "{\"a\":1]", "{\"a\" 1}", "{\"a\":1 \"b\":2}", "{,}", "1 2", "{}{}", "\u{feff}1", "// c\n1", "null,",
        ];
        for text in texts {
            assert!(check(text, 128).is_err(), "{text:?}");
        }
    }

    /// A promise: the bound on nesting holds exactly, also on a body of nothing but brackets.
    #[test]
    fn nesting_is_bounded() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert_eq!(check(&nested(128), 128), Ok(()));
            assert!(matches!(check(&nested(129), 128), Err(ScanError::TooDeep { .. })));
        }
        assert!(matches!(check(&"[".repeat(1 << 20), 128), Err(ScanError::TooDeep { at: 128 })));
        assert_eq!(check("1", 0), Ok(()));
        assert!(check("[]", 0).is_err());
    }

    /// A promise: strings that are unpacked are what they say, and a lone surrogate is no UTF-8.
    #[test]
    fn strings_are_unpacked() {
        let string = |text: &str| Scanner::new(text, 1).string("").map(Cow::into_owned);
        assert_eq!(string(r#""a\u0000\ud83d\ude00\n/\/""#).unwrap(), "a\0😀\n//");
        assert!(matches!(Scanner::new("\"plain 订\"", 1).string(""), Ok(Cow::Borrowed("plain 订"))));
        for lone in [r#""\ud800""#, r#""\ud800x""#, r#""\ud800\u0041""#, r#""\udc00""#, r#""\ud800\ud800""#] {
            assert!(string(lone).is_err(), "{lone}");
        }
    }

    /// A promise: integers are whole and fit, and nothing else is one.
    #[test]
    fn integers_are_whole() {
        let integer = |text: &str| Scanner::new(text, 1).integer("not whole");
        assert_eq!(integer(" -9223372036854775808"), Ok(i64::MIN));
        assert_eq!(integer("9223372036854775808").map_err(|e| e.reason()), Err("the number does not fit 64 bits"));
        for text in ["1.0", "1e3", "\"1\"", "true"] {
            assert_eq!(integer(text).map_err(|e| e.reason()), Err("not whole"), "{text}");
        }
        let unsigned = |text: &str| Scanner::new(text, 1).unsigned("not whole");
        assert_eq!((unsigned("4294967295"), unsigned(" 0")), (Ok(u32::MAX), Ok(0)));
        assert!(unsigned("4294967296").is_err() && unsigned("-1").is_err());
    }

    /// A promise: an error's line and column are where it is.
    #[test]
    fn places_are_found() {
        assert_eq!(line_and_column("", 0), (1, 1));
        assert_eq!(line_and_column("ab\ncd", 4), (2, 2));
        assert_eq!(line_and_column("ab\n", 99), (2, 1));
    }

    proptest! {
        /// A promise: we and `serde_json` agree on what is JSON, on texts that nearly are.
        #[test]
        fn agrees_with_a_parser(text in r#"[\[\]{},:" \\untrfalse0-9.eE+-]{0,12}"#) {
            let theirs = serde_json::from_str::<&RawValue>(&text).is_ok();
            prop_assert_eq!(check(&text, 128).is_ok(), theirs, "{:?}", text);
        }

        /// A promise: any string that is written reads back the same, by us and by others.
        #[test]
        fn strings_round_trip(text: String, long in "[ -~\u{0}-\u{1f}é]{0,80}") {
            for text in [text, long] {
                let mut out = Vec::new();
                put_string(&mut out, &text);
                prop_assert_eq!(&serde_json::from_slice::<String>(&out).unwrap(), &text);
                let written = String::from_utf8(out).unwrap();
                prop_assert_eq!(&*Scanner::new(&written, 1).string("").unwrap(), &text);
                prop_assert_eq!(Scanner::new(&written, 1).value(), Ok(written.as_str()));
            }
        }

        /// A promise: bytes that are written as base64 read back the same.
        #[test]
        fn base64_round_trips(bytes: Vec<u8>) {
            let mut out = Vec::new();
            put_base64(&mut out, &bytes);
            let text: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(STANDARD.decode(text).unwrap(), bytes);
        }
    }
}
