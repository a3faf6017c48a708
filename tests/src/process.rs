//! The real binary as a child process: started on a port of the system's choice, stopped politely or killed, started again on the same directory.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a start, or a stop, may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where cargo has put the binary: beside the test's own.
///
/// # Errors
/// If it has not been built.
pub fn binary() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.ancestors().skip(1).map(|folder| folder.join("tidegate")).find(|path| path.is_file());
    path.context("the binary `tidegate` is not beside the tests: build it with `cargo build --release -p tidegate-server`")
}

/// A running node. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    address: SocketAddr,
    output: Output,
    readers: Vec<JoinHandle<()>>,
}

/// What a child has said so far, stdout and stderr as they came.
#[derive(Debug, Clone, Default)]
struct Output(Arc<Mutex<Vec<String>>>);

impl Output {
    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Reads `from` to its end on a thread of its own, so that the child never waits for a reader.
    fn follow(&self, from: impl Read + Send + 'static, lines: mpsc::Sender<String>) -> JoinHandle<()> {
        let all = Arc::clone(&self.0);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                all.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
                // Nobody listens once the address is known.
                let _ = lines.send(line);
            }
        })
    }
}

impl Process {
    /// Starts a node on `data` and waits until it takes requests.
    ///
    /// # Errors
    /// If it ends, or says nothing of its address, before it is ready; with what it has said.
    pub fn start(data: &Path) -> anyhow::Result<Self> {
        Self::start_with(data, &[])
    }

    /// The same, with more arguments.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_with(data: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        Self::start_in(data, arguments, &[])
    }

    /// The same, with more environment.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_in(data: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut command = Command::new(binary()?);
        command.envs(environment.iter().copied());
        command.arg("serve").arg("--data-dir").arg(data).args(["--listen", "127.0.0.1:0"]).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let output = Output::default();
        let (sender, lines) = mpsc::channel();
        let readers = vec![
            output.follow(child.stdout.take().context("no stdout")?, sender.clone()),
            output.follow(child.stderr.take().context("no stderr")?, sender),
        ];
        // Channel and child end together, so a node that refuses to start is noticed at once.
        let address = loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    if let Some(address) = address_in(&line) {
                        break address;
                    }
                }
                Err(_) => {
                    let _ = child.kill();
                    let status = child.wait()?;
                    bail!("the node did not start ({status}); it said:\n{}", output.text());
                }
            }
        };
        let process = Self { child, address, output, readers };
        process.wait_ready()?;
        Ok(process)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        self.output.text()
    }

    /// Ends it as a crash would (`kill -9`), and waits until it is gone.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop (SIGTERM).
    ///
    /// # Errors
    /// The system's.
    pub fn terminate(&self) -> anyhow::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::TERM)?)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// If that takes longer than a minute.
    pub fn wait(mut self) -> anyhow::Result<(ExitStatus, String)> {
        let status = wait_for_end(&mut self.child).with_context(|| format!("it said:\n{}", self.output.text()))?;
        // What it said last may not have been read yet.
        join(self.readers.drain(..));
        Ok((status, self.output.text()))
    }

    fn wait_ready(&self) -> anyhow::Result<()> {
        for _ in 0..PATIENCE.as_millis() / POLL.as_millis() {
            match crate::http::get(self.address, "/readyz") {
                Ok(answer) if answer.status == 200 => return Ok(()),
                _ => std::thread::sleep(POLL),
            }
        }
        bail!("the node at {} is not ready; it said:\n{}", self.address, self.said());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error here means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing tells a parent that a child's port answers or that a child is gone within a time, so these two are asked for again and again.
const POLL: Duration = Duration::from_millis(10);

fn wait_for_end(child: &mut Child) -> anyhow::Result<ExitStatus> {
    for _ in 0..PATIENCE.as_millis() / POLL.as_millis() {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(POLL);
    }
    let _ = child.kill();
    bail!("the process did not end in time")
}

/// Runs the binary to its end: exit code, stdout, stderr.
///
/// # Errors
/// If it cannot be run or does not end within a minute.
pub fn run(arguments: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
    let mut child = Command::new(binary()?).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (sender, _lines) = mpsc::channel();
    let (out, err) = (Output::default(), Output::default());
    let readers = [
        out.follow(child.stdout.take().context("no stdout")?, sender.clone()),
        err.follow(child.stderr.take().context("no stderr")?, sender),
    ];
    let status = wait_for_end(&mut child)?;
    join(readers);
    Ok((status.code(), out.text(), err.text()))
}

/// Waits until all that a child has said is read; it has ended.
fn join(readers: impl IntoIterator<Item = JoinHandle<()>>) {
    for reader in readers {
        // One that panicked has read what it could.
        let _ = reader.join();
    }
}

/// The first `http://host:port` in a line with a port that can be connected to.
fn address_in(line: &str) -> Option<SocketAddr> {
    let after = line.split("http://").nth(1)?;
    let end = after.find(|c: char| !(c.is_ascii_digit() || ".:[]".contains(c))).unwrap_or(after.len());
    after[..end].parse().ok().filter(|address: &SocketAddr| address.port() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A promise: the address is found whatever stands around it.
    #[test]
    fn addresses_are_found() {
        assert_eq!(address_in("  listening on http://127.0.0.1:4711/docs, data"), "127.0.0.1:4711".parse().ok());
        assert_eq!(address_in("http://127.0.0.1:0"), None);
        assert_eq!(address_in("nothing here"), None);
    }
}
