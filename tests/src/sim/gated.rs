//! Disk and engine of a process that can be paused: results wait at its gate.

use std::sync::Arc;

use bytes::Bytes;
use quorate_node::core::generation::GenerationRows;
use quorate_node::core::key::RecordKey;
use quorate_node::core::scan_page::{PagePart, PageRange};
use quorate_node::shell::seam::{
    BoxFuture, Checkpoint, Disk, DiskError, Engine, EngineError, EnginePage, Loaded,
};

use super::gate::Gate;

/// A disk behind a gate.
#[derive(Debug)]
pub struct GatedDisk {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The process' gate.
    pub gate: Gate,
}

/// An engine behind a gate.
#[derive(Debug)]
pub struct GatedEngine {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// The process' gate.
    pub gate: Gate,
}

macro_rules! gated {
    ($self:ident, $call:expr) => {
        Box::pin(async move {
            let result = $call.await;
            $self.gate.wait().await;
            result
        })
    };
}

impl Disk for GatedDisk {
    fn list(&self) -> BoxFuture<'_, Result<Vec<(String, u64)>, DiskError>> {
        gated!(self, self.disk.list())
    }

    fn create_zeroed<'a>(
        &'a self,
        name: &'a str,
        bytes: u64,
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        gated!(self, self.disk.create_zeroed(name, bytes))
    }

    fn read<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Bytes, DiskError>> {
        gated!(self, self.disk.read(name, offset, bytes))
    }

    fn write<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        data: &'a [u8],
    ) -> BoxFuture<'a, Result<(), DiskError>> {
        gated!(self, self.disk.write(name, offset, data))
    }

    fn sync<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        gated!(self, self.disk.sync(name))
    }

    fn sync_dir(&self) -> BoxFuture<'_, Result<(), DiskError>> {
        gated!(self, self.disk.sync_dir())
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        gated!(self, self.disk.rename(from, to))
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DiskError>> {
        gated!(self, self.disk.remove(name))
    }

    fn space(&self) -> BoxFuture<'_, Result<(u64, u64), DiskError>> {
        gated!(self, self.disk.space())
    }
}

impl Engine for GatedEngine {
    fn checkpoint(&self) -> BoxFuture<'_, Result<Option<Checkpoint>, EngineError>> {
        gated!(self, self.engine.checkpoint())
    }

    fn ingest(
        &self,
        rows: Arc<GenerationRows>,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        gated!(self, self.engine.ingest(rows, checkpoint))
    }

    fn load(&self, keys: Vec<RecordKey>) -> BoxFuture<'_, Loaded> {
        gated!(self, self.engine.load(keys))
    }

    fn scan(
        &self,
        after: Option<RecordKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<EnginePage, EngineError>> {
        gated!(self, self.engine.scan(after, limit))
    }

    fn page(&self, range: PageRange) -> BoxFuture<'_, Result<PagePart, EngineError>> {
        gated!(self, self.engine.page(range))
    }

    fn backlog(&self) -> u64 {
        self.engine.backlog()
    }
}
