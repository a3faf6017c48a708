//! The client's producer and consumer over a bad network, and with a node that is killed or gone: nothing acknowledged is lost, order holds, memory and
//! waits have their bounds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidegate_client::{Client, Delivery, NewRecord, NewTopic, Producer, ProducerError, Until};
use tidegate_tests::process::Process;
use tidegate_tests::proxy::{Faults, Proxy};
use tidegate_types::SideEffects;
use tokio::sync::Mutex;

const PARTITIONS: u32 = 4;
/// One at a time: they measure memory and time, and share two cores.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn make_topic(node: &Process) {
    let topic = NewTopic { partitions: Some(PARTITIONS), ..NewTopic::default() };
    Client::new(&node.url()).unwrap().ensure_topic("t", &topic).await.unwrap();
}

fn record(number: u64) -> NewRecord {
    NewRecord::bytes(number.to_be_bytes().to_vec())
}

fn partition_of(number: u64) -> u32 {
    u32::try_from(number % u64::from(PARTITIONS)).unwrap()
}

/// Every number in the log by partition, in order of their offsets, which have no gap; through whatever stands at `url`.
async fn read_all(url: &str) -> Vec<Vec<u64>> {
    let client = Client::new(url).unwrap();
    let mut consumer = client.consumer().topic("t").until(Until::Latest).retry_backoff(Duration::from_millis(5)).build().await.unwrap();
    let mut found = vec![Vec::new(); PARTITIONS as usize];
    while let Some(batch) = consumer.next().await.unwrap() {
        let log = &mut found[batch.partition as usize];
        for record in batch.iter() {
            assert_eq!(record.offset.get(), log.len() as u64, "no gap and no repetition");
            log.push(u64::from_be_bytes(record.value.unwrap().try_into().unwrap()));
        }
    }
    println!("read {} records; {:?}", found.iter().map(Vec::len).sum::<usize>(), consumer.metrics());
    found
}

/// Sends numbers `[from, to)`, each to its partition, and hears of every one, in order of their offsets; gives those that failed.
async fn send_all(producer: &Producer, from: u64, to: u64) -> Vec<(u64, ProducerError)> {
    send(producer, from, to, Some(vec![None; PARTITIONS as usize])).await
}

/// The same; `next` are the offsets that deliveries must rise from, if they are to rise.
async fn send(producer: &Producer, from: u64, to: u64, mut next: Option<Vec<Option<u64>>>) -> Vec<(u64, ProducerError)> {
    let (mut open, mut failed) = (VecDeque::new(), Vec::new());
    for number in from..to {
        open.push_back((number, producer.send_to("t", partition_of(number), record(number)).await.unwrap()));
        if open.len() > 100_000 {
            let (number, delivery) = open.pop_front().unwrap();
            hear(number, delivery, next.as_deref_mut(), &mut failed).await;
        }
    }
    producer.flush().await.unwrap_or_else(|error| println!("a flush saw a failure: {error}"));
    for (number, delivery) in open {
        hear(number, delivery, next.as_deref_mut(), &mut failed).await;
    }
    failed
}

async fn hear(number: u64, delivery: Delivery, next: Option<&mut [Option<u64>]>, failed: &mut Vec<(u64, ProducerError)>) {
    match delivery.await {
        Ok(position) => {
            let partition = position.partition as usize;
            assert_eq!(position.partition, partition_of(number));
            if let Some(next) = next {
                assert!(next[partition] < Some(position.offset), "deliveries rise with the order of sending");
                next[partition] = Some(position.offset);
            }
        }
        Err(error) => failed.push((number, error)),
    }
}

/// Numbers in the order of their first copies; how many there are beside those.
fn first_copies(log: &[u64], count: u64) -> (Vec<u64>, usize) {
    let mut seen = vec![false; usize::try_from(count).unwrap()];
    let first: Vec<u64> = log.iter().copied().filter(|n| !std::mem::replace(&mut seen[usize::try_from(*n).unwrap()], true)).collect();
    let repeated = log.len() - first.len();
    (first, repeated)
}

/// Every number below `count` is in its partition's log once, and they rise.
fn each_is_there_once(logs: &[Vec<u64>], count: u64) {
    for (partition, log) in logs.iter().enumerate() {
        let wanted = (0..count).filter(|number| partition_of(*number) as usize == partition);
        assert!(log.iter().copied().eq(wanted), "partition {partition}: {} of {}", log.len(), count / u64::from(PARTITIONS));
    }
}

/// A promise: of a million records sent over a network that breaks in every way, with five requests under way for a partition, each is there once, in order; a
/// consumer over the same network reads exactly what is there, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_records_over_a_bad_network() {
    const COUNT: u64 = 1_000_000;
    let _alone = ALONE.lock().await;
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    make_topic(&node).await;
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    println!("seed {seed}");
    let proxy = Proxy::start(node.address(), seed).await.unwrap();
    let client = Client::new(&proxy.url()).unwrap();
    let producer = client
        .producer()
        .batch_bytes(16 << 10)
        .retry_backoff(Duration::from_millis(2))
        .retry_backoff_max(Duration::from_millis(20))
        .build()
        .unwrap();
    proxy.set_faults(Faults::each(20));
    let start = Instant::now();
    let failed = send_all(&producer, 0, COUNT).await;
    producer.close().await.unwrap();
    println!("sent in {:?}: {:?}; {:?}", start.elapsed(), producer.metrics(), proxy.counts());
    assert!(failed.is_empty(), "{:?}", failed.first());
    assert!(proxy.counts().broken() > 20, "the network was bad: {:?}", proxy.counts());
    assert!(producer.metrics().retries >= proxy.counts().lost_answers);

    let found = read_all(&node.url()).await;
    each_is_there_once(&found, COUNT);
    let broken = proxy.counts().broken();
    proxy.set_faults(Faults::each(60));
    for turn in 0.. {
        assert!(read_all(&proxy.url()).await == found, "a bad network changes nothing of what is read");
        // A few large fetches may be lucky.
        if proxy.counts().broken() > broken {
            break;
        }
        assert!(turn < 50, "the network was never bad for the consumer");
    }
}

/// A promise: a producer that is not idempotent, with five requests under way for a partition, brings a million records over a network that breaks in every way,
/// all of them, and none is overtaken by more than the records of the four batches that were sent beside its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_records_with_five_requests_under_way() {
    const COUNT: u64 = 1_000_000;
    const IN_FLIGHT: u64 = 5;
    const BATCH_BYTES: u64 = 4 << 10;
    // A record of eight bytes counts 32.
    const RECORDS: u64 = BATCH_BYTES / 32;
    let _alone = ALONE.lock().await;
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    make_topic(&node).await;
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    println!("seed {seed}");
    let proxy = Proxy::start(node.address(), seed).await.unwrap();
    let client = Client::new(&proxy.url()).unwrap();
    let producer = client
        .producer()
        .idempotent(false)
        .max_in_flight(usize::try_from(IN_FLIGHT).unwrap())
        .batch_bytes(usize::try_from(BATCH_BYTES).unwrap())
        .retry_backoff(Duration::from_millis(2))
        .retry_backoff_max(Duration::from_millis(20))
        .build()
        .unwrap();
    proxy.set_faults(Faults::each(20));
    let failed = send(&producer, 0, COUNT, None).await;
    producer.close().await.unwrap();
    println!("{:?}; {:?}", producer.metrics(), proxy.counts());
    assert!(failed.is_empty(), "{:?}", failed.first());
    assert!(proxy.counts().broken() > 20, "the network was bad: {:?}", proxy.counts());
    let (mut overtaken, mut farthest) = (0, 0);
    for (partition, log) in read_all(&node.url()).await.iter().enumerate() {
        let (first, _) = first_copies(log, COUNT);
        let mut highest = 0;
        for number in &first {
            highest = highest.max(*number);
            overtaken += u64::from(highest > *number);
            farthest = farthest.max((highest - number) / u64::from(PARTITIONS));
        }
        let mut all = first;
        all.sort_unstable();
        let wanted = (0..COUNT).filter(|number| partition_of(*number) as usize == partition);
        assert!(all.iter().copied().eq(wanted), "partition {partition}: {} of {}", all.len(), COUNT / u64::from(PARTITIONS));
    }
    println!("{overtaken} records were overtaken, by {farthest} places at most");
    assert!(overtaken > 0, "failures were felt");
    assert!(farthest <= IN_FLIGHT * RECORDS, "a record was overtaken by one that stood {farthest} places behind it");
}

/// A promise: while the node is gone, `send` waits and then says that the buffer is full, what is buffered keeps its bound, so does memory, and what was
/// taken fails at its time with the reason; when the node is back, sending goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_gone() {
    const BUFFER: usize = 1 << 20;
    const MAX_BLOCK: Duration = Duration::from_millis(300);
    const DELIVERY: Duration = Duration::from_secs(2);
    let _alone = ALONE.lock().await;
    let data = tempfile::tempdir().unwrap();
    let node = Process::start(data.path()).unwrap();
    make_topic(&node).await;
    let proxy = Proxy::start(node.address(), 1).await.unwrap();
    let client = Client::new(&proxy.url()).unwrap();
    let producer = client.producer().buffer_bytes(BUFFER).max_block(MAX_BLOCK).delivery_timeout(DELIVERY).build().unwrap();
    producer.send("t", record(0)).await.unwrap().await.unwrap();

    proxy.set_gone(true).await.unwrap();
    let large = |n: u8| NewRecord::bytes(vec![n; 10_000]);
    let start = Instant::now();
    let mut taken = Vec::new();
    let (error, waited) = loop {
        let before = Instant::now();
        match producer.send("t", large(1)).await {
            Ok(delivery) => taken.push(delivery),
            Err(error) => break (error, before.elapsed()),
        }
        assert!(producer.metrics().buffered_bytes <= BUFFER);
    };
    assert!(matches!(error, ProducerError::BufferFull(waited) if waited == MAX_BLOCK), "{error}");
    assert!(waited >= MAX_BLOCK && waited < DELIVERY, "{waited:?}");
    assert!(taken.len() > 90 && taken.len() * 10_000 < BUFFER, "{} taken", taken.len());
    let (mut last, mut certain) = (None, 0);
    for delivery in taken {
        let error = delivery.await.unwrap_err();
        // The connection may have gone with a request on it: of those records nobody can say that they were not written.
        let ProducerError::Expired { after: DELIVERY, side_effects, .. } = &error else { panic!("{error}") };
        certain += u32::from(*side_effects == SideEffects::None);
        last = error.cause().map(ToString::to_string);
    }
    assert!(certain > 0, "most were never sent");
    assert!(last.is_some_and(|cause| cause.contains("no server answers")), "the reason is told");
    assert!((DELIVERY..DELIVERY * 3).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(producer.metrics().buffered_bytes, 0);

    offer_half_a_gigabyte(&client, BUFFER).await;

    proxy.set_gone(false).await.unwrap();
    let delivery = loop {
        match producer.send("t", record(1)).await {
            Ok(delivery) => break delivery,
            Err(ProducerError::BufferFull(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    delivery.await.unwrap();
    producer.flush().await.ok();
    assert_eq!(producer.metrics().buffered_bytes, 0);
}

/// Half a gigabyte is offered by many at once to a producer whose node is gone, and all but a buffer of it refused; what it takes has its bound all the while.
async fn offer_half_a_gigabyte(client: &Client, buffer: usize) {
    const TASKS: usize = 500;
    const EACH: usize = 100;
    const BYTES: usize = 10_000;
    let lasting = Duration::from_secs(600);
    let producer = client.producer().buffer_bytes(buffer).max_block(Duration::from_millis(20)).delivery_timeout(lasting).build().unwrap();
    // The partitions are known from here on, since the client has met the topic before.
    let before = resident_bytes();
    let mut offers = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        let producer = producer.clone();
        offers.spawn(async move {
            let mut refused = 0;
            for _ in 0..EACH {
                match producer.send("t", NewRecord::bytes(vec![2; BYTES])).await {
                    Ok(delivery) => drop(delivery),
                    Err(ProducerError::BufferFull(_)) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            refused
        });
    }
    let (mut refused, mut most) = (0, 0);
    loop {
        most = most.max(resident_bytes());
        assert!(producer.metrics().buffered_bytes <= buffer);
        match tokio::time::timeout(Duration::from_millis(5), offers.join_next()).await {
            Ok(Some(count)) => refused += count.unwrap(),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    let (grown, taken) = (most.saturating_sub(before), TASKS * EACH - refused);
    println!("{refused} of {} offers were refused; memory grew by {} KiB; {:?}", TASKS * EACH, grown >> 10, producer.metrics());
    assert!(taken > 0 && taken * BYTES <= buffer && refused > TASKS * EACH * 9 / 10, "{refused} were refused");
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
}

/// Bytes of memory that this process really has.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse::<usize>().unwrap();
    pages * 4_096
}

/// A promise: a node that is killed again and again while records go in loses nothing that was acknowledged and takes nothing twice, and the producer needs no help
/// to go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_records_survive_kills() {
    const LIVES: u64 = 4;
    const COUNT: u64 = 60_000;
    let _alone = ALONE.lock().await;
    let data = tempfile::tempdir().unwrap();
    let mut node = Process::start(data.path()).unwrap();
    make_topic(&node).await;
    let proxy = Proxy::start(node.address(), 7).await.unwrap();
    let client = Client::new(&proxy.url()).unwrap();
    let producer = client.producer().batch_bytes(4 << 10).build().unwrap();
    for life in 0..LIVES {
        let sending = {
            let producer = producer.clone();
            tokio::spawn(async move { send_all(&producer, life * COUNT, (life + 1) * COUNT).await })
        };
        // The blow falls when a part of this life's records has been acknowledged.
        let part = life * COUNT + COUNT / 5;
        while producer.metrics().acknowledged_records < part {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        node.kill().unwrap();
        node = Process::start(data.path()).unwrap();
        proxy.set_node(node.address());
        let failed = sending.await.unwrap();
        assert!(failed.is_empty(), "{:?}", failed.first());
    }
    producer.close().await.unwrap();
    println!("{:?}", producer.metrics());
    assert!(producer.metrics().retries >= LIVES, "the blows were felt");
    each_is_there_once(&read_all(&node.url()).await, LIVES * COUNT);
}
