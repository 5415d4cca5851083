//! Coordinating a get, and a replica's part of one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{Context, Digest, KeyState, PurgeNumbers};
use quorate_ring::hedge::ASK_AGAIN_AFTER;
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{ConsistencyLevel, Epoch, MonoTime, NodeId, is_monotonic, majority};
use smallvec::SmallVec;

use super::super::continuity::Liveness;
use super::super::effect::{Effect, Effects, Event};
use super::super::failure::{Cause, Failure};
use super::super::get::{GetMachine, GetPlan, Requirement, Step, Trust};
use super::super::input::Now;
use super::super::message::{
    Held, HeldRecord, OpNumber, Payload, PeerMessage, PurgeNumber, ReadRecord, ReadRecordReply,
    Refusal, Replicate, Reply,
};
use super::super::node_set::Owners;
use super::super::seal::Token;
use super::super::table::Lookup;
use super::{Ack, GetOp, Op, Origin, Parked, Place, Shard, UNARMED, Writing};

/// A repair of the own copy that found no room is tried again after this.
const REPAIR_AGAIN_AFTER: Duration = Duration::from_millis(25);

/// Who asks for what, and until when.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) origin: Origin,
    pub(super) deadline: MonoTime,
    pub(super) place: Place,
}

/// What a get must reach.
struct Reading {
    required: u8,
    /// Replicas that must durably hold the merged record before the answer.
    quorum: u8,
    /// Whose word is taken beside those who count.
    trust: Trust,
    /// What the answer must cover.
    requirement: Requirement,
    /// Fallbacks answer too.
    is_sloppy: bool,
    /// Bytes that it holds meanwhile.
    bytes: usize,
    /// A write that waits for it.
    behind: Option<Box<Writing>>,
    /// Only this node is asked beside the own copy.
    only: Option<NodeId>,
}

impl Shard {
    /// Coordinates a get of a key that this node owns; its answer covers `requirement`.
    pub(super) fn read(
        &mut self,
        now: Now,
        asking: Asking,
        level: ConsistencyLevel,
        requirement: Requirement,
        effects: &mut Effects,
    ) {
        let Asking { origin, place, .. } = &asking;
        let Ok(required) = level.replicas_for_read(place.copies) else {
            let limit = usize::from(place.copies.get());
            let failure = Failure::refused(Cause::LevelImpossible).with_limit(limit);
            return self.reply(*origin, Reply::Failed(failure), effects);
        };
        if let Err(failure) = self.check_reachable(now, place, required, level) {
            return self.reply(*origin, Reply::Failed(failure), effects);
        }
        // A sloppy read promises nothing, so it secures nothing.
        let quorum = if is_monotonic(place.copies, required) && !level.is_sloppy() {
            majority(place.copies)
        } else {
            0
        };
        let bytes = place.key.user_key().len();
        let reading = Reading {
            required,
            quorum,
            trust: self.own_word(place, required),
            requirement,
            is_sloppy: level.is_sloppy(),
            bytes,
            behind: None,
            only: None,
        };
        self.begin_get(now, asking, reading, effects);
    }

    /// Looks for writes that `behind` comes after and that this node does not know: the first owner
    /// that does is enough, and `behind` goes on with what it holds.
    pub(super) fn look_further(
        &mut self,
        now: Now,
        behind: Writing,
        held: Context,
        effects: &mut Effects,
    ) {
        let requirement = Requirement {
            prunable: held.part_of(|actor| self.has_ended(actor)),
            all: held,
            is_elsewhere: false,
        };
        effects.push(Effect::Count(Event::WriteLookedFurther));
        let asking = Asking {
            origin: behind.origin,
            deadline: behind.deadline,
            place: behind.place.clone(),
        };
        let reading = Reading {
            required: 1,
            quorum: 0,
            trust: self.own_word(&behind.place, 1),
            requirement,
            is_sloppy: behind.request.level.is_sloppy(),
            bytes: behind.request.bytes(),
            behind: Some(Box::new(behind)),
            only: None,
        };
        self.begin_get(now, asking, reading, effects);
    }

    /// Reads so many copies, whether their holders count or not, and brings them together; those of
    /// this node and of `only`, if one is named.
    pub(super) fn compare_copies(
        &mut self,
        now: Now,
        asking: Asking,
        (copies, only): (u8, Option<NodeId>),
        effects: &mut Effects,
    ) {
        let reading = Reading {
            required: copies,
            quorum: copies,
            trust: Trust::Everybody,
            requirement: Requirement::default(),
            is_sloppy: false,
            bytes: asking.place.key.user_key().len(),
            behind: None,
            only,
        };
        self.begin_get(now, asking, reading, effects);
    }

    /// At level one this node's own word is enough before it counts; but what it forgot it cannot
    /// tell at any level.
    fn own_word(&self, place: &Place, required: u8) -> Trust {
        if required == 1 && !self.healing.lacks(place.keyspace, place.location.vnode) {
            Trust::One(self.me)
        } else {
            Trust::Nobody
        }
    }

    fn begin_get(&mut self, now: Now, asking: Asking, reading: Reading, effects: &mut Effects) {
        let Asking {
            origin,
            deadline,
            place,
        } = asking;
        let Reading {
            required,
            quorum,
            trust,
            requirement,
            is_sloppy,
            bytes,
            behind,
            only,
        } = reading;
        let number = self.next_number();
        let me = self.me;
        let turn = usize::try_from(number.0 % 64).unwrap_or(0);
        let (mut down, mut candidates) = self.in_order(now, &place, turn);
        let mut fallbacks = Owners::new();
        if is_sloppy || requirement.is_elsewhere {
            fallbacks = self.fallbacks(&place);
            if fallbacks.contains(&me) {
                // What it holds itself costs no message.
                candidates.insert(0, me);
            }
            let asked = fallbacks.iter().copied().filter(|node| *node != me);
            let (up, away): (Owners, Owners) =
                asked.partition(|node| self.liveness(now, *node) != Liveness::Down);
            candidates.extend(up);
            down.extend(away);
        }
        if let Some(only) = only {
            candidates.retain(|node| *node == me || *node == only);
        }
        if trust == Trust::Everybody {
            candidates.truncate(usize::from(required));
        }
        let first = candidates.iter().take(usize::from(required)).copied();
        let widen_after = self.tails.read_begins(first.filter(|node| *node != me));
        let user_key = Bytes::copy_from_slice(place.key.user_key());
        let mut machine = GetMachine::new(
            now.mono,
            GetPlan {
                op: number,
                keyspace: place.keyspace,
                key: user_key,
                required,
                quorum,
                candidates,
                down,
                fallbacks,
                fallbacks_count: is_sloppy,
                trust,
                widen_after,
                deadline,
            },
        );
        if !requirement.all.is_empty() {
            machine.require(requirement);
        }
        let wake = machine.next_deadline();
        let get = GetOp {
            machine,
            origin,
            place,
            behind,
            bytes,
            armed: UNARMED,
        };
        self.insert_op(now, number, Op::Get(Box::new(get)), wake);
        let mut steps = Vec::new();
        if let Some(Op::Get(get)) = self.ops.get_mut(&number) {
            get.machine.start(&mut steps);
        }
        self.perform_get(now, number, steps, effects);
    }

    /// The owners that are down, and the others in the order in which they are asked: the own copy
    /// costs no message; the rest takes turns, slow ones and suspects last.
    fn in_order(&self, now: Now, place: &Place, turn: usize) -> (Owners, Owners) {
        let owners = self.owners(place);
        let others = owners.len().saturating_sub(1).max(1);
        let (mut down, mut ranked) = (Owners::new(), SmallVec::<[_; 5]>::new());
        let mut before = 0;
        for node in owners {
            let liveness = self.liveness(now, node);
            if liveness == Liveness::Down {
                down.push(node);
                continue;
            }
            let is_suspect = liveness != Liveness::Up;
            let slow = self.tails.rank(now.mono, node);
            let turn = (before + turn) % others;
            before += usize::from(node != self.me);
            ranked.push((node != self.me, is_suspect, slow, turn, node));
        }
        ranked.sort_unstable();
        (down, ranked.into_iter().map(|(.., node)| node).collect())
    }

    /// Carries out what a get wants, and what that leads to, until it wants nothing more.
    pub(super) fn perform_get(
        &mut self,
        now: Now,
        op: OpNumber,
        mut steps: Vec<Step>,
        effects: &mut Effects,
    ) {
        // Local answers make new steps, which are carried out behind the present ones.
        let mut next = 0;
        while let Some(step) = steps.get(next) {
            next += 1;
            match step {
                Step::Ask(node) if *node == self.me => {
                    self.ask_self(now, op, &mut steps, effects);
                }
                Step::Ask(node) => {
                    if let Some(Op::Get(get)) = self.ops.get(&op) {
                        let message = PeerMessage::Read(get.machine.read(now.mono, *node));
                        effects.push(Effect::Send { to: *node, message });
                    }
                }
                Step::Repair { node, .. } => {
                    let node = *node;
                    self.repair(now, op, node, effects);
                }
                Step::Answer { replicas } => {
                    let replicas = *replicas;
                    self.answer_get(now, op, replicas, effects);
                }
                Step::Fail(failure) => {
                    let mut failure = failure.clone();
                    if let Some(Op::Get(get)) = self.ops.remove(&op) {
                        if get.behind.is_some() {
                            failure.cause = Cause::ContextAhead;
                        }
                        self.answer(get.origin, get.bytes, Reply::Failed(failure), effects);
                    }
                }
            }
        }
    }

    fn ask_self(&mut self, now: Now, op: OpNumber, steps: &mut Vec<Step>, effects: &mut Effects) {
        let Some(Op::Get(get)) = self.ops.get(&op) else {
            return;
        };
        if !self.knows_numbers(&get.place) {
            let me = self.me;
            if let Some(Op::Get(get)) = self.ops.get_mut(&op) {
                get.machine.refused(me, steps);
            }
            return;
        }
        match self.shown(&get.place) {
            Lookup::Known(record) => self.held_here(now, op, record, steps, effects),
            Lookup::MustLoad => {
                let key = get.place.key.clone();
                let asks_others = get.machine.plan().required > 1;
                let left = self.table.left(&key).filter(|_| asks_others);
                let parked = self.park(key, Parked::LocalRead { op }, effects);
                if let Some(Op::Get(get)) = self.ops.get_mut(&op) {
                    match (parked, left) {
                        (Err(_), _) => get.machine.refused(self.me, steps),
                        // The others need not load theirs.
                        (Ok(()), Some(left)) => get.machine.expect(left.digest),
                        (Ok(()), None) => {}
                    }
                }
            }
        }
    }

    pub(super) fn held_here(
        &mut self,
        now: Now,
        op: OpNumber,
        record: Option<Bytes>,
        steps: &mut Vec<Step>,
        effects: &mut Effects,
    ) {
        let Some(Op::Get(get)) = self.ops.get(&op) else {
            return;
        };
        let (mode, counts) = (get.place.mode, self.counts(&get.place));
        let numbers = self.purge_numbers(&get.place);
        // Nobody else is asked at level one.
        let is_known = get.machine.plan().required > 1;
        let digest = record
            .as_ref()
            .filter(|_| is_known)
            .map(|record| Digest::of(self.digest, get.place.key.as_bytes(), record));
        let Some(decoded) = self.decode_own(mode, record.as_ref(), effects) else {
            return;
        };
        let record = record.is_some().then(|| Arc::new(decoded));
        let me = self.me;
        if let Some(Op::Get(get)) = self.ops.get_mut(&op) {
            if is_known {
                let own = digest.zip(record.clone());
                get.machine.know(now.mono, own, steps);
            }
            get.machine
                .held(now.mono, me, record, numbers, counts.into(), steps);
            self.rearm_get(now, op);
        }
    }

    pub(super) fn rearm_get(&mut self, now: Now, op: OpNumber) {
        if let Some(Op::Get(get)) = self.ops.get(&op) {
            let at = get.machine.next_deadline();
            self.wake_at(now, at, op);
        }
    }

    /// What `node` is told so that it holds the merged record.
    pub(super) fn repair_message(
        now: Now,
        op: OpNumber,
        node: NodeId,
        get: &GetOp,
    ) -> Option<PeerMessage> {
        let mut merged = get.machine.merged()?;
        if planted(Bug::RepairWritesOlder) {
            merged = get.machine.held_by(node)?;
        }
        let plan = get.machine.plan();
        Some(PeerMessage::Replicate(Replicate {
            op,
            keyspace: plan.keyspace,
            key: plan.key.clone(),
            payload: Payload::Whole(merged.to_bytes()),
            number: get.machine.merged_number(),
            budget: plan.deadline.since(now.mono),
            base: None,
            as_fallback: false,
        }))
    }

    fn repair(&mut self, now: Now, op: OpNumber, node: NodeId, effects: &mut Effects) {
        let Some(Op::Get(get)) = self.ops.get(&op) else {
            return;
        };
        if get.behind.is_some() {
            // The write that waits for it brings all of it to every owner.
            return;
        }
        effects.push(Effect::Count(Event::ReadRepair));
        let Some(message) = Self::repair_message(now, op, node, get) else {
            return;
        };
        if node != self.me {
            effects.push(Effect::Send { to: node, message });
            return;
        }
        let place = get.place.clone();
        let number = get.machine.merged_number();
        let Some(record) = get.machine.merged().map(KeyState::to_bytes) else {
            return;
        };
        match self.table.newest(&place.key) {
            Lookup::Known(newest) => {
                let incoming = (&record, number);
                self.repair_here(now, op, &place, newest.as_ref(), incoming, effects);
            }
            Lookup::MustLoad => {
                let key = place.key.clone();
                let parked = Parked::LocalRepair {
                    op,
                    place,
                    record,
                    number,
                };
                // A repair that finds no room is done by a later read.
                if self.park(key, parked, effects).is_err() {
                    effects.push(Effect::Count(Event::Shed));
                }
            }
        }
    }

    pub(super) fn repair_here(
        &mut self,
        now: Now,
        op: OpNumber,
        place: &Place,
        newest: Option<&Bytes>,
        (record, number): (&Bytes, PurgeNumber),
        effects: &mut Effects,
    ) {
        if self.is_below_floor(place, number, newest, record) {
            // What it was merged from is read again by who still wants it.
            effects.push(Effect::Count(Event::BelowFloorRefused));
            return;
        }
        if self.lacks_room_for(place, newest, record) {
            effects.push(Effect::Count(Event::Shed));
            if self.disk_full {
                return self.cannot_repair_here(now, op, effects);
            }
            return self.wake_at(now, now.mono + REPAIR_AGAIN_AFTER, op);
        }
        match self.merge_in(place, newest, record, None, effects) {
            Ok(_) => {
                let durability = place.options.durability;
                self.when_durable(now, durability, Ack::Local { op }, effects);
            }
            Err(error) => effects.push(Effect::Stop(error)),
        }
    }

    /// The disk is full, and may stay so: another one must hold the merged record.
    fn cannot_repair_here(&mut self, now: Now, op: OpNumber, effects: &mut Effects) {
        let mut steps = Vec::new();
        let me = self.me;
        if let Some(Op::Get(get)) = self.ops.get_mut(&op) {
            get.machine.refused(me, &mut steps);
        }
        self.perform_get(now, op, steps, effects);
        self.rearm_get(now, op);
    }

    fn answer_get(&mut self, now: Now, op: OpNumber, replicas: u8, effects: &mut Effects) {
        let Some(Op::Get(mut get)) = self.ops.remove(&op) else {
            return;
        };
        if let Some(writing) = get.behind.take() {
            self.let_go(&get.origin, get.bytes);
            let found = get.machine.merged().map(KeyState::to_bytes);
            let found = found.map(|found| (found, get.machine.merged_number()));
            return self.write_found(now, *writing, found, effects);
        }
        if let Origin::Exchange { .. } = get.origin {
            // Nobody looks at it.
            let reply = Reply::Read {
                values: Vec::new(),
                context: Bytes::new(),
                replicas,
                stamp: None,
            };
            return self.answer(get.origin, get.bytes, reply, effects);
        }
        let empty = KeyState::absent(get.place.mode);
        let state = get.machine.merged().unwrap_or(&empty);
        let Some(values) = self.clocks.visible(now, state) else {
            let failure = Self::clock_unknown();
            return self.answer(get.origin, get.bytes, Reply::Failed(failure), effects);
        };
        if values.len() > 1 {
            effects.push(Effect::Count(Event::SiblingsRead));
        }
        let sealed = match state {
            KeyState::Siblings(record) => {
                let user_key = get.place.key.user_key();
                let context = record.context().clone();
                let token = if get.machine.plan().quorum > 0 {
                    Token::held(context)
                } else {
                    Token {
                        apart: context,
                        seen: record.seen_ops(),
                        ..Token::default()
                    }
                };
                self.seal.seal(get.place.keyspace, user_key, &token)
            }
            KeyState::Lww(_) => None,
        };
        // A context over the limit cannot travel; the values can. An empty token says so.
        let context = sealed.unwrap_or_default();
        let reply = Reply::Read {
            values,
            context,
            replicas,
            stamp: state.stamp().map(|stamp| Self::told(now, stamp)),
        };
        self.answer(get.origin, get.bytes, reply, effects);
    }

    pub(super) fn tick_get(&mut self, now: Now, op: OpNumber, effects: &mut Effects) {
        let continuity = &self.continuity;
        let down = |node| continuity.liveness(now.mono, node) == Liveness::Down;
        let mut steps = Vec::new();
        if let Some(Op::Get(get)) = self.ops.get_mut(&op) {
            let late = get.machine.late(now.mono);
            if !late.is_empty() && !self.tails.may_widen(now.mono, late.into_iter()) {
                get.machine.widen_later(now.mono + ASK_AGAIN_AFTER);
            }
            get.machine.tick(now.mono, down, &mut steps);
        }
        if steps.iter().any(|step| matches!(step, Step::Ask(_))) {
            effects.push(Effect::Count(Event::ReadWidened));
        }
        self.perform_get(now, op, steps, effects);
        let me = self.me;
        let repairs_here = |op: &Op| matches!(op, Op::Get(get) if get.machine.repairs(me));
        if self.ops.get(&op).is_some_and(repairs_here) {
            // There was no room for it.
            self.repair(now, op, me, effects);
        }
        self.rearm_get(now, op);
    }

    /// A coordinator asks for this node's record.
    pub(super) fn peer_read(
        &mut self,
        now: Now,
        from: NodeId,
        epoch: Epoch,
        message: ReadRecord,
        effects: &mut Effects,
    ) {
        let place = self.place_asked(epoch, message.keyspace, &message.key, message.as_fallback);
        let place = match place {
            Ok(place) => place,
            Err(cause) => return Self::refuse_read(from, message.op, cause, effects),
        };
        match self.shown(&place) {
            Lookup::Known(record) => self.tell_held(from, &message, &place, record, effects),
            Lookup::MustLoad if self.left_as_asked(&place, &message) => {
                effects.push(Effect::Count(Event::LoadSpared));
                self.tell(from, message.op, &place, HeldRecord::AsKnown, effects);
            }
            Lookup::MustLoad => {
                let key = place.key.clone();
                let message = message.detached();
                let parked = Parked::Read {
                    from,
                    deadline: now.mono + message.budget,
                    place,
                    message,
                };
                self.park_part(key, parked, effects);
            }
        }
    }

    /// Whether what left memory is exactly what is asked about.
    fn left_as_asked(&self, place: &Place, asked: &ReadRecord) -> bool {
        let Some(known) = asked.known else {
            return false;
        };
        let left = self.table.left(&place.key);
        left.is_some_and(|left| left.digest == known)
    }

    pub(super) fn tell_held(
        &self,
        to: NodeId,
        asked: &ReadRecord,
        place: &Place,
        record: Option<Bytes>,
        effects: &mut Effects,
    ) {
        let is_known = |known: Digest, record: &Bytes| {
            planted(Bug::DigestOfTheKeyAlone)
                || known == Digest::of(self.digest, place.key.as_bytes(), record)
        };
        let record = match (asked.known, record) {
            (_, None) => HeldRecord::Absent,
            (Some(known), Some(record)) if is_known(known, &record) => HeldRecord::AsKnown,
            (_, Some(record)) => HeldRecord::Whole(record),
        };
        self.tell(to, asked.op, place, record, effects);
    }

    fn tell(
        &self,
        to: NodeId,
        op: OpNumber,
        place: &Place,
        record: HeldRecord,
        effects: &mut Effects,
    ) {
        let held = Held {
            record,
            number: self.purge_numbers(place).number,
            floor: self.floor_told(place),
            counts: self.counts(place),
        };
        let message = PeerMessage::ReadReply(ReadRecordReply {
            op,
            result: Ok(held),
        });
        effects.push(Effect::Send { to, message });
    }

    pub(super) fn refuse_read(to: NodeId, op: OpNumber, cause: Cause, effects: &mut Effects) {
        let refusal = Refusal {
            cause,
            floor: PurgeNumber::default(),
        };
        let message = PeerMessage::ReadReply(ReadRecordReply {
            op,
            result: Err(refusal),
        });
        effects.push(Effect::Send { to, message });
    }

    /// A replica told what it holds.
    pub(super) fn peer_read_reply(
        &mut self,
        now: Now,
        from: NodeId,
        reply: ReadRecordReply,
        effects: &mut Effects,
    ) {
        if let Some(Op::Resolve(_)) = self.ops.get(&reply.op) {
            return self.resolve_read_reply(now, from, reply, effects);
        }
        let ReadRecordReply { op, result } = reply;
        let mut steps = Vec::new();
        let mut ahead = None;
        let Some(Op::Get(get)) = self.ops.get_mut(&op) else {
            return;
        };
        if let Some(took) = get.machine.first_answer_after(now.mono, from) {
            self.tails.measured(from, took);
        }
        match result {
            Ok(Held {
                record,
                number,
                floor,
                counts,
            }) => {
                let numbers = PurgeNumbers { number, floor };
                ahead = Some(((get.place.keyspace, get.place.location.vnode), floor));
                let standing = counts.into();
                let machine = &mut get.machine;
                let mut held = |record| {
                    machine.held(now.mono, from, record, numbers, standing, &mut steps);
                    true
                };
                let is_told = match record {
                    HeldRecord::Absent => held(None),
                    HeldRecord::AsKnown => {
                        machine.held_as_asked(now.mono, from, numbers, standing, &mut steps)
                    }
                    HeldRecord::Whole(bytes) => {
                        let decoded = KeyState::decode_as(get.place.mode, &bytes);
                        decoded.is_ok_and(|record| held(Some(Arc::new(record))))
                    }
                };
                if !is_told {
                    effects.push(Effect::Count(Event::PeerMessageRefused));
                    get.machine.refused(from, &mut steps);
                }
            }
            Err(_) => get.machine.refused(from, &mut steps),
        }
        if let Some((copy, floor)) = ahead {
            self.note_floor(copy, from, floor, effects);
        }
        self.perform_get(now, op, steps, effects);
        self.rearm_get(now, op);
    }
}
