//! Why an update did not end, and what became of its change.
//!
//! Not here: the loop that ends so (`update`).

use std::time::Duration;

use crate::codec::CodecError;
use crate::error::{Failure, GetError, WriteError};
use crate::settle::Rejected;
use crate::wire::Outcome;

/// Why an update did not end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The key could not be read; nothing was written.
    #[error("update: {0}")]
    Read(#[source] GetError),
    /// The value could not be written: not applied, or unknown even after it was asked for.
    #[error("update: {0}")]
    Write(#[source] WriteError),
    /// What is there is no value of the type, or the new value has no form; nothing was written.
    #[error(
        "update of `{key}` was not applied: a value cannot be read or written as the type asked \
         for: {error}; write the key with what can be read"
    )]
    Codec {
        /// The key, as far as it can be printed.
        key: String,
        /// What is wrong.
        error: CodecError,
    },
    /// The resolver refused or panicked; nothing was written.
    #[error(
        "update of `{key}` was not applied: the resolver gave no value for {siblings} siblings: \
         {rejected}; read the key and put one value after that read"
    )]
    Rejected {
        /// The key, as far as it can be printed.
        key: String,
        /// How many siblings there are.
        siblings: usize,
        /// What it said.
        rejected: Rejected,
    },
    /// The resolver did not end before the deadline; nothing was written.
    #[error(
        "update of `{key}` was not applied: the resolver did not end within the deadline of \
         {deadline:?}; its thread goes on until it ends by itself"
    )]
    ResolverStuck {
        /// The key, as far as it can be printed.
        key: String,
        /// Time that the whole update had.
        deadline: Duration,
    },
    /// The change is applied, and siblings of others remain.
    #[error(
        "update of `{key}` is applied, but siblings remain after {writes} writes: {reason}; the \
         next update settles them"
    )]
    Unsettled {
        /// The key, as far as it can be printed.
        key: String,
        /// Writes that were made.
        writes: u32,
        /// Why it was not gone on with.
        reason: Box<Unsettled>,
    },
}

/// Why siblings remain after a change that was applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unsettled {
    /// Others wrote at the same time in every round.
    #[error("others wrote at the same time in all {rounds} rounds, or resolve otherwise")]
    Rounds {
        /// The limit.
        rounds: u32,
    },
    /// No time was left.
    #[error("the deadline of {deadline:?} passed")]
    Deadline {
        /// Time that the whole update had.
        deadline: Duration,
    },
    /// A later read or write failed, or a resolver.
    #[error("{0}")]
    Failed(#[source] UpdateError),
}

impl UpdateError {
    /// What became of the change.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Read(_)
            | Self::Codec { .. }
            | Self::Rejected { .. }
            | Self::ResolverStuck { .. } => Outcome::NotApplied,
            Self::Write(error) => error.outcome(),
            Self::Unsettled { .. } => Outcome::Applied,
        }
    }

    /// All that is known of the read or write that failed, if one did.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Read(error) => Some(error.failure()),
            Self::Write(error) => Some(error.failure()),
            Self::Codec { .. } | Self::Rejected { .. } | Self::ResolverStuck { .. } => None,
            Self::Unsettled { reason, .. } => match &**reason {
                Unsettled::Rounds { .. } | Unsettled::Deadline { .. } => None,
                Unsettled::Failed(error) => error.failure(),
            },
        }
    }
}
