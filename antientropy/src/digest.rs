//! What a replica holds, as numbers that two replicas can compare.
//!
//! A record's digest is xxh3-128 of its key and its canonical bytes, seeded with secrets of the
//! cluster, so that nobody outside can make two records that collide. A bucket's digest is the
//! wrapping sum over its records: adding and removing commute, so it is a function of the set
//! alone, and the log can hold a put's effect on it as one difference.
//!
//! Not here: which bucket a key is in (`ring`), the tree over buckets.

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// What seeds the digests of a cluster; made at its creation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DigestSecret {
    /// Seeds the hash of keys.
    pub key: u64,
    /// Seeds the hash of records.
    pub record: u64,
}

impl std::fmt::Debug for DigestSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestSecret(..)")
    }
}

/// Digest of one record under its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub u128);

impl Digest {
    /// Digest of `key` holding the canonical bytes `record`. One pass over both.
    #[must_use]
    pub fn of(secret: DigestSecret, key: &[u8], record: &[u8]) -> Self {
        // Two hashes instead of one over the concatenation: no copy, and no pair of key and
        // record that could be cut elsewhere. The key's hash is in the seed and in the sum.
        let key_hash = xxh3_128_with_seed(key, secret.key);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "folds 128 bits into a seed"
        )]
        let seed = (key_hash as u64) ^ ((key_hash >> 64) as u64).rotate_left(32) ^ secret.record;
        Self(xxh3_128_with_seed(record, seed).wrapping_add(key_hash))
    }
}

/// How a bucket's digest changes when one of its records does. Changes add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DigestChange(pub u128);

impl DigestChange {
    /// Changes nothing.
    pub const NONE: Self = Self(0);

    /// From the record that was there, if any, to the one that is.
    #[must_use]
    pub fn between(old: Option<Digest>, new: Option<Digest>) -> Self {
        let sum = |digest: Option<Digest>| digest.map_or(0, |digest| digest.0);
        Self(sum(new).wrapping_sub(sum(old)))
    }

    /// Both changes, in any order.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

/// Wrapping sum of the digests of a bucket's records; 0 for an empty bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BucketDigest(pub u128);

impl BucketDigest {
    /// No records.
    pub const EMPTY: Self = Self(0);

    /// After `change`.
    #[must_use]
    pub const fn after(self, change: DigestChange) -> Self {
        Self(self.0.wrapping_add(change.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: DigestSecret = DigestSecret { key: 7, record: 11 };

    #[test]
    fn digest_tells_keys_records_and_secrets_apart() {
        let base = Digest::of(SECRET, b"ab", b"c");
        assert_eq!(base, Digest::of(SECRET, b"ab", b"c"));
        assert_ne!(base, Digest::of(SECRET, b"a", b"bc"));
        assert_ne!(base, Digest::of(SECRET, b"abc", b""));
        assert_ne!(base, Digest::of(SECRET, b"ab", b"d"));
        assert_ne!(
            base,
            Digest::of(DigestSecret { key: 8, ..SECRET }, b"ab", b"c")
        );
        assert_ne!(
            base,
            Digest::of(
                DigestSecret {
                    record: 8,
                    ..SECRET
                },
                b"ab",
                b"c"
            )
        );
    }

    #[test]
    fn bucket_digest_depends_on_the_set_alone() {
        let [x, y, z] = [b"x", b"y", b"z"].map(|value| Digest::of(SECRET, b"k", value));
        let other = Digest::of(SECRET, b"l", b"x");
        let steps = [
            (None, Some(x)),
            (None, Some(other)),
            (Some(x), Some(y)),
            (Some(y), Some(z)),
        ];
        let apply =
            |bucket: BucketDigest, (old, new)| bucket.after(DigestChange::between(old, new));
        let forwards = steps.into_iter().fold(BucketDigest::EMPTY, apply);
        let backwards = steps.into_iter().rev().fold(BucketDigest::EMPTY, apply);
        let direct = BucketDigest(z.0.wrapping_add(other.0));
        assert_eq!((forwards, backwards), (direct, direct));
        let emptied = forwards.after(
            DigestChange::between(Some(z), None).and(DigestChange::between(Some(other), None)),
        );
        assert_eq!(emptied, BucketDigest::EMPTY);
    }
}
