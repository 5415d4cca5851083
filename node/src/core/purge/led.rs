//! Rounds that this node leads, of several vnodes together: how far each is, who has answered, and
//! which keys all have agreed on.
//!
//! Not here: asking and answering (`shard::purge`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::PurgeNumber;
use quorate_ring::{Incarnation, MonoTime, NodeId};

use super::super::message::{OpNumber, PurgeRound, PurgeStep, Wanted};
use super::super::node_set::{NodeSet, Owners};
use super::{CopyOf, Purges};

/// Each of the first three steps must be answered within this time.
pub const STEP_WITHIN: Duration = Duration::from_secs(10);

/// Keys of a copy.
pub type KeysOf = (CopyOf, Vec<(Bytes, Wanted)>);

/// A part of a round of which this node is the leader.
#[derive(Debug, Clone)]
pub struct Part {
    /// The copy.
    pub copy: CopyOf,
    /// The round's number; 0 until this node joins it.
    pub number: PurgeNumber,
    /// Its other owners.
    pub others: Owners,
    /// Who may stand in for owners.
    pub fallbacks: Owners,
    /// Keys that all have agreed on so far, those to be purged first.
    pub keys: Vec<(Bytes, Wanted)>,
}

/// Who beside the leader must take part in a round of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    /// Its other owners.
    pub others: Owners,
    /// Who may stand in for owners.
    pub fallbacks: Owners,
}

impl Part {
    /// As a member is asked about it.
    #[must_use]
    pub fn round(&self, member: NodeId) -> PurgeRound {
        PurgeRound {
            keyspace: self.copy.0,
            vnode: self.copy.1,
            number: self.number,
            keys: if self.fallbacks.contains(&member) {
                Vec::new()
            } else {
                self.keys.clone()
            },
        }
    }
}

/// How far a led round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// This node's own keys are being looked at, or those of the others.
    Asking(PurgeStep),
    /// All have joined; nothing happens before this moment.
    Resting(MonoTime),
}

/// A round under way that this node leads, of several vnodes together.
#[derive(Debug)]
pub struct Led {
    /// How far it is.
    pub phase: Phase,
    /// One per vnode of a keyspace.
    pub parts: Vec<Part>,
    /// Places of the parts that each peer was asked about, in the order of the question.
    pub asked: BTreeMap<NodeId, Vec<usize>>,
    /// Of each part, the places of the keys that all who answered agreed on.
    pub agreed: Vec<BTreeSet<u16>>,
    /// Who has not answered the present step; this node too.
    pub waits_for: NodeSet,
    /// In which life each of the others joined.
    pub lives: BTreeMap<NodeId, Incarnation>,
    /// When a step that was not answered ends it.
    pub give_up_at: MonoTime,
}

impl Purges {
    /// A round begins.
    pub fn lead(&mut self, op: OpNumber, led: Led) {
        self.led.insert(op, led);
    }

    /// A round that this node leads.
    pub fn led(&mut self, op: OpNumber) -> Option<&mut Led> {
        self.led.get_mut(&op)
    }

    /// Rounds for which it is time: to go on, or to give up.
    #[must_use]
    pub fn due(&self, now: MonoTime) -> Vec<OpNumber> {
        let is_due = |(_, led): &(&OpNumber, &Led)| match led.phase {
            Phase::Asking(_) => led.give_up_at <= now,
            Phase::Resting(until) => until <= now,
        };
        self.led.iter().filter(is_due).map(|(op, _)| *op).collect()
    }

    /// A round came to its end: its keys are looked at once more by the next one. Gives whether
    /// there was one.
    pub fn end(&mut self, op: OpNumber) -> bool {
        let Some(led) = self.led.remove(&op) else {
            return false;
        };
        for part in &led.parts {
            self.give_back(part.copy, &part.keys, None);
        }
        true
    }

    /// A round is given up; its keys wait for another one.
    pub fn give_up(&mut self, op: OpNumber, now: MonoTime) {
        if let Some(led) = self.led.remove(&op) {
            self.give_up_parts(led.parts, now);
        }
    }

    /// The same of parts of a round.
    pub fn give_up_parts(&mut self, parts: Vec<Part>, now: MonoTime) {
        let keys = parts.into_iter().map(|part| (part.copy, part.keys));
        self.give_up_keys(keys, now);
    }

    /// The same of keys of it.
    pub fn give_up_keys(&mut self, keys: impl IntoIterator<Item = KeysOf>, now: MonoTime) {
        for (copy, keys) in keys {
            self.give_back(copy, &keys, Some(now));
        }
    }

    /// A peer began a new life, and what it joined in the one before it will not drop: rounds that
    /// ask it something are given up, and of those that rest the parts in which it is. Gives of how
    /// many rounds.
    pub fn began_anew(&mut self, peer: NodeId, now: MonoTime) -> usize {
        let (mut asking, mut given_up, mut rounds) = (Vec::new(), Vec::new(), 0);
        for (op, led) in &mut self.led {
            if matches!(led.phase, Phase::Asking(_)) {
                // What is being asked is answered by places: such a round ends as a whole.
                asking.extend(led.asked.contains_key(&peer).then_some(*op));
                continue;
            }
            let has_peer =
                |part: &Part| part.others.contains(&peer) || part.fallbacks.contains(&peer);
            let (gone, kept): (Vec<Part>, Vec<Part>) = std::mem::take(&mut led.parts)
                .into_iter()
                .partition(has_peer);
            led.parts = kept;
            rounds += usize::from(!gone.is_empty());
            given_up.extend(gone);
        }
        self.led.retain(|_, led| !led.parts.is_empty());
        self.give_up_parts(given_up, now);
        rounds += asking.len();
        for op in asking {
            self.give_up(op, now);
        }
        rounds
    }

    /// Everything that this node leads is given up.
    pub fn give_up_all(&mut self, now: MonoTime) {
        for (_, led) in std::mem::take(&mut self.led) {
            self.give_up_parts(led.parts, now);
        }
    }

    /// This node joins a round: each of its parts gets its number.
    pub fn number_parts(&mut self, op: OpNumber) {
        let Some(mut led) = self.led.remove(&op) else {
            return;
        };
        for part in &mut led.parts {
            part.number = self.give_number(part.copy);
        }
        self.led.insert(op, led);
    }

    /// All have joined a round.
    pub fn let_rest(&mut self, op: OpNumber, now: MonoTime) {
        let until = now + self.rest();
        match self.led.get_mut(&op) {
            Some(led) if !led.parts.is_empty() => led.phase = Phase::Resting(until),
            _ => drop(self.end(op)),
        }
    }

    /// A number for another round of a copy, above all that were given; several may be under way.
    pub(super) fn give_number(&mut self, copy: CopyOf) -> PurgeNumber {
        let newest = self.numbers(copy).number;
        let given = self.given.entry(copy).or_default();
        *given = newest.max(*given).next();
        *given
    }
}

impl Led {
    /// `from` answered the present step: of each part that it was asked about, in order, the places
    /// of the keys that it agrees on; a fallback agrees on all by naming any. Gives whether all
    /// have answered now; `None` if the answer is to nothing.
    pub fn answered(&mut self, from: NodeId, agreed: Vec<Vec<u16>>) -> Option<bool> {
        if !self.waits_for.contains(from) {
            return None;
        }
        let asked = self.asked.get(&from)?;
        if asked.len() != agreed.len() {
            return None;
        }
        for (place, agreed) in asked.iter().zip(agreed) {
            let agreed: BTreeSet<u16> = agreed.into_iter().collect();
            let part = self.parts.get(*place);
            if part.is_some_and(|part| part.fallbacks.contains(&from)) && !agreed.is_empty() {
                continue;
            }
            if let Some(all) = self.agreed.get_mut(*place) {
                all.retain(|key| agreed.contains(key));
            }
        }
        self.waits_for.remove(from);
        Some(self.waits_for.is_empty())
    }

    /// This node, which is asked first, agreed on nothing in some parts and has not joined them: so
    /// nobody else may, since its number must be the first to rise.
    pub fn ask_about_joined(&mut self, me: NodeId, agreed: &[Vec<u16>]) {
        let own = self.asked.get(&me).into_iter().flatten().zip(agreed);
        let joined = own.filter(|(_, agreed)| !agreed.is_empty());
        let joined: BTreeSet<usize> = joined.map(|(place, _)| *place).collect();
        for (node, places) in &mut self.asked {
            if *node != me {
                places.retain(|place| joined.contains(place));
                if places.is_empty() {
                    self.waits_for.remove(*node);
                }
            }
        }
        self.asked.retain(|_, places| !places.is_empty());
    }

    /// Keeps the keys that all agreed on, asks about these next. Gives the others.
    pub fn keep_agreed(&mut self) -> Vec<KeysOf> {
        let mut left = Vec::new();
        for (part, agreed) in self.parts.iter_mut().zip(&self.agreed) {
            let mut places = 0u16..;
            let is_agreed = |_: &(Bytes, Wanted)| {
                let place = places.next();
                place.is_some_and(|place| agreed.contains(&place))
            };
            let (kept, others) = std::mem::take(&mut part.keys)
                .into_iter()
                .partition(is_agreed);
            part.keys = kept;
            if !others.is_empty() {
                left.push((part.copy, others));
            }
        }
        self.parts.retain(|part| !part.keys.is_empty());
        left
    }

    /// The next step: everybody whom it concerns is asked about all keys that are left.
    pub fn ask(&mut self, me: NodeId, step: PurgeStep, now: MonoTime) {
        self.phase = Phase::Asking(step);
        self.give_up_at = now + STEP_WITHIN;
        self.asked.clear();
        let all = |part: &Part| (0..u16::try_from(part.keys.len()).unwrap_or(u16::MAX)).collect();
        self.agreed = self.parts.iter().map(all).collect();
        for (place, part) in self.parts.iter().enumerate() {
            let (own, others, fallbacks) = match step {
                PurgeStep::Look | PurgeStep::Join => (true, &part.others[..], &part.fallbacks[..]),
                PurgeStep::Drained => (false, &[][..], &part.fallbacks[..]),
                PurgeStep::Drop => (true, &part.others[..], &[][..]),
            };
            let own = own.then_some(me);
            for member in own.iter().chain(others).chain(fallbacks) {
                self.asked.entry(*member).or_default().push(place);
            }
        }
        self.waits_for = self.asked.keys().copied().collect();
    }
}

#[cfg(test)]
mod tests {
    use quorate_antientropy::Digest;
    use quorate_ring::{KeyspaceId, VnodeId};

    use super::super::keys::AGAIN_AFTER;
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);
    const OP: OpNumber = OpNumber(7);
    const NOW: MonoTime = MonoTime::ZERO;

    const fn copy(vnode: u16) -> CopyOf {
        (KeyspaceId(1), VnodeId(vnode))
    }

    /// A leads a round that rests, of two copies: of one with B, of the other one with C.
    fn resting() -> Purges {
        let mut purges = Purges::new(Duration::from_secs(10), [], BTreeSet::new());
        purges.note_deleted(copy(1), b"with B", NOW);
        purges.note_deleted(copy(2), b"with C", NOW);
        let parts = gathered(&mut purges, NOW);
        let led = Led {
            phase: Phase::Resting(NOW + Duration::from_secs(10)),
            parts,
            asked: BTreeMap::new(),
            agreed: Vec::new(),
            waits_for: NodeSet::default(),
            lives: BTreeMap::new(),
            give_up_at: NOW,
        };
        purges.lead(OP, led);
        assert!(gathered(&mut purges, NOW + AGAIN_AFTER).is_empty());
        purges
    }

    /// Parts of the next round.
    fn gathered(purges: &mut Purges, now: MonoTime) -> Vec<Part> {
        let with = |other| Members {
            others: [other].into_iter().collect(),
            ..Members::default()
        };
        let members = [(copy(1), Ok(with(B))), (copy(2), Ok(with(C)))];
        let (gathered, _) = purges.gather(now, &members.into());
        let part = |gathered: super::super::Gathered| Part {
            copy: gathered.copy,
            number: PurgeNumber::default(),
            others: gathered.members.others,
            fallbacks: gathered.members.fallbacks,
            keys: gathered
                .deleted
                .into_iter()
                .map(|key| (key, Wanted::Gone(Digest(0))))
                .collect(),
        };
        gathered.into_iter().map(part).collect()
    }

    fn copies(parts: &[Part]) -> Vec<CopyOf> {
        parts.iter().map(|part| part.copy).collect()
    }

    #[test]
    fn keys_of_a_round_that_is_given_up_are_in_a_later_one() {
        let give_ups: [fn(&mut Purges); 3] = [
            |purges| purges.give_up(OP, NOW),
            |purges| purges.give_up_all(NOW),
            |purges| purges.leave_rounds(|left| left == copy(1), NOW),
        ];
        for give_up in give_ups {
            let mut purges = resting();
            give_up(&mut purges);
            assert!(purges.led(OP).is_none());
            assert!(gathered(&mut purges, NOW).is_empty(), "not at once");
            let again = gathered(&mut purges, NOW + AGAIN_AFTER);
            assert_eq!(copies(&again), [copy(1), copy(2)]);
        }
    }

    #[test]
    fn a_new_life_ends_the_parts_of_a_round_that_it_is_in_and_no_others() {
        let mut purges = resting();
        assert_eq!(purges.began_anew(B, NOW), 1);
        let left = purges.led(OP).map(|led| copies(&led.parts));
        assert_eq!(left, Some(vec![copy(2)]));
        let again = gathered(&mut purges, NOW + AGAIN_AFTER);
        assert_eq!(copies(&again), [copy(1)]);
        assert_eq!(purges.began_anew(C, NOW), 1);
        assert!(purges.led(OP).is_none());
        assert_eq!(purges.began_anew(C, NOW), 0, "there is nothing left to end");
    }

    #[test]
    fn a_new_life_ends_a_round_that_asks_it_even_if_it_has_answered() {
        let mut purges = resting();
        let led = purges.led(OP).expect("it rests");
        led.ask(A, PurgeStep::Join, NOW);
        assert_eq!(led.answered(B, vec![vec![0]]), Some(false));
        assert_eq!(purges.began_anew(B, NOW), 1);
        assert!(purges.led(OP).is_none());
        let again = gathered(&mut purges, NOW + AGAIN_AFTER);
        assert_eq!(copies(&again), [copy(1), copy(2)]);
    }

    #[test]
    fn others_are_not_asked_to_join_what_the_leader_has_not_joined() {
        let mut purges = resting();
        let led = purges.led(OP).expect("it rests");
        led.ask(A, PurgeStep::Join, NOW);
        led.ask_about_joined(A, &[vec![], vec![0]]);
        let asked: Vec<NodeId> = led.asked.keys().copied().collect();
        assert_eq!(asked, [A, C]);
        assert_eq!(led.answered(A, vec![vec![], vec![0]]), Some(false));
        assert_eq!(led.answered(C, vec![vec![0]]), Some(true));
        let left = led.keep_agreed();
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].0, copies(&led.parts)), (copy(1), vec![copy(2)]));
    }
}
