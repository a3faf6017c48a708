//! Trims, retention and the plug: what the next start finds.

use super::*;

/// What happens to a log that is trimmed now and then.
#[derive(Debug, Clone, Copy)]
enum Act {
    Write(Step),
    /// Gives up so many thousandths of what there is; the files are removed at once, or left to the next start.
    Trim {
        thousandths: u64,
        remove: bool,
    },
    /// A look of retention, at the time that is the log's end: records are as old as there are records behind them.
    Expire {
        ms: Option<i64>,
        bytes: Option<u64>,
        remove: bool,
    },
}

/// What a history has come to.
#[derive(Debug)]
struct Came {
    /// Below it everything was acknowledged as written.
    end: Offset,
    /// Nothing was written beyond it.
    tried_end: Offset,
    /// Below it everything was acknowledged as given up.
    start: Offset,
    /// The trim that was under way last.
    tried_start: Offset,
}

fn play_trims(io: &Arc<dyn Io>, history: &[Act]) -> Came {
    let mut came = Came { end: Offset::ZERO, tried_end: Offset::ZERO, start: Offset::ZERO, tried_start: Offset::ZERO };
    let Ok((mut log, _)) = open(io) else { return came };
    for act in history {
        let done = match *act {
            Act::Write(Step::Append { batches, records, padding }) => {
                let base = log.log_end();
                let group: Vec<_> = (0..batches).map(|i| batch(base.checked_add(i * records).unwrap(), records, padding)).collect();
                came.tried_end = base.checked_add(batches * records).unwrap();
                log.append(&group)
            }
            Act::Write(Step::Sync) => log.sync(),
            Act::Trim { thousandths, remove } => {
                let to = offset(log.log_end().get() * thousandths / 1000);
                came.tried_start = to.max(came.start);
                log.trim_to(to).and_then(|trimmed| {
                    came.start = came.tried_start;
                    assert_eq!(log.log_start(), came.start);
                    if remove { trimmed.remove() } else { Ok(()) }
                })
            }
            Act::Expire { ms, bytes, remove } => {
                let (policy, now) = (RetentionPolicy { ms, bytes }, Timestamp::from_millis(i64::try_from(log.log_end().get()).unwrap()));
                let expired = log.shared.expired(log.log_end(), log.log_end(), &policy, now);
                came.tried_start = expired.map_or(came.start, |expired| expired.start);
                log.expire(log.log_end(), &policy, now).and_then(|done| {
                    came.start = came.tried_start;
                    assert_eq!((log.log_start(), done.as_ref().map(|(expired, _)| *expired)), (came.start, expired));
                    match done {
                        Some((_, trimmed)) if remove => trimmed.remove(),
                        _ => Ok(()),
                    }
                })
            }
        };
        if done.is_err() {
            break;
        }
    }
    came.end = log.synced_end();
    came
}

/// What the next start must find: one of the two starts, never before what was acknowledged, and all that is from there on; on the disk
/// nothing that lies wholly before it.
fn assert_found(io: &Arc<dyn Io>, log: &PartitionLog, came: &Came, why: &str) {
    let (start, end) = (log.log_start(), log.log_end());
    assert!(start == came.start || start == came.tried_start, "{why}: starts at {start}, not as in {came:?}");
    assert!(end >= came.end && end <= came.tried_end && start <= end, "{why}: ends at {end}, not as in {came:?}");
    assert_kept(log);
    let first = first_segment(log);
    assert!(first <= start.get() && bases_on_disk(io.as_ref()).iter().all(|base| *base >= first), "{why}: leftovers");
    assert!(log.shared.segments.load().get(1).is_none_or(|second| second.base > start), "{why}: a whole segment lies before {start}");
}

/// Plays a history on a disk that is cut at `cut`, starts again from what `crash` leaves, goes on, and starts a third time.
fn trim_crash_at(history: &[Act], cut: u64, crash: Crash) {
    let why = format!("cut at {cut}, {crash:?}");
    let disk = Faulty::new();
    disk.set_plan(FaultPlan { cut_at: Some(cut), ..FaultPlan::default() });
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let came = play_trims(&io, history);
    let disk = disk.after_crash(crash);
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let (mut log, report) = open(&io).unwrap_or_else(|error| panic!("{why}: {error}"));
    assert_eq!((report.log_start, report.log_end), (log.log_start(), log.log_end()));
    assert_found(&io, &log, &came, &why);
    let (shown, next) = (log.log_start(), log.log_end());
    log.append(&[batch(next, 2, 10)]).unwrap();
    log.sync().unwrap();
    drop(log);
    let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::LoseAll));
    let (log, report) = open(&io).unwrap_or_else(|error| panic!("{why}, then all lost: {error}"));
    assert_eq!((log.log_start(), log.log_end(), report.cut_bytes), (shown, next.checked_add(2).unwrap(), 0), "{why}: what was shown stays");
    assert_kept(&log);
}

/// Groups, syncs, rolls, and trims of every kind: within a batch, at a segment's edge, of unsynced records, of everything, twice the same.
fn scripted_trims() -> Vec<Act> {
    let append = |batches, records, padding| Act::Write(Step::Append { batches, records, padding });
    let (sync, trim) = (Act::Write(Step::Sync), |thousandths, remove| Act::Trim { thousandths, remove });
    vec![
        append(1, 3, 50),
        append(2, 2, 100),
        sync,
        trim(200, true),
        append(3, 2, 100),
        append(2, 2, 119),
        trim(600, true),
        append(1, 4, 90),
        sync,
        trim(700, false),
        append(2, 3, 80),
        trim(1000, true),
        trim(1000, true),
        append(2, 2, 100),
        sync,
        trim(950, true),
    ]
}

/// A promise: wherever the plug is pulled, at every write, sync, rename and removal, the next start begins where the last acknowledged trim
/// said or where the one under way did, and holds every acknowledged record from there on.
#[test]
fn a_crash_at_every_step_of_a_trim_leaves_the_old_start_or_the_new_one() {
    let whole = Faulty::new();
    let io: Arc<dyn Io> = Arc::new(whole.clone());
    let came = play_trims(&io, &scripted_trims());
    assert_eq!((came.start, came.end), (offset(29), offset(31)));
    let crashes = [Crash::LoseAll, Crash::KeepAll, Crash::Kill].into_iter().chain((0..20).map(Crash::Random));
    for crash in crashes {
        for cut in 0..=whole.steps() {
            trim_crash_at(&scripted_trims(), cut, crash);
        }
    }
}

/// By size, by age, of everything (then the log rolls first), of unsynced records, and trims in between; of some the files wait for the next start.
fn scripted_retention() -> Vec<Act> {
    let append = |batches, records, padding| Act::Write(Step::Append { batches, records, padding });
    let sync = Act::Write(Step::Sync);
    let expire = |ms, bytes, remove| Act::Expire { ms, bytes, remove };
    vec![
        append(1, 3, 50),
        append(3, 2, 100),
        append(2, 2, 119),
        sync,
        expire(None, Some(900), true),
        append(2, 4, 90),
        expire(Some(9), None, false),
        append(3, 2, 100),
        expire(Some(0), None, true),
        append(2, 2, 119),
        Act::Trim { thousandths: 1000, remove: false },
        append(2, 2, 119),
        sync,
        expire(None, None, true),
        append(1, 2, 10),
        expire(Some(0), Some(0), true),
        append(1, 1, 10),
        sync,
    ]
}

/// A promise: the same for retention, which may roll the log before: a run that is cut anywhere has given up what it would have, or nothing.
#[test]
fn a_crash_at_every_step_of_retention_leaves_the_old_start_or_the_new_one() {
    let whole = Faulty::new();
    let io: Arc<dyn Io> = Arc::new(whole.clone());
    let came = play_trims(&io, &scripted_retention());
    assert_eq!((came.start.get() + 1, came.end), (came.end.get(), came.tried_end));
    let crashes = [Crash::LoseAll, Crash::KeepAll, Crash::Kill].into_iter().chain((0..20).map(Crash::Random));
    for crash in crashes {
        for cut in 0..=whole.steps() {
            trim_crash_at(&scripted_retention(), cut, crash);
        }
    }
}
