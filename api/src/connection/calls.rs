//! The routes as a connection calls them, and the last look at an answer before hyper has it.
//!
//! This is the outermost service: nothing sees an answer after it but hyper. So it is the one place that may put placeholders where
//! stored batches were (see [`super::outgoing`]), and it does so only for an answer that nobody has touched.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, Version};
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::outgoing::{Outgoing, Placeholders};
use super::progress::{BUSY, IDLE, Progress};
use crate::stored;

/// The routes, as one connection calls them.
pub(super) struct Calls {
    pub(super) app: Router,
    pub(super) progress: Arc<Progress>,
    /// Where stored batches go that need not be copied; `None` where the connection can only write bytes.
    pub(super) outgoing: Option<Arc<Outgoing>>,
}

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Call;

    fn call(&self, request: Request<Incoming>) -> Call {
        self.progress.set(BUSY);
        let is_for_body = request.method() == Method::GET && request.version() == Version::HTTP_11;
        let outgoing = self.outgoing.clone().filter(|_| is_for_body);
        let answer = tower::Service::call(&mut self.app.clone(), request);
        Call { answer, progress: Arc::clone(&self.progress), outgoing }
    }
}

/// An answer on its way.
pub(super) struct Call {
    answer: RouteFuture<Infallible>,
    progress: Arc<Progress>,
    outgoing: Option<Arc<Outgoing>>,
}

impl Future for Call {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = ready!(Pin::new(&mut self.answer).poll(context))?;
        let ranges = stored::take_untouched(&mut response);
        let progress = Arc::clone(&self.progress);
        Poll::Ready(Ok(match (ranges, self.outgoing.take()) {
            // Here the copying body ends, and what it had admitted is given back.
            (Some(ranges), Some(outgoing)) => {
                response.map(|_| Answer { body: AnswerBody::Stored(Placeholders::new(&ranges, outgoing)), progress })
            }
            _ => response.map(|body| Answer { body: AnswerBody::Bytes(body), progress }),
        }))
    }
}

/// The body of an answer. When it is gone, the connection waits for the next request.
pub(super) struct Answer {
    body: AnswerBody,
    progress: Arc<Progress>,
}

enum AnswerBody {
    Bytes(Body),
    Stored(Placeholders),
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.body {
            AnswerBody::Bytes(body) => Pin::new(body).poll_frame(context),
            AnswerBody::Stored(body) => Poll::Ready(body.next_frame().map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            AnswerBody::Bytes(body) => body.is_end_stream(),
            AnswerBody::Stored(body) => body.bytes_left() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            AnswerBody::Bytes(body) => body.size_hint(),
            AnswerBody::Stored(body) => SizeHint::with_exact(body.bytes_left()),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.progress.set(IDLE);
    }
}
