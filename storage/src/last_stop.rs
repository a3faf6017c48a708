//! How the node that had a data directory before stopped.
//!
//! A node that has closed all its logs leaves Kafka's `.kafka_cleanshutdown`; the next start takes it away before it writes anything. While a
//! node runs, `boot-id` says in which boot of the machine it does. So a start without the marker knows whether only the process died, which
//! loses nothing that was written, or the machine, which loses what was not synced.
//!
//! ```text
//! .kafka_cleanshutdown    {"version":0,"brokerEpoch":17}
//! boot-id                 6f1f35a6-9f2c-4f6e-8a40-0d1f1d3c9a51
//! ```

use std::path::Path;

use crate::Error;
use crate::io::{Io, read_small, write_atomically};

/// Kafka's marker.
const CLEAN: &str = ".kafka_cleanshutdown";
/// Ours.
const BOOT: &str = "boot-id";

/// How the node stopped last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastStop {
    /// It never ran: the directory is new.
    Never,
    /// As it should: every log was closed.
    Clean,
    /// Its process ended, the machine ran on: what was written is there.
    Killed,
    /// The machine went down, or that cannot be told: what was not synced may be gone.
    MachineDown,
}

/// Finds out, and takes note that a node runs now. Nothing is believed that cannot be read. `is_new` is a directory that no node has had.
///
/// # Errors
/// [`Error::Io`] if a marker cannot be taken away.
pub(crate) fn begin(io: &dyn Io, root: &Path, is_new: bool) -> Result<LastStop, Error> {
    let read = |name: &str| read_small(io, &root.join(name)).ok().flatten();
    let (is_clean, before, now) = (read(CLEAN).as_deref().is_some_and(is_whole), read(BOOT), io.boot_id());
    take_back(io, root)?;
    let now = now.unwrap_or_default();
    if before.as_deref() != Some(now.as_bytes())
        && let Err(error) = write_atomically(io, &root.join(BOOT), now.as_bytes())
    {
        // The next start takes a kill for more than that.
        tracing::warn!(%error, "in which boot of the machine the node runs was not noted");
    }
    Ok(match before {
        _ if is_clean => LastStop::Clean,
        _ if is_new => LastStop::Never,
        Some(before) if !before.is_empty() && before == now.as_bytes() => LastStop::Killed,
        _ => LastStop::MachineDown,
    })
}

/// Takes the marker of a clean stop away, durably, if there is one.
pub(crate) fn take_back(io: &dyn Io, root: &Path) -> Result<(), Error> {
    let path = root.join(CLEAN);
    match io.remove_file(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove", &path)(error)),
        Ok(()) => io.sync_dir(root).map_err(Error::io("sync directory", root)),
    }
}

/// Takes note that every log is closed. `broker_epoch` is the registration of the node that closed them.
pub(crate) fn end(io: &dyn Io, root: &Path, broker_epoch: u64) -> Result<(), Error> {
    let path = root.join(CLEAN);
    let text = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
    write_atomically(io, &path, text.as_bytes()).map_err(Error::io("write", &path))
}

fn is_whole(bytes: &[u8]) -> bool {
    let parsed: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    parsed.is_some_and(|marker| marker["version"] == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Crash, FaultPlan, Faulty};

    const ROOT: &str = "/data";

    /// A promise: a stop is told from a killed process, and that from a machine that went down; a marker holds for one start.
    #[test]
    fn stops_are_told_apart() {
        let root = Path::new(ROOT);
        let disk = Faulty::new();
        disk.create_dir_all(root).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        assert_eq!(begin(&disk, root, true).unwrap(), LastStop::Never);
        assert_eq!(begin(&disk.after_crash(Crash::Kill), root, false).unwrap(), LastStop::Killed);
        assert_eq!(begin(&disk.after_crash(Crash::LoseAll), root, false).unwrap(), LastStop::MachineDown);
        end(&disk, root, 17).unwrap();
        for crash in [Crash::Kill, Crash::LoseAll] {
            let stopped = disk.after_crash(crash);
            assert_eq!(read_small(&stopped, &root.join(CLEAN)).unwrap().unwrap(), br#"{"version":0,"brokerEpoch":17}"#);
            assert_eq!(begin(&stopped, root, false).unwrap(), LastStop::Clean);
            assert_eq!(begin(&stopped.after_crash(Crash::Kill), root, false).unwrap(), LastStop::Killed);
            assert_eq!(begin(&stopped.after_crash(Crash::LoseAll), root, false).unwrap(), LastStop::MachineDown);
        }
    }

    /// A promise: wherever the plug is pulled while a start takes the marker away, the next one finds it whole or is told of the machine.
    #[test]
    fn a_marker_is_taken_or_not() {
        let root = Path::new(ROOT);
        let stopped = Faulty::new();
        stopped.create_dir_all(root).unwrap();
        stopped.sync_dir(Path::new("/")).unwrap();
        begin(&stopped, root, false).unwrap();
        end(&stopped, root, 1).unwrap();
        for (cut, seed) in (0..8).flat_map(|cut| (0..20).map(move |seed| (cut, seed))) {
            let disk = stopped.after_crash(Crash::LoseAll);
            disk.set_plan(FaultPlan { cut_at: Some(disk.steps() + cut), ..FaultPlan::default() });
            let begun = begin(&disk, root, false);
            let after = begin(&disk.after_crash(Crash::Random(seed)), root, false).unwrap();
            let allowed = if begun.is_ok() { &[LastStop::MachineDown][..] } else { &[LastStop::Clean, LastStop::MachineDown] };
            assert!(allowed.contains(&after), "cut at {cut}, seed {seed}: {begun:?}, then {after:?}");
        }
    }

    /// A promise: a marker that is none marks nothing.
    #[test]
    fn a_damaged_marker_is_none() {
        let root = Path::new(ROOT);
        for text in ["", "{", "{}", "{\"version\":1}", "[0]", "\0\0\0\0"] {
            let disk = Faulty::new();
            disk.create_dir_all(root).unwrap();
            begin(&disk, root, false).unwrap();
            write_atomically(&disk, &root.join(CLEAN), text.as_bytes()).unwrap();
            assert_eq!(begin(&disk.after_crash(Crash::Kill), root, false).unwrap(), LastStop::Killed, "{text:?}");
        }
    }
}
