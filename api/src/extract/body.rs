//! Bodies as they arrive: bounded in bytes, in time and in what all requests together may hold.
//!
//! In time: a piece follows the one before within [`Limits::body_idle_timeout_ms`], and a body that is read whole has come with 64 KiB a
//! second at least after a first grace of as much, within 10 minutes at most. Else it is 408 `request-timeout`.
//!
//! Nothing is allocated by a stated length. What is held is taken from the node's bound as it comes and given back with the [`Permit`].

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Buf, Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use tidegate_cluster::{Admission, Permit};
use tidegate_types::{ErrorCode, Limits};

use super::decode::{Decoder, content_coding};
use crate::error::ApiError;
use crate::state::ApiState;

/// The most that is decoded in one piece.
const DECODE_BYTES: usize = 64 << 10;
/// How much is decoded before other tasks get their turn.
const YIELD_BYTES: usize = 1 << 20;
/// A whole body must arrive with this many bytes a second, after a first grace of the idle timeout: a little now and then keeps nothing open.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// Room for a body whose length is stated, and within the bound, is taken at once up to this; more is grown into as it comes.
const ROOM_BYTES_MAX: u64 = 256 << 10;
/// However large it is, a whole body arrives within this.
const WHOLE_MAX: Duration = Duration::from_secs(600);

/// Reads a body whole and decoded. The permit covers its bytes: keep it until the answer is made.
///
/// # Errors
/// 413 `body-too-large`, 415 `unsupported-content-encoding`, 400 `malformed-body`, 408 `request-timeout`, 503 `overloaded`, `starting`, `draining`.
pub async fn read_body(state: &ApiState, headers: &HeaderMap, body: Body) -> Result<(Bytes, Permit), ApiError> {
    let admission = state.broker()?.in_flight().clone();
    read_whole(&admission, state.limits(), headers, body).await
}

async fn read_whole(admission: &Admission, limits: &Limits, headers: &HeaderMap, body: Body) -> Result<(Bytes, Permit), ApiError> {
    let mut arriving = Arriving::new(limits, headers, body)?;
    arriving.paced = true;
    let mut permit = admission.admit(0).map_err(refuse)?;
    if arriving.decoder.is_none() {
        let Some(first) = arriving.frame().await? else {
            return Ok((Bytes::new(), permit));
        };
        if arriving.body.is_end_stream() {
            check_size(first.len(), limits)?;
            permit.grow(first.len()).map_err(refuse)?;
            return Ok((first, permit)); // Most bodies: one piece, not copied.
        }
        arriving.pending = first;
    }
    let mut whole = BytesMut::with_capacity(arriving.room());
    while let Some(read) = arriving.read(&mut whole).await? {
        check_size(whole.len(), limits)?;
        permit.grow(read).map_err(refuse)?;
    }
    Ok((whole.freeze(), permit))
}

fn check_size(size: usize, limits: &Limits) -> Result<(), ApiError> {
    if size > limits.body_bytes {
        return Err(too_large(limits));
    }
    Ok(())
}

fn too_large(limits: &Limits) -> ApiError {
    let limit = limits.body_bytes;
    ApiError::new(ErrorCode::BodyTooLarge, format!("a body has at most {limit} bytes, as sent and as decoded"))
        .with("limit", limit)
        .closing()
}

/// A body that is not read to its end closes its connection: the rest of it would be taken for the next request.
fn refuse(error: tidegate_cluster::Error) -> ApiError {
    ApiError::from(error).closing()
}

/// A body on its way in.
struct Arriving {
    body: Body,
    decoder: Option<Decoder>,
    /// Received and not yet taken.
    pending: Bytes,
    stated: Option<u64>,
    idle: Duration,
    /// Whether the body as a whole must keep a pace.
    paced: bool,
    begun: Instant,
    received: u64,
    decoded_since_yield: usize,
}

impl Arriving {
    fn new(limits: &Limits, headers: &HeaderMap, body: Body) -> Result<Self, ApiError> {
        let decoder = content_coding(headers)?.map(Decoder::new).transpose()?;
        let stated = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u64>().ok());
        if stated.is_some_and(|stated| stated > limits.body_bytes as u64) {
            return Err(too_large(limits)); // Before anything of it is asked for: `Expect: 100-continue` gets this instead.
        }
        Ok(Self {
            body,
            decoder,
            pending: Bytes::new(),
            stated,
            idle: Duration::from_millis(limits.body_idle_timeout_ms),
            paced: false,
            begun: Instant::now(),
            received: 0,
            decoded_since_yield: 0,
        })
    }

    /// How much to take room for before the rest of the body comes.
    fn room(&self) -> usize {
        let plain = self.stated.filter(|_| self.decoder.is_none());
        usize::try_from(plain.unwrap_or(0).min(ROOM_BYTES_MAX)).unwrap_or(0)
    }

    /// Appends some more of the decoded body to `to`; returns how much, or `None` at the end.
    async fn read(&mut self, to: &mut BytesMut) -> Result<Option<usize>, ApiError> {
        loop {
            if let Some(read) = self.take_pending(to).await? {
                return Ok(Some(read));
            }
            match self.frame().await? {
                Some(frame) => self.pending = frame,
                None => {
                    self.decoder.as_ref().map_or(Ok(()), Decoder::finish)?;
                    return Ok(None);
                }
            }
        }
    }

    /// Moves some of what is pending; `None` if nothing came of it.
    async fn take_pending(&mut self, to: &mut BytesMut) -> Result<Option<usize>, ApiError> {
        let Some(decoder) = &mut self.decoder else {
            let read = self.pending.len();
            to.extend_from_slice(&std::mem::take(&mut self.pending));
            return Ok(Some(read).filter(|read| *read > 0));
        };
        // A decoder may hold output although its input is used up, so it is asked until it gives nothing.
        let start = to.len();
        to.resize(start + DECODE_BYTES, 0);
        let mut input = self.pending.as_ref();
        let outcome = decoder.decode(&mut input, &mut to[start..]);
        let used = self.pending.len() - input.len();
        let read = *outcome.as_ref().unwrap_or(&0);
        to.truncate(start + read);
        self.pending.advance(used);
        outcome?;
        self.decoded_since_yield += read;
        if self.decoded_since_yield >= YIELD_BYTES {
            self.decoded_since_yield = 0;
            tokio::task::yield_now().await;
        }
        Ok(Some(read).filter(|read| *read > 0))
    }

    /// The next piece as received.
    async fn frame(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let frame = match tokio::time::timeout(self.patience(), self.body.frame()).await {
                Err(_) => return Err(ApiError::new(ErrorCode::RequestTimeout, "the body came too slowly").closing()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => {
                    return Err(ApiError::malformed_body("the body ended before its stated length, or its framing is wrong").closing());
                }
                Ok(Some(Ok(frame))) => frame,
            };
            if let Ok(data) = frame.into_data() // Trailers are of no interest.
                && !data.is_empty()
            {
                self.received += data.len() as u64;
                return Ok(Some(data));
            }
        }
    }

    /// How long to wait for the next piece.
    fn patience(&self) -> Duration {
        if !self.paced || self.received == 0 {
            return self.idle;
        }
        allowed(self.idle, self.received).saturating_sub(self.begun.elapsed()).min(self.idle)
    }
}

/// How long a whole body may have taken when this much of it is there.
fn allowed(idle: Duration, received: u64) -> Duration {
    let paced = Duration::from_millis(received.saturating_mul(1_000) / BYTES_PER_SECOND_MIN);
    idle.saturating_add(paced).min(WHOLE_MAX)
}

/// A body of lines, read as it comes: its length is unbounded, what is held of it is not.
pub struct BodyLines {
    arriving: Arriving,
    admission: Admission,
    /// Decoded and not yet handed out.
    buffer: BytesMut,
    /// Covers `buffer`.
    permit: Permit,
    line_bytes_max: usize,
    next_line: u64,
    ended: bool,
}

/// Some lines of a body.
#[derive(Debug)]
pub struct Lines {
    /// Number of the first line, counted from 1.
    pub first_line: u64,
    /// The lines without their line feed, blank ones included.
    pub lines: Vec<Bytes>,
    /// Covers their bytes.
    pub permit: Permit,
}

impl BodyLines {
    /// A reader of `body`; a line has at most as many bytes as a whole body elsewhere.
    ///
    /// # Errors
    /// 415 `unsupported-content-encoding`, 503 `overloaded`, `starting`, `draining`.
    pub fn new(state: &ApiState, headers: &HeaderMap, body: Body) -> Result<Self, ApiError> {
        let admission = state.broker()?.in_flight().clone();
        Self::with_limits(admission, state.limits(), headers, body)
    }

    fn with_limits(admission: Admission, limits: &Limits, headers: &HeaderMap, body: Body) -> Result<Self, ApiError> {
        let unbounded = {
            let mut headers = headers.clone();
            headers.remove(CONTENT_LENGTH);
            headers
        };
        let permit = admission.admit(0).map_err(refuse)?;
        Ok(Self {
            arriving: Arriving::new(limits, &unbounded, body)?,
            admission,
            buffer: BytesMut::new(),
            permit,
            line_bytes_max: limits.body_bytes,
            next_line: 1,
            ended: false,
        })
    }

    /// Number of the line that the next call begins with, counted from 1.
    pub fn next_line(&self) -> u64 {
        self.next_line
    }

    /// Waits for the next `lines_max` lines. Fewer come only at the end of the body, or when they make `bytes_max` bytes: both depend on
    /// the body alone, not on how it arrives, so that whoever sends it again gets the same pieces. `None` after the last.
    ///
    /// # Errors
    /// 413 `body-too-large` for a line over the bound, 400 `malformed-body`, 408 `request-timeout`, 503 `overloaded`.
    pub async fn next_lines(&mut self, lines_max: usize, bytes_max: usize) -> Result<Option<Lines>, ApiError> {
        let mut found: Vec<std::ops::Range<usize>> = Vec::new();
        let (mut line_start, mut searched) = (0, 0);
        while found.len() < lines_max && line_start < bytes_max.max(1) {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[searched..]) {
                found.push(line_start..searched + at);
                line_start = searched + at + 1;
                searched = line_start;
            } else if self.ended {
                if line_start < self.buffer.len() {
                    found.push(line_start..self.buffer.len());
                    line_start = self.buffer.len();
                }
                break;
            } else {
                searched = self.buffer.len();
                self.check_line(searched - line_start, found.len())?;
                self.read_more().await?;
            }
        }
        if found.is_empty() {
            return Ok(None);
        }
        self.hand_out(&found, line_start).map(Some)
    }

    fn check_line(&self, length: usize, lines_before: usize) -> Result<(), ApiError> {
        if length <= self.line_bytes_max {
            return Ok(());
        }
        let line = self.next_line + lines_before as u64;
        let detail = format!("line {line} has more than {} bytes", self.line_bytes_max);
        Err(ApiError::new(ErrorCode::BodyTooLarge, detail).with("line", line).with("limit", self.line_bytes_max).closing())
    }

    async fn read_more(&mut self) -> Result<(), ApiError> {
        match self.arriving.read(&mut self.buffer).await? {
            Some(read) => self.permit.grow(read).map_err(refuse),
            None => {
                self.ended = true;
                Ok(())
            }
        }
    }

    fn hand_out(&mut self, found: &[std::ops::Range<usize>], end: usize) -> Result<Lines, ApiError> {
        let block = self.buffer.split_to(end).freeze();
        let rest = self.admission.admit(self.buffer.len()).map_err(refuse)?;
        let lines = Lines {
            first_line: self.next_line,
            lines: found.iter().map(|range| block.slice(range.clone())).collect(),
            permit: std::mem::replace(&mut self.permit, rest),
        };
        self.next_line += found.len() as u64;
        Ok(lines)
    }
}

impl std::fmt::Debug for BodyLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyLines").field("next_line", &self.next_line).field("buffered", &self.buffer.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::task::Poll;

    use axum::http::HeaderValue;
    use axum::http::header::CONTENT_ENCODING;
    use futures_util::{StreamExt, stream};
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits { body_bytes: 100_000, body_idle_timeout_ms: 60, ..Limits::default() }
    }

    fn pieces(pieces: Vec<Vec<u8>>) -> Body {
        Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, io::Error>)))
    }

    fn gzip_headers() -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static("gzip"))])
    }

    fn gzipped(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    async fn code_of(admission: &Admission, headers: HeaderMap, body: Body) -> ErrorCode {
        let error = read_whole(admission, &limits(), &headers, body).await.unwrap_err();
        assert_eq!(admission.used(), 0, "what was held is given back");
        error.code()
    }

    /// A promise: a body arrives as it was sent, in one piece or many, plain or coded, and its bytes are held until the permit goes.
    #[tokio::test]
    async fn bodies_arrive_whole() {
        let admission = Admission::new("test", 1 << 20);
        let whole = Bytes::from(vec![7; 5000]);
        let (read, permit) = read_whole(&admission, &limits(), &HeaderMap::new(), Body::from(whole.clone())).await.unwrap();
        assert_eq!(read.as_ptr(), whole.as_ptr(), "one piece is not copied");
        assert_eq!((permit.amount(), admission.used()), (5000, 5000));
        drop(permit);
        let many = pieces(vec![b"ab".to_vec(), vec![], b"c".to_vec()]);
        let (read, permit) = read_whole(&admission, &limits(), &HeaderMap::new(), many).await.unwrap();
        assert_eq!((read.as_ref(), permit.amount()), (b"abc".as_slice(), 3));
        let coded: Vec<Vec<u8>> = gzipped(&[9; 90_000]).chunks(11).map(<[u8]>::to_vec).collect();
        let (read, permit) = read_whole(&admission, &limits(), &gzip_headers(), pieces(coded)).await.unwrap();
        assert!(read == vec![9; 90_000] && permit.amount() == 90_000);
    }

    /// A promise: a body over the bound is refused by its stated length before a byte of it is read, and by what comes if it states none.
    #[tokio::test]
    async fn large_bodies_are_refused() {
        let admission = Admission::new("test", 1 << 20);
        let stated = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("100001"))]);
        let unread = Body::from_stream(stream::poll_fn(|_| -> Poll<Option<io::Result<Bytes>>> { panic!("it is read") }));
        assert_eq!(code_of(&admission, stated, unread).await, ErrorCode::BodyTooLarge);
        let endless = Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>(vec![0; 1000])));
        assert_eq!(code_of(&admission, HeaderMap::new(), endless).await, ErrorCode::BodyTooLarge);
        let huge = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("99999999999999999999"))]);
        let short = read_whole(&admission, &limits(), &huge, Body::from("x")).await.unwrap();
        assert_eq!(short.0.as_ref(), b"x", "a length that is none is nothing to go by");
    }

    /// A promise: a bomb is refused at the bound, not after it has gone off.
    #[tokio::test]
    async fn bombs_are_refused() {
        let admission = Admission::new("test", 100_000 + DECODE_BYTES);
        let bomb = gzipped(&vec![0; 50_000_000]);
        assert!(bomb.len() < 100_000);
        // The admission has room for the bound and one more piece: a decoder that ran ahead would be refused for that instead.
        assert_eq!(code_of(&admission, gzip_headers(), Body::from(bomb)).await, ErrorCode::BodyTooLarge);
    }

    /// A promise: all bodies together stay within the node's bound.
    #[tokio::test]
    async fn the_node_is_not_overrun() {
        let admission = Admission::new("test", 5000);
        let held = read_whole(&admission, &limits(), &HeaderMap::new(), Body::from(vec![0; 3000])).await.unwrap();
        let error = read_whole(&admission, &limits(), &HeaderMap::new(), Body::from(vec![0; 3000])).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Overloaded);
        drop(held);
        assert!(read_whole(&admission, &limits(), &HeaderMap::new(), Body::from(vec![0; 3000])).await.is_ok());
    }

    /// A promise: a body that stops, trickles, breaks off or does not decode ends with the reason.
    #[tokio::test]
    async fn bodies_that_do_not_come_are_given_up() {
        let admission = Admission::new("test", 1 << 20);
        let first = || stream::iter([Ok::<_, io::Error>(vec![1; 10])]);
        let stops = Body::from_stream(first().chain(stream::pending()));
        assert_eq!(code_of(&admission, HeaderMap::new(), stops).await, ErrorCode::RequestTimeout);
        let trickles = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, io::Error>(vec![1; 1]), ()))
        });
        assert_eq!(code_of(&admission, HeaderMap::new(), Body::from_stream(trickles)).await, ErrorCode::RequestTimeout);
        // Some 12 KB a second, far from idle: it would take most of an hour for what a body may have.
        let slow = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, io::Error>(vec![1; 64]), ()))
        });
        assert_eq!(code_of(&admission, HeaderMap::new(), Body::from_stream(slow)).await, ErrorCode::RequestTimeout);
        let breaks = Body::from_stream(first().chain(stream::iter([Err(io::Error::other("gone"))])));
        assert_eq!(code_of(&admission, HeaderMap::new(), breaks).await, ErrorCode::MalformedBody);
        assert_eq!(code_of(&admission, gzip_headers(), Body::from("plain")).await, ErrorCode::MalformedBody);
        let cut = gzipped(b"cut short")[..15].to_vec();
        assert_eq!(code_of(&admission, gzip_headers(), Body::from(cut)).await, ErrorCode::MalformedBody);
    }

    /// A promise: a body has time by its size, but never more than 10 minutes.
    #[test]
    fn a_body_has_its_time() {
        let idle = Duration::from_secs(30);
        assert_eq!(allowed(idle, 1), idle);
        assert_eq!(allowed(idle, 32 << 20), Duration::from_secs(30 + 512));
        assert_eq!((allowed(idle, 1 << 30), allowed(idle, u64::MAX)), (WHOLE_MAX, WHOLE_MAX));
    }

    async fn all_lines(parts: Vec<Vec<u8>>, headers: &HeaderMap, lines_max: usize, bytes_max: usize) -> Vec<(u64, Vec<Vec<u8>>)> {
        let admission = Admission::new("test", 1 << 20);
        let mut reader = BodyLines::with_limits(admission.clone(), &limits(), headers, pieces(parts)).unwrap();
        let mut all = Vec::new();
        while let Some(lines) = reader.next_lines(lines_max, bytes_max).await.unwrap() {
            assert_eq!(reader.next_line(), lines.first_line + lines.lines.len() as u64);
            assert!(admission.used() >= lines.lines.iter().map(Bytes::len).sum());
            all.push((lines.first_line, lines.lines.iter().map(|line| line.to_vec()).collect()));
        }
        drop(reader);
        assert_eq!(admission.used(), 0);
        all
    }

    /// A promise: lines come counted from 1, blank ones too, the last with or without its line feed.
    #[tokio::test]
    async fn lines_are_counted() {
        let body = b"one\n\ntwo\nthree".to_vec();
        let to_vec = |lines: &[&str]| lines.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>();
        let expected = vec![(1, to_vec(&["one", ""])), (3, to_vec(&["two", "three"]))];
        assert_eq!(all_lines(vec![body], &HeaderMap::new(), 2, 1000).await, expected);
        assert_eq!(all_lines(vec![b"a\n".to_vec()], &HeaderMap::new(), 2, 1000).await, vec![(1, to_vec(&["a"]))]);
        assert!(all_lines(vec![], &HeaderMap::new(), 2, 1000).await.is_empty());
        assert_eq!(all_lines(vec![gzipped(b"a\nb")], &gzip_headers(), 5, 1000).await, vec![(1, to_vec(&["a", "b"]))]);
    }

    /// A promise: a line without end is refused by its number when it passes the bound, and a long stream of short ones is not.
    #[tokio::test]
    async fn endless_lines_are_refused() {
        let admission = Admission::new("test", 1 << 20);
        let endless = stream::iter([Ok::<_, io::Error>(b"{}\n".to_vec())]).chain(stream::repeat_with(|| Ok(vec![b'x'; 1000])));
        let mut reader = BodyLines::with_limits(admission.clone(), &limits(), &HeaderMap::new(), Body::from_stream(endless)).unwrap();
        let error = reader.next_lines(1000, 1 << 20).await.unwrap_err();
        assert_eq!((error.code(), &error.extras()["line"]), (ErrorCode::BodyTooLarge, &2.into()));
        let long: Vec<Vec<u8>> = (0..5000).map(|_| b"0123456789012345678901234567890123456789\n".to_vec()).collect();
        assert_eq!(all_lines(long, &HeaderMap::new(), 1000, 1 << 20).await.len(), 5);
    }

    proptest! {
        /// A promise: which lines come together depends on the body alone, not on how it was cut on its way.
        #[test]
        fn pieces_of_lines_do_not_depend_on_arrival(
            body in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a')], 0..200),
            cut in 1..50_usize,
            lines_max in 1..6_usize,
            bytes_max in 1..40_usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let whole = runtime.block_on(all_lines(vec![body.clone()], &HeaderMap::new(), lines_max, bytes_max));
            let parts = body.chunks(cut).map(<[u8]>::to_vec).collect();
            let cut = runtime.block_on(all_lines(parts, &HeaderMap::new(), lines_max, bytes_max));
            prop_assert_eq!(&whole, &cut);
            let mut joined = whole.into_iter().flat_map(|(_, lines)| lines).collect::<Vec<_>>().join(&b'\n');
            if body.ends_with(b"\n") {
                joined.push(b'\n');
            }
            prop_assert_eq!(joined, body);
        }
    }
}
