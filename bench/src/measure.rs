//! One case: warm-up, then runs that are measured, each from rest to rest.
//!
//! The CPU time of a run is that of all node processes and of the tool, from before its first
//! operation until the engines' backlog is back at its size of then. The warm-up has ended and come
//! to rest before the first run begins, so nothing of it is counted.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;

use crate::backlog::{Nodes, Rest};
use crate::clock::Clock;
use crate::closed_loop::{self, Phase, PhaseEnd};
use crate::process_usage::{ProcessUsage, loopback_bytes};
use crate::recorder::Recorder;
use crate::stages::Stages;
use crate::usage;
use crate::usage_report::RunUsage;
use crate::workload::Workload;

/// One combination of what is varied, and how it is measured.
#[derive(Debug, Clone)]
pub struct Case {
    /// Of 100 operations, how many are reads.
    pub reads_percent: u8,
    /// Operations under way.
    pub in_flight: u32,
    /// Operations before the first run; not counted.
    pub warmup: u64,
    /// Operations of one run.
    pub operations: u64,
    /// Runs.
    pub runs: u32,
    /// Longest time of one run.
    pub run_time_max: Duration,
    /// Longest wait for rest.
    pub rest_time_max: Duration,
}

/// What one run gave.
#[derive(Debug)]
pub struct Run {
    /// Counts and latencies.
    pub recorder: Recorder,
    /// From the first operation sent to the last one ended.
    pub elapsed: Duration,
    /// CPU time of all node processes.
    pub nodes_cpu: Duration,
    /// CPU time of this tool.
    pub client_cpu: Duration,
    /// Bytes that the machine's disks wrote meanwhile, whoever made them.
    pub disk_written_bytes: u64,
    /// How the wait for rest ended.
    pub rest: Rest,
    /// Engine backlog before and after, over all nodes.
    pub engine_backlog: (u64, u64),
    /// Records that the engines did not have yet, before and after, over all nodes.
    pub table_records: (u64, u64),
    /// Bytes of log that were still needed, after, over all nodes.
    pub log_bytes: u64,
    /// What the nodes' stages used, if they profile and were asked.
    pub stages: Option<Stages>,
    /// What each process used.
    pub usage: RunUsage,
}

/// Warms up and measures all runs of `case`.
///
/// # Errors
/// If a node does not answer or is not on this machine.
///
/// # Cancel safety
/// As [`closed_loop::run`].
pub async fn measure(
    workload: &Arc<Mutex<Workload>>,
    nodes: &Nodes,
    clock: Clock,
    case: &Case,
) -> Result<Vec<Run>> {
    let phase = |label: String, operations| Phase {
        label,
        operations,
        in_flight: case.in_flight,
        reads_percent: case.reads_percent,
        time_max: case.run_time_max,
    };
    let name = format!(
        "{} % reads, {} in flight",
        case.reads_percent, case.in_flight
    );
    let warmup = phase(format!("warm-up, {name}"), case.warmup);
    closed_loop::run(workload, clock, &warmup).await?;
    nodes.wait_for_rest(None, case.rest_time_max).await?;
    let mut runs = Vec::new();
    for number in 1..=case.runs {
        let phase = phase(format!("run {number}, {name}"), case.operations);
        let load = closed_loop::run(workload, clock, &phase);
        runs.push(from_rest_to_rest(nodes, case.rest_time_max, load).await?);
    }
    Ok(runs)
}

/// Measures `load` on a cluster that is at rest, until it is at rest again.
///
/// # Errors
/// Of the load; or if a node does not answer or is not on this machine.
///
/// # Cancel safety
/// As the load's.
pub async fn from_rest_to_rest(
    nodes: &Nodes,
    rest_time_max: Duration,
    load: impl Future<Output = Result<PhaseEnd>>,
) -> Result<Run> {
    let stages_before = nodes.stages().await?;
    let before = nodes.look().await?;
    let nodes_before = nodes.usage(&before)?;
    let disk_before = usage::disk_written_bytes();
    let loopback_before = loopback_bytes();
    let own_before = ProcessUsage::own("client")?;
    let end = load.await?;
    let client = ProcessUsage::own("client")?.since(&own_before);
    let loopback_bytes = loopback_bytes().saturating_sub(loopback_before);
    let rest = nodes.wait_for_rest(Some(&before), rest_time_max).await?;
    let after = nodes.look().await?;
    let stages = match (nodes.stages().await?, stages_before) {
        (Some(after), Some(before)) => Some(after.since(&before)?),
        (Some(_), None) | (None, _) => None,
    };
    let nodes_after = nodes.usage(&after)?;
    let used = nodes_after.iter().zip(&nodes_before);
    Ok(Run {
        recorder: end.recorder,
        elapsed: end.elapsed,
        nodes_cpu: after.cpu.saturating_sub(before.cpu),
        client_cpu: client.cpu,
        disk_written_bytes: usage::disk_written_bytes().saturating_sub(disk_before),
        rest,
        engine_backlog: (before.engine_backlog(), after.engine_backlog()),
        table_records: (before.table_records(), after.table_records()),
        log_bytes: after.statuses.iter().map(|status| status.log_bytes).sum(),
        stages,
        usage: RunUsage {
            nodes: used.map(|(after, before)| after.since(before)).collect(),
            client,
            loopback_bytes,
        },
    })
}

/// 1,000 writes in two seconds.
#[cfg(test)]
pub(crate) fn run_of_test() -> Run {
    use crate::recorder::{End, Kind};
    let mut recorder = Recorder::default();
    for _ in 0..1_000 {
        recorder.add(Kind::Write, End::Done, Duration::from_millis(2));
    }
    Run {
        recorder,
        elapsed: Duration::from_secs(2),
        nodes_cpu: Duration::from_millis(30),
        client_cpu: Duration::from_millis(10),
        disk_written_bytes: 1_000_000,
        rest: Rest {
            waited: Duration::from_secs(1),
            is_reached: true,
        },
        engine_backlog: (0, 0),
        table_records: (0, 3_000),
        log_bytes: 7,
        stages: None,
        usage: RunUsage::default(),
    }
}
