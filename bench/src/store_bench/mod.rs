//! The store of a node alone, as the shard uses it: core's table above, log, committer, loader and
//! the engine's feed behind it, without peers and clients.
//!
//! What is told: writes per second, CPU time per write until the engine is at rest, the time to
//! durability, and how long a store that was killed takes until it serves again.
//!
//! Not here: merging. A write's new state does not depend on its old one, but the old one must be
//! at hand, for the sums.

pub mod child;
pub mod lookups;
pub mod parent;
pub mod report;
pub mod settings;
pub mod store;
pub mod write_loop;
