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

use std::collections::{BTreeMap, BTreeSet};

use crate::epoch::Epoch;
use crate::fixed_map::FixedMap;
use crate::keyspace::{Copies, Keyspace, KeyspaceName};
use crate::node::{KeyspaceId, NodeId, NodeName, Weight, Zone};
use crate::placement::{self, Assignment};
use crate::token::{BucketId, Token, VnodeCount, VnodeId};
use crate::topology_error::TopologyError;

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
    /// name that was once given names something else, or if a keyspace changed name, mode or
    /// durability.
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
            if let Err(error) = keyspace.options.check_levels(keyspace.copies) {
                return Err(TopologyError::DefaultLevel {
                    keyspace: name,
                    error,
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
                    if before.name != keyspace.name
                        || before.mode != keyspace.mode
                        || before.options.durability != keyspace.options.durability
                    {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, copies, keyspace, nodes};

    fn first() -> Epoch {
        Epoch::default()
    }

    fn second() -> Epoch {
        Epoch {
            generation: 0,
            number: 1,
        }
    }

    fn try_new(nodes: Vec<Node>, keyspaces: Vec<Keyspace>) -> Result<Topology, TopologyError> {
        Topology::new(first(), VnodeCount::DEFAULT, nodes, keyspaces)
    }

    #[test]
    fn what_makes_no_topology_is_refused_with_its_reason() {
        let name = |text: &str| text.parse::<NodeName>().expect("a name");
        let main = || vec![keyspace(1, "main", 1)];
        assert_eq!(try_new(vec![], main()), Err(TopologyError::NoNodes));

        let mut twice = nodes("a=1,b=1");
        twice[1].id = NodeId(1);
        assert_eq!(
            try_new(twice, main()),
            Err(TopologyError::DuplicateNodeId(NodeId(1)))
        );

        let same = TopologyError::DuplicateNodeName(name("a"));
        assert_eq!(try_new(nodes("a=1,a=1"), main()), Err(same));

        let mut neighbours = nodes("a=1,b=1");
        neighbours[1].address = "a:7400".into();
        let shared = TopologyError::DuplicateAddress {
            address: "a:7400".into(),
            first: name("a"),
            second: name("b"),
        };
        assert_eq!(try_new(neighbours, main()), Err(shared));

        for address in ["", "a", "a:", ":1", "a:0", "a:65536", "a:http"] {
            let mut lost = nodes("a=1");
            lost[0].address = address.into();
            let bad = TopologyError::BadAddress {
                node: name("a"),
                address: address.into(),
            };
            assert_eq!(try_new(lost, main()), Err(bad));
        }

        let ids = vec![keyspace(1, "one", 1), keyspace(1, "two", 1)];
        let same = TopologyError::DuplicateKeyspaceId(KeyspaceId(1));
        assert_eq!(try_new(nodes("a=1"), ids), Err(same));

        let names = vec![keyspace(1, "one", 1), keyspace(2, "one", 1)];
        let same = TopologyError::DuplicateKeyspaceName("one".parse().expect("a name"));
        assert_eq!(try_new(nodes("a=1"), names), Err(same));

        let few = TopologyError::TooFewNodes {
            keyspace: "one".parse().expect("a name"),
            copies: 3,
            nodes: 2,
        };
        let three = vec![keyspace(1, "one", 3)];
        assert_eq!(try_new(nodes("a=1,b=1"), three), Err(few));
    }

    #[test]
    fn look_ups_find_what_is_there_and_nothing_else() {
        let made = cluster("a=1,b=1,c=1", 2);
        assert_eq!(made.node(NodeId(2)).map(|n| n.name.as_str()), Some("b"));
        assert_eq!(made.node_named("c").map(|n| n.id), Some(NodeId(3)));
        assert_eq!((made.node(NodeId(4)), made.node_named("d")), (None, None));
        assert_eq!(
            made.keyspace_named("default").map(|k| k.id),
            Some(KeyspaceId(1))
        );
        assert!(made.keyspace(KeyspaceId(1)).is_some());
        assert!(made.keyspace(KeyspaceId(2)).is_none() && made.keyspace_named("x").is_none());
        let at = made.locate(KeyspaceId(1), b"key");
        assert_eq!(at.token, Token::of(KeyspaceId(1), b"key"));
        let owners = made.owners(at.vnode, copies(2));
        assert_eq!(owners.len(), 2);
        for node in made.nodes() {
            assert_eq!(
                made.is_owner(at.vnode, copies(2), node.id),
                owners.contains(&node.id)
            );
        }
        assert_eq!(made.owners(VnodeId(256), copies(2)), []);
        assert_eq!(made.owners(at.vnode, copies(3)), []);
    }

    #[test]
    fn ids_and_names_are_never_used_twice() {
        let before = cluster("a=1,b=1,c=1", 1);
        let without_b: Vec<Node> = nodes("a=1,b=1,c=1")
            .into_iter()
            .filter(|n| n.id.0 != 2)
            .collect();
        let keyspaces = before.keyspaces().to_vec();
        let after = before.evolve(second(), without_b.clone(), keyspaces.clone());
        let after = after.expect("a topology");
        assert_eq!(
            (after.next_node_id(), after.next_keyspace_id()),
            (NodeId(4), KeyspaceId(2))
        );

        let third = Epoch {
            generation: 1,
            number: 0,
        };
        let joins = |id: u32, name: &str| {
            let mut nodes = without_b.clone();
            nodes.push(Node {
                id: NodeId(id),
                name: name.parse().expect("a name"),
                address: "new:1".into(),
                weight: Weight::ONE,
                zone: Zone::default(),
            });
            after
                .evolve(third, nodes, keyspaces.clone())
                .map(|t| t.nodes().len())
        };
        assert_eq!(joins(4, "d"), Ok(3));
        assert!(matches!(
            joins(2, "d"),
            Err(TopologyError::NodeIdReused { .. })
        ));
        assert!(matches!(
            joins(2, "b"),
            Err(TopologyError::NodeNameReused { .. })
        ));
        assert!(matches!(
            joins(4, "b"),
            Err(TopologyError::NodeNameReused { .. })
        ));
        let again = before.evolve(first(), without_b.clone(), keyspaces.clone());
        assert!(matches!(again, Err(TopologyError::EpochNotNewer { .. })));
    }

    #[test]
    fn a_keyspace_keeps_its_name_and_its_number() {
        let before = cluster("a=1,b=1", 1);
        let all = || before.nodes().to_vec();
        let renamed = before.evolve(second(), all(), vec![keyspace(1, "other", 1)]);
        assert!(matches!(
            renamed,
            Err(TopologyError::KeyspaceChanged { .. })
        ));
        let dropped = before.evolve(second(), all(), vec![]).expect("a topology");
        let third = Epoch {
            generation: 0,
            number: 2,
        };
        let reused = dropped.evolve(third, all(), vec![keyspace(1, "default", 1)]);
        assert!(matches!(
            reused,
            Err(TopologyError::KeyspaceIdReused { .. })
        ));
    }

    #[test]
    fn owners_are_read_back_and_checked() {
        let made = cluster("a=1,b=2,c=1", 2);
        let read = |owners: Vec<NodeId>| {
            let (nodes, keyspaces) = (made.nodes().to_vec(), made.keyspaces().to_vec());
            let owners = BTreeMap::from([(copies(2), owners)]);
            Topology::with_owners(first(), VnodeCount::DEFAULT, nodes, keyspaces, owners)
        };
        let flat = made
            .assignment(copies(2))
            .expect("N is in use")
            .flat()
            .to_vec();
        assert_eq!(read(flat.clone()).as_ref(), Ok(&made));
        let mut stranger = flat.clone();
        stranger[0] = NodeId(9);
        let mut twice = flat.clone();
        twice[0] = twice[1];
        for bad in [stranger, twice, flat[2..].to_vec()] {
            assert_eq!(read(bad), Err(TopologyError::BadOwners { copies: 2 }));
        }
    }

    #[test]
    fn fallbacks_are_met_walking_clockwise() {
        let made = cluster("a=1,b=1,c=1,d=1,e=1", 2);
        let list = made.preference_list(VnodeId(255), copies(2));
        let mut want = Vec::new();
        for vnode in [255, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9] {
            for owner in made.owners(VnodeId(vnode), copies(2)) {
                if !want.contains(owner) {
                    want.push(*owner);
                }
            }
        }
        assert_eq!(list.nodes(), want);
        assert_eq!((list.primaries().len(), list.fallbacks().len()), (2, 3));
        let unused = made.preference_list(VnodeId(0), copies(4));
        assert_eq!((unused.primaries().len(), unused.fallbacks().len()), (0, 5));
    }
}
