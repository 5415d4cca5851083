//! Whether and when an operation is tried again. Pure: a decision from what happened so far.
//!
//! Every retry of a write carries the op id of the first attempt and is therefore safe; what
//! limits retries is the deadline, the longest retry time of a write and a budget that keeps a
//! cluster in trouble from being buried in them. The advice of a server to wait is honoured.
//!
//! - What no node would ever answer otherwise is not tried again.
//! - What is the matter of one node goes to the next at once, and waits when all were tried.
//! - What only another view of the cluster could change is tried once per node; that too few
//!   replicas are up is believed once two nodes have said it.
//! - What time may change waits first.
//!
//! Not here: which node is next (`route`), what the outcome is (`outcome`).

use std::time::Duration;

use crate::wire::Code;

/// Age from which nodes answer a write's retry *unknown* without looking further.
pub const RETRY_AGE_MAX: Duration = Duration::from_secs(30);

/// Most attempts of one operation: far above what fits into the usual deadlines.
pub const ATTEMPTS_MAX: u16 = 1_000;

/// Wait before the second round; doubles per round.
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
/// Longest wait without a server's advice.
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Shortest time that is given to an attempt while other nodes are left to try.
const ATTEMPT_MIN: Duration = Duration::from_millis(50);
/// Longest time for an attempt while other nodes are left to try: what a dead node costs.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);
/// Longest time for the last attempt of a round.
const ATTEMPT_LAST_MAX: Duration = Duration::from_secs(2);
/// Nodes whose word is enough that too few replicas are up: one may see the others wrongly.
const UNAVAILABLE_NODES: usize = 2;
/// Into how many parts the time that is left is cut at least.
const ATTEMPT_PARTS_MIN: u32 = 2;
/// And at most.
const ATTEMPT_PARTS_MAX: u32 = 3;

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptFailure {
    /// It never left.
    NotSent,
    /// It got no answer.
    Lost,
    /// The node answered with this code and its advice to wait, zero if it gave none.
    Answered(Code, Duration),
}

/// What the decision needs to know about the operation.
#[derive(Debug, Clone, Copy)]
pub struct RetrySituation {
    /// A write is not tried again past [`RETRY_AGE_MAX`].
    pub is_write: bool,
    /// Attempts so far, at least 1.
    pub attempts: u16,
    /// Nodes that this round has not asked yet.
    pub untried: usize,
    /// Rounds over all nodes that are complete.
    pub rounds: u32,
    /// Different nodes that answered [`Code::Unavailable`] without advice to wait.
    pub unavailable: usize,
    /// Since the first attempt was sent.
    pub age: Duration,
    /// Until the deadline.
    pub remaining: Duration,
    /// Random bits for the jitter.
    pub random: u64,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try again after this time.
    Retry {
        /// Zero: at once.
        after: Duration,
        /// Whether the retry costs budget. What was never sent did not burden the cluster.
        costs: bool,
    },
    /// Read the topology anew, then try again after this time.
    Refresh {
        /// Zero: at once.
        after: Duration,
    },
    /// Tell the caller.
    GiveUp(GiveUp),
}

/// Why an operation is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// The same would be answered again.
    Final,
    /// No time is left for another attempt.
    Deadline,
    /// The first attempt is so old that nodes would not look at a retry.
    TooOld,
    /// Too large a part of this client's requests were retries.
    Budget,
    /// The operation was tried [`ATTEMPTS_MAX`] times.
    Attempts,
    /// Nodes refuse most of what this client asks, so that it asks for less: this attempt was not
    /// sent.
    HeldBack,
    /// As many operations of this client were under way as may be, for half of the deadline: it
    /// was never sent.
    NoTurn,
}

enum Class {
    Final,
    OncePerNode,
    NextNode,
    Wait,
    Refresh,
}

fn class(code: Code) -> Class {
    match code {
        Code::KeyInvalid
        | Code::ValueTooLarge
        | Code::TooManySiblings
        | Code::RecordTooLarge
        | Code::ContextFull
        | Code::KeyspaceUnknown
        | Code::LevelImpossible
        | Code::ContextInvalid
        | Code::AttemptTooOld
        | Code::RequestInvalid
        | Code::RoleRefused
        | Code::NodeUp
        | Code::SessionFull
        | Code::WrongMode
        | Code::TtlInvalid
        | Code::ScanTokenInvalid
        | Code::RangeInvalid
        | Code::BatchTooLarge
        | Code::BatchItemRepeated
        | Code::Other(_) => Class::Final,
        // Another node's clock may be right.
        Code::StampAhead | Code::ClockOff => Class::OncePerNode,
        Code::Unavailable
        | Code::DiskFull
        | Code::GuestsFull
        | Code::CopyLost
        | Code::Damaged
        | Code::Internal
        | Code::BelowFloor
        | Code::PayloadUnsupported
        | Code::OperationNotSeen => Class::OncePerNode,
        Code::NotReady | Code::ShuttingDown | Code::ConnectionLost | Code::ConnectFailed => {
            Class::NextNode
        }
        Code::QuorumNotReached
        | Code::DeadlineExceeded
        | Code::Overloaded
        | Code::BatchAnswerFull
        | Code::ContextAhead
        | Code::SessionBehind => Class::Wait,
        Code::EpochMismatch => Class::Refresh,
    }
}

/// Whether the same request would be refused again, whatever time passes.
pub(crate) fn is_final(code: Code) -> bool {
    matches!(class(code), Class::Final)
}

/// Decides what follows a failed attempt.
#[must_use]
pub fn decide(failure: AttemptFailure, situation: &RetrySituation) -> RetryDecision {
    let (class, advice, costs) = match failure {
        AttemptFailure::NotSent => (Class::NextNode, Duration::ZERO, false),
        AttemptFailure::Lost => (Class::NextNode, Duration::ZERO, true),
        AttemptFailure::Answered(code, advice) => (class(code), advice, true),
    };
    let untried = situation.untried > 0;
    if is_unavailable(failure, situation) {
        return RetryDecision::GiveUp(GiveUp::Final);
    }
    let after = match class {
        Class::Final => return RetryDecision::GiveUp(GiveUp::Final),
        Class::OncePerNode if !untried && advice.is_zero() => {
            return RetryDecision::GiveUp(GiveUp::Final);
        }
        Class::OncePerNode | Class::NextNode | Class::Refresh if untried => Duration::ZERO,
        Class::OncePerNode | Class::NextNode | Class::Refresh | Class::Wait => {
            advice.max(backoff(situation.rounds, situation.random))
        }
    };
    if situation.attempts >= ATTEMPTS_MAX {
        return RetryDecision::GiveUp(GiveUp::Attempts);
    }
    if situation.is_write && situation.age + after >= RETRY_AGE_MAX {
        return RetryDecision::GiveUp(GiveUp::TooOld);
    }
    if after >= situation.remaining {
        return RetryDecision::GiveUp(GiveUp::Deadline);
    }
    if matches!(class, Class::Refresh) {
        return RetryDecision::Refresh { after };
    }
    RetryDecision::Retry { after, costs }
}

/// Whether the level certainly cannot be met now: two nodes said so, or one of those that were
/// reached did and all were tried.
fn is_unavailable(failure: AttemptFailure, situation: &RetrySituation) -> bool {
    match failure {
        AttemptFailure::Answered(Code::Unavailable, advice) => {
            advice.is_zero() && situation.unavailable >= UNAVAILABLE_NODES
        }
        AttemptFailure::NotSent => situation.unavailable > 0 && situation.untried == 0,
        AttemptFailure::Lost | AttemptFailure::Answered(..) => false,
    }
}

/// Between half of the round's wait and all of it ("equal jitter").
fn backoff(rounds: u32, random: u64) -> Duration {
    let full = (BACKOFF_FIRST * (1 << rounds.min(8))).min(BACKOFF_MAX);
    let micros = u64::try_from(full.as_micros()).unwrap_or(u64::MAX).max(2);
    Duration::from_micros(micros / 2 + random % (micros / 2))
}

/// How long an attempt may take, so that one stuck node does not eat the whole deadline: an equal
/// part for each of the `untried` nodes, at least two and at most three parts, none under 50 ms or
/// over 1 s, the last node's not over 2 s. The last node of a round does not get all that is left
/// either: it is often last because it rests. With one node in the cluster there is nobody to save
/// time for.
#[must_use]
pub fn attempt_timeout(remaining: Duration, untried: usize, nodes: usize) -> Duration {
    if nodes <= 1 {
        return remaining;
    }
    let parts = u32::try_from(untried).unwrap_or(u32::MAX);
    let part = remaining / parts.clamp(ATTEMPT_PARTS_MIN, ATTEMPT_PARTS_MAX);
    let most = if untried > 1 {
        ATTEMPT_MAX
    } else {
        ATTEMPT_LAST_MAX
    };
    part.clamp(ATTEMPT_MIN, most).min(remaining)
}

/// Token bucket over all operations of a client: each retry takes a token, each success returns
/// a tenth of one. In lasting trouble retries thus add at most a tenth to the load, while a burst
/// as large as the bucket, such as a node's death with many requests in flight, is retried whole.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    tenths: u32,
}

impl RetryBudget {
    /// Retries in a full bucket: more than the requests that a client usually has in flight.
    pub const RETRIES_MAX: u32 = 2_000;

    const TENTHS_MAX: u32 = Self::RETRIES_MAX * 10;

    /// A full bucket.
    #[must_use]
    pub const fn full() -> Self {
        Self {
            tenths: Self::TENTHS_MAX,
        }
    }

    /// Takes a token; false if there is none.
    #[must_use]
    pub const fn take(&mut self) -> bool {
        match self.tenths.checked_sub(10) {
            Some(left) => {
                self.tenths = left;
                true
            }
            None => false,
        }
    }

    /// An operation succeeded.
    pub const fn succeeded(&mut self) {
        if self.tenths < Self::TENTHS_MAX {
            self.tenths += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn situation() -> RetrySituation {
        RetrySituation {
            is_write: true,
            attempts: 1,
            untried: 2,
            rounds: 0,
            unavailable: 0,
            age: Duration::from_millis(100),
            remaining: Duration::from_secs(1),
            random: 0,
        }
    }

    fn answered(code: Code) -> AttemptFailure {
        AttemptFailure::Answered(code, Duration::ZERO)
    }

    fn at_once(costs: bool) -> RetryDecision {
        let after = Duration::ZERO;
        RetryDecision::Retry { after, costs }
    }

    #[test]
    fn what_concerns_one_node_goes_to_the_next_at_once() {
        let cases = [
            (AttemptFailure::NotSent, at_once(false)),
            (AttemptFailure::Lost, at_once(true)),
            (answered(Code::NotReady), at_once(true)),
            (answered(Code::ShuttingDown), at_once(true)),
            (answered(Code::Unavailable), at_once(true)),
            (answered(Code::DiskFull), at_once(true)),
            (
                answered(Code::EpochMismatch),
                RetryDecision::Refresh {
                    after: Duration::ZERO,
                },
            ),
        ];
        for (failure, want) in cases {
            assert_eq!(decide(failure, &situation()), want, "{failure:?}");
        }
    }

    #[test]
    fn what_is_final_is_not_tried_again() {
        for code in [
            Code::KeyInvalid,
            Code::ValueTooLarge,
            Code::TooManySiblings,
            Code::RecordTooLarge,
            Code::ContextFull,
            Code::KeyspaceUnknown,
            Code::LevelImpossible,
            Code::ContextInvalid,
            Code::AttemptTooOld,
            Code::RequestInvalid,
            Code::RoleRefused,
            Code::WrongMode,
            Code::TtlInvalid,
            Code::Other(999),
        ] {
            let got = decide(answered(code), &situation());
            assert_eq!(got, RetryDecision::GiveUp(GiveUp::Final), "{code}");
        }
    }

    #[test]
    fn an_unavailable_level_fails_once_every_node_said_so() {
        let all_tried = RetrySituation {
            untried: 0,
            ..situation()
        };
        let got = decide(answered(Code::Unavailable), &all_tried);
        assert_eq!(got, RetryDecision::GiveUp(GiveUp::Final));
    }

    #[test]
    fn two_nodes_that_say_unavailable_are_believed_unless_they_advise_to_wait() {
        let said = |unavailable, untried| RetrySituation {
            unavailable,
            untried,
            ..situation()
        };
        let last = RetryDecision::GiveUp(GiveUp::Final);
        let unavailable = answered(Code::Unavailable);
        assert_eq!(decide(unavailable, &said(1, 1)), at_once(true));
        assert_eq!(decide(unavailable, &said(2, 1)), last);
        let advised = AttemptFailure::Answered(Code::Unavailable, Duration::from_millis(50));
        assert_ne!(decide(advised, &said(2, 0)), last);
        assert_eq!(decide(AttemptFailure::NotSent, &said(1, 0)), last);
        assert_ne!(decide(AttemptFailure::NotSent, &said(0, 0)), last);
    }

    #[test]
    fn waits_grow_with_the_rounds_and_keep_to_their_bounds() {
        for (rounds, least_ms, most_ms) in [(0, 5, 10), (1, 10, 20), (3, 40, 80), (30, 250, 500)] {
            for random in [0, 1, u64::MAX / 3, u64::MAX] {
                let tried = RetrySituation {
                    untried: 0,
                    rounds,
                    random,
                    ..situation()
                };
                let got = decide(AttemptFailure::Lost, &tried);
                let RetryDecision::Retry { after, .. } = got else {
                    panic!("{got:?}");
                };
                assert!(
                    after >= Duration::from_millis(least_ms)
                        && after < Duration::from_millis(most_ms),
                    "{rounds} {random} {after:?}"
                );
            }
        }
    }

    #[test]
    fn the_servers_advice_is_honoured() {
        let advice = Duration::from_millis(300);
        let got = decide(
            AttemptFailure::Answered(Code::Overloaded, advice),
            &situation(),
        );
        let want = RetryDecision::Retry {
            after: advice,
            costs: true,
        };
        assert_eq!(got, want);
    }

    #[test]
    fn no_retry_starts_past_the_deadline() {
        let advice = Duration::from_secs(1);
        let got = decide(
            AttemptFailure::Answered(Code::Overloaded, advice),
            &situation(),
        );
        assert_eq!(got, RetryDecision::GiveUp(GiveUp::Deadline));
        let late = RetrySituation {
            remaining: Duration::ZERO,
            ..situation()
        };
        let got = decide(AttemptFailure::Lost, &late);
        assert_eq!(got, RetryDecision::GiveUp(GiveUp::Deadline));
    }

    #[test]
    fn an_old_write_is_not_tried_again_but_a_read_is() {
        let old = RetrySituation {
            age: RETRY_AGE_MAX,
            ..situation()
        };
        let got = decide(AttemptFailure::Lost, &old);
        assert_eq!(got, RetryDecision::GiveUp(GiveUp::TooOld));
        let read = RetrySituation {
            is_write: false,
            ..old
        };
        assert_eq!(decide(AttemptFailure::Lost, &read), at_once(true));
    }

    #[test]
    fn one_stuck_node_leaves_time_for_the_others() {
        let ms = Duration::from_millis;
        let cases = [
            (ms(3000), 3, 3, ms(1000)),
            (ms(3000), 9, 9, ms(1000)),
            (ms(2000), 2, 3, ms(1000)),
            (ms(1000), 1, 3, ms(500)),
            (ms(1000), 0, 3, ms(500)),
            (ms(1000), 1, 1, ms(1000)),
            (ms(600_000), 3, 3, ms(1000)),
            (ms(600_000), 2, 3, ms(1000)),
            (ms(600_000), 1, 3, ms(2000)),
            (ms(600_000), 1, 1, ms(600_000)),
            (ms(90), 3, 3, ms(50)),
            (ms(40), 3, 3, ms(40)),
        ];
        for (remaining, untried, nodes, want) in cases {
            assert_eq!(attempt_timeout(remaining, untried, nodes), want);
        }
    }

    #[test]
    fn the_budget_allows_a_burst_and_then_a_tenth() {
        let mut budget = RetryBudget::full();
        let burst = (0..10_000).filter(|_| budget.take()).count();
        assert_eq!(u32::try_from(burst), Ok(RetryBudget::RETRIES_MAX));
        for _ in 0..9 {
            budget.succeeded();
            assert!(!budget.take());
        }
        budget.succeeded();
        assert!(budget.take());
        assert!(!budget.take());
    }
}
