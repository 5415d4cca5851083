//! Which nodes own a vnode, and which of them comes first.
//!
//! From scratch: every node's rounded share is laid out as a run of places, zone by zone, and the
//! places are dealt to the vnodes in turn. A run is at most Q long, so no vnode gets a node twice,
//! and a zone's run gives each vnode an equal number of its copies, rounded (systematic sampling,
//! Madow 1949). Then random-looking swaps between vnodes, each of which keeps all rules, make the
//! company that a node keeps as mixed as possible: when it fails, all others share its load.
//!
//! After a change: the fewest moves (`flow`). In both cases first places are then dealt by weight,
//! as far as the owners allow; that reorders lists and moves nothing.
//!
//! Everything is a function of ids, weights, zones, Q, N and the old owners.
//!
//! Not here: how much each node gets (`shares`), fallbacks (`preference`).

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::flow;
use crate::keyspace::Copies;
use crate::node::NodeId;
use crate::shares::{Shares, snapped, whole};
use crate::token::{VnodeCount, VnodeId};
use crate::topology::Node;

/// The primaries of every vnode for one N.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    copies: Copies,
    /// `copies` entries per vnode, in vnode order.
    owners: Vec<NodeId>,
}

impl Assignment {
    /// Takes owners that were chosen before, if they are complete and each vnode's are distinct
    /// members.
    pub(crate) fn checked(
        vnode_count: VnodeCount,
        copies: Copies,
        nodes: &[Node],
        owners: Vec<NodeId>,
    ) -> Option<Self> {
        let n = usize::from(copies.get());
        let complete =
            u32::try_from(owners.len()) == Ok(vnode_count.get() * u32::from(copies.get()));
        let fits = |list: &[NodeId]| {
            let member = |id: &NodeId| nodes.binary_search_by_key(id, |node| node.id).is_ok();
            let mut sorted = list.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            sorted.len() == n && sorted.iter().all(member)
        };
        (complete && owners.chunks_exact(n).all(fits)).then_some(Self { copies, owners })
    }

    /// The N that this is for.
    #[must_use]
    pub const fn copies(&self) -> Copies {
        self.copies
    }

    /// The primaries of a vnode in order; empty if there is no such vnode.
    #[must_use]
    pub fn of(&self, vnode: VnodeId) -> &[NodeId] {
        let n = usize::from(self.copies.get());
        let start = usize::from(vnode.0) * n;
        self.owners.get(start..start + n).unwrap_or_default()
    }

    /// The primaries of every vnode, in vnode order.
    pub fn lists(&self) -> impl ExactSizeIterator<Item = &[NodeId]> {
        self.owners.chunks_exact(usize::from(self.copies.get()))
    }

    /// The primaries of all vnodes, one after the other, as [`Topology::with_owners`] takes them.
    ///
    /// [`Topology::with_owners`]: crate::Topology::with_owners
    #[must_use]
    pub fn flat(&self) -> &[NodeId] {
        &self.owners
    }
}

/// Chooses owners from scratch.
pub(crate) fn create(vnode_count: VnodeCount, copies: Copies, nodes: &[Node]) -> Assignment {
    let shares = Shares::of(vnode_count, copies, nodes);
    let mut lists = deal(&shares);
    mix(&shares, &mut lists);
    for (vnode, list) in lists.iter_mut().enumerate() {
        list.sort_by_key(|node| rank(nodes, vnode, *node));
    }
    balance_first_places(&shares, &mut lists);
    assignment(copies, nodes, &lists)
}

/// Chooses owners with the fewest moves from `old`, which may be for another N.
pub(crate) fn evolve(
    vnode_count: VnodeCount,
    copies: Copies,
    nodes: &[Node],
    old: &Assignment,
) -> Assignment {
    let shares = Shares::of(vnode_count, copies, nodes);
    let before: Vec<Vec<usize>> = old.lists().map(|list| indices(nodes, list)).collect();
    let mut lists = flow::least_movement(&shares, &before);
    for (vnode, (list, before)) in lists.iter_mut().zip(&before).enumerate() {
        // Who stays keeps the old order; who is new comes behind.
        let place = |node: usize| before.iter().position(|b| *b == node);
        list.sort_by_key(|node| {
            let place = place(*node).unwrap_or(usize::MAX);
            (place, rank(nodes, vnode, *node))
        });
    }
    balance_first_places(&shares, &mut lists);
    assignment(copies, nodes, &lists)
}

/// Positions of `list` among `nodes`, without those that are not there.
pub(crate) fn indices(nodes: &[Node], list: &[NodeId]) -> Vec<usize> {
    let position = |id: &NodeId| nodes.binary_search_by_key(id, |node| node.id).ok();
    list.iter().filter_map(position).collect()
}

/// Deals the places of all nodes to the vnodes in turn.
fn deal(shares: &Shares) -> Vec<Vec<usize>> {
    let mut runs: Vec<(usize, usize, usize)> = shares
        .rounded()
        .into_iter()
        .enumerate()
        .zip(&shares.nodes)
        .map(|((node, places), share)| (share.zone, node, places))
        .collect();
    runs.sort_unstable();
    let mut lists = vec![Vec::with_capacity(shares.copies); shares.vnodes];
    let places = runs
        .into_iter()
        .flat_map(|(_, node, places)| std::iter::repeat_n(node, places));
    for (place, node) in places.enumerate() {
        if let Some(list) = lists.get_mut(place % shares.vnodes) {
            list.push(node);
        }
    }
    lists
}

/// How often on average a place is offered for a swap.
const SWAPS_PER_PLACE: usize = 8;

/// Swaps owners between vnodes wherever that breaks no rule.
fn mix(shares: &Shares, lists: &mut [Vec<usize>]) {
    let mut random = Sequence(0);
    for _ in 0..shares.vnodes * shares.copies * SWAPS_PER_PLACE {
        let one = random.below(shares.vnodes);
        let two = random.below(shares.vnodes);
        let (place_one, place_two) = (random.below(shares.copies), random.below(shares.copies));
        let Ok([list_one, list_two]) = lists.get_disjoint_mut([one, two]) else {
            continue;
        };
        let allowed = may_replace(shares, list_one, place_one, list_two.get(place_two))
            && may_replace(shares, list_two, place_two, list_one.get(place_one));
        if let (true, Some(a), Some(b)) = (
            allowed,
            list_one.get_mut(place_one),
            list_two.get_mut(place_two),
        ) {
            std::mem::swap(a, b);
        }
    }
}

/// Whether `newcomer` may stand at `place` of a vnode's owners.
fn may_replace(shares: &Shares, list: &[usize], place: usize, newcomer: Option<&usize>) -> bool {
    let zone = |node: &usize| shares.nodes.get(*node).map(|share| share.zone);
    let (Some(newcomer), Some(leaver)) = (newcomer, list.get(place)) else {
        return false;
    };
    let (zone_in, zone_out) = (zone(newcomer), zone(leaver));
    let copies_in = |wanted| list.iter().filter(|node| zone(node) == wanted).count();
    let limit = |zone: Option<usize>| zone.and_then(|zone| shares.zones.get(zone));
    !list.contains(newcomer)
        && (zone_in == zone_out
            || limit(zone_in).is_some_and(|limit| copies_in(zone_in) < limit.most)
                && limit(zone_out).is_some_and(|limit| copies_in(zone_out) > limit.least))
}

/// Order of the owners of a vnode among themselves, as good as random.
fn rank(nodes: &[Node], vnode: usize, node: usize) -> u64 {
    let id = nodes.get(node).map_or(0, |node| node.id.0);
    xxh3_64_with_seed(&id.to_le_bytes(), vnode as u64)
}

/// Brings to the first places of the lists nodes in proportion to their weights, as far as the
/// lists allow; changes as few first places as it can.
fn balance_first_places(shares: &Shares, lists: &mut [Vec<usize>]) {
    let wanted = |node: usize| {
        shares
            .nodes
            .get(node)
            .map_or(0.0, |s| snapped(s.first_places))
    };
    let most = |node: usize| whole(wanted(node).ceil());
    let least = |node: usize| whole(wanted(node).floor());
    let mut firsts = FirstPlaces::count(shares.nodes.len(), lists);
    // First whoever has too many, then whoever has too few. Each path brings the sum of what is
    // too much or too little down by one, and none remains that could.
    while let Some(path) = firsts.path(|n, held| held > most(n), |n, held| held < most(n)) {
        firsts.shift(lists, &path);
    }
    while let Some(path) = firsts.path(|n, held| held > least(n), |n, held| held < least(n)) {
        firsts.shift(lists, &path);
    }
}

/// Tally of first places.
struct FirstPlaces {
    /// First places per node.
    held: Vec<usize>,
    /// For (first, other) the number of vnodes that `first` could hand to `other`.
    shared: Vec<usize>,
}

impl FirstPlaces {
    fn count(node_count: usize, lists: &[Vec<usize>]) -> Self {
        let mut made = Self {
            held: vec![0; node_count],
            shared: vec![0; node_count * node_count],
        };
        for list in lists {
            made.tally(list, true);
        }
        made
    }

    fn tally(&mut self, list: &[usize], add: bool) {
        let change = |slot: Option<&mut usize>| {
            if let Some(slot) = slot {
                *slot = if add { *slot + 1 } else { *slot - 1 };
            }
        };
        let node_count = self.held.len();
        if let Some((first, others)) = list.split_first() {
            change(self.held.get_mut(*first));
            for other in others {
                change(self.shared.get_mut(first * node_count + other));
            }
        }
    }

    /// A shortest chain of nodes, each of which can hand a first place to the next.
    fn path(
        &self,
        starts: impl Fn(usize, usize) -> bool,
        ends: impl Fn(usize, usize) -> bool,
    ) -> Option<Vec<usize>> {
        let held = || self.held.iter().copied().enumerate();
        let mut seen: Vec<bool> = held().map(|(node, held)| starts(node, held)).collect();
        let mut paths: VecDeque<Vec<usize>> = held()
            .filter(|(node, held)| starts(*node, *held))
            .map(|(node, _)| vec![node])
            .collect();
        while let Some(path) = paths.pop_front() {
            let last = *path.last()?;
            if self.held.get(last).is_some_and(|held| ends(last, *held)) {
                return Some(path);
            }
            for (next, seen) in seen.iter_mut().enumerate() {
                let shared = self.shared.get(last * self.held.len() + next);
                if !*seen && shared.is_some_and(|vnodes| *vnodes > 0) {
                    *seen = true;
                    let mut longer = path.clone();
                    longer.push(next);
                    paths.push_back(longer);
                }
            }
        }
        None
    }

    fn shift(&mut self, lists: &mut [Vec<usize>], path: &[usize]) {
        for (from, to) in path.iter().zip(path.iter().skip(1)) {
            let fits = |list: &&mut Vec<usize>| list.first() == Some(from) && list.contains(to);
            let Some(list) = lists.iter_mut().find(fits) else {
                continue;
            };
            self.tally(list, false);
            if let Some(place) = list.iter().position(|node| node == to) {
                list.swap(0, place);
            }
            self.tally(list, true);
        }
    }
}

fn assignment(copies: Copies, nodes: &[Node], lists: &[Vec<usize>]) -> Assignment {
    let owners = lists.iter().flatten();
    let owners = owners.filter_map(|index| nodes.get(*index).map(|node| node.id));
    Assignment {
        copies,
        owners: owners.collect(),
    }
}

/// Numbers that look random and are always the same (SplitMix64, Steele et al., OOPSLA 2014).
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let scaled = (u128::from(mixed) * limit as u128) >> 64;
        usize::try_from(scaled).expect("below a limit that is a usize")
    }
}
