//! The seams between the node and the world. Each has a real and a simulated implementation.
//!
//! Loops above the seams are `async` and the same in both. In a real node the committer, the
//! engine's feed and cold reads run each on a thread of its own, where [`Disk`] and [`Engine`]
//! block inside their futures; in the simulator they are tasks of the one paused runtime, where the
//! same futures take simulated time.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use quorate_ring::{Lsn, MonoTime, NodeId};

use crate::core::generation::GenerationRows;
pub use crate::core::input::Loaded;
use crate::core::input::RequestId;
use crate::core::key::RecordKey;
use crate::core::message::{PeerHeader, PeerMessage, Reply};
use crate::core::scan_page::{PagePart, PageRange};

/// A boxed future: one allocation per batch, never per record.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Time.
pub trait Clock: Debug + Send + Sync {
    /// Monotonic time since the node started.
    fn now(&self) -> MonoTime;
    /// Wall time in microseconds since 1970, for timestamps, expiry and logs; orders nothing.
    fn wall_micros(&self) -> u64;
    /// Completes at `at` or later.
    fn sleep_until(&self, at: MonoTime) -> BoxFuture<'static, ()>;
    /// Monotonic time in nanoseconds, for what takes less than [`Clock::now`] tells apart. For
    /// counters only: nothing is decided by it.
    fn precise_nanos(&self) -> u64 {
        self.now().as_micros().saturating_mul(1_000)
    }
    /// CPU time of the calling thread in nanoseconds, where threads have such; for counters only.
    fn thread_cpu_nanos(&self) -> u64 {
        self.precise_nanos()
    }
}

/// Randomness: one stream per purpose.
pub trait Rand: Debug + Send {
    /// 64 random bits.
    fn bits(&mut self) -> u64;
}

/// Sends to other nodes. Connections, hellos and retries of connections are the adapter's work;
/// what it hears goes to the inbox as [`crate::core::Input::Peer`] and
/// [`crate::core::Input::Link`].
pub trait Links: Debug + Send + Sync {
    /// Queues messages for `to` on its present connection. Never waits.
    ///
    /// # Errors
    /// [`LinkRefused`] if there is no connection or its queue is full; nothing was sent.
    fn send(
        &self,
        to: NodeId,
        header: PeerHeader,
        messages: Vec<PeerMessage>,
    ) -> Result<(), LinkRefused>;

    /// Closes connection number `link` to `peer`; it is made anew later.
    fn close(&self, peer: NodeId, link: u64);
}

/// Why messages were not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefused {
    /// No connection.
    #[error("not connected")]
    NotConnected,
    /// The queue holds as much as it may.
    #[error("queue full")]
    Full,
}

/// Answers clients.
pub trait ClientPort: Debug + Send + Sync {
    /// Queues answers on their connections; one whose connection is gone is dropped.
    fn reply(&self, replies: Vec<(RequestId, Reply)>);
}

/// Why a disk did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// No such file.
    #[error("{name}: no such file")]
    NotFound {
        /// Its name.
        name: String,
    },
    /// The file system is full.
    #[error("{name}: no space left on the device")]
    Full {
        /// The file that wanted to grow.
        name: String,
    },
    /// Anything else that the system reported.
    #[error("{name}: {reason}")]
    Io {
        /// The file.
        name: String,
        /// What the system said.
        reason: String,
    },
}

/// A directory of flat files, under the log and the small files of a store.
///
/// Nothing is durable before [`Disk::sync`] (content) and [`Disk::sync_dir`] (names) have returned;
/// after a failed sync nothing is known of the file's content.
pub trait Disk: Debug + Send + Sync {
    /// Names and lengths of all files, sorted by name.
    fn list(&self) -> BoxFuture<'_, Result<Vec<(String, u64)>, DiskError>>;
    /// Creates or truncates a file and fills it with `bytes` zeros, allocated on the device.
    fn create_zeroed<'a>(
        &'a self,
        name: &'a str,
        bytes: u64,
    ) -> BoxFuture<'a, Result<(), DiskError>>;
    /// Reads up to `bytes` bytes from `offset`; fewer only at the end of the file.
    fn read<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Bytes, DiskError>>;
    /// Writes all of `data` at `offset`; grows the file where it ends earlier. The file must exist.
    fn write<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        data: &'a [u8],
    ) -> BoxFuture<'a, Result<(), DiskError>>;
    /// Makes the file's content durable.
    fn sync<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DiskError>>;
    /// Makes created, renamed and removed names durable.
    fn sync_dir(&self) -> BoxFuture<'_, Result<(), DiskError>>;
    /// Renames a file, replacing `to` if it exists.
    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, Result<(), DiskError>>;
    /// Removes a file.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DiskError>>;
    /// Free and total bytes of the file system.
    fn space(&self) -> BoxFuture<'_, Result<(u64, u64), DiskError>>;
}

/// What the engine holds durably, written in the same ingestion as the rows up to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Every frame up to this one is in the engine.
    pub applied: Lsn,
    /// Name of the file that holds the bucket digests at `applied`.
    pub digest_file: String,
    /// xxh3-128 of that file.
    pub digest_checksum: u128,
}

/// Why the engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("engine: {reason}")]
pub struct EngineError {
    /// What it reported.
    pub reason: String,
    /// A checksum or the format shows that what was durable is not there any more; else the system
    /// failed.
    pub is_damage: bool,
    /// There was no room: what was asked may be asked again.
    pub is_full: bool,
}

/// One page of a scan: keys with records, in key order.
pub type EnginePage = Vec<(RecordKey, Bytes)>;

/// The tree behind the log. Fed by ingestions only, each atomic and durable when it returns.
pub trait Engine: Debug + Send + Sync {
    /// The newest checkpoint; `None` if nothing was ever ingested.
    fn checkpoint(&self) -> BoxFuture<'_, Result<Option<Checkpoint>, EngineError>>;
    /// Takes the rows of a generation together with the checkpoint they lead to. A row of no bytes
    /// takes its key away.
    fn ingest(
        &self,
        rows: Arc<GenerationRows>,
        checkpoint: Checkpoint,
    ) -> BoxFuture<'_, Result<(), EngineError>>;
    /// Looks keys up, in the order given. An unreadable one is damaged, never absent.
    fn load(&self, keys: Vec<RecordKey>) -> BoxFuture<'_, Loaded>;
    /// Up to `limit` rows after `after`, in key order.
    fn scan(
        &self,
        after: Option<RecordKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<EnginePage, EngineError>>;
    /// The smallest keys of a range over many vnodes, in the order of the user's keys, up to the
    /// range's bounds. Reads as many rows as it returns, and one more of each vnode.
    fn page(&self, range: PageRange) -> BoxFuture<'_, Result<PagePart, EngineError>>;
    /// Work left before the engine is at rest: runs of level 0 above its target, plus compactions
    /// under way. 0 = at rest.
    fn backlog(&self) -> u64;
}
