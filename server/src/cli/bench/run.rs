//! A topic, a run on it, reading back what was acknowledged, and the end of all of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_client::{Client, Error, NewTopic};
use tidegate_types::Clock;
use tidegate_types::time::SystemClock;
use tokio::sync::watch;

use super::super::Failure;
use super::super::session::Session;
use super::super::signals::{Signals, Stop};
use super::arguments::{AcksName, Form, Load};
use super::connection::{Connection, Node};
use super::consume::{Consumed, Consuming, Way, read_back};
use super::file;
use super::integrity::Digests;
use super::meter::{Meter, Used};
use super::outcome::{Integrity, Outcome, Settings, Verdict};
use super::page::Pages;
use super::payload::Shape;
use super::produce::{Place, Produced, Producing, Source};
use super::progress::Progress;
use super::schedule::Schedule;
use super::tally::Tally;

/// How long an answer may take.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Records that a topic is filled with to be read.
const FILL_RECORDS: u64 = 200_000;
/// Of a body that fills a topic.
const FILL_BODY_BYTES: usize = 256 << 10;
/// Of a page that is measured, and of one that is compared.
const PAGE_BYTES: usize = 1 << 20;
const COMPARE_BYTES: usize = 8 << 20;

/// What to measure.
#[derive(Debug)]
pub(crate) enum What {
    Produce,
    Consume { verify: Option<PathBuf> },
    EndToEnd,
    Mixed,
}

/// Everything that a run needs.
struct Bench<'a> {
    load: &'a Load,
    client: Client,
    node: Node,
    topic: String,
    partitions: u32,
    is_own: bool,
    progress: Arc<Progress>,
}

/// What a run has shown.
#[derive(Default)]
struct Shown {
    produce: Option<Tally>,
    consume: Option<Tally>,
    end_to_end: Option<Tally>,
    unsent_requests: Option<u64>,
    unseen_records: Option<u64>,
    acknowledged: Digests,
    /// Told before the end: what is read is read anew.
    integrity: Option<Integrity>,
    ended_early: Option<Error>,
    stopped_by: Option<Stop>,
    used: Used,
}

/// Makes the topic, measures, compares, deletes the topic, and says what came of it.
///
/// # Errors
/// What ended it early, and a comparison that found a difference; the result has been written then.
pub(crate) async fn run(load: &Load, what: &What, session: &Session) -> Result<(), Failure> {
    let expected = match what {
        What::Consume { verify: Some(path) } => Some(file::read(path)?),
        _ => None,
    };
    let server = session.server()?.url;
    let client = session.client()?;
    let node = Node::new(&server, session.timeout().unwrap_or(TIMEOUT_DEFAULT))?;
    let (topic, partitions) = interruptible(open_topic(&client, load)).await?;
    let progress = Progress::new(session.output.is_quiet());
    let bench = Bench { load, client, node, topic, partitions, is_own: load.topic.is_none(), progress };
    let shown = match what {
        What::Produce => bench.produce().await,
        What::Consume { .. } => bench.consume(expected).await,
        What::EndToEnd => bench.end_to_end().await,
        What::Mixed => bench.mixed().await,
    };
    let shown = match shown {
        Ok(mut shown) => {
            shown.integrity = Some(match shown.integrity.take() {
                Some(integrity) => integrity,
                None => bench.compare(&shown).await,
            });
            Ok(shown)
        }
        failed => failed,
    };
    let Bench { load, client, topic, partitions, is_own, progress, .. } = bench;
    drop(progress);
    let is_kept = !is_own || load.keep;
    if !is_kept && let Err(error) = client.delete_topic(&topic).await {
        session.output.note(&format!("topic {topic} was not deleted: {error}"));
    }
    conclude(shown?, what, Settings::new(load, partitions), (server, topic, is_kept), session, load.result.as_deref())
}

/// A signal ends what has nothing to finish.
async fn interruptible<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        outcome = work => outcome,
        stop = signals.next() => Err(stop.failure()),
    }
}

/// The topic that was named, or a new one; and its partitions.
async fn open_topic(client: &Client, load: &Load) -> Result<(String, u32), Failure> {
    if let Some(name) = &load.topic {
        let topic = client.describe_topic(name).await?;
        return Ok((topic.name, u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX)));
    }
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| Failure::Local(format!("the system gives no random name: {error}")))?;
    let name = format!("bench-{:08x}", u32::from_le_bytes(random));
    let config = load.durability.map(|durability| ("durability".to_owned(), durability.as_str().to_owned()));
    let new = NewTopic { partitions: Some(load.partitions), replication_factor: None, config: BTreeMap::from_iter(config) };
    client.create_topic(&name, &new).await?;
    Ok((name, load.partitions))
}

/// Writes the result; then says what was wrong, if anything was.
fn conclude(
    shown: Shown,
    what: &What,
    settings: Settings,
    (server, topic, topic_kept): (String, String, bool),
    session: &Session,
    path: Option<&std::path::Path>,
) -> Result<(), Failure> {
    let interrupted = shown.stopped_by.map(|stop| format!("it was {}", stop.word()));
    let Some(integrity) = shown.integrity else { return Err(Failure::Local("nothing was compared".to_owned())) };
    let outcome = Outcome {
        bench: match what {
            What::Produce => "produce",
            What::Consume { .. } => "consume",
            What::EndToEnd => "e2e",
            What::Mixed => "mixed",
        },
        tidegate_version: env!("CARGO_PKG_VERSION"),
        server,
        topic,
        topic_kept,
        settings,
        produce: shown.produce.as_ref().map(Tally::counts),
        consume: shown.consume.as_ref().map(Tally::counts),
        end_to_end: shown.end_to_end.as_ref().map(Tally::counts),
        unsent_requests: shown.unsent_requests,
        unseen_records: shown.unseen_records,
        client_cpu_seconds: shown.used.cpu.as_secs_f64(),
        client_cpu_share: shown.used.share(),
        ended_early: shown.ended_early.as_ref().map(ToString::to_string).or(interrupted),
        integrity,
    };
    session.output.result(&outcome, |_| outcome.text())?;
    if let Some(path) = path {
        file::write(path, &outcome)?;
    }
    match outcome.integrity.verdict {
        _ if shown.stopped_by.is_some() => Err(shown.stopped_by.map_or(Failure::Interrupted, Stop::failure)),
        Verdict::Different => Err(Failure::Local(format!("integrity: {}", outcome.integrity.reasons.join("; ")))),
        Verdict::Equal | Verdict::NotChecked => match (shown.ended_early, outcome.unseen_records) {
            (Some(error), _) => Err(Failure::Client(error)),
            (None, Some(unseen)) if unseen > 0 => Err(Failure::Local(format!("{unseen} acknowledged records were not seen in time"))),
            (None, _) => Ok(()),
        },
    }
}

impl Bench<'_> {
    fn shape(&self) -> Shape {
        Shape::new(self.load, SystemClock::new().wall().millis())
    }

    fn senders(&self) -> Vec<Connection> {
        (0..self.load.connections).flat_map(|_| self.node.senders(self.load.in_flight)).collect()
    }

    fn pages(&self, bytes: usize) -> Pages {
        Pages::new(&self.node, &self.topic, self.load.form, self.load.records_per_request(), bytes)
    }

    /// The schedule that was asked for; `records` end it.
    fn schedule(&self, records: Option<u64>, duration: Option<Duration>) -> Result<Arc<Schedule>, Failure> {
        let per_request = u64::from(self.load.records_per_request());
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = self.load.rate.map(|rate| rate as f64 / per_request as f64);
        // A number of records is a whole run: all of it counts.
        let warmup = if records.is_some() { Duration::ZERO } else { self.load.warmup };
        let requests = records.map(|records| records.div_ceil(per_request));
        Ok(Arc::new(Schedule::start(warmup, duration, requests, rate)?))
    }

    fn producing(&self, shape: Shape, source: Source, acks: AcksName, schedule: &Arc<Schedule>) -> Result<Producing, Failure> {
        let place = Place { node: &self.node, topic: &self.topic, partitions: self.partitions };
        Producing::new(&place, shape, source, acks, Arc::clone(schedule), Arc::clone(&self.progress))
    }

    fn consuming(&self, starts: Vec<u64>, way: Way, schedule: &Arc<Schedule>) -> Result<Consuming, Failure> {
        Consuming::new(self.pages(PAGE_BYTES), starts, way, Arc::clone(schedule), Arc::clone(&self.progress))
    }

    async fn produce(&self) -> Result<Shown, Failure> {
        self.progress.phase("producing");
        let shape = self.shape();
        let source = Source::Pool(shape.pool()?);
        let schedule = self.schedule(self.load.records, self.load.duration())?;
        let producing = self.producing(shape, source, self.load.acks, &schedule)?;
        let meter = Meter::start();
        let produced = producing.run(self.senders()).await?;
        Ok(Shown { used: meter.used(), ..shown_of(produced, &schedule) })
    }

    /// Fills the topic if it is our own; compares all of it, which also warms up; and measures.
    async fn consume(&self, expected: Option<Digests>) -> Result<Shown, Failure> {
        let acknowledged = if self.is_own { Some(self.fill().await?) } else { expected };
        self.progress.phase("comparing");
        let integrity = match &acknowledged {
            Some(acknowledged) if !self.load.no_verify => {
                let read = interruptible(read_back(&self.node, &self.pages(COMPARE_BYTES), acknowledged)).await?;
                Integrity::compare(acknowledged, &read)
            }
            Some(acknowledged) => Integrity::not_checked(acknowledged, "--no-verify"),
            None => Integrity::not_checked(&Digests::default(), "nobody says what was acknowledged: --verify FILE does"),
        };
        let acknowledged = acknowledged.unwrap_or_default();
        if integrity.verdict == Verdict::Different {
            return Ok(Shown { acknowledged, integrity: Some(integrity), ..Shown::default() });
        }
        self.progress.phase("consuming");
        let starts = interruptible(self.offsets(|partition| partition.earliest_offset)).await?;
        let schedule = self.schedule(None, Some(self.load.duration.unwrap_or(Duration::from_secs(5))))?;
        let consuming = self.consuming(starts, Way::Around, &schedule)?;
        let meter = Meter::start();
        let Consumed { tally, ended_early, unsent, .. } = consuming.run(self.senders()).await?;
        Ok(Shown {
            consume: Some(tally),
            unsent_requests: unsent,
            acknowledged,
            integrity: Some(integrity),
            ended_early,
            stopped_by: schedule.stopped_by(),
            used: meter.used(),
            ..Shown::default()
        })
    }

    /// Stored batches, as fast as they go.
    async fn fill(&self) -> Result<Digests, Failure> {
        self.progress.phase("filling");
        let records = self.load.records.unwrap_or(FILL_RECORDS);
        let in_body = (FILL_BODY_BYTES / self.load.record_bytes).clamp(1, 10_000).min(usize::try_from(records).unwrap_or(usize::MAX));
        let shape = self.shape().with_batches().with_records(in_body);
        let source = Source::Pool(shape.pool()?);
        let schedule = Arc::new(Schedule::start(Duration::ZERO, None, Some(records.div_ceil(in_body as u64)), None)?);
        let producing = self.producing(shape, source, AcksName::All, &schedule)?;
        let produced = producing.run(self.senders()).await?;
        match produced.ended_early {
            Some(error) if schedule.stopped_by().is_none() => Err(Failure::Client(error)),
            _ => schedule.stopped_by().map_or(Ok(produced.digests), |stop| Err(stop.failure())),
        }
    }

    async fn end_to_end(&self) -> Result<Shown, Failure> {
        self.progress.phase("end to end");
        let starts = interruptible(self.offsets(|partition| partition.latest_offset)).await?;
        let schedule = self.schedule(self.load.records, self.load.duration())?;
        let (epoch, (tell, ends)) = (schedule.counts_from - self.load.warmup, watch::channel(None));
        let producing = self.producing(self.shape(), Source::Stamped(epoch), self.load.acks, &schedule)?;
        let consuming = self.consuming(starts, Way::Stamps { epoch, ends }, &schedule)?;
        let readers = (0..self.partitions).flat_map(|_| self.node.senders(1)).collect();
        let meter = Meter::start();
        let sending = async {
            let produced = producing.run(self.senders()).await?;
            // All that was acknowledged lies below the high watermark of now.
            let ends = match &produced.ended_early {
                None => self.offsets(|partition| partition.latest_offset).await.ok(),
                Some(_) => None,
            };
            // Without an answer there is nothing to wait for.
            tell.send_replace(Some(ends.unwrap_or_default()));
            Ok::<_, Failure>(produced)
        };
        let (produced, consumed) = tokio::try_join!(sending, consuming.run(readers))?;
        let mut shown = shown_of(produced, &schedule);
        let mut seen = consumed.tally;
        let now = Instant::now();
        if let Some(unsent) = schedule.unsent(now) {
            seen.unsent(unsent, now, u64::from(self.load.records_per_request()));
        }
        shown.end_to_end = Some(seen);
        shown.unseen_records = Some(consumed.unseen);
        shown.ended_early = shown.ended_early.or(consumed.ended_early);
        shown.used = meter.used();
        Ok(shown)
    }

    async fn mixed(&self) -> Result<Shown, Failure> {
        self.progress.phase("producing and consuming");
        let shape = self.shape();
        let source = Source::Pool(shape.pool()?);
        let starts = interruptible(self.offsets(|partition| partition.latest_offset)).await?;
        let schedule = self.schedule(self.load.records, self.load.duration())?;
        // Fetches have no times of their own: they follow.
        let following = Arc::new(Schedule::start(schedule.counts_from.saturating_duration_since(Instant::now()), None, None, None)?);
        let producing = self.producing(shape, source, self.load.acks, &schedule)?;
        let consuming = self.consuming(starts, Way::Follow, &following)?;
        let meter = Meter::start();
        let sending = async {
            let produced = producing.run(self.senders()).await;
            following.end();
            produced
        };
        let reading = async {
            let consumed = consuming.run(self.senders()).await;
            if consumed.as_ref().map_or(true, |consumed| consumed.ended_early.is_some()) {
                schedule.end();
            }
            consumed
        };
        let (produced, consumed) = tokio::try_join!(sending, reading)?;
        let mut shown = shown_of(produced, &schedule);
        shown.consume = Some(consumed.tally);
        shown.ended_early = shown.ended_early.or(consumed.ended_early);
        shown.used = meter.used();
        Ok(shown)
    }

    /// Of every partition.
    async fn offsets(&self, which: impl Fn(&tidegate_client::PartitionDescription) -> Option<u64>) -> Result<Vec<u64>, Failure> {
        let topic = self.client.describe_topic(&self.topic).await?;
        Ok(topic.partitions.iter().map(|partition| which(partition).unwrap_or_default()).collect())
    }

    /// Reads back what was acknowledged.
    async fn compare(&self, shown: &Shown) -> Integrity {
        let acknowledged = &shown.acknowledged;
        let not_checked = |reason: &str| Integrity::not_checked(acknowledged, reason);
        if self.load.no_verify {
            return not_checked("--no-verify");
        }
        if self.load.acks == AcksName::None {
            return not_checked("with --acks none nothing is acknowledged");
        }
        if self.load.form == Form::Ndjson {
            return not_checked("the answer to a stream of lines does not say where each record is");
        }
        if let Some(stop) = shown.stopped_by {
            return not_checked(&format!("it was {}", stop.word()));
        }
        if !acknowledged.is_complete() {
            return not_checked("there are too many gaps between the acknowledged records");
        }
        if acknowledged.records() == 0 {
            return not_checked("nothing was acknowledged");
        }
        self.progress.phase("comparing");
        // What JSON shows is what the produce side has sent, so it is compared as it lies there.
        let pages = Pages::new(&self.node, &self.topic, Form::Batches, 0, COMPARE_BYTES);
        match interruptible(read_back(&self.node, &pages, acknowledged)).await {
            Ok(read) => Integrity::compare(acknowledged, &read),
            Err(Failure::Client(error)) => not_checked(&format!("it cannot be read back: {error}")),
            Err(_) => not_checked("it was interrupted"),
        }
    }
}

fn shown_of(produced: Produced, schedule: &Schedule) -> Shown {
    let Produced { tally, digests, ended_early, unsent } = produced;
    Shown {
        produce: Some(tally),
        acknowledged: digests,
        ended_early,
        unsent_requests: unsent,
        stopped_by: schedule.stopped_by(),
        ..Shown::default()
    }
}
