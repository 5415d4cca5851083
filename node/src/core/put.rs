//! The coordinator's part of one put after its record is made: who has it, and what to say.
//!
//! The shard has merged, minted and appended before this machine exists, so from here on the
//! outcome is *applied* or *unknown*, never *not applied*. A duplicate attempt runs the same
//! machine with the record as it stands: it is *applied* only with W acknowledgements of its own
//! (V8). The machine lives until every primary has answered or the deadline has passed, because a
//! late acknowledgement spares a hint.
//!
//! Not here: making the record (`shard`), keeping the hint (the repair work).

use bytes::Bytes;
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{KeyspaceId, MonoTime, NodeId};

use super::failure::{Cause, Effectiveness, Failure, ReplicaPart};
use super::message::{Base, OpNumber, Payload, PurgeNumber, Replicate};
use super::node_set::{NodeSet, Owners};
use super::standing::Standing;

/// What a put says about itself when it starts.
#[derive(Debug)]
pub struct PutPlan {
    /// Its number.
    pub op: OpNumber,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The user's key.
    pub key: Bytes,
    /// The record, in canonical form, that every primary must hold.
    pub record: Bytes,
    /// What it was made on, if a replica that holds the same need not merge.
    pub base: Option<Base>,
    /// Purge number under which it was made.
    pub number: PurgeNumber,
    /// W.
    pub required: u8,
    /// The owners, this node included.
    pub primaries: Owners,
    /// When the client stops waiting.
    pub deadline: MonoTime,
}

/// What became of a put, told once.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// W replicas hold it.
    Applied {
        /// Replicas that hold it durably, by now.
        acks: u8,
    },
    /// Fewer do, and it cannot or did not become W in time.
    Unknown(Failure),
}

/// One put under way.
#[derive(Debug)]
pub struct PutMachine {
    plan: PutPlan,
    confirmed: NodeSet,
    refused: NodeSet,
    /// Up, but does not count yet: asked again.
    uncounted: NodeSet,
    waiting: NodeSet,
    answered: bool,
    /// The highest stamp met that supersedes the write (lww only).
    newer: Option<u64>,
}

impl PutMachine {
    /// A put whose record is appended here and about to be sent.
    #[must_use]
    pub fn new(plan: PutPlan) -> Self {
        let waiting = plan.primaries.iter().copied().collect();
        Self {
            plan,
            confirmed: NodeSet::default(),
            refused: NodeSet::default(),
            uncounted: NodeSet::default(),
            waiting,
            answered: false,
            newer: None,
        }
    }

    /// A replica holds the record durably.
    pub fn stored(&mut self, from: NodeId, standing: Standing) {
        // A retransmit can make a replica answer twice; only owners were asked.
        if !self.plan.primaries.contains(&from) {
            return;
        }
        let waited_for = self.waiting.remove(from);
        match standing {
            Standing::Counts => {
                self.uncounted.remove(from);
                self.confirmed.insert(from);
            }
            Standing::NotYet if waited_for => {
                self.uncounted.insert(from);
            }
            Standing::NotYet => {}
        }
    }

    /// A replica, or this node, holds a write that supersedes this one. To be told before
    /// [`PutMachine::stored`] of the same replica: the write that was acknowledged before this one
    /// began is on one of the W that confirm.
    pub fn met_newer(&mut self, stamp: u64) {
        if !planted(Bug::SupersededNotTold) {
            self.newer = self.newer.max(Some(stamp));
        }
    }

    /// The highest stamp met that supersedes the write.
    #[must_use]
    pub const fn newer(&self) -> Option<u64> {
        self.newer
    }

    /// A node began a new life: what an earlier one acknowledged counts no more (C5). It is asked again.
    pub fn began_anew(&mut self, node: NodeId) {
        if !self.answered && self.confirmed.remove(node) {
            self.waiting.insert(node);
        }
    }

    /// A replica did not take the record.
    pub fn refused(&mut self, from: NodeId) {
        if self.waiting.remove(from) || self.uncounted.remove(from) {
            self.refused.insert(from);
        }
    }

    /// Tells the verdict, once: `unreachable` says which of those still waited for are down.
    pub fn verdict(
        &mut self,
        now: MonoTime,
        unreachable: impl Fn(NodeId) -> bool,
    ) -> Option<Verdict> {
        if self.answered {
            return None;
        }
        let acks = self.acks();
        let slack = u8::from(planted(Bug::OkAtWMinusOne));
        if acks + slack >= self.plan.required && acks > 0 {
            self.answered = true;
            return Some(Verdict::Applied { acks });
        }
        let open = self.waiting.iter().chain(self.uncounted.iter());
        let hopeful = open.filter(|node| !unreachable(*node)).count();
        let lost = usize::from(acks) + hopeful < usize::from(self.plan.required);
        if lost || now >= self.plan.deadline {
            self.answered = true;
            return Some(Verdict::Unknown(self.failure(unreachable)));
        }
        None
    }

    fn failure(&self, unreachable: impl Fn(NodeId) -> bool) -> Failure {
        let part = |node: NodeId| {
            if self.confirmed.contains(node) {
                ReplicaPart::Confirmed
            } else if self.refused.contains(node) || self.uncounted.contains(node) {
                ReplicaPart::Refused
            } else if unreachable(node) {
                ReplicaPart::Down
            } else {
                ReplicaPart::Silent
            }
        };
        Failure {
            cause: Cause::QuorumNotReached,
            effect: Effectiveness::Unknown,
            acks: self.acks(),
            required: self.plan.required,
            replicas: self
                .plan
                .primaries
                .iter()
                .map(|node| (*node, part(*node)))
                .collect(),
            retry_after_ms: 0,
            limit: 0,
        }
    }

    fn acks(&self) -> u8 {
        u8::try_from(self.confirmed.len()).unwrap_or(u8::MAX)
    }

    /// Whether the client has its answer and nothing more will come: every primary has confirmed or
    /// refused, or is `unreachable`. The record is kept no longer than that.
    #[must_use]
    pub fn is_done(&self, unreachable: impl Fn(NodeId) -> bool) -> bool {
        self.answered && self.waiting.iter().all(unreachable)
    }

    /// The client has its answer: late acknowledgements are waited for a little longer only.
    pub fn linger_until(&mut self, at: MonoTime) {
        self.plan.deadline = self.plan.deadline.min(at);
    }

    /// Primaries that did not take the write: each needs a hint.
    pub fn missed(&self) -> impl Iterator<Item = NodeId> {
        self.waiting.iter().chain(self.refused.iter())
    }

    /// Whether `node` should be sent the record (again), now that it can be reached or may count.
    #[must_use]
    pub fn wants(&self, node: NodeId) -> bool {
        self.waiting.contains(node) || self.uncounted.contains(node)
    }

    /// Replicas that hold the record but did not count when they took it, as long as the answer may
    /// depend on them: one that gets back what it lost may stay so for minutes.
    pub fn asked_again(&self) -> impl Iterator<Item = NodeId> {
        self.uncounted.iter().filter(|_| !self.answered)
    }

    /// What a replica is asked.
    #[must_use]
    pub fn replicate(&self, now: MonoTime) -> Replicate {
        Replicate {
            op: self.plan.op,
            keyspace: self.plan.keyspace,
            key: self.plan.key.clone(),
            payload: Payload::Whole(self.plan.record.clone()),
            number: self.plan.number,
            budget: self.plan.deadline.since(now),
            base: self.plan.base,
        }
    }

    /// When the client stops waiting.
    #[must_use]
    pub fn deadline(&self) -> MonoTime {
        self.plan.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);
    const T0: MonoTime = MonoTime::ZERO;

    fn put(required: u8) -> PutMachine {
        PutMachine::new(PutPlan {
            op: OpNumber(1),
            keyspace: KeyspaceId(1),
            key: Bytes::from_static(b"k"),
            record: Bytes::from_static(b"r"),
            base: None,
            number: PurgeNumber(0),
            required,
            primaries: Owners::from_slice(&[A, B, C]),
            deadline: MonoTime::from_micros(1_000),
        })
    }

    fn acks(verdict: Option<Verdict>) -> Option<Result<u8, u8>> {
        verdict.map(|verdict| match verdict {
            Verdict::Applied { acks } => Ok(acks),
            Verdict::Unknown(failure) => {
                assert_eq!(failure.effect, Effectiveness::Unknown);
                Err(failure.acks)
            }
        })
    }

    #[test]
    fn verdict_counts_distinct_replicas_that_count() {
        type Step = fn(&mut PutMachine);
        type Case = (&'static str, &'static [Step], Option<Result<u8, u8>>);
        let cases: [Case; 6] = [
            (
                "two replicas meet W = 2",
                &[
                    |p| p.stored(A, Standing::Counts),
                    |p| p.stored(B, Standing::Counts),
                ],
                Some(Ok(2)),
            ),
            (
                "one replica twice is one",
                &[
                    |p| p.stored(A, Standing::Counts),
                    |p| p.stored(A, Standing::Counts),
                ],
                None,
            ),
            (
                "one that does not count",
                &[
                    |p| p.stored(A, Standing::Counts),
                    |p| p.stored(B, Standing::NotYet),
                ],
                None,
            ),
            (
                "it counts later",
                &[
                    |p| p.stored(A, Standing::Counts),
                    |p| p.stored(B, Standing::NotYet),
                    |p| p.stored(B, Standing::Counts),
                ],
                Some(Ok(2)),
            ),
            (
                "two refusals lose it",
                &[
                    |p| p.stored(A, Standing::Counts),
                    |p| p.refused(B),
                    |p| p.refused(C),
                ],
                Some(Err(1)),
            ),
            (
                "a stranger is nobody",
                &[
                    |p| p.stored(A, Standing::Counts),
                    |p| p.stored(NodeId(9), Standing::Counts),
                ],
                None,
            ),
        ];
        for (name, steps, want) in cases {
            let mut machine = put(2);
            steps.iter().for_each(|step| step(&mut machine));
            assert_eq!(acks(machine.verdict(T0, |_| false)), want, "{name}");
        }
    }

    #[test]
    fn a_deadline_ends_it_as_unknown_and_a_late_answer_still_spares_a_hint() {
        let mut machine = put(2);
        machine.stored(A, Standing::Counts);
        let late = MonoTime::from_micros(1_000);
        assert_eq!(acks(machine.verdict(late, |_| false)), Some(Err(1)));
        machine.stored(B, Standing::Counts);
        assert_eq!(
            acks(machine.verdict(late, |_| false)),
            None,
            "answered once"
        );
        assert_eq!(machine.missed().collect::<Vec<_>>(), vec![C]);
    }

    #[test]
    fn a_replica_that_holds_it_and_does_not_count_keeps_no_answered_put() {
        let mut machine = put(2);
        machine.stored(A, Standing::Counts);
        machine.stored(B, Standing::NotYet);
        assert_eq!(acks(machine.verdict(T0, |_| false)), None);
        assert_eq!(machine.asked_again().collect::<Vec<_>>(), [B]);
        machine.stored(C, Standing::Counts);
        assert_eq!(acks(machine.verdict(T0, |_| false)), Some(Ok(2)));
        assert_eq!(machine.asked_again().count(), 0);
        assert!(machine.is_done(|_| false));
        assert_eq!(machine.missed().count(), 0, "it needs no hint");
    }

    #[test]
    fn c5_what_an_earlier_life_acknowledged_counts_no_more() {
        let mut machine = put(2);
        machine.stored(B, Standing::Counts);
        machine.began_anew(B);
        machine.stored(A, Standing::Counts);
        assert_eq!(acks(machine.verdict(T0, |_| false)), None);
        assert!(machine.wants(B), "it is asked again");
        machine.stored(B, Standing::Counts);
        assert_eq!(acks(machine.verdict(T0, |_| false)), Some(Ok(2)));
    }

    #[test]
    fn primaries_that_are_down_end_it_at_once_when_w_is_out_of_reach() {
        let mut machine = put(3);
        machine.stored(A, Standing::Counts);
        assert_eq!(acks(machine.verdict(T0, |node| node == C)), Some(Err(1)));
    }
}
