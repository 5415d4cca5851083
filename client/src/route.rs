//! Which node to ask next for a key. Pure: time arrives as `now`.
//!
//! A replica of the key needs no hop to another node, so primaries come first, the one with the
//! fewest requests of this client in flight before the others, in rotation when they are equal.
//! Then any other node, which forwards. A node without a connection counts as if one more request
//! were in flight there, and the first few requests of a client go to a connected node whether or
//! not it is a primary: a command that asks once must not pay for a handshake, least of all with a
//! node that is dead. A node that failed rests for a while that doubles with
//! each failure; resting nodes come last, the one that rests shortest first, because a request
//! to a node that is probably down is still better than none. After its rest one request probes a
//! node, and the others wait for what becomes of it.
//!
//! A node that lost to a hedge rests in the same way, and a node that has had requests open for
//! 100 ms without answering any is tried last as long as that lasts: a stopped process keeps its
//! connections. Any answer ends both. Requests in flight weigh double at a node whose answers take
//! twice as long as those of the fastest, and so on: slow nodes get a smaller share, not none.
//!
//! Not here: which nodes are primaries (`quorate_ring`), when to try again (`retry`).

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_ring::{MonoTime, NodeId};

use quorate_ring::hedge::{P95, Reason};

/// A node with requests open is taken for stuck after this long without an answer.
const SILENCE: Duration = Duration::from_millis(100);

/// Differences in latency below this are noise of schedulers and networks.
const LATENCY_NOISE_MICROS: u64 = 2_000;

/// Rest after the first failure of a node.
const REST_FIRST: Duration = Duration::from_millis(100);

/// Longest rest: how late a node that came back may be noticed.
const REST_MAX: Duration = Duration::from_secs(1);

/// The first requests of a client, which go where a connection is up already.
const FIRST_PICKS: usize = 4;

/// What a request told about the node that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeVerdict {
    /// It answered.
    Works,
    /// No connection, or no answer.
    Broken,
    /// It answered that it cannot serve now; it is spared for at least this long.
    Busy(Duration),
    /// Another node, asked later, answered first.
    Outrun,
    /// The request was given up before anything was learned.
    Nothing,
}

/// How the nodes look from this client.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    nodes: BTreeMap<NodeId, NodeState>,
    rotation: usize,
    picks: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct NodeState {
    in_flight: u32,
    failures: u32,
    /// A request was sent since the last failure was counted.
    is_probed: bool,
    rests_until: Option<MonoTime>,
    /// Since when it owes an answer: the last one, or when the oldest open request went out.
    owes_since: MonoTime,
    /// Moving average of its answers' latency.
    latency_micros: u64,
    p95_of_reads: P95,
    p95_of_writes: P95,
    p95_of_pages: P95,
    p95_of_batches: P95,
}

/// The kinds of requests, whose latencies have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Gets.
    Read,
    /// Puts and deletes.
    Write,
    /// Pages of scans.
    Page,
    /// Many gets, or many puts and deletes.
    Batch,
}

impl NodeState {
    fn is_silent(&self, now: MonoTime) -> bool {
        self.in_flight > 0 && now.since(self.owes_since) >= SILENCE
    }

    /// How much heavier a request weighs here than at a node whose answers take `least_micros`.
    fn slowness(&self, least_micros: u64) -> u32 {
        if self.latency_micros <= least_micros.saturating_add(LATENCY_NOISE_MICROS) {
            return 1;
        }
        let times = self.latency_micros / least_micros.max(1);
        u32::try_from(times.clamp(1, 64)).unwrap_or(1)
    }
}

/// Lower is better; `rests_until` first, so that any node at work comes before a resting one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    rests_until: Option<MonoTime>,
    is_silent: bool,
    is_first_and_cold: bool,
    is_other: bool,
    load: u32,
    turn: usize,
}

impl RouteTable {
    /// A table whose rotation begins where `random` says, so that clients that ask once do not all
    /// ask the same node.
    #[must_use]
    pub fn with_rotation(random: u64) -> Self {
        Self {
            // Far from the end of the range, and the same on every platform.
            rotation: usize::try_from(random >> 40).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Chooses the node to ask next among those of `nodes` (all of the cluster) that `may_do`;
    /// `is_connected` says whether a connection to a node is up.
    ///
    /// `None` if none may. Looks at each node once.
    pub fn pick(
        &mut self,
        now: MonoTime,
        primaries: &[NodeId],
        nodes: &[NodeId],
        may_do: impl Fn(NodeId) -> bool,
        is_connected: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        self.rotation = self.rotation.wrapping_add(1);
        let is_first = self.picks < FIRST_PICKS;
        self.picks = self.picks.saturating_add(1);
        let count = nodes.len().max(1);
        let measured = self.nodes.values().map(|state| state.latency_micros);
        let least_micros = measured.filter(|micros| *micros > 0).min().unwrap_or(0);
        let able = nodes.iter().enumerate();
        let able = able.filter(|(_, node)| may_do(**node));
        let best = able.min_by_key(|(index, node)| {
            let state = self.nodes.get(node).copied().unwrap_or_default();
            let is_cold = !is_connected(**node);
            let load = state.in_flight.saturating_add(u32::from(is_cold));
            Rank {
                is_first_and_cold: is_first && is_cold,
                is_silent: state.is_silent(now),
                rests_until: state.rests_until.filter(|until| now < *until),
                is_other: !primaries.contains(node),
                load: load.saturating_mul(state.slowness(least_micros)),
                turn: (index + self.rotation) % count,
            }
        });
        best.map(|(_, node)| *node)
    }

    /// A request goes out to `node`. Each call is followed by one of [`RouteTable::ended`].
    pub fn started(&mut self, now: MonoTime, node: NodeId) {
        let state = self.nodes.entry(node).or_default();
        if state.in_flight == 0 {
            state.owes_since = now;
        }
        state.in_flight += 1;
        if state.failures > 0 {
            // This one probes; until it ends the others go elsewhere.
            state.is_probed = true;
            state.rests_until = Some(now + rest(state.failures));
        }
    }

    /// An answer of `node` to a request of this kind took this long.
    pub fn measured(&mut self, node: NodeId, kind: Kind, took: Duration) {
        let state = self.nodes.entry(node).or_default();
        match kind {
            Kind::Read => state.p95_of_reads.measured(took),
            Kind::Write => state.p95_of_writes.measured(took),
            Kind::Page => state.p95_of_pages.measured(took),
            Kind::Batch => state.p95_of_batches.measured(took),
        }
        if matches!(kind, Kind::Page | Kind::Batch) {
            // They take far longer than gets, which says nothing of the node.
            return;
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        state.latency_micros = match state.latency_micros {
            0 => micros,
            before => (before.saturating_mul(15).saturating_add(micros) / 16).max(1),
        };
    }

    /// How long to wait for an answer of `node` before another one is asked as well.
    #[must_use]
    pub fn hedge_delay(&self, node: NodeId, kind: Kind) -> Duration {
        let state = self.nodes.get(&node).copied().unwrap_or_default();
        match kind {
            Kind::Read => state.p95_of_reads.delay(),
            Kind::Write => state.p95_of_writes.delay(),
            Kind::Page => state.p95_of_pages.delay(),
            Kind::Batch => state.p95_of_batches.delay(),
        }
    }

    /// What a hedge away from `node` would be for.
    #[must_use]
    pub fn hedge_reason(&self, now: MonoTime, node: NodeId) -> Reason {
        let state = self.nodes.get(&node).copied().unwrap_or_default();
        if state.failures > 0 || state.is_silent(now) {
            Reason::Stuck
        } else {
            Reason::Slow
        }
    }

    /// A request to `node` ended.
    pub fn ended(&mut self, now: MonoTime, node: NodeId, verdict: NodeVerdict) {
        let state = self.nodes.entry(node).or_default();
        state.in_flight = state.in_flight.saturating_sub(1);
        match verdict {
            NodeVerdict::Works => {
                state.owes_since = now;
                state.failures = 0;
                state.rests_until = None;
            }
            NodeVerdict::Broken | NodeVerdict::Outrun => {
                // Requests that were in flight together break together: one failure.
                if state.failures == 0 || state.is_probed {
                    state.failures = state.failures.saturating_add(1);
                    state.is_probed = false;
                }
                state.rests_until = Some(now + rest(state.failures));
            }
            NodeVerdict::Busy(spare) => {
                state.owes_since = now;
                let until = now + spare.clamp(REST_FIRST, REST_MAX);
                state.rests_until = state.rests_until.max(Some(until));
            }
            NodeVerdict::Nothing => {}
        }
    }
}

/// Rest after this many failures in a row.
fn rest(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(8);
    (REST_FIRST * (1 << doublings)).min(REST_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);
    const D: NodeId = NodeId(4);
    const NODES: [NodeId; 4] = [A, B, C, D];
    const PRIMARIES: [NodeId; 3] = [B, C, D];

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_micros(ms * 1000)
    }

    /// Every node may do.
    fn any(_: NodeId) -> bool {
        true
    }

    /// Every node has a connection.
    fn up(_: NodeId) -> bool {
        true
    }

    /// The whole order in which an operation would try the nodes.
    fn order(table: &mut RouteTable, now: MonoTime) -> Vec<NodeId> {
        let mut tried = vec![];
        while let Some(node) =
            table.pick(now, &PRIMARIES, &NODES, |node| !tried.contains(&node), up)
        {
            tried.push(node);
        }
        tried
    }

    fn fail(table: &mut RouteTable, now: MonoTime, node: NodeId) {
        table.started(now, node);
        table.ended(now, node, NodeVerdict::Broken);
    }

    #[test]
    fn every_node_is_tried_once_and_primaries_come_first() {
        let order = order(&mut RouteTable::default(), at(0));
        assert_eq!(order.len(), 4);
        assert_eq!(order.last(), Some(&A), "the only node that must forward");
    }

    #[test]
    fn equal_primaries_take_turns() {
        let mut table = RouteTable::default();
        let mut counts = BTreeMap::new();
        for _ in 0..400 {
            let node = table
                .pick(at(0), &PRIMARIES, &NODES, any, up)
                .expect("a node");
            *counts.entry(node).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 3);
        assert!(counts.values().all(|count| *count >= 100), "{counts:?}");
    }

    #[test]
    fn the_primary_with_the_least_in_flight_is_asked() {
        let mut table = RouteTable::default();
        table.started(at(0), B);
        table.started(at(0), D);
        for _ in 0..8 {
            assert_eq!(table.pick(at(0), &PRIMARIES, &NODES, any, up), Some(C));
        }
    }

    #[test]
    fn a_broken_node_comes_last_until_its_rest_is_over() {
        let mut table = RouteTable::default();
        fail(&mut table, at(0), B);
        assert_eq!(order(&mut table, at(50)).last(), Some(&B));
        assert_ne!(order(&mut table, at(101)).last(), Some(&B));
    }

    #[test]
    fn rests_double_up_to_a_second_and_end_with_an_answer() {
        let mut table = RouteTable::default();
        let mut now = 0;
        for rest in [100, 200, 400, 800, 1000, 1000] {
            fail(&mut table, at(now), B);
            assert_eq!(order(&mut table, at(now + rest - 1)).last(), Some(&B));
            assert_ne!(order(&mut table, at(now + rest)).last(), Some(&B));
            now += rest;
        }
        table.started(at(now), B);
        table.ended(at(now), B, NodeVerdict::Works);
        assert_ne!(order(&mut table, at(now)).last(), Some(&B));
    }

    #[test]
    fn requests_that_break_together_are_one_failure() {
        let mut table = RouteTable::default();
        (0..100).for_each(|_| table.started(at(0), B));
        (0..100).for_each(|_| table.ended(at(1), B, NodeVerdict::Broken));
        assert_ne!(order(&mut table, at(102)).last(), Some(&B));
    }

    #[test]
    fn one_request_probes_a_rested_node() {
        let mut table = RouteTable::default();
        fail(&mut table, at(0), B);
        table.started(at(200), B);
        assert_eq!(order(&mut table, at(201)).last(), Some(&B));
    }

    #[test]
    fn resting_nodes_are_still_tried_when_all_rest() {
        let mut table = RouteTable::default();
        for (ms, node) in [(0, C), (1, A), (2, B), (3, D)] {
            fail(&mut table, at(ms), node);
        }
        assert_eq!(order(&mut table, at(10)), [C, A, B, D]);
    }

    #[test]
    fn a_node_that_lost_to_a_hedge_comes_last_until_it_answers() {
        let mut table = RouteTable::default();
        table.started(at(0), B);
        table.started(at(0), B);
        assert_eq!(table.hedge_reason(at(5), B), Reason::Slow);
        table.ended(at(5), B, NodeVerdict::Outrun);
        assert_eq!(table.hedge_reason(at(6), B), Reason::Stuck);
        assert_eq!(order(&mut table, at(6)).last(), Some(&B));
        table.ended(at(7), B, NodeVerdict::Works);
        assert_ne!(order(&mut table, at(7)).last(), Some(&B));
        assert_eq!(table.hedge_reason(at(7), B), Reason::Slow);
    }

    #[test]
    fn a_node_that_is_silent_with_requests_open_comes_last() {
        let mut table = RouteTable::default();
        table.started(at(0), B);
        assert_ne!(order(&mut table, at(99)).last(), Some(&B));
        assert_eq!(order(&mut table, at(100)).last(), Some(&B));
        assert_eq!(table.hedge_reason(at(100), B), Reason::Stuck);
        // One that has nothing open owes nothing, however long ago it spoke.
        table.ended(at(101), B, NodeVerdict::Works);
        table.started(at(500), B);
        assert_eq!(table.hedge_reason(at(501), B), Reason::Slow);
    }

    #[test]
    fn a_slower_primary_gets_a_smaller_share() {
        let mut table = RouteTable::default();
        for (node, ms) in [(B, 40), (C, 4), (D, 4)] {
            table.measured(node, Kind::Read, Duration::from_millis(ms));
        }
        let mut counts = BTreeMap::new();
        for _ in 0..63 {
            let node = table.pick(at(0), &PRIMARIES, &NODES, any, up).expect("one");
            table.started(at(0), node);
            *counts.entry(node).or_insert(0) += 1;
        }
        assert!((1..=6).contains(&counts[&B]), "{counts:?}");
    }

    #[test]
    fn clients_that_ask_once_do_not_all_ask_the_same_node() {
        let first = |random: u64| {
            let mut table = RouteTable::with_rotation(random << 40);
            table.pick(at(0), &PRIMARIES, &NODES, any, up)
        };
        for node in PRIMARIES {
            assert!((0..8).any(|random| first(random) == Some(node)), "{node:?}");
        }
    }

    #[test]
    fn the_first_requests_go_where_a_connection_is_up() {
        for random in 0..8 {
            let mut table = RouteTable::with_rotation(random << 40);
            for _ in 0..FIRST_PICKS {
                let pick = table.pick(at(0), &PRIMARIES, &NODES, any, |node| node == A);
                assert_eq!(pick, Some(A));
            }
            let pick = table.pick(at(0), &PRIMARIES, &NODES, any, |node| node == A);
            assert_ne!(
                pick,
                Some(A),
                "a primary is worth a handshake to those who stay"
            );
        }
    }

    #[test]
    fn a_connected_primary_is_preferred_until_it_has_requests_in_flight() {
        let mut table = RouteTable::default();
        let mut asked = vec![];
        for _ in 0..8 {
            asked.extend(table.pick(at(0), &PRIMARIES, &NODES, any, |node| node == C));
        }
        assert_eq!(asked, [C; 8]);
        (0..2).for_each(|_| table.started(at(0), C));
        let pick = table.pick(at(0), &PRIMARIES, &NODES, any, |node| node == C);
        assert!(pick == Some(B) || pick == Some(D), "{pick:?}");
    }
}
