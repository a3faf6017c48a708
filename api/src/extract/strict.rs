//! Notices the JSON fields that nobody asked for, and where in the document deserializing was when it failed.
//!
//! Serde skips unknown fields without a word, and `deny_unknown_fields` can be neither switched off by a request nor answer what was
//! probably meant. So deserializing goes through [`Tracked`], which sees each struct's list of fields and each key. Structs behind
//! `deserialize_any` (untagged and internally tagged enums, `flatten`) are not seen; the API has none.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::value::CowStrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

use crate::error::nearest;

/// The most ignored fields that are named; a document may be full of them.
const IGNORED_MAX: usize = 100;

/// What is known of one deserializing.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// Ignore unknown fields, and list them.
    lenient: bool,
    path: Vec<Segment>,
    /// JSON pointers of what was ignored.
    pub(super) ignored: Vec<String>,
    /// The field that ended a strict deserializing.
    pub(super) unknown: Option<Unknown>,
}

/// A field that does not exist.
#[derive(Debug)]
pub(super) struct Unknown {
    pub(super) field: String,
    pub(super) did_you_mean: Option<&'static str>,
}

#[derive(Debug)]
enum Segment {
    Field(&'static str),
    Key(String),
    Index(usize),
}

impl Tracker {
    pub(super) fn new(lenient: bool) -> Self {
        Self { lenient, ..Self::default() }
    }

    /// JSON pointer to where it is.
    pub(super) fn pointer(&self) -> String {
        let mut pointer = String::new();
        for segment in &self.path {
            pointer.push('/');
            match segment {
                Segment::Field(name) => pointer.push_str(&escaped(name)),
                Segment::Key(name) => pointer.push_str(&escaped(name)),
                Segment::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }

    fn unknown_field(&mut self, field: &str, fields: &'static [&'static str]) -> Result<(), &'static str> {
        self.path.push(Segment::Key(field.to_owned()));
        if self.lenient {
            if self.ignored.len() < IGNORED_MAX {
                self.ignored.push(self.pointer());
            }
            return Ok(());
        }
        self.unknown = Some(Unknown { field: field.to_owned(), did_you_mean: nearest(field, fields.iter().copied()) });
        Err("unknown field")
    }
}

/// A reference token of RFC 6901.
fn escaped(name: &str) -> Cow<'_, str> {
    if name.contains(['~', '/']) { name.replace('~', "~0").replace('/', "~1").into() } else { name.into() }
}

/// A deserializer, visitor, seed or access that reports to a [`Tracker`].
pub(super) struct Tracked<'t, X> {
    inner: X,
    tracker: &'t mut Tracker,
}

impl<'t, X> Tracked<'t, X> {
    pub(super) fn new(inner: X, tracker: &'t mut Tracker) -> Self {
        Self { inner, tracker }
    }
}

/// A visitor that is given tracked accesses.
struct TrackedVisitor<'t, V> {
    visitor: V,
    tracker: &'t mut Tracker,
    /// The fields of the struct it makes, if it makes one.
    fields: Option<&'static [&'static str]>,
}

impl<'t, X> Tracked<'t, X> {
    fn visitor<V>(self, visitor: V, fields: Option<&'static [&'static str]>) -> (X, TrackedVisitor<'t, V>) {
        (self.inner, TrackedVisitor { visitor, tracker: self.tracker, fields })
    }
}

macro_rules! forward {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Tracked<'_, D> {
    type Error = D::Error;

    forward! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.visitor(visitor, None);
        inner.deserialize_option(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        // `RawValue` is asked for under a private name, and its visitor wants the deserializer's own access.
        if name.starts_with("$serde_json::private") {
            return self.inner.deserialize_newtype_struct(name, visitor);
        }
        let (inner, visitor) = self.visitor(visitor, None);
        inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.visitor(visitor, None);
        inner.deserialize_seq(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.visitor(visitor, None);
        inner.deserialize_tuple(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, name: &'static str, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.visitor(visitor, None);
        inner.deserialize_tuple_struct(name, len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.visitor(visitor, None);
        inner.deserialize_map(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.visitor(visitor, Some(fields));
        inner.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, visitor)
    }
}

macro_rules! forward_visits {
    ($($method:ident: $value:ty,)*) => {
        $(fn $method<E: Error>(self, value: $value) -> Result<V::Value, E> {
            self.visitor.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for TrackedVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    forward_visits! {
        visit_bool: bool, visit_i64: i64, visit_i128: i128, visit_u64: u64, visit_u128: u128, visit_f64: f64, visit_str: &str,
        visit_borrowed_str: &'de str, visit_string: String, visit_bytes: &[u8], visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Tracked::new(deserializer, self.tracker))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Tracked::new(deserializer, self.tracker))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        // JSON arrays would do for structs, in the order of their fields. That is no part of the contract.
        if self.fields.is_some() {
            return Err(A::Error::custom("invalid type: sequence, expected an object"));
        }
        self.visitor.visit_seq(TrackedSeq { seq, tracker: self.tracker, index: 0 })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(TrackedMap { map, tracker: self.tracker, fields: self.fields, seen: BTreeSet::new() })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(data)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Tracked<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Tracked::new(deserializer, self.tracker))
    }
}

struct TrackedSeq<'t, A> {
    seq: A,
    tracker: &'t mut Tracker,
    index: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for TrackedSeq<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.tracker.path.push(Segment::Index(self.index));
        self.index += 1;
        // After an error the path stays as it is: it says where.
        let element = self.seq.next_element_seed(Tracked::new(seed, self.tracker))?;
        self.tracker.path.pop();
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.seq.size_hint()
    }
}

struct TrackedMap<'t, A> {
    map: A,
    tracker: &'t mut Tracker,
    fields: Option<&'static [&'static str]>,
    /// Keys of a map; a struct notices its own duplicates.
    seen: BTreeSet<String>,
}

/// A key, borrowed where it stands in the document without escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<A> TrackedMap<'_, A> {
    fn enter(&mut self, key: &str) -> Result<(), &'static str> {
        match self.fields {
            Some(fields) => match fields.iter().find(|field| **field == key) {
                Some(field) => self.tracker.path.push(Segment::Field(field)),
                None => return self.tracker.unknown_field(key, fields),
            },
            None => {
                self.tracker.path.push(Segment::Key(key.to_owned()));
                if !self.seen.insert(key.to_owned()) {
                    return Err("duplicate field");
                }
            }
        }
        Ok(())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for TrackedMap<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(Key(key)) = self.map.next_key()? else {
            return Ok(None);
        };
        self.enter(&key).map_err(A::Error::custom)?;
        match key {
            Cow::Borrowed(key) => seed.deserialize(serde::de::value::BorrowedStrDeserializer::new(key)),
            Cow::Owned(key) => seed.deserialize(CowStrDeserializer::new(key.into())),
        }
        .map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let value = self.map.next_value_seed(Tracked::new(seed, self.tracker))?;
        self.tracker.path.pop();
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        self.map.size_hint()
    }
}
