//! The contract: an OpenAPI 3.1 document made from the handlers themselves, so that no route can be missing from it (D19).
//!
//! It is committed as `openapi/openapi.json`; a test fails when the two differ. To write it anew:
//! `cargo run --release -p tidegate-api --example openapi > openapi/openapi.json`.

#[cfg(test)]
mod habits;

use serde::Serialize;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{KnownFormat, SchemaFormat};
use utoipa::openapi::{Components, ContentBuilder, Ref, RefOr, ResponseBuilder, Schema};
use utoipa::{Number, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use crate::routes;
use crate::state::ApiState;

/// The media type of problems.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a call was not answered as asked (RFC 9457). Besides these fields a problem has those that its code calls for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "https://tidegate.dev/problems/topic-not-found", "title": "No such topic", "status": 404,
    "detail": "there is no such topic", "instance": "/v1/topics/flights", "code": "topic-not-found",
    "request_id": "019aa4f0-5c3a-7d2e-9b1f-0a4c6e8d2b10", "retryable": false, "side_effects": "none", "topic": "flights"
}))]
pub struct Problem {
    /// Identifies the code, as a URI.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in a few words.
    pub title: String,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The path of the request.
    pub instance: String,
    /// What went wrong, kebab-case. Unknown codes may appear.
    pub code: String,
    /// The id of the request, as in the header `Request-Id` and in the node's log.
    pub request_id: String,
    /// Whether the same call may succeed later without being changed.
    pub retryable: bool,
    /// Whether the failed call may have changed something: `none` or `possible`.
    pub side_effects: String,
    /// The broken rules, if it is about several.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<ProblemItem>>,
    /// The nearest name that exists, if one is near.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub did_you_mean: Option<String>,
}

/// One broken rule.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"pointer": "/partitions", "code": "out-of-range", "detail": "a topic has 1 to 10000 partitions"}))]
pub struct ProblemItem {
    /// JSON pointer into the request.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Place of the record in the request, if it is about a record.
    #[schema(nullable = false, maximum = 9_007_199_254_740_991_i64)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The rule, kebab-case.
    pub code: String,
    /// A sentence.
    pub detail: String,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "A durable event log over plain HTTP. Every answer that is neither 2xx nor 3xx is a problem (RFC 9457) that says whether repeating the call can help (`retryable`) and whether it may have done something (`side_effects`).",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "topics", description = "Making, changing and looking at topics"),
        (name = "records", description = "Producing and fetching records"),
        (name = "producers", description = "Who writes, so that what is sent again is not written again"),
        (name = "cluster", description = "Nodes, and the bounds that clients may run into"),
        (name = "health", description = "For whoever runs the node"),
    ),
    components(schemas(Problem, ProblemItem))
)]
struct Base;

/// All documented routes.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    let mut routes = OpenApiRouter::with_openapi(Base::openapi()).merge(routes::health::router()).merge(routes::docs::documented());
    routes = routes.merge(routes::router());
    routes
}

/// The document.
pub fn document() -> utoipa::openapi::OpenApi {
    finished(routes().into_openapi())
}

/// Names the middleware's part of the contract: any call may be answered with a problem. And bounds the integers in headers.
pub(crate) fn finished(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let problem = ResponseBuilder::new()
        .description("A problem: the call was not answered as asked")
        .content(PROBLEM_JSON, ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build())
        .build();
    document.components.get_or_insert_with(Components::default).responses.insert("Problem".to_owned(), RefOr::T(problem));
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch, &mut item.head];
        for operation in operations.into_iter().flatten() {
            let default = RefOr::Ref(Ref::from_response_name("Problem"));
            operation.responses.responses.entry("default".to_owned()).or_insert(default);
            bound_headers(operation);
        }
    }
    document
}

/// An annotation can't bound an integer in a header, so it is done here: as everywhere else, to what every JSON reader can hold.
fn bound_headers(operation: &mut Operation) {
    let responses = operation.responses.responses.values_mut().filter_map(|response| match response {
        RefOr::T(response) => Some(response),
        RefOr::Ref(_) => None,
    });
    for header in responses.flat_map(|response| response.headers.values_mut()) {
        if let RefOr::T(Header { schema: Some(RefOr::T(Schema::Object(schema))), .. }) = header
            && schema.format == Some(SchemaFormat::KnownFormat(KnownFormat::Int64))
        {
            schema.maximum.get_or_insert(Number::Int(9_007_199_254_740_991));
        }
    }
}

/// Each operation with its method and path.
pub(crate) fn operations(document: &utoipa::openapi::OpenApi) -> Vec<(&'static str, &str, &Operation)> {
    let mut all = Vec::new();
    for (path, item) in &document.paths.paths {
        let methods = [
            ("GET", &item.get),
            ("PUT", &item.put),
            ("POST", &item.post),
            ("DELETE", &item.delete),
            ("PATCH", &item.patch),
            ("HEAD", &item.head),
        ];
        all.extend(methods.into_iter().filter_map(|(method, operation)| Some((method, path.as_str(), operation.as_ref()?))));
    }
    all
}

/// The document as it is committed and served: pretty-printed, with a line feed at its end.
///
/// # Panics
/// Never: it holds nothing that JSON cannot say.
pub fn document_json() -> String {
    let mut json = serde_json::to_string_pretty(&document()).unwrap_or_else(|error| panic!("the document is JSON: {error}"));
    json.push('\n');
    json
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A promise: the committed contract is what the routes say.
    #[test]
    fn the_committed_document_is_current() {
        let committed = include_str!("../../openapi/openapi.json");
        assert!(
            committed == document_json(),
            "openapi/openapi.json is out of date: `cargo run --release -p tidegate-api --example openapi > openapi/openapi.json`"
        );
    }

    /// A promise: each operation has a name of its own in lowerCamel, one tag that is described, and says that it may answer a problem.
    #[test]
    fn operations_keep_the_habits_that_generators_need() {
        let document = document();
        let tags: BTreeSet<_> = document.tags.iter().flatten().map(|tag| tag.name.as_str()).collect();
        let mut names = BTreeSet::new();
        for (method, path, operation) in operations(&document) {
            let name = operation.operation_id.as_deref().unwrap_or_else(|| panic!("{method} {path} has no operationId"));
            assert!(names.insert(name), "{name} names two operations");
            assert!(name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
            assert_eq!(operation.tags.as_ref().map_or(0, Vec::len), 1, "{name}");
            assert!(operation.tags.iter().flatten().all(|tag| tags.contains(tag.as_str())), "{name}");
            assert!(operation.responses.responses.contains_key("default"), "{name}");
        }
        assert!(names.len() > 4, "{names:?}");
    }

    /// A promise: what a document refers to is in it.
    #[test]
    fn references_resolve() {
        let json: serde_json::Value = serde_json::from_str(&document_json()).unwrap();
        let text = json.to_string();
        let references: BTreeSet<&str> = text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(!references.is_empty());
        for reference in references {
            assert!(json.pointer(reference).is_some(), "{reference} leads nowhere");
        }
    }
}
