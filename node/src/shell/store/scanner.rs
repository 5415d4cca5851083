//! Reads pages of scans from the engine, one after the other: a scan must not take more than one
//! core's reading from everything else.

use std::fmt;
use std::sync::Arc;

use super::committer::Events;
use super::queue::{Queue, QueueRefused};
use crate::core::input::{Damaged, StoreEvent};
use crate::core::scan_page::ScanRead;
use crate::shell::seam::Engine;

/// Pages that may wait: twice what a shard asks for at once.
pub(super) const SCAN_QUEUE_MAX: usize = 2 * crate::core::shard::SCAN_READS_MAX;

/// Way to the scanner; bounded in pages.
#[derive(Debug, Clone)]
pub struct ScanQueue {
    pub(super) queue: Arc<Queue<ScanRead>>,
}

impl ScanQueue {
    /// Asks for a page; answered by [`StoreEvent::Scanned`].
    ///
    /// # Errors
    /// Why it is not taken: too many wait, or the store is closed.
    pub fn push(&self, read: ScanRead) -> Result<(), QueueRefused> {
        self.queue.push(read, 1).map_err(|(_, refused)| refused)
    }
}

/// The scanner.
pub(super) struct Scanner {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) queue: Arc<Queue<ScanRead>>,
    pub(super) events: Events,
}

impl Scanner {
    /// Reads until the queue is closed and empty.
    pub(super) async fn run(self) {
        while let Some(reads) = self.queue.take().await {
            for read in reads {
                let number = read.number;
                let older = self.engine.page(read.range.clone()).await;
                let page = older.map(|older| read.finish(older));
                let page = page.map_err(|error| Damaged {
                    reason: error.to_string(),
                    is_proven: error.is_damage,
                });
                (self.events)(StoreEvent::Scanned { number, page });
            }
        }
    }
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner").finish_non_exhaustive()
    }
}
