//! A JSON array cut into its elements as it comes, so that an array of any length takes no more memory than its largest element.

use std::io::BufRead;

use super::split::{InputError, fill, too_long};

/// What is expected next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Begin,
    /// An element, or the end right after the beginning.
    FirstOrEnd,
    Element,
    /// Nothing but white space.
    Nothing,
}

/// Where in an element a byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Words,
    Text,
    Escape,
}

/// An array's elements.
#[derive(Debug)]
pub(in crate::cli) struct Elements<R> {
    input: R,
    element_bytes_max: usize,
    expected: Expected,
    line: u64,
}

impl<R: BufRead> Elements<R> {
    /// Cuts the array in `input` into elements of at most `element_bytes_max` bytes.
    pub(in crate::cli) const fn new(input: R, element_bytes_max: usize) -> Self {
        Self { input, element_bytes_max, expected: Expected::Begin, line: 1 }
    }

    /// Reads the next element into `element` (emptied first) and says at which line it begins; `None` after the last. Whether it is good JSON is
    /// for whoever reads it to say.
    pub(in crate::cli) fn next(&mut self, element: &mut Vec<u8>) -> Result<Option<u64>, InputError> {
        element.clear();
        loop {
            let Some(byte) = self.skip_space()? else {
                return match self.expected {
                    Expected::Nothing => Ok(None),
                    Expected::Begin => Err(self.refuse("it is empty; a JSON array is expected, such as [{\"value\":1}]")),
                    Expected::FirstOrEnd | Expected::Element => Err(self.refuse("it ends in the middle of the array")),
                };
            };
            match (self.expected, byte) {
                (Expected::Begin, b'[') => {
                    self.take();
                    self.expected = Expected::FirstOrEnd;
                }
                (Expected::Begin, _) => {
                    return Err(self.refuse("a JSON array is expected, which begins with '['; records one a line are --input ndjson"));
                }
                (Expected::FirstOrEnd, b']') => {
                    self.take();
                    self.expected = Expected::Nothing;
                }
                (Expected::FirstOrEnd | Expected::Element, b',' | b']') => return Err(self.refuse("an element is missing here")),
                (Expected::FirstOrEnd | Expected::Element, _) => {
                    let line = self.line;
                    self.element(element)?;
                    return Ok(Some(line));
                }
                (Expected::Nothing, _) => return Err(self.refuse("something stands after the end of the array")),
            }
        }
    }

    /// The next byte that is no white space; it is not taken.
    fn skip_space(&mut self) -> Result<Option<u8>, InputError> {
        loop {
            let Some(byte) = fill(&mut self.input, self.line)?.first().copied() else { return Ok(None) };
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Ok(Some(byte));
            }
            self.line += u64::from(byte == b'\n');
            self.take();
        }
    }

    fn take(&mut self) {
        self.input.consume(1);
    }

    /// Reads up to the comma or bracket that ends the element, and takes that, too.
    fn element(&mut self, element: &mut Vec<u8>) -> Result<(), InputError> {
        let (line, mut within, mut depth) = (self.line, Within::Words, 0_usize);
        loop {
            let buffer = fill(&mut self.input, self.line)?;
            if buffer.is_empty() {
                return Err(InputError::new(line, "it ends in the middle of this element"));
            }
            let mut end = None;
            for (at, byte) in buffer.iter().enumerate() {
                self.line += u64::from(*byte == b'\n');
                within = match (within, *byte) {
                    (Within::Escape, _) => Within::Text,
                    (Within::Text, b'\\') => Within::Escape,
                    (Within::Text, b'"') => Within::Words,
                    (Within::Text, _) => Within::Text,
                    (Within::Words, b'"') => Within::Text,
                    (Within::Words, b',' | b']') if depth == 0 => {
                        end = Some((at, *byte));
                        break;
                    }
                    (Within::Words, byte) => {
                        depth = match byte {
                            b'[' | b'{' => depth + 1,
                            b']' | b'}' => depth.saturating_sub(1),
                            _ => depth,
                        };
                        Within::Words
                    }
                };
            }
            let length = end.map_or(buffer.len(), |(at, _)| at);
            if length > self.element_bytes_max - element.len() {
                return Err(InputError::new(line, too_long(self.element_bytes_max)));
            }
            element.extend_from_slice(&buffer[..length]);
            self.input.consume(length + usize::from(end.is_some()));
            if let Some((_, byte)) = end {
                self.expected = if byte == b']' { Expected::Nothing } else { Expected::Element };
                element.truncate(element.trim_ascii_end().len());
                return Ok(());
            }
        }
    }

    fn refuse(&self, reason: &str) -> InputError {
        InputError::new(self.line, reason)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn elements(input: &str, buffer: usize, bytes_max: usize) -> Result<Vec<(u64, String)>, InputError> {
        let mut array = Elements::new(BufReader::with_capacity(buffer, input.as_bytes()), bytes_max);
        let (mut all, mut element) = (Vec::new(), Vec::new());
        while let Some(line) = array.next(&mut element)? {
            all.push((line, String::from_utf8(element.clone()).unwrap()));
        }
        Ok(all)
    }

    /// A promise: elements come out with their exact bytes, whatever stands in them, and with their line.
    #[test]
    fn elements_come_out() {
        let input = "\n[ {\"a\":\"],\\\"{\"} ,\n 1, \"]\", [[],[{}]]\n\n, null ]\n ";
        for buffer in [1, 2, 7, 1000] {
            let wanted = [(2, r#"{"a":"],\"{"}"#), (3, "1"), (3, r#""]""#), (3, "[[],[{}]]"), (5, "null")];
            assert_eq!(elements(input, buffer, 100).unwrap(), wanted.map(|(line, text)| (line, text.to_owned())));
        }
        assert_eq!(elements(" [ ] ", 1, 100), Ok(Vec::new()));
    }

    /// A promise: what is no whole array is refused with the line, and what is too long is not held.
    #[test]
    fn what_is_no_array() {
        for (input, line, help) in [
            ("", 1, "empty"),
            ("{\"a\":1}", 1, "--input ndjson"),
            ("[1,\n", 2, "middle of the array"),
            ("[", 1, "middle of the array"),
            ("[\n{\"a\":", 2, "middle of this element"),
            ("[1,,2]", 1, "missing"),
            ("[,1]", 1, "missing"),
            ("[1,]", 1, "missing"),
            ("[1]\n[2]", 2, "after the end"),
            ("[1,\n\"aaaaaaaaaaaaaaaaaaaaaaa\"]", 2, "longer than 20"),
        ] {
            let error = elements(input, 3, 20).unwrap_err();
            assert!(error.line == line && error.reason.contains(help), "{input}: {error:?}");
        }
    }

    proptest! {
        /// A promise: for any array of anything, the elements are those that a JSON parser sees; any other text is answered.
        #[test]
        fn as_a_parser_sees_it(texts in prop::collection::vec(any::<String>(), 0..5), buffer in 1_usize..9, noise in r#"[\[\]{},"\\ a1]{0,20}"#) {
            let values: Vec<_> = texts.iter().map(|text| serde_json::json!({text.as_str(): [text, 1.5, null]})).collect();
            let input = serde_json::to_string_pretty(&values).unwrap();
            let found = elements(&input, buffer, 10_000).unwrap();
            let found: Vec<serde_json::Value> = found.iter().map(|(_, text)| serde_json::from_str(text).unwrap()).collect();
            prop_assert_eq!(found, values);
            if serde_json::from_str::<Vec<serde_json::Value>>(&noise).is_ok() {
                prop_assert!(elements(&noise, buffer, 100).is_ok());
            }
        }
    }
}
