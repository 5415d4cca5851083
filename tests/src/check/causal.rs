//! Explicit causal history of one key, as far as clients can know it.
//!
//! `past(w)` is every write that `w` supersedes: what the read showed whose context it used, or the
//! put whose reply it used, and the pasts of those. Tombstones are invisible to clients, so a past
//! is a lower bound of what a node's context covers; what is missing is covered through deletes,
//! and whoever judges a loss must allow for [`KeyPasts::past_of_deletes`].

use std::collections::BTreeMap;

use super::history::{History, OpIndex, Outcome};

/// How far the clocks are from true time that decide about expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiring {
    /// In microseconds.
    pub skew_us: u64,
}

/// Set of writes of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteSet {
    words: Vec<u64>,
}

impl WriteSet {
    /// Adds the `index`-th write of the key.
    pub fn insert(&mut self, index: usize) {
        let word = index / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(bits) = self.words.get_mut(word) {
            *bits |= 1 << (index % 64);
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (own, theirs) in self.words.iter_mut().zip(&other.words) {
            *own |= theirs;
        }
    }

    /// Whether the `index`-th write of the key is in it.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        self.words
            .get(index / 64)
            .is_some_and(|bits| bits >> (index % 64) & 1 == 1)
    }
}

/// Pasts of all writes of one key, and what each read has shown.
#[derive(Debug, Clone, Default)]
pub struct KeyPasts {
    writes: Vec<OpIndex>,
    index_of: BTreeMap<OpIndex, usize>,
    pasts: Vec<WriteSet>,
    seen: BTreeMap<OpIndex, WriteSet>,
    /// Number of the event at which each delete was sent, with its index among the writes.
    deletes: Vec<(u64, usize)>,
}

impl KeyPasts {
    /// Follows the events of one key in their order; `operations` are all of that key.
    #[must_use]
    pub fn follow(history: &History, operations: &[OpIndex]) -> Self {
        let mut pasts = Self::default();
        for &(_, op, ended) in &events_in_order(history, operations) {
            if ended {
                pasts.note_reply(history, op);
            } else {
                pasts.note_write(history, op);
            }
        }
        pasts
    }

    fn note_write(&mut self, history: &History, op: OpIndex) {
        let Some(operation) = history.operation(op) else {
            return;
        };
        let index = self.writes.len();
        let past = operation
            .context
            .and_then(|from| self.seen.get(&from))
            .cloned()
            .unwrap_or_default();
        self.writes.push(op);
        self.index_of.insert(op, index);
        self.pasts.push(past);
        if operation.is_delete() && operation.outcome() != Outcome::Fail {
            self.deletes.push((operation.invoked_event, index));
        }
    }

    fn note_reply(&mut self, history: &History, op: OpIndex) {
        let Some(ending) = history.operation(op).and_then(|o| o.ending.as_ref()) else {
            return;
        };
        let mut seen = WriteSet::default();
        let shown = self.index_of.get(&op).copied();
        let returned = ending.returned.values.iter();
        let returned = returned.filter_map(|value| self.index_of.get(value).copied());
        for index in shown.into_iter().chain(returned) {
            seen.insert(index);
            if let Some(past) = self.pasts.get(index) {
                seen.extend(past);
            }
        }
        self.seen.insert(op, seen);
    }

    /// The writes of the key in the order in which they were sent.
    #[must_use]
    pub fn writes(&self) -> &[OpIndex] {
        &self.writes
    }

    /// Place of a write among the key's writes; `None` if it is no write of this key.
    #[must_use]
    pub fn index(&self, write: OpIndex) -> Option<usize> {
        self.index_of.get(&write).copied()
    }

    /// What a write supersedes.
    #[must_use]
    pub fn past(&self, index: usize) -> Option<&WriteSet> {
        self.pasts.get(index)
    }

    /// Union of `values` and of their pasts.
    #[must_use]
    pub fn closure(&self, values: &[OpIndex]) -> WriteSet {
        let mut closure = WriteSet::default();
        for index in values.iter().filter_map(|v| self.index(*v)) {
            closure.insert(index);
            if let Some(past) = self.past(index) {
                closure.extend(past);
            }
        }
        closure
    }

    /// What deletes may have superseded that were sent before event `before` and may be applied.
    #[must_use]
    pub fn past_of_deletes(&self, before: u64) -> WriteSet {
        let mut past = WriteSet::default();
        for &(_, index) in self.deletes.iter().filter(|(sent, _)| *sent < before) {
            past.insert(index);
            if let Some(of_delete) = self.past(index) {
                past.extend(of_delete);
            }
        }
        past
    }

    /// What may be gone by `at_us` because its TTL, or that of what superseded it, may have passed.
    #[must_use]
    pub fn past_of_expired(&self, history: &History, at_us: u64, expiring: Expiring) -> WriteSet {
        let mut past = WriteSet::default();
        for (index, write) in self.writes.iter().enumerate() {
            let Some(op) = history.operation(*write) else {
                continue;
            };
            let gone_us = op.ttl_us.map(|ttl| op.invoked_us.saturating_add(ttl));
            let gone = gone_us.is_some_and(|gone| gone <= at_us.saturating_add(expiring.skew_us));
            if gone && op.outcome() != Outcome::Fail {
                past.insert(index);
                if let Some(of_write) = self.past(index) {
                    past.extend(of_write);
                }
            }
        }
        past
    }

    /// One of `values` that supersedes write `index`.
    #[must_use]
    pub fn superseder(&self, index: usize, values: &[OpIndex]) -> Option<OpIndex> {
        values.iter().copied().find(|value| {
            let past = self.index(*value).and_then(|v| self.past(v));
            past.is_some_and(|past| past.contains(index))
        })
    }
}

/// Sends of writes and ends of operations in the order of their events; true = an end.
fn events_in_order(history: &History, operations: &[OpIndex]) -> Vec<(u64, OpIndex, bool)> {
    let mut events = Vec::with_capacity(operations.len() * 2);
    for &op in operations {
        let Some(operation) = history.operation(op) else {
            continue;
        };
        if operation.is_write() {
            events.push((operation.invoked_event, op, false));
        }
        if let Some(ended) = operation.ended_event() {
            events.push((ended, op, true));
        }
    }
    events.sort_unstable();
    events
}

#[cfg(test)]
mod tests {
    use super::super::history::planted::Planted;
    use super::*;

    #[test]
    fn a_past_follows_contexts_of_reads_and_of_put_replies() {
        let mut run = Planted::new();
        let a = run.put(None, Outcome::Ok);
        let read = run.get(&[a]);
        let b = run.put(Some(read), Outcome::Ok);
        let c = run.put(Some(b), Outcome::Ok);
        let blind = run.put(None, Outcome::Ok);
        let ops: Vec<OpIndex> = run.history.operations().map(|(i, _)| i).collect();
        let pasts = KeyPasts::follow(&run.history, &ops);
        let past_of = |write: OpIndex| {
            let past = pasts.index(write).and_then(|i| pasts.past(i));
            let past = past.expect("every write has a past");
            [a, b, c, blind].map(|w| past.contains(pasts.index(w).expect("a write")))
        };
        assert_eq!(past_of(b), [true, false, false, false]);
        assert_eq!(past_of(c), [true, true, false, false]);
        assert_eq!(past_of(blind), [false; 4]);
    }
}
