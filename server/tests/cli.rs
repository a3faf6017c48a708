//! The binary as a person or a script meets it: arguments, exit codes, what goes to which stream. Needs no running node.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::process::{Command, Output};

use serde_json::Value;

fn tidegate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    // Variables of whoever runs the tests are not theirs to decide with.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command.args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A promise: arguments that mean nothing are refused with code 2 and words on standard error, and nothing on standard output.
#[test]
fn wrong_arguments_are_code_2() {
    for arguments in [
        &[][..],
        &["no-such-verb"],
        &["topic", "create"],
        &["topic", "create", "t", "--partitions", "many"],
        &["topic", "create", "t", "--config", "no-equals"],
        &["topic", "delete"],
        &["topic", "list", "--output", "xml"],
        &["topic", "list", "--server", "not a url"],
        &["serve", "--no-such-flag"],
        &["serve", "--set", "novalue"],
        &["log", "verify"],
    ] {
        let output = tidegate(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

/// A promise: help and version are answers, not errors.
#[test]
fn help_and_version() {
    let version = tidegate(&["--version"]);
    assert_eq!((version.status.code(), stdout(&version).as_str()), (Some(0), concat!("tidegate ", env!("CARGO_PKG_VERSION"), "\n")));
    let help = tidegate(&["topic", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).contains("describe"));
}

/// A promise: where no node answers, the code is 5, and with `-o json` the error is a problem object that says nothing was done.
#[test]
fn nobody_answers_is_code_5() {
    let output = tidegate(&["topic", "list", "--server", &nobody(), "-o", "json"]);
    assert_eq!(output.status.code(), Some(5));
    let problem: Value = serde_json::from_str(&stderr(&output)).unwrap();
    assert_eq!((&problem["code"], &problem["side_effects"], &problem["retryable"]), (&"unreachable".into(), &"none".into(), &true.into()));
}

/// A promise: `config show` says each key's value and who set it; flags win.
#[test]
fn config_show_names_sources() {
    let output = tidegate(&["config", "show", "--data-dir", "d", "--set", "log.dirs=lost", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let settings: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
    let find = |key: &str| settings.iter().find(|s| s["key"] == key).unwrap();
    assert_eq!((&find("log.dirs")["value"], &find("log.dirs")["source"]), (&"d".into(), &"flag --data-dir".into()));
    assert_eq!(find("node.id")["source"], "default");
    let table = stdout(&tidegate(&["config", "show"]));
    assert!(table.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == ["num.partitions", "1", "default"]), "{table}");
}

/// A promise: `config check` finds what `serve` would stumble over, and `serve` refuses it with the same words before it touches anything.
#[test]
fn a_wrong_configuration_is_refused() {
    let good = tidegate(&["config", "check", "--set", "num.io.threads=8"]);
    assert_eq!(good.status.code(), Some(0));
    assert!(stdout(&good).contains("num.io.threads") && stdout(&good).contains("is valid"), "{}", stdout(&good));

    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let arguments = ["--data-dir", data.to_str().unwrap(), "--listen", "0.0.0.0:0", "--set", "num.partition=3"];
    for verb in [&["config", "check"][..], &["serve"]] {
        let output = tidegate(&[verb, &arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{verb:?}");
        let text = stderr(&output);
        assert!(text.contains("--insecure-listen") && text.contains("did you mean 'num.partitions'?"), "{text}");
    }
    assert!(!data.exists());
}

/// A promise: a reader that goes away early is no error.
#[test]
fn a_closed_pipe_is_silent() {
    let script = format!("set -o pipefail; '{}' config show -o json | head -c 1 >/dev/null", env!("CARGO_BIN_EXE_tidegate"));
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

/// A promise: a path without log files is an error, not an empty success.
#[test]
fn nothing_to_verify_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for verb in ["verify", "dump"] {
        let output = tidegate(&["log", verb, dir.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(dir.path().to_str().unwrap()));
    }
}
