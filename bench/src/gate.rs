//! The regression gate: what the data path costs now beside what it cost when the figures in the
//! repository were written.
//!
//! Two measures, each with its own margin. **Instructions** per operation, counted by a simulated
//! processor (valgrind): the same on every machine and from run to run within a few in ten
//! thousand, so the margin is small. **CPU time** per operation, in units of a fixed piece of work
//! that is timed in the same process: it sees cache misses, which instructions do not tell, and
//! what a faster or a busier machine does falls on both.
//!
//! Not here: the workload (`core_path`).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// What is measured, as `core_path --what` names it.
pub const CASES: [&str; 3] = ["write", "read", "read-one"];

/// Operations under the simulated processor, which is some fifty times slower.
const COUNTED_OPERATIONS: u64 = 20_000;

/// Operations of a timed run.
const TIMED_OPERATIONS: u64 = 300_000;

/// Keys of both.
const KEYS: u64 = 20_000;

/// Timed runs. The fastest counts, of the path and of the fixed work each by itself: whatever else
/// runs on the machine only adds.
const TIMED_RUNS: usize = 9;

/// Runs differ by less than 0.1 %; a tenth of this margin is a compiler's release.
const INSTRUCTIONS_MARGIN: f64 = 0.03;

/// Medians of five differed by up to 12 % over a day on shared machines: twice that. Kept are the
/// figures of the kind of machine on which the path was dearest beside the fixed work: the same
/// build took up to a third more there than on another kind.
const TIME_MARGIN: f64 = 0.25;

/// What one case costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Instructions per operation.
    pub instructions: f64,
    /// CPU time per operation, in millionths of the fixed piece of work.
    pub time: f64,
}

/// The costs of all cases.
pub type Costs = BTreeMap<String, Cost>;

/// Measures every case with the `core_path` at `binary`.
///
/// # Errors
/// If valgrind is not installed or a run fails.
pub fn measure(binary: &Path) -> Result<Costs> {
    let loading = count_instructions(binary, "nothing")?;
    let mut costs = Costs::new();
    for case in CASES {
        let counted = count_instructions(binary, case)?.saturating_sub(loading);
        #[expect(clippy::cast_precision_loss, reason = "counts stay below 2^52")]
        let instructions = counted as f64 / COUNTED_OPERATIONS as f64;
        let time = time(binary, case)?;
        costs.insert(case.to_owned(), Cost { instructions, time });
    }
    Ok(costs)
}

fn arguments(case: &str, operations: u64) -> [String; 6] {
    [
        "--what",
        case,
        "--ops",
        &operations.to_string(),
        "--keys",
        &KEYS.to_string(),
    ]
    .map(str::to_owned)
}

fn count_instructions(binary: &Path, case: &str) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(binary)
        .arg("--no-calibration")
        .args(arguments(case, COUNTED_OPERATIONS))
        .output()
        .context("cannot run valgrind; Debian: apt-get install valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {said}");
    collected(&said).with_context(|| format!("valgrind told no count: {said}"))
}

/// The number behind `Collected :`.
fn collected(said: &str) -> Option<u64> {
    let (_, behind) = said.split_once("Collected :")?;
    behind.split_whitespace().next()?.parse().ok()
}

/// The fastest of some runs.
fn time(binary: &Path, case: &str) -> Result<f64> {
    let (mut path, mut fixed) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..TIMED_RUNS {
        let output = Command::new(binary)
            .args(arguments(case, TIMED_OPERATIONS))
            .output()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "core_path failed: {said}");
        let said: Value = serde_json::from_slice(&output.stdout)?;
        let field = |name: &str| said[name].as_f64().context("core_path told no time");
        path = path.min(field("us_each")?);
        fixed = fixed.min(field("calibration_us")?);
    }
    Ok(path / fixed * 1e6)
}

/// The figures of the repository.
///
/// # Errors
/// If `text` has not the form that [`to_json`] writes.
pub fn from_json(text: &str) -> Result<Costs> {
    let document: Value = serde_json::from_str(text)?;
    let cases = document["cases"].as_object().context("no cases")?;
    let cost = |(case, fields): (&String, &Value)| {
        let field = |name: &str| fields[name].as_f64().with_context(|| format!("no {name}"));
        let cost = Cost {
            instructions: field("instructions")?,
            time: field("time")?,
        };
        Ok((case.clone(), cost))
    };
    cases.iter().map(cost).collect()
}

/// What is kept in the repository.
#[must_use]
pub fn to_json(costs: &Costs) -> String {
    let case = |(case, cost): (&String, &Cost)| {
        let fields = json!({
            "instructions": cost.instructions.round(),
            "time": (cost.time * 100.0).round() / 100.0,
        });
        (case.clone(), fields)
    };
    let cases: serde_json::Map<String, Value> = costs.iter().map(case).collect();
    format!("{:#}\n", json!({ "schema": "gate/v1", "cases": cases }))
}

/// A line for each measure of each case, and whether none is over its margin.
#[must_use]
pub fn compare(kept: &Costs, now: &Costs) -> (String, bool) {
    let mut text = String::new();
    let mut is_good = true;
    for (case, now) in now {
        let Some(kept) = kept.get(case) else {
            text.push_str(&format!("{case}: no figure is kept\n"));
            is_good = false;
            continue;
        };
        let measures = [
            (
                "instructions",
                kept.instructions,
                now.instructions,
                INSTRUCTIONS_MARGIN,
            ),
            ("time", kept.time, now.time, TIME_MARGIN),
        ];
        for (name, kept, now, margin) in measures {
            let change = now / kept.max(1e-9) - 1.0;
            let verdict = if change > margin {
                is_good = false;
                "WORSE: find out why, or keep the new figure with --write and say why"
            } else if change < -margin {
                "better: keep the new figure with --write"
            } else {
                "as kept"
            };
            let percent = change * 100.0;
            text.push_str(&format!(
                "{case:<9} {name:<13} {now:>10.1} kept {kept:>10.1} {percent:>+6.1} %  {verdict}\n"
            ));
        }
    }
    (text, is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(instructions: f64, time: f64) -> Costs {
        let cost = Cost { instructions, time };
        [("write".to_owned(), cost)].into()
    }

    #[test]
    fn what_is_over_its_margin_fails() {
        let kept = costs(10_000.0, 100.0);
        assert!(compare(&kept, &costs(10_200.0, 120.0)).1);
        let (text, is_good) = compare(&kept, &costs(10_400.0, 100.0));
        assert!(!is_good && text.contains("WORSE"), "{text}");
        assert!(!compare(&kept, &costs(10_000.0, 130.0)).1);
        let (text, is_good) = compare(&kept, &costs(9_000.0, 100.0));
        assert!(is_good && text.contains("better"), "{text}");
        assert!(!compare(&Costs::new(), &kept).1, "a case without a figure");
    }

    #[test]
    fn kept_figures_come_back() {
        let kept = costs(10_000.0, 99.25);
        assert_eq!(from_json(&to_json(&kept)).expect("the same form"), kept);
        assert!(from_json("{}").is_err());
    }

    #[test]
    fn the_count_is_found() {
        assert_eq!(collected("==1== Collected : 123456\n==1=="), Some(123_456));
        assert_eq!(collected("nothing"), None);
    }
}
