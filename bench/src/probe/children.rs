//! The node processes of the probe: this program again, with a hidden subcommand.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use super::certificates::Folders;
use super::{Mode, NODES};
use crate::process_usage::ProcessUsage;

/// The nodes; they end when this is dropped, and with this process.
#[derive(Debug)]
pub(super) struct Children {
    nodes: Vec<NodeChild>,
    coordinator: SocketAddr,
}

#[derive(Debug)]
struct NodeChild {
    process: Child,
    name: String,
}

impl Children {
    /// Starts all, the coordinator last: it dials the others.
    pub(super) fn start(folders: &Folders, mode: Mode) -> Result<Self> {
        let (mut nodes, mut peers) = (Vec::new(), Vec::new());
        for (number, folder) in folders.nodes.iter().enumerate().skip(1) {
            let (node, address) = NodeChild::start(folder, number, &[], mode)?;
            nodes.push(node);
            peers.push(address);
        }
        let folder = folders.nodes.first().context("the coordinator's folder")?;
        let (node, coordinator) = NodeChild::start(folder, 0, &peers, mode)?;
        nodes.insert(0, node);
        assert_eq!(nodes.len(), NODES, "as many folders as nodes");
        Ok(Self { nodes, coordinator })
    }

    /// Where the client connects.
    pub(super) fn coordinator(&self) -> SocketAddr {
        self.coordinator
    }

    /// What each has used since its start.
    pub(super) fn usage(&self) -> Result<Vec<ProcessUsage>> {
        let nodes = self.nodes.iter();
        nodes
            .map(|node| ProcessUsage::of(&node.name, node.process.id()))
            .collect()
    }
}

impl NodeChild {
    fn start(
        folder: &Path,
        number: usize,
        peers: &[SocketAddr],
        mode: Mode,
    ) -> Result<(Self, SocketAddr)> {
        let program = std::env::current_exe().context("the system does not say what runs")?;
        let mut command = Command::new(program);
        command
            .arg("node")
            .arg("--folder")
            .arg(folder)
            .args(["--number", &number.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if !peers.is_empty() {
            let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
            command.args(["--peers", &peers.join(",")]);
        }
        if mode == Mode::Read {
            command.arg("--no-sync");
        }
        let process = command
            .spawn()
            .context("cannot start a node of the probe")?;
        let name = format!("n{}", number + 1);
        let mut child = Self { process, name };
        let port = child.wait_until_ready()?;
        Ok((child, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
    }

    fn wait_until_ready(&mut self) -> Result<u16> {
        let output = self.process.stdout.take().context("its output is a pipe")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let port = line.trim().strip_prefix("ready ");
        port.and_then(|port| port.parse().ok())
            .with_context(|| format!("node {} of the probe did not start", self.name))
    }
}

impl Drop for NodeChild {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed, and is only reaped.
        let _killed = self.process.kill();
        let _reaped = self.process.wait();
    }
}
