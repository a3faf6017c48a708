//! A row of the table: a workload, who does it, and the goal; measured in turn (A B A B), judged by the medians.

use std::time::Duration;

use serde::Serialize;

use super::contender::{Cell, Contender};

/// What the node is to reach. Limits are the row's second contender.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Goal {
    /// So much of the limit's rate.
    Ratio { least: f64 },
    /// So many records a second.
    Rate { least: f64 },
    /// Either of them.
    RateOrRatio { rate: f64, ratio: f64 },
    /// So many 10⁶ bytes of values a second.
    Bandwidth { least: f64 },
    /// So much of the limit's rate, with at most so many times its CPU for each byte.
    RangeRead { least: f64, cpu_times: f64 },
    /// A median latency of at most so many times the limit's, and one `fdatasync`.
    Latency { times: f64, fdatasync_us: f64 },
}

/// A workload and who does it: the node first, then its limit, then peers.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) goal: Goal,
    pub(crate) contenders: Vec<Contender>,
}

/// A row when it has been measured.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) goal: Goal,
    pub(crate) is_met: bool,
    /// The node's rate by the limit's, round by round; the median.
    pub(crate) ratio: f64,
    pub(crate) results: Vec<ContenderOutcome>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ContenderOutcome {
    pub(crate) name: &'static str,
    /// The round with the median rate.
    pub(crate) median: Cell,
    pub(crate) rounds: Vec<Cell>,
}

impl Row {
    /// Warms everybody up and measures them in turn.
    pub(crate) async fn measure(self, rounds: usize, duration: Duration) -> anyhow::Result<Outcome> {
        // First touch of memory and of code paths counts for nobody.
        for contender in &self.contenders {
            contender.round(duration / 4).await?;
        }
        let mut cells = vec![Vec::with_capacity(rounds); self.contenders.len()];
        for _ in 0..rounds {
            for (contender, cells) in self.contenders.iter().zip(&mut cells) {
                cells.push(contender.round(duration).await?);
            }
        }
        let ratios = cells[0].iter().zip(&cells[1]).map(|(node, limit)| node.records_per_second / limit.records_per_second).collect();
        let ratio = median(ratios);
        let names = self.contenders.iter().map(|contender| contender.name);
        let results: Vec<_> = names.zip(cells).map(|(name, rounds)| ContenderOutcome { name, median: middle(&rounds), rounds }).collect();
        let is_met = self.goal.is_met(&results[0].median, &results[1].median, ratio);
        Ok(Outcome { id: self.id, title: self.title, goal: self.goal, is_met, ratio, results })
    }
}

impl Goal {
    fn is_met(self, node: &Cell, limit: &Cell, measured: f64) -> bool {
        match self {
            Self::Ratio { least } => measured >= least,
            Self::Rate { least } => node.records_per_second >= least,
            Self::RateOrRatio { rate, ratio } => node.records_per_second >= rate || measured >= ratio,
            Self::Bandwidth { least } => node.megabytes_per_second >= least,
            Self::RangeRead { least, cpu_times } => measured >= least && cpu_per_gigabyte(node) <= cpu_times * cpu_per_gigabyte(limit),
            Self::Latency { times, fdatasync_us } => node.p50_us <= times * limit.p50_us + fdatasync_us,
        }
    }

    /// In words; `limit` is the limit's median.
    pub(crate) fn words(self, limit: &Cell) -> String {
        match self {
            Self::Ratio { least } => format!("ratio ≥ {least}"),
            Self::Rate { least } => format!("≥ {:.1} M records/s", least / 1e6),
            Self::RateOrRatio { rate, ratio } => format!("≥ {:.0} k records/s or ratio ≥ {ratio}", rate / 1e3),
            Self::Bandwidth { least } => format!("≥ {least} MB/s"),
            Self::RangeRead { least, cpu_times } => {
                format!("ratio ≥ {least}, CPU ≤ {cpu_times} × the limit's {:.3} s a GB", cpu_per_gigabyte(limit))
            }
            Self::Latency { times, fdatasync_us } => {
                let most = times * limit.p50_us + fdatasync_us;
                format!("p50 ≤ {times} × the limit's + one `fdatasync` = {most:.0} µs")
            }
        }
    }
}

/// Seconds of a server's CPU for 10⁹ bytes of values; none where there is no server.
pub(crate) fn cpu_per_gigabyte(cell: &Cell) -> f64 {
    cell.server_cpu.map_or(0.0, |share| share / (cell.megabytes_per_second / 1e3))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// The round with the median rate.
fn middle(rounds: &[Cell]) -> Cell {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(|a, b| a.records_per_second.total_cmp(&b.records_per_second));
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(rate: f64, p50_us: f64) -> Cell {
        Cell { requests_per_second: rate, records_per_second: rate, megabytes_per_second: rate, p50_us, p99_us: p50_us, server_cpu: None }
    }

    /// A promise: a goal is met from its bound on, and not before.
    #[test]
    fn goals_have_an_edge() {
        let (node, limit) = (cell(600.0, 120.0), cell(1000.0, 20.0));
        assert!(Goal::Ratio { least: 0.6 }.is_met(&node, &limit, 0.6) && !Goal::Ratio { least: 0.61 }.is_met(&node, &limit, 0.6));
        assert!(Goal::Rate { least: 600.0 }.is_met(&node, &limit, 0.6) && !Goal::Rate { least: 601.0 }.is_met(&node, &limit, 0.6));
        let latency = |fdatasync_us| Goal::Latency { times: 3.0, fdatasync_us };
        assert!(latency(60.0).is_met(&node, &limit, 0.6) && !latency(59.0).is_met(&node, &limit, 0.6));
        let either = |rate, ratio| Goal::RateOrRatio { rate, ratio };
        assert!(either(600.0, 0.9).is_met(&node, &limit, 0.6) && either(700.0, 0.5).is_met(&node, &limit, 0.6));
        assert!(!either(700.0, 0.9).is_met(&node, &limit, 0.6));
        let bandwidth = |least| Goal::Bandwidth { least };
        assert!(bandwidth(600.0).is_met(&node, &limit, 0.6) && !bandwidth(601.0).is_met(&node, &limit, 0.6));
        let busy = |cell: Cell, share| Cell { server_cpu: Some(share), ..cell };
        let read = |share| Goal::RangeRead { least: 0.6, cpu_times: 1.2 }.is_met(&busy(node, share), &busy(limit, 1.0), 0.6);
        assert!(read(0.72) && !read(0.73));
    }

    /// A promise: one wild round does not move a row.
    #[test]
    fn medians_ignore_the_wild_one() {
        assert_eq!(middle(&[cell(1.0, 0.0), cell(900.0, 0.0), cell(10.0, 0.0)]).records_per_second, 10.0);
        assert_eq!(median(vec![0.1, 0.5, 99.0]), 0.5);
    }
}
