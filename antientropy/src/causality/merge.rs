//! Two replicas' records become one: a join, then absorb.
//!
//! **Join** looks at dots only. A dot that both have as a sibling, or that one has and the other's
//! context does not cover, stays; contexts join; lists join; what is dropped is listed. It is
//! commutative, associative and idempotent. Op ids do not act in it: a bounded list that decided
//! about siblings would make the result depend on the order (`counterexamples.md` V6).
//!
//! **Absorb** then drops siblings whose operation is listed or just lost a dot: one of its dots is
//! superseded, so its twins are. Their dots are in the context already, so this only moves a
//! record up in the order of the join. So replicas that exchange until nothing changes are equal,
//! although join and absorb together are associative only as long as no id was evicted.

use std::cmp::Ordering;

use smallvec::SmallVec;

use quorate_ring::planted::{Bug, planted};

use super::context::Context;
use super::op_id::OpId;
use super::record::{Mint, Record, Sibling};

/// What a merge made of the receiver's record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum MergeResult<T = Record> {
    /// The own record holds all of the other one; keep its bytes.
    Unchanged,
    /// The other record holds all of the own one; its bytes can be taken as they are.
    TookOther,
    /// Each had something that the other lacked.
    Merged(T),
}

/// Operations that lost a dot in a join, sorted.
type Lost = SmallVec<[OpId; 4]>;

impl Record {
    /// Merges what another replica holds, and says whether a new record came of it.
    ///
    /// Allocates only if neither record holds all of the other.
    pub fn merge(&self, other: &Self) -> MergeResult {
        if self.holds_all_of(other) {
            MergeResult::Unchanged
        } else if other.holds_all_of(self) {
            MergeResult::TookOther
        } else {
            MergeResult::Merged(self.merge_fully(other))
        }
    }

    /// The merged record. Prefer [`Record::merge`] where an unchanged record saves work.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        match self.merge(other) {
            MergeResult::Unchanged => self.clone(),
            MergeResult::TookOther => other.clone(),
            MergeResult::Merged(record) => record,
        }
    }

    /// The first step of a merge alone: the least record above both. A sibling of it may still
    /// have to be absorbed; only tests of the laws want this one.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        self.join_with_losses(other).0
    }

    /// Whether merging `other` into this record changes nothing. O(size of both).
    #[must_use]
    pub fn holds_all_of(&self, other: &Self) -> bool {
        self.context.covers_context(&other.context)
            && self
                .siblings
                .iter()
                .all(|sibling| self.keeps_against(sibling, other))
            && other
                .siblings
                .iter()
                .all(|sibling| self.has_or_listed(sibling))
            && self.superseded.has_seen_all(&other.superseded)
            && self.flagged.has_seen_all(&other.flagged)
    }

    /// Whether this record supersedes every sibling of `other`: it needs none of their values.
    #[must_use]
    pub fn supersedes_all_of(&self, other: &Self) -> bool {
        let gone = |sibling: &Sibling| {
            sibling.is_covered_by(&self.context) && self.sibling(sibling.op_id).is_none()
        };
        other.siblings.iter().all(gone)
    }

    /// Whether every dot of the own `sibling` survives `other`.
    fn keeps_against(&self, sibling: &Sibling, other: &Self) -> bool {
        let theirs = other.sibling(sibling.op_id);
        sibling.dots().all(|dot| {
            theirs.is_some_and(|theirs| theirs.mint(dot).is_some()) || !other.context.covers(dot)
        })
    }

    /// Whether the other's `sibling`, covered by the own context, adds nothing.
    fn has_or_listed(&self, theirs: &Sibling) -> bool {
        match self.sibling(theirs.op_id) {
            // A dot that is missing here makes the merge lose the operation.
            Some(own) => theirs.mints.iter().all(|mint| {
                own.mint(mint.dot)
                    .is_some_and(|mine| mine.flagged || !mint.flagged)
                    && own.value == theirs.value
            }),
            None => theirs.mints.iter().all(|mint| {
                let entry = super::op_list::SupersededOp {
                    op_id: theirs.op_id,
                    timestamp: mint.timestamp,
                };
                self.superseded.has_seen(&entry) && (!mint.flagged || self.flagged.has_seen(&entry))
            }),
        }
    }

    fn merge_fully(&self, other: &Self) -> Self {
        let (mut merged, lost) = self.join_with_losses(other);
        merged.absorb(&lost);
        if planted(Bug::MergeDropsSibling) {
            let newest = merged
                .siblings
                .iter()
                .map(|s| (s.timestamp(), s.op_id))
                .max();
            merged
                .siblings
                .retain(|s| Some((s.timestamp(), s.op_id)) == newest);
        }
        merged
    }

    fn join_with_losses(&self, other: &Self) -> (Self, Lost) {
        let mut joined = Self {
            siblings: SmallVec::new(),
            context: self.context.join(&other.context),
            superseded: self.superseded.join(&other.superseded),
            flagged: self.flagged.join(&other.flagged),
        };
        let mut lost = Lost::new();
        let mut ours = self.siblings.iter().peekable();
        let mut theirs = other.siblings.iter().peekable();
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(a), Some(b)) => a.op_id.cmp(&b.op_id),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let a = if order.is_le() { ours.next() } else { None };
            let b = if order.is_ge() { theirs.next() } else { None };
            joined.join_siblings((a, &self.context), (b, &other.context), &mut lost);
        }
        (joined, lost)
    }

    /// Joins what two records have of one operation, at least one of them something.
    fn join_siblings(
        &mut self,
        (a, context_a): (Option<&Sibling>, &Context),
        (b, context_b): (Option<&Sibling>, &Context),
        lost: &mut Lost,
    ) {
        let Some(base) = a.or(b) else { return };
        let mut mints: SmallVec<[Mint; 1]> = SmallVec::new();
        let mut dropped = false;
        for (own, other, context) in [(a, b, context_b), (b, a, context_a)] {
            for mint in own.map_or(&[][..], Sibling::mints) {
                match other.and_then(|other| other.mint(mint.dot)) {
                    // Met from both sides: taken once, by the first.
                    Some(_) if mints.iter().any(|taken| taken.dot == mint.dot) => {}
                    Some(twin) => {
                        mints.push(Mint {
                            flagged: mint.flagged || twin.flagged,
                            ..*mint
                        });
                    }
                    None if context.covers(mint.dot) => {
                        self.retire(base.op_id, mint);
                        dropped = true;
                    }
                    None => mints.push(*mint),
                }
            }
        }
        if dropped {
            lost.push(base.op_id);
        }
        if !mints.is_empty() {
            mints.sort_unstable_by_key(|mint| mint.dot);
            // One operation has one value; the greater one, should a client have lied.
            let value = [a, b].into_iter().flatten().map(|s| &s.value).max();
            let value = value.cloned().flatten();
            self.siblings.push(Sibling {
                op_id: base.op_id,
                value,
                mints,
            });
        }
    }

    /// Drops siblings of operations that are listed or in `lost`.
    pub(super) fn absorb(&mut self, lost: &[OpId]) {
        let doomed = |sibling: &Sibling| {
            lost.binary_search(&sibling.op_id).is_ok() || self.lists(sibling.op_id)
        };
        if !self.siblings.iter().any(doomed) {
            return;
        }
        // All are judged before one is listed: listing one may evict another.
        let (gone, kept) = self.siblings.iter().cloned().partition::<Vec<_>, _>(doomed);
        self.siblings = kept.into_iter().collect();
        for sibling in gone {
            for mint in &sibling.mints {
                self.retire(sibling.op_id, mint);
            }
        }
    }
}
