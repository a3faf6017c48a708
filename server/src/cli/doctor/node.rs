//! What a node says of itself over HTTP: is it there, is it ours, does it take calls, is its clock right, which version is it.

use std::time::Duration;

use tidegate_client::{Client, Error, Problem};
use tidegate_types::Clock;
use tidegate_types::time::SystemClock;

use super::super::failure::is_foreign;
use super::super::session::Server;
use super::{Check, Verdict};

/// `Date` has whole seconds, so that less than this is no skew.
const SKEW_FINE_MS: i64 = 1_500;
/// More than this breaks what compares times: retention, timestamps in the future.
const SKEW_BAD_MS: i64 = 30_000;

/// Every check that needs the node. If it does not answer, the others are skipped.
pub(super) async fn checks(client: &Client, server: &Server) -> Vec<Check> {
    let clock = SystemClock::new();
    let started = clock.monotonic();
    let before = clock.wall().millis();
    let answer = client.liveness().await;
    let took = clock.monotonic().saturating_sub(started);
    let date = match answer {
        Ok(liveness) => liveness.date,
        Err(error) => {
            let skipped = |check| Check::skipped(check, "needs a node that answers");
            return [unreachable(&error, server)].into_iter().chain(["ready", "clock", "version", "cluster"].map(skipped)).collect();
        }
    };
    let half = i64::try_from(took.as_millis() / 2).unwrap_or(i64::MAX);
    vec![
        Check::ok("reachable", format!("{} answers in {}", server.url, shown(took))),
        ready(client.readiness().await),
        skew(date.as_deref(), before.saturating_add(half)),
        version(client.server_version().await),
        cluster(client).await,
    ]
}

fn shown(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

fn unreachable(error: &Error, server: &Server) -> Check {
    let named = format!("name the right one (this address comes from: {})", server.origin);
    let (detail, fix) = match error {
        Error::Connect { .. } => (error.to_string(), format!("start the node, or {named}")),
        Error::Timeout(_) => (format!("{} gives {error}", server.url), "it hangs, or is very busy: look at its log".to_owned()),
        error if is_foreign(error) => (format!("it is no Tidegate node that listens at {}", server.url), named),
        Error::Problem(_) => (format!("{} says: {error}", server.url), "look at the node's log".to_owned()),
        _ => (format!("{}: {error}", server.url), "look at the node's log".to_owned()),
    };
    Check::not_ok(Verdict::Fail, "reachable", detail, fix)
}

fn ready(answer: Result<(), Error>) -> Check {
    match answer {
        Ok(()) => Check::ok("ready", "the node takes calls"),
        Err(error) => {
            let list = |problem: &Problem| {
                let checks = problem.extras.get("checks")?.as_array()?;
                Some(checks.iter().filter_map(|check| check.as_str()).collect::<Vec<_>>().join(", "))
            };
            let failing = error.problem().and_then(list).map(|checks| format!(" ({checks})")).unwrap_or_default();
            Check::not_ok(Verdict::Fail, "ready", format!("{error}{failing}"), "wait, and look at the node's log if it stays so")
        }
    }
}

fn skew(date: Option<&str>, local_millis: i64) -> Check {
    let Some(date) = date else { return Check::skipped("clock", "the node does not say what time it is") };
    let Ok(node) = jiff::fmt::rfc2822::parse(date) else { return Check::skipped("clock", format!("'{date}' is no time")) };
    // The node cut its time to a second: on average it lost half of one.
    let skew = node.timestamp().as_millisecond().saturating_add(500).saturating_sub(local_millis);
    let amount = format!("{:.1} s", skew.unsigned_abs() as f64 / 1000.0);
    let words = if skew > 0 {
        format!("the node's clock is {amount} ahead of this one")
    } else {
        format!("the node's clock is {amount} behind this one")
    };
    let amount_ms = skew.saturating_abs();
    if amount_ms <= SKEW_FINE_MS {
        Check::ok("clock", "the node's clock and this one agree (to the second)")
    } else if amount_ms <= SKEW_BAD_MS {
        Check::not_ok(Verdict::Warning, "clock", words, "let NTP set both")
    } else {
        Check::not_ok(Verdict::Fail, "clock", words, "let NTP set both: retention and timestamps go by the clock")
    }
}

fn version(answer: Result<String, Error>) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    match answer {
        Ok(node) if node == own => Check::ok("version", format!("the node and this command are both {own}")),
        Ok(node) => Check::not_ok(
            Verdict::Warning,
            "version",
            format!("the node is {node}, this command is {own}"),
            "use the command of the node's version",
        ),
        Err(error) => Check::skipped("version", error.to_string()),
    }
}

async fn cluster(client: &Client) -> Check {
    let cluster = match client.describe_cluster().await {
        Ok(cluster) => cluster,
        Err(error) => return Check::not_ok(Verdict::Fail, "cluster", error.to_string(), "look at the node's log"),
    };
    match super::super::cluster::troubles(&cluster) {
        troubles if troubles.is_empty() => {
            Check::ok("cluster", format!("healthy, {} node{}", cluster.nodes.len(), if cluster.nodes.len() == 1 { "" } else { "s" }))
        }
        troubles => Check::not_ok(Verdict::Fail, "cluster", troubles.join("; "), "tidegate topic health names the partitions"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a clock that is off is noticed in either direction, and the second that `Date` does not have is not held against it.
    #[test]
    fn skews() {
        let date = Some("Tue, 14 Nov 2023 22:13:20 GMT");
        let at = 1_700_000_000_000;
        for (local, verdict) in [
            (at, Verdict::Ok),
            (at + 999, Verdict::Ok),
            (at + 5_000, Verdict::Warning),
            (at - 5_000, Verdict::Warning),
            (at + 60_000, Verdict::Fail),
            (at - 60_000, Verdict::Fail),
        ] {
            assert_eq!(skew(date, local).verdict, verdict, "{}", local - at);
        }
        assert_eq!(skew(None, at).verdict, Verdict::Skipped);
        assert_eq!(skew(Some("yesterday"), at).verdict, Verdict::Skipped);
    }
}
