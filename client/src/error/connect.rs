//! Why no connection to a cluster came about: each seed, and what was the matter with it.

use std::fmt;

use crate::config::ConfigError;
use crate::link::EndpointError;
use crate::topology::TopologyUnusable;
use crate::transport::CallError;
use crate::wire::Code;

/// Why a client could not be made. Nothing was read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No seed was given.
    #[error("no seed is given: name at least one node as HOST:PORT")]
    NoSeeds,
    /// The cluster's id, the client's certificate, its key or the nodes' authority was not given.
    #[error(
        "{what} is missing: links are always authenticated; a client.toml has all that it takes"
    )]
    NoIdentity {
        /// What is missing.
        what: &'static str,
    },
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The authority, the certificate or the key cannot be used, or no socket could be opened.
    #[error("cannot set up the link: {0}; check the `ca`, `cert` and `key` of the client")]
    Link(#[source] EndpointError),
    /// No seed gave the topology.
    #[error("no seed could be used: {}", Listed(.seeds))]
    Seeds {
        /// Each seed that was asked, in that order.
        seeds: Vec<SeedFailure>,
    },
}

impl ConnectError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::NoSeeds
            | Self::NoIdentity { .. }
            | Self::Config(_)
            | Self::Link(_)
            | Self::Seeds { .. } => Code::ConnectFailed,
        }
    }

    /// Each seed that was asked and why it could not be used.
    #[must_use]
    pub fn seeds(&self) -> &[SeedFailure] {
        match self {
            Self::Seeds { seeds } => seeds,
            Self::NoSeeds | Self::NoIdentity { .. } | Self::Config(_) | Self::Link(_) => &[],
        }
    }
}

/// A seed that could not be used.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedFailure {
    /// Its name, if it was given with one.
    pub name: Option<String>,
    /// `HOST:PORT`.
    pub address: String,
    /// What was the matter.
    pub reason: SeedReason,
}

impl fmt::Display for SeedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} at {}: {}", self.address, self.reason),
            None => write!(f, "{}: {}", self.address, self.reason),
        }
    }
}

/// What was the matter with a seed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SeedReason {
    /// It could not be reached or did not answer.
    #[error("{}", .0.cause())]
    Call(CallError),
    /// It refused to answer.
    #[error("it refused with {0}")]
    Refused(Code),
    /// It answered something else.
    #[error("its answer makes no sense; is it a Quorate node of the same release?")]
    UnexpectedAnswer,
    /// It belongs to another cluster.
    #[error("it belongs to cluster {found}, not to {expected}")]
    OtherCluster {
        /// Id of the cluster that was configured.
        expected: String,
        /// Id of the cluster that it belongs to.
        found: String,
    },
    /// Its topology cannot be used.
    #[error("its topology cannot be used: {0}")]
    Topology(TopologyUnusable),
    /// No time was left to ask it.
    #[error("not asked, the time to connect was over")]
    NotAsked,
}

struct Listed<'a>(&'a [SeedFailure]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, seed) in self.0.iter().enumerate() {
            write!(f, "{}{seed}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
