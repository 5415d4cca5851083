//! Where the table keeps its entries: one place per key, found by one look-up.
//!
//! Entries lie in chunks that never move, so growing copies nothing. The index holds 32 bits of
//! each key's hash beside the place: it grows without looking at the entries, and a look-up touches
//! an entry only when those bits agree.
//!
//! Eviction is a clock: the hand goes round over the chunks, passes over what may not leave, gives
//! what was used since it last came by a second chance, and takes the rest. What is loaded counts
//! as unused at first, so keys that are read once leave before those that are read again.

use std::cell::Cell;

use bytes::Bytes;
use hashbrown::HashTable;
use quorate_ring::{FixedState, Lsn};
use std::hash::BuildHasher;

use super::Lookup;
use crate::core::key::RecordKey;

/// Entries of a chunk.
const CHUNK: usize = 1024;

/// Number of an entry; fixed while it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// What the table knows of one key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: RecordKey,
    /// State at the durable LSN, unless that is unseen; `None` is known absence.
    pub(super) durable: Option<Bytes>,
    /// Only the engine has the durable state: the newest was made without looking at it, and is in
    /// flight.
    pub(super) is_unseen: bool,
    /// LSN of the newest state; it is in flight if that is not durable yet.
    pub(super) newest: Lsn,
    /// Generation that the durable state belongs to; the engine holds those that were ingested.
    pub(super) generation: u32,
    /// Place of the durable state among the rows of its generation.
    pub(super) row: u32,
    /// Whether it was looked up since the clock's hand last came by.
    used: Cell<bool>,
}

impl Entry {
    /// What the engine or the log told of a key.
    pub(super) const fn new(key: RecordKey, durable: Option<Bytes>) -> Self {
        Self {
            key,
            durable,
            is_unseen: false,
            newest: Lsn(0),
            generation: 0,
            row: 0,
            used: Cell::new(false),
        }
    }

    /// What is about to be written without looking at what the engine holds.
    pub(super) fn unseen(key: RecordKey) -> Self {
        Self {
            is_unseen: true,
            ..Self::new(key, None)
        }
    }

    /// The state at the durable LSN.
    pub(super) fn durable(&self) -> Lookup {
        if self.is_unseen {
            Lookup::MustLoad
        } else {
            Lookup::Known(self.durable.clone())
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Indexed {
    hash: u32,
    slot: Slot,
}

/// All entries.
#[derive(Debug, Default)]
pub(super) struct Slots {
    index: HashTable<Indexed>,
    chunks: Vec<Vec<Option<Entry>>>,
    free: Vec<Slot>,
    hand: usize,
}

/// The upper half of a key's hash.
fn hash_of(key: &RecordKey) -> u32 {
    let hash = FixedState.hash_one(key);
    u32::try_from(hash >> 32).unwrap_or(u32::MAX)
}

/// What the index is fed with: it takes its tags from the upper and its places from the lower bits.
const fn spread(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}

impl Slots {
    /// The slot of `key`.
    pub(super) fn find(&self, key: &RecordKey) -> Option<Slot> {
        let hash = hash_of(key);
        let same = |indexed: &Indexed| {
            indexed.hash == hash && self.entry(indexed.slot).is_some_and(|e| e.key == *key)
        };
        self.index.find(spread(hash), same).map(|found| found.slot)
    }

    /// The entry of `key`; it counts as used.
    pub(super) fn get(&self, key: &RecordKey) -> Option<&Entry> {
        let entry = self.find(key).and_then(|slot| self.entry(slot))?;
        entry.used.set(true);
        Some(entry)
    }

    /// Adds a key that is not held.
    pub(super) fn insert(&mut self, entry: Entry) -> Slot {
        let hash = hash_of(&entry.key);
        let slot = self.free.pop().unwrap_or_else(|| self.grow());
        *self.place(slot) = Some(entry);
        self.index
            .insert_unique(spread(hash), Indexed { hash, slot }, |i| spread(i.hash));
        slot
    }

    /// The entry at `slot`, which is held.
    pub(super) fn held(&mut self, slot: Slot) -> &mut Entry {
        self.place(slot).as_mut().expect("the slot is held")
    }

    /// Moves the clock's hand over at most `steps` slots; gives the first entry that may leave by
    /// `leaves` and was not used, taken out, and the steps that are left.
    pub(super) fn evict(
        &mut self,
        mut steps: usize,
        leaves: impl Fn(&Entry) -> bool,
    ) -> (Option<Entry>, usize) {
        let all = self.chunks.len() * CHUNK;
        while steps > 0 && all > 0 {
            steps -= 1;
            let at = self.hand;
            self.hand = (at + 1) % all;
            let place = self
                .chunks
                .get_mut(at / CHUNK)
                .and_then(|c| c.get_mut(at % CHUNK));
            let Some(place) = place else { continue };
            let goes = place
                .as_ref()
                .is_some_and(|e| leaves(e) && !e.used.replace(false));
            if goes && let Some(entry) = place.take() {
                let slot = Slot(u32::try_from(at).expect("slots are numbered in 32 bits"));
                self.unindex(&entry.key, slot);
                return (Some(entry), steps);
            }
        }
        (None, 0)
    }

    fn unindex(&mut self, key: &RecordKey, slot: Slot) {
        let hash = hash_of(key);
        let indexed = self.index.find_entry(spread(hash), |i| i.slot == slot);
        indexed.expect("an entry is in the index").remove();
        self.free.push(slot);
    }

    /// The entry at `slot`, if it is held.
    pub(super) fn entry(&self, slot: Slot) -> Option<&Entry> {
        let at = slot.0 as usize;
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)?.as_ref()
    }

    fn place(&mut self, slot: Slot) -> &mut Option<Entry> {
        let at = slot.0 as usize;
        let chunk = self.chunks.get_mut(at / CHUNK);
        chunk
            .and_then(|chunk| chunk.get_mut(at % CHUNK))
            .expect("slots are made by this table")
    }

    /// One more chunk; gives its first slot, the others are free.
    fn grow(&mut self) -> Slot {
        let number =
            |slots: usize| u32::try_from(slots).expect("memory is bounded far below 2^32 records");
        let begin = number(self.chunks.len() * CHUNK);
        self.chunks
            .push(std::iter::repeat_with(|| None).take(CHUNK).collect());
        let end = begin + number(CHUNK);
        self.free.extend((begin + 1..end).rev().map(Slot));
        Slot(begin)
    }
}

#[cfg(test)]
mod tests {
    use quorate_ring::{KeyspaceId, VnodeId};

    use super::*;

    fn key(number: u32) -> RecordKey {
        RecordKey::new(KeyspaceId(1), VnodeId(0), &number.to_be_bytes())
    }

    #[test]
    fn what_was_used_gets_a_second_chance_and_what_may_not_leave_stays() {
        let mut slots = Slots::default();
        for number in 0..3_000 {
            slots.insert(Entry::new(key(number), None));
        }
        for used in (0..3_000).step_by(2) {
            assert!(slots.get(&key(used)).is_some());
        }
        let stays = key(1);
        let leaves = |entry: &Entry| entry.key != stays;
        let mut gone = 0;
        while let (Some(entry), _) = slots.evict(4_096, leaves) {
            gone += 1;
            if gone <= 1_499 {
                let odd = entry
                    .key
                    .user_key()
                    .last()
                    .is_some_and(|byte| byte % 2 == 1);
                assert!(odd, "unused keys leave first");
            }
            assert!(slots.find(&entry.key).is_none());
        }
        assert_eq!(gone, 2_999);
        assert!(slots.find(&stays).is_some());
        // Places are used again.
        let chunks = slots.chunks.len();
        for number in 10_000..12_999 {
            slots.insert(Entry::new(key(number), None));
        }
        assert_eq!(slots.chunks.len(), chunks);
    }
}
