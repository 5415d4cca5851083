//! Least-movement choice of primaries, as a minimum-cost flow.
//!
//! The network: source -> vnode (N units) -> zone of that vnode -> node -> sink. A unit through
//! (vnode, node) costs one move unless the node owned the vnode before. What must have a lower
//! bound (a node's share, a zone's copies of a vnode) charges a fine, dearer than all moves
//! together, for each unit above that bound; as the number of units is fixed and all bounds can
//! be met (`shares`), the cheapest flow meets them. Among the flows with the fewest moves a small
//! charge prefers shares near the ideal.
//!
//! Successive shortest paths (Edmonds and Karp, JACM 1972). The start, owners of old up to the
//! lower bounds, costs nothing and is therefore cheapest for its value; each augmentation along a
//! cheapest path keeps it so. A path never needs the Q vnodes as its stops: what counts is that
//! some vnode lets node j take over from node i at a price. So paths are searched over the nodes
//! alone, over a table that counts for each (i, j, price) the vnodes that offer it. Among equally
//! cheap paths the shortest is taken: it passes no vnode in a way that two of its steps disturb
//! each other, for else the part between them could be cut out.
//!
//! Not here: bounds (`shares`), the order of a vnode's primaries (`placement`).

#![cfg_attr(
    not(test),
    expect(
        clippy::indexing_slicing,
        reason = "dense tables whose indices are all made in this file, from their own lengths"
    )
)]

use crate::shares::Shares;

/// Price of one move; above all charges for shares off the ideal together.
const MOVE: i64 = 1 << 24;
/// Fine for a unit above a lower bound; above all moves together.
const FINE: i64 = MOVE << 18;
/// What a step can cost: moves from -1 to 1, fines from -1 to 1.
const CLASSES: usize = 9;
/// No way from one node to another.
const NEVER: i64 = i64::MAX / 4;

/// Chooses the owners of each vnode, as indices of nodes in no particular order.
///
/// `old` holds for each vnode the nodes that owned it and are still there.
pub(crate) fn least_movement(shares: &Shares, old: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut flow = Flow::start(shares, old);
    let places = shares.vnodes * shares.copies;
    for placed in flow.load.iter().sum()..places {
        let path = flow.cheapest_path();
        flow.augment(&path, placed);
    }
    flow.owners
}

struct Flow<'a> {
    shares: &'a Shares,
    old: &'a [Vec<usize>],
    /// Whether zones have a range instead of an exact number, above 0, of copies per vnode.
    zones_fined: bool,
    owners: Vec<Vec<usize>>,
    /// Vnodes per node.
    load: Vec<usize>,
    /// Copies per zone of the vnode at hand.
    zone_copies: Vec<usize>,
    /// For (from, to, class) the number of vnodes where `to` can take over from `from`. The last
    /// `from` stands for places that nobody has yet.
    offers: Vec<[u32; CLASSES]>,
    /// The cheapest class on offer for (from, to).
    price: Vec<i64>,
}

/// A step of a path: `to` takes over a vnode from `from`, which is `load.len()` for a free place.
#[derive(Clone, Copy)]
struct Step {
    from: usize,
    to: usize,
}

impl<'a> Flow<'a> {
    fn start(shares: &'a Shares, old: &'a [Vec<usize>]) -> Self {
        let count = shares.nodes.len();
        let ranged = shares.zones.iter().any(|z| z.least < z.most);
        let mut flow = Self {
            shares,
            old,
            zones_fined: ranged && shares.zones.iter().any(|z| z.least > 0),
            owners: vec![Vec::with_capacity(shares.copies); shares.vnodes],
            load: vec![0; count],
            zone_copies: vec![0; shares.zones.len()],
            offers: vec![[0; CLASSES]; (count + 1) * count],
            price: vec![NEVER; (count + 1) * count],
        };
        for (vnode, before) in old.iter().enumerate() {
            flow.keep(vnode, before);
        }
        for vnode in 0..shares.vnodes {
            flow.count_offers(vnode, true);
        }
        flow
    }

    /// Leaves to their owners what costs nothing.
    fn keep(&mut self, vnode: usize, before: &[usize]) {
        self.zone_copies.fill(0);
        for node in before {
            let share = &self.shares.nodes[*node];
            let limit = self.shares.zones[share.zone];
            let zone_most = if self.zones_fined {
                limit.least
            } else {
                limit.most
            };
            let fits = self.owners[vnode].len() < self.shares.copies
                && self.load[*node] < share.least
                && self.zone_copies[share.zone] < zone_most;
            if fits {
                self.owners[vnode].push(*node);
                self.load[*node] += 1;
                self.zone_copies[share.zone] += 1;
            }
        }
    }

    /// Adds or removes what `vnode` offers.
    fn count_offers(&mut self, vnode: usize, add: bool) {
        let count = self.load.len();
        self.count_zones(vnode);
        let owners = self.owners[vnode].len();
        for place in 0..(owners + 1).min(self.shares.copies) {
            let from = self.owners[vnode].get(place).copied().unwrap_or(count);
            for to in 0..count {
                if let Some(class) = self.class(vnode, Step { from, to }) {
                    let cell = from * count + to;
                    let offers = &mut self.offers[cell][class];
                    *offers = if add { *offers + 1 } else { *offers - 1 };
                    if *offers <= 1 {
                        self.price[cell] = cheapest(&self.offers[cell]);
                    }
                }
            }
        }
    }

    fn count_zones(&mut self, vnode: usize) {
        self.zone_copies.fill(0);
        for owner in &self.owners[vnode] {
            self.zone_copies[self.shares.nodes[*owner].zone] += 1;
        }
    }

    /// What the step costs in `vnode`, if it can be done there. Needs `zone_copies` of the vnode.
    fn class(&self, vnode: usize, step: Step) -> Option<usize> {
        let Step { from, to } = step;
        if self.owners[vnode].contains(&to) {
            return None;
        }
        let is_move = |node: usize| usize::from(!self.old[vnode].contains(&node));
        let zone_from = self.shares.nodes.get(from).map(|share| share.zone);
        let zone_to = self.shares.nodes[to].zone;
        let (mut fine, mut saved) = (0, 0);
        if zone_from != Some(zone_to) {
            let limit = self.shares.zones[zone_to];
            if self.zone_copies[zone_to] >= limit.most {
                return None;
            }
            let fined = |zone: usize, copies: usize| {
                usize::from(self.zones_fined && copies > self.shares.zones[zone].least)
            };
            fine = fined(zone_to, self.zone_copies[zone_to] + 1);
            saved = zone_from.map_or(0, |zone| fined(zone, self.zone_copies[zone]));
        }
        let moves = 1 + is_move(to)
            - if zone_from.is_some() {
                is_move(from)
            } else {
                0
            };
        Some((1 + fine - saved) * 3 + moves)
    }

    /// The cheapest way to fill one more place: Bellman and Ford over the nodes, from the free
    /// places to a node with room, by (cost, number of steps).
    fn cheapest_path(&self) -> Vec<Step> {
        let count = self.load.len();
        let mut reached: Vec<(i64, usize)> = (0..count)
            .map(|to| (self.price[count * count + to], 1))
            .collect();
        let mut before = vec![count; count];
        let mut changed: Vec<bool> = reached.iter().map(|(cost, _)| *cost < NEVER).collect();
        while changed.contains(&true) {
            for from in 0..count {
                if !std::mem::take(&mut changed[from]) {
                    continue;
                }
                let (cost, steps) = reached[from];
                for to in 0..count {
                    let price = self.price[from * count + to];
                    if price < NEVER && (cost + price, steps + 1) < reached[to] {
                        reached[to] = (cost + price, steps + 1);
                        before[to] = from;
                        changed[to] = true;
                    }
                }
            }
        }
        let ends = (0..count).filter(|node| self.load[*node] < self.shares.nodes[*node].most);
        let end = ends
            .map(|node| (reached[node].0 + self.charge(node), reached[node].1, node))
            .min()
            .filter(|(cost, _, _)| *cost < NEVER / 2);
        let (_, _, mut to) = end.expect("shares can be met, so every place can be filled");
        let mut path = Vec::new();
        while to < count {
            path.push(Step {
                from: before[to],
                to,
            });
            to = before[to];
        }
        path.reverse();
        path
    }

    /// What one more vnode on `node` costs: a fine above its lower bound, and a charge that rises
    /// towards the upper bound.
    fn charge(&self, node: usize) -> i64 {
        let share = &self.shares.nodes[node];
        let above = self.load[node] as i64 - share.least as i64;
        let width = (share.most - share.least).max(1) as i64;
        if above < 0 {
            0
        } else {
            FINE + 100 * (above + 1) / width
        }
    }

    /// Carries out a path. `seed` says where to look first for a vnode that offers a step, so
    /// that what a node gains comes from all around the ring.
    fn augment(&mut self, path: &[Step], seed: usize) {
        let count = self.load.len();
        for step in path {
            let class = class_of(self.price[step.from * count + step.to]);
            let offset = (seed + 1).wrapping_mul(0x9E37_79B1) >> 3;
            let vnode = (0..self.shares.vnodes)
                .map(|index| (index + offset) % self.shares.vnodes)
                .find(|vnode| self.offers_class(*vnode, *step, class))
                .expect("the table counts a vnode that offers this step");
            self.count_offers(vnode, false);
            self.owners[vnode].retain(|owner| *owner != step.from);
            self.owners[vnode].push(step.to);
            self.count_offers(vnode, true);
        }
        if let Some(last) = path.last() {
            self.load[last.to] += 1;
        }
    }

    fn offers_class(&mut self, vnode: usize, step: Step, class: usize) -> bool {
        let owners = &self.owners[vnode];
        let there = if step.from == self.load.len() {
            owners.len() < self.shares.copies
        } else {
            owners.contains(&step.from)
        };
        if !there {
            return false;
        }
        self.count_zones(vnode);
        self.class(vnode, step) == Some(class)
    }
}

fn cheapest(offers: &[u32; CLASSES]) -> i64 {
    let class = offers.iter().position(|offers| *offers > 0);
    class.map_or(NEVER, price_of)
}

fn price_of(class: usize) -> i64 {
    let (fines, moves) = (class / 3, class % 3);
    (fines as i64 - 1) * FINE + (moves as i64 - 1) * MOVE
}

fn class_of(price: i64) -> usize {
    (0..CLASSES)
        .find(|class| price_of(*class) == price)
        .expect("only prices of classes are in the table")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::placement;
    use crate::testing::{copies, nodes};
    use crate::token::VnodeCount;

    /// Arcs of the whole network, vnodes and their zones included, along which a flow can still be
    /// changed: (from, to, moves). No fines, no tables: bounds as they are.
    fn residual(shares: &Shares, old: &[Vec<usize>], owners: &[Vec<usize>]) -> Vec<[i64; 3]> {
        let (vnodes, zones) = (shares.vnodes, shares.zones.len());
        let vnode_zone = |vnode: usize, zone: usize| (vnodes + vnode * zones + zone) as i64;
        let node_at = |node: usize| (vnodes + vnodes * zones + node) as i64;
        let sink = node_at(shares.nodes.len());
        let mut arcs = Vec::new();
        let mut arc = |from: i64, to: i64, moves: i64, grows: bool, shrinks: bool| {
            arcs.extend(grows.then_some([from, to, moves]));
            arcs.extend(shrinks.then_some([to, from, -moves]));
        };
        for (vnode, list) in owners.iter().enumerate() {
            for (zone, limit) in shares.zones.iter().enumerate() {
                let held = list
                    .iter()
                    .filter(|n| shares.nodes[**n].zone == zone)
                    .count();
                let (grows, shrinks) = (held < limit.most, held > limit.least);
                arc(vnode as i64, vnode_zone(vnode, zone), 0, grows, shrinks);
            }
            for (node, share) in shares.nodes.iter().enumerate() {
                let has = list.contains(&node);
                let moves = i64::from(!old[vnode].contains(&node));
                arc(
                    vnode_zone(vnode, share.zone),
                    node_at(node),
                    moves,
                    !has,
                    has,
                );
            }
        }
        for (node, share) in shares.nodes.iter().enumerate() {
            let held = owners.iter().filter(|list| list.contains(&node)).count();
            arc(
                node_at(node),
                sink,
                0,
                held < share.most,
                held > share.least,
            );
        }
        arcs
    }

    /// Bellman and Ford: a flow is cheapest if and only if no cycle of its residual is negative.
    fn has_negative_cycle(arcs: &[[i64; 3]]) -> bool {
        let last = arcs.iter().map(|[from, to, _]| (*from).max(*to)).max();
        let count = usize::try_from(last.unwrap_or(0) + 1).expect("positive");
        let mut reached = vec![0_i64; count];
        for _ in 0..=count {
            let mut changed = false;
            for [from, to, moves] in arcs {
                let new = reached[usize::try_from(*from).expect("positive")] + moves;
                let old = &mut reached[usize::try_from(*to).expect("positive")];
                changed |= new < *old;
                *old = new.min(*old);
            }
            if !changed {
                return false;
            }
        }
        true
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the old owners were and whatever zones and weights became of them, no other
        /// choice that keeps the rules has fewer moves.
        #[test]
        fn no_choice_of_owners_moves_less(
            before in prop::collection::vec((1..9_u32, 0..4_u8), 1..8),
            after in prop::collection::vec((1..9_u32, 0..4_u8), 1..8),
            (bits, n_before, n) in (0..6_u32, 1..5_u8, 1..5_u8),
            skip in 0..4_usize,
        ) {
            let text = |rows: &[(u32, u8)]| {
                let rows = rows.iter().enumerate();
                let rows: Vec<_> = rows.map(|(i, (w, z))| format!("n{i}={w}@z{z}")).collect();
                rows.join(",")
            };
            let count = VnodeCount::new(1 << bits).expect("a power of two");
            let fit = |n: u8, nodes: &[_]| copies(n.min(u8::try_from(nodes.len()).expect("few")));
            let mut after = after;
            after.extend_from_slice(before.get(skip..).unwrap_or_default());
            let (before, after) = (nodes(&text(&before)), nodes(&text(&after)));
            let start = placement::create(count, fit(n_before, &before), &before);
            let n = fit(n, &after);
            let shares = Shares::of(count, n, &after);
            let old: Vec<_> = start.lists().map(|l| placement::indices(&after, l)).collect();
            let owners = least_movement(&shares, &old);
            prop_assert!(!has_negative_cycle(&residual(&shares, &old, &owners)));
        }
    }
}
