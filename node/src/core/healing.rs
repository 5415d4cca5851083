//! What a node forgot, and when it has it back: of which copies it lost acknowledged writes, and
//! whom it must have compared them with before it counts for them again.
//!
//! A write at W was acknowledged by W owners. One that lost its copy is whole again when it has
//! merged the copies of N - W + 1 owners that are whole, because one of them took part in every
//! such write (C4). W is the majority, what `quorum` promises; a write at a lower level that only
//! this node acknowledged is gone with its disk.
//!
//! Where not so many are whole, as after a power cut of all where a keyspace is in memory, being
//! compared with all of them is enough, whole or not: what none of them holds is nowhere. Something
//! may be lost then, which is told: of copies on disk in every life until an operator accepts it,
//! of copies in memory, whose durability ends there, in this life.
//!
//! A node whose disk an operator declared lost (`cluster recover --lost`) is not waited for: nobody
//! will tell what it held. That is told as a possible loss too, and so is the only copy of a
//! keyspace with N=1, which stays unread until its own node's old disk is declared lost: nothing
//! could ever show what was on it.
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
    /// Of what was on disk only copies are missing that no other node has.
    pub only_copies: bool,
}

/// A copy of a vnode that is not whole.
#[derive(Debug)]
struct Lack {
    is_in_memory: bool,
    /// It counted in doubt before, which is told until it is whole.
    is_doubted: bool,
    /// Owners beside this node.
    others: NodeSet,
    /// Owners that must be whole when they are compared with.
    needed: usize,
    /// Owners compared with, and those of them that were whole.
    compared: NodeSet,
    whole: NodeSet,
}

impl Lack {
    /// Whether nobody is left who could bring something back; `declared` are the nodes whose disks
    /// are lost for good.
    fn is_filled(&self, me: NodeId, declared: &NodeSet) -> bool {
        let is_only_copy = self.others.is_empty();
        let mut others = self.others.iter();
        self.whole.len() >= self.needed
            || others.all(|node| self.compared.contains(node) || declared.contains(node))
                && (!is_only_copy || declared.contains(me))
    }

    fn is_lost_everywhere(&self, declared: &NodeSet) -> bool {
        self.others.iter().all(|node| declared.contains(node))
    }

    /// As if nobody had been compared with.
    fn begin_anew(&mut self) {
        self.compared = NodeSet::default();
        self.whole = NodeSet::default();
    }
}

/// A node's way back to counting.
#[derive(Debug)]
pub struct Healing {
    me: NodeId,
    lost: Lost,
    /// Nodes whose disks an operator declared lost.
    declared: NodeSet,
    /// Copies that count although fewer owners than needed were whole: of earlier lives, of this
    /// one on disk, and in memory.
    doubted_before: usize,
    doubtful: usize,
    doubtful_in_memory: usize,
    lacks: BTreeMap<(KeyspaceId, VnodeId), Lack>,
    /// Copies that count because of what an operator declared, until who was taken for lost is
    /// heard again.
    on_a_word: BTreeMap<(KeyspaceId, VnodeId), Lack>,
}

/// What has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Healed {
    /// Everything that was acknowledged from disk.
    pub disk: bool,
    /// Everything that was acknowledged from memory.
    pub memory: bool,
    /// But for copies that no other node has.
    pub but_only_copies: bool,
}

impl Healing {
    /// What `me` must get back after it lost `lost`, with so many copies in doubt since earlier
    /// lives.
    #[must_use]
    pub fn new(me: NodeId, topology: &Topology, lost: Lost, in_doubt: u32) -> Self {
        let lost = Lost {
            disk: lost.disk && !planted(Bug::AmnesiacCounts),
            memory: lost.memory && !planted(Bug::ForgetfulMemoryCounts),
            only_copies: lost.only_copies,
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
                let is_missing = if others.is_empty() {
                    // Memory is forgotten at every unclean stop, and nobody could bring it back.
                    lost.disk && !is_in_memory
                } else {
                    lost.disk && !lost.only_copies || lost.memory && is_in_memory
                };
                if !is_missing {
                    continue;
                }
                let copies = usize::from(keyspace.copies.get());
                let needed = if planted(Bug::HealsFromOneOwner) {
                    1
                } else {
                    copies - usize::from(majority(keyspace.copies)) + 1
                };
                let lack = Lack {
                    is_in_memory,
                    is_doubted: false,
                    others,
                    needed,
                    compared: NodeSet::default(),
                    whole: NodeSet::default(),
                };
                lacks.insert((keyspace.id, vnode), lack);
            }
        }
        Self {
            me,
            lost,
            declared: NodeSet::default(),
            doubted_before: usize::try_from(in_doubt).unwrap_or(usize::MAX),
            doubtful: 0,
            doubtful_in_memory: 0,
            lacks,
            on_a_word: BTreeMap::new(),
        }
    }

    /// The disks of these nodes are lost for good, and those of no others: gives the copies for
    /// which no other node is left to ask.
    pub fn declare_lost(
        &mut self,
        declared: impl IntoIterator<Item = NodeId>,
    ) -> Vec<(KeyspaceId, VnodeId)> {
        self.declared = declared.into_iter().collect();
        let mut given_up = Vec::new();
        for (copy, lack) in &mut self.lacks {
            // The others are asked again, and what they tell is judged in the light of it.
            lack.begin_anew();
            if lack.is_lost_everywhere(&self.declared) && lack.is_filled(self.me, &self.declared) {
                given_up.push(*copy);
            }
        }
        for copy in &given_up {
            self.fill(*copy);
        }
        given_up
    }

    /// A node whose disk was declared lost is heard again: what it holds is to be had after all.
    ///
    /// True if this node thereby lacks something again that was told to be back.
    pub fn heard_again(&mut self, node: NodeId) -> bool {
        let lacked = self.lost.disk;
        let holds = |_: &(KeyspaceId, VnodeId), lack: &mut Lack| lack.others.contains(node);
        for (copy, mut lack) in self.on_a_word.extract_if(.., holds) {
            lack.begin_anew();
            // Until it is compared with that node, it may be missed that something is lost.
            self.lost.disk |= !lack.is_in_memory;
            self.lacks.insert(copy, lack);
        }
        self.lost.disk && !lacked
    }

    /// A copy counts from now on.
    fn fill(&mut self, copy: (KeyspaceId, VnodeId)) {
        let Some(mut lack) = self.lacks.remove(&copy) else {
            return;
        };
        let doubtful = if lack.is_in_memory {
            &mut self.doubtful_in_memory
        } else {
            &mut self.doubtful
        };
        let was_doubted = std::mem::take(&mut lack.is_doubted);
        let is_whole = lack.whole.len() >= lack.needed;
        if is_whole && was_doubted {
            *doubtful = doubtful.saturating_sub(1);
        }
        if !is_whole {
            *doubtful += usize::from(!was_doubted);
            lack.is_doubted = true;
            if lack.others.iter().any(|node| self.declared.contains(node)) {
                self.on_a_word.insert(copy, lack);
            }
        }
    }

    /// Whether a node's disk is declared lost.
    #[must_use]
    pub fn is_declared_lost(&self, node: NodeId) -> bool {
        self.declared.contains(node)
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

    /// Copies that count again although fewer owners were whole than one write at a quorum could
    /// have missed: something may be lost. Of copies on disk, in all lives. At least so many: which
    /// they were in earlier lives is not kept, and a restart in the middle must neither count them
    /// twice nor forget them.
    #[must_use]
    pub const fn copies_in_doubt(&self) -> usize {
        if self.doubted_before > self.doubtful {
            self.doubted_before
        } else {
            self.doubtful
        }
    }

    /// The same of copies in memory, in this life.
    #[must_use]
    pub const fn memory_copies_in_doubt(&self) -> usize {
        self.doubtful_in_memory
    }

    /// An operator knows of what is in doubt by now.
    pub fn accept_doubt(&mut self) {
        self.doubted_before = 0;
        self.doubtful = 0;
        self.doubtful_in_memory = 0;
        let known = self.lacks.values_mut().chain(self.on_a_word.values_mut());
        known.for_each(|lack| lack.is_doubted = false);
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

    /// A copy holds all that `peer` held durably of it; `is_whole` tells whether that one counted
    /// for it then.
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
        if lack.is_filled(self.me, &self.declared) {
            self.fill(copy);
        }
    }

    /// Whether a copy that is not whole is one that no other node has.
    #[must_use]
    pub fn lacks_only_copy(&self, keyspace: KeyspaceId, vnode: VnodeId) -> bool {
        let lack = self.lacks.get(&(keyspace, vnode));
        lack.is_some_and(|lack| lack.others.is_empty())
    }

    /// How many of the copies that are not whole no other node has.
    #[must_use]
    pub fn only_copies_lacking(&self) -> usize {
        let only = self.lacks.values().filter(|lack| lack.others.is_empty());
        only.count()
    }

    /// What has all come back and was not told yet.
    pub fn take_healed(&mut self) -> Option<Healed> {
        if self.lost == Lost::default() {
            return None;
        }
        let only_copies = self.only_copies_lacking();
        let but_only_copies = only_copies > 0;
        if self.lacks.len() > only_copies || but_only_copies && self.lost.only_copies {
            return None;
        }
        let left = Lost {
            disk: but_only_copies,
            memory: false,
            only_copies: but_only_copies,
        };
        let Lost { disk, memory, .. } = std::mem::replace(&mut self.lost, left);
        Some(Healed {
            disk,
            memory,
            but_only_copies,
        })
    }
}
