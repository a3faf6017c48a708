//! Stored batches that are found and not read.

use super::*;

impl Node {
    /// Where what can be read from the beginning is, now.
    async fn ranges(&self, topic: &Arc<Topic>) -> FetchedRanges {
        let request = FetchRequest {
            topic: Arc::clone(topic),
            partition: PartitionIndex::new(0),
            position: Position::Earliest,
            reset: OffsetReset::Error,
            max_bytes: 1 << 20,
            min_bytes: 1,
            max_wait: Duration::ZERO,
        };
        self.broker.fetch_ranges(request).await.unwrap()
    }
}

/// A promise: ranges end at the high watermark: what is written and not yet synced is in none of them, and afterwards it is.
#[tokio::test(flavor = "multi_thread")]
async fn ranges_end_at_the_high_watermark() {
    let node = Node::start(Faulty::new()).await;
    let topic = node.topic("t", &[]).await;
    node.disk.set_plan(FaultPlan { sync_delay: Duration::from_millis(300), ..FaultPlan::default() });
    node.send(&topic, &["v"], Acks::Leader).unwrap().wait(LONG).await.unwrap();
    let written = node.ranges(&topic).await;
    assert_eq!((written.high_watermark, written.ranges.bytes(), written.next_offset), (Offset::ZERO, 0, Offset::ZERO));
    let (_, synced) = node.fetch(&topic, Position::Earliest, LONG).await.unwrap();
    let found = node.ranges(&topic).await;
    assert_eq!((found.ranges.bytes(), found.next_offset), (synced.batches.len() as u64, synced.next_offset));
    node.stop().await;
}
