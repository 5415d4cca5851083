//! Measures the log's writes and syncs on their way to a disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::metrics::Metrics;
use super::seam::{BoxFuture, Clock, Disk, DiskError};

/// A disk whose syncs of log segments are counted and timed.
#[derive(Debug)]
pub struct MeteredDisk {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    written: AtomicU64,
}

impl MeteredDisk {
    /// Measures `disk`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self {
            disk,
            clock,
            metrics,
            written: AtomicU64::new(0),
        }
    }
}

fn is_log(name: &str) -> bool {
    name.starts_with("log-")
}

impl Disk for MeteredDisk {
    fn list(&self) -> BoxFuture<'_, Result<Vec<(String, u64)>, DiskError>> {
        self.disk.list()
    }

    fn create_zeroed<'a>(
        &'a self,
        name: &'a str,
        bytes: u64,
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        self.disk.create_zeroed(name, bytes)
    }

    fn read<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Bytes, DiskError>> {
        self.disk.read(name, offset, bytes)
    }

    fn write<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        data: &'a [u8],
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        if is_log(name) {
            self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        self.disk.write(name, offset, data)
    }

    fn sync<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        if !is_log(name) {
            return self.disk.sync(name);
        }
        Box::pin(async move {
            let began = self.clock.now();
            let result = self.disk.sync(name).await;
            #[expect(clippy::cast_precision_loss, reason = "a sync is far below 2^52 us")]
            let seconds = self.clock.now().since(began).as_micros() as f64 / 1e6;
            self.metrics
                .log_synced(self.written.swap(0, Ordering::Relaxed), seconds);
            result
        })
    }

    fn sync_dir(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        self.disk.sync_dir()
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        self.disk.rename(from, to)
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        self.disk.remove(name)
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, u64), DiskError>> {
        self.disk.space()
    }
}
