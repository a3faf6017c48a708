//! Fetch: find the start, wait until there is something below the high watermark, read it.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_storage::{FileRange, Located, LogReader, ReadMode, ReadOutcome};
use tidegate_types::{Offset, PartitionIndex, Timestamp};
use tokio::time::Instant;

use super::{Broker, FetchRequest, Fetched, FetchedRanges, OffsetQuestion, OffsetReset, Offsets, Position};
use crate::error::{Error, RangeReason};
use crate::metadata::image::Topic;
use crate::partition::Partition;
use crate::stored::StoredRanges;

impl Broker {
    /// Reads stored batches; waits for them if asked to.
    ///
    /// # Errors
    /// [`Error::PartitionNotFound`], [`Error::OffsetOutOfRange`], [`Error::NotLeader`], [`Error::LeaderUnavailable`], or the disk's.
    pub async fn fetch(&self, request: FetchRequest) -> Result<Fetched, Error> {
        let partition = self.partition(&request.topic, request.partition)?;
        let deadline = Instant::now() + request.max_wait;
        let mut position = request.position;
        // Once, unless a trim overtakes it: then the position means something else.
        loop {
            let start = self.resolve(&partition, position, request.reset).await?;
            self.wait_for_bytes(&partition, start, request.min_bytes, deadline).await?;
            let fetched = self.fetch_from(&partition, start, request.max_bytes).await;
            if let Some(fetched) = fetched.map_err(|error| self.unless_gone(&partition, error))? {
                return Ok(fetched);
            }
            position = after_trim(position);
        }
    }

    /// Finds stored batches without reading them; waits for them if asked to. Nothing is admitted: what they take of memory depends on how
    /// they are sent.
    ///
    /// # Errors
    /// As [`Broker::fetch`].
    pub async fn fetch_ranges(&self, request: FetchRequest) -> Result<FetchedRanges, Error> {
        let partition = self.partition(&request.topic, request.partition)?;
        let deadline = Instant::now() + request.max_wait;
        let mut position = request.position;
        loop {
            let start = self.resolve(&partition, position, request.reset).await?;
            self.wait_for_bytes(&partition, start, request.min_bytes, deadline).await?;
            let found = locate_from(&partition, start, request.max_bytes).await;
            if let Some(found) = found.map_err(|error| self.unless_gone(&partition, error))? {
                return Ok(found);
            }
            position = after_trim(position);
        }
    }

    /// What can be read from `start` on; `None` if that has been trimmed.
    async fn fetch_from(&self, partition: &Partition, start: Offset, max_bytes: usize) -> Result<Option<Fetched>, Error> {
        let (marks, reader) = (partition.marks(), partition.reader());
        // Before the read: what is read lies above it, whatever is trimmed meanwhile.
        let log_start = reader.log_start();
        let room = usize::try_from(reader.bytes_from(start)).unwrap_or(usize::MAX).min(max_bytes);
        let has_records = start < marks.high_watermark;
        let mut permit = self.inner.in_flight.admit(if has_records { room } else { 0 })?;
        let (batches, next_offset) = if has_records {
            match read(reader, start, marks.high_watermark, max_bytes).await? {
                Some(found) => found,
                None => return Ok(None),
            }
        } else {
            (Bytes::new(), start)
        };
        // One batch is given even if it is larger than what was asked for.
        permit.grow(batches.len().saturating_sub(permit.amount()))?;
        Ok(Some(Fetched {
            start,
            batches,
            next_offset,
            high_watermark: marks.high_watermark,
            log_start,
            leader_epoch: partition.epoch(),
            permit: Arc::new(permit),
        }))
    }

    /// A partition's offsets, with the answer to `question`.
    ///
    /// # Errors
    /// As [`Broker::fetch`].
    pub async fn offsets(&self, topic: &Topic, partition: PartitionIndex, question: Option<OffsetQuestion>) -> Result<Offsets, Error> {
        let partition = self.partition(topic, partition)?;
        let latest = partition.marks().high_watermark;
        let earliest = partition.reader().log_start();
        let answer = match question {
            None => None,
            Some(OffsetQuestion::Earliest) => Some((earliest, None)),
            Some(OffsetQuestion::Latest) => Some((latest, None)),
            Some(OffsetQuestion::MaxTimestamp) => search(&partition, move |reader| reader.find_max_timestamp(latest))
                .await
                .map_err(|error| self.unless_gone(&partition, error))?,
            Some(OffsetQuestion::Timestamp(millis)) => {
                find_timestamp(&partition, millis, latest).await.map_err(|error| self.unless_gone(&partition, error))?
            }
        };
        Ok(Offsets { earliest, latest, last_stable: latest, leader_epoch: partition.epoch(), answer })
    }

    /// The offset that a position means now.
    async fn resolve(&self, partition: &Partition, position: Position, reset: OffsetReset) -> Result<Offset, Error> {
        let (marks, log_start) = (partition.marks(), partition.reader().log_start());
        match position {
            Position::Earliest => Ok(log_start),
            Position::Latest => Ok(marks.high_watermark),
            Position::Tail(count) => Ok(marks.high_watermark.saturating_sub(count).max(log_start)),
            Position::Timestamp(millis) => from_timestamp(partition, millis, marks.high_watermark).await,
            Position::Offset(requested) => {
                let reason = match Offset::new(requested) {
                    Some(offset) if offset < log_start => RangeReason::Trimmed,
                    Some(offset) if offset <= marks.log_end => return Ok(offset),
                    _ => RangeReason::Future,
                };
                match reset {
                    OffsetReset::Earliest => Ok(log_start),
                    OffsetReset::Latest => Ok(marks.high_watermark),
                    OffsetReset::Duration(age) => {
                        let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                        from_timestamp(partition, self.now().millis().saturating_sub(age_ms), marks.high_watermark).await
                    }
                    OffsetReset::Error => {
                        Err(Error::OffsetOutOfRange { requested, earliest: log_start, latest: marks.high_watermark, reason })
                    }
                }
            }
        }
    }

    /// Why a partition has ended under a call that waited for it.
    fn gone(&self, partition: &Partition) -> Error {
        match self.topic(partition.id().topic.as_str()) {
            Ok(_) => Error::LeaderUnavailable,
            Err(deleted) => deleted,
        }
    }

    /// What a call is told that met `error` in a partition: if that has been closed meanwhile, its files may have gone from under the call.
    fn unless_gone(&self, partition: &Partition, error: Error) -> Error {
        if partition.watch().has_changed().is_err() { self.gone(partition) } else { error }
    }

    /// Waits until at least `min_bytes` can be read from `start`, it is trimmed, the deadline passes, or the node begins to stop.
    async fn wait_for_bytes(&self, partition: &Partition, start: Offset, min_bytes: usize, deadline: Instant) -> Result<(), Error> {
        let mut marks = partition.watch();
        let mut waiting = None;
        loop {
            let high_watermark = marks.borrow_and_update().high_watermark;
            let available = if start < high_watermark { partition.reader().bytes_from(start) } else { 0 };
            let is_trimmed = start < partition.reader().log_start();
            if available > 0 && available >= min_bytes as u64 || is_trimmed || Instant::now() >= deadline {
                return Ok(());
            }
            waiting.get_or_insert_with(Waiting::begin);
            tokio::select! {
                moved = marks.changed() => moved.map_err(|_| self.gone(partition))?,
                () = tokio::time::sleep_until(deadline) => return Ok(()),
                () = self.inner.draining.cancelled() => return Ok(()),
            }
        }
    }
}

/// Counts a fetch as waiting until it is dropped, answered or not.
struct Waiting(metrics::Gauge);

impl Waiting {
    fn begin() -> Self {
        let gauge = metrics::gauge!("tidegate_waiting_requests", "api" => "fetch");
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Reads what the page cache holds at once; what has to come from the disk is read on another thread. `None` if `start` has been trimmed.
async fn read(reader: &LogReader, start: Offset, upper: Offset, max_bytes: usize) -> Result<Option<(Bytes, Offset)>, Error> {
    let cached = reader.read(start, upper, max_bytes, ReadMode::Cached)?;
    let found = if matches!(cached, ReadOutcome::WouldBlock) {
        metrics::counter!("tidegate_cold_reads_total").increment(1);
        let reader = reader.clone();
        blocking(move || reader.read(start, upper, max_bytes, ReadMode::Blocking)).await?
    } else {
        cached
    };
    match found {
        ReadOutcome::Batches { bytes, next_offset } => Ok(Some((bytes, next_offset))),
        ReadOutcome::Trimmed => Ok(None),
        ReadOutcome::WouldBlock => Err(Error::Internal("a blocking read would not wait".to_owned())),
    }
}

/// What a position means when a trim has overtaken it: who was promised all that comes gets what is left of it.
fn after_trim(position: Position) -> Position {
    if position == Position::Latest { Position::Earliest } else { position }
}

/// Where the batches from `start` on are; `None` if `start` has been trimmed.
async fn locate_from(partition: &Partition, start: Offset, max_bytes: usize) -> Result<Option<FetchedRanges>, Error> {
    let (marks, reader) = (partition.marks(), partition.reader());
    // Before it is looked for: what is found lies above it, whatever is trimmed meanwhile.
    let (log_start, high_watermark) = (reader.log_start(), marks.high_watermark);
    let (mut ranges, mut next_offset) = (Vec::new(), start);
    if start < high_watermark {
        match locate(reader, start, high_watermark, max_bytes).await? {
            Some(found) => (ranges, next_offset) = found,
            None => return Ok(None),
        }
    }
    let ranges = StoredRanges::new(ranges);
    Ok(Some(FetchedRanges { start, ranges, next_offset, high_watermark, log_start, leader_epoch: partition.epoch() }))
}

/// Finds batches by what the page cache holds of the index and headers; on another thread if that is not all.
async fn locate(reader: &LogReader, start: Offset, upper: Offset, max_bytes: usize) -> Result<Option<(Vec<FileRange>, Offset)>, Error> {
    let cached = reader.locate(start, upper, max_bytes, ReadMode::Cached)?;
    let found = if matches!(cached, Located::WouldBlock) {
        metrics::counter!("tidegate_cold_reads_total").increment(1);
        let reader = reader.clone();
        blocking(move || reader.locate(start, upper, max_bytes, ReadMode::Blocking)).await?
    } else {
        cached
    };
    match found {
        Located::Ranges { ranges, next_offset } => Ok(Some((ranges, next_offset))),
        Located::Trimmed => Ok(None),
        Located::WouldBlock => Err(Error::Internal("a blocking read would not wait".to_owned())),
    }
}

async fn from_timestamp(partition: &Partition, millis: i64, high_watermark: Offset) -> Result<Offset, Error> {
    Ok(find_timestamp(partition, millis, high_watermark).await?.map_or(high_watermark, |(offset, _)| offset))
}

async fn find_timestamp(partition: &Partition, millis: i64, upper: Offset) -> Result<Option<(Offset, Option<Timestamp>)>, Error> {
    search(partition, move |reader| reader.find_timestamp(Timestamp::from_millis(millis), upper)).await
}

type Found = Option<(Offset, Timestamp)>;

/// A search through the log, on a thread that may wait for the disk.
async fn search(
    partition: &Partition,
    find: impl FnOnce(&LogReader) -> Result<Found, tidegate_storage::Error> + Send + 'static,
) -> Result<Option<(Offset, Option<Timestamp>)>, Error> {
    let reader = partition.reader().clone();
    let found = blocking(move || find(&reader)).await?;
    Ok(found.map(|(offset, timestamp)| (offset, Some(timestamp))))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, tidegate_storage::Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Error::Internal(format!("a read was cut off: {error}"))),
    }
}
