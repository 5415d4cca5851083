//! The name of one write: who minted it, and the how-manieth of that actor it is.
//!
//! The counter is one per shard and not one per key, so the dots of a key rise along each actor
//! but have gaps; nothing here may conclude anything from two counters being neighbours.

use std::fmt;

use quorate_ring::Actor;

/// Highest counter that can be encoded: 2^63 - 1.
pub const COUNTER_MAX: u64 = u64::MAX >> 1;

/// One write, named by its actor and the actor's counter (1 to [`COUNTER_MAX`]).
///
/// Ordered by actor, then counter; the order of two actors means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who minted it.
    pub actor: Actor,
    /// Number of this write among the writes of the actor, from 1.
    pub counter: u64,
}

impl Dot {
    /// Whether the counter is one that can be minted and encoded.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.counter >= 1 && self.counter <= COUNTER_MAX
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}:{}",
            self.actor.node, self.actor.incarnation, self.counter
        )
    }
}
