//! What one call went through: attempts, nodes, phases.
//!
//! A failure always tells it ([`crate::Failure::attempts`]); a success only if the call asked, so
//! that nothing is kept on the usual way.
//!
//! Not here: spans and events for a subscriber of `tracing` (`client::perform`).

use std::fmt;
use std::time::Duration;

use crate::error::{Attempt, AttemptEnd, LinkPhase};

/// How an operation that succeeded came about.
///
/// # Example
/// ```
/// # quorate_client::testing::block_on(async {
/// use quorate_client::testing::{FakeCluster, Fault};
///
/// let cluster = FakeCluster::new();
/// cluster.fail_next("1", Fault::Down);
/// cluster.fail_next("2", Fault::Down);
/// let users = cluster.client(1).keyspace("default");
/// let written = users.put_blind("alice", "1").with_diagnostics().await?;
/// let diagnostics = written.diagnostics().expect("they were asked for");
/// assert_eq!(diagnostics.attempts.last().map(|last| last.node.as_str()), Some("3"));
/// println!("{diagnostics}");
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostics {
    /// How often it was sent.
    pub attempt_count: u16,
    /// The newest attempts in order, at most 64; the last one succeeded.
    pub attempts: Vec<Attempt>,
    /// Time from the call to the answer.
    pub took: Duration,
    /// Part of it that was spent between attempts: backing off, reading the topology anew.
    pub waited: Duration,
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}, {:?} of it between attempts",
            self.took, self.waited
        )?;
        for attempt in &self.attempts {
            let Attempt {
                node,
                end,
                after,
                took,
                link,
            } = attempt;
            let handshake = match link {
                LinkPhase::Open => "",
                LinkPhase::Handshake => " with a handshake",
            };
            write!(f, "; node {node} after {after:?} for {took:?}{handshake}: ")?;
            match end {
                AttemptEnd::Succeeded => f.write_str("succeeded")?,
                AttemptEnd::Outrun => f.write_str("another one succeeded first")?,
                AttemptEnd::Refused { code, .. } => write!(f, "{code}")?,
                AttemptEnd::NoAnswer(error) => write!(f, "{error}")?,
            }
        }
        Ok(())
    }
}
