//! Leading a round: begins it with what waits, asks everybody step after step, and gives it up if
//! somebody does not answer or began a new life.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{Digest, Prunable};
use quorate_ring::NodeId;
use quorate_ring::planted::{Bug, planted};

use super::super::super::continuity::Liveness;
use super::super::super::effect::{Effect, Effects, Event};
use super::super::super::input::Now;
use super::super::super::key::RecordKey;
use super::super::super::message::{
    OpNumber, PeerMessage, PurgeAsk, PurgeNumber, PurgeReply, PurgeRound, PurgeStep, Wanted,
};
use super::super::super::node_set::{NodeSet, Owners};
use super::super::super::purge::{
    CopyOf, Gathered, Led, Members, PRUNED_PER_KEY_MAX, Part, Phase, STEP_WITHIN,
};
use super::super::super::table::Lookup;
use super::super::{Ack, Shard};
use super::gather::Step;
use super::take_part::Purgeable;

/// A round that took as much as one takes is followed by the next one after this.
const AFTER_FULL_ROUND: Duration = Duration::from_millis(250);

impl Shard {
    pub(super) fn begin_round(&mut self, now: Now, effects: &mut Effects) {
        if now.mono < self.next_purge {
            return;
        }
        self.next_purge = now.mono + self.purges.gather_every();
        let copies = self.purges.waiting();
        let others = copies.map(|copy| (copy, self.members_up(now, copy)));
        let others: BTreeMap<CopyOf, Result<Members, NodeId>> = others.collect();
        let (parts, has_more) = self.purges.gather(now.mono, &others);
        if parts.is_empty() {
            return;
        }
        if has_more {
            self.next_purge = now.mono + AFTER_FULL_ROUND;
        }
        // What is wanted of them is known once they are in memory.
        let part = |gathered: Gathered| {
            let gone = |key| (key, Wanted::Gone(Digest(0)));
            let less = |key| (key, Wanted::Less(Prunable::default()));
            let deleted = gathered.deleted.into_iter().map(gone);
            Part {
                copy: gathered.copy,
                number: PurgeNumber::default(),
                others: gathered.members.others,
                fallbacks: gathered.members.fallbacks,
                keys: deleted
                    .chain(gathered.crowded.into_iter().map(less))
                    .collect(),
            }
        };
        let led = Led {
            phase: Phase::Asking(PurgeStep::Look),
            parts: parts.into_iter().map(part).collect(),
            asked: BTreeMap::new(),
            agreed: Vec::new(),
            waits_for: NodeSet::default(),
            lives: BTreeMap::new(),
            give_up_at: now.mono + STEP_WITHIN,
        };
        let op = self.next_number();
        let keys = self.keys_of(&led.parts);
        self.purges.lead(op, led);
        self.bring_in(now, op, keys, Step::Wanted, effects);
    }

    /// The other owners of a copy whose rounds this node leads and those who may stand in, if all
    /// of them can take part.
    ///
    /// # Errors
    /// Who cannot; this node, if it does not count itself.
    fn members_up(&self, now: Now, (keyspace, vnode): CopyOf) -> Result<Members, NodeId> {
        let known = self.topology.keyspace(keyspace).ok_or(self.me)?;
        if !self.counts_for(keyspace, known.copies, vnode) || !self.purges.knows((keyspace, vnode))
        {
            return Err(self.me);
        }
        let owners = self.topology.owners(vnode, known.copies);
        let others = owners.iter().copied().filter(|node| *node != self.me);
        let is_up = |node: &NodeId| self.liveness(now, *node) == Liveness::Up;
        if planted(Bug::PurgesWithoutAll) {
            return Ok(Members {
                others: others.filter(is_up).collect(),
                fallbacks: Owners::new(),
            });
        }
        let others: Owners = others.collect();
        let fallbacks = if planted(Bug::FallbackNotDrained) {
            Owners::new()
        } else {
            self.fallbacks_of((keyspace, vnode))
        };
        match others.iter().chain(&fallbacks).find(|node| !is_up(node)) {
            Some(down) => Err(*down),
            None => Ok(Members { others, fallbacks }),
        }
    }

    /// The keys of a round that begins are in memory: those that may go are asked about.
    pub(super) fn note_wanted(&mut self, now: Now, op: OpNumber, effects: &mut Effects) {
        let Some(led) = self.purges.led(op) else {
            return;
        };
        let mut parts = std::mem::take(&mut led.parts);
        let mut left = Vec::new();
        for part in &mut parts {
            let mut others = Vec::new();
            for (key, asked) in std::mem::take(&mut part.keys) {
                let wanted = match asked {
                    Wanted::Gone(_) => self.wants_gone(now, part.copy, &key),
                    Wanted::Less(_) => self.wants_less(part.copy, &key),
                };
                match wanted {
                    Some(wanted) => part.keys.push((key, wanted)),
                    None => others.push((key, asked)),
                }
            }
            left.push((part.copy, others));
        }
        self.purges.give_up_keys(left, now.mono);
        parts.retain(|part| !part.keys.is_empty());
        if let Some(led) = self.purges.led(op) {
            led.parts = parts;
        }
        self.ask_round(now, op, PurgeStep::Look, effects);
    }

    /// What a deleted key's record is, if it may go now; one that may not go is forgotten.
    fn wants_gone(&mut self, now: Now, copy: CopyOf, key: &Bytes) -> Option<Wanted> {
        match self.purgeable(now, copy, key) {
            Purgeable::Now(digest) => Some(Wanted::Gone(digest)),
            Purgeable::NotYet => None,
            Purgeable::Never => {
                self.purges.forget(copy, key);
                None
            }
        }
    }

    /// What may be left out of a crowded record; one that is not crowded any more is forgotten, and
    /// one that found no room in memory, or has left it while others were brought in, is not.
    fn wants_less(&mut self, copy: CopyOf, key: &Bytes) -> Option<Wanted> {
        let record_key = RecordKey::new(copy.0, copy.1, key);
        if self.table.newest(&record_key) == Lookup::MustLoad {
            return None;
        }
        let Some(record) = self.record_in_memory(copy, key) else {
            self.purges.forget_crowded(copy, key);
            return None;
        };
        let mut prunable = self.prunable(&record);
        if !self.is_crowded(&prunable) {
            self.purges.forget_crowded(copy, key);
            return None;
        }
        prunable.truncate(PRUNED_PER_KEY_MAX);
        Some(Wanted::Less(prunable))
    }

    /// Asks everybody for the next step of a round, this node first where its log must be ahead.
    fn ask_round(&mut self, now: Now, op: OpNumber, step: PurgeStep, effects: &mut Effects) {
        let me = self.me;
        let Some(led) = self.purges.led(op) else {
            return;
        };
        if led.parts.is_empty() {
            self.purges.end(op);
            return;
        }
        led.ask(me, step, now.mono);
        // The others' numbers must not rise above what this node finds again after a crash.
        if step != PurgeStep::Join {
            self.ask_others(op, step, effects);
        }
        if step == PurgeStep::Drained {
            return;
        }
        let keys = match self.purges.led(op) {
            Some(led) => {
                let parts = led.parts.clone();
                self.keys_of(&parts)
            }
            None => return,
        };
        self.bring_in(now, op, keys, Step::Own(step), effects);
    }

    fn ask_others(&mut self, op: OpNumber, step: PurgeStep, effects: &mut Effects) {
        let me = self.me;
        let Some(led) = self.purges.led(op) else {
            return;
        };
        for (to, places) in led.asked.iter().filter(|(to, _)| **to != me) {
            let rounds = places.iter().filter_map(|place| led.parts.get(*place));
            let message = PeerMessage::Purge(PurgeAsk {
                op,
                step,
                rounds: rounds.map(|part| part.round(*to)).collect(),
                budget: STEP_WITHIN,
            });
            effects.push(Effect::Send { to: *to, message });
        }
    }

    pub(super) fn own_part(
        &mut self,
        now: Now,
        op: OpNumber,
        step: PurgeStep,
        effects: &mut Effects,
    ) {
        let me = self.me;
        if step == PurgeStep::Join {
            self.purges.number_parts(op);
        }
        let Some(led) = self.purges.led(op) else {
            return;
        };
        let rounds: Vec<PurgeRound> = led.parts.iter().map(|part| part.round(me)).collect();
        let agreed = self.take_part(now, self.me, step, &rounds, effects);
        let ack = Ack::OwnPurge { op, step, agreed };
        self.when_logged(now, ack, effects);
    }

    /// What this node did for a round of its own is durable.
    pub(in super::super) fn own_part_durable(
        &mut self,
        now: Now,
        op: OpNumber,
        step: PurgeStep,
        agreed: Vec<Vec<u16>>,
        effects: &mut Effects,
    ) {
        if step == PurgeStep::Join {
            let me = self.me;
            if let Some(led) = self.purges.led(op) {
                led.ask_about_joined(me, &agreed);
            }
            self.ask_others(op, step, effects);
        }
        self.round_answered(now, self.me, op, (step, agreed), effects);
    }

    fn round_answered(
        &mut self,
        now: Now,
        from: NodeId,
        op: OpNumber,
        (step, agreed): (PurgeStep, Vec<Vec<u16>>),
        effects: &mut Effects,
    ) {
        let life = self.continuity.life_of(from).map(|(life, _)| life);
        let Some(led) = self.purges.led(op) else {
            return;
        };
        if led.phase != Phase::Asking(step) {
            return;
        }
        let Some(is_last) = led.answered(from, agreed) else {
            return;
        };
        if step == PurgeStep::Join
            && let Some(life) = life
        {
            led.lives.insert(from, life);
        }
        if is_last {
            self.round_agreed(now, op, step, effects);
        }
    }

    /// All have answered a step.
    fn round_agreed(&mut self, now: Now, op: OpNumber, step: PurgeStep, effects: &mut Effects) {
        let Some(led) = self.purges.led(op) else {
            return;
        };
        let left = led.keep_agreed();
        self.purges.give_up_keys(left, now.mono);
        match step {
            PurgeStep::Look => self.ask_round(now, op, PurgeStep::Join, effects),
            PurgeStep::Join => self.purges.let_rest(op, now.mono),
            PurgeStep::Drained => self.ask_round(now, op, PurgeStep::Drop, effects),
            PurgeStep::Drop => {
                // What was dropped is forgotten when it is looked at for the next round: it may
                // have come back meanwhile from an owner that dropped it later.
                if self.purges.end(op) {
                    effects.push(Effect::Count(Event::PurgeRound));
                }
            }
        }
    }

    /// A round has rested: if everybody who joined has lived on since, what was agreed on goes.
    pub(super) fn begin_drop(&mut self, now: Now, op: OpNumber, effects: &mut Effects) {
        let Some(led) = self.purges.led(op) else {
            return;
        };
        let lives = led.lives.clone();
        let parts = std::mem::take(&mut led.parts);
        let lived_on = |node: &NodeId| {
            let life = self.continuity.life_of(*node).map(|(life, _)| life);
            self.liveness(now, *node) == Liveness::Up
                && life.is_some()
                && life == lives.get(node).copied()
        };
        let goes_on = |part: &Part| {
            let mut members = part.others.iter().chain(&part.fallbacks);
            members.all(lived_on) && self.members_up(now, part.copy).is_ok()
        };
        let (parts, given_up): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(goes_on);
        if !given_up.is_empty() {
            effects.push(Effect::Count(Event::PurgeRoundFailed));
        }
        self.purges.give_up_parts(given_up, now.mono);
        let has_fallbacks = parts.iter().any(|part| !part.fallbacks.is_empty());
        if let Some(led) = self.purges.led(op) {
            led.parts = parts;
        }
        let step = if has_fallbacks {
            PurgeStep::Drained
        } else {
            PurgeStep::Drop
        };
        self.ask_round(now, op, step, effects);
    }

    /// A co-replica answered.
    pub(in super::super) fn peer_purge_reply(
        &mut self,
        now: Now,
        from: NodeId,
        reply: PurgeReply,
        effects: &mut Effects,
    ) {
        let PurgeReply { op, step, result } = reply;
        match result {
            Ok(agreed) => self.round_answered(now, from, op, (step, agreed), effects),
            Err(_) => {
                let waits = |led: &mut Led| {
                    led.phase == Phase::Asking(step) && led.waits_for.contains(from)
                };
                if self.purges.led(op).is_some_and(waits) {
                    effects.push(Effect::Count(Event::PurgeRoundFailed));
                    self.purges.give_up(op, now.mono);
                }
            }
        }
    }
}
