//! A replica's part of a write: merge what comes with what is stored, append, acknowledge when
//! that is durable.

use bytes::Bytes;
use quorate_antientropy::{Digest, KeyState, MergeResult};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{Actor, Epoch, KeyspaceId, NodeId};

use super::super::effect::{Effect, Effects, Event, StopReason};
use super::super::failure::Cause;
use super::super::input::Now;
use super::super::key::RecordKey;
use super::super::message::{
    Base, OpNumber, Payload, PeerMessage, PurgeNumber, Refusal, Replicate, ReplicateReply,
};
use super::super::packed::packed;
use super::super::table::Lookup;
use super::{Ack, Parked, Place, Shard};

impl Shard {
    /// A coordinator sends a record.
    pub(super) fn replicate(
        &mut self,
        now: Now,
        from: NodeId,
        epoch: Epoch,
        message: Replicate,
        effects: &mut Effects,
    ) {
        let place = self.place_asked(epoch, message.keyspace, &message.key, message.as_fallback);
        let place = match place {
            Ok(place) => place,
            Err(cause) => {
                let refusal = (cause, PurgeNumber::default());
                return Self::refuse_replicate(from, message.op, refusal, effects);
            }
        };
        match self.table.newest(&place.key) {
            Lookup::Known(_) if self.replica_inputs >= self.limits.replica_inputs_max => {
                effects.push(Effect::Count(Event::Shed));
                let refusal = (Cause::Overloaded, PurgeNumber::default());
                Self::refuse_replicate(from, message.op, refusal, effects);
            }
            Lookup::Known(newest) => {
                self.replica_inputs += 1;
                self.replicate_loaded(now, from, &place, message, newest.as_ref(), effects);
            }
            Lookup::MustLoad => {
                if self.take_unseen(now, from, &place, &message, effects) {
                    return;
                }
                let key = place.key.clone();
                let message = message.detached();
                let parked = Parked::Replicate {
                    from,
                    deadline: now.mono + message.budget,
                    place,
                    message,
                };
                self.park_part(key, parked, effects);
            }
        }
    }

    /// Lets a replica's part of an operation wait for its key, or refuses it for want of room.
    pub(super) fn park_part(&mut self, key: RecordKey, part: Parked, effects: &mut Effects) {
        self.replica_inputs += 1;
        let parked = if self.replica_inputs > self.limits.replica_inputs_max {
            Err(Box::new(part))
        } else {
            self.park(key, part, effects)
        };
        if let Err(part) = parked {
            self.shed(*part, effects);
        }
    }

    /// The same with the newest state at hand.
    pub(super) fn replicate_loaded(
        &mut self,
        now: Now,
        from: NodeId,
        place: &Place,
        message: Replicate,
        newest: Option<&Bytes>,
        effects: &mut Effects,
    ) {
        let Replicate {
            op,
            payload,
            number,
            base,
            ..
        } = message;
        let mut newer = None;
        let is_guest = !place.is_owner;
        let unfit = match &payload {
            Payload::Whole(record) if is_guest && !self.disk_full && self.table.has_room() => {
                self.guest_refused(from, place, number, record, effects)
            }
            Payload::Whole(_) | Payload::Delta(_) => None,
        };
        let refused = match payload {
            Payload::Delta(_) => Some(Cause::PayloadUnsupported),
            Payload::Whole(record) if self.lacks_room_for(place, newest, &record) => {
                Some(if self.disk_full {
                    Cause::DiskFull
                } else {
                    Cause::Overloaded
                })
            }
            Payload::Whole(_) if unfit.is_some() => unfit,
            Payload::Whole(record) if self.is_below_floor(place, number, newest, &record) => {
                effects.push(Effect::Count(Event::BelowFloorRefused));
                Some(Cause::BelowFloor)
            }
            Payload::Whole(record) if self.take_on(place, newest, base, &record, effects) => None,
            Payload::Whole(record) => {
                match self.merge_in(place, newest, &record, Some(from), effects) {
                    Ok(above) => {
                        newer = above;
                        None
                    }
                    Err(StopReason::Damaged { .. }) => Some(Cause::PayloadUnsupported),
                    Err(stop) => {
                        effects.push(Effect::Stop(stop));
                        return;
                    }
                }
            }
        };
        match refused {
            Some(cause) => {
                self.replica_inputs -= 1;
                let floor = self.floor_told(place);
                Self::refuse_replicate(from, op, (cause, floor), effects);
            }
            None => {
                self.replicated_when_durable(now, (from, op), place, newer, effects);
            }
        }
    }

    /// Tells a coordinator that its record is held here, once that is as durable as it asks.
    fn replicated_when_durable(
        &mut self,
        now: Now,
        (to, op): (NodeId, OpNumber),
        place: &Place,
        newer: Option<u64>,
        effects: &mut Effects,
    ) {
        let durability = place.options.durability;
        let ack = Ack::Replica {
            to,
            op,
            keyspace: place.keyspace,
            copies: place.copies,
            vnode: place.location.vnode,
            is_owner: place.is_owner,
            newer,
        };
        self.when_durable(now, durability, ack, effects);
    }

    /// Takes a record whose base is all that the engine holds of the key, without loading that;
    /// says whether it was taken. Whatever has to look at what is held is left to who loads it.
    fn take_unseen(
        &mut self,
        now: Now,
        from: NodeId,
        place: &Place,
        message: &Replicate,
        effects: &mut Effects,
    ) -> bool {
        let (Payload::Whole(record), Some(base)) = (&message.payload, message.base) else {
            return false;
        };
        let Some(left) = self.table.left(&place.key) else {
            return false;
        };
        let copy = (place.keyspace, place.location.vnode);
        let has_room = !self.disk_full
            && self.table.has_room()
            && self.replica_inputs < self.limits.replica_inputs_max;
        let may_take = place.is_owner && has_room && self.purges.takes(copy, message.number);
        if !may_take {
            return false;
        }
        let Some(new) = self.made_on(place, left.digest, base, record) else {
            return false;
        };
        self.table.hold_unseen(&place.key);
        self.commit_on(place, Some((left.bytes, base)), new, effects);
        effects.push(Effect::Count(Event::LoadSpared));
        self.replica_inputs += 1;
        self.replicated_when_durable(now, (from, message.op), place, None, effects);
        true
    }

    /// Whether there is no room for what this record adds. What is held already needs none: a read
    /// may rest on it however full the disk is.
    pub(super) fn lacks_room_for(
        &self,
        place: &Place,
        newest: Option<&Bytes>,
        record: &Bytes,
    ) -> bool {
        if !self.disk_full && self.table.has_room() {
            return false;
        }
        let decode = |bytes: &Bytes| KeyState::decode_as(place.mode, bytes).ok();
        let states = newest.and_then(decode).zip(decode(record));
        !states.is_some_and(|(own, theirs)| own.holds_all_of(&theirs))
    }

    /// Takes a record unmerged, if what is held here is exactly what it was made on. Says whether it
    /// was taken.
    fn take_on(
        &mut self,
        place: &Place,
        newest: Option<&Bytes>,
        base: Option<Base>,
        incoming: &Bytes,
        effects: &mut Effects,
    ) -> bool {
        let (Some(newest), Some(base)) = (newest, base) else {
            return false;
        };
        let held = self.digest_of(place, newest);
        let Some(new) = self.made_on(place, held, base, incoming) else {
            return false;
        };
        self.commit_on(place, Some((newest.len(), base)), new, effects);
        true
    }

    /// The state of the key after a record that was made on exactly what is held here, whose digest
    /// is `held`: the one that came knows all of that, and of this node's own writes nothing more.
    /// `None` if it was made on something else; what cannot be read is left to [`Self::merge_in`]
    /// to refuse.
    fn made_on(
        &mut self,
        place: &Place,
        held: Digest,
        base: Base,
        incoming: &Bytes,
    ) -> Option<(Bytes, Option<u64>)> {
        if held != base.digest && !planted(Bug::BaseNotCompared) {
            return None;
        }
        let mut theirs = KeyState::decode_as(place.mode, incoming).ok()?;
        let left_out = self.leave_out_of(place, &mut theirs);
        let bytes = self.bytes_of(&theirs, incoming, left_out);
        self.note_if_crowded(place, &theirs);
        Some((bytes, theirs.gone_at()))
    }

    /// Merges a record into the newest state and appends the result if it is news. Gives the stamp
    /// of what is held then, if that supersedes what came.
    ///
    /// # Errors
    /// [`StopReason::ActorAhead`] if a replica's record shows that this node's memory has a hole;
    /// [`StopReason::Damaged`] if either record cannot be read (the incoming one is only refused).
    pub(super) fn merge_in(
        &mut self,
        place: &Place,
        newest: Option<&Bytes>,
        incoming: &Bytes,
        from: Option<NodeId>,
        effects: &mut Effects,
    ) -> Result<Option<u64>, StopReason> {
        if newest == Some(incoming) {
            return Ok(None);
        }
        let unreadable = |error| StopReason::Damaged {
            reason: format!("{error}"),
        };
        let mut theirs = KeyState::decode_as(place.mode, incoming).map_err(|error| {
            effects.push(Effect::Count(Event::PeerMessageRefused));
            unreadable(error)
        })?;
        let own = newest.map(|own| KeyState::decode_as(place.mode, own));
        let own = match own.transpose() {
            Ok(own) => own.unwrap_or_else(|| KeyState::absent(place.mode)),
            Err(error) => {
                effects.push(Effect::Stop(unreadable(error)));
                return Ok(None);
            }
        };
        let actor = Actor {
            node: self.me,
            incarnation: self.continuity.incarnation(),
        };
        // Of what it held in place of others it handed on, and forgot, what it minted.
        if let Some(peer) = from
            && place.is_owner
            && theirs.knows_more_of(actor, &own)
            && theirs.last_counter(actor)
                > self
                    .purges
                    .minted_before((place.keyspace, place.location.vnode))
        {
            return Err(StopReason::ActorAhead { peer });
        }
        let left_out = self.leave_out_of(place, &mut theirs);
        match own.merge(&theirs) {
            MergeResult::Unchanged => {}
            MergeResult::TookOther => {
                self.note_if_crowded(place, &theirs);
                let bytes = self.bytes_of(&theirs, incoming, left_out);
                let new = (bytes, theirs.gone_at());
                self.commit(place, (newest, own.has_value()), new, effects);
            }
            MergeResult::Merged(merged) => {
                self.note_if_crowded(place, &merged);
                let gone_at = merged.gone_at();
                let merged = self.encoded(|out| merged.encode(out));
                let old = (newest, own.has_value());
                self.commit(place, old, (merged, gone_at), effects);
            }
        }
        Ok(own.stamp_above(&theirs))
    }

    /// Leaves what was pruned here out of a state that came; says whether that changed it.
    fn leave_out_of(&self, place: &Place, theirs: &mut KeyState) -> bool {
        match theirs {
            KeyState::Siblings(record) => self.leave_out(place, record),
            KeyState::Lww(_) => false,
        }
    }

    /// The bytes of a state that came as `incoming`, and is not that any more if it was `changed`.
    fn bytes_of(&mut self, theirs: &KeyState, incoming: &Bytes, changed: bool) -> Bytes {
        if changed {
            self.encoded(|out| theirs.encode(out))
        } else {
            // Copied out: a slice would keep the whole network buffer alive.
            packed(incoming)
        }
    }

    /// The place of a key that a peer asks this node for, as an owner or as a fallback.
    ///
    /// # Errors
    /// [`Cause::EpochMismatch`] if it is not what it is asked as under the same epoch,
    /// [`Cause::NotReady`] while its memory is in doubt, and what is wrong with the key or its
    /// keyspace.
    pub(super) fn place_asked(
        &self,
        epoch: Epoch,
        keyspace: KeyspaceId,
        key: &Bytes,
        as_fallback: bool,
    ) -> Result<Place, Cause> {
        if epoch != self.topology.epoch() {
            return Err(Cause::EpochMismatch);
        }
        let known = self
            .topology
            .keyspace(keyspace)
            .ok_or(Cause::KeyspaceUnknown)?;
        if key.is_empty() || key.len() > super::KEY_BYTES_MAX {
            return Err(Cause::KeyInvalid);
        }
        let place = self.place(known, key);
        let (is_asked, is_ready) = if as_fallback {
            let is_fallback = !place.is_owner && self.fallbacks(&place).contains(&self.me);
            (is_fallback, self.counts_as_fallback())
        } else {
            (place.is_owner, self.knows_numbers(&place))
        };
        if !is_asked {
            Err(Cause::EpochMismatch)
        } else if is_ready {
            Ok(place)
        } else {
            Err(Cause::NotReady)
        }
    }

    pub(super) fn refuse_replicate(
        to: NodeId,
        op: OpNumber,
        (cause, floor): (Cause, PurgeNumber),
        effects: &mut Effects,
    ) {
        let refusal = Refusal { cause, floor };
        let message = PeerMessage::ReplicateReply(ReplicateReply {
            op,
            result: Err(refusal),
        });
        effects.push(Effect::Send { to, message });
    }
}
