//! The store of a node: a log that is the durability, an engine behind it that is fed from memory.
//!
//! How the shard's loop uses it ([`open`] is the one entry, for real nodes and the simulator):
//! - `recovered` is the shard's starting point. The loops are futures that the caller runs: on
//!   threads of their own in a real node ([`StoreThreads`]), as tasks in the simulator;
//! - the appends and memories of one round of steps go as one [`Submission`] into
//!   [`StoreHandle::commits`]; loads and generations into their queues. None of them waits. Before
//!   taking further input the loop looks at the queues' room;
//! - everything comes back as [`crate::core::StoreEvent`] through the `events` sink given to
//!   [`open`], on the store's threads; the sink hands it to the shard's inbox;
//! - [`StoreHandle::stop`] ends all loops and marks the clean stop; dropping the loops is a crash.
//!
//! Not here: merging, the table and its cache (`core`), what a record is (`antientropy`).

mod batch;
mod bytes;
mod committer;
mod config;
mod declared;
pub mod disk;
pub mod engine;
mod engine_begun;
mod engine_config;
mod engine_open;
mod error;
mod feeder;
mod frame;
mod group;
mod hint_log;
mod identity;
mod loader;
mod losses;
mod merge_pace;
mod open;
mod priority;
mod queue;
mod replay;
mod scanner;
mod segment;
mod segments;
mod set_aside;
mod start;
mod threads;
mod writeback;

pub use committer::{CommitQueue, Declared, Events, Submission};
pub use config::StoreConfig;
pub use error::OpenError;
pub use feeder::FeedQueue;
pub use hint_log::HintQueue;
pub use identity::{FIRST_START, Owner, StoreId};
pub use loader::LoadQueue;
pub use losses::note_loss;
pub use open::{EngineOpener, OpenOptions, Opened, StoreHandle, StoreLoops, open};
pub(super) use priority::give_way;
pub use queue::QueueRefused;
pub use scanner::ScanQueue;
pub use set_aside::{MARK, mark_damaged, set_aside_if_marked};
pub use threads::StoreThreads;
