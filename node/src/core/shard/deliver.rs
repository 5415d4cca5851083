//! Records on their way to nodes that lack them: what hints and guests have in common.
//!
//! A delivery is one `Replicate` with the record that this node shows readers; it is no operation
//! of a client, takes no client's room, and begins when the budget of background work lets it. What
//! is not acknowledged in time, or whose target went away, is given back to whoever sent it.
//!
//! Not here: what waits for whom and at what pace (`core::hints`, `core::guests`), what an
//! acknowledgement ends (`shard::hints`, `shard::guests`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_ring::{MonoTime, NodeId};

use super::super::budget::{Kind, RECORD_COST};
use super::super::effect::{Effect, Effects};
use super::super::hints::Delivery;
use super::super::input::Now;
use super::super::message::{OpNumber, Payload, PeerMessage, Replicate, ReplicateReply};
use super::Shard;

/// An acknowledgement is waited for this long.
pub(super) const DELIVER_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Sent {
    delivery: Delivery,
    at: MonoTime,
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    sent: BTreeMap<OpNumber, Sent>,
}

impl Deliveries {
    /// Takes out what is late, or whose target is not up.
    pub(super) fn take_lost(
        &mut self,
        now: MonoTime,
        is_up: impl Fn(NodeId) -> bool,
    ) -> Vec<Delivery> {
        let is_lost = |_: &OpNumber, sent: &mut Sent| {
            now.since(sent.at) >= DELIVER_WITHIN || !is_up(sent.delivery.target)
        };
        let lost = self.sent.extract_if(.., is_lost);
        lost.map(|(_, sent)| sent.delivery).collect()
    }

    /// Takes out what `from` answers to, and how long that took; `None` if it answers to something
    /// else.
    pub(super) fn take_answered(
        &mut self,
        now: MonoTime,
        from: NodeId,
        reply: &ReplicateReply,
    ) -> Option<(Delivery, Duration)> {
        let sent = self.sent.get(&reply.op);
        sent.filter(|sent| sent.delivery.target == from)?;
        let Sent { delivery, at } = self.sent.remove(&reply.op)?;
        Some((delivery, now.since(at)))
    }

    /// It was sent.
    pub(super) fn wait_for(&mut self, now: MonoTime, op: OpNumber, delivery: Delivery) {
        self.sent.insert(op, Sent { delivery, at: now });
    }
}

impl Shard {
    /// Pays for a delivery whose record may have to be loaded first: it is taken to be as large as
    /// the last.
    pub(super) fn pay_for_delivery(&mut self, now: Now) {
        let cost = RECORD_COST + self.delivered_bytes;
        self.budget.charge(now.mono, Kind::Hint, cost);
    }

    /// Sends a record to the target of a delivery that is paid for.
    pub(super) fn send_record(
        &mut self,
        now: Now,
        delivery: &Delivery,
        record: Bytes,
        effects: &mut Effects,
    ) -> OpNumber {
        // What is charged twice for a small record after a large one is at most what the large one
        // cost.
        let bytes = record.len() as u64;
        let more = bytes.saturating_sub(self.delivered_bytes);
        self.budget.charge(now.mono, Kind::Hint, more);
        self.delivered_bytes = bytes;
        let (keyspace, vnode) = (delivery.key.keyspace(), delivery.key.vnode());
        let op = self.next_number();
        let message = PeerMessage::Replicate(Replicate {
            op,
            keyspace,
            key: Bytes::copy_from_slice(delivery.key.user_key()),
            payload: Payload::Whole(record),
            number: self.numbers_of((keyspace, vnode)).number,
            budget: DELIVER_WITHIN,
            base: None,
            as_fallback: false,
        });
        let to = delivery.target;
        effects.push(Effect::Send { to, message });
        op
    }
}
