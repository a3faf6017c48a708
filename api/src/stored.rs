//! Answers of stored batches: a body that copies them, and a word to the connection that it need not.
//!
//! The body reads its files stretch by stretch on threads that may wait for the disk, so it can go wherever bodies go: over HTTP/2, through
//! whatever layer looks at it. A [connection](crate::connection) that can send files takes the ranges instead ([`take_untouched`]), if the
//! answer is still as it was made.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tidegate_cluster::stored::Pieces;
use tidegate_cluster::{Admission, Error, Permit, StoredPiece, StoredRanges};
use tokio::task::JoinHandle;

/// What is read at a time.
const STRETCH_BYTES: u64 = 256 << 10;
/// Stretches of one answer that may be in memory: one being read, one read, and what the connection has taken and not written.
const STRETCHES_MAX: u64 = 4;

/// Among an answer's extensions: what its body holds, as long as it is there and nobody has begun to read it.
#[derive(Debug, Clone)]
struct Stored {
    ranges: StoredRanges,
    is_touched: Arc<AtomicBool>,
}

/// An answer of stored batches. What its copies take of memory is admitted here.
///
/// # Errors
/// [`Error::Overloaded`].
pub(crate) fn answer(headers: HeaderMap, ranges: StoredRanges, in_flight: &Admission) -> Result<Response<Body>, Error> {
    let memory = usize::try_from(ranges.bytes().min(STRETCH_BYTES * STRETCHES_MAX)).unwrap_or(usize::MAX);
    let permit = Arc::new(in_flight.admit(memory)?);
    let is_touched = Arc::new(AtomicBool::new(false));
    let copying = Copying {
        pieces: ranges.pieces(STRETCH_BYTES),
        bytes_left: ranges.bytes(),
        reading: None,
        permit,
        is_touched: Arc::clone(&is_touched),
    };
    let mut response = Response::new(Body::new(copying));
    *response.headers_mut() = headers;
    if ranges.can_be_sent() && ranges.bytes() > 0 {
        response.extensions_mut().insert(Stored { ranges, is_touched });
    }
    Ok(response)
}

/// The ranges that an answer's body holds, if that is all that the answer is: nobody has read of the body, put another in its place,
/// encoded it, or promised another length.
pub(crate) fn take_untouched(response: &mut Response<Body>) -> Option<StoredRanges> {
    let Stored { ranges, is_touched } = response.extensions_mut().remove::<Stored>()?;
    (!is_touched.load(Ordering::Acquire) && is_plain(response, ranges.bytes())).then_some(ranges)
}

/// Whether an answer is `bytes` bytes as they are.
fn is_plain(response: &Response<Body>, bytes: u64) -> bool {
    let headers = response.headers();
    let is_length = |value: &HeaderValue| value.to_str().ok().and_then(|text| text.parse().ok()) == Some(bytes);
    matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT)
        && !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(TRANSFER_ENCODING)
        && headers.get_all(CONTENT_LENGTH).iter().all(is_length)
        && response.body().size_hint().exact() == Some(bytes)
}

/// Counts bytes of stored batches that the system sent by itself.
pub(crate) fn count_sent(bytes: u64) {
    metrics::counter!("tidegate_fetch_bytes_total", "path" => "sendfile").increment(bytes);
}

/// The body that copies.
struct Copying {
    pieces: Pieces,
    bytes_left: u64,
    /// The stretch that comes next.
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
    permit: Arc<Permit>,
    is_touched: Arc<AtomicBool>,
}

impl Copying {
    fn read_next(&mut self) -> Option<JoinHandle<io::Result<Vec<u8>>>> {
        let piece: StoredPiece = self.pieces.next()?;
        Some(tokio::task::spawn_blocking(move || piece.read()))
    }
}

impl HttpBody for Copying {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        this.is_touched.store(true, Ordering::Release);
        if this.reading.is_none() {
            this.reading = this.read_next();
        }
        let Some(reading) = &mut this.reading else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(context));
        this.reading = None;
        let bytes = read.map_err(io::Error::other).flatten().inspect_err(|error| tracing::warn!(%error, "stored batches were not read"))?;
        this.reading = this.read_next();
        this.bytes_left -= bytes.len() as u64;
        metrics::counter!("tidegate_fetch_bytes_total", "path" => "copy").increment(bytes.len() as u64);
        let held = Held { bytes, _permit: Arc::clone(&this.permit) };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(held)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes_left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes_left)
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        // Whatever stands in its place is not what was made here.
        self.is_touched.store(true, Ordering::Release);
    }
}

/// Bytes and the permit that covers them.
struct Held {
    bytes: Vec<u8>,
    _permit: Arc<Permit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn made() -> Response<Body> {
        let in_flight = Admission::new("test", 1 << 20);
        let mut response = answer(HeaderMap::new(), StoredRanges::default(), &in_flight).unwrap();
        // What `answer` does for files that the system can send.
        let is_touched = Arc::new(AtomicBool::new(false));
        let copying = Copying {
            pieces: StoredRanges::default().pieces(1),
            bytes_left: 0,
            reading: None,
            permit: Arc::new(in_flight.admit(0).unwrap()),
            is_touched: Arc::clone(&is_touched),
        };
        *response.body_mut() = Body::new(copying);
        response.extensions_mut().insert(Stored { ranges: StoredRanges::default(), is_touched });
        response
    }

    /// A promise: ranges are given in place of a body only while it is the one that was made, and nobody has read of it.
    #[tokio::test]
    async fn a_touched_body_stays_as_it_is() {
        assert!(take_untouched(&mut made()).is_some(), "as it was made");
        assert!(take_untouched(&mut Response::new(Body::empty())).is_none(), "any other answer");

        let mut collected = made();
        let body = std::mem::take(collected.body_mut());
        *collected.body_mut() = Body::from(body.collect().await.unwrap().to_bytes());
        assert!(take_untouched(&mut collected).is_none(), "read by a layer, and as long as before");

        let mut replaced = made();
        *replaced.body_mut() = Body::empty();
        assert!(take_untouched(&mut replaced).is_none(), "another body of the same length");

        let mut begun = made();
        assert!(begun.body_mut().frame().await.is_none());
        assert!(take_untouched(&mut begun).is_none(), "a layer has begun to read");

        for (name, value) in [(CONTENT_ENCODING, "gzip"), (TRANSFER_ENCODING, "chunked"), (CONTENT_LENGTH, "1")] {
            let mut encoded = made();
            encoded.headers_mut().insert(&name, HeaderValue::from_static(value));
            assert!(take_untouched(&mut encoded).is_none(), "{name}: {value}");
        }
        let mut refused = made();
        *refused.status_mut() = StatusCode::NOT_FOUND;
        assert!(take_untouched(&mut refused).is_none(), "another status");
    }
}
