//! What a record need not remember any more once every owner of its key remembers it: entries of a
//! context, loose dots and flagged operations of which no owner holds a sibling.
//!
//! What a context covers and no sibling has is superseded. An entry is there so that a replica
//! which still has the write as a sibling drops it in a merge. If every owner covers it and none
//! has it as a sibling, then nothing that an owner reads from then on has it, because a state only
//! grows; so the entry does nothing any more, as long as what was read *before* is kept away
//! (`counterexamples.md` P1, P7). The same holds for a flagged operation: it is there so that a
//! twin is absorbed.
//!
//! None of this is a merge: a record that forgets is below what it was, and comes back up in a
//! merge with one that has not forgotten. That is harmless.
//!
//! Not here: how owners agree and what keeps older records away (`node::core::purge`); the list of
//! superseded operations, which is short and stays.

use quorate_ring::Actor;
use quorate_ring::planted::{Bug, planted};

use super::dot::Dot;
use super::op_id::OpId;
use super::record::Record;
use super::seen::SeenOps;

/// What the owners of a key may leave out of its record together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prunable {
    /// Vector entries: all writes of an actor up to a counter. Sorted.
    pub entries: Vec<Dot>,
    /// Single writes that no vector entry covers. Sorted.
    pub loose: Vec<Dot>,
    /// Superseded operations of which an attempt after the first is known. Sorted.
    pub flagged: Vec<OpId>,
}

impl Prunable {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many entries, dots and operations.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.len() + self.loose.len() + self.flagged.len()
    }

    /// Whether it is sorted, and names no actor's vector entry twice.
    #[must_use]
    pub fn is_sorted(&self) -> bool {
        let actors = self.entries.iter().map(|dot| dot.actor);
        actors.is_sorted_by(|a, b| a < b)
            && self.loose.is_sorted_by(|a, b| a < b)
            && self.flagged.is_sorted_by(|a, b| a < b)
    }

    /// Keeps the first `count` of them.
    pub fn truncate(&mut self, count: usize) {
        self.entries.truncate(count);
        self.loose.truncate(count - self.entries.len());
        self.flagged
            .truncate(count - self.entries.len() - self.loose.len());
    }

    /// The same without operations.
    #[must_use]
    pub fn dots_alone(&self) -> Self {
        Self {
            flagged: Vec::new(),
            ..self.clone()
        }
    }

    /// The same without dots.
    #[must_use]
    pub fn flagged_alone(&self) -> Self {
        Self {
            flagged: self.flagged.clone(),
            ..Self::default()
        }
    }

    /// Whose dots it is about.
    pub fn actors(&self) -> impl Iterator<Item = Actor> + '_ {
        self.entries.iter().chain(&self.loose).map(|dot| dot.actor)
    }

    /// What a client's token tells of operations, with these told as tried once.
    pub fn unflag(&self, seen: &mut SeenOps) {
        let listed = |op_id: &OpId| self.flagged.binary_search(op_id).is_ok();
        for seen in seen.iter_mut() {
            seen.flagged &= !listed(&seen.op.op_id);
        }
    }
}

impl Record {
    /// How many vector entries, loose dots and flagged operations it remembers: more than it can do
    /// without.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.context.len() + self.flagged.entries().len()
    }

    /// What could be left out as far as this replica knows: dots of actors for which `has_ended`
    /// holds, and flagged operations.
    ///
    /// An actor that has a sibling here keeps all of its dots.
    #[must_use]
    pub fn prunable(&self, has_ended: impl Fn(Actor) -> bool) -> Prunable {
        let is_free = |dot: &&Dot| has_ended(dot.actor) && !self.has_sibling_of(dot.actor);
        Prunable {
            entries: self
                .context
                .vector()
                .iter()
                .filter(is_free)
                .copied()
                .collect(),
            loose: self
                .context
                .loose()
                .iter()
                .filter(is_free)
                .copied()
                .collect(),
            flagged: self.flagged.entries().iter().map(|op| op.op_id).collect(),
        }
    }

    /// Whether this replica remembers all of it, and holds no sibling of any of it. Once true it
    /// stays true in every merge until it is left out, or evicted from a full list.
    #[must_use]
    pub fn remembers(&self, pruned: &Prunable) -> bool {
        let covered = |dot: &Dot| self.context.vector_counter(dot.actor) >= dot.counter;
        pruned.entries.iter().all(covered)
            && pruned.loose.iter().all(|dot| self.context.covers(*dot))
            && !self.has_sibling_in(pruned)
            && pruned
                .flagged
                .iter()
                .all(|op| self.flagged.entry(*op).is_some())
    }

    /// Leaves it out; true if anything changed. An entry that covers later writes stays, and where
    /// a sibling has one of the dots, all of them do.
    pub fn prune(&mut self, pruned: &Prunable) -> bool {
        let is_needed = self.has_sibling_in(pruned);
        let forgot_dots = !is_needed && self.context.forget(pruned);
        let forgot_ops = self.flagged.forget(&pruned.flagged);
        if planted(Bug::FlaggedPrunedEarly) {
            self.superseded.forget(&pruned.flagged);
        }
        forgot_dots || forgot_ops
    }

    fn has_sibling_of(&self, actor: Actor) -> bool {
        let mut dots = self.siblings.iter().flat_map(|sibling| sibling.dots());
        dots.any(|dot| dot.actor == actor)
    }

    /// Whether a sibling has one of these dots.
    fn has_sibling_in(&self, pruned: &Prunable) -> bool {
        let mut dots = self.siblings.iter().flat_map(|sibling| sibling.dots());
        dots.any(|dot| {
            let entry = pruned.entries.iter().find(|entry| entry.actor == dot.actor);
            entry.is_some_and(|entry| entry.counter >= dot.counter)
                || pruned.loose.binary_search(&dot).is_ok()
        })
    }
}
