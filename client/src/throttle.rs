//! Holding back what nodes would refuse: while they shed, a client asks for at most about twice
//! what they take. Refusing costs a node less than doing, but not nothing, and several times of
//! what it can do in refusals leaves it no time for the rest.
//!
//! Counted are attempts that nodes took, that they refused as overload, and that were held back;
//! all fade. The first attempt of an operation is held back with the probability by which these
//! together are over twice what was taken, so that enough goes out to notice when nodes take more
//! again ("client-side throttling", Beyer et al., Site Reliability Engineering, 2016, chapter 21).
//! What is under way is not counted: a burst tells nothing before it is answered; nor is what got
//! no answer: a node that is gone says nothing of what the others can do. Attempts after the first
//! are not held back: their budget bounds them. A request that carries a batch counts as one, as it
//! is refused as one.
//!
//! Not here: what the caller is told (`progress`), retries and their budget (`retry`).

use std::time::Duration;

use quorate_ring::MonoTime;

/// So many attempts more than twice what is taken go out in any case: of few nothing can be said.
const SLACK: f64 = 100.0;

/// In this time what was counted fades to half.
const HALF_LIFE: Duration = Duration::from_millis(300);

/// What a caller is told to wait whose attempt was held back.
pub(crate) const HELD_BACK_ADVICE: Duration = Duration::from_millis(100);

/// What an answer tells of the load of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// It did what was asked, or did not for another reason than overload.
    Taken,
    /// It refused because there is too much to do.
    Refused,
}

/// What one client asked and what was taken of it, in the last second or two.
#[derive(Debug, Clone, Default)]
pub(crate) struct Throttle {
    taken: f64,
    shed: f64,
    held_back: f64,
    faded_at: MonoTime,
}

impl Throttle {
    /// Whether a first attempt that is about to go out is to be held back; counts it if so.
    pub(crate) fn holds_back(&mut self, now: MonoTime, random: impl FnOnce() -> u64) -> bool {
        self.fade(now);
        let asked = self.taken + self.shed + self.held_back;
        let over = asked - 2.0 * self.taken - SLACK;
        let holds = over > 0.0 && unit(random()) < over / asked;
        self.held_back += f64::from(u8::from(holds));
        holds
    }

    /// A node answered.
    pub(crate) fn answered(&mut self, now: MonoTime, load: Load) {
        self.fade(now);
        match load {
            Load::Taken => self.taken += 1.0,
            Load::Refused => self.shed += 1.0,
        }
    }

    fn fade(&mut self, now: MonoTime) {
        let span = now.since(self.faded_at);
        // Many attempts in one moment need no exponential each.
        if span >= Duration::from_millis(1) {
            let left = (-span.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
            self.taken *= left;
            self.shed *= left;
            self.held_back *= left;
            self.faded_at = now;
        }
    }
}

/// From 0 to 1.
fn unit(random: u64) -> f64 {
    f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rand::Rand;

    /// Asks `asked` times a millisecond while nodes take `taken`; how many went out in the last
    /// second of `seconds`.
    fn sent(throttle: &mut Throttle, from_s: u64, seconds: u64, asked: u64, taken: u64) -> u64 {
        let mut rand = Rand::from_seed(7);
        let mut sent_last = 0;
        for ms in 0..seconds * 1_000 {
            let now = MonoTime::from_micros((from_s * 1_000 + ms) * 1_000);
            let mut sent = 0;
            for _ in 0..asked {
                if !throttle.holds_back(now, || rand.bits()) {
                    sent += 1;
                    let load = if sent <= taken {
                        Load::Taken
                    } else {
                        Load::Refused
                    };
                    throttle.answered(now, load);
                }
            }
            if ms >= (seconds - 1) * 1_000 {
                sent_last += sent;
            }
        }
        sent_last
    }

    #[test]
    fn nothing_is_held_back_while_nodes_take_what_is_asked() {
        let mut throttle = Throttle::default();
        assert_eq!(sent(&mut throttle, 0, 3, 20, 20), 20_000);
        // Also not while one of three refuses everything.
        assert_eq!(sent(&mut throttle, 3, 3, 30, 20), 30_000);
    }

    #[test]
    fn about_twice_what_is_taken_goes_out_and_all_again_soon_after() {
        let mut throttle = Throttle::default();
        let out = sent(&mut throttle, 0, 6, 50, 5);
        assert!((8_000..14_000).contains(&out), "{out}");
        let back = sent(&mut throttle, 6, 3, 5, 50);
        assert_eq!(back, 5_000);
    }

    #[test]
    fn with_nodes_that_refuse_all_something_goes_out() {
        let mut throttle = Throttle::default();
        let out = sent(&mut throttle, 0, 6, 50, 0);
        assert!((20..2_000).contains(&out), "{out}");
    }
}
