//! Others, where this machine has them: `nats-server` (JetStream) and `nginx`. Nothing is installed; who is not there is passed over with a word.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::load::{Connection, Protocol};

/// A peer as a child process. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Peer {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `nats-server` with a stream on files that takes the subject `bench`; `None` if it is not installed.
    pub(crate) async fn nats() -> anyhow::Result<Option<Self>> {
        let Some(program) = find("nats-server") else { return Ok(None) };
        let (folder, address) = (tempfile::tempdir()?, free_address()?);
        let child = Command::new(program)
            .args(["-js", "-a", "127.0.0.1", "-p", &address.port().to_string(), "-sd"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let peer = Self { child, address, _folder: folder };
        peer.wait().await?;
        let mut stream = TcpStream::connect(address).await?;
        let config = r#"{"name":"bench","subjects":["bench"],"storage":"file","num_replicas":1}"#;
        let create =
            format!("CONNECT {{\"verbose\":false}}\r\nSUB made 1\r\nPUB $JS.API.STREAM.CREATE.bench made {}\r\n{config}\r\n", config.len());
        stream.write_all(create.as_bytes()).await?;
        let mut said = Vec::new();
        while !said.windows(13).any(|word| word == b"\"stream_creat") && !said.windows(8).any(|word| word == b"\"created") {
            ensure!(tokio::time::timeout(PATIENCE, stream.read_buf(&mut said)).await?? > 0, "nats-server hung up");
            if said.windows(7).any(|word| word == b"\"error\"") {
                bail!("nats-server says {}", String::from_utf8_lossy(&said));
            }
        }
        Ok(Some(peer))
    }

    /// `nginx` with one worker that gives `page` out by `sendfile`; `None` if it is not installed.
    pub(crate) async fn nginx(page: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some(program) = find("nginx") else { return Ok(None) };
        let (folder, address) = (tempfile::tempdir()?, free_address()?);
        let root = folder.path().display();
        fs::write(folder.path().join("page"), page)?;
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {root}/pid; error_log stderr;
             events {{ worker_connections 1024; }}
             http {{ access_log off; sendfile on; tcp_nopush on; sendfile_max_chunk 2m; keepalive_requests 1000000000;
                client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;
                server {{ listen {address}; root {root}; }} }}"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config)?;
        let child =
            Command::new(program).arg("-p").arg(folder.path()).arg("-c").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let peer = Self { child, address, _folder: folder };
        peer.wait().await?;
        Ok(Some(peer))
    }

    /// Until it takes connections: nothing tells, so it is asked.
    async fn wait(&self) -> anyhow::Result<()> {
        let mut tries = 0;
        loop {
            match Connection::open(self.address, Protocol::Http).await {
                Ok(_) => return Ok(()),
                Err(error) if tries == 500 => return Err(error).context("a peer did not start"),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
            tries += 1;
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

impl Drop for Peer {
    fn drop(&mut self) {
        // An error here means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a program is: in `PATH`, or where Debian puts servers.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|file| Path::is_file(file))
}

/// A port that is free now. Neither peer says which one the system chose for it.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
