//! Where a node's CPU time goes, stage by stage.
//!
//! What the runtime's thread does is timed batch by batch, of each stage one batch in
//! [`SAMPLED_ONE_IN`], which then stands for as many: a thread's CPU clock is a system call of more
//! than a microsecond. A span is the lesser of two measurements: the wall clock's, read inside of
//! the CPU clock's, so that neither the costly call counts nor the time in which another process
//! had the processor. Items are counted one by one. What threads with one duty use, the system
//! counts (`threads`).
//!
//! Invariants: the stages of a scrape add up to the CPU time of the process; while profiling is off
//! a stage costs one branch, and the runtime's thread is one stage.
//!
//! Not here: which work belongs to which stage; who does the work says so.

mod stage;
mod text;
mod threads;
mod timed;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use stage::Stage;
pub use timed::Timed;
pub use transport::TimedRuntime;

use super::seam::Clock;

/// Of a stage's batches one in this many is timed: the readings of one cost about two microseconds.
const SAMPLED_ONE_IN: u64 = 64;

/// Spreads the sampled batches evenly over the numbers of batches, in no rhythm of theirs.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Readings by which the clock's own cost is known.
const CALIBRATIONS: usize = 65;

/// Counts of one stage.
#[derive(Debug, Default)]
struct Counts {
    batches: AtomicU64,
    items: AtomicU64,
    /// Estimated from the sampled batches; of what is nested inside the stage, too.
    nanos: AtomicU64,
    /// The most that a scrape has shown: a counter does not fall.
    shown_nanos: AtomicU64,
}

/// The stages of one node. The default is one that does not profile.
#[derive(Debug, Default)]
pub struct Profile {
    clock: Option<Arc<dyn Clock>>,
    /// What two readings of the wall clock, one right after the other, are apart.
    clock_nanos: u64,
    counts: [Counts; Stage::ALL.len()],
}

impl Profile {
    /// Profiles by `clock`.
    #[must_use]
    pub fn on(clock: Arc<dyn Clock>) -> Self {
        let pair = |_| {
            let first = clock.precise_nanos();
            clock.precise_nanos().saturating_sub(first)
        };
        let mut apart: Vec<u64> = (0..CALIBRATIONS).map(pair).collect();
        apart.sort_unstable();
        let clock_nanos = apart.get(CALIBRATIONS / 2).copied().unwrap_or_default();
        Self {
            clock: Some(clock),
            clock_nanos,
            counts: Default::default(),
        }
    }

    /// Begins a batch of `stage`; its end, and the stages that follow on it, are told to the lap.
    #[must_use]
    pub fn lap(&self, stage: Stage) -> Lap<'_> {
        let clock = self.clock.as_deref();
        let is_sampled = || {
            let number = self.of(stage).batches.fetch_add(1, Ordering::Relaxed);
            number.wrapping_mul(SPREAD) < u64::MAX / SAMPLED_ONE_IN
        };
        Lap {
            profile: clock.map(|_| self),
            begun: clock.filter(|_| is_sampled()).map(Reading::begin),
        }
    }

    /// Counts items of a stage that is not timed here.
    pub fn count(&self, stage: Stage, items: u64) {
        if self.clock.is_some() {
            self.of(stage).items.fetch_add(items, Ordering::Relaxed);
        }
    }

    /// Whether it profiles.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.clock.is_some()
    }

    fn of(&self, stage: Stage) -> &Counts {
        let [first, ..] = &self.counts;
        self.counts.get(stage.index()).unwrap_or(first)
    }

    /// Time of `stage` alone, without what is nested inside.
    fn own_nanos(&self, stage: Stage) -> u64 {
        let nanos = |stage| self.of(stage).nanos.load(Ordering::Relaxed);
        let nested: u64 = stage.nested().iter().copied().map(nanos).sum();
        nanos(stage).saturating_sub(nested)
    }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    cpu: u64,
    wall: u64,
}

impl Reading {
    /// The wall clock last: the span begins after the costly call.
    fn begin(clock: &dyn Clock) -> Self {
        let cpu = clock.thread_cpu_nanos();
        let wall = clock.precise_nanos();
        Self { cpu, wall }
    }

    /// The wall clock first: the span ends before the costly call.
    fn end(clock: &dyn Clock) -> Self {
        let wall = clock.precise_nanos();
        let cpu = clock.thread_cpu_nanos();
        Self { cpu, wall }
    }

    fn since(self, begun: Self) -> u64 {
        let cpu = self.cpu.saturating_sub(begun.cpu);
        cpu.min(self.wall.saturating_sub(begun.wall))
    }
}

/// A batch on its way through stages that follow one on the other, on one thread.
#[derive(Debug)]
pub struct Lap<'a> {
    profile: Option<&'a Profile>,
    begun: Option<Reading>,
}

impl Lap<'_> {
    /// The work since the lap began, or was told last, was of `stage` and handled `items`.
    pub fn ends(&mut self, stage: Stage, items: usize) {
        let Some(profile) = self.profile else {
            return;
        };
        let counts = profile.of(stage);
        counts.items.fetch_add(items as u64, Ordering::Relaxed);
        if let (Some(begun), Some(clock)) = (self.begun, profile.clock.as_deref()) {
            let ended = Reading::end(clock);
            let span = ended.since(begun).saturating_sub(profile.clock_nanos);
            let nanos = span.saturating_mul(SAMPLED_ONE_IN);
            counts.nanos.fetch_add(nanos, Ordering::Relaxed);
            self.begun = Some(Reading {
                cpu: ended.cpu,
                wall: clock.precise_nanos(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_ring::MonoTime;

    use super::*;
    use crate::shell::seam::BoxFuture;

    /// Wall and CPU clock, moved by hand.
    #[derive(Debug, Default)]
    pub(super) struct HandClock {
        pub(super) wall: AtomicU64,
        pub(super) cpu: AtomicU64,
    }

    impl HandClock {
        fn move_by(&self, wall: u64, cpu: u64) {
            self.wall.fetch_add(wall, Ordering::Relaxed);
            self.cpu.fetch_add(cpu, Ordering::Relaxed);
        }
    }

    impl Clock for HandClock {
        fn now(&self) -> MonoTime {
            MonoTime::ZERO
        }
        fn wall_micros(&self) -> u64 {
            0
        }
        fn sleep_until(&self, _at: MonoTime) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
        fn precise_nanos(&self) -> u64 {
            self.wall.load(Ordering::Relaxed)
        }
        fn thread_cpu_nanos(&self) -> u64 {
            self.cpu.load(Ordering::Relaxed)
        }
    }

    const BATCHES: u64 = 64_000;

    fn is_near(nanos: u64, want: u64) -> bool {
        nanos.abs_diff(want) * 100 < want
    }

    #[test]
    fn sampled_batches_stand_for_all_and_items_are_counted() {
        let clock = Arc::new(HandClock::default());
        let profile = Profile::on(Arc::clone(&clock) as _);
        for _ in 0..BATCHES {
            let mut lap = profile.lap(Stage::Core);
            clock.move_by(1_000, 1_000);
            lap.ends(Stage::Core, 3);
            clock.move_by(500, 500);
            lap.ends(Stage::Append, 1);
        }
        let core = profile.own_nanos(Stage::Core);
        assert!(is_near(core, 1_000 * BATCHES), "{core}");
        let append = profile.own_nanos(Stage::Append);
        assert!(is_near(append, 500 * BATCHES), "{append}");
        let items = |stage| profile.of(stage).items.load(Ordering::Relaxed);
        assert_eq!(items(Stage::Core), 3 * BATCHES);
        assert_eq!(items(Stage::Append), BATCHES);
    }

    #[test]
    fn time_in_which_another_process_ran_is_not_counted() {
        let clock = Arc::new(HandClock::default());
        let profile = Profile::on(Arc::clone(&clock) as _);
        for _ in 0..BATCHES {
            let mut lap = profile.lap(Stage::Core);
            clock.move_by(1_000_000, 1_000);
            lap.ends(Stage::Core, 1);
        }
        let core = profile.own_nanos(Stage::Core);
        assert!(is_near(core, 1_000 * BATCHES), "{core}");
    }

    #[test]
    fn what_is_nested_is_counted_once() {
        let clock = Arc::new(HandClock::default());
        let profile = Profile::on(Arc::clone(&clock) as _);
        for _ in 0..BATCHES {
            let mut outer = profile.lap(Stage::StreamRead);
            clock.move_by(300, 300);
            let mut inner = profile.lap(Stage::PeerDecode);
            clock.move_by(700, 700);
            inner.ends(Stage::PeerDecode, 1);
            outer.ends(Stage::StreamRead, 1);
        }
        let outer = profile.own_nanos(Stage::StreamRead);
        assert!(is_near(outer, 300 * BATCHES), "{outer}");
        let inner = profile.own_nanos(Stage::PeerDecode);
        assert!(is_near(inner, 700 * BATCHES), "{inner}");
    }

    #[test]
    fn a_profile_that_is_off_counts_nothing() {
        let profile = Profile::default();
        profile.lap(Stage::Core).ends(Stage::Core, 3);
        profile.count(Stage::Commit, 3);
        for stage in Stage::ALL {
            assert_eq!(profile.own_nanos(stage), 0);
            assert_eq!(profile.of(stage).items.load(Ordering::Relaxed), 0);
        }
    }
}
