//! Errors of the SDK. Each says whether the effect is not applied or unknown.
//!
//! Not here: the codes and their numbers (`wire::code`).

mod connect;
mod failure;
mod node;
mod sentence;

pub use connect::{ConnectError, SeedFailure, SeedReason};
pub use failure::{
    Attempt, AttemptEnd, DeleteError, Failure, GetError, LinkPhase, OperationKind, PutError,
    ReplicaPart, WriteError,
};
pub use node::NodeError;
