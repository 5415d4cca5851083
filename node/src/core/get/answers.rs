//! What the replicas that a get asked have told: how many count, what all of it is together, and
//! what the silence of all of them proves.
//!
//! One answer per replica, the last one. At a sloppy level a fallback's is one of R; otherwise it
//! is merged and counts for nothing, and what an owner says proves something only if it was asked
//! behind the fallbacks: what one of them has handed over by its answer, an owner has had since.
//!
//! Not here: whom to ask when (`get`), merging (`quorate_antientropy::read_repair`).

use std::sync::Arc;

use quorate_antientropy::{KeyState, PurgeNumbers, ReadRepair, Reply as ReplicaReply};
use quorate_ring::NodeId;
use smallvec::SmallVec;

use super::super::message::PurgeNumber;
use super::super::node_set::NodeSet;
use super::super::standing::Standing;
use super::GetPlan;

/// Answers that fit without an allocation; a level of three copies needs two.
const ANSWERS_INLINE: usize = 2;

#[derive(Debug, Clone)]
struct Answer {
    node: NodeId,
    standing: Standing,
    /// Shared by all that hold what the coordinator holds itself.
    record: Option<Arc<KeyState>>,
    numbers: PurgeNumbers,
    /// Whether it was asked for once each fallback had said what it last said.
    is_behind_fallbacks: bool,
}

/// All answers merged.
#[derive(Debug)]
pub(super) struct Merged {
    /// `None` if nobody holds anything.
    pub(super) record: Option<Arc<KeyState>>,
    /// The smallest number of its parts.
    pub(super) number: PurgeNumber,
    /// Owners that hold exactly that.
    pub(super) current: NodeSet,
    /// Owners that do not.
    pub(super) stale: NodeSet,
}

/// What the replicas of one get told so far.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// In the order of their nodes.
    list: SmallVec<[Answer; ANSWERS_INLINE]>,
    /// Who was asked since a fallback last said something new; all that were asked before the first
    /// did.
    asked_behind: NodeSet,
}

impl Answers {
    /// A replica is asked.
    pub(super) fn asked(&mut self, plan: &GetPlan, node: NodeId) {
        if plan.has_fallbacks() {
            self.asked_behind.insert(node);
        }
    }

    /// A replica answered.
    pub(super) fn note(
        &mut self,
        plan: &GetPlan,
        node: NodeId,
        record: Option<Arc<KeyState>>,
        numbers: PurgeNumbers,
        standing: Standing,
    ) {
        let is_behind_fallbacks = self.asked_behind.remove(node);
        let place = self.list.binary_search_by_key(&node, |answer| answer.node);
        let before = place.ok().and_then(|at| self.list.get(at));
        let as_before = before.is_some_and(|answer| answer.record == record);
        if !as_before && !plan.is_owner(node) {
            self.asked_behind = NodeSet::default();
            let answers = self.list.iter_mut();
            answers.for_each(|answer| answer.is_behind_fallbacks = false);
        }
        let answer = Answer {
            node,
            standing,
            record,
            numbers,
            is_behind_fallbacks,
        };
        match place {
            Ok(at) => self.list[at] = answer,
            Err(at) => self.list.insert(at, answer),
        }
    }

    /// Whether a replica answered.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.of(node).is_some()
    }

    /// The record that it answered with.
    pub(super) fn record_of(&self, node: NodeId) -> Option<&Arc<KeyState>> {
        self.of(node)?.record.as_ref()
    }

    fn of(&self, node: NodeId) -> Option<&Answer> {
        self.list.iter().find(|answer| answer.node == node)
    }

    /// Who answered.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.list.iter().map(|answer| answer.node)
    }

    /// How many of them are among R.
    pub(super) fn counted(&self, plan: &GetPlan) -> usize {
        self.nodes().filter(|node| plan.counts(*node)).count()
    }

    /// An answer below another one's floor may show what was purged: it is neither counted nor
    /// merged (P3). Gives whose are left out.
    pub(super) fn leave_out_what_was_purged(&mut self, plan: &GetPlan) -> Option<NodeSet> {
        // A fallback's floor may be above what any owner has dropped.
        let owners = self.list.iter().filter(|answer| plan.is_owner(answer.node));
        let floors = owners.map(|answer| answer.numbers.floor);
        let floor = floors.max().unwrap_or_default();
        if floor == PurgeNumber::default() {
            return None;
        }
        let mut below = NodeSet::default();
        self.list.retain(|answer| {
            let is_below = answer.numbers.number < floor;
            if is_below {
                below.insert(answer.node);
            }
            !is_below
        });
        Some(below)
    }

    /// All of them merged, `known` being what the coordinator holds itself.
    pub(super) fn merge(&self, plan: &GetPlan, known: Option<&Arc<KeyState>>) -> Merged {
        let numbers = self.list.iter().filter(|answer| answer.record.is_some());
        let numbers = numbers.map(|answer| answer.numbers.number);
        let number = numbers.min().unwrap_or_default();
        let owners = |node: &NodeId| plan.is_owner(*node);
        if let Some(known) = known {
            let holds = |record: &Arc<KeyState>| Arc::ptr_eq(record, known);
            let mut records = self.list.iter().map(|answer| answer.record.as_ref());
            if records.all(|record| record.is_some_and(holds)) {
                return Merged {
                    record: Some(Arc::clone(known)),
                    number,
                    current: self.nodes().filter(owners).collect(),
                    stale: NodeSet::default(),
                };
            }
        }
        let replies = self.list.iter().map(|answer| ReplicaReply {
            node: answer.node,
            record: answer.record.as_deref(),
        });
        let ReadRepair {
            merged,
            current,
            stale,
        } = ReadRepair::of(&replies.collect::<Vec<_>>());
        Merged {
            record: merged.map(Arc::new),
            number,
            current: current.into_iter().filter(owners).collect(),
            stale: stale.into_iter().filter(owners).collect(),
        }
    }

    /// Whether what a majority of the owners knew, and these do not know, was pruned: a majority
    /// that counts answered, so that one of those who knew it did, and each has had a round.
    pub(super) fn prove_pruned(&self, plan: &GetPlan) -> bool {
        let counts =
            |answer: &&Answer| answer.standing == Standing::Counts && plan.is_owner(answer.node);
        let asked = plan.candidates.iter().chain(&plan.down);
        let owners = asked.filter(|node| plan.is_owner(**node)).count();
        self.list.iter().filter(counts).count() > owners / 2 && self.have_all_purged(plan)
    }

    /// Whether all owners answered and each has purged something: what none of them knows any more
    /// was deleted and is gone. Where fallbacks are asked, all of them answered before the owners
    /// were asked.
    pub(super) fn prove_purged(&self, plan: &GetPlan) -> bool {
        let is_behind = |answer: &Answer| answer.is_behind_fallbacks || !plan.is_owner(answer.node);
        plan.down.is_empty()
            && self.list.len() == plan.candidates.len()
            && self.have_all_purged(plan)
            && (!plan.has_fallbacks() || self.list.iter().all(is_behind))
    }

    fn have_all_purged(&self, plan: &GetPlan) -> bool {
        // A fallback purges nothing: it has handed over what it held before owners do.
        let has_purged = |answer: &Answer| {
            answer.numbers.floor > PurgeNumber::default() || !plan.is_owner(answer.node)
        };
        self.list.iter().all(has_purged)
    }

    /// Whether enough fallbacks answered, none of them holds anything, and no owner was heard: what
    /// the owners hold is not known then, and nothing else is missing.
    pub(super) fn want_owner(&self, plan: &GetPlan) -> bool {
        let says_nothing = |answer: &Answer| answer.record.is_none() && !plan.is_owner(answer.node);
        plan.has_fallbacks()
            && self.counted(plan) >= usize::from(plan.required)
            && self.list.iter().all(says_nothing)
    }
}
