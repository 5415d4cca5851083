//! Delivering hints: what a node missed is sent to it as soon as it is up, at the pace at which it
//! acknowledges.
//!
//! A hint ends by the target's durable acknowledgement, whether the target counts or not.
//!
//! Not here: which hints there are (`core::hints`), sending records (`deliver`), noticing that a
//! node missed a write (`write`).

use std::time::Duration;

use bytes::Bytes;
use quorate_ring::NodeId;
use quorate_ring::planted::{Bug, planted};

use super::super::budget::Kind;
use super::super::continuity::Liveness;
use super::super::effect::{Effect, Effects, Event};
use super::super::hints::{Delivery, HintChange};
use super::super::input::Now;
use super::super::key::RecordKey;
use super::super::message::ReplicateReply;
use super::super::table::Lookup;
use super::{Parked, Shard};

/// How often hints are looked through for those that are too old.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

impl Shard {
    /// `node` missed a write of `key`.
    pub(super) fn hint(&mut self, now: Now, node: NodeId, key: &RecordKey, effects: &mut Effects) {
        effects.push(Effect::Count(Event::HintWanted));
        let appended = self.table.appended();
        if node != self.me && self.hints.missed(now.mono, node, key, appended) {
            effects.push(Effect::Hint(HintChange::Missed(node, key.clone())));
        }
    }

    /// Sends what waits for nodes that are up, gives up on what was not acknowledged, lets go what
    /// is too old.
    pub(super) fn tick_hints(&mut self, now: Now, effects: &mut Effects) {
        let continuity = &self.continuity;
        let is_up = |node| continuity.liveness(now.mono, node) == Liveness::Up;
        for delivery in self.hints_sent.take_lost(now.mono, is_up) {
            self.hints.failed(now.mono, delivery);
        }
        if now.mono >= self.hints_expire_at {
            self.hints_expire_at = now.mono + EXPIRE_EVERY;
            let ended = self.hints.expire(now.mono).into_iter();
            effects.extend(ended.map(Effect::Hint));
        }
        let targets: Vec<NodeId> = self.hints.targets().collect();
        for target in targets {
            self.deliver_hints(now, target, effects);
        }
    }

    /// Sends as many records to `target` as it may have under way.
    fn deliver_hints(&mut self, now: Now, target: NodeId, effects: &mut Effects) {
        if self.draining || self.liveness(now, target) != Liveness::Up {
            return;
        }
        while self.budget.may(now.mono, Kind::Hint)
            && let Some(delivery) = self.hints.next(now.mono, target, self.table.durable_lsn())
        {
            self.pay_for_delivery(now);
            self.begin_delivery(now, delivery, effects);
        }
    }

    /// Sends a record that a node missed, as readers are shown it, once it is at hand.
    pub(super) fn begin_delivery(&mut self, now: Now, delivery: Delivery, effects: &mut Effects) {
        let Some(keyspace) = self.topology.keyspace(delivery.key.keyspace()) else {
            // It was removed.
            return self.end_hint(&delivery, effects);
        };
        let place = self.place(keyspace, delivery.key.user_key());
        match self.shown(&place) {
            Lookup::Known(record) => self.deliver(now, delivery, record, effects),
            Lookup::MustLoad => {
                if let Err(parked) = self.park(place.key, Parked::Hint(delivery), effects) {
                    self.shed(*parked, effects);
                }
            }
        }
    }

    fn deliver(
        &mut self,
        now: Now,
        delivery: Delivery,
        record: Option<Bytes>,
        effects: &mut Effects,
    ) {
        let Some(record) = record else {
            return self.end_hint(&delivery, effects);
        };
        let op = self.send_record(now, &delivery, record, effects);
        if planted(Bug::HintEndsWhenSent) {
            return self.end_hint(&delivery, effects);
        }
        self.hints_sent.wait_for(now.mono, op, delivery);
    }

    /// Nothing is left to deliver.
    fn end_hint(&mut self, delivery: &Delivery, effects: &mut Effects) {
        if self.hints.nothing_to_deliver(delivery) {
            let Delivery { target, key, .. } = delivery;
            effects.push(Effect::Hint(HintChange::Ended(*target, key.clone())));
        }
    }

    /// A delivery found no room here.
    pub(super) fn postpone_hint(&mut self, delivery: Delivery) {
        let now = self.last_step.mono;
        self.hints.failed(now, delivery);
    }

    /// The target of a hint answered. False if the answer is to something else.
    pub(super) fn hint_answered(
        &mut self,
        now: Now,
        from: NodeId,
        reply: &ReplicateReply,
        effects: &mut Effects,
    ) -> bool {
        let Some((delivery, took)) = self.hints_sent.take_answered(now.mono, from, reply) else {
            return false;
        };
        if reply.result.is_err() {
            self.hints.failed(now.mono, delivery);
            return true;
        }
        effects.push(Effect::Count(Event::HintDelivered));
        if self.hints.delivered(&delivery, took) {
            let Delivery { target, key, .. } = delivery;
            effects.push(Effect::Hint(HintChange::Ended(target, key)));
        }
        self.deliver_hints(now, from, effects);
        true
    }
}
