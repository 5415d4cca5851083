//! The disk alone: one thread that writes 4 KiB into a file filled before and syncs, again and
//! again.
//!
//! A soak runs it beside its load: a stall that the probe sees too is the machine's.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::file::{BLOCK_BYTES, PreparedFile};
use crate::clock::Clock;
use crate::recorder::{End, Kind, Latency, Recorder};

/// Name of the file, which is removed at the end.
const FILE: &str = "sync-probe";

/// What the syncs took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SyncSummary {
    /// Syncs that were done.
    pub syncs: u64,
    /// From the first write until the end.
    pub elapsed: Duration,
    /// Microseconds of a write with its sync.
    pub latency: Latency,
}

impl SyncSummary {
    /// Syncs per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a count of syncs")]
    pub fn rate(&self) -> f64 {
        self.syncs as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The longest write with its sync, in milliseconds: the longest stall of the disk.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "microseconds of one sync")]
    pub fn longest_ms(&self) -> f64 {
        self.latency.max_us as f64 / 1e3
    }
}

/// The running probe. Dropped without [`SyncProbe::finish`], it goes on until the flag is set.
#[derive(Debug)]
pub struct SyncProbe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<SyncSummary>>,
}

impl SyncProbe {
    /// Makes a file of 64 MiB in `folder` and syncs on a thread of its own until `stop` is set,
    /// with `pause` between one sync and the next: with none it takes what the disk has.
    ///
    /// # Errors
    /// If the file or the thread cannot be made.
    pub fn start(
        folder: &Path,
        clock: Clock,
        stop: Arc<AtomicBool>,
        pause: Duration,
    ) -> Result<Self> {
        let file = PreparedFile::create(folder, FILE)?;
        let path = folder.join(FILE);
        let seen = Arc::clone(&stop);
        let thread = Builder::new()
            .name("sync-probe".to_owned())
            .spawn(move || {
                let summary = sync_until(file, clock, &seen, pause);
                std::fs::remove_file(path)?;
                summary
            })
            .context("no thread for the sync probe")?;
        Ok(Self { stop, thread })
    }

    /// Sets the flag, and waits for the end of the sync under way.
    ///
    /// # Errors
    /// What the disk reported.
    pub fn finish(self) -> Result<SyncSummary> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        let summary = ended.map_err(|_| anyhow!("the thread of the sync probe panicked"))?;
        summary.context("the disk does not take the probe's blocks")
    }
}

fn sync_until(
    mut file: PreparedFile,
    clock: Clock,
    stop: &AtomicBool,
    pause: Duration,
) -> io::Result<SyncSummary> {
    let block = [7; BLOCK_BYTES];
    let mut recorder = Recorder::default();
    let begin = clock.now();
    loop {
        let from = clock.now();
        file.append(&block)?;
        recorder.add(Kind::Write, End::Done, clock.now() - from);
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if !pause.is_zero() {
            rest(pause);
        }
    }
    let latency = recorder.latency(Kind::Write);
    Ok(SyncSummary {
        syncs: recorder.done(),
        elapsed: clock.now() - begin,
        latency: latency.ok_or_else(|| io::Error::other("nothing was synced"))?,
    })
}

/// Waits on the probe's own thread.
#[expect(
    clippy::disallowed_methods,
    reason = "a pause on a thread that does nothing else, outside of any runtime"
)]
pub fn rest(pause: Duration) {
    std::thread::sleep(pause);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_syncs_until_it_is_stopped_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let stop = Arc::new(AtomicBool::new(true));
        let probe = SyncProbe::start(folder.path(), Clock::start(), stop, Duration::ZERO);
        let summary = probe.expect("it starts").finish().expect("it syncs");
        assert_eq!(summary.syncs, 1, "one is under way when it is stopped");
        assert_eq!(summary.latency.count, 1);
        assert!(summary.rate() > 0.0);
        let mut left = std::fs::read_dir(folder.path()).expect("the folder");
        assert!(left.next().is_none());
    }
}
