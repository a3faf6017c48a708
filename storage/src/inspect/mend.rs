//! Doing what a plan says, one step after the other, under the data directory's lock. What may be cut off anywhere is made so that it can be planned and
//! done again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_types::{Offset, TopicPartition};

use super::repair::{Action, Plan, Remade, plan};
use super::root::{Notes, Report, is_data_directory, partitions, verify_all};
use super::survey::{Survey, survey};
use super::{Kind, partition_of};
use crate::Error;
use crate::checkpoint::{FIRST_DIRTY, HIGH_WATERMARK, LOG_START, RECOVERY_POINT, read_offsets, write_offsets};
use crate::compact::settle;
use crate::index::INDEX_INTERVAL_BYTES;
use crate::io::{Io, Lock};
use crate::recovery::scan;
use crate::segment::{ActiveSegment, file_name};
use crate::store::read_identity;
use crate::vouched::{self, Vouched};

/// A repair of a data directory, or of one partition in it: planned first, done when asked for. No node can take the directory meanwhile.
#[derive(Debug)]
pub struct Repair {
    io: Arc<dyn Io>,
    path: PathBuf,
    root: PathBuf,
    plans: Vec<Plan>,
    /// What the data directory's damaged checkpoints are to say.
    rewritten: Vec<(&'static str, BTreeMap<TopicPartition, Offset>)>,
    _lock: Box<dyn Lock>,
}

impl Repair {
    /// Looks at everything and makes the plans. `cut_all`: logs that the node opens although there is damage in them are to be cut as well.
    ///
    /// # Errors
    /// [`Error::Directory`] if a node has the directory, it is none of ours or of another format; [`Error::Io`].
    pub fn plan(io: Arc<dyn Io>, path: &Path, cut_all: bool) -> Result<Self, Error> {
        let (_, is_root) = partitions(io.as_ref(), path)?;
        let root = if is_root { path } else { path.parent().unwrap_or(Path::new("/")) };
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root }.to_owned();
        let refuse = |reason: &str| Error::Directory { path: root.clone(), reason: reason.to_owned() };
        if !is_data_directory(io.as_ref(), &root)? {
            return Err(refuse("no node has made this its data directory, so there is nothing to repair it by"));
        }
        let lock = root.join(".lock");
        let lock = io.lock(&lock).map_err(|source| match source.kind() {
            std::io::ErrorKind::WouldBlock => refuse("a node has it open; stop the node first"),
            _ => Error::Io { action: "lock", path: lock, source },
        })?;
        match read_identity(io.as_ref(), &root) {
            // Of which format the rest is, nobody knows then.
            Err(error @ Error::Directory { .. }) => return Err(error),
            Err(error @ Error::Io { .. }) => return Err(error),
            _ => {}
        }
        let mut repair = Self { io, path: path.to_owned(), root, plans: Vec::new(), rewritten: Vec::new(), _lock: lock };
        repair.make_plans(cut_all)?;
        Ok(repair)
    }

    fn make_plans(&mut self, cut_all: bool) -> Result<(), Error> {
        let io = self.io.as_ref();
        let (directories, is_root) = partitions(io, &self.path)?;
        let notes = Notes::read(io, &self.root)?;
        let mut starts = BTreeMap::new();
        let mut ends = BTreeMap::new();
        let mut dirty = BTreeMap::new();
        for directory in directories {
            let survey = survey(io, &directory, &notes)?;
            let plan = plan(&survey, cut_all);
            if let Some(tp) = &survey.tp {
                ends.extend(plan.end.map(|end| (tp.clone(), end)));
                starts.extend(start_of(&survey, &plan).map(|start| (tp.clone(), start)));
                dirty.extend(survey.segments.iter().any(|seen| seen.has_gaps).then(|| (tp.clone(), survey.start)));
            }
            self.plans.push(plan);
        }
        let mut root = Plan { directory: self.root.clone(), ..Plan::default() };
        for name in &notes.damaged {
            if !is_root {
                root.left.push(format!("{name} is damaged: repair the whole data directory"));
                continue;
            }
            let says = match *name {
                RECOVERY_POINT | HIGH_WATERMARK => &ends,
                LOG_START => &starts,
                _ => &dirty,
            };
            self.rewritten.push((name, says.clone()));
            root.actions.push(Action::Rewrite { file: self.root.join(name) });
        }
        if is_root {
            let report = super::root::check_root(io, &self.root)?;
            let findings = report.findings.into_iter().filter(|finding| !notes.findings.contains(finding));
            root.left.extend(findings.map(|finding| {
                let advice = if finding.kind == Kind::OffsetCheckpoint {
                    "put the directory back if there is a backup"
                } else {
                    "take the file from a backup"
                };
                format!("{}: {}; {advice}", finding.path.display(), finding.reason)
            }));
        }
        if !root.actions.is_empty() || !root.left.is_empty() {
            self.plans.push(root);
        }
        Ok(())
    }

    /// What is to be done, partition by partition; last, if need be, about the data directory itself.
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// Does what one of [`Repair::plans`] says. Gives the directory of what it has set aside, if anything. `now` is the time in a form that a file name takes.
    ///
    /// # Errors
    /// [`Error::Io`]: what was done is done, and a new plan says what is left.
    pub fn apply(&self, plan: &Plan, now: &str) -> Result<Option<PathBuf>, Error> {
        let mut work = Work { repair: self, plan, now, aside: None };
        // Whatever the last stop promised, it is not said of what comes now.
        crate::last_stop::take_back(self.io.as_ref(), &self.root)?;
        for action in &plan.actions {
            work.act(action)?;
        }
        Ok(work.aside)
    }

    /// Checks everything again.
    ///
    /// # Errors
    /// As [`verify_all`].
    pub fn check(&self) -> Result<Report, Error> {
        verify_all(self.io.as_ref(), &self.path, &mut |_| false)
    }
}

/// Where a log begins once its plan is done, if that has to be noted.
fn start_of(survey: &Survey, plan: &Plan) -> Option<Offset> {
    let raised = plan.actions.iter().find_map(|action| if let Action::RaiseStart { to } = action { Some(*to) } else { None });
    let first = survey.segments.first().map_or(Offset::ZERO, |first| first.base);
    Some(raised.unwrap_or(survey.start).max(first)).filter(|start| *start > Offset::ZERO)
}

/// A plan that is being carried out.
struct Work<'a> {
    repair: &'a Repair,
    plan: &'a Plan,
    now: &'a str,
    aside: Option<PathBuf>,
}

impl Work<'_> {
    fn io(&self) -> &dyn Io {
        self.repair.io.as_ref()
    }

    fn act(&mut self, action: &Action) -> Result<(), Error> {
        let directory = &self.plan.directory;
        tracing::info!(directory = %directory.display(), action = action.name(), file = ?action.file(), "repair");
        match action {
            Action::Copy { file } => self.copy(file),
            Action::Move { file } => self.move_aside(file),
            Action::Settle => settle(self.io(), directory),
            Action::Cut { file, bytes } => {
                let open = self.io().open(file).map_err(Error::io("open", file))?;
                open.set_len(*bytes).map_err(Error::io("truncate", file))?;
                open.sync_data().map_err(Error::io("sync", file))
            }
            Action::Begin { base } => {
                let path = directory.join(file_name(*base, "log"));
                let file = self.io().create(&path).map_err(Error::io("create", &path))?;
                file.sync_data().map_err(Error::io("sync", &path))?;
                self.io().sync_dir(directory).map_err(Error::io("sync directory", directory))
            }
            Action::Index { .. } => self.index(),
            Action::Epochs => self.plan.epochs.as_ref().map_or(Ok(()), |epochs| epochs.write(self.io(), directory)),
            Action::RaiseStart { to } => self.note(LOG_START, *to),
            Action::Compacted { to } => self.note(FIRST_DIRTY, *to),
            Action::LowerSynced { to } => self.note(RECOVERY_POINT, *to),
            Action::LowerReadable { to } => self.note(HIGH_WATERMARK, *to),
            Action::Rewrite { file } => self.rewrite(file),
        }
    }

    /// The directory of what is set aside, beside the partition's: no name of a partition, and none that a start removes.
    fn aside(&mut self) -> Result<PathBuf, Error> {
        if let Some(aside) = &self.aside {
            return Ok(aside.clone());
        }
        let root = &self.repair.root;
        let name = self.plan.directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let taken: Vec<_> = self.io().list(root).map_err(Error::io("list", root))?.into_iter().map(|entry| entry.name).collect();
        let named = |count: u32| {
            let count = if count == 1 { String::new() } else { format!(".{count}") };
            let suffix = format!(".repair-{}{count}", self.now);
            // A long topic name gives way so that the whole fits a file name; its characters are one byte each.
            format!("{}{suffix}", &name[..name.len().min(255_usize.saturating_sub(suffix.len()))])
        };
        let name = (1..).map(named).find(|name| !taken.contains(name)).unwrap_or_default();
        let aside = root.join(name);
        self.io().create_dir_all(&aside).map_err(Error::io("create", &aside))?;
        self.io().sync_dir(root).map_err(Error::io("sync directory", root))?;
        self.aside = Some(aside.clone());
        Ok(aside)
    }

    /// Copies a file, which stands under its name once it is whole and synced.
    fn copy(&mut self, file: &Path) -> Result<(), Error> {
        const CHUNK_BYTES: u64 = 1 << 20;
        let aside = self.aside()?;
        let to = aside.join(file.file_name().unwrap_or_default());
        let part = to.with_extension("part");
        let from = self.io().open(file).map_err(Error::io("open", file))?;
        let length = from.len().map_err(Error::io("read the length of", file))?;
        let copy = self.io().create(&part).map_err(Error::io("create", &part))?;
        let mut at = 0;
        while at < length {
            let mut chunk = vec![0; usize::try_from(CHUNK_BYTES.min(length - at)).unwrap_or(0)];
            crate::io::read_exact_at(from.as_ref(), &mut chunk, at).map_err(Error::io("read", file))?;
            copy.write_all_at(&[&chunk], at).map_err(Error::io("write", &part))?;
            at += chunk.len() as u64;
        }
        copy.sync_data().map_err(Error::io("sync", &part))?;
        self.io().rename(&part, &to).map_err(Error::io("rename", &part))?;
        self.io().sync_dir(&aside).map_err(Error::io("sync directory", &aside))
    }

    fn move_aside(&mut self, file: &Path) -> Result<(), Error> {
        let aside = self.aside()?;
        let indexes = ["index", "timeindex"].map(|suffix| file.with_extension(suffix));
        let beside = indexes.iter().filter(|_| file.extension().is_some_and(|extension| extension == "log"));
        for from in [file].into_iter().chain(beside.map(PathBuf::as_path)) {
            match self.io().rename(from, &aside.join(from.file_name().unwrap_or_default())) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && from != file => {}
                moved => moved.map_err(Error::io("rename", from))?,
            }
        }
        // There before it is gone from here.
        for directory in [&aside, &self.plan.directory] {
            self.io().sync_dir(directory).map_err(Error::io("sync directory", directory))?;
        }
        Ok(())
    }

    /// Writes the indexes first, then what vouches for them.
    fn index(&self) -> Result<(), Error> {
        let made = self.plan.indexes.iter().map(|remade| make_indexes(self.io(), remade)).collect::<Result<Vec<_>, _>>()?;
        let mut all: Vec<_> = self.plan.vouched.iter().copied().chain(made).collect();
        all.sort_by_key(|known| known.base);
        vouched::write(self.io(), &self.plan.directory, &all)
    }

    /// Sets the partition's entry in one of the data directory's checkpoints. One that is damaged is written again later, from all logs.
    fn note(&self, name: &str, offset: Offset) -> Result<(), Error> {
        let path = self.repair.root.join(name);
        let Some(tp) = partition_of(&self.plan.directory) else { return Ok(()) };
        match read_offsets(self.io(), &path) {
            Ok(mut offsets) => {
                offsets.insert(tp, offset);
                write_offsets(self.io(), &path, &offsets)
            }
            Err(Error::Corrupt { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn rewrite(&mut self, file: &Path) -> Result<(), Error> {
        let says = self.repair.rewritten.iter().find(|(name, _)| file.ends_with(name));
        let Some((_, offsets)) = says else { return Ok(()) };
        self.copy(file)?;
        write_offsets(self.io(), file, offsets)
    }
}

/// Reads a segment up to its last good batch, and writes its indexes.
fn make_indexes(io: &dyn Io, remade: &Remade) -> Result<Vouched, Error> {
    let path = &remade.path;
    let file = io.open(path).map_err(Error::io("open", path))?;
    let mut segment = ActiveSegment::over(remade.base, path.clone(), Arc::clone(&file), INDEX_INTERVAL_BYTES);
    let mut end = remade.base;
    scan(file.as_ref(), 0, &mut |position, batch| {
        if position >= remade.bytes {
            return Err("what follows is not vouched for".to_owned());
        }
        segment.note(&batch.header);
        end = batch.header.last_offset().next();
        Ok(())
    })
    .map_err(Error::io("read", path))?;
    if (segment.bytes(), end) != (remade.bytes, remade.end) {
        let reason = format!("it ended at byte {} and offset {} when it was looked at, and now does not", remade.bytes, remade.end);
        return Err(Error::Corrupt { path: path.clone(), position: segment.bytes(), reason });
    }
    segment.sync().map_err(Error::io("sync", path))?;
    segment.vouch(io, end)
}
