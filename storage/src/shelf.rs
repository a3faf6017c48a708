//! The sealed segments that are open: a few of all those that a node has. A segment that nobody reads holds no file handle and no index in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::index::{IndexEntry, OffsetIndex};
use crate::io::File;
use crate::time_index::{TimeEntry, TimeIndex};

/// Sealed segments that are open at a time.
const SEGMENTS_MAX: usize = 256;
/// What their indexes may take in memory together, unless one alone takes more.
const INDEX_BYTES_MAX: usize = 64 << 20;

/// What reading a segment needs.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: Arc<dyn File>,
    pub(crate) index: OffsetIndex,
    pub(crate) times: TimeIndex,
}

impl Opened {
    fn index_bytes(&self) -> usize {
        // In memory a time entry takes 16.
        self.index.len() * IndexEntry::BYTES + self.times.len() * (TimeEntry::BYTES + 4)
    }
}

/// Which segment, of all that this process has ever had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place(u64);

/// Where open segments stand. Those that were used last stay.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    places: AtomicU64,
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    opened: HashMap<Place, (u64, Arc<Opened>)>,
    uses: u64,
    index_bytes: usize,
}

impl Shelf {
    /// A place for a segment; nothing stands there yet.
    pub(crate) fn place(&self) -> Place {
        Place(self.places.fetch_add(1, Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands at `place`, if it does.
    pub(crate) fn get(&self, place: Place) -> Option<Arc<Opened>> {
        let mut standing = self.lock();
        standing.uses += 1;
        let now = standing.uses;
        let (used, opened) = standing.opened.get_mut(&place)?;
        *used = now;
        Some(Arc::clone(opened))
    }

    /// Puts a segment at its place; others that were not used for longest may have to go.
    pub(crate) fn put(&self, place: Place, opened: Arc<Opened>) {
        let mut gone = Vec::new();
        let mut standing = self.lock();
        standing.uses += 1;
        let now = standing.uses;
        standing.index_bytes += opened.index_bytes();
        let before = standing.opened.insert(place, (now, opened));
        // Two readers may have opened it at the same time.
        standing.index_bytes -= before.as_ref().map_or(0, |(_, opened)| opened.index_bytes());
        gone.extend(before.map(|(_, opened)| opened));
        while standing.opened.len() > SEGMENTS_MAX || (standing.index_bytes > INDEX_BYTES_MAX && standing.opened.len() > 1) {
            let oldest = standing.opened.iter().min_by_key(|(_, (used, _))| *used).map(|(place, _)| *place);
            let Some((_, opened)) = oldest.and_then(|oldest| standing.opened.remove(&oldest)) else { break };
            standing.index_bytes -= opened.index_bytes();
            gone.push(opened);
        }
        drop(standing);
        // Closing files is not done under the lock.
        drop(gone);
    }

    /// Clears a place: the segment is gone for good.
    pub(crate) fn clear(&self, place: Place) {
        let mut standing = self.lock();
        let gone = standing.opened.remove(&place);
        standing.index_bytes -= gone.as_ref().map_or(0, |(_, opened)| opened.index_bytes());
        drop(standing);
        drop(gone);
    }

    /// How many segments stand here.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().opened.len()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::io::{Faulty, Io};

    fn opened(disk: &Faulty, entries: u32) -> Arc<Opened> {
        let file = disk.open(Path::new("/f")).unwrap();
        let index = OffsetIndex::default();
        (0..entries).for_each(|n| index.push(IndexEntry { relative: n, position: n }));
        Arc::new(Opened { file, index, times: TimeIndex::default() })
    }

    /// A promise: as many segments stand open as may, those that were used last; a cleared one is gone.
    #[test]
    fn the_last_used_stay() {
        let disk = Faulty::new();
        disk.create(Path::new("/f")).unwrap();
        let shelf = Shelf::default();
        let places: Vec<Place> = (0..SEGMENTS_MAX + 10).map(|_| shelf.place()).collect();
        shelf.put(places[0], opened(&disk, 0));
        for place in &places[1..] {
            assert!(shelf.get(places[0]).is_some());
            shelf.put(*place, opened(&disk, 1));
        }
        assert_eq!(shelf.len(), SEGMENTS_MAX);
        assert!(shelf.get(places[1]).is_none() && shelf.get(places[SEGMENTS_MAX + 9]).is_some());
        shelf.put(places[0], opened(&disk, 7));
        shelf.clear(places[0]);
        assert!(shelf.get(places[0]).is_none());
        assert_eq!((shelf.len(), shelf.lock().index_bytes), (SEGMENTS_MAX - 1, (SEGMENTS_MAX - 1) * 8));
    }

    /// A promise: indexes take no more memory together than their bound, unless one alone does.
    #[test]
    fn indexes_are_bounded() {
        let disk = Faulty::new();
        disk.create(Path::new("/f")).unwrap();
        let shelf = Shelf::default();
        let entries = u32::try_from(INDEX_BYTES_MAX / 8 / 3).unwrap();
        for _ in 0..5 {
            shelf.put(shelf.place(), opened(&disk, entries));
        }
        assert_eq!(shelf.len(), 3);
        let alone = shelf.place();
        shelf.put(alone, opened(&disk, entries * 4));
        assert!(shelf.get(alone).is_some() && shelf.len() == 1);
    }
}
