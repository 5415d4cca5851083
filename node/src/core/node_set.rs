//! A small ordered set of nodes: the replicas of one operation.
//!
//! Up to five stand on the stack; every operation keeps several of these sets, and a tree would
//! allocate for each.

use quorate_ring::NodeId;
use smallvec::SmallVec;

/// Owners of a key, in an order that means something: that of the preference list, or in which they
/// are asked.
pub type Owners = SmallVec<[NodeId; 5]>;

/// Nodes, each once, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeSet {
    nodes: SmallVec<[NodeId; 5]>,
}

impl NodeSet {
    /// Adds a node; false if it was there.
    pub fn insert(&mut self, node: NodeId) -> bool {
        match self.nodes.binary_search(&node) {
            Ok(_) => false,
            Err(at) => {
                self.nodes.insert(at, node);
                true
            }
        }
    }

    /// Takes a node out; false if it was not there.
    pub fn remove(&mut self, node: NodeId) -> bool {
        match self.nodes.binary_search(&node) {
            Ok(at) => {
                self.nodes.remove(at);
                true
            }
            Err(_) => false,
        }
    }

    /// Whether a node is in it.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.nodes.binary_search(&node).is_ok()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The nodes, in order.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().copied()
    }
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        let mut set = Self::default();
        for node in nodes {
            set.insert(node);
        }
        set
    }
}
