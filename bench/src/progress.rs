//! One line with rate and time left, of a phase that ends after so many steps or at a time; on a
//! terminal only.

use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Time between two updates.
const EVERY: Duration = Duration::from_millis(500);

/// Progress of one phase.
#[derive(Debug)]
pub struct Progress {
    label: String,
    end: PhaseLimit,
    began: Duration,
    shown: Duration,
    is_shown: bool,
}

/// Where a phase ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseLimit {
    /// After so many steps.
    Steps(u64),
    /// After so long.
    Time(Duration),
}

impl Progress {
    /// A phase of `total` steps that begins at `now`.
    #[must_use]
    pub fn new(now: Duration, label: impl Into<String>, total: u64) -> Self {
        Self::until(now, label, PhaseLimit::Steps(total))
    }

    /// A phase that begins at `now` and ends at `end`.
    #[must_use]
    pub fn until(now: Duration, label: impl Into<String>, end: PhaseLimit) -> Self {
        Self {
            label: label.into(),
            end,
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
        let elapsed = now.saturating_sub(self.began);
        let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
        let label = &self.label;
        match self.end {
            PhaseLimit::Steps(total) => {
                let left = total.saturating_sub(done) as f64 / rate.max(0.001);
                let percent = done * 100 / total.max(1);
                format!("{label}: {done} of {total} ({percent} %), {rate:.0}/s, {left:.0} s left")
            }
            PhaseLimit::Time(length) => {
                let left = length.saturating_sub(elapsed).as_secs_f64();
                format!("{label}: {done}, {rate:.0}/s, {left:.0} s left")
            }
        }
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
        let length = PhaseLimit::Time(Duration::from_secs(60));
        let progress = Progress::until(Duration::ZERO, "A", length);
        let line = progress.line(Duration::from_secs(2), 500);
        assert_eq!(line, "A: 500, 250/s, 58 s left");
    }
}
