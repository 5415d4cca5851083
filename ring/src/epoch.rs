//! The order of topologies.

use std::fmt;

/// Which topology: a higher generation wins, then a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch {
    /// Raised only when a cluster is recovered after the loss of a majority.
    pub generation: u64,
    /// Raised by every change.
    pub number: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.number)
    }
}
