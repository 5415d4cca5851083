//! Who gives way when processors are short: the threads that feed and compact the engine.
//!
//! No answer waits for them, and they work for seconds at a time. At equal priority each takes as
//! much of a processor as the shard and the committer, and a write waits behind their slices at
//! each of its steps. They keep a share: were they starved, the table would fill and writes wait
//! for them.
//!
//! Priorities weigh threads of one process group against each other. Replicas hold the same
//! records, so their generations are full at the same time, and where several nodes share a machine
//! nothing weighs one's feeding against another's requests: so the feed also rests.
//!
//! Not here: who gives way at the disk (`writeback`).

use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// How nice they are: about a tenth of the weight of an ordinary thread.
const NICE: i32 = 10;

/// Lowers the priority of the calling thread, and of those that it starts from now on.
pub(in crate::shell) fn give_way() {
    // Where the system refuses, all threads are equal: slower at the tail, and as safe.
    let _asked = setpriority_process(Some(gettid()), NICE);
}

/// Rows between two rests: a third of a millisecond.
const ROWS_PER_TURN: u32 = 256;

/// The longest rest: a turn that was long waited for a disk, which rested meanwhile.
const REST_MAX: Duration = Duration::from_millis(10);

/// Takes turns with everything else, so that a long work is a small part of a processor.
#[derive(Debug)]
pub(super) struct Pace {
    /// A rest is so many times as long as the turn before it.
    rest: u32,
    rows: u32,
    turn: Instant,
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long its own thread works and rests decides nothing"
)]
impl Pace {
    /// The first turn begins; a rest is `rest` times as long as the turn before it.
    pub(super) fn start(rest: u32) -> Self {
        Self {
            rest,
            rows: 0,
            turn: Instant::now(),
        }
    }

    /// A row was done; rests at the end of a turn.
    pub(super) fn row(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS_PER_TURN) {
            let rest = self.turn.elapsed() * self.rest;
            std::thread::sleep(rest.min(REST_MAX));
            self.turn = Instant::now();
        }
    }
}
