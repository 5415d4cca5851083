//! How many replicas an operation must hear from, given its consistency level and N.
//!
//! A read at R and a write at W meet in at least one replica if R + W > N (Gifford, SOSP 1979;
//! Dynamo, SOSP 2007, section 4.5). A level that N cannot meet is an error, never lowered.
//!
//! At a sloppy level (`+sloppy`) fallbacks count where primaries cannot be had. The numbers stay,
//! and the overlap goes: a read may then miss a write until its fallbacks have handed it over.
//!
//! Not here: which replicas answer (`node::core`), levels that count zones.

use std::fmt;
use std::str::FromStr;

use crate::keyspace::Copies;

/// How many replicas must answer before an operation is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ConsistencyLevel {
    /// One replica.
    One,
    /// Two replicas.
    Two,
    /// More than half of the N replicas.
    #[default]
    Quorum,
    /// All N replicas.
    All,
    /// Exactly this many replicas, for reads only (`r=2`).
    Read(u8),
    /// Exactly this many replicas, for writes only (`w=2`).
    Write(u8),
    /// As many nodes as that level needs; fallbacks count (`quorum+sloppy`).
    Sloppy(StrictLevel),
}

/// A level at which primaries alone count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StrictLevel {
    /// One replica.
    One,
    /// Two replicas.
    Two,
    /// More than half of the N replicas.
    Quorum,
    /// All N replicas.
    All,
    /// Exactly this many replicas, for reads only.
    Read(u8),
    /// Exactly this many replicas, for writes only.
    Write(u8),
}

impl From<StrictLevel> for ConsistencyLevel {
    fn from(level: StrictLevel) -> Self {
        match level {
            StrictLevel::One => Self::One,
            StrictLevel::Two => Self::Two,
            StrictLevel::Quorum => Self::Quorum,
            StrictLevel::All => Self::All,
            StrictLevel::Read(count) => Self::Read(count),
            StrictLevel::Write(count) => Self::Write(count),
        }
    }
}

/// Why a level does not fit an operation. **Not applied**: no replica was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LevelError {
    /// The level needs more replicas than there are copies.
    #[error("level {level} needs {required} replicas, but the keyspace keeps {copies} copies")]
    Impossible {
        /// What was asked for.
        level: ConsistencyLevel,
        /// Replicas it needs.
        required: u8,
        /// The keyspace's N.
        copies: u8,
    },
    /// `r=0` or `w=0`: nobody would be asked.
    #[error("level {level} asks no replica; use at least 1")]
    NoReplica {
        /// What was asked for.
        level: ConsistencyLevel,
    },
    /// `w=` was given for a read.
    #[error("level {level} is for writes; a read takes one, two, quorum, all or r=")]
    WriteLevelForRead {
        /// What was asked for.
        level: ConsistencyLevel,
    },
    /// `r=` was given for a write.
    #[error("level {level} is for reads; a write takes one, two, quorum, all or w=")]
    ReadLevelForWrite {
        /// What was asked for.
        level: ConsistencyLevel,
    },
}

/// Why a word names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LevelParseError {
    /// No such level.
    #[error(
        "`{given}` is no consistency level; use one, two, quorum, all, r=COUNT or w=COUNT, also with +sloppy"
    )]
    Unknown {
        /// What was given, at most 64 characters of it.
        given: String,
    },
    /// The count of `r=` or `w=` is not a number from 1 to 255.
    #[error("`{given}`: the count must be a number from 1 to 255, as in r=2 or w=2")]
    BadCount {
        /// What was given, at most 64 characters of it.
        given: String,
    },
    /// A level that this version does not have yet.
    #[error("`{given}` comes with later work; use one, two, quorum, all, r=COUNT or w=COUNT")]
    NotYet {
        /// What was given, at most 64 characters of it.
        given: String,
    },
}

/// The smallest number that is more than half of `copies`.
#[must_use]
pub const fn majority(copies: Copies) -> u8 {
    copies.get() / 2 + 1
}

/// Whether a read of `read` replicas meets every write of `write` replicas.
#[must_use]
pub fn reads_see_writes(copies: Copies, read: u8, write: u8) -> bool {
    u16::from(read) + u16::from(write) > u16::from(copies.get())
}

/// Whether two writes of `write` replicas always share a replica.
#[must_use]
pub fn writes_meet(copies: Copies, write: u8) -> bool {
    reads_see_writes(copies, write, write)
}

/// Whether reads of `read` replicas must be monotonic: what one returned is durably on a quorum
/// before the answer, so that no later one sees less.
#[must_use]
pub const fn is_monotonic(copies: Copies, read: u8) -> bool {
    read >= majority(copies)
}

impl ConsistencyLevel {
    /// Whether fallbacks count.
    #[must_use]
    pub const fn is_sloppy(self) -> bool {
        matches!(self, Self::Sloppy(_))
    }

    /// The same with fallbacks.
    #[must_use]
    pub const fn sloppy(self) -> Self {
        match self {
            Self::One => Self::Sloppy(StrictLevel::One),
            Self::Two => Self::Sloppy(StrictLevel::Two),
            Self::Quorum => Self::Sloppy(StrictLevel::Quorum),
            Self::All => Self::Sloppy(StrictLevel::All),
            Self::Read(count) => Self::Sloppy(StrictLevel::Read(count)),
            Self::Write(count) => Self::Sloppy(StrictLevel::Write(count)),
            Self::Sloppy(_) => self,
        }
    }

    /// The same without fallbacks.
    #[must_use]
    pub fn strict(self) -> Self {
        match self {
            Self::Sloppy(level) => level.into(),
            Self::One | Self::Two | Self::Quorum | Self::All | Self::Read(_) | Self::Write(_) => {
                self
            }
        }
    }

    /// R: how many replicas a read at this level needs, 1 to N.
    ///
    /// # Errors
    /// [`LevelError`] if N is too small, the count is 0, or the level is for writes.
    pub fn replicas_for_read(self, copies: Copies) -> Result<u8, LevelError> {
        match self.strict() {
            Self::Write(_) => Err(LevelError::WriteLevelForRead { level: self }),
            Self::One | Self::Two | Self::Quorum | Self::All | Self::Read(_) | Self::Sloppy(_) => {
                self.replicas(copies)
            }
        }
    }

    /// W: how many replicas a write at this level needs, 1 to N.
    ///
    /// # Errors
    /// [`LevelError`] if N is too small, the count is 0, or the level is for reads.
    pub fn replicas_for_write(self, copies: Copies) -> Result<u8, LevelError> {
        match self.strict() {
            Self::Read(_) => Err(LevelError::ReadLevelForWrite { level: self }),
            Self::One | Self::Two | Self::Quorum | Self::All | Self::Write(_) | Self::Sloppy(_) => {
                self.replicas(copies)
            }
        }
    }

    fn replicas(self, copies: Copies) -> Result<u8, LevelError> {
        let required = match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Quorum => majority(copies),
            Self::All => copies.get(),
            Self::Read(count) | Self::Write(count) => count,
            Self::Sloppy(level) => return Self::from(level).replicas(copies),
        };
        if required == 0 {
            Err(LevelError::NoReplica { level: self })
        } else if required > copies.get() {
            Err(LevelError::Impossible {
                level: self,
                required,
                copies: copies.get(),
            })
        } else {
            Ok(required)
        }
    }
}

impl FromStr for ConsistencyLevel {
    type Err = LevelParseError;

    /// Reads the command line's words: `one`, `two`, `quorum`, `all`, `r=COUNT`, `w=COUNT`, each
    /// also with `+sloppy` behind it.
    fn from_str(text: &str) -> Result<Self, LevelParseError> {
        let given = || text.chars().take(64).collect::<String>();
        if let Some(strict) = text.strip_suffix("+sloppy") {
            return match strict.parse::<Self>() {
                Ok(level) if !level.is_sloppy() => Ok(level.sloppy()),
                Ok(_) | Err(LevelParseError::Unknown { .. }) => {
                    Err(LevelParseError::Unknown { given: given() })
                }
                Err(LevelParseError::BadCount { .. }) => {
                    Err(LevelParseError::BadCount { given: given() })
                }
                Err(LevelParseError::NotYet { .. }) => {
                    Err(LevelParseError::NotYet { given: given() })
                }
            };
        }
        let count = |digits: &str| match digits.parse::<u8>() {
            Ok(count) if count > 0 => Ok(count),
            Ok(_) | Err(_) => Err(LevelParseError::BadCount { given: given() }),
        };
        match text {
            "one" => Ok(Self::One),
            "two" => Ok(Self::Two),
            "quorum" => Ok(Self::Quorum),
            "all" => Ok(Self::All),
            "local-quorum" | "each-quorum" => Err(LevelParseError::NotYet { given: given() }),
            other => match (other.strip_prefix("r="), other.strip_prefix("w=")) {
                (Some(digits), _) => count(digits).map(Self::Read),
                (None, Some(digits)) => count(digits).map(Self::Write),
                (None, None) => Err(LevelParseError::Unknown { given: given() }),
            },
        }
    }
}

impl fmt::Display for ConsistencyLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => f.write_str("one"),
            Self::Two => f.write_str("two"),
            Self::Quorum => f.write_str("quorum"),
            Self::All => f.write_str("all"),
            Self::Read(count) => write!(f, "r={count}"),
            Self::Write(count) => write!(f, "w={count}"),
            Self::Sloppy(level) => write!(f, "{}+sloppy", Self::from(*level)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copies(n: u8) -> Copies {
        Copies::new(n).expect("at least one copy")
    }

    #[test]
    fn levels_name_the_replicas_they_need() {
        use ConsistencyLevel::{All, One, Quorum, Read, Two, Write};
        let cases = [
            (1, One, Some(1), Some(1)),
            (1, Two, None, None),
            (1, Quorum, Some(1), Some(1)),
            (2, Quorum, Some(2), Some(2)),
            (3, Two, Some(2), Some(2)),
            (3, Quorum, Some(2), Some(2)),
            (3, All, Some(3), Some(3)),
            (4, Quorum, Some(3), Some(3)),
            (5, Quorum, Some(3), Some(3)),
            (255, Quorum, Some(128), Some(128)),
            (3, Read(3), Some(3), None),
            (3, Read(4), None, None),
            (3, Read(0), None, None),
            (3, Write(1), None, Some(1)),
            (3, Write(4), None, None),
            (3, Quorum.sloppy(), Some(2), Some(2)),
            (3, Write(1).sloppy(), None, Some(1)),
            (3, Read(4).sloppy(), None, None),
        ];
        for (n, level, read, write) in cases {
            assert_eq!(
                level.replicas_for_read(copies(n)).ok(),
                read,
                "{level} of {n}"
            );
            assert_eq!(
                level.replicas_for_write(copies(n)).ok(),
                write,
                "{level} of {n}"
            );
        }
    }

    #[test]
    fn an_impossible_level_says_what_it_needs() {
        assert_eq!(
            ConsistencyLevel::Two.replicas_for_read(copies(1)),
            Err(LevelError::Impossible {
                level: ConsistencyLevel::Two,
                required: 2,
                copies: 1
            })
        );
    }

    #[test]
    fn every_level_reads_back_from_its_own_text() {
        use ConsistencyLevel::{All, One, Quorum, Read, Two, Write};
        for level in [One, Two, Quorum, All, Read(7), Write(255)] {
            assert_eq!(level.to_string().parse(), Ok(level));
            let sloppy = level.sloppy();
            assert_eq!(sloppy.to_string(), format!("{level}+sloppy"));
            assert_eq!(sloppy.to_string().parse(), Ok(sloppy));
            assert_eq!((sloppy.strict(), sloppy.sloppy()), (level, sloppy));
        }
    }

    #[test]
    fn levels_of_later_work_say_so() {
        for text in ["local-quorum", "each-quorum", "local-quorum+sloppy"] {
            let error = text.parse::<ConsistencyLevel>();
            assert_eq!(
                error,
                Err(LevelParseError::NotYet { given: text.into() }),
                "{text}"
            );
        }
    }

    #[test]
    fn other_words_are_refused() {
        for text in [
            "",
            "QUORUM",
            "three",
            "r",
            "x=2",
            "nonsense+sloppy",
            "one+sloppy+sloppy",
        ] {
            let unknown = LevelParseError::Unknown { given: text.into() };
            assert_eq!(text.parse::<ConsistencyLevel>(), Err(unknown), "{text}");
        }
        for text in ["r=", "r=0", "w=256", "w=-1", "r=two", "w=0+sloppy"] {
            let bad = LevelParseError::BadCount { given: text.into() };
            assert_eq!(text.parse::<ConsistencyLevel>(), Err(bad), "{text}");
        }
    }

    #[test]
    fn quorums_of_every_n_overlap() {
        for n in 1..=u8::MAX {
            let n = copies(n);
            let quorum = majority(n);
            assert!(reads_see_writes(n, quorum, quorum) && writes_meet(n, quorum));
            assert!(is_monotonic(n, quorum) && !is_monotonic(n, quorum - 1));
            assert!(reads_see_writes(n, 1, n.get()) && reads_see_writes(n, n.get(), 1));
            assert!(!reads_see_writes(n, n.get() - quorum, quorum));
        }
    }
}
