//! What has become of the records so far: counts, reports, progress, exit code.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use quorate_client::Outcome;
use serde_json::{Value, json};

use super::super::exit::{Exit, Problem};
use super::super::lines::{Line, Start};
use super::super::output::{Format, note, print, print_json};
use super::super::system::stopwatch;
use super::apply;
use super::queue::Applied;

/// Problems that the JSON document lists; all are told on standard error.
const LISTED_MAX: usize = 1000;

/// Counts of an import.
#[derive(Debug)]
pub(super) struct Tally {
    format: Format,
    started: std::time::Instant,
    skipped_lines: u64,
    applied: u64,
    not_applied: u64,
    unknown: u64,
    invalid: u64,
    listed: Vec<Value>,
    without_gap: Applied,
    settled_bytes: u64,
    bar: Option<ProgressBar>,
}

impl Tally {
    /// Starts behind what was applied before; `bytes` is the file's length, if there is a file.
    pub(super) fn new(start: Start, bytes: Option<u64>, format: Format) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(bytes));
        Self {
            format,
            started: stopwatch(),
            skipped_lines: start.lines,
            applied: 0,
            not_applied: 0,
            unknown: 0,
            invalid: 0,
            listed: Vec::new(),
            without_gap: Applied::from(start.lines, start.offset),
            settled_bytes: start.offset,
            bar,
        }
    }

    /// A record has ended.
    pub(super) fn ended(&mut self, ended: &apply::Applied) {
        let record = &ended.record;
        self.settled_bytes = self.settled_bytes.max(record.end);
        let Err(unapplied) = &ended.result else {
            self.applied += 1;
            self.without_gap.settle(record.line, record.end);
            return;
        };
        let outcome = match unapplied.outcome {
            Outcome::NotApplied => {
                self.not_applied += 1;
                "not applied"
            }
            Outcome::Unknown | Outcome::Applied => {
                self.unknown += 1;
                "unknown"
            }
        };
        self.report(record.line, unapplied.code.name(), outcome, &unapplied.what);
    }

    /// A line holds no record.
    pub(super) fn blank(&mut self, line: &Line) {
        self.without_gap.settle(line.number, line.end);
    }

    /// A line cannot be read.
    pub(super) fn invalid(&mut self, line: &Line, why: &str) {
        self.invalid += 1;
        self.report(line.number, "LINE_INVALID", "not applied", why);
    }

    /// A signal ended the import while `in_flight` records were under way.
    pub(super) fn interrupted(&mut self, in_flight: usize) {
        self.unknown += in_flight as u64;
        note(&format!("interrupted; {in_flight} records were under way"));
    }

    /// How far the file is applied without a gap.
    pub(super) fn applied_without_gap(&self) -> Start {
        Start {
            offset: self.without_gap.offset,
            lines: self.without_gap.lines,
        }
    }

    /// 0 if every record was applied, 5 if any is unknown, else 1.
    pub(super) fn exit(&self) -> Exit {
        if self.unknown > 0 {
            Exit::Unknown
        } else if self.not_applied + self.invalid > 0 {
            Exit::Failed
        } else {
            Exit::Ok
        }
    }

    /// Moves the bar on a terminal.
    pub(super) fn show(&self) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.settled_bytes);
            bar.set_message(format!("{} records, {:.0}/s", self.applied, self.rate()));
        }
    }

    /// Tells the result.
    pub(super) fn tell(&self) -> Result<(), Problem> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.started.elapsed().as_secs_f64();
        match self.format {
            Format::Text => {
                let mut text = format!(
                    "applied {}, not applied {}, unknown {}, invalid lines {} in {seconds:.1} s \
                     ({:.0} records/s)",
                    self.applied,
                    self.not_applied,
                    self.unknown,
                    self.invalid,
                    self.rate()
                );
                if self.skipped_lines > 0 {
                    let skipped = self.skipped_lines;
                    text.push_str(&format!("; {skipped} lines were applied before"));
                }
                text.push('\n');
                print(text.as_bytes())
            }
            Format::Json => print_json(&json!({
                "schema": "import/v1",
                "applied": self.applied,
                "not_applied": self.not_applied,
                "unknown": self.unknown,
                "invalid": self.invalid,
                "skipped_lines": self.skipped_lines,
                "seconds": seconds,
                "records_per_second": self.rate(),
                "problems": self.listed,
            })),
        }
    }

    fn report(&mut self, line: u64, code: &str, outcome: &str, what: &str) {
        let text = format!("line {line}: {outcome}: {what} [{code}]");
        match &self.bar {
            Some(bar) => bar.suspend(|| note(&text)),
            None => note(&text),
        }
        if self.listed.len() < LISTED_MAX {
            self.listed.push(json!({
                "line": line,
                "code": code,
                "outcome": outcome,
                "what": what,
            }));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate is shown, nothing else")]
    fn rate(&self) -> f64 {
        let seconds = self.started.elapsed().as_secs_f64();
        self.applied as f64 / seconds.max(0.001)
    }
}

fn bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{bar:30} {percent:>3}%  {msg}  {elapsed} gone, {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{msg}  {elapsed} gone"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_outweighs_failed_and_failed_outweighs_applied() {
        let cases = [
            ((3, 0, 0, 0), Exit::Ok),
            ((0, 0, 0, 0), Exit::Ok),
            ((3, 1, 0, 0), Exit::Failed),
            ((3, 0, 0, 1), Exit::Failed),
            ((3, 1, 1, 1), Exit::Unknown),
        ];
        for ((applied, not_applied, unknown, invalid), want) in cases {
            let tally = Tally {
                applied,
                not_applied,
                unknown,
                invalid,
                ..Tally::new(Start::default(), None, Format::Text)
            };
            assert_eq!(tally.exit(), want);
        }
    }
}
