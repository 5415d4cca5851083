//! The newest records of a shard, in two views: what is durable, and what is newest.
//!
//! A key's state is looked for in this order: states in flight (appended, not yet durable), the
//! active generation (durable, not in the engine), the frozen generation (on its way into the
//! engine), the cache (clean copies of what the engine holds, including known absence). Where none
//! knows, the engine must be asked. Writes merge with the newest state; client reads and replies to
//! peers' reads show the durable one and never wait for a sync (DESIGN 5, two views).
//!
//! Invariants:
//! - a generation is frozen at the durable LSN and holds durable states only: fed ahead of the log,
//!   the engine would keep what a power cut took out of the log (L5);
//! - the digests are those of the durable states, so that frozen ones fit their generation;
//! - the cache never holds a state older than what a lookup could find behind it: a key that becomes
//!   durable anew leaves the cache, and a drained generation does not overwrite newer ones.
//!
//! Not here: merging (`replica`, `put`), when to freeze (`shard`), the engine (`shell::store`).

mod page;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quorate_antientropy::{BucketDigests, DigestChange};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{BucketId, FixedMap, FixedState, Lsn};
use smallvec::SmallVec;

use super::effect::Generation;
use super::key::RecordKey;

/// Bytes that a record costs in a map beside its key and its canonical form.
const ENTRY_OVERHEAD_BYTES: u64 = 96;
/// What a batch of the log costs beside its frames at most: its header, and the rest of its last
/// block of 4 KiB. A lone writer fills the log with these.
const LOG_BATCH_BYTES: u64 = 8 * 1024;
/// Records that one call of [`Table::drain`] moves from an ingested generation to the cache.
const DRAIN_STEP: usize = 256;

/// How much memory the table may use, and when a generation is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableLimits {
    /// Bytes of the active generation at which it is frozen.
    pub generation_bytes: u64,
    /// Log bytes since the last freeze at which it is frozen, so that rewrites of few keys do not
    /// let the log grow for ever.
    pub generation_log_bytes: u64,
    /// Bytes of the cache.
    pub cache_bytes: u64,
}

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The state; `None` if the key is certainly absent.
    Known(Option<Bytes>),
    /// Only the engine knows.
    MustLoad,
}

/// A state that was appended and is not durable yet.
#[derive(Debug)]
struct Unsettled {
    lsn: Lsn,
    key: RecordKey,
    bucket: BucketId,
    change: DigestChange,
}

#[derive(Debug, Clone, Copy)]
struct ByBytes;

impl Weighter<RecordKey, Option<Bytes>> for ByBytes {
    fn weight(&self, key: &RecordKey, record: &Option<Bytes>) -> u64 {
        entry_bytes(key, record.as_ref())
    }
}

type RecordCache = Cache<
    RecordKey,
    Option<Bytes>,
    ByBytes,
    FixedState,
    DefaultLifecycle<RecordKey, Option<Bytes>>,
>;

/// The newest records of one shard.
pub struct Table {
    limits: TableLimits,
    in_flight: FixedMap<RecordKey, SmallVec<[(Lsn, Bytes); 1]>>,
    unsettled: VecDeque<Unsettled>,
    in_flight_bytes: u64,
    active: FixedMap<RecordKey, Bytes>,
    active_bytes: u64,
    log_bytes_since_freeze: u64,
    frozen: Option<Arc<FixedMap<RecordKey, Bytes>>>,
    frozen_bytes: u64,
    draining: Option<std::collections::hash_map::IntoIter<RecordKey, Bytes>>,
    /// Loaded keys whose waiting inputs are being worked off: they must not be evicted meanwhile.
    pinned: Option<(RecordKey, Option<Bytes>)>,
    cache: RecordCache,
    digests: BucketDigests,
    durable: Lsn,
    appended: Lsn,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("active_records", &self.active.len())
            .field("durable", &self.durable)
            .field("appended", &self.appended)
            .finish_non_exhaustive()
    }
}

fn entry_bytes(key: &RecordKey, record: Option<&Bytes>) -> u64 {
    let bytes = key.as_bytes().len() + record.map_or(0, Bytes::len);
    bytes as u64 + ENTRY_OVERHEAD_BYTES
}

impl Table {
    /// A table that holds what the log held beyond the engine, all of it durable at `durable`.
    #[must_use]
    pub fn new(
        limits: TableLimits,
        durable: Lsn,
        records: Vec<(RecordKey, Bytes)>,
        digests: BucketDigests,
        log_bytes: u64,
    ) -> Self {
        let items = usize::try_from(limits.cache_bytes / 512)
            .unwrap_or(usize::MAX)
            .max(16);
        let mut table = Self {
            limits,
            in_flight: FixedMap::default(),
            unsettled: VecDeque::new(),
            in_flight_bytes: 0,
            active: FixedMap::default(),
            active_bytes: 0,
            log_bytes_since_freeze: log_bytes,
            frozen: None,
            frozen_bytes: 0,
            draining: None,
            pinned: None,
            cache: Cache::with(
                items,
                limits.cache_bytes,
                ByBytes,
                FixedState,
                DefaultLifecycle::default(),
            ),
            digests,
            durable,
            appended: durable,
        };
        for (key, record) in records {
            table.activate(key, record);
        }
        table
    }

    /// Notes that `key` is now in state `record`, to be appended under `lsn`.
    ///
    /// # Panics
    /// If LSNs do not rise by one: the log would have a hole.
    pub fn append(
        &mut self,
        lsn: Lsn,
        key: RecordKey,
        bucket: BucketId,
        change: DigestChange,
        record: Bytes,
    ) {
        assert_eq!(
            lsn,
            self.appended.next(),
            "log frames are numbered without holes"
        );
        self.appended = lsn;
        let bytes = entry_bytes(&key, Some(&record));
        self.in_flight_bytes += bytes;
        self.in_flight
            .entry(key.clone())
            .or_default()
            .push((lsn, record));
        self.unsettled.push_back(Unsettled {
            lsn,
            key,
            bucket,
            change,
        });
    }

    /// Everything up to `lsn` is durable: moves the durable view.
    pub fn settle(&mut self, lsn: Lsn) {
        if self.durable < lsn {
            self.log_bytes_since_freeze += LOG_BATCH_BYTES;
        }
        self.durable = self.durable.max(lsn);
        while let Some(first) = self.unsettled.front() {
            if first.lsn > self.durable {
                break;
            }
            let Some(Unsettled {
                lsn,
                key,
                bucket,
                change,
            }) = self.unsettled.pop_front()
            else {
                break;
            };
            self.digests
                .add(key.keyspace(), key.vnode(), bucket, change);
            let states = self
                .in_flight
                .get_mut(&key)
                .expect("an unsettled key is in flight");
            let (oldest, record) = states.remove(0);
            assert_eq!(
                oldest, lsn,
                "a key's states settle in the order they were appended"
            );
            if states.is_empty() {
                self.in_flight.remove(&key);
            }
            let bytes = entry_bytes(&key, Some(&record));
            self.in_flight_bytes -= bytes;
            // Large records go in parts, each with a batch of its own.
            self.log_bytes_since_freeze += bytes + bytes / 32;
            self.cache.remove(&key);
            self.activate(key, record);
        }
    }

    fn activate(&mut self, key: RecordKey, record: Bytes) {
        self.active_bytes += entry_bytes(&key, Some(&record));
        let key_bytes = key.as_bytes().len();
        if let Some(old) = self.active.insert(key, record) {
            self.active_bytes -= (key_bytes + old.len()) as u64 + ENTRY_OVERHEAD_BYTES;
        }
    }

    /// Keeps what the engine said about `key`, at least until [`Table::unpin`].
    pub fn pin(&mut self, key: RecordKey, record: Option<Bytes>) {
        self.pinned = Some((key, record));
    }

    /// Lets the pinned key go to the cache.
    pub fn unpin(&mut self) {
        if let Some((key, record)) = self.pinned.take() {
            self.cache_clean(key, record);
        }
    }

    fn cache_clean(&mut self, key: RecordKey, record: Option<Bytes>) {
        let newer = self.active.contains_key(&key)
            || self
                .frozen
                .as_ref()
                .is_some_and(|frozen| frozen.contains_key(&key));
        if !newer {
            self.cache.insert(key, record);
        }
    }

    /// The newest state, with its LSN if it is still in flight.
    #[must_use]
    pub fn newest(&self, key: &RecordKey) -> Lookup {
        match self.in_flight.get(key).and_then(|states| states.last()) {
            Some((_, record)) => Lookup::Known(Some(record.clone())),
            None => self.durable(key),
        }
    }

    /// The state at the durable LSN.
    #[must_use]
    pub fn durable(&self, key: &RecordKey) -> Lookup {
        if let Some(record) = self.active.get(key) {
            return Lookup::Known(Some(record.clone()));
        }
        if let Some(record) = self.frozen.as_ref().and_then(|frozen| frozen.get(key)) {
            return Lookup::Known(Some(record.clone()));
        }
        if let Some((pinned, record)) = &self.pinned
            && pinned == key
        {
            return Lookup::Known(record.clone());
        }
        self.cache
            .get(key)
            .map_or(Lookup::MustLoad, |record| Lookup::Known(record.clone()))
    }

    /// Freezes the active generation if it is due and the last one has been ingested.
    pub fn freeze_if_due(&mut self) -> Option<Generation> {
        let due = self.active_bytes >= self.limits.generation_bytes
            || self.log_bytes_since_freeze >= self.limits.generation_log_bytes;
        (due && self.frozen.is_none() && !self.active.is_empty()).then(|| self.freeze())
    }

    fn freeze(&mut self) -> Generation {
        let mut applied = self.durable;
        if planted(Bug::EngineFedAhead) {
            applied = self.appended;
            #[expect(
                clippy::iter_over_hash_type,
                reason = "fills another map: the order is lost"
            )]
            for (key, states) in &self.in_flight {
                if let Some((_, record)) = states.last() {
                    self.active.insert(key.clone(), record.clone());
                }
            }
        }
        let records = Arc::new(std::mem::take(&mut self.active));
        self.frozen_bytes = std::mem::take(&mut self.active_bytes);
        self.log_bytes_since_freeze = 0;
        self.frozen = Some(Arc::clone(&records));
        Generation {
            applied,
            records,
            digests: self.digests.clone(),
        }
    }

    /// The frozen generation is visible in the engine: its records become clean.
    pub fn ingested(&mut self) {
        self.frozen_bytes = 0;
        // An older generation that is still being drained would bring back what this one replaced.
        self.draining = self.frozen.take().map(|frozen| {
            Arc::try_unwrap(frozen)
                .unwrap_or_else(|shared| (*shared).clone())
                .into_iter()
        });
    }

    /// Moves some ingested records to the cache; false when none are left.
    pub fn drain(&mut self) -> bool {
        let Some(mut draining) = self.draining.take() else {
            return false;
        };
        for (key, record) in draining.by_ref().take(DRAIN_STEP) {
            self.cache_clean(key, Some(record));
        }
        if draining.len() > 0 {
            self.draining = Some(draining);
        }
        self.draining.is_some()
    }

    /// Whether writes have room in table and log: otherwise they are refused before they are minted.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let behind = self.active_bytes + self.in_flight_bytes < 2 * self.limits.generation_bytes;
        let log_bytes = self.log_bytes_since_freeze + self.in_flight_bytes;
        let log = log_bytes < 2 * self.limits.generation_log_bytes;
        behind && log
    }

    /// LSN of the newest appended state.
    #[must_use]
    pub fn appended(&self) -> Lsn {
        self.appended
    }

    /// Everything up to here is durable.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.durable
    }

    /// Records that are not in the engine.
    #[must_use]
    pub fn records(&self) -> usize {
        self.active.len() + self.frozen.as_ref().map_or(0, |frozen| frozen.len())
    }

    /// Bytes of these records and of what is in flight.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.active_bytes + self.frozen_bytes + self.in_flight_bytes
    }

    /// Bytes of the cache.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// Durable records of the vnode of `after` that the engine does not have yet, with keys after `after`, in key
    /// order: what a scan must lay over the engine's page. At most `limit`. O(records).
    #[must_use]
    pub fn durable_after(&self, after: &RecordKey, limit: usize) -> Vec<(RecordKey, Bytes)> {
        let vnode = after.range();
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.iter());
        // Active records are listed last, so that they replace frozen ones of the same key.
        let found: std::collections::BTreeMap<&RecordKey, &Bytes> = frozen
            .chain(self.active.iter())
            .filter(|(key, _)| *key > after && key.range() == vnode)
            .collect();
        found
            .into_iter()
            .take(limit)
            .map(|(k, r)| (k.clone(), r.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use quorate_ring::{KeyspaceId, VnodeId};

    use super::*;

    const LIMITS: TableLimits = TableLimits {
        generation_bytes: 32 << 20,
        generation_log_bytes: 96 << 20,
        cache_bytes: 1 << 20,
    };

    fn key(name: &str) -> RecordKey {
        RecordKey::new(KeyspaceId(1), VnodeId(0), name.as_bytes())
    }

    fn append(table: &mut Table, name: &str, record: &'static [u8]) -> Lsn {
        let lsn = table.appended().next();
        let change = DigestChange::default();
        table.append(
            lsn,
            key(name),
            BucketId(0),
            change,
            Bytes::from_static(record),
        );
        lsn
    }

    /// Each write of a lone writer is a batch of its own and takes a block of the log.
    #[test]
    fn a_lone_writer_of_one_small_key_fills_the_log_and_is_frozen_in_time() {
        let mut table = Table::new(LIMITS, Lsn(1), vec![], BucketDigests::default(), 0);
        let mut writes = 0u64;
        while table.freeze_if_due().is_none() {
            let lsn = append(&mut table, "k", b"v");
            table.settle(lsn);
            writes += 1;
            assert!(
                writes * 4096 <= 2 * LIMITS.generation_log_bytes,
                "the log would be full"
            );
        }
    }

    #[test]
    fn an_ingested_generation_does_not_overwrite_what_is_newer() {
        let limits = TableLimits {
            generation_bytes: 1,
            ..LIMITS
        };
        let mut table = Table::new(limits, Lsn(1), vec![], BucketDigests::default(), 0);
        let lsn = append(&mut table, "k", b"old");
        table.settle(lsn);
        drop(table.freeze_if_due().expect("it is due"));
        let lsn = append(&mut table, "k", b"new");
        table.settle(lsn);
        table.ingested();
        while table.drain() {}
        drop(table.freeze_if_due().expect("it is due"));
        table.ingested();
        while table.drain() {}
        assert_eq!(
            table.durable(&key("k")),
            Lookup::Known(Some(Bytes::from_static(b"new")))
        );
    }
}
