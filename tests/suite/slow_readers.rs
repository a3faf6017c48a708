//! Clients that ask for far more than they read: what the node holds for them has a bound, and nobody else is kept from reading for long.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tidegate_tests::http::{self, Request, connect};
use tidegate_tests::process::Process;
use tidegate_types::Limits;

const READERS: usize = 40;
const VALUE_BYTES: usize = 30 << 20;
/// Beside what is admitted: what the threads at work on pages unpack before they know how much it is, and connections.
const SLACK_BYTES: u64 = 192 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn peak_bytes(node: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Asks, reads the status, and stops reading.
fn ask(address: SocketAddr, request: &Request) -> TcpStream {
    let mut stream = connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&request.bytes(address)).unwrap();
    stream
}

fn status(stream: &mut TcpStream) -> u16 {
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    std::str::from_utf8(&head[9..]).unwrap().parse().unwrap()
}

/// Until what was held for connections that are gone is given back; a page that is being made for one of them takes its time.
fn comes_back(address: SocketAddr, target: &str) {
    for _ in 0..600 {
        let answer = http::get(address, target).unwrap();
        if answer.status == 200 {
            return;
        }
        assert_eq!(answer.code(), "overloaded", "{}", answer.text());
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{target} stays refused");
}

/// A promise: values that are small on disk and huge when unpacked do not let forty clients who don't read pass the memory that the node may
/// use, whatever form they ask for; whom it cannot serve it refuses, and when they are gone all is as before.
#[test]
fn clients_that_do_not_read_cannot_fill_memory() {
    let data = tempfile::tempdir().unwrap();
    // The allocator keeps what is freed for a while, in case it is wanted again; here it is to be seen what the node holds.
    let node = Process::start_in(data.path(), &[], &[("MIMALLOC_PURGE_DELAY", "0")]).unwrap();
    let address = node.address();
    let topic = r#"{"name":"t","partitions":1,"config":{"max.message.bytes":"33554432","compression.type":"gzip"}}"#;
    assert_eq!(Request::json("/v1/topics", topic).send(address).unwrap().status, 201);
    for _ in 0..3 {
        let value = Request::new("POST", "/v1/topics/t/raw").header("content-type", "text/plain").body(vec![b'v'; VALUE_BYTES]);
        assert_eq!(value.send(address).unwrap().status, 200);
    }
    let before = peak_bytes(&node);
    let bound = Limits::default().in_flight_bytes as u64 + SLACK_BYTES;
    let forms = [
        Request::get("/v1/topics/t/partitions/0/records/1"),
        Request::get("/v1/topics/t/partitions/0/records?offset=0&max_bytes=67108864"),
        Request::get("/v1/topics/t/partitions/0/records?offset=0&max_bytes=67108864").header("accept-encoding", "gzip"),
        Request::get("/v1/topics/t/partitions/0/batches?offset=0&max_bytes=1"),
    ];
    for form in &forms {
        let mut readers: Vec<_> = (0..READERS).map(|_| ask(address, form)).collect();
        let statuses: Vec<_> = readers.iter_mut().map(status).collect();
        let served = statuses.iter().filter(|status| **status == 200).count();
        println!("{form:?}: {served} of {READERS} served, {} MiB more at the peak", (peak_bytes(&node) - before) >> 20);
        assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{form:?}: {statuses:?}");
        assert!(served > 0, "{form:?}: nobody was served");
        assert!(peak_bytes(&node) < before + bound, "{form:?}: {} MiB more than before", (peak_bytes(&node) - before) >> 20);
        drop(readers);
        comes_back(address, "/v1/topics/t/partitions/0/records/1");
    }
}
