//! Purge rounds: what this node does as the leader of one (`lead`) and as one who takes part
//! (`take_part`), how it looks for keys that it does not remember (`look`), and what it leaves out
//! of records (`prune`).
//!
//! A step of a round first has its keys brought into memory (`gather`); then all of it happens at
//! one moment, so that nothing comes between looking at a record and raising a number or taking the
//! record away. An answer goes when everything that it rests on is durable.
//!
//! In this file: the numbers of this node's copies, what they refuse, and how they are inherited.
//! Not here: what a round proves and which keys wait (`core::purge`).

mod gather;
mod lead;
mod look;
mod prune;
mod take_part;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use quorate_antientropy::{Holdings, KeyState, MergeResult, PurgeNumbers};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{KeyspaceId, MonoTime, NodeId, VnodeId};

use super::super::budget::Kind;
use super::super::effect::{Effect, Effects, Entry, Event, StopReason};
use super::super::input::Now;
use super::super::message::{PurgeNumber, ReplicaStanding};
use super::super::node_set::Owners;
use super::super::purge::{CopyOf, Inherited, Phase, leads};
use super::{Place, Shard};

pub(super) use gather::Gather;
pub(super) use look::FIRST_LOOK_AFTER;

impl Shard {
    /// Whether this node leads the rounds of a copy.
    pub(super) fn leads(&self, copy: CopyOf) -> bool {
        leads(&self.topology, self.me, copy)
    }

    /// Whether this node is an owner of a copy.
    fn owns(&self, (keyspace, vnode): CopyOf) -> bool {
        let known = self.topology.keyspace(keyspace);
        known.is_some_and(|known| self.topology.is_owner(vnode, known.copies, self.me))
    }

    /// The numbers under which this node reads and makes records of a place.
    pub(super) fn purge_numbers(&self, place: &Place) -> PurgeNumbers {
        self.numbers_of((place.keyspace, place.location.vnode))
    }

    /// The same of a copy: a number goes out only once it is durable, so that it is never given to
    /// another round after a crash; a floor holds at once.
    pub(super) fn numbers_of(&self, copy: CopyOf) -> PurgeNumbers {
        let newest = self.purges.numbers(copy);
        if newest == PurgeNumbers::default() {
            return newest;
        }
        PurgeNumbers {
            number: self.table.digests().numbers(copy.0, copy.1).number,
            floor: newest.floor,
        }
    }

    /// Whether this node may take, read and give records of a place.
    pub(super) fn knows_numbers(&self, place: &Place) -> bool {
        let copy = (place.keyspace, place.location.vnode);
        if place.is_owner {
            self.purges.knows(copy)
        } else {
            self.guests.knows(copy)
        }
    }

    /// Whether a record that was read under `number` must be refused: it would change something,
    /// and what it would bring may have been purged (P1).
    pub(super) fn is_below_floor(
        &self,
        place: &Place,
        number: PurgeNumber,
        newest: Option<&Bytes>,
        incoming: &Bytes,
    ) -> bool {
        if self
            .purges
            .takes((place.keyspace, place.location.vnode), number)
        {
            return false;
        }
        let decode = |bytes: &Bytes| KeyState::decode_as(place.mode, bytes);
        let own = newest.map_or_else(|| Ok(KeyState::absent(place.mode)), decode);
        let (Ok(own), Ok(theirs)) = (own, decode(incoming)) else {
            // Who merges them tells what is wrong.
            return false;
        };
        !matches!(own.merge(&theirs), MergeResult::Unchanged)
    }

    /// A co-replica's floor is above this node's number: this node took part in the round and has
    /// forgotten it, and with that what was purged then. Of a fallback's floor that is not so: it
    /// took one that it heard of, though not every owner may have been in that round yet.
    pub(super) fn note_floor(
        &self,
        copy: CopyOf,
        peer: NodeId,
        floor: PurgeNumber,
        effects: &mut Effects,
    ) {
        if floor == PurgeNumber::default() || floor <= self.purges.numbers(copy).number {
            return;
        }
        let known = self.topology.keyspace(copy.0);
        let is_owner =
            known.is_some_and(|known| self.topology.is_owner(copy.1, known.copies, peer));
        let has_forgotten = is_owner && self.owns(copy) && self.purges.knows(copy);
        if !has_forgotten || planted(Bug::OutdatedCopyKept) {
            return;
        }
        effects.push(Effect::Stop(self.outdated(peer)));
    }

    /// Why this node must not go on with its store. It is set aside only if others can give back
    /// all of it.
    fn outdated(&self, peer: NodeId) -> StopReason {
        let reason = format!(
            "it is from before a round in which deleted keys were purged on node {peer} (an old copy \
             was restored?): what it holds of them must not come back"
        );
        let is_alone = |(keyspace, vnode, _): (KeyspaceId, VnodeId, Holdings)| {
            let known = self.topology.keyspace(keyspace);
            known.is_some_and(|known| known.copies.get() == 1) && self.owns((keyspace, vnode))
        };
        if self.table.digests().holdings().any(is_alone) {
            let reason = format!("{reason}. It is the only one that holds some keyspaces");
            return StopReason::Damaged { reason };
        }
        StopReason::EngineDamaged { reason }
    }

    /// An owner told how it stands: with its numbers this node's copies may be read again, unless
    /// they are from before a round.
    pub(super) fn inherit_numbers(
        &mut self,
        peer: NodeId,
        standing: &ReplicaStanding,
        effects: &mut Effects,
    ) {
        let told: BTreeMap<CopyOf, PurgeNumbers> = standing
            .numbers
            .iter()
            .map(|(keyspace, vnode, numbers)| ((*keyspace, *vnode), *numbers))
            .collect();
        for copy in self.healing.wanted_from(peer) {
            let (keyspace, vnode) = copy;
            let lacks = standing.lacks.get(&keyspace);
            let is_whole = lacks.is_none_or(|vnodes| !vnodes.contains(vnode));
            let numbers = told.get(&copy).copied().unwrap_or_default();
            let holdings = self.table.digests().vnode(keyspace, vnode).holdings();
            let has_rows = holdings.keys > 0 || holdings.tombstones > 0;
            let copies = self.topology.keyspace(keyspace).map(|known| known.copies);
            let owners = copies.map_or(&[][..], |copies| self.topology.owners(vnode, copies));
            let others: Owners = owners
                .iter()
                .copied()
                .filter(|node| *node != self.me && !self.healing.is_declared_lost(*node))
                .collect();
            let told = (peer, numbers, is_whole);
            match self.purges.inherit(copy, told, &others, has_rows) {
                Inherited::Known | Inherited::NotYet => {}
                Inherited::Raise(mut numbers) => {
                    if self.leads(copy) && numbers != PurgeNumbers::default() {
                        // The numbers of rounds that were begun and lost are not used again.
                        numbers.number = numbers.number.beyond_lost();
                    }
                    self.raise_numbers(copy, numbers, effects);
                }
                Inherited::Outdated => {
                    effects.push(Effect::Stop(self.outdated(peer)));
                    return;
                }
            }
        }
    }

    /// A co-replica lost something and begins to get it back from here.
    pub(super) fn leave_purges(&mut self, now: MonoTime, peer: NodeId) {
        let topology = Arc::clone(&self.topology);
        let shares = |(keyspace, vnode): CopyOf| {
            let known = topology.keyspace(keyspace);
            known.is_some_and(|known| topology.is_owner(vnode, known.copies, peer))
        };
        self.purges.leave_rounds(shares, now);
    }

    pub(super) fn raise_numbers(
        &mut self,
        copy: CopyOf,
        numbers: PurgeNumbers,
        effects: &mut Effects,
    ) {
        let (keyspace, vnode) = copy;
        if numbers != self.purges.numbers(copy) {
            let lsn = self.table.appended().next();
            self.table.append_numbers(lsn, keyspace, vnode, numbers);
            let entry = Entry::Numbers {
                keyspace,
                vnode,
                numbers,
            };
            effects.push(Effect::Append { lsn, entry });
        }
        self.purges.raised(copy, numbers);
    }

    /// Begins what is due, ends what is late.
    pub(super) fn tick_purges(&mut self, now: Now, effects: &mut Effects) {
        if self.draining {
            return self.purges.give_up_all(now.mono);
        }
        self.purges.forget_pruned(now.mono);
        for op in self.purges.due(now.mono) {
            match self.purges.led(op).map(|led| led.phase) {
                Some(Phase::Resting(_)) => self.begin_drop(now, op, effects),
                Some(Phase::Asking(_)) => {
                    effects.push(Effect::Count(Event::PurgeRoundFailed));
                    self.purges.give_up(op, now.mono);
                }
                None => {}
            }
        }
        if self.room() == 0 || !self.table.has_room() {
            return;
        }
        if self.budget.may(now.mono, Kind::Purge) {
            self.look_on(now, effects);
        }
        self.begin_round(now, effects);
    }
}
