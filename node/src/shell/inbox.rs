//! The one way into a shard's loop, from links, clients, the store and the clock's owner.
//!
//! Producers on any thread push whole batches and wake the loop once; the loop takes all that
//! waits, but of clients' requests no more than it can do in one round: an answer must not be held
//! up behind them. Pushing never waits and never fails: who takes requests from outside looks at
//! [`Inbox::room`] first and sheds load at the edge, so that number and bytes are bounded.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quorate_ring::MonoTime;
use tokio::sync::Notify;

use crate::core::Input;
use crate::core::request_queue::RequestQueue;

/// Requests that may wait for the loop; over it the edge answers `OVERLOADED`.
const REQUESTS_WAITING_MAX: usize = 8_192;

/// Bytes of requests that may wait for the loop, one request more.
const BYTES_WAITING_MAX: usize = 64 << 20;

/// What may be pushed of clients' requests.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    requests: usize,
    bytes: usize,
}

impl Room {
    /// Whether there is room for one more, whatever its size.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.requests == 0 || self.bytes == 0
    }

    /// What `input` leaves of it.
    #[must_use]
    pub fn without(self, input: &Input) -> Self {
        Self {
            requests: self.requests.saturating_sub(1),
            bytes: self.bytes.saturating_sub(input.bytes()),
        }
    }
}

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

    /// Whether anything waits, requests too.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        let waiting = self.lock();
        !waiting.inputs.is_empty() || !waiting.requests.is_empty()
    }

    /// Clients' requests that wait for the loop.
    #[must_use]
    pub fn requests_waiting(&self) -> usize {
        self.lock().requests.len()
    }

    /// Room for clients' requests.
    #[must_use]
    pub fn room(&self) -> Room {
        let waiting = self.lock();
        Room {
            requests: REQUESTS_WAITING_MAX.saturating_sub(waiting.requests.len()),
            bytes: BYTES_WAITING_MAX.saturating_sub(waiting.requests.bytes()),
        }
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_ring::ConsistencyLevel;

    use super::*;
    use crate::core::input::RequestId;
    use crate::core::message::{ReadRequest, Request};

    fn get(id: u64, bytes: usize) -> Input {
        Input::Request {
            from: RequestId { connection: 1, id },
            received: MonoTime::ZERO,
            deadline: MonoTime::ZERO,
            request: Request::Read(ReadRequest {
                keyspace: String::new(),
                key: Bytes::from(vec![0; bytes]),
                level: ConsistencyLevel::One,
            }),
        }
    }

    #[test]
    fn large_requests_fill_it_by_their_bytes_and_small_ones_by_their_number() {
        for (bytes, fit) in [(1 << 20, 64), (0, REQUESTS_WAITING_MAX)] {
            let inbox = Inbox::default();
            let mut pushed = 0;
            while !inbox.room().is_none() {
                inbox.push(get(pushed, bytes));
                pushed += 1;
            }
            assert_eq!(usize::try_from(pushed), Ok(fit), "of {bytes} bytes");
            let mut out = Vec::new();
            inbox.take(MonoTime::ZERO, usize::MAX, &mut out);
            assert_eq!(out.len(), fit);
            assert!(!inbox.room().is_none());
        }
    }
}
