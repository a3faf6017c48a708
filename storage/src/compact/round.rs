//! One round over one log: look, map, rewrite, have it installed. On a thread that may take its time, beside the writer.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tidegate_types::{BatchHeader, Offset, Timestamp, TopicPartition, limits};

use super::CLEANED;
use super::key_map::KeyMap;
use super::pace::Pace;
use super::plan::{self, CompactionPolicy, Dirt, Facts};
use super::retain::Rule;
use super::rewrite::{Compacted, Home, Stop, Walk, Written, each_batch, rewrite};
use crate::Error;
use crate::checkpoint::OffsetCheckpoint;
use crate::io::read_exact_at;
use crate::log::{Shared, remove_if_there};
use crate::reader::is_missing;
use crate::segment::{Segment, file_name};

/// A log's own entry in the checkpoint of first dirty offsets. That there is one says that the log was compacted.
#[derive(Debug, Clone)]
pub(crate) struct CleanNote {
    first_dirty: Arc<OffsetCheckpoint>,
    tp: TopicPartition,
}

impl CleanNote {
    pub(crate) fn new(first_dirty: Arc<OffsetCheckpoint>, tp: TopicPartition) -> Self {
        Self { first_dirty, tp }
    }

    /// What is noted, if anything is.
    pub(crate) fn get(&self) -> Option<Offset> {
        self.first_dirty.find(&self.tp)
    }

    fn set(&self, first_dirty: Offset) -> Result<(), Error> {
        self.first_dirty.set([(self.tp.clone(), first_dirty)])
    }
}

/// Compacts one log. Made by [`crate::PartitionLog::compactor`]; what it has rewritten is installed by the log itself.
#[derive(Debug, Clone)]
pub struct Compactor {
    home: Home,
    shared: Arc<Shared>,
    note: CleanNote,
}

/// What a round goes by.
#[derive(Debug, Clone)]
pub struct Round {
    /// The topic's configs.
    pub policy: CompactionPolicy,
    /// Everything below is readable; nothing above is compacted.
    pub high_watermark: Offset,
    /// The wall clock.
    pub now: Timestamp,
    /// Memory for keys, in bytes.
    pub map_bytes: usize,
    /// A number that nobody can guess.
    pub seed: [u8; 16],
    /// Bytes that it may read and write in a second, together.
    pub io_bytes_per_second: u64,
    /// Set by whoever wants the round to end soon.
    pub stop: Arc<AtomicBool>,
}

/// What a round has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionReport {
    /// Segments that were replaced.
    pub segments_in: usize,
    /// Segments that replaced them.
    pub segments_out: usize,
    /// Bytes of the ones.
    pub bytes_in: u64,
    /// Bytes of the others.
    pub bytes_out: u64,
    /// The first dirty offset from now on.
    pub first_dirty: Offset,
}

impl CompactionReport {
    fn nothing(first_dirty: Offset) -> Self {
        Self { segments_in: 0, segments_out: 0, bytes_in: 0, bytes_out: 0, first_dirty }
    }
}

/// How a round went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// To its end.
    Done(CompactionReport),
    /// It was told to stop, or the log was trimmed or closed under it. What was installed until then stays.
    GivenUp,
}

impl Compactor {
    pub(crate) fn new(home: Home, shared: Arc<Shared>, note: CleanNote) -> Self {
        Self { home, shared, note }
    }

    /// Whether a round would be worth it. May read a few bytes of each dirty segment.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`].
    pub fn look(&self, policy: &CompactionPolicy, high_watermark: Offset, now: Timestamp) -> Result<Option<Dirt>, Error> {
        let segments = self.shared.segments.load_full();
        let facts = facts(&segments);
        let end = plan::compactable(&facts, high_watermark, now, policy);
        let first_dirty = self.first_dirty(&facts);
        let knows_age = policy.lag_ms_max < i64::MAX;
        plan::dirt(&facts, end, first_dirty, now, policy, |i| if knows_age { first_timestamp(&segments[i]) } else { Ok(None) })
    }

    /// Compacts everything that may be. `install` is given what replaces some segments, has it installed and finished, and says whether it
    /// was: not if the log has changed under it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`]; `install`'s own. The log is then as it was, or partly compacted, and whole in both cases.
    pub fn round(&self, round: &Round, install: &mut dyn FnMut(Compacted) -> Result<bool, Error>) -> Result<Outcome, Error> {
        let begins_at = self.shared.log_start();
        match self.run(round, install) {
            // Its file went while it was looked for.
            Err(error) if is_missing(&error) && begins_at < self.shared.log_start() => Ok(Outcome::GivenUp),
            outcome => outcome,
        }
    }

    fn run(&self, round: &Round, install: &mut dyn FnMut(Compacted) -> Result<bool, Error>) -> Result<Outcome, Error> {
        let segments = self.shared.segments.load_full();
        let facts = facts(&segments);
        let end = plan::compactable(&facts, round.high_watermark, round.now, &round.policy);
        let first_dirty = self.first_dirty(&facts);
        let dirty = plan::dirty(&facts, end, first_dirty);
        if dirty.is_empty() {
            return Ok(Outcome::Done(CompactionReport::nothing(first_dirty)));
        }
        let pace = Pace::new(Arc::clone(&round.stop), round.io_bytes_per_second);
        let Some(rule) = map_keys(&segments, dirty, first_dirty, round, &pace)? else { return Ok(Outcome::GivenUp) };
        if self.note.get().is_none() {
            // Before the first segment that lacks offsets: the next start will take them for lost otherwise.
            self.note.set(first_dirty)?;
        }
        let horizon = Timestamp::from_millis(round.now.millis().saturating_add(round.policy.delete_retention_ms));
        let mut report = CompactionReport::nothing(rule.end);
        let touched = facts[..end].partition_point(|segment| segment.base < rule.end);
        for group in plan::groups(&facts, touched, &round.policy) {
            let group = &segments[group];
            let written = rewrite(&self.home, group, &rule, horizon, round.policy.index_interval_bytes, &pace);
            let done = match written {
                Ok(Written::Compacted(compacted)) => self.install(compacted, group, &mut report, install),
                Ok(Written::Same) => self.clear(group).map(|()| true),
                Ok(Written::Stopped) => self.clear(group).map(|()| false),
                Err(error) => Err(error),
            };
            match done {
                Ok(true) => {}
                Ok(false) => return Ok(Outcome::GivenUp),
                Err(error) => {
                    // What cannot be removed now goes at the next start.
                    let _ = self.clear(group);
                    return Err(error);
                }
            }
        }
        self.note.set(rule.end)?;
        Ok(Outcome::Done(report))
    }

    fn install(
        &self,
        compacted: Compacted,
        group: &[Arc<Segment>],
        report: &mut CompactionReport,
        install: &mut dyn FnMut(Compacted) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let (bytes_in, bytes_out) = (compacted.bytes_in(), compacted.bytes_out());
        let installed = install(compacted);
        // What is still a part of the log has its name.
        let segments = self.shared.segments.load();
        for old in group.iter().filter(|old| segments.iter().any(|segment| Arc::ptr_eq(segment, old))) {
            old.unpin();
        }
        if !installed? {
            self.clear(group)?;
            return Ok(false);
        }
        report.segments_in += group.len();
        report.segments_out += 1;
        report.bytes_in += bytes_in;
        report.bytes_out += bytes_out;
        Ok(true)
    }

    /// Removes what was written and is not wanted.
    fn clear(&self, group: &[Arc<Segment>]) -> Result<(), Error> {
        remove_if_there(self.home.disk.io.as_ref(), &self.home.directory.join(file_name(group[0].base, CLEANED)))
    }

    /// From where on nothing was compacted. A note beyond all that can have been compacted is none.
    fn first_dirty(&self, facts: &[Facts]) -> Offset {
        let active = facts.last().map_or(Offset::ZERO, |active| active.base);
        self.note.get().filter(|noted| *noted <= active).unwrap_or(Offset::ZERO).max(self.shared.log_start())
    }
}

#[cfg(test)]
impl Compactor {
    pub(super) fn segments(&self) -> usize {
        self.shared.segments.load().len()
    }

    pub(super) fn list(&self) -> Vec<Arc<Segment>> {
        Vec::clone(&self.shared.segments.load())
    }

    pub(super) fn bases(&self) -> Vec<Offset> {
        self.shared.segments.load().iter().map(|segment| segment.base).collect()
    }

    pub(crate) fn active_base(&self) -> Offset {
        *self.bases().last().unwrap()
    }
}

fn facts(segments: &[Arc<Segment>]) -> Vec<Facts> {
    let facts = |segment: &Arc<Segment>| Facts { base: segment.base, bytes: segment.bytes(), max_timestamp: segment.max_timestamp() };
    segments.iter().map(facts).collect()
}

/// The largest timestamp of a segment's first batch; `None` if it has none.
fn first_timestamp(segment: &Segment) -> Result<Option<i64>, Error> {
    if segment.bytes() < limits::BATCH_HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut head = [0; limits::BATCH_HEADER_BYTES];
    read_exact_at(segment.open()?.file.as_ref(), &mut head, 0).map_err(Error::io("read", &segment.path))?;
    match BatchHeader::parse(&head) {
        Ok(header) => Ok(Some(header.max_timestamp)),
        Err(error) => Err(Error::Corrupt { path: segment.path.clone(), position: 0, reason: error.to_string() }),
    }
}

/// Notes where each key of the dirty segments was written last, up to their end or to the first batch that the memory has no room for. `None`
/// if it was told to stop.
fn map_keys(
    segments: &[Arc<Segment>],
    dirty: Range<usize>,
    first_dirty: Offset,
    round: &Round,
    pace: &Pace,
) -> Result<Option<Rule>, Error> {
    let end = segments[dirty.end].base;
    let latest = KeyMap::new(round.map_bytes, end.since(first_dirty), &round.seed);
    let mut rule = Rule { latest, end, now: round.now };
    for segment in &segments[dirty] {
        let walk = each_batch(segment, &*segment.open()?, pace, &mut |batch| {
            let header = &batch.header;
            if header.last_offset() < first_dirty || header.is_control() {
                return Ok(ControlFlow::Continue(()));
            }
            // A batch that a trim has cut through counts from there on.
            let dirty = header.last_offset().next().since(header.first_offset().max(first_dirty));
            if dirty.min(u64::from(header.record_count.unsigned_abs())) > rule.latest.room() as u64 {
                rule.end = header.first_offset();
                return Ok(ControlFlow::Break(()));
            }
            for record in &batch.records().map_err(Stop::Batch)? {
                let record = record.map_err(Stop::Batch)?;
                if let Some(key) = record.key.filter(|_| record.offset >= first_dirty) {
                    rule.latest.note(key, record.offset);
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        match walk {
            Walk::Ended => {}
            Walk::Broken => break,
            Walk::Stopped => return Ok(None),
        }
    }
    if rule.end <= first_dirty {
        let reason = format!(
            "the keys of the batch at offset {} do not fit into {} bytes of memory (log.cleaner.dedupe.buffer.size)",
            rule.end, round.map_bytes
        );
        return Err(Error::Compaction { reason });
    }
    Ok(Some(rule))
}
