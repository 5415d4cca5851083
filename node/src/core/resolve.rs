//! What became of a write whose outcome is unknown: look its op id up, make it durable on W, say
//! so.
//!
//! A resolve mints nothing. All owners that can be reached are asked for their record until one
//! knows the operation, as a sibling or as superseded. The merge of what was heard is then sent to
//! every owner, and the answer *applied* leaves when W replicas that count hold it durably: from
//! there on the operation is as safe as one that was acknowledged at once.
//!
//! Everything else is *unknown*: that nobody remembers the operation proves nothing. Its first
//! attempt may still be on its way, a replica that took it may be down, and a list of superseded
//! operations forgets. So there is no answer *not applied* here.
//!
//! Not here: the local record, sending (`shard::resolve`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{OpId, OpStatus, Record};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{KeyspaceId, MonoTime, NodeId};

use super::failure::{Cause, Effectiveness, Failure, ReplicaPart};
use super::message::{OpNumber, Payload, PurgeNumber, ReadRecord, Replicate};
use super::node_set::NodeSet;

/// A replica that does not count is asked or sent to again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(25);

/// What a resolve says about itself when it starts.
#[derive(Debug)]
pub struct ResolvePlan {
    /// Its number.
    pub op: OpNumber,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The user's key.
    pub key: Bytes,
    /// The operation that is looked for.
    pub op_id: OpId,
    /// W.
    pub required: u8,
    /// The owners that are not down.
    pub candidates: Vec<NodeId>,
    /// The owners that are down.
    pub down: Vec<NodeId>,
    /// When the client stops waiting.
    pub deadline: MonoTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Looking for a replica that knows the operation.
    Looking,
    /// The merged record goes to every owner.
    Securing,
    Done,
}

/// What a resolve wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask this replica for its record.
    Ask(NodeId),
    /// Send the merged record to this replica.
    Secure(NodeId),
    /// Tell the client *applied*.
    Answer {
        /// Replicas that hold it durably.
        acks: u8,
    },
    /// Tell the client *unknown*.
    Fail(Failure),
}

/// One resolve under way.
#[derive(Debug)]
pub struct ResolveMachine {
    plan: ResolvePlan,
    phase: Phase,
    waiting: NodeSet,
    confirmed: NodeSet,
    refused: NodeSet,
    uncounted: BTreeMap<NodeId, MonoTime>,
    merged: Record,
    /// The smallest number of the merged parts.
    number: Option<PurgeNumber>,
}

impl ResolveMachine {
    /// A resolve that has asked nobody yet.
    #[must_use]
    pub fn new(plan: ResolvePlan) -> Self {
        Self {
            plan,
            phase: Phase::Looking,
            waiting: NodeSet::default(),
            confirmed: NodeSet::default(),
            refused: NodeSet::default(),
            uncounted: BTreeMap::new(),
            merged: Record::default(),
            number: None,
        }
    }

    /// Asks every owner that can be reached.
    pub fn start(&mut self, steps: &mut Vec<Step>) {
        self.waiting = self.plan.candidates.iter().copied().collect();
        steps.extend(self.plan.candidates.iter().copied().map(Step::Ask));
    }

    /// A replica told what it holds. Whether it counts does not matter for looking: what it holds
    /// was written.
    pub fn held(
        &mut self,
        from: NodeId,
        record: Option<&Record>,
        number: PurgeNumber,
        steps: &mut Vec<Step>,
    ) {
        if self.phase != Phase::Looking || !self.waiting.remove(from) {
            return;
        }
        if let Some(record) = record {
            self.merged = self.merged.merged(record);
            self.number = Some(self.number.map_or(number, |least| least.min(number)));
        }
        let known = match self.merged.op_status(self.plan.op_id) {
            OpStatus::Live | OpStatus::Superseded | OpStatus::Flagged => true,
            OpStatus::Unknown => false,
        };
        if known && planted(Bug::ResolveWithoutQuorum) {
            self.phase = Phase::Done;
            steps.push(Step::Answer { acks: 1 });
        } else if known {
            self.phase = Phase::Securing;
            self.waiting = self.plan.candidates.iter().copied().collect();
            self.refused = NodeSet::default();
            steps.extend(self.plan.candidates.iter().copied().map(Step::Secure));
        }
    }

    /// A replica holds the merged record durably, and whether it counts.
    pub fn stored(&mut self, now: MonoTime, from: NodeId, counts: bool, steps: &mut Vec<Step>) {
        if self.phase != Phase::Securing || !self.plan.candidates.contains(&from) {
            return;
        }
        self.waiting.remove(from);
        if !counts {
            self.uncounted.insert(from, now + AGAIN_AFTER);
            return;
        }
        self.uncounted.remove(&from);
        self.confirmed.insert(from);
        if self.confirmed.len() >= usize::from(self.plan.required) {
            self.phase = Phase::Done;
            let acks = self.acks();
            steps.push(Step::Answer { acks });
        }
    }

    /// A replica could not tell, or did not take the record.
    pub fn refused(&mut self, from: NodeId) {
        if self.waiting.remove(from) {
            self.refused.insert(from);
        }
    }

    /// Time passed or something came: sends again, or gives up. `down` says who cannot be reached.
    pub fn judge(&mut self, now: MonoTime, down: impl Fn(NodeId) -> bool, steps: &mut Vec<Step>) {
        let hopeful = self.waiting.iter().filter(|node| !down(*node)).count();
        let cause = match self.phase {
            Phase::Done => return,
            _ if now >= self.plan.deadline => Cause::QuorumNotReached,
            Phase::Looking if hopeful == 0 => Cause::OperationNotSeen,
            Phase::Looking => return,
            Phase::Securing => {
                let possible = self.confirmed.len() + hopeful + self.uncounted.len();
                if possible >= usize::from(self.plan.required) {
                    return self.secure_again(now, steps);
                }
                Cause::QuorumNotReached
            }
        };
        self.phase = Phase::Done;
        let failure = self.failure(cause, &down);
        steps.push(Step::Fail(failure));
    }

    fn secure_again(&mut self, now: MonoTime, steps: &mut Vec<Step>) {
        let due = self.uncounted.iter().filter(|(_, at)| now >= **at);
        let due: Vec<NodeId> = due.map(|(node, _)| *node).collect();
        for node in due {
            self.uncounted.remove(&node);
            self.waiting.insert(node);
            steps.push(Step::Secure(node));
        }
    }

    fn failure(&self, cause: Cause, down: &impl Fn(NodeId) -> bool) -> Failure {
        let part = |node: NodeId| {
            if self.confirmed.contains(node) {
                ReplicaPart::Confirmed
            } else if self.refused.contains(node) || self.uncounted.contains_key(&node) {
                ReplicaPart::Refused
            } else if down(node) {
                ReplicaPart::Down
            } else if self.waiting.contains(node) {
                ReplicaPart::Silent
            } else {
                // It answered, and does not know the operation.
                ReplicaPart::Refused
            }
        };
        let owners = self.plan.candidates.iter().chain(&self.plan.down);
        Failure {
            cause,
            effect: Effectiveness::Unknown,
            acks: self.acks(),
            required: self.plan.required,
            replicas: owners.map(|node| (*node, part(*node))).collect(),
            retry_after_ms: 0,
            limit: 0,
        }
    }

    fn acks(&self) -> u8 {
        u8::try_from(self.confirmed.len()).unwrap_or(u8::MAX)
    }

    /// Whether the client has its answer.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// When [`ResolveMachine::judge`] has something to do without an answer.
    #[must_use]
    pub fn next_deadline(&self) -> MonoTime {
        let again = self.uncounted.values().min().copied();
        again.map_or(self.plan.deadline, |at| at.min(self.plan.deadline))
    }

    /// What `node` should be told (again), now that it can be reached anew.
    #[must_use]
    pub fn wants(&self, node: NodeId) -> Option<Step> {
        match self.phase {
            Phase::Looking if self.waiting.contains(node) => Some(Step::Ask(node)),
            Phase::Securing if self.waiting.contains(node) => Some(Step::Secure(node)),
            Phase::Looking | Phase::Securing | Phase::Done => None,
        }
    }

    /// What a replica is asked.
    #[must_use]
    pub fn read(&self, now: MonoTime) -> ReadRecord {
        ReadRecord {
            op: self.plan.op,
            keyspace: self.plan.keyspace,
            key: self.plan.key.clone(),
            budget: self.plan.deadline.since(now),
            known: None,
            as_fallback: false,
        }
    }

    /// What a replica is sent.
    #[must_use]
    pub fn secure(&self, now: MonoTime) -> Replicate {
        Replicate {
            op: self.plan.op,
            keyspace: self.plan.keyspace,
            key: self.plan.key.clone(),
            payload: Payload::Whole(self.merged.to_bytes()),
            number: self.number(),
            budget: self.plan.deadline.since(now),
            base: None,
            as_fallback: false,
        }
    }

    /// The smallest number of what was merged.
    #[must_use]
    pub fn number(&self) -> PurgeNumber {
        self.number.unwrap_or_default()
    }

    /// What was heard, merged.
    #[must_use]
    pub const fn merged(&self) -> &Record {
        &self.merged
    }

    /// The plan it started with.
    #[must_use]
    pub const fn plan(&self) -> &ResolvePlan {
        &self.plan
    }
}

#[cfg(test)]
mod tests {
    use quorate_antientropy::{Attempt, Dot, Minting, Put, SeenOps};
    use quorate_ring::{Actor, Incarnation};

    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);
    const T0: MonoTime = MonoTime::ZERO;
    const NUMBER: PurgeNumber = PurgeNumber(0);
    const WANTED: OpId = OpId([7; 16]);

    fn record(op_id: OpId) -> Record {
        let actor = Actor {
            node: A,
            incarnation: Incarnation(1),
        };
        let put = Put {
            op_id,
            attempt: Attempt::First,
            value: Some(Bytes::from_static(b"v")),
            context: None,
            dot: Dot { actor, counter: 1 },
            minting: Minting::Primary,
            timestamp: 1,
            expiry: None,
            seen: SeenOps::new(),
            now_wall: None,
        };
        Record::default().put(put).expect("within limits").record
    }

    fn started() -> ResolveMachine {
        let mut machine = ResolveMachine::new(ResolvePlan {
            op: OpNumber(1),
            keyspace: KeyspaceId(1),
            key: Bytes::from_static(b"k"),
            op_id: WANTED,
            required: 2,
            candidates: vec![A, B, C],
            down: Vec::new(),
            deadline: MonoTime::from_micros(1_000_000),
        });
        machine.start(&mut Vec::new());
        machine
    }

    /// What it says at last, if anything: the acknowledgements, or the cause.
    fn verdict(steps: &[Step]) -> Option<Result<u8, Cause>> {
        steps.iter().find_map(|step| match step {
            Step::Ask(_) | Step::Secure(_) => None,
            Step::Answer { acks } => Some(Ok(*acks)),
            Step::Fail(failure) => {
                assert_eq!(failure.effect, Effectiveness::Unknown, "never not applied");
                Some(Err(failure.cause))
            }
        })
    }

    #[test]
    fn one_replica_that_knows_it_is_not_enough_until_w_hold_it() {
        let mut machine = started();
        let mut steps = Vec::new();
        machine.held(A, None, NUMBER, &mut steps);
        machine.held(B, Some(&record(WANTED)), NUMBER, &mut steps);
        assert_eq!(steps, [A, B, C].map(Step::Secure));
        machine.stored(T0, B, true, &mut steps);
        machine.stored(T0, B, true, &mut steps);
        assert_eq!(verdict(&steps), None, "one replica twice is one");
        machine.stored(T0, C, false, &mut steps);
        assert_eq!(verdict(&steps), None, "one that does not count");
        machine.stored(T0, A, true, &mut steps);
        assert_eq!(verdict(&steps), Some(Ok(2)));
    }

    #[test]
    fn nobody_knows_it_once_all_have_told_or_are_down() {
        let mut machine = started();
        let mut steps = Vec::new();
        machine.held(A, Some(&record(OpId([1; 16]))), NUMBER, &mut steps);
        machine.refused(B);
        machine.judge(T0, |_| false, &mut steps);
        assert_eq!(verdict(&steps), None, "C may know it");
        machine.judge(T0, |node| node == C, &mut steps);
        assert_eq!(verdict(&steps), Some(Err(Cause::OperationNotSeen)));
        assert!(machine.is_done());
    }

    #[test]
    fn what_is_known_and_cannot_reach_w_stays_unknown() {
        let mut machine = started();
        let mut steps = Vec::new();
        machine.held(A, Some(&record(WANTED)), NUMBER, &mut steps);
        machine.stored(T0, A, true, &mut steps);
        machine.refused(B);
        machine.judge(T0, |_| false, &mut steps);
        assert_eq!(verdict(&steps), None);
        machine.judge(T0, |node| node == C, &mut steps);
        assert_eq!(verdict(&steps), Some(Err(Cause::QuorumNotReached)));

        let mut machine = started();
        let mut steps = Vec::new();
        machine.held(A, Some(&record(WANTED)), NUMBER, &mut steps);
        machine.judge(MonoTime::from_micros(1_000_000), |_| false, &mut steps);
        assert_eq!(verdict(&steps), Some(Err(Cause::QuorumNotReached)));
    }
}
