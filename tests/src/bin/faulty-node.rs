//! A node on a faulty disk, as a process of its own, so that a test can look at its memory and nothing else's.
//!
//! It prints its address and then obeys lines: `stall MS` makes each sync take so long, `well` makes the disk well again; at the end of its input
//! it stops.

use std::time::Duration;

use anyhow::{Context, bail};
use tidegate_storage::io::{FaultPlan, Faulty};
use tidegate_tests::cluster::TestNode;
use tidegate_types::Limits;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let disk = Faulty::new();
    let node = runtime.block_on(TestNode::start(disk.clone(), Limits::default()))?;
    say(&format!("http://{}", node.address()));
    for line in std::io::stdin().lines() {
        disk.set_plan(plan(&line?)?);
        say("done");
    }
    runtime.block_on(node.stop())
}

fn plan(line: &str) -> anyhow::Result<FaultPlan> {
    match line.split_once(' ') {
        Some(("stall", millis)) => {
            let sync_delay = Duration::from_millis(millis.parse().context("stall MS")?);
            Ok(FaultPlan { sync_delay, ..FaultPlan::default() })
        }
        None if line == "well" => Ok(FaultPlan::default()),
        _ => bail!("it knows `stall MS` and `well`, not `{line}`"),
    }
}

#[expect(clippy::print_stdout, reason = "this is how the test hears from it")]
fn say(line: &str) {
    println!("{line}");
}
