//! How many vnodes each node should own, before it is decided which.
//!
//! A node holds at most one of the N copies of a vnode, so at most Q copies; the copies of a
//! vnode are spread over zones as evenly as the number of nodes in them allows, which bounds what
//! a zone holds, from above and below. Within these bounds shares follow the weights: what a node
//! or a zone cannot take is poured over the others, in proportion to their weights.
//!
//! Invariants:
//! - the ideal shares sum to Q x N and keep every bound. Giving each vnode every node with
//!   probability share / Q keeps all rules of placement, so by the integrality of flows there is
//!   always an assignment in which every node has its ideal share rounded up or down.
//!
//! Not here: which vnodes a node gets (`placement`, `flow`).

use std::collections::BTreeMap;

use crate::keyspace::Copies;
use crate::node::Zone;
use crate::token::VnodeCount;
use crate::topology::Node;

/// Shares may miss the ideal by this fraction, or by rounding.
const TOLERANCE: f64 = 0.02;

/// Weights below this fraction of the greatest are taken for it: far too little for one vnode, and
/// still far from where products of floating point numbers lose digits.
const LEAST_RATIO: f64 = 1e-100;

/// Sums of floating point numbers that are this close to an integer are that integer.
const SNAP: f64 = 1e-6;

/// Copies of one vnode that nodes of one zone may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ZoneLimit {
    /// At least so many.
    pub(crate) least: usize,
    /// At most so many; `least` or one more.
    pub(crate) most: usize,
}

/// The share of one node, in vnodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share {
    /// Index of the node's zone, in the order of zone names.
    pub(crate) zone: usize,
    /// What the weight alone would give.
    pub(crate) wanted: f64,
    /// What it gives within the bounds of copies and zones.
    pub(crate) ideal: f64,
    /// How many first places follow the weight, of at most `ideal`.
    pub(crate) first_places: f64,
    /// The smallest number of vnodes that still follows the weight.
    pub(crate) least: usize,
    /// The greatest number of vnodes that still follows the weight.
    pub(crate) most: usize,
}

/// The shares of all nodes for one N.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shares {
    /// Q.
    pub(crate) vnodes: usize,
    /// N.
    pub(crate) copies: usize,
    /// One per node, in the order of the nodes.
    pub(crate) nodes: Vec<Share>,
    /// One per zone, in the order of zone names.
    pub(crate) zones: Vec<ZoneLimit>,
}

impl Shares {
    /// Computes the shares of `nodes`.
    pub(crate) fn of(vnode_count: VnodeCount, copies: Copies, nodes: &[Node]) -> Self {
        let vnodes = vnode_count.get() as usize;
        let copies = usize::from(copies.get());
        let mut index: BTreeMap<&Zone, usize> = nodes.iter().map(|n| (&n.zone, 0)).collect();
        for (rank, slot) in index.values_mut().enumerate() {
            *slot = rank;
        }
        let zone_of = |node: &Node| index.get(&node.zone).copied().unwrap_or_default();
        let mut groups: Vec<Vec<f64>> = vec![Vec::new(); index.len()];
        // Only ratios count; dividing by the greatest keeps the sums finite.
        let greatest = nodes.iter().map(|n| n.weight.value()).fold(0.0, f64::max);
        let ratio = |node: &Node| (node.weight.value() / greatest).max(LEAST_RATIO);
        for node in nodes {
            if let Some(group) = groups.get_mut(zone_of(node)) {
                group.push(ratio(node));
            }
        }
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        let zones = zone_limits(&sizes, copies);
        let mut poured: Vec<_> = pour(&groups, &zones, vnodes, copies)
            .into_iter()
            .map(Vec::into_iter)
            .collect();
        let total: f64 = groups.iter().flatten().sum();
        let shares = nodes.iter().map(|node| {
            let zone = zone_of(node);
            let ideal = poured.get_mut(zone).and_then(Iterator::next);
            let wanted = ratio(node) / total * as_f64(vnodes * copies);
            Share::new(zone, wanted, ideal.unwrap_or_default(), vnodes)
        });
        let mut nodes: Vec<Share> = shares.collect();
        pour_first_places(&mut nodes, vnodes);
        Self {
            vnodes,
            copies,
            nodes,
            zones,
        }
    }

    /// A number of vnodes as a fraction of all copies.
    pub(crate) fn fraction(&self, vnodes: f64) -> f64 {
        vnodes / as_f64(self.vnodes * self.copies)
    }

    /// Every ideal share rounded up or down, so that the sums of zones are rounded up or down too
    /// and the whole is Q x N.
    pub(crate) fn rounded(&self) -> Vec<usize> {
        let mut zone_sums = vec![0.0; self.zones.len()];
        for share in &self.nodes {
            if let Some(sum) = zone_sums.get_mut(share.zone) {
                *sum += share.ideal;
            }
        }
        let zone_totals = round_to_sum(&zone_sums, self.vnodes * self.copies);
        let mut rounded = vec![0; self.nodes.len()];
        for (zone, total) in zone_totals.into_iter().enumerate() {
            let members = || {
                self.nodes
                    .iter()
                    .enumerate()
                    .filter(|(_, s)| s.zone == zone)
            };
            let ideals: Vec<f64> = members().map(|(_, share)| share.ideal).collect();
            for ((node, _), count) in members().zip(round_to_sum(&ideals, total)) {
                if let Some(slot) = rounded.get_mut(node) {
                    *slot = count;
                }
            }
        }
        rounded
    }

    /// The fewest vnodes that nodes must gain so that every share is allowed, if they own `held`
    /// now: the sum over the nodes of what each lacks, for the allowed shares that need least.
    pub(crate) fn least_gain(&self, held: &[usize]) -> usize {
        let mut spare = 0;
        let mut needed = 0;
        let mut left = self.vnodes * self.copies;
        for (zone, limit) in self.zones.iter().enumerate() {
            let members = self.nodes.iter().zip(held).filter(|(s, _)| s.zone == zone);
            let (mut sum, mut free, mut room) = (0, 0, 0);
            for (share, held) in members {
                sum += share.least;
                needed += share.least.saturating_sub(*held);
                free += (*held).min(share.most).saturating_sub(share.least);
                room += share.most - share.least;
            }
            // A zone that must hold more takes first what it holds already.
            let lift = (limit.least * self.vnodes).saturating_sub(sum);
            needed += lift.saturating_sub(free);
            let sum = sum + lift;
            let room = (room - lift.min(room)).min((limit.most * self.vnodes).saturating_sub(sum));
            spare += free.saturating_sub(lift).min(room);
            left = left.saturating_sub(sum);
        }
        needed + left.saturating_sub(spare)
    }
}

impl Share {
    fn new(zone: usize, wanted: f64, ideal: f64, vnodes: usize) -> Self {
        let down = whole(snapped(ideal).floor());
        let up = whole(snapped(ideal).ceil());
        Self {
            zone,
            wanted,
            ideal,
            first_places: 0.0,
            least: down.min(whole((ideal * (1.0 - TOLERANCE) - SNAP).ceil())),
            most: up
                .max(whole((ideal * (1.0 + TOLERANCE) + SNAP).floor()))
                .min(vnodes),
        }
    }

    /// Whether the node can hold clearly less than its weight asks for.
    pub(crate) fn is_capped(&self) -> bool {
        self.ideal < self.wanted - (self.wanted * TOLERANCE).max(1.0)
    }
}

/// Bounds for the copies of one vnode per zone: as even as the zones' sizes allow.
///
/// Small zones hold a copy on each of their nodes; all others hold `level` or one less. With at
/// least N zones the level is 1: no two copies in one zone.
fn zone_limits(sizes: &[usize], copies: usize) -> Vec<ZoneLimit> {
    let held_at = |level: usize| sizes.iter().map(|size| (*size).min(level)).sum::<usize>();
    let level = (1..=copies)
        .find(|level| held_at(*level) >= copies)
        .unwrap_or(copies);
    let exact = held_at(level) == copies;
    let limit = |size: &usize| ZoneLimit {
        least: (*size).min(if exact { level } else { level - 1 }),
        most: (*size).min(level),
    };
    sizes.iter().map(limit).collect()
}

/// Pours Q x N over the nodes of all zones in proportion to their weights, within the bounds.
fn pour(groups: &[Vec<f64>], zones: &[ZoneLimit], vnodes: usize, copies: usize) -> Vec<Vec<f64>> {
    let bounds: Vec<(f64, f64)> = zones
        .iter()
        .map(|z| (as_f64(z.least * vnodes), as_f64(z.most * vnodes)))
        .collect();
    let held = |group: &[f64], level: f64| -> f64 {
        group.iter().map(|w| (w * level).min(as_f64(vnodes))).sum()
    };
    let smallest = groups.iter().flatten().copied().fold(1.0, f64::min);
    let ceiling = (2.0 * as_f64(vnodes) / smallest).min(f64::MAX);
    let zone_held = |(group, (least, most)): (&Vec<f64>, &(f64, f64)), level| {
        held(group, level).clamp(*least, *most)
    };
    let level = first_reaching(ceiling, as_f64(vnodes * copies), |level| {
        let zones = groups.iter().zip(&bounds);
        zones.map(|zone| zone_held(zone, level)).sum()
    });
    let zones = groups.iter().zip(&bounds);
    zones
        .map(|(group, bound)| {
            let own = first_reaching(ceiling, zone_held((group, bound), level), |level| {
                held(group, level)
            });
            group
                .iter()
                .map(|w| (w * own).min(as_f64(vnodes)))
                .collect()
        })
        .collect()
}

/// Pours the Q first places over the nodes in proportion to their weights, at most one for each
/// vnode that a node has.
fn pour_first_places(nodes: &mut [Share], vnodes: usize) {
    let smallest = nodes.iter().map(|s| s.wanted).fold(f64::MAX, f64::min);
    let ceiling = (2.0 * as_f64(vnodes) / smallest).min(f64::MAX);
    let first_places = |share: &Share, level: f64| (share.wanted * level).min(share.ideal);
    let level = first_reaching(ceiling, as_f64(vnodes), |level| {
        nodes.iter().map(|share| first_places(share, level)).sum()
    });
    for share in nodes {
        share.first_places = first_places(share, level);
    }
}

/// The least level from 0 to `ceiling` at which the non-decreasing `sum` reaches `goal`, to the
/// last bit; bisection, because the same steps give the same bits everywhere.
fn first_reaching(ceiling: f64, goal: f64, sum: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, ceiling);
    loop {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            return high;
        }
        if sum(middle) < goal - SNAP * SNAP {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// Rounds each number up or down so that the sum is `total`; the largest remainders go up, the
/// first of equal ones first.
fn round_to_sum(values: &[f64], total: usize) -> Vec<usize> {
    let mut rounded: Vec<usize> = values.iter().map(|v| whole(snapped(*v).floor())).collect();
    let mut missing = total.saturating_sub(rounded.iter().sum());
    let mut order: Vec<(usize, f64)> = values
        .iter()
        .map(|v| snapped(*v) - snapped(*v).floor())
        .enumerate()
        .collect();
    order.sort_by(|a, b| snapped(b.1).total_cmp(&snapped(a.1)).then(a.0.cmp(&b.0)));
    for (index, remainder) in order {
        if missing == 0 || remainder <= 0.0 {
            break;
        }
        if let Some(slot) = rounded.get_mut(index) {
            *slot += 1;
            missing -= 1;
        }
    }
    rounded
}

pub(crate) fn snapped(value: f64) -> f64 {
    let near = value.round();
    if (value - near).abs() < SNAP {
        near
    } else {
        value
    }
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of vnodes: at most 2^23, and the cast saturates at 0"
)]
pub(crate) fn whole(value: f64) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_spread_over_zones_as_evenly_as_their_sizes_allow() {
        type Case<'a> = (&'a [usize], usize, &'a [(usize, usize)]);
        let cases: [Case<'_>; 6] = [
            (&[2, 2, 2], 3, &[(1, 1), (1, 1), (1, 1)]),
            (&[2, 2, 2, 1], 3, &[(0, 1), (0, 1), (0, 1), (0, 1)]),
            (&[5], 3, &[(3, 3)]),
            (&[4, 4], 3, &[(1, 2), (1, 2)]),
            (&[1, 5], 3, &[(1, 1), (2, 2)]),
            (&[1, 5, 5], 6, &[(1, 1), (2, 3), (2, 3)]),
        ];
        for (sizes, copies, want) in cases {
            let got = zone_limits(sizes, copies);
            let got: Vec<_> = got.iter().map(|z| (z.least, z.most)).collect();
            assert_eq!(got, want, "{sizes:?} for {copies} copies");
        }
    }

    #[test]
    fn what_a_capped_node_cannot_take_is_poured_over_the_others() {
        let limits = zone_limits(&[3], 2);
        let poured = pour(&[vec![1.0, 0.2, 0.1]], &limits, 300, 2);
        let want = [300.0, 200.0, 100.0];
        for (got, want) in poured.iter().flatten().zip(want) {
            assert!((got - want).abs() < 1e-6, "{got} is not {want}");
        }
    }

    #[test]
    fn a_zone_takes_at_most_one_copy_of_a_vnode() {
        let limits = zone_limits(&[2, 1, 1], 2);
        let poured = pour(&[vec![1.0, 1.0], vec![0.2], vec![0.2]], &limits, 100, 2);
        let want = [50.0, 50.0, 50.0, 50.0];
        for (got, want) in poured.iter().flatten().zip(want) {
            assert!((got - want).abs() < 1e-6, "{got} is not {want}");
        }
    }

    #[test]
    fn extreme_weights_stay_finite() {
        let limits = zone_limits(&[3], 2);
        let poured = pour(&[vec![1.0, LEAST_RATIO, LEAST_RATIO]], &limits, 256, 2);
        let sum: f64 = poured.iter().flatten().sum();
        assert!((sum - 512.0).abs() < 1e-6, "{poured:?}");
    }
}
