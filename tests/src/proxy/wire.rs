//! HTTP/1.1 messages, read as far as it takes to know where each ends.

use anyhow::{Context, ensure};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// More than any head that our client or server writes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// One end of a connection, and what was read from it and not yet used.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Side {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::with_capacity(8 << 10) }
    }

    /// Whether a part of a message has come, and not all of it.
    #[cfg(test)]
    pub(super) fn is_within_message(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// One message: its head and the whole of its body. `None` at a clean end before it.
    pub(super) async fn message(&mut self) -> anyhow::Result<Option<Message>> {
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(self.buffer.len() <= HEAD_BYTES_MAX, "a head without an end");
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                ensure!(self.buffer.is_empty(), "half a head");
                return Ok(None);
            }
        };
        let length = body_length(&self.buffer[..head])?;
        self.buffer.reserve((head + length).saturating_sub(self.buffer.len()));
        while self.buffer.len() < head + length {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "half a body");
        }
        let rest = self.buffer.split_off(head + length);
        Ok(Some(Message { head, bytes: std::mem::replace(&mut self.buffer, rest) }))
    }
}

/// A request or an answer, whole.
#[derive(Debug)]
pub(super) struct Message {
    head: usize,
    pub(super) bytes: Vec<u8>,
}

impl Message {
    /// Its body, or its head if it has no body: where it lies.
    pub(super) fn cut_range(&self) -> std::ops::Range<usize> {
        if self.bytes.len() > self.head { self.head..self.bytes.len() } else { 0..self.bytes.len() }
    }
}

/// The length that a head states. Nobody here sends bodies in chunks but to clients that ask for what this proxy does not carry.
fn body_length(head: &[u8]) -> anyhow::Result<usize> {
    let text = std::str::from_utf8(head).context("a head that is no text")?;
    let mut length = 0;
    for (name, value) in text.lines().skip(1).filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().context("an unreadable length")?;
        }
        ensure!(!name.eq_ignore_ascii_case("transfer-encoding"), "a body in chunks");
    }
    ensure!(length <= 256 << 20, "a body of {length} bytes");
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a message's end is where its head says; what it cannot carry is an error and not a guess.
    #[test]
    fn lengths_are_read() {
        assert_eq!(body_length(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap(), 0);
        assert_eq!(body_length(b"POST / HTTP/1.1\r\ncontent-LENGTH: 17\r\n\r\n").unwrap(), 17);
        assert!(body_length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(body_length(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").is_err());
    }
}
