//! Clients that others' generators make of the contract: their types hold, and what they produce to a node they fetch from it the same.

use std::path::Path;
use std::process::Command;

use tidegate_tests::oracle::{node_folder, root};
use tidegate_tests::process::Process;

/// Runs `openapi/<language>.sh` against a node of its own.
fn try_client(language: &str) {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(language);
    let script = root().join("openapi").join(format!("{language}.sh"));
    let output = Command::new(script).arg(node.url()).arg(&folder).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}\nthe node said:\n{}", node.said());
    assert!(out.contains(&format!("{language}: produced and fetched 2 records")), "{out}");
}

/// A promise: the client that is made for TypeScript is well typed and works.
#[test]
fn typescript() {
    if node_folder().unwrap().is_none() {
        println!("left out: TIDEGATE_NODEJS=none");
        return;
    }
    try_client("typescript");
}

/// A promise: the client that is made for Python leaves nothing of the contract out, is well typed and works.
#[test]
fn python() {
    try_client("python");
}
