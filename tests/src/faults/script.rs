//! A store that is written to, until somebody kills it or for a fixed number of groups.
//!
//! Arguments: `DIR INCARNATION FIRST_ID [GROUPS]`. It prints `have KEY ID` for everything that it
//! found, then `ready`, then `ack KEY ID ..` for records that are durable, and `done` after a clean
//! stop. Everything is checked on the way: a record says its key and id and carries a checksum, the
//! digests must be those of the contents.
//!
//! With `GROUPS` it is a script: small segments, large records, a generation every few groups,
//! hints, so that some hundred system calls show everything that a store does to its disk. Then the
//! store's loops share the first thread: every run makes nearly the same calls in the same order.
//! The engine compacts on its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use quorate_antientropy::BucketDigests;
use quorate_node::core::effect::Entry;
use quorate_node::core::generation::Generation;
use quorate_node::core::hints::HintChange;
use quorate_node::core::input::StoreEvent;
use quorate_node::core::key::RecordKey;
use quorate_node::shell::seam::{Disk, Engine};
use quorate_node::shell::store::disk::RealDisk;
use quorate_node::shell::store::engine::{EngineConfig, FjallEngine};
use quorate_node::shell::store::{
    Events, OpenOptions, Opened, StoreConfig, StoreHandle, StoreId, StoreLoops, StoreThreads,
    Submission, open, set_aside_if_marked,
};
use quorate_ring::{BucketId, Incarnation, Lsn, NodeId};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

use crate::sim::lab::{Model, RuntimeClock, change_between, digests_of, key, owner};

const KEYS: u64 = 64;
const GROUPS_PER_GENERATION: u64 = 25;
const GROUPS_PER_GENERATION_OF_SCRIPT: u64 = 6;

/// The folder of the store in a script's folder; the engine lies in it, as a node's does.
pub const STORE_FOLDER: &str = "store";

/// How one process runs.
#[derive(Debug, Clone)]
struct Script {
    dir: String,
    incarnation: u64,
    first_id: u64,
    /// Groups until it stops by itself; `None` is never.
    groups: Option<u64>,
}

/// Runs a store as the arguments say.
///
/// # Errors
/// What the store says, or what is not as it must be.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let (required, groups) = match arguments {
        [required @ .., groups] if required.len() == 3 => (required, Some(groups.parse()?)),
        required => (required, None),
    };
    let [dir, incarnation, first_id] = required else {
        bail!("arguments: DIR INCARNATION FIRST_ID [GROUPS]");
    };
    let script = Script {
        dir: dir.clone(),
        incarnation: incarnation.parse()?,
        first_id: first_id.parse()?,
        groups,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(script.run())
}

impl Script {
    async fn run(self) -> anyhow::Result<()> {
        let (sender, events) = unbounded_channel();
        let events_of_store: Events = Arc::new(move |event| match sender.send(event) {
            Ok(()) | Err(_) => {}
        });
        let Opened {
            recovered,
            handle,
            loops,
        } = self.open(events_of_store).await?;
        let mut loops = match self.groups {
            Some(_) => Loops::on_this_thread(loops),
            None => Loops::Threads(StoreThreads::start(loops)?),
        };
        let mut contents = Model::new();
        for (key, record) in handle.engine.scan(None, usize::MAX).await? {
            contents.insert(key, record);
        }
        contents.extend(recovered.records.iter().cloned());
        ensure!(
            recovered.digests == digests_of(&contents),
            "digests do not fit the contents"
        );
        tell(&contents)?;
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
        self.write(&mut writer, &mut loops).await?;
        writer.handle.stop();
        loops.join().await?;
        drop(writer);
        say("done")
    }

    async fn open(&self, events: Events) -> anyhow::Result<Opened> {
        let path = Path::new(&self.dir).join(STORE_FOLDER);
        let disk = RealDisk::open_locked(&path)?;
        set_aside_if_marked(&disk).await?;
        let defaults = EngineConfig::new(path.join("engine"));
        let engine = EngineConfig {
            cache_bytes: 8 << 20,
            level0_target: self.groups.map_or(defaults.level0_target, |_| 2),
            ..defaults
        };
        let small = StoreConfig::small();
        let config = match self.groups {
            Some(_) => StoreConfig {
                segments_max: 4,
                ..small
            },
            None => StoreConfig {
                segment_bytes: 1 << 20,
                first_segment_bytes: 1 << 20,
                batch_bytes: 16 << 10,
                reserve_bytes: 64 << 10,
                ..StoreConfig::default()
            },
        };
        let opened = open(OpenOptions {
            folder: Arc::new(RealDisk::open(&self.dir)?),
            disk: Arc::new(disk) as Arc<dyn Disk>,
            engine: Box::new(move || {
                let opened = FjallEngine::open(&engine).map(|e| Arc::new(e) as Arc<dyn Engine>);
                Box::pin(std::future::ready(opened))
            }),
            clock: RuntimeClock::start(),
            owner: owner(),
            store_id_if_new: StoreId(u128::from(self.incarnation)),
            incarnation: Incarnation(self.incarnation),
            config,
            events,
        });
        Ok(opened.await?)
    }

    async fn write(&self, writer: &mut Writer, loops: &mut Loops) -> anyhow::Result<()> {
        let (per_generation, large_every) = match self.groups {
            Some(_) => (GROUPS_PER_GENERATION_OF_SCRIPT, 5),
            None => (GROUPS_PER_GENERATION, 97),
        };
        // The log may be full of what was found.
        if self.groups.is_some() && !writer.table.is_empty() {
            writer.freeze()?;
        }
        let mut id = self.first_id;
        for group in 0..self.groups.unwrap_or(u64::MAX) {
            let size = 1 + group % 7;
            let ids = id..id + size;
            id = ids.end;
            if self.groups.is_some() {
                writer.hint(group)?;
            }
            say(&writer.group(ids, large_every).await?)?;
            if group % per_generation == per_generation - 1 && !writer.ingesting {
                writer.freeze()?;
            }
            ensure!(!loops.any_ended(), "a loop of the store ended");
        }
        writer.wait_until_fed().await
    }
}

/// The loops of the store, on threads or on this one.
enum Loops {
    Threads(StoreThreads),
    Tasks(JoinSet<()>),
}

impl Loops {
    fn on_this_thread(loops: StoreLoops) -> Self {
        let StoreLoops {
            committer,
            preparer,
            feeder,
            loader,
            scanner,
            hint_log,
        } = loops;
        let loops = [committer, preparer, feeder, loader, scanner, hint_log];
        Self::Tasks(loops.into_iter().collect())
    }

    fn any_ended(&mut self) -> bool {
        match self {
            Self::Threads(threads) => threads.any_ended(),
            Self::Tasks(tasks) => tasks.try_join_next().is_some(),
        }
    }

    async fn join(self) -> anyhow::Result<()> {
        match self {
            Self::Threads(threads) => Ok(threads.join()?),
            Self::Tasks(mut tasks) => {
                while let Some(ended) = tasks.join_next().await {
                    ended?;
                }
                Ok(())
            }
        }
    }
}

/// Prints everything that was found.
fn tell(contents: &Model) -> anyhow::Result<()> {
    for (key, record) in contents {
        let id = read_id(key, record)?;
        say(&format!("have {} {id}", key.user_key().escape_ascii()))?;
    }
    say("ready")
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    // In one piece: who is killed in between has said all of it or nothing.
    out.write_all(format!("{line}\n").as_bytes())?;
    Ok(out.flush()?)
}

struct Writer {
    handle: StoreHandle,
    events: UnboundedReceiver<StoreEvent>,
    last: Lsn,
    durable: Lsn,
    /// Records that the engine does not hold, with their LSNs.
    table: BTreeMap<RecordKey, (Lsn, Bytes)>,
    contents: Model,
    digests: BucketDigests,
    ingesting: bool,
}

impl Writer {
    /// Writes a record for each id and waits until they are durable.
    async fn group(
        &mut self,
        ids: std::ops::Range<u64>,
        large_every: u64,
    ) -> anyhow::Result<String> {
        let mut submission = Submission::default();
        let mut line = "ack".to_owned();
        for id in ids {
            let key = key(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS);
            let record = record(&key, id, large_every);
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
        if let Err(returned) = self.handle.commits.push(submission) {
            let (_, refused) = *returned;
            bail!("the committer refused: {refused}");
        }
        while self.durable < self.last {
            self.hear().await?;
        }
        Ok(line)
    }

    async fn hear(&mut self) -> anyhow::Result<()> {
        match self.events.recv().await.context("the store is gone")? {
            StoreEvent::Durable(lsn) => self.durable = lsn,
            StoreEvent::Ingested { applied } => {
                self.ingesting = false;
                self.table.retain(|_, (lsn, _)| *lsn > applied);
            }
            StoreEvent::Failed(failure) => bail!("{failure}"),
            StoreEvent::Damaged(damaged) => bail!("{damaged}"),
            StoreEvent::Loaded(_) | StoreEvent::Scanned { .. } | StoreEvent::LossNoted { .. } => {}
        }
        Ok(())
    }

    fn hint(&mut self, number: u64) -> anyhow::Result<()> {
        let change = HintChange::Missed(NodeId(2), key(number));
        match self.handle.hints.push(change) {
            Ok(()) => Ok(()),
            Err((_, refused)) => bail!("the hint log refused: {refused}"),
        }
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

    async fn wait_until_fed(&mut self) -> anyhow::Result<()> {
        while self.ingesting {
            self.hear().await?;
        }
        Ok(())
    }
}

/// A record that describes itself; one in `large_every` outgrows a batch.
fn record(key: &RecordKey, id: u64, large_every: u64) -> Bytes {
    let fill = if id.is_multiple_of(large_every) {
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
