//! Requests byte by byte, so that they can be wrong in ways that no HTTP library would send; and their answers.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than any answer a test asks for.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, without the framing.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `null` if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The `code` of a problem; empty if the answer is none.
    pub fn code(&self) -> String {
        let is_problem = self.header("content-type").is_some_and(|t| t.starts_with("application/problem+json"));
        self.json()["code"].as_str().filter(|_| is_problem).unwrap_or_default().to_owned()
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request that is put together from parts, any of which may be wrong.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    host: Option<String>,
    length: Option<String>,
}

impl Request {
    /// Any method on any target.
    pub fn new(method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { method, target, headers: Vec::new(), body: Vec::new(), host: None, length: None }
    }

    /// GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// POST of a JSON body (which need not be JSON).
    pub fn json(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", target).header("content-type", "application/json").body(body)
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// The body; its length is stated truly unless [`Request::length`] lies.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Another `Host` than the node's address.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// What `Content-Length` says instead of the truth; empty is no such header.
    #[must_use]
    pub fn length(mut self, length: &str) -> Self {
        self.length = Some(length.to_owned());
        self
    }

    /// The bytes that go out.
    pub fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        let host = self.host.clone().unwrap_or_else(|| address.to_string());
        let mut out = format!("{} {} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            out.extend(name.as_bytes());
            out.extend(b": ");
            out.extend(value);
            out.extend(b"\r\n");
        }
        let has_body = !self.body.is_empty() || !matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "DELETE");
        match &self.length {
            Some(length) if length.is_empty() => {}
            Some(length) => out.extend(format!("content-length: {length}\r\n").bytes()),
            None if has_body => out.extend(format!("content-length: {}\r\n", self.body.len()).bytes()),
            None => {}
        }
        out.extend(b"\r\n");
        out.extend(&self.body);
        out
    }

    /// Sends it on a connection of its own and reads the answer.
    ///
    /// # Errors
    /// The system's; [`ErrorKind::InvalidData`] if what comes back is no HTTP; [`ErrorKind::UnexpectedEof`] if nothing comes.
    pub fn send(&self, address: SocketAddr) -> io::Result<Answer> {
        exchange(address, &self.bytes(address), self.method == "HEAD")
    }
}

/// GET of `target`.
///
/// # Errors
/// As [`Request::send`].
pub fn get(address: SocketAddr, target: &str) -> io::Result<Answer> {
    Request::get(target).send(address)
}

/// A series of `/metrics`, by its name with labels as they are written there; 0 if it is not there yet.
///
/// # Errors
/// As [`Request::send`], or the value is no number.
pub fn metric(address: SocketAddr, series: &str) -> io::Result<f64> {
    let text = get(address, "/metrics")?.text();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(Ok(0.0), |value| value.trim().parse().map_err(io::Error::other))
}

/// Asks `/metrics` until `series` is `value`; for what nothing else tells of. For a minute at most.
///
/// # Errors
/// As [`metric`], or the minute is over.
pub fn await_metric(address: SocketAddr, series: &str, value: u32) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        let now = metric(address, series)?;
        if (now - f64::from(value)).abs() < 0.5 {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::new(ErrorKind::TimedOut, format!("{series} is {now}, not {value}")));
        }
        std::thread::yield_now();
    }
}

/// Sends `bytes` and reads one answer.
///
/// # Errors
/// As [`Request::send`].
pub fn exchange(address: SocketAddr, bytes: &[u8], is_head: bool) -> io::Result<Answer> {
    let mut stream = connect(address)?;
    // A server may answer and hang up before it has read all: what it answered is still to be read.
    let sent = stream.write_all(bytes);
    match read_answer(&mut stream, is_head) {
        Err(_) if sent.is_err() => Err(sent.err().unwrap_or_else(|| ErrorKind::BrokenPipe.into())),
        answer => answer,
    }
}

/// A connection with a bound on every wait.
///
/// # Errors
/// The system's.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads one answer from `stream`, which may go on after it. Interim answers (1xx) are skipped.
///
/// # Errors
/// As [`Request::send`].
pub fn read_answer(stream: &mut impl Read, is_head: bool) -> io::Result<Answer> {
    loop {
        let (status, headers) = read_head(stream)?;
        if (100..200).contains(&status) {
            continue;
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if is_head || matches!(status, 204 | 304) {
            return Ok(answer);
        }
        if answer.header("transfer-encoding").is_some_and(|value| value.ends_with("chunked")) {
            read_chunks(stream, &mut answer.body)?;
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().ok().filter(|n| *n <= ANSWER_BYTES_MAX).ok_or(ErrorKind::InvalidData)?;
            answer.body = vec![0; length];
            stream.read_exact(&mut answer.body)?;
        } else {
            stream.read_to_end(&mut answer.body)?;
        }
        return Ok(answer);
    }
}

fn read_line(stream: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
        if line.len() > 64 << 10 {
            return Err(ErrorKind::InvalidData.into());
        }
    }
    line.truncate(line.len() - 2);
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn read_head(stream: &mut impl Read) -> io::Result<(u16, Vec<(String, String)>)> {
    let first = read_line(stream)?;
    let mut words = first.split(' ');
    let status = match (words.next(), words.next()) {
        (Some("HTTP/1.1" | "HTTP/1.0"), Some(status)) => status.parse().map_err(|_| ErrorKind::InvalidData)?,
        _ => return Err(ErrorKind::InvalidData.into()),
    };
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = line.split_once(':').ok_or(ErrorKind::InvalidData)?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_chunks(stream: &mut impl Read, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(stream)?;
        let length = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).map_err(|_| ErrorKind::InvalidData)?;
        if length > ANSWER_BYTES_MAX - body.len() {
            return Err(ErrorKind::InvalidData.into());
        }
        let start = body.len();
        body.resize(start + length, 0);
        stream.read_exact(&mut body[start..])?;
        // After a chunk an empty line; after the last one the trailers, of which there are none, and an empty line.
        read_line(stream)?;
        if length == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: lengths, chunks and ends of connections frame the same body.
    #[test]
    fn answers_are_read() {
        let framed = [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi and more",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1;x=y\r\ni\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: y\r\n\r\nhi",
        ];
        for text in framed {
            let answer = read_answer(&mut text.as_bytes(), false).unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "hi"), "{text}");
        }
        assert!(read_answer(&mut &b"SSH-2.0\r\n"[..], false).is_err());
    }
}
