//! Stopping politely, and refusing to start twice.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;

use tidegate_tests::http::{self, Answer, Request, connect, read_answer};
use tidegate_tests::process::{self, Process};

const LOADERS: usize = 32;
const WAITERS: usize = 32;
const UPLOADS: usize = 8;
const WAITING: &str = "tidegate_waiting_requests{api=\"fetch\"}";

fn is_an_answer(answer: &Answer) -> bool {
    answer.status == 200 || (answer.status == 503 && answer.code() == "draining")
}

/// What became of one loader's records: the offset of each that was acknowledged, and whether the last one got no answer.
#[derive(Default)]
struct Loaded {
    acknowledged: Vec<(String, u64)>,
    refused: usize,
    unanswered: Option<String>,
}

/// Produces one record after the other over one connection until the node closes it.
fn load(address: SocketAddr, name: usize, sent: &AtomicUsize) -> Loaded {
    let mut loaded = Loaded::default();
    let mut stream = connect(address).unwrap();
    for n in 0.. {
        let text = format!("{name}/{n}");
        let request = Request::json("/v1/topics/t/records", format!(r#"{{"records":[{{"text":"{text}"}}]}}"#));
        let bytes = String::from_utf8(request.bytes(address)).unwrap().replace("connection: close\r\n", "");
        sent.fetch_add(1, Ordering::SeqCst);
        let answer = stream.write_all(bytes.as_bytes()).and_then(|()| read_answer(&mut stream, false));
        let Ok(answer) = answer else {
            loaded.unanswered = Some(text);
            return loaded;
        };
        assert!(is_an_answer(&answer), "{} {}", answer.status, answer.text());
        match answer.json()["results"][0]["offset"].as_u64() {
            Some(offset) => loaded.acknowledged.push((text, offset)),
            None => loaded.refused += 1,
        }
        if answer.header("connection") == Some("close") {
            return loaded;
        }
    }
    loaded
}

/// Waits for records that never come, until the node answers.
fn wait_for_nothing(address: SocketAddr, started: &Barrier) -> Answer {
    let mut stream = connect(address).unwrap();
    let request = Request::get("/v1/topics/quiet/partitions/0/records?offset=0&max_wait_ms=50000").bytes(address);
    stream.write_all(&request).unwrap();
    started.wait();
    read_answer(&mut stream, false).unwrap()
}

/// Sends half a body before the node is told to stop, and the rest after.
fn upload(address: SocketAddr, text: &str, started: &Barrier, told: &Barrier) -> Answer {
    let mut stream = connect(address).unwrap();
    let request = Request::json("/v1/topics/t/records", format!(r#"{{"records":[{{"text":"{text}"}}]}}"#)).bytes(address);
    let (first, rest) = request.split_at(request.len() - 10);
    stream.write_all(first).unwrap();
    started.wait();
    told.wait();
    stream.write_all(rest).unwrap();
    read_answer(&mut stream, false).unwrap()
}

fn many<T: Send + 'static>(count: usize, run: impl Fn(usize) -> T + Clone + Send + 'static) -> Vec<JoinHandle<T>> {
    let spawn = |n| {
        let run = run.clone();
        std::thread::spawn(move || run(n))
    };
    (0..count).map(spawn).collect()
}

fn joined<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Text → offset of everything in the topic.
fn read_back(address: SocketAddr) -> std::collections::HashMap<String, u64> {
    let mut found = std::collections::HashMap::new();
    let mut next = 0;
    loop {
        let answer = http::get(address, &format!("/v1/topics/t/partitions/0/records?offset={next}&max_records=10000")).unwrap();
        let body = answer.json();
        let records = body["records"].as_array().unwrap();
        if records.is_empty() {
            return found;
        }
        for record in records {
            let (text, offset) = (record["text"].as_str().unwrap(), record["offset"].as_u64().unwrap());
            assert_eq!(found.insert(text.to_owned(), offset), None, "{text} is there once");
        }
        next = body["next_offset"].as_u64().unwrap();
    }
}

/// A promise: told to stop under load, a node answers every request that it has begun to read, waiting ones at once, and exits with 0; what it
/// acknowledged is there at the next start, and what it closed the door on is not.
#[test]
fn every_request_gets_an_answer() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let address = node.address();
    for topic in ["t", "quiet"] {
        assert_eq!(Request::json("/v1/topics", format!(r#"{{"name":"{topic}"}}"#)).send(address).unwrap().status, 201);
    }
    let started = Arc::new(Barrier::new(WAITERS + UPLOADS + 1));
    let told = Arc::new(Barrier::new(UPLOADS + 1));
    let sent = Arc::new(AtomicUsize::new(0));
    let waiters = many(WAITERS, {
        let started = Arc::clone(&started);
        move |_| wait_for_nothing(address, &started)
    });
    let uploads = many(UPLOADS, {
        let (started, told) = (Arc::clone(&started), Arc::clone(&told));
        move |n| upload(address, &format!("upload {n}"), &started, &told)
    });
    started.wait();
    http::await_metric(address, WAITING, u32::try_from(WAITERS).unwrap()).unwrap();
    // The node reads connections in no order that we know: one more request that goes through says that it has come to these too.
    let loaders = many(LOADERS, {
        let sent = Arc::clone(&sent);
        move |n| load(address, n, &sent)
    });
    while sent.load(Ordering::SeqCst) < LOADERS * 20 {
        assert_eq!(http::get(address, "/livez").unwrap().status, 200);
    }
    node.terminate().unwrap();
    told.wait();

    for answer in joined(waiters) {
        assert!(is_an_answer(&answer), "a waiting fetch: {} {}", answer.status, answer.text());
    }
    for answer in joined(uploads) {
        assert!(is_an_answer(&answer), "half a body: {} {}", answer.status, answer.text());
    }
    let loaded = joined(loaders);
    let (status, said) = node.wait().unwrap();
    assert!(status.success(), "{status}: {said}");

    let node = Process::start(data.path()).unwrap();
    let found = read_back(node.address());
    for (text, offset) in loaded.iter().flat_map(|one| &one.acknowledged) {
        assert_eq!(found.get(text), Some(offset), "{text} was acknowledged");
    }
    for text in loaded.iter().filter_map(|one| one.unanswered.as_ref()) {
        assert!(!found.contains_key(text), "{text} was written but not answered");
    }
    assert!(loaded.iter().map(|one| one.acknowledged.len()).sum::<usize>() > LOADERS);
}

/// A promise: how many fetches wait is there for whoever runs the node to see, and those whose client has gone are none.
#[test]
fn waiting_fetches_are_counted() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let address = node.address();
    assert_eq!(Request::json("/v1/topics", r#"{"name":"quiet"}"#).send(address).unwrap().status, 201);
    let request = Request::get("/v1/topics/quiet/partitions/0/records?offset=0&max_wait_ms=50000").bytes(address);
    let waiters: Vec<_> = many(5, move |_| {
        let mut stream = connect(address).unwrap();
        stream.write_all(&request).unwrap();
        stream
    });
    let mut waiters = joined(waiters);
    http::await_metric(address, WAITING, 5).unwrap();
    waiters.truncate(2);
    http::await_metric(address, WAITING, 2).unwrap();
    let produce = Request::json("/v1/topics/quiet/records", r#"{"records":[{"text":"x"}]}"#).send(address).unwrap();
    assert_eq!(produce.status, 200);
    for stream in &mut waiters {
        assert_eq!(read_answer(stream, false).unwrap().json()["records"].as_array().map(Vec::len), Some(1));
    }
    http::await_metric(address, WAITING, 0).unwrap();
}

/// A promise: a second node on the same directory refuses to start, says why in a line, and does the first one no harm.
#[test]
fn a_second_node_refuses() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let path = data.path().to_str().unwrap();
    let (code, out, err) = process::run(&["serve", "--data-dir", path, "--listen", "127.0.0.1:0"]).unwrap();
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("another process has it open") && err.contains(path), "{err}");
    assert!(!err.contains("panicked"), "{err}");
    assert_eq!(Request::json("/v1/topics", r#"{"name":"t"}"#).send(node.address()).unwrap().status, 201);
}

/// A promise: after a clean stop and after a kill the node is the same: cluster id, node id, topics with their ids and configs.
#[test]
fn a_restart_keeps_who_it_is() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let create = Request::json("/v1/topics", r#"{"name":"t","partitions":3,"config":{"retention.ms":"-1"}}"#);
    assert_eq!(create.send(node.address()).unwrap().status, 201);
    let who = |node: &Process| {
        let (cluster, topic) =
            (http::get(node.address(), "/v1/cluster").unwrap().json(), http::get(node.address(), "/v1/topics/t").unwrap().json());
        (
            cluster["cluster_id"].clone(),
            cluster["nodes"][0]["node_id"].clone(),
            topic["topic_id"].clone(),
            topic["config"].clone(),
            topic["partitions"].as_array().map(Vec::len),
        )
    };
    let before = who(&node);
    assert!(before.0.is_string() && before.4 == Some(3));
    node.terminate().unwrap();
    assert!(node.wait().unwrap().0.success());
    let node = Process::start(data.path()).unwrap();
    assert_eq!(who(&node), before, "after a clean stop");
    node.kill().unwrap();
    assert_eq!(who(&Process::start(data.path()).unwrap()), before, "after a kill");
}
