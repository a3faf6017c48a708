//! The plain loop: append, `fdatasync`, again, without anything else. It is the limit of whatever is synced before it is acknowledged.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::load::{Measured, histogram, record};

/// A new file is begun here, as a log begins a new segment.
const FILE_BYTES: u64 = 1 << 30;

/// Does as much for each file, each on a thread of its own.
pub(crate) fn beside_one_another(files: usize, append: impl Fn(usize) -> anyhow::Result<Measured> + Sync) -> anyhow::Result<Measured> {
    let append = &append;
    let each: anyhow::Result<Vec<_>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..files).map(|file| scope.spawn(move || append(file))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("an appending thread died"))).collect()
    });
    let (mut latencies, mut elapsed) = (histogram()?, Duration::ZERO);
    for measured in each? {
        latencies.add(&measured.latencies)?;
        elapsed = elapsed.max(measured.elapsed);
    }
    Ok(Measured::new(elapsed, latencies))
}

/// Appends `in_flight` pieces of `bytes` with one write, syncs them with one `fdatasync` if `is_synced`, which answers all of them; and so on for `duration`.
pub(crate) fn append(
    folder: &Path,
    file: usize,
    bytes: usize,
    in_flight: usize,
    is_synced: bool,
    duration: Duration,
) -> anyhow::Result<Measured> {
    let group: Vec<u8> = (0..bytes * in_flight).map(|n| u8::try_from(n * 31 % 251).unwrap_or_default()).collect();
    let mut latencies = histogram()?;
    let (start, mut files) = (Instant::now(), vec![File::create(folder.join(format!("plain-{file}-0")))?]);
    let (mut written, mut sent) = (0_u64, start);
    while sent.duration_since(start) < duration {
        if written >= FILE_BYTES {
            files.push(File::create(folder.join(format!("plain-{file}-{}", files.len())))?);
            written = 0;
        }
        if let Some(file) = files.last_mut() {
            file.write_all(&group)?;
            if is_synced {
                file.sync_data()?;
            }
        }
        written += group.len() as u64;
        let now = Instant::now();
        for _ in 0..in_flight {
            record(&mut latencies, now - sent);
        }
        sent = now;
    }
    let elapsed = start.elapsed();
    // Deleting large files takes a while, which is nobody's latency.
    for n in 0..files.len() {
        std::fs::remove_file(folder.join(format!("plain-{file}-{n}")))?;
    }
    Ok(Measured::new(elapsed, latencies))
}
