//! What a keyspace promises and assumes beside mode and N: durability, default levels, default TTL.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::keyspace::Copies;
use crate::quorum::{ConsistencyLevel, LevelError};

/// When a replica may acknowledge a write; fixed when the keyspace is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Durability {
    /// When it is synced: it survives power loss.
    #[default]
    Disk,
    /// When it is applied: it survives kill -9 of fewer than W nodes, not power loss of W.
    Memory,
}

/// Why a word names no durability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no durability; use disk or memory")]
pub struct DurabilityError {
    /// What was given, at most 64 characters of it.
    pub given: String,
}

impl FromStr for Durability {
    type Err = DurabilityError;

    fn from_str(text: &str) -> Result<Self, DurabilityError> {
        match text {
            "disk" => Ok(Self::Disk),
            "memory" => Ok(Self::Memory),
            _ => Err(DurabilityError {
                given: text.chars().take(64).collect(),
            }),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk => f.write_str("disk"),
            Self::Memory => f.write_str("memory"),
        }
    }
}

/// Time to live of a value: 1 ms to ten years, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(u64);

/// Why a time is no time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a TTL of {millis} ms cannot be: it is 1 ms to ten years ({} ms)",
    Ttl::MILLIS_MAX
)]
pub struct TtlError {
    /// What was given, in milliseconds.
    pub millis: u64,
}

impl Ttl {
    /// Longest TTL in milliseconds: ten years of 365 days.
    pub const MILLIS_MAX: u64 = 10 * 365 * 86_400 * 1_000;

    /// Checks a number of milliseconds.
    ///
    /// # Errors
    /// [`TtlError`] if it is 0 or over ten years.
    pub const fn from_millis(millis: u64) -> Result<Self, TtlError> {
        if millis == 0 || millis > Self::MILLIS_MAX {
            Err(TtlError { millis })
        } else {
            Ok(Self(millis))
        }
    }

    /// Checks a duration; what is below a millisecond is cut.
    ///
    /// # Errors
    /// [`TtlError`] if it is under a millisecond or over ten years.
    pub fn from_duration(duration: Duration) -> Result<Self, TtlError> {
        Self::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    /// In milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// In microseconds, the unit of stamps.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0 * 1_000
    }

    /// As a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// What a keyspace has beside name, mode and N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyspaceOptions {
    /// When a write is acknowledged.
    pub durability: Durability,
    /// R of reads that name no level.
    pub read_level: ConsistencyLevel,
    /// W of writes that name no level.
    pub write_level: ConsistencyLevel,
    /// TTL of puts that name none; `None` = they never expire.
    pub ttl: Option<Ttl>,
}

impl KeyspaceOptions {
    /// Whether the default levels can be met with `copies` and are of the right kind.
    ///
    /// # Errors
    /// [`LevelError`] of the read level, then of the write level.
    pub fn check_levels(&self, copies: Copies) -> Result<(), LevelError> {
        self.read_level.replicas_for_read(copies)?;
        self.write_level.replicas_for_write(copies)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_a_millisecond_to_ten_years() {
        let most = Ttl::MILLIS_MAX;
        for (millis, fits) in [(0, false), (1, true), (most, true), (most + 1, false)] {
            assert_eq!(Ttl::from_millis(millis).is_ok(), fits, "{millis}");
        }
        assert!(Ttl::from_duration(Duration::from_micros(999)).is_err());
        assert!(Ttl::from_duration(Duration::MAX).is_err());
    }

    #[test]
    fn durabilities_have_words() {
        for durability in [Durability::Disk, Durability::Memory] {
            assert_eq!(durability.to_string().parse(), Ok(durability));
        }
        assert!("tape".parse::<Durability>().is_err());
    }
}
