//! Why a request failed, and what that says about its effect.
//!
//! The shell maps a [`Cause`] to the stable code of the wire, one to one.

use quorate_ring::NodeId;

/// What became of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effectiveness {
    /// Certainly on no replica, now and later. Every failed read.
    NotApplied,
    /// It may be on some replicas and may still become visible.
    Unknown,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Too few replicas confirmed before the deadline.
    QuorumNotReached,
    /// Too few replicas are up; nothing was asked.
    Unavailable,
    /// The deadline passed before the work was done.
    DeadlineExceeded,
    /// Too many requests or bytes in flight.
    Overloaded,
    /// The disk is nearly full.
    DiskFull,
    /// No room to hold more in place of owners.
    GuestsFull,
    /// This node alone has a copy, and lost its disk.
    CopyLost,
    /// No co-replica has been heard yet.
    NotReady,
    /// The node is stopping.
    ShuttingDown,
    /// The other side acts under another epoch.
    EpochMismatch,
    /// The key is empty or too long.
    KeyInvalid,
    /// The value is too long.
    ValueTooLarge,
    /// The put would leave more siblings than a record may have.
    TooManySiblings,
    /// The put would leave a record over its size limit.
    RecordTooLarge,
    /// The put would leave a context over its size limit.
    ContextFull,
    /// No keyspace of that name.
    KeyspaceUnknown,
    /// The level needs more replicas than the keyspace has.
    LevelImpossible,
    /// The context is altered, of another key, or too long.
    ContextInvalid,
    /// The first attempt is older than the longest retry time.
    AttemptTooOld,
    /// The record is below the replica's floor and would change something there.
    BelowFloor,
    /// The payload's form is not supported.
    PayloadUnsupported,
    /// The range is damaged here.
    Damaged,
    /// No replica that could be asked knows the operation.
    OperationNotSeen,
    /// The replicas that answered are behind what the session has seen.
    SessionBehind,
    /// No owner that answered knows the writes that the context names.
    ContextAhead,
    /// The operation is one of another keyspace mode.
    WrongMode,
    /// The TTL is 0 or too long.
    TtlInvalid,
    /// The stamp is too far ahead of this node's clock.
    StampAhead,
    /// This node's clock is too far off its peers' for a TTL, or not known to be near them yet.
    ClockOff,
    /// The token of a scan is altered, or of another keyspace or range.
    ScanTokenInvalid,
    /// A bound of a scan's range is too long, or its end lies in front of its start.
    RangeInvalid,
    /// The batch has no items, or too many.
    BatchTooLarge,
    /// The batch names a key twice.
    BatchItemRepeated,
    /// The answer to the batch has no room for this item.
    BatchAnswerFull,
}

/// One replica's part in a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaPart {
    /// Confirmed.
    Confirmed,
    /// Asked, no answer in time.
    Silent,
    /// Known to be down; not asked.
    Down,
    /// Up, but refused or does not count.
    Refused,
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub cause: Cause,
    /// What it says about the effect.
    pub effect: Effectiveness,
    /// Replicas that confirmed.
    pub acks: u8,
    /// Replicas that the level needs; 0 where the level was not reached in judging.
    pub required: u8,
    /// What each replica did.
    pub replicas: Vec<(NodeId, ReplicaPart)>,
    /// Milliseconds after which another try makes sense; 0 = no advice.
    pub retry_after_ms: u32,
    /// The limit that was passed, in the unit of the cause; 0 if there is none.
    pub limit: u64,
}

impl Failure {
    /// A refusal before anything was done.
    #[must_use]
    pub fn refused(cause: Cause) -> Self {
        Self {
            cause,
            effect: Effectiveness::NotApplied,
            acks: 0,
            required: 0,
            replicas: Vec::new(),
            retry_after_ms: 0,
            limit: 0,
        }
    }

    /// The same with the limit that was passed.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit as u64;
        self
    }
}
