//! Retention on a log: what is given up is gone as after a trim, and the log goes on. What goes is decided by a table of its own.

use super::*;

fn now(log: &PartitionLog) -> Timestamp {
    // A record's timestamp is its offset.
    Timestamp::from_millis(i64::try_from(log.log_end().get()).unwrap())
}

fn expire(log: &mut PartitionLog, policy: RetentionPolicy) -> Option<Expired> {
    let (end, now) = (log.log_end(), now(log));
    let (expired, trimmed) = log.expire(end, &policy, now).unwrap()?;
    trimmed.remove().unwrap();
    Some(expired)
}

fn names(disk: &Faulty) -> Vec<String> {
    let entries = disk.list(&Path::new(ROOT).join("t-0")).unwrap();
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(".log")).collect();
    names.sort();
    names
}

/// A promise: what is too old is gone, files too, and if that is all of it the log goes on in an empty segment, at the offset it had come to;
/// another start finds the same.
#[test]
fn a_log_that_is_too_old_goes_on_empty() {
    let disk = Faulty::new();
    let mut log = filled(&disk, 10);
    let (reader, end) = (log.reader(), log.log_end());
    assert!(!reader.has_expired(end, end, &RetentionPolicy { ms: Some(20), bytes: None }, now(&log)));
    let expired = expire(&mut log, RetentionPolicy { ms: Some(10), bytes: None }).unwrap();
    // Two records a batch, three batches a segment: 6 is newer than 20 - 15, and 5 is not newer than 20 - 11.
    assert_eq!((expired.segments(), expired.start.get(), log.log_start().get()), (1, 6, 6));
    assert_eq!((names(&disk)[0].as_str(), names(&disk).len()), ("00000000000000000006.log", 3));
    let all = RetentionPolicy { ms: Some(0), bytes: None };
    assert!(reader.has_expired(end, end, &all, now(&log)));
    let bytes = reader.size_bytes();
    let expired = expire(&mut log, all).unwrap();
    assert_eq!((expired.segments(), expired.bytes, expired.by_age), (3, bytes, 3));
    assert_eq!((log.log_start(), log.log_end(), reader.size_bytes()), (end, end, 0));
    assert_eq!(names(&disk), ["00000000000000000020.log"]);
    assert!(matches!(reader.read(Offset::new(19).unwrap(), end, 100, ReadMode::Blocking).unwrap(), ReadOutcome::Trimmed));
    let steps = disk.steps();
    assert!(expire(&mut log, all).is_none());
    assert_eq!(disk.steps(), steps, "nothing to give up is nothing to do");
    let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::LoseAll));
    let (mut log, _) = open(&io).unwrap();
    assert_eq!((log.log_start(), log.log_end()), (end, end));
    log.append(&[batch(end, 2, 50)]).unwrap();
    log.sync().unwrap();
    assert_eq!(read_all(&log, log.log_end(), 300), [(20, 20), (21, 21)]);
}

/// A promise: the files of a segment that was trimmed while it was active go as soon as it is not, whatever the rules.
#[test]
fn what_was_trimmed_is_removed_when_it_can_be() {
    let disk = Faulty::new();
    // Three batches fill a segment.
    let mut log = filled(&disk, 3);
    assert!(log.trim_to(log.log_end()).unwrap().is_empty(), "it is active");
    assert!(expire(&mut log, RetentionPolicy::default()).is_none());
    log.append(&[batch(log.log_end(), 2, 50)]).unwrap();
    assert_eq!(names(&disk).len(), 2);
    let expired = expire(&mut log, RetentionPolicy::default()).unwrap();
    assert_eq!((expired.segments(), expired.trimmed, log.log_start().get()), (1, 1, 6));
    assert_eq!(names(&disk), ["00000000000000000006.log"]);
    assert_eq!(read_all(&log, log.log_end(), 300), [(6, 6), (7, 7)]);
}

/// A promise: a log that is trimmed up to its end and too old gives its last file up as well.
#[test]
fn a_trimmed_log_that_is_too_old_gives_its_file_up() {
    let disk = Faulty::new();
    let mut log = filled(&disk, 2);
    let end = log.log_end();
    assert!(log.trim_to(end).unwrap().is_empty());
    let expired = expire(&mut log, RetentionPolicy { ms: Some(0), bytes: None }).unwrap();
    assert_eq!((expired.segments(), log.log_start(), log.reader().size_bytes()), (1, end, 0));
    assert_eq!(names(&disk), ["00000000000000000004.log"]);
}

/// A promise: a disk that is full at any step of it refuses, or has done it; the log goes on, and the next look does it.
#[test]
fn a_full_disk_refuses_and_the_next_look_does_it() {
    let all = RetentionPolicy { ms: Some(0), bytes: None };
    let mut refused = 0;
    for step in 0..40 {
        let disk = Faulty::new();
        let mut log = filled(&disk, 5);
        disk.set_plan(FaultPlan { fail_at: Some((disk.steps() + step, std::io::ErrorKind::StorageFull)), ..FaultPlan::default() });
        let (end, time) = (log.log_end(), now(&log));
        match log.expire(end, &all, time) {
            Ok(done) => drop(done),
            Err(error) => {
                assert_eq!((error.code(), log.log_start()), (ErrorCode::StorageFull, Offset::ZERO), "step {step}: {error}");
                assert_eq!(read_all(&log, end, 300).len(), 10);
                refused += 1;
            }
        }
        disk.set_plan(FaultPlan::default());
        expire(&mut log, all);
        assert_eq!((log.log_start(), log.reader().size_bytes()), (end, 0), "step {step}");
        log.append(&[batch(end, 1, 10)]).unwrap();
        log.sync().unwrap();
        let io: Arc<dyn Io> = Arc::new(disk.after_crash(Crash::LoseAll));
        assert_eq!(open(&io).unwrap().0.log_start(), end);
    }
    assert!(refused >= 5, "the new segment, and the note's file, bytes, sync and name: {refused}");
}
