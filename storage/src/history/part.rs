//! One partition of a history: its log, its model, and those who read along.

use std::path::PathBuf;
use std::sync::LazyLock;

use bytes::Bytes;
use tidegate_types::ProducerStamp;
use tidegate_types::batch::StoredBatches;
use tidegate_types::producer::KEYED_IDS;
use tidegate_types::topic_config::{CleanupPolicy, Durability};
use tidegate_types::{
    BatchBuilder, Codec, Encoding, ErrorCode, LeaderEpoch, Limits, Offset, RecordSetBuilder, SequencedBatch, Timestamp, TopicConfig,
    TopicId, TopicPartition,
};
use uuid::Uuid;

use super::model::{Found, Handed, Model};
use super::{Check, ensure};
use crate::io::SplitMix;
use crate::producers::{Plan, Verdict};
use crate::{Error, FileRange, Located, LogConfig, LogReader, PartitionLog, ReadMode, ReadOutcome, RetentionPolicy, Trimmed};

/// Who sends the batch at `base`: nobody, a key, or one of three producers that count their records.
fn next_stamp(base: u64, plan: &Plan<'_>) -> Option<ProducerStamp> {
    let mut random = SplitMix(base ^ 0x5eed_0000);
    match random.below(4) {
        0 | 1 => None,
        2 => Some(ProducerStamp { id: KEYED_IDS | (random.next() >> 2).cast_signed(), epoch: 0, sequence: 7 }),
        _ => {
            let far = ProducerStamp { id: 1 + i64::try_from(random.below(3)).unwrap(), epoch: 0, sequence: 1 << 20 };
            let Verdict::Gap { expected } = plan.judge(far, 1) else { return Some(ProducerStamp { sequence: 0, ..far }) };
            Some(ProducerStamp { sequence: expected, ..far })
        }
    }
}

static LIMITS: LazyLock<Limits> = LazyLock::new(Limits::default);

/// How an operation on a log went that may fail while something is wrong with the disk.
#[derive(Debug)]
pub(super) enum Went {
    Well,
    /// Nothing of it was done, and the log goes on.
    Refused(Error),
    /// The log takes no more.
    Poisoned(Error),
}

/// Stretches of files that somebody holds, and what was in them.
#[derive(Debug)]
struct Held {
    ranges: Vec<FileRange>,
    bytes: Vec<Vec<u8>>,
}

pub(super) struct Part {
    pub(super) tp: TopicPartition,
    pub(super) topic: TopicId,
    pub(super) config: TopicConfig,
    pub(super) model: Model,
    pub(super) log: Option<PartitionLog>,
    pub(super) is_poisoned: bool,
    /// A round has failed in a way that only a start puts in order.
    pub(super) is_uncleanable: bool,
    pub(super) epoch: i32,
    /// Files that wait to be removed.
    pub(super) trimmed: Vec<Trimmed>,
    /// It was closed well, with all of it vouched for.
    pub(super) is_closed: bool,
    /// Somebody reads along: where they are. They know the reader only, and keep it over all that happens to the log.
    next: u64,
    reader: Option<LogReader>,
    held: Vec<Held>,
}

/// Offsets as this module has them.
pub(super) fn offset(n: u64) -> Offset {
    Offset::new(n).unwrap()
}

impl Part {
    pub(super) fn new(tp: TopicPartition, topic: u64, config: TopicConfig) -> Self {
        Self {
            tp,
            topic: TopicId::new(Uuid::from_u64_pair(topic, 1)),
            config,
            model: Model::default(),
            log: None,
            is_poisoned: false,
            is_uncleanable: false,
            epoch: 0,
            trimmed: Vec::new(),
            is_closed: false,
            next: 0,
            reader: None,
            held: Vec::new(),
        }
    }

    pub(super) fn directory(&self) -> PathBuf {
        std::path::Path::new(super::ROOT).join(self.tp.to_string())
    }

    /// The process has ended: nobody holds anything any more.
    pub(super) fn end(&mut self) {
        (self.log, self.reader) = (None, None);
        self.trimmed.clear();
        self.held.clear();
        (self.is_poisoned, self.is_uncleanable) = (false, false);
    }

    /// A start has opened the log.
    pub(super) fn opened(&mut self, log: PartitionLog) -> Check {
        self.model.settle(log.log_start().get(), log.log_end().get())?;
        ensure!(log.synced_end() == log.log_end(), "all that a start shows is synced");
        self.next = self.next.min(log.log_end().get());
        self.reader = Some(log.reader());
        self.log = Some(log);
        self.is_closed = false;
        Ok(())
    }

    fn log(&mut self) -> &mut PartitionLog {
        self.log.as_mut().unwrap()
    }

    /// Up to where may be read and compacted.
    pub(super) fn high_watermark(&self) -> u64 {
        if self.config.durability == Durability::Fsync || self.is_poisoned { self.model.acked } else { self.model.end }
    }

    fn went(&mut self, error: Error) -> Went {
        if matches!(error.code(), ErrorCode::StorageFull | ErrorCode::TooManyOpenFiles) {
            return Went::Refused(error);
        }
        self.is_poisoned = true;
        // It may have been a sync.
        self.model.lost_pages = true;
        Went::Poisoned(error)
    }

    /// Appends what `random` says, and on a topic that asks for it syncs it.
    pub(super) fn append(&mut self, random: &mut SplitMix, now: i64, tag: &str) -> Went {
        let mut handed = Vec::new();
        let mut plan = self.log.as_ref().unwrap().producers().plan();
        let batches: Vec<_> =
            (0..1 + random.below(3)).map(|n| self.batch(random, now, &format!("{tag}.{n}"), &mut handed, &mut plan)).collect();
        self.model.try_append(handed);
        let appended = self.log().append(&batches);
        self.note_synced();
        if let Err(error) = appended {
            let went = self.went(error);
            if matches!(went, Went::Refused(_)) {
                self.model.refused();
            }
            return went;
        }
        self.model.appended();
        if self.config.durability == Durability::Fsync || random.one_in(4) { self.sync() } else { Went::Well }
    }

    fn batch(&self, random: &mut SplitMix, now: i64, tag: &str, handed: &mut Vec<Handed>, plan: &mut Plan<'_>) -> SequencedBatch {
        let base = self.model.end + handed.len() as u64;
        let records = 1 + random.below(4);
        let padding = if random.one_in(10) { 700 } else { 10 + usize::try_from(random.below(90)).unwrap() };
        let mut set = RecordSetBuilder::with_capacity(&LIMITS, 0, 0);
        for n in 0..records {
            let key = (self.config.cleanup_policy.compact || random.one_in(2)).then(|| u8::try_from(random.below(6)).unwrap());
            let value = (!random.one_in(5)).then(|| format!("{tag}.{n:0>padding$}"));
            let jump = if random.one_in(40) { 100_000 } else { 0 };
            let timestamp = now + jump - i64::try_from(random.below(60)).unwrap();
            let bytes = value.as_ref().map(String::as_bytes);
            let key_bytes = key.map(|key| [key]);
            let key_bytes = key_bytes.as_ref().map(<[u8; 1]>::as_slice);
            set.push(Timestamp::from_millis(timestamp), Encoding::Text, key_bytes, bytes, [].into_iter()).unwrap();
            handed.push(Handed { timestamp, key, value, epoch: self.epoch, batch_end: base + records - 1 });
        }
        let mut builder = BatchBuilder::with_capacity(0);
        builder.push(&set.finish());
        let codec = if random.one_in(6) { random.pick(&Codec::ALL) } else { Codec::None };
        let mut batch = builder.finish().recompress(codec, usize::MAX).unwrap();
        if let Some(stamp) = next_stamp(base, plan) {
            plan.write(stamp, u32::try_from(records).unwrap(), offset(base));
            batch = batch.with_producer(stamp);
        }
        batch.sequence(offset(base), LeaderEpoch::new(self.epoch)).unwrap()
    }

    pub(super) fn sync(&mut self) -> Went {
        match self.log().sync() {
            Ok(()) => {
                self.model.acked = self.model.end;
                Went::Well
            }
            Err(error) => self.went(error),
        }
    }

    /// Gives up so many thousandths of what there is.
    pub(super) fn trim(&mut self, thousandths: u64) -> Result<Went, String> {
        let to = self.high_watermark() * thousandths / 1000;
        self.model.tried_starts.push(to.max(self.model.start));
        let done = self.log().trim_to(offset(to));
        self.note_synced();
        match done {
            Ok(trimmed) => self.given_up(trimmed, to.max(self.model.start)).map(|()| Went::Well),
            Err(error) => Ok(self.went(error)),
        }
    }

    /// A look of retention.
    pub(super) fn expire(&mut self, now: i64) -> Result<Went, String> {
        let (high_watermark, policy) = (self.high_watermark(), RetentionPolicy::from(&self.config));
        // It gives up whole segments.
        let segments = self.log().reader().segments();
        let ends = segments.iter().map(|segment| segment.base.get()).chain([self.model.end]);
        let may: Vec<u64> = ends.filter(|end| *end > self.model.start && *end <= high_watermark).collect();
        self.model.tried_starts.extend(&may);
        let done = self.log().expire(offset(high_watermark), &policy, Timestamp::from_millis(now));
        self.note_synced();
        match done {
            Ok(None) => {
                self.model.tried_starts.retain(|start| !may.contains(start));
                Ok(Went::Well)
            }
            Ok(Some((expired, trimmed))) => {
                let start = expired.start.get();
                ensure!(start == self.model.start || may.contains(&start), "{start} is no segment's end");
                self.given_up(trimmed, start).map(|()| Went::Well)
            }
            Err(error) => Ok(self.went(error)),
        }
    }

    /// What was rolled or given up was synced before.
    fn note_synced(&mut self) {
        self.model.acked = self.model.acked.max(self.log().synced_end().get());
    }

    fn given_up(&mut self, trimmed: Trimmed, start: u64) -> Check {
        let found = self.log().log_start().get();
        ensure!(found == start, "given up below {start}, but the log starts at {found}");
        self.model.start = start;
        self.model.tried_starts.clear();
        self.trimmed.push(trimmed);
        Ok(())
    }

    /// Takes new configs, as far as a topic's may change.
    pub(super) fn configure(&mut self, config: TopicConfig) {
        self.config = config;
        let config = LogConfig::from(&self.config);
        if let Some(log) = &mut self.log {
            log.set_config(config);
        }
    }

    /// Somebody reads on. They never go back, and get no error unless the disk says one.
    pub(super) fn read_on(&mut self, bytes: usize, may_fail: bool) -> Check {
        let Some(reader) = self.reader.clone() else { return Ok(()) };
        let upper = offset(self.high_watermark());
        self.next = self.next.max(reader.log_start().get());
        let outcome = match reader.read(offset(self.next), upper, bytes, ReadMode::Blocking) {
            Ok(outcome) => outcome,
            Err(_) if may_fail => return Ok(()),
            Err(error) => return Err(format!("who read at {} below {upper} got an error: {error}", self.next)),
        };
        let ReadOutcome::Batches { bytes, next_offset } = outcome else {
            return Err(format!("who read at {} was sent away: {outcome:?}", self.next));
        };
        ensure!(next_offset.get() >= self.next, "who read at {} was sent back to {next_offset}", self.next);
        ensure!(next_offset.get() > self.next || upper.get() <= self.next, "who read at {} below {upper} got nothing", self.next);
        for found in entries(bytes)?.iter().filter(|found| found.offset >= self.next) {
            self.model.check_one(found)?;
        }
        self.next = next_offset.get();
        Ok(())
    }

    /// Somebody takes hold of stored batches, to send them later.
    pub(super) fn hold(&mut self, random: &mut SplitMix, may_fail: bool) -> Check {
        let (start, upper) = (self.model.start, self.high_watermark());
        if upper <= start {
            return Ok(());
        }
        let from = start + random.below(upper - start);
        let upper = from + 1 + random.below(upper - from);
        let room = usize::try_from(random.below(2_000)).unwrap();
        let reader = self.log().reader();
        let (ranges, next_offset) = match reader.locate(offset(from), offset(upper), room, ReadMode::Blocking) {
            Ok(Located::Ranges { ranges, next_offset }) => (ranges, next_offset),
            Ok(other) => return Err(format!("nothing is in the way of {from}: {other:?}")),
            Err(_) if may_fail => return Ok(()),
            Err(error) => return Err(format!("who looked for {from} got an error: {error}")),
        };
        let read: Result<Vec<_>, _> = ranges.iter().map(FileRange::read).collect();
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(_) if may_fail => return Ok(()),
            Err(error) => return Err(format!("who sent from {from} got an error: {error}")),
        };
        let found = entries(bytes.concat().into())?;
        found.iter().try_for_each(|found| self.model.check_one(found))?;
        ensure!(found.is_empty() || next_offset.get() > from, "{from} is followed by {next_offset}");
        ensure!(found.iter().all(|found| found.offset < next_offset.get()), "what is sent ends where to read on");
        self.held.push(Held { ranges, bytes });
        Ok(())
    }

    /// What somebody holds is what it was, whatever has happened to the files.
    pub(super) fn check_held(&mut self, may_fail: bool) -> Check {
        for Held { ranges, bytes } in self.held.drain(..) {
            for (range, bytes) in ranges.iter().zip(bytes) {
                match range.read() {
                    Ok(read) => ensure!(read == bytes, "a stretch that somebody held has changed"),
                    Err(_) if may_fail => {}
                    Err(error) => return Err(format!("a stretch that somebody held gave an error: {error}")),
                }
            }
        }
        Ok(())
    }
}

/// The records in some batches, each checked as a client does.
pub(super) fn entries(bytes: Bytes) -> Result<Vec<Found>, String> {
    let mut all = Vec::new();
    for batch in StoredBatches::new(bytes) {
        let batch = batch.map_err(|error| error.to_string())?;
        batch.verify().map_err(|error| error.to_string())?;
        for record in &batch.records().map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            all.push(Found {
                offset: record.offset.get(),
                timestamp: record.timestamp.millis(),
                key: record.key.map(|key| key[0]),
                value: record.value.map(|value| String::from_utf8_lossy(value).into_owned()),
                epoch: batch.header.leader_epoch,
            });
        }
    }
    Ok(all)
}

/// A topic's configs, small enough that short histories meet every edge.
pub(super) fn draw_config(random: &mut SplitMix) -> TopicConfig {
    let (delete, compact) = random.pick(&[(true, false), (false, true), (true, true)]);
    let durability = if random.one_in(2) { Durability::Fsync } else { Durability::Replicated };
    let signed = |n: u64| i64::try_from(n).unwrap();
    TopicConfig {
        cleanup_policy: CleanupPolicy { delete, compact },
        durability,
        segment_bytes: random.pick(&[300, 600, 1_000, 3_000, 20_000]),
        segment_ms: random.pick(&[200, 2_000, 1 << 40]),
        segment_index_bytes: random.pick(&[48, 1 << 20]),
        index_interval_bytes: random.pick(&[0, 100, 4096]),
        retention_ms: (!random.one_in(3)).then(|| signed(random.pick(&[0, 300, 2_000]))),
        retention_bytes: random.one_in(3).then(|| random.pick(&[0, 1_000, 4_000])),
        compaction_lag_ms_min: signed(random.pick(&[0, 0, 200])),
        compaction_lag_ms_max: signed(random.pick(&[500, 1 << 40])),
        delete_retention_ms: signed(random.pick(&[0, 200, 1 << 40])),
        dirty_ratio_min: 0.0,
        ..TopicConfig::default()
    }
}
