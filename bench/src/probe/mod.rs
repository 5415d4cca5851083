//! The raw probe: what a request costs on this machine with none of the store's logic.
//!
//! The processes are those of a write at `quorum` with N=3: a client, the node that coordinates,
//! and two more nodes. Between them are the product's sockets, certificates and transport settings,
//! one long-lived stream for each connection, and frames of a fixed length. A write carries a key
//! of 16 bytes and a value of 256; every node that gets it appends it to a file that was filled
//! with zeros before, 4 KiB at least, and syncs, on a thread of its own, all that waits at once.
//! The coordinator answers when two of three are done. Without syncs the probe is a read at
//! `quorum`: the coordinator asks one other node, which answers that it holds the same, and then
//! sends the value.
//!
//! So the difference to the product's figure at one request in flight is what the product adds.
//!
//! Not here: encoding, merging, records, an engine, admission, metrics. `sync` alone is the disk.

mod certificates;
mod children;
mod client;
mod committer;
mod file;
mod frames;
mod links;
mod node;
mod report;
pub mod sync;

use std::path::PathBuf;

use anyhow::Result;

use crate::clock::Clock;
use crate::process_usage::ProcessUsage;

use certificates::Folders;
use children::Children;
use client::ProbeClient;

pub use node::{NodeArgs, run as run_node};
pub use report::{ProbeReport, sync_json, sync_text};

/// Nodes of the probe.
const NODES: usize = 3;

/// What a request asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Synced by two of three nodes.
    Write,
    /// Answered by the coordinator and one other node; no file is touched.
    Read,
}

impl Mode {
    /// As it is reported.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// What is measured.
#[derive(Debug, Clone)]
pub struct ProbeSpec {
    /// What is asked.
    pub mode: Mode,
    /// Requests of one run.
    pub operations: u64,
    /// Requests under way.
    pub in_flight: u32,
    /// Runs.
    pub runs: u32,
    /// Folder in which the probe makes its own.
    pub data_parent: PathBuf,
}

/// Starts the nodes, measures all runs, and ends the nodes.
///
/// # Errors
/// If a node cannot be started, or breaks.
///
/// # Cancel safety
/// The nodes are ended.
pub async fn measure(spec: ProbeSpec, clock: Clock) -> Result<ProbeReport> {
    let folder = tempfile::Builder::new()
        .prefix("quorate-probe-")
        .tempdir_in(&spec.data_parent)?;
    let folders = Folders::make(folder.path())?;
    let children = Children::start(&folders, spec.mode)?;
    let coordinator = children.coordinator();
    let mut client = ProbeClient::connect(&folders, coordinator, spec.mode, clock).await?;
    client.run(spec.operations / 10, spec.in_flight).await?;
    let mut runs = Vec::new();
    for _ in 0..spec.runs {
        let (nodes, own) = (children.usage()?, ProcessUsage::own("client")?);
        let mut run = client.run(spec.operations, spec.in_flight).await?;
        let after = children.usage()?;
        let after = after.iter().zip(&nodes);
        run.processes = after.map(|(after, before)| after.since(before)).collect();
        run.processes.push(ProcessUsage::own("client")?.since(&own));
        runs.push(run);
    }
    client.close().await;
    Ok(ProbeReport { spec, runs })
}
