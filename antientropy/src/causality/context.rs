//! Which writes of a key are known: a version vector and loose dots.
//!
//! `vector[a] = n` claims every write of `a` to this key up to n; a loose dot claims itself alone.
//! In a record's context, claimed means: it is one of the siblings or it is superseded.
//!
//! Invariants:
//! - the vector is sorted by actor, one entry each, no counter is 0;
//! - loose dots are sorted, and none is covered by the vector;
//! - a loose dot goes away only when the vector covers it, never because it is the next one.
//!   Counters are shared by all keys of a shard, and a fallback may forget what it minted.

use std::cmp::Ordering;

use quorate_ring::Actor;
use smallvec::SmallVec;

use super::dot::Dot;
use super::prune::Prunable;

/// The writes of one key that somebody knows. A join semilattice under [`Context::join`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context {
    vector: SmallVec<[Dot; 4]>,
    loose: Vec<Dot>,
}

impl Context {
    /// A context that covers nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no write is covered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vector.is_empty() && self.loose.is_empty()
    }

    /// Number of vector entries and loose dots.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vector.len() + self.loose.len()
    }

    /// The highest write of each actor up to which all are covered, by actor.
    #[must_use]
    pub fn vector(&self) -> &[Dot] {
        &self.vector
    }

    /// Covered dots that the vector does not cover, sorted.
    #[must_use]
    pub fn loose(&self) -> &[Dot] {
        &self.loose
    }

    /// Up to which counter all writes of `actor` are covered; 0 if it has no entry.
    #[must_use]
    pub fn vector_counter(&self, actor: Actor) -> u64 {
        let place = self
            .vector
            .binary_search_by(|entry| entry.actor.cmp(&actor));
        place
            .ok()
            .and_then(|at| self.vector.get(at))
            .map_or(0, |entry| entry.counter)
    }

    /// The highest counter of `actor` that is covered at all; 0 if none is.
    ///
    /// A node draws a new incarnation when a replica's record shows its present actor higher here
    /// than its own record does.
    #[must_use]
    pub fn last_counter(&self, actor: Actor) -> u64 {
        let end = self.loose.partition_point(|dot| dot.actor <= actor);
        let last = end.checked_sub(1).and_then(|at| self.loose.get(at));
        let loose = last
            .filter(|dot| dot.actor == actor)
            .map_or(0, |dot| dot.counter);
        loose.max(self.vector_counter(actor))
    }

    /// Whether this write is known.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        self.vector_counter(dot.actor) >= dot.counter
            || (!self.loose.is_empty() && self.loose.binary_search(&dot).is_ok())
    }

    /// Whether joining `other` would change nothing. O(len of both).
    #[must_use]
    pub fn covers_context(&self, other: &Self) -> bool {
        let mut own = self.vector.iter();
        let vector = other.vector.iter().all(|theirs| {
            own.find(|entry| entry.actor >= theirs.actor)
                .is_some_and(|entry| entry.actor == theirs.actor && entry.counter >= theirs.counter)
        });
        vector && other.loose.iter().all(|dot| self.covers(*dot))
    }

    /// How the two contexts stand to each other; `None` if each knows a write the other does not.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self.covers_context(other), other.covers_context(self)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Greater),
            (false, true) => Some(Ordering::Less),
            (false, false) => None,
        }
    }

    /// Covers everything that either covers.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let mut vector = SmallVec::new();
        let mut theirs = other.vector.iter().peekable();
        for own in &self.vector {
            while let Some(entry) = theirs.next_if(|entry| entry.actor < own.actor) {
                vector.push(*entry);
            }
            let same = theirs.next_if(|entry| entry.actor == own.actor);
            vector.push(same.map_or(*own, |entry| *own.max(entry)));
        }
        vector.extend(theirs.copied());
        let mut joined = Self {
            vector,
            loose: Vec::new(),
        };
        if !(self.loose.is_empty() && other.loose.is_empty()) {
            let mut loose: Vec<Dot> = self.loose.iter().chain(&other.loose).copied().collect();
            loose.sort_unstable();
            loose.dedup();
            loose.retain(|dot| joined.vector_counter(dot.actor) < dot.counter);
            joined.loose = loose;
        }
        joined
    }

    /// Covers `dot` alone.
    ///
    /// # Panics
    /// If the dot's counter is none that can be minted; decoded dots are checked.
    pub fn add_dot_loose(&mut self, dot: Dot) {
        assert!(dot.is_valid(), "dots count from 1 to 2^63 - 1");
        if self.vector_counter(dot.actor) >= dot.counter {
            return;
        }
        if let Err(place) = self.loose.binary_search(&dot) {
            self.loose.insert(place, dot);
        }
    }

    /// Covers every write of `actor` up to `counter`. Only a primary that owns all of them in one
    /// unbroken memory may claim this.
    ///
    /// # Panics
    /// If the counter is none that can be minted.
    pub fn raise(&mut self, actor: Actor, counter: u64) {
        let dot = Dot { actor, counter };
        assert!(dot.is_valid(), "dots count from 1 to 2^63 - 1");
        match self
            .vector
            .binary_search_by(|entry| entry.actor.cmp(&actor))
        {
            Ok(at) => {
                if let Some(entry) = self.vector.get_mut(at) {
                    entry.counter = entry.counter.max(counter);
                }
            }
            Err(at) => self.vector.insert(at, dot),
        }
        self.loose
            .retain(|loose| loose.actor != actor || loose.counter > counter);
    }

    /// Leaves out what every owner of the key has left out, or does so now; true if anything
    /// changed. See [`Prunable`] for when that is sound.
    pub fn forget(&mut self, pruned: &Prunable) -> bool {
        let before = self.len();
        let entry_of = |actor: Actor| {
            let place = pruned
                .entries
                .binary_search_by(|entry| entry.actor.cmp(&actor));
            place.ok().and_then(|at| pruned.entries.get(at))
        };
        let is_below =
            |dot: &Dot| entry_of(dot.actor).is_some_and(|entry| entry.counter >= dot.counter);
        self.vector.retain(|entry| !is_below(entry));
        self.loose
            .retain(|dot| !is_below(dot) && pruned.loose.binary_search(dot).is_err());
        self.len() < before
    }

    /// The part that names actors for which `chosen` holds.
    #[must_use]
    pub fn part_of(&self, chosen: impl Fn(Actor) -> bool) -> Self {
        let is_chosen = |dot: &&Dot| chosen(dot.actor);
        Self {
            vector: self.vector.iter().filter(is_chosen).copied().collect(),
            loose: self.loose.iter().filter(is_chosen).copied().collect(),
        }
    }

    /// Builds a context from parts that the decoder has checked.
    pub(super) fn from_checked(vector: SmallVec<[Dot; 4]>, loose: Vec<Dot>) -> Self {
        Self { vector, loose }
    }
}
