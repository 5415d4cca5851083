//! The slow read of everything that this node holds: bit rot is found before the other copies are
//! gone.
//!
//! One vnode of one keyspace at a time, so that a pass takes the configured interval, or longer
//! where the budget of background work, which pays for each vnode before it is read, has no more;
//! on a thread that gives way, and never while an operator's `verify` reads. What the engine cannot
//! read stops the node as damage does that a request meets: it sets its store aside and gets
//! everything back from the others. Records that contradict the digests without a wrong checksum
//! are told and counted. The rest of the pass then takes no longer than the budget makes it,
//! because what happened to one copy may have happened to others, and each beginning anew costs; at
//! its end all that contradicted are looked at again, and the core is told what was the same twice
//! (`core::shard::rot`).
//!
//! Not here: judging records (`core::verify`), what a damaged node does (`cure`).

use std::sync::Arc;
use std::time::Duration;

use quorate_antientropy::DigestSecret;
use quorate_ring::{KeyspaceId, NodeId, Topology, VnodeId};
use tokio::sync::Semaphore;

use super::inbox::Inbox;
use super::metrics::Metrics;
use super::node::{NodeHandle, QuestionError};
use super::run::on_thread;
use super::seam::Clock;
use super::store::give_way;
use super::verify::verify;
use crate::core::budget::ROW_COST;
use crate::core::input::{Contradiction, Damaged, Input, StoreEvent};
use crate::core::verify::Findings;

/// How often the budget is asked to pay.
const PAY_EVERY: Duration = Duration::from_millis(100);

/// A vnode that contradicts itself is looked at again so often at most, so long after each other.
const LOOKS_MAX: usize = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What the slow read works with.
pub(super) struct Scrubber {
    pub(super) me: NodeId,
    pub(super) topology: Arc<Topology>,
    pub(super) digest: DigestSecret,
    pub(super) handle: NodeHandle,
    pub(super) inbox: Arc<Inbox>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    /// Held while a vnode is read.
    pub(super) verifying: Arc<Semaphore>,
    /// How long a pass takes.
    pub(super) interval: Duration,
}

impl Scrubber {
    /// Reads and reads again, until the node stops.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub(super) async fn run(self) {
        let owned = self.topology.keyspaces().iter().flat_map(|keyspace| {
            let vnodes = self.topology.vnode_count().vnodes();
            let owns = |vnode| self.topology.is_owner(vnode, keyspace.copies, self.me);
            let owned = vnodes.filter(move |vnode| owns(*vnode));
            owned.map(|vnode| (keyspace.id, vnode))
        });
        let mut owned: Vec<_> = owned.collect();
        // A node that starts again and again must not read the same vnodes each time: when it
        // starts is as good as random.
        let starts = usize::try_from(self.clock.wall_micros()).unwrap_or(0);
        let first = starts % owned.len().max(1);
        owned.rotate_left(first);
        let rest = self.interval / u32::try_from(owned.len().max(1)).unwrap_or(u32::MAX);
        loop {
            let began = self.clock.now();
            let mut contradicting = Vec::new();
            for (keyspace, vnode) in &owned {
                if contradicting.is_empty() {
                    self.clock.sleep_until(self.clock.now() + rest).await;
                }
                if self.pay(*keyspace, *vnode).await.is_err() {
                    // The node stops: who reads is ended with it.
                    return std::future::pending().await;
                }
                let Some(found) = self.read(*keyspace, *vnode).await else {
                    return std::future::pending().await;
                };
                self.metrics.scrubbed(found.faults_total);
                for fault in &found.faults {
                    let (vnode, what) = (fault.vnode.0, &fault.what);
                    tracing::error!(keyspace = keyspace.0, vnode, what, "found by the slow read");
                }
                if found.contradicting > 0 {
                    contradicting.push((*keyspace, *vnode));
                }
                if let Some((reason, is_proven)) = found.unreadable {
                    let damaged = StoreEvent::Damaged(Damaged { reason, is_proven });
                    self.inbox.push(Input::Store(damaged));
                }
            }
            let mut twice = Vec::new();
            for (keyspace, vnode) in contradicting {
                match self.look_again(keyspace, vnode).await {
                    Ok(found) => twice.extend(found),
                    Err(_) => return std::future::pending().await,
                }
            }
            if !twice.is_empty() {
                self.handle.contradicted(twice);
            }
            self.metrics.scrub_passed(began);
            tracing::info!(
                vnodes = owned.len(),
                "the slow read has read everything once"
            );
        }
    }

    /// Reads a vnode; `None` if the node stops.
    async fn read(&self, keyspace: KeyspaceId, vnode: VnodeId) -> Option<Findings> {
        let permit = Arc::clone(&self.verifying).acquire_owned().await.ok()?;
        let (handle, topology) = (self.handle.clone(), Arc::clone(&self.topology));
        let digest = self.digest;
        let read = Box::pin(async move {
            give_way();
            let found = verify(&handle, &topology, digest, keyspace, vnode).await;
            drop(permit);
            found
        });
        match on_thread("engine-scrub", read).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(QuestionError::Stopping)) | Err(_) => None,
            Ok(Err(error)) => {
                tracing::error!(%error, "a vnode could not be verified");
                Some(Findings::default())
            }
        }
    }

    /// Looks again at a vnode whose records contradict its sums, until the same was found twice
    /// while nothing was written; `None` if it was not.
    async fn look_again(
        &self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
    ) -> Result<Option<Contradiction>, QuestionError> {
        let mut seen = None;
        for _ in 0..LOOKS_MAX {
            self.clock.sleep_until(self.clock.now() + LOOK_AGAIN).await;
            self.pay(keyspace, vnode).await?;
            let again = self.read(keyspace, vnode).await;
            let again = again.ok_or(QuestionError::Stopping)?;
            if again.contradicting == 0 {
                return Ok(None);
            }
            let found = again.correction.map(|correction| Contradiction {
                keyspace,
                vnode,
                correction,
            });
            if found.is_some() && found == seen {
                return Ok(found);
            }
            seen = found.or(seen);
        }
        Ok(None)
    }

    /// Waits until the budget of background work has paid for all that a vnode holds. It is read at
    /// once then: a bucket that is written while it is read cannot be judged.
    async fn pay(&self, keyspace: KeyspaceId, vnode: VnodeId) -> Result<(), QuestionError> {
        let held = self.handle.vnode_sums(keyspace, vnode).await?.holdings();
        let rows = held.keys.saturating_add(held.tombstones);
        let mut cost = held.bytes.saturating_add(rows.saturating_mul(ROW_COST));
        while cost > 0 {
            let paid = self.handle.pay_for_scrub(cost).await?;
            cost = cost.saturating_sub(paid);
            if cost > 0 {
                self.clock.sleep_until(self.clock.now() + PAY_EVERY).await;
            }
        }
        Ok(())
    }
}
