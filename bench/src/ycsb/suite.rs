//! All workloads that are asked for, one set of records after another.
//!
//! Each set has a cluster of its own, which is started, loaded, and stopped when its last workload
//! is measured. Workloads that share a set run in their order on what the ones before left.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use quorate_client::Client;
use quorate_client::config::ClientConfig;

use super::{
    Data, DataSet, DataSpec, Letter, Mix, WorkloadReport, YcsbArgs, YcsbReport, read_back,
};
use crate::backlog::Nodes;
use crate::clients;
use crate::clock::Clock;
use crate::closed_loop::{LoopLimits, drive};
use crate::fill::{Filled, fill};
use crate::machine::Machine;
use crate::measure::{Run, from_rest_to_rest};
use crate::report::ClusterFacts;
use crate::spawn::{SpawnedCluster, binary_beside};

/// Operations under way while records are loaded.
const FILL_IN_FLIGHT: u32 = 256;

/// Measures every workload that `args` asks for.
///
/// # Errors
/// If a cluster does not start, records cannot be loaded, or a node does not answer.
///
/// # Cancel safety
/// The cluster is stopped.
pub async fn measure_all(args: &YcsbArgs, clock: Clock) -> Result<YcsbReport> {
    let mut workloads = Vec::new();
    for data in DataSet::ALL {
        let letters = args.letters_of(data);
        if !letters.is_empty() {
            workloads.extend(measure_set(args, data, &letters, clock).await?);
        }
    }
    Ok(YcsbReport {
        machine: Machine::look(),
        nodes: args.spawn,
        in_flight: args.in_flight,
        seconds: args.seconds,
        seed: args.seed,
        workloads,
    })
}

async fn measure_set(
    args: &YcsbArgs,
    data: DataSet,
    letters: &[Letter],
    clock: Clock,
) -> Result<Vec<WorkloadReport>> {
    let binary = args.binary.clone().map_or_else(binary_beside, Ok)?;
    let parent: PathBuf = args.data_parent.clone().unwrap_or_else(std::env::temp_dir);
    let cluster = SpawnedCluster::start(&binary, args.spawn, &parent, clock).await?;
    let config = ClientConfig::read(cluster.client_file())?;
    let in_flight = usize::try_from(args.in_flight)?;
    let client = clients::client(&config, in_flight).await?;
    let measured = measure_letters(args, data, letters, &client, clock).await;
    client.close().await;
    measured
}

async fn measure_letters(
    args: &YcsbArgs,
    data: DataSet,
    letters: &[Letter],
    client: &Client,
    clock: Clock,
) -> Result<Vec<WorkloadReport>> {
    let name = data.keyspace();
    let mode = client.topology().mode(name);
    let records = Arc::new(Mutex::new(Data::new(DataSpec {
        keyspace: client.keyspace(name),
        mode: mode.with_context(|| format!("there is no keyspace `{name}`"))?,
        records: args.records_of(data),
        seed: args.seed,
    })));
    let filled = fill(&records, clock, FILL_IN_FLIGHT).await?;
    let set = Set {
        args,
        data,
        records,
        filled,
        cluster: ClusterFacts::of(&client.topology(), name),
        nodes: Nodes::of(client, clock),
        clock,
    };
    let mut reports = Vec::new();
    for letter in letters {
        reports.push(set.measure(*letter).await?);
    }
    Ok(reports)
}

/// A loaded set of records.
struct Set<'a> {
    args: &'a YcsbArgs,
    data: DataSet,
    records: Arc<Mutex<Data>>,
    filled: Filled,
    cluster: ClusterFacts,
    nodes: Nodes,
    clock: Clock,
}

impl Set<'_> {
    async fn measure(&self, letter: Letter) -> Result<WorkloadReport> {
        let (mut runs, mut read_backs) = (Vec::new(), Vec::new());
        for number in 1..=self.args.runs {
            runs.push(self.run(letter, number).await?);
            if self.data == DataSet::Siblings {
                read_backs.push(read_back(&self.records, self.clock).await?);
            }
        }
        Ok(WorkloadReport {
            letter,
            cluster: self.cluster.clone(),
            filled: self.filled,
            runs,
            read_backs,
        })
    }

    async fn run(&self, letter: Letter, number: u32) -> Result<Run> {
        let rest_time_max = Duration::from_secs(self.args.rest_seconds_max);
        self.nodes.wait_for_rest(None, rest_time_max).await?;
        let mix = Mix::new(letter.definition(), Arc::clone(&self.records));
        let limits = LoopLimits {
            label: format!("{}, run {number}", letter.name()),
            operations: None,
            in_flight: self.args.in_flight,
            time_max: Duration::from_secs(self.args.seconds),
        };
        let load = drive(Arc::new(mix), self.clock, limits);
        from_rest_to_rest(&self.nodes, rest_time_max, load).await
    }
}
