//! Configuration: text of files, variables and flags becomes typed, checked values, once.
//!
//! Invariant: what [`NodeConfig`] holds has been checked; nothing behind it parses text again.
//! Not here: what a command line looks like (`cli`), certificates (`shell::tls`).

mod cluster_file;
mod hex;
mod keys;
mod layers;
pub mod nearest;
mod node;
mod secrets;
pub mod units;

use std::path::PathBuf;

use quorate_ring::NodeName;

pub use cluster_file::{CLUSTER_FORMAT, ClusterFile, ClusterFileError};
pub use keys::{KEYS, Key};
pub use layers::{Layers, Origin, Said, unknown_variables, variable_name};
pub use nearest::nearest;
pub use node::{Limits, LogConfig, LogFormat, NodeConfig, listen_of};
pub use secrets::{ClusterSecrets, SecretsError};

/// The HTTP port is the QUIC port plus this, unless it is configured.
pub const HTTP_PORT_OFFSET: u16 = 100;

/// The RESP port is the QUIC port plus this; nothing listens there yet, but ports keep clear of it.
pub const RESP_PORT_OFFSET: u16 = 200;

/// Why a node's configuration cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file is no TOML.
    #[error("{} line {line}: {reason}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// The file has a key that does not exist.
    #[error("{}: there is no key `{key}`{}", path.display(), did_you_mean(*nearest))]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A key has no default and nobody said it.
    #[error("the key `{key}` is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A value cannot be.
    #[error("`{key}` from {origin}: {reason}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// Where it was said.
        origin: Origin,
        /// A sentence.
        reason: String,
    },
    /// The node is not in the cluster file.
    #[error("there is no node `{node}` in {}", path.display())]
    ForeignNode {
        /// The node.
        node: NodeName,
        /// The cluster file.
        path: PathBuf,
    },
    /// The HTTP port would be past the last one.
    #[error("the HTTP port {port} + {HTTP_PORT_OFFSET} is past 65535; set http_listen")]
    PortRange {
        /// The QUIC port.
        port: u16,
    },
    /// The cluster file.
    #[error(transparent)]
    Cluster(#[from] ClusterFileError),
    /// The secrets.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}
