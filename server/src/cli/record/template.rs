//! A record's format, as in `'%t %p %o %k %v\n'`: the letters of kcat and rpk. Read once; what is wrong with it is said with its place.
//!
//! | letter | stands for | other shapes |
//! |---|---|---|
//! | `%t` `%p` `%o` | topic, partition, offset | |
//! | `%k` `%v` (or `%s`) | key, value: the bytes as they are | `{base64}` `{hex}` `{json}` |
//! | `%h` | headers: `name=value,name=value` | `{json}` |
//! | `%T` | timestamp in milliseconds since 1970 | `{rfc3339}` |
//! | `%K` `%V` (or `%S`) | length of key, of value, in bytes; -1 if there is none | |
//! | `%%` `%{` `%}` | the character itself | |
//! | `\n` `\t` `\r` `\0` `\\` `\xNN` | as in C | |

use std::str::FromStr;

/// What a letter stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Field {
    /// Name of the topic.
    Topic,
    /// Index of the partition.
    Partition,
    /// Offset in the partition.
    Offset,
    /// The key.
    Key,
    /// The value.
    Value,
    /// The headers.
    Headers,
    /// The timestamp.
    Timestamp,
    /// Bytes of the key.
    KeyLength,
    /// Bytes of the value.
    ValueLength,
}

impl Field {
    const fn of(letter: char) -> Option<Self> {
        Some(match letter {
            't' => Self::Topic,
            'p' => Self::Partition,
            'o' => Self::Offset,
            'k' => Self::Key,
            'v' | 's' => Self::Value,
            'h' => Self::Headers,
            'T' => Self::Timestamp,
            'K' => Self::KeyLength,
            'V' | 'S' => Self::ValueLength,
            _ => return None,
        })
    }

    const fn shapes(self) -> &'static [(&'static str, Shape)] {
        match self {
            Self::Key | Self::Value => &[("base64", Shape::Base64), ("hex", Shape::Hex), ("json", Shape::Json)],
            Self::Headers => &[("json", Shape::Json)],
            Self::Timestamp => &[("rfc3339", Shape::Rfc3339)],
            Self::Topic | Self::Partition | Self::Offset | Self::KeyLength | Self::ValueLength => &[],
        }
    }
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Shape {
    /// As it is.
    Plain,
    /// In base64 (RFC 4648, padded).
    Base64,
    /// In hexadecimal digits, lower case.
    Hex,
    /// As one JSON text.
    Json,
    /// As a date and time in UTC.
    Rfc3339,
}

/// A piece of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Piece {
    /// These bytes.
    Literal(Vec<u8>),
    /// A part of the record.
    Field {
        /// Which part.
        field: Field,
        /// Written how.
        shape: Shape,
        /// Character of the format at which it stands, from 1.
        at: usize,
    },
}

/// A format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    /// Its pieces; no two literals follow each other, and none is empty.
    pub(in crate::cli) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parser = Parser { text, characters: text.chars().collect(), at: 0, pieces: Vec::new() };
        while let Some(character) = parser.next() {
            match character {
                '%' => parser.letter()?,
                '\\' => parser.escape()?,
                other => parser.literal(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if parser.pieces.is_empty() { Err("the format is empty".to_owned()) } else { Ok(Self { pieces: parser.pieces }) }
    }
}

struct Parser<'t> {
    text: &'t str,
    characters: Vec<char>,
    /// Characters taken.
    at: usize,
    pieces: Vec<Piece>,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let character = self.characters.get(self.at).copied();
        self.at += usize::from(character.is_some());
        character
    }

    fn literal(&mut self, bytes: &[u8]) {
        if let Some(Piece::Literal(last)) = self.pieces.last_mut() {
            last.extend_from_slice(bytes);
        } else {
            self.pieces.push(Piece::Literal(bytes.to_vec()));
        }
    }

    fn refuse(&self, place: usize, reason: &str) -> String {
        format!("in the format '{}', character {place}: {reason}", self.text.escape_debug())
    }

    fn letter(&mut self) -> Result<(), String> {
        let place = self.at;
        let Some(letter) = self.next() else {
            return Err(self.refuse(place, "a letter is missing after '%'; write %% for the character itself"));
        };
        if matches!(letter, '%' | '{' | '}') {
            self.literal(letter.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(());
        }
        let Some(field) = Field::of(letter) else {
            return Err(self.refuse(
                place,
                &format!("there is no '%{letter}'; there are %t topic, %p partition, %o offset, %k key, %v value, %h headers, %T timestamp, %K and %V lengths, %%"),
            ));
        };
        let shape = if self.characters.get(self.at) == Some(&'{') { self.shape(letter, field)? } else { Shape::Plain };
        self.pieces.push(Piece::Field { field, shape, at: place });
        Ok(())
    }

    fn shape(&mut self, letter: char, field: Field) -> Result<Shape, String> {
        let place = self.at + 1;
        let rest = &self.characters[self.at + 1..];
        let Some(length) = rest.iter().position(|c| *c == '}') else {
            return Err(self.refuse(place, "'{' is not closed; write %{ for the character itself"));
        };
        let name: String = rest[..length].iter().collect();
        self.at += length + 2;
        let known = field.shapes();
        known.iter().find(|(known, _)| *known == name).map(|(_, shape)| *shape).ok_or_else(|| {
            let list: Vec<_> = known.iter().map(|(known, _)| format!("%{letter}{{{known}}}")).collect();
            let there_are = if list.is_empty() {
                format!("%{letter} has only one shape; write %{{ for the character itself")
            } else {
                format!("there are {}", list.join(", "))
            };
            self.refuse(place, &format!("there is no '%{letter}{{{name}}}'; {there_are}"))
        })
    }

    fn escape(&mut self) -> Result<(), String> {
        let place = self.at;
        let byte = match self.next() {
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('r') => b'\r',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: Option<String> = self.characters.get(self.at..self.at + 2).map(|two| two.iter().collect());
                let byte = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit())).and_then(|d| u8::from_str_radix(&d, 16).ok());
                self.at += 2;
                byte.ok_or_else(|| self.refuse(place, "'\\x' is followed by two hexadecimal digits, as in \\x1f"))?
            }
            _ => return Err(self.refuse(place, "after '\\' one of n t r 0 \\ xNN is expected")),
        };
        self.literal(&[byte]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(field: Field, shape: Shape, at: usize) -> Piece {
        Piece::Field { field, shape, at }
    }

    fn literal(bytes: &[u8]) -> Piece {
        Piece::Literal(bytes.to_vec())
    }

    /// A promise: letters, shapes and escapes are read as the table says.
    #[test]
    fn formats_are_read() {
        let template: Template = r"%t:%p %k{hex}\t%v\n\x1f\0%%%{%}\\".parse().unwrap();
        assert_eq!(
            template.pieces(),
            [
                field(Field::Topic, Shape::Plain, 1),
                literal(b":"),
                field(Field::Partition, Shape::Plain, 4),
                literal(b" "),
                field(Field::Key, Shape::Hex, 7),
                literal(b"\t"),
                field(Field::Value, Shape::Plain, 16),
                literal(b"\n\x1f\0%{}\\"),
            ]
        );
        assert_eq!("%s".parse::<Template>().unwrap().pieces(), "%v".parse::<Template>().unwrap().pieces(), "kcat's letter");
    }

    /// A promise: what is wrong with a format is said with its place and what there is instead.
    #[test]
    fn refusals_have_a_place() {
        for (text, place, help) in [
            ("", "", "empty"),
            ("%k %", "character 4", "%%"),
            ("%k %z", "character 4", "%v value"),
            ("ü%q", "character 2", "no '%q'"),
            ("%v{xml}", "character 3", "%v{base64}"),
            ("%v{base64", "character 3", "not closed"),
            ("%o{hex}", "character 3", "one shape"),
            (r"a\q", "character 2", "one of n t r"),
            (r"a\", "character 2", "one of n t r"),
            (r"\x1", "character 1", "two hexadecimal"),
            (r"\x+1", "character 1", "two hexadecimal"),
        ] {
            let error = text.parse::<Template>().unwrap_err();
            assert!(error.contains(place) && error.contains(help), "{text}: {error}");
        }
    }

    proptest! {
        /// A promise: any text can be made part of a format, and any format is answered.
        #[test]
        fn any_text(text in any::<String>(), noise in r"[%\\{}ktvxn0-9a-f]{0,16}") {
            let escaped = text.replace('\\', r"\\").replace('%', "%%");
            prop_assume!(!text.is_empty());
            let template: Template = escaped.parse().unwrap();
            prop_assert_eq!(template.pieces(), [literal(text.as_bytes())]);
            drop(noise.parse::<Template>());
        }
    }
}
