//! What one seed, or many, showed: for people, and for whoever must replay a failure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::plan::Fault;

/// What one run showed.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What the seed drew.
    pub plan: String,
    /// Everything that was wrong; empty = passed.
    pub problems: Vec<String>,
    /// Hash over the trace, and how many events it had.
    pub trace: (u64, u64),
    /// Simulated time.
    pub simulated: Duration,
    /// Operations that clients asked.
    pub operations: u64,
    /// Of these: applied or read, failed, unknown.
    pub outcomes: [u64; 3],
    /// Operations of the quiet phase, and how many of them succeeded.
    pub quiet: (u64, u64),
    /// Faults that took effect and states that were reached.
    pub counters: BTreeMap<&'static str, u64>,
    /// The newest lines of the trace, if something was wrong.
    pub recent: Vec<String>,
}

impl Report {
    /// Whether nothing was wrong.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }

    /// What a person needs to look into a failure.
    #[must_use]
    pub fn failure(&self, options: &str) -> String {
        let mut text = format!("seed {} FAILED: {}\n", self.seed, self.plan);
        // Writing to a string cannot fail.
        for problem in self.problems.iter().take(12) {
            writeln!(text, "  {problem}").unwrap_or_default();
        }
        if self.problems.len() > 12 {
            writeln!(text, "  .. and {} more", self.problems.len() - 12).unwrap_or_default();
        }
        for line in &self.recent {
            writeln!(text, "    {line}").unwrap_or_default();
        }
        let seed = self.seed;
        writeln!(
            text,
            "  replay: cargo run --profile sim -p quorate-tests --bin sim -- --seed {seed}{options}"
        )
        .unwrap_or_default();
        text
    }
}

/// Sums over many runs.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Runs.
    pub seeds: u64,
    /// Runs with a problem.
    pub failed: Vec<u64>,
    /// Simulated time of all.
    pub simulated: Duration,
    /// Operations of all.
    pub operations: u64,
    /// Applied or read, failed, unknown.
    pub outcomes: [u64; 3],
    /// Counters of all, and in how many runs each was above zero.
    pub counters: BTreeMap<&'static str, (u64, u64)>,
}

impl Totals {
    /// Adds a run.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        if !report.passed() {
            self.failed.push(report.seed);
        }
        self.simulated += report.simulated;
        self.operations += report.operations;
        for (sum, one) in self.outcomes.iter_mut().zip(report.outcomes) {
            *sum += one;
        }
        for (name, count) in &report.counters {
            let (sum, runs) = self.counters.entry(name).or_default();
            *sum += count;
            *runs += 1;
        }
    }

    /// The summary of a range of seeds.
    #[must_use]
    pub fn summary(&self, wall: Duration) -> String {
        let mut text = format!(
            "{} seeds, {} failed, {:.1} s wall time, {:.2} simulated hours, {} operations (ok {}, failed {}, unknown {})\n",
            self.seeds,
            self.failed.len(),
            wall.as_secs_f64(),
            self.simulated.as_secs_f64() / 3600.0,
            self.operations,
            self.outcomes[0],
            self.outcomes[1],
            self.outcomes[2],
        );
        let minutes = wall.as_secs_f64() / 60.0;
        writeln!(
            text,
            "{:.0} seeds per wall minute",
            to_float(self.seeds) / minutes.max(1e-9)
        )
        .unwrap_or_default();
        let counter = |name: &str| self.counters.get(name).copied().unwrap_or((0, 0));
        text.push_str("faults that took effect (times, seeds):\n");
        for fault in Fault::ALL {
            let (times, runs) = counter(fault.counter());
            writeln!(text, "  {:<28} {times:>9} {runs:>6}", fault.counter()).unwrap_or_default();
        }
        text.push_str("states reached (times, seeds):\n");
        let states = self
            .counters
            .iter()
            .filter(|(name, _)| !name.starts_with("fault."));
        for (name, (times, runs)) in states {
            writeln!(text, "  {name:<44} {times:>9} {runs:>6}").unwrap_or_default();
        }
        if !self.failed.is_empty() {
            writeln!(text, "failed seeds: {:?}", self.failed).unwrap_or_default();
        }
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far under 2^53")]
fn to_float(count: u64) -> f64 {
    count as f64
}
