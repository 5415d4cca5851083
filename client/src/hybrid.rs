//! The clock that stamps writes of lww keyspaces: the wall clock, never going back, and pulled
//! ahead by the stamps that replies tell of.
//!
//! A stamp is above every stamp that this client gave or was told of, so that a write after a read
//! supersedes what was read even where the clocks of two clients differ. Replies tell how far to
//! follow: no farther ahead of the node's clock than a stamp may be. If nodes refuse a stamp all
//! the same, what was told is forgotten and the wall clock decides again.
//!
//! Not here: that an operation keeps its stamp in all attempts (`client::operation`).

use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

/// Wall time.
pub trait WallClock: Debug + Send + Sync {
    /// Microseconds since 1970.
    fn micros(&self) -> u64;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemWallClock;

impl WallClock for SystemWallClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the SDK asks the system for wall time, for stamps only"
    )]
    fn micros(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let micros = since.unwrap_or_default().as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX)
    }
}

/// Gives stamps that rise.
#[derive(Debug)]
pub(crate) struct HybridClock {
    wall: Arc<dyn WallClock>,
    last: u64,
}

impl HybridClock {
    pub(crate) const fn new(wall: Arc<dyn WallClock>) -> Self {
        Self { wall, last: 0 }
    }

    /// The next stamp.
    pub(crate) fn stamp(&mut self) -> u64 {
        self.last = self.wall.micros().max(self.last.saturating_add(1));
        self.last
    }

    /// A stamp above `other`, of which a reply told. The clock itself follows only as far as
    /// `feed`.
    pub(crate) fn stamp_above(&mut self, other: u64, feed: u64) -> u64 {
        self.observe(feed);
        self.stamp().max(other.saturating_add(1))
    }

    /// A reply told of a stamp.
    pub(crate) fn observe(&mut self, feed: u64) {
        self.last = self.last.max(feed);
    }

    /// Nodes refused a stamp as too far ahead.
    pub(crate) fn refused(&mut self) {
        self.last = self.last.min(self.wall.micros());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Hand(AtomicU64);

    impl WallClock for Hand {
        fn micros(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn stamps_rise_whatever_the_wall_clock_does_and_follow_replies() {
        let wall = Arc::new(Hand(AtomicU64::new(1_000)));
        let mut clock = HybridClock::new(wall.clone());
        assert_eq!((clock.stamp(), clock.stamp()), (1_000, 1_001));
        wall.0.store(10, Ordering::Relaxed);
        assert_eq!(clock.stamp(), 1_002);
        clock.observe(5_000);
        assert_eq!(clock.stamp(), 5_001);
        wall.0.store(9_000, Ordering::Relaxed);
        assert_eq!(clock.stamp(), 9_000);
    }

    #[test]
    fn a_wild_stamp_pulls_one_write_and_not_the_clock() {
        let wall = Arc::new(Hand(AtomicU64::new(1_000)));
        let mut clock = HybridClock::new(wall);
        assert_eq!(clock.stamp_above(1_000_000, 1_500), 1_000_001);
        assert_eq!(clock.stamp(), 1_502);
        clock.refused();
        assert_eq!(clock.stamp(), 1_001);
    }
}
