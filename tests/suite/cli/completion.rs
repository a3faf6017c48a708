//! What real shells make of the scripts: the first Tab already completes.

use std::path::Path;
use std::process::Stdio;

use tidegate_tests::process::binary;

use super::{Person, nobody, node};

/// Runs a shell's script with the binary on its path, and gives what it prints.
fn shell(person: &Person, program: &str, arguments: &[&str]) -> String {
    let folder = binary().unwrap().parent().unwrap().to_owned();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut command = person.command(Path::new(program));
    let output = command.args(arguments).env("PATH", path).env("TERM", "dumb").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a shell is here to be tried; loud where it is not.
fn is_here(program: &str) -> bool {
    let is_here = std::process::Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_here {
        println!("SKIPPED: {program} is not on the path, so that its completion is not tried");
    }
    is_here
}

/// The words as bash splits a line: at `=` and `:`, too.
fn bash_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for word in line.split(' ') {
        let mut part = String::new();
        for c in word.chars() {
            if matches!(c, '=' | ':') != part.ends_with(['=', ':']) && !part.is_empty() {
                words.push(std::mem::take(&mut part));
            }
            part.push(c);
        }
        words.push(part);
    }
    words
}

/// What bash offers at Tab at the end of `line`, and does not draw.
fn in_bash(person: &Person, line: &str) -> Vec<String> {
    let words = bash_words(line);
    let quoted = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let current = words.last().filter(|word| !word.ends_with(['=', ':'])).map_or("", String::as_str);
    let script = format!(
        "source <(tidegate completion bash) && COMP_LINE='{line}' COMP_POINT={} COMP_WORDS=({quoted}) COMP_CWORD={} COMP_TYPE=9 && \
         _tidegate_complete tidegate '{current}' '' && printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        line.len(),
        words.len() - 1
    );
    shell(person, "bash", &["-c", &script]).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// A promise: a real bash completes verbs, keys with their values, and names of topics by asking the node that the line means; a topic that
/// the line has already is not offered again; without a node it is quick about having none.
#[test]
fn bash_completes() {
    let (_data, node) = node();
    let person = Person::new(Some(node.url()));
    let nowhere = Person::new(Some(nobody()));
    let types = ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"];
    for (line, offered) in [
        ("tidegate topic describe ord", &["orders"][..]),
        ("tidegate topic des", &["describe"]),
        ("tidegate topic config get orders retention.", &["retention.bytes", "retention.ms"]),
        ("tidegate topic config set orders retention.m", &["retention.ms="]),
        ("tidegate topic config set orders compression.type=", &types),
        ("tidegate topic config set orders compression.type=zs", &["zstd"]),
        ("tidegate topic create new -c durability=", &["fsync", "replicated"]),
    ] {
        assert_eq!(in_bash(&person, line), offered, "{line}");
    }
    let named = in_bash(&nowhere, &format!("tidegate --server {} topic delete pay", node.url()));
    assert_eq!(named, ["payments"], "the line itself names the node");
    let twice = in_bash(&person, "tidegate topic delete orders ");
    assert!(twice.contains(&"payments".to_owned()) && !twice.contains(&"orders".to_owned()), "{twice:?}");
    assert!(!in_bash(&nowhere, "tidegate topic describe ord").contains(&"orders".to_owned()));
}

/// A promise: a real fish completes names of topics and values of configs.
#[test]
fn fish_completes() {
    if !is_here("fish") {
        return;
    }
    let (_data, node) = node();
    let person = Person::new(Some(node.url()));
    let in_fish = |line: &str| {
        let script = format!("tidegate completion fish | source; complete --do-complete '{line}'");
        let text = shell(&person, "fish", &["--no-config", "-c", &script]);
        text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(in_fish("tidegate topic describe ord"), ["orders"]);
    assert_eq!(in_fish("tidegate topic config set orders compression.type=zs"), ["compression.type=zstd"]);
}

/// A promise: a real zsh, told as the help tells it, completes at its very first Tab, and goes on behind a key's `=` without a space.
#[test]
fn zsh_completes() {
    if !is_here("zsh") {
        return;
    }
    let (_data, node) = node();
    let person = Person::new(Some(node.url()));
    // A function in `fpath`, called for the first time as zsh calls it at Tab; what is offered is shown and not drawn.
    let script = r#"
        mkdir -p ~/.zfunc && tidegate completion zsh > ~/.zfunc/_tidegate
        fpath=(~/.zfunc $fpath)
        compdef() { :; }
        _describe() { print -r -- "offered ${(P)3} ${@:4}"; }
        autoload -Uz _tidegate
        words=(tidegate ${=1}) CURRENT=$#words
        _tidegate; true
    "#;
    let offered = |line: &str| shell(&person, "zsh", &["-f", "-c", script, "zsh", line]);
    assert_eq!(offered("topic describe ord").trim(), "offered orders");
    assert_eq!(offered("topic config set orders retention.m").trim(), "offered retention.ms= -S");
    assert_eq!(offered("topic config set orders compression.type=zs").trim(), "offered compression.type=zstd");
}
