//! Many puts, deletes and gets in one request: each goes its own way and has its own outcome.
//!
//! An item is a request like any other: it is located, forwarded where this node does not own its
//! key, retried under its op id. What a batch saves is all that is paid per message: one frame from
//! the client, one frame per replica in each round, one sync, one answer.
//!
//! A batch was admitted when it was taken, as much work as it has items: none of them is refused
//! because the others are under way.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_ring::MonoTime;
use quorate_ring::planted::{Bug, planted};

use super::super::effect::{Asked, Effect, Effects, RequestKind};
use super::super::failure::{Cause, Failure};
use super::super::input::{Now, RequestId};
use super::super::message::{OpNumber, Reply, Request};
use super::{Origin, Shard, asked};

/// Most items of a batch.
pub const BATCH_ITEMS_MAX: usize = 1_000;

/// An answer has no room for further values behind this many bytes; what was read for them is let
/// go at once and they are asked for again.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A batch under way.
#[derive(Debug)]
pub(super) struct BatchOp {
    to: RequestId,
    pub(super) asked: Asked,
    replies: Vec<Option<Reply>>,
    /// Bytes of values and contexts in them.
    bytes: usize,
    open: usize,
}

impl Shard {
    /// A client asks for many things at once.
    pub(super) fn batch(
        &mut self,
        now: Now,
        to: RequestId,
        received: MonoTime,
        deadline: MonoTime,
        items: Vec<Request>,
        effects: &mut Effects,
    ) {
        let asked = asked(now, RequestKind::Batch, received);
        if let Err(failure) = check(&items) {
            let reply = Reply::Failed(failure);
            return effects.push(Effect::Reply { to, asked, reply });
        }
        let op = self.next_number();
        self.batches.insert(
            op,
            BatchOp {
                to,
                asked,
                replies: vec![None; items.len()],
                bytes: 0,
                open: items.len(),
            },
        );
        for (item, request) in items.into_iter().enumerate() {
            self.request(now, Origin::Batch { op, item }, deadline, request, effects);
        }
    }

    /// An item has its outcome; the last one's sends the answer.
    pub(super) fn batch_item_done(
        &mut self,
        op: OpNumber,
        item: usize,
        reply: Reply,
        effects: &mut Effects,
    ) {
        let Some(batch) = self.batches.get_mut(&op) else {
            return;
        };
        let item = if planted(Bug::BatchAnswersByEnd) {
            let free = batch.replies.iter().position(Option::is_none);
            free.unwrap_or(item)
        } else {
            item
        };
        let bytes = answer_bytes(&reply);
        let reply = if batch.bytes > 0 && batch.bytes + bytes > ANSWER_BYTES_MAX {
            without_bytes(reply)
        } else {
            batch.bytes += bytes;
            reply
        };
        if let Some(slot) = batch.replies.get_mut(item)
            && slot.replace(reply).is_none()
        {
            batch.open -= 1;
        }
        if batch.open == 0
            && let Some(batch) = self.batches.remove(&op)
        {
            self.note_answered(Some(batch.asked.taken));
            let replies = batch.replies.into_iter().flatten().collect();
            let (to, asked, reply) = (batch.to, batch.asked, Reply::Batch(replies));
            effects.push(Effect::Reply { to, asked, reply });
        }
    }
}

fn answer_bytes(reply: &Reply) -> usize {
    match reply {
        Reply::Read {
            values, context, ..
        } => context.len() + values.iter().map(Bytes::len).sum::<usize>(),
        Reply::Applied { context, .. } => context.as_ref().map_or(0, Bytes::len),
        Reply::Failed(_) | Reply::Page { .. } | Reply::Batch(_) => 0,
    }
}

/// What is told of an item that finds no room: a read is to be asked for again, and a write is
/// applied and does not tell its context, so the key must be read before it is written after that.
fn without_bytes(reply: Reply) -> Reply {
    match reply {
        Reply::Read { .. } => Reply::Failed(Failure::refused(Cause::BatchAnswerFull)),
        Reply::Applied {
            acks,
            superseded_by,
            context: _,
        } => Reply::Applied {
            context: None,
            acks,
            superseded_by,
        },
        small @ (Reply::Failed(_) | Reply::Page { .. } | Reply::Batch(_)) => small,
    }
}

/// Refuses a batch as a whole before any item was looked at.
fn check(items: &[Request]) -> Result<(), Failure> {
    if items.is_empty() || items.len() > BATCH_ITEMS_MAX {
        return Err(Failure::refused(Cause::BatchTooLarge).with_limit(BATCH_ITEMS_MAX));
    }
    let mut keys = BTreeSet::new();
    let all_new = items.iter().all(|item| {
        keys.insert(match item {
            Request::Write(write) => (&write.keyspace, &write.key),
            Request::Read(read) => (&read.keyspace, &read.key),
            Request::SessionRead(session) => (&session.read.keyspace, &session.read.key),
            Request::Resolve(resolve) => (&resolve.keyspace, &resolve.key),
        })
    });
    if all_new {
        Ok(())
    } else {
        Err(Failure::refused(Cause::BatchItemRepeated))
    }
}
