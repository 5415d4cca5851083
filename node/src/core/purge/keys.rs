//! Keys of one copy that wait for one reason, each in one of three states: free for the next round,
//! in a round, or refused by one and free again a moment later.
//!
//! A key is in one state and so in one round at most. What a round refuses is taken behind what
//! none has tried.
//!
//! Not here: why they wait, and how many a round takes (`waiting`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_ring::MonoTime;

/// Keys that a round did not agree on are tried again after this.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(4);

/// Keys of one copy, each with the moment since when it waits.
#[derive(Debug, Default)]
pub(super) struct Keys {
    free: BTreeMap<Bytes, MonoTime>,
    taken: BTreeMap<Bytes, MonoTime>,
    refused: BTreeMap<Bytes, MonoTime>,
    /// When the refused ones may be tried again.
    again_at: MonoTime,
    /// How many of all of them wait since when: what waits longest is asked for all the time.
    since: BTreeMap<MonoTime, usize>,
}

impl Keys {
    pub(super) fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// A key waits from now on. Gives whether it is new.
    pub(super) fn insert(&mut self, key: &[u8], now: MonoTime) -> bool {
        let states = [&self.free, &self.taken, &self.refused];
        let is_new = !states.iter().any(|keys| keys.contains_key(key));
        if is_new {
            self.free.insert(Bytes::copy_from_slice(key), now);
            *self.since.entry(now).or_default() += 1;
        }
        is_new
    }

    /// A key does not wait any more. Gives whether it did.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let mut states = [&mut self.free, &mut self.taken, &mut self.refused].into_iter();
        let Some(since) = states.find_map(|keys| keys.remove(key)) else {
            return false;
        };
        if let Some(count) = self.since.get_mut(&since) {
            *count -= 1;
            if *count == 0 {
                self.since.remove(&since);
            }
        }
        true
    }

    /// The first keys of which `has_room` says that a round takes them: those that none has tried,
    /// then those that one has refused a while ago.
    pub(super) fn take(
        &mut self,
        now: MonoTime,
        mut has_room: impl FnMut(&Bytes) -> bool,
    ) -> Vec<Bytes> {
        let mut taken = Vec::new();
        let mut take_from = |keys: &mut BTreeMap<Bytes, MonoTime>| {
            while let Some(first) = keys.first_entry()
                && has_room(first.key())
            {
                let (key, since) = first.remove_entry();
                taken.push(key.clone());
                self.taken.insert(key, since);
            }
        };
        take_from(&mut self.free);
        if self.again_at <= now {
            take_from(&mut self.refused);
            // What is refused from now on waits anew.
            self.free.append(&mut self.refused);
        }
        taken
    }

    /// A round is over for a key: since this moment, if it was `refused`.
    pub(super) fn give_back(&mut self, key: &Bytes, refused: Option<MonoTime>) {
        let Some((key, since)) = self.taken.remove_entry(key) else {
            return;
        };
        let Some(now) = refused else {
            self.free.insert(key, since);
            return;
        };
        if self.refused.is_empty() {
            self.again_at = now + AGAIN_AFTER;
        }
        self.refused.insert(key, since);
    }

    /// Since when the oldest waits.
    pub(super) fn oldest(&self) -> Option<MonoTime> {
        self.since.first_key_value().map(|(since, _)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(keys: &mut Keys, now: MonoTime) -> Vec<Bytes> {
        keys.take(now, |_| true)
    }

    #[test]
    fn a_key_that_a_round_refuses_keeps_no_other_one_waiting() {
        let at = |seconds| MonoTime::ZERO + Duration::from_secs(seconds);
        let mut keys = Keys::default();
        keys.insert(b"a", at(0));
        keys.insert(b"b", at(1));
        assert_eq!(take(&mut keys, at(1)), ["a", "b"]);
        keys.give_back(&Bytes::from("a"), Some(at(1)));
        keys.insert(b"c", at(2));
        assert_eq!(take(&mut keys, at(2)), ["c"]);
        // What is refused later does not put off what waits already.
        keys.give_back(&Bytes::from("b"), Some(at(4)));
        assert!(take(&mut keys, at(4)).is_empty());
        assert_eq!(take(&mut keys, at(5)), ["a", "b"]);
        assert_eq!(keys.oldest(), Some(at(0)));
    }

    #[test]
    fn a_key_is_in_one_round_and_remembered_once() {
        let now = MonoTime::ZERO;
        let mut keys = Keys::default();
        assert!(keys.insert(b"a", now));
        assert_eq!(take(&mut keys, now), ["a"]);
        assert!(!keys.insert(b"a", now), "a round is about it");
        assert!(take(&mut keys, now).is_empty());
        keys.give_back(&Bytes::from("a"), None);
        assert_eq!(take(&mut keys, now), ["a"], "at once");
        keys.give_back(&Bytes::from("a"), Some(now));
        assert!(!keys.insert(b"a", now), "it was refused");
        assert!(keys.remove(b"a") && !keys.remove(b"a"));
        assert!(keys.is_empty());
        keys.give_back(&Bytes::from("a"), None);
        assert!(keys.is_empty(), "it was forgotten meanwhile");
    }

    #[test]
    fn the_oldest_is_the_one_that_waits_longest_and_not_the_first_there_ever_was() {
        let at = |seconds| MonoTime::ZERO + Duration::from_secs(seconds);
        let mut keys = Keys::default();
        keys.insert(b"a", at(0));
        keys.insert(b"b", at(60));
        keys.remove(b"a");
        assert_eq!(keys.oldest(), Some(at(60)));
        keys.insert(b"c", at(60));
        keys.remove(b"b");
        assert_eq!(keys.oldest(), Some(at(60)), "another one of that moment");
        keys.remove(b"c");
        assert_eq!((keys.oldest(), keys.is_empty()), (None, true));
    }

    #[test]
    fn what_was_refused_is_taken_behind_what_was_never_tried() {
        let now = MonoTime::ZERO;
        let mut keys = Keys::default();
        keys.insert(b"a", now);
        assert_eq!(take(&mut keys, now), ["a"]);
        keys.give_back(&Bytes::from("a"), Some(now));
        keys.insert(b"b", now);
        let later = now + AGAIN_AFTER;
        let mut room = 1;
        let one = |_: &Bytes| std::mem::replace(&mut room, 0) == 1;
        assert_eq!(keys.take(later, one), ["b"]);
        assert_eq!(take(&mut keys, later), ["a"]);
    }
}
