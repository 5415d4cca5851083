//! The newest records of a shard, in two views: what is durable, and what is newest.
//!
//! A key has one entry, with its durable state and, while any is in flight (appended, not yet
//! durable), its newest one. A durable state is *dirty* until the generation that it belongs to is
//! in the engine; clean ones are the record cache, also of known absence. Of a key without an entry
//! only the engine knows; of those that left memory their digests stay for a while (`left`), and
//! are enough to write what was made on exactly that record: such an entry has no durable state
//! until that write is durable. Writes merge with the newest state; client reads and replies to
//! peers' reads show the durable one and never wait for a sync (DESIGN 5, two views).
//!
//! Invariants:
//! - a generation is frozen at the durable LSN and holds durable states only: fed ahead of the log,
//!   the engine would keep what a power cut took out of the log (L5);
//! - the digests are those of the durable states, so that frozen ones fit their generation;
//! - an entry leaves only while it is clean and nothing of it is in flight, and only in
//!   [`Table::trim`]: within a step, what was looked up stays.
//!
//! Not here: merging (`replica`, `put`), when to freeze (`shard`), the engine (`shell::store`).

mod left;
mod page;
mod slots;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use quorate_antientropy::{
    BucketDigests, Digest, DigestSecret, PurgeNumbers, RecordChange, SumsCorrection,
};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{BucketId, KeyspaceId, Lsn, VnodeId};

pub use self::left::HeldDigest;
use self::left::LeftRecords;
use self::page::KeyOrders;
use self::slots::{Entry, Slot, Slots};
use super::generation::{Generation, GenerationRows, Row};
use super::key::RecordKey;

/// Bytes that a record costs beside its canonical form: its entry, its place in the index, its
/// count of references and the rest of its size class.
const ENTRY_OVERHEAD_BYTES: u64 = 192;
/// What a batch of the log costs beside its frames at most: its header, and the rest of its last
/// block of 4 KiB. A lone writer fills the log with these.
const LOG_BATCH_BYTES: u64 = 8 * 1024;
/// What a frame of the log costs beside the record at most: header, bucket, digest change.
const LOG_FRAME_BYTES: u64 = 64;
/// What a frame that corrects a vnode's sums costs at most.
const LOG_CORRECTION_BYTES: u64 = 1024;
/// Steps of one call of [`Table::trim`]: a step looks at an entry, or at so many bytes of one.
const TRIM_STEPS: usize = 2_048;
const TRIM_STEP_BYTES: u64 = 1_024;

/// How much memory the table may use, and when a generation is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableLimits {
    /// Bytes of the active generation at which it is frozen.
    pub generation_bytes: u64,
    /// Log bytes since the last freeze at which it is frozen, so that rewrites of few keys do not
    /// let the log grow for ever.
    pub generation_log_bytes: u64,
    /// Bytes of clean records.
    pub cache_bytes: u64,
    /// Bytes for digests of records that left memory.
    pub digest_cache_bytes: u64,
}

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The state; `None` if the key is certainly absent.
    Known(Option<Bytes>),
    /// Only the engine knows.
    MustLoad,
}

/// A state that was appended and is not durable yet, in the order of the LSNs. All of a key's are
/// kept: one per batch in flight, else the durable view would stand still under a key that is in
/// every batch (L9).
#[derive(Debug)]
struct Unsettled {
    lsn: Lsn,
    step: Step,
}

/// What one frame of the log changes.
#[derive(Debug)]
enum Step {
    /// A key's state; of no bytes where it is absent from there on.
    Record {
        slot: Slot,
        bucket: BucketId,
        change: RecordChange,
        record: Bytes,
    },
    /// The purge numbers of a vnode of a keyspace.
    Numbers {
        keyspace: KeyspaceId,
        vnode: VnodeId,
        numbers: PurgeNumbers,
    },
    /// The sums of a vnode of a keyspace are corrected.
    Sums {
        keyspace: KeyspaceId,
        vnode: VnodeId,
        correction: SumsCorrection,
    },
}

/// What is known of a key whose newest frame says this: a purged key is known to be absent.
fn present(record: &Bytes) -> Option<Bytes> {
    (!record.is_empty()).then(|| record.clone())
}

/// Bytes by what is to become of them.
#[derive(Debug, Default)]
struct Sizes {
    in_flight: u64,
    active: u64,
    /// Of the frozen generation, as it was frozen.
    frozen: u64,
    /// Of the frozen generation, what is still a key's durable state.
    frozen_newest: u64,
    clean: u64,
}

/// The newest records of one shard.
pub struct Table {
    limits: TableLimits,
    slots: Slots,
    left: LeftRecords,
    unsettled: VecDeque<Unsettled>,
    active: GenerationRows,
    frozen: Option<Arc<GenerationRows>>,
    /// Rows that the engine holds and nothing needs any more.
    leaving: GenerationRows,
    active_orders: KeyOrders,
    frozen_orders: KeyOrders,
    /// Number of the active generation, from 1.
    generation: u32,
    /// The newest generation that the engine holds.
    ingested: u32,
    sizes: Sizes,
    log_bytes_since_freeze: u64,
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
    let bytes = key.heap_bytes() + record.map_or(0, Bytes::len);
    bytes as u64 + ENTRY_OVERHEAD_BYTES
}

impl Table {
    /// A table that holds what the log held beyond the engine, all of it durable at `durable`.
    #[must_use]
    pub fn new(
        limits: TableLimits,
        durable: Lsn,
        records: Vec<Row>,
        digests: BucketDigests,
        log_bytes: u64,
    ) -> Self {
        let mut table = Self {
            limits,
            slots: Slots::default(),
            left: LeftRecords::new(limits.digest_cache_bytes),
            unsettled: VecDeque::new(),
            active: GenerationRows::default(),
            frozen: None,
            leaving: GenerationRows::default(),
            active_orders: KeyOrders::default(),
            frozen_orders: KeyOrders::default(),
            generation: 1,
            ingested: 0,
            sizes: Sizes::default(),
            log_bytes_since_freeze: log_bytes,
            digests,
            durable,
            appended: durable,
        };
        for (key, record) in records {
            table.hold(key.clone(), None);
            let slot = table.slots.find(&key).expect("it was just put there");
            table.activate(slot, record);
        }
        table
    }

    /// Notes what the engine said about `key`, unless something newer is known.
    pub fn hold(&mut self, key: RecordKey, record: Option<Bytes>) {
        let Some(slot) = self.slots.find(&key) else {
            self.sizes.clean += entry_bytes(&key, record.as_ref());
            self.slots.insert(Entry::new(key, record));
            return;
        };
        let entry = self.slots.held(slot);
        if entry.is_unseen {
            self.sizes.clean += record.as_ref().map_or(0, Bytes::len) as u64;
            entry.durable = record;
            entry.is_unseen = false;
        }
    }

    /// Notes that `key` is about to be appended by someone who did not look at what the engine
    /// holds of it; does nothing if its state is known.
    pub fn hold_unseen(&mut self, key: &RecordKey) {
        if self.slots.find(key).is_none() {
            self.sizes.clean += entry_bytes(key, None);
            self.slots.insert(Entry::unseen(key.clone()));
        }
    }

    /// What the engine holds of a key whose durable state is not in memory, if its digest is.
    #[must_use]
    pub fn left(&self, key: &RecordKey) -> Option<HeldDigest> {
        let slot = self.slots.find(key);
        let entry = slot.and_then(|slot| self.slots.entry(slot));
        if entry.is_some_and(|entry| !entry.is_unseen) {
            return None;
        }
        self.left.get(key)
    }

    /// Notes that `key` is now in state `record`, to be appended under `lsn`.
    ///
    /// # Panics
    /// If LSNs do not rise by one: the log would have a hole. If the key is not held, known or
    /// unseen: nobody could have merged with its state, or told that it need not be.
    pub fn append(
        &mut self,
        lsn: Lsn,
        key: &RecordKey,
        bucket: BucketId,
        change: RecordChange,
        record: Bytes,
    ) {
        self.number(lsn);
        self.sizes.in_flight += entry_bytes(key, Some(&record));
        let slot = self
            .slots
            .find(key)
            .expect("a key is known before it is written");
        self.slots.held(slot).newest = lsn;
        let step = Step::Record {
            slot,
            bucket,
            change,
            record,
        };
        self.unsettled.push_back(Unsettled { lsn, step });
    }

    /// Notes that the purge numbers of a vnode rise to these, to be appended under `lsn`.
    ///
    /// # Panics
    /// If LSNs do not rise by one.
    pub fn append_numbers(
        &mut self,
        lsn: Lsn,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        numbers: PurgeNumbers,
    ) {
        self.number(lsn);
        let step = Step::Numbers {
            keyspace,
            vnode,
            numbers,
        };
        self.unsettled.push_back(Unsettled { lsn, step });
    }

    /// Notes that the sums of a vnode are corrected, to be appended under `lsn`.
    ///
    /// # Panics
    /// If LSNs do not rise by one.
    pub fn append_correction(
        &mut self,
        lsn: Lsn,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        correction: SumsCorrection,
    ) {
        self.number(lsn);
        let step = Step::Sums {
            keyspace,
            vnode,
            correction,
        };
        self.unsettled.push_back(Unsettled { lsn, step });
    }

    fn number(&mut self, lsn: Lsn) {
        assert_eq!(
            lsn,
            self.appended.next(),
            "log frames are numbered without holes"
        );
        self.appended = lsn;
    }

    /// Everything up to `lsn` is durable: moves the durable view.
    pub fn settle(&mut self, lsn: Lsn) {
        if self.durable < lsn {
            self.log_bytes_since_freeze += LOG_BATCH_BYTES;
        }
        self.durable = self.durable.max(lsn);
        let settled = |first: &mut Unsettled| first.lsn <= lsn;
        while let Some(Unsettled { lsn: _, step }) = self.unsettled.pop_front_if(settled) {
            let (slot, bucket, change, record) = match step {
                Step::Record {
                    slot,
                    bucket,
                    change,
                    record,
                } => (slot, bucket, change, record),
                Step::Numbers {
                    keyspace,
                    vnode,
                    numbers,
                } => {
                    self.digests.raise(keyspace, vnode, numbers);
                    self.log_bytes_since_freeze += LOG_FRAME_BYTES;
                    continue;
                }
                Step::Sums {
                    keyspace,
                    vnode,
                    correction,
                } => {
                    self.digests.correct(keyspace, vnode, &correction);
                    self.log_bytes_since_freeze += LOG_CORRECTION_BYTES;
                    continue;
                }
            };
            let entry = self.slots.held(slot);
            let key = &entry.key;
            self.digests
                .add(key.keyspace(), key.vnode(), bucket, change);
            self.sizes.in_flight -= entry_bytes(key, Some(&record));
            let frame = (key.as_bytes().len() + record.len()) as u64 + LOG_FRAME_BYTES;
            // Large records go in parts, each with a batch of its own.
            self.log_bytes_since_freeze += frame + frame / 32;
            self.activate(slot, record);
        }
    }

    /// Makes `record` the durable state of an entry, in the active generation.
    fn activate(&mut self, slot: Slot, record: Bytes) {
        let entry = self.slots.held(slot);
        let old = entry_bytes(&entry.key, entry.durable.as_ref());
        let place = if entry.generation == self.generation {
            self.sizes.active -= old;
            self.active.replace(&entry.key, entry.row, record.clone());
            entry.row
        } else {
            if entry.generation > self.ingested {
                self.sizes.frozen_newest -= old;
            } else {
                self.sizes.clean -= old;
            }
            self.active.push(entry.key.clone(), record.clone())
        };
        self.sizes.active += entry_bytes(&entry.key, Some(&record));
        entry.generation = self.generation;
        entry.row = place;
        entry.durable = present(&record);
        entry.is_unseen = false;
    }

    /// The newest state, in flight or durable.
    #[must_use]
    pub fn newest(&self, key: &RecordKey) -> Lookup {
        self.slots.get(key).map_or(Lookup::MustLoad, |entry| {
            let newest = self.in_flight(entry.newest).map(present);
            newest.map_or_else(|| entry.durable(), Lookup::Known)
        })
    }

    /// The state that was appended under `lsn`, if it is not durable yet.
    fn in_flight(&self, lsn: Lsn) -> Option<&Bytes> {
        let first = self.unsettled.front()?.lsn;
        let place = usize::try_from(lsn.0.checked_sub(first.0)?).ok()?;
        match &self.unsettled.get(place)?.step {
            Step::Record { record, .. } => Some(record),
            Step::Numbers { .. } | Step::Sums { .. } => None,
        }
    }

    /// Digests and holdings at the durable LSN.
    #[must_use]
    pub const fn digests(&self) -> &BucketDigests {
        &self.digests
    }

    /// The state at the durable LSN.
    #[must_use]
    pub fn durable(&self, key: &RecordKey) -> Lookup {
        self.slots.get(key).map_or(Lookup::MustLoad, Entry::durable)
    }

    /// Freezes the active generation if it is due and the last one has been ingested.
    pub fn freeze_if_due(&mut self) -> Option<Generation> {
        let due = self.sizes.active >= self.limits.generation_bytes
            || self.log_bytes_since_freeze >= self.limits.generation_log_bytes;
        // Purge numbers alone may fill the log too.
        let has_some = !self.active.is_empty() || self.log_bytes_since_freeze > 0;
        (due && self.frozen.is_none() && has_some).then(|| self.freeze())
    }

    fn freeze(&mut self) -> Generation {
        let mut applied = self.durable;
        if planted(Bug::EngineFedAhead) {
            applied = self.appended;
            let states = self.unsettled.iter().filter_map(|u| match &u.step {
                Step::Record { slot, record, .. } => Some((*slot, record.clone())),
                Step::Numbers { .. } | Step::Sums { .. } => None,
            });
            for (slot, record) in states.collect::<Vec<_>>() {
                self.activate(slot, record);
            }
        }
        let next = GenerationRows::like(&self.active);
        let rows = Arc::new(std::mem::replace(&mut self.active, next));
        self.generation += 1;
        self.sizes.frozen = std::mem::take(&mut self.sizes.active);
        self.sizes.frozen_newest = self.sizes.frozen;
        self.log_bytes_since_freeze = 0;
        self.frozen = Some(Arc::clone(&rows));
        self.frozen_orders = std::mem::take(&mut self.active_orders);
        Generation {
            applied,
            rows,
            digests: self.digests.clone(),
        }
    }

    /// The frozen generation is visible in the engine: its records are clean from now on.
    pub fn ingested(&mut self) {
        if let Some(frozen) = self.frozen.take() {
            // The last reference, unless the engine keeps one. Dropping it here would hold up
            // everything else for as long as hundreds of thousands of cache misses take.
            self.leaving = Arc::into_inner(frozen).unwrap_or_default();
            self.ingested = self.generation - 1;
            self.sizes.clean += std::mem::take(&mut self.sizes.frozen_newest);
            self.sizes.frozen = 0;
            self.frozen_orders = KeyOrders::default();
        }
    }

    /// Lets an ingested generation and clean records over the cache's bound go, some at each call;
    /// keeps the digests of these, under `secret`.
    pub fn trim(&mut self, secret: DigestSecret) {
        self.leaving.let_go(TRIM_STEPS);
        let mut steps = TRIM_STEPS;
        while self.sizes.clean > self.limits.cache_bytes && steps > 0 {
            let (ingested, durable) = (self.ingested, self.durable);
            let leaves = |entry: &Entry| entry.generation <= ingested && entry.newest <= durable;
            let (gone, left) = self.slots.evict(steps, leaves);
            steps = left;
            if let Some(entry) = gone {
                let bytes = entry_bytes(&entry.key, entry.durable.as_ref());
                self.sizes.clean -= bytes;
                self.keep_digest(&entry, secret);
                // Every byte is looked at.
                let more = usize::try_from(bytes / TRIM_STEP_BYTES).unwrap_or(usize::MAX);
                steps = steps.saturating_sub(more);
            }
        }
    }

    /// What was said to be in the engine may not be there: nothing is said of it from now on, but
    /// of what leaves memory afterwards.
    pub fn forget_left(&mut self) {
        self.left = LeftRecords::new(self.limits.digest_cache_bytes);
    }

    fn keep_digest(&mut self, gone: &Entry, secret: DigestSecret) {
        if self.limits.digest_cache_bytes == 0 {
            return;
        }
        let Some(record) = &gone.durable else {
            self.left.forget(&gone.key);
            return;
        };
        if planted(Bug::LeftDigestKept) && self.left.get(&gone.key).is_some() {
            return;
        }
        let held = HeldDigest {
            digest: Digest::of(secret, gone.key.as_bytes(), record),
            bytes: record.len(),
        };
        self.left.note(&gone.key, held);
    }

    /// Whether writes have room in table and log: otherwise they are refused before they are
    /// minted.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let behind = self.sizes.active + self.sizes.in_flight < 2 * self.limits.generation_bytes;
        let log_bytes = self.log_bytes_since_freeze + self.sizes.in_flight;
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
        self.sizes.active + self.sizes.frozen + self.sizes.in_flight
    }

    /// Bytes of clean records.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        self.sizes.clean
    }

    /// Durable records of the vnode of `after` that the engine does not have yet, with keys after
    /// `after`, in key order: what a scan must lay over the engine's page. At most `limit`. One of
    /// no bytes takes the engine's away. O(records of that vnode that the engine does not have).
    #[must_use]
    pub fn durable_after(&self, after: &RecordKey, limit: usize) -> Vec<Row> {
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.of_range(after));
        // Active records are listed last, so that they replace frozen ones of the same key.
        let found: std::collections::BTreeMap<&RecordKey, &Bytes> = frozen
            .chain(self.active.of_range(after))
            .filter(|(key, _)| key > after)
            .map(|(key, record)| (key, record))
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
        digest_cache_bytes: 1 << 20,
    };
    const SECRET: DigestSecret = DigestSecret { key: 1, record: 2 };

    fn key(name: &str) -> RecordKey {
        RecordKey::new(KeyspaceId(1), VnodeId(0), name.as_bytes())
    }

    fn append(table: &mut Table, name: &str, record: &'static [u8]) -> Lsn {
        let lsn = table.appended().next();
        table.hold(key(name), None);
        let (change, record) = (RecordChange::default(), Bytes::from_static(record));
        table.append(lsn, &key(name), BucketId(0), change, record);
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
    fn an_ingested_generation_leaves_in_steps() {
        let limits = TableLimits {
            generation_bytes: 1,
            ..LIMITS
        };
        let mut table = Table::new(limits, Lsn(1), vec![], BucketDigests::default(), 0);
        for number in 0..=TRIM_STEPS {
            let lsn = append(&mut table, &number.to_string(), b"record");
            table.settle(lsn);
        }
        drop(table.freeze_if_due().expect("it is due"));
        table.ingested();
        let left = [(); 2].map(|()| {
            table.trim(SECRET);
            table.leaving.len()
        });
        assert_eq!((table.records(), left), (0, [1, 0]));
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
        table.trim(SECRET);
        drop(table.freeze_if_due().expect("it is due"));
        table.ingested();
        table.trim(SECRET);
        assert_eq!(
            table.durable(&key("k")),
            Lookup::Known(Some(Bytes::from_static(b"new")))
        );
    }

    /// What only the engine holds is known by its digest or not at all, whatever happened before:
    /// keys come, go, are written with and without a look, purged, frozen, fed and let go.
    #[test]
    fn a_digest_that_is_kept_is_that_of_what_the_engine_holds() {
        let limits = TableLimits {
            generation_bytes: 1,
            generation_log_bytes: 1 << 40,
            cache_bytes: 0,
            // Two sets: keys take each other's places.
            digest_cache_bytes: 400,
        };
        let mut table = Table::new(limits, Lsn(1), vec![], BucketDigests::default(), 0);
        let mut engine = std::collections::BTreeMap::new();
        let mut feeding: Option<Generation> = None;
        let (mut rand, mut known, mut unseen) = (1u64, 0, 0);
        for step in 0..40_000u64 {
            rand = rand.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = key(&(rand >> 59).to_string());
            match (rand >> 40) % 8 {
                0 | 1 => table.hold(key.clone(), engine.get(&key).cloned()),
                2 | 3 => {
                    if table.newest(&key) == Lookup::MustLoad && table.left(&key).is_some() {
                        table.hold_unseen(&key);
                        unseen += 1;
                    } else {
                        table.hold(key.clone(), engine.get(&key).cloned());
                    }
                    // A purged key has no bytes.
                    let record = if rand >> 32 & 3 == 0 {
                        vec![]
                    } else {
                        step.to_le_bytes().to_vec()
                    };
                    let (lsn, change) = (table.appended().next(), RecordChange::default());
                    table.append(lsn, &key, BucketId(0), change, record.into());
                }
                4 => table.settle(table.appended()),
                5 => feeding = feeding.or_else(|| table.freeze_if_due()),
                6 => {
                    for (key, record) in feeding.take().iter().flat_map(|fed| fed.rows.in_order()) {
                        if record.is_empty() {
                            engine.remove(key);
                        } else {
                            engine.insert(key.clone(), record.clone());
                        }
                    }
                    table.ingested();
                }
                _ => table.trim(SECRET),
            }
            for (key, left) in (0..32).filter_map(|n| {
                let key = self::key(&n.to_string());
                Some((key.clone(), table.left(&key)?))
            }) {
                let record = engine.get(&key).expect("the engine holds it");
                let digest = Digest::of(SECRET, key.as_bytes(), record);
                assert_eq!(
                    left,
                    HeldDigest {
                        digest,
                        bytes: record.len()
                    },
                    "step {step}"
                );
                known += 1;
            }
        }
        assert!(known > 10_000 && unseen > 100, "{known} {unseen}");
        // What is clean is counted as it came: nothing is left of it once all is gone.
        table.settle(table.appended());
        for _ in 0..2 {
            drop(table.freeze_if_due());
            table.ingested();
        }
        for _ in 0..100 {
            table.trim(SECRET);
        }
        assert_eq!((table.bytes(), table.cache_bytes()), (0, 0));
    }
}
