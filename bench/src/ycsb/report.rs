//! How the workloads are told: one table for people, one document of JSON for programs.
//!
//! The document, `ycsb/v1`: `machine`; `nodes`, `in_flight`, `seconds` of a run, `seed`, `record`
//! with `fields` and `field_bytes`; `workloads`, each with its letter, `shares` in percent, `keys`
//! and how they are drawn, `keyspace`, `n`, `records` and `load_seconds`; counts, figures and
//! latencies over its runs and of each, as in `load/v1`, by kind of operation; and `read_back` of
//! each run of F: `keys` that changed, those still with siblings that were `merged`, and
//! `failures`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{FIELD_BYTES, FIELDS, Letter, ReadBack};
use crate::fill::Filled;
use crate::machine::Machine;
use crate::measure::Run;
use crate::recorder::Kind;
use crate::report::{
    ClusterFacts, Figure, LATENCIES, failures, latency_figure, machine_json, machine_text, rounded,
    runs_json,
};

/// Everything that is reported.
#[derive(Debug)]
pub struct YcsbReport {
    /// Where it was measured.
    pub machine: Machine,
    /// Nodes of each cluster.
    pub nodes: u16,
    /// Operations under way at once.
    pub in_flight: u32,
    /// Seconds of a run.
    pub seconds: u64,
    /// What was drawn follows from it.
    pub seed: u64,
    /// The workloads.
    pub workloads: Vec<WorkloadReport>,
}

/// One workload.
#[derive(Debug)]
pub struct WorkloadReport {
    /// Which.
    pub letter: Letter,
    /// Its cluster and keyspace.
    pub cluster: ClusterFacts,
    /// What was loaded for it and those that share its records.
    pub filled: Filled,
    /// Its runs.
    pub runs: Vec<Run>,
    /// What reading back found after each, where it was done.
    pub read_backs: Vec<ReadBack>,
}

impl YcsbReport {
    /// Whether every operation was done and no answer was wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let is_clean = |workload: &WorkloadReport| {
            let mut runs = workload.runs.iter();
            runs.all(|run| run.recorder.failed() == 0)
                && workload.read_backs.iter().all(ReadBack::is_clean)
        };
        self.workloads.iter().all(is_clean)
    }

    /// The document `ycsb/v1`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "schema": "ycsb/v1",
            "machine": machine_json(&self.machine),
            "nodes": self.nodes,
            "in_flight": self.in_flight,
            "seconds": self.seconds,
            "seed": self.seed.to_string(),
            "record": { "fields": FIELDS, "field_bytes": FIELD_BYTES },
            "workloads": self.workloads.iter().map(WorkloadReport::json).collect::<Vec<_>>(),
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
        let runs = self.workloads.iter().map(|one| one.runs.len());
        writeln!(
            text,
            "{} nodes, records of {FIELDS} fields of {FIELD_BYTES} bytes, {} in flight, {} s, {}",
            self.nodes,
            self.in_flight,
            self.seconds,
            machine_text(&self.machine),
        )?;
        writeln!(
            text,
            "CPU in microseconds per operation, latencies in milliseconds; runs of each: {}, medians\n",
            runs.max().unwrap_or(0),
        )?;
        write_row(text, &HEADINGS.map(str::to_owned))?;
        for workload in &self.workloads {
            for row in workload.rows() {
                write_row(text, &row)?;
            }
        }
        for workload in &self.workloads {
            workload.write_remarks(text)?;
        }
        Ok(())
    }
}

/// Columns of the table: those of the workload, then those of each kind of its operations.
const HEADINGS: [&str; COLUMNS] = [
    "",
    "keyspace",
    "records",
    "ops/s",
    "CPU/op",
    "nodes",
    "client",
    "operation",
    "share",
    "p50",
    "p99",
    "p99.9",
    "max",
];
const COLUMNS: usize = 13;
const OF_WORKLOAD: usize = 7;
/// Width of each; names stand on the left.
const WIDTHS: [usize; COLUMNS] = [1, 8, 9, 9, 8, 8, 8, 17, 6, 9, 9, 9, 9];

type Row = [String; COLUMNS];

fn write_row(text: &mut String, row: &Row) -> std::fmt::Result {
    for ((cell, width), heading) in row.iter().zip(WIDTHS).zip(HEADINGS) {
        match heading {
            "" | "keyspace" | "operation" => write!(text, "{cell:<width$} ")?,
            _ => write!(text, "{cell:>width$} ")?,
        }
    }
    text.truncate(text.trim_end_matches(' ').len());
    writeln!(text)
}

impl WorkloadReport {
    /// One row for each kind of operation; the first also tells of the workload.
    fn rows(&self) -> Vec<Row> {
        let mut of_workload = self.cells();
        let shares = self.letter.definition().shares.iter();
        let row = |(kind, share): &(Kind, u8)| {
            let mut row = Row::default();
            let latencies = LATENCIES.map(|(_, of)| {
                let figure = latency_figure(&self.runs, *kind, of);
                figure.map_or_else(String::new, |us| format!("{:.2}", us.median / 1e3))
            });
            let of_kind = [kind.name().to_owned(), format!("{share} %")];
            let of_kind = of_kind.into_iter().chain(latencies);
            let cells = std::mem::take(&mut of_workload).into_iter().chain(of_kind);
            for (cell, value) in row.iter_mut().zip(cells) {
                *cell = value;
            }
            row
        };
        shares.map(row).collect()
    }

    fn cells(&self) -> [String; OF_WORKLOAD] {
        let figure = |of: fn(&Run) -> f64, digits: usize| {
            let figure = Figure::of(self.runs.iter().map(of));
            figure.map_or_else(String::new, |figure| format!("{:.digits$}", figure.median))
        };
        [
            self.letter.name().to_owned(),
            self.cluster.keyspace.clone(),
            self.filled.keys.to_string(),
            figure(Run::rate, 0),
            figure(Run::cpu_us, 1),
            figure(Run::cpu_us_of_nodes, 1),
            figure(Run::cpu_us_of_client, 1),
        ]
    }

    /// What a reader of the table must know besides.
    fn write_remarks(&self, text: &mut String) -> std::fmt::Result {
        let letter = self.letter.name();
        for (failure, count) in failures(&self.runs) {
            writeln!(text, "{letter}: failed: {failure}: {count}")?;
        }
        for ReadBack {
            keys,
            merged,
            recorder,
        } in &self.read_backs
        {
            writeln!(
                text,
                "{letter}: {} of {keys} changed keys hold one value with every acknowledged \
                 change; {merged} still had siblings after the run",
                recorder.done(),
            )?;
            for ((_, end), count) in recorder.failures() {
                writeln!(text, "{letter}: read back: {end:?}: {count}")?;
            }
        }
        let early = self.runs.iter().filter(|run| run.engine_backlog.0 > 0);
        let early = early.count();
        if early > 0 {
            writeln!(
                text,
                "{letter}: {early} runs began before the engines were at rest; their cost is in part \
                 that of what was before"
            )?;
        }
        let restless = self.runs.iter().filter(|run| !run.rest.is_reached).count();
        if restless > 0 {
            writeln!(
                text,
                "{letter}: {restless} runs did not come to rest in time; their cost is not whole"
            )?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let definition = self.letter.definition();
        let shares = definition.shares.iter();
        let shares = shares.map(|(kind, share)| (kind.name().to_owned(), json!(share)));
        let mut document = runs_json(&self.runs);
        document["workload"] = json!(self.letter.name());
        document["shares"] = Value::Object(shares.collect());
        document["keys"] = json!(definition.keys.name());
        document["keyspace"] = json!(self.cluster.keyspace);
        document["n"] = json!(self.cluster.copies);
        document["records"] = json!(self.filled.keys);
        document["load_seconds"] = json!(rounded(self.filled.elapsed.as_secs_f64()));
        if !self.read_backs.is_empty() {
            let read_backs = self.read_backs.iter().map(read_back_json);
            document["read_back"] = read_backs.collect();
        }
        document
    }
}

fn read_back_json(found: &ReadBack) -> Value {
    json!({
        "keys": found.keys,
        "merged": found.merged,
        "failures": found.keys.saturating_sub(found.recorder.done()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backlog::Rest;
    use crate::recorder::{End, Recorder};
    use crate::usage_report::RunUsage;

    #[test]
    fn the_table_has_a_row_for_each_kind_and_the_remarks_tell_what_is_wrong() {
        let report = report(End::Done);
        assert!(report.is_clean());
        let text = report.text();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let head = [
            "F", "default", "20", "500", "40.0", "30.0", "10.0", "read", "50", "%",
        ];
        assert_eq!(rows[4][..10], head, "{text}");
        assert_eq!(rows[5][..3], ["read_modify_write", "50", "%"], "{text}");
        let stale = self::report(End::Stale);
        assert!(!stale.is_clean());
        let text = stale.text();
        assert!(text.contains("F: failed: read stale: 1"), "{text}");
    }

    #[test]
    fn the_document_has_shares_figures_and_latencies() {
        let json = report(End::Done).json();
        assert_eq!(json["schema"], "ycsb/v1");
        let workload = &json["workloads"][0];
        assert_eq!(workload["shares"]["read_modify_write"], 50);
        assert_eq!(workload["cpu_us_per_operation"]["median"], 40.0);
        assert!(workload["read"]["p50_us"]["median"].as_f64() > Some(0.0));
        assert_eq!(workload["read_back"][0]["merged"], 2);
    }

    /// A thousand operations of F in two seconds, the last of which ended so.
    fn report(last: End) -> YcsbReport {
        let mut recorder = Recorder::default();
        for _ in 0..500 {
            recorder.add(Kind::Read, End::Done, Duration::from_millis(1));
        }
        for _ in 0..499 {
            recorder.add(Kind::ReadModifyWrite, End::Done, Duration::from_millis(2));
        }
        recorder.add(Kind::Read, last, Duration::from_millis(1));
        let run = Run {
            recorder,
            elapsed: Duration::from_secs(2),
            nodes_cpu: Duration::from_millis(30),
            client_cpu: Duration::from_millis(10),
            disk_written_bytes: 0,
            rest: Rest {
                waited: Duration::from_secs(1),
                is_reached: true,
            },
            engine_backlog: (0, 0),
            table_records: (0, 0),
            log_bytes: 0,
            stages: None,
            usage: RunUsage::default(),
        };
        let mut recorder = Recorder::default();
        for _ in 0..7 {
            recorder.add(Kind::Read, End::Done, Duration::from_millis(1));
        }
        YcsbReport {
            machine: Machine::look(),
            nodes: 3,
            in_flight: 64,
            seconds: 2,
            seed: 1,
            workloads: vec![WorkloadReport {
                letter: Letter::F,
                cluster: ClusterFacts {
                    nodes: 3,
                    keyspace: "default".to_owned(),
                    copies: 3,
                },
                filled: Filled {
                    written: 20,
                    keys: 20,
                    elapsed: Duration::from_secs(1),
                },
                runs: vec![run],
                read_backs: vec![ReadBack {
                    keys: 7,
                    merged: 2,
                    recorder,
                }],
            }],
        }
    }
}
