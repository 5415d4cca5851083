//! What the nodes have left to do: work of an operation that is done later is still its cost.
//!
//! A cluster is at rest when every node's engine backlog is back at its size of the start and the
//! node processes hardly use any CPU time beyond what their connections alone cost: idle ones are
//! kept alive, and thousands of them are work. The table may hold up to one generation more or less
//! than at the start; the report tells.

use std::time::Duration;

use anyhow::{Context as _, Result};
use quorate_client::Client;
use quorate_client::wire::NodeStatus;

use crate::clock::Clock;
use crate::process_usage::ProcessUsage;
use crate::stages::Stages;
use crate::usage;

/// Time between two looks while waiting for rest.
const POLL: Duration = Duration::from_millis(500);

/// For how long idle nodes are looked at.
const IDLE_TIME: Duration = Duration::from_secs(1);

/// At rest all nodes together use less than one part in this of one core beyond what they use idle.
const REST_PARTS: u32 = 10;

/// Tries to ask a node: a busy one may miss one answer.
const TRIES: u32 = 5;

/// The nodes of a cluster on this machine.
#[derive(Debug, Clone)]
pub struct Nodes {
    client: Client,
    clock: Clock,
    names: Vec<String>,
    is_profiled: bool,
    /// CPU time per second that all nodes use with nothing to do.
    idle: Duration,
}

/// The nodes at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// State of each node, in the order of the topology.
    pub statuses: Vec<NodeStatus>,
    /// CPU time of all node processes since their start.
    pub cpu: Duration,
}

/// How the wait for rest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// How long it took.
    pub waited: Duration,
    /// It was reached within the limit.
    pub is_reached: bool,
}

impl Nodes {
    /// All nodes of the client's topology.
    #[must_use]
    pub fn of(client: &Client, clock: Clock) -> Self {
        let topology = client.topology();
        let nodes = topology.ring().nodes().iter();
        Self {
            names: nodes.map(|node| node.name.to_string()).collect(),
            client: client.clone(),
            clock,
            is_profiled: false,
            idle: Duration::ZERO,
        }
    }

    /// The same nodes, with what they use while nothing is asked of them: now.
    ///
    /// # Errors
    /// If a node does not answer.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn with_idle_measured(self) -> Result<Self> {
        // What was just connected or started has its last words first.
        tokio::time::sleep(POLL).await;
        let (before, from) = (self.look().await?, self.clock.now());
        tokio::time::sleep(IDLE_TIME).await;
        let (after, until) = (self.look().await?, self.clock.now());
        let used = after.cpu.saturating_sub(before.cpu);
        let idle = used.div_f64((until - from).as_secs_f64());
        Ok(Self { idle, ..self })
    }

    /// The same nodes, whose stages are to be read.
    #[must_use]
    pub fn profiled(self) -> Self {
        Self {
            is_profiled: true,
            ..self
        }
    }

    /// What the stages of all nodes have used since their start; `None` if that is not asked for.
    ///
    /// # Errors
    /// If a node does not tell.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn stages(&self) -> Result<Option<Stages>> {
        Ok(if self.is_profiled {
            Some(Stages::look(&self.client).await?)
        } else {
            None
        })
    }

    /// Asks all nodes.
    ///
    /// # Errors
    /// If one does not answer, or is not on this machine.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn look(&self) -> Result<Snapshot> {
        let mut statuses = Vec::with_capacity(self.names.len());
        for name in &self.names {
            statuses.push(self.status(name).await?);
        }
        let mut cpu = Duration::ZERO;
        for status in &statuses {
            cpu += usage::cpu_of(status.pid)?;
        }
        Ok(Snapshot { statuses, cpu })
    }

    /// What each node process has used since its start, as of the processes in `snapshot`.
    ///
    /// # Errors
    /// If one is not on this machine.
    pub fn usage(&self, snapshot: &Snapshot) -> Result<Vec<ProcessUsage>> {
        let nodes = self.names.iter().zip(&snapshot.statuses);
        nodes
            .map(|(name, status)| ProcessUsage::of(name, status.pid))
            .collect()
    }

    async fn status(&self, name: &str) -> Result<NodeStatus> {
        let mut answer = self.client.status(name).await;
        for _ in 1..TRIES {
            if answer.is_ok() {
                break;
            }
            answer = self.client.status(name).await;
        }
        answer.context("every node must be up and answer `status`")
    }

    /// Waits until the cluster is at rest, with no more engine backlog than at `start`.
    ///
    /// # Errors
    /// If a node does not answer.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn wait_for_rest(&self, start: Option<&Snapshot>, limit: Duration) -> Result<Rest> {
        let begin = self.clock.now();
        let (mut before, mut asked) = (self.look().await?, begin);
        loop {
            tokio::time::sleep(POLL).await;
            let (snapshot, now) = (self.look().await?, self.clock.now());
            let used = snapshot.cpu.saturating_sub(before.cpu);
            let idle = self.idle.mul_f64((now - asked).as_secs_f64());
            let is_quiet = used.saturating_sub(idle) * REST_PARTS < now - asked;
            let waited = now - begin;
            let is_reached = is_quiet && snapshot.backlog_is_back(start);
            if is_reached || waited >= limit {
                return Ok(Rest { waited, is_reached });
            }
            (before, asked) = (snapshot, now);
        }
    }
}

impl Snapshot {
    /// Records that the engines do not have yet, over all nodes.
    #[must_use]
    pub fn table_records(&self) -> u64 {
        self.statuses
            .iter()
            .map(|status| status.table_records)
            .sum()
    }

    /// Engine backlog over all nodes.
    #[must_use]
    pub fn engine_backlog(&self) -> u64 {
        self.statuses
            .iter()
            .map(|status| status.engine_backlog)
            .sum()
    }

    /// Whether no node has more backlog than at `start`; without a start, more than none.
    fn backlog_is_back(&self, start: Option<&Self>) -> bool {
        let mut starts = start.into_iter().flat_map(|start| &start.statuses);
        self.statuses.iter().all(|status| {
            let allowed = starts.next().map_or(0, |start| start.engine_backlog);
            status.engine_backlog <= allowed
        })
    }
}
