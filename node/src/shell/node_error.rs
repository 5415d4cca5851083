//! Why a node does not start or does not go on, and whether that is a refusal of a safety check.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::serve::http::HttpError;
use super::store::MARK;
use crate::core::effect::StopReason;

/// Why a node does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The QUIC port cannot be bound.
    #[error("cannot listen for QUIC on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The HTTP port cannot be bound, or failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A certificate, key or authority is missing, malformed, expired, foreign or another node's.
    #[error("{}: {reason}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another live process uses the data directory.
    #[error("{} is in use by a running node", path.display())]
    DirectoryLocked {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory belongs to another node or another cluster.
    #[error("{} belongs to {found}, not to {expected}", path.display())]
    DirectoryForeign {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who wants it.
        expected: String,
    },
    /// The data directory was written by another release.
    #[error("{} has format {found}; this release reads format {supported}", path.display())]
    DirectoryFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The one that can be read.
        supported: u32,
    },
    /// The store is damaged again before the node had back what it lost before.
    #[error(
        "the store in {} is damaged again before the node had back what it lost before: {why}; what was \
         set aside then is kept in {}",
        path.display(),
        path.join(folder).display()
    )]
    DamagedAgain {
        /// The data directory.
        path: PathBuf,
        /// What was found now.
        why: String,
        /// The folder in it to which the store before was moved.
        folder: String,
    },
    /// The store or its peers show that it forgot or is damaged.
    #[error(transparent)]
    Stopped(#[from] StopReason),
    /// Something of the system failed.
    #[error("{doing}: {reason}")]
    System {
        /// What was done.
        doing: &'static str,
        /// What the system said.
        reason: String,
    },
}

impl NodeError {
    /// Whether a safety check refused; else it is a failure that another try may cure.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Certificate { .. }
            | Self::DirectoryLocked { .. }
            | Self::DirectoryForeign { .. }
            | Self::DirectoryFormat { .. }
            | Self::DamagedAgain { .. }
            | Self::Stopped(
                StopReason::Forgot { .. }
                | StopReason::ActorAhead { .. }
                | StopReason::Rival { .. }
                | StopReason::EngineDamaged { .. }
                | StopReason::RowsLost { .. }
                | StopReason::Damaged { .. },
            ) => true,
            Self::Listen { .. }
            | Self::Http(_)
            | Self::Stopped(StopReason::StoreFailed { .. })
            | Self::System { .. } => false,
        }
    }

    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Listen { source, .. } | Self::Http(HttpError::Bind { source, .. }) => {
                if source.kind() == io::ErrorKind::AddrNotAvailable {
                    "ADDRESS_NOT_LOCAL"
                } else {
                    "PORT_TAKEN"
                }
            }
            Self::Http(HttpError::Serve(_)) => "HTTP_FAILED",
            Self::Certificate { .. } => "CERTIFICATE_REFUSED",
            Self::DirectoryLocked { .. } => "DIRECTORY_LOCKED",
            Self::DirectoryForeign { .. } => "DIRECTORY_FOREIGN",
            Self::DirectoryFormat { .. } => "DIRECTORY_FORMAT",
            Self::Stopped(StopReason::Forgot { .. } | StopReason::ActorAhead { .. }) => {
                "STORE_FORGOT"
            }
            Self::Stopped(StopReason::Rival { .. }) => "NODE_RUNS_TWICE",
            Self::DamagedAgain { .. }
            | Self::Stopped(
                StopReason::EngineDamaged { .. }
                | StopReason::RowsLost { .. }
                | StopReason::Damaged { .. },
            ) => "STORE_DAMAGED",
            Self::Stopped(StopReason::StoreFailed { .. }) => "STORE_FAILED",
            Self::System { .. } => "SYSTEM",
        }
    }

    /// What to do next.
    #[must_use]
    pub fn advice(&self) -> Option<Cow<'static, str>> {
        let advice = match self {
            Self::Listen { source, .. } | Self::Http(HttpError::Bind { source, .. }) => {
                if source.kind() == io::ErrorKind::AddrNotAvailable {
                    "listen on an address of this machine, or on 0.0.0.0; `advertise` may differ"
                } else {
                    "stop what listens there, or configure another address"
                }
            }
            Self::Certificate { .. } => {
                "use the certificates that `quorate cluster create` made for this node"
            }
            Self::DirectoryLocked { .. } => "stop the other process first",
            Self::DirectoryForeign { .. } => {
                "set data_dir to this node's own directory; nothing was changed"
            }
            Self::DirectoryFormat {
                found, supported, ..
            } if found > supported => "start it with the newer release; nothing was changed",
            Self::DirectoryFormat { .. } => {
                "start it with the release that wrote it and `quorate export` what it holds; nothing \
                 was changed"
            }
            Self::DamagedAgain { path, folder, .. } => {
                return Some(begin_anew(path, folder).into());
            }
            Self::Stopped(StopReason::Rival { .. }) => {
                // Nodes are in the cluster file from its creation on: a copy cannot become one
                // more.
                "stop one of the two processes; if a directory was copied, the one that runs on the copy. A \
                 further node needs a folder of its own, as `quorate cluster create` makes one for each --node"
            }
            Self::Stopped(
                StopReason::Forgot { .. }
                | StopReason::ActorAhead { .. }
                | StopReason::EngineDamaged { .. }
                | StopReason::RowsLost { .. }
                | StopReason::Damaged { .. },
            ) => "keep the directory as it is; the other nodes still serve its data",
            Self::Stopped(StopReason::StoreFailed { .. }) => {
                "check that the disk works and the data directory is all there, then start the node again: \
                 what it acknowledged is kept in it"
            }
            Self::Http(HttpError::Serve(_)) | Self::System { .. } => return None,
        };
        Some(advice.into())
    }
}

/// The ways on for a store that was damaged twice (`store::set_aside`). Nothing is thrown away in
/// either.
fn begin_anew(path: &Path, folder: &str) -> String {
    let (mark, folder) = (path.join(MARK), path.join(folder));
    format!(
        "mend the cause, as the disk or the memory of the machine. Then, to begin anew, move {} out of \
         {}, keep it, and start the node: what is there now is set aside, and the other nodes give back \
         what they hold. Or, if what could not be read can be read again, remove {} and start the node: \
         it goes on with what is there",
        folder.display(),
        path.display(),
        mark.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_damaged_twice_says_how_to_go_on() {
        let error = NodeError::DamagedAgain {
            path: "/data/a".into(),
            why: "a table is unreadable".to_owned(),
            folder: "damaged-12".to_owned(),
        };
        assert_eq!((error.code(), error.is_refusal()), ("STORE_DAMAGED", true));
        let advice = error.advice().expect("there is a way on");
        assert!(
            advice.contains("move /data/a/damaged-12 out of /data/a,"),
            "{advice}"
        );
        assert!(advice.contains("remove /data/a/set-aside and"), "{advice}");
        assert!(!advice.contains("as it is"), "{advice}");
    }
}
