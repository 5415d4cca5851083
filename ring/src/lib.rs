//! Where data lives: tokens, vnodes, weighted zone-aware placement, preference lists, quorums.
//!
//! Pure: no IO, clock, randomness, logs or metrics. The same input always gives the same answer,
//! on every node and in every release of one format, because nodes that disagree about placement
//! would read and write disjoint replica sets.
//!
//! Not here: who is alive (`node::core`), how data moves (`node::core`), what is stored.

mod fixed_map;
mod node;
pub mod planted;
mod time;
mod token;

pub use fixed_map::{FixedMap, FixedSet, FixedState};
pub use node::{
    Actor, Incarnation, KeyspaceId, Lsn, NodeId, NodeName, NodeNameError, Weight, WeightError, Zone,
};
pub use time::MonoTime;
pub use token::{BucketId, Token, VnodeCount, VnodeCountError, VnodeId};
