//! Which keys are there: those that were loaded, then the inserted ones in order.
//!
//! As in YCSB a key is asked for only once its insert, and all before it, have ended. One whose
//! insert failed may or may not be there, and nothing is expected of it.

use std::collections::BTreeSet;

/// The keys by index, from 0 on.
#[derive(Debug, Clone)]
pub struct Sequence {
    next: u32,
    ended_below: u32,
    ended_ahead: BTreeSet<u32>,
    uncertain: BTreeSet<u32>,
}

impl Sequence {
    /// `loaded` keys that are there.
    #[must_use]
    pub const fn new(loaded: u32) -> Self {
        Self {
            next: loaded,
            ended_below: loaded,
            ended_ahead: BTreeSet::new(),
            uncertain: BTreeSet::new(),
        }
    }

    /// Begins an insert: the index of the new key; `None` if there is none left.
    pub fn begin(&mut self) -> Option<u32> {
        let index = self.next;
        self.next = index.checked_add(1)?;
        Some(index)
    }

    /// The insert of `index` was acknowledged.
    pub fn acknowledged(&mut self, index: u32) {
        self.ended_ahead.insert(index);
        while self.ended_ahead.remove(&self.ended_below) {
            self.ended_below += 1;
        }
    }

    /// The insert of `index` failed: the key may or may not be there.
    pub fn failed(&mut self, index: u32) {
        self.uncertain.insert(index);
        self.acknowledged(index);
    }

    /// The inserts of all keys below this index have ended.
    #[must_use]
    pub const fn ended_below(&self) -> u32 {
        self.ended_below
    }

    /// Whether the key must be there if its insert has ended.
    #[must_use]
    pub fn is_certain(&self, index: u32) -> bool {
        !self.uncertain.contains(&index)
    }

    /// Whether none of the keys from `first` to before `end` must be there.
    #[must_use]
    pub fn may_lack(&self, first: u32, end: u32) -> bool {
        (first..end).all(|index| !self.is_certain(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_asked_for_once_all_before_it_have_ended() {
        let mut keys = Sequence::new(10);
        let [a, b, c] =
            [keys.begin(), keys.begin(), keys.begin()].map(|key| key.expect("keys are left"));
        assert_eq!([a, b, c], [10, 11, 12]);
        keys.acknowledged(b);
        assert_eq!(keys.ended_below(), 10);
        keys.acknowledged(a);
        assert_eq!(keys.ended_below(), 12);
        keys.failed(c);
        assert_eq!(keys.ended_below(), 13);
        assert!(keys.is_certain(b) && !keys.is_certain(c));
        assert!(keys.may_lack(12, 13) && keys.may_lack(13, 13) && !keys.may_lack(11, 13));
    }
}
