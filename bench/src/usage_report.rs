//! How what processes used is told: per operation by process and by thread, memory.
//!
//! What a run lacks that another has, such as a thread that began later, counts as nothing used.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::measure::Run;
use crate::process_usage::{ProcessUsage, threads_summed};
use crate::report::{Figure, float, rounded};

/// A group of figures and the member's name.
type Name = (&'static str, String);

const BY_PROCESS: &str = "cpu_us_per_operation_by_process";
const BY_NODE_THREAD: &str = "cpu_us_per_operation_by_node_thread";
const BY_CLIENT_THREAD: &str = "cpu_us_per_operation_by_client_thread";
const MEMORY: &str = "peak_memory_bytes";

/// What the processes of a run used, and what crossed the loopback device meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunUsage {
    /// Every node, in the order of the topology: from before the load until rest.
    pub nodes: Vec<ProcessUsage>,
    /// The tool, while it loaded.
    pub client: ProcessUsage,
    /// Bytes on the loopback device of the whole machine, while the tool loaded.
    pub loopback_bytes: u64,
}

/// The figures of one run by group and member.
fn figures(run: &Run) -> BTreeMap<Name, f64> {
    let operations = float(run.recorder.done().max(1));
    let RunUsage { nodes, client, .. } = &run.usage;
    let mut figures = BTreeMap::new();
    for process in nodes.iter().chain([client]) {
        let mut add = |group, value| figures.insert((group, process.name.clone()), value);
        add(BY_PROCESS, process.cpu.as_secs_f64() * 1e6 / operations);
        add(MEMORY, float(process.memory_peak_bytes));
    }
    let of_nodes = threads_summed(nodes).into_iter();
    let of_client = threads_summed([client]).into_iter();
    let threads = of_nodes
        .map(|thread| (BY_NODE_THREAD, thread))
        .chain(of_client.map(|thread| (BY_CLIENT_THREAD, thread)));
    for (group, (name, cpu)) in threads {
        let each = cpu.as_secs_f64() * 1e6 / operations;
        figures.insert((group, name.to_owned()), each);
    }
    figures
}

/// Over all runs, by group and member.
pub(crate) fn summed(runs: &[Run]) -> Vec<(Name, Figure)> {
    let each: Vec<_> = runs.iter().map(figures).collect();
    let mut names: Vec<&Name> = each.iter().flat_map(BTreeMap::keys).collect();
    names.sort_unstable();
    names.dedup();
    let figure = |name: &Name| {
        let values = each
            .iter()
            .map(|run| run.get(name).copied().unwrap_or_default());
        Figure::of(values).map(|figure| (name.clone(), figure))
    };
    names.into_iter().filter_map(figure).collect()
}

/// Puts the groups of all runs into a case's document.
pub(crate) fn put_summed(document: &mut Value, runs: &[Run]) {
    for ((group, name), figure) in summed(runs) {
        document[group][name] = figure.json();
    }
}

/// Puts the groups of one run into its document.
pub(crate) fn put_run(document: &mut Value, run: &Run) {
    for ((group, name), value) in figures(run) {
        document[group][name] = json!(rounded(value));
    }
}

/// As people read it: the group's label, the unit's divisor and how many digits behind the point.
pub(crate) fn label(group: &str) -> (&'static str, f64, usize) {
    match group {
        BY_PROCESS => ("cpu us, process", 1.0, 1),
        BY_NODE_THREAD => ("cpu us, node thread", 1.0, 2),
        BY_CLIENT_THREAD => ("cpu us, client thread", 1.0, 2),
        MEMORY => ("peak MiB,", 1_048_576.0, 0),
        _ => ("", 1.0, 1),
    }
}
