//! How many requests a shard works on at once: as many as it answers in good time.
//!
//! A fixed number is either too small for a fast machine or too large for a busy one, where each
//! request that is taken makes all others later. So the limit follows what is measured: it grows
//! while answers come in good time and falls by a part while hardly any does (additive increase,
//! multiplicative decrease; Chiu and Jain, Computer Networks 17, 1989). What finds no room waits in
//! the [`super::request_queue`] and is refused there, *not applied*, if it waits too long.
//!
//! Good time is measured too: twice the least that an answer took lately, where that is long
//! because disks or replicas are far. Only a window in which nearly no answer was in time lowers
//! the limit: writes that wait for a silent replica must not take the room of reads that do well
//! without it. One with few answers says nothing, nor one with so few requests at once that their
//! number cannot be the cause.
//!
//! All that is worked on counts, in requests for one key, also what other nodes forward. Those do
//! not pass the queue here, so requests that do have a share of their own that is always theirs.
//!
//! Invariant: between a part of the bound that it was made with and that bound.

use std::time::Duration;

use quorate_ring::MonoTime;

/// This part of the bound may always be worked on at once.
const LEAST_ONE_IN: usize = 32;

/// An answer within this time is in good time: a sync of a slow disk, twice.
const GOOD_TIME_MIN: Duration = Duration::from_millis(100);

/// How often the limit is set anew.
const WINDOW: Duration = Duration::from_millis(100);

/// A window with fewer answers goes on.
const WINDOW_ANSWERS_MIN: usize = 16;

/// One answer in so many that is in time keeps the limit up.
const GOOD_ONE_IN: usize = 8;

/// The least time of an answer is forgotten after one to two of these.
const LEAST_KEPT: Duration = Duration::from_secs(5);

/// What is worked on, in requests for one key: a batch is as many as it has items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unanswered {
    /// Came from the queue.
    pub queued: usize,
    /// Other nodes forwarded it.
    pub forwarded: usize,
}

impl Unanswered {
    /// Both.
    #[must_use]
    pub const fn total(self) -> usize {
        self.queued + self.forwarded
    }
}

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
    /// Least time of an answer in this period and in the one before.
    least: [Duration; 2],
    period_ends: MonoTime,
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
            least: [Duration::MAX; 2],
            period_ends: now,
        }
    }

    /// Requests of the queue that may be taken while these are worked on.
    #[must_use]
    pub fn room(&self, unanswered: Unanswered) -> usize {
        let room = self.limit.saturating_sub(unanswered.total());
        room.max(self.share_left(unanswered))
    }

    /// Requests that may always be taken from the queue, whatever else is worked on.
    #[must_use]
    pub fn share_left(&self, unanswered: Unanswered) -> usize {
        self.limit_min().saturating_sub(unanswered.queued)
    }

    /// A request was answered `took` after it was taken; `in_flight` were worked on with it.
    pub fn answered(&mut self, now: MonoTime, took: Duration, in_flight: usize) {
        self.note_least(now, took);
        self.answers += 1;
        self.in_time += usize::from(took <= self.good_time());
        self.most = self.most.max(in_flight);
        if now >= self.window_ends && self.answers >= WINDOW_ANSWERS_MIN {
            self.close_window(now);
        }
    }

    fn limit_min(&self) -> usize {
        (self.limit_max / LEAST_ONE_IN).max(1)
    }

    fn good_time(&self) -> Duration {
        let least = self.least.into_iter().min().unwrap_or(Duration::MAX);
        least.saturating_mul(2).max(GOOD_TIME_MIN)
    }

    fn note_least(&mut self, now: MonoTime, took: Duration) {
        if now >= self.period_ends {
            self.least = [Duration::MAX, self.least[0]];
            self.period_ends = now + LEAST_KEPT;
        }
        self.least[0] = self.least[0].min(took);
    }

    fn close_window(&mut self, now: MonoTime) {
        let limit_min = self.limit_min();
        let is_late = self.in_time * GOOD_ONE_IN < self.answers;
        self.limit = if is_late && self.most > limit_min {
            (self.limit.min(self.most) / 2).max(limit_min)
        } else if is_late {
            self.limit
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
    const MIN: usize = MAX / LEAST_ONE_IN;

    fn room(admission: &Admission, in_flight: usize, queued: usize) -> usize {
        admission.room(Unanswered {
            queued,
            forwarded: in_flight - queued,
        })
    }

    /// Answers for `windows` windows, `took_ms` in turns.
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
        assert_eq!(room(&admission, 300, 300), MAX - 300);
        run(&mut admission, 3, 2, &[400], 2_000);
        assert!(room(&admission, 0, 0) <= 2_000, "{admission:?}");
        run(&mut admission, 5, 40, &[400], 2_000);
        assert_eq!(room(&admission, 0, 0), MIN);
        assert_eq!(room(&admission, MIN + 7, MIN + 7), 0);
        run(&mut admission, 45, 60, &[20], 100);
        assert_eq!(room(&admission, 0, 0), MAX);
    }

    #[test]
    fn reads_in_time_keep_the_limit_beside_writes_that_wait() {
        let mut admission = Admission::new(MonoTime::ZERO, MAX);
        run(&mut admission, 0, 50, &[1, 900, 900, 900], 2_000);
        assert_eq!(room(&admission, 0, 0), MAX);
    }

    #[test]
    fn one_slow_answer_or_few_requests_at_once_lower_nothing() {
        let mut admission = Admission::new(MonoTime::ZERO, MAX);
        run(&mut admission, 0, 1, &[1], 2_000);
        admission.answered(
            MonoTime::from_micros(9_000_000),
            Duration::from_millis(900),
            2_000,
        );
        assert_eq!(room(&admission, 0, 0), MAX);
        run(&mut admission, 100, 20, &[900], MIN);
        assert_eq!(room(&admission, 0, 0), MAX);
    }

    #[test]
    fn where_every_answer_takes_long_twice_as_long_is_late() {
        let mut admission = Admission::new(MonoTime::ZERO, MAX);
        run(&mut admission, 0, 200, &[150, 250, 280], 2_000);
        assert_eq!(room(&admission, 0, 0), MAX);
        run(&mut admission, 200, 5, &[600], 2_000);
        assert!(room(&admission, 0, 0) < 1_000, "{admission:?}");
    }

    #[test]
    fn what_other_nodes_forward_leaves_the_queue_its_share() {
        let admission = Admission::new(MonoTime::ZERO, MAX);
        assert_eq!(room(&admission, MAX + 5, 0), MIN);
        assert_eq!(room(&admission, MAX + 5, MIN), 0);
    }

    #[test]
    fn a_small_bound_has_a_least_of_one() {
        let mut admission = Admission::new(MonoTime::ZERO, 10);
        run(&mut admission, 0, 1, &[1], 10);
        run(&mut admission, 1, 50, &[900], 10);
        assert_eq!(room(&admission, 0, 0), 1);
    }
}
