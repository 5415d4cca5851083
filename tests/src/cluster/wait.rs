//! Real time, for tests on real processes: the one place of them that asks the system for it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time between two looks.
const POLL: Duration = Duration::from_millis(10);

/// Measures how long something takes.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "other processes live in real time"
    )]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Looks again and again until `look` sees something, and gives that back.
///
/// # Errors
/// If that takes longer than `limit`, with `what` was waited for; or what `look` fails with.
pub fn until<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let watch = Stopwatch::start();
    loop {
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if watch.elapsed() >= limit {
            bail!("waited {limit:?} in vain until {what}");
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "waits for another process, outside of any runtime"
)]
fn pause() {
    std::thread::sleep(POLL);
}
