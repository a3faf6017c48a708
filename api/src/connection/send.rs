//! Sending a piece of a file through a socket, without copying it and without waiting for the disk.
//!
//! The system's `sendfile` takes pages from the page cache. If one is not there, it waits for the disk, and with it everybody whom this
//! thread serves. So a piece is asked first whether it is cached; if not, a thread that may wait reads it. The answer holds for a moment only:
//! a client that takes a byte a second is sent pages that may have gone again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::fs::sendfile;
use rustix::io::Errno;
use tidegate_cluster::StoredPiece;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::outgoing::Outgoing;
use crate::stored::count_sent;

/// How long what was cached is taken to be so.
const FRESH: Duration = Duration::from_millis(200);

/// What sends the pieces of one connection.
pub(super) struct FileSender {
    outgoing: Arc<Outgoing>,
    /// When the piece at the front was found in the page cache.
    cached_at: Option<Instant>,
    loading: Option<JoinHandle<io::Result<()>>>,
}

impl FileSender {
    pub(super) fn new(outgoing: Arc<Outgoing>) -> Self {
        Self { outgoing, cached_at: None, loading: None }
    }

    pub(super) fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// Sends the first bytes of `piece`, which is at the front of the queue; gives how many.
    pub(super) fn poll_send(&mut self, stream: &TcpStream, context: &mut Context<'_>, piece: &StoredPiece) -> Poll<io::Result<usize>> {
        let Some(file) = piece.handle() else {
            return Poll::Ready(Err(io::Error::other("the system has no such file")));
        };
        let length = usize::try_from(piece.bytes()).unwrap_or(usize::MAX);
        loop {
            ready!(self.poll_cached(context, piece))?;
            ready!(stream.poll_write_ready(context))?;
            let mut position = piece.position();
            let sent = stream.try_io(Interest::WRITABLE, || Ok(sendfile(stream, file, Some(&mut position), length)?));
            match sent {
                Ok(0) => {
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter while it was sent");
                    tracing::warn!(%error, "connection closed");
                    return Poll::Ready(Err(error));
                }
                Ok(sent) => {
                    self.outgoing.sent(sent as u64);
                    if sent == length {
                        self.cached_at = None; // The next piece is asked anew.
                    }
                    count_sent(sent as u64);
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || Errno::from_io_error(&error) == Some(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Waits until the piece is cached.
    fn poll_cached(&mut self, context: &mut Context<'_>, piece: &StoredPiece) -> Poll<io::Result<()>> {
        if let Some(loading) = &mut self.loading {
            let loaded = ready!(Pin::new(loading).poll(context));
            self.loading = None;
            loaded.map_err(io::Error::other)??;
            self.cached_at = Some(Instant::now());
        }
        if self.cached_at.is_some_and(|at| at.elapsed() < FRESH) {
            return Poll::Ready(Ok(()));
        }
        if piece.is_cached()? {
            self.cached_at = Some(Instant::now());
            return Poll::Ready(Ok(()));
        }
        metrics::counter!("tidegate_cold_reads_total").increment(1);
        let piece = piece.clone();
        let loading = self.loading.insert(tokio::task::spawn_blocking(move || piece.load()));
        let loaded = ready!(Pin::new(loading).poll(context));
        self.loading = None;
        loaded.map_err(io::Error::other)??;
        self.cached_at = Some(Instant::now());
        Poll::Ready(Ok(()))
    }
}
