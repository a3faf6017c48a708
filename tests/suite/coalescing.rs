//! Many small requests share batches and syncs; whoever waits for records is told at once.

use std::time::Duration;

use tidegate_client::{Client, Fetch, NewRecord, NewTopic, ProduceOptions};
use tidegate_storage::io::{FaultPlan, Faulty};
use tidegate_tests::cluster::TestNode;
use tidegate_types::Limits;
use tokio::task::JoinSet;

const CLIENTS: usize = 64;
const REQUESTS: usize = 60;

/// Sizes of all batches in partition 0, in records.
async fn batch_sizes(client: &Client, topic: &str) -> Vec<usize> {
    let (mut sizes, mut next) = (Vec::new(), 0);
    loop {
        let fetched = client.fetch_batches(topic, 0, &Fetch::from_offset(next)).await.unwrap();
        if fetched.bytes.is_empty() {
            return sizes;
        }
        next = fetched.next_offset;
        sizes.extend(fetched.batches().map(|batch| usize::try_from(batch.unwrap().header.record_count).unwrap()));
    }
}

/// A promise: 64 clients that send a record at a time share batches and syncs: the median record lies in a batch of at least 8, and there are at
/// most a quarter as many syncs as requests, although no request waits for a timer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_requests_share_batches_and_syncs() {
    let disk = Faulty::new();
    // A sync of a good disk; without one nothing would ever wait, and nothing be shared.
    disk.set_plan(FaultPlan { sync_delay: Duration::from_millis(2), ..FaultPlan::default() });
    let node = TestNode::start(disk.clone(), Limits::default()).await.unwrap();
    let client = node.client().unwrap();
    client.create_topic("t", &NewTopic::default()).await.unwrap();
    let syncs_before = disk.syncs();
    let mut tasks = JoinSet::new();
    for n in 0..CLIENTS {
        let client = client.clone();
        tasks.spawn(async move {
            for _ in 0..REQUESTS {
                client.produce("t", &[NewRecord::text("one record").key(n.to_string())], &ProduceOptions::default()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let syncs = disk.syncs() - syncs_before;
    let mut sizes = batch_sizes(&client, "t").await;
    assert_eq!(sizes.iter().sum::<usize>(), CLIENTS * REQUESTS);
    sizes.sort_unstable();
    // Of records, not of batches: while 60 clients wait for one sync, one or two early ones may well have a small batch of their own.
    let of_records: Vec<usize> = sizes.iter().flat_map(|size| std::iter::repeat_n(*size, *size)).collect();
    let median = of_records[of_records.len() / 2];
    println!("{} requests, {} batches, the median record in one of {median}, {syncs} syncs", CLIENTS * REQUESTS, sizes.len());
    println!("batches by size: {sizes:?}");
    assert!(median >= 8, "the median record lies in a batch of {median}");
    assert!(syncs <= (CLIENTS * REQUESTS / 4) as u64, "{syncs} syncs");
    node.stop().await.unwrap();
}

/// A promise: one append answers everybody who waits for it, and each gets the record; a wait that nothing ends is an empty answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_answers_all_who_wait() {
    let node = TestNode::start(Faulty::new(), Limits::default()).await.unwrap();
    let client = node.client().unwrap();
    client.create_topic("t", &NewTopic::default()).await.unwrap();
    let long = Fetch { max_wait: Some(Duration::from_secs(50)), ..Fetch::from_offset(0) };
    let mut tasks = JoinSet::new();
    for _ in 0..500 {
        let client = client.clone();
        tasks.spawn(async move { client.fetch("t", 0, &long).await.unwrap() });
    }
    let short = Fetch { max_wait: Some(Duration::from_millis(100)), ..Fetch::from_offset(0) };
    let empty = client.fetch("t", 0, &short).await.unwrap();
    assert_eq!((empty.records.len(), empty.next_offset, empty.caught_up), (0, 0, true));
    client.produce("t", &[NewRecord::text("at last")], &ProduceOptions::default()).await.unwrap();
    for fetched in tasks.join_all().await {
        assert_eq!((fetched.records.len(), fetched.next_offset), (1, 1));
    }
    node.stop().await.unwrap();
}
