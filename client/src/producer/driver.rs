//! The producer's one task: asks the accumulator what to send, sends it, tells it what came of it; of an idempotent one also the asking for its id.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use tidegate_types::{Codec, ErrorCode, ProducerStamp, RecordBatch, SideEffects};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Shared;
use super::accumulator::{LaneId, Outcome, Sending};
use super::batch::{Batch, Body};
use crate::backoff::deadline;
use crate::batch::MEDIA_TYPE;
use crate::call::Call;
use crate::error::{Error, Problem};
use crate::identity::ProducerIdentity;
use crate::produce::{AppendedBatches, ProduceOptions};

/// The longest time that a server takes to answer a produce, if it is asked to.
const SERVER_TIMEOUT_MAX: Duration = Duration::from_secs(120);

/// A request that has ended.
#[derive(Debug)]
enum Finished {
    Produce(Box<Produced>),
    Identity(Result<ProducerIdentity, Error>),
}

/// What has come of a batch.
#[derive(Debug)]
struct Produced {
    lane: LaneId,
    topic: Arc<str>,
    batch: Batch,
    outcome: Outcome,
    sent_bytes: usize,
}

/// Runs until the producer is closed and everything it took is settled.
pub(super) async fn drive(shared: Arc<Shared>) {
    let _end = End(Arc::clone(&shared));
    let mut requests: JoinSet<Finished> = JoinSet::new();
    loop {
        let now = shared.now();
        let (sendings, wants_identity, next_wake, is_done) = {
            let mut state = shared.lock();
            let sendings = state.accumulator.poll(now);
            let wants_identity = state.accumulator.wants_identity(now);
            (sendings, wants_identity, state.accumulator.next_wake(), state.is_closed && state.accumulator.is_idle())
        };
        if is_done {
            return;
        }
        shared.room.notify_waiters();
        for sending in sendings {
            let shared = Arc::clone(&shared);
            requests.spawn(async move { Finished::Produce(Box::new(shared.request(sending).await)) });
        }
        if wants_identity {
            let shared = Arc::clone(&shared);
            requests.spawn(async move { Finished::Identity(shared.client.init_producer_within(shared.config.request_timeout).await) });
        }
        let until = next_wake.map(|at| deadline(at.saturating_sub(shared.now())));
        let first = tokio::select! {
            () = shared.news.notified() => None,
            () = sleep_until(until) => None,
            finished = requests.join_next(), if !requests.is_empty() => finished,
        };
        for finished in std::iter::successors(first, |_| requests.try_join_next()) {
            match finished {
                Ok(Finished::Identity(answer)) => shared.lock().accumulator.identified(shared.now(), answer, fastrand::f64()),
                Ok(Finished::Produce(produced)) => {
                    let Produced { lane, topic, batch, outcome, sent_bytes } = *produced;
                    let mut state = shared.lock();
                    if is_gone(&outcome) {
                        state.forget(&topic);
                    }
                    state.accumulator.finished(shared.now(), lane, batch, outcome, sent_bytes, fastrand::f64());
                }
                // A panic goes on as one; a request is cancelled only with the runtime, and then this task is too.
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return,
                },
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// When the task ends, in whatever way, nobody may wait for it any longer.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        {
            let mut state = self.0.lock();
            state.is_closed = true;
            state.accumulator.clear();
        }
        self.0.room.notify_waiters();
    }
}

impl Shared {
    async fn request(&self, sending: Sending) -> Produced {
        let Sending { lane, topic, partition, mut batch, timeout } = sending;
        let body = match pack(std::mem::replace(&mut batch.body, Body::nothing()), self.config.codec, batch.stamp).await {
            Ok(body) => body,
            Err(reason) => {
                let outcome = Outcome::Failed(Arc::new(Error::Input(reason)), SideEffects::None);
                return Produced { lane, topic, batch, outcome, sent_bytes: 0 };
            }
        };
        batch.body = Body::Packed(body.clone());
        let (body, sent_bytes) = (body.into_bytes(), batch.body.len());
        // If this task is cut off, nobody knows what became of them.
        let before = batch.claim.side_effects();
        batch.claim.touch(SideEffects::Possible);
        let options = ProduceOptions { acks: self.config.acks, timeout: self.server_timeout };
        let path = ["topics", &topic, "partitions", &partition.to_string(), "batches"];
        let call = options.on(Call::new(Method::POST, path).body(MEDIA_TYPE, body)).within(timeout.max(Duration::from_millis(1)));
        let answer = self.client.send_to_leader(&topic, partition, &call).await;
        let records = Some(u64::from(batch.claim.len()));
        let appended = answer.and_then(|answer| AppendedBatches::read(&answer, self.config.acks, records));
        if let Err(Error::Problem(problem)) = &appended
            && matches!(problem.known_code(), Some(ErrorCode::TopicNotFound | ErrorCode::PartitionNotFound))
        {
            self.client.routing().forget(&topic);
        }
        batch.claim.touch(before);
        let outcome = judge(appended, batch.stamp.is_some());
        Produced { lane, topic, batch, outcome, sent_bytes }
    }
}

/// Whether the topic is not what the producer knows.
fn is_gone(outcome: &Outcome) -> bool {
    let Outcome::Failed(error, _) = outcome else { return false };
    let code = error.problem().and_then(Problem::known_code);
    matches!(code, Some(ErrorCode::TopicNotFound | ErrorCode::PartitionNotFound))
}

/// Packing with a codec takes longer than other tasks should wait.
async fn pack(body: Body, codec: Codec, stamp: Option<ProducerStamp>) -> Result<RecordBatch, String> {
    match body {
        Body::Records(_) if codec != Codec::None => match tokio::task::spawn_blocking(move || body.pack(codec, stamp)).await {
            Ok(packed) => packed,
            Err(error) => Err(error.to_string()),
        },
        Body::Records(_) | Body::Packed(_) => body.pack(codec, stamp),
    }
}

/// What to tell the server of the time it has; what is its default anyway is not said.
pub(super) fn server_timeout(request_timeout: Duration) -> Option<Duration> {
    const SERVER_DEFAULT: Duration = Duration::from_secs(30);
    let timeout = request_timeout.clamp(Duration::from_millis(1), SERVER_TIMEOUT_MAX);
    (timeout != SERVER_DEFAULT).then_some(timeout)
}

/// What an answer means for the batch; `is_stamped` says whether it has a sequence.
fn judge(answer: Result<AppendedBatches, Error>, is_stamped: bool) -> Outcome {
    let error = match answer {
        Ok(appended) => return Outcome::Written(appended.base_offset),
        Err(error) => error,
    };
    let side_effects = error.side_effects();
    if let Some(problem) = error.problem() {
        match problem.known_code() {
            Some(ErrorCode::SequenceGap) if is_stamped => return Outcome::Gap(Arc::new(error)),
            Some(ErrorCode::ProducerFenced) if is_stamped => return Outcome::Fenced(Arc::new(error)),
            Some(ErrorCode::RecordTooLarge | ErrorCode::BodyTooLarge) => return Outcome::TooLarge(Arc::new(error)),
            Some(ErrorCode::RecordRejected | ErrorCode::CorruptBatch) => {
                if let Some(index) = refused_record(problem) {
                    return Outcome::Rejected(index, Arc::new(error));
                }
            }
            _ => {}
        }
    }
    if error.may_pass() { Outcome::Retry(Arc::new(error), side_effects) } else { Outcome::Failed(Arc::new(error), side_effects) }
}

/// The one record that the server names as the reason.
fn refused_record(problem: &Problem) -> Option<u32> {
    problem.extras.get("errors")?.get(0)?.get("index")?.as_u64()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problem(code: &str, status: u16, extras: &serde_json::Value) -> Error {
        let mut problem: Problem = serde_json::from_value(json!({"code": code, "status": status})).unwrap();
        problem.extras = extras.as_object().unwrap().clone();
        let known = problem.known_code();
        problem.retryable = known.is_some_and(ErrorCode::is_retryable);
        problem.side_effects = known.map_or("possible", |code| code.side_effects().as_str()).to_owned();
        Error::Problem(Box::new(problem))
    }

    /// A promise: what may help is tried again, what cannot is not; a record that is to blame is found; doubt about the outcome is kept.
    #[test]
    fn answers_are_judged() {
        let gap = || problem("sequence-gap", 409, &json!({"expected_seq": 5, "received_seq": 7}));
        let fenced = || problem("producer-fenced", 409, &json!({"current_epoch": 7}));
        assert!(matches!(judge(Err(gap()), true), Outcome::Gap(_)));
        assert!(matches!(judge(Err(fenced()), true), Outcome::Fenced(_)));
        let judge = |error| judge(Err(error), false);
        assert!(matches!([judge(gap()), judge(fenced())], [Outcome::Failed(..), Outcome::Failed(..)]));
        assert!(matches!(judge(problem("overloaded", 503, &json!({}))), Outcome::Retry(_, SideEffects::None)));
        assert!(matches!(judge(Error::Broken(String::new())), Outcome::Retry(_, SideEffects::Possible)));
        assert!(matches!(judge(problem("record-too-large", 413, &json!({}))), Outcome::TooLarge(_)));
        let errors = json!({"errors": [{"index": 7, "code": "rule-broken"}], "batch": 0});
        assert!(matches!(judge(problem("record-rejected", 422, &errors)), Outcome::Rejected(7, _)));
        assert!(matches!(
            judge(problem("record-rejected", 422, &json!({"errors": [{"detail": "x"}]}))),
            Outcome::Failed(_, SideEffects::None)
        ));
        assert!(matches!(judge(problem("topic-not-found", 404, &json!({}))), Outcome::Failed(_, SideEffects::None)));
        assert!(matches!(judge(problem(Problem::FOREIGN, 502, &json!({}))), Outcome::Retry(_, SideEffects::Possible)));
        assert!(matches!(judge(problem(Problem::FOREIGN, 500, &json!({}))), Outcome::Failed(_, SideEffects::Possible)));
        let answer = Error::Answer { call: String::new(), reason: String::new() };
        assert!(matches!(judge(answer), Outcome::Failed(_, SideEffects::Possible)));
    }

    /// A promise: the server gives up when the client does, within what servers allow.
    #[test]
    fn the_server_is_told_its_time() {
        let seconds = Duration::from_secs;
        assert_eq!([30, 5, 500].map(|s| server_timeout(seconds(s))), [None, Some(seconds(5)), Some(seconds(120))]);
    }
}
