//! Stored batches on their way to a socket, beside the bytes that hyper writes.
//!
//! Hyper knows only bytes. So a body gives it [`Placeholders`], slices of one region of memory that nothing else uses, as long as what is to
//! be sent; and for each slice it notes the piece of a file that is meant. The socket looks at addresses: where hyper writes a slice of that
//! region, it sends the front of the queue instead.
//!
//! ```text
//!   hyper writes     [head 1][······ 1 MiB ······][··· 300 KiB ···][head 2]
//!   queue                     file a, 1 MiB        file b, 300 KiB
//!   on the wire      [head 1][  bytes of file a  ][bytes of b     ][head 2]
//! ```
//!
//! Both orders are the same, since a body notes its piece at the moment hyper takes the slice. Whenever slice and piece do not agree to the
//! byte, something has gone wrong that nobody foresaw, and the connection is closed: what lies in the region is never written.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body::Frame;
use tidegate_cluster::stored::Pieces;
use tidegate_cluster::{StoredPiece, StoredRanges};

/// What is sent at a time, at most: the socket is filled in about so many steps, and so much is read ahead of a slow disk.
const PIECE_BYTES: usize = 1 << 20;

/// The region: never read, never written, and never freed.
static REGION: LazyLock<&'static [u8]> = LazyLock::new(|| &*Box::leak(vec![0; PIECE_BYTES].into_boxed_slice()));

fn is_placeholder(slice: &[u8]) -> bool {
    REGION.as_ptr_range().contains(&slice.as_ptr())
}

/// What can stand in the queue.
pub(super) trait Piece: Clone {
    fn bytes(&self) -> u64;
    fn skip(&mut self, bytes: u64);
}

impl Piece for StoredPiece {
    fn bytes(&self) -> u64 {
        StoredPiece::bytes(self)
    }

    fn skip(&mut self, bytes: u64) {
        self.split_front(bytes);
    }
}

/// The queue of one connection. Hyper takes no more of a body while it has much to write, so it holds a few pieces at most.
#[derive(Debug)]
pub(super) struct Outgoing<P = StoredPiece> {
    pieces: Mutex<VecDeque<P>>,
}

impl<P> Default for Outgoing<P> {
    fn default() -> Self {
        Self { pieces: Mutex::default() }
    }
}

/// What is to be written next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<P> {
    /// So many slices, as they are.
    Slices(usize),
    /// A piece, in place of the first slice.
    Piece(P),
}

impl<P: Piece> Outgoing<P> {
    fn pieces(&self) -> MutexGuard<'_, VecDeque<P>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a piece at the end, and gives what hyper is to write in its place.
    fn push(&self, piece: P) -> Bytes {
        let bytes = usize::try_from(piece.bytes()).unwrap_or(usize::MAX);
        let placeholder = &REGION[..bytes]; // Pieces are made to fit.
        self.pieces().push_back(piece);
        Bytes::from_static(placeholder)
    }

    /// What of `slices` is to be written next, and how.
    ///
    /// # Errors
    /// If the slice of a placeholder and the piece at the front are not of the same length.
    pub(super) fn next(&self, slices: &[IoSlice<'_>]) -> io::Result<Next<P>> {
        let is_placed = |slice: &IoSlice<'_>| !slice.is_empty() && is_placeholder(slice);
        let first = slices.iter().find(|slice| !slice.is_empty());
        let Some(placeholder) = first.filter(|slice| is_placed(slice)) else {
            return Ok(Next::Slices(slices.iter().take_while(|slice| !is_placed(slice)).count()));
        };
        match self.pieces().front() {
            Some(piece) if piece.bytes() == placeholder.len() as u64 => Ok(Next::Piece(piece.clone())),
            _ => Err(disagree()),
        }
    }

    /// So much of the piece at the front is on its way.
    pub(super) fn sent(&self, bytes: u64) {
        let mut pieces = self.pieces();
        if let Some(front) = pieces.front_mut() {
            front.skip(bytes);
            if front.bytes() == 0 {
                pieces.pop_front();
            }
        }
    }

    /// Whether all is sent that was put in.
    ///
    /// # Errors
    /// If not.
    pub(super) fn check_empty(&self) -> io::Result<()> {
        if self.pieces().is_empty() { Ok(()) } else { Err(disagree()) }
    }
}

fn disagree() -> io::Error {
    tracing::error!("what was to be sent and what was to be written do not agree; the connection is closed");
    io::Error::new(io::ErrorKind::InvalidData, "what was to be sent and what was to be written do not agree")
}

/// A body that puts stored batches in the queue and gives hyper placeholders.
#[derive(Debug)]
pub(super) struct Placeholders {
    pieces: Pieces,
    bytes_left: u64,
    outgoing: Arc<Outgoing>,
}

impl Placeholders {
    pub(super) fn new(ranges: &StoredRanges, outgoing: Arc<Outgoing>) -> Self {
        Self { pieces: ranges.pieces(PIECE_BYTES as u64), bytes_left: ranges.bytes(), outgoing }
    }

    pub(super) fn bytes_left(&self) -> u64 {
        self.bytes_left
    }

    pub(super) fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        let piece = self.pieces.next()?;
        self.bytes_left -= piece.bytes();
        Some(Frame::data(self.outgoing.push(piece)))
    }
}

#[cfg(test)]
mod tests;
