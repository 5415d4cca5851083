//! How many operations of a client are under way at once; the others wait for their turn, in order.
//!
//! Without a bound a client that is given more than the cluster can do, be it for the length of one
//! stall, holds all of it at once: then its own thread is busy with what is open instead of with
//! answers, those seem late, are hedged and tried again, and its connections fall silent. With a
//! bound what waits costs nothing until it is its turn, and the cluster is asked for as much as it
//! does best.
//!
//! An operation waits for at most half of its deadline: what would begin later would end too late,
//! and the ones behind it with it. It was then never sent.
//!
//! Not here: holding back what nodes refuse (`throttle`), what one connection takes (`link`).

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Operations under way unless another number is given: enough for 40,000 a second while disks take
/// 100 ms, and no more than one connection takes.
pub(crate) const IN_FLIGHT_MAX: usize = 4096;

/// The turns of one client.
#[derive(Debug)]
pub(crate) struct Turns {
    free: Semaphore,
}

impl Turns {
    /// Of so many operations at once, at least one.
    pub(crate) fn new(in_flight_max: usize) -> Self {
        Self {
            free: Semaphore::new(in_flight_max.clamp(1, Semaphore::MAX_PERMITS)),
        }
    }

    /// A turn, given back when it is dropped; `None` if none was free within half of `deadline`.
    ///
    /// # Cancel safety
    /// The place among those that wait is lost.
    pub(crate) async fn take(&self, deadline: Duration) -> Option<SemaphorePermit<'_>> {
        // Who waits is served first: there is nothing to try for while somebody does.
        if let Ok(turn) = self.free.try_acquire() {
            return Some(turn);
        }
        let waited = timeout(deadline / 2, self.free.acquire()).await;
        // It is never closed.
        waited.ok()?.ok()
    }
}
