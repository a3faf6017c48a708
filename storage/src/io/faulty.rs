//! A disk in memory that behaves as badly as disks may: what was not synced may vanish, tear or arrive out of order; entries of
//! directories need their own sync; operations can be cut off, fail or stall at a chosen step, and a disk can be full.
//!
//! Its yardstick are ext4 and xfs: it loses, tears and reorders what they may, and keeps what every file system keeps (a sector is whole, a
//! rename is one change, what a finished sync has covered is there).

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{DirEntry, DiskRoom, File, Io, Lock};

mod contents;
mod plan;
mod random;
mod tree;

use contents::{Change, Contents, Weather};
pub use plan::{Crash, Failure, FaultPlan, Operation};
#[cfg(test)]
pub(crate) use random::SplitMix;
#[cfg(not(test))]
use random::SplitMix;
use tree::{Node, ROOT, Tree};

/// The disk. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Faulty {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    plan: FaultPlan,
    random: SplitMix,
    steps: u64,
    is_off: bool,
    /// By inode.
    files: BTreeMap<u64, Contents>,
    last_inode: u64,
    tree: Tree,
    locked: Vec<PathBuf>,
    sync_count: u64,
    /// Counts crashes that took the machine along.
    boot: u64,
}

/// What a step comes to.
enum Step {
    Done,
    /// The plug is pulled in the middle of it.
    Cut,
    Failed(io::ErrorKind),
}

fn power_is_out() -> io::Error {
    io::Error::other("the power is out")
}

impl State {
    /// Counts a step; says whether it may happen.
    fn step(&mut self, operation: Operation) -> io::Result<Step> {
        let step = self.steps;
        self.steps += 1;
        if let Some(cut) = self.plan.cut_at.filter(|cut| step >= *cut) {
            self.is_off = true;
            return if step == cut { Ok(Step::Cut) } else { Err(power_is_out()) };
        }
        match self.plan.fail_at {
            Some((at, kind)) if at == step => Ok(Step::Failed(kind)),
            _ => Ok(self.plan.failure_of(operation).map_or(Step::Done, Step::Failed)),
        }
    }

    /// Looking at something is no step, but it may fail.
    fn look(&mut self, operation: Operation) -> io::Result<()> {
        self.plan.failure_of(operation).map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// A step that changes entries of directories.
    fn change_tree(&mut self, operation: Operation, change: tree::Change) -> io::Result<()> {
        match self.step(operation)? {
            Step::Done => self.tree.change(change),
            Step::Cut => {
                self.tree.may_change(change);
                return Err(power_is_out());
            }
            Step::Failed(kind) => return Err(kind.into()),
        }
        Ok(())
    }

    /// What stands at a path.
    fn node(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Directory(ROOT);
        for name in names(path) {
            let Node::Directory(directory) = node else { return Err(io::ErrorKind::NotADirectory.into()) };
            node = *self.tree.now.get(&(directory, name)).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn directory(&self, path: &Path) -> io::Result<u64> {
        match self.node(path)? {
            Node::Directory(inode) => Ok(inode),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Where the entry of `path` stands: its directory and its name.
    fn entry(&self, path: &Path) -> io::Result<tree::Entry> {
        let name = names(path).pop().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("/")))?, name))
    }

    fn entries_of(&self, directory: u64) -> Vec<(tree::Entry, Node)> {
        let from = (directory, String::new())..(directory + 1, String::new());
        self.tree.now.range(from).map(|(entry, node)| (entry.clone(), *node)).collect()
    }

    /// Removes what is in a directory, one by one, as a real one is removed.
    fn clear(&mut self, directory: u64) -> io::Result<()> {
        for (entry, node) in self.entries_of(directory) {
            if let Node::Directory(inode) = node {
                self.clear(inode)?;
            }
            self.change_tree(Operation::Remove, tree::Change::Remove(entry))?;
        }
        Ok(())
    }

    fn new_inode(&mut self) -> u64 {
        self.last_inode += 1;
        self.last_inode
    }

    fn contents(&mut self, inode: u64) -> io::Result<&mut Contents> {
        self.files.get_mut(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// What the files that have a name take.
    fn used(&self) -> u64 {
        let files = self.tree.now.values().filter_map(|node| match node {
            Node::File(inode) => self.files.get(inode),
            Node::Directory(_) => None,
        });
        files.map(|file| file.now.len() as u64).sum::<u64>() + self.tree.now.len() as u64 * self.plan.entry_bytes
    }

    fn room(&self) -> u64 {
        self.plan.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    fn room_for_entry(&self) -> io::Result<()> {
        if self.plan.entry_bytes > self.room() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// How much of something that failed was done all the same.
    fn part_of(&mut self, length: usize) -> usize {
        if self.plan.seed == 0 { 0 } else { usize::try_from(self.random.below(length as u64 + 1)).unwrap_or(0) }
    }
}

impl Faulty {
    /// An empty disk on which nothing goes wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what goes wrong. Steps count on.
    pub fn set_plan(&self, plan: FaultPlan) {
        let mut state = self.state();
        state.random = SplitMix(plan.seed);
        state.plan = plan;
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Whether the plug was pulled.
    pub fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Syncs of files so far.
    pub fn syncs(&self) -> u64 {
        self.state().sync_count
    }

    /// The disk as the next start finds it: no plan, no locks, and of what was not synced only what `crash` leaves.
    #[must_use]
    pub fn after_crash(&self, crash: Crash) -> Self {
        let state = self.state();
        let mut random = SplitMix(if let Crash::Random(seed) = crash { seed } else { 0 });
        let weather = Weather::draw(&mut random);
        let tree = match crash {
            Crash::LoseAll => state.tree.synced(),
            Crash::KeepAll => Tree::all_durable(state.tree.clone().killed().now),
            Crash::Kill => state.tree.clone().killed(),
            Crash::Random(_) => Tree::all_durable(state.tree.after(weather, &mut random)),
        };
        let named = tree.files();
        let files = state.files.iter().filter(|(inode, _)| named.contains(inode)).map(|(inode, contents)| {
            let after = match crash {
                Crash::LoseAll => Contents::all_durable(contents.durable.clone()),
                Crash::KeepAll => Contents::all_durable(contents.clone().killed().now),
                Crash::Kill => contents.clone().killed(),
                Crash::Random(_) => Contents::all_durable(contents.after(weather, &mut random)),
            };
            (*inode, after)
        });
        let boot = if crash == Crash::Kill { state.boot } else { state.boot + 1 };
        let next = State { files: files.collect(), last_inode: state.last_inode, tree, boot, ..State::default() };
        Self { state: Arc::new(Mutex::new(next)) }
    }

    /// Flips one bit of a file, as rot would; durable at once.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is no such file or byte.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state();
        let Node::File(inode) = state.node(path)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let contents = state.contents(inode)?;
        contents.sync();
        let at = usize::try_from(byte).map_err(io::Error::other)?;
        for bytes in [&mut contents.now, &mut contents.durable] {
            *bytes.get_mut(at).ok_or(io::ErrorKind::NotFound)? ^= 1 << (bit % 8);
        }
        Ok(())
    }

    fn handle(&self, inode: u64) -> Arc<dyn File> {
        Arc::new(FaultyFile { disk: self.clone(), inode })
    }
}

/// The names on the way from the root.
fn names(path: &Path) -> Vec<String> {
    let named = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    };
    path.components().filter_map(named).collect()
}

impl Io for Faulty {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let mut directory = ROOT;
        for name in names(path) {
            let entry = (directory, name);
            let node = state.tree.now.get(&entry).copied();
            directory = match node {
                Some(Node::Directory(inode)) => inode,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    state.room_for_entry()?;
                    let inode = state.new_inode();
                    state.change_tree(Operation::Create, tree::Change::Put(entry, Node::Directory(inode)))?;
                    inode
                }
            };
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state();
        state.look(Operation::List)?;
        let directory = state.directory(path)?;
        let listed = |((_, name), node)| DirEntry { name, is_dir: matches!(node, Node::Directory(_)) };
        let mut entries: Vec<_> = state.entries_of(directory).into_iter().map(listed).collect();
        if state.plan.seed != 0 {
            entries.sort_by_cached_key(|_| state.random.next());
        }
        Ok(entries)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let directory = state.directory(path)?;
        match state.step(Operation::SyncDirectory)? {
            Step::Done => state.tree.sync(directory),
            Step::Cut => return Err(power_is_out()),
            Step::Failed(kind) => return Err(kind.into()),
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let entry = state.entry(path)?;
        if state.tree.now.contains_key(&entry) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.room_for_entry()?;
        let inode = state.new_inode();
        state.files.insert(inode, Contents::default());
        state.change_tree(Operation::Create, tree::Change::Put(entry, Node::File(inode)))?;
        drop(state);
        Ok(self.handle(inode))
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        self.open(path)?.len()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.look(Operation::Open)?;
        match state.node(path)? {
            Node::File(inode) => Ok(self.handle(inode)),
            Node::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let (from, to) = (state.entry(from)?, state.entry(to)?);
        let node = *state.tree.now.get(&from).ok_or(io::ErrorKind::NotFound)?;
        state.change_tree(Operation::Rename, tree::Change::Rename(from, to, node))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let entry = state.entry(path)?;
        state.node(path)?;
        state.change_tree(Operation::Remove, tree::Change::Remove(entry))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let directory = state.directory(path)?;
        let entry = state.entry(path)?;
        state.clear(directory)?;
        state.change_tree(Operation::Remove, tree::Change::Remove(entry))
    }

    fn boot_id(&self) -> Option<String> {
        Some(format!("boot {}", self.state().boot))
    }

    fn room(&self, _path: &Path) -> io::Result<DiskRoom> {
        let state = self.state();
        Ok(DiskRoom { free: state.room(), total: state.plan.capacity.unwrap_or(u64::MAX) })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut state = self.state();
        if state.locked.iter().any(|p| p == path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked.push(path.to_owned());
        drop(state);
        Ok(Box::new(FaultyLock { disk: self.clone(), path: path.to_owned() }))
    }
}

#[derive(Debug)]
struct FaultyLock {
    disk: Faulty,
    path: PathBuf,
}

impl Lock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        self.disk.state().locked.retain(|p| *p != self.path);
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: Faulty,
    inode: u64,
}

impl FaultyFile {
    /// Stalls outside the lock, as a slow disk stalls only those who wait for it.
    fn stall(&self, pick: impl Fn(&FaultPlan) -> Duration) {
        let delay = pick(&self.disk.state().plan);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }
}

impl File for FaultyFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.look(Operation::Read)?;
        let contents = state.contents(self.inode)?;
        let start = usize::try_from(position).map_err(io::Error::other)?.min(contents.now.len());
        let n = buf.len().min(contents.now.len() - start);
        buf[..n].copy_from_slice(&contents.now[start..start + n]);
        Ok(n)
    }

    fn try_read_at(&self, buf: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        self.read_at(buf, position).map(Some)
    }

    fn write_all_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        self.stall(|plan| plan.write_delay);
        let mut state = self.disk.state();
        let position = usize::try_from(position).map_err(io::Error::other)?;
        let mut bytes = parts.concat();
        let failure = match state.step(Operation::Write)? {
            Step::Done => {
                let room = state.room();
                let growth = (position + bytes.len()).saturating_sub(state.contents(self.inode)?.now.len()) as u64;
                if growth > room {
                    // As a real disk does: what fits is written.
                    let fits = bytes.len() - usize::try_from(growth - room).unwrap_or(bytes.len()).min(bytes.len());
                    bytes.truncate(fits);
                    Some(io::ErrorKind::StorageFull)
                } else {
                    None
                }
            }
            Step::Cut => {
                // Any part of it may be on its way to the platter.
                state.contents(self.inode)?.may_change(Change::Write { position, bytes });
                return Err(power_is_out());
            }
            Step::Failed(kind) => {
                bytes.truncate(state.part_of(bytes.len()));
                Some(kind)
            }
        };
        if !bytes.is_empty() {
            state.contents(self.inode)?.change(Change::Write { position, bytes });
        }
        failure.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.stall(|plan| plan.sync_delay);
        let mut state = self.disk.state();
        let state = &mut *state;
        state.sync_count += 1;
        match state.step(Operation::Sync)? {
            Step::Done => state.contents(self.inode)?.sync(),
            Step::Cut => return Err(power_is_out()),
            Step::Failed(kind) => {
                if state.plan.seed != 0 {
                    let contents = state.files.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
                    contents.fail_sync(&mut state.random);
                }
                return Err(kind.into());
            }
        }
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let change = Change::SetLen(usize::try_from(bytes).map_err(io::Error::other)?);
        match state.step(Operation::SetLength)? {
            Step::Done => state.contents(self.inode)?.change(change),
            Step::Cut => {
                state.contents(self.inode)?.may_change(change);
                return Err(power_is_out());
            }
            Step::Failed(kind) => return Err(kind.into()),
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().contents(self.inode)?.now.len() as u64)
    }
}
