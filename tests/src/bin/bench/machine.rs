//! The machine: what the figures stand beside, and what a process has used of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::disk;

/// Facts to print beside figures.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    /// Of the folder that the data is in.
    pub(crate) file_system: String,
    /// A 4 KiB append with its `fdatasync`, in microseconds.
    pub(crate) fdatasync_p50_us: f64,
    pub(crate) fdatasync_p99_us: f64,
}

impl Machine {
    /// Looks around; measures `fdatasync` in `folder` for a moment.
    pub(crate) fn look(folder: &Path) -> anyhow::Result<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let sync = disk::append(folder, 0, 4096, 1, true, Duration::from_millis(500))?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: field(&read("/proc/cpuinfo"), "model name"),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(folder, &read("/proc/mounts")),
            fdatasync_p50_us: sync.percentile(50.0).as_secs_f64() * 1e6,
            fdatasync_p99_us: sync.percentile(99.0).as_secs_f64() * 1e6,
        })
    }

    pub(crate) fn sentence(&self) -> String {
        format!(
            "{} cores ({}), {} GiB, Linux {}; data on {}; a 4 KiB append with `fdatasync` takes {:.0} µs (p50), {:.0} µs (p99)",
            self.cores,
            self.processor,
            self.memory_mib / 1024,
            self.kernel,
            self.file_system,
            self.fdatasync_p50_us,
            self.fdatasync_p99_us
        )
    }
}

/// The innermost mount that holds `folder`, as `ext4 on /dev/vda`.
fn file_system(folder: &Path, mounts: &str) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?, words.next()?))
    });
    let holding = mounts.filter(|(_, place, _)| folder.starts_with(place));
    holding.max_by_key(|(_, place, _)| place.len()).map(|(device, _, kind)| format!("{kind} on {device}")).unwrap_or_default()
}

/// User and system time of a process so far, in seconds.
pub(crate) fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().context("no fields")?.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok()).context("no times");
    // Linux counts 100 ticks a second for every program.
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// Memory of a process that is resident.
pub(crate) fn resident_mib(process: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}
