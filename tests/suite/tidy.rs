//! The rules of the house that a compiler does not keep: which floor may use which, who may touch files and clocks, how large things may grow.
//!
//! Every rule is a function from sources to complaints, tried on made-up sources first, so that it is known to be able to fail.
//! `UPDATE=1` writes `ratchet.txt` anew; what grew is then seen in the difference.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::Code;

/// Which of our crates each may use: arrows go down only.
const ARROWS: [(&str, &[&str]); 7] = [
    ("types", &[]),
    ("storage", &["types"]),
    ("cluster", &["storage", "types"]),
    ("api", &["cluster", "types"]),
    ("client", &["types"]),
    ("server", &["api", "cluster", "storage", "client", "types"]),
    ("tests", &["server", "api", "cluster", "storage", "client", "types"]),
];

/// What a floor must not know.
const UNKNOWN_TO: [(&str, &[&str]); 5] = [
    ("types", &["tokio", "axum", "hyper", "rocksdb", "openraft", "serde_json"]),
    ("storage", &["tokio", "axum", "hyper", "openraft", "reqwest"]),
    ("cluster", &["axum", "hyper", "rocksdb", "reqwest", "utoipa"]),
    ("api", &["rocksdb", "openraft"]),
    ("client", &["axum", "rocksdb", "openraft"]),
];

/// Words that only some places may use (prefixes of paths), and why.
const WORDS: [(&str, &[&str], &str); 8] = [
    (
        "fs",
        &[
            "storage/src/io.rs",
            "storage/src/io/",
            "server/src/config.rs",
            "server/src/cli/signals.rs",
            "server/src/cli/record/feed.rs",
            "server/src/cli/bench/file.rs",
            "tests/",
        ],
        "files are touched through the io seam",
    ),
    ("OpenOptions", &["storage/src/io.rs", "storage/src/io/", "tests/"], "files are touched through the io seam"),
    ("SystemTime::now", &["types/src/time.rs"], "time enters as an argument"),
    ("StatusCode", &["api/", "client/", "tests/"], "the floors below know no HTTP"),
    ("debug_assert!", &[], "there is one profile, and it would never run"),
    ("debug_assert_eq!", &[], "there is one profile, and it would never run"),
    ("debug_assert_ne!", &[], "there is one profile, and it would never run"),
    ("todo!", &[], "what is not there is not committed"),
];

/// Above these a file or function must be in the ratchet.
const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust source of the workspace by its path from the root, with forward slashes.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = ARROWS.iter().map(|(name, _)| root().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with("fuzz") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn manifest(name: &str) -> toml::Table {
    fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap().parse().unwrap()
}

fn arrow_complaints(name: &str, manifest: &toml::Table) -> Vec<String> {
    let allowed = ARROWS.iter().find(|(crate_name, _)| *crate_name == name).map_or(&[][..], |(_, allowed)| allowed);
    let unknown = UNKNOWN_TO.iter().find(|(crate_name, _)| *crate_name == name).map_or(&[][..], |(_, unknown)| unknown);
    let table = |key| manifest.get(key).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
    let used = table("dependencies").chain(table("dev-dependencies")).chain(table("build-dependencies"));
    used.filter_map(|dependency| match dependency.strip_prefix("tidegate-") {
        Some(ours) if ours != name && !allowed.contains(&ours) => Some(format!("{name} uses {ours}: arrows go down only")),
        None if unknown.contains(&dependency.as_str()) => Some(format!("{name} must not know {dependency}")),
        _ => None,
    })
    .collect()
}

fn word_complaints(path: &str, text: &str) -> Vec<String> {
    let is_test = path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/");
    // The system calls of `rustix::fs` work on handles that somebody has opened; who may do that, the crates' dependencies say.
    let text = text.replace("rustix::fs", "rustix");
    let (whole, product) = (Code::of(&text), Code::of(&text).without_tests());
    let in_place = |allowed: &[&str]| allowed.iter().any(|prefix| path.starts_with(prefix));
    let found = |word: &str| if word.ends_with('!') { whole.mentions(word) } else { !is_test && product.mentions(word) };
    let bad = WORDS.iter().filter(|(word, allowed, _)| !in_place(allowed) && found(word));
    bad.map(|(word, _, why)| format!("{path} uses `{word}`: {why}")).collect()
}

/// A chapter says its subject first; a file of unit tests belongs to the chapter beside it.
fn opening_complaints(path: &str, text: &str) -> Option<String> {
    (!text.starts_with("//!") && !path.ends_with("/tests.rs")).then(|| format!("{path} does not open with `//!`"))
}

/// The files that a compiler starts at.
fn is_crate_root(path: &str) -> bool {
    let inner = path.split_once('/').map_or(path, |(_, inner)| inner);
    let folder = inner.rsplit_once('/').map_or("", |(folder, _)| folder);
    if folder.strip_prefix("src/bin/").is_some_and(|name| !name.contains('/')) && inner.ends_with("/main.rs") {
        return true;
    }
    matches!(inner, "src/lib.rs" | "src/main.rs" | "build.rs")
        || inner == "suite/main.rs"
        || ["src/bin", "tests", "examples", "benches"].contains(&folder)
}

fn unreachable_complaints(sources: &BTreeMap<String, String>) -> Vec<String> {
    let mut reached: BTreeSet<String> = sources.keys().filter(|path| is_crate_root(path)).cloned().collect();
    let mut open: Vec<String> = reached.iter().cloned().collect();
    while let Some(path) = open.pop() {
        let folder = match path.strip_suffix(".rs").unwrap() {
            _ if is_crate_root(&path) || path.ends_with("/mod.rs") => path.rsplit_once('/').unwrap().0,
            stem => stem,
        };
        for module in Code::of(&sources[&path]).modules() {
            for file in [format!("{folder}/{module}.rs"), format!("{folder}/{module}/mod.rs")] {
                if sources.contains_key(&file) && reached.insert(file.clone()) {
                    open.push(file);
                }
            }
        }
    }
    sources.keys().filter(|path| !reached.contains(*path)).map(|path| format!("{path} belongs to no crate")).collect()
}

/// What is larger than the bounds, with its lines.
fn large(sources: &BTreeMap<String, String>) -> BTreeMap<String, usize> {
    let mut large = BTreeMap::new();
    for (path, text) in sources {
        let lines = text.lines().count();
        if lines > FILE_LINES {
            large.insert(path.clone(), lines);
        }
        for function in Code::of(text).functions().into_iter().filter(|f| f.lines > FUNCTION_LINES) {
            let known = large.entry(format!("{path} {}", function.name)).or_default();
            *known = function.lines.max(*known);
        }
    }
    large
}

fn ratchet_complaints(recorded: &str, large: &BTreeMap<String, usize>) -> Vec<String> {
    let recorded: BTreeMap<&str, usize> = recorded
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(lines, what)| (what, lines.parse().unwrap()))
        .collect();
    let grown = large.iter().filter_map(|(what, lines)| match recorded.get(what.as_str()) {
        Some(limit) if lines <= limit => None,
        Some(limit) => Some(format!("{what} grew from {limit} to {lines} lines")),
        None => Some(format!("{what} has {lines} lines and is not in the ratchet")),
    });
    let gone =
        recorded.keys().filter(|what| !large.contains_key(**what)).map(|what| format!("{what} is in the ratchet and no longer large"));
    grown.chain(gone).collect()
}

/// Links lead somewhere, and a link named for a type or function leads to the file that declares it.
fn link_complaints(text: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let links = text.split("](").skip(1).zip(text.split("](")).filter_map(|(after, before)| {
        let target = after.split_once(')')?.0;
        let name = before.rsplit_once('[')?.1;
        (!target.contains("://") && !target.starts_with('#')).then_some((name, target))
    });
    links
        .filter_map(|(name, target)| {
            let Some(content) = read(target) else {
                return Some(format!("[{name}] leads to {target}, which is not there"));
            };
            let declared = name
                .strip_prefix('`')
                .and_then(|n| n.strip_suffix('`'))
                .filter(|n| n.chars().all(|c| c.is_alphanumeric() || "_:".contains(c)));
            let last = declared?.rsplit("::").next()?;
            (target.ends_with(".rs") && !Code::of(&content).declares(last)).then(|| format!("{target} declares no `{last}`"))
        })
        .collect()
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// A promise: arrows between floors go down only, and a floor does not know what is none of its business.
#[test]
fn arrows_go_down() {
    let upward = "[dependencies]\ntidegate-api.workspace = true\nrocksdb = \"1\"\n[dev-dependencies]\naxum = \"1\"".parse().unwrap();
    assert_eq!(arrow_complaints("cluster", &upward).len(), 3, "the rule can fail");
    let complaints: Vec<_> = ARROWS.iter().flat_map(|(name, _)| arrow_complaints(name, &manifest(name))).collect();
    assert_none(&complaints);
}

/// A promise: files, the wall clock and status codes are touched where they belong, and nothing that never runs is written.
#[test]
fn words_stay_in_their_places() {
    let bad = "use std::{fs, io};\nfn f() { SystemTime::now(); StatusCode::OK; debug_assert!(true); debug_assert_eq!(1, 1); debug_assert_ne!(1, 2); OpenOptions::new(); todo!() }";
    assert_eq!(word_complaints("cluster/src/x.rs", bad).len(), WORDS.len(), "each rule can fail");
    assert_eq!(word_complaints("tests/suite/x.rs", bad).len(), 4, "tests may do more, but not everything");
    let complaints: Vec<_> = sources().iter().flat_map(|(path, text)| word_complaints(path, text)).collect();
    assert_none(&complaints);
}

/// A promise: every file says its subject first, and none is forgotten by the compiler.
#[test]
fn files_have_a_subject_and_a_home() {
    assert!(opening_complaints("a/src/b.rs", "use x;").is_some(), "the rule can fail");
    let made_up = [("a/src/lib.rs", "mod b; // mod c;"), ("a/src/b.rs", "mod d;"), ("a/src/b/d.rs", ""), ("a/src/c.rs", "")];
    let made_up = made_up.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    assert_eq!(unreachable_complaints(&made_up), ["a/src/c.rs belongs to no crate"], "the rule can fail");
    let sources = sources();
    let mut complaints: Vec<_> = sources.iter().filter_map(|(path, text)| opening_complaints(path, text)).collect();
    complaints.extend(unreachable_complaints(&sources));
    assert_none(&complaints);
}

/// A promise: what is large does not grow, and nothing becomes large unnoticed.
#[test]
fn nothing_large_grows() {
    let made_up = BTreeMap::from([("a/src/lib.rs".to_owned(), format!("//! x\nfn f() {{\n{}}}", "g();\n".repeat(FILE_LINES)))]);
    let found = large(&made_up);
    assert_eq!(found.len(), 2, "a file and a function");
    assert_eq!(ratchet_complaints("400 a/src/lib.rs\n500 a/src/lib.rs f\n9 gone", &found).len(), 2, "grown and gone; f has its place");
    let found = large(&sources());
    let list = root().join("tests/suite/ratchet.txt");
    if std::env::var_os("UPDATE").is_some() {
        let lines: String = found.iter().map(|(what, lines)| format!("{lines} {what}\n")).collect();
        fs::write(
            &list,
            format!(
                "# Files of more than {FILE_LINES} lines and functions of more than {FUNCTION_LINES}: they may shrink, not grow.\n{lines}"
            ),
        )
        .unwrap();
    }
    assert_none(&ratchet_complaints(&fs::read_to_string(list).unwrap(), &found));
}

/// A promise: the documents name files and types that exist.
#[test]
fn documents_name_what_exists() {
    let made_up = "see [`A::b`](x.rs), [`c`](x.rs), [gone](y.md), [out](https://example.org)";
    let read = |target: &str| (target == "x.rs").then(|| "fn b() {}".to_owned());
    assert_eq!(link_complaints(made_up, read), ["x.rs declares no `c`", "[gone] leads to y.md, which is not there"], "the rule can fail");
    let mut complaints = Vec::new();
    let mut documents =
        vec!["README.md".to_owned(), "README.zh-CN.md".to_owned(), "web-console/README.md".into(), "openapi/README.md".into()];
    for folder in ["docs", "docs/guide"] {
        let files = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        documents.extend(files.filter(|name| name.ends_with(".md")).map(|name| format!("{folder}/{name}")));
    }
    for document in documents {
        let path = root().join(&document);
        let read = |target: &str| {
            let target = path.parent().unwrap().join(target.split('#').next().unwrap());
            if target.is_dir() { Some(String::new()) } else { fs::read_to_string(target).ok() }
        };
        complaints.extend(link_complaints(&fs::read_to_string(&path).unwrap(), read).into_iter().map(|c| format!("{document}: {c}")));
    }
    assert_none(&complaints);
}
