//! Where data lives: tokens, vnodes, weighted zone-aware placement, preference lists, quorums.
//!
//! Pure: no IO, clock, randomness, logs or metrics. The same input always gives the same answer,
//! on every node and in every release of one format, because nodes that disagree about placement
//! would read and write disjoint replica sets.
//!
//! Not here: who is alive (`node::core`), how data moves (`node::core`), what is stored.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::wildcard_enum_match_arm)
)]

mod distribution;
mod epoch;
mod fixed_map;
mod flow;
pub mod hedge;
mod keyspace;
mod keyspace_options;
mod node;
mod placement;
mod plan;
pub mod planted;
mod preference;
mod quorum;
mod shares;
#[cfg(test)]
mod testing;
mod time;
mod token;
mod topology;
mod topology_error;
mod warning;

pub use distribution::{Distribution, NodeShare, sample_tokens};
pub use epoch::Epoch;
pub use fixed_map::{FixedMap, FixedSet, FixedState};
pub use keyspace::{
    Copies, CopiesError, Keyspace, KeyspaceMode, KeyspaceModeError, KeyspaceName, KeyspaceNameError,
};
pub use keyspace_options::{Durability, DurabilityError, KeyspaceOptions, Ttl, TtlError};
pub use node::{
    Actor, Incarnation, KeyspaceId, Lsn, NodeId, NodeName, NodeNameError, Weight, WeightError, Zone,
};
pub use placement::Assignment;
pub use plan::{CopiesChange, KeysMoved, NodeChange, Plan};
pub use preference::PreferenceList;
pub use quorum::{
    ConsistencyLevel, LevelError, LevelParseError, StrictLevel, is_monotonic, majority,
    reads_see_writes, writes_meet,
};
pub use time::MonoTime;
pub use token::{BUCKET_BITS, BucketId, Token, VnodeCount, VnodeCountError, VnodeId};
pub use topology::{Location, Node, Topology};
pub use topology_error::TopologyError;
pub use warning::PlacementWarning;
