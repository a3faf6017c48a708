//! Which verbs have to be in the transcripts: all, with their help, in words and as JSON.

use std::collections::BTreeSet;

use tidegate_server::cli::verbs;
use tidegate_tests::oracle::root;

/// Verbs that no transcript shows, and why.
const NOT_SHOWN: [(&str, &str); 8] = [
    ("serve", "it runs until it is stopped; suites of its own do that"),
    ("produce", "it reads; `cli_records` tests what it says, by input"),
    ("consume", "`cli_records` tests it byte by byte"),
    ("tail", "`cli_records` tests it byte by byte"),
    ("find", "`cli_records` tests it byte by byte"),
    ("completion", "its scripts are tried in real shells"),
    ("man", "its pages are tested where they are made"),
    ("help", "it says what --help says, which is shown"),
];

/// Every line of every transcript that runs a command, without `$ tidegate `.
fn lines() -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(root().join("tests/suite/cli")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let text = std::fs::read_to_string(path).unwrap();
            lines.extend(text.lines().filter_map(|line| line.strip_prefix("$ tidegate ")).map(str::to_owned));
        }
    }
    lines
}

/// A promise: no verb is added, in words or as JSON, without a transcript of it; and the help of each is one.
#[test]
fn every_verb_is_shown() {
    let lines = lines();
    let mut lacking = BTreeSet::new();
    for (verb, command) in verbs() {
        let of_verb = |line: &&String| verb.is_empty() || **line == verb || line.starts_with(&format!("{verb} "));
        if !lines.iter().filter(of_verb).any(|line| *line == format!("{verb} --help").trim_start()) {
            lacking.insert(format!("{verb}: --help"));
        }
        if command.has_subcommands() || NOT_SHOWN.iter().any(|(known, _)| *known == verb) {
            continue;
        }
        let is_other = |line: &str| ["-o ", "--output", "--help"].iter().any(|flag| line.contains(flag));
        if !lines.iter().filter(of_verb).any(|line| !is_other(line)) {
            lacking.insert(format!("{verb}: in words"));
        }
        if !lines.iter().filter(of_verb).any(|line| line.contains("-o json")) {
            lacking.insert(format!("{verb}: -o json"));
        }
    }
    assert_eq!(lacking, BTreeSet::new(), "what no transcript shows");
    for (verb, reason) in NOT_SHOWN {
        assert!(verbs().iter().any(|(known, _)| known == verb), "there is no verb {verb}, of which is said: {reason}");
    }
}
