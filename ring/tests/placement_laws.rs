//! The laws of placement over random clusters and random chains of changes (DESIGN.md 3).

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use quorate_ring::{
    Copies, Distribution, Epoch, Keyspace, KeyspaceId, KeyspaceMode, Node, NodeId, NodeShare, Plan,
    Topology, VnodeCount, Weight, Zone,
};

/// One change of a running cluster. Indices are taken modulo what is there.
#[derive(Debug, Clone)]
enum Change {
    Join { weight: f64, zone: u32 },
    Leave { index: usize },
    Replace { index: usize },
    Reweight { index: usize, weight: f64 },
    Rezone { index: usize, zone: u32 },
    SetCopies { copies: u8 },
}

#[derive(Debug, Clone)]
struct Cluster {
    vnode_count: VnodeCount,
    nodes: Vec<Node>,
    copies: u8,
}

fn copies(n: u8) -> Copies {
    Copies::new(n).expect("at least one copy")
}

fn node(id: u32, weight: f64, zone: u32) -> Node {
    Node {
        id: NodeId(id),
        name: format!("n{id}").parse().expect("a name"),
        address: format!("host-{id}:7400"),
        weight: Weight::new(weight).expect("a weight"),
        zone: Zone(format!("z{zone}")),
    }
}

fn keyspace(n: u8) -> Keyspace {
    Keyspace {
        id: KeyspaceId(1),
        name: "default".parse().expect("a name"),
        mode: KeyspaceMode::Siblings,
        options: quorate_ring::KeyspaceOptions::default(),
        copies: copies(n),
    }
}

fn number(number: u64) -> Epoch {
    Epoch {
        generation: 0,
        number,
    }
}

fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => Just(1.0),
        2 => prop::sample::select(vec![0.5, 2.0, 3.0, 4.0]),
        2 => 0.1..10.0,
        1 => prop::sample::select(vec![1e-9, 1e9, f64::MIN_POSITIVE, f64::MAX]),
    ]
}

fn cluster(zones: u32) -> impl Strategy<Value = Cluster> {
    let nodes = prop::collection::vec((weight(), 0..zones), 1..14);
    let bits = prop_oneof![1 => 0..8_u32, 2 => Just(8_u32), 1 => Just(9_u32)];
    (bits, nodes, 1..6_u8).prop_map(|(bits, nodes, copies)| {
        let nodes: Vec<Node> = (1..)
            .zip(nodes)
            .map(|(id, (weight, zone))| node(id, weight, zone))
            .collect();
        Cluster {
            vnode_count: VnodeCount::new(1 << bits).expect("a power of two"),
            copies: copies.min(u8::try_from(nodes.len()).expect("few nodes")),
            nodes,
        }
    })
}

fn any_cluster() -> impl Strategy<Value = Cluster> {
    (1..7_u32).prop_flat_map(cluster)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (weight(), 0..6_u32).prop_map(|(weight, zone)| Change::Join { weight, zone }),
        3 => (0..100_usize).prop_map(|index| Change::Leave { index }),
        1 => (0..100_usize).prop_map(|index| Change::Replace { index }),
        2 => (0..100_usize, weight()).prop_map(|(index, weight)| Change::Reweight { index, weight }),
        1 => (0..100_usize, 0..6_u32).prop_map(|(index, zone)| Change::Rezone { index, zone }),
        1 => (1..6_u8).prop_map(|copies| Change::SetCopies { copies }),
    ]
}

impl Cluster {
    fn create(&self) -> Topology {
        let (nodes, keyspaces) = (self.nodes.clone(), vec![keyspace(self.copies)]);
        Topology::new(number(1), self.vnode_count, nodes, keyspaces).expect("a topology")
    }

    /// Carries out a change that leaves enough nodes.
    fn change(&mut self, topology: &Topology, change: &Change) -> Topology {
        let fresh = topology.next_node_id().0;
        let count = self.nodes.len();
        match change {
            Change::Join { weight, zone } => self.nodes.push(node(fresh, *weight, *zone)),
            Change::Leave { index } => {
                if count > usize::from(self.copies) {
                    self.nodes.remove(index % count);
                }
            }
            Change::Replace { index } => {
                let old = self.nodes.remove(index % count);
                let new = node(fresh, old.weight.value(), 0);
                self.nodes.push(Node {
                    zone: old.zone,
                    ..new
                });
            }
            Change::Reweight { index, weight } => {
                self.nodes[index % count].weight = Weight::new(*weight).expect("a weight");
            }
            Change::Rezone { index, zone } => {
                self.nodes[index % count].zone = Zone(format!("z{zone}"));
            }
            Change::SetCopies { copies } => {
                self.copies = (*copies).min(u8::try_from(count).expect("few nodes"));
            }
        }
        let epoch = number(topology.epoch().number + 1);
        let keyspaces = vec![keyspace(self.copies)];
        topology
            .evolve(epoch, self.nodes.clone(), keyspaces)
            .expect("a topology")
    }
}

/// Every vnode has N distinct members as primaries, spread over zones as evenly as can be.
fn check_vnodes(topology: &Topology, n: u8) {
    let mut sizes: BTreeMap<&Zone, usize> = BTreeMap::new();
    for node in topology.nodes() {
        *sizes.entry(&node.zone).or_default() += 1;
    }
    for vnode in topology.vnode_count().vnodes() {
        let owners = topology.owners(vnode, copies(n));
        let distinct: BTreeSet<_> = owners.iter().collect();
        assert_eq!(
            (owners.len(), distinct.len()),
            (usize::from(n), usize::from(n))
        );
        let mut held: BTreeMap<&Zone, usize> = sizes.keys().map(|zone| (*zone, 0)).collect();
        for owner in owners {
            let zone = &topology.node(*owner).expect("a member").zone;
            *held.get_mut(zone).expect("a zone") += 1;
        }
        if sizes.len() >= usize::from(n) {
            assert!(
                held.values().all(|copies| *copies <= 1),
                "{vnode:?}: {held:?}"
            );
        }
        let most = held.values().copied().max().expect("a zone");
        for (zone, copies) in &held {
            let even = most - copies <= 1 || sizes.get(zone) == Some(copies);
            assert!(even, "{vnode:?}: {held:?}");
        }
    }
}

/// Every node has its share, within 2 % or by rounding, and its part of the first places.
fn check_shares(topology: &Topology, n: u8) {
    let report = Distribution::of(topology, copies(n), []).expect("N is in use");
    let places = f64::from(topology.vnode_count().get()) * f64::from(n);
    let whole: f64 = report.nodes.iter().map(|row| row.reachable).sum();
    assert!((whole - 1.0).abs() < 1e-6, "{report:?}");
    for row in &report.nodes {
        let ideal = row.reachable * places;
        let missed = (row.reached * places - ideal).abs();
        assert!(
            missed < 1.0 || missed <= 0.02 * ideal + 1e-6,
            "{row:?} of {places}"
        );
        assert!(row.reachable <= 1.0 / f64::from(n) + 1e-9, "{row:?}");
    }
    let zones: BTreeSet<&Zone> = topology.nodes().iter().map(|node| &node.zone).collect();
    let feasible = |row: &NodeShare| row.wanted <= 1.0 / f64::from(n);
    if zones.len() == 1 && report.nodes.iter().all(feasible) {
        for row in &report.nodes {
            assert!((row.reachable - row.wanted).abs() < 1e-6, "{report:?}");
        }
    }
}

fn check_preference_lists(topology: &Topology, n: u8) {
    for vnode in topology.vnode_count().vnodes().take(32) {
        let list = topology.preference_list(vnode, copies(n));
        assert_eq!(list.primaries(), topology.owners(vnode, copies(n)));
        let mut named: Vec<NodeId> = list.nodes().to_vec();
        named.sort_unstable();
        let all: Vec<NodeId> = topology.nodes().iter().map(|node| node.id).collect();
        assert_eq!(named, all);
    }
}

fn check_all(topology: &Topology, n: u8) {
    check_vnodes(topology, n);
    check_shares(topology, n);
    check_preference_lists(topology, n);
}

/// Whether weights are followed to the letter, with room: no node, and no zone if there are
/// several, is near what it can hold.
fn has_room(topology: &Topology, n: u8) -> bool {
    let report = Distribution::of(topology, copies(n), []).expect("N is in use");
    let places = f64::from(topology.vnode_count().get()) * f64::from(n);
    let mut zones: BTreeMap<&Zone, f64> = BTreeMap::new();
    for row in &report.nodes {
        *zones.entry(&row.zone).or_default() += row.reachable;
    }
    let one = 1.0 / f64::from(n);
    let roomy = zones.len() == 1 || zones.values().all(|share| *share <= 0.8 * one);
    roomy
        && report.nodes.iter().all(|row| {
            let untouched = (row.reachable - row.wanted).abs() * places < 0.01;
            untouched && row.reachable <= 0.9 * one
        })
}

/// Whether each zone holds exactly one copy of everything.
fn has_one_copy_per_zone(topology: &Topology, n: u8) -> bool {
    let zones: BTreeSet<&Zone> = topology.nodes().iter().map(|node| &node.zone).collect();
    zones.len() == usize::from(n)
}

/// A change moves the least that is possible for the nodes' shares, plus 5 %. Where nodes or
/// zones are near what they can hold, or a node changes its zone, old owners can be in each
/// other's way; then `flow`'s own law, that no choice moves less, is all that can be asked.
fn check_moves(before: (&Topology, u8), after: (&Topology, u8), change: &Change) {
    let plan = Plan::between(before.0, after.0).expect("one number of vnodes");
    let (moves, least) = (plan.moves(), plan.moves_least());
    assert!(moves >= least, "{change:?}: {moves} moves, least {least}");
    let stays = !matches!(change, Change::Rezone { .. });
    if stays && has_room(before.0, before.1) && has_room(after.0, after.1) {
        assert!(
            moves * 100 <= least * 105,
            "{change:?}: {moves} moves, least {least}"
        );
    }
    let same_n = before.1 == after.1;
    let per_zone = |(topology, n)| has_one_copy_per_zone(topology, n);
    if stays && same_n && per_zone(before) && per_zone(after) {
        assert_eq!(moves, least, "{change:?}");
    }
}

/// A fixed seed: the bound of 5 % is measured, not proven, so a build must not depend on luck.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 256,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(7),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_new_cluster_and_every_change_of_it_keep_the_rules_and_move_little(
        mut cluster in any_cluster(),
        changes in prop::collection::vec(change(), 0..6),
    ) {
        let mut topology = cluster.create();
        check_all(&topology, cluster.copies);
        for change in changes {
            let (n_before, before) = (cluster.copies, topology);
            topology = cluster.change(&before, &change);
            check_all(&topology, cluster.copies);
            check_moves((&before, n_before), (&topology, cluster.copies), &change);
        }
    }

    #[test]
    fn owners_do_not_depend_on_the_order_in_which_nodes_are_given(
        mut cluster in any_cluster(),
        change in change(),
        turn in 0..14_usize,
    ) {
        let mut turned = cluster.clone();
        let count = turned.nodes.len();
        turned.nodes.rotate_left(turn % count);
        turned.nodes.reverse();
        let (one, two) = (cluster.create(), turned.create());
        prop_assert_eq!(&one, &two);
        // The same change of the same node, whatever its index.
        let after = cluster.change(&one, &change);
        let mut nodes = cluster.nodes.clone();
        nodes.reverse();
        let keyspaces = vec![keyspace(cluster.copies)];
        let again = two.evolve(after.epoch(), nodes, keyspaces).expect("a topology");
        prop_assert_eq!(after, again);
    }

    #[test]
    fn nothing_moves_when_nothing_changes(cluster in any_cluster()) {
        let before = cluster.create();
        let keyspaces = vec![keyspace(cluster.copies)];
        let after = before.evolve(number(2), cluster.nodes.clone(), keyspaces).expect("a topology");
        let plan = Plan::between(&before, &after).expect("one number of vnodes");
        prop_assert_eq!((plan.moves(), plan.moves_least()), (0, 0));
    }
}

#[test]
fn equal_nodes_join_and_leave_with_the_least_moves() {
    for (zones, n) in [(1, 1), (1, 2), (1, 3), (3, 3), (5, 3)] {
        let count = 2 * zones.max(3);
        let mut cluster = Cluster {
            vnode_count: VnodeCount::DEFAULT,
            nodes: (0..count).map(|id| node(id + 1, 1.0, id % zones)).collect(),
            copies: n,
        };
        let mut topology = cluster.create();
        let joins = (0..6).map(|zone| Change::Join {
            weight: 1.0,
            zone: zone % zones,
        });
        let leaves = (0..6).map(|index| Change::Leave { index });
        for change in joins.chain(leaves) {
            let next = cluster.change(&topology, &change);
            check_all(&next, n);
            let plan = Plan::between(&topology, &next).expect("one number of vnodes");
            let (moves, least) = (plan.moves(), plan.moves_least());
            assert!(
                moves * 100 <= least * 105,
                "{zones} zones: {change:?}, {moves} and {least}"
            );
            topology = next;
        }
    }
}
