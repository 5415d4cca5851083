//! The trees of this node's vnodes, folded when they are asked for and kept until a digest changes.
//!
//! Of every vnode the root is kept, of the last few that were walked the whole tree: most vnodes
//! agree and are asked for their root alone, and a whole tree takes 32 KiB. All empty vnodes have
//! one tree, which is folded once: a keyspace that nobody uses costs no comparison anything.

use std::collections::{BTreeMap, VecDeque};

use quorate_antientropy::{BucketDigest, BucketDigests, NodeHash, Question, VnodeSums, VnodeTree};
use quorate_ring::{KeyspaceId, VnodeId};

/// Whole trees that are kept.
const TREES_MAX: usize = 32;

type Place = (KeyspaceId, VnodeId);

/// Folded trees of a shard.
#[derive(Debug, Default)]
pub struct TreeCache {
    roots: BTreeMap<Place, Rooted>,
    /// The newest last.
    trees: VecDeque<(Place, u64, VnodeTree)>,
    /// That of a vnode without a record.
    empty: Option<VnodeTree>,
}

#[derive(Debug, Clone, Copy)]
struct Rooted {
    /// Of the sums that it was folded from.
    changes: u64,
    root: NodeHash,
}

impl TreeCache {
    /// What this node answers to a question about a vnode.
    pub fn answer(
        &mut self,
        digests: &BucketDigests,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        question: &Question,
    ) -> Vec<NodeHash> {
        let place = (keyspace, vnode);
        let changes = digests.changes(keyspace, vnode);
        let known = self.roots.get(&place);
        if *question == Question::Root
            && let Some(known) = known.filter(|known| known.changes == changes)
        {
            return vec![known.root];
        }
        let is_fresh = |(of, at, _): &&(Place, u64, VnodeTree)| *of == place && *at == changes;
        if let Some((.., tree)) = self.trees.iter().find(is_fresh) {
            return question.answer(tree);
        }
        let sums = digests.vnode(keyspace, vnode);
        if sums.buckets().iter().all(|sum| *sum == BucketDigest::EMPTY) {
            let fold = || VnodeTree::of(&VnodeSums::default());
            return question.answer(self.empty.get_or_insert_with(fold));
        }
        let tree = VnodeTree::of(&sums);
        let root = tree.root();
        self.roots.insert(place, Rooted { changes, root });
        let answer = question.answer(&tree);
        // Who differs is asked for the rest of its tree next.
        self.trees.retain(|(of, ..)| *of != place);
        if self.trees.len() >= TREES_MAX {
            self.trees.pop_front();
        }
        self.trees.push_back((place, changes, tree));
        answer
    }
}

#[cfg(test)]
mod tests {
    use quorate_antientropy::{DigestChange, HoldingsChange, RecordChange};
    use quorate_ring::BucketId;

    use super::*;

    fn change(digests: &mut BucketDigests, vnode: u16, sum: u128) {
        let change = RecordChange {
            digest: DigestChange(sum),
            holdings: HoldingsChange::default(),
        };
        digests.add(KeyspaceId(1), VnodeId(vnode), BucketId(7), change);
    }

    #[test]
    fn a_vnode_without_records_is_in_no_cache_and_answers_like_any_other() {
        let (mut cache, digests) = (TreeCache::default(), BucketDigests::default());
        let tree = VnodeTree::of(&VnodeSums::default());
        for question in [Question::Root, Question::Subtrees] {
            let told = cache.answer(&digests, KeyspaceId(1), VnodeId(3), &question);
            assert_eq!(told, question.answer(&tree));
        }
        assert!(cache.roots.is_empty() && cache.trees.is_empty());
    }

    #[test]
    fn answers_are_those_of_the_present_sums_however_many_trees_there_are() {
        let (mut cache, mut digests) = (TreeCache::default(), BucketDigests::default());
        for round in 1..4u128 {
            for vnode in 0..100 {
                if (u128::from(vnode) + round) % 3 == 0 {
                    change(&mut digests, vnode, round);
                }
                let tree = VnodeTree::of(&digests.vnode(KeyspaceId(1), VnodeId(vnode)));
                for question in [Question::Root, Question::Subtrees, Question::Root] {
                    let told = cache.answer(&digests, KeyspaceId(1), VnodeId(vnode), &question);
                    assert_eq!(told, question.answer(&tree), "{vnode} in round {round}");
                }
            }
        }
        assert_eq!(cache.trees.len(), TREES_MAX);
    }
}
