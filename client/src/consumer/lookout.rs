//! Looking at whole topics: for partitions that are new, and, where there are more partitions than requests, for those that have got records.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::fetcher::Common;
use crate::backoff::backoff;
use crate::routing::TopicRoute;
use crate::topics::TopicDescription;

/// How long to wait between two looks at the ends of partitions; longer if a look takes long, so that at most a fifth of the time goes into looking.
const PAUSE: Duration = Duration::from_millis(100);
/// So many times as long as the look took.
const PAUSE_FACTOR: u32 = 4;

/// What is known of a partition's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nobody has looked yet.
    Unseen,
    /// It ended here.
    End(u64),
    /// Looking did not tell: whoever wants to know has to ask.
    Unknown,
}

impl Mark {
    /// Whether a fetch from `position` may bring something, or an error that has to be told.
    pub(super) fn is_worth_asking(self, position: u64) -> bool {
        match self {
            Self::Unseen => false,
            Self::End(end) => end != position,
            Self::Unknown => true,
        }
    }
}

/// What the lookout tells the fetchers, by topic and partition.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<HashMap<Arc<str>, ByPartition>>);

type ByPartition = HashMap<u32, watch::Sender<Mark>>;

impl Marks {
    /// The mark of a partition, from now on.
    pub(super) fn watch(&self, topic: &Arc<str>, partition: u32) -> watch::Receiver<Mark> {
        let (sender, receiver) = watch::channel(Mark::Unseen);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(Arc::clone(topic)).or_default().insert(partition, sender);
        receiver
    }

    fn topics(&self) -> Vec<Arc<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Wakes whoever waits for a partition whose end has moved; without a description, everybody who waits for that topic.
    fn set(&self, topic: &Arc<str>, described: Option<&TopicDescription>) {
        let ends: HashMap<u32, Option<u64>> =
            described.iter().flat_map(|topic| &topic.partitions).map(|partition| (partition.partition, partition.latest_offset)).collect();
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, sender) in marks.get(topic).into_iter().flatten() {
            let mark = ends.get(partition).copied().flatten().map_or(Mark::Unknown, Mark::End);
            sender.send_if_modified(|old| std::mem::replace(old, mark) != mark);
        }
    }
}

/// Looks at the ends of all partitions again and again: one request a topic, where asking each partition would be hundreds.
pub(super) async fn look_for_records(common: Arc<Common>, marks: Arc<Marks>) {
    let mut failures = 0;
    loop {
        let start = Instant::now();
        let mut has_failed = false;
        for topic in marks.topics() {
            match common.client.describe_topic(&topic).await {
                Ok(described) => marks.set(&topic, Some(&described)),
                // The fetchers know what is seen already, and the server is asked again.
                Err(error) if error.may_pass() => {
                    common.note_retry(&error);
                    has_failed = true;
                }
                // What is wrong they hear themselves.
                Err(_) => marks.set(&topic, None),
            }
        }
        failures = if has_failed { failures + 1 } else { 0 };
        let config = &common.config;
        let wait = match failures {
            0 => PAUSE.max(start.elapsed().saturating_mul(PAUSE_FACTOR)),
            _ => backoff(config.retry_backoff, config.retry_backoff_max, failures - 1, fastrand::f64()),
        };
        tokio::time::sleep(wait).await;
    }
}

/// Asks for the topics' partitions now and then, and tells of what it learned.
pub(super) async fn look_for_partitions(common: Arc<Common>, mut routes: Vec<Arc<TopicRoute>>, sender: mpsc::Sender<Arc<TopicRoute>>) {
    loop {
        tokio::time::sleep(common.config.metadata_max_age).await;
        for route in &mut routes {
            // What cannot be learned now is asked for again next time.
            let Ok(learned) = common.client.learn(&route.name, Some(route)).await else { continue };
            let has_more = learned.partitions() > route.partitions();
            *route = learned;
            if has_more && sender.send(Arc::clone(route)).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: whoever has read all there is sleeps; whoever has not, or stands where nothing is any more, asks.
    #[test]
    fn only_what_may_bring_something_is_asked() {
        assert!(!Mark::Unseen.is_worth_asking(0));
        assert!(!Mark::End(7).is_worth_asking(7));
        assert!(Mark::End(8).is_worth_asking(7) && Mark::End(6).is_worth_asking(7) && Mark::Unknown.is_worth_asking(7));
    }
}
