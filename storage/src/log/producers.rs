//! A log's producers: noted as it is written, kept beside it, read again at a start.
//!
//! What is kept is never needed: it spares reading headers. So a file that cannot be written is a warning, one that is damaged is passed over, and
//! its directory entry is made durable by whatever vouches for the log next.

use std::sync::Arc;

use tidegate_types::{BatchHeader, Offset, SequencedBatch, limits};

use super::{PartitionLog, remove_if_there};
use crate::Error;
use crate::io::{File, read_small};
use crate::producers::{KeyRules, Past, Producers, file, snapshot};
use crate::segment::{file_name, parse_file_name_of};

/// Which of its files a log has.
#[derive(Debug, Default)]
pub(crate) struct ProducerFiles {
    /// Up to where the newest `.idempotency` says all.
    written: Option<Offset>,
    /// An older one, kept until the newest is vouched for.
    older: Vec<Offset>,
    snapshot: Option<Offset>,
    /// Snapshots at which no segment begins.
    loose: Vec<Offset>,
}

impl PartitionLog {
    /// What is known of those who write here.
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Tells the log the time, in ms, and how long a producer is remembered that is silent.
    pub fn advance_producers(&mut self, now: i64, expiration_ms: i64) {
        self.producers.advance(now, expiration_ms);
    }

    pub(super) fn note_producers(&mut self, batches: &[SequencedBatch]) {
        for batch in batches {
            self.producers.note(&batch.header, Past::Whole);
        }
    }

    /// Keeps what is known at the log's end, which is synced.
    pub(super) fn write_producers(&mut self) {
        let end = self.log_end;
        if self.producer_files.written == Some(end) || end == Offset::ZERO {
            return;
        }
        let bytes = file::encode(&self.producers);
        if self.write_beside(file::SUFFIX, &bytes) {
            for older in std::mem::take(&mut self.producer_files.older) {
                self.remove_beside(older, file::SUFFIX);
            }
            self.producer_files.older.extend(self.producer_files.written.replace(end));
        }
    }

    /// Writes Kafka's snapshot at the log's end, which is synced.
    pub(super) fn write_snapshot(&mut self) {
        let end = self.log_end;
        if self.producer_files.snapshot == Some(end) || end == Offset::ZERO {
            return;
        }
        let bytes = snapshot::encode(&self.producers);
        if self.write_beside(snapshot::SUFFIX, &bytes) {
            for loose in std::mem::take(&mut self.producer_files.loose) {
                self.remove_beside(loose, snapshot::SUFFIX);
            }
            // If this is a roll, a segment begins here, and the list is what the next start makes of it.
            self.producer_files.snapshot = Some(end);
        }
    }

    fn write_beside(&self, suffix: &'static str, bytes: &[u8]) -> bool {
        let path = self.directory.join(file_name(self.log_end, suffix));
        let write = || -> std::io::Result<()> {
            let io = self.disk.io.as_ref();
            match io.remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = io.create(&path)?;
            file.write_all_at(&[bytes], 0)?;
            file.sync_data()
        };
        write().inspect_err(|error| {
            // Half of it is of no use.
            let _ = self.disk.io.remove_file(&path);
            tracing::warn!(path = %path.display(), %error, "what is known of producers was not kept; the next start reads more than it need");
        })
        .is_ok()
    }

    fn remove_beside(&self, at: Offset, suffix: &'static str) {
        let path = self.directory.join(file_name(at, suffix));
        if let Err(error) = remove_if_there(self.disk.io.as_ref(), &path) {
            tracing::warn!(%error, "an old file was not removed; the next start tries again");
        }
    }

    /// Finds out who has written here: from what was kept, and from the headers of what came after.
    pub(crate) fn restore_producers(&mut self, was_compacted: bool) -> Result<(), Error> {
        let (kept, snapshots) = self.list_beside()?;
        let (end, rules) = (self.log_end, self.config.keys);
        let found = kept.iter().rev().filter(|at| **at <= end).find_map(|at| Some((*at, self.read_kept(*at, rules)?)));
        let is_kept = found.is_some();
        let (from, producers) = found.unwrap_or_else(|| (Offset::ZERO, Producers::new(rules)));
        self.producers = producers;
        self.producer_files.written = is_kept.then_some(from);
        for at in kept.into_iter().filter(|at| self.producer_files.written != Some(*at)) {
            self.remove_beside(at, file::SUFFIX);
        }
        let is_whole = is_kept || (self.log_start() == Offset::ZERO && !was_compacted);
        let past = if is_whole { Past::Whole } else { Past::Unknown };
        let first_read = self.read_headers(from, past);
        if !is_kept && let Some(entries) = snapshots.iter().rev().filter(|at| **at <= end).find_map(|at| self.read_snapshot(*at)) {
            self.producers.fill_up(entries);
        }
        let segments = self.shared.segments.load_full();
        // One of a log that was longer must not come to speak of this one.
        let (snapshots, beyond): (Vec<_>, Vec<_>) = snapshots.into_iter().partition(|at| *at <= end);
        for at in beyond {
            self.remove_beside(at, snapshot::SUFFIX);
        }
        self.producer_files.snapshot = snapshots.last().copied().filter(|at| *at == end);
        self.producer_files.loose = snapshots.into_iter().filter(|at| segments.iter().all(|segment| segment.base != *at)).collect();
        // Not all of this again.
        if first_read.is_some_and(|first| segments.last().is_some_and(|active| first < active.base)) {
            self.write_producers();
        }
        Ok(())
    }

    /// The offsets of the kept files, and of the snapshots, in order.
    fn list_beside(&self) -> Result<(Vec<Offset>, Vec<Offset>), Error> {
        let names = self.disk.io.list(&self.directory).map_err(Error::io("list", &self.directory))?;
        let of = |suffix: &str| {
            let mut offsets: Vec<_> = names.iter().filter_map(|entry| parse_file_name_of(&entry.name, suffix)).collect();
            offsets.sort_unstable();
            offsets
        };
        Ok((of(file::SUFFIX), of(snapshot::SUFFIX)))
    }

    fn read_kept(&self, at: Offset, rules: KeyRules) -> Option<Producers> {
        self.read_beside(at, file::SUFFIX, |bytes| file::decode(bytes, rules))
    }

    fn read_snapshot(&self, at: Offset) -> Option<Vec<(i64, crate::producers::Known)>> {
        self.read_beside(at, snapshot::SUFFIX, snapshot::decode)
    }

    fn read_beside<T>(&self, at: Offset, suffix: &'static str, decode: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let path = self.directory.join(file_name(at, suffix));
        let decoded = read_small(self.disk.io.as_ref(), &path).ok().flatten().and_then(|bytes| decode(&bytes));
        if decoded.is_none() {
            tracing::warn!(path = %path.display(), "it cannot be read, or is damaged; the log is asked who has written to it");
        }
        decoded
    }

    /// Notes who wrote the batches from `from` on; gives the first offset whose segment was looked into.
    fn read_headers(&mut self, from: Offset, past: Past) -> Option<Offset> {
        let segments = self.shared.segments.load_full();
        let from = from.max(self.log_start());
        let mut first = None;
        for (i, segment) in segments.iter().enumerate() {
            let end = segments.get(i + 1).map_or(self.log_end, |next| next.base);
            if end <= from {
                continue;
            }
            first = first.or(Some(from.max(segment.base)));
            let opened = match segment.open() {
                Ok(opened) => opened,
                Err(error) => {
                    tracing::error!(%error, "who has written to a segment is not known: requests from then may be written again");
                    continue;
                }
            };
            let begin = opened.index.lookup(from.get().saturating_sub(segment.base.get()));
            let producers = &mut self.producers;
            let read = each_header(&opened.file, begin, segment.bytes(), |header| {
                if header.last_offset() >= from {
                    producers.note(header, past);
                }
            });
            if let Err(error) = read {
                let path = segment.path.display();
                tracing::error!(%path, %error, "who has written to the rest of a segment is not known: requests from then may be written again");
            }
        }
        first
    }
}

/// Shows the headers of the batches between two positions, reading little else.
fn each_header(file: &Arc<dyn File>, from: u64, to: u64, mut visit: impl FnMut(&BatchHeader)) -> std::io::Result<()> {
    const WINDOW_BYTES: usize = 64 << 10;
    let mut window = vec![0; WINDOW_BYTES];
    let (mut begins, mut length, mut position) = (from, 0, from);
    while position < to {
        let in_window = usize::try_from(position - begins).map_err(std::io::Error::other)?;
        if in_window + limits::BATCH_HEADER_BYTES > length {
            begins = position;
            length = usize::try_from((to - position).min(WINDOW_BYTES as u64)).map_err(std::io::Error::other)?;
            crate::io::read_exact_at(file.as_ref(), &mut window[..length], position)?;
            if length < limits::BATCH_HEADER_BYTES {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            continue;
        }
        let header = BatchHeader::parse(&window[in_window..length]).map_err(std::io::Error::other)?;
        visit(&header);
        position += header.total_bytes() as u64;
    }
    Ok(())
}
