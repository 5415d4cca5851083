//! Coordinating a put or a delete: look up the op id, judge, mint, append, send.
//!
//! The order is fixed: the op id is looked up before any refusal, because an attempt of a known
//! operation must never be told *not applied*; every refusal comes before the dot is minted.

use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{
    Attempt, AttemptVerdict, CONTEXT_BYTES_MAX, Context, Dot, KeyState, Minting, OpId, Put,
    PutRefusal, Record, SIBLINGS_MAX,
};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{Actor, ConsistencyLevel, KeyspaceMode, MonoTime, NodeId, Ttl, majority};

use super::super::clock_check::ClockTrust;
use super::super::continuity::Liveness;
use super::super::effect::{Effect, Effects, Event, StopReason};
use super::super::failure::{Cause, Effectiveness, Failure, ReplicaPart};
use super::super::input::Now;
use super::super::key::RecordKey;
use super::super::message::{
    Base, PeerMessage, PurgeNumber, ReplicateReply, Reply, Stored, WriteRequest,
};
use super::super::node_set::Owners;
use super::super::put::{PutMachine, PutPlan, Verdict};
use super::super::seal::Token;
use super::super::table::Lookup;
use super::{
    Ack, Op, Parked, Place, PutOp, RETRY_AFTER_SHED_MS, Shard, UNARMED, VALUE_BYTES_MAX, Writing,
};

/// A replica that took a write without counting is sent it again after this.
const SEND_AGAIN_AFTER: Duration = Duration::from_millis(25);
/// An answered put waits this long for the acknowledgements that spare a hint.
const LINGER: Duration = Duration::from_secs(1);
/// Primaries that have not answered a sloppy write within this time are stood in for.
const STAND_IN_AFTER: Duration = Duration::from_millis(100);
/// What a put may add to a record beside its value, about.
const GUEST_MARGIN_BYTES: usize = 1_024;
/// Longest record that a put may leave, in bytes.
const RECORD_BYTES_MAX: usize = 4 << 20;

/// What a write leaves to be replicated.
pub(super) struct Made {
    pub(super) record: Bytes,
    /// What it was made on, if a replica that holds the same need not merge.
    pub(super) base: Option<Base>,
    pub(super) reply_token: Option<Token>,
    /// An earlier attempt of the operation is in the record already.
    pub(super) duplicate: bool,
    /// Stamp of the record, if it supersedes the write.
    pub(super) newer: Option<u64>,
}

/// Why a write was not made.
enum NotMade {
    /// It failed.
    Failed(Failure),
    /// It comes after these writes, and this node does not know them all.
    Behind(Box<Context>),
}

impl From<Failure> for NotMade {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Shard {
    /// Coordinates a write of a key that this node owns; waits for the key to be loaded.
    pub(super) fn write(&mut self, now: Now, writing: Writing, effects: &mut Effects) {
        match self.table.newest(&writing.place.key) {
            Lookup::Known(newest) => self.write_loaded(now, writing, newest, effects),
            Lookup::MustLoad => {
                self.hold(&writing.origin, writing.request.bytes());
                let key = writing.place.key.clone();
                if let Err(parked) = self.park(key, Parked::Write(writing), effects) {
                    self.shed(*parked, effects);
                }
            }
        }
    }

    /// The same with the newest state at hand.
    pub(super) fn write_loaded(
        &mut self,
        now: Now,
        writing: Writing,
        newest: Option<Bytes>,
        effects: &mut Effects,
    ) {
        let Some(state) = self.decode_own(writing.place.mode, newest.as_ref(), effects) else {
            return;
        };
        let required = writing
            .request
            .level
            .replicas_for_write(writing.place.copies);
        let made = match &state {
            KeyState::Siblings(record) => self.make(now, &writing, record, newest, effects),
            KeyState::Lww(held) => self
                .make_lww(now, &writing, held.as_ref(), newest, effects)
                .map_err(NotMade::Failed),
        };
        let made = match made {
            Ok(made) => Ok(made),
            Err(NotMade::Failed(failure)) => Err(failure),
            Err(NotMade::Behind(requirement)) => {
                return self.look_further(now, writing, *requirement, effects);
            }
        };
        let Writing {
            origin,
            deadline,
            place,
            request,
            ..
        } = writing;
        let (made, required) = match (made, required) {
            (Ok(made), Ok(required)) => (made, required),
            (Err(failure), _) => return self.reply(origin, Reply::Failed(failure), effects),
            // A duplicate at an impossible level was noted, which harms nobody.
            (Ok(_), Err(_)) => {
                let mut failure = Failure::refused(Cause::LevelImpossible);
                failure.effect = Effectiveness::Unknown;
                return self.reply(origin, Reply::Failed(failure), effects);
            }
        };
        if made.duplicate && planted(Bug::DuplicateAppliedAtOnce) {
            let reply = Reply::Applied {
                context: None,
                acks: required,
                superseded_by: None,
            };
            return self.reply(origin, reply, effects);
        }
        let primaries = self.owners(&place);
        let is_owner = place.is_owner;
        let fallbacks = if request.level.is_sloppy() {
            self.fallbacks_to_ask(now, &place)
        } else {
            Owners::new()
        };
        let bytes = request.bytes();
        let number = self.next_number();
        let mut machine = PutMachine::new(PutPlan {
            op: number,
            keyspace: place.keyspace,
            key: request.key.clone(),
            record: made.record,
            base: made.base,
            number: self.purge_numbers(&place).number,
            required,
            primaries: primaries.clone(),
            fallbacks,
            stand_in_at: now.mono + STAND_IN_AFTER,
            deadline,
        });
        if !is_owner {
            machine.is_held_by_fallback(self.me);
        }
        made.newer
            .into_iter()
            .for_each(|newer| machine.met_newer(newer));
        let message = PeerMessage::Replicate(machine.replicate_to_owners(now.mono));
        for node in primaries.into_iter().filter(|node| *node != self.me) {
            if self.liveness(now, node) == Liveness::Up {
                effects.push(Effect::Send {
                    to: node,
                    message: message.clone(),
                });
            }
        }
        let reply_token = made.reply_token;
        let durability = place.options.durability;
        let put = PutOp {
            machine,
            origin,
            place,
            reply_token,
            bytes,
            armed: UNARMED,
        };
        let wake = put.machine.next_stand_in(now.mono);
        let wake = wake.map_or(deadline, |at| at.min(deadline));
        self.insert_op(now, number, Op::Put(Box::new(put)), wake);
        self.when_durable(now, durability, Ack::Local { op: number }, effects);
        self.judge_put(now, number, effects);
    }

    /// What a write's context names was found: merges that, and goes on.
    pub(super) fn write_found(
        &mut self,
        now: Now,
        mut writing: Writing,
        found: Option<(Bytes, PurgeNumber)>,
        effects: &mut Effects,
    ) {
        let Lookup::Known(newest) = self.table.newest(&writing.place.key) else {
            // It left the table meanwhile: from the beginning, within the same deadline.
            return self.write(now, writing, effects);
        };
        // Without room the write is refused below, before anything rests on what was found.
        if !self.disk_full && self.table.has_room() {
            // What nobody holds any more was purged: there is nothing to come after.
            writing.has_looked = true;
            if let Some((found, number)) = found
                && !self.is_below_floor(&writing.place, number, newest.as_ref(), &found)
                && let Err(stop) =
                    self.merge_in(&writing.place, newest.as_ref(), &found, None, effects)
            {
                return effects.push(Effect::Stop(stop));
            }
        }
        self.write(now, writing, effects);
    }

    /// Finds the operation again, or mints it.
    fn make(
        &mut self,
        now: Now,
        writing: &Writing,
        record: &Record,
        newest: Option<Bytes>,
        effects: &mut Effects,
    ) -> Result<Made, NotMade> {
        let Writing {
            deadline,
            arrived,
            place,
            request,
            has_looked,
            ..
        } = writing;
        let settles = settles(place, request);
        let client = self.client_token(place, request);
        let attempt = if request.flagged {
            Attempt::Later
        } else {
            Attempt::First
        };
        let age = request.age.saturating_add(now.mono.since(*arrived));
        let timestamp = self.next_timestamp(now, record);
        match record.attempt_verdict(timestamp, request.op_id, age) {
            AttemptVerdict::TooOld => {
                let mut failure = Failure::refused(Cause::AttemptTooOld);
                failure.effect = Effectiveness::Unknown;
                return Err(failure.into());
            }
            AttemptVerdict::Duplicate => {
                effects.push(Effect::Count(Event::DuplicateAttempt));
                let token = client.ok().flatten().unwrap_or_default();
                let context = Some(token.context());
                let reply_context = record.duplicate_reply_context(request.op_id, context);
                let reply_token = reply_token(record, request.op_id, reply_context, token, settles);
                let noted = record.note_duplicate(request.op_id, attempt);
                if noted.is_some() && (self.disk_full || !self.table.has_room()) {
                    let mut failure = Self::overloaded();
                    failure.effect = Effectiveness::Unknown;
                    return Err(failure.into());
                }
                let record = match noted {
                    Some(noted) => {
                        self.note_record_if_crowded(place, &noted);
                        let gone_at = noted.gone_at();
                        let noted = self.encoded(|out| noted.encode(out));
                        let old = (newest.as_ref(), record.has_value());
                        self.commit(place, old, (noted, gone_at), effects).0
                    }
                    None => newest.unwrap_or_default(),
                };
                return Ok(Made {
                    record,
                    base: None,
                    reply_token,
                    duplicate: true,
                    newer: None,
                });
            }
            AttemptVerdict::Fresh => {}
        }
        let mut token = client?.unwrap_or_default();
        self.leave_out_of_token(place, &mut token);
        let seen = &token.seen;
        if seen.iter().any(|seen| seen.op.op_id == request.op_id) {
            // Its own token says that it was applied, only not here: nothing may be minted again.
            let mut failure = Failure::refused(Cause::AttemptTooOld);
            failure.effect = Effectiveness::Unknown;
            return Err(failure.into());
        }
        let newest_seen = seen.iter().map(|seen| seen.op.timestamp).max().unwrap_or(0);
        self.timestamp = self.timestamp.max(newest_seen);
        let timestamp = self.next_timestamp(now, record);
        let ttl = self.check_before_mint(now, *deadline, place, request)?;
        let knows_held = record.context().covers_context(&token.held);
        let is_behind = !has_looked && !knows_held;
        if is_behind && !planted(Bug::ContextNotLookedFor) {
            // Its operations are in the record that knows them, and must be listed here too.
            return Err(NotMade::Behind(Box::new(token.held)));
        }
        let planted_base = self.durable_if_planted(&place.key);
        let base = planted_base.as_ref().unwrap_or(record);
        let actor = Actor {
            node: self.me,
            incarnation: self.continuity.incarnation(),
        };
        let applied = base
            .put(Put {
                op_id: request.op_id,
                attempt,
                value: request.value.clone(),
                context: Some(token.context()),
                seen: seen.clone(),
                dot: Dot {
                    actor,
                    counter: self.counter + 1,
                },
                minting: if place.is_owner || planted(Bug::FallbackClaimsVector) {
                    Minting::Primary
                } else {
                    // It forgets the dot with the record: the next one must not claim it (V4).
                    Minting::Fallback
                },
                timestamp,
                expiry: ttl.map(|ttl| now.wall_micros.saturating_add(ttl.micros())),
                now_wall: self.trusted_wall(now),
            })
            .map_err(|refused| refusal(refused, effects))?;
        self.counter += 1;
        // What a token alone knows of other nodes is news to the replicas, and judged there.
        let adds_the_write_alone = knows_held && token.apart.is_empty() && planted_base.is_none();
        let reply_context = applied.reply_context;
        let reply_token = reply_token(
            &applied.record,
            request.op_id,
            reply_context,
            token,
            settles,
        );
        self.note_record_if_crowded(place, &applied.record);
        let old = (newest.as_ref(), record.has_value());
        let encoded = self.encoded(|out| applied.record.encode(out));
        let new = (encoded, applied.record.gone_at());
        let (record, base) = self.commit(place, old, new, effects);
        Ok(Made {
            record,
            base: base.filter(|_| adds_the_write_alone),
            reply_token,
            duplicate: false,
            newer: None,
        })
    }

    /// The base of a put that is planted with a bug; `None` in every build without planted bugs.
    fn durable_if_planted(&self, key: &RecordKey) -> Option<Record> {
        if !planted(Bug::DotFromDurableView) {
            return None;
        }
        match self.table.durable(key) {
            Lookup::Known(Some(durable)) => Record::decode(&durable).ok(),
            Lookup::Known(None) | Lookup::MustLoad => None,
        }
    }

    /// Opens the client's token; the error is for a fresh attempt only.
    fn client_token(
        &self,
        place: &Place,
        request: &WriteRequest,
    ) -> Result<Option<Token>, Failure> {
        let Some(token) = &request.context else {
            return Ok(None);
        };
        self.seal
            .open(place.keyspace, &request.key, token)
            .map(Some)
            .map_err(|_| Failure::refused(Cause::ContextInvalid))
    }

    /// The wall clock, if expiry may act by it.
    fn trusted_wall(&self, now: Now) -> Option<u64> {
        match self.clocks.trust(now) {
            ClockTrust::Good => Some(now.wall_micros),
            ClockTrust::Off | ClockTrust::Unknown => None,
        }
    }

    /// The TTL that a write's value gets.
    fn checked_ttl(
        &self,
        now: Now,
        place: &Place,
        request: &WriteRequest,
    ) -> Result<Option<Ttl>, Failure> {
        let ttl = match (request.ttl_ms, &request.value) {
            (_, None) => None,
            (None, Some(_)) => place.options.ttl,
            (Some(millis), Some(_)) => {
                let ttl = Ttl::from_millis(millis);
                let invalid = |_| {
                    let mut failure = Failure::refused(Cause::TtlInvalid);
                    failure.limit = Ttl::MILLIS_MAX;
                    failure
                };
                Some(ttl.map_err(invalid)?)
            }
        };
        let trust = if ttl.is_some() {
            self.clocks.trust(now)
        } else {
            ClockTrust::Good
        };
        match trust {
            ClockTrust::Good => Ok(ttl),
            ClockTrust::Off => Err(Failure::refused(Cause::ClockOff)),
            ClockTrust::Unknown => Err(Self::clock_unknown()),
        }
    }

    /// No other clock was heard yet: two messages from now one will have been.
    pub(super) fn clock_unknown() -> Failure {
        let mut failure = Failure::refused(Cause::ClockOff);
        failure.retry_after_ms = RETRY_AFTER_SHED_MS;
        failure
    }

    /// Every refusal of a write that is not known yet; gives its value's TTL.
    pub(super) fn check_before_mint(
        &self,
        now: Now,
        deadline: MonoTime,
        place: &Place,
        request: &WriteRequest,
    ) -> Result<Option<Ttl>, Failure> {
        if request
            .value
            .as_ref()
            .is_some_and(|value| value.len() > VALUE_BYTES_MAX)
        {
            return Err(Failure::refused(Cause::ValueTooLarge).with_limit(VALUE_BYTES_MAX));
        }
        let ttl = self.checked_ttl(now, place, request)?;
        let Ok(required) = request.level.replicas_for_write(place.copies) else {
            let limit = usize::from(place.copies.get());
            return Err(Failure::refused(Cause::LevelImpossible).with_limit(limit));
        };
        if now.mono >= deadline {
            return Err(Failure::refused(Cause::DeadlineExceeded));
        }
        if self.disk_full {
            return Err(Failure::refused(Cause::DiskFull));
        }
        if !self.table.has_room() {
            return Err(Self::overloaded());
        }
        let is_owner = place.is_owner;
        let room = request.value.as_ref().map_or(0, Bytes::len) + GUEST_MARGIN_BYTES;
        if !is_owner && !self.guests.has_room(&place.key, room) {
            return Err(Failure::refused(Cause::GuestsFull));
        }
        let may_mint = if is_owner {
            let vnode = place.location.vnode;
            self.continuity
                .may_mint(place.copies, vnode, &self.topology)
        } else {
            self.counts_as_fallback()
        };
        if !may_mint {
            let mut failure = Failure::refused(Cause::NotReady);
            failure.retry_after_ms = RETRY_AFTER_SHED_MS;
            return Err(failure);
        }
        self.check_reachable(now, place, required, request.level)?;
        Ok(ttl)
    }

    /// Fails at once if a level cannot be met because nodes are confirmed down.
    pub(super) fn check_reachable(
        &self,
        now: Now,
        place: &Place,
        required: u8,
        level: ConsistencyLevel,
    ) -> Result<(), Failure> {
        let owners = self.owners(place);
        let down = |node: &NodeId| self.liveness(now, *node) == Liveness::Down;
        let mut up = owners.iter().filter(|node| !down(node)).count();
        if level.is_sloppy() {
            up += self.fallbacks_to_ask(now, place).len();
            up += usize::from(!place.is_owner);
        }
        if up >= usize::from(required) {
            return Ok(());
        }
        // The others were not asked, so nothing is said of them.
        let down = owners.into_iter().filter(down);
        let mut failure = Failure::refused(Cause::Unavailable);
        failure.required = required;
        failure.replicas = down.map(|node| (node, ReplicaPart::Down)).collect();
        Err(failure)
    }

    /// Decodes a record of this node's own store; one that cannot be read stops the node.
    pub(super) fn decode_own(
        &mut self,
        mode: KeyspaceMode,
        stored: Option<&Bytes>,
        effects: &mut Effects,
    ) -> Option<KeyState> {
        let decode = |stored: &Bytes| KeyState::decode_as(mode, stored);
        match stored.map(decode).transpose() {
            Ok(state) => Some(state.unwrap_or_else(|| KeyState::absent(mode))),
            Err(error) => {
                let reason = format!("a stored record cannot be read: {error}");
                effects.push(Effect::Stop(StopReason::Damaged { reason }));
                None
            }
        }
    }

    /// A replica answered a write or a repair.
    pub(super) fn replicated(
        &mut self,
        now: Now,
        from: NodeId,
        reply: ReplicateReply,
        effects: &mut Effects,
    ) {
        if self.hint_answered(now, from, &reply, effects)
            || self.guest_answered(now, from, &reply, effects)
        {
            return;
        }
        let ReplicateReply { op, result } = reply;
        let mut ahead = None;
        match self.ops.get_mut(&op) {
            Some(Op::Put(put)) => {
                match result {
                    Ok(stored) => {
                        let newer = stored.newer.into_iter();
                        newer.for_each(|newer| put.machine.met_newer(newer));
                        put.machine.stored(from, stored.counts.into());
                    }
                    Err(refusal) => {
                        put.machine.refused(from);
                        let copy = (put.place.keyspace, put.place.location.vnode);
                        ahead = Some((copy, refusal.floor));
                    }
                }
                if put.machine.asked_again().next().is_some() {
                    self.wake_at(now, now.mono + SEND_AGAIN_AFTER, op);
                }
                self.judge_put(now, op, effects);
            }
            Some(Op::Get(get)) => {
                let mut steps = Vec::new();
                match result {
                    Ok(stored) => get.machine.repaired(from, stored.counts.into(), &mut steps),
                    Err(_) => get.machine.refused(from, &mut steps),
                }
                self.perform_get(now, op, steps, effects);
                self.rearm_get(now, op);
            }
            Some(Op::Resolve(_)) => self.resolve_stored(now, op, from, result, effects),
            Some(Op::Forward(_)) | None => {}
        }
        if let Some((copy, floor)) = ahead {
            self.note_floor(copy, from, floor, effects);
        }
    }

    pub(super) fn local_durable(&mut self, now: Now, op: super::OpNumber, effects: &mut Effects) {
        let me = self.me;
        let counts = match self.ops.get(&op) {
            Some(Op::Put(put)) => self.counts(&put.place),
            Some(Op::Get(get)) => self.counts(&get.place),
            Some(Op::Resolve(resolve)) => self.counts(&resolve.place),
            Some(Op::Forward(_)) | None => return,
        };
        match self.ops.get_mut(&op) {
            Some(Op::Put(put)) => {
                put.machine.stored(me, counts.into());
                if !counts {
                    self.wake_at(now, now.mono + SEND_AGAIN_AFTER, op);
                }
                self.judge_put(now, op, effects);
            }
            Some(Op::Get(get)) => {
                let mut steps = Vec::new();
                get.machine.repaired(me, counts.into(), &mut steps);
                self.perform_get(now, op, steps, effects);
            }
            Some(Op::Resolve(_)) => {
                let stored = Stored {
                    lsn: self.table.durable_lsn(),
                    counts,
                    newer: None,
                };
                self.resolve_stored(now, op, me, Ok(stored), effects);
            }
            Some(Op::Forward(_)) | None => {}
        }
    }

    pub(super) fn tick_put(&mut self, now: Now, op: super::OpNumber, effects: &mut Effects) {
        let Some(Op::Put(put)) = self.ops.get(&op) else {
            return;
        };
        let again: Vec<NodeId> = put.machine.asked_again().collect();
        let messages = again
            .iter()
            .map(|node| put.machine.replicate(now.mono, *node));
        let messages: Vec<_> = messages.collect();
        let stand_in_at = put.machine.next_stand_in(now.mono);
        let deadline = put.machine.deadline();
        let past = now.mono >= deadline;
        for (node, message) in again.iter().zip(messages).filter(|_| !past) {
            if *node == self.me {
                self.local_durable(now, op, effects);
            } else {
                let message = PeerMessage::Replicate(message);
                effects.push(Effect::Send { to: *node, message });
            }
        }
        let next = if again.is_empty() || past {
            deadline
        } else {
            now.mono + SEND_AGAIN_AFTER
        };
        let next = stand_in_at.map_or(next, |at| at.min(next));
        self.wake_at(now, next, op);
        self.judge_put(now, op, effects);
    }

    /// Tells the verdict if there is one, and forgets the put when nothing more will come.
    fn judge_put(&mut self, now: Now, op: super::OpNumber, effects: &mut Effects) {
        let continuity = &self.continuity;
        let Some(Op::Put(put)) = self.ops.get_mut(&op) else {
            return;
        };
        let down = |node| continuity.liveness(now.mono, node) == Liveness::Down;
        for to in put.machine.stand_in(now.mono, down) {
            let message = PeerMessage::Replicate(put.machine.replicate(now.mono, to));
            effects.push(Effect::Send { to, message });
        }
        let verdict = put.machine.verdict(now.mono, down);
        let ended = put.machine.is_done(down) || now.mono >= put.machine.deadline();
        let (origin, bytes) = (put.origin, put.bytes);
        let lingers = verdict.is_some() && !ended;
        if lingers {
            put.machine.linger_until(now.mono + LINGER);
        }
        if let Some(verdict) = verdict {
            let token = put.reply_token.take();
            let reply = match verdict {
                Verdict::Applied { acks } => {
                    let user_key = put.place.key.user_key();
                    let keyspace = put.place.keyspace;
                    let context = token.and_then(|t| self.seal.seal(keyspace, user_key, &t));
                    let newer = put.machine.newer();
                    let superseded_by = newer.map(|stamp| Self::told(now, stamp));
                    Reply::Applied {
                        context,
                        acks,
                        superseded_by,
                    }
                }
                Verdict::Unknown(failure) => Reply::Failed(failure),
            };
            self.answer(origin, bytes, reply, effects);
        }
        if lingers {
            self.wake_at(now, now.mono + LINGER, op);
        }
        if ended && let Some(Op::Put(put)) = self.ops.remove(&op) {
            // What a fallback holds for its owners is brought to them anyway.
            let is_owner = put.place.is_owner;
            for node in put.machine.missed().filter(|_| is_owner) {
                self.hints_wanted += 1;
                self.hint(now, node, &put.place.key, effects);
            }
        }
    }
}

/// Whether a write that is applied is then on a majority of the owners.
fn settles(place: &Place, request: &WriteRequest) -> bool {
    if request.level.is_sloppy() {
        return false;
    }
    let required = request.level.replicas_for_write(place.copies);
    required.is_ok_and(|required| required >= majority(place.copies))
}

/// What a write's client has seen afterwards, given what its own token told; `settles` says that
/// `record` is then on a majority of the owners.
pub(super) fn reply_token(
    record: &Record,
    op_id: OpId,
    context: Option<Context>,
    client: Token,
    settles: bool,
) -> Option<Token> {
    let context = context?;
    if settles {
        return Some(Token::held(context));
    }
    let is_alone = record.siblings().len() == 1 && record.sibling(op_id).is_some();
    Some(Token {
        // Alone it has all that the record knows in its past, and the token has all of that.
        held: if is_alone {
            Context::new()
        } else {
            client.held
        },
        apart: context,
        seen: record.seen_ops_after_write(op_id, &client.seen),
    })
}

/// Why a put minted nothing, in the core's words.
fn refusal(refusal: PutRefusal, effects: &mut Effects) -> Failure {
    match refusal {
        PutRefusal::TooManySiblings { .. } => {
            Failure::refused(Cause::TooManySiblings).with_limit(SIBLINGS_MAX)
        }
        PutRefusal::RecordTooLarge { .. } => {
            Failure::refused(Cause::RecordTooLarge).with_limit(RECORD_BYTES_MAX)
        }
        PutRefusal::ContextFull { .. } => {
            Failure::refused(Cause::ContextFull).with_limit(CONTEXT_BYTES_MAX)
        }
        // A sealed context or the own record knows a dot that this actor has yet to mint.
        PutRefusal::DotNotNew { dot } => {
            let reason = format!("dot {dot} is known before it was minted");
            effects.push(Effect::Stop(StopReason::Damaged { reason }));
            Failure::refused(Cause::Damaged)
        }
        PutRefusal::Duplicate { .. } => {
            let mut failure = Failure::refused(Cause::AttemptTooOld);
            failure.effect = Effectiveness::Unknown;
            failure
        }
    }
}
