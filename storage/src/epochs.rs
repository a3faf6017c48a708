//! Which leader wrote what: the first offset of each leader epoch, in Kafka's `leader-epoch-checkpoint` in a partition's directory.
//!
//! ```text
//! 0            version
//! 2            entries
//! 0 0          epoch, its first offset; both rise, offsets at least do not fall
//! 3 52044
//! ```
//!
//! An epoch is noted before its leader writes anything, so that one which wrote nothing is known too. If the file is lost all the same, the
//! batches say who wrote them.

use std::path::Path;

use tidegate_types::{BatchHeader, LeaderEpoch, Offset};

use crate::Error;
use crate::error::is_unreadable;
use crate::io::{Io, read_small, write_atomically};

/// The file's name.
pub(crate) const FILE: &str = "leader-epoch-checkpoint";

/// The epochs of one log, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Epochs(Vec<(LeaderEpoch, Offset)>);

impl Epochs {
    /// Reads the file; `None` if it cannot be read. Without one nothing is known of epochs so far.
    ///
    /// # Errors
    /// [`Error::Io`] if the system said no for another reason.
    pub(crate) fn read(io: &dyn Io, directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join(FILE);
        let parsed = match read_small(io, &path) {
            Ok(None) => return Ok(Some(Self::default())),
            Err(error) if !is_unreadable(&error) => return Err(Error::io("read", &path)(error)),
            bytes => bytes.ok().flatten().and_then(|bytes| Self::parse(&bytes)),
        };
        if parsed.is_none() {
            tracing::warn!(path = %path.display(), "it cannot be read, or is damaged; the log is asked who has led it");
        }
        Ok(parsed)
    }

    /// Takes note of who has written a batch, of batches in order.
    pub(crate) fn note(&mut self, header: &BatchHeader) {
        if self.latest().is_none_or(|latest| latest.get() < header.leader_epoch) {
            self.0.push((LeaderEpoch::new(header.leader_epoch), header.first_offset()));
        }
    }

    /// Replaces the file.
    pub(crate) fn write(&self, io: &dyn Io, directory: &Path) -> Result<(), Error> {
        let path = directory.join(FILE);
        write_atomically(io, &path, self.to_text().as_bytes()).map_err(Error::io("write", &path))
    }

    fn to_text(&self) -> String {
        let lines: String = self.0.iter().map(|(epoch, start)| format!("{epoch} {start}\n")).collect();
        format!("0\n{}\n{lines}", self.0.len())
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(bytes).ok()?.lines();
        if lines.next()? != "0" {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        let parse_line = |line: &str| {
            let (epoch, start) = line.split_once(' ')?;
            Some((LeaderEpoch::new(epoch.parse().ok()?), Offset::new(start.parse().ok()?)?))
        };
        let entries = lines.map(parse_line).collect::<Option<Vec<_>>>()?;
        Self::of(entries).filter(|epochs| epochs.0.len() == count)
    }

    /// These epochs, if they rise.
    pub(crate) fn of(entries: Vec<(LeaderEpoch, Offset)>) -> Option<Self> {
        let rises = entries.windows(2).all(|pair| pair[0].0.get() < pair[1].0.get() && pair[0].1 <= pair[1].1);
        rises.then_some(Self(entries))
    }

    /// Each epoch with its first offset, in order.
    pub(crate) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.0
    }

    /// The epoch of the leader that wrote `offset`, as far as is known.
    pub(crate) fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let begun = self.0.partition_point(|(_, begun)| *begun <= offset);
        begun.checked_sub(1).map(|last| self.0[last].0)
    }

    /// The last epoch that is noted.
    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.0.last().map(|(epoch, _)| *epoch)
    }

    /// Notes that `epoch` begins at `start`; what was said of it, of later ones, and of offsets from there on goes. Says whether anything has changed.
    pub(crate) fn begin(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if self.latest() == Some(epoch) {
            return false;
        }
        // An epoch without a record that began at the same place is kept: its followers may ask for it.
        self.0.retain(|(known, begun)| known.get() < epoch.get() && *begun <= start);
        self.0.push((epoch, start));
        true
    }

    /// Forgets what lies below `start`: the epoch that holds it begins there now. Says whether anything has changed.
    pub(crate) fn cut_start(&mut self, start: Offset) -> bool {
        let holding = self.0.iter().rposition(|(_, begun)| *begun <= start);
        let Some(holding) = holding.filter(|holding| *holding > 0 || self.0[0].1 < start) else { return false };
        self.0.drain(..holding);
        if let Some((_, begun)) = self.0.first_mut() {
            *begun = start;
        }
        true
    }

    /// Forgets epochs that began behind `end`, where the log ends now. Says whether anything has changed.
    pub(crate) fn cut_end(&mut self, end: Offset) -> bool {
        let before = self.0.len();
        self.0.retain(|(_, begun)| *begun <= end);
        self.0.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Faulty;

    fn offset(n: u64) -> Offset {
        Offset::new(n).unwrap()
    }

    fn epochs(entries: &[(i32, u64)]) -> Epochs {
        Epochs(entries.iter().map(|(epoch, start)| (LeaderEpoch::new(*epoch), offset(*start))).collect())
    }

    /// A promise: epochs come back, in Kafka's text, and a damaged file is none.
    #[test]
    fn epochs_come_back() {
        let disk = Faulty::new();
        let directory = Path::new("/t-0");
        disk.create_dir_all(directory).unwrap();
        assert_eq!(Epochs::read(&disk, directory).unwrap(), Some(epochs(&[])));
        let known = epochs(&[(0, 0), (3, 52_044), (4, 52_044)]);
        assert_eq!(known.to_text(), "0\n3\n0 0\n3 52044\n4 52044\n");
        known.write(&disk, directory).unwrap();
        assert_eq!(Epochs::read(&disk, directory).unwrap(), Some(known));
        for bad in ["", "1\n0\n", "0\n2\n0 0\n", "0\n1\n0 -1\n", "0\n2\n1 0\n1 5\n", "0\n2\n1 5\n2 4\n", "0\n1\nx 1\n"] {
            assert_eq!(Epochs::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    /// A promise: a new leader is noted where it begins, also if the one before wrote nothing; an old one again takes back what came after.
    #[test]
    fn leaders_follow_one_another() {
        let mut known = epochs(&[]);
        assert!(known.begin(LeaderEpoch::new(0), offset(0)));
        assert!(!known.begin(LeaderEpoch::new(0), offset(7)), "it has begun already");
        assert!(known.begin(LeaderEpoch::new(2), offset(10)) && known.begin(LeaderEpoch::new(3), offset(10)));
        assert_eq!(known, epochs(&[(0, 0), (2, 10), (3, 10)]));
        assert!(known.begin(LeaderEpoch::new(1), offset(10)));
        assert_eq!(known, epochs(&[(0, 0), (1, 10)]));
        assert!(known.begin(LeaderEpoch::new(5), offset(4)), "the log was cut below where epoch 1 began");
        assert_eq!(known, epochs(&[(0, 0), (5, 4)]));
    }

    /// A promise: a log that is cut at its start keeps the leader of its first record, one that is cut at its end forgets later leaders.
    #[test]
    fn cuts_keep_who_wrote_what_is_left() {
        let whole = [(0, 0), (1, 10), (2, 10), (4, 20)];
        for (start, left, changed) in [
            (0, &whole[..], false),
            (5, &[(0, 5), (1, 10), (2, 10), (4, 20)], true),
            (10, &[(2, 10), (4, 20)], true),
            (15, &[(2, 15), (4, 20)], true),
            (30, &[(4, 30)], true),
        ] {
            let mut known = epochs(&whole);
            assert_eq!((known.cut_start(offset(start)), &known), (changed, &epochs(left)), "from {start}");
        }
        for (end, left) in [(30, &whole[..]), (20, &whole[..]), (19, &whole[..3]), (10, &whole[..3]), (9, &whole[..1])] {
            let mut known = epochs(&whole);
            assert_eq!((known.cut_end(offset(end)), &known), (left.len() < 4, &epochs(left)), "to {end}");
        }
        assert!(!epochs(&[]).cut_start(offset(3)));
    }
}
