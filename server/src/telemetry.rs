//! Log lines to standard error, and the metrics that `/metrics` shows.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, LogFormat};

/// How often histograms are folded, so that they don't grow while nobody reads them.
const UPKEEP: Duration = Duration::from_secs(5);

/// Bounds of all histograms of seconds: from a sync on a fast disk up to the longest long poll.
const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Bounds of all histograms of bytes.
const BYTES: &[f64] = &[256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];
/// Bounds of all histograms of records.
const RECORDS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0];

/// Begins to log. Only the first call of a process does anything: there is one standard error.
pub fn log_to_stderr(config: &Config) {
    let filter = EnvFilter::builder().parse_lossy(directives(&config.log_level));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // The `Err` says that somebody else logs already, which is as good.
    let _ = match config.log_format {
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
        LogFormat::Pretty => lines.with_ansi(wants_colour()).with_target(false).finish().try_init(),
    };
}

/// The filter with the libraries calmed down that tell their life at every step, unless it speaks of them itself.
fn directives(log_level: &str) -> String {
    let is_quieter = log_level.split(',').any(|part| matches!(part.trim().to_ascii_lowercase().as_str(), "off" | "error"));
    if is_quieter || log_level.contains("openraft") { log_level.to_owned() } else { format!("openraft=warn,{log_level}") }
}

fn wants_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The metrics of this process. There is one recorder however many nodes a test starts.
///
/// # Errors
/// If another recorder is installed already.
pub fn recorder() -> Result<PrometheusHandle, BuildError> {
    static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    // Held while it is installed: whoever comes second waits for the handle.
    let mut recorder = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = recorder.as_ref() {
        return Ok(handle.clone());
    }
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), BYTES)?
        .set_buckets_for_metric(Matcher::Suffix("_records".to_owned()), RECORDS)?;
    Ok(recorder.insert(builder.install_recorder()?).clone())
}

/// What `/metrics` answers.
pub fn render(handle: PrometheusHandle) -> Arc<dyn Fn() -> String + Send + Sync> {
    Arc::new(move || handle.render())
}

/// Folds histograms from time to time, for as long as it is polled.
pub async fn upkeep(handle: PrometheusHandle) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a library's chatter is off unless asked for, and asking for less is never answered with more.
    #[test]
    fn chatter_is_off() {
        for (level, directives_are) in [
            ("info", "openraft=warn,info"),
            ("tidegate=debug,info", "openraft=warn,tidegate=debug,info"),
            ("error", "error"),
            ("off", "off"),
            ("openraft=info,warn", "openraft=info,warn"),
        ] {
            assert_eq!(directives(level), directives_are);
        }
    }
}
