//! A disk in memory that behaves as badly as disks may: what was not synced may vanish, tear or arrive out of order; entries of
//! directories need their own sync; operations can be cut off, fail or stall at a chosen step.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{DirEntry, DiskRoom, File, Io, Lock};

/// What goes wrong, and when. Steps count every write, sync, truncation and change of a directory, from 0.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    /// From this step on nothing works any more, as if the plug were pulled. The step itself may have happened in part.
    pub cut_at: Option<u64>,
    /// This step fails with this error; later ones work.
    pub fail_at: Option<(u64, io::ErrorKind)>,
    /// Writes beyond so many bytes in all fail with [`io::ErrorKind::StorageFull`].
    pub capacity: Option<u64>,
    /// How long each sync takes.
    pub sync_delay: Duration,
    /// How long each write takes.
    pub write_delay: Duration,
}

/// What becomes of writes that no sync has covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// They are all gone.
    LoseAll,
    /// They are all there, and on the platter.
    KeepAll,
    /// They are all there, but still only in the page cache: a killed process on a machine that runs on.
    Kill,
    /// By the seed: each is there, gone or torn at a sector's edge, whatever their order was.
    Random(u64),
}

/// The disk. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Faulty {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    plan: FaultPlan,
    steps: u64,
    /// By inode.
    files: BTreeMap<u64, Contents>,
    last_inode: u64,
    /// The directories' entries as running programs see them.
    tree: Tree,
    /// The entries that are on the platter.
    durable_tree: Tree,
    locked: Vec<PathBuf>,
    sync_count: u64,
    /// Counts crashes that took the machine along.
    boot: u64,
}

/// Entries by directory and name, so that a renamed directory takes along what is in it.
type Tree = BTreeMap<(u64, String), Node>;

/// The inode of `/`, which is always there.
const ROOT: u64 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Directory(u64),
    File(u64),
}

#[derive(Debug, Clone, Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What happened since the last sync.
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// What a drive writes whole or not at all.
const SECTOR: usize = 512;

impl Contents {
    fn apply(to: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Write { position, bytes } => {
                let end = position + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*position..end].copy_from_slice(bytes);
            }
            Change::SetLen(bytes) => to.resize(*bytes, 0),
        }
    }

    fn change(&mut self, change: Change) {
        Self::apply(&mut self.now, &change);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            Self::apply(&mut self.durable, &change);
        }
    }

    fn all_durable(bytes: Vec<u8>) -> Self {
        Self { now: bytes.clone(), durable: bytes, pending: Vec::new() }
    }

    /// What the platter holds after a crash.
    fn after(&self, crash: Crash, random: &mut SplitMix) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for change in &self.pending {
            match (crash, change) {
                (Crash::LoseAll, _) => {}
                (Crash::KeepAll | Crash::Kill, change) => Self::apply(&mut bytes, change),
                (Crash::Random(_), change) => match (random.below(3), change) {
                    (0, _) => {}
                    (1, Change::Write { position, bytes: written }) => {
                        // Torn: each sector of it arrived or did not.
                        for (i, sector) in written.chunks(SECTOR).enumerate() {
                            if random.below(2) == 0 {
                                let position = position + i * SECTOR;
                                Self::apply(&mut bytes, &Change::Write { position, bytes: sector.to_vec() });
                            }
                        }
                    }
                    (_, change) => Self::apply(&mut bytes, change),
                },
            }
        }
        bytes
    }
}

/// A small generator, so that a seed says everything (Steele, Lea, Flood: SplitMix64).
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

impl State {
    /// Counts a step; says whether it may happen.
    fn step(&mut self) -> io::Result<()> {
        let step = self.steps;
        self.steps += 1;
        if self.plan.cut_at.is_some_and(|cut| step >= cut) {
            return Err(io::Error::other("the power is out"));
        }
        match self.plan.fail_at {
            Some((at, kind)) if at == step => Err(kind.into()),
            _ => Ok(()),
        }
    }

    /// What stands at a path.
    fn node(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Directory(ROOT);
        for name in names(path) {
            let Node::Directory(directory) = node else { return Err(io::ErrorKind::NotADirectory.into()) };
            node = *self.tree.get(&(directory, name)).ok_or(io::ErrorKind::NotFound)?;
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
    fn entry(&self, path: &Path) -> io::Result<(u64, String)> {
        let name = names(path).pop().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("/")))?, name))
    }

    fn new_inode(&mut self) -> u64 {
        self.last_inode += 1;
        self.last_inode
    }

    fn contents(&mut self, inode: u64) -> io::Result<&mut Contents> {
        self.files.get_mut(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used(&self) -> u64 {
        self.files.values().map(|file| file.now.len() as u64).sum()
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
        self.state().plan = plan;
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.state().steps
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
        let tree = match crash {
            Crash::LoseAll => state.durable_tree.clone(),
            Crash::KeepAll | Crash::Kill => state.tree.clone(),
            Crash::Random(_) => {
                // An entry that was not synced may have made it all the same.
                let mut tree = state.durable_tree.clone();
                tree.extend(state.tree.iter().filter(|_| random.below(2) == 0).map(|(entry, node)| (entry.clone(), *node)));
                // So may a removal; that of a renamed entry's old name only with the new one.
                for (entry, node) in state.durable_tree.iter().filter(|(entry, _)| !state.tree.contains_key(*entry)) {
                    let renamed_to = state.tree.iter().find(|(_, other)| *other == node).map(|(entry, _)| entry);
                    if random.below(2) == 0 && renamed_to.is_none_or(|to| tree.get(to) == Some(node)) {
                        tree.remove(entry);
                    }
                }
                tree
            }
        };
        let files = state.files.iter().map(|(inode, contents)| {
            let after = match crash {
                Crash::Kill => Contents { now: contents.after(crash, &mut random), ..contents.clone() },
                _ => Contents::all_durable(contents.after(crash, &mut random)),
            };
            (*inode, after)
        });
        let files = files.collect();
        let durable_tree = if crash == Crash::Kill { state.durable_tree.clone() } else { tree.clone() };
        let boot = if crash == Crash::Kill { state.boot } else { state.boot + 1 };
        let next = State { files, last_inode: state.last_inode, durable_tree, tree, boot, ..State::default() };
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
        if state.node(path).is_ok() {
            return Ok(());
        }
        state.step()?;
        let mut directory = ROOT;
        for name in names(path) {
            let made = Node::Directory(state.new_inode());
            match *state.tree.entry((directory, name)).or_insert(made) {
                Node::Directory(inode) => directory = inode,
                Node::File(_) => return Err(io::ErrorKind::NotADirectory.into()),
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state();
        let directory = state.directory(path)?;
        let entries = state.tree.iter().filter(|((parent, _), _)| *parent == directory);
        Ok(entries.map(|((_, name), node)| DirEntry { name: name.clone(), is_dir: matches!(node, Node::Directory(_)) }).collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let directory = state.directory(path)?;
        let entries: Vec<_> = state.tree.iter().filter(|((parent, _), _)| *parent == directory).map(|(e, n)| (e.clone(), *n)).collect();
        state.durable_tree.retain(|(parent, _), _| *parent != directory);
        state.durable_tree.extend(entries);
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let entry = state.entry(path)?;
        if state.tree.contains_key(&entry) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.step()?;
        let inode = state.new_inode();
        state.files.insert(inode, Contents::default());
        state.tree.insert(entry, Node::File(inode));
        drop(state);
        Ok(self.handle(inode))
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        self.open(path)?.len()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        match self.state().node(path)? {
            Node::File(inode) => Ok(self.handle(inode)),
            Node::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let (from, to) = (state.entry(from)?, state.entry(to)?);
        let node = *state.tree.get(&from).ok_or(io::ErrorKind::NotFound)?;
        state.step()?;
        state.tree.remove(&from);
        state.tree.insert(to, node);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let entry = state.entry(path)?;
        state.node(path)?;
        state.step()?;
        state.tree.remove(&entry);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        // What was in it can no longer be reached.
        self.state().directory(path)?;
        self.remove_file(path)
    }

    fn boot_id(&self) -> Option<String> {
        Some(format!("boot {}", self.state().boot))
    }

    fn room(&self, _path: &Path) -> io::Result<DiskRoom> {
        let state = self.state();
        let total = state.plan.capacity.unwrap_or(u64::MAX);
        Ok(DiskRoom { free: total.saturating_sub(state.used()), total })
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
        let bytes = parts.concat();
        if let Err(error) = state.step() {
            // The plug is pulled in the middle of the write: any part of it may be on its way to the platter.
            if state.plan.cut_at == Some(state.steps - 1) {
                state.contents(self.inode)?.pending.push(Change::Write { position, bytes });
            }
            return Err(error);
        }
        let room = state.plan.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used()));
        let growth = (position + bytes.len()).saturating_sub(state.contents(self.inode)?.now.len()) as u64;
        let contents = state.contents(self.inode)?;
        if growth > room {
            // As a real disk does: what fits is written.
            let fits = bytes.len() - usize::try_from(growth - room).unwrap_or(bytes.len()).min(bytes.len());
            contents.change(Change::Write { position, bytes: bytes[..fits].to_vec() });
            return Err(io::ErrorKind::StorageFull.into());
        }
        contents.change(Change::Write { position, bytes });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.stall(|plan| plan.sync_delay);
        let mut state = self.disk.state();
        state.sync_count += 1;
        state.step()?;
        state.contents(self.inode)?.sync();
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.step()?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        state.contents(self.inode)?.change(Change::SetLen(bytes));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().contents(self.inode)?.now.len() as u64)
    }
}
