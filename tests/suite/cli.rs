//! The command line as people and scripts meet it: what is on the screen, word for word, and the exit code.
//!
//! `cli/*.txt` are transcripts: a line `$ tidegate …` is run against a live node, what follows is what it prints: standard output as it is,
//! standard error behind `!`, and the exit code in brackets unless it is 0. Ids, addresses and times are masked. `UPDATE=1` writes them anew.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
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
fn masked(text: &str, node: &Process, home: &Path) -> String {
    let text = text.replace(&node.address().to_string(), "127.0.0.1:8080").replace(home.to_str().unwrap(), "~");
    let is_id = |word: &str| {
        word.len() == 36
            && word.bytes().enumerate().all(|(n, b)| if [8, 13, 18, 23].contains(&n) { b == b'-' } else { b.is_ascii_hexdigit() })
    };
    let mut masked = String::new();
    let mut rest = text.as_str();
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

/// Runs a transcript's lines and writes what comes of them.
fn replay(script: &str, node: &Process, person: &Person) -> String {
    let mut text = String::new();
    for line in script.lines().filter(|line| line.starts_with("$ ") || line.starts_with('#')) {
        text.push_str(line);
        text.push('\n');
        let Some(arguments) = line.strip_prefix("$ tidegate") else { continue };
        let arguments = words(arguments);
        let ran = person.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        text.push_str(&ran.stdout);
        for line in ran.stderr.lines() {
            writeln!(text, "{}", format!("! {line}").trim_end()).unwrap();
        }
        if ran.code != Some(0) {
            writeln!(text, "[{}]", ran.code.map_or_else(|| "signal".to_owned(), |code| code.to_string())).unwrap();
        }
        text.push('\n');
    }
    masked(&text, node, person.home.path())
}

/// Compares a transcript with what happens now.
fn check(name: &str) {
    let (_data, node) = node();
    let person = Person::new(Some(node.url()));
    let path = root().join("tests/suite/cli").join(name);
    let recorded = std::fs::read_to_string(&path).unwrap();
    let now = replay(&recorded, &node, &person);
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&path, &now).unwrap();
    }
    for (number, (was, is)) in recorded.lines().zip(now.lines()).enumerate() {
        assert_eq!(is, was, "{name}, line {}\n{now}", number + 1);
    }
    assert!(recorded == now, "{name}\n{now}");
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
    let ran = person.run(&["cluster", "health", "--exit-when-healthy", "--timeout", "300ms", "--interval", "50ms"]);
    assert_eq!(ran.code, Some(5));
    assert!(ran.stdout.contains("no server answers") && ran.stderr.contains("not healthy within 0.3 s"), "{} {}", ran.stdout, ran.stderr);
}

/// A server of another kind: whatever is asked, it answers a page, as long as its listener lives.
fn web_server(status: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    // The thread ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            let page = "<html>hello</html>";
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", page.len());
            stream.write_all(format!("{head}{page}").as_bytes()).unwrap();
        }
    });
    address
}

/// A promise: a server that is no node is called so; its 404 is not mistaken for a topic that is missing.
#[test]
fn wrong_server() {
    for status in ["200 OK", "404 Not Found"] {
        let person = Person::new(Some(web_server(status)));
        let ran = person.run(&["topic", "describe", "orders"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
        assert!(ran.stderr.contains("is it a Tidegate node that listens there"), "{}", ran.stderr);
        let ran = person.run(&["doctor"]);
        assert_eq!(ran.code, Some(6));
        assert!(ran.stdout.contains("it is no Tidegate node that listens at"), "{}", ran.stdout);
    }
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

/// A promise: a real bash completes verbs, and names of topics by asking the node; without a node it is quick about having none.
#[test]
fn bash_completes_topics() {
    let (_data, node) = node();
    let person = Person::new(Some(node.url()));
    let complete = |person: &Person, line: &[&str]| {
        let quoted = line.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        // What bash does at Tab, but for drawing the line.
        let script = format!(
            "source <(tidegate completion bash) && COMP_WORDS=({quoted}) COMP_CWORD={} COMP_TYPE=9 && \
             _clap_complete_tidegate tidegate '{}' '' && printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            line.len() - 1,
            line[line.len() - 1]
        );
        let folder = binary().unwrap().parent().unwrap().to_owned();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let output = person.command(Path::new("bash")).args(["-c", &script]).env("PATH", path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&person, &["tidegate", "topic", "describe", "ord"]), ["orders"]);
    assert_eq!(complete(&person, &["tidegate", "topic", "des"]), ["describe"]);
    assert_eq!(complete(&person, &["tidegate", "topic", "config", "get", "orders", "retention."]), ["retention.bytes", "retention.ms"]);
    let nowhere = Person::new(Some(nobody()));
    let url = node.url();
    assert_eq!(
        complete(&nowhere, &["tidegate", "--server", &url, "topic", "delete", "pay"]),
        ["payments"],
        "the line itself names the node"
    );
    assert!(!complete(&nowhere, &["tidegate", "topic", "describe", "ord"]).contains(&"orders".to_owned()));
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
    assert_eq!(person.run(&["man", "--dir", "/nowhere/at/all"]).code, Some(1));
}
