//! Produce as a stream: NDJSON, a record a line, written as it comes.
//!
//! A body may be far longer than a request elsewhere: it is cut into pieces of up to 1,000 lines, each written whole or not at all, one
//! after the other. Its promise: when it fails, **all lines before `line` are written**, and none from there on unless `in_doubt` says that
//! some may be; so a client goes on there. `side_effects` is about the whole body, as everywhere: it is `none` only if no line is written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tidegate_cluster::{Broker, Payload, Topic};
use tidegate_types::{ErrorCode, PartitionIndex, ProducerStamp, SideEffects};
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::produce::{ProduceQuery, RawBytes, Waiting, all_appended, refused, route, utf8, write};
use crate::answer::JsonBody;
use crate::dto::collect::{Collected, Collector, Rules, problem};
use crate::dto::envelope::{Draft, Strictness};
use crate::dto::problems::ProduceProblems;
use crate::dto::produced::{LastOffset, StreamResponse};
use crate::error::ApiError;
use crate::extract::{BodyLines, Handling, Query, TopicPath, content_type};
use crate::json::Scanner;
use crate::retry::{KeyHeader, Place, Recognised, Told};
use crate::state::ApiState;

/// Lines of a piece: what one failure can leave in doubt.
const PIECE_LINES: usize = 1_000;
/// Bytes of a piece: what is held at a time.
const PIECE_BYTES: usize = 1 << 20;
/// How long one request may go on.
const DURATION_MAX: Duration = Duration::from_secs(600);
const MEDIA_TYPES: [&str; 3] = ["application/x-ndjson", "application/ndjson", "application/jsonl"];

pub(crate) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(produce_stream))
}

/// Produce a stream of records
///
/// One record a line, as in `ProduceRequest.records`; blank lines are passed over. The records are written in pieces of up to 1,000
/// lines while the body arrives; the answer comes at its end. If a line is bad or a piece fails, the problem says in
/// `committed_records` how many records are written, in `line` where to go on, and in `in_doubt` whether some from there on may be written.
/// With an `Idempotency-Key` the whole body may be sent again instead: each piece is written once.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/records/stream", operation_id = "produceStream", tag = "records",
    params(TopicPath, ProduceQuery, KeyHeader),
    request_body(content = RawBytes, content_type = "application/x-ndjson", description = "Records, one a line"),
    responses(
        (status = 200, description = "All records are written", body = StreamResponse),
        (status = 202, description = "With `acks=none`: all records will be written, unless something fails", body = StreamResponse),
        ProduceProblems
    )
)]
async fn produce_stream(
    State(state): State<ApiState>,
    path: TopicPath,
    Query(query): Query<ProduceQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let waiting = Waiting::new(query.acks, query.timeout_ms, state.limits())?;
    let topic = state.broker()?.topic(path.topic.as_str())?;
    let (parts, body) = request.into_parts();
    let recognised = Recognised::read(&parts.headers, Place::Topic, waiting.acks)?;
    if let Some(essence) = content_type(&parts.headers)?
        && !MEDIA_TYPES.contains(&essence.as_str())
    {
        let supported = MEDIA_TYPES[0];
        return Err(
            ApiError::new(ErrorCode::UnsupportedMediaType, format!("this path takes {supported}")).with("supported", vec![supported])
        );
    }
    let lines = BodyLines::new(&state, &parts.headers, body)?;
    let mut stream = Stream {
        state: &state,
        topic,
        waiting,
        recognised,
        told: Told::default(),
        strictness: Strictness::new(Handling::of(&parts.headers)),
        committed: 0,
        last: BTreeMap::new(),
    };
    stream.run(lines).await.map_err(|stopped| stream.problem(stopped))?;
    let answer = StreamResponse { committed_records: stream.committed, last: stream.last_offsets() };
    Ok((waiting.status(), stream.told.into_headers(), stream.strictness.into_ignored(), JsonBody(answer)).into_response())
}

/// A stream on its way in.
struct Stream<'s> {
    state: &'s ApiState,
    topic: Arc<Topic>,
    waiting: Waiting,
    recognised: Recognised,
    told: Told,
    strictness: Strictness,
    committed: u64,
    /// The last offset of each partition that was written to; `None` if nobody waited for it.
    last: BTreeMap<u32, Option<u64>>,
}

/// Where a stream stopped, and why.
struct Stopped {
    /// The first line that is not written, from 1.
    line: u64,
    error: ApiError,
}

impl Stream<'_> {
    async fn run(&mut self, mut body: BodyLines) -> Result<(), Stopped> {
        let deadline = Instant::now() + DURATION_MAX;
        loop {
            let line = body.next_line();
            let piece = match tokio::time::timeout_at(deadline, body.next_lines(PIECE_LINES, PIECE_BYTES)).await {
                Ok(piece) => piece.map_err(|error| Stopped { line, error })?,
                Err(_) => return Err(Stopped { line, error: too_long() }),
            };
            let Some(piece) = piece else { return Ok(()) };
            self.write_piece(piece.first_line, &piece.lines).await?;
        }
    }

    /// Writes the lines, up to the first bad one.
    async fn write_piece(&mut self, first_line: u64, lines: &[Bytes]) -> Result<(), Stopped> {
        let mut done = 0;
        while done < lines.len() {
            let Gathered { collected, stamp, used, bad } = self.gather(&lines[done..], first_line + done as u64)?;
            self.write(collected, stamp).await.map_err(|error| Stopped { line: first_line + done as u64, error })?;
            done += used;
            if let Some(error) = bad {
                return Err(Stopped { line: first_line + done as u64, error });
            }
        }
        Ok(())
    }

    /// Reads lines until one is bad, or does not fit into the batch of its partition with those before it.
    fn gather(&mut self, lines: &[Bytes], first_line: u64) -> Result<Gathered, Stopped> {
        let (state, topic) = (self.state, Arc::clone(&self.topic));
        let broker = state.broker().map_err(|error| Stopped { line: first_line, error })?;
        let body_bytes = lines.iter().map(Bytes::len).sum();
        let limits = state.limits();
        let rules = Rules { topic: &topic, partition: None, limits, now: broker.now(), body_bytes, is_alone: true };
        let place = self.recognised.stamp(broker, &topic, first_line, &[]).map_err(|error| Stopped { line: first_line, error })?;
        let mut collector = Collector::new(rules, |key: Option<&[u8]>| route(broker, &topic, place, key));
        let mut used = 0;
        let mut bad = None;
        for line in lines {
            match self.take_line(line, &rules, &mut collector) {
                Ok(Taken::Yes) => used += 1,
                Ok(Taken::NoRoom) => break,
                Err(error) => {
                    bad = Some(error);
                    break;
                }
            }
        }
        let collected = if collector.len() == 0 { None } else { collector.finish().ok() };
        // What came after a bad line is not in it: sent again with the line mended, it is another chunk.
        let fields: Vec<_> = lines[..used].iter().map(AsRef::as_ref).collect();
        let stamp = self.recognised.stamp(broker, &topic, first_line, &fields).map_err(|error| Stopped { line: first_line, error })?;
        Ok(Gathered { collected, stamp, used, bad })
    }

    fn take_line<R: Fn(Option<&[u8]>) -> PartitionIndex>(
        &mut self,
        line: &Bytes,
        rules: &Rules<'_>,
        collector: &mut Collector<'_, R>,
    ) -> Result<Taken, ApiError> {
        if line.trim_ascii().is_empty() {
            return Ok(Taken::Yes);
        }
        let text = utf8(line)?;
        let mut scanner = Scanner::new(text, rules.limits.json_depth);
        let draft = Draft::read_whole(&mut scanner, &mut self.strictness).map_err(|error| problem(error.into(), text, rules))?;
        if collector.len() >= rules.limits.records_per_request || !collector.has_room(&draft) {
            return Ok(Taken::NoRoom);
        }
        collector.push(0, &draft).map_err(|error| problem(error, text, rules))?;
        collector.take_rejection().map_or(Ok(Taken::Yes), Err)
    }

    async fn write(&mut self, collected: Option<Collected>, stamp: Option<ProducerStamp>) -> Result<(), ApiError> {
        let Some(Collected { parts, placements }) = collected else { return Ok(()) };
        let broker: &Broker = self.state.broker()?;
        let partitions: Vec<PartitionIndex> = parts.iter().map(|(partition, _)| *partition).collect();
        let parts = parts.into_iter().map(|(partition, set)| (partition, Payload::Records { set, producer: stamp })).collect();
        let outcomes = write(broker, &self.topic, parts, self.waiting).await.map_err(|error| refused(error, &placements))?;
        match outcomes {
            None => self.last.extend(partitions.iter().map(|partition| (partition.get(), None))),
            Some(outcomes) => {
                let appended = all_appended(&placements, outcomes).map_err(|error| self.recognised.advise(error))?;
                appended.iter().for_each(|(_, appended)| self.told.note(appended));
                self.last.extend(appended.iter().map(|(partition, appended)| (partition.get(), Some(appended.last_offset.get()))));
            }
        }
        self.committed += placements.len() as u64;
        Ok(())
    }

    fn last_offsets(&self) -> Vec<LastOffset> {
        self.last.iter().map(|(partition, offset)| LastOffset { partition: *partition, offset: *offset }).collect()
    }

    fn problem(&self, stopped: Stopped) -> ApiError {
        let last: Vec<serde_json::Value> = self.last_offsets().iter().filter_map(|last| serde_json::to_value(last).ok()).collect();
        let in_doubt = stopped.error.code().side_effects() == SideEffects::Possible;
        let error = if self.committed == 0 { stopped.error } else { stopped.error.after_effects() };
        error.with("committed_records", self.committed).with("line", stopped.line).with("in_doubt", in_doubt).with("last", last).closing()
    }
}

/// What was made of some lines.
struct Gathered {
    collected: Option<Collected>,
    /// What they are recognised by when they come again.
    stamp: Option<ProducerStamp>,
    /// Lines that are in it, blank ones included.
    used: usize,
    /// What is wrong with the line after them, if that is why it ends.
    bad: Option<ApiError>,
}

enum Taken {
    Yes,
    NoRoom,
}

fn too_long() -> ApiError {
    ApiError::new(ErrorCode::RequestTimeout, format!("a stream goes on for at most {} s", DURATION_MAX.as_secs()))
}
