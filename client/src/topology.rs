//! The topology as a client knows it: an immutable snapshot, from which owners are computed.
//!
//! Not here: how owners are chosen (`quorate_ring`), when a newer one is fetched (`client`).

use std::str::FromStr;
use std::sync::Arc;

use quorate_ring::{
    ConsistencyLevel, Copies, CopiesError, Durability, DurabilityError, Epoch, FixedMap, Keyspace,
    KeyspaceId, KeyspaceMode, KeyspaceModeError, KeyspaceName, KeyspaceNameError, KeyspaceOptions,
    Node, NodeId, NodeName, NodeNameError, PreferenceList, Token, TopologyError, Ttl, TtlError,
    VnodeCount, VnodeCountError, VnodeId, Weight, WeightError, Zone,
};

use crate::client::wire_level;
use crate::link::ClusterId;
use crate::transport::NodeEndpoint;
use crate::wire::{KeyspaceInfo, Level, NodeInfo, TopologyInfo};

/// Nodes, keyspaces and owners at one epoch.
#[derive(Debug)]
pub struct Topology {
    info: TopologyInfo,
    ring: quorate_ring::Topology,
    nodes: Vec<NodeId>,
    endpoints: FixedMap<NodeId, Arc<NodeEndpoint>>,
}

/// Why what a node sent is no topology that this client can use.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyUnusable {
    /// The number of vnodes.
    #[error(transparent)]
    Vnodes(#[from] VnodeCountError),
    /// The name of a node.
    #[error(transparent)]
    NodeName(#[from] NodeNameError),
    /// The weight of a node.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// The name of a keyspace.
    #[error(transparent)]
    KeyspaceName(#[from] KeyspaceNameError),
    /// The mode of a keyspace.
    #[error(transparent)]
    Mode(#[from] KeyspaceModeError),
    /// The copies of a keyspace.
    #[error(transparent)]
    Copies(#[from] CopiesError),
    /// The durability of a keyspace.
    #[error(transparent)]
    Durability(#[from] DurabilityError),
    /// The TTL of a keyspace.
    #[error(transparent)]
    Ttl(#[from] TtlError),
    /// The whole.
    #[error(transparent)]
    Whole(#[from] TopologyError),
}

/// Who owns a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners {
    /// Position of the key on the ring.
    pub token: Token,
    /// The vnode that holds it.
    pub vnode: VnodeId,
    /// Names of the nodes that hold it, in order.
    pub primaries: Vec<String>,
    /// Names of all other nodes, in the order in which they would stand in.
    pub fallbacks: Vec<String>,
}

impl Topology {
    /// Checks what a node sent and computes the owners.
    pub(crate) fn from_wire(info: TopologyInfo) -> Result<Self, TopologyUnusable> {
        let epoch = Epoch {
            generation: info.generation,
            number: info.number,
        };
        let vnodes = VnodeCount::new(info.vnodes)?;
        let nodes: Result<_, _> = info.nodes.iter().map(node).collect();
        let keyspaces: Result<_, _> = info.keyspaces.iter().map(keyspace).collect();
        let ring = quorate_ring::Topology::new(epoch, vnodes, nodes?, keyspaces?)?;
        let endpoints = ring.nodes().iter().map(|node| (node.id, endpoint(node)));
        Ok(Self {
            nodes: ring.nodes().iter().map(|node| node.id).collect(),
            endpoints: endpoints.collect(),
            info,
            ring,
        })
    }

    /// As it was sent.
    #[must_use]
    pub const fn info(&self) -> &TopologyInfo {
        &self.info
    }

    /// With its owners.
    #[must_use]
    pub const fn ring(&self) -> &quorate_ring::Topology {
        &self.ring
    }

    /// Id of the cluster.
    #[must_use]
    pub const fn cluster_id(&self) -> ClusterId {
        ClusterId(self.info.cluster_id)
    }

    /// Name of a node, or its number if it is not known.
    #[must_use]
    pub fn node_label(&self, id: NodeId) -> String {
        let node = self.ring.node(id);
        node.map_or_else(|| id.to_string(), |node| node.name.to_string())
    }

    /// Who owns `key`; `None` if there is no such keyspace.
    #[must_use]
    pub fn owners(&self, keyspace: &str, key: &[u8]) -> Option<Owners> {
        let keyspace = self.ring.keyspace_named(keyspace)?;
        let location = self.ring.locate(keyspace.id, key);
        let list: PreferenceList = self.ring.preference_list(location.vnode, keyspace.copies);
        let labels = |ids: &[NodeId]| ids.iter().map(|id| self.node_label(*id)).collect();
        Some(Owners {
            token: location.token,
            vnode: location.vnode,
            primaries: labels(list.primaries()),
            fallbacks: labels(list.fallbacks()),
        })
    }

    /// What a keyspace does with concurrent writes; `None` if it is not known.
    #[must_use]
    pub fn mode(&self, keyspace: &str) -> Option<KeyspaceMode> {
        self.ring.keyspace_named(keyspace).map(|known| known.mode)
    }

    /// What operations on a keyspace have that say nothing; the usual where it is not known.
    pub(crate) fn options(&self, keyspace: &str) -> KeyspaceOptions {
        let known = self.ring.keyspace_named(keyspace);
        known.map(|known| known.options).unwrap_or_default()
    }

    pub(crate) fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The primaries of a key; none if there is no such keyspace.
    pub(crate) fn primaries(&self, keyspace: &str, key: &[u8]) -> &[NodeId] {
        let Some(keyspace) = self.ring.keyspace_named(keyspace) else {
            return &[];
        };
        let location = self.ring.locate(keyspace.id, key);
        self.ring.owners(location.vnode, keyspace.copies)
    }

    pub(crate) fn endpoint(&self, node: NodeId) -> Option<&Arc<NodeEndpoint>> {
        self.endpoints.get(&node)
    }

    /// N of a keyspace; all nodes if it is not known here.
    #[must_use]
    pub fn copies(&self, keyspace: &str) -> u8 {
        let known = self.ring.keyspace_named(keyspace);
        let nodes = u8::try_from(self.nodes().len()).unwrap_or(u8::MAX);
        known.map_or(nodes, |keyspace| keyspace.copies.get())
    }

    /// Whether `level` can be met; a keyspace that is not known here is left to the nodes.
    pub(crate) fn level_fits(
        &self,
        keyspace: &str,
        level: ConsistencyLevel,
        is_write: bool,
    ) -> bool {
        let copies = self.ring.keyspace_named(keyspace).map(|k| k.copies);
        let copies = copies.or_else(|| Copies::new(u8::MAX).ok());
        copies.is_some_and(|copies| {
            let required = if is_write {
                level.replicas_for_write(copies)
            } else {
                level.replicas_for_read(copies)
            };
            required.is_ok()
        })
    }
}

fn node(info: &NodeInfo) -> Result<Node, TopologyUnusable> {
    Ok(Node {
        id: NodeId(info.id),
        name: NodeName::from_str(&info.name)?,
        address: info.address.clone(),
        weight: Weight::new(info.weight)?,
        zone: Zone(info.zone.clone()),
    })
}

fn keyspace(info: &KeyspaceInfo) -> Result<Keyspace, TopologyUnusable> {
    Ok(Keyspace {
        id: KeyspaceId(info.id),
        name: KeyspaceName::from_str(&info.name)?,
        mode: KeyspaceMode::from_str(&info.mode)?,
        copies: Copies::new(info.copies)?,
        options: KeyspaceOptions {
            durability: match info.durability.as_str() {
                "" => Durability::Disk,
                word => word.parse()?,
            },
            read_level: ring_level(info.read_level, ConsistencyLevel::Read),
            write_level: ring_level(info.write_level, ConsistencyLevel::Write),
            ttl: match info.ttl_ms {
                0 => None,
                millis => Some(Ttl::from_millis(millis)?),
            },
        },
    })
}

fn ring_level(level: Level, exactly: fn(u8) -> ConsistencyLevel) -> ConsistencyLevel {
    match level {
        Level::One => ConsistencyLevel::One,
        Level::Two => ConsistencyLevel::Two,
        Level::Quorum => ConsistencyLevel::Quorum,
        Level::All => ConsistencyLevel::All,
        Level::Exactly(count) => exactly(count),
        Level::Sloppy(level) => ring_level(level.into(), exactly).sloppy(),
    }
}

impl From<&Keyspace> for KeyspaceInfo {
    fn from(keyspace: &Keyspace) -> Self {
        let Keyspace {
            id,
            name,
            mode,
            copies,
            options,
        } = keyspace;
        // A checked keyspace has no level that does not travel.
        let level = |level| wire_level(level).unwrap_or_default();
        Self {
            id: id.0,
            name: name.to_string(),
            mode: mode.to_string(),
            copies: copies.get(),
            durability: options.durability.to_string(),
            read_level: level(options.read_level),
            write_level: level(options.write_level),
            ttl_ms: options.ttl.map_or(0, Ttl::millis),
        }
    }
}

fn endpoint(node: &Node) -> Arc<NodeEndpoint> {
    Arc::new(NodeEndpoint {
        id: Some(node.id),
        name: Some(node.name.to_string()),
        address: node.address.clone(),
    })
}
