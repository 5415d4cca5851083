//! Where data lives: tokens, vnodes, weighted zone-aware placement, preference lists, quorums.
//!
//! Pure: no IO, clock, randomness, logs or metrics. The same input always gives the same answer,
//! on every node and in every release of one format, because nodes that disagree about placement
//! would read and write disjoint replica sets.
//!
//! Not here: who is alive (`node::core`), how data moves (`node::core`), what is stored.

mod fixed_map;
mod node;
mod placement;
pub mod planted;
mod preference;
mod quorum;
mod time;
mod token;
mod topology;

pub use fixed_map::{FixedMap, FixedSet, FixedState};
pub use node::{
    Actor, Incarnation, KeyspaceId, Lsn, NodeId, NodeName, NodeNameError, Weight, WeightError, Zone,
};
pub use placement::Assignment;
pub use preference::PreferenceList;
pub use quorum::{
    ConsistencyLevel, LevelError, LevelParseError, is_monotonic, majority, reads_see_writes,
    writes_meet,
};
pub use time::MonoTime;
pub use token::{BUCKET_BITS, BucketId, Token, VnodeCount, VnodeCountError, VnodeId};
pub use topology::{
    Copies, CopiesError, Epoch, Keyspace, KeyspaceMode, KeyspaceModeError, KeyspaceName,
    KeyspaceNameError, Location, Node, Topology, TopologyError,
};
