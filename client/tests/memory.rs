//! What a producer takes while no server takes anything from it: little more than its buffer, however its records are spread. One test in a process of its
//! own, since it measures the process.

#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod fake;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fake::{Fake, Says, cluster, topic_of};
use tidegate_client::{NewRecord, Producer, ProducerError};

const PARTITIONS: u32 = 10_000;

/// Bytes of memory that this process really has.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse::<usize>().unwrap();
    pages * 4_096
}

/// A producer that knows the topic, and whose node is gone.
async fn orphan(buffer_bytes: usize, linger: Duration) -> Producer {
    let fake = Fake::start(|line: &str, _: &[u8]| match line {
        line if line.contains("/cluster") => Says::Json(200, cluster(&[])),
        line if line.starts_with("get ") => Says::Json(200, topic_of(PARTITIONS, 1)),
        _ => Says::End,
    })
    .await;
    let producer = fake
        .client()
        .producer()
        .buffer_bytes(buffer_bytes)
        .linger(linger)
        .max_block(Duration::from_secs(2))
        .retry_backoff(Duration::from_millis(100))
        .build()
        .unwrap();
    // No such partition: the topic is known from here on.
    let error = producer.send_to("t", PARTITIONS, NewRecord::text("x")).await.unwrap_err();
    assert!(matches!(error, ProducerError::Input(_)), "{error}");
    producer
}

/// Sends records of one byte until there is no room; how many were taken.
async fn fill(producer: &Producer, mut after_each: impl FnMut()) -> u32 {
    let mut taken = 0;
    loop {
        match producer.send_to("t", taken % PARTITIONS, NewRecord::text("x")).await {
            Ok(delivery) => drop(delivery),
            Err(ProducerError::BufferFull(_)) => return taken,
            Err(error) => panic!("{error}"),
        }
        taken += 1;
        after_each();
    }
}

/// A promise: records of one byte, spread over ten thousand partitions, or each alone in a batch because somebody flushes after each, take no more than three
/// times the buffer that they fill.
#[tokio::test]
async fn tiny_records_are_bounded() {
    const WIDE: usize = 32 << 20;
    let producer = orphan(WIDE, Duration::from_secs(60)).await;
    let before = resident_bytes();
    let taken = fill(&producer, || ()).await;
    let grown = resident_bytes().saturating_sub(before);
    println!("{taken} records in {PARTITIONS} partitions take {} MiB; {:?}", grown >> 20, producer.metrics());
    assert!(taken > 500_000 && producer.metrics().buffered_bytes <= WIDE);
    assert!(grown < 3 * WIDE, "{taken} records take {grown} bytes");

    const NARROW: usize = 8 << 20;
    let flushed = orphan(NARROW, Duration::from_secs(60)).await;
    let before = resident_bytes();
    let flush = || {
        let flushing = pin!(flushed.flush());
        assert!(matches!(flushing.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending), "nobody takes anything");
    };
    let taken = fill(&flushed, flush).await;
    let grown = resident_bytes().saturating_sub(before);
    println!("{taken} batches take {} MiB; {:?}", grown >> 20, flushed.metrics());
    assert!(taken > 5_000 && flushed.metrics().buffered_bytes <= NARROW);
    assert!(grown < 3 * NARROW, "{taken} batches take {grown} bytes");
}
