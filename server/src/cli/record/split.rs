//! Input cut into pieces: up to some bytes, with the line counted and a bound on what is held. Endless input is fine, an endless piece is not.

use std::io::{BufRead, Chain, ErrorKind, Read};

/// Why input cannot be turned into records, and at which line (from 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct InputError {
    /// The line of the input at which the trouble begins.
    pub(in crate::cli) line: u64,
    /// What is wrong.
    pub(in crate::cli) reason: String,
}

impl InputError {
    /// That, there.
    pub(in crate::cli) fn new(line: u64, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into() }
    }
}

/// What ended a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Ended {
    /// The bytes that were asked for.
    Delimiter,
    /// The other bytes, which came first.
    Other,
    /// The input's end.
    InputEnd,
}

/// Input that is cut into pieces.
#[derive(Debug)]
pub(in crate::cli) struct Splitter<R> {
    input: R,
    /// Bytes of one piece at most.
    piece_bytes_max: usize,
    /// Line feeds taken so far.
    line_feeds: u64,
}

impl<R: BufRead> Splitter<R> {
    /// Cuts `input` into pieces of at most `piece_bytes_max` bytes.
    pub(in crate::cli) const fn new(input: R, piece_bytes_max: usize) -> Self {
        Self { input, piece_bytes_max, line_feeds: 0 }
    }

    /// The line at which the next piece begins, from 1.
    pub(in crate::cli) const fn line(&self) -> u64 {
        self.line_feeds + 1
    }

    /// Reads into `piece` (emptied first) up to `delimiter` or `other`, whichever comes first; neither is part of the piece.
    pub(in crate::cli) fn piece(&mut self, delimiter: &[u8], other: Option<&[u8]>, piece: &mut Vec<u8>) -> Result<Ended, InputError> {
        let line = self.line();
        piece.clear();
        let (Some(last), other_last) = (delimiter.last().copied(), other.and_then(<[u8]>::last).copied()) else {
            return self.rest(piece).map(|()| Ended::InputEnd);
        };
        loop {
            let buffer = fill(&mut self.input, line)?;
            if buffer.is_empty() {
                self.count(line, piece);
                return Ok(Ended::InputEnd);
            }
            let found = memchr::memchr2(last, other_last.unwrap_or(last), buffer);
            let taken = found.map_or(buffer.len(), |at| at + 1);
            // Nothing beyond the bound is copied, so that the bound holds however large the buffer is.
            let room = self.piece_bytes_max.saturating_add(delimiter.len()).saturating_sub(piece.len());
            let is_whole = taken <= room;
            piece.extend_from_slice(&buffer[..taken.min(room)]);
            self.input.consume(taken.min(room));
            let ended = match other {
                _ if found.is_none() || !is_whole => None,
                _ if piece.ends_with(delimiter) => Some((Ended::Delimiter, delimiter.len())),
                Some(other) if piece.ends_with(other) => Some((Ended::Other, other.len())),
                _ => None,
            };
            if let Some((ended, length)) = ended {
                self.count(line, piece);
                piece.truncate(piece.len() - length);
                return Ok(ended);
            }
            if piece.len() > self.piece_bytes_max {
                return Err(self.too_long(line));
            }
        }
    }

    /// Reads into `piece` all that is left.
    fn rest(&mut self, piece: &mut Vec<u8>) -> Result<(), InputError> {
        let line = self.line();
        loop {
            let buffer = fill(&mut self.input, line)?;
            if buffer.is_empty() {
                self.count(line, piece);
                return Ok(());
            }
            if buffer.len() > self.piece_bytes_max - piece.len() {
                return Err(self.too_long(line));
            }
            let taken = buffer.len();
            piece.extend_from_slice(buffer);
            self.input.consume(taken);
        }
    }

    fn count(&mut self, line_before: u64, piece: &[u8]) {
        let feeds = memchr::memchr_iter(b'\n', piece).count();
        self.line_feeds = line_before - 1 + u64::try_from(feeds).unwrap_or(u64::MAX);
    }

    fn too_long(&self, line: u64) -> InputError {
        InputError::new(line, too_long(self.piece_bytes_max))
    }
}

/// What to say of something that is longer than it may be.
pub(in crate::cli) fn too_long(bytes_max: usize) -> String {
    format!("it is longer than {bytes_max} bytes, the most that a record of this topic may have (its config max.message.bytes)")
}

/// The bytes that are there; waits for some; empty at the end.
pub(in crate::cli) fn fill(input: &mut impl BufRead, line: u64) -> Result<&[u8], InputError> {
    // Asked twice, because the borrow of a first answer would outlive the question whether there was one.
    loop {
        match input.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(InputError::new(line, format!("it cannot be read: {error}"))),
        }
    }
    input.fill_buf().map_err(|error| InputError::new(line, format!("it cannot be read: {error}")))
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The input behind the byte order mark that some programs begin a UTF-8 text with.
pub(in crate::cli) fn without_byte_order_mark<R: BufRead>(mut input: R) -> Result<Chain<&'static [u8], R>, InputError> {
    let mut seen = 0;
    // One byte at a time, because a buffer may end anywhere, and no more is waited for than is there.
    while seen < BYTE_ORDER_MARK.len() && fill(&mut input, 1)?.first() == BYTE_ORDER_MARK.get(seen) {
        input.consume(1);
        seen += 1;
    }
    let begun = if seen == BYTE_ORDER_MARK.len() { &[][..] } else { &BYTE_ORDER_MARK[..seen] };
    Ok(begun.chain(input))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn pieces(input: &[u8], buffer: usize, delimiter: &[u8], bytes_max: usize) -> Result<Vec<(u64, Vec<u8>, Ended)>, InputError> {
        let mut splitter = Splitter::new(BufReader::with_capacity(buffer, input), bytes_max);
        let (mut pieces, mut piece) = (Vec::new(), Vec::new());
        loop {
            let line = splitter.line();
            let ended = splitter.piece(delimiter, None, &mut piece)?;
            if ended == Ended::InputEnd && piece.is_empty() {
                return Ok(pieces);
            }
            pieces.push((line, piece.clone(), ended));
        }
    }

    /// A promise: a piece may have as many bytes as the bound says and not one more, and the error names its line.
    #[test]
    fn the_bound_is_exact() {
        for buffer in [1, 2, 3, 100] {
            assert!(pieces(b"123\n1234\n123", buffer, b"\n", 4).is_ok());
            let error = pieces(b"123\n12345\n123", buffer, b"\n", 4).unwrap_err();
            assert_eq!(error.line, 2, "{error:?}");
            assert_eq!(pieces(b"123\n12345", buffer, b"\n", 4).unwrap_err().line, 2);
        }
        assert!(Splitter::new(&b"12345"[..], 4).piece(b"", None, &mut Vec::new()).is_err(), "the whole input is a piece, too");
    }

    /// A promise: one line without an end does not fill the memory.
    #[test]
    fn an_endless_line_is_refused() {
        let mut piece = Vec::new();
        let endless = BufReader::new(std::io::repeat(b'x'));
        assert!(Splitter::new(endless, 1 << 16).piece(b"\n", None, &mut piece).is_err());
        assert!(piece.capacity() <= 1 << 18, "{}", piece.capacity());
    }

    /// A promise: of two delimiters the first one counts, and the line is that of the piece's beginning.
    #[test]
    fn the_first_of_two() {
        let mut splitter = Splitter::new(&b"a\nb::c\nd"[..], 100);
        let mut piece = Vec::new();
        assert_eq!((splitter.piece(b"::", Some(b"\n"), &mut piece).unwrap(), piece.as_slice()), (Ended::Other, &b"a"[..]));
        assert_eq!(
            (splitter.line(), splitter.piece(b"::", Some(b"\n"), &mut piece).unwrap(), piece.as_slice()),
            (2, Ended::Delimiter, &b"b"[..])
        );
        assert_eq!(
            (splitter.line(), splitter.piece(b"::", None, &mut piece).unwrap(), piece.as_slice()),
            (2, Ended::InputEnd, &b"c\nd"[..])
        );
        assert_eq!(splitter.line(), 3);
    }

    /// A promise: an input that breaks is an error, and not taken for its end.
    #[test]
    fn a_broken_input_is_an_error() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("the cable is out"))
            }
        }
        let error = Splitter::new(BufReader::new((&b"a\nb"[..]).chain(Broken)), 100).piece(b"!", None, &mut Vec::new()).unwrap_err();
        assert!(error.reason.contains("the cable is out"), "{error:?}");
    }

    /// A promise: a byte order mark is no part of a text, wherever a buffer ends; what only begins like one is.
    #[test]
    fn a_byte_order_mark_is_passed_over() {
        for (input, wanted) in [
            (&b"\xef\xbb\xbfa"[..], &b"a"[..]),
            (b"\xef\xbb\xbf\xef\xbb\xbf", BYTE_ORDER_MARK),
            (b"\xef\xbba", b"\xef\xbba"),
            (b"\xef", b"\xef"),
            (b"", b""),
            (b"a\xef\xbb\xbf", b"a\xef\xbb\xbf"),
        ] {
            for buffer in [1, 2, 100] {
                let mut text = Vec::new();
                without_byte_order_mark(BufReader::with_capacity(buffer, input)).unwrap().read_to_end(&mut text).unwrap();
                assert_eq!(text, wanted);
            }
        }
    }

    proptest! {
        /// A promise: pieces and delimiters put together are the input again, whatever the buffer, and lines are counted right.
        #[test]
        fn nothing_is_lost(input in "[a\n:é]{0,60}", buffer in 1_usize..20, delimiter in prop::sample::select(vec!["\n", "::", "a:a", "é\n"])) {
            let pieces = pieces(input.as_bytes(), buffer, delimiter.as_bytes(), 1000).unwrap();
            let mut whole = Vec::new();
            for (line, piece, ended) in &pieces {
                prop_assert_eq!(usize::try_from(*line).unwrap(), memchr::memchr_iter(b'\n', &whole).count() + 1);
                prop_assert!(memchr::memmem::find(piece, delimiter.as_bytes()).is_none());
                whole.extend_from_slice(piece);
                if *ended == Ended::Delimiter {
                    whole.extend_from_slice(delimiter.as_bytes());
                }
            }
            prop_assert_eq!(whole, input.as_bytes());
        }
    }
}
