//! A long run at a part of the peak: what is watched beside it, what must hold, how it is told.
//!
//! The document `soak/v1`: `peak_per_second` (absent if a rate was given), `rate`, `seconds`,
//! `keys`; `done`, `failed`, `not_started`; `actions` with latencies in microseconds from the
//! intended start; `longest_gap_us`, the longest time without a completion, and `gaps_us`, the
//! longest that ended in each second; `sync_probe`; `nodes`, each with its resident memory in MiB
//! each second; `verify`; `broken`, the bounds that did not hold, as sentences.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::nodes::NodeProcess;
use crate::open::{Action, End, Record, Verdict};
use crate::probe::sync::SyncSummary;
use crate::scenario::Bounds;

/// A gap of this length is nobody's fault.
const GAP_MAX: Duration = Duration::from_millis(100);

/// Memory may be so much larger in the last third than in the middle one: generations come and go.
const MEMORY_SLACK_MIB: u64 = 64;
const MEMORY_SLACK_SHARE: f64 = 0.05;

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Resident memory of each node in MiB, over time.
#[derive(Debug, Clone)]
pub struct MemoryOverTime {
    /// Name of the node.
    pub node: String,
    /// One sample each second.
    pub mib: Vec<u64>,
}

impl MemoryOverTime {
    /// Means of the three thirds of the run.
    #[must_use]
    pub fn thirds(&self) -> [u64; 3] {
        let third = (self.mib.len() / 3).max(1);
        let mut thirds = self.mib.chunks(third).map(|samples| {
            let sum: u64 = samples.iter().sum();
            sum / samples.len().max(1) as u64
        });
        [(); 3].map(|()| thirds.next().unwrap_or_default())
    }

    /// Whether the last third is not above the middle one.
    #[must_use]
    pub fn is_flat(&self) -> bool {
        let [_, middle, last] = self.thirds();
        let grown = last.saturating_sub(middle);
        grown <= MEMORY_SLACK_MIB || grown as f64 <= middle as f64 * MEMORY_SLACK_SHARE
    }
}

/// Looks at the memory of nodes each second until it is dropped or finished.
#[derive(Debug)]
pub struct MemoryWatch {
    seen: Arc<Mutex<Vec<MemoryOverTime>>>,
    watching: JoinSet<Result<()>>,
}

impl MemoryWatch {
    /// Starts with a first look.
    #[must_use]
    pub fn start(nodes: Vec<NodeProcess>) -> Self {
        let none = |node: &NodeProcess| MemoryOverTime {
            node: node.name.clone(),
            mib: Vec::new(),
        };
        let seen = Arc::new(Mutex::new(nodes.iter().map(none).collect::<Vec<_>>()));
        let mut watching = JoinSet::new();
        let samples = Arc::clone(&seen);
        watching.spawn(async move {
            loop {
                for (number, node) in nodes.iter().enumerate() {
                    let mib = node.memory()?.resident >> 20;
                    let mut seen = samples.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(of_node) = seen.get_mut(number) {
                        of_node.mib.push(mib);
                    }
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Self { seen, watching }
    }

    /// What was seen.
    ///
    /// # Errors
    /// If a node ended meanwhile.
    pub fn finish(mut self) -> Result<Vec<MemoryOverTime>> {
        if let Some(ended) = self.watching.try_join_next() {
            ended??;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *seen))
    }
}

/// Everything that came of a run.
#[derive(Debug)]
pub struct SoakReport {
    /// Operations per second in the closed loop; absent if a rate was given.
    pub peak: Option<f64>,
    /// Operations per second that were asked for.
    pub rate: f64,
    /// Number of keys.
    pub keys: u32,
    /// Length of the run.
    pub length: Duration,
    /// Latencies, ends and gaps.
    pub record: Record,
    /// Memory of the nodes.
    pub memory: Vec<MemoryOverTime>,
    /// The disk beside it.
    pub syncs: SyncSummary,
    /// What was found of the answers.
    pub verdict: Verdict,
}

impl SoakReport {
    /// The longest time without a completion that is allowed.
    #[must_use]
    pub fn gap_max(&self) -> Duration {
        GAP_MAX.max(Duration::from_micros(self.syncs.latency.max_us) * 2)
    }

    /// What does not hold.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        let mut bounds = Bounds::default();
        let Self {
            record, verdict, ..
        } = self;
        for (action, end, count) in record.ends().filter(|(_, end, _)| !end.is_done()) {
            let (action, end) = (action.name(), end.text());
            bounds.check(false, || format!("{count} times {action}: {end}"));
        }
        bounds.check(verdict.is_clean(), || {
            let Verdict { lied, unread, .. } = verdict;
            format!("{lied} answers were false and {unread} keys could not be read back")
        });
        for node in &self.memory {
            bounds.check(node.is_flat(), || {
                let [_, middle, last] = node.thirds();
                let name = &node.node;
                format!("memory of node {name} grew from {middle} to {last} MiB")
            });
        }
        let (gap, gap_max) = (record.longest_gap(), self.gap_max());
        bounds.check(gap <= gap_max, || {
            format!("nothing was done for {gap:?}, longer than {gap_max:?}")
        });
        bounds
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let Self {
            peak,
            rate,
            keys,
            length,
            record,
            memory,
            syncs,
            verdict,
        } = self;
        let actions = quantiles(record).map(|(action, count, [p50, p99, p999, max])| {
            json!({ "action": action.name(), "count": count, "p50_us": p50, "p99_us": p99,
                    "p999_us": p999, "max_us": max })
        });
        let nodes = memory.iter().map(|node| {
            json!({ "node": node.node, "resident_mib": node.mib, "mean_of_thirds_mib": node.thirds() })
        });
        json!({
            "schema": "soak/v1",
            "peak_per_second": peak,
            "rate": rate,
            "seconds": length.as_secs(),
            "keys": keys,
            "done": record.count(End::is_done),
            "failed": record.count(|end| !end.is_done() && end != End::NotStarted),
            "not_started": record.count(|end| end == End::NotStarted),
            "actions": actions.collect::<Vec<_>>(),
            "longest_gap_us": micros(record.longest_gap()),
            "gap_max_us": micros(self.gap_max()),
            "gaps_us": record.gaps().iter().copied().map(micros).collect::<Vec<_>>(),
            "sync_probe": {
                "count": syncs.syncs,
                "p50_us": syncs.latency.p50_us,
                "p99_us": syncs.latency.p99_us,
                "p999_us": syncs.latency.p999_us,
                "longest_us": syncs.latency.max_us,
            },
            "nodes": nodes.collect::<Vec<_>>(),
            "verify": verdict.json(),
            "broken": self.bounds().broken(),
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
        let (record, syncs) = (&self.record, &self.syncs);
        if let Some(peak) = self.peak {
            writeln!(text, "peak, closed loop: {peak:.0} operations/s")?;
        }
        writeln!(
            text,
            "open loop: {:.0} operations/s for {} s over {} keys; done {}, not done {}",
            self.rate,
            self.length.as_secs(),
            self.keys,
            record.count(End::is_done),
            record.count(|end| !end.is_done()),
        )?;
        for (action, count, micros) in quantiles(record) {
            let [p50, p99, p999, max] = micros.map(|micros| micros as f64 / 1e3);
            writeln!(
                text,
                "  {:<6} {count:>9} done  p50 {p50:.2} ms  p99 {p99:.2} ms  p99.9 {p999:.2} ms  max {max:.2} ms",
                action.name(),
            )?;
        }
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        writeln!(
            text,
            "longest time without a completion: {:.1} ms of at most {:.1} ms",
            ms(record.longest_gap()),
            ms(self.gap_max())
        )?;
        let mut gaps: Vec<(usize, Duration)> = record.gaps().iter().copied().enumerate().collect();
        gaps.sort_by_key(|(_, gap)| std::cmp::Reverse(*gap));
        for (second, gap) in gaps.iter().take(5) {
            writeln!(text, "  in second {second}: {:.1} ms", ms(*gap))?;
        }
        writeln!(
            text,
            "sync of 4 KiB beside it: {} times, p50 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  longest {:.1} ms",
            syncs.syncs,
            ms(Duration::from_micros(syncs.latency.p50_us)),
            ms(Duration::from_micros(syncs.latency.p99_us)),
            ms(Duration::from_micros(syncs.latency.p999_us)),
            ms(Duration::from_micros(syncs.latency.max_us)),
        )?;
        for node in &self.memory {
            let [first, middle, last] = node.thirds();
            let peak = node.mib.iter().max().copied().unwrap_or_default();
            writeln!(
                text,
                "node {}: resident {first}, {middle}, {last} MiB in the thirds of the run, at most {peak}",
                node.node
            )?;
        }
        text.push_str(&self.verdict.text());
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Count, p50, p99, p99.9 and greatest latency of each action, in microseconds.
fn quantiles(record: &Record) -> impl Iterator<Item = (Action, u64, [u64; 4])> {
    record.latencies().map(|(action, all)| {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| all.value_at_quantile(q));
        (action, all.len(), [p50, p99, p999, all.max()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Latency;

    fn report(gap_ms: u64, sync_ms: u64, mib: Vec<u64>, end: End) -> SoakReport {
        let ms = Duration::from_millis;
        let mut record = Record::default();
        record.add(Action::Read, End::Done, ms(0), ms(gap_ms));
        record.add(Action::Write, end, ms(gap_ms), ms(1));
        let latency = Latency {
            count: 1,
            p50_us: sync_ms * 1_000,
            p99_us: sync_ms * 1_000,
            p999_us: sync_ms * 1_000,
            max_us: sync_ms * 1_000,
        };
        SoakReport {
            peak: Some(2.0),
            rate: 1.0,
            keys: 1,
            length: ms(3_000),
            record,
            memory: vec![MemoryOverTime {
                node: "n1".to_owned(),
                mib,
            }],
            syncs: SyncSummary {
                syncs: 1,
                elapsed: ms(3_000),
                latency,
            },
            verdict: Verdict {
                judged: 1,
                lied: 0,
                lies: Vec::new(),
                unread: 0,
            },
        }
    }

    #[test]
    fn each_bound_is_told_when_it_is_broken() {
        let flat = || vec![100, 900, 910];
        let cases = [
            ("all holds", report(90, 1, flat(), End::Done), None),
            (
                "a stall of the disk",
                report(190, 100, flat(), End::Done),
                None,
            ),
            (
                "a stall",
                report(190, 1, flat(), End::Done),
                Some("nothing was done"),
            ),
            (
                "memory",
                report(1, 1, vec![100, 900, 1_000], End::Done),
                Some("grew from 900 to 1000"),
            ),
            (
                "an error",
                report(1, 1, flat(), End::NotStarted),
                Some("1 times write: not started"),
            ),
        ];
        for (name, report, want) in cases {
            let broken = report.bounds().broken().join("\n");
            match want {
                None => assert_eq!(broken, "", "{name}"),
                Some(want) => assert!(broken.contains(want), "{name}: {broken}"),
            }
            let told = report.json()["broken"].as_array().map(Vec::len);
            assert_eq!(told, Some(usize::from(want.is_some())), "{name}");
        }
    }
}
