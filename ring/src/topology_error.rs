//! Why nodes and keyspaces make no topology.

use crate::epoch::Epoch;
use crate::keyspace::KeyspaceName;
use crate::node::{KeyspaceId, NodeId, NodeName};
use crate::quorum::LevelError;

/// Why nodes and keyspaces make no topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// There is no node.
    #[error("a cluster needs at least one node")]
    NoNodes,
    /// One number was given to two nodes.
    #[error("node number {0} is given twice")]
    DuplicateNodeId(NodeId),
    /// One name was given to two nodes.
    #[error("node `{0}` is there twice")]
    DuplicateNodeName(NodeName),
    /// Two nodes claim one address.
    #[error("address {address} belongs to both `{first}` and `{second}`")]
    DuplicateAddress {
        /// The address.
        address: String,
        /// The node with the lower number.
        first: NodeName,
        /// The other node.
        second: NodeName,
    },
    /// An address is not `HOST:PORT`.
    #[error("address `{address}` of node `{node}` is not HOST:PORT with a port from 1 to 65535")]
    BadAddress {
        /// Whose address.
        node: NodeName,
        /// What was given.
        address: String,
    },
    /// One number was given to two keyspaces.
    #[error("keyspace number {} is given twice", .0.0)]
    DuplicateKeyspaceId(KeyspaceId),
    /// One name was given to two keyspaces.
    #[error("keyspace `{0}` is there twice")]
    DuplicateKeyspaceName(KeyspaceName),
    /// A keyspace wants more copies than there are nodes.
    #[error("keyspace `{keyspace}` keeps {copies} copies, but there are only {nodes} nodes")]
    TooFewNodes {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// Its N.
        copies: u8,
        /// How many nodes there are.
        nodes: usize,
    },
    /// A keyspace's default level does not fit its N or its kind of operation.
    #[error("keyspace `{keyspace}`: {error}")]
    DefaultLevel {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// Why.
        error: LevelError,
    },
    /// The new epoch is not after the old one.
    #[error("epoch {given} does not follow {current}")]
    EpochNotNewer {
        /// The epoch there is.
        current: Epoch,
        /// The epoch that was to follow it.
        given: Epoch,
    },
    /// A number that belonged to another or a removed node was given again.
    #[error("node number {id} was already used by `{by}`, it cannot be given to `{name}`")]
    NodeIdReused {
        /// The number.
        id: NodeId,
        /// Who had it.
        by: NodeName,
        /// Who was to get it.
        name: NodeName,
    },
    /// A name that belonged to another or a removed node was given again.
    #[error("node name `{name}` was already used, choose another")]
    NodeNameReused {
        /// The name.
        name: NodeName,
    },
    /// A number that belonged to a dropped keyspace was given again.
    #[error("keyspace number {} was already used, it cannot be given to `{name}`", .id.0)]
    KeyspaceIdReused {
        /// The number.
        id: KeyspaceId,
        /// Who was to get it.
        name: KeyspaceName,
    },
    /// A keyspace's name, mode or durability differs from what it was created with.
    #[error("name, mode and durability of keyspace `{name}` were fixed when it was created")]
    KeyspaceChanged {
        /// Its name until now.
        name: KeyspaceName,
    },
    /// A list of owners does not fit the nodes, the vnodes or N.
    #[error("the owners given for {copies} copies are incomplete or name an unknown node")]
    BadOwners {
        /// The N concerned.
        copies: u8,
    },
}
