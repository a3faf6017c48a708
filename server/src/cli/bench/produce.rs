//! The producing side: requests from the pool (or stamped as they are sent), their answers, and what they acknowledge.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::Method;
use serde::Deserialize;
use tidegate_client::{AppendedBatches, Error, batch};
use tokio::task::JoinSet;

use super::super::Failure;
use super::arguments::{AcksName, Form};
use super::connection::{Answer, Call, Connection, Node, unexpected};
use super::integrity::Digests;
use super::payload::{Body, Shape};
use super::progress::Progress;
use super::schedule::Schedule;
use super::tally::Tally;
use super::workers;

/// Before a connection goes on after a refusal that may pass.
const BACKOFF: Duration = Duration::from_millis(10);

/// Where bodies come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Made before, sent in turn.
    Pool(Vec<Body>),
    /// Made as they are sent: each value's stamp says when it was due, in nanoseconds since then.
    Stamped(Instant),
}

/// Where records go.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) node: &'a Node,
    pub(crate) topic: &'a str,
    pub(crate) partitions: u32,
}

/// What all producers of a run share.
#[derive(Debug)]
pub(crate) struct Producing {
    shape: Shape,
    source: Source,
    acks: AcksName,
    /// By partition.
    calls: Vec<Call>,
    schedule: Arc<Schedule>,
    progress: Arc<Progress>,
    /// Requests begun so far: which body, and which partition.
    begun: AtomicU64,
    /// Never held while anything is waited for.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tally: Tally,
    digests: Digests,
    ended_early: Option<Error>,
}

impl State {
    /// At a rate a failure is no short cut: what was due has had no answer until now.
    fn failed(&mut self, error: &Error, due: Instant, is_open_loop: bool) {
        self.tally.error(error);
        if is_open_loop {
            self.tally.waited(due, Instant::now(), 1);
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Produced {
    pub(crate) tally: Tally,
    pub(crate) digests: Digests,
    /// Why it did not go on to its end.
    pub(crate) ended_early: Option<Error>,
    /// At a rate: requests that were due and never sent.
    pub(crate) unsent: Option<u64>,
}

impl Producing {
    /// Everything but the connections.
    ///
    /// # Errors
    /// If the topic's name cannot be asked for.
    pub(crate) fn new(
        place: &Place<'_>,
        shape: Shape,
        source: Source,
        acks: AcksName,
        schedule: Arc<Schedule>,
        progress: Arc<Progress>,
    ) -> Result<Self, Failure> {
        let Place { node, topic, partitions } = *place;
        let call = |partition: u32| {
            let query = acks.query();
            let (target, content_type) = match shape.form() {
                Form::Json => (format!("/v1/topics/{topic}/partitions/{partition}/records{query}"), "application/json"),
                Form::Batches => (format!("/v1/topics/{topic}/partitions/{partition}/batches{query}"), batch::MEDIA_TYPE),
                // Lines name no partition here: the server keeps them together.
                Form::Ndjson => (format!("/v1/topics/{topic}/records/stream{query}"), "application/x-ndjson"),
                Form::Raw => {
                    let joint = if query.is_empty() { "?" } else { "&" };
                    (format!("/v1/topics/{topic}/raw{query}{joint}partition={partition}"), "application/json")
                }
            };
            node.call(Method::POST, &target, Some(content_type))
        };
        let calls = (0..partitions).map(call).collect::<Result<_, _>>()?;
        let tally = Tally::new(schedule.counts_from).map_err(|error| Failure::Local(error.to_string()))?;
        let state = Mutex::new(State { tally, digests: Digests::default(), ended_early: None });
        Ok(Self { shape, source, acks, calls, schedule, progress, begun: AtomicU64::new(0), state })
    }

    /// Sends until the schedule is over, with one request under way for each of `senders`.
    ///
    /// # Errors
    /// Only what is our own mistake; what the server refuses is in what comes back.
    pub(crate) async fn run(self, senders: Vec<Connection>) -> Result<Produced, Failure> {
        let this = Arc::new(self);
        let mut tasks = JoinSet::new();
        for sender in senders {
            let this = Arc::clone(&this);
            tasks.spawn(async move { this.send_all(sender).await });
        }
        workers::join(tasks, &this.schedule).await?;
        // Nobody is left who could hold it.
        let this = Arc::into_inner(this).ok_or_else(|| Failure::Local("a sender did not end".to_owned()))?;
        let State { mut tally, digests, ended_early } = this.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let unsent = this.schedule.unsent(now);
        if let Some(unsent) = unsent {
            tally.unsent(unsent, now, 1);
        }
        let unsent = unsent.map(|unsent| unsent.requests);
        Ok(Produced { tally, digests, ended_early, unsent })
    }

    async fn send_all(&self, mut sender: Connection) {
        while let Some(due) = self.schedule.next().await {
            let n = self.begun.fetch_add(1, Ordering::Relaxed);
            let partition = usize::try_from(n % self.calls.len() as u64).unwrap_or_default();
            match self.send(&mut sender, n, partition, due).await {
                Ok(()) => {}
                Err(error) if may_pass(&error) => {
                    self.lock().failed(&error, due, self.schedule.is_open_loop());
                    if matches!(error, Error::Problem(_)) {
                        tokio::time::sleep(BACKOFF).await;
                    }
                }
                Err(error) => {
                    let mut state = self.lock();
                    state.failed(&error, due, self.schedule.is_open_loop());
                    state.ended_early.get_or_insert(error);
                    self.schedule.end();
                }
            }
        }
    }

    async fn send(&self, sender: &mut Connection, n: u64, partition: usize, due: Instant) -> Result<(), Error> {
        let made;
        let body = match &self.source {
            Source::Pool(pool) => &pool[usize::try_from(n % pool.len() as u64).unwrap_or_default()],
            Source::Stamped(epoch) => {
                let stamp = u64::try_from(due.saturating_duration_since(*epoch).as_nanos()).unwrap_or(u64::MAX);
                let place = usize::try_from(n).unwrap_or_default().wrapping_mul(self.shape.records());
                made = self.shape.body(place, |_| stamp).map_err(|failure| Error::Input(format!("{failure:?}")))?;
                &made
            }
        };
        let answer = sender.exchange(&self.calls[partition], body.bytes.clone()).await?;
        let now = Instant::now();
        let position = self.position(&answer, partition, body.hashes.len())?;
        self.progress.add(body.hashes.len() as u64);
        let mut state = self.lock();
        state.tally.answer(due, now, body.hashes.len() as u64, body.bytes.len() as u64);
        if let Some((partition, base)) = position {
            state.digests.acknowledge(partition, base, &body.hashes);
        }
        Ok(())
    }

    /// Where the records are that an answer acknowledges, if it says so: one after the other, in one partition.
    fn position(&self, answer: &Answer, partition: usize, records: usize) -> Result<Option<(u32, u64)>, Error> {
        let not_sent = || unexpected("its offsets are not those of the records that were sent");
        match self.shape.form() {
            _ if self.acks == AcksName::None => Ok(None),
            // It says how far the stream came, and not where each record is.
            Form::Ndjson => Ok(None),
            Form::Json | Form::Raw => {
                let Results { results } = serde_json::from_slice(&answer.body).map_err(|error| unexpected(&error.to_string()))?;
                let first = results.first().ok_or_else(not_sent)?;
                let (partition, base) = (first.partition, first.offset);
                let follow = results.iter().zip(base..).all(|(result, offset)| (result.partition, result.offset) == (partition, offset));
                if follow && results.len() == records { Ok(Some((partition, base))) } else { Err(not_sent()) }
            }
            Form::Batches => {
                let appended: AppendedBatches = serde_json::from_slice(&answer.body).map_err(|error| unexpected(&error.to_string()))?;
                let (base, last) = appended.base_offset.zip(appended.last_offset).ok_or_else(not_sent)?;
                let all_there = base.checked_add(records as u64) == last.checked_add(1);
                if all_there { Ok(Some((u32::try_from(partition).unwrap_or_default(), base))) } else { Err(not_sent()) }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of an answer is needed; the rest is passed over.
#[derive(Debug, Deserialize)]
struct Results {
    results: Vec<Stands>,
}

#[derive(Debug, Deserialize)]
struct Stands {
    partition: u32,
    offset: u64,
}

/// Whether the next request may fare better.
pub(crate) fn may_pass(error: &Error) -> bool {
    match error {
        Error::Problem(problem) => problem.retryable,
        Error::Timeout(_) | Error::Broken(_) => true,
        Error::Connect { .. } | Error::Address { .. } | Error::Input(_) | Error::Answer { .. } => false,
    }
}
