//! When a request that got no answer yet is sent to a second node as well, for the SDK and for
//! coordinators alike. Pure: time arrives as `now`, the delay follows from what was measured.
//!
//! A hedge goes out when the node asked first is slower than 95 of 100 of its answers were. The
//! budget keeps hedges at most one in twenty requests, so that a cluster that is slow because it is
//! loaded is not loaded more; it closes for a while when a node says that it is overloaded. Hedges
//! away from a node that is taken for stuck are outside of it: each of them replaces a request
//! that would wait in vain.
//!
//! Reads and writes are measured apart: in a mix, the common kind would hide the tail of the rare.
//!
//! Not here: which node takes the hedge and which one is stuck (the SDK's `route`, the node's
//! `core::peer_tail`), sending.

use std::time::Duration;

use crate::MonoTime;

/// The delay while nothing was measured yet.
const DELAY_UNMEASURED: Duration = Duration::from_millis(40);
/// Shortest delay: below it a second request costs more than the wait that it spares.
const DELAY_MIN: Duration = Duration::from_millis(10);
/// Longest delay: what a node that stops costs a client to whom it was slow before.
const DELAY_MAX: Duration = Duration::from_millis(250);
/// How often a request that the budget did not let hedge asks again.
pub const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How long the budget is closed after a node said that it is overloaded.
const CLOSED_FOR: Duration = Duration::from_secs(1);

/// The measured 95th percentile of a latency, in 8 bytes and constant time.
///
/// Stochastic approximation: an answer above the estimate raises it by 19 steps, one below lowers
/// it by one, so that it rests where one answer in twenty is above. A step is 1/512 of the
/// estimate: a change of the latency by half is followed within some hundred answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct P95 {
    /// In 1/16 microseconds; 0 while nothing was measured.
    estimate: u64,
}

impl P95 {
    /// Largest estimate, in 1/16 microseconds: a minute.
    const MOST: u64 = 60_000_000 * 16;

    /// An answer took this long.
    pub fn measured(&mut self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let took = took.saturating_mul(16).min(Self::MOST);
        if self.estimate == 0 {
            // Twice the first: a tail is above what is usual.
            self.estimate = took.saturating_mul(2).clamp(16, Self::MOST);
            return;
        }
        let step = (self.estimate / 512).max(1);
        self.estimate = if took > self.estimate {
            (self.estimate + 19 * step).min(Self::MOST)
        } else {
            self.estimate.saturating_sub(step).max(16)
        };
    }

    /// The estimate; `None` while nothing was measured.
    #[must_use]
    pub fn value(self) -> Option<Duration> {
        (self.estimate > 0).then(|| Duration::from_micros(self.estimate / 16))
    }

    /// How long to wait for an answer before hedging.
    #[must_use]
    pub fn delay(self) -> Duration {
        let value = self.value().unwrap_or(DELAY_UNMEASURED);
        value.clamp(DELAY_MIN, DELAY_MAX)
    }
}

/// What a request away from a node is: within the budget, or outside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The node is slower than usual.
    Slow,
    /// The node is taken for stuck: it lost to a hedge or is silent.
    Stuck,
}

/// Token bucket of hedges: each request brings a twentieth, each hedge takes one, and one that lost
/// takes two more: hedges that do not help become rare by themselves.
#[derive(Debug, Clone)]
pub struct HedgeBudget {
    /// Below zero after hedges that lost.
    twentieths: i32,
    closed_until: MonoTime,
}

impl HedgeBudget {
    /// Hedges in a full bucket: some requests that are slow together.
    const HEDGES_MAX: i32 = 20;

    /// A full bucket.
    #[must_use]
    pub const fn full() -> Self {
        Self {
            twentieths: Self::HEDGES_MAX * 20,
            closed_until: MonoTime::ZERO,
        }
    }

    /// An operation begins.
    pub const fn begun(&mut self) {
        if self.twentieths < Self::HEDGES_MAX * 20 {
            self.twentieths += 1;
        }
    }

    /// A node said that it is overloaded: what was saved is gone, and nothing is spent for a while.
    pub fn overloaded(&mut self, now: MonoTime) {
        self.twentieths = 0;
        self.closed_until = now + CLOSED_FOR;
    }

    /// Takes a hedge; false if there is none. One away from a stuck node is always given.
    #[must_use]
    pub fn take(&mut self, now: MonoTime, reason: Reason) -> bool {
        match reason {
            Reason::Stuck => true,
            Reason::Slow if now < self.closed_until => false,
            Reason::Slow => {
                let has_one = self.twentieths >= 20;
                if has_one {
                    self.twentieths -= 20;
                }
                has_one
            }
        }
    }

    /// The first request answered before its hedge did.
    pub const fn lost(&mut self, reason: Reason) {
        match reason {
            Reason::Slow => self.twentieths = self.twentieths.saturating_sub(40),
            Reason::Stuck => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_micros(ms * 1000)
    }

    /// Latencies of 1 to 100 units in a scrambled order that repeats.
    fn latencies(unit: Duration) -> impl Iterator<Item = Duration> {
        (0u32..).map(move |index| unit * (index.wrapping_mul(37) % 100 + 1))
    }

    #[test]
    fn the_estimate_settles_near_the_95th_percentile_and_follows_it() {
        let mut p95 = P95::default();
        for unit_micros in [100, 1_000, 200] {
            let unit = Duration::from_micros(unit_micros);
            let recent = latencies(unit).take(20_000);
            recent.for_each(|took| p95.measured(took));
            let delay = p95.value().expect("it was measured");
            let near = unit * 85..=unit * 103;
            assert!(near.contains(&delay), "{unit:?}: {delay:?}");
        }
    }

    #[test]
    fn delays_keep_to_their_bounds() {
        let mut p95 = P95::default();
        assert_eq!(p95.delay(), DELAY_UNMEASURED);
        for (took, want) in [(Duration::ZERO, DELAY_MIN), (Duration::MAX, DELAY_MAX)] {
            (0..5_000).for_each(|_| p95.measured(took));
            assert_eq!(p95.delay(), want, "{took:?}");
        }
    }

    #[test]
    fn one_request_in_twenty_may_be_hedged() {
        let mut budget = HedgeBudget::full();
        let mut hedges = 0;
        for _ in 0..10_000 {
            budget.begun();
            hedges += i32::from(budget.take(at(0), Reason::Slow));
        }
        assert!(
            (500..=500 + HedgeBudget::HEDGES_MAX).contains(&hedges),
            "{hedges}"
        );
    }

    #[test]
    fn hedges_that_lose_become_rare() {
        let mut budget = HedgeBudget::full();
        let mut hedges = 0;
        for _ in 0..10_000 {
            budget.begun();
            if budget.take(at(0), Reason::Slow) {
                hedges += 1;
                budget.lost(Reason::Slow);
            }
        }
        assert!(hedges < 200, "{hedges}");
    }

    #[test]
    fn overload_closes_the_budget_but_not_the_way_from_a_stuck_node() {
        let mut budget = HedgeBudget::full();
        budget.overloaded(at(0));
        (0..400).for_each(|_| budget.begun());
        assert!(!budget.take(at(999), Reason::Slow));
        assert!(budget.take(at(999), Reason::Stuck));
        assert!(budget.take(at(1_000), Reason::Slow));
    }
}
