//! The product's own arrangement: core's table above, the log and the engine behind it.

use std::path::Path;
use std::sync::Arc;

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
    FIRST_START, OpenOptions, Owner, StoreHandle, StoreId, StoreThreads, Submission, open,
};
use quorate_node::shell::system::{SystemClock, SystemRand, draw_incarnation};
use quorate_ring::{BucketId, FixedMap, Lsn, NodeId};

use super::settings::Settings;
use super::{Arrangement, Heard, Opened, event_channel};

/// Table and log-first store.
#[derive(Debug)]
pub struct LogFirst {
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
pub fn open_log_first(folder: &Path, settings: &Settings, is_new: bool) -> Result<Opened> {
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
    let store = LogFirst {
        table,
        handle: opened.handle,
        threads: StoreThreads::start(opened.loops)?,
        submission: Submission::default(),
        ingests: 0,
        is_ingesting: false,
        loads: FixedMap::default(),
    };
    Ok(Opened {
        store: Box::new(store),
        events,
        durable: recovered.durable,
    })
}

impl LogFirst {
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

impl Arrangement for LogFirst {
    fn newest(&self, key: &RecordKey) -> Lookup {
        self.table.newest(key)
    }

    fn load(&mut self, key: RecordKey) -> Result<()> {
        self.loads.insert(key.clone(), self.ingests);
        let asked = self.handle.loads.push(key);
        asked
            .map_err(|(_, refused)| refused)
            .context("the loader's queue takes nothing")
    }

    fn write(
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

    fn send(&mut self) -> Result<()> {
        self.table.trim();
        if self.submission.is_empty() {
            return Ok(());
        }
        let pushed = self.handle.commits.push(self.submission.take());
        pushed
            .map_err(|(_, refused)| refused)
            .context("the log's queue takes nothing")
    }

    fn hear(&mut self, event: StoreEvent) -> Result<Heard> {
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
            StoreEvent::Scanned { .. } => Ok(Heard::Other),
        }
    }

    fn has_room(&self) -> bool {
        self.table.has_room()
    }

    fn checkpoints(&self) -> Option<u64> {
        Some(self.ingests)
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn backlog(&self) -> u64 {
        self.handle.engine.backlog() + u64::from(self.is_ingesting)
    }

    fn stop(self: Box<Self>) -> Result<()> {
        self.handle.stop();
        Ok(self.threads.join()?)
    }
}
