//! Requests that reach a node which does not own the key: handed to an owner.
//!
//! A write that was handed over and lost is *unknown* and told so: the client retries under the
//! same op id. Its age grows by all the time on the way, which the owner bounds by its own clock
//! (`Forward::sent_after`): a write that a slow link or a stopped forwarder held must not be minted
//! anew when its op id has been evicted meanwhile. A read, or a write that was never sent, goes to
//! the next owner.

use std::time::Duration;

use quorate_ring::{Copies, LevelError, MonoTime, NodeId};

use super::super::continuity::Liveness;
use super::super::effect::{Effect, Effects, Event};
use super::super::failure::{Cause, Effectiveness, Failure};
use super::super::input::Now;
use super::super::message::{
    Forward, ForwardReply, OpNumber, PeerMessage, Reply, Request, SessionReadRequest,
};
use super::{ForwardOp, Op, Origin, Place, Shard, UNARMED};

/// The owner must answer a little before the client stops waiting.
const FORWARD_SLACK: Duration = Duration::from_millis(2);

impl Shard {
    /// Hands a request to the first owner that is up, or else to one that is not known to be down.
    pub(super) fn forward(
        &mut self,
        now: Now,
        origin: Origin,
        deadline: MonoTime,
        place: &Place,
        request: Request,
        effects: &mut Effects,
    ) {
        let owners = self.owners(place);
        let down = |node: &NodeId| self.liveness(now, *node) == Liveness::Down;
        let others = owners.into_iter().filter(|node| *node != self.me);
        let mut untried: Vec<NodeId> = others.filter(|node| !down(node)).collect();
        if request.is_sloppy() {
            untried.extend(self.fallbacks_to_ask(now, place));
        }
        // Taken from the end: those that are up first, in the order of the preference list.
        untried.reverse();
        untried.sort_by_key(|node| self.liveness(now, *node) == Liveness::Up);
        let Some(target) = untried.pop() else {
            let failure = match required(&request, place.copies) {
                Ok(required) => Failure {
                    required,
                    ..Failure::refused(Cause::Unavailable)
                },
                Err(_) => Failure::refused(Cause::LevelImpossible)
                    .with_limit(usize::from(place.copies.get())),
            };
            return self.reply(origin, Reply::Failed(failure), effects);
        };
        effects.push(Effect::Count(Event::Forwarded));
        let bytes = request.bytes();
        let forward = ForwardOp {
            origin,
            request,
            target,
            untried,
            deadline,
            bytes,
            armed: UNARMED,
        };
        let number = self.new_op(now, Op::Forward(Box::new(forward)), deadline);
        self.send_forward(now, number, effects);
    }

    fn send_forward(&mut self, now: Now, number: OpNumber, effects: &mut Effects) {
        let Some(Op::Forward(forward)) = self.ops.get(&number) else {
            return;
        };
        let budget = forward
            .deadline
            .since(now.mono)
            .saturating_sub(FORWARD_SLACK);
        let message = Forward {
            op: number,
            request: forward.request.clone(),
            budget,
            sent_after: self.continuity.past_moment_of(now.mono, forward.target),
        };
        effects.push(Effect::Send {
            to: forward.target,
            message: PeerMessage::Forward(message),
        });
    }

    /// A forwarded request arrives at an owner.
    pub(super) fn forwarded(
        &mut self,
        now: Now,
        origin: Origin,
        deadline: MonoTime,
        request: Request,
        effects: &mut Effects,
    ) {
        let (keyspace, key) = request.target();
        let place = self.locate(keyspace, key);
        let is_owner = place.as_ref().is_ok_and(|place| place.is_owner);
        let is_fallback = request.is_sloppy()
            && place.is_ok_and(|place| self.fallbacks(&place).contains(&self.me));
        if is_owner || is_fallback {
            self.request(now, origin, deadline, request, effects);
        } else {
            // Forwarding on could go in circles between nodes that disagree.
            let failure = Failure::refused(Cause::EpochMismatch);
            self.reply(origin, Reply::Failed(failure), effects);
        }
    }

    /// The owner answered.
    pub(super) fn forward_reply(&mut self, reply: ForwardReply, effects: &mut Effects) {
        let ForwardReply { op, reply } = reply;
        if matches!(self.ops.get(&op), Some(Op::Forward(_)))
            && let Some(Op::Forward(forward)) = self.ops.remove(&op)
        {
            self.answer(forward.origin, forward.bytes, reply, effects);
        }
    }

    /// The link to `peer` is gone, or it is silent: what was handed to it is tried elsewhere or
    /// told as unknown.
    pub(super) fn retry_forwards(&mut self, now: Now, peer: NodeId, effects: &mut Effects) {
        for number in self.open_ops() {
            let Some(Op::Forward(forward)) = self.ops.get_mut(&number) else {
                continue;
            };
            if forward.target != peer {
                continue;
            }
            match (&forward.request, forward.untried.pop()) {
                (Request::Read(_) | Request::SessionRead(_) | Request::Resolve(_), Some(next)) => {
                    forward.target = next;
                    self.send_forward(now, number, effects);
                }
                (Request::Read(_) | Request::SessionRead(_) | Request::Resolve(_), None) => {
                    self.end_forward(number, Cause::Unavailable, effects);
                }
                (Request::Write(_), _) => {
                    self.end_forward(number, Cause::QuorumNotReached, effects);
                }
            }
        }
    }

    pub(super) fn tick_forward(&mut self, now: Now, number: OpNumber, effects: &mut Effects) {
        let past = match self.ops.get(&number) {
            Some(Op::Forward(forward)) => now.mono >= forward.deadline,
            Some(Op::Put(_) | Op::Get(_) | Op::Resolve(_)) | None => false,
        };
        if past {
            self.end_forward(number, Cause::DeadlineExceeded, effects);
        }
    }

    fn end_forward(&mut self, number: OpNumber, cause: Cause, effects: &mut Effects) {
        let Some(Op::Forward(forward)) = self.ops.remove(&number) else {
            return;
        };
        let mut failure = Failure::refused(cause);
        let (keyspace, key) = forward.request.target();
        if let Ok(place) = self.locate(keyspace, key) {
            // A level that cannot be met only an owner refuses, and none has answered.
            failure.required = required(&forward.request, place.copies).unwrap_or(0);
        }
        failure.effect = match forward.request {
            Request::Write(_) | Request::Resolve(_) => Effectiveness::Unknown,
            Request::Read(_) | Request::SessionRead(_) => Effectiveness::NotApplied,
        };
        self.answer(
            forward.origin,
            forward.bytes,
            Reply::Failed(failure),
            effects,
        );
    }
}

/// Replicas that the level of `request` needs.
fn required(request: &Request, copies: Copies) -> Result<u8, LevelError> {
    match request {
        Request::Write(write) => write.level.replicas_for_write(copies),
        Request::Resolve(resolve) => resolve.level.replicas_for_write(copies),
        Request::Read(read) | Request::SessionRead(SessionReadRequest { read, .. }) => {
            read.level.replicas_for_read(copies)
        }
    }
}
