//! The report: one document `load/v1`, or a table for people.
//!
//! Of each figure the median of the runs, with the least and the greatest. Figures of a run whose
//! operations failed are reported like the others, with the failures beside them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quorate_client::Topology;
use serde_json::{Value, json};

use crate::fill::Filled;
use crate::machine::Machine;
use crate::measure::{Case, Run};
use crate::recorder::{Kind, Latency};
use crate::stages::{stages_json, write_stages};
use crate::usage_report;
use crate::workload::WorkloadSpec;

/// Everything that is reported.
#[derive(Debug)]
pub struct Report {
    /// Where it was measured.
    pub machine: Machine,
    /// The cluster.
    pub cluster: ClusterFacts,
    /// Connections of the tool to each node.
    pub connections: u32,
    /// What was asked.
    pub spec: WorkloadSpec,
    /// What the fill did, if there was one.
    pub filled: Option<Filled>,
    /// The cases with their runs.
    pub cases: Vec<(Case, Vec<Run>)>,
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Number of nodes.
    pub nodes: usize,
    /// Name of the keyspace.
    pub keyspace: String,
    /// N of the keyspace; 0 if the topology does not have it.
    pub copies: u8,
}

impl ClusterFacts {
    /// What `topology` says.
    #[must_use]
    pub fn of(topology: &Topology, keyspace: &str) -> Self {
        let info = topology.info();
        let found = info.keyspaces.iter().find(|k| k.name == keyspace);
        Self {
            nodes: info.nodes.len(),
            keyspace: keyspace.to_owned(),
            copies: found.map_or(0, |keyspace| keyspace.copies),
        }
    }
}

/// Median, least and greatest of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Figure {
    /// Of `values`; `None` if there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            min,
            max,
        })
    }

    /// For programs.
    #[must_use]
    pub fn json(self) -> Value {
        let Self { median, min, max } = self;
        json!({"median": rounded(median), "min": rounded(min), "max": rounded(max)})
    }
}

/// To a hundredth.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and microseconds stay below 2^52"
)]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

impl Run {
    /// Operations that ended as they should, per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        float(self.recorder.done()) / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// CPU microseconds per operation, over all node processes and the client.
    #[must_use]
    pub fn cpu_us(&self) -> f64 {
        self.cpu_us_of_client() + self.cpu_us_of_nodes()
    }

    /// CPU microseconds per operation of the client.
    #[must_use]
    pub fn cpu_us_of_client(&self) -> f64 {
        self.client_cpu.as_secs_f64() * 1e6 / self.operations()
    }

    /// CPU microseconds per operation over all node processes.
    #[must_use]
    pub fn cpu_us_of_nodes(&self) -> f64 {
        self.nodes_cpu.as_secs_f64() * 1e6 / self.operations()
    }

    fn disk_bytes(&self) -> f64 {
        float(self.disk_written_bytes) / self.operations()
    }

    fn loopback_bytes(&self) -> f64 {
        float(self.usage.loopback_bytes) / self.operations()
    }

    /// At least 1, so that a run in which everything failed has figures.
    fn operations(&self) -> f64 {
        float(self.recorder.done().max(1))
    }
}

type OfRun = fn(&Run) -> f64;
pub(crate) type OfLatency = fn(&Latency) -> u64;

/// The figures of a run that are summed up over runs, besides latencies.
const FIGURES: [(&str, OfRun); 6] = [
    ("operations_per_second", Run::rate),
    ("cpu_us_per_operation", Run::cpu_us),
    ("cpu_us_per_operation_nodes", Run::cpu_us_of_nodes),
    ("cpu_us_per_operation_client", Run::cpu_us_of_client),
    ("machine_disk_bytes_per_operation", Run::disk_bytes),
    ("loopback_bytes_per_operation", Run::loopback_bytes),
];

/// The latencies, in the order of the report.
pub(crate) const LATENCIES: [(&str, OfLatency); 4] = [
    ("p50_us", |latency| latency.p50_us),
    ("p99_us", |latency| latency.p99_us),
    ("p999_us", |latency| latency.p999_us),
    ("max_us", |latency| latency.max_us),
];

impl Report {
    /// The document `load/v1`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "schema": "load/v1",
            "machine": machine_json(&self.machine),
            "cluster": {
                "nodes": self.cluster.nodes,
                "keyspace": self.cluster.keyspace,
                "n": self.cluster.copies,
            },
            "loop": "closed",
            "connections_per_node": self.connections,
            "keys": self.spec.keys,
            "value_bytes": self.spec.value_bytes,
            "distribution": self.spec.distribution.name(),
            "level": self.spec.level.to_string(),
            "deadline_ms": u64::try_from(self.spec.deadline.as_millis()).unwrap_or(u64::MAX),
            "seed": self.spec.seed.to_string(),
            "fill": self.filled.map(|filled| json!({
                "keys": filled.keys,
                "written": filled.written,
                "seconds": rounded(filled.elapsed.as_secs_f64()),
            })),
            "cases": self.cases.iter().map(|(case, runs)| case_json(case, runs)).collect::<Vec<_>>(),
        })
    }

    /// A table for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let written = self.write_text(&mut text);
        written.expect("a string takes all that is written");
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        let (machine, cluster, spec) = (&self.machine, &self.cluster, &self.spec);
        writeln!(
            text,
            "{} nodes, N={}, connections to each {}, {} keys ({}), {} bytes, level {}, {}",
            cluster.nodes,
            cluster.copies,
            self.connections,
            spec.keys,
            spec.distribution.name(),
            spec.value_bytes,
            spec.level,
            machine_text(machine),
        )?;
        if let Some(filled) = self.filled {
            let seconds = filled.elapsed.as_secs_f64();
            let (written, keys) = (filled.written, filled.keys);
            let rate = float(keys) / seconds.max(0.001);
            writeln!(
                text,
                "fill: {written} of {keys} keys written, {seconds:.1} s, {rate:.0} keys/s"
            )?;
        }
        for (case, runs) in &self.cases {
            write_case(text, case, runs)?;
        }
        Ok(())
    }
}

/// Machine and source, for programs.
pub(crate) fn machine_json(machine: &Machine) -> Value {
    let Machine {
        cores,
        processor,
        memory_bytes,
        kernel,
        commit,
        build,
    } = machine;
    json!({
        "cores": cores,
        "processor": processor,
        "memory_bytes": memory_bytes,
        "kernel": kernel,
        "commit": commit,
        "build": build,
    })
}

/// Machine and source in one line.
pub(crate) fn machine_text(machine: &Machine) -> String {
    let commit = match machine.commit.as_str() {
        "" => "unknown",
        commit => commit,
    };
    let (cores, build) = (machine.cores, machine.build);
    format!("{cores} cores, commit {commit} ({build})")
}

fn write_case(text: &mut String, case: &Case, runs: &[Run]) -> std::fmt::Result {
    writeln!(
        text,
        "\n{} % reads, {} in flight: {} runs, median (least .. greatest)",
        case.reads_percent,
        case.in_flight,
        runs.len()
    )?;
    for (name, figure) in FIGURES {
        if let Some(Figure { median, min, max }) = Figure::of(runs.iter().map(figure)) {
            writeln!(text, "  {name:<33} {median:>10.1}  ({min:.1} .. {max:.1})")?;
        }
    }
    write_stages(text, runs)?;
    for kind in Kind::ALL {
        for (name, latency) in LATENCIES {
            if let Some(Figure { median, min, max }) = latency_figure(runs, kind, latency) {
                let name = format!("{} {name}", kind.name());
                writeln!(text, "  {name:<33} {median:>10.0}  ({min:.0} .. {max:.0})")?;
            }
        }
    }
    write_usage(text, runs)?;
    for (failure, count) in failures(runs) {
        writeln!(text, "  failed: {failure}: {count}")?;
    }
    let restless = runs.iter().filter(|run| !run.rest.is_reached).count();
    if restless > 0 {
        writeln!(
            text,
            "  {restless} runs did not come to rest in time; their cost is not whole"
        )?;
    }
    Ok(())
}

fn write_usage(text: &mut String, runs: &[Run]) -> std::fmt::Result {
    for ((group, name), Figure { median, min, max }) in usage_report::summed(runs) {
        let (label, unit, digits) = usage_report::label(group);
        // Threads that had nothing to do are in the document only.
        if max == 0.0 {
            continue;
        }
        let name = format!("{label} {name}");
        let [median, min, max] = [median, min, max].map(|value| value / unit);
        writeln!(
            text,
            "  {name:<33} {median:>10.digits$}  ({min:.digits$} .. {max:.digits$})"
        )?;
    }
    Ok(())
}

pub(crate) fn latency_figure(runs: &[Run], kind: Kind, of: OfLatency) -> Option<Figure> {
    let latencies = runs.iter().filter_map(|run| run.recorder.latency(kind));
    Figure::of(latencies.map(|latency| float(of(&latency))))
}

/// Failures of all runs, by what is reported of them.
pub(crate) fn failures(runs: &[Run]) -> BTreeMap<String, u64> {
    let mut failures = BTreeMap::new();
    for run in runs {
        for ((kind, end), count) in run.recorder.failures() {
            if let Some((outcome, code)) = end.failure() {
                let code = code.map_or_else(String::new, |code| format!(" {code}"));
                let name = format!("{} {outcome}{code}", kind.name());
                *failures.entry(name).or_default() += count;
            }
        }
    }
    failures
}

fn case_json(case: &Case, runs: &[Run]) -> Value {
    let mut document = runs_json(runs);
    document["reads_percent"] = json!(case.reads_percent);
    document["in_flight"] = json!(case.in_flight);
    document["warmup_operations"] = json!(case.warmup);
    document
}

/// Counts, figures and latencies over all runs of a case, and of each run.
pub(crate) fn runs_json(runs: &[Run]) -> Value {
    let mut document = json!({
        "operations": runs.iter().map(|run| run.recorder.done()).sum::<u64>(),
        "failed": runs.iter().map(|run| run.recorder.failed()).sum::<u64>(),
        "failures": failures(runs),
    });
    for (name, figure) in FIGURES {
        document[name] = json!(Figure::of(runs.iter().map(figure)).map(Figure::json));
    }
    for kind in Kind::ALL {
        for (name, latency) in LATENCIES {
            if let Some(figure) = latency_figure(runs, kind, latency) {
                document[kind.name()][name] = figure.json();
            }
        }
    }
    document["stages"] = stages_json(runs);
    usage_report::put_summed(&mut document, runs);
    document["runs"] = runs.iter().map(run_json).collect();
    document
}

fn run_json(run: &Run) -> Value {
    let mut document = json!({
        "operations": run.recorder.done(),
        "failed": run.recorder.failed(),
        "seconds": rounded(run.elapsed.as_secs_f64()),
        "rest_seconds": rounded(run.rest.waited.as_secs_f64()),
        "rest_reached": run.rest.is_reached,
        "engine_backlog": [run.engine_backlog.0, run.engine_backlog.1],
        "table_records": [run.table_records.0, run.table_records.1],
        "log_bytes": run.log_bytes,
    });
    for (name, figure) in FIGURES {
        document[name] = json!(rounded(figure(run)));
    }
    usage_report::put_run(&mut document, run);
    for kind in Kind::ALL {
        if let Some(latency) = run.recorder.latency(kind) {
            for (name, of) in LATENCIES {
                document[kind.name()][name] = json!(of(&latency));
            }
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_client::{Code, Level};

    use super::*;
    use crate::keys::Distribution;
    use crate::measure::run_of_test;
    use crate::process_usage::ProcessUsage;
    use crate::recorder::End;
    use crate::usage_report::RunUsage;

    #[test]
    fn a_figure_is_the_median_with_its_bounds() {
        let figure = |values: &[f64]| Figure::of(values.iter().copied());
        assert_eq!(figure(&[]), None);
        let want = |median, min, max| Some(Figure { median, min, max });
        assert_eq!(figure(&[3.0, 1.0, 2.0]), want(2.0, 1.0, 3.0));
        assert_eq!(figure(&[4.0, 1.0]), want(2.5, 1.0, 4.0));
    }

    #[test]
    fn the_report_has_cost_latency_and_failures() {
        let report = report();
        let json = report.json();
        assert_eq!(json["schema"], "load/v1");
        let case = &json["cases"][0];
        assert_eq!(case["cpu_us_per_operation"]["median"], 40.0);
        assert_eq!(case["cpu_us_per_operation_client"]["median"], 10.0);
        assert_eq!(case["operations_per_second"]["median"], 500.0);
        assert_eq!(case["failures"]["write unknown QUORUM_NOT_REACHED"], 1);
        assert!(case["write"]["p50_us"]["median"].as_f64() > Some(0.0));
        assert!(case["read"].is_null());
        assert_eq!(
            case["cpu_us_per_operation_by_process"]["n1"]["median"],
            30.0
        );
        assert_eq!(
            case["cpu_us_per_operation_by_node_thread"]["log-commit"]["median"],
            20.0
        );
        assert_eq!(case["peak_memory_bytes"]["n1"]["max"], 1_048_576.0);
        assert_eq!(case["loopback_bytes_per_operation"]["median"], 3.0);
        assert_eq!(
            case["runs"][0]["cpu_us_per_operation_by_process"]["n1"],
            30.0
        );
        let text = report.text();
        assert!(
            text.contains("failed: write unknown QUORUM_NOT_REACHED: 1"),
            "{text}"
        );
        assert!(text.contains("cpu us, node thread log-commit"), "{text}");
    }

    fn usage() -> RunUsage {
        let n1 = ProcessUsage {
            name: "n1".to_owned(),
            cpu: Duration::from_millis(30),
            threads: [("log-commit".to_owned(), Duration::from_millis(20))].into(),
            memory_peak_bytes: 1 << 20,
        };
        RunUsage {
            nodes: vec![n1],
            client: ProcessUsage::default(),
            loopback_bytes: 3_000,
        }
    }

    fn report() -> Report {
        let mut run = run_of_test();
        let unknown = End::Unknown(Code::QuorumNotReached);
        run.recorder
            .add(Kind::Write, unknown, Duration::from_secs(2));
        run.usage = usage();
        let case = Case {
            reads_percent: 0,
            in_flight: 64,
            warmup: 0,
            operations: 1_001,
            runs: 1,
            run_time_max: Duration::from_secs(9),
            rest_time_max: Duration::from_secs(9),
        };
        Report {
            machine: Machine::look(),
            cluster: ClusterFacts {
                nodes: 3,
                keyspace: "default".to_owned(),
                copies: 3,
            },
            connections: 1,
            spec: WorkloadSpec {
                keys: 10,
                value_bytes: 256,
                distribution: Distribution::Uniform,
                level: Level::Quorum,
                deadline: Duration::from_secs(2),
                seed: 1,
            },
            filled: None,
            cases: vec![(case, vec![run])],
        }
    }
}
