//! What one operation asks for, and what it gives back.
//!
//! Not here: how it is carried out (`perform`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_ring::ConsistencyLevel;

use crate::context::Context;
use crate::error::{Failure, OperationKind};
use crate::op_id::AttemptMark;
use crate::versions::{Read, Written};
use crate::wire::{self, Code, Request};

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) keyspace: Arc<str>,
    pub(crate) key: Bytes,
    pub(crate) payload: Payload,
    pub(crate) level: ConsistencyLevel,
    pub(crate) deadline: Duration,
    /// Hides the value of a put; `None` is the keyspace's.
    pub(crate) ttl: Option<Duration>,
    /// What follows if a write of an lww keyspace is told that it was superseded.
    pub(crate) if_superseded: IfSuperseded,
}

/// What follows if a write of an lww keyspace is told that a higher stamp was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfSuperseded {
    /// It is written again, as a new operation above that stamp, until the deadline: so an
    /// acknowledged write is never older than one that was acknowledged before it began.
    #[default]
    WriteAgain,
    /// The caller is told.
    Tell,
}

/// What is to be done with the key.
#[derive(Debug)]
pub(crate) enum Payload {
    Get,
    Put {
        value: Bytes,
        context: Option<Context>,
    },
    Delete {
        context: Option<Context>,
    },
}

impl Operation {
    pub(crate) const fn kind(&self) -> OperationKind {
        match self.payload {
            Payload::Get => OperationKind::Get,
            Payload::Put { .. } => OperationKind::Put,
            Payload::Delete { .. } => OperationKind::Delete,
        }
    }

    /// Whether it leaves something behind.
    pub(super) const fn is_write(&self) -> bool {
        match self.payload {
            Payload::Get => false,
            Payload::Put { .. } | Payload::Delete { .. } => true,
        }
    }

    /// A failure before any attempt.
    pub(crate) fn refused(&self, code: Code, limit: usize) -> Box<Failure> {
        let mut failure =
            Failure::local(self.kind(), &self.keyspace, &self.key, code, self.deadline);
        failure.limit = u64::try_from(limit).unwrap_or(u64::MAX);
        Box::new(failure)
    }

    /// One attempt as it travels.
    pub(super) fn request(
        &self,
        level: wire::Level,
        mark: AttemptMark,
        stamp: Option<u64>,
    ) -> Request {
        let (keyspace, key) = (self.keyspace.to_string(), self.key.clone());
        let AttemptMark {
            op_id,
            number: attempt,
            age_ms,
        } = mark;
        match &self.payload {
            Payload::Get => Request::Get(wire::Get {
                keyspace,
                key,
                level,
            }),
            Payload::Put { value, context } => Request::Put(wire::Put {
                keyspace,
                key,
                value: value.clone(),
                context: context.as_ref().map(Context::to_wire),
                level,
                op_id,
                attempt,
                age_ms,
                stamp,
                ttl_ms: self.ttl.map(whole_millis),
            }),
            Payload::Delete { context } => Request::Delete(wire::Delete {
                keyspace,
                key,
                context: context.as_ref().map(Context::to_wire),
                level,
                op_id,
                attempt,
                age_ms,
                stamp,
            }),
        }
    }
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The answer to an operation that succeeded.
pub(crate) enum Done {
    Read(Read),
    Written(Written),
}

impl Done {
    /// The answer to a get.
    pub(crate) fn into_read(self) -> Option<Read> {
        match self {
            Self::Read(read) => Some(read),
            Self::Written(_) => None,
        }
    }

    /// The answer to a write.
    pub(crate) fn into_written(self) -> Option<Written> {
        match self {
            Self::Written(written) => Some(written),
            Self::Read(_) => None,
        }
    }
}

/// The level as it travels; `None` for a count that does not fit.
pub(crate) const fn wire_level(level: ConsistencyLevel) -> Option<wire::Level> {
    Some(match level {
        ConsistencyLevel::One => wire::Level::One,
        ConsistencyLevel::Two => wire::Level::Two,
        ConsistencyLevel::Quorum => wire::Level::Quorum,
        ConsistencyLevel::All => wire::Level::All,
        ConsistencyLevel::Read(count) | ConsistencyLevel::Write(count) => {
            if count == 0 || count > 127 {
                return None;
            }
            wire::Level::Exactly(count)
        }
    })
}
