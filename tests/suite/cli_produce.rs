//! `produce` when something goes wrong: output that nobody reads or nobody can write, signals, answers that make no sense, a node that is away, a bad
//! network. The account is exact and the exit code agrees with it, whatever happens.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tidegate_client::Until;
use tidegate_tests::proxy::{Faults, Proxy};

use crate::cli_records::{Ran, Site, end};

/// The number that stands before `word` in an account.
fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split(word).next().filter(|before| before.len() < text.len()).unwrap_or_else(|| panic!("no '{word}' in: {text}"));
    let digits: String = before.chars().rev().take_while(|c| c.is_ascii_digit() || *c == ',').filter(char::is_ascii_digit).collect();
    digits.chars().rev().collect::<String>().parse().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// How often each text is in the topic.
async fn copies(site: &Site, topic: &str) -> HashMap<String, u64> {
    let mut consumer = site.client.consumer().topic(topic).until(Until::Latest).build().await.unwrap();
    let mut copies = HashMap::new();
    while let Some(batch) = consumer.next().await.unwrap() {
        for record in batch.iter() {
            *copies.entry(String::from_utf8(record.value.unwrap().to_vec()).unwrap()).or_default() += 1;
        }
    }
    copies
}

fn lines(count: u64) -> Vec<u8> {
    (1..=count).map(|n| format!("{n}\n")).collect::<String>().into_bytes()
}

/// A promise: where positions cannot be written, that is an error with the account of what is in; where nobody reads them any more, the records go in all
/// the same, all of them.
#[tokio::test]
async fn positions_that_nobody_gets() {
    const COUNT: u64 = 300_000;
    let site = Site::new();
    site.topic("full", 1).await;
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let run = |topic: &str, flags: &[&str], out: Stdio, read_one: bool| {
        let mut command = site.command(&[&["produce", topic, "-o", "ndjson"][..], flags].concat());
        let mut child = command.stdout(out).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&lines(COUNT))));
        if read_one {
            let mut first = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
            assert!(first.contains("\"offset\":0"), "{first}");
        }
        let ran = end(child);
        writer.join().unwrap();
        ran
    };
    let ran = run("full", &[], full.into(), false)
        .failed(1, &["cannot write", "No space left", " in: all up to line ", "go on with --from-line "]);
    let found = copies(&site, "full").await;
    let told: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(
        (number_before(told["advice"].as_str().unwrap(), " records are in"), &told["side_effects"]),
        (found.len() as u64, &json!("possible"))
    );
    assert!((found.len() as u64) < COUNT && found.values().all(|copies| *copies == 1));

    for (topic, flags) in [("closed", &[][..]), ("quietly-closed", &["-q"])] {
        site.topic(topic, 1).await;
        let ran = run(topic, flags, Stdio::piped(), true).ok();
        assert_eq!(copies(&site, topic).await.len() as u64, COUNT, "{topic}: {}", ran.err);
        assert_eq!(ran.err.contains("nobody reads the positions"), flags.is_empty(), "{}", ran.err);
    }
}

/// A promise: SIGTERM and SIGHUP are answered as Ctrl-C is: what was gathered goes in, the account is given, the exit code names the signal. Somebody who
/// has hang-ups ignored, as `nohup` does, is not ended by one.
#[tokio::test]
async fn other_signals() {
    let site = Site::new();
    for (topic, sent, code, word) in [("term", Signal::TERM, 143, "ended by SIGTERM: "), ("hup", Signal::HUP, 129, "ended by SIGHUP: ")] {
        site.topic(topic, 1).await;
        let produce = site.command(&["produce", topic, "--linger", "1h"]);
        // Whoever runs the tests may have hang-ups ignored.
        let mut listening = std::process::Command::new("env");
        listening.arg("--default-signal=HUP").arg(produce.get_program()).args(produce.get_args());
        let mut child = listening.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // More than a pipe holds: all but its rest has been read then.
        stdin.write_all(&lines(200_000)).unwrap();
        signal(&child, sent);
        let ran = end(child).failed(code, &[word, " are in: all up to line ", "; go on with --from-line "]);
        drop(stdin);
        let found = copies(&site, topic).await.len() as u64;
        assert_eq!((number_before(&ran.err, " records are in"), number_before(&ran.err, "; go on")), (found, found), "{}", ran.err);
        assert!(found > 0 && ran.err.trim_end().ends_with(&format!("--from-line {}", found + 1)), "{}", ran.err);
    }

    site.topic("nohup", 1).await;
    let produce = site.command(&["produce", "nohup", "-o", "ndjson", "--linger", "0ms"]);
    let mut nohup = std::process::Command::new("nohup");
    nohup.arg(produce.get_program()).args(produce.get_args());
    let mut child = nohup.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut positions = BufReader::new(child.stdout.take().unwrap());
    let mut say = |text: &[u8]| {
        stdin.write_all(text).unwrap();
        assert_ne!(positions.read_line(&mut String::new()).unwrap(), 0, "it has ended");
    };
    say(b"before\n");
    signal(&child, Signal::HUP);
    say(b"after\n");
    drop(stdin);
    child.stdout = Some(positions.into_inner());
    end(child).ok();
    assert_eq!(copies(&site, "nohup").await.len(), 2);
}

/// What a made-up node says to each batch, in front of a real one that says all the rest.
#[derive(Clone)]
struct Liar {
    node: String,
    answer: Arc<str>,
}

async fn lie(State(liar): State<Liar>, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    if request.uri().path().ends_with("/batches") {
        return (StatusCode::OK, headers, liar.answer.to_string());
    }
    if request.uri().path() == "/v1/producers" {
        return (StatusCode::CREATED, headers, r#"{"producer_id":1,"epoch":0}"#.to_owned());
    }
    let answer = reqwest::get(format!("{}{}", liar.node, request.uri())).await.unwrap();
    (StatusCode::from_u16(answer.status().as_u16()).unwrap(), headers, answer.text().await.unwrap())
}

/// A promise: an acknowledgement that cannot be true is none: it ends in an error that leaves the records in doubt, never in a panic and never in "all is well".
#[tokio::test]
async fn answers_that_make_no_sense() {
    let site = Site::new();
    site.topic("t", 1).await;
    for answer in [
        r#"{"base_offset":18446744073709551615,"last_offset":18446744073709551615,"durability":"fsync"}"#,
        r#"{"base_offset":0,"last_offset":18446744073709551615,"durability":"fsync"}"#,
        r#"{"base_offset":7,"last_offset":7,"durability":"fsync"}"#,
        r#"{"durability":"fsync"}"#,
        "{}",
        "[",
    ] {
        let liar = Liar { node: site.node.url(), answer: answer.into() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(axum::serve(listener, Router::new().fallback(lie).with_state(liar)).into_future());
        let child = site.command_at(&url, &["produce", "t"]).spawn().unwrap();
        let ran = tokio::task::spawn_blocking(move || {
            let mut child = child;
            child.stdin.take().unwrap().write_all(b"a\nb\n").unwrap();
            end(child)
        });
        ran.await.unwrap().failed(1, &["not what was expected", "no record is in; 2 more may be in"]);
        server.abort();
    }
}

/// Until nobody on this machine holds a connection to `port`: not one that works, nor one whose end has not been noticed.
fn until_unconnected(port: u16) {
    const HELD: [&str; 2] = ["01", "08"];
    let remote = format!(":{port:04X}");
    let is_held = |line: &str| {
        let mut columns = line.split_whitespace().skip(2);
        columns.next().is_some_and(|address| address.ends_with(&remote)) && columns.next().is_some_and(|state| HELD.contains(&state))
    };
    while std::fs::read_to_string("/proc/net/tcp").unwrap().lines().any(is_held) {
        std::thread::yield_now();
    }
}

/// A promise: while the node is away that is said, once, and once that it is back; what waited goes in then. If it stays away, the account says what is not in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_away() {
    let site = Site::new();
    site.topic("t", 1).await;
    let proxy = Proxy::start(site.node.address(), 1).await.unwrap();
    let start = |flags: &[&str]| {
        let mut child =
            site.command_at(&proxy.url(), &[&["produce", "t", "-o", "ndjson", "--linger", "0ms"][..], flags].concat()).spawn().unwrap();
        let (stdin, out) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let err = BufReader::new(child.stderr.take().unwrap());
        (child, stdin, out, err)
    };
    let next = |lines: &mut dyn BufRead| {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        line
    };
    let (mut child, mut stdin, mut out, mut err) = start(&[]);
    stdin.write_all(b"a\n").unwrap();
    assert!(next(&mut out).contains("\"offset\":0"));
    proxy.set_gone(true).await.unwrap();
    // What is sent on the connection that goes would be in doubt; a new connection is refused, which leaves none.
    until_unconnected(proxy.address().port());
    stdin.write_all(b"b\n").unwrap();
    assert!(next(&mut err).contains("does not answer"));
    proxy.set_gone(false).await.unwrap();
    assert!(next(&mut out).contains("\"offset\":1"));
    assert!(next(&mut err).contains("answers again"));
    drop(stdin);
    assert!(next(&mut err).starts_with("2 records in "));
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let (mut child, mut stdin, mut out, mut err) = start(&["--try-for", "3s"]);
    stdin.write_all(b"c\n").unwrap();
    assert!(next(&mut out).contains("\"offset\":2"));
    proxy.set_gone(true).await.unwrap();
    until_unconnected(proxy.address().port());
    stdin.write_all(b"d\ne\n").unwrap();
    assert!(next(&mut err).contains("does not answer"));
    let problem: Value = serde_json::from_str(&next(&mut err)).unwrap();
    assert_eq!(problem["code"], "unreachable", "{problem}");
    let advice = problem["advice"].as_str().unwrap();
    assert!(advice.contains("1 record is in: all up to line 1") && advice.contains("not in; go on with --from-line 2"), "{advice}");
    assert_eq!(child.wait().unwrap().code(), Some(5));
    drop(stdin);
}

/// A promise: over a network that breaks in every way, every line goes in, once and in order, and the account says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_network() {
    const COUNT: u64 = 100_000;
    let site = Site::new();
    let proxy = Proxy::start(site.node.address(), uuid::Uuid::new_v4().as_u64_pair().0).await.unwrap();
    let path = site.folder.path().join("lines.txt");
    std::fs::write(&path, lines(COUNT)).unwrap();
    site.topic("t", 1).await;
    proxy.set_faults(Faults::each(20));
    let ran = (0..1_000).map(|_| {
        let words = ["produce", "t", path.to_str().unwrap(), "-o", "json", "--batch-bytes", "8192"];
        end(site.command_at(&proxy.url(), &words).spawn().unwrap())
    });
    // At times it does not even learn of the topic.
    let ran = ran.into_iter().find(|ran| !ran.out.is_empty()).unwrap();
    let summary: Value = serde_json::from_slice(&ran.out).unwrap();
    assert_eq!(
        (ran.code, summary["records"].as_u64(), summary["unbroken_to_line"].as_u64()),
        (Some(0), Some(COUNT), Some(COUNT)),
        "{}",
        ran.err
    );
    let read = site.run(&["consume", "t"], "").ok();
    assert!(read.out == lines(COUNT), "every line is there once, in order");
    assert!(proxy.counts().broken() > 3, "the network was bad: {:?}", proxy.counts());
}

/// A promise: without numbers (`--acks leader`), over the same network, what the account calls in is in, what it calls not in is not, only what it calls doubtful may be
/// either, nothing is there twice, and whoever goes on from the line that it names gets every record in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_network_without_numbers() {
    const COUNT: u64 = 100_000;
    let site = Site::new();
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    println!("seed {seed}");
    let proxy = Proxy::start(site.node.address(), seed).await.unwrap();
    let path = site.folder.path().join("lines.txt");
    std::fs::write(&path, lines(COUNT)).unwrap();
    let produce = |topic: &str, from_line: u64| {
        let from_line = from_line.to_string();
        let flags = ["--batch-bytes", "8192", "--acks", "leader", "--from-line", &from_line];
        let words = [&["produce", topic, path.to_str().unwrap(), "-o", "json"][..], &flags].concat();
        let child = site.command_at(&proxy.url(), &words).spawn().unwrap();
        end(child)
    };
    let (mut failures, mut doubts) = (0, 0);
    for partitions in [1, 4] {
        let topic = format!("t{partitions}");
        site.topic(&topic, partitions).await;
        let (mut from_line, mut acknowledged, mut doubtful) = (1, 0, 0);
        for turn in 0.. {
            assert!(turn < 1_000, "it gets no further than line {from_line}");
            // Of the last turns nothing is left over to chance.
            proxy.set_faults(if turn < 30 { Faults::each(5) } else { Faults::default() });
            let Ran { code, out, err } = produce(&topic, from_line);
            if out.is_empty() {
                // It did not even learn of the topic.
                assert_eq!(code, Some(5), "{err}");
                continue;
            }
            let summary: Value = serde_json::from_slice(&out).unwrap();
            let of = |name: &str| summary[name].as_u64().unwrap();
            acknowledged += of("records");
            doubtful += of("uncertain_records");
            let found = copies(&site, &topic).await;
            let there: u64 = found.values().sum();
            assert!(
                (acknowledged..=acknowledged + doubtful).contains(&there),
                "{there} are there, {acknowledged} acknowledged, {doubtful} in doubt"
            );
            let unbroken = summary["unbroken_to_line"].as_u64();
            for line in from_line..=unbroken.unwrap_or(0) {
                assert!(found.contains_key(&line.to_string()), "line {line} was accounted as in");
            }
            if partitions == 1 {
                // Behind the first failure nothing is sent, so that only what was in doubt can be there twice, by going on.
                let repeated = there - found.len() as u64;
                assert!(repeated <= doubtful, "{repeated} are there twice");
                assert_eq!(of("records"), unbroken.map_or(0, |line| line + 1 - from_line), "{err}");
            }
            if code == Some(0) {
                assert_eq!((of("uncertain_records"), of("failed_records"), unbroken), (0, 0, Some(COUNT)), "{summary}");
                break;
            }
            assert!(matches!(code, Some(5)), "{code:?}: {err}");
            assert!(of("uncertain_records") + of("failed_records") > 0, "{summary}");
            failures += 1;
            doubts += of("uncertain_records");
            from_line = unbroken.map_or(from_line, |line| line + 1);
        }
        assert_eq!(copies(&site, &topic).await.len() as u64, COUNT, "every line is there");
    }
    println!("{failures} failures, {doubts} records in doubt; {:?}", proxy.counts());
    assert!(failures > 0 && doubts > 0 && proxy.counts().broken() > 3, "the network was bad: {:?}", proxy.counts());
}

/// A promise: a record that the node refuses is named by its line, once; those before it are in, nothing behind it.
#[tokio::test]
async fn a_refused_record_is_named_once() {
    let site = Site::new();
    site.topic("t", 1).await;
    let input = "5 a\n9000000000000000 b\n6 c\n";
    let ran = site.run(&["produce", "t", "-f", r"%T %v\n"], input).failed(1, &["error: line 2: ", "1 record is in: all up to line 1"]);
    assert_eq!(ran.err.matches("timestamp").count(), 1, "{}", ran.err);
    assert!(!ran.err.contains("record 0") && !ran.err.contains("record 1:") && ran.err.lines().count() == 2, "{}", ran.err);
    assert_eq!(copies(&site, "t").await.len(), 1);
    let problem = site.run(&["produce", "t", "-o", "ndjson", "-f", r"%T %v\n"], input).failed(1, &[]);
    let problem: Value = serde_json::from_str(&problem.err).unwrap();
    assert_eq!((&problem["code"], &problem["line"]), (&json!("record-rejected"), &json!(2)), "{problem}");
}

/// A promise: input that is cut short, marked, empty, or only its later lines, is what it is: refused with its line, taken, told of, gone on with.
#[tokio::test]
async fn odd_inputs() {
    let site = Site::new();
    site.topic("t", 1).await;
    let open = "id,name\n0,zero\n1,\"oops\n2,b\n3,c\n";
    site.run(&["produce", "t", "-i", "csv"], open)
        .failed(1, &["line 3: a quote is opened here", "all up to line 2; go on with --from-line 3"]);
    site.run(&["produce", "t", "-i", "csv", "--from-line", "3"], "id,name\n0,zero\n1,one\n").ok();
    site.run(&["produce", "t", "-i", "ndjson"], "\u{feff}{\"text\":\"marked\"}\n").ok();
    let values: Vec<_> =
        site.records("t", 0).await.iter().map(|r| String::from_utf8_lossy(r.value.as_bytes().unwrap()).into_owned()).collect();
    assert_eq!(values, [r#"{"id":"0","name":"zero"}"#, r#"{"id":"1","name":"one"}"#, "marked"]);
    assert_eq!(site.run(&["produce", "t"], "").ok().err, "no records: the input is empty\n");
    assert_eq!(site.run(&["produce", "t", "--from-line", "9"], "a\n").ok().err, "no records: the input ends before line 9\n");
    assert_eq!(site.run(&["produce", "t", "-q"], "").ok().err, "");
}

/// A promise: the names of topics complete with Tab.
#[tokio::test]
async fn topics_complete() {
    let site = Site::new();
    site.topic("orders-of-today", 1).await;
    let mut asked = std::process::Command::new(site.command(&[]).get_program());
    asked.env("TIDEGATE_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").env("_CLAP_IFS", "\n").env("TIDEGATE_SERVER", site.node.url());
    let out = asked.args(["--", "tidegate", "produce", "ord"]).output().unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap().trim(), "orders-of-today");
}

/// A promise: after a second signal nothing is waited for, and only what was under way is in doubt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_twice() {
    let site = Site::new();
    site.topic("t", 1).await;
    let proxy = Proxy::start(site.node.address(), 1).await.unwrap();
    let mut child = site.command_at(&proxy.url(), &["produce", "t", "-o", "ndjson", "--linger", "0ms"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut err = BufReader::new(child.stderr.take().unwrap());
    stdin.write_all(b"a\n").unwrap();
    assert_ne!(out.read_line(&mut String::new()).unwrap(), 0);
    proxy.set_gone(true).await.unwrap();
    until_unconnected(proxy.address().port());
    stdin.write_all(b"b\nc\n").unwrap();
    assert_ne!(err.read_line(&mut String::new()).unwrap(), 0, "it says that the node is away");
    let started = Instant::now();
    signal(&child, Signal::INT);
    let mut said = String::new();
    err.read_line(&mut said).unwrap();
    assert!(said.contains("waiting for what was sent"), "{said}");
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    said.clear();
    err.read_to_string(&mut said).unwrap();
    assert!(said.contains("interrupted: 1 record is in: all up to line 1; 2 records are not in; go on with --from-line 2"), "{said}");
    drop(stdin);
}

/// What a terminal of so many columns shows in the end, row by row.
fn screen(text: &str, columns: usize) -> Vec<String> {
    let (mut rows, mut row, mut column) = (vec![String::new()], 0_usize, 0_usize);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\r' => column = 0,
            '\n' => row += 1,
            '\x1b' => {
                let mut digits = String::new();
                let letter = loop {
                    match characters.next() {
                        Some('[') => {}
                        Some(digit) if digit.is_ascii_digit() => digits.push(digit),
                        letter => break letter,
                    }
                };
                let number = digits.parse().unwrap_or(1);
                match letter {
                    Some('A') => row = row.saturating_sub(number),
                    Some('B') => row += number,
                    Some('K') => rows[row].clear(),
                    other => panic!("what is {other:?} in {text:?}?"),
                }
            }
            _ => {
                // A character behind the last column stands on the next row.
                if column == columns {
                    (row, column) = (row + 1, 0);
                }
                rows.resize(rows.len().max(row + 1), String::new());
                let mut line: Vec<char> = rows[row].chars().collect();
                line.resize(line.len().max(column + 1), ' ');
                line[column] = character;
                rows[row] = line.into_iter().collect();
                column += 1;
            }
        }
        rows.resize(rows.len().max(row + 1), String::new());
    }
    rows
}

/// A promise: after Ctrl-C on a terminal, nothing is left of the progress but the account.
#[tokio::test]
async fn progress_is_taken_away() {
    let site = Site::new();
    site.topic("t", 1).await;
    let path = site.folder.path().join("endless");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let produce = site.command(&["produce", "t", path.to_str().unwrap()]);
    let words: Vec<_> = std::iter::once(produce.get_program()).chain(produce.get_args()).map(|word| word.to_str().unwrap()).collect();
    let mut terminal = std::process::Command::new("script");
    terminal.args(["-qec", &format!("stty rows 24 columns 80 && {}", words.join(" ")), "/dev/null"]).env("TERM", "xterm");
    let mut child = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What never comes is not waited for.
    let (done, over) = std::sync::mpsc::channel::<()>();
    let pid = Pid::from_child(&child);
    let watchdog = std::thread::spawn(move || {
        if over.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
            kill_process(pid, Signal::KILL).unwrap();
        }
    });
    let mut lines = std::fs::File::options().write(true).open(&path).unwrap();
    let (mut keys, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains("B/s  ") {
        lines.write_all(b"a\n").unwrap();
        let taken = out.read(&mut piece).unwrap();
        assert_ne!(taken, 0, "it has ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..taken]);
    }
    keys.write_all(b"\x03").unwrap();
    out.read_to_end(&mut seen).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let rows: Vec<_> = screen(&String::from_utf8_lossy(&seen), 80).into_iter().filter(|row| !row.trim().is_empty()).collect();
    assert!(rows[0].starts_with("interrupted: ") && !rows.concat().contains("B/s"), "{rows:#?}");
    drop((lines, keys, done));
    watchdog.join().unwrap();
}
