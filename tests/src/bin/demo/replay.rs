//! There and back: every flight sent with its tail number as the key, and every record of every partition read.
//!
//! One task a partition sends that partition's keys, one request after the other: so requests to all partitions are under way at once, and the
//! flights of one tail number still go out in the file's order.

use std::time::{Duration, Instant};

use anyhow::ensure;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;
use tidegate_client::{Client, Fetch, NewRecord, ProduceOptions, Record, RecordPosition, Value};
use tidegate_tests::flights::Flight;
use tidegate_types::partitioner::partition_for_key;
use tokio::task::JoinSet;

use crate::{PARTITIONS, TOPIC};

/// Records in one request.
const CHUNK: usize = 1_000;
/// Bytes of one fetch.
const FETCH_BYTES: u64 = 8 << 20;

/// What was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    /// For each flight, in the file's order, where the node says that it stands.
    pub(crate) positions: Vec<RecordPosition>,
    /// What the node promises of them.
    pub(crate) durability: String,
    /// How long it took.
    pub(crate) took: Duration,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Read {
    /// By partition, in order of offsets.
    pub(crate) partitions: Vec<Vec<Record>>,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Sends all flights and waits until each is acknowledged.
pub(crate) async fn send(client: &Client, flights: &[Flight]) -> anyhow::Result<Sent> {
    let bar = bar("in ", flights.len());
    let mut lanes = vec![Vec::new(); usize::try_from(PARTITIONS)?];
    for (place, flight) in flights.iter().enumerate() {
        lanes[lane(place, flight, PARTITIONS)?].push((place, record(flight)?));
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for lane in lanes {
        tasks.spawn(send_lane(client.clone(), lane, bar.clone()));
    }
    let mut positions = vec![RecordPosition { partition: 0, offset: 0, timestamp: 0 }; flights.len()];
    let mut durability = String::new();
    while let Some(done) = tasks.join_next().await {
        let (placed, promised) = done??;
        for (place, position) in placed {
            positions[place] = position;
        }
        durability = promised.unwrap_or(durability);
    }
    bar.finish_and_clear();
    Ok(Sent { positions, durability, took: start.elapsed() })
}

/// Which task sends a flight: its key's partition's, so that one key's flights never overtake each other; without a key, any.
fn lane(place: usize, flight: &Flight, lanes: u32) -> anyhow::Result<usize> {
    match &flight.tail_number {
        Some(tail) => Ok(usize::try_from(partition_for_key(tail.as_bytes(), lanes).get())?),
        None => Ok(place % usize::try_from(lanes)?),
    }
}

fn record(flight: &Flight) -> anyhow::Result<NewRecord> {
    let record = NewRecord::new(Value::Json(RawValue::from_string(flight.json.clone())?));
    Ok(match &flight.tail_number {
        Some(tail) => record.key(tail.clone()),
        None => record,
    })
}

type Placed = Vec<(usize, RecordPosition)>;

async fn send_lane(client: Client, lane: Vec<(usize, NewRecord)>, bar: ProgressBar) -> anyhow::Result<(Placed, Option<String>)> {
    let (places, records): (Vec<_>, Vec<_>) = lane.into_iter().unzip();
    let mut placed = Vec::with_capacity(places.len());
    let mut durability = None;
    for (places, records) in places.chunks(CHUNK).zip(records.chunks(CHUNK)) {
        let produced = client.produce(TOPIC, records, &ProduceOptions::default()).await?;
        ensure!(produced.results.len() == records.len(), "{} records were sent, {} answered", records.len(), produced.results.len());
        placed.extend(places.iter().copied().zip(produced.results));
        durability = Some(produced.durability);
        bar.inc(u64::try_from(records.len())?);
    }
    Ok((placed, durability))
}

/// Reads every partition from its first record to its end.
pub(crate) async fn read(client: &Client) -> anyhow::Result<Read> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for partition in 0..PARTITIONS {
        let client = client.clone();
        tasks.spawn(async move { anyhow::Ok((partition, read_partition(&client, partition).await?)) });
    }
    let mut partitions = vec![Vec::new(); usize::try_from(PARTITIONS)?];
    while let Some(done) = tasks.join_next().await {
        let (partition, records) = done??;
        partitions[usize::try_from(partition)?] = records;
    }
    Ok(Read { partitions, took: start.elapsed() })
}

async fn read_partition(client: &Client, partition: u32) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut fetch = Fetch { max_records: Some(10_000), max_bytes: Some(FETCH_BYTES), ..Fetch::from_offset(0) };
    loop {
        let fetched = client.fetch(TOPIC, partition, &fetch).await?;
        let is_stuck = fetched.records.is_empty() && !fetched.caught_up;
        ensure!(!is_stuck, "partition {partition} gives nothing at offset {} and is not at its end", fetched.next_offset);
        records.extend(fetched.records);
        if fetched.caught_up {
            return Ok(records);
        }
        fetch.from = tidegate_client::From::Offset(fetched.next_offset);
    }
}

/// A bar on standard error, if that is a terminal.
fn bar(what: &'static str, records: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(records).unwrap_or(u64::MAX)).with_message(what);
    let style = ProgressStyle::with_template("  {msg} {bar:40} {pos}/{len} records, {per_sec}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
