//! Why a store did not open, told apart for who must react.

use quorate_ring::{Incarnation, Lsn, NodeName};

use crate::shell::seam::DiskError;

/// Why a store did not open. Nothing was served from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another live process holds the directory.
    #[error("{path} is locked: another process of this node is running; stop it first")]
    Locked {
        /// The directory.
        path: String,
    },
    /// The directory belongs to a node of another cluster.
    #[error(
        "the data directory belongs to another cluster; point the configuration to this node's own"
    )]
    ForeignCluster,
    /// The directory belongs to another node.
    #[error(
        "the data directory belongs to node `{found}`, not to `{expected}`; \
         point the configuration to this node's own"
    )]
    ForeignNode {
        /// Whose it is.
        found: String,
        /// Who wants to open it.
        expected: NodeName,
    },
    /// Files of another store were mixed in.
    #[error("{file} belongs to another store; it was copied here from elsewhere")]
    ForeignFile {
        /// Which file.
        file: String,
    },
    /// Another release wrote it.
    #[error("{file} has format {found}; this release reads format {supported}")]
    OtherFormat {
        /// Which file.
        file: String,
        /// Its format version.
        found: u32,
        /// The one that can be read.
        supported: u32,
    },
    /// The log ends before what the engine holds: acknowledged writes were forgotten.
    #[error(
        "the log ends at LSN {end} but the engine holds everything up to {applied}: acknowledged \
         writes were forgotten (was an old copy of the log restored?)"
    )]
    Forgot {
        /// Last frame of the log.
        end: Lsn,
        /// What the engine holds.
        applied: Lsn,
    },
    /// Something that was durable is unreadable or missing.
    #[error("the store is damaged: {what}; it was not changed")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// Something that is there could not be read: whether it is damaged is not known.
    #[error("the store cannot be read and may be damaged: {what}; it was not changed")]
    Unreadable {
        /// What the system said.
        what: String,
    },
    /// The store was damaged again before the node had back what it held in the one before.
    #[error(
        "the store is damaged again before the node had back what it lost before: {why}; what was set \
         aside then is kept in `{folder}`"
    )]
    DamagedAgain {
        /// What was found now.
        why: String,
        /// The folder that was set aside before.
        folder: String,
    },
    /// The incarnation for this start was used before.
    #[error("incarnation {0} was used before; the random source or the clock repeats itself")]
    IncarnationReused(Incarnation),
    /// The settings contradict each other or the store.
    #[error("store settings: {0}")]
    Settings(&'static str),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl OpenError {
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    /// A file that is there and cannot be read is damage: what it held cannot be known, and must
    /// not be taken for absent.
    pub(super) fn unreadable(error: DiskError) -> Self {
        match error {
            DiskError::Io { .. } => Self::Unreadable {
                what: error.to_string(),
            },
            DiskError::NotFound { .. } | DiskError::Full { .. } => Self::Disk(error),
        }
    }

    /// Whether the directory is this node's own and does not hold all that was durable in it: set
    /// aside, the node gets it back from others.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        matches!(self, Self::Forgot { .. } | Self::Damaged { .. })
    }

    /// Whether a safety check refused the directory (exit code 6), as opposed to a plain failure
    /// that may go away by itself (exit code 1).
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Locked { .. }
            | Self::ForeignCluster
            | Self::ForeignNode { .. }
            | Self::ForeignFile { .. }
            | Self::OtherFormat { .. }
            | Self::Forgot { .. }
            | Self::Damaged { .. }
            | Self::Unreadable { .. }
            | Self::DamagedAgain { .. }
            | Self::IncarnationReused(_) => true,
            Self::Settings(_) | Self::Disk(_) => false,
        }
    }
}
