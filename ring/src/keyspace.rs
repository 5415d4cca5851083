//! Keyspaces: name, number, mode and N. Their further options are in `keyspace_options`.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::keyspace_options::KeyspaceOptions;
use crate::node::KeyspaceId;

/// N: how many nodes hold each key of a keyspace, 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Copies(u8);

/// Why a number of copies is not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("0 copies: a keyspace keeps at least 1")]
pub struct CopiesError;

impl Copies {
    /// What a keyspace has unless it says otherwise.
    pub const DEFAULT: Self = Self(3);

    /// Checks a number of copies.
    ///
    /// # Errors
    /// [`CopiesError`] if `count` is 0.
    pub const fn new(count: u8) -> Result<Self, CopiesError> {
        if count == 0 {
            Err(CopiesError)
        } else {
            Ok(Self(count))
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a keyspace does with concurrent writes; fixed when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum KeyspaceMode {
    /// Concurrent values are kept apart until a write supersedes them.
    #[default]
    Siblings,
    /// Of two writes the one with the higher stamp stays (last write wins). Its stamps come from
    /// the clocks of clients.
    Lww,
}

/// Why a word names no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyspaceModeError {
    /// No such mode.
    #[error("`{given}` is no keyspace mode; use siblings or lww")]
    Unknown {
        /// What was given, at most 64 characters of it.
        given: String,
    },
    /// A mode that this version does not have yet.
    #[error("mode `{given}` comes with later work; use siblings or lww")]
    NotYet {
        /// What was given.
        given: String,
    },
}

impl FromStr for KeyspaceMode {
    type Err = KeyspaceModeError;

    fn from_str(text: &str) -> Result<Self, KeyspaceModeError> {
        let given = || text.chars().take(64).collect();
        match text {
            "siblings" => Ok(Self::Siblings),
            "lww" => Ok(Self::Lww),
            "strong" => Err(KeyspaceModeError::NotYet { given: given() }),
            _ => Err(KeyspaceModeError::Unknown { given: given() }),
        }
    }
}

impl fmt::Display for KeyspaceMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Siblings => f.write_str("siblings"),
            Self::Lww => f.write_str("lww"),
        }
    }
}

/// Name of a keyspace: 1 to 32 characters of `[a-z0-9_-]`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyspaceName(Arc<str>);

/// Why a text is no keyspace name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no keyspace name: use 1 to 32 of the characters a-z, 0-9, _ and -")]
pub struct KeyspaceNameError {
    /// What was given, at most 64 characters of it.
    pub given: String,
}

impl KeyspaceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets a map keyed by names be asked with plain text; `Hash` and `Eq` are those of the text.
impl Borrow<str> for KeyspaceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyspaceName {
    type Err = KeyspaceNameError;

    fn from_str(text: &str) -> Result<Self, KeyspaceNameError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if (1..=32).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(KeyspaceNameError {
                given: text.chars().take(64).collect(),
            })
        }
    }
}

impl fmt::Display for KeyspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of keys with one mode and one N.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyspace {
    /// Its number, never used again; part of every token.
    pub id: KeyspaceId,
    /// Its name.
    pub name: KeyspaceName,
    /// What it does with concurrent writes.
    pub mode: KeyspaceMode,
    /// How many copies it keeps.
    pub copies: Copies,
    /// How durable an acknowledged write is, and what an operation has that says nothing.
    pub options: KeyspaceOptions,
}
