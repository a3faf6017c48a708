//! The binary as a node: its banner, its command line against itself, its lock, its stop.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A node as a child process; killed when dropped.
struct Node {
    child: Child,
    url: String,
    /// The banner's three lines to copy.
    curl_lines: Vec<String>,
}

impl Drop for Node {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    // Variables of whoever runs the tests are not theirs to decide with.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

fn serve(data: &Path) -> Node {
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    serve_with(command(&arguments).stderr(Stdio::inherit()))
}

fn serve_with(command: &mut Command) -> Node {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.by_ref().find(|line| line.contains("address")).expect("the banner names the address");
    let url = address.split_whitespace().last().unwrap().to_owned();
    let curl_lines = lines.map(|line| line.trim().to_owned()).skip_while(|line| !line.starts_with("curl")).take(3).collect();
    Node { child, url, curl_lines }
}

fn tidegate(node: &Node, arguments: &[&str]) -> Output {
    command(arguments).env("TIDEGATE_SERVER", &node.url).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn shell(line: &str) -> Value {
    let output = Command::new("bash").args(["-c", line]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{line}: {error}: {}", text(&output.stdout)))
}

fn signal(node: &Node, name: &str) {
    assert!(Command::new("kill").args([name, &node.child.id().to_string()]).status().unwrap().success());
}

/// A promise: the three lines of the banner work as they stand, and again when they are run again.
#[test]
fn the_banner_can_be_copied() {
    let dir = tempfile::tempdir().unwrap();
    let node = serve(&dir.path().join("data"));
    assert_eq!(node.curl_lines.len(), 3, "{:?}", node.curl_lines);
    for round in 0..2 {
        let [topic, produced, fetched] = [0, 1, 2].map(|n| shell(&node.curl_lines[n]));
        assert_eq!(topic["name"], "hello", "{topic}");
        assert_eq!((&produced["results"][0]["offset"], &produced["durability"]), (&round.into(), &"fsync".into()), "{produced}");
        assert_eq!(
            fetched["records"][round],
            serde_json::json!({"partition": 0, "offset": round, "timestamp": fetched["records"][round]["timestamp"],
            "key": "k1", "value": {"hello": "world"}})
        );
    }
}

/// A promise: the command line makes, shows, lists and deletes topics; deleting needs a word more; each failure has its code.
#[test]
fn topics_by_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let node = serve(dir.path());
    let code = |arguments: &[&str]| tidegate(&node, arguments).status.code().unwrap();
    assert_eq!(code(&["topic", "create", "flights", "-p", "3", "-c", "retention.ms=-1"]), 0);
    assert_eq!(code(&["topic", "create", "flights"]), 1);
    assert_eq!(code(&["topic", "create", "flights", "-p", "3", "--if-not-exists"]), 0);
    assert_eq!(code(&["topic", "describe", "nothing"]), 3);
    assert_eq!(code(&["topic", "create", "bad/name"]), 2);

    let described: Value = serde_json::from_slice(&tidegate(&node, &["topic", "describe", "flights", "-o", "json"]).stdout).unwrap();
    assert_eq!((described["partitions"].as_array().unwrap().len(), &described["config"]["retention.ms"]["source"]), (3, &"topic".into()));
    let table = text(&tidegate(&node, &["topic", "describe", "flights"]).stdout);
    assert!(table.contains("retention.ms") && !table.contains("segment.bytes"), "{table}");
    let listed = text(&tidegate(&node, &["topic", "list", "fl*"]).stdout);
    assert!(listed.contains("flights"), "{listed}");

    let plan = tidegate(&node, &["topic", "delete", "flights"]);
    assert_eq!(plan.status.code(), Some(1));
    assert!(text(&plan.stdout).contains("topic flights would be deleted") && text(&plan.stderr).contains("--yes"));
    assert_eq!(code(&["topic", "delete", "flights", "no-such-topic", "--yes"]), 3);
    assert_eq!(code(&["topic", "describe", "flights"]), 0, "nothing is deleted if one of the names is wrong");
    assert_eq!(code(&["topic", "delete", "flights", "--yes"]), 0);
    assert_eq!(code(&["topic", "describe", "flights"]), 3);
}

/// A promise: a second node on the same directory refuses to start, in one line and with code 1; the first goes on.
#[test]
fn a_directory_has_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = serve(dir.path());
    let second = command(&["serve", "--listen", "127.0.0.1:0", "--log-level", "error", "--data-dir", dir.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    assert!(
        said.lines().count() == 1 && said.contains("another process has it open") && said.contains(dir.path().to_str().unwrap()),
        "{said}"
    );
    assert_eq!(tidegate(&node, &["topic", "list"]).status.code(), Some(0));
}

/// A promise: a node that cannot start says what cannot be used and what to do; one whose directory is taken never says that it listens.
#[test]
fn what_cannot_be_used_is_named() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = serve(dir.path());
    let start = |data: &str, listen: &str| {
        let second = command(&["serve", "--listen", listen, "--data-dir", data]).output().unwrap();
        assert_eq!((second.status.code(), second.stdout.len()), (Some(1), 0));
        text(&second.stderr)
    };
    let taken = node.url.trim_start_matches("http://");
    let said = start(other.path().to_str().unwrap(), taken);
    assert!(said.contains("cannot listen on") && said.contains("choose another port with --listen"), "{said}");
    let said = start(dir.path().to_str().unwrap(), "127.0.0.1:0");
    assert!(said.contains("another process has it open") && !said.contains("listening"), "{said}");
    let said = start("/proc/x", "127.0.0.1:0");
    assert!(said.contains("the data directory /proc/x (--data-dir) cannot be used"), "{said}");
}

/// A promise: SIGTERM ends the node with code 0; a call that waits for records is answered first; what was acknowledged is whole on disk.
#[test]
fn sigterm_answers_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = serve(dir.path());
    for line in &node.curl_lines[..2] {
        shell(line);
    }
    let authority = node.url.strip_prefix("http://").unwrap();
    let mut waiting = TcpStream::connect(authority).unwrap();
    let request = format!("GET /v1/topics/hello/partitions/0/records?offset=1&max_wait_ms=50000 HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    waiting.write_all(request.as_bytes()).unwrap();
    // Whether the node has taken the request up by now or finds it while it stops: it must be answered.
    signal(&node, "-TERM");
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(node.child.wait().unwrap().success());
    let (_, answer) = answer.split_once("\r\n\r\n").expect("a whole answer");
    let answer: Value = serde_json::from_str(answer).unwrap();
    assert!(answer["next_offset"] == 1 || answer["code"] == "draining", "{answer}");

    let verified = command(&["log", "verify", dir.path().to_str().unwrap(), "-o", "json"]).output().unwrap();
    let partitions: Value = serde_json::from_slice(&verified.stdout).unwrap();
    let hello = partitions.as_array().unwrap().iter().find(|p| p["partition"] == "hello-0").unwrap();
    assert_eq!((&hello["records"], &hello["findings"]), (&1.into(), &serde_json::json!([])));
    let dumped = command(&["log", "dump", dir.path().join("hello-0").to_str().unwrap(), "--records"]).output().unwrap();
    assert!(text(&dumped.stdout).contains(r#"value "{\"hello\":\"world\"}""#), "{}", text(&dumped.stdout));
}

/// A promise: a second signal ends a node at once that the first one has left waiting for a request.
#[test]
fn the_second_signal_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", dir.path().to_str().unwrap()];
    let mut node = serve_with(command(&arguments).stderr(Stdio::piped()));
    let mut log = BufReader::new(node.child.stderr.take().unwrap()).lines().map_while(Result::ok);
    shell(&node.curl_lines[0]);
    let mut half = TcpStream::connect(node.url.strip_prefix("http://").unwrap()).unwrap();
    // The body never comes, so that the node waits for it; "100 Continue" says that it has begun to.
    half.write_all(b"POST /v1/topics/hello/records HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n").unwrap();
    half.read_exact(&mut [0; 21]).unwrap();
    signal(&node, "-TERM");
    assert!(log.any(|line| line.contains("another signal stops it at once")));
    signal(&node, "-TERM");
    assert_eq!(node.child.wait().unwrap().code(), Some(130));
}
