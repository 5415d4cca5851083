//! A store that is written to until somebody kills it: the child of `tests/store_kill.rs`.
//!
//! `store_child DIR INCARNATION FIRST_ID`: prints `have KEY ID` for everything that it found, then
//! `ready`, then `ack KEY ID ..` for records that are durable. Everything is checked on the way: a
//! record says its key and id and carries a checksum, the digests must be those of the contents.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use quorate_node::core::effect::Entry;
use quorate_node::core::generation::Generation;
use quorate_node::core::input::StoreEvent;
use quorate_node::core::key::RecordKey;
use quorate_node::shell::seam::{Disk, Engine};
use quorate_node::shell::store::disk::RealDisk;
use quorate_node::shell::store::engine::{EngineConfig, FjallEngine};
use quorate_node::shell::store::{
    OpenOptions, Opened, StoreConfig, StoreHandle, StoreId, StoreThreads, Submission, open,
};
use quorate_ring::{BucketId, Incarnation, Lsn};
use quorate_tests::sim::lab::{Model, RuntimeClock, change_between, digests_of, key, owner};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use xxhash_rust::xxh3::xxh3_64;

const KEYS: u64 = 64;
const GROUPS_PER_GENERATION: u64 = 25;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, dir, incarnation, first_id] = args.as_slice() else {
        bail!("usage: store_child DIR INCARNATION FIRST_ID");
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(run(dir, incarnation.parse()?, first_id.parse()?))
}

async fn run(dir: &str, incarnation: u64, first_id: u64) -> anyhow::Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open_locked(format!("{dir}/store"))?);
    let folder: Arc<dyn Disk> = Arc::new(RealDisk::open(dir)?);
    let engine = EngineConfig {
        cache_bytes: 8 << 20,
        ..EngineConfig::new(format!("{dir}/engine"))
    };
    let (sender, events) = unbounded_channel();
    let opened = open(OpenOptions {
        folder,
        disk,
        engine: Box::new(move || {
            let opened = FjallEngine::open(&engine).map(|e| Arc::new(e) as Arc<dyn Engine>);
            Box::pin(std::future::ready(opened))
        }),
        clock: RuntimeClock::start(),
        owner: owner(),
        store_id_if_new: StoreId(u128::from(incarnation)),
        incarnation: Incarnation(incarnation),
        config: StoreConfig {
            segment_bytes: 1 << 20,
            first_segment_bytes: 1 << 20,
            batch_bytes: 16 << 10,
            reserve_bytes: 64 << 10,
            ..StoreConfig::default()
        },
        events: Arc::new(move |event| match sender.send(event) {
            Ok(()) | Err(_) => {}
        }),
    });
    let Opened {
        recovered,
        handle,
        loops,
    } = opened.await?;
    let threads = StoreThreads::start(loops)?;
    let mut contents = Model::new();
    for (key, record) in handle.engine.scan(None, usize::MAX).await? {
        contents.insert(key, record);
    }
    contents.extend(recovered.records.iter().cloned());
    ensure!(
        recovered.digests == digests_of(&contents),
        "digests do not fit the contents"
    );
    let mut out = std::io::stdout().lock();
    for (key, record) in &contents {
        writeln!(
            out,
            "have {} {}",
            key.user_key().escape_ascii(),
            read_id(key, record)?
        )?;
    }
    writeln!(out, "ready")?;
    out.flush()?;
    let newer = recovered.records.into_iter();
    let mut writer = Writer {
        handle,
        events,
        last: recovered.durable,
        durable: recovered.durable,
        table: newer
            .map(|(key, record)| (key, (recovered.durable, record)))
            .collect(),
        contents,
        digests: recovered.digests,
        ingesting: false,
    };
    let mut id = first_id;
    for group in 0u64.. {
        let size = 1 + group % 7;
        let line = writer.group(id, size).await?;
        id += size;
        writeln!(out, "{line}")?;
        out.flush()?;
        if group % GROUPS_PER_GENERATION == GROUPS_PER_GENERATION - 1 && !writer.ingesting {
            writer.freeze()?;
        }
        ensure!(!threads.any_ended(), "a loop of the store ended");
    }
    Ok(())
}

struct Writer {
    handle: StoreHandle,
    events: UnboundedReceiver<StoreEvent>,
    last: Lsn,
    durable: Lsn,
    /// Records that the engine does not hold, with their LSNs.
    table: BTreeMap<RecordKey, (Lsn, Bytes)>,
    contents: Model,
    digests: quorate_antientropy::BucketDigests,
    ingesting: bool,
}

impl Writer {
    /// Writes `size` records and waits until they are durable.
    async fn group(&mut self, first_id: u64, size: u64) -> anyhow::Result<String> {
        let mut submission = Submission::default();
        let mut line = "ack".to_owned();
        for id in first_id..first_id + size {
            let key = key(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS);
            let record = record(&key, id);
            let change = change_between(&key, self.contents.get(&key), &record);
            self.digests
                .add(key.keyspace(), key.vnode(), BucketId(0), change);
            self.last = self.last.next();
            self.contents.insert(key.clone(), record.clone());
            self.table.insert(key.clone(), (self.last, record.clone()));
            line.push_str(&format!(" {} {id}", key.user_key().escape_ascii()));
            let bucket = BucketId(0);
            let entry = Entry::Record {
                key,
                bucket,
                change,
                record,
            };
            submission.push(self.last, &entry);
        }
        if let Err((_, refused)) = self.handle.commits.push(submission) {
            bail!("the committer refused: {refused}");
        }
        while self.durable < self.last {
            match self.events.recv().await.context("the store is gone")? {
                StoreEvent::Durable(lsn) => self.durable = lsn,
                StoreEvent::Ingested { applied } => {
                    self.ingesting = false;
                    self.table.retain(|_, (lsn, _)| *lsn > applied);
                }
                StoreEvent::Failed(failure) => bail!("{failure}"),
                StoreEvent::Damaged(damaged) => bail!("{damaged}"),
                StoreEvent::Loaded(_)
                | StoreEvent::Scanned { .. }
                | StoreEvent::LossNoted { .. } => {}
            }
        }
        Ok(line)
    }

    fn freeze(&mut self) -> anyhow::Result<()> {
        let records = self
            .table
            .iter()
            .map(|(key, (_, record))| (key.clone(), record.clone()));
        let generation = Generation {
            applied: self.durable,
            rows: Arc::new(records.collect()),
            digests: self.digests.clone(),
        };
        self.ingesting = true;
        match self.handle.feed.push(generation) {
            Ok(()) => Ok(()),
            Err((_, refused)) => bail!("the feed refused: {refused}"),
        }
    }
}

/// A record that describes itself; some outgrow a batch.
fn record(key: &RecordKey, id: u64) -> Bytes {
    let fill = if id.is_multiple_of(97) {
        60_000
    } else {
        usize::try_from(id % 1500).unwrap_or(0)
    };
    let body = format!(
        "{} {id} {}",
        key.user_key().escape_ascii(),
        "z".repeat(fill)
    );
    Bytes::from(format!("{:016x} {body}", xxh3_64(body.as_bytes())))
}

fn read_id(key: &RecordKey, record: &[u8]) -> anyhow::Result<u64> {
    let text = std::str::from_utf8(record)?;
    let (sum, body) = text
        .split_once(' ')
        .context("a record without a checksum")?;
    ensure!(
        format!("{:016x}", xxh3_64(body.as_bytes())) == sum,
        "a record's checksum is wrong"
    );
    let mut words = body.split(' ');
    let own = key.user_key().escape_ascii().to_string();
    ensure!(words.next() == Some(&own), "a record of another key");
    Ok(words.next().context("a record without an id")?.parse()?)
}
