//! What a client believes of what servers say: no more bytes than it asked for, no batches that are none, no place that does not move; and in which order
//! it tells of it.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fake;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::{Fake, Says, batch, cluster, offsets, problem, topic_of};
use serde_json::json;
use tidegate_client::{Client, Error, Fetch, ProduceOptions, Until};

/// Bytes of memory that this process really has.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse::<usize>().unwrap();
    pages * 4_096
}

/// A promise: whatever a server sends, announced or not, a client takes no more of it than what it asked for can have, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_bounded() {
    for announced in [None, Some(500 << 20), Some(usize::MAX / 2)] {
        let fake = Fake::start(move |_: &str, _: &[u8]| Says::Flood(announced)).await;
        let client = fake.client();
        let before = resident_bytes();
        let fetch = Fetch { max_bytes: Some(1 << 20), ..Fetch::from_offset(0) };
        let errors = [
            client.fetch_batches("t", 0, &fetch).await.unwrap_err(),
            client.describe_topic("t").await.unwrap_err(),
            client.offsets("t", 0, None).await.unwrap_err(),
            client.produce("t", &[], &ProduceOptions::default()).await.unwrap_err(),
            client.fetch_value("t", 0, 0).await.unwrap_err(),
        ];
        let grown = resident_bytes().saturating_sub(before);
        for error in errors {
            assert!(matches!(&error, Error::Answer { reason, .. } if reason.contains("more than the")), "{error}");
        }
        assert!(grown < 100 << 20, "memory grew by {grown} bytes");
    }
}

/// A promise: a batch that is larger than what was asked for comes, since one batch always does; not more than that one.
#[tokio::test]
async fn one_large_batch_comes() {
    let large = batch(0, 200_000);
    assert!(large.len() > 1 << 20);
    let (one, two) = (large.clone(), [large.clone(), batch(200_000, 200_000)].concat());
    let fake = Fake::start(move |line: &str, _: &[u8]| match line {
        line if line.contains("offset=0") => Says::Batches(one.clone(), 200_000),
        _ => Says::Batches(two.clone(), 400_000),
    })
    .await;
    let fetch = |offset| Fetch { max_bytes: Some(1 << 20), ..Fetch::from_offset(offset) };
    assert_eq!(fake.client().fetch_batches("t", 0, &fetch(0)).await.unwrap().bytes, large);
    let error = fake.client().fetch_batches("t", 0, &fetch(1)).await.unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error}");
}

/// A promise: an answer with zeros or other bytes behind its batches, with a batch that is cut, that ends elsewhere than it says, or that leads nowhere is an error,
/// of which nothing is handed out, and it is not asked for again and again.
#[tokio::test]
async fn damage_on_the_way_is_an_error() {
    let whole = || batch(0, 3);
    let answers: [(Vec<u8>, u64); 7] = [
        ([whole(), vec![0; 500]].concat(), 3),
        (vec![0; 500], 500),
        ([whole(), b"more".to_vec()].concat(), 3),
        (whole()[..whole().len() - 1].to_vec(), 3),
        (whole(), 5),
        (whole(), 0),
        (Vec::new(), 5),
    ];
    for (number, (bytes, next)) in answers.into_iter().enumerate() {
        let fetches = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&fetches);
        let fake = Fake::start(move |line: &str, _: &[u8]| match line {
            line if line.contains("/batches?") => {
                *seen.lock().unwrap() += 1;
                Says::Batches(bytes.clone(), next)
            }
            line if line.contains("/offsets") => offsets(5),
            line if line.contains("/cluster") => Says::Json(200, cluster(&[])),
            _ => Says::Json(200, topic_of(1, 1)),
        })
        .await;
        let error = fake.client().fetch_batches("t", 0, &Fetch::from_offset(0)).await.unwrap_err();
        assert!(matches!(error, Error::Answer { .. }), "{number}: {error}");
        let mut consumer = fake.client().consumer().topic("t").until(Until::Latest).build().await.unwrap();
        let told = tokio::time::timeout(Duration::from_secs(10), consumer.next()).await.expect("it does not ask for ever");
        assert!(matches!(told.unwrap_err().error, Error::Answer { .. }), "{number}");
        assert_eq!((consumer.position("t", 0), *fetches.lock().unwrap()), (Some(0), 2), "{number}");
        assert!(consumer.next().await.unwrap().is_none(), "{number}: told once");
    }
}

/// A promise: a page of JSON whose records lie outside it, or that leads back, is an error.
#[tokio::test]
async fn pages_are_checked() {
    let page = |offsets: &[u64], next: u64| {
        let records: Vec<_> = offsets.iter().map(|n| json!({"partition": 0, "offset": n, "timestamp": 1, "text": "x"})).collect();
        json!({"records": records, "next_offset": next, "high_watermark": 9, "log_start_offset": 0, "caught_up": false})
    };
    for (page, is_good) in [
        (page(&[4, 5], 6), true),
        (page(&[5], 9), true),
        (page(&[], 4), true),
        (page(&[], 8), true),
        (page(&[3], 6), false),
        (page(&[5, 5], 6), false),
        (page(&[5], 5), false),
        (page(&[], 3), false),
        (page(&[u64::MAX], u64::MAX), false),
        (page(&[], u64::MAX), false),
    ] {
        let answer = page.clone();
        let fake = Fake::start(move |_: &str, _: &[u8]| Says::Json(200, answer.clone())).await;
        let fetched = fake.client().fetch("t", 0, &Fetch::from_offset(4)).await;
        assert!(fetched.is_ok() == is_good && matches!(&fetched, Ok(_) | Err(Error::Answer { .. })), "{page}: {fetched:?}");
    }
}

/// A promise: what was fetched before a failure is handed out before the failure is told, also if both came before anybody asked or while the partition was paused.
#[tokio::test]
async fn failures_stand_in_order() {
    // The second partition is found only after the first one has failed.
    let failed = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&failed);
    let script = move |line: &str, _: &[u8]| {
        let mut failed = seen.lock().unwrap();
        match line {
            line if line.contains("/partitions/0/batches?") && line.contains("offset=0") => {
                Says::Batches([batch(0, 3), batch(3, 1)].concat(), 4)
            }
            line if line.contains("/partitions/0/batches?") => {
                *failed = true;
                problem(404, "topic-not-found", false, "none")
            }
            line if line.contains("/partitions/1/batches?") => Says::Silence,
            line if line.contains("/partitions/1/offsets") && !*failed => problem(503, "leader-unavailable", true, "none"),
            line if line.contains("/offsets") => offsets(0),
            line if line.contains("/cluster") => Says::Json(200, cluster(&[])),
            _ => Says::Json(200, topic_of(2, 1)),
        }
    };
    let fake = Fake::start(script).await;
    let client = Client::builder(&fake.url()).build().unwrap();
    for is_paused in [false, true] {
        *failed.lock().unwrap() = false;
        let mut consumer = client.consumer().topic("t").retry_backoff(Duration::from_millis(20)).build().await.unwrap();
        if is_paused {
            consumer.pause("t", 0).unwrap();
            tokio::time::timeout(Duration::from_millis(50), consumer.next()).await.unwrap_err();
            consumer.resume("t", 0).unwrap();
        }
        let mut counts = Vec::new();
        let error = loop {
            match consumer.next().await {
                Ok(batch) => counts.push(batch.unwrap().len()),
                Err(error) => break error,
            }
        };
        assert_eq!((counts, error.partition, consumer.position("t", 0)), (vec![3, 1], 0, Some(4)), "{error}");
    }
}

/// A promise: each request asks for its partition's share of the prefetch, from the very first on and whatever topics are read beside it.
#[tokio::test]
async fn every_request_asks_for_its_share() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let fake = Fake::start(move |line: &str, _: &[u8]| match line {
        line if line.contains("/batches?") => {
            let bytes = line.split("max_bytes=").nth(1).unwrap().split(['&', ' ']).next().unwrap();
            seen.lock().unwrap().push(bytes.parse::<usize>().unwrap());
            Says::Silence
        }
        line if line.contains("/offsets") => offsets(5),
        line if line.contains("/cluster") => Says::Json(200, cluster(&[])),
        _ => Says::Json(200, topic_of(2, 1)),
    })
    .await;
    let consumer = fake.client().consumer().topic("t").topic("u").topic("v").prefetch_bytes(1_200_000).build().await.unwrap();
    while asked.lock().unwrap().len() < 6 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*asked.lock().unwrap(), [100_000; 6]);
    drop(consumer);
}
