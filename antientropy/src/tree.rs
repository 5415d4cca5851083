//! The Merkle tree over the buckets of one vnode of a keyspace, with which two replicas find the
//! buckets that differ in three questions.
//!
//! Leaf i is the hash of bucket i's digest; `merkle-tree-stream` folds the leaves in the order of
//! flat-tree indices (leaf i at 2i, the root of 1,024 leaves at 1,023), and only hashes are kept,
//! in a flat array by index: 32 KiB a tree. Hashes of leaves and of inner nodes are told apart by a
//! prefix, so that no bucket can pose as a subtree. xxh3-128 is no cryptographic hash: digests are
//! seeded with the cluster's secret, and who speaks here is an authenticated node.
//!
//! Not here: the digests (`bucket_digests`), who asks whom (`exchange`).

use std::sync::Arc;

use merkle_tree_stream::{HashMethods, MerkleTreeStream, Node, NodeKind, NodeParts, PartialNode};
use quorate_ring::BucketId;
use xxhash_rust::xxh3::xxh3_128;

use crate::bucket_digests::{BUCKETS, VnodeSums};

/// Subtrees of the tree.
pub const SUBTREES: usize = 8;

/// Groups of leaves of a subtree.
pub const GROUPS: usize = 8;

/// Leaves of a group.
pub const LEAVES: usize = 16;

const _: () = assert!(
    SUBTREES * GROUPS * LEAVES == BUCKETS,
    "every leaf is in one group"
);

/// Levels from a leaf up to the root of its group, of its subtree, and of all.
const GROUP_LEVELS: u32 = LEAVES.trailing_zeros();
const SUBTREE_LEVELS: u32 = GROUP_LEVELS + GROUPS.trailing_zeros();
const ROOT_LEVELS: u32 = SUBTREE_LEVELS + SUBTREES.trailing_zeros();

/// Nodes of the tree.
const NODES: usize = 2 * BUCKETS - 1;

const LEAF: u8 = 0;
const INNER: u8 = 1;

/// Hash of one node of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NodeHash(pub u128);

/// The tree of one vnode of a keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VnodeTree {
    /// By flat-tree index.
    hashes: Vec<NodeHash>,
}

impl VnodeTree {
    /// Folds the digests of all buckets. About 0.15 ms.
    #[must_use]
    pub fn of(sums: &VnodeSums) -> Self {
        let mut stream = MerkleTreeStream::new(Fold, Vec::new());
        let mut folded: Vec<Arc<HashNode>> = Vec::with_capacity(NODES);
        for digest in sums.buckets() {
            stream.next(&digest.0.to_le_bytes(), &mut folded);
        }
        let mut hashes = vec![NodeHash::default(); NODES];
        for node in folded {
            let place = usize::try_from(node.index).unwrap_or(usize::MAX);
            if let Some(hash) = hashes.get_mut(place) {
                *hash = NodeHash(u128::from_le_bytes(node.hash));
            }
        }
        Self { hashes }
    }

    /// Hash over all buckets.
    #[must_use]
    pub fn root(&self) -> NodeHash {
        self.at(ROOT_LEVELS, 0)
    }

    /// Hashes of all subtrees, in the order of their buckets.
    pub fn subtrees(&self) -> impl Iterator<Item = NodeHash> + '_ {
        (0..SUBTREES).map(|subtree| self.at(SUBTREE_LEVELS, subtree))
    }

    /// Hashes of the groups of a subtree, in the order of their buckets.
    pub fn groups(&self, subtree: u8) -> impl Iterator<Item = NodeHash> + '_ {
        let first = usize::from(subtree) * GROUPS;
        (first..first + GROUPS).map(|group| self.at(GROUP_LEVELS, group))
    }

    /// Hashes of the leaves of a group, in the order of their buckets.
    pub fn leaves(&self, group: u8) -> impl Iterator<Item = NodeHash> + '_ {
        let first = usize::from(group) * LEAVES;
        (first..first + LEAVES).map(|bucket| self.at(0, bucket))
    }

    /// Hash of the leaf of a bucket.
    #[must_use]
    pub fn leaf(&self, bucket: BucketId) -> NodeHash {
        self.at(0, usize::from(bucket.0))
    }

    /// Hash of the node at a height above the leaves, `offset` nodes from the left.
    fn at(&self, height: u32, offset: usize) -> NodeHash {
        let index = ((2 * offset + 1) << height) - 1;
        self.hashes.get(index).copied().unwrap_or_default()
    }
}

/// A node while it is folded.
#[derive(Debug)]
struct HashNode {
    index: u64,
    parent: u64,
    length: u64,
    hash: [u8; 16],
}

impl From<NodeParts<[u8; 16]>> for HashNode {
    fn from(parts: NodeParts<[u8; 16]>) -> Self {
        let node = parts.node();
        Self {
            index: node.index(),
            parent: node.parent,
            length: node.len(),
            hash: *parts.hash(),
        }
    }
}

impl Node for HashNode {
    fn len(&self) -> u64 {
        self.length
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn parent(&self) -> u64 {
        self.parent
    }

    fn index(&self) -> u64 {
        self.index
    }

    fn hash(&self) -> &[u8] {
        &self.hash
    }
}

#[derive(Debug)]
struct Fold;

impl HashMethods for Fold {
    type Node = HashNode;
    type Hash = [u8; 16];

    fn leaf(&self, leaf: &PartialNode, _roots: &[Arc<HashNode>]) -> [u8; 16] {
        let mut bytes = [LEAF; 17];
        if let (NodeKind::Leaf(data), Some((_, rest))) = (leaf.data(), bytes.split_first_mut())
            && data.len() == rest.len()
        {
            rest.copy_from_slice(data);
        }
        xxh3_128(&bytes).to_le_bytes()
    }

    fn parent(&self, left: &HashNode, right: &HashNode) -> [u8; 16] {
        let bytes = [&[INNER][..], &left.hash, &right.hash].concat();
        xxh3_128(&bytes).to_le_bytes()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use quorate_ring::{BucketId, KeyspaceId, VnodeId};

    use super::*;
    use crate::bucket_digests::BucketDigests;
    use crate::digest::DigestChange;
    use crate::holdings::{HoldingsChange, RecordChange};

    /// The tree of a vnode whose buckets have these digests.
    pub(crate) fn tree(buckets: &[(u16, u128)]) -> VnodeTree {
        let mut digests = BucketDigests::default();
        for (bucket, sum) in buckets {
            let change = RecordChange {
                digest: DigestChange(*sum),
                holdings: HoldingsChange::default(),
            };
            digests.add(KeyspaceId(1), VnodeId(0), BucketId(*bucket), change);
        }
        VnodeTree::of(&digests.vnode(KeyspaceId(1), VnodeId(0)))
    }

    #[test]
    fn a_changed_bucket_shows_in_its_leaf_its_subtree_and_the_root_alone() {
        let (before, after) = (tree(&[(5, 1), (700, 2)]), tree(&[(5, 1), (700, 3)]));
        assert_ne!(before.root(), after.root());
        let pairs = before.subtrees().zip(after.subtrees()).enumerate();
        let differing: Vec<usize> = pairs.filter(|(_, (a, b))| a != b).map(|(i, _)| i).collect();
        assert_eq!(differing, [700 / (GROUPS * LEAVES)]);
        let places = |pairs: Vec<(NodeHash, NodeHash)>| {
            let pairs = pairs.into_iter().enumerate();
            let differing = pairs.filter(|(_, (a, b))| a != b).map(|(place, _)| place);
            differing.collect::<Vec<_>>()
        };
        let groups: Vec<_> = (0..8)
            .flat_map(|at| before.groups(at).zip(after.groups(at)))
            .collect();
        assert_eq!(places(groups), [700 / LEAVES]);
        let leaves: Vec<_> = (0..64)
            .flat_map(|at| before.leaves(at).zip(after.leaves(at)))
            .collect();
        assert_eq!(places(leaves), [700]);
        assert_ne!(before.leaf(BucketId(700)), after.leaf(BucketId(700)));
    }

    #[test]
    fn the_root_is_that_of_the_hashes_below_it() {
        let tree = tree(&[(0, 9), (1023, 4), (512, 7)]);
        let mut level: Vec<NodeHash> = (0..64).flat_map(|group| tree.leaves(group)).collect();
        assert_eq!(level.len(), BUCKETS);
        while level.len() > 1 {
            let parent = |pair: &[NodeHash]| {
                let hashes = pair.iter().flat_map(|hash| hash.0.to_le_bytes());
                let bytes: Vec<u8> = std::iter::once(INNER).chain(hashes).collect();
                NodeHash(xxh3_128(&bytes))
            };
            level = level.chunks(2).map(parent).collect();
            if level.len() == SUBTREES {
                assert!(tree.subtrees().eq(level.iter().copied()));
            }
        }
        assert_eq!(level, [tree.root()]);
    }

    #[test]
    fn empty_vnodes_agree_and_a_bucket_does_not_pose_as_its_neighbour() {
        assert_eq!(tree(&[]), tree(&[]));
        assert_ne!(tree(&[(3, 8)]).root(), tree(&[(4, 8)]).root());
    }
}
