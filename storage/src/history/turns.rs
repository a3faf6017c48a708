//! What may happen in a turn of a history.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tidegate_types::{ErrorCode, LeaderEpoch, Timestamp};

use super::part::{Part, Went, draw_config, offset};
use super::world::{Next, World, draw_crash};
use super::{check, model};
use crate::io::{Crash, Failure, FaultPlan, Operation, SplitMix};
use crate::{CompactionPolicy, Outcome, Round};

impl World {
    pub(super) fn act(&mut self, turn: u64, random: &mut SplitMix) -> Result<Next, String> {
        self.now += i64::try_from(random.below(80)).unwrap();
        let at = usize::try_from(random.below(self.parts.len() as u64)).unwrap();
        let what = random.below(100);
        let part = &mut self.parts[at];
        if part.is_poisoned && what < 60 {
            // Only another start helps.
            let crash = if what < 30 { Crash::Kill } else { draw_crash(random) };
            self.tell(format!("{turn}: restart, for {at} is poisoned"));
            return Ok(Next::Restart(crash));
        }
        let (name, went) = match what {
            0..40 => ("append", if part.is_poisoned { Went::Well } else { part.append(random, self.now, &format!("{turn}")) }),
            40..44 => ("sync", if part.is_poisoned { Went::Well } else { part.sync() }),
            44..49 if !part.is_poisoned => ("trim", part.trim(random.below(8).min(random.below(8)) * 143)?),
            49..55 if !part.is_poisoned => ("expire", part.expire(self.now)?),
            55..60 if !part.trimmed.is_empty() => {
                let trimmed = part.trimmed.remove(usize::try_from(random.below(part.trimmed.len() as u64)).unwrap());
                ("remove", trimmed.remove().map_or_else(Went::Refused, |()| Went::Well))
            }
            60..70 if !part.is_poisoned && !part.is_uncleanable => {
                if !part.config.cleanup_policy.compact {
                    return Ok(Next::Go);
                }
                self.compact(turn, at, random)?
            }
            70..73 => {
                let points: BTreeMap<_, _> =
                    self.parts.iter().map(|part| (part.tp.clone(), part.log.as_ref().unwrap().synced_end())).collect();
                let readable = self.parts.iter().map(|part| (part.tp.clone(), offset(part.high_watermark()))).collect();
                let store = self.store.as_ref().unwrap();
                let written = store.write_recovery_points(&points).and_then(|()| store.write_high_watermarks(&readable));
                ("recovery points", written.map_or_else(Went::Refused, |()| Went::Well))
            }
            _ => return self.beside(turn, at, what, random),
        };
        self.tell(format!("{turn}: {name} {at}: {went:?}, at step {}, ends {}", self.disk.steps(), self.parts[at].model.end));
        match went {
            Went::Well => {}
            Went::Refused(error) | Went::Poisoned(error) => {
                self.may_fail::<()>(Err(error))?;
            }
        }
        Ok(Next::Go)
    }

    /// What no log is asked for.
    fn beside(&mut self, turn: u64, at: usize, what: u64, random: &mut SplitMix) -> Result<Next, String> {
        let part = &mut self.parts[at];
        match what {
            73..76 => {
                let config = draw_config(random);
                self.tell(format!("{turn}: {at} {config:?}"));
                self.parts[at].configure(config);
                Ok(Next::Go)
            }
            76..79 => {
                self.tell(format!("{turn}: close"));
                self.close(random)?;
                Ok(Next::Restart(draw_crash(random)))
            }
            79..80 => self.replace(turn, at, random),
            80..81 => {
                part.epoch += 1;
                let (epoch, log) = (part.epoch, part.log.as_mut().unwrap());
                let begun = log.begin_epoch(LeaderEpoch::new(epoch));
                self.tell(format!("{turn}: epoch {epoch} of {at}: {begun:?}"));
                // A leader that could not note itself must not write.
                self.may_fail(begun).map(|ok| if ok { Next::Go } else { Next::Restart(Crash::Kill) })
            }
            81..90 => {
                let may_fail = self.faulty_for > 0 || part.model.lost_pages;
                part.read_on(1 + usize::try_from(random.below(1_500)).unwrap(), may_fail)?;
                part.check_held(may_fail)?;
                part.hold(random, may_fail)?;
                Ok(Next::Go)
            }
            90..95 => {
                self.arm(turn, random);
                Ok(Next::Go)
            }
            95..97 => {
                self.misbehave(turn, random);
                Ok(Next::Go)
            }
            97..98 => {
                self.tell(format!("{turn}: killed"));
                Ok(Next::Restart(Crash::Kill))
            }
            98..99 => {
                self.now += random.pick(&[-5_000, 5_000, 500]);
                Ok(Next::Go)
            }
            _ if self.faulty_for == 0 && !part.model.lost_pages => {
                let part = &self.parts[at];
                check::whole(&self.disk, part, random).map_err(|why| format!("{}, running: {why}", part.tp))?;
                Ok(Next::Go)
            }
            _ => Ok(Next::Go),
        }
    }

    /// From some step on the power will be out.
    fn arm(&mut self, turn: u64, random: &mut SplitMix) {
        if self.faulty_for == 0 {
            let within = random.pick(&[6, 20, 60]);
            let cut_at = self.disk.steps() + random.below(within);
            self.tell(format!("{turn}: the power will be out from step {cut_at}"));
            self.disk.set_plan(FaultPlan { cut_at: Some(cut_at), seed: self.seed | 1, ..FaultPlan::default() });
        }
    }

    /// For some turns something is wrong with the disk.
    pub(super) fn misbehave(&mut self, turn: u64, random: &mut SplitMix) {
        let mut plan = FaultPlan { seed: random.next() | 1, ..FaultPlan::default() };
        if random.one_in(2) {
            plan.capacity = Some(self.disk.used() + random.below(1_500));
            plan.entry_bytes = 256 * random.below(2);
        } else {
            const KINDS: [Operation; 10] = [
                Operation::Open,
                Operation::Read,
                Operation::List,
                Operation::Write,
                Operation::Sync,
                Operation::SyncDirectory,
                Operation::SetLength,
                Operation::Create,
                Operation::Rename,
                Operation::Remove,
            ];
            let on = random.pick(&KINDS);
            let may_be_full = matches!(on, Operation::Write | Operation::Create | Operation::Rename);
            let kind = if may_be_full && random.one_in(2) { std::io::ErrorKind::StorageFull } else { std::io::ErrorKind::Other };
            let times = random.pick(&[1, 2, u64::MAX]);
            plan.failures.push(Failure { on: Some(on), skip: random.below(6), times, kind });
        }
        self.tell(format!("{turn}: {plan:?}"));
        self.disk.set_plan(plan);
        self.faulty_for = 1 + random.below(6);
        self.was_faulty = true;
    }

    /// A round of compaction; in the middle of it other things may happen to the log.
    fn compact(&mut self, turn: u64, at: usize, random: &mut SplitMix) -> Result<(&'static str, Went), String> {
        let (now, policy) = (self.now, CompactionPolicy::from(&self.parts[at].config));
        let part = &mut self.parts[at];
        let (compactor, high_watermark) = (part.log.as_ref().unwrap().compactor(), offset(part.high_watermark()));
        match compactor.look(&policy, high_watermark, Timestamp::from_millis(now)) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(("look", Went::Well)),
            Err(error) => return Ok(("look", Went::Refused(error))),
        }
        let horizon = now.saturating_add(policy.delete_retention_ms);
        part.model.rounds.push(model::Round { end: compactor.active_base().get().min(high_watermark.get()), at: now, horizon });
        let map_bytes = if random.one_in(3) { 480 } else { 1 << 20 };
        let stop = Arc::new(AtomicBool::new(random.one_in(20)));
        let round = Round {
            policy,
            high_watermark,
            now: Timestamp::from_millis(now),
            map_bytes,
            seed: [9; 16],
            io_bytes_per_second: u64::MAX,
            stop,
        };
        let (mut is_settled, mut beside) = (true, Ok(Went::Well));
        let outcome = compactor.round(&round, &mut |compacted| {
            match random.below(20) {
                0..3 => {
                    let went = part.append(random, now, &format!("{turn}c"));
                    if !matches!(went, Went::Well) {
                        beside = Ok(went);
                        return Ok(false);
                    }
                }
                3 => beside = part.trim(500),
                _ => {}
            }
            if !matches!(beside, Ok(Went::Well)) {
                return Ok(false);
            }
            is_settled = false;
            let replaced = part.log.as_mut().unwrap().install(compacted)?;
            let installed = match replaced {
                Some(replaced) => replaced.finish().map(|()| true)?,
                None => false,
            };
            is_settled = true;
            Ok(installed)
        });
        match beside? {
            Went::Well => {}
            went => return Ok(("beside a round", went)),
        }
        match outcome {
            Ok(Outcome::GivenUp) => Ok(("round, given up", Went::Well)),
            Ok(Outcome::Done(report)) => {
                if let Some(round) = part.model.rounds.last_mut() {
                    round.end = round.end.min(report.first_dirty.get());
                }
                if self.faulty_for == 0 {
                    check::clean(&self.parts[at], report.first_dirty.get())?;
                }
                Ok(("round", Went::Well))
            }
            Err(error) => {
                // As a node does: what was installed in part is settled by the next start alone.
                part.is_uncleanable = !is_settled || error.code() != ErrorCode::StorageFull;
                Ok(("round", Went::Refused(error)))
            }
        }
    }

    /// The topic is deleted, and made again under the same name.
    fn replace(&mut self, turn: u64, at: usize, random: &mut SplitMix) -> Result<Next, String> {
        self.tell(format!("{turn}: {at} is deleted and made again"));
        let old = &mut self.parts[at];
        old.end();
        let tp = old.tp.clone();
        // Agreed on before anything is done.
        self.topics += 1;
        self.parts[at] = Part::new(tp.clone(), self.topics, draw_config(random));
        let store = self.store.as_ref().unwrap();
        // What still has notes keeps its files, by which the next one knows that they are another's.
        let removed = store.forget(std::slice::from_ref(&tp)).and_then(|()| store.remove_log(&tp));
        if !self.may_fail(removed)? && (self.disk.is_off() || random.one_in(2)) {
            return Ok(Next::Restart(draw_crash(random)));
        }
        let opened = self.open(at);
        let opened = self.may_fail(opened)?;
        if !opened {
            return Ok(Next::Restart(if self.disk.is_off() { draw_crash(random) } else { Crash::Kill }));
        }
        self.shown(at, random).map(|()| Next::Go)
    }
}
