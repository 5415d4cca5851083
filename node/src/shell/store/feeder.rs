//! Feeds frozen generations to the engine: the checkpoint is the ingestion itself.
//!
//! Order: digest file written and synced, its name synced, rows and checkpoint ingested as one,
//! the shard told, the old digest file removed, the log truncated. A crash between any two of these
//! leaves the old checkpoint or the new one, each with its digest file.
//!
//! Ingestion is not throttled by the engine, so the feed waits while its backlog is high; the shard
//! then freezes no further generation and its table's limit holds up the writes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quorate_ring::Lsn;
use xxhash_rust::xxh3::xxh3_128;

use super::committer::Events;
use super::config::StoreConfig;
use super::queue::{Queue, QueueRefused};
use super::segments::Segments;
use crate::core::generation::{Generation, GenerationRows};
use crate::core::input::{StoreEvent, StoreFailure};
use crate::shell::seam::{Checkpoint, Clock, Disk, DiskError, Engine};

/// Longest wait for the engine to catch up before a generation: an engine that does not compact
/// must not keep the log from being truncated for ever.
const BACKLOG_WAIT_MAX: Duration = Duration::from_secs(30);

/// How often a full disk is tried again.
const SPACE_WAIT: Duration = Duration::from_millis(500);

/// Generations that may wait; the shard freezes one at a time.
pub(super) const GENERATIONS_MAX: usize = 2;

const DIGEST_PREFIX: &str = "digest-";

/// Name of the digest file of the checkpoint at `applied`.
pub(super) fn digest_name(applied: Lsn) -> String {
    format!("{DIGEST_PREFIX}{:016x}", applied.0)
}

/// Whether `name` is that of a digest file.
pub(super) fn is_digest_name(name: &str) -> bool {
    name.starts_with(DIGEST_PREFIX)
}

/// Way to the engine's feed.
#[derive(Debug, Clone)]
pub struct FeedQueue {
    pub(super) queue: Arc<Queue<Generation>>,
}

impl FeedQueue {
    /// Hands a frozen generation over; answered by [`StoreEvent::Ingested`].
    ///
    /// # Errors
    /// The generation comes back with the reason if two are waiting or the store is closed.
    pub fn push(&self, generation: Generation) -> Result<(), (Generation, QueueRefused)> {
        self.queue.push(generation, 1)
    }
}

/// The engine's feed.
pub(super) struct Feeder {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) segments: Arc<Segments>,
    pub(super) queue: Arc<Queue<Generation>>,
    pub(super) events: Events,
    pub(super) config: StoreConfig,
    /// What the engine holds.
    pub(super) applied: Lsn,
}

/// What became of a generation.
enum Fed {
    /// The engine holds it.
    Whole,
    /// The store was stopped before; nothing after it may be fed.
    Stopped,
}

impl Feeder {
    /// Feeds until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(generations) = self.queue.take().await {
            for generation in generations {
                match self.feed(generation).await {
                    Ok(Fed::Whole) => {}
                    Ok(Fed::Stopped) => return,
                    Err(reason) => {
                        self.queue.close();
                        (self.events)(StoreEvent::Failed(StoreFailure::Engine(reason)));
                        return;
                    }
                }
            }
        }
    }

    async fn feed(&mut self, generation: Generation) -> Result<Fed, String> {
        let Generation {
            applied,
            rows,
            digests,
        } = generation;
        if applied > self.applied {
            self.wait_for_engine().await;
            let digests = digests.encode();
            let Some(checkpoint) = self.write_digests(applied, &digests).await? else {
                return Ok(Fed::Stopped);
            };
            let Fed::Whole = self.ingest(rows, checkpoint).await? else {
                return Ok(Fed::Stopped);
            };
            self.applied = applied;
        }
        (self.events)(StoreEvent::Ingested {
            applied: self.applied,
        });
        self.segments.truncate(self.applied);
        remove_other_digests(&*self.disk, &digest_name(self.applied)).await?;
        Ok(Fed::Whole)
    }

    /// A full disk is waited for, as with the digest file.
    async fn ingest(
        &self,
        rows: Arc<GenerationRows>,
        checkpoint: Checkpoint,
    ) -> Result<Fed, String> {
        loop {
            let ingested = self.engine.ingest(Arc::clone(&rows), checkpoint.clone());
            match ingested.await {
                Ok(()) => return Ok(Fed::Whole),
                Err(error) if error.is_full && self.queue.is_closed() => return Ok(Fed::Stopped),
                Err(error) if error.is_full => self.wait_for_space().await,
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    async fn wait_for_space(&self) {
        let again = self.clock.now() + SPACE_WAIT;
        self.clock.sleep_until(again).await;
    }

    async fn wait_for_engine(&self) {
        let give_up = self.clock.now() + BACKLOG_WAIT_MAX;
        while self.engine.backlog() > self.config.backlog_max
            && self.clock.now() < give_up
            && !self.queue.is_closed()
        {
            self.clock
                .sleep_until(self.clock.now() + self.config.poll)
                .await;
        }
    }

    /// Writes the digest file. A full disk is waited for, because feeding the engine is what frees
    /// the log; `None` if the store was stopped meanwhile: the log still holds everything.
    async fn write_digests(
        &self,
        applied: Lsn,
        bytes: &[u8],
    ) -> Result<Option<Checkpoint>, String> {
        let name = digest_name(applied);
        loop {
            let write = async {
                self.disk.create_zeroed(&name, 0).await?;
                self.disk.write(&name, 0, bytes).await?;
                self.disk.sync(&name).await?;
                self.disk.sync_dir().await
            };
            match write.await {
                Ok(()) => break,
                Err(DiskError::Full { .. }) if self.queue.is_closed() => return Ok(None),
                Err(DiskError::Full { .. }) => self.wait_for_space().await,
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(Some(Checkpoint {
            applied,
            digest_file: name,
            digest_checksum: xxh3_128(bytes),
        }))
    }
}

/// Removes every digest file but `keep`.
pub(super) async fn remove_other_digests(disk: &dyn Disk, keep: &str) -> Result<(), String> {
    let files = disk.list().await.map_err(|error| error.to_string())?;
    for (name, _) in files {
        if is_digest_name(&name) && name != keep {
            disk.remove(&name)
                .await
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder")
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}
