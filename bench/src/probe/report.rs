//! How the probe's figures are told: `probe/v1`, `sync-probe/v1`, or lines for people.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::ProbeSpec;
use super::client::operation;
use super::sync::SyncSummary;
use crate::machine::Machine;
use crate::process_usage::ProcessUsage;
use crate::recorder::Recorder;
use crate::report::{Figure, LATENCIES, OfLatency, float, machine_json, machine_text, rounded};

/// What one run gave.
#[derive(Debug)]
pub(super) struct ProbeRun {
    pub(super) recorder: Recorder,
    /// From the first request sent to the last one answered.
    pub(super) elapsed: Duration,
    /// The longest time without an answer.
    pub(super) longest_stall: Duration,
    /// What the nodes, the coordinator first, and then the client used.
    pub(super) processes: Vec<ProcessUsage>,
}

/// Everything that is reported.
#[derive(Debug)]
pub struct ProbeReport {
    pub(super) spec: ProbeSpec,
    pub(super) runs: Vec<ProbeRun>,
}

type OfRun = fn(&ProbeRun) -> f64;

const FIGURES: [(&str, OfRun); 4] = [
    ("operations_per_second", ProbeRun::rate),
    ("cpu_us_per_operation", ProbeRun::cpu_us),
    ("cpu_us_per_operation_client", ProbeRun::cpu_us_of_client),
    ("longest_stall_ms", ProbeRun::longest_stall_ms),
];

impl ProbeRun {
    fn rate(&self) -> f64 {
        float(self.recorder.done()) / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn cpu_us(&self) -> f64 {
        let cpu: Duration = self.processes.iter().map(|process| process.cpu).sum();
        cpu.as_secs_f64() * 1e6 / float(self.recorder.done().max(1))
    }

    fn cpu_us_of_client(&self) -> f64 {
        let cpu = self.processes.last().map(|client| client.cpu);
        cpu.unwrap_or_default().as_secs_f64() * 1e6 / float(self.recorder.done().max(1))
    }

    fn longest_stall_ms(&self) -> f64 {
        self.longest_stall.as_secs_f64() * 1e3
    }
}

impl ProbeReport {
    /// The document `probe/v1`.
    #[must_use]
    pub fn json(&self) -> Value {
        let kind = operation(self.spec.mode).name();
        let mut case = json!({
            "mode": self.spec.mode.name(),
            "in_flight": self.spec.in_flight,
            "operations": self.runs.iter().map(|run| run.recorder.done()).sum::<u64>(),
        });
        for (name, figure) in FIGURES {
            case[name] = json!(Figure::of(self.runs.iter().map(figure)).map(Figure::json));
        }
        for (name, of) in LATENCIES {
            case[kind][name] = json!(self.latency(of).map(Figure::json));
        }
        case["runs"] = self.runs.iter().map(|run| self.run_json(run)).collect();
        json!({
            "schema": "probe/v1",
            "machine": machine_json(&Machine::look()),
            "nodes": super::NODES,
            "cases": [case],
        })
    }

    /// Lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write_text(&mut text)
            .expect("a string takes all that is written");
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        let (name, machine) = (self.spec.mode.name(), Machine::look());
        writeln!(
            text,
            "raw {name}, {} in flight, {}: {} runs, median (least .. greatest)",
            self.spec.in_flight,
            machine_text(&machine),
            self.runs.len(),
        )?;
        for (name, figure) in FIGURES {
            if let Some(Figure { median, min, max }) = Figure::of(self.runs.iter().map(figure)) {
                writeln!(text, "  {name:<33} {median:>10.1}  ({min:.1} .. {max:.1})")?;
            }
        }
        for (name, of) in LATENCIES {
            if let Some(Figure { median, min, max }) = self.latency(of) {
                writeln!(text, "  {name:<33} {median:>10.0}  ({min:.0} .. {max:.0})")?;
            }
        }
        Ok(())
    }

    fn latency(&self, of: OfLatency) -> Option<Figure> {
        let kind = operation(self.spec.mode);
        let runs = self.runs.iter();
        let latencies = runs.filter_map(|run| run.recorder.latency(kind));
        Figure::of(latencies.map(|latency| float(of(&latency))))
    }

    fn run_json(&self, run: &ProbeRun) -> Value {
        let kind = operation(self.spec.mode);
        let mut document = json!({
            "operations": run.recorder.done(),
            "seconds": rounded(run.elapsed.as_secs_f64()),
        });
        for (name, figure) in FIGURES {
            document[name] = json!(rounded(figure(run)));
        }
        if let Some(latency) = run.recorder.latency(kind) {
            for (name, of) in LATENCIES {
                document[kind.name()][name] = json!(of(&latency));
            }
        }
        document
    }
}

/// The document `sync-probe/v1`.
#[must_use]
pub fn sync_json(summary: &SyncSummary) -> Value {
    let mut document = json!({
        "schema": "sync-probe/v1",
        "machine": machine_json(&Machine::look()),
        "syncs": summary.syncs,
        "syncs_per_second": rounded(summary.rate()),
        "longest_stall_ms": summary.longest_ms(),
    });
    for (name, of) in LATENCIES {
        document[name] = json!(of(&summary.latency));
    }
    document
}

/// One line for people.
#[must_use]
pub fn sync_text(summary: &SyncSummary) -> String {
    let latency = summary.latency;
    format!(
        "{} syncs of 4 KiB, {:.0}/s, p50 {} us, p99 {} us, p99.9 {} us, longest {:.1} ms\n",
        summary.syncs,
        summary.rate(),
        latency.p50_us,
        latency.p99_us,
        latency.p999_us,
        summary.longest_ms(),
    )
}
