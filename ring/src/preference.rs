//! In which order nodes are asked for a key: primaries, then fallbacks.
//!
//! The fallbacks of a vnode are found by walking the ring clockwise: the primaries of the next
//! vnode in their order, then of the one after it, around the whole ring, each node where it is
//! met first (Dynamo, SOSP 2007, section 4.3). Nodes that own nothing come last, by number. The
//! walk uses the owners for the same N, so it is the same for all keyspaces that share N.
//!
//! Not here: who is alive, and whether a fallback may count (`node::core`).

use crate::keyspace::Copies;
use crate::node::NodeId;
use crate::token::VnodeId;
use crate::topology::Topology;

/// Every node of the cluster once, in the order of preference for one vnode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreferenceList {
    nodes: Vec<NodeId>,
    primary_count: usize,
}

impl PreferenceList {
    /// The nodes that own the vnode, the first place first.
    #[must_use]
    pub fn primaries(&self) -> &[NodeId] {
        self.nodes.get(..self.primary_count).unwrap_or_default()
    }

    /// All other nodes; the first one stands in first.
    #[must_use]
    pub fn fallbacks(&self) -> &[NodeId] {
        self.nodes.get(self.primary_count..).unwrap_or_default()
    }

    /// Primaries, then fallbacks.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }
}

impl Topology {
    /// Orders all nodes for `vnode`. One allocation; walks until every owner was met.
    ///
    /// Without primaries if no keyspace uses this N.
    #[must_use]
    pub fn preference_list(&self, vnode: VnodeId, copies: Copies) -> PreferenceList {
        self.preferred(vnode, copies, self.nodes().len())
    }

    /// The first `most` of [`Topology::preference_list`], but all owners: walks no further than it
    /// needs.
    #[must_use]
    pub fn preferred(&self, vnode: VnodeId, copies: Copies, most: usize) -> PreferenceList {
        let most = most.min(self.nodes().len());
        let mut nodes = Vec::with_capacity(most);
        let primaries = self.owners(vnode, copies);
        nodes.extend_from_slice(primaries);
        let count = self.vnode_count().get();
        for step in 1..count {
            if nodes.len() >= most || primaries.is_empty() {
                break;
            }
            let index = (u32::from(vnode.0) + step) % count;
            let next = VnodeId(u16::try_from(index).expect("at most 32,768 vnodes"));
            for owner in self.owners(next, copies) {
                if nodes.len() < most && !nodes.contains(owner) {
                    nodes.push(*owner);
                }
            }
        }
        if nodes.len() < most {
            let room = most - nodes.len();
            let rest = self.nodes().iter().map(|node| node.id);
            let idle = rest.filter(|id| !nodes.contains(id)).take(room);
            let idle: Vec<_> = idle.collect();
            nodes.extend(idle);
        }
        PreferenceList {
            nodes,
            primary_count: primaries.len(),
        }
    }
}
