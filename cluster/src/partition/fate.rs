//! What is done with an append, by what is known of who sent it. Pure.

use tidegate_storage::{Verdict, producers::Plan};
use tidegate_types::{Offset, ProducerStamp, RecordBatch};

use crate::broker::Payload;
use crate::error::Error;

/// That.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is written.
    Write,
    /// Of these batches those are written that a request before has not; for the others it says where they stand.
    WriteRest(Vec<Option<Offset>>),
    /// It was written before: from the first offset to the last.
    Written(Offset, Offset),
    /// It was written before, somewhere below that offset.
    Forgotten(Offset),
    /// What comes before it is missing, and may be on its way; or it is refused.
    Early(ProducerStamp, Error),
    /// It is a producer's first here, but not its beginning: what comes before may be on its way; or it is taken.
    Beginning(ProducerStamp),
    Refuse(Error),
}

/// The stamps of what is to be written, each with its number of records.
pub(crate) fn stamps(payload: &Payload) -> impl Iterator<Item = (ProducerStamp, u32)> + '_ {
    let (records, batches) = match payload {
        Payload::Records { set, producer } => (producer.map(|stamp| (stamp, count(set.len() as u64))), &[][..]),
        Payload::Batches(batches) => (None, batches.as_slice()),
    };
    records.into_iter().chain(batches.iter().filter_map(|batch| Some((batch.producer()?, count(batch.record_count())))))
}

fn count(records: u64) -> u32 {
    u32::try_from(records).unwrap_or(u32::MAX)
}

/// Decides. A request has one stamp, or one for each of its batches, which are then all keys.
pub(super) fn judge(payload: &Payload, plan: &Plan<'_>) -> Fate {
    let mut stamps = stamps(payload);
    let Some((stamp, records)) = stamps.next() else { return Fate::Write };
    if stamps.next().is_none() {
        return judge_one(stamp, records, plan);
    }
    let Payload::Batches(batches) = payload else { return Fate::Write };
    judge_all(batches, plan)
}

fn judge_one(stamp: ProducerStamp, records: u32, plan: &Plan<'_>) -> Fate {
    match plan.judge(stamp, records) {
        Verdict::New => Fate::Write,
        Verdict::Unknown => Fate::Beginning(stamp),
        Verdict::Written { offset } => Fate::Written(offset, last_of(offset, u64::from(records))),
        Verdict::Forgotten { below } => Fate::Forgotten(below),
        Verdict::Gap { expected } => Fate::Early(stamp, Error::SequenceGap { expected, received: stamp.sequence }),
        Verdict::Fenced { current } => Fate::Refuse(Error::ProducerFenced { current }),
        Verdict::Reused => Fate::Refuse(Error::KeyReused),
    }
}

/// A crash may have left the first batches of a request without the last.
fn judge_all(batches: &[RecordBatch], plan: &Plan<'_>) -> Fate {
    let mut found = Vec::with_capacity(batches.len());
    for batch in batches {
        let verdict = batch.producer().map_or(Verdict::New, |stamp| plan.judge(stamp, count(batch.record_count())));
        match verdict {
            Verdict::Written { offset } => found.push(Some(offset)),
            Verdict::Reused => return Fate::Refuse(Error::KeyReused),
            _ => found.push(None),
        }
    }
    match (found.first(), found.last(), batches.last()) {
        (Some(Some(first)), Some(Some(last)), Some(batch)) if found.iter().all(Option::is_some) => {
            Fate::Written(*first, last_of(*last, batch.record_count()))
        }
        _ if found.iter().all(Option::is_none) => Fate::Write,
        // The oldest keys are forgotten first: then it was whole once. A crash takes the last batches.
        (Some(None), Some(Some(last)), Some(batch)) => Fate::Forgotten(last_of(*last, batch.record_count()).next()),
        (Some(None), ..) => Fate::Refuse(Error::Internal("a request is known in the middle only".to_owned())),
        _ => Fate::WriteRest(found),
    }
}

/// Where the last of so many records stands.
pub(super) fn last_of(first: Offset, records: u64) -> Offset {
    first.checked_add(records.saturating_sub(1)).unwrap_or(Offset::MAX)
}
