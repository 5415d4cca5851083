//! The SDK's clock: tokio's, which the simulator pauses.
//!
//! Not here: wall time; the SDK needs none.

use quorate_ring::MonoTime;
use tokio::time::Instant;

/// Measures time since a client was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self::start()
    }
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: tokio_now() }
    }

    pub(crate) fn now(&self) -> MonoTime {
        let since = tokio_now().duration_since(self.start);
        MonoTime::ZERO + since
    }

    /// The same moment as tokio's timers know it.
    pub(crate) fn instant(&self, at: MonoTime) -> Instant {
        self.start + at.since(MonoTime::ZERO)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the SDK's one clock; it follows tokio's pause, as simulation needs"
)]
fn tokio_now() -> Instant {
    Instant::now()
}
