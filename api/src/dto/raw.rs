//! One record given as a body and headers: its value is the body, whatever it is.
//!
//! | header | is |
//! |---|---|
//! | `Record-Key`, `Record-Key-Base64` | the key, at most one of them |
//! | `Record-Timestamp` | ms since 1970-01-01 UTC |
//! | `Record-Partition` | the partition; so is the parameter `partition` |
//! | `Record-Header-<name>` | a header of the record; names arrive in lower case |
//! | `Content-Type` | kept as the header `content-type` and, by its kind, as the value's encoding (D12) |

use std::borrow::Cow;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tidegate_types::record::Header;
use tidegate_types::{Encoding, ErrorCode};

use super::collect::Plain;
use crate::error::ApiError;
use crate::extract::is_json;
use crate::json::check;

const KEY: HeaderName = HeaderName::from_static("record-key");
const KEY_BASE64: HeaderName = HeaderName::from_static("record-key-base64");
const TIMESTAMP: HeaderName = HeaderName::from_static("record-timestamp");
const PARTITION: HeaderName = HeaderName::from_static("record-partition");
const HEADER_PREFIX: &str = "record-header-";

/// What the headers of a request say of its record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RawRecord<'a> {
    key: Option<Cow<'a, [u8]>>,
    timestamp: Option<i64>,
    /// The partition, if one was named.
    pub(crate) partition: Option<u32>,
    headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> RawRecord<'a> {
    /// Reads `headers`; `partition` is the parameter of the query.
    ///
    /// # Errors
    /// 400 `malformed-header`.
    pub(crate) fn read(headers: &'a HeaderMap, partition: Option<u32>) -> Result<Self, ApiError> {
        let of_header = only(headers, &PARTITION)?.map(|text| number::<u32>(&PARTITION, text)).transpose()?;
        if let (Some(of_query), Some(of_header)) = (partition, of_header)
            && of_query != of_header
        {
            return Err(ApiError::malformed_header(PARTITION.as_str(), "the parameter 'partition' names another one"));
        }
        Ok(Self {
            key: key(headers)?,
            timestamp: only(headers, &TIMESTAMP)?.map(|text| number::<i64>(&TIMESTAMP, text)).transpose()?,
            partition: partition.or(of_header),
            headers: record_headers(headers)?,
        })
    }

    /// All of it that must be the same when it comes again.
    pub(crate) fn fields<'p>(&'p self, value: &'p [u8]) -> Vec<Cow<'p, [u8]>> {
        let number = |number: Option<i64>| Cow::Owned(number.map(|number| number.to_string()).unwrap_or_default().into_bytes());
        let key = self.key.as_deref();
        let has_key = if key.is_some() { &b"key"[..] } else { b"" };
        let mut fields = vec![
            Cow::Borrowed(value),
            Cow::Borrowed(has_key),
            Cow::Borrowed(key.unwrap_or_default()),
            number(self.timestamp),
            number(self.partition.map(i64::from)),
        ];
        fields.extend(self.headers.iter().flat_map(|(name, value)| [Cow::Borrowed(name.as_bytes()), Cow::Borrowed(*value)]));
        fields
    }

    /// The record, with `value` encoded so.
    pub(crate) fn plain<'p>(
        &'p self,
        encoding: Encoding,
        value: &'p [u8],
    ) -> Plain<'p, impl ExactSizeIterator<Item = Header<'p>> + use<'p, 'a>> {
        Plain {
            key: self.key.as_deref(),
            encoding,
            value: Some(value),
            timestamp: self.timestamp,
            partition: self.partition,
            headers: self.headers.iter().map(|(name, value)| Header { name, value: Some(value) }),
        }
    }
}

/// The text of a header that stands once at most.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(ApiError::malformed_header(name.as_str(), "it stands more than once"));
    }
    ascii(name.as_str(), value).map(Some)
}

/// A header's value, which must be visible ASCII: what lies beyond reads differently from one server to the next.
fn ascii<'a>(name: &str, value: &'a HeaderValue) -> Result<&'a str, ApiError> {
    value.to_str().map_err(|_| ApiError::malformed_header(name, "only visible ASCII can be sent so; use base64 or the JSON envelope"))
}

fn number<N: std::str::FromStr>(name: &HeaderName, text: &str) -> Result<N, ApiError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or_else(|| ApiError::malformed_header(name.as_str(), "a whole number is expected"))
}

fn key(headers: &HeaderMap) -> Result<Option<Cow<'_, [u8]>>, ApiError> {
    match (only(headers, &KEY)?, only(headers, &KEY_BASE64)?) {
        (Some(_), Some(_)) => Err(ApiError::malformed_header(KEY_BASE64.as_str(), "a record has at most one of record-key and this")),
        (Some(key), None) => Ok(Some(Cow::Borrowed(key.as_bytes()))),
        (None, Some(key)) => {
            let key = STANDARD.decode(key).map_err(|_| ApiError::malformed_header(KEY_BASE64.as_str(), "it is not base64"))?;
            Ok(Some(Cow::Owned(key)))
        }
        (None, None) => Ok(None),
    }
}

/// The record's own headers, `content-type` first.
fn record_headers(headers: &HeaderMap) -> Result<Vec<(&str, &[u8])>, ApiError> {
    let mut found = Vec::new();
    if let Some((value, _)) = stated_type(headers)? {
        found.push((CONTENT_TYPE.as_str(), value.as_bytes()));
    }
    for (name, value) in headers {
        let Some(record_name) = name.as_str().strip_prefix(HEADER_PREFIX) else { continue };
        if record_name.is_empty() {
            return Err(ApiError::malformed_header(name.as_str(), "the record header's name is missing"));
        }
        found.push((record_name, ascii(name.as_str(), value)?.as_bytes()));
    }
    Ok(found)
}

/// The content type as it was sent, and its essence; `None` if there is none but curl's own.
fn stated_type(headers: &HeaderMap) -> Result<Option<(&str, String)>, ApiError> {
    let Some(value) = only(headers, &CONTENT_TYPE)? else {
        return Ok(None);
    };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let says_nothing = essence.is_empty() || essence == "application/x-www-form-urlencoded";
    Ok((!says_nothing).then_some((value, essence)))
}

/// How a value of the request's content type is to be given back (D12).
///
/// # Errors
/// 422 `record-rejected` if it is to be JSON and is not; 400 `malformed-header`.
pub(crate) fn encoding(headers: &HeaderMap, body: &[u8], json_depth: usize) -> Result<Encoding, ApiError> {
    let Some((_, essence)) = stated_type(headers)? else {
        return Ok(Encoding::Bytes);
    };
    if is_json(&essence) {
        return check_json(body, json_depth).map(|()| Encoding::Json).map_err(not_json);
    }
    let is_text = essence.starts_with("text/") && std::str::from_utf8(body).is_ok();
    Ok(if is_text { Encoding::Text } else { Encoding::Bytes })
}

/// Whether `body` is one JSON text; what is wrong otherwise.
pub(crate) fn check_json(body: &[u8], depth_max: usize) -> Result<(), &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| "the value is to be JSON and is no UTF-8")?;
    check(text, depth_max).map_err(|error| error.reason())
}

fn not_json(reason: &'static str) -> ApiError {
    let detail = format!("the body is to be JSON, by its content type, and is not: {reason}");
    let error = json!({"pointer": "", "code": "not-json", "detail": detail});
    ApiError::new(ErrorCode::RecordRejected, detail).with("errors", vec![error])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    /// A promise: the content type decides how a value comes back, and what it says falsely is refused.
    #[test]
    fn content_types_decide_the_encoding() {
        let encoding = |content_type: Option<&'static str>, body: &[u8]| {
            let list: Vec<_> = content_type.iter().map(|value| ("content-type", value.as_bytes())).collect();
            encoding(&headers(&list), body, 128)
        };
        for (content_type, body, expected) in [
            (Some("application/json"), &b" {\"a\":1} "[..], Encoding::Json),
            (Some("Application/Problem+JSON; charset=utf-8"), b"null", Encoding::Json),
            (Some("text/plain"), "é".as_bytes(), Encoding::Text),
            (Some("text/csv; charset=latin1"), b"\xe9", Encoding::Bytes),
            (Some("image/png"), b"x", Encoding::Bytes),
            (Some("nonsense"), b"x", Encoding::Bytes),
            (Some("application/x-www-form-urlencoded"), b"x", Encoding::Bytes),
            (None, b"x", Encoding::Bytes),
            (Some("text/plain"), b"", Encoding::Text),
        ] {
            assert_eq!(encoding(content_type, body).unwrap(), expected, "{content_type:?}");
        }
        for body in [&b""[..], b"{", b"\xff", b"1 2"] {
            assert_eq!(encoding(Some("application/json"), body).unwrap_err().code(), ErrorCode::RecordRejected);
        }
    }

    /// A promise: what the headers say of a record arrives: an empty key is a key, headers repeat, curl's own content type is none.
    #[test]
    fn headers_arrive() {
        let map = headers(&[
            ("content-type", b"image/png"),
            ("record-key", b""),
            ("record-timestamp", b"0"),
            ("record-partition", b"3"),
            ("record-header-unit", b"C"),
            ("record-header-unit", b""),
        ]);
        let raw = RawRecord::read(&map, Some(3)).unwrap();
        assert_eq!((raw.key.as_deref(), raw.timestamp, raw.partition), (Some(&b""[..]), Some(0), Some(3)));
        assert_eq!(raw.headers, [("content-type", &b"image/png"[..]), ("unit", b"C"), ("unit", b"")]);
        let form = headers(&[("content-type", b"application/x-www-form-urlencoded"), ("record-key-base64", b"/w==")]);
        let raw = RawRecord::read(&form, None).unwrap();
        assert_eq!((raw.key.as_deref(), raw.headers.len(), raw.partition), (Some(&b"\xff"[..]), 0, None));
    }

    /// A promise: a header that cannot be read is named.
    #[test]
    fn bad_headers_are_named() {
        for (list, name) in [
            (&[("record-key", &b"\xc3\xa9"[..])][..], "record-key"),
            (&[("record-key", b"a"), ("record-key", b"b")], "record-key"),
            (&[("record-key", b"a"), ("record-key-base64", b"")], "record-key-base64"),
            (&[("record-key-base64", b"/w")], "record-key-base64"),
            (&[("record-timestamp", b"-1")], "record-timestamp"),
            (&[("record-timestamp", b"")], "record-timestamp"),
            (&[("record-timestamp", b"9223372036854775808")], "record-timestamp"),
            (&[("record-partition", b"x")], "record-partition"),
            (&[("record-partition", b"2")], "record-partition"),
            (&[("record-header-", b"x")], "record-header-"),
            (&[("record-header-a", b"\xff")], "record-header-a"),
            (&[("content-type", b"\xff")], "content-type"),
        ] {
            let error = RawRecord::read(&headers(list), Some(1)).unwrap_err();
            assert_eq!((error.code(), &error.extras()["header"]), (ErrorCode::MalformedHeader, &json!(name)));
        }
    }
}
