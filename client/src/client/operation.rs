//! What one operation asks for, and what it gives back.
//!
//! Not here: how it is carried out (`perform`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_ring::{ConsistencyLevel, StrictLevel};

use crate::context::Context;
use crate::diagnostics::Diagnostics;
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
    pub(crate) attempts: AttemptLimits,
    /// Hides the value of a put; `None` is the keyspace's.
    pub(crate) ttl: Option<Duration>,
    /// What follows if a write of an lww keyspace is told that it was superseded.
    pub(crate) if_superseded: IfSuperseded,
}

/// What holds for each attempt, and whether they are told of when all went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct AttemptLimits {
    /// Longest time for one; the SDK decides if unset.
    pub(crate) deadline: Option<Duration>,
    /// Most of them; the SDK decides if unset.
    pub(crate) count_max: Option<u16>,
    pub(crate) diagnose: Diagnose,
}

/// Whether a reply carries its diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Diagnose {
    #[default]
    No,
    Yes,
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
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    Get,
    Put {
        value: Bytes,
        context: Option<Context>,
    },
    Delete {
        context: Option<Context>,
    },
    /// A get whose answer covers these.
    SessionGet {
        covers: Vec<Context>,
    },
    Resolve {
        op_id: wire::OpId,
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
            Payload::Get | Payload::SessionGet { .. } => OperationKind::Get,
            Payload::Resolve { .. } => OperationKind::Resolve,
            Payload::Put { .. } => OperationKind::Put,
            Payload::Delete { .. } => OperationKind::Delete,
            Payload::Scan { .. } => OperationKind::Scan,
        }
    }

    /// Whether it leaves something behind.
    pub(super) const fn is_write(&self) -> bool {
        match self.payload {
            Payload::Get
            | Payload::SessionGet { .. }
            | Payload::Resolve { .. }
            | Payload::Scan { .. } => false,
            Payload::Put { .. } | Payload::Delete { .. } => true,
        }
    }

    /// Whether its level counts replicas that hold, not replicas that answer.
    pub(super) const fn has_write_level(&self) -> bool {
        match self.payload {
            Payload::Get | Payload::SessionGet { .. } | Payload::Scan { .. } => false,
            Payload::Put { .. } | Payload::Delete { .. } | Payload::Resolve { .. } => true,
        }
    }

    pub(super) const fn is_scan(&self) -> bool {
        match self.payload {
            Payload::Scan { .. } => true,
            Payload::Get
            | Payload::SessionGet { .. }
            | Payload::Put { .. }
            | Payload::Delete { .. }
            | Payload::Resolve { .. } => false,
        }
    }

    /// About how many bytes it adds to a request.
    pub(super) fn bytes(&self) -> usize {
        let of_context = |context: &Option<Context>| context.as_ref().map_or(0, Context::len);
        let payload = match &self.payload {
            Payload::Get | Payload::Scan { .. } | Payload::Resolve { .. } => 0,
            Payload::SessionGet { covers } => covers.iter().map(Context::len).sum(),
            Payload::Put { value, context } => value.len() + of_context(context),
            Payload::Delete { context } => of_context(context),
        };
        self.keyspace.len() + self.key.len() + payload
    }

    /// Whether an attempt of `outcome` leaves the outcome of a write open. A resolve that fails
    /// says nothing about the write.
    pub(super) const fn outcome_of(&self, attempt: wire::Outcome) -> wire::Outcome {
        match self.payload {
            Payload::Get | Payload::SessionGet { .. } | Payload::Scan { .. } => {
                wire::Outcome::NotApplied
            }
            Payload::Put { .. } | Payload::Delete { .. } => attempt,
            Payload::Resolve { .. } => wire::Outcome::Unknown,
        }
    }

    /// The write that it is about.
    pub(super) fn op_id(&self, own: wire::OpId) -> Option<wire::OpId> {
        match self.payload {
            Payload::Get | Payload::SessionGet { .. } | Payload::Scan { .. } => None,
            Payload::Put { .. } | Payload::Delete { .. } => Some(own),
            Payload::Resolve { op_id } => Some(op_id),
        }
    }

    /// A failure before any attempt.
    pub(crate) fn refused(&self, code: Code, limit: usize) -> Box<Failure> {
        let mut failure =
            Failure::local(self.kind(), &self.keyspace, &self.key, code, self.deadline);
        failure.outcome = self.outcome_of(wire::Outcome::NotApplied);
        failure.op_id = match self.payload {
            Payload::Resolve { op_id } => Some(op_id),
            Payload::Get
            | Payload::SessionGet { .. }
            | Payload::Scan { .. }
            | Payload::Put { .. }
            | Payload::Delete { .. } => None,
        };
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
            Payload::SessionGet { covers } => Request::SessionGet(wire::SessionGet {
                keyspace,
                key,
                level,
                covers: covers.iter().map(Context::to_wire).collect(),
            }),
            Payload::Resolve { op_id } => Request::Resolve(wire::Resolve {
                keyspace,
                key,
                level,
                op_id: *op_id,
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

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The answer to an operation that succeeded.
pub(crate) enum Done {
    Read(Read),
    Written(Written),
    Page(wire::ScanPage),
}

impl Done {
    /// The same with how often a write was sent.
    pub(super) fn with_attempts(self, attempts: u16) -> Self {
        match self {
            Self::Written(written) => Self::Written(written.with_attempts(attempts)),
            other @ (Self::Read(_) | Self::Page(_)) => other,
        }
    }

    /// The same with the way that led to it.
    pub(super) fn with_diagnostics(self, diagnostics: Diagnostics) -> Self {
        match self {
            Self::Read(read) => Self::Read(read.with_diagnostics(diagnostics)),
            Self::Written(written) => Self::Written(written.with_diagnostics(diagnostics)),
            Self::Page(page) => Self::Page(page),
        }
    }

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
pub(crate) fn wire_level(level: ConsistencyLevel) -> Option<wire::Level> {
    Some(match level {
        ConsistencyLevel::Sloppy(level) => wire::Level::Sloppy(match level {
            StrictLevel::One => wire::StrictLevel::One,
            StrictLevel::Two => wire::StrictLevel::Two,
            StrictLevel::Quorum => wire::StrictLevel::Quorum,
            StrictLevel::All => wire::StrictLevel::All,
            StrictLevel::Read(count) | StrictLevel::Write(count) => {
                if !(1..=wire::SLOPPY_COUNT_MAX).contains(&count) {
                    return None;
                }
                wire::StrictLevel::Exactly(count)
            }
        }),
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
