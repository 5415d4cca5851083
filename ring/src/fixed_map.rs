//! Hash map and set with a fixed hash function, for pure look-ups.
//!
//! `std`'s default seeds itself from the system, so iteration order would differ between two runs
//! of one seed. These use xxh3 with a constant seed: the order is still meaningless, and
//! `clippy::iter_over_hash_type` warns who iterates.

use std::hash::{BuildHasher, Hasher};

/// Builds hashers that all start from the same state.
#[derive(Debug, Clone, Copy, Default)]
pub struct FixedState;

impl BuildHasher for FixedState {
    type Hasher = FixedHasher;

    fn build_hasher(&self) -> FixedHasher {
        FixedHasher { hash: 0 }
    }
}

/// One-shot xxh3 per write; the writes of a compound key are chained through the seed.
#[derive(Debug, Clone, Copy)]
pub struct FixedHasher {
    hash: u64,
}

impl Hasher for FixedHasher {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        self.hash = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.hash);
    }
}

/// Hash map whose layout does not depend on the process.
#[expect(
    clippy::disallowed_types,
    reason = "the one wrapper that fixes the hasher"
)]
pub type FixedMap<K, V> = std::collections::HashMap<K, V, FixedState>;

/// Hash set whose layout does not depend on the process.
#[expect(
    clippy::disallowed_types,
    reason = "the one wrapper that fixes the hasher"
)]
pub type FixedSet<K> = std::collections::HashSet<K, FixedState>;
