//! The shard and its store: appending, waiting for durability, loading, feeding the engine.

use bytes::Bytes;
use quorate_antientropy::{Digest, DigestChange, Held, HoldingsChange, RecordChange};
use quorate_ring::Lsn;
use quorate_ring::planted::{Bug, planted};

use super::super::effect::{Effect, Effects, Entry, Event, StopReason};
use super::super::failure::Cause;
use super::super::input::{Damaged, Now, StoreEvent};
use super::super::key::RecordKey;
use super::super::message::{Base, PeerMessage, PurgeNumber, ReplicateReply, Reply, Stored};
use super::super::packed::packed;
use super::super::table::Lookup;
use super::{Ack, Durability, Op, Parked, Place, Shard, Writing};

impl Shard {
    /// The bytes that `encode` appends, of a record that is to be kept.
    pub(super) fn encoded(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        self.scratch.clear();
        encode(&mut self.scratch);
        packed(&self.scratch)
    }

    /// Makes `record` the newest state of a key: the change of the sums, the table, the log. Gives
    /// the record back, to be sent, and what it replaced. `had_value` says of the old state whether
    /// it has a value, `gone_at` of the new one from when on nothing of it is shown, as
    /// `KeyState::gone_at` does.
    pub(super) fn commit(
        &mut self,
        place: &Place,
        (newest, had_value): (Option<&Bytes>, bool),
        new: (Bytes, Option<u64>),
        effects: &mut Effects,
    ) -> (Bytes, Option<Base>) {
        let base = newest.map(|newest| Base {
            digest: self.digest_of(place, newest),
            has_value: had_value,
        });
        let old = newest.map(Bytes::len).zip(base);
        let record = self.commit_on(place, old, new, effects);
        (record, base)
    }

    /// The digest of a key that holds `record`.
    pub(super) fn digest_of(&self, place: &Place, record: &Bytes) -> Digest {
        Digest::of(self.digest, place.key.as_bytes(), record)
    }

    /// The same as [`Self::commit`] where the old state is told by its bytes and what it was.
    pub(super) fn commit_on(
        &mut self,
        place: &Place,
        old: Option<(usize, Base)>,
        (record, gone_at): (Bytes, Option<u64>),
        effects: &mut Effects,
    ) -> Bytes {
        let has_value = gone_at != Some(0);
        if let Some(gone_at) = gone_at {
            self.note_gone(place, gone_at);
        }
        let held = |bytes: usize, has_value| Held {
            has_value,
            bytes: place.key.as_bytes().len() + bytes,
        };
        let digest = self.digest_of(place, &record);
        let counted = old.filter(|_| !planted(Bug::HoldingsNeverFall));
        let counted = counted.map(|(bytes, base)| held(bytes, base.has_value));
        let change = RecordChange {
            digest: DigestChange::between(old.map(|(_, base)| base.digest), Some(digest)),
            holdings: HoldingsChange::between(counted, Some(held(record.len(), has_value))),
        };
        let lsn = self.table.appended().next();
        let bucket = place.location.bucket;
        self.table
            .append(lsn, &place.key, bucket, change, record.clone());
        let entry = Entry::Record {
            key: place.key.clone(),
            bucket,
            change,
            record: record.clone(),
        };
        effects.push(Effect::Append { lsn, entry });
        if !place.is_owner {
            self.note_guest(place, record.len(), effects);
        }
        record
    }

    /// Does `ack` once everything appended so far is as durable as the keyspace asks: at once if it
    /// is, and always for durability `memory`.
    pub(super) fn when_durable(
        &mut self,
        now: Now,
        durability: Durability,
        ack: Ack,
        effects: &mut Effects,
    ) {
        let appended = self.table.appended();
        if durability == Durability::Memory || appended <= self.table.durable_lsn() {
            self.acknowledge(now, ack, effects);
        } else {
            self.unacked.push_back((appended, ack));
        }
    }

    fn acknowledge(&mut self, now: Now, ack: Ack, effects: &mut Effects) {
        match ack {
            Ack::Local { op } => self.local_durable(now, op, effects),
            Ack::Purge { to, reply } => {
                let message = PeerMessage::PurgeReply(reply);
                effects.push(Effect::Send { to, message });
            }
            Ack::RowsLost { reason } => effects.push(Effect::Stop(StopReason::RowsLost { reason })),
            Ack::OwnPurge { op, step, agreed } => {
                self.own_part_durable(now, op, step, agreed, effects);
            }
            Ack::Replica {
                to,
                op,
                keyspace,
                copies,
                vnode,
                is_owner,
                newer,
            } => {
                self.replica_inputs -= 1;
                let counts = self.counts_as(is_owner, keyspace, copies, vnode);
                let stored = Stored {
                    lsn: self.table.durable_lsn(),
                    counts,
                    newer,
                };
                let message = PeerMessage::ReplicateReply(ReplicateReply {
                    op,
                    result: Ok(stored),
                });
                effects.push(Effect::Send { to, message });
            }
        }
    }

    pub(super) fn store_event(&mut self, now: Now, event: StoreEvent, effects: &mut Effects) {
        match event {
            StoreEvent::Durable(lsn) => self.durable(now, lsn, effects),
            StoreEvent::Loaded(loaded) => {
                for (key, result) in loaded {
                    self.loaded(now, key, result, effects);
                }
            }
            StoreEvent::Ingested { applied } => {
                self.applied = applied;
                self.ingesting = false;
                self.ingests += 1;
                self.table.ingested();
                self.freeze_if_due(effects);
            }
            StoreEvent::Failed(failure) => {
                let reason = failure.to_string();
                effects.push(Effect::Stop(StopReason::StoreFailed { reason }));
            }
            StoreEvent::Damaged(damaged) => effects.push(Effect::Stop(damaged.stops())),
            StoreEvent::LossNoted {
                number,
                lost,
                is_durable,
            } => self.loss_noted(now, (number, lost), is_durable, effects),
            StoreEvent::Scanned { number, page } => self.scanned(now, number, page, effects),
        }
    }

    /// The view moves first, then the acknowledgements go.
    fn durable(&mut self, now: Now, lsn: Lsn, effects: &mut Effects) {
        self.table.settle(lsn);
        while self.unacked.front().is_some_and(|(at, _)| *at <= lsn) {
            if let Some((_, ack)) = self.unacked.pop_front() {
                self.acknowledge(now, ack, effects);
            }
        }
        self.freeze_if_due(effects);
    }

    pub(super) fn freeze_if_due(&mut self, effects: &mut Effects) {
        if let Some(generation) = self.table.freeze_if_due() {
            self.ingesting = true;
            effects.push(Effect::Ingest(generation));
        }
    }

    /// Lets an input wait for its key; gives it back if too many wait already.
    pub(super) fn park(
        &mut self,
        key: RecordKey,
        input: Parked,
        effects: &mut Effects,
    ) -> Result<(), Box<Parked>> {
        if let Some((_, waiting)) = self.parked.get_mut(&key) {
            if waiting.len() >= self.limits.parked_per_key_max {
                return Err(Box::new(input));
            }
            waiting.push_back(input);
            return Ok(());
        }
        if self.parked.len() >= self.limits.parked_keys_max {
            return Err(Box::new(input));
        }
        effects.push(Effect::Count(Event::EngineLoad));
        effects.push(Effect::Load(key.clone()));
        self.parked.insert(key, (self.ingests, [input].into()));
        Ok(())
    }

    fn loaded(
        &mut self,
        now: Now,
        key: RecordKey,
        result: Result<Option<Bytes>, Damaged>,
        effects: &mut Effects,
    ) {
        let Some((asked_at, mut waiting)) = self.parked.remove(&key) else {
            return;
        };
        let record = match result {
            Ok(record) => record,
            Err(damaged) => {
                effects.push(Effect::Stop(damaged.stops()));
                return;
            }
        };
        if asked_at != self.ingests {
            // A generation reached the engine meanwhile; the answer may be from before it.
            effects.push(Effect::Load(key.clone()));
            self.parked.insert(key, (self.ingests, waiting));
            return;
        }
        self.table.hold(key.clone(), record);
        while let Some(input) = waiting.pop_front() {
            self.unpark(now, &key, input, effects);
        }
    }

    fn unpark(&mut self, now: Now, key: &RecordKey, input: Parked, effects: &mut Effects) {
        // A parked read says by its place which of the two it shows.
        let (Lookup::Known(newest), Lookup::Known(durable)) =
            (self.table.newest(key), self.table.durable(key))
        else {
            // The key was just loaded, so both views know it.
            return self.shed(input, effects);
        };
        match input {
            Parked::Write(writing) => {
                self.let_go(&writing.origin, writing.request.bytes());
                self.write_loaded(now, writing, newest, effects);
            }
            Parked::Replicate { deadline, .. } | Parked::Read { deadline, .. }
                if now.mono >= deadline =>
            {
                self.replica_inputs -= 1;
                effects.push(Effect::Count(Event::Expired));
            }
            Parked::Replicate {
                from,
                place,
                message,
                ..
            } => {
                self.replicate_loaded(now, from, &place, message, newest.as_ref(), effects);
            }
            Parked::Read {
                from,
                place,
                message,
                ..
            } => {
                self.replica_inputs -= 1;
                let shown = match place.options.durability {
                    Durability::Disk => durable,
                    Durability::Memory => newest,
                };
                self.tell_held(from, &message, &place, shown, effects);
            }
            Parked::LocalRead { op } => {
                let shown = match self.ops.get(&op) {
                    Some(Op::Get(get)) => get.place.options.durability,
                    Some(Op::Put(_) | Op::Forward(_) | Op::Resolve(_)) | None => Durability::Disk,
                };
                let shown = match shown {
                    Durability::Disk => durable,
                    Durability::Memory => newest,
                };
                let mut steps = Vec::new();
                self.held_here(now, op, shown, &mut steps, effects);
                self.perform_get(now, op, steps, effects);
            }
            Parked::Hint(delivery) => self.begin_delivery(now, delivery, effects),
            Parked::Guest(delivery) => self.begin_guest_delivery(now, delivery, effects),
            Parked::GuestGoes(key) => self.release(key, effects),
            Parked::LocalResolve { op } => self.resolve_loaded(now, op, newest.as_ref(), effects),
            Parked::Purge { op } => self.purge_key_in(now, op, effects),
            Parked::LocalRepair {
                op,
                place,
                record,
                number,
            } => {
                let incoming = (&record, number);
                self.repair_here(now, op, &place, newest.as_ref(), incoming, effects);
            }
        }
    }

    /// Refuses an input that found no room.
    pub(super) fn shed(&mut self, input: Parked, effects: &mut Effects) {
        effects.push(Effect::Count(Event::Shed));
        match input {
            Parked::Write(Writing {
                origin, request, ..
            }) => {
                self.let_go(&origin, request.bytes());
                self.reply(origin, Reply::Failed(Self::overloaded()), effects);
            }
            Parked::Replicate { from, message, .. } => {
                self.replica_inputs -= 1;
                let refusal = (Cause::Overloaded, PurgeNumber::default());
                Self::refuse_replicate(from, message.op, refusal, effects);
            }
            Parked::Read { from, message, .. } => {
                self.replica_inputs -= 1;
                Self::refuse_read(from, message.op, Cause::Overloaded, effects);
            }
            Parked::Hint(delivery) => self.postpone_hint(delivery),
            Parked::Guest(delivery) => self.postpone_guest(delivery),
            Parked::GuestGoes(key) => self.guests.stays(key),
            Parked::Purge { op } => self.purge_key_in(self.last_step, op, effects),
            // The get's own clock widens or ends it.
            Parked::LocalRead { op }
            | Parked::LocalResolve { op }
            | Parked::LocalRepair { op, .. } => {
                debug_assert!(!matches!(self.ops.get(&op), Some(Op::Put(_))));
            }
        }
    }
}
