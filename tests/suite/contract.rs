//! The contract as others see it: a linter finds nothing, its copy in the words of OpenAPI 3.0.3 is current and valid, and no client of the last
//! release breaks. (That the contract is what the handlers say is a test of the api's own, and so are the habits that only we have.)

use std::path::Path;
use std::process::{Command, Output};

use tidegate_tests::oracle::{node_folder, program, root};

fn python(arguments: &[&str]) -> Output {
    let mut command = Command::new(program("python").unwrap());
    command.args(arguments).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(root().join("openapi")).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What redocly finds in `document`: errors and warnings, and all that it said.
fn lint(node: &Path, document: &Path) -> (u64, String) {
    let output = Command::new(node.join("bin/node"))
        .arg(node.join("node_modules/@redocly/cli/bin/cli.js"))
        .args(["lint", "--config", "redocly.yaml", "--format=json"])
        .arg(document)
        .env("REDOCLY_TELEMETRY", "off")
        .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")
        .current_dir(root().join("openapi"))
        .output()
        .unwrap();
    // It tells of its own configuration's faults beside the report.
    assert!(!String::from_utf8_lossy(&output.stderr).contains("Your config has"), "{}", said(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let count = |kind: &str| report["totals"][kind].as_u64().unwrap();
    (count("errors") + count("warnings") + count("ignored"), said(&output))
}

/// A promise: a linter that knows what generators and readers trip over finds nothing in the contract.
#[test]
fn a_linter_finds_nothing() {
    let Some(node) = node_folder().unwrap() else {
        println!("left out: TIDEGATE_NODEJS=none");
        return;
    };
    let contract = root().join("openapi/openapi.json");
    let scratch = tempfile::tempdir().unwrap();
    let broken = scratch.path().join("openapi.json");
    let text = std::fs::read_to_string(&contract).unwrap().replace(r#""operationId": "getMetrics""#, r#""operationId": "getLiveness""#);
    std::fs::write(&broken, text).unwrap();
    assert_eq!(lint(&node, &broken).0, 1, "it can find something");
    let (found, report) = lint(&node, &contract);
    assert_eq!(found, 0, "{report}");
}

/// A promise: the copy in 3.0.3 is what the contract says, and both are valid documents of their versions.
#[test]
fn the_copy_is_current_and_valid() {
    let made = python(&["downconvert.py", "openapi.json"]);
    assert!(made.status.success(), "{}", said(&made));
    let committed = std::fs::read(root().join("openapi/openapi-3.0.3.json")).unwrap();
    assert!(made.stdout == committed, "openapi/openapi-3.0.3.json is out of date: `make openapi` writes it anew");
    let valid = python(&["-m", "openapi_spec_validator", "openapi.json", "openapi-3.0.3.json"]);
    assert!(valid.status.success(), "{}", said(&valid));
}

/// A promise: no client of the last release breaks on this contract, unless that is written down.
#[test]
fn nothing_breaks_unnoticed() {
    let compared = python(&["breaking.py", "openapi.json"]);
    assert!(compared.status.success(), "{}", said(&compared));
}

/// A promise: the comparison finds what breaks and lets pass what does not, and the copy loses nothing unnoticed.
#[test]
fn the_tools_can_fail() {
    let tested = python(&["-m", "unittest", "-q", "test_tools"]);
    assert!(tested.status.success(), "{}", said(&tested));
    let report = said(&tested);
    assert!(report.contains("OK") && !report.contains("Ran 0 tests"), "{report}");
}
