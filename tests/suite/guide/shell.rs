//! One `bash` that is given a page's commands one after the other, as a reader would.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tidegate_tests::process::binary;

/// How long one command may print nothing before the page is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Begins and ends the line that says with which status a command ended; no command prints this character.
const END: char = '\u{1}';

/// What a command did.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Standard output and error, as they came.
    pub(super) printed: String,
    pub(super) status: i32,
}

/// A running shell. It and whatever it started are killed when it is dropped.
#[derive(Debug)]
pub(super) struct Shell {
    child: Child,
    commands: ChildStdin,
    printed: Receiver<String>,
}

impl Shell {
    /// Starts one in `folder`, with `tidegate` in its path and none of the caller's settings.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let home = folder.join(".home");
        std::fs::create_dir(&home)?;
        // On a terminal curl draws no progress over an answer; here it should not either. And no proxy stands before this machine.
        std::fs::write(home.join(".curlrc"), "silent\nshow-error\nnoproxy = \"*\"\n")?;
        let folder_of_binary = binary()?.parent().context("a binary is in a folder")?.to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = [folder_of_binary].into_iter().chain(std::env::split_paths(&path));
        let mut child = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .env_clear()
            .env("PATH", std::env::join_paths(paths)?)
            .env("HOME", &home)
            .envs([("LC_ALL", "C.UTF-8"), ("TZ", "UTC"), ("NO_COLOR", "1"), ("NO_PROXY", "*"), ("TERM", "dumb"), ("COLUMNS", "140")])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("bash")?;
        let commands = child.stdin.take().context("no stdin")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let (sender, printed) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                // Nobody listens once the shell is dropped.
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Ok(Self { child, commands, printed })
    }

    /// Runs a command to its end. What it sets stays set.
    ///
    /// # Errors
    /// If the shell ends or the command does not.
    pub(super) fn run(&mut self, command: &str) -> anyhow::Result<Outcome> {
        // In braces, so that it runs in this very shell but leaves the shell's own input alone; `$?` is the command's for the next one.
        let lines = format!("{{ {command}\n}} 2>&1 </dev/null; (status=$?; printf '\\n{END}%d{END}\\n' \"$status\"; exit \"$status\")\n");
        self.commands.write_all(lines.as_bytes()).context("the shell has ended")?;
        let mut printed: Vec<String> = Vec::new();
        loop {
            match self.printed.recv_timeout(PATIENCE) {
                Ok(line) => match line.strip_prefix(END).and_then(|rest| rest.strip_suffix(END)) {
                    Some(status) => return Ok(Outcome { printed: printed.join("\n"), status: status.parse()? }),
                    None => printed.push(line),
                },
                Err(RecvTimeoutError::Disconnected) => bail!("the shell ended in: {command}\n{}", printed.join("\n")),
                Err(RecvTimeoutError::Timeout) => bail!("no end of: {command}\n{}", printed.join("\n")),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // An error here means that all of it has ended already.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
