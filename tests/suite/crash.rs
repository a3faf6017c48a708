//! A node killed with `kill -9` again and again while real flights go in: what was acknowledged is there, once, at its offset.
//!
//! `FLIGHTS=path/to/flights.csv.zip` replays all of them instead of the sample in the clone.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::value::RawValue;
use tidegate_client::{Client, Fetch, NewRecord, NewTopic, ProduceOptions, Value};
use tidegate_tests::flights::{self, Flight};
use tidegate_tests::oracle;
use tidegate_tests::process::Process;
use tidegate_types::partitioner;
use tokio::sync::Notify;
use tokio::task::JoinSet;

const PARTITIONS: u32 = 4;
const KILLS: usize = 10;
/// Writers a partition: several, so that batches hold records of several requests; a tail number belongs to one of them.
const WRITERS: u32 = 4;

/// A flight on its way: its place in the file, and what it is.
#[derive(Debug, Clone)]
struct Sent {
    number: usize,
    flight: Flight,
}

/// Where the answers said that flights are: number → (partition, offset).
type Acknowledged = HashMap<usize, (u32, u64)>;

/// One writer's flights, in the file's order, cut into requests.
struct Writer {
    partition: u32,
    requests: std::vec::IntoIter<Vec<Sent>>,
}

/// Where the flight goes: its key's place, or the first partition without one.
fn partition_of(flight: &Flight) -> u32 {
    flight.tail_number.as_ref().map_or(0, |tail| partitioner::partition_for_key(tail.as_bytes(), PARTITIONS).get())
}

fn writers(flights: &[Flight], request_records: usize) -> Vec<Writer> {
    let mut lanes = BTreeMap::<(u32, u32), Vec<Sent>>::new();
    for (number, flight) in flights.iter().enumerate() {
        // Within its partition a tail number always goes to the same writer, so that its order is one writer's.
        let lane = flight
            .tail_number
            .as_ref()
            .map_or(0, |tail| tail.bytes().fold(0_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into())) % WRITERS);
        lanes.entry((partition_of(flight), lane)).or_default().push(Sent { number, flight: flight.clone() });
    }
    let cut = |((partition, _), sent): ((u32, u32), Vec<Sent>)| {
        let requests: Vec<_> = sent.chunks(request_records).map(<[Sent]>::to_vec).collect();
        Writer { partition, requests: requests.into_iter() }
    };
    lanes.into_iter().map(cut).collect()
}

fn record(sent: &Sent) -> NewRecord {
    let json = RawValue::from_string(sent.flight.json.clone()).unwrap();
    let record = NewRecord::new(Value::Json(json)).header("n", sent.number.to_string());
    match &sent.flight.tail_number {
        Some(tail) => record.key(tail.clone()),
        None => record,
    }
}

/// What the writers of one life share.
struct Life {
    client: Client,
    acknowledged: Mutex<Acknowledged>,
    answers: AtomicUsize,
    /// The life ends at this many answers.
    fatal: usize,
    doom: Notify,
}

/// Sends requests one after the other until there are none or the node is gone. A request that got no answer is not sent again.
async fn write(life: Arc<Life>, mut writer: Writer) -> Writer {
    for request in writer.requests.by_ref() {
        let records: Vec<_> = request.iter().map(record).collect();
        match life.client.produce_to("flights", writer.partition, &records, &ProduceOptions::default()).await {
            Ok(produced) => {
                let places = request.iter().zip(&produced.results).map(|(sent, at)| (sent.number, (at.partition, at.offset)));
                assert_eq!(produced.results.len(), request.len());
                life.acknowledged.lock().unwrap().extend(places);
            }
            Err(error) if error.problem().is_none() => break,
            Err(error) => panic!("a node that lives says no: {error}"),
        }
        if life.answers.fetch_add(1, Ordering::SeqCst) + 1 == life.fatal {
            life.doom.notify_one();
        }
    }
    writer
}

/// One life of the node: it is killed at the answer `fatal`, or ends well when everything has been sent.
async fn live(data: &Path, writers: Vec<Writer>, fatal: usize) -> (Vec<Writer>, Acknowledged) {
    let node = Process::start(data).unwrap();
    let client = Client::new(&node.url()).unwrap();
    let topic =
        NewTopic { partitions: Some(PARTITIONS), config: [("retention.ms".to_owned(), "-1".to_owned())].into(), ..NewTopic::default() };
    client.ensure_topic("flights", &topic).await.unwrap();
    let life = Arc::new(Life { client, acknowledged: Mutex::default(), answers: AtomicUsize::new(0), fatal, doom: Notify::new() });
    let mut tasks: JoinSet<Writer> = writers.into_iter().map(|writer| write(Arc::clone(&life), writer)).collect();
    let mut done = Vec::new();
    let mut node = Some(node);
    while !tasks.is_empty() {
        tokio::select! {
            () = life.doom.notified() => if let Some(node) = node.take() { node.kill().unwrap() },
            Some(writer) = tasks.join_next() => done.push(writer.unwrap()),
        }
    }
    drop(tasks);
    let acknowledged = std::mem::take(&mut *life.acknowledged.lock().unwrap());
    (done, acknowledged)
}

/// What is in the log: every record's number and text, by partition and offset.
async fn read_back(data: &Path) -> BTreeMap<(u32, u64), (usize, String)> {
    let node = Process::start(data).unwrap();
    let client = Client::new(&node.url()).unwrap();
    let mut found = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let mut next = 0;
        loop {
            let fetch = Fetch { max_records: Some(10_000), max_bytes: Some(8 << 20), ..Fetch::from_offset(next) };
            let fetched = client.fetch("flights", partition, &fetch).await.unwrap();
            if fetched.records.is_empty() {
                break;
            }
            for record in fetched.records {
                assert_eq!(record.offset, next, "offsets have no gap");
                next += 1;
                let number = String::from_utf8(record.headers[0].value.clone().unwrap().into()).unwrap().parse().unwrap();
                let text = String::from_utf8(record.value.as_bytes().unwrap().to_vec()).unwrap();
                found.insert((partition, record.offset), (number, text));
            }
        }
    }
    found
}

/// Numbers that are different in each run; the seed is printed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = uuid::Uuid::new_v4().as_u64_pair().0 | 1;
        println!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

fn check(flights: &[Flight], acknowledged: &Acknowledged, found: &BTreeMap<(u32, u64), (usize, String)>) {
    let mut places = HashMap::new();
    let mut last_of_tail = HashMap::new();
    for (place, (number, text)) in found {
        let flight = &flights[*number];
        assert_eq!(&flight.json, text, "flight {number} came out as another");
        assert_eq!(place.0, partition_of(flight), "flight {number} is in its key's partition");
        assert_eq!(places.insert(*number, *place), None, "flight {number} is there twice");
        if let Some(tail) = &flight.tail_number {
            let before = last_of_tail.insert(tail, *number);
            assert!(before < Some(*number), "{tail}: flight {number} stands after flight {before:?}");
        }
    }
    for (number, place) in acknowledged {
        assert_eq!(places.get(number), Some(place), "flight {number} was acknowledged at {place:?}");
    }
    println!("{} sent, {} acknowledged, {} in the log", flights.len(), acknowledged.len(), found.len());
}

/// A promise: over ten deaths every acknowledged flight is there once, at its offset; the others are there whole or not at all; order holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_flights_survive_ten_deaths() {
    let flights = match std::env::var_os("FLIGHTS") {
        Some(archive) => flights::all(archive.as_ref()).unwrap(),
        None => flights::sample().unwrap(),
    };
    let mut random = Random::new();
    let data = tempfile::tempdir().unwrap();
    let request_records = flights.len().div_ceil(1_000);
    let mut left = writers(&flights, request_records);
    let requests: usize = left.iter().map(|writer| writer.requests.len()).sum();
    let mut acknowledged = Acknowledged::new();
    for _ in 0..KILLS {
        // Somewhere within this life's share of the requests; a death may lose one request of each writer too.
        let fatal = 1 + random.below(requests / (KILLS + 4));
        let (writers, more) = live(data.path(), left, fatal).await;
        assert!(more.len() >= fatal, "the node died before its time");
        acknowledged.extend(more);
        left = writers;
    }
    let (left, more) = live(data.path(), left, usize::MAX).await;
    acknowledged.extend(more);
    assert!(left.iter().all(|writer| writer.requests.len() == 0), "everything was sent");

    check(&flights, &acknowledged, &read_back(data.path()).await);
    let decoded = oracle::decode_with_crate(data.path()).unwrap();
    assert!(decoded.values().map(Vec::len).sum::<usize>() >= acknowledged.len());
}
