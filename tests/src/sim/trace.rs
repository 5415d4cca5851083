//! What happened in a run: a rolling hash over every event, counters, and lines for people.
//!
//! Two runs of one seed must have the same hash; the first event that differs is found by printing
//! both. Counters tell which faults took effect and which states were reached.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use super::sched::Scheduler;

/// Shared by everything in one run. Cheap to clone.
#[derive(Clone)]
pub struct Trace {
    shared: Arc<Mutex<Shared>>,
    time: Scheduler,
    verbose: bool,
}

struct Shared {
    hash: Xxh3,
    events: u64,
    counters: BTreeMap<&'static str, u64>,
    recent: std::collections::VecDeque<String>,
}

/// Lines kept for the report of a failure.
const RECENT_MAX: usize = 60;

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

impl Trace {
    /// An empty trace; `verbose` prints every line to standard error.
    #[must_use]
    pub fn new(time: Scheduler, verbose: bool) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                hash: Xxh3::new(),
                events: 0,
                counters: BTreeMap::new(),
                recent: std::collections::VecDeque::new(),
            })),
            time,
            verbose,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an event that is too frequent for people unless they ask; `words` name it.
    pub fn event(&self, kind: &'static str, words: &[u64], text: impl FnOnce() -> String) {
        let now = self.time.now_us();
        {
            let mut shared = self.lock();
            shared.events += 1;
            shared.hash.update(kind.as_bytes());
            shared.hash.update(&now.to_le_bytes());
            for word in words {
                shared.hash.update(&word.to_le_bytes());
            }
        }
        if self.verbose {
            print_line(now, kind, &text());
        }
    }

    /// Notes an event that a report of a failure shows.
    pub fn line(&self, kind: &'static str, words: &[u64], text: String) {
        let now = self.time.now_us();
        {
            let mut shared = self.lock();
            if shared.recent.len() == RECENT_MAX {
                shared.recent.pop_front();
            }
            let line = format!("{:>9.3} s {kind}: {text}", seconds(now));
            shared.recent.push_back(line);
        }
        self.event(kind, words, || text);
    }

    /// Counts that a fault took effect or a state was reached.
    pub fn count(&self, name: &'static str) {
        *self.lock().counters.entry(name).or_default() += 1;
    }

    /// Counts `name` several times.
    pub fn count_many(&self, name: &'static str, times: u64) {
        if times > 0 {
            *self.lock().counters.entry(name).or_default() += times;
        }
    }

    /// How often `name` was counted.
    #[must_use]
    pub fn counted(&self, name: &str) -> u64 {
        self.lock().counters.get(name).copied().unwrap_or(0)
    }

    /// All counters.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counters.clone()
    }

    /// Hash over every event so far, and how many there were.
    #[must_use]
    pub fn digest(&self) -> (u64, u64) {
        let shared = self.lock();
        (shared.hash.digest(), shared.events)
    }

    /// The newest lines.
    #[must_use]
    pub fn recent(&self) -> Vec<String> {
        self.lock().recent.iter().cloned().collect()
    }
}

#[expect(clippy::print_stderr, reason = "a verbose run is read by people")]
fn print_line(now: u64, kind: &str, text: &str) {
    eprintln!("{:>9.3} s {kind}: {text}", seconds(now));
}

#[expect(clippy::cast_precision_loss, reason = "printed with three digits")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
