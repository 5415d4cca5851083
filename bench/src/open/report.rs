//! How an open loop is told: a table for people, one document of JSON for programs.
//!
//! The document, `load-open/v1`: `rate` asked per second; `seconds`; `mix`; `done`, `failed`,
//! `not_started` counts; `actions`, each with its `count` done and latencies in microseconds from
//! the intended start (`p50_us`, `p99_us`, `p999_us`, `max_us`); `ends`, how often each action
//! ended how; `intervals`, one for each second with `asked`, `done`, `p99_us` and `max_us`;
//! `verify`, absent unless asked for, with `judged` and `lied` reads, the first `lies`, and reads
//! that failed when all was read back. A ramp is `load-ramp/v1`: its `steps`, the `knee`, the
//! highest rate kept up with, and `verify` as above.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::mix::Mix;
use super::ramp::Knee;
use super::record::{End, Record};

/// What verifying found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Answers that were judged.
    pub judged: u64,
    /// Answers that broke a promise.
    pub lied: u64,
    /// The first of these, as sentences.
    pub lies: Vec<String>,
    /// Keys that could not be read back at the end.
    pub unread: u64,
}

impl Verdict {
    /// Whether every promise was kept, as far as everything could be asked.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.lied == 0 && self.unread == 0
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "judged": self.judged,
            "lied": self.lied,
            "lies": self.lies,
            "not_read_back": self.unread,
        })
    }

    pub(crate) fn text(&self) -> String {
        let Self {
            judged,
            lied,
            lies,
            unread,
        } = self;
        let mut text = format!(
            "  verified: {judged} answers judged, {lied} lied, {unread} keys could not be read back\n"
        );
        for lie in lies {
            text.push_str(&format!("    {lie}\n"));
        }
        text
    }
}

/// One run.
#[derive(Debug)]
pub struct OpenReport {
    /// What was asked.
    pub mix: Mix,
    /// How often per second.
    pub rate: f64,
    /// For how long.
    pub seconds: u64,
    /// What came of it.
    pub record: Record,
    /// What verifying found.
    pub verdict: Option<Verdict>,
}

fn latencies(all: &Histogram<u64>) -> Value {
    json!({
        "count": all.len(),
        "p50_us": all.value_at_quantile(0.5),
        "p99_us": all.value_at_quantile(0.99),
        "p999_us": all.value_at_quantile(0.999),
        "max_us": all.max(),
    })
}

fn failed(record: &Record) -> u64 {
    record.count(|end| matches!(end, End::NotApplied(_) | End::Unknown(_)))
}

fn ends(record: &Record) -> Vec<Value> {
    let ends = record.ends();
    let ends = ends.map(|(action, end, count)| {
        json!({ "action": action.name(), "end": end.text(), "count": count })
    });
    ends.collect()
}

impl OpenReport {
    /// Whether everything was done and nothing lied.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let is_true = self.verdict.as_ref().is_none_or(Verdict::is_clean);
        self.record.count(|end| !end.is_done()) == 0 && is_true
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let record = &self.record;
        let actions = record.latencies().map(|(action, all)| {
            let mut fields = latencies(all);
            if let Some(fields) = fields.as_object_mut() {
                fields.insert("action".to_owned(), json!(action.name()));
            }
            fields
        });
        let intervals = record.seconds().iter().map(|second| {
            json!({
                "asked": second.asked,
                "done": second.done,
                "p99_us": second.latencies.value_at_quantile(0.99),
                "max_us": second.latencies.max(),
            })
        });
        let mut document = json!({
            "schema": "load-open/v1",
            "rate": self.rate,
            "seconds": self.seconds,
            "mix": self.mix.to_string(),
            "done": record.count(End::is_done),
            "failed": failed(record),
            "not_started": record.count(|end| end == End::NotStarted),
            "actions": actions.collect::<Vec<_>>(),
            "ends": ends(record),
            "intervals": intervals.collect::<Vec<_>>(),
        });
        if let (Some(verdict), Some(fields)) = (&self.verdict, document.as_object_mut()) {
            fields.insert("verify".to_owned(), verdict.json());
        }
        document
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let record = &self.record;
        let mut text = format!(
            "open loop, {:.0} operations/s for {} s, {}\n",
            self.rate, self.seconds, self.mix
        );
        // Writing to a string cannot fail.
        let mut line = |line: String| text.push_str(&line);
        line(format!(
            "  done {}, failed {}, not started {}\n",
            record.count(End::is_done),
            failed(record),
            record.count(|end| end == End::NotStarted),
        ));
        for (action, all) in record.latencies() {
            let ms = |quantile| all.value_at_quantile(quantile) as f64 / 1000.0;
            line(format!(
                "  {:<9} {:>9} done  p50 {:>8.2} ms  p99 {:>8.2} ms  p99.9 {:>8.2} ms  max {:>8.2} ms\n",
                action.name(),
                all.len(),
                ms(0.5),
                ms(0.99),
                ms(0.999),
                all.max() as f64 / 1000.0,
            ));
        }
        for (action, end, count) in record.ends().filter(|(_, end, _)| !end.is_done()) {
            line(format!(
                "  {:<9} {count:>9} {}\n",
                action.name(),
                end.text()
            ));
        }
        line(self.verdict.as_ref().map(Verdict::text).unwrap_or_default());
        text
    }
}

impl Knee {
    /// Whether a rate was kept up with and nothing false was answered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.rate.is_some() && self.verdict.as_ref().is_none_or(Verdict::is_clean)
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let steps = self.steps.iter().map(|step| {
            let quantile = |quantile| {
                let forever = std::time::Duration::MAX;
                let at = step
                    .record
                    .quantile(std::time::Duration::ZERO, forever, quantile);
                u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
            };
            json!({
                "rate": step.rate,
                "done_per_second": step.done,
                "p50_us": quantile(0.5),
                "p99_us": quantile(0.99),
                "p999_us": quantile(0.999),
                "ends": ends(&step.record),
            })
        });
        let mut document = json!({
            "schema": "load-ramp/v1",
            "knee": self.rate,
            "steps": steps.collect::<Vec<_>>(),
        });
        if let (Some(verdict), Some(fields)) = (&self.verdict, document.as_object_mut()) {
            fields.insert("verify".to_owned(), verdict.json());
        }
        document
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text =
            "  asked/s    done/s     p50 ms     p99 ms   p99.9 ms   not done\n".to_owned();
        for step in &self.steps {
            let ms = |quantile| {
                let forever = std::time::Duration::MAX;
                let at = step
                    .record
                    .quantile(std::time::Duration::ZERO, forever, quantile);
                at.as_secs_f64() * 1000.0
            };
            let not_done = step.record.count(|end| !end.is_done());
            // Writing to a string cannot fail.
            writeln!(
                text,
                "{:>9.0} {:>9.0} {:>10.2} {:>10.2} {:>10.2} {not_done:>10}",
                step.rate,
                step.done,
                ms(0.5),
                ms(0.99),
                ms(0.999),
            )
            .unwrap_or_default();
        }
        match self.rate {
            Some(rate) => text.push_str(&format!("knee: {rate:.0} operations/s\n")),
            None => text.push_str("knee: below the first rate\n"),
        }
        text.extend(self.verdict.as_ref().map(Verdict::text));
        text
    }
}
