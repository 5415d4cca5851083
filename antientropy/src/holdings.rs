//! How much a replica holds: keys with a value, tombstones, bytes; sums that follow every change of
//! a record, so that nobody has to count.
//!
//! A key is counted once, whatever the number of its concurrent values; one whose values have all
//! expired counts until it is written or purged, since nothing is written when time passes. Bytes
//! are those of keys and encoded records, before the engine compresses them.
//!
//! Not here: where the sums are kept (`bucket_digests`).

use crate::digest::DigestChange;

/// What one record amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Whether it has a value, expired or not; else it is a tombstone.
    pub has_value: bool,
    /// Bytes of its key and of its encoding.
    pub bytes: usize,
}

/// What a set of records amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    /// Keys that have a value.
    pub keys: u64,
    /// Keys that have none: what is left of deleted ones.
    pub tombstones: u64,
    /// Bytes of keys and encoded records.
    pub bytes: u64,
}

impl Holdings {
    /// After `change`. Sums wrap, so that changes may come in any order.
    #[must_use]
    pub const fn after(self, change: HoldingsChange) -> Self {
        Self {
            keys: self.keys.wrapping_add_signed(change.keys as i64),
            tombstones: self
                .tombstones
                .wrapping_add_signed(change.tombstones as i64),
            bytes: self.bytes.wrapping_add_signed(change.bytes as i64),
        }
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            keys: self.keys.wrapping_add(other.keys),
            tombstones: self.tombstones.wrapping_add(other.tombstones),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}

/// How holdings change when one record does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct HoldingsChange {
    /// -1, 0 or 1.
    pub keys: i8,
    /// -1, 0 or 1.
    pub tombstones: i8,
    /// New bytes minus old ones.
    pub bytes: i32,
}

impl HoldingsChange {
    /// From the record that was there, if any, to the one that is.
    #[must_use]
    pub fn between(old: Option<Held>, new: Option<Held>) -> Self {
        let keys = |held: Option<Held>| i8::from(held.is_some_and(|held| held.has_value));
        let tombstones = |held: Option<Held>| i8::from(held.is_some_and(|held| !held.has_value));
        // A record has at most `RECORD_BYTES_MAX`, far below the type's range.
        let bytes = |held: Option<Held>| {
            held.map_or(0, |held| i32::try_from(held.bytes).unwrap_or(i32::MAX))
        };
        Self {
            keys: keys(new) - keys(old),
            tombstones: tombstones(new) - tombstones(old),
            bytes: bytes(new) - bytes(old),
        }
    }
}

/// What a change of one record does to the sums that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RecordChange {
    /// To its bucket's digest.
    pub digest: DigestChange,
    /// To its vnode's holdings.
    pub holdings: HoldingsChange,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keys_life_leaves_nothing_behind() {
        let value = |bytes| {
            Some(Held {
                has_value: true,
                bytes,
            })
        };
        let tombstone = Some(Held {
            has_value: false,
            bytes: 40,
        });
        let life = [None, value(100), value(300), tombstone, value(20), None];
        let mut sums = Vec::new();
        let mut holdings = Holdings::default();
        for (old, new) in life.into_iter().zip(life.into_iter().skip(1)) {
            holdings = holdings.after(HoldingsChange::between(old, new));
            sums.push((holdings.keys, holdings.tombstones, holdings.bytes));
        }
        assert_eq!(
            sums,
            [(1, 0, 100), (1, 0, 300), (0, 1, 40), (1, 0, 20), (0, 0, 0)]
        );
    }
}
