//! What this node left out of records a moment ago, so that it is left out of what still comes with
//! it.
//!
//! Owners drop one after the other. Who has not dropped yet sends records as they were, and so
//! would bring back what others have left out (`counterexamples.md` P7): every write of a busy key
//! would, and with each round the whole went on. So for a while it is left out of what comes, too.
//!
//! That loses nothing. What may change a copy has a number at its floor or above, so none of it has
//! a sibling of what was left out (see [`super`]); and a client that names it has seen what is
//! superseded everywhere.
//!
//! Bounded in time and number. What comes back later costs another round and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quorate_antientropy::Prunable;
use quorate_ring::MonoTime;

use super::super::key::RecordKey;
use super::led::STEP_WITHIN;

/// For so long it is remembered: who has not dropped by then does not drop in that round.
const KEPT: Duration = STEP_WITHIN;
/// Keys of which it is remembered.
const KEYS_MAX: usize = 16_384;

/// What was left out, by key.
#[derive(Debug, Default)]
pub struct Pruned {
    keys: BTreeMap<RecordKey, (MonoTime, Prunable)>,
    /// When of which key, oldest first.
    order: VecDeque<(MonoTime, RecordKey)>,
}

impl Pruned {
    /// This was left out of a key's record.
    pub fn note(&mut self, now: MonoTime, key: RecordKey, pruned: Prunable) {
        if self.order.len() >= KEYS_MAX {
            self.forget_oldest();
        }
        self.order.push_back((now, key.clone()));
        self.keys.insert(key, (now, pruned));
    }

    /// Forgets what is remembered for long enough.
    pub fn expire(&mut self, now: MonoTime) {
        let is_old = |(at, _): &(MonoTime, RecordKey)| now.since(*at) >= KEPT;
        while self.order.front().is_some_and(is_old) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((at, key)) = self.order.pop_front()
            && self.keys.get(&key).is_some_and(|(noted, _)| *noted == at)
        {
            self.keys.remove(&key);
        }
    }

    /// What was left out of a key's record. Nearly always nothing.
    #[must_use]
    pub fn of(&self, key: &RecordKey) -> Option<&Prunable> {
        if self.keys.is_empty() {
            return None;
        }
        self.keys.get(key).map(|(_, pruned)| pruned)
    }
}

#[cfg(test)]
mod tests {
    use quorate_antientropy::OpId;
    use quorate_ring::{KeyspaceId, VnodeId};

    use super::*;

    fn key(number: usize) -> RecordKey {
        RecordKey::new(KeyspaceId(1), VnodeId(0), &number.to_be_bytes())
    }

    fn op(number: u8) -> Prunable {
        Prunable {
            flagged: vec![OpId([number; 16])],
            ..Prunable::default()
        }
    }

    #[test]
    fn what_was_left_out_is_remembered_for_a_while_and_the_newest_of_a_key() {
        let mut pruned = Pruned::default();
        let at = |seconds| MonoTime::ZERO + Duration::from_secs(seconds);
        pruned.note(at(0), key(1), op(1));
        pruned.note(at(5), key(1), op(2));
        pruned.expire(at(12));
        assert_eq!(pruned.of(&key(1)), Some(&op(2)));
        assert_eq!(pruned.of(&key(2)), None);
        pruned.expire(at(15));
        assert_eq!(pruned.of(&key(1)), None);
    }

    #[test]
    fn of_more_keys_than_there_is_room_for_the_oldest_is_forgotten() {
        let mut pruned = Pruned::default();
        for number in 0..=KEYS_MAX {
            pruned.note(MonoTime::ZERO, key(number), op(1));
        }
        assert_eq!(
            (pruned.of(&key(0)), pruned.of(&key(1))),
            (None, Some(&op(1)))
        );
        assert_eq!(pruned.keys.len(), KEYS_MAX);
    }
}
