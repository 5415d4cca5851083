//! The words of `--consistency`, and which level a command's reads and writes get from them.

use std::str::FromStr;

use quorate_ring::{ConsistencyLevel, LevelParseError};

/// What `--consistency` said: a word for both, or `r=` and `w=` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LevelChoice {
    read: Option<ConsistencyLevel>,
    write: Option<ConsistencyLevel>,
}

/// Why the level does not fit the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LevelMisfit {
    /// `w=` alone was given where something is read.
    #[error("w= is for writes, and this reads; give r=COUNT, or both as in r=2,w=2")]
    WriteOnly,
    /// `r=` alone was given where something is written.
    #[error("r= is for reads, and this writes; give w=COUNT, or both as in r=2,w=2")]
    ReadOnly,
    /// A sloppy level was given where records are read in key order.
    #[error(
        "+sloppy is not for scans, which ask only the owners of the keys: what another node holds in their \
         place is not shown; leave +sloppy out"
    )]
    SloppyScan,
}

impl LevelChoice {
    /// The level of reads; `None`, which is the keyspace's own, if nothing was said.
    ///
    /// # Errors
    /// [`LevelMisfit`] if only `w=` was given.
    pub(super) fn for_read(self) -> Result<Option<ConsistencyLevel>, LevelMisfit> {
        match (self.read, self.write) {
            (Some(level), _) => Ok(Some(level)),
            (None, Some(_)) => Err(LevelMisfit::WriteOnly),
            (None, None) => Ok(None),
        }
    }

    /// The level of scans; `None`, which is the keyspace's own, if nothing was said.
    ///
    /// # Errors
    /// [`LevelMisfit`] if only `w=` was given, or a sloppy level.
    pub(super) fn for_scan(self) -> Result<Option<ConsistencyLevel>, LevelMisfit> {
        match self.for_read()? {
            Some(level) if level.is_sloppy() => Err(LevelMisfit::SloppyScan),
            level => Ok(level),
        }
    }

    /// The level of writes; `None`, which is the keyspace's own, if nothing was said.
    ///
    /// # Errors
    /// [`LevelMisfit`] if only `r=` was given.
    pub(super) fn for_write(self) -> Result<Option<ConsistencyLevel>, LevelMisfit> {
        match (self.read, self.write) {
            (_, Some(level)) => Ok(Some(level)),
            (Some(_), None) => Err(LevelMisfit::ReadOnly),
            (None, None) => Ok(None),
        }
    }

    /// The level of the read that comes before a write; the keyspace's own if only `w=` was given.
    pub(super) const fn before_write(self) -> Option<ConsistencyLevel> {
        self.read
    }
}

impl FromStr for LevelChoice {
    type Err = LevelParseError;

    fn from_str(text: &str) -> Result<Self, LevelParseError> {
        let mut choice = Self::default();
        let words: Vec<&str> = text.split(',').collect();
        for word in &words {
            let level: ConsistencyLevel = word.parse()?;
            let again = match level.strict() {
                ConsistencyLevel::Read(_) => choice.read.replace(level).is_some(),
                ConsistencyLevel::Write(_) => choice.write.replace(level).is_some(),
                ConsistencyLevel::One
                | ConsistencyLevel::Two
                | ConsistencyLevel::Quorum
                | ConsistencyLevel::All
                | ConsistencyLevel::Sloppy(_) => {
                    choice.read = Some(level);
                    choice.write = Some(level);
                    words.len() > 1
                }
            };
            if again {
                return Err(LevelParseError::Unknown {
                    given: text.chars().take(64).collect(),
                });
            }
        }
        Ok(choice)
    }
}

#[cfg(test)]
mod tests {
    use quorate_ring::ConsistencyLevel::{Read, Two, Write};

    use super::*;

    #[test]
    fn words_choose_the_levels_of_reads_and_writes() {
        let cases = [
            ("two", Ok(Some(Two)), Ok(Some(Two)), Some(Two)),
            (
                "r=2",
                Ok(Some(Read(2))),
                Err(LevelMisfit::ReadOnly),
                Some(Read(2)),
            ),
            (
                "two+sloppy",
                Ok(Some(Two.sloppy())),
                Ok(Some(Two.sloppy())),
                Some(Two.sloppy()),
            ),
            (
                "r=1,w=3+sloppy",
                Ok(Some(Read(1))),
                Ok(Some(Write(3).sloppy())),
                Some(Read(1)),
            ),
            ("w=3", Err(LevelMisfit::WriteOnly), Ok(Some(Write(3))), None),
            (
                "r=1,w=3",
                Ok(Some(Read(1))),
                Ok(Some(Write(3))),
                Some(Read(1)),
            ),
        ];
        for (text, read, write, before) in cases {
            let choice: LevelChoice = text.parse().expect(text);
            assert_eq!(choice.for_read(), read, "{text}");
            assert_eq!(choice.for_write(), write, "{text}");
            assert_eq!(choice.before_write(), before, "{text}");
        }
        let default = LevelChoice::default();
        assert_eq!(
            (default.for_read(), default.for_write()),
            (Ok(None), Ok(None))
        );
    }

    #[test]
    fn a_scan_is_not_sloppy() {
        let choice = |text: &str| text.parse::<LevelChoice>().expect("a level");
        assert_eq!(choice("two").for_scan(), Ok(Some(Two)));
        for text in ["two+sloppy", "r=2+sloppy", "r=1+sloppy,w=1"] {
            let level = choice(text).for_scan();
            assert_eq!(level, Err(LevelMisfit::SloppyScan), "{text}");
        }
        assert_eq!(choice("w=1").for_scan(), Err(LevelMisfit::WriteOnly));
        assert_eq!(LevelChoice::default().for_scan(), Ok(None));
    }

    #[test]
    fn words_of_later_work_say_so() {
        for text in ["local-quorum", "each-quorum"] {
            let error = text.parse::<LevelChoice>().expect_err(text);
            assert!(
                matches!(error, LevelParseError::NotYet { .. }),
                "{text}: {error}"
            );
        }
        for text in ["", "most", "r=0", "r=1,r=2", "one,two", "r=x"] {
            assert!(text.parse::<LevelChoice>().is_err(), "{text}");
        }
    }
}
