//! What came of the operations: latencies by kind, failures by outcome and code.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use quorate_client::{Code, Outcome};

/// Longest latency that is kept exactly; longer ones count as this.
const LATENCY_MAX: Duration = Duration::from_secs(120);

/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// Kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A read.
    Read,
    /// A write of a key that is there, whatever is done first for it.
    Write,
    /// A write that replaces a part of a record without reading it.
    Update,
    /// A write of a new key.
    Insert,
    /// A read of many keys in their order.
    Scan,
    /// A read, and a write of what was made of it.
    ReadModifyWrite,
}

impl Kind {
    /// Every kind, in the order of reports.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Write,
        Self::Update,
        Self::Insert,
        Self::Scan,
        Self::ReadModifyWrite,
    ];

    /// As it is reported.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Update => "update",
            Self::Insert => "insert",
            Self::Scan => "scan",
            Self::ReadModifyWrite => "read_modify_write",
        }
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// As it should.
    Done,
    /// It failed: a read, or a write that is not applied.
    NotApplied(Code),
    /// It failed, and may or may not have been applied.
    Unknown(Code),
    /// A read found no value, though the key was loaded.
    Missing,
    /// A read found several values.
    Siblings,
    /// A read found a value that nobody wrote to the key.
    Wrong,
    /// A read found an older value than one that was acknowledged before it began.
    Stale,
}

impl End {
    /// How a failed operation ended.
    #[must_use]
    pub const fn failed(outcome: Outcome, code: Code) -> Self {
        match outcome {
            Outcome::NotApplied => Self::NotApplied(code),
            Outcome::Applied | Outcome::Unknown => Self::Unknown(code),
        }
    }

    /// Outcome and code, as they are reported; `None` if it ended as it should.
    #[must_use]
    pub const fn failure(self) -> Option<(&'static str, Option<Code>)> {
        match self {
            Self::Done => None,
            Self::NotApplied(code) => Some(("not applied", Some(code))),
            Self::Unknown(code) => Some(("unknown", Some(code))),
            Self::Missing => Some(("missing", None)),
            Self::Siblings => Some(("siblings", None)),
            Self::Wrong => Some(("wrong", None)),
            Self::Stale => Some(("stale", None)),
        }
    }
}

/// Counts and latencies of one run.
#[derive(Debug, Default)]
pub struct Recorder {
    latencies: BTreeMap<Kind, Histogram<u64>>,
    failures: BTreeMap<(Kind, End), u64>,
    done: u64,
}

impl Recorder {
    /// Counts one operation. The latency of a failed one is not that of work done, and is left out.
    pub fn add(&mut self, kind: Kind, end: End, latency: Duration) {
        if end.failure().is_some() {
            *self.failures.entry((kind, end)).or_default() += 1;
            return;
        }
        self.done += 1;
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let histogram = self.latencies.entry(kind).or_insert_with(|| {
            let max = u64::try_from(LATENCY_MAX.as_micros()).unwrap_or(u64::MAX);
            Histogram::new_with_bounds(1, max, DIGITS).expect("the bounds are constants")
        });
        histogram.saturating_record(micros);
    }

    /// Operations that ended as they should.
    #[must_use]
    pub const fn done(&self) -> u64 {
        self.done
    }

    /// Operations that did not, by kind and end.
    #[must_use]
    pub const fn failures(&self) -> &BTreeMap<(Kind, End), u64> {
        &self.failures
    }

    /// Operations that did not end as they should.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Reads that found what cannot be: nothing, several values, a foreign one or an old one.
    #[must_use]
    pub fn impossible(&self) -> u64 {
        let impossible = |end: &End| match end {
            End::Missing | End::Siblings | End::Wrong | End::Stale => true,
            End::Done | End::NotApplied(_) | End::Unknown(_) => false,
        };
        let counts = self.failures.iter();
        counts
            .filter(|((_, end), _)| impossible(end))
            .map(|(_, count)| count)
            .sum()
    }

    /// Latencies in microseconds of one kind, if there are any.
    #[must_use]
    pub fn latency(&self, kind: Kind) -> Option<Latency> {
        let histogram = self.latencies.get(&kind)?;
        Some(Latency {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        })
    }
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// Operations that were done.
    pub count: u64,
    /// Half of the operations took at most this.
    pub p50_us: u64,
    /// 99 of 100 took at most this.
    pub p99_us: u64,
    /// 999 of 1,000 took at most this.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_outcome_and_have_no_latency() {
        let mut recorder = Recorder::default();
        let ms = Duration::from_millis;
        recorder.add(Kind::Write, End::Done, ms(2));
        recorder.add(Kind::Write, End::Unknown(Code::QuorumNotReached), ms(2_000));
        recorder.add(Kind::Write, End::NotApplied(Code::Overloaded), ms(1));
        recorder.add(Kind::Read, End::Wrong, ms(1));
        assert_eq!(
            (recorder.done(), recorder.failed(), recorder.impossible()),
            (1, 3, 1)
        );
        assert!(recorder.latency(Kind::Read).is_none());
        let latency = recorder.latency(Kind::Write).expect("one was done");
        assert!((1_990..2_010).contains(&latency.max_us), "{latency:?}");
    }

    #[test]
    fn a_latency_beyond_the_bound_is_counted_as_the_bound() {
        let mut recorder = Recorder::default();
        recorder.add(Kind::Read, End::Done, Duration::from_secs(1_000));
        let latency = recorder.latency(Kind::Read).expect("one was done");
        assert!(latency.max_us >= 119_000_000, "{latency:?}");
    }
}
