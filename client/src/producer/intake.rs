//! How a record gets in: its topic's partitions are known, its partition is chosen, there is room for it; or its sender waits, in line.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_types::{Clock, SideEffects};

use super::Shared;
use super::accumulator::{Accumulator, LaneId};
use super::batch::{batch_bytes, record_bytes};
use super::config::ProducerConfig;
use super::delivery::Delivery;
use super::error::ProducerError;
use crate::backoff::{backoff, deadline};
use crate::error::Error;
use crate::partitioner::Choice;
use crate::record::NewRecord;
use crate::routing::TopicRoute;

/// What all clones of a producer share under its lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) accumulator: Accumulator,
    topics: HashMap<Arc<str>, Topic>,
    /// Senders in line: who comes later stands behind them even if there is room.
    waiting: usize,
    pub(super) is_closed: bool,
}

/// A topic that records were sent to.
#[derive(Debug)]
struct Topic {
    route: Arc<TopicRoute>,
    lanes: Vec<Option<LaneId>>,
    sticky: u32,
    count: u64,
    /// Its partitions are being learned anew.
    is_refreshing: bool,
}

/// What came of trying to take a record.
#[derive(Debug)]
pub(super) enum Tried {
    Taken(Delivery),
    /// Nothing is known of the topic, or not of that partition.
    Unknown(Option<Arc<TopicRoute>>),
    NoRoom,
}

impl Shared {
    pub(super) async fn take(self: &Arc<Self>, topic: &str, partition: Option<u32>, record: NewRecord) -> Result<Delivery, ProducerError> {
        let bytes = record_bytes(&record);
        match self.try_take(topic, partition, &record, bytes, false)? {
            Tried::Taken(delivery) => Ok(delivery),
            Tried::Unknown(_) | Tried::NoRoom => {
                // Seldom, and large: not part of every send's future.
                Box::pin(self.take_waiting(topic, partition, record, bytes)).await
            }
        }
    }

    /// Waits until the topic is known and there is room, in line with the others.
    async fn take_waiting(
        self: &Arc<Self>,
        topic: &str,
        partition: Option<u32>,
        record: NewRecord,
        bytes: usize,
    ) -> Result<Delivery, ProducerError> {
        let deadline = deadline(self.config.max_block);
        let mut failures = 0;
        let mut place: Option<InLine<'_>> = None;
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            match self.try_take(topic, partition, &record, bytes, place.is_some())? {
                Tried::Taken(delivery) => return Ok(delivery),
                Tried::Unknown(seen) => {
                    // That may take its time: nobody else has to wait for it.
                    place = None;
                    self.learn(topic, partition, seen, deadline, &mut failures).await?;
                }
                Tried::NoRoom => {
                    let full = |_| ProducerError::BufferFull(self.config.max_block);
                    if place.is_none() {
                        place = Some(tokio::time::timeout_at(deadline, InLine::stand(self)).await.map_err(full)?);
                        continue;
                    }
                    tokio::time::timeout_at(deadline, room).await.map_err(full)?;
                }
            }
        }
    }

    pub(super) fn try_take(
        self: &Arc<Self>,
        name: &str,
        partition: Option<u32>,
        record: &NewRecord,
        bytes: usize,
        is_first_in_line: bool,
    ) -> Result<Tried, ProducerError> {
        let timestamp = record.timestamp.unwrap_or_else(|| self.clock.wall().millis());
        if timestamp < 0 {
            return Err(ProducerError::Input(format!("a timestamp of {timestamp}: none is before 1970")));
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.is_closed {
            return Err(ProducerError::Closed { side_effects: SideEffects::None });
        }
        let Some(topic) = state.topics.get_mut(name) else { return Ok(Tried::Unknown(None)) };
        let limit = topic.route.max_batch_bytes;
        if batch_bytes(bytes) > limit {
            return Err(ProducerError::TooLarge { actual: batch_bytes(bytes), limit });
        }
        if !state.accumulator.has_room(bytes) || (state.waiting > 0 && !is_first_in_line) {
            return Ok(Tried::NoRoom);
        }
        let partitions = topic.route.partitions();
        let chosen = partition.unwrap_or_else(|| {
            let choice = Choice { topic: name, partitions, sticky: topic.sticky, count: topic.count, random: fastrand::u64(..) };
            self.config.partitioner.partition(record, &choice)
        });
        if chosen >= partitions {
            if partition.is_some() {
                return Ok(Tried::Unknown(Some(Arc::clone(&topic.route))));
            }
            return Err(ProducerError::Input(format!("the partitioner chose partition {chosen} of {partitions}")));
        }
        let partition = chosen;
        let lane = *topic.lanes[partition as usize].get_or_insert_with(|| state.accumulator.lane(&topic.route.name, partition));
        let appended = state.accumulator.append(|| self.now(), lane, record, timestamp, bytes, limit)?;
        topic.count = topic.count.wrapping_add(1);
        if appended.is_batch_closed && partition == topic.sticky {
            topic.stick_elsewhere();
        }
        let is_old = appended.is_news && !topic.is_refreshing && topic.route.learned.elapsed() > self.config.metadata_max_age;
        if is_old {
            topic.is_refreshing = true;
            let (shared, route) = (Arc::clone(self), Arc::clone(&topic.route));
            self.runtime.spawn(async move { shared.refresh(route).await });
        }
        drop(guard);
        if appended.is_news {
            self.news.notify_one();
        }
        Ok(Tried::Taken(appended.delivery))
    }

    /// Learns a topic's partitions; waits between tries, and fails at the deadline or when it is certain that trying does not help.
    async fn learn(
        &self,
        topic: &str,
        partition: Option<u32>,
        seen: Option<Arc<TopicRoute>>,
        deadline: tokio::time::Instant,
        failures: &mut u32,
    ) -> Result<(), ProducerError> {
        let learning = async {
            match &seen {
                None => self.client.route(topic).await,
                Some(seen) => self.client.learn(topic, Some(seen)).await,
            }
        };
        let learned = tokio::time::timeout_at(deadline, learning).await.unwrap_or(Err(Error::Timeout(self.config.max_block)));
        match learned {
            Ok(route) => {
                let partitions = route.partitions();
                self.lock().know(route);
                match partition.filter(|partition| *partition >= partitions) {
                    None => Ok(()),
                    Some(missing) => {
                        Err(ProducerError::Input(format!("topic '{topic}' has {partitions} partitions, and no partition {missing}")))
                    }
                }
            }
            Err(error) if error.may_pass() && tokio::time::Instant::now() < deadline => {
                let pause = backoff(self.config.retry_backoff, self.config.retry_backoff_max, *failures, fastrand::f64());
                *failures += 1;
                tokio::time::sleep_until(crate::backoff::deadline(pause).min(deadline)).await;
                Ok(())
            }
            Err(error) => Err(ProducerError::Unroutable { topic: topic.into(), reason: Arc::new(error) }),
        }
    }

    /// Looks whether a topic has new partitions.
    async fn refresh(&self, route: Arc<TopicRoute>) {
        let learned = self.client.learn(&route.name, Some(&route)).await;
        let mut state = self.lock();
        // What cannot be learned now is asked for again with the next batch.
        if let Ok(learned) = learned {
            state.know(learned);
        }
        if let Some(topic) = state.topics.get_mut(&route.name) {
            topic.is_refreshing = false;
        }
    }
}

impl State {
    pub(super) fn new(config: &ProducerConfig) -> Self {
        Self { accumulator: Accumulator::new(config.clone()), topics: HashMap::new(), waiting: 0, is_closed: false }
    }

    fn stand_in_line(&mut self) {
        self.waiting += 1;
        self.accumulator.waited_for_room();
    }

    /// The topic is not what it was: the next record asks anew.
    pub(super) fn forget(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    pub(super) fn know(&mut self, route: Arc<TopicRoute>) {
        let partitions = route.partitions();
        let new = || Topic { route: Arc::clone(&route), lanes: Vec::new(), sticky: 0, count: 0, is_refreshing: false };
        let topic = self.topics.entry(Arc::clone(&route.name)).or_insert_with(new);
        topic.lanes.resize(partitions as usize, None);
        topic.route = route;
        topic.stick_elsewhere();
    }
}

impl Topic {
    /// Chooses where records without a place of their own gather next.
    fn stick_elsewhere(&mut self) {
        let partitions = self.route.partitions();
        if partitions > 1 {
            let step = fastrand::u32(1..partitions);
            self.sticky = (self.sticky + step) % partitions;
        } else {
            self.sticky = 0;
        }
    }
}

/// The first place in the line of senders that wait for room; given up when dropped.
struct InLine<'s> {
    _waiting: Waiting<'s>,
    _first: tokio::sync::MutexGuard<'s, ()>,
}

impl<'s> InLine<'s> {
    async fn stand(shared: &'s Shared) -> Self {
        shared.lock().stand_in_line();
        let _waiting = Waiting(shared);
        Self { _waiting, _first: shared.line.lock().await }
    }
}

/// One who waits, counted until it is served or goes away.
struct Waiting<'s>(&'s Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}
