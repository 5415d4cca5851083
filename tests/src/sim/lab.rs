//! A store alone on a simulated or real disk, for tests of recovery.
//!
//! The lab plays the shard: it numbers frames, keeps the newest state as the model to compare with,
//! and the digests. It outlives the store, as its disk does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{BucketDigests, DigestChange, Held, HoldingsChange, RecordChange};
use quorate_node::core::effect::Entry;
use quorate_node::core::generation::Generation;
use quorate_node::core::input::{Recovered, StoreEvent};
use quorate_node::core::key::RecordKey;
use quorate_node::core::timeline::Memory;
use quorate_node::shell::seam::{BoxFuture, Clock, Disk, Engine};
use quorate_node::shell::store::{
    FIRST_START, OpenError, OpenOptions, Opened, Owner, StoreConfig, StoreHandle, StoreId,
    Submission, open,
};
use quorate_ring::{BucketId, Incarnation, KeyspaceId, Lsn, MonoTime, NodeId, NodeName, VnodeId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_128;

use super::disk::{Crash, SimDisk};
use super::engine::SimEngine;

/// Newest record of each key.
pub type Model = BTreeMap<RecordKey, Bytes>;

/// Clock of the runtime that the test runs on.
#[derive(Debug)]
pub struct RuntimeClock(tokio::time::Instant);

impl RuntimeClock {
    /// A clock that starts now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is an adapter to the runtime's clock"
    )]
    pub fn start() -> Arc<Self> {
        Arc::new(Self(tokio::time::Instant::now()))
    }
}

impl Clock for RuntimeClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is an adapter to the runtime's clock"
    )]
    fn now(&self) -> MonoTime {
        let micros = tokio::time::Instant::now()
            .duration_since(self.0)
            .as_micros();
        MonoTime::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn wall_micros(&self) -> u64 {
        self.now().as_micros()
    }

    fn sleep_until(&self, at: MonoTime) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(
            self.0 + Duration::from_micros(at.as_micros()),
        ))
    }
}

/// A simulated disk and engine, and what is needed to open a store on them.
#[derive(Debug)]
pub struct Lab {
    /// The disk.
    pub disk: SimDisk,
    /// The engine.
    pub engine: SimEngine,
    /// Settings of the store.
    pub config: StoreConfig,
    /// Incarnation of the next start.
    pub incarnation: u64,
    /// Who opens it.
    pub owner: Owner,
}

/// Node 1 of a cluster.
#[must_use]
pub fn owner() -> Owner {
    Owner {
        cluster_id: [7; 16],
        node: NodeId(1),
        name: "a".parse::<NodeName>().expect("a valid name"),
    }
}

/// Key number `number` of the only vnode.
#[must_use]
pub fn key(number: u64) -> RecordKey {
    RecordKey::new(
        KeyspaceId(1),
        VnodeId(0),
        format!("key-{number}").as_bytes(),
    )
}

/// Digest of a record, for the lab's own sums.
#[must_use]
pub fn digest(key: &RecordKey, record: &[u8]) -> u128 {
    xxh3_128(key.as_bytes())
        .wrapping_mul(3)
        .wrapping_add(xxh3_128(record))
}

/// What a change of `key` does to the sums; the lab takes every record for one with a value.
#[must_use]
pub fn change_between(key: &RecordKey, old: Option<&Bytes>, new: &Bytes) -> RecordChange {
    let held = |record: &Bytes| Held {
        has_value: true,
        bytes: key.as_bytes().len() + record.len(),
    };
    let before = old.map_or(0, |record| digest(key, record));
    RecordChange {
        digest: DigestChange(digest(key, new).wrapping_sub(before)),
        holdings: HoldingsChange::between(old.map(held), Some(held(new))),
    }
}

/// Digests and holdings that `model` must have.
#[must_use]
pub fn digests_of(model: &Model) -> BucketDigests {
    let mut digests = BucketDigests::default();
    for (key, record) in model {
        let change = change_between(key, None, record);
        digests.add(key.keyspace(), key.vnode(), BucketId(0), change);
    }
    digests
}

impl Lab {
    /// A disk that bears the mark of a first start.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        disk.put(FIRST_START, b"");
        Self {
            disk,
            engine: SimEngine::new(seed),
            config: StoreConfig::small(),
            incarnation: 100,
            owner: owner(),
        }
    }

    /// Opens the store under a new incarnation.
    ///
    /// # Errors
    /// Whatever the store refuses.
    pub async fn open(&mut self) -> Result<Running, OpenError> {
        self.incarnation += 1;
        let disk = self.disk.mount();
        let engine = self.engine.mount();
        let options = Options {
            disk: disk.clone(),
            folder: disk,
            engine,
            owner: self.owner.clone(),
            incarnation: self.incarnation,
            config: self.config.clone(),
        };
        Running::open(options).await
    }

    /// Takes the node down.
    pub fn crash(&self, running: Running, crash: Crash) {
        drop(running);
        self.disk.crash(crash);
        self.engine.crash();
    }
}

/// What a [`Running`] store is opened with.
#[derive(Debug)]
pub struct Options {
    /// The node's folder.
    pub folder: Arc<dyn Disk>,
    /// The store's directory.
    pub disk: Arc<dyn Disk>,
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Who opens it.
    pub owner: Owner,
    /// Under which incarnation.
    pub incarnation: u64,
    /// Settings.
    pub config: StoreConfig,
}

/// An open store with the lab as its shard. Dropping it is a crash.
#[derive(Debug)]
pub struct Running {
    /// What recovery gave, without the records and digests.
    pub recovered: Recovered,
    /// Ways to the loops.
    pub handle: StoreHandle,
    /// Newest state of every key beyond the engine.
    pub model: Model,
    /// LSN of what the model holds.
    lsns: BTreeMap<RecordKey, Lsn>,
    /// Digests of the newest state.
    pub digests: BucketDigests,
    /// Last LSN that was used.
    pub last: Lsn,
    /// Last LSN that was reported durable.
    pub durable: Lsn,
    events: mpsc::UnboundedReceiver<StoreEvent>,
    loops: JoinSet<()>,
}

/// Why the lab stopped waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The store failed.
    Failed(String),
    /// Nothing came.
    Silent,
}

impl Running {
    /// Opens a store on `options`.
    ///
    /// # Errors
    /// Whatever the store refuses.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let Options {
            folder,
            disk,
            engine,
            owner,
            incarnation,
            config,
        } = options;
        let (sender, events) = mpsc::unbounded_channel();
        let opened = open(OpenOptions {
            folder,
            disk,
            engine: Box::new(move || Box::pin(std::future::ready(Ok(engine)))),
            clock: RuntimeClock::start(),
            owner,
            store_id_if_new: StoreId(42),
            incarnation: Incarnation(incarnation),
            config,
            events: Arc::new(move |event| match sender.send(event) {
                Ok(()) | Err(_) => {}
            }),
        });
        let Opened {
            mut recovered,
            handle,
            loops: parts,
        } = opened.await?;
        let mut loops = JoinSet::new();
        for part in [
            parts.committer,
            parts.preparer,
            parts.feeder,
            parts.loader,
            parts.scanner,
            parts.hint_log,
        ] {
            loops.spawn(part);
        }
        Ok(Self {
            model: std::mem::take(&mut recovered.records).into_iter().collect(),
            lsns: BTreeMap::new(),
            digests: std::mem::take(&mut recovered.digests),
            last: recovered.durable,
            durable: recovered.durable,
            recovered,
            handle,
            events,
            loops,
        })
    }

    /// Everything the store holds: the engine's rows under the newer ones.
    #[must_use]
    pub fn contents(&self, engine: &SimEngine) -> Model {
        let mut all = engine.rows();
        all.extend(self.model.clone());
        all
    }

    /// Submits records in one go and does not wait. `old` tells the record that a key has now.
    pub fn submit(&mut self, records: &[(RecordKey, Bytes)], old: &Model) -> Lsn {
        let mut submission = Submission::default();
        for (key, record) in records {
            let before = self.model.get(key).or_else(|| old.get(key));
            let change = change_between(key, before, record);
            self.digests
                .add(key.keyspace(), key.vnode(), BucketId(0), change);
            self.model.insert(key.clone(), record.clone());
            self.last = self.last.next();
            self.lsns.insert(key.clone(), self.last);
            let entry = Entry::Record {
                key: key.clone(),
                bucket: BucketId(0),
                change,
                record: record.clone(),
            };
            submission.push(self.last, &entry);
        }
        assert!(
            self.handle.commits.push(submission).is_ok(),
            "the queue has room"
        );
        self.last
    }

    /// Submits what is remembered of a node.
    pub fn remember(&self, node: NodeId, memory: Memory) {
        let submission = Submission::of_memories(vec![(node, memory)]);
        assert!(
            self.handle.commits.push(submission).is_ok(),
            "the queue has room"
        );
    }

    /// Writes one record and waits until it is durable.
    ///
    /// # Errors
    /// [`Ended`] if that does not come.
    pub async fn put(&mut self, key: RecordKey, record: Bytes, old: &Model) -> Result<Lsn, Ended> {
        let lsn = self.submit(&[(key, record)], old);
        self.wait_durable(lsn).await?;
        Ok(lsn)
    }

    /// Waits until `lsn` is durable.
    ///
    /// # Errors
    /// [`Ended`] if that does not come.
    pub async fn wait_durable(&mut self, lsn: Lsn) -> Result<(), Ended> {
        while self.durable < lsn {
            self.next_event().await?;
        }
        Ok(())
    }

    /// The next event.
    ///
    /// # Errors
    /// [`Ended`] if the store failed, or nothing came for ten minutes.
    pub async fn next_event(&mut self) -> Result<StoreEvent, Ended> {
        let wait = tokio::time::timeout(Duration::from_secs(600), self.events.recv()).await;
        match wait {
            Ok(Some(StoreEvent::Failed(failure))) => Err(Ended::Failed(failure.to_string())),
            Ok(Some(StoreEvent::Durable(lsn))) => {
                assert!(lsn > self.durable, "durable LSNs rise");
                self.durable = lsn;
                Ok(StoreEvent::Durable(lsn))
            }
            Ok(Some(StoreEvent::Ingested { applied })) => {
                let lsns = &self.lsns;
                let newer = |key: &RecordKey| lsns.get(key).is_some_and(|lsn| *lsn > applied);
                self.model.retain(|key, _| newer(key));
                Ok(StoreEvent::Ingested { applied })
            }
            Ok(Some(event)) => Ok(event),
            Ok(None) | Err(_) => Err(Ended::Silent),
        }
    }

    /// Feeds everything to the engine, which must be durable, and does not wait.
    pub fn freeze(&mut self) {
        assert_eq!(self.durable, self.last, "only durable states are frozen");
        let generation = Generation {
            applied: self.durable,
            rows: Arc::new(self.model.clone().into_iter().collect()),
            digests: self.digests.clone(),
        };
        assert!(
            self.handle.feed.push(generation).is_ok(),
            "the feed has room"
        );
    }

    /// Feeds everything to the engine and waits for it.
    ///
    /// # Errors
    /// [`Ended`] if the store fails.
    pub async fn checkpoint(&mut self) -> Result<(), Ended> {
        self.wait_durable(self.last).await?;
        self.freeze();
        while !matches!(self.next_event().await?, StoreEvent::Ingested { .. }) {}
        Ok(())
    }

    /// Crashes, and waits until no loop is left that holds disk or engine.
    pub async fn kill(mut self) {
        self.loops.shutdown().await;
    }

    /// Stops cleanly.
    pub async fn stop(mut self) {
        self.handle.stop();
        while self.loops.join_next().await.is_some() {}
    }
}
