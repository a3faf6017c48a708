//! Who is measured: the node, and beside it the limits and the peers. A round of a contender is a cell.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::disk;
use super::load::{Load, Measured};
use super::machine::cpu_seconds;

/// One who does a row's work.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    /// In one request.
    pub(crate) records: usize,
    /// Of one record's value.
    pub(crate) record_bytes: usize,
}

#[derive(Debug)]
pub(crate) enum Work {
    /// Requests to a process.
    Requests { load: Load, process: u32 },
    /// Appends of so many bytes, so many at a time over all files, those to one file under one sync if there is one.
    Appends { folder: PathBuf, files: usize, bytes: usize, in_flight: usize, is_synced: bool },
}

/// What one round has shown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Cell {
    pub(crate) requests_per_second: f64,
    pub(crate) records_per_second: f64,
    /// Of values: 10⁶ bytes.
    pub(crate) megabytes_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Of one core, where it is another process that works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu: Option<f64>,
}

impl Contender {
    /// Works for `duration`.
    pub(crate) async fn round(&self, duration: Duration) -> anyhow::Result<Cell> {
        match &self.work {
            Work::Requests { load, process } => {
                let before = cpu_seconds(*process)?;
                let measured = load.run(duration).await?;
                let used = cpu_seconds(*process)? - before;
                Ok(self.cell(&measured, Some(used / measured.elapsed.as_secs_f64())))
            }
            Work::Appends { folder, files, bytes, in_flight, is_synced } => {
                let (folder, files, bytes, in_flight, is_synced) = (folder.clone(), *files, *bytes, *in_flight / *files, *is_synced);
                let append = move |file| disk::append(&folder, file, bytes, in_flight, is_synced, duration);
                let measured = tokio::task::spawn_blocking(move || disk::beside_one_another(files, append)).await??;
                Ok(self.cell(&measured, None))
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn cell(&self, measured: &Measured, server_cpu: Option<f64>) -> Cell {
        let requests_per_second = measured.per_second();
        let records_per_second = requests_per_second * self.records as f64;
        let microseconds = |percent| measured.percentile(percent).as_secs_f64() * 1e6;
        Cell {
            requests_per_second,
            records_per_second,
            megabytes_per_second: records_per_second * self.record_bytes as f64 / 1e6,
            p50_us: microseconds(50.0),
            p99_us: microseconds(99.0),
            server_cpu,
        }
    }
}
