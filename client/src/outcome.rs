//! What became of an operation, over all its attempts.
//!
//! Applied if one attempt was; not applied only if every one certainly was not; else unknown. An
//! attempt that timed out may have minted its dot, and what a later attempt says of itself cannot
//! take that back (counterexample O1 of the design notes).
//!
//! Not here: whether to try again (`retry`).

use quorate_ring::planted::{Bug, planted};

use crate::wire::Outcome;

/// Outcomes of the attempts so far. Without any attempt the operation is not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutcomeTally {
    applied: bool,
    unknown: bool,
    last: Option<Outcome>,
}

impl OutcomeTally {
    /// Counts one more attempt.
    pub fn add(&mut self, attempt: Outcome) {
        match attempt {
            Outcome::Applied => self.applied = true,
            Outcome::NotApplied => {}
            Outcome::Unknown => self.unknown = true,
        }
        self.last = Some(attempt);
    }

    /// What became of the operation.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if planted(Bug::OutcomeOfLastAttempt) {
            return self.last.unwrap_or(Outcome::NotApplied);
        }
        if self.applied {
            Outcome::Applied
        } else if self.unknown {
            Outcome::Unknown
        } else {
            Outcome::NotApplied
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Outcome; 3] = [Outcome::Applied, Outcome::NotApplied, Outcome::Unknown];

    fn over(attempts: &[Outcome]) -> Outcome {
        let mut tally = OutcomeTally::default();
        attempts.iter().for_each(|attempt| tally.add(*attempt));
        tally.outcome()
    }

    /// Every sequence of up to `length` attempts.
    fn sequences(length: usize) -> Vec<Vec<Outcome>> {
        let mut all = vec![vec![]];
        let mut from = 0;
        for _ in 0..length {
            let until = all.len();
            for index in from..until {
                for next in ALL {
                    let mut longer = all[index].clone();
                    longer.push(next);
                    all.push(longer);
                }
            }
            from = until;
        }
        all
    }

    #[test]
    fn outcome_is_over_all_attempts_in_any_order() {
        for attempts in sequences(5) {
            let want = if attempts.contains(&Outcome::Applied) {
                Outcome::Applied
            } else if attempts.contains(&Outcome::Unknown) {
                Outcome::Unknown
            } else {
                Outcome::NotApplied
            };
            assert_eq!(over(&attempts), want, "{attempts:?}");
        }
    }

    #[test]
    fn a_refused_retry_does_not_take_back_an_unknown_attempt_o1() {
        assert_eq!(
            over(&[Outcome::Unknown, Outcome::NotApplied]),
            Outcome::Unknown
        );
    }
}
