//! Bodies of JSON: strict unless the client asks for leniency (D18), and what is wrong is told without repeating what was sent.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponseParts, ResponseParts};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tidegate_cluster::Permit;
use tidegate_types::ErrorCode;

use super::strict::{Tracked, Tracker};
use super::{read_body, require_json};
use crate::error::ApiError;
use crate::state::ApiState;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// What to do with fields that do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Handling {
    /// Refuse the request.
    #[default]
    Strict,
    /// Ignore them and name them in `ignored_fields`.
    Lenient,
}

impl Handling {
    /// As `Prefer` asks (RFC 7240).
    pub fn of(headers: &HeaderMap) -> Self {
        let mut preferences =
            headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split([',', ';']));
        let lenient = preferences.any(|preference| preference.trim().eq_ignore_ascii_case("handling=lenient"));
        if lenient { Self::Lenient } else { Self::Strict }
    }
}

/// JSON pointers of the fields that were ignored. As a part of a response it adds them to the body, which must be a JSON object, as
/// `ignored_fields`; if there are none it adds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IgnoredFields(pub Vec<String>);

impl IntoResponseParts for IgnoredFields {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        if !self.0.is_empty() {
            parts.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static("handling=lenient"));
            parts.extensions_mut().insert(self);
        }
        Ok(parts)
    }
}

/// A body of JSON as a `T`.
#[derive(Debug)]
pub struct Json<T> {
    /// What it says.
    pub value: T,
    /// What it says beyond that; give it back as a part of the response.
    pub ignored: IgnoredFields,
    /// Covers the body's bytes.
    pub permit: Permit,
}

impl<T: DeserializeOwned> FromRequest<ApiState> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, state: &ApiState) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        require_json(&parts.headers)?;
        let (bytes, permit) = read_body(state, &parts.headers, body).await?;
        let (value, ignored) = parse_json_as(&bytes, Handling::of(&parts.headers))?;
        Ok(Self { value, ignored, permit })
    }
}

/// Reads one JSON value, strictly.
///
/// # Errors
/// As [`parse_json_as`].
pub fn parse_json<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, ApiError> {
    parse_json_as(bytes, Handling::Strict).map(|(value, _)| value)
}

/// Reads one JSON value. `T` needs no `deny_unknown_fields`.
///
/// # Errors
/// 400 `unknown-field` with `field`, `pointer` and `did_you_mean`; 400 `malformed-body` with `line`, `column` and `pointer`;
/// 422 `validation-failed` if a required field is missing.
pub fn parse_json_as<'de, T: Deserialize<'de>>(bytes: &'de [u8], handling: Handling) -> Result<(T, IgnoredFields), ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::malformed_body("the body is empty; it should be JSON"));
    }
    let mut tracker = Tracker::new(handling == Handling::Lenient);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let outcome = T::deserialize(Tracked::new(&mut deserializer, &mut tracker)).and_then(|value| deserializer.end().map(|()| value));
    match outcome {
        Ok(value) => Ok((value, IgnoredFields(tracker.ignored))),
        Err(error) => Err(refused(&error, tracker)),
    }
}

fn refused(error: &serde_json::Error, tracker: Tracker) -> ApiError {
    let pointer = tracker.pointer();
    let (line, column) = (error.line(), error.column());
    if let Some(unknown) = tracker.unknown {
        let meant = unknown.did_you_mean.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default();
        return ApiError::new(ErrorCode::UnknownField, format!("line {line}, column {column}: there is no such field{meant}"))
            .with("field", shortened(&unknown.field))
            .with("pointer", shortened(&pointer))
            .with_some("did_you_mean", unknown.did_you_mean);
    }
    let what = description(error);
    if let Some(field) = what.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return ApiError::invalid(format!("{pointer}/{field}"), "required", format!("the field '{field}' is required"));
    }
    ApiError::malformed_body(format!("line {line}, column {column}: {what}"))
        .with("line", line)
        .with("column", column)
        .with("pointer", shortened(&pointer))
}

/// A client's own words, given back so far that it recognises them.
fn shortened(text: &str) -> String {
    text.chars().take(256).collect()
}

/// What serde says, without the place, which is told apart, and without what the client sent, which may be a secret.
fn description(error: &serde_json::Error) -> String {
    let full = error.to_string();
    let what = full.rfind(" at line ").map_or(full.as_str(), |end| &full[..end]);
    if error.classify() != Category::Data {
        return what.to_owned(); // Of the document's form: these messages are constants.
    }
    let expected = what.rfind(", expected ").map(|at| people_say(&what[at + ", expected ".len()..]));
    for kind in ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "] {
        if let Some(found) = what.strip_prefix(kind) {
            return match (kind, expected) {
                ("unknown variant ", Some(expected)) => format!("unknown value; expected {expected}"),
                (_, Some(expected)) => format!("{}{}; expected {expected}", kind, name_of(found)),
                (_, None) => kind.trim_end_matches([':', ' ']).to_owned(),
            };
        }
    }
    what.to_owned() // Our own words.
}

/// The kind of what was found (`string "abc"` → `string`).
fn name_of(found: &str) -> &str {
    found.split(['"', '`', ',']).next().unwrap_or_default().trim_end()
}

/// Serde speaks of Rust's types.
fn people_say(expected: &str) -> String {
    match expected {
        "a sequence" => "an array".to_owned(),
        "a map" => "an object".to_owned(),
        "u16" => "an integer from 0 to 65535".to_owned(),
        "u32" => "an integer from 0 to 4294967295".to_owned(),
        "u64" | "usize" => "an integer from 0".to_owned(),
        "i32" | "i64" => "an integer".to_owned(),
        other if other.starts_with("struct ") => "an object".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Topic {
        name: String,
        #[serde(default)]
        partitions: Option<u32>,
        #[serde(default)]
        config: BTreeMap<String, Option<String>>,
        #[serde(default)]
        owners: Vec<Owner>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Owner {
        email: String,
    }

    #[derive(Debug, Deserialize)]
    struct Record<'a> {
        #[serde(borrow)]
        value: &'a RawValue,
    }

    #[derive(Debug, Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        records: Vec<Record<'a>>,
    }

    fn refusal(json: &str) -> ApiError {
        parse_json::<Topic>(json.as_bytes()).unwrap_err()
    }

    /// A promise: a raw value keeps its exact bytes, borrowed from the body, on the way through the strict reader.
    #[test]
    fn raw_values_stay_as_they_are() {
        let json = r#"{"records":[{"value": {"a" :1e400, "a":-0 , "u":"\ud800"} },{"value":null},{"value":12345678901234567890123456}]}"#;
        let envelope: Envelope<'_> = parse_json(json.as_bytes()).unwrap();
        let raw: Vec<&str> = envelope.records.iter().map(|r| r.value.get()).collect();
        assert_eq!(raw, [r#"{"a" :1e400, "a":-0 , "u":"\ud800"}"#, "null", "12345678901234567890123456"]);
        assert!(json.as_bytes().as_ptr_range().contains(&raw[0].as_ptr()), "borrowed, not copied");
    }

    /// A promise: a field that does not exist is named with its place and what was probably meant, at every level.
    #[test]
    fn unknown_fields_are_named() {
        let error = refusal(r#"{"name":"a","partitons":3}"#);
        assert_eq!(error.code(), ErrorCode::UnknownField);
        assert_eq!((error.extras()["field"].as_str(), error.extras()["did_you_mean"].as_str()), (Some("partitons"), Some("partitions")));
        let error = refusal(r#"{"name":"a","owners":[{"email":"x"},{"email":"y","a/b~c":1}]}"#);
        assert_eq!(error.extras()["pointer"], "/owners/1/a~1b~0c");
        assert!(!error.extras().contains_key("did_you_mean"));
        assert_eq!(refusal(r#"{"n\u0061me":"a","\u0078":1}"#).extras()["field"], "x");
    }

    /// A promise: a lenient reader takes the same document and names what it ignored.
    #[test]
    fn lenient_reading_names_what_it_ignores() {
        let json = br#"{"name":"a","x":{"deep":[1]},"owners":[{"email":"e","y":null}]}"#;
        let (topic, ignored): (Topic, _) = parse_json_as(json, Handling::Lenient).unwrap();
        assert_eq!(topic.name, "a");
        assert_eq!(ignored.0, ["/x", "/owners/0/y"]);
        let many = format!("{{\"name\":\"a\"{}}}", (0..1000).map(|i| format!(",\"z{i}\":0")).collect::<String>());
        let (_, ignored): (Topic, _) = parse_json_as(many.as_bytes(), Handling::Lenient).unwrap();
        assert_eq!(ignored.0.len(), 100, "the list is bounded");
    }

    /// A promise: what cannot be read is 400 `malformed-body`, says where, and repeats nothing of what was sent.
    #[test]
    fn malformed_bodies_are_placed_and_not_repeated() {
        for (json, line, pointer) in [
            ("", 0, None),
            ("{", 1, Some("")),
            (r#"{"name":"a"} x"#, 1, Some("")),
            (r#"{"name":"s3cret","partitions":"s3cret, expected s3cret"}"#, 1, Some("/partitions")),
            (r#"{"name":7}"#, 1, Some("/name")),
            (r#"{"name":"a","partitions":-1}"#, 1, Some("/partitions")),
            (r#"{"name":"a","partitions":4294967296}"#, 1, Some("/partitions")),
            ("{\"name\":\"a\",\n\"config\":{\"k\":5}}", 2, Some("/config/k")),
            (r#"{"name":"a","name":"s3cret"}"#, 1, Some("/name")),
            (r#"{"name":"a","config":{"k":"1","k":"2"}}"#, 1, Some("/config/k")),
            (r#"["a",1]"#, 1, Some("")),
            (r#"{"name":"a","owners":[["s3cret"]]}"#, 1, Some("/owners/0")),
            (r#"{"name":"\ud800"}"#, 1, Some("/name")),
        ] {
            let error = refusal(json);
            assert_eq!(error.code(), ErrorCode::MalformedBody, "{json}");
            assert!(!error.detail().contains("s3cret"), "{}", error.detail());
            if let Some(pointer) = pointer {
                assert_eq!(error.extras()["pointer"], pointer, "{json}");
                assert_eq!(error.extras()["line"], line, "{json}");
                assert!(error.extras()["column"].as_u64().is_some_and(|column| column > 0 && column <= json.len() as u64), "{json}");
            }
        }
        assert!(parse_json::<Topic>(b"{\"name\":\"\xff\"}").is_err());
        assert_eq!(
            refusal(r#"{"name":"a","partitions":"x"}"#).detail(),
            "line 1, column 28: invalid type: string; expected an integer from 0 to 4294967295"
        );
    }

    /// A promise: a missing field breaks a rule, and is named.
    #[test]
    fn missing_fields_are_named() {
        let error = refusal(r#"{"name":"a","owners":[{}]}"#);
        assert_eq!(error.code(), ErrorCode::ValidationFailed);
        assert_eq!(error.extras()["errors"][0]["pointer"], "/owners/0/email");
    }

    /// A promise: nesting without end is refused, not followed until the stack ends.
    #[test]
    fn bottomless_nesting_is_survived() {
        let deep = format!(r#"{{"name":"a","x":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(refusal(&deep).code(), ErrorCode::UnknownField);
        assert!(parse_json_as::<Topic>(deep.as_bytes(), Handling::Lenient).is_ok());
        assert!(parse_json::<serde_json::Value>("[".repeat(100_000).as_bytes()).is_err());
    }

    /// A promise: leniency is asked for by name, among other preferences.
    #[test]
    fn prefer_is_read() {
        for (value, handling) in [
            ("handling=lenient", Handling::Lenient),
            ("respond-async, Handling=Lenient", Handling::Lenient),
            ("handling=strict", Handling::Strict),
            ("lenient", Handling::Strict),
        ] {
            assert_eq!(Handling::of(&HeaderMap::from_iter([(PREFER, HeaderValue::from_static(value))])), handling, "{value}");
        }
    }
}
