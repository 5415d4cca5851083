//! Taking part in a round, one's own or a peer's: which of its keys this node agrees on, and
//! raising its number or taking records away.

use bytes::Bytes;
use quorate_antientropy::{
    Digest, DigestChange, Held, HoldingsChange, KeyState, PurgeNumbers, RecordChange,
};
use quorate_ring::{Epoch, NodeId};

use super::super::super::effect::{Effect, Effects, Entry, Event};
use super::super::super::failure::Cause;
use super::super::super::input::Now;
use super::super::super::key::RecordKey;
use super::super::super::message::{
    PeerMessage, PurgeAsk, PurgeNumber, PurgeReply, PurgeRound, PurgeStep, Refusal, Wanted,
};
use super::super::super::purge::{CopyOf, leads};
use super::super::super::table::Lookup;
use super::super::{KEY_BYTES_MAX, Shard};
use super::gather::Step;

/// Steps of peers whose keys may be on their way into memory at once.
const GATHERS_MAX: usize = 64;

/// Whether a key may be purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purgeable {
    /// With this record.
    Now(Digest),
    /// It cannot be told, or its newest state is not durable.
    NotYet,
    /// It is gone already, or has a value.
    Never,
}

impl Shard {
    /// A leader asks.
    pub(in super::super) fn peer_purge(
        &mut self,
        now: Now,
        from: NodeId,
        epoch: Epoch,
        ask: PurgeAsk,
        effects: &mut Effects,
    ) {
        let refused = if self.draining {
            Some(Cause::ShuttingDown)
        } else if epoch != self.topology.epoch() {
            Some(Cause::EpochMismatch)
        } else if self.purge_gathers.len() >= GATHERS_MAX {
            Some(Cause::Overloaded)
        } else {
            None
        };
        if let Some(cause) = refused {
            let floor = PurgeNumber::default();
            let reply = PurgeReply {
                op: ask.op,
                step: ask.step,
                result: Err(Refusal { cause, floor }),
            };
            let message = PeerMessage::PurgeReply(reply);
            effects.push(Effect::Send { to: from, message });
            return;
        }
        let keys = ask.rounds.iter().flat_map(|round| {
            let key = |(key, _): &(Bytes, Wanted)| RecordKey::new(round.keyspace, round.vnode, key);
            let is_key = |(key, _): &&(Bytes, Wanted)| (1..=KEY_BYTES_MAX).contains(&key.len());
            round.keys.iter().filter(is_key).map(key)
        });
        let keys: Vec<RecordKey> = keys.filter(|key| self.holds_key(key)).collect();
        let op = ask.op;
        self.bring_in(now, op, keys, Step::Peer { to: from, ask }, effects);
    }

    /// Whether a key is one of a copy of this node's, in its vnode.
    pub(super) fn holds_key(&self, key: &RecordKey) -> bool {
        let Some(keyspace) = self.topology.keyspace(key.keyspace()) else {
            return false;
        };
        let vnode = self.topology.locate(keyspace.id, key.user_key()).vnode;
        vnode == key.vnode() && self.topology.is_owner(vnode, keyspace.copies, self.me)
    }

    /// This node's part in a step: of each round the places of the keys that it agrees on.
    pub(super) fn take_part(
        &mut self,
        now: Now,
        leader: NodeId,
        step: PurgeStep,
        rounds: &[PurgeRound],
        effects: &mut Effects,
    ) -> Vec<Vec<u16>> {
        let mut agreed = Vec::with_capacity(rounds.len());
        for round in rounds {
            let copy = (round.keyspace, round.vnode);
            if !self.owns(copy) && self.fallbacks_of(copy).contains(&self.me) {
                let agrees = self.take_part_as_fallback(now, leader, step, round, effects);
                agreed.push(if agrees { vec![0] } else { Vec::new() });
                continue;
            }
            if !self.may_take_part(now, leader, step, round) {
                agreed.push(Vec::new());
                continue;
            }
            let keys = (0u16..).zip(&round.keys);
            let holds = |(_, (key, wanted)): &(u16, &(Bytes, Wanted))| match wanted {
                Wanted::Gone(digest) => self.purgeable(now, copy, key) == Purgeable::Now(*digest),
                Wanted::Less(pruned) => self.may_prune(copy, key, pruned, step),
            };
            let places: Vec<u16> = keys.filter(holds).map(|(place, _)| place).collect();
            if !places.is_empty() {
                let own = self.purges.numbers(copy);
                match step {
                    PurgeStep::Look => self.prune_early_if_planted(now, copy, round, effects),
                    PurgeStep::Drained => {}
                    PurgeStep::Join => {
                        let number = round.number;
                        self.raise_numbers(copy, PurgeNumbers { number, ..own }, effects);
                        self.purges.join(copy, leader, number, now.mono);
                    }
                    PurgeStep::Drop => {
                        let floor = own.floor.max(round.number);
                        self.raise_numbers(copy, PurgeNumbers { floor, ..own }, effects);
                        let keys = places.iter().map(|place| usize::from(*place));
                        for (key, wanted) in keys.filter_map(|place| round.keys.get(place)) {
                            match wanted {
                                Wanted::Gone(_) => self.erase(copy, key, effects),
                                Wanted::Less(pruned) => self.prune(now, copy, key, pruned, effects),
                            }
                        }
                    }
                }
            }
            agreed.push(places);
        }
        agreed
    }

    /// Whether this node, which may stand in for an owner of the vnode, agrees to a step: it holds
    /// nothing of it. With the last one it takes nothing from then on that was read before the
    /// round.
    fn take_part_as_fallback(
        &mut self,
        now: Now,
        leader: NodeId,
        step: PurgeStep,
        round: &PurgeRound,
        effects: &mut Effects,
    ) -> bool {
        let copy = (round.keyspace, round.vnode);
        let is_led = leads(&self.topology, leader, copy);
        if !is_led || !self.guests.is_drained(copy) || !self.table.has_room() {
            return false;
        }
        let own = self.purges.numbers(copy);
        match step {
            PurgeStep::Look => true,
            PurgeStep::Join if round.number <= own.number => false,
            PurgeStep::Join => {
                let number = round.number;
                let mut joined = PurgeNumbers { number, ..own };
                if !self.guests.knows(copy) {
                    // It may have forgotten a floor, which is below this.
                    joined.floor = number;
                }
                self.raise_numbers(copy, joined, effects);
                self.guests.tell(copy);
                self.purges.join(copy, leader, number, now.mono);
                true
            }
            PurgeStep::Drained if self.purges.may_drop(copy, leader, round.number, now.mono) => {
                let floor = own.floor.max(round.number);
                self.raise_numbers(copy, PurgeNumbers { floor, ..own }, effects);
                true
            }
            PurgeStep::Drained | PurgeStep::Drop => false,
        }
    }

    fn may_take_part(&self, now: Now, leader: NodeId, step: PurgeStep, round: &PurgeRound) -> bool {
        let copy = (round.keyspace, round.vnode);
        let Some(keyspace) = self.topology.keyspace(round.keyspace) else {
            return false;
        };
        if u32::from(round.vnode.0) >= self.topology.vnode_count().get() {
            return false;
        }
        let owners = self.topology.owners(round.vnode, keyspace.copies);
        let is_placed = owners.first() == Some(&leader) && owners.contains(&self.me);
        let counts = self.counts_for(round.keyspace, keyspace.copies, round.vnode)
            && self.purges.knows(copy)
            && self.table.has_room();
        let fits = match step {
            PurgeStep::Look => true,
            PurgeStep::Join => round.number > self.purges.numbers(copy).number,
            PurgeStep::Drop => self.purges.may_drop(copy, leader, round.number, now.mono),
            // A fallback is asked, which this node is not.
            PurgeStep::Drained => false,
        };
        is_placed && counts && fits
    }

    /// Whether a key may be purged as far as this node is concerned; it must be in memory.
    pub(super) fn purgeable(&self, now: Now, (keyspace, vnode): CopyOf, key: &Bytes) -> Purgeable {
        if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
            return Purgeable::NotYet;
        }
        let record_key = RecordKey::new(keyspace, vnode, key);
        let Some(known) = self
            .topology
            .keyspace(keyspace)
            .filter(|_| self.holds_key(&record_key))
        else {
            return Purgeable::NotYet;
        };
        let (Lookup::Known(newest), Lookup::Known(durable)) = (
            self.table.newest(&record_key),
            self.table.durable(&record_key),
        ) else {
            return Purgeable::NotYet;
        };
        if newest != durable {
            return Purgeable::NotYet;
        }
        let Some(record) = durable else {
            return Purgeable::Never;
        };
        let Ok(state) = KeyState::decode_as(known.mode, &record) else {
            return Purgeable::NotYet;
        };
        match state.gone_at() {
            Some(at) if self.is_gone(now, at) => {
                Purgeable::Now(Digest::of(self.digest, record_key.as_bytes(), &record))
            }
            // It expires later: then its vnode is looked through again.
            Some(_) | None => Purgeable::Never,
        }
    }

    /// Takes a record away that is in memory, durable and the key's newest.
    fn erase(&mut self, copy: CopyOf, key: &Bytes, effects: &mut Effects) {
        self.take_away(copy, key, effects);
        effects.push(Effect::Count(Event::Purged));
        self.purges.note_purged(copy, self.counter);
    }

    /// From now on the key is absent here; it must be in memory.
    pub(in super::super) fn take_away(
        &mut self,
        (keyspace, vnode): CopyOf,
        key: &Bytes,
        effects: &mut Effects,
    ) {
        let record_key = RecordKey::new(keyspace, vnode, key);
        let Lookup::Known(Some(old)) = self.table.newest(&record_key) else {
            return;
        };
        let mode = self.topology.keyspace(keyspace).map(|known| known.mode);
        let state = mode.and_then(|mode| KeyState::decode_as(mode, &old).ok());
        let held = Held {
            has_value: state.is_some_and(|state| state.has_value()),
            bytes: record_key.as_bytes().len() + old.len(),
        };
        let digest = Digest::of(self.digest, record_key.as_bytes(), &old);
        let change = RecordChange {
            digest: DigestChange::between(Some(digest), None),
            holdings: HoldingsChange::between(Some(held), None),
        };
        let bucket = self.topology.locate(keyspace, key).bucket;
        let lsn = self.table.appended().next();
        self.table
            .append(lsn, &record_key, bucket, change, Bytes::new());
        let entry = Entry::Record {
            key: record_key,
            bucket,
            change,
            record: Bytes::new(),
        };
        effects.push(Effect::Append { lsn, entry });
    }
}
