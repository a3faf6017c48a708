//! Plans, as a pure function of what was seen.

use super::super::repair::plan;
use super::super::survey::{Small, Survey};
use super::super::walk::{Good, Indexes, Seen};
use super::*;
use crate::recovery::Damage;
use crate::vouched::{IndexSums, Vouched};

/// A segment of one byte a record, vouched for or not.
fn segment(base: u64, end: u64) -> Seen {
    Seen {
        base: at(base),
        path: log_file(base),
        length: end - base,
        good: Good { bytes: end - base, end: at(end), batches: 0, records: 0, max_timestamp: i64::MIN, latest: None },
        stop: None,
        behind: None,
        gap: None,
        has_gaps: false,
        indexes: Indexes::Good,
        is_as_vouched: Some(true),
        sums_match: true,
        believed: u64::MAX,
        epochs: Some(vec![]),
        findings: vec![],
    }
}

/// Damaged behind its good part, with so many bytes; a start reads it.
fn damaged(base: u64, good_end: u64, bytes: u64) -> Seen {
    let stop = Some(Damage { bytes, reason: "rot".to_owned() });
    Seen { stop, length: good_end - base + bytes, believed: 0, is_as_vouched: None, ..segment(base, good_end) }
}

fn vouched(base: u64, end: u64) -> Vouched {
    Vouched { base: at(base), end: at(end), bytes: end - base, max_timestamp: i64::MIN, sums: IndexSums { index: 0, times: 0 } }
}

fn survey(segments: Vec<Seen>) -> Survey {
    let known = segments.iter().filter(|seen| seen.is_as_vouched.is_some()).map(|seen| vouched(seen.base.get(), seen.good.end.get()));
    let found = Finding::damage(Kind::Batch, directory(), 0, "something");
    Survey {
        directory: directory(),
        tp: Some(tp(0)),
        start: Offset::ZERO,
        recovery_point: Offset::ZERO,
        first_dirty: None,
        readable: None,
        vouched: Small::Says(known.collect()),
        epochs: Small::Absent,
        topic: Small::Says(TopicId::new(Uuid::nil())),
        segments,
        is_torn: false,
        is_unsettled: false,
        bad_swaps: vec![],
        damaged_producers: vec![],
        summary: Summary { findings: vec![found], ..Summary::default() },
    }
}

fn words(plan: &Plan) -> String {
    let word = |action: &Action| match action {
        Action::Copy { file } | Action::Move { file } => {
            let base = crate::segment::parse_file_name(file.file_name().unwrap().to_str().unwrap()).unwrap();
            format!("{} {base}", if matches!(action, Action::Copy { .. }) { "copy" } else { "move" })
        }
        Action::Cut { bytes, .. } => format!("cut {bytes}"),
        Action::Begin { base } => format!("begin {base}"),
        Action::Index { segments } => format!("index {}", segments.len()),
        Action::RaiseStart { to } => format!("start {to}"),
        Action::Compacted { to } => format!("clean {to}"),
        Action::LowerSynced { to } => format!("synced {to}"),
        Action::LowerReadable { to } => format!("readable {to}"),
        Action::Settle | Action::Epochs | Action::Rewrite { .. } => action.name().to_owned(),
    };
    plan.actions.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// A promise: the damage and what lies behind it goes aside, whole, before anything is cut, the notes come last; what fits is not touched; and what is lost is said.
#[test]
fn plans() {
    type Change = fn(&mut Survey);
    type Case = (&'static str, Vec<Seen>, Change, bool, &'static str, Option<(u64, Option<u64>)>);
    let nothing: Change = |_| {};
    let synced: Change = |survey| survey.recovery_point = at(40);
    let cases: Vec<Case> = vec![
        ("whole", vec![segment(0, 10), segment(10, 20)], nothing, true, "", None),
        (
            "rot in the middle",
            vec![segment(0, 10), damaged(10, 13, 7), segment(20, 30), segment(30, 40)],
            synced,
            false,
            "copy 10, move 30, move 20, cut 3, index 1, synced 13",
            Some((13, Some(39))),
        ),
        ("rot at the front", vec![damaged(0, 0, 7), segment(7, 9)], nothing, false, "copy 0, move 7, cut 0, index 1", Some((0, Some(8)))),
        ("nobody knows how much", vec![segment(0, 10), damaged(10, 13, 7)], nothing, false, "copy 10, cut 3, index 1", Some((13, None))),
        (
            "good batches behind it",
            vec![Seen { behind: Some(at(30)), ..damaged(0, 13, 7) }],
            nothing,
            false,
            "copy 0, cut 13, index 1",
            Some((13, Some(29))),
        ),
        (
            "rot that the node does not read",
            vec![Seen { believed: u64::MAX, ..damaged(0, 5, 5) }, segment(10, 20)],
            nothing,
            false,
            "",
            None,
        ),
        (
            "the same, to be cut",
            vec![Seen { believed: u64::MAX, ..damaged(0, 5, 5) }, segment(10, 20)],
            nothing,
            true,
            "copy 0, move 10, cut 5, index 1",
            Some((5, Some(19))),
        ),
        (
            "a hole",
            vec![segment(0, 10), segment(20, 30), segment(30, 40)],
            synced,
            false,
            "move 30, move 20, index 0, synced 10",
            Some((10, Some(39))),
        ),
        ("twice, and whole without it", vec![segment(0, 10), segment(5, 15), segment(10, 20)], nothing, false, "move 5, index 0", None),
        (
            "twice, and a hole",
            vec![segment(0, 10), segment(5, 15), segment(15, 20)],
            nothing,
            false,
            "move 5, move 15, index 0",
            Some((10, Some(19))),
        ),
        (
            "the first is gone",
            vec![segment(10, 20)],
            |survey| survey.vouched = Small::Says(vec![vouched(0, 10), vouched(10, 20)]),
            false,
            "index 0, start 10",
            Some((0, Some(9))),
        ),
        (
            "all is gone",
            vec![],
            |survey| (survey.start, survey.recovery_point) = (at(5), at(9)),
            false,
            "begin 5, index 0, synced 5",
            Some((5, Some(8))),
        ),
        (
            "it ends before it begins",
            vec![segment(0, 10)],
            |survey| (survey.start, survey.recovery_point) = (at(12), at(20)),
            false,
            "move 0, begin 12, index 0, synced 12",
            Some((12, Some(19))),
        ),
        ("rot below the start", vec![damaged(0, 10, 5)], |survey| survey.start = at(12), false, "move 0, begin 12, index 0", None),
        (
            "shorter than its notes",
            vec![segment(0, 10)],
            |survey| (survey.recovery_point, survey.first_dirty, survey.readable) = (at(11), Some(at(11)), Some(at(12))),
            false,
            "clean 10, readable 10, synced 10",
            Some((10, Some(11))),
        ),
        (
            "compacted, and not noted",
            vec![Seen { gap: Some((0, String::new())), has_gaps: true, ..segment(0, 10) }, segment(10, 20)],
            nothing,
            false,
            "clean 0",
            None,
        ),
        (
            "an index is lost",
            vec![Seen { indexes: Indexes::Bad, sums_match: false, ..segment(0, 10) }, segment(10, 20)],
            nothing,
            false,
            "index 1",
            None,
        ),
        (
            "segment-checkpoint is lost",
            vec![Seen { is_as_vouched: None, ..segment(0, 10) }, Seen { is_as_vouched: None, indexes: Indexes::Absent, ..segment(10, 20) }],
            |survey| survey.vouched = Small::Damaged,
            false,
            "index 1",
            None,
        ),
        (
            "a compaction was cut off, too",
            vec![segment(0, 10), segment(20, 30)],
            |survey| survey.is_unsettled = true,
            false,
            "settle-compaction, move 20, index 0",
            Some((10, Some(29))),
        ),
        (
            "a torn tail is the start's",
            vec![damaged(0, 5, 9)],
            |survey| {
                survey.is_torn = true;
                survey.summary = Summary { notes: vec![Finding::note(Kind::TornTail, directory(), 5, "torn")], ..Summary::default() };
            },
            true,
            "",
            None,
        ),
        (
            "a torn tail behind a lost index",
            vec![Seen { indexes: Indexes::Bad, ..segment(0, 10) }, damaged(10, 15, 9)],
            |survey| survey.is_torn = true,
            true,
            "index 2",
            None,
        ),
    ];
    for (what, segments, change, cut_all, expected, lost) in cases {
        let mut survey = survey(segments);
        change(&mut survey);
        let plan = plan(&survey, cut_all);
        assert_eq!(words(&plan), expected, "{what}");
        assert_eq!(plan.lost.map(|lost| (lost.first.get(), lost.last.map(Offset::get))), lost, "{what}");
        let copied = plan.actions.iter().position(|action| matches!(action, Action::Cut { .. }));
        let last_aside = plan.actions.iter().rposition(|action| matches!(action, Action::Copy { .. } | Action::Move { .. }));
        assert!(copied.is_none_or(|cut| last_aside.is_some_and(|aside| aside < cut)), "{what}: aside before it is cut");
    }
}

/// A promise: what cannot be made again is said, with what to do about it.
#[test]
fn what_cannot_be_repaired_is_said() {
    let mut lost = survey(vec![segment(0, 10)]);
    lost.topic = Small::Damaged;
    lost.summary.findings = vec![Finding::damage(Kind::PartitionMetadata, directory(), 0, "damaged")];
    let plan_of_lost = plan(&lost, true);
    assert!(plan_of_lost.actions.is_empty() && plan_of_lost.left[0].contains("backup"), "{plan_of_lost:?}");
    let mut wrong = survey(vec![segment(0, 10)]);
    wrong.summary.findings = vec![Finding::damage(Kind::Record, log_file(0), 7, "its key is cut short")];
    let plan = plan(&wrong, true);
    assert!(plan.actions.is_empty() && plan.left[0].contains("byte 7: its key is cut short"), "{plan:?}");
}
