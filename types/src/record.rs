//! One record as it stands in a batch, borrowed.

use crate::offset::Offset;
use crate::time::Timestamp;
use crate::varint;

/// How a record's value was given, so that a reader gets it back in the same shape.
///
/// It is the low two bits of the record's own attributes byte, which Kafka leaves free and its decoders skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Encoding {
    /// Not said: another producer wrote it.
    #[default]
    Unknown = 0,
    /// One JSON text.
    Json = 1,
    /// UTF-8.
    Text = 2,
    /// Anything.
    Bytes = 3,
}

impl Encoding {
    /// The bits of the record's attributes that hold it.
    pub const MASK: u8 = 0b11;

    /// Reads the low two bits; the others are somebody else's.
    pub const fn from_attributes(attributes: u8) -> Self {
        match attributes & Self::MASK {
            1 => Self::Json,
            2 => Self::Text,
            3 => Self::Bytes,
            _ => Self::Unknown,
        }
    }

    /// The attributes byte of a record so encoded.
    pub const fn attributes(self) -> u8 {
        self as u8
    }
}

/// A record, borrowed from its (uncompressed) batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its position.
    pub offset: Offset,
    /// When it was made or, with `LogAppendTime`, written.
    pub timestamp: Timestamp,
    /// How the value was given.
    pub encoding: Encoding,
    /// `None` is no key; the empty key is another thing.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, in order, duplicates kept.
    pub headers: Headers<'a>,
}

/// A record's headers: walked once already, so that iterating can't fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Walks `count` headers at the front of `buf` and takes them; says what is wrong otherwise.
    pub(crate) fn take(buf: &mut &'a [u8], count: usize) -> Result<Self, &'static str> {
        let start = *buf;
        for _ in 0..count {
            let name = take_bytes(buf).ok_or("a header's name is cut short")?.ok_or("a header has no name")?;
            std::str::from_utf8(name).map_err(|_| "a header's name is not UTF-8")?;
            take_bytes(buf).ok_or("a header's value is cut short")?;
        }
        Ok(Self { count, bytes: &start[..start.len() - buf.len()] })
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Their encoded size in bytes.
    pub const fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut buf = self.bytes;
        (0..self.count).map_while(move |_| {
            let name = std::str::from_utf8(take_bytes(&mut buf)??).ok()?;
            Some(Header { name, value: take_bytes(&mut buf)? })
        })
    }
}

/// One header. Names need not be unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name, UTF-8, may be empty.
    pub name: &'a str,
    /// Its value; `None` is none at all, as Kafka allows.
    pub value: Option<&'a [u8]>,
}

/// Takes a length and as many bytes: the outer `None` is "malformed", the inner one is "null" (length −1).
pub(crate) fn take_bytes<'a>(buf: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint::take_i32(buf)?;
    if length == -1 {
        return Some(None);
    }
    let (bytes, rest) = buf.split_at_checked(usize::try_from(length).ok()?)?;
    *buf = rest;
    Some(Some(bytes))
}

/// Appends a length and the bytes; −1 for `None`.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, bytes.len().cast_signed() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
