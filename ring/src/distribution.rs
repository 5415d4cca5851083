//! How data is spread over the nodes at one epoch: shares wanted and reached, for a key sample.
//!
//! Not here: what a change would move (`plan`).

use crate::keyspace::Copies;
use crate::node::{KeyspaceId, NodeId, NodeName, Weight, Zone};
use crate::shares::Shares;
use crate::token::Token;
use crate::topology::Topology;
use crate::warning::{PlacementWarning, warnings};

/// Tokens of `key-0`, `key-1` and so on: the sample that reports are made with.
pub fn sample_tokens(keyspace: KeyspaceId, count: u64) -> impl Iterator<Item = Token> {
    (0..count).map(move |index| Token::of(keyspace, format!("key-{index}").as_bytes()))
}

/// Who holds how much, for one N.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// N.
    pub copies: Copies,
    /// Keys in the sample; each is held N times.
    pub keys: u64,
    /// One row per node, by number.
    pub nodes: Vec<NodeShare>,
    /// What the weights and zones ask for and cannot get.
    pub warnings: Vec<PlacementWarning>,
}

/// What one node holds. Shares are fractions of all copies, 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeShare {
    /// The node's number.
    pub node: NodeId,
    /// The node's name.
    pub name: NodeName,
    /// Its zone.
    pub zone: Zone,
    /// Its weight.
    pub weight: Weight,
    /// Vnodes of which it is a primary.
    pub vnodes: u64,
    /// Vnodes of which it is the first primary.
    pub first_places: u64,
    /// Keys of the sample that it holds a copy of.
    pub keys: u64,
    /// The share that the weight alone asks for.
    pub wanted: f64,
    /// The share that the weight gives within the bounds of copies and zones.
    pub reachable: f64,
    /// The share of vnode copies that the node owns.
    pub reached: f64,
    /// The share of key copies of the sample that the node holds; it differs from `reached` by
    /// chance.
    pub reached_in_keys: f64,
    /// `reached` against `reachable`: 0.01 is one per cent too much.
    pub deviation: f64,
}

impl Distribution {
    /// Counts the vnodes of each node, and of the keys at `tokens` those it holds. `None` if no
    /// keyspace of the topology uses this N.
    pub fn of(
        topology: &Topology,
        copies: Copies,
        tokens: impl IntoIterator<Item = Token>,
    ) -> Option<Self> {
        let assignment = topology.assignment(copies)?;
        let count = topology.vnode_count();
        let mut keys_of_vnode = vec![0_u64; count.get() as usize];
        let mut keys = 0;
        for token in tokens {
            if let Some(held) = keys_of_vnode.get_mut(usize::from(count.vnode_of(token).0)) {
                *held += 1;
                keys += 1;
            }
        }
        let shares = Shares::of(count, copies, topology.nodes());
        let mut rows: Vec<NodeShare> = topology
            .nodes()
            .iter()
            .zip(&shares.nodes)
            .map(|(node, share)| NodeShare {
                node: node.id,
                name: node.name.clone(),
                zone: node.zone.clone(),
                weight: node.weight,
                vnodes: 0,
                first_places: 0,
                keys: 0,
                wanted: shares.fraction(share.wanted),
                reachable: shares.fraction(share.ideal),
                reached: 0.0,
                reached_in_keys: 0.0,
                deviation: 0.0,
            })
            .collect();
        for (owners, keys) in assignment.lists().zip(keys_of_vnode) {
            for (place, owner) in owners.iter().enumerate() {
                let row = rows.binary_search_by_key(owner, |row| row.node).ok();
                if let Some(row) = row.and_then(|index| rows.get_mut(index)) {
                    row.vnodes += 1;
                    row.first_places += u64::from(place == 0);
                    row.keys += keys;
                }
            }
        }
        let n = u64::from(copies.get());
        for row in &mut rows {
            row.reached = ratio(row.vnodes, u64::from(count.get()) * n);
            row.reached_in_keys = ratio(row.keys, keys * n);
            if row.reachable > 0.0 {
                row.deviation = row.reached / row.reachable - 1.0;
            }
        }
        Some(Self {
            copies,
            keys,
            nodes: rows,
            warnings: warnings(copies, topology.nodes(), &shares),
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts stay far below 2^52; a report needs no more"
)]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, copies};

    #[test]
    fn ten_thousand_keys_follow_the_weights() {
        let topology = cluster("a=1,b=2,c=0.5", 1);
        let tokens = sample_tokens(KeyspaceId(1), 10_000);
        let report = Distribution::of(&topology, copies(1), tokens).expect("N is in use");
        assert_eq!(report.keys, 10_000);
        assert_eq!(report.nodes.iter().map(|row| row.keys).sum::<u64>(), 10_000);
        for (row, weight) in report.nodes.iter().zip([1.0, 2.0, 0.5]) {
            assert!(
                (row.reached_in_keys - weight / 3.5).abs() < 0.015,
                "{row:?}"
            );
            assert!(row.deviation.abs() < 0.02, "{row:?}");
        }
        assert_eq!(report.warnings, []);
    }

    #[test]
    fn first_places_follow_the_weights_even_where_copies_cannot() {
        let cases = [
            (
                "a=1,b=1,c=1",
                3,
                [256.0 / 3.0, 256.0 / 3.0, 256.0 / 3.0].as_slice(),
            ),
            ("a=1,b=2,c=1", 3, &[64.0, 128.0, 64.0]),
            ("a=1,b=2,c=1,d=4", 2, &[32.0, 64.0, 32.0, 128.0]),
            (
                "a=1@x,b=1@x,c=2@y,d=2@y,e=1@z,f=1@z",
                3,
                &[32.0, 32.0, 64.0, 64.0, 32.0, 32.0],
            ),
        ];
        for (text, n, want) in cases {
            let report = Distribution::of(&cluster(text, n), copies(n), []).expect("N is in use");
            for (row, want) in report.nodes.iter().zip(want) {
                assert!(
                    (row.first_places as f64 - want).abs() < 1.0,
                    "{text}: {row:?}"
                );
            }
        }
    }

    #[test]
    fn a_weight_that_no_node_can_hold_is_reported() {
        let topology = cluster("a=1,b=4,c=1", 2);
        let report = Distribution::of(&topology, copies(2), []).expect("N is in use");
        let [
            PlacementWarning::WeightInfeasible {
                node,
                wanted,
                reachable,
                ..
            },
        ] = report.warnings.as_slice()
        else {
            panic!("{:?}", report.warnings);
        };
        assert_eq!(node.as_str(), "b");
        assert!((wanted - 4.0 / 6.0).abs() < 1e-9 && (reachable - 0.5).abs() < 1e-9);
    }

    #[test]
    fn an_n_that_nobody_uses_has_no_distribution() {
        assert_eq!(
            Distribution::of(&cluster("a=1,b=1", 1), copies(2), []),
            None
        );
    }
}
