//! Two arrangements of a node's store behind one seam: the log-first store of the product, and the
//! plain one, where every write goes through the tree's own journal with a group commit.
//!
//! The seam is what the shard needs of table and store together: the newest state of a key, a load
//! of what is not in memory, a write, and the store's events. Both sides keep records in memory,
//! load what is not there in batches on a thread of its own, sync on a thread of its own, and
//! durably keep the same: records, their last LSN, the sums of every bucket.
//!
//! Not here: merging, peers, clients. A write's new state does not depend on its old one, but the
//! old one must be at hand, for the sums.

pub mod child;
pub mod log_first;
pub mod parent;
pub mod plain;
pub mod plain_memory;
pub mod report;
pub mod settings;
pub mod threads;
pub mod write_loop;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Result;
use bytes::Bytes;
use quorate_antientropy::RecordChange;
use quorate_node::core::input::StoreEvent;
use quorate_node::core::key::RecordKey;
use quorate_node::core::table::Lookup;
use quorate_node::shell::store::Events;
use quorate_ring::{BucketId, Lsn};

/// Events of a store that may wait for the loop. Each ends at least one write or load under way,
/// and there are fewer of these, so that a sender never waits.
const EVENTS_MAX: usize = 1 << 16;

/// Table and store of one node.
pub trait Arrangement {
    /// The newest state of a key, in flight or durable.
    fn newest(&self, key: &RecordKey) -> Lookup;
    /// Asks for a key that is not in memory; answered by an event.
    ///
    /// # Errors
    /// If the store does not take it.
    fn load(&mut self, key: RecordKey) -> Result<()>;
    /// Makes `record` the newest state of a key whose state is known. Not handed over before
    /// [`Arrangement::send`].
    fn write(
        &mut self,
        key: &RecordKey,
        bucket: BucketId,
        change: RecordChange,
        record: Bytes,
    ) -> Lsn;
    /// Hands over what was written since the last call, and lets go what memory has no room for.
    ///
    /// # Errors
    /// If the store does not take it.
    fn send(&mut self) -> Result<()>;
    /// Takes in an event of the store.
    ///
    /// # Errors
    /// If the store has failed.
    fn hear(&mut self, event: StoreEvent) -> Result<Heard>;
    /// Whether a write has room.
    fn has_room(&self) -> bool;
    /// Checkpoints so far; `None` if the arrangement has none. Between two of them a whole cycle
    /// of writes and of what follows from them is done.
    fn checkpoints(&self) -> Option<u64>;
    /// Begins what is left to do for writes that are durable, as far as it can be begun.
    ///
    /// # Errors
    /// If the store has failed.
    fn settle(&mut self) -> Result<()>;
    /// Work that is left for the writes so far; 0 at rest.
    fn backlog(&self) -> u64;
    /// Ends the store in order, with all its threads.
    ///
    /// # Errors
    /// If a thread of it has failed.
    fn stop(self: Box<Self>) -> Result<()>;
}

/// What an event of the store means to who writes.
#[derive(Debug)]
pub enum Heard {
    /// Every write up to this one is durable.
    Durable(Lsn),
    /// These keys are known now.
    Loaded(Vec<RecordKey>),
    /// Nothing that a writer waits for.
    Other,
}

/// An arrangement that is open.
pub struct Opened {
    /// Table and store.
    pub store: Box<dyn Arrangement>,
    /// What the store says.
    pub events: Receiver<StoreEvent>,
    /// The last durable write.
    pub durable: Lsn,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

/// A way for events from a store's threads to the loop.
fn event_channel() -> (Events, Receiver<StoreEvent>) {
    let (sender, events) = sync_channel(EVENTS_MAX);
    let tell = move |event| {
        // A loop that has ended misses nothing.
        drop(sender.send(event));
    };
    (Arc::new(tell), events)
}
