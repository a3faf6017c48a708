//! Clients that are slow on purpose: they are cut off, and nobody else notices them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tidegate_tests::http::{self, Request, connect, read_answer};
use tidegate_tests::process::Process;

/// What the node is told to wait for, in ms; the defaults are 10 and 30 seconds.
const HEAD_MS: u64 = 400;
const BODY_MS: u64 = 400;
/// More than the node may need; less than the defaults, so that a limit that is ignored shows.
const PATIENCE: Duration = Duration::from_secs(8);

fn impatient_node(data: &std::path::Path) -> Process {
    let config = data.join("node.toml");
    std::fs::write(&config, format!("limit.head.timeout.ms = {HEAD_MS}\nlimit.body.idle.timeout.ms = {BODY_MS}\n")).unwrap();
    Process::start_with(&data.join("data"), &["--config", config.to_str().unwrap()]).unwrap()
}

/// Waits until the node has closed the connection; whether it did in time.
fn is_cut_off(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// Sends `drops` one by one, as slowly as `pause`, until the node has hung up; whether it did in time.
fn drips_until_cut_off(address: SocketAddr, first: &[u8], drop: &[u8], pause: Duration) -> bool {
    let mut stream = connect(address).unwrap();
    stream.write_all(first).unwrap();
    stream.set_read_timeout(Some(pause)).unwrap();
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        // Reading is the pause: it ends early when the node hangs up.
        match stream.read(&mut [0; 1024]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return true,
        }
        if stream.write_all(drop).is_err() {
            return true;
        }
    }
    false
}

/// A promise: a head that does not come, or comes drop by drop, is cut off; a thousand of them do not keep others out.
#[test]
fn slow_heads_are_cut_off() {
    let data = tempfile::tempdir().unwrap();
    let node = impatient_node(data.path());
    let address = node.address();
    let mut idlers: Vec<_> = (0..500).map(|_| connect(address).unwrap()).collect();
    for idler in &mut idlers {
        idler.write_all(b"GET /v1/topics HTTP/1.1\r\nhost: x\r\n").unwrap();
    }
    assert_eq!(http::get(address, "/v1/topics").unwrap().status, 200, "others are served meanwhile");
    assert!(drips_until_cut_off(address, b"GET /v1/topics HTTP/1.1\r\n", b"x-drip: 1\r\n", Duration::from_millis(HEAD_MS / 4)));
    for mut idler in idlers {
        assert!(is_cut_off(&mut idler), "half a head was kept waiting");
    }
}

/// A promise: a body that stops coming is cut off with 408, writes nothing, and gives back the memory that it was admitted to.
#[test]
fn slow_bodies_are_cut_off() {
    let data = tempfile::tempdir().unwrap();
    let node = impatient_node(data.path());
    let address = node.address();
    assert_eq!(Request::json("/v1/topics", r#"{"name":"t"}"#).send(address).unwrap().status, 201);
    let body = r#"{"records":[{"value":1},"#;
    let request = Request::json("/v1/topics/t/records", body).length("33554432").bytes(address);
    // Together these announce more than the node has room for, several times over.
    let rounds = (0..3).map(|_| (0..20).map(|_| connect(address).unwrap()).collect::<Vec<_>>());
    for mut streams in rounds {
        for stream in &mut streams {
            stream.write_all(&request).unwrap();
        }
        for stream in &mut streams {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let answer = read_answer(stream, false).unwrap();
            assert_eq!((answer.status, answer.code().as_str()), (408, "request-timeout"), "{}", answer.text());
            assert!(is_cut_off(stream), "the connection is closed with the answer");
        }
    }
    let good = Request::json("/v1/topics/t/records", r#"{"records":[{"value":1}]}"#).send(address).unwrap();
    assert_eq!((good.status, &good.json()["results"][0]["offset"]), (200, &0.into()), "{}", good.text());
}

/// A promise: a client that is busy sending when its request is refused still gets the refusal, not a reset that leaves it guessing.
#[test]
fn a_refusal_waits_for_a_busy_sender() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let mut stream = connect(node.address()).unwrap();
    stream.write_all(&Request::json("/v1/topics/t/records", "{").length("1000000000").bytes(node.address())).unwrap();
    for _ in 0..3 {
        // The node has long answered; a sender that looks up only now and then does not know it yet.
        std::thread::sleep(Duration::from_millis(700));
        stream.write_all(&[b' '; 1 << 16]).unwrap();
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let answer = read_answer(&mut stream, false).unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (404, "topic-not-found"), "{}", answer.text());
}

/// A promise: a client that reads no answer holds up nobody but itself.
#[test]
fn clients_that_do_not_read_hold_up_nobody() {
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    let address = node.address();
    assert_eq!(Request::json("/v1/topics", r#"{"name":"t"}"#).send(address).unwrap().status, 201);
    let text = "v".repeat(500_000);
    for _ in 0..20 {
        assert_eq!(
            Request::json("/v1/topics/t/records", format!(r#"{{"records":[{{"text":"{text}"}}]}}"#)).send(address).unwrap().status,
            200
        );
    }
    let fetch = Request::get("/v1/topics/t/partitions/0/records?offset=0&max_bytes=67108864");
    // Fewer than fill the bound on what is under way: from then on others would be refused, and rightly so.
    let mut deaf: Vec<_> = (0..8).map(|_| connect(address).unwrap()).collect();
    for stream in &mut deaf {
        stream.write_all(&fetch.bytes(address)).unwrap();
    }
    assert_eq!(fetch.send(address).unwrap().json()["records"].as_array().map(Vec::len), Some(20));
    assert_eq!(Request::json("/v1/topics/t/records", r#"{"records":[{"value":1}]}"#).send(address).unwrap().status, 200);
    // Whoever reads late still gets all of it.
    let late = read_answer(&mut deaf[0], false).unwrap();
    assert_eq!(late.json()["records"].as_array().map(Vec::len), Some(20));
}
