//! Digests of all buckets that a shard holds, 1,024 sums per (keyspace, vnode), and what each of
//! these vnodes holds in number and bytes.
//!
//! A snapshot is a clone: it costs one pointer per vnode, and a vnode is copied (16 KiB) by the
//! first change after it. The encoding is canonical: equal sums are equal bytes, buckets and vnodes
//! without a record take no room.
//!
//! Not here: what a digest is made of (`digest`), the tree over buckets.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_ring::{BucketId, KeyspaceId, VnodeId};

use crate::digest::{BucketDigest, DigestChange};
use crate::holdings::{Holdings, HoldingsChange, RecordChange};

/// Buckets of a vnode.
pub const BUCKETS: usize = 1 << quorate_ring::BUCKET_BITS;

/// Version of the encoding.
const FORMAT: u32 = 2;

type Entry = (KeyspaceId, VnodeId, BucketId, u128);
type VnodeEntry = (KeyspaceId, VnodeId, Holdings);
type Sums = [BucketDigest; BUCKETS];

/// What is summed up over one vnode of a keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VnodeSums {
    buckets: Sums,
    holdings: Holdings,
    changes: u64,
}

impl Default for VnodeSums {
    fn default() -> Self {
        Self {
            buckets: [BucketDigest::EMPTY; BUCKETS],
            holdings: Holdings::default(),
            changes: 0,
        }
    }
}

impl VnodeSums {
    /// Digests of all buckets, in bucket order.
    #[must_use]
    pub const fn buckets(&self) -> &[BucketDigest] {
        &self.buckets
    }

    /// How often they changed since the process began to keep them: the same number, the same sums.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// What the vnode holds.
    #[must_use]
    pub const fn holdings(&self) -> Holdings {
        self.holdings
    }
}

/// Bucket digests and holdings of every (keyspace, vnode). A clone is a cheap snapshot.
#[derive(Debug, Clone, Default)]
pub struct BucketDigests {
    vnodes: BTreeMap<(KeyspaceId, VnodeId), Arc<VnodeSums>>,
}

/// Why bytes are not read as bucket digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketDigestsInvalid {
    /// They have the format of another release.
    #[error("format {0}, and this release reads format {FORMAT}")]
    OtherFormat(u32),
    /// They are no encoding of any.
    #[error("not a valid table of bucket digests")]
    Malformed,
}

impl BucketDigestsInvalid {
    /// The format that is read.
    pub const SUPPORTED: u32 = FORMAT;
}

impl BucketDigests {
    /// Adds `change` to one bucket and its vnode. A bucket that no token has is ignored.
    pub fn add(
        &mut self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        bucket: BucketId,
        change: RecordChange,
    ) {
        if change == RecordChange::default() {
            return;
        }
        let sums = self.vnodes.entry((keyspace, vnode)).or_default();
        let sums = Arc::make_mut(sums);
        if let Some(sum) = sums.buckets.get_mut(usize::from(bucket.0)) {
            *sum = sum.after(change.digest);
            sums.holdings = sums.holdings.after(change.holdings);
            sums.changes += 1;
        }
    }

    /// What every vnode holds that is not empty, in order.
    pub fn holdings(&self) -> impl Iterator<Item = (KeyspaceId, VnodeId, Holdings)> + '_ {
        self.vnodes
            .iter()
            .map(|(&(keyspace, vnode), sums)| (keyspace, vnode, sums.holdings))
            .filter(|(.., holdings)| *holdings != Holdings::default())
    }

    /// Digest of one bucket.
    #[must_use]
    pub fn bucket(&self, keyspace: KeyspaceId, vnode: VnodeId, bucket: BucketId) -> BucketDigest {
        let sums = self.vnodes.get(&(keyspace, vnode));
        sums.and_then(|sums| sums.buckets.get(usize::from(bucket.0)).copied())
            .unwrap_or_default()
    }

    /// How often one vnode's sums changed, as [`VnodeSums::changes`] tells it.
    #[must_use]
    pub fn changes(&self, keyspace: KeyspaceId, vnode: VnodeId) -> u64 {
        let sums = self.vnodes.get(&(keyspace, vnode));
        sums.map_or(0, |sums| sums.changes)
    }

    /// A snapshot of one vnode's sums.
    #[must_use]
    pub fn vnode(&self, keyspace: KeyspaceId, vnode: VnodeId) -> Arc<VnodeSums> {
        let sums = self.vnodes.get(&(keyspace, vnode));
        sums.map(Arc::clone).unwrap_or_default()
    }

    /// Every bucket that is not empty, in order. O(all buckets).
    pub fn iter(&self) -> impl Iterator<Item = (KeyspaceId, VnodeId, BucketId, BucketDigest)> + '_ {
        self.vnodes
            .iter()
            .flat_map(|(&(keyspace, vnode), sums)| {
                (0u16..)
                    .zip(sums.buckets.iter())
                    .map(move |(index, &sum)| (keyspace, vnode, BucketId(index), sum))
            })
            .filter(|&(.., sum)| sum != BucketDigest::EMPTY)
    }

    /// The canonical bytes, all integers little-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        let vnodes = u32::try_from(self.holdings().count()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&vnodes.to_le_bytes());
        for (keyspace, vnode, holdings) in self.holdings() {
            bytes.extend_from_slice(&keyspace.0.to_le_bytes());
            bytes.extend_from_slice(&vnode.0.to_le_bytes());
            bytes.extend_from_slice(&holdings.keys.to_le_bytes());
            bytes.extend_from_slice(&holdings.tombstones.to_le_bytes());
            bytes.extend_from_slice(&holdings.bytes.to_le_bytes());
        }
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
        let (format, mut rest) = bytes
            .split_first_chunk()
            .ok_or(BucketDigestsInvalid::Malformed)?;
        match u32::from_le_bytes(*format) {
            FORMAT => {}
            other => return Err(BucketDigestsInvalid::OtherFormat(other)),
        }
        let mut digests = Self::default();
        let (vnodes, after) = rest
            .split_first_chunk()
            .ok_or(BucketDigestsInvalid::Malformed)?;
        rest = after;
        let mut last = None;
        for _ in 0..u32::from_le_bytes(*vnodes) {
            let (entry, after) =
                Self::decode_holdings(rest).ok_or(BucketDigestsInvalid::Malformed)?;
            let (keyspace, vnode, holdings) = entry;
            let place = Some((keyspace, vnode));
            if last >= place || holdings == Holdings::default() {
                return Err(BucketDigestsInvalid::Malformed);
            }
            let sums = digests.vnodes.entry((keyspace, vnode)).or_default();
            Arc::make_mut(sums).holdings = holdings;
            last = place;
            rest = after;
        }
        let mut last = None;
        while !rest.is_empty() {
            let (entry, after) = Self::decode_entry(rest).ok_or(BucketDigestsInvalid::Malformed)?;
            let (keyspace, vnode, bucket, sum) = entry;
            let place = Some((keyspace, vnode, bucket));
            let canonical = last < place && sum != 0 && usize::from(bucket.0) < BUCKETS;
            if !canonical {
                return Err(BucketDigestsInvalid::Malformed);
            }
            let change = RecordChange {
                digest: DigestChange(sum),
                holdings: HoldingsChange::default(),
            };
            digests.add(keyspace, vnode, bucket, change);
            last = place;
            rest = after;
        }
        Ok(digests)
    }

    fn decode_holdings(bytes: &[u8]) -> Option<(VnodeEntry, &[u8])> {
        let (keyspace, bytes) = bytes.split_first_chunk()?;
        let (vnode, bytes) = bytes.split_first_chunk()?;
        let (keys, bytes) = bytes.split_first_chunk()?;
        let (tombstones, bytes) = bytes.split_first_chunk()?;
        let (sum, bytes) = bytes.split_first_chunk()?;
        let holdings = Holdings {
            keys: u64::from_le_bytes(*keys),
            tombstones: u64::from_le_bytes(*tombstones),
            bytes: u64::from_le_bytes(*sum),
        };
        let keyspace = KeyspaceId(u32::from_le_bytes(*keyspace));
        let vnode = VnodeId(u16::from_le_bytes(*vnode));
        Some(((keyspace, vnode, holdings), bytes))
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

/// Equal if every bucket and every count is: a vnode that was emptied equals one that never had a
/// record.
impl PartialEq for BucketDigests {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter()) && self.holdings().eq(other.holdings())
    }
}

impl Eq for BucketDigests {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holdings::Held;

    fn change(digest: u128, old: Option<usize>, new: Option<usize>) -> RecordChange {
        let held = |bytes: Option<usize>| {
            bytes.map(|bytes| Held {
                has_value: true,
                bytes,
            })
        };
        RecordChange {
            digest: DigestChange(digest),
            holdings: HoldingsChange::between(held(old), held(new)),
        }
    }

    fn two_entries() -> BucketDigests {
        let mut digests = BucketDigests::default();
        let first = change(5, None, Some(30));
        digests.add(KeyspaceId(1), VnodeId(2), BucketId(1023), first);
        let second = change(u128::MAX, None, Some(40));
        digests.add(KeyspaceId(1), VnodeId(3), BucketId(0), second);
        digests
    }

    #[test]
    fn a_snapshot_keeps_its_state() {
        let mut digests = two_entries();
        let snapshot = digests.clone();
        let more = change(1, Some(30), Some(70));
        digests.add(KeyspaceId(1), VnodeId(2), BucketId(1023), more);
        let at = |d: &BucketDigests| d.bucket(KeyspaceId(1), VnodeId(2), BucketId(1023));
        assert_eq!((at(&snapshot).0, at(&digests).0), (5, 6));
        let bytes = |d: &BucketDigests| d.holdings().next().map(|(.., h)| h.bytes);
        assert_eq!((bytes(&snapshot), bytes(&digests)), (Some(30), Some(70)));
    }

    #[test]
    fn encoding_is_canonical_and_round_trips() {
        let digests = two_entries();
        let bytes = digests.encode();
        assert_eq!(BucketDigests::decode(&bytes), Ok(digests.clone()));
        let mut emptied = digests;
        let (keyspace, vnode, bucket) = (KeyspaceId(1), VnodeId(9), BucketId(7));
        emptied.add(keyspace, vnode, bucket, change(3, None, Some(9)));
        let back = change(0u128.wrapping_sub(3), Some(9), None);
        emptied.add(keyspace, vnode, bucket, back);
        assert_eq!(emptied.encode(), bytes);
    }

    #[test]
    fn the_format_of_another_release_is_told_from_damage() {
        let mut bytes = two_entries().encode();
        bytes.splice(..4, 1u32.to_le_bytes());
        let other = BucketDigests::decode(&bytes);
        assert_eq!(other, Err(BucketDigestsInvalid::OtherFormat(1)));
    }

    #[test]
    fn altered_bytes_are_refused() {
        let bytes = two_entries().encode();
        let part = |range: std::ops::Range<usize>| bytes.get(range).expect("inside").to_vec();
        // Head, two vnodes of 30 bytes, two buckets of 24.
        let sums = 8 + 2 * 30;
        for cut in 0..bytes.len() {
            let aligned = cut >= sums && (cut - sums) % 24 == 0;
            let read = BucketDigests::decode(&part(0..cut));
            assert_eq!(read.is_ok(), aligned, "{cut}");
        }
        let swapped = [part(0..68), part(92..116), part(68..92)].concat();
        assert_eq!(
            BucketDigests::decode(&swapped),
            Err(BucketDigestsInvalid::Malformed)
        );
        let swapped = [part(0..8), part(38..68), part(8..38), part(68..116)].concat();
        assert_eq!(
            BucketDigests::decode(&swapped),
            Err(BucketDigestsInvalid::Malformed)
        );
    }
}
