//! What a coordinator knows of the time that its peers take: whom to ask first, and when a late
//! answer is joined by another replica.
//!
//! A peer that owes an answer for 100 ms is taken for stuck: it is asked last, and asking somebody
//! in its place costs no budget. Anything heard from it ends that. Other late answers are joined by
//! the rest within the budget of one read in twenty, after the p95 that was measured of the peers
//! that were asked.
//!
//! Not here: peers that are down (`continuity`), the same between SDK and nodes (`quorate-client`).

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_ring::hedge::{HedgeBudget, P95, Reason};
use quorate_ring::{MonoTime, NodeId};

/// A peer that owes an answer is taken for stuck after this long.
const SILENCE: Duration = Duration::from_millis(100);

/// Differences in latency below this are noise of schedulers and networks.
const LATENCY_NOISE: Duration = Duration::from_millis(2);

#[derive(Debug, Clone, Copy, Default)]
struct PeerTail {
    /// The first question since it was last heard.
    owes_since: Option<MonoTime>,
    reads: P95,
}

/// What is known of all peers.
#[derive(Debug)]
pub struct PeerTails {
    peers: BTreeMap<NodeId, PeerTail>,
    budget: HedgeBudget,
}

impl Default for PeerTails {
    fn default() -> Self {
        Self {
            peers: BTreeMap::new(),
            budget: HedgeBudget::full(),
        }
    }
}

impl PeerTails {
    /// `peer` was asked for something.
    pub fn asked(&mut self, now: MonoTime, peer: NodeId) {
        let tail = self.peers.entry(peer).or_default();
        tail.owes_since.get_or_insert(now);
    }

    /// A frame of `peer` arrived.
    pub fn heard(&mut self, peer: NodeId) {
        if let Some(tail) = self.peers.get_mut(&peer) {
            tail.owes_since = None;
        }
    }

    /// `peer` answered a read after this long.
    pub fn measured(&mut self, peer: NodeId, took: Duration) {
        self.peers.entry(peer).or_default().reads.measured(took);
    }

    /// How late in the order of those that are up `peer` comes: 0 usual, 1 slow, 2 stuck.
    #[must_use]
    pub fn rank(&self, now: MonoTime, peer: NodeId) -> u8 {
        let Some(tail) = self.peers.get(&peer) else {
            return 0;
        };
        let measured = self.peers.values().filter_map(|tail| tail.reads.value());
        let least = measured.min().unwrap_or_default();
        let is_slow = |p95: Duration| p95 > 2 * least + LATENCY_NOISE;
        if self.is_stuck(now, peer) {
            2
        } else {
            u8::from(tail.reads.value().is_some_and(is_slow))
        }
    }

    /// A read begins that asks these peers first: when their answers are late.
    pub fn read_begins(&mut self, peers: impl Iterator<Item = NodeId>) -> Duration {
        self.budget.begun();
        let delay = |peer| {
            let tail = self.peers.get(&peer).copied().unwrap_or_default();
            tail.reads.delay()
        };
        let longest = peers.map(delay).max();
        longest.unwrap_or_else(|| P95::default().delay())
    }

    /// Whether an answer that is late may be joined by others now; `owing` are those waited for.
    pub fn may_widen(&mut self, now: MonoTime, mut owing: impl Iterator<Item = NodeId>) -> bool {
        let reason = if owing.any(|peer| self.is_stuck(now, peer)) {
            Reason::Stuck
        } else {
            Reason::Slow
        };
        self.budget.take(now, reason)
    }

    /// This node sheds requests: it does not ask for more than it must.
    pub fn overloaded(&mut self, now: MonoTime) {
        self.budget.overloaded(now);
    }

    fn is_stuck(&self, now: MonoTime, peer: NodeId) -> bool {
        let owes_since = self.peers.get(&peer).and_then(|tail| tail.owes_since);
        owes_since.is_some_and(|since| now.since(since) >= SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_micros(ms * 1000)
    }

    #[test]
    fn a_peer_that_owes_an_answer_is_stuck_until_it_is_heard() {
        let mut tails = PeerTails::default();
        tails.asked(at(0), B);
        tails.asked(at(90), B);
        assert_eq!(tails.rank(at(99), B), 0);
        assert_eq!(tails.rank(at(100), B), 2);
        tails.heard(B);
        assert_eq!(tails.rank(at(100), B), 0);
        assert_eq!(tails.rank(at(900), C), 0, "it was asked nothing");
    }

    #[test]
    fn a_slow_peer_comes_behind_the_others_and_delays_follow_the_slowest_asked() {
        let mut tails = PeerTails::default();
        for _ in 0..2_000 {
            tails.measured(B, Duration::from_millis(30));
            tails.measured(C, Duration::from_millis(1));
        }
        assert_eq!((tails.rank(at(0), B), tails.rank(at(0), C)), (1, 0));
        let of = |tails: &mut PeerTails, peers: &[NodeId]| {
            let delay = tails.read_begins(peers.iter().copied());
            delay.as_millis()
        };
        assert_eq!(of(&mut tails, &[C]), 10, "no shorter than this");
        assert!((28..=35).contains(&of(&mut tails, &[C, B])));
    }

    #[test]
    fn reads_are_widened_within_the_budget_and_always_away_from_a_stuck_peer() {
        let mut tails = PeerTails::default();
        tails.asked(at(0), B);
        let widened = (0..100).filter(|_| tails.may_widen(at(50), [B].into_iter()));
        assert!(widened.count() <= 20);
        let widened = (0..100).filter(|_| tails.may_widen(at(150), [B].into_iter()));
        assert_eq!(widened.count(), 100);
        tails.overloaded(at(150));
        assert!(!tails.may_widen(at(160), [C].into_iter()));
    }
}
