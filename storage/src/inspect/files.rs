//! Single files as a person wants to see them: indexes and checkpoints, entry by entry.

use std::path::Path;

use tidegate_types::{Offset, TopicId, TopicPartition};

use super::survey::{Small, read};
use super::{Finding, Kind};
use crate::Error;
use crate::checkpoint::{self, FIRST_DIRTY, HIGH_WATERMARK, LOG_START, RECOVERY_POINT};
use crate::epochs::{self, Epochs};
use crate::index::{IndexEntry, OffsetIndex};
use crate::io::Io;
use crate::producers::{Key, KeyRules, Known, Producers, file, snapshot};
use crate::segment::{parse_any_file_name, parse_file_name_of};
use crate::store::{parse_topic_id, read_identity};
use crate::time_index::TimeIndex;
use crate::vouched;

/// One thing that stands in such a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Of an `.index`: the batch that ends with `offset` begins at `position` of the log.
    Index {
        /// The last offset of the batch.
        offset: u64,
        /// Where it begins.
        position: u32,
    },
    /// Of a `.timeindex`: no batch up to the one that ends with `offset` has a later timestamp.
    TimeIndex {
        /// In ms since 1970.
        timestamp: i64,
        /// The last offset of the first batch that has it.
        offset: u64,
    },
    /// Of `segment-checkpoint`.
    Segment {
        /// Its first offset.
        base: Offset,
        /// The offset after its last one.
        end: Offset,
        /// Its bytes.
        bytes: u64,
        /// The largest timestamp; `None` without a batch.
        max_timestamp: Option<i64>,
        /// CRC-32C of its `.index`.
        index_crc: u32,
        /// CRC-32C of its `.timeindex`.
        time_index_crc: u32,
    },
    /// Of `leader-epoch-checkpoint`.
    Epoch {
        /// The leader's epoch.
        epoch: i32,
        /// Its first offset.
        start: Offset,
    },
    /// Of `.snapshot` and `.idempotency`: what a producer has written last.
    Producer {
        /// Its id.
        producer_id: i64,
        /// Its epoch.
        epoch: i16,
        /// The sequence of its last record.
        last_sequence: i32,
        /// That record's offset.
        last_offset: Offset,
    },
    /// Of `.idempotency`: where the records are that came under a key.
    Key(Key),
    /// Of `partition.metadata`.
    Partition {
        /// The id of its topic.
        topic: TopicId,
    },
    /// Of a checkpoint of offsets.
    Offset {
        /// Whose.
        tp: TopicPartition,
        /// Up to here.
        offset: Offset,
    },
    /// Of `meta.properties`.
    Property {
        /// What.
        key: String,
        /// What it is.
        value: String,
    },
}

/// Whether [`show`] knows a file, by its name.
pub fn is_small_file(path: &Path) -> bool {
    format_of(path).is_some()
}

enum Format {
    Index,
    TimeIndex,
    Segments,
    Epochs,
    Snapshot,
    Kept,
    Partition,
    Offsets,
    Properties,
}

fn format_of(path: &Path) -> Option<Format> {
    match path.file_name()?.to_str()? {
        vouched::FILE => Some(Format::Segments),
        epochs::FILE => Some(Format::Epochs),
        "partition.metadata" => Some(Format::Partition),
        RECOVERY_POINT | HIGH_WATERMARK | LOG_START | FIRST_DIRTY => Some(Format::Offsets),
        "meta.properties" => Some(Format::Properties),
        name if parse_file_name_of(name, snapshot::SUFFIX).is_some() => Some(Format::Snapshot),
        name if parse_file_name_of(name, file::SUFFIX).is_some() => Some(Format::Kept),
        name if name.ends_with(".timeindex") => Some(Format::TimeIndex),
        name if name.ends_with(".index") => Some(Format::Index),
        _ => None,
    }
}

/// Shows what stands in an index, a checkpoint or another small file, at most 64 MiB. Gives what is wrong with it, if anything is; entries of an index are shown all
/// the same. An error of `visit` ends it.
///
/// # Errors
/// [`Error::Io`], also if there is no such file.
pub fn show<E>(io: &dyn Io, path: &Path, visit: &mut dyn FnMut(&Shown) -> Result<(), E>) -> Result<Result<Option<Finding>, E>, Error> {
    io.length(path).map_err(Error::io("read the length of", path))?;
    let base = path.file_name().and_then(|name| parse_any_file_name(name.to_str()?)).map_or(0, Offset::get);
    match format_of(path) {
        Some(Format::Index) => entries(
            io,
            path,
            Kind::Index,
            visit,
            |bytes| OffsetIndex::from_bytes(bytes).is_some(),
            |entry| {
                let [a, b, c, d, e, f, g, h] = *entry;
                let IndexEntry { relative, position } =
                    IndexEntry { relative: u32::from_be_bytes([a, b, c, d]), position: u32::from_be_bytes([e, f, g, h]) };
                Shown::Index { offset: base + u64::from(relative), position }
            },
        ),
        Some(Format::TimeIndex) => entries(
            io,
            path,
            Kind::TimeIndex,
            visit,
            |bytes| TimeIndex::from_bytes(bytes).is_some(),
            |entry| {
                let [a, b, c, d, e, f, g, h, i, j, k, l] = *entry;
                let timestamp = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
                Shown::TimeIndex { timestamp, offset: base + u64::from(u32::from_be_bytes([i, j, k, l])) }
            },
        ),
        Some(Format::Segments) => all(io, path, Kind::SegmentCheckpoint, visit, vouched::parse, |known| {
            let of = |known: &vouched::Vouched| Shown::Segment {
                base: known.base,
                end: known.end,
                bytes: known.bytes,
                max_timestamp: Some(known.max_timestamp).filter(|time| *time > i64::MIN),
                index_crc: known.sums.index,
                time_index_crc: known.sums.times,
            };
            known.iter().map(of).collect()
        }),
        Some(Format::Epochs) => all(io, path, Kind::LeaderEpoch, visit, Epochs::parse, |known| {
            known.entries().iter().map(|(epoch, start)| Shown::Epoch { epoch: epoch.get(), start: *start }).collect()
        }),
        Some(Format::Snapshot) => all(io, path, Kind::Producers, visit, snapshot::decode, |producers| {
            producers.iter().filter_map(|(id, known)| last_of(*id, known)).collect()
        }),
        Some(Format::Kept) => all(io, path, Kind::Producers, visit, decode_kept, |kept| {
            kept.producers().filter_map(|(id, known)| last_of(id, known)).chain(kept.all_keys().into_iter().map(Shown::Key)).collect()
        }),
        Some(Format::Partition) => {
            all(io, path, Kind::PartitionMetadata, visit, parse_topic_id, |topic| vec![Shown::Partition { topic: *topic }])
        }
        Some(Format::Offsets) => all(io, path, Kind::OffsetCheckpoint, visit, checkpoint::parse, |offsets| {
            offsets.iter().map(|(tp, offset)| Shown::Offset { tp: tp.clone(), offset: *offset }).collect()
        }),
        Some(Format::Properties) | None => properties(io, path, visit),
    }
}

fn last_of(producer_id: i64, known: &Known) -> Option<Shown> {
    let (last_sequence, last_offset) = known.last_record()?;
    Some(Shown::Producer { producer_id, epoch: known.epoch, last_sequence, last_offset })
}

/// Whatever a topic's rules are, all of it.
pub(super) fn decode_kept(bytes: &[u8]) -> Option<Producers> {
    file::decode(bytes, KeyRules { window_ms: i64::MAX, entries_max: usize::MAX })
}

/// The entries of an index, whether or not they are right.
fn entries<const N: usize, E>(
    io: &dyn Io,
    path: &Path,
    kind: Kind,
    visit: &mut dyn FnMut(&Shown) -> Result<(), E>,
    rises: impl Fn(&[u8]) -> bool,
    shown: impl Fn(&[u8; N]) -> Shown,
) -> Result<Result<Option<Finding>, E>, Error> {
    let bytes = match read(io, path, |bytes| Some(bytes.to_vec()))? {
        Small::Says(bytes) => bytes,
        Small::Absent | Small::Damaged => return Ok(Ok(Some(Finding::damage(kind, path, 0, "it is far too large for an index")))),
    };
    let (entries, rest) = bytes.as_chunks::<N>();
    for entry in entries {
        if let Err(stop) = visit(&shown(entry)) {
            return Ok(Err(stop));
        }
    }
    let whole = (bytes.len() - rest.len()) as u64;
    if !rest.is_empty() {
        return Ok(Ok(Some(Finding::damage(kind, path, whole, format!("{} bytes are left, and an entry has {N}", rest.len())))));
    }
    Ok(Ok((!rises(&bytes)).then(|| Finding::damage(kind, path, 0, "its entries do not rise"))))
}

/// What a text says, if it says anything.
fn all<T, E>(
    io: &dyn Io,
    path: &Path,
    kind: Kind,
    visit: &mut dyn FnMut(&Shown) -> Result<(), E>,
    parse: impl Fn(&[u8]) -> Option<T>,
    shown: impl Fn(&T) -> Vec<Shown>,
) -> Result<Result<Option<Finding>, E>, Error> {
    match read(io, path, parse)? {
        Small::Says(says) => Ok(shown(&says).iter().try_for_each(visit).map(|()| None)),
        Small::Absent | Small::Damaged => {
            Ok(Ok(Some(Finding::damage(kind, path, 0, "it is damaged: it does not say what such a file says"))))
        }
    }
}

fn properties<E>(io: &dyn Io, path: &Path, visit: &mut dyn FnMut(&Shown) -> Result<(), E>) -> Result<Result<Option<Finding>, E>, Error> {
    let lines = |bytes: &[u8]| {
        let pair = |line: &str| line.split_once('=').map(|(key, value)| Shown::Property { key: key.to_owned(), value: value.to_owned() });
        Some(String::from_utf8_lossy(bytes).lines().filter_map(pair).collect::<Vec<_>>())
    };
    let shown = match read(io, path, lines)? {
        Small::Says(lines) => lines,
        Small::Absent | Small::Damaged => Vec::new(),
    };
    if let Err(stop) = shown.iter().try_for_each(visit) {
        return Ok(Err(stop));
    }
    let finding = |reason: String| Ok(Ok(Some(Finding::damage(Kind::MetaProperties, path, 0, reason))));
    match read_identity(io, path.parent().unwrap_or(Path::new("."))) {
        Ok(_) => Ok(Ok(None)),
        Err(Error::Corrupt { reason, .. } | Error::Directory { reason, .. }) => finding(reason),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::InvalidData => finding(source.to_string()),
        Err(error) => Err(error),
    }
}
