//! A model partition: the wire's rules for idempotent producers, and nothing else.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tidegate_types::ProducerStamp;
use tidegate_types::producer::{sequence_after, sequences_behind};

/// Batches of a producer that it remembers.
const REMEMBERED: usize = 5;
/// How long a silent producer is remembered.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(360);

/// A request as it travels.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// Which of the producer's requests it is.
    pub(super) request: u64,
    pub(super) partition: usize,
    pub(super) stamp: ProducerStamp,
    pub(super) values: Vec<u64>,
    /// How long its answer travels; `None` is for ever.
    pub(super) way_back: Option<Duration>,
    /// What becomes of its answer on the way.
    pub(super) garbles: bool,
}

/// What a partition answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Written(u64),
    /// It was there already; where, if that is remembered.
    Duplicate(Option<u64>),
    Gap,
    Fenced,
    TooLarge,
    Rejected(u32),
}

/// What a partition knows of a producer.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) epoch: i16,
    pub(super) next: i32,
    /// Base sequence, records, base offset.
    pub(super) last: VecDeque<(i32, usize, u64)>,
    pub(super) active: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) log: Vec<u64>,
    pub(super) producers: HashMap<i64, Known>,
    pub(super) parked: Vec<(Duration, Message)>,
    pub(super) refused: HashSet<u64>,
    pub(super) records_max: usize,
}

impl Partition {
    /// Its answer; `None` if the message may be parked and has to wait.
    pub(super) fn receive(&mut self, now: Duration, message: &Message, is_last_chance: bool) -> Option<Said> {
        let Message { stamp, values, .. } = message;
        if values.len() > self.records_max {
            return Some(Said::TooLarge);
        }
        if let Some(index) = values.iter().position(|value| self.refused.contains(value)) {
            return Some(Said::Rejected(u32::try_from(index).unwrap()));
        }
        self.producers.retain(|_, known| known.active + FORGOTTEN_AFTER > now);
        let too_early = || is_last_chance.then_some(Said::Gap);
        let is_new = match self.producers.get(&stamp.id) {
            None if stamp.sequence != 0 && !is_last_chance => return None,
            None => true,
            Some(known) if stamp.epoch < known.epoch => return Some(Said::Fenced),
            Some(known) if stamp.epoch > known.epoch && stamp.sequence != 0 => return too_early(),
            Some(known) if stamp.epoch > known.epoch => true,
            Some(known) if stamp.sequence == known.next => false,
            // Ahead of it, or in part.
            Some(known) if sequences_behind(stamp.sequence, known.next).is_none_or(|behind| (behind as usize) < values.len()) => {
                return too_early();
            }
            Some(known) => {
                let same = known.last.iter().find(|(sequence, count, _)| (*sequence, *count) == (stamp.sequence, values.len()));
                return Some(Said::Duplicate(same.map(|(_, _, offset)| *offset)));
            }
        };
        let known = self.producers.entry(stamp.id).or_default();
        if is_new {
            *known = Known { epoch: stamp.epoch, ..Known::default() };
        }
        known.next = sequence_after(stamp.sequence, u32::try_from(values.len()).unwrap());
        known.active = now;
        known.last.push_back((stamp.sequence, values.len(), self.log.len() as u64));
        if known.last.len() > REMEMBERED {
            known.last.pop_front();
        }
        self.log.extend(values);
        Some(Said::Written((self.log.len() - values.len()) as u64))
    }
}
