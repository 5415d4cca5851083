//! What came of an open loop: latencies from the intended start, outcomes by code, and every second
//! by itself, so that a stall is seen where it was.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use quorate_client::{Code, Outcome};

use super::mix::Action;

/// Longest latency that is kept exactly; longer ones count as this.
const LATENCY_MAX: Duration = Duration::from_secs(120);

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Applied or read.
    Done,
    /// Applied in an lww keyspace and told that something newer is there.
    Superseded,
    /// A read that failed, or a write that is certainly on no replica.
    NotApplied(Code),
    /// A write that may or may not have been applied.
    Unknown(Code),
    /// Not sent: as many operations as may be were under way.
    NotStarted,
}

impl End {
    pub(super) const fn failed(outcome: Outcome, code: Code) -> Self {
        match outcome {
            Outcome::NotApplied => Self::NotApplied(code),
            Outcome::Applied | Outcome::Unknown => Self::Unknown(code),
        }
    }

    /// Outcome and code as they are reported.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Done => "done".to_owned(),
            Self::Superseded => "superseded".to_owned(),
            Self::NotApplied(code) => format!("not applied: {code}"),
            Self::Unknown(code) => format!("unknown: {code}"),
            Self::NotStarted => "not started".to_owned(),
        }
    }

    /// Whether it was done.
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Done | Self::Superseded)
    }
}

/// One second of a run, by the intended starts of its operations.
#[derive(Debug, Clone)]
pub struct Second {
    /// Operations that were to start in it.
    pub asked: u64,
    /// Of these, done.
    pub done: u64,
    /// Latencies of those that were done, in microseconds.
    pub latencies: Histogram<u32>,
}

/// Times in which nothing was done: each from one completion to the next, the first from the begin
/// of the run.
#[derive(Debug, Default)]
struct Gaps {
    last: Duration,
    /// The longest that ended in each second of the run.
    longest: Vec<Duration>,
}

impl Gaps {
    fn completed(&mut self, at: Duration) {
        let number = usize::try_from(at.as_secs()).unwrap_or(usize::MAX);
        let number = number.min(SECONDS_MAX);
        if self.longest.len() <= number {
            self.longest.resize(number + 1, Duration::ZERO);
        }
        if let Some(longest) = self.longest.get_mut(number) {
            *longest = (*longest).max(at.saturating_sub(self.last));
        }
        self.last = self.last.max(at);
    }
}

/// Seconds of a run that are kept by themselves.
const SECONDS_MAX: usize = 86_400;

/// Everything that came of a run.
#[derive(Debug, Default)]
pub struct Record {
    latencies: BTreeMap<Action, Histogram<u64>>,
    ends: BTreeMap<(Action, End), u64>,
    seconds: Vec<Second>,
    gaps: Gaps,
}

fn micros(time: Duration) -> u64 {
    let micros = time.min(LATENCY_MAX).as_micros();
    u64::try_from(micros).unwrap_or(u64::MAX).max(1)
}

impl Record {
    /// An operation that was to start at `intended`, counted from the begin of the run, took so
    /// long from then on.
    pub fn add(&mut self, action: Action, end: End, intended: Duration, took: Duration) {
        *self.ends.entry((action, end)).or_default() += 1;
        if end.is_done() {
            self.gaps.completed(intended + took);
        }
        let number = usize::try_from(intended.as_secs()).unwrap_or(usize::MAX);
        while self.seconds.len() <= number.min(SECONDS_MAX) {
            let latencies = Histogram::new(2).expect("two digits are allowed");
            self.seconds.push(Second {
                asked: 0,
                done: 0,
                latencies,
            });
        }
        let second = self.seconds.get_mut(number);
        if let Some(second) = second {
            second.asked += 1;
            if end.is_done() {
                second.done += 1;
                // Grows as far as it must; a latency is bounded.
                second.latencies.record(micros(took)).unwrap_or_default();
            }
        }
        if end.is_done() {
            let new = || Histogram::new(3).expect("three digits are allowed");
            let histogram = self.latencies.entry(action).or_insert_with(new);
            histogram.record(micros(took)).unwrap_or_default();
        }
    }

    /// How often each action ended in each way.
    pub fn ends(&self) -> impl Iterator<Item = (Action, End, u64)> + '_ {
        let ends = self.ends.iter();
        ends.map(|((action, end), count)| (*action, *end, *count))
    }

    /// Operations that ended so.
    pub fn count(&self, is: impl Fn(End) -> bool) -> u64 {
        let ends = self.ends.iter().filter(|((_, end), _)| is(*end));
        ends.map(|(_, count)| count).sum()
    }

    /// Latencies of what was done, by action.
    pub fn latencies(&self) -> impl Iterator<Item = (Action, &Histogram<u64>)> {
        self.latencies.iter().map(|(action, all)| (*action, all))
    }

    /// Every second of the run.
    #[must_use]
    pub fn seconds(&self) -> &[Second] {
        &self.seconds
    }

    /// The longest time without a completion that ended in each second of the run.
    #[must_use]
    pub fn gaps(&self) -> &[Duration] {
        &self.gaps.longest
    }

    /// The longest time without a completion.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        self.gaps.longest.iter().max().copied().unwrap_or_default()
    }

    /// The quantile over everything that was to start between two moments of the run.
    #[must_use]
    pub fn quantile(&self, from: Duration, until: Duration, quantile: f64) -> Duration {
        let mut all: Histogram<u32> = Histogram::new(2).expect("two digits are allowed");
        let first = usize::try_from(from.as_secs()).unwrap_or(usize::MAX);
        let last = usize::try_from(until.as_secs()).unwrap_or(usize::MAX);
        let seconds = self.seconds.iter().take(last).skip(first);
        seconds.for_each(|second| all.add(&second.latencies).expect("both grow"));
        Duration::from_micros(all.value_at_quantile(quantile))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_a_time_without_a_completion_and_counts_where_it_ends() {
        let mut record = Record::default();
        let ms = Duration::from_millis;
        for (intended, took) in [(100, 50), (90, 80), (200, 2_300), (2_400, 101)] {
            record.add(Action::Read, End::Done, ms(intended), ms(took));
        }
        record.add(Action::Read, End::NotStarted, ms(9_000), ms(0));
        assert_eq!(record.gaps(), [ms(150), ms(0), ms(2_330)]);
        assert_eq!(record.longest_gap(), ms(2_330));
    }

    #[test]
    fn latencies_of_any_size_are_kept_by_action_and_by_second() {
        let mut record = Record::default();
        for (second, ms) in [(0, 1), (0, 3), (2, 90_000), (2, 500_000)] {
            let (intended, took) = (Duration::from_secs(second), Duration::from_millis(ms));
            record.add(Action::Read, End::Done, intended, took);
        }
        record.add(
            Action::Read,
            End::NotStarted,
            Duration::ZERO,
            Duration::ZERO,
        );
        let (_, all) = record.latencies().next().expect("reads were done");
        assert_eq!(all.len(), 4);
        assert!((119_900_000..120_100_000).contains(&all.max()));
        let asked: Vec<u64> = record.seconds().iter().map(|second| second.asked).collect();
        assert_eq!(asked, [3, 0, 2]);
        let first = record.quantile(Duration::ZERO, Duration::from_secs(1), 1.0);
        assert_eq!(first.as_millis(), 3);
        assert_eq!(record.count(|end| end == End::NotStarted), 1);
    }
}
