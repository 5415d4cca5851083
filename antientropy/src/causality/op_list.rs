//! The newest superseded operations of a key, bounded.
//!
//! A list is a map from op id to the greatest timestamp it was retired with, cut to the newest
//! `MAX` by (timestamp, id). Cutting after or before a union gives the same result: an entry that
//! is cut has `MAX` ids above it, and those only rise. That makes the union a join.
//!
//! A record has two, of all superseded operations and of the flagged ones, and neither cut looks
//! at the other list (`counterexamples.md` V7): a flagged id is normally in both.

use super::op_id::OpId;

/// Superseded operations that a record remembers. Each is 24 bytes of every copy of a hot key's
/// record, in the log, on the wire and in a client's token; what it buys is that a retry is still
/// known while so many newer writes of its key have passed it. One that is older is *unknown*.
pub const SUPERSEDED_MAX: usize = 16;

/// Superseded flagged operations that a record remembers.
pub const FLAGGED_MAX: usize = 256;

/// One superseded operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SupersededOp {
    /// The operation.
    pub op_id: OpId,
    /// Greatest hybrid timestamp that a retired dot of it had, in microseconds.
    pub timestamp: u64,
}

impl SupersededOp {
    const fn age_key(&self) -> (u64, OpId) {
        (self.timestamp, self.op_id)
    }
}

/// The newest `MAX` of a set of operations; sorted by id, no id twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpList<const MAX: usize> {
    entries: Vec<SupersededOp>,
}

impl<const MAX: usize> OpList<MAX> {
    /// The operations, by id.
    #[must_use]
    pub fn entries(&self) -> &[SupersededOp] {
        &self.entries
    }

    /// The entry of `op_id`. O(log n).
    #[must_use]
    pub fn entry(&self, op_id: OpId) -> Option<&SupersededOp> {
        let place = self
            .entries
            .binary_search_by(|entry| entry.op_id.cmp(&op_id));
        place.ok().and_then(|at| self.entries.get(at))
    }

    /// Whether the next new id evicts one.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= MAX
    }

    /// The oldest operation that is still listed. O(n).
    #[must_use]
    pub fn oldest(&self) -> Option<&SupersededOp> {
        self.entries.iter().min_by_key(|entry| entry.age_key())
    }

    /// Lists an operation, or raises its timestamp.
    pub(super) fn insert(&mut self, new: SupersededOp) {
        match self
            .entries
            .binary_search_by(|entry| entry.op_id.cmp(&new.op_id))
        {
            Ok(at) => {
                if let Some(entry) = self.entries.get_mut(at) {
                    entry.timestamp = entry.timestamp.max(new.timestamp);
                }
            }
            Err(at) => {
                self.entries.insert(at, new);
                self.cut();
            }
        }
    }

    /// Lists operations, or raises their timestamps; in any order.
    pub(super) fn insert_all(&mut self, new: impl Iterator<Item = SupersededOp>) {
        let mut fresh = Vec::new();
        for op in new {
            let place = self
                .entries
                .binary_search_by(|entry| entry.op_id.cmp(&op.op_id));
            match place.ok().and_then(|at| self.entries.get_mut(at)) {
                Some(entry) => entry.timestamp = entry.timestamp.max(op.timestamp),
                None => fresh.push(op),
            }
        }
        if fresh.is_empty() {
            return;
        }
        // Twice the same id: the newest comes first and stays.
        fresh.sort_unstable_by(|a, b| a.op_id.cmp(&b.op_id).then(b.timestamp.cmp(&a.timestamp)));
        fresh.dedup_by_key(|op| op.op_id);
        self.entries.append(&mut fresh);
        self.entries.sort_unstable_by_key(|entry| entry.op_id);
        self.cut();
    }

    /// The newest of both.
    #[must_use]
    pub(super) fn join(&self, other: &Self) -> Self {
        if other.entries.is_empty() || self.entries == other.entries {
            return self.clone();
        }
        let mut entries = Vec::with_capacity(self.entries.len() + other.entries.len());
        let mut theirs = other.entries.iter().peekable();
        for own in &self.entries {
            while let Some(entry) = theirs.next_if(|entry| entry.op_id < own.op_id) {
                entries.push(*entry);
            }
            let same = theirs.next_if(|entry| entry.op_id == own.op_id);
            let timestamp = same.map_or(0, |entry| entry.timestamp).max(own.timestamp);
            entries.push(SupersededOp {
                op_id: own.op_id,
                timestamp,
            });
        }
        entries.extend(theirs.copied());
        let mut joined = Self { entries };
        joined.cut();
        joined
    }

    /// Whether [`Self::insert`] of `new` would change nothing.
    #[must_use]
    pub(super) fn has_seen(&self, new: &SupersededOp) -> bool {
        match self.entry(new.op_id) {
            Some(entry) => entry.timestamp >= new.timestamp,
            None => {
                self.is_full()
                    && self
                        .oldest()
                        .is_some_and(|old| old.age_key() > new.age_key())
            }
        }
    }

    /// Whether [`Self::join`] of `other` would change nothing.
    #[must_use]
    pub(super) fn has_seen_all(&self, other: &Self) -> bool {
        if self.entries.len() == other.entries.len() && self.entries == other.entries {
            return true;
        }
        // One walk along both, and one search for the oldest: full lists are met on hot keys.
        let oldest = if self.is_full() { self.oldest() } else { None };
        let mut own = self.entries.iter().peekable();
        other.entries.iter().all(|theirs| {
            while own.next_if(|entry| entry.op_id < theirs.op_id).is_some() {}
            match own.next_if(|entry| entry.op_id == theirs.op_id) {
                Some(entry) => entry.timestamp >= theirs.timestamp,
                None => oldest.is_some_and(|oldest| oldest.age_key() > theirs.age_key()),
            }
        })
    }

    /// Takes these out, which are sorted; true if any was listed.
    pub(super) fn forget(&mut self, ops: &[OpId]) -> bool {
        let before = self.entries.len();
        if !ops.is_empty() {
            self.entries
                .retain(|entry| ops.binary_search(&entry.op_id).is_err());
        }
        self.entries.len() < before
    }

    /// Builds a list from entries that the decoder has checked.
    pub(super) fn from_checked(entries: Vec<SupersededOp>) -> Self {
        Self { entries }
    }

    fn cut(&mut self) {
        let Some(excess) = self
            .entries
            .len()
            .checked_sub(MAX)
            .filter(|excess| *excess > 0)
        else {
            return;
        };
        let mut keys: Vec<(u64, OpId)> = self.entries.iter().map(SupersededOp::age_key).collect();
        let (_, first_kept, _) = keys.select_nth_unstable(excess);
        let first_kept = *first_kept;
        self.entries.retain(|entry| entry.age_key() >= first_kept);
    }
}
