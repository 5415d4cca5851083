//! Which processors the nodes have and which the tool: a tool that asks for more than the nodes can
//! do must not take from them what they would do it with.
//!
//! Only the calling thread is placed; processes and threads that it starts from then on inherit its
//! place. The tools run on one thread.

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors of this process in two halves.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    nodes: CpuSet,
    tool: CpuSet,
}

impl Cores {
    /// Halves what there is; with one processor both halves are that one.
    ///
    /// # Errors
    /// If the system does not say which there are.
    pub fn split() -> Result<Self> {
        let all = sched_getaffinity(None).context("the system does not tell the processors")?;
        let present: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|cpu| all.is_set(*cpu))
            .collect();
        let (nodes, tool) = present.split_at(present.len() / 2);
        Ok(Self {
            nodes: set_of(if nodes.is_empty() { tool } else { nodes }),
            tool: set_of(tool),
        })
    }

    /// Processes that are started from now on run on the nodes' half.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn enter_nodes(&self) -> Result<()> {
        sched_setaffinity(None, &self.nodes).context("cannot choose the processors of the nodes")
    }

    /// This thread runs on the tool's half from now on.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn enter_tool(&self) -> Result<()> {
        sched_setaffinity(None, &self.tool).context("cannot choose the processors of the tool")
    }

    /// How many the nodes have, and how many the tool.
    #[must_use]
    pub fn counts(&self) -> (u32, u32) {
        (self.nodes.count(), self.tool.count())
    }
}

fn set_of(processors: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    processors.iter().for_each(|processor| set.set(*processor));
    set
}
