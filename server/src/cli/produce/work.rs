//! The work of `produce`: records go to the producer as they are read, their deliveries are heard in the order of the lines, until something ends it.
//!
//! Whatever ends it, what was taken is sent and heard of; after a signal not for longer than [`PATIENCE`].

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use tidegate_client::{Delivery, ProducerError, RecordPosition};
use tidegate_types::SideEffects;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::quiet::{Quiet, Word};
use super::report::End;
use super::sender::Sender;
use super::{Input, Positions};
use crate::cli::Failure;
use crate::cli::record::feed::Chunk;
use crate::cli::record::input::Numbered;
use crate::cli::record::ledger::{Ledger, Position};
use crate::cli::record::progress::Progress;
use crate::cli::record::split::InputError;
use crate::cli::session::Session;
use crate::cli::signals::Signals;
use crate::cli::time::took;

/// Records whose deliveries were not yet heard, about at most: one that waits holds up those behind it, which may be settled already.
const UNHEARD_MAX: usize = 200_000;
/// How long what was sent may take to be acknowledged after a signal.
const PATIENCE: Duration = Duration::from_secs(10);
/// After that it is said that this is waited for.
const SOON: Duration = Duration::from_secs(1);
/// How long the producer may take to end when it is cut off.
const CUT_OFF: Duration = Duration::from_secs(1);
/// How often it is looked at whether the node answers.
const LOOK: Duration = Duration::from_millis(500);

/// A delivery that was heard: the line that its record begins at, and what became of it.
type Heard = (u64, Result<RecordPosition, ProducerError>);

pub(super) struct Work<'w> {
    session: &'w Session,
    sender: Sender,
    progress: Progress,
    show: Positions,
    ledger: Ledger,
    /// In the order of the lines.
    unheard: VecDeque<(u64, Delivery)>,
    /// Positions to be shown.
    positions: String,
    /// Why they cannot be shown any more.
    output_error: Option<String>,
    /// The first failure, in the order of the lines.
    failed: Option<ProducerError>,
    quiet: Quiet,
    look: Interval,
    started: Instant,
}

impl<'w> Work<'w> {
    pub(super) fn new(session: &'w Session, sender: Sender, progress: Progress, show: Positions) -> Self {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            session,
            sender,
            progress,
            show,
            ledger: Ledger::default(),
            unheard: VecDeque::new(),
            positions: String::new(),
            output_error: None,
            failed: None,
            quiet: Quiet::default(),
            look,
            started: Instant::now(),
        }
    }

    /// Takes all of the input, and hears of all that was taken.
    pub(super) async fn run(&mut self, input: Input, signals: &mut Signals) -> End {
        let end = self.take_all(input, signals).await;
        let end = self.hear_all(end, signals).await;
        self.progress.end();
        end
    }

    /// What has come of it.
    pub(super) fn end(self) -> (Ledger, Option<ProducerError>) {
        (self.ledger, self.failed)
    }

    async fn take_all(&mut self, mut input: Input, signals: &mut Signals) -> End {
        loop {
            if self.failed.is_some() {
                return End::Failed;
            }
            if let Some(reason) = &self.output_error {
                return End::OutputFailed(reason.clone());
            }
            let has_room = self.unheard.len() < UNHEARD_MAX;
            tokio::select! {
                biased;
                stop = signals.next() => return End::Stopped(stop),
                heard = first(&mut self.unheard), if !self.unheard.is_empty() => self.note(heard),
                chunk = input.next(), if has_room => match chunk {
                    None => return End::Whole,
                    Some(Err(error)) => return End::BadInput(error),
                    Some(Ok(Chunk { records, bytes })) => {
                        self.progress.read(bytes, self.ledger.records());
                        if let Err(end) = self.take(records, signals).await {
                            return end;
                        }
                    }
                },
                _ = self.look.tick() => self.look(),
            }
        }
    }

    async fn take(&mut self, records: Vec<Numbered>, signals: &mut Signals) -> Result<(), End> {
        let (producer, topic) = (self.sender.producer.clone(), self.sender.topic.clone());
        let partition_count = self.sender.partition_count;
        for (line, record) in records {
            if let Some(partition) = record.partition.filter(|partition| *partition >= partition_count) {
                let last = partition_count - 1;
                let reason = format!("the record names partition {partition}, and the topic has 0 to {last}; --repartition forgets it");
                return Err(End::BadInput(InputError::new(line, reason)));
            }
            let mut taking = pin!(producer.send(&topic, record));
            let taken = loop {
                tokio::select! {
                    biased;
                    taken = &mut taking => break taken,
                    stop = signals.next() => return Err(End::Stopped(stop)),
                    _ = self.look.tick() => self.look(),
                }
            };
            match taken {
                Ok(delivery) => self.unheard.push_back((line, delivery)),
                Err(error) => return Err(End::NotTaken(line, error)),
            }
        }
        Ok(())
    }

    /// Sends what has gathered, and hears of everything.
    async fn hear_all(&mut self, mut end: End, signals: &mut Signals) -> End {
        let producer = self.sender.producer.clone();
        // What it says of failures, each delivery says of its own.
        let mut flush = pin!(producer.flush().map(drop).fuse());
        let mut give_up_at = end.is_stopped().then(|| Instant::now() + PATIENCE);
        let mut say_at = give_up_at.map(|_| Instant::now() + SOON);
        while !self.unheard.is_empty() {
            tokio::select! {
                biased;
                stop = signals.next() => {
                    // Whoever asks twice does not want to wait.
                    if give_up_at.is_some() {
                        break;
                    }
                    give_up_at = Some(Instant::now() + PATIENCE);
                    say_at = Some(Instant::now() + SOON);
                    if matches!(end, End::Whole) {
                        end = End::Stopped(stop);
                    }
                }
                () = &mut flush => {}
                heard = first(&mut self.unheard) => self.note(heard),
                () = until(give_up_at) => break,
                () = until(say_at) => {
                    say_at = None;
                    self.say("waiting for what was sent, 10 s at most; the same again ends it now");
                }
                _ = self.look.tick() => self.look(),
            }
        }
        if !self.unheard.is_empty() {
            self.give_up().await;
        }
        match end {
            End::NotTaken(line, error) => {
                self.note((line, Err(error)));
                End::Failed
            }
            End::Whole if self.failed.is_some() => End::Failed,
            // What failed at the node stands before what is wrong with a later line.
            End::BadInput(_) if self.failed.as_ref().is_some_and(|error| !matches!(error, ProducerError::Closed { .. })) => End::Failed,
            End::Whole => self.output_error.take().map_or(End::Whole, End::OutputFailed),
            End::Failed | End::BadInput(_) | End::Stopped(_) | End::OutputFailed(_) => end,
        }
    }

    /// Waits no longer: what was not sent is not in, and only what is under way is in doubt.
    async fn give_up(&mut self) {
        self.sender.cut_off();
        let told = async {
            while !self.unheard.is_empty() {
                let heard = first(&mut self.unheard).await;
                self.note(heard);
            }
        };
        let is_told = tokio::time::timeout(CUT_OFF, told).await.is_ok();
        if !is_told {
            self.unheard.drain(..).for_each(|(line, _)| self.ledger.failed(line, SideEffects::Possible));
        }
    }

    /// Notes one, and all behind it that are settled too.
    fn note(&mut self, heard: Heard) {
        let mut next = Some(heard);
        while let Some((line, outcome)) = next {
            match outcome {
                Ok(RecordPosition { partition, offset, timestamp }) => {
                    let offset = (offset != RecordPosition::NO_OFFSET).then_some(offset);
                    let position = Position { partition, offset, timestamp };
                    self.ledger.acknowledged(line, &position);
                    self.put(&position);
                }
                Err(error) => {
                    self.ledger.failed(line, error.side_effects());
                    self.failed.get_or_insert(error);
                }
            }
            next = first(&mut self.unheard).now_or_never();
        }
        self.show();
    }

    fn put(&mut self, position: &Position) {
        let text = match (self.show, position.offset) {
            (Positions::None, _) => return,
            (Positions::Json, _) => serde_json::to_string(position).unwrap_or_default() + "\n",
            (Positions::Text, Some(offset)) => format!("partition {}, offset {offset}\n", position.partition),
            (Positions::Text, None) => format!("partition {}, not acknowledged\n", position.partition),
        };
        self.positions.push_str(&text);
    }

    /// Shows positions. The records matter more: when nobody reads on, they go on.
    fn show(&mut self) {
        if self.positions.is_empty() {
            return;
        }
        let shown = self.session.output.text(&self.positions);
        self.positions.clear();
        match shown {
            Ok(()) => {}
            Err(Failure::OutputClosed) => {
                self.show = Positions::None;
                self.say("nobody reads the positions any more; the records still go in");
            }
            Err(failure) => {
                self.show = Positions::None;
                self.output_error = Some(failure.sentence("").unwrap_or_default().trim().to_owned());
            }
        }
    }

    fn look(&mut self) {
        self.progress.read(0, self.ledger.records());
        match self.quiet.look(self.started.elapsed(), &self.sender.producer.metrics()) {
            Some(Word::Away) => {
                let for_how_long = took(self.sender.try_for);
                self.say(&format!("the node does not answer; what is not in yet is tried for {for_how_long}"));
            }
            Some(Word::Back) => self.say("the node answers again"),
            None => {}
        }
    }

    fn say(&self, text: &str) {
        self.progress.aside(|| self.session.output.note(text));
    }
}

/// Waits until then, or for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What became of the first of `unheard`, which is taken out when it is known. Never, if there is none.
async fn first(unheard: &mut VecDeque<(u64, Delivery)>) -> Heard {
    let Some((line, delivery)) = unheard.front_mut() else { return std::future::pending().await };
    let heard = (*line, delivery.await);
    unheard.pop_front();
    heard
}
