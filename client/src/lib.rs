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
//! - [`Keyspace::update`] reads, settles siblings with a [`Resolve`], changes and writes, bounded.
//! - [`Keyspace::resolve`] asks what became of a write of unknown outcome: [`Resolution`].
//! - A [`Session`] reads its own writes and never backwards, at any level.
//! - A [`Profile`] holds levels, deadlines and retries under a name; [`Diagnostics`] tell what a
//!   call went through, and so does its `tracing` span.
//!
//! Pure policies, which only decide: [`route`], [`retry`], [`outcome`]. The seam below them is
//! [`Transport`]; [`Client::with_transport`] takes any.

mod client;
mod clock;
mod codec;
pub mod config;
mod context;
mod diagnostics;
mod error;
mod hybrid;
mod keyspace;
pub mod link;
mod metrics;
mod multi;
mod op_id;
pub mod outcome;
mod pool;
mod profile;
mod rand;
mod resolve;
pub mod retry;
pub mod route;
mod scan;
mod session;
mod settle;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod throttle;
mod topology;
mod transport;
mod update;
mod versions;
pub mod wire;

/// Compiles the program of the README as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

pub use client::{Client, ClientBuilder, ConnectState, DumpPages, IfSuperseded, LazyClient, Seed};
pub use codec::{Codec, CodecError, Packed, Typed};
pub use context::{After, Context, ContextParseError};
pub use diagnostics::Diagnostics;
pub use error::{
    Attempt, AttemptEnd, ConnectError, DeleteError, Failure, GetError, LinkPhase, NodeError,
    OperationKind, PutError, ReplicaPart, SeedFailure, SeedReason, WriteError,
};
pub use hybrid::WallClock;
pub use keyspace::{DEADLINE_DEFAULT, Delete, Get, Keyspace, Put, Write};
pub use multi::{BatchError, MultiGet, MultiPut, WriteItem};
pub use profile::{DEADLINE_MAX, Profile, ProfileError};
pub use quorate_ring::ConsistencyLevel as Level;
pub use resolve::{Resolution, ResolveWrite};
pub use scan::{Scan, ScanPage, ScanPages, ScanPosition, ScanPositionParseError, ScannedRecord};
pub use session::{
    SESSION_BYTES_MAX, SESSION_KEYS_MAX, SESSION_TOKEN_BYTES_MAX, SESSION_WRITES_MAX, Session,
    SessionError, SessionToken,
};
pub use settle::{Rejected, Resolve, resolvers};
pub use topology::{Owners, Topology, TopologyUnusable};
pub use transport::{BoxFuture, CallCause, CallError, NodeEndpoint, Transport};
pub use update::{UPDATE_ROUNDS_DEFAULT, Unsettled, Update, UpdateError, Updated};
pub use versions::{Read, Siblings, Versions, Written};
pub use wire::{Code, OpId, Outcome, ReplicaState};
