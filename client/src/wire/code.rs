//! Stable error codes. A number is never used twice and never changes its meaning.

use serde::{Deserialize, Serialize};

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Outcome {
    /// Enough replicas hold it, as durable as its keyspace promises.
    Applied,
    /// Certainly on no replica, now and later.
    NotApplied,
    /// It may be on some replicas and may still become visible.
    Unknown,
}

impl From<Outcome> for u8 {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Applied => 0,
            Outcome::NotApplied => 1,
            Outcome::Unknown => 2,
        }
    }
}

impl TryFrom<u8> for Outcome {
    type Error = String;

    fn try_from(byte: u8) -> Result<Self, String> {
        match byte {
            0 => Ok(Self::Applied),
            1 => Ok(Self::NotApplied),
            2 => Ok(Self::Unknown),
            other => Err(format!("{other} is no outcome")),
        }
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a request failed. The number is what travels; the name is what people read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(into = "u16", from = "u16")]
        #[non_exhaustive]
        pub enum Code {
            $($(#[doc = $doc])* $name,)*
            /// A code of a newer release, by its number.
            Other(u16),
        }

        impl Code {
            /// Every code of this release.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name that commands, drivers and metrics print.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* Self::Other(_) => "OTHER" }
            }
        }

        impl Code {
            /// What it means, in a sentence or two.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc,)*).trim_start(),)*
                    Self::Other(_) => "A code of a newer release.",
                }
            }

            /// The code of that name.
            #[must_use]
            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.name().eq_ignore_ascii_case(name))
            }
        }

        impl From<Code> for u16 {
            fn from(code: Code) -> u16 {
                match code { $(Code::$name => $number,)* Code::Other(number) => number }
            }
        }

        impl From<u16> for Code {
            fn from(number: u16) -> Self {
                match number { $($number => Self::$name,)* other => Self::Other(other) }
            }
        }
    };
}

codes! {
    /// Too few replicas confirmed before the deadline. The outcome of a write is unknown.
    QuorumNotReached = 1, "QUORUM_NOT_REACHED";
    /// Too few replicas are up, so the level cannot be met; nothing was asked.
    Unavailable = 2, "UNAVAILABLE";
    /// The deadline passed before the work was done.
    DeadlineExceeded = 3, "DEADLINE_EXCEEDED";
    /// The node has too many requests or bytes in flight; try again after the advice.
    Overloaded = 4, "OVERLOADED";
    /// The node's disk is nearly full; it takes no writes.
    DiskFull = 5, "DISK_FULL";
    /// The node has not yet heard from its co-replicas; try another or try again.
    NotReady = 6, "NOT_READY";
    /// The node is shutting down.
    ShuttingDown = 7, "SHUTTING_DOWN";
    /// Requester and node disagree about the topology's epoch.
    EpochMismatch = 8, "EPOCH_MISMATCH";
    /// The link to the node broke while the request was under way.
    ConnectionLost = 9, "CONNECTION_LOST";
    /// No connection to any seed could be made.
    ConnectFailed = 10, "CONNECT_FAILED";

    /// The key is empty or too long.
    KeyInvalid = 20, "KEY_INVALID";
    /// The value is too long.
    ValueTooLarge = 21, "VALUE_TOO_LARGE";
    /// The put would leave more siblings than a record may have.
    TooManySiblings = 22, "TOO_MANY_SIBLINGS";
    /// The put would leave a record over its size limit.
    RecordTooLarge = 23, "RECORD_TOO_LARGE";
    /// The put would leave a context over its size limit.
    ContextFull = 24, "CONTEXT_FULL";
    /// No keyspace of that name.
    KeyspaceUnknown = 25, "KEYSPACE_UNKNOWN";
    /// The level needs more replicas than the keyspace has.
    LevelImpossible = 26, "LEVEL_IMPOSSIBLE";
    /// The context is altered, of another key or keyspace, or too long.
    ContextInvalid = 27, "CONTEXT_INVALID";
    /// The first attempt is older than the longest retry time; what became of it is unknown.
    AttemptTooOld = 28, "ATTEMPT_TOO_OLD";
    /// The request cannot be read or is of an unknown kind.
    RequestInvalid = 29, "REQUEST_INVALID";
    /// The client's certificate has not the role that the request needs.
    RoleRefused = 30, "ROLE_REFUSED";

    /// The range is damaged on this replica and not answered from it.
    Damaged = 40, "DAMAGED";
    /// A bug in the node; it has stopped serving the request.
    Internal = 41, "INTERNAL";
    /// The record is below the replica's floor and would change something there (between nodes).
    BelowFloor = 42, "BELOW_FLOOR";
    /// The payload's form is not supported by the replica (between nodes).
    PayloadUnsupported = 43, "PAYLOAD_UNSUPPORTED";

    /// The token of a scan is altered, or of another keyspace, range or cluster.
    ScanTokenInvalid = 50, "SCAN_TOKEN_INVALID";
    /// A bound of a scan's range or its prefix is over 1,024 bytes, or the end lies before the
    /// start.
    RangeInvalid = 51, "RANGE_INVALID";
    /// The batch has no items, or more than 1,000.
    BatchTooLarge = 52, "BATCH_TOO_LARGE";
    /// The batch names a key twice, and nothing says which of the two should win.
    BatchItemRepeated = 53, "BATCH_ITEM_REPEATED";
    /// The answer to a batch is full; this item was not read and is to be asked for again.
    BatchAnswerFull = 54, "BATCH_ANSWER_FULL";

    /// The operation is one of another keyspace mode: a context in an lww keyspace, a stamp
    /// elsewhere.
    WrongMode = 60, "WRONG_MODE";
    /// The TTL is 0 or over ten years.
    TtlInvalid = 61, "TTL_INVALID";
    /// The write's stamp is more than 500 ms ahead of the node's clock.
    StampAhead = 62, "STAMP_AHEAD";
    /// The node's clock is more than 500 ms off its peers', or not compared with them yet: it takes
    /// no write with a TTL.
    ClockOff = 63, "CLOCK_OFF";
    /// No replica that could be asked knows the operation; what became of it stays unknown.
    OperationNotSeen = 64, "OPERATION_NOT_SEEN";
    /// The replicas that answered are behind what the session has seen.
    SessionBehind = 65, "SESSION_BEHIND";
    /// The session remembers as much as it may (in the SDK).
    SessionFull = 66, "SESSION_FULL";
    /// The owners that answered do not know the writes that the context names.
    ContextAhead = 67, "CONTEXT_AHEAD";
    /// A node that is up was to be declared lost.
    NodeUp = 68, "NODE_UP";
    /// A node that stands in for owners holds as much for them as it may.
    GuestsFull = 69, "GUESTS_FULL";
    /// The only node that has a copy of the key lost its disk.
    CopyLost = 70, "COPY_LOST";
}

impl Code {
    /// What to do about a failure with this code when no other advice came with it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::KeyInvalid => "use another key",
            Self::ValueTooLarge => "split the value",
            Self::TooManySiblings | Self::RecordTooLarge | Self::ContextFull => {
                "read the key and put one value after that read"
            }
            Self::KeyspaceUnknown => "`quorate status` lists the keyspaces",
            Self::LevelImpossible => "choose a level that the keyspace can meet",
            Self::ContextInvalid => "read the key and write after that read",
            Self::SessionFull => {
                "read the key in the session, forget keys that the session needs no more, or begin \
                 another session"
            }
            Self::SessionBehind => {
                "the replicas that hold what was seen are down or slow: try again, or read outside \
                 of the session"
            }
            Self::ContextAhead => {
                "the replicas that hold what was read are down or slow: try again, or read the key \
                 at the level of the write and write after that read"
            }
            Self::WrongMode => {
                "in an lww keyspace write without a context, and outside of sessions"
            }
            Self::NodeUp => {
                "a node that answers has its disk; stop it if its disk is to be given up"
            }
            Self::TtlInvalid => "use another TTL, or none",
            Self::StampAhead | Self::ClockOff => "set the clocks right, then try again",
            Self::ScanTokenInvalid => "begin the scan anew",
            Self::RangeInvalid => "use another range",
            Self::BatchTooLarge => "split the batch",
            Self::BatchItemRepeated => "name each key once",
            Self::BatchAnswerFull => "ask for the item again",
            Self::RoleRefused => "use a client certificate with the role it needs",
            Self::RequestInvalid | Self::Other(_) => {
                "use a client of the same release as the cluster"
            }
            Self::ConnectFailed => "check that the nodes run and can be reached",
            Self::DiskFull => "free space on the nodes or add some",
            Self::GuestsFull => {
                "bring the owners back, or let nodes hold more for them (`guest_bytes_max`)"
            }
            Self::CopyLost => {
                "bring its disk back, or give it up: `quorate status` names the node and the command"
            }
            Self::Damaged | Self::Internal | Self::BelowFloor | Self::PayloadUnsupported => {
                "see the log of that node"
            }
            Self::QuorumNotReached
            | Self::Unavailable
            | Self::DeadlineExceeded
            | Self::Overloaded
            | Self::NotReady
            | Self::ShuttingDown
            | Self::EpochMismatch
            | Self::ConnectionLost
            | Self::AttemptTooOld
            | Self::OperationNotSeen => {
                "try again, with a longer deadline or a lower level if it persists"
            }
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
