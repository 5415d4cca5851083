//! The plain arrangement: every write goes through fjall, one batch of all that waits, synced.
//!
//! Each batch holds the records, the sums of the buckets that they change (else these would have to
//! be counted anew at every start) and the last LSN, and is atomic. Loads have a thread of their
//! own, as in the product. Memtable and journals have as many bytes as generation and log there.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use fjall::config::{BlockSizePolicy, BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{
    AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode,
};
use quorate_antientropy::RecordChange;
use quorate_node::core::input::{Damaged, StoreEvent, StoreFailure};
use quorate_node::core::key::RecordKey;
use quorate_node::core::packed::packed;
use quorate_node::core::table::Lookup;
use quorate_node::shell::store::Events;
use quorate_ring::{BucketId, Lsn};

use super::plain_memory::{PlainMemory, SUM_BYTES};
use super::settings::Settings;
use super::write_loop::VNODES;
use super::{Arrangement, Heard, Opened, event_channel};

/// Submissions and loads that may wait: more than the loop has under way.
const QUEUE_MAX: usize = 1 << 16;

/// Key of the last LSN, among the sums: those have keys of four bytes.
const LSN_KEY: &[u8] = b"lsn";

/// What the loop hands over after a round.
#[derive(Debug, Default)]
struct Round {
    rows: Vec<(RecordKey, Bytes)>,
    sums: Vec<(u32, [u8; SUM_BYTES])>,
    last: Lsn,
}

/// Memory above, fjall behind.
pub struct Plain {
    memory: PlainMemory,
    tree: Tree,
    rounds: SyncSender<Round>,
    loads: SyncSender<RecordKey>,
    threads: Vec<JoinHandle<()>>,
    round: Round,
    keeps_sums: bool,
}

#[derive(Clone)]
struct Tree {
    database: Database,
    records: Keyspace,
    sums: Keyspace,
}

/// Opens the store in `folder`.
///
/// # Errors
/// If it does not open.
pub fn open_plain(folder: &Path, settings: &Settings) -> Result<Opened> {
    let tree = Tree::open(&folder.join("plain"), settings)?;
    let durable = tree.sums.get(LSN_KEY)?;
    let durable = durable.and_then(|row| row.as_ref().try_into().ok());
    let durable = Lsn(durable.map_or(0, u64::from_le_bytes));
    let mut memory = PlainMemory::new(settings.table.cache_bytes, VNODES as usize, durable);
    for row in tree.sums.iter() {
        let (key, value) = row.into_inner()?;
        if let (Ok(key), Ok(value)) = (key.as_ref().try_into(), value.as_ref().try_into()) {
            memory.put_sum(u32::from_be_bytes(key), value);
        }
    }
    let (tell, events) = event_channel();
    let (rounds, waiting) = sync_channel(QUEUE_MAX);
    let (loads, asked) = sync_channel(QUEUE_MAX);
    let (committer, loader) = (tree.clone(), tree.clone());
    let told = Events::clone(&tell);
    let threads = vec![
        Builder::new()
            .name("plain-commit".to_owned())
            .spawn(move || committer.commit_all(&waiting, &told))?,
        Builder::new()
            .name("plain-load".to_owned())
            .spawn(move || loader.load_all(&asked, &tell))?,
    ];
    let store = Plain {
        memory,
        tree,
        rounds,
        loads,
        threads,
        round: Round::default(),
        keeps_sums: settings.keeps_sums,
    };
    Ok(Opened {
        store: Box::new(store),
        events,
        durable,
    })
}

/// One, and all that waits behind it; `None` once nobody can send any more.
fn drain<T>(queue: &Receiver<T>) -> Option<Vec<T>> {
    let mut all = vec![queue.recv().ok()?];
    all.extend(queue.try_iter());
    Some(all)
}

impl Tree {
    fn open(path: &Path, settings: &Settings) -> Result<Self> {
        let engine = &settings.engine;
        let database = Database::builder(path)
            .cache_size(engine.cache_bytes)
            .worker_threads(engine.worker_threads)
            .max_journaling_size(settings.journal_bytes)
            .manual_journal_persist(true)
            .open()?;
        let options = || {
            let bloom = BloomConstructionPolicy::BitsPerKey(f32::from(engine.bloom_bits));
            KeyspaceCreateOptions::default()
                .manual_journal_persist(true)
                .max_memtable_size(settings.memtable_bytes)
                .data_block_size_policy(BlockSizePolicy::all(engine.block_bytes))
                .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(bloom)))
        };
        let records = || {
            options().compaction_strategy(std::sync::Arc::new(
                fjall::compaction::Leveled::default()
                    .with_l0_threshold(engine.level0_target)
                    .with_table_target_size(engine.table_bytes),
            ))
        };
        let records = database.keyspace("records", records)?;
        // Journals stay until all that is in them was flushed: sums must not keep those of records.
        let small = || options().max_memtable_size(settings.memtable_bytes / 16);
        let sums = database.keyspace("sums", small)?;
        database.persist(PersistMode::SyncAll)?;
        Ok(Self {
            database,
            records,
            sums,
        })
    }

    fn commit_all(&self, waiting: &Receiver<Round>, tell: &Events) {
        while let Some(rounds) = drain(waiting) {
            let last = rounds.last().map_or(Lsn::ZERO, |round| round.last);
            match self.commit(rounds, last) {
                Ok(()) => tell(StoreEvent::Durable(last)),
                Err(error) => {
                    return tell(StoreEvent::Failed(StoreFailure::Log(error.to_string())));
                }
            }
        }
    }

    fn commit(&self, rounds: Vec<Round>, last: Lsn) -> fjall::Result<()> {
        let items = rounds
            .iter()
            .map(|r| r.rows.len() + r.sums.len())
            .sum::<usize>()
            + 1;
        let batch = OwnedWriteBatch::with_capacity(self.database.clone(), items);
        let mut batch = batch.durability(Some(PersistMode::SyncData));
        for Round { rows, sums, .. } in rounds {
            for (key, record) in rows {
                batch.insert(&self.records, key.as_bytes(), record);
            }
            for (number, sum) in sums {
                batch.insert(&self.sums, number.to_be_bytes(), sum);
            }
        }
        batch.insert(&self.sums, LSN_KEY, last.0.to_le_bytes());
        batch.commit()
    }

    fn load_all(&self, asked: &Receiver<RecordKey>, tell: &Events) {
        while let Some(keys) = drain(asked) {
            let load = |key: RecordKey| {
                let record = self.records.get(key.as_bytes());
                let record = record.map(|row| row.map(|row| packed(&row)));
                let record = record.map_err(|error| Damaged {
                    reason: error.to_string(),
                });
                (key, record)
            };
            tell(StoreEvent::Loaded(keys.into_iter().map(load).collect()));
        }
    }
}

impl Arrangement for Plain {
    fn newest(&self, key: &RecordKey) -> Lookup {
        self.memory.newest(key)
    }

    fn load(&mut self, key: RecordKey) -> Result<()> {
        self.loads.try_send(key).context("the loader takes nothing")
    }

    fn write(
        &mut self,
        key: &RecordKey,
        bucket: BucketId,
        change: RecordChange,
        record: Bytes,
    ) -> Lsn {
        let lsn = self.memory.append(key, record.clone());
        let sum = self.memory.add(key.vnode(), bucket, change);
        if self.keeps_sums {
            self.round.sums.push(sum);
        }
        self.round.rows.push((key.clone(), record));
        self.round.last = lsn;
        lsn
    }

    fn send(&mut self) -> Result<()> {
        self.memory.trim();
        if self.round.rows.is_empty() {
            return Ok(());
        }
        let next = Round {
            rows: Vec::with_capacity(self.round.rows.len()),
            sums: Vec::with_capacity(self.round.sums.len()),
            last: Lsn::ZERO,
        };
        let round = std::mem::replace(&mut self.round, next);
        self.rounds
            .try_send(round)
            .ok()
            .context("the committer takes nothing")
    }

    fn hear(&mut self, event: StoreEvent) -> Result<Heard> {
        match event {
            StoreEvent::Durable(lsn) => {
                self.memory.settle(lsn);
                Ok(Heard::Durable(lsn))
            }
            StoreEvent::Loaded(loaded) => {
                let mut known = Vec::with_capacity(loaded.len());
                for (key, record) in loaded {
                    let record = record.map_err(|damaged| anyhow::anyhow!(damaged.reason))?;
                    self.memory.hold(key.clone(), record);
                    known.push(key);
                }
                Ok(Heard::Loaded(known))
            }
            StoreEvent::Failed(failure) => bail!("{failure}"),
            StoreEvent::Ingested { .. } | StoreEvent::Scanned { .. } => Ok(Heard::Other),
        }
    }

    fn has_room(&self) -> bool {
        true
    }

    fn checkpoints(&self) -> Option<u64> {
        None
    }

    fn settle(&mut self) -> Result<()> {
        self.tree.records.rotate_memtable_and_wait()?;
        Ok(self.tree.sums.rotate_memtable_and_wait()?)
    }

    fn backlog(&self) -> u64 {
        let Tree {
            database, records, ..
        } = &self.tree;
        let work = database.outstanding_flushes() + database.active_compactions();
        let runs = records.tree.l0_run_count() as u64;
        (work + records.sealed_memtable_count()) as u64 + runs.saturating_sub(8)
    }

    fn stop(self: Box<Self>) -> Result<()> {
        let Self {
            rounds,
            loads,
            threads,
            ..
        } = *self;
        drop((rounds, loads));
        for thread in threads {
            let ended = thread.join();
            ended.map_err(|_| anyhow::anyhow!("a thread of the store panicked"))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}
