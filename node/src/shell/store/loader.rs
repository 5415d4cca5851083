//! Loads keys that are not in memory from the engine, all that wait in one look-up.

use std::fmt;
use std::sync::Arc;

use super::committer::Events;
use super::queue::{Queue, QueueRefused};
use crate::core::input::StoreEvent;
use crate::core::key::RecordKey;
use crate::shell::seam::Engine;

/// Way to the loader; bounded in keys.
#[derive(Debug, Clone)]
pub struct LoadQueue {
    pub(super) queue: Arc<Queue<RecordKey>>,
}

impl LoadQueue {
    /// Asks for a key; answered by [`StoreEvent::Loaded`].
    ///
    /// # Errors
    /// The key comes back with the reason if too many wait or the store is closed.
    pub fn push(&self, key: RecordKey) -> Result<(), (RecordKey, QueueRefused)> {
        self.queue.push(key, 1)
    }

    /// Keys that may still be queued.
    #[must_use]
    pub fn room_keys(&self) -> usize {
        self.queue.room()
    }
}

/// The loader.
pub(super) struct Loader {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) queue: Arc<Queue<RecordKey>>,
    pub(super) events: Events,
    pub(super) batch_max: usize,
}

impl Loader {
    /// Loads until the queue is closed and empty.
    pub(super) async fn run(self) {
        while let Some(keys) = self.queue.take().await {
            let keys = Vec::from(keys);
            for batch in keys.chunks(self.batch_max) {
                let loaded = self.engine.load(batch.to_vec()).await;
                (self.events)(StoreEvent::Loaded(loaded));
            }
        }
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").finish_non_exhaustive()
    }
}
