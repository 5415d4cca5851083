//! The seam below the SDK: one request to one node, and what is certain when it gets no answer.
//!
//! `pool` implements it over QUIC; the simulator and `testing` implement it in memory. The SDK
//! above decides everything: which node, when again, what the outcome of an operation is.
//!
//! Not here: frames and connections (`link`), the choice of a node (`route`), retries (`retry`).

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use quorate_ring::NodeId;

use crate::wire;

/// A boxed future: one allocation per request.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a node can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// Its number; unknown for a seed until the topology was read.
    pub id: Option<NodeId>,
    /// Its name, which its certificate must carry; unknown for a seed that is given by address
    /// alone. Such a seed is trusted if its certificate comes from the cluster's node authority.
    pub name: Option<String>,
    /// `HOST:PORT`.
    pub address: String,
}

impl NodeEndpoint {
    /// What people call it: its name, else its address.
    #[must_use]
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.address)
    }
}

/// Why a request got no answer: what is certain about its effect, and the cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request never left: certainly not executed.
    #[error("the request was not sent: {0}")]
    NotSent(CallCause),
    /// The request may have been executed.
    #[error("the request was sent and its answer was lost: {0}")]
    Lost(CallCause),
}

impl CallError {
    /// The cause.
    #[must_use]
    pub const fn cause(&self) -> &CallCause {
        match self {
            Self::NotSent(cause) | Self::Lost(cause) => cause,
        }
    }
}

/// What went wrong on the way. The texts are what the system, TLS or QUIC said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallCause {
    /// The address cannot be resolved or is not `HOST:PORT`.
    #[error("the address cannot be used: {detail}")]
    Address {
        /// What was said.
        detail: String,
    },
    /// Nobody answered there, or the connection was refused.
    #[error("no connection: {detail}")]
    Unreachable {
        /// What was said.
        detail: String,
    },
    /// The TLS handshake failed: a certificate of another cluster, expired, or of a wrong role.
    #[error("the TLS handshake failed: {detail}")]
    Handshake {
        /// What was said.
        detail: String,
    },
    /// The node was there and does not take this certificate for this kind of connection.
    #[error("the node refused the connection: {detail}")]
    Refused {
        /// What was said.
        detail: String,
    },
    /// An attempt to connect failed a moment ago and the next one is not due.
    #[error("the last connection attempt failed ({detail}) and the next one is not due yet")]
    Resting {
        /// Why the last attempt failed.
        detail: String,
    },
    /// The connection holds as many requests or bytes as it may.
    #[error("too many requests are in flight on the connection")]
    Full,
    /// The request is longer than a frame may be.
    #[error("the request is longer than a frame may be")]
    TooLong,
    /// No answer within the time for this attempt.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke.
    #[error("the connection broke: {detail}")]
    Closed {
        /// What was said.
        detail: String,
    },
    /// The answer cannot be read, or is not the answer to what was asked.
    #[error("the answer makes no sense")]
    Malformed,
}

/// Carries requests to nodes.
///
/// An implementation sends within `deadline` or answers [`CallError::NotSent`], which says that the
/// node certainly cannot execute the request. Once it is sent, the caller stops waiting by itself,
/// a little after `deadline`: it drops the future, as it may at any time, and treats the request as
/// lost. An implementation may answer [`CallError::Lost`] before. A connection is made when it is
/// first needed; one that is known to be broken fails at once rather than at the deadline.
pub trait Transport: Debug + Send + Sync {
    /// Sends `request` to `node` and waits for its answer.
    fn call<'a>(
        &'a self,
        node: &'a NodeEndpoint,
        request: wire::Request,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<wire::Response, CallError>>;

    /// Whether a request to `node` would go out without a handshake first. A transport without
    /// connections says yes.
    fn is_connected(&self, _node: &NodeEndpoint) -> bool {
        true
    }

    /// Ends all connections and waits until the nodes were told, where there is somebody to tell.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
