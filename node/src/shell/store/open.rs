//! Opening a store: the one way to it, for real nodes and for the simulator.
//!
//! ```text
//! claim directory -> open engine -> checkpoint and digest file -> replay -> write again -> start
//! frame -> use up the first-start mark -> loops
//! ```
//! Nothing is changed before the directory is known to be the node's own, and nothing but free
//! files before the log is known to be whole.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use quorate_antientropy::{BucketDigests, BucketDigestsInvalid};
use quorate_ring::{Incarnation, Lsn};
use xxhash_rust::xxh3::xxh3_128;

use super::committer::{CommitQueue, Committer, Events};
use super::config::StoreConfig;
use super::declared::{self, ForLoss};
use super::error::OpenError;
use super::feeder::{FeedQueue, Feeder, GENERATIONS_MAX, remove_other_digests};
use super::group::Group;
use super::hint_log::{self, CHANGES_MAX, Hint, HintLog, HintQueue};
use super::identity::{Owner, StoreId, claim, consume_mark};
use super::loader::{LoadQueue, Loader};
use super::losses;
use super::queue::Queue;
use super::scanner::{SCAN_QUEUE_MAX, ScanQueue, Scanner};
use super::segments::Segments;
use super::start::{Start, Started};
use crate::core::input::{Losses, Recovered};
use crate::shell::seam::{BoxFuture, Checkpoint, Clock, Disk, DiskError, Engine, EngineError};

/// Opens the engine once the directory is known to be the node's own.
pub type EngineOpener =
    Box<dyn FnOnce() -> BoxFuture<'static, Result<Arc<dyn Engine>, EngineError>> + Send>;

/// What a store is opened with.
pub struct OpenOptions {
    /// The node's folder, where the first-start mark lies.
    pub folder: Arc<dyn Disk>,
    /// The store's own directory; locked by who made it.
    pub disk: Arc<dyn Disk>,
    /// Opens the engine.
    pub engine: EngineOpener,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Whose store it must be.
    pub owner: Owner,
    /// Random; used only if this is the first start.
    pub store_id_if_new: StoreId,
    /// Drawn for this start, never used before.
    pub incarnation: Incarnation,
    /// Settings.
    pub config: StoreConfig,
    /// Hears what the store does.
    pub events: Events,
}

/// An open store.
#[derive(Debug)]
pub struct Opened {
    /// The shard's starting point.
    pub recovered: Recovered,
    /// Ways to the loops.
    pub handle: StoreHandle,
    /// The loops; each must be run by the caller until it ends.
    pub loops: StoreLoops,
}

/// Ways to the loops of a store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    /// Frames to commit.
    pub commits: CommitQueue,
    /// Generations for the engine.
    pub feed: FeedQueue,
    /// Keys to load.
    pub loads: LoadQueue,
    /// Pages of scans to read.
    pub scans: ScanQueue,
    /// Changes of hints to keep.
    pub hints: HintQueue,
    /// The engine, for scans and its backlog.
    pub engine: Arc<dyn Engine>,
    segments: Arc<Segments>,
}

impl StoreHandle {
    /// Why the loop that prepares segments has ended by itself; other loops tell the shard why.
    #[must_use]
    pub fn preparer_failure(&self) -> Option<DiskError> {
        self.segments.failure()
    }

    /// Ends all loops: what waits is still done, then the log gets its clean-stop frame. Nothing
    /// may be pushed afterwards.
    pub fn stop(&self) {
        self.loads.queue.close();
        self.scans.queue.close();
        self.hints.queue.close();
        self.feed.queue.close();
        self.commits.queue.close();
        self.segments.halt();
    }
}

/// The loops of a store. They share nothing that must be polled together: a real node runs each on
/// a thread of its own ([`super::StoreThreads`]), the simulator as tasks. Dropping them is a crash.
pub struct StoreLoops {
    /// Writes and syncs the log; ends with the clean-stop frame.
    pub committer: BoxFuture<'static, ()>,
    /// Prepares and recycles segments; ends after the committer.
    pub preparer: BoxFuture<'static, ()>,
    /// Feeds the engine.
    pub feeder: BoxFuture<'static, ()>,
    /// Looks keys up in the engine.
    pub loader: BoxFuture<'static, ()>,
    /// Reads pages of scans from the engine.
    pub scanner: BoxFuture<'static, ()>,
    /// Keeps hints.
    pub hint_log: BoxFuture<'static, ()>,
}

/// Opens a store, whichever state a crash left it in.
///
/// # Errors
/// [`OpenError`]; [`OpenError::is_refusal`] tells a refusal from a failure of the disk.
///
/// # Cancel safety
/// Like a crash: it may be opened again.
pub async fn open(options: OpenOptions) -> Result<Opened, OpenError> {
    let OpenOptions {
        folder,
        disk,
        engine,
        clock,
        owner,
        store_id_if_new,
        incarnation,
        config,
        events,
    } = options;
    config.check()?;
    let claimed = claim(&*folder, &*disk, &owner, store_id_if_new).await?;
    let mut losses = losses::read(&*disk).await?;
    losses.declared = declared::read(&*disk, ForLoss::of(&losses)).await?;
    let hints = hint_log::read(&*disk, claimed.store).await?;
    let engine = engine().await.map_err(engine_damaged)?;
    let checkpoint = engine.checkpoint().await.map_err(engine_damaged)?;
    let digests = read_digests(&*disk, checkpoint.as_ref()).await?;
    let applied = checkpoint.as_ref().map_or(Lsn::ZERO, |c| c.applied);
    let start = Start {
        disk: disk.clone(),
        clock: clock.clone(),
        config: config.clone(),
        claimed,
        losses: losses.clone(),
        applied,
        digests,
        incarnation,
    };
    let started = start.run().await?;
    let keep = checkpoint.map_or_else(String::new, |c| c.digest_file);
    if let Err(reason) = remove_other_digests(&*disk, &keep).await {
        return Err(OpenError::Disk(DiskError::Io { name: keep, reason }));
    }
    if claimed.first {
        consume_mark(&*folder).await?;
    }
    let parts = Assembly {
        disk,
        engine,
        clock,
        config,
        events,
        applied,
        losses,
        hints,
        store: claimed.store,
    };
    Ok(parts.assemble(started))
}

struct Assembly {
    disk: Arc<dyn Disk>,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    config: StoreConfig,
    events: Events,
    applied: Lsn,
    losses: Losses,
    /// Live hints, and where the next change of them goes.
    hints: (BTreeSet<Hint>, Option<u64>),
    store: StoreId,
}

impl Assembly {
    fn assemble(self, started: Started) -> Opened {
        let Started {
            replay,
            incarnation,
            durable,
            clean,
            volatile,
            place,
            segments,
        } = started;
        let handle = StoreHandle {
            commits: CommitQueue {
                queue: Arc::new(Queue::new(self.config.queue_bytes_max)),
                log_room: Arc::new(AtomicU64::new(0)),
            },
            feed: FeedQueue {
                queue: Arc::new(Queue::new(GENERATIONS_MAX)),
            },
            loads: LoadQueue {
                queue: Arc::new(Queue::new(self.config.load_queue_max)),
            },
            scans: ScanQueue {
                queue: Arc::new(Queue::new(SCAN_QUEUE_MAX)),
            },
            hints: HintQueue {
                queue: Arc::new(Queue::new(CHANGES_MAX)),
            },
            engine: self.engine.clone(),
            segments: segments.clone(),
        };
        let committer = Committer {
            disk: self.disk.clone(),
            segments: segments.clone(),
            queue: handle.commits.clone(),
            events: self.events.clone(),
            config: self.config.clone(),
            store: self.store,
            incarnation,
            timeline: replay.timeline.clone(),
            memories: replay.memories.clone(),
            place,
            durable,
            complete: durable,
            changed: BTreeSet::new(),
            volatile,
            for_loss: ForLoss::of(&self.losses),
            undeclared: None,
            unnoted_doubt: None,
            group: Group::default(),
        };
        let applied = self.applied;
        let losses = self.losses.clone();
        let hints = self.hints.0.iter().cloned().collect();
        let loops = self.loops(committer, segments, &handle);
        let recovered = Recovered {
            timeline: replay.timeline.with_lost(losses.lives.clone()),
            losses,
            hints,
            incarnation,
            durable,
            applied,
            clean,
            volatile,
            memories: replay.memories,
            records: replay.records.into_iter().collect(),
            digests: replay.digests,
            log_bytes: replay.log_bytes,
        };
        Opened {
            recovered,
            handle,
            loops,
        }
    }

    fn loops(
        self,
        committer: Committer,
        segments: Arc<Segments>,
        handle: &StoreHandle,
    ) -> StoreLoops {
        let (live, offset) = self.hints;
        let hint_log = HintLog {
            disk: self.disk.clone(),
            clock: self.clock.clone(),
            queue: handle.hints.queue.clone(),
            events: self.events.clone(),
            store: self.store,
            live,
            offset,
        };
        let feeder = Feeder {
            disk: self.disk,
            engine: self.engine.clone(),
            clock: self.clock,
            segments: segments.clone(),
            queue: handle.feed.queue.clone(),
            events: self.events.clone(),
            config: self.config.clone(),
            applied: self.applied,
        };
        let loader = Loader {
            engine: self.engine.clone(),
            queue: handle.loads.queue.clone(),
            events: self.events.clone(),
            batch_max: self.config.load_batch_max,
        };
        let scanner = Scanner {
            engine: self.engine,
            queue: handle.scans.queue.clone(),
            events: self.events,
        };
        StoreLoops {
            committer: Box::pin(committer.run()),
            preparer: Box::pin(segments.run()),
            feeder: Box::pin(feeder.run()),
            loader: Box::pin(loader.run()),
            scanner: Box::pin(scanner.run()),
            hint_log: Box::pin(hint_log.run()),
        }
    }
}

fn engine_damaged(error: EngineError) -> OpenError {
    let what = error.to_string();
    if error.is_damage {
        OpenError::damaged(what)
    } else {
        OpenError::Unreadable { what }
    }
}

/// The bucket digests of the checkpoint; they go with it or the store is damaged.
async fn read_digests(
    disk: &dyn Disk,
    checkpoint: Option<&Checkpoint>,
) -> Result<BucketDigests, OpenError> {
    let Some(Checkpoint {
        digest_file,
        digest_checksum,
        ..
    }) = checkpoint
    else {
        return Ok(BucketDigests::default());
    };
    let files = disk.list().await?;
    let length = files
        .iter()
        .find(|(name, _)| name == digest_file)
        .map(|&(_, length)| length);
    let length = length.and_then(|length| usize::try_from(length).ok());
    let Some(length) = length else {
        return Err(OpenError::damaged(format!("{digest_file} is missing")));
    };
    let bytes = disk.read(digest_file, 0, length).await;
    let bytes: Bytes = bytes.map_err(OpenError::unreadable)?;
    if xxh3_128(&bytes) != *digest_checksum {
        return Err(OpenError::damaged(format!(
            "{digest_file} is not what was written"
        )));
    }
    BucketDigests::decode(&bytes).map_err(|error| match error {
        BucketDigestsInvalid::OtherFormat(found) => OpenError::OtherFormat {
            file: digest_file.clone(),
            found,
            supported: BucketDigestsInvalid::SUPPORTED,
        },
        BucketDigestsInvalid::Malformed => OpenError::damaged(format!("{digest_file}: {error}")),
    })
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenOptions")
            .field("owner", &self.owner)
            .field("incarnation", &self.incarnation)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StoreLoops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreLoops").finish_non_exhaustive()
    }
}
