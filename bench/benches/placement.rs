//! Where data live: looking up the owners of a key, and planning a ring of 30 nodes.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use quorate_ring::{
    Copies, Epoch, Keyspace, KeyspaceId, KeyspaceMode, KeyspaceOptions, Node, NodeId, Plan,
    Topology, VnodeCount, Weight, Zone,
};

const KEYSPACE: KeyspaceId = KeyspaceId(1);

/// Nodes of equal weight in three zones.
fn nodes(count: u32) -> Vec<Node> {
    let node = |number| Node {
        id: NodeId(number),
        name: format!("n{number}").parse().expect("a name"),
        address: format!("n{number}:7400"),
        zone: Zone(format!("z{}", number % 3)),
        weight: Weight::new(1.0).expect("a weight"),
    };
    (1..=count).map(node).collect()
}

fn keyspaces() -> Vec<Keyspace> {
    vec![Keyspace {
        id: KEYSPACE,
        name: "default".parse().expect("a name"),
        mode: KeyspaceMode::Siblings,
        options: KeyspaceOptions::default(),
        copies: copies(),
    }]
}

fn copies() -> Copies {
    Copies::new(3).expect("three copies")
}

fn topology(count: u32) -> Topology {
    let nodes = nodes(count);
    Topology::new(Epoch::default(), VnodeCount::DEFAULT, nodes, keyspaces()).expect("a topology")
}

/// One node more.
fn grown(from: &Topology, count: u32) -> Topology {
    let epoch = Epoch {
        generation: 1,
        number: 1,
    };
    let grown = from.evolve(epoch, nodes(count), keyspaces());
    grown.expect("a newer topology")
}

fn placement(criterion: &mut Criterion) {
    let ring = topology(30);
    let next = grown(&ring, 31);
    let mut group = criterion.benchmark_group("placement");
    group.bench_function("owners_of_a_key", |bench| {
        bench.iter(|| {
            let place = ring.locate(KEYSPACE, black_box(b"key-000000000001"));
            black_box(ring.owners(place.vnode, copies()));
        });
    });
    group.sample_size(20);
    group.bench_function("ring_of_30_nodes", |bench| bench.iter(|| topology(30)));
    group.bench_function("a_node_joins_30", |bench| {
        bench.iter(|| grown(black_box(&ring), 31));
    });
    group.bench_function("plan_of_that", |bench| {
        bench.iter(|| Plan::between(black_box(&ring), black_box(&next)));
    });
    group.finish();
}

criterion_group!(benches, placement);
criterion_main!(benches);
