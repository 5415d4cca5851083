//! A cluster made by `cluster create`, whose nodes are `quorate serve` processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use quorate_client::Client;
use serde_json::Value;
use tempfile::TempDir;

use super::http::http_get;
use super::memory::Memory;
use super::ports::free_base;
use super::process::{NodeProcess, quorate};
use super::wait::until;

/// Names of the nodes of a usual cluster, in order.
pub const NODE_NAMES: [&str; 3] = ["a", "b", "c"];
/// Names of those of the largest.
const ALL_NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A node's HTTP port is its QUIC port plus this.
const HTTP_PORT_OFFSET: u16 = 100;

/// Time for all nodes to count for reads after their start.
const COUNTING_TIME_MAX: Duration = Duration::from_secs(60);

/// Nodes in a temporary folder, three unless more are wanted; ended and removed when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// Before the folder, so that processes end before their files go.
    nodes: Vec<Option<NodeProcess>>,
    base: u16,
    folder: TempDir,
}

impl Cluster {
    /// Makes the files of a cluster; starts nothing.
    ///
    /// # Errors
    /// If `cluster create` fails.
    pub fn create() -> Result<Self> {
        Self::create_of(NODE_NAMES.len())
    }

    /// Makes a cluster of up to five nodes and runs it: keyspaces have three copies.
    ///
    /// # Errors
    /// If a node does not start.
    pub fn run_of(nodes: usize) -> Result<Self> {
        let mut cluster = Self::create_of(nodes)?;
        cluster.start_all()?;
        Ok(cluster)
    }

    fn create_of(nodes: usize) -> Result<Self> {
        let names = ALL_NAMES.get(..nodes).context("five nodes at most")?;
        let folder = tempfile::tempdir()?;
        let base = free_base(u16::try_from(nodes)?)?;
        let mut command = quorate(["cluster", "create", "--out"])?;
        command.arg(folder.path().join("cluster"));
        for (name, port) in names.iter().zip(base + 1..) {
            command.args(["--node", &format!("{name}=127.0.0.1:{port}")]);
        }
        command.args(["--keyspace", "default", "--keyspace", "lww,mode=lww"]);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`cluster create` failed: {said}");
        Ok(Self {
            nodes: names.iter().map(|_| None).collect(),
            base,
            folder,
        })
    }

    /// Makes a cluster and runs it: every node counts for reads.
    ///
    /// # Errors
    /// If a node does not start.
    pub fn run() -> Result<Self> {
        let mut cluster = Self::create()?;
        cluster.start_all()?;
        Ok(cluster)
    }

    /// Starts every node that does not run, and waits until all count for reads.
    ///
    /// # Errors
    /// If one does not within a minute; what it said is in the error.
    pub fn start_all(&mut self) -> Result<()> {
        for node in 0..self.nodes.len() {
            if self.node(node)?.is_none() {
                self.start(node)?;
            }
        }
        self.wait_until_counting()
    }

    /// Starts one node, without waiting for it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&mut self, node: usize) -> Result<()> {
        self.start_with(node, [])
    }

    /// Starts one node with further arguments of `quorate serve`, without waiting for it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_with<'a>(
        &mut self,
        node: usize,
        more: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        let process = NodeProcess::start(&self.node_folder(node)?, more)?;
        *self.node(node)? = Some(process);
        Ok(())
    }

    /// Waits until all nodes count for all that they own.
    ///
    /// # Errors
    /// If they do not within a minute, or one ends; what it said is in the error.
    pub fn wait_until_counting(&mut self) -> Result<()> {
        let base = self.base;
        for ((node, port), name) in self.nodes.iter_mut().zip(base + 1..).zip(ALL_NAMES) {
            let process = node
                .as_mut()
                .with_context(|| format!("node {name} was not started"))?;
            let counts = until(COUNTING_TIME_MAX, "a node counts for reads", || {
                if let Some(status) = process.ended()? {
                    bail!("node {name} ended with {status}");
                }
                Ok(counts(port + HTTP_PORT_OFFSET).then_some(()))
            });
            counts.with_context(|| format!("node {name} said:\n{}", process.said()))?;
        }
        Ok(())
    }

    /// HTTP ports of all nodes.
    pub fn http_ports(&self) -> impl Iterator<Item = u16> + use<> {
        let first = self.base + 1 + HTTP_PORT_OFFSET;
        (first..).take(self.nodes.len())
    }

    /// Memory of a node that runs.
    ///
    /// # Errors
    /// If it does not run.
    pub fn memory(&mut self, node: usize) -> Result<Memory> {
        let process = self.node(node)?.as_ref();
        Memory::of(process.context("the node does not run")?.id())
    }

    /// Kills these nodes at once, as `kill -9` does, and waits until they are gone.
    ///
    /// # Errors
    /// If one does not run or does not go.
    pub fn kill(&mut self, nodes: &[usize]) -> Result<()> {
        for node in nodes {
            self.node(*node)?
                .as_mut()
                .context("the node does not run")?
                .kill()?;
        }
        for node in nodes {
            if let Some(mut process) = self.node(*node)?.take() {
                process.reap()?;
            }
        }
        Ok(())
    }

    /// The place of a node's process.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn node(&mut self, node: usize) -> Result<&mut Option<NodeProcess>> {
        self.nodes.get_mut(node).context("there is no such node")
    }

    /// The folder of a node's `quorate.toml`.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn node_folder(&self, node: usize) -> Result<PathBuf> {
        let name = ALL_NAMES.get(node).context("there is no such node")?;
        Ok(self.path().join(name))
    }

    /// The folder that `cluster create` wrote.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    /// A folder for files of the test, which is removed with the cluster.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// Node i (from 0) listens for QUIC on this port plus i.
    #[must_use]
    pub const fn first_port(&self) -> u16 {
        self.base + 1
    }

    /// A command of the binary, with this cluster's admin as its client.
    ///
    /// # Errors
    /// If there is no binary.
    pub fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Command> {
        let mut command = quorate(arguments)?;
        command.env("QUORATE_CLIENT", self.client_file());
        Ok(command)
    }

    /// A client with the admin's certificate.
    ///
    /// # Errors
    /// If no node answers.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::from_file(self.client_file()).await?)
    }

    /// The admin's client file.
    #[must_use]
    pub fn client_file(&self) -> PathBuf {
        self.path().join("client.toml")
    }

    /// Writes that were applied, as the running nodes count them since their start.
    #[must_use]
    pub fn puts_applied(&self) -> u64 {
        let ports = self
            .nodes
            .iter()
            .zip(self.base + 1..)
            .filter(|(node, _)| node.is_some());
        ports
            .filter_map(|(_, port)| puts_applied(port + HTTP_PORT_OFFSET).ok())
            .sum()
    }
}

/// Whether the node at this HTTP port counts for all that it owns.
fn counts(http_port: u16) -> bool {
    let answer = http_get(http_port, "/readyz")
        .ok()
        .filter(|answer| answer.status == 200);
    let body = answer.and_then(|answer| serde_json::from_str::<Value>(&answer.body).ok());
    body.is_some_and(|body| body["counts"] == true)
}

fn puts_applied(http_port: u16) -> Result<u64> {
    let metrics = http_get(http_port, "/metrics")?.body;
    let is_wanted = |line: &&str| {
        line.starts_with("quorate_requests_total{")
            && line.contains("op=\"put\"")
            && line.contains("outcome=\"ok\"")
    };
    let value = metrics
        .lines()
        .find(is_wanted)
        .and_then(|line| line.rsplit(' ').next());
    Ok(value.context("the metric is missing")?.parse()?)
}
