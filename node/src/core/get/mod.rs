//! The coordinator's part of one get: whom to ask, when to ask more, when the answer may leave.
//!
//! R replicas are asked first; the rest when one refuses, does not count, or is slow. The others
//! are asked with the digest of what the coordinator holds itself (`question`): who holds exactly
//! that says so, and where all do, nothing travels, is decoded or merged. At `quorum` and above
//! reads are monotonic: the merged record is durably on a quorum before the answer, so that no
//! later quorum read sees less; replicas that lack it are repaired first. Below, the answer leaves
//! at once and stale replicas are repaired behind it.
//!
//! At a sloppy level fallbacks are asked behind the owners that are up, and count; such a read
//! promises nothing, so it waits for no repair. That a key is not there it says only if an owner
//! was heard. A session at a strict level that has seen what a fallback took asks them too once the
//! owners do not know it: what they tell is merged, and counts for nothing.
//!
//! Not here: what the answers say together (`answers`), sending, the local read (`shard`).

mod answers;
mod question;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{Context, Digest, KeyState, PurgeNumbers};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{KeyspaceId, MonoTime, NodeId};

use super::failure::{Cause, Effectiveness, Failure, ReplicaPart};
use super::message::{OpNumber, PurgeNumber, ReadRecord};
use super::node_set::{NodeSet, Owners};
use super::standing::Standing;
use answers::{Answers, Merged};
use question::{Holder, Question, Yes};

/// A replica that answered without counting is asked again after this.
pub const ASK_AGAIN_AFTER: Duration = Duration::from_millis(25);

/// Of replicas that do not count yet, whose word is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Nobody's: a level promises something.
    Nobody,
    /// This one's: `one`, from the node itself.
    One(NodeId),
    /// Everybody's: copies are compared, nothing is promised.
    Everybody,
}

/// What a get says about itself when it starts.
#[derive(Debug)]
pub struct GetPlan {
    /// Its number.
    pub op: OpNumber,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The user's key.
    pub key: Bytes,
    /// R.
    pub required: u8,
    /// Replicas that must durably hold the merged record before the answer; 0 below `quorum`.
    pub quorum: u8,
    /// The owners that are not down, those to ask first in front.
    pub candidates: Owners,
    /// The owners that are down, and fallbacks that are.
    pub down: Owners,
    /// Who of all these is a fallback: asked as one, and never repaired.
    pub fallbacks: Owners,
    /// Whether their answers are among R: at a sloppy level.
    pub fallbacks_count: bool,
    /// Whose word is taken even if they do not count yet.
    pub trust: Trust,
    /// Replicas that have not answered for this long are joined by the rest.
    pub widen_after: Duration,
    /// When the client stops waiting.
    pub deadline: MonoTime,
}

impl GetPlan {
    fn is_owner(&self, node: NodeId) -> bool {
        !self.fallbacks.contains(&node)
    }

    /// Whether an answer of this node is one of R.
    fn counts(&self, node: NodeId) -> bool {
        self.fallbacks_count || self.is_owner(node)
    }

    fn has_fallbacks(&self) -> bool {
        !self.fallbacks.is_empty()
    }
}

/// Writes that an answer must cover.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requirement {
    /// All of them.
    pub all: Context,
    /// Those of which a record on a majority of the owners knew, and whose actors have ended: what
    /// no majority knows any more was pruned, and is superseded.
    pub prunable: Context,
    /// Some may be held by fallbacks alone: that no owner knows them says nothing.
    pub is_elsewhere: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Asking,
    /// The merged record goes to stale replicas; these hold it already.
    Repairing {
        holders: NodeSet,
        stale: NodeSet,
    },
    Done,
}

/// What a get wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask this replica for its record.
    Ask(NodeId),
    /// Send the merged record to this replica; its acknowledgement is waited for if the level
    /// needs it.
    Repair {
        /// To whom.
        node: NodeId,
        /// The smallest number of the merged parts.
        number: PurgeNumber,
    },
    /// Tell the client the merged record; `None` is *not found*.
    Answer {
        /// Replicas that took part.
        replicas: u8,
    },
    /// Tell the client that it failed.
    Fail(Failure),
}

/// One get under way.
#[derive(Debug)]
pub struct GetMachine {
    plan: GetPlan,
    asked: usize,
    waiting: NodeSet,
    answers: Answers,
    question: Question,
    uncounted: BTreeMap<NodeId, MonoTime>,
    refused: NodeSet,
    started: MonoTime,
    widen_at: MonoTime,
    phase: Phase,
    merged: Option<Arc<KeyState>>,
    /// The smallest number of the merged parts.
    number: PurgeNumber,
    /// What the answer must cover at any level: a session's past.
    requirement: Option<Requirement>,
}

impl GetMachine {
    /// A get that has asked nobody yet.
    #[must_use]
    pub fn new(now: MonoTime, plan: GetPlan) -> Self {
        let widen_at = now + plan.widen_after;
        Self {
            plan,
            asked: 0,
            waiting: NodeSet::default(),
            answers: Answers::default(),
            question: Question::default(),
            uncounted: BTreeMap::new(),
            refused: NodeSet::default(),
            started: now,
            widen_at,
            phase: Phase::Asking,
            merged: None,
            number: PurgeNumber::default(),
            requirement: None,
        }
    }

    /// Answers only with a record that covers `requirement`: until one does, more replicas are
    /// asked, and those that fell short again.
    pub fn require(&mut self, requirement: Requirement) {
        self.requirement = Some(requirement);
    }

    /// The coordinator is loading its own record, which has this digest: replicas are asked whether
    /// they hold it too. Followed by [`Self::know`].
    pub fn expect(&mut self, digest: Digest) {
        self.question.expect(digest);
    }

    /// The coordinator holds this itself, or nothing: from now on replicas are asked whether they
    /// do. Only the first one is taken: a reply does not say which question it answers, so there
    /// must be one.
    pub fn know(
        &mut self,
        now: MonoTime,
        own: Option<(Digest, Arc<KeyState>)>,
        steps: &mut Vec<Step>,
    ) {
        match self.question.answer_self(own) {
            Ok(said_yes) => {
                let record = self.question.record().map(Arc::clone);
                for Holder {
                    node,
                    numbers,
                    standing,
                } in said_yes
                {
                    self.held(now, node, record.clone(), numbers, standing, steps);
                }
            }
            Err(ask_anew) => self.ask_anew(ask_anew.iter().map(|holder| holder.node), steps),
        }
    }

    fn ask_anew(&self, nodes: impl Iterator<Item = NodeId>, steps: &mut Vec<Step>) {
        let waited_for = nodes.filter(|node| self.waiting.contains(*node));
        steps.extend(waited_for.map(Step::Ask));
    }

    /// A replica told that it holds what it was asked about; says whether it was asked that.
    pub fn held_as_asked(
        &mut self,
        now: MonoTime,
        from: NodeId,
        numbers: PurgeNumbers,
        standing: Standing,
        steps: &mut Vec<Step>,
    ) -> bool {
        let holder = Holder {
            node: from,
            numbers,
            standing,
        };
        if !self.waiting.contains(from) {
            return true;
        }
        match self.question.yes(holder) {
            Yes::Holds(record) => self.held(now, from, Some(record), numbers, standing, steps),
            Yes::Later => {}
            Yes::AskAnew => steps.push(Step::Ask(from)),
            Yes::Again => {}
            Yes::Unasked => return false,
        }
        true
    }

    /// Asks the first R.
    pub fn start(&mut self, steps: &mut Vec<Step>) {
        self.ask_more(usize::from(self.plan.required), steps);
    }

    fn ask_more(&mut self, count: usize, steps: &mut Vec<Step>) {
        let end = (self.asked + count).min(self.plan.candidates.len());
        for at in self.asked..end {
            self.ask(self.plan.candidates[at], steps);
        }
        self.asked = end;
    }

    fn ask(&mut self, node: NodeId, steps: &mut Vec<Step>) {
        self.waiting.insert(node);
        self.answers.asked(&self.plan, node);
        steps.push(Step::Ask(node));
    }

    /// A replica told what it holds.
    pub fn held(
        &mut self,
        now: MonoTime,
        from: NodeId,
        record: Option<Arc<KeyState>>,
        numbers: PurgeNumbers,
        standing: Standing,
        steps: &mut Vec<Step>,
    ) {
        if !self.waiting.remove(from) {
            return;
        }
        self.question.forget(from);
        match &self.phase {
            Phase::Asking => {}
            Phase::Repairing { .. } => {
                // Asked before, slow to answer: it may hold already what is being repaired.
                let holds = match (&record, &self.merged) {
                    (Some(record), Some(merged)) => record.holds_all_of(merged),
                    (_, None) => true,
                    (None, Some(_)) => false,
                };
                if holds && self.plan.is_owner(from) {
                    self.repaired(from, standing, steps);
                }
                return;
            }
            Phase::Done => return,
        }
        let trusted = match self.plan.trust {
            Trust::Nobody => false,
            Trust::One(node) => node == from,
            Trust::Everybody => true,
        };
        match standing {
            Standing::NotYet if !trusted => {
                self.uncounted.insert(from, now + ASK_AGAIN_AFTER);
                self.ask_more(1, steps);
            }
            Standing::Counts | Standing::NotYet => {
                self.uncounted.remove(&from);
                let answers = &mut self.answers;
                answers.note(&self.plan, from, record, numbers, standing);
                self.judge(now, steps);
            }
        }
    }

    /// A replica could not tell.
    pub fn refused(&mut self, from: NodeId, steps: &mut Vec<Step>) {
        if self.plan.trust == Trust::Everybody && self.phase != Phase::Done {
            // All were asked, so that nobody can stand in for this one.
            return self.fail(Cause::QuorumNotReached, &|_| false, steps);
        }
        match &mut self.phase {
            Phase::Asking => {
                if self.waiting.remove(from) {
                    self.question.forget(from);
                    self.refused.insert(from);
                    self.ask_more(1, steps);
                    if self.answers.want_owner(&self.plan) {
                        self.look_for_owner(|_| false, steps);
                    }
                }
            }
            // Another one must hold the merged record in its place: at once.
            Phase::Repairing { stale, .. } => {
                if stale.remove(from) {
                    self.refused.insert(from);
                    self.widen_at = MonoTime::ZERO;
                }
            }
            Phase::Done => {}
        }
    }

    /// A replica holds the merged record durably now.
    pub fn repaired(&mut self, from: NodeId, standing: Standing, steps: &mut Vec<Step>) {
        let Phase::Repairing { holders, stale } = &mut self.phase else {
            return;
        };
        if standing == Standing::Counts || self.plan.trust == Trust::Everybody {
            stale.remove(from);
            holders.insert(from);
        }
        if holders.len() >= usize::from(self.plan.quorum) {
            self.phase = Phase::Done;
            steps.push(Step::Answer {
                replicas: self.replicas(),
            });
        }
    }

    /// A node began a new life: that an earlier one holds the merged record, or the one that was
    /// asked about, counts no more (C5).
    pub fn began_anew(&mut self, node: NodeId) {
        self.question.forget(node);
        if let Phase::Repairing { holders, stale } = &mut self.phase
            && holders.remove(node)
        {
            stale.insert(node);
        }
    }

    fn judge(&mut self, now: MonoTime, steps: &mut Vec<Step>) {
        self.leave_out_what_was_purged(now, steps);
        if self.answers.counted(&self.plan) < usize::from(self.plan.required) {
            return;
        }
        let known = self.question.record();
        let Merged {
            record,
            number,
            current,
            stale,
        } = self.answers.merge(&self.plan, known);
        if self.falls_short(record.as_deref()) {
            return self.look_further(now, steps);
        }
        if self.answers.want_owner(&self.plan) {
            return self.look_for_owner(|_| false, steps);
        }
        self.merged = record;
        self.number = number;
        steps.extend(stale.iter().map(|node| Step::Repair { node, number }));
        let quorum = usize::from(self.plan.quorum);
        if self.merged.is_none() || current.len() >= quorum {
            self.phase = Phase::Done;
            steps.push(Step::Answer {
                replicas: self.replicas(),
            });
        } else {
            self.uncounted.clear();
            self.widen_at = now + self.plan.widen_after;
            self.phase = Phase::Repairing {
                holders: current,
                stale,
            };
        }
    }

    /// What is left out is asked for again (P3).
    fn leave_out_what_was_purged(&mut self, now: MonoTime, steps: &mut Vec<Step>) {
        let Some(below) = self.answers.leave_out_what_was_purged(&self.plan) else {
            return;
        };
        for node in below.iter() {
            self.uncounted.insert(node, now + ASK_AGAIN_AFTER);
        }
        self.ask_more(below.len(), steps);
    }

    fn falls_short(&self, merged: Option<&KeyState>) -> bool {
        let Some(requirement) = &self.requirement else {
            return false;
        };
        let nothing = Context::new();
        let known = match merged {
            Some(KeyState::Siblings(record)) => record.context(),
            // Without contexts nothing is required.
            Some(KeyState::Lww(_)) | None => &nothing,
        };
        let covers = |known: &Context| known.covers_context(&requirement.all);
        let covered = covers(known)
            || self.answers.prove_pruned(&self.plan) && covers(&known.join(&requirement.prunable))
            || self.answers.prove_purged(&self.plan);
        !covered && !planted(Bug::SessionReadIgnoresRequirement)
    }

    /// One owner must be heard before a key is said not to be there: fails if there is none to hope
    /// for.
    fn look_for_owner(&mut self, is_down: impl Fn(NodeId) -> bool, steps: &mut Vec<Step>) {
        self.ask_more(self.plan.candidates.len(), steps);
        let hopes = |node: &NodeId| {
            self.plan.is_owner(*node) && !self.refused.contains(*node) && !is_down(*node)
        };
        if !self.plan.candidates.iter().any(hopes) {
            let down = self.plan.down.clone();
            let is_down = |node: NodeId| down.contains(&node) || is_down(node);
            self.fail(Cause::Unavailable, &is_down, steps);
        }
    }

    /// What was heard is behind the session: asks everybody else, and again those who answered.
    fn look_further(&mut self, now: MonoTime, steps: &mut Vec<Step>) {
        self.ask_more(self.plan.candidates.len(), steps);
        for node in self.answers.nodes() {
            if !self.waiting.contains(node) {
                let again = self.uncounted.entry(node);
                again.or_insert(now + ASK_AGAIN_AFTER);
            }
        }
    }

    /// Whether enough replicas answered and only the session's requirement is not met.
    fn is_behind(&self) -> bool {
        self.requirement.is_some()
            && self.phase == Phase::Asking
            && self.answers.counted(&self.plan) >= usize::from(self.plan.required)
    }

    /// Those whose answers are late, so that others would join them now; empty if none is due.
    #[must_use]
    pub fn late(&self, now: MonoTime) -> Vec<NodeId> {
        if now < self.widen_at {
            return Vec::new();
        }
        let waited_for = match &self.phase {
            Phase::Asking => &self.waiting,
            Phase::Repairing { stale, .. } => stale,
            Phase::Done => return Vec::new(),
        };
        let all = self.plan.candidates.iter().copied();
        let late = all.filter(|node| waited_for.contains(*node));
        late.filter(|node| !self.question.was_heard(*node))
            .collect()
    }

    /// The record that `node` answered with.
    #[must_use]
    pub fn held_by(&self, node: NodeId) -> Option<&KeyState> {
        self.answers.record_of(node).map(Arc::as_ref)
    }

    /// Others join the late ones only from this time on.
    pub fn widen_later(&mut self, at: MonoTime) {
        self.widen_at = at;
    }

    /// How long the answer of `node` took, if it was among those asked first.
    #[must_use]
    pub fn first_answer_after(&self, now: MonoTime, node: NodeId) -> Option<Duration> {
        let first = self.plan.candidates.iter();
        let first = first.take(usize::from(self.plan.required));
        let waits = self.phase == Phase::Asking && self.waiting.contains(node);
        let waits = waits && !self.question.was_heard(node);
        (waits && first.copied().any(|asked| asked == node)).then(|| now.since(self.started))
    }

    fn replicas(&self) -> u8 {
        u8::try_from(self.answers.counted(&self.plan)).unwrap_or(u8::MAX)
    }

    /// Time passed: asks more, asks again, or gives up. `down` says who cannot be reached.
    pub fn tick(&mut self, now: MonoTime, down: impl Fn(NodeId) -> bool, steps: &mut Vec<Step>) {
        if self.phase == Phase::Done {
            return;
        }
        if now >= self.plan.deadline {
            self.fail(Cause::QuorumNotReached, &down, steps);
            return;
        }
        let widen = now >= self.widen_at;
        if widen {
            self.widen_at = MonoTime::from_micros(u64::MAX);
        }
        match &mut self.phase {
            Phase::Asking if widen => {
                let said_yes = self.question.withdraw();
                self.ask_anew(said_yes.iter().map(|holder| holder.node), steps);
                self.ask_more(self.plan.candidates.len(), steps);
            }
            Phase::Asking => {}
            // A replica that was read may not come back in time: the others can hold it instead.
            Phase::Repairing { holders, stale } => {
                let number = self.number;
                let owners = self.plan.candidates.iter();
                let owners = owners.filter(|node| self.plan.is_owner(**node));
                let others = owners.filter(|_| widen);
                let refused = &self.refused;
                let others = others.filter(|node| !refused.contains(**node));
                for node in others.filter(|node| !holders.contains(**node)) {
                    if stale.insert(*node) {
                        steps.push(Step::Repair {
                            node: *node,
                            number,
                        });
                    }
                }
                return;
            }
            Phase::Done => return,
        }
        let due: Vec<NodeId> = self
            .uncounted
            .iter()
            .filter(|(_, at)| now >= **at)
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            self.uncounted.remove(&node);
            self.ask(node, steps);
        }
        let hopeful = self.waiting.iter().filter(|node| !down(*node));
        let unasked = self.plan.candidates.iter().skip(self.asked).copied();
        let possible = hopeful.chain(self.uncounted.keys().copied()).chain(unasked);
        let possible = possible.filter(|node| self.plan.counts(*node)).count();
        if self.answers.want_owner(&self.plan) {
            return self.look_for_owner(down, steps);
        }
        if self.answers.counted(&self.plan) + possible < usize::from(self.plan.required) {
            self.fail(Cause::Unavailable, &down, steps);
        }
    }

    fn fail(&mut self, cause: Cause, down: &impl Fn(NodeId) -> bool, steps: &mut Vec<Step>) {
        let cause = if self.is_behind() {
            Cause::SessionBehind
        } else {
            cause
        };
        self.phase = Phase::Done;
        let part = |node: NodeId| {
            if self.answers.has(node) {
                ReplicaPart::Confirmed
            } else if self.refused.contains(node) || self.uncounted.contains_key(&node) {
                ReplicaPart::Refused
            } else if down(node) {
                ReplicaPart::Down
            } else {
                ReplicaPart::Silent
            }
        };
        // Who was not asked has no part in it.
        let asked = self.plan.candidates.iter().take(self.asked);
        let owners = asked.chain(&self.plan.down);
        steps.push(Step::Fail(Failure {
            cause,
            effect: Effectiveness::NotApplied,
            acks: self.replicas(),
            required: self.plan.required,
            replicas: owners.map(|node| (*node, part(*node))).collect(),
            retry_after_ms: 0,
            limit: 0,
        }));
    }

    /// Whether `node` should be asked (again), now that it can be reached anew.
    #[must_use]
    pub fn waits_for(&self, node: NodeId) -> bool {
        self.phase == Phase::Asking && self.waiting.contains(node)
    }

    /// Whether `node`'s acknowledgement of the repair is waited for.
    #[must_use]
    pub fn repairs(&self, node: NodeId) -> bool {
        match &self.phase {
            Phase::Repairing { stale, .. } => stale.contains(node),
            Phase::Asking | Phase::Done => false,
        }
    }

    /// What `to` is asked.
    #[must_use]
    pub fn read(&self, now: MonoTime, to: NodeId) -> ReadRecord {
        ReadRecord {
            op: self.plan.op,
            keyspace: self.plan.keyspace,
            key: self.plan.key.clone(),
            budget: self.plan.deadline.since(now),
            known: self.question.digest(),
            as_fallback: self.plan.fallbacks.contains(&to),
        }
    }

    /// The merged record, once there is one.
    #[must_use]
    pub fn merged(&self) -> Option<&KeyState> {
        self.merged.as_deref()
    }

    /// The smallest number of its parts.
    #[must_use]
    pub const fn merged_number(&self) -> PurgeNumber {
        self.number
    }

    /// The plan it started with.
    #[must_use]
    pub fn plan(&self) -> &GetPlan {
        &self.plan
    }

    /// Whether the client has its answer.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// When [`GetMachine::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> MonoTime {
        let again = self.uncounted.values().min().copied();
        [Some(self.plan.deadline), Some(self.widen_at), again]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.plan.deadline)
    }
}

#[cfg(test)]
mod tests {
    use quorate_antientropy::{LwwVersion, LwwWrite, OpId};

    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    fn record(stamp: u64) -> Arc<KeyState> {
        let version = LwwVersion {
            stamp,
            op_id: OpId([0; 16]),
        };
        let write = LwwWrite::value(version, Bytes::from_static(b"v"), None);
        Arc::new(KeyState::Lww(Some(write)))
    }

    fn quorum_get() -> GetMachine {
        GetMachine::new(
            MonoTime::ZERO,
            GetPlan {
                op: OpNumber(1),
                keyspace: KeyspaceId(1),
                key: Bytes::from_static(b"k"),
                required: 2,
                quorum: 2,
                candidates: [A, B, C].into_iter().collect(),
                down: Owners::new(),
                fallbacks: Owners::new(),
                fallbacks_count: false,
                trust: Trust::Nobody,
                widen_after: Duration::from_secs(1),
                deadline: MonoTime::ZERO + Duration::from_secs(2),
            },
        )
    }

    /// The coordinator does not count yet when it reads its record, reads it again later, and finds
    /// a newer one. Who then says that it holds what it was asked about holds the older one.
    #[test]
    fn a_reply_about_the_first_record_says_nothing_of_a_later_one() {
        let mut get = quorum_get();
        let mut steps = Vec::new();
        let now = MonoTime::ZERO;
        let none = PurgeNumbers::default();
        get.start(&mut steps);
        let (old, new) = (record(1), record(2));
        get.know(now, Some((Digest(1), Arc::clone(&old))), &mut steps);
        get.held(now, A, Some(old), none, Standing::NotYet, &mut steps);
        let later = now + ASK_AGAIN_AFTER;
        get.tick(later, |_| false, &mut steps);
        get.know(later, Some((Digest(2), Arc::clone(&new))), &mut steps);
        assert_eq!(get.read(later, B).known, Some(Digest(1)), "one question");
        get.held(later, A, Some(new), none, Standing::Counts, &mut steps);
        steps.clear();
        assert!(get.held_as_asked(later, B, none, Standing::Counts, &mut steps));
        let number = PurgeNumber::default();
        assert_eq!(
            steps,
            [Step::Repair { node: B, number }],
            "not yet known to two"
        );
        steps.clear();
        // The third one answers the same question while the record is on its way.
        assert!(get.held_as_asked(later, C, none, Standing::Counts, &mut steps));
        assert_eq!(steps, [], "it holds the older one too");
        get.repaired(B, Standing::Counts, &mut steps);
        assert_eq!(steps, [Step::Answer { replicas: 2 }]);
    }

    /// The coordinator knows the digest of its own record and is loading it; B says meanwhile that
    /// it holds that one.
    fn asked_by_digest() -> GetMachine {
        let mut get = quorum_get();
        let mut steps = Vec::new();
        get.start(&mut steps);
        get.expect(Digest(1));
        assert_eq!(get.read(MonoTime::ZERO, B).known, Some(Digest(1)));
        steps.clear();
        let none = PurgeNumbers::default();
        assert!(get.held_as_asked(MonoTime::ZERO, B, none, Standing::Counts, &mut steps));
        assert_eq!(steps, [], "the record is not here yet");
        get
    }

    #[test]
    fn who_holds_what_is_being_loaded_is_heard_once_it_is_loaded() {
        let (mut get, mut steps) = (asked_by_digest(), Vec::new());
        let (now, none, own) = (MonoTime::ZERO, PurgeNumbers::default(), record(1));
        get.know(now, Some((Digest(1), Arc::clone(&own))), &mut steps);
        get.held(
            now,
            A,
            Some(Arc::clone(&own)),
            none,
            Standing::Counts,
            &mut steps,
        );
        assert_eq!(steps, [Step::Answer { replicas: 2 }]);
        assert_eq!(get.merged(), Some(&*own));
    }

    #[test]
    fn who_holds_what_is_not_here_any_more_is_asked_anew_once() {
        let (now, none) = (MonoTime::ZERO, PurgeNumbers::default());
        for own in [Some((Digest(2), record(2))), None] {
            let (mut get, mut steps) = (asked_by_digest(), Vec::new());
            get.know(now, own.clone(), &mut steps);
            assert_eq!(steps, [Step::Ask(B)]);
            assert_eq!(get.read(now, B).known, None);
            steps.clear();
            let told = own.map(|(_, record)| record);
            get.held(now, A, told.clone(), none, Standing::Counts, &mut steps);
            assert!(get.held_as_asked(now, B, none, Standing::Counts, &mut steps));
            assert_eq!(steps, [], "its first word a second time");
            get.held(now, B, told, none, Standing::Counts, &mut steps);
            assert_eq!(steps, [Step::Answer { replicas: 2 }]);
        }
    }

    #[test]
    fn what_an_earlier_life_held_counts_no_more() {
        let (mut get, mut steps) = (asked_by_digest(), Vec::new());
        let (now, none, own) = (MonoTime::ZERO, PurgeNumbers::default(), record(1));
        get.began_anew(B);
        get.know(now, Some((Digest(1), Arc::clone(&own))), &mut steps);
        get.held(now, A, Some(own), none, Standing::Counts, &mut steps);
        assert_eq!(steps, [], "B's new life is to be heard");
        assert!(get.waits_for(B));
    }

    /// The disk of the coordinator is slow: the others are enough.
    #[test]
    fn a_late_own_record_is_not_waited_for() {
        let (mut get, mut steps) = (asked_by_digest(), Vec::new());
        let (none, late) = (PurgeNumbers::default(), get.next_deadline());
        assert!(get.late(late).contains(&A));
        get.tick(late, |_| false, &mut steps);
        assert_eq!(steps, [Step::Ask(B), Step::Ask(C)]);
        assert_eq!(get.read(late, C).known, None);
        assert_eq!(
            get.first_answer_after(late, B),
            None,
            "it was heard in time"
        );
        steps.clear();
        for node in [B, C] {
            get.held(
                late,
                node,
                Some(record(1)),
                none,
                Standing::Counts,
                &mut steps,
            );
        }
        assert_eq!(steps, [Step::Answer { replicas: 2 }]);
    }

    const fn numbers(number: u64, floor: u64) -> PurgeNumbers {
        PurgeNumbers {
            number: PurgeNumber(number),
            floor: PurgeNumber(floor),
        }
    }

    /// P3: B answers from before the purge that A has behind it.
    #[test]
    fn p3_an_answer_below_another_ones_floor_is_neither_counted_nor_merged() {
        let answers = [
            (B, Some(record(1)), numbers(4, 0)),
            (A, None, numbers(5, 5)),
        ];
        for order in [[0, 1], [1, 0]] {
            let mut get = quorum_get();
            let (now, mut steps) = (MonoTime::ZERO, Vec::new());
            get.start(&mut steps);
            steps.clear();
            for place in order {
                let (from, record, numbers) = answers[place].clone();
                get.held(now, from, record, numbers, Standing::Counts, &mut steps);
            }
            assert_eq!(steps, [Step::Ask(C)], "another one stands in for B");
            steps.clear();
            get.held(now, C, None, numbers(5, 4), Standing::Counts, &mut steps);
            assert_eq!(steps, [Step::Answer { replicas: 2 }]);
            assert_eq!(get.merged(), None);
        }
    }

    #[test]
    fn what_a_session_saw_and_no_owner_knows_any_more_was_purged() {
        let required = || {
            let mut get = quorum_get();
            let mut seen = Context::new();
            let actor = quorate_ring::Actor {
                node: A,
                incarnation: quorate_ring::Incarnation(1),
            };
            seen.raise(actor, 3);
            get.require(Requirement {
                all: seen,
                prunable: Context::new(),
                is_elsewhere: false,
            });
            let mut steps = Vec::new();
            get.start(&mut steps);
            get
        };
        let told = |last: PurgeNumbers| {
            let (mut get, mut steps) = (required(), Vec::new());
            for (from, numbers) in [(A, numbers(5, 5)), (B, numbers(5, 5)), (C, last)] {
                get.held(
                    MonoTime::ZERO,
                    from,
                    None,
                    numbers,
                    Standing::Counts,
                    &mut steps,
                );
            }
            steps.contains(&Step::Answer { replicas: 3 })
        };
        assert!(told(numbers(5, 2)), "all have purged something");
        assert!(
            !told(numbers(5, 0)),
            "one has not: it may come with what was seen"
        );
    }

    /// Owners that answered before a fallback handed over what the session saw know nothing of it:
    /// they are asked again before it is taken for purged. What a fallback tells is no answer of R
    /// at a strict level.
    #[test]
    fn what_a_fallback_handed_over_is_looked_for_at_the_owners_again() {
        const F: NodeId = NodeId(9);
        let mut get = quorum_get();
        get.plan.candidates.push(F);
        get.plan.fallbacks.push(F);
        let mut seen = Context::new();
        let actor = quorate_ring::Actor {
            node: F,
            incarnation: quorate_ring::Incarnation(1),
        };
        seen.raise(actor, 3);
        get.require(Requirement {
            all: seen,
            prunable: Context::new(),
            is_elsewhere: true,
        });
        let mut now = MonoTime::ZERO;
        let tell = |get: &mut GetMachine, now, from| {
            let (rounds, mut steps) = (numbers(5, 5), Vec::new());
            get.held(now, from, None, rounds, Standing::Counts, &mut steps);
            steps
        };
        let mut steps = Vec::new();
        get.start(&mut steps);
        assert_eq!(steps, [Step::Ask(A), Step::Ask(B)]);
        assert_eq!(tell(&mut get, now, A), []);
        assert_eq!(tell(&mut get, now, B), [Step::Ask(C), Step::Ask(F)]);
        for from in [C, F] {
            assert_eq!(tell(&mut get, now, from), [], "the owners answered before");
        }
        now = now + ASK_AGAIN_AFTER;
        let mut steps = Vec::new();
        get.tick(now, |_| false, &mut steps);
        assert_eq!(steps, [A, B, C, F].map(Step::Ask));
        // It says what it said before, and the owners were asked behind that.
        assert_eq!(tell(&mut get, now, F), []);
        assert_eq!(tell(&mut get, now, A), []);
        assert_eq!(tell(&mut get, now, B), []);
        let answered = tell(&mut get, now, C);
        assert_eq!(answered, [Step::Answer { replicas: 3 }], "F is none of R");
    }

    /// Of three owners none is up: what fallbacks hold is told, and that they hold nothing is not.
    #[test]
    fn a_sloppy_read_that_hears_no_owner_says_of_no_key_that_it_is_not_there() {
        const F: NodeId = NodeId(9);
        const G: NodeId = NodeId(10);
        let read = |candidates: &[NodeId], told: Option<Arc<KeyState>>| {
            let mut get = quorum_get();
            get.plan.candidates = candidates.iter().copied().collect();
            get.plan.down = [A, B].into_iter().collect();
            get.plan.fallbacks = [F, G].into_iter().collect();
            (get.plan.fallbacks_count, get.plan.quorum) = (true, 0);
            let (now, none, mut steps) = (MonoTime::ZERO, PurgeNumbers::default(), Vec::new());
            get.start(&mut steps);
            steps.clear();
            for node in [F, G] {
                get.held(now, node, told.clone(), none, Standing::Counts, &mut steps);
            }
            steps
        };
        let found = read(&[F, G], Some(record(1)));
        assert_eq!(found, [Step::Answer { replicas: 2 }]);
        let refused = read(&[F, G], None);
        let [Step::Fail(failure)] = &refused[..] else {
            panic!("{refused:?}");
        };
        assert_eq!((failure.cause, failure.required), (Cause::Unavailable, 2));
        assert!(failure.replicas.contains(&(A, ReplicaPart::Down)));
        let waits = read(&[F, G, C], None);
        assert_eq!(waits, [Step::Ask(C)], "an owner may be heard");
        for refuses in [true, false] {
            let mut get = quorum_get();
            get.plan.candidates = [F, G, C].into_iter().collect();
            get.plan.fallbacks = [F, G].into_iter().collect();
            (get.plan.fallbacks_count, get.plan.quorum) = (true, 0);
            let (now, none, mut steps) = (MonoTime::ZERO, PurgeNumbers::default(), Vec::new());
            get.start(&mut steps);
            for node in [F, G] {
                get.held(now, node, None, none, Standing::Counts, &mut steps);
            }
            steps.clear();
            if refuses {
                get.refused(C, &mut steps);
            } else {
                get.tick(now, |node| node == C, &mut steps);
            }
            let [Step::Fail(failure)] = &steps[..] else {
                panic!("{steps:?}");
            };
            assert_eq!(failure.cause, Cause::Unavailable, "no owner is left");
        }
    }

    /// A fallback that holds what is being brought to a stale owner is none of those that must hold
    /// it.
    #[test]
    fn a_strict_read_is_secured_by_owners_alone() {
        const F: NodeId = NodeId(9);
        let mut get = quorum_get();
        get.plan.candidates.push(F);
        get.plan.fallbacks.push(F);
        let (now, none, mut steps) = (MonoTime::ZERO, PurgeNumbers::default(), Vec::new());
        let held = Some(record(1));
        get.start(&mut steps);
        get.ask_more(2, &mut steps);
        get.held(now, A, held.clone(), none, Standing::Counts, &mut steps);
        get.held(now, B, None, none, Standing::Counts, &mut steps);
        assert!(matches!(steps.pop(), Some(Step::Repair { node: B, .. })));
        steps.clear();
        get.held(now, F, held, none, Standing::Counts, &mut steps);
        assert_eq!(steps, [], "it is on one owner");
        get.repaired(B, Standing::Counts, &mut steps);
        assert_eq!(steps, [Step::Answer { replicas: 2 }]);
    }

    /// What a majority knew at least one of any majority that counts knows, unless it was pruned.
    #[test]
    fn what_a_majority_saw_of_an_ended_life_and_no_majority_knows_was_pruned() {
        let seen = |incarnation| {
            let mut seen = Context::new();
            let actor = quorate_ring::Actor {
                node: A,
                incarnation: quorate_ring::Incarnation(incarnation),
            };
            seen.raise(actor, 3);
            seen
        };
        let told = |prunable: &Context, numbers: [PurgeNumbers; 2], standing| {
            let mut get = quorum_get();
            get.require(Requirement {
                all: seen(1),
                prunable: prunable.clone(),
                is_elsewhere: false,
            });
            let mut steps = Vec::new();
            get.start(&mut steps);
            let [first, second] = numbers;
            let (now, mut steps) = (MonoTime::ZERO, Vec::new());
            get.held(now, A, None, first, Standing::Counts, &mut steps);
            get.held(now, B, None, second, standing, &mut steps);
            steps.contains(&Step::Answer { replicas: 2 })
        };
        let rounds = [numbers(5, 5); 2];
        assert!(told(&seen(1), rounds, Standing::Counts));
        assert!(!told(&seen(2), rounds, Standing::Counts), "of another life");
        let first = [numbers(5, 0), numbers(5, 5)];
        assert!(!told(&seen(1), first, Standing::Counts), "one had no round");
        assert!(!told(&seen(1), rounds, Standing::NotYet), "one forgot");
    }
}
