//! Clocks of simulated nodes: wall clocks that are wrong and jump, monotonic ones that drift.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use quorate_client::WallClock;
use quorate_node::shell::seam::{BoxFuture, Clock};
use quorate_ring::MonoTime;

use super::gate::Gate;
use super::sched::Scheduler;

/// Wall time at the start of every run, in microseconds since 1970.
const WALL_START_US: u64 = 1_750_000_000_000_000;

/// The clock of a machine, which outlives its process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Machine {
    time: Scheduler,
    /// How much faster than true time the monotonic clock runs, in parts per million.
    rate_ppm: i64,
    wall_skew_us: Arc<AtomicI64>,
}

impl Machine {
    /// A machine whose wall clock is off by `wall_skew_us` from the start.
    #[must_use]
    pub fn new(time: Scheduler, rate_ppm: i64, wall_skew_us: i64) -> Self {
        Self {
            time,
            rate_ppm,
            wall_skew_us: Arc::new(AtomicI64::new(wall_skew_us)),
        }
    }

    /// Sets the wall clock `by_us` ahead, or back if negative.
    pub fn jump(&self, by_us: i64) {
        self.wall_skew_us.fetch_add(by_us, Ordering::Relaxed);
    }

    /// Sets the wall clock right.
    pub fn set_right(&self) {
        self.wall_skew_us.store(0, Ordering::Relaxed);
    }

    /// What the wall clock shows, in microseconds since 1970.
    #[must_use]
    pub fn wall_micros(&self) -> u64 {
        let skew = self.wall_skew_us.load(Ordering::Relaxed);
        (WALL_START_US + self.time.now_us()).saturating_add_signed(skew)
    }

    /// The clock of a process that starts now.
    #[must_use]
    pub fn start(&self, gate: Gate) -> SimClock {
        SimClock {
            machine: self.clone(),
            started_us: self.time.now_us(),
            gate,
        }
    }
}

/// The wall clock of a client's machine.
impl WallClock for Machine {
    fn micros(&self) -> u64 {
        self.wall_micros()
    }
}

/// The clock of one life of a node.
#[derive(Debug, Clone)]
pub struct SimClock {
    machine: Machine,
    started_us: u64,
    gate: Gate,
}

impl SimClock {
    /// True microseconds since the start of the run at which the node's clock shows `at`.
    fn true_time(&self, at: MonoTime) -> u64 {
        let own = i128::from(at.as_micros());
        let elapsed = own * 1_000_000 / (1_000_000 + i128::from(self.machine.rate_ppm));
        // One more, so that the clock never shows less than `at` after the wait.
        self.started_us
            .saturating_add(u64::try_from(elapsed + 1).unwrap_or(u64::MAX))
    }
}

impl Clock for SimClock {
    fn now(&self) -> MonoTime {
        let elapsed = i128::from(self.machine.time.now_us() - self.started_us);
        let own = elapsed * (1_000_000 + i128::from(self.machine.rate_ppm)) / 1_000_000;
        MonoTime::from_micros(u64::try_from(own).unwrap_or(0))
    }

    fn wall_micros(&self) -> u64 {
        self.machine.wall_micros()
    }

    fn sleep_until(&self, at: MonoTime) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            // A century is as good as never, and the runtime's timers end before 2^64.
            let at = clock.true_time(at).min(100 * 365 * 86_400 * 1_000_000);
            clock.machine.time.sleep_until(at).await;
            clock.gate.wait().await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sleep_ends_when_the_nodes_own_clock_says_so() {
        let time = Scheduler::start();
        for rate in [-100_000, 0, 100_000] {
            let clock = Machine::new(time.clone(), rate, 0).start(Gate::default());
            let at = MonoTime::from_micros(1_234_567);
            clock.sleep_until(at).await;
            let late = clock.now().since(at);
            assert!(
                clock.now() >= at && late.as_micros() < 3000,
                "{late:?} at {rate} ppm"
            );
        }
    }
}
