//! Digests of records that left memory: enough to say that the engine holds exactly a certain
//! record of a key, and to take one that was made on it, without loading it (DESIGN 5).
//!
//! A set-associative cache of fixed size: a key has eight places, chosen by its hash, and takes
//! that of another one if all are taken. It costs 24 bytes a record, where the record itself costs
//! some 500, and a look-up touches one or two cache lines, where one in the engine takes 7 to 10
//! microseconds.
//!
//! Invariant: what is said of a key is what the engine holds of it. So it is noted when an entry
//! leaves the table, whose durable state the engine holds by then, and replaced or forgotten when
//! the key leaves the table again: no record gets into the engine but through an entry. Two keys of
//! one hash take each other's place, and what is then said of either is the digest of the other
//! with that one's record, which no record of this key has: it answers no question with yes.
//!
//! Not here: who leaves when (`slots`), what is done with it (`shard`).

use std::hash::BuildHasher;

use quorate_antientropy::Digest;
use quorate_ring::FixedState;

use crate::core::key::RecordKey;

/// Places of a set.
const WAYS: usize = 8;
/// Words of a set: of each place its tag and size, then the two halves of its digest.
const SET_WORDS: usize = 3 * WAYS;
/// Bytes of a set.
const SET_BYTES: u64 = 8 * SET_WORDS as u64;

/// What is known of a record whose bytes are not in memory, or need not be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldDigest {
    /// Of the key with the record, under the cluster's secret.
    pub digest: Digest,
    /// Bytes of the record.
    pub bytes: usize,
}

/// Digests by key.
#[derive(Debug)]
pub(super) struct LeftRecords {
    sets: usize,
    words: Vec<u64>,
}

/// Where a key has its places, and what tells it from others there; never 0.
struct Home {
    set: usize,
    tag: u32,
}

impl LeftRecords {
    /// None yet, and never more than fit `bytes_max`, which is below a TiB.
    pub(super) fn new(bytes_max: u64) -> Self {
        let sets = bytes_max / SET_BYTES;
        let sets = usize::try_from(sets).expect("the configuration bounds it");
        Self {
            sets,
            // The system zeroes a page when it is first touched, and gives no memory before.
            words: vec![0; sets * SET_WORDS],
        }
    }

    /// The engine holds this of `key`.
    pub(super) fn note(&mut self, key: &RecordKey, record: HeldDigest) {
        let Home { set, tag } = self.home(key);
        let Some((heads, digests)) = self.set_mut(set) else {
            return;
        };
        let same = heads.iter().position(|head| tag_of(*head) == tag);
        let place = same.or_else(|| heads.iter().position(|head| *head == 0));
        let place = place.unwrap_or(tag as usize % WAYS);
        let bytes = u32::try_from(record.bytes).expect("records are far below 4 GiB");
        if let Some(head) = heads.get_mut(place) {
            *head = u64::from(tag) << 32 | u64::from(bytes);
        }
        if let Some([upper, lower]) = digests.get_mut(place) {
            [*upper, *lower] = halves(record.digest);
        }
    }

    /// The engine holds nothing of `key`, or it is not known what.
    pub(super) fn forget(&mut self, key: &RecordKey) {
        let Home { set, tag } = self.home(key);
        if let Some((heads, _)) = self.set_mut(set)
            && let Some(head) = heads.iter_mut().find(|head| tag_of(**head) == tag)
        {
            *head = 0;
        }
    }

    /// What the engine holds of `key`, if that is known.
    pub(super) fn get(&self, key: &RecordKey) -> Option<HeldDigest> {
        let Home { set, tag } = self.home(key);
        let words = self.words.get(set * SET_WORDS..(set + 1) * SET_WORDS)?;
        let (heads, digests) = words.split_at_checked(WAYS)?;
        let place = heads.iter().position(|head| tag_of(*head) == tag)?;
        let (digests, _) = digests.as_chunks::<2>();
        let digest = digests.get(place).copied().map(joined)?;
        let bytes = heads.get(place)? & u64::from(u32::MAX);
        Some(HeldDigest {
            digest,
            bytes: usize::try_from(bytes).ok()?,
        })
    }

    /// Heads and digests of a set.
    fn set_mut(&mut self, set: usize) -> Option<(&mut [u64], &mut [[u64; 2]])> {
        let words = self.words.get_mut(set * SET_WORDS..(set + 1) * SET_WORDS)?;
        let (heads, digests) = words.split_at_mut_checked(WAYS)?;
        let (digests, _) = digests.as_chunks_mut::<2>();
        Some((heads, digests))
    }

    fn home(&self, key: &RecordKey) -> Home {
        let hash = FixedState.hash_one(key);
        let [upper, lower] = [hash >> 32, hash & u64::from(u32::MAX)];
        // The upper half as a fraction of all sets.
        let set = (upper * self.sets as u64) >> 32;
        Home {
            set: usize::try_from(set).unwrap_or_default(),
            tag: u32::try_from(lower).unwrap_or_default().max(1),
        }
    }
}

/// The tag of a place; 0 if it is free.
const fn tag_of(head: u64) -> u32 {
    (head >> 32) as u32
}

fn halves(digest: Digest) -> [u64; 2] {
    let half = |digest: u128| u64::try_from(digest & u128::from(u64::MAX)).unwrap_or_default();
    [half(digest.0 >> 64), half(digest.0)]
}

fn joined([upper, lower]: [u64; 2]) -> Digest {
    Digest(u128::from(upper) << 64 | u128::from(lower))
}

#[cfg(test)]
mod tests {
    use quorate_ring::{KeyspaceId, VnodeId};

    use super::*;

    fn key(number: u32) -> RecordKey {
        RecordKey::new(KeyspaceId(1), VnodeId(0), &number.to_be_bytes())
    }

    fn record(number: u32) -> HeldDigest {
        HeldDigest {
            digest: Digest(u128::from(number) << 64 | 0xab),
            bytes: number as usize,
        }
    }

    #[test]
    fn what_is_said_of_a_key_is_what_was_noted_last() {
        let mut left = LeftRecords::new(1 << 20);
        assert_eq!(left.get(&key(1)), None);
        left.forget(&key(1));
        left.note(&key(1), record(7));
        left.note(&key(1), record(8));
        assert_eq!(left.get(&key(1)), Some(record(8)));
        left.forget(&key(1));
        assert_eq!(left.get(&key(1)), None);
    }

    /// Ten times as many keys as fit: what is found is right, nearly all places are taken, and what
    /// was noted last is there.
    #[test]
    fn it_takes_no_more_memory_than_it_may_and_forgets_others() {
        let bytes_max = 64 * SET_BYTES + 5;
        let mut left = LeftRecords::new(bytes_max);
        let keys = 5_120;
        for number in 1..=keys {
            left.note(&key(number), record(number));
            assert_eq!(left.get(&key(number)), Some(record(number)));
        }
        let found = (1..=keys).filter_map(|number| Some((number, left.get(&key(number))?)));
        let found: Vec<_> = found.collect();
        assert!(found.iter().all(|(number, held)| *held == record(*number)));
        assert!(found.len() >= 64 * WAYS - 8, "{} are known", found.len());
        assert!(left.words.len() as u64 * 8 <= bytes_max);
    }

    #[test]
    fn without_memory_it_knows_nothing() {
        let mut left = LeftRecords::new(SET_BYTES - 1);
        left.note(&key(1), record(1));
        left.forget(&key(1));
        assert_eq!(left.get(&key(1)), None);
    }
}
