//! Quorate and other systems beside each other: `compare/v1`, or a table for people.
//!
//! Rounds are compared one by one, so that what the machine does meanwhile falls on all: a ratio is
//! that of one round, and of all rounds the median with the least and the greatest.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::PeerRun;
use crate::measure::Run;
use crate::recorder::{Kind, Recorder};
use crate::report::Figure;
use crate::workload::WorkloadSpec;

/// What Quorate promised.
const PROMISES: &str = "three copies, on disk on a quorum before the answer; \
                        concurrent writes kept apart, every node takes writes, TLS 1.3 on every link";

/// A run of any system.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Measured {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
    client_cpu_us: f64,
}

/// One system over all rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    name: String,
    promises: String,
    rounds: Vec<Measured>,
}

/// What was compared.
#[derive(Debug)]
pub struct Comparison {
    /// Keys and values.
    pub spec: WorkloadSpec,
    /// Writes under way.
    pub in_flight: u32,
    /// Writes of a round.
    pub operations: u64,
    /// Quorate.
    pub own: Column,
    /// The others.
    pub others: Vec<Column>,
    /// Why a system is not among them, as sentences.
    pub skipped: Vec<String>,
}

impl Column {
    /// Quorate's, from its runs.
    #[must_use]
    pub fn own(runs: &[Run]) -> Self {
        let round =
            |run: &Run| Measured::of(&run.recorder, run.elapsed, run.nodes_cpu, run.client_cpu);
        Self::new("quorate", PROMISES, runs.iter().map(round).collect())
    }

    /// Another system's.
    #[must_use]
    pub fn other(name: &str, promises: &str, runs: &[PeerRun]) -> Self {
        let round = |run: &PeerRun| {
            Measured::of(&run.recorder, run.elapsed, run.system_cpu, run.client_cpu)
        };
        Self::new(name, promises, runs.iter().map(round).collect())
    }

    fn new(name: &str, promises: &str, rounds: Vec<Measured>) -> Self {
        Self {
            name: name.to_owned(),
            promises: promises.to_owned(),
            rounds,
        }
    }

    fn figure(&self, of: fn(&Measured) -> f64) -> Option<Figure> {
        Figure::of(self.rounds.iter().map(of))
    }

    fn json(&self) -> Value {
        let figures = FIGURES.map(|(name, of)| (name, self.figure(of)));
        let figure = |(name, figure): (&str, Option<Figure>)| {
            (name.to_owned(), json!(figure.map(Figure::json)))
        };
        let figures: serde_json::Map<String, Value> = figures.map(figure).into_iter().collect();
        json!({ "name": self.name, "promises": self.promises, "figures": figures })
    }
}

type OfMeasured = fn(&Measured) -> f64;

const FIGURES: [(&str, OfMeasured); 5] = [
    ("writes_per_second", |m| m.rate),
    ("p50_us", |m| m.p50_us),
    ("p99_us", |m| m.p99_us),
    ("cpu_us_per_write", |m| m.cpu_us),
    ("cpu_us_per_write_client", |m| m.client_cpu_us),
];

impl Measured {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and microseconds stay below 2^52"
    )]
    fn of(recorder: &Recorder, elapsed: Duration, system: Duration, client: Duration) -> Self {
        let writes = recorder.done().max(1) as f64;
        let latency = recorder.latency(Kind::Write);
        let us = |of: fn(&crate::recorder::Latency) -> u64| {
            latency.as_ref().map_or(0.0, |latency| of(latency) as f64)
        };
        Self {
            rate: writes / elapsed.as_secs_f64().max(1e-9),
            p50_us: us(|latency| latency.p50_us),
            p99_us: us(|latency| latency.p99_us),
            cpu_us: (system + client).as_secs_f64() * 1e6 / writes,
            client_cpu_us: client.as_secs_f64() * 1e6 / writes,
        }
    }
}

impl Comparison {
    /// How many times the CPU of `other` a write of Quorate costs, round by round.
    fn cost_ratio(&self, other: &Column) -> Option<Figure> {
        let rounds = self.own.rounds.iter().zip(&other.rounds);
        Figure::of(rounds.map(|(own, other)| own.cpu_us / other.cpu_us.max(1e-9)))
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let others = self.others.iter().map(|other| {
            let mut document = other.json();
            document["cost_ratio"] = json!(self.cost_ratio(other).map(Figure::json));
            document
        });
        json!({
            "schema": "compare/v1",
            "keys": self.spec.keys,
            "value_bytes": self.spec.value_bytes,
            "distribution": self.spec.distribution.name(),
            "in_flight": self.in_flight,
            "writes_per_round": self.operations,
            "rounds": self.own.rounds.len(),
            "quorate": self.own.json(),
            "others": others.collect::<Vec<_>>(),
            "skipped": self.skipped,
        })
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let written = self.write_text(&mut text);
        written.expect("a string takes all that is written");
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        writeln!(
            text,
            "writes of {} bytes to {} keys ({}), {} in flight, {} a round: {} rounds, median (least .. greatest)",
            self.spec.value_bytes,
            self.spec.keys,
            self.spec.distribution.name(),
            self.in_flight,
            self.operations,
            self.own.rounds.len(),
        )?;
        let columns = || std::iter::once(&self.own).chain(&self.others);
        for column in columns() {
            writeln!(text, "\n{}: {}", column.name, column.promises)?;
            for (name, of) in FIGURES {
                if let Some(Figure { median, min, max }) = column.figure(of) {
                    writeln!(text, "  {name:<25} {median:>10.1}  ({min:.1} .. {max:.1})")?;
                }
            }
        }
        writeln!(text)?;
        for other in &self.others {
            if let Some(Figure { median, min, max }) = self.cost_ratio(other) {
                let name = &other.name;
                writeln!(
                    text,
                    "a write costs {median:.2} ({min:.2} .. {max:.2}) times the CPU that one of {name} costs"
                )?;
            }
        }
        for skipped in &self.skipped {
            writeln!(text, "{skipped}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Distribution;
    use quorate_client::Level;

    fn column(name: &str, cpu_us: &[f64]) -> Column {
        let round = |cpu_us: &f64| Measured {
            rate: 1_000.0,
            p50_us: 1.0,
            p99_us: 2.0,
            cpu_us: *cpu_us,
            client_cpu_us: 1.0,
        };
        Column {
            name: name.to_owned(),
            promises: "something".to_owned(),
            rounds: cpu_us.iter().map(round).collect(),
        }
    }

    #[test]
    fn ratios_are_those_of_rounds() {
        let comparison = Comparison {
            spec: WorkloadSpec {
                keys: 10,
                value_bytes: 256,
                distribution: Distribution::Zipf,
                level: Level::Quorum,
                deadline: Duration::from_secs(2),
                seed: 1,
            },
            in_flight: 256,
            operations: 100,
            own: column("quorate", &[20.0, 40.0, 30.0]),
            others: vec![column("redis", &[10.0, 20.0, 30.0])],
            skipped: vec!["etcd is not installed".to_owned()],
        };
        let ratio = &comparison.json()["others"][0]["cost_ratio"];
        assert_eq!(
            (&ratio["median"], &ratio["min"]),
            (&json!(2.0), &json!(1.0))
        );
        let text = comparison.text();
        assert!(text.contains("costs 2.00 (1.00 .. 2.00) times"), "{text}");
        assert!(text.contains("etcd is not installed"), "{text}");
    }
}
