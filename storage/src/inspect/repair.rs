//! What is to be done about a damaged partition: a pure function of what was seen. Nothing is deleted: what goes out of a log is set aside first, whole.
//!
//! ```text
//!   0..99      100..199       200..299     300..      segments
//!   ─────────  ────×────────  ───────────  ─────      × the first batch that is not what was written
//!   stays      copied aside,  moved aside  moved      then the notes that say how far the log goes are brought down to where it ends now
//!              then cut at ×
//! ```
//!
//! A log that the node opens as it is, for it has reason to believe the damaged segment unread, loses nothing unless that is asked for: readers can pass
//! over the damage, and what lies behind it is good.
//!
//! The order of actions makes each place to be cut off at harmless: until all originals are set aside nothing is cut; until the notes are brought down the node
//! refuses the log, or a new plan finds what is left to do.

use std::path::{Path, PathBuf};

use tidegate_types::Offset;

use super::survey::{Small, Survey};
use super::walk::{Indexes, Seen};
use super::{Finding, Kind};
use crate::epochs::{self, Epochs};
use crate::segment::file_name;
use crate::vouched::{self, Vouched};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Copy a file to what is set aside.
    Copy {
        /// The file.
        file: PathBuf,
    },
    /// Move a file, and indexes beside it, to what is set aside.
    Move {
        /// The file.
        file: PathBuf,
    },
    /// Complete or undo a compaction that was cut off, as a start does.
    Settle,
    /// Cut a file that has been copied.
    Cut {
        /// The file.
        file: PathBuf,
        /// So many bytes stay.
        bytes: u64,
    },
    /// Begin an empty segment.
    Begin {
        /// With this offset.
        base: Offset,
    },
    /// Write indexes again from the log, and `segment-checkpoint`.
    Index {
        /// The segments that get indexes, by their first offsets.
        segments: Vec<Offset>,
    },
    /// Write `leader-epoch-checkpoint` again from the batches.
    Epochs,
    /// Note that the log begins here.
    RaiseStart {
        /// Here.
        to: Offset,
    },
    /// Note up to where it is compacted.
    Compacted {
        /// Up to here.
        to: Offset,
    },
    /// Note that it is synced up to here only.
    LowerSynced {
        /// Up to here.
        to: Offset,
    },
    /// Note that it is readable up to here only.
    LowerReadable {
        /// Up to here.
        to: Offset,
    },
    /// Write one of the data directory's checkpoints again, from the logs.
    Rewrite {
        /// The file.
        file: PathBuf,
    },
}

impl Action {
    /// The word for it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Copy { .. } => "copy-aside",
            Self::Move { .. } => "move-aside",
            Self::Settle => "settle-compaction",
            Self::Cut { .. } => "cut",
            Self::Begin { .. } => "begin-segment",
            Self::Index { .. } => "write-indexes",
            Self::Epochs => "write-leader-epochs",
            Self::RaiseStart { .. } => "note-log-start",
            Self::Compacted { .. } => "note-compacted",
            Self::LowerSynced { .. } => "note-synced",
            Self::LowerReadable { .. } => "note-readable",
            Self::Rewrite { .. } => "rewrite-checkpoint",
        }
    }

    /// The file it is about, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Copy { file } | Self::Move { file } | Self::Cut { file, .. } | Self::Rewrite { file } => Some(file),
            _ => None,
        }
    }

    /// What it does, in words.
    pub fn sentence(&self) -> String {
        match self {
            Self::Copy { file } => format!("copy {} aside", file.display()),
            Self::Move { file } => format!("move {} aside", file.display()),
            Self::Settle => "complete or undo the compaction that was cut off".to_owned(),
            Self::Cut { file, bytes } => format!("cut {} at byte {bytes}", file.display()),
            Self::Begin { base } => format!("begin an empty segment at offset {base}"),
            Self::Index { segments } if segments.is_empty() => format!("write {} again", vouched::FILE),
            Self::Index { segments } => {
                let bases = segments.iter().map(|base| base.to_string()).collect::<Vec<_>>().join(", ");
                format!("write the indexes of the segments at {bases} again, and {}", vouched::FILE)
            }
            Self::Epochs => format!("write {} again from the batches", epochs::FILE),
            Self::RaiseStart { to } => format!("note that the log begins at offset {to}"),
            Self::Compacted { to } => format!("note that it is compacted, up to offset {to}"),
            Self::LowerSynced { to } => format!("note that it is synced up to offset {to} only"),
            Self::LowerReadable { to } => format!("note that it is readable up to offset {to} only"),
            Self::Rewrite { file } => format!("set {} aside and write it again from the logs", file.display()),
        }
    }
}

/// Records that a log no longer has once a plan is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The first offset.
    pub first: Offset,
    /// The last one, as far as is known.
    pub last: Option<Offset>,
}

impl Lost {
    /// How many records that are, at most; `None` if nobody knows.
    pub fn records(&self) -> Option<u64> {
        self.last.map(|last| last.since(self.first) + 1)
    }
}

/// What is to be done about one partition, or about the data directory itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Its directory.
    pub directory: PathBuf,
    /// What is to be done, in this order.
    pub actions: Vec<Action>,
    /// What the log loses.
    pub lost: Option<Lost>,
    /// Bytes that leave the log.
    pub aside_bytes: u64,
    /// What stays as it is, and why.
    pub left: Vec<String>,
    pub(super) indexes: Vec<Remade>,
    pub(super) vouched: Vec<Vouched>,
    pub(super) epochs: Option<Epochs>,
    /// Where the log ends then, if that is known.
    pub(super) end: Option<Offset>,
}

/// A segment that gets its indexes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remade {
    pub(super) base: Offset,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) end: Offset,
}

/// What becomes of the segments.
#[derive(Debug, Default)]
struct Parts<'a> {
    stay: Vec<&'a Seen>,
    /// The last that stays, if it is cut.
    cut: Option<&'a Seen>,
    aside: Vec<&'a Seen>,
    /// The log goes on where these end.
    behind: Vec<&'a Seen>,
    end: Option<Offset>,
}

/// Makes a plan for a partition. `cut_all`: also where the node opens the log, at the first damage.
pub(super) fn plan(survey: &Survey, cut_all: bool) -> Plan {
    let mut plan = Plan { directory: survey.directory.clone(), ..Plan::default() };
    let all = || survey.summary.findings.iter().chain(&survey.summary.notes);
    if all().all(|finding| finding.kind == Kind::TornTail) {
        plan.end = survey.segments.last().map(|last| last.good.end);
        return plan;
    }
    let mut parts = split(survey, cut_all, &mut plan.left);
    let begin = begin(survey, &mut parts);
    plan.end = begin.or(parts.end);
    plan.lost = lost(survey, &parts, plan.end);
    let log = |seen: &Seen| survey.directory.join(file_name(seen.base, "log"));
    plan.actions.extend(survey.bad_swaps.iter().map(|file| Action::Move { file: file.clone() }));
    let settle = plan.actions.len();
    if let Some(cut) = parts.cut {
        plan.actions.push(Action::Copy { file: log(cut) });
    }
    // The last first: so what is left, if this is cut off, has no hole.
    let gone = parts.aside.iter().chain(parts.behind.iter().rev());
    plan.actions.extend(gone.clone().map(|seen| Action::Move { file: log(seen) }));
    plan.aside_bytes = gone.map(|seen| seen.length).sum();
    if let Some(cut) = parts.cut {
        plan.aside_bytes += cut.stop.as_ref().map_or(0, |stop| stop.bytes);
        plan.actions.push(Action::Cut { file: log(cut), bytes: cut.good.bytes });
    }
    plan.actions.extend(begin.map(|base| Action::Begin { base }));
    plan_indexes(survey, &parts, begin.is_some(), &mut plan);
    plan_epochs(survey, &parts, &mut plan);
    plan_notes(survey, &parts, &mut plan);
    if survey.is_unsettled && !plan.actions.is_empty() {
        plan.actions.insert(settle, Action::Settle);
    }
    match &survey.topic {
        Small::Says(_) => {}
        Small::Absent if survey.tp.is_none() || survey.segments.is_empty() => {}
        Small::Absent | Small::Damaged => plan.left.push(
            "partition.metadata cannot be made again here: it has the topic's id, which is in the cluster's metadata; take the file from a backup, \
             or copy that of another partition of the same topic"
                .to_owned(),
        ),
    }
    let records = all().filter(|finding| finding.kind == Kind::Record);
    plan.left.extend(
        records
            .map(|finding| format!("{}, byte {}: {}: the batch stays as it is", finding.path.display(), finding.position, finding.reason)),
    );
    plan
}

/// What stays: from the first segment on, as long as they follow one another.
fn split<'a>(survey: &'a Survey, cut_all: bool, left: &mut Vec<String>) -> Parts<'a> {
    let mut parts = Parts::default();
    let mut is_broken = false;
    for (place, seen) in survey.segments.iter().enumerate() {
        if is_broken || parts.end.is_some_and(|end| seen.base > end) {
            is_broken = true;
            parts.behind.push(seen);
            continue;
        }
        if parts.end.is_some_and(|end| seen.base < end) {
            // What it should hold is there already.
            parts.aside.push(seen);
            continue;
        }
        parts.stay.push(seen);
        parts.end = Some(seen.good.end);
        let is_torn = survey.is_torn && place + 1 == survey.segments.len();
        if seen.stop.is_none() || is_torn {
            continue;
        }
        if seen.stop_is_read() || cut_all {
            (parts.cut, is_broken) = (Some(seen), true);
            continue;
        }
        parts.end = survey.segments.get(place + 1).map(|next| next.base);
        left.push(format!(
            "{}, byte {}: the node opens the log all the same, so nothing is cut: readers meet the damage and can go on behind it; --cut cuts the log there",
            seen.path.display(),
            seen.good.bytes
        ));
    }
    parts
}

/// Where an empty segment is to begin: nothing that is kept is there any more, or the last one has been compacted, which the one that is written never is.
fn begin<'a>(survey: &'a Survey, parts: &mut Parts<'a>) -> Option<Offset> {
    let ends_early = parts.end.is_some_and(|end| end < survey.start);
    let is_empty = survey.segments.is_empty() && survey.synced() > Offset::ZERO;
    if !ends_early && !is_empty {
        return parts.stay.last().filter(|last| last.has_gaps).and(parts.end);
    }
    parts.cut = None;
    parts.behind.splice(0..0, parts.stay.drain(..));
    Some(survey.start)
}

fn lost(survey: &Survey, parts: &Parts<'_>, end: Option<Offset>) -> Option<Lost> {
    let first = end?.max(survey.start);
    let known = parts.behind.iter().chain(&parts.cut).flat_map(|seen| [Some(seen.good.end), seen.behind]);
    let missing = first_is_missing(survey).then(|| survey.segments.first().map(|first| first.base)).flatten();
    if let Some(begins) = missing.filter(|_| parts.behind.is_empty() && parts.cut.is_none()) {
        return begins.get().checked_sub(1).and_then(Offset::new).map(|last| Lost { first: survey.start, last: Some(last) });
    }
    let last = known.flatten().chain([survey.synced()]).chain(survey.readable).max().filter(|last| *last > first);
    let last = last.and_then(|last| Offset::new(last.get() - 1));
    (last.is_some() || parts.cut.is_some()).then_some(Lost { first, last })
}

fn first_is_missing(survey: &Survey) -> bool {
    let Some(first) = survey.segments.first() else { return false };
    survey.known().iter().any(|known| known.base < first.base && known.end > survey.start)
}

fn plan_indexes(survey: &Survey, parts: &Parts<'_>, begins: bool, plan: &mut Plan) {
    for (place, seen) in parts.stay.iter().enumerate() {
        let is_last = place + 1 == parts.stay.len();
        let is_cut = parts.cut.is_some_and(|cut| cut.base == seen.base);
        let known = survey.known().iter().find(|known| known.base == seen.base);
        let is_damaged = seen.stop.is_some() && !is_cut && !(is_last && survey.is_torn);
        match known {
            Some(known) if !is_cut && (is_damaged || seen.is_vouched_for()) => plan.vouched.push(*known),
            None if is_damaged => {}
            None if is_last && !is_cut && seen.indexes == Indexes::Absent => {}
            _ => {
                let path = survey.directory.join(file_name(seen.base, "log"));
                plan.indexes.push(Remade { base: seen.base, path, bytes: seen.good.bytes, end: seen.good.end });
            }
        }
    }
    let is_kept = |known: &Vouched| plan.vouched.contains(known);
    let is_lost = survey.vouched == Small::Damaged || survey.vouched == Small::Absent && parts.stay.len() > 1;
    if begins || is_lost || !plan.indexes.is_empty() || !survey.known().iter().all(is_kept) {
        plan.actions.push(Action::Index { segments: plan.indexes.iter().map(|remade| remade.base).collect() });
    }
}

fn plan_epochs(survey: &Survey, parts: &Parts<'_>, plan: &mut Plan) {
    let is_wrong = |finding: &Finding| finding.kind == Kind::LeaderEpoch;
    let is_lost = survey.epochs.says().is_none() && survey.summary.notes.iter().any(is_wrong);
    let is_made_again = !parts.stay.is_empty() && (is_lost || survey.summary.findings.iter().any(is_wrong));
    let is_noted = |written: &Epochs| match &survey.epochs {
        // A leader is noted before it writes anything: one that is not is a batch's mistake.
        Small::Says(noted) => written.entries().iter().all(|(epoch, _)| noted.entries().iter().any(|(noted, _)| noted == epoch)),
        Small::Absent | Small::Damaged => true,
    };
    let known = if is_made_again { survey.epochs_of_batches().filter(is_noted) } else { survey.epochs.says().cloned() };
    if is_made_again && known.is_none() {
        plan.left.push(format!("{} and the batches do not agree, and a batch is wrong; its records are whole, so it stays", epochs::FILE));
    }
    let Some(mut epochs) = known.filter(|_| is_made_again || !plan.actions.is_empty()) else { return };
    let first = parts.stay.first().map_or(Offset::ZERO, |first| first.base);
    let is_cut = plan.end.is_some_and(|end| epochs.cut_end(end)) | epochs.cut_start(survey.start.max(first));
    if is_made_again || is_cut {
        plan.epochs = Some(epochs);
        plan.actions.push(Action::Epochs);
    }
}

fn plan_notes(survey: &Survey, parts: &Parts<'_>, plan: &mut Plan) {
    if first_is_missing(survey)
        && let Some(first) = parts.stay.first().filter(|first| first.base > survey.start)
    {
        plan.actions.push(Action::RaiseStart { to: first.base });
    }
    if let Some(end) = plan.end {
        let has_gap = parts.stay.iter().any(|seen| seen.gap.is_some());
        match survey.first_dirty {
            Some(dirty) if dirty > end => plan.actions.push(Action::Compacted { to: end }),
            None if has_gap => plan.actions.push(Action::Compacted { to: survey.start }),
            _ => {}
        }
        if survey.readable.is_some_and(|readable| readable > end) {
            plan.actions.push(Action::LowerReadable { to: end });
        }
        if survey.recovery_point > end {
            plan.actions.push(Action::LowerSynced { to: end });
        }
    }
}
