//! Why a question to one node, as `status` asks it, was not answered.

use crate::transport::CallError;
use crate::wire::Code;

/// Why one node did not answer. Such questions change nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No node of that name.
    #[error("there is no node `{node}`; the nodes are {}", .known.join(", "))]
    Unknown {
        /// The name that was given.
        node: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// It could not be reached or did not answer.
    #[error("node {node} did not answer: {error}; check that it runs")]
    Call {
        /// Name of the node.
        node: String,
        /// What happened.
        error: CallError,
    },
    /// It refused.
    #[error("node {node} refused with {code}{}", hint(*.code))]
    Refused {
        /// Name of the node.
        node: String,
        /// Why.
        code: Code,
    },
    /// It answered something else.
    #[error("the answer of node {node} makes no sense; is it of the same release?")]
    UnexpectedAnswer {
        /// Name of the node.
        node: String,
    },
}

impl NodeError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Unknown { .. } | Self::UnexpectedAnswer { .. } => Code::RequestInvalid,
            Self::Call { error, .. } => match error {
                CallError::NotSent(_) => Code::ConnectFailed,
                CallError::Lost(_) => Code::ConnectionLost,
            },
            Self::Refused { code, .. } => *code,
        }
    }
}

fn hint(code: Code) -> &'static str {
    if code == Code::RoleRefused {
        "; use a client certificate with the role admin"
    } else {
        ""
    }
}
