//! The socket as hyper sees it: it counts what moves, is strict with slow heads, says goodbye, and sends files where hyper writes placeholders.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::outgoing::{Next, Outgoing};
use super::progress::{IDLE, IN_HEAD, Progress};
use super::send::FileSender;

/// The socket as hyper sees it.
pub(super) struct Socket {
    io: TokioIo<TcpStream>,
    /// Read before the protocol was known.
    prefix: Bytes,
    progress: Arc<Progress>,
    /// How long a head may take; `None` where heads are not ours to see.
    head_timeout: Option<Duration>,
    /// Runs only while a head is incomplete, so that most requests start none.
    head_timer: Option<Pin<Box<Sleep>>>,
    /// There once the last answer is out.
    goodbye: Option<Goodbye>,
    /// Stored batches on their way; `None` where answers are only bytes.
    files: Option<FileSender>,
}

/// How long a client may be silent before it is taken to have noticed its answer. A busy one takes seconds, and a reset would cost it the
/// answer: it could not know then that nothing was written.
const GOODBYE_SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long a client that goes on sending is listened to.
const GOODBYE_MAX: Duration = Duration::from_secs(30);

/// The time between the last byte to a client and the end of its connection.
struct Goodbye {
    ends: tokio::time::Instant,
    silence: Pin<Box<Sleep>>,
}

impl Goodbye {
    fn new() -> Self {
        Self { ends: tokio::time::Instant::now() + GOODBYE_MAX, silence: Box::pin(tokio::time::sleep(GOODBYE_SILENCE_MAX)) }
    }

    fn heard(&mut self) {
        let silent_until = tokio::time::Instant::now() + GOODBYE_SILENCE_MAX;
        self.silence.as_mut().reset(silent_until.min(self.ends));
    }
}

impl Socket {
    /// `prefix` was read before the protocol was known. `head_timeout` is how long a head may take, where heads are ours to see.
    pub(super) fn new(stream: TcpStream, prefix: Bytes, progress: Arc<Progress>, head_timeout: Option<Duration>) -> Self {
        Self { io: TokioIo::new(stream), prefix, progress, head_timeout, head_timer: None, goodbye: None, files: None }
    }

    /// The same, but what `outgoing` holds is sent in place of its placeholders.
    pub(super) fn sending(self, outgoing: Arc<Outgoing>) -> Self {
        Self { files: Some(FileSender::new(outgoing)), ..self }
    }

    fn received(&mut self) {
        self.progress.count();
        if self.progress.phase() == IDLE {
            self.progress.set(IN_HEAD);
            self.head_timer = None;
        }
    }

    /// Fails when the head that is awaited has taken too long.
    fn poll_head_timer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(timeout) = self.head_timeout.filter(|_| self.progress.phase() == IN_HEAD) else {
            return Poll::Pending;
        };
        let timer = self.head_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head of the request came too slowly")))
    }
}

impl Read for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let length = self.prefix.len().min(buffer.remaining());
            buffer.put_slice(&self.prefix[..length]);
            self.prefix.advance(length);
            self.received();
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.io).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                self.received();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_head_timer(context),
        }
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(files) = &self.files {
            // Bytes that come alone may be a copy of several: there is no telling what is in them.
            files.outgoing().check_empty()?;
        }
        let written = ready!(Pin::new(&mut self.io).poll_write(context, bytes));
        self.progress.count();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(files) = &self.files {
            // Hyper flushes when it has nothing left to write; so there is nothing left to send.
            files.outgoing().check_empty()?;
        }
        Pin::new(&mut self.io).poll_flush(context)
    }

    /// Says goodbye, then listens a little longer: closing with unread bytes would reset the connection, and a client that is still
    /// sending would lose the answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.goodbye.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(context))?;
        }
        let goodbye = this.goodbye.get_or_insert_with(Goodbye::new);
        loop {
            if goodbye.silence.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut space = [0; 4 << 10];
            let mut thrown_away = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(&mut this.io).poll_read(context, thrown_away.unfilled()));
            if read.is_err() || thrown_away.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            goodbye.heard();
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = match &mut this.files {
            None => ready!(Pin::new(&mut this.io).poll_write_vectored(context, slices)),
            Some(files) => match files.outgoing().next(slices)? {
                Next::Slices(count) => ready!(Pin::new(&mut this.io).poll_write_vectored(context, &slices[..count])),
                Next::Piece(piece) => ready!(files.poll_send(this.io.inner(), context, &piece)),
            },
        };
        this.progress.count();
        Poll::Ready(written)
    }
}
