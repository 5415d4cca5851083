//! The two numbers that a replica keeps of each vnode of a keyspace, so that what was purged never
//! comes back.
//!
//! Deleted records are purged in numbered rounds. A replica's *number* is that of the newest round
//! that it takes part in: it goes out with every record that it reads or makes, so that nobody
//! takes a record from before a round for one from behind it. Its *floor* is the newest round in
//! which something was purged here: a record that was read under less must not change anything.
//!
//! Not here: the rounds themselves.

/// Number of a purge round of one vnode of a keyspace; 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PurgeNumber(pub u64);

impl PurgeNumber {
    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// One above every round that a leader may have begun after this one before it lost its disk:
    /// others raise their numbers only for rounds in which they agree on something.
    #[must_use]
    pub const fn beyond_lost(self) -> Self {
        Self(self.0.saturating_add(1 << 20))
    }
}

/// What a replica keeps of one vnode of a keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PurgeNumbers {
    /// Of the newest round that it takes part in.
    pub number: PurgeNumber,
    /// Of the newest round that purged something here; never above `number`.
    pub floor: PurgeNumber,
}

impl PurgeNumbers {
    /// The higher of both, each by itself.
    #[must_use]
    pub fn highest(self, other: Self) -> Self {
        Self {
            number: self.number.max(other.number),
            floor: self.floor.max(other.floor),
        }
    }
}
