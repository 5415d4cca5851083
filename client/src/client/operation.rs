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
    /// A page of a scan that begins at the key.
    Scan {
        end: Option<Bytes>,
        token: Option<wire::ScanToken>,
        limit: u32,
    },
}

impl Operation {
    pub(crate) const fn kind(&self) -> OperationKind {
        match self.payload {
            Payload::Get => OperationKind::Get,
            Payload::Put { .. } => OperationKind::Put,
            Payload::Delete { .. } => OperationKind::Delete,
            Payload::Scan { .. } => OperationKind::Scan,
        }
    }

    /// Whether it leaves something behind.
    pub(super) const fn is_write(&self) -> bool {
        match self.payload {
            Payload::Get | Payload::Scan { .. } => false,
            Payload::Put { .. } | Payload::Delete { .. } => true,
        }
    }

    pub(super) const fn is_scan(&self) -> bool {
        match self.payload {
            Payload::Scan { .. } => true,
            Payload::Get | Payload::Put { .. } | Payload::Delete { .. } => false,
        }
    }

    /// About how many bytes it adds to a request.
    pub(super) fn bytes(&self) -> usize {
        let payload = match &self.payload {
            Payload::Get | Payload::Scan { .. } => 0,
            Payload::Put { value, context } => {
                value.len() + context.as_ref().map_or(0, |c| c.to_wire().0.len())
            }
            Payload::Delete { context } => context.as_ref().map_or(0, |c| c.to_wire().0.len()),
        };
        self.keyspace.len() + self.key.len() + payload
    }

    /// A failure before any attempt.
    pub(crate) fn refused(&self, code: Code, limit: usize) -> Box<Failure> {
        let mut failure =
            Failure::local(self.kind(), &self.keyspace, &self.key, code, self.deadline);
        failure.limit = u64::try_from(limit).unwrap_or(u64::MAX);
        Box::new(failure)
    }

    /// One attempt as it travels.
    pub(super) fn request(&self, level: wire::Level, mark: AttemptMark) -> Request {
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
            }),
            Payload::Delete { context } => Request::Delete(wire::Delete {
                keyspace,
                key,
                context: context.as_ref().map(Context::to_wire),
                level,
                op_id,
                attempt,
                age_ms,
            }),
            Payload::Scan { end, token, limit } => Request::Scan(wire::Scan {
                keyspace,
                start: key,
                end: end.clone(),
                token: token.clone(),
                limit: *limit,
                level,
            }),
        }
    }
}

/// The answer to an operation that succeeded.
pub(crate) enum Done {
    Read(Read),
    Written(Written),
    Page(wire::ScanPage),
}

impl Done {
    /// The answer to a get.
    pub(crate) fn into_read(self) -> Option<Read> {
        match self {
            Self::Read(read) => Some(read),
            Self::Written(_) | Self::Page(_) => None,
        }
    }

    /// The answer to a write.
    pub(crate) fn into_written(self) -> Option<Written> {
        match self {
            Self::Written(written) => Some(written),
            Self::Read(_) | Self::Page(_) => None,
        }
    }

    /// The answer to a page of a scan.
    pub(crate) fn into_page(self) -> Option<wire::ScanPage> {
        match self {
            Self::Page(page) => Some(page),
            Self::Read(_) | Self::Written(_) => None,
        }
    }
}

/// The level as it travels; `None` for a count that does not fit.
pub(super) const fn wire_level(level: ConsistencyLevel) -> Option<wire::Level> {
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
