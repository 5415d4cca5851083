//! Client SDK of Quorate, and the wire contract that its nodes implement.
//!
//! ```
//! # quorate_client::testing::block_on(async {
//! # let client = quorate_client::testing::client();
//! // let client = Client::from_file("quorate-data/client.toml").await?;
//! let users = client.keyspace("default");
//! users.put_blind("alice", "1").await?;
//! let read = users.get("alice").await?;
//! users.put("alice", "2").after(&read).await?;
//! assert_eq!(users.get("alice").await?.value().map(|v| &v[..]), Some(&b"2"[..]));
//! # Ok(()) });
//! ```
//!
//! - A write ends *applied* (`Ok`), *not applied* or *unknown*: [`WriteError`] has one variant for
//!   each of the last two, and its text says what to do.
//! - A write says what it comes after, so that it supersedes exactly what its writer has seen;
//!   [`Keyspace::put_blind`] spells out that it has seen nothing.
//! - Values that were written without knowing of each other are all there: [`Versions`].
//! - Every call has a deadline, 2 s unless set, that covers its retries. Retries carry the identity
//!   of the first attempt and never write twice.
//!
//! Pure policies, which only decide: [`route`], [`retry`], [`outcome`]. The seam below them is
//! [`Transport`]; [`Client::with_transport`] takes any.

mod client;
mod clock;
pub mod config;
mod context;
mod error;
pub mod hedge;
mod keyspace;
pub mod link;
mod op_id;
pub mod outcome;
mod pool;
mod rand;
pub mod retry;
pub mod route;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod topology;
mod transport;
mod versions;
pub mod wire;

/// Compiles the program of the README as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

pub use client::{Client, ClientBuilder, DumpPages, Seed};
pub use context::{After, Context, ContextParseError};
pub use error::{
    Attempt, AttemptEnd, ConnectError, DeleteError, Failure, GetError, NodeError, OperationKind,
    PutError, ReplicaPart, SeedFailure, SeedReason, WriteError,
};
pub use keyspace::{DEADLINE_DEFAULT, Delete, Get, Keyspace, Put, Write};
pub use quorate_ring::ConsistencyLevel as Level;
pub use topology::{Owners, Topology, TopologyUnusable};
pub use transport::{BoxFuture, CallCause, CallError, NodeEndpoint, Transport};
pub use versions::{Read, Siblings, Versions, Written};
pub use wire::{Code, OpId, Outcome, ReplicaState};
