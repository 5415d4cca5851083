//! The stages of a case in one table that adds up: all CPU time of its runs, per operation.
//!
//! Means over all runs, not medians: only means add up.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::{StageUse, Stages};
use crate::measure::Run;
use crate::report::{float, rounded};

/// One line.
struct Line {
    name: String,
    used: StageUse,
}

/// What all runs of a case used.
struct Sums {
    operations: f64,
    lines: Vec<Line>,
    cpu: Duration,
}

impl Sums {
    /// `None` if the runs were not profiled.
    fn of(runs: &[Run]) -> Option<Self> {
        let mut stages = Stages::default();
        for run in runs {
            stages.add(run.stages.as_ref()?);
        }
        if stages.stages.is_empty() {
            return None;
        }
        let sum = |of: fn(&Run) -> Duration| runs.iter().map(of).sum::<Duration>();
        let (nodes, client) = (sum(|run| run.nodes_cpu), sum(|run| run.client_cpu));
        let line = |name: &str, cpu, items| Line {
            name: name.to_owned(),
            used: StageUse { cpu, items },
        };
        let told = stages.cpu();
        let mut lines: Vec<Line> = stages
            .stages
            .into_iter()
            .map(|(name, used)| Line { name, used })
            .collect();
        // What the system says of the processes and their own counters do not: both are rounded.
        lines.push(line("not told", nodes.saturating_sub(told), 0));
        lines.push(line("client", client, 0));
        let operations: u64 = runs.iter().map(|run| run.recorder.done()).sum();
        Some(Self {
            operations: float(operations.max(1)),
            cpu: lines.iter().map(|line| line.used.cpu).sum(),
            lines,
        })
    }
}

impl Line {
    fn us_per_operation(&self, sums: &Sums) -> f64 {
        self.used.cpu.as_secs_f64() * 1e6 / sums.operations
    }

    fn percent(&self, sums: &Sums) -> f64 {
        100.0 * self.used.cpu.as_secs_f64() / sums.cpu.as_secs_f64().max(1e-9)
    }

    fn items_per_operation(&self, sums: &Sums) -> f64 {
        float(self.used.items) / sums.operations
    }

    /// `None` of a stage that counts none.
    fn ns_per_item(&self) -> Option<f64> {
        let items = float(self.used.items);
        (items > 0.0).then(|| self.used.cpu.as_secs_f64() * 1e9 / items)
    }
}

/// Adds the table of a case to `text`, if its runs were profiled.
///
/// # Errors
/// If `text` takes no more.
pub fn write_stages(text: &mut String, runs: &[Run]) -> std::fmt::Result {
    let Some(sums) = Sums::of(runs) else {
        return Ok(());
    };
    writeln!(
        text,
        "  {:<16} {:>10} {:>8} {:>10} {:>10}",
        "stage", "us/op", "%", "items/op", "ns/item"
    )?;
    for line in &sums.lines {
        let (us, percent) = (line.us_per_operation(&sums), line.percent(&sums));
        write!(text, "  {:<16} {us:>10.2} {percent:>8.1}", line.name)?;
        if let Some(ns) = line.ns_per_item() {
            let items = line.items_per_operation(&sums);
            write!(text, " {items:>10.2} {ns:>10.0}")?;
        }
        writeln!(text)?;
    }
    let us = sums.cpu.as_secs_f64() * 1e6 / sums.operations;
    writeln!(text, "  {:<16} {us:>10.2} {:>8.1}", "all", 100.0)
}

/// The same for programs; null if the runs were not profiled.
#[must_use]
pub fn stages_json(runs: &[Run]) -> Value {
    let Some(sums) = Sums::of(runs) else {
        return Value::Null;
    };
    let line = |line: &Line| {
        json!({
            "stage": line.name,
            "cpu_us_per_operation": rounded(line.us_per_operation(&sums)),
            "percent": rounded(line.percent(&sums)),
            "items_per_operation": rounded(line.items_per_operation(&sums)),
            "ns_per_item": line.ns_per_item().map(rounded),
        })
    };
    sums.lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::stages_of_test;
    use super::*;
    use crate::measure::run_of_test;

    #[test]
    fn the_lines_of_a_table_add_up() {
        let mut run = run_of_test();
        run.stages = Some(stages_of_test(&[
            ("core", 20_000, 2_000),
            ("runtime", 7_000, 0),
        ]));
        let runs = [run];
        let document = stages_json(&runs);
        let stages = document.as_array().expect("a list");
        let of = |key: &str| -> Vec<f64> {
            stages
                .iter()
                .filter_map(|stage| stage[key].as_f64())
                .collect()
        };
        // 1,000 operations; the system says 30 ms of the nodes and 10 ms of the client.
        assert_eq!(of("cpu_us_per_operation"), [20.0, 7.0, 3.0, 10.0]);
        assert_eq!(of("percent"), [50.0, 17.5, 7.5, 25.0]);
        assert_eq!(of("ns_per_item"), [10_000.0]);
        let mut text = String::new();
        write_stages(&mut text, &runs).expect("a string takes it");
        let last = text.lines().last().expect("a sum");
        assert!(last.contains("all") && last.contains("40.00"), "{text}");
    }

    #[test]
    fn runs_without_a_profile_have_no_table() {
        let runs = [run_of_test()];
        let mut text = String::new();
        write_stages(&mut text, &runs).expect("a string takes it");
        assert_eq!((text.as_str(), stages_json(&runs)), ("", Value::Null));
    }
}
