//! The table of all runs so far: medians with the least and the greatest.
//!
//! What the engine's own worker does comes in lumps, a compaction once in many runs. So its CPU
//! time is summed up over all runs of a case and divided by all their writes, and that of all other
//! threads is the median of the runs; the cost of a write is both together.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use serde_json::Value;

use crate::report::Figure;

/// Name of the engine's worker threads.
const WORKER: &str = "fjall:worker";

/// Runs of a case, by what tells the cases apart.
type Cases = BTreeMap<(String, u64), Vec<Value>>;

/// The table, of the lines that children have written.
///
/// # Errors
/// If a line is not one.
pub fn table(lines: &str) -> Result<String> {
    let mut cases = Cases::new();
    let mut recoveries: Vec<f64> = Vec::new();
    for line in lines.lines() {
        let value: Value = serde_json::from_str(line)?;
        if let Some(seconds) = value["serving_seconds"].as_f64() {
            recoveries.push(seconds);
        } else {
            let in_flight = value["in_flight"].as_u64().unwrap_or(0);
            let distribution = value["distribution"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            cases
                .entry((distribution, in_flight))
                .or_default()
                .push(value);
        }
    }
    let mut out = String::from(
        "| keys | in flight | writes/s | CPU us per write | of it engine's worker | p50 us \
         | p99 us | p99.9 us | longest us | disk bytes per write |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for ((distribution, in_flight), runs) in &cases {
        write!(out, "| {distribution} | {in_flight} |")?;
        write!(
            out,
            " {} |",
            figure(
                runs,
                |run| number(run, "writes") / number(run, "seconds"),
                0
            )
        )?;
        let worker = pooled(runs, worker_seconds);
        let rest = |run: &Value| {
            (number(run, "cpu_seconds") - worker_seconds(run)) * 1e6 / number(run, "writes")
                + worker
        };
        write!(out, " {} | {worker:.2} |", figure(runs, rest, 2))?;
        for name in ["p50_us", "p99_us", "p999_us", "max_us"] {
            write!(out, " {} |", figure(runs, |run| number(run, name), 0))?;
        }
        let disk = |run: &Value| number(run, "machine_disk_bytes") / number(run, "writes");
        writeln!(out, " {} |", figure(runs, disk, 0))?;
    }
    if !recoveries.is_empty() {
        let shown = show(recoveries, 2);
        writeln!(
            out,
            "\nSeconds from a kill -9 to the first durable write: {shown}"
        )?;
    }
    Ok(out)
}

fn number(run: &Value, name: &str) -> f64 {
    run[name].as_f64().unwrap_or(f64::NAN)
}

fn worker_seconds(run: &Value) -> f64 {
    run["threads"][WORKER].as_f64().unwrap_or(0.0)
}

/// Microseconds of a write over all runs.
fn pooled(runs: &[Value], seconds: fn(&Value) -> f64) -> f64 {
    let writes: f64 = runs.iter().map(|run| number(run, "writes")).sum();
    runs.iter().map(seconds).sum::<f64>() * 1e6 / writes
}

fn figure(runs: &[Value], of: impl Fn(&Value) -> f64, digits: usize) -> String {
    show(runs.iter().map(of), digits)
}

fn show(values: impl IntoIterator<Item = f64>, digits: usize) -> String {
    let Some(Figure { median, min, max }) = Figure::of(values) else {
        return String::new();
    };
    format!("{median:.digits$} ({min:.digits$}..{max:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compaction_in_one_run_is_shared_by_all_of_the_case() {
        let run = |worker: f64| {
            format!(
                r#"{{"distribution":"zipf","in_flight":64,"writes":1000000,
                "seconds":10,"cpu_seconds":{},"threads":{{"fjall:worker":{worker}}},"p50_us":1,
                "p99_us":2,"p999_us":3,"max_us":4,"machine_disk_bytes":5000000}}"#,
                4.0 + worker
            )
            .replace('\n', "")
        };
        let recovery = r#"{"recovered":7,"serving_seconds":0.5}"#;
        let lines = [run(0.0), run(3.0), run(0.0), recovery.to_owned()].join("\n");
        let table = table(&lines).expect("the lines are well formed");
        assert!(table.contains("| 5.00 (5.00..5.00) | 1.00 |"), "{table}");
        assert!(table.contains("write: 0.50 (0.50..0.50)"), "{table}");
    }
}
