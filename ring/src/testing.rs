//! Clusters for the unit tests of this crate, from the notation of the command line.

use crate::epoch::Epoch;
use crate::keyspace::{Copies, Keyspace, KeyspaceMode};
use crate::node::{KeyspaceId, NodeId, Weight, Zone};
use crate::token::VnodeCount;
use crate::topology::{Node, Topology};

pub(crate) fn copies(n: u8) -> Copies {
    Copies::new(n).expect("at least one copy")
}

/// `a=1@z,b=2`: names, weights and zones, numbered from 1.
pub(crate) fn nodes(text: &str) -> Vec<Node> {
    let node = |(index, part): (u32, &str)| {
        let (name, rest) = part.split_once('=').expect("NAME=WEIGHT");
        let (weight, zone) = rest.split_once('@').unwrap_or((rest, ""));
        Node {
            id: NodeId(index),
            name: name.parse().expect("a node name"),
            address: format!("{name}:7400"),
            weight: Weight::new(weight.parse().expect("a number")).expect("a weight"),
            zone: Zone(zone.into()),
        }
    };
    (1..).zip(text.split(',')).map(node).collect()
}

pub(crate) fn keyspace(id: u32, name: &str, n: u8) -> Keyspace {
    Keyspace {
        id: KeyspaceId(id),
        name: name.parse().expect("a keyspace name"),
        mode: KeyspaceMode::Siblings,
        options: crate::keyspace_options::KeyspaceOptions::default(),
        copies: copies(n),
    }
}

pub(crate) fn cluster(text: &str, n: u8) -> Topology {
    Topology::new(
        Epoch::default(),
        VnodeCount::DEFAULT,
        nodes(text),
        vec![keyspace(1, "default", n)],
    )
    .expect("a topology")
}
