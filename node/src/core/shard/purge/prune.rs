//! Pruning the records of keys that stay: which are crowded, what a round may leave out of one, and
//! leaving it out of what comes afterwards, so that it is not brought back.
//!
//! Not here: the rounds (`lead`, `take_part`), why it is sound (`core::purge`).

use bytes::Bytes;
use quorate_antientropy::{KeyState, Prunable, Record};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{Actor, KeyspaceMode, NodeId};

use super::super::super::effect::{Effect, Effects, Event};
use super::super::super::input::Now;
use super::super::super::key::RecordKey;
use super::super::super::message::{PurgeRound, PurgeStep, Wanted};
use super::super::super::purge::CopyOf;
use super::super::super::seal::Token;
use super::super::super::table::Lookup;
use super::super::{Place, Shard};

impl Shard {
    /// Whether an actor writes no more, as far as this node knows: its node lives another life now.
    /// Only what nobody raises again is worth leaving out.
    pub(in super::super) fn has_ended(&self, actor: Actor) -> bool {
        if actor.node == self.me {
            return actor.incarnation != self.continuity.incarnation();
        }
        let present = self.continuity.known_life(actor.node);
        present.is_some_and(|present| present != actor.incarnation)
    }

    /// What could be left out of a record as far as this node knows.
    pub(super) fn prunable(&self, record: &Record) -> Prunable {
        record.prunable(|actor| self.has_ended(actor))
    }

    /// Whether that is so much that it is worth a round.
    pub(super) fn is_crowded(&self, prunable: &Prunable) -> bool {
        prunable.count() > self.spare_max
    }

    /// A record of a key that becomes the newest may be crowded.
    pub(in super::super) fn note_if_crowded(&mut self, place: &Place, state: &KeyState) {
        if let KeyState::Siblings(record) = state {
            self.note_record_if_crowded(place, record);
        }
    }

    /// The same of a record.
    pub(in super::super) fn note_record_if_crowded(&mut self, place: &Place, record: &Record) {
        let copy = (place.keyspace, place.location.vnode);
        if record.remembered() <= self.spare_max || !self.leads(copy) {
            return;
        }
        if self.is_crowded(&self.prunable(record)) {
            let now = self.last_step.mono;
            self.purges.note_crowded(copy, place.key.user_key(), now);
        }
    }

    /// A peer began a new life: records of what it owns may have become crowded by that.
    pub(in super::super) fn look_for_crowded(&mut self, now: Now, peer: NodeId) {
        let at = now.mono + self.purges.look_after();
        let held: Vec<CopyOf> = self
            .table
            .digests()
            .holdings()
            .map(|(keyspace, vnode, _)| (keyspace, vnode))
            .collect();
        for copy in held {
            let known = self.topology.keyspace(copy.0);
            let has_contexts = known.is_some_and(|known| {
                known.mode == KeyspaceMode::Siblings
                    && self.topology.is_owner(copy.1, known.copies, peer)
            });
            if has_contexts && self.leads(copy) {
                self.purges.look(copy, at);
            }
        }
    }

    /// The newest record of a key of a copy of this node's, which must be in memory.
    pub(super) fn record_in_memory(
        &self,
        (keyspace, vnode): CopyOf,
        key: &Bytes,
    ) -> Option<Record> {
        let record_key = RecordKey::new(keyspace, vnode, key);
        if !self.holds_key(&record_key) {
            return None;
        }
        let Lookup::Known(newest) = self.table.newest(&record_key) else {
            return None;
        };
        match KeyState::decode_as(KeyspaceMode::Siblings, &newest?) {
            Ok(KeyState::Siblings(record)) => Some(record),
            Ok(KeyState::Lww(_)) | Err(_) => None,
        }
    }

    /// Whether this node agrees that this is left out of a key's record. The record need not be
    /// durable: what it is now is on disk before the number that rises with it.
    pub(super) fn may_prune(
        &self,
        copy: CopyOf,
        key: &Bytes,
        pruned: &Prunable,
        step: PurgeStep,
    ) -> bool {
        let present = Actor {
            node: self.me,
            incarnation: self.continuity.incarnation(),
        };
        // It takes room, where deleting gives some.
        if self.disk_full || pruned.actors().any(|actor| actor == present) {
            return false;
        }
        let Some(record) = self.record_in_memory(copy, key) else {
            return false;
        };
        match step {
            PurgeStep::Look | PurgeStep::Join => record.remembers(pruned),
            // It remembered it all when it joined; operations may have been evicted since.
            PurgeStep::Drop => record.remembers(&pruned.dots_alone()),
            PurgeStep::Drained => false,
        }
    }

    /// Leaves it out, and for a while also out of what comes.
    pub(super) fn prune(
        &mut self,
        now: Now,
        copy: CopyOf,
        key: &Bytes,
        pruned: &Prunable,
        effects: &mut Effects,
    ) {
        let Some(keyspace) = self.topology.keyspace(copy.0) else {
            return;
        };
        let place = self.place(keyspace, key);
        let Lookup::Known(newest) = self.table.newest(&place.key) else {
            return;
        };
        let Some(mut record) = self.record_in_memory(copy, key) else {
            return;
        };
        let had_value = record.has_value();
        if record.prune(pruned) {
            let gone_at = record.gone_at();
            let encoded = self.encoded(|out| record.encode(out));
            let old = (newest.as_ref(), had_value);
            self.commit(&place, old, (encoded, gone_at), effects);
            effects.push(Effect::Count(Event::Pruned));
        }
        self.purges.note_pruned(now.mono, place.key, pruned.clone());
    }

    /// Forgets flagged operations as soon as it is asked about them; never in a build without
    /// planted bugs.
    pub(super) fn prune_early_if_planted(
        &mut self,
        now: Now,
        copy: CopyOf,
        round: &PurgeRound,
        effects: &mut Effects,
    ) {
        if !planted(Bug::FlaggedPrunedEarly) {
            return;
        }
        for (key, wanted) in &round.keys {
            if let Wanted::Less(pruned) = wanted {
                self.prune(now, copy, key, &pruned.flagged_alone(), effects);
            }
        }
    }

    /// Leaves out of a record that comes what was left out of this node's own a moment ago; true if
    /// it had any of it.
    pub(in super::super) fn leave_out(&self, place: &Place, record: &mut Record) -> bool {
        if planted(Bug::PrunesOutsideRounds) {
            let mut prunable = self.prunable(record);
            prunable.flagged.clear();
            return record.prune(&prunable);
        }
        let pruned = self.purges.pruned_of(&place.key);
        pruned.is_some_and(|pruned| record.prune(pruned))
    }

    /// The same with what a client has seen.
    pub(in super::super) fn leave_out_of_token(&self, place: &Place, token: &mut Token) {
        if let Some(pruned) = self.purges.pruned_of(&place.key) {
            token.held.forget(pruned);
            token.apart.forget(pruned);
            pruned.unflag(&mut token.seen);
        }
    }
}
