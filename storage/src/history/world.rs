//! One history: a data directory on a bad disk, a few partitions in it, and what happens to them, step by step as a seed says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tidegate_types::{LeaderEpoch, NodeId, PartitionIndex, TopicName, TopicPartition};
use uuid::Uuid;

use super::part::{Part, draw_config};
use super::{Check, ROOT, check, ensure};
use crate::io::{Crash, FaultPlan, Faulty, Io, SplitMix};
use crate::{Error, Store};

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) disk: Faulty,
    pub(super) store: Option<Store>,
    pub(super) parts: Vec<Part>,
    pub(super) now: i64,
    pub(super) topics: u64,
    /// The disk misbehaves for so many turns more.
    pub(super) faulty_for: u64,
    /// It ever did.
    pub(super) was_faulty: bool,
    /// What has happened, for people.
    pub(super) told: Vec<String>,
    pub(super) crashes: u64,
}

/// What ends a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    /// The process has ended like this, and another one starts.
    Restart(Crash),
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = SplitMix(seed);
        let parts = 1 + random.below(3).min(random.below(3));
        let tp = |n| TopicPartition { topic: TopicName::new("t").unwrap(), partition: PartitionIndex::new(n) };
        let parts: Vec<_> = (0..u32::try_from(parts).unwrap()).map(|n| Part::new(tp(n), u64::from(n), draw_config(&mut random))).collect();
        Self {
            seed,
            disk: Faulty::new(),
            store: None,
            topics: parts.len() as u64,
            parts,
            now: 1_000_000,
            faulty_for: 0,
            was_faulty: false,
            told: Vec::new(),
            crashes: 0,
        }
    }

    /// Plays `turns` turns, but for those to be left out; then ends well, and starts once more.
    pub(super) fn play(&mut self, turns: u64, left_out: &[u64]) -> Check {
        self.start(&mut SplitMix(self.seed ^ 1))?;
        for turn in (0..turns).filter(|turn| !left_out.contains(turn)) {
            // Each turn has its own luck, so that the others stay what they are when one is left out.
            let mut random = SplitMix(self.seed ^ (turn + 2).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            self.turn(turn, &mut random)?;
        }
        let mut random = SplitMix(self.seed ^ 2);
        self.heal();
        if self.disk.is_off() {
            self.restart(Crash::LoseAll, &mut random)?;
        }
        self.close(&mut random)?;
        self.restart(Crash::LoseAll, &mut random)?;
        self.heal();
        self.check(&mut random)
    }

    pub(super) fn tell(&mut self, what: String) {
        self.told.push(what);
    }

    fn turn(&mut self, turn: u64, random: &mut SplitMix) -> Check {
        let next = self.act(turn, random)?;
        if self.faulty_for > 0 {
            self.faulty_for -= 1;
            if self.faulty_for == 0 {
                self.heal();
            }
        }
        let crash = match next {
            _ if self.disk.is_off() => draw_crash(random),
            Next::Go => return Ok(()),
            Next::Restart(crash) => crash,
        };
        self.heal();
        self.restart(crash, random)
    }

    /// Whether something went well; an error while nothing is wrong with the disk is one of ours.
    pub(super) fn may_fail<T>(&self, result: Result<T, Error>) -> Result<bool, String> {
        match result {
            Ok(_) => Ok(true),
            Err(error @ Error::Corrupt { .. }) => Err(format!("nothing has rotted: {error}")),
            Err(_) if self.disk.is_off() || self.faulty_for > 0 => Ok(false),
            Err(error) => Err(format!("nothing is wrong with the disk, but: {error}")),
        }
    }

    fn heal(&mut self) {
        self.faulty_for = 0;
        if !self.disk.is_off() {
            self.disk.set_plan(FaultPlan { seed: self.seed | 1, ..FaultPlan::default() });
        }
    }

    /// Closes every log as a node does that stops, and notes how far they are synced.
    pub(super) fn close(&mut self, random: &mut SplitMix) -> Check {
        let mut points = BTreeMap::new();
        for at in 0..self.parts.len() {
            let part = &mut self.parts[at];
            let Some(log) = part.log.take() else { continue };
            let closed = log.close();
            if let Ok(synced) = &closed {
                part.model.acked = part.model.end;
                ensure!(synced.get() == part.model.end, "it closed at {synced}, not at {}", part.model.end);
                points.insert(part.tp.clone(), *synced);
            } else {
                part.model.lost_pages = true;
            }
            let (was_poisoned, is_closed) = (part.is_poisoned, closed.is_ok() && !self.disk.is_off());
            part.is_closed = is_closed;
            if !was_poisoned {
                self.may_fail(closed)?;
            }
        }
        if !random.one_in(4) {
            let written = self.store.as_ref().unwrap().write_recovery_points(&points);
            self.may_fail(written)?;
        }
        // Whatever it says, the next start believes the logs alone.
        let noted = self.store.as_ref().unwrap().note_clean_stop(1);
        self.may_fail(noted)?;
        Ok(())
    }

    /// The process ends, and what becomes of the disk is what `crash` says; then another one starts.
    fn restart(&mut self, crash: Crash, random: &mut SplitMix) -> Check {
        self.crash(crash);
        self.start(random)
    }

    fn crash(&mut self, crash: Crash) {
        self.tell(format!("   {crash:?}"));
        self.crashes += 1;
        for part in &mut self.parts {
            part.end();
            part.model.crash(matches!(crash, Crash::Kill | Crash::KeepAll));
        }
        self.store = None;
        self.disk = self.disk.after_crash(crash);
        self.heal();
    }

    /// Starts; the plug may be pulled in the middle of that, and a sick disk may become well again, but a good disk is never refused.
    fn start(&mut self, random: &mut SplitMix) -> Check {
        for attempt in 0.. {
            if attempt < 3 && random.one_in(3) {
                let cut_at = self.disk.steps() + random.below(40);
                self.tell(format!("   starting, the power will be out from step {cut_at}"));
                self.disk.set_plan(FaultPlan { cut_at: Some(cut_at), seed: random.next() | 1, ..FaultPlan::default() });
            } else if attempt < 3 && random.one_in(12) {
                self.misbehave(9_999, random);
            }
            let opened = self.open_all(random)?;
            if opened && !self.disk.is_off() {
                break;
            }
            let crash = if self.disk.is_off() { draw_crash(random) } else { Crash::Kill };
            if !self.disk.is_off() {
                // It may have been a sync that failed.
                self.parts.iter_mut().for_each(|part| part.model.lost_pages = true);
            }
            self.crash(crash);
        }
        if self.faulty_for == 0 && !self.disk.is_off() {
            self.heal();
        }
        Ok(())
    }

    fn open_all(&mut self, random: &mut SplitMix) -> Result<bool, String> {
        let io: Arc<dyn Io> = Arc::new(self.disk.clone());
        let store = Store::open(io, Path::new(ROOT), NodeId::new(1), Uuid::nil());
        self.store = match store {
            Ok(store) => Some(store),
            Err(error) => return self.may_fail::<()>(Err(error)),
        };
        let names: Vec<_> = self.parts.iter().map(|part| part.tp.clone()).collect();
        let retained = self.store.as_ref().unwrap().retain_notes(|tp| names.contains(tp));
        if !self.may_fail(retained)? {
            return Ok(false);
        }
        for at in 0..self.parts.len() {
            let opened = self.open(at);
            if !self.may_fail(opened).map_err(|why| format!("{}: {why}", self.parts[at].tp))? {
                return Ok(false);
            }
            self.shown(at, random)?;
        }
        Ok(true)
    }

    /// Opens a log, and notes its leader.
    pub(super) fn open(&mut self, at: usize) -> Result<(), Error> {
        let part = &mut self.parts[at];
        let was_closed = part.is_closed;
        let (log, report) = self.store.as_ref().unwrap().open_log(&part.tp, part.topic, &part.config)?;
        let shown = format!("   {} opened: {report:?}", part.tp);
        let fail = |reason: String| Error::Corrupt { path: part.tp.to_string().into(), position: 0, reason };
        if (report.log_start, report.log_end) != (log.log_start(), log.log_end()) {
            return Err(fail(format!("it is not as reported: {report:?}")));
        }
        if was_closed && !self.was_faulty && report.scanned_bytes > 0 {
            return Err(fail(format!("it was closed well, but read: {report:?}")));
        }
        part.opened(log).map_err(|reason| Error::Corrupt { path: part.tp.to_string().into(), position: 0, reason })?;
        self.told.push(shown);
        Ok(())
    }

    /// A start has shown a log: everything that must hold of it does, and its next leader begins.
    pub(super) fn shown(&mut self, at: usize, random: &mut SplitMix) -> Check {
        let is_well = self.faulty_for == 0;
        let part = &mut self.parts[at];
        if is_well {
            check::whole(&self.disk, part, random).map_err(|why| format!("{}, opened: {why}", part.tp))?;
            check::tidy(&self.disk, part)?;
        }
        part.epoch += i32::from(random.one_in(3));
        let begun = part.log.as_mut().unwrap().begin_epoch(LeaderEpoch::new(part.epoch));
        if !self.may_fail(begun)? && !self.disk.is_off() {
            // As a node does: it stays closed. Here the next turn of it ends the process.
            self.parts[at].is_poisoned = true;
        }
        Ok(())
    }

    fn check(&mut self, random: &mut SplitMix) -> Check {
        for part in &self.parts {
            check::whole(&self.disk, part, random)?;
        }
        Ok(())
    }
}

pub(super) fn draw_crash(random: &mut SplitMix) -> Crash {
    match random.below(8) {
        0 => Crash::LoseAll,
        1 => Crash::KeepAll,
        2 => Crash::Kill,
        _ => Crash::Random(random.next()),
    }
}
