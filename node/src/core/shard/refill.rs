//! A node that forgot gets back what it acknowledged: which exchanges it begins for that, and what
//! they came to.
//!
//! It begins one with every owner whose word it needs, whichever of the two begins theirs
//! otherwise, and whether exchanges are made at an interval or not. A copy that is alike, or of
//! which no key was left behind, holds all that the other node had taken of it when it was asked
//! how it stands, as long as that one lived on meanwhile; it counts from then on, however much of
//! the refill is left.
//!
//! Not here: whose word is needed (`healing`), the exchange itself (`exchange`).

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_ring::{Incarnation, KeyspaceId, MonoTime, NodeId, VnodeId};

use super::super::continuity::Liveness;
use super::super::effect::{Effect, Effects};
use super::super::exchange::{ExchangeMachine, Purpose};
use super::super::input::{DeclaredLost, Now};
use super::super::message::ReplicaStanding;
use super::super::vnode_set::VnodeSet;
use super::Shard;

/// An owner that could not give all, or did not count itself, is asked again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// For so long exchanges are left to a node that refills its copies.
const LEFT_TO_REFILL: Duration = Duration::from_secs(10);

/// Why no disk is declared lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclareRefused {
    /// There is no such node.
    Unknown(NodeId),
    /// The node answers, or lacks nothing if it is this one: its disk is there.
    Up(NodeId),
    /// There is no room to keep it.
    DiskFull,
}

/// An exchange that refills copies.
#[derive(Debug)]
pub(super) struct Refill {
    /// The peer's life when it began.
    life: Incarnation,
}

impl Shard {
    /// Begins a refill that is due; false if none is.
    pub(super) fn begin_refill(&mut self, now: Now, effects: &mut Effects) -> bool {
        if self.healing.copies_lacking() == 0 {
            self.tell_healed(effects);
            return false;
        }
        let peers = self.topology.nodes().iter().map(|node| node.id);
        let due = |peer: &NodeId| {
            *peer != self.me
                && self.liveness(now, *peer) == Liveness::Up
                && self
                    .exchanges
                    .refills_due
                    .get(peer)
                    .is_none_or(|due| *due <= now.mono)
        };
        let wanted = peers.filter(due).filter_map(|peer| {
            let copies = self.healing.wanted_from(peer);
            let (life, _) = self.continuity.life_of(peer)?;
            (!copies.is_empty()).then_some((peer, copies, life))
        });
        // Who was never asked comes first, then who has waited longest: else those in front, of
        // whom something cannot be had yet, would keep the last one from its turn.
        let next = wanted.min_by_key(|(peer, ..)| self.exchanges.refills_due.get(peer).copied());
        let Some((peer, copies, life)) = next else {
            return false;
        };
        let machine = ExchangeMachine::new(Purpose::Refill, copies);
        self.begin_exchange(now, peer, machine, None, Some(Refill { life }), effects);
        true
    }

    /// Tells the machine of a refill what its peer says is durable; false if the peer began a new
    /// life, which may hold less.
    pub(super) fn is_refill_sound(&mut self) -> bool {
        let Some(current) = &mut self.exchanges.current else {
            return true;
        };
        let Some(refill) = &current.refill else {
            return true;
        };
        match self.continuity.life_of(current.peer) {
            Some((life, durable)) if life == refill.life => {
                current.machine.peer_is_durable_to(durable);
                true
            }
            // While the connection is away nothing is asked; the next hello tells.
            None => true,
            Some(_) => false,
        }
    }

    /// A copy holds all that the peer of the refill had taken of it when that one told how it
    /// stands.
    pub(super) fn filled(&mut self, copy: (KeyspaceId, VnodeId), effects: &mut Effects) {
        if !self.is_refill_sound() {
            return;
        }
        let current = self.exchanges.current.as_ref();
        let told = current.and_then(|current| Some((current.peer, current.machine.standing()?)));
        let Some((peer, standing)) = told else {
            return;
        };
        // What may have been purged of it is not known yet: it is asked again.
        if !self.purges.knows(copy) {
            return;
        }
        let (keyspace, vnode) = copy;
        let lacks = standing.lacks.get(&keyspace);
        let is_whole = lacks.is_none_or(|vnodes| !vnodes.contains(vnode));
        self.healing.compared(copy, peer, is_whole);
        self.tell_healed(effects);
    }

    /// An operator says that the disks of nodes are lost.
    pub(super) fn declare_lost(
        &mut self,
        now: Now,
        number: u64,
        nodes: &[NodeId],
        effects: &mut Effects,
    ) {
        if let Some(refused) = nodes.iter().find_map(|node| self.is_not_lost(now, *node)) {
            let result = Err(refused);
            return effects.push(Effect::LossDeclared { number, result });
        }
        let mut lost = self.declared_lost.clone();
        for node in nodes {
            lost.entry(*node).or_insert(now.wall_micros);
        }
        let number = Some(number);
        effects.push(Effect::DeclareLost { lost, number });
    }

    fn is_not_lost(&self, now: Now, node: NodeId) -> Option<DeclareRefused> {
        if !self.topology.nodes().iter().any(|known| known.id == node) {
            return Some(DeclareRefused::Unknown(node));
        }
        let is_there = if node == self.me {
            !self.healing.lost().disk
        } else {
            self.liveness(now, node) == Liveness::Up
        };
        is_there.then_some(DeclareRefused::Up(node))
    }

    /// The operator's word is on disk, or finds no room there.
    pub(super) fn loss_noted(
        &mut self,
        now: Now,
        (number, lost): (u64, DeclaredLost),
        is_durable: bool,
        effects: &mut Effects,
    ) {
        let result = if is_durable {
            // Who was heard meanwhile is there.
            let (lost, heard): (DeclaredLost, DeclaredLost) = lost
                .into_iter()
                .partition(|(node, _)| self.is_not_lost(now, *node).is_none());
            self.declared_lost.extend(lost);
            if !heard.is_empty() {
                effects.push(Effect::DeclareLost {
                    lost: self.declared_lost.clone(),
                    number: None,
                });
            }
            self.heed_declared();
            self.tell_healed(effects);
            Ok(())
        } else {
            Err(DeclareRefused::DiskFull)
        };
        effects.push(Effect::LossDeclared { number, result });
    }

    /// Who is heard again is waited for again.
    pub(super) fn heard_again(&mut self, node: NodeId, effects: &mut Effects) {
        if self.declared_lost.remove(&node).is_some() {
            self.heed_declared();
            if self.healing.heard_again(node) {
                let why = format!("node {node}, which was declared lost, is heard again");
                self.lost_why = Some(why.clone());
                effects.push(Effect::NoteLoss(why));
            }
            effects.push(Effect::DeclareLost {
                lost: self.declared_lost.clone(),
                number: None,
            });
        }
    }

    pub(super) fn heed_declared(&mut self) {
        let declared = self.declared_lost.keys().copied();
        for copy in self.healing.declare_lost(declared) {
            // Nobody is left who could tell higher ones.
            self.purges.raised(copy, self.purges.numbers(copy));
        }
    }

    /// A refill is over: what its peer could not give is asked for again.
    pub(super) fn refill_ended(&mut self, now: MonoTime, peer: NodeId) {
        self.exchanges.refills_due.insert(peer, now + AGAIN_AFTER);
    }

    /// What may be lost is noted before what it rests on is told to be back.
    pub(super) fn note_doubt(&mut self, effects: &mut Effects) {
        let copies = u32::try_from(self.healing.copies_in_doubt()).unwrap_or(u32::MAX);
        if copies != self.doubt_noted {
            self.doubt_noted = copies;
            effects.push(Effect::NoteDoubt(copies));
        }
    }

    fn tell_healed(&mut self, effects: &mut Effects) {
        self.note_doubt(effects);
        if let Some(healed) = self.healing.take_healed() {
            // The next loss of this node's disk is another one.
            if healed.disk && self.declared_lost.remove(&self.me).is_some() {
                self.heed_declared();
                effects.push(Effect::DeclareLost {
                    lost: self.declared_lost.clone(),
                    number: None,
                });
            }
            effects.push(Effect::Healed(healed));
        }
    }

    /// A node that refills its copies from here needs no exchange that this one begins: both would
    /// read the same rows.
    pub(super) fn leave_to_refill(&mut self, now: MonoTime, peer: NodeId) {
        self.exchanges.put_off(peer, now + LEFT_TO_REFILL);
    }

    /// What this node's copies are worth to one that lost its own.
    pub(super) fn standing(&self) -> ReplicaStanding {
        let mut lacks: BTreeMap<KeyspaceId, VnodeSet> = BTreeMap::new();
        for keyspace in self.topology.keyspaces() {
            for vnode in self.topology.vnode_count().vnodes() {
                let is_owner = self.topology.is_owner(vnode, keyspace.copies, self.me);
                if is_owner && !self.counts_for(keyspace.id, keyspace.copies, vnode) {
                    lacks.entry(keyspace.id).or_default().insert(vnode);
                }
            }
        }
        let numbers = self.purges.all_numbers();
        let numbers = numbers.map(|((keyspace, vnode), numbers)| (keyspace, vnode, numbers));
        ReplicaStanding {
            appended: self.table.appended(),
            lacks,
            numbers: numbers.collect(),
        }
    }
}
