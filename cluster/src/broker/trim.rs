//! Trim: give up a partition's oldest records, for ever.

use std::sync::Arc;
use std::time::Duration;

use tidegate_types::{Offset, PartitionIndex};
use tokio::time::timeout;

use super::Broker;
use crate::error::{Error, Violation};
use crate::metadata::image::Topic;

/// How long a trim waits for its turn, and then for the disk.
const PATIENCE: Duration = Duration::from_secs(30);

impl Broker {
    /// Gives up every record before the offset `before`, which is at most the high watermark; gives the earliest offset from now on, which is
    /// later if it was so already. Durable when it returns; the files are removed afterwards.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`] beyond the high watermark, [`Error::Invalid`] if the topic is only compacted, [`Error::PartitionNotFound`],
    /// [`Error::NotLeader`], [`Error::LeaderUnavailable`], [`Error::Draining`], [`Error::Overloaded`] if other trims take too long: then
    /// nothing was done. [`Error::WriteTimeout`] if the disk takes too long, or the disk's: then it may have been done.
    pub async fn trim(&self, topic: &Topic, partition: PartitionIndex, before: u64) -> Result<Offset, Error> {
        if self.is_draining() {
            return Err(Error::Draining);
        }
        // The request may have taken long to arrive: the topic's rules are those of now.
        let topic = &self.topic(topic.name.as_str())?;
        let partition = self.partition(topic, partition)?;
        if !topic.config.cleanup_policy.delete {
            let detail = "the topic is compacted: its records are deleted by their keys, unless cleanup.policy has 'delete' as well";
            return Err(Error::Invalid(vec![Violation {
                pointer: "/before_offset".to_owned(),
                code: "compacted-topic",
                detail: detail.to_owned(),
            }]));
        }
        let turn = tokio::select! {
            turn = timeout(PATIENCE, Arc::clone(&self.inner.trims).acquire_owned()) => turn,
            () = self.inner.draining.cancelled() => return Err(Error::Draining),
        };
        let Ok(Ok(turn)) = turn else {
            return Err(Error::Overloaded { what: "trims of the node" });
        };
        timeout(PATIENCE, partition.trim(before, turn)).await.unwrap_or(Err(Error::WriteTimeout))
    }
}
