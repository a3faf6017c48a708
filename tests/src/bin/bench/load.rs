//! The load: prebuilt bytes over plain sockets, the next request when the answer is in. It shares the machine with the server that it measures, so
//! it does as little as can be done: no HTTP library, no parsing but of the status and the length, bodies counted and dropped.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

/// Where this stands in a request, each one that is sent has a number of its own.
pub(crate) const FRESH: &str = "a-fresh-key-here";
const PING: &[u8] = b"PING\r\n";
/// What is read at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// No answer's head is longer.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Whose words are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1, answers with a `Content-Length`.
    Http,
    /// NATS: a publish with a reply subject, answered by one `MSG`.
    Nats,
}

/// Requests over and over on several connections.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    /// Sent in turn; each connection begins at another one.
    pub(crate) requests: Arc<[Vec<u8>]>,
    /// One request under way on each.
    pub(crate) connections: usize,
}

/// What a closed loop has measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    /// In nanoseconds.
    pub(crate) latencies: Histogram<u64>,
}

impl Measured {
    pub(crate) fn new(elapsed: Duration, latencies: Histogram<u64>) -> Self {
        Self { elapsed, latencies }
    }

    /// Answers a second.
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.latencies.value_at_percentile(percent))
    }
}

/// Latencies of up to a minute, to a thousandth.
pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
    histogram.auto(false);
    Ok(histogram)
}

/// Notes a latency.
pub(crate) fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
}

impl Load {
    /// Runs for `duration`. Any answer but a good one ends it.
    pub(crate) async fn run(&self, duration: Duration) -> anyhow::Result<Measured> {
        let mut connections = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            connections.push(Connection::open(self.address, self.protocol).await?);
        }
        // One thread, one histogram: it stays in the cache.
        let latencies = Rc::new(RefCell::new(histogram()?));
        let start = Instant::now();
        let looping = async {
            let mut tasks = JoinSet::new();
            for (n, connection) in connections.into_iter().enumerate() {
                let (requests, latencies) = (Arc::clone(&self.requests), Rc::clone(&latencies));
                let first = n * requests.len() / self.connections;
                let place = Place { first, connection: n };
                tasks.spawn_local(closed_loop(connection, requests, place, latencies, start, duration));
            }
            while let Some(done) = tasks.join_next().await {
                done??;
            }
            Ok::<_, anyhow::Error>(())
        };
        LocalSet::new().run_until(looping).await?;
        let elapsed = start.elapsed();
        Ok(Measured::new(elapsed, latencies.replace(Histogram::new(1)?)))
    }
}

/// Which of the connections it is, and where it begins.
#[derive(Debug, Clone, Copy)]
struct Place {
    first: usize,
    connection: usize,
}

async fn closed_loop(
    mut connection: Connection,
    requests: Arc<[Vec<u8>]>,
    place: Place,
    latencies: Rc<RefCell<Histogram<u64>>>,
    start: Instant,
    duration: Duration,
) -> anyhow::Result<()> {
    let (mut next, mut sent) = (place.first, Instant::now());
    let mut fresh = Fresh::new(&requests, place.connection);
    while sent.duration_since(start) < duration {
        match &mut fresh {
            Some(fresh) => connection.exchange(fresh.next()).await?,
            None => connection.exchange(&requests[next % requests.len()]).await?,
        }
        let now = Instant::now();
        record(&mut latencies.borrow_mut(), now - sent);
        sent = now;
        next += 1;
    }
    Ok(())
}

/// A request that is another one each time.
struct Fresh {
    request: Vec<u8>,
    at: usize,
    next: u64,
}

impl Fresh {
    /// `None` if the requests are always the same.
    fn new(requests: &[Vec<u8>], connection: usize) -> Option<Self> {
        let request = requests.first()?.clone();
        let at = request.windows(FRESH.len()).position(|window| window == FRESH.as_bytes())?;
        // Another run of the same load sends other ones.
        let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs()) & 0xffff_ffff;
        Some(Self { request, at, next: run << 32 | (connection as u64) << 24 })
    }

    fn next(&mut self) -> &[u8] {
        let number = format!("{:016x}", self.next);
        self.request[self.at..self.at + FRESH.len()].copy_from_slice(number.as_bytes());
        self.next += 1;
        &self.request
    }
}

/// One connection with one request under way at most.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    protocol: Protocol,
    buffer: Vec<u8>,
}

/// What an answer's head says.
struct Head {
    is_good: bool,
    /// Of head and body together.
    total_bytes: usize,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, protocol: Protocol) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        if protocol == Protocol::Nats {
            stream.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n").await?;
            // Every connection has an inbox of its own: its answers go nowhere else.
            let inbox = stream.local_addr()?.port();
            stream.write_all(format!("SUB inbox.{inbox} 1\r\nPING\r\n").as_bytes()).await?;
            let mut said = Vec::new();
            while !said.ends_with(b"PONG\r\n") {
                ensure!(stream.read_buf(&mut said).await? > 0, "the server hung up");
            }
        }
        Ok(Self { stream, protocol, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Sends a request and reads its answer to the end.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<()> {
        match self.protocol {
            Protocol::Http => self.stream.write_all(request).await?,
            Protocol::Nats => {
                let inbox = self.stream.local_addr()?.port();
                let head = format!("PUB bench inbox.{inbox} {}\r\n", request.len() - 2);
                self.buffer.clear();
                self.buffer.extend_from_slice(head.as_bytes());
                self.buffer.extend_from_slice(request);
                self.stream.write_all(&self.buffer).await?;
                self.buffer.resize(BUFFER_BYTES, 0);
            }
        }
        self.read_answer().await
    }

    async fn read_answer(&mut self) -> anyhow::Result<()> {
        let mut have = 0;
        let head = loop {
            let read = self.stream.read(&mut self.buffer[have..]).await?;
            ensure!(read > 0, "the connection was closed");
            have += read;
            if self.protocol == Protocol::Nats && self.buffer[..have].starts_with(PING) {
                // It asks now and then whether anybody is there.
                self.stream.write_all(b"PONG\r\n").await?;
                self.buffer.copy_within(PING.len()..have, 0);
                have -= PING.len();
                continue;
            }
            let parse = if self.protocol == Protocol::Http { http_head } else { nats_head };
            if let Some(head) = parse(&self.buffer[..have])? {
                break head;
            }
            ensure!(have < HEAD_BYTES_MAX, "the head of an answer has no end");
        };
        if !head.is_good {
            bail!("answered {}", String::from_utf8_lossy(&self.buffer[..have]));
        }
        while have < head.total_bytes {
            let read = self.stream.read(&mut self.buffer).await?;
            ensure!(read > 0, "the connection was closed");
            have += read;
        }
        Ok(())
    }
}

fn http_head(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let is_good = bytes.get(9) == Some(&b'2');
    const NAME: &[u8] = b"content-length:";
    let mut lines = bytes[..end].split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)));
    let length = std::str::from_utf8(&line.context("no content-length")?[NAME.len()..])?.trim().parse::<usize>()?;
    Ok(Some(Head { is_good, total_bytes: end + 4 + length }))
}

/// `MSG <subject> <sid> <bytes>\r\n<payload>\r\n`; a JetStream that could not store says `"error"` in its payload.
fn nats_head(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let line = std::str::from_utf8(&bytes[..end])?;
    let length = line.strip_prefix("MSG ").and_then(|rest| rest.rsplit(' ').next()).map(str::parse::<usize>);
    let total_bytes = end + 2 + length.with_context(|| format!("the server says {line}"))?? + 2;
    if bytes.len() < total_bytes {
        return Ok(None);
    }
    let is_good = !bytes.windows(7).any(|seven| seven == b"\"error\"");
    Ok(Some(Head { is_good, total_bytes }))
}

/// A POST, head and body.
pub(crate) fn post(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n",
        length = body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: an answer is whole only when its head says so, and only a good one counts.
    #[test]
    fn heads_are_read() {
        let text = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 12\r\n\r\nhello";
        assert!(http_head(&text[..30]).unwrap().is_none());
        let head = http_head(text).unwrap().unwrap();
        assert!(head.is_good && head.total_bytes == text.len() - 5 + 12);
        assert!(!http_head(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").unwrap().unwrap().is_good);
        assert!(http_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(nats_head(b"MSG inbox.1 1 5\r\nhel").unwrap().is_none());
        assert!(nats_head(b"MSG inbox.1 1 5\r\nhello\r\n").unwrap().unwrap().is_good);
        assert!(!nats_head(b"MSG inbox.1 1 9\r\n{\"error\"}\r\n").unwrap().unwrap().is_good);
        assert!(nats_head(b"-ERR 'no'\r\n").is_err());
    }
}
