//! A stranger reads `/openapi.json` and holds the node to it: no 5xx, no status that is not documented, no answer that is not of its schema.

use std::process::Command;

use tidegate_tests::http::Request;
use tidegate_tests::oracle;
use tidegate_tests::process::Process;

/// What the node is held to. Not among them: that all which a schema allows is accepted (a schema knows nothing of a topic's rules), and that
/// all which it does not allow is refused (it knows nothing of headers that everybody may send).
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
response_schema_conformance,unsupported_method,use_after_free,ensure_resource_availability";

/// A promise: whatever a tester makes of the document, the node answers as documented.
#[test]
fn the_node_keeps_to_its_document() {
    let data = tempfile::tempdir().unwrap();
    let config = data.path().join("node.toml");
    // A long poll would only cost the tester its time.
    std::fs::write(&config, "limit.max.wait.ms = 100\n").unwrap();
    let node = Process::start_with(&data.path().join("data"), &["--config", config.to_str().unwrap()]).unwrap();
    // Names that the document's examples use, so that the tester gets beyond 404.
    assert_eq!(Request::json("/v1/topics", r#"{"name":"flights","partitions":4}"#).send(node.address()).unwrap().status, 201);

    let examples = std::env::var("SCHEMATHESIS_EXAMPLES").unwrap_or_else(|_| "25".to_owned());
    let output = Command::new(oracle::program("schemathesis").unwrap())
        .args(["run", &format!("{}/openapi.json", node.url()), "--url", &node.url(), "--checks", CHECKS])
        .args(["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", &examples, "--request-timeout", "30"])
        .args(["--exclude-path-regex", "/(records/stream|metrics)$", "--continue-on-failure", "--no-color"])
        .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
        .env("PYTHONPATH", oracle::root().join("tests/oracle"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(data.path())
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(Request::get("/livez").send(node.address()).unwrap().status, 200);
}
