//! The coordinator's part of one put after its record is made: who has it, and what to say.
//!
//! The shard has merged, minted and appended before this machine exists, so from here on the
//! outcome is *applied* or *unknown*, never *not applied*. A duplicate attempt runs the same
//! machine with the record as it stands: it is *applied* only with W acknowledgements of its own
//! (V8). The machine lives until every primary has answered or the deadline has passed, because a
//! late acknowledgement spares a hint.
//!
//! At a sloppy level fallbacks stand in for primaries that are down, refuse, or are late: as many
//! as W lacks. They count like primaries; who missed the write is told of primaries alone.
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
    /// The owners, this node included unless it is a fallback.
    pub primaries: Owners,
    /// Who may stand in for them, in order; nobody at a strict level.
    pub fallbacks: Owners,
    /// From when on primaries that have not answered are not counted on.
    pub stand_in_at: MonoTime,
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
    /// Fallbacks that were asked; the others in order.
    stand_ins: NodeSet,
    next_fallback: usize,
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
            stand_ins: NodeSet::default(),
            next_fallback: 0,
            answered: false,
            newer: None,
        }
    }

    /// This node is a fallback: it has appended the record.
    pub fn is_held_by_fallback(&mut self, me: NodeId) {
        self.stand_ins.insert(me);
        self.waiting.insert(me);
    }

    /// The fallbacks that are to be sent the record now: as many as W lacks, of those that can be
    /// reached.
    pub fn stand_in(&mut self, now: MonoTime, unreachable: impl Fn(NodeId) -> bool) -> Owners {
        let mut chosen = Owners::new();
        if self.answered || self.plan.fallbacks.is_empty() {
            return chosen;
        }
        let is_late =
            |node: &NodeId| now >= self.plan.stand_in_at && self.plan.primaries.contains(node);
        let open = self.waiting.iter().chain(self.uncounted.iter());
        let hopeful = open.filter(|node| !unreachable(*node) && !is_late(node));
        let expected = usize::from(self.acks()) + hopeful.count();
        let lacking = usize::from(self.plan.required).saturating_sub(expected);
        while chosen.len() < lacking
            && let Some(next) = self.plan.fallbacks.get(self.next_fallback).copied()
        {
            self.next_fallback += 1;
            if !unreachable(next) && self.stand_ins.insert(next) {
                self.waiting.insert(next);
                chosen.push(next);
            }
        }
        chosen
    }

    /// When [`PutMachine::stand_in`] may have something to say by time alone.
    #[must_use]
    pub fn next_stand_in(&self, now: MonoTime) -> Option<MonoTime> {
        let at = self.plan.stand_in_at;
        (!self.plan.fallbacks.is_empty() && !self.answered && now < at).then_some(at)
    }

    /// A replica holds the record durably.
    pub fn stored(&mut self, from: NodeId, standing: Standing) {
        // A retransmit can make a replica answer twice.
        if !self.plan.primaries.contains(&from) && !self.stand_ins.contains(from) {
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

    /// A node began a new life: what an earlier one acknowledged counts no more (C5). It is asked
    /// again.
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
        let left = self.plan.fallbacks.iter().skip(self.next_fallback);
        let left = left.filter(|node| !unreachable(**node)).count();
        let lost = usize::from(acks) + hopeful + left < usize::from(self.plan.required);
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
                .copied()
                .chain(self.stand_ins.iter())
                .map(|node| (node, part(node)))
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
        let missed = self.waiting.iter().chain(self.refused.iter());
        missed.filter(|node| self.plan.primaries.contains(node))
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

    /// What `to` is asked.
    #[must_use]
    pub fn replicate(&self, now: MonoTime, to: NodeId) -> Replicate {
        Replicate {
            as_fallback: self.stand_ins.contains(to),
            ..self.replicate_to_owners(now)
        }
    }

    /// What every owner is asked.
    #[must_use]
    pub fn replicate_to_owners(&self, now: MonoTime) -> Replicate {
        Replicate {
            op: self.plan.op,
            keyspace: self.plan.keyspace,
            key: self.plan.key.clone(),
            payload: Payload::Whole(self.plan.record.clone()),
            number: self.plan.number,
            budget: self.plan.deadline.since(now),
            base: self.plan.base,
            as_fallback: false,
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
    const F: NodeId = NodeId(4);
    const G: NodeId = NodeId(5);
    const T0: MonoTime = MonoTime::ZERO;
    const LATE: MonoTime = MonoTime::from_micros(500);

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
            fallbacks: Owners::new(),
            stand_in_at: T0,
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

    fn sloppy_put(required: u8) -> PutMachine {
        let mut machine = put(required);
        machine.plan.fallbacks = Owners::from_slice(&[F, G]);
        machine.plan.stand_in_at = LATE;
        machine
    }

    #[test]
    fn fallbacks_stand_in_for_as_many_primaries_as_w_lacks() {
        let down = |node| node == B || node == C;
        let mut machine = sloppy_put(2);
        assert_eq!(machine.stand_in(T0, down).to_vec(), [F]);
        assert_eq!(machine.stand_in(T0, down).to_vec(), [], "it is waited for");
        assert!(machine.replicate(T0, F).as_fallback && !machine.replicate(T0, B).as_fallback);
        machine.refused(F);
        assert_eq!(machine.stand_in(T0, down).to_vec(), [G], "the next one");
        machine.stored(A, Standing::Counts);
        assert_eq!(acks(machine.verdict(T0, down)), None);
        machine.stored(G, Standing::Counts);
        assert_eq!(acks(machine.verdict(T0, down)), Some(Ok(2)));
        let missed: Vec<NodeId> = machine.missed().collect();
        assert_eq!(missed, [B, C], "a fallback needs no hint");
    }

    #[test]
    fn late_primaries_are_stood_in_for_and_still_count() {
        let mut machine = sloppy_put(2);
        machine.stored(A, Standing::Counts);
        assert_eq!(machine.stand_in(T0, |_| false).to_vec(), []);
        assert_eq!(machine.next_stand_in(T0), Some(LATE));
        assert_eq!(machine.stand_in(LATE, |_| false).to_vec(), [F]);
        machine.stored(C, Standing::Counts);
        assert_eq!(acks(machine.verdict(LATE, |_| false)), Some(Ok(2)));
        assert_eq!(
            machine.stand_in(LATE, |_| false).to_vec(),
            [],
            "it has ended"
        );
    }

    #[test]
    fn i16_at_a_strict_level_no_fallback_is_asked_or_counted() {
        let mut machine = put(2);
        let down = |node| node == B || node == C;
        assert_eq!(machine.stand_in(LATE, down).to_vec(), []);
        machine.stored(A, Standing::Counts);
        machine.stored(F, Standing::Counts);
        assert_eq!(acks(machine.verdict(T0, down)), Some(Err(1)));
    }

    #[test]
    fn without_enough_fallbacks_a_sloppy_put_is_unknown_at_once() {
        let mut machine = sloppy_put(3);
        machine.stored(A, Standing::Counts);
        let down = |node| node == B || node == C || node == G;
        assert_eq!(machine.stand_in(T0, down).to_vec(), [F]);
        assert_eq!(acks(machine.verdict(T0, down)), Some(Err(1)));
    }

    #[test]
    fn primaries_that_are_down_end_it_at_once_when_w_is_out_of_reach() {
        let mut machine = put(3);
        machine.stored(A, Standing::Counts);
        assert_eq!(acks(machine.verdict(T0, |node| node == C)), Some(Err(1)));
    }
}
