//! Table and store of one node behind one value: what the shard and its loop do with them.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use quorate_antientropy::RecordChange;
use quorate_node::core::effect::Entry;
use quorate_node::core::input::{Loaded, StoreEvent};
use quorate_node::core::key::RecordKey;
use quorate_node::core::table::{Lookup, Table};
use quorate_node::shell::seam::{Clock as _, Disk, Engine};
use quorate_node::shell::store::disk::RealDisk;
use quorate_node::shell::store::engine::FjallEngine;
use quorate_node::shell::store::{
    Events, FIRST_START, OpenOptions, Owner, StoreHandle, StoreId, StoreThreads, Submission, open,
};
use quorate_node::shell::system::{SystemClock, SystemRand, draw_incarnation};
use quorate_ring::{BucketId, FixedMap, Lsn, NodeId};

use super::settings::Settings;
use super::write_loop::SECRET;

/// Events of a store that may wait for the loop. Each ends at least one write or load under way,
/// and there are fewer of these, so that a sender never waits.
const EVENTS_MAX: usize = 1 << 16;

/// What an event of the store means to who writes.
#[derive(Debug)]
pub enum Heard {
    /// Every write up to this one is durable.
    Durable(Lsn),
    /// These keys are known now.
    Loaded(Vec<RecordKey>),
    /// Nothing that a writer waits for.
    Other,
}

/// A store that is open.
#[derive(Debug)]
pub struct Opened {
    /// Table and store.
    pub store: NodeStore,
    /// What the store says.
    pub events: Receiver<StoreEvent>,
    /// The last durable write.
    pub durable: Lsn,
}

/// Table and store.
#[derive(Debug)]
pub struct NodeStore {
    table: Table,
    handle: StoreHandle,
    threads: StoreThreads,
    submission: Submission,
    /// Ingestions so far.
    ingests: u64,
    is_ingesting: bool,
    /// Keys under load, and how many ingestions there had been when each was asked for.
    loads: FixedMap<RecordKey, u64>,
}

/// Opens the store in `folder`; a new one if `is_new`.
///
/// # Errors
/// If it does not open.
pub fn open_store(folder: &Path, settings: &Settings, is_new: bool) -> Result<Opened> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    if is_new {
        std::fs::write(folder.join(FIRST_START), b"")?;
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open_locked(folder.join("store"))?);
    let (tell, events) = event_channel();
    let engine = settings.engine.clone();
    let clock = Arc::new(SystemClock::start());
    let incarnation = draw_incarnation(clock.wall_micros(), &mut SystemRand);
    let opened = open(OpenOptions {
        folder: Arc::new(RealDisk::open(folder)?),
        disk,
        engine: Box::new(move || {
            let opened = FjallEngine::open_giving_way(engine);
            let opened = opened.map(|e| Arc::new(e) as Arc<dyn Engine>);
            Box::pin(std::future::ready(opened))
        }),
        clock,
        owner: Owner {
            cluster_id: [7; 16],
            node: NodeId(1),
            name: "n1".parse()?,
        },
        store_id_if_new: StoreId(u128::from(incarnation.0)),
        incarnation,
        config: settings.store.clone(),
        events: tell,
    });
    let opened = runtime.block_on(opened)?;
    let recovered = opened.recovered;
    let table = Table::new(
        settings.table,
        recovered.durable,
        recovered.records,
        recovered.digests,
        recovered.log_bytes,
    );
    let store = NodeStore {
        table,
        handle: opened.handle,
        threads: StoreThreads::start(opened.loops)?,
        submission: Submission::default(),
        ingests: 0,
        is_ingesting: false,
        loads: FixedMap::default(),
    };
    Ok(Opened {
        store,
        events,
        durable: recovered.durable,
    })
}

impl NodeStore {
    /// The newest state of a key, in flight or durable.
    #[must_use]
    pub fn newest(&self, key: &RecordKey) -> Lookup {
        self.table.newest(key)
    }

    /// Asks for a key that is not in memory; answered by an event.
    ///
    /// # Errors
    /// If the store does not take it.
    pub fn load(&mut self, key: RecordKey) -> Result<()> {
        self.loads.insert(key.clone(), self.ingests);
        let asked = self.handle.loads.push(key);
        asked
            .map_err(|(_, refused)| refused)
            .context("the loader's queue takes nothing")
    }

    /// Makes `record` the newest state of a key whose state is known. Not handed over before
    /// [`NodeStore::send`].
    pub fn write(
        &mut self,
        key: &RecordKey,
        bucket: BucketId,
        change: RecordChange,
        record: Bytes,
    ) -> Lsn {
        let lsn = self.table.appended().next();
        self.table.append(lsn, key, bucket, change, record.clone());
        let entry = Entry::Record {
            key: key.clone(),
            bucket,
            change,
            record,
        };
        self.submission.push(lsn, &entry);
        lsn
    }

    /// Hands over what was written since the last call, and lets go what memory has no room for.
    ///
    /// # Errors
    /// If the store does not take it.
    pub fn send(&mut self) -> Result<()> {
        self.table.trim(SECRET);
        if self.submission.is_empty() {
            return Ok(());
        }
        let pushed = self.handle.commits.push(self.submission.take());
        pushed
            .map_err(|returned| returned.1)
            .context("the log's queue takes nothing")
    }

    /// Takes in an event of the store.
    ///
    /// # Errors
    /// If the store has failed.
    pub fn hear(&mut self, event: StoreEvent) -> Result<Heard> {
        match event {
            StoreEvent::Durable(lsn) => {
                self.table.settle(lsn);
                self.freeze_if_due()?;
                Ok(Heard::Durable(lsn))
            }
            StoreEvent::Loaded(loaded) => Ok(Heard::Loaded(self.loaded(loaded)?)),
            StoreEvent::Ingested { .. } => {
                self.ingests += 1;
                self.is_ingesting = false;
                self.table.ingested();
                self.freeze_if_due()?;
                Ok(Heard::Other)
            }
            StoreEvent::Failed(failure) => bail!("{failure}"),
            StoreEvent::Damaged(damaged) => bail!("{damaged}"),
            StoreEvent::Scanned { .. } | StoreEvent::LossNoted { .. } => Ok(Heard::Other),
        }
    }

    /// Whether a write has room.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.table.has_room()
    }

    /// Ingestions so far. Between two of them a whole cycle of writes and of what follows from
    /// them is done.
    #[must_use]
    pub const fn ingests(&self) -> u64 {
        self.ingests
    }

    /// Work that is left for the writes so far; 0 at rest.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.handle.engine.backlog() + u64::from(self.is_ingesting)
    }

    /// Ends the store in order, with all its threads.
    ///
    /// # Errors
    /// If a thread of it has failed.
    pub fn stop(self) -> Result<()> {
        self.handle.stop();
        Ok(self.threads.join()?)
    }

    fn freeze_if_due(&mut self) -> Result<()> {
        let Some(generation) = self.table.freeze_if_due() else {
            return Ok(());
        };
        self.is_ingesting = true;
        let fed = self.handle.feed.push(generation);
        fed.map_err(|(_, refused)| refused)
            .context("the engine's queue takes nothing")
    }

    /// Answers that may be from before an ingestion are asked for again, as the shard does.
    fn loaded(&mut self, loaded: Loaded) -> Result<Vec<RecordKey>> {
        let mut known = Vec::with_capacity(loaded.len());
        for (key, record) in loaded {
            let record = record.map_err(|damaged| anyhow::anyhow!(damaged.reason))?;
            if self.loads.remove(&key) == Some(self.ingests) {
                self.table.hold(key.clone(), record);
                known.push(key);
            } else {
                self.load(key)?;
            }
        }
        Ok(known)
    }
}

/// A way for events from the store's threads to the loop.
fn event_channel() -> (Events, Receiver<StoreEvent>) {
    let (sender, events) = sync_channel(EVENTS_MAX);
    let tell = move |event| {
        // A loop that has ended misses nothing.
        drop(sender.send(event));
    };
    (Arc::new(tell), events)
}
