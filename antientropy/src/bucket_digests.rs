//! Digests of all buckets that a shard holds: 1,024 sums per (keyspace, vnode).
//!
//! A snapshot is a clone: it costs one pointer per vnode, and a vnode is copied (16 KiB) by the
//! first change after it. The encoding is canonical: equal digests are equal bytes, buckets and
//! vnodes without a record take no room.
//!
//! Not here: what a digest is made of (`digest`), the tree over buckets.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_ring::{BucketId, KeyspaceId, VnodeId};

use crate::digest::{BucketDigest, DigestChange};

/// Buckets of a vnode.
pub const BUCKETS: usize = 1 << quorate_ring::BUCKET_BITS;

/// Version of the encoding.
const FORMAT: u32 = 1;

type Entry = (KeyspaceId, VnodeId, BucketId, u128);
type Sums = [BucketDigest; BUCKETS];

/// Bucket digests of every (keyspace, vnode). A clone is a cheap snapshot.
#[derive(Debug, Clone, Default)]
pub struct BucketDigests {
    vnodes: BTreeMap<(KeyspaceId, VnodeId), Arc<Sums>>,
}

/// Bytes that are no encoding of bucket digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid table of bucket digests")]
pub struct BucketDigestsInvalid;

impl BucketDigests {
    /// Adds `change` to one bucket. A bucket that no token has is ignored.
    pub fn add(
        &mut self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        bucket: BucketId,
        change: DigestChange,
    ) {
        if change == DigestChange::NONE {
            return;
        }
        let sums = self
            .vnodes
            .entry((keyspace, vnode))
            .or_insert_with(|| Arc::new([BucketDigest::EMPTY; BUCKETS]));
        if let Some(sum) = Arc::make_mut(sums).get_mut(usize::from(bucket.0)) {
            *sum = sum.after(change);
        }
    }

    /// Digest of one bucket.
    #[must_use]
    pub fn bucket(&self, keyspace: KeyspaceId, vnode: VnodeId, bucket: BucketId) -> BucketDigest {
        self.vnode(keyspace, vnode)
            .and_then(|sums| sums.get(usize::from(bucket.0)).copied())
            .unwrap_or_default()
    }

    /// Digests of all buckets of a vnode, in bucket order; `None` if it never had a record.
    #[must_use]
    pub fn vnode(&self, keyspace: KeyspaceId, vnode: VnodeId) -> Option<&[BucketDigest]> {
        self.vnodes
            .get(&(keyspace, vnode))
            .map(|sums| sums.as_slice())
    }

    /// Every bucket that is not empty, in order. O(all buckets).
    pub fn iter(&self) -> impl Iterator<Item = (KeyspaceId, VnodeId, BucketId, BucketDigest)> + '_ {
        self.vnodes
            .iter()
            .flat_map(|(&(keyspace, vnode), sums)| {
                (0u16..)
                    .zip(sums.iter())
                    .map(move |(index, &sum)| (keyspace, vnode, BucketId(index), sum))
            })
            .filter(|&(.., sum)| sum != BucketDigest::EMPTY)
    }

    /// The canonical bytes, all integers little-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        for (keyspace, vnode, bucket, sum) in self.iter() {
            bytes.extend_from_slice(&keyspace.0.to_le_bytes());
            bytes.extend_from_slice(&vnode.0.to_le_bytes());
            bytes.extend_from_slice(&bucket.0.to_le_bytes());
            bytes.extend_from_slice(&sum.0.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`BucketDigests::encode`] made.
    ///
    /// # Errors
    /// [`BucketDigestsInvalid`] for anything else, also for entries out of order.
    pub fn decode(bytes: &[u8]) -> Result<Self, BucketDigestsInvalid> {
        let (format, mut rest) = bytes.split_first_chunk().ok_or(BucketDigestsInvalid)?;
        if u32::from_le_bytes(*format) != FORMAT {
            return Err(BucketDigestsInvalid);
        }
        let mut digests = Self::default();
        let mut last = None;
        while !rest.is_empty() {
            let (entry, after) = Self::decode_entry(rest).ok_or(BucketDigestsInvalid)?;
            let (keyspace, vnode, bucket, sum) = entry;
            let place = Some((keyspace, vnode, bucket));
            let canonical = last < place && sum != 0 && usize::from(bucket.0) < BUCKETS;
            if !canonical {
                return Err(BucketDigestsInvalid);
            }
            digests.add(keyspace, vnode, bucket, DigestChange(sum));
            last = place;
            rest = after;
        }
        Ok(digests)
    }

    fn decode_entry(bytes: &[u8]) -> Option<(Entry, &[u8])> {
        let (keyspace, bytes) = bytes.split_first_chunk()?;
        let (vnode, bytes) = bytes.split_first_chunk()?;
        let (bucket, bytes) = bytes.split_first_chunk()?;
        let (sum, bytes) = bytes.split_first_chunk()?;
        let entry = (
            KeyspaceId(u32::from_le_bytes(*keyspace)),
            VnodeId(u16::from_le_bytes(*vnode)),
            BucketId(u16::from_le_bytes(*bucket)),
            u128::from_le_bytes(*sum),
        );
        Some((entry, bytes))
    }
}

/// Equal if every bucket is: a vnode that was emptied equals one that never had a record.
impl PartialEq for BucketDigests {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for BucketDigests {}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_entries() -> BucketDigests {
        let mut digests = BucketDigests::default();
        digests.add(KeyspaceId(1), VnodeId(2), BucketId(1023), DigestChange(5));
        digests.add(
            KeyspaceId(1),
            VnodeId(3),
            BucketId(0),
            DigestChange(u128::MAX),
        );
        digests
    }

    #[test]
    fn a_snapshot_keeps_its_state() {
        let mut digests = two_entries();
        let snapshot = digests.clone();
        digests.add(KeyspaceId(1), VnodeId(2), BucketId(1023), DigestChange(1));
        let at = |d: &BucketDigests| d.bucket(KeyspaceId(1), VnodeId(2), BucketId(1023));
        assert_eq!((at(&snapshot).0, at(&digests).0), (5, 6));
    }

    #[test]
    fn encoding_is_canonical_and_round_trips() {
        let digests = two_entries();
        let bytes = digests.encode();
        assert_eq!(BucketDigests::decode(&bytes), Ok(digests.clone()));
        let mut emptied = digests;
        emptied.add(KeyspaceId(1), VnodeId(9), BucketId(7), DigestChange(3));
        emptied.add(
            KeyspaceId(1),
            VnodeId(9),
            BucketId(7),
            DigestChange(0u128.wrapping_sub(3)),
        );
        assert_eq!(emptied.encode(), bytes);
    }

    #[test]
    fn altered_bytes_are_refused() {
        let bytes = two_entries().encode();
        let part = |range: std::ops::Range<usize>| bytes.get(range).expect("inside").to_vec();
        for cut in 0..bytes.len() {
            let aligned = cut >= 4 && (cut - 4) % 24 == 0;
            assert_eq!(
                BucketDigests::decode(&part(0..cut)).is_ok(),
                aligned,
                "{cut}"
            );
        }
        let swapped = [part(0..4), part(28..52), part(4..28)].concat();
        assert_eq!(BucketDigests::decode(&swapped), Err(BucketDigestsInvalid));
    }
}
