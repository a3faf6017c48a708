//! What the writer of a log vouches for: how far each segment is on the disk, where it ends, and which indexes belong to it. A start believes it and reads
//! only what came after.
//!
//! The file `segment-checkpoint` in a partition's directory, replaced atomically, after what it speaks of has been synced:
//!
//! ```text
//! 0                                                               version
//! 2                                                               entries
//! 0 52044 1073741000 1700000000000 5b3a01c2 00f1a2b3              base, end, bytes, largest timestamp, CRC-32C of .index and of .timeindex
//! 52044 60000 8800100 1700000009000 1c2d3e4f 55667788             the last one may have grown since
//! 9abcdef0                                                        CRC-32C of all above
//! ```
//!
//! It is ours, not Kafka's, which knows a segment's end and largest timestamp only by reading it. Without the file, or without a segment in it, that
//! segment is read.

use std::fmt::Write as _;
use std::path::Path;

use tidegate_types::Offset;

use crate::Error;
use crate::error::is_unreadable;
use crate::io::{Io, read_small, write_atomically};

/// Its name.
pub(crate) const FILE: &str = "segment-checkpoint";

/// The CRCs of a segment's index files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexSums {
    pub(crate) index: u32,
    pub(crate) times: u32,
}

/// A segment, or the beginning of one, that is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vouched {
    pub(crate) base: Offset,
    /// The offset after its last batch.
    pub(crate) end: Offset,
    pub(crate) bytes: u64,
    /// `i64::MIN` without any batch.
    pub(crate) max_timestamp: i64,
    pub(crate) sums: IndexSums,
}

/// Replaces the file.
pub(crate) fn write(io: &dyn Io, directory: &Path, entries: &[Vouched]) -> Result<(), Error> {
    let path = directory.join(FILE);
    write_atomically(io, &path, to_text(entries).as_bytes()).map_err(Error::io("write", &path))
}

/// What the file says, in order; nothing if there is none or it cannot be read, which costs only the time to read the log.
///
/// # Errors
/// [`Error::Io`] if the system said no for another reason.
pub(crate) fn read(io: &dyn Io, directory: &Path) -> Result<Vec<Vouched>, Error> {
    let path = directory.join(FILE);
    let bytes = match read_small(io, &path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Vec::new()),
        Err(error) if !is_unreadable(&error) => return Err(Error::io("read", &path)(error)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "it cannot be read; the log is read instead");
            return Ok(Vec::new());
        }
    };
    Ok(parse(&bytes).unwrap_or_else(|| {
        tracing::warn!(path = %path.display(), "it is damaged; the log is read instead");
        Vec::new()
    }))
}

fn to_text(entries: &[Vouched]) -> String {
    let mut text = format!("0\n{}\n", entries.len());
    for Vouched { base, end, bytes, max_timestamp, sums } in entries {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{base} {end} {bytes} {max_timestamp} {:08x} {:08x}", sums.index, sums.times);
    }
    let sum = crc32c::crc32c(text.as_bytes());
    let _ = writeln!(text, "{sum:08x}");
    text
}

pub(crate) fn parse(bytes: &[u8]) -> Option<Vec<Vouched>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let body = text.strip_suffix('\n')?;
    let (body, sum) = body.split_at(body.rfind('\n')? + 1);
    if u32::from_str_radix(sum, 16).ok()? != crc32c::crc32c(body.as_bytes()) {
        return None;
    }
    let mut lines = body.lines();
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let entries = lines.map(parse_line).collect::<Option<Vec<_>>>()?;
    (entries.len() == count).then_some(entries)
}

fn parse_line(line: &str) -> Option<Vouched> {
    let mut words = line.split(' ');
    let base = Offset::new(words.next()?.parse().ok()?)?;
    let end = Offset::new(words.next()?.parse().ok()?)?;
    let bytes = words.next()?.parse().ok()?;
    let max_timestamp = words.next()?.parse().ok()?;
    let index = u32::from_str_radix(words.next()?, 16).ok()?;
    let times = u32::from_str_radix(words.next()?, 16).ok()?;
    (words.next().is_none() && base <= end).then_some(Vouched { base, end, bytes, max_timestamp, sums: IndexSums { index, times } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Faulty;

    fn entries() -> Vec<Vouched> {
        let sums = IndexSums { index: 0x5b3a_01c2, times: 0 };
        let offset = |n| Offset::new(n).unwrap();
        vec![
            Vouched { base: offset(0), end: offset(52_044), bytes: 1_073_741_000, max_timestamp: 1_700_000_000_000, sums },
            Vouched { base: offset(52_044), end: offset(52_044), bytes: 0, max_timestamp: i64::MIN, sums },
        ]
    }

    /// A promise: what is written comes back, in this text.
    #[test]
    fn entries_come_back() {
        let disk = Faulty::new();
        let directory = Path::new("/t-0");
        disk.create_dir_all(directory).unwrap();
        assert_eq!(read(&disk, directory).unwrap(), []);
        write(&disk, directory, &entries()).unwrap();
        assert_eq!(read(&disk, directory).unwrap(), entries());
        let text = "0\n2\n0 52044 1073741000 1700000000000 5b3a01c2 00000000\n52044 52044 0 -9223372036854775808 5b3a01c2 00000000\n";
        assert_eq!(to_text(&entries()), format!("{text}{:08x}\n", crc32c::crc32c(text.as_bytes())));
    }

    /// A promise: a file with any one bit turned, or cut anywhere, vouches for nothing.
    #[test]
    fn damage_vouches_for_nothing() {
        let disk = Faulty::new();
        let directory = Path::new("/t-0");
        disk.create_dir_all(directory).unwrap();
        let whole = to_text(&entries()).into_bytes();
        for at in 0..whole.len() {
            assert_eq!(parse(&whole[..at]), None, "cut at {at}");
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                // A hexadecimal digit may change its case, which changes nothing.
                assert!(
                    parse(&bytes).is_none_or(|parsed| parsed == entries() && bytes.eq_ignore_ascii_case(&whole)),
                    "byte {at} bit {bit}"
                );
            }
        }
        write(&disk, directory, &entries()).unwrap();
        disk.open(&directory.join(FILE)).unwrap().set_len(30).unwrap();
        assert_eq!(read(&disk, directory).unwrap(), []);
    }
}
