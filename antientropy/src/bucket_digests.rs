//! Digests of all buckets that a shard holds, 1,024 sums per (keyspace, vnode), what each of these
//! vnodes holds in number and bytes, and its purge numbers.
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
use crate::purge_numbers::{PurgeNumber, PurgeNumbers};

/// Buckets of a vnode.
pub const BUCKETS: usize = 1 << quorate_ring::BUCKET_BITS;

/// Version of the encoding.
const FORMAT: u32 = 3;

/// The one before, without purge numbers.
const FORMAT_WITHOUT_NUMBERS: u32 = 2;

type Entry = (KeyspaceId, VnodeId, BucketId, u128);
type VnodeEntry = (KeyspaceId, VnodeId, Holdings);
type NumbersEntry = (KeyspaceId, VnodeId, PurgeNumbers);
type Sums = [BucketDigest; BUCKETS];

/// Bytes of an encoded sum.
const SUM_BYTES: usize = size_of::<KeyspaceId>()
    + size_of::<VnodeId>()
    + size_of::<BucketId>()
    + size_of::<BucketDigest>();

/// Bytes of the format and of the two counts.
const COUNTS_BYTES: usize = 3 * size_of::<u32>();

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

/// What makes the sums of a vnode those of the records that were read of it. Sums wrap, so that it
/// is right whatever is written before it is applied; applied twice it is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SumsCorrection {
    /// To the digests of buckets.
    pub buckets: Vec<(BucketId, DigestChange)>,
    /// To the number of keys, of tombstones and of bytes, each added with wrapping.
    pub holdings: Holdings,
}

/// Bucket digests and holdings of every (keyspace, vnode). A clone is a cheap snapshot.
#[derive(Debug, Clone, Default)]
pub struct BucketDigests {
    vnodes: BTreeMap<(KeyspaceId, VnodeId), Arc<VnodeSums>>,
    /// Where a round was; few entries, so that a snapshot stays cheap.
    numbers: Arc<BTreeMap<(KeyspaceId, VnodeId), PurgeNumbers>>,
}

/// Why bytes are not read as bucket digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketDigestsInvalid {
    /// They have the format of another release.
    #[error("format {0}, and this release reads formats {FORMAT_WITHOUT_NUMBERS} and {FORMAT}")]
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

    /// Applies a correction to a vnode.
    pub fn correct(&mut self, keyspace: KeyspaceId, vnode: VnodeId, correction: &SumsCorrection) {
        let sums = self.vnodes.entry((keyspace, vnode)).or_default();
        let sums = Arc::make_mut(sums);
        for (bucket, change) in &correction.buckets {
            if let Some(sum) = sums.buckets.get_mut(usize::from(bucket.0)) {
                *sum = sum.after(*change);
            }
        }
        sums.holdings = sums.holdings.and(correction.holdings);
        sums.changes += 1;
    }

    /// Raises the purge numbers of a vnode to these; neither falls.
    pub fn raise(&mut self, keyspace: KeyspaceId, vnode: VnodeId, numbers: PurgeNumbers) {
        let known = Arc::make_mut(&mut self.numbers);
        let known = known.entry((keyspace, vnode)).or_default();
        *known = known.highest(numbers);
    }

    /// The purge numbers of a vnode.
    #[must_use]
    pub fn numbers(&self, keyspace: KeyspaceId, vnode: VnodeId) -> PurgeNumbers {
        let known = self.numbers.get(&(keyspace, vnode));
        known.copied().unwrap_or_default()
    }

    /// The purge numbers of every vnode that has had a round, in order.
    pub fn all_numbers(&self) -> impl Iterator<Item = (KeyspaceId, VnodeId, PurgeNumbers)> + '_ {
        let all = self.numbers.iter();
        all.map(|(&(keyspace, vnode), &numbers)| (keyspace, vnode, numbers))
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
        // Of a large node these are tens of MiB: counted first, they are not copied again and again
        // while they grow.
        let sums = self.iter().count();
        let mut bytes = Vec::with_capacity(
            self.vnodes.len() * size_of::<VnodeEntry>()
                + self.numbers.len() * size_of::<NumbersEntry>()
                + sums * SUM_BYTES
                + COUNTS_BYTES,
        );
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        let vnodes = u32::try_from(self.holdings().count()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&vnodes.to_le_bytes());
        for (keyspace, vnode, holdings) in self.holdings() {
            bytes.extend_from_slice(&keyspace.0.to_le_bytes());
            bytes.extend_from_slice(&vnode.0.to_le_bytes());
            bytes.extend_from_slice(&holdings.keys.to_le_bytes());
            bytes.extend_from_slice(&holdings.tombstones.to_le_bytes());
            bytes.extend_from_slice(&holdings.bytes.to_le_bytes());
        }
        let numbers = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&numbers.to_le_bytes());
        for (keyspace, vnode, PurgeNumbers { number, floor }) in self.all_numbers() {
            bytes.extend_from_slice(&keyspace.0.to_le_bytes());
            bytes.extend_from_slice(&vnode.0.to_le_bytes());
            bytes.extend_from_slice(&number.0.to_le_bytes());
            bytes.extend_from_slice(&floor.0.to_le_bytes());
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
        let has_numbers = match u32::from_le_bytes(*format) {
            FORMAT => true,
            FORMAT_WITHOUT_NUMBERS => false,
            other => return Err(BucketDigestsInvalid::OtherFormat(other)),
        };
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
        if has_numbers {
            rest = digests
                .decode_numbers(rest)
                .ok_or(BucketDigestsInvalid::Malformed)?;
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

    /// Reads the purge numbers at the start of `bytes`; gives the rest.
    fn decode_numbers<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (count, mut rest) = bytes.split_first_chunk()?;
        let mut last = None;
        let known = Arc::make_mut(&mut self.numbers);
        for _ in 0..u32::from_le_bytes(*count) {
            let ((keyspace, vnode, numbers), after) = Self::decode_numbers_entry(rest)?;
            let place = Some((keyspace, vnode));
            if last >= place || numbers.floor > numbers.number {
                return None;
            }
            known.insert((keyspace, vnode), numbers);
            last = place;
            rest = after;
        }
        Some(rest)
    }

    fn decode_numbers_entry(bytes: &[u8]) -> Option<(NumbersEntry, &[u8])> {
        let (keyspace, bytes) = bytes.split_first_chunk()?;
        let (vnode, bytes) = bytes.split_first_chunk()?;
        let (number, bytes) = bytes.split_first_chunk()?;
        let (floor, bytes) = bytes.split_first_chunk()?;
        let numbers = PurgeNumbers {
            number: PurgeNumber(u64::from_le_bytes(*number)),
            floor: PurgeNumber(u64::from_le_bytes(*floor)),
        };
        let keyspace = KeyspaceId(u32::from_le_bytes(*keyspace));
        let vnode = VnodeId(u16::from_le_bytes(*vnode));
        Some(((keyspace, vnode, numbers), bytes))
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

/// Equal if every bucket, count and purge number is: a vnode that was emptied equals one that never
/// had a record.
impl PartialEq for BucketDigests {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
            && self.holdings().eq(other.holdings())
            && self.numbers == other.numbers
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
        let (number, floor) = (PurgeNumber(7), PurgeNumber(6));
        let numbers = PurgeNumbers { number, floor };
        digests.raise(KeyspaceId(1), VnodeId(3), numbers);
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
    fn the_format_without_purge_numbers_is_still_read() {
        let digests = two_entries();
        let mut bytes = digests.encode();
        // Their count and one entry stand between vnodes and buckets.
        bytes.drain(68..68 + 4 + 22);
        bytes.splice(..4, 2u32.to_le_bytes());
        let read = BucketDigests::decode(&bytes).expect("it is read");
        assert!(read.iter().eq(digests.iter()) && read.holdings().eq(digests.holdings()));
        assert_eq!(read.all_numbers().count(), 0);
    }

    #[test]
    fn purge_numbers_never_fall() {
        let mut digests = two_entries();
        let lower = PurgeNumbers {
            number: PurgeNumber(9),
            floor: PurgeNumber(2),
        };
        digests.raise(KeyspaceId(1), VnodeId(3), lower);
        let now = digests.numbers(KeyspaceId(1), VnodeId(3));
        assert_eq!((now.number, now.floor), (PurgeNumber(9), PurgeNumber(6)));
    }

    #[test]
    fn altered_bytes_are_refused() {
        let bytes = two_entries().encode();
        let part = |range: std::ops::Range<usize>| bytes.get(range).expect("inside").to_vec();
        // Head, two vnodes of 30 bytes, one pair of purge numbers of 22, two buckets of 24.
        let sums = 8 + 2 * 30 + 4 + 22;
        for cut in 0..bytes.len() {
            let aligned = cut >= sums && (cut - sums) % 24 == 0;
            let read = BucketDigests::decode(&part(0..cut));
            assert_eq!(read.is_ok(), aligned, "{cut}");
        }
        let swapped = [part(0..94), part(118..142), part(94..118)].concat();
        assert_eq!(
            BucketDigests::decode(&swapped),
            Err(BucketDigestsInvalid::Malformed)
        );
        let swapped = [part(0..8), part(38..68), part(8..38), part(68..142)].concat();
        assert_eq!(
            BucketDigests::decode(&swapped),
            Err(BucketDigestsInvalid::Malformed)
        );
    }
}
