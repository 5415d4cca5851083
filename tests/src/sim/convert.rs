//! The topology as clients see it. Requests and answers are converted by the node's own code.

use quorate_client::wire;
use quorate_ring::{NodeId, Topology};

/// The topology as it travels.
#[must_use]
pub fn topology(topology: &Topology, answered_by: NodeId) -> wire::TopologyInfo {
    let nodes = topology.nodes().iter().map(|node| wire::NodeInfo {
        id: node.id.0,
        name: node.name.to_string(),
        address: node.address.clone(),
        weight: node.weight.value(),
        zone: node.zone.0.clone(),
    });
    let keyspaces = topology
        .keyspaces()
        .iter()
        .map(|keyspace| wire::KeyspaceInfo {
            id: keyspace.id.0,
            name: keyspace.name.to_string(),
            mode: keyspace.mode.to_string(),
            copies: keyspace.copies.get(),
        });
    wire::TopologyInfo {
        cluster_id: [7; 16],
        generation: topology.epoch().generation,
        number: topology.epoch().number,
        vnodes: topology.vnode_count().get(),
        nodes: nodes.collect(),
        keyspaces: keyspaces.collect(),
        answered_by: answered_by.0,
    }
}
