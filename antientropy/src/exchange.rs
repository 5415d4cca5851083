//! How two replicas of a vnode find the buckets in which they differ: a walk down their trees.
//!
//! The one that began asks; the other answers from its own tree and keeps nothing, so there is
//! nothing that a lost message or a restart could leave behind at it. The walk asks for the root,
//! then for the 8 subtrees, then for the 8 groups of each that differs, then for their 16 leaves:
//! 16 bytes where nothing differs, 34 hashes for one bucket. What was found is confirmed: these
//! buckets are asked for once more after a while, and only those that differ again count. Writes
//! that are on their way to one of the two look like differences and are gone by then. That spares
//! bytes and is not needed to be right: merges are idempotent.
//!
//! Each answer is compared with the tree of that moment, which may have moved since the last one.
//!
//! Not here: the rows of buckets that differ, the schedule, what is sent when (`node::core`).

use std::collections::BTreeSet;

use quorate_ring::BucketId;
use quorate_ring::planted::{Bug, planted};

use crate::bucket_digests::BUCKETS;
use crate::tree::{GROUPS, LEAVES, NodeHash, SUBTREES, VnodeTree};

/// What the other replica is asked about one vnode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Hash of the root.
    Root,
    /// Hashes of all subtrees.
    Subtrees,
    /// Hashes of the groups of these subtrees.
    Groups(BTreeSet<u8>),
    /// Hashes of the leaves of these groups, of the 64 of the whole tree.
    Leaves(BTreeSet<u8>),
    /// Hashes of the leaves of these buckets.
    Buckets(BTreeSet<BucketId>),
}

impl Question {
    /// Whether such a question can be asked.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        match self {
            Self::Root | Self::Subtrees => true,
            Self::Groups(subtrees) => {
                !subtrees.is_empty() && subtrees.iter().all(|at| usize::from(*at) < SUBTREES)
            }
            Self::Leaves(groups) => {
                let most = SUBTREES * GROUPS;
                !groups.is_empty() && groups.iter().all(|at| usize::from(*at) < most)
            }
            Self::Buckets(buckets) => {
                !buckets.is_empty() && buckets.iter().all(|at| usize::from(at.0) < BUCKETS)
            }
        }
    }

    /// Hashes in an answer.
    #[must_use]
    pub fn hashes(&self) -> usize {
        match self {
            Self::Root => 1,
            Self::Subtrees => SUBTREES,
            Self::Groups(subtrees) => subtrees.len() * GROUPS,
            Self::Leaves(groups) => groups.len() * LEAVES,
            Self::Buckets(buckets) => buckets.len(),
        }
    }

    /// The answer of a replica that has this tree.
    #[must_use]
    pub fn answer(&self, tree: &VnodeTree) -> Vec<NodeHash> {
        match self {
            Self::Root => vec![tree.root()],
            Self::Subtrees => tree.subtrees().collect(),
            Self::Groups(subtrees) => subtrees.iter().flat_map(|at| tree.groups(*at)).collect(),
            Self::Leaves(groups) => groups.iter().flat_map(|at| tree.leaves(*at)).collect(),
            Self::Buckets(buckets) => buckets.iter().map(|at| tree.leaf(*at)).collect(),
        }
    }
}

/// What follows an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ask [`Walk::question`].
    Ask,
    /// Ask it too, but after a while: buckets differ, if they do not agree by then.
    AskLater,
    /// Nothing differs, as far as was seen.
    Same,
    /// These buckets differ.
    Differ(BTreeSet<BucketId>),
}

/// An answer that is none to the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{found} hashes, and {asked} were asked for")]
pub struct NoAnswer {
    /// Hashes that the answer should have.
    pub asked: usize,
    /// Hashes that it has.
    pub found: usize,
}

/// One vnode's walk, at the replica that asks.
#[derive(Debug, Clone)]
pub struct Walk {
    question: Question,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            question: Question::Root,
        }
    }
}

impl Walk {
    /// What is to be asked next.
    #[must_use]
    pub const fn question(&self) -> &Question {
        &self.question
    }

    /// Takes the answer to the present question, beside the own one.
    ///
    /// # Errors
    /// [`NoAnswer`] if one has another number of hashes.
    pub fn answered(&mut self, held: &[NodeHash], told: &[NodeHash]) -> Result<Next, NoAnswer> {
        let asked = self.question.hashes();
        for found in [held.len(), told.len()] {
            if found != asked {
                return Err(NoAnswer { asked, found });
            }
        }
        let pairs = held.iter().zip(told).enumerate();
        let differing = pairs.filter(|(_, (held, told))| held != told);
        let mut differing = differing.map(|(place, _)| place).peekable();
        if differing.peek().is_none() {
            return Ok(Next::Same);
        }
        match &self.question {
            Question::Root => {
                self.question = Question::Subtrees;
                Ok(Next::Ask)
            }
            Question::Subtrees => {
                let subtrees = differing.filter_map(|at| u8::try_from(at).ok());
                self.question = Question::Groups(subtrees.collect());
                Ok(Next::Ask)
            }
            Question::Groups(subtrees) => {
                let parents: Vec<u8> = subtrees.iter().copied().collect();
                let groups = differing.filter_map(|place| below(&parents, place, GROUPS));
                let groups = groups.filter_map(|group| u8::try_from(group).ok());
                self.question = Question::Leaves(groups.collect());
                Ok(Next::Ask)
            }
            Question::Leaves(groups) => {
                let parents: Vec<u8> = groups.iter().copied().collect();
                let buckets = differing.filter_map(|place| below(&parents, place, LEAVES));
                let buckets = buckets.filter_map(|bucket| u16::try_from(bucket).ok());
                let mut buckets: BTreeSet<BucketId> = buckets.map(BucketId).collect();
                if planted(Bug::ExchangeSkipsBuckets) {
                    buckets.retain(|bucket| bucket.0 % 4 != 0);
                    if buckets.is_empty() {
                        return Ok(Next::Same);
                    }
                }
                self.question = Question::Buckets(buckets);
                Ok(Next::AskLater)
            }
            Question::Buckets(buckets) => {
                let buckets: Vec<BucketId> = buckets.iter().copied().collect();
                let differing = differing.filter_map(|place| buckets.get(place).copied());
                Ok(Next::Differ(differing.collect()))
            }
        }
    }
}

/// The node at `place` of an answer about the children of `parents`, which are so many for each.
fn below(parents: &[u8], place: usize, children: usize) -> Option<usize> {
    let parent = parents.get(place / children)?;
    Some(usize::from(*parent) * children + place % children)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::tests::tree;

    /// What a walk ends with, and the hashes that were told.
    fn walk(own: &VnodeTree, other: &VnodeTree, then: &VnodeTree) -> (Next, usize) {
        let (mut walk, mut hashes, mut other) = (Walk::default(), 0, other);
        loop {
            let told = walk.question().answer(other);
            hashes += told.len();
            let held = walk.question().answer(own);
            match walk.answered(&held, &told).expect("an answer") {
                Next::Ask => {}
                Next::AskLater => other = then,
                next @ (Next::Same | Next::Differ(_)) => return (next, hashes),
            }
        }
    }

    #[test]
    fn equal_replicas_exchange_one_hash() {
        let tree = tree(&[(1, 2), (900, 3)]);
        assert_eq!(walk(&tree, &tree, &tree), (Next::Same, 1));
    }

    #[test]
    fn one_bucket_costs_the_children_of_its_ancestors_and_once_more_itself() {
        let (own, other) = (tree(&[(1, 2), (900, 3)]), tree(&[(1, 2), (900, 4)]));
        let differ = Next::Differ(BTreeSet::from([BucketId(900)]));
        assert_eq!(
            walk(&own, &other, &other),
            (differ, 1 + SUBTREES + GROUPS + LEAVES + 1)
        );
    }

    #[test]
    fn what_agrees_the_second_time_does_not_differ() {
        let own = tree(&[(1, 2), (900, 3)]);
        let other = tree(&[(1, 9), (900, 4)]);
        let caught_up = tree(&[(1, 2), (900, 4)]);
        let differ = Next::Differ(BTreeSet::from([BucketId(900)]));
        assert_eq!(walk(&own, &other, &caught_up).0, differ);
        assert_eq!(walk(&own, &other, &own).0, Next::Same);
        // Another bucket of the same group that begins to differ is the next walk's.
        let later = tree(&[(1, 2), (2, 7), (900, 3)]);
        assert_eq!(walk(&own, &other, &later).0, Next::Same);
    }

    #[test]
    fn an_answer_of_another_length_is_refused() {
        let own = tree(&[(1, 2)]);
        let mut walk = Walk::default();
        let held = walk.question().answer(&own);
        let error = walk.answered(&held, &[]).expect_err("there is no hash");
        assert_eq!((error.asked, error.found), (1, 0));
        assert!(walk.answered(&held, &[NodeHash(1); 2]).is_err());
        assert_eq!(walk.question(), &Question::Root, "it can be asked again");
    }

    #[test]
    fn questions_for_no_part_or_one_that_is_none_are_invalid() {
        assert!(!Question::Leaves(BTreeSet::new()).is_valid());
        assert!(!Question::Leaves(BTreeSet::from([64])).is_valid());
        assert!(Question::Leaves((0..64).collect()).is_valid());
        assert!(!Question::Groups(BTreeSet::new()).is_valid());
        assert!(!Question::Groups(BTreeSet::from([8])).is_valid());
        assert!(Question::Groups((0..8).collect()).is_valid());
        assert!(!Question::Buckets(BTreeSet::new()).is_valid());
        assert!(!Question::Buckets([BucketId(1_024)].into()).is_valid());
        assert!(Question::Buckets([BucketId(0), BucketId(1_023)].into()).is_valid());
    }

    proptest! {
        #[test]
        fn a_walk_finds_exactly_the_buckets_that_differ(
            same in prop::collection::btree_map(0u16..1024, 1u128.., 0..40),
            own in prop::collection::btree_map(0u16..1024, 1u128.., 0..12),
            other in prop::collection::btree_map(0u16..1024, 1u128.., 0..12),
        ) {
            let with = |more: &std::collections::BTreeMap<u16, u128>| {
                let mut all = same.clone();
                all.extend(more);
                all
            };
            let (own, other) = (with(&own), with(&other));
            let all = own.keys().chain(other.keys()).copied();
            let differing: BTreeSet<BucketId> =
                all.filter(|bucket| own.get(bucket) != other.get(bucket)).map(BucketId).collect();
            let list = |map: std::collections::BTreeMap<u16, u128>| map.into_iter().collect::<Vec<_>>();
            let (own, other) = (tree(&list(own)), tree(&list(other)));
            let want = if differing.is_empty() { Next::Same } else { Next::Differ(differing) };
            prop_assert_eq!(walk(&own, &other, &other).0, want);
        }
    }
}
