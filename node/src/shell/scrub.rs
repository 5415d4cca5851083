//! The slow read of everything that this node holds: bit rot is found before the other copies are gone.
//!
//! One vnode of one keyspace at a time, so that a pass takes the configured interval, or longer where the
//! budget of background work, which pays for each vnode before it is read, has no more; on a thread that gives way, and never while an operator's `verify` reads. What the engine cannot read stops the node as
//! damage does that a request meets: it sets its store aside and gets everything back from the others.
//! Records that contradict the digests without a wrong checksum are told and counted, and nothing is
//! done to them: a bug would look the same on every replica.
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
use crate::core::input::{Damaged, Input, StoreEvent};

/// How often the budget is asked to pay.
const PAY_EVERY: Duration = Duration::from_millis(100);

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
        let owned: Vec<_> = owned.collect();
        let rest = self.interval / u32::try_from(owned.len().max(1)).unwrap_or(u32::MAX);
        loop {
            let began = self.clock.now();
            for (keyspace, vnode) in &owned {
                self.clock.sleep_until(self.clock.now() + rest).await;
                if self.pay(*keyspace, *vnode).await.is_err() {
                    // The node stops: who reads is ended with it.
                    return std::future::pending().await;
                }
                let Ok(permit) = Arc::clone(&self.verifying).acquire_owned().await else {
                    return;
                };
                let (handle, topology) = (self.handle.clone(), Arc::clone(&self.topology));
                let (keyspace, vnode, digest) = (*keyspace, *vnode, self.digest);
                let read = Box::pin(async move {
                    give_way();
                    let found = verify(&handle, &topology, digest, keyspace, vnode).await;
                    drop(permit);
                    found
                });
                let found = match on_thread("engine-scrub", read).await {
                    Ok(Ok(found)) => found,
                    // The node stops: who reads is ended with it.
                    Ok(Err(QuestionError::Stopping)) | Err(_) => {
                        return std::future::pending().await;
                    }
                    Ok(Err(error)) => {
                        tracing::error!(%error, "a vnode could not be verified");
                        continue;
                    }
                };
                self.metrics.scrubbed(found.faults_total);
                for fault in &found.faults {
                    let (vnode, what) = (fault.vnode.0, &fault.what);
                    tracing::error!(keyspace = keyspace.0, vnode, what, "found by the slow read");
                }
                if let Some((reason, is_proven)) = found.unreadable {
                    let damaged = StoreEvent::Damaged(Damaged { reason, is_proven });
                    self.inbox.push(Input::Store(damaged));
                }
            }
            self.metrics.scrub_passed(began);
            tracing::info!(
                vnodes = owned.len(),
                "the slow read has read everything once"
            );
        }
    }

    /// Waits until the budget of background work has paid for all that a vnode holds. It is read at once
    /// then: a bucket that is written while it is read cannot be judged.
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
