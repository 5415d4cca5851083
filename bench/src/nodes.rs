//! What a scenario does to the node processes of this machine, and their memory.

use anyhow::{Context as _, Result};
use quorate_client::Client;
use rustix::process::{Pid, Signal, kill_process};

use crate::usage::{Memory, memory_of};

/// A node's process.
#[derive(Debug, Clone)]
pub struct NodeProcess {
    /// Name of the node.
    pub name: String,
    pid: u32,
}

impl NodeProcess {
    /// The processes of all nodes of a cluster on this machine.
    ///
    /// # Errors
    /// If a node does not answer.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn of(client: &Client) -> Result<Vec<Self>> {
        let topology = client.topology();
        let mut processes = Vec::new();
        for node in topology.ring().nodes() {
            let status = client.status(&node.name.to_string()).await;
            let status = status.with_context(|| format!("node {} does not answer", node.name))?;
            processes.push(Self {
                name: node.name.to_string(),
                pid: status.pid,
            });
        }
        Ok(processes)
    }

    /// SIGSTOP: it does nothing until [`Self::go_on`].
    ///
    /// # Errors
    /// If it does not run.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// If it does not run.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("a process has an id")?, signal)?)
    }

    /// Its memory.
    ///
    /// # Errors
    /// If it does not run.
    pub fn memory(&self) -> Result<Memory> {
        memory_of(self.pid)
    }
}
