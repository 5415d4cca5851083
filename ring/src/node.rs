//! Who takes part: node ids and names, zones, weights, incarnations, actors.
//!
//! A node has two ids. Its *name* (`[a-z0-9-]{1,32}`) is what people, certificates and files use.
//! Its *number* ([`NodeId`]) is given once by the topology and is what dots carry: four bytes
//! instead of up to 32 in every context entry. Neither is ever used twice.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Number of a node, given by the topology when it first joins and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of a keyspace, given by the topology when it is created and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyspaceId(pub u32);

/// One life of a node's memory: 64 bits that were never used before.
///
/// The high half is the second in which it was drawn, the low half is random. The order of two
/// incarnations means nothing; which follows which is told by the timeline alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Who mints dots: one incarnation of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// The node.
    pub node: NodeId,
    /// The life of its memory.
    pub incarnation: Incarnation,
}

/// Log sequence number: the position of a frame in a shard's log, from 1, without holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first frame.
    pub const ZERO: Self = Self(0);

    /// The next frame's number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Name of a node: 1 to 32 characters of `[a-z0-9-]`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// Why a text is no node name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no node id: use 1 to 32 of the characters a-z, 0-9 and -")]
pub struct NodeNameError {
    /// What was given.
    pub given: String,
}

impl NodeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets a map keyed by names be asked with plain text; `Hash` and `Eq` are those of the text.
impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        let fits = (1..=32).contains(&text.len());
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if fits && text.bytes().all(plain) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(NodeNameError {
                given: text.chars().take(64).collect(),
            })
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Failure domain of a node, such as a rack or a data centre. Nodes without one share the empty
/// zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zone(pub String);

/// Relative share of data that a node should hold: finite and above zero.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Weight(f64);

/// Why a number is no weight.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("weight {given} is not usable: a weight is a finite number above 0")]
pub struct WeightError {
    /// What was given.
    pub given: f64,
}

impl Weight {
    /// The weight of a node that names none.
    pub const ONE: Self = Self(1.0);

    /// Checks a weight.
    ///
    /// # Errors
    /// [`WeightError`] if `value` is zero, negative, infinite or not a number.
    pub fn new(value: f64) -> Result<Self, WeightError> {
        if value.is_finite() && value > 0.0 {
            Ok(Self(value))
        } else {
            Err(WeightError { given: value })
        }
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> f64 {
        self.0
    }
}
