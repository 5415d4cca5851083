//! Owners of fixed clusters. Nodes of different releases must agree on them, so a change of what
//! is written here is a change of format.

use quorate_ring::{
    Copies, Epoch, Keyspace, KeyspaceId, KeyspaceMode, Node, NodeId, Topology, VnodeCount, VnodeId,
    Weight, Zone,
};
use xxhash_rust::xxh3::xxh3_64;

/// Nodes given as (weight, zone), numbered from 1.
fn topology(rows: &[(f64, &str)]) -> Topology {
    let nodes = (1..).zip(rows).map(|(id, (weight, zone))| Node {
        id: NodeId(id),
        name: format!("n{id}").parse().expect("a name"),
        address: format!("host-{id}:7400"),
        weight: Weight::new(*weight).expect("a weight"),
        zone: Zone((*zone).into()),
    });
    let keyspace = Keyspace {
        id: KeyspaceId(1),
        name: "default".parse().expect("a name"),
        mode: KeyspaceMode::Siblings,
        options: quorate_ring::KeyspaceOptions::default(),
        copies: Copies::DEFAULT,
    };
    Topology::new(
        Epoch::default(),
        VnodeCount::DEFAULT,
        nodes.collect(),
        vec![keyspace],
    )
    .expect("a topology")
}

/// The first eight lists, and a hash of all of them.
fn print_of(topology: &Topology) -> (Vec<String>, u64) {
    let list = |vnode| -> Vec<u32> {
        let owners = topology.owners(VnodeId(vnode), Copies::DEFAULT);
        owners.iter().map(|owner| owner.0).collect()
    };
    let first = (0..8).map(|vnode| format!("{:?}", list(vnode)));
    let all: Vec<u8> = (0..256).flat_map(list).flat_map(u32::to_le_bytes).collect();
    (first.collect(), xxh3_64(&all))
}

const SIX: [(f64, &str); 6] = [
    (1.0, "a"),
    (1.0, "a"),
    (2.0, "b"),
    (1.0, "b"),
    (0.5, "c"),
    (1.0, "c"),
];

#[test]
fn three_equal_nodes() {
    let (first, all) = print_of(&topology(&[(1.0, ""); 3]));
    assert_eq!(
        first,
        [
            "[2, 3, 1]",
            "[2, 1, 3]",
            "[3, 2, 1]",
            "[2, 1, 3]",
            "[3, 2, 1]",
            "[3, 1, 2]",
            "[3, 1, 2]",
            "[2, 3, 1]"
        ]
    );
    assert_eq!(all, 0x5ce9_afdb_89d7_4574);
}

#[test]
fn six_weighted_nodes_in_three_zones() {
    let (first, all) = print_of(&topology(&SIX));
    assert_eq!(
        first,
        [
            "[4, 1, 6]",
            "[2, 3, 5]",
            "[3, 2, 6]",
            "[3, 6, 1]",
            "[2, 3, 6]",
            "[4, 6, 2]",
            "[3, 6, 2]",
            "[3, 6, 1]"
        ]
    );
    assert_eq!(all, 0xa9ec_55fc_9e60_2df1);
}

#[test]
fn a_seventh_node_joins() {
    let before = topology(&SIX);
    let mut nodes = topology(&[&SIX[..], &[(1.0, "a")]].concat())
        .nodes()
        .to_vec();
    nodes.reverse();
    let epoch = Epoch {
        generation: 0,
        number: 1,
    };
    let after = before
        .evolve(epoch, nodes, before.keyspaces().to_vec())
        .expect("a topology");
    let (first, all) = print_of(&after);
    assert_eq!(
        first,
        [
            "[4, 1, 6]",
            "[2, 3, 5]",
            "[2, 3, 6]",
            "[3, 6, 1]",
            "[2, 3, 6]",
            "[4, 6, 2]",
            "[2, 6, 3]",
            "[1, 6, 3]"
        ]
    );
    assert_eq!(all, 0x5bcf_02b7_3457_22db);
}
