//! How two replicas of a vnode find the buckets in which they differ: a walk down their trees.
//!
//! The one that began asks; the other answers from its own tree and keeps nothing, so there is
//! nothing that a lost message or a restart could leave behind at it. The walk asks for the root,
//! then for the 32 subtrees, then for the 32 leaves of each that differs: 16 bytes where nothing
//! differs, 1 KiB and 16 bytes for one bucket. What was found is confirmed: the leaves are asked for
//! once more after a while, and only buckets that differ again count. Writes that are on their way
//! to one of the two look like differences and are gone by then. That spares bytes and is not
//! needed to be right: merges are idempotent.
//!
//! Each answer is compared with the tree of that moment, which may have moved since the last one.
//!
//! Not here: the rows of buckets that differ, the schedule, what is sent when (`node::core`).

use std::collections::BTreeSet;

use quorate_ring::BucketId;
use quorate_ring::planted::{Bug, planted};

use crate::tree::{NodeHash, SUBTREES, VnodeTree};

/// What the other replica is asked about one vnode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Hash of the root.
    Root,
    /// Hashes of all subtrees.
    Subtrees,
    /// Hashes of the leaves of these subtrees.
    Leaves(BTreeSet<u8>),
}

impl Question {
    /// Whether such a question can be asked.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        match self {
            Self::Root | Self::Subtrees => true,
            Self::Leaves(subtrees) => {
                !subtrees.is_empty() && subtrees.iter().all(|at| usize::from(*at) < SUBTREES)
            }
        }
    }

    /// Hashes in an answer.
    #[must_use]
    pub fn hashes(&self) -> usize {
        match self {
            Self::Root => 1,
            Self::Subtrees => SUBTREES,
            Self::Leaves(subtrees) => subtrees.len() * SUBTREES,
        }
    }

    /// The answer of a replica that has this tree.
    #[must_use]
    pub fn answer(&self, tree: &VnodeTree) -> Vec<NodeHash> {
        match self {
            Self::Root => vec![tree.root()],
            Self::Subtrees => tree.subtrees().collect(),
            Self::Leaves(subtrees) => subtrees.iter().flat_map(|at| tree.leaves(*at)).collect(),
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
    /// Buckets that differed, once that was seen.
    seen: Option<BTreeSet<BucketId>>,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            question: Question::Root,
            seen: None,
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
        let subtrees = match &self.question {
            Question::Root => {
                self.question = Question::Subtrees;
                return Ok(Next::Ask);
            }
            Question::Subtrees => {
                let subtrees = differing.filter_map(|at| u8::try_from(at).ok());
                self.question = Question::Leaves(subtrees.collect());
                return Ok(Next::Ask);
            }
            Question::Leaves(subtrees) => subtrees,
        };
        let subtrees: Vec<u8> = subtrees.iter().copied().collect();
        let bucket = |place: usize| {
            let subtree = subtrees.get(place / SUBTREES)?;
            let bucket = usize::from(*subtree) * SUBTREES + place % SUBTREES;
            u16::try_from(bucket).ok().map(BucketId)
        };
        let mut buckets: BTreeSet<BucketId> = differing.filter_map(bucket).collect();
        if planted(Bug::ExchangeSkipsBuckets) {
            buckets.retain(|bucket| bucket.0 % 4 != 0);
        }
        let Some(seen) = &self.seen else {
            let of = |bucket: &BucketId| u8::try_from(usize::from(bucket.0) / SUBTREES).ok();
            self.question = Question::Leaves(buckets.iter().filter_map(of).collect());
            self.seen = Some(buckets);
            return Ok(Next::AskLater);
        };
        buckets.retain(|bucket| seen.contains(bucket));
        Ok(if buckets.is_empty() {
            Next::Same
        } else {
            Next::Differ(buckets)
        })
    }
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
    fn one_bucket_costs_the_root_the_subtrees_and_its_subtree_twice() {
        let (own, other) = (tree(&[(1, 2), (900, 3)]), tree(&[(1, 2), (900, 4)]));
        let differ = Next::Differ(BTreeSet::from([BucketId(900)]));
        assert_eq!(walk(&own, &other, &other), (differ, 1 + 3 * SUBTREES));
    }

    #[test]
    fn what_agrees_the_second_time_does_not_differ() {
        let own = tree(&[(1, 2), (900, 3)]);
        let other = tree(&[(1, 9), (900, 4)]);
        let caught_up = tree(&[(1, 2), (900, 4)]);
        let differ = Next::Differ(BTreeSet::from([BucketId(900)]));
        assert_eq!(walk(&own, &other, &caught_up).0, differ);
        assert_eq!(walk(&own, &other, &own).0, Next::Same);
        // Another bucket of the same subtree that begins to differ is the next walk's.
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
    fn questions_for_no_subtree_or_one_that_is_none_are_invalid() {
        assert!(!Question::Leaves(BTreeSet::new()).is_valid());
        assert!(!Question::Leaves(BTreeSet::from([32])).is_valid());
        assert!(Question::Leaves((0..32).collect()).is_valid());
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
