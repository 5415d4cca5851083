//! What a change of the topology would move: the difference of two topologies.
//!
//! A move is a (vnode, node) pair that is there afterwards and was not before: one transfer of one
//! vnode to one node. New keyspaces hold nothing yet and move nothing.
//!
//! Not here: carrying a plan out (`node::core`), bytes (the nodes know them, `ring` knows keys).

use std::collections::{BTreeMap, BTreeSet};

use crate::epoch::Epoch;
use crate::keyspace::Copies;
use crate::node::{KeyspaceId, NodeId, NodeName};
use crate::placement::{Assignment, indices};
use crate::shares::Shares;
use crate::token::{Token, VnodeCount};
use crate::topology::Topology;
use crate::warning::{PlacementWarning, warnings};

/// The difference of two topologies.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The epoch there is.
    pub before: Epoch,
    /// The epoch there would be.
    pub after: Epoch,
    /// One entry for each N before and after that keyspaces have together.
    pub changes: Vec<CopiesChange>,
}

/// What the keyspaces with one N before and one N after would move.
#[derive(Debug, Clone, PartialEq)]
pub struct CopiesChange {
    /// N before.
    pub copies_before: Copies,
    /// N after.
    pub copies_after: Copies,
    /// The keyspaces concerned; each of them moves its part of these vnodes.
    pub keyspaces: Vec<KeyspaceId>,
    /// Pairs of vnode and node gained.
    pub moves: u64,
    /// The fewest moves by which every node can come to an allowed share and every vnode to
    /// enough owners in enough zones; each seen alone, so a lower bound.
    pub moves_least: u64,
    /// The greatest deviation of a node's vnodes from its ideal share before, as a fraction of
    /// that share; nodes that join or leave are not looked at.
    pub deviation_before: f64,
    /// The same afterwards, among all nodes.
    pub deviation_after: f64,
    /// One row for each node that is there before or after, by number.
    pub nodes: Vec<NodeChange>,
    /// What the weights and zones ask for and cannot get, after the change.
    pub warnings: Vec<PlacementWarning>,
    vnode_count: VnodeCount,
    /// Owners that each vnode gains.
    gained_by_vnode: Vec<u64>,
}

/// What one node would gain and lose. All counts are vnodes.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeChange {
    /// The node's number.
    pub node: NodeId,
    /// The node's name.
    pub name: NodeName,
    /// Owned before.
    pub before: u64,
    /// Owned after.
    pub after: u64,
    /// Owned after but not before: what is copied to the node.
    pub gained: u64,
    /// Owned before but not after: what the node drops in the end.
    pub lost: u64,
    /// Ideal share before; `None` if the node joins.
    pub ideal_before: Option<f64>,
    /// Ideal share after; `None` if the node leaves.
    pub ideal_after: Option<f64>,
}

/// Part of a key sample that a change would move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeysMoved {
    /// Keys looked at.
    pub keys: u64,
    /// Keys that get at least one new owner.
    pub moved: u64,
    /// Copies of keys that are made: new owners, summed over the keys.
    pub copies: u64,
}

impl Plan {
    /// Compares two topologies of one cluster. `None` if they differ in the number of vnodes.
    #[must_use]
    pub fn between(before: &Topology, after: &Topology) -> Option<Self> {
        if before.vnode_count() != after.vnode_count() {
            return None;
        }
        let mut groups: BTreeMap<(Copies, Copies), Vec<KeyspaceId>> = BTreeMap::new();
        for keyspace in after.keyspaces() {
            if let Some(was) = before.keyspace(keyspace.id) {
                let group = groups.entry((was.copies, keyspace.copies)).or_default();
                group.push(keyspace.id);
            }
        }
        let changes = groups.into_iter().filter_map(|((old, new), keyspaces)| {
            let old = before.assignment(old)?;
            let new = after.assignment(new)?;
            Some(CopiesChange::between(
                (before, old),
                (after, new),
                keyspaces,
            ))
        });
        Some(Self {
            before: before.epoch(),
            after: after.epoch(),
            changes: changes.collect(),
        })
    }

    /// Moves over all entries.
    #[must_use]
    pub fn moves(&self) -> u64 {
        self.changes.iter().map(|change| change.moves).sum()
    }

    /// The least possible moves over all entries.
    #[must_use]
    pub fn moves_least(&self) -> u64 {
        self.changes.iter().map(|change| change.moves_least).sum()
    }
}

impl CopiesChange {
    /// What of the keys at `tokens` would move.
    pub fn keys_moved(&self, tokens: impl IntoIterator<Item = Token>) -> KeysMoved {
        let mut sum = KeysMoved::default();
        for token in tokens {
            let vnode = usize::from(self.vnode_count.vnode_of(token).0);
            let copies = self.gained_by_vnode.get(vnode).copied().unwrap_or_default();
            sum.keys += 1;
            sum.moved += u64::from(copies > 0);
            sum.copies += copies;
        }
        sum
    }

    /// Copies of keys that would be made if `keys` keys are spread evenly over the ring, rounded
    /// down.
    #[must_use]
    pub fn copies_expected(&self, keys: u64) -> u64 {
        let vnodes = u128::from(self.vnode_count.get());
        let copies = u128::from(keys) * u128::from(self.moves) / vnodes;
        u64::try_from(copies).unwrap_or(u64::MAX)
    }

    fn between(
        (before, old): (&Topology, &Assignment),
        (after, new): (&Topology, &Assignment),
        keyspaces: Vec<KeyspaceId>,
    ) -> Self {
        let shares = Shares::of(after.vnode_count(), new.copies(), after.nodes());
        let mut rows = rows(
            (
                before,
                &Shares::of(before.vnode_count(), old.copies(), before.nodes()),
            ),
            (after, &shares),
        );
        let mut gained_by_vnode = Vec::with_capacity(new.lists().len());
        for (was, is) in old.lists().zip(new.lists()) {
            let mut gained = 0;
            for node in was.iter().chain(is).collect::<BTreeSet<_>>() {
                let Some(row) = rows.get_mut(node) else {
                    continue;
                };
                let (had, has) = (was.contains(node), is.contains(node));
                row.before += u64::from(had);
                row.after += u64::from(has);
                row.gained += u64::from(has && !had);
                row.lost += u64::from(had && !has);
                gained += u64::from(has && !had);
            }
            gained_by_vnode.push(gained);
        }
        let nodes: Vec<NodeChange> = rows.into_values().collect();
        let stays = |row: &&NodeChange| row.ideal_after.is_some();
        Self {
            copies_before: old.copies(),
            copies_after: new.copies(),
            keyspaces,
            moves: gained_by_vnode.iter().sum(),
            moves_least: moves_least(&shares, after, old),
            deviation_before: greatest_deviation(
                nodes
                    .iter()
                    .filter(stays)
                    .map(|row| (row.before, row.ideal_before)),
            ),
            deviation_after: greatest_deviation(
                nodes.iter().map(|row| (row.after, row.ideal_after)),
            ),
            warnings: warnings(new.copies(), after.nodes(), &shares),
            nodes,
            vnode_count: after.vnode_count(),
            gained_by_vnode,
        }
    }
}

/// One empty row for each node of either topology.
fn rows(
    (before, shares_before): (&Topology, &Shares),
    (after, shares_after): (&Topology, &Shares),
) -> BTreeMap<NodeId, NodeChange> {
    let mut rows = BTreeMap::new();
    for (node, share) in before.nodes().iter().zip(&shares_before.nodes) {
        let row = NodeChange {
            node: node.id,
            name: node.name.clone(),
            before: 0,
            after: 0,
            gained: 0,
            lost: 0,
            ideal_before: Some(share.ideal),
            ideal_after: None,
        };
        rows.insert(node.id, row);
    }
    for (node, share) in after.nodes().iter().zip(&shares_after.nodes) {
        let row = rows.entry(node.id).or_insert_with(|| NodeChange {
            node: node.id,
            name: node.name.clone(),
            before: 0,
            after: 0,
            gained: 0,
            lost: 0,
            ideal_before: None,
            ideal_after: None,
        });
        row.ideal_after = Some(share.ideal);
    }
    rows
}

/// The greater of two lower bounds: what nodes lack of their shares, and what vnodes lack of
/// owners once leavers, and copies that a zone has too many of, are gone.
fn moves_least(shares: &Shares, after: &Topology, old: &Assignment) -> u64 {
    let mut held = vec![0; shares.nodes.len()];
    let mut missing = 0;
    let mut zone_copies = vec![0; shares.zones.len()];
    for list in old.lists() {
        zone_copies.fill(0);
        for node in indices(after.nodes(), list) {
            if let Some(held) = held.get_mut(node) {
                *held += 1;
            }
            let zone = shares.nodes.get(node).map(|share| share.zone);
            if let Some(copies) = zone.and_then(|zone| zone_copies.get_mut(zone)) {
                *copies += 1;
            }
        }
        let pairs = zone_copies.iter().zip(&shares.zones);
        let kept: usize = pairs.map(|(copies, limit)| limit.most.min(*copies)).sum();
        missing += shares.copies.saturating_sub(kept);
    }
    shares.least_gain(&held).max(missing) as u64
}

fn greatest_deviation(rows: impl Iterator<Item = (u64, Option<f64>)>) -> f64 {
    rows.filter_map(|(held, ideal)| {
        let held = u32::try_from(held).map(f64::from).ok()?;
        let ideal = ideal.filter(|ideal| *ideal > 0.0)?;
        Some((held / ideal - 1.0).abs())
    })
    .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::sample_tokens;
    use crate::testing::{cluster, keyspace, nodes};

    fn next(before: &Topology, text: &str, n: u8) -> Topology {
        let epoch = Epoch {
            generation: 0,
            number: before.epoch().number + 1,
        };
        before
            .evolve(epoch, nodes(text), vec![keyspace(1, "default", n)])
            .expect("a topology")
    }

    #[test]
    fn a_fourth_equal_node_gets_a_quarter_and_nobody_else_gains() {
        let before = cluster("a=1,b=1,c=1", 1);
        let after = next(&before, "a=1,b=1,c=1,d=1", 1);
        let plan = Plan::between(&before, &after).expect("one number of vnodes");
        let [change] = plan.changes.as_slice() else {
            panic!("{plan:?}");
        };
        assert_eq!(plan.moves(), plan.moves_least());
        assert!((63..=64).contains(&plan.moves()), "{plan:?}");
        assert_eq!(change.copies_expected(256_000), plan.moves() * 1000);
        let sample = change.keys_moved(sample_tokens(KeyspaceId(1), 10_000));
        assert_eq!((sample.keys, sample.moved), (10_000, sample.copies));
        assert!((2_200..=2_800).contains(&sample.moved), "{sample:?}");
        for row in &change.nodes {
            assert_eq!(row.after + row.lost, row.before + row.gained, "{row:?}");
            assert_eq!(row.gained > 0, row.name.as_str() == "d", "{row:?}");
        }
        assert!(change.deviation_after <= 0.02 && change.warnings.is_empty());
    }

    #[test]
    fn one_copy_more_moves_each_vnode_once() {
        let before = cluster("a=1@x,b=1@y,c=1@z", 2);
        let after = next(&before, "a=1@x,b=1@y,c=1@z", 3);
        let plan = Plan::between(&before, &after).expect("one number of vnodes");
        assert_eq!((plan.moves(), plan.moves_least()), (256, 256));
    }

    #[test]
    fn too_few_zones_are_warned_of() {
        let before = cluster("a=1@x,b=1@x,c=1@y", 2);
        let after = next(&before, "a=1@x,b=1@x,c=1@y", 3);
        let plan = Plan::between(&before, &after).expect("one number of vnodes");
        let want = PlacementWarning::TooFewZones {
            copies: 3,
            zones: 2,
            together: 2,
        };
        let warnings: Vec<_> = plan.changes.iter().flat_map(|c| &c.warnings).collect();
        assert_eq!(warnings, [&want]);
    }
}
