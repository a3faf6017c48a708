//! The task that owns a partition: gathers appends, has one group at a time written and synced, and answers when it counts. In between it
//! gives up the oldest, as trims and retention want it, and installs what compaction has written.
//!
//! What is on disk at the moment of an answer: with `acks=all` and `durability=fsync`, the batch, all before it, and the directory entry of
//! its file; with `acks=leader` or `durability=replicated`, the batch is in the page cache. A crash in between leaves a prefix of the groups.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate_storage::{Compactor, LogConfig, PartitionLog};
use tidegate_types::topic_config::Durability;
use tidegate_types::{LeaderEpoch, Offset, TopicConfig, TopicPartition};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::coalesce::{self, Group, Queue, Replay, Waiting};
use super::parked::Parked;
use super::progress::Progress;
use super::removal::Removals;
use super::replays::Replays;
use super::waiters::Waiters;
use super::{Marks, Message, Owner, Surroundings, compact, trim};
use crate::broker::{Acks, Appended};
use crate::error::Error;

/// What comes back from a disk thread.
#[derive(Debug)]
enum Done {
    Written(Written),
    Trimmed(trim::Done),
    Installed(compact::Done),
}

/// The log, and whether the group is in it.
#[derive(Debug)]
struct Written {
    log: PartitionLog,
    placed: Vec<(Owner, Appended)>,
    replayed: Vec<Replay<Owner>>,
    result: Result<(), Error>,
    /// Also if nothing could be written.
    sync_failed: bool,
}

/// Where the log is.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each partition, and the log is the rule")]
enum Home {
    /// Here, idle.
    Here(PartitionLog),
    /// On a disk thread, which will send it back.
    Away(oneshot::Receiver<Done>),
    /// Gone for good: a disk thread died with it, or the partition was closed.
    Lost,
}

#[derive(Debug)]
pub(super) struct Task {
    id: TopicPartition,
    epoch: LeaderEpoch,
    config: TopicConfig,
    around: Surroundings,
    home: Home,
    waiting: VecDeque<Waiting<Owner>>,
    trims: VecDeque<trim::Request>,
    installs: VecDeque<compact::Install>,
    compactor: Compactor,
    /// Ends a round of compaction.
    stop_compaction: Arc<AtomicBool>,
    /// Of what was given up; the rounds of compaction are among them.
    removals: Removals,
    written: Waiters<Owner>,
    replays: Replays,
    /// What came before its turn.
    parked: Parked<Owner>,
    /// How many producers and keys were counted last.
    counted: (usize, usize),
    progress: Progress,
    unsynced_records: u64,
    /// When what is written and does not have to be synced to count is synced all the same (`flush.ms`).
    flush_at: Option<Instant>,
    /// A sync that failed is not tried again by itself: the log says no from then on.
    sync_failed: bool,
    marks: watch::Sender<Marks>,
    closing: Vec<oneshot::Sender<Result<Offset, Error>>>,
}

impl Task {
    pub(super) fn new(
        id: TopicPartition,
        epoch: LeaderEpoch,
        log: PartitionLog,
        config: TopicConfig,
        around: Surroundings,
    ) -> (watch::Receiver<Marks>, Self) {
        let compactor = log.compactor();
        let progress = Progress::recovered(config.durability, log.log_end());
        let (marks, watcher) = watch::channel(marks_of(&progress));
        let removals = Removals::new(&id);
        let counts = log.producers().counts();
        let mut task = Self {
            id,
            epoch,
            config,
            around,
            home: Home::Here(log),
            waiting: VecDeque::new(),
            trims: VecDeque::new(),
            installs: VecDeque::new(),
            compactor,
            stop_compaction: Arc::default(),
            removals,
            written: Waiters::default(),
            replays: Replays::default(),
            parked: Parked::default(),
            counted: (0, 0),
            progress,
            unsynced_records: 0,
            flush_at: None,
            sync_failed: false,
            marks,
            closing: Vec::new(),
        };
        task.count(counts);
        (watcher, task)
    }

    /// Runs until the partition is closed or its last handle is dropped.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        loop {
            self.work_next();
            if self.is_finished() {
                break;
            }
            match &mut self.home {
                Home::Away(done) => tokio::select! {
                    biased;
                    done = done => self.settle(done.ok()),
                    message = inbox.recv(), if self.closing.is_empty() => self.take(message, &mut inbox),
                },
                Home::Here(_) | Home::Lost => {
                    let flush_at = self.flush_at.filter(|_| !self.sync_failed);
                    let next = [flush_at, self.parked.next_due()].into_iter().flatten().min();
                    tokio::select! {
                        message = inbox.recv() => self.take(message, &mut inbox),
                        // Then there is something to sync, or somebody has waited long enough.
                        () = sleep_until(next) => {}
                    }
                }
            }
        }
        inbox.close();
        // First, since a round of compaction, which the close waits for, may wait for an answer or for the turn of a trim.
        refuse(&mut inbox);
        self.refuse_parked();
        self.replays.refuse_all();
        self.close().await;
        refuse(&mut inbox);
    }

    fn is_finished(&self) -> bool {
        !self.closing.is_empty() && self.has_no_work() && !matches!(self.home, Home::Away(_))
    }

    fn has_no_work(&self) -> bool {
        self.waiting.is_empty() && self.trims.is_empty() && self.installs.is_empty()
    }

    /// Takes a message and all others that have come.
    fn take(&mut self, first: Option<Message>, inbox: &mut mpsc::Receiver<Message>) {
        let Some(first) = first else {
            // No handle is left, so nobody can ask for the result of the close.
            self.stop_compaction.store(true, Ordering::Relaxed);
            self.refuse_parked();
            self.closing.push(oneshot::channel().0);
            return;
        };
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Append { payload, bytes, owner } => {
                    self.waiting.push_back(Waiting { payload, bytes, is_late: false, owner });
                }
                Message::Trim(request) => self.trims.push_back(request),
                Message::Compact(request) => {
                    let stop = Arc::clone(&self.stop_compaction);
                    request.start(self.compactor.clone(), self.progress.high_watermark(), stop, self.removals.tasks());
                }
                Message::Install(install) => self.installs.push_back(install),
                Message::Configure(config) => self.configure(config),
                Message::Close(reply) => {
                    self.stop_compaction.store(true, Ordering::Relaxed);
                    self.refuse_parked();
                    self.closing.push(reply);
                }
            }
            next = inbox.try_recv().ok();
        }
    }

    fn configure(&mut self, config: TopicConfig) {
        if let Home::Here(log) = &mut self.home {
            log.set_config(LogConfig::from(&config));
        }
        if self.progress.set_durability(config.durability).is_some() {
            self.publish();
        }
        self.config = config;
        self.flush_at = None;
        self.schedule_flush();
    }

    /// Sends the next trim, installation or group to a disk thread, if there is one and the log is here.
    fn work_next(&mut self) {
        for late in self.parked.take_due(Instant::now()) {
            self.waiting.push_back(late);
        }
        if self.has_no_work() && !self.needs_sync() {
            return;
        }
        match std::mem::replace(&mut self.home, Home::Lost) {
            Home::Here(log) => self.home = self.send_out(log),
            Home::Lost => self.refuse_all(),
            away @ Home::Away(_) => self.home = away,
        }
    }

    /// Where the log is after it was given something to do. A trim goes first: there is one at a time, and it is short.
    fn send_out(&mut self, log: PartitionLog) -> Home {
        while let Some(request) = self.trims.pop_front() {
            let now = self.around.clock.wall();
            if let Some(plan) = request.plan(log.log_start(), self.progress.high_watermark(), &self.config, now) {
                return self.submit(move || Done::Trimmed(plan.run(log)));
            }
        }
        if let Some(install) = self.installs.pop_front() {
            return self.submit(move || Done::Installed(compact::Done::run(log, install)));
        }
        self.write_next(log)
    }

    /// Writes the next group. A group may be empty: then there is only something to sync.
    fn write_next(&mut self, mut log: PartitionLog) -> Home {
        let (now, instant) = (self.around.clock.wall(), Instant::now());
        let expiration_ms = i64::try_from(self.around.producer_expiration.as_millis()).unwrap_or(i64::MAX);
        log.set_config(LogConfig::from(&self.config));
        log.advance_producers(now.millis(), expiration_ms);
        let image = Arc::clone(&self.around.metadata.borrow().image);
        loop {
            let (waiting, parked, config) = (&mut self.waiting, &mut self.parked, &self.config);
            let queue = Queue { waiting, parked, producers: log.producers(), config, bound_epochs: &image.bound_epochs, now, instant };
            let mut group = coalesce::take_group(queue, log.log_end());
            for (owner, error) in group.refused.drain(..) {
                owner.answer(Err(error));
            }
            if !group.batches.is_empty() || self.needs_sync() {
                let write = self.plan_write(&group);
                return self.submit(move || Done::Written(write.run(log, group)));
            }
            // What was written before needs no disk; if it has not been synced by now, it never will be.
            let failure =
                self.sync_failed.then(|| Error::from(tidegate_storage::Error::Poisoned { reason: "a sync has failed".to_owned() }));
            self.replays.settle(group.replayed, self.progress.high_watermark(), failure.as_ref());
            if self.waiting.is_empty() {
                return Home::Here(log);
            }
        }
    }

    fn submit(&self, job: impl FnOnce() -> Done + Send + 'static) -> Home {
        let (send, done) = oneshot::channel();
        self.around.disk.submit(move || {
            // The task may have ended with its runtime; the log then closes here.
            let _ = send.send(job());
        });
        Home::Away(done)
    }

    fn needs_sync(&self) -> bool {
        (self.progress.needs_sync() || self.is_flush_due()) && !self.sync_failed
    }

    fn is_flush_due(&self) -> bool {
        self.flush_at.is_some_and(|at| at <= Instant::now())
    }

    /// The oldest unsynced record waits from when its write was known to be done.
    fn schedule_flush(&mut self) {
        let interval = self.config.flush_interval.filter(|_| self.progress.synced_end() < self.progress.log_end());
        self.flush_at = interval.and_then(|interval| self.flush_at.or_else(|| Instant::now().checked_add(interval)));
    }

    fn plan_write(&self, group: &Group<Owner>) -> Write {
        let records: u64 = group.batches.iter().map(tidegate_types::RecordBatch::record_count).sum();
        let unsynced = self.unsynced_records.saturating_add(records);
        let sync = self.config.durability == Durability::Fsync || unsynced >= self.config.flush_records || self.is_flush_due();
        Write { epoch: self.epoch, config: self.config.clone(), sync, partition: Arc::from(self.id.to_string()) }
    }

    /// Takes the log back: moves the marks and answers whom they release.
    fn settle(&mut self, done: Option<Done>) {
        match done {
            Some(Done::Written(written)) => self.settle_write(written),
            Some(Done::Trimmed(trimmed)) => self.settle_trim(trimmed),
            Some(Done::Installed(installed)) => self.home = Home::Here(installed.settle()),
            None => {
                // The disk thread died with the log in its hands; nothing is known of what it did.
                self.home = Home::Lost;
                self.refuse_all();
            }
        }
    }

    fn settle_write(&mut self, Written { log, placed, replayed, result, sync_failed }: Written) {
        let moved = self.note_ends(&log);
        self.sync_failed = sync_failed;
        self.count(log.producers().counts());
        self.home = Home::Here(log);
        self.replays.settle(replayed, self.progress.high_watermark(), result.as_ref().err());
        for (owner, appended) in placed {
            match &result {
                Ok(()) => self.written.push(owner, appended),
                Err(error) => owner.answer(Err(error.clone())),
            }
        }
        if moved {
            self.publish();
        }
        self.release();
    }

    fn settle_trim(&mut self, done: trim::Done) {
        let (marks_moved, start_moved) = (self.note_ends(&done.log), done.has_moved());
        let delay = Duration::from_millis(self.config.file_delete_delay_ms);
        self.home = Home::Here(done.settle(&self.id, delay, &mut self.removals));
        // Also if no mark has moved: who waits at an offset that is gone should know.
        if marks_moved || start_moved {
            self.publish();
        }
        self.release();
    }

    /// Takes note of how far the log has come; says whether a mark has moved.
    fn note_ends(&mut self, log: &PartitionLog) -> bool {
        self.unsynced_records = log.log_end().since(log.synced_end());
        let moved = self.progress.disk(log.log_end(), log.synced_end());
        self.schedule_flush();
        moved.is_some() || self.marks.borrow().synced_end != self.progress.synced_end()
    }

    fn release(&mut self) {
        while let Some((owner, appended)) = self.written.pop_below(self.progress.high_watermark()) {
            owner.answer(Ok(appended));
        }
        self.replays.release(self.progress.high_watermark());
    }

    /// Adds what has changed to what the whole node has.
    fn count(&mut self, (producers, keys): (usize, usize)) {
        let (producers_before, keys_before) = std::mem::replace(&mut self.counted, (producers, keys));
        metrics::gauge!("tidegate_producers").increment(producers as f64 - producers_before as f64);
        metrics::gauge!("tidegate_idempotency_keys").increment(keys as f64 - keys_before as f64);
    }

    fn refuse_parked(&mut self) {
        for owner in self.parked.take_all() {
            owner.answer(Err(Error::LeaderUnavailable));
        }
    }

    fn publish(&self) {
        self.marks.send_replace(marks_of(&self.progress));
    }

    fn refuse_all(&mut self) {
        for waiting in self.waiting.drain(..) {
            waiting.owner.answer(Err(Error::LeaderUnavailable));
        }
        for (owner, _) in self.written.take_all() {
            owner.answer(Err(Error::WriteTimeout));
        }
        self.replays.refuse_all();
        self.refuse_parked();
        for request in self.trims.drain(..) {
            request.refuse(Error::LeaderUnavailable);
        }
        // Their rounds see that nobody answers.
        self.installs.clear();
        self.flush_at = None;
    }

    /// Syncs and closes the log, on a disk thread, and tells those who asked. Afterwards nothing of it touches its directory any more:
    /// another log may take over the name.
    async fn close(&mut self) {
        self.removals.end().await;
        self.count((0, 0));
        let result = match std::mem::replace(&mut self.home, Home::Lost) {
            Home::Here(log) => {
                let (send, closed) = oneshot::channel();
                self.around.disk.submit(move || {
                    let _ = send.send(log.close().map_err(Error::from));
                });
                closed.await.unwrap_or(Err(Error::LeaderUnavailable))
            }
            Home::Away(_) | Home::Lost => Err(Error::LeaderUnavailable),
        };
        for reply in self.closing.drain(..) {
            let _ = reply.send(result.clone());
        }
    }
}

/// Refuses what was sent between the last look and the close: it was never admitted to the log.
fn refuse(inbox: &mut mpsc::Receiver<Message>) {
    while let Ok(message) = inbox.try_recv() {
        match message {
            Message::Append { owner, .. } => owner.answer(Err(Error::LeaderUnavailable)),
            Message::Trim(request) => request.refuse(Error::LeaderUnavailable),
            Message::Compact(_) | Message::Install(_) | Message::Configure(_) | Message::Close(_) => {}
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn marks_of(progress: &Progress) -> Marks {
    Marks { high_watermark: progress.high_watermark(), log_end: progress.log_end(), synced_end: progress.synced_end() }
}

/// One write on a disk thread.
#[derive(Debug)]
struct Write {
    epoch: LeaderEpoch,
    config: TopicConfig,
    sync: bool,
    partition: Arc<str>,
}

impl Write {
    fn run(self, mut log: PartitionLog, group: Group<Owner>) -> Written {
        let Group { batches, mut placed, mut replayed, append_time, .. } = group;
        let appended = coalesce::sequence(batches, log.log_end(), self.epoch, &self.config, append_time)
            .map_err(|error| Error::Internal(format!("{}: {error}", self.partition)))
            .and_then(|batches| self.append(&mut log, &batches));
        if let Err(error) = appended {
            // What was written before may be due all the same.
            let sync_failed = self.sync && self.sync(&mut log).is_err();
            return Written { log, placed, replayed, result: Err(error), sync_failed };
        }
        // With what was written the oldest keys may have gone.
        let held_ms = log.producers().keys().held_ms();
        let all = placed.iter_mut().map(|(_, appended)| appended).chain(replayed.iter_mut().map(|replay| &mut replay.appended));
        all.for_each(|appended| appended.key_window_ms = appended.key_window_ms.map(|_| held_ms));
        // Written, not synced: that is all that acks=leader and acks=none ask for.
        let (early, late): (Vec<_>, Vec<_>) = placed.into_iter().partition(|(owner, _)| owner.acks != Acks::All);
        for (owner, appended) in early {
            owner.answer(Ok(appended));
        }
        let result = if self.sync { self.sync(&mut log) } else { Ok(()) };
        let sync_failed = result.is_err();
        Written { log, placed: late, replayed, result, sync_failed }
    }

    fn append(&self, log: &mut PartitionLog, batches: &[tidegate_types::SequencedBatch]) -> Result<(), Error> {
        let start = std::time::Instant::now();
        log.append(batches)?;
        metrics::histogram!("tidegate_log_append_seconds").record(start.elapsed());
        for batch in batches {
            metrics::histogram!("tidegate_batch_records").record(f64::from(batch.header.record_count));
        }
        Ok(())
    }

    fn sync(&self, log: &mut PartitionLog) -> Result<(), Error> {
        let start = std::time::Instant::now();
        log.sync()?;
        metrics::histogram!("tidegate_log_fsync_seconds").record(start.elapsed());
        Ok(())
    }
}
