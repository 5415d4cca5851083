//! One line with rate and time left, on a terminal only.

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Time between two updates.
const EVERY: Duration = Duration::from_millis(500);

/// Progress of one phase.
#[derive(Debug)]
pub struct Progress {
    label: String,
    total: u64,
    began: Duration,
    shown: Duration,
    is_shown: bool,
}

impl Progress {
    /// A phase of `total` steps that begins at `now`.
    #[must_use]
    pub fn new(now: Duration, label: impl Into<String>, total: u64) -> Self {
        Self {
            label: label.into(),
            total,
            began: now,
            shown: now,
            is_shown: std::io::stderr().is_terminal(),
        }
    }

    /// Shows that `done` steps are done, at most twice a second.
    pub fn update(&mut self, now: Duration, done: u64) {
        if self.is_shown && now.saturating_sub(self.shown) >= EVERY {
            self.shown = now;
            self.show(&self.line(now, done));
        }
    }

    /// Removes the line.
    pub fn finish(&self) {
        if self.is_shown {
            self.show("");
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate is shown to three digits; counts stay below 2^52"
    )]
    fn line(&self, now: Duration, done: u64) -> String {
        let elapsed = now.saturating_sub(self.began).as_secs_f64().max(0.001);
        let rate = done as f64 / elapsed;
        let left = self.total.saturating_sub(done) as f64 / rate.max(0.001);
        let percent = done * 100 / self.total.max(1);
        format!(
            "{}: {done} of {} ({percent} %), {rate:.0}/s, {left:.0} s left",
            self.label, self.total
        )
    }

    /// What a terminal does not take is not worth a failure.
    fn show(&self, line: &str) {
        let mut terminal = std::io::stderr().lock();
        let _shown = write!(terminal, "\r\x1b[2K{line}").and_then(|()| terminal.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_rate_and_time_left() {
        let progress = Progress::new(Duration::ZERO, "fill", 1_000);
        let line = progress.line(Duration::from_secs(2), 500);
        assert_eq!(line, "fill: 500 of 1000 (50 %), 250/s, 2 s left");
    }
}
