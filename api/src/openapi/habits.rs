//! What generators of clients need of the document beyond its being valid. Each habit is a function from a document to complaints, tried on
//! made-up documents first, so that it is known to be able to fail. (What a linter knows by itself is in `openapi/redocly.yaml`.)

use serde_json::{Map, Value, json};

use super::document_json;

/// The largest integer that every JSON reader can hold: 2⁵³ − 1.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Names that mean something else in the languages of generated clients.
const TAKEN_NAMES: [&str; 12] =
    ["Record", "Error", "Object", "Request", "Response", "Function", "Map", "Set", "Date", "Promise", "Client", "Options"];

/// Bodies of merge patches (RFC 7396), the only place where `null` means something.
const PATCHES: [&str; 1] = ["/components/schemas/AlterTopic/"];

fn object<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    value.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
}

/// Every object in the document with its JSON pointer, but for those in examples, which are data.
fn objects(document: &Value) -> Vec<(String, &Map<String, Value>)> {
    let (mut found, mut open) = (Vec::new(), vec![(String::new(), document)]);
    while let Some((at, value)) = open.pop() {
        match value {
            Value::Object(fields) => {
                found.push((at.clone(), fields));
                let fields = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "example" | "examples"));
                open.extend(fields.map(|(name, value)| (format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), value)));
            }
            Value::Array(items) => open.extend(items.iter().enumerate().map(|(place, item)| (format!("{at}/{place}"), item))),
            _ => {}
        }
    }
    found
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    const METHODS: [&str; 8] = ["get", "put", "post", "delete", "patch", "head", "options", "trace"];
    let items = object(document, "/paths").flat_map(|(path, item)| object(item, "").map(move |(method, it)| (path, method, it)));
    items.filter(|(_, method, _)| METHODS.contains(&method.as_str())).map(|(path, method, it)| (format!("{method} {path}"), it)).collect()
}

/// Every body is a component with a name, so that a generated class has one, too; and an operation takes and gives one media type.
fn body_complaints(document: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, operation) in operations(document) {
        let taken: Vec<_> = object(operation, "/requestBody/content").collect();
        let responses = object(operation, "/responses").filter(|(status, _)| status.starts_with('2'));
        let given: Vec<_> = responses.flat_map(|(_, response)| object(response, "/content")).collect();
        if taken.len() > 1 {
            complaints.push(format!("{name} takes several media types"));
        }
        if given.iter().any(|(media_type, _)| *media_type != given[0].0) {
            complaints.push(format!("{name} gives several media types"));
        }
        let unnamed = taken.iter().chain(&given).filter(|(_, media)| media.pointer("/schema/$ref").is_none());
        complaints.extend(unnamed.map(|(media_type, _)| format!("{name}: its {media_type} is no named component")));
        if operation.pointer("/responses/default/$ref").and_then(Value::as_str) != Some("#/components/responses/Problem") {
            complaints.push(format!("{name} doesn't say that it may answer a problem"));
        }
    }
    complaints
}

/// No unions, tuples or objects in the middle of another schema: generators invent names for them, each another one.
fn inline_complaints(document: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, fields) in objects(document) {
        for keyword in ["anyOf", "oneOf", "allOf", "prefixItems"].into_iter().filter(|keyword| fields.contains_key(*keyword)) {
            complaints.push(format!("{at} is an {keyword}"));
        }
        let is_named = at.strip_prefix("/components/schemas/").is_some_and(|name| !name.contains('/'));
        if fields.get("type") == Some(&json!("object")) && fields.contains_key("properties") && !is_named {
            complaints.push(format!("{at} is an object without a name"));
        }
        let is_nullable = fields.get("type").is_some_and(Value::is_array);
        if is_nullable && !PATCHES.iter().any(|patch| at.starts_with(patch)) {
            complaints.push(format!("{at} may be null: what is optional is left out"));
        }
    }
    let taken = object(document, "/components/schemas").filter(|(name, _)| TAKEN_NAMES.contains(&name.as_str()));
    complaints.extend(taken.map(|(name, _)| format!("{name} is the name of something else")));
    complaints
}

/// Every integer fits a double's 53 bits, and says so.
fn integer_complaints(document: &Value) -> Vec<String> {
    let is_integer = |fields: &Map<String, Value>| fields.get("type") == Some(&json!("integer"));
    let is_bounded = |fields: &Map<String, Value>| {
        fields.get("format") == Some(&json!("int32"))
            || fields.get("maximum").and_then(Value::as_u64).is_some_and(|maximum| maximum <= INTEGER_MAX)
    };
    let unbounded = objects(document).into_iter().filter(|(_, fields)| is_integer(fields) && !is_bounded(fields));
    unbounded.map(|(at, _)| format!("{at} is an integer without a maximum of at most {INTEGER_MAX}")).collect()
}

fn made_up(operation: &Value, schemas: &Value) -> Value {
    json!({"paths": {"/a": {"get": operation}}, "components": {"schemas": schemas}})
}

fn current() -> Value {
    serde_json::from_str(&document_json()).unwrap()
}

/// A promise: what an operation takes and gives has one media type and one name, and a problem is always possible.
#[test]
fn bodies_have_a_name_and_one_media_type() {
    let body = json!({"content": {"a/b": {"schema": {"type": "string"}}, "a/c": {"schema": {"$ref": "#/x"}}}});
    let bad = made_up(&json!({"requestBody": body, "responses": {"200": body}}), &json!({}));
    assert_eq!(body_complaints(&bad).len(), 5, "each rule can fail: {:?}", body_complaints(&bad));
    assert_eq!(body_complaints(&current()), [""; 0]);
}

/// A promise: nothing in the document makes a generator invent a name, or a client check for `null`.
#[test]
fn schemas_are_plain() {
    let bad = json!({"Record": {"type": "object", "properties": {
        "a": {"type": ["string", "null"]}, "b": {"oneOf": []}, "c": {"type": "object", "properties": {}}, "d": {"prefixItems": []}}}});
    assert_eq!(inline_complaints(&made_up(&json!({}), &bad)).len(), 5, "each rule can fail");
    assert_eq!(inline_complaints(&current()), [""; 0]);
}

/// A promise: every integer can be held by JavaScript's numbers, and the document says so.
#[test]
fn integers_are_bounded() {
    let bad = json!({"A": {"properties": {"a": {"type": "integer", "format": "int64"}, "b": {"type": "integer", "maximum": 1_u64 << 53},
        "c": {"type": "integer", "format": "int32"}, "d": {"type": "integer", "maximum": INTEGER_MAX}}}});
    assert_eq!(integer_complaints(&made_up(&json!({}), &bad)).len(), 2, "the rule can fail");
    assert_eq!(integer_complaints(&current()), [""; 0]);
}
