//! A cluster of the tool's own: `quorate dev` in a folder that is removed afterwards.
//!
//! Its output goes into files of the folder, so that nothing waits for a reader. It is stopped when
//! the value is dropped; its nodes end with it.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::clock::Clock;

/// Time for the cluster to be ready.
const READY_TIME_MAX: Duration = Duration::from_secs(60);

/// Time for it to stop in order before it is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(15);

/// Time between two looks.
const POLL: Duration = Duration::from_millis(50);

/// Ports above a base that a cluster may use: QUIC, HTTP and RESP of up to 99 nodes.
const PORTS_OF_NODE: [u16; 3] = [0, 100, 200];

/// Bases are tried from here in steps of [`BASE_STEP`], below the ports that systems give out.
const BASE_FIRST: u16 = 11_000;
const BASE_STEP: u16 = 300;
const BASE_LAST: u16 = 32_000;

/// A running `quorate dev`.
#[derive(Debug)]
pub struct SpawnedCluster {
    process: Child,
    folder: TempDir,
    clock: Clock,
}

impl SpawnedCluster {
    /// Starts `nodes` nodes, with their data in a new folder inside `parent`, and waits until all
    /// count for reads.
    ///
    /// # Errors
    /// If the binary is not there or the cluster is not ready within a minute; what it said is in
    /// the error.
    ///
    /// # Cancel safety
    /// The cluster is stopped.
    pub async fn start(binary: &Path, nodes: u16, parent: &Path, clock: Clock) -> Result<Self> {
        Self::start_with(binary, nodes, parent, &[], clock).await
    }

    /// The same, with `settings` of the nodes as variables of their environment.
    ///
    /// # Errors
    /// As of [`Self::start`].
    ///
    /// # Cancel safety
    /// The cluster is stopped.
    pub async fn start_with(
        binary: &Path,
        nodes: u16,
        parent: &Path,
        settings: &[(&str, &str)],
        clock: Clock,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("quorate-load-")
            .tempdir_in(parent)?;
        let base = free_base(nodes)?;
        let process = Command::new(binary)
            .envs(settings.iter().copied())
            .arg("dev")
            .args(["--nodes", &nodes.to_string()])
            .args(["--base-port", &base.to_string()])
            .arg("--data-dir")
            .arg(folder.path().join("cluster"))
            .stdin(Stdio::null())
            .stdout(output_file(&folder.path().join("out"))?)
            .stderr(output_file(&folder.path().join("err"))?)
            .spawn()
            .with_context(|| {
                let binary = binary.display();
                format!("cannot run {binary}; build it, or name it with --binary")
            })?;
        let mut cluster = Self {
            process,
            folder,
            clock,
        };
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    /// The file by which clients reach it.
    #[must_use]
    pub fn client_file(&self) -> PathBuf {
        self.folder.path().join("cluster/client.toml")
    }

    /// Folder of the node of this name.
    #[must_use]
    pub fn node_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("cluster/node{name}"))
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let give_up = self.clock.now() + READY_TIME_MAX;
        loop {
            if self
                .said("out")
                .lines()
                .any(|line| line.starts_with("ready"))
            {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("`quorate dev` ended with {status}: {}", self.said("err"));
            }
            if self.clock.now() >= give_up {
                let said = self.said("err");
                bail!("the cluster was not ready within {READY_TIME_MAX:?}: {said}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn said(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    /// Asks it to stop, and kills it if it does not in time.
    fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw);
        kill_process(pid.context("a process has an id")?, Signal::TERM)?;
        let give_up = self.clock.now() + STOP_TIME_MAX;
        while self.process.try_wait()?.is_none() {
            if self.clock.now() >= give_up {
                self.process.kill()?;
            }
            pause();
        }
        Ok(())
    }
}

impl Drop for SpawnedCluster {
    fn drop(&mut self) {
        // Without an order to stop it is killed; its nodes end with it.
        if self.stop().is_err() {
            let _killed = self.process.kill();
            let _reaped = self.process.wait();
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a tool waits for another process to end, outside of any runtime"
)]
fn pause() {
    std::thread::sleep(POLL);
}

#[expect(
    clippy::disallowed_types,
    reason = "the output of another process goes to a file of this tool"
)]
fn output_file(path: &Path) -> Result<Stdio> {
    Ok(std::fs::File::create(path)?.into())
}

/// A base whose ports were all free a moment ago.
fn free_base(nodes: u16) -> Result<u16> {
    // Tools that start at once look in different places first.
    let first = BASE_FIRST + u16::try_from(std::process::id() % 64).unwrap_or(0) * BASE_STEP;
    let bases = (first..=BASE_LAST).chain(BASE_FIRST..first);
    for base in bases.step_by(usize::from(BASE_STEP)) {
        let ports = (1..=nodes).flat_map(|node| PORTS_OF_NODE.map(|offset| base + offset + node));
        if ports.into_iter().all(is_free) {
            return Ok(base);
        }
    }
    bail!("no free ports between {BASE_FIRST} and {BASE_LAST}")
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
}

/// The binary beside this one.
///
/// # Errors
/// If the system does not say where this one is.
pub fn binary_beside() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the system does not say where this tool is")?;
    Ok(own.with_file_name("quorate"))
}
