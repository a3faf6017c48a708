//! Stored batches over HTTP: sent by the system where that can be, copied elsewhere, and always the bytes of the files.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};
use tempfile::TempDir;
use tidegate_tests::http::{self, Answer, Request, connect, read_answer};
use tidegate_tests::process::Process;

const BATCHES: &str = "/v1/topics/t/partitions/0/batches";
/// Of 900 KB each but for a few small ones at the end, behind which the file is prepared with zeros. More than the sockets of both sides hold.
const RECORDS: usize = 40;
const LARGE_RECORDS: usize = 36;
const VALUE_BYTES: usize = 900_000;

struct Node {
    data: TempDir,
    process: Process,
}

impl Node {
    /// A node with a topic of one partition and nine segments.
    fn filled() -> Self {
        Self::with_segments(4 << 20)
    }

    fn with_segments(bytes: usize) -> Self {
        let data = tempfile::tempdir().unwrap();
        let process = Process::start(data.path()).unwrap();
        let topic = format!(r#"{{"name":"t","partitions":1,"config":{{"segment.bytes":"{bytes}"}}}}"#);
        assert_eq!(Request::json("/v1/topics", topic).send(process.address()).unwrap().status, 201);
        for n in 0..RECORDS {
            // No zeros, and no two records alike.
            let bytes = if n < LARGE_RECORDS { VALUE_BYTES } else { 1_000 };
            let value: Vec<u8> = (0..bytes).map(|i| u8::try_from((i * 7 + n * 13 + i / 251) % 255 + 1).unwrap()).collect();
            let request = Request::new("POST", "/v1/topics/t/raw").header("content-type", "application/octet-stream").body(value);
            assert_eq!(request.send(process.address()).unwrap().status, 200);
        }
        Self { data, process }
    }

    fn logs(&self) -> Vec<PathBuf> {
        logs(&self.data.path().join("t-0"))
    }

    /// What a reader of everything must get.
    fn stored(&self) -> Vec<u8> {
        self.logs().iter().flat_map(|path| batches_of(path)).collect()
    }

    /// Puts these files out of the page cache.
    fn cool<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) {
        for path in paths {
            fadvise(File::open(path).unwrap(), 0, None, Advice::DontNeed).unwrap();
        }
    }

    /// Deletes all records, and waits until their files are gone.
    fn trim_all(&self) {
        let order = format!(r#"{{"before_offset":{RECORDS}}}"#);
        let trimmed = Request::json("/v1/topics/t/partitions/0/trim", order).send(self.process.address()).unwrap();
        assert_eq!(trimmed.status, 200, "{}", trimmed.text());
        while self.logs().len() > 1 {
            std::thread::yield_now();
        }
    }

    fn get(&self, query: &str) -> Answer {
        http::get(self.process.address(), &format!("{BATCHES}?{query}")).unwrap()
    }

    /// How many bytes went by that path so far.
    fn bytes_by(&self, path: &str) -> u64 {
        self.metric(&format!("tidegate_fetch_bytes_total{{path=\"{path}\"}}"))
    }

    fn metric(&self, name: &str) -> u64 {
        let text = http::get(self.process.address(), "/metrics").unwrap().text();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
    }

    /// Asks for everything on `query`, reads the head and the first byte, and no more.
    fn begin(&self, query: &str) -> (std::net::TcpStream, usize, Vec<u8>) {
        let mut stream = connect(self.process.address()).unwrap();
        stream.write_all(&Request::get(&format!("{BATCHES}?{query}")).bytes(self.process.address())).unwrap();
        let head = read_answer(&mut stream, true).unwrap();
        assert_eq!(head.status, 200);
        let mut first = vec![0];
        stream.read_exact(&mut first).unwrap();
        (stream, head.header("content-length").unwrap().parse().unwrap(), first)
    }
}

fn logs(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    logs.sort();
    logs
}

/// What is in a segment's file, without the zeros that an active one may have behind its batches.
fn batches_of(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    let mut end = 0;
    while let Some(length) = bytes.get(end + 8..end + 12).map(|length| u32::from_be_bytes(length.try_into().unwrap())).filter(|it| *it > 0)
    {
        end += 12 + length as usize;
    }
    bytes.truncate(end);
    bytes
}

fn assert_same(got: &[u8], expected: &[u8], what: &str) {
    let differs = got.iter().zip(expected).position(|(a, b)| a != b);
    assert!(
        got.len() == expected.len() && differs.is_none(),
        "{what}: {} of {} bytes, first other one at {differs:?}",
        got.len(),
        expected.len()
    );
}

/// A promise: over plain HTTP/1.1 the system sends stored batches from file to socket, over all segments at once, also from a cold disk; and
/// who goes on at `Next-Offset` gets all of them once.
#[test]
fn batches_are_sent_by_the_system() {
    let node = Node::filled();
    let stored = node.stored();
    assert!(node.logs().len() >= 5);
    let in_files: u64 = node.logs().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(in_files > stored.len() as u64, "the last file is prepared");
    let answer = node.get("offset=0&max_bytes=67108864");
    assert_eq!((answer.status, answer.header("next-offset"), answer.header("caught-up")), (200, Some("40"), Some("true")));
    assert_same(&answer.body, &stored, "all at once");
    assert_eq!((node.bytes_by("sendfile"), node.bytes_by("copy")), (stored.len() as u64, 0));

    Node::cool(&node.logs());
    let cold_before = node.metric("tidegate_cold_reads_total ");
    assert_same(&node.get("offset=0&max_bytes=67108864").body, &stored, "all at once, from the disk");
    let cold_reads = node.metric("tidegate_cold_reads_total ") - cold_before;
    assert!(cold_reads > 2, "one to find the batches, the others for what is sent: each is read on another thread first");
    Node::cool(&node.logs());
    let (mut next, mut all) = ("0".to_owned(), Vec::new());
    while next != "40" {
        let answer = node.get(&format!("offset={next}&max_bytes=6000000"));
        assert!(answer.status == 200 && !answer.body.is_empty() && answer.body.len() <= 6_000_000);
        all.extend(answer.body.iter());
        next = answer.header("next-offset").unwrap().to_owned();
    }
    assert_same(&all, &stored, "piece by piece, from the disk");
    assert_eq!(node.bytes_by("copy"), 0);
}

/// A promise: whoever asks, and however, gets the files' bytes or none; never what stands for them inside the node.
#[tokio::test]
async fn nothing_but_stored_bytes_gets_out() {
    let node = Node::filled();
    let (address, stored) = (node.process.address(), node.stored());
    let all = format!("{BATCHES}?offset=0&max_bytes=67108864");

    let head = Request::new("HEAD", &all).send(address).unwrap();
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some(stored.len().to_string().as_str())));
    let coded = Request::get(&all).header("accept-encoding", "gzip, zstd, br").send(address).unwrap();
    assert_eq!((coded.status, coded.header("content-encoding")), (200, None));
    assert_same(&coded.body, &stored, "a client that takes codings");
    assert_eq!(node.bytes_by("copy"), 0);
    let mut old = connect(address).unwrap();
    write!(old, "GET {all} HTTP/1.0\r\nhost: {address}\r\n\r\n").unwrap();
    let old = read_answer(&mut old, false).unwrap();
    assert_same(&old.body, &stored, "HTTP/1.0");
    assert_eq!(node.bytes_by("copy"), stored.len() as u64);

    // One connection, all at once: heads and bodies come in order, whatever kind they are.
    let mut requests = Vec::<u8>::new();
    let part = format!("{BATCHES}?offset=3&max_bytes=2000000");
    let kinds = [("GET", &part), ("HEAD", &part), ("GET", &all), ("GET", &"/livez".to_owned()), ("GET", &part), ("GET", &part)];
    kinds.iter().for_each(|(method, target)| write!(requests, "{method} {target} HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap());
    let mut stream = connect(address).unwrap();
    stream.write_all(&requests).unwrap();
    let expected_part = http::get(address, &part).unwrap().body;
    let batch_bytes = 12 + usize::try_from(u32::from_be_bytes(stored[8..12].try_into().unwrap())).unwrap();
    assert_same(&expected_part, &stored[3 * batch_bytes..5 * batch_bytes], "two records from the fourth on");
    for (method, target) in kinds {
        let answer = read_answer(&mut stream, method == "HEAD").unwrap();
        assert_eq!(answer.status, 200, "{method} {target}");
        match target.as_str() {
            _ if method == "HEAD" => {}
            "/livez" => assert!(answer.text().len() < 1000),
            path if path == part => assert_same(&answer.body, &expected_part, "a part, in a row of requests"),
            _ => assert_same(&answer.body, &stored, "all, in a row of requests"),
        }
    }

    // Clients that hang up in the middle.
    for _ in 0..5 {
        drop(node.begin("offset=0&max_bytes=67108864"));
    }
    assert_eq!(node.bytes_by("copy"), stored.len() as u64, "nothing but what HTTP/1.0 got");

    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let over_2 = client.get(format!("http://{address}{all}")).send().await.unwrap();
    assert_eq!(over_2.version(), reqwest::Version::HTTP_2);
    assert_same(&over_2.bytes().await.unwrap(), &stored, "HTTP/2");
    assert_eq!(node.bytes_by("copy"), 2 * stored.len() as u64);
}

/// A promise: who has begun to read gets all of it, byte for byte, though all of it is trimmed meanwhile and its files are gone.
#[test]
fn a_reader_outlives_a_trim() {
    let node = Node::filled();
    let stored = node.stored();
    let (mut stream, length, mut got) = node.begin("offset=0&max_bytes=67108864");
    assert_eq!(length, stored.len());
    node.trim_all();
    assert_eq!(node.get("offset=0").status, 416);
    got.resize(length, 0);
    stream.read_exact(&mut got[1..]).unwrap();
    assert_same(&got, &stored, "after the trim");
}

/// A promise: whatever goes on beside it, a reader gets the bytes of the files: from many small segments, every other one cold, beside a client
/// that hardly reads, and while all of it is deleted; and the slow client gets them too.
#[test]
fn a_half_cold_log_is_read_beside_a_slow_client_and_a_trim() {
    let node = Node::with_segments(1 << 20);
    let (stored, logs) = (node.stored(), node.logs());
    assert!(logs.len() >= 30);
    let (mut slow, length, mut slow_got) = node.begin("offset=0&max_bytes=67108864");
    Node::cool(logs.iter().step_by(2));
    let (mut stream, _, mut got) = node.begin("offset=0&max_bytes=67108864");
    assert_eq!(length, stored.len());
    got.resize(length / 2, 0);
    stream.read_exact(&mut got[1..]).unwrap();
    slow_got.resize(2, 0);
    slow.read_exact(&mut slow_got[1..]).unwrap();
    node.trim_all();
    got.resize(length, 0);
    stream.read_exact(&mut got[length / 2..]).unwrap();
    assert_same(&got, &stored, "half of it before the trim, half of it after");
    slow_got.resize(length, 0);
    slow.read_exact(&mut slow_got[2..]).unwrap();
    assert_same(&slow_got, &stored, "the slow client");
    assert_eq!((node.bytes_by("sendfile"), node.bytes_by("copy")), (2 * length as u64, 0));
}

/// A promise: if a file is cut below what is being sent, the connection ends there; what has come until then is right.
#[test]
fn a_cut_file_ends_the_connection() {
    let node = Node::filled();
    let stored = node.stored();
    let (mut stream, length, mut got) = node.begin("offset=0&max_bytes=67108864");
    for path in node.logs() {
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
    }
    let _ = stream.read_to_end(&mut got);
    assert!(got.len() < length, "all {length} bytes came, of files that were cut");
    assert_same(&got, &stored[..got.len()], "what came before the end");
}
