//! What a topology cannot give although it was asked for.

use std::collections::BTreeSet;

use crate::keyspace::Copies;
use crate::node::{NodeName, Zone};
use crate::shares::Shares;
use crate::topology::Node;

/// A wish that placement cannot fulfil. The topology is usable all the same.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementWarning {
    /// A node's weight asks for more than a node can hold: one copy of each vnode, and together
    /// with the other nodes of its zone no more than a zone may.
    #[error(
        "weight of `{node}` asks for {:.1} % of all copies, but with {copies} copies and these \
         zones it can hold only {:.1} %; the rest goes to the other nodes",
        .wanted * 100.0,
        .reachable * 100.0
    )]
    WeightInfeasible {
        /// The node.
        node: NodeName,
        /// N.
        copies: u8,
        /// Share of all copies that the weight asks for, 0 to 1.
        wanted: f64,
        /// Share of all copies that the node can hold, 0 to 1.
        reachable: f64,
    },
    /// There are fewer zones than copies, so some zone holds several copies of a vnode.
    #[error(
        "{copies} copies but only {zones} zones: losing one zone can take up to {together} \
         copies of a key"
    )]
    TooFewZones {
        /// N.
        copies: u8,
        /// How many zones have nodes.
        zones: usize,
        /// The most copies of one key in one zone.
        together: usize,
    },
}

/// Checks the nodes against what N copies can give them. A cluster that names no zone is not told
/// that it has too few.
pub(crate) fn warnings(copies: Copies, nodes: &[Node], shares: &Shares) -> Vec<PlacementWarning> {
    let zones: BTreeSet<&Zone> = nodes.iter().map(|node| &node.zone).collect();
    let named = zones.iter().any(|zone| !zone.0.is_empty());
    let together = shares.zones.iter().map(|limit| limit.most).max();
    let mut found = Vec::new();
    if named && together.is_some_and(|together| together > 1) {
        found.push(PlacementWarning::TooFewZones {
            copies: copies.get(),
            zones: zones.len(),
            together: together.unwrap_or_default(),
        });
    }
    let capped = nodes
        .iter()
        .zip(&shares.nodes)
        .filter(|(_, s)| s.is_capped());
    found.extend(
        capped.map(|(node, share)| PlacementWarning::WeightInfeasible {
            node: node.name.clone(),
            copies: copies.get(),
            wanted: shares.fraction(share.wanted),
            reachable: shares.fraction(share.ideal),
        }),
    );
    found
}
