//! What a node forgot, and when it has it back: of which copies it lost acknowledged writes, and whom
//! it must have compared them with before it counts for them again.
//!
//! A write at W was acknowledged by W owners. One that lost its copy is whole again when it has merged
//! the copies of N - W + 1 owners that are whole, because one of them took part in every such write
//! (C4). W is the majority, what `quorum` promises; a write at a lower level that only this node
//! acknowledged is gone with its disk.
//!
//! Where not so many are whole, as after a power cut of all where a keyspace is in memory, being compared
//! with all of them is enough, whole or not: what none of them holds is nowhere. Something may be lost
//! then, which is told.
//!
//! Not here: the exchanges that compare (`shard::refill`), how a loss is noticed (`continuity`, the
//! store), what is kept of it on disk (`shell::store::losses`).

use std::collections::BTreeMap;

use quorate_ring::planted::{Bug, planted};
use quorate_ring::{Durability, KeyspaceId, NodeId, Topology, VnodeId, majority};

use super::node_set::NodeSet;

/// What a starting node lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lost {
    /// Something that was acknowledged from disk.
    pub disk: bool,
    /// What was acknowledged from memory.
    pub memory: bool,
}

/// A copy of a vnode that is not whole.
#[derive(Debug)]
struct Lack {
    /// Owners beside this node.
    others: NodeSet,
    /// Owners that must be whole when they are compared with.
    needed: usize,
    /// Owners compared with, and those of them that were whole.
    compared: NodeSet,
    whole: NodeSet,
}

impl Lack {
    fn is_filled(&self) -> bool {
        self.whole.len() >= self.needed || self.compared.len() == self.others.len()
    }
}

/// A node's way back to counting.
#[derive(Debug)]
pub struct Healing {
    lost: Lost,
    /// Copies that count although fewer owners than needed were whole.
    doubtful: usize,
    lacks: BTreeMap<(KeyspaceId, VnodeId), Lack>,
}

/// What has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Healed {
    /// Everything that was acknowledged from disk.
    pub disk: bool,
    /// Everything that was acknowledged from memory.
    pub memory: bool,
}

impl Healing {
    /// What `me` must get back after it lost `lost`.
    #[must_use]
    pub fn new(me: NodeId, topology: &Topology, lost: Lost) -> Self {
        let lost = Lost {
            disk: lost.disk && !planted(Bug::AmnesiacCounts),
            memory: lost.memory && !planted(Bug::ForgetfulMemoryCounts),
        };
        let mut lacks = BTreeMap::new();
        for keyspace in topology.keyspaces() {
            let is_in_memory = keyspace.options.durability == Durability::Memory;
            if !(lost.disk || lost.memory && is_in_memory) {
                continue;
            }
            for vnode in topology.vnode_count().vnodes() {
                let owners = topology.owners(vnode, keyspace.copies);
                if !owners.contains(&me) {
                    continue;
                }
                let others: NodeSet = owners.iter().copied().filter(|node| *node != me).collect();
                if others.is_empty() {
                    // Nobody could bring it back.
                    continue;
                }
                let copies = usize::from(keyspace.copies.get());
                let needed = if planted(Bug::HealsFromOneOwner) {
                    1
                } else {
                    copies - usize::from(majority(keyspace.copies)) + 1
                };
                let lack = Lack {
                    others,
                    needed,
                    compared: NodeSet::default(),
                    whole: NodeSet::default(),
                };
                lacks.insert((keyspace.id, vnode), lack);
            }
        }
        Self {
            lost,
            doubtful: 0,
            lacks,
        }
    }

    /// Whether something acknowledged may be missing from this copy.
    #[must_use]
    pub fn lacks(&self, keyspace: KeyspaceId, vnode: VnodeId) -> bool {
        !self.lacks.is_empty() && self.lacks.contains_key(&(keyspace, vnode))
    }

    /// Whether something may be missing from any copy of a keyspace.
    #[must_use]
    pub fn lacks_any_of(&self, keyspace: KeyspaceId) -> bool {
        let all = (keyspace, VnodeId(0))..=(keyspace, VnodeId(u16::MAX));
        self.lacks.range(all).next().is_some()
    }

    /// Copies that are not whole.
    pub fn lacking(&self) -> impl Iterator<Item = (KeyspaceId, VnodeId)> + '_ {
        self.lacks.keys().copied()
    }

    /// How many copies are not whole yet.
    #[must_use]
    pub fn copies_lacking(&self) -> usize {
        self.lacks.len()
    }

    /// Copies that count again although fewer owners were whole than one write at a quorum could have
    /// missed: something may be lost.
    #[must_use]
    pub const fn copies_in_doubt(&self) -> usize {
        self.doubtful
    }

    /// What was lost and is not all back.
    #[must_use]
    pub const fn lost(&self) -> Lost {
        self.lost
    }

    /// Copies that must still be compared with those of `peer`.
    #[must_use]
    pub fn wanted_from(&self, peer: NodeId) -> Vec<(KeyspaceId, VnodeId)> {
        let wants =
            |(_, lack): &(_, &Lack)| lack.others.contains(peer) && !lack.whole.contains(peer);
        let wanted = self.lacks.iter().filter(wants);
        wanted.map(|(copy, _)| *copy).collect()
    }

    /// A copy holds all that `peer` held durably of it; `is_whole` tells whether that one counted for
    /// it then.
    pub fn compared(&mut self, copy: (KeyspaceId, VnodeId), peer: NodeId, is_whole: bool) {
        let Some(lack) = self.lacks.get_mut(&copy) else {
            return;
        };
        if !lack.others.contains(peer) {
            return;
        }
        lack.compared.insert(peer);
        if is_whole {
            lack.whole.insert(peer);
        }
        if lack.is_filled() {
            self.doubtful += usize::from(lack.whole.len() < lack.needed);
            self.lacks.remove(&copy);
        }
    }

    /// What has all come back and was not told yet.
    pub fn take_healed(&mut self) -> Option<Healed> {
        if !self.lacks.is_empty() || self.lost == Lost::default() {
            return None;
        }
        let Lost { disk, memory } = std::mem::take(&mut self.lost);
        Some(Healed { disk, memory })
    }
}
