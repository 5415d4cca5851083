//! The one way into a shard's loop, from links, clients, the store and the clock's owner.
//!
//! Producers on any thread push whole batches and wake the loop once; the loop takes all that
//! waits, but of clients' requests no more than it can do in one round: an answer must not be held
//! up behind them. Pushing never waits and never fails: who takes requests from outside looks at
//! [`Inbox::requests_waiting`] first and sheds load at the edge, so that the length is bounded.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quorate_ring::MonoTime;
use tokio::sync::Notify;

use crate::core::Input;
use crate::core::request_queue::RequestQueue;

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
    requests: RequestQueue,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.lock();
        f.debug_struct("Inbox")
            .field("inputs", &waiting.inputs.len())
            .field("requests", &waiting.requests.len())
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
        let (no_inputs, no_requests) = (waiting.inputs.is_empty(), waiting.requests.is_empty());
        for input in inputs {
            if let Some(input) = waiting.requests.push(input) {
                waiting.inputs.push(input);
            }
        }
        let wake =
            no_inputs && !waiting.inputs.is_empty() || no_requests && !waiting.requests.is_empty();
        drop(waiting);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Clients' requests that wait for the loop.
    #[must_use]
    pub fn requests_waiting(&self) -> usize {
        self.lock().requests.len()
    }

    /// Moves what waits behind `batch`: of requests those for which there is `room`, and the
    /// refusals of those that waited too long.
    pub fn take(&self, now: MonoTime, room: usize, batch: &mut Vec<Input>) {
        let mut waiting = self.lock();
        batch.append(&mut waiting.inputs);
        waiting.requests.take(now, room, batch);
    }

    /// Moves what waits behind `batch`, requests left out.
    pub fn take_all_but_requests(&self, batch: &mut Vec<Input>) {
        batch.append(&mut self.lock().inputs);
    }

    /// Completes when something waits; requests do not count while there is no room for one.
    ///
    /// # Cancel safety
    /// Nothing is taken.
    pub async fn ready(&self, has_room: bool) {
        let is_ready = |waiting: &Waiting| {
            !waiting.inputs.is_empty() || has_room && !waiting.requests.is_empty()
        };
        while !is_ready(&self.lock()) {
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
