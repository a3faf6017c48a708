//! Beside a running node: what changes while it is read is not taken for damage.

use std::sync::Mutex;

use super::*;
use crate::io::{DirEntry, DiskRoom, File, Io, Lock};

type Happens = Box<dyn FnOnce(&Faulty) + Send>;

/// A disk on which something happens when a file is opened.
struct Busy {
    disk: Faulty,
    at: PathBuf,
    happens: Mutex<Option<Happens>>,
}

impl std::fmt::Debug for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl Io for Busy {
    fn open(&self, path: &Path) -> std::io::Result<Arc<dyn File>> {
        if path == self.at
            && let Some(happens) = self.happens.lock().unwrap().take()
        {
            happens(&self.disk);
        }
        self.disk.open(path)
    }
    fn create_dir_all(&self, path: &Path) -> std::io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> std::io::Result<Vec<DirEntry>> {
        self.disk.list(path)
    }
    fn sync_dir(&self, path: &Path) -> std::io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn create(&self, path: &Path) -> std::io::Result<Arc<dyn File>> {
        self.disk.create(path)
    }
    fn length(&self, path: &Path) -> std::io::Result<u64> {
        self.disk.length(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> std::io::Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> std::io::Result<()> {
        self.disk.remove_dir_all(path)
    }
    fn room(&self, path: &Path) -> std::io::Result<DiskRoom> {
        self.disk.room(path)
    }
    fn boot_id(&self) -> Option<String> {
        self.disk.boot_id()
    }
    fn lock(&self, path: &Path) -> std::io::Result<Box<dyn Lock>> {
        self.disk.lock(path)
    }
}

/// A promise: a segment that a trim or a roll touches between the list and the reading is no damage; nor is a whole partition that goes.
#[test]
fn what_goes_while_it_is_read_is_no_damage() {
    let cases: [(u64, Happens, u64); 3] = [
        (
            10,
            Box::new(|disk| {
                let (mut log, _) = open(disk).unwrap();
                log.trim_to(at(21)).unwrap().remove().unwrap();
            }),
            13,
        ),
        (
            30,
            Box::new(|disk| {
                let (mut log, _) = open(disk).unwrap();
                append(&mut log, 8, 2);
            }),
            47,
        ),
        (0, Box::new(|disk| disk.remove_dir_all(&directory()).unwrap()), 0),
    ];
    for (base, happens, records) in cases {
        let busy = Busy { disk: stopped(), at: log_file(base), happens: Mutex::new(Some(happens)) };
        let report = verify_all(&busy, Path::new(ROOT), &mut |looks| looks < 3).unwrap();
        let said: Vec<_> = report.partitions.iter().flat_map(|p| p.summary.findings.iter().chain(&p.summary.notes)).collect();
        assert_eq!(said, Vec::<&Finding>::new(), "at {base}");
        assert!(busy.happens.lock().unwrap().is_none());
        let seen: u64 = report.partitions.iter().map(|p| p.summary.records).sum();
        assert_eq!(seen, records, "at {base}");
    }
}

/// A promise: a batch that is whole at the second look is no damage; what three looks have seen is, and is told as the last has seen it.
#[test]
fn a_batch_that_is_being_written_is_no_damage() {
    let disk = stopped();
    let file = disk.open(&log_file(30)).unwrap();
    let (end, batch) = (file.len().unwrap(), batch(at(34), 2).parts().concat());
    file.write_all_at(&[&batch[..70]], end).unwrap();
    let mut looks = Vec::new();
    let report = verify_all(&disk, Path::new(ROOT), &mut |look| {
        looks.push(look);
        file.write_all_at(&[&batch], end).unwrap();
        true
    });
    let report = report.unwrap();
    assert_eq!((looks, &report.partitions[0].summary.findings, &report.partitions[0].summary.notes), (vec![1], &vec![], &vec![]));
    disk.flip_bit(&log_file(30), 80, 1).unwrap();
    let mut looks = 0;
    let report = verify_all(&disk, Path::new(ROOT), &mut |look| {
        looks = look;
        look < 3
    });
    assert_eq!((looks, report.unwrap().partitions[0].summary.findings.len()), (3, 1));
}
