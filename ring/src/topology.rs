//! Who owns which vnode: an immutable value at one epoch.
//!
//! Built once, checked once, then shared. A change makes a new value with a newer epoch, either
//! from scratch ([`Topology::new`]) or with the least movement from its predecessor
//! ([`Topology::evolve`]). All look-ups that requests need are O(1).
//!
//! Invariants:
//! - nodes and keyspaces are in the order of their ids; no id, name or address is there twice;
//! - for each N in use, each vnode has exactly N distinct primaries, all of them members;
//! - an id or a name that was once given is never given to something else.
//!
//! Not here: how primaries are chosen (`placement`), moves under way (one more table beside
//! `assignments`, when membership changes while running), how a topology is agreed on.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::fixed_map::FixedMap;
use crate::node::{KeyspaceId, NodeId, NodeName, Weight, Zone};
use crate::placement::{self, Assignment};
use crate::token::{BucketId, Token, VnodeCount, VnodeId};

/// Which topology: a higher generation wins, then a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch {
    /// Raised only when a cluster is recovered after the loss of a majority.
    pub generation: u64,
    /// Raised by every change.
    pub number: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.number)
    }
}

/// N: how many nodes hold each key of a keyspace, 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Copies(u8);

/// Why a number of copies is not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("0 copies: a keyspace keeps at least 1")]
pub struct CopiesError;

impl Copies {
    /// What a keyspace has unless it says otherwise.
    pub const DEFAULT: Self = Self(3);

    /// Checks a number of copies.
    ///
    /// # Errors
    /// [`CopiesError`] if `count` is 0.
    pub const fn new(count: u8) -> Result<Self, CopiesError> {
        if count == 0 {
            Err(CopiesError)
        } else {
            Ok(Self(count))
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its number, never used again.
    pub id: NodeId,
    /// Its name, never used again.
    pub name: NodeName,
    /// Where others reach it: `HOST:PORT`.
    pub address: String,
    /// Its relative share of the data.
    pub weight: Weight,
    /// Its failure domain.
    pub zone: Zone,
}

/// What a keyspace does with concurrent writes; fixed when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum KeyspaceMode {
    /// Concurrent values are kept apart until a write supersedes them.
    #[default]
    Siblings,
}

/// Why a word names no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyspaceModeError {
    /// No such mode.
    #[error("`{given}` is no keyspace mode; use siblings")]
    Unknown {
        /// What was given, at most 64 characters of it.
        given: String,
    },
    /// A mode that this version does not have yet.
    #[error("mode `{given}` comes with later work; use siblings")]
    NotYet {
        /// What was given.
        given: String,
    },
}

impl FromStr for KeyspaceMode {
    type Err = KeyspaceModeError;

    fn from_str(text: &str) -> Result<Self, KeyspaceModeError> {
        let given = || text.chars().take(64).collect();
        match text {
            "siblings" => Ok(Self::Siblings),
            "lww" | "strong" => Err(KeyspaceModeError::NotYet { given: given() }),
            _ => Err(KeyspaceModeError::Unknown { given: given() }),
        }
    }
}

impl fmt::Display for KeyspaceMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Siblings => f.write_str("siblings"),
        }
    }
}

/// Name of a keyspace: 1 to 32 characters of `[a-z0-9_-]`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyspaceName(Arc<str>);

/// Why a text is no keyspace name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no keyspace name: use 1 to 32 of the characters a-z, 0-9, _ and -")]
pub struct KeyspaceNameError {
    /// What was given, at most 64 characters of it.
    pub given: String,
}

impl KeyspaceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets a map keyed by names be asked with plain text; `Hash` and `Eq` are those of the text.
impl Borrow<str> for KeyspaceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyspaceName {
    type Err = KeyspaceNameError;

    fn from_str(text: &str) -> Result<Self, KeyspaceNameError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if (1..=32).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(KeyspaceNameError {
                given: text.chars().take(64).collect(),
            })
        }
    }
}

impl fmt::Display for KeyspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of keys with one mode and one N.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyspace {
    /// Its number, never used again; part of every token.
    pub id: KeyspaceId,
    /// Its name.
    pub name: KeyspaceName,
    /// What it does with concurrent writes.
    pub mode: KeyspaceMode,
    /// How many copies it keeps.
    pub copies: Copies,
}

/// Where a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// Its position on the ring.
    pub token: Token,
    /// The vnode that holds the token.
    pub vnode: VnodeId,
    /// The bucket of the vnode whose digest covers the key.
    pub bucket: BucketId,
}

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
    /// A keyspace's name or mode differs from what it was created with.
    #[error("name and mode of keyspace `{name}` were fixed when it was created")]
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

/// Nodes, keyspaces and owners at one epoch. Share it in an `Arc`.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    epoch: Epoch,
    vnode_count: VnodeCount,
    nodes: Vec<Node>,
    keyspaces: Vec<Keyspace>,
    assignments: BTreeMap<Copies, Assignment>,
    node_index: FixedMap<NodeId, usize>,
    node_index_by_name: FixedMap<NodeName, usize>,
    keyspace_index: FixedMap<KeyspaceId, usize>,
    keyspace_index_by_name: FixedMap<KeyspaceName, usize>,
    names_given: BTreeMap<NodeId, NodeName>,
    keyspace_ids_given: BTreeSet<KeyspaceId>,
}

impl Topology {
    /// Checks nodes and keyspaces, in any order, and chooses the owners of every vnode from
    /// scratch.
    ///
    /// # Errors
    /// [`TopologyError`] if something is there twice, missing, or N is above the number of nodes.
    pub fn new(
        epoch: Epoch,
        vnode_count: VnodeCount,
        nodes: Vec<Node>,
        keyspaces: Vec<Keyspace>,
    ) -> Result<Self, TopologyError> {
        let mut made = Self::without_owners(epoch, vnode_count, nodes, keyspaces)?;
        made.assignments = made
            .copies_in_use()
            .into_iter()
            .map(|n| (n, placement::create(vnode_count, n, &made.nodes)))
            .collect();
        Ok(made)
    }

    /// The topology after a change: the same vnodes, other nodes or keyspaces, and the fewest
    /// moves that bring every node to its share.
    ///
    /// An N that was not in use starts from the owners of the keyspace that now uses it.
    ///
    /// # Errors
    /// [`TopologyError`] as for [`Topology::new`]; also if `epoch` is not newer, if a number or a
    /// name that was once given names something else, or if a keyspace changed name or mode.
    pub fn evolve(
        &self,
        epoch: Epoch,
        nodes: Vec<Node>,
        keyspaces: Vec<Keyspace>,
    ) -> Result<Self, TopologyError> {
        if epoch <= self.epoch {
            return Err(TopologyError::EpochNotNewer {
                current: self.epoch,
                given: epoch,
            });
        }
        let mut made = Self::without_owners(epoch, self.vnode_count, nodes, keyspaces)?;
        made.remember_names(self)?;
        made.remember_keyspaces(self)?;
        made.assignments = made
            .copies_in_use()
            .into_iter()
            .map(|n| {
                let owners = match self.predecessor(&made, n) {
                    Some(old) => placement::evolve(self.vnode_count, n, &made.nodes, old),
                    None => placement::create(self.vnode_count, n, &made.nodes),
                };
                (n, owners)
            })
            .collect();
        Ok(made)
    }

    /// A topology with owners that were chosen before, as it is read back from a file or a peer.
    ///
    /// `owners` holds for each N in use the primaries of all vnodes, one after the other.
    ///
    /// # Errors
    /// [`TopologyError`] as for [`Topology::new`], and if owners are missing or do not fit.
    pub fn with_owners(
        epoch: Epoch,
        vnode_count: VnodeCount,
        nodes: Vec<Node>,
        keyspaces: Vec<Keyspace>,
        mut owners: BTreeMap<Copies, Vec<NodeId>>,
    ) -> Result<Self, TopologyError> {
        let mut made = Self::without_owners(epoch, vnode_count, nodes, keyspaces)?;
        for n in made.copies_in_use() {
            let assignment = owners
                .remove(&n)
                .and_then(|list| Assignment::checked(vnode_count, n, &made.nodes, list))
                .ok_or(TopologyError::BadOwners { copies: n.get() })?;
            made.assignments.insert(n, assignment);
        }
        Ok(made)
    }

    /// Which topology this is.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many vnodes the ring has.
    #[must_use]
    pub const fn vnode_count(&self) -> VnodeCount {
        self.vnode_count
    }

    /// All nodes, by number.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node with a number.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(*self.node_index.get(&id)?)
    }

    /// The node with a name.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<&Node> {
        self.nodes.get(*self.node_index_by_name.get(name)?)
    }

    /// All keyspaces, by number.
    #[must_use]
    pub fn keyspaces(&self) -> &[Keyspace] {
        &self.keyspaces
    }

    /// The keyspace with a number.
    #[must_use]
    pub fn keyspace(&self, id: KeyspaceId) -> Option<&Keyspace> {
        self.keyspaces.get(*self.keyspace_index.get(&id)?)
    }

    /// The keyspace with a name.
    #[must_use]
    pub fn keyspace_named(&self, name: &str) -> Option<&Keyspace> {
        self.keyspaces.get(*self.keyspace_index_by_name.get(name)?)
    }

    /// Every N that a keyspace uses, with the owners for it.
    pub fn assignments(&self) -> impl Iterator<Item = (Copies, &Assignment)> {
        self.assignments.iter().map(|(n, owners)| (*n, owners))
    }

    /// The owners for one N, if a keyspace uses it.
    #[must_use]
    pub fn assignment(&self, copies: Copies) -> Option<&Assignment> {
        self.assignments.get(&copies)
    }

    /// The N primaries of a vnode in order; empty if no keyspace uses this N or there is no such
    /// vnode.
    #[must_use]
    pub fn owners(&self, vnode: VnodeId, copies: Copies) -> &[NodeId] {
        self.assignments
            .get(&copies)
            .map_or(&[], |owners| owners.of(vnode))
    }

    /// Whether `node` is a primary of `vnode`. Looks at N entries.
    #[must_use]
    pub fn is_owner(&self, vnode: VnodeId, copies: Copies, node: NodeId) -> bool {
        self.owners(vnode, copies).contains(&node)
    }

    /// Where `key` of `keyspace` is. Does not check that there is such a keyspace.
    #[must_use]
    pub fn locate(&self, keyspace: KeyspaceId, key: &[u8]) -> Location {
        let token = Token::of(keyspace, key);
        Location {
            token,
            vnode: self.vnode_count.vnode_of(token),
            bucket: self.vnode_count.bucket_of(token),
        }
    }

    /// Who once had which node number, present and removed nodes alike.
    #[must_use]
    pub const fn names_given(&self) -> &BTreeMap<NodeId, NodeName> {
        &self.names_given
    }

    /// The lowest node number above all that were ever given.
    #[must_use]
    pub fn next_node_id(&self) -> NodeId {
        let last = self.names_given.last_key_value();
        NodeId(last.map_or(1, |(id, _)| id.0.saturating_add(1)))
    }

    /// The lowest keyspace number above all that were ever given.
    #[must_use]
    pub fn next_keyspace_id(&self) -> KeyspaceId {
        let last = self.keyspace_ids_given.last();
        KeyspaceId(last.map_or(1, |id| id.0.saturating_add(1)))
    }

    fn without_owners(
        epoch: Epoch,
        vnode_count: VnodeCount,
        mut nodes: Vec<Node>,
        mut keyspaces: Vec<Keyspace>,
    ) -> Result<Self, TopologyError> {
        nodes.sort_by_key(|node| node.id);
        keyspaces.sort_by_key(|keyspace| keyspace.id);
        let mut made = Self {
            epoch,
            vnode_count,
            nodes: Vec::new(),
            keyspaces: Vec::new(),
            assignments: BTreeMap::new(),
            node_index: FixedMap::default(),
            node_index_by_name: FixedMap::default(),
            keyspace_index: FixedMap::default(),
            keyspace_index_by_name: FixedMap::default(),
            names_given: BTreeMap::new(),
            keyspace_ids_given: BTreeSet::new(),
        };
        made.add_nodes(nodes)?;
        made.add_keyspaces(keyspaces)?;
        Ok(made)
    }

    fn add_nodes(&mut self, nodes: Vec<Node>) -> Result<(), TopologyError> {
        let mut addresses: BTreeMap<&str, &NodeName> = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            if self.node_index.insert(node.id, index).is_some() {
                return Err(TopologyError::DuplicateNodeId(node.id));
            }
            let name = node.name.clone();
            if self
                .node_index_by_name
                .insert(name.clone(), index)
                .is_some()
            {
                return Err(TopologyError::DuplicateNodeName(name));
            }
            if !is_host_and_port(&node.address) {
                let address = node.address.clone();
                return Err(TopologyError::BadAddress {
                    node: name,
                    address,
                });
            }
            if let Some(first) = addresses.insert(&node.address, &node.name) {
                return Err(TopologyError::DuplicateAddress {
                    address: node.address.clone(),
                    first: first.clone(),
                    second: name,
                });
            }
            self.names_given.insert(node.id, name);
        }
        if nodes.is_empty() {
            return Err(TopologyError::NoNodes);
        }
        self.nodes = nodes;
        Ok(())
    }

    fn add_keyspaces(&mut self, keyspaces: Vec<Keyspace>) -> Result<(), TopologyError> {
        for (index, keyspace) in keyspaces.iter().enumerate() {
            let name = keyspace.name.clone();
            if self.keyspace_index.insert(keyspace.id, index).is_some() {
                return Err(TopologyError::DuplicateKeyspaceId(keyspace.id));
            }
            if self
                .keyspace_index_by_name
                .insert(name.clone(), index)
                .is_some()
            {
                return Err(TopologyError::DuplicateKeyspaceName(name));
            }
            if usize::from(keyspace.copies.get()) > self.nodes.len() {
                return Err(TopologyError::TooFewNodes {
                    keyspace: name,
                    copies: keyspace.copies.get(),
                    nodes: self.nodes.len(),
                });
            }
            self.keyspace_ids_given.insert(keyspace.id);
        }
        self.keyspaces = keyspaces;
        Ok(())
    }

    fn copies_in_use(&self) -> BTreeSet<Copies> {
        self.keyspaces.iter().map(|k| k.copies).collect()
    }

    /// Takes over who ever had a number, and refuses whoever takes what another had.
    fn remember_names(&mut self, old: &Self) -> Result<(), TopologyError> {
        let ids_given: BTreeMap<&NodeName, NodeId> =
            old.names_given.iter().map(|(id, n)| (n, *id)).collect();
        for node in &self.nodes {
            let name = node.name.clone();
            if let Some(by) = old.names_given.get(&node.id).filter(|by| **by != name) {
                let by = by.clone();
                return Err(TopologyError::NodeIdReused {
                    id: node.id,
                    by,
                    name,
                });
            }
            let had_another_id = ids_given.get(&name).is_some_and(|id| *id != node.id);
            let was_removed = ids_given.contains_key(&name) && old.node(node.id).is_none();
            if had_another_id || was_removed {
                return Err(TopologyError::NodeNameReused { name });
            }
        }
        let given = old.names_given.iter();
        self.names_given
            .extend(given.map(|(id, name)| (*id, name.clone())));
        Ok(())
    }

    fn remember_keyspaces(&mut self, old: &Self) -> Result<(), TopologyError> {
        for keyspace in &self.keyspaces {
            match old.keyspace(keyspace.id) {
                Some(before) => {
                    if before.name != keyspace.name || before.mode != keyspace.mode {
                        let name = before.name.clone();
                        return Err(TopologyError::KeyspaceChanged { name });
                    }
                }
                None => {
                    if old.keyspace_ids_given.contains(&keyspace.id) {
                        let name = keyspace.name.clone();
                        return Err(TopologyError::KeyspaceIdReused {
                            id: keyspace.id,
                            name,
                        });
                    }
                }
            }
        }
        self.keyspace_ids_given
            .extend(old.keyspace_ids_given.iter());
        Ok(())
    }

    /// What the owners for `copies` are to resemble.
    fn predecessor(&self, next: &Self, copies: Copies) -> Option<&Assignment> {
        self.assignments.get(&copies).or_else(|| {
            let now = next.keyspaces.iter().filter(|k| k.copies == copies);
            let before = now.filter_map(|k| self.keyspace(k.id)).next()?;
            self.assignments.get(&before.copies)
        })
    }
}

fn is_host_and_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}
