//! What became of a write whose outcome was unknown.
//!
//! The answer is *applied*, durable on as many replicas as the level says, or still *unknown*.
//! *Not applied* is never answered: that nobody remembers a write proves nothing, its first attempt
//! may still arrive.
//!
//! Not here: looking for the write (`quorate-node`).

use std::future::IntoFuture;
use std::time::Duration;

use quorate_ring::ConsistencyLevel;

use crate::client::{Client, Diagnose};
use crate::error::{Failure, WriteError};
use crate::keyspace::Call;
use crate::transport::BoxFuture;
use crate::versions::Written;

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// **Applied**: as many replicas hold it, or what superseded it, as the level of the question
    /// says. From here on it is as safe as a write that was acknowledged at once.
    Applied(Written),
    /// **Unknown** still: it may be on some replicas and may still become visible. The failure
    /// says what each replica answered; ask again when all are up.
    Unknown(Box<Failure>),
}

impl Resolution {
    /// Whether it is applied for certain.
    #[must_use]
    pub const fn is_applied(&self) -> bool {
        matches!(self, Self::Applied(_))
    }
}

/// A question what became of a write, not sent yet. Await it.
///
/// # Example
/// ```
/// # quorate_client::testing::block_on(async {
/// use quorate_client::testing::{FakeCluster, Fault};
/// use quorate_client::{Resolution, WriteError};
///
/// let cluster = FakeCluster::new();
/// let users = cluster.client(1).keyspace("default");
/// for node in ["1", "2", "3"] {
///     cluster.fail_next(node, Fault::AppliedUnknown);
/// }
/// let put = users.put_blind("alice", "1").attempts_max(1).await;
/// let error = put.expect_err("too few replicas confirmed");
/// assert!(matches!(error, WriteError::Unknown(_)));
/// let op_id = error.failure().op_id.expect("a write has one");
/// match users.resolve("alice", op_id).await {
///     Resolution::Applied(written) => println!("applied on {} replicas", written.acks()),
///     Resolution::Unknown(failure) => println!("{failure}"),
/// }
/// # assert!(users.resolve("alice", op_id).await.is_applied());
/// # Ok(()) });
/// ```
#[derive(Debug)]
#[must_use = "a question is asked when it is awaited"]
pub struct ResolveWrite(Call);

impl ResolveWrite {
    pub(crate) const fn new(call: Call) -> Self {
        Self(call)
    }

    /// How many replicas must hold the write; `quorum` unless set.
    pub fn level(mut self, level: ConsistencyLevel) -> Self {
        self.0.operation.level = level;
        self
    }

    /// Time for the whole question, over all attempts; 2 s unless set.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.0.operation.deadline = deadline;
        self
    }

    /// Lets the reply tell its attempts, nodes and phases. A failure always does.
    pub fn with_diagnostics(mut self) -> Self {
        self.0.operation.attempts.diagnose = Diagnose::Yes;
        self
    }
}

impl IntoFuture for ResolveWrite {
    type Output = Resolution;
    type IntoFuture = BoxFuture<'static, Resolution>;

    /// Cancel safe: it mints nothing, and at most makes more durable what was written.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.0.write().await {
                Ok(written) => Resolution::Applied(written),
                Err(failure) => Resolution::Unknown(failure),
            }
        })
    }
}

impl Client {
    /// Asks what became of the write that failed with `error`: the same as
    /// [`Keyspace::resolve`](crate::Keyspace::resolve) with its keyspace, key and op id. `None` if
    /// the error says so itself: a write that was refused is *not applied*.
    pub fn resolve(&self, error: &WriteError) -> Option<ResolveWrite> {
        let failure = match error {
            WriteError::NotApplied(_) => return None,
            WriteError::Unknown(failure) => failure,
        };
        let keyspace = self.keyspace(failure.keyspace.clone());
        Some(keyspace.resolve(failure.key.clone(), failure.op_id?))
    }
}
