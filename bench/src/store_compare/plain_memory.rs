//! What the plain arrangement keeps in memory: a cache of records, the states in flight, the sums.
//!
//! A durable record is in the tree as soon as it is durable, so there are no generations. Records
//! over the bound leave by a clock with a second chance, as those of the product's table do.
//!
//! Kept small and kind to the plain arrangement: one look-up by hash, one array of sums.

use std::cell::Cell;
use std::collections::VecDeque;

use bytes::Bytes;
use quorate_antientropy::{BUCKETS, BucketDigest, Holdings, RecordChange};
use quorate_node::core::key::RecordKey;
use quorate_node::core::table::Lookup;
use quorate_ring::{BucketId, FixedMap, Lsn, VnodeId};

/// Bytes that a cached record is counted for beyond its content, as in the product's table.
const ENTRY_OVERHEAD_BYTES: u64 = 192;

/// Keys that one call of [`PlainMemory::trim`] looks at.
const TRIM_STEPS: usize = 2_048;

/// Bytes of the sums of a bucket, as they are stored.
pub(super) const SUM_BYTES: usize = 40;

#[derive(Debug)]
struct Held {
    durable: Option<Bytes>,
    newest: Lsn,
    used: Cell<bool>,
}

#[derive(Debug)]
struct Unsettled {
    lsn: Lsn,
    key: RecordKey,
    record: Bytes,
}

/// Sums of one bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    digest: BucketDigest,
    holdings: Holdings,
}

/// Records and sums of one shard.
#[derive(Debug)]
pub struct PlainMemory {
    held: FixedMap<RecordKey, Held>,
    clock: VecDeque<RecordKey>,
    unsettled: VecDeque<Unsettled>,
    sums: Vec<Sum>,
    bytes: u64,
    bytes_max: u64,
    appended: Lsn,
}

impl PlainMemory {
    /// Nothing in memory; the tree holds everything up to `durable`.
    #[must_use]
    pub fn new(bytes_max: u64, vnodes: usize, durable: Lsn) -> Self {
        Self {
            held: FixedMap::default(),
            clock: VecDeque::new(),
            unsettled: VecDeque::new(),
            sums: vec![Sum::default(); vnodes * BUCKETS],
            bytes: 0,
            bytes_max,
            appended: durable,
        }
    }

    /// Takes in the stored sums of a bucket.
    pub(super) fn put_sum(&mut self, number: u32, stored: [u8; SUM_BYTES]) {
        if let Some(sum) = self.sums.get_mut(number as usize) {
            *sum = Sum::from_bytes(stored);
        }
    }

    /// Notes what the tree said about a key.
    pub(super) fn hold(&mut self, key: RecordKey, record: Option<Bytes>) {
        if self.held.contains_key(&key) {
            return;
        }
        self.bytes += entry_bytes(record.as_ref());
        self.clock.push_back(key.clone());
        let held = Held {
            durable: record,
            newest: Lsn::ZERO,
            used: Cell::new(false),
        };
        self.held.insert(key, held);
    }

    /// Makes `record` the newest state of a held key; gives its LSN.
    pub(super) fn append(&mut self, key: &RecordKey, record: Bytes) -> Lsn {
        self.appended = self.appended.next();
        let held = self.held.get_mut(key);
        held.expect("a key is known before it is written").newest = self.appended;
        self.unsettled.push_back(Unsettled {
            lsn: self.appended,
            key: key.clone(),
            record,
        });
        self.appended
    }

    /// Moves the sums of a bucket; gives its number and what is to be stored.
    pub(super) fn add(
        &mut self,
        vnode: VnodeId,
        bucket: BucketId,
        change: RecordChange,
    ) -> (u32, [u8; SUM_BYTES]) {
        let number = u32::from(vnode.0) * u32::try_from(BUCKETS).unwrap_or(0) + u32::from(bucket.0);
        let Some(sum) = self.sums.get_mut(number as usize) else {
            return (number, [0; SUM_BYTES]);
        };
        sum.digest = sum.digest.after(change.digest);
        sum.holdings = sum.holdings.after(change.holdings);
        (number, sum.to_bytes())
    }

    /// Everything up to `lsn` is durable.
    pub(super) fn settle(&mut self, lsn: Lsn) {
        while let Some(Unsettled { key, record, .. }) =
            self.unsettled.pop_front_if(|first| first.lsn <= lsn)
        {
            if let Some(held) = self.held.get_mut(&key) {
                self.bytes -= entry_bytes(held.durable.as_ref());
                self.bytes += entry_bytes(Some(&record));
                held.durable = Some(record);
            }
        }
    }

    /// The newest state of a key.
    pub(super) fn newest(&self, key: &RecordKey) -> Lookup {
        let Some(held) = self.held.get(key) else {
            return Lookup::MustLoad;
        };
        held.used.set(true);
        let newest = self.in_flight(held.newest).or(held.durable.as_ref());
        Lookup::Known(newest.cloned())
    }

    fn in_flight(&self, lsn: Lsn) -> Option<&Bytes> {
        let first = self.unsettled.front()?.lsn;
        let place = usize::try_from(lsn.0.checked_sub(first.0)?).ok()?;
        self.unsettled.get(place).map(|unsettled| &unsettled.record)
    }

    /// Lets records go that are over the bound.
    pub(super) fn trim(&mut self) {
        let first = self.unsettled.front().map_or(Lsn(u64::MAX), |u| u.lsn);
        for _ in 0..TRIM_STEPS {
            if self.bytes <= self.bytes_max {
                return;
            }
            let Some(key) = self.clock.pop_front() else {
                return;
            };
            let leaves = |held: &Held| held.newest < first && !held.used.replace(false);
            if self.held.get(&key).is_some_and(leaves) {
                let gone = self.held.remove(&key).and_then(|held| held.durable);
                self.bytes -= entry_bytes(gone.as_ref());
            } else {
                self.clock.push_back(key);
            }
        }
    }
}

impl Sum {
    fn to_bytes(self) -> [u8; SUM_BYTES] {
        let Holdings {
            keys,
            tombstones,
            bytes,
        } = self.holdings;
        let mut all = [0; SUM_BYTES];
        let (digest, rest) = all.split_at_mut(16);
        digest.copy_from_slice(&self.digest.0.to_le_bytes());
        let numbers = [keys, tombstones, bytes];
        for (place, number) in rest.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        all
    }

    fn from_bytes(stored: [u8; SUM_BYTES]) -> Self {
        let (digest, rest) = stored.split_at(16);
        let number = |place: &[u8]| u64::from_le_bytes(place.try_into().unwrap_or_default());
        let mut numbers = rest.chunks_exact(8).map(number);
        let mut next = || numbers.next().unwrap_or(0);
        Self {
            digest: BucketDigest(u128::from_le_bytes(digest.try_into().unwrap_or_default())),
            holdings: Holdings {
                keys: next(),
                tombstones: next(),
                bytes: next(),
            },
        }
    }
}

fn entry_bytes(record: Option<&Bytes>) -> u64 {
    record.map_or(0, Bytes::len) as u64 + ENTRY_OVERHEAD_BYTES
}
