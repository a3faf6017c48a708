//! The disk below a data directory: how much room it has, and what a sync costs.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::HumanBytes;
use tidegate_types::Clock;
use tidegate_types::time::SystemClock;

use super::{Check, Verdict};

/// Syncs in a probe: enough for a median, done in a second on a slow disk.
const SYNCS: usize = 20;
/// What one writes: a small batch.
const BYTES: usize = 4096;

/// Every check of the disk.
pub(super) fn checks(dir: &Path) -> Vec<Check> {
    vec![room(dir), sync(dir)]
}

fn room(dir: &Path) -> Check {
    const CHECK: &str = "disk room";
    let found = match rustix::fs::statvfs(dir) {
        Ok(found) => found,
        Err(error) => return Check::not_ok(Verdict::Fail, CHECK, format!("{}: {error}", dir.display()), "name the node's data directory"),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let percent = found.f_bavail.saturating_mul(100).checked_div(found.f_blocks).unwrap_or_default();
    judge_room(free, percent)
}

fn judge_room(free: u64, percent: u64) -> Check {
    const CHECK: &str = "disk room";
    const GIB: u64 = 1 << 30;
    let detail = format!("{} free ({percent} %)", HumanBytes(free));
    let fix = "lower retention.ms or retention.bytes, trim topics, or grow the disk: a full disk takes no more writes";
    match (free, percent) {
        (..GIB, _) => Check::not_ok(Verdict::Fail, CHECK, detail, fix),
        (_, ..10) => Check::not_ok(Verdict::Warning, CHECK, detail, fix),
        _ => Check::ok(CHECK, detail),
    }
}

fn sync(dir: &Path) -> Check {
    const CHECK: &str = "sync";
    match probe(dir) {
        Ok(times) => judge_sync(&times),
        Err(error) => {
            Check::not_ok(Verdict::Fail, CHECK, format!("{}: {error}", dir.display()), "the node's user has to be able to write there")
        }
    }
}

/// Times of syncs, in order. The file has no name, so that nothing stays behind whatever happens.
fn probe(dir: &Path) -> std::io::Result<Vec<Duration>> {
    let clock = SystemClock::new();
    let mut file = tempfile::tempfile_in(dir)?;
    let bytes = [0x5a; BYTES];
    let mut times = Vec::with_capacity(SYNCS);
    file.seek(SeekFrom::Start(0))?;
    for _ in 0..SYNCS {
        file.write_all(&bytes)?;
        let before = clock.monotonic();
        file.sync_data()?;
        times.push(clock.monotonic().saturating_sub(before));
    }
    times.sort_unstable();
    Ok(times)
}

fn judge_sync(times: &[Duration]) -> Check {
    const CHECK: &str = "sync";
    const SLOW: Duration = Duration::from_millis(20);
    const SUSPICIOUS: Duration = Duration::from_micros(20);
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let worst = times.last().copied().unwrap_or_default();
    let detail = format!("fdatasync takes {:.2} ms (median), {:.2} ms (worst of {})", millis(median), millis(worst), times.len());
    if median > SLOW {
        Check::not_ok(Verdict::Warning, CHECK, detail, "every acknowledged write waits for one: use a disk with a power-safe cache")
    } else if median < SUSPICIOUS {
        Check::not_ok(Verdict::Warning, CHECK, detail, "no disk is that fast: is it memory (tmpfs), or does it ignore syncs?")
    } else {
        Check::ok(CHECK, detail)
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a disk that is nearly full, slow, or no disk at all is noticed.
    #[test]
    fn disks_are_judged() {
        assert_eq!(judge_room(1 << 29, 50).verdict, Verdict::Fail);
        assert_eq!(judge_room(1 << 40, 5).verdict, Verdict::Warning);
        assert_eq!(judge_room(1 << 40, 50).verdict, Verdict::Ok);
        for (micros, verdict) in [(1, Verdict::Warning), (1_000, Verdict::Ok), (100_000, Verdict::Warning)] {
            assert_eq!(judge_sync(&[Duration::from_micros(micros); 3]).verdict, verdict);
        }
    }

    /// A promise: the probe leaves nothing behind, and a directory that is not there is a failure with its name.
    #[test]
    fn the_probe_cleans_up() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(probe(dir.path()).unwrap().len(), SYNCS);
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        let missing = dir.path().join("missing");
        for check in checks(&missing) {
            assert!(check.verdict == Verdict::Fail && check.detail.contains("missing"), "{check:?}");
        }
    }
}
