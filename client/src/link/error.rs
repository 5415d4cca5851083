//! What can go wrong with a connection, and what that says about a request.

use quinn::ConnectionError;

use super::close::CloseCode;
use crate::wire::FrameError;

/// Why no connection was made. Nothing was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nothing answered in time.
    #[error("no answer in time")]
    TimedOut,
    /// The address or name cannot be connected to.
    #[error("cannot be connected to: {reason}")]
    Address {
        /// What is wrong.
        reason: String,
    },
    /// The node's certificate is not of this cluster, not of the expected node, or expired.
    #[error("the node's certificate is not accepted: {reason}")]
    NodeUntrusted {
        /// What the verification found.
        reason: String,
    },
    /// The node does not accept the certificate that it was shown.
    #[error("the node refuses the certificate (TLS alert {alert})")]
    CertificateRefused {
        /// Number of the TLS alert: 42 bad, 45 expired, 48 unknown authority, 116 missing.
        alert: u8,
    },
    /// The two releases have no protocol in common.
    #[error("no protocol version in common")]
    NoCommonProtocol,
    /// The node closed the connection before it was usable.
    #[error("the node refused: {0}")]
    Refused(CloseCode),
    /// Anything else that broke it.
    #[error("connection failed: {reason}")]
    Failed {
        /// What the transport reported.
        reason: String,
    },
}

impl From<ConnectionError> for ConnectError {
    fn from(error: ConnectionError) -> Self {
        let reason = error.to_string();
        match error {
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::ApplicationClosed(close) => Self::Refused(close.error_code.into()),
            ConnectionError::TransportError(error) => match alert(error.code) {
                Some(120) => Self::NoCommonProtocol,
                Some(_) => Self::NodeUntrusted {
                    reason: error.reason,
                },
                None => Self::Failed { reason },
            },
            ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
                Some(120) => Self::NoCommonProtocol,
                Some(alert) => Self::CertificateRefused { alert },
                None => Self::Failed { reason },
            },
            ConnectionError::VersionMismatch => Self::NoCommonProtocol,
            ConnectionError::Reset
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => Self::Failed { reason },
        }
    }
}

/// The TLS alert in a transport error code (RFC 9001, 4.8).
fn alert(code: quinn::TransportErrorCode) -> Option<u8> {
    u64::from(code)
        .checked_sub(0x100)
        .and_then(|alert| u8::try_from(alert).ok())
}

/// Why a call has no answer. Says whether the request may have been carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The request certainly did not leave this process.
    #[error("not sent: {0}")]
    NotSent(NotSent),
    /// The connection broke after the request was queued; it may have been carried out.
    #[error("connection lost: {0}")]
    Lost(LostReason),
    /// No answer before the deadline; it may have been carried out.
    #[error("no answer before the deadline")]
    TimedOut,
    /// The node answered in a way that this release does not know; it may have been carried out.
    #[error("answer of unknown kind {kind}")]
    UnknownAnswer {
        /// The kind byte.
        kind: u8,
    },
}

/// Why a request was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSent {
    /// The connection is gone.
    #[error("the connection is gone: {0}")]
    Gone(LostReason),
    /// As many requests as allowed are in flight on the connection.
    #[error("{limit} requests are in flight on the connection")]
    TooManyInFlight {
        /// The limit.
        limit: usize,
    },
    /// The node does not take what is queued fast enough.
    #[error("the connection's queue is full")]
    QueueFull,
    /// The request cannot be a frame.
    #[error("the request cannot be sent: {0}")]
    Frame(FrameError),
}

/// Why a connection is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LostReason {
    /// This side closed it.
    #[error("closed on this side")]
    ClosedHere,
    /// The node closed it.
    #[error("closed by the node: {0}")]
    ClosedByNode(CloseCode),
    /// The node was silent for longer than the idle timeout.
    #[error("the node went silent")]
    Silent,
    /// The node does not know the connection: it was started anew.
    #[error("the node was started anew")]
    Reset,
    /// The node sent what is no frame.
    #[error("the node broke the protocol: {0}")]
    Protocol(FrameError),
    /// Anything else that broke it.
    #[error("{reason}")]
    Failed {
        /// What the transport reported.
        reason: String,
    },
}

impl From<ConnectionError> for LostReason {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::Reset => Self::Reset,
            ConnectionError::LocallyClosed => Self::ClosedHere,
            ConnectionError::ApplicationClosed(close) => {
                Self::ClosedByNode(close.error_code.into())
            }
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::CidsExhausted => Self::Failed {
                reason: error.to_string(),
            },
        }
    }
}
