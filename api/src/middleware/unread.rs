//! Bodies that nobody reads to their end: known when the answer is made, which then closes the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::Request;
use axum::http::Version;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// Whether something is left of a request's body.
#[derive(Debug, Default)]
pub(super) struct Unread(Option<Arc<AtomicBool>>);

impl Unread {
    /// Whether the body has not been read to its end.
    pub(super) fn is_some_left(&self) -> bool {
        self.0.as_ref().is_some_and(|has_ended| !has_ended.load(Ordering::Relaxed))
    }
}

/// The request, with `unread` told how far its body is read. HTTP/2 ends a stream, not its connection, so its bodies are left alone.
pub(super) fn watched(request: Request, unread: &mut Unread) -> Request {
    if request.version() == Version::HTTP_2 || request.body().is_end_stream() {
        return request;
    }
    let has_ended = Arc::new(AtomicBool::new(false));
    *unread = Unread(Some(Arc::clone(&has_ended)));
    request.map(|body| Body::new(Watched { body, has_ended }))
}

struct Watched {
    body: Body,
    has_ended: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.has_ended.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
