//! Input read on a thread of its own, because reading standard input blocks, ahead of the sender by a bounded amount.
//!
//! What has been read is handed on before the thread waits for more: a person's line goes out at once, a file's lines go in chunks.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use tokio::sync::mpsc;

use super::input::{self, Additions, Bound, Form, Numbered};
use super::split::InputError;

/// Bytes that are read at once, so that a chunk is of about this size; one larger record makes a chunk of its own.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that wait for the sender.
const CHUNKS_WAITING: usize = 4;

/// Records that were read together.
#[derive(Debug, Default)]
pub(in crate::cli) struct Chunk {
    /// With the lines they begin at.
    pub(in crate::cli) records: Vec<Numbered>,
    /// Bytes of input read for them.
    pub(in crate::cli) bytes: u64,
}

/// What comes from the thread: chunks, and at the end the error that ended it, if there was one.
pub(in crate::cli) type Chunks = mpsc::Receiver<Result<Chunk, InputError>>;

/// Where input comes from.
#[derive(Debug)]
pub(in crate::cli) enum Source {
    /// Standard input.
    Stdin,
    /// A file, and its length if it is known.
    File(File, Option<u64>),
}

impl Source {
    /// Opens `path`.
    ///
    /// # Errors
    /// The system's, as a sentence that names the path.
    pub(in crate::cli) fn open(path: &Path) -> Result<Self, String> {
        let refuse = |error: std::io::Error| format!("cannot read '{}': {error}", path.display());
        let file = File::open(path).map_err(refuse)?;
        let metadata = file.metadata().map_err(refuse)?;
        if metadata.is_dir() {
            return Err(format!("cannot read '{}': it is a directory", path.display()));
        }
        Ok(Self::File(file, metadata.is_file().then_some(metadata.len())))
    }

    /// Bytes that it has, if that is known.
    pub(in crate::cli) const fn length(&self) -> Option<u64> {
        match self {
            Self::Stdin => None,
            Self::File(_, length) => *length,
        }
    }
}

/// Begins to read, from the records of line `from_line` on. When the receiver is dropped, the thread ends with the next record.
pub(in crate::cli) fn start(source: Source, form: Form, additions: Additions, bound: Bound, from_line: u64) -> std::io::Result<Chunks> {
    let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
    let work = move || match source {
        Source::Stdin => feed(std::io::stdin().lock(), &form, &additions, bound, from_line, &sender),
        Source::File(file, _) => feed(file, &form, &additions, bound, from_line, &sender),
    };
    std::thread::Builder::new().name("input".to_owned()).spawn(work)?;
    Ok(chunks)
}

type Sender = mpsc::Sender<Result<Chunk, InputError>>;

fn feed(input: impl Read, form: &Form, additions: &Additions, bound: Bound, from_line: u64, sender: &Sender) {
    let chunk = Rc::new(RefCell::new(Chunk::default()));
    let ahead = HandOn { input, chunk: Rc::clone(&chunk), sender };
    let outcome = input::read(BufReader::with_capacity(CHUNK_BYTES, ahead), form, additions, bound, from_line, |numbered| {
        chunk.borrow_mut().records.push(numbered);
        if sender.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    // If nobody listens, nobody needs to know.
    let _ = hand_on(&chunk, sender);
    if let Err(error) = outcome {
        let _ = sender.blocking_send(Err(error));
    }
}

fn hand_on(chunk: &RefCell<Chunk>, sender: &Sender) -> Result<(), std::io::Error> {
    if chunk.borrow().records.is_empty() {
        return Ok(());
    }
    let full = chunk.take();
    sender.blocking_send(Ok(full)).map_err(|_| std::io::Error::other("nobody listens"))
}

/// Hands on what there is before each read.
struct HandOn<'s, R> {
    input: R,
    chunk: Rc<RefCell<Chunk>>,
    sender: &'s Sender,
}

impl<R: Read> Read for HandOn<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        hand_on(&self.chunk, self.sender)?;
        let taken = self.input.read(out)?;
        self.chunk.borrow_mut().bytes += u64::try_from(taken).unwrap_or(u64::MAX);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn lines(input: impl Read + Send + 'static) -> Chunks {
        let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
        std::thread::spawn(move || feed(input, &Form::Lines, &Additions::default(), Bound::of_batches(1 << 20), 1, &sender));
        chunks
    }

    /// A promise: a line that has been read goes out before the next one is waited for.
    #[test]
    fn a_line_goes_out_at_once() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut chunks = lines(reader);
        for (number, text) in [(1, "a"), (2, "b")] {
            writeln!(writer, "{text}").unwrap();
            let chunk = chunks.blocking_recv().unwrap().unwrap();
            assert_eq!((chunk.records.len(), chunk.records[0].0, chunk.bytes), (1, number, 2));
        }
        drop(writer);
        assert!(chunks.blocking_recv().is_none());
    }

    /// A promise: endless input waits for whoever sends it, and ends when nobody does.
    #[test]
    fn endless_input_waits() {
        struct Counted {
            read: Arc<AtomicUsize>,
            _alive: mpsc::UnboundedSender<()>,
        }
        impl Read for Counted {
            fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
                out.fill(b'\n');
                self.read.fetch_add(out.len(), Ordering::SeqCst);
                Ok(out.len())
            }
        }
        let read = Arc::<AtomicUsize>::default();
        let (alive, mut ended) = mpsc::unbounded_channel();
        let mut chunks = lines(Counted { read: Arc::clone(&read), _alive: alive });
        assert!(chunks.blocking_recv().unwrap().is_ok());
        drop(chunks);
        assert!(ended.blocking_recv().is_none(), "the thread has ended");
        assert!(read.load(Ordering::SeqCst) <= (CHUNKS_WAITING + 3) * CHUNK_BYTES);
    }

    /// A promise: an error comes after all the records before it.
    #[test]
    fn an_error_comes_last() {
        let (sender, mut chunks) = mpsc::channel(CHUNKS_WAITING);
        std::thread::spawn(move || {
            feed(&b"{\"text\":\"a\"}\n{}\n"[..], &Form::Objects, &Additions::default(), Bound::of_batches(100), 1, &sender)
        });
        assert_eq!(chunks.blocking_recv().unwrap().unwrap().records.len(), 1);
        assert_eq!(chunks.blocking_recv().unwrap().unwrap_err().line, 2);
        assert!(chunks.blocking_recv().is_none());
    }

    /// A promise: what cannot be opened is named.
    #[test]
    fn files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Source::open(folder.path()).unwrap_err().contains("it is a directory"));
        let missing = folder.path().join("missing.csv");
        assert!(Source::open(&missing).unwrap_err().contains("missing.csv"));
    }
}
