//! One record's value as an answer of its own: its bytes, its content type, and nothing that a browser would run (D26).

use axum::http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidegate_types::Encoding;

use super::page::Found;

const KEY: HeaderName = HeaderName::from_static("record-key");
const KEY_BASE64: HeaderName = HeaderName::from_static("record-key-base64");
const TIMESTAMP: HeaderName = HeaderName::from_static("record-timestamp");
const TOMBSTONE: HeaderName = HeaderName::from_static("record-tombstone");

/// What a browser may show by itself, since it can do nothing there.
const SHOWN: &[&str] = &["application/json", "text/plain", "image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"];

/// The headers of the answer that gives `found`'s value, or says that there is none.
pub(crate) fn headers(found: &Found) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TIMESTAMP, found.timestamp.into());
    if let Some(key) = &found.key {
        put_key(&mut headers, key);
    }
    if found.value.is_none() {
        headers.insert(TOMBSTONE, HeaderValue::from_static("true"));
        return headers;
    }
    let content_type = content_type(found);
    if !is_shown(&content_type) {
        headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    }
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
}

/// A key that survives as a header is given as it is; white space at its ends would not.
fn put_key(headers: &mut HeaderMap, key: &[u8]) {
    let is_plain = key.iter().all(|byte| (0x20..0x7f).contains(byte)) && key.trim_ascii().len() == key.len();
    let plain = if is_plain { HeaderValue::from_bytes(key).ok() } else { None };
    match plain {
        Some(value) => headers.insert(KEY, value),
        None => HeaderValue::from_str(&STANDARD.encode(key)).ok().and_then(|value| headers.insert(KEY_BASE64, value)),
    };
}

/// What the record says of itself if it is a media type, else what its encoding says.
fn content_type(found: &Found) -> HeaderValue {
    let stated = found.content_type.as_deref().filter(|stated| is_media_type(stated));
    if let Some(stated) = stated.and_then(|stated| HeaderValue::from_bytes(stated).ok()) {
        return stated;
    }
    HeaderValue::from_static(match found.encoding {
        Encoding::Json => "application/json",
        Encoding::Text => "text/plain; charset=utf-8",
        Encoding::Bytes | Encoding::Unknown => "application/octet-stream",
    })
}

/// Whether this is `type/subtype`, with or without parameters, in visible ASCII.
fn is_media_type(stated: &[u8]) -> bool {
    let essence = stated.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let mut halves = essence.split(|byte| *byte == b'/');
    let token = |half: Option<&[u8]>| half.is_some_and(|half| !half.is_empty() && half.iter().all(|byte| is_token(*byte)));
    let is_pair = token(halves.next()) && token(halves.next()) && halves.next().is_none();
    is_pair && stated.len() <= 256 && stated.iter().all(|byte| (0x20..0x7f).contains(byte))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_shown(content_type: &HeaderValue) -> bool {
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    SHOWN.iter().any(|shown| essence.eq_ignore_ascii_case(shown))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn found(encoding: Encoding, content_type: Option<&[u8]>, key: Option<&[u8]>) -> Found {
        Found {
            timestamp: 7,
            encoding,
            key: key.map(<[u8]>::to_vec),
            value: Some(Bytes::from_static(b"x")),
            content_type: content_type.map(<[u8]>::to_vec),
        }
    }

    /// A promise: a value goes out under its own type or its encoding's, and what a browser could run is only ever saved.
    #[test]
    fn types_are_kept_and_tamed() {
        for (encoding, stated, expected, is_saved) in [
            (Encoding::Json, None, "application/json", false),
            (Encoding::Text, None, "text/plain; charset=utf-8", false),
            (Encoding::Bytes, None, "application/octet-stream", true),
            (Encoding::Unknown, None, "application/octet-stream", true),
            (Encoding::Bytes, Some(&b"image/png"[..]), "image/png", false),
            (Encoding::Bytes, Some(b"image/svg+xml"), "image/svg+xml", true),
            (Encoding::Text, Some(b"text/html; charset=utf-8"), "text/html; charset=utf-8", true),
            (Encoding::Text, Some(b"TEXT/PLAIN"), "TEXT/PLAIN", false),
            (Encoding::Text, Some(b"nonsense"), "text/plain; charset=utf-8", false),
            (Encoding::Text, Some(b"a/b/c"), "text/plain; charset=utf-8", false),
            (Encoding::Text, Some(b"a/b\r\nx: y"), "text/plain; charset=utf-8", false),
            (Encoding::Json, Some(b""), "application/json", false),
        ] {
            let headers = headers(&found(encoding, stated, None));
            assert_eq!(headers[CONTENT_TYPE], expected);
            assert_eq!(headers.contains_key(CONTENT_DISPOSITION), is_saved, "{expected}");
            assert_eq!(headers[CONTENT_SECURITY_POLICY], "sandbox; default-src 'none'");
            assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
    }

    /// A promise: any key can be had back from the headers, and a tombstone says that it is one.
    #[test]
    fn keys_are_headers() {
        for (key, name, value) in [
            (&b"u1 x"[..], KEY, "u1 x"),
            (b"", KEY, ""),
            (b" u1", KEY_BASE64, "IHUx"),
            ("é".as_bytes(), KEY_BASE64, "w6k="),
            (b"a\nb", KEY_BASE64, "YQpi"),
        ] {
            assert_eq!(headers(&found(Encoding::Bytes, None, Some(key)))[&name], value);
        }
        let tombstone = headers(&Found { value: None, ..found(Encoding::Unknown, None, None) });
        assert_eq!((tombstone.len(), &tombstone[TOMBSTONE]), (2, &HeaderValue::from_static("true")));
    }
}
