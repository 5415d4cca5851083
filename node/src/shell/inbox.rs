//! The one way into a shard's loop, from links, clients, the store and the clock's owner.
//!
//! Producers on any thread push whole batches and wake the loop once; the loop takes all that
//! waits. Pushing never waits and never fails, because an answer must not be held up behind
//! requests: who takes requests from outside looks at [`Inbox::requests_waiting`] first and sheds
//! load at the edge, so that the length is bounded.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::core::Input;

/// Requests that may wait for the loop; over it the edge answers `OVERLOADED`.
pub const REQUESTS_WAITING_MAX: usize = 8_192;

/// Inputs on their way to a shard.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    inputs: Vec<Input>,
    requests: usize,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.lock();
        f.debug_struct("Inbox")
            .field("inputs", &waiting.inputs.len())
            .field("requests", &waiting.requests)
            .finish_non_exhaustive()
    }
}

impl Inbox {
    /// Queues one input.
    pub fn push(&self, input: Input) {
        self.extend(std::iter::once(input));
    }

    /// Queues a batch, in order, and wakes the loop once.
    pub fn extend(&self, inputs: impl IntoIterator<Item = Input>) {
        let mut waiting = self.lock();
        let before = waiting.inputs.len();
        waiting.inputs.extend(inputs);
        let fresh = waiting.inputs.iter().skip(before);
        let requests = fresh.filter(|input| input.is_request()).count();
        waiting.requests += requests;
        let wake = before == 0 && !waiting.inputs.is_empty();
        drop(waiting);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Clients' requests that wait for the loop.
    #[must_use]
    pub fn requests_waiting(&self) -> usize {
        self.lock().requests
    }

    /// Moves all that waits behind `batch`; false if nothing did.
    pub fn take(&self, batch: &mut Vec<Input>) -> bool {
        let mut waiting = self.lock();
        waiting.requests = 0;
        let any = !waiting.inputs.is_empty();
        batch.append(&mut waiting.inputs);
        any
    }

    /// Completes when something waits.
    ///
    /// # Cancel safety
    /// Nothing is taken.
    pub async fn ready(&self) {
        while self.lock().inputs.is_empty() {
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
