//! A disk that is far too slow for what arrives: memory has a bound, the excess is refused at once, and nothing acknowledged is lost.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use bytes::Bytes;
use tidegate_client::{At, Client, Error, Fetch, NewRecord, NewTopic, ProduceOptions, batch};
use tidegate_types::{Codec, ErrorCode, Limits};
use tokio::task::JoinSet;

const CLIENTS: usize = 1_000;
const PARTITIONS: u32 = 8;
const VALUE_BYTES: usize = 400_000;
const STALL_MS: u64 = 5_000;
/// Beside what is admitted: a thousand connections' own buffers, and what the allocator keeps.
const SLACK_BYTES: u64 = 256 << 20;

/// The process `faulty-node`. It is killed when dropped.
struct FaultyNode {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl FaultyNode {
    fn start() -> (Self, Client) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_faulty-node"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut node = Self { child, orders, answers };
        let client = Client::new(&node.heard()).unwrap();
        (node, client)
    }

    fn heard(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn order(&mut self, line: &str) {
        writeln!(self.orders, "{line}").unwrap();
        assert_eq!(self.heard(), "done");
    }

    /// Its memory in bytes: what is there now (`VmRSS`), or the most that there ever was (`VmHWM`).
    fn memory(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for FaultyNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What became of one request.
enum Outcome {
    Acknowledged { partition: u32, offset: u64 },
    Refused,
}

/// Sends one batch, the same for all, so that a thousand clients need no memory of their own.
async fn send(client: Client, partition: u32, packed: Bytes) -> (Outcome, Instant) {
    let start = Instant::now();
    let outcome = match client.produce_batches("t", partition, packed, &ProduceOptions::default()).await {
        Ok(appended) => Outcome::Acknowledged { partition, offset: appended.base_offset.unwrap() },
        Err(Error::Problem(problem)) if problem.known_code() == Some(ErrorCode::Overloaded) => {
            assert_eq!((problem.status, problem.retryable, problem.side_effects.as_str()), (Some(503), true, "none"));
            Outcome::Refused
        }
        Err(error) => panic!("after {:?}: {error}", start.elapsed()),
    };
    (outcome, Instant::now())
}

/// A promise: with a disk that stalls under a thousand clients memory stays under its bound, what does not fit gets 503 before the stall is over,
/// nothing acknowledged is lost, and as soon as the disk is well the node is too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_disk_bounds_memory() {
    let bound = Limits::default().in_flight_bytes;
    assert!(CLIENTS * VALUE_BYTES > bound, "the load is more than there is room for");
    let (mut node, client) = FaultyNode::start();
    client.create_topic("t", &NewTopic { partitions: Some(PARTITIONS), ..NewTopic::default() }).await.unwrap();
    let record = NewRecord::bytes(vec![b'v'; VALUE_BYTES]).timestamp(1_600_000_000_000);
    let packed = batch::encode(&[record], Codec::None).unwrap();

    let before = node.memory("VmRSS");
    node.order(&format!("stall {STALL_MS}"));
    let mut outcomes: JoinSet<_> =
        (0..PARTITIONS).cycle().take(CLIENTS).map(|partition| send(client.clone(), partition, packed.clone())).collect();
    let (mut acknowledged, mut refusals, mut grown) = (Vec::new(), Vec::new(), 0);
    while let Some(outcome) = outcomes.join_next().await {
        match outcome.unwrap() {
            (Outcome::Refused, at) => {
                // Until the first acknowledgement next to nothing is written; from then on the disk, which is made of memory, fills too.
                if acknowledged.is_empty() {
                    grown = node.memory("VmHWM") - before;
                }
                refusals.push(at);
            }
            (Outcome::Acknowledged { partition, offset }, at) => {
                if acknowledged.is_empty() {
                    node.order("well");
                }
                acknowledged.push((partition, offset, at));
            }
        }
    }
    println!("{} acknowledged, {} refused, {} MiB more at the peak", acknowledged.len(), refusals.len(), grown >> 20);
    assert!(!acknowledged.is_empty() && !refusals.is_empty());
    assert!(grown < bound as u64 + SLACK_BYTES, "{} MiB more than before", grown >> 20);
    let first = acknowledged.iter().map(|(.., at)| *at).min().unwrap();
    assert_eq!(refusals.iter().filter(|at| **at > first).count(), 0, "refusals that waited for the disk");

    client.produce("t", &[NewRecord::text("well again")], &ProduceOptions::default()).await.unwrap();
    let places: HashSet<_> = acknowledged.iter().map(|(partition, offset, _)| (*partition, *offset)).collect();
    assert_eq!(places.len(), acknowledged.len(), "each at an offset of its own");
    for (partition, offset) in places {
        let offsets = client.offsets("t", partition, Some(At::Latest)).await.unwrap();
        assert!(offset < offsets.latest_offset, "{partition}/{offset} was acknowledged");
    }
    let last = client.fetch("t", 0, &Fetch { max_records: Some(1), ..Fetch::from_offset(0) }).await.unwrap();
    assert_eq!(last.records[0].value.as_bytes().map(<[u8]>::len), Some(VALUE_BYTES));
}
