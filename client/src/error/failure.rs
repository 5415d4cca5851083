//! Why a read or a write failed, and what became of it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::sentence::Sentence;
use crate::retry::{GiveUp, is_final};
use crate::transport::CallError;
use crate::wire::{Code, OpId, Outcome, ReplicaState};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// A read.
    Get,
    /// A write of a value.
    Put,
    /// A write of a tombstone.
    Delete,
    /// A question what became of a write.
    Resolve,
    /// A page of a scan.
    Scan,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Get,
        Self::Put,
        Self::Delete,
        Self::Resolve,
        Self::Scan,
    ];

    /// The word for it, in sentences and in the labels of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Resolve => "resolve",
            Self::Scan => "scan",
        }
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One replica's part in a failed operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaPart {
    /// Name of the node, or its number if the topology does not know it.
    pub node: String,
    /// What it did.
    pub state: ReplicaState,
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// The node answered what was asked: this attempt succeeded.
    Succeeded,
    /// Another attempt, sent while this one was open, succeeded first. Its own end is not known.
    Outrun,
    /// The node answered with a failure.
    Refused {
        /// Why.
        code: Code,
        /// What the node says about this attempt alone.
        outcome: Outcome,
    },
    /// There was no answer.
    NoAnswer(CallError),
}

/// One attempt of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Name of the node that was asked.
    pub node: String,
    /// How it ended.
    pub end: AttemptEnd,
    /// When it was sent, since the operation began.
    pub after: Duration,
    /// How long it took.
    pub took: Duration,
    /// Whether it had to wait for a connection first.
    pub link: LinkPhase,
}

/// Whether an attempt found a connection to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkPhase {
    /// There was one.
    Open,
    /// One had to be made first: a handshake is part of the attempt's time.
    Handshake,
}

/// All that is known about a failed operation. Its text is one sentence that says what happened,
/// what became of the operation, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// What was asked for.
    pub kind: OperationKind,
    /// Name of the keyspace.
    pub keyspace: String,
    /// The key.
    pub key: Bytes,
    /// Why it failed: of several attempts, the reason of the one that decided the outcome.
    pub code: Code,
    /// What became of it, over all attempts. A read is never unknown.
    pub outcome: Outcome,
    /// Replicas that confirmed.
    pub acks: u8,
    /// Replicas that the level needs; 0 if nobody said.
    pub required: u8,
    /// What each replica did, as far as a coordinator told.
    pub replicas: Vec<ReplicaPart>,
    /// When another try makes sense, if a node said so.
    pub retry_after: Option<Duration>,
    /// The limit that was passed, in the unit of the code; 0 if there is none.
    pub limit: u64,
    /// The deadline of the whole operation.
    pub deadline: Duration,
    /// How often it was tried; 0 if it was refused locally.
    pub attempt_count: u16,
    /// The newest attempts in order, at most 64.
    pub attempts: Vec<Attempt>,
    /// Time from the call to this failure.
    pub took: Duration,
    /// Part of it that was spent waiting between attempts.
    pub waited: Duration,
    /// Why it was not tried again.
    pub gave_up: GiveUp,
    /// The identity that a write kept over all its attempts.
    pub op_id: Option<OpId>,
}

impl Failure {
    /// A failure before any attempt: certainly not applied.
    pub(crate) fn local(
        kind: OperationKind,
        keyspace: &str,
        key: &Bytes,
        code: Code,
        deadline: Duration,
    ) -> Self {
        Self {
            kind,
            keyspace: keyspace.to_owned(),
            key: key.clone(),
            code,
            outcome: Outcome::NotApplied,
            acks: 0,
            required: 0,
            replicas: Vec::new(),
            retry_after: None,
            limit: 0,
            deadline,
            attempt_count: 0,
            attempts: Vec::new(),
            took: Duration::ZERO,
            waited: Duration::ZERO,
            gave_up: GiveUp::Final,
            op_id: None,
        }
    }

    /// Whether the same call may succeed later. For a write of unknown outcome a new call is a new
    /// write, not a retry of this one: read the key first.
    #[must_use]
    pub fn may_succeed_later(&self) -> bool {
        !is_final(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Sentence(self).fmt(f)
    }
}

impl std::error::Error for Failure {}

/// Why a write was not confirmed, by what became of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// **Not applied**: certainly on no replica, now and later.
    #[error(transparent)]
    NotApplied(Box<Failure>),
    /// **Unknown**: it may be on some replicas and may still become visible.
    #[error(transparent)]
    Unknown(Box<Failure>),
}

/// Why a put was not confirmed.
pub type PutError = WriteError;

/// Why a delete was not confirmed.
pub type DeleteError = WriteError;

impl WriteError {
    pub(crate) fn from_failure(failure: Box<Failure>) -> Self {
        match failure.outcome {
            Outcome::NotApplied => Self::NotApplied(failure),
            // An applied write is no error; were one built of it, unknown is the safe word.
            Outcome::Unknown | Outcome::Applied => Self::Unknown(failure),
        }
    }

    /// What became of the write: not applied or unknown.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::NotApplied(_) => Outcome::NotApplied,
            Self::Unknown(_) => Outcome::Unknown,
        }
    }

    /// All that is known.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        match self {
            Self::NotApplied(failure) | Self::Unknown(failure) => failure,
        }
    }

    /// Why, as a stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.failure().code
    }

    /// Replicas that confirmed.
    #[must_use]
    pub fn acks(&self) -> u8 {
        self.failure().acks
    }

    /// Replicas that the level needs; 0 if nobody said.
    #[must_use]
    pub fn required(&self) -> u8 {
        self.failure().required
    }

    /// What each replica did, as far as a coordinator told.
    #[must_use]
    pub fn replicas(&self) -> &[ReplicaPart] {
        &self.failure().replicas
    }

    /// When another try makes sense, if a node said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.failure().retry_after
    }
}

/// Why a read failed. It had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// The same read would be refused again.
    #[error(transparent)]
    Refused(Box<Failure>),
    /// Too few replicas answered; the same read may succeed later.
    #[error(transparent)]
    Unavailable(Box<Failure>),
}

impl GetError {
    pub(crate) fn from_failure(failure: Box<Failure>) -> Self {
        if failure.may_succeed_later() {
            Self::Unavailable(failure)
        } else {
            Self::Refused(failure)
        }
    }

    /// A read that failed had no effect: always *not applied*.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        Outcome::NotApplied
    }

    /// All that is known.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Refused(failure) | Self::Unavailable(failure) => failure,
        }
    }

    /// Why, as a stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.failure().code
    }

    /// Replicas that answered.
    #[must_use]
    pub fn acks(&self) -> u8 {
        self.failure().acks
    }

    /// Replicas that the level needs; 0 if nobody said.
    #[must_use]
    pub fn required(&self) -> u8 {
        self.failure().required
    }

    /// What each replica did, as far as a coordinator told.
    #[must_use]
    pub fn replicas(&self) -> &[ReplicaPart] {
        &self.failure().replicas
    }

    /// When another try makes sense, if a node said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.failure().retry_after
    }
}
