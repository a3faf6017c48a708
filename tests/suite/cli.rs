//! The command line as people and scripts meet it: what is on the screen, word for word, and the exit code.
//!
//! `cli/*.txt` are transcripts: a line `$ tidegate …` is run against a live node, what follows is what it prints: standard output as it is,
//! standard error behind `!`, and the exit code in brackets unless it is 0. Ids, addresses and paths are masked (`DATA` is the node's data
//! directory), in `measures.txt` numbers too. `UPDATE=1` writes them anew. [`coverage`] says which verbs have to be in them.

mod completion;
mod coverage;
mod others;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tidegate_client::{Client, NewRecord, NewTopic, ProduceOptions};
use tidegate_tests::oracle::root;
use tidegate_tests::process::{Process, binary};

/// A person with a home of their own and nothing in the environment.
struct Person {
    home: TempDir,
    server: Option<String>,
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Person {
    fn new(server: Option<String>) -> Self {
        Self { home: tempfile::tempdir().unwrap(), server }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
            command.env_remove(name);
        }
        command.env("HOME", self.home.path()).env_remove("XDG_CONFIG_HOME").env_remove("NO_COLOR").stdin(Stdio::null());
        if let Some(server) = &self.server {
            command.env("TIDEGATE_SERVER", server);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(&binary().unwrap()).args(arguments).output().unwrap();
        let ran = Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("backtrace"), "{arguments:?}: {}", ran.stderr);
        assert!(!ran.stdout.contains('\x1b') && !ran.stderr.contains('\x1b'), "no colours but on a terminal: {arguments:?}");
        ran
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {} {}", ran.stdout, ran.stderr))
    }

    fn contexts(&self) -> PathBuf {
        self.home.path().join(".config/tidegate/contexts.toml")
    }
}

/// A node with two topics, one with records whose times are known.
fn node() -> (TempDir, Process) {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::new(&node.url()).unwrap();
        let two = NewTopic { partitions: Some(2), ..NewTopic::default() };
        client.create_topic("orders", &two).await.unwrap();
        client.create_topic("payments", &NewTopic::default()).await.unwrap();
        let records: Vec<_> = (0..5).map(|n| NewRecord::text(format!("order {n}")).timestamp(1_700_000_000_000 + n * 1000)).collect();
        client.produce_to("orders", 0, &records, &ProduceOptions::default()).await.unwrap();
    });
    (data, node)
}

/// Words of a line as a shell would split it, with '…' around what has spaces.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (place, part) in line.split('\'').enumerate() {
        if place % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Replaces what differs from run to run.
fn masked(text: &str) -> String {
    let is_id = |word: &str| {
        word.len() == 36
            && word.bytes().enumerate().all(|(n, b)| if [8, 13, 18, 23].contains(&n) { b == b'-' } else { b.is_ascii_hexdigit() })
    };
    let mut masked = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        if rest.get(..36).is_some_and(is_id) {
            masked.push_str("00000000-0000-0000-0000-000000000000");
            rest = &rest[36..];
            continue;
        }
        let next = rest.chars().next().unwrap();
        masked.push(next);
        rest = &rest[next.len_utf8()..];
    }
    // Its number says how much has been agreed on before, which is not this suite's business.
    for before in ["metadata version ", "\"metadata_version\": ", "metadata_version: "] {
        let mut parts = masked.split(before).map(str::to_owned).collect::<Vec<_>>();
        for part in parts.iter_mut().skip(1) {
            *part = format!("N{}", part.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
        masked = parts.join(before);
    }
    masked
}

/// Where a transcript happens: whoever runs it, and words that stand for what differs from run to run.
struct Scene<'p> {
    person: &'p Person,
    /// The word in the transcript, and what it stands for.
    names: Vec<(&'static str, String)>,
    /// Whether numbers differ, too.
    measures: bool,
}

impl Scene<'_> {
    /// Runs a transcript's lines and writes what comes of them.
    fn replay(&self, script: &str) -> String {
        let mut text = String::new();
        for line in script.lines().filter(|line| line.starts_with("$ ") || line.starts_with('#')) {
            text.push_str(line);
            text.push('\n');
            let Some(arguments) = line.strip_prefix("$ tidegate") else { continue };
            let real = |word: String| self.names.iter().fold(word, |word, (name, real)| word.replace(name, real));
            let arguments: Vec<String> = words(arguments).into_iter().map(real).collect();
            let ran = self.person.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            let mut said = ran.stdout;
            for line in ran.stderr.lines() {
                writeln!(said, "{}", format!("! {line}").trim_end()).unwrap();
            }
            if ran.code != Some(0) {
                writeln!(said, "[{}]", ran.code.map_or_else(|| "signal".to_owned(), |code| code.to_string())).unwrap();
            }
            let said = self.names.iter().fold(said, |said, (name, real)| said.replace(real, name));
            text.push_str(&if self.measures { without_numbers(&said) } else { masked(&said) });
            text.push('\n');
        }
        text
    }

    /// Compares a transcript with what happens now.
    fn check(&self, name: &str) {
        let path = root().join("tests/suite/cli").join(name);
        let recorded = std::fs::read_to_string(&path).unwrap();
        let now = self.replay(&recorded);
        if std::env::var_os("UPDATE").is_some() {
            return std::fs::write(&path, &now).unwrap();
        }
        for (number, (was, is)) in recorded.lines().zip(now.lines()).enumerate() {
            assert_eq!(is, was, "{name}, line {}\n{now}", number + 1);
        }
        assert!(recorded == now, "{name}\n{now}");
    }
}

/// The text with `N` for every number and its unit, `H` for what is long and hexadecimal, and one space for several.
fn without_numbers(text: &str) -> String {
    let token = |token: &str| match token {
        digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => "N".to_owned(),
        hex if hex.len() >= 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => "H".to_owned(),
        other => other.to_owned(),
    };
    let word = |word: &str| {
        let mut masked = String::new();
        let mut rest = word;
        while let Some(first) = rest.chars().next() {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len()).max(first.len_utf8());
            masked.push_str(&token(&rest[..end]));
            rest = &rest[end..];
        }
        while masked.contains("N.N") || masked.contains("N,N") {
            masked = masked.replace("N.N", "N").replace("N,N", "N");
        }
        // The name of a bench's own topic is hexadecimal, also where all its digits are decimal.
        masked.replace("bench-N", "bench-H")
    };
    let mut out = String::new();
    for line in text.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let mut words: Vec<String> = Vec::new();
        for part in line.split_whitespace() {
            let is_unit = matches!(part.trim_end_matches(','), "B" | "KiB" | "MiB" | "GiB" | "ns" | "µs" | "us" | "ms" | "s");
            if !(is_unit && words.last().is_some_and(|last| last == "N")) {
                words.push(word(part));
            }
        }
        out.push_str(&format!("{indent}{}\n", words.join(" ")));
    }
    out
}

/// Compares a transcript with what happens now, beside a node of its own.
fn check(name: &str) {
    let (data, node) = node();
    let person = Person::new(Some(node.url()));
    let names = vec![
        ("127.0.0.1:8080", node.address().to_string()),
        ("DATA", data.path().to_str().unwrap().to_owned()),
        ("~", person.home.path().to_str().unwrap().to_owned()),
    ];
    Scene { person: &person, names, measures: name == "measures.txt" }.check(name);
}

/// A promise: topics can be looked at and changed by verbs, what loses records waits for a --yes, and each format is what it is called.
#[test]
fn topics() {
    check("topics.txt");
}

/// A promise: the cluster, contexts and every config can be looked at.
#[test]
fn cluster_and_contexts() {
    check("cluster.txt");
}

/// A promise: a mistake is named, with what was probably meant, and its kind is the exit code.
#[test]
fn mistakes() {
    check("mistakes.txt");
}

/// A promise: what lies on disk and what a node is told can be looked at, in each format.
#[test]
fn files() {
    check("files.txt");
}

/// A promise: what measures says what it has measured, in words and for programs; a healthy node is told so.
#[test]
fn measures() {
    // A node's limit of open files is one of the doctor's checks, and this machine's is not this suite's business.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most).unwrap();
    check("measures.txt");
}

/// A promise: every verb says in a few lines what it does, with an example.
#[test]
fn help() {
    check("help.txt");
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A promise: where no node answers, the code is 5, and the words say who chose the address and what to do.
#[test]
fn no_server() {
    let person = Person::new(Some(nobody()));
    for verb in [&["topic", "list"][..], &["topic", "delete", "x", "--yes"], &["cluster", "status"], &["cluster", "health"]] {
        let ran = person.run(verb);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(5), ""), "{verb:?}");
        assert!(ran.stderr.contains("no server answers at") && ran.stderr.contains("TIDEGATE_SERVER"), "{}", ran.stderr);
        let ran = person.run(&[verb, &["-o", "json"]].concat());
        let problem: Value = serde_json::from_str(&ran.stderr).unwrap();
        assert_eq!((&problem["code"], &problem["side_effects"]), (&"unreachable".into(), &"none".into()));
    }
    let ran = person.run(&["doctor"]);
    assert_eq!(ran.code, Some(6));
    assert!(ran.stdout.contains("start the node"), "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("needs a node that answers").count(), 4, "{}", ran.stdout);
    let ran = person.run(&["cluster", "health", "--exit-when-healthy", "--timeout", "300ms", "--interval", "50ms"]);
    assert_eq!(ran.code, Some(5));
    assert!(ran.stdout.contains("no server answers") && ran.stderr.contains("not healthy within 0.3 s"), "{} {}", ran.stdout, ran.stderr);
}

/// A promise: a reader that has gone is no error, whatever the format.
#[test]
fn a_broken_pipe_is_silent() {
    let (_data, node) = node();
    let person = Person::new(Some(node.url()));
    for arguments in [&["topic", "list"][..], &["topic", "list", "-o", "name"], &["config", "options", "-o", "yaml"], &["--help"], &["man"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = person
            .command(&binary().unwrap())
            .args(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""), "{arguments:?}");
    }
}

/// A promise: Ctrl-C ends what would go on for ever with 130, without a word.
#[test]
fn an_interrupt_is_silent() {
    let (_data, node) = node();
    let person = Person::new(Some(node.url()));
    let mut command = person.command(&binary().unwrap());
    command.args(["cluster", "health", "-w", "--interval", "20ms"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().ends_with("healthy"));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(lines.all(|line| line.unwrap().ends_with("healthy")), "whole lines up to the end");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(130), ""));
}

/// A promise: a node that goes away while it is watched is news, not the end.
#[test]
fn watching_outlives_the_node() {
    let (_data, node) = node();
    let person = Person::new(Some(node.url()));
    let mut command = person.command(&binary().unwrap());
    command.args(["cluster", "health", "-w", "--interval", "20ms", "-o", "ndjson"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert_eq!(lines.next().unwrap()["healthy"], true);
    node.kill().unwrap();
    let sick = lines.find(|health| health["healthy"] == false).unwrap();
    assert_eq!(sick["problems"][0]["code"], "no-answer");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A promise: a context stands in for an address until something louder is said; its file is its owner's, and what it does not understand is refused.
#[test]
fn contexts_stand_in_for_addresses() {
    let (_data, node) = node();
    let person = Person::new(None);
    assert_eq!(person.run(&["context", "add", "here", &node.url()]).code, Some(0));
    assert_eq!(person.run(&["context", "add", "nowhere", &nobody()]).code, Some(0));
    let mode = std::fs::metadata(person.contexts()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    assert_eq!(person.run(&["topic", "list", "-o", "name"]).stdout, "orders\npayments\n");
    assert_eq!(person.run(&["topic", "list", "--context", "nowhere"]).code, Some(5));
    assert_eq!(person.run(&["context", "use", "nowhere"]).code, Some(0));
    assert_eq!(person.run(&["topic", "list"]).code, Some(5));
    assert_eq!(person.run(&["topic", "list", "--server", &node.url()]).code, Some(0), "a flag wins over the current context");
    let ran = person.run(&["topic", "list", "--context", "her"]);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("did you mean 'here'?"), "{}", ran.stderr);
    let left = person.contexts().parent().unwrap().read_dir().unwrap().count();
    assert_eq!(left, 1, "nothing but the file stays");

    std::fs::write(person.contexts(), "current = \"here\"\nflavour = 1\n").unwrap();
    let ran = person.run(&["topic", "list"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("contexts.toml") && ran.stderr.contains("flavour"), "{}", ran.stderr);
}

/// A promise: the doctor looks at a node, its disk and its configuration, and one bad finding is exit code 6 with what to do.
#[test]
fn the_doctor() {
    let (data, node) = node();
    let person = Person::new(Some(node.url()));
    let verdicts = |checks: &Value| {
        let one = |check: &Value| (check["check"].as_str().unwrap().to_owned(), check["verdict"].as_str().unwrap().to_owned());
        checks.as_array().unwrap().iter().map(one).collect::<std::collections::BTreeMap<_, _>>()
    };
    let found = verdicts(&person.json(&["doctor", "--data-dir", data.path().to_str().unwrap()]));
    for check in ["reachable", "ready", "clock", "version", "cluster"] {
        assert_eq!(found[check], "ok", "{found:?}");
    }
    assert!(found.contains_key("disk room") && found.contains_key("sync") && found.contains_key("file handles"), "{found:?}");

    let file = person.home.path().join("node.toml");
    std::fs::write(&file, "num.partition = 3\n").unwrap();
    let ran = person.run(&["doctor", "--config", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(6));
    assert!(ran.stdout.contains("did you mean 'num.partitions'?"), "{}", ran.stdout);
}

/// A promise: the manual has a page for every verb.
#[test]
fn manual() {
    let person = Person::new(None);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(person.run(&["man", "--dir", dir.path().to_str().unwrap()]).code, Some(0));
    for page in ["tidegate.1", "tidegate-topic-config-set.1", "tidegate-cluster-health.1"] {
        assert!(std::fs::read_to_string(dir.path().join(page)).unwrap().contains(".SH"), "{page}");
    }
    assert!(person.run(&["man"]).stdout.contains(".TH tidegate"));
    assert!(person.run(&["man", "topic", "create"]).stdout.contains(".TH tidegate-topic-create"));
    let ran = person.run(&["man", "topic", "creat"]);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("did you mean 'create'?"), "{}", ran.stderr);
    assert_eq!(person.run(&["man", "--dir", "/nowhere/at/all"]).code, Some(1));
}

/// A promise: `help` and `version` as verbs say what the flags say.
#[test]
fn words_for_flags() {
    let person = Person::new(None);
    for (verb, flag) in
        [(&["help"][..], &["--help"][..]), (&["help", "topic", "create"], &["topic", "create", "--help"]), (&["version"], &["--version"])]
    {
        let (word, flag) = (person.run(verb), person.run(flag));
        assert_eq!((word.code, &word.stdout), (Some(0), &flag.stdout), "{verb:?}");
    }
    let ran = person.run(&["help", "topic", "lst"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("'list'"), "{}", ran.stderr);
}

/// A promise: what could not be written is no success: a full disk is told, for help and version too.
#[test]
fn a_full_disk_is_told() {
    let person = Person::new(None);
    for arguments in [&["--help"][..], &["--version"], &["version"], &["topic", "--help"], &["man"], &["config", "options"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = person.command(&binary().unwrap()).args(arguments).stdout(full).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {words}");
        assert!(words.contains("No space left"), "{arguments:?}: {words}");
    }
}

/// A promise: an empty variable is none.
#[test]
fn empty_variables_are_none() {
    let person = Person::new(None);
    let mut command = person.command(&binary().unwrap());
    for name in ["TIDEGATE_OUTPUT", "TIDEGATE_SERVER", "TIDEGATE_CONTEXT", "TIDEGATE_CONFIG"] {
        command.env(name, "");
    }
    for arguments in [&["context", "current"][..], &["config", "check"]] {
        let output =
            person.command(&binary().unwrap()).envs(command.get_envs().filter_map(|(k, v)| Some((k, v?)))).args(arguments).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A promise: with --quiet a node says nothing on standard output.
#[test]
fn a_quiet_node_does_not_greet() {
    let data = tempfile::tempdir().unwrap();
    let person = Person::new(None);
    let mut command = person.command(&binary().unwrap());
    command.args(["-q", "serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = log.find(|line| line.contains("address=")).unwrap();
    let address = line.split("address=").nth(1).unwrap().split(' ').next().unwrap();
    let waiting = person.run(&["cluster", "health", "--exit-when-healthy", "--timeout", "30s", "--server", &format!("http://{address}")]);
    assert_eq!(waiting.code, Some(0), "{}", waiting.stderr);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stdout).unwrap().as_str()), (Some(0), ""), "{}", log.collect::<String>());
}
