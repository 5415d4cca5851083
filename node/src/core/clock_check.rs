//! Is this node's wall clock near those of its peers? Expiry may act only if it is.
//!
//! Each keep-alive goes out with a probe: the sender's two clocks, and the newest probe that it
//! got, with how long it was held. From an echo follow the round trip and the peer's wall time,
//! each within half of the round trip. A peer's wall time is kept relative to the own *monotonic*
//! clock, so that a jump of the own wall clock shows at once and not only with the next echo.
//!
//! The clock is good if it is within half a second of the middle of all clocks that are known, the
//! own included: one wrong clock among three does not make the other two doubt theirs. Where no
//! clock is known, or the two in the middle disagree, it is not good: a value must not be dropped
//! for a time that nobody confirms (`counterexamples.md` V12).
//!
//! Not here: what a node with a bad clock refuses (`shard::write`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::KeyState;
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{MonoTime, NodeId};
use smallvec::SmallVec;

use super::input::Now;
use super::message::{ClockEcho, ClockProbe};

/// How far a clock may be from its peers', and a client's stamp ahead of the clock.
pub const SKEW_MAX: Duration = Duration::from_millis(500);
/// An echo that took longer says too little.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(400);
/// What was heard longer ago does not confirm the clock: the peer's may have jumped since.
const FRESH: Duration = Duration::from_secs(2);

/// What is known of the own wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockTrust {
    /// Near the clocks of its peers, or there are none.
    Good,
    /// Farther off than [`SKEW_MAX`], or its peers disagree.
    Off,
    /// No peer's clock is known yet.
    Unknown,
}

#[derive(Debug, Default)]
struct PeerClock {
    /// Peer's wall time minus own monotonic time, in microseconds, and when that was found.
    wall_minus_mono: Option<(i64, MonoTime)>,
    /// Monotonic time of the peer's newest probe there, and when it came.
    echo: Option<(u64, MonoTime)>,
}

/// The wall clocks of a node's peers.
#[derive(Debug)]
pub struct ClockCheck {
    peers: BTreeMap<NodeId, PeerClock>,
}

impl ClockCheck {
    /// Nothing is known of the clocks of `peers`, which are all other nodes.
    pub fn new(peers: impl Iterator<Item = NodeId>) -> Self {
        Self {
            peers: peers.map(|id| (id, PeerClock::default())).collect(),
        }
    }

    /// What to tell a peer now.
    #[must_use]
    pub fn probe(&self, now: Now, peer: NodeId) -> ClockProbe {
        let known = self.peers.get(&peer);
        let echo = known.and_then(|known| known.echo);
        ClockProbe {
            sent_us: now.mono.as_micros(),
            wall_us: now.wall_micros,
            echo: echo.map(|(sent_us, came)| ClockEcho {
                sent_us,
                held_us: micros(now.mono.since(came)),
            }),
            is_urgent: known.is_some_and(|known| known.wall_minus_mono.is_none()),
        }
    }

    /// A peer's probe came. True if it should be answered at once.
    pub fn heard(&mut self, now: Now, from: NodeId, probe: ClockProbe) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else {
            return false;
        };
        peer.echo = Some((probe.sent_us, now.mono));
        let mono = now.mono.as_micros();
        let round_trip = probe.echo.and_then(|ClockEcho { sent_us, held_us }| {
            mono.checked_sub(sent_us)?.checked_sub(held_us)
        });
        if let Some(round_trip) = round_trip.filter(|trip| *trip <= micros(ROUND_TRIP_MAX)) {
            let wall = probe.wall_us.saturating_add(round_trip / 2);
            peer.wall_minus_mono = Some((signed(wall).saturating_sub(signed(mono)), now.mono));
        }
        probe.is_urgent
    }

    /// The connection to a peer is gone: what came over it is not echoed on the next one.
    pub fn link_down(&mut self, peer: NodeId) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.echo = None;
        }
    }

    /// Whether the own wall clock may be relied on.
    #[must_use]
    pub fn trust(&self, now: Now) -> ClockTrust {
        if self.peers.is_empty() || planted(Bug::ExpiryByBadClock) {
            return ClockTrust::Good;
        }
        let walls = self.walls(now, FRESH);
        if walls.len() < 2 {
            return ClockTrust::Unknown;
        }
        let most = i64::try_from(SKEW_MAX.as_micros()).unwrap_or(i64::MAX);
        let near = |wall: i64| (signed(now.wall_micros) - wall).abs() <= most;
        let (lower, upper) = middles(&walls);
        if near(lower) && near(upper) {
            ClockTrust::Good
        } else {
            ClockTrust::Off
        }
    }

    /// Whether nobody has confirmed the own clock since the start, nor said anything else: what it
    /// takes for expired may not be, and a token that covers what was hidden would supersede it.
    fn is_alone(&self) -> bool {
        let mut peers = self.peers.values();
        !self.peers.is_empty()
            && peers.all(|peer| peer.wall_minus_mono.is_none())
            && !planted(Bug::ExpiryByBadClock)
    }

    /// The values of a record that have not expired; `None` if that cannot be told yet.
    #[must_use]
    pub fn visible(&self, now: Now, state: &KeyState) -> Option<Vec<Bytes>> {
        let values = state.visible(self.hiding_wall(now));
        let in_doubt = self.is_alone() && values.len() < state.visible(0).len();
        (!in_doubt).then_some(values)
    }

    /// Wall time by which values are hidden, in microseconds since the Unix epoch: the own clock's
    /// if it is good. Else the earlier of the two middle ones of all that are known, because to
    /// show an expired value once more is the smaller harm.
    #[must_use]
    fn hiding_wall(&self, now: Now) -> u64 {
        match self.trust(now) {
            ClockTrust::Good => now.wall_micros,
            ClockTrust::Off | ClockTrust::Unknown => {
                let (lower, _) = middles(&self.walls(now, Duration::MAX));
                u64::try_from(lower).unwrap_or(0)
            }
        }
    }

    /// Wall times of this node and of the peers whose clocks were heard within `age_max`, sorted.
    fn walls(&self, now: Now, age_max: Duration) -> SmallVec<[i64; 8]> {
        let heard = self.peers.values().filter_map(|peer| peer.wall_minus_mono);
        let fresh = heard.filter(|(_, at)| now.mono.since(*at) <= age_max);
        let mono = signed(now.mono.as_micros());
        let mut walls: SmallVec<[i64; 8]> =
            fresh.map(|(ahead, _)| ahead.saturating_add(mono)).collect();
        walls.push(signed(now.wall_micros));
        walls.sort_unstable();
        walls
    }
}

/// The two in the middle of a sorted list that is not empty; one twice if their number is odd.
fn middles(sorted: &[i64]) -> (i64, i64) {
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0);
    (at((sorted.len() - 1) / 2), at(sorted.len() / 2))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds since 1970 fit into 63 bits for 290,000 years.
fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use quorate_antientropy::{LwwVersion, LwwWrite, OpId};

    use super::*;

    const WALL: u64 = 1_700_000_000_000_000;
    const HOUR: i64 = 3_600_000_000;

    fn at(mono_ms: u64, skew_us: i64) -> Now {
        Now {
            mono: MonoTime::from_micros(mono_ms * 1000),
            wall_micros: (WALL + mono_ms * 1000).saturating_add_signed(skew_us),
        }
    }

    /// A node that has heard of peers with these skews at 1 s, over a round trip of 10 ms.
    fn node(skews_us: &[i64]) -> ClockCheck {
        let ids = (2..).map(NodeId).take(skews_us.len());
        let mut check = ClockCheck::new(ids.clone());
        for (id, skew) in ids.zip(skews_us) {
            let probe = ClockProbe {
                sent_us: 77,
                wall_us: (WALL + 995_000).saturating_add_signed(*skew),
                echo: Some(ClockEcho {
                    sent_us: 690_000,
                    held_us: 300_000,
                }),
                is_urgent: false,
            };
            assert!(!check.heard(at(1000, 0), id, probe));
        }
        check
    }

    #[test]
    fn the_middle_of_all_clocks_decides() {
        use ClockTrust::{Good, Off, Unknown};
        let cases: [(&[i64], i64, ClockTrust); 9] = [
            (&[], HOUR, Good),
            (&[0, 0], 0, Good),
            (&[0, 0], 499_000, Good),
            (&[0, 0], 501_000, Off),
            (&[0, HOUR], 0, Good),
            (&[0, 0], -HOUR, Off),
            (&[HOUR, HOUR], 0, Off),
            (&[0], HOUR, Off),
            (&[0, 0, HOUR], 0, Good),
        ];
        for (peers, own, want) in cases {
            assert_eq!(node(peers).trust(at(1000, own)), want, "{peers:?} {own}");
        }
        let nobody = ClockCheck::new([NodeId(2)].into_iter());
        assert_eq!(nobody.trust(at(1000, 0)), Unknown);
        assert_eq!(node(&[0, 0]).trust(at(4000, 0)), Unknown, "too long ago");
    }

    #[test]
    fn an_own_jump_shows_at_once_and_a_slow_echo_says_nothing() {
        let check = node(&[0, 0]);
        assert_eq!(check.trust(at(1001, 0)), ClockTrust::Good);
        assert_eq!(check.trust(at(1001, HOUR)), ClockTrust::Off);
        let mut slow = ClockCheck::new([NodeId(2)].into_iter());
        let probe = ClockProbe {
            sent_us: 1,
            wall_us: WALL,
            echo: Some(ClockEcho {
                sent_us: 1,
                held_us: 0,
            }),
            is_urgent: true,
        };
        assert!(slow.heard(at(1000, 0), NodeId(2), probe));
        assert_eq!(slow.trust(at(1000, 0)), ClockTrust::Unknown);
    }

    #[test]
    fn a_clock_that_is_ahead_does_not_hide_before_the_others_would() {
        let wall = |mono_ms: u64| WALL + mono_ms * 1000;
        let near = |a: u64, b: u64| a.abs_diff(b) <= 10_000;
        assert!(near(node(&[0, 0]).hiding_wall(at(2000, HOUR)), wall(2000)));
        assert!(near(node(&[0]).hiding_wall(at(2000, HOUR)), wall(2000)));
        assert_eq!(node(&[0, HOUR]).hiding_wall(at(2000, 0)), wall(2000));
    }

    /// Found by seed 85 of the simulator: all nodes had just been killed, one of them was two hours
    /// ahead, hid a value for its first client, and the token of that read superseded it.
    #[test]
    fn a_node_that_has_heard_no_other_clock_takes_no_value_for_expired() {
        let state = |expiry| {
            let version = LwwVersion {
                stamp: WALL,
                op_id: OpId([1; 16]),
            };
            let value = Bytes::from_static(b"v");
            KeyState::Lww(Some(LwwWrite::value(version, value, Some(expiry))))
        };
        let seen = |clocks: &ClockCheck, expiry| {
            let values = clocks.visible(at(2000, HOUR), &state(expiry));
            values.map(|values| values.len())
        };
        let (ago, later, far) = (WALL, WALL + 60_000_000, u64::MAX);
        assert_eq!(
            [ago, later, far].map(|e| seen(&node(&[]), e)),
            [Some(0), Some(0), Some(1)]
        );
        let alone = ClockCheck::new([NodeId(2), NodeId(3)].into_iter());
        assert_eq!(
            [ago, later, far].map(|e| seen(&alone, e)),
            [None, None, Some(1)]
        );
        assert_eq!(
            [ago, later, far].map(|e| seen(&node(&[0]), e)),
            [Some(0), Some(1), Some(1)]
        );
    }

    #[test]
    fn a_first_probe_asks_for_an_answer_and_echoes_end() {
        let mut a = ClockCheck::new([NodeId(2)].into_iter());
        let mut b = ClockCheck::new([NodeId(1)].into_iter());
        let first = a.probe(at(0, 0), NodeId(2));
        assert!(b.heard(at(5, 0), NodeId(1), first));
        let second = b.probe(at(5, 0), NodeId(1));
        assert!(a.heard(at(10, 0), NodeId(2), second));
        let third = a.probe(at(10, 0), NodeId(2));
        assert!(!b.heard(at(15, 0), NodeId(1), third));
        assert_eq!(a.trust(at(10, 0)), ClockTrust::Good);
        assert_eq!(b.trust(at(15, 0)), ClockTrust::Good);
    }
}
