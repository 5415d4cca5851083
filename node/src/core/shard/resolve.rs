//! Coordinating a resolve: the own record in its newest state, the others' by message, the answer.
//!
//! The own record is looked at in its newest state, which need not be durable yet: securing it
//! waits for the sync like any other write.
//!
//! Not here: when to say what (`core::resolve`).

use bytes::Bytes;
use quorate_antientropy::{Context, KeyState, Record};
use quorate_ring::{KeyspaceMode, MonoTime, majority};

use super::super::continuity::Liveness;
use super::super::effect::{Effect, Effects};
use super::super::failure::{Cause, Effectiveness, Failure};
use super::super::input::Now;
use super::super::message::{
    Held, HeldRecord, OpNumber, PeerMessage, PurgeNumber, ReadRecordReply, Refusal, Reply,
    ResolveRequest, Stored,
};
use super::super::resolve::{ResolveMachine, ResolvePlan, Step};
use super::super::seal::Token;
use super::super::table::Lookup;
use super::write::reply_token;
use super::{Op, Origin, Parked, Place, ResolveOp, Shard, UNARMED};

impl Shard {
    /// Coordinates a resolve of a key that this node owns.
    pub(super) fn resolve(
        &mut self,
        now: Now,
        origin: Origin,
        deadline: MonoTime,
        place: Place,
        request: &ResolveRequest,
        effects: &mut Effects,
    ) {
        let Ok(required) = request.level.replicas_for_write(place.copies) else {
            let limit = usize::from(place.copies.get());
            let mut failure = Failure::refused(Cause::LevelImpossible).with_limit(limit);
            failure.effect = Effectiveness::Unknown;
            return self.reply(origin, Reply::Failed(failure), effects);
        };
        let number = self.next_number();
        let (down, candidates): (Vec<_>, Vec<_>) = self
            .owners(&place)
            .into_iter()
            .partition(|node| self.liveness(now, *node) == Liveness::Down);
        let user_key = Bytes::copy_from_slice(place.key.user_key());
        let bytes = user_key.len();
        let mut machine = ResolveMachine::new(ResolvePlan {
            op: number,
            keyspace: place.keyspace,
            key: user_key,
            op_id: request.op_id,
            required,
            candidates,
            down,
            deadline,
        });
        let mut steps = Vec::new();
        machine.start(&mut steps);
        let resolve = ResolveOp {
            machine,
            origin,
            place,
            bytes,
            armed: UNARMED,
        };
        self.insert_op(now, number, Op::Resolve(Box::new(resolve)), deadline);
        self.perform_resolve(now, number, steps, effects);
    }

    /// Carries out what a resolve wants, and what that leads to, until it wants nothing more.
    fn perform_resolve(
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
            let Some(Op::Resolve(resolve)) = self.ops.get(&op) else {
                return;
            };
            match step {
                Step::Ask(node) if *node == self.me => {
                    self.ask_self_resolve(op, &mut steps, effects);
                }
                Step::Ask(node) => {
                    let message = PeerMessage::Read(resolve.machine.read(now.mono));
                    effects.push(Effect::Send { to: *node, message });
                }
                Step::Secure(node) if *node == self.me => self.secure_here(now, op, effects),
                Step::Secure(node) => {
                    let message = PeerMessage::Replicate(resolve.machine.secure(now.mono));
                    effects.push(Effect::Send { to: *node, message });
                }
                Step::Answer { acks } => {
                    let acks = *acks;
                    self.answer_resolve(op, acks, effects);
                }
                Step::Fail(failure) => {
                    let reply = Reply::Failed(failure.clone());
                    if let Some(Op::Resolve(resolve)) = self.ops.remove(&op) {
                        self.answer(resolve.origin, resolve.bytes, reply, effects);
                    }
                }
            }
        }
    }

    fn ask_self_resolve(&mut self, op: OpNumber, steps: &mut Vec<Step>, effects: &mut Effects) {
        let Some(Op::Resolve(resolve)) = self.ops.get(&op) else {
            return;
        };
        let key = resolve.place.key.clone();
        match self.table.newest(&key) {
            Lookup::Known(record) => self.known_here(op, record.as_ref(), steps, effects),
            Lookup::MustLoad => {
                if self
                    .park(key, Parked::LocalResolve { op }, effects)
                    .is_err()
                    && let Some(Op::Resolve(resolve)) = self.ops.get_mut(&op)
                {
                    resolve.machine.refused(self.me);
                }
            }
        }
    }

    fn known_here(
        &mut self,
        op: OpNumber,
        newest: Option<&Bytes>,
        steps: &mut Vec<Step>,
        effects: &mut Effects,
    ) {
        // Only keyspaces of siblings are asked.
        let state = self.decode_own(KeyspaceMode::Siblings, newest, effects);
        let Some(KeyState::Siblings(record)) = state else {
            return;
        };
        let me = self.me;
        let Some(Op::Resolve(resolve)) = self.ops.get(&op) else {
            return;
        };
        let number = self.purge_numbers(&resolve.place).number;
        if let Some(Op::Resolve(resolve)) = self.ops.get_mut(&op) {
            resolve.machine.held(me, Some(&record), number, steps);
        }
    }

    /// The own record is in memory now.
    pub(super) fn resolve_loaded(
        &mut self,
        now: Now,
        op: OpNumber,
        newest: Option<&Bytes>,
        effects: &mut Effects,
    ) {
        let mut steps = Vec::new();
        self.known_here(op, newest, &mut steps, effects);
        self.perform_resolve(now, op, steps, effects);
        self.judge_resolve(now, op, effects);
    }

    fn secure_here(&mut self, now: Now, op: OpNumber, effects: &mut Effects) {
        let Some(Op::Resolve(resolve)) = self.ops.get(&op) else {
            return;
        };
        let place = resolve.place.clone();
        let record = resolve.machine.merged().to_bytes();
        let number = resolve.machine.number();
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
                if self.park(key, parked, effects).is_err()
                    && let Some(Op::Resolve(resolve)) = self.ops.get_mut(&op)
                {
                    resolve.machine.refused(self.me);
                }
            }
        }
    }

    /// A replica told what it holds, or refused to.
    pub(super) fn resolve_read_reply(
        &mut self,
        now: Now,
        from: quorate_ring::NodeId,
        reply: ReadRecordReply,
        effects: &mut Effects,
    ) {
        let ReadRecordReply { op, result } = reply;
        let Some(Op::Resolve(resolve)) = self.ops.get_mut(&op) else {
            return;
        };
        let mut steps = Vec::new();
        let number = result
            .as_ref()
            .map_or(PurgeNumber::default(), |held| held.number);
        let record = match result.map(|Held { record, .. }| record) {
            Ok(HeldRecord::Absent) => Some(None),
            Ok(HeldRecord::Whole(bytes)) => Record::decode(&bytes).ok().map(Some),
            // It was asked about none.
            Ok(HeldRecord::AsKnown) | Err(_) => None,
        };
        match record {
            Some(record) => resolve
                .machine
                .held(from, record.as_ref(), number, &mut steps),
            None => resolve.machine.refused(from),
        }
        self.perform_resolve(now, op, steps, effects);
        self.judge_resolve(now, op, effects);
    }

    /// A replica, perhaps this one, took the merged record, or did not.
    pub(super) fn resolve_stored(
        &mut self,
        now: Now,
        op: OpNumber,
        from: quorate_ring::NodeId,
        result: Result<Stored, Refusal>,
        effects: &mut Effects,
    ) {
        let Some(Op::Resolve(resolve)) = self.ops.get_mut(&op) else {
            return;
        };
        let mut steps = Vec::new();
        match result {
            Ok(stored) => resolve
                .machine
                .stored(now.mono, from, stored.counts, &mut steps),
            Err(_) => resolve.machine.refused(from),
        }
        self.perform_resolve(now, op, steps, effects);
        self.judge_resolve(now, op, effects);
    }

    /// Time passed, or an answer may have been the last hope.
    pub(super) fn judge_resolve(&mut self, now: Now, op: OpNumber, effects: &mut Effects) {
        let continuity = &self.continuity;
        let down = |node| continuity.liveness(now.mono, node) == Liveness::Down;
        let Some(Op::Resolve(resolve)) = self.ops.get_mut(&op) else {
            return;
        };
        let mut steps = Vec::new();
        resolve.machine.judge(now.mono, down, &mut steps);
        let at = resolve.machine.next_deadline();
        self.perform_resolve(now, op, steps, effects);
        self.wake_at(now, at, op);
    }

    fn answer_resolve(&mut self, op: OpNumber, acks: u8, effects: &mut Effects) {
        let Some(Op::Resolve(resolve)) = self.ops.remove(&op) else {
            return;
        };
        let record = resolve.machine.merged();
        let plan = resolve.machine.plan();
        let context = record.duplicate_reply_context(plan.op_id, None);
        // A superseded operation's dots are not known any more: there is nothing to come after.
        let context = context.filter(|context: &Context| !context.is_empty());
        let settles = plan.required >= majority(resolve.place.copies);
        let token = reply_token(record, plan.op_id, context, Token::default(), settles);
        let context = token.and_then(|token| self.seal.seal(plan.keyspace, &plan.key, &token));
        let reply = Reply::Applied {
            context,
            acks,
            superseded_by: None,
        };
        self.answer(resolve.origin, resolve.bytes, reply, effects);
    }
}
