//! How many requests a shard works on at once: as many as it answers in good time.
//!
//! A fixed number is either too small for a fast machine or too large for a busy one, where each
//! request that is taken makes all others later. So the limit follows what is measured: it grows
//! while answers come in good time and falls by a part while hardly any does (additive increase,
//! multiplicative decrease; Chiu and Jain, Computer Networks 17, 1989). What finds no room waits in
//! the [`super::request_queue`] and is refused there, *not applied*, if it waits too long.
//!
//! Only a window in which nearly no answer was in time lowers the limit: writes that wait for a
//! silent replica must not take the room of reads that do well without it.
//!
//! Invariant: between [`LIMIT_MIN`] and the bound that it was made with.

use std::time::Duration;

use quorate_ring::MonoTime;

/// Requests that may always be worked on at once.
const LIMIT_MIN: usize = 128;

/// An answer within this time is in good time: a sync of a slow disk, twice.
const GOOD_TIME: Duration = Duration::from_millis(100);

/// How often the limit is set anew.
const WINDOW: Duration = Duration::from_millis(100);

/// One answer in so many that is in time keeps the limit up.
const GOOD_ONE_IN: usize = 8;

/// The limit, and what was measured since it was set.
#[derive(Debug)]
pub struct Admission {
    limit: usize,
    limit_max: usize,
    window_ends: MonoTime,
    answers: usize,
    in_time: usize,
    /// Most requests at once in this window.
    most: usize,
}

impl Admission {
    /// A limit that starts at its bound: nothing is known to be late.
    #[must_use]
    pub const fn new(now: MonoTime, limit_max: usize) -> Self {
        Self {
            limit: limit_max,
            limit_max,
            window_ends: now,
            answers: 0,
            in_time: 0,
            most: 0,
        }
    }

    /// Requests that may be taken while `in_flight` are worked on.
    #[must_use]
    pub const fn room(&self, in_flight: usize) -> usize {
        self.limit.saturating_sub(in_flight)
    }

    /// A request was answered `took` after it was taken; `in_flight` were worked on with it.
    pub fn answered(&mut self, now: MonoTime, took: Duration, in_flight: usize) {
        self.answers += 1;
        self.in_time += usize::from(took <= GOOD_TIME);
        self.most = self.most.max(in_flight);
        if now >= self.window_ends {
            self.close_window(now);
        }
    }

    fn close_window(&mut self, now: MonoTime) {
        let late = self.in_time * GOOD_ONE_IN < self.answers;
        self.limit = if late {
            (self.limit.min(self.most) / 2).max(LIMIT_MIN.min(self.limit_max))
        } else {
            (self.limit + self.limit / 8 + 1).min(self.limit_max)
        };
        self.window_ends = now + WINDOW;
        (self.answers, self.in_time, self.most) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 4_096;

    /// Answers for `windows` windows, all after `took`.
    fn run(admission: &mut Admission, from: u64, windows: u64, took_ms: &[u64], in_flight: usize) {
        for step in 0..windows * 50 {
            let now = MonoTime::from_micros((from * 100 + step * 2) * 1_000);
            let turn = usize::try_from(step).expect("small") % took_ms.len();
            let took = Duration::from_millis(took_ms[turn]);
            admission.answered(now, took, in_flight);
        }
    }

    #[test]
    fn late_answers_lower_the_limit_to_its_least_and_good_ones_raise_it_again() {
        let mut admission = Admission::new(MonoTime::ZERO, MAX);
        run(&mut admission, 0, 3, &[20], 300);
        assert_eq!(admission.room(300), MAX - 300);
        run(&mut admission, 3, 2, &[400], 2_000);
        assert!(admission.room(0) <= 2_000, "{admission:?}");
        run(&mut admission, 5, 40, &[400], 2_000);
        assert_eq!(admission.room(0), LIMIT_MIN);
        assert_eq!(admission.room(LIMIT_MIN + 7), 0);
        run(&mut admission, 45, 60, &[20], 100);
        assert_eq!(admission.room(0), MAX);
    }

    #[test]
    fn reads_in_time_keep_the_limit_beside_writes_that_wait() {
        let mut admission = Admission::new(MonoTime::ZERO, MAX);
        run(&mut admission, 0, 50, &[1, 900, 900, 900], 2_000);
        assert_eq!(admission.room(0), MAX);
    }

    #[test]
    fn a_bound_below_the_least_holds() {
        let mut admission = Admission::new(MonoTime::ZERO, 10);
        run(&mut admission, 0, 50, &[900], 10);
        assert_eq!(admission.room(0), 10);
    }
}
