//! Standing in for owners: who may, what a fallback takes, and how the owners get it.
//!
//! A guest is an ordinary record of a vnode that this node does not own: merged, logged and shown
//! like any other. It is delivered as a hint is (`deliver`), and taken away by the frame that also
//! takes a purged key away, once every owner has acknowledged it and counts.
//!
//! Not here: which guests there are and what they wait for (`core::guests`), a fallback's part in
//! purge rounds (`purge`).

use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::PurgeNumbers;
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{KeyspaceId, MonoTime, NodeId, VnodeId};

use super::super::budget::Kind;
use super::super::continuity::Liveness;
use super::super::effect::{Effect, Effects, Event};
use super::super::failure::Cause;
use super::super::hints::Delivery;
use super::super::input::Now;
use super::super::key::RecordKey;
use super::super::message::{PurgeNumber, ReplicateReply, Request, ScanAsk};
use super::super::node_set::Owners;
use super::super::purge::CopyOf;
use super::super::scan_page::{PageRange, RowContent, ScanRow};
use super::super::table::Lookup;
use super::super::vnode_set::VnodeSet;
use super::deliver::DELIVER_WITHIN;
use super::scan::{PAGE_BYTES_MAX, SCAN_RECORDS_MAX};
use super::scan_replica::Reader;
use super::{Origin, Parked, Place, Shard};

/// A guest that is planted to be let go goes at this age.
const PLANTED_AGE: Duration = Duration::from_millis(500);

impl Shard {
    /// Who may stand in for the owners of a vnode, the first one first: as many nodes behind the
    /// owners as there are copies. A bound, because purge rounds ask all of them.
    pub(super) fn fallbacks_of(&self, (keyspace, vnode): CopyOf) -> Owners {
        let Some(known) = self.topology.keyspace(keyspace) else {
            return Owners::new();
        };
        let copies = usize::from(known.copies.get());
        let is_vnode = u32::from(vnode.0) < self.topology.vnode_count().get();
        if self.topology.nodes().len() <= copies || !is_vnode {
            return Owners::new();
        }
        let list = self.topology.preferred(vnode, known.copies, 2 * copies);
        list.fallbacks().iter().copied().collect()
    }

    pub(super) fn fallbacks(&self, place: &Place) -> Owners {
        self.fallbacks_of((place.keyspace, place.location.vnode))
    }

    /// Fallbacks that may be asked, those that are up first; this node is not among them.
    pub(super) fn fallbacks_to_ask(&self, now: Now, place: &Place) -> Owners {
        let down = |node: &NodeId| self.liveness(now, *node) == Liveness::Down;
        let all = self.fallbacks(place).into_iter();
        let mut others: Owners = all.filter(|node| *node != self.me && !down(node)).collect();
        others.sort_by_key(|node| self.liveness(now, *node) != Liveness::Up);
        others
    }

    /// Whether what this node holds in place of owners counts: its own memory is not in doubt.
    pub(super) fn counts_as_fallback(&self) -> bool {
        self.continuity.counts_as_fallback() && !self.healing.lost().disk
    }

    /// Whether this node coordinates a request in place of the owners: a client's if it holds all
    /// of them for down, and whatever another node hands to it.
    pub(super) fn stands_in(
        &self,
        now: Now,
        place: &Place,
        origin: &Origin,
        request: &Request,
    ) -> bool {
        let is_wanted = match origin {
            Origin::Forwarder { .. } => true,
            Origin::Client { .. } | Origin::Batch { .. } => {
                let owners = self.owners(place);
                let down = |node: &NodeId| self.liveness(now, *node) == Liveness::Down;
                owners.iter().all(down)
            }
            Origin::Scan { .. } | Origin::Exchange { .. } => false,
        };
        is_wanted
            && request.is_sloppy()
            && self.counts_as_fallback()
            && self.knows_numbers(place)
            && self.fallbacks(place).contains(&self.me)
    }

    /// Why a record that comes for an owner is not taken; `None` if it may be merged.
    ///
    /// An owner knows a number that is not below any floor; so a node that forgot its own takes
    /// that one, as long as nothing is here that was read under less.
    pub(super) fn guest_refused(
        &mut self,
        from: NodeId,
        place: &Place,
        number: PurgeNumber,
        record: &Bytes,
        effects: &mut Effects,
    ) -> Option<Cause> {
        if place.is_owner {
            return None;
        }
        let copy = (place.keyspace, place.location.vnode);
        if !self.guests.has_room(&place.key, record.len()) {
            effects.push(Effect::Count(Event::GuestRefused));
            return Some(Cause::GuestsFull);
        }
        if !self.guests.knows(copy) {
            let is_owner = self
                .topology
                .is_owner(place.location.vnode, place.copies, from);
            if !is_owner || !self.guests.is_drained(copy) {
                return Some(Cause::NotReady);
            }
            let own = self.purges.numbers(copy);
            let told = PurgeNumbers {
                number,
                floor: number,
            };
            self.raise_numbers(copy, own.highest(told), effects);
            self.guests.tell(copy);
        }
        None
    }

    /// The floor that other nodes are told of: up to it an owner has dropped what was deleted. As a
    /// fallback a node may have one that says only what it refuses.
    pub(super) fn floor_told(&self, place: &Place) -> PurgeNumber {
        if place.is_owner {
            self.purge_numbers(place).floor
        } else {
            PurgeNumber::default()
        }
    }

    /// The newest record of a key that this node does not own was appended.
    pub(super) fn note_guest(&mut self, place: &Place, bytes: usize, effects: &mut Effects) {
        let owners = self.owners(place);
        let (now, appended) = (self.last_step.mono, self.table.appended());
        self.guests.note(now, &place.key, bytes, &owners, appended);
        effects.push(Effect::Count(Event::GuestTaken));
    }

    /// Looks for guests of an earlier life, sends what waits to owners that are up, gives up on
    /// what was not acknowledged.
    pub(super) fn tick_guests(&mut self, now: Now, effects: &mut Effects) {
        let continuity = &self.continuity;
        let is_up = |node| continuity.liveness(now.mono, node) == Liveness::Up;
        for delivery in self.guests_sent.take_lost(now.mono, is_up) {
            self.guests.failed(now.mono, delivery);
        }
        if planted(Bug::GuestDropped) {
            let until = MonoTime::from_micros(
                now.mono
                    .as_micros()
                    .saturating_sub(u64::try_from(PLANTED_AGE.as_micros()).unwrap_or(0)),
            );
            for key in self.guests.older_than(until) {
                self.guests.waits_no_more(&key);
                self.release(key, effects);
            }
        }
        for key in self.guests.take_left() {
            self.release(key, effects);
        }
        self.look_for_guests(now, effects);
        for target in self.guests.targets() {
            self.deliver_guests(now, target, effects);
        }
    }

    /// Sends as many guests to `target` as it may have under way.
    fn deliver_guests(&mut self, now: Now, target: NodeId, effects: &mut Effects) {
        if self.draining || self.liveness(now, target) != Liveness::Up {
            return;
        }
        while self.budget.may(now.mono, Kind::Hint)
            && let Some(delivery) = self.guests.next(now.mono, target, self.table.durable_lsn())
        {
            self.pay_for_delivery(now);
            self.begin_guest_delivery(now, delivery, effects);
        }
    }

    /// Sends a guest, as readers are shown it, once it is at hand.
    pub(super) fn begin_guest_delivery(
        &mut self,
        now: Now,
        delivery: Delivery,
        effects: &mut Effects,
    ) {
        let Some(keyspace) = self.topology.keyspace(delivery.key.keyspace()) else {
            // It was removed.
            return self.guests.nothing_to_deliver(&delivery);
        };
        let place = self.place(keyspace, delivery.key.user_key());
        let record = match self.shown(&place) {
            Lookup::Known(Some(record)) => record,
            Lookup::Known(None) if self.table.newest(&place.key) == Lookup::Known(None) => {
                return self.guests.nothing_to_deliver(&delivery);
            }
            // It was taken anew, and that is not durable yet.
            Lookup::Known(None) => return self.guests.failed(now.mono, delivery),
            Lookup::MustLoad => {
                if let Err(parked) = self.park(place.key, Parked::Guest(delivery), effects) {
                    self.shed(*parked, effects);
                }
                return;
            }
        };
        let op = self.send_record(now, &delivery, record, effects);
        self.guests_sent.wait_for(now.mono, op, delivery);
    }

    /// A delivery found no room here.
    pub(super) fn postpone_guest(&mut self, delivery: Delivery) {
        self.guests.failed(self.last_step.mono, delivery);
    }

    /// An owner answered to a guest. False if the answer is to something else.
    pub(super) fn guest_answered(
        &mut self,
        now: Now,
        from: NodeId,
        reply: &ReplicateReply,
        effects: &mut Effects,
    ) -> bool {
        let Some((delivery, took)) = self.guests_sent.take_answered(now.mono, from, reply) else {
            return false;
        };
        let copy = (delivery.key.keyspace(), delivery.key.vnode());
        match reply.result {
            Ok(stored) if stored.counts => {
                effects.push(Effect::Count(Event::GuestDelivered));
                if self.guests.delivered(&delivery, took) {
                    self.release(delivery.key, effects);
                }
                self.deliver_guests(now, from, effects);
            }
            // It was here when this node forgot that it had joined the round of that floor, and
            // went to all owners before: nothing acknowledged rests on it.
            Err(refusal) if refusal.cause == Cause::BelowFloor && !self.guests.knows(copy) => {
                effects.push(Effect::Count(Event::GuestOutdated));
                self.guests.delivered(&delivery, took);
                self.guests.waits_no_more(&delivery.key);
                self.release(delivery.key, effects);
            }
            Ok(_) | Err(_) => self.guests.failed(now.mono, delivery),
        }
        true
    }

    /// Takes a guest away that waits for no owner, once it is in memory: what it was is part of the
    /// change of the sums.
    pub(super) fn release(&mut self, key: RecordKey, effects: &mut Effects) {
        if !self.guests.may_go(&key) {
            // It was taken anew, or an owner began a new life.
            return;
        }
        if self.topology.keyspace(key.keyspace()).is_none() {
            return self.guests.gone(&key);
        }
        if self.table.newest(&key) == Lookup::MustLoad {
            if let Err(parked) = self.park(key.clone(), Parked::GuestGoes(key), effects) {
                self.shed(*parked, effects);
            }
            return;
        }
        if !self.table.has_room() {
            return self.guests.stays(key);
        }
        let user_key = Bytes::copy_from_slice(key.user_key());
        self.take_away((key.keyspace(), key.vnode()), &user_key, effects);
        self.guests.gone(&key);
    }

    /// Reads the next page of what an earlier life held for others.
    fn look_for_guests(&mut self, now: Now, effects: &mut Effects) {
        let Some(copy) = self.guests.to_read().filter(|_| !self.guests_reading) else {
            return;
        };
        let vnodes: VnodeSet = std::iter::once(copy.1).collect();
        let range = PageRange {
            keyspace: copy.0,
            vnodes: vnodes.clone(),
            from: self.guests_from.clone(),
            end: None,
            rows_max: SCAN_RECORDS_MAX,
            bytes_max: PAGE_BYTES_MAX,
        };
        let ask = ScanAsk {
            op: self.next_number(),
            ask: 0,
            range,
            whole: vnodes,
            budget: DELIVER_WITHIN,
        };
        match self.read_page(now, Reader::Guests, ask, effects) {
            Ok(()) => self.guests_reading = true,
            // No keyspace has it any more.
            Err(Cause::KeyspaceUnknown) => self.guests.was_read(copy),
            // There is no room for it now.
            Err(_) => {}
        }
    }

    /// A page of what an earlier life held for others.
    pub(super) fn guests_page(&mut self, now: Now, (rows, until): (Vec<ScanRow>, Option<Bytes>)) {
        self.guests_reading = false;
        let Some(copy) = self.guests.to_read() else {
            return;
        };
        let (keyspace, vnode): (KeyspaceId, VnodeId) = copy;
        let known = self.topology.keyspace(keyspace);
        let owners = known.map(|known| self.topology.owners(vnode, known.copies));
        let owners: Owners = owners.unwrap_or_default().iter().copied().collect();
        for ScanRow { key, content, .. } in rows {
            if let RowContent::Whole(record) = content {
                let key = RecordKey::new(keyspace, vnode, &key);
                self.guests.found(now.mono, &key, record.len(), &owners);
            }
        }
        match until {
            Some(from) => self.guests_from = from,
            None => {
                self.guests_from = Bytes::new();
                self.guests.was_read(copy);
            }
        }
    }

    /// A node began a new life: what it acknowledged of guests counts no more.
    pub(super) fn guests_again(&mut self, peer: NodeId) {
        let topology = std::sync::Arc::clone(&self.topology);
        let owns = |key: &RecordKey| {
            let known = topology.keyspace(key.keyspace());
            known.is_some_and(|known| topology.is_owner(key.vnode(), known.copies, peer))
        };
        self.guests.began_anew(self.last_step.mono, peer, owns);
    }
}
