//! Application codes with which a side closes a connection. A number never changes its meaning.

use std::fmt;

use quinn::VarInt;

/// Why a side closed the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseCode {
    /// It needs the connection no longer.
    Done,
    /// The other side sent what is no frame, or a frame out of place.
    Hostile,
    /// The certificate does not allow what the connection is for.
    Identity,
    /// Too many connections, in all or of this principal.
    TooMany,
    /// The node is stopping.
    ShuttingDown,
    /// The other side does not read its answers.
    SlowReader,
    /// A newer connection between the same two nodes took its place.
    Replaced,
    /// The streams were not opened in time.
    Idle,
    /// Another connection of the same node is alive: two processes run under one node id.
    Rival,
    /// A code of a newer release.
    Other(u32),
}

impl From<CloseCode> for VarInt {
    fn from(code: CloseCode) -> Self {
        Self::from_u32(match code {
            CloseCode::Done => 0,
            CloseCode::Hostile => 1,
            CloseCode::Identity => 2,
            CloseCode::TooMany => 3,
            CloseCode::ShuttingDown => 4,
            CloseCode::SlowReader => 5,
            CloseCode::Replaced => 6,
            CloseCode::Idle => 7,
            CloseCode::Rival => 8,
            CloseCode::Other(number) => number,
        })
    }
}

impl From<VarInt> for CloseCode {
    fn from(number: VarInt) -> Self {
        match number.into_inner() {
            0 => Self::Done,
            1 => Self::Hostile,
            2 => Self::Identity,
            3 => Self::TooMany,
            4 => Self::ShuttingDown,
            5 => Self::SlowReader,
            6 => Self::Replaced,
            7 => Self::Idle,
            8 => Self::Rival,
            other => Self::Other(u32::try_from(other).unwrap_or(u32::MAX)),
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("connection no longer needed"),
            Self::Hostile => f.write_str("a frame could not be read"),
            Self::Identity => f.write_str("the certificate does not allow this connection"),
            Self::TooMany => f.write_str("too many connections"),
            Self::ShuttingDown => f.write_str("the node is shutting down"),
            Self::SlowReader => f.write_str("answers were not read in time"),
            Self::Replaced => f.write_str("a newer connection took its place"),
            Self::Idle => f.write_str("the streams were not opened in time"),
            Self::Rival => f.write_str("another process runs under this node id"),
            Self::Other(number) => write!(f, "close code {number}"),
        }
    }
}
