//! Query strings: every parameter is known, given once, and says what its field can hold.

use std::borrow::Cow;
use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use tidegate_types::ErrorCode;

use crate::error::{ApiError, nearest};

/// The query as a `T`: a plain struct of numbers, booleans, strings, enums of names, and options of these. It needs no `deny_unknown_fields`.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Reads a query string.
///
/// # Errors
/// 400 `unknown-parameter` with `parameter` and `did_you_mean`; 400 `malformed-parameter` with `parameter`.
fn parse<T: DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        if pairs.iter().any(|(known, _)| *known == name) {
            return Err(ApiError::malformed_parameter(&shortened(&name), "it is given more than once"));
        }
        if pairs.len() == PARAMETERS_MAX {
            return Err(ApiError::new(ErrorCode::UnknownParameter, "more parameters than there can be"));
        }
        pairs.push((name, value));
    }
    T::deserialize(Parameters { pairs: &pairs }).map_err(|failure| failure.into_api_error())
}

/// More than any path has; a bound, because each is compared with each.
const PARAMETERS_MAX: usize = 64;

/// One name or value of a query: `+` is a space, `%xx` a byte.
fn decoded(text: &str) -> Result<Cow<'_, str>, ApiError> {
    let spaced: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    let utf8 = || ApiError::new(ErrorCode::MalformedParameter, "the query does not decode to UTF-8");
    match spaced {
        Cow::Borrowed(text) => percent_decode_str(text).decode_utf8().map_err(|_| utf8()),
        Cow::Owned(text) => percent_decode_str(&text).decode_utf8().map(|text| text.into_owned().into()).map_err(|_| utf8()),
    }
}

/// A client's own words, given back so far that it recognises them.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Why a query was refused.
#[derive(Debug)]
enum Failure {
    Unknown { parameter: String, did_you_mean: Option<&'static str> },
    Malformed { parameter: String, reason: String },
}

impl Failure {
    fn into_api_error(self) -> ApiError {
        match self {
            Self::Unknown { parameter, did_you_mean } => {
                let meant = did_you_mean.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default();
                let parameter = shortened(&parameter);
                ApiError::new(ErrorCode::UnknownParameter, format!("there is no query parameter '{parameter}' here{meant}"))
                    .with("parameter", parameter)
                    .with_some("did_you_mean", did_you_mean)
            }
            Self::Malformed { parameter, reason } => ApiError::malformed_parameter(&shortened(&parameter), reason),
        }
    }

    /// Says which parameter it was about, if it does not know yet.
    fn of(self, name: &str) -> Self {
        match self {
            Self::Malformed { parameter, reason } if parameter.is_empty() => Self::Malformed { parameter: name.to_owned(), reason },
            other => other,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { parameter, .. } => write!(f, "unknown parameter {parameter}"),
            Self::Malformed { parameter, reason } => write!(f, "{parameter}: {reason}"),
        }
    }
}

impl std::error::Error for Failure {}

impl serde::de::Error for Failure {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::Malformed { parameter: String::new(), reason: reason.to_string() }
    }

    fn invalid_type(_: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::custom(format_args!("it is not {expected}"))
    }

    fn invalid_value(_: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::custom(format_args!("it is not {expected}"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("it is one of {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Malformed { parameter: field.to_owned(), reason: "it is required".to_owned() }
    }
}

struct Parameters<'a> {
    pairs: &'a [(Cow<'a, str>, Cow<'a, str>)],
}

impl<'de> Deserializer<'de> for Parameters<'de> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Failure> {
        Err(Failure::custom("a query is read into a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        if let Some((unknown, _)) = self.pairs.iter().find(|(name, _)| !fields.contains(&name.as_ref())) {
            return Err(Failure::Unknown { parameter: unknown.to_string(), did_you_mean: nearest(unknown, fields.iter().copied()) });
        }
        visitor.visit_map(Pairs { rest: self.pairs })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

struct Pairs<'a> {
    rest: &'a [(Cow<'a, str>, Cow<'a, str>)],
}

impl<'a> MapAccess<'a> for Pairs<'a> {
    type Error = Failure;

    fn next_key_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        let Some((name, _)) = self.rest.first() else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Failure> = name.as_ref().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let Some(((name, value), rest)) = self.rest.split_first() else {
            return Err(Failure::custom("a value without a name"));
        };
        self.rest = rest;
        seed.deserialize(Value { text: value }).map_err(|failure| failure.of(name))
    }
}

/// One value, read as what its field is.
struct Value<'a> {
    text: &'a str,
}

macro_rules! numbers {
    ($($method:ident $visit:ident $number:ty, $expected:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            let number: $number = parse_number(self.text).ok_or_else(|| Failure::custom($expected))?;
            visitor.$visit(number)
        })*
    };
}

/// Digits, perhaps with a minus: neither `+` nor spaces, which the standard parser would take.
fn parse_number<N: std::str::FromStr>(text: &str) -> Option<N> {
    let plain = text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Failure;

    numbers! {
        deserialize_u8 visit_u8 u8, "it is not an integer from 0 to 255";
        deserialize_u16 visit_u16 u16, "it is not an integer from 0 to 65535";
        deserialize_u32 visit_u32 u32, "it is not an integer from 0 to 4294967295";
        deserialize_u64 visit_u64 u64, "it is not an integer from 0";
        deserialize_i32 visit_i32 i32, "it is not an integer";
        deserialize_i64 visit_i64 i64, "it is not an integer";
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.text {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(Failure::custom("it is neither true nor false")),
        }
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_borrowed_str(self.text)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Failure> {
        let name: StrDeserializer<'_, Failure> = self.text.into_deserializer();
        visitor.visit_enum(name)
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq, Default)]
    #[serde(default)]
    struct Fetch {
        offset: Option<u64>,
        timestamp: Option<i64>,
        at: Option<At>,
        max_records: u32,
        prefix: String,
        dry_run: bool,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum At {
        Earliest,
        Latest,
    }

    /// A promise: each kind of field is read from its text, escapes undone, and absent ones have their default.
    #[test]
    fn fields_are_read() {
        let fetch: Fetch =
            parse("offset=18446744073709551615&timestamp=-1&at=latest&max_records=5&prefix=a%2Bb+c%E8%AE%A2&dry_run=true").unwrap();
        let expected = Fetch {
            offset: Some(u64::MAX),
            timestamp: Some(-1),
            at: Some(At::Latest),
            max_records: 5,
            prefix: "a+b c订".into(),
            dry_run: true,
        };
        assert_eq!(fetch, expected);
        assert_eq!(parse::<Fetch>("").unwrap(), Fetch::default());
        assert_eq!(parse::<Fetch>("&&prefix&").unwrap(), Fetch::default());
    }

    /// A promise: what is unknown, given twice or unreadable is refused and named.
    #[test]
    fn what_is_wrong_is_named() {
        for (query, code, parameter) in [
            ("ofset=1", ErrorCode::UnknownParameter, "ofset"),
            ("Offset=1", ErrorCode::UnknownParameter, "Offset"),
            ("offset=1&offset=1", ErrorCode::MalformedParameter, "offset"),
            ("offset=", ErrorCode::MalformedParameter, "offset"),
            ("offset=-1", ErrorCode::MalformedParameter, "offset"),
            ("offset=+1", ErrorCode::MalformedParameter, "offset"),
            ("offset=1.5", ErrorCode::MalformedParameter, "offset"),
            ("offset=18446744073709551616", ErrorCode::MalformedParameter, "offset"),
            ("max_records=x", ErrorCode::MalformedParameter, "max_records"),
            ("at=end", ErrorCode::MalformedParameter, "at"),
            ("dry_run=1", ErrorCode::MalformedParameter, "dry_run"),
        ] {
            let error = parse::<Fetch>(query).unwrap_err();
            assert_eq!((error.code(), error.extras()["parameter"].as_str()), (code, Some(parameter)), "{query}");
        }
        assert_eq!(parse::<Fetch>("ofset=1").unwrap_err().extras()["did_you_mean"], "offset");
        assert_eq!(parse::<Fetch>("at=end").unwrap_err().detail(), "query parameter 'at': it is one of earliest, latest");
        assert_eq!(parse::<Fetch>("prefix=%ff").unwrap_err().code(), ErrorCode::MalformedParameter);
    }
}
