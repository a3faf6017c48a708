//! The directories' entries: as running programs see them, and as they are on the platter.

use std::collections::{BTreeMap, BTreeSet};

use super::contents::Weather;
use super::random::SplitMix;

/// Entries by directory and name, so that a renamed directory takes along what is in it.
pub(super) type Entries = BTreeMap<Entry, Node>;
/// A directory's inode, and a name in it.
pub(super) type Entry = (u64, String);

/// The inode of `/`, which is always there.
pub(super) const ROOT: u64 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory(u64),
    File(u64),
}

/// What happened to an entry. A rename is one change: never half of it is there.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Put(Entry, Node),
    Remove(Entry),
    Rename(Entry, Entry, Node),
}

impl Change {
    fn directories(&self) -> [u64; 2] {
        match self {
            Self::Put(entry, _) | Self::Remove(entry) => [entry.0, entry.0],
            Self::Rename(from, to, _) => [from.0, to.0],
        }
    }

    fn apply(&self, entries: &mut Entries) {
        match self {
            Self::Put(entry, node) => {
                entries.insert(entry.clone(), *node);
            }
            Self::Remove(entry) => {
                entries.remove(entry);
            }
            Self::Rename(from, to, node) => {
                if entries.get(from) == Some(node) {
                    entries.remove(from);
                }
                entries.insert(to.clone(), *node);
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    pub(super) now: Entries,
    durable: Entries,
    /// What no sync of its directory has covered.
    pending: Vec<Change>,
}

impl Tree {
    pub(super) fn all_durable(entries: Entries) -> Self {
        Self { now: entries.clone(), durable: entries, pending: Vec::new() }
    }

    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    /// It may have happened: the plug was pulled in the middle of it.
    pub(super) fn may_change(&mut self, change: Change) {
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self, directory: u64) {
        let covered = |change: &mut Change| change.directories().contains(&directory);
        for change in self.pending.extract_if(.., covered) {
            change.apply(&mut self.durable);
        }
    }

    /// As it is in memory, with what was under way.
    pub(super) fn killed(self) -> Self {
        let mut now = self.durable.clone();
        self.pending.iter().for_each(|change| change.apply(&mut now));
        Self { now, ..self }
    }

    #[cfg(test)]
    fn durable(&self) -> &Entries {
        &self.durable
    }

    /// As it is on the platter.
    pub(super) fn synced(&self) -> Self {
        Self::all_durable(self.durable.clone())
    }

    /// The files that have a name, or may come to have one.
    pub(super) fn files(&self) -> BTreeSet<u64> {
        let pending = self.pending.iter().filter_map(|change| match change {
            Change::Put(_, node) | Change::Rename(_, _, node) => Some(node),
            Change::Remove(_) => None,
        });
        let nodes = self.now.values().chain(self.durable.values()).chain(pending);
        nodes.filter_map(|node| if let Node::File(inode) = node { Some(*inode) } else { None }).collect()
    }

    /// What the platter holds after a power cut.
    pub(super) fn after(&self, weather: Weather, random: &mut SplitMix) -> Entries {
        let mut entries = self.durable.clone();
        let mut ended = BTreeSet::new();
        // Mostly gone, half and half, or mostly there.
        let odds = random.below(3) + 1;
        for change in &self.pending {
            let directories = change.directories();
            let arrives = random.below(4) < odds;
            if !arrives && weather.has_journal {
                ended.extend(directories);
            }
            if arrives && directories.iter().all(|directory| !ended.contains(directory)) {
                change.apply(&mut entries);
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: a journal keeps the order within a directory, without one any change may be there without the others; a rename is there whole or
    /// not; a sync of a directory covers that directory.
    #[test]
    fn changes_of_directories_come_in_order_or_not() {
        let entry = |directory, name: &str| (directory, name.to_owned());
        let mut tree = Tree::default();
        tree.change(Change::Put(entry(7, "old"), Node::File(1)));
        tree.change(Change::Put(entry(8, "other"), Node::File(4)));
        tree.sync(7);
        assert_eq!(tree.durable().len(), 1);
        tree.change(Change::Put(entry(7, "new.tmp"), Node::File(2)));
        tree.change(Change::Rename(entry(7, "new.tmp"), entry(7, "new"), Node::File(2)));
        tree.change(Change::Remove(entry(7, "old")));
        let mut seen = [BTreeSet::new(), BTreeSet::new()];
        for seed in 0..500 {
            for has_journal in [false, true] {
                let random = &mut SplitMix(seed);
                let entries = tree.after(Weather { has_journal, ..Weather::draw(random) }, random);
                let has = |name: &str| entries.contains_key(&entry(7, name));
                assert!(!(has("new.tmp") && has("new")), "one file has one of the two names");
                seen[usize::from(has_journal)].insert((has("old"), has("new.tmp"), has("new")));
            }
        }
        let in_order = [(false, false, true), (true, false, false), (true, false, true), (true, true, false)];
        assert_eq!(seen[1], BTreeSet::from(in_order));
        assert_eq!(seen[0].len(), 6, "{:?}", seen[0]);
    }
}
