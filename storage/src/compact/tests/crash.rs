//! Rounds that are cut off at any step of the disk.

use super::*;

/// Appends, syncs, compacts, and again; gives what was written, up to where it is synced.
fn play(io: &Arc<dyn Io>, model: &mut Model) -> Result<u64, (u64, Error)> {
    let mut synced = 0;
    let mut log = open(io).map_err(|error| (0, error))?;
    for turn in 0..3 {
        for n in 0..14_u8 {
            let records = [(n % 5, true), ((n + turn) % 3, n % 4 != 0)];
            log.append(&[model.batch(&records, Codec::ALL[usize::from(n % 5)])]).map_err(|error| (synced, error))?;
        }
        log.sync().map_err(|error| (synced, error))?;
        synced = log.log_end().get();
        let now = 10_000 + i64::from(turn) * 400;
        let outcome = run(&mut log, now, model.retention_ms, 1 << 20).map_err(|error| (synced, error))?;
        let Outcome::Done(report) = outcome else { panic!("nobody is in its way") };
        model.rounds.push((now, report.first_dirty.get()));
    }
    log.close().map_err(|error| (synced, error))?;
    Ok(synced)
}

/// Plays on a disk that is cut at `cut`; what `crash` leaves must open whole, and go on to be written and compacted.
fn cut_at(cut: u64, crash: Crash, retention_ms: i64) {
    let disk = Faulty::new();
    disk.set_plan(FaultPlan { cut_at: Some(cut), ..FaultPlan::default() });
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let mut model = Model { retention_ms, ..Model::default() };
    let acknowledged = play(&io, &mut model).unwrap_or_else(|(synced, _)| synced);
    // The round that was cut off may have gone as far as any.
    let seen = model.clone();
    model.rounds.push((10_000 + 400 * i64::try_from(model.rounds.len()).unwrap(), u64::MAX));

    let disk = disk.after_crash(crash);
    assert_eq!(offline_end(&disk).max(acknowledged), offline_end(&disk), "who looks into the files sees what the next start will");
    let io: Arc<dyn Io> = Arc::new(disk.clone());
    let mut log = open(&io).unwrap_or_else(|error| panic!("cut at {cut}, {crash:?}: {error}"));
    assert!(log.log_end().get() >= acknowledged, "cut at {cut}, {crash:?}: {} of {acknowledged}", log.log_end());
    // Tombstones go only in a round, and none can have been later than this.
    assert_whole(&log, &model, 10_900);
    assert_verified(io.as_ref());
    let names: Vec<_> = io.list(&directory()).unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(names.iter().all(|name| !name.ends_with("cleaned") && !name.ends_with("swap")), "{names:?}");

    model = seen;
    model.written.truncate(usize::try_from(log.log_end().get()).unwrap());
    for n in 0..8 {
        log.append(&[model.batch(&[(n, true), (3, true)], Codec::None)]).unwrap();
    }
    log.sync().unwrap();
    model.rounds.clear();
    model.rounds.push((0, u64::MAX));
    let Outcome::Done(report) = run(&mut log, 20_000, retention_ms, 1 << 20).unwrap() else { panic!() };
    assert_clean(&log, report.first_dirty);
    assert_whole(&log, &model, 20_000);
    drop(log);
    let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::LoseAll));
    let log = open(&io).unwrap();
    assert_eq!(log.log_end().get(), model.written.len() as u64);
    assert_whole(&log, &model, 20_000);
}

/// The end of the log as whoever looks into its files sees it; 0 without any.
fn offline_end(disk: &Faulty) -> u64 {
    let Ok(segments) = inspect::segments(disk, &directory()) else { return u64::MAX };
    let mut end = 0;
    for (_, path) in segments {
        let damage = inspect::dump(disk, &path, &mut |_, batch| {
            end = batch.header.last_offset().next().get();
            Ok(())
        });
        damage.unwrap();
    }
    end
}

/// A promise: wherever the plug is pulled in a round, at every write, sync, rename and removal, the next start finds the last value of every
/// key at its offset, no offset has changed, and the log goes on.
#[test]
fn a_crash_at_every_step_of_a_round_loses_nothing() {
    let whole = Faulty::new();
    let io: Arc<dyn Io> = Arc::new(whole.clone());
    let mut model = Model { retention_ms: 300, ..Model::default() };
    play(&io, &mut model).unwrap();
    assert!(model.rounds.len() == 3 && whole.steps() > 200, "{} steps", whole.steps());
    let crashes = [Crash::LoseAll, Crash::KeepAll, Crash::Kill].into_iter().chain((0..12).map(Crash::Random));
    for crash in crashes {
        for cut in 0..=whole.steps() {
            cut_at(cut, crash, 300);
        }
    }
}

/// A promise: an operation that fails once, at any step of a round, leaves a log that reads whole and takes records, and that the next start
/// finds whole.
#[test]
fn a_failure_at_every_step_of_a_round_loses_nothing() {
    for kind in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::Other] {
        let mut failed = 0;
        for step in 0..200 {
            let disk = Faulty::new();
            let io: Arc<dyn Io> = Arc::new(disk.clone());
            let mut model = Model { retention_ms: LONG, ..Model::default() };
            let mut log = filled(&io, &mut model, 12, 4);
            disk.set_plan(FaultPlan { fail_at: Some((disk.steps() + step, kind)), ..FaultPlan::default() });
            failed += u64::from(run(&mut log, 10_000, LONG, 1 << 20).is_err());
            disk.set_plan(FaultPlan::default());
            assert_whole(&log, &model, 10_000);
            log.append(&[model.batch(&[(1, true), (2, true)], Codec::None)]).unwrap();
            log.sync().unwrap();
            assert_whole(&log, &model, 10_000);
            drop(log);
            for crash in [Crash::LoseAll, Crash::KeepAll, Crash::Kill, Crash::Random(step)] {
                let io: Arc<dyn Io> = Arc::new(disk.after_crash(crash));
                let log = open(&io).unwrap();
                assert_eq!(log.log_end().get(), model.written.len() as u64, "step {step}, {crash:?}");
                assert_whole(&log, &model, 10_000);
                assert_verified(io.as_ref());
            }
        }
        assert!(failed > 20, "{failed}");
    }
}
