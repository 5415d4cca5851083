//! One call inside a session: what it takes along, and what is remembered of its answer.
//!
//! Room is taken before the call is sent, so that what was applied can always be remembered.

use std::sync::Arc;

use bytes::Bytes;
use quorate_ring::ConsistencyLevel;

use super::{
    SESSION_BYTES_MAX, SESSION_KEYS_MAX, SESSION_WRITES_MAX, Seen, Session, State, name_bytes,
};
use crate::client::{Operation, Payload};
use crate::context::Context;
use crate::error::Failure;
use crate::topology::Topology;
use crate::versions::{Read, Written};
use crate::wire::{COVERS_MAX, Code};

/// A call in flight; gives its room back when it is dropped.
#[derive(Debug)]
pub(crate) struct SessionCall {
    session: Session,
    name: (Arc<str>, Bytes),
    /// What the answer replaces: the tokens of a read, the context of a write.
    replaces: Vec<Context>,
    /// How many writes without a token the answer of a read makes up for.
    untold: u64,
    copies: u8,
    /// Fallbacks may be among those that acknowledge.
    is_sloppy: bool,
}

impl SessionCall {
    /// Takes room for the answer and gives a read what it must cover.
    ///
    /// # Errors
    /// `SESSION_FULL`, certainly not applied.
    pub(crate) fn begin(
        session: &Session,
        operation: &mut Operation,
        topology: &Topology,
    ) -> Result<Self, Box<Failure>> {
        let name = (Arc::clone(&operation.keyspace), operation.key.clone());
        let copies = topology.copies(&operation.keyspace);
        let mut state = session.lock();
        let tokens_max = match &operation.payload {
            // A read makes one token of all, so it is still taken where a write is not.
            Payload::Get | Payload::SessionGet { .. } | Payload::Scan { .. } => COVERS_MAX,
            Payload::Put { .. } | Payload::Delete { .. } | Payload::Resolve { .. } => {
                SESSION_WRITES_MAX
            }
        };
        let room = state.take_room(&name, tokens_max);
        room.map_err(|limit| operation.refused(Code::SessionFull, limit))?;
        let mut call = Self {
            session: session.clone(),
            name,
            replaces: Vec::new(),
            untold: 0,
            copies,
            is_sloppy: operation.level.is_sloppy(),
        };
        let seen = state.keys.entry(call.name.clone()).or_default();
        match &operation.payload {
            Payload::Get | Payload::SessionGet { .. } => {
                call.replaces = seen.tokens.clone();
                call.untold = seen.untold;
                operation.level = raised(operation.level, seen.replicas_min, copies);
                if !seen.tokens.is_empty() {
                    operation.payload = Payload::SessionGet {
                        covers: seen.tokens.clone(),
                    };
                }
            }
            // The context of a write's answer covers the one that it came with.
            Payload::Put { context, .. } | Payload::Delete { context } => {
                call.replaces = context.iter().cloned().collect();
            }
            Payload::Resolve { .. } | Payload::Scan { .. } => {}
        }
        drop(state);
        Ok(call)
    }

    /// The answer of a read covers everything that was asked for.
    pub(crate) fn read(self, read: &Read) {
        let mut state = self.session.lock();
        state.replace(&self.name, &self.replaces, Some(read.context()));
        if let Some(seen) = state.keys.get_mut(&self.name) {
            if seen.untold == self.untold {
                seen.replicas_min = 0;
            }
            if read.context().as_bytes().is_empty() {
                // Its context is too long to travel; only all replicas are sure to cover it.
                seen.replicas_min = self.copies;
                seen.untold += 1;
            }
        }
    }

    /// An applied write is remembered by its token, or else by how many replicas a read must ask
    /// to meet it.
    pub(crate) fn written(self, written: &Written) {
        let mut state = self.session.lock();
        // A retry may have met its own write superseded: the token then covers what the writer had
        // seen and not the write.
        let may_lack_itself = written.attempts() > 1;
        let context = written.context();
        let replaces: &[Context] = match context {
            Some(_) => &self.replaces,
            None => &[],
        };
        state.replace(&self.name, replaces, context);
        if let Some(seen) = state.keys.get_mut(&self.name)
            && (context.is_none() || may_lack_itself)
        {
            // Of fallbacks no read is sure to ask any: all replicas are as near as it comes.
            let acks = if self.is_sloppy { 1 } else { written.acks() };
            let misses = self.copies.saturating_sub(acks);
            seen.replicas_min = seen.replicas_min.max(misses.saturating_add(1));
            seen.untold += 1;
        }
    }
}

impl Drop for SessionCall {
    fn drop(&mut self) {
        let mut state = self.session.lock();
        if let Some(seen) = state.keys.get_mut(&self.name) {
            seen.in_flight = seen.in_flight.saturating_sub(1);
        }
        state.drop_if_empty(&self.name);
    }
}

impl State {
    /// Takes room for one more token; the limit that was met if there is none.
    fn take_room(&mut self, name: &(Arc<str>, Bytes), tokens_max: usize) -> Result<(), usize> {
        let keys = self.keys.len();
        if self.bytes >= SESSION_BYTES_MAX {
            return Err(SESSION_BYTES_MAX);
        }
        match self.keys.get_mut(name) {
            Some(seen) if seen.tokens.len() + seen.in_flight >= tokens_max => Err(tokens_max),
            Some(seen) => {
                seen.in_flight += 1;
                Ok(())
            }
            None if keys >= SESSION_KEYS_MAX => Err(SESSION_KEYS_MAX),
            None => {
                let seen = Seen {
                    in_flight: 1,
                    ..Seen::default()
                };
                self.keys.insert(name.clone(), seen);
                self.bytes += name_bytes(name);
                Ok(())
            }
        }
    }

    fn replace(&mut self, name: &(Arc<str>, Bytes), old: &[Context], new: Option<&Context>) {
        let Some(seen) = self.keys.get_mut(name) else {
            return;
        };
        let before: usize = seen.tokens.iter().map(Context::len).sum();
        seen.tokens.retain(|token| !old.contains(token));
        let new = new.filter(|token| token.len() > 0 && !seen.tokens.contains(token));
        seen.tokens.extend(new.cloned());
        let after: usize = seen.tokens.iter().map(Context::len).sum();
        self.bytes = self.bytes + after - before;
    }
}

/// The level, or as many replicas as it takes to meet a write that brought no token.
fn raised(level: ConsistencyLevel, replicas_min: u8, copies: u8) -> ConsistencyLevel {
    let asked = quorate_ring::Copies::new(copies)
        .ok()
        .and_then(|copies| level.replicas_for_read(copies).ok());
    match asked {
        Some(asked) if asked < replicas_min => {
            let raised = ConsistencyLevel::Read(replicas_min.min(copies));
            if level.is_sloppy() {
                raised.sloppy()
            } else {
                raised
            }
        }
        Some(_) | None => level,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeCluster, Fault, block_on};
    use crate::{Level, WriteError};

    #[test]
    fn a_level_is_raised_only_as_far_as_needed() {
        let cases = [
            (Level::One, 0, Level::One),
            (Level::One, 2, Level::Read(2)),
            (Level::Quorum, 2, Level::Quorum),
            (Level::Quorum, 3, Level::Read(3)),
            (Level::All, 3, Level::All),
            (Level::One.sloppy(), 2, Level::Read(2).sloppy()),
        ];
        for (level, least, want) in cases {
            assert_eq!(raised(level, least, 3), want, "{level} at least {least}");
        }
    }

    #[test]
    fn blind_writes_stop_at_the_bound_and_a_read_makes_room() {
        block_on(async {
            let client = FakeCluster::new().client(1);
            let session = client.session();
            let users = client.keyspace("default").in_session(&session);
            let mut refused = None;
            for number in 0..100 {
                match users.put_blind("k", number.to_string()).await {
                    Ok(_) => {}
                    Err(error) => {
                        refused = Some((number, error));
                        break;
                    }
                }
            }
            let (number, error) = refused.expect("the session is bounded");
            assert_eq!(number, SESSION_WRITES_MAX);
            assert!(matches!(error, WriteError::NotApplied(_)));
            assert_eq!(error.code(), Code::SessionFull);
            assert!(error.to_string().contains("read the key in the session"));
            users.get("k").await?;
            users.put_blind("k", "again").await?;
            assert_eq!(session.keys(), 1);
            Ok(())
        });
    }

    #[test]
    fn chains_take_one_token_and_what_is_forgotten_takes_nothing() {
        block_on(async {
            let client = FakeCluster::new().client(1);
            let session = client.session();
            let users = client.keyspace("default").in_session(&session);
            let mut written = users.put_blind("k", "0").await?;
            let bytes = session.bytes();
            for _ in 0..50 {
                written = users.put("k", "v").after(&written).await?;
            }
            assert!(session.bytes() < bytes + 500, "{}", session.bytes());
            session.forget("default", b"k");
            assert_eq!((session.keys(), session.bytes()), (0, 0));
            Ok(())
        });
    }

    #[test]
    fn a_full_session_refuses_new_keys_and_keeps_the_old_ones() {
        block_on(async {
            let client = FakeCluster::new().client(1);
            let session = client.session();
            let users = client.keyspace("default").in_session(&session);
            for number in 0..SESSION_KEYS_MAX {
                users.get(format!("k{number}")).await?;
            }
            let error = users.get("one more").await.expect_err("it is full");
            assert_eq!(error.code(), Code::SessionFull);
            users.get("k7").await?;
            session.forget("default", b"k8");
            users.get("one more").await?;
            Ok(())
        });
    }

    #[test]
    fn a_stale_node_is_passed_over_in_a_session_only() {
        block_on(async {
            let cluster = FakeCluster::new();
            let client = cluster.client(1);
            let plain = client.keyspace("default");
            plain.put_blind("k", "old").await?;
            for node in ["1", "2"] {
                cluster.break_node(node, Some(Fault::Stale));
            }
            let session = client.session();
            let users = plain.in_session(&session);
            let read = plain.get("k").await?;
            users.put("k", "new").after(&read).await?;
            for _ in 0..20 {
                let read = users.get("k").level(Level::One).await?;
                assert_eq!(read.value().map(|value| &value[..]), Some(&b"new"[..]));
            }
            Ok(())
        });
    }

    #[test]
    fn a_call_that_failed_or_was_dropped_leaves_nothing_behind() {
        block_on(async {
            let cluster = FakeCluster::new();
            let client = cluster.client(1);
            let session = client.session();
            let users = client.keyspace("default").in_session(&session);
            users
                .put_blind("k", vec![0; 2 << 20])
                .await
                .expect_err("too large");
            drop(std::future::IntoFuture::into_future(users.get("k")));
            assert_eq!((session.keys(), session.bytes()), (0, 0));
            Ok(())
        });
    }
}
