//! Settings of a store.

use std::time::Duration;

use super::bytes::BLOCK;
use super::error::OpenError;

/// Settings of a store. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Size of a log segment; a multiple of 4,096. Default 32 MiB. Raising it costs time to fill
    /// the next segment with zeros (about 70 ms here) and coarser truncation.
    pub segment_bytes: u64,
    /// Size of the first segment; a multiple of 4,096. Default 8 MiB, so that a first start is
    /// quick.
    pub first_segment_bytes: u64,
    /// Frames under one batch header; records over it go in parts. Default 256 KiB. Lower values
    /// cost padding (2 KiB a batch on average).
    pub batch_bytes: usize,
    /// Written and synced at once at most. Default 1 MiB: larger syncs take milliseconds.
    pub group_bytes: usize,
    /// Segments of user frames at most. Default 16 (512 MiB). Lower values make the engine's feed
    /// hold up writes sooner.
    pub segments_max: usize,
    /// Kept free at the end of the log for frames that are no user's. Default 1 MiB.
    pub reserve_bytes: u64,
    /// Bytes that may wait for the committer. Default 64 MiB.
    pub queue_bytes_max: usize,
    /// Keys that may wait for the loader. Default 65,536.
    pub load_queue_max: usize,
    /// Keys in one look-up of the engine at most. Default 256. Raising it costs latency of the
    /// first key of a batch.
    pub load_batch_max: usize,
    /// The feed waits while the engine's backlog is above this. Default 8.
    pub backlog_max: u64,
    /// How often a waiting loop looks again. Default 10 ms.
    pub poll: Duration,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 32 << 20,
            first_segment_bytes: 8 << 20,
            batch_bytes: 256 << 10,
            group_bytes: 1 << 20,
            segments_max: 16,
            reserve_bytes: 1 << 20,
            queue_bytes_max: 64 << 20,
            load_queue_max: 65_536,
            load_batch_max: 256,
            backlog_max: 8,
            poll: Duration::from_millis(10),
        }
    }
}

impl StoreConfig {
    /// Small sizes, so that a short test crosses segments, splits records and fills the log.
    #[must_use]
    pub fn small() -> Self {
        Self {
            segment_bytes: 256 << 10,
            first_segment_bytes: 256 << 10,
            batch_bytes: 4 << 10,
            group_bytes: 64 << 10,
            segments_max: 16,
            reserve_bytes: 32 << 10,
            queue_bytes_max: 8 << 20,
            ..Self::default()
        }
    }

    pub(super) fn check(&self) -> Result<(), OpenError> {
        let whole = |bytes: u64| bytes.is_multiple_of(BLOCK);
        if !whole(self.segment_bytes) || !whole(self.first_segment_bytes) {
            return Err(OpenError::Settings(
                "segment sizes are multiples of 4,096 bytes",
            ));
        }
        // A batch header, a whole batch and the reserve must fit into every segment.
        let least = (self.batch_bytes as u64 + self.reserve_bytes).saturating_mul(2) + 16 * BLOCK;
        if self.segment_bytes < least || self.first_segment_bytes < least {
            return Err(OpenError::Settings(
                "a segment holds at least two batches, two reserves and 64 KiB",
            ));
        }
        if self.batch_bytes < 1024 || self.segments_max < 2 || self.load_batch_max == 0 {
            return Err(OpenError::Settings(
                "batch, segments or load batch too small",
            ));
        }
        Ok(())
    }
}
