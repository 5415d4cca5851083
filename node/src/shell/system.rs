//! The system's clock and random source, behind the seams.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate_ring::{Incarnation, MonoTime};
use rand::Rng;
use rustix::thread::disable_transparent_huge_pages;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::seam::{BoxFuture, Clock, Rand};

/// Has the system give this process memory in pages of 4 KiB, and no huge ones, from now on.
///
/// The allocator asks for huge pages, and the system clears 2 MiB in the middle of an allocation. A
/// generation that is frozen, or a burst of requests, touches hundreds of them at once: a thread
/// was seen to do nothing else for up to half a second.
pub fn use_small_pages() {
    // Where the system refuses, such stalls last longer; nothing else changes.
    let _asked = disable_transparent_huge_pages(true);
}

/// The system's clocks; monotonic time starts when it is made.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Starts monotonic time now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the adapter behind the Clock seam"
    )]
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> MonoTime {
        let micros = self.origin.elapsed().as_micros();
        MonoTime::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the adapter behind the Clock seam"
    )]
    fn wall_micros(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn sleep_until(&self, at: MonoTime) -> BoxFuture<'static, ()> {
        let at = self.origin + Duration::from_micros(at.as_micros());
        Box::pin(tokio::time::sleep_until(at))
    }

    fn precise_nanos(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn thread_cpu_nanos(&self) -> u64 {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let part = |value: i64| u64::try_from(value).unwrap_or_default();
        part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
    }
}

/// The system's random source.
#[derive(Debug)]
pub struct SystemRand;

impl Rand for SystemRand {
    #[expect(
        clippy::disallowed_methods,
        reason = "the adapter behind the Rand seam"
    )]
    fn bits(&mut self) -> u64 {
        rand::rng().next_u64()
    }
}

/// Draws an incarnation: the start second and 32 random bits. Its order means nothing; together
/// they were never used before.
pub fn draw_incarnation(wall_micros: u64, rand: &mut dyn Rand) -> Incarnation {
    Incarnation((wall_micros / 1_000_000) << 32 | rand.bits() >> 32)
}
